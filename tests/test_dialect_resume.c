/* Going on with an answer that was cut: requests that ask for the rest, and the answer that takes it up. */
#include "unit.h"

static llmgwi_dialect_target target_of(const char *provider, const char *model, const char *url) {
    const llmgwi_dialect_known *known = llmgwi_dialect_known_find(provider, NULL);
    llmgwi_dialect_target target;
    memset(&target, 0, sizeof target);
    assert_non_null(known);
    target.model = model;
    target.flavour = known->name;
    target.url = url ? url : known->url;
    target.quirks = llmgwi_dialect_quirks_of(known->dialect, known->name, model, target.url);
    return target;
}

static const llmgwi_dialect *dialect_of(const char *provider) {
    return llmgwi_dialect_find(llmgwi_dialect_known_find(provider, NULL)->dialect);
}

/* The body of a request that resumes after text, as jansson reads it; json_decref it. */
static json_t *resumed_at(const char *provider, const char *model, const char *url,
                          const llmgw_request *request, const char *text, bool turn) {
    llmgwi_dialect_target target = target_of(provider, model, url);
    llmgwi_dialect_resume resume;
    llmgwi_base_buf body;
    llmgw_error error;
    json_error_t why;
    memset(&error, 0, sizeof error);
    resume.text = llmgwi_base_cstr(text);
    resume.turn = turn;
    resume.fault = NULL;
    llmgwi_base_buf_init(&body, &unit_mem, (size_t)1 << 20);
    if (!llmgwi_dialect_write(dialect_of(provider), &target, request, &resume, &body, &error))
        fail_msg("refused: %s", error.text);
    json_t *json = json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES, &why);
    if (!json) fail_msg("not JSON: %s in %s", why.text, body.p);
    llmgwi_base_buf_free(&body);
    return json;
}

static json_t *resumed(const char *provider, const char *model, const llmgw_request *request) {
    return resumed_at(provider, model, NULL, request, "Once upon", false);
}

/* ---- who can be prefilled ---- */

typedef struct way_row {
    const char *provider, *model;
    llmgw_effort effort;
    bool prefills;
    const char *url;
} way_row;

static void check_ways(const way_row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        llmgw_request request = unit_ask("q");
        llmgwi_dialect_target target = target_of(rows[i].provider, rows[i].model, rows[i].url);
        request.effort = rows[i].effort;
        bool got = llmgwi_dialect_prefills(&target, &request);
        if (got != rows[i].prefills)
            fail_msg("row %zu: %s/%s effort %d: %d", i, rows[i].provider, rows[i].model, (int)rows[i].effort,
                     got);
    }
}
#define CHECK_WAYS(rows) check_ways(rows, LLMGWI_BASE_COUNT(rows))
#define DEFAULT LLMGW_EFFORT_DEFAULT
#define NONE LLMGW_EFFORT_NONE
#define LOW LLMGW_EFFORT_LOW

static void test_claude(void **state) {
    static const way_row rows[] = {
        {"anthropic", "claude-2.1", DEFAULT, true, NULL},
        {"anthropic", "claude-instant-1.2", DEFAULT, true, NULL},
        {"anthropic", "claude-3-haiku-20240307", DEFAULT, true, NULL},
        {"anthropic", "claude-3-5-sonnet-latest", DEFAULT, true, NULL},
        {"anthropic", "claude-3-7-sonnet-20250219", NONE, true, NULL},
        {"anthropic", "claude-3-7-sonnet-20250219", LOW, false, NULL},
        {"anthropic", "claude-sonnet-4-0", DEFAULT, true, NULL},
        {"anthropic", "claude-sonnet-4-20250514", DEFAULT, true, NULL},
        {"anthropic", "claude-sonnet-4@20250514", DEFAULT, true, NULL}, /* Vertex */
        {"anthropic", "claude-sonnet-4-5", DEFAULT, true, NULL},
        {"anthropic", "claude-sonnet-4-5-20250929", DEFAULT, true, NULL},
        {"anthropic", "claude-opus-4-0", DEFAULT, true, NULL},
        {"anthropic", "claude-opus-4-20250514", DEFAULT, true, NULL},
        {"anthropic", "claude-opus-4-1", DEFAULT, true, NULL},
        {"anthropic", "claude-opus-4-1-20250805", DEFAULT, true, NULL},
        {"anthropic", "claude-opus-4-5@20251101", DEFAULT, true, NULL},
        {"anthropic", "claude-opus-4-5-20251101", LLMGW_EFFORT_HIGH, false, NULL},
        {"anthropic", "claude-haiku-4-5", DEFAULT, true, NULL},
        {"anthropic", "claude-haiku-4-5-20251001", NONE, true, NULL},
        {"anthropic", "claude-haiku-4-5-20251001", LOW, false, NULL},
        {"anthropic", "claude-opus-4-6", DEFAULT, false, NULL},
        {"anthropic", "claude-sonnet-4-6", DEFAULT, false, NULL},
        {"anthropic", "claude-sonnet-4-6-20260217", DEFAULT, false, NULL},
        {"anthropic", "claude-opus-4-7", NONE, false, NULL},
        {"anthropic", "claude-opus-4-10", DEFAULT, false, NULL},
        {"anthropic", "claude-sonnet-5", DEFAULT, false, NULL},
        {"anthropic", "claude-fable-5", DEFAULT, false, NULL},
        {"anthropic", "gpt-4o", DEFAULT, false, NULL},
        {"anthropic", "", DEFAULT, false, NULL},
        {"openrouter", "anthropic/claude-3.5-sonnet", DEFAULT, true, NULL},
        {"openrouter", "anthropic/claude-3.7-sonnet:beta", DEFAULT, true, NULL},
        {"openrouter", "anthropic/claude-3.7-sonnet:thinking", DEFAULT, false, NULL},
        {"openrouter", "anthropic/claude-sonnet-4", DEFAULT, true, NULL},
        {"openrouter", "anthropic/claude-sonnet-4.5", DEFAULT, true, NULL},
        {"openrouter", "anthropic/claude-sonnet-4.5", LOW, false, NULL},
        {"openrouter", "anthropic/claude-opus-4.1", DEFAULT, true, NULL},
        {"openrouter", "anthropic/claude-sonnet-4.6", DEFAULT, false, NULL},
        {"openrouter", "anthropic/claude-opus-4.7", DEFAULT, false, NULL},
        {"openrouter", "claude-3-haiku", DEFAULT, false, NULL},
        {"openrouter", "anthropic/", DEFAULT, false, NULL},
        {"openrouter", "mistralai/mistral-large", DEFAULT, false, NULL},
        {"openrouter", "openai/gpt-4o", DEFAULT, false, NULL},
        {"openrouter", "deepseek/deepseek-chat", DEFAULT, false, "https://openrouter.ai/beta"},
    };
    CHECK_WAYS(rows);
}

#define BETA "https://api.deepseek.com/beta"
static void test_others(void **state) {
    static const way_row rows[] = {
        {"deepseek", "deepseek-chat", DEFAULT, true, BETA},
        {"deepseek", "deepseek-chat", NONE, true, BETA},
        {"deepseek", "deepseek-chat", LOW, false, BETA},
        {"deepseek", "deepseek-chat", DEFAULT, false, "https://api.deepseek.com"},
        {"deepseek", "deepseek-chat", DEFAULT, false, "https://api.deepseek.com/beta/v1"},
        {"deepseek", "deepseek-chat", DEFAULT, false, "beta"},
        {"deepseek", "deepseek-chat", DEFAULT, false, "https://example.com/mybeta"},
        {"deepseek", "deepseek-v4", NONE, true, BETA},
        {"deepseek", "deepseek-v4", DEFAULT, false, BETA},
        {"deepseek", "deepseek-reasoner", NONE, false, BETA},
        {"mistral", "mistral-small-latest", DEFAULT, true, NULL},
        {"mistral", "mistral-small-latest", LOW, false, NULL},
        {"mistral", "magistral-medium-2509", DEFAULT, false, NULL},
        {"qwen", "qwen-plus", DEFAULT, true, NULL},
        {"qwen", "qwen-plus", LOW, false, NULL},
        {"qwen", "qwen-max-latest", DEFAULT, true, NULL},
        {"qwen", "qwen3-max", DEFAULT, true, NULL},
        {"qwen", "qwen3-coder-plus", DEFAULT, true, NULL},
        {"qwen", "qwen2.5-7b-instruct", DEFAULT, true, NULL},
        {"qwen", "qwen3-32b", DEFAULT, false, NULL},
        {"qwen", "qwen3-32b", NONE, true, NULL},
        {"qwen", "qwen3.5-plus", DEFAULT, false, NULL},
        {"qwen", "qwen3-235b-a22b-thinking-2507", NONE, false, NULL},
        {"qwen", "qwq-plus", NONE, false, NULL},
        {"qwen", "qvq-max", DEFAULT, false, NULL},
        {"qwen", "deepseek-v3", DEFAULT, false, NULL},
        {"moonshot", "kimi-k2.5", DEFAULT, true, NULL},
        {"moonshot", "kimi-k2.6", DEFAULT, true, NULL},
        {"moonshot", "kimi-k2-thinking", DEFAULT, false, NULL},
        {"moonshot", "moonshot-v1-8k", DEFAULT, true, NULL},
        {"moonshot", "kimi-k3", DEFAULT, false, NULL},
        {"vllm", "meta-llama/Llama-3.1-8B", DEFAULT, true, NULL},
        {"vllm", "Qwen/Qwen3-4B-Thinking-2507", DEFAULT, false, NULL},
        {"vllm", "m", LOW, false, NULL},
        {"llamacpp", "m", DEFAULT, true, NULL},
        {"llamacpp", "m", NONE, true, NULL},
        {"llamacpp", "m", LOW, false, NULL},
        {"openai", "gpt-4o", DEFAULT, false, NULL},
        {"gemini", "gemini-2.5-flash", DEFAULT, false, NULL},
        {"groq", "llama-3.1-8b-instant", DEFAULT, false, NULL},
        {"xai", "grok-4", DEFAULT, false, NULL},
        {"portkey", "claude-3-haiku", DEFAULT, false, NULL},
        {"tokenmix", "claude-3-haiku", DEFAULT, false, NULL},
        {"ollama", "llama3", DEFAULT, false, NULL},
    };
    CHECK_WAYS(rows);
    llmgw_request request = unit_ask("q");
    llmgwi_dialect_target target = target_of("deepseek", "deepseek-chat", NULL);
    target.url = NULL; /* not known */
    assert_false(llmgwi_dialect_prefills(&target, &request));
}

/* A forced call or an enforced shape would begin anew behind the prefilled text. */
static void test_requests_that_cannot_be_prefilled(void **state) {
    llmgwi_dialect_target target = target_of("anthropic", "claude-3-haiku", NULL);
    llmgw_tool tool = {"f", NULL, NULL, false};
    for (int mode = LLMGW_TOOLS_AUTO; mode <= LLMGW_TOOLS_ONE; mode++) {
        llmgw_request request = unit_ask("q");
        request.tools = &tool;
        request.tool_count = 1;
        request.tool_name = "f";
        request.tool_mode = (llmgw_tool_mode)mode;
        bool free_to_write = mode == LLMGW_TOOLS_AUTO || mode == LLMGW_TOOLS_NONE;
        assert_int_equal(llmgwi_dialect_prefills(&target, &request), free_to_write);
    }
    llmgw_request request = unit_ask("q");
    request.schema = "{}";
    assert_false(llmgwi_dialect_prefills(&target, &request));
}

/* A provider of one's own that speaks anthropic follows Claude's rules. */
static void test_other_host(void **state) {
    llmgw_request request = unit_ask("q");
    llmgwi_dialect_target target = target_of("anthropic", "claude-3-haiku", "https://claude.example.com");
    target.flavour = "mine";
    target.quirks = llmgwi_dialect_quirks_of("anthropic", "mine", target.model, target.url);
    assert_true(llmgwi_dialect_prefills(&target, &request));
    target.quirks = llmgwi_dialect_quirks_of("openai", "openai", target.model, target.url);
    assert_false(llmgwi_dialect_prefills(&target, &request));
}

static void test_echoes(void **state) {
    static const way_row rows[] = {
        {"mistral", "mistral-small-latest", DEFAULT, true, NULL},
        {"mistral", "magistral-small", DEFAULT, false, NULL},
        {"mistral", "mistral-small-latest", LOW, false, NULL},
        {"anthropic", "claude-3-haiku", DEFAULT, false, NULL},
        {"deepseek", "deepseek-chat", DEFAULT, false, BETA},
        {"moonshot", "kimi-k2.5", DEFAULT, false, NULL},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_request request = unit_ask("q");
        llmgwi_dialect_target target = target_of(rows[i].provider, rows[i].model, rows[i].url);
        request.effort = rows[i].effort;
        assert_int_equal(llmgwi_dialect_echoes(&target, &request), rows[i].prefills);
    }
}

static void test_patterns(void **state) {
    static const struct {
        const char *text, *pattern;
        bool fits;
    } rows[] = {
        {"", "", true},
        {"a", "", false},
        {"", "a", false},
        {"", "*", true},
        {"abc", "abc", true},
        {"abc", "ab", false},
        {"ab", "abc", false},
        {"abc", "*", true},
        {"abc", "a*", true},
        {"abc", "*c", true},
        {"abc", "*b", false},
        {"abc", "a*c", true},
        {"aXbXc", "a*b*c", true},
        {"ababac", "*abac", true},
        {"abcabd", "*abd", true},
        {"a", "a**", true},
        {"claude-3.5", "claude-3-5", true},
        {"claude-3-5", "claude-3.5", false},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++)
        if (llmgwi_dialect_fits(llmgwi_base_cstr(rows[i].text), rows[i].pattern) != rows[i].fits)
            fail_msg("'%s' '%s'", rows[i].text, rows[i].pattern);
}

/* ---- what is written ---- */

static void test_prefill_bodies(void **state) {
    static const struct {
        const char *provider, *model, *url, *message, *field, *value;
    } rows[] = {
        {"deepseek", "deepseek-chat", BETA, "{'role':'assistant','content':'Once upon','prefix':true}", NULL,
         NULL},
        {"mistral", "mistral-small", NULL, "{'role':'assistant','content':'Once upon','prefix':true}", NULL,
         NULL},
        {"qwen", "qwen-plus", NULL, "{'role':'assistant','content':'Once upon','partial':true}", NULL, NULL},
        {"moonshot", "kimi-k2.6", NULL, "{'role':'assistant','content':'Once upon','partial':true}", NULL,
         NULL},
        {"vllm", "m", NULL, "{'role':'assistant','content':'Once upon'}", "add_generation_prompt", "false"},
        {"vllm", "m", NULL, "{'role':'assistant','content':'Once upon'}", "continue_final_message", "true"},
        {"llamacpp", "m", NULL, "{'role':'assistant','content':'Once upon'}", "continue_final_message", NULL},
        {"openrouter", "anthropic/claude-3-haiku", NULL, "{'role':'assistant','content':'Once upon'}",
         "continue_final_message", NULL},
        {"anthropic", "claude-3-haiku", NULL,
         "{'role':'assistant','content':[{'type':'text','text':'Once upon'}]}", NULL, NULL},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_request request = unit_ask("Tell a story.");
        request.stream = true;
        json_t *body = resumed_at(rows[i].provider, rows[i].model, rows[i].url, &request, "Once upon", false);
        assert_int_equal(json_array_size(unit_at(body, "messages")), 2);
        unit_is(body, "messages.0.role", "'user'");
        unit_is(body, "messages.1", rows[i].message);
        unit_is(body, "stream", "true");
        if (rows[i].field) unit_is(body, rows[i].field, rows[i].value);
        json_decref(body);
    }
}

#define PLEA "Continue exactly where you stopped; do not repeat."
#define PLEA_MESSAGE "{'role':'user','content':'" PLEA "'}"

/* The same model by a turn: asked for, or because nothing else works. */
static void test_turn_bodies(void **state) {
    static const struct {
        const char *provider, *model;
    } rows[] = {{"openai", "gpt-4o"},
                {"deepseek", "deepseek-chat"},
                {"mistral", "mistral-small"},
                {"qwen", "qwen-plus"},
                {"vllm", "m"},
                {"llamacpp", "m"},
                {"openrouter", "openai/x"},
                {"groq", "x"},
                {"xai", "grok-4"},
                {"moonshot", "kimi-k2.5"},
                {"portkey", "x"},
                {"tokenmix", "x"},
                {"ollama", "x"}};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_request request = unit_ask("Tell a story.");
        json_t *body = resumed_at(rows[i].provider, rows[i].model, NULL, &request, "Once upon", true);
        assert_int_equal(json_array_size(unit_at(body, "messages")), 3);
        unit_is(body, "messages.0", "{'role':'user','content':'Tell a story.'}");
        unit_is(body, "messages.1", "{'role':'assistant','content':'Once upon'}");
        unit_is(body, "messages.2", PLEA_MESSAGE);
        unit_none(body, "continue_final_message");
        unit_none(body, "add_generation_prompt");
        json_decref(body);
    }
}

static void test_turn_anthropic(void **state) {
    static const char *const models[] = {"claude-sonnet-4-6", "claude-3-haiku"};
    for (int i = 0; i < 2; i++) {
        llmgw_request request = unit_ask("Tell a story.");
        json_t *body = resumed_at("anthropic", models[i], NULL, &request, "Once upon", i == 1);
        unit_is(body, "messages",
                "[{'role':'user','content':[{'type':'text','text':'Tell a story.'}]},"
                "{'role':'assistant','content':[{'type':'text','text':'Once upon'}]},"
                "{'role':'user','content':[{'type':'text','text':'" PLEA "'}]}]");
        json_decref(body);
    }
}

static void test_turn_gemini(void **state) {
    llmgw_request request = unit_ask("Tell a story.");
    json_t *body = resumed("gemini", "gemini-2.5-flash", &request);
    unit_is(body, "contents",
            "[{'role':'user','parts':[{'text':'Tell a story.'}]},"
            "{'role':'model','parts':[{'text':'Once upon'}]},"
            "{'role':'user','parts':[{'text':'" PLEA "'}]}]");
    json_decref(body);
}

/* No text was kept: the request as it is. */
static void test_nothing_kept(void **state) {
    static const char *const providers[] = {"openai", "anthropic", "gemini", "mistral", "vllm"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(providers); i++) {
        llmgw_request request = unit_ask("q");
        request.schema = "{\"type\":\"object\"}";
        json_t *plain = unit_body(providers[i], "m", &request);
        json_t *body = resumed_at(providers[i], "m", NULL, &request, "", false);
        assert_true(json_equal(plain, body));
        json_decref(plain);
        json_decref(body);
    }
}

/* Roles alternate, whatever the conversation ends with. */
static void check_alternation(json_t *list, const char *assistant, bool user_last) {
    const char *before = "";
    json_t *message;
    size_t i;
    json_array_foreach(list, i, message) {
        const char *role = json_string_value(json_object_get(message, "role"));
        if (strcmp(role, "system") == 0) continue;
        if (strcmp(role, before) == 0 && strcmp(role, "tool") != 0)
            fail_msg("message %zu: %s again", i, role);
        before = role;
    }
    assert_string_equal(before, user_last ? "user" : assistant);
}

static void test_alternation(void **state) {
    llmgw_part call = unit_tool_call("call_1", "f", "{}"), result = unit_tool_result("call_1", "5");
    llmgw_part thought[2] = {unit_thought("hm", "sig", "nobody"), unit_part(LLMGW_PART_TEXT, "There")};
    llmgw_message user = unit_message(LLMGW_ROLE_USER, "a", NULL, 0),
                  said = unit_message(LLMGW_ROLE_ASSISTANT, "There was.", NULL, 0),
                  empty = unit_message(LLMGW_ROLE_ASSISTANT, "", NULL, 0),
                  calls = unit_message(LLMGW_ROLE_ASSISTANT, NULL, &call, 1),
                  tool = unit_message(LLMGW_ROLE_TOOL, NULL, &result, 1),
                  thinks = unit_message(LLMGW_ROLE_ASSISTANT, NULL, thought, 2),
                  system = unit_message(LLMGW_ROLE_SYSTEM, "be brief", NULL, 0);
    llmgw_message talks[][4] = {{user, said, user, said},    {user, calls, tool, user},
                                {system, user, calls, tool}, {user, said, user, user},
                                {user, said, user, thinks},  {user, said, user, empty}};
    static const char *const providers[] = {"openai", "mistral", "vllm", "llamacpp", "anthropic", "gemini"};
    for (size_t t = 0; t < LLMGWI_BASE_COUNT(talks); t++)
        for (size_t p = 0; p < LLMGWI_BASE_COUNT(providers); p++)
            for (int turn = 0; turn < 2; turn++) {
                bool gemini = strcmp(providers[p], "gemini") == 0;
                bool groups = gemini || strcmp(providers[p], "anthropic") == 0;
                llmgw_request request = unit_talk(talks[t], t == 3 && !groups ? 3 : 4);
                json_t *body =
                    resumed_at(providers[p], groups ? "claude-3-haiku" : "m", NULL, &request, " x", turn);
                check_alternation(unit_at(body, gemini ? "contents" : "messages"),
                                  gemini ? "model" : "assistant",
                                  turn || gemini || strcmp(providers[p], "openai") == 0);
                json_decref(body);
            }
}

/* The caller began the answer: the kept text goes on in the same message, with nothing in between. */
static void test_joined(void **state) {
    llmgw_part parts[2] = {unit_part(LLMGW_PART_TEXT, "Once"), unit_part(LLMGW_PART_TEXT, " up")};
    llmgw_message turns[2] = {unit_message(LLMGW_ROLE_USER, "a", NULL, 0),
                              unit_message(LLMGW_ROLE_ASSISTANT, "\"So: ", parts, 2)};
    llmgw_request request = unit_talk(turns, 2);
    json_t *body = resumed_at("vllm", "m", NULL, &request, "on a\ntime", false);
    unit_is(body, "messages",
            "[{'role':'user','content':'a'},{'role':'assistant','content':'\\\"So: Once upon a\\ntime'}]");
    json_decref(body);
    body = resumed_at("mistral", "m", NULL, &request, "on", true);
    assert_int_equal(json_array_size(unit_at(body, "messages")), 3);
    unit_is(body, "messages.1", "{'role':'assistant','content':'\\\"So: Once upon'}");
    unit_is(body, "messages.2", PLEA_MESSAGE);
    json_decref(body);
    body = resumed_at("anthropic", "claude-3-haiku", NULL, &request, "on", false);
    unit_is(body, "messages.1.content",
            "[{'type':'text','text':'\\\"So: '},{'type':'text','text':'Once'},{'type':'text','text':' up'},"
            "{'type':'text','text':'on'}]");
    json_decref(body);
}

/* A call is no text to go on from: its message stays apart. */
static void test_not_joined(void **state) {
    llmgw_part call = unit_tool_call("call_1", "f", "{}");
    llmgw_message turns[2] = {unit_message(LLMGW_ROLE_USER, "a", NULL, 0),
                              unit_message(LLMGW_ROLE_ASSISTANT, NULL, &call, 1)};
    llmgw_request request = unit_talk(turns, 2);
    json_t *body = resumed("openai", "gpt-4o", &request);
    assert_int_equal(json_array_size(unit_at(body, "messages")), 4);
    unit_is(body, "messages.1.tool_calls.0.id", "'call_1'");
    unit_is(body, "messages.2", "{'role':'assistant','content':'Once upon'}");
    json_decref(body);
}

static void test_with_tools(void **state) {
    llmgw_tool tool = {"f", "adds", "{\"type\":\"object\"}", false};
    llmgw_request request = unit_ask("q");
    request.tools = &tool;
    request.tool_count = 1;
    json_t *body = resumed("anthropic", "claude-sonnet-5", &request);
    unit_is(body, "tools.0.name", "'f'");
    assert_int_equal(json_array_size(unit_at(body, "messages")), 3);
    json_decref(body);
    body = resumed("mistral", "m", &request);
    unit_is(body, "tools.0.function.name", "'f'");
    unit_is(body, "messages.1.prefix", "true");
    json_decref(body);
    body = resumed("gemini", "gemini-2.5-pro", &request);
    unit_is(body, "tools.0.functionDeclarations.0.name", "'f'");
    json_decref(body);
}

/* The rest of a JSON text has not the shape of the whole: it is asked for in words, not enforced. */
static void test_with_schema(void **state) {
    static const struct {
        const char *provider, *model, *enforced, *last;
    } rows[] = {
        {"openai", "gpt-4o", "response_format", "messages.2.content"},
        {"vllm", "m", "response_format", "messages.2.content"},
        {"anthropic", "claude-haiku-4-5", "output_config", "messages.2.content.2.text"},
        {"gemini", "gemini-2.5-pro", "generationConfig.responseJsonSchema", "contents.2.parts.2.text"}};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_request request = unit_ask("q");
        request.schema = "{\"type\":\"object\"}";
        json_t *body = unit_body(rows[i].provider, rows[i].model, &request);
        assert_non_null(unit_at(body, rows[i].enforced));
        json_decref(body);
        body = resumed_at(rows[i].provider, rows[i].model, NULL, &request, "{\"a\":", false);
        unit_none(body, rows[i].enforced);
        unit_has(json_string_value(unit_at(body, rows[i].last)), "{\"type\":\"object\"}");
        json_decref(body);
    }
}

/* An error of the kept text does not blame the prompt. */
static void test_bad_kept_text(void **state) {
    static const char *const providers[] = {"openai", "anthropic", "gemini"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(providers); i++)
        for (int prompt = 0; prompt < 2; prompt++) {
            llmgw_message turn = unit_message(LLMGW_ROLE_USER, "a", NULL, 0);
            llmgw_request request = unit_talk(&turn, 1);
            llmgwi_dialect_target target = target_of(providers[i], "m", NULL);
            llmgwi_dialect_resume resume;
            llmgwi_base_buf body;
            llmgw_error error;
            memset(&error, 0, sizeof error);
            if (prompt) request.prompt = "q";
            resume.text = llmgwi_base_cstr("x\xFF");
            resume.turn = false;
            resume.fault = NULL;
            llmgwi_base_buf_init(&body, &unit_mem, (size_t)1 << 20);
            assert_false(
                llmgwi_dialect_write(dialect_of(providers[i]), &target, &request, &resume, &body, &error));
            assert_int_equal(error.code, LLMGW_E_ARGUMENT);
            unit_has(error.text, "the answer so far");
            llmgwi_base_buf_free(&body);
        }
}

/* ---- the answer that takes up the rest ---- */

static void keep(unit_answer *u, const char *provider, const char *text, const char *reasoning) {
    unit_begin(u, provider, true);
    assert_true(llmgwi_dialect_keep(u->answer, llmgwi_base_cstr(text), llmgwi_base_cstr(reasoning)));
    assert_int_equal(u->text.n + u->reasoning.n, 0); /* the sink heard nothing */
}

static void test_keep(void **state) {
    static const struct {
        const char *provider, *event;
    } rows[] = {
        {"openai", "{'choices':[{'index':0,'delta':{'content':' end'},'finish_reason':'stop'}]}"},
        {"anthropic", "{'type':'content_block_delta','index':0,'delta':{'type':'text_delta','text':' end'}}"},
        {"gemini", "{'candidates':[{'content':{'parts':[{'text':' end'}]},'finishReason':'STOP'}]}"},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        unit_answer u;
        keep(&u, rows[i].provider, "The \"start\\n\"", "thought");
        assert_int_equal(u.answer->bytes, strlen("The \"start\\n\"thought"));
        assert_true(unit_event(&u, rows[i].event));
        unit_text(&u, "The \"start\\n\" end");
        unit_reasoning(&u, "thought");
        assert_int_equal(u.answer->piece_count, 2);
        assert_int_equal(u.answer->pieces[0].kind, LLMGW_PART_REASONING);
        assert_int_equal(u.answer->pieces[0].signature.n, 0);
        assert_int_equal(u.answer->pieces[1].kind, LLMGW_PART_TEXT);
        assert_int_equal(u.answer->pieces[1].n, u.answer->text.n);
        assert_string_equal(llmgwi_base_buf_cstr(&u.text), " end"); /* what the sink was told */
        assert_true(u.answer->sink == unit_sink);
        unit_end(&u);
    }
}

/* The message made of it holds the joined text once. */
static void test_keep_exported(void **state) {
    unit_answer u;
    keep(&u, "openai", "ab", "");
    assert_true(unit_event(&u, "{'choices':[{'index':0,'delta':{'content':'cd'},'finish_reason':'stop'}]}"));
    llmgwi_dialect_settle(u.answer);
    llmgw_message turn = unit_turn(&u, "openai");
    assert_int_equal(turn.part_count, 1);
    assert_int_equal(turn.parts[0].kind, LLMGW_PART_TEXT);
    assert_string_equal(turn.parts[0].text, "abcd");
    unit_end(&u);
}

static void test_keep_nothing(void **state) {
    unit_answer u;
    keep(&u, "openai", "", "");
    assert_int_equal(u.answer->piece_count, 0);
    unit_end(&u);
}

static void test_keep_over_cap(void **state) {
    unit_answer u;
    unit_begin(&u, "openai", true);
    u.answer->max_bytes = 10;
    assert_true(llmgwi_dialect_keep(u.answer, llmgwi_base_cstr("12345"), llmgwi_base_cstr("123")));
    assert_false(unit_event(&u, "{'choices':[{'index':0,'delta':{'content':'678'}}]}"));
    assert_int_equal(u.answer->error.code, LLMGW_E_TOO_LARGE);
    unit_end(&u);
    unit_begin(&u, "openai", true);
    u.answer->max_bytes = 10;
    assert_false(llmgwi_dialect_keep(u.answer, llmgwi_base_cstr("12345678"), llmgwi_base_cstr("123")));
    assert_int_equal(u.answer->error.code, LLMGW_E_TOO_LARGE);
    assert_true(u.answer->sink == unit_sink);
    unit_end(&u);
}

/* ---- the size of a request ---- */

static int64_t tokens(const char *text) { return llmgwi_text_tokens(text, strlen(text)); }

/* Tokens of a request: its texts', some for pictures and files, a few for the frame. */
static void test_request_tokens(void **state) {
    llmgw_part parts[] = {unit_part(LLMGW_PART_TEXT, "1234"),
                          unit_url(LLMGW_PART_IMAGE, "https://example.com/a.png"),
                          unit_bytes(LLMGW_PART_IMAGE, "image/png", NULL, "png"),
                          unit_tool_call("id", "name", "{\"a\":1}"),
                          unit_tool_result("id", "result"),
                          unit_thought("thinks", "signature", "anthropic"),
                          unit_bytes(LLMGW_PART_FILE, "text/plain", "f", "text file ok"),
                          unit_bytes(LLMGW_PART_FILE, "application/pdf", "f", "pdf")};
    const int64_t want[] = {
        2, 1500, 1500, tokens("name") + tokens("{\"a\":1}"), tokens("result"), tokens("thinks"), 3, 1500};
    int64_t sum = 0;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(parts); sum += want[i++]) {
        llmgw_message turn = unit_message(LLMGW_ROLE_USER, NULL, &parts[i], 1);
        llmgw_request request = unit_talk(&turn, 1);
        int64_t got = llmgwi_dialect_request_tokens(&request);
        if (got != want[i] + 8) fail_msg("part %zu: %lld", i, (long long)got);
    }
    static char pdf[80000];
    parts[0] = unit_part(LLMGW_PART_FILE, NULL);
    parts[0].data = pdf;
    parts[0].data_len = sizeof pdf;
    llmgw_message turns[2] = {unit_message(LLMGW_ROLE_SYSTEM, "sys", NULL, 0),
                              unit_message(LLMGW_ROLE_USER, "ab", parts, LLMGWI_BASE_COUNT(parts))};
    llmgw_request request = unit_talk(turns, 2);
    assert_int_equal(llmgwi_dialect_request_tokens(&request),
                     sum - 2 + 2500 + tokens("sys") + tokens("ab") + 12);
    llmgw_tool tools[2] = {{"tool", "what", "{\"x\":{}}", false}, {"t", NULL, NULL, false}};
    request = unit_ask("prompt");
    request.system = "system";
    request.schema = "{}";
    request.tools = tools;
    request.tool_count = 2;
    assert_int_equal(llmgwi_dialect_request_tokens(&request),
                     4 + tokens("prompt") + tokens("system") + tokens("{}") + 12 + tokens("tool") +
                         tokens("what") + tokens("{\"x\":{}}") + tokens("t") + 16);
    request = unit_ask(NULL);
    assert_int_equal(llmgwi_dialect_request_tokens(&request), 4);
}

/* A long text is judged by slices of it, and comes out as the whole would. */
static void test_long_text_tokens(void **state) {
    static char text[200000];
    size_t n = 0;
    for (int i = 0; n + 64 < sizeof text; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "The %d. line has words of unequal lengths;\n", i);
    double whole = (double)llmgwi_text_tokens(text, n);
    double guess = (double)llmgwi_dialect_text_tokens(llmgwi_base_view(text, n));
    assert_true(guess > whole * 0.95 && guess < whole * 1.05);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_claude),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_requests_that_cannot_be_prefilled),
        cmocka_unit_test(test_other_host),
        cmocka_unit_test(test_echoes),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_prefill_bodies),
        cmocka_unit_test(test_turn_bodies),
        cmocka_unit_test(test_turn_anthropic),
        cmocka_unit_test(test_turn_gemini),
        cmocka_unit_test(test_nothing_kept),
        cmocka_unit_test(test_alternation),
        cmocka_unit_test(test_joined),
        cmocka_unit_test(test_not_joined),
        cmocka_unit_test(test_with_tools),
        cmocka_unit_test(test_with_schema),
        cmocka_unit_test(test_bad_kept_text),
        cmocka_unit_test(test_keep),
        cmocka_unit_test(test_keep_exported),
        cmocka_unit_test(test_keep_nothing),
        cmocka_unit_test(test_keep_over_cap),
        cmocka_unit_test(test_request_tokens),
        cmocka_unit_test(test_long_text_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
