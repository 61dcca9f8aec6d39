/* Limits of the configuration and of the provider's headers, with many threads on one gateway: the provider's own
 * count never exceeds them (law 5). Who has to wait is served in the order of priority, or refused at once when
 * waiting is hopeless. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"
#include "group.h"

#define MAIN_KEY "sk-main-0123456789abcde"
#define SIDE_KEY "sk-side-0123456789abcde"

static int headroom_lines; /* atomically */

static int reset(void **state) {
    provider_reset(&provider);
    headroom_lines = 0;
    return 0;
}

static void log_line(const llmgw_log_entry *entry, void *user) {
    if (entry->item == LLMGW_LOG_HEADROOM) __atomic_add_fetch(&headroom_lines, 1, __ATOMIC_RELAXED);
}

/* What a test limits: of the provider "main", and of its model "small". */
typedef struct Limits {
    int64_t rpm, tpm, rpd;
    int concurrency;
    int64_t model_rpm;
    int model_concurrency;
} Limits;

/* The providers main and side, and the route "r" over both. */
static llmgw *open_limits(const Limits *limits, const llmgw_options *more) {
    static const char *const targets[] = {"main/m", "side/s"};
    static char urls[2][128];
    llmgw_options options = *more;
    llmgw_provider providers[2];
    llmgw_model model;
    llmgw_route route;
    llmgw_error error;
    memset(&route, 0, sizeof route);
    memset(&model, 0, sizeof model);
    route.name = "r";
    route.targets = targets;
    route.target_count = 2;
    model.name = model.model = "small";
    model.provider = "main";
    model.rpm = limits->model_rpm;
    model.concurrency = limits->model_concurrency;
    providers[0] = t_provider(&provider, "main", "openai", "/v1", MAIN_KEY, urls[0]);
    providers[0].rpm = limits->rpm;
    providers[0].tpm = limits->tpm;
    providers[0].rpd = limits->rpd;
    providers[0].concurrency = limits->concurrency;
    providers[1] = t_provider(&provider, "side", "anthropic", "", SIDE_KEY, urls[1]);
    options.providers = providers;
    options.provider_count = 2;
    options.models = &model;
    options.model_count = 1;
    options.routes = &route;
    options.route_count = 1;
    options.no_environment = true;
    options.log = log_line;
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) fail_msg("llmgw_open: %s", error.text);
    return gw;
}

static llmgw_options usual(void) {
    llmgw_options options = t_calm();
    options.deadline_ms = 1200;
    return options;
}

/* ---- many threads ---- */

enum { THREADS = 64 };

typedef struct Crowd {
    llmgw *gw;
    const char *model;
    int64_t until; /* ms */
    int64_t max_tokens;
    int served, refused, late, wrong, no_time; /* atomically */
    int64_t slowest_refusal;
} Crowd;

static void crowd_count(Crowd *crowd, const llmgw_reply *reply, int64_t took) {
    int *which = reply->error.code == LLMGW_OK           ? &crowd->served
                 : reply->error.code == LLMGW_E_LIMIT    ? &crowd->refused
                 : reply->error.code == LLMGW_E_DEADLINE ? &crowd->late
                                                         : &crowd->wrong;
    __atomic_add_fetch(which, 1, __ATOMIC_RELAXED);
    if (which == &crowd->refused && reply->error.retry_after_ms <= 0)
        __atomic_add_fetch(&crowd->no_time, 1, __ATOMIC_RELAXED);
    if (which == &crowd->refused && took > __atomic_load_n(&crowd->slowest_refusal, __ATOMIC_RELAXED))
        __atomic_store_n(&crowd->slowest_refusal, took, __ATOMIC_RELAXED);
}

static void *crowd_main(void *user) {
    Crowd *crowd = (Crowd *)user;
    for (unsigned i = 0; t_now_ms() < crowd->until; i++) {
        llmgw_request request;
        memset(&request, 0, sizeof request);
        request.model = crowd->model;
        request.prompt = "a question of the crowd";
        request.stream = i % 2;
        request.max_tokens = crowd->max_tokens;
        int64_t begun = t_now_ms();
        llmgw_reply *reply = llmgw_chat(crowd->gw, &request);
        crowd_count(crowd, reply, t_now_ms() - begun);
        if (reply->error.code) t_sleep_ms(10);
        llmgw_reply_free(reply);
    }
    return NULL;
}

static void crowd_run(Crowd *crowd, int ms) {
    pthread_t threads[THREADS];
    crowd->until = t_now_ms() + ms;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, crowd_main, crowd), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    assert_int_equal(crowd->wrong, 0);
}

static int64_t main_key(const char *name) { return provider_key(&provider, MAIN_KEY, name); }

/* A stream without a callback: there is only the reply. */
static void a_stream_that_nobody_watches(void **state) {
    Limits limits = {0};
    llmgw_options options = usual();
    llmgw_request request;
    llmgw *gw = open_limits(&limits, &options);
    memset(&request, 0, sizeof request);
    request.model = "main/m";
    request.prompt = "fault:{\"script\":900,\"cut_at\":500} x";
    request.stream = true;
    llmgw_reply *reply = llmgw_chat(gw, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_int_equal(reply->attempts, 2);
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

static void concurrency_is_never_exceeded(void **state) {
    Limits limits = {.concurrency = 5};
    llmgw_options options = usual();
    Crowd crowd = {.model = "main/m"};
    provider_rule(&provider, "{\"limits\":{\"key\":\"*\",\"concurrency\":5}}");
    provider_model_rule(&provider, "m", "\"first_ms\":10");
    options.deadline_ms = 5000;
    crowd.gw = open_limits(&limits, &options);
    crowd_run(&crowd, 1500);
    assert_int_equal(main_key("refused"), 0);
    assert_int_equal(main_key("max_open"), 5);
    /* 5 at a time for 10 ms each: at most 750; a third of it is asked for on a machine that does other things */
    assert_true(crowd.served > (t_slow() ? 50 : 250));
    assert_int_equal(crowd.late, 0);
    llmgw_close(crowd.gw);
}

static void requests_a_minute_are_never_exceeded(void **state) {
    Limits limits = {.rpm = 100};
    llmgw_options options = usual();
    Crowd crowd = {.model = "main/m"};
    /* The limit it tells is wide: a header that is read late counts what was taken since twice, and holds back more than
     * it must, while here each of the 100 is asked for. */
    provider_rule(&provider, "{\"limits\":{\"key\":\"*\",\"rpm\":1000}}");
    crowd.gw = open_limits(&limits, &options);
    crowd_run(&crowd, 1500);
    assert_int_equal(main_key("refused"), 0);
    assert_int_equal(main_key("requests"), 100);
    assert_int_equal(crowd.served, 100);
    assert_true(crowd.refused > THREADS);
    assert_int_equal(crowd.no_time, 0);
    assert_int_equal(crowd.late, 0); /* hopeless: refused, not kept waiting */
    if (!t_slow()) assert_true(crowd.slowest_refusal < 500);
    llmgw_close(crowd.gw);
}

/* Reserved before, settled after: the echo uses fewer tokens than were reserved, so more than
 * tpm / reserved requests pass; and never more than tpm tokens. */
static void tokens_a_minute_are_never_exceeded(void **state) {
    Limits limits = {.tpm = 4000};
    llmgw_options options = usual();
    Crowd crowd = {.model = "main/m", .max_tokens = 100};
    crowd.gw = open_limits(&limits, &options);
    crowd_run(&crowd, 1500);
    int64_t tokens = main_key("tokens");
    if (tokens > 4000 || tokens < 2500) fail_msg("%lld tokens", (long long)tokens);
    assert_true(crowd.served > 4000 / 100 + 20);
    assert_true(crowd.refused > 0);
    llmgw_close(crowd.gw);
}

static void requests_a_day_are_never_exceeded(void **state) {
    Limits limits = {.rpd = 30};
    llmgw_options options = usual();
    Crowd crowd = {.model = "main/m"};
    crowd.gw = open_limits(&limits, &options);
    crowd_run(&crowd, 700);
    assert_int_equal(crowd.served, 30);
    assert_int_equal(main_key("requests"), 30);
    llmgw_close(crowd.gw);
}

/* Limits of a model hold beside those of its provider. */
static void limits_of_a_model(void **state) {
    Limits limits = {.model_rpm = 40, .model_concurrency = 2, .concurrency = 20};
    llmgw_options options = usual();
    Crowd crowd = {.model = "small"}, other = {.model = "main/other"};
    provider_rule(&provider, "{\"limits\":{\"key\":\"*\",\"concurrency\":2}}");
    provider_model_rule(&provider, "small", "\"first_ms\":5");
    crowd.gw = open_limits(&limits, &options);
    crowd_run(&crowd, 800);
    assert_int_equal(crowd.served, 40);
    assert_int_equal(provider_asked(&provider, "small"), 40);
    assert_true(main_key("refused") == 0 || t_slow()); /* it sees a reply's end later than we do */
    provider_reset(&provider);
    other.gw = crowd.gw;
    crowd_run(&other, 300);
    assert_true(other.served > 60);
    assert_int_equal(other.refused, 0);
    assert_true(main_key("max_open") <= 20);
    llmgw_close(crowd.gw);
}

/* ---- who waits ---- */

typedef struct Order {
    int next;
    int served[32]; /* numbers of calls in the order of their END */
} Order;

typedef struct Waiter {
    Order *order;
    int number;
} Waiter;

static void note_end(Rec *rec, const llmgw_event *event) {
    Waiter *waiter = (Waiter *)rec->arg;
    if (event->kind == LLMGW_EVENT_END) waiter->order->served[waiter->order->next++] = waiter->number;
}

/* One at a time; the calls are sent in the order batch, normal, interactive, batch ... */
static void waiting_calls_go_by_priority(void **state) {
    enum { CALLS = 12 };
    static const llmgw_priority turn[] = {LLMGW_PRIORITY_BATCH, LLMGW_PRIORITY_NORMAL,
                                          LLMGW_PRIORITY_INTERACTIVE};
    static const int rank[] = {1, 0, 2}; /* of normal, interactive, batch */
    Limits limits = {.concurrency = 1};
    llmgw_options options = usual();
    Rec recs[CALLS + 1];
    Waiter waiters[CALLS + 1];
    Order order = {0};
    options.deadline_ms = 10000;
    provider_model_rule(&provider, "m", "\"first_ms\":30");
    llmgw *gw = open_limits(&limits, &options);
    memset(recs, 0, sizeof recs);
    for (int i = 0; i <= CALLS; i++) {
        waiters[i].order = &order;
        waiters[i].number = i;
        recs[i].hook = note_end;
        recs[i].arg = &waiters[i];
        llmgw_request request = rec_request(&recs[i], "main/m", "x", true);
        request.priority = i ? turn[i % 3] : LLMGW_PRIORITY_NORMAL;
        rec_send(gw, &recs[i], &request);
        if (i == 0) (void)llmgw_poll(gw, 0); /* the first is on its way */
    }
    assert_true(rec_drive(gw, recs, CALLS + 1, 10000));
    assert_int_equal(order.served[0], 0);
    for (int i = 2; i <= CALLS; i++) {
        int before = rank[turn[order.served[i - 1] % 3]], now = rank[turn[order.served[i] % 3]];
        if (now < before || (now == before && order.served[i] < order.served[i - 1]))
            fail_msg("call %d was served after call %d", order.served[i], order.served[i - 1]);
    }
    for (int i = 0; i <= CALLS; i++) {
        rec_check(&recs[i]);
        t_expect_code(recs[i].reply, LLMGW_OK);
        if (i) assert_true(t_traced(recs[i].reply, LLMGW_TRACE_WAIT) >= 1);
        rec_free(&recs[i]);
    }
    llmgw_close(gw);
}

static void a_hopeless_call_is_refused_at_once(void **state) {
    Limits limits = {.rpm = 2};
    llmgw_options options = usual();
    options.deadline_ms = 5000;
    llmgw *gw = open_limits(&limits, &options);
    for (int i = 0; i < 2; i++) llmgw_reply_free(llmgw_ask(gw, "main/m", "x"));
    int64_t begun = t_now_ms();
    llmgw_reply *reply = llmgw_ask(gw, "main/m", "x");
    assert_true(t_now_ms() - begun < 1000);
    t_expect_code(reply, LLMGW_E_LIMIT);
    assert_true(reply->error.retryable);
    assert_in_range(reply->error.retry_after_ms, 50000, 62000);
    assert_int_equal(reply->attempts, 0);
    assert_int_equal(main_key("requests"), 2);
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

static void only_so_many_may_wait(void **state) {
    enum { CALLS = 10 };
    Limits limits = {.concurrency = 1};
    llmgw_options options = usual();
    Rec recs[CALLS];
    int served = 0, refused = 0;
    options.max_waiting = 4;
    options.deadline_ms = 10000;
    provider_model_rule(&provider, "m", "\"first_ms\":50");
    llmgw *gw = open_limits(&limits, &options);
    memset(recs, 0, sizeof recs);
    for (int i = 0; i < CALLS; i++) {
        llmgw_request request = rec_request(&recs[i], "main/m", "x", false);
        rec_send(gw, &recs[i], &request);
        (void)llmgw_poll(gw, 0);
    }
    assert_true(rec_drive(gw, recs, CALLS, 10000));
    for (int i = 0; i < CALLS; i++) {
        rec_check(&recs[i]);
        served += recs[i].reply->error.code == LLMGW_OK;
        refused += recs[i].reply->error.code == LLMGW_E_LIMIT;
        rec_free(&recs[i]);
    }
    assert_int_equal(served, 1 + 4);
    assert_int_equal(refused, CALLS - 5);
    llmgw_close(gw);
}

/* Who leaves gives back what was reserved: a waiting call that is cancelled, and one that runs. */
static void cancelled_calls_give_their_place_back(void **state) {
    Limits limits = {.concurrency = 2};
    llmgw_options options = usual();
    Rec recs[4];
    options.deadline_ms = 10000;
    provider_model_rule(&provider, "m", "\"never\":true");
    llmgw *gw = open_limits(&limits, &options);
    memset(recs, 0, sizeof recs);
    for (int i = 0; i < 4; i++) {
        llmgw_request request = rec_request(&recs[i], "main/m", "x", true);
        rec_send(gw, &recs[i], &request);
    }
    for (int64_t until = t_now_ms() + 300; t_now_ms() < until;) (void)llmgw_poll(gw, 20);
    assert_int_equal(provider_asked(&provider, "m"), 2);
    for (int i = 0; i < 4; i++) llmgw_cancel(gw, recs[i].call);
    assert_true(rec_drive(gw, recs, 4, 5000));
    provider_reset(&provider);
    for (int i = 0; i < 3; i++) {
        llmgw_reply *reply = llmgw_ask(gw, "main/m", "x");
        t_expect_code(reply, LLMGW_OK);
        llmgw_reply_free(reply);
    }
    for (int i = 0; i < 4; i++) {
        rec_check(&recs[i]);
        t_expect_code(recs[i].reply, LLMGW_E_CANCELLED);
        rec_free(&recs[i]);
    }
    llmgw_close(gw);
}

/* ---- the second target ---- */

static void what_is_over_goes_to_the_second_target(void **state) {
    Limits limits = {.rpm = 50};
    llmgw_options options = usual();
    Crowd crowd = {.model = "r"};
    provider_rule(&provider, "{\"limits\":{\"key\":\"" MAIN_KEY "\",\"rpm\":50}}");
    crowd.gw = open_limits(&limits, &options);
    crowd_run(&crowd, 700);
    assert_int_equal(main_key("requests"), 50);
    assert_int_equal(main_key("refused"), 0);
    assert_int_equal(crowd.refused + crowd.late, 0);
    assert_int_equal(provider_asked(&provider, "s"), crowd.served - 50);
    assert_true(crowd.served > 100);
    llmgw_reply *reply = llmgw_ask(crowd.gw, "r", "one more");
    assert_string_equal(reply->provider, "side");
    assert_int_equal(reply->trace[0].kind, LLMGW_TRACE_SKIP);
    assert_int_equal(reply->trace[0].code, LLMGW_E_LIMIT);
    llmgw_reply_free(reply);
    llmgw_close(crowd.gw);
}

/* ---- looking at limits ---- */

static bool find_limit(llmgw *gw, llmgw_limit_kind kind, const char *model, llmgw_limit *found) {
    llmgw_limit all[16];
    size_t n = llmgw_limits(gw, all, COUNT_OF(all));
    assert_true(n <= COUNT_OF(all));
    assert_int_equal(llmgw_limits(gw, NULL, 0), n);
    for (size_t i = 0; i < n; i++) {
        if (all[i].kind != kind || strcmp(all[i].model, model) != 0 || strcmp(all[i].provider, "main") != 0)
            continue;
        *found = all[i];
        return true;
    }
    return false;
}

static void limits_can_be_looked_at(void **state) {
    Limits limits = {.rpm = 10, .tpm = 100000, .rpd = 1000, .concurrency = 7, .model_rpm = 5};
    llmgw_options options = usual();
    llmgw *gw = open_limits(&limits, &options);
    llmgw_limit found;
    for (int i = 0; i < 3; i++) llmgw_reply_free(llmgw_ask(gw, "small", "x"));
    assert_true(find_limit(gw, LLMGW_LIMIT_RPM, "", &found));
    assert_int_equal(found.limit, 10);
    assert_int_equal(found.used, 3);
    assert_int_equal(found.key, 0);
    assert_false(found.learned);
    assert_true(find_limit(gw, LLMGW_LIMIT_TPM, "", &found));
    assert_int_equal(found.limit, 100000);
    assert_int_equal(found.used, main_key("tokens")); /* settled */
    assert_true(find_limit(gw, LLMGW_LIMIT_RPD, "", &found));
    assert_int_equal(found.used, 3);
    assert_true(find_limit(gw, LLMGW_LIMIT_CONCURRENCY, "", &found));
    assert_int_equal(found.limit, 7);
    assert_int_equal(found.used, 0);
    assert_true(find_limit(gw, LLMGW_LIMIT_RPM, "small", &found));
    assert_int_equal(found.limit, 5);
    assert_int_equal(found.used, 3);
    assert_int_equal(found.key, -1);
    assert_string_equal(llmgw_limit_name(LLMGW_LIMIT_RPM), "rpm");
    assert_string_equal(llmgw_limit_name((llmgw_limit_kind)99), "?");
    llmgw_close(gw);
}

static void headroom_is_told_once(void **state) {
    Limits limits = {.rpm = 10};
    llmgw_options options = usual();
    llmgw *gw = open_limits(&limits, &options);
    for (int i = 0; i < 7; i++) llmgw_reply_free(llmgw_ask(gw, "main/m", "x"));
    assert_int_equal(headroom_lines, 0);
    llmgw_reply_free(llmgw_ask(gw, "main/m", "x"));
    assert_int_equal(headroom_lines, 1);
    for (int i = 0; i < 2; i++) llmgw_reply_free(llmgw_ask(gw, "main/m", "x"));
    assert_int_equal(headroom_lines, 1);
    llmgw_close(gw);
}

/* ---- what the provider says itself ---- */

/* Its headers tell of a limit that nobody configured: it is kept to before it is met. */
static void a_limit_of_the_headers_is_kept(void **state) {
    for (int i = 0; i < 2; i++) {
        Limits limits = {0};
        llmgw_options options = usual();
        llmgw_limit found;
        const char *key = i ? SIDE_KEY : MAIN_KEY, *model = i ? "side/s" : "main/m";
        options.deadline_ms = 3000;
        provider_reset(&provider);
        provider_rule(&provider, "{\"limits\":{\"key\":\"*\",\"rpm\":600,\"burst\":5,\"window_ms\":60000}}");
        llmgw *gw = open_limits(&limits, &options);
        int64_t begun = t_now_ms();
        for (int k = 0; k < 15; k++) {
            llmgw_reply *reply = llmgw_ask(gw, model, "x");
            t_expect_code(reply, LLMGW_OK);
            llmgw_reply_free(reply);
        }
        /* 5 at once, then ten a second */
        assert_true(t_now_ms() - begun >= 900);
        /* a request that meets the limit all the same is rare: whole seconds in headers, clocks */
        assert_true(provider_key(&provider, key, "refused") <= (i ? 4 : 2));
        if (!i) {
            assert_true(find_limit(gw, LLMGW_LIMIT_RPM, "", &found) ||
                        find_limit(gw, LLMGW_LIMIT_RPM, "m", &found));
            assert_true(found.learned);
        }
        llmgw_close(gw);
    }
}

/* 429 with Retry-After: nobody asks before (law 3), the calls wait and are answered. */
static void a_retry_after_is_waited_for(void **state) {
    enum { CALLS = 8 };
    Limits limits = {0};
    llmgw_options options = usual();
    Rec recs[CALLS];
    options.deadline_ms = 6000;
    provider_rule(&provider, "{\"limits\":{\"key\":\"*\",\"rpm\":4,\"window_ms\":1200}}");
    llmgw *gw = open_limits(&limits, &options);
    memset(recs, 0, sizeof recs);
    for (int i = 0; i < CALLS; i++) {
        llmgw_request request = rec_request(&recs[i], "main/m", "x", true);
        rec_send(gw, &recs[i], &request);
    }
    assert_true(rec_drive(gw, recs, CALLS, 10000));
    for (int i = 0; i < CALLS; i++) {
        rec_check(&recs[i]);
        t_expect_code(recs[i].reply, LLMGW_OK);
        rec_free(&recs[i]);
    }
    assert_true(main_key("refused") <= 8);
    llmgw_close(gw);
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_stream_that_nobody_watches),
        TEST(concurrency_is_never_exceeded),
        TEST(requests_a_minute_are_never_exceeded),
        TEST(tokens_a_minute_are_never_exceeded),
        TEST(requests_a_day_are_never_exceeded),
        TEST(limits_of_a_model),
        TEST(waiting_calls_go_by_priority),
        TEST(a_hopeless_call_is_refused_at_once),
        TEST(only_so_many_may_wait),
        TEST(cancelled_calls_give_their_place_back),
        TEST(what_is_over_goes_to_the_second_target),
        TEST(limits_can_be_looked_at),
        TEST(headroom_is_told_once),
        TEST(a_limit_of_the_headers_is_kept),
        TEST(a_retry_after_is_waited_for),
    };
    return cmocka_run_group_tests_name("limits", tests, group_start, group_stop);
}
