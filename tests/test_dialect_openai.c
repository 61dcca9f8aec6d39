/* The openai dialect and its family: requests out, replies and streams in. */
#include "unit.h"

static const char bad_utf8[] = "ab\xC3(";

/* ---- requests ---- */

static void test_plain(void **state) {
    llmgw_request request = unit_ask("hi \"there\"\n");
    json_t *body = unit_body("openai", "gpt-4o-mini", &request);
    unit_is(body, "model", "'gpt-4o-mini'");
    unit_is(body, "messages", "[{'role':'user','content':'hi \\'there\\'\\n'}]");
    assert_int_equal(json_object_size(body), 2); /* unset is not sent */
    json_decref(body);
    request.system = "be brief";
    body = unit_body("openai", "m", &request);
    unit_is(body, "messages.0", "{'role':'system','content':'be brief'}");
    unit_is(body, "messages.1.role", "'user'");
    json_decref(body);
}

static void test_turns(void **state) {
    llmgw_part two[2] = {unit_part(LLMGW_PART_TEXT, "b"), unit_part(LLMGW_PART_TEXT, "cX")};
    two[1].text_len = 1;
    llmgw_message turns[4] = {
        unit_message(LLMGW_ROLE_SYSTEM, "s", NULL, 0), unit_message(LLMGW_ROLE_USER, "a", two, 2),
        unit_message(LLMGW_ROLE_ASSISTANT, NULL, two, 1), unit_message(LLMGW_ROLE_USER, "", NULL, 0)};
    llmgw_request request = unit_talk(turns, 4);
    request.prompt = "last";
    json_t *body = unit_body("openai", "m", &request);
    unit_is(body, "messages.0", "{'role':'system','content':'s'}");
    unit_is(body, "messages.1.content",
            "[{'type':'text','text':'a'},{'type':'text','text':'b'},{'type':'text','text':'c'}]");
    unit_is(body, "messages.2", "{'role':'assistant','content':'b'}");
    unit_is(body, "messages.3.content", "''");
    unit_is(body, "messages.4", "{'role':'user','content':'last'}");
    unit_none(body, "messages.5");
    json_decref(body);
}

static void test_images_and_files(void **state) {
    llmgw_part parts[5] = {unit_bytes(LLMGW_PART_IMAGE, NULL, NULL, "abc"),
                           unit_bytes(LLMGW_PART_IMAGE, "image/jpeg", NULL, "abcd"),
                           unit_url(LLMGW_PART_IMAGE, "https://x/y.png"),
                           unit_bytes(LLMGW_PART_FILE, NULL, "a.pdf", "%PDF"),
                           unit_bytes(LLMGW_PART_FILE, "text/plain", NULL, "x")};
    llmgw_message turn = unit_message(LLMGW_ROLE_USER, "see", parts, 5);
    llmgw_request request = unit_talk(&turn, 1);
    json_t *body = unit_body("openai", "m", &request), *content = unit_at(body, "messages.0.content");
    unit_is(content, "0", "{'type':'text','text':'see'}");
    unit_is(content, "1", "{'type':'image_url','image_url':{'url':'data:image/png;base64,YWJj'}}");
    unit_is(content, "2.image_url.url", "'data:image/jpeg;base64,YWJjZA=='");
    unit_is(content, "3.image_url.url", "'https://x/y.png'");
    unit_is(content, "4.type", "'file'");
    unit_is(content, "4.file", "{'filename':'a.pdf','file_data':'data:application/pdf;base64,JVBERg=='}");
    unit_is(content, "5.file", "{'filename':'file','file_data':'data:text/plain;base64,eA=='}");
    json_decref(body);
}

static void test_file_by_url_is_refused(void **state) {
    llmgw_part part = unit_url(LLMGW_PART_FILE, "https://x/y.pdf");
    llmgw_message turn = unit_message(LLMGW_ROLE_USER, "see", &part, 1);
    llmgw_request request = unit_talk(&turn, 1);
    llmgw_error error = unit_refusal("openai", "m", &request);
    assert_int_equal(error.code, LLMGW_E_UNSUPPORTED);
    unit_has(error.text, "request.messages[0].parts[0].url");
}

static llmgw_request with_tools(llmgw_tool_mode mode) {
    static const llmgw_tool tools[2] = {
        {"get_weather", "Weather \"now\"", "{\"type\":\"object\",\"required\":[\"city\"]}", true},
        {"stop", NULL, NULL, false}};
    llmgw_request request = unit_ask("hi");
    request.tools = tools;
    request.tool_count = 2;
    request.tool_mode = mode;
    request.tool_name = mode == LLMGW_TOOLS_ONE ? "stop" : NULL;
    return request;
}

static void test_tools(void **state) {
    llmgw_request request = with_tools(LLMGW_TOOLS_AUTO);
    json_t *body = unit_body("openai", "m", &request);
    unit_is(body, "tools.0",
            "{'type':'function','function':{'name':'get_weather','description':'Weather \\'now\\'',"
            "'parameters':{'type':'object','required':['city']},'strict':true}}");
    unit_is(body, "tools.1.function", "{'name':'stop','parameters':{'type':'object','properties':{}}}");
    unit_none(body, "tool_choice");
    unit_none(body, "parallel_tool_calls");
    json_decref(body);
    request.serial_tools = true;
    body = unit_body("openai", "m", &request);
    unit_is(body, "parallel_tool_calls", "false");
    json_decref(body);
    request = unit_ask("no tools");
    request.serial_tools = true;
    body = unit_body("openai", "m", &request);
    unit_none(body, "parallel_tool_calls"); /* a 400 without tools */
    json_decref(body);
}

static void test_tool_choice(void **state) {
    static const struct {
        const char *provider;
        llmgw_tool_mode mode;
        const char *want;
    } rows[] = {
        {"openai", LLMGW_TOOLS_NONE, "'none'"},
        {"openai", LLMGW_TOOLS_REQUIRED, "'required'"},
        {"openai", LLMGW_TOOLS_ONE, "{'type':'function','function':{'name':'stop'}}"},
        {"mistral", LLMGW_TOOLS_REQUIRED, "'any'"},
        {"mistral", LLMGW_TOOLS_NONE, "'none'"},
        {"groq", LLMGW_TOOLS_REQUIRED, "'required'"},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_request request = with_tools(rows[i].mode);
        json_t *body = unit_body(rows[i].provider, "m", &request);
        unit_is(body, "tool_choice", rows[i].want);
        json_decref(body);
    }
}

static void test_tool_loop(void **state) {
    llmgw_part calls[2] = {unit_tool_call("c1", "f", "{\"a\":\"\\u00e9\"}"), unit_tool_call("c2", "g", NULL)};
    llmgw_part results[2] = {unit_tool_result("c1", "sunny"), unit_tool_result("c2", "")};
    llmgw_message turns[3] = {unit_message(LLMGW_ROLE_USER, "go", NULL, 0),
                              unit_message(LLMGW_ROLE_ASSISTANT, NULL, calls, 2),
                              unit_message(LLMGW_ROLE_TOOL, NULL, results, 2)};
    llmgw_request request = unit_talk(turns, 3);
    json_t *body = unit_body("openai", "m", &request);
    unit_is(body, "messages.1.content", "null");
    unit_is(body, "messages.1.tool_calls.0.id", "'c1'");
    unit_is(body, "messages.1.tool_calls.0.type", "'function'");
    unit_is(body, "messages.1.tool_calls.0.function.name", "'f'");
    assert_string_equal(json_string_value(unit_at(body, "messages.1.tool_calls.0.function.arguments")),
                        "{\"a\":\"\\u00e9\"}"); /* the text, unchanged */
    unit_is(body, "messages.1.tool_calls.1.function.arguments", "'{}'");
    unit_is(body, "messages.2", "{'role':'tool','tool_call_id':'c1','content':'sunny'}");
    unit_is(body, "messages.3", "{'role':'tool','tool_call_id':'c2','content':''}");
    unit_none(body, "messages.4");
    json_decref(body);
}

/* Results in a user's turn come before its text, each as a message. */
static void test_results_in_user_turn(void **state) {
    llmgw_part parts[2] = {unit_part(LLMGW_PART_TEXT, "and?"), unit_tool_result("c1", "r")};
    llmgw_message turn = unit_message(LLMGW_ROLE_USER, NULL, parts, 2);
    llmgw_request request = unit_talk(&turn, 1);
    json_t *body = unit_body("openai", "m", &request);
    unit_is(body, "messages",
            "[{'role':'tool','tool_call_id':'c1','content':'r'},{'role':'user','content':'and?'}]");
    json_decref(body);
}

static void test_sampling(void **state) {
    static const char *const stop[2] = {"END", "\n\n"};
    llmgw_request request = unit_ask("hi");
    request.temperature = request.top_p = request.frequency_penalty = llmgw_set(0);
    request.presence_penalty = llmgw_set(-0.1);
    request.seed = llmgw_set(9007199254740992.0);
    request.top_k = llmgw_set(5);
    request.stop = stop;
    request.stop_count = 2;
    request.user_id = "u1";
    json_t *body = unit_body("openai", "m", &request);
    assert_true(json_number_value(unit_at(body, "temperature")) == 0);
    assert_non_null(unit_at(body, "top_p"));
    assert_non_null(unit_at(body, "frequency_penalty"));
    assert_true(json_real_value(unit_at(body, "presence_penalty")) == -0.1);
    assert_int_equal(json_integer_value(unit_at(body, "seed")), 9007199254740992);
    unit_none(body, "top_k");
    unit_is(body, "stop", "['END','\\n\\n']");
    unit_is(body, "user", "'u1'");
    json_decref(body);
    body = unit_body("mistral", "m", &request);
    unit_none(body, "seed");
    assert_int_equal(json_integer_value(unit_at(body, "random_seed")), 9007199254740992);
    json_decref(body);
}

static void test_max_tokens_names(void **state) {
    static const char *const fresh[] = {"openai", "portkey", "groq", "xai"};
    static const char *const old[] = {"deepseek", "mistral", "qwen",     "moonshot", "openrouter",
                                      "tokenmix", "ollama",  "llamacpp", "vllm"};
    llmgw_request request = unit_ask("hi");
    request.max_tokens = 77;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(fresh) + LLMGWI_BASE_COUNT(old); i++) {
        bool is_old = i >= LLMGWI_BASE_COUNT(fresh);
        json_t *body = unit_body(is_old ? old[i - LLMGWI_BASE_COUNT(fresh)] : fresh[i], "m", &request);
        unit_is(body, is_old ? "max_tokens" : "max_completion_tokens", "77");
        unit_none(body, is_old ? "max_completion_tokens" : "max_tokens");
        json_decref(body);
    }
}

static void test_schema(void **state) {
    llmgw_request request = unit_ask("hi");
    request.schema = "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}}";
    json_t *body = unit_body("openai", "m", &request);
    unit_is(body, "response_format",
            "{'type':'json_schema','json_schema':{'name':'reply','strict':true,"
            "'schema':{'type':'object','properties':{'a':{'type':'integer'}}}}}");
    json_decref(body);
    request.schema_name = "city";
    body = unit_body("openai", "m", &request);
    unit_is(body, "response_format.json_schema.name", "'city'");
    json_decref(body);
}

static void test_effort(void **state) {
    static const struct {
        const char *provider;
        llmgw_effort effort;
        const char *key, *want;
    } rows[] = {
        {"openai", LLMGW_EFFORT_NONE, "reasoning_effort", "'none'"},
        {"openai", LLMGW_EFFORT_LOW, "reasoning_effort", "'low'"},
        {"openai", LLMGW_EFFORT_MEDIUM, "reasoning_effort", "'medium'"},
        {"openai", LLMGW_EFFORT_HIGH, "reasoning_effort", "'high'"},
        {"openai", LLMGW_EFFORT_DEFAULT, "reasoning_effort", NULL},
        {"deepseek", LLMGW_EFFORT_NONE, "thinking", "{'type':'disabled'}"},
        {"deepseek", LLMGW_EFFORT_HIGH, "thinking", "{'type':'enabled'}"},
        {"deepseek", LLMGW_EFFORT_DEFAULT, "thinking", NULL},
        {"qwen", LLMGW_EFFORT_NONE, "enable_thinking", "false"},
        {"qwen", LLMGW_EFFORT_LOW, "enable_thinking", "true"},
        {"mistral", LLMGW_EFFORT_HIGH, "reasoning_effort", NULL},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_request request = unit_ask("hi");
        request.effort = rows[i].effort;
        json_t *body = unit_body(rows[i].provider, "m", &request);
        unit_is(body, rows[i].key, rows[i].want);
        json_decref(body);
    }
}

static void test_stream_options(void **state) {
    llmgw_request request = unit_ask("hi");
    request.stream = true;
    json_t *body = unit_body("openai", "m", &request);
    unit_is(body, "stream", "true");
    unit_is(body, "stream_options.include_usage", "true");
    json_decref(body);
    body = unit_body("mistral", "m", &request);
    unit_is(body, "stream", "true");
    unit_none(body, "stream_options");
    json_decref(body);
}

/* DeepSeek and Moonshot want their own reasoning back inside a tool loop; nobody else's. */
static void test_reasoning_replay(void **state) {
    llmgw_part own[2] = {unit_thought("hm", NULL, "deepseek"), unit_tool_call("c1", "f", "{}")};
    llmgw_message turns[2] = {unit_message(LLMGW_ROLE_USER, "q", NULL, 0),
                              unit_message(LLMGW_ROLE_ASSISTANT, NULL, own, 2)};
    llmgw_request request = unit_talk(turns, 2);
    json_t *body = unit_body("deepseek", "m", &request);
    unit_is(body, "messages.1.reasoning_content", "'hm'");
    json_decref(body);
    turns[1].part_count = 1; /* outside a tool loop it is a 400 on the old reasoner */
    turns[1].text = "said";
    body = unit_body("deepseek", "m", &request);
    unit_none(body, "messages.1.reasoning_content");
    json_decref(body);
    turns[1].part_count = 2;
    static const char *const others[] = {"openai", "moonshot", "openrouter", "mistral"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(others); i++) {
        body = unit_body(others[i], "m", &request);
        unit_none(body, "messages.1.reasoning_content");
        unit_none(body, "messages.1.reasoning_details");
        json_decref(body);
    }
}

static void test_details_replay(void **state) {
    static const char raw[] = "[{\"type\":\"reasoning.encrypted\",\"data\":\"x==\",\"index\":0}]";
    llmgw_part own = unit_thought("hm", raw, "openrouter");
    llmgw_message turns[2] = {unit_message(LLMGW_ROLE_USER, "q", NULL, 0),
                              unit_message(LLMGW_ROLE_ASSISTANT, "a", &own, 1)};
    llmgw_request request = unit_talk(turns, 2);
    json_t *body = unit_body("openrouter", "m", &request);
    unit_is(body, "messages.1.reasoning_details", "[{'type':'reasoning.encrypted','data':'x==','index':0}]");
    unit_is(body, "messages.1.content", "'a'");
    json_decref(body);
    own.origin = "anthropic";
    body = unit_body("openrouter", "m", &request);
    unit_none(body, "messages.1.reasoning_details");
    json_decref(body);
}

static bool nine(const char *id) {
    return strlen(id) == 9 &&
           strspn(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == 9;
}

static void test_mistral_ids(void **state) {
    llmgw_part calls[3] = {unit_tool_call("call_abcdefgh_1", "f", NULL),
                           unit_tool_call("aB3456789", "g", NULL),
                           unit_tool_call("call_abcdefgh_2", "f", NULL)};
    llmgw_part results[3] = {unit_tool_result("call_abcdefgh_1", "1"), unit_tool_result("aB3456789", "2"),
                             unit_tool_result("call_abcdefgh_2", "3")};
    llmgw_message turns[3] = {unit_message(LLMGW_ROLE_USER, "q", NULL, 0),
                              unit_message(LLMGW_ROLE_ASSISTANT, NULL, calls, 3),
                              unit_message(LLMGW_ROLE_TOOL, NULL, results, 3)};
    llmgw_request request = unit_talk(turns, 3);
    json_t *body = unit_body("mistral", "m", &request);
    const char *ids[3];
    for (int i = 0; i < 3; i++) {
        char path[64];
        snprintf(path, sizeof path, "messages.1.tool_calls.%d.id", i);
        ids[i] = json_string_value(unit_at(body, path));
        assert_true(ids[i] && nine(ids[i]));
        snprintf(path, sizeof path, "messages.%d.tool_call_id", 2 + i);
        assert_string_equal(json_string_value(unit_at(body, path)), ids[i]); /* call and result agree */
    }
    assert_string_equal(ids[1], "aB3456789"); /* its own stays */
    assert_string_not_equal(ids[0], ids[2]);
    json_decref(body);
}

static void test_mistral_odd_ids(void **state) {
    static const char *const ids[] = {"a", "abcdefgh", "abcdefghij", "abcd_fghi",
                                      "\xC3\xA9"
                                      "bcdefgh"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(ids); i++) {
        llmgw_part call = unit_tool_call(ids[i], "f", NULL);
        llmgw_message turn = unit_message(LLMGW_ROLE_ASSISTANT, NULL, &call, 1);
        llmgw_request request = unit_talk(&turn, 1);
        json_t *body = unit_body("mistral", "m", &request);
        assert_true(nine(json_string_value(unit_at(body, "messages.0.tool_calls.0.id"))));
        json_decref(body);
    }
}

static void test_ollama_restrictions(void **state) {
    llmgw_part url = unit_url(LLMGW_PART_IMAGE, "https://x/y.png");
    llmgw_part bytes = unit_bytes(LLMGW_PART_IMAGE, NULL, NULL, "abc");
    llmgw_message turn = unit_message(LLMGW_ROLE_USER, "see", &url, 1);
    llmgw_request request = unit_talk(&turn, 1);
    llmgw_error error = unit_refusal("ollama", "m", &request);
    assert_int_equal(error.code, LLMGW_E_UNSUPPORTED);
    unit_has(error.text, "request.messages[0].parts[0].url");
    turn.parts = &bytes;
    json_decref(unit_body("ollama", "m", &request));
    request = with_tools(LLMGW_TOOLS_REQUIRED);
    error = unit_refusal("ollama", "m", &request);
    assert_int_equal(error.code, LLMGW_E_UNSUPPORTED);
    unit_has(error.text, "request.tool_mode");
    request = with_tools(LLMGW_TOOLS_AUTO);
    json_decref(unit_body("ollama", "m", &request));
}

static void expect_bad_utf8(const llmgw_request *request, const char *path) {
    llmgw_error error = unit_refusal("openai", "m", request);
    assert_int_equal(error.code, LLMGW_E_ARGUMENT);
    unit_has(error.text, path);
    unit_has(error.text, "bad UTF-8 at byte 2");
}

static void test_bad_utf8_is_named(void **state) {
    static const char *const stop[1] = {bad_utf8};
    llmgw_part parts[2] = {unit_part(LLMGW_PART_TEXT, "ok"), unit_part(LLMGW_PART_TEXT, bad_utf8)};
    llmgw_message turns[2] = {unit_message(LLMGW_ROLE_USER, "ok", NULL, 0),
                              unit_message(LLMGW_ROLE_USER, NULL, parts, 2)};
    llmgw_request request = unit_ask(bad_utf8);
    expect_bad_utf8(&request, "request.prompt:");
    request = unit_ask("ok");
    request.system = bad_utf8;
    expect_bad_utf8(&request, "request.system:");
    request.system = NULL;
    request.stop = stop;
    request.stop_count = 1;
    expect_bad_utf8(&request, "request.stop:");
    request.stop_count = 0;
    request.user_id = bad_utf8;
    expect_bad_utf8(&request, "request.user_id:");
    request = unit_talk(turns, 2);
    expect_bad_utf8(&request, "request.messages[1].parts[1].text:");
    turns[0].text = bad_utf8;
    expect_bad_utf8(&request, "request.messages[0].text:");
    turns[0].text = "ok";
    parts[1] = unit_tool_result("id", bad_utf8);
    expect_bad_utf8(&request, "request.messages[1].parts[1].text:");
}

/* A mime type is text like any other. */
static void test_bad_mime_is_named(void **state) {
    llmgw_part part = unit_bytes(LLMGW_PART_IMAGE, bad_utf8, NULL, "abc");
    llmgw_message turn = unit_message(LLMGW_ROLE_USER, "see", &part, 1);
    llmgw_request request = unit_talk(&turn, 1);
    llmgwi_base_buf body;
    llmgw_error error;
    assert_false(unit_write("openai", "m", &request, 4096, &body, &error));
    llmgwi_base_buf_free(&body);
    assert_int_equal(error.code, LLMGW_E_ARGUMENT);
    unit_has(error.text, "request.messages[0].parts[0].mime");
}

static void test_max_request_bytes(void **state) {
    char prompt[3000];
    llmgwi_base_buf body;
    llmgw_error error;
    memset(prompt, 'x', sizeof prompt - 1);
    prompt[sizeof prompt - 1] = 0;
    llmgw_request request = unit_ask(prompt);
    assert_false(unit_write("openai", "m", &request, 2048, &body, &error));
    llmgwi_base_buf_free(&body);
    assert_int_equal(error.code, LLMGW_E_ARGUMENT);
    unit_has(error.text, "max_request_bytes (2048)");
    assert_true(unit_write("openai", "m", &request, 4096, &body, &error));
    size_t exact = body.n;
    llmgwi_base_buf_free(&body);
    assert_true(unit_write("openai", "m", &request, exact + 16, &body, &error)); /* 16: the writer's slack */
    assert_int_equal(body.n, exact);
    llmgwi_base_buf_free(&body);
    assert_false(unit_write("openai", "m", &request, exact - 1, &body, &error));
    llmgwi_base_buf_free(&body);
}

static void test_nul_in_text(void **state) {
    llmgw_part part = unit_part(LLMGW_PART_TEXT, "a\0b");
    part.text_len = 3;
    llmgw_message turn = unit_message(LLMGW_ROLE_USER, NULL, &part, 1);
    llmgw_request request = unit_talk(&turn, 1);
    llmgwi_base_buf body;
    llmgw_error error;
    assert_true(unit_write("openai", "m", &request, 4096, &body, &error));
    unit_has(body.p, "a\\u0000b");
    llmgwi_base_buf_free(&body);
}

/* ---- replies ---- */

static void test_reply(void **state) {
    unit_answer u;
    assert_true(
        unit_reply(&u, "openai",
                   "{'id':'chatcmpl-1','model':'gpt-4o-mini-2024','choices':[{'index':0,'message':"
                   "{'role':'assistant','content':'Hi \\u00e9\\n','refusal':null},'finish_reason':'stop'}],"
                   "'usage':{'prompt_tokens':9,'completion_tokens':3,'total_tokens':12,"
                   "'prompt_tokens_details':{'cached_tokens':4,'cache_write_tokens':2},"
                   "'completion_tokens_details':{'reasoning_tokens':1}}}"));
    unit_text(&u, "Hi \xC3\xA9\n");
    assert_string_equal(u.answer->id, "chatcmpl-1");
    assert_string_equal(u.answer->model, "gpt-4o-mini-2024");
    assert_int_equal(u.answer->finish, LLMGW_FINISH_STOP);
    unit_usage(&u, 9, 3, 4, 2, 0, 1);
    assert_true(u.answer->ended);
    unit_end(&u);
}

static void test_finish_reasons(void **state) {
    static const struct {
        const char *reason;
        llmgw_finish finish;
    } rows[] = {{"stop", LLMGW_FINISH_STOP},           {"length", LLMGW_FINISH_LENGTH},
                {"model_length", LLMGW_FINISH_LENGTH}, {"tool_calls", LLMGW_FINISH_TOOL},
                {"function_call", LLMGW_FINISH_TOOL},  {"content_filter", LLMGW_FINISH_FILTER},
                {"something_new", LLMGW_FINISH_STOP}};
    char json[256];
    unit_answer u;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        snprintf(json, sizeof json, "{'choices':[{'message':{'content':'x'},'finish_reason':'%s'}]}",
                 rows[i].reason);
        assert_true(unit_reply(&u, "openai", json));
        assert_int_equal(u.answer->finish, rows[i].finish);
        assert_false(u.answer->usage.known);
        unit_end(&u);
    }
    static const char *const broken[] = {"error", "insufficient_system_resource"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(json, sizeof json, "{'choices':[{'message':{'content':'x'},'finish_reason':'%s'}]}",
                 broken[i]);
        assert_false(unit_reply(&u, "deepseek", json));
        unit_failed(&u, LLMGW_E_PROVIDER, broken[i]);
        unit_end(&u);
    }
}

static void test_usage_variants(void **state) {
    static const struct {
        const char *provider, *usage; /* spliced in behind choices */
        int64_t input, output, cached, write, reasoning;
    } rows[] = {
        {"deepseek",
         "'usage':{'prompt_tokens':10,'completion_tokens':5,'total_tokens':15,'prompt_cache_hit_tokens':6,"
         "'prompt_cache_miss_tokens':4,'completion_tokens_details':{'reasoning_tokens':2}}",
         10, 5, 6, 0, 2},
        {"qwen",
         "'usage':{'prompt_tokens':10,'completion_tokens':5,'total_tokens':15,"
         "'prompt_tokens_details':{'cached_tokens':3,'cache_creation_input_tokens':4}}",
         10, 5, 3, 4, 0},
        {"moonshot", "'usage':{'prompt_tokens':10,'completion_tokens':5,'total_tokens':15,'cached_tokens':7}",
         10, 5, 7, 0, 0},
        {"groq",
         "'x_groq':{'id':'r','usage':{'prompt_tokens':10,'completion_tokens':5,'total_tokens':15,"
         "'queue_time':0.01}}",
         10, 5, 0, 0, 0},
        {"xai",
         "'usage':{'prompt_tokens':10,'completion_tokens':5,'total_tokens':115,"
         "'completion_tokens_details':{'reasoning_tokens':100}}",
         10, 105, 0, 0, 100},
        {"openai",
         "'usage':{'prompt_tokens':10,'completion_tokens':105,'total_tokens':115,"
         "'completion_tokens_details':{'reasoning_tokens':100}}",
         10, 105, 0, 0, 100},
        {"mistral",
         "'usage':{'prompt_tokens':10,'completion_tokens':5,'total_tokens':15,'prompt_audio_seconds':null}",
         10, 5, 0, 0, 0},
        {"openrouter",
         "'usage':{'prompt_tokens':10.0,'completion_tokens':5,'total_tokens':15,'cost':0.0001,'is_byok':"
         "false,"
         "'prompt_tokens_details':{'cached_tokens':null},'completion_tokens_details':null}",
         10, 5, 0, 0, 0},
    };
    char json[1024];
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        unit_answer u;
        snprintf(json, sizeof json, "{'choices':[{'message':{'content':'x'},'finish_reason':'stop'}],%s}",
                 rows[i].usage);
        assert_true(unit_reply(&u, rows[i].provider, json));
        unit_usage(&u, rows[i].input, rows[i].output, rows[i].cached, rows[i].write, 0, rows[i].reasoning);
        unit_end(&u);
    }
}

/* Law 12: what a provider counts may not overflow. */
/* Sound, service tier, and the provider's own bill. */
static void test_billing(void **state) {
    static const struct {
        const char *reply;
        int64_t audio_input, audio_output, pico; /* pico -1: it tells none */
        llmgw_tier tier;
    } rows[] = {
        {"'service_tier':'default','usage':{'prompt_tokens':9,'completion_tokens':5,'prompt_tokens_details':{"
         "'audio_tokens':4},'completion_tokens_details':{'audio_tokens':3}}",
         4, 3, -1, LLMGW_TIER_STANDARD},
        {"'usage':{'prompt_tokens':9,'completion_tokens':5,'cost':0.00007159},'service_tier':'flex'", 0, 0,
         71590000, LLMGW_TIER_FLEX},
        {"'service_tier':'priority','usage':{'prompt_tokens':9,'completion_tokens':5,'cost':7.637029e-3}", 0,
         0, 7637029000, LLMGW_TIER_PRIORITY},
        {"'service_tier':'batch','usage':{'prompt_tokens':9,'completion_tokens':5,'cost':0}", 0, 0, 0,
         LLMGW_TIER_BATCH},
        {"'service_tier':null,'usage':{'prompt_tokens':9,'completion_tokens':5,'cost':-1}", 0, 0, -1,
         LLMGW_TIER_STANDARD},
        {"'service_tier':{'a':1},'usage':{'prompt_tokens':9,'completion_tokens':5,'cost':{'total_cost':1}}",
         0, 0, -1, LLMGW_TIER_STANDARD},
        {"'service_tier':'fast','usage':{'prompt_tokens':9,'completion_tokens':5,'cost':1e99}", 0, 0, -1,
         LLMGW_TIER_PRIORITY},
        {"'usage':{'prompt_tokens':9,'completion_tokens':5,'cost':'0.1'}", 0, 0, -1, LLMGW_TIER_STANDARD},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        unit_answer u;
        char reply[500];
        snprintf(reply, sizeof reply, "{'choices':[{'message':{'content':'x'},'finish_reason':'stop'}],%s}",
                 rows[i].reply);
        assert_true(unit_reply(&u, "openrouter", reply));
        unit_usage(&u, 9, 5, 0, 0, 0, 0);
        assert_int_equal(u.answer->usage.audio_input, rows[i].audio_input);
        assert_int_equal(u.answer->usage.audio_output, rows[i].audio_output);
        assert_int_equal(u.answer->usage.tier, rows[i].tier);
        assert_int_equal(u.answer->reported.known, rows[i].pico >= 0);
        if (rows[i].pico >= 0) assert_int_equal(u.answer->reported.pico_usd, rows[i].pico);
        unit_end(&u);
    }
}

static void test_huge_usage(void **state) {
    unit_answer u;
    assert_true(unit_reply(&u, "openai",
                           "{'choices':[{'message':{'content':'x'},'finish_reason':'stop'}],'usage':{"
                           "'prompt_tokens':9223372036854775807,'completion_tokens':9223372036854775807,"
                           "'completion_tokens_details':{'reasoning_tokens':9223372036854775807},"
                           "'total_tokens':9223372036854775807}}"));
    assert_true(u.answer->usage.input >= 0);
    assert_true(u.answer->usage.output >= 0);
    unit_end(&u);
    assert_true(unit_reply(&u, "openai",
                           "{'choices':[{'message':{'content':'x'}}],'usage':{'prompt_tokens':-5,"
                           "'completion_tokens':'7'}}"));
    assert_true(u.answer->usage.input >= 0);
    assert_true(u.answer->usage.output >= 0);
    unit_end(&u);
}

static void test_refusal(void **state) {
    unit_answer u;
    assert_true(
        unit_reply(&u, "openai",
                   "{'choices':[{'message':{'content':null,'refusal':'I cannot'},'finish_reason':'stop'}]}"));
    unit_text(&u, "");
    assert_string_equal(llmgwi_base_buf_cstr(&u.answer->refusal), "I cannot");
    unit_end(&u);
}

static void test_mistral_content_array(void **state) {
    unit_answer u;
    assert_true(unit_reply(&u, "mistral",
                           "{'choices':[{'message':{'content':[{'type':'thinking','thinking':[{'type':'text',"
                           "'text':'hm '},{'type':'text','text':'ok'}]},{'type':'text','text':'Yes'},"
                           "{'type':'reference','reference_ids':[1]}]},'finish_reason':'stop'}]}"));
    unit_text(&u, "Yes");
    unit_reasoning(&u, "hm ok");
    unit_end(&u);
}

static void test_reasoning_fields(void **state) {
    static const char *const names[] = {"reasoning_content", "reasoning"};
    for (size_t i = 0; i < 2; i++) {
        unit_answer u;
        char json[256];
        snprintf(json, sizeof json,
                 "{'choices':[{'message':{'content':'x','%s':'why'},'finish_reason':'stop'}]}", names[i]);
        assert_true(unit_reply(&u, "vllm", json));
        unit_reasoning(&u, "why");
        unit_text(&u, "x");
        unit_end(&u);
    }
}

static void test_tool_calls(void **state) {
    unit_answer u;
    assert_true(unit_reply(&u, "openai",
                           "{'choices':[{'message':{'content':null,'tool_calls':["
                           "{'id':'a','type':'function','function':{'name':'f','arguments':'{\\'x\\': 1}'}},"
                           "{'type':'function','function':{'name':'g','arguments':{'y':[2]}}},"
                           "{'id':'','function':{'name':'h','arguments':null}},"
                           "{'id':null,'function':{'name':'i'}}]},'finish_reason':'stop'}]}"));
    unit_call(&u, 0, "a", "f", "{'x':1}");
    unit_call(&u, 1, NULL, "g", "{'y':[2]}"); /* Mistral: an object */
    unit_call(&u, 2, NULL, "h", "{}");
    unit_call(&u, 3, NULL, "i", "{}");
    assert_string_not_equal(unit_tool(&u, 1)->id, unit_tool(&u, 2)->id);
    assert_string_not_equal(unit_tool(&u, 2)->id, unit_tool(&u, 3)->id);
    assert_int_equal(u.answer->finish, LLMGW_FINISH_TOOL); /* although it said stop */
    unit_end(&u);
}

static void test_call_without_name(void **state) {
    unit_answer u;
    assert_false(unit_reply(
        &u, "openai", "{'choices':[{'message':{'tool_calls':[{'id':'a','function':{'arguments':'{}'}}]}}]}"));
    unit_failed(&u, LLMGW_E_PROTOCOL, "without a name");
    unit_end(&u);
}

static void test_error_inside_200(void **state) {
    static const struct {
        const char *json, *text;
        llmgw_code code;
    } rows[] = {
        {"{'error':{'message':'Rate limit hit','code':429,'metadata':{'provider_name':'x'}},'user_id':'u'}",
         "Rate limit hit", LLMGW_E_RATE_LIMITED},
        {"{'error':'model runner has crashed'}", "model runner has crashed", LLMGW_E_PROVIDER},
        {"{'error':{'message':'no','code':'insufficient_quota'}}", "no", LLMGW_E_QUOTA},
        {"{'error':{'message':'down','code':503},'choices':[]}", "down", LLMGW_E_OVERLOADED},
        {"{'error':{}}", "without a text", LLMGW_E_PROVIDER},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        unit_answer u;
        assert_false(unit_reply(&u, "openrouter", rows[i].json));
        unit_failed(&u, rows[i].code, rows[i].text);
        unit_end(&u);
    }
    unit_answer u;
    assert_true(unit_reply(&u, "openai", "{'error':null,'choices':[{'message':{'content':'x'}}]}"));
    unit_text(&u, "x");
    unit_end(&u);
}

static void test_no_choices(void **state) {
    static const char *const rows[] = {"{}", "{'choices':[]}", "{'choices':null}", "{'choices':[null]}",
                                       "{'id':'x','object':'chat.completion'}"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        unit_answer u;
        assert_false(unit_reply(&u, "openai", rows[i]));
        unit_failed(&u, LLMGW_E_PROTOCOL, "no choices");
        unit_end(&u);
    }
}

static void test_malformed(void **state) {
    static const struct {
        const char *json, *at;
    } rows[] = {
        {"{'choices':[{'message':{'content':'x'}}]", "at byte 40"},
        {"[]", "at byte 0"},
        {"", "at byte 0"},
        {"{'choices':[{'message':{'content':'a\tb'}}]}", "at byte 36"},
        {"{'id':01}", "at byte 7"},
        {"{'a':1}x", "at byte 7"},
        {"{'choices':[{'message':{'content':'\xFF'}}]}", "at byte 35"},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        unit_answer u;
        assert_false(unit_reply(&u, "openai", rows[i].json));
        unit_failed(&u, LLMGW_E_PROTOCOL, rows[i].at);
        unit_end(&u);
    }
}

static void test_depth_and_size(void **state) {
    static char json[8192];
    unit_answer u;
    size_t n = (size_t)snprintf(json, sizeof json, "{'x':");
    memset(json + n, '[', 200);
    memset(json + n + 200, ']', 200);
    snprintf(json + n + 400, sizeof json - n - 400, ",'choices':[{'message':{'content':'x'}}]}");
    assert_false(unit_reply(&u, "openai", json));
    unit_failed(&u, LLMGW_E_PROTOCOL, "reply: ");
    unit_end(&u);
    unit_begin(&u, "openai", false);
    u.answer->max_bytes = 8;
    assert_false(u.dialect->reply(
        u.answer, llmgwi_base_cstr(unit_quoted("{'choices':[{'message':{'content':'123456789'}}]}"))));
    unit_failed(&u, LLMGW_E_TOO_LARGE, "max_reply_bytes");
    unit_end(&u);
}

/* vLLM has sent both names at once: it is one text. */
static void test_reasoning_twice(void **state) {
    unit_answer u;
    assert_true(unit_reply(
        &u, "vllm", "{'choices':[{'message':{'content':'x','reasoning':'why','reasoning_content':'why'}}]}"));
    unit_reasoning(&u, "why");
    unit_end(&u);
    assert_true(unit_reply(
        &u, "vllm", "{'choices':[{'message':{'content':'x','reasoning':'why','reasoning_content':null}}]}"));
    unit_reasoning(&u, "why");
    unit_end(&u);
}

/* A second choice is not ours. */
static void test_other_choices(void **state) {
    unit_answer u;
    assert_true(unit_reply(&u, "openai",
                           "{'choices':[{'index':1,'message':{'content':'no'},'finish_reason':'length'},"
                           "{'index':0,'message':{'content':'yes'},'finish_reason':'stop'}]}"));
    unit_text(&u, "yes");
    assert_int_equal(u.answer->finish, LLMGW_FINISH_STOP);
    unit_end(&u);
}

/* ---- streams ---- */

static void test_stream(void **state) {
    static const char *const events[] = {
        "{'id':'','model':'','choices':[],'prompt_filter_results':[]}", /* Azure's first */
        "{'id':'c1','model':'m1','choices':[{'index':0,'delta':{'role':'assistant','content':''},"
        "'finish_reason':null}],'usage':null,'obfuscation':'xyz'}",
        "{'id':'c1','choices':[{'index':0,'delta':{'reasoning_content':'let me'}}]}",
        "{'id':'c1','choices':[{'index':0,'delta':{'reasoning':' see'}}]}",
        "{'id':'c1','choices':[{'index':0,'delta':{'content':'Hel'}}]}",
        "{'id':'c1','choices':[{'index':0,'delta':{'content':'lo \\ud83d\\ude00'}}]}",
        "{'id':'c1','choices':[{'index':0,'delta':{},'finish_reason':'stop'}]}",
        "{'id':'c1','choices':[],'usage':{'prompt_tokens':3,'completion_tokens':2,'total_tokens':5}}",
        "[DONE]",
        NULL};
    unit_answer u;
    unit_stream(&u, "openai", events);
    unit_complete(&u);
    unit_text(&u, "Hello \xF0\x9F\x98\x80");
    unit_reasoning(&u, "let me see");
    assert_string_equal(u.order, "RT");
    assert_string_equal(u.answer->id, "c1");
    assert_string_equal(u.answer->model, "m1");
    assert_int_equal(u.answer->finish, LLMGW_FINISH_STOP);
    unit_usage(&u, 3, 2, 0, 0, 0, 0);
    assert_true(u.answer->ended);
    unit_end(&u);
}

/* Reasoning, text, reasoning, text: pieces keep their order for the replay. */
static void test_stream_interleaved(void **state) {
    static const char *const events[] = {
        "{'choices':[{'delta':{'reasoning':'a'}}]}", "{'choices':[{'delta':{'content':'b'}}]}",
        "{'choices':[{'delta':{'reasoning':'c'}}]}",
        "{'choices':[{'delta':{'content':'d'},'finish_reason':'stop'}]}", NULL};
    unit_answer u;
    unit_stream(&u, "vllm", events);
    unit_complete(&u);
    assert_string_equal(u.order, "RTRT");
    llmgw_message turn = unit_turn(&u, "vllm");
    assert_int_equal(turn.part_count, 4);
    static const char want[] = "abcd";
    for (int i = 0; i < 4; i++) {
        assert_int_equal(turn.parts[i].kind, i % 2 ? LLMGW_PART_TEXT : LLMGW_PART_REASONING);
        assert_int_equal(turn.parts[i].text[0], want[i]);
        assert_int_equal(turn.parts[i].text_len, 1);
    }
    unit_end(&u);
}

#define CALLS(...) "{'choices':[{'delta':{'tool_calls':[" __VA_ARGS__ "]}}]}"
#define FINISH(word) "{'choices':[{'delta':{},'finish_reason':'" word "'}]}"

static void test_stream_tools(void **state) {
    static const char *const events[] = {
        CALLS("{'index':0,'id':'c1','type':'function','function':{'name':'f','arguments':''}}"),
        CALLS("{'index':0,'function':{'arguments':'{\\'a\\''}}"),
        CALLS("{'index':1,'id':'c2','function':{'name':'g','arguments':null}}"),
        CALLS("{'index':0,'function':{'arguments':':1}'}}"),
        CALLS("{'index':1,'function':{'arguments':'{}'}}"),
        FINISH("tool_calls"),
        "[DONE]",
        NULL};
    unit_answer u;
    unit_stream(&u, "openai", events);
    unit_complete(&u);
    unit_call(&u, 0, "c1", "f", "{'a':1}");
    unit_call(&u, 1, "c2", "g", "{}");
    assert_int_equal(u.answer->tool_count, 2);
    assert_string_equal(u.order, "0101");
    assert_int_equal(u.answer->finish, LLMGW_FINISH_TOOL);
    unit_end(&u);
}

/* Streams whose numbering is odd; each is the calls f {"a":1} and g {"b":2}. */
typedef struct odd_row {
    const char *what;
    const char *events[8];
} odd_row;

static const odd_row odd_rows[] = {
    {"index from 1",
     {CALLS("{'index':1,'id':'x','function':{'name':'f','arguments':'{\\'a\\':'}}"),
      CALLS("{'index':1,'function':{'arguments':'1}'}}"),
      CALLS("{'index':2,'id':'y','function':{'name':'g','arguments':'{\\'b\\':2}'}}"), FINISH("tool_calls"),
      NULL}},
    {"no index",
     {CALLS("{'id':'x','function':{'name':'f','arguments':'{\\'a\\':'}}"),
      CALLS("{'function':{'arguments':'1}'}}"),
      CALLS("{'id':'y','function':{'name':'g','arguments':'{\\'b\\':'}}"),
      CALLS("{'id':'y','function':{'arguments':'2}'}}"), FINISH("tool_calls"), NULL}},
    {"every id is 0",
     {CALLS("{'index':0,'id':'0','function':{'name':'f','arguments':'{\\'a\\':1}'}}"),
      CALLS("{'index':1,'id':'0','function':{'name':'g','arguments':'{\\'b\\':'}}"),
      CALLS("{'index':1,'id':'0','function':{'arguments':'2}'}}"), FINISH("stop"), NULL}},
    {"empty id later",
     {CALLS("{'index':0,'id':'x','function':{'name':'f','arguments':''}}"),
      CALLS("{'index':0,'id':'','function':{'arguments':'{\\'a\\':1}'}}"),
      CALLS("{'index':1,'id':'y','function':{'name':'g','arguments':''}}"),
      CALLS("{'index':1,'id':'','function':{'name':null,'arguments':'{\\'b\\':2}'}}"), FINISH("tool_calls"),
      NULL}},
    {"id and name on every delta",
     {CALLS("{'index':0,'id':'x','function':{'name':'f','arguments':'{\\'a\\':'}}"),
      CALLS("{'index':0,'id':'x','function':{'name':'f','arguments':'1}'}}"),
      CALLS("{'index':1,'id':'y','function':{'name':'g','arguments':'{\\'b\\':2}'}}"), FINISH("tool_calls"),
      NULL}},
    {"all index 0",
     {CALLS("{'index':0,'id':'x','function':{'name':'f','arguments':'{\\'a\\':1}'}}"),
      CALLS("{'index':0,'id':'y','function':{'name':'g','arguments':'{\\'b\\':'}}"),
      CALLS("{'index':0,'function':{'arguments':'2}'}}"), FINISH("tool_calls"), NULL}},
    {"whole calls in one delta",
     {CALLS("{'index':0,'id':'x','function':{'name':'f','arguments':'{\\'a\\':1}'}},"
            "{'index':1,'id':'y','function':{'name':'g','arguments':'{\\'b\\':2}'}}"),
      FINISH("tool_calls"), NULL}},
    {"whole calls, no index, no id",
     {CALLS("{'function':{'name':'f','arguments':'{\\'a\\':1}'}}"),
      CALLS("{'function':{'name':'g','arguments':'{\\'b\\':2}'}}"), FINISH("stop"), NULL}},
    {"whole calls, empty ids",
     {CALLS("{'index':0,'id':'','function':{'name':'f','arguments':'{\\'a\\':1}'}}"),
      CALLS("{'index':1,'id':'','function':{'name':'g','arguments':'{\\'b\\':2}'}}"), FINISH("stop"), NULL}},
    {"arguments as objects",
     {CALLS("{'index':0,'id':'x','function':{'name':'f','arguments':{'a':1}}},"
            "{'index':1,'id':'y','function':{'name':'g','arguments':{'b':2}}}"),
      FINISH("tool_calls"), NULL}},
};

static void test_stream_odd_tools(void **state) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(odd_rows); i++) {
        unit_answer u;
        unit_stream(&u, "openai", odd_rows[i].events);
        if (u.answer->tool_count != 2) fail_msg("%s: %zu calls", odd_rows[i].what, u.answer->tool_count);
        unit_complete(&u);
        unit_call(&u, 0, NULL, "f", "{'a':1}");
        unit_call(&u, 1, NULL, "g", "{'b':2}");
        assert_int_equal(u.answer->finish, LLMGW_FINISH_TOOL);
        unit_end(&u);
    }
}

/* Gemini's compatible endpoint: whole calls, all under index 0, all with an empty id. */
static void test_stream_calls_index_0_empty_id(void **state) {
    static const char *const events[] = {
        CALLS("{'index':0,'id':'','function':{'name':'f','arguments':'{\\'a\\':1}'}}"),
        CALLS("{'index':0,'id':'','function':{'name':'g','arguments':'{\\'b\\':2}'}}"), FINISH("tool_calls"),
        NULL};
    unit_answer u;
    unit_stream(&u, "openai", events);
    unit_complete(&u);
    assert_int_equal(u.answer->tool_count, 2);
    unit_call(&u, 0, NULL, "f", "{'a':1}");
    unit_call(&u, 1, NULL, "g", "{'b':2}");
    unit_end(&u);
}

static void test_stream_usage_places(void **state) {
    static const char *const places[] = {
        /* on the finish chunk: DeepSeek, Mistral */
        "{'choices':[{'delta':{},'finish_reason':'stop'}],'usage':{'prompt_tokens':10,'completion_tokens':5}"
        "}",
        /* Groq */
        "{'choices':[{'delta':{},'finish_reason':'stop'}],'x_groq':{'usage':{'prompt_tokens':10,"
        "'completion_tokens':5}}}",
        /* Moonshot: in the choice */
        "{'choices':[{'delta':{},'finish_reason':'stop','usage':{'prompt_tokens':10,'completion_tokens':5}}]"
        "}",
    };
    static const char again[] = "{'choices':[],'usage':{'prompt_tokens':10,'completion_tokens':5}}";
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(places); i++) {
        const char *events[] = {"{'choices':[{'delta':{'content':'x'}}]}", places[i], i ? again : "[DONE]",
                                NULL};
        unit_answer u;
        unit_stream(&u, "openai", events);
        unit_complete(&u);
        unit_usage(&u, 10, 5, 0, 0, 0, 0); /* repeated is not added */
        unit_end(&u);
    }
}

/* xAI's rule holds when usage is repeated. */
static void test_stream_xai_usage_repeated(void **state) {
    static const char usage[] = "{'choices':[{'delta':{'content':'x'},'finish_reason':'stop'}],'usage':{"
                                "'prompt_tokens':10,'completion_tokens':5,'total_tokens':35,"
                                "'completion_tokens_details':{'reasoning_tokens':20}}}";
    const char *events[] = {usage, usage, NULL};
    unit_answer u;
    unit_stream(&u, "xai", events);
    unit_usage(&u, 10, 25, 0, 0, 0, 20);
    unit_end(&u);
}

static void test_stream_errors(void **state) {
    static const struct {
        const char *name, *data, *text;
        llmgw_code code;
    } rows[] = {
        {"", "{'error':{'message':'Failed to call a function','code':'tool_use_failed','status_code':400}}",
         "Failed to call", LLMGW_E_PROVIDER},
        {"", "{'error':'boom'}", "boom", LLMGW_E_PROVIDER},
        {"error", "{'message':'lost','code':502}", "lost", LLMGW_E_PROVIDER},
        {"error", "{'error':{'message':'slow down','code':429}}", "slow down", LLMGW_E_RATE_LIMITED},
        {"",
         "{'id':'x','error':{'code':'server_error','message':'cut'},'choices':[{'index':0,'delta':{"
         "'content':''},'finish_reason':'error'}]}",
         "", LLMGW_E_PROVIDER},
        {"", "not json", "at byte 0", LLMGW_E_PROTOCOL},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        unit_answer u;
        unit_begin(&u, "openai", true);
        assert_true(unit_event(&u, "{'choices':[{'delta':{'content':'partial'}}]}"));
        assert_false(unit_event_named(&u, rows[i].name, rows[i].data));
        unit_failed(&u, rows[i].code, rows[i].text);
        assert_false(llmgwi_dialect_complete(u.dialect, u.answer));
        unit_text(&u, "partial"); /* what came stays */
        unit_end(&u);
    }
}

static void test_stream_done_only(void **state) {
    unit_answer u;
    unit_begin(&u, "openai", true);
    assert_false(unit_event(&u, "[DONE]"));
    unit_failed(&u, LLMGW_E_PROTOCOL, "[DONE]");
    unit_end(&u);
}

/* EOF: a finish reason or [DONE] makes it whole, one of them suffices. */
static void test_stream_eof(void **state) {
    unit_answer u;
    unit_begin(&u, "openai", true);
    assert_false(llmgwi_dialect_complete(u.dialect, u.answer));
    assert_true(unit_event(&u, "{'choices':[{'delta':{'content':'x'}}]}"));
    assert_false(llmgwi_dialect_complete(u.dialect, u.answer));
    assert_true(unit_event(&u, FINISH("stop")));
    assert_true(llmgwi_dialect_complete(u.dialect, u.answer));
    unit_end(&u);
    unit_begin(&u, "openai", true);
    assert_true(unit_event(&u, "{'choices':[{'delta':{'content':'x'}}]}"));
    assert_true(unit_event(&u, "[DONE]"));
    assert_true(llmgwi_dialect_complete(u.dialect, u.answer));
    unit_end(&u);
}

static void test_stream_mistral_content(void **state) {
    static const char *const events[] = {
        "{'choices':[{'delta':{'content':[{'type':'thinking','thinking':[{'type':'text','text':'h'}]}]}}]}",
        "{'choices':[{'delta':{'content':[{'type':'thinking','thinking':[{'type':'text','text':'m'}]}]}}]}",
        "{'choices':[{'delta':{'content':[{'type':'text','text':'Ye'}]}}]}",
        "{'choices':[{'delta':{'content':'s'},'finish_reason':'stop'}]}", NULL};
    unit_answer u;
    unit_stream(&u, "mistral", events);
    unit_complete(&u);
    unit_text(&u, "Yes");
    unit_reasoning(&u, "hm");
    unit_end(&u);
}

static void test_stream_refusal(void **state) {
    static const char *const events[] = {"{'choices':[{'delta':{'refusal':'I can'}}]}",
                                         "{'choices':[{'delta':{'refusal':'not'}}]}",
                                         FINISH("content_filter"), NULL};
    unit_answer u;
    unit_stream(&u, "openai", events);
    unit_complete(&u);
    assert_string_equal(llmgwi_base_buf_cstr(&u.answer->refusal), "I cannot");
    assert_int_equal(u.answer->finish, LLMGW_FINISH_FILTER);
    unit_end(&u);
}

/* OpenRouter's details come back word for word, of all events. */
static void test_stream_details_round_trip(void **state) {
    static const char *const events[] = {
        "{'choices':[{'delta':{'reasoning':'th','reasoning_details':[{'type':'reasoning.text','text':'th',"
        "'index':0}]}}]}",
        "{'choices':[{'delta':{'reasoning':'ink','reasoning_details':[{'type':'reasoning.text','text':'ink',"
        "'index':0},{'type':'reasoning.encrypted','data':'a\\u002fb\\/=='}]}}]}",
        "{'choices':[{'delta':{'content':'x'},'finish_reason':'stop'}]}", NULL};
    unit_answer u;
    unit_stream(&u, "openrouter", events);
    unit_complete(&u);
    unit_reasoning(&u, "think");
    llmgw_message turns[2] = {unit_message(LLMGW_ROLE_USER, "q", NULL, 0), unit_turn(&u, "openrouter")};
    llmgw_request request = unit_talk(turns, 2);
    json_t *body = unit_body("openrouter", "m", &request);
    unit_is(
        body, "messages.1.reasoning_details",
        "[{'type':'reasoning.text','text':'th','index':0},{'type':'reasoning.text','text':'ink','index':0},"
        "{'type':'reasoning.encrypted','data':'a/b/=='}]");
    unit_is(body, "messages.1.content", "'x'");
    json_decref(body);
    body = unit_body("anthropic", "m", &request); /* another provider gets the text only */
    unit_is(body, "messages.1.content", "[{'type':'text','text':'x'}]");
    json_decref(body);
    unit_end(&u);
}

static void test_stream_tool_round_trip(void **state) {
    static const char *const events[] = {
        "{'choices':[{'delta':{'reasoning_content':'hm'}}]}",
        CALLS("{'index':0,'id':'c1','function':{'name':'f','arguments':'{\\'a\\':'}}"),
        CALLS("{'index':0,'function':{'arguments':'1}'}}"), FINISH("tool_calls"), NULL};
    unit_answer u;
    unit_stream(&u, "deepseek", events);
    unit_complete(&u);
    llmgw_part result = unit_tool_result("c1", "ok");
    llmgw_message turns[3] = {unit_message(LLMGW_ROLE_USER, "q", NULL, 0), unit_turn(&u, "deepseek"),
                              unit_message(LLMGW_ROLE_TOOL, NULL, &result, 1)};
    llmgw_request request = unit_talk(turns, 3);
    json_t *body = unit_body("deepseek", "m", &request);
    unit_is(body, "messages.1",
            "{'role':'assistant','content':null,'reasoning_content':'hm','tool_calls':[{'id':'c1',"
            "'type':'function','function':{'name':'f','arguments':'{\\'a\\':1}'}}]}");
    unit_is(body, "messages.2", "{'role':'tool','tool_call_id':'c1','content':'ok'}");
    json_decref(body);
    unit_end(&u);
}

/* Ids that we make up are used again by the next turn of a conversation: they may not collide. */
static void test_made_ids_differ_between_replies(void **state) {
    static const char json[] =
        "{'choices':[{'message':{'tool_calls':[{'function':{'name':'f','arguments':'{}'}}]}}]}";
    unit_answer one, two;
    assert_true(unit_reply(&one, "openai", json));
    assert_true(unit_reply(&two, "openai", json));
    assert_string_not_equal(unit_tool(&one, 0)->id, unit_tool(&two, 0)->id);
    unit_end(&one);
    unit_end(&two);
}

static void test_too_many_parts(void **state) {
    unit_answer u;
    bool good = true;
    unit_begin(&u, "openai", false);
    u.answer->sink = NULL;
    for (int i = 0; i < LLMGW_MAX_PARTS + 1 && good; i++)
        good = unit_event(&u, i % 2 ? "{'choices':[{'delta':{'content':'x'}}]}"
                                    : "{'choices':[{'delta':{'reasoning':'y'}}]}");
    assert_false(good);
    unit_failed(&u, LLMGW_E_TOO_LARGE, "LLMGW_MAX_PARTS");
    unit_end(&u);
}

/* A turn with nothing to say here (another's reasoning, no text) is left out: empty it is a 400. */
static void test_turn_without_content(void **state) { unit_silent_turn("openai", "messages", "content"); }

/* Names count like text: a stream of calls with long names must not outgrow max_reply_bytes. */
static void test_names_are_capped(void **state) {
    static const llmgwi_dialect_target target = {"m", "openai", 0, NULL};
    llmgwi_dialect_answer answer;
    llmgw_code code = LLMGW_OK;
    char event[600];
    llmgwi_dialect_answer_init(&answer, &unit_mem, &target, 2000, 64);
    for (int i = 0; i < 10 && !code; i++) {
        snprintf(event, sizeof event,
                 "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":%d,\"id\":\"%0400d\",\"function\":"
                 "{\"name\":\"f\"}}]}}]}",
                 i, i);
        (void)llmgwi_dialect_openai_event(&answer, llmgwi_base_cstr(""), llmgwi_base_cstr(event));
        code = answer.error.code;
    }
    assert_int_equal(code, LLMGW_E_TOO_LARGE);
    assert_true(answer.piece_count < 7);
    llmgwi_dialect_answer_free(&answer);
}

/* ---- cut anywhere ---- */

static void test_cut_anywhere(void **state) {
    unit_cut_reply("openai",
                   "{'id':'c','choices':[{'message':{'content':'\xC3\xA9 \\u00e9','tool_calls':[{'id':'a',"
                   "'function':{'name':'f','arguments':'{}'}}]},'finish_reason':'stop'}],'usage':{"
                   "'prompt_tokens':1,'completion_tokens':2}}");
    unit_cut_stream("openai",
                    ": keep-alive\r\n\r\ndata: {'choices':[{'delta':{'content':'H\xC3\xA9'}}]}\r\n\r\n"
                    "data: {'choices':[{'delta':{'content':'\\u00e9\xF0\x9F\x98\x80'}}]}\n\n"
                    "data: {'choices':[{'delta':{'tool_calls':[{'index':0,'id':'a','function':{'name':'f',"
                    "'arguments':'{\\'a\\'' }}]}}]}\n\ndata: {'choices':[{'delta':{'tool_calls':[{'index':0,"
                    "'function':{'arguments':':1}'}}]},'finish_reason':'tool_calls'}]}\n\ndata: [DONE]\n\n",
                    "H\xC3\xA9\xC3\xA9\xF0\x9F\x98\x80", "{\"a\":1}");
}

/* DeepSeek and Moonshot know one reasoning_content a message: all of it goes back. */
static void test_replay_of_interleaved_reasoning(void **state) {
    static const char *const events[] = {
        "{'choices':[{'delta':{'reasoning_content':'a'}}]}",
        "{'choices':[{'delta':{'content':'b'}}]}",
        "{'choices':[{'delta':{'reasoning_content':'c'}}]}",
        CALLS("{'index':0,'id':'c1','function':{'name':'f','arguments':'{}'}}"),
        FINISH("tool_calls"),
        NULL};
    unit_answer u;
    unit_stream(&u, "deepseek", events);
    unit_complete(&u);
    llmgw_message turn = unit_turn(&u, "deepseek");
    llmgw_request request = unit_talk(&turn, 1);
    json_t *body = unit_body("deepseek", "m", &request);
    unit_is(body, "messages.0.content", "'b'");
    unit_is(body, "messages.0.reasoning_content", "'ac'");
    json_decref(body);
    unit_end(&u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_images_and_files),
        cmocka_unit_test(test_file_by_url_is_refused),
        cmocka_unit_test(test_tools),
        cmocka_unit_test(test_tool_choice),
        cmocka_unit_test(test_tool_loop),
        cmocka_unit_test(test_results_in_user_turn),
        cmocka_unit_test(test_sampling),
        cmocka_unit_test(test_max_tokens_names),
        cmocka_unit_test(test_schema),
        cmocka_unit_test(test_effort),
        cmocka_unit_test(test_stream_options),
        cmocka_unit_test(test_reasoning_replay),
        cmocka_unit_test(test_details_replay),
        cmocka_unit_test(test_mistral_ids),
        cmocka_unit_test(test_mistral_odd_ids),
        cmocka_unit_test(test_ollama_restrictions),
        cmocka_unit_test(test_bad_utf8_is_named),
        cmocka_unit_test(test_bad_mime_is_named),
        cmocka_unit_test(test_max_request_bytes),
        cmocka_unit_test(test_nul_in_text),
        cmocka_unit_test(test_reply),
        cmocka_unit_test(test_finish_reasons),
        cmocka_unit_test(test_usage_variants),
        cmocka_unit_test(test_billing),
        cmocka_unit_test(test_huge_usage),
        cmocka_unit_test(test_refusal),
        cmocka_unit_test(test_mistral_content_array),
        cmocka_unit_test(test_reasoning_fields),
        cmocka_unit_test(test_reasoning_twice),
        cmocka_unit_test(test_tool_calls),
        cmocka_unit_test(test_call_without_name),
        cmocka_unit_test(test_error_inside_200),
        cmocka_unit_test(test_no_choices),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_depth_and_size),
        cmocka_unit_test(test_other_choices),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_stream_interleaved),
        cmocka_unit_test(test_stream_tools),
        cmocka_unit_test(test_stream_odd_tools),
        cmocka_unit_test(test_stream_calls_index_0_empty_id),
        cmocka_unit_test(test_stream_usage_places),
        cmocka_unit_test(test_stream_xai_usage_repeated),
        cmocka_unit_test(test_stream_errors),
        cmocka_unit_test(test_stream_done_only),
        cmocka_unit_test(test_stream_eof),
        cmocka_unit_test(test_stream_mistral_content),
        cmocka_unit_test(test_stream_refusal),
        cmocka_unit_test(test_stream_details_round_trip),
        cmocka_unit_test(test_stream_tool_round_trip),
        cmocka_unit_test(test_made_ids_differ_between_replies),
        cmocka_unit_test(test_too_many_parts),
        cmocka_unit_test(test_turn_without_content),
        cmocka_unit_test(test_names_are_capped),
        cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_replay_of_interleaved_reasoning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
