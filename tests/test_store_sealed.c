/* test_store_sealed.c - a store with a key: what it keeps from whom, and another key, also when that is broken off. */
#define LLMGW_SODIUM
#define LLMGWI_STORE_FAULTS
#include "unit.h"
#include "storing.h"
#include "faults.h"

static const char key_one[33] = "one one one one one one one one ",
                  key_two[33] = "two two two two two two two two ";

static llmgwi_store *sealed_open(const char *key) {
    storing_at.key = key;
    return storing_open();
}

static llmgwi_base_str cut(const char *text) { return llmgwi_base_cstr(text); }

static llmgwi_base_buf sealed_of(llmgwi_store *store, const char *id, const char *text) {
    llmgwi_base_buf out;
    llmgwi_base_buf_init(&out, &unit_mem, 1 << 20);
    assert_true(llmgwi_store_seal(store, cut(id), cut(text), &out));
    return out;
}

static bool opens_as(llmgwi_store *store, const char *id, llmgwi_base_str sealed, const char *text) {
    llmgwi_base_buf out;
    llmgwi_base_buf_init(&out, &unit_mem, 1 << 20);
    bool same = llmgwi_store_unseal(store, cut(id), sealed, &out) && out.n == strlen(text) &&
                !memcmp(llmgwi_base_buf_cstr(&out), text, out.n);
    llmgwi_base_buf_free(&out);
    return same;
}

static void test_seal(void **state) {
    (void)state;
    llmgwi_store *store = sealed_open(key_one);
    assert_true(llmgwi_store_sealed(store));
    llmgwi_base_buf a = sealed_of(store, "id", "a secret"), b = sealed_of(store, "id", "a secret");
    assert_int_equal(a.n, 8 + LLMGWI_STORE_SEAL_BYTES);
    assert_memory_not_equal(a.p, b.p, a.n); /* another nonce */
    assert_false(llmgwi_base_has(llmgwi_base_buf_str(&a), "secret"));
    assert_true(opens_as(store, "id", llmgwi_base_buf_str(&a), "a secret"));
    assert_false(opens_as(store, "di", llmgwi_base_buf_str(&a), "a secret")); /* moved to another record */
    for (size_t i = 0; i < a.n; i++) {
        a.p[i] = (char)(a.p[i] ^ 1);
        assert_false(opens_as(store, "id", llmgwi_base_buf_str(&a), "a secret"));
        a.p[i] = (char)(a.p[i] ^ 1);
        assert_false(opens_as(store, "id", llmgwi_base_view(a.p, i), "a secret"));
    }
    llmgwi_base_buf_free(&b);
    b = sealed_of(store, "", "");
    assert_true(opens_as(store, "", llmgwi_base_buf_str(&b), ""));
    llmgwi_store_close(store, false);
    store = sealed_open(key_one);
    assert_true(opens_as(store, "id", llmgwi_base_buf_str(&a), "a secret"));
    llmgwi_store_close(store, false);
    llmgwi_base_buf_free(&a);
    llmgwi_base_buf_free(&b);
}

static void test_hashes(void **state) {
    unsigned char plain[16], one[16], again[16], other[16];
    llmgwi_store *store = sealed_open(NULL);
    llmgwi_store_digest(store, "text", 4, plain);
    llmgwi_store_close(store, false);
    (void)storing_teardown(state);
    store = sealed_open(key_one);
    llmgwi_store_digest(store, "text", 4, one);
    uint64_t hash = llmgwi_base_hash(llmgwi_store_hasher(store), "text", 4);
    assert_true(hash != llmgwi_base_hash(NULL, "text", 4));
    assert_true(hash != llmgwi_base_hash(llmgwi_store_hasher(store), "texu", 4));
    llmgwi_store_close(store, false);
    store = sealed_open(key_one);
    llmgwi_store_digest(store, "text", 4, again);
    assert_memory_equal(one, again, 16);
    assert_true(hash == llmgwi_base_hash(llmgwi_store_hasher(store), "text", 4));
    llmgwi_store_close(store, false);
    (void)storing_teardown(state);
    store = sealed_open(key_one); /* another store: the same key, and yet other hashes */
    llmgwi_store_digest(store, "text", 4, other);
    llmgwi_store_close(store, false);
    assert_memory_not_equal(plain, one, 16);
    assert_memory_not_equal(other, one, 16);
}

static void test_wrong_key(void **state) {
    llmgwi_store_close(sealed_open(key_one), false);
    storing_at.key = key_two;
    storing_refused("another store.key");
    storing_at.key = NULL;
    storing_refused("store.key is needed");
    llmgwi_store *store = sealed_open(key_one), *same = sealed_open(key_one);
    assert_ptr_equal(store, same);
    storing_at.key = key_two; /* another gateway of this process */
    storing_refused("another store.key");
    storing_at.key = NULL;
    storing_refused("another store.key");
    llmgwi_store_close(store, false);
    llmgwi_store_close(same, false);
    (void)storing_teardown(state);
    llmgwi_store_close(sealed_open(NULL), false);
    storing_at.key = key_one;
    storing_refused("not sealed");
}

/* ---- another key ---- */

#define RECORDS 300

/* Records of ENTRY: four plain bytes, then what is sealed, for their key. */
static bool find_sealed(void *user, int table, llmgwi_base_str key, llmgwi_base_str value, size_t *at,
                        llmgwi_base_str *id) {
    (void)user, (void)value;
    *at = 4;
    *id = key;
    return table == LLMGWI_STORE_ENTRY;
}

static void fill(llmgwi_store *store) {
    llmgwi_store_txn txn;
    assert_true(llmgwi_store_write(store, &txn, true));
    for (int i = 0; i < RECORDS; i++) {
        char key[17], text[32];
        llmgwi_base_buf value;
        (void)snprintf(key, sizeof key, "%016d", i * 7919 % 10007);
        (void)snprintf(text, sizeof text, "answer %d", i);
        llmgwi_base_buf_init(&value, &unit_mem, 1024);
        assert_true(llmgwi_base_buf_text(&value, "head") &&
                    llmgwi_store_seal(store, cut(key), cut(text), &value));
        assert_true(llmgwi_store_put(&txn, LLMGWI_STORE_ENTRY, cut(key), llmgwi_base_buf_str(&value)));
        llmgwi_base_buf_free(&value);
    }
    assert_true(llmgwi_store_end(&txn, true));
}

/* How many records open to this store, and with number as the key that they name. */
static int readable(llmgwi_store *store, int *former) {
    llmgwi_store_txn txn;
    int count = 0;
    *former = 0;
    assert_true(llmgwi_store_read(store, &txn));
    for (int i = 0; i < RECORDS; i++) {
        char key[17], text[32];
        llmgwi_base_str value;
        (void)snprintf(key, sizeof key, "%016d", i * 7919 % 10007);
        (void)snprintf(text, sizeof text, "answer %d", i);
        assert_true(llmgwi_store_get(&txn, LLMGWI_STORE_ENTRY, cut(key), &value));
        assert_true(llmgwi_base_starts(value, "head"));
        count += opens_as(store, key, llmgwi_base_view(value.p + 4, value.n - 4), text);
        *former += (unsigned char)value.p[4] != llmgwi_store_keys_of(store)->ring.number;
    }
    assert_true(llmgwi_store_end(&txn, false));
    return count;
}

static bool others_rekey(void) {
    storing_at.key = key_one;
    llmgwi_store *store = storing_try();
    return store && !llmgwi_store_rekey(store, key_two, find_sealed, NULL, &storing_error);
}

static void test_rekey(void **state) {
    (void)state;
    int former;
    unsigned char before[16], after[16];
    llmgwi_store *store = sealed_open(key_one), *second = sealed_open(key_one);
    fill(store);
    llmgwi_store_digest(store, "x", 1, before);
    assert_false(llmgwi_store_rekey(store, key_two, find_sealed, NULL, &storing_error));
    unit_has(storing_error.text, "another gateway");
    llmgwi_store_close(second, false);
    assert_int_equal(storing_child(others_rekey), 0);
    assert_true(llmgwi_store_rekey(store, key_two, find_sealed, NULL, &storing_error));
    assert_int_equal(readable(store, &former), RECORDS);
    assert_int_equal(former, 0);
    assert_false(llmgwi_store_rotating(store));
    second = sealed_open(key_two); /* also while it is open */
    llmgwi_store_close(second, false);
    llmgwi_store_close(store, false);
    storing_at.key = key_one;
    storing_refused("another store.key");
    store = sealed_open(key_two);
    assert_int_equal(readable(store, &former), RECORDS);
    llmgwi_store_digest(store, "x", 1, after);
    assert_memory_equal(before, after, 16);
    llmgwi_store_close(store, false);
}

static int told;
static void on_log(const llmgw_log_entry *entry, void *user) {
    (void)user;
    told += entry->item == LLMGW_LOG_STORE && strstr(entry->line, "llmgw_store_rekey again") != NULL;
}

/* llmgw_open says so, if a change of keys was broken off. */
static bool gateway_tells(const char *key) {
    llmgw_options options;
    llmgw_error error;
    memset(&options, 0, sizeof options);
    options.config_json = "{}";
    options.no_environment = true;
    options.store = storing_at;
    options.store.key = key;
    options.store.required = true;
    options.log = on_log;
    told = 0;
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) fail_msg("%s", error.text);
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
    return told == 1;
}

static void test_rekey_broken_off(void **state) {
    bool whole = false;
    int former, halves = 0;
    for (int at = 1; !whole && at < 3000; at += 13) {
        (void)storing_teardown(state);
        assert_int_equal(mkdir(storing_dir, 0700), 0);
        llmgwi_store *store = sealed_open(key_one);
        fill(store);
        set_fault(NULL, ENOMEM, at, true);
        whole = llmgwi_store_rekey(store, key_two, find_sealed, NULL, &storing_error);
        no_fault();
        assert_int_equal(readable(store, &former), RECORDS);
        llmgwi_store_close(store, false);
        storing_at.key = key_two;
        store = storing_try();
        if (!store) { /* not even begun */
            store = sealed_open(key_one);
            assert_false(llmgwi_store_rotating(store));
        } else if (!whole) {
            assert_int_equal(readable(store, &former), RECORDS);
            halves += former > 0 && former < RECORDS;
            assert_true(llmgwi_store_rotating(store));
            assert_true(halves != 1 || gateway_tells(key_two));
            assert_true(llmgwi_store_rekey(store, key_two, find_sealed, NULL, &storing_error));
        }
        assert_int_equal(readable(store, &former), RECORDS);
        assert_int_equal(former, 0);
        assert_false(llmgwi_store_rotating(store));
        llmgwi_store_close(store, false);
    }
    assert_true(whole);
    assert_true(halves > 2);
    assert_false(gateway_tells(key_two));
}

/* Nothing of the key or a sealed text is in the files. */
static void test_nothing_leaks(void **state) {
    (void)state;
    llmgwi_store *store = sealed_open(key_one);
    fill(store);
    llmgwi_store_close(store, false);
    FILE *file = fopen(storing_file("data.mdb"), "rb");
    static char bytes[4 << 20];
    assert_non_null(file);
    size_t n = fread(bytes, 1, sizeof bytes, file);
    (void)fclose(file);
    assert_non_null(memmem(bytes, n, "head", 4));
    assert_null(memmem(bytes, n, "answer", 6));
    assert_null(memmem(bytes, n, key_one, 16));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, storing_setup, storing_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_seal),  TEST(test_hashes),           TEST(test_wrong_key),
        TEST(test_rekey), TEST(test_rekey_broken_off), TEST(test_nothing_leaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
