/* test_ledger_sealed.c - the ledger of a sealed store: no name, tag or request id can be read in its files, what is
   sealed says what it said, and goes on under another key. */
#define LLMGW_SODIUM
#include "unit.h"
#include "storing.h"

static unsigned char first_key[32], second_key[32];

static int setup(void **state) {
    memset(first_key, 11, sizeof first_key);
    memset(second_key, 22, sizeof second_key);
    int made = storing_setup(state);
    storing_at.key = first_key;
    return made;
}

static const char *const secrets[] = {"verysecretroute", "secretprovider", "secretmodel-9", "secretecho",
                                      "secretkeyname",   "secrettag-blue", "req_secret_77"};

/* None of the secrets stands in any file. */
static void nothing_readable(void) {
    static const char *const files[] = {"data.mdb", "live/data.mdb"};
    for (size_t f = 0; f < 2; f++) {
        FILE *file = fopen(storing_file(files[f]), "rb");
        assert_non_null(file);
        static char bytes[4 << 20];
        size_t n = fread(bytes, 1, sizeof bytes, file);
        (void)fclose(file);
        assert_true(n > 10000);
        for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++)
            if (memmem(bytes, n, secrets[i], strlen(secrets[i]))) fail_msg("%s: %s", files[f], secrets[i]);
    }
}

static int rows;

static bool check_row(const llmgw_ledger_row *row, void *user) {
    (void)user;
    assert_string_equal(row->route, secrets[0]);
    assert_string_equal(row->provider, secrets[1]);
    assert_string_equal(row->model, secrets[2]);
    assert_int_equal(row->tag_count, 1);
    assert_string_equal(row->tags[0], secrets[5]);
    assert_string_equal(row->key, secrets[4]);
    if (!row->recovered) {
        assert_string_equal(row->model_echo, secrets[3]);
        assert_string_equal(row->request_id, secrets[6]);
    }
    rows++;
    return true;
}

static bool check_total(const llmgw_ledger_total *total, void *user) {
    (void)user;
    assert_string_equal(total->tag, secrets[5]);
    assert_int_equal(total->attempts, rows);
    return true;
}

static void attempt(llmgwi_ledger *ledger, bool ends) {
    llmgwi_ledger_intent intent, *list[] = {&intent};
    llmgw_ledger_row row;
    memset(&intent, 0, sizeof intent);
    memset(&row, 0, sizeof row);
    row.route = intent.route = secrets[0];
    row.provider = intent.provider = secrets[1];
    row.model = intent.model = secrets[2];
    row.model_echo = secrets[3];
    row.key = intent.key = secrets[4];
    row.tags = intent.tags = &secrets[5];
    row.tag_count = intent.tag_count = 1;
    row.request_id = secrets[6];
    row.epoch = intent.epoch = 1;
    intent.reserved.known = true;
    intent.reserved.pico_usd = 100;
    for (int i = 0; i < 3; i++) intent.key_pico[i] = 100000;
    assert_int_equal(llmgwi_ledger_begin(ledger, list, 1), 1);
    assert_int_equal(intent.code, LLMGW_OK);
    row.time_us = (int64_t)intent.number;
    if (ends) llmgwi_ledger_settle(ledger, intent.number, &row);
}

static llmgwi_ledger *open_ledger(llmgwi_store *main) {
    llmgwi_ledger *ledger =
        llmgwi_ledger_open(&unit_mem, &llmgwi_base_real_clock, main, &storing_at, NULL, 0, 0, &storing_error);
    if (!ledger) fail_msg("%s", storing_error.text);
    return ledger;
}

static void check_all(llmgwi_ledger *ledger, int want) {
    rows = 0;
    assert_int_equal(llmgwi_ledger_query(ledger, NULL, check_row, NULL), want);
    assert_int_equal(rows, want);
    assert_int_equal(llmgwi_ledger_totals(ledger, NULL, LLMGW_BY_TAG, check_total, NULL), 1);
}

static void test_sealed(void **state) {
    (void)state;
    llmgwi_store *main = storing_open();
    llmgwi_ledger *ledger = open_ledger(main);
    for (int i = 0; i < 50; i++) attempt(ledger, i % 10 != 0);
    (void)llmgwi_ledger_duty(ledger, 0, true);
    (void)llmgwi_store_sync(ledger->live);
    nothing_readable();
    check_all(ledger, 45);
    llmgwi_ledger_close(ledger, false);
    ledger = open_ledger(main); /* the five that did not end */
    (void)llmgwi_ledger_duty(ledger, 0, true);
    check_all(ledger, 50);
    llmgwi_ledger_close(ledger, false);
    llmgwi_store_close(main, false);
    nothing_readable();
}

/* Where sealed parts begin is known of every record: the main store is sealed anew, the live one, empty by then, is
   made anew. */
static void test_rekey(void **state) {
    (void)state;
    llmgwi_store *main = storing_open();
    llmgwi_ledger *ledger = open_ledger(main);
    for (int i = 0; i < 20; i++) attempt(ledger, true);
    llmgwi_ledger_close(ledger, false);
    if (!llmgwi_store_rekey(main, second_key, llmgwi_ledger_sealed_part, NULL, &storing_error))
        fail_msg("%s", storing_error.text);
    llmgwi_store_close(main, false);
    storing_refused("another store.key");
    storing_at.key = second_key;
    main = storing_open();
    ledger = open_ledger(main);
    check_all(ledger, 20);
    attempt(ledger, true);
    (void)llmgwi_ledger_duty(ledger, 0, true);
    check_all(ledger, 21);
    llmgwi_ledger_close(ledger, false);
    llmgwi_store_close(main, false);
    nothing_readable();
}

/* Every record of both stores, moved to the live one's rekey as well. */
static void test_rekey_live(void **state) {
    (void)state;
    llmgwi_store *main = storing_open();
    llmgwi_ledger *ledger = open_ledger(main);
    attempt(ledger, false);
    attempt(ledger, true);
    assert_true(llmgwi_ledger_turn(ledger, true));
    assert_true(
        llmgwi_store_rekey(ledger->live, second_key, llmgwi_ledger_sealed_part, NULL, &storing_error));
    (void)llmgwi_ledger_duty(ledger, 0, true);
    check_all(ledger, 1);
    llmgwi_ledger_close(ledger, false);
    llmgwi_store_close(main, false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sealed, setup, storing_teardown),
        cmocka_unit_test_setup_teardown(test_rekey, setup, storing_teardown),
        cmocka_unit_test_setup_teardown(test_rekey_live, setup, storing_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
