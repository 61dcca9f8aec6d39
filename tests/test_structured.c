/* Answers of a schema: in each form that a provider takes one in, whole and streamed; answers that are not of it
 * and are sent back to be corrected; fences. */
#include "unit.h"
#include "testing.h"
#include "group.h"

#define SCHEMA "{\"type\":\"object\",\"properties\":{\"age\":{\"type\":\"integer\"}},\"required\":[\"age\"]}"
#define GOOD "{\\\"age\\\":41}"
#define BAD "{\\\"age\\\":\\\"old\\\"}"

static int reset(void **state) {
    provider_reset(&provider);
    return 0;
}

/* ---- what is written ---- */

typedef struct form {
    const char *provider, *model;
    const char *path, *want; /* of the body; NULL: nothing there */
    bool tools, thinks;      /* the request has tools of its own; asks for reasoning */
    const char *schema;      /* NULL: SCHEMA */
} form;

#define NATIVE "response_format.type", "'json_schema'"
#define MODE "response_format", "{'type':'json_object'}"

static const form forms[] = {
    {"openai", "gpt-4o", NATIVE, false, false, NULL},
    {"openai", "gpt-4.1-mini", NATIVE, false, false, NULL},
    {"openai", "gpt-4o-2024-08-06", NATIVE, false, false, NULL},
    {"openai", "gpt-4o-2024-05-13", MODE, false, false, NULL}, /* older than schemas */
    {"openai", "gpt-4-turbo-2024-04-09", MODE, false, false, NULL},
    {"openai", "gpt-4-1106-preview", MODE, false, false, NULL},
    {"openai", "gpt-4", "response_format", NULL, false, false, NULL}, /* older than JSON mode */
    {"openai", "gpt-4-0613", "response_format", NULL, false, false, NULL},
    {"mistral", "mistral-large", NATIVE, false, false, NULL},
    {"vllm", "m", NATIVE, true, false, NULL},
    {"deepseek", "deepseek-chat", MODE, false, false, NULL},
    {"deepseek", "deepseek-chat", MODE, true, true, NULL},
    {"deepseek", "deepseek-chat", "response_format", NULL, false, false, "{\"type\":\"array\"}"},
    {"moonshot", "kimi-k2", MODE, false, false, NULL},
    {"qwen", "qwen-plus", MODE, false, false, NULL},
    {"qwen", "qwen-plus", "response_format", NULL, false, true, NULL},
    {"llamacpp", "m", "response_format.type", "'json_object'", false, false, NULL},
    {"llamacpp", "m", "response_format.schema.type", "'object'", true, false, NULL},
    {"anthropic", "claude-sonnet-4-5", "output_config.format.type", "'json_schema'", true, false, NULL},
    {"anthropic", "claude-haiku-4-5-20251001", "tools", NULL, false, false, NULL},
    {"anthropic", "claude-3-5-haiku-latest", "tool_choice", "{'type':'tool','name':'reply'}", false, false,
     NULL},
    {"anthropic", "claude-opus-4-1-20250805", "tools.0.input_schema.type", "'object'", false, false, NULL},
    {"anthropic", "claude-sonnet-4-20250514", "output_config", NULL, false, false, NULL},
    {"anthropic", "claude-3-5-haiku-latest", "tool_choice", NULL, true, false, NULL},
    {"anthropic", "claude-3-7-sonnet-latest", "tool_choice", NULL, false, true, NULL},
    {"anthropic", "claude-3-5-haiku-latest", "tools", NULL, false, false, "{\"enum\":[1,2]}"},
    {"gemini", "gemini-2.5-flash", "generationConfig.responseJsonSchema.type", "'object'", false, false,
     NULL},
    {"gemini", "gemini-2.5-flash", "generationConfig.responseMimeType", NULL, true, false, NULL},
    {"gemini", "gemini-3-pro", "generationConfig.responseJsonSchema.type", "'object'", true, false, NULL},
};

static json_t *form_body(const form *f) {
    static const llmgw_tool tool = {"lookup", NULL, NULL, false};
    llmgw_request request;
    memset(&request, 0, sizeof request);
    request.model = "x/y";
    request.system = "Be kind.";
    request.prompt = "How old?";
    request.schema = f->schema ? f->schema : SCHEMA;
    request.tools = &tool;
    request.tool_count = f->tools;
    request.effort = f->thinks ? LLMGW_EFFORT_HIGH : LLMGW_EFFORT_DEFAULT;
    return unit_body(f->provider, f->model, &request);
}

/* A schema that is not enforced in the body is told in the system text, after the caller's own. */
static void test_forms(void **state) {
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        const form *f = &forms[i];
        json_t *body = form_body(f);
        char *text = json_dumps(body, JSON_COMPACT);
        json_t *at = unit_at(body, f->path);
        json_t *want = f->want ? json_loads(unit_quoted(f->want), JSON_DECODE_ANY, NULL) : NULL;
        if (!want != !at || (want && !json_equal(at, want)))
            fail_msg("%s/%s: %s is not %s in %s", f->provider, f->model, f->path,
                     f->want ? f->want : "absent", text);
        bool enforced = strstr(text, "json_schema") || strstr(text, "responseJsonSchema") ||
                        unit_at(body, "response_format.schema") || unit_at(body, "tool_choice");
        bool told = strstr(text, "Be kind.\\n\\nAnswer with JSON only") != NULL;
        if (enforced == told)
            fail_msg("%s/%s: enforced and told, or neither: %s", f->provider, f->model, text);
        unit_has(text, "Be kind.");
        free(text);
        json_decref(want);
        json_decref(body);
    }
}

/* A name of the caller's own goes where the provider has a place for one. */
static void test_names(void **state) {
    static const char *const samples[][4] = {
        {"openai", "m", "response_format.json_schema.name", "'person'"},
        {"anthropic", "claude-3-haiku", "tools.0.name", "'person'"},
    };
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        llmgw_request request;
        memset(&request, 0, sizeof request);
        request.prompt = "How old?";
        request.schema = SCHEMA;
        request.schema_name = "person";
        json_t *body = unit_body(samples[i][0], samples[i][1], &request);
        unit_is(body, samples[i][2], samples[i][3]);
        json_decref(body);
    }
}

/* ---- over sockets ---- */

typedef struct place {
    const char *name, *path, *model;
    bool told; /* the fake provider is told the answer: it sees no schema */
} place;

static const place places[] = {
    {"openai", "/v1", "gpt-4o", false},
    {"anthropic", "", "claude-sonnet-4-5", false},
    {"anthropic", "", "claude-3-5-haiku", false}, /* forced tool */
    {"gemini", "/v1beta", "gemini-2.5-flash", false},
    {"mistral", "/mistral/v1", "mistral-small", false},
    {"llamacpp", "/llamacpp/v1", "local", false},
    {"deepseek", "/deepseek/v1", "deepseek-chat", true}, /* JSON mode */
    {"moonshot", "/moonshot/v1", "kimi-k2", true},
};

/* A gateway with the route "r" over these places, in order. */
static llmgw *open_places(const place *list, size_t count, const llmgw_options *more) {
    static char urls[8][128], targets[8][96];
    llmgw_provider providers[8];
    const char *names[8];
    llmgw_route route;
    llmgw_options options = *more;
    llmgw_error error;
    memset(&route, 0, sizeof route);
    for (size_t i = 0; i < count; i++) {
        providers[i] = t_provider(&provider, list[i].name, NULL, list[i].path, "sk-structured-0123", urls[i]);
        snprintf(targets[i], sizeof targets[i], "%s/%s", list[i].name, list[i].model);
        names[i] = targets[i];
    }
    route.name = "r";
    route.targets = names;
    route.target_count = count;
    options.providers = providers;
    options.provider_count = count;
    options.routes = &route;
    options.route_count = 1;
    options.no_environment = true;
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) fail_msg("llmgw_open: %s", error.text);
    return gw;
}

static llmgw_request ask(Rec *rec, bool stream) {
    memset(rec, 0, sizeof *rec);
    llmgw_request request = rec_request(rec, "r", "How old is she?", stream);
    request.schema = SCHEMA;
    return request;
}

/* Every provider's answer is text of the schema, whatever form it was asked in: no tool call is seen. */
static void test_every_place(void **state) {
    llmgw_options options = t_calm();
    options.hold_ms = options.hold_bytes = LLMGW_OFF;
    for (size_t i = 0; i < COUNT_OF(places) * 2; i++) {
        const place *at = &places[i / 2];
        llmgw *gw = open_places(at, 1, &options);
        Rec rec;
        llmgw_request request = ask(&rec, i % 2);
        if (at->told) provider_model_rule(&provider, at->model, "\"text\":\"" GOOD "\"");
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        if (reply->error.code || strncmp(reply->text, "{\"age\":", 7) != 0)
            fail_msg("%s/%s: %s, %s", at->name, at->model, reply->error.text, reply->text);
        assert_int_equal(reply->finish, LLMGW_FINISH_STOP);
        assert_int_equal(reply->tool_call_count, 0);
        assert_int_equal(reply->attempts, 1);
        assert_int_equal(reply->message.part_count, 1);
        assert_int_equal(reply->message.parts[0].kind, LLMGW_PART_TEXT);
        assert_string_equal(reply->message.parts[0].text, reply->text);
        assert_int_equal(rec.rewinds, 0);
        rec_free(&rec);
        llmgw_close(gw);
    }
}

/* The forced tool's arguments come as text in pieces; what the model says beside the call is dropped, and is the
   answer where there is no call. */
static void test_forced_tool(void **state) {
    static const char *const samples[][3] = {
        {"\"tool_calls\":[{\"name\":\"reply\",\"arguments\":{\"age\":123456789}}],\"text\":\"Here it is:\"",
         "{\"age\":123456789}", "stop"},
        {"\"tool_calls\":[{\"name\":\"other\",\"arguments\":{\"age\":7}},{\"name\":\"reply\",\"arguments\":{}"
         "}]",
         "{\"age\":7}", "stop"},
        {"\"tool_calls\":[],\"text\":\"" GOOD "\"", "{\"age\":41}", "stop"},
    };
    llmgw_options options = t_calm();
    options.hold_ms = options.hold_bytes = LLMGW_OFF;
    llmgw *gw = open_places(&places[2], 1, &options);
    for (size_t i = 0; i < COUNT_OF(samples) * 2; i++) {
        Rec rec;
        llmgw_request request = ask(&rec, i % 2);
        provider_reset(&provider);
        provider_model_rule(&provider, places[2].model, samples[i / 2][0]);
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        t_expect_code(reply, LLMGW_OK);
        assert_string_equal(reply->text, samples[i / 2][1]);
        assert_string_equal(llmgw_finish_name(reply->finish), samples[i / 2][2]);
        assert_int_equal(reply->tool_call_count, 0);
        assert_int_equal(reply->attempts, 1);
        if (i % 2 && i / 2 == 0) assert_true(rec.pieces > 1);
        assert_null(strstr(rec.log, "reply")); /* no event of a tool */
        rec_free(&rec);
    }
    llmgw_close(gw);
}

/* A forced tool's stream that breaks shows no tool call, and ends as a broken text does. */
static void test_forced_tool_cut(void **state) {
    llmgw_options options = t_calm();
    options.hold_ms = options.hold_bytes = LLMGW_OFF;
    llmgw *gw = open_places(&places[2], 1, &options);
    Rec rec;
    llmgw_request request = ask(&rec, true);
    request.max_attempts = 1;
    provider_model_rule(
        &provider, places[2].model,
        "\"tool_calls\":[{\"name\":\"reply\",\"arguments\":{\"age\":123456789}}],\"cut_args\":9");
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    assert_int_not_equal(reply->error.code, LLMGW_OK);
    assert_string_equal(reply->text, "{\"age\":12");
    assert_int_equal(reply->tool_call_count, 0);
    rec_free(&rec);
    llmgw_close(gw);
}

/* ---- repairs ---- */

static const llmgw_trace *attempt_of(const llmgw_reply *reply, int n) {
    for (size_t i = 0; i < reply->trace_count; i++)
        if (reply->trace[i].kind == LLMGW_TRACE_ATTEMPT && n-- == 0) return &reply->trace[i];
    fail_msg("there is no such attempt");
    return NULL;
}

/* The model is told what is wrong, at once, and corrects it. */
static void test_repaired(void **state) {
    llmgw_options options = t_calm();
    options.backoff_ms = 60000; /* a repair does not wait */
    for (size_t i = 0; i < COUNT_OF(places) * 2; i++) {
        const place *at = &places[i / 2];
        llmgw *gw = open_places(at, 1, &options);
        Rec rec;
        llmgw_request request = ask(&rec, i % 2);
        provider_reset(&provider);
        provider_model_rule(&provider, at->model, "\"text\":\"" BAD "\",\"times\":1");
        if (at->told) provider_model_rule(&provider, at->model, "\"text\":\"" GOOD "\"");
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        if (reply->error.code || strncmp(reply->text, "{\"age\":", 7) != 0)
            fail_msg("%s/%s: %s, %s", at->name, at->model, reply->error.text, reply->text);
        assert_int_equal(reply->attempts, 2);
        const llmgw_trace *first = attempt_of(reply, 0), *second = attempt_of(reply, 1);
        assert_int_equal(first->code, LLMGW_E_INVALID);
        assert_string_equal(first->reason, "$.age: expected integer");
        assert_int_equal(second->code, LLMGW_OK);
        assert_string_equal(second->reason, "repair: answered");
        assert_true(second->usage.input > first->usage.input); /* the answer and the schema went along */
        assert_true(reply->elapsed_us < 20000000);
        rec_free(&rec);
        llmgw_close(gw);
    }
}

/* What the model is told: its own words, what is wrong with them, and the schema. */
static void test_plea(void **state) {
    llmgwi_dialect_target target;
    llmgwi_dialect_resume resume;
    llmgw_request request;
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        const llmgwi_dialect_known *known = llmgwi_dialect_known_find(places[i].name, NULL);
        llmgwi_base_buf body;
        llmgw_error error;
        memset(&target, 0, sizeof target);
        memset(&request, 0, sizeof request);
        memset(&error, 0, sizeof error);
        target.model = places[i].model;
        target.flavour = known->name;
        target.quirks = llmgwi_dialect_quirks_of(known->dialect, known->name, target.model, NULL);
        request.prompt = "How old?";
        request.schema = SCHEMA;
        resume.text = llmgwi_base_cstr("{\"age\":null}");
        resume.turn = true;
        resume.fault = "$.age: expected integer";
        llmgwi_base_buf_init(&body, &unit_mem, 1 << 20);
        assert_true(llmgwi_dialect_write(llmgwi_dialect_find(known->dialect), &target, &request, &resume,
                                         &body, &error));
        const char *said = strstr(body.p, "{\\\"age\\\":null}"), *asked = strstr(body.p, "How old?"),
                   *wrong = strstr(body.p, "$.age: expected integer");
        assert_true(asked && said && wrong && asked < said && said < wrong);
        unit_has(wrong, "{\\\"type\\\":\\\"object\\\"");
        llmgwi_base_buf_free(&body);
    }
}

/* A repair that fails too: the next target is asked, without what the first one said. */
static void test_not_repaired(void **state) {
    llmgw_options options = t_calm();
    llmgw *gw = open_places(places, 2, &options);
    Rec rec;
    llmgw_request request = ask(&rec, false);
    provider_model_rule(&provider, "gpt-4o", "\"text\":\"" BAD "\"");
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_string_equal(reply->provider, "anthropic");
    assert_int_equal(reply->attempts, 3);
    assert_string_equal(attempt_of(reply, 1)->reason, "repair: $.age: expected integer");
    assert_string_equal(attempt_of(reply, 2)->reason, "answered");
    assert_true(attempt_of(reply, 2)->usage.input < attempt_of(reply, 1)->usage.input);
    rec_free(&rec);
    llmgw_close(gw);
}

/* The target that gave the answer is asked, also where one before it in the route has become free meanwhile. */
static void test_same_target(void **state) {
    llmgw_options options = t_calm();
    llmgw *gw = open_places(places, 2, &options);
    Rec rec;
    llmgw_request request = ask(&rec, false);
    provider_model_rule(&provider, "gpt-4o", "\"status\":429,\"retry_after\":\"1\",\"times\":1");
    assert_string_equal(rec_chat(gw, &rec, &request)->provider, "anthropic");
    rec_free(&rec);
    provider_model_rule(&provider, "claude-sonnet-4-5", "\"text\":\"" BAD "\",\"delay_ms\":1300,\"times\":1");
    request = ask(&rec, false);
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_string_equal(reply->provider, "anthropic");
    assert_string_equal(attempt_of(reply, 1)->reason, "repair: answered");
    assert_int_equal(provider_asked(&provider, "gpt-4o"), 1);
    rec_free(&rec);
    llmgw_close(gw);
}

/* Law 2: a repair is one of max_attempts. */
static void test_budget(void **state) {
    for (int most = 1; most <= 3; most++) {
        llmgw_options options = t_calm();
        llmgw *gw = open_places(places, 2, &options);
        Rec rec;
        llmgw_request request = ask(&rec, false);
        request.max_attempts = most;
        provider_reset(&provider);
        provider_rule(&provider, "{\"model\":\"*\",\"text\":\"" BAD "\"}");
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        t_expect_code(reply, LLMGW_E_INVALID);
        assert_int_equal(reply->attempts, most);
        assert_int_equal(provider_count(&provider, "requests"), most);
        assert_int_equal(provider_asked(&provider, "claude-sonnet-4-5"), most == 3);
        rec_free(&rec);
        llmgw_close(gw);
    }
}

/* Off, by the call or by the gateway: the next target at once. Two: two. */
static void test_max_repairs(void **state) {
    static const struct {
        int call, gateway, want;
    } samples[] = {{LLMGW_OFF, 0, 0}, {0, LLMGW_OFF, 0}, {1, LLMGW_OFF, 1}, {0, 2, 2}, {3, 1, 3}, {0, 0, 1}};
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        llmgw_options options = t_calm();
        options.max_repairs = samples[i].gateway;
        llmgw *gw = open_places(places, 2, &options);
        Rec rec;
        llmgw_request request = ask(&rec, false);
        request.max_repairs = samples[i].call;
        request.max_attempts = 8;
        provider_reset(&provider);
        provider_model_rule(&provider, "gpt-4o", "\"text\":\"" BAD "\"");
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        t_expect_code(reply, LLMGW_OK);
        assert_string_equal(reply->provider, "anthropic");
        assert_int_equal(provider_asked(&provider, "gpt-4o"), 1 + samples[i].want);
        rec_free(&rec);
        llmgw_close(gw);
    }
}

/* Repairs come out of the retry budget: without any left the next target is asked. */
static void test_retry_budget(void **state) {
    llmgw_options options = t_calm();
    options.retry_percent = 1;
    llmgw *gw = open_places(places, 2, &options);
    int repaired = 0, calls = 40;
    provider_model_rule(&provider, "gpt-4o", "\"text\":\"" BAD "\"");
    for (int i = 0; i < calls; i++) {
        Rec rec;
        llmgw_request request = ask(&rec, false);
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        t_expect_code(reply, LLMGW_OK);
        repaired += reply->attempts == 3;
        rec_free(&rec);
    }
    assert_in_range(repaired, 1, calls - 1);
    llmgw_close(gw);
}

/* A stream that was shown is taken back. */
static void test_stream_rewinds(void **state) {
    llmgw_options options = t_calm();
    options.hold_ms = options.hold_bytes = LLMGW_OFF;
    llmgw *gw = open_places(places, 1, &options);
    Rec rec;
    llmgw_request request = ask(&rec, true);
    provider_model_rule(&provider, "gpt-4o", "\"text\":\"" BAD "\",\"times\":1");
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_int_equal(reply->attempts, 2);
    assert_int_equal(rec.rewinds, 1);
    assert_string_equal(reply->text, "{\"age\":1}");
    assert_string_equal(rec.text.p, "{\"age\":1}");
    rec_free(&rec);
    llmgw_close(gw);
}

/* Not sent back: what was cut at max_tokens, what is empty, refused, or only the caller does not like. */
static bool refuse(const llmgw_reply *reply, void *user) { return false; }
static void test_no_repair(void **state) {
    static const char *const rules[] = {"\"text_repeat\":50,\"text\":\"{\\\"age\\\":1, \"", "\"text\":\"\"",
                                        "\"refusal\":\"No.\"", "\"text\":\"" GOOD "\""};
    for (size_t i = 0; i < COUNT_OF(rules); i++) {
        llmgw_options options = t_calm();
        llmgw *gw = open_places(places, 1, &options);
        Rec rec;
        llmgw_request request = ask(&rec, false);
        request.max_attempts = 2;
        request.valid = LLMGW_VALID_NOT_REFUSED;
        if (i == 0) request.max_tokens = 20;
        if (i == 3) request.is_valid = refuse;
        provider_reset(&provider);
        provider_model_rule(&provider, "gpt-4o", rules[i]);
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        t_expect_code(reply, LLMGW_E_INVALID);
        assert_null(strstr(attempt_of(reply, 1)->reason, "repair: "));
        rec_free(&rec);
        llmgw_close(gw);
    }
}

/* ---- fences ---- */

/* A fence around a valid answer is taken off, of a stream by a REWIND. */
static void test_fences(void **state) {
    static const char *const fenced[] = {"```json\\n" GOOD "\\n```", "\\n~~~\\n" GOOD "\\n~~~\\n"};
    for (size_t i = 0; i < COUNT_OF(fenced) * 4; i++) {
        llmgw_options options = t_calm();
        if (i & 1) options.hold_ms = options.hold_bytes = LLMGW_OFF;
        llmgw *gw = open_places(places, 1, &options);
        Rec rec;
        char rule[256];
        llmgw_request request = ask(&rec, i & 2);
        provider_reset(&provider);
        snprintf(rule, sizeof rule, "\"reasoning\":\"Hm.\",\"text\":\"%s\"", fenced[i / 4]);
        provider_model_rule(&provider, "gpt-4o", rule);
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        t_expect_code(reply, LLMGW_OK);
        assert_string_equal(reply->text, "{\"age\":41}");
        assert_string_equal(reply->message.parts[reply->message.part_count - 1].text, "{\"age\":41}");
        assert_int_equal(reply->attempts, 1);
        assert_int_equal(rec.rewinds, (i & 2) != 0);
        rec_free(&rec);
        llmgw_close(gw);
    }
}

#define T(name) cmocka_unit_test_setup(name, reset)
static const struct CMUnitTest tests[] = {
    T(test_forms),           T(test_names),     T(test_every_place), T(test_forced_tool),
    T(test_forced_tool_cut), T(test_repaired),  T(test_plea),        T(test_not_repaired),
    T(test_same_target),     T(test_budget),    T(test_max_repairs), T(test_retry_budget),
    T(test_stream_rewinds),  T(test_no_repair), T(test_fences),
};

int main(void) { return cmocka_run_group_tests_name("structured", tests, group_start, group_stop); }
