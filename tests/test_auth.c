/* test_auth.c - scoped keys: their text, what they allow, until when, who revokes them, and what stands in the
   store's files. Most tests run over a plain store and over a sealed one. */
#define LLMGW_SODIUM
#define LLMGWI_STORE_FAULTS
#include "unit.h"
#include "storing.h"
#include "faults.h"

#include <limits.h>
#include <math.h>

/* ---- a store, keys ---- */

/* In place of LMDB's own: the thousands of keys made here need not wait for the disk, but each has to say that it
   would. */
static int synced;

int mdb_env_sync(MDB_env *env, int force) {
    (void)env;
    synced += force;
    return MDB_SUCCESS;
}

#define NOW 1795000000 /* 2026-11-18 */

static unsigned char first_key[32], second_key[32];
static llmgwi_store *store;
static llmgw_error error;

static int setup_plain(void **state) {
    no_fault();
    memset(first_key, 11, sizeof first_key);
    memset(second_key, 22, sizeof second_key);
    int made = storing_setup(state);
    if (!made) store = storing_open();
    return made;
}

static int setup_sealed(void **state) {
    int made = setup_plain(state);
    if (made) return made;
    llmgwi_store_close(store, false);
    storing_remove(storing_dir);
    storing_at.key = first_key;
    store = storing_open();
    return 0;
}

static int teardown(void **state) {
    if (store) llmgwi_store_close(store, false);
    store = NULL;
    return storing_teardown(state);
}

static llmgw_key a_key(const char *name) {
    llmgw_key key;
    memset(&key, 0, sizeof key);
    key.name = name;
    return key;
}

typedef struct text {
    char of[LLMGW_KEY_TEXT];
} text;

static text make(const llmgw_key *key) {
    text made;
    memset(&error, 0, sizeof error);
    memset(&made, 'x', sizeof made);
    llmgw_code code = llmgwi_auth_create(store, key, NOW, made.of, &error);
    if (code) fail_msg("%s: %s", key->name, error.text);
    return made;
}

static text make_named(const char *name) {
    llmgw_key key = a_key(name);
    return make(&key);
}

/* Nothing is made, and secret holds nothing. */
static void not_made(const llmgw_key *key, llmgw_code want, const char *part) {
    static const char zeros[LLMGW_KEY_TEXT];
    uint64_t before = llmgwi_store_on(store) ? storing_count(store, LLMGWI_STORE_KEY) : 0;
    char secret[LLMGW_KEY_TEXT] = {0};
    memset(&error, 0, sizeof error);
    assert_int_equal(llmgwi_auth_create(store, key, NOW, secret, &error), want);
    assert_int_equal(error.code, want);
    unit_has(error.text, part);
    assert_memory_equal(secret, zeros, sizeof secret);
    if (before) assert_int_equal(storing_count(store, LLMGWI_STORE_KEY), before);
}

static llmgwi_auth_key allowed; /* by the last check */

static llmgw_code check_for(const char *secret, const char *model) {
    memset(&allowed, 0x55, sizeof allowed);
    return llmgwi_auth_check(store, secret, NOW, &allowed, model);
}

static llmgw_code check(const char *secret) { return check_for(secret, "openai/gpt-5"); }

#define opens(secret) assert_int_equal(check(secret), LLMGW_OK)
#define refused(secret) assert_int_equal(check(secret), LLMGW_E_UNAUTHORIZED)

/* ---- making and checking ---- */

static void test_create(void **state) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (void)state;
    synced = 0;
    text secret = make_named("alice");
    assert_int_equal(synced, 1);
    assert_int_equal(strlen(secret.of), 61);
    assert_memory_equal(secret.of, "llmgw-", 6);
    assert_int_equal(strspn(secret.of + 6, letters), 55);
    assert_int_equal(secret.of[17], '-');
    opens(secret.of);
    assert_string_equal(allowed.name, "alice");
    assert_string_equal(allowed.name_space, "");
    assert_int_equal(allowed.rpm + allowed.tpm + allowed.concurrency + allowed.expires_s, 0);
    assert_int_equal(allowed.day_pico, -1);
    assert_int_equal(allowed.month_pico, -1);
    assert_int_equal(allowed.total_pico, -1);
    text other = make_named("bob");
    opens(other.of);
    assert_string_equal(allowed.name, "bob");
    opens(secret.of);
    assert_string_equal(allowed.name, "alice");
}

static void test_fields(void **state) {
    char space[257], name[65];
    (void)state;
    memset(space, 's', sizeof space);
    memset(name, 'n', sizeof name);
    space[256] = name[64] = 0;
    llmgw_key key = a_key(name);
    key.cache_namespace = space;
    key.rpm = INT32_MAX;
    key.tpm = INT64_MAX / 1024;
    key.concurrency = INT_MAX;
    key.per_day_usd = llmgw_set(0);
    key.per_month_usd = llmgw_set(0.1);
    key.total_usd = llmgw_set(9000000);
    key.expires_s = NOW + 1;
    text secret = make(&key);
    llmgwi_store_close(store, false); /* it is kept */
    store = storing_open();
    opens(secret.of);
    assert_string_equal(allowed.name, name);
    assert_string_equal(allowed.name_space, space);
    assert_int_equal(allowed.rpm, INT32_MAX);
    assert_int_equal(allowed.tpm, INT64_MAX / 1024);
    assert_int_equal(allowed.concurrency, INT_MAX);
    assert_int_equal(allowed.day_pico, 0);
    assert_int_equal(allowed.month_pico, 100000000000);
    assert_int_equal(allowed.total_pico, 9000000000000000000);
    assert_int_equal(allowed.expires_s, NOW + 1);
    key = a_key("none");
    key.cache_namespace = "";
    secret = make(&key);
    opens(secret.of);
    assert_string_equal(allowed.name_space, "");
}

/* Adds up the bits of the 54 base64url digits: 11 of the number, 43 of the secret. */
static void count_bits(const char *secret, int *ones) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (size_t i = 0; i < 54; i++) {
        int digit = (int)(strchr(letters, secret[6 + i + (i > 10)]) - letters);
        for (int b = 0; b < 6; b++) ones[6 * (int)i + b] += digit >> (5 - b) & 1;
    }
}

static int by_text(const void *a, const void *b) { return strcmp((const char *)a, (const char *)b); }

/* Of 1,000 keys none are equal, by number neither; and each of the 64 + 256 bits is one in about half of them (within
   six standard deviations of 15.8). */
static void test_random(void **state) {
    enum { KEYS = 1000 };
    static text keys[KEYS];
    static int ones[54 * 6];
    (void)state;
    memset(ones, 0, sizeof ones);
    for (int i = 0; i < KEYS; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "key%d", i);
        keys[i] = make_named(name);
        count_bits(keys[i].of, ones);
    }
    for (int i = 0; i < 54 * 6; i++) {
        bool padding = i == 64 || i == 65 || i >= 66 + 256;
        if (padding ? ones[i] != 0 : abs(ones[i] - KEYS / 2) > 95) fail_msg("bit %d: %d times", i, ones[i]);
    }
    for (int i = 0; i < KEYS; i += 97) opens(keys[i].of);
    qsort(keys, KEYS, sizeof *keys, by_text);
    for (int i = 1; i < KEYS; i++) assert_memory_not_equal(keys[i - 1].of, keys[i].of, 17);
    for (int i = 0; i < KEYS; i++) memmove(keys[i].of, keys[i].of + 17, 45);
    qsort(keys, KEYS, sizeof *keys, by_text);
    for (int i = 1; i < KEYS; i++) assert_string_not_equal(keys[i - 1].of, keys[i].of);
}

/* ---- what does not open ---- */

/* Each byte, changed to each other value. */
static void test_changed(void **state) {
    (void)state;
    text secret = make_named("alice");
    (void)make_named("bob");
    for (size_t at = 0; at < 61; at++)
        for (int c = 0; c < 256; c++) {
            text wrong = secret;
            if ((unsigned char)secret.of[at] == c) continue;
            wrong.of[at] = (char)c;
            if (check(wrong.of) != LLMGW_E_UNAUTHORIZED) fail_msg("byte %zu as %d", at, c);
        }
    opens(secret.of);
}

/* In a block of its own size: a byte read too far is seen by valgrind and the sanitizers. */
static void refused_copy(const char *bytes, size_t n) {
    char *copy = (char *)malloc(n + 1);
    assert_non_null(copy);
    memcpy(copy, bytes, n);
    copy[n] = 0;
    if (check(copy) != LLMGW_E_UNAUTHORIZED) fail_msg("%zu bytes: %s", n, copy);
    free(copy);
}

static void test_lengths(void **state) {
    static char longer[100000];
    (void)state;
    text secret = make_named("alice"), other = make_named("bob");
    for (size_t n = 0; n < 61; n++) refused_copy(secret.of, n);
    for (int c = 1; c < 256; c++) {
        memcpy(longer, secret.of, 61);
        longer[61] = (char)c;
        refused_copy(longer, 62);
    }
    memset(longer + 61, '=', sizeof longer - 61);
    for (size_t n = 62; n < 80; n++) refused_copy(longer, n);
    refused_copy(longer, sizeof longer);
    memset(longer, 'A', sizeof longer);
    refused_copy(longer, sizeof longer);
    refused_copy("", 0);
    refused_copy("llmgw-", 6);
    for (size_t at = 7; at < 61; at++) { /* the halves of two keys are no key */
        text mixed = other;
        memcpy(mixed.of, secret.of, at);
        if (strcmp(mixed.of, secret.of) && strcmp(mixed.of, other.of)) refused_copy(mixed.of, 61);
    }
    longer[0] = ' '; /* white space in front of it */
    memcpy(longer + 1, secret.of, 61);
    refused_copy(longer, 62);
    opens(secret.of);
    opens(other.of);
}

static void test_hostile(void **state) {
    (void)state;
    text secret = make_named("alice");
    for (int i = 0; i < 3000; i++) {
        char bytes[200];
        size_t n = (size_t)llmgwi_base_random(NULL) % 70 + 1;
        for (size_t b = 0; b < n; b++) bytes[b] = (char)((llmgwi_base_random(NULL) >> 20 & 255) | 1);
        if (i % 2) memcpy(bytes, secret.of, n < 17 ? n : 17);
        refused_copy(bytes, n);
    }
    opens(secret.of);
}

/* ---- revoking ---- */

static void test_revoke(void **state) {
    (void)state;
    assert_int_equal(llmgwi_auth_revoke(store, "alice"), LLMGW_E_NOT_FOUND);
    text secret = make_named("alice"), other = make_named("bob");
    opens(secret.of);
    assert_int_equal(llmgwi_auth_revoke(store, "alic"), LLMGW_E_NOT_FOUND);
    assert_int_equal(llmgwi_auth_revoke(store, "Alice"), LLMGW_E_NOT_FOUND);
    assert_int_equal(llmgwi_auth_revoke(store, ""), LLMGW_E_NOT_FOUND);
    opens(secret.of);
    synced = 0;
    assert_int_equal(llmgwi_auth_revoke(store, "alice"), LLMGW_OK);
    assert_int_equal(synced, 1);
    refused(secret.of);
    opens(other.of);
    assert_int_equal(llmgwi_auth_revoke(store, "alice"), LLMGW_E_NOT_FOUND);
    assert_int_equal(storing_count(store, LLMGWI_STORE_KEY), 2);
    llmgw_key key = a_key("bob");
    not_made(&key, LLMGW_E_ARGUMENT, "there is a key of this name");
    opens(other.of);
    text again = make_named("alice"); /* the name is free again; the old text is not */
    opens(again.of);
    refused(secret.of);
    assert_string_not_equal(again.of, secret.of);
}

static text shared_secret;
static int to_child[2], to_parent[2];

/* Opens the store for itself, says that the key opens, and waits to be told that it was revoked. */
static bool other_process(void) {
    char byte = 'o';
    store = storing_try();
    if (!store || read(to_child[0], &shared_secret, sizeof shared_secret) != (ssize_t)sizeof shared_secret)
        return false;
    bool before = check(shared_secret.of) == LLMGW_OK;
    if (write(to_parent[1], &byte, 1) != 1 || read(to_child[0], &byte, 1) != 1) return false;
    return before && check(shared_secret.of) == LLMGW_E_UNAUTHORIZED;
}

static void test_other_process(void **state) {
    (void)state;
    char byte;
    llmgwi_store_close(store, false);
    store = NULL;
    assert_int_equal(pipe(to_child) | pipe(to_parent), 0);
    pid_t child = fork();
    if (child == 0) {
        for (int s = 1; s < 20; s++) (void)signal(s, SIG_DFL);
        (void)alarm(20);
        _exit(other_process() ? 0 : 1);
    }
    assert_true(child > 0);
    store = storing_open();
    shared_secret = make_named("alice");
    assert_int_equal(write(to_child[1], &shared_secret, sizeof shared_secret), sizeof shared_secret);
    (void)close(to_parent[1]);
    assert_int_equal(read(to_parent[0], &byte, 1), 1);
    assert_int_equal(llmgwi_auth_revoke(store, "alice"), LLMGW_OK);
    assert_int_equal(write(to_child[1], "r", 1), 1);
    assert_int_equal(storing_wait(child), 0);
    (void)close(to_child[0]), (void)close(to_child[1]), (void)close(to_parent[0]);
}

/* ---- expiry, models ---- */

static void test_expiry(void **state) {
    (void)state;
    llmgw_key key = a_key("alice");
    key.expires_s = NOW + 100;
    text secret = make(&key), eternal = make_named("bob");
    for (int64_t s = 0; s < 100; s++)
        assert_int_equal(llmgwi_auth_check(store, secret.of, NOW + s, &allowed, "m"), LLMGW_OK);
    for (int64_t s = 100; s < 200; s++)
        assert_int_equal(llmgwi_auth_check(store, secret.of, NOW + s, &allowed, "m"), LLMGW_E_UNAUTHORIZED);
    assert_int_equal(llmgwi_auth_check(store, secret.of, INT64_MAX, &allowed, "m"), LLMGW_E_UNAUTHORIZED);
    assert_int_equal(llmgwi_auth_check(store, eternal.of, INT64_MAX, &allowed, "m"), LLMGW_OK);
    key.name = "carol";
    key.expires_s = NOW;
    not_made(&key, LLMGW_E_ARGUMENT, "key.expires_s");
    key.expires_s = -1;
    not_made(&key, LLMGW_E_ARGUMENT, "key.expires_s");
    key.expires_s = NOW + 1;
    (void)make(&key);
    key.name = "dave";
    key.expires_s = INT64_MAX;
    secret = make(&key);
    assert_int_equal(llmgwi_auth_check(store, secret.of, INT64_MAX - 1, &allowed, "m"), LLMGW_OK);
}

static void test_models(void **state) {
    static const char *const models[] = {"fast", "openai/gpt-5", "groq/*", "*", "/*", "a/b/*"};
    static const struct {
        const char *model;
        bool allowed;
    } cases[] = {
        {"fast", true},         {"fas", false},        {"faster", false},      {"Fast", false},
        {"openai/gpt-5", true}, {"openai/", false},    {"openai", false},      {"openai/gpt-5-mini", false},
        {"groq/llama", true},   {"groq/a/b", true},    {"groq", false},        {"groqq/llama", false},
        {"xgroq/llama", false}, {"GROQ/llama", false}, {"groq/*", true},       {"*", true},
        {"anything", false},    {"", false},           {"mistral/x", false},   {"a/b/c", true},
        {"a/bc", false},        {"a/c", false},        {"anthropic/*", false}, {"/rooted", true},
    };
    (void)state;
    llmgw_key key = a_key("alice");
    key.models = models;
    key.model_count = sizeof models / sizeof models[0];
    key.cache_namespace = "fast-space"; /* neither it nor the name is a model */
    text secret = make(&key);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        llmgw_code want = cases[i].allowed ? LLMGW_OK : LLMGW_E_FORBIDDEN;
        if (check_for(secret.of, cases[i].model) != want) fail_msg("%s", cases[i].model);
        assert_string_equal(allowed.name, "alice");
    }
    assert_int_equal(check_for(secret.of, "alice"), LLMGW_E_FORBIDDEN);
    assert_int_equal(check_for(secret.of, "fast-space"), LLMGW_E_FORBIDDEN);
    secret.of[60] =
        secret.of[60] == 'A' ? 'E' : 'A'; /* whose secret is wrong is not told what is forbidden */
    assert_int_equal(check_for(secret.of, "anything"), LLMGW_E_UNAUTHORIZED);
    key = a_key("bob");
    secret = make(&key);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(check_for(secret.of, cases[i].model), LLMGW_OK);
}

/* As many and as long as may be. */
static void test_most_models(void **state) {
    static char names[65][258];
    const char *models[65];
    (void)state;
    for (int i = 0; i < 65; i++) {
        memset(names[i], 'm', 257);
        (void)snprintf(names[i], 4, "%03d", i);
        names[i][3] = 'm';
        names[i][256] = 0;
        models[i] = names[i];
    }
    llmgw_key key = a_key("alice");
    key.models = models;
    key.model_count = 65;
    not_made(&key, LLMGW_E_ARGUMENT, "key.models");
    key.model_count = 64;
    text secret = make(&key);
    for (int i = 0; i < 65; i++)
        assert_int_equal(check_for(secret.of, names[i]), i < 64 ? LLMGW_OK : LLMGW_E_FORBIDDEN);
    key.name = "bob";
    names[7][256] = 'm';
    not_made(&key, LLMGW_E_ARGUMENT, "key.models");
}

/* ---- wrong fields ---- */

static void test_names(void **state) {
    char name[66];
    (void)state;
    llmgw_key key = a_key(NULL);
    not_made(&key, LLMGW_E_ARGUMENT, "key.name");
    key.name = "";
    not_made(&key, LLMGW_E_ARGUMENT, "key.name");
    memset(name, 'n', sizeof name);
    name[65] = 0;
    key.name = name;
    not_made(&key, LLMGW_E_ARGUMENT, "key.name");
    key.name = "AZaz09_.-";
    (void)make(&key);
    for (int c = 1; c < 256; c++) {
        char odd[4] = {'a', (char)c, 'b', 0};
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                    c == '.' || c == '-';
        key.name = odd;
        if (good)
            (void)make(&key);
        else
            not_made(&key, LLMGW_E_ARGUMENT, "key.name: expected");
    }
}

static void test_texts(void **state) {
    static const char *const bad[] = {"",     "a\nb",    "\x7F",         "\x01",
                                      "\xFF", "caf\xC3", "\xED\xA0\x80", "\xC0\x80"};
    const char *models[2] = {"fast", NULL};
    char space[258];
    (void)state;
    llmgw_key key = a_key("alice");
    key.model_count = 2;
    not_made(&key, LLMGW_E_ARGUMENT, "key.models");
    key.models = models;
    not_made(&key, LLMGW_E_ARGUMENT, "key.models");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        models[1] = bad[i];
        not_made(&key, LLMGW_E_ARGUMENT, "key.models");
        key.model_count = 1;
        key.cache_namespace = bad[i];
        if (i) not_made(&key, LLMGW_E_ARGUMENT, "key.cache_namespace");
        key.cache_namespace = NULL;
        key.model_count = 2;
    }
    memset(space, 's', sizeof space);
    space[257] = 0;
    key.model_count = 1;
    key.cache_namespace = space;
    not_made(&key, LLMGW_E_ARGUMENT, "key.cache_namespace");
    key.cache_namespace = "caf\xC3\xA9 \xF0\x9F\x99\x82";
    text secret = make(&key);
    assert_int_equal(check_for(secret.of, "fast"), LLMGW_OK);
    assert_string_equal(allowed.name_space, key.cache_namespace);
}

static void test_numbers(void **state) {
    static const double wrong[] = {-1, -1e-300, 9000001, 1e300, NAN, INFINITY, -INFINITY};
    (void)state;
    (void)make_named("other");
    for (int field = 0; field < 3; field++) {
        llmgw_key key = a_key("alice");
        llmgw_opt *limits[3] = {&key.per_day_usd, &key.per_month_usd, &key.total_usd};
        for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
            *limits[field] = llmgw_set(wrong[i]);
            not_made(&key, LLMGW_E_ARGUMENT, "_usd");
        }
    }
    llmgw_key key = a_key("alice");
    key.rpm = -1;
    not_made(&key, LLMGW_E_ARGUMENT, "rpm");
    key.rpm = (int64_t)INT32_MAX + 1;
    not_made(&key, LLMGW_E_ARGUMENT, "rpm");
    key.rpm = INT64_MIN;
    not_made(&key, LLMGW_E_ARGUMENT, "rpm");
    key.rpm = 0;
    key.tpm = -1;
    not_made(&key, LLMGW_E_ARGUMENT, "tpm");
    key.tpm = INT64_MAX / 1024 + 1;
    not_made(&key, LLMGW_E_ARGUMENT, "tpm");
    key.tpm = 0;
    key.concurrency = -1;
    not_made(&key, LLMGW_E_ARGUMENT, "concurrency");
    key.concurrency = INT_MIN;
    not_made(&key, LLMGW_E_ARGUMENT, "concurrency");
    key.concurrency = 1;
    (void)make(&key);
}

/* ---- how many ---- */

static void test_cap(void **state) {
    llmgwi_store_txn txn;
    (void)state;
    llmgwi_store_close(store, false);
    storing_remove(storing_dir);
    storing_at.max_bytes = 64 << 20;
    store = storing_open();
    assert_int_equal(LLMGWI_AUTH_KEYS, 65536);
    assert_true(llmgwi_store_write(store, &txn, true)); /* as many records as 65,535 keys have */
    for (uint32_t i = 0; i < (65536 - 1) * 2; i++) {
        unsigned char key[5] = {'z', (unsigned char)(i >> 24), (unsigned char)(i >> 16 & 255),
                                (unsigned char)(i >> 8 & 255), (unsigned char)(i & 255)};
        assert_true(llmgwi_store_put(&txn, LLMGWI_STORE_KEY, llmgwi_base_view((char *)key, 5),
                                     llmgwi_base_view("x", 1)));
    }
    assert_true(llmgwi_store_end(&txn, true));
    text last = make_named("last");
    llmgw_key key = a_key("one-more");
    not_made(&key, LLMGW_E_LIMIT, "65,536 keys");
    key.name = "last"; /* that it is taken comes first */
    not_made(&key, LLMGW_E_ARGUMENT, "of this name");
    opens(last.of);
    assert_int_equal(llmgwi_auth_revoke(store, "last"), LLMGW_OK);
    (void)make_named("one-more");
}

/* ---- the list ---- */

static char listed[4096];
static int listed_max;

static void list_number(const char *what, int64_t value) {
    size_t at = strlen(listed);
    if (value) (void)snprintf(listed + at, sizeof listed - at, " %s=%lld", what, (long long)value);
}

static bool on_key(const llmgw_key *key, void *user) {
    assert_ptr_equal(user, listed);
    size_t at = strlen(listed);
    (void)snprintf(listed + at, sizeof listed - at, "[%s", key->name);
    list_number("rpm", key->rpm);
    list_number("tpm", key->tpm);
    list_number("concurrency", key->concurrency);
    list_number("expires", key->expires_s);
    list_number("day", key->per_day_usd.set ? (int64_t)(key->per_day_usd.value * 1000) : 0);
    list_number("month", key->per_month_usd.set ? (int64_t)(key->per_month_usd.value * 1000) : 0);
    list_number("total", key->total_usd.set ? 1 + (int64_t)(key->total_usd.value * 1000) : 0);
    at = strlen(listed);
    if (key->cache_namespace)
        at += (size_t)snprintf(listed + at, sizeof listed - at, " space=%s", key->cache_namespace);
    for (size_t i = 0; i < key->model_count; i++)
        at += (size_t)snprintf(listed + at, sizeof listed - at, " %s", key->models[i]);
    (void)snprintf(listed + at, sizeof listed - at, "]");
    return --listed_max != 0;
}

static void list_is(int max, int64_t want_count, const char *want) {
    listed[0] = 0;
    listed_max = max;
    assert_int_equal(llmgwi_auth_list(store, on_key, listed), want_count);
    assert_string_equal(listed, want);
}

static void test_list(void **state) {
    static const char *const models[] = {"fast", "openai/*"};
    (void)state;
    list_is(0, 0, "");
    llmgw_key key = a_key("delta");
    key.rpm = 1;
    key.tpm = 2;
    key.concurrency = 3;
    key.expires_s = NOW + 4;
    key.per_day_usd = llmgw_set(0.5);
    key.per_month_usd = llmgw_set(6);
    key.total_usd = llmgw_set(0); /* nothing is not the same as none */
    key.cache_namespace = "space";
    key.models = models;
    key.model_count = 2;
    (void)make(&key);
    static const char *const names[] = {"alice", "Zoe", "carol", "a", "alice.b", "0"};
    for (size_t i = 0; i < 6; i++) (void)make_named(names[i]);
    list_is(0, 7,
            "[0][Zoe][a][alice][alice.b][carol][delta rpm=1 tpm=2 concurrency=3 expires=1795000004 day=500 "
            "month=6000 total=1 space=space fast openai/*]");
    list_is(1, 1, "[0]");
    list_is(3, 3, "[0][Zoe][a]");
    assert_int_equal(llmgwi_auth_revoke(store, "Zoe"), LLMGW_OK);
    list_is(4, 4, "[0][a][alice][alice.b]");
}

static int told;

static bool on_key_revoke(const llmgw_key *key, void *user) {
    (void)user;
    told++;
    if (!strcmp(key->name, "a")) assert_int_equal(llmgwi_auth_revoke(store, "b"), LLMGW_OK);
    return true;
}

/* A key that is revoked while the list is told is not told, and not counted. */
static void test_list_revoked(void **state) {
    (void)state;
    (void)make_named("a"), (void)make_named("b"), (void)make_named("c");
    told = 0;
    assert_int_equal(llmgwi_auth_list(store, on_key_revoke, NULL), 2);
    assert_int_equal(told, 2);
}

/* ---- files ---- */

static bool in_file(const char *file, const char *part, size_t n) {
    static char bytes[16 << 20];
    FILE *from = fopen(storing_file(file), "rb");
    assert_non_null(from);
    size_t size = fread(bytes, 1, sizeof bytes, from);
    (void)fclose(from);
    assert_in_range(size, 10000, sizeof bytes - 1);
    return memmem(bytes, size, part, n) != NULL;
}

/* In no file stands any eight characters of the secret's half, nor its bytes; names only in a plain store. */
static void test_files(void **state) {
    static const char *const names[] = {"verysecretname", "verysecretspace", "secretmodel/one"};
    unsigned char bytes[48];
    (void)state;
    llmgw_key key = a_key(names[0]);
    key.cache_namespace = names[1];
    key.models = &names[2];
    key.model_count = 1;
    text secret = make(&key);
    assert_int_equal(check_for(secret.of, names[2]), LLMGW_OK);
    assert_true(llmgwi_store_sync(store));
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(in_file("data.mdb", names[i], strlen(names[i])), !llmgwi_store_sealed(store));
    for (size_t at = 18; at + 8 <= 61; at++) assert_false(in_file("data.mdb", secret.of + at, 8));
    assert_false(in_file("data.mdb", secret.of, 17));
    size_t n = 0;
    assert_int_equal(sodium_base642bin(bytes, sizeof bytes, secret.of + 18, 43, NULL, &n, NULL,
                                       sodium_base64_VARIANT_URLSAFE_NO_PADDING),
                     0);
    assert_int_equal(n, 32);
    for (size_t at = 0; at + 8 <= 32; at += 8) assert_false(in_file("data.mdb", (char *)bytes + at, 8));
    assert_int_equal(llmgwi_auth_revoke(store, names[0]), LLMGW_OK);
}

static void test_rekey(void **state) {
    static const char *const models[] = {"openai/*"};
    (void)state;
    llmgw_key key = a_key("alice");
    key.models = models;
    key.model_count = 1;
    key.cache_namespace = "space";
    text secret = make(&key), other = make_named("bob");
    if (!llmgwi_store_rekey(store, second_key, llmgwi_auth_sealed, NULL, &error)) fail_msg("%s", error.text);
    for (int again = 0; again < 2; again++) {
        opens(secret.of);
        assert_string_equal(allowed.name, "alice");
        assert_string_equal(allowed.name_space, "space");
        assert_int_equal(check_for(secret.of, "groq/x"), LLMGW_E_FORBIDDEN);
        opens(other.of);
        list_is(0, 2, "[alice space=space openai/*][bob]");
        key = a_key("bob");
        not_made(&key, LLMGW_E_ARGUMENT, "of this name");
        llmgwi_store_close(store, false);
        storing_at.key = second_key;
        store = storing_open();
    }
    assert_int_equal(llmgwi_auth_revoke(store, "alice"), LLMGW_OK);
    refused(secret.of);
    opens(other.of);
    assert_true(llmgwi_store_rekey(store, first_key, llmgwi_auth_sealed, NULL, &error));
    opens(other.of); /* twice over: nothing was left under a key that is gone */
}

/* ---- damage ---- */

/* The record of the only key, and its number. */
static size_t take_record(unsigned char number[8], char *bytes, size_t max) {
    llmgwi_store_txn txn;
    llmgwi_store_cursor cursor;
    llmgwi_base_str key, value;
    size_t n = 0;
    assert_true(llmgwi_store_read(store, &txn));
    assert_true(llmgwi_store_cursor_open(&txn, LLMGWI_STORE_KEY, &cursor));
    for (bool more = llmgwi_store_move(&cursor, LLMGWI_STORE_FIRST, &key, &value); more;
         more = llmgwi_store_move(&cursor, LLMGWI_STORE_NEXT, &key, &value)) {
        if (key.n != 8) continue;
        assert_int_equal(n, 0);
        assert_in_range(value.n, 1, max);
        memcpy(number, key.p, 8);
        memcpy(bytes, value.p, n = value.n);
    }
    llmgwi_store_cursor_close(&cursor);
    (void)llmgwi_store_end(&txn, false);
    assert_true(n > 0);
    return n;
}

static void put_record(const void *key, size_t key_n, const void *bytes, size_t n) {
    llmgwi_store_txn txn;
    assert_true(llmgwi_store_write(store, &txn, true));
    assert_true(llmgwi_store_put(&txn, LLMGWI_STORE_KEY, llmgwi_base_view((const char *)key, key_n),
                                 llmgwi_base_view((const char *)bytes, n)));
    assert_true(llmgwi_store_end(&txn, true));
}

/* Any byte of its record changed, any cut, anything behind it: the key opens nothing, is not listed, and can be
   revoked. */
static void test_damage(void **state) {
    static const char *const models[] = {"fast"};
    unsigned char number[8], by_name[17];
    char bytes[1024], broken[1100];
    (void)state;
    llmgw_key key = a_key("alice");
    key.models = models;
    key.model_count = 1;
    key.cache_namespace = "space";
    key.expires_s = NOW + 100;
    text secret = make(&key);
    size_t n = take_record(number, bytes, sizeof bytes);
    for (size_t at = 0; at < n; at++) {
        for (int bit = 0; bit < 8; bit += 1 + (int)at % 3) {
            memcpy(broken, bytes, n);
            broken[at] = (char)(broken[at] ^ 1 << bit);
            put_record(number, 8, broken, n);
            if (check_for(secret.of, "fast") != LLMGW_E_UNAUTHORIZED) fail_msg("byte %zu, bit %d", at, bit);
        }
        list_is(0, 0, "");
        put_record(number, 8, bytes, at);
        if (check_for(secret.of, "fast") != LLMGW_E_UNAUTHORIZED) fail_msg("cut after %zu", at);
        list_is(0, 0, "");
    }
    for (size_t more = 1; more < 20; more++) {
        memset(broken, 0, sizeof broken);
        memcpy(broken, bytes, n);
        put_record(number, 8, broken, n + more);
        assert_int_equal(check_for(secret.of, "fast"), LLMGW_E_UNAUTHORIZED);
    }
    assert_int_equal(llmgwi_auth_revoke(store, "alice"), LLMGW_OK);
    put_record(number, 8, bytes, n); /* whole again */
    assert_int_equal(check_for(secret.of, "fast"), LLMGW_OK);
    list_is(0, 1, "[alice expires=1795000100 space=space fast]");
    (void)llmgwi_auth_named(store, "alice", by_name);
    put_record(by_name, sizeof by_name, "short", 5);
    assert_int_equal(llmgwi_auth_revoke(store, "alice"), LLMGW_E_STORE); /* not: done, it opens still */
    not_made(&key, LLMGW_E_ARGUMENT, "of this name");
}

/* Puts what is in the clear into the store as the record of this number, its hash made to fit. */
static void put_clear(const unsigned char number[8], const char *bytes, size_t n) {
    llmgwi_base_buf plain, sealed;
    llmgwi_base_buf_init(&plain, &unit_mem, 1 << 20);
    llmgwi_base_buf_init(&sealed, &unit_mem, 1 << 20);
    assert_true(llmgwi_base_buf_add(&plain, bytes, n));
    uint64_t check_of = n > 8 ? llmgwi_auth_hash(&plain) : 0;
    if (n > 8) memcpy(plain.p, &check_of, sizeof check_of);
    assert_true(llmgwi_store_seal(store, llmgwi_auth_id(number), llmgwi_base_buf_str(&plain), &sealed));
    put_record(number, 8, sealed.p, sealed.n);
    llmgwi_base_buf_free(&plain);
    llmgwi_base_buf_free(&sealed);
}

static size_t take_clear(unsigned char number[8], char *bytes, size_t max) {
    char record[1024];
    llmgwi_base_buf plain;
    llmgwi_base_buf_init(&plain, &unit_mem, max);
    size_t n = take_record(number, record, sizeof record);
    assert_true(llmgwi_store_unseal(store, llmgwi_auth_id(number), llmgwi_base_view(record, n), &plain));
    memcpy(bytes, plain.p, n = plain.n);
    llmgwi_base_buf_free(&plain);
    return n;
}

/* All 256 bits of the digest count: nobody can find a secret that has all but one right, so that the record is
   changed instead. */
static void test_digest(void **state) {
    unsigned char number[8], digest[32];
    char bytes[1024];
    (void)state;
    text secret = make_named("alice");
    size_t n = take_clear(number, bytes, sizeof bytes), at = offsetof(llmgwi_auth_record, digest);
    assert_int_equal(crypto_hash_sha256(digest, (const unsigned char *)secret.of, 61), 0);
    assert_memory_equal(bytes + at, digest, 32);
    for (size_t bit = 0; bit < 256; bit++) {
        bytes[at + bit / 8] = (char)(bytes[at + bit / 8] ^ 1 << bit % 8);
        put_clear(number, bytes, n);
        if (check(secret.of) != LLMGW_E_UNAUTHORIZED) fail_msg("bit %zu", bit);
        bytes[at + bit / 8] = (char)(bytes[at + bit / 8] ^ 1 << bit % 8);
    }
    put_clear(number, bytes, n);
    opens(secret.of);
}

/* Whose hash fits, and that are no records for all that: of another version, cut, or without an end. Then what lies
   behind a key is read by nobody (seen by the sanitizers). */
static void test_forged(void **state) {
    unsigned char number[8];
    char bytes[1024], long_name[1024];
    (void)state;
    llmgw_key key = a_key("alice");
    key.cache_namespace = "space";
    text secret = make(&key);
    size_t n = take_clear(number, bytes, sizeof bytes), head = sizeof(llmgwi_auth_record);
    assert_int_equal(n, head + sizeof "alice" + sizeof "space");
    for (size_t cut = 0; cut < n; cut++) {
        put_clear(number, bytes, cut);
        llmgw_code code = check(secret.of);
        bool whole = cut > head + 1 && !bytes[cut - 1];
        if (code != (whole ? LLMGW_OK : LLMGW_E_UNAUTHORIZED)) fail_msg("cut after %zu: %d", cut, code);
        list_is(0, whole, whole ? "[alice]" : "");
    }
    memcpy(long_name, bytes, head);
    memset(long_name + head, 'n', sizeof long_name - head);
    put_clear(number, long_name, sizeof long_name);
    refused(secret.of);
    long_name[sizeof long_name - 1] = 0;
    put_clear(number, long_name, sizeof long_name);
    opens(secret.of);
    assert_int_equal(strlen(allowed.name), 64);
    memset(long_name + head, 0, sizeof long_name - head); /* more models than may be, all empty */
    put_clear(number, long_name, sizeof long_name);
    assert_int_equal(check(secret.of), LLMGW_E_FORBIDDEN);
    listed[0] = 0;
    assert_int_equal(llmgwi_auth_list(store, on_key, listed), 1);
    bytes[offsetof(llmgwi_auth_record, version)]++;
    put_clear(number, bytes, n);
    refused(secret.of);
}

/* A record is its own number's: at another it opens nothing. */
static void test_moved(void **state) {
    unsigned char number[8];
    char bytes[1024];
    (void)state;
    text secret = make_named("alice");
    size_t n = take_record(number, bytes, sizeof bytes);
    (void)make_named("bob");
    assert_int_equal(llmgwi_auth_revoke(store, "alice"), LLMGW_OK);
    unsigned char other[8];
    char of_other[1024];
    (void)take_record(other, of_other, sizeof of_other);
    put_record(other, 8, bytes, n);
    refused(secret.of);
}

/* Half of what a key consists of is gone: it can be revoked all the same, and the name be given again. */
static void test_half(void **state) {
    unsigned char number[8];
    char bytes[1024];
    llmgwi_store_txn txn;
    (void)state;
    text secret = make_named("alice");
    (void)take_record(number, bytes, sizeof bytes);
    assert_true(llmgwi_store_write(store, &txn, true));
    assert_true(llmgwi_store_del(&txn, LLMGWI_STORE_KEY, llmgwi_auth_id(number), NULL));
    assert_true(llmgwi_store_end(&txn, true));
    refused(secret.of);
    llmgw_key key = a_key("alice");
    not_made(&key, LLMGW_E_ARGUMENT, "of this name");
    assert_int_equal(llmgwi_auth_revoke(store, "alice"), LLMGW_OK);
    assert_int_equal(storing_count(store, LLMGWI_STORE_KEY), 0);
    secret = make_named("alice");
    opens(secret.of);
}

/* ---- a store that fails ---- */

static void all_fail(const char *secret) {
    llmgw_key key = a_key("bob");
    assert_int_equal(check(secret), LLMGW_E_STORE);
    not_made(&key, LLMGW_E_STORE, "cannot be written");
    assert_int_equal(llmgwi_auth_revoke(store, "alice"), LLMGW_E_STORE);
    assert_int_equal(llmgwi_auth_list(store, on_key, listed), -LLMGW_E_STORE);
}

static void test_off(void **state) {
    (void)state;
    text secret = make_named("alice");
    LLMGWI_BASE_STORE(&store->off, 1);
    all_fail(secret.of);
    LLMGWI_BASE_STORE(&store->off, 0);
    opens(secret.of);
    (void)make_named("bob");
}

/* Each call of LMDB fails in turn, with what switches the store off: nobody is told that a key is wrong, revoked or not
   there for it; and what a creation or a revocation said is so. */
static void test_faults(void **state) {
    static const char *const calls[] = {"mdb_get",       "mdb_put",        "mdb_del",
                                        "mdb_txn_begin", "mdb_txn_commit", "mdb_cursor_open",
                                        "mdb_env_sync",  "mdb_cursor_get", "mdb_txn_renew"};
    (void)state;
    text secret = make_named("alice");
    int failed = 0;
    for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++)
        for (int at = 1; at < 4; at++) {
            for (int what = 0; what < 4; what++) {
                llmgw_key key = a_key("bob");
                char made[LLMGW_KEY_TEXT];
                memset(&error, 0, sizeof error);
                set_fault(calls[c], EIO, at, false);
                int code = what == 0   ? (int)check(secret.of)
                           : what == 1 ? (int)llmgwi_auth_create(store, &key, NOW, made, &error)
                           : what == 2 ? (int)llmgwi_auth_revoke(store, "alice")
                                       : (int)llmgwi_auth_list(store, on_key_revoke, NULL);
                bool hit = fault_seen >= at;
                no_fault();
                failed += hit;
                if (hit && code != (what == 3 ? -LLMGW_E_STORE : LLMGW_E_STORE))
                    fail_msg("%s, %d, call %d: %d", calls[c], what, at, code);
                if (hit && what == 1) assert_string_equal(made, "");
                LLMGWI_BASE_STORE(&store->off, 0);
                store->paused_until_us = 0;
                if (what == 1) (void)llmgwi_auth_revoke(store, "bob");
                if (what == 2 && check(secret.of)) {
                    (void)llmgwi_auth_revoke(store, "alice");
                    secret = make_named("alice");
                }
                opens(secret.of);
            }
        }
    if (failed < 18) fail_msg("only %d faults were met", failed);
}

static void test_read_only(void **state) {
    static const char *const files[] = {"data.mdb", "lock", "users"};
    bool root = geteuid() == 0;
    (void)state;
    text secret = make_named("alice");
    llmgwi_store_close(store, false);
    store = NULL;
    if (root) assert_int_equal(chown(storing_dir, 65534, 65534), 0);
    for (int i = 0; root && i < 3; i++) assert_int_equal(chown(storing_file(files[i]), 65534, 65534), 0);
    if (root) assert_int_equal(chown(storing_file("lock.mdb"), 65534, 65534), 0);
    if (root) assert_int_equal(seteuid(65534), 0);
    for (int i = 0; i < 3; i++) assert_int_equal(chmod(storing_file(files[i]), 0400), 0);
    assert_int_equal(chmod(storing_dir, 0500), 0);
    store = storing_open();
    assert_true(store->read_only);
    opens(secret.of);
    list_is(0, 1, "[alice]");
    llmgw_key key = a_key("bob");
    not_made(&key, LLMGW_E_STORE, "cannot be written");
    assert_int_equal(llmgwi_auth_revoke(store, "alice"), LLMGW_E_STORE);
    opens(secret.of);
    assert_int_equal(chmod(storing_dir, 0700), 0);
    if (root) assert_int_equal(seteuid(0), 0);
}

#define PLAIN(test) cmocka_unit_test_setup_teardown(test, setup_plain, teardown)
#define SEALED(test) cmocka_unit_test_setup_teardown(test, setup_sealed, teardown)
#define BOTH(test) PLAIN(test), SEALED(test)

int main(void) {
    const struct CMUnitTest tests[] = {
        BOTH(test_create),       BOTH(test_fields),   PLAIN(test_random),     PLAIN(test_changed),
        BOTH(test_lengths),      BOTH(test_hostile),  BOTH(test_revoke),      BOTH(test_other_process),
        BOTH(test_expiry),       BOTH(test_models),   BOTH(test_most_models), PLAIN(test_names),
        PLAIN(test_texts),       PLAIN(test_numbers), PLAIN(test_cap),        BOTH(test_list),
        BOTH(test_list_revoked), BOTH(test_files),    SEALED(test_rekey),     BOTH(test_damage),
        BOTH(test_digest),       BOTH(test_forged),   BOTH(test_moved),       BOTH(test_half),
        PLAIN(test_off),         BOTH(test_faults),   BOTH(test_read_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
