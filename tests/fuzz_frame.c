/* Server-sent events: the same bytes give the same events, however they are cut.
     make build/fuzz/fuzz_frame && build/fuzz/fuzz_frame build/fuzz/corpus-frame tests/corpus/frame
   Input: one byte for the cap on an event ('.': large, else its value), one for the event at which the
   handler says stop ('.': never, else its value, modulo 8), two that choose cuts (the second from 0x80 on: the
   stream is lines of JSON); the rest is the stream. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "fuzz_main.h"

/* What came out: all events in one text, and how it ended. */
typedef struct seen {
    llmgwi_base_buf log;
    unsigned count, stop_at;
    bool good;
    int failed;
} seen;

static fuzz_heap heap;
static llmgwi_frame_kind kind;
static const llmgwi_base_mem mem = {fuzz_alloc, &heap};

static bool on_event(void *user, llmgwi_base_str name, llmgwi_base_str data) {
    seen *s = (seen *)user;
    char head[64];
    snprintf(head, sizeof head, "\n[%lu %lu]", (unsigned long)name.n, (unsigned long)data.n);
    llmgwi_base_buf_text(&s->log, head);
    llmgwi_base_buf_view(&s->log, name);
    llmgwi_base_buf_text(&s->log, "|");
    llmgwi_base_buf_view(&s->log, data);
    if (kind == LLMGWI_FRAME_LINES)
        FUZZ_CHECK(!name.n && data.n && !memchr(data.p, '\n', data.n));
    else
        FUZZ_CHECK(name.n < 64 && !memchr(data.p, '\r', data.n));
    return ++s->count != s->stop_at;
}

/* Each piece stands in a block of its own, which is gone after the call. */
static bool feed(llmgwi_frame *frame, const uint8_t *p, size_t n) {
    char *copy = (char *)malloc(n ? n : 1);
    FUZZ_CHECK(copy);
    if (n) memcpy(copy, p, n);
    bool good = llmgwi_frame_feed(frame, copy, n);
    free(copy);
    return good;
}

/* Cuts at the n places, which rise; step > 0: cuts every so many bytes instead. */
static void run(seen *s, const uint8_t *p, size_t size, size_t cap, unsigned stop_at, const size_t *cuts,
                size_t n, size_t step) {
    llmgwi_frame frame;
    memset(s, 0, sizeof *s);
    s->stop_at = stop_at;
    llmgwi_base_buf_init(&s->log, &mem, SIZE_MAX / 2);
    llmgwi_frame_init(&frame, &mem, cap, on_event, s);
    frame.kind = kind;
    s->good = true;
    size_t at = 0;
    for (size_t i = 0; s->good && at < size; i++) {
        size_t end = step ? at + step : i < n ? cuts[i] : size;
        if (end > size) end = size;
        s->good = feed(&frame, p + at, end - at);
        at = end;
    }
    s->good = s->good && llmgwi_frame_finish(&frame);
    s->failed = frame.line.failed ? (int)frame.line.failed : (int)frame.data.failed;
    FUZZ_CHECK(s->good ? !s->failed && !frame.stopped : s->failed || frame.stopped);
    if (frame.stopped)
        FUZZ_CHECK(!llmgwi_frame_feed(&frame, "data:x\n\n", 8) && !llmgwi_frame_finish(&frame));
    FUZZ_CHECK(!stop_at || s->count <= stop_at);
    llmgwi_frame_free(&frame);
}

static void equal(const seen *a, seen *b) {
    FUZZ_CHECK(a->count == b->count && a->good == b->good && a->failed == b->failed);
    FUZZ_CHECK(a->log.n == b->log.n);
    FUZZ_CHECK(!a->log.n || memcmp(a->log.p, b->log.p, a->log.n) == 0);
    llmgwi_base_buf_free(&b->log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    seen whole, other;
    if (size < 4) return 0;
    size_t cap = data[0] == '.' ? 1 << 20 : data[0], cuts[3];
    unsigned stop_at = data[1] == '.' ? 0 : data[1] % 8;
    unsigned a = data[2], b = data[3];
    kind = b & 0x80 ? LLMGWI_FRAME_LINES : LLMGWI_FRAME_SSE;
    data += 4;
    size -= 4;
    run(&whole, data, size, cap, stop_at, NULL, 0, 0);
    run(&other, data, size, cap, stop_at, NULL, 0, 1);
    equal(&whole, &other);
    run(&other, data, size, cap, stop_at, NULL, 0, a % 17 + 2);
    equal(&whole, &other);
    cuts[0] = size * a / 256;
    cuts[1] = cuts[0] + (size - cuts[0]) * b / 256;
    cuts[2] = cuts[1]; /* and an empty piece */
    run(&other, data, size, cap, stop_at, cuts, 3, 0);
    equal(&whole, &other);
    for (cuts[0] = 0; size <= 48 && cuts[0] < size; cuts[0]++) {
        run(&other, data, size, cap, stop_at, cuts, 1, 0);
        equal(&whole, &other);
    }
    llmgwi_base_buf_free(&whole.log);
    FUZZ_CHECK(heap.live == 0);
    return 0;
}
