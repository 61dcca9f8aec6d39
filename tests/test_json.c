/* JSON: what RFC 8259 takes and refuses, where an error lies, values to the last bit, the writer. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned long allocations; /* of the header: it says malloc and realloc through these */

static void *counted_realloc(void *ptr, size_t size) {
    allocations++;
    return realloc(ptr, size);
}

static void *counted_malloc(size_t size) {
    allocations++;
    return malloc(size);
}

/* Numbers of the header go through these: with comma set, as in a locale with a decimal comma. */
static int comma;

static double comma_strtod(const char *text, char **end) {
    char copy[2048];
    size_t n = strcspn(text, comma ? "." : "");
    if (!comma || n >= sizeof copy) return strtod(text, end);
    memcpy(copy, text, n);
    copy[n] = 0;
    for (char *p = copy; *p; p++)
        if (*p == ',') *p = '.';
    return strtod(copy, NULL);
}

static int comma_snprintf(char *out, size_t size, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(out, size, format, args);
    va_end(args);
    char *point = comma && (strchr(format, 'f') || strchr(format, 'g')) ? strchr(out, '.') : NULL;
    if (point) *point = ',';
    return n;
}

#define strtod(text, end) comma_strtod(text, end)
#define snprintf comma_snprintf
#define realloc(ptr, size) counted_realloc(ptr, size)
#define malloc(size) counted_malloc(size)
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#undef realloc
#undef malloc
#undef strtod
#undef snprintf

#include <setjmp.h>

#include <cmocka.h>
#include <float.h>
#include <locale.h>
#include <math.h>

static const llmgwi_base_mem mem; /* realloc and free */

/* A text that may hold NUL. */
#define TEXT(literal) literal, sizeof(literal) - 1

typedef struct good_case {
    const char *text;
    size_t n;
} good_case;

typedef struct bad_case {
    const char *text;
    size_t n;
    size_t at; /* where the error is found */
} bad_case;

/* ---- reading everything ---- */

static void read_all(llmgwi_json *json) {
    llmgwi_base_str key;
    llmgwi_json_text text;
    llmgwi_json_number number;
    switch (llmgwi_json_peek(json)) {
    case LLMGWI_JSON_OBJECT:
        if (llmgwi_json_object(json))
            while (llmgwi_json_member(json, &key)) read_all(json);
        break;
    case LLMGWI_JSON_ARRAY:
        if (llmgwi_json_array(json))
            while (llmgwi_json_item(json)) read_all(json);
        break;
    case LLMGWI_JSON_STRING: (void)llmgwi_json_string(json, &text); break;
    case LLMGWI_JSON_NUMBER: (void)llmgwi_json_get_number(json, &number); break;
    default: (void)llmgwi_json_skip(json, NULL);
    }
}

/* Checks a text in a block of just its size, in two ways: skipping all, reading all. */
static const char *verdict(const char *text, size_t n, int depth, size_t *at) {
    llmgwi_json json;
    char *copy = (char *)malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, text, n);
    const char *error = llmgwi_json_check(llmgwi_base_view(copy, n), LLMGWI_JSON_NONE, depth, at);
    llmgwi_json_init(&json, copy, n, depth);
    read_all(&json);
    assert_int_equal(llmgwi_json_end(&json), error == NULL);
    if (error) assert_string_equal(json.error, error);
    if (error) assert_int_equal(json.error_at, *at);
    free(copy);
    return error;
}

static void take(const good_case *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        size_t at = 0;
        const char *error = verdict(rows[i].text, rows[i].n, 128, &at);
        if (error) fail_msg("refused: %s (%s at %lu)", rows[i].text, error, (unsigned long)at);
    }
}

static void refuse(const bad_case *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        size_t at = 0;
        if (!verdict(rows[i].text, rows[i].n, 128, &at))
            fail_msg("row %lu: %s", (unsigned long)i, rows[i].text);
        if (at != rows[i].at)
            fail_msg("%s: error at %lu, expected %lu", rows[i].text, (unsigned long)at,
                     (unsigned long)rows[i].at);
    }
}
#define TAKE(rows) take(rows, sizeof(rows) / sizeof((rows)[0]))
#define REFUSE(rows) refuse(rows, sizeof(rows) / sizeof((rows)[0]))

/* ---- what must be taken ---- */

static void test_take_structure(void **state) {
    static const good_case rows[] = {
        {TEXT("{}")},
        {TEXT("[]")},
        {TEXT("null")},
        {TEXT("true")},
        {TEXT("false")},
        {TEXT("0")},
        {TEXT("\"\"")},
        {TEXT("\"a\"")},
        {TEXT("[[]   ]")},
        {TEXT("[{}]")},
        {TEXT("{\"\":0}")},
        {TEXT("{\"a\":{\"b\":{\"c\":[1,[2,[3]]]}}}")},
        {TEXT("[null,true,false,1,\"x\",{},[]]")},
        {TEXT("[null,null,null]")},
    };
    TAKE(rows);
}

static void test_take_space(void **state) {
    static const good_case rows[] = {
        {TEXT(" []")},
        {TEXT("[] ")},
        {TEXT("\n\r\t [\n1\r,\t2 ]\n\n")},
        {TEXT("{ \"a\" : 1 , \"b\" : 2 }")},
        {TEXT("\t\t\ttrue")},
        {TEXT("[1\n]")},
    };
    TAKE(rows);
}

static void test_take_numbers(void **state) {
    static const good_case rows[] = {
        {TEXT("[0]")},          {TEXT("[-0]")},      {TEXT("[-1]")},
        {TEXT("[123.456789]")}, {TEXT("[1e1]")},     {TEXT("[1E1]")},
        {TEXT("[1e+1]")},       {TEXT("[1e-1]")},    {TEXT("[0e1]")},
        {TEXT("[0e+1]")},       {TEXT("[-0.0]")},    {TEXT("[1.5E+20]")},
        {TEXT("[0.000001]")},   {TEXT("[1e0001]")},  {TEXT("[1E400]")},
        {TEXT("[-1e9999]")},    {TEXT("[1e-9999]")}, {TEXT("[20000000000000000000000]")},
        {TEXT("1e1")},          {TEXT("-12")},
    };
    TAKE(rows);
}

static void test_take_strings(void **state) {
    static const good_case rows[] = {
        {TEXT("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"")},
        {TEXT("\"\\u0000\"")},
        {TEXT("\"\\u00e9\\u00E9\\uABCD\\uabcd\"")},
        {TEXT("\"\\ud83d\\ude00\"")},
        {TEXT("\"\\uDBFF\\uDFFF\"")},
        {TEXT("\"a\\u006Eb/c\"")},
        {TEXT("\"\x7F\"")},
        {TEXT("\"\xC2\x80\xDF\xBF\"")},
        {TEXT("\"\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF\"")},
        {TEXT("\"\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\"")},
        {TEXT("\"\xE2\x80\xA8\xE2\x80\xA9\"")}, /* line separators are no control characters here */
        {TEXT("\"\xEF\xBB\xBF\"")},             /* nor is a byte order mark inside a string anything */
    };
    TAKE(rows);
}

/* RFC 8259 lets a parser take these; we do, and make U+FFFD of them. */
static void test_take_lone_surrogates(void **state) {
    static const good_case rows[] = {
        {TEXT("\"\\ud800\"")},        {TEXT("\"\\udc00\"")},        {TEXT("\"\\ud800\\u0041\"")},
        {TEXT("\"\\ud800\\ud800\"")}, {TEXT("\"\\udfff\\ud800\"")}, {TEXT("\"\\ud800\\n\"")},
    };
    TAKE(rows);
}

static void test_take_duplicate_keys(void **state) {
    static const good_case rows[] = {
        {TEXT("{\"a\":1,\"a\":1}")},
        {TEXT("{\"a\":1,\"\\u0061\":{\"a\":[]}}")},
        {TEXT("{\"\":1,\"\":2}")},
    };
    TAKE(rows);
}

/* ---- what must be refused, and where ---- */

static void test_refuse_arrays(void **state) {
    static const bad_case rows[] = {
        {TEXT("["), 1},         {TEXT("[1"), 2},     {TEXT("[1,"), 3},     {TEXT("[1,]"), 3},
        {TEXT("[,1]"), 1},      {TEXT("[,]"), 1},    {TEXT("[1,,2]"), 3},  {TEXT("[1 2]"), 3},
        {TEXT("[1:2]"), 2},     {TEXT("[1}"), 2},    {TEXT("[\"a\"}"), 4}, {TEXT("]"), 0},
        {TEXT("[[1]"), 4},      {TEXT("[1]]"), 3},   {TEXT("[1;2]"), 2},   {TEXT("[a]"), 1},
        {TEXT("[\"\": 1]"), 3}, {TEXT("[1,\n"), 4},  {TEXT("[*]"), 1},     {TEXT("[...]"), 1},
        {TEXT("[{}"), 3},       {TEXT("[1,[2]"), 6}, {TEXT("[(1)]"), 1},   {TEXT("[\v1]"), 1},
    };
    REFUSE(rows);
}

static void test_refuse_objects(void **state) {
    static const bad_case rows[] = {
        {TEXT("{"), 1},
        {TEXT("{\"a\""), 4},
        {TEXT("{\"a\":"), 5},
        {TEXT("{\"a\":1"), 6},
        {TEXT("{\"a\":1,"), 7},
        {TEXT("{\"a\":1,}"), 7},
        {TEXT("{,\"a\":1}"), 1},
        {TEXT("{\"a\" 1}"), 5},
        {TEXT("{\"a\"::1}"), 5},
        {TEXT("{\"a\":}"), 5},
        {TEXT("{\"a\",1}"), 4},
        {TEXT("{\"a\":1 \"b\":2}"), 7},
        {TEXT("{\"a\":1,,\"b\":2}"), 7},
        {TEXT("{a:1}"), 1},
        {TEXT("{'a':1}"), 1},
        {TEXT("{1:1}"), 1},
        {TEXT("{null:1}"), 1},
        {TEXT("{[]:1}"), 1},
        {TEXT("{\"a\":1]"), 6},
        {TEXT("}"), 0},
        {TEXT("{\"a\":1}}"), 7},
        {TEXT("{\"a\":1 /* c */}"), 7},
        {TEXT("{\"a\":1}//"), 7},
        {TEXT("{\"a\":1}#"), 7},
        {TEXT("{\"a\":1;}"), 6},
        {TEXT("{\"a\"=1}"), 4},
        {TEXT("{\"a\":b}"), 5},
        {TEXT("{\"a\":1,\"b\"}"), 10},
        {TEXT("{\"a"), 3},
        {TEXT("{\"a\":\"b"), 7},
    };
    REFUSE(rows);
}

static void test_refuse_numbers(void **state) {
    static const bad_case rows[] = {
        {TEXT("+1"), 0},        {TEXT(".5"), 0},           {TEXT("-"), 1},     {TEXT("-."), 1},
        {TEXT("-a"), 1},        {TEXT("01"), 1},           {TEXT("-01"), 2},   {TEXT("00"), 1},
        {TEXT("1."), 2},        {TEXT("1.e5"), 2},         {TEXT("1.a"), 2},   {TEXT("1e"), 2},
        {TEXT("1e+"), 3},       {TEXT("1E-"), 3},          {TEXT("1ea"), 2},   {TEXT("1e1.5"), 3},
        {TEXT("0x10"), 1},      {TEXT("0x"), 1},           {TEXT("1_000"), 1}, {TEXT("1.2.3"), 3},
        {TEXT("--1"), 1},       {TEXT("-+1"), 1},          {TEXT("1 000"), 2}, {TEXT("1,5"), 1},
        {TEXT("NaN"), 0},       {TEXT("nan"), 0},          {TEXT("-NaN"), 1},  {TEXT("Infinity"), 0},
        {TEXT("-Infinity"), 1}, {TEXT("inf"), 0},          {TEXT("1+2"), 1},   {TEXT("1-"), 1},
        {TEXT("0.e1"), 2},      {TEXT("2.e+3"), 2},        {TEXT("-1x"), 2},   {TEXT("1eE2"), 2},
        {TEXT("0e"), 2},        {TEXT("\xEF\xBC\x91"), 0},
    };
    REFUSE(rows);
}

static void test_refuse_words(void **state) {
    static const bad_case rows[] = {
        {TEXT("nul"), 0},   {TEXT("tru"), 0},      {TEXT("fals"), 0},      {TEXT("True"), 0},
        {TEXT("TRUE"), 0},  {TEXT("FALSE"), 0},    {TEXT("Null"), 0},      {TEXT("NULL"), 0},
        {TEXT("nULL"), 0},  {TEXT("truee"), 4},    {TEXT("nulll"), 4},     {TEXT("true false"), 5},
        {TEXT("[nul]"), 1}, {TEXT("[fals\0]"), 1}, {TEXT("undefined"), 0}, {TEXT("t"), 0},
        {TEXT("f"), 0},     {TEXT("n"), 0},        {TEXT("[t"), 1},
    };
    REFUSE(rows);
}

static void test_refuse_whole_texts(void **state) {
    static const bad_case rows[] = {
        {TEXT(""), 0},
        {TEXT(" "), 1},
        {TEXT("\n\n"), 2},
        {TEXT("\0"), 0},
        {TEXT("{}{}"), 2},
        {TEXT("[][]"), 2},
        {TEXT("1 2"), 2},
        {TEXT("\"a\"\"b\""), 3},
        {TEXT("{} x"), 3},
        {TEXT("[]\0"), 2},
        {TEXT("1\0"), 1},
        {TEXT(","), 0},
        {TEXT(":"), 0},
        {TEXT("<a>"), 0},
        {TEXT("abc"), 0},
        {TEXT("'a'"), 0},
        {TEXT("\\u007b}"), 0},
        {TEXT("/**/{}"), 0},
        {TEXT("{}/**/"), 2},
        {TEXT("\x80"), 0},
        {TEXT("[1]\xC2\xA0"), 3},
        {TEXT("\xC2\xA0[1]"), 0},
        {TEXT("[\f]"), 1},
        {TEXT("[\x1A]"), 1},
        {TEXT("[1]\v"), 3},
        {TEXT("`"), 0},
        {TEXT("*"), 0},
        {TEXT("\xE2\x80\xA9[]"), 0},
    };
    REFUSE(rows);
}

static void test_refuse_byte_order_marks(void **state) {
    static const bad_case rows[] = {
        {TEXT("\xEF\xBB\xBF{}"), 0}, {TEXT("\xEF\xBB\xBF"), 0},
        {TEXT("\xEF\xBB{}"), 0},     {TEXT("\xFF\xFE[\0]\0"), 0},
        {TEXT("\0[\0]"), 0},         {TEXT("[\xEF\xBB\xBF]"), 1},
        {TEXT("{}\xEF\xBB\xBF"), 2}, {TEXT("{\xEF\xBB\xBF\"a\":1}"), 1},
    };
    REFUSE(rows);
}

static void test_refuse_unterminated_strings(void **state) {
    static const bad_case rows[] = {
        {TEXT("\""), 1},       {TEXT("\"abc"), 4},      {TEXT("\"abc\\\""), 6},   {TEXT("[\"a"), 3},
        {TEXT("{\"a"), 3},     {TEXT("\"\xC3\xA9"), 3}, {TEXT("\"a\\\\\\\""), 6}, {TEXT("[\"x\", \""), 7},
        {TEXT("'single'"), 0}, {TEXT("\"a'"), 3},       {TEXT("[\"a]"), 4},       {TEXT("\"\\u0041"), 7},
    };
    REFUSE(rows);
}

static void test_refuse_control_characters(void **state) {
    static const bad_case rows[] = {
        {TEXT("\"\n\""), 1},
        {TEXT("\"a\tb\""), 2},
        {TEXT("\"\x1F\""), 1},
        {TEXT("\"ab\0cd\""), 3},
        {TEXT("\"\r\""), 1},
        {TEXT("{\"a\x01\":1}"), 3},
        {TEXT("\"\\n\n\""), 3},
        {TEXT("\"\\\n\""), 1},
        {TEXT("\"0123456789abcdef0123456789abcdef\x10\""), 33},
        {TEXT("\"\xC3\xA9\x08\""), 3},
    };
    REFUSE(rows);
}

static void test_refuse_every_control_character(void **state) {
    for (int c = 0; c < 0x20; c++)
        for (size_t before = 0; before < 140; before++) {
            char text[160];
            size_t at = 0;
            memset(text, 'x', sizeof text);
            text[0] = '"';
            text[1 + before] = (char)c;
            text[2 + before] = '"';
            assert_string_equal(verdict(text, before + 3, 8, &at), "control character in string");
            assert_int_equal(at, before + 1);
        }
}

static void test_refuse_escapes(void **state) {
    static const bad_case rows[] = {
        {TEXT("\"\\x41\""), 1},       {TEXT("\"\\a\""), 1},
        {TEXT("\"\\v\""), 1},         {TEXT("\"\\0\""), 1},
        {TEXT("\"\\'\""), 1},         {TEXT("\"\\\0\""), 1},
        {TEXT("\"\\U0041\""), 1},     {TEXT("\"\\N\""), 1},
        {TEXT("\"\\u\""), 1},         {TEXT("\"\\u1\""), 1},
        {TEXT("\"\\u12\""), 1},       {TEXT("\"\\u123\""), 1},
        {TEXT("\"\\u00G0\""), 1},     {TEXT("\"\\u-123\""), 1},
        {TEXT("\"\\u 123\""), 1},     {TEXT("\"\\u+041\""), 1},
        {TEXT("\"ab\\q\""), 3},       {TEXT("\"\\ud800\\u\""), 7},
        {TEXT("\"\\ud800\\u1\""), 7}, {TEXT("\"\\ud800\\x\""), 7},
        {TEXT("\"\\\xC3\xA9\""), 1},  {TEXT("\"\\"), 1},
        {TEXT("\"\\u"), 1},           {TEXT("\"\\u00"), 1},
        {TEXT("\"\\u004"), 1},        {TEXT("[\\n]"), 1},
        {TEXT("{\"\\z\":1}"), 2},     {TEXT("\"\\ \""), 1},
    };
    REFUSE(rows);
}

static void test_refuse_utf8_overlong(void **state) {
    static const bad_case rows[] = {
        {TEXT("\"\xC0\xAF\""), 1},
        {TEXT("\"\xC1\xBF\""), 1},
        {TEXT("\"\xC0\x80\""), 1},
        {TEXT("\"\xE0\x80\xAF\""), 1},
        {TEXT("\"\xE0\x9F\xBF\""), 1},
        {TEXT("\"\xF0\x80\x80\xAF\""), 1},
        {TEXT("\"\xF0\x8F\xBF\xBF\""), 1},
        {TEXT("\"\xF8\x88\x80\x80\x80\""), 1},
        {TEXT("\"\xFC\x84\x80\x80\x80\x80\""), 1},
    };
    REFUSE(rows);
}

static void test_refuse_utf8_surrogates_and_beyond(void **state) {
    static const bad_case rows[] = {
        {TEXT("\"\xED\xA0\x80\""), 1},
        {TEXT("\"\xED\xBF\xBF\""), 1},
        {TEXT("\"\xED\xA0\xBD\xED\xB8\x80\""), 1},
        {TEXT("\"\xF4\x90\x80\x80\""), 1},
        {TEXT("\"\xF5\x80\x80\x80\""), 1},
        {TEXT("\"\xFE\""), 1},
        {TEXT("\"\xFF\""), 1},
    };
    REFUSE(rows);
}

static void test_refuse_utf8_truncated(void **state) {
    static const bad_case rows[] = {
        {TEXT("\"\xC3\""), 1},
        {TEXT("\"\xE2\x82\""), 1},
        {TEXT("\"\xF0\x9F\x98\""), 1},
        {TEXT("\"\xC3"), 1},
        {TEXT("\"\xE2\x82"), 1},
        {TEXT("\"\xF0\x9F\x98"), 1},
        {TEXT("\"a\xE2\x82z\""), 2},
        {TEXT("\"\xC3\xC3\xA9\""), 1},
        {TEXT("\"\x80\""), 1},
        {TEXT("\"\xBF\""), 1},
        {TEXT("\"\xC3\xA9\xA9\""), 3},
        {TEXT("{\"\xE9\":1}"), 2},
        {TEXT("\"0123456789abcde\xE2\x82\""), 16},
        {TEXT("\"\\n\xF0\x9F\""), 3},
        {TEXT("\"\xF0\x9F\x98\x80\x80\""), 5},
    };
    REFUSE(rows);
}

/* Bytes outside strings that are no JSON at all. */
static void test_refuse_every_stray_byte(void **state) {
    for (int c = 0; c < 256; c++) {
        char text[3] = {'[', (char)c, ']'};
        size_t at = 0;
        bool fine = (c && strchr(" \t\r\n", c)) || (c >= '0' && c <= '9');
        const char *error = verdict(text, 3, 8, &at);
        if (c == ']') {
            assert_int_equal(at, 2);
            continue;
        }
        assert_int_equal(error == NULL, fine);
        size_t later = c == '"' ? 3 : strchr("[{-", c) && c ? 2 : 1;
        if (c == '[') later = 3;
        if (!fine) assert_int_equal(at, later);
    }
}

/* ---- depth ---- */

static void test_depth_exact(void **state) {
    size_t at = 0;
    assert_null(verdict(TEXT("[[[]]]"), 3, &at));
    assert_string_equal(verdict(TEXT("[[[[]]]]"), 3, &at), "nested too deeply");
    assert_int_equal(at, 3);
    assert_null(verdict(TEXT("{\"a\":[{}]}"), 3, &at));
    assert_string_equal(verdict(TEXT("{\"a\":[{\"b\":[]}]}"), 3, &at), "nested too deeply");
    assert_int_equal(at, 11);
    assert_null(verdict(TEXT("[[],[],[[]]]"), 3, &at));
    assert_null(verdict(TEXT("1"), 0, &at));
    assert_string_equal(verdict(TEXT("[]"), 0, &at), "nested too deeply");
}

static void test_depth_hundred_thousand(void **state) {
    const size_t depth = 100000;
    char *text = (char *)malloc(depth * 6);
    size_t at = 0;
    assert_non_null(text);
    memset(text, '[', depth);
    assert_string_equal(verdict(text, depth, 1 << 30, &at), "nested too deeply");
    assert_int_equal(at, LLMGWI_JSON_MAX_DEPTH);
    memset(text + depth, ']', depth);
    assert_string_equal(verdict(text, depth * 2, 128, &at), "nested too deeply");
    assert_int_equal(at, 128);
    for (size_t i = 0; i < depth; i++) memcpy(text + i * 5, "{\"a\":", 5);
    assert_string_equal(verdict(text, depth * 5, 128, &at), "nested too deeply");
    assert_int_equal(at, 128 * 5);
    free(text);
}

static void test_depth_cap_is_kept(void **state) {
    char text[2 * LLMGWI_JSON_MAX_DEPTH + 2];
    size_t n = LLMGWI_JSON_MAX_DEPTH, at = 0;
    memset(text, '[', n);
    memset(text + n, ']', n);
    assert_null(verdict(text, 2 * n, 1 << 30, &at));
    memset(text, '[', n + 1);
    memset(text + n + 1, ']', n + 1);
    assert_string_equal(verdict(text, 2 * n + 2, 1 << 30, &at), "nested too deeply");
}

static void test_mixed_nesting(void **state) {
    char text[4096] = "";
    size_t at = 0;
    for (int i = 0; i < 60; i++) strcat(text, i % 2 ? "[" : "{\"k\":");
    strcat(text, "1");
    for (int i = 59; i >= 0; i--) strcat(text, i % 2 ? "]" : "}");
    assert_null(verdict(text, strlen(text), 60, &at));
    text[strlen(text) - 1] = ']';
    assert_string_equal(verdict(text, strlen(text), 60, &at), "expected ',' or '}'");
    assert_int_equal(at, strlen(text) - 1);
}

/* ---- the cursor ---- */

static llmgwi_json open_text(const char *text) {
    llmgwi_json json;
    llmgwi_json_init(&json, text, strlen(text), 64);
    return json;
}

static void test_reading_allocates_nothing(void **state) {
    char text[3000] = "{\"list\":[1,2.5,\"\\u00e9\",{\"k\\n\":null}],\"long\":\"";
    memset(text + strlen(text), 'x', 2000);
    strcat(text, "\\n\",\"n\":1234567890123456789012345678901234567890,\"d\":1e300}");
    llmgwi_json json = open_text(text);
    size_t at;
    allocations = 0;
    read_all(&json);
    assert_true(llmgwi_json_end(&json));
    assert_null(llmgwi_json_check(llmgwi_base_cstr(text), LLMGWI_JSON_OBJECT, 64, &at));
    assert_int_equal(allocations, 0);
    llmgwi_base_buf buf; /* the hook works */
    llmgwi_base_buf_init(&buf, &mem, 100);
    llmgwi_base_buf_text(&buf, "x");
    assert_int_equal(allocations, 1);
    llmgwi_base_buf_free(&buf);
}

static void test_duplicate_keys_come_in_order(void **state) {
    llmgwi_json json = open_text("{\"a\":1,\"b\":2,\"a\":3}");
    llmgwi_base_str key;
    llmgwi_json_number number;
    char seen[32] = "";
    assert_true(llmgwi_json_object(&json));
    while (llmgwi_json_member(&json, &key)) {
        assert_true(llmgwi_json_get_number(&json, &number));
        snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%.*s%d ", (int)key.n, key.p,
                 (int)number.i);
    }
    assert_true(llmgwi_json_end(&json));
    assert_string_equal(seen, "a1 b2 a3 ");
}

static void test_keys_with_escapes(void **state) {
    llmgwi_json json = open_text("{\"\\u0063hoices\":1,\"a\\\"b\":2,\"\\ud83d\\ude00\":3,\"\\/\":4}");
    static const char *const want[] = {"choices", "a\"b", "\xF0\x9F\x98\x80", "/"};
    llmgwi_base_str key;
    int i = 0;
    assert_true(llmgwi_json_object(&json));
    for (; llmgwi_json_member(&json, &key); i++) assert_true(llmgwi_base_is(key, want[i]));
    assert_int_equal(i, 4);
    assert_true(llmgwi_json_end(&json));
}

static void test_fully_escaped_names_of_the_wire(void **state) {
    /* ten letters are 60 bytes of escapes */
    llmgwi_json json =
        open_text("{\"\\u0074\\u006f\\u006f\\u006c\\u005f\\u0063\\u0061\\u006c\\u006c\\u0073\":1}");
    llmgwi_base_str key = llmgwi_base_view("", 0);
    assert_true(llmgwi_json_object(&json) && llmgwi_json_member(&json, &key));
    assert_true(llmgwi_base_is(key, "tool_calls"));
}

static void test_long_keys(void **state) {
    char text[300] = "{\"";
    llmgwi_base_str key = llmgwi_base_view("", 0);
    memset(text + 2, 'k', 200);
    strcpy(text + 202, "\":true}");
    llmgwi_json json = open_text(text);
    assert_true(llmgwi_json_object(&json) && llmgwi_json_member(&json, &key));
    assert_int_equal(key.n, 200);
    assert_false(llmgwi_json_member(&json, &key));
    assert_true(llmgwi_json_end(&json));
    memcpy(text + 2, "\\n", 2); /* with an escape: taken, whatever it is called */
    json = open_text(text);
    assert_true(llmgwi_json_object(&json) && llmgwi_json_member(&json, &key));
    assert_false(llmgwi_json_member(&json, &key));
    assert_true(llmgwi_json_end(&json));
}

static void test_unread_values_are_skipped(void **state) {
    llmgwi_json json =
        open_text("{\"a\":[1,[2,{\"x\":\"}\"}]],\"b\":{\"a\":1},\"c\":\"s\",\"d\":4,\"e\":null,\"f\":true}");
    llmgwi_base_str key;
    llmgwi_json_number number;
    int members = 0;
    assert_true(llmgwi_json_object(&json));
    while (llmgwi_json_member(&json, &key)) {
        members++;
        if (!llmgwi_base_is(key, "d")) continue;
        assert_true(llmgwi_json_get_number(&json, &number));
        assert_int_equal(number.i, 4);
    }
    assert_int_equal(members, 6);
    assert_true(llmgwi_json_end(&json));
    json = open_text("[[1],2,{},\"x\"]");
    int items = 0;
    assert_true(llmgwi_json_array(&json));
    while (llmgwi_json_item(&json)) items++;
    assert_int_equal(items, 4);
    assert_true(llmgwi_json_end(&json));
}

static void test_unread_values_are_validated(void **state) {
    llmgwi_json json = open_text("{\"a\":[1,{\"b\":01}],\"c\":2}");
    llmgwi_base_str key;
    assert_true(llmgwi_json_object(&json));
    assert_true(llmgwi_json_member(&json, &key));
    assert_false(llmgwi_json_member(&json, &key));
    assert_int_equal(json.error_at, 14);
    assert_false(llmgwi_json_end(&json));
}

static void test_unread_document(void **state) {
    llmgwi_json json = open_text(" [1,2] ");
    assert_true(llmgwi_json_end(&json)); /* skipped and validated */
    json = open_text("[1,2} ");
    assert_false(llmgwi_json_end(&json));
    assert_int_equal(json.error_at, 4);
}

static void test_open_containers_are_not_the_end(void **state) {
    llmgwi_json json = open_text("[1,2]");
    assert_true(llmgwi_json_array(&json) && llmgwi_json_item(&json));
    assert_false(llmgwi_json_end(&json));
    json = open_text("{}");
    assert_true(llmgwi_json_object(&json));
    assert_false(llmgwi_json_end(&json));
}

static void test_after_an_error_all_is_false(void **state) {
    llmgwi_json json = open_text("[1,x,2]");
    llmgwi_base_str view;
    llmgwi_json_text text;
    llmgwi_json_number number;
    int64_t count = 5;
    assert_true(llmgwi_json_array(&json) && llmgwi_json_item(&json) && llmgwi_json_item(&json));
    assert_false(llmgwi_json_item(&json));
    assert_string_equal(json.error, "expected a value");
    assert_int_equal(json.error_at, 3);
    assert_false(llmgwi_json_item(&json));
    assert_false(llmgwi_json_member(&json, &view));
    assert_false(llmgwi_json_object(&json));
    assert_false(llmgwi_json_array(&json));
    assert_false(llmgwi_json_string(&json, &text));
    assert_false(llmgwi_json_maybe(&json, &text));
    assert_false(llmgwi_json_get_number(&json, &number));
    assert_false(llmgwi_json_count(&json, &count));
    assert_false(llmgwi_json_skip(&json, &view));
    assert_false(llmgwi_json_end(&json));
    assert_int_equal(llmgwi_json_peek(&json), LLMGWI_JSON_NONE);
    assert_int_equal(count, 5);
    assert_string_equal(json.error, "expected a value"); /* the first one stays */
    assert_int_equal(json.error_at, 3);
}

static void test_member_after_a_broken_member(void **state) {
    llmgwi_json json = open_text("{\"a\":1,b:2}");
    llmgwi_base_str key;
    assert_true(llmgwi_json_object(&json) && llmgwi_json_member(&json, &key));
    for (int i = 0; i < 3; i++) assert_false(llmgwi_json_member(&json, &key));
    assert_string_equal(json.error, "expected a string as key");
    assert_int_equal(json.error_at, 7);
}

static void test_wrong_kinds(void **state) {
    static const char *const texts[] = {"{}", "[]", "\"s\"", "1", "true", "null"};
    for (int i = 0; i < 6; i++) {
        llmgwi_json_text text;
        llmgwi_json_number number;
        llmgwi_json json = open_text(texts[i]);
        assert_int_equal(llmgwi_json_object(&json), i == 0);
        json = open_text(texts[i]);
        assert_int_equal(llmgwi_json_array(&json), i == 1);
        json = open_text(texts[i]);
        assert_int_equal(llmgwi_json_string(&json, &text), i == 2);
        json = open_text(texts[i]);
        assert_int_equal(llmgwi_json_get_number(&json, &number), i == 3);
        assert_int_equal(json.error != NULL, i != 3);
    }
}

static void test_peek(void **state) {
    static const llmgwi_json_kind want[] = {LLMGWI_JSON_OBJECT, LLMGWI_JSON_ARRAY,  LLMGWI_JSON_STRING,
                                            LLMGWI_JSON_NUMBER, LLMGWI_JSON_NUMBER, LLMGWI_JSON_TRUE,
                                            LLMGWI_JSON_FALSE,  LLMGWI_JSON_NULL};
    llmgwi_json json = open_text("[{},[],\"\",0,-1,true,false,null]");
    int i = 0;
    assert_true(llmgwi_json_array(&json));
    for (; llmgwi_json_item(&json); i++) assert_int_equal(llmgwi_json_peek(&json), want[i]);
    assert_int_equal(i, 8);
    json = open_text("  ");
    assert_int_equal(llmgwi_json_peek(&json), LLMGWI_JSON_NONE);
}

static void test_maybe(void **state) {
    llmgwi_json json = open_text("[\"a\",null,{\"b\":[1]},7,\"\"]");
    llmgwi_json_text text;
    char seen[16] = "";
    assert_true(llmgwi_json_array(&json));
    while (llmgwi_json_item(&json)) strcat(seen, llmgwi_json_maybe(&json, &text) ? "s" : "-");
    assert_string_equal(seen, "s---s");
    assert_int_equal(text.raw.n, 0);
    assert_true(llmgwi_json_end(&json));
}

static void test_skip_gives_the_text(void **state) {
    llmgwi_json json = open_text("{\"a\" :  {\"b\": [1, 2]} , \"c\":-1.5e3}");
    llmgwi_base_str key, raw;
    assert_true(llmgwi_json_object(&json) && llmgwi_json_member(&json, &key));
    assert_true(llmgwi_json_skip(&json, &raw));
    assert_true(llmgwi_base_is(raw, "{\"b\": [1, 2]}"));
    assert_true(llmgwi_json_member(&json, &key) && llmgwi_json_skip(&json, &raw));
    assert_true(llmgwi_base_is(raw, "-1.5e3"));
    assert_false(llmgwi_json_member(&json, &key));
    assert_true(llmgwi_json_end(&json));
}

static void test_check_of_a_kind(void **state) {
    size_t at = 9;
    assert_null(llmgwi_json_check(llmgwi_base_cstr(" {\"a\":1} "), LLMGWI_JSON_OBJECT, 8, &at));
    assert_int_equal(at, 0);
    assert_string_equal(llmgwi_json_check(llmgwi_base_cstr("[]"), LLMGWI_JSON_OBJECT, 8, &at),
                        "expected an object");
    assert_non_null(llmgwi_json_check(llmgwi_base_cstr("{}"), LLMGWI_JSON_ARRAY, 8, NULL));
    assert_non_null(llmgwi_json_check(llmgwi_base_cstr(""), LLMGWI_JSON_OBJECT, 8, NULL));
    assert_non_null(llmgwi_json_check(llmgwi_base_cstr("{}x"), LLMGWI_JSON_OBJECT, 8, &at));
    assert_int_equal(at, 2);
}

/* ---- strings, decoded ---- */

static void decoded(const char *text, const char *want, size_t n) {
    llmgwi_json json = open_text(text);
    llmgwi_json_text string;
    llmgwi_base_buf buf;
    llmgwi_base_buf_init(&buf, &mem, 10000);
    assert_true(llmgwi_json_string(&json, &string) && llmgwi_json_end(&json));
    assert_int_equal(string.escaped, strchr(text, '\\') != NULL);
    assert_true(llmgwi_json_unescape(string, &buf));
    assert_int_equal(buf.n, n);
    assert_memory_equal(llmgwi_base_buf_cstr(&buf), want, n + 1);
    llmgwi_base_buf_free(&buf);
}

static void test_decode(void **state) {
    decoded("\"\"", TEXT(""));
    decoded("\"plain \xC3\xA9\"", TEXT("plain \xC3\xA9"));
    decoded("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", TEXT("\"\\/\b\f\n\r\t"));
    decoded("\"\\u0041\\u00e9\\u20AC\\uFFFF\"", TEXT("A\xC3\xA9\xE2\x82\xAC\xEF\xBF\xBF"));
    decoded("\"\\uD83D\\uDE00\\ud800\\udc00\\udbff\\udfff\"",
            TEXT("\xF0\x9F\x98\x80\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"));
    decoded("\"a\\u0000b\"", TEXT("a\0b"));
    decoded("\"\\u007f\\u0080\\u07ff\\u0800\"", TEXT("\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80"));
    decoded("\"\\\\u0041\"", TEXT("\\u0041"));
}

static void test_decode_lone_surrogates(void **state) {
    decoded("\"\\ud800\"", TEXT("\xEF\xBF\xBD"));
    decoded("\"\\udc00x\"", TEXT("\xEF\xBF\xBDx"));
    decoded("\"\\ud800\\u0041\"", TEXT("\xEF\xBF\xBD"
                                       "A"));
    decoded("\"\\ud83d\\ud83d\\ude00\"", TEXT("\xEF\xBF\xBD\xF0\x9F\x98\x80"));
    decoded("\"\\ude00\\ud83d\"", TEXT("\xEF\xBF\xBD\xEF\xBF\xBD"));
    decoded("\"\\ud83d\\n\"", TEXT("\xEF\xBF\xBD\n"));
    decoded("\"\\udc00\\udc00\"", TEXT("\xEF\xBF\xBD\xEF\xBF\xBD"));
    decoded("\"\\ud83d\\ue000\"", TEXT("\xEF\xBF\xBD\xEE\x80\x80"));
}

static void test_every_code_point(void **state) {
    for (uint32_t point = 0; point < 0x110000; point += point < 0x3000 ? 1 : 61) {
        char text[32], want[8];
        if (point >= 0xD800 && point < 0xE000) continue;
        size_t n = llmgwi_text_encode(point, want);
        want[n] = 0;
        if (point < 0x10000)
            snprintf(text, sizeof text, "\"\\u%04x\"", (unsigned)point);
        else
            snprintf(text, sizeof text, "\"\\u%04X\\u%04x\"", (unsigned)(0xD800 + ((point - 0x10000) >> 10)),
                     (unsigned)(0xDC00 + (point & 0x3FF)));
        decoded(text, want, n);
    }
}

/* Ends, escapes and characters of all lengths at every place of a block of bytes. */
static void test_strings_of_every_length(void **state) {
    static const char *const specials[] = {"",        "\\\"", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80",
                                           "\\u0041", "\\\\"};
    static const char *const wants[] = {"", "\"", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "A", "\\"};
    for (size_t n = 0; n < 150; n++)
        for (size_t i = 0; i < LLMGWI_BASE_COUNT(specials); i++) {
            char xs[160], text[512], want[256];
            memset(xs, 'x', n);
            xs[n] = 0;
            snprintf(text, sizeof text, "[\"%s%s%s\",\"\",\"%s\",{\"%s\":1}]", xs, specials[i],
                     n % 3 ? "y" : "", xs, xs);
            snprintf(want, sizeof want, "%s%s%s", xs, wants[i], n % 3 ? "y" : "");
            llmgwi_json json = open_text(text);
            llmgwi_json_text string = {{"", 0}, false};
            llmgwi_base_str key = {"", 0};
            assert_true(llmgwi_json_array(&json) && llmgwi_json_item(&json) &&
                        llmgwi_json_string(&json, &string));
            char got[256];
            assert_int_equal(llmgwi_json_decode(string, got), strlen(want));
            assert_memory_equal(got, want, strlen(want));
            assert_true(llmgwi_json_item(&json) && llmgwi_json_string(&json, &string));
            assert_int_equal(string.raw.n, 0);
            assert_true(llmgwi_json_item(&json) && llmgwi_json_string(&json, &string));
            assert_true(llmgwi_base_is(string.raw, xs));
            assert_true(llmgwi_json_item(&json) && llmgwi_json_object(&json) &&
                        llmgwi_json_member(&json, &key));
            assert_true(llmgwi_base_is(key, xs));
            assert_false(llmgwi_json_member(&json, &key) || llmgwi_json_item(&json));
            assert_true(llmgwi_json_end(&json));
        }
}

static void test_is(void **state) {
    llmgwi_json json = open_text("[\"stop\",\"st\\u006fp\",\"stopp\",\"\"]");
    llmgwi_json_text text;
    char seen[8] = "";
    assert_true(llmgwi_json_array(&json));
    while (llmgwi_json_item(&json)) {
        assert_true(llmgwi_json_string(&json, &text));
        strcat(seen, llmgwi_json_is(text, "stop") ? "y" : "n");
    }
    assert_string_equal(seen, "yynn");
}

/* ---- numbers ---- */

static llmgwi_json_number number_of(const char *text) {
    llmgwi_json json = open_text(text);
    llmgwi_json_number number;
    if (!llmgwi_json_get_number(&json, &number) || !llmgwi_json_end(&json))
        fail_msg("%s: %s", text, json.error);
    return number;
}

static void is_integer(const char *text, int64_t want) {
    llmgwi_json_number number = number_of(text);
    assert_true(number.integer);
    assert_true(number.i == want);
    assert_true(number.d == (double)want);
}

static void is_double(const char *text, double want) {
    llmgwi_json_number number = number_of(text);
    assert_false(number.integer);
    assert_memory_equal(&number.d, &want, sizeof want);
}

static void test_integers(void **state) {
    is_integer("0", 0);
    is_integer("-0", 0);
    is_integer("-1", -1);
    is_integer("9007199254740992", (int64_t)1 << 53);
    is_integer("9007199254740993", ((int64_t)1 << 53) + 1);
    is_integer("9223372036854775806", INT64_MAX - 1);
    is_integer("9223372036854775807", INT64_MAX);
    is_integer("-9223372036854775807", -INT64_MAX);
    is_integer("-9223372036854775808", INT64_MIN);
}

static void test_integers_beyond(void **state) {
    is_double("9223372036854775808", 9223372036854775808.0);
    is_double("-9223372036854775809", -9223372036854775808.0);
    is_double("18446744073709551616", 18446744073709551616.0);
    is_double("92233720368547758070", 92233720368547758070.0);
    is_double("123456789012345678901234567890", 1.2345678901234568e29);
}

static void test_doubles(void **state) {
    is_double("0.1", 0.1);
    is_double("-0.0", -0.0);
    is_double("1.0", 1.0);
    is_double("1e2", 100.0);
    is_double("1E+2", 100.0);
    is_double("123.456e-7", 123.456e-7);
    is_double("1e308", 1e308);
    is_double("1.7976931348623157e308", DBL_MAX);
    is_double("2.2250738585072014e-308", DBL_MIN);
    is_double("2.2250738585072011e-308", 2.2250738585072011e-308);
    is_double("5e-324", 5e-324);
    is_double("4.9406564584124654e-324", 5e-324);
    is_double("1e-400", 0.0);
    is_double("9007199254740993.0", 9007199254740992.0);
    is_double("0.3000000000000000444089209850062616169452667236328125", 0.30000000000000004);
}

static void test_doubles_beyond(void **state) {
    assert_true(isinf(number_of("1e309").d) && number_of("1e309").d > 0);
    assert_true(isinf(number_of("-1e999").d) && number_of("-1e999").d < 0);
}

static void test_long_numbers(void **state) {
    char text[LLMGWI_JSON_NUMBER_BYTES + 2];
    size_t at = 7;
    llmgwi_json_number number;
    memset(text, '1', sizeof text);
    text[1] = '.';
    text[LLMGWI_JSON_NUMBER_BYTES] = 0;
    assert_true(number_of(text).d == 10.0 / 9 - 0.0 || fabs(number_of(text).d - 10.0 / 9) < 1e-15);
    text[LLMGWI_JSON_NUMBER_BYTES] = '1';
    text[LLMGWI_JSON_NUMBER_BYTES + 1] = 0;
    llmgwi_json json = open_text(text);
    assert_false(llmgwi_json_get_number(&json, &number));
    assert_string_equal(json.error, "number too long");
    assert_null(llmgwi_json_check(llmgwi_base_cstr(text), LLMGWI_JSON_NONE, 8, &at)); /* unread: fine */
}

static void test_number_stands_before_other_text(void **state) {
    char text[] = {'[', '1', '2', '3'}; /* nothing behind it that would stop strtod */
    char more[] = {'1', '.', '5', 'e', '1', '9'};
    llmgwi_json json;
    llmgwi_json_number number;
    llmgwi_json_init(&json, text, 3, 8);
    assert_true(llmgwi_json_array(&json) && llmgwi_json_item(&json) &&
                llmgwi_json_get_number(&json, &number));
    assert_int_equal(number.i, 12);
    llmgwi_json_init(&json, more, 5, 8);
    assert_true(llmgwi_json_get_number(&json, &number));
    assert_true(number.d == 15.0);
}

static void test_count(void **state) {
    static const struct {
        const char *text;
        int64_t want; /* -1: not taken */
    } rows[] = {{"0", 0},
                {"7", 7},
                {"7.0", 7},
                {"7e0", 7},
                {"1e3", 1000},
                {"-1", -1},
                {"-0", 0},
                {"1e300", -1},
                {"\"7\"", -1},
                {"null", -1},
                {"[1,{\"a\":2}]", -1},
                {"true", -1},
                {"1e-3", 0},
                {"-1.5", -1},
                {"{}", -1},
                {"8999999999999999", 8999999999999999}};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_json json = open_text(rows[i].text);
        int64_t count = -1;
        assert_int_equal(llmgwi_json_count(&json, &count), rows[i].want >= 0);
        assert_true(count == rows[i].want);
        assert_true(llmgwi_json_end(&json));
    }
}

/* Sums of several counts must not overflow. */
static void test_count_is_capped(void **state) {
    llmgwi_json json = open_text("9223372036854775807");
    int64_t count = 0;
    (void)llmgwi_json_count(&json, &count);
    assert_true(count >= 0 && count <= INT64_MAX / 8);
    assert_true(llmgwi_json_end(&json));
}

static bool comma_locale(void) {
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8",  "de_DE",       "fr_FR.UTF-8", "fr_FR",
                                        "es_ES.UTF-8", "it_IT.UTF-8", "ru_RU.UTF-8", "pl_PL.UTF-8"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(names); i++)
        if (setlocale(LC_NUMERIC, names[i]) && localeconv()->decimal_point[0] == ',') return true;
    setlocale(LC_NUMERIC, "C");
    return false;
}

static void put_number(double value, char *out, size_t size) {
    llmgwi_base_buf buf;
    llmgwi_json_out writer = {&buf, false};
    llmgwi_base_buf_init(&buf, &mem, 100);
    llmgwi_json_put_double(&writer, value);
    assert_int_equal(buf.failed, 0);
    snprintf(out, size, "%s", buf.p);
    llmgwi_base_buf_free(&buf);
}

static void test_decimal_comma(void **state) {
    char small[64], exact[64], large[64];
    comma = 1;
    double half = number_of("-12.5").d, thousandth = number_of("1.25e-3").d, whole = number_of("3e2").d;
    put_number(0.5, small, sizeof small);
    put_number(0.30000000000000004, exact, sizeof exact);
    put_number(1.5e300, large, sizeof large);
    comma = 0;
    assert_true(half == -12.5 && thousandth == 0.00125 && whole == 300.0);
    assert_string_equal(small, "0.5");
    assert_string_equal(exact, "0.30000000000000004");
    assert_string_equal(large, "1.5e+300");
}

/* The same with a true locale, where the system has one. */
static void test_locale_with_a_decimal_comma(void **state) {
    char text[64];
    if (!comma_locale()) skip();
    double half = number_of("-12.5").d, small = number_of("1.25e-3").d, whole = number_of("3e2").d;
    put_number(0.1, text, sizeof text);
    setlocale(LC_NUMERIC, "C");
    assert_true(half == -12.5 && small == 0.00125 && whole == 300.0);
    assert_string_equal(text, "0.1");
}

/* ---- the writer ---- */

static void written(const char *text, size_t n, const char *want) {
    llmgwi_base_buf buf;
    llmgwi_json_out out = {&buf, false};
    llmgwi_base_buf_init(&buf, &mem, 10000);
    assert_int_equal(llmgwi_json_put(&out, llmgwi_base_view(text, n)), n);
    assert_int_equal(buf.failed, 0);
    assert_string_equal(buf.p, want);
    assert_int_equal(buf.n, strlen(want));
    decoded(buf.p, text, n);
    llmgwi_base_buf_free(&buf);
}

static void test_write_strings(void **state) {
    written(TEXT(""), "\"\"");
    written(TEXT("plain"), "\"plain\"");
    written(TEXT("a\"b\\c/d"), "\"a\\\"b\\\\c/d\"");
    written(TEXT("\b\f\n\r\t"), "\"\\b\\f\\n\\r\\t\"");
    written(TEXT("a\0b"), "\"a\\u0000b\"");
    written(TEXT("\x7F"), "\"\x7F\"");
    written(TEXT("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"), "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"");
    written(TEXT("\xC2\x80\xE0\xA0\x80\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"),
            "\"\xC2\x80\xE0\xA0\x80\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\"");
}

/* Every control character, quote and backslash at every place of a vector. */
static void test_write_every_escape_everywhere(void **state) {
    static const char known[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    for (int c = 0; c < 128; c++) {
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7F) continue;
        for (size_t before = 0; before < 36; before++) {
            char text[64], want[128];
            memset(text, 'x', sizeof text);
            text[before] = (char)c;
            text[before + 4] = 0;
            const char *place = c ? strchr(known, c) : NULL;
            char escape[8];
            if (c == 0x7F)
                strcpy(escape, "\x7F");
            else if (place)
                snprintf(escape, sizeof escape, "\\%c", letters[place - known]);
            else
                snprintf(escape, sizeof escape, "\\u%04x", (unsigned)c);
            snprintf(want, sizeof want, "\"%.*s%sxxx\"", (int)before, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                     escape);
            written(text, before + 4, want);
        }
    }
}

static void test_write_all_escapes_in_a_row(void **state) {
    char text[513] = "", want[4096] = "\"";
    for (size_t i = 0; i < sizeof text - 1; i++) {
        text[i] = 1;
        strcat(want, "\\u0001");
    }
    strcat(want, "\"");
    written(text, sizeof text - 1, want);
}

static void test_write_names_bad_utf8(void **state) {
    static const bad_case rows[] = {
        {TEXT("\xFF"), 0},
        {TEXT("abc\x80"), 3},
        {TEXT("\xC3"), 0},
        {TEXT("\xC3\xA9\xC3"), 2},
        {TEXT("\n\"\xED\xA0\x80"), 2},
        {TEXT("0123456789abcdefX\xC0\x80"), 17},
        {TEXT("\xF0\x9F\x98"), 0},
        {TEXT("x\xE2\x82"), 1},
        {TEXT("\xF4\x90\x80\x80"), 0},
        {TEXT("\xC3\xA9\n\xC3\xA9\xFE tail"), 5},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_base_buf buf;
        llmgwi_json_out out = {&buf, false};
        char *copy = (char *)malloc(rows[i].n);
        memcpy(copy, rows[i].text, rows[i].n);
        llmgwi_base_buf_init(&buf, &mem, 1000);
        assert_int_equal(llmgwi_json_put(&out, llmgwi_base_view(copy, rows[i].n)), rows[i].at);
        free(copy);
        llmgwi_base_buf_free(&buf);
    }
}

static void test_write_commas(void **state) {
    llmgwi_base_buf buf;
    llmgwi_json_out out = {&buf, false};
    llmgwi_base_buf_init(&buf, &mem, 1000);
    llmgwi_json_open(&out, '{');
    llmgwi_json_key(&out, "a");
    llmgwi_json_open(&out, '[');
    llmgwi_json_close(&out, ']');
    llmgwi_json_key(&out, "b");
    llmgwi_json_open(&out, '[');
    llmgwi_json_put_int(&out, 1);
    llmgwi_json_open(&out, '{');
    llmgwi_json_pair(&out, "x", "y");
    llmgwi_json_pair(&out, "z", "");
    llmgwi_json_close(&out, '}');
    llmgwi_json_raw(&out, llmgwi_base_cstr("null"));
    llmgwi_json_put_double(&out, 0.5);
    llmgwi_json_close(&out, ']');
    llmgwi_json_key(&out, "c");
    llmgwi_json_put_int(&out, -2);
    llmgwi_json_close(&out, '}');
    assert_string_equal(buf.p, "{\"a\":[],\"b\":[1,{\"x\":\"y\",\"z\":\"\"},null,0.5],\"c\":-2}");
    llmgwi_base_buf_free(&buf);
}

static void test_write_integers(void **state) {
    static const int64_t values[] = {0, 1, -1, INT64_MAX, INT64_MIN, (int64_t)1 << 53};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(values); i++) {
        llmgwi_base_buf buf;
        llmgwi_json_out out = {&buf, false};
        llmgwi_base_buf_init(&buf, &mem, 100);
        llmgwi_json_put_int(&out, values[i]);
        is_integer(buf.p, values[i]);
        llmgwi_base_buf_free(&buf);
    }
}

static void test_write_doubles_short(void **state) {
    static const struct {
        double value;
        const char *want;
    } rows[] = {{0.1, "0.1"},    {0.7, "0.7"},       {1.0, "1"}, {-2.5, "-2.5"},
                {1e21, "1e+21"}, {0.0001, "0.0001"}, {0.0, "0"}};
    char text[64];
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        put_number(rows[i].value, text, sizeof text);
        assert_string_equal(text, rows[i].want);
    }
}

static void test_write_doubles_round_trip(void **state) {
    static const double edges[] = {DBL_MAX,
                                   -DBL_MAX,
                                   DBL_MIN,
                                   5e-324,
                                   -5e-324,
                                   2.2250738585072011e-308,
                                   1.0 / 3,
                                   0.30000000000000004,
                                   9007199254740993.0,
                                   1e22,
                                   1e23,
                                   123456789.123456789,
                                   DBL_EPSILON};
    uint64_t random = 0x9E3779B97F4A7C15u;
    char text[64];
    for (size_t i = 0; i < 50000; i++) {
        double value;
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint64_t bits = random ^ random >> 29;
        memcpy(&value, &bits, sizeof value);
        if (i < LLMGWI_BASE_COUNT(edges)) value = edges[i];
        if (!isfinite(value)) continue;
        put_number(value, text, sizeof text);
        assert_true(number_of(text).d == value);
    }
}

static void test_base64(void **state) {
    static const struct {
        const char *plain;
        size_t n;
        const char *want;
    } rows[] = {{TEXT(""), ""},
                {TEXT("f"), "Zg=="},
                {TEXT("fo"), "Zm8="},
                {TEXT("foo"), "Zm9v"},
                {TEXT("foob"), "Zm9vYg=="},
                {TEXT("fooba"), "Zm9vYmE="},
                {TEXT("foobar"), "Zm9vYmFy"},
                {TEXT("\xFF\xFE\xFD\xFB\xF0"), "//79+/A="},
                {TEXT("\0\0\0\0"), "AAAAAA=="},
                {TEXT("\x14\xFB\x9C\x03\xD9\x7E"), "FPucA9l+"}};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_base_buf buf;
        llmgwi_base_buf_init(&buf, &mem, strlen(rows[i].want));
        llmgwi_json_put_base64(&buf, (const unsigned char *)rows[i].plain, rows[i].n);
        assert_int_equal(buf.failed, 0);
        assert_string_equal(llmgwi_base_buf_cstr(&buf), rows[i].want);
        llmgwi_base_buf_free(&buf);
    }
}

static void test_base64_over_the_cap(void **state) {
    llmgwi_base_buf buf;
    llmgwi_base_buf_init(&buf, &mem, 7);
    llmgwi_json_put_base64(&buf, (const unsigned char *)"abcd", 4);
    assert_int_equal(buf.failed, LLMGWI_BASE_OVER_CAP);
    assert_int_equal(buf.n, 0);
    llmgwi_base_buf_free(&buf);
    llmgwi_base_buf_init(&buf, &mem, SIZE_MAX / 2); /* a size whose base64 has no size */
    llmgwi_json_put_base64(&buf, (const unsigned char *)"", SIZE_MAX / 2);
    assert_int_equal(buf.failed, LLMGWI_BASE_OVER_CAP);
    llmgwi_base_buf_free(&buf);
}

/* ---- buffers ---- */

static void test_buffer_cap(void **state) {
    llmgwi_base_buf buf;
    llmgwi_base_buf_init(&buf, &mem, 10);
    assert_true(llmgwi_base_buf_add(&buf, "0123456789", 10));
    assert_true(llmgwi_base_buf_add(&buf, "", 0));
    assert_false(llmgwi_base_buf_add(&buf, "x", 1));
    assert_int_equal(buf.failed, LLMGWI_BASE_OVER_CAP);
    assert_false(llmgwi_base_buf_add(&buf, "", 0)); /* it stays so */
    assert_string_equal(buf.p, "0123456789");
    llmgwi_base_buf_clear(&buf);
    assert_true(llmgwi_base_buf_text(&buf, "again"));
    assert_string_equal(buf.p, "again");
    llmgwi_base_buf_free(&buf);
}

static void test_buffer_sizes_do_not_wrap(void **state) {
    llmgwi_base_buf buf;
    llmgwi_base_buf_init(&buf, &mem, 100);
    assert_true(llmgwi_base_buf_text(&buf, "abc"));
    assert_false(llmgwi_base_buf_reserve(&buf, SIZE_MAX));
    assert_int_equal(buf.failed, LLMGWI_BASE_OVER_CAP);
    llmgwi_base_buf_clear(&buf);
    assert_false(llmgwi_base_buf_reserve(&buf, SIZE_MAX - 2));
    llmgwi_base_buf_free(&buf);
}

/* A buffer of 100 bytes that holds some, then this text: what fits is taken, n never exceeds max, and a NUL
   stands behind it whatever happened. */
static void keeps_the_cap(size_t before, llmgwi_base_str text, size_t size, bool good) {
    llmgwi_base_buf buf;
    llmgwi_base_buf_init(&buf, &mem, 100);
    for (size_t i = 0; i < before; i++) llmgwi_base_buf_add(&buf, "-", 1);
    size_t at = llmgwi_json_put_escaped(&buf, text);
    assert_true(buf.n <= buf.max);
    assert_true(!buf.p || buf.p[buf.n] == 0);
    if (good) {
        assert_int_equal(at, text.n);
        assert_int_equal(buf.failed != 0, before + size > 100);
        if (!buf.failed) assert_int_equal(buf.n, before + size);
    }
    llmgwi_base_buf_free(&buf);
}

static void test_writer_keeps_the_cap(void **state) {
    char text[64];
    for (size_t before = 0; before <= 100; before++)
        for (size_t more = 0; more < sizeof text; more++) {
            memset(text, 'x', sizeof text);
            keeps_the_cap(before, llmgwi_base_view(text, more), more, true);
            text[3] = '\n';
            keeps_the_cap(before, llmgwi_base_view(text, more), more + (more > 3), true);
            text[more / 2] = '\xFF';
            keeps_the_cap(before, llmgwi_base_view(text, more), 0, false);
            memset(text, 1, sizeof text);
            keeps_the_cap(before, llmgwi_base_view(text, more), more * 6, true);
        }
}

static void test_writer_over_the_cap_at_every_size(void **state) {
    for (size_t max = 0; max < 40; max++) {
        llmgwi_base_buf buf;
        llmgwi_json_out out = {&buf, false};
        llmgwi_base_buf_init(&buf, &mem, max);
        llmgwi_json_open(&out, '{');
        llmgwi_json_pair(&out, "key", "va\nl\xC3\xA9");
        llmgwi_json_key(&out, "n");
        llmgwi_json_put_int(&out, 12345);
        llmgwi_json_close(&out, '}');
        assert_true(buf.n <= max);
        assert_int_equal(buf.failed == LLMGWI_BASE_FINE, max >= 27);
        if (!buf.failed) assert_string_equal(buf.p, "{\"key\":\"va\\nl\xC3\xA9\",\"n\":12345}");
        llmgwi_base_buf_free(&buf);
    }
}

static void *no_memory(void *ptr, size_t old_size, size_t new_size, void *user) { return NULL; }

static void test_writer_without_memory(void **state) {
    llmgwi_base_mem none = {no_memory, NULL};
    llmgwi_base_buf buf;
    llmgwi_json_out out = {&buf, false};
    llmgwi_base_buf_init(&buf, &none, 1000);
    llmgwi_json_open(&out, '{');
    llmgwi_json_pair(&out, "a", "\n\xC3\xA9");
    llmgwi_json_close(&out, '}');
    llmgwi_json_put_base64(&buf, (const unsigned char *)"x", 1);
    assert_int_equal(buf.failed, LLMGWI_BASE_NO_MEMORY);
    assert_string_equal(llmgwi_base_buf_cstr(&buf), "");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_take_structure),
    cmocka_unit_test(test_take_space),
    cmocka_unit_test(test_take_numbers),
    cmocka_unit_test(test_take_strings),
    cmocka_unit_test(test_take_lone_surrogates),
    cmocka_unit_test(test_take_duplicate_keys),
    cmocka_unit_test(test_refuse_arrays),
    cmocka_unit_test(test_refuse_objects),
    cmocka_unit_test(test_refuse_numbers),
    cmocka_unit_test(test_refuse_words),
    cmocka_unit_test(test_refuse_whole_texts),
    cmocka_unit_test(test_refuse_byte_order_marks),
    cmocka_unit_test(test_refuse_unterminated_strings),
    cmocka_unit_test(test_refuse_control_characters),
    cmocka_unit_test(test_refuse_every_control_character),
    cmocka_unit_test(test_refuse_escapes),
    cmocka_unit_test(test_refuse_utf8_overlong),
    cmocka_unit_test(test_refuse_utf8_surrogates_and_beyond),
    cmocka_unit_test(test_refuse_utf8_truncated),
    cmocka_unit_test(test_refuse_every_stray_byte),
    cmocka_unit_test(test_depth_exact),
    cmocka_unit_test(test_depth_hundred_thousand),
    cmocka_unit_test(test_depth_cap_is_kept),
    cmocka_unit_test(test_mixed_nesting),
    cmocka_unit_test(test_reading_allocates_nothing),
    cmocka_unit_test(test_duplicate_keys_come_in_order),
    cmocka_unit_test(test_keys_with_escapes),
    cmocka_unit_test(test_fully_escaped_names_of_the_wire),
    cmocka_unit_test(test_long_keys),
    cmocka_unit_test(test_unread_values_are_skipped),
    cmocka_unit_test(test_unread_values_are_validated),
    cmocka_unit_test(test_unread_document),
    cmocka_unit_test(test_open_containers_are_not_the_end),
    cmocka_unit_test(test_after_an_error_all_is_false),
    cmocka_unit_test(test_member_after_a_broken_member),
    cmocka_unit_test(test_wrong_kinds),
    cmocka_unit_test(test_peek),
    cmocka_unit_test(test_maybe),
    cmocka_unit_test(test_skip_gives_the_text),
    cmocka_unit_test(test_check_of_a_kind),
    cmocka_unit_test(test_decode),
    cmocka_unit_test(test_decode_lone_surrogates),
    cmocka_unit_test(test_every_code_point),
    cmocka_unit_test(test_strings_of_every_length),
    cmocka_unit_test(test_is),
    cmocka_unit_test(test_integers),
    cmocka_unit_test(test_integers_beyond),
    cmocka_unit_test(test_doubles),
    cmocka_unit_test(test_doubles_beyond),
    cmocka_unit_test(test_long_numbers),
    cmocka_unit_test(test_number_stands_before_other_text),
    cmocka_unit_test(test_count),
    cmocka_unit_test(test_count_is_capped),
    cmocka_unit_test(test_decimal_comma),
    cmocka_unit_test(test_locale_with_a_decimal_comma),
    cmocka_unit_test(test_write_strings),
    cmocka_unit_test(test_write_every_escape_everywhere),
    cmocka_unit_test(test_write_all_escapes_in_a_row),
    cmocka_unit_test(test_write_names_bad_utf8),
    cmocka_unit_test(test_write_commas),
    cmocka_unit_test(test_write_integers),
    cmocka_unit_test(test_write_doubles_short),
    cmocka_unit_test(test_write_doubles_round_trip),
    cmocka_unit_test(test_base64),
    cmocka_unit_test(test_base64_over_the_cap),
    cmocka_unit_test(test_buffer_cap),
    cmocka_unit_test(test_buffer_sizes_do_not_wrap),
    cmocka_unit_test(test_writer_keeps_the_cap),
    cmocka_unit_test(test_writer_over_the_cap_at_every_size),
    cmocka_unit_test(test_writer_without_memory),
};

int main(void) { return cmocka_run_group_tests_name("json", tests, NULL, NULL); }
