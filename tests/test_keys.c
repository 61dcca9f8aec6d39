/* Several keys of one provider: what is refused, used up or limited moves to another key at once; the load is
 * spread; a dead key is left alone for key_dead_ms; none is ever told to anybody. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"
#include "group.h"

static const char *const keys[] = {"sk-first-0123456789abc", "sk-second-0123456789ab",
                                   "sk-third-0123456789abc"};
static int dead_lines, telling_lines; /* one thread drives */

static int reset(void **state) {
    provider_reset(&provider);
    dead_lines = telling_lines = 0;
    return 0;
}

static void log_line(const llmgw_log_entry *entry, void *user) {
    dead_lines += entry->item == LLMGW_LOG_KEY_DEAD;
    for (size_t i = 0; i < COUNT_OF(keys); i++) telling_lines += strstr(entry->line, keys[i]) != NULL;
}

/* The provider "many" of a dialect with the first count keys, and a spare one with a key of its own. */
static llmgw *open_keys(size_t dialect, size_t count, const llmgw_options *more) {
    static const char *const paths[] = {"/v1", "", "/v1beta"}, *const targets[] = {"many/m", "spare/s"};
    static char urls[2][128];
    llmgw_options options = *more;
    llmgw_provider providers[2];
    llmgw_route route;
    llmgw_error error;
    memset(&route, 0, sizeof route);
    route.name = "r";
    route.targets = targets;
    route.target_count = 2;
    providers[0] = t_provider(&provider, "many", t_dialects[dialect], paths[dialect], NULL, urls[0]);
    providers[0].keys = keys;
    providers[0].key_count = count;
    providers[1] = t_provider(&provider, "spare", "openai", "/v1", "sk-spare-0123456789abc", urls[1]);
    if (more->providers) { /* its limits */
        providers[0].rpm = more->providers->rpm;
        providers[0].concurrency = more->providers->concurrency;
    }
    options.providers = providers;
    options.provider_count = 2;
    options.routes = &route;
    options.route_count = 1;
    options.no_environment = true;
    options.log = log_line;
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) fail_msg("llmgw_open: %s", error.text);
    return gw;
}

static void set_key(size_t key, const char *word) {
    char json[160];
    snprintf(json, sizeof json, "{\"keys\":{\"%s\":\"%s\"}}", keys[key], word);
    provider_rule(&provider, json);
}

static int asked(size_t key) { return (int)provider_key(&provider, keys[key], "requests"); }

static llmgw_reply *expect_ok(llmgw *gw, const char *model) {
    llmgw_reply *reply = llmgw_ask(gw, model, "x");
    t_expect_code(reply, LLMGW_OK);
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        for (size_t k = 0; k < reply->trace_count; k++) assert_null(strstr(reply->trace[k].reason, keys[i]));
    return reply;
}

/* ---- keys that are refused ---- */

/* Whichever key is taken first: one of the two is dead, and is met once. */
static void one_dead_key(size_t dialect, const char *word, llmgw_code code) {
    llmgw_options options = t_calm();
    provider_reset(&provider);
    dead_lines = telling_lines = 0;
    set_key(0, word);
    llmgw *gw = open_keys(dialect, 2, &options);
    int64_t begun = t_now_ms();
    int met = 0;
    for (int i = 0; i < 20; i++) {
        llmgw_reply *reply = expect_ok(gw, "many/m");
        assert_true(reply->attempts <= 2);
        if (reply->attempts == 2) {
            met++;
            assert_int_equal(reply->trace[0].code, code);
            assert_string_equal(reply->provider, "many");
            assert_int_equal(t_traced(reply, LLMGW_TRACE_WAIT), 0); /* at once */
        }
        llmgw_reply_free(reply);
    }
    assert_int_equal(met, asked(0));
    assert_int_equal(met, 1);
    assert_int_equal(asked(1), 20);
    assert_int_equal(dead_lines, 1);
    assert_int_equal(telling_lines, 0);
    assert_true(t_now_ms() - begun < 3000);
    llmgw_close(gw);
}

static void a_refused_key_is_left_for_the_other(void **state) {
    for (size_t i = 0; i < 3; i++) one_dead_key(i, "refused", LLMGW_E_AUTH);
}

static void a_used_up_key_is_left_for_the_other(void **state) {
    for (size_t i = 0; i < 3; i++) one_dead_key(i, "quota", LLMGW_E_QUOTA);
}

static void a_dead_key_gets_another_chance(void **state) {
    llmgw_options options = t_calm();
    options.key_dead_ms = 300;
    set_key(0, "refused");
    llmgw *gw = open_keys(0, 2, &options);
    for (int i = 0; i < 5; i++) llmgw_reply_free(expect_ok(gw, "many/m"));
    assert_int_equal(asked(0), 1);
    t_sleep_ms(350);
    for (int i = 0; i < 5; i++) llmgw_reply_free(expect_ok(gw, "many/m"));
    assert_int_equal(asked(0), 2); /* still refused: now for twice as long */
    t_sleep_ms(350);
    for (int i = 0; i < 5; i++) llmgw_reply_free(expect_ok(gw, "many/m"));
    assert_int_equal(asked(0), 2);
    set_key(0, "ok");
    set_key(1, "refused");
    t_sleep_ms(350);
    for (int i = 0; i < 5; i++) llmgw_reply_free(expect_ok(gw, "many/m"));
    assert_true(asked(0) >= 5);
    llmgw_close(gw);
}

static void with_all_keys_dead_the_next_target_answers(void **state) {
    llmgw_options options = t_calm();
    for (size_t i = 0; i < 3; i++) set_key(i, i == 1 ? "quota" : "refused");
    llmgw *gw = open_keys(0, 3, &options);
    for (int i = 0; i < 6; i++) {
        llmgw_reply *reply = expect_ok(gw, "r");
        assert_string_equal(reply->provider, "spare");
        llmgw_reply_free(reply);
    }
    for (size_t i = 0; i < 3; i++) assert_true(asked(i) <= 1);
    llmgw_reply *reply = llmgw_ask(gw, "many/m", "x");
    assert_true(reply->error.code == LLMGW_E_AUTH || reply->error.code == LLMGW_E_QUOTA);
    assert_int_equal(telling_lines, 0);
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

/* ---- limits of keys ---- */

/* The provider limits one key: the other goes on, and the Retry-After of the first is obeyed (law 3). */
static void a_limited_key_is_left_for_the_other(void **state) {
    for (size_t dialect = 0; dialect < 3; dialect++) {
        char json[160];
        llmgw_options options = t_calm();
        provider_reset(&provider);
        snprintf(json, sizeof json, "{\"limits\":{\"key\":\"%s\",\"rpm\":2,\"window_ms\":20000}}", keys[0]);
        provider_rule(&provider, json);
        llmgw *gw = open_keys(dialect, 2, &options);
        int64_t begun = t_now_ms();
        for (int i = 0; i < 12; i++) llmgw_reply_free(expect_ok(gw, "many/m"));
        assert_true(t_now_ms() - begun < 3000);
        assert_true(provider_key(&provider, keys[0], "limited") <= 1);
        assert_true(asked(0) <= 3);
        assert_true(asked(1) >= 9);
        llmgw_close(gw);
    }
}

/* Every key has the limit of the configuration for itself. */
static void each_key_has_its_own_limit(void **state) {
    llmgw_options options = t_calm();
    llmgw_provider limits;
    memset(&limits, 0, sizeof limits);
    limits.rpm = 4;
    options.providers = &limits;
    options.deadline_ms = 1500;
    llmgw *gw = open_keys(0, 3, &options);
    int64_t begun = t_now_ms();
    for (int i = 0; i < 12; i++) llmgw_reply_free(expect_ok(gw, "many/m"));
    assert_true(t_now_ms() - begun < 1400);
    for (size_t i = 0; i < 3; i++) assert_int_equal(asked(i), 4);
    llmgw_reply *reply = llmgw_ask(gw, "many/m", "one too many");
    t_expect_code(reply, LLMGW_E_LIMIT);
    assert_int_equal(reply->attempts, 0);
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

static void the_load_is_spread(void **state) {
    enum { CALLS = 45 };
    static Rec recs[CALLS];
    llmgw_options options = t_calm();
    llmgw *gw = open_keys(1, 3, &options);
    memset(recs, 0, sizeof recs);
    provider_model_rule(&provider, "m", "\"first_ms\":500");
    for (int i = 0; i < CALLS; i++) {
        llmgw_request request = rec_request(&recs[i], "many/m", "x", i % 2);
        rec_send(gw, &recs[i], &request);
    }
    assert_true(rec_drive(gw, recs, CALLS, 10000));
    for (size_t i = 0; i < 3; i++) assert_in_range(asked(i), CALLS / 3 - 1, CALLS / 3 + 1);
    for (int i = 0; i < CALLS; i++) {
        rec_check(&recs[i]);
        t_expect_code(recs[i].reply, LLMGW_OK);
        rec_free(&recs[i]);
    }
    llmgw_close(gw);
}

/* Each has its own requests in flight, and no more. */
static void concurrency_is_of_each_key(void **state) {
    enum { CALLS = 40 };
    static Rec recs[CALLS];
    llmgw_options options = t_calm();
    llmgw_provider limits;
    memset(&limits, 0, sizeof limits);
    limits.concurrency = 3;
    options.providers = &limits;
    provider_rule(&provider, "{\"limits\":{\"key\":\"*\",\"concurrency\":3}}");
    provider_model_rule(&provider, "m", "\"first_ms\":30");
    llmgw *gw = open_keys(0, 2, &options);
    memset(recs, 0, sizeof recs);
    for (int i = 0; i < CALLS; i++) {
        llmgw_request request = rec_request(&recs[i], "many/m", "x", i % 2);
        rec_send(gw, &recs[i], &request);
    }
    assert_true(rec_drive(gw, recs, CALLS, 10000));
    for (int i = 0; i < CALLS; i++) {
        rec_check(&recs[i]);
        t_expect_code(recs[i].reply, LLMGW_OK);
        rec_free(&recs[i]);
    }
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(provider_key(&provider, keys[i], "refused"), 0);
        assert_int_equal(provider_key(&provider, keys[i], "max_open"), 3);
    }
    llmgw_close(gw);
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_refused_key_is_left_for_the_other),
        TEST(a_used_up_key_is_left_for_the_other),
        TEST(a_dead_key_gets_another_chance),
        TEST(with_all_keys_dead_the_next_target_answers),
        TEST(a_limited_key_is_left_for_the_other),
        TEST(each_key_has_its_own_limit),
        TEST(the_load_is_spread),
        TEST(concurrency_is_of_each_key),
    };
    return cmocka_run_group_tests_name("keys", tests, group_start, group_stop);
}
