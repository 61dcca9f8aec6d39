/* Server-sent events: the grammar (WHATWG HTML, 9.2.6), every way of cutting, caps, stopping; lines of JSON. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const llmgwi_base_mem mem; /* realloc and free */
static llmgwi_frame_kind kind;    /* of what is run */

/* Events as text: "name=data;" with \n for a line feed in data. */
typedef struct seen {
    char log[8192];
    int count, stop_at; /* 0: never */
} seen;

static bool on_event(void *user, llmgwi_base_str name, llmgwi_base_str data) {
    seen *s = (seen *)user;
    size_t at = strlen(s->log);
    assert_true(at + name.n + 2 * data.n + 3 < sizeof s->log);
    at += (size_t)snprintf(s->log + at, sizeof s->log - at, "%.*s=", (int)name.n, name.p);
    for (size_t i = 0; i < data.n; i++) {
        if (data.p[i] == '\n') s->log[at++] = '\\';
        s->log[at++] = data.p[i] == '\n' ? 'n' : data.p[i] ? data.p[i] : '0';
    }
    s->log[at++] = ';';
    s->log[at] = 0;
    return ++s->count != s->stop_at;
}

/* A piece stands in a block of just its size, gone after the call. */
static bool feed(llmgwi_frame *frame, const char *text, size_t n) {
    char *copy = (char *)malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, text, n);
    bool good = llmgwi_frame_feed(frame, copy, n);
    free(copy);
    return good;
}

/* ---- one text, cut in every way ---- */

typedef struct outcome {
    seen seen;
    bool good;
    llmgwi_base_fail failed;
} outcome;

/* Cuts at a and b (a <= b); step: every so many bytes instead. */
static void run(outcome *o, const char *text, size_t n, size_t cap, size_t a, size_t b, size_t step) {
    llmgwi_frame frame;
    int stop_at = o->seen.stop_at;
    memset(o, 0, sizeof *o);
    o->seen.stop_at = stop_at;
    llmgwi_frame_init(&frame, &mem, cap, on_event, &o->seen);
    frame.kind = kind;
    if (step) {
        o->good = true;
        for (size_t i = 0; o->good && i < n; i += step)
            o->good = feed(&frame, text + i, n - i < step ? n - i : step);
    } else {
        o->good = feed(&frame, text, a) && feed(&frame, text + a, b - a) && feed(&frame, text + b, n - b);
    }
    o->good = o->good && llmgwi_frame_finish(&frame);
    o->failed = frame.line.failed ? frame.line.failed : frame.data.failed;
    llmgwi_frame_free(&frame);
}

static void same(const outcome *a, const outcome *b, const char *how, size_t x, size_t y) {
    if (a->good == b->good && a->failed == b->failed && strcmp(a->seen.log, b->seen.log) == 0) return;
    fail_msg("%s %lu %lu: '%s' good %d failed %d, expected '%s' good %d failed %d", how, (unsigned long)x,
             (unsigned long)y, b->seen.log, b->good, (int)b->failed, a->seen.log, a->good, (int)a->failed);
}

static void every_cut(const outcome *whole, const char *text, size_t n, size_t cap) {
    static outcome other; /* large */
    other.seen.stop_at = whole->seen.stop_at;
    for (size_t step = 1; step < 10; step++) {
        run(&other, text, n, cap, 0, 0, step);
        same(whole, &other, "every", step, 0);
    }
    for (size_t a = 0; a <= n; a++)
        for (size_t b = a; b <= n; b += n > 64 && b < n ? 1 + (n - b) / 16 : 1) {
            run(&other, text, n, cap, a, b, 0);
            same(whole, &other, "cut at", a, b);
        }
}

/* The events of a text that has no fault, cut in every way. */
static void gives_n(const char *text, size_t n, const char *want) {
    static outcome whole;
    memset(&whole, 0, sizeof whole);
    run(&whole, text, n, 1 << 20, n, n, 0);
    assert_string_equal(whole.seen.log, want);
    assert_true(whole.good);
    every_cut(&whole, text, n, 1 << 20);
}
#define GIVES(text, want) gives_n(text, sizeof(text) - 1, want)

/* ---- lines ---- */

static void test_line_feed(void **state) { GIVES("data: a\n\ndata: b\n\n", "=a;=b;"); }

static void test_carriage_return(void **state) { GIVES("data: a\r\rdata: b\r\r", "=a;=b;"); }

static void test_both(void **state) { GIVES("data: a\r\n\r\ndata: b\r\n\r\n", "=a;=b;"); }

static void test_mixed_ends(void **state) {
    GIVES("data: a\r\ndata: b\n\rdata: c\r\n\n", "=a\\nb;=c;");
    GIVES("data: a\n\r\ndata: b\r\r\ndata: c\r\n\r", "=a;=b;=c;");
    GIVES("data: a\rdata: b\ndata: c\r\ndata: d\n\n", "=a\\nb\\nc\\nd;");
}

/* CR, then LF in the next piece, is one end; CR, LF, LF are two. */
static void test_line_end_between_pieces(void **state) {
    llmgwi_frame frame;
    seen s;
    memset(&s, 0, sizeof s);
    llmgwi_frame_init(&frame, &mem, 100, on_event, &s);
    assert_true(feed(&frame, "data: a\r", 8));
    assert_true(feed(&frame, "\n", 1));
    assert_string_equal(s.log, "");
    assert_true(feed(&frame, "\r", 1));
    assert_string_equal(s.log, "=a;"); /* not held back for an LF that may come */
    assert_true(feed(&frame, "\ndata: b\n", 9));
    assert_true(feed(&frame, "", 0));
    assert_true(feed(&frame, "\n", 1));
    assert_string_equal(s.log, "=a;=b;");
    llmgwi_frame_free(&frame);
}

static void test_blank_lines(void **state) {
    GIVES("\n\n\r\n\r\rdata: a\n\n\n\n\r\n", "=a;");
    GIVES("", "");
    GIVES("\n", "");
    GIVES("\r", "");
}

static void test_other_line_separators_are_text(void **state) {
    GIVES("data: a\vb\fc\xE2\x80\xA8"
          "d\xC2\x85"
          "e\n\n",
          "=a\vb\fc\xE2\x80\xA8"
          "d\xC2\x85"
          "e;");
}

static void test_nul_is_text(void **state) { GIVES("data: a\0b\n\n", "=a0b;"); }

static void test_any_bytes_are_text(void **state) {
    GIVES("data: \xFF\xC3\x28\x80\n\n", "=\xFF\xC3\x28\x80;");
}

/* ---- byte order mark ---- */

static void test_mark(void **state) {
    GIVES("\xEF\xBB\xBF"
          "data: a\n\n",
          "=a;");
    GIVES("\xEF\xBB\xBF\n\xEF\xBB\xBF"
          "data: b\n\ndata: c\n\n",
          "=c;"); /* only at the start */
    GIVES("\xEF\xBB\xBF\xEF\xBB\xBF"
          "data: a\n\ndata: b\n\n",
          "=b;"); /* only one */
    GIVES("\xEF\xBB\xBF", "");
    GIVES("\xEF\xBB\xBF: comment\ndata:x\n\n", "=x;");
}

static void test_mark_that_is_none(void **state) {
    GIVES("\xEF\xBB"
          "data: a\n\ndata: b\n\n",
          "=b;");
    GIVES("\xEF"
          "data: a\n\ndata: b\n\n",
          "=b;");
    GIVES("\xEF\xBB\ndata: b\n\n", "=b;");
    GIVES("\xEF\ndata: b\n\n", "=b;");
    GIVES("\xEF\xBB", "");
    GIVES("\xFE\xFF"
          "data: a\n\ndata: b\n\n",
          "=b;");
}

/* ---- fields ---- */

static void test_space_after_the_colon(void **state) {
    GIVES("data:a\n\n", "=a;");
    GIVES("data: a\n\n", "=a;");
    GIVES("data:  a\n\n", "= a;");
    GIVES("data: a \n\n", "=a ;");
    GIVES("data:\ta\n\n", "=\ta;");
    GIVES("data::a\n\n", "=:a;");
    GIVES("data: : a\n\n", "=: a;");
}

static void test_data_lines_are_joined(void **state) {
    GIVES("data: a\ndata: b\ndata: c\n\n", "=a\\nb\\nc;");
    GIVES("data: a\ndata\ndata: c\n\n", "=a\\n\\nc;");
    GIVES("data:\ndata: b\n\n", "=\\nb;");
    GIVES("data: a\ndata:\n\n", "=a\\n;");
    GIVES("data\ndata\ndata\n\n", "=\\n\\n;");
}

static void test_empty_data_is_an_event(void **state) {
    GIVES("data\n\n", "=;");
    GIVES("data:\n\n", "=;");
    GIVES("data: \n\n", "=;");
    GIVES("event: a\ndata\n\n", "a=;");
}

static void test_field_without_a_colon(void **state) {
    GIVES("data\n\nevent\ndata: x\n\n", "=;=x;");
    GIVES("event: a\nevent\ndata: x\n\n", "=x;");
    GIVES("datax\ndat\nnonsense\n\ndata: y\n\n", "=y;");
}

static void test_names_of_fields_are_exact(void **state) {
    GIVES("Data: a\nDATA: b\n data: c\ndata : d\ndata\t: e\nxdata: f\n\ndata: z\n\n", "=z;");
    GIVES("Event: a\nevents: b\ndata: z\n\n", "=z;");
}

static void test_comments(void **state) {
    GIVES(": keep-alive\n\n: OPENROUTER PROCESSING\n\ndata: a\n\n", "=a;");
    GIVES(":\n:\n:::data: no\ndata: a\n\n", "=a;");
    GIVES("data: a\n: between\ndata: b\n:\n\n", "=a\\nb;");
    GIVES("event: e\n:c\ndata: a\n\n", "e=a;");
}

static void test_id_retry_and_unknown_fields(void **state) {
    GIVES("id: 1\nretry: 5000\nfoo: bar\ndata: a\nid\nretry: x\n\n", "=a;");
    GIVES("id: 1\n\nretry: 10\n\n", "");
}

/* ---- names ---- */

static void test_event_names(void **state) {
    GIVES("event: message_start\ndata: 1\n\nevent:ping\ndata: 2\n\ndata: 3\n\n",
          "message_start=1;ping=2;=3;");
    GIVES("data: 1\nevent: late\n\n", "late=1;");
    GIVES("event: a\nevent: b\ndata: 1\n\n", "b=1;");
    GIVES("event: a\nevent:\ndata: 1\n\n", "=1;");
}

static void test_name_without_data_is_dropped(void **state) {
    GIVES("event: a\n\ndata: 1\n\n", "=1;");
    GIVES("event: a\nid: 7\n\nevent: b\ndata: 1\n\n", "b=1;");
}

static void test_long_names_are_cut(void **state) {
    char text[256] = "event: ", want[128];
    memset(text + 7, 'n', 80);
    strcpy(text + 87, "\ndata: x\n\ndata: y\n\n");
    memset(want, 'n', 63);
    strcpy(want + 63, "=x;=y;");
    gives_n(text, strlen(text), want);
    memset(text + 7, 'n', 63); /* fits */
    strcpy(text + 70, "\ndata: x\n\ndata: y\n\n");
    gives_n(text, strlen(text), want);
}

static void test_long_names_are_cut_between_characters(void **state) {
    char text[256] = "event: ", want[128] = "";
    for (int i = 0; i < 40; i++) strcat(text, "\xC3\xA9");
    strcat(text, "\ndata: x\n\n");
    for (int i = 0; i < 31; i++) strcat(want, "\xC3\xA9");
    strcat(want, "=x;");
    gives_n(text, strlen(text), want);
}

/* ---- the end of the stream ---- */

static void test_last_event_without_its_blank_line(void **state) {
    GIVES("data: a\n\ndata: b\n", "=a;=b;");
    GIVES("data: a\n\ndata: b", "=a;=b;");
    GIVES("event: e\ndata: b\r", "e=b;");
    GIVES("data: a\ndata: b", "=a\\nb;");
    GIVES("data", "=;");
}

static void test_last_line_that_is_no_event(void **state) {
    GIVES("data: a\n\nevent: x", "=a;");
    GIVES("data: a\n\n: comment", "=a;");
    GIVES("data: a\n\nid: 5\n", "=a;");
    GIVES("data: a\nevent: x", "x=a;");
}

static void test_finish_twice(void **state) {
    llmgwi_frame frame;
    seen s;
    memset(&s, 0, sizeof s);
    llmgwi_frame_init(&frame, &mem, 100, on_event, &s);
    assert_true(feed(&frame, "data: a", 7));
    assert_true(llmgwi_frame_finish(&frame));
    assert_true(llmgwi_frame_finish(&frame));
    assert_string_equal(s.log, "=a;");
    llmgwi_frame_free(&frame);
}

static void test_finish_of_nothing(void **state) {
    llmgwi_frame frame;
    seen s;
    memset(&s, 0, sizeof s);
    llmgwi_frame_init(&frame, &mem, 100, on_event, &s);
    assert_true(llmgwi_frame_finish(&frame));
    assert_int_equal(s.count, 0);
    llmgwi_frame_free(&frame);
}

/* ---- streams as providers send them ---- */

static void test_openai_stream(void **state) {
    GIVES("data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n: ping\n\ndata: "
          "{\"choices\":[]}\n\ndata: [DONE]\n\n",
          "={\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]};={\"choices\":[]};=[DONE];");
}

static void test_anthropic_stream(void **state) {
    GIVES("event: message_start\ndata: {\"type\":\"message_start\"}\n\nevent: ping\ndata: {\"type\": "
          "\"ping\"}\n\n"
          "event: message_stop\ndata: {\"type\":\"message_stop\"    }\n\n",
          "message_start={\"type\":\"message_start\"};ping={\"type\": \"ping\"};"
          "message_stop={\"type\":\"message_stop\"    };");
}

static void test_gemini_stream(void **state) {
    GIVES("data: {\"candidates\": [{\"index\": 0}]}\r\n\r\ndata: {\"usageMetadata\": {}}\r\n\r\n",
          "={\"candidates\": [{\"index\": 0}]};={\"usageMetadata\": {}};");
}

/* ---- no copy ---- */

static const char *piece_from, *piece_to;
static int inside;

static bool on_place(void *user, llmgwi_base_str name, llmgwi_base_str data) {
    inside += data.p >= piece_from && data.p + data.n <= piece_to;
    return true;
}

static void test_event_within_a_piece_is_not_copied(void **state) {
    static const char text[] = "data: a\n\nevent: e\ndata: b\n\ndata: c\ndata: d\n\n";
    llmgwi_frame frame;
    inside = 0;
    piece_from = text;
    piece_to = text + sizeof text;
    llmgwi_frame_init(&frame, &mem, 100, on_place, NULL);
    assert_true(llmgwi_frame_feed(&frame, text, sizeof text - 1));
    assert_int_equal(inside, 2);
    llmgwi_frame_free(&frame);
}

static void test_simple_events_allocate_nothing(void **state) {
    llmgwi_frame frame;
    seen s;
    memset(&s, 0, sizeof s);
    llmgwi_frame_init(&frame, &mem, 100, on_event, &s);
    for (int i = 0; i < 20; i++) assert_true(feed(&frame, "event: e\r\ndata: x\r\n\r\n", 21));
    assert_int_equal(s.count, 20);
    assert_null(frame.line.p);
    assert_null(frame.data.p);
    llmgwi_frame_free(&frame);
}

/* ---- caps ---- */

/* Fails for this cap, whatever the cuts; before it, these events. */
static void too_large(const char *text, size_t cap, const char *before) {
    static outcome whole;
    size_t n = strlen(text);
    memset(&whole, 0, sizeof whole);
    run(&whole, text, n, cap, n, n, 0);
    assert_false(whole.good);
    assert_int_equal(whole.failed, LLMGWI_BASE_OVER_CAP);
    assert_string_equal(whole.seen.log, before);
    every_cut(&whole, text, n, cap);
}

static void fits(const char *text, size_t cap, const char *want) {
    static outcome whole;
    size_t n = strlen(text);
    memset(&whole, 0, sizeof whole);
    run(&whole, text, n, cap, n, n, 0);
    assert_true(whole.good);
    assert_string_equal(whole.seen.log, want);
    every_cut(&whole, text, n, cap);
}

static void test_cap_on_a_line(void **state) {
    fits("data: 0123456789\n\n", 16, "=0123456789;");
    too_large("data: 0123456789\n\n", 15, "");
    too_large("data: a\n\ndata: 0123456789\n\ndata: b\n\n", 15, "=a;");
    too_large("data: a\n\n: a comment that is long\n\n", 15, "=a;");
    too_large("data: 0123456789", 15, ""); /* without its end */
}

static void test_cap_on_an_event(void **state) {
    fits("data: 01234\ndata: 56789\n\n", 11, "=01234\\n56789;");
    too_large("data: 01234\ndata: 567890\n\n", 11, "");
    too_large("data: 01\ndata: 23\ndata: 45\ndata: 67\ndata: 89\n\n", 11, "");
    fits("data: 01\n\ndata: 23\n\ndata: 45\n\ndata: 67\n\ndata: 89\n\n", 11, "=01;=23;=45;=67;=89;");
}

static void test_cap_is_per_event(void **state) {
    char text[2000] = "", want[2000] = "";
    for (int i = 0; i < 50; i++) {
        strcat(text, "data: 0123\ndata: 4567\n\n");
        strcat(want, "=0123\\n4567;");
    }
    fits(text, 12, want);
}

static void test_endless_line_stops_at_the_cap(void **state) {
    llmgwi_frame frame;
    seen s;
    size_t fed = 0;
    memset(&s, 0, sizeof s);
    llmgwi_frame_init(&frame, &mem, 10000, on_event, &s);
    while (feed(&frame, "data: xxxxxxxxxxxxxxxxxxxxxxxxxx", 32)) assert_true((fed += 32) <= 10000);
    assert_int_equal(frame.line.failed, LLMGWI_BASE_OVER_CAP);
    assert_true(frame.line.cap <= 20001);
    assert_int_equal(s.count, 0);
    llmgwi_frame_free(&frame);
}

static void *no_memory(void *ptr, size_t old_size, size_t new_size, void *user) { return NULL; }

static void test_without_memory(void **state) {
    llmgwi_base_mem none = {no_memory, NULL};
    llmgwi_frame frame;
    seen s;
    memset(&s, 0, sizeof s);
    llmgwi_frame_init(&frame, &none, 1000, on_event, &s);
    assert_true(feed(&frame, "data: a\n\n", 9)); /* needs none */
    assert_false(feed(&frame, "data: b", 7));
    assert_int_equal(frame.line.failed, LLMGWI_BASE_NO_MEMORY);
    assert_string_equal(s.log, "=a;");
    llmgwi_frame_free(&frame);
    llmgwi_frame_init(&frame, &none, 1000, on_event, &s);
    assert_false(feed(&frame, "data: b\n", 8));
    assert_int_equal(frame.data.failed, LLMGWI_BASE_NO_MEMORY);
    llmgwi_frame_free(&frame);
}

/* ---- stopping ---- */

static void test_handler_stops(void **state) {
    static const char text[] = "data: 1\n\ndata: 2\n\ndata: 3\n\ndata: 4";
    for (int stop_at = 1; stop_at <= 4; stop_at++) {
        static outcome whole;
        memset(&whole, 0, sizeof whole);
        whole.seen.stop_at = stop_at;
        run(&whole, text, sizeof text - 1, 100, sizeof text - 1, sizeof text - 1, 0);
        assert_false(whole.good);
        assert_int_equal(whole.failed, LLMGWI_BASE_FINE);
        assert_int_equal(whole.seen.count, stop_at);
        every_cut(&whole, text, sizeof text - 1, 100);
    }
}

static void test_nothing_comes_after_a_stop(void **state) {
    llmgwi_frame frame;
    seen s;
    memset(&s, 0, sizeof s);
    s.stop_at = 1;
    llmgwi_frame_init(&frame, &mem, 100, on_event, &s);
    assert_false(feed(&frame, "data: 1\n\ndata: 2\n\n", 18));
    assert_false(feed(&frame, "data: 3\n\n", 9));
    assert_false(feed(&frame, "", 0));
    assert_false(llmgwi_frame_finish(&frame));
    assert_string_equal(s.log, "=1;");
    assert_true(frame.stopped);
    llmgwi_frame_free(&frame);
}

/* ---- lines of JSON ---- */

static int lines_start(void **state) {
    kind = LLMGWI_FRAME_LINES;
    return 0;
}

static int lines_stop(void **state) {
    kind = LLMGWI_FRAME_SSE;
    return 0;
}

static void test_json_lines(void **state) {
    GIVES("{\"a\":1}\n{\"b\":2}\n", "={\"a\":1};={\"b\":2};");
    GIVES("{\"a\":1}\r\n{\"b\":2}\r\n", "={\"a\":1};={\"b\":2};");
    GIVES("{}\n[]\r\n1\n", "={};=[];=1;");
    GIVES("data: x\nevent: y\n\n", "=data: x;=event: y;"); /* no fields here */
}

static void test_json_lines_blank(void **state) {
    GIVES("\n\n\r\n{}\n \t\n\r\n{}\n\n", "={};={};");
    GIVES("", "");
    GIVES(" ", "");
    GIVES("\r", "");
}

static void test_json_lines_trimmed(void **state) { GIVES("  {} \t\n\t[] \r\n", "={};=[];"); }

/* White space of JSON, not the end of a line. */
static void test_json_lines_lone_return(void **state) { GIVES("{\r\"a\":\r\r1}\r\n", "={\r\"a\":\r\r1};"); }

static void test_json_lines_last_without_end(void **state) {
    GIVES("{}\n{\"done\":true}", "={};={\"done\":true};");
    GIVES("{\"done\":true}\r", "={\"done\":true};");
}

static void test_json_lines_mark(void **state) { GIVES("\xEF\xBB\xBF{}\n", "={};"); }

static void test_json_lines_caps(void **state) {
    fits("12345678\n1234567\r\n", 8, "=12345678;=1234567;");
    too_large("1234\n123456789\n", 8, "=1234;");
    too_large("12345678\r\n", 8, "");
}

static void test_json_lines_stop(void **state) {
    static outcome whole;
    static const char text[] = "1\n2\n3\n4";
    memset(&whole, 0, sizeof whole);
    whole.seen.stop_at = 2;
    run(&whole, text, sizeof text - 1, 100, sizeof text - 1, sizeof text - 1, 0);
    assert_string_equal(whole.seen.log, "=1;=2;");
    assert_false(whole.good);
    every_cut(&whole, text, sizeof text - 1, 100);
}

/* A line within one piece is not copied. */
static bool in_piece(void *user, llmgwi_base_str name, llmgwi_base_str data) {
    const char *const *piece = (const char *const *)user;
    assert_true(data.p >= piece[0] && data.p + data.n <= piece[1]);
    return true;
}

static void test_json_lines_in_place(void **state) {
    static const char text[] = "{\"a\":1}\n{\"b\":2}\n";
    const char *const piece[] = {text, text + sizeof text};
    llmgwi_frame frame;
    llmgwi_frame_init(&frame, &mem, 100, in_piece, (void *)(uintptr_t)piece);
    frame.kind = LLMGWI_FRAME_LINES;
    assert_true(llmgwi_frame_feed(&frame, text, sizeof text - 1));
    assert_int_equal(frame.line.cap, 0);
    llmgwi_frame_free(&frame);
}

#define LINES(test) cmocka_unit_test_setup_teardown(test, lines_start, lines_stop)

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_line_feed),
    cmocka_unit_test(test_carriage_return),
    cmocka_unit_test(test_both),
    cmocka_unit_test(test_mixed_ends),
    cmocka_unit_test(test_line_end_between_pieces),
    cmocka_unit_test(test_blank_lines),
    cmocka_unit_test(test_other_line_separators_are_text),
    cmocka_unit_test(test_nul_is_text),
    cmocka_unit_test(test_any_bytes_are_text),
    cmocka_unit_test(test_mark),
    cmocka_unit_test(test_mark_that_is_none),
    cmocka_unit_test(test_space_after_the_colon),
    cmocka_unit_test(test_data_lines_are_joined),
    cmocka_unit_test(test_empty_data_is_an_event),
    cmocka_unit_test(test_field_without_a_colon),
    cmocka_unit_test(test_names_of_fields_are_exact),
    cmocka_unit_test(test_comments),
    cmocka_unit_test(test_id_retry_and_unknown_fields),
    cmocka_unit_test(test_event_names),
    cmocka_unit_test(test_name_without_data_is_dropped),
    cmocka_unit_test(test_long_names_are_cut),
    cmocka_unit_test(test_long_names_are_cut_between_characters),
    cmocka_unit_test(test_last_event_without_its_blank_line),
    cmocka_unit_test(test_last_line_that_is_no_event),
    cmocka_unit_test(test_finish_twice),
    cmocka_unit_test(test_finish_of_nothing),
    cmocka_unit_test(test_openai_stream),
    cmocka_unit_test(test_anthropic_stream),
    cmocka_unit_test(test_gemini_stream),
    cmocka_unit_test(test_event_within_a_piece_is_not_copied),
    cmocka_unit_test(test_simple_events_allocate_nothing),
    cmocka_unit_test(test_cap_on_a_line),
    cmocka_unit_test(test_cap_on_an_event),
    cmocka_unit_test(test_cap_is_per_event),
    cmocka_unit_test(test_endless_line_stops_at_the_cap),
    cmocka_unit_test(test_without_memory),
    cmocka_unit_test(test_handler_stops),
    cmocka_unit_test(test_nothing_comes_after_a_stop),
    LINES(test_json_lines),
    LINES(test_json_lines_blank),
    LINES(test_json_lines_trimmed),
    LINES(test_json_lines_lone_return),
    LINES(test_json_lines_last_without_end),
    LINES(test_json_lines_mark),
    LINES(test_json_lines_caps),
    LINES(test_json_lines_stop),
    LINES(test_json_lines_in_place),
};

int main(void) { return cmocka_run_group_tests_name("frame", tests, NULL, NULL); }
