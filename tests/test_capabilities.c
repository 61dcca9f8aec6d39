/* What providers and models take: the built-in table, rows of a configuration, and what becomes of a request that
 * says something its target does not take. */
#include "unit.h"

#include "testing.h"
#include "group.h"

static int reset(void **state) {
    provider_reset(&provider);
    return 0;
}

/* ---- what is written ---- */

/* A request with one of everything that some target does not take. */
static llmgw_request full(void) {
    static const char *const stops[] = {"a", "b", "c", "d", "e", "f"};
    llmgw_request request = unit_ask("hi");
    request.temperature = llmgw_set(0.5);
    request.top_p = llmgw_set(0.9);
    request.top_k = llmgw_set(40);
    request.seed = llmgw_set(7);
    request.frequency_penalty = llmgw_set(0.25);
    request.presence_penalty = llmgw_set(0.5);
    request.stop = stops;
    request.stop_count = COUNT_OF(stops);
    request.user_id = "u";
    request.max_tokens = 100;
    return request;
}

typedef struct row {
    const char *provider, *model;
    llmgw_effort effort;
    const char *dropped; /* of full() */
} row;

static void expect_dropped(const row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const llmgwi_dialect_known *known = llmgwi_dialect_known_find(rows[i].provider, NULL);
        llmgw_request request = full();
        llmgwi_dialect_fit fit;
        request.effort = rows[i].effort;
        llmgwi_dialect_fit_to(
            &fit, &request, llmgwi_dialect_quirks_of(known->dialect, known->name, rows[i].model, known->url));
        if (fit.field || strcmp(fit.dropped, rows[i].dropped) != 0)
            fail_msg("%s/%s effort %d: '%s', expected '%s'", rows[i].provider, rows[i].model,
                     (int)rows[i].effort, fit.dropped, rows[i].dropped);
    }
}

#define SIX_STOPS_OF_4 "stop[4], stop[5]"

static void openai_models(void **state) {
    static const row rows[] = {
        {"openai", "gpt-4o", LLMGW_EFFORT_DEFAULT, "top_k, " SIX_STOPS_OF_4},
        {"openai", "gpt-4o-2024-08-06", LLMGW_EFFORT_HIGH, "effort, top_k, " SIX_STOPS_OF_4},
        {"openai", "gpt-4o", LLMGW_EFFORT_NONE, "top_k, " SIX_STOPS_OF_4}, /* it does not reason anyway */
        {"openai", "gpt-4.1-mini", LLMGW_EFFORT_LOW, "effort, top_k, " SIX_STOPS_OF_4},
        {"openai", "o3", LLMGW_EFFORT_DEFAULT,
         "temperature, top_p, top_k, frequency_penalty, presence_penalty, stop"},
        {"openai", "o4-mini-2025-04-16", LLMGW_EFFORT_LOW,
         "temperature, top_p, top_k, frequency_penalty, presence_penalty, stop"},
        {"openai", "o1", LLMGW_EFFORT_NONE,
         "effort, temperature, top_p, top_k, frequency_penalty, presence_penalty, stop"},
        {"openai", "gpt-5-mini", LLMGW_EFFORT_NONE,
         "effort, temperature, top_p, top_k, frequency_penalty, presence_penalty, stop"},
        {"openai", "gpt-5-2025-08-07", LLMGW_EFFORT_DEFAULT,
         "temperature, top_p, top_k, frequency_penalty, presence_penalty, stop"},
        {"openai", "gpt-5.1", LLMGW_EFFORT_DEFAULT, "top_k, frequency_penalty, presence_penalty, stop"},
        {"openai", "gpt-5.2-2025-12-11", LLMGW_EFFORT_NONE,
         "top_k, frequency_penalty, presence_penalty, stop"},
        {"openai", "gpt-5.1", LLMGW_EFFORT_LOW,
         "temperature, top_p, top_k, frequency_penalty, presence_penalty, stop"},
        {"openai", "gpt-5.1-codex", LLMGW_EFFORT_DEFAULT,
         "temperature, top_p, top_k, frequency_penalty, presence_penalty, stop"},
        {"openai", "gpt-5-chat-latest", LLMGW_EFFORT_LOW, "effort, top_k, " SIX_STOPS_OF_4},
        {"openai", "gpt-9-nova", LLMGW_EFFORT_LOW, "top_k, " SIX_STOPS_OF_4}, /* not known: as the provider */
    };
    expect_dropped(rows, COUNT_OF(rows));
}

static void claude_models(void **state) {
    static const row rows[] = {
        {"anthropic", "claude-3-haiku-20240307", LLMGW_EFFORT_DEFAULT,
         "seed, frequency_penalty, presence_penalty"},
        {"anthropic", "claude-3-haiku-20240307", LLMGW_EFFORT_LOW,
         "effort, seed, frequency_penalty, presence_penalty"},
        {"anthropic", "claude-3-7-sonnet-latest", LLMGW_EFFORT_LOW,
         "temperature, top_p, top_k, seed, frequency_penalty, presence_penalty"},
        {"anthropic", "claude-sonnet-4-5-20250929", LLMGW_EFFORT_DEFAULT,
         "seed, frequency_penalty, presence_penalty, top_p"},
        {"anthropic", "claude-opus-4-6", LLMGW_EFFORT_DEFAULT,
         "seed, frequency_penalty, presence_penalty, top_p"},
        {"anthropic", "claude-opus-4-7", LLMGW_EFFORT_DEFAULT,
         "temperature, top_p, top_k, seed, frequency_penalty, presence_penalty"},
        {"anthropic", "claude-sonnet-5", LLMGW_EFFORT_DEFAULT,
         "temperature, top_p, top_k, seed, frequency_penalty, presence_penalty"},
        {"anthropic", "claude-nextone-9", LLMGW_EFFORT_DEFAULT, /* newer than the table */
         "temperature, top_p, top_k, seed, frequency_penalty, presence_penalty"},
        {"anthropic", "somebody-elses", LLMGW_EFFORT_DEFAULT, "seed, frequency_penalty, presence_penalty"},
        {"openrouter", "anthropic/claude-opus-4.7", LLMGW_EFFORT_DEFAULT, "temperature, top_p"},
    };
    expect_dropped(rows, COUNT_OF(rows));
}

static void other_models(void **state) {
    static const row rows[] = {
        {"gemini", "gemini-2.5-flash", LLMGW_EFFORT_NONE, "stop[5], user_id"},
        {"gemini", "gemini-2.0-flash", LLMGW_EFFORT_LOW, "effort, stop[5], user_id"},
        {"gemini", "gemini-2.5-pro", LLMGW_EFFORT_NONE, "effort, stop[5], user_id"},
        {"mistral", "mistral-large-latest", LLMGW_EFFORT_LOW, "effort, top_k, user_id"},
        {"deepseek", "deepseek-chat", LLMGW_EFFORT_NONE, "top_k"},
        {"xai", "grok-4", LLMGW_EFFORT_LOW, "effort, top_k, frequency_penalty, presence_penalty, stop"},
        {"xai", "grok-3-mini", LLMGW_EFFORT_LOW, "top_k, frequency_penalty, presence_penalty, stop"},
        {"groq", "llama-3.3-70b-versatile", LLMGW_EFFORT_LOW, "effort, top_k, " SIX_STOPS_OF_4},
        {"groq", "openai/gpt-oss-20b", LLMGW_EFFORT_LOW, "top_k, " SIX_STOPS_OF_4},
        {"moonshot", "kimi-k2-0905-preview", LLMGW_EFFORT_DEFAULT, "top_k, stop[5]"},
        {"vllm", "Qwen/Qwen3-4B", LLMGW_EFFORT_DEFAULT, ""},
        {"llamacpp", "m", LLMGW_EFFORT_DEFAULT, ""},
        {"openrouter", "meta-llama/llama-4", LLMGW_EFFORT_LOW, ""},
        {"ollama", "llama3.2", LLMGW_EFFORT_DEFAULT, "top_k, user_id"},
    };
    expect_dropped(rows, COUNT_OF(rows));
}

/* Values that a target takes go out unchanged; those out of its range are left out, not brought into it. */
static void values(void **state) {
    static const struct {
        const char *provider, *model;
        double temperature, top_p;
        const char *wants[2];
    } rows[] = {
        {"openai", "gpt-4o", 1.5, 0.5, {"1.5", "0.5"}},
        {"openai", "gpt-5", 1, 1, {"1.0", NULL}},
        {"openai", "gpt-5", 1.01, 0.99, {NULL, NULL}},
        {"anthropic", "claude-3-haiku", 1, 0.5, {"1.0", "0.5"}},
        {"anthropic", "claude-3-haiku", 1.5, 0.5, {NULL, "0.5"}},
        {"anthropic", "claude-opus-4-8", 1, 0.99, {"1.0", "0.99"}},
        {"anthropic", "claude-opus-4-8", 0.99, 0.98, {NULL, NULL}},
        {"moonshot", "kimi-k2", 1.2, 0.5, {NULL, "0.5"}},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        llmgw_request request = unit_ask("hi");
        request.temperature = llmgw_set(rows[i].temperature);
        request.top_p = llmgw_set(rows[i].top_p);
        json_t *body = unit_body(rows[i].provider, rows[i].model, &request);
        const char *const names[] = {"temperature", "top_p"};
        for (size_t j = 0; j < 2; j++) {
            json_t *got = json_object_get(body, names[j]);
            double want = rows[i].wants[j] ? atof(rows[i].wants[j]) : -1;
            if (!got != !rows[i].wants[j] || (got && json_number_value(got) != want))
                fail_msg("row %zu %s: %f", i, names[j], got ? json_number_value(got) : -1);
        }
        json_decref(body);
    }
}

static void names_and_roles(void **state) {
    llmgw_message turns[2] = {unit_message(LLMGW_ROLE_SYSTEM, "be brief", NULL, 0),
                              unit_message(LLMGW_ROLE_USER, "q", NULL, 0)};
    llmgw_request request = unit_talk(turns, 2);
    request.system = "be good";
    request.max_tokens = 50;
    request.stream = true;
    json_t *body = unit_body("openai", "o3-mini", &request);
    unit_is(body, "messages.0", "{'role':'developer','content':'be good'}");
    unit_is(body, "messages.1", "{'role':'developer','content':'be brief'}");
    unit_is(body, "max_completion_tokens", "50");
    unit_none(body, "max_tokens");
    unit_is(body, "stream_options", "{'include_usage':true}");
    json_decref(body);
    body = unit_body("mistral", "mistral-small", &request);
    unit_is(body, "messages.0.role", "'system'");
    unit_is(body, "max_tokens", "50");
    unit_none(body, "stream_options");
    json_decref(body);
    body = unit_body("openai", "gpt-4o", &request);
    unit_is(body, "messages.0.role", "'system'");
    json_decref(body);
    request.top_k = llmgw_set(20);
    body = unit_body("vllm", "m", &request);
    unit_is(body, "top_k", "20");
    json_decref(body);
}

/* What the least effort becomes. */
static void least_effort(void **state) {
    static const struct {
        const char *provider, *model, *want;
    } rows[] = {
        {"openai", "gpt-5", "'minimal'"},        {"openai", "o3", "'low'"},  {"openai", "gpt-5.1", "'none'"},
        {"openai", "gpt-5.1-codex", "'low'"},    {"openai", "gpt-4o", NULL}, {"xai", "grok-4", NULL},
        {"groq", "openai/gpt-oss-120b", "'low'"}};
    llmgw_request request = unit_ask("hi");
    request.effort = LLMGW_EFFORT_NONE;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        json_t *body = unit_body(rows[i].provider, rows[i].model, &request);
        unit_is(body, "reasoning_effort", rows[i].want);
        json_decref(body);
    }
    json_t *body = unit_body("anthropic", "claude-opus-5-5", &request); /* takes no "disabled" */
    unit_is(body, "thinking", "{'type':'adaptive'}");
    unit_is(body, "output_config.effort", "'low'");
    json_decref(body);
    body = unit_body("anthropic", "claude-opus-5", &request);
    unit_is(body, "thinking", "{'type':'disabled'}");
    unit_none(body, "output_config");
    json_decref(body);
}

/* A text of white space only ends no answer of Claude's. */
static void blank_stops(void **state) {
    static const char *const stops[] = {"\n\n", "END", " "};
    llmgw_request request = unit_ask("hi");
    request.stop = stops;
    request.stop_count = 3;
    json_t *body = unit_body("anthropic", "claude-sonnet-4-5", &request);
    unit_is(body, "stop_sequences", "['END']");
    json_decref(body);
    body = unit_body("openai", "gpt-4o", &request);
    unit_is(body, "stop", "['\\n\\n','END',' ']");
    json_decref(body);
}

/* ---- tools, images: never left out ---- */

static llmgw_tool a_tool(void) {
    llmgw_tool tool = {"f", NULL, NULL, false};
    return tool;
}

static void tool_choices(void **state) {
    llmgw_tool tool = a_tool();
    llmgw_request request = unit_ask("q");
    request.tools = &tool;
    request.tool_count = 1;
    request.tool_name = "f";
    for (int mode = LLMGW_TOOLS_REQUIRED; mode <= LLMGW_TOOLS_ONE; mode++) {
        static const char *const nobody[][2] = {{"ollama", "m"}, {"anthropic", "claude-mythos-5"}};
        request.tool_mode = (llmgw_tool_mode)mode;
        for (size_t i = 0; i < COUNT_OF(nobody); i++) {
            llmgw_error error = unit_refusal(nobody[i][0], nobody[i][1], &request);
            assert_int_equal(error.code, LLMGW_E_UNSUPPORTED);
            unit_has(error.text, "request.tool_mode: it cannot be told to call a tool");
        }
        request.effort = LLMGW_EFFORT_HIGH; /* Claude thinks, or must call: the tool matters more */
        json_t *body = unit_body("anthropic", "claude-sonnet-4-5", &request);
        unit_is(body, "tool_choice.type", mode == LLMGW_TOOLS_ONE ? "'tool'" : "'any'");
        unit_none(body, "thinking");
        json_decref(body);
        request.effort = LLMGW_EFFORT_DEFAULT;
    }
}

/* Who cannot be told not to call is not told of the tools; with calls among the turns that would be a fault. */
static void no_tools(void **state) {
    llmgw_tool tool = a_tool();
    llmgw_part call = unit_tool_call("c1", "f", NULL), result = unit_tool_result("c1", "5");
    llmgw_message turns[3] = {unit_message(LLMGW_ROLE_USER, "q", NULL, 0),
                              unit_message(LLMGW_ROLE_ASSISTANT, NULL, &call, 1),
                              unit_message(LLMGW_ROLE_TOOL, NULL, &result, 1)};
    llmgw_request request = unit_talk(turns, 1);
    request.tools = &tool;
    request.tool_count = 1;
    request.tool_mode = LLMGW_TOOLS_NONE;
    json_t *body = unit_body("ollama", "m", &request);
    unit_none(body, "tools");
    unit_none(body, "tool_choice");
    json_decref(body);
    body = unit_body("openai", "m", &request);
    unit_is(body, "tool_choice", "'none'");
    json_decref(body);
    request.message_count = 3;
    unit_has(unit_refusal("ollama", "m", &request).text, "request.tool_mode");
}

static void one_tool_at_a_time(void **state) {
    llmgw_tool tool = a_tool();
    llmgw_request request = unit_ask("q");
    request.tools = &tool;
    request.tool_count = 1;
    request.serial_tools = true;
    json_t *body = unit_body("openai", "o3-mini", &request);
    unit_none(body, "parallel_tool_calls");
    json_decref(body);
    body = unit_body("openai", "gpt-4o", &request);
    unit_is(body, "parallel_tool_calls", "false");
    json_decref(body);
}

static void images(void **state) {
    llmgw_part parts[2] = {unit_part(LLMGW_PART_TEXT, "what is it?"), unit_part(LLMGW_PART_IMAGE, NULL)};
    llmgw_message turn = unit_message(LLMGW_ROLE_USER, NULL, parts, 2);
    llmgw_request request = unit_talk(&turn, 1);
    parts[1].url = "https://example.com/cat.png";
    unit_has(unit_refusal("ollama", "m", &request).text,
             "request.messages[0].parts[1].url: it takes images by bytes");
    unit_has(unit_refusal("deepseek", "m", &request).text,
             "request.messages[0].parts[1]: it takes no images");
    parts[1].url = NULL;
    parts[1].data = "png";
    parts[1].data_len = 3;
    unit_has(unit_refusal("openai", "o3-mini", &request).text, "it takes no images");
    parts[1].kind = LLMGW_PART_FILE; /* who cannot look cannot read its pages */
    unit_has(unit_refusal("deepseek", "m", &request).text, "request.messages[0].parts[1]: it takes no files");
    parts[1].kind = LLMGW_PART_IMAGE;
    json_t *body = unit_body("ollama", "m", &request);
    unit_is(body, "messages.0.content.1.type", "'image_url'");
    json_decref(body);
}

/* ---- refused ---- */

static void refused_when_asked_to(void **state) {
    llmgw_request request = full();
    request.unsupported = LLMGW_UNSUPPORTED_REFUSE;
    llmgw_error error = unit_refusal("openai", "gpt-4o", &request);
    assert_int_equal(error.code, LLMGW_E_UNSUPPORTED);
    unit_has(error.text, "request.top_k, stop[4], stop[5]: ");
    request.top_k.set = false;
    request.stop_count = 4;
    json_decref(unit_body("openai", "gpt-4o", &request));
}

/* More than fits: whole names only. */
static void a_long_list(void **state) {
    static const char *const stops[] = {"a", "b", "c", "d", "e", "f", "g", "h",
                                        "i", "j", "k", "l", "m", "n", "o", "p"};
    llmgw_request request = full();
    llmgwi_dialect_fit fit;
    request.stop = stops;
    request.stop_count = 16;
    llmgwi_dialect_fit_to(&fit, &request,
                          LLMGWI_DIALECT_STOPS(1) | LLMGWI_DIALECT_TEMPERATURE(NONE) |
                              LLMGWI_DIALECT_TOP_P(NONE));
    assert_int_equal(fit.request.stop_count, 1);
    assert_true(strlen(fit.dropped) < sizeof fit.dropped);
    assert_string_equal(fit.dropped + strlen(fit.dropped) - 8, "stop[11]");
}

/* ---- rows of a configuration ---- */

static llmgw *open_with(const char *more) {
    char json[4096];
    llmgw_options options = t_calm();
    llmgw_error error;
    snprintf(json, sizeof json,
             "{\"providers\":{\"openai\":{\"url\":\"http://127.0.0.1:%d/v1\",\"key\":\"" OPENAI_KEY "\"},"
             "\"claude\":{\"dialect\":\"anthropic\",\"url\":\"http://127.0.0.1:%d\",\"key\":\"" ANTHROPIC_KEY
             "\"}},"
             "\"models\":{\"mine\":{\"provider\":\"openai\",\"model\":\"deployed\"}},"
             "\"routes\":{\"r\":{\"try\":[\"openai/gpt-5\",\"claude/claude-3-haiku\"]},"
             "\"none\":{\"try\":[\"openai/gpt-5\",\"openai/o3\"]}}%s%s}",
             provider.port, provider.port, more ? "," : "", more ? more : "");
    options.config_json = unit_quoted(json);
    options.no_environment = true;
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) fail_msg("llmgw_open: %s", error.text);
    return gw;
}

static json_t *last_body(void) {
    json_t *stats = provider_stats(&provider);
    json_t *body = json_incref(unit_at(stats, "last.body"));
    json_decref(stats);
    assert_non_null(body);
    return body;
}

static void expect_asked(llmgw *gw, const llmgw_request *request, const char *dropped,
                         const char *temperature) {
    llmgw_reply *reply = llmgw_chat(gw, request);
    t_expect_code(reply, LLMGW_OK);
    assert_string_equal(reply->trace[0].dropped, dropped);
    json_t *body = last_body();
    unit_is(body, "temperature", temperature);
    json_decref(body);
    llmgw_reply_free(reply);
}

static void a_configuration_says_more(void **state) {
    llmgw *gw =
        open_with("'capabilities':{'openai/gpt-9*':{'temperature':'only_1','stop':1},"
                  "'*/gpt-9-free*':{'temperature':true},'openai/deployed':{'like':'openai/o3','seed':false},"
                  "'anthropic/claude-x*':{'temperature':'no','top_k':'yes'}}");
    static const char *const stops[] = {"x", "y"};
    llmgw_request request = unit_ask("hi");
    request.temperature = llmgw_set(0.5);
    request.stop = stops;
    request.stop_count = 2;
    request.model = "openai/gpt-9.1";
    expect_asked(gw, &request, "temperature, stop[1]", NULL);
    request.model = "openai/gpt-9-free"; /* the later row holds */
    expect_asked(gw, &request, "stop[1]", "0.5");
    request.model = "openai/gpt-4o";
    expect_asked(gw, &request, "", "0.5");
    request.seed = llmgw_set(3);
    request.model = "mine"; /* an alias of a deployment that is said to be an o3 */
    expect_asked(gw, &request, "temperature, seed, stop", NULL);
    request.seed.set = false;
    request.model = "claude/claude-x-1"; /* by the dialect's known name */
    expect_asked(gw, &request, "temperature", NULL);
    llmgw_close(gw);
}

static void rows_of_c_hold_over_the_files(void **state) {
    llmgw_capability rows[2];
    llmgw_provider openai;
    llmgw_options options = t_calm();
    llmgw_error error;
    char url[128];
    memset(rows, 0, sizeof rows);
    rows[0].model = "openai/gpt-9*";
    rows[0].temperature = "yes";
    rows[1].model = "openai/gpt-9-mini";
    rows[1].temperature = "no";
    openai = t_provider(&provider, "openai", "openai", "/v1", OPENAI_KEY, url);
    options.providers = &openai;
    options.provider_count = 1;
    options.capabilities = rows;
    options.capability_count = 2;
    options.config_json = unit_quoted("{'capabilities':{'openai/gpt-9*':{'temperature':'only_1'}}}");
    options.no_environment = true;
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) fail_msg("%s", error.text);
    llmgw_request request = unit_ask("hi");
    request.temperature = llmgw_set(0.5);
    request.model = "openai/gpt-9";
    expect_asked(gw, &request, "", "0.5");
    request.model = "openai/gpt-9-mini";
    expect_asked(gw, &request, "temperature", NULL);
    request.model = "gpt-9-mini"; /* of the only provider */
    expect_asked(gw, &request, "temperature", NULL);
    llmgw_close(gw);
}

static void faulty_rows(void **state) {
    static const struct {
        const char *json, *text;
    } rows[] = {
        {"{'gpt-9':{}}", "capabilities.gpt-9.model: expected \"provider/model\""},
        {"{'/x':{}}", ".model: expected"},
        {"{'openai/':{}}", ".model: expected"},
        {"{'openai/a b':{}}", ".model: expected"},
        {"{'openai/x':{'temperature':'warm'}}",
         "capabilities.openai/x.temperature: expected one of: no yes idle"},
        {"{'openai/x':{'temperature':{}}}", "capabilities.openai/x.temperature: expected a word"},
        {"{'openai/x':{'stop':17}}", "capabilities.openai/x.stop: expected one of: no 1 2"},
        {"{'openai/x':{'like':'o3'}}", "capabilities.openai/x.like: expected a known provider's name"},
        {"{'openai/x':{'like':'nobody/o3'}}", "capabilities.openai/x.like: expected a known provider's name"},
        {"{'openai/x':{'warmth':'no'}}", "capabilities.openai/x.warmth: unknown field"},
        {"[]", "capabilities: expected an object"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char json[512];
        llmgw_options options;
        llmgw_error error;
        memset(&options, 0, sizeof options);
        snprintf(json, sizeof json, "{'capabilities':%s}", rows[i].json);
        options.config_json = unit_quoted(json);
        options.no_environment = true;
        assert_null(llmgw_open(&options, &error));
        assert_int_equal(error.code, LLMGW_E_CONFIG);
        unit_has(error.text, rows[i].text);
    }
    llmgw_options options;
    llmgw_error error;
    memset(&options, 0, sizeof options);
    options.no_environment = true;
    options.config_json = "{\"unsupported\": \"perhaps\"}";
    assert_null(llmgw_open(&options, &error));
    unit_has(error.text, "unsupported: expected drop or refuse");
    options.config_json = NULL;
    options.capability_count = 1;
    assert_null(llmgw_open(&options, &error));
    unit_has(error.text, "capabilities: a count without its array");
}

/* Every field of the struct has its place in the table, and every word its value. */
static void all_fields(void **state) {
    size_t first = offsetof(llmgw_capability, max_tokens) / sizeof(char *),
           count = sizeof(llmgw_capability) / sizeof(char *);
    bool seen[64] = {false};
    uint64_t bits = 0;
    assert_int_equal(count - first, LLMGWI_BASE_COUNT(llmgwi_dialect_fields));
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_dialect_fields); i++) {
        const llmgwi_dialect_field *field = &llmgwi_dialect_fields[i];
        uint64_t mask = LLMGWI_DIALECT_Q(field->at, (1u << field->width) - 1);
        unsigned words = 1;
        for (const char *p = field->words; *p; p++) words += *p == ' ';
        assert_true(words < 1u << field->width);
        assert_true((bits & mask) == 0);
        bits |= mask;
        assert_false(seen[field->from / sizeof(char *)]);
        seen[field->from / sizeof(char *)] = true;
    }
}

/* ---- over sockets: dropped or refused ---- */

typedef struct logged {
    int dropped, others;
    llmgw_call call;
    char line[512], provider[64], model[64];
} logged;

static void on_log(const llmgw_log_entry *entry, void *user) {
    logged *log = (logged *)user;
    if (entry->item != LLMGW_LOG_DROPPED) {
        log->others++;
        return;
    }
    log->dropped++;
    log->call = entry->call;
    snprintf(log->line, sizeof log->line, "%s", entry->line);
    snprintf(log->provider, sizeof log->provider, "%s", entry->provider);
    snprintf(log->model, sizeof log->model, "%s", entry->model);
}

static void what_is_dropped_is_told(void **state) {
    logged log;
    llmgw_options options = t_calm();
    memset(&log, 0, sizeof log);
    options.log = on_log;
    options.log_user = &log;
    llmgw *gw = t_open(&provider, &options);
    llmgw_request request = full();
    request.model = "openai/gpt-5-mini";
    llmgw_reply *reply = llmgw_chat(gw, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_int_equal(reply->trace_count, 1);
    assert_string_equal(reply->trace[0].dropped,
                        "temperature, top_p, top_k, frequency_penalty, presence_penalty, stop");
    assert_int_equal(log.dropped, 1);
    assert_true(log.call != 0);
    assert_string_equal(log.provider, "openai");
    assert_string_equal(log.model, "gpt-5-mini");
    unit_has(log.line, "openai/gpt-5-mini is asked without: temperature, top_p, top_k");
    json_t *body = last_body();
    unit_none(body, "temperature");
    unit_none(body, "stop");
    unit_is(body, "max_completion_tokens", "100");
    unit_is(body, "seed", "7");
    json_decref(body);
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

/* Two attempts at one target: two items in the trace, one entry in the log. */
static void told_once_for_a_target(void **state) {
    logged log;
    llmgw_options options = t_calm();
    memset(&log, 0, sizeof log);
    options.log = on_log;
    options.log_user = &log;
    llmgw *gw = t_open(&provider, &options);
    llmgw_request request = unit_ask("hi");
    request.model = "openai/o3";
    request.temperature = llmgw_set(0);
    provider_model_rule(&provider, "o3", "\"status\":503,\"times\":2");
    llmgw_reply *reply = llmgw_chat(gw, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_int_equal(reply->attempts, 3);
    assert_int_equal(log.dropped, 1);
    for (size_t i = 0; i < reply->trace_count; i++)
        assert_string_equal(reply->trace[i].dropped,
                            reply->trace[i].kind == LLMGW_TRACE_ATTEMPT ? "temperature" : "");
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

static void a_refusing_target_is_passed_over(void **state) {
    llmgw *gw = open_with(NULL);
    llmgw_request request = unit_ask("hi");
    request.model = "r";
    request.temperature = llmgw_set(0.5);
    request.unsupported = LLMGW_UNSUPPORTED_REFUSE;
    llmgw_reply *reply = llmgw_chat(gw, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_string_equal(reply->model, "claude-3-haiku");
    assert_int_equal(reply->trace_count, 2);
    assert_int_equal(reply->trace[0].kind, LLMGW_TRACE_SKIP);
    assert_int_equal(reply->trace[0].code, LLMGW_E_UNSUPPORTED);
    assert_string_equal(reply->trace[0].model, "gpt-5");
    unit_has(reply->trace[0].reason, "request.temperature: openai/gpt-5");
    assert_int_equal(provider_asked(&provider, "gpt-5"), 0);
    llmgw_reply_free(reply);
    request.unsupported = LLMGW_UNSUPPORTED_DROP;
    reply = llmgw_chat(gw, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_string_equal(reply->model, "gpt-5");
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

static void none_can(void **state) {
    llmgw *gw = open_with("'unsupported':'refuse'");
    llmgw_request request = unit_ask("hi");
    request.model = "none";
    request.temperature = llmgw_set(0.5);
    llmgw_reply *reply = llmgw_chat(gw, &request);
    t_expect_code(reply, LLMGW_E_UNSUPPORTED);
    t_expect_text(reply, "request.temperature: openai/");
    assert_int_equal(reply->attempts, 0);
    assert_int_equal(t_traced(reply, LLMGW_TRACE_SKIP), 2);
    assert_int_equal(provider_count(&provider, "requests"), 0);
    assert_true(reply->cost.known && reply->prompt_saved.known && reply->cost.pico_usd == 0);
    llmgw_reply_free(reply);
    request.unsupported = LLMGW_UNSUPPORTED_DROP; /* the request over the options */
    reply = llmgw_chat(gw, &request);
    t_expect_code(reply, LLMGW_OK);
    llmgw_reply_free(reply);
    request.unsupported = (llmgw_unsupported)9;
    reply = llmgw_chat(gw, &request);
    t_expect_code(reply, LLMGW_E_ARGUMENT);
    t_expect_text(reply, "request.unsupported");
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

/* What changes the question is refused however it is asked, before anything is sent. */
static void tools_are_never_dropped(void **state) {
    llmgw *gw = open_with("'capabilities':{'openai/gpt-5':{'tools':false},'*/claude-3*':{'images':'no'}}");
    llmgw_tool tool = a_tool();
    llmgw_part parts[2] = {unit_part(LLMGW_PART_TEXT, "what is it?"), unit_part(LLMGW_PART_IMAGE, NULL)};
    llmgw_message turn = unit_message(LLMGW_ROLE_USER, NULL, parts, 2);
    llmgw_request request = unit_talk(&turn, 1);
    parts[1].data = "\x89PNG\r\n\x1a\n";
    parts[1].data_len = 8;
    request.model = "r";
    request.tools = &tool;
    request.tool_count = 1;
    llmgw_reply *reply = llmgw_chat(gw, &request);
    t_expect_code(reply, LLMGW_E_UNSUPPORTED);
    t_expect_text(reply, "request.messages[0].parts[1]: claude/claude-3-haiku: it takes no images");
    assert_int_equal(t_traced(reply, LLMGW_TRACE_SKIP), 2);
    unit_has(reply->trace[0].reason, "request.tools: openai/gpt-5: it takes none");
    llmgw_reply_free(reply);
    turn.part_count = 1;
    reply = llmgw_chat(gw, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_string_equal(reply->model, "claude-3-haiku");
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

/* Law 4: of two targets one cannot take the request and the other's breaker is open: all that can are open. */
static void an_open_breaker_is_all_there_is(void **state) {
    char json[1024];
    llmgw_options options = t_calm();
    llmgw_error error;
    options.breaker_failures = 1;
    options.max_attempts = 1;
    snprintf(json, sizeof json,
             "{'providers':{'openai':{'url':'http://127.0.0.1:%d/v1','key':'" OPENAI_KEY "'}},"
             "'routes':{'r':{'try':['openai/o3','openai/gpt-4o']}}}",
             provider.port);
    options.config_json = unit_quoted(json);
    options.no_environment = true;
    llmgw *gw = llmgw_open(&options, &error);
    assert_non_null(gw);
    llmgw_request request = unit_ask("hi");
    request.model = "r";
    request.temperature = llmgw_set(0);
    request.unsupported = LLMGW_UNSUPPORTED_REFUSE;
    provider_model_rule(&provider, "gpt-4o", "\"status\":500,\"times\":1");
    llmgw_reply *reply = llmgw_chat(gw, &request);
    t_expect_code(reply, LLMGW_E_PROVIDER);
    llmgw_reply_free(reply);
    reply = llmgw_chat(gw, &request); /* open, but there is no other */
    t_expect_code(reply, LLMGW_OK);
    assert_string_equal(reply->model, "gpt-4o");
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

/* An answer that was given without a field answers nobody who wants that refused. */
static void refusing_is_another_question(void **state) {
    llmgwi_cache_form one, two;
    llmgw_request request = unit_ask("hi"), back;
    llmgwi_base_arena arena;
    memset(&one, 0, sizeof one);
    memset(&two, 0, sizeof two);
    llmgwi_base_arena_init(&arena, &unit_mem);
    llmgwi_base_buf_init(&one.bytes, &unit_mem, 1 << 16);
    llmgwi_base_buf_init(&two.bytes, &unit_mem, 1 << 16);
    assert_true(llmgwi_cache_form_of(&one, &request, "m", false));
    request.unsupported = LLMGW_UNSUPPORTED_DROP;
    request.prompt_cache = LLMGW_PROMPT_CACHE_1H;
    assert_true(llmgwi_cache_form_of(&two, &request, "m", false));
    assert_true(one.bytes.n == two.bytes.n && memcmp(one.bytes.p, two.bytes.p, one.bytes.n) == 0);
    request.unsupported = LLMGW_UNSUPPORTED_REFUSE;
    assert_true(llmgwi_cache_form_of(&two, &request, "m", false));
    assert_false(one.bytes.n == two.bytes.n);
    assert_true(llmgwi_cache_form_read(llmgwi_base_buf_str(&two.bytes), &arena, &back));
    assert_int_equal(back.unsupported, LLMGW_UNSUPPORTED_REFUSE);
    assert_false(back.serial_tools);
    llmgwi_base_buf_free(&one.bytes);
    llmgwi_base_buf_free(&two.bytes);
    llmgwi_base_arena_free(&arena);
}

#define TEST(f) cmocka_unit_test_setup(f, reset)
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(openai_models),
        cmocka_unit_test(claude_models),
        cmocka_unit_test(other_models),
        cmocka_unit_test(values),
        cmocka_unit_test(names_and_roles),
        cmocka_unit_test(least_effort),
        cmocka_unit_test(blank_stops),
        cmocka_unit_test(tool_choices),
        cmocka_unit_test(no_tools),
        cmocka_unit_test(one_tool_at_a_time),
        cmocka_unit_test(images),
        cmocka_unit_test(refused_when_asked_to),
        cmocka_unit_test(a_long_list),
        cmocka_unit_test(all_fields),
        cmocka_unit_test(faulty_rows),
        cmocka_unit_test(refusing_is_another_question),
        TEST(a_configuration_says_more),
        TEST(rows_of_c_hold_over_the_files),
        TEST(what_is_dropped_is_told),
        TEST(told_once_for_a_target),
        TEST(a_refusing_target_is_passed_over),
        TEST(none_can),
        TEST(tools_are_never_dropped),
        TEST(an_open_breaker_is_all_there_is),
    };
    return cmocka_run_group_tests_name("capabilities", tests, group_start, group_stop);
}
