/* test_store_faults.c - every call of LMDB fails, the first, the second, ..., once or from then on: whatever was
   committed is there afterwards, whatever was told to have failed is not, and no lock or slot stays taken. */
#define LLMGWI_STORE_FAULTS
#define LLMGWI_STORE_PAUSE_US 30000
#include "unit.h"
#include "storing.h"
#include "faults.h"

static void test_switched_off(void **state) {
    (void)state;
    static const int codes[] = {MDB_PANIC, MDB_CORRUPTED, MDB_PAGE_NOTFOUND, EIO};
    for (size_t i = 0; i < 4; i++) {
        llmgwi_store *store = storing_open();
        llmgwi_store_txn txn;
        char why[160];
        assert_true(storing_put(store, LLMGWI_STORE_ENTRY, "k", "v"));
        assert_string_equal(llmgwi_store_why(store, why, sizeof why), "");
        set_fault("mdb_get", codes[i], 1, false);
        assert_string_equal(storing_get(store, LLMGWI_STORE_ENTRY, "k"), "");
        no_fault();
        assert_false(llmgwi_store_on(store));
        unit_has(llmgwi_store_why(store, why, sizeof why), mdb_strerror(codes[i]));
        assert_false(llmgwi_store_read(store, &txn));
        assert_false(llmgwi_store_write(store, &txn, true));
        assert_false(llmgwi_store_sync(store));
        llmgwi_store_close(store, false);
        store = storing_open();
        assert_string_equal(storing_get(store, LLMGWI_STORE_ENTRY, "k"), "v");
        llmgwi_store_close(store, false);
    }
}

static void test_disk_full(void **state) {
    (void)state;
    llmgwi_store *store = storing_open();
    llmgwi_store_txn txn;
    char why[160];
    assert_true(storing_put(store, LLMGWI_STORE_ENTRY, "k", "before"));
    set_fault("mdb_txn_commit", ENOSPC, 1, false);
    assert_false(storing_put(store, LLMGWI_STORE_ENTRY, "k", "after"));
    no_fault();
    assert_true(llmgwi_store_on(store));
    unit_has(llmgwi_store_why(store, why, sizeof why), "No space");
    assert_string_equal(storing_get(store, LLMGWI_STORE_ENTRY, "k"), "before");
    assert_false(llmgwi_store_write(store, &txn, true)); /* for a while */
    usleep(40000);
    assert_true(storing_put(store, LLMGWI_STORE_ENTRY, "k", "later"));
    assert_string_equal(llmgwi_store_why(store, why, sizeof why), "");
    set_fault("mdb_put", MDB_MAP_FULL, 1, false);
    assert_true(llmgwi_store_write(store, &txn, true));
    assert_false(llmgwi_store_put(&txn, LLMGWI_STORE_ENTRY, llmgwi_base_cstr("k"), llmgwi_base_cstr("x")));
    assert_true(llmgwi_store_was_full(&txn));
    no_fault();
    assert_true(llmgwi_store_put(&txn, LLMGWI_STORE_ENTRY, llmgwi_base_cstr("l"), llmgwi_base_cstr("x")));
    assert_false(llmgwi_store_end(&txn, true)); /* a half group is not committed */
    assert_string_equal(storing_get(store, LLMGWI_STORE_ENTRY, "l"), "");
    assert_true(storing_put(store, LLMGWI_STORE_ENTRY, "k", "last"));
    llmgwi_store_close(store, false);
}

static void test_readers_full(void **state) {
    (void)state;
    llmgwi_store *store = storing_open();
    llmgwi_store_txn txn;
    set_fault("mdb_txn_begin", MDB_READERS_FULL, 1, false);
    assert_true(llmgwi_store_read(store, &txn)); /* the dead are cleared away, and it is tried again */
    assert_int_equal(fault_seen, 2);
    assert_true(llmgwi_store_end(&txn, false));
    set_fault("mdb_txn_renew", MDB_READERS_FULL, 1, true);
    assert_false(llmgwi_store_read(store, &txn));
    no_fault();
    assert_true(llmgwi_store_on(store));
    assert_true(llmgwi_store_read(store, &txn));
    assert_true(llmgwi_store_end(&txn, false));
    llmgwi_store_close(store, false);
}

static void test_map_cannot_grow(void **state) {
    (void)state;
    llmgwi_store *store = storing_open();
    llmgwi_store_txn txn;
    assert_true(storing_put(store, LLMGWI_STORE_ENTRY, "k", "v"));
    assert_string_equal(storing_get(store, LLMGWI_STORE_ENTRY, "k"), "v");
    set_fault("mdb_txn_renew", MDB_MAP_RESIZED, 1, false);
    assert_true(llmgwi_store_read(store, &txn)); /* adopts the size, which is the same */
    assert_true(llmgwi_store_end(&txn, false));
    set_fault("mdb_txn_begin", MDB_MAP_RESIZED, 1, false);
    assert_true(storing_put(store, LLMGWI_STORE_ENTRY, "k", "w"));
    assert_int_equal(fault_seen, 3); /* the writer's, one to find the map, the writer's again */
    /* while somebody reads, the map stays, and it is a miss */
    no_fault();
    llmgwi_store_txn other;
    assert_true(llmgwi_store_read(store, &other));
    set_fault("mdb_txn_begin", MDB_MAP_RESIZED, 1, true);
    assert_false(llmgwi_store_read(store, &txn));
    no_fault();
    assert_true(llmgwi_store_on(store));
    assert_true(llmgwi_store_end(&other, false));
    assert_true(llmgwi_store_read(store, &txn));
    assert_true(llmgwi_store_end(&txn, false));
    llmgwi_store_close(store, false);
}

/* A bit of everything; numbers what was committed. */
static int scenario(llmgwi_store *store) {
    int committed = 0;
    for (uint64_t i = 1; i <= 4; i++) {
        llmgwi_store_txn txn;
        llmgwi_store_cursor cursor;
        llmgwi_base_str key, value;
        if (!llmgwi_store_write(store, &txn, true)) continue;
        bool fine = llmgwi_store_put(&txn, LLMGWI_STORE_ASK, storing_u64(&i), storing_u64(&i)) &&
                    storing_dup(&txn, "0123456789abcdef", i) &&
                    llmgwi_store_reserve(&txn, LLMGWI_STORE_UNIT, storing_u64(&i), 16) &&
                    llmgwi_store_id(&txn) && llmgwi_store_cursor_open(&txn, LLMGWI_STORE_ASK, &cursor);
        if (fine) {
            fine = llmgwi_store_move(&cursor, LLMGWI_STORE_LAST, &key, &value);
            llmgwi_store_cursor_close(&cursor);
        }
        if (llmgwi_store_end(&txn, fine) && fine) committed |= 1 << i;
        if (llmgwi_store_read(store, &txn)) {
            (void)llmgwi_store_get(&txn, LLMGWI_STORE_ASK, storing_u64(&i), &value);
            (void)llmgwi_store_count(&txn, LLMGWI_STORE_ASK);
            (void)llmgwi_store_used_bytes(&txn);
            (void)llmgwi_store_end(&txn, false);
        }
    }
    (void)llmgwi_store_sync(store);
    return committed;
}

static void is_committed(llmgwi_store *store, int committed) {
    for (uint64_t i = 1; i <= 4; i++) {
        llmgwi_store_txn txn;
        llmgwi_base_str value;
        assert_true(llmgwi_store_read(store, &txn));
        bool there = (committed >> i & 1) != 0;
        assert_int_equal(llmgwi_store_get(&txn, LLMGWI_STORE_ASK, storing_u64(&i), &value), there);
        assert_int_equal(llmgwi_store_get(&txn, LLMGWI_STORE_UNIT, storing_u64(&i), &value), there);
        assert_true(llmgwi_store_end(&txn, false));
    }
    assert_int_equal(storing_count(store, LLMGWI_STORE_ASK), storing_count(store, LLMGWI_STORE_TAIL));
}

static void no_slot_taken(llmgwi_store *store) {
    for (size_t i = 0; i < store->slot_count; i++) assert_false(store->slots[i].busy);
    assert_false(store->writing);
    assert_int_equal(store->hold, 0);
}

static void test_each(void **state) {
    static const int codes[] = {ENOMEM, EIO, ENOSPC, MDB_MAP_FULL, MDB_CORRUPTED, MDB_BAD_TXN};
    for (int c = 0; c < 6; c++) {
        bool done = false;
        for (int at = 1; !done && at < 400; at++) {
            (void)storing_teardown(state);
            assert_int_equal(mkdir(storing_dir, 0700), 0);
            set_fault(NULL, codes[c], at, at % 2 == 0);
            llmgwi_store *store = storing_try();
            if (!store) assert_int_equal(storing_error.code, LLMGW_E_STORE);
            int committed = store ? scenario(store) : 0;
            done = fault_seen < at; /* nothing failed */
            no_fault();
            if (store) no_slot_taken(store);
            llmgwi_store_close(store, false);
            store = storing_open();
            is_committed(store, committed);
            if (done) assert_int_equal(committed, 2 + 4 + 8 + 16);
            llmgwi_store_close(store, false);
        }
        assert_true(done);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, storing_setup, storing_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_switched_off),    TEST(test_disk_full), TEST(test_readers_full),
        TEST(test_map_cannot_grow), TEST(test_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
