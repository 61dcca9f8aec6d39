/* What the fuzz targets of dialects share: bytes of a provider to an answer.
   Input: a byte that picks what the bytes are ('0' a whole reply, '1' a stream, '2' an error's body, '3'
   header lines), one for the cap on the answer ('.': large, else its value), then the bytes.
   What must hold:
     - what the sink was given, put together, is the answer
     - the answer never holds more than max_bytes; everything is well-formed UTF-8
     - a false result comes with an error, a true one without; an error has a text that can be shown
     - counts are not negative; all memory is given back */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "fuzz_main.h"

#define FUZZ_TOOLS 64 /* calls whose deltas are kept; more are only counted */

typedef struct heard {
    llmgwi_dialect_answer *answer;
    llmgwi_base_buf text, reasoning, tools[FUZZ_TOOLS];
} heard;

static fuzz_heap heap;
static const llmgwi_base_mem mem = {fuzz_alloc, &heap};

static void heard_init(heard *h, llmgwi_dialect_answer *answer) {
    h->answer = answer;
    llmgwi_base_buf_init(&h->text, &mem, SIZE_MAX / 2);
    llmgwi_base_buf_init(&h->reasoning, &mem, SIZE_MAX / 2);
    for (size_t i = 0; i < FUZZ_TOOLS; i++) llmgwi_base_buf_init(&h->tools[i], &mem, SIZE_MAX / 2);
}

static void heard_free(heard *h) {
    llmgwi_base_buf_free(&h->text);
    llmgwi_base_buf_free(&h->reasoning);
    for (size_t i = 0; i < FUZZ_TOOLS; i++) llmgwi_base_buf_free(&h->tools[i]);
}

static void sink(void *user, llmgw_event_kind kind, const llmgwi_dialect_piece *piece, int index,
                 llmgwi_base_str bytes) {
    heard *h = (heard *)user;
    const llmgwi_dialect_answer *answer = h->answer;
    FUZZ_CHECK(piece >= answer->pieces && piece < answer->pieces + answer->piece_count);
    if (kind == LLMGW_EVENT_TOOL) {
        FUZZ_CHECK(piece->kind == LLMGW_PART_TOOL_CALL && index >= 0 && (size_t)index < answer->tool_count);
        FUZZ_CHECK(piece->id && piece->name);
        if (index < FUZZ_TOOLS) llmgwi_base_buf_view(&h->tools[index], bytes);
        return;
    }
    bool text = kind == LLMGW_EVENT_TEXT;
    FUZZ_CHECK(text || kind == LLMGW_EVENT_REASONING);
    FUZZ_CHECK(piece->kind == (text ? LLMGW_PART_TEXT : LLMGW_PART_REASONING) && bytes.n);
    llmgwi_base_buf_view(text ? &h->text : &h->reasoning, bytes);
}

static void check_utf8(llmgwi_base_str text) {
    for (size_t i = 0, step; i < text.n; i += step)
        FUZZ_CHECK((step = fuzz_utf8(text.p + i, text.n - i)) > 0);
}

static void check_same(const llmgwi_base_buf *a, const llmgwi_base_buf *b) {
    FUZZ_CHECK(a->n == b->n && (!a->n || memcmp(a->p, b->p, a->n) == 0));
    FUZZ_CHECK(!a->p || a->p[a->n] == 0);
}

static void check_error(const llmgw_error *error) {
    FUZZ_CHECK(error->code && llmgwi_base_error_find(error->code) && error->text[0]);
    FUZZ_CHECK(memchr(error->text, 0, sizeof error->text) != NULL && error->retry_after_ms >= 0);
    check_utf8(llmgwi_base_cstr(error->text));
    for (const char *p = error->text; *p; p++) FUZZ_CHECK((unsigned char)*p >= ' ' && *p != 0x7F);
}

/* The pieces lie end to end in text and reasoning; all that is kept is counted. */
static void check_pieces(const llmgwi_dialect_answer *answer, const heard *h) {
    size_t text = 0, reasoning = 0, tools = 0;
    size_t bytes = answer->text.n + answer->reasoning.n + answer->refusal.n;
    FUZZ_CHECK(answer->piece_count <= LLMGW_MAX_PARTS);
    for (size_t i = 0; i < answer->piece_count; i++) {
        const llmgwi_dialect_piece *piece = &answer->pieces[i];
        FUZZ_CHECK(piece->id && piece->name && piece->n <= answer->max_bytes);
        check_utf8(llmgwi_base_buf_str(&piece->arguments));
        check_utf8(llmgwi_base_buf_str(&piece->signature));
        bytes += piece->arguments.n + piece->signature.n;
        if (piece->kind == LLMGW_PART_TOOL_CALL) {
            if (h && tools < FUZZ_TOOLS) check_same(&h->tools[tools], &piece->arguments);
            tools++;
            continue;
        }
        size_t *at = piece->kind == LLMGW_PART_TEXT ? &text : &reasoning;
        FUZZ_CHECK(piece->at == *at && piece->arguments.n == 0);
        *at += piece->n;
    }
    FUZZ_CHECK(tools == answer->tool_count && text == answer->text.n && reasoning == answer->reasoning.n);
    FUZZ_CHECK(bytes <= answer->bytes && answer->bytes <= answer->max_bytes);
}

static void check_answer(const llmgwi_dialect_answer *answer, const heard *h) {
    const llmgw_usage *usage = &answer->usage;
    check_pieces(answer, h);
    check_utf8(llmgwi_base_buf_str(&answer->text));
    check_utf8(llmgwi_base_buf_str(&answer->reasoning));
    check_utf8(llmgwi_base_buf_str(&answer->refusal));
    check_utf8(llmgwi_base_cstr(answer->id));
    check_utf8(llmgwi_base_cstr(answer->model));
    FUZZ_CHECK(usage->input >= 0 && usage->output >= 0 && usage->cached >= 0);
    FUZZ_CHECK(usage->cache_write >= 0 && usage->cache_write_1h >= 0 && usage->reasoning >= 0);
    if (h) check_same(&h->text, &answer->text);
    if (h) check_same(&h->reasoning, &answer->reasoning);
    if (answer->error.code) check_error(&answer->error);
}

typedef struct stream {
    const llmgwi_dialect *dialect;
    llmgwi_dialect_answer *answer;
    const heard *heard;
} stream;

static bool stream_event(void *user, llmgwi_base_str name, llmgwi_base_str data) {
    stream *s = (stream *)user;
    bool good = s->dialect->event(s->answer, name, data);
    FUZZ_CHECK(good == !s->answer->error.code);
    if (s->answer->error.code) check_error(&s->answer->error);
    return good && !s->answer->ended;
}

/* "name TAB data" in a line each: the messages of an event stream, whose checksums no fuzzer finds. */
static bool feed_lines(stream *s, llmgwi_base_str bytes) {
    bool good = true;
    for (size_t at = 0; good && at < bytes.n;) {
        const char *p = bytes.p + at, *end = (const char *)memchr(p, '\n', bytes.n - at);
        size_t n = end ? (size_t)(end - p) : bytes.n - at;
        const char *tab = (const char *)memchr(p, '\t', n);
        size_t name = tab ? (size_t)(tab - p) : 0, skip = tab ? name + 1 : 0;
        good = stream_event(s, llmgwi_base_view(p, name), llmgwi_base_view(p + skip, n - skip));
        if (good) check_answer(s->answer, s->heard);
        at += n + 1;
    }
    return good;
}

static void fuzz_stream(const llmgwi_dialect *dialect, llmgwi_dialect_answer *answer, llmgwi_base_str bytes) {
    llmgwi_frame frame;
    heard h;
    stream s = {dialect, answer, &h};
    heard_init(&h, answer);
    answer->sink = sink;
    answer->sink_user = &h;
    llmgwi_frame_init(&frame, &mem, 1 << 20, stream_event, &s);
    frame.kind = dialect->framing;
    size_t half = bytes.n / 2;
    bool lines = dialect->framing == LLMGWI_FRAME_EVENTSTREAM;
    bool good = lines ? feed_lines(&s, bytes) : llmgwi_frame_feed(&frame, bytes.p, half);
    if (good && half) check_answer(answer, &h);
    if (!lines)
        good =
            good && llmgwi_frame_feed(&frame, bytes.p + half, bytes.n - half) && llmgwi_frame_finish(&frame);
    check_answer(answer, &h);
    FUZZ_CHECK(good == (!answer->error.code && !answer->ended));
    if (llmgwi_dialect_complete(dialect, answer)) {
        FUZZ_CHECK(!answer->error.code);
        llmgwi_dialect_settle(answer);
        check_answer(answer, NULL);
        FUZZ_CHECK(answer->finish != LLMGW_FINISH_NONE);
    }
    llmgwi_frame_free(&frame);
    heard_free(&h);
}

static void fuzz_whole(const llmgwi_dialect *dialect, llmgwi_dialect_answer *answer, llmgwi_base_str bytes) {
    bool good = dialect->reply(answer, bytes);
    FUZZ_CHECK(good == !answer->error.code);
    check_answer(answer, NULL);
    if (!good) return;
    FUZZ_CHECK(answer->ended && llmgwi_dialect_complete(dialect, answer));
    llmgwi_dialect_settle(answer);
    check_answer(answer, NULL);
    FUZZ_CHECK(answer->finish != LLMGW_FINISH_NONE);
}

static void fuzz_error(int status, llmgwi_base_str bytes) {
    llmgw_error error;
    memset(&error, 0, sizeof error);
    llmgwi_dialect_error(&error, status, bytes, 64);
    check_error(&error);
    FUZZ_CHECK(error.http_status == status);
    FUZZ_CHECK(error.retry_after_ms >= 0 && error.retry_after_ms <= LLMGWI_DIALECT_LONG_MS);
    (void)llmgwi_dialect_refuses_prefill(400, error.text);
}

static void check_limit(const llmgwi_dialect_limit *limit) {
    int64_t least = limit->seen ? -1 : 0;
    FUZZ_CHECK(limit->limit >= least && limit->limit < 1000000000000000);
    FUZZ_CHECK(limit->remaining >= least && limit->remaining < 1000000000000000);
    FUZZ_CHECK(limit->reset_ms >= least && limit->reset_ms < LLMGWI_DIALECT_LONG_MS);
}

/* "name: value" lines. */
static void fuzz_headers(llmgwi_base_str bytes) {
    llmgwi_dialect_meta meta;
    memset(&meta, 0, sizeof meta);
    for (size_t at = 0; at < bytes.n;) {
        const char *p = bytes.p + at, *end = (const char *)memchr(p, '\n', bytes.n - at);
        size_t n = end ? (size_t)(end - p) : bytes.n - at;
        const char *colon = (const char *)memchr(p, ':', n);
        if (colon)
            llmgwi_dialect_header(&meta, llmgwi_base_view(p, (size_t)(colon - p)),
                                  llmgwi_base_trim(llmgwi_base_view(colon + 1, n - (size_t)(colon - p) - 1)),
                                  1700000000);
        FUZZ_CHECK(meta.retry_after_ms >= 0);
        check_limit(&meta.requests);
        check_limit(&meta.tokens);
        at += n + 1;
    }
}

static int fuzz_dialect(const char *name, const uint8_t *data, size_t size) {
    static const int statuses[] = {400, 401, 403, 404, 413, 429, 500, 503, 529, 200, 0};
    const llmgwi_dialect *dialect = llmgwi_dialect_find(name);
    llmgwi_dialect_target target = {"model", name, 0, NULL};
    llmgwi_dialect_answer answer;
    if (size < 2) return 0;
    size_t max_bytes = data[1] == '.' ? 1 << 20 : data[1];
    llmgwi_base_str bytes = llmgwi_base_view((const char *)data + 2, size - 2);
    llmgwi_dialect_answer_init(&answer, &mem, &target, max_bytes, data[1] % 2 ? 16 : 128);
    switch (data[0] % 4) {
    case 0: fuzz_whole(dialect, &answer, bytes); break;
    case 1: fuzz_stream(dialect, &answer, bytes); break;
    case 2: fuzz_error(statuses[data[1] % 11], bytes); break;
    case 3: fuzz_headers(bytes); break;
    }
    llmgwi_dialect_answer_free(&answer);
    FUZZ_CHECK(heap.live == 0);
    return 0;
}
