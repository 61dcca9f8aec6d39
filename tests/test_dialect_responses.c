/* The responses dialect (OpenAI's Responses API): requests out, replies and streams in, the recordings. */
#include "unit.h"

#include <dirent.h>

#define OPENAI "openai:responses"
#define ROUTER "openrouter:responses"

/* ---- requests ---- */

static void test_plain(void **state) {
    llmgw_request request = unit_ask("hi \"there\"\n");
    json_t *body = unit_body(OPENAI, "o3-pro", &request);
    unit_is(body, "model", "'o3-pro'");
    unit_is(
        body, "input",
        "[{'type':'message','role':'user','content':[{'type':'input_text','text':'hi \\'there\\'\\n'}]}]");
    unit_is(body, "store", "false");
    unit_is(body, "include", "['reasoning.encrypted_content']");
    assert_int_equal(json_object_size(body), 4); /* unset is not sent */
    json_decref(body);
    request.system = "be brief";
    body = unit_body(OPENAI, "m", &request);
    unit_is(body, "instructions", "'be brief'");
    unit_none(body, "input.1");
    json_decref(body);
}

/* System turns stay where they stand; empty texts are left out, turns of nothing else too. */
static void test_turns(void **state) {
    llmgw_part two[2] = {unit_part(LLMGW_PART_TEXT, "b"), unit_part(LLMGW_PART_TEXT, "cX")};
    two[1].text_len = 1;
    llmgw_message turns[6] = {
        unit_message(LLMGW_ROLE_USER, "a", two, 2),       unit_message(LLMGW_ROLE_SYSTEM, "s", NULL, 0),
        unit_message(LLMGW_ROLE_ASSISTANT, NULL, two, 2), unit_message(LLMGW_ROLE_USER, "", NULL, 0),
        unit_message(LLMGW_ROLE_ASSISTANT, "", NULL, 0),  unit_message(LLMGW_ROLE_USER, "", two, 1)};
    llmgw_request request = unit_talk(turns, 6);
    request.prompt = "last";
    json_t *body = unit_body(OPENAI, "m", &request);
    unit_is(body, "input.0.content",
            "[{'type':'input_text','text':'a'},{'type':'input_text','text':'b'},{'type':'input_text','text':'"
            "c'}]");
    unit_is(body, "input.1",
            "{'type':'message','role':'system','content':[{'type':'input_text','text':'s'}]}");
    unit_is(
        body, "input.2",
        "{'type':'message','role':'assistant','content':[{'type':'output_text','text':'b','annotations':[]},"
        "{'type':'output_text','text':'c','annotations':[]}]}");
    unit_is(body, "input.3.content", "[{'type':'input_text','text':'b'}]");
    unit_is(body, "input.4.content", "[{'type':'input_text','text':'last'}]");
    unit_none(body, "input.5");
    json_decref(body);
}

static void test_images_and_files(void **state) {
    llmgw_part parts[5] = {
        unit_bytes(LLMGW_PART_IMAGE, NULL, NULL, "abc"), unit_url(LLMGW_PART_IMAGE, "https://x/y.png"),
        unit_bytes(LLMGW_PART_FILE, NULL, "a.pdf", "%PDF"),
        unit_bytes(LLMGW_PART_FILE, "text/plain", NULL, "x"), unit_url(LLMGW_PART_FILE, "https://x/y.pdf")};
    llmgw_message turn = unit_message(LLMGW_ROLE_USER, "see", parts, 5);
    llmgw_request request = unit_talk(&turn, 1);
    json_t *body = unit_body(OPENAI, "m", &request), *content = unit_at(body, "input.0.content");
    unit_is(content, "0", "{'type':'input_text','text':'see'}");
    unit_is(content, "1", "{'type':'input_image','detail':'auto','image_url':'data:image/png;base64,YWJj'}");
    unit_is(content, "2", "{'type':'input_image','detail':'auto','image_url':'https://x/y.png'}");
    unit_is(content, "3",
            "{'type':'input_file','filename':'a.pdf','file_data':'data:application/pdf;base64,JVBERg=='}");
    unit_is(content, "4",
            "{'type':'input_file','filename':'file','file_data':'data:text/plain;base64,eA=='}");
    unit_is(content, "5", "{'type':'input_file','file_url':'https://x/y.pdf'}");
    json_decref(body);
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
    static const char *const want[] = {NULL, "'none'", "'required'", "{'type':'function','name':'stop'}"};
    llmgw_request request = with_tools(LLMGW_TOOLS_AUTO);
    request.serial_tools = true;
    json_t *body = unit_body(OPENAI, "m", &request);
    unit_is(
        body, "tools",
        "[{'type':'function','name':'get_weather','description':'Weather \\'now\\'',"
        "'parameters':{'type':'object','required':['city']},'strict':true},"
        "{'type':'function','name':'stop','parameters':{'type':'object','properties':{}},'strict':false}]");
    unit_is(body, "parallel_tool_calls", "false");
    json_decref(body);
    for (int mode = LLMGW_TOOLS_AUTO; mode <= LLMGW_TOOLS_ONE; mode++) {
        request = with_tools((llmgw_tool_mode)mode);
        body = unit_body(OPENAI, "m", &request);
        unit_is(body, "tool_choice", want[mode]);
        unit_none(body, "parallel_tool_calls");
        json_decref(body);
    }
}

/* Calls and texts are items in their order, results come before what the turn says. */
static void test_tool_loop(void **state) {
    llmgw_part calls[4] = {unit_part(LLMGW_PART_TEXT, "so"), unit_tool_call("c1", "f", "{\"a\":\"\\u00e9\"}"),
                           unit_part(LLMGW_PART_TEXT, "and"), unit_tool_call("c2", "g", NULL)};
    llmgw_part results[3] = {unit_part(LLMGW_PART_TEXT, "here"), unit_tool_result("c1", "sunny"),
                             unit_tool_result("c2", "")};
    llmgw_message turns[3] = {unit_message(LLMGW_ROLE_USER, "go", NULL, 0),
                              unit_message(LLMGW_ROLE_ASSISTANT, NULL, calls, 4),
                              unit_message(LLMGW_ROLE_TOOL, NULL, results, 3)};
    llmgw_request request = unit_talk(turns, 3);
    json_t *body = unit_body(OPENAI, "m", &request), *input = unit_at(body, "input");
    unit_is(input, "1.content.0.text", "'so'");
    unit_is(input, "2.type", "'function_call'");
    unit_is(input, "2.call_id", "'c1'");
    assert_string_equal(json_string_value(unit_at(input, "2.arguments")), "{\"a\":\"\\u00e9\"}");
    unit_is(input, "3.content.0.text", "'and'");
    unit_is(input, "4", "{'type':'function_call','call_id':'c2','name':'g','arguments':'{}'}");
    unit_is(input, "5", "{'type':'function_call_output','call_id':'c1','output':'sunny'}");
    unit_is(input, "6", "{'type':'function_call_output','call_id':'c2','output':''}");
    unit_is(input, "7.role", "'user'");
    unit_is(input, "7.content.0.text", "'here'");
    assert_int_equal(json_array_size(input), 8);
    json_decref(body);
}

/* What it has no parameter for is not sent; what a model does not take neither. */
static void test_options(void **state) {
    static const char *const stop[1] = {"END"};
    static const char *const never[] = {"stop", "seed", "frequency_penalty", "presence_penalty", "top_k",
                                        "user", "n",    "max_tokens",        "response_format"};
    llmgw_request request = unit_ask("hi");
    request.temperature = llmgw_set(0);
    request.top_p = llmgw_set(0.5);
    request.frequency_penalty = request.presence_penalty = request.seed = request.top_k = llmgw_set(1);
    request.stop = stop;
    request.stop_count = 1;
    request.user_id = "u1";
    request.stream = true;
    request.schema = "{\"type\":\"object\"}";
    request.max_tokens = 77;
    json_t *body = unit_body(OPENAI, "m", &request);
    assert_true(json_is_number(unit_at(body, "temperature")) &&
                json_number_value(unit_at(body, "top_p")) == 0.5);
    unit_is(body, "safety_identifier", "'u1'");
    unit_is(body, "stream", "true");
    unit_is(body, "max_output_tokens", "77");
    unit_is(body, "text",
            "{'format':{'type':'json_schema','name':'reply','schema':{'type':'object'},'strict':true}}");
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(never); i++) unit_none(body, never[i]);
    json_decref(body);
    request.schema_name = "city";
    request.max_tokens = 3; /* under 16 it is a 400 */
    body = unit_body(OPENAI, "m", &request);
    unit_is(body, "max_output_tokens", "16");
    unit_is(body, "text.format.name", "'city'");
    json_decref(body);
}

static json_t *body_for(uint64_t quirks, const char *flavour, const llmgw_request *request,
                        const llmgwi_dialect_resume *resume) {
    llmgwi_dialect_target target = {"m", flavour, quirks, NULL};
    llmgwi_base_buf body;
    llmgw_error error;
    memset(&error, 0, sizeof error);
    llmgwi_base_buf_init(&body, &unit_mem, (size_t)1 << 20);
    if (!llmgwi_dialect_write(llmgwi_dialect_find("responses"), &target, request, resume, &body, &error))
        fail_msg("%s", error.text);
    json_t *json = json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    llmgwi_base_buf_free(&body);
    return json;
}

static void test_reasoning(void **state) {
    static const char *const want[] = {NULL, "{'effort':'none'}", "{'effort':'low','summary':'auto'}",
                                       "{'effort':'medium','summary':'auto'}",
                                       "{'effort':'high','summary':'auto'}"};
    llmgw_request request = unit_ask("hi");
    request.temperature = request.top_p = llmgw_set(1);
    for (int effort = LLMGW_EFFORT_DEFAULT; effort <= LLMGW_EFFORT_HIGH; effort++) {
        request.effort = (llmgw_effort)effort;
        json_t *body = unit_body(OPENAI, "m", &request);
        unit_is(body, "reasoning", want[effort]);
        json_decref(body);
    }
    json_t *body = body_for(LLMGWI_DIALECT_THINK_NONE, "openai", &request, NULL); /* both are a 400 there */
    unit_none(body, "reasoning");
    unit_none(body, "include");
    assert_non_null(unit_at(body, "temperature"));
    json_decref(body);
    body = body_for(LLMGWI_DIALECT_TEMPERATURE(NONE) | LLMGWI_DIALECT_TOP_P(NONE), "openai", &request, NULL);
    unit_is(body, "reasoning.effort", "'high'");
    unit_none(body, "temperature");
    unit_none(body, "top_p");
    json_decref(body);
}

static void test_bad_text(void **state) {
    llmgw_request request = unit_ask("ab\xC3(");
    llmgw_error error = unit_refusal(OPENAI, "m", &request);
    assert_int_equal(error.code, LLMGW_E_ARGUMENT);
    unit_has(error.text, "request.prompt: bad UTF-8 at byte 2");
}

/* A cut answer goes on by a user's turn, whatever the model could do elsewhere. */
static void test_resume(void **state) {
    llmgw_request request = unit_ask("tell");
    llmgwi_dialect_resume resume;
    llmgwi_dialect_target target = {"anthropic/claude-3-haiku", "openrouter", 0, NULL};
    target.quirks = llmgwi_dialect_quirks_of("responses", "openrouter", target.model, NULL);
    memset(&resume, 0, sizeof resume);
    resume.text = llmgwi_base_cstr("Once upon");
    assert_false(llmgwi_dialect_prefills(&target, &request));
    json_t *body = body_for(0, "openai", &request, &resume), *input = unit_at(body, "input");
    unit_is(input, "1.role", "'assistant'");
    unit_is(input, "1.content.0.text", "'Once upon'");
    unit_is(input, "2.role", "'user'");
    unit_has(json_string_value(unit_at(input, "2.content.0.text")), "Continue exactly where you stopped");
    assert_int_equal(json_array_size(input), 3);
    json_decref(body);
}

#define ITEM "{\"id\":\"rs_1\",\"type\":\"reasoning\",\"summary\":[],\"encrypted_content\":\"gAA==\"}"

/* Reasoning goes back as it came, to where it came from, and not alone. */
static void test_replay(void **state) {
    llmgw_part parts[2] = {unit_thought("hm", ITEM, "openai"), unit_tool_call("c1", "f", "{}")};
    llmgw_message turns[2] = {unit_message(LLMGW_ROLE_USER, "q", NULL, 0),
                              unit_message(LLMGW_ROLE_ASSISTANT, NULL, parts, 2)};
    llmgw_request request = unit_talk(turns, 2);
    json_t *body = unit_body(OPENAI, "m", &request);
    unit_is(body, "input.1", "{'id':'rs_1','type':'reasoning','summary':[],'encrypted_content':'gAA=='}");
    unit_is(body, "input.2.type", "'function_call'");
    json_decref(body);
    static const struct {
        const char *provider, *origin, *signature;
        size_t parts;
    } none[] = {
        {OPENAI, "azure", ITEM, 2},                      /* another's */
        {OPENAI, "openai", NULL, 2},                     /* nothing encrypted */
        {OPENAI, "openai", "gAA==", 2},                  /* no item */
        {OPENAI, "openai", "{\"id\":\"rs_1\",", 2},      /* nor this */
        {OPENAI, "openai", ITEM, 1},                     /* nothing follows: "without its required ..." */
        {ROUTER, "openrouter", "[{\"type\":\"x\"}]", 2}, /* from its chat */
        {"openai", "openai", ITEM, 2},                   /* chat takes none */
        {"openrouter", "openrouter", ITEM, 2},           /* nor this in its details */
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(none); i++) {
        parts[0] = unit_thought("hm", none[i].signature, none[i].origin);
        turns[1].part_count = none[i].parts;
        body = unit_body(none[i].provider, "m", &request);
        char *text = json_dumps(body, JSON_COMPACT);
        if (strstr(text, "gAA") || strstr(text, "hm") || strstr(text, "rs_1") || strstr(text, "details"))
            fail_msg("row %zu: %s", i, text);
        free(text);
        json_decref(body);
    }
}

/* What is said on the way (phase) keeps its mark, in a message of its own. */
static void test_phases_go_back(void **state) {
    llmgw_part parts[4] = {unit_part(LLMGW_PART_TEXT, "I look."), unit_part(LLMGW_PART_TEXT, "Found."),
                           unit_part(LLMGW_PART_TEXT, "Yes."), unit_part(LLMGW_PART_TEXT, "No.")};
    parts[0].signature = "commentary";
    parts[1].signature = parts[2].signature = "final_answer";
    for (int i = 0; i < 4; i++) parts[i].origin = "openai";
    llmgw_message turn = unit_message(LLMGW_ROLE_ASSISTANT, NULL, parts, 4);
    llmgw_request request = unit_talk(&turn, 1);
    json_t *body = unit_body(OPENAI, "m", &request), *input = unit_at(body, "input");
    assert_int_equal(json_array_size(input), 3);
    unit_is(input, "0.phase", "'commentary'");
    unit_is(input, "1.phase", "'final_answer'");
    assert_int_equal(json_array_size(unit_at(input, "1.content")), 2);
    unit_none(input, "2.phase");
    json_decref(body);
    for (int i = 0; i < 4; i++) parts[i].origin = "gemini";
    body = unit_body(OPENAI, "m", &request);
    assert_int_equal(json_array_size(unit_at(body, "input")), 1);
    unit_none(body, "input.0.phase");
    json_decref(body);
}

/* ---- replies ---- */

#define HEAD "{'id':'resp_1','object':'response','model':'gpt-x','error':null,'incomplete_details':null,"
#define USAGE                                                                                                \
    "'usage':{'input_tokens':100,'input_tokens_details':{'cached_tokens':60,'cache_write_tokens':7},"        \
    "'output_tokens':30,'output_tokens_details':{'reasoning_tokens':20},'total_tokens':130}"
#define THOUGHT                                                                                              \
    "{'id':'rs_1','type':'reasoning','encrypted_content':'gAA==','summary':["                                \
    "{'type':'summary_text','text':'first'},{'type':'summary_text','text':'then'}]}"
#define SAID(text)                                                                                           \
    "{'id':'msg_1','type':'message','role':'assistant','status':'completed','content':["                     \
    "{'type':'output_text','text':'" text "','annotations':[]}]}"
#define CALL(n, name, arguments)                                                                             \
    "{'id':'fc_" n "','type':'function_call','call_id':'call_" n "','name':'" name                           \
    "','arguments':'" arguments "','status':'completed'}"

static void test_reply(void **state) {
    unit_answer u;
    assert_true(unit_reply(&u, OPENAI,
                           HEAD
                           "'status':'completed','service_tier':'priority'," USAGE ",'output':[" THOUGHT
                           ",{'type':'web_search_call','id':'ws_1','status':'completed'}," SAID(
                               "H\\u00e9") "," CALL("1", "f", "{\\'a\\':1}") "," CALL("2", "g", "") "]}"));
    unit_text(&u, "H\xC3\xA9");
    unit_reasoning(&u, "first\n\nthen");
    unit_call(&u, 0, "call_1", "f", "{'a':1}");
    unit_call(&u, 1, "call_2", "g", "{}");
    unit_usage(&u, 100, 30, 60, 7, 0, 20);
    assert_int_equal(u.answer->usage.tier, LLMGW_TIER_PRIORITY);
    assert_int_equal(u.answer->finish, LLMGW_FINISH_TOOL);
    assert_string_equal(u.answer->id, "resp_1");
    assert_string_equal(u.answer->model, "gpt-x");
    assert_int_equal(u.answer->piece_count, 4);
    unit_end(&u);
}

static void test_reply_ends(void **state) {
    static const struct {
        const char *fields;
        llmgw_finish finish; /* NONE: an error */
        llmgw_code code;
        const char *part;
    } rows[] = {
        {"'status':'completed'", LLMGW_FINISH_STOP, LLMGW_OK, ""},
        {"'x':1", LLMGW_FINISH_STOP, LLMGW_OK, ""},
        {"'status':'incomplete','incomplete_details':{'reason':'max_output_tokens'}", LLMGW_FINISH_LENGTH,
         LLMGW_OK, ""},
        {"'status':'incomplete','incomplete_details':{'reason':'content_filter'}", LLMGW_FINISH_FILTER,
         LLMGW_OK, ""},
        {"'status':'incomplete','incomplete_details':{'reason':'max_tool_calls'}", LLMGW_FINISH_LENGTH,
         LLMGW_OK, ""},
        {"'status':'incomplete'", LLMGW_FINISH_LENGTH, LLMGW_OK, ""},
        {"'status':'failed','error':{'code':'rate_limit_exceeded','message':'slow down'}", LLMGW_FINISH_NONE,
         LLMGW_E_RATE_LIMITED, "slow down"},
        {"'status':'failed','error':{'code':'server_error','message':'oops'}", LLMGW_FINISH_NONE,
         LLMGW_E_PROVIDER, "oops"},
        {"'status':'failed','error':{'code':'invalid_prompt','message':'flagged'}", LLMGW_FINISH_NONE,
         LLMGW_E_FILTERED, "flagged"},
        {"'status':'failed'", LLMGW_FINISH_NONE, LLMGW_E_PROVIDER, "its response failed"},
        {"'status':'cancelled'", LLMGW_FINISH_NONE, LLMGW_E_PROVIDER, "its response failed"},
        {"'status':'in_progress'", LLMGW_FINISH_NONE, LLMGW_E_PROTOCOL, "not finished"},
        {"'status':'queued'", LLMGW_FINISH_NONE, LLMGW_E_PROTOCOL, "not finished"},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        char json[1024];
        unit_answer u;
        snprintf(json, sizeof json, "{'id':'r','model':'m',%s,'output':[" SAID("Hi") "]}", rows[i].fields);
        bool good = unit_reply(&u, OPENAI, json);
        if (good != (rows[i].code == LLMGW_OK) || u.answer->finish != rows[i].finish)
            fail_msg("%s: finish %d, %s", json, u.answer->finish, u.answer->error.text);
        if (!good) unit_failed(&u, rows[i].code, rows[i].part);
        unit_end(&u);
    }
}

static void test_reply_wrong(void **state) {
    static const struct {
        const char *json;
        llmgw_code code;
        const char *part;
    } rows[] = {
        {"{}", LLMGW_E_PROTOCOL, "no output"},
        {"[]", LLMGW_E_PROTOCOL, "reply"},
        {"{'output':{}}", LLMGW_E_PROTOCOL, "no output"},
        {"{'output':[" SAID("x") "]", LLMGW_E_PROTOCOL, "at byte"},
        {"{'output':[{'type':'function_call','call_id':'c','arguments':'{}'}]}", LLMGW_E_PROTOCOL,
         "a call without a name"},
        {"{'error':{'code':429,'message':'Provider returned error'}}", LLMGW_E_RATE_LIMITED, "Provider"},
        {"{'error':'down'}", LLMGW_E_PROVIDER, "down"},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        unit_answer u;
        if (unit_reply(&u, OPENAI, rows[i].json)) fail_msg("taken: %s", rows[i].json);
        unit_failed(&u, rows[i].code, rows[i].part);
        unit_end(&u);
    }
    unit_cut_reply(OPENAI, HEAD "'status':'completed'," USAGE ",'output':[" THOUGHT "," SAID("Hi") "]}");
}

static void test_reply_refusal(void **state) {
    unit_answer u;
    assert_true(unit_reply(&u, OPENAI,
                           HEAD
                           "'status':'completed','output':[{'type':'message','content':[{'type':'refusal',"
                           "'refusal':'I will '},{'type':'refusal','refusal':'not.'}]}]}"));
    assert_string_equal(llmgwi_base_buf_cstr(&u.answer->refusal), "I will not.");
    unit_text(&u, "");
    unit_end(&u);
}

/* The tier that counts is that of the last response: before, it is what was asked for. */
static void test_tier(void **state) {
    static const char *const events[] = {
        "{'type':'response.created','response':{'id':'r','service_tier':'priority'}}",
        "{'type':'response.completed','response':{'id':'r','status':'completed','output':[]}}", NULL};
    unit_answer u;
    unit_stream(&u, OPENAI, events);
    assert_int_equal(u.answer->usage.tier, LLMGW_TIER_STANDARD);
    unit_end(&u);
}

/* OpenRouter tells the cost; both of a usage's names at once are not mixed. */
static void test_usage(void **state) {
    unit_answer u;
    assert_true(unit_reply(&u, ROUTER,
                           HEAD
                           "'status':'completed','output':[],'usage':{'input_tokens':5,'output_tokens':2,"
                           "'prompt_tokens':0,'completion_tokens':0,'cost':0.00125}}"));
    unit_usage(&u, 5, 2, 0, 0, 0, 0);
    assert_true(u.answer->reported.known && u.answer->reported.pico_usd == 1250000000);
    unit_end(&u);
    assert_true(unit_reply(&u, OPENAI, HEAD "'status':'completed','output':[],'usage':null}"));
    assert_false(u.answer->usage.known);
    unit_end(&u);
    assert_true(unit_reply(&u, "openai",
                           "{'choices':[{'message':{'content':'x'},'finish_reason':'stop'}],'usage':{"
                           "'prompt_tokens':5,'completion_tokens':2,'input_tokens':0,'output_tokens':0,"
                           "'input_tokens_details':null}}"));
    unit_usage(&u, 5, 2, 0, 0, 0, 0);
    unit_end(&u);
}

/* Two items under one call id are two calls. */
static void test_reply_same_ids(void **state) {
    unit_answer u;
    assert_true(unit_reply(&u, OPENAI,
                           HEAD "'output':[" CALL("1", "f", "{}") "," CALL("1", "g", "{\\'b\\':2}") "]}"));
    unit_call(&u, 0, "call_1", "f", "{}");
    unit_call(&u, 1, "call_1", "g", "{'b':2}");
    unit_end(&u);
    assert_true(unit_reply(&u, OPENAI,
                           HEAD
                           "'output':[{'type':'function_call','name':'f'},{'type':'function_call','name':'g',"
                           "'id':'fc_9'}]}"));
    assert_int_equal(strncmp(unit_tool(&u, 0)->id, LLMGWI_DIALECT_MADE_ID, strlen(LLMGWI_DIALECT_MADE_ID)),
                     0);
    unit_call(&u, 1, "fc_9", "g", "{}");
    unit_end(&u);
}

/* ---- streams ---- */

#define CREATED                                                                                              \
    "{'type':'response.created','response':{'id':'resp_1','model':'gpt-x','status':'in_progress','output':[" \
    "],"                                                                                                     \
    "'service_tier':'auto','usage':null},'sequence_number':0}"
#define ADDED(index, item) "{'type':'response.output_item.added','output_index':" index ",'item':" item "}"
#define DONE(index, item) "{'type':'response.output_item.done','output_index':" index ",'item':" item "}"
#define TEXT(index, text)                                                                                    \
    "{'type':'response.output_text.delta','item_id':'msg_1','output_index':" index                           \
    ",'content_index':0,'delta':'" text "'}"
#define SUMMARY(index, part, text)                                                                           \
    "{'type':'response.reasoning_summary_text.delta','item_id':'rs_1','output_index':" index                 \
    ",'summary_index':" part ",'delta':'" text "','obfuscation':'x'}"
#define PART(index, part)                                                                                    \
    "{'type':'response.reasoning_summary_part.added','item_id':'rs_1','output_index':" index                 \
    ",'summary_index':" part ",'part':{'type':'summary_text','text':''}}"
#define ARGS(index, n, text)                                                                                 \
    "{'type':'response.function_call_arguments.delta','item_id':'fc_" n "','output_index':" index            \
    ",'delta':'" text "'}"
#define MESSAGE "{'id':'msg_1','type':'message','status':'in_progress','content':[],'role':'assistant'}"
#define COMPLETED(output)                                                                                    \
    "{'type':'response.completed','response':" HEAD "'status':'completed','service_tier':'flex'," USAGE      \
    ",'output':[" output "]}}"

static void test_stream(void **state) {
    static const char *const events[] = {
        CREATED,
        "{'type':'response.in_progress','response':{'id':'resp_1','model':'gpt-x','status':'in_progress'}}",
        ADDED("0", "{'id':'rs_1','type':'reasoning','summary':[]}"),
        PART("0", "0"),
        SUMMARY("0", "0", "fi"),
        SUMMARY("0", "0", "rst"),
        PART("0", "1"),
        SUMMARY("0", "1", "then"),
        "{'type':'response.reasoning_summary_text.done','output_index':0,'summary_index':1,'text':'then'}",
        DONE("0", THOUGHT),
        ADDED("1", MESSAGE),
        "{'type':'response.content_part.added','output_index':1,'content_index':0,'part':{'type':'output_"
        "text',"
        "'text':''}}",
        TEXT("1", "H\\u00e9"),
        TEXT("1", "llo"),
        "{'type':'response.output_text.done','output_index':1,'content_index':0,'text':'H\\u00e9llo'}",
        DONE("1", SAID("H\\u00e9llo")),
        ADDED("2", CALL("1", "f", "")),
        ADDED("3", CALL("2", "g", "")),
        ARGS("3", "2", "{\\'b"),
        ARGS("2", "1", "{\\'a"),
        ARGS("3", "2", "\\':2}"),
        ARGS("2", "1", "\\':1}"),
        "{'type':'response.function_call_arguments.done','item_id':'fc_1','output_index':2,'arguments':'{}'}",
        DONE("2", CALL("1", "f", "{\\'a\\':1}")),
        DONE("3", CALL("2", "g", "{\\'b\\':2}")),
        COMPLETED(THOUGHT "," SAID("H\\u00e9llo") "," CALL("1", "f", "{\\'a\\':1}") "," CALL("2", "g",
                                                                                             "{\\'b\\':2}")),
        NULL};
    unit_answer u;
    unit_stream(&u, OPENAI, events);
    unit_complete(&u);
    unit_text(&u, "H\xC3\xA9llo");
    unit_reasoning(&u, "first\n\nthen");
    unit_call(&u, 0, "call_1", "f", "{'a':1}");
    unit_call(&u, 1, "call_2", "g", "{'b':2}");
    unit_usage(&u, 100, 30, 60, 7, 0, 20);
    assert_int_equal(u.answer->usage.tier, LLMGW_TIER_FLEX);
    assert_int_equal(u.answer->finish, LLMGW_FINISH_TOOL);
    assert_string_equal(u.answer->id, "resp_1");
    assert_int_equal(u.answer->piece_count, 4);
    assert_string_equal(u.order, "RT01010");
    unit_has(llmgwi_base_buf_cstr(&u.answer->pieces[0].signature), "\"encrypted_content\":\"gAA==\"");
    unit_end(&u);
}

/* The same answer whatever gets lost on the way: done events, deltas, all of both. */
static void test_lost_events(void **state) {
    static const char *const whole[] = {
        ADDED("0", "{'id':'rs_1','type':'reasoning','encrypted_content':'gA'}"),
        SUMMARY("0", "0", "first"),
        PART("0", "1"),
        SUMMARY("0", "1", "then"),
        DONE("0", THOUGHT),
        ADDED("1", MESSAGE),
        TEXT("1", "Hel"),
        TEXT("1", "lo"),
        DONE("1", SAID("Hello")),
        ADDED("2", CALL("1", "f", "")),
        ARGS("2", "1", "{\\'a"),
        ARGS("2", "1", "\\':1}"),
        DONE("2", CALL("1", "f", "{\\'a\\':1}"))};
    static const size_t lost[][4] = {{99},    {4, 99},     {8, 99},    {12, 99},     {4, 8, 12, 99},
                                     {7, 99}, {11, 99},    {6, 7, 99}, {10, 11, 99}, {9, 10, 11, 99},
                                     {5, 99}, {9, 12, 99}, {3, 4, 99}, {2, 3, 99}};
    for (size_t row = 0; row <= LLMGWI_BASE_COUNT(lost); row++) { /* the last: all of them are lost */
        unit_answer u;
        unit_begin(&u, OPENAI, true);
        for (size_t i = 0; i < LLMGWI_BASE_COUNT(whole) && row < LLMGWI_BASE_COUNT(lost); i++) {
            bool gone = false;
            for (size_t j = 0; lost[row][j] != 99; j++) gone = gone || lost[row][j] == i;
            if (!gone) assert_true(unit_event(&u, whole[i]));
        }
        assert_true(unit_event(&u, COMPLETED(THOUGHT "," SAID("Hello") "," CALL("1", "f", "{\\'a\\':1}"))));
        unit_complete(&u);
        unit_text(&u, "Hello");
        unit_reasoning(&u, "first\n\nthen");
        unit_call(&u, 0, "call_1", "f", "{'a':1}");
        assert_int_equal(u.answer->piece_count, 3);
        assert_int_equal(u.answer->pieces[0].kind, LLMGW_PART_REASONING);
        unit_has(llmgwi_base_buf_cstr(&u.answer->pieces[0].signature), "\"encrypted_content\":\"gAA==\"");
        unit_end(&u);
    }
}

/* Without numbers the item's id tells, without both the last of its kind; ids that change count for nothing. */
static void test_deltas_find_their_call(void **state) {
#define BY(fields, text) "{'type':'response.function_call_arguments.delta'," fields "'delta':'" text "'}"
    static const char *const by_id[] = {"{'type':'response.output_item.added','item':" CALL("1", "f", "") "}",
                                        "{'type':'response.output_item.added','item':" CALL("2", "g", "") "}",
                                        BY("'item_id':'fc_2',", "[2"),
                                        BY("'item_id':'fc_1',", "[1"),
                                        BY("'item_id':'fc_2',", "]"),
                                        BY("'item_id':'fc_1',", "]"),
                                        COMPLETED(""),
                                        NULL};
    static const char *const by_order[] = {
        "{'type':'response.output_item.added','item':{'type':'function_call','call_id':'call_1','name':'f'}}",
        BY("", "[1"),
        BY("", "]"),
        "{'type':'response.output_item.added','item':{'type':'function_call','call_id':'call_2','name':'g'}}",
        BY("", "[2]"),
        "{'type':'response.output_item.done','item':{'type':'function_call','call_id':'call_1','name':'f',"
        "'arguments':'[1]'}}",
        COMPLETED(""),
        NULL};
    static const char *const changing[] = {ADDED("4", CALL("1", "f", "")),
                                           ADDED("7", CALL("2", "g", "")),
                                           ARGS("7", "x", "[2]"),
                                           ARGS("4", "y", "[1]"),
                                           COMPLETED(""),
                                           NULL};
    static const char *const same_number[] = {ADDED("0", CALL("1", "f", "")),
                                              ARGS("0", "1", "[1]"),
                                              DONE("0", CALL("1", "f", "[1]")),
                                              ADDED("0", CALL("2", "g", "")),
                                              ARGS("0", "2", "[2]"),
                                              DONE("0", CALL("2", "g", "[2]")),
                                              COMPLETED(CALL("1", "f", "[1]") "," CALL("2", "g", "[2]")),
                                              NULL};
    const char *const *const streams[] = {by_id, by_order, changing, same_number};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(streams); i++) {
        unit_answer u;
        unit_stream(&u, OPENAI, streams[i]);
        unit_complete(&u);
        assert_int_equal(u.tools, 2);
        unit_call(&u, 0, "call_1", "f", "[1]");
        unit_call(&u, 1, "call_2", "g", "[2]");
        unit_end(&u);
    }
}

/* Deltas of no call, and of the server's own tools, are passed over. */
static void test_others_are_passed_over(void **state) {
    static const char *const events[] = {
        "{}",
        "{'type':'response.queued','response':{}}",
        "{'type':'keepalive','sequence_number':3}",
        "{'type':'response.web_search_call.searching','item_id':'ws_1','output_index':0}",
        ADDED("0", "{'type':'web_search_call','id':'ws_1'}"),
        ARGS("9", "9", "lost"),
        "{'type':'response.custom_tool_call_input.delta','output_index':0,'delta':'x'}",
        "{'type':'response.mcp_call.failed','error':{'message':'no'},'output_index':0}",
        "{'type':'response.output_text.delta','delta':7}",
        "{'type':'response.output_item.done'}",
        "{'type':'response.output_text.annotation.added','annotation':{'text':'no'}}",
        TEXT("1", "yes"),
        COMPLETED("{'type':'web_search_call'}," SAID("yes")),
        NULL};
    unit_answer u;
    unit_stream(&u, OPENAI, events);
    unit_complete(&u);
    unit_text(&u, "yes");
    assert_int_equal(u.answer->piece_count, 1);
    unit_end(&u);
}

static void test_stream_refusal(void **state) {
    static const char *const events[] = {
        "{'type':'response.refusal.delta','output_index':0,'delta':'I wo'}",
        "{'type':'response.refusal.delta','output_index':0,'delta':'n\\u2019t'}",
        "{'type':'response.refusal.done','output_index':0,'refusal':'I won\\u2019t'}",
        COMPLETED("{'type':'message','content':[{'type':'refusal','refusal':'I won\\u2019t'}]}"), NULL};
    unit_answer u;
    unit_stream(&u, OPENAI, events);
    unit_complete(&u);
    assert_string_equal(llmgwi_base_buf_cstr(&u.answer->refusal), "I won\xE2\x80\x99t");
    unit_text(&u, "");
    unit_end(&u);
}

/* Open models tell their reasoning itself. */
static void test_reasoning_text(void **state) {
    static const char *const events[] = {
        "{'type':'response.reasoning_text.delta','output_index':0,'delta':'so '}",
        "{'type':'response.reasoning_text.delta','output_index':0,'delta':'it is'}",
        DONE("0", "{'type':'reasoning','id':'r','summary':[],'content':[{'type':'reasoning_text',"
                  "'text':'so it is'}]}"),
        TEXT("1", "Yes"),
        COMPLETED(""),
        NULL};
    unit_answer u;
    unit_stream(&u, OPENAI, events);
    unit_complete(&u);
    unit_reasoning(&u, "so it is");
    unit_text(&u, "Yes");
    assert_int_equal(u.answer->pieces[0].signature.n, 0); /* nothing that could go back */
    unit_end(&u);
}

/* Two messages are two parts, each with its phase. */
static void test_phases(void **state) {
#define PHASE(text, phase)                                                                                   \
    "{'type':'message','phase':'" phase "','content':[{'type':'output_text','text':'" text "'}]}"
    static const char *const events[] = {
        TEXT("0", "I look. "),
        DONE("0", PHASE("I look. ", "commentary")),
        TEXT("1", "Found."),
        DONE("1", PHASE("Found.", "final_answer")),
        COMPLETED(PHASE("I look. ", "commentary") "," PHASE("Found.", "final_answer")),
        NULL};
    unit_answer u;
    unit_stream(&u, OPENAI, events);
    unit_complete(&u);
    unit_text(&u, "I look. Found.");
    llmgw_message turn = unit_turn(&u, "openai");
    assert_int_equal(turn.part_count, 2);
    assert_string_equal(turn.parts[0].signature, "commentary");
    assert_string_equal(turn.parts[1].signature, "final_answer");
    assert_string_equal(turn.parts[1].text, "Found.");
    unit_end(&u);
}

static void test_stream_ends(void **state) {
#define END(type, fields) "{'type':'response." type "','response':{'id':'r'," fields ",'output':[]}}"
    static const struct {
        const char *event;
        llmgw_finish finish;
        llmgw_code code;
        const char *part;
    } rows[] = {
        {END("completed", "'status':'completed'"), LLMGW_FINISH_STOP, LLMGW_OK, ""},
        {"{'type':'response.completed'}", LLMGW_FINISH_STOP, LLMGW_OK, ""},
        {END("done", "'status':'completed'"), LLMGW_FINISH_STOP, LLMGW_OK, ""},
        {END("incomplete", "'status':'incomplete','incomplete_details':{'reason':'max_output_tokens'}"),
         LLMGW_FINISH_LENGTH, LLMGW_OK, ""},
        {END("incomplete", "'status':'incomplete','incomplete_details':{'reason':'content_filter'}"),
         LLMGW_FINISH_FILTER, LLMGW_OK, ""},
        {"{'type':'response.incomplete','response':{}}", LLMGW_FINISH_LENGTH, LLMGW_OK, ""},
        {END("failed", "'status':'failed','error':{'code':'server_error','message':'broke'}"),
         LLMGW_FINISH_NONE, LLMGW_E_PROVIDER, "broke"},
        {END("failed", "'status':'failed','error':{'code':'server_is_overloaded','message':'at capacity'}"),
         LLMGW_FINISH_NONE, LLMGW_E_OVERLOADED, "at capacity"},
        {"{'type':'error','error':{'type':'service_unavailable_error','code':'slow_down','message':'wait'}}",
         LLMGW_FINISH_NONE, LLMGW_E_OVERLOADED, "wait"},
        {"{'type':'response.failed'}", LLMGW_FINISH_NONE, LLMGW_E_PROVIDER, "its response failed"},
        {"{'type':'error','code':'rate_limit_exceeded','message':'slow','param':null}", LLMGW_FINISH_NONE,
         LLMGW_E_RATE_LIMITED, "slow"},
        {"{'type':'error','error':{'type':'insufficient_quota','code':'insufficient_quota','message':'pay'}}",
         LLMGW_FINISH_NONE, LLMGW_E_QUOTA, "pay"},
        {"{'error':{'code':502,'message':'Upstream'}}", LLMGW_FINISH_NONE, LLMGW_E_PROVIDER, "Upstream"},
        {"{'type':'error'}", LLMGW_FINISH_NONE, LLMGW_E_PROVIDER, "without a text"},
        {"{'type':'response.completed'", LLMGW_FINISH_NONE, LLMGW_E_PROTOCOL, "stream event: "},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        unit_answer u;
        unit_begin(&u, OPENAI, true);
        assert_true(unit_event(&u, TEXT("0", "Hi")));
        bool good = unit_event(&u, rows[i].event);
        if (good != (rows[i].code == LLMGW_OK)) fail_msg("%s: %s", rows[i].event, u.answer->error.text);
        if (!good) {
            unit_failed(&u, rows[i].code, rows[i].part);
        } else {
            unit_complete(&u);
            assert_true(u.answer->ended);
            if (u.answer->finish != rows[i].finish) fail_msg("%s: %d", rows[i].event, u.answer->finish);
        }
        unit_end(&u);
    }
}

/* OpenRouter's [DONE] is no end of its own; a stream without its last event is cut. */
static void test_done_and_cut(void **state) {
    unit_answer u;
    unit_begin(&u, ROUTER, true);
    assert_true(unit_event(&u, TEXT("0", "Hi")));
    assert_true(unit_event(&u, DONE("0", SAID("Hi"))));
    assert_true(unit_event(&u, "[DONE]"));
    assert_false(u.answer->ended || llmgwi_dialect_complete(u.dialect, u.answer));
    assert_true(unit_event(&u, COMPLETED(SAID("Hi"))));
    assert_true(unit_event(&u, "[DONE]"));
    unit_complete(&u);
    unit_end(&u);
    unit_begin(&u, OPENAI, true); /* the name of the event where the data does not say */
    assert_true(unit_event_named(&u, "response.output_text.delta", "{'output_index':0,'delta':'Hi'}"));
    assert_true(unit_event_named(&u, "response.completed", "{'response':{'status':'completed'}}"));
    unit_complete(&u);
    unit_text(&u, "Hi");
    unit_end(&u);
    unit_begin(&u, OPENAI, true);
    assert_false(unit_event_named(&u, "error", "{'message':'no'}"));
    unit_failed(&u, LLMGW_E_PROVIDER, "no");
    unit_end(&u);
}

/* A resumed text goes on in its part, and the whole text of the new item does not come again. */
static void test_kept_text_goes_on(void **state) {
    unit_answer u;
    unit_begin(&u, OPENAI, false);
    assert_true(llmgwi_dialect_keep(u.answer, llmgwi_base_cstr("Once upon "), llmgwi_base_cstr("hm")));
    assert_true(unit_event(&u, TEXT("0", "a time")));
    assert_true(unit_event(&u, DONE("0", SAID("a time"))));
    assert_true(unit_event(&u, COMPLETED(SAID("a time"))));
    unit_text(&u, "Once upon a time");
    assert_int_equal(u.answer->piece_count, 2);
    unit_end(&u);
}

static void test_too_large(void **state) {
    static const char *const events[] = {TEXT("0", "12345678901"), DONE("0", SAID("12345678901")),
                                         ADDED("0", CALL("1", "f", "12345678901")), DONE("0", THOUGHT)};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(events); i++) {
        unit_answer u;
        unit_begin(&u, OPENAI, true);
        u.answer->max_bytes = 10;
        assert_false(unit_event(&u, events[i]));
        assert_int_equal(u.answer->error.code, LLMGW_E_TOO_LARGE);
        unit_end(&u);
    }
}

static void test_cut_anywhere(void **state) {
    unit_cut_stream(
        OPENAI,
        "event: response.created\ndata: " CREATED "\n\n: comment\n\n"
        "event: response.output_text.delta\ndata: " TEXT(
            "0",
            "H\\u00e9") "\n\n"
                        "event: response.output_item.added\r\ndata: " ADDED(
                            "1",
                            CALL(
                                "1", "f",
                                "")) "\r\n\r\n"
                                     "data: " ARGS(
                                         "1", "1",
                                         "{\\'a\\':") "\n\n"
                                                      "data: " ARGS(
                                                          "1", "1",
                                                          "1}") "\n\n"
                                                                "event: response.completed\ndata: " COMPLETED(
                                                                    "") "\n\ndata: [DONE]\n\n",
        "H\xC3\xA9", "{\"a\":1}");
}

/* ---- round trip: what an answer says goes back as it came ---- */

static void test_round_trip(void **state) {
    static const char *const events[] = {DONE("0", THOUGHT), ADDED("1", CALL("1", "f", "")),
                                         ARGS("1", "1", "{\\'a\\':1}"), COMPLETED(""), NULL};
    unit_answer u;
    unit_stream(&u, OPENAI, events);
    unit_complete(&u);
    llmgw_part result = unit_tool_result("call_1", "42");
    llmgw_message turns[3] = {unit_message(LLMGW_ROLE_USER, "q", NULL, 0), unit_turn(&u, "openai"),
                              unit_message(LLMGW_ROLE_TOOL, NULL, &result, 1)};
    assert_string_equal(turns[1].parts[0].text, "first\n\nthen");
    assert_string_equal(turns[1].parts[0].origin, "openai");
    llmgw_request request = unit_talk(turns, 3);
    json_t *body = unit_body(OPENAI, "m", &request), *input = unit_at(body, "input");
    unit_is(input, "1", THOUGHT);
    unit_is(input, "2", "{'type':'function_call','call_id':'call_1','name':'f','arguments':'{\\'a\\':1}'}");
    unit_is(input, "3", "{'type':'function_call_output','call_id':'call_1','output':'42'}");
    assert_int_equal(json_array_size(input), 4);
    json_decref(body);
    body = unit_body("anthropic", "claude-opus-5", &request); /* not to another */
    char *text = json_dumps(body, JSON_COMPACT);
    assert_null(strstr(text, "gAA"));
    free(text);
    json_decref(body);
    unit_end(&u);
}

/* ---- recordings ---- */

static const char *recordings(void) {
    static char path[512];
    const char *root = getenv("FIXTURES");
    snprintf(path, sizeof path, "%s/openai-responses", root ? root : "../shared/fixtures");
    return path;
}

static char *file_of(const char *name, size_t *size) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", recordings(), name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char *text = (char *)malloc((size_t)1 << 20);
    assert_non_null(text);
    *size = fread(text, 1, ((size_t)1 << 20) - 1, file);
    text[*size] = 0;
    fclose(file);
    return text;
}

/* What jansson finds in a response object. */
static void expect_response(const unit_answer *u, json_t *response) {
    json_t *item, *part, *usage = json_object_get(response, "usage");
    char text[16384] = "", thought[16384] = "";
    size_t i, j;
    int calls = 0;
    json_array_foreach(json_object_get(response, "output"), i, item) {
        const char *type = json_string_value(json_object_get(item, "type"));
        json_array_foreach(json_object_get(item, strcmp(type, "reasoning") ? "content" : "summary"), j,
                           part) {
            char *to = strcmp(type, "reasoning") ? text : thought;
            if (to == thought && *thought && j) strcat(to, "\n\n");
            strcat(to, json_string_value(json_object_get(part, "text")));
        }
        if (strcmp(type, "function_call") == 0) {
            const llmgwi_dialect_piece *piece = unit_tool(u, calls++);
            assert_string_equal(piece->id, json_string_value(json_object_get(item, "call_id")));
            assert_string_equal(piece->name, json_string_value(json_object_get(item, "name")));
            assert_string_equal(llmgwi_base_buf_cstr(&piece->arguments),
                                json_string_value(json_object_get(item, "arguments")));
        }
        if (strcmp(type, "reasoning") == 0) {
            size_t k = 0;
            while (u->answer->pieces[k].kind != LLMGW_PART_REASONING) k++;
            json_t *kept = json_loads(llmgwi_base_buf_cstr(&u->answer->pieces[k].signature), 0, NULL);
            assert_true(json_equal(kept, item));
            json_decref(kept);
        }
    }
    unit_text(u, text);
    unit_reasoning(u, thought);
    assert_int_equal(u->answer->tool_count, calls);
    assert_int_equal(u->answer->finish, calls ? LLMGW_FINISH_TOOL : LLMGW_FINISH_STOP);
    unit_usage(u, json_integer_value(json_object_get(usage, "input_tokens")),
               json_integer_value(json_object_get(usage, "output_tokens")),
               json_integer_value(unit_at(usage, "input_tokens_details.cached_tokens")), 0, 0,
               json_integer_value(unit_at(usage, "output_tokens_details.reasoning_tokens")));
    assert_string_equal(u->answer->id, json_string_value(json_object_get(response, "id")));
    assert_string_equal(u->answer->model, json_string_value(json_object_get(response, "model")));
}

/* The response of the last event that carries one; NULL: it is no JSON. */
static json_t *last_response(const char *sse, size_t n) {
    const char *at = sse, *last = NULL;
    while ((at = strstr(at, "data: {")) != NULL && at < sse + n) last = at++;
    assert_non_null(last);
    json_t *event = json_loadb(last + 6, strcspn(last + 6, "\r\n"), 0, NULL);
    json_t *response = event ? json_incref(json_object_get(event, "response")) : NULL;
    json_decref(event);
    return response;
}

/* Where the first response of a recording ends: one of them holds several, one after the other. */
static size_t one_response(const char *sse) {
    const char *end = strstr(sse, "\"type\":\"response.completed\"");
    end = end ? strstr(end, "\n\n") : NULL;
    return end ? (size_t)(end - sse) + 2 : strlen(sse);
}

/* Feeds a stream in pieces of 1 to most bytes; false: it ended with an error. */
static bool feed(unit_answer *u, const char *bytes, size_t n, size_t most, unsigned seed) {
    llmgwi_frame frame;
    unit_begin(u, OPENAI, true);
    llmgwi_frame_init(&frame, &unit_mem, (size_t)1 << 20, unit_on_frame, u);
    bool good = true;
    for (size_t at = 0, step; at < n && good; at += step) {
        seed = seed * 1664525u + 1013904223u;
        step = 1 + (seed >> 8) % most;
        if (step > n - at) step = n - at;
        char *copy = (char *)malloc(step); /* so that a sanitizer sees a byte read too far */
        assert_non_null(copy);
        memcpy(copy, bytes + at, step);
        good = llmgwi_frame_feed(&frame, copy, step);
        free(copy);
    }
    good = good && llmgwi_frame_finish(&frame);
    llmgwi_frame_free(&frame);
    assert_int_equal(good, u->answer->error.code == LLMGW_OK);
    return good;
}

static void try_response(const char *name, const char *bytes, size_t n) {
    json_t *response = last_response(bytes, n);
    for (unsigned round = 0; round < 24; round++) {
        unit_answer u;
        size_t most = round == 0 ? 1 : round == 1 ? n : 1 + round * round * 7;
        bool good = feed(&u, bytes, n, most, round);
        if (strstr(name, "parallel-tool-call-wrapper")) { /* its first line is no JSON */
            assert_false(good);
            unit_failed(&u, LLMGW_E_PROTOCOL, "stream event: ");
            unit_has(u.answer->error.text, "at byte");
        } else if (strstr(name, "openai-error")) {
            assert_false(good);
            unit_failed(&u, LLMGW_E_QUOTA, "You exceeded your current quota");
        } else {
            if (!good) fail_msg("%s: %s", name, u.answer->error.text);
            unit_complete(&u);
            expect_response(&u, response);
        }
        unit_end(&u);
    }
    json_decref(response);
}

static int try_stream(const char *name, const char *sse) {
    int responses = 0;
    for (size_t n; *sse; sse += n, responses++) {
        n = one_response(sse);
        try_response(name, sse, n);
    }
    return responses;
}

/* Lines of JSON, as some recordings are kept: each the data of an event. */
static char *as_events(char *lines, size_t n) {
    char *sse = (char *)malloc(2 * n + 4096), *line, *save = NULL;
    size_t at = 0;
    assert_non_null(sse);
    for (line = strtok_r(lines, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save))
        at += (size_t)sprintf(sse + at, "data: %s\n\n", line);
    free(lines);
    return sse;
}

static void try_whole(const char *name) {
    size_t n;
    char *bytes = file_of(name, &n);
    json_t *json = json_loads(bytes, 0, NULL);
    unit_answer u;
    llmgw_error error;
    assert_non_null(json);
    unit_begin(&u, OPENAI, false);
    bool good = u.dialect->reply(u.answer, llmgwi_base_view(bytes, n));
    if (json_is_object(json_object_get(json, "error"))) {
        assert_false(good);
        memset(&error, 0, sizeof error);
        llmgwi_dialect_error(&error, 400, llmgwi_base_view(bytes, n), 64);
        unit_has(error.text, json_string_value(unit_at(json, "error.message")));
        assert_int_equal(error.code, strstr(name, "openai-error") ? LLMGW_E_QUOTA : LLMGW_E_BAD_REQUEST);
    } else {
        if (!good) fail_msg("%s: %s", name, u.answer->error.text);
        llmgwi_dialect_settle(u.answer);
        expect_response(&u, json);
    }
    unit_end(&u);
    json_decref(json);
    free(bytes);
}

static bool ends(const char *name, const char *with) {
    size_t n = strlen(name), m = strlen(with);
    return n >= m && strcmp(name + n - m, with) == 0;
}

static void test_recordings(void **state) {
    struct dirent **names;
    int count = scandir(recordings(), &names, NULL, alphasort), streams = 0, wholes = 0, chunks = 0;
    if (count < 0) {
        print_message("SKIPPED: there are no recordings in %s (FIXTURES=DIR says where)\n", recordings());
        skip();
    }
    for (int i = 0; i < count; i++) {
        const char *name = names[i]->d_name;
        size_t n;
        bool sse = ends(name, ".sse"), lines = ends(name, ".txt");
        char *text = sse || lines ? file_of(name, &n) : NULL;
        if (lines) text = as_events(text, n);
        if (sse) streams += try_stream(name, text);
        if (lines) chunks += try_stream(name, text);
        free(text);
        if (ends(name, ".json") && !ends(name, ".meta.json")) wholes++, try_whole(name);
        free(names[i]);
    }
    free(names);
    assert_true(streams >= 9 && chunks >= 8 && wholes >= 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_images_and_files),
        cmocka_unit_test(test_tools),
        cmocka_unit_test(test_tool_loop),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_reasoning),
        cmocka_unit_test(test_bad_text),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_replay),
        cmocka_unit_test(test_phases_go_back),
        cmocka_unit_test(test_reply),
        cmocka_unit_test(test_reply_ends),
        cmocka_unit_test(test_reply_wrong),
        cmocka_unit_test(test_reply_refusal),
        cmocka_unit_test(test_tier),
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_reply_same_ids),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_lost_events),
        cmocka_unit_test(test_deltas_find_their_call),
        cmocka_unit_test(test_others_are_passed_over),
        cmocka_unit_test(test_stream_refusal),
        cmocka_unit_test(test_reasoning_text),
        cmocka_unit_test(test_phases),
        cmocka_unit_test(test_stream_ends),
        cmocka_unit_test(test_done_and_cut),
        cmocka_unit_test(test_kept_text_goes_on),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_recordings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
