/* The library without LMDB (LLMGW_NO_STORE): calls work, a store is refused in words, there is no cache. */
#define LLMGW_NO_STORE
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"

#ifdef MDB_VERSION_MAJOR
#error "LLMGW_NO_STORE includes lmdb.h"
#endif

#define WHY "built without a store (LLMGW_NO_STORE)"

static Provider provider;
static char dir[64];

static int group_start(void **state) {
    provider_start(&provider, NULL);
    strcpy(dir, "/tmp/llmgw-nostore-XXXXXX");
    return mkdtemp(dir) == NULL;
}

/* rmdir fails if anything was written there. */
static int group_stop(void **state) {
    provider_stop(&provider);
    return rmdir(dir);
}

static int logged;
static void on_log(const llmgw_log_entry *entry, void *user) {
    if (entry->item == LLMGW_LOG_STORE && strstr(entry->line, WHY)) logged++;
}

static llmgw_options with_store(void) {
    llmgw_options options = t_calm();
    options.store.path = dir;
    options.cache.on = true;
    options.cache.semantic = true;
    options.log = on_log;
    return options;
}

static void calls_work_twice(llmgw *gw) {
    for (int i = 0; i < 2; i++) {
        llmgw_reply *reply = llmgw_ask(gw, "openai/m", "Why is the sky blue?");
        t_expect_code(reply, LLMGW_OK);
        assert_int_equal(reply->cached.verdict, LLMGW_VERDICT_NONE);
        assert_true(reply->text_len > 0);
        llmgw_reply_free(reply);
    }
}

static void it_works_without_asking_for_a_store(void **state) {
    llmgw_options options = t_calm();
    llmgw *gw = t_open(&provider, &options);
    calls_work_twice(gw);
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
}

static void a_store_that_is_required_cannot_be_had(void **state) {
    llmgw_error error;
    llmgw_options options = with_store();
    options.no_environment = true;
    options.store.required = true;
    assert_null(llmgw_open(&options, &error));
    assert_int_equal(error.code, LLMGW_E_STORE);
    assert_non_null(strstr(error.text, WHY));
}

static void else_there_is_no_cache(void **state) {
    unsigned char key[32] = {0};
    llmgw_cache_numbers numbers;
    llmgw_error error;
    llmgw_options options = with_store();
    logged = 0;
    provider_reset(&provider);
    llmgw *gw = t_open(&provider, &options);
    assert_int_equal(logged, 1);
    calls_work_twice(gw);
    assert_int_equal(provider_count(&provider, "requests"), 2);
    assert_int_equal(llmgw_cache_stats(gw, NULL, &numbers), LLMGW_E_STORE);
    assert_false(numbers.on);
    assert_non_null(strstr(numbers.reason, WHY));
    assert_int_equal(llmgw_flush(gw), LLMGW_E_STORE);
    assert_int_equal(llmgw_drain(gw, 100), LLMGW_E_STORE);
    assert_int_equal(llmgw_cache_feedback(gw, 1, true), LLMGW_E_STORE);
    assert_int_equal(llmgw_cache_remove(gw, NULL), -LLMGW_E_STORE);
    assert_int_equal(llmgw_cache_import(gw, "{}", 2, &error), LLMGW_E_STORE);
    assert_int_equal(llmgw_cache_vectors(gw, "/dev/null", 0, &error), LLMGW_E_STORE);
    assert_int_equal(llmgw_store_rekey(gw, key, &error), LLMGW_E_STORE);
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_works_without_asking_for_a_store),
        cmocka_unit_test(a_store_that_is_required_cannot_be_had),
        cmocka_unit_test(else_there_is_no_cache),
    };
    return cmocka_run_group_tests(tests, group_start, group_stop);
}
