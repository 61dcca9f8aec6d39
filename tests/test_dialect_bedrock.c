/* The bedrock dialect: Converse requests out; replies, streams, exceptions and headers in; recorded ones as jansson
   reads them, cut anywhere. */
#include "unit.h"

#include "fixtures.h"

#define CLAUDE "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
#define CLAUDE_NEW "us.anthropic.claude-sonnet-4-6"
#define NOVA "us.amazon.nova-micro-v1:0"

/* ---- requests ---- */

static void test_plain(void **state) {
    llmgw_request request = unit_ask("hi \"there\"\n");
    json_t *body = unit_body("bedrock", NOVA, &request);
    unit_is(body, "",
            "{'messages':[{'role':'user','content':[{'text':'hi \\'there\\'\\n'}]}],'inferenceConfig':{}}");
    json_decref(body);
    request.system = "be brief";
    request.stream = true; /* says the URL */
    request.max_tokens = 50;
    request.temperature = llmgw_set(0);
    request.top_p = llmgw_set(0.5);
    static const char *const stops[] = {"a", "b"};
    request.stop = stops;
    request.stop_count = 2;
    request.user_id = "user-7 (no)";
    request.user_id = "user-7:x@y";
    body = unit_body("bedrock", NOVA, &request);
    unit_is(body, "system", "[{'text':'be brief'}]");
    unit_is(body, "inferenceConfig", "{'maxTokens':50,'temperature':0,'topP':0.5,'stopSequences':['a','b']}");
    unit_is(body, "requestMetadata", "{'user_id':'user-7:x@y'}");
    assert_int_equal(json_object_size(body), 4);
    json_decref(body);
}

/* Roles alternate; what is blank is left out, also where only white space stands. */
static void test_turns(void **state) {
    llmgw_part two[2] = {unit_part(LLMGW_PART_TEXT, "b"), unit_part(LLMGW_PART_TEXT, " \n\t")};
    llmgw_message turns[7] = {
        unit_message(LLMGW_ROLE_SYSTEM, "s", NULL, 0),   unit_message(LLMGW_ROLE_USER, "a", two, 2),
        unit_message(LLMGW_ROLE_USER, "c", NULL, 0),     unit_message(LLMGW_ROLE_ASSISTANT, "   ", NULL, 0),
        unit_message(LLMGW_ROLE_USER, "d", NULL, 0),     unit_message(LLMGW_ROLE_ASSISTANT, "e", NULL, 0),
        unit_message(LLMGW_ROLE_ASSISTANT, "f", NULL, 0)};
    llmgw_request request = unit_talk(turns, 7);
    request.system = " ";
    request.prompt = "last";
    json_t *body = unit_body("bedrock", NOVA, &request);
    unit_is(body, "system", "[{'text':'s'}]");
    unit_is(body, "messages",
            "[{'role':'user','content':[{'text':'a'},{'text':'b'},{'text':'c'},{'text':'d'}]},"
            "{'role':'assistant','content':[{'text':'e'},{'text':'f'}]},"
            "{'role':'user','content':[{'text':'last'}]}]");
    json_decref(body);
    request = unit_talk(turns + 3, 4);
    request.messages = turns + 5;
    request.message_count = 1;
    request.prompt = "x";
    body = unit_body("bedrock", NOVA, &request); /* the user speaks first */
    unit_is(body, "messages.0.role", "'user'");
    unit_is(body, "messages.1", "{'role':'assistant','content':[{'text':'e'}]}");
    unit_is(body, "messages.2", "{'role':'user','content':[{'text':'x'}]}");
    json_decref(body);
}

static void test_images_and_files(void **state) {
    llmgw_part parts[6] = {unit_bytes(LLMGW_PART_IMAGE, NULL, NULL, "abc"),
                           unit_bytes(LLMGW_PART_IMAGE, "image/JPEG", NULL, "abcd"),
                           unit_url(LLMGW_PART_IMAGE, "s3://bucket/y.png"),
                           unit_bytes(LLMGW_PART_FILE, NULL, "my  report_v2.pdf", "%PDF"),
                           unit_bytes(LLMGW_PART_FILE, "text/plain; charset=utf-8", NULL, "x"),
                           unit_bytes(LLMGW_PART_FILE, "text/csv", "", "x")};
    llmgw_message turn = unit_message(LLMGW_ROLE_USER, "see", parts, 6);
    llmgw_request request = unit_talk(&turn, 1);
    json_t *body = unit_body("bedrock", NOVA, &request), *content = unit_at(body, "messages.0.content");
    unit_is(content, "1", "{'image':{'format':'png','source':{'bytes':'YWJj'}}}");
    unit_is(content, "2", "{'image':{'format':'jpeg','source':{'bytes':'YWJjZA=='}}}");
    unit_is(content, "3", "{'image':{'format':'png','source':{'s3Location':{'uri':'s3://bucket/y.png'}}}}");
    unit_is(content, "4",
            "{'document':{'format':'pdf','name':'my -report-v2-pdf','source':{'bytes':'JVBERg=='}}}");
    unit_is(content, "5.document.format", "'txt'");
    unit_is(content, "5.document.name", "'document 0-4'"); /* two without a name differ */
    unit_is(content, "6.document.name", "'document 0-5'");
    unit_is(content, "6.document.format", "'csv'");
    json_decref(body);
    /* without a text a document is refused */
    turn = unit_message(LLMGW_ROLE_USER, NULL, parts + 3, 1);
    body = unit_body("bedrock", NOVA, &request);
    unit_is(body, "messages.0.content.0", "{'text':'A document:'}");
    unit_is(body, "messages.0.content.1.document.format", "'pdf'");
    json_decref(body);
    llmgw_message apart[2] = {unit_message(LLMGW_ROLE_USER, NULL, parts + 3, 1),
                              unit_message(LLMGW_ROLE_USER, "what is it?", NULL, 0)};
    request = unit_talk(apart, 2);
    body = unit_body("bedrock", NOVA, &request);
    unit_is(body, "messages.0.content.1", "{'text':'what is it?'}");
    json_decref(body);
}

static void test_refused_media(void **state) {
    const struct {
        llmgw_part part;
        const char *field;
    } rows[] = {
        {unit_bytes(LLMGW_PART_IMAGE, "image/tiff", NULL, "abc"), "mime"},
        {unit_bytes(LLMGW_PART_IMAGE, "application/pdf", NULL, "abc"), "mime"},
        {unit_bytes(LLMGW_PART_FILE, "image/png", NULL, "abc"), "mime"},
        {unit_url(LLMGW_PART_IMAGE, "https://x/y.png"), "url"},
        {unit_url(LLMGW_PART_FILE, "https://x/y.pdf"), "url"},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        char want[64];
        llmgw_message turn = unit_message(LLMGW_ROLE_USER, "see", &rows[i].part, 1);
        llmgw_request request = unit_talk(&turn, 1);
        llmgw_error error = unit_refusal("bedrock", NOVA, &request);
        assert_int_equal(error.code, LLMGW_E_UNSUPPORTED);
        snprintf(want, sizeof want, "request.messages[0].parts[0].%s", rows[i].field);
        unit_has(error.text, want);
    }
    llmgw_request request = unit_ask("x");
    request.user_id = "caf\xC3\xA9";
    unit_has(unit_refusal("bedrock", NOVA, &request).text, "request.user_id");
    request = unit_ask("ab\xC3(");
    unit_has(unit_refusal("bedrock", NOVA, &request).text, "request.prompt: bad UTF-8");
}

static llmgw_request with_tools(llmgw_tool_mode mode) {
    static const llmgw_tool tools[2] = {
        {"get_weather", "Weather \"now\"", "{\"type\":\"object\",\"required\":[\"city\"]}", true},
        {"stop", "", NULL, false}};
    llmgw_request request = unit_ask("hi");
    request.tools = tools;
    request.tool_count = 2;
    request.tool_mode = mode;
    request.tool_name = mode == LLMGW_TOOLS_ONE ? "stop" : NULL;
    return request;
}

static void test_tools(void **state) {
    static const struct {
        llmgw_tool_mode mode;
        const char *choice;
    } rows[] = {{LLMGW_TOOLS_AUTO, NULL},
                {LLMGW_TOOLS_REQUIRED, "{'any':{}}"},
                {LLMGW_TOOLS_ONE, "{'tool':{'name':'stop'}}"}};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_request request = with_tools(rows[i].mode);
        json_t *body = unit_body("bedrock", NOVA, &request);
        unit_is(body, "toolConfig.tools",
                "[{'toolSpec':{'name':'get_weather','description':'Weather \\'now\\'','inputSchema':"
                "{'json':{'type':'object','required':['city']}},'strict':true}},"
                "{'toolSpec':{'name':'stop','inputSchema':{'json':{'type':'object'}}}}]");
        unit_is(body, "toolConfig.toolChoice", rows[i].choice);
        json_decref(body);
    }
    llmgw_request request = with_tools(LLMGW_TOOLS_NONE);
    json_t *body = unit_body("bedrock", NOVA, &request);
    unit_none(body, "toolConfig");
    json_decref(body);
}

/* A loop: calls in the assistant's turn, all results first in the user's; toolConfig stays while calls are there. */
static void test_tool_loop(void **state) {
    llmgw_part calls[3] = {unit_tool_call("c1", "f", "{\"a\":1}"), unit_tool_call("c2", "g", NULL),
                           unit_tool_call("call/3+", "g", "")};
    llmgw_part results[3] = {unit_tool_result("c1", "sunny"), unit_tool_result("c2", ""),
                             unit_tool_result("call/3+", "it broke")};
    results[2].is_error = true;
    llmgw_message turns[3] = {unit_message(LLMGW_ROLE_USER, "go", NULL, 0),
                              unit_message(LLMGW_ROLE_ASSISTANT, "I look", calls, 3),
                              unit_message(LLMGW_ROLE_TOOL, NULL, results, 3)};
    llmgw_request request = with_tools(LLMGW_TOOLS_NONE);
    request.messages = turns;
    request.message_count = 3;
    request.prompt = "and now?";
    json_t *body = unit_body("bedrock", NOVA, &request);
    unit_is(body, "messages.1.content.0", "{'text':'I look'}");
    unit_is(body, "messages.1.content.1", "{'toolUse':{'toolUseId':'c1','name':'f','input':{'a':1}}}");
    unit_is(body, "messages.1.content.2.toolUse.input", "{}");
    unit_is(body, "messages.2.content.0", "{'toolResult':{'toolUseId':'c1','content':[{'text':'sunny'}]}}");
    unit_is(body, "messages.2.content.1", /* neither an empty list nor an empty text is taken by all models */
            "{'toolResult':{'toolUseId':'c2','content':[{'text':'(nothing)'}]}}");
    unit_is(body, "messages.2.content.2.toolResult.content", "[{'text':'it broke'}]");
    unit_is(body, "messages.2.content.2.toolResult.status", "'error'");
    results[2].text = " \n";
    json_t *blank = unit_body("bedrock", NOVA, &request);
    unit_is(blank, "messages.2.content.2.toolResult.content", "[{'text':'error'}]");
    json_decref(blank);
    unit_is(body, "messages.2.content.3", "{'text':'and now?'}");
    const char *id = json_string_value(unit_at(body, "messages.1.content.3.toolUse.toolUseId"));
    assert_string_equal(id, json_string_value(unit_at(body, "messages.2.content.2.toolResult.toolUseId")));
    assert_int_equal(strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789_"),
                     strlen(id));                                            /* another's id is made to fit */
    assert_int_equal(json_array_size(unit_at(body, "toolConfig.tools")), 2); /* none: but calls are there */
    unit_none(body, "toolConfig.toolChoice");
    json_decref(body);
    request.tools = NULL;
    request.tool_count = 0;
    request.tool_mode = LLMGW_TOOLS_AUTO;
    body = unit_body("bedrock", NOVA, &request);
    unit_is(body, "toolConfig",
            "{'tools':[{'toolSpec':{'name':'f','inputSchema':{'json':{'type':'object'}}}}]}");
    json_decref(body);
}

static void test_schema(void **state) {
    llmgw_request request = unit_ask("x");
    request.schema = "{\"type\":\"object\"}";
    json_t *body = unit_body("bedrock", CLAUDE, &request);
    unit_is(body, "outputConfig.textFormat.type", "'json_schema'");
    unit_is(body, "outputConfig.textFormat.structure.jsonSchema.name", "'reply'");
    assert_string_equal(
        json_string_value(unit_at(body, "outputConfig.textFormat.structure.jsonSchema.schema")),
        request.schema);
    json_decref(body);
}

static void test_effort(void **state) {
    static const struct {
        const char *model;
        llmgw_effort effort;
        int max_tokens;
        const char *extra, *tokens;
    } rows[] = {
        {CLAUDE, LLMGW_EFFORT_DEFAULT, 0, NULL, NULL},
        {CLAUDE, LLMGW_EFFORT_NONE, 0, "{'thinking':{'type':'disabled'}}", NULL},
        {CLAUDE, LLMGW_EFFORT_MEDIUM, 0, "{'thinking':{'type':'enabled','budget_tokens':4096}}", "8192"},
        {CLAUDE, LLMGW_EFFORT_HIGH, 2000, "{'thinking':{'type':'enabled','budget_tokens':1024}}", "2000"},
        {CLAUDE, LLMGW_EFFORT_HIGH, 1000, "{'thinking':{'type':'disabled'}}", "1000"},
        {CLAUDE_NEW, LLMGW_EFFORT_HIGH, 0,
         "{'thinking':{'type':'adaptive'},'output_config':{'effort':'high'}}", NULL},
        {CLAUDE_NEW, LLMGW_EFFORT_NONE, 0, "{'thinking':{'type':'disabled'}}", NULL},
        {"global.amazon.nova-2-lite-v1:0", LLMGW_EFFORT_LOW, 0,
         "{'reasoningConfig':{'type':'enabled','maxReasoningEffort':'low'}}", NULL},
        {"global.amazon.nova-2-lite-v1:0", LLMGW_EFFORT_NONE, 0, "{'reasoningConfig':{'type':'disabled'}}",
         NULL},
        {"openai.gpt-oss-120b-1:0", LLMGW_EFFORT_HIGH, 0, "{'reasoning_effort':'high'}", NULL},
        {"openai.gpt-oss-120b-1:0", LLMGW_EFFORT_NONE, 0, "{'reasoning_effort':'low'}", NULL}, /* the least */
        {"openai.gpt-6-sol", LLMGW_EFFORT_NONE, 0, "{'reasoning':{'effort':'none'}}", NULL},
        {NOVA, LLMGW_EFFORT_HIGH, 0, NULL, NULL},
        {"meta.llama3-70b", LLMGW_EFFORT_HIGH, 0, NULL, NULL},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_request request = unit_ask("x");
        request.effort = rows[i].effort;
        request.max_tokens = rows[i].max_tokens;
        json_t *body = unit_body("bedrock", rows[i].model, &request);
        unit_is(body, "additionalModelRequestFields", rows[i].extra);
        unit_is(body, "inferenceConfig.maxTokens", rows[i].tokens);
        json_decref(body);
    }
    llmgw_request request = unit_ask("x");
    request.top_k = llmgw_set(40);
    json_t *body = unit_body("bedrock", CLAUDE, &request);
    unit_is(body, "additionalModelRequestFields", "{'top_k':40}");
    json_decref(body);
    body = unit_body("bedrock", NOVA, &request);
    unit_is(body, "additionalModelRequestFields", "{'inferenceConfig':{'topK':40}}");
    json_decref(body);
}

/* Reasoning goes back to its own provider, word for word; another's is left out. */
static void test_reasoning_back(void **state) {
    llmgw_part parts[4] = {unit_thought("so", "sig", "bedrock"), unit_thought(NULL, "b64", "bedrock"),
                           unit_thought("other", "sig", "anthropic"), unit_part(LLMGW_PART_TEXT, "Yes")};
    llmgw_message turns[2] = {unit_message(LLMGW_ROLE_USER, "a", NULL, 0),
                              unit_message(LLMGW_ROLE_ASSISTANT, NULL, parts, 4)};
    llmgw_request request = unit_talk(turns, 2);
    request.prompt = "more";
    json_t *body = unit_body("bedrock", CLAUDE, &request);
    unit_is(body, "messages.1.content",
            "[{'reasoningContent':{'reasoningText':{'text':'so','signature':'sig'}}},"
            "{'reasoningContent':{'redactedContent':'b64'}},{'text':'Yes'}]");
    json_decref(body);
    unit_silent_turn("bedrock", "messages", "content");
}

/* Only Claude up to 4.5 goes on from the beginning of an answer, whatever region, date and version its name has. */
static void test_prefill(void **state) {
    static const struct {
        const char *model;
        bool prefills;
    } rows[] = {
        {"us.anthropic.claude-3-5-sonnet-20241022-v2:0", true},
        {"anthropic.claude-3-haiku-20240307-v1:0", true},
        {CLAUDE, true},
        {"eu.anthropic.claude-sonnet-4-20250514-v1:0", true},
        {"anthropic.claude-opus-4-1-20250805-v1:0", true},
        {"global.anthropic.claude-opus-4-5-20251101-v1:0", true},
        {"arn:aws:bedrock:us-east-1:123456789012:inference-profile/"
         "us.anthropic.claude-haiku-4-5-20251001-v1:0",
         true},
        {CLAUDE_NEW, false},
        {"us.anthropic.claude-opus-4-6-v1", false},
        {"anthropic.claude-opus-5", false},
        {"arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc", false},
        {NOVA, false},
        {"deepseek.v3-v1:0", false},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_dialect_target target;
        llmgw_request request = unit_ask("x");
        memset(&target, 0, sizeof target);
        target.model = rows[i].model;
        target.flavour = "bedrock";
        target.quirks = llmgwi_dialect_quirks_of("bedrock", "bedrock", rows[i].model, NULL);
        if (llmgwi_dialect_prefills(&target, &request) != rows[i].prefills) fail_msg("%s", rows[i].model);
    }
}

static void test_url(void **state) {
    const llmgwi_dialect *dialect = llmgwi_dialect_find("bedrock");
    llmgwi_base_buf url;
    llmgwi_base_buf_init(&url, &unit_mem, 4096);
    assert_true(llmgwi_dialect_url(dialect, "https://h", "arn:aws:x/" NOVA, true, &url));
    assert_string_equal(url.p, "https://h/model/arn%3Aaws%3Ax%2Fus.amazon.nova-micro-v1%3A0/converse-stream");
    llmgwi_base_buf_free(&url);
}

/* ---- replies ---- */

static void test_reply(void **state) {
    unit_answer u;
    assert_true(
        unit_reply(&u, "bedrock",
                   "{'output':{'message':{'role':'assistant','content':["
                   "{'reasoningContent':{'reasoningText':{'text':'hm','signature':'sig'}}},"
                   "{'reasoningContent':{'redactedContent':'cmVk'}},"
                   "{'text':'Hel'},{'text':'lo'},{'novelty':{'text':'no'}},"
                   "{'toolUse':{'toolUseId':'t1','name':'f','input':{'a':[1]}}},"
                   "{'toolUse':{'toolUseId':'s1','name':'search','type':'server_tool_use','input':{}}},"
                   "{'toolUse':{'toolUseId':'t2','name':'g','input':{}}}]}},'stopReason':'tool_use',"
                   "'usage':{'inputTokens':2,'outputTokens':5,'totalTokens':1332,'cacheReadInputTokens':3,"
                   "'cacheWriteInputTokens':1322,'cacheDetails':[{'ttl':'1h','inputTokens':1000},{'ttl':'5m',"
                   "'inputTokens':322}]},"
                   "'serviceTier':{'type':'flex'},'metrics':{'latencyMs':1}}"));
    unit_text(&u, "Hello");
    unit_reasoning(&u, "hm");
    assert_int_equal(u.answer->tool_count, 2);
    unit_call(&u, 0, "t1", "f", "{'a':[1]}");
    unit_call(&u, 1, "t2", "g", "{}");
    assert_int_equal(u.answer->finish, LLMGW_FINISH_TOOL);
    unit_usage(&u, 1327, 5, 3, 1322, 1000, 0);
    assert_int_equal(u.answer->usage.tier, LLMGW_TIER_FLEX);
    llmgw_message turn = unit_turn(&u, "bedrock");
    assert_string_equal(turn.parts[0].signature, "sig");
    assert_string_equal(turn.parts[1].signature, "cmVk");
    assert_null(turn.parts[1].text);
    unit_end(&u);
    unit_cut_reply("bedrock", "{'output':{'message':{'content':[{'text':'a'}]}},'stopReason':'end_turn'}");
}

static void test_finish(void **state) {
    static const struct {
        const char *reason;
        int finish;
    } rows[] = {
        {"end_turn", LLMGW_FINISH_STOP},           {"stop_sequence", LLMGW_FINISH_STOP},
        {"max_tokens", LLMGW_FINISH_LENGTH},       {"model_context_window_exceeded", LLMGW_FINISH_LENGTH},
        {"tool_use", LLMGW_FINISH_TOOL},           {"guardrail_intervened", LLMGW_FINISH_FILTER},
        {"content_filtered", LLMGW_FINISH_FILTER}, {"something_new", LLMGW_FINISH_STOP},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        char text[200];
        unit_answer u;
        snprintf(text, sizeof text, "{'output':{'message':{'content':[{'text':'a'}]}},'stopReason':'%s'}",
                 rows[i].reason);
        assert_true(unit_reply(&u, "bedrock", text));
        assert_int_equal(u.answer->finish, rows[i].finish);
        bool refused = rows[i].finish == LLMGW_FINISH_FILTER; /* its word is all that is said of it */
        assert_string_equal(llmgwi_base_buf_cstr(&u.answer->refusal), refused ? rows[i].reason : "");
        unit_end(&u);
    }
    static const char *const broken[] = {"malformed_model_output", "malformed_tool_use"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(broken); i++) {
        char text[200];
        unit_answer u;
        snprintf(text, sizeof text, "{'output':{'message':{'content':[]}},'stopReason':'%s'}", broken[i]);
        assert_false(unit_reply(&u, "bedrock", text));
        unit_failed(&u, LLMGW_E_PROVIDER, broken[i]);
        unit_end(&u);
    }
}

static void test_bad_replies(void **state) {
    static const char *const replies[] = {
        "{}",
        "{'output':{}}",
        "{'output':{'message':{'content':{}}}}",
        "[]",
        "",
        "{'output':{'message':{'content':[{'toolUse':{'toolUseId':'x'}}]}}}"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(replies); i++) {
        unit_answer u;
        assert_false(unit_reply(&u, "bedrock", replies[i]));
        assert_int_equal(u.answer->error.code, LLMGW_E_PROTOCOL);
        unit_end(&u);
    }
}

/* ---- streams ---- */

typedef struct named {
    const char *name, *data;
} named;

/* False: some event was refused. */
static bool feed(unit_answer *u, const named *events) {
    unit_begin(u, "bedrock", true);
    for (size_t i = 0; events[i].name; i++)
        if (!unit_event_named(u, events[i].name, events[i].data)) return false;
    return true;
}

static void test_stream(void **state) {
    static const named events[] = {
        {"messageStart", "{'role':'assistant','p':'abc'}"},
        {"contentBlockDelta", "{'contentBlockIndex':0,'delta':{'reasoningContent':{'text':'so '}},'p':'a'}"},
        {"contentBlockDelta", "{'delta':{'reasoningContent':{'text':'what'}},'contentBlockIndex':0}"},
        {"contentBlockDelta", "{'contentBlockIndex':0,'delta':{'reasoningContent':{'signature':'s1'}}}"},
        {"contentBlockStop", "{'contentBlockIndex':0}"},
        {"contentBlockDelta", "{'contentBlockIndex':1,'delta':{'reasoningContent':{'text':'!'}}}"},
        {"contentBlockDelta", "{'contentBlockIndex':1,'delta':{'reasoningContent':{'signature':'s2'}}}"},
        {"contentBlockDelta",
         "{'contentBlockIndex':2,'delta':{'reasoningContent':{'redactedContent':'cmVk'}}}"},
        {"contentBlockDelta", "{'contentBlockIndex':3,'delta':{'text':'Hel'}}"},
        {"contentBlockDelta", "{'contentBlockIndex':3,'delta':{'text':'lo'}}"},
        {"contentBlockDelta", "{'contentBlockIndex':3,'delta':{'citation':{'title':'x'}}}"},
        {"contentBlockStart", "{'contentBlockIndex':4,'start':{'toolUse':{'toolUseId':'t1','name':'f'}}}"},
        {"contentBlockStart", "{'contentBlockIndex':5,'start':{'toolUse':{'toolUseId':'t2','name':'g'}}}"},
        {"contentBlockDelta", "{'contentBlockIndex':5,'delta':{'toolUse':{'input':''}}}"},
        {"contentBlockDelta", "{'contentBlockIndex':4,'delta':{'toolUse':{'input':'{\\\"a\\\"'}}}"},
        {"contentBlockDelta", "{'contentBlockIndex':4,'delta':{'toolUse':{'input':':1}'}}}"},
        {"contentBlockStart", "{'contentBlockIndex':6,'start':{'toolUse':{'toolUseId':'s','name':'web','type'"
                              ":'server_tool_use'}}}"},
        {"contentBlockDelta", "{'contentBlockIndex':6,'delta':{'toolUse':{'input':'{}'}}}"},
        {"someNewEvent", "not even JSON"},
        {"messageStop", "{'stopReason':'tool_use'}"},
        {NULL, NULL}};
    unit_answer u;
    assert_true(feed(&u, events));
    assert_false(u.answer->ended); /* the usage comes after it */
    assert_true(llmgwi_dialect_complete(u.dialect, u.answer));
    assert_true(unit_event_named(
        &u, "metadata",
        "{'usage':{'inputTokens':10,'outputTokens':20,'totalTokens':30},'metrics':{'latencyMs':9}}"));
    assert_true(u.answer->ended);
    unit_complete(&u);
    unit_text(&u, "Hello");
    unit_reasoning(&u, "so what!");
    assert_string_equal(u.order, "RT010");
    assert_int_equal(u.answer->tool_count, 2);
    unit_call(&u, 0, "t1", "f", "{'a':1}");
    unit_call(&u, 1, "t2", "g", "{}");
    unit_usage(&u, 10, 20, 0, 0, 0, 0);
    llmgw_message turn = unit_turn(&u, "bedrock");
    assert_string_equal(turn.parts[0].text, "so what");
    assert_string_equal(turn.parts[0].signature, "s1");
    assert_string_equal(turn.parts[1].text, "!");
    assert_string_equal(turn.parts[1].signature, "s2");
    assert_string_equal(turn.parts[2].signature, "cmVk");
    unit_end(&u);
}

/* Without messageStop the stream is cut; with it the metadata may be missing. */
static void test_ends(void **state) {
    static const named begun[] = {{"contentBlockDelta", "{'contentBlockIndex':0,'delta':{'text':'a'}}"},
                                  {NULL, NULL}};
    unit_answer u;
    assert_true(feed(&u, begun));
    assert_false(llmgwi_dialect_complete(u.dialect, u.answer));
    assert_true(unit_event_named(&u, "messageStop", "{'stopReason':'guardrail_intervened'}"));
    assert_true(llmgwi_dialect_complete(u.dialect, u.answer));
    assert_false(u.answer->usage.known);
    assert_int_equal(u.answer->finish, LLMGW_FINISH_FILTER);
    assert_string_equal(llmgwi_base_buf_cstr(&u.answer->refusal), "guardrail_intervened");
    unit_end(&u);
    assert_true(
        feed(&u, begun)); /* metadata that comes first is not the end: why it ended is still to be said */
    assert_true(unit_event_named(&u, "metadata", "{'usage':{'inputTokens':1,'outputTokens':2}}"));
    assert_false(llmgwi_dialect_complete(u.dialect, u.answer));
    assert_true(unit_event_named(&u, "messageStop", "{'stopReason':'max_tokens'}"));
    assert_true(llmgwi_dialect_complete(u.dialect, u.answer));
    assert_int_equal(u.answer->finish, LLMGW_FINISH_LENGTH);
    unit_end(&u);
    assert_true(feed(&u, begun));
    assert_false(unit_event_named(&u, "contentBlockDelta", "{'contentBlockIndex':0,'delta':{'text':'a'"));
    unit_failed(&u, LLMGW_E_PROTOCOL, "stream event");
    unit_end(&u);
    assert_true(feed(&u, begun));
    assert_false(unit_event_named(&u, "contentBlockStart", "{'start':{'toolUse':{'toolUseId':'x'}}}"));
    unit_failed(&u, LLMGW_E_PROTOCOL, "without a name");
    unit_end(&u);
}

static void test_exceptions(void **state) {
    static const struct {
        const char *name, *data;
        llmgw_code code;
        const char *text;
    } rows[] = {
        {"!throttlingException", "{'message':'Too many requests'}", LLMGW_E_RATE_LIMITED,
         "throttlingException: Too many requests"},
        {"!throttlingException", "{'message':'Too many tokens, please wait before trying again.'}",
         LLMGW_E_RATE_LIMITED, "Too many tokens"},
        {"!validationException", "{'message':'bad field'}", LLMGW_E_BAD_REQUEST, "bad field"},
        {"!validationException", "{'message':'Input is too long for requested model.'}",
         LLMGW_E_CONTEXT_LENGTH, "too long"},
        {"!serviceUnavailableException", "{'message':'busy'}", LLMGW_E_OVERLOADED, "busy"},
        {"!modelStreamErrorException", "{'message':'x','originalStatusCode':500,'originalMessage':'y'}",
         LLMGW_E_PROVIDER, "modelStreamErrorException: x"},
        {"!internalServerException", "{}", LLMGW_E_PROVIDER,
         "internalServerException: the provider reported"},
        {"!newException", "{'message':'new'}", LLMGW_E_PROVIDER, "newException: new"},
        {"!InternalError", "plain text", LLMGW_E_PROVIDER, "InternalError: plain text"},
        {"!", "", LLMGW_E_PROVIDER, "exception: "},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        unit_answer u;
        unit_begin(&u, "bedrock", true);
        assert_true(
            unit_event_named(&u, "contentBlockDelta", "{'contentBlockIndex':0,'delta':{'text':'a'}}"));
        assert_false(unit_event_named(&u, rows[i].name, rows[i].data));
        unit_failed(&u, rows[i].code, rows[i].text);
        assert_int_equal(u.answer->error.retryable,
                         rows[i].code != LLMGW_E_BAD_REQUEST && rows[i].code != LLMGW_E_CONTEXT_LENGTH);
        unit_text(&u, "a");
        unit_end(&u);
    }
}

/* ---- errors before the stream ---- */

static void test_errors(void **state) {
    static const struct {
        int status;
        const char *type, *body;
        llmgw_code code;
        const char *text;
    } rows[] = {
        {429, "ThrottlingException", "{'message':'Too many requests, please wait.'}", LLMGW_E_RATE_LIMITED,
         "429"},
        {429, "ThrottlingException", "{'message':'Too many tokens, please wait before trying again.'}",
         LLMGW_E_RATE_LIMITED, "Too many tokens"},
        {429, "ThrottlingException",
         "{'message':'Too many tokens per day, please wait before trying again.'}", LLMGW_E_QUOTA, "per day"},
        {429, "ModelNotReadyException:http://internal.amazon.com/x", "{'message':'m'}", LLMGW_E_OVERLOADED,
         "m"},
        {400, "ServiceQuotaExceededException:", "{'message':'m'}", LLMGW_E_QUOTA, "m"},
        {400, "ValidationException", "{'message':'m'}", LLMGW_E_BAD_REQUEST, "m"},
        {400, NULL, "{'message':'The provided model identifier is invalid.'}", LLMGW_E_NOT_FOUND,
         "identifier"},
        {400, "ValidationException", "{'message':'Input is too long for requested model.'}",
         LLMGW_E_CONTEXT_LENGTH, "long"},
        {400, "UnrecognizedClientException", "{'message':'m'}", LLMGW_E_AUTH, "m"},
        {403, "AccessDeniedException", "{'message':'m'}", LLMGW_E_AUTH, "HTTP 403: m"},
        {403, "InvalidSignatureException",
         "{'message':'Signature expired: 20260102T030405Z is now earlier than 20260102T031905Z'}",
         LLMGW_E_AUTH, "clock is wrong"},
        {404, "ResourceNotFoundException", "{'message':'m'}", LLMGW_E_NOT_FOUND, "m"},
        {408, "ModelTimeoutException", "{'message':'m'}", LLMGW_E_PROVIDER, "m"},
        {424, "ModelErrorException", "{'message':'m'}", LLMGW_E_PROVIDER, "m"},
        {500, "InternalServerException", "{'message':'m'}", LLMGW_E_PROVIDER, "m"},
        {503, "ServiceUnavailableException", "", LLMGW_E_OVERLOADED, "HTTP 503"},
        {503, "NovelException", "{'Message':'m'}", LLMGW_E_OVERLOADED, "HTTP 503: m"},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_dialect_meta meta;
        llmgw_error error;
        memset(&meta, 0, sizeof meta);
        memset(&error, 0, sizeof error);
        if (rows[i].type)
            llmgwi_dialect_header(&meta, llmgwi_base_cstr("X-Amzn-ErrorType"), llmgwi_base_cstr(rows[i].type),
                                  0);
        llmgwi_dialect_error(&error, rows[i].status, llmgwi_base_cstr(unit_quoted(rows[i].body)), 64);
        llmgwi_dialect_weigh(&error, &meta);
        if (error.code != rows[i].code) fail_msg("row %zu: %s", i, llmgw_code_name(error.code));
        unit_has(error.text, rows[i].text);
        assert_int_equal(error.http_status, rows[i].status);
    }
    llmgwi_dialect_meta meta;
    memset(&meta, 0, sizeof meta);
    llmgwi_dialect_header(&meta, llmgwi_base_cstr("x-amzn-RequestId"), llmgwi_base_cstr("a1b2\x01"), 0);
    assert_string_equal(meta.id, "a1b2?");
}

/* ---- recorded replies and streams, as jansson reads them ---- */

/* What a reply or a stream says, put together by the test's own means. */
typedef struct heard {
    char text[65536], thought[65536], arguments[8][4096];
    const char *names[8];
    int tools, of[64]; /* of: the tool of a block, 0: none, else its number + 1 */
    const char *reason;
    json_t *usage;
    bool failed;
} heard;

static void append(char *to, size_t size, json_t *text) {
    size_t n = strlen(to);
    if (text) snprintf(to + n, size - n, "%s", json_string_value(text));
}

static void hear_block(heard *h, json_t *block, int index) {
    json_t *tool = json_object_get(block, "toolUse"), *input = json_object_get(tool, "input");
    json_t *thought = json_object_get(block, "reasoningContent"),
           *whole = json_object_get(thought, "reasoningText");
    append(h->text, sizeof h->text, json_object_get(block, "text"));
    append(h->thought, sizeof h->thought, json_object_get(whole ? whole : thought, "text"));
    if (json_object_get(tool, "name")) {
        h->names[h->tools] = json_string_value(json_object_get(tool, "name"));
        h->of[index] = ++h->tools;
    }
    int at = h->of[index] - 1;
    if (json_is_string(input)) append(h->arguments[at], sizeof h->arguments[at], input);
    if (json_is_object(input)) {
        char *text = json_dumps(input, 0);
        snprintf(h->arguments[at], sizeof h->arguments[at], "%s", text);
        free(text);
    }
}

static void hear_reply(heard *h, json_t *reply) {
    json_t *block;
    size_t i;
    json_array_foreach(unit_at(reply, "output.message.content"), i, block) hear_block(h, block, (int)i);
    h->reason = json_string_value(json_object_get(reply, "stopReason"));
    h->usage = json_object_get(reply, "usage");
}

static void hear_event(heard *h, const char *name, json_t *event) {
    int index = (int)json_integer_value(json_object_get(event, "contentBlockIndex"));
    json_t *delta = json_object_get(event, "delta"), *start = json_object_get(event, "start");
    if (delta || start) hear_block(h, delta ? delta : start, index);
    if (json_object_get(event, "stopReason"))
        h->reason = json_string_value(json_object_get(event, "stopReason"));
    if (json_object_get(event, "usage")) h->usage = json_object_get(event, "usage");
    h->failed = h->failed || name[0] == '!';
}

static int64_t tokens(const heard *h, const char *name) {
    return json_integer_value(json_object_get(h->usage, name));
}

/* The answer says what the test heard. */
static void compare(const heard *h, unit_answer *u, const char *name) {
    const llmgw_usage *usage = &u->answer->usage;
    llmgwi_dialect_settle(u->answer);
    if (strcmp(llmgwi_base_buf_cstr(&u->answer->text), h->text) != 0) fail_msg("%s: %s", name, h->text);
    assert_string_equal(llmgwi_base_buf_cstr(&u->answer->reasoning), h->thought);
    assert_int_equal(u->answer->tool_count, (size_t)h->tools);
    for (int i = 0; i < h->tools; i++) {
        json_t *want = json_loads(h->arguments[i][0] ? h->arguments[i] : "{}", 0, NULL);
        json_t *got = json_loads(llmgwi_base_buf_cstr(&unit_tool(u, i)->arguments), 0, NULL);
        assert_string_equal(unit_tool(u, i)->name, h->names[i]);
        assert_true(want && json_equal(want, got));
        json_decref(want);
        json_decref(got);
    }
    assert_int_equal(usage->known, h->usage != NULL);
    int64_t cached = tokens(h, "cacheReadInputTokens"), written = tokens(h, "cacheWriteInputTokens");
    assert_int_equal(usage->input, tokens(h, "inputTokens") + cached + written);
    assert_int_equal(usage->input + usage->output, tokens(h, "totalTokens"));
    assert_int_equal(usage->cached, cached);
    assert_int_equal(usage->cache_write, written);
    if (h->reason && strcmp(h->reason, "max_tokens") == 0)
        assert_int_equal(u->answer->finish, LLMGW_FINISH_LENGTH);
    if (h->tools) assert_int_equal(u->answer->finish, LLMGW_FINISH_TOOL);
}

static int replies, refusals;

static void recorded_reply(const char *name, const char *bytes, size_t n) {
    static heard h;
    unit_answer u;
    if (strstr(name, ".meta.json")) return;
    json_t *reply = json_loadb(bytes, n, 0, NULL);
    assert_non_null(reply);
    if (json_object_get(reply, "message")) {
        llmgw_error error;
        memset(&error, 0, sizeof error);
        llmgwi_dialect_error(&error, 400, llmgwi_base_view(bytes, n), 64);
        assert_int_equal(error.code, LLMGW_E_NOT_FOUND);
        refusals++;
    } else {
        memset(&h, 0, sizeof h);
        hear_reply(&h, reply);
        unit_begin(&u, "bedrock", false);
        if (!u.dialect->reply(u.answer, llmgwi_base_view(bytes, n)))
            fail_msg("%s: %s", name, u.answer->error.text);
        compare(&h, &u, name);
        unit_end(&u);
        replies++;
    }
    json_decref(reply);
}

static void test_recorded_replies(void **state) {
    FIXTURES_OR_SKIP(fixture_each("bedrock-converse", ".json", recorded_reply));
    assert_true(replies >= 10 && refusals == 3);
}

/* The events of a stream of frames, for jansson. */
typedef struct listening {
    heard *h;
    json_t *all;
} listening;

static bool listen_to(void *user, llmgwi_base_str name, llmgwi_base_str data) {
    listening *l = (listening *)user;
    char text[64];
    json_t *event = json_loadb(data.p, data.n, 0, NULL);
    assert_non_null(event);
    json_array_append_new(l->all, event);
    llmgwi_base_copy_cut(text, sizeof text, name.p, name.n);
    hear_event(l->h, text, event);
    return true;
}

/* Cut at one place; step: every so many bytes. */
static void decode(const char *name, const heard *h, const char *bytes, size_t n, size_t cut, size_t step) {
    llmgwi_frame frame;
    unit_answer u;
    bool good = true;
    unit_begin(&u, "bedrock", true);
    llmgwi_frame_init(&frame, &unit_mem, 1 << 20, unit_on_frame, &u);
    frame.kind = LLMGWI_FRAME_EVENTSTREAM;
    for (size_t at = 0, end; good && at < n; at = end) {
        end = step ? at + step : at < cut ? cut : n;
        if (end > n) end = n;
        char *copy = (char *)malloc(end - at); /* so that a sanitizer sees a view kept too long */
        assert_non_null(copy);
        memcpy(copy, bytes + at, end - at);
        good = llmgwi_frame_feed(&frame, copy, end - at);
        free(copy);
    }
    assert_int_equal(good, !h->failed);
    if (good) assert_true(llmgwi_frame_finish(&frame) && llmgwi_dialect_complete(u.dialect, u.answer));
    if (good)
        compare(h, &u, name);
    else
        assert_true(u.answer->error.code && strstr(name, strtok(u.answer->error.text, ":")));
    llmgwi_frame_free(&frame);
    unit_end(&u);
}

static void recorded_stream(const char *name, const char *bytes, size_t n) {
    static heard h;
    llmgwi_frame frame;
    listening l = {&h, json_array()};
    memset(&h, 0, sizeof h);
    llmgwi_frame_init(&frame, &unit_mem, 1 << 20, listen_to, &l);
    frame.kind = LLMGWI_FRAME_EVENTSTREAM;
    assert_true(llmgwi_frame_feed(&frame, bytes, n) && llmgwi_frame_finish(&frame));
    for (size_t cut = 0; cut <= n; cut += n / 500 + 1) decode(name, &h, bytes, n, cut, 0);
    for (size_t step = 1; step < 600; step = step * 2 + 1) decode(name, &h, bytes, n, 0, step);
    llmgwi_frame_free(&frame);
    json_decref(l.all);
}

static void test_recorded_streams(void **state) {
    FIXTURES_OR_SKIP(fixture_each("bedrock-converse", ".bin", recorded_stream));
    assert_int_equal(fixture_each("bedrock-generated", ".bin", recorded_stream), 5);
}

/* Streams that are kept as one JSON object a line, {"name of the event": event}. */
static void recorded_lines(const char *name, const char *bytes, size_t n) {
    static heard h;
    unit_answer u;
    json_t *all = json_array();
    memset(&h, 0, sizeof h);
    unit_begin(&u, "bedrock", true);
    for (const char *p = bytes, *eol; p < bytes + n && (eol = strchr(p, '\n')) != NULL; p = eol + 1) {
        json_t *line = json_loadb(p, (size_t)(eol - p), 0, NULL), *event;
        const char *key;
        assert_non_null(line);
        json_array_append_new(all, line);
        json_object_foreach(line, key, event) {
            char *data = json_dumps(event, 0);
            hear_event(&h, key, event);
            if (!u.dialect->event(u.answer, llmgwi_base_cstr(key), llmgwi_base_cstr(data)))
                fail_msg("%s: %s", name, u.answer->error.text);
            free(data);
        }
    }
    assert_true(llmgwi_dialect_complete(u.dialect, u.answer));
    compare(&h, &u, name);
    unit_end(&u);
    json_decref(all);
}

static void test_recorded_lines(void **state) {
    FIXTURES_OR_SKIP(fixture_each("bedrock-converse", ".chunks.txt", recorded_lines));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_images_and_files),
        cmocka_unit_test(test_refused_media),
        cmocka_unit_test(test_tools),
        cmocka_unit_test(test_tool_loop),
        cmocka_unit_test(test_schema),
        cmocka_unit_test(test_effort),
        cmocka_unit_test(test_reasoning_back),
        cmocka_unit_test(test_prefill),
        cmocka_unit_test(test_url),
        cmocka_unit_test(test_reply),
        cmocka_unit_test(test_finish),
        cmocka_unit_test(test_bad_replies),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_exceptions),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_recorded_replies),
        cmocka_unit_test(test_recorded_streams),
        cmocka_unit_test(test_recorded_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
