/* storing.h - shared by the tests of the store: a directory that is removed at the end, a store in it, and short
   hands for records. Include it after unit.h. */
#ifndef STORING_H
#define STORING_H

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define STORING_FN __attribute__((unused))

static char storing_dir[64];   /* of one test */
static llmgw_store storing_at; /* its store; a test may change it */
static llmgw_error storing_error;

STORING_FN void storing_remove(const char *path) {
    DIR *dir = opendir(path);
    char name[512];
    if (!dir) return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        (void)snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (unlink(name)) storing_remove(name);
    }
    (void)closedir(dir);
    (void)rmdir(path);
}

STORING_FN int storing_setup(void **state) {
    (void)state;
    (void)snprintf(storing_dir, sizeof storing_dir, "/tmp/llmgw-store-XXXXXX");
    if (!mkdtemp(storing_dir)) return -1;
    memset(&storing_at, 0, sizeof storing_at);
    storing_at.path = storing_dir;
    storing_at.no_sync = true;
    storing_at.max_bytes = 8 << 20;
    return 0;
}

STORING_FN int storing_teardown(void **state) {
    (void)state;
    storing_remove(storing_dir);
    return 0;
}

/* A file of the store; lives until the next call. */
STORING_FN const char *storing_file(const char *name) {
    static char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", storing_dir, name);
    return path;
}

STORING_FN llmgwi_store *storing_try(void) {
    memset(&storing_error, 0, sizeof storing_error);
    return llmgwi_store_open(&unit_mem, &storing_at, &storing_error);
}

STORING_FN llmgwi_store *storing_open(void) {
    llmgwi_store *store = storing_try();
    if (!store) fail_msg("%s", storing_error.text);
    return store;
}

STORING_FN void storing_refused(const char *part) {
    llmgwi_store *store = storing_try();
    if (store) fail_msg("it was opened; expected '%s'", part);
    assert_int_equal(storing_error.code, LLMGW_E_STORE);
    unit_has(storing_error.text, part);
    unit_has(storing_error.text, storing_dir);
}

STORING_FN llmgwi_base_str storing_u64(const uint64_t *v) {
    return llmgwi_base_view((const char *)v, sizeof *v);
}

STORING_FN bool storing_put(llmgwi_store *store, int table, const char *key, const char *value) {
    llmgwi_store_txn txn;
    if (!llmgwi_store_write(store, &txn, true)) return false;
    bool put = llmgwi_store_put(&txn, table, llmgwi_base_cstr(key), llmgwi_base_cstr(value));
    return llmgwi_store_end(&txn, put) && put;
}

/* "" when it is not there. Lives until the next call. */
STORING_FN const char *storing_get(llmgwi_store *store, int table, const char *key) {
    static char text[256];
    llmgwi_store_txn txn;
    llmgwi_base_str value;
    text[0] = 0;
    if (!llmgwi_store_read(store, &txn)) return "(no read)";
    if (llmgwi_store_get(&txn, table, llmgwi_base_cstr(key), &value))
        llmgwi_base_copy_cut(text, sizeof text, value.p, value.n);
    (void)llmgwi_store_end(&txn, false);
    return text;
}

STORING_FN uint64_t storing_count(llmgwi_store *store, int table) {
    llmgwi_store_txn txn;
    if (!llmgwi_store_read(store, &txn)) return UINT64_MAX;
    uint64_t count = llmgwi_store_count(&txn, table);
    (void)llmgwi_store_end(&txn, false);
    return count;
}

/* One of the table TAIL: a number, and 32 bytes. */
STORING_FN bool storing_dup(llmgwi_store_txn *txn, const char *key, uint64_t number) {
    char item[40];
    memset(item, 7, sizeof item);
    for (int b = 0; b < 8; b++) item[b] = (char)(number >> (56 - 8 * b));
    return llmgwi_store_append_dup(txn, LLMGWI_STORE_TAIL, llmgwi_base_cstr(key),
                                   llmgwi_base_view(item, sizeof item));
}

STORING_FN void storing_spill(const char *path, const void *bytes, size_t n) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

/* Of a child that ran fn; 0: fn returned true, 1: false, else 128 + the signal. */
STORING_FN int storing_wait(pid_t child) {
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

STORING_FN int storing_child(bool (*fn)(void)) {
    static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
    pid_t child = fork();
    for (size_t i = 0; child == 0 && i < sizeof signals / sizeof signals[0]; i++)
        (void)signal(signals[i], SIG_DFL); /* cmocka would go on with the test, in the child */
    if (child == 0) _exit(fn() ? 0 : 1);
    return child < 0 ? -1 : storing_wait(child);
}

#endif
