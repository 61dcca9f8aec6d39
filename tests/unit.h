/* unit.h - shared by the unit tests: the implementation, cmocka, jansson, and small readers over both.
   In JSON given as text, ' stands for ". */
#ifndef UNIT_H
#define UNIT_H

#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <jansson.h>

#define UNIT_UNUSED __attribute__((unused))
#define UNIT_TOOLS 16

static const llmgwi_base_mem unit_mem; /* realloc and free */

/* ' becomes ". Lives until the next eight calls. */
UNIT_UNUSED static const char *unit_quoted(const char *text) {
    static char ring[8][16384];
    static unsigned at;
    char *out = ring[at++ % 8];
    size_t n = strlen(text);
    assert_true(n < sizeof ring[0]);
    for (size_t i = 0; i <= n; i++) out[i] = text[i] == '\'' ? '"' : text[i];
    return out;
}

/* As jansson sees it: a second opinion. */
UNIT_UNUSED static bool unit_is_utf8(const char *text) {
    json_t *json = json_string(text);
    json_decref(json);
    return json != NULL;
}

/* ---- JSON by path: "messages.0.content" ---- */

UNIT_UNUSED static json_t *unit_at(json_t *json, const char *path) {
    char step[128];
    while (json && *path) {
        size_t n = strcspn(path, ".");
        memcpy(step, path, n);
        step[n] = 0;
        json = json_is_array(json) ? json_array_get(json, (size_t)atoi(step)) : json_object_get(json, step);
        path += n + (path[n] == '.');
    }
    return json;
}

/* The value at path equals this JSON text; NULL: there is none. */
UNIT_UNUSED static void unit_is_at(json_t *json, const char *path, const char *want, const char *file,
                                   int line) {
    json_error_t error;
    json_t *got = unit_at(json, path);
    json_t *expected = want ? json_loads(unit_quoted(want), JSON_DECODE_ANY, &error) : NULL;
    if (want && !expected) fail_msg("%s:%d: the expected text is no JSON: %s", file, line, error.text);
    bool same = want ? got && json_equal(got, expected) : !got;
    if (!same) {
        char *text = got ? json_dumps(got, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
        print_error("%s:%d: at '%s': got %s, expected %s\n", file, line, path, text ? text : "nothing",
                    want ? want : "nothing");
        free(text);
    }
    json_decref(expected);
    assert_true(same);
}
#define unit_is(json, path, want) unit_is_at(json, path, want, __FILE__, __LINE__)
#define unit_none(json, path) unit_is_at(json, path, NULL, __FILE__, __LINE__)

UNIT_UNUSED static void unit_has_at(const char *text, const char *part, const char *file, int line) {
    if (!text || !strstr(text, part))
        fail_msg("%s:%d: '%s' does not hold '%s'", file, line, text ? text : "(null)", part);
}
#define unit_has(text, part) unit_has_at(text, part, __FILE__, __LINE__)

/* ---- requests ---- */

/* A known provider by name, or "name:dialect": in another dialect of its. */
UNIT_UNUSED static const llmgwi_dialect_known *unit_known(const char *provider,
                                                          const llmgwi_dialect **dialect) {
    char name[64];
    size_t n = strcspn(provider, ":");
    assert_true(n < sizeof name);
    memcpy(name, provider, n);
    name[n] = 0;
    const llmgwi_dialect_known *known =
        llmgwi_dialect_known_find(name, provider[n] ? provider + n + 1 : NULL);
    if (!known) known = llmgwi_dialect_known_find(name, NULL);
    assert_non_null(known);
    *dialect = llmgwi_dialect_find(provider[n] ? provider + n + 1 : known->dialect);
    assert_non_null(*dialect);
    return known;
}

/* Writes a request for a known provider. True: body holds it. The caller frees body. */
UNIT_UNUSED static bool unit_write(const char *provider, const char *model, const llmgw_request *request,
                                   size_t max_bytes, llmgwi_base_buf *body, llmgw_error *error) {
    const llmgwi_dialect *dialect;
    const llmgwi_dialect_known *known = unit_known(provider, &dialect);
    llmgwi_dialect_target target;
    memset(&target, 0, sizeof target);
    memset(error, 0, sizeof *error);
    target.model = model;
    target.flavour = known->name;
    target.quirks = llmgwi_dialect_quirks_of(dialect->name, known->name, model, known->url);
    llmgwi_base_buf_init(body, &unit_mem, max_bytes);
    return llmgwi_dialect_write(dialect, &target, request, NULL, body, error);
}

/* The body as jansson reads it; json_decref it. */
UNIT_UNUSED static json_t *unit_body(const char *provider, const char *model, const llmgw_request *request) {
    llmgwi_base_buf body;
    llmgw_error error;
    json_error_t why;
    if (!unit_write(provider, model, request, (size_t)1 << 20, &body, &error))
        fail_msg("refused: %s", error.text);
    json_t *json = json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES, &why);
    if (!json) fail_msg("not JSON: %s in %s", why.text, body.p);
    llmgwi_base_buf_free(&body);
    return json;
}

/* The error of a request that cannot be written. */
UNIT_UNUSED static llmgw_error unit_refusal(const char *provider, const char *model,
                                            const llmgw_request *request) {
    llmgwi_base_buf body;
    llmgw_error error;
    assert_false(unit_write(provider, model, request, (size_t)1 << 20, &body, &error));
    assert_int_not_equal(error.code, LLMGW_OK);
    llmgwi_base_buf_free(&body);
    return error;
}

/* ---- answers ---- */

/* An answer being read, and what its sink was told. */
typedef struct unit_answer {
    llmgwi_engine_reply *reply;
    llmgwi_dialect_answer *answer;
    const llmgwi_dialect *dialect;
    llmgwi_dialect_target target;
    llmgwi_base_buf text, reasoning, arguments[UNIT_TOOLS];
    char order[256]; /* T, R, and tool numbers, as they came */
    int tools;
} unit_answer;

UNIT_UNUSED static void unit_sink(void *user, llmgw_event_kind kind, const llmgwi_dialect_piece *piece,
                                  int tool_index, llmgwi_base_str bytes) {
    unit_answer *u = (unit_answer *)user;
    size_t at = strlen(u->order);
    char mark = kind == LLMGW_EVENT_TEXT        ? 'T'
                : kind == LLMGW_EVENT_REASONING ? 'R'
                                                : (char)('0' + tool_index);
    if ((at == 0 || u->order[at - 1] != mark) && at + 1 < sizeof u->order) u->order[at] = mark;
    if (kind == LLMGW_EVENT_TEXT) {
        assert_true(bytes.n > 0);
        llmgwi_base_buf_view(&u->text, bytes);
    } else if (kind == LLMGW_EVENT_REASONING) {
        assert_true(bytes.n > 0);
        llmgwi_base_buf_view(&u->reasoning, bytes);
    } else {
        assert_int_equal(kind, LLMGW_EVENT_TOOL);
        assert_in_range(tool_index, 0, UNIT_TOOLS - 1);
        assert_true(piece->id[0] && piece->name[0]);
        if (tool_index >= u->tools) assert_int_equal(tool_index, u->tools++);
        llmgwi_base_buf_view(&u->arguments[tool_index], bytes);
    }
}

UNIT_UNUSED static void unit_begin(unit_answer *u, const char *provider, bool stream) {
    memset(u, 0, sizeof *u);
    const llmgwi_dialect_known *known = unit_known(provider, &u->dialect);
    u->target.model = "m";
    u->target.flavour = known->name;
    u->target.quirks = llmgwi_dialect_quirks_of(u->dialect->name, known->name, "m", known->url);
    u->reply = llmgwi_engine_reply_new(&unit_mem);
    u->answer = &u->reply->answer;
    llmgwi_dialect_answer_init(u->answer, &u->reply->mem, &u->target, (size_t)1 << 20, 128);
    u->answer->salt = llmgwi_base_random(NULL); /* as the engine does */
    llmgwi_base_buf_init(&u->text, &unit_mem, (size_t)1 << 20);
    llmgwi_base_buf_init(&u->reasoning, &unit_mem, (size_t)1 << 20);
    for (int i = 0; i < UNIT_TOOLS; i++) llmgwi_base_buf_init(&u->arguments[i], &unit_mem, (size_t)1 << 20);
    if (!stream) return;
    u->answer->sink = unit_sink;
    u->answer->sink_user = u;
}

UNIT_UNUSED static void unit_end(unit_answer *u) {
    llmgwi_base_buf_free(&u->text);
    llmgwi_base_buf_free(&u->reasoning);
    for (int i = 0; i < UNIT_TOOLS; i++) llmgwi_base_buf_free(&u->arguments[i]);
    llmgwi_engine_reply_drop(u->reply);
}

/* A whole reply. Settles the answer when it is good. */
UNIT_UNUSED static bool unit_reply(unit_answer *u, const char *provider, const char *json) {
    unit_begin(u, provider, false);
    bool good = u->dialect->reply(u->answer, llmgwi_base_cstr(unit_quoted(json)));
    if (good) llmgwi_dialect_settle(u->answer);
    assert_int_equal(good, u->answer->error.code == LLMGW_OK);
    return good;
}

UNIT_UNUSED static bool unit_event_named(unit_answer *u, const char *name, const char *data) {
    return u->dialect->event(u->answer, llmgwi_base_cstr(name), llmgwi_base_cstr(unit_quoted(data)));
}

UNIT_UNUSED static bool unit_event(unit_answer *u, const char *data) { return unit_event_named(u, "", data); }

/* A stream of good events, up to NULL. */
UNIT_UNUSED static void unit_stream(unit_answer *u, const char *provider, const char *const *events) {
    unit_begin(u, provider, true);
    for (size_t i = 0; events[i]; i++)
        if (!unit_event(u, events[i])) fail_msg("event %zu: %s", i, u->answer->error.text);
}

static const llmgwi_dialect_piece *unit_tool(const unit_answer *u, int index) {
    for (size_t i = 0; i < u->answer->piece_count; i++)
        if (u->answer->pieces[i].kind == LLMGW_PART_TOOL_CALL && index-- == 0) return &u->answer->pieces[i];
    fail_msg("there is no such tool call");
    return NULL;
}

/* The end of a good stream: it is complete, and what the sink was told is the answer. */
UNIT_UNUSED static void unit_complete(unit_answer *u) {
    assert_true(llmgwi_dialect_complete(u->dialect, u->answer));
    llmgwi_dialect_settle(u->answer);
    assert_string_equal(llmgwi_base_buf_cstr(&u->text), llmgwi_base_buf_cstr(&u->answer->text));
    assert_string_equal(llmgwi_base_buf_cstr(&u->reasoning), llmgwi_base_buf_cstr(&u->answer->reasoning));
    assert_int_equal((size_t)u->tools, u->answer->tool_count);
    for (int i = 0; i < u->tools; i++) {
        const char *told = llmgwi_base_buf_cstr(&u->arguments[i]);
        assert_string_equal(told[0] ? told : "{}", llmgwi_base_buf_cstr(&unit_tool(u, i)->arguments));
    }
}

UNIT_UNUSED static void unit_text(const unit_answer *u, const char *want) {
    assert_string_equal(llmgwi_base_buf_cstr(&u->answer->text), want);
}

UNIT_UNUSED static void unit_reasoning(const unit_answer *u, const char *want) {
    assert_string_equal(llmgwi_base_buf_cstr(&u->answer->reasoning), want);
}

/* Tool call number index: id (NULL: any), name, and arguments equal as JSON. */
UNIT_UNUSED static void unit_call(const unit_answer *u, int index, const char *id, const char *name,
                                  const char *arguments) {
    const llmgwi_dialect_piece *piece = unit_tool(u, index);
    json_error_t error;
    if (id) assert_string_equal(piece->id, id);
    assert_true(piece->id[0] != 0);
    assert_string_equal(piece->name, name);
    json_t *json = json_loads(llmgwi_base_buf_cstr(&piece->arguments), JSON_DECODE_ANY, &error);
    if (!json) fail_msg("arguments: %s in %s", error.text, llmgwi_base_buf_cstr(&piece->arguments));
    unit_is(json, "", arguments);
    json_decref(json);
}

UNIT_UNUSED static void unit_usage(const unit_answer *u, int64_t input, int64_t output, int64_t cached,
                                   int64_t cache_write, int64_t cache_write_1h, int64_t reasoning) {
    const llmgw_usage *usage = &u->answer->usage;
    assert_true(usage->known);
    assert_int_equal(usage->input, input);
    assert_int_equal(usage->output, output);
    assert_int_equal(usage->cached, cached);
    assert_int_equal(usage->cache_write, cache_write);
    assert_int_equal(usage->cache_write_1h, cache_write_1h);
    assert_int_equal(usage->reasoning, reasoning);
}

/* The answer as a turn, as the reply would hold it. */
UNIT_UNUSED static llmgw_message unit_turn(unit_answer *u, const char *flavour) {
    assert_true(llmgwi_engine_export(&u->reply->pub, &u->reply->arena, &u->reply->answer, flavour));
    return u->reply->pub.message;
}

/* A good reply cut off anywhere is an error that says where. */
UNIT_UNUSED static void unit_cut_reply(const char *provider, const char *json) {
    unit_answer u;
    assert_true(unit_reply(&u, provider, json));
    unit_end(&u);
    const char *text = unit_quoted(json);
    for (size_t n = 0; n < strlen(text); n++) {
        char *cut = (char *)malloc(n + 1); /* so that a sanitizer sees a byte read too far */
        assert_non_null(cut);
        memcpy(cut, text, n);
        unit_begin(&u, provider, false);
        assert_false(u.dialect->reply(u.answer, llmgwi_base_view(cut, n)));
        assert_int_equal(u.answer->error.code, LLMGW_E_PROTOCOL);
        if (!strstr(u.answer->error.text, "at byte")) fail_msg("%s", u.answer->error.text);
        unit_end(&u);
        free(cut);
    }
}

UNIT_UNUSED static bool unit_on_frame(void *user, llmgwi_base_str name, llmgwi_base_str data) {
    unit_answer *u = (unit_answer *)user;
    return u->answer->ended || u->dialect->event(u->answer, name, data);
}

/* The same stream of bytes, cut in two at every place, is the same answer: text, then arguments of the first
   call (NULL: there is none). */
UNIT_UNUSED static void unit_cut_stream(const char *provider, const char *sse, const char *text,
                                        const char *arguments) {
    const char *bytes = unit_quoted(sse);
    for (size_t n = strlen(bytes), cut = 0; cut <= n; cut++) {
        llmgwi_frame frame;
        unit_answer u;
        unit_begin(&u, provider, true);
        llmgwi_frame_init(&frame, &unit_mem, (size_t)1 << 20, unit_on_frame, &u);
        frame.kind = u.dialect->framing;
        assert_true(llmgwi_frame_feed(&frame, bytes, cut));
        assert_true(llmgwi_frame_feed(&frame, bytes + cut, n - cut));
        assert_true(llmgwi_frame_finish(&frame));
        unit_complete(&u);
        assert_string_equal(llmgwi_base_buf_cstr(&u.answer->text), text);
        if (arguments) assert_string_equal(llmgwi_base_buf_cstr(&unit_tool(&u, 0)->arguments), arguments);
        llmgwi_frame_free(&frame);
        unit_end(&u);
    }
}

/* A code of a failure, and a part of its text. */
#define unit_failed(u, want, part)                                                                           \
    do {                                                                                                     \
        assert_int_equal((u)->answer->error.code, want);                                                     \
        unit_has((u)->answer->error.text, part);                                                             \
    } while (0)

/* ---- parts and turns ---- */

UNIT_UNUSED static llmgw_part unit_part(llmgw_part_kind kind, const char *text) {
    llmgw_part part;
    memset(&part, 0, sizeof part);
    part.kind = kind;
    part.text = text;
    return part;
}

UNIT_UNUSED static llmgw_part unit_tool_call(const char *id, const char *name, const char *arguments) {
    llmgw_part part = unit_part(LLMGW_PART_TOOL_CALL, NULL);
    part.id = id;
    part.name = name;
    part.arguments = arguments;
    return part;
}

UNIT_UNUSED static llmgw_part unit_tool_result(const char *id, const char *text) {
    llmgw_part part = unit_part(LLMGW_PART_TOOL_RESULT, text);
    part.id = id;
    return part;
}

UNIT_UNUSED static llmgw_part unit_thought(const char *text, const char *signature, const char *origin) {
    llmgw_part part = unit_part(LLMGW_PART_REASONING, text);
    part.signature = signature;
    part.origin = origin;
    return part;
}

UNIT_UNUSED static llmgw_part unit_bytes(llmgw_part_kind kind, const char *mime, const char *name,
                                         const char *data) {
    llmgw_part part = unit_part(kind, NULL);
    part.mime = mime;
    part.name = name;
    part.data = data;
    part.data_len = strlen(data);
    return part;
}

UNIT_UNUSED static llmgw_part unit_url(llmgw_part_kind kind, const char *url) {
    llmgw_part part = unit_part(kind, NULL);
    part.url = url;
    return part;
}

UNIT_UNUSED static llmgw_message unit_message(llmgw_role role, const char *text, const llmgw_part *parts,
                                              size_t part_count) {
    llmgw_message message;
    memset(&message, 0, sizeof message);
    message.role = role;
    message.text = text;
    message.parts = parts;
    message.part_count = part_count;
    return message;
}

/* A request of one question. */
UNIT_UNUSED static llmgw_request unit_ask(const char *prompt) {
    llmgw_request request;
    memset(&request, 0, sizeof request);
    request.model = "m";
    request.prompt = prompt;
    return request;
}

/* A request of these turns. */
UNIT_UNUSED static llmgw_request unit_talk(const llmgw_message *messages, size_t count) {
    llmgw_request request = unit_ask(NULL);
    request.messages = messages;
    request.message_count = count;
    return request;
}

/* A conversation with a turn that has nothing to say in this dialect: it is not sent. */
UNIT_UNUSED static void unit_silent_turn(const char *dialect, const char *list, const char *parts) {
    llmgw_part foreign = unit_thought("hm", "sig", "nobody");
    llmgw_message turns[3] = {unit_message(LLMGW_ROLE_USER, "a", NULL, 0),
                              unit_message(LLMGW_ROLE_ASSISTANT, NULL, &foreign, 1),
                              unit_message(LLMGW_ROLE_USER, "b", NULL, 0)};
    llmgw_request request = unit_talk(turns, 3);
    json_t *body = unit_body(dialect, "m", &request), *message;
    size_t i, texts = 0;
    json_array_foreach(unit_at(body, list), i, message) {
        json_t *content = json_object_get(message, parts);
        assert_string_equal(json_string_value(json_object_get(message, "role")), "user");
        assert_true(json_is_string(content) || json_array_size(content) > 0);
        texts += json_is_string(content) ? 1 : json_array_size(content);
    }
    assert_int_equal(texts, 2);
    json_decref(body);
}

#endif
