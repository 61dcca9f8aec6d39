/* Routes: races, hedges, weights, load and speed; answers that are not valid; errors just after the start that
 * nobody sees; breakers; the retry budget. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"
#include "group.h"

static int reset(void **state) {
    provider_reset(&provider);
    return 0;
}

static const char *const abc[] = {"a", "b", "c"};

/* 1,000 and 2,000 USD a million tokens: 1e9 and 2e9 pico-dollars a token */
static void set_price(llmgw_price *price) {
    memset(price, 0, sizeof *price);
    price->input = llmgw_set(1000);
    price->output = llmgw_set(2000);
}

/* The route "r" over the models a (openai), b (anthropic) and c (gemini), each in a region of its own name. */
static llmgw *open_route(const llmgw_route *route, const llmgw_options *more) {
    static const char *const names[] = {"one", "two", "three"}, *const paths[] = {"/v1", "", "/v1beta"};
    static char urls[3][128];
    llmgw_provider providers[3];
    llmgw_model models[3];
    llmgw_route own = *route;
    llmgw_options options = *more;
    llmgw_error error;
    memset(models, 0, sizeof models);
    for (size_t i = 0; i < 3; i++) {
        providers[i] =
            t_provider(&provider, names[i], t_dialects[i], paths[i], "sk-routes-0123456789", urls[i]);
        providers[i].region = names[i];
        models[i].name = models[i].model = abc[i];
        models[i].provider = names[i];
        set_price(&models[i].price);
    }
    own.name = "r";
    if (!own.targets) own.targets = abc;
    if (!own.target_count) own.target_count = 3;
    options.providers = providers;
    options.provider_count = 3;
    options.models = models;
    options.model_count = 3;
    options.routes = &own;
    options.route_count = 1;
    options.no_environment = true;
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) fail_msg("llmgw_open: %s", error.text);
    return gw;
}

static llmgw *open_calm(const llmgw_route *route) {
    llmgw_options options = t_calm();
    return open_route(route, &options);
}

static void rule(const char *model, const char *fault) { provider_model_rule(&provider, model, fault); }

/* The events show the winner's text only; the reply's cost is the sum. */
static void expect_answer(const llmgw_reply *reply, const char *model, const char *text) {
    bool known = true;
    int64_t sum = 0;
    t_expect_code(reply, LLMGW_OK);
    assert_string_equal(reply->model, model);
    assert_string_equal(reply->text, text);
    for (size_t i = 0; i < reply->trace_count; i++) {
        const llmgw_trace *item = &reply->trace[i];
        if (item->kind != LLMGW_TRACE_ATTEMPT) continue;
        known = known && item->cost.known;
        sum += item->cost.pico_usd;
        if (item->epoch == reply->epoch) assert_string_equal(item->model, model);
    }
    assert_int_equal(reply->cost.known, known);
    if (known) assert_true(reply->cost.pico_usd == sum);
}

static const llmgw_trace *trace_of(const llmgw_reply *reply, const char *model, llmgw_trace_kind kind) {
    for (size_t i = 0; i < reply->trace_count; i++)
        if (reply->trace[i].kind == kind && !strcmp(reply->trace[i].model, model)) return &reply->trace[i];
    return NULL;
}

/* ---- race ---- */

typedef struct Seen {
    uint32_t epochs; /* bits: attempts that gave text, reasoning or tools */
} Seen;

static void see(Rec *rec, const llmgw_event *event) {
    Seen *seen = (Seen *)rec->arg;
    bool content = event->kind == LLMGW_EVENT_TEXT || event->kind == LLMGW_EVENT_REASONING ||
                   event->kind == LLMGW_EVENT_TOOL;
    if (content && event->epoch < 32) seen->epochs |= 1u << event->epoch;
}

typedef struct Race {
    const char *by, *a, *b; /* faults */
    bool stream;
    const char *winner;
} Race;

static const Race races[] = {
    {NULL, "\"first_ms\":900", "\"first_ms\":10", true, "b"},
    {NULL, "\"first_ms\":900", "\"first_ms\":10", false, "b"},
    {"first_text", "\"first_ms\":10", "\"first_ms\":900", true, "a"},
    /* a speaks first, but takes long to end */
    {"first_text", "\"first_ms\":10,\"chunk_ms\":60", "\"first_ms\":120", true, "a"},
    {"complete", "\"first_ms\":10,\"chunk_ms\":200", "\"first_ms\":120", true, "b"},
    {"complete", "\"first_ms\":900", "\"first_ms\":100", false, "b"},
    {"complete", "\"status\":500", "\"first_ms\":10", true, "b"},
    {NULL, "\"status\":401", "\"first_ms\":100", false, "b"},
};

static void one_race(const Race *race) {
    llmgw_route route = {.how = "race", .race_by = race->by, .target_count = 2};
    llmgw_options options = t_calm();
    options.hold_ms = options.hold_bytes = LLMGW_OFF;
    char text[64];
    Rec rec = {0};
    Seen seen = {0};
    bool fails = strstr(race->a, "status") != NULL;
    provider_reset(&provider);
    rule("a", race->a);
    rule("b", race->b);
    llmgw *gw = open_route(&route, &options);
    llmgw_request request = rec_request(&rec, "r", "who is the fastest of you?", race->stream);
    rec.hook = see;
    rec.arg = &seen;
    int64_t begun = t_now_ms();
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    if (!t_slow()) assert_true(t_now_ms() - begun < 880);
    snprintf(text, sizeof text, "Echo from %s: who is the fastest of you?", race->winner);
    expect_answer(reply, race->winner, text);
    assert_int_equal(reply->attempts, 2);
    assert_int_equal(rec.rewinds, 0);
    assert_int_equal(seen.epochs, 1u << reply->epoch);
    const char *loser = *race->winner == 'a' ? "b" : "a";
    const llmgw_trace *lost = trace_of(reply, loser, LLMGW_TRACE_ATTEMPT);
    assert_non_null(lost);
    assert_true(lost->code != LLMGW_OK);
    assert_true(provider_wait(&provider, "open", 0, 3000));
    assert_int_equal(provider_count(&provider, "disconnects"), fails ? 0 : 1);
    if (!fails) {
        assert_true(lost->sent);
        assert_true(lost->cost.known && lost->cost.estimated && lost->cost.pico_usd > 0);
    }
    rec_free(&rec);
    llmgw_close(gw);
}

static void a_race_has_one_winner(void **state) {
    for (size_t i = 0; i < COUNT_OF(races); i++) one_race(&races[i]);
}

static void a_race_goes_on_with_the_rest(void **state) {
    llmgw_route route = {.how = "race"};
    Rec rec = {0};
    rule("a", "\"status\":500,\"delay_ms\":30");
    rule("b", "\"status\":503");
    llmgw *gw = open_calm(&route);
    llmgw_request request = rec_request(&rec, "r", "x", true);
    expect_answer(rec_chat(gw, &rec, &request), "c", "Echo from c: x");
    assert_int_equal(rec.reply->attempts, 3);
    rec_free(&rec);
    llmgw_close(gw);
}

static void a_race_of_three(void **state) {
    llmgw_route route = {.how = "race", .width = 3};
    Rec rec = {0};
    rule("a", "\"first_ms\":2000");
    rule("b", "\"first_ms\":2000");
    rule("c", "\"first_ms\":250"); /* the others have been asked by then, also on a slow machine */
    llmgw *gw = open_calm(&route);
    llmgw_request request = rec_request(&rec, "r", "x", true);
    expect_answer(rec_chat(gw, &rec, &request), "c", "Echo from c: x");
    assert_int_equal(rec.reply->attempts, 3);
    assert_true(provider_wait(&provider, "disconnects", 2, 3000));
    rec_free(&rec);
    llmgw_close(gw);
}

/* The winner has shown text, and is cut: the text is whole in the end all the same. */
static void a_winner_that_is_cut(void **state) {
    llmgw_route route = {.how = "race", .target_count = 2};
    Rec rec = {0};
    char *script = provider_script(&provider, 1500);
    rule("a", "\"script\":1500,\"cut_at\":700");
    rule("b", "\"script\":1500,\"first_ms\":500");
    llmgw *gw = open_calm(&route);
    llmgw_request request = rec_request(&rec, "r", "x", true);
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_string_equal(reply->text, script);
    rec_free(&rec);
    free(script);
    llmgw_close(gw);
}

/* Two targets of one region fail together: the race looks elsewhere first. */
static void a_race_looks_elsewhere(void **state) {
    static const char *const targets[] = {"one/x", "one/y", "two/z"};
    llmgw_route route = {.how = "race", .targets = targets, .target_count = 3};
    Rec rec = {0};
    llmgw *gw = open_calm(&route);
    llmgw_request request = rec_request(&rec, "r", "x", true);
    t_expect_code(rec_chat(gw, &rec, &request), LLMGW_OK);
    assert_int_equal(provider_asked(&provider, "x"), 1);
    assert_int_equal(provider_asked(&provider, "y"), 0);
    assert_int_equal(provider_asked(&provider, "z"), 1);
    rec_free(&rec);
    llmgw_close(gw);
}

/* ---- hedge ---- */

static void a_hedge_saves_a_slow_call(void **state) {
    for (int stream = 0; stream < 2; stream++) {
        llmgw_route route = {.hedge_ms = 80, .hedge_percent = 100};
        Rec rec = {0};
        provider_reset(&provider);
        rule("a", "\"first_ms\":2000");
        llmgw *gw = open_calm(&route);
        llmgw_request request = rec_request(&rec, "r", "x", stream);
        int64_t begun = t_now_ms();
        expect_answer(rec_chat(gw, &rec, &request), "b", "Echo from b: x");
        assert_true(t_now_ms() - begun >= 78);
        assert_true(t_now_ms() - begun < 1500);
        assert_int_equal(rec.reply->attempts, 2);
        assert_int_equal(rec.rewinds, 0);
        assert_true(provider_wait(&provider, "disconnects", 1, 3000));
        const llmgw_trace *lost = trace_of(rec.reply, "a", LLMGW_TRACE_ATTEMPT);
        assert_true(lost && lost->code != LLMGW_OK && lost->sent && lost->cost.known);
        rec_free(&rec);
        llmgw_close(gw);
    }
}

static void a_quick_call_is_not_hedged(void **state) {
    llmgw_route route = {.hedge_ms = 300, .hedge_percent = 100};
    llmgw *gw = open_calm(&route);
    rule("a", "\"first_ms\":10,\"chunk_ms\":150"); /* 450 ms until its end: shown text is what counts */
    for (int i = 0; i < 5; i++) {
        Rec rec = {0};
        llmgw_request request = rec_request(&rec, "r", "xyz", true);
        expect_answer(rec_chat(gw, &rec, &request), "a", "Echo from a: xyz");
        assert_int_equal(rec.reply->attempts, 1);
        rec_free(&rec);
    }
    llmgw_close(gw);
}

/* The first is better after all: the hedge loses. */
static void a_hedge_may_lose(void **state) {
    llmgw_route route = {.hedge_ms = 50, .hedge_percent = 100};
    Rec rec = {0};
    rule("a", "\"first_ms\":250");
    rule("b", "\"first_ms\":2000");
    llmgw *gw = open_calm(&route);
    llmgw_request request = rec_request(&rec, "r", "x", true);
    expect_answer(rec_chat(gw, &rec, &request), "a", "Echo from a: x");
    assert_int_equal(rec.reply->attempts, 2);
    assert_true(provider_wait(&provider, "disconnects", 1, 3000));
    rec_free(&rec);
    llmgw_close(gw);
}

static void hedges_are_a_share_of_the_calls(void **state) {
    static const int shares[] = {0, 10, 50}; /* 0: 5 % */
    enum { CALLS = 100, BATCH = 10 };
    static Rec recs[BATCH];
    for (size_t i = 0; i < COUNT_OF(shares); i++) {
        llmgw_route route = {.hedge_ms = 20, .hedge_percent = shares[i]};
        llmgw_options options = t_calm();
        provider_reset(&provider);
        rule("a", "\"first_ms\":60");
        llmgw *gw = open_route(&route, &options);
        for (int done = 0; done < CALLS; done += BATCH) {
            memset(recs, 0, sizeof recs);
            for (int k = 0; k < BATCH; k++) {
                llmgw_request request = rec_request(&recs[k], "r", "x", true);
                rec_send(gw, &recs[k], &request);
            }
            assert_true(rec_drive(gw, recs, BATCH, 10000));
            for (int k = 0; k < BATCH; k++) {
                rec_check(&recs[k]);
                t_expect_code(recs[k].reply, LLMGW_OK);
                rec_free(&recs[k]);
            }
        }
        int hedged = provider_asked(&provider, "b"), most = shares[i] ? shares[i] : 5;
        /* some are allowed ahead, so that a quiet route can hedge at all */
        if (hedged > most + 5 || hedged < most / 2)
            fail_msg("%d of %d calls were hedged, of %d", hedged, CALLS, most);
        llmgw_close(gw);
    }
}

static void a_hedge_after_the_p95(void **state) {
    llmgw_route route = {.hedge_ms = LLMGW_P95, .hedge_percent = 100};
    llmgw *gw = open_calm(&route);
    Rec rec = {0};
    rule("a", "\"first_ms\":20,\"times\":40");
    rule("a", "\"first_ms\":3000");
    for (int i = 0; i < 40; i++) {
        Rec one = {0};
        llmgw_request request = rec_request(&one, "r", "x", true);
        t_expect_code(rec_chat(gw, &one, &request), LLMGW_OK);
        if (i < 20) assert_int_equal(one.reply->attempts, 1); /* nothing is known yet */
        rec_free(&one);
    }
    llmgw_request request = rec_request(&rec, "r", "x", true);
    int64_t begun = t_now_ms();
    expect_answer(rec_chat(gw, &rec, &request), "b", "Echo from b: x");
    assert_true(t_now_ms() - begun < 2000);
    rec_free(&rec);
    llmgw_close(gw);
}

/* ---- orders ---- */

static void weights_are_shares(void **state) {
    static const double weights[] = {1, 2.5, 6.5};
    enum { CALLS = 400 };
    llmgw_route route = {.how = "weighted", .weights = weights, .weight_count = 3};
    llmgw *gw = open_calm(&route);
    double chi = 0;
    for (int i = 0; i < CALLS; i++) {
        llmgw_reply *reply = llmgw_ask(gw, "r", "x");
        t_expect_code(reply, LLMGW_OK);
        assert_int_equal(reply->attempts, 1);
        llmgw_reply_free(reply);
    }
    for (size_t i = 0; i < 3; i++) {
        double want = CALLS * weights[i] / 10, is = provider_asked(&provider, abc[i]);
        chi += (is - want) * (is - want) / want;
    }
    /* chi-square with 2 degrees of freedom: over 23 once in 100,000 runs */
    if (chi > 23) fail_msg("chi-square %.1f", chi);
    llmgw_close(gw);
}

static void without_weights_all_are_equal(void **state) {
    llmgw_route route = {.how = "weighted"};
    llmgw *gw = open_calm(&route);
    for (int i = 0; i < 90; i++) llmgw_reply_free(llmgw_ask(gw, "r", "x"));
    for (size_t i = 0; i < 3; i++) assert_in_range(provider_asked(&provider, abc[i]), 10, 55);
    llmgw_close(gw);
}

static void the_least_busy_comes_first(void **state) {
    enum { CALLS = 30 };
    static Rec recs[CALLS];
    llmgw_route route = {.how = "least_busy"};
    llmgw *gw = open_calm(&route);
    memset(recs, 0, sizeof recs);
    rule("*", "\"first_ms\":600");
    for (int i = 0; i < CALLS; i++) {
        llmgw_request request = rec_request(&recs[i], "r", "x", true);
        rec_send(gw, &recs[i], &request);
    }
    assert_true(rec_drive(gw, recs, CALLS, 10000));
    for (size_t i = 0; i < 3; i++) assert_in_range(provider_asked(&provider, abc[i]), 9, 11);
    for (int i = 0; i < CALLS; i++) {
        rec_check(&recs[i]);
        rec_free(&recs[i]);
    }
    llmgw_close(gw);
}

static void the_fastest_is_preferred(void **state) {
    llmgw_route route = {.how = "fastest", .target_count = 2};
    llmgw *gw = open_calm(&route);
    rule("a", "\"first_ms\":60");
    rule("b", "\"first_ms\":2");
    for (int i = 0; i < 100; i++) {
        llmgw_reply *reply = llmgw_ask(gw, "r", "x");
        t_expect_code(reply, LLMGW_OK);
        llmgw_reply_free(reply);
    }
    assert_in_range(provider_asked(&provider, "b"), 85, 100);
    /* it becomes the slow one: the other takes over */
    provider_reset(&provider);
    rule("b", "\"first_ms\":150");
    for (int i = 0; i < 30; i++) llmgw_reply_free(llmgw_ask(gw, "r", "x"));
    assert_in_range(provider_asked(&provider, "a"), 20, 30);
    llmgw_close(gw);
}

/* What fails goes on to the others, in every order. */
static void every_order_falls_back(void **state) {
    static const char *const hows[] = {"fallback", "race", "weighted", "least_busy", "fastest"};
    for (size_t i = 0; i < COUNT_OF(hows); i++) {
        llmgw_route route = {.how = hows[i]};
        provider_reset(&provider);
        rule("a", "\"status\":500");
        rule("b", "\"status\":400");
        llmgw *gw = open_calm(&route);
        for (int k = 0; k < 10; k++) {
            Rec rec = {0};
            llmgw_request request = rec_request(&rec, "r", "x", k % 2);
            expect_answer(rec_chat(gw, &rec, &request), "c", "Echo from c: x");
            rec_free(&rec);
        }
        llmgw_close(gw);
    }
}

/* ---- validators ---- */

static bool no_bad_word(const llmgw_reply *reply, void *user) { return !strstr(reply->text, "bad word"); }

typedef struct Check {
    unsigned flag;
    const char *fault;
    bool own; /* is_valid */
} Check;

static const Check checks[] = {
    {LLMGW_VALID_NOT_EMPTY, "\"text\":\"\"", false},
    {LLMGW_VALID_NOT_REFUSED, "\"refusal\":\"I will not.\"", false},
    {LLMGW_VALID_NOT_REFUSED, "\"finish\":\"content_filter\"", false},
    {LLMGW_VALID_SCHEMA, "\"text\":\"this is no JSON\"", false},
    {LLMGW_VALID_SCHEMA, "\"text\":\"{\\\"city\\\":5}\"", false},
    {LLMGW_VALID_SCHEMA, "\"text\":\"{\\\"town\\\":\\\"Rome\\\"}\"", false},
    {0, "\"text\":\"this has a bad word in it, and some more after it to be shown\"", true},
};

#define SCHEMA "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"}},\"required\":[\"city\"]}"

static void one_check(const Check *check, bool stream, bool of_route) {
    llmgw_route route = {.valid = of_route ? check->flag : 0};
    Rec rec = {0};
    provider_reset(&provider);
    rule("a", check->fault);
    llmgw *gw = open_calm(&route);
    llmgw_request request = rec_request(&rec, "r", "x", stream);
    if (!of_route) request.valid = check->flag;
    if (check->flag == LLMGW_VALID_SCHEMA) request.schema = SCHEMA;
    if (check->own) request.is_valid = no_bad_word;
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_OK);
    if (strcmp(reply->model, "b") != 0) fail_msg("%s passed, stream %d", check->fault, stream);
    const llmgw_trace *first = trace_of(reply, "a", LLMGW_TRACE_ATTEMPT);
    assert_non_null(first);
    assert_int_equal(first->code, LLMGW_E_INVALID);
    if (check->own && stream) assert_int_equal(rec.rewinds, 1);
    assert_string_equal(reply->text,
                        check->flag == LLMGW_VALID_SCHEMA ? "{\"city\":\"text\"}" : "Echo from b: x");
    rec_free(&rec);
    llmgw_close(gw);
}

static void invalid_answers_go_to_the_next(void **state) {
    for (size_t i = 0; i < COUNT_OF(checks); i++)
        for (int way = 0; way < 4; way++) one_check(&checks[i], way & 1, way & 2);
}

static void keep_of(Rec *rec, const llmgw_event *event) {
    if (event->kind == LLMGW_EVENT_REWIND) *(size_t *)rec->arg = event->keep;
}

static void an_invalid_text_is_taken_back_whole(void **state) {
    llmgw_route route = {.target_count = 2};
    Rec rec = {0};
    size_t keep = 77;
    rule("a", "\"script\":900,\"model_echo\":\"bad\"");
    rule("b", "\"text\":\"All is well here, and there is enough of it to be shown at once.\"");
    llmgw *gw = open_calm(&route);
    llmgw_request request = rec_request(&rec, "r", "x", true);
    request.schema = SCHEMA; /* the first is no JSON */
    request.valid = LLMGW_VALID_SCHEMA;
    rec.hook = keep_of;
    rec.arg = &keep;
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_E_INVALID); /* nor is the second */
    assert_int_equal(keep, 0);
    assert_true(rec.rewinds >= 1);
    rec_free(&rec);
    llmgw_close(gw);
}

static void a_valid_answer_is_left_alone(void **state) {
    llmgw_route route = {.valid = LLMGW_VALID_NOT_EMPTY | LLMGW_VALID_NOT_REFUSED};
    llmgw *gw = open_calm(&route);
    for (int stream = 0; stream < 2; stream++) {
        Rec rec = {0};
        llmgw_request request = rec_request(&rec, "r", "x", stream);
        request.is_valid = no_bad_word;
        expect_answer(rec_chat(gw, &rec, &request), "a", "Echo from a: x");
        assert_int_equal(rec.reply->attempts, 1);
        rec_free(&rec);
    }
    llmgw_close(gw);
}

/* ---- hold-back ---- */

static const char *const early[] = {
    "\"error_after\":0",
    "\"error_after\":1",
    "\"error_after\":2",
    "\"cut_at\":0,\"text_repeat\":9,\"cut_times\":9",
    "\"cut_at\":20,\"text_repeat\":9,\"cut_times\":9",
    "\"garbage_after\":2,\"text_repeat\":9",
};

static void early_errors_are_not_seen(void **state) {
    llmgw_route route = {0};
    for (size_t i = 0; i < COUNT_OF(early); i++)
        for (size_t k = 0; k < 3; k++) {
            const char *targets[] = {abc[k], abc[(k + 1) % 3]};
            char text[40];
            Rec rec = {0};
            route.targets = targets;
            route.target_count = 2;
            provider_reset(&provider);
            rule(targets[0], early[i]);
            llmgw *gw = open_calm(&route);
            llmgw_request request = rec_request(&rec, "r", "x", true);
            snprintf(text, sizeof text, "Echo from %s: x", targets[1]);
            expect_answer(rec_chat(gw, &rec, &request), targets[1], text);
            assert_int_equal(rec.reply->attempts, 2);
            if (rec.rewinds) fail_msg("%s at %s was seen", early[i], targets[0]);
            rec_free(&rec);
            llmgw_close(gw);
        }
}

static void without_hold_back_they_are(void **state) {
    llmgw_route route = {.target_count = 2};
    llmgw_options options = t_calm();
    Rec rec = {0};
    options.hold_ms = options.hold_bytes = LLMGW_OFF;
    options.max_resumes = LLMGW_OFF;
    rule("a", "\"error_after\":2,\"chunk_ms\":20");
    llmgw *gw = open_route(&route, &options);
    llmgw_request request = rec_request(&rec, "r", "x", true);
    expect_answer(rec_chat(gw, &rec, &request), "b", "Echo from b: x");
    assert_int_equal(rec.rewinds, 1);
    rec_free(&rec);
    llmgw_close(gw);
}

static void first_text(Rec *rec, const llmgw_event *event) {
    int64_t *at = (int64_t *)rec->arg;
    if (event->kind == LLMGW_EVENT_TEXT && !*at) *at = t_now_ms();
}

/* A slow beginning is shown after hold_ms, not after the next piece. */
static void text_is_held_back_for_a_moment_only(void **state) {
    llmgw_route route = {0};
    llmgw_options options = t_calm();
    Rec rec = {0};
    int64_t shown = 0, begun = t_now_ms();
    options.hold_ms = 100;
    options.hold_bytes = 4096;
    rule("a", "\"chunk_ms\":700,\"chunk_chars\":9");
    llmgw *gw = open_route(&route, &options);
    llmgw_request request = rec_request(&rec, "r", "x", true);
    rec.hook = first_text;
    rec.arg = &shown;
    expect_answer(rec_chat(gw, &rec, &request), "a", "Echo from a: x");
    /* the first event of the stream has no text, so the text comes after 700 ms */
    assert_in_range(shown - begun, 700 + 90, 1350);
    rec_free(&rec);
    llmgw_close(gw);
}

/* ---- breaker ---- */

static int lines[LLMGW_LOG_ITEM_COUNT]; /* one thread drives */

static void count_line(const llmgw_log_entry *entry, void *user) { lines[entry->item]++; }

static llmgw_target target_of(llmgw *gw, const char *model) {
    llmgw_target all[8];
    size_t n = llmgw_targets(gw, all, COUNT_OF(all));
    for (size_t i = 0; i < n && i < COUNT_OF(all); i++)
        if (!strcmp(all[i].model, model)) return all[i];
    fail_msg("llmgw_targets does not know %s", model);
    return all[0];
}

static llmgw *open_breaker(int open_ms) {
    llmgw_route route = {.target_count = 2};
    llmgw_options options = {0};
    options.backoff_ms = 1;
    options.retry_percent = LLMGW_OFF;
    options.breaker_open_ms = open_ms;
    options.log = count_line;
    memset(lines, 0, sizeof lines);
    return open_route(&route, &options);
}

static llmgw_reply *expect_from(llmgw *gw, const char *model) {
    llmgw_reply *reply = llmgw_ask(gw, "r", "x");
    t_expect_code(reply, LLMGW_OK);
    if (model) assert_string_equal(reply->model, model);
    return reply;
}

static void a_breaker_opens_and_closes(void **state) {
    llmgw *gw = open_breaker(400);
    rule("a", "\"status\":500");
    for (int i = 0; i < 5; i++) llmgw_reply_free(expect_from(gw, "b"));
    assert_int_equal(provider_asked(&provider, "a"), 5);
    int64_t opened = t_now_ms();
    llmgw_target a = target_of(gw, "a");
    assert_int_equal(a.breaker, LLMGW_BREAKER_OPEN);
    assert_true(a.open_ms > 0 && a.open_ms <= 400);
    assert_int_equal(a.attempts, 5);
    assert_int_equal(a.failures, 5);
    assert_int_equal(lines[LLMGW_LOG_BREAKER], 1);
    while (t_now_ms() < opened + 250) {
        llmgw_reply *reply = expect_from(gw, "b");
        const llmgw_trace *skip = trace_of(reply, "a", LLMGW_TRACE_SKIP);
        assert_non_null(skip);
        assert_int_equal(skip->code, LLMGW_E_BREAKER);
        assert_int_equal(reply->attempts, 1);
        llmgw_reply_free(reply);
        t_sleep_ms(10);
    }
    assert_int_equal(provider_asked(&provider, "a"), 5);
    assert_int_equal(target_of(gw, "b").breaker, LLMGW_BREAKER_CLOSED);
    provider_reset(&provider); /* it is well again */
    t_sleep_ms(250);
    for (int i = 0; i < 4; i++) llmgw_reply_free(expect_from(gw, NULL));
    assert_true(provider_asked(&provider, "a") >= 2);
    assert_int_equal(target_of(gw, "a").breaker, LLMGW_BREAKER_CLOSED);
    llmgw_reply_free(expect_from(gw, "a"));
    assert_true(lines[LLMGW_LOG_BREAKER] >= 2);
    llmgw_close(gw);
}

/* One probe at a time, and a failed one doubles the time. */
static void a_failed_probe_opens_for_longer(void **state) {
    llmgw *gw = open_breaker(200);
    rule("a", "\"status\":500");
    for (int i = 0; i < 5; i++) llmgw_reply_free(expect_from(gw, "b"));
    t_sleep_ms(230);
    for (int i = 0; i < 3; i++) llmgw_reply_free(expect_from(gw, "b"));
    assert_int_equal(provider_asked(&provider, "a"), 6);
    llmgw_target a = target_of(gw, "a");
    assert_int_equal(a.breaker, LLMGW_BREAKER_OPEN);
    assert_true(a.open_ms > 200 && a.open_ms <= 400);
    llmgw_close(gw);
}

static void only_one_probe_at_a_time(void **state) {
    enum { CALLS = 12 };
    static Rec recs[CALLS];
    llmgw *gw = open_breaker(200);
    memset(recs, 0, sizeof recs);
    rule("a", "\"status\":500,\"times\":5");
    rule("a", "\"first_ms\":300");
    for (int i = 0; i < 5; i++) llmgw_reply_free(expect_from(gw, "b"));
    t_sleep_ms(230);
    for (int i = 0; i < CALLS; i++) {
        llmgw_request request = rec_request(&recs[i], "r", "x", false);
        rec_send(gw, &recs[i], &request);
    }
    assert_true(rec_drive(gw, recs, CALLS, 10000));
    assert_int_equal(provider_asked(&provider, "a"), 6);
    for (int i = 0; i < CALLS; i++) {
        rec_check(&recs[i]);
        t_expect_code(recs[i].reply, LLMGW_OK);
        rec_free(&recs[i]);
    }
    llmgw_close(gw);
}

/* Law 4: with every target open, one is tried all the same. */
static void with_all_open_one_is_tried(void **state) {
    llmgw *gw = open_breaker(60000);
    rule("*", "\"status\":500");
    for (int i = 0; i < 10; i++) llmgw_reply_free(llmgw_ask(gw, "r", "x"));
    assert_int_equal(target_of(gw, "a").breaker, LLMGW_BREAKER_OPEN);
    assert_int_equal(target_of(gw, "b").breaker, LLMGW_BREAKER_OPEN);
    provider_reset(&provider);
    llmgw_reply_free(expect_from(gw, NULL));
    assert_int_equal(provider_count(&provider, "requests"), 1);
    llmgw_close(gw);
}

/* The caller's own faults open nothing. */
static void bad_requests_open_no_breaker(void **state) {
    llmgw *gw = open_breaker(60000);
    rule("a", "\"status\":400");
    for (int i = 0; i < 20; i++) llmgw_reply_free(expect_from(gw, "b"));
    assert_int_equal(provider_asked(&provider, "a"), 20);
    assert_int_equal(target_of(gw, "a").breaker, LLMGW_BREAKER_CLOSED);
    llmgw_close(gw);
}

/* ---- retry budget ---- */

static void with_everything_down_little_is_repeated(void **state) {
    enum { CALLS = 200, START = 10 }; /* repetitions that are there at the start */
    llmgw_route route = {0};
    llmgw_options options = t_calm();
    options.retry_percent = 0; /* the default, 20 */
    rule("*", "\"status\":500");
    llmgw *gw = open_route(&route, &options);
    int64_t begun = t_now_ms();
    bool refused = false;
    for (int i = 0; i < CALLS; i++) {
        llmgw_reply *reply = llmgw_ask(gw, "a", "x");
        assert_true(reply->error.code == LLMGW_E_PROVIDER || reply->error.code == LLMGW_E_RETRY_BUDGET);
        for (size_t k = 0; k < reply->trace_count; k++)
            refused = refused || reply->trace[k].code == LLMGW_E_RETRY_BUDGET;
        refused = refused || reply->error.code == LLMGW_E_RETRY_BUDGET;
        llmgw_reply_free(reply);
    }
    int seconds = (int)((t_now_ms() - begun) / 1000) + 1; /* one more each second */
    int asked = provider_count(&provider, "requests");
    assert_true(refused);
    if (asked > CALLS * 120 / 100 + START + seconds || asked < CALLS * 105 / 100)
        fail_msg("%d requests for %d calls", asked, CALLS);
    llmgw_close(gw);
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_race_has_one_winner),
        TEST(a_race_goes_on_with_the_rest),
        TEST(a_race_of_three),
        TEST(a_winner_that_is_cut),
        TEST(a_race_looks_elsewhere),
        TEST(a_hedge_saves_a_slow_call),
        TEST(a_quick_call_is_not_hedged),
        TEST(a_hedge_may_lose),
        TEST(hedges_are_a_share_of_the_calls),
        TEST(a_hedge_after_the_p95),
        TEST(weights_are_shares),
        TEST(without_weights_all_are_equal),
        TEST(the_least_busy_comes_first),
        TEST(the_fastest_is_preferred),
        TEST(every_order_falls_back),
        TEST(invalid_answers_go_to_the_next),
        TEST(an_invalid_text_is_taken_back_whole),
        TEST(a_valid_answer_is_left_alone),
        TEST(early_errors_are_not_seen),
        TEST(without_hold_back_they_are),
        TEST(text_is_held_back_for_a_moment_only),
        TEST(a_breaker_opens_and_closes),
        TEST(a_failed_probe_opens_for_longer),
        TEST(only_one_probe_at_a_time),
        TEST(with_all_open_one_is_tried),
        TEST(bad_requests_open_no_breaker),
        TEST(with_everything_down_little_is_repeated),
    };
    return cmocka_run_group_tests_name("routes", tests, group_start, group_stop);
}
