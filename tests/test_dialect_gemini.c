/* The gemini dialect: requests out, replies and streams in. */
#include "unit.h"

static const char bad_utf8[] = "ab\xC3(";

/* ---- requests ---- */

static void test_plain(void **state) {
    llmgw_request request = unit_ask("hi");
    json_t *body = unit_body("gemini", "gemini-2.5-flash", &request);
    unit_is(body, "contents", "[{'role':'user','parts':[{'text':'hi'}]}]");
    unit_none(body, "model"); /* it stands in the URL */
    unit_none(body, "systemInstruction");
    unit_none(body, "tools");
    assert_int_equal(json_object_size(unit_at(body, "generationConfig")), 0);
    json_decref(body);
}

static void test_url(void **state) {
    static const struct {
        const char *model, *want;
        bool stream;
    } rows[] = {
        {"gemini-2.5-flash", "https://h/v1beta/models/gemini-2.5-flash:generateContent", false},
        {"gemini-2.5-flash", "https://h/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", true},
        {"a/b c?d#e%\xC3\xA9", "https://h/v1beta/models/a%2Fb%20c%3Fd%23e%25%C3%A9:generateContent", false},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_base_buf url;
        llmgwi_base_buf_init(&url, &unit_mem, 8192);
        assert_true(llmgwi_dialect_url(llmgwi_dialect_find("gemini"), "https://h/v1beta", rows[i].model,
                                       rows[i].stream, &url));
        assert_string_equal(url.p, rows[i].want);
        llmgwi_base_buf_free(&url);
    }
}

static void test_system_and_merging(void **state) {
    llmgw_message turns[5] = {
        unit_message(LLMGW_ROLE_SYSTEM, "s", NULL, 0), unit_message(LLMGW_ROLE_USER, "a", NULL, 0),
        unit_message(LLMGW_ROLE_USER, "b", NULL, 0), unit_message(LLMGW_ROLE_ASSISTANT, "c", NULL, 0),
        unit_message(LLMGW_ROLE_ASSISTANT, "d", NULL, 0)};
    llmgw_request request = unit_talk(turns, 5);
    request.system = "first";
    request.prompt = "e";
    json_t *body = unit_body("gemini", "m", &request);
    unit_is(body, "systemInstruction", "{'parts':[{'text':'first'},{'text':'s'}]}");
    unit_is(body, "contents",
            "[{'role':'user','parts':[{'text':'a'},{'text':'b'}]},"
            "{'role':'model','parts':[{'text':'c'},{'text':'d'}]},{'role':'user','parts':[{'text':'e'}]}]");
    json_decref(body);
}

static void test_images_and_files(void **state) {
    llmgw_part parts[4] = {
        unit_bytes(LLMGW_PART_IMAGE, NULL, NULL, "abc"), unit_url(LLMGW_PART_IMAGE, "https://x/y.png"),
        unit_bytes(LLMGW_PART_FILE, NULL, "a.pdf", "%PDF"), unit_url(LLMGW_PART_FILE, "https://x/y.pdf")};
    parts[3].mime = "application/pdf";
    llmgw_message turn = unit_message(LLMGW_ROLE_USER, NULL, parts, 4);
    llmgw_request request = unit_talk(&turn, 1);
    json_t *body = unit_body("gemini", "m", &request);
    unit_is(
        body, "contents.0.parts",
        "[{'inlineData':{'mimeType':'image/png','data':'YWJj'}},{'fileData':{'fileUri':'https://x/y.png'}},"
        "{'inlineData':{'mimeType':'application/pdf','data':'JVBERg=='}},"
        "{'fileData':{'mimeType':'application/pdf','fileUri':'https://x/y.pdf'}}]");
    json_decref(body);
}

static llmgw_request with_tools(llmgw_tool_mode mode) {
    static const llmgw_tool tools[2] = {{"f", "does f", "{\"type\":\"object\",\"properties\":{}}", true},
                                        {"g", NULL, NULL, false}};
    llmgw_request request = unit_ask("hi");
    request.tools = tools;
    request.tool_count = 2;
    request.tool_mode = mode;
    request.tool_name = "g";
    return request;
}

static void test_tools(void **state) {
    static const struct {
        llmgw_tool_mode mode;
        const char *want;
    } rows[] = {
        {LLMGW_TOOLS_AUTO, NULL},
        {LLMGW_TOOLS_NONE, "{'functionCallingConfig':{'mode':'NONE'}}"},
        {LLMGW_TOOLS_REQUIRED, "{'functionCallingConfig':{'mode':'ANY'}}"},
        {LLMGW_TOOLS_ONE, "{'functionCallingConfig':{'mode':'ANY','allowedFunctionNames':['g']}}"},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_request request = with_tools(rows[i].mode);
        json_t *body = unit_body("gemini", "m", &request);
        unit_is(
            body, "tools.0.functionDeclarations.0",
            "{'name':'f','description':'does f','parametersJsonSchema':{'type':'object','properties':{}}}");
        unit_is(body, "tools.0.functionDeclarations.1.name", "'g'");
        unit_none(body, "tools.0.functionDeclarations.1.parametersJsonSchema");
        unit_is(body, "toolConfig", rows[i].want);
        json_decref(body);
    }
}

static void test_tool_loop(void **state) {
    llmgw_part calls[3] = {unit_tool_call("real1", "f", "{\"a\":1}"), unit_tool_call("real2", "g", NULL),
                           unit_tool_call("real3", "h", "{}")};
    llmgw_part results[3] = {unit_tool_result("real2", "{\"temp\": 21}"), unit_tool_result("real1", "plain"),
                             unit_tool_result("real3", "broke")};
    results[2].is_error = true;
    llmgw_message turns[4] = {
        unit_message(LLMGW_ROLE_USER, "q", NULL, 0), unit_message(LLMGW_ROLE_ASSISTANT, NULL, calls, 3),
        unit_message(LLMGW_ROLE_USER, "also", NULL, 0), unit_message(LLMGW_ROLE_TOOL, NULL, results, 3)};
    llmgw_request request = unit_talk(turns, 4);
    json_t *body = unit_body("gemini", "m", &request);
    unit_is(body, "contents.1",
            "{'role':'model','parts':[{'functionCall':{'id':'real1','name':'f','args':{'a':1}}},"
            "{'functionCall':{'id':'real2','name':'g','args':{}}},"
            "{'functionCall':{'id':'real3','name':'h','args':{}}}]}");
    unit_is(body, "contents.2",
            "{'role':'user','parts':[{'functionResponse':{'id':'real2','name':'g','response':{'temp':21}}},"
            "{'functionResponse':{'id':'real1','name':'f','response':{'result':'plain'}}},"
            "{'functionResponse':{'id':'real3','name':'h','response':{'error':'broke'}}},{'text':'also'}]}");
    unit_none(body, "contents.3");
    json_decref(body);
    body = unit_body("vertex", "m", &request); /* it refuses ids: "Cannot find field" */
    unit_is(body, "contents.1.parts.0", "{'functionCall':{'name':'f','args':{'a':1}}}");
    unit_is(body, "contents.2.parts.0", "{'functionResponse':{'name':'g','response':{'temp':21}}}");
    json_decref(body);
}

/* What is no object is wrapped: JSON of another kind, bad JSON, nothing. */
static void test_result_wrapping(void **state) {
    static const struct {
        const char *text, *want;
    } rows[] = {{"[1,2]", "{'result':'[1,2]'}"},
                {"\"x\"", "{'result':'\\'x\\''}"},
                {"{\"a\":1", "{'result':'{\\'a\\':1'}"},
                {"", "{'result':''}"},
                {" {\"a\":{}} ", "{'a':{}}"}};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_part part = unit_tool_result("id", rows[i].text);
        part.name = "named";
        llmgw_message turn = unit_message(LLMGW_ROLE_TOOL, NULL, &part, 1);
        llmgw_request request = unit_talk(&turn, 1);
        json_t *body = unit_body("gemini", "m", &request);
        unit_is(body, "contents.0.parts.0.functionResponse.response", rows[i].want);
        unit_is(body, "contents.0.parts.0.functionResponse.name", "'named'");
        json_decref(body);
    }
}

static const char call_json[] =
    "{'candidates':[{'content':{'parts':[{'functionCall':{'name':'%s','args':{}}}],"
    "'role':'model'},'finishReason':'STOP'}]}";

/* Two turns of a tool loop, no ids on the wire: none goes back, and each result bears its own tool's name. */
static void test_result_name_of_the_right_turn(void **state) {
    unit_answer one, two;
    char json[512];
    snprintf(json, sizeof json, call_json, "weather");
    assert_true(unit_reply(&one, "gemini", json));
    snprintf(json, sizeof json, call_json, "clock");
    assert_true(unit_reply(&two, "gemini", json));
    llmgw_message turns[5] = {unit_message(LLMGW_ROLE_USER, "q", NULL, 0), unit_turn(&one, "gemini"),
                              unit_message(LLMGW_ROLE_TOOL, NULL, NULL, 1), unit_turn(&two, "gemini"),
                              unit_message(LLMGW_ROLE_TOOL, NULL, NULL, 1)};
    llmgw_part results[2] = {unit_tool_result(turns[1].parts[0].id, "1"),
                             unit_tool_result(turns[3].parts[0].id, "2")};
    turns[2].parts = &results[0];
    turns[4].parts = &results[1];
    llmgw_request request = unit_talk(turns, 5);
    json_t *body = unit_body("gemini", "m", &request);
    unit_is(body, "contents.1.parts.0.functionCall", "{'name':'weather','args':{}}");
    unit_is(body, "contents.2.parts.0.functionResponse", "{'name':'weather','response':{'result':'1'}}");
    unit_is(body, "contents.3.parts.0.functionCall", "{'name':'clock','args':{}}");
    unit_is(body, "contents.4.parts.0.functionResponse", "{'name':'clock','response':{'result':'2'}}");
    json_decref(body);
    unit_end(&one);
    unit_end(&two);
}

static void test_config(void **state) {
    static const char *const stop[1] = {"END"};
    llmgw_request request = unit_ask("hi");
    request.temperature = request.top_p = llmgw_set(0);
    request.top_k = llmgw_set(40);
    request.seed = llmgw_set(-7);
    request.frequency_penalty = llmgw_set(0.5);
    request.presence_penalty = llmgw_set(-2);
    request.stop = stop;
    request.stop_count = 1;
    request.max_tokens = 10;
    request.schema = "{\"type\":\"object\"}";
    json_t *body = unit_body("gemini", "m", &request), *config = unit_at(body, "generationConfig");
    assert_true(json_is_number(unit_at(config, "temperature")));
    assert_true(json_number_value(unit_at(config, "temperature")) == 0);
    assert_true(json_is_number(unit_at(config, "topP")));
    unit_is(config, "topK", "40");
    unit_is(config, "seed", "-7");
    unit_is(config, "frequencyPenalty", "0.5");
    assert_true(json_number_value(unit_at(config, "presencePenalty")) == -2);
    unit_is(config, "stopSequences", "['END']");
    unit_is(config, "maxOutputTokens", "10");
    unit_is(config, "responseMimeType", "'application/json'");
    unit_is(config, "responseJsonSchema", "{'type':'object'}");
    json_decref(body);
}

static void test_effort(void **state) {
    static const struct {
        const char *model;
        llmgw_effort effort;
        const char *want;
    } rows[] = {
        {"gemini-2.5-flash", LLMGW_EFFORT_DEFAULT, NULL},
        {"gemini-2.5-flash", LLMGW_EFFORT_NONE, "{'includeThoughts':false,'thinkingBudget':0}"},
        {"gemini-2.5-flash", LLMGW_EFFORT_LOW, "{'includeThoughts':true,'thinkingBudget':1024}"},
        {"gemini-2.5-pro", LLMGW_EFFORT_HIGH, "{'includeThoughts':true,'thinkingBudget':24576}"},
        {"gemini-3.1-pro-preview", LLMGW_EFFORT_NONE, "{'includeThoughts':true,'thinkingLevel':'LOW'}"},
        {"gemini-3.5-flash", LLMGW_EFFORT_NONE, "{'includeThoughts':false,'thinkingLevel':'MINIMAL'}"},
        {"gemini-3.5-flash", LLMGW_EFFORT_LOW, "{'includeThoughts':true,'thinkingLevel':'LOW'}"},
        {"gemini-3.5-flash", LLMGW_EFFORT_MEDIUM, "{'includeThoughts':true,'thinkingLevel':'MEDIUM'}"},
        {"gemini-3.5-flash", LLMGW_EFFORT_HIGH, "{'includeThoughts':true,'thinkingLevel':'HIGH'}"},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_request request = unit_ask("hi");
        request.effort = rows[i].effort;
        json_t *body = unit_body("gemini", rows[i].model, &request);
        unit_is(body, "generationConfig.thinkingConfig", rows[i].want);
        json_decref(body);
    }
}

static void test_signatures_stay_on_their_parts(void **state) {
    llmgw_part parts[4] = {unit_thought("hm", "s1", "gemini"), unit_part(LLMGW_PART_TEXT, "said"),
                           unit_tool_call("c1", "f", NULL), unit_tool_call("c2", "g", NULL)};
    for (int i = 1; i < 3; i++) {
        parts[i].signature = i == 1 ? "s2" : "s3";
        parts[i].origin = "gemini";
    }
    llmgw_message turns[2] = {unit_message(LLMGW_ROLE_USER, "q", NULL, 0),
                              unit_message(LLMGW_ROLE_ASSISTANT, NULL, parts, 4)};
    llmgw_request request = unit_talk(turns, 2);
    json_t *body = unit_body("gemini", "m", &request);
    unit_is(body, "contents.1.parts",
            "[{'text':'hm','thought':true,'thoughtSignature':'s1'},{'text':'said','thoughtSignature':'s2'},"
            "{'functionCall':{'id':'c1','name':'f','args':{}},'thoughtSignature':'s3'},"
            "{'functionCall':{'id':'c2','name':'g','args':{}}}]");
    json_decref(body);
    for (int i = 0; i < 3; i++) parts[i].origin = "anthropic"; /* route-bound: stripped elsewhere */
    body = unit_body("gemini", "m", &request);
    unit_is(body, "contents.1.parts",
            "[{'text':'said'},{'functionCall':{'id':'c1','name':'f','args':{}}},"
            "{'functionCall':{'id':'c2','name':'g','args':{}}}]");
    json_decref(body);
}

static void test_bad_utf8_is_named(void **state) {
    llmgw_part part = unit_bytes(LLMGW_PART_IMAGE, bad_utf8, NULL, "abc");
    llmgw_message turn = unit_message(LLMGW_ROLE_USER, NULL, &part, 1);
    llmgw_request request = unit_talk(&turn, 1);
    unit_has(unit_refusal("gemini", "m", &request).text,
             "request.messages[0].parts[0].mime: bad UTF-8 at byte 2");
    part = unit_tool_result("id", bad_utf8);
    unit_has(unit_refusal("gemini", "m", &request).text, "request.messages[0].parts[0].text:");
    part = unit_tool_result(bad_utf8, "x");
    unit_has(unit_refusal("gemini", "m", &request).text, "request.messages[0].parts[0].id:");
    turn = unit_message(LLMGW_ROLE_SYSTEM, bad_utf8, NULL, 0);
    request.prompt = "q";
    unit_has(unit_refusal("gemini", "m", &request).text, "request.messages[0].text:");
}

/* ---- replies ---- */

static void test_reply(void **state) {
    unit_answer u;
    assert_true(unit_reply(
        &u, "gemini",
        "{'candidates':[{'content':{'parts':[{'text':'hm','thought':true},{'text':'Hel'},{'text':'lo'},"
        "{'executableCode':{'code':'x'}}],'role':'model'},'finishReason':'STOP','index':0,'avgLogprobs':-0.1}"
        "],"
        "'usageMetadata':{'promptTokenCount':10,'cachedContentTokenCount':4,'toolUsePromptTokenCount':3,"
        "'candidatesTokenCount':5,'thoughtsTokenCount':7,'totalTokenCount':25},"
        "'modelVersion':'gemini-x-001','responseId':'r1'}"));
    unit_text(&u, "Hello");
    unit_reasoning(&u, "hm");
    assert_int_equal(u.answer->finish, LLMGW_FINISH_STOP);
    assert_string_equal(u.answer->id, "r1");
    assert_string_equal(u.answer->model, "gemini-x-001");
    unit_usage(&u, 13, 12, 4, 0, 0, 7);
    unit_end(&u);
}

static void test_finish_reasons(void **state) {
    static const struct {
        const char *reason;
        llmgw_finish finish; /* NONE: an error */
    } rows[] = {{"STOP", LLMGW_FINISH_STOP},
                {"MAX_TOKENS", LLMGW_FINISH_LENGTH},
                {"SAFETY", LLMGW_FINISH_FILTER},
                {"RECITATION", LLMGW_FINISH_FILTER},
                {"BLOCKLIST", LLMGW_FINISH_FILTER},
                {"PROHIBITED_CONTENT", LLMGW_FINISH_FILTER},
                {"SPII", LLMGW_FINISH_FILTER},
                {"IMAGE_SAFETY", LLMGW_FINISH_FILTER},
                {"IMAGE_PROHIBITED_CONTENT", LLMGW_FINISH_FILTER},
                {"IMAGE_RECITATION", LLMGW_FINISH_FILTER},
                {"IMAGE_OTHER", LLMGW_FINISH_FILTER},
                {"MALFORMED_FUNCTION_CALL", LLMGW_FINISH_NONE},
                {"UNEXPECTED_TOOL_CALL", LLMGW_FINISH_NONE},
                {"TOO_MANY_TOOL_CALLS", LLMGW_FINISH_NONE},
                {"OTHER", LLMGW_FINISH_NONE},
                {"LANGUAGE", LLMGW_FINISH_NONE},
                {"NO_IMAGE", LLMGW_FINISH_NONE},
                {"NEVER_SEEN", LLMGW_FINISH_STOP}};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        char json[256];
        unit_answer u;
        snprintf(json, sizeof json, "{'candidates':[{'finishReason':'%s'}]}",
                 rows[i].reason); /* no content */
        bool good = unit_reply(&u, "gemini", json);
        assert_int_equal(good, rows[i].finish != LLMGW_FINISH_NONE);
        assert_int_equal(u.answer->finish, rows[i].finish);
        if (!good) unit_failed(&u, LLMGW_E_PROVIDER, rows[i].reason);
        unit_end(&u);
    }
}

static void test_calls(void **state) {
    unit_answer u;
    assert_true(
        unit_reply(&u, "gemini",
                   "{'candidates':[{'content':{'parts':[{'text':'ok'},{'functionCall':{'name':'f',"
                   "'args':{'a':'\\u00e9'}},'thoughtSignature':'s1'},{'functionCall':{'id':'real',"
                   "'name':'g','args':{}}},{'functionCall':{'name':'h'}}]},'finishReason':'STOP'}]}"));
    unit_text(&u, "ok");
    unit_call(&u, 0, NULL, "f", "{'a':'\xC3\xA9'}");
    unit_call(&u, 1, "real", "g", "{}");
    unit_call(&u, 2, NULL, "h", "{}");
    assert_string_not_equal(unit_tool(&u, 0)->id, unit_tool(&u, 2)->id);
    assert_int_equal(u.answer->finish, LLMGW_FINISH_TOOL);
    llmgw_message turn = unit_turn(&u, "gemini");
    llmgw_request request = unit_talk(&turn, 1);
    json_t *body = unit_body("gemini", "m", &request); /* the real id goes back, those made up do not */
    unit_is(body, "contents.1.parts",
            "[{'text':'ok'},{'functionCall':{'name':'f','args':{'a':'\\u00e9'}},'thoughtSignature':'s1'},"
            "{'functionCall':{'id':'real','name':'g','args':{}}},{'functionCall':{'name':'h','args':{}}}]");
    json_decref(body);
    unit_end(&u);
}

static void test_prompt_blocked(void **state) {
    unit_answer u;
    assert_true(unit_reply(&u, "gemini",
                           "{'promptFeedback':{'blockReason':'SAFETY','safetyRatings':[]},"
                           "'usageMetadata':{'promptTokenCount':4,'totalTokenCount':4}}"));
    assert_int_equal(u.answer->finish, LLMGW_FINISH_FILTER);
    assert_string_equal(llmgwi_base_buf_cstr(&u.answer->refusal), "SAFETY");
    unit_usage(&u, 4, 0, 0, 0, 0, 0);
    unit_end(&u);
    assert_true(unit_reply(&u, "gemini",
                           "{'promptFeedback':{'blockReasonMessage':'too rude','blockReason':'OTHER'}}"));
    assert_string_equal(llmgwi_base_buf_cstr(&u.answer->refusal), "too rude");
    unit_end(&u);
    static const char *const events[] = {"{'promptFeedback':{'blockReason':'BLOCKLIST'}}", NULL};
    unit_stream(&u, "gemini", events);
    unit_complete(&u);
    assert_int_equal(u.answer->finish, LLMGW_FINISH_FILTER);
    unit_end(&u);
}

static void test_bad_replies(void **state) {
    static const struct {
        const char *json, *text;
        llmgw_code code;
    } rows[] = {
        {"{}", "no candidates", LLMGW_E_PROTOCOL},
        {"{'candidates':[]}", "no candidates", LLMGW_E_PROTOCOL},
        {"{'promptFeedback':{}}", "no candidates", LLMGW_E_PROTOCOL},
        {"{'error':{'code':503,'message':'busy','status':'UNAVAILABLE'}}", "busy", LLMGW_E_OVERLOADED},
        {"[{'error':{'code':429,'message':'slow','status':'RESOURCE_EXHAUSTED'}}]", "slow",
         LLMGW_E_RATE_LIMITED},
        {"{'candidates':[{'content':{'parts':[{'functionCall':{'args':{}}}]}}]}", "no name",
         LLMGW_E_PROTOCOL},
        {"{'candidates'", "at byte 13", LLMGW_E_PROTOCOL},
        {"[{'candidates':[]}", "at byte 18", LLMGW_E_PROTOCOL},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        unit_answer u;
        assert_false(unit_reply(&u, "gemini", rows[i].json));
        unit_failed(&u, rows[i].code, rows[i].text);
        unit_end(&u);
    }
}

static void test_huge_usage(void **state) {
    unit_answer u;
    assert_true(
        unit_reply(&u, "gemini",
                   "{'candidates':[{'content':{'parts':[{'text':'x'}]}}],'usageMetadata':{"
                   "'promptTokenCount':9223372036854775807,'toolUsePromptTokenCount':9223372036854775807,"
                   "'candidatesTokenCount':9223372036854775807,'thoughtsTokenCount':9223372036854775807}}"));
    assert_true(u.answer->usage.input >= 0);
    assert_true(u.answer->usage.output >= 0);
    unit_end(&u);
}

/* ---- streams ---- */

#define PARTS(...) "{'candidates':[{'content':{'parts':[" __VA_ARGS__ "],'role':'model'},'index':0}]}"
#define LAST "{'candidates':[{'content':{'parts':[{'text':''}]},'finishReason':'STOP'}]}"

static void test_stream(void **state) {
    static const char *const events[] = {
        "{'candidates':[{'content':{'parts':[{'text':'plan','thought':true}]}}],'usageMetadata':{"
        "'promptTokenCount':5,'thoughtsTokenCount':2,'totalTokenCount':7},'responseId':'r','modelVersion':'v'"
        "}",
        "{'candidates':[{'content':{'parts':[{'text':'Hel'}]}}],'usageMetadata':{'promptTokenCount':5,"
        "'candidatesTokenCount':1,'thoughtsTokenCount':2}}",
        "{'candidates':[{'content':{'parts':[{'text':'lo'}]},'finishReason':'STOP'}],'usageMetadata':{"
        "'promptTokenCount':5,'candidatesTokenCount':4,'thoughtsTokenCount':2}}",
        NULL};
    unit_answer u;
    unit_stream(&u, "gemini", events);
    unit_complete(&u);
    unit_text(&u, "Hello");
    unit_reasoning(&u, "plan");
    assert_string_equal(u.order, "RT");
    unit_usage(&u, 5, 6, 0, 0, 0, 2); /* the last counts, not the sum */
    assert_string_equal(u.answer->id, "r");
    unit_end(&u);
}

static void test_stream_eof(void **state) {
    unit_answer u;
    unit_begin(&u, "gemini", true);
    assert_true(unit_event(&u, PARTS("{'text':'x'}")));
    assert_false(llmgwi_dialect_complete(u.dialect, u.answer));
    assert_true(unit_event(&u, LAST));
    assert_true(llmgwi_dialect_complete(u.dialect, u.answer));
    unit_end(&u);
}

static void test_stream_errors(void **state) {
    static const struct {
        const char *json;
        llmgw_code code;
    } rows[] = {
        {"{'error':{'code':500,'message':'why','status':'INTERNAL'}}", LLMGW_E_PROVIDER},
        {"[{'error':{'code':503,'message':'why','status':'UNAVAILABLE'}}]", LLMGW_E_OVERLOADED},
        {"{'error':{'code':429,'message':'why','status':'RESOURCE_EXHAUSTED'}}", LLMGW_E_RATE_LIMITED},
        {"{'error':{'code':400,'message':'why','status':'INVALID_ARGUMENT'}}", LLMGW_E_BAD_REQUEST}};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        unit_answer u;
        unit_begin(&u, "gemini", true);
        assert_true(unit_event(&u, PARTS("{'text':'x'}")));
        assert_false(unit_event(&u, rows[i].json));
        unit_failed(&u, rows[i].code, "why");
        assert_false(llmgwi_dialect_complete(u.dialect, u.answer));
        unit_end(&u);
    }
}

/* Where a signature stands: on text, on a thought, on a call, alone on an empty part. */
static void test_stream_signatures_round_trip(void **state) {
    static const char *const events[] = {
        PARTS("{'text':'hm','thought':true,'thoughtSignature':'s0'}"),
        PARTS("{'text':'Hel'}"),
        PARTS("{'text':'lo','thoughtSignature':'s1'}"),
        PARTS("{'text':' you'}"),
        PARTS("{'functionCall':{'name':'f','args':{'a':1}},'thoughtSignature':'s2'}"),
        PARTS("{'functionCall':{'name':'g','args':{}}}"),
        PARTS("{'text':'','thoughtSignature':'s3'}"),
        "{'candidates':[{'finishReason':'STOP'}]}",
        NULL};
    unit_answer u;
    unit_stream(&u, "gemini", events);
    unit_complete(&u);
    unit_text(&u, "Hello you");
    assert_int_equal(u.answer->finish, LLMGW_FINISH_TOOL);
    llmgw_message turn = unit_turn(&u, "gemini");
    llmgw_request request = unit_talk(&turn, 1);
    json_t *body = unit_body("gemini", "m", &request);
    unit_is(body, "contents.1.parts",
            "[{'text':'hm','thought':true,'thoughtSignature':'s0'},{'text':'Hello','thoughtSignature':'s1'},"
            "{'text':' you'},{'functionCall':{'name':'f','args':{'a':1}},'thoughtSignature':'s2'},"
            "{'functionCall':{'name':'g','args':{}}},{'text':'','thoughtSignature':'s3'}]");
    json_decref(body);
    body = unit_body("openai", "m", &request);
    unit_none(body, "messages.0.thoughtSignature");
    unit_is(body, "messages.0.tool_calls.0.function.arguments", "'{\\'a\\':1}'");
    json_decref(body);
    unit_end(&u);
}

/* ---- Vertex's partialArgs ---- */

#define CALL(...) PARTS("{'functionCall':{" __VA_ARGS__ "}}")

typedef struct partial_row {
    const char *what, *want;
    const char *events[12];
} partial_row;

static const partial_row partial_rows[] = {
    {"scalars",
     "{'a':1,'b':true,'c':null,'d':'x','e':-1.5}",
     {CALL("'name':'f','willContinue':true"),
      CALL("'partialArgs':[{'jsonPath':'$.a','numberValue':1},{'jsonPath':'$.b','boolValue':true}],'"
           "willContinue':true"),
      CALL("'partialArgs':[{'jsonPath':'$.c','nullValue':'NULL_VALUE'},{'jsonPath':'$.d','stringValue':'x'},"
           "{'jsonPath':'$.e','numberValue':-1.5}],'willContinue':true"),
      CALL(""), LAST, NULL}},
    {"a string in pieces",
     "{'city':'San Jos\\u00e9','n':2}",
     {CALL("'name':'f','willContinue':true"),
      CALL("'partialArgs':[{'jsonPath':'$.city','stringValue':'San "
           "','willContinue':true}],'willContinue':true"),
      CALL("'partialArgs':[{'jsonPath':'$.city','stringValue':'Jos\\u00e9','willContinue':true}],'"
           "willContinue':true"),
      CALL("'partialArgs':[{'jsonPath':'$.city','stringValue':''}],'willContinue':true"),
      CALL("'partialArgs':[{'jsonPath':'$.n','numberValue':2}]"), LAST, NULL}},
    {"a string left open by the next path",
     "{'a':'xy','b':'z'}",
     {CALL("'name':'f','partialArgs':[{'jsonPath':'$.a','stringValue':'x','willContinue':true}],'"
           "willContinue':true"),
      CALL("'partialArgs':[{'jsonPath':'$.a','stringValue':'y','willContinue':true}],'willContinue':true"),
      CALL("'partialArgs':[{'jsonPath':'$.b','stringValue':'z'}]"), LAST, NULL}},
    {"nested objects",
     "{'a':{'b':{'c':1,'d':2},'e':3},'f':4}",
     {CALL("'name':'f','willContinue':true"),
      CALL("'partialArgs':[{'jsonPath':'$.a.b.c','numberValue':1},{'jsonPath':'$.a.b.d','numberValue':2}],"
           "'willContinue':true"),
      CALL("'partialArgs':[{'jsonPath':'$.a.e','numberValue':3}],'willContinue':true"),
      CALL("'partialArgs':[{'jsonPath':'$.f','numberValue':4}],'willContinue':true"), CALL(""), LAST, NULL}},
    {"arrays",
     "{'l':['x','yz',{'k':1,'m':[2,3]},{'k':4}],'z':[[1],[2]]}",
     {CALL("'name':'f','willContinue':true"),
      CALL("'partialArgs':[{'jsonPath':'$.l[0]','stringValue':'x'}],'willContinue':true"),
      CALL("'partialArgs':[{'jsonPath':'$.l[1]','stringValue':'y','willContinue':true}],'willContinue':true"),
      CALL("'partialArgs':[{'jsonPath':'$.l[1]','stringValue':'z'},{'jsonPath':'$.l[2].k','numberValue':1}],"
           "'willContinue':true"),
      CALL("'partialArgs':[{'jsonPath':'$.l[2].m[0]','numberValue':2},{'jsonPath':'$.l[2].m[1]','numberValue'"
           ":3}],"
           "'willContinue':true"),
      CALL("'partialArgs':[{'jsonPath':'$.l[3].k','numberValue':4}],'willContinue':true"),
      CALL(
          "'partialArgs':[{'jsonPath':'$.z[0][0]','numberValue':1},{'jsonPath':'$.z[1][0]','numberValue':2}],"
          "'willContinue':true"),
      CALL(""), LAST, NULL}},
    {"keys in brackets, names that begin alike",
     "{'a b':1,'ab':2,'a':{'x':3}}",
     {CALL("'name':'f','willContinue':true"),
      CALL("'partialArgs':[{'jsonPath':'$[\\u0027a "
           "b\\u0027]','numberValue':1},{'jsonPath':'$.ab','numberValue':2},"
           "{'jsonPath':'$.a.x','numberValue':3}]"),
      LAST, NULL}},
    {"escapes in strings",
     "{'q':'say \\'hi\\'\\n\\\\ \\u20ac'}",
     {CALL("'name':'f','willContinue':true"),
      CALL("'partialArgs':[{'jsonPath':'$.q','stringValue':'say "
           "\\'hi\\'\\n','willContinue':true}],'willContinue':true"),
      CALL("'partialArgs':[{'jsonPath':'$.q','stringValue':'\\\\ \\u20ac'}]"), LAST, NULL}},
    {"no arguments at all", "{}", {CALL("'name':'f','willContinue':true"), CALL(""), LAST, NULL}},
    {"all in one part",
     "{'a':1,'b':{'c':'x'}}",
     {CALL("'name':'f','partialArgs':[{'jsonPath':'$.a','numberValue':1},{'jsonPath':'$.b.c','stringValue':'"
           "x'}]"),
      LAST, NULL}},
    {"opened and filled in one part",
     "{'a':1}",
     {CALL("'name':'f','willContinue':true,'partialArgs':[{'jsonPath':'$.a','numberValue':1}]"), CALL(""),
      LAST, NULL}},
};

static void test_partial_args(void **state) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(partial_rows); i++) {
        unit_answer u;
        unit_stream(&u, "gemini", partial_rows[i].events);
        unit_complete(&u);
        unit_call(&u, 0, NULL, "f", partial_rows[i].want);
        assert_int_equal(u.answer->tool_count, 1);
        assert_int_equal(u.answer->finish, LLMGW_FINISH_TOOL);
        unit_end(&u);
    }
}

static void test_partial_args_two_calls(void **state) {
    static const char *const events[] = {
        CALL("'name':'f','willContinue':true"),
        CALL("'partialArgs':[{'jsonPath':'$.a','stringValue':'x'}],'willContinue':true"),
        CALL(""),
        CALL("'name':'g','willContinue':true"),
        CALL("'partialArgs':[{'jsonPath':'$.a','stringValue':'y','willContinue':true}],'willContinue':true"),
        CALL("'partialArgs':[{'jsonPath':'$.a','stringValue':'z'}]"),
        CALL("'name':'h','args':{'k':1}"),
        LAST,
        NULL};
    unit_answer u;
    unit_stream(&u, "gemini", events);
    unit_complete(&u);
    unit_call(&u, 0, NULL, "f", "{'a':'x'}");
    unit_call(&u, 1, NULL, "g", "{'a':'yz'}");
    unit_call(&u, 2, NULL, "h", "{'k':1}");
    assert_string_equal(u.order, "012");
    unit_end(&u);
}

/* Nobody closes a call: its arguments are JSON all the same, or the answer is an error. */
static void test_partial_args_unclosed(void **state) {
    static const char *const nexts[] = {LAST, CALL("'name':'g','args':{}"),
                                        CALL("'name':'g','willContinue':true")};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(nexts); i++) {
        unit_answer u;
        unit_begin(&u, "gemini", true);
        assert_true(unit_event(&u, CALL("'name':'f','willContinue':true")));
        assert_true(
            unit_event(&u, CALL("'partialArgs':[{'jsonPath':'$.a.b','stringValue':'x','willContinue':true}],"
                                "'willContinue':true")));
        bool good = unit_event(&u, nexts[i]) && (i == 0 || unit_event(&u, LAST));
        if (good) unit_complete(&u);
        if (good && !u.answer->error.code) unit_call(&u, 0, NULL, "f", "{'a':{'b':'x'}}");
        unit_end(&u);
    }
}

/* Nonsense is an error or passed over, never a crash. */
static void test_partial_args_nonsense(void **state) {
    static const char *const rows[] = {
        CALL("'partialArgs':[{'jsonPath':'$.a','numberValue':1}]"),
        CALL("'name':'f','willContinue':true,'partialArgs':[{'jsonPath':'$.a','numberValue':1},"
             "{'jsonPath':'$.a','numberValue':2}]"),
        CALL("'name':'f','willContinue':true,'partialArgs':[{'jsonPath':'','numberValue':1}]"),
        CALL("'name':'f','willContinue':true,'partialArgs':[{'jsonPath':'$','numberValue':1}]"),
        CALL("'name':'f','willContinue':true,'partialArgs':[{'jsonPath':'$[','numberValue':1}]"),
        CALL("'name':'f','willContinue':true,'partialArgs':[{'jsonPath':'$...','numberValue':1}]"),
        CALL("'name':'f','willContinue':true,'partialArgs':[{'jsonPath':'$.a.b','numberValue':1},"
             "{'jsonPath':'$.a','numberValue':1}]"),
        CALL("'name':'f','willContinue':true,'partialArgs':[1,null,'x',[]]"),
        CALL("'name':'f','partialArgs':{'jsonPath':'$.a'}"),
        CALL("'name':'f','willContinue':true,'partialArgs':[{}]"),
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        unit_answer u;
        unit_begin(&u, "gemini", true);
        (void)unit_event(&u, rows[i]);
        assert_true(u.answer->error.code == LLMGW_OK || u.answer->error.code == LLMGW_E_PROTOCOL);
        unit_end(&u);
    }
}

static void test_partial_args_long_path(void **state) {
    static char json[2048], path[600];
    unit_answer u;
    for (size_t i = 0; i + 2 < sizeof path; i += 2) memcpy(path + i, ".k", 3);
    snprintf(json, sizeof json,
             CALL("'name':'f','willContinue':true,'partialArgs':[{'jsonPath':'$%s','numberValue':1}]"), path);
    unit_begin(&u, "gemini", true);
    assert_false(unit_event(&u, json));
    unit_failed(&u, LLMGW_E_PROTOCOL, "partialArgs");
    unit_end(&u);
}

/* A turn with nothing to say here (another's reasoning, no text) is left out: empty it is a 400. */
static void test_turn_without_content(void **state) { unit_silent_turn("gemini", "contents", "parts"); }

/* Without alt=sse a stream comes as an array of bodies: the same as one after the other. */
static void test_array_of_bodies(void **state) {
    unit_answer u;
    assert_true(unit_reply(&u, "gemini",
                           "[{'candidates':[{'content':{'parts':[{'text':'a'}]}}]},\r\n"
                           "{'candidates':[{'content':{'parts':[{'text':'b'}]},'finishReason':'MAX_TOKENS'}],"
                           "'usageMetadata':{'promptTokenCount':3,'candidatesTokenCount':2}}]"));
    unit_text(&u, "ab");
    assert_int_equal(u.answer->finish, LLMGW_FINISH_LENGTH);
    assert_int_equal(u.answer->usage.input, 3);
    unit_end(&u);
    assert_false(unit_reply(&u, "gemini", "[{'candidates':[]},{'error':{'code':503,'message':'no'}}]"));
    assert_int_equal(u.answer->error.code, LLMGW_E_OVERLOADED);
    unit_end(&u);
    assert_false(unit_reply(&u, "gemini", "[1]"));
    assert_int_equal(u.answer->error.code, LLMGW_E_PROTOCOL);
    unit_end(&u);
}

/* ---- cut anywhere ---- */

static void test_cut_anywhere(void **state) {
    unit_cut_reply("gemini",
                   "{'candidates':[{'content':{'parts':[{'text':'\xC3\xA9'},{'functionCall':{'name':'f',"
                   "'args':{'a':1}}}]},'finishReason':'STOP'}],'usageMetadata':{'promptTokenCount':1}}");
    unit_cut_stream("gemini",
                    "data: " PARTS("{'text':'H\xC3\xA9'}") "\r\n\r\ndata: " PARTS(
                        "{'functionCall':{'name':'f','args':{'a':1}},'thoughtSignature':'s'}") "\r\n\r\n"
                                                                                               "data: " LAST
                                                                                               "\r\n\r\n",
                    "H\xC3\xA9", "{\"a\":1}");
}

/* Sound that was in the cache is priced as cached. The tier is told in one of two places. */
static void test_billing(void **state) {
    static const struct {
        const char *usage;
        int64_t audio_input, audio_output;
        llmgw_tier tier;
    } rows[] = {
        {"'promptTokensDetails':[{'modality':'TEXT','tokenCount':10},{'modality':'AUDIO','tokenCount':30}],"
         "'cacheTokensDetails':[{'tokenCount':12,'modality':'AUDIO'}],'candidatesTokensDetails':[{'modality':"
         "'AUDIO',"
         "'tokenCount':4},{'modality':'AUDIO','tokenCount':1}]",
         18, 5, LLMGW_TIER_STANDARD},
        {"'promptTokensDetails':[{'modality':'AUDIO'},3,null,{}],'candidatesTokensDetails':{},"
         "'cacheTokensDetails':[{'modality':'AUDIO','tokenCount':12}]",
         0, 0, LLMGW_TIER_STANDARD},
        {"'serviceTier':'flex','trafficType':'ON_DEMAND'", 0, 0, LLMGW_TIER_FLEX},
        {"'trafficType':'ON_DEMAND_PRIORITY'", 0, 0, LLMGW_TIER_PRIORITY},
        {"'trafficType':'PROVISIONED_THROUGHPUT','serviceTier':'standard'", 0, 0, LLMGW_TIER_STANDARD},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        unit_answer u;
        char reply[600];
        snprintf(
            reply, sizeof reply,
            "{'candidates':[{'content':{'parts':[{'text':'x'}]},'finishReason':'STOP'}],'usageMetadata':{"
            "'promptTokenCount':40,'cachedContentTokenCount':12,'candidatesTokenCount':7,%s}}",
            rows[i].usage);
        assert_true(unit_reply(&u, "gemini", reply));
        unit_usage(&u, 40, 7, 12, 0, 0, 0);
        assert_int_equal(u.answer->usage.audio_input, rows[i].audio_input);
        assert_int_equal(u.answer->usage.audio_output, rows[i].audio_output);
        assert_int_equal(u.answer->usage.tier, rows[i].tier);
        unit_end(&u);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_billing),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_url),
        cmocka_unit_test(test_system_and_merging),
        cmocka_unit_test(test_images_and_files),
        cmocka_unit_test(test_tools),
        cmocka_unit_test(test_tool_loop),
        cmocka_unit_test(test_result_wrapping),
        cmocka_unit_test(test_result_name_of_the_right_turn),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_effort),
        cmocka_unit_test(test_signatures_stay_on_their_parts),
        cmocka_unit_test(test_bad_utf8_is_named),
        cmocka_unit_test(test_reply),
        cmocka_unit_test(test_finish_reasons),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_prompt_blocked),
        cmocka_unit_test(test_bad_replies),
        cmocka_unit_test(test_huge_usage),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_stream_eof),
        cmocka_unit_test(test_stream_errors),
        cmocka_unit_test(test_stream_signatures_round_trip),
        cmocka_unit_test(test_partial_args),
        cmocka_unit_test(test_partial_args_two_calls),
        cmocka_unit_test(test_partial_args_unclosed),
        cmocka_unit_test(test_partial_args_nonsense),
        cmocka_unit_test(test_partial_args_long_path),
        cmocka_unit_test(test_turn_without_content),
        cmocka_unit_test(test_array_of_bodies),
        cmocka_unit_test(test_cut_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
