/* AWS event streams: the messages, every way of cutting them, what is malformed, caps, stopping; the vectors of botocore
   and smithy where they are. */
#include "unit.h"

#include "fixtures.h"

/* ---- messages of our own, by a checksum of our own ---- */

static uint32_t slow_crc(const char *p, size_t n) {
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < n; i++) {
        crc ^= (unsigned char)p[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static void put32(char *p, uint32_t value) {
    for (int i = 0; i < 4; i++) p[i] = (char)(value >> (24 - 8 * i) & 255);
}

typedef struct bytes {
    char p[70000];
    size_t n;
} bytes;

static void add(bytes *to, const void *p, size_t n) {
    assert_true(to->n + n <= sizeof to->p);
    memcpy(to->p + to->n, p, n);
    to->n += n;
}

static void add_head(bytes *to, const char *name, char type) {
    char n = (char)strlen(name);
    add(to, &n, 1);
    add(to, name, strlen(name));
    add(to, &type, 1);
}

static void add_text(bytes *to, const char *name, const char *value) {
    size_t n = strlen(value);
    const char size[2] = {(char)(n >> 8 & 255), (char)(n & 255)};
    add_head(to, name, 7);
    add(to, size, 2);
    add(to, value, n);
}

/* Appends a whole message. */
static void add_message(bytes *to, const bytes *headers, const char *payload, size_t n) {
    char word[4];
    size_t at = to->n;
    put32(word, (uint32_t)(headers->n + n + 16));
    add(to, word, 4);
    put32(word, (uint32_t)headers->n);
    add(to, word, 4);
    put32(word, slow_crc(to->p + at, 8));
    add(to, word, 4);
    add(to, headers->p, headers->n);
    add(to, payload, n);
    put32(word, slow_crc(to->p + at, to->n - at));
    add(to, word, 4);
}

static void add_event(bytes *to, const char *name, const char *payload) {
    static bytes headers; /* large */
    headers.n = 0;
    add_text(&headers, ":event-type", name);
    add_text(&headers, ":content-type", "application/json");
    add_text(&headers, ":message-type", "event");
    add_message(to, &headers, payload, strlen(payload));
}

/* A message of this type, whose kind stands in this header. */
static void add_kind(bytes *to, const char *type, const char *header, const char *name, const char *payload) {
    static bytes headers;
    headers.n = 0;
    add_text(&headers, ":message-type", type);
    if (header) add_text(&headers, header, name);
    if (strcmp(type, "error") == 0) add_text(&headers, ":error-message", "it broke");
    add_message(to, &headers, payload, strlen(payload));
}

/* ---- what comes out ---- */

typedef struct seen {
    char log[4096];
    int count, stop_at; /* 0: never */
    const char *from, *to;
    bool good, whole; /* whole: finish said so */
    const char *wrong;
    llmgwi_base_fail failed;
    int inside; /* events whose data stand in [from, to) */
} seen;

static bool on_event(void *user, llmgwi_base_str name, llmgwi_base_str data) {
    seen *s = (seen *)user;
    size_t at = strlen(s->log);
    snprintf(s->log + at, sizeof s->log - at, "%.*s=%.*s;", (int)name.n, name.p, (int)data.n, data.p);
    s->inside += data.p >= s->from && data.p < s->to;
    return ++s->count != s->stop_at;
}

/* Cuts at a and b (a <= b); step: every so many bytes instead. Each piece stands in a block of just its size. */
static void run_in(seen *s, const char *p, size_t n, size_t cap, size_t a, size_t b, size_t step) {
    llmgwi_frame frame;
    int stop_at = s->stop_at;
    memset(s, 0, sizeof *s);
    s->stop_at = stop_at;
    llmgwi_frame_init(&frame, &unit_mem, cap, on_event, s);
    frame.kind = LLMGWI_FRAME_EVENTSTREAM;
    s->good = true;
    for (size_t at = 0, end; s->good && at < n; at = end) {
        end = step ? at + step : at < a ? a : at < b ? b : n;
        if (end > n) end = n;
        char *copy = (char *)malloc(end - at);
        assert_non_null(copy);
        memcpy(copy, p + at, end - at);
        s->from = copy;
        s->to = copy + (end - at);
        s->good = llmgwi_frame_feed(&frame, copy, end - at);
        free(copy);
    }
    s->whole = llmgwi_frame_finish(&frame);
    s->wrong = frame.wrong;
    s->failed = frame.data.failed;
    if (!s->good) assert_false(llmgwi_frame_feed(&frame, p, n)); /* it stays so */
    llmgwi_frame_free(&frame);
}

static void run(seen *s, const bytes *in) { run_in(s, in->p, in->n, 1 << 20, 0, 0, 0); }

static void same(const seen *a, const seen *b, size_t x, size_t y) {
    bool wrong = a->wrong == b->wrong || (a->wrong && b->wrong && strcmp(a->wrong, b->wrong) == 0);
    if (wrong && a->good == b->good && a->whole == b->whole && a->failed == b->failed &&
        strcmp(a->log, b->log) == 0)
        return;
    fail_msg("cut at %zu, %zu: '%s' good %d whole %d, expected '%s' good %d whole %d", x, y, b->log, b->good,
             b->whole, a->log, a->good, a->whole);
}

/* The same events however the bytes are cut: at one place, at two, and every so many bytes. */
static void every_cut(const char *p, size_t n, size_t cap, int stop_at) {
    static seen whole, other;
    whole.stop_at = other.stop_at = stop_at;
    run_in(&whole, p, n, cap, 0, 0, 0);
    for (size_t step = 1; step < 20; step++) {
        run_in(&other, p, n, cap, 0, 0, step);
        same(&whole, &other, 0, step);
    }
    for (size_t a = 0; a <= n; a++)
        for (size_t b = a; b <= n; b += n / 40 + 1) {
            run_in(&other, p, n, cap, a, b, 0);
            same(&whole, &other, a, b);
        }
}

/* ---- tests ---- */

static void test_crc(void **state) {
    char text[200];
    (void)state;
    assert_int_equal(llmgwi_frame_crc("123456789", 9), 0xCBF43926u); /* the check value of CRC-32 */
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)(i * 151 + 7);
    for (size_t at = 0; at < 8; at++)
        for (size_t n = 0; at + n <= sizeof text; n++)
            assert_int_equal(llmgwi_frame_crc(text + at, n), slow_crc(text + at, n));
}

static void test_messages(void **state) {
    static bytes in;
    static seen s;
    (void)state;
    in.n = 0;
    add_event(&in, "messageStart", "{\"role\":\"assistant\"}");
    add_event(&in, "contentBlockDelta", "{\"a\":1}");
    add_event(&in, "empty", "");
    add_kind(&in, "exception", ":exception-type", "throttlingException", "{\"message\":\"slow\"}");
    add_kind(&in, "error", ":error-code", "InternalError", "");
    add_kind(&in, "event", NULL, NULL, "nameless");
    add_kind(&in, "novelty", ":event-type", "n", "x");
    run(&s, &in);
    assert_true(s.good && s.whole);
    assert_string_equal(s.log,
                        "messageStart={\"role\":\"assistant\"};contentBlockDelta={\"a\":1};empty=;"
                        "!throttlingException={\"message\":\"slow\"};!InternalError=it broke;=nameless;"
                        "n=x;");
    assert_int_equal(s.inside, s.count); /* none was copied */
    every_cut(in.p, in.n, 1 << 20, 0);
    every_cut(in.p, in.n, 1 << 20, 3); /* the handler stops it */
    run_in(&s, in.p, in.n, 1 << 20, 0, 0, 7);
    assert_int_equal(s.count, 7);
    assert_int_equal(s.inside, 0);
}

/* Every type of header is read over, wherever the ones that count stand. */
static void test_header_types(void **state) {
    static bytes headers, in;
    static seen s;
    static const char fill[16] = {1, 2, 3};
    static const size_t sizes[] = {0, 0, 1, 2, 4, 8, 0, 0, 8, 16};
    char name[] = "x0";
    (void)state;
    headers.n = in.n = 0;
    for (char type = 0; type < 10; type++, name[1]++) {
        add_head(&headers, name, type);
        if (type == 6 || type == 7) add(&headers, "\0\3abc", 5);
        add(&headers, fill, sizes[(int)type]);
        if (type == 4) add_text(&headers, ":event-type", "deep");
    }
    add_head(&headers, ":message-type", 6); /* bytes, not a text: not what it is called */
    add(&headers, "\0\5error", 7);
    add_message(&in, &headers, "p", 1);
    run(&s, &in);
    assert_string_equal(s.log, "deep=p;");
    every_cut(in.p, in.n, 1 << 20, 0);
    headers.n = in.n = 0;
    for (int i = 0; i < 64; i++) {
        char number[8];
        snprintf(number, sizeof number, "h%d", i);
        add_head(&headers, number, 0);
    }
    add_message(&in, &headers, "p", 1);
    run(&s, &in);
    assert_true(s.good && s.count == 1);
    add_head(&headers, "more", 0);
    in.n = 0;
    add_message(&in, &headers, "p", 1);
    run(&s, &in);
    unit_has(s.wrong, "over 64 headers");
}

/* A name longer than any we know is cut, not run over. */
static void test_long_name(void **state) {
    static bytes in;
    static seen s;
    char name[201];
    (void)state;
    memset(name, 'n', sizeof name);
    name[200] = 0;
    in.n = 0;
    add_event(&in, name, "x");
    add_kind(&in, "exception", ":exception-type", name, "y");
    run(&s, &in);
    assert_int_equal(s.count, 2);
    assert_int_equal(strcspn(s.log, "="), 63);
    assert_int_equal(strlen(s.log), 2 * 63 + 6);
}

/* A header list of these bytes: what is wrong with it. */
static void malformed(const char *headers_of, size_t n, const char *why) {
    static bytes headers, in;
    static seen s;
    headers.n = in.n = 0;
    add(&headers, headers_of, n);
    add_message(&in, &headers, "payload", 7);
    run(&s, &in);
    assert_false(s.good);
    assert_int_equal(s.count, 0);
    unit_has(s.wrong, why);
    every_cut(in.p, in.n, 1 << 20, 0);
}

static void test_malformed_headers(void **state) {
    (void)state;
    malformed("\1", 1, "cut off");
    malformed("\1a", 2, "cut off");
    malformed("\5a\0", 3, "cut off");
    malformed("\1a\2", 3, "cut off");
    malformed("\1a\7\0", 4, "cut off");
    malformed("\1a\7\0\4abc", 8, "cut off");
    malformed("\1a\7\377\377abc", 8, "cut off");
    malformed("\1a\11aaaaaaaaaaaaaaa", 18, "cut off");
    malformed("\1a\12", 3, "unknown type");
    malformed("\1a\377", 3, "unknown type");
    malformed("\1a\0\1b\0\1a\1", 9, "twice");
}

/* A prelude with a good checksum and these lengths. */
static void prelude(seen *s, uint32_t total, uint32_t headers, size_t cap) {
    char p[12];
    put32(p, total);
    put32(p + 4, headers);
    put32(p + 8, slow_crc(p, 8));
    run_in(s, p, sizeof p, cap, 0, 0, 0);
    every_cut(p, sizeof p, cap, 0);
}

static void test_lengths(void **state) {
    static seen s;
    const size_t huge = (size_t)1 << 30;
    (void)state;
    for (uint32_t total = 0; total < 16; total++) {
        prelude(&s, total, 0, huge);
        unit_has(s.wrong, "contradict");
    }
    prelude(&s, 16, 0, huge);
    assert_true(s.good && !s.whole && !s.wrong); /* it waits for the rest */
    prelude(&s, 100, 85, huge);
    unit_has(s.wrong, "contradict");
    prelude(&s, 100, 0xFFFFFFFFu, huge);
    unit_has(s.wrong, "contradict");
    prelude(&s, 0xFFFFFFFFu, 0, huge);
    unit_has(s.wrong, "24 MiB");
    prelude(&s, (24u << 20) + 17, 0, huge);
    unit_has(s.wrong, "24 MiB");
    prelude(&s, (24u << 20) + 16, 0, huge);
    assert_true(s.good);
    prelude(&s, (24u << 20) + (128u << 10) + 16, 128u << 10, huge);
    assert_true(s.good);
    prelude(&s, (128u << 10) + 17, (128u << 10) + 1, huge);
    unit_has(s.wrong, "128 KiB");
    prelude(&s, 1001, 0, 1000);
    assert_true(!s.good && !s.wrong && s.failed == LLMGWI_BASE_OVER_CAP);
    prelude(&s, 1000, 0, 1000);
    assert_true(s.good);
}

/* No flipped bit and no missing or doubled byte passes. */
static void test_damage(void **state) {
    static bytes in;
    static seen s;
    (void)state;
    in.n = 0;
    add_event(&in, "contentBlockDelta", "{\"delta\":{\"text\":\"Hello\"}}");
    for (size_t bit = 0; bit < in.n * 8; bit++) {
        in.p[bit / 8] = (char)(in.p[bit / 8] ^ 1 << bit % 8);
        run(&s, &in);
        assert_true(!s.good && s.wrong && s.count == 0);
        in.p[bit / 8] = (char)(in.p[bit / 8] ^ 1 << bit % 8);
    }
    unit_has((run(&s, &in), s.log), "Hello");
    for (size_t n = 0; n < in.n; n++) {
        run_in(&s, in.p, n, 1 << 20, 0, 0, 0);
        assert_true(s.good && !s.wrong && s.count == 0);
        assert_int_equal(s.whole, n == 0); /* inside a message: the stream was cut */
    }
    size_t one = in.n;
    in.p[in.n++] = 'x';
    run(&s, &in);
    assert_true(s.good && s.count == 1 && !s.whole);
    in.n = one;
    add_event(&in, "b", "2");
    memmove(in.p + one, in.p + one + 1, --in.n - one);
    run(&s, &in);
    assert_true(!s.good && s.count == 1);
    unit_has(s.wrong, "prelude has a wrong checksum");
}

/* A message of a megabyte, in pieces of all sizes; and what memory cannot hold. */
static void test_large(void **state) {
    static bytes in;
    static seen s;
    static char payload[60000];
    (void)state;
    memset(payload, 'x', sizeof payload - 1);
    in.n = 0;
    add_event(&in, "big", payload);
    size_t steps[] = {1, 2, 3, 4095, 4096, 65536, 1 << 20};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(steps); i++) {
        run_in(&s, in.p, in.n, 1 << 20, 0, 0, steps[i]);
        assert_true(s.good && s.whole && s.count == 1);
    }
    run_in(&s, in.p, in.n, in.n, 0, 0, 1);
    assert_true(s.good && s.count == 1);
    run_in(&s, in.p, in.n, in.n - 1, 0, 0, 1);
    assert_true(!s.good && s.failed == LLMGWI_BASE_OVER_CAP && s.count == 0);
}

/* ---- the vectors of botocore and smithy ---- */

static int events, damaged;

static void vector(const char *name, const char *p, size_t n) {
    static seen s;
    bool bad = strstr(name, "corrupted") || strstr(name, "invalid") || strstr(name, "duplicate");
    if (strncmp(name, "decoded__", 9) == 0) return;
    run_in(&s, p, n, 1 << 20, 0, 0, 0);
    if (s.good == bad || (bad && (!s.wrong || s.count)) || (!bad && (s.count != 1 || !s.whole)))
        fail_msg("%s: good %d, events %d, wrong '%s'", name, s.good, s.count, s.wrong ? s.wrong : "");
    if (strstr(name, "payload_one_str")) assert_string_equal(s.log, "={'foo':'bar'};");
    if (strstr(name, "error_event")) assert_string_equal(s.log, "!code=message;");
    every_cut(p, n, 1 << 20, 0);
    *(bad ? &damaged : &events) += 1;
}

static void test_vectors(void **state) {
    (void)state;
    FIXTURES_OR_SKIP(fixture_each("eventstream-vectors", "", vector));
    assert_true(events >= 14 && damaged >= 10);
}

/* ConverseStream as recorded, and as made with exceptions: good to the last byte, cut anywhere. */
static void recording(const char *name, const char *p, size_t n) {
    static seen s;
    run_in(&s, p, n, 1 << 20, 0, 0, 0);
    if (!s.good || !s.whole || s.count < 2) fail_msg("%s: %s", name, s.wrong ? s.wrong : "not whole");
    for (size_t step = 1; step < 300; step += 7) {
        static seen other;
        run_in(&other, p, n, 1 << 20, 0, 0, step);
        same(&s, &other, 0, step);
    }
}

static void test_recordings(void **state) {
    (void)state;
    FIXTURES_OR_SKIP(fixture_each("bedrock-converse", ".eventstream.bin", recording));
    assert_int_equal(fixture_each("bedrock-generated", ".eventstream.bin", recording), 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc),          cmocka_unit_test(test_messages),
        cmocka_unit_test(test_header_types), cmocka_unit_test(test_long_name),
        cmocka_unit_test(test_lengths),      cmocka_unit_test(test_malformed_headers),
        cmocka_unit_test(test_damage),       cmocka_unit_test(test_large),
        cmocka_unit_test(test_vectors),      cmocka_unit_test(test_recordings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
