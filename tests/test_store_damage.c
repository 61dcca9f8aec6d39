/* test_store_damage.c - files that were cut off or written over, and processes killed while they write: the store
   opens or is refused, and no process ends by a signal. LLMGW_SOAK=1: many more rounds. */
#include "unit.h"
#include "storing.h"

/* ---- damage ---- */

/* A store with everything LMDB has: long values, many and few duplicates, free pages, several levels. */
static void fill(llmgwi_store *store) {
    llmgwi_store_txn txn;
    static char big[20000];
    assert_true(llmgwi_store_write(store, &txn, true));
    for (uint64_t i = 0; i < 600; i++) {
        size_t n = i % 50 ? 100 + (size_t)i % 300 : sizeof big;
        assert_true(llmgwi_store_put(&txn, LLMGWI_STORE_ASK, storing_u64(&i), llmgwi_base_view(big, n)));
        assert_true(storing_dup(&txn, i % 3 ? "manymanymanymany" : "fewfewfewfewfewf", i / (i % 3 ? 1 : 50)));
        char key[17];
        (void)snprintf(key, sizeof key, "%016llx", (unsigned long long)llmgwi_base_mix(i));
        assert_true(
            llmgwi_store_put(&txn, LLMGWI_STORE_ENTRY, llmgwi_base_cstr(key), llmgwi_base_view(big, 300)));
    }
    assert_true(llmgwi_store_end(&txn, true));
    assert_true(llmgwi_store_write(store, &txn, true));
    for (uint64_t i = 0; i < 600; i += 3)
        assert_true(llmgwi_store_del(&txn, LLMGWI_STORE_ASK, storing_u64(&i), NULL));
    assert_true(llmgwi_store_end(&txn, true));
}

/* Everything is read, and something written. What is found may be anything, but the process may not end. */
static bool use_all(llmgwi_store *store) {
    llmgwi_store_txn txn;
    llmgwi_store_cursor cursor;
    volatile unsigned char sum = 0;
    if (!llmgwi_store_read(store, &txn)) return true;
    for (int table = 0; table < LLMGWI_STORE_TABLE_COUNT; table++) {
        llmgwi_base_str key, value;
        if (!llmgwi_store_cursor_open(&txn, table, &cursor)) continue;
        bool more = llmgwi_store_move(&cursor, LLMGWI_STORE_FIRST, &key, &value);
        for (int i = 0; more && i < 5000; i++) {
            for (size_t b = 0; b < value.n; b += 64) sum = (unsigned char)(sum + (unsigned char)value.p[b]);
            more = llmgwi_store_move(&cursor, LLMGWI_STORE_NEXT, &key, &value);
        }
        llmgwi_store_cursor_close(&cursor);
    }
    (void)llmgwi_store_used_bytes(&txn);
    (void)llmgwi_store_end(&txn, false);
    for (uint64_t i = 0; i < 20; i++) {
        if (!llmgwi_store_write(store, &txn, true)) return true;
        uint64_t at = i * 31;
        (void)llmgwi_store_del(&txn, LLMGWI_STORE_ASK, storing_u64(&at), NULL);
        (void)llmgwi_store_put(&txn, LLMGWI_STORE_ASK, storing_u64(&at), llmgwi_base_view(storing_dir, 60));
        (void)storing_dup(&txn, "manymanymanymany", 10000 + i);
        (void)llmgwi_store_end(&txn, true);
    }
    return true;
}

static bool open_and_use(void) {
    llmgwi_store *store = storing_try();
    bool fine = store ? use_all(store) : storing_error.code == LLMGW_E_STORE;
    llmgwi_store_close(store, false);
    return fine;
}

static char *slurp(const char *path, size_t *n) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char *bytes = (char *)malloc(8 << 20);
    assert_non_null(bytes);
    *n = fread(bytes, 1, 8 << 20, file);
    assert_int_equal(fclose(file), 0);
    return bytes;
}

static void test_cut_off(void **state) {
    (void)state;
    llmgwi_store *store = storing_open();
    fill(store);
    llmgwi_store_close(store, false);
    size_t n;
    char *bytes = slurp(storing_file("data.mdb"), &n);
    int refused = 0, tried = 0;
    for (size_t at = 1; at < n; at += at < 20000 ? 1999 : 40009, tried++) {
        storing_spill(storing_file("data.mdb"), bytes, at);
        store = storing_try();
        if (!store) refused++;
        llmgwi_store_close(store, false);
        storing_spill(storing_file("data.mdb"), bytes, at);
        assert_int_equal(storing_child(open_and_use), 0);
    }
    assert_in_range(refused, tried * 3 / 4, tried);
    storing_spill(storing_file("data.mdb"), bytes, n);
    llmgwi_store_close(storing_open(), false);
    free(bytes);
}

static void test_damaged(void **state) {
    (void)state;
    llmgwi_store *store = storing_open();
    fill(store);
    llmgwi_store_close(store, false);
    size_t n;
    char *bytes = slurp(storing_file("data.mdb"), &n), *hurt = (char *)malloc(n);
    uint64_t random = 7, rounds = getenv("LLMGW_SANITIZED") ? 25 : getenv("LLMGW_SOAK") ? 20000 : 100;
    assert_non_null(hurt);
    for (uint64_t round = 0; round < rounds; round++) {
        memcpy(hurt, bytes, n);
        for (int i = 0; i < 1 + (int)(round % 8); i++) {
            uint64_t r = llmgwi_base_mix(random += LLMGWI_BASE_STEP);
            /* half of them where LMDB looks: page heads and indices */
            size_t at = (size_t)(r >> 8) % n;
            if (round % 2) at = at / 4096 * 4096 + (size_t)(r >> 40) % 48;
            hurt[at] = (char)(round % 3 ? r : (uint64_t)hurt[at] ^ 1u << r % 8);
        }
        storing_spill(storing_file("data.mdb"), hurt, n);
        int ended = storing_child(open_and_use);
        if (ended) fail_msg("round %d: the process ended with %d", (int)round, ended);
    }
    free(hurt);
    free(bytes);
}

/* ---- kill -9 ---- */

static void kill_child(uint64_t seed) {
    llmgwi_store *store = storing_try();
    uint64_t group = seed << 20;
    while (store) {
        llmgwi_store_txn txn;
        bool fine = llmgwi_store_write(store, &txn, true);
        group++;
        for (uint64_t i = 0; i < 8 && fine; i++)
            fine = llmgwi_store_put(&txn, LLMGWI_STORE_ASK, storing_u64(&i), storing_u64(&group)) &&
                   llmgwi_store_put(&txn, LLMGWI_STORE_CLASS, storing_u64(&group), storing_u64(&i)) &&
                   storing_dup(&txn, "0123456789abcdef", group * 8 + i);
        if (!fine || !llmgwi_store_end(&txn, true)) _exit(1);
    }
    _exit(2);
}

static void test_kill(void **state) {
    (void)state;
    storing_at.max_bytes = 64 << 20;
    llmgwi_store *store;
    uint64_t groups = 0;
    int rounds = getenv("LLMGW_SANITIZED") ? 20 : 200;
    for (int round = 1; round <= rounds; round++) {
        pid_t child = fork();
        if (child == 0) kill_child((uint64_t)round);
        usleep(500 + (useconds_t)(llmgwi_base_mix((uint64_t)round) % 4000));
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(storing_wait(child), 128 + SIGKILL);
        store = storing_open();
        llmgwi_store_txn txn;
        llmgwi_base_str value;
        uint64_t first = 0, zero = 0;
        assert_true(llmgwi_store_read(store, &txn));
        if (llmgwi_store_get(&txn, LLMGWI_STORE_ASK, storing_u64(&zero), &value))
            first = llmgwi_store_u64((const unsigned char *)value.p);
        for (uint64_t i = 0; i < 8 && first; i++) {
            assert_true(llmgwi_store_get(&txn, LLMGWI_STORE_ASK, storing_u64(&i), &value));
            assert_int_equal(llmgwi_store_u64((const unsigned char *)value.p), first);
        }
        if (first) assert_true(llmgwi_store_get(&txn, LLMGWI_STORE_CLASS, storing_u64(&first), &value));
        groups = llmgwi_store_count(&txn, LLMGWI_STORE_CLASS);
        assert_int_equal(llmgwi_store_count(&txn, LLMGWI_STORE_TAIL), groups * 8);
        (void)llmgwi_store_end(&txn, false);
        llmgwi_store_close(store, false);
    }
    assert_true(groups > (uint64_t)rounds); /* they got to write */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, storing_setup, storing_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {TEST(test_cut_off), TEST(test_damaged), TEST(test_kill)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
