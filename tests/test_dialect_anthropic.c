/* The anthropic dialect: requests out, replies and streams in. */
#include "unit.h"

static const char bad_utf8[] = "ab\xC3(";

/* ---- requests ---- */

static void test_plain(void **state) {
    llmgw_request request = unit_ask("hi");
    json_t *body = unit_body("anthropic", "claude-opus-5", &request);
    unit_is(body, "",
            "{'model':'claude-opus-5','max_tokens':4096,"
            "'messages':[{'role':'user','content':[{'type':'text','text':'hi'}]}]}");
    json_decref(body);
}

static void test_system(void **state) {
    llmgw_part part = unit_part(LLMGW_PART_TEXT, "c");
    llmgw_message turns[3] = {unit_message(LLMGW_ROLE_USER, "q", NULL, 0),
                              unit_message(LLMGW_ROLE_SYSTEM, "b", &part, 1),
                              unit_message(LLMGW_ROLE_USER, "r", NULL, 0)};
    llmgw_request request = unit_talk(turns, 3);
    request.system = "a";
    json_t *body = unit_body("anthropic", "m", &request);
    unit_is(body, "system",
            "[{'type':'text','text':'a'},{'type':'text','text':'b'},{'type':'text','text':'c'}]");
    unit_is(body, "messages", /* the turns around it are one */
            "[{'role':'user','content':[{'type':'text','text':'q'},{'type':'text','text':'r'}]}]");
    json_decref(body);
}

static void test_merged_turns(void **state) {
    llmgw_message turns[5] = {
        unit_message(LLMGW_ROLE_USER, "a", NULL, 0), unit_message(LLMGW_ROLE_USER, "b", NULL, 0),
        unit_message(LLMGW_ROLE_ASSISTANT, "c", NULL, 0), unit_message(LLMGW_ROLE_ASSISTANT, "d", NULL, 0),
        unit_message(LLMGW_ROLE_USER, "", NULL, 0)};
    llmgw_request request = unit_talk(turns, 5);
    request.prompt = "e";
    json_t *body = unit_body("anthropic", "m", &request);
    unit_is(body, "messages.0.content", "[{'type':'text','text':'a'},{'type':'text','text':'b'}]");
    unit_is(body, "messages.1",
            "{'role':'assistant','content':[{'type':'text','text':'c'},{'type':'text','text':'d'}]}");
    unit_is(body, "messages.2.content", "[{'type':'text','text':'e'}]"); /* no empty block */
    unit_none(body, "messages.3");
    json_decref(body);
}

static void test_images_and_files(void **state) {
    llmgw_part parts[4] = {unit_bytes(LLMGW_PART_IMAGE, "image/webp", NULL, "abc"),
                           unit_url(LLMGW_PART_IMAGE, "https://x/y.png"),
                           unit_bytes(LLMGW_PART_FILE, NULL, "a.pdf", "%PDF"),
                           unit_url(LLMGW_PART_FILE, "https://x/y.pdf")};
    llmgw_message turn = unit_message(LLMGW_ROLE_USER, NULL, parts, 4);
    llmgw_request request = unit_talk(&turn, 1);
    json_t *body = unit_body("anthropic", "m", &request);
    unit_is(body, "messages.0.content",
            "[{'type':'image','source':{'type':'base64','media_type':'image/webp','data':'YWJj'}},"
            "{'type':'image','source':{'type':'url','url':'https://x/y.png'}},"
            "{'type':'document','title':'a.pdf','source':{'type':'base64','media_type':'application/pdf',"
            "'data':'JVBERg=='}},{'type':'document','source':{'type':'url','url':'https://x/y.pdf'}}]");
    json_decref(body);
}

static llmgw_request with_tools(llmgw_tool_mode mode, bool serial) {
    static const llmgw_tool tools[2] = {{"f", "does f", "{\"type\":\"object\",\"properties\":{}}", true},
                                        {"g", NULL, NULL, false}};
    llmgw_request request = unit_ask("hi");
    request.tools = tools;
    request.tool_count = 2;
    request.tool_mode = mode;
    request.serial_tools = serial;
    request.tool_name = "g";
    return request;
}

static void test_tools(void **state) {
    llmgw_request request = with_tools(LLMGW_TOOLS_AUTO, false);
    json_t *body = unit_body("anthropic", "m", &request);
    unit_is(
        body, "tools",
        "[{'name':'f','description':'does f','input_schema':{'type':'object','properties':{}},'strict':true},"
        "{'name':'g','input_schema':{'type':'object'}}]");
    unit_none(body, "tool_choice");
    json_decref(body);
}

static void test_tool_choice(void **state) {
    static const struct {
        llmgw_tool_mode mode;
        bool serial;
        const char *want;
    } rows[] = {
        {LLMGW_TOOLS_AUTO, true, "{'type':'auto','disable_parallel_tool_use':true}"},
        {LLMGW_TOOLS_NONE, false, "{'type':'none'}"},
        {LLMGW_TOOLS_NONE, true, "{'type':'none'}"},
        {LLMGW_TOOLS_REQUIRED, false, "{'type':'any'}"},
        {LLMGW_TOOLS_REQUIRED, true, "{'type':'any','disable_parallel_tool_use':true}"},
        {LLMGW_TOOLS_ONE, false, "{'type':'tool','name':'g'}"},
        {LLMGW_TOOLS_ONE, true, "{'type':'tool','name':'g','disable_parallel_tool_use':true}"},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_request request = with_tools(rows[i].mode, rows[i].serial);
        json_t *body = unit_body("anthropic", "m", &request);
        unit_is(body, "tool_choice", rows[i].want);
        json_decref(body);
    }
}

/* Results of a turn's calls come first, in one user message, whatever stands between. */
static void test_tool_loop(void **state) {
    llmgw_part calls[3] = {unit_part(LLMGW_PART_TEXT, "let me"), unit_tool_call("c1", "f", "{\"a\":[1,2]}"),
                           unit_tool_call("c2", "g", "")};
    llmgw_part one[2] = {unit_part(LLMGW_PART_TEXT, "first"), unit_tool_result("c1", "one")};
    llmgw_part two = unit_tool_result("c2", "boom");
    two.is_error = true;
    llmgw_message turns[4] = {
        unit_message(LLMGW_ROLE_USER, "q", NULL, 0), unit_message(LLMGW_ROLE_ASSISTANT, NULL, calls, 3),
        unit_message(LLMGW_ROLE_USER, NULL, one, 2), unit_message(LLMGW_ROLE_TOOL, NULL, &two, 1)};
    llmgw_request request = unit_talk(turns, 4);
    json_t *body = unit_body("anthropic", "m", &request);
    unit_is(body, "messages.1.content",
            "[{'type':'text','text':'let me'},{'type':'tool_use','id':'c1','name':'f','input':{'a':[1,2]}},"
            "{'type':'tool_use','id':'c2','name':'g','input':{}}]");
    unit_is(body, "messages.2",
            "{'role':'user','content':[{'type':'tool_result','tool_use_id':'c1','content':'one'},"
            "{'type':'tool_result','tool_use_id':'c2','content':'boom','is_error':true},"
            "{'type':'text','text':'first'}]}");
    unit_none(body, "messages.3");
    json_decref(body);
}

static void test_sampling(void **state) {
    static const char *const stop[1] = {"END"};
    llmgw_request request = unit_ask("hi");
    request.temperature = request.top_p = llmgw_set(0);
    request.top_k = llmgw_set(40);
    request.seed = request.frequency_penalty = request.presence_penalty = llmgw_set(1);
    request.stop = stop;
    request.stop_count = 1;
    request.max_tokens = 10;
    request.user_id = "u1";
    request.stream = true;
    json_t *body = unit_body("anthropic", "m", &request);
    assert_true(json_is_number(unit_at(body, "temperature")));
    assert_true(json_number_value(unit_at(body, "temperature")) == 0);
    assert_true(json_is_number(unit_at(body, "top_p")));
    unit_is(body, "top_k", "40");
    unit_is(body, "stop_sequences", "['END']");
    unit_is(body, "max_tokens", "10");
    unit_is(body, "metadata", "{'user_id':'u1'}");
    unit_is(body, "stream", "true");
    unit_none(body, "seed");
    unit_none(body, "frequency_penalty");
    unit_none(body, "presence_penalty");
    json_decref(body);
}

static void test_schema(void **state) {
    llmgw_request request = unit_ask("hi");
    request.schema = "{\"type\":\"object\"}";
    json_t *body = unit_body("anthropic", "claude-opus-5", &request);
    unit_is(body, "output_config", "{'format':{'type':'json_schema','schema':{'type':'object'}}}");
    json_decref(body);
    request.effort = LLMGW_EFFORT_LOW;
    body = unit_body("anthropic", "claude-opus-5", &request);
    unit_is(body, "output_config",
            "{'effort':'low','format':{'type':'json_schema','schema':{'type':'object'}}}");
    json_decref(body);
}

static void test_effort(void **state) {
    static const struct {
        const char *model;
        llmgw_effort effort;
        int64_t max_tokens;
        const char *thinking, *effort_word, *sent_tokens;
    } rows[] = {
        {"claude-opus-5", LLMGW_EFFORT_DEFAULT, 0, NULL, NULL, "4096"},
        {"claude-opus-5", LLMGW_EFFORT_NONE, 0, "{'type':'disabled'}", NULL, "4096"},
        {"claude-opus-4-8", LLMGW_EFFORT_LOW, 0, "{'type':'adaptive'}", "'low'", "4096"},
        {"claude-sonnet-5", LLMGW_EFFORT_MEDIUM, 100, "{'type':'adaptive'}", "'medium'", "100"},
        {"claude-fable-5", LLMGW_EFFORT_HIGH, 0, "{'type':'adaptive'}", "'high'", "4096"},
        {"claude-sonnet-4-5-20250929", LLMGW_EFFORT_LOW, 0, "{'type':'enabled','budget_tokens':1024}", NULL,
         "5120"},
        {"claude-haiku-4-5", LLMGW_EFFORT_MEDIUM, 0, "{'type':'enabled','budget_tokens':4096}", NULL, "8192"},
        {"claude-opus-4-20250514", LLMGW_EFFORT_HIGH, 0, "{'type':'enabled','budget_tokens':16384}", NULL,
         "20480"},
        {"claude-3-7-sonnet-latest", LLMGW_EFFORT_HIGH, 20000, "{'type':'enabled','budget_tokens':16384}",
         NULL, "20000"},
        {"claude-opus-4-1", LLMGW_EFFORT_HIGH, 2000, "{'type':'enabled','budget_tokens':1024}", NULL, "2000"},
        {"claude-opus-4-1", LLMGW_EFFORT_HIGH, 16384, "{'type':'enabled','budget_tokens':1024}", NULL,
         "16384"},
        {"claude-opus-4-1", LLMGW_EFFORT_HIGH, 1024, "{'type':'disabled'}", NULL, "1024"},
        {"claude-3-7-sonnet-latest", LLMGW_EFFORT_NONE, 0, "{'type':'disabled'}", NULL, "4096"},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_request request = unit_ask("hi");
        request.effort = rows[i].effort;
        request.max_tokens = rows[i].max_tokens;
        json_t *body = unit_body("anthropic", rows[i].model, &request);
        unit_is(body, "thinking", rows[i].thinking);
        unit_is(body, "output_config.effort", rows[i].effort_word);
        unit_is(body, "max_tokens", rows[i].sent_tokens);
        json_decref(body);
    }
}

static void test_thinking_replay(void **state) {
    llmgw_part parts[6] = {
        unit_thought("hm", "sig==", "anthropic"), unit_thought(NULL, "opaque==", "anthropic"),
        unit_thought("", "sig2", "anthropic"),    unit_thought("unsigned", NULL, "anthropic"),
        unit_thought("foreign", "xyz", "gemini"), unit_part(LLMGW_PART_TEXT, "said")};
    llmgw_message turns[2] = {unit_message(LLMGW_ROLE_USER, "q", NULL, 0),
                              unit_message(LLMGW_ROLE_ASSISTANT, NULL, parts, 6)};
    llmgw_request request = unit_talk(turns, 2);
    json_t *body = unit_body("anthropic", "m", &request);
    unit_is(body, "messages.1.content",
            "[{'type':'thinking','thinking':'hm','signature':'sig=='},"
            "{'type':'redacted_thinking','data':'opaque=='},"
            "{'type':'thinking','thinking':'','signature':'sig2'},{'type':'text','text':'said'}]");
    json_decref(body);
    body = unit_body("gemini", "m", &request);
    unit_is(body, "contents.1.parts",
            "[{'text':'foreign','thought':true,'thoughtSignature':'xyz'},{'text':'said'}]");
    json_decref(body);
    body = unit_body("openai", "m", &request);
    unit_is(body, "messages.1", "{'role':'assistant','content':'said'}");
    json_decref(body);
}

static void test_bad_utf8_is_named(void **state) {
    llmgw_part part = unit_bytes(LLMGW_PART_IMAGE, bad_utf8, NULL, "abc");
    llmgw_message turn = unit_message(LLMGW_ROLE_USER, NULL, &part, 1);
    llmgw_request request = unit_talk(&turn, 1);
    unit_has(unit_refusal("anthropic", "m", &request).text,
             "request.messages[0].parts[0].mime: bad UTF-8 at byte 2");
    part = unit_bytes(LLMGW_PART_FILE, NULL, bad_utf8, "abc");
    unit_has(unit_refusal("anthropic", "m", &request).text, "request.messages[0].parts[0].name:");
    part = unit_url(LLMGW_PART_IMAGE, bad_utf8);
    unit_has(unit_refusal("anthropic", "m", &request).text, "request.messages[0].parts[0].url:");
    turn = unit_message(LLMGW_ROLE_SYSTEM, bad_utf8, NULL, 0);
    request.prompt = "q";
    unit_has(unit_refusal("anthropic", "m", &request).text, "request.messages[0].text:");
    request = unit_ask("q");
    request.system = bad_utf8;
    unit_has(unit_refusal("anthropic", "m", &request).text, "request.system:");
}

static void test_max_request_bytes(void **state) {
    static char data[4000];
    llmgwi_base_buf body;
    llmgw_error error;
    memset(data, 'x', sizeof data - 1);
    llmgw_part part = unit_bytes(LLMGW_PART_IMAGE, NULL, NULL, data);
    llmgw_message turn = unit_message(LLMGW_ROLE_USER, NULL, &part, 1);
    llmgw_request request = unit_talk(&turn, 1);
    assert_false(unit_write("anthropic", "m", &request, 5000, &body, &error)); /* base64 is a third larger */
    llmgwi_base_buf_free(&body);
    unit_has(error.text, "max_request_bytes");
    assert_true(unit_write("anthropic", "m", &request, 6000, &body, &error));
    llmgwi_base_buf_free(&body);
}

/* ---- replies ---- */

static void test_reply(void **state) {
    unit_answer u;
    assert_true(unit_reply(
        &u, "anthropic",
        "{'id':'msg_1','type':'message','role':'assistant','model':'claude-x','content':["
        "{'type':'thinking','thinking':'hm','signature':'s1'},"
        "{'type':'redacted_thinking','data':'d1'},"
        "{'type':'text','text':'Hello'},{'type':'server_tool_use','id':'x','name':'web','input':{}},"
        "{'type':'text','text':' you'},"
        "{'type':'tool_use','id':'t1','name':'f','input':{'a':{'b':1}}},"
        "{'type':'tool_use','id':'t2','name':'g','input':{}}],"
        "'stop_reason':'tool_use','stop_sequence':null,'usage':{'input_tokens':2,"
        "'cache_creation_input_tokens':5,'cache_read_input_tokens':1322,'output_tokens':30,"
        "'cache_creation':{'ephemeral_5m_input_tokens':3,'ephemeral_1h_input_tokens':2},"
        "'output_tokens_details':{'thinking_tokens':7}}}"));
    unit_text(&u, "Hello you");
    unit_reasoning(&u, "hm");
    unit_call(&u, 0, "t1", "f", "{'a':{'b':1}}");
    unit_call(&u, 1, "t2", "g", "{}");
    assert_int_equal(u.answer->finish, LLMGW_FINISH_TOOL);
    assert_string_equal(u.answer->id, "msg_1");
    assert_string_equal(u.answer->model, "claude-x");
    unit_usage(&u, 1329, 30, 1322, 5, 2, 7);
    unit_end(&u);
}

static void test_stop_reasons(void **state) {
    static const struct {
        const char *reason;
        llmgw_finish finish;
    } rows[] = {{"end_turn", LLMGW_FINISH_STOP},     {"stop_sequence", LLMGW_FINISH_STOP},
                {"max_tokens", LLMGW_FINISH_LENGTH}, {"model_context_window_exceeded", LLMGW_FINISH_LENGTH},
                {"tool_use", LLMGW_FINISH_TOOL},     {"refusal", LLMGW_FINISH_FILTER},
                {"pause_turn", LLMGW_FINISH_PAUSE},  {"brand_new", LLMGW_FINISH_STOP}};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        char json[256];
        unit_answer u;
        snprintf(json, sizeof json, "{'content':[{'type':'text','text':'x'}],'stop_reason':'%s'}",
                 rows[i].reason);
        assert_true(unit_reply(&u, "anthropic", json));
        assert_int_equal(u.answer->finish, rows[i].finish);
        unit_end(&u);
    }
}

static void test_refusal(void **state) {
    unit_answer u;
    assert_true(unit_reply(&u, "anthropic",
                           "{'content':[],'stop_reason':'refusal','stop_details':{'type':'refusal',"
                           "'category':'cyber','explanation':'no malware'}}"));
    assert_int_equal(u.answer->finish, LLMGW_FINISH_FILTER);
    assert_string_equal(llmgwi_base_buf_cstr(&u.answer->refusal), "no malware");
    unit_end(&u);
    assert_true(unit_reply(&u, "anthropic",
                           "{'content':[],'stop_reason':'refusal','stop_details':{'category':'cyber',"
                           "'explanation':null}}"));
    assert_string_equal(llmgwi_base_buf_cstr(&u.answer->refusal), "cyber");
    unit_end(&u);
    assert_true(unit_reply(&u, "anthropic", "{'content':[],'stop_reason':'refusal','stop_details':null}"));
    assert_string_equal(llmgwi_base_buf_cstr(&u.answer->refusal), "refusal");
    unit_end(&u);
}

static void test_bad_replies(void **state) {
    static const struct {
        const char *json, *text;
        llmgw_code code;
    } rows[] = {
        {"{'type':'error','error':{'type':'overloaded_error','message':'Overloaded'}}", "Overloaded",
         LLMGW_E_OVERLOADED},
        {"{'type':'error','error':{'type':'rate_limit_error','message':'slow'},'request_id':'r'}", "slow",
         LLMGW_E_RATE_LIMITED},
        {"{}", "no content", LLMGW_E_PROTOCOL},
        {"{'content':null}", "no content", LLMGW_E_PROTOCOL},
        {"{'content':[{'type':'text','text':'x'}", "at byte 38", LLMGW_E_PROTOCOL},
        {"", "at byte 0", LLMGW_E_PROTOCOL},
        {"[1]", "expected an object at byte 0", LLMGW_E_PROTOCOL},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        unit_answer u;
        assert_false(unit_reply(&u, "anthropic", rows[i].json));
        unit_failed(&u, rows[i].code, rows[i].text);
        unit_end(&u);
    }
}

static void test_service_tier(void **state) {
    static const char *const words[] = {"standard", "batch", "flex", "priority"};
    for (int tier = 0; tier < 4; tier++) {
        unit_answer u;
        char reply[300];
        snprintf(reply, sizeof reply,
                 "{'content':[{'type':'text','text':'x'}],'stop_reason':'end_turn','usage':{'input_tokens':3,"
                 "'output_tokens':2,'service_tier':'%s'}}",
                 words[tier]);
        assert_true(unit_reply(&u, "anthropic", reply));
        assert_int_equal(u.answer->usage.tier, tier);
        unit_end(&u);
    }
}

static void test_huge_usage(void **state) {
    unit_answer u;
    assert_true(
        unit_reply(&u, "anthropic",
                   "{'content':[],'stop_reason':'end_turn','usage':{'input_tokens':9223372036854775807,"
                   "'cache_creation_input_tokens':9223372036854775807,"
                   "'cache_read_input_tokens':9223372036854775807,'output_tokens':9223372036854775807}}"));
    assert_true(u.answer->usage.input >= 0);
    assert_true(u.answer->usage.cached <= u.answer->usage.input || u.answer->usage.input == 0);
    unit_end(&u);
}

/* ---- streams ---- */

#define START                                                                                                \
    "{'type':'message_start','message':{'id':'msg_1','model':'claude-x','content':[],'stop_reason':null,"    \
    "'usage':{'input_tokens':12,'cache_read_input_tokens':100,'cache_creation_input_tokens':8,"              \
    "'output_tokens':1}}}"
#define BLOCK(i, block) "{'type':'content_block_start','index':" i ",'content_block':" block "}"
#define DELTA(i, delta) "{'type':'content_block_delta','index':" i ",'delta':" delta "}"
#define BLOCK_STOP(i) "{'type':'content_block_stop','index':" i "}"
#define MESSAGE_DELTA(reason, usage)                                                                         \
    "{'type':'message_delta','delta':{'stop_reason':'" reason "','stop_sequence':null},'usage':" usage "}"
#define STOP "{'type':'message_stop'}"

static void test_stream(void **state) {
    static const char *const events[] = {
        START,
        "{'type':'ping'}",
        BLOCK("0", "{'type':'text','text':''}"),
        DELTA("0", "{'type':'text_delta','text':'Hel'}"),
        "{'type':'something_new','index':0,'delta':{'type':'text_delta','text':'NO'}}",
        DELTA("0", "{'type':'citations_delta','citation':{'text':'NO'}}"),
        "{'index':0,'delta':{'text':'lo','type':'text_delta'},'type':'content_block_delta'    }",
        BLOCK_STOP("0"),
        MESSAGE_DELTA("end_turn", "{'output_tokens':30}"),
        STOP,
        NULL};
    unit_answer u;
    unit_stream(&u, "anthropic", events);
    unit_complete(&u);
    unit_text(&u, "Hello");
    assert_string_equal(u.order, "T");
    assert_string_equal(u.answer->id, "msg_1");
    assert_string_equal(u.answer->model, "claude-x");
    unit_usage(&u, 120, 30, 100, 8, 0, 0);
    unit_end(&u);
}

/* message_delta restates: it replaces, it does not add. */
static void test_stream_usage_is_cumulative(void **state) {
    static const char *const events[] = {START, MESSAGE_DELTA("end_turn", "{'output_tokens':10}"),
                                         MESSAGE_DELTA("end_turn",
                                                       "{'input_tokens':20,'cache_read_input_tokens':50,"
                                                       "'cache_creation_input_tokens':0,'output_tokens':25}"),
                                         STOP, NULL};
    unit_answer u;
    unit_stream(&u, "anthropic", events);
    unit_complete(&u);
    unit_usage(&u, 70, 25, 50, 0, 0, 0);
    unit_end(&u);
}

static void test_stream_tools(void **state) {
    static const char *const events[] = {
        START,
        BLOCK("0", "{'type':'text','text':'I '}"),
        DELTA("0", "{'type':'text_delta','text':'will'}"),
        BLOCK_STOP("0"),
        BLOCK("1", "{'type':'tool_use','id':'t1','name':'f','input':{}}"),
        DELTA("1", "{'type':'input_json_delta','partial_json':''}"),
        DELTA("1", "{'type':'input_json_delta','partial_json':'{\\'a\\': \\'\\\\u00'}"),
        DELTA("1", "{'type':'input_json_delta','partial_json':'e9\\'}'}"),
        BLOCK_STOP("1"),
        BLOCK("2", "{'type':'tool_use','id':'t2','name':'g','input':{}}"),
        BLOCK_STOP("2"),
        BLOCK("3", "{'type':'server_tool_use','id':'s','name':'web_search','input':{}}"),
        DELTA("3", "{'type':'input_json_delta','partial_json':'{\\'q\\':1}'}"),
        MESSAGE_DELTA("tool_use", "{'output_tokens':30}"),
        STOP,
        NULL};
    unit_answer u;
    unit_stream(&u, "anthropic", events);
    unit_complete(&u);
    unit_text(&u, "I will");
    unit_call(&u, 0, "t1", "f", "{'a':'\xC3\xA9'}");
    unit_call(&u, 1, "t2", "g", "{}");
    assert_string_equal(u.order, "T01");
    assert_int_equal(u.answer->finish, LLMGW_FINISH_TOOL);
    assert_int_equal(u.answer->tool_count, 2);
    unit_end(&u);
}

static const char *const thinking_events[] = {
    START,
    BLOCK("0", "{'type':'thinking','thinking':'','signature':''}"),
    DELTA("0", "{'type':'thinking_delta','thinking':'let '}"),
    DELTA("0", "{'type':'thinking_delta','thinking':'me'}"),
    DELTA("0", "{'type':'signature_delta','signature':'sig'}"),
    DELTA("0", "{'type':'signature_delta','signature':'1=='}"),
    BLOCK_STOP("0"),
    BLOCK("1", "{'type':'redacted_thinking','data':'red=='}"),
    BLOCK_STOP("1"),
    BLOCK("2", "{'type':'thinking','thinking':'','signature':''}"), /* display omitted: a signature only */
    DELTA("2", "{'type':'signature_delta','signature':'sig2'}"),
    BLOCK_STOP("2"),
    BLOCK("3", "{'type':'thinking','thinking':''}"),
    DELTA("3", "{'type':'thinking_delta','thinking':'again'}"),
    DELTA("3", "{'type':'signature_delta','signature':'sig3'}"),
    BLOCK_STOP("3"),
    BLOCK("4", "{'type':'text','text':''}"),
    DELTA("4", "{'type':'text_delta','text':'So'}"),
    BLOCK_STOP("4"),
    BLOCK("5", "{'type':'tool_use','id':'t1','name':'f','input':{}}"),
    DELTA("5", "{'type':'input_json_delta','partial_json':'{}'}"),
    MESSAGE_DELTA("tool_use", "{'output_tokens':9}"),
    STOP,
    NULL};

/* Thinking goes back in order, block by block, each with its own signature. */
static void test_stream_thinking_round_trip(void **state) {
    unit_answer u;
    unit_stream(&u, "anthropic", thinking_events);
    unit_complete(&u);
    unit_reasoning(&u, "let meagain");
    unit_text(&u, "So");
    llmgw_part result = unit_tool_result("t1", "ok");
    llmgw_message turns[3] = {unit_message(LLMGW_ROLE_USER, "q", NULL, 0), unit_turn(&u, "anthropic"),
                              unit_message(LLMGW_ROLE_TOOL, NULL, &result, 1)};
    llmgw_request request = unit_talk(turns, 3);
    json_t *body = unit_body("anthropic", "m", &request);
    unit_is(body, "messages.1.content",
            "[{'type':'thinking','thinking':'let me','signature':'sig1=='},"
            "{'type':'redacted_thinking','data':'red=='},"
            "{'type':'thinking','thinking':'','signature':'sig2'},"
            "{'type':'thinking','thinking':'again','signature':'sig3'},"
            "{'type':'text','text':'So'},{'type':'tool_use','id':'t1','name':'f','input':{}}]");
    unit_is(body, "messages.2.content", "[{'type':'tool_result','tool_use_id':'t1','content':'ok'}]");
    json_decref(body);
    body = unit_body("gemini", "m", &request); /* stripped for another */
    unit_is(body, "contents.1.parts", "[{'text':'So'},{'functionCall':{'id':'t1','name':'f','args':{}}}]");
    json_decref(body);
    unit_end(&u);
}

/* The same message begun again is tolerated; another one inside it is not the answer to one question. */
static void test_message_start_again(void **state) {
    static const char *const events[] = {
        START,
        BLOCK("0", "{'type':'text','text':''}"),
        DELTA("0", "{'type':'text_delta','text':'a'}"),
        START,
        BLOCK("0", "{'type':'tool_use','id':'t1','name':'f','input':{}}"),
        DELTA("0", "{'type':'input_json_delta','partial_json':'{\\'x\\':1}'}"),
        MESSAGE_DELTA("tool_use", "{'output_tokens':4}"),
        STOP,
        NULL};
    unit_answer u;
    unit_stream(&u, "anthropic", events);
    unit_complete(&u);
    unit_text(&u, "a");
    assert_string_equal(u.answer->id, "msg_1");
    unit_call(&u, 0, "t1", "f", "{'x':1}");
    unit_end(&u);
}

static void test_another_message_inside(void **state) {
    unit_answer u;
    unit_begin(&u, "anthropic", true);
    assert_true(unit_event(&u, START));
    assert_true(unit_event(&u, DELTA("0", "{'type':'text_delta','text':'a'}")));
    assert_false(unit_event(&u, "{'type':'message_start','message':{'id':'msg_2','content':[]}}"));
    unit_failed(&u, LLMGW_E_PROTOCOL, "another message");
    unit_text(&u, "a");
    unit_end(&u);
}

static void test_stream_error(void **state) {
    static const struct {
        const char *json;
        llmgw_code code;
    } rows[] = {
        {"{'type':'error','error':{'type':'overloaded_error','message':'why'}}", LLMGW_E_OVERLOADED},
        {"{'type':'error','error':{'type':'api_error','message':'why'}}", LLMGW_E_PROVIDER},
        {"{'type':'error','error':{'type':'rate_limit_error','message':'why'}}", LLMGW_E_RATE_LIMITED},
        {"{'type':'error','error':{'type':'invalid_request_error','message':'why'}}", LLMGW_E_BAD_REQUEST},
        {"{'type':'error','error':{'type':'never_seen','message':'why'}}", LLMGW_E_PROVIDER},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        unit_answer u;
        unit_begin(&u, "anthropic", true);
        assert_true(unit_event_named(&u, "message_start", START));
        assert_true(unit_event(&u, DELTA("0", "{'type':'text_delta','text':'part'}")));
        assert_false(unit_event_named(&u, "error", rows[i].json));
        unit_failed(&u, rows[i].code, "why");
        assert_false(llmgwi_dialect_complete(u.dialect, u.answer));
        unit_text(&u, "part");
        unit_end(&u);
    }
}

/* EOF: a stop reason is not enough, message_stop is. */
static void test_stream_eof(void **state) {
    unit_answer u;
    unit_begin(&u, "anthropic", true);
    assert_true(unit_event(&u, START));
    assert_false(llmgwi_dialect_complete(u.dialect, u.answer));
    assert_true(unit_event(&u, MESSAGE_DELTA("end_turn", "{'output_tokens':1}")));
    assert_true(u.answer->finished);
    assert_false(llmgwi_dialect_complete(u.dialect, u.answer));
    assert_true(unit_event(&u, STOP));
    assert_true(llmgwi_dialect_complete(u.dialect, u.answer));
    unit_end(&u);
}

static void test_stream_refusal(void **state) {
    static const char *const events[] = {
        START,
        "{'type':'message_delta','delta':{'stop_reason':'refusal','stop_details':{'explanation':'no'}},"
        "'usage':{'output_tokens':1}}",
        STOP, NULL};
    unit_answer u;
    unit_stream(&u, "anthropic", events);
    unit_complete(&u);
    assert_int_equal(u.answer->finish, LLMGW_FINISH_FILTER);
    assert_string_equal(llmgwi_base_buf_cstr(&u.answer->refusal), "no");
    unit_end(&u);
}

static void test_stream_malformed(void **state) {
    static const char *const rows[] = {
        "{'type':'ping'", "nothing", "[]",
        "{'type':'content_block_delta','delta':{'type':'text_delta','text':'\\x'}}"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        unit_answer u;
        unit_begin(&u, "anthropic", true);
        assert_false(unit_event(&u, rows[i]));
        unit_failed(&u, LLMGW_E_PROTOCOL, "at byte");
        unit_end(&u);
    }
}

/* Wrong types where an object is due are passed over, never a crash. */
static void test_stream_odd_shapes(void **state) {
    static const char *const rows[] = {
        "{'type':'message_start'}",
        "{'type':'content_block_start','index':'x'}",
        "{'type':'content_block_delta','index':0,'delta':null}",
        "{'type':'content_block_delta','delta':[1,2]}",
        "{'type':'content_block_delta','delta':{'type':'text_delta','text':7}}",
        "{'type':'message_delta','delta':'x','usage':[]}",
        "{'type':7}",
        "{}",
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        unit_answer u;
        unit_begin(&u, "anthropic", true);
        (void)unit_event(&u, rows[i]);
        assert_true(u.answer->error.code == LLMGW_OK || u.answer->error.code == LLMGW_E_PROTOCOL);
        unit_text(&u, "");
        unit_end(&u);
    }
}

/* A turn with nothing to say here (another's reasoning, no text) is left out: empty it is a 400. */
static void test_turn_without_content(void **state) { unit_silent_turn("anthropic", "messages", "content"); }

/* ---- cut anywhere ---- */

static void test_cut_anywhere(void **state) {
    unit_cut_reply("anthropic",
                   "{'id':'m','content':[{'type':'text','text':'\xC3\xA9'},{'type':'tool_use','id':'t',"
                   "'name':'f','input':{'a':[1]}}],'stop_reason':'tool_use','usage':{"
                   "'input_tokens':1,'output_tokens':2}}");
    unit_cut_stream(
        "anthropic",
        "event: message_start\ndata: " START "\n\nevent: ping\ndata: {'type':'ping'}\n\n"
        "event: content_block_delta\ndata: " DELTA(
            "0", "{'type':'text_delta','text':'H\xC3\xA9'}") "\n\n"
                                                             "event: "
                                                             "content_block_start\ndata: " BLOCK(
                                                                 "1",
                                                                 "{'type':'tool_use','id':'t','name':'"
                                                                 "f','input':{"
                                                                 "}}") "\n\n"
                                                                       "event: "
                                                                       "content_block_delta\ndata:"
                                                                       " " DELTA("1", "{'type':'input_json_"
                                                                                      "delta','partial_"
                                                                                      "json':'{\\'a\\':1}'"
                                                                                      "}") "\n\n"
                                                                                           "event: "
                                                                                           "message_"
                                                                                           "delta\ndata:"
                                                                                           " " MESSAGE_DELTA(
                                                                                               "tool_use",
                                                                                               "{'output_"
                                                                                               "tokens':"
                                                                                               "4}") "\n\n"
                                                                                                     "even"
                                                                                                     "t: "
                                                                                                     "mess"
                                                                                                     "age_"
                                                                                                     "stop"
                                                                                                     "\nda"
                                                                                                     "ta:"
                                                                                                     " " STOP
                                                                                                     "\n"
                                                                                                     "\n",
        "H\xC3\xA9", "{\"a\":1}");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_system),
        cmocka_unit_test(test_merged_turns),
        cmocka_unit_test(test_images_and_files),
        cmocka_unit_test(test_tools),
        cmocka_unit_test(test_tool_choice),
        cmocka_unit_test(test_tool_loop),
        cmocka_unit_test(test_sampling),
        cmocka_unit_test(test_schema),
        cmocka_unit_test(test_effort),
        cmocka_unit_test(test_thinking_replay),
        cmocka_unit_test(test_bad_utf8_is_named),
        cmocka_unit_test(test_max_request_bytes),
        cmocka_unit_test(test_reply),
        cmocka_unit_test(test_stop_reasons),
        cmocka_unit_test(test_refusal),
        cmocka_unit_test(test_bad_replies),
        cmocka_unit_test(test_service_tier),
        cmocka_unit_test(test_huge_usage),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_stream_usage_is_cumulative),
        cmocka_unit_test(test_stream_tools),
        cmocka_unit_test(test_stream_thinking_round_trip),
        cmocka_unit_test(test_message_start_again),
        cmocka_unit_test(test_another_message_inside),
        cmocka_unit_test(test_stream_error),
        cmocka_unit_test(test_stream_eof),
        cmocka_unit_test(test_stream_refusal),
        cmocka_unit_test(test_stream_malformed),
        cmocka_unit_test(test_stream_odd_shapes),
        cmocka_unit_test(test_turn_without_content),
        cmocka_unit_test(test_cut_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
