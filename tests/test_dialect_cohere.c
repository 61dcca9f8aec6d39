/* Cohere's chat, version 2: requests out, replies and events in. */
#include "unit.h"
#include "fixtures.h"

/* ---- requests ---- */

static void test_plain(void **state) {
    llmgw_request request = unit_ask("hi");
    json_t *body = unit_body("cohere", "command-a-03-2025", &request);
    unit_is(body, "",
            "{'model':'command-a-03-2025','messages':[{'role':'user','content':'hi'}],'stream':false}");
    json_decref(body);
    request.stream = true;
    request.system = "be";
    body = unit_body("cohere", "m", &request);
    unit_is(body, "stream", "true");
    unit_none(body, "stream_options");
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
    request.frequency_penalty = llmgw_set(0.5);
    request.presence_penalty = llmgw_set(0.25);
    request.stop = stops;
    request.stop_count = 2;
    request.max_tokens = 99;
    request.schema = "{\"type\":\"object\"}";
    json_t *body = unit_body("cohere", "m", &request);
    unit_is(
        body, "",
        "{'model':'m','messages':[{'role':'user','content':'hi'}],'temperature':0.5,'p':0.25,'k':7,'seed':11,"
        "'frequency_penalty':0.5,'presence_penalty':0.25,'stop_sequences':['a','b'],'max_tokens':99,"
        "'response_format':{'type':'json_object','json_schema':{'type':'object'}},'stream':false}");
    json_decref(body);
}

static void test_thinking(void **state) {
    static const char *const want[] = {NULL, "{'type':'disabled'}", "{'type':'enabled','token_budget':1024}",
                                       "{'type':'enabled','token_budget':8192}", "{'type':'enabled'}"};
    for (int effort = LLMGW_EFFORT_DEFAULT; effort <= LLMGW_EFFORT_HIGH; effort++) {
        llmgw_request request = unit_ask("hi");
        request.effort = (llmgw_effort)effort;
        json_t *body = unit_body("cohere", "m", &request);
        unit_is(body, "thinking", want[effort]);
        json_decref(body);
    }
}

static void test_images(void **state) {
    llmgw_part parts[3] = {unit_part(LLMGW_PART_TEXT, "a"), unit_bytes(LLMGW_PART_IMAGE, NULL, NULL, "abc"),
                           unit_url(LLMGW_PART_IMAGE, "https://x/y.png")};
    llmgw_message turn = unit_message(LLMGW_ROLE_USER, NULL, parts, 3);
    llmgw_request request = unit_talk(&turn, 1);
    json_t *body = unit_body("cohere", "m", &request);
    unit_is(
        body, "messages.0.content",
        "[{'type':'text','text':'a'},{'type':'image_url','image_url':{'url':'data:image/png;base64,YWJj'}},"
        "{'type':'image_url','image_url':{'url':'https://x/y.png'}}]");
    json_decref(body);
    parts[1] = unit_bytes(LLMGW_PART_FILE, NULL, "a.pdf", "%PDF");
    llmgw_error error = unit_refusal("cohere", "m", &request);
    assert_int_equal(error.code, LLMGW_E_UNSUPPORTED);
    unit_has(error.text, "messages[0].parts[1].kind");
}

static void test_tools(void **state) {
    static const llmgw_tool tools[2] = {{"f", "does f", "{\"type\":\"object\",\"properties\":{}}", true},
                                        {"g", NULL, NULL, false}};
    static const struct {
        llmgw_tool_mode mode;
        const char *choice;
        size_t count;
    } rows[] = {{LLMGW_TOOLS_AUTO, NULL, 2},
                {LLMGW_TOOLS_NONE, "'NONE'", 2},
                {LLMGW_TOOLS_REQUIRED, "'REQUIRED'", 2},
                {LLMGW_TOOLS_ONE, "'REQUIRED'", 1}}; /* none can be named: it is the only one */
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_request request = unit_ask("hi");
        request.tools = tools;
        request.tool_count = 2;
        request.tool_mode = rows[i].mode;
        request.tool_name = "g";
        json_t *body = unit_body("cohere", "m", &request);
        assert_int_equal(json_array_size(unit_at(body, "tools")), rows[i].count);
        unit_is(body, rows[i].count == 2 ? "tools.1" : "tools.0",
                "{'type':'function','function':{'name':'g','parameters':{'type':'object','properties':{}}}}");
        unit_is(body, "tool_choice", rows[i].choice);
        unit_is(body, "strict_tools", "true");
        unit_none(body, "tools.0.function.strict");
        json_decref(body);
    }
}

static void test_tool_loop(void **state) {
    llmgw_part calls[4] = {unit_thought("thought", NULL, "cohere"),
                           unit_thought("plan", LLMGWI_DIALECT_PLAN, "cohere"),
                           unit_tool_call("f_1", "f", "{\"a\":1}"), unit_tool_call("g_2", "g", NULL)};
    llmgw_part results[2] = {unit_tool_result("g_2", "two"), unit_tool_result("f_1", "one")};
    llmgw_message turns[3] = {unit_message(LLMGW_ROLE_USER, "q", NULL, 0),
                              unit_message(LLMGW_ROLE_ASSISTANT, NULL, calls, 4),
                              unit_message(LLMGW_ROLE_TOOL, NULL, results, 2)};
    llmgw_request request = unit_talk(turns, 3);
    json_t *body = unit_body("cohere", "m", &request);
    unit_is(
        body, "messages.1",
        "{'role':'assistant','content':[{'type':'thinking','thinking':'thought'}],'tool_calls':[{'id':'f_1',"
        "'type':'function','function':{'name':'f','arguments':'{\\'a\\':1}'}},{'id':'g_2','type':'function',"
        "'function':{'name':'g','arguments':'{}'}}],'tool_plan':'plan'}");
    unit_is(body, "messages.2", "{'role':'tool','tool_call_id':'g_2','content':'two'}");
    unit_is(body, "messages.3", "{'role':'tool','tool_call_id':'f_1','content':'one'}");
    json_decref(body);
    calls[0].origin = calls[1].origin = "openai"; /* another's stays at home */
    body = unit_body("cohere", "m", &request);
    unit_none(body, "messages.1.content");
    unit_none(body, "messages.1.tool_plan");
    json_decref(body);
    /* beside calls no text is taken: "use 'tool_plan'" */
    turns[1].text = "I look";
    calls[1] = unit_part(LLMGW_PART_TEXT, "both \"up\"");
    body = unit_body("cohere", "m", &request);
    unit_none(body, "messages.1.content");
    unit_is(body, "messages.1.tool_plan", "'I look\\nboth \\'up\\''");
    unit_is(body, "messages.1.tool_calls.0.id", "'f_1'");
    calls[0] = unit_thought("thought", NULL, "cohere");
    json_decref(body);
    body = unit_body("cohere", "m", &request);
    unit_is(body, "messages.1.content", "[{'type':'thinking','thinking':'thought'}]");
    unit_is(body, "messages.1.tool_plan", "'I look\\nboth \\'up\\''");
    json_decref(body);
}

/* ---- replies ---- */

static void test_fixture(void **state) {
    size_t n;
    char *text = fixture_read("cohere/vercel__cohere-text.json", &n);
    if (!text) skip();
    unit_answer u;
    assert_true(unit_reply(&u, "cohere", text));
    unit_text(&u, "The capital of France is Paris.");
    unit_usage(&u, 12, 7, 0, 0, 0, 0); /* what is billed, not the 507 that were read */
    assert_int_equal(u.answer->finish, LLMGW_FINISH_STOP);
    assert_string_equal(u.answer->id, "e7592632-1e3d-424f-b129-bd5f9f980f7b");
    unit_end(&u);
    for (size_t cut = 0; cut < n - 3; cut++) {
        unit_begin(&u, "cohere", false);
        assert_false(u.dialect->reply(u.answer, llmgwi_base_view(text, cut)));
        assert_int_equal(u.answer->error.code, LLMGW_E_PROTOCOL);
        unit_end(&u);
    }
    free(text);
}

static void test_reply(void **state) {
    unit_answer u;
    assert_true(
        unit_reply(&u, "cohere",
                   "{'id':'i','finish_reason':'TOOL_CALL','message':{'role':'assistant','tool_plan':'I will',"
                   "'tool_calls':[{'id':'f_1','type':'function','function':{'name':'f','arguments':"
                   "'{\\'a\\':1}'}},{'id':'f_2','type':'function','function':{'name':'f','arguments':"
                   "'{}'}}]},'usage':{'tokens':{'input_tokens':507.0,'output_tokens':10.0}}}"));
    unit_reasoning(&u, "I will");
    unit_call(&u, 0, "f_1", "f", "{'a':1}");
    unit_call(&u, 1, "f_2", "f", "{}");
    unit_usage(&u, 507, 10, 0, 0, 0, 0); /* nothing is billed: what was read */
    assert_int_equal(u.answer->finish, LLMGW_FINISH_TOOL);
    llmgw_message turn = unit_turn(&u, "cohere");
    assert_int_equal(turn.part_count, 3);
    assert_string_equal(turn.parts[0].signature, LLMGWI_DIALECT_PLAN); /* goes back under its own name */
    unit_end(&u);
    assert_true(
        unit_reply(&u, "cohere",
                   "{'message':{'content':[{'type':'thinking','thinking':'hm'},{'type':'text','text':'x'}]},"
                   "'finish_reason':'MAX_TOKENS'}"));
    unit_text(&u, "x");
    unit_reasoning(&u, "hm");
    assert_false(u.answer->usage.known);
    assert_int_equal(u.answer->finish, LLMGW_FINISH_LENGTH);
    unit_end(&u);
}

static void test_reply_faults(void **state) {
    static const struct {
        const char *json;
        llmgw_code code;
        const char *part;
    } rows[] = {{"{'id':'i'}", LLMGW_E_PROTOCOL, "no message"},
                {"[1]", LLMGW_E_PROTOCOL, "reply"},
                {"{'message':'an error as text'}", LLMGW_E_PROTOCOL, "no message"},
                {"{'message':{'content':[]},'finish_reason':'ERROR'}", LLMGW_E_PROVIDER, "ERROR"},
                {"{'message':{'content':[]},'finish_reason':'TIMEOUT'}", LLMGW_E_PROVIDER, "TIMEOUT"}};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        unit_answer u;
        assert_false(unit_reply(&u, "cohere", rows[i].json));
        unit_failed(&u, rows[i].code, rows[i].part);
        unit_end(&u);
    }
}

static void test_reply_cut_anywhere(void **state) {
    unit_cut_reply("cohere",
                   "{'id':'i','message':{'content':[{'type':'text','text':'a'}],'tool_calls':[{'id':'c',"
                   "'function':{'name':'f','arguments':'{}'}}]},'finish_reason':'COMPLETE','usage':{"
                   "'billed_units':{'input_tokens':1}}}");
}

/* ---- streams ---- */

#define EVENT(type, rest) "event: " type "\ndata: {'type':'" type "'" rest "}\n\n"

static const char stream[] = EVENT(
    "message-start",
    ",'id':'e','delta':{'message':{'role':'assistant','content':[],'tool_plan':'','tool_calls':[]}}")
    EVENT("tool-plan-delta", ",'delta':{'message':{'tool_plan':'I '}}")
        EVENT("tool-plan-delta", ",'delta':{'message':{'tool_plan':'will'}}") EVENT(
            "tool-call-start", ",'index':0,'delta':{'message':{'tool_calls':{'id':'f_1','type':'function',"
                               "'function':{'name':'f','arguments':''}}}}")
            EVENT("tool-call-delta",
                  ",'index':0,'delta':{'message':{'tool_calls':{'function':{'arguments':'{\\'a\\':'}}}}")
                EVENT("tool-call-delta",
                      ",'index':0,'delta':{'message':{'tool_calls':{'function':{'arguments':'1}'}}}}")
                    EVENT("tool-call-end", ",'index':0") EVENT(
                        "content-start",
                        ",'index':0,'delta':{'message':{'content':{'type':'text','text':''}}}")
                        EVENT("content-delta",
                              ",'index':0,'delta':{'message':{'content':{'text':'Caf\\u00e9'}}}")
                            EVENT("citation-start",
                                  ",'index':0,'delta':{'message':{'citations':{'start':0,'text':'no'}}}")
                                EVENT("citation-end", ",'index':0") EVENT("content-end", ",'index':0") EVENT(
                                    "message-end",
                                    ",'delta':{'finish_reason':'TOOL_CALL','usage':{'billed_units':{"
                                    "'input_tokens':9,'output_tokens':4},'tokens':{'input_tokens':90}}}");

static void test_stream_cut_anywhere(void **state) {
    unit_cut_stream("cohere", stream, "Caf\xC3\xA9", "{\"a\":1}");
}

/* Two calls at once, told apart by the events' index. */
static void test_stream_calls(void **state) {
    static const char *const events[] = {"{'type':'tool-call-start','index':0,'delta':{'message':{'tool_"
                                         "calls':{'id':'a','function':{'name':'f'}}}}}",
                                         "{'type':'tool-call-start','delta':{'message':{'tool_calls':{'id':'"
                                         "b','function':{'name':'f'}}}},'index':1}",
                                         "{'type':'tool-call-delta','index':0,'delta':{'message':{'tool_"
                                         "calls':{'function':{'arguments':'{\\'x\\':'}}}}}",
                                         "{'type':'tool-call-delta','index':1,'delta':{'message':{'tool_"
                                         "calls':{'function':{'arguments':'{}'}}}}}",
                                         "{'type':'tool-call-delta','delta':{'message':{'tool_calls':{'"
                                         "function':{'arguments':'1}'}}}},'index':0}",
                                         "{'type':'message-end','delta':{'finish_reason':'TOOL_CALL'}}",
                                         NULL};
    unit_answer u;
    unit_stream(&u, "cohere", events);
    unit_complete(&u);
    unit_call(&u, 0, "a", "f", "{'x':1}");
    unit_call(&u, 1, "b", "f", "{}");
    assert_int_equal(u.answer->finish, LLMGW_FINISH_TOOL);
    unit_end(&u);
}

static void test_stream_thinking(void **state) {
    static const char *const events[] = {
        "{'type':'message-start','id':'i','delta':{'message':{'role':'assistant'}}}",
        "{'type':'content-start','index':0,'delta':{'message':{'content':{'type':'thinking','thinking':''}}}"
        "}",
        "{'type':'content-delta','index':0,'delta':{'message':{'content':{'thinking':'h'}}}}",
        "{'type':'content-delta','index':0,'delta':{'message':{'content':{'thinking':'m'}}}}",
        "{'type':'content-delta','index':1,'delta':{'message':{'content':{'text':'x'}}}}",
        "{'type':'debug','prompt':'p'}",
        "{'type':'something-new','delta':{'message':{'odd':[1,{}]}}}",
        "{'type':'message-end','delta':{'finish_reason':'COMPLETE','usage':{'billed_units':{'input_tokens':3,"
        "'output_tokens':2}}}}",
        "[DONE]",
        NULL};
    unit_answer u;
    unit_stream(&u, "cohere", events);
    unit_complete(&u);
    unit_text(&u, "x");
    unit_reasoning(&u, "hm");
    assert_string_equal(u.order, "RT");
    unit_usage(&u, 3, 2, 0, 0, 0, 0);
    assert_string_equal(u.answer->id, "i");
    unit_end(&u);
}

static void test_stream_faults(void **state) {
    static const char *const events[] = {
        "{'type':'content-delta','delta':{'message':{'content':{'text':'x'}}}}", NULL};
    unit_answer u;
    unit_stream(&u, "cohere", events);
    assert_false(llmgwi_dialect_complete(u.dialect, u.answer)); /* no message-end: it was cut */
    assert_false(
        unit_event(&u, "{'type':'message-end','delta':{'error':'it broke','finish_reason':'ERROR'}}"));
    unit_failed(&u, LLMGW_E_PROVIDER, "it broke");
    unit_end(&u);
    unit_stream(&u, "cohere", events);
    assert_false(
        unit_event(&u, "{'type':'tool-call-delta','index':0,'delta':{'message':{'tool_calls':{'function':{"
                       "'arguments':'{}'}}}}}"));
    unit_failed(&u, LLMGW_E_PROTOCOL, "without a name");
    unit_end(&u);
}

static void test_errors(void **state) {
    static const struct {
        int status;
        const char *body;
        llmgw_code code;
        const char *part;
    } rows[] = {
        {401, "{'id':'1','message':'invalid api token'}", LLMGW_E_AUTH, "invalid api token"},
        {429, "{'message':'You are using a Trial key, which is limited to 1000 API calls / month.'}",
         LLMGW_E_QUOTA, "Trial"},
        {429, "{'message':'too many requests'}", LLMGW_E_RATE_LIMITED, "too many requests"},
        {400, "{'message':'too many tokens: total number of tokens cannot exceed 4081'}",
         LLMGW_E_CONTEXT_LENGTH, "4081"},
        {404, "{'message':'model \\'x\\' not found'}", LLMGW_E_NOT_FOUND, "not found"},
        {422, "{'message':'invalid request'}", LLMGW_E_BAD_REQUEST, "invalid request"},
        {498, "{'message':'blocked'}", LLMGW_E_BAD_REQUEST, "blocked"},
        {503, "{'data':'x'}", LLMGW_E_OVERLOADED, "503"},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_error error;
        memset(&error, 0, sizeof error);
        llmgwi_dialect_error(&error, rows[i].status, llmgwi_base_cstr(unit_quoted(rows[i].body)), 64);
        assert_int_equal(error.code, rows[i].code);
        unit_has(error.text, rows[i].part);
    }
}

/* Either of two variables holds the key. */
static void test_key_variables(void **state) {
    static const char *const names[] = {"CO_API_KEY", "COHERE_API_KEY"};
    for (size_t i = 0; i < 2; i++) {
        llmgwi_config config;
        llmgw_options options;
        llmgw_provider provider;
        llmgw_error error;
        unsetenv(names[0]);
        unsetenv(names[1]);
        setenv(names[i], "the-key-of-it", 1);
        memset(&options, 0, sizeof options);
        memset(&provider, 0, sizeof provider);
        provider.name = "cohere";
        options.providers = &provider;
        options.provider_count = 1;
        options.no_environment = true;
        if (!llmgwi_config_open(&config, &unit_mem, &options, &error)) fail_msg("%s", error.text);
        assert_string_equal(config.providers[0]->keys[0].line, "Authorization: Bearer the-key-of-it");
        llmgwi_config_close(&config);
        unsetenv(names[i]);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_plain),
    cmocka_unit_test(test_options),
    cmocka_unit_test(test_thinking),
    cmocka_unit_test(test_images),
    cmocka_unit_test(test_tools),
    cmocka_unit_test(test_tool_loop),
    cmocka_unit_test(test_fixture),
    cmocka_unit_test(test_reply),
    cmocka_unit_test(test_reply_faults),
    cmocka_unit_test(test_reply_cut_anywhere),
    cmocka_unit_test(test_stream_cut_anywhere),
    cmocka_unit_test(test_stream_calls),
    cmocka_unit_test(test_stream_thinking),
    cmocka_unit_test(test_stream_faults),
    cmocka_unit_test(test_errors),
    cmocka_unit_test(test_key_variables),
};

int main(void) { return cmocka_run_group_tests_name("dialect cohere", tests, NULL, NULL); }
