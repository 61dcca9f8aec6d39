/* Laws that hold for every provider: random conversations out, damaged replies and streams in. */
#include "unit.h"

static uint64_t seed;

static unsigned below(unsigned n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((seed >> 33) % n);
}

/* ---- requests ---- */

#define MAX_TURNS 6
#define MAX_TURN_PARTS 4

typedef struct talk {
    llmgw_message turns[MAX_TURNS];
    llmgw_part parts[MAX_TURNS][MAX_TURN_PARTS];
    llmgw_request request;
} talk;

static const char *word(void) {
    static const char *const words[] = {"a",  "\"\\\n\x01", "\xC3\xA9", "\xF0\x9F\x98\x80 \xE2\x82\xAC",
                                        "{}", "<|x|>",      "a b  c"};
    return words[below(LLMGWI_BASE_COUNT(words))];
}

static llmgw_part random_part(llmgw_role role) {
    static const char *const ids[] = {"call_1", "toolu_abc", "abcdefghi", "llmgw_call_1_1", "x"};
    static const char *const origins[] = {"openai", "anthropic", "gemini", "deepseek", "openrouter"};
    unsigned kind = below(4);
    if (role == LLMGW_ROLE_TOOL || (role == LLMGW_ROLE_USER && kind == 0))
        return unit_tool_result(ids[below(5)], below(2) ? word() : "{\"ok\":[1,null]}");
    if (role == LLMGW_ROLE_USER && kind == 1) return unit_bytes(LLMGW_PART_IMAGE, "image/png", NULL, word());
    if (role == LLMGW_ROLE_USER && kind == 2)
        return unit_bytes(LLMGW_PART_FILE, NULL, below(2) ? word() : NULL, word());
    if (role == LLMGW_ROLE_ASSISTANT && kind == 0)
        return unit_tool_call(ids[below(5)], "f", below(2) ? "{\"q\":\"\\u00e9\",\"n\":[1.5e3,true]}" : NULL);
    if (role == LLMGW_ROLE_ASSISTANT && kind == 1)
        return unit_thought(below(4) ? word() : NULL, below(3) ? "[{\"type\":\"x\"}]" : NULL,
                            origins[below(5)]);
    return unit_part(LLMGW_PART_TEXT, word());
}

static void random_talk(talk *t) {
    static const llmgw_tool tools[2] = {{"f", "d\xC3\xA9", "{\"type\":\"object\"}", true},
                                        {"g", NULL, NULL, false}};
    static const char *const stop[2] = {"END", "\n"};
    memset(t, 0, sizeof *t);
    size_t count = below(MAX_TURNS);
    for (size_t i = 0; i < count; i++) {
        llmgw_role role = (llmgw_role)below(4);
        size_t parts = 1 + below(MAX_TURN_PARTS);
        for (size_t j = 0; j < parts; j++) t->parts[i][j] = random_part(role);
        t->turns[i] =
            unit_message(role, role != LLMGW_ROLE_TOOL && below(2) ? word() : NULL, t->parts[i], parts);
    }
    t->request = unit_talk(t->turns, count);
    if (!count || below(2)) t->request.prompt = word();
    if (below(2)) t->request.system = word();
    if (below(2)) t->request.tools = tools, t->request.tool_count = 2;
    if (t->request.tools) t->request.tool_mode = (llmgw_tool_mode)below(4);
    t->request.tool_name = "g";
    t->request.serial_tools = below(2);
    if (below(2)) t->request.schema = "{\"type\":\"object\"}";
    if (below(2)) t->request.temperature = llmgw_set(below(21) / 10.0);
    if (below(2)) t->request.seed = llmgw_set(below(1000));
    if (below(2)) t->request.stop = stop, t->request.stop_count = 2;
    t->request.max_tokens = below(2) ? 1 + below(50000) : 0;
    t->request.effort = (llmgw_effort)below(5);
    t->request.stream = below(2);
}

/* Roles of the wire, and no two neighbours alike where they must alternate. */
static void check_roles(json_t *turns, bool alternate) {
    const char *last = "";
    json_t *turn;
    size_t i;
    json_array_foreach(turns, i, turn) {
        const char *role = json_string_value(json_object_get(turn, "role"));
        assert_non_null(role);
        assert_non_null(strstr("system developer user assistant tool model", role));
        if (alternate) assert_string_not_equal(role, last);
        last = role;
    }
}

/* What is written is JSON without duplicate keys (jansson says so), whoever it is for. */
static void test_random_requests(void **state) {
    static const char *const models[] = {"gpt-5", "claude-opus-4-1", "claude-opus-5", "gemini-2.5-pro",
                                         "gemini-3.5-flash"};
    int written = 0;
    for (seed = 1; seed < 1 + 400; seed++) {
        uint64_t keep = seed;
        talk t;
        random_talk(&t);
        for (size_t p = 0; p < LLMGWI_BASE_COUNT(llmgwi_dialect_knowns); p++) {
            const char *dialect = llmgwi_dialect_knowns[p].dialect;
            bool gemini = strcmp(dialect, "gemini") == 0;
            bool alternate = gemini || strcmp(dialect, "anthropic") == 0;
            char name[80];
            snprintf(name, sizeof name, "%s:%s", llmgwi_dialect_knowns[p].name, dialect);
            llmgwi_base_buf body;
            llmgw_error error;
            json_error_t why;
            bool good = unit_write(name, models[below(5)], &t.request, (size_t)1 << 20, &body, &error);
            assert_int_equal(good, error.code == LLMGW_OK);
            json_t *json = good ? json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES, &why) : NULL;
            if (good && !json) fail_msg("seed %u, %s: %s in %s", (unsigned)keep, name, why.text, body.p);
            if (!good)
                assert_int_equal(error.code, LLMGW_E_UNSUPPORTED); /* ollama's tool choice, cohere's files */
            if (good) check_roles(unit_at(json, gemini ? "contents" : "messages"), alternate);
            written += good;
            json_decref(json);
            llmgwi_base_buf_free(&body);
        }
        llmgwi_base_buf body;
        llmgw_error error;
        bool good =
            unit_write("openai:responses", models[below(5)], &t.request, (size_t)1 << 20, &body, &error);
        json_t *json = good ? json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES, NULL) : NULL;
        if (!json || !json_is_array(unit_at(json, "input"))) fail_msg("seed %u, responses", (unsigned)keep);
        json_decref(json);
        llmgwi_base_buf_free(&body);
        seed = keep;
    }
    assert_true(written > 5000);
}

/* ---- a character whose two escapes stand in two events ---- */

static void test_halves(void **state) {
    static const struct {
        const char *provider, *name, *event; /* %s: where the text stands */
        int where;                           /* text, reasoning, arguments */
        const char *begin;                   /* an event before */
    } rows[] = {
        {"openai", "", "{'choices':[{'index':0,'delta':{'content':'%s'}}]}", 0, NULL},
        {"openai", "",
         "{'choices':[{'index':0,'delta':{'tool_calls':[{'index':0,'id':'','function':{'arguments':"
         "'%s'}}]}}]}",
         2,
         "{'choices':[{'index':0,'delta':{'tool_calls':[{'index':0,'id':'a','function':{'name':'f'}}"
         "]}}]}"},
        {"anthropic", "",
         "{'type':'content_block_delta','index':0,'delta':{'type':'text_delta','text':'%s'}}", 0, NULL},
        {"gemini", "", "{'candidates':[{'content':{'parts':[{'text':'%s'}]}}]}", 0, NULL},
        {"bedrock", "contentBlockDelta", "{'contentBlockIndex':0,'delta':{'text':'%s'}}", 0, NULL},
        {"bedrock", "contentBlockDelta", "{'contentBlockIndex':0,'delta':{'reasoningContent':{'text':'%s'}}}",
         1, NULL},
        {"openai:responses", "", "{'type':'response.output_text.delta','output_index':0,'delta':'%s'}", 0,
         NULL},
        {"openai:responses", "",
         "{'type':'response.reasoning_summary_text.delta','output_index':0,'delta':'%s'}", 1, NULL},
        {"ollama:ollama", "", "{'message':{'content':'%s'},'done':false}", 0, NULL},
        {"cohere", "", "{'type':'content-delta','delta':{'message':{'content':{'text':'%s'}}}}", 0, NULL},
    };
    static const struct {
        const char *texts[4], *want;
    } cuts[] = {
        {{"a\\ud83d", "\\ude00b", NULL},
         "a\xF0\x9F\x98\x80"
         "b"},
        {{"\\uD83D", "\\uDe00", NULL}, "\xF0\x9F\x98\x80"},
        {{"x", "\\ud83d", "\\ude00\\ud83d", "\\ude01"}, "x\xF0\x9F\x98\x80\xF0\x9F\x98\x81"},
        {{"\\ud83d", "b", NULL},
         "\xEF\xBF\xBD"
         "b"}, /* its second half never comes */
        {{"\\ud83d", "\\u00e9", NULL}, "\xEF\xBF\xBD\xC3\xA9"},
        {{"\\\\ud83d", "\\u00e9", NULL}, "\\ud83d\xC3\xA9"}, /* a backslash is one */
        {{"\\\\\\ud83d", "\\ude00", NULL}, "\\\xF0\x9F\x98\x80"},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++)
        for (size_t c = 0; c < LLMGWI_BASE_COUNT(cuts); c++) {
            unit_answer u;
            char event[400];
            unit_begin(&u, rows[i].provider, true);
            if (rows[i].begin) assert_true(unit_event(&u, rows[i].begin));
            for (size_t k = 0; k < 4 && cuts[c].texts[k]; k++) {
                snprintf(event, sizeof event, rows[i].event, cuts[c].texts[k]);
                assert_true(unit_event_named(&u, rows[i].name, event));
            }
            const llmgwi_base_buf *told[] = {&u.text, &u.reasoning, &u.arguments[0]};
            const llmgwi_base_buf *kept[] = {&u.answer->text, &u.answer->reasoning,
                                             rows[i].where == 2 ? &u.answer->pieces[0].arguments : NULL};
            assert_string_equal(llmgwi_base_buf_cstr(kept[rows[i].where]), cuts[c].want);
            assert_string_equal(llmgwi_base_buf_cstr(told[rows[i].where]), cuts[c].want);
            unit_end(&u);
        }
}

/* ---- damaged input: law 12 ---- */

static const char *const samples[] = {
    "openai",
    "{'id':'c','model':'m','choices':[{'index':0,'message':{'content':'\\u00e9','reasoning_content':'r',"
    "'tool_calls':[{'index':0,'id':'a','function':{'name':'f','arguments':'{}'}}]},'finish_reason':'stop'}],"
    "'usage':{'prompt_tokens':1,'completion_tokens':2,'prompt_tokens_details':{'cached_tokens':1}}}",
    "mistral",
    "{'choices':[{'delta':{'content':[{'type':'thinking','thinking':[{'type':'text','text':'h'}]},"
    "{'type':'text','text':'x'}],'tool_calls':[{'function':{'name':'f','arguments':{'a':1}}}]}}]}",
    "openrouter",
    "{'choices':[{'delta':{'reasoning':'r','reasoning_details':[{'a':1},{'b':2}]}}],'error':null}",
    "anthropic",
    "{'id':'m','content':[{'type':'thinking','thinking':'h','signature':'s'},{'type':'redacted_thinking',"
    "'data':'d'},{'type':'tool_use','id':'t','name':'f','input':{'a':[1]}}],'stop_reason':'refusal',"
    "'stop_details':{'explanation':'x'},'usage':{'input_tokens':1,'cache_creation':{'a':1}}}",
    "anthropic",
    "{'type':'content_block_delta','index':0,'delta':{'type':'text_delta','text':'x'}}",
    "anthropic",
    "{'type':'message_delta','delta':{'stop_reason':'end_turn'},'usage':{'output_tokens':3}}",
    "gemini",
    "{'candidates':[{'content':{'parts':[{'text':'x','thought':true,'thoughtSignature':'s'},{'functionCall':{"
    "'name':'f','willContinue':true,'partialArgs':[{'jsonPath':'$.a[0].b','stringValue':'x','willContinue':"
    "true},"
    "{'jsonPath':'$.a[1]','numberValue':1}]}}]},'finishReason':'STOP'}],'usageMetadata':{'promptTokenCount':"
    "1}}",
    "gemini",
    "[{'error':{'code':429,'message':'m','details':[{'retryDelay':'3s'}]}}]",
    "openai:responses",
    "{'id':'r','model':'m','status':'incomplete','incomplete_details':{'reason':'max_output_tokens'},'output'"
    ":["
    "{'type':'reasoning','id':'rs','encrypted_content':'e','summary':[{'text':'h'}]},{'type':'message','"
    "content':["
    "{'type':'output_text','text':'\\u00e9'},{'refusal':'n'}]},{'type':'function_call','call_id':'c','name':'"
    "f',"
    "'arguments':'{}'}],'usage':{'input_tokens':1,'output_tokens_details':{'reasoning_tokens':1}}}",
    "openai:responses",
    "{'type':'response.output_item.done','output_index':0,'item':{'type':'function_call','call_id':'c','name'"
    ":'f',"
    "'arguments':'{}'}}",
    "openai:responses",
    "{'type':'error','error':{'code':'rate_limit_exceeded','message':'try again in 3s'}}",
};

/* Bytes to overwrite with: most are at home in JSON. */
static void damage(char *text, size_t n) {
    static const char bytes[] = "\"\"{}[]:,,0123456789-.eEtfnul\\ \n\x01\x7F\x80\xC3\xFF";
    for (unsigned i = 1 + below(4); i > 0; i--) {
        size_t at = below((unsigned)n), other = below((unsigned)n);
        if (below(3) == 0) {
            char swap = text[at];
            text[at] = text[other];
            text[other] = swap;
        } else {
            text[at] = bytes[below(sizeof bytes)];
        }
    }
}

static void try_damaged(const char *provider, const char *text, size_t n, bool stream) {
    unit_answer u;
    char *copy = (char *)malloc(n); /* not NUL-terminated: sanitizers see a byte too far */
    assert_non_null(copy);
    memcpy(copy, text, n);
    unit_begin(&u, provider, stream);
    u.answer->sink = NULL; /* its checks are for good input */
    llmgwi_base_str view = llmgwi_base_view(copy, n);
    bool good =
        stream ? u.dialect->event(u.answer, llmgwi_base_cstr(""), view) : u.dialect->reply(u.answer, view);
    assert_int_equal(good, u.answer->error.code == LLMGW_OK);
    assert_true(unit_is_utf8(u.answer->error.text));
    assert_true(unit_is_utf8(llmgwi_base_buf_cstr(&u.answer->text)));
    assert_true(u.answer->usage.input >= 0 && u.answer->usage.output >= 0);
    if (good) llmgwi_dialect_settle(u.answer);
    llmgw_error error;
    llmgwi_dialect_error(&error, 500, view, 64);
    assert_true(unit_is_utf8(error.text));
    unit_end(&u);
    free(copy);
}

static void test_damaged_input(void **state) {
    static char text[2048];
    seed = 99;
    for (int round = 0; round < 6000; round++) {
        size_t row = below(LLMGWI_BASE_COUNT(samples) / 2) * 2;
        const char *sample = unit_quoted(samples[row + 1]);
        size_t n = strlen(sample);
        memcpy(text, sample, n);
        damage(text, n);
        if (below(4) == 0) n = 1 + below((unsigned)n);
        try_damaged(samples[row], text, n, below(2));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_requests),
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_damaged_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
