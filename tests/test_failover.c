/* Ordered fallback over the three dialects: what may be tried after which failure, law 2 (attempts), law 3
 * (Retry-After), law 10 (text after rewinds), the trace, and what failed attempts cost. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"

static Provider provider;
static int dead_port;

static int group_start(void **state) {
    provider_start(&provider, NULL);
    close(t_listen(1, &dead_port)); /* nobody listens there now */
    return 0;
}
static int group_stop(void **state) {
    provider_stop(&provider);
    return 0;
}
static int reset(void **state) {
    provider_reset(&provider);
    return 0;
}

static const llmgw_price dear = {{true, 1000}, {true, 2000}, {false, 0}, {false, 0}, {false, 0}};

/* A gateway with the route "r": models a, b and c at the three dialects in this order, and "refused" at a dead
   port, "keyless" without its key. */
static llmgw *open_route(const char *const *targets, size_t count, const llmgw_options *more) {
    static char dead[64], open[64];
    static const char *const models[][2] = {
        {"a", "openai"}, {"b", "anthropic"}, {"c", "gemini"}, {"refused", "dead"}, {"keyless", "mute"}};
    static llmgw_model priced[COUNT_OF(models)];
    llmgw_provider extra[2] = {{.name = "dead", .dialect = "openai", .key = "sk-dead-0123456789"},
                               {.name = "mute", .dialect = "openai", .key = "env:LLMGW_NOT_SET_ANYWHERE"}};
    llmgw_route route = {.name = "r", .targets = targets, .target_count = count};
    llmgw_options options = {0};
    if (more) options = *more;
    if (!options.hold_ms) options.hold_ms = options.hold_bytes = LLMGW_OFF; /* these tests see all there is */
    for (size_t i = 0; i < COUNT_OF(priced); i++) {
        memset(&priced[i], 0, sizeof priced[i]);
        priced[i].name = priced[i].model = models[i][0];
        priced[i].provider = models[i][1];
        priced[i].price = dear;
    }
    snprintf(dead, sizeof dead, "http://127.0.0.1:%d/v1", dead_port);
    snprintf(open, sizeof open, "http://127.0.0.1:%d/v1", provider.port);
    extra[0].url = dead;
    extra[1].url = open;
    options.providers = extra;
    options.provider_count = 2;
    options.models = priced;
    options.model_count = COUNT_OF(priced);
    options.routes = &route;
    options.route_count = 1;
    return t_open(&provider, &options);
}

static const char *const abc[] = {"a", "b", "c"};

static void rule(const char *model, const char *fault) {
    char json[512];
    snprintf(json, sizeof json, "{\"model\":\"%s\",%s}", model, fault);
    provider_rule(&provider, json);
}

/* What must hold of every reply, whatever happened. */
static void check_laws(const llmgw_reply *reply, const Rec *rec, int max_attempts) {
    uint32_t epoch = 0;
    rec_check(rec);
    assert_true(t_traced(reply, LLMGW_TRACE_ATTEMPT) <= max_attempts);
    assert_int_equal(provider_count(&provider, "requests"), t_sent(reply)); /* law 2 */
    for (size_t i = 0; i < reply->trace_count; i++) {
        const llmgw_trace *item = &reply->trace[i];
        assert_non_null(item->provider);
        assert_non_null(item->model);
        assert_true(item->reason[0] != 0);
        assert_true(item->start_us >= 0 && item->duration_us >= 0);
        if (i) assert_true(item->start_us >= item[-1].start_us);
        if (item->kind == LLMGW_TRACE_ATTEMPT) assert_int_equal(item->epoch, ++epoch);
        if (item->kind == LLMGW_TRACE_SKIP) assert_int_not_equal(item->code, LLMGW_OK);
    }
    assert_int_equal(rec->tried, (int)epoch);
}

/* ---- each outage goes to the next target ---- */

typedef struct Outage {
    const char *fault; /* of target a */
    llmgw_code code;   /* LLMGW_OK: it differs between the dialects */
    int status;        /* 0: any */
    bool stream_only, shown;
} Outage;

static const Outage outages[] = {
    {"\"status\":500", LLMGW_E_PROVIDER, 500, false, false},
    {"\"status\":502", LLMGW_OK, 502, false, false},
    {"\"status\":503,\"retry_after\":\"60\"", LLMGW_E_OVERLOADED, 503, false, false},
    {"\"status\":529", LLMGW_E_OVERLOADED, 529, false, false},
    {"\"status\":429", LLMGW_E_RATE_LIMITED, 429, false, false},
    {"\"status\":429,\"retry_after\":\"60\"", LLMGW_E_RATE_LIMITED, 429, false, false},
    {"\"status\":401", LLMGW_E_AUTH, 401, false, false},
    {"\"status\":403", LLMGW_E_AUTH, 403, false, false},
    {"\"status\":404", LLMGW_E_NOT_FOUND, 404, false, false},
    {"\"status\":400", LLMGW_E_BAD_REQUEST, 400, false, false},
    {"\"status\":408", LLMGW_E_PROVIDER, 408, false, false},
    {"\"garbage\":true", LLMGW_E_PROTOCOL, 200, false, false},
    {"\"content_type\":\"text/html\",\"body\":\"<html>Sign in</html>\"", LLMGW_E_PROTOCOL, 200, false, false},
    {"\"never\":true", LLMGW_E_TIMEOUT_FIRST_TOKEN, 0, true, false},
    {"\"stall_after\":6,\"text_repeat\":10", LLMGW_E_TIMEOUT_IDLE, 200, true, true},
    {"\"cut_after\":900,\"text_repeat\":10", LLMGW_E_TRUNCATED, 200, true, true},
    {"\"cut_after\":60", LLMGW_E_TRUNCATED, 200, false, false},
    {"\"cut_in_utf8\":true,\"text\":\"\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9 and more \xC3\xA9\"",
     LLMGW_E_TRUNCATED, 200, true, true},
    {"\"error_after\":2,\"text_repeat\":10", LLMGW_OK, 200, true, true},
    {"\"error_after\":0", LLMGW_OK, 0, false, false},
    {"\"garbage_after\":5,\"text_repeat\":10", LLMGW_E_PROTOCOL, 200, true, true},
    {"\"no_terminator\":true,\"finish\":\"none\"", LLMGW_OK, 0, true, true},
    {"\"redirect\":\"http://127.0.0.1:1/\"", LLMGW_E_PROTOCOL, 302, false, false},
};

static void one_outage(llmgw *gw, const Outage *outage, bool stream, size_t number) {
    Rec rec = {0};
    llmgw_request request = rec_request(&rec, "r", "who answers?", stream);
    request.first_token_ms = request.idle_ms = 250;
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    check_laws(reply, &rec, 4);
    const llmgw_trace *first = &reply->trace[0];
    t_expect_code(reply, LLMGW_OK);
    if (reply->trace_count != 2) fail_msg("outage %zu: %zu items", number, reply->trace_count);
    if (outage->code && first->code != outage->code)
        fail_msg("outage %zu: expected %s, got %s (%s)", number, llmgw_code_name(outage->code),
                 llmgw_code_name(first->code), first->reason);
    if (outage->status) assert_int_equal(first->http_status, outage->status);
    assert_string_equal(reply->provider, reply->trace[1].provider);
    assert_int_equal(reply->trace[1].code, LLMGW_OK);
    assert_true(reply->trace[1].start_us - first->start_us - first->duration_us < 2000000); /* no wait */
    if (stream && outage->shown != (rec.rewinds == 1))
        fail_msg("outage %zu: %d rewinds, %d pieces", number, rec.rewinds, rec.pieces);
    assert_non_null(strstr(reply->text, ": who answers?"));
    assert_int_equal(strncmp(reply->text, "Echo from ", 10), 0);
    rec_free(&rec);
}

static void every_outage_goes_to_the_next_target(void **state) {
    for (size_t i = 0; i < COUNT_OF(outages); i++) {
        if (strstr(outages[i].fault, "finish")) continue; /* see no_terminator_is_truncated */
        for (size_t dialect = 0; dialect < 3; dialect++) {
            const char *targets[] = {abc[dialect], abc[(dialect + 1) % 3]};
            for (int stream = outages[i].stream_only; stream < 2; stream++) {
                provider_reset(&provider);
                rule(targets[0], outages[i].fault);
                llmgw *gw = open_route(targets, 2, NULL); /* a new one: no lane is closed */
                one_outage(gw, &outages[i], stream, i);
                llmgw_close(gw);
            }
        }
    }
}

static void connection_refused(void **state) {
    const char *targets[] = {"refused", "b"};
    Rec rec = {0};
    llmgw *gw = open_route(targets, 2, NULL);
    llmgw_request request = rec_request(&rec, "r", "x", true);
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    check_laws(reply, &rec, 4);
    t_expect_code(reply, LLMGW_OK);
    assert_int_equal(reply->trace[0].code, LLMGW_E_NETWORK);
    assert_false(reply->trace[0].sent);
    assert_true(reply->trace[0].cost.known);
    assert_int_equal(reply->trace[0].cost.pico_usd, 0);
    assert_int_equal(t_sent(reply), 1);
    rec_free(&rec);
    llmgw_close(gw);
}

static void no_terminator_is_truncated(void **state) {
    for (size_t dialect = 0; dialect < 2; dialect++) { /* gemini has no terminator */
        const char *targets[] = {abc[dialect], "c"};
        Rec rec = {0};
        provider_reset(&provider);
        rule(abc[dialect], "\"no_terminator\":true");
        llmgw *gw = open_route(targets, 2, NULL);
        llmgw_request request = rec_request(&rec, "r", "who answers?", true);
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        check_laws(reply, &rec, 4);
        t_expect_code(reply, LLMGW_OK);
        /* either the finish reason says that it is whole, or the missing end says that it is not */
        if (reply->trace[0].code) assert_int_equal(reply->trace[0].code, LLMGW_E_TRUNCATED);
        assert_int_equal(rec.rewinds, reply->trace[0].code ? 1 : 0);
        if (dialect == 1) assert_int_equal(reply->trace[0].code, LLMGW_E_TRUNCATED);
        rec_free(&rec);
        llmgw_close(gw);
    }
}

static void connect_timeout(void **state) {
    const char *targets[] = {"refused", "c"};
    struct sockaddr_in address = {.sin_family = AF_INET};
    Rec rec = {0};
    int fillers[4], own = dead_port, fd = t_listen(0, &dead_port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)dead_port);
    for (int i = 0; i < 4; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(fillers[i], (struct sockaddr *)&address, sizeof address);
    }
    t_sleep_ms(50);
    llmgw *gw = open_route(targets, 2, NULL);
    llmgw_request request = rec_request(&rec, "r", "x", false);
    request.connect_ms = 250;
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    check_laws(reply, &rec, 4);
    t_expect_code(reply, LLMGW_OK);
    assert_int_equal(reply->trace[0].code, LLMGW_E_TIMEOUT_CONNECT);
    rec_free(&rec);
    llmgw_close(gw);
    for (int i = 0; i < 4; i++) close(fillers[i]);
    close(fd);
    dead_port = own;
}

/* ---- budgets ---- */

static void attempts_stay_in_their_budget(void **state) {
    static const int budgets[] = {1, 2, 3, 5, 0};
    rule("*", "\"status\":500");
    for (size_t i = 0; i < COUNT_OF(budgets); i++) {
        Rec rec = {0};
        llmgw_options options = {.max_attempts = 2};
        llmgw *gw = open_route(abc, 3, i == 4 ? &options : NULL);
        int limit = budgets[i] ? budgets[i] : 2;
        provider_reset(&provider);
        rule("*", "\"status\":500");
        llmgw_request request = rec_request(&rec, "r", "x", i % 2);
        request.max_attempts = budgets[i];
        request.deadline_ms = 8000;
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        check_laws(reply, &rec, limit);
        t_expect_code(reply, LLMGW_E_PROVIDER);
        assert_int_equal(t_sent(reply), limit);
        for (int k = 0, n = 0; k < (int)reply->trace_count; k++) { /* in order, round after round */
            if (reply->trace[k].kind != LLMGW_TRACE_ATTEMPT) continue;
            assert_string_equal(reply->trace[k].model, abc[n++ % 3]);
        }
        assert_int_equal(t_traced(reply, LLMGW_TRACE_WAIT), limit > 3 ? limit - 3 : 0);
        rec_free(&rec);
        llmgw_close(gw);
    }
}

static void what_no_repetition_helps_is_tried_once(void **state) {
    static const char *const faults[] = {"\"status\":401", "\"status\":400", "\"status\":404",
                                         "\"status\":500,\"headers\":{\"x-should-retry\":\"false\"}"};
    for (size_t i = 0; i < COUNT_OF(faults); i++) {
        Rec rec = {0};
        provider_reset(&provider);
        rule("*", faults[i]);
        llmgw *gw = open_route(abc, 3, NULL);
        llmgw_request request = rec_request(&rec, "r", "x", true);
        request.max_attempts = 20;
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        check_laws(reply, &rec, 3);
        assert_int_equal(t_sent(reply), 3);
        assert_int_equal(t_traced(reply, LLMGW_TRACE_WAIT), 0);
        assert_int_not_equal(reply->error.code, LLMGW_OK);
        t_expect_text(reply, "gemini/c");
        rec_free(&rec);
        llmgw_close(gw);
    }
}

static void many_calls_share_no_budget(void **state) {
    enum { N = 40 };
    Rec recs[N] = {0};
    int sent = 0;
    rule("a", "\"status\":500");
    rule("b", "\"cut_after\":250,\"text_repeat\":10");
    llmgw *gw = open_route(abc, 3, NULL);
    for (int i = 0; i < N; i++) {
        llmgw_request request = rec_request(&recs[i], "r", "x", i % 2);
        rec_send(gw, &recs[i], &request);
    }
    assert_true(rec_drive(gw, recs, N, 15000));
    for (int i = 0; i < N; i++) {
        rec_check(&recs[i]);
        t_expect_code(recs[i].reply, LLMGW_OK);
        assert_string_equal(recs[i].reply->provider, "gemini");
        assert_in_range(t_sent(recs[i].reply), 1, 3); /* fewer once the breakers of a and b are open */
        sent += t_sent(recs[i].reply);
        rec_free(&recs[i]);
    }
    assert_int_equal(provider_count(&provider, "requests"), sent);
    llmgw_close(gw);
}

/* ---- Retry-After (law 3) ---- */

static void retry_after_is_obeyed_across_calls(void **state) {
    rule("a", "\"status\":429,\"retry_after\":\"2\",\"times\":1");
    llmgw *gw = open_route(abc, 1, NULL);
    int64_t start = t_now_ms();
    for (int i = 0; i < 2; i++) { /* the first is refused, the second is not even sent */
        Rec rec = {0};
        llmgw_request request = rec_request(&rec, "r", "x", false);
        request.deadline_ms = 1000;
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        t_expect_code(reply, LLMGW_E_RATE_LIMITED);
        assert_true(reply->error.retry_after_ms > 0 && reply->error.retry_after_ms <= 2000);
        assert_int_equal(t_sent(reply), i == 0);
        rec_free(&rec);
    }
    assert_true(t_now_ms() - start < 1500);
    assert_int_equal(provider_count(&provider, "requests"), 1);
    llmgw_reply *other = llmgw_ask(gw, "openai/another", "another model is another lane");
    t_expect_code(other, LLMGW_OK);
    assert_int_equal(other->trace_count, 1);
    assert_true(t_now_ms() - start < 1900);
    llmgw_reply_free(other);
    llmgw_reply *reply = llmgw_ask(gw, "openai/a", "the same model and key are the same lane");
    t_expect_code(reply, LLMGW_OK);
    assert_true(t_now_ms() - start >= 1950);
    assert_int_equal(reply->trace[0].kind, LLMGW_TRACE_WAIT);
    assert_non_null(strstr(reply->trace[0].reason, "Retry-After"));
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

static void other_providers_need_not_wait(void **state) {
    rule("a", "\"status\":503,\"retry_after\":\"100\",\"times\":1");
    llmgw *gw = open_route(abc, 3, NULL);
    for (int i = 0; i < 4; i++) {
        Rec rec = {0};
        llmgw_request request = rec_request(&rec, "r", "x", true);
        int64_t start = t_now_ms();
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        t_expect_code(reply, LLMGW_OK);
        assert_string_equal(reply->provider, "anthropic");
        assert_true(t_now_ms() - start < 4000);
        assert_int_equal(t_sent(reply), i == 0 ? 2 : 1); /* the lane stays closed for the later calls */
        rec_free(&rec);
    }
    llmgw_close(gw);
}

static void retry_after_in_every_form(void **state) {
    static const struct {
        const char *fault;
        int low_ms, high_ms;
    } forms[] = {
        {"\"status\":429,\"retry_after\":\"7\"", 6900, 7000},
        {"\"status\":429,\"headers\":{\"retry-after-ms\":\"1500\"}", 1400, 1500},
        {"\"status\":503,\"retry_after\":\"Fri, 31 Dec 2060 23:59:59 GMT\"", 3590000, 3600000},
        {"\"status\":503,\"retry_after\":\"99999999999999999999\"", 3590000, 3600000},
        {"\"status\":429,\"retry_after\":\"-5\"", 0, 0},
        {"\"status\":429,\"retry_after\":\"soon\"", 0, 0},
        {"\"status\":503,\"retry_after\":\"Fri, 31 Dec 1999 23:59:59 GMT\"", 0, 0},
        {"\"status\":503,\"retry_after\":\"0\"", 0, 0},
    };
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        Rec rec = {0};
        provider_reset(&provider);
        rule("a", forms[i].fault);
        llmgw *gw = open_route(abc, 1, NULL);
        llmgw_request request = rec_request(&rec, "r", "x", false);
        request.max_attempts = 1;
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        int64_t ms = reply->error.retry_after_ms;
        if (ms < forms[i].low_ms || ms > forms[i].high_ms)
            fail_msg("form %zu: retry_after_ms %lld", i, (long long)ms);
        rec_free(&rec);
        llmgw_close(gw);
    }
}

/* ---- skips, events, texts ---- */

static void a_provider_without_key_is_skipped(void **state) {
    const char *targets[] = {"keyless", "b"};
    Rec rec = {0};
    llmgw *gw = open_route(targets, 2, NULL);
    llmgw_request request = rec_request(&rec, "r", "x", false);
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    check_laws(reply, &rec, 1);
    t_expect_code(reply, LLMGW_OK);
    assert_int_equal(reply->trace[0].kind, LLMGW_TRACE_SKIP);
    assert_int_equal(reply->trace[0].code, LLMGW_E_NO_KEY);
    assert_non_null(strstr(reply->trace[0].reason, "LLMGW_NOT_SET_ANYWHERE"));
    assert_string_equal(reply->trace[0].provider, "mute");
    rec_free(&rec);
    llmgw_reply *alone = llmgw_ask(gw, "keyless", "x");
    t_expect_code(alone, LLMGW_E_NO_KEY);
    t_expect_text(alone, "LLMGW_NOT_SET_ANYWHERE");
    llmgw_reply_free(alone);
    llmgw_close(gw);
}

typedef struct Tries {
    llmgw_trace ended[16];
    int begun, count;
} Tries;

static void tries_hook(Rec *rec, const llmgw_event *event) {
    Tries *tries = (Tries *)rec->arg;
    if (event->kind != LLMGW_EVENT_TRY || tries->count == 16) return;
    if (event->trace->duration_us < 0)
        tries->begun += event->trace->epoch == event->epoch && (int)event->epoch == tries->count + 1;
    else
        tries->ended[tries->count++] = *event->trace;
}

static void try_events_are_the_trace(void **state) {
    Tries tries = {0};
    Rec rec = {0};
    int n = 0;
    rule("a", "\"status\":500");
    rule("b", "\"cut_after\":800,\"text_repeat\":10,\"times\":1");
    rule("c", "\"status\":429,\"times\":1");
    llmgw *gw = open_route(abc, 3, NULL);
    rec.hook = tries_hook;
    rec.arg = &tries;
    llmgw_request request = rec_request(&rec, "r", "x", true);
    request.max_attempts = 6;
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    check_laws(reply, &rec, 6);
    t_expect_code(reply, LLMGW_OK);
    assert_int_equal(t_sent(reply), 5); /* a, b, c, a, b */
    for (size_t i = 0; i < reply->trace_count; i++) {
        const llmgw_trace *item = &reply->trace[i];
        if (item->kind != LLMGW_TRACE_ATTEMPT) continue;
        assert_int_equal(tries.ended[n].epoch, item->epoch);
        assert_int_equal(tries.ended[n].code, item->code);
        assert_int_equal(tries.ended[n].duration_us, item->duration_us);
        assert_int_equal(tries.ended[n].http_status, item->http_status);
        assert_string_equal(tries.ended[n].reason, item->reason);
        n++;
    }
    assert_int_equal(tries.count, n);
    assert_int_equal(tries.begun, n);
    assert_int_equal(rec.rewinds, 1);
    rec_free(&rec);
    llmgw_close(gw);
}

/* Visible text, a rewind, the whole text of the second: on every pair of dialects. */
static void rewind_then_the_whole_text(void **state) {
    for (int i = 0; i < 6; i++) {
        const char *targets[] = {abc[i % 3], abc[(i + 1 + i / 3) % 3]};
        char expected[128];
        Rec rec = {0};
        provider_reset(&provider);
        rule(targets[0], "\"cut_after\":900,\"text\":\"something quite different \",\"text_repeat\":30");
        llmgw *gw = open_route(targets, 2, NULL);
        llmgw_request request = rec_request(&rec, "r", "the second's own words", true);
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        check_laws(reply, &rec, 2);
        t_expect_code(reply, LLMGW_OK);
        snprintf(expected, sizeof expected, "Echo from %s: the second's own words", targets[1]);
        assert_string_equal(reply->text, expected);
        assert_string_equal(rec.text.p, expected);
        assert_int_equal(rec.rewinds, 1);
        assert_true(reply->trace[0].first_token_us > 0);
        rec_free(&rec);
        llmgw_close(gw);
    }
}

/* After visible text comes a target that cannot take the request at all: the text stays what it was. */
static void a_skip_after_visible_text(void **state) {
    static const llmgw_part parts[] = {{.kind = LLMGW_PART_TEXT, .text = "see the file"},
                                       {.kind = LLMGW_PART_FILE, .url = "https://example.com/a.pdf"}};
    static const llmgw_message message = {.role = LLMGW_ROLE_USER, .parts = parts, .part_count = 2};
    const char *targets[] = {"b", "a"}; /* the openai dialect takes no file by url */
    for (int i = 0; i < 3; i++) {
        static const char *const faults[] = {
            "\"cut_after\":900,\"text_repeat\":30,\"headers\":{\"x-should-retry\":\"false\"}",
            "\"stall_after\":8,\"text_repeat\":30,\"headers\":{\"retry-after\":\"30\"}",
            "\"cut_after\":900,\"text_repeat\":30"};
        Rec rec = {0};
        provider_reset(&provider);
        rule("b", faults[i]);
        llmgw *gw = open_route(targets, 2, NULL);
        llmgw_request request = rec_request(&rec, "r", NULL, true);
        request.messages = &message;
        request.message_count = 1;
        request.idle_ms = 250;
        request.deadline_ms = i == 1 ? 1000 : 8000;
        request.max_attempts = 2;
        const llmgw_reply *reply = rec_chat(gw, &rec, &request); /* law 10 is checked in there */
        check_laws(reply, &rec, 2);
        assert_int_not_equal(reply->error.code, LLMGW_OK);
        assert_in_range(t_traced(reply, LLMGW_TRACE_SKIP), 1, 2); /* a, and b for its Retry-After */
        rec_free(&rec);
        llmgw_close(gw);
    }
}

static void a_new_attempt_takes_the_old_text_back(void **state) {
    Rec rec = {0};
    const char *targets[] = {"b", "c"};
    rule("b", "\"cut_after\":900,\"text_repeat\":30");
    rule("c", "\"never\":true");
    llmgw *gw = open_route(targets, 2, NULL);
    llmgw_request request = rec_request(&rec, "r", "x", true);
    request.deadline_ms = 600;
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    check_laws(reply, &rec, 4);
    t_expect_code(reply, LLMGW_E_DEADLINE);
    assert_string_equal(reply->text, "");
    rec_free(&rec);
    llmgw_close(gw);
}

/* The next target may not be asked yet, so the broken text stays: the reply names who gave it. */
static void an_unfinished_text_names_its_author(void **state) {
    Rec rec = {0};
    const char *targets[] = {"b", "c"};
    rule("b", "\"cut_after\":900,\"text_repeat\":30,\"headers\":{\"x-should-retry\":\"false\"}");
    rule("c", "\"status\":429,\"retry_after\":\"30\",\"times\":1");
    llmgw *gw = open_route(targets, 2, NULL);
    llmgw_request first = {.model = "c", .prompt = "closes the lane", .max_attempts = 1};
    llmgw_reply_free(llmgw_chat(gw, &first));
    llmgw_request request = rec_request(&rec, "r", "x", true);
    request.deadline_ms = 5000;
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    assert_int_not_equal(reply->error.code, LLMGW_OK);
    assert_true(reply->text_len > 0);
    assert_string_equal(reply->provider, "anthropic");
    assert_string_equal(reply->model, "b");
    rec_free(&rec);
    llmgw_close(gw);
}

/* ---- money ---- */

static void failed_attempts_cost_what_they_used(void **state) {
    Rec rec = {0};
    rule("a", "\"status\":500"); /* refused: free */
    rule("b",
         "\"cut_after\":1500,\"text_repeat\":60,\"usage_input\":100,\"usage_output\":50"); /* told in part */
    rule("c", "\"usage_input\":1000,\"usage_output\":10");
    llmgw *gw = open_route(abc, 3, NULL);
    llmgw_request request = rec_request(&rec, "r", "x", true);
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    check_laws(reply, &rec, 3);
    t_expect_code(reply, LLMGW_OK);
    assert_int_equal(reply->trace_count, 3);
    assert_true(reply->trace[0].cost.known);
    assert_int_equal(reply->trace[0].cost.pico_usd, 0);
    assert_true(reply->trace[2].cost.known);
    /* 1000 USD and 2000 USD a million: 1e9 and 2e9 pico-dollars a token */
    assert_true(reply->trace[2].cost.pico_usd == 1000 * 1000000000ll + 10 * 2000000000ll);
    assert_int_equal(reply->usage.input, 1000);
    assert_int_equal(reply->usage.output, 10);
    bool known = true;
    int64_t sum = 0;
    for (size_t i = 0; i < reply->trace_count; i++) {
        known = known && reply->trace[i].cost.known;
        sum += reply->trace[i].cost.pico_usd;
    }
    assert_int_equal(reply->cost.known, known);
    if (known) assert_true(reply->cost.pico_usd == sum);
    rec_free(&rec);
    llmgw_close(gw);
}

static void a_sent_attempt_without_usage_is_estimated(void **state) {
    Rec rec = {0};
    const char *targets[] = {"a", "c"};
    rule("a", "\"cut_after\":700,\"text_repeat\":30"); /* openai tells usage at the end only */
    llmgw *gw = open_route(targets, 2, NULL);
    llmgw_request request = rec_request(&rec, "r", "x", true);
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_true(reply->trace[0].sent);
    const llmgw_trace *cut = &reply->trace[0];
    assert_true(cut->usage.known && cut->usage.estimated && cut->cost.known && cut->cost.estimated);
    assert_in_range(cut->usage.output, 1, 100); /* of what came */
    assert_true(cut->cost.pico_usd == cut->usage.input * 1000000000ll + cut->usage.output * 2000000000ll);
    assert_true(reply->trace[1].cost.known && !reply->trace[1].cost.estimated);
    assert_true(reply->cost.known && reply->cost.estimated);
    assert_true(reply->cost.pico_usd == cut->cost.pico_usd + reply->trace[1].cost.pico_usd);
    rec_free(&rec);
    llmgw_close(gw);
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(every_outage_goes_to_the_next_target),
        TEST(connection_refused),
        TEST(connect_timeout),
        TEST(no_terminator_is_truncated),
        TEST(attempts_stay_in_their_budget),
        TEST(what_no_repetition_helps_is_tried_once),
        TEST(many_calls_share_no_budget),
        TEST(retry_after_is_obeyed_across_calls),
        TEST(other_providers_need_not_wait),
        TEST(retry_after_in_every_form),
        TEST(a_provider_without_key_is_skipped),
        TEST(try_events_are_the_trace),
        TEST(rewind_then_the_whole_text),
        TEST(a_skip_after_visible_text),
        TEST(a_new_attempt_takes_the_old_text_back),
        TEST(an_unfinished_text_names_its_author),
        TEST(failed_attempts_cost_what_they_used),
        TEST(a_sent_attempt_without_usage_is_estimated),
    };
    return cmocka_run_group_tests_name("failover", tests, group_start, group_stop);
}
