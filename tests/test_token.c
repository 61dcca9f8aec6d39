/* A caller's token function: asked when there is no token, before it ends, and once more after a 401; never twice at
 * once; its failure is a refused key's; what it gives is told to nobody but the provider. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"
#include "group.h"

/* What the function does, and what it was asked. */
typedef struct giver {
    pthread_mutex_t lock;
    int asked, inside, most_inside;
    int fails;        /* so many times first */
    int64_t lasts_s;  /* 0: it does not say */
    int sleeps_ms;    /* it takes so long */
    bool same;        /* always the first token */
    bool bad;         /* what it gives is no header's value */
    bool calls_back;  /* it calls the gateway */
    llmgw_code told;  /* what that said */
    pthread_t thread; /* it ran on last */
    llmgw *gw;
} giver;

static giver given;
static int dead_lines, telling_lines;

#define TOKEN "token-0123456789-%02d"

static void token_text(int number, char *text, size_t size) { snprintf(text, size, TOKEN, number); }

static bool give(const char *name, char *token, size_t size, int64_t *expires_s, void *user) {
    giver *g = (giver *)user;
    pthread_mutex_lock(&g->lock);
    int number = ++g->asked;
    bool fails = g->fails > 0 && g->fails--;
    if (++g->inside > g->most_inside) g->most_inside = g->inside;
    g->thread = pthread_self();
    pthread_mutex_unlock(&g->lock);
    if (strcmp(name, "cloud") != 0 || size != LLMGW_MAX_TOKEN || *expires_s != 0) abort();
    if (g->sleeps_ms) t_sleep_ms(g->sleeps_ms);
    if (g->calls_back) {
        llmgw_reply *reply = llmgw_ask(g->gw, "cloud/m", "x");
        g->told = reply->error.code;
        llmgw_reply_free(reply);
    }
    token_text(g->same ? 1 : number, token, size);
    if (g->bad) memcpy(token + 3, "\r\nX: y", 6);
    if (g->lasts_s) *expires_s = (int64_t)time(NULL) + g->lasts_s;
    pthread_mutex_lock(&g->lock);
    g->inside--;
    pthread_mutex_unlock(&g->lock);
    return !fails;
}

static void log_line(const llmgw_log_entry *entry, void *user) {
    dead_lines += entry->item == LLMGW_LOG_KEY_DEAD;
    telling_lines += strstr(entry->line, "token-0123456789") != NULL;
}

static int reset(void **state) {
    provider_reset(&provider);
    memset(&given, 0, sizeof given);
    pthread_mutex_init(&given.lock, NULL);
    dead_lines = telling_lines = 0;
    return 0;
}

/* "cloud" with the token function, "spare" with a key, and the route "r" over both. */
static llmgw *open_cloud(const llmgw_options *more, const char *url) {
    static const char *const targets[] = {"cloud/m", "spare/s"};
    static char urls[2][128];
    llmgw_options options = more ? *more : t_calm();
    llmgw_provider providers[2];
    llmgw_route route;
    llmgw_error error;
    memset(&route, 0, sizeof route);
    route.name = "r";
    route.targets = targets;
    route.target_count = 2;
    providers[0] = t_provider(&provider, "cloud", "openai", "/v1", NULL, urls[0]);
    if (url) providers[0].url = url;
    providers[0].token = give;
    providers[0].token_user = &given;
    providers[1] = t_provider(&provider, "spare", "openai", "/v1", "sk-spare-0123456789abc", urls[1]);
    options.providers = providers;
    options.provider_count = 2;
    options.routes = &route;
    options.route_count = 1;
    options.no_environment = true;
    options.log = log_line;
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) fail_msg("llmgw_open: %s", error.text);
    given.gw = gw;
    return gw;
}

static int requests_with(int number) {
    char token[64];
    token_text(number, token, sizeof token);
    return (int)provider_key(&provider, token, "requests");
}

static void refuse(int number) {
    char json[160], token[64];
    token_text(number, token, sizeof token);
    snprintf(json, sizeof json, "{\"keys\":{\"%s\":\"refused\"}}", token);
    provider_rule(&provider, json);
}

static void expect(llmgw *gw, const char *model, llmgw_code code, const char *by) {
    llmgw_reply *reply = llmgw_ask(gw, model, "x");
    t_expect_code(reply, code);
    if (by) assert_string_equal(reply->provider, by);
    assert_null(strstr(reply->error.text, "token-0123456789"));
    for (size_t i = 0; i < reply->trace_count; i++)
        assert_null(strstr(reply->trace[i].reason, "token-0123456789"));
    llmgw_reply_free(reply);
}

/* ---- asked when it is needed ---- */

static void one_token_serves_all(void **state) {
    llmgw *gw = open_cloud(NULL, NULL);
    assert_int_equal(given.asked, 0); /* not by open */
    for (int i = 0; i < 5; i++) expect(gw, "cloud/m", LLMGW_OK, "cloud");
    assert_int_equal(given.asked, 1);
    assert_int_equal(requests_with(1), 5);
    assert_true(pthread_equal(given.thread, pthread_self()));
    llmgw_close(gw);
    assert_int_equal(telling_lines, 0);
}

static void a_stream_has_it_too(void **state) {
    llmgw *gw = open_cloud(NULL, NULL);
    Rec rec;
    memset(&rec, 0, sizeof rec);
    llmgw_request request = rec_request(&rec, "cloud/m", "x", true);
    t_expect_code(rec_chat(gw, &rec, &request), LLMGW_OK);
    rec_free(&rec);
    assert_int_equal(requests_with(1), 1);
    llmgw_close(gw);
}

/* Another provider's calls do not ask for it. */
static void only_for_its_provider(void **state) {
    llmgw *gw = open_cloud(NULL, NULL);
    expect(gw, "spare/s", LLMGW_OK, "spare");
    assert_int_equal(given.asked, 0);
    llmgw_close(gw);
}

/* An hour is enough, 100 s are not: the next one is fetched early, but not for every call. */
static void fetched_anew_before_its_end(void **state) {
    given.lasts_s = 3600;
    llmgw *gw = open_cloud(NULL, NULL);
    for (int i = 0; i < 3; i++) expect(gw, "cloud/m", LLMGW_OK, "cloud");
    assert_int_equal(given.asked, 1);
    llmgw_close(gw);
    reset(NULL);
    given.lasts_s = 2;
    gw = open_cloud(NULL, NULL);
    for (int i = 0; i < 3; i++) expect(gw, "cloud/m", LLMGW_OK, "cloud");
    assert_int_equal(given.asked, 1);
    t_sleep_ms(2100);
    expect(gw, "cloud/m", LLMGW_OK, "cloud");
    assert_int_equal(given.asked, 2);
    assert_int_equal(requests_with(1), 3);
    assert_int_equal(requests_with(2), 1);
    llmgw_close(gw);
}

static void early_by_two_minutes(void **state) {
    given.lasts_s = 1000;
    llmgw *gw = open_cloud(NULL, NULL);
    llmgwi_engine_token *token = &gw->tokens[0]; /* time goes by */
    expect(gw, "cloud/m", LLMGW_OK, "cloud");
    token->expires_s -= 1000 - 121; /* 121 s are left: enough */
    token->again_us = 0;
    expect(gw, "cloud/m", LLMGW_OK, "cloud");
    assert_int_equal(given.asked, 1);
    token->expires_s -= 5; /* the margin is 120 s */
    expect(gw, "cloud/m", LLMGW_OK, "cloud");
    assert_int_equal(given.asked, 2);
    given.fails = 1; /* and while it fails the old one serves to its end */
    token->expires_s -= 1000 - 60;
    token->again_us = 0;
    for (int i = 0; i < 3; i++) expect(gw, "cloud/m", LLMGW_OK, "cloud");
    assert_int_equal(given.asked, 3);
    assert_int_equal(requests_with(2), 4);
    assert_int_equal(dead_lines, 0);
    llmgw_close(gw);
}

/* ---- 401 ---- */

static void refused_once_is_fetched_anew(void **state) {
    refuse(1);
    llmgw *gw = open_cloud(NULL, NULL);
    llmgw_reply *reply = llmgw_ask(gw, "r", "x");
    t_expect_code(reply, LLMGW_OK);
    assert_string_equal(reply->provider, "cloud"); /* the same target, not the next */
    assert_int_equal(reply->attempts, 2);
    assert_int_equal(reply->trace[0].code, LLMGW_E_AUTH);
    assert_int_equal(t_traced(reply, LLMGW_TRACE_WAIT), 0); /* at once */
    llmgw_reply_free(reply);
    assert_int_equal(given.asked, 2);
    assert_int_equal(dead_lines, 0);
    expect(gw, "cloud/m", LLMGW_OK, "cloud");
    assert_int_equal(given.asked, 2);
    assert_int_equal(requests_with(1), 1);
    assert_int_equal(requests_with(2), 2);
    llmgw_close(gw);
    assert_int_equal(telling_lines, 0);
}

static void refused_twice_goes_on_to_the_next(void **state) {
    refuse(1);
    refuse(2);
    llmgw *gw = open_cloud(NULL, NULL);
    expect(gw, "r", LLMGW_OK, "spare");
    assert_int_equal(given.asked, 2);
    assert_int_equal(dead_lines, 1);
    expect(gw, "r", LLMGW_OK, "spare"); /* it is left alone for a while */
    assert_int_equal(requests_with(1), 1);
    assert_int_equal(requests_with(2), 1);
    llmgw_close(gw);
}

static void refused_alone_is_the_error(void **state) {
    refuse(1);
    given.same = true;
    llmgw *gw = open_cloud(NULL, NULL);
    llmgw_reply *reply = llmgw_ask(gw, "cloud/m", "x");
    t_expect_code(reply, LLMGW_E_AUTH);
    assert_int_equal(reply->error.http_status, 401);
    assert_int_equal(reply->attempts, 2);
    llmgw_reply_free(reply);
    assert_int_equal(given.asked, 2);
    llmgw_close(gw);
}

/* ---- failing ---- */

static void a_failing_function_is_a_refused_key(void **state) {
    given.fails = 1000;
    llmgw *gw = open_cloud(NULL, NULL);
    expect(gw, "r", LLMGW_OK, "spare");
    expect(gw, "r", LLMGW_OK, "spare");
    llmgw_reply *reply = llmgw_ask(gw, "cloud/m", "x");
    t_expect_code(reply, LLMGW_E_AUTH);
    assert_int_equal(reply->attempts, 0);
    llmgw_reply_free(reply);
    assert_int_equal(given.asked, 1); /* and is left alone for key_dead_ms */
    assert_int_equal(dead_lines, 1);
    llmgw_close(gw);
}

static void a_failing_function_says_so(void **state) {
    given.fails = 1;
    llmgw_options options = t_calm();
    options.key_dead_ms = 200;
    llmgw *gw = open_cloud(&options, NULL);
    llmgw_reply *reply = llmgw_ask(gw, "cloud/m", "x");
    t_expect_code(reply, LLMGW_E_AUTH);
    t_expect_text(reply, "cloud: its token function gave no token");
    llmgw_reply_free(reply);
    t_sleep_ms(250);
    expect(gw, "cloud/m", LLMGW_OK, "cloud"); /* it gets another chance */
    llmgw_close(gw);
}

static void what_is_no_token_is_none(void **state) {
    given.bad = true;
    llmgw *gw = open_cloud(NULL, NULL);
    expect(gw, "cloud/m", LLMGW_E_AUTH, NULL);
    assert_int_equal(provider_count(&provider, "requests"), 0);
    llmgw_close(gw);
    assert_int_equal(telling_lines, 0);
}

static void it_may_not_ask_the_gateway(void **state) {
    given.calls_back = true;
    llmgw *gw = open_cloud(NULL, NULL);
    expect(gw, "cloud/m", LLMGW_OK, "cloud");
    assert_int_equal(given.told, LLMGW_E_MISUSE);
    llmgw_close(gw);
}

/* ---- secrets ---- */

static void echo(Raw *raw, int fd, int number) {
    char head[4096], body[2048];
    while (raw_request(raw, fd, head, sizeof head)) {
        const char *at = strstr(head, "Bearer ");
        snprintf(body, sizeof body, "{\"error\":{\"message\":\"you sent %.60s\"}}", at ? at : "nothing");
        for (char *p = body; *p; p++)
            if ((unsigned char)*p < ' ') *p = ' ';
        if (!raw_reply(fd, number % 2 ? "401 Unauthorized" : "400 Bad Request", RAW_IS_JSON, body)) return;
    }
}

/* A provider that repeats it in its error, also the one before. */
static void it_stands_in_no_error(void **state) {
    Raw raw;
    char url[64];
    raw_start(&raw, echo, NULL);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", raw.port);
    llmgw *gw = open_cloud(NULL, url);
    for (int i = 0; i < 3; i++) {
        llmgw_reply *reply = llmgw_ask(gw, "cloud/m", "x");
        assert_true(reply->error.code != LLMGW_OK);
        t_expect_text(reply, "you sent Bearer [key]");
        assert_null(strstr(reply->error.text, "0123456789"));
        llmgw_reply_free(reply);
    }
    llmgw_close(gw);
    raw_stop(&raw);
    assert_int_equal(telling_lines, 0);
}

static void never_over_plain_http(void **state) {
    llmgw_options options = t_calm();
    llmgw_provider one;
    llmgw_error error;
    memset(&one, 0, sizeof one);
    one.name = "cloud";
    one.dialect = "openai";
    one.url = "http://example.com/v1";
    one.token = give;
    options.providers = &one;
    options.provider_count = 1;
    options.no_environment = true;
    assert_null(llmgw_open(&options, &error));
    assert_int_equal(error.code, LLMGW_E_INSECURE);
    one.url = "https://example.com/v1";
    one.key = "also-a-key";
    assert_null(llmgw_open(&options, &error));
    assert_int_equal(error.code, LLMGW_E_CONFIG);
    assert_non_null(strstr(error.text, "token"));
}

/* ---- threads ---- */

static void *asks(void *user) {
    llmgw *gw = (llmgw *)user;
    llmgw_code code = LLMGW_OK;
    for (int i = 0; i < 4 && !code; i++) {
        llmgw_reply *reply = llmgw_ask(gw, "cloud/m", "x");
        code = reply->error.code;
        llmgw_reply_free(reply);
    }
    return code ? user : NULL;
}

static void never_twice_at_once(void **state) {
    given.sleeps_ms = 100;
    refuse(1);
    llmgw *gw = open_cloud(NULL, NULL);
    pthread_t threads[8];
    void *bad;
    for (size_t i = 0; i < COUNT_OF(threads); i++) pthread_create(&threads[i], NULL, asks, gw);
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        pthread_join(threads[i], &bad);
        assert_null(bad);
    }
    assert_int_equal(given.most_inside, 1);
    assert_int_equal(given.asked, 2); /* all had the first one refused: one other for all */
    llmgw_close(gw);
}

/* While a slow function runs for a send of its own, what is under way goes on. */
static void *sends(void *user) {
    Rec *rec = (Rec *)user;
    llmgw_request request = rec_request(rec, "cloud/m", "x", false);
    rec_send(given.gw, rec, &request);
    return NULL;
}

static void a_slow_function_holds_up_its_caller_only(void **state) {
    given.sleeps_ms = 600;
    llmgw *gw = open_cloud(NULL, NULL);
    Rec rec;
    pthread_t thread;
    memset(&rec, 0, sizeof rec);
    pthread_create(&thread, NULL, sends, &rec);
    t_sleep_ms(50);
    int64_t begun = t_now_ms();
    expect(gw, "spare/s", LLMGW_OK, "spare");
    assert_true(t_now_ms() - begun < 500);
    pthread_join(thread, NULL);
    assert_true(rec_drive(gw, &rec, 1, 5000));
    assert_false(pthread_equal(given.thread, pthread_self()));
    rec_free(&rec);
    llmgw_close(gw);
}

#define TEST(f) cmocka_unit_test_setup(f, reset)
static const struct CMUnitTest tests[] = {
    TEST(one_token_serves_all),
    TEST(a_stream_has_it_too),
    TEST(only_for_its_provider),
    TEST(fetched_anew_before_its_end),
    TEST(early_by_two_minutes),
    TEST(refused_once_is_fetched_anew),
    TEST(refused_twice_goes_on_to_the_next),
    TEST(refused_alone_is_the_error),
    TEST(a_failing_function_is_a_refused_key),
    TEST(a_failing_function_says_so),
    TEST(what_is_no_token_is_none),
    TEST(it_may_not_ask_the_gateway),
    TEST(it_stands_in_no_error),
    TEST(never_over_plain_http),
    TEST(never_twice_at_once),
    TEST(a_slow_function_holds_up_its_caller_only),
};

int main(void) { return cmocka_run_group_tests_name("token", tests, group_start, group_stop); }
