/* Gemini's streamed arguments: an object taken apart into (path, value) pairs comes together again.
     make build/fuzz/fuzz_gemini_args && build/fuzz/fuzz_gemini_args build/fuzz/corpus-gemini_args tests/corpus/gemini_args
   Input: JSON. If it is an object that paths can say (no empty object or list in it, no odd keys), jansson
   takes it apart; how it is cut into events depends on a hash of the input. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "fuzz_main.h"
#include <jansson.h>

static fuzz_heap heap;
static const llmgwi_base_mem mem = {fuzz_alloc, &heap};

typedef struct apart {
    llmgwi_dialect_answer *answer;
    json_t *pending; /* partialArgs of the next event */
    uint64_t random;
    bool named, ended;
} apart;

static unsigned apart_random(apart *a, unsigned n) {
    a->random = a->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(a->random >> 33) % n;
}

/* Sends what is pending; last: the call is complete. */
static void apart_send(apart *a, bool last) {
    json_t *call = json_object();
    if (!a->named) json_object_set_new(call, "name", json_string("f"));
    if (json_array_size(a->pending)) json_object_set(call, "partialArgs", a->pending);
    if (!last) json_object_set_new(call, "willContinue", json_true());
    json_t *event =
        json_pack("{s:[{s:{s:[{s:o}]}}]}", "candidates", "content", "parts", "functionCall", call);
    FUZZ_CHECK(event);
    char *text = json_dumps(event, JSON_COMPACT | JSON_REAL_PRECISION(17));
    FUZZ_CHECK(text);
    const llmgwi_dialect *gemini = llmgwi_dialect_find("gemini");
    FUZZ_CHECK(gemini->event(a->answer, llmgwi_base_cstr(""), llmgwi_base_cstr(text)));
    a->named = true;
    a->ended = last;
    free(text);
    json_decref(event);
    json_array_clear(a->pending);
}

static void apart_pair(apart *a, const char *path, const char *field, json_t *value, bool more) {
    json_t *pair = json_pack("{s:s, s:o}", "jsonPath", path, field, value);
    FUZZ_CHECK(pair);
    if (more) json_object_set_new(pair, "willContinue", json_true());
    json_array_append_new(a->pending, pair);
    if (apart_random(a, 3) == 0) apart_send(a, false);
}

/* A text in up to four pieces, some empty. */
static void apart_string(apart *a, const char *path, json_t *value) {
    const char *p = json_string_value(value);
    size_t n = json_string_length(value);
    for (unsigned pieces = apart_random(a, 4); pieces > 0; pieces--) {
        size_t size = n ? apart_random(a, (unsigned)n + 1) : 0;
        while (size && size < n && ((unsigned char)p[size] & 0xC0) == 0x80) size--;
        apart_pair(a, path, "stringValue", json_stringn(p, size), true);
        p += size;
        n -= size;
    }
    apart_pair(a, path, "stringValue", json_stringn(p, n), false);
}

static void apart_value(apart *a, char *path, size_t room, json_t *value) {
    size_t n = strlen(path), i;
    const char *key;
    json_t *below;
    if (json_is_object(value)) {
        json_object_foreach(value, key, below) {
            bool plain = !strpbrk(key, " ") && apart_random(a, 4);
            snprintf(path + n, room - n, plain ? ".%s" : "['%s']", key);
            apart_value(a, path, room, below);
        }
    } else if (json_is_array(value)) {
        json_array_foreach(value, i, below) {
            snprintf(path + n, room - n, "[%lu]", (unsigned long)i);
            apart_value(a, path, room, below);
        }
    } else if (json_is_string(value)) {
        apart_string(a, path, value);
    } else if (json_is_number(value)) {
        apart_pair(a, path, "numberValue", json_incref(value), false);
    } else if (json_is_boolean(value)) {
        apart_pair(a, path, "boolValue", json_incref(value), false);
    } else {
        apart_pair(a, path, "nullValue", json_string("NULL_VALUE"), false);
    }
    path[n] = 0;
}

/* Can paths say it? long: bytes of the path so far. */
static bool sayable(json_t *value, size_t length) {
    const char *key;
    json_t *below;
    size_t i, n;
    if (length > 200) return false;
    if (json_is_object(value)) {
        if (!json_object_size(value)) return false;
        json_object_keylen_foreach(value, key, n, below) {
            if (n == 0 || strlen(key) != n || strpbrk(key, ".[]'\"\\")) return false;
            if (!sayable(below, length + n + 4)) return false;
        }
    } else if (json_is_array(value)) {
        if (!json_array_size(value)) return false;
        json_array_foreach(value, i, below) if (!sayable(below, length + 8)) return false;
    }
    return true;
}

static void together(json_t *value, uint64_t seed) {
    llmgwi_dialect_target target = {"m", "gemini", 0, NULL};
    llmgwi_dialect_answer answer;
    char path[512] = "$";
    json_error_t why;
    llmgwi_dialect_answer_init(&answer, &mem, &target, 1 << 20, 256);
    apart a = {&answer, json_array(), seed, false, false};
    if (apart_random(&a, 2)) apart_send(&a, false);
    apart_value(&a, path, sizeof path, value);
    apart_send(&a, true);
    llmgwi_dialect_settle(&answer);
    FUZZ_CHECK(!answer.error.code && answer.piece_count == 1 && answer.finish == LLMGW_FINISH_TOOL);
    const llmgwi_base_buf *arguments = &answer.pieces[0].arguments;
    json_t *back = json_loadb(arguments->p, arguments->n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (!back || !json_equal(back, value)) fprintf(stderr, "arguments: %s\n", arguments->p);
    FUZZ_CHECK(back && json_equal(back, value));
    json_decref(back);
    json_decref(a.pending);
    llmgwi_dialect_answer_free(&answer);
    FUZZ_CHECK(heap.live == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_error_t why;
    json_t *value = json_loadb((const char *)data, size, JSON_ALLOW_NUL, &why);
    uint64_t seed = XXH3_64bits(data, size);
    if (json_is_object(value) && sayable(value, 1))
        for (unsigned i = 0; i < 4; i++) together(value, seed + i);
    json_decref(value);
    return 0;
}
