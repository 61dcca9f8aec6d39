/* test_store.c - the store's records, sharing, forks, processes, and what it refuses. Failing calls of LMDB are in
   test_store_faults.c, keys in test_store_sealed.c. */
#include <stdbool.h>
struct llmgwi_store_txn;
static bool upgrade_forged(struct llmgwi_store_txn *txn);
#define LLMGWI_STORE_UPGRADES(X) X(0, upgrade_forged)

#include "unit.h"
#include "storing.h"

#include <pthread.h>
#include <sys/mount.h>

/* ---- records ---- */

static void test_records(void **state) {
    (void)state;
    llmgwi_store *store = storing_open();
    llmgwi_store_txn txn;
    llmgwi_base_str key = llmgwi_base_cstr("0123456789abcdef"), value;
    assert_true(llmgwi_store_write(store, &txn, false));
    assert_true(llmgwi_store_put(&txn, LLMGWI_STORE_ENTRY, key, llmgwi_base_cstr("one")));
    char *room = (char *)llmgwi_store_reserve(&txn, LLMGWI_STORE_UNIT, key, 10000);
    assert_non_null(room);
    memset(room, 'x', 10000);
    uint64_t first = llmgwi_store_id(&txn);
    assert_int_equal(first, 1);
    assert_int_equal(llmgwi_store_ids(&txn, 100), 2);
    assert_true(llmgwi_store_end(&txn, true));
    assert_string_equal(storing_get(store, LLMGWI_STORE_ENTRY, "0123456789abcdef"), "one");
    assert_true(llmgwi_store_write(store, &txn, false));
    assert_true(llmgwi_store_del(&txn, LLMGWI_STORE_ENTRY, key, NULL));
    assert_false(llmgwi_store_del(&txn, LLMGWI_STORE_ENTRY, key, NULL));
    assert_int_equal(txn.error, 0);
    assert_false(llmgwi_store_get(&txn, LLMGWI_STORE_ENTRY, key, &value));
    assert_true(llmgwi_store_end(&txn, false)); /* not done after all */
    assert_int_equal(storing_count(store, LLMGWI_STORE_ENTRY), 1);
    assert_true(llmgwi_store_sync(store));
    llmgwi_store_close(store, false);

    store = storing_open(); /* all is there, and numbers go on */
    assert_string_equal(storing_get(store, LLMGWI_STORE_ENTRY, "0123456789abcdef"), "one");
    assert_true(llmgwi_store_read(store, &txn));
    assert_true(llmgwi_store_get(&txn, LLMGWI_STORE_UNIT, key, &value));
    assert_int_equal(value.n, 10000);
    assert_true(llmgwi_store_used_bytes(&txn) > 10000);
    assert_false(llmgwi_store_put(&txn, LLMGWI_STORE_UNIT, key, key)); /* a reader */
    assert_true(llmgwi_store_end(&txn, false));
    assert_true(llmgwi_store_write(store, &txn, false));
    assert_int_equal(llmgwi_store_id(&txn), 102);
    assert_true(llmgwi_store_used_bytes(&txn) > 10000);
    assert_true(llmgwi_store_end(&txn, false));
    assert_int_equal(llmgwi_store_max_bytes(store), 8 << 20);
    llmgwi_store_close(store, false);
}

/* ---- many at once ---- */

enum { MANY_IDS = 12000 };
static uint64_t many_ids; /* so many in the store */

/* Length of the record of an id; 0: there is none. A few do not fit into a page. */
static size_t many_size(uint64_t id) {
    uint64_t mix = llmgwi_base_mix(id);
    return id == 0 || id > many_ids || mix % 3 == 0 ? 0
           : mix % 1000 == 1                        ? 5000
                                                    : 1 + (size_t)(mix >> 20) % 300;
}

static void many_fill(llmgwi_store *store) {
    llmgwi_store_txn txn;
    assert_true(llmgwi_store_write(store, &txn, false));
    for (uint64_t i = 0; i < many_ids; i++) {
        uint64_t id = 1 + i * 7919 % many_ids; /* in no order: pages split */
        size_t n = many_size(id);
        if (!n) continue;
        char *p = (char *)llmgwi_store_reserve(&txn, LLMGWI_STORE_ASK, storing_u64(&id), n);
        assert_non_null(p);
        memset(p, (int)(id % 251), n);
    }
    assert_true(llmgwi_store_end(&txn, true));
}

/* any: short records are found. Ids that do not exist, and LMDB finds what is found at the same place. */
static void many_look(llmgwi_store_txn *txn, uint64_t salt, bool any) {
    uint64_t ids[LLMGWI_STORE_MANY];
    llmgwi_base_str values[LLMGWI_STORE_MANY], value;
    size_t count = 1 + (size_t)(llmgwi_base_mix(salt) % LLMGWI_STORE_MANY);
    for (size_t i = 0; i < count; i++) ids[i] = llmgwi_base_mix(salt * 64 + i) % (MANY_IDS + 100);
    if (salt % 16 == 0) ids[0] = UINT64_MAX;
    llmgwi_store_get_many(txn, LLMGWI_STORE_ASK, ids, count, values);
    for (size_t i = 0; i < count; i++) {
        size_t n = many_size(ids[i]);
        assert_int_equal(values[i].p != NULL, any && n && n < 2000);
        if (!values[i].p) continue;
        assert_true(llmgwi_store_get(txn, LLMGWI_STORE_ASK, storing_u64(&ids[i]), &value));
        assert_ptr_equal(values[i].p, value.p);
        assert_int_equal(values[i].n, n);
        assert_int_equal(value.n, n);
    }
}

static void test_many(void **state) {
    (void)state;
    llmgwi_store *store = storing_open();
    llmgwi_store_txn txn;
    const uint64_t sizes[] = {1, 50, MANY_IDS}; /* trees of one, two and three pages' depth */
    assert_true(llmgwi_store_read(store, &txn));
    many_look(&txn, 3, false); /* an empty table */
    assert_true(llmgwi_store_end(&txn, false));
    for (size_t k = 0; k < LLMGWI_BASE_COUNT(sizes); k++) {
        size_t depth = 0;
        many_ids = sizes[k];
        many_fill(store);
        assert_true(llmgwi_store_read(store, &txn));
        for (uint64_t salt = 1; salt < 2000; salt++) many_look(&txn, salt, true);
        assert_int_equal(txn.error, 0);
        assert_true(llmgwi_store_root(&txn, LLMGWI_STORE_ASK, &depth) >= 2);
        assert_int_equal(depth, k + 1);
        assert_true(llmgwi_store_end(&txn, false));
    }
    assert_true(llmgwi_store_write(store, &txn, false));
    many_look(&txn, 3, false); /* who writes asks LMDB */
    assert_true(llmgwi_store_end(&txn, false));
    llmgwi_store_close(store, false);
}

/* Bytes of the map changed, in the heads and indexes of pages above all: what is found lies in one page. */
/* Does the table of tables stand on this page? LMDB reads it, and trusts it. */
static bool many_names(const llmgwi_store *store, uint64_t page) {
    return memmem(store->map + page * store->page_bytes, store->page_bytes, "WEIGHT", 6) != NULL;
}

static void test_many_damaged(void **state) {
    (void)state;
    llmgwi_store *store = storing_open();
    llmgwi_store_txn txn;
    llmgwi_base_str values[LLMGWI_STORE_MANY];
    uint64_t ids[LLMGWI_STORE_MANY], seed = 1, pages;
    size_t found = 0, lost = 0;
    struct stat st;
    many_ids = MANY_IDS;
    many_fill(store);
    int fd = open(storing_file("data.mdb"), O_WRONLY);
    assert_true(fd >= 0 && !fstat(fd, &st)); /* LMDB maps the file: what is written to it is seen */
    pages = (uint64_t)st.st_size / store->page_bytes;
    assert_true(llmgwi_store_read(store, &txn));
    for (int round = 0; round < 20000; round++) {
        uint64_t mix = llmgwi_base_mix(seed++), page = 2 + mix % (pages - 2);
        if (many_names(store, page)) continue;
        off_t at = (off_t)(page * store->page_bytes + (mix >> 32) % (round % 2 ? 64 : store->page_bytes - 8));
        assert_int_equal(pwrite(fd, &seed, 1 + mix % 8, at), 1 + mix % 8);
        for (size_t i = 0; i < LLMGWI_STORE_MANY; i++) ids[i] = llmgwi_base_mix(seed++) % many_ids;
        llmgwi_store_get_many(&txn, LLMGWI_STORE_ASK, ids, LLMGWI_STORE_MANY, values);
        for (size_t i = 0; i < LLMGWI_STORE_MANY; i++) {
            size_t in = (size_t)(values[i].p - store->map);
            found += values[i].p != NULL;
            lost += !values[i].p;
            if (!values[i].p) continue;
            assert_true(in < (size_t)st.st_size && in % store->page_bytes + values[i].n <= store->page_bytes);
        }
    }
    assert_true(found && lost);
    close(fd);
    (void)llmgwi_store_end(&txn, false);
    llmgwi_store_close(store, false);
}

/* The number in the i-th of some items of 40 bytes. */
static uint64_t dup_number(llmgwi_base_str page, size_t i) {
    uint64_t number = 0;
    for (size_t b = 0; b < 8; b++) number = number << 8 | (unsigned char)page.p[i * 40 + b];
    return number;
}

static size_t dup_count(llmgwi_store_cursor *cursor, const char *key, bool *ascending) {
    llmgwi_base_str page;
    size_t count = 0;
    uint64_t last = 0;
    for (bool first = true; llmgwi_store_dups(cursor, llmgwi_base_cstr(key), first, &page); first = false) {
        assert_int_equal(page.n % 40, 0);
        for (size_t i = 0; i < page.n / 40; i++, count++) {
            if (dup_number(page, i) <= last) *ascending = false;
            last = dup_number(page, i);
        }
    }
    return count;
}

static void test_dups(void **state) {
    (void)state;
    llmgwi_store *store = storing_open();
    llmgwi_store_txn txn;
    llmgwi_store_cursor cursor;
    bool ascending = true;
    assert_true(llmgwi_store_write(store, &txn, true));
    assert_true(storing_dup(&txn, "aaaaaaaaaaaaaaaa", 5));
    assert_true(storing_dup(&txn, "bbbbbbbbbbbbbbbb", 9));
    assert_true(storing_dup(&txn, "bbbbbbbbbbbbbbbb", 4)); /* out of order, with one before */
    for (uint64_t i = 0; i < 3000; i++)
        assert_true(storing_dup(&txn, "cccccccccccccccc", i % 100 == 50 ? 10000 - i : 20000 + i));
    assert_int_equal(txn.error, 0);
    assert_true(llmgwi_store_end(&txn, true));
    assert_true(llmgwi_store_read(store, &txn));
    assert_true(llmgwi_store_cursor_open(&txn, LLMGWI_STORE_TAIL, &cursor));
    assert_int_equal(dup_count(&cursor, "aaaaaaaaaaaaaaaa", &ascending), 1); /* LMDB's trap: one is no page */
    assert_int_equal(dup_count(&cursor, "bbbbbbbbbbbbbbbb", &ascending), 2);
    assert_int_equal(dup_count(&cursor, "cccccccccccccccc", &ascending), 3000);
    assert_int_equal(dup_count(&cursor, "dddddddddddddddd", &ascending), 0);
    assert_true(ascending);
    llmgwi_store_cursor_close(&cursor);
    assert_true(llmgwi_store_end(&txn, false));
    llmgwi_store_close(store, false);
}

static void test_cursor(void **state) {
    (void)state;
    llmgwi_store *store = storing_open();
    llmgwi_store_txn txn;
    llmgwi_store_cursor cursor;
    llmgwi_base_str key, value;
    assert_true(llmgwi_store_write(store, &txn, true));
    for (uint64_t id = 10; id <= 30; id += 10)
        for (uint64_t entry = 1; entry <= 3; entry++)
            assert_true(llmgwi_store_put(&txn, LLMGWI_STORE_MEMBER, storing_u64(&id), storing_u64(&entry)));
    uint64_t at = 15, two = 2;
    assert_true(llmgwi_store_cursor_open(&txn, LLMGWI_STORE_MEMBER, &cursor));
#define IS(step, k, v)                                                                                       \
    do {                                                                                                     \
        assert_true(llmgwi_store_move(&cursor, LLMGWI_STORE_##step, &key, &value));                          \
        assert_int_equal(llmgwi_store_u64((const unsigned char *)key.p), k);                                 \
        assert_int_equal(llmgwi_store_u64((const unsigned char *)value.p), v);                               \
    } while (0)
    IS(FIRST, 10, 1);
    IS(NEXT, 10, 2);
    IS(NEXT_KEY, 20, 1);
    IS(LAST_DUP, 20, 3);
    assert_false(llmgwi_store_move(&cursor, LLMGWI_STORE_NEXT_DUP, &key, &value));
    IS(LAST, 30, 3);
    assert_false(llmgwi_store_move(&cursor, LLMGWI_STORE_NEXT, &key, &value));
    key = storing_u64(&at);
    IS(SEEK, 20, 1);
    key = storing_u64(&at);
    assert_false(llmgwi_store_move(&cursor, LLMGWI_STORE_AT, &key, &value));
    at = 30;
    key = storing_u64(&at);
    IS(AT, 30, 1);
    key = storing_u64(&at);
    value = storing_u64(&two);
    IS(SEEK_DUP, 30, 2);
    assert_true(llmgwi_store_cursor_del(&cursor));
    IS(NEXT, 30, 3);
    key = storing_u64(&at);
    value = storing_u64(&two);
    assert_false(llmgwi_store_del(&txn, LLMGWI_STORE_MEMBER, key, &value)); /* is gone */
    assert_int_equal(llmgwi_store_count(&txn, LLMGWI_STORE_MEMBER), 8);
    assert_true(llmgwi_store_end(&txn, true));
    llmgwi_store_cursor_close(&cursor); /* too late, and harmless */
    llmgwi_store_close(store, false);
}

/* ---- full ---- */

static void test_map_full(void **state) {
    (void)state;
    storing_at.max_bytes = 1; /* is raised to 1 MiB */
    llmgwi_store *store = storing_open();
    llmgwi_store_txn txn;
    static char big[60000];
    assert_int_equal(llmgwi_store_max_bytes(store), 1 << 20);
    uint64_t committed = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        assert_true(llmgwi_store_write(store, &txn, true));
        bool put =
            llmgwi_store_put(&txn, LLMGWI_STORE_ASK, storing_u64(&i), llmgwi_base_view(big, sizeof big));
        if (!put) assert_true(llmgwi_store_was_full(&txn));
        if (!llmgwi_store_end(&txn, true)) {
            assert_true(llmgwi_store_was_full(&txn));
            break;
        }
        committed++;
    }
    assert_in_range(committed, 20, 200);
    assert_true(llmgwi_store_on(store));
    assert_int_equal(storing_count(store, LLMGWI_STORE_ASK), committed); /* rolled back */
    for (uint64_t i = 0; i < committed; i++) {                           /* what goes makes room */
        assert_true(llmgwi_store_write(store, &txn, true));
        assert_true(llmgwi_store_del(&txn, LLMGWI_STORE_ASK, storing_u64(&i), NULL));
        assert_true(llmgwi_store_end(&txn, true));
    }
    assert_true(llmgwi_store_read(store, &txn));
    assert_in_range(llmgwi_store_used_bytes(&txn), 1, 200000);
    assert_true(llmgwi_store_end(&txn, false));
    assert_true(storing_put(store, LLMGWI_STORE_ENTRY, "k", "v"));
    llmgwi_store_close(store, false);
}

static void test_disk_full(void **state) {
    (void)state;
    if (mount("tmpfs", storing_dir, "tmpfs", 0, "size=1m")) {
        print_message("skipped: this user may not mount a tmpfs\n");
        skip();
    }
    storing_at.no_sync = false;
    llmgwi_store *store = storing_open();
    assert_true(storing_put(store, LLMGWI_STORE_ENTRY, "k", "kept"));
    static char big[100000];
    llmgwi_store_txn txn;
    int error = 0;
    char why[160];
    for (uint64_t i = 0; i < 30 && !error; i++) {
        assert_true(llmgwi_store_write(store, &txn, true));
        (void)llmgwi_store_put(&txn, LLMGWI_STORE_ASK, storing_u64(&i), llmgwi_base_view(big, sizeof big));
        if (!llmgwi_store_end(&txn, true)) error = txn.error;
    }
    assert_true(error == ENOSPC || error == EIO);
    unit_has(llmgwi_store_why(store, why, sizeof why), "committing: ");
    assert_true(llmgwi_store_on(store)); /* still read, but not written for a minute */
    assert_string_equal(storing_get(store, LLMGWI_STORE_ENTRY, "k"), "kept");
    assert_false(llmgwi_store_write(store, &txn, false));
    llmgwi_store_close(store, false);
    store = storing_open();
    assert_string_equal(storing_get(store, LLMGWI_STORE_ENTRY, "k"), "kept");
    llmgwi_store_close(store, false);
    /* no room for even an empty store: an error, no signal; and once there is room, a store */
    for (int kb = 0; kb <= 40; kb += 4) {
        char options[32];
        assert_int_equal(umount(storing_dir), 0);
        (void)snprintf(options, sizeof options, "size=%dk", kb ? kb : 4);
        assert_int_equal(mount("tmpfs", storing_dir, "tmpfs", 0, options), 0);
        store = storing_try();
        if (store) llmgwi_store_close(store, false);
        if (!store) assert_int_equal(storing_error.code, LLMGW_E_STORE);
        assert_int_equal(mount(NULL, storing_dir, NULL, MS_REMOUNT, "size=1m"), 0);
        llmgwi_store_close(storing_open(), false);
    }
    assert_int_equal(umount(storing_dir), 0);
}

/* ---- who shares it ---- */

static void test_shared(void **state) {
    (void)state;
    llmgwi_store *store = storing_open();
    char path[128];
    (void)snprintf(path, sizeof path, "/tmp/../tmp/%s//.", strrchr(storing_dir, '/') + 1);
    storing_at.path = path;
    storing_at.max_bytes = 99 << 20;
    llmgwi_store *other = storing_open();
    assert_ptr_equal(store, other);
    assert_int_equal(llmgwi_store_max_bytes(other), 8 << 20); /* the first one's */
    llmgwi_store_close(store, false);
    assert_true(storing_put(other, LLMGWI_STORE_ENTRY, "k", "v")); /* still open */
    llmgwi_store_close(other, false);
    other = storing_open();
    assert_int_equal(llmgwi_store_max_bytes(other), 99 << 20); /* now it is the first */
    llmgwi_store_close(other, false);
}

static void test_paths(void **state) {
    (void)state;
    struct stat info;
    assert_int_equal(setenv("HOME", storing_dir, 1), 0);
    storing_at.path = "~/deep/er/store";
    mode_t mask = umask(0);
    llmgwi_store *store = storing_open();
    umask(mask);
    assert_int_equal(stat(storing_file("deep/er/store"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    static const char *const files[] = {"data.mdb", "lock.mdb", "lock", "users"};
    for (size_t i = 0; i < 4; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "deep/er/store/%s", files[i]);
        assert_int_equal(stat(storing_file(name), &info), 0);
        assert_int_equal(info.st_mode & 0777, 0600);
    }
    char before[512];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(storing_dir), 0);
    storing_at.path = "deep/er/store";
    llmgwi_store *relative = storing_open();
    assert_ptr_equal(store, relative);
    assert_int_equal(chdir(before), 0);
    llmgwi_store_close(relative, false);
    llmgwi_store_close(store, false);
    storing_at.path = "";
    assert_null(storing_try());
    assert_int_equal(storing_error.code, LLMGW_E_STORE);
}

static bool two_process_add(void) {
    llmgwi_store *store = storing_try();
    bool fine = store != NULL;
    for (int i = 0; i < 200 && fine; i++) {
        llmgwi_store_txn txn;
        llmgwi_base_str value, key = llmgwi_base_cstr("sum");
        uint64_t sum = 0;
        fine = llmgwi_store_write(store, &txn, true);
        if (fine && llmgwi_store_get(&txn, LLMGWI_STORE_UNIT, key, &value)) memcpy(&sum, value.p, sizeof sum);
        sum++;
        fine = fine && llmgwi_store_put(&txn, LLMGWI_STORE_UNIT, key, storing_u64(&sum)) &&
               llmgwi_store_end(&txn, true);
    }
    llmgwi_store_close(store, false);
    return fine;
}

static void test_two_processes(void **state) {
    (void)state;
    pid_t child = fork();
    if (child == 0) _exit(two_process_add() ? 0 : 1);
    assert_true(two_process_add());
    assert_int_equal(storing_wait(child), 0);
    llmgwi_store *store = storing_open();
    llmgwi_store_txn txn;
    llmgwi_base_str value;
    assert_true(llmgwi_store_read(store, &txn));
    assert_true(llmgwi_store_get(&txn, LLMGWI_STORE_UNIT, llmgwi_base_cstr("sum"), &value));
    assert_int_equal(llmgwi_store_u64((const unsigned char *)value.p), 400);
    (void)llmgwi_store_end(&txn, false);
    llmgwi_store_close(store, false);
}

static int to_parent[2], to_child[2];

static bool writes_until_told(void) {
    llmgwi_store *store = storing_try();
    llmgwi_store_txn txn;
    char byte = 0;
    bool fine = store && llmgwi_store_max_bytes(store) == 8 << 20 && llmgwi_store_write(store, &txn, false);
    fine = write(to_parent[1], fine ? "y" : "n", 1) == 1 && fine && read(to_child[0], &byte, 1) == 1;
    return fine && llmgwi_store_end(&txn, true);
}

static void test_never_waits(void **state) {
    (void)state;
    llmgwi_store *store = storing_open();
    llmgwi_store_txn txn;
    char byte = 0;
    assert_int_equal(pipe(to_parent) | pipe(to_child), 0);
    storing_at.max_bytes = 77 << 20; /* of the child, who is not the first */
    pid_t child = fork();
    if (child == 0) _exit(writes_until_told() ? 0 : 1);
    assert_int_equal(read(to_parent[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    int64_t start = llmgwi_base_now_us(NULL);
    for (int i = 0; i < 100; i++) {
        assert_false(llmgwi_store_write(store, &txn, false));
        assert_true(llmgwi_store_read(store, &txn));
        assert_true(llmgwi_store_end(&txn, false));
    }
    assert_in_range(llmgwi_base_now_us(NULL) - start, 0, 100000);
    assert_int_equal(write(to_child[1], "g", 1), 1);
    assert_int_equal(storing_wait(child), 0);
    assert_true(llmgwi_store_write(store, &txn, false));
    llmgwi_store_txn second;
    assert_false(llmgwi_store_write(store, &second, false)); /* the same within the process */
    assert_true(llmgwi_store_end(&txn, true));
    for (int i = 0; i < 2; i++) close(to_parent[i]), close(to_child[i]);
    llmgwi_store_close(store, false);
}

/* ---- fork ---- */

static llmgwi_store *parents;

static bool forked_child(void) {
    llmgwi_store_txn txn;
    bool fine = !llmgwi_store_on(parents) && !llmgwi_store_read(parents, &txn) &&
                !llmgwi_store_write(parents, &txn, true) && !llmgwi_store_sync(parents);
    llmgwi_store *own = storing_try();
    fine = fine && own && own != parents && storing_put(own, LLMGWI_STORE_ENTRY, "child", "was here");
    llmgwi_store_close(parents, true);
    fine = fine && storing_put(own, LLMGWI_STORE_ENTRY, "child", "is here");
    llmgwi_store_close(own, false);
    return fine && (own = storing_try()) != NULL && storing_put(own, LLMGWI_STORE_ENTRY, "child", "again");
}

/* In a child that did not open it: is LMDB's lock file still locked, so that nobody takes it for abandoned? */
static bool locks_are_held(void) {
    struct flock lock;
    memset(&lock, 0, sizeof lock);
    lock.l_type = F_WRLCK;
    int fd = open(storing_file("lock.mdb"), O_RDWR);
    return fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static void test_fork(void **state) {
    (void)state;
    parents = storing_open();
    llmgwi_store_txn reading;
    assert_true(storing_put(parents, LLMGWI_STORE_ENTRY, "parent", "1"));
    assert_true(llmgwi_store_read(parents, &reading));
    assert_int_equal(storing_child(forked_child), 0);
    assert_true(llmgwi_store_end(&reading, false));
    assert_int_equal(storing_child(locks_are_held), 0);
    assert_string_equal(storing_get(parents, LLMGWI_STORE_ENTRY, "child"), "again");
    assert_true(storing_put(parents, LLMGWI_STORE_ENTRY, "parent", "2"));
    llmgwi_store_close(parents, false);
}

/* A child that lives on must not keep the dead parent's turn to write. */
static void test_fork_while_writing(void **state) {
    (void)state;
    pid_t middle = fork();
    if (middle == 0) {
        llmgwi_store_txn txn;
        llmgwi_store *store = storing_try();
        if (!store || !llmgwi_store_write(store, &txn, true)) _exit(1);
        if (fork() == 0) {
            llmgwi_store_close(store, true);
            (void)sleep(3);
            _exit(0);
        }
        usleep(20000);
        (void)raise(SIGKILL);
    }
    assert_int_equal(storing_wait(middle), 128 + SIGKILL);
    llmgwi_store *store = storing_open();
    llmgwi_store_txn txn;
    assert_true(llmgwi_store_write(store, &txn, false));
    assert_true(llmgwi_store_end(&txn, true));
    llmgwi_store_close(store, false);
}

/* ---- what is refused ---- */

static void make_foreign(const char *table) {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_val k = {3, (void *)"key"}, v = {5, (void *)"value"};
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 4), 0);
    assert_int_equal(mdb_env_open(env, storing_dir, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, table, MDB_CREATE, &dbi), 0);
    assert_int_equal(mdb_put(txn, dbi, &k, &v, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void test_foreign(void **state) {
    storing_spill(storing_file("thesis.txt"), "x", 1);
    storing_refused("other files");
    assert_int_equal(access(storing_file("data.mdb"), F_OK), -1);
    storing_teardown(state);
    storing_spill(storing_dir, "x", 1);
    storing_refused("directory");
    assert_int_equal(unlink(storing_dir), 0);
    static const char *const tables[] = {NULL, "META", "theirs"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(mkdir(storing_dir, 0700), 0);
        make_foreign(tables[i]);
        storing_refused(tables[i] ? "is not a store of llmgw.h" : "data.mdb is damaged");
        storing_refused("data.mdb" + (tables[i] ? 8 : 0));
        storing_teardown(state);
    }
    assert_int_equal(mkdir(storing_dir, 0700), 0);
    storing_spill(storing_file("data.mdb"), "SQLite format 3, or whatever", 28);
    storing_refused("cut off");
    static char zeros[65536];
    storing_spill(storing_file("data.mdb"), zeros, sizeof zeros);
    storing_refused("not an LMDB file");
}

static int upgrade_result = -1;

static bool upgrade_forged(struct llmgwi_store_txn *txn) {
    upgrade_result++;
    return llmgwi_store_put(txn, LLMGWI_STORE_UNIT, llmgwi_base_cstr("made"), llmgwi_base_cstr("of 0")) &&
           upgrade_result > 0;
}

static void set_schema(uint32_t version) {
    llmgwi_store *store = storing_open();
    llmgwi_store_txn txn;
    assert_true(llmgwi_store_write(store, &txn, true));
    assert_true(llmgwi_store_put_meta(&txn, "schema", &version, sizeof version));
    assert_true(llmgwi_store_end(&txn, true));
    llmgwi_store_close(store, false);
}

static void test_schema(void **state) {
    (void)state;
    set_schema(0);
    upgrade_result = -1;
    storing_refused("could not be brought");
    llmgwi_store *store = storing_open(); /* the failed attempt left nothing; this one succeeds */
    assert_int_equal(upgrade_result, 1);
    assert_string_equal(storing_get(store, LLMGWI_STORE_UNIT, "made"), "of 0");
    llmgwi_store_close(store, false);
    llmgwi_store_close(storing_open(), false);
    assert_int_equal(upgrade_result, 1); /* once */
    set_schema(LLMGWI_STORE_SCHEMA + 1);
    storing_refused("newer version");
}

static void test_read_only(void **state) {
    (void)state;
    struct stat info;
    if (geteuid() == 0) assert_int_equal(chown(storing_dir, 65534, 65534), 0);
    bool root = geteuid() == 0;
    if (root) assert_int_equal(seteuid(65534), 0);
    assert_int_equal(chmod(storing_dir, 0500), 0);
    storing_refused("cannot be written");
    assert_int_equal(chmod(storing_dir, 0700), 0);
    llmgwi_store *store = storing_open();
    assert_true(storing_put(store, LLMGWI_STORE_ENTRY, "k", "v"));
    llmgwi_store_close(store, false);
    static const char *const files[] = {"data.mdb", "lock", "users", "lock.mdb"};
    for (int unlocked = 0; unlocked < 2; unlocked++) {
        for (int i = 0; i < 3 + unlocked; i++) assert_int_equal(chmod(storing_file(files[i]), 0400), 0);
        assert_int_equal(chmod(storing_dir, 0500), 0);
        store = storing_open();
        assert_true(store->read_only);
        assert_int_equal(store->unlocked, unlocked);
        assert_string_equal(storing_get(store, LLMGWI_STORE_ENTRY, "k"), "v");
        assert_false(storing_put(store, LLMGWI_STORE_ENTRY, "k", "w"));
        assert_true(llmgwi_store_on(store));
        assert_true(llmgwi_store_sync(store));
        llmgwi_store_close(store, false);
    }
    assert_int_equal(stat(storing_file("data.mdb"), &info), 0);
    assert_int_equal(chmod(storing_dir, 0700), 0);
    if (root) assert_int_equal(seteuid(0), 0);
}

/* ---- threads ---- */

static llmgwi_store *shared;
static int stop, torn, reads, misses;

static void *reader(void *user) {
    llmgwi_store_txn txn;
    llmgwi_base_str a, b;
    (void)user;
    while (!LLMGWI_BASE_LOAD(&stop)) {
        if (!llmgwi_store_read(shared, &txn)) {
            LLMGWI_BASE_ADD(&misses, 1);
            usleep(1000);
            continue;
        }
        if (!llmgwi_store_get(&txn, LLMGWI_STORE_UNIT, llmgwi_base_cstr("a"), &a) ||
            !llmgwi_store_get(&txn, LLMGWI_STORE_ENTRY, llmgwi_base_cstr("b"), &b) || a.n != b.n ||
            memcmp(a.p, b.p, a.n))
            LLMGWI_BASE_ADD(&torn, 1);
        LLMGWI_BASE_ADD(&reads, 1);
        (void)llmgwi_store_end(&txn, false);
    }
    return NULL;
}

static bool write_pair(llmgwi_store *store, uint64_t number) {
    llmgwi_store_txn txn;
    static char bytes[3000];
    memcpy(bytes, &number, sizeof number);
    llmgwi_base_str value = llmgwi_base_view(bytes, 100 + number % 2900);
    bool fine = llmgwi_store_write(store, &txn, true) &&
                llmgwi_store_put(&txn, LLMGWI_STORE_UNIT, llmgwi_base_cstr("a"), value) &&
                llmgwi_store_put(&txn, LLMGWI_STORE_ENTRY, llmgwi_base_cstr("b"), value);
    return fine && llmgwi_store_end(&txn, true);
}

/* Another process, not of ours, gives the file a larger map and uses it. */
static bool grows(void) {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_val k = {3, (void *)"big"}, v = {20 << 20, NULL};
    bool fine = !mdb_env_create(&env) && !mdb_env_set_maxdbs(env, 4) &&
                !mdb_env_set_mapsize(env, 128 << 20) && !mdb_env_open(env, storing_dir, 0, 0600) &&
                !mdb_txn_begin(env, NULL, 0, &txn) && !mdb_dbi_open(txn, "UNIT", 0, &dbi) &&
                !mdb_put(txn, dbi, &k, &v, MDB_RESERVE);
    if (fine) memset(v.mv_data, 'x', v.mv_size);
    return fine && !mdb_txn_commit(txn);
}

static void run_threads(int grow, uint64_t pairs) {
    enum { THREADS = 64 };
    pthread_t threads[THREADS];
    int count = grow ? 8 : THREADS; /* who waits for many readers to leave waits for the scheduler */
    shared = storing_open();
    stop = torn = reads = misses = 0;
    assert_true(write_pair(shared, 1));
    for (int i = 0; i < count; i++) assert_int_equal(pthread_create(&threads[i], NULL, reader, NULL), 0);
    for (uint64_t i = 2; i < pairs; i++) {
        bool wrote = write_pair(shared, i);
        for (int again = 0; grow && !wrote && again < 20; again++) wrote = write_pair(shared, i);
        assert_true(wrote);
        if (grow && i == pairs / 2) assert_int_equal(storing_child(grows), 0);
    }
    for (int i = 0; LLMGWI_BASE_LOAD(&reads) <= 1000 && i < 10000; i++)
        usleep(1000); /* writers may be quicker */
    LLMGWI_BASE_STORE(&stop, 1);
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
    assert_int_equal(torn, 0);
    assert_true(reads > 1000);
    assert_true(llmgwi_store_on(shared));
}

static void test_threads(void **state) {
    (void)state;
    run_threads(0, 400);
    assert_int_equal(misses, 0);
    llmgwi_store_close(shared, false);
}

static void test_map_grows(void **state) {
    (void)state;
    run_threads(1, 100);
    llmgwi_store_txn txn;
    llmgwi_base_str value;
    assert_true(llmgwi_store_read(shared, &txn));
    assert_true(llmgwi_store_get(&txn, LLMGWI_STORE_UNIT, llmgwi_base_cstr("big"), &value));
    assert_int_equal(value.n, 20 << 20);
    assert_int_equal(value.p[value.n - 1], 'x');
    (void)llmgwi_store_end(&txn, false);
    llmgwi_store_close(shared, false);
}

static void test_no_slot(void **state) {
    (void)state;
    llmgwi_store_txn txn[3];
    storing_at.max_readers = 2;
    llmgwi_store *store = storing_open();
    assert_true(llmgwi_store_read(store, &txn[0]));
    assert_true(llmgwi_store_read(store, &txn[1]));
    assert_false(llmgwi_store_read(store, &txn[2]));
    assert_true(llmgwi_store_end(&txn[2], false));
    assert_true(llmgwi_store_end(&txn[0], false));
    assert_true(llmgwi_store_read(store, &txn[2]));
    for (int i = 1; i < 3; i++) assert_true(llmgwi_store_end(&txn[i], false));
    llmgwi_store_close(store, false);
}

static void test_digest(void **state) {
    (void)state;
    llmgwi_store *store = storing_open();
    unsigned char a[16], b[16];
    llmgwi_store_digest(store, "one", 3, a);
    llmgwi_store_digest(store, "two", 3, b);
    assert_memory_not_equal(a, b, 16);
    llmgwi_store_digest(store, "one", 3, b);
    assert_memory_equal(a, b, 16);
    assert_null(llmgwi_store_hasher(store));
    assert_false(llmgwi_store_sealed(store));
    llmgwi_store_close(store, false);
    storing_at.key = "0123456789abcdef0123456789abcdef";
    storing_refused("LLMGW_SODIUM");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, storing_setup, storing_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_records),
        TEST(test_many),
        TEST(test_many_damaged),
        TEST(test_dups),
        TEST(test_cursor),
        TEST(test_map_full),
        TEST(test_disk_full),
        TEST(test_shared),
        TEST(test_paths),
        TEST(test_two_processes),
        TEST(test_never_waits),
        TEST(test_fork),
        TEST(test_fork_while_writing),
        TEST(test_foreign),
        TEST(test_schema),
        TEST(test_read_only),

        TEST(test_threads),
        TEST(test_map_grows),
        TEST(test_no_slot),
        TEST(test_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
