/* The JSON reader and writer over any bytes, against jansson.
     make build/fuzz/fuzz_json && build/fuzz/fuzz_json build/fuzz/corpus-json tests/corpus/json
   What must hold:
     - a walk that reads some values, skips others and leaves the rest unread accepts and rejects what a
       plain check does, with the error at the same byte; a wrong read makes it fail for good
     - jansson accepts the same texts and finds the same values. Known differences, all of them jansson's:
       it refuses numbers out of range, NUL in a key and lone surrogate escapes (U+FFFD for us), and its
       depth limit is 2048 (ours 1024); it takes a NUL byte after the value for the end of the text
     - what the writer writes of these values is read as the same values; the input, written as a string,
       comes back or is refused at its first byte that is no UTF-8; a cap is kept */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "fuzz_main.h"
#include <jansson.h>
#include <math.h>

typedef struct walk {
    llmgwi_json json;
    uint64_t random;
    bool wrong; /* a value was read as what it is not */
} walk;

static unsigned walk_random(walk *w) {
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(w->random >> 33);
}

/* ---- a walk at random ---- */

static void walk_value(walk *w);

static void walk_wrong(walk *w) {
    llmgwi_json_text text;
    llmgwi_json_number number;
    llmgwi_json_kind kind = llmgwi_json_peek(&w->json);
    w->wrong = true;
    if (kind == LLMGWI_JSON_STRING)
        FUZZ_CHECK(!llmgwi_json_get_number(&w->json, &number));
    else if (kind == LLMGWI_JSON_OBJECT)
        FUZZ_CHECK(!llmgwi_json_array(&w->json));
    else if (kind == LLMGWI_JSON_ARRAY)
        FUZZ_CHECK(!llmgwi_json_object(&w->json));
    else
        FUZZ_CHECK(!llmgwi_json_string(&w->json, &text));
    FUZZ_CHECK(w->json.error);
}

static void walk_scalar(walk *w, llmgwi_json_kind kind) {
    llmgwi_json_text text;
    llmgwi_json_number number;
    int64_t count = 7;
    unsigned how = walk_random(w) % 3;
    if (kind == LLMGWI_JSON_STRING && how == 0) {
        if (llmgwi_json_maybe(&w->json, &text)) FUZZ_CHECK(text.raw.p > w->json.start);
    } else if (kind == LLMGWI_JSON_STRING) {
        if (!llmgwi_json_string(&w->json, &text)) return;
        FUZZ_CHECK(text.escaped == (memchr(text.raw.p, '\\', text.raw.n) != NULL));
        (void)llmgwi_json_is(text, "model");
    } else if (kind == LLMGWI_JSON_NUMBER && how == 0) {
        if (llmgwi_json_count(&w->json, &count)) FUZZ_CHECK(count >= 0);
    } else if (kind == LLMGWI_JSON_NUMBER) {
        if (!llmgwi_json_get_number(&w->json, &number)) return;
        FUZZ_CHECK(!number.integer || number.d == (double)number.i);
    } else {
        (void)llmgwi_json_maybe(&w->json, &text);
    }
}

static void walk_value(walk *w) {
    llmgwi_json *json = &w->json;
    llmgwi_json_kind kind = llmgwi_json_peek(json);
    llmgwi_base_str key, raw;
    unsigned how = walk_random(w) % 64;
    if (how < 8) return; /* unread: the next call skips it */
    if (how == 63 && walk_random(w) % 4 == 0) {
        walk_wrong(w);
    } else if (how < 16) {
        if (!llmgwi_json_skip(json, &raw)) return;
        FUZZ_CHECK(raw.p >= json->start && raw.p + raw.n == json->p && raw.n);
        FUZZ_CHECK(!llmgwi_json_check(raw, kind, LLMGWI_JSON_MAX_DEPTH, NULL));
    } else if (kind == LLMGWI_JSON_OBJECT) {
        if (!llmgwi_json_object(json)) return;
        while (llmgwi_json_member(json, &key)) walk_value(w);
    } else if (kind == LLMGWI_JSON_ARRAY) {
        if (!llmgwi_json_array(json)) return;
        while (llmgwi_json_item(json)) walk_value(w);
    } else {
        walk_scalar(w, kind);
    }
}

static void walk_check(const char *text, size_t size, uint64_t seed, const char *error, size_t at) {
    walk w;
    llmgwi_base_str key;
    llmgwi_json_init(&w.json, text, size, LLMGWI_JSON_MAX_DEPTH);
    w.random = seed;
    w.wrong = false;
    walk_value(&w);
    bool good = llmgwi_json_end(&w.json);
    FUZZ_CHECK(good == !w.json.error);
    FUZZ_CHECK(w.json.p >= w.json.start && w.json.p <= w.json.end);
    if (good) {
        FUZZ_CHECK(!error && !w.wrong && w.json.depth == 0 && w.json.p == w.json.end);
        return;
    }
    FUZZ_CHECK(w.json.error_at <= size);
    if (strcmp(w.json.error, "number too long") != 0 && !w.wrong)
        FUZZ_CHECK(error && w.json.error_at == at && strcmp(w.json.error, error) == 0);
    FUZZ_CHECK(!llmgwi_json_member(&w.json, &key) && !llmgwi_json_item(&w.json));
    FUZZ_CHECK(!llmgwi_json_object(&w.json) && !llmgwi_json_array(&w.json));
    FUZZ_CHECK(!llmgwi_json_skip(&w.json, &key) && !llmgwi_json_end(&w.json));
    FUZZ_CHECK(llmgwi_json_peek(&w.json) == LLMGWI_JSON_NONE);
}

/* ---- our values as jansson's ---- */

typedef struct tree {
    llmgwi_json json;
    bool inexact; /* holds a number that jansson cannot hold */
    bool nul_key;
    llmgwi_base_mem mem;
} tree;

static json_t *tree_value(tree *t);

static json_t *tree_string(tree *t) {
    llmgwi_json_text text;
    llmgwi_base_buf buf;
    llmgwi_base_buf_init(&buf, &t->mem, SIZE_MAX / 2);
    FUZZ_CHECK(llmgwi_json_string(&t->json, &text) && llmgwi_json_unescape(text, &buf));
    for (size_t i = 0, step; i < buf.n; i += step) FUZZ_CHECK((step = fuzz_utf8(buf.p + i, buf.n - i)) > 0);
    json_t *value = json_stringn(llmgwi_base_buf_cstr(&buf), buf.n);
    FUZZ_CHECK(value);
    llmgwi_base_buf_free(&buf);
    return value;
}

static json_t *tree_number(tree *t) {
    llmgwi_json_number number;
    if (!llmgwi_json_get_number(&t->json, &number)) {
        FUZZ_CHECK(number.raw.n > LLMGWI_JSON_NUMBER_BYTES);
        t->inexact = true;
        return json_null();
    }
    if (number.integer) return json_integer(number.i);
    bool whole = true; /* but beyond int64_t */
    for (size_t i = 0; i < number.raw.n; i++)
        if (strchr(".eE", number.raw.p[i])) whole = false;
    if (whole || !isfinite(number.d)) t->inexact = true;
    return isfinite(number.d) ? json_real(number.d) : json_null();
}

static json_t *tree_object(tree *t) {
    json_t *object = json_object();
    llmgwi_base_str key;
    char *long_key = NULL;
    FUZZ_CHECK(object && llmgwi_json_object(&t->json));
    while (llmgwi_json_member(&t->json, &key)) {
        llmgwi_json_text text = {key, true};
        char small[LLMGWI_JSON_KEY]; /* the values below use json.key too */
        if (key.p == t->json.key) {
            memcpy(small, key.p, key.n);
            key.p = small;
        } else if (memchr(key.p, '\\', key.n)) { /* too long for json.key: still raw */
            FUZZ_CHECK(key.n >= LLMGWI_JSON_KEY);
            FUZZ_CHECK((long_key = (char *)malloc(key.n)));
            key = llmgwi_base_view(long_key, llmgwi_json_decode(text, long_key));
        }
        if (memchr(key.p, 0, key.n)) t->nul_key = true;
        json_t *value = tree_value(t);
        FUZZ_CHECK(json_object_setn_new_nocheck(object, key.p, key.n, value) == 0);
        free(long_key);
        long_key = NULL;
    }
    return object;
}

static json_t *tree_value(tree *t) {
    llmgwi_json_kind kind = llmgwi_json_peek(&t->json);
    if (t->json.error) return json_null(); /* a number too long before */
    if (kind == LLMGWI_JSON_STRING) return tree_string(t);
    if (kind == LLMGWI_JSON_NUMBER) return tree_number(t);
    if (kind == LLMGWI_JSON_OBJECT) return tree_object(t);
    if (kind == LLMGWI_JSON_ARRAY) {
        json_t *array = json_array();
        FUZZ_CHECK(array && llmgwi_json_array(&t->json));
        while (llmgwi_json_item(&t->json)) FUZZ_CHECK(json_array_append_new(array, tree_value(t)) == 0);
        return array;
    }
    FUZZ_CHECK(llmgwi_json_skip(&t->json, NULL));
    return kind == LLMGWI_JSON_TRUE ? json_true() : kind == LLMGWI_JSON_FALSE ? json_false() : json_null();
}

static json_t *tree_read(tree *t, const char *text, size_t size) {
    memset(t, 0, sizeof *t);
    llmgwi_json_init(&t->json, text, size, LLMGWI_JSON_MAX_DEPTH);
    json_t *value = tree_value(t);
    FUZZ_CHECK(value && (llmgwi_json_end(&t->json) || t->inexact));
    return value;
}

/* ---- the writer ---- */

static void write_value(llmgwi_json_out *out, json_t *value) {
    const char *key;
    json_t *below;
    size_t i, n;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        llmgwi_json_open(out, '{');
        json_object_keylen_foreach(value, key, n, below) {
            FUZZ_CHECK(llmgwi_json_put(out, llmgwi_base_view(key, n)) == n);
            llmgwi_base_buf_add(out->buf, ":", 1);
            out->comma = false;
            write_value(out, below);
        }
        llmgwi_json_close(out, '}');
        break;
    case JSON_ARRAY:
        llmgwi_json_open(out, '[');
        json_array_foreach(value, i, below) write_value(out, below);
        llmgwi_json_close(out, ']');
        break;
    case JSON_STRING:
        n = json_string_length(value);
        FUZZ_CHECK(llmgwi_json_put(out, llmgwi_base_view(json_string_value(value), n)) == n);
        break;
    case JSON_INTEGER: llmgwi_json_put_int(out, json_integer_value(value)); break;
    case JSON_REAL: llmgwi_json_put_double(out, json_real_value(value)); break;
    case JSON_TRUE: llmgwi_json_raw(out, llmgwi_base_cstr("true")); break;
    case JSON_FALSE: llmgwi_json_raw(out, llmgwi_base_cstr("false")); break;
    case JSON_NULL: llmgwi_json_raw(out, llmgwi_base_cstr("null")); break;
    }
}

/* json_equal, but a whole real comes back as an integer. */
static bool same(json_t *a, json_t *b) {
    const char *key;
    json_t *below;
    size_t i, n;
    if (json_is_number(a) && json_is_number(b) && json_typeof(a) != json_typeof(b))
        return json_number_value(a) == json_number_value(b);
    if (json_typeof(a) != json_typeof(b)) return false;
    if (json_is_object(a)) {
        if (json_object_size(a) != json_object_size(b)) return false;
        json_object_keylen_foreach(a, key, n, below) {
            json_t *other = json_object_getn(b, key, n);
            if (!other || !same(below, other)) return false;
        }
        return true;
    }
    if (json_is_array(a)) {
        if (json_array_size(a) != json_array_size(b)) return false;
        json_array_foreach(a, i, below) if (!same(below, json_array_get(b, i))) return false;
        return true;
    }
    return json_equal(a, b);
}

static void write_check(json_t *value) {
    fuzz_heap heap = {0};
    llmgwi_base_mem mem = {fuzz_alloc, &heap};
    llmgwi_base_buf buf;
    llmgwi_json_out out = {&buf, false};
    tree again;
    llmgwi_base_buf_init(&buf, &mem, SIZE_MAX / 2);
    write_value(&out, value);
    FUZZ_CHECK(!buf.failed && strlen(buf.p) == buf.n);
    json_t *back = tree_read(&again, buf.p, buf.n);
    FUZZ_CHECK(same(value, back));
    json_decref(back);
    llmgwi_base_buf_free(&buf);
    FUZZ_CHECK(heap.live == 0);
}

/* The input as the text of a string: bad UTF-8 is found where it is, good text comes back; under a cap too. */
static void escape_check(const char *text, size_t size, size_t cap) {
    fuzz_heap heap = {0};
    llmgwi_base_mem mem = {fuzz_alloc, &heap};
    llmgwi_base_buf all, part, back;
    llmgwi_json_out out = {&all, false};
    llmgwi_json json;
    llmgwi_json_text string;
    size_t good = 0;
    for (size_t step; good < size && (step = fuzz_utf8(text + good, size - good)) > 0;) good += step;
    llmgwi_base_buf_init(&all, &mem, SIZE_MAX / 2);
    llmgwi_base_buf_init(&part, &mem, cap);
    llmgwi_base_buf_init(&back, &mem, SIZE_MAX / 2);
    FUZZ_CHECK(llmgwi_json_put(&out, llmgwi_base_view(text, size)) == good && all.p[all.n] == 0);
    if (good == size) {
        llmgwi_json_init(&json, all.p, all.n, 1);
        FUZZ_CHECK(llmgwi_json_string(&json, &string) && llmgwi_json_end(&json));
        FUZZ_CHECK(llmgwi_json_unescape(string, &back) && back.n == size);
        FUZZ_CHECK(size == 0 || memcmp(back.p, text, size) == 0);
    }
    out.buf = &part;
    out.comma = false;
    (void)llmgwi_json_put(&out, llmgwi_base_view(text, size));
    FUZZ_CHECK(part.n <= cap && (!part.p || part.p[part.n] == 0));
    if (good == size) FUZZ_CHECK((part.failed != 0) == (all.n > cap));
    if (good == size && !part.failed) FUZZ_CHECK(part.n == all.n && memcmp(part.p, all.p, all.n) == 0);
    llmgwi_base_buf_free(&all);
    llmgwi_base_buf_free(&part);
    llmgwi_base_buf_free(&back);
    FUZZ_CHECK(heap.live == 0);
}

/* ---- jansson's opinion ---- */

/* A \u escape of half a character without its other half. */
static bool lone_surrogate(const char *p, size_t n) {
    for (size_t i = 0; i + 6 <= n;) {
        if (p[i] != '\\') {
            i++;
            continue;
        }
        int point = p[i + 1] == 'u' ? llmgwi_json_hex(p + i + 2, p + n) : 0;
        int low = point >= 0xD800 && point < 0xDC00 && i + 12 <= n && p[i + 6] == '\\' && p[i + 7] == 'u'
                      ? llmgwi_json_hex(p + i + 8, p + n)
                      : 0;
        bool pair = low >= 0xDC00 && low < 0xE000;
        if (point >= 0xD800 && point < 0xE000 && !pair) return true;
        i += pair ? 12 : point ? 6 : 2;
    }
    return false;
}

static bool difference_known(enum json_error_code code, const char *text, size_t size, const tree *t) {
    return code == json_error_numeric_overflow || code == json_error_null_byte_in_key || t->nul_key ||
           lone_surrogate(text, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data;
    size_t at = 0;
    const char *error =
        llmgwi_json_check(llmgwi_base_view(text, size), LLMGWI_JSON_NONE, LLMGWI_JSON_MAX_DEPTH, &at);
    FUZZ_CHECK(at <= size);
    uint64_t seed = XXH3_64bits(data, size);
    for (unsigned i = 0; i < 3; i++) walk_check(text, size, seed + i, error, at);
    escape_check(text, size, (size_t)(seed % (2 * size + 8)));
    json_error_t said;
    json_t *theirs = json_loadb(text, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, &said);
    if (error) {
        bool known = strcmp(error, "nested too deeply") == 0 || (at < size && text[at] == 0);
        FUZZ_CHECK(!theirs || known);
        json_decref(theirs);
        return 0;
    }
    tree t;
    json_t *ours = tree_read(&t, text, size);
    FUZZ_CHECK(theirs || difference_known(json_error_code(&said), text, size, &t));
    if (theirs && !t.inexact) FUZZ_CHECK(json_equal(ours, theirs));
    write_check(ours);
    json_decref(theirs);
    json_decref(ours);
    return 0;
}
