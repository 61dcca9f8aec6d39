/* Ollama's own API: requests out, replies and lines of JSON in. */
#include "unit.h"

#define OLLAMA "ollama:ollama"

static const char bad_utf8[] = "ab\xC3(";

/* ---- requests ---- */

static void test_plain(void **state) {
    llmgw_request request = unit_ask("hi");
    json_t *body = unit_body(OLLAMA, "llama3.2", &request);
    unit_is(body, "",
            "{'model':'llama3.2','messages':[{'role':'user','content':'hi'}],'options':{},'stream':false}");
    json_decref(body);
    request.stream = true;
    request.system = "be";
    body = unit_body(OLLAMA, "llama3.2", &request);
    unit_is(body, "stream", "true");
    unit_is(body, "messages.0", "{'role':'system','content':'be'}");
    json_decref(body);
}

static void test_options(void **state) {
    static const char *const stops[] = {"a", "b"};
    llmgw_request request = unit_ask("hi");
    request.temperature = llmgw_set(0.5);
    request.top_p = llmgw_set(0.25);
    request.top_k = llmgw_set(7);
    request.seed = llmgw_set(11);
    request.frequency_penalty = llmgw_set(1);
    request.presence_penalty = llmgw_set(2);
    request.stop = stops;
    request.stop_count = 2;
    request.max_tokens = 99;
    request.schema = "{\"type\":\"object\"}";
    json_t *body = unit_body(OLLAMA, "m", &request);
    unit_is(body, "options",
            "{'temperature':0.5,'top_p':0.25,'top_k':7,'seed':11,'frequency_penalty':1,"
            "'presence_penalty':2,'stop':['a','b'],'num_predict':99}");
    unit_is(body, "format", "{'type':'object'}");
    json_decref(body);
}

static void test_thinking(void **state) {
    static const struct {
        const char *model;
        llmgw_effort effort;
        const char *want;
    } rows[] = {{"qwen3", LLMGW_EFFORT_DEFAULT, NULL},    {"qwen3", LLMGW_EFFORT_NONE, "false"},
                {"qwen3", LLMGW_EFFORT_LOW, "true"},      {"gpt-oss:20b", LLMGW_EFFORT_LOW, "'low'"},
                {"gpt-oss", LLMGW_EFFORT_HIGH, "'high'"}, {"x/gpt-oss", LLMGW_EFFORT_NONE, "false"}};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_request request = unit_ask("hi");
        request.effort = rows[i].effort;
        json_t *body = unit_body(OLLAMA, rows[i].model, &request);
        unit_is(body, "think", rows[i].want);
        json_decref(body);
    }
}

static void test_images(void **state) {
    llmgw_part parts[4] = {unit_part(LLMGW_PART_TEXT, "a"), unit_bytes(LLMGW_PART_IMAGE, NULL, NULL, "abc"),
                           unit_part(LLMGW_PART_TEXT, "b"), unit_bytes(LLMGW_PART_IMAGE, NULL, NULL, "d")};
    llmgw_message turn = unit_message(LLMGW_ROLE_USER, NULL, parts, 4);
    llmgw_request request = unit_talk(&turn, 1);
    json_t *body = unit_body(OLLAMA, "m", &request);
    unit_is(body, "messages", "[{'role':'user','content':'a\\nb','images':['YWJj','ZA==']}]");
    json_decref(body);
    parts[1] = unit_url(LLMGW_PART_IMAGE, "https://x/y.png");
    llmgw_error error = unit_refusal(OLLAMA, "m", &request);
    assert_int_equal(error.code, LLMGW_E_UNSUPPORTED);
    unit_has(error.text, "messages[0].parts[1].url");
    parts[1] = unit_bytes(LLMGW_PART_FILE, NULL, "a.pdf", "%PDF");
    assert_int_equal(unit_refusal(OLLAMA, "m", &request).code, LLMGW_E_UNSUPPORTED);
}

static void test_bad_utf8(void **state) {
    llmgw_request request = unit_ask(bad_utf8);
    llmgw_error error = unit_refusal(OLLAMA, "m", &request);
    assert_int_equal(error.code, LLMGW_E_ARGUMENT);
    unit_has(error.text, "request.prompt");
}

static void test_tools(void **state) {
    static const llmgw_tool tools[2] = {{"f", "does f", "{\"type\":\"object\",\"properties\":{}}", true},
                                        {"g", NULL, NULL, false}};
    llmgw_request request = unit_ask("hi");
    request.tools = tools;
    request.tool_count = 2;
    json_t *body = unit_body(OLLAMA, "m", &request);
    unit_is(body, "tools",
            "[{'type':'function','function':{'name':'f','description':'does f','parameters':{'type':'object',"
            "'properties':{}}}},{'type':'function','function':{'name':'g','parameters':{'type':'object',"
            "'properties':{}}}}]");
    unit_none(body, "tool_choice");
    json_decref(body);
    request.tool_mode = LLMGW_TOOLS_NONE;
    body = unit_body(OLLAMA, "m", &request);
    unit_none(body, "tools");
    json_decref(body);
    request.tool_mode = LLMGW_TOOLS_REQUIRED;
    assert_int_equal(unit_refusal(OLLAMA, "m", &request).code, LLMGW_E_UNSUPPORTED);
}

/* Arguments are objects, calls and results have no ids: results say the tool's name. */
static void test_tool_loop(void **state) {
    llmgw_part calls[3] = {unit_part(LLMGW_PART_REASONING, "hm"), unit_tool_call("1", "f", "{\"a\":1}"),
                           unit_tool_call("2", "g", NULL)};
    llmgw_part results[2] = {unit_tool_result("2", "two"), unit_tool_result("1", "one")};
    calls[0].origin = "ollama";
    llmgw_message turns[3] = {unit_message(LLMGW_ROLE_USER, "q", NULL, 0),
                              unit_message(LLMGW_ROLE_ASSISTANT, NULL, calls, 3),
                              unit_message(LLMGW_ROLE_TOOL, NULL, results, 2)};
    llmgw_request request = unit_talk(turns, 3);
    json_t *body = unit_body(OLLAMA, "m", &request);
    unit_is(body, "messages.1",
            "{'role':'assistant','content':'','tool_calls':[{'function':{'name':'f','arguments':{'a':1}}},"
            "{'function':{'name':'g','arguments':{}}}],'thinking':'hm'}");
    unit_is(body, "messages.2", "{'role':'tool','tool_name':'g','content':'two'}");
    unit_is(body, "messages.3", "{'role':'tool','tool_name':'f','content':'one'}");
    unit_none(body, "messages.4");
    json_decref(body);
    calls[0].origin = "anthropic"; /* another's stays at home */
    body = unit_body(OLLAMA, "m", &request);
    unit_none(body, "messages.1.thinking");
    json_decref(body);
}

/* ---- replies ---- */

static void test_reply(void **state) {
    unit_answer u;
    assert_true(
        unit_reply(&u, OLLAMA,
                   "{'model':'llama3.2','created_at':'2023-12-12T14:13:43.416799Z','message':{'role':"
                   "'assistant','content':'Hello! \\u00e9','thinking':'hm'},'done':true,'done_reason':"
                   "'stop','total_duration':5191566416,'load_duration':2154458,'prompt_eval_count':26,"
                   "'prompt_eval_duration':383809000,'eval_count':298,'eval_duration':4799921000}"));
    unit_text(&u, "Hello! \xC3\xA9");
    unit_reasoning(&u, "hm");
    unit_usage(&u, 26, 298, 0, 0, 0, 0);
    assert_int_equal(u.answer->finish, LLMGW_FINISH_STOP);
    assert_string_equal(u.answer->model, "llama3.2");
    unit_end(&u);
}

static void test_reasons(void **state) {
    static const struct {
        const char *json;
        llmgw_finish finish;
        llmgw_code code;
    } rows[] = {
        {"{'message':{'content':'x'},'done':true}", LLMGW_FINISH_STOP, LLMGW_OK}, /* older ones say no more */
        {"{'message':{'content':'x'},'done':true,'done_reason':'length'}", LLMGW_FINISH_LENGTH, LLMGW_OK},
        {"{'message':{'content':'x'},'done':true,'done_reason':'new'}", LLMGW_FINISH_STOP, LLMGW_OK},
        {"{'message':{'content':''},'done':true,'done_reason':'load'}", LLMGW_FINISH_NONE, LLMGW_E_PROVIDER},
        {"{'message':{'content':''},'done':true,'done_reason':'unload'}", LLMGW_FINISH_NONE,
         LLMGW_E_PROVIDER},
        {"{'model':'m'}", LLMGW_FINISH_NONE, LLMGW_E_PROTOCOL},
        {"{'error':'model failed'}", LLMGW_FINISH_NONE, LLMGW_E_PROVIDER},
        {"[]", LLMGW_FINISH_NONE, LLMGW_E_PROTOCOL},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        unit_answer u;
        assert_int_equal(unit_reply(&u, OLLAMA, rows[i].json), rows[i].code == LLMGW_OK);
        assert_int_equal(u.answer->error.code, rows[i].code);
        assert_int_equal(u.answer->finish, rows[i].finish);
        unit_end(&u);
    }
}

/* The same tool twice in one answer are two calls; ids are made up where there are none, and differ. */
static void test_calls(void **state) {
    static const char json[] =
        "{'message':{'content':'','tool_calls':[{'function':{'name':'f','arguments':{'a':[1,{'b':null}]}}},"
        "{'function':{'index':1,'name':'f','arguments':{}}},{'id':'own','function':{'name':'g'}}]},'done':%"
        "s}";
    char text[400];
    for (int stream = 0; stream < 2; stream++) {
        unit_answer u;
        snprintf(text, sizeof text, json, stream ? "false" : "true");
        const char *const events[] = {text, "{'done':true,'done_reason':'stop'}", NULL};
        if (stream)
            unit_stream(&u, OLLAMA, events);
        else
            assert_true(unit_reply(&u, OLLAMA, text));
        if (stream) unit_complete(&u);
        assert_int_equal(u.answer->tool_count, 3);
        unit_call(&u, 0, NULL, "f", "{'a':[1,{'b':null}]}");
        unit_call(&u, 1, NULL, "f", "{}");
        unit_call(&u, 2, "own", "g", "{}");
        assert_string_not_equal(unit_tool(&u, 0)->id, unit_tool(&u, 1)->id);
        assert_int_equal(u.answer->finish, LLMGW_FINISH_TOOL);
        unit_end(&u);
    }
}

static void test_reply_cut_anywhere(void **state) {
    unit_cut_reply(OLLAMA, "{'model':'m','message':{'content':'a','tool_calls':[{'function':{'name':'f',"
                           "'arguments':{'a':1}}}]},'done':true,'eval_count':3}");
}

/* ---- streams ---- */

static const char stream[] =
    "{'model':'m','message':{'role':'assistant','content':'','thinking':'so'},'done':false}\n"
    "{'model':'m','message':{'role':'assistant','content':'The \\u20ac'},'done':false}\r\n"
    "\n"
    "{'model':'m','message':{'role':'assistant','content':' sky'},'done':false}\n"
    "{'model':'m','message':{'role':'assistant','content':'','tool_calls':[{'function':{'name':'f','"
    "arguments':"
    "{'a':1}}}]},'done':false}\n"
    "{'model':'m','message':{'role':'assistant','content':''},'done_reason':'stop','done':true,"
    "'prompt_eval_count':26,'eval_count':282}";

static void test_stream_cut_anywhere(void **state) {
    char text[sizeof stream + 2];
    unit_cut_stream(OLLAMA, stream, "The \xE2\x82\xAC sky", "{\"a\":1}");
    snprintf(text, sizeof text, "%s\n", stream);
    unit_cut_stream(OLLAMA, text, "The \xE2\x82\xAC sky", "{\"a\":1}");
}

static void test_stream_usage(void **state) {
    static const char *const events[] = {"{'message':{'content':'x'},'done':false}",
                                         "{'done':true,'prompt_eval_count':5,'eval_count':7}", NULL};
    unit_answer u;
    unit_stream(&u, OLLAMA, events);
    unit_complete(&u);
    unit_usage(&u, 5, 7, 0, 0, 0, 0);
    assert_true(u.answer->ended);
    unit_end(&u);
}

/* Without "done" it was cut. */
static void test_stream_without_end(void **state) {
    static const char *const events[] = {"{'message':{'content':'x'},'done':false}", NULL};
    unit_answer u;
    unit_stream(&u, OLLAMA, events);
    assert_false(llmgwi_dialect_complete(u.dialect, u.answer));
    unit_end(&u);
}

static void test_stream_error(void **state) {
    static const char *const events[] = {"{'message':{'content':'x'},'done':false}", NULL};
    unit_answer u;
    unit_stream(&u, OLLAMA, events);
    assert_false(unit_event(&u, "{'error':'the runner has stopped'}"));
    unit_failed(&u, LLMGW_E_PROVIDER, "the runner has stopped");
    unit_end(&u);
    unit_stream(&u, OLLAMA, events);
    assert_false(unit_event(&u, "{'message':"));
    unit_failed(&u, LLMGW_E_PROTOCOL, "stream line");
    unit_end(&u);
}

static void test_errors(void **state) {
    static const struct {
        int status;
        const char *body;
        llmgw_code code;
    } rows[] = {
        {404, "{'error':'model \\'x\\' not found'}", LLMGW_E_NOT_FOUND},
        {400, "{'error':'m does not support tools'}", LLMGW_E_BAD_REQUEST},
        {400, "{'error':'the input length exceeds the context length'}", LLMGW_E_CONTEXT_LENGTH},
        {500, "{'error':'out of memory'}", LLMGW_E_PROVIDER},
        {503, "{'error':'server busy'}", LLMGW_E_OVERLOADED},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_error error;
        memset(&error, 0, sizeof error);
        llmgwi_dialect_error(&error, rows[i].status, llmgwi_base_cstr(unit_quoted(rows[i].body)), 64);
        assert_int_equal(error.code, rows[i].code);
    }
}

/* Only what is no stream is JSON. */
static void test_content_type(void **state) {
    static const struct {
        const char *type;
        bool json;
    } rows[] = {{"application/x-ndjson", false},
                {"application/json; charset=utf-8", true},
                {"text/event-stream", false},
                {"application/x-ndjson; charset=utf-8", false}};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_dialect_meta meta;
        memset(&meta, 0, sizeof meta);
        llmgwi_dialect_header(&meta, llmgwi_base_cstr("Content-Type"), llmgwi_base_cstr(rows[i].type), 0);
        assert_int_equal(meta.json, rows[i].json);
    }
}

/* Which of the two a provider of this name is. */
static void test_provider(void **state) {
    static const struct {
        const char *name, *dialect, *want, *url;
    } rows[] = {{"ollama", NULL, "openai", "http://127.0.0.1:11434/v1"},
                {"ollama", "openai", "openai", "http://127.0.0.1:11434/v1"},
                {"ollama", "ollama", "ollama", "http://127.0.0.1:11434"},
                {"mine", "ollama", "ollama", "http://127.0.0.1:11434"}};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_config config;
        llmgw_options options;
        llmgw_provider provider;
        llmgw_error error;
        memset(&options, 0, sizeof options);
        memset(&provider, 0, sizeof provider);
        provider.name = rows[i].name;
        provider.dialect = rows[i].dialect;
        options.providers = &provider;
        options.provider_count = 1;
        options.no_environment = true;
        if (!llmgwi_config_open(&config, &unit_mem, &options, &error)) fail_msg("%s", error.text);
        assert_string_equal(config.providers[0]->dialect->name, rows[i].want);
        assert_string_equal(config.providers[0]->flavour, "ollama");
        assert_string_equal(config.providers[0]->url, rows[i].url);
        llmgwi_config_close(&config);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_plain),
    cmocka_unit_test(test_options),
    cmocka_unit_test(test_thinking),
    cmocka_unit_test(test_images),
    cmocka_unit_test(test_bad_utf8),
    cmocka_unit_test(test_tools),
    cmocka_unit_test(test_tool_loop),
    cmocka_unit_test(test_reply),
    cmocka_unit_test(test_reasons),
    cmocka_unit_test(test_calls),
    cmocka_unit_test(test_reply_cut_anywhere),
    cmocka_unit_test(test_stream_cut_anywhere),
    cmocka_unit_test(test_stream_usage),
    cmocka_unit_test(test_stream_without_end),
    cmocka_unit_test(test_stream_error),
    cmocka_unit_test(test_errors),
    cmocka_unit_test(test_content_type),
    cmocka_unit_test(test_provider),
};

int main(void) { return cmocka_run_group_tests_name("dialect ollama", tests, NULL, NULL); }
