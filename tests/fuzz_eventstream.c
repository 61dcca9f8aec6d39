/* AWS event streams: the same bytes give the same events, however they are cut; what comes out is what stood in a
   message whose checksums hold.
     make build/fuzz/fuzz_eventstream && build/fuzz/fuzz_eventstream build/fuzz/corpus-eventstream tests/corpus/eventstream
   Input: one byte for the cap on a message ('.': large, else 16 more than 4 times its value), one that is '!' where the bytes are
   fed as they are; else each message's lengths and checksums are put right first, or no fuzzer would come past them;
   two that choose cuts; the rest is the stream. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "fuzz_main.h"

/* What came out: all events in one text, and how it ended. */
typedef struct seen {
    llmgwi_base_buf log;
    unsigned count;
    bool good;
    int failed;
    const char *wrong;
} seen;

static fuzz_heap heap;
static const llmgwi_base_mem mem = {fuzz_alloc, &heap};

static bool on_event(void *user, llmgwi_base_str name, llmgwi_base_str data) {
    seen *s = (seen *)user;
    char head[64];
    snprintf(head, sizeof head, "\n[%lu %lu]", (unsigned long)name.n, (unsigned long)data.n);
    llmgwi_base_buf_text(&s->log, head);
    llmgwi_base_buf_view(&s->log, name);
    llmgwi_base_buf_text(&s->log, "|");
    llmgwi_base_buf_view(&s->log, data);
    FUZZ_CHECK(name.n < 64);
    return ++s->count != 100;
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

static void run(seen *s, const uint8_t *p, size_t size, size_t cap, const size_t *cuts, size_t n,
                size_t step) {
    llmgwi_frame frame;
    memset(s, 0, sizeof *s);
    llmgwi_base_buf_init(&s->log, &mem, SIZE_MAX / 2);
    llmgwi_frame_init(&frame, &mem, cap, on_event, s);
    frame.kind = LLMGWI_FRAME_EVENTSTREAM;
    s->good = true;
    size_t at = 0;
    for (size_t i = 0; s->good && at < size; i++) {
        size_t end = step ? at + step : i < n ? cuts[i] : size;
        if (end > size) end = size;
        s->good = feed(&frame, p + at, end - at);
        at = end;
    }
    s->failed = (int)frame.data.failed;
    s->wrong = frame.wrong;
    FUZZ_CHECK(s->good == (!s->failed && !s->wrong && !frame.stopped));
    FUZZ_CHECK(frame.data.n <= cap && frame.data.cap <= 2 * cap + 65);
    if (!s->good) FUZZ_CHECK(!llmgwi_frame_feed(&frame, "x", 1) && !llmgwi_frame_finish(&frame));
    s->good = s->good && llmgwi_frame_finish(&frame);
    llmgwi_frame_free(&frame);
}

static void equal(const seen *a, seen *b) {
    FUZZ_CHECK(a->count == b->count && a->good == b->good && a->failed == b->failed && a->wrong == b->wrong);
    FUZZ_CHECK(a->log.n == b->log.n && (!a->log.n || memcmp(a->log.p, b->log.p, a->log.n) == 0));
    llmgwi_base_buf_free(&b->log);
}

static uint32_t crc_of(const uint8_t *p, size_t n) {
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static void put32(uint8_t *p, uint32_t value) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(value >> (24 - 8 * i));
}

static uint32_t get32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Makes messages of what stands there: a size that is far too large is taken modulo what is left. */
static void mend(uint8_t *p, size_t size) {
    while (size >= 16) {
        uint32_t total = get32(p), headers = get32(p + 4);
        if (total < 16 || total > size + 64) total = 16 + (uint32_t)(total % (size - 15));
        if (headers > total - 16 + 2) headers %= total - 16 + 1;
        put32(p, total);
        put32(p + 4, headers);
        put32(p + 8, crc_of(p, 8));
        if (total > size) return;
        put32(p + total - 4, crc_of(p, total - 4));
        p += total;
        size -= total;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    seen whole, other;
    if (size < 4) return 0;
    size_t cap = data[0] == '.' ? 1 << 20 : (size_t)data[0] * 4 + 16, cuts[3];
    bool raw = data[1] == '!';
    unsigned a = data[2], b = data[3];
    size -= 4;
    uint8_t *copy = (uint8_t *)malloc(size ? size : 1);
    FUZZ_CHECK(copy);
    if (size) memcpy(copy, data + 4, size);
    if (!raw) mend(copy, size);
    run(&whole, copy, size, cap, NULL, 0, 0);
    run(&other, copy, size, cap, NULL, 0, 1);
    equal(&whole, &other);
    run(&other, copy, size, cap, NULL, 0, a % 17 + 2);
    equal(&whole, &other);
    cuts[0] = size * a / 256;
    cuts[1] = cuts[0] + (size - cuts[0]) * b / 256;
    cuts[2] = cuts[1]; /* and an empty piece */
    run(&other, copy, size, cap, cuts, 3, 0);
    equal(&whole, &other);
    for (cuts[0] = 0; size <= 48 && cuts[0] < size; cuts[0]++) {
        run(&other, copy, size, cap, cuts, 1, 0);
        equal(&whole, &other);
    }
    llmgwi_base_buf_free(&whole.log);
    free(copy);
    FUZZ_CHECK(heap.live == 0);
    return 0;
}
