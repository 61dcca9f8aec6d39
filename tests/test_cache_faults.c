/* test_cache_faults.c - what may happen to a store happens under whole calls: each call of LMDB fails, once or from
 * then on; the disk is full; the directory may not be written, or goes; files are cut off and written over. Calls
 * succeed with the right answers, nothing leaks, and afterwards the store opens and its tables agree.
 * LLMGW_SOAK=1: many more faults, 500 damaged files. */
#define LLMGWI_STORE_FAULTS
#include "cachecheck.h"
#include "asking.h"

#include <sys/mount.h>
#include <sys/stat.h>

enum { WARM = 420 /* questions that the store knows at the start */ };

static Provider provider;
static char top[64], warm_file[128], dir[128];

/* ---- faults ---- */

static int fault_code, fault_at, fault_seen;
static bool fault_for_ever, fault_writes; /* writes: only calls that write count and fail */

static int llmgwi_store_fault(const char *call) {
    if (!fault_at ||
        (fault_writes && !strstr(call, "put") && !strstr(call, "del") && !strstr(call, "commit")))
        return 0;
    fault_seen++;
    return fault_seen == fault_at || (fault_for_ever && fault_seen > fault_at) ? fault_code : 0;
}

static void set_fault(int code, int at, bool for_ever) {
    fault_code = code;
    fault_at = at;
    fault_for_ever = for_ever;
    fault_seen = 0;
}

/* ---- memory ---- */

static int64_t bytes_held;

static void *counted(void *ptr, size_t old_size, size_t new_size, void *user) {
    (void)user;
    __atomic_add_fetch(&bytes_held, (int64_t)new_size - (int64_t)old_size, __ATOMIC_RELAXED);
    if (new_size) return realloc(ptr, new_size);
    free(ptr);
    return NULL;
}

/* ---- a gateway, and what it is asked ---- */

static llmgw *open_at(int port, const char *path, double similarity) {
    llmgw_options options = t_calm();
    options.store.path = path;
    options.store.max_bytes = 8 << 20;
    options.store.no_sync = true;
    options.store.commit_ms = LLMGW_OFF;
    options.cache.on = options.cache.semantic = true;
    if (similarity > 0)
        options.cache.similarity = llmgw_set(similarity);
    else
        options.cache.max_error = llmgw_set(0.2);
    options.alloc = counted;
    return t_open_at("http", "127.0.0.1", port, &options);
}

typedef struct heard { /* what calls were answered with */
    int asked, exact, semantic, missed, none, wrong;
    int astray; /* fuzzy: a whole answer, but of another question; max_error and similarity allow it */
} heard;

static bool is_anybodys(const char *text) {
    bool found = false;
    for (size_t i = 0; i < ASKING_INTENTS && !found; i++) found = asking_is_answer(i, text, false);
    return found;
}

/* Asks question i; the answer must be right whatever happens to the store. */
static llmgw_verdict hear(llmgw *gw, size_t i, unsigned flags, heard *h) {
    char question[160];
    llmgw_request request;
    asking_question(i, question, sizeof question);
    memset(&request, 0, sizeof request);
    request.model = "openai/m";
    request.prompt = question;
    request.cache = flags;
    llmgw_reply *reply = llmgw_chat(gw, &request);
    llmgw_verdict verdict = reply->cached.verdict;
    h->asked++;
    h->exact += verdict == LLMGW_VERDICT_EXACT;
    h->semantic += verdict == LLMGW_VERDICT_SEMANTIC;
    h->missed += verdict == LLMGW_VERDICT_MISS;
    h->none += verdict == LLMGW_VERDICT_NONE;
    bool right = !reply->error.code && asking_is_answer(i, reply->text, false);
    bool astray =
        !reply->error.code && !right && verdict == LLMGW_VERDICT_SEMANTIC && is_anybodys(reply->text);
    h->astray += astray;
    if (!right && !astray) {
        print_error("%s: %s %s: %.40s\n", question, llmgw_verdict_name(verdict), reply->error.text,
                    reply->text);
        h->wrong++;
    }
    llmgw_reply_free(reply);
    return verdict;
}

/* On, or off with a reason. */
static void says_how_it_is(llmgw *gw) {
    llmgw_cache_numbers numbers;
    llmgw_code code = llmgw_cache_stats(gw, NULL, &numbers);
    assert_true(code == LLMGW_OK || code == LLMGW_E_STORE);
    if (code == LLMGW_E_STORE) assert_false(numbers.on);
    if (!numbers.on) assert_true(numbers.reason[0] != 0);
}

static void copy_file(const char *from, const char *to) {
    static char bytes[1 << 16];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    assert_non_null(in);
    assert_non_null(out);
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, in)) > 0;)
        assert_int_equal(fwrite(bytes, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
    (void)fclose(in);
}

static void remove_tree(const char *path) {
    char line[160];
    (void)snprintf(line, sizeof line, "rm -rf '%s'", path);
    assert_int_equal(system(line), 0);
}

/* A store of its own for each test, a copy of the warm one. */
static void take_warm(void) {
    char file[160];
    remove_tree(dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    (void)snprintf(file, sizeof file, "%s/data.mdb", dir);
    copy_file(warm_file, file);
}

static int group_start(void **state) {
    (void)state;
    char path[128];
    heard h;
    memset(&h, 0, sizeof h);
    strcpy(top, "/tmp/llmgw-faults-XXXXXX");
    if (!mkdtemp(top)) return -1;
    (void)snprintf(path, sizeof path, "%s/answers", top);
    (void)snprintf(dir, sizeof dir, "%s/store", top);
    (void)snprintf(warm_file, sizeof warm_file, "%s/warm/data.mdb", top);
    asking_oracle(path, ASKING_QUESTIONS, SIZE_MAX);
    const char *const more[] = {"--answers", path, NULL};
    provider_start(&provider, more);
    (void)snprintf(path, sizeof path, "%s/warm", top);
    llmgw *gw = open_at(provider.port, path, 0);
    for (size_t i = 0; i < WARM; i++) (void)hear(gw, i, 0, &h);
    if (llmgw_drain(gw, 10000) != LLMGW_OK) return -1;
    llmgw_close(gw);
    print_message("warm: %d asked, %d fuzzy, %d wrong\n", h.asked, h.semantic, h.wrong);
    return 0;
}

static int group_stop(void **state) {
    (void)state;
    provider_stop(&provider);
    remove_tree(top);
    return 0;
}

/* ---- LMDB fails ---- */

/* How long who asks for all duties waits, when they cannot be done. ms */
enum { DRAIN_MS = 30 };

/* One of everything. Sets bits of committed for the questions that must be there afterwards. */
static void live(heard *h, unsigned *committed, int64_t *samples, double similarity) {
    llmgw *gw = open_at(provider.port, dir, similarity);
    llmgw_cache_numbers numbers;
    memset(&numbers, 0, sizeof numbers);
    unsigned there = 0;
    for (size_t i = 0; i < 3; i++) (void)hear(gw, i * 7, 0, h);
    for (size_t i = 0; i < 4; i++) {
        llmgw_verdict verdict = hear(gw, WARM + i * 61, LLMGW_CACHE_EXACT, h);
        if (verdict == LLMGW_VERDICT_EXACT) there |= 1u << i;
        if (hear(gw, WARM + i * 61, 0, h) == LLMGW_VERDICT_EXACT) there |= 1u << i;
    }
    for (size_t i = 0; i < 12; i++) (void)hear(gw, WARM + 300 + i * 67, 0, h);
    (void)llmgw_drain(gw, DRAIN_MS);
    if (llmgw_flush(gw) == LLMGW_OK) *committed |= there;
    says_how_it_is(gw);
    if (llmgw_cache_stats(gw, NULL, &numbers) == LLMGW_OK) *samples = numbers.revalidations;
    llmgw_cache_filter filter;
    memset(&filter, 0, sizeof filter);
    filter.answered_by = "nobody";
    (void)llmgw_cache_remove(gw, &filter);
    llmgw_close(gw);
}

/* The fault is gone: everything works, what was committed is there, tables agree. */
static void live_on(unsigned committed) {
    heard h;
    memset(&h, 0, sizeof h);
    llmgw *gw = open_at(provider.port, dir, 0);
    assert_non_null(gw->store);
    (void)cachecheck(gw->store);
    for (size_t i = 0; i < 4; i++) {
        llmgw_verdict verdict = hear(gw, WARM + i * 61, LLMGW_CACHE_EXACT, &h);
        if (committed >> i & 1) assert_int_equal(verdict, LLMGW_VERDICT_EXACT);
    }
    assert_int_equal(llmgw_flush(gw), LLMGW_OK);
    (void)cachecheck(gw->store);
    llmgw_close(gw);
    assert_int_equal(h.wrong, 0);
}

static void with_fault(bool writes, int code, int at, bool for_ever, double similarity, bool *ended,
                       heard *sum) {
    heard h;
    unsigned committed = 0;
    int64_t samples = 0;
    memset(&h, 0, sizeof h);
    take_warm();
    set_fault(code, at, for_ever);
    fault_writes = writes;
    live(&h, &committed, &samples, similarity);
    *ended = fault_seen < at;
    if (getenv("SAY"))
        print_message("%lld ms: code %d at %d%s: %d seen\n", (long long)t_now_ms(), code, at,
                      for_ever ? " for ever" : "", fault_seen);
    fault_writes = false;
    set_fault(0, 0, false);
    if (h.wrong)
        fail_msg("code %d at %s %d%s", code, writes ? "write" : "call", at,
                 for_ever ? " and from then on" : "");
    assert_int_equal(bytes_held, 0);
    live_on(committed);
    assert_int_equal(bytes_held, 0);
    if (*ended) { /* nothing failed: all that this test is about has happened */
        assert_int_equal(committed, 15);
        assert_true(h.exact >= 7 && h.semantic >= 6 && h.missed >= 4);
        if (similarity == 0) assert_true(samples > 0);
    }
    sum->asked += h.asked;
    sum->exact += h.exact;
    sum->semantic += h.semantic;
    sum->none += h.none;
    sum->astray += h.astray;
}

static void test_each_call(void **state) {
    (void)state;
    static const int codes[] = {EIO,           MDB_MAP_FULL, ENOMEM,      MDB_CORRUPTED,     MDB_READERS_FULL,
                                MDB_TXN_FULL,  ENOSPC,       MDB_BAD_TXN, MDB_PAGE_NOTFOUND, MDB_MAP_RESIZED,
                                MDB_PAGE_FULL, MDB_PANIC,    EINVAL,      MDB_BAD_VALSIZE};
    bool soak = getenv("LLMGW_SOAK") != NULL, ended = false;
    heard sum;
    int runs = 0, last[2] = {0, 0};
    memset(&sum, 0, sizeof sum);
    for (int similar = 0; similar < 2; similar++) {
        with_fault(false, EIO, INT_MAX, false, similar ? .6 : 0, &ended, &sum);
        assert_true(ended);
    }
    for (int writes = 0; writes < 2; writes++) {
        ended = false;
        for (int at = 1; !ended && at < 1 << 20; at += 1 + at / (soak ? 40 : writes ? 12 : 2)) {
            for (int mode = 0; mode < (soak ? 28 : 1) && !ended; mode++, runs++) {
                int code = soak ? codes[mode / 2] : codes[(runs * 5 + mode) % 14];
                with_fault(writes, code, at, (soak ? mode : runs) % 2 != 0, runs % 5 ? 0 : .6, &ended, &sum);
            }
            last[writes] = at;
        }
    }
    print_message(
        "%d runs, up to call %d, write %d: %d asked, %d exact, %d fuzzy (%d of others), %d without a cache\n",
        runs, last[0], last[1], sum.asked, sum.exact, sum.semantic, sum.astray, sum.none);
    assert_true(last[0] > 300 && last[1] > 50);
}

/* A disk that is full, or another who writes for long: who drives does not burn the processor meanwhile. */
static void test_rests(void **state) {
    (void)state;
    static const int codes[] = {ENOSPC, ENOMEM, MDB_CORRUPTED};
    for (int i = 0; i < 3; i++) {
        heard h;
        memset(&h, 0, sizeof h);
        take_warm();
        llmgw *gw = open_at(provider.port, dir, 0);
        (void)hear(gw, 0, 0, &h);
        set_fault(codes[i], 1, true);
        (void)hear(gw, 1000, 0, &h);
        int64_t began = t_now_ms();
        fault_seen = 1;
        assert_int_not_equal(llmgw_drain(gw, 300), LLMGW_OK);
        if (codes[i] == MDB_CORRUPTED)
            assert_true(t_now_ms() - began < 200); /* off: there is nothing to wait for */
        assert_in_range(fault_seen, 1, 2000);
        set_fault(0, 0, false);
        llmgw_close(gw);
        assert_int_equal(h.wrong, 0);
    }
}

/* ---- the file system ---- */

static void calls_go_on(const char *path, bool expect_cache) {
    heard h;
    memset(&h, 0, sizeof h);
    llmgw *gw = open_at(provider.port, path, 0);
    for (size_t i = 0; i < 20; i++) (void)hear(gw, i * 37, 0, &h);
    (void)llmgw_drain(gw, 100);
    (void)llmgw_flush(gw);
    says_how_it_is(gw);
    llmgw_close(gw);
    assert_int_equal(h.wrong, 0);
    if (expect_cache) assert_true(h.exact > 0);
    assert_int_equal(bytes_held, 0);
}

/* A file system of 1.2 MB, so that it fills up while the store is far from its cap. */
static void test_disk_full(void **state) {
    (void)state;
    char path[160];
    heard h;
    memset(&h, 0, sizeof h);
    remove_tree(dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    if (mount("none", dir, "tmpfs", 0, "size=1200k,mode=0700")) {
        print_message("no file system can be mounted here: %s\n", strerror(errno));
        skip();
    }
    (void)snprintf(path, sizeof path, "%s/store", dir);
    llmgw *gw = open_at(provider.port, path, 0);
    int failed = 0;
    for (size_t i = 0; i < 1500; i++) {
        (void)hear(gw, i, 0, &h);
        if (i % 150 == 149) failed += llmgw_flush(gw) != LLMGW_OK;
    }
    says_how_it_is(gw);
    llmgw_close(gw);
    gw = open_at(provider.port, path, 0);
    if (gw->store) {
        cachecheck_sum sum = cachecheck(gw->store);
        print_message("the disk was full: %zu entries, %d of 10 flushes failed\n", sum.entries, failed);
        assert_true(sum.entries > 20);
    }
    for (size_t i = 0; i < 20; i++) (void)hear(gw, i, 0, &h);
    llmgw_close(gw);
    assert_int_equal(umount(dir), 0);
    assert_int_equal(h.wrong, 0);
    assert_true(failed > 0);
    assert_true(gw && h.exact >= 10);
    assert_int_equal(bytes_held, 0);
}

/* A directory in which nothing may be written: the mount is read-only, as root may write anywhere else. */
static void test_read_only(void **state) {
    (void)state;
    char path[160], file[192];
    remove_tree(dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    if (mount("none", dir, "tmpfs", 0, "size=8m,mode=0700")) skip();
    (void)snprintf(path, sizeof path, "%s/store", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(file, sizeof file, "%s/data.mdb", path);
    copy_file(warm_file, file);
    assert_int_equal(mount("none", dir, "tmpfs", MS_REMOUNT | MS_RDONLY, "size=8m"), 0);
    calls_go_on(path, false);
    (void)snprintf(path, sizeof path, "%s/none", dir);
    calls_go_on(path, false);
    assert_int_equal(umount(dir), 0);
}

static void test_removed(void **state) {
    (void)state;
    heard h;
    memset(&h, 0, sizeof h);
    take_warm();
    llmgw *gw = open_at(provider.port, dir, 0);
    (void)hear(gw, 0, 0, &h);
    remove_tree(dir);
    for (size_t i = 0; i < 20; i++) (void)hear(gw, i * 37, 0, &h);
    (void)llmgw_flush(gw);
    llmgw *other = open_at(provider.port, dir, 0); /* a new one in its place */
    for (size_t i = 0; i < 20; i++) (void)hear(other, i * 37, 0, &h);
    for (size_t i = 0; i < 20; i++) (void)hear(gw, i * 37, 0, &h);
    assert_int_equal(llmgw_flush(other), LLMGW_OK);
    (void)cachecheck(other->store);
    llmgw_close(other);
    llmgw_close(gw);
    assert_int_equal(h.wrong, 0);
    assert_true(h.exact >= 10);
    calls_go_on(dir, true);
}

/* ---- damaged files ---- */

/* In a process of its own, executed again, so that a crash is seen: --use DIR PORT. Ends with how many answers were
   wrong. */
static int use_damaged(char **argv) {
    heard h;
    memset(&h, 0, sizeof h);
    (void)alarm(30); /* hangs are failures too */
    llmgw *gw = open_at(atoi(argv[3]), argv[2], 0);
    for (size_t i = 0; i < 30; i++) (void)hear(gw, i * 14, 0, &h); /* known */
    for (size_t i = 0; i < 10; i++) (void)hear(gw, 2000 + i * 37, 0, &h);
    (void)llmgw_drain(gw, DRAIN_MS);
    (void)llmgw_flush(gw);
    says_how_it_is(gw);
    llmgw_close(gw);
    return h.wrong;
}

static int status_of_use(void) {
    char port[16];
    int status = 0;
    (void)snprintf(port, sizeof port, "%d", provider.port);
    pid_t pid = fork();
    if (pid == 0) {
        execl("/proc/self/exe", "use", "--use", dir, port, (char *)NULL);
        _exit(127);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    return status;
}

static char *slurp(size_t *n) {
    struct stat info;
    assert_int_equal(stat(warm_file, &info), 0);
    *n = (size_t)info.st_size;
    char *bytes = (char *)malloc(*n);
    FILE *file = fopen(warm_file, "rb");
    assert_non_null(bytes);
    assert_non_null(file);
    assert_int_equal(fread(bytes, 1, *n, file), *n);
    (void)fclose(file);
    return bytes;
}

static void use_bytes(const char *what, int round, const char *bytes, size_t n) {
    char path[160];
    take_warm();
    (void)snprintf(path, sizeof path, "%s/data.mdb", dir);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    (void)fclose(file);
    int status = status_of_use();
    if (status) fail_msg("%s %d: the process ended with %#x", what, round, (unsigned)status);
}

static void test_cut_off(void **state) {
    (void)state;
    size_t n;
    char *bytes = slurp(&n);
    int rounds = getenv("LLMGW_SOAK") ? 100 : t_rounds(8);
    for (int i = 0; i < rounds; i++)
        use_bytes("cut off", i, bytes, n * (size_t)i / (size_t)rounds + (size_t)i % 3);
    free(bytes);
}

/* One to four bytes of random pages that are in use. */
static void test_flipped(void **state) {
    (void)state;
    size_t n;
    char *bytes = slurp(&n), *bent = (char *)malloc(n);
    uint64_t random = 11;
    int rounds = getenv("LLMGW_SOAK") ? 500 : t_rounds(60);
    assert_non_null(bent);
    for (int i = 0; i < rounds; i++) {
        memcpy(bent, bytes, n);
        for (int k = 0; k < 1 + i % 4; k++) {
            uint64_t r = llmgwi_base_mix(random += LLMGWI_BASE_STEP);
            size_t at = (size_t)(r >> 8) % n;
            if (i % 3 == 0) at = at / 4096 * 4096 + (size_t)(r >> 40) % 64; /* heads of pages */
            bent[at] = (char)((uint64_t)bent[at] ^ (1u << r % 8));
        }
        use_bytes("flipped", i, bent, n);
    }
    free(bent);
    free(bytes);
}

static int before(void **state) {
    (void)state;
    bytes_held = 0;
    return 0;
}

static int after(void **state) { /* also of a test that failed */
    (void)state;
    set_fault(0, 0, false);
    (void)umount2(dir, MNT_DETACH);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, before, after)

int main(int argc, char **argv) {
    if (argc == 4 && !strcmp(argv[1], "--use")) return use_damaged(argv);
    const struct CMUnitTest tests[] = {
        TEST(test_each_call), TEST(test_rests),   TEST(test_disk_full), TEST(test_read_only),
        TEST(test_removed),   TEST(test_cut_off), TEST(test_flipped),
    };
    if (getenv("ONE")) cmocka_set_test_filter(getenv("ONE"));
    return cmocka_run_group_tests(tests, group_start, group_stop);
}
