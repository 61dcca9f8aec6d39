/* Bedrock over sockets: signed requests against a server that checks the signature by its own means, event streams,
 * exceptions inside them, what follows. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"
#include "group.h"

#define ACCESS "AKIDEXAMPLE0123"
#define SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define TOKEN "SESSION/TOKEN+with==bytes/that+must/not+leak=="
#define AWS "\"access\":\"" ACCESS "\",\"secret\":\"" SECRET "\",\"region\":\"eu-central-1\""

#define CLAUDE "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
#define NOVA "eu.amazon.nova-micro-v1:0"
#define PROFILE "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.amazon.nova-micro-v1:0"

static int reset(void **state) {
    provider_reset(&provider);
    return 0;
}

/* A gateway with a provider "bedrock" that signs so. */
static llmgw *open_signing(const char *secret, const char *token, const char *path) {
    llmgw_options options = t_calm();
    char url[128];
    llmgw_provider bedrock = t_provider(&provider, "bedrock", NULL, path, NULL, url);
    bedrock.region = "eu-central-1";
    bedrock.access_key = ACCESS;
    bedrock.secret_key = secret;
    bedrock.session_token = token;
    options.providers = &bedrock;
    options.provider_count = 1;
    options.key_dead_ms = 1;
    return t_open(&provider, &options);
}

static llmgw *open_checked(const char *token) {
    char rule[400];
    snprintf(rule, sizeof rule, "{\"aws\":{" AWS "%s%s%s}}", token ? ",\"token\":\"" : "", token ? token : "",
             token ? "\"" : "");
    provider_rule(&provider, rule);
    return open_signing(SECRET, token, "");
}

/* ---- signatures ---- */

static void echoes(llmgw *gw, const char *id, bool stream) {
    char model[160], want[240];
    Rec rec = {0};
    snprintf(model, sizeof model, "bedrock/%s", id);
    snprintf(want, sizeof want, "Echo from %s: h\xC3\xA9llo there, world", id);
    llmgw_request request = rec_request(&rec, model, "h\xC3\xA9llo there, world", stream);
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_string_equal(reply->text, want);
    assert_int_equal(reply->finish, LLMGW_FINISH_STOP);
    assert_true(reply->usage.known && reply->usage.input > 0 && reply->usage.output > 0);
    assert_true(stream ? rec.pieces > 1 : rec.pieces == 1);
    assert_int_equal(t_sent(reply), 1);
    assert_true(reply->id[0] != 0); /* of a header: the body has none */
    rec_free(&rec);
}

static void signed_requests(void **state) {
    static const char *const models[] = {NOVA, CLAUDE, PROFILE, "plain", "odd~name_1.5 %25+x"};
    for (int token = 0; token < 2; token++) {
        provider_reset(&provider);
        llmgw *gw = open_checked(token ? TOKEN : NULL);
        for (size_t i = 0; i < COUNT_OF(models); i++)
            for (int stream = 0; stream < 2; stream++) echoes(gw, models[i], stream == 1);
        assert_int_equal(provider_count(&provider, "requests"), 2 * COUNT_OF(models));
        llmgw_close(gw);
    }
}

static void under_a_path(void **state) {
    provider_rule(&provider, "{\"aws\":{" AWS "}}");
    llmgw *gw = open_signing(SECRET, NULL, "/proxy/v1/");
    echoes(gw, NOVA, true);
    llmgw_close(gw);
}

/* An attempt that fails for its credentials: what is told, and what is not. */
static void refused(llmgw *gw, const char *text) {
    Rec rec = {0};
    llmgw_request request = rec_request(&rec, "bedrock/" NOVA, "hi", false);
    request.max_attempts = 2;
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_E_AUTH);
    t_expect_text(reply, text);
    assert_int_equal(t_sent(reply), 1);
    assert_null(strstr(reply->error.text, "MDENG"));
    assert_null(strstr(reply->error.text, "SESSION/TOKEN"));
    for (size_t i = 0; i < reply->trace_count; i++)
        assert_null(strstr(reply->trace[i].reason, "SESSION/TOKEN"));
    rec_free(&rec);
    llmgw_close(gw);
}

static void wrong_credentials(void **state) {
    provider_rule(&provider, "{\"aws\":{" AWS ",\"token\":\"" TOKEN "\"}}");
    refused(open_signing(SECRET "x", TOKEN, ""), "signature we calculated does not match");
    refused(open_signing(SECRET, "SESSION/TOKEN+another", ""),
            "security token included in the request is invalid");
    refused(open_signing(SECRET, NULL, ""), "security token included in the request is invalid");
    provider_rule(&provider, "{\"aws\":{" AWS ",\"token\":\"" TOKEN "\",\"expired\":true}}");
    refused(open_signing(SECRET, TOKEN, ""), "expired");
    provider_rule(&provider,
                  "{\"aws\":{\"access\":\"" ACCESS "\",\"secret\":\"" SECRET "\",\"region\":\"us-east-1\"}}");
    refused(open_signing(SECRET, NULL, ""), "valid region");
}

static void a_wrong_clock(void **state) {
    provider_rule(&provider, "{\"aws\":{" AWS ",\"now\":\"20200102T030405Z\"}}");
    refused(open_signing(SECRET, NULL, ""), "this machine's clock is wrong");
    provider_rule(&provider, "{\"aws\":{" AWS ",\"now\":\"20990102T030405Z\"}}");
    refused(open_signing(SECRET, NULL, ""), "this machine's clock is wrong");
}

/* Each attempt has a signature of its own: a server that says no once gets another. */
static void a_retry_is_signed_again(void **state) {
    llmgw *gw = open_checked(NULL);
    Rec rec = {0};
    provider_rule(&provider, "{\"model\":\"*\",\"status\":503,\"times\":2}");
    llmgw_request request = rec_request(&rec, "bedrock/" NOVA, "hi", true);
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_int_equal(t_sent(reply), 3);
    rec_free(&rec);
    llmgw_close(gw);
}

static void bearer_tokens(void **state) {
    llmgw_options options = t_calm();
    char url[128];
    llmgw_provider bedrock = t_provider(&provider, "bedrock", NULL, "", "bedrock-bearer-token-1", url);
    options.providers = &bedrock;
    options.provider_count = 1;
    llmgw *gw = t_open(&provider, &options);
    echoes(gw, NOVA, true);
    echoes(gw, PROFILE, false);
    provider_rule(&provider, "{\"keys\":{\"bedrock-bearer-token-1\":\"refused\"}}");
    Rec rec = {0};
    llmgw_request request = rec_request(&rec, "bedrock/" NOVA, "hi", false);
    t_expect_code(rec_chat(gw, &rec, &request), LLMGW_E_AUTH);
    rec_free(&rec);
    llmgw_close(gw);
}

/* ---- credentials that end ---- */

static int given;
static bool twice; /* the second are as bad as the first */

/* A role's: of a new session each time, or a bearer token. */
static bool give(const char *name, char *token, size_t size, int64_t *expires_s, void *user) {
    given++;
    if (user)
        snprintf(token, size, "bedrock-bearer-token-%d", given);
    else
        snprintf(token, size, ACCESS " " SECRET " " TOKEN "%d", twice ? 1 : given);
    return strcmp(name, "bedrock") == 0;
}

static llmgw *open_giving(bool bearer) {
    llmgw_options options = t_calm();
    char url[128];
    llmgw_provider bedrock = t_provider(&provider, "bedrock", NULL, "", NULL, url);
    bedrock.region = "eu-central-1";
    bedrock.token = give;
    bedrock.token_user = bearer ? url : NULL;
    options.providers = &bedrock;
    options.provider_count = 1;
    options.key_dead_ms = 1;
    given = 0;
    twice = false;
    return t_open(&provider, &options);
}

static void expect_session(int number, const char *more) {
    char rule[400];
    snprintf(rule, sizeof rule, "{\"aws\":{" AWS ",\"token\":\"" TOKEN "%d\"%s}}", number, more);
    provider_rule(&provider, rule);
}

static void credentials_of_a_function(void **state) {
    llmgw *gw = open_giving(false);
    expect_session(1, "");
    echoes(gw, NOVA, true);
    echoes(gw, PROFILE, false);
    assert_int_equal(given, 1);
    for (int stream = 0; stream < 2; stream++) { /* the session is over: another, in the same call */
        Rec rec = {0};
        expect_session(2 + stream, "");
        llmgw_request request = rec_request(&rec, "bedrock/" NOVA, "hi", stream == 1);
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        t_expect_code(reply, LLMGW_OK);
        assert_int_equal(t_sent(reply), 2);
        assert_int_equal(given, 2 + stream);
        for (size_t i = 0; i < reply->trace_count; i++)
            assert_null(strstr(reply->trace[i].reason, "SESSION/TOKEN"));
        rec_free(&rec);
    }
    llmgw_close(gw);
}

static void credentials_that_stay_bad(void **state) {
    llmgw *gw = open_giving(false);
    twice = true;
    expect_session(1, ",\"expired\":true");
    Rec rec = {0};
    llmgw_request request = rec_request(&rec, "bedrock/" NOVA, "hi", false);
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_E_AUTH);
    assert_int_equal(t_sent(reply), 2);
    assert_int_equal(given, 2);
    rec_free(&rec);
    llmgw_close(gw);
}

static void a_function_gives_bearer_tokens_too(void **state) {
    llmgw *gw = open_giving(true);
    echoes(gw, NOVA, true);
    assert_int_equal(provider_key(&provider, "bedrock-bearer-token-1", "requests"), 1);
    llmgw_close(gw);
}

/* A server that repeats what it was sent. */
static void repeats(Raw *raw, int fd, int number) {
    char head[8192], body[512];
    while (raw_request(raw, fd, head, sizeof head)) {
        const char *at = strstr(head, "x-amz-security-token: "), *as = strstr(head, "Credential=");
        snprintf(body, sizeof body, "{\"message\":\"you sent %.80s, %.26s\"}", at ? at + 22 : "nothing",
                 as ? as + 11 : "nobody");
        for (char *p = body; *p; p++)
            if ((unsigned char)*p < ' ') *p = ' ';
        if (!raw_reply(fd, "400 Bad Request", RAW_IS_JSON, body)) return;
    }
}

static void they_stand_in_no_error(void **state) {
    Raw raw;
    char url[128];
    raw_start(&raw, repeats, NULL);
    snprintf(url, sizeof url, "http://127.0.0.1:%d", raw.port);
    for (int function = 0; function < 2; function++) {
        llmgw_options options = t_calm();
        llmgw_provider bedrock = t_provider(&provider, "bedrock", NULL, "", NULL, url);
        snprintf(url, sizeof url, "http://127.0.0.1:%d", raw.port);
        bedrock.region = "eu-central-1";
        bedrock.access_key = function ? NULL : ACCESS;
        bedrock.secret_key = function ? NULL : SECRET;
        bedrock.session_token = function ? NULL : TOKEN "1";
        bedrock.token = function ? give : NULL;
        options.providers = &bedrock;
        options.provider_count = 1;
        given = 0;
        twice = false;
        llmgw *gw = t_open(&provider, &options);
        llmgw_reply *reply = llmgw_ask(gw, "bedrock/" NOVA, "x");
        t_expect_text(reply, "you sent [key]");
        t_expect_text(reply, ", [key]/");
        assert_null(strstr(reply->error.text, "SESSION"));
        assert_null(strstr(reply->error.text, ACCESS));
        llmgw_reply_free(reply);
        llmgw_close(gw);
    }
    raw_stop(&raw);
}

/* ---- conversations ---- */

/* Two calls at once, their results, the answer: each request is of the form that the server demands. */
static void tools_there_and_back(void **state) {
    static const llmgw_tool tools[2] = {{"get_weather", "Weather", "{\"type\":\"object\"}", false},
                                        {"get_time", "Time", "{\"type\":\"object\"}", false}};
    llmgw *gw = open_checked(NULL);
    for (int stream = 0; stream < 2; stream++) {
        Rec rec = {0}, after = {0};
        provider_model_rule(
            &provider, CLAUDE,
            "\"times\":1,\"reasoning\":\"Let me see.\",\"tool_calls\":[{\"name\":\"get_weather\","
            "\"arguments\":{\"city\":\"K\xC3\xB6ln\"}},{\"name\":\"get_time\",\"arguments\":{}}]");
        llmgw_request request = rec_request(&rec, "bedrock/" CLAUDE, "weather and time?", stream == 1);
        request.tools = tools;
        request.tool_count = 2;
        request.effort = LLMGW_EFFORT_LOW;
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        t_expect_code(reply, LLMGW_OK);
        assert_int_equal(reply->finish, LLMGW_FINISH_TOOL);
        assert_int_equal(reply->tool_call_count, 2);
        assert_string_equal(reply->tool_calls[0].name, "get_weather");
        assert_string_equal(reply->tool_calls[1].arguments, "{}");
        assert_string_equal(reply->reasoning, "Let me see.");
        llmgw_part results[2];
        memset(results, 0, sizeof results);
        for (int i = 0; i < 2; i++) {
            results[i].kind = LLMGW_PART_TOOL_RESULT;
            results[i].id = reply->tool_calls[i].id;
            results[i].text = i ? "12:00" : "sunny";
        }
        llmgw_message turns[3];
        memset(turns, 0, sizeof turns);
        turns[0].role = LLMGW_ROLE_USER;
        turns[0].text = "weather and time?";
        turns[1] = reply->message; /* with its reasoning, signed */
        turns[2].role = LLMGW_ROLE_TOOL;
        turns[2].parts = results;
        turns[2].part_count = 2;
        llmgw_request next = rec_request(&after, "bedrock/" CLAUDE, NULL, stream == 1);
        next.messages = turns;
        next.message_count = 3;
        next.tools = tools;
        next.tool_count = 2;
        next.effort = LLMGW_EFFORT_LOW;
        reply = rec_chat(gw, &after, &next);
        t_expect_code(reply, LLMGW_OK);
        assert_non_null(strstr(reply->text, "sunny"));
        rec_free(&rec);
        rec_free(&after);
    }
    llmgw_close(gw);
}

static void all_kinds_of_parts(void **state) {
    static const unsigned char png[] = {0x89, 'P', 'N', 'G', 13, 10, 26, 10, 0};
    llmgw *gw = open_checked(NULL);
    Rec rec = {0};
    llmgw_part parts[2];
    llmgw_message turn;
    memset(parts, 0, sizeof parts);
    memset(&turn, 0, sizeof turn);
    parts[0].kind = LLMGW_PART_IMAGE;
    parts[0].data = png;
    parts[0].data_len = sizeof png;
    parts[1].kind = LLMGW_PART_FILE;
    parts[1].data = "%PDF-1.4";
    parts[1].data_len = 8;
    parts[1].name = "A report: 2026/final.pdf";
    turn.role = LLMGW_ROLE_USER;
    turn.parts = parts;
    turn.part_count = 2;
    llmgw_request request = rec_request(&rec, "bedrock/" CLAUDE, NULL, true);
    request.messages = &turn;
    request.message_count = 1;
    request.system = "Be brief.";
    request.user_id = "user-1";
    request.max_tokens = 100;
    request.temperature = llmgw_set(0.5);
    t_expect_code(rec_chat(gw, &rec, &request), LLMGW_OK);
    rec_free(&rec);
    llmgw_close(gw);
}

static void a_schema(void **state) {
    llmgw *gw = open_checked(NULL);
    Rec rec = {0};
    llmgw_request request = rec_request(&rec, "bedrock/" CLAUDE, "hi", true);
    request.schema =
        "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"],"
        "\"additionalProperties\":false}";
    request.valid = LLMGW_VALID_SCHEMA;
    t_expect_code(rec_chat(gw, &rec, &request), LLMGW_OK);
    rec_free(&rec);
    llmgw_close(gw);
}

/* ---- what breaks ---- */

static size_t kept; /* by the last REWIND */

static void note_kept(Rec *rec, const llmgw_event *event) {
    (void)rec;
    if (event->kind == LLMGW_EVENT_REWIND) kept = event->keep;
}

/* Streams model b after a: what a's rule breaks, b goes on with. */
static void goes_on(const char *rule, const char *a, const char *b, bool resumes) {
    llmgw_options options = t_calm();
    llmgw_provider bedrock;
    llmgw_route route;
    char url[128], first[160], second[160];
    const char *const targets[2] = {first, second};
    Rec rec = {0};
    char *script = provider_script(&provider, 600);
    provider_rule(&provider, "{\"aws\":{" AWS "}}");
    provider_model_rule(&provider, a, rule);
    provider_model_rule(&provider, b, "\"script\":600");
    snprintf(first, sizeof first, "bedrock/%s", a);
    snprintf(second, sizeof second, "bedrock/%s", b);
    bedrock = t_provider(&provider, "bedrock", NULL, "", NULL, url);
    bedrock.region = "eu-central-1";
    bedrock.access_key = ACCESS;
    bedrock.secret_key = SECRET;
    memset(&route, 0, sizeof route);
    route.name = "both";
    route.targets = targets;
    route.target_count = 2;
    options.providers = &bedrock;
    options.provider_count = 1;
    options.routes = &route;
    options.route_count = 1;
    options.hold_ms = LLMGW_OFF;
    llmgw *gw = t_open(&provider, &options);
    rec.hook = note_kept;
    kept = 0;
    llmgw_request request = rec_request(&rec, "both", "tell me", true);
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_string_equal(reply->text, script);
    assert_string_equal(reply->model, b);
    assert_true(t_sent(reply) >= 2);
    assert_int_equal(kept > 0, resumes);
    rec_free(&rec);
    llmgw_close(gw);
    free(script);
    provider_reset(&provider);
}

static void exceptions_inside_a_stream(void **state) {
    static const char *const names[] = {"throttlingException", "internalServerException",
                                        "modelStreamErrorException", "serviceUnavailableException"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char rule[160];
        snprintf(rule, sizeof rule, "\"script\":600,\"exception\":\"%s\",\"exception_after\":20", names[i]);
        goes_on(rule, CLAUDE, NOVA, true); /* a user turn asks for the rest */
        goes_on(rule, NOVA, CLAUDE, true); /* Claude goes on from the text */
        snprintf(rule, sizeof rule, "\"script\":600,\"exception\":\"%s\",\"exception_after\":0", names[i]);
        goes_on(rule, NOVA, CLAUDE, false);
    }
    goes_on("\"script\":600,\"exception\":\"InternalError\",\"exception_after\":20,\"frame_error\":true",
            NOVA, CLAUDE, true);
}

static void damaged_streams(void **state) {
    goes_on("\"script\":600,\"crc\":true", NOVA, CLAUDE, false);
    goes_on("\"script\":600,\"crc_after\":20", NOVA, CLAUDE, true);
    goes_on("\"script\":600,\"cut_at\":200", NOVA, CLAUDE, true);
    goes_on("\"script\":600,\"cut_at\":200", CLAUDE, NOVA, true);
    goes_on("\"script\":600,\"no_terminator\":true", NOVA, CLAUDE, true);
    goes_on("\"script\":600,\"garbage_after\":20", NOVA, CLAUDE, true);
}

/* The codes of what ends a stream that nobody goes on with. */
static void codes(void **state) {
    static const struct {
        const char *fault;
        llmgw_code code;
        const char *text;
    } rows[] = {
        {"\"exception\":\"throttlingException\",\"exception_after\":1", LLMGW_E_RATE_LIMITED,
         "throttlingException"},
        {"\"exception\":\"validationException\",\"exception_after\":1", LLMGW_E_BAD_REQUEST,
         "validationException"},
        {"\"exception\":\"serviceUnavailableException\",\"exception_after\":1", LLMGW_E_OVERLOADED,
         "service"},
        {"\"crc_after\":2", LLMGW_E_PROTOCOL, "wrong checksum"},
        {"\"status\":429", LLMGW_E_RATE_LIMITED, "429"},
        {"\"status\":400", LLMGW_E_BAD_REQUEST, "400"},
        {"\"status\":503", LLMGW_E_OVERLOADED, "503"},
        {"\"status\":400,\"error_type\":\"ServiceQuotaExceededException\"", LLMGW_E_QUOTA, "400"},
    };
    llmgw *gw = open_checked(NULL);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        Rec rec = {0};
        llmgw_request request =
            rec_request(&rec, t_model("bedrock", rows[i].fault), "hi there, all of you", true);
        request.max_attempts = 1;
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        t_expect_code(reply, rows[i].code);
        t_expect_text(reply, rows[i].text);
        rec_free(&rec);
    }
    llmgw_close(gw);
}

static void guardrails(void **state) {
    llmgw *gw = open_checked(NULL);
    for (int stream = 0; stream < 2; stream++) {
        Rec rec = {0};
        llmgw_request request =
            rec_request(&rec, t_model("bedrock", "\"finish\":\"guardrail_intervened\""), "hi", stream == 1);
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        t_expect_code(reply, LLMGW_OK);
        assert_int_equal(reply->finish, LLMGW_FINISH_FILTER);
        rec_free(&rec);
    }
    llmgw_close(gw);
}

static void a_cancelled_stream(void **state) {
    llmgw *gw = open_checked(NULL);
    Rec rec = {0};
    llmgw_request request =
        rec_request(&rec, t_model("bedrock", "\"endless\":true,\"chunk_ms\":5"), "hi", true);
    rec_send(gw, &rec, &request);
    for (int i = 0; i < 200 && !rec.pieces; i++) (void)llmgw_poll(gw, 50);
    assert_true(rec.pieces > 0);
    llmgw_cancel(gw, rec.call);
    assert_true(rec_drive(gw, &rec, 1, 5000));
    assert_int_equal(rec.reply->error.code, LLMGW_E_CANCELLED);
    rec_free(&rec);
    llmgw_close(gw);
}

#define TEST(f) cmocka_unit_test_setup(f, reset)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(signed_requests),
        TEST(under_a_path),
        TEST(wrong_credentials),
        TEST(a_wrong_clock),
        TEST(bearer_tokens),
        TEST(credentials_of_a_function),
        TEST(credentials_that_stay_bad),
        TEST(a_function_gives_bearer_tokens_too),
        TEST(they_stand_in_no_error),
        TEST(a_retry_is_signed_again),
        TEST(tools_there_and_back),
        TEST(all_kinds_of_parts),
        TEST(a_schema),
        TEST(exceptions_inside_a_stream),
        TEST(damaged_streams),
        TEST(codes),
        TEST(guardrails),
        TEST(a_cancelled_stream),
    };
    return cmocka_run_group_tests_name("bedrock", tests, group_start, group_stop);
}
