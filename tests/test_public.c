/* The functions of the API: bad input, replies without a call, handles, frozen numbers. */
#include "unit.h"

#include <math.h>
#include <sys/wait.h>

/* ---- names and numbers ---- */

static const struct {
    int number;
    bool retryable;
    const char *name;
} codes[] = {
    {0, false, "OK"},
    {100, false, "E_ARGUMENT"},
    {101, false, "E_CONFIG"},
    {102, false, "E_MODEL"},
    {103, false, "E_NO_KEY"},
    {104, false, "E_UNSUPPORTED"},
    {105, false, "E_MISUSE"},
    {106, false, "E_CANCELLED"},
    {200, false, "E_RESTRICTED"},
    {201, false, "E_INSECURE"},
    {202, false, "E_UNAUTHORIZED"},
    {203, false, "E_FORBIDDEN"},
    {204, true, "E_BUDGET"},
    {300, false, "E_BAD_REQUEST"},
    {301, false, "E_AUTH"},
    {302, false, "E_QUOTA"},
    {303, false, "E_NOT_FOUND"},
    {304, false, "E_CONTEXT_LENGTH"},
    {305, false, "E_FILTERED"},
    {310, true, "E_RATE_LIMITED"},
    {311, true, "E_OVERLOADED"},
    {312, true, "E_PROVIDER"},
    {313, true, "E_PROTOCOL"},
    {314, true, "E_TRUNCATED"},
    {315, false, "E_TOO_LARGE"},
    {316, true, "E_INVALID"},
    {320, true, "E_NETWORK"},
    {321, false, "E_TLS"},
    {330, true, "E_TIMEOUT_CONNECT"},
    {331, true, "E_TIMEOUT_FIRST_TOKEN"},
    {332, true, "E_TIMEOUT_IDLE"},
    {333, true, "E_DEADLINE"},
    {400, true, "E_MEMORY"},
    {401, true, "E_LIMIT"},
    {402, false, "E_CLOSED"},
    {403, false, "E_FORKED"},
    {404, false, "E_INTERNAL"},
    {405, true, "E_BREAKER"},
    {406, true, "E_RETRY_BUDGET"},
    {407, false, "E_STORE"},
};

static void test_codes_are_frozen(void **state) {
    size_t found = 0;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(codes); i++) {
        const llmgwi_base_error_row *row = llmgwi_base_error_find((llmgw_code)codes[i].number);
        assert_string_equal(llmgw_code_name((llmgw_code)codes[i].number), codes[i].name);
        assert_int_equal(row->retryable, codes[i].retryable);
        assert_true(row->text[0] != 0);
    }
    for (int n = -10; n < 1000; n++) found += strcmp(llmgw_code_name((llmgw_code)n), "?") != 0;
    assert_int_equal(found, LLMGWI_BASE_COUNT(codes)); /* a new one belongs in the table above */
}

static void test_other_numbers_are_frozen(void **state) {
    static const char *const finishes[] = {"none", "stop", "length", "tool", "filter", "pause"};
    for (int i = 0; i < 6; i++) assert_string_equal(llmgw_finish_name((llmgw_finish)i), finishes[i]);
    assert_string_equal(llmgw_finish_name((llmgw_finish)6), "?");
    assert_string_equal(llmgw_finish_name((llmgw_finish)-1), "?");
    assert_int_equal(LLMGW_FINISH_PAUSE, 5);
    assert_int_equal(LLMGW_ROLE_TOOL, 3);
    assert_int_equal(LLMGW_PART_REASONING, 5);
    assert_int_equal(LLMGW_TOOLS_ONE, 3);
    assert_int_equal(LLMGW_EFFORT_HIGH, 4);
    assert_int_equal(LLMGW_EVENT_TEXT, 1);
    assert_int_equal(LLMGW_EVENT_END, 6);
    assert_int_equal(LLMGW_TRACE_SKIP, 2);
    assert_int_equal(LLMGW_OFF, -1);
}

#define TEXT_OF(x) TEXT_OF_(x)
#define TEXT_OF_(x) #x

static void test_version_is_in_the_name(void **state) {
    char want[64];
    snprintf(want, sizeof want, "llmgw_open_v%d_%d", LLMGW_VERSION_MAJOR, LLMGW_VERSION_MINOR);
    assert_string_equal(TEXT_OF(llmgw_open), want);
    snprintf(want, sizeof want, "%d.%d.%d", LLMGW_VERSION_MAJOR, LLMGW_VERSION_MINOR, LLMGW_VERSION_PATCH);
    assert_string_equal(LLMGW_VERSION, want);
}

static void test_set(void **state) {
    llmgw_opt opt = llmgw_set(0);
    assert_true(opt.set && opt.value == 0);
    opt = llmgw_set(-1.5);
    assert_true(opt.set && opt.value == -1.5);
}

/* ---- no gateway ---- */

static void check_fixed(llmgw_reply *reply, llmgw_code code) {
    assert_non_null(reply);
    assert_int_equal(reply->error.code, code);
    assert_true(reply->error.text[0] != 0);
    assert_int_equal(reply->error.retryable, llmgwi_base_error_find(code)->retryable);
    const char *texts[] = {reply->text,     reply->reasoning, reply->id,
                           reply->provider, reply->model,     reply->model_echo};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(texts); i++) assert_string_equal(texts[i], "");
    assert_null(reply->refusal);
    assert_int_equal(reply->finish, LLMGW_FINISH_NONE);
    assert_int_equal(reply->tool_call_count + reply->trace_count + reply->message.part_count, 0);
    assert_int_equal(reply->message.role, LLMGW_ROLE_ASSISTANT);
    assert_false(reply->usage.known);
    for (int i = 0; i < 3; i++) llmgw_reply_free(reply); /* static: nothing happens */
    assert_ptr_equal(llmgw_reply_keep(reply), reply);
    assert_int_equal(reply->error.code, code);
}

static void test_null_gateway(void **state) {
    llmgw_request request = unit_ask("hi");
    llmgw_error error;
    check_fixed(llmgw_ask(NULL, "m", "hi"), LLMGW_E_CLOSED);
    check_fixed(llmgw_ask(NULL, NULL, NULL), LLMGW_E_CLOSED);
    check_fixed(llmgw_chat(NULL, &request), LLMGW_E_CLOSED);
    check_fixed(llmgw_chat(NULL, NULL), LLMGW_E_CLOSED);
    check_fixed(llmgw_reply_keep(NULL), LLMGW_E_MEMORY);
    assert_int_equal(llmgw_send(NULL, &request, &error), 0);
    assert_int_equal(error.code, LLMGW_E_CLOSED);
    assert_true(error.text[0] != 0);
    assert_int_equal(llmgw_send(NULL, NULL, NULL), 0);
    assert_int_equal(llmgw_poll(NULL, 0), -LLMGW_E_CLOSED);
    assert_int_equal(llmgw_poll(NULL, -1), -LLMGW_E_CLOSED);
    assert_int_equal(llmgw_fd(NULL), -1);
    assert_int_equal(llmgw_timeout_ms(NULL), -1);
    assert_int_equal(llmgw_pending(NULL), 0);
    assert_int_equal(llmgw_close(NULL), LLMGW_OK);
    llmgw_cancel(NULL, 1);
    llmgw_wake(NULL);
    llmgw_reply_free(NULL);
}

/* ---- opening ---- */

typedef struct lines {
    int count, level;
    llmgw_log_item item;
    char last[1024];
} lines;

static void log_line(const llmgw_log_entry *entry, void *user) {
    lines *l = (lines *)user;
    l->count++;
    l->level = entry->level;
    l->item = entry->item;
    snprintf(l->last, sizeof l->last, "%s", entry->line);
    assert_null(strchr(entry->line, '\n'));
}

static llmgw_options quiet_options(const char *json) {
    llmgw_options options;
    memset(&options, 0, sizeof options);
    options.config_json = json ? unit_quoted(json) : NULL;
    options.no_environment = true;
    return options;
}

static void test_open_failure_is_logged(void **state) {
    lines l;
    llmgw_error error;
    llmgw_options options = quiet_options("{'deadline_ms':'x'}");
    memset(&l, 0, sizeof l);
    options.log = log_line;
    options.log_user = &l;
    assert_null(llmgw_open(&options, NULL));
    assert_int_equal(l.count, 1);
    assert_int_equal(l.item, LLMGW_LOG_OPEN_FAILED);
    assert_int_equal(l.level, 0);
    unit_has(l.last, "deadline_ms");
    assert_null(llmgw_open(&options, &error)); /* a place for the error: no line */
    assert_int_equal(l.count, 1);
    assert_int_equal(error.code, LLMGW_E_CONFIG);
    assert_string_equal(error.text, l.last);
}

/* Without a log hook the line goes to stderr, once. */
static void test_open_failure_on_stderr(void **state) {
    char text[1024] = "";
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(stderr);
    int old = dup(2);
    dup2(ends[1], 2);
    llmgw_options options = quiet_options("{'deadline_ms':'x'}");
    llmgw *gw = llmgw_open(&options, NULL);
    fflush(stderr);
    dup2(old, 2);
    close(old);
    close(ends[1]);
    ssize_t n = read(ends[0], text, sizeof text - 1);
    close(ends[0]);
    assert_null(gw);
    assert_true(n > 0);
    unit_has(text, "deadline_ms");
    assert_ptr_equal(strchr(text, '\n'), text + n - 1);
}

static void test_open_clears_the_error(void **state) {
    llmgw_error error;
    memset(&error, 0x55, sizeof error);
    llmgw_options options = quiet_options(NULL);
    llmgw *gw = llmgw_open(&options, &error);
    assert_non_null(gw);
    assert_int_equal(error.code, LLMGW_OK);
    assert_int_equal(error.text[0], 0);
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
}

/* Texts that hold what others wrote: UTF-8, one line, whatever it was. */
static void test_error_texts_are_printable(void **state) {
    static const char long_name[] =
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
        "\xC3\xA9\xC3\xA9\xC3\xA9";
    static const char *const names[] = {"a\\nb", "a\\u0007b", "\\u0085", "a\\u007f", long_name};
    static const char *const shapes[] = {"{'providers':{'%s':{}}}", "{'providers':{'%s':{'x':1}}}",
                                         "{'models':{'%s':{}}}", "{'routes':{'%s':{}}}", "{'%s':1}"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(names); i++)
        for (size_t j = 0; j < LLMGWI_BASE_COUNT(shapes); j++) {
            char json[512];
            llmgw_error error;
            snprintf(json, sizeof json, shapes[j], names[i]);
            llmgw_options options = quiet_options(json);
            assert_null(llmgw_open(&options, &error));
            assert_true(unit_is_utf8(error.text));
            for (const char *p = error.text; *p; p++) assert_true((unsigned char)*p >= ' ' && *p != 0x7F);
        }
}

/* ---- requests ---- */

/* A gateway with a provider that has no key: what is accepted ends without a network. */
static llmgw *open_keyless(lines *l) {
    llmgw_error error;
    llmgw_options options =
        quiet_options("{'providers':{'p':{'dialect':'openai','key':'env:UNIT_MISSING'}}}");
    unsetenv("UNIT_MISSING");
    options.log = l ? log_line : NULL;
    options.log_user = l;
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) fail_msg("%s", error.text);
    return gw;
}

static void never(const llmgw_event *event, void *user) {
    fail_msg("a callback for a call that was not accepted");
}

/* Refused by both ways, with the same words. */
static void expect_refused(llmgw *gw, llmgw_request *request, llmgw_code code, const char *part) {
    llmgw_error error;
    request->on_event = never;
    memset(&error, 0x55, sizeof error);
    if (llmgw_send(gw, request, &error) != 0) fail_msg("accepted: %s", part);
    if (error.code != code) fail_msg("%s: %s", llmgw_code_name(error.code), error.text);
    unit_has(error.text, part);
    assert_true(unit_is_utf8(error.text));
    assert_int_equal(llmgw_send(gw, request, NULL), 0);
    llmgw_reply *reply = llmgw_chat(gw, request);
    assert_int_equal(reply->error.code, code);
    assert_string_equal(reply->error.text, error.text);
    assert_string_equal(reply->text, "");
    llmgw_reply_free(reply);
    assert_int_equal(llmgw_pending(gw), 0);
}

#define REFUSED(field, value, part)                                                                          \
    do {                                                                                                     \
        llmgw_request r = unit_ask("hi");                                                                    \
        r.model = "p/m";                                                                                     \
        r.field = value;                                                                                     \
        expect_refused(gw, &r, LLMGW_E_ARGUMENT, part);                                                      \
    } while (0)

static void test_null_request(void **state) {
    llmgw *gw = open_keyless(NULL);
    llmgw_error error;
    assert_int_equal(llmgw_send(gw, NULL, &error), 0);
    assert_int_equal(error.code, LLMGW_E_ARGUMENT);
    llmgw_reply *reply = llmgw_chat(gw, NULL);
    assert_int_equal(reply->error.code, LLMGW_E_ARGUMENT);
    llmgw_reply_free(reply);
    reply = llmgw_ask(gw, NULL, "hi");
    unit_has(reply->error.text, "request.model: required");
    llmgw_reply_free(reply);
    reply = llmgw_ask(gw, "p/m", NULL);
    unit_has(reply->error.text, "request.prompt: there is nothing to ask");
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

static void test_scalar_fields(void **state) {
    static char long_model[300];
    static const llmgw_message message = {LLMGW_ROLE_SYSTEM, "s", NULL, 0};
    llmgw *gw = open_keyless(NULL);
    memset(long_model, 'm', sizeof long_model - 1);
    REFUSED(model, NULL, "request.model: required");
    REFUSED(model, "", "request.model: required");
    REFUSED(model, long_model, "request.model: longer than 256 bytes");
    REFUSED(model, "p/a\nb", "request.model: longer than 256 bytes, or holds a control character");
    REFUSED(prompt, "", "request.prompt: empty");
    REFUSED(prompt, NULL, "request.prompt: there is nothing to ask");
    REFUSED(message_count, 1, "request.messages: message_count without messages");
    REFUSED(max_tokens, -1, "request.max_tokens");
    REFUSED(max_attempts, -1, "request.max_attempts");
    REFUSED(max_attempts, 65, "request.max_attempts: expected 0 to 64");
    REFUSED(deadline_ms, -2, "request.deadline_ms");
    REFUSED(connect_ms, -2, "request.connect_ms");
    REFUSED(first_token_ms, INT_MIN, "request.first_token_ms");
    REFUSED(idle_ms, -2, "request.idle_ms");
    REFUSED(effort, (llmgw_effort)5, "request.effort: no such effort");
    REFUSED(effort, (llmgw_effort)-1, "request.effort: no such effort");
    REFUSED(tool_mode, (llmgw_tool_mode)4, "request.tool_mode: no such mode");
    REFUSED(tool_mode, LLMGW_TOOLS_REQUIRED, "request.tool_mode: there are no tools");
    REFUSED(tool_count, 1, "request.tools: tool_count without tools");
    REFUSED(stop_count, 1, "request.stop");
    llmgw_request r = unit_ask(NULL);
    r.model = "p/m";
    r.messages = &message;
    r.message_count = 1; /* a system text alone asks nothing */
    expect_refused(gw, &r, LLMGW_E_ARGUMENT, "request.prompt: there is nothing to ask");
    r.message_count = 65537;
    expect_refused(gw, &r, LLMGW_E_ARGUMENT, "request.messages: more than 65,536");
    llmgw_close(gw);
}

static void test_numbers(void **state) {
    static const struct {
        const char *name;
        size_t at;
        double good[3], bad[4];
    } rows[] = {
        {"temperature", offsetof(llmgw_request, temperature), {0, 0.7, 2}, {-0.1, 2.1, NAN, INFINITY}},
        {"top_p", offsetof(llmgw_request, top_p), {0, 0.5, 1}, {-0.1, 1.1, NAN, INFINITY}},
        {"top_k", offsetof(llmgw_request, top_k), {1, 40, 1e9}, {0, 1.5, NAN, 2e9}},
        {"seed",
         offsetof(llmgw_request, seed),
         {0, -1, 9007199254740992.0},
         {0.5, NAN, 9007199254740994.0, -INFINITY}},
        {"frequency_penalty",
         offsetof(llmgw_request, frequency_penalty),
         {-2, 0, 2},
         {-2.1, 2.1, NAN, INFINITY}},
        {"presence_penalty",
         offsetof(llmgw_request, presence_penalty),
         {-2, 0, 2},
         {-2.1, 2.1, NAN, INFINITY}},
    };
    llmgw *gw = open_keyless(NULL);
    char part[64];
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++)
        for (int j = 0; j < 7; j++) {
            llmgw_request r = unit_ask("hi");
            llmgw_error error;
            llmgw_opt *opt = (llmgw_opt *)(void *)((char *)&r + rows[i].at);
            r.model = "p/m";
            *opt = llmgw_set(j < 3 ? rows[i].good[j] : rows[i].bad[j - 3]);
            memset(&error, 0, sizeof error);
            if (j < 3 && !llmgwi_public_check(&r, &error)) fail_msg("%s", error.text);
            if (j < 3) continue;
            snprintf(part, sizeof part, "request.%s: expected", rows[i].name);
            expect_refused(gw, &r, LLMGW_E_ARGUMENT, part);
            opt->set = false; /* what is not set does not count */
            assert_true(llmgwi_public_check(&r, &error));
        }
    llmgw_close(gw);
}

static void test_tools(void **state) {
    static const char long_name[] =
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"; /* 65 */
    static const struct {
        llmgw_tool tool;
        const char *part;
    } rows[] = {
        {{NULL, NULL, NULL, false}, "request.tools[1].name: expected [A-Za-z0-9_-]{1,64}"},
        {{"", NULL, NULL, false}, "request.tools[1].name: expected"},
        {{"a b", NULL, NULL, false}, "request.tools[1].name: expected"},
        {{"a.b", NULL, NULL, false}, "request.tools[1].name: expected"},
        {{"\xC3\xA9", NULL, NULL, false}, "request.tools[1].name: expected"},
        {{long_name, NULL, NULL, false}, "request.tools[1].name: expected"},
        {{"first", NULL, NULL, false}, "request.tools[1].name: comes twice"},
        {{"g", NULL, "", false}, "request.tools[1].parameters: "},
        {{"g", NULL, "[]", false}, "request.tools[1].parameters: expected an object at byte 0"},
        {{"g", NULL, "{\"a\":}", false}, "request.tools[1].parameters: "},
        {{"g", NULL, "{} x", false}, "at byte 3"},
        {{"g", NULL, "{\"a\":\"\xFF\"}", false}, "bad UTF-8 in string at byte 6"},
    };
    llmgw *gw = open_keyless(NULL);
    llmgw_tool tools[2] = {{"first", NULL, NULL, false}, {"second", NULL, NULL, false}};
    llmgw_request r = unit_ask("hi");
    r.model = "p/m";
    r.tools = tools;
    r.tool_count = 2;
    r.tool_mode = LLMGW_TOOLS_ONE;
    expect_refused(gw, &r, LLMGW_E_ARGUMENT, "request.tool_name: is not among the tools");
    r.tool_name = "third";
    expect_refused(gw, &r, LLMGW_E_ARGUMENT, "request.tool_name: is not among the tools");
    r.tool_mode = LLMGW_TOOLS_AUTO;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        tools[1] = rows[i].tool;
        expect_refused(gw, &r, LLMGW_E_ARGUMENT, rows[i].part);
    }
    r.tool_count = 1025;
    expect_refused(gw, &r, LLMGW_E_ARGUMENT, "request.tools: more than 1,024");
    llmgw_close(gw);
}

static void test_schema_and_stop(void **state) {
    static const char *const empty[2] = {"x", ""}, *const null[2] = {"x", NULL};
    static const char *many[17];
    llmgw *gw = open_keyless(NULL);
    for (int i = 0; i < 17; i++) many[i] = "x";
    REFUSED(schema, "", "request.schema: ");
    REFUSED(schema, "true", "request.schema: expected an object at byte 0");
    REFUSED(schema, "{\"type\":\"object\"", "request.schema: ");
    REFUSED(schema_name, "a b", "request.schema_name: expected [A-Za-z0-9_-]{1,64}");
    llmgw_request r = unit_ask("hi");
    r.model = "p/m";
    r.stop = empty;
    r.stop_count = 2;
    expect_refused(gw, &r, LLMGW_E_ARGUMENT, "request.stop: an empty text");
    r.stop = null;
    expect_refused(gw, &r, LLMGW_E_ARGUMENT, "request.stop: an empty text");
    r.stop = many;
    r.stop_count = 17;
    expect_refused(gw, &r, LLMGW_E_ARGUMENT, "request.stop: expected up to 16 texts");
    llmgw_close(gw);
}

static llmgw_part kind_of(int kind) { return unit_part((llmgw_part_kind)kind, "t"); }

static void expect_part(llmgw *gw, llmgw_role role, llmgw_part part, const char *why) {
    char text[128];
    llmgw_part parts[2] = {unit_part(LLMGW_PART_TEXT, "ok"), part};
    llmgw_message turns[2] = {unit_message(LLMGW_ROLE_USER, "q", NULL, 0),
                              unit_message(role, NULL, parts, 2)};
    if (role == LLMGW_ROLE_TOOL) parts[0] = unit_tool_result("c", "r");
    llmgw_request r = unit_talk(turns, 2);
    r.model = "p/m";
    snprintf(text, sizeof text, "request.messages[1].parts[1]%s", why);
    expect_refused(gw, &r, LLMGW_E_ARGUMENT, text);
}

static void test_parts_table(void **state) {
    llmgw *gw = open_keyless(NULL);
    llmgw_part both = unit_bytes(LLMGW_PART_IMAGE, NULL, NULL, "abc"), no_length = both;
    both.url = "https://x";
    no_length.data_len = 0;
    expect_part(gw, LLMGW_ROLE_USER, unit_part(LLMGW_PART_TEXT, NULL), ": text is missing");
    expect_part(gw, LLMGW_ROLE_USER, kind_of(6), ": kind: no such kind");
    expect_part(gw, LLMGW_ROLE_USER, kind_of(-1), ": kind: no such kind");
    expect_part(gw, LLMGW_ROLE_USER, kind_of(LLMGW_PART_REASONING),
                ": reasoning belongs in an assistant's message");
    expect_part(gw, LLMGW_ROLE_USER, kind_of(LLMGW_PART_IMAGE), ": expected url, or data with data_len");
    expect_part(gw, LLMGW_ROLE_USER, both, ": expected url, or data with data_len");
    expect_part(gw, LLMGW_ROLE_USER, no_length, ": data_len is missing");
    expect_part(gw, LLMGW_ROLE_ASSISTANT, unit_url(LLMGW_PART_IMAGE, "https://x"),
                ": images and files belong");
    expect_part(gw, LLMGW_ROLE_SYSTEM, unit_url(LLMGW_PART_FILE, "https://x"), ": images and files belong");
    expect_part(gw, LLMGW_ROLE_USER, unit_tool_call("c", "f", NULL),
                ": a tool call belongs in an assistant's");
    expect_part(gw, LLMGW_ROLE_ASSISTANT, unit_tool_call(NULL, "f", NULL), ": id and name are required");
    expect_part(gw, LLMGW_ROLE_ASSISTANT, unit_tool_call("c", "", NULL), ": id and name are required");
    expect_part(gw, LLMGW_ROLE_ASSISTANT, unit_tool_call("c", "f", "[1]"),
                ".arguments: expected an object at byte 0");
    expect_part(gw, LLMGW_ROLE_ASSISTANT, unit_tool_call("c", "f", "{\"a\""), ".arguments: ");
    expect_part(gw, LLMGW_ROLE_ASSISTANT, unit_tool_result("c", "r"), ": a tool result belongs");
    expect_part(gw, LLMGW_ROLE_USER, unit_tool_result(NULL, "r"), ": id and text are required");
    expect_part(gw, LLMGW_ROLE_TOOL, unit_tool_result("c", NULL), ": id and text are required");
    expect_part(gw, LLMGW_ROLE_TOOL, unit_part(LLMGW_PART_TEXT, "x"),
                ": a tool's message holds tool results only");
    llmgw_close(gw);
}

static void test_messages_table(void **state) {
    static const llmgw_part part = {LLMGW_PART_TEXT, "t",  0,   NULL, NULL, NULL, NULL, NULL, NULL, 0,
                                    false,           NULL, NULL};
    const struct {
        llmgw_message message;
        const char *part;
    } rows[] = {
        {unit_message((llmgw_role)4, "x", NULL, 0), "request.messages[0]: role: no such role"},
        {unit_message((llmgw_role)-1, "x", NULL, 0), "request.messages[0]: role: no such role"},
        {unit_message(LLMGW_ROLE_USER, NULL, NULL, 1), "request.messages[0]: part_count without parts"},
        {unit_message(LLMGW_ROLE_USER, NULL, NULL, 0), "request.messages[0]: neither text nor parts"},
        {unit_message(LLMGW_ROLE_USER, NULL, &part, LLMGW_MAX_PARTS + 1),
         "request.messages[0]: more parts than"},
        {unit_message(LLMGW_ROLE_TOOL, "x", NULL, 0), "request.messages[0]"},
    };
    llmgw *gw = open_keyless(NULL);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_request r = unit_talk(&rows[i].message, 1);
        r.model = "p/m";
        expect_refused(gw, &r, LLMGW_E_ARGUMENT, rows[i].part);
    }
    llmgw_close(gw);
}

/* Law 7: what cannot be kept is not sent. */
static void test_restrictions_are_refused(void **state) {
    static const char *const require[2] = {"region=eu", "tag=onprem"};
    llmgw *gw = open_keyless(NULL);
    llmgw_request r = unit_ask("hi");
    r.model = "p/m";
    r.require = require;
    for (r.require_count = 1; r.require_count <= 2; r.require_count++)
        expect_refused(gw, &r, LLMGW_E_RESTRICTED, "request.require");
    llmgw_close(gw);
}

static void test_models_are_refused(void **state) {
    char name[200];
    llmgw *gw = open_keyless(NULL);
    llmgw_request r = unit_ask("hi");
    r.model = "nobody/x";
    expect_refused(gw, &r, LLMGW_E_MODEL, "nobody/x");
    r.model = "mistral/x";
    expect_refused(gw, &r, LLMGW_E_NO_KEY, "MISTRAL_API_KEY");
    for (size_t n = 70; n < 90; n++) { /* cut within a character, or not UTF-8 at all */
        memset(name, 'x', n);
        name[4] = '/';
        snprintf(name + n, sizeof name - n, "\xC3\xA9\xC3\xA9\xC3\xA9");
        r.model = name;
        expect_refused(gw, &r, LLMGW_E_MODEL, "xxxx/");
        snprintf(name + n, sizeof name - n, "\xE9\xE9");
        expect_refused(gw, &r, LLMGW_E_MODEL, "xxxx/");
    }
    llmgw_close(gw);
}

/* ---- calls that end without a network ---- */

typedef struct seen {
    int events, ends;
    llmgw_call call;
    llmgw_reply *kept[3];
} seen;

static void note(const llmgw_event *event, void *user) {
    seen *s = (seen *)user;
    s->events++;
    assert_non_null(event->text);
    assert_int_equal(event->text_len, strlen(event->text));
    assert_non_null(event->tool_id);
    assert_non_null(event->tool_name);
    if (s->call) assert_true(event->call == s->call);
    if (event->kind != LLMGW_EVENT_END) return;
    s->ends++;
    for (int i = 0; i < 3; i++) s->kept[i] = llmgw_reply_keep(event->reply);
    assert_int_equal(llmgw_poll(event->gateway, 0), -LLMGW_E_MISUSE);
    assert_int_equal(llmgw_close(event->gateway), LLMGW_E_MISUSE);
}

static void test_missing_key_ends_the_call(void **state) {
    lines l;
    memset(&l, 0, sizeof l);
    llmgw *gw = open_keyless(&l);
    llmgw_reply *reply = llmgw_ask(gw, "p/m", "hi");
    assert_int_equal(reply->error.code, LLMGW_E_NO_KEY);
    unit_has(reply->error.text, "UNIT_MISSING");
    assert_int_equal(reply->trace_count, 1);
    assert_int_equal(reply->trace[0].kind, LLMGW_TRACE_SKIP);
    assert_int_equal(reply->trace[0].code, LLMGW_E_NO_KEY);
    assert_string_equal(reply->trace[0].provider, "p");
    assert_string_equal(reply->trace[0].model, "m");
    assert_string_equal(reply->provider, "");
    assert_true(reply->cost.known); /* nothing was sent: nothing was spent */
    assert_int_equal(reply->cost.pico_usd, 0);
    assert_int_equal(l.count, 2); /* that it failed, and that it ended */
    assert_int_equal(l.item, LLMGW_LOG_CALL);
    llmgw_close(gw);
    unit_has(reply->error.text, "UNIT_MISSING"); /* it outlives the gateway */
    assert_string_equal(reply->trace[0].provider, "p");
    llmgw_reply_free(reply);
}

/* A reply kept three times is freed by the third. Sanitizers watch the rest. */
static void test_keep_and_free(void **state) {
    llmgw *gw = open_keyless(NULL);
    llmgw_request r = unit_ask("hi");
    seen s;
    memset(&s, 0, sizeof s);
    r.model = "p/m";
    r.on_event = note;
    r.user = &s;
    s.call = llmgw_send(gw, &r, NULL);
    assert_true(s.call != 0);
    assert_int_equal(llmgw_pending(gw), 1);
    assert_int_equal(llmgw_timeout_ms(gw), 0);
    assert_int_equal(s.events, 0); /* only inside poll */
    while (llmgw_pending(gw)) llmgw_poll(gw, 1000);
    while (llmgw_poll(gw, 0) > 0) continue;
    assert_int_equal(s.ends, 1);
    llmgw_close(gw);
    for (int i = 0; i < 3; i++) {
        assert_ptr_equal(s.kept[i], s.kept[0]);
        assert_int_equal(s.kept[0]->error.code, LLMGW_E_NO_KEY);
        llmgw_reply_free(s.kept[i]);
    }
}

static void test_close_ends_calls(void **state) {
    llmgw *gw = open_keyless(NULL);
    llmgw_request r = unit_ask("hi");
    seen s[3];
    memset(s, 0, sizeof s);
    r.model = "p/m";
    r.on_event = note;
    for (int i = 0; i < 3; i++) {
        r.user = &s[i];
        s[i].call = llmgw_send(gw, &r, NULL);
        for (int j = 0; j < i; j++) assert_true(s[i].call != s[j].call);
    }
    assert_int_equal(llmgw_pending(gw), 3);
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(s[i].ends, 1);
        assert_int_equal(s[i].kept[0]->error.code, LLMGW_E_CLOSED);
        for (int j = 0; j < 3; j++) llmgw_reply_free(s[i].kept[j]);
    }
}

static void test_cancel_before_it_runs(void **state) {
    llmgw *gw = open_keyless(NULL);
    llmgw_request r = unit_ask("hi");
    seen s;
    memset(&s, 0, sizeof s);
    r.model = "p/m";
    r.on_event = note;
    r.user = &s;
    s.call = llmgw_send(gw, &r, NULL);
    llmgw_cancel(gw, s.call);
    llmgw_cancel(gw, s.call);
    while (!s.ends) llmgw_poll(gw, 1000);
    assert_int_equal(s.kept[0]->error.code, LLMGW_E_CANCELLED);
    assert_false(s.kept[0]->error.retryable);
    for (int i = 0; i < 3; i++) llmgw_reply_free(s.kept[i]);
    llmgw_close(gw);
}

/* A stale handle names nothing, also when its slot is in use again. */
static void test_stale_handles(void **state) {
    llmgw *gw = open_keyless(NULL);
    llmgw_request r = unit_ask("hi");
    llmgw_call old[100];
    seen s;
    r.model = "p/m";
    for (int i = 0; i < 100; i++) {
        old[i] = llmgw_send(gw, &r, NULL);
        assert_true(old[i] != 0);
        for (int j = 0; j < i; j++) assert_true(old[j] != old[i]);
        while (llmgw_pending(gw)) llmgw_poll(gw, 5);
    }
    memset(&s, 0, sizeof s);
    r.on_event = note;
    r.user = &s;
    s.call = llmgw_send(gw, &r, NULL);
    for (int i = 0; i < 100; i++) llmgw_cancel(gw, old[i]);
    static const llmgw_call nonsense[] = {
        0, 1, UINT64_MAX, 0xFFFFFFFF, (llmgw_call)1 << 32, ((llmgw_call)7 << 32) | 5};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(nonsense); i++)
        if (nonsense[i] != s.call) llmgw_cancel(gw, nonsense[i]);
    while (!s.ends) llmgw_poll(gw, 1000);
    assert_int_equal(s.kept[0]->error.code, LLMGW_E_NO_KEY); /* it was not cancelled */
    for (int i = 0; i < 3; i++) llmgw_reply_free(s.kept[i]);
    llmgw_close(gw);
}

/* The end of a call is something that happened, also when nobody listens. */
static void test_poll_returns_when_a_silent_call_ends(void **state) {
    llmgw *gw = open_keyless(NULL);
    llmgw_request r = unit_ask("hi");
    int64_t start = llmgwi_base_now_us(NULL);
    r.model = "p/m";
    assert_true(llmgw_send(gw, &r, NULL) != 0);
    while (llmgw_pending(gw)) llmgw_poll(gw, 10000);
    assert_true(llmgwi_base_now_us(NULL) - start < 5000000);
    llmgw_close(gw);
}

static void test_poll_with_nothing(void **state) {
    llmgw *gw = open_keyless(NULL);
    int64_t start = llmgwi_base_now_us(NULL);
    assert_int_equal(llmgw_poll(gw, 0), 0);
    assert_true(llmgwi_base_now_us(NULL) - start < 5000000);
    start = llmgwi_base_now_us(NULL);
    assert_int_equal(llmgw_poll(gw, 60), 0); /* it waits for a send or a wake of another thread */
    assert_true(llmgwi_base_now_us(NULL) - start >= 50000);
    assert_int_equal(llmgw_poll(gw, -2), -LLMGW_E_ARGUMENT);
    assert_int_equal(llmgw_poll(gw, INT_MIN), -LLMGW_E_ARGUMENT);
    assert_int_equal(llmgw_timeout_ms(gw), -1);
    assert_int_equal(llmgw_pending(gw), 0);
    llmgw_wake(gw);
    assert_int_equal(llmgw_poll(gw, 0), 0);
    llmgw_close(gw);
}

static void test_max_calls(void **state) {
    llmgw_options options =
        quiet_options("{'max_calls':2,'providers':{'p':{'dialect':'openai','key':'env:UNIT_MISSING'}}}");
    llmgw *gw = llmgw_open(&options, NULL);
    llmgw_request r = unit_ask("hi");
    llmgw_error error;
    assert_non_null(gw);
    r.model = "p/m";
    assert_true(llmgw_send(gw, &r, &error) != 0);
    assert_true(llmgw_send(gw, &r, &error) != 0);
    assert_int_equal(llmgw_send(gw, &r, &error), 0);
    assert_int_equal(error.code, LLMGW_E_LIMIT);
    assert_true(error.retryable);
    unit_has(error.text, "max_calls (2)");
    while (llmgw_pending(gw)) llmgw_poll(gw, 5);
    assert_true(llmgw_send(gw, &r, &error) != 0);
    llmgw_close(gw);
}

/* A request is copied: what the caller changes after llmgw_send does not matter. */
static void test_request_is_copied(void **state) {
    char model[16] = "p/first", prompt[16] = "hi";
    llmgw *gw = open_keyless(NULL);
    llmgw_request r = unit_ask(prompt);
    seen s;
    memset(&s, 0, sizeof s);
    r.model = model;
    r.on_event = note;
    r.user = &s;
    s.call = llmgw_send(gw, &r, NULL);
    memset(model, 'X', sizeof model - 1);
    memset(prompt, 0xFF, sizeof prompt - 1);
    memset(&r, 0x55, sizeof r);
    while (!s.ends) llmgw_poll(gw, 1000);
    assert_string_equal(s.kept[0]->trace[0].model, "first");
    for (int i = 0; i < 3; i++) llmgw_reply_free(s.kept[i]);
    llmgw_close(gw);
}

/* After fork the child's handle answers E_FORKED, and closing it there is harmless. */
static void test_forked(void **state) {
    llmgw *gw = open_keyless(NULL);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        llmgw_request r = unit_ask("hi");
        llmgw_error error;
        int bad = 0;
        llmgw_reply *reply = llmgw_chat(gw, &r);
        bad |= reply->error.code != LLMGW_E_FORKED;
        llmgw_reply_free(reply);
        bad |= llmgw_send(gw, &r, &error) != 0 || error.code != LLMGW_E_FORKED;
        bad |= llmgw_poll(gw, -1) != -LLMGW_E_FORKED;
        bad |= llmgw_fd(gw) != -1 || llmgw_timeout_ms(gw) != -1 || llmgw_pending(gw) != 0;
        llmgw_wake(gw);
        llmgw_cancel(gw, 1);
        bad |= llmgw_close(gw) != LLMGW_OK;
        _exit(bad);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    llmgw_reply *reply = llmgw_ask(gw, "p/m", "hi"); /* the parent's goes on */
    assert_int_equal(reply->error.code, LLMGW_E_NO_KEY);
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

/* ---- out of memory ---- */

static void *failing(void *ptr, size_t old_size, size_t new_size, void *user) {
    int *left = (int *)user;
    if (new_size == 0) {
        free(ptr);
        return NULL;
    }
    if (*left == 0) return NULL;
    if (*left > 0) --*left;
    return realloc(ptr, new_size);
}

static void test_out_of_memory(void **state) {
    llmgw_options options =
        quiet_options("{'providers':{'p':{'dialect':'openai','key':'env:UNIT_MISSING'}}}");
    llmgw_error error;
    llmgw *gw = NULL;
    int left = 0, failures = 0;
    options.alloc = failing;
    options.alloc_user = &left;
    for (int n = 0; !gw; n++, failures++) {
        left = n;
        gw = llmgw_open(&options, &error);
        if (!gw) assert_int_equal(error.code, LLMGW_E_MEMORY);
        assert_true(n < 1000);
    }
    assert_true(failures > 3);
    left = 0;
    check_fixed(llmgw_ask(gw, "p/m", "hi"), LLMGW_E_MEMORY);
    check_fixed(llmgw_ask(gw, NULL, NULL), LLMGW_E_MEMORY);
    llmgw_request r = unit_ask("hi");
    r.model = "p/m";
    assert_int_equal(llmgw_send(gw, &r, &error), 0);
    assert_int_equal(error.code, LLMGW_E_MEMORY);
    assert_true(error.retryable);
    left = -1;
    llmgw_reply *reply = llmgw_ask(gw, "p/m", "hi"); /* and recovers */
    assert_int_equal(reply->error.code, LLMGW_E_NO_KEY);
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes_are_frozen),
        cmocka_unit_test(test_other_numbers_are_frozen),
        cmocka_unit_test(test_version_is_in_the_name),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_null_gateway),
        cmocka_unit_test(test_open_failure_is_logged),
        cmocka_unit_test(test_open_failure_on_stderr),
        cmocka_unit_test(test_open_clears_the_error),
        cmocka_unit_test(test_error_texts_are_printable),
        cmocka_unit_test(test_null_request),
        cmocka_unit_test(test_scalar_fields),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_tools),
        cmocka_unit_test(test_schema_and_stop),
        cmocka_unit_test(test_parts_table),
        cmocka_unit_test(test_messages_table),
        cmocka_unit_test(test_restrictions_are_refused),
        cmocka_unit_test(test_models_are_refused),
        cmocka_unit_test(test_missing_key_ends_the_call),
        cmocka_unit_test(test_keep_and_free),
        cmocka_unit_test(test_close_ends_calls),
        cmocka_unit_test(test_cancel_before_it_runs),
        cmocka_unit_test(test_stale_handles),
        cmocka_unit_test(test_poll_returns_when_a_silent_call_ends),
        cmocka_unit_test(test_poll_with_nothing),
        cmocka_unit_test(test_max_calls),
        cmocka_unit_test(test_request_is_copied),
        cmocka_unit_test(test_forked),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
