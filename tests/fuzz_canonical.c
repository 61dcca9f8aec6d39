/* Bytes as a canonical form, and as JSON to be made canonical.
     make build/fuzz/fuzz_canonical && build/fuzz/fuzz_canonical build/fuzz/corpus-canonical tests/corpus/canonical
   What must hold:
     - bytes that read as a form give a request that every dialect can write or refuse, whose own form reads back and
       is its own form again
     - JSON's canonical text is JSON, says the same (jansson is the judge), and is its own canonical text
     - nothing is read beyond the input, and all memory is given back */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "fuzz_main.h"

#include <jansson.h>

static bool same_value(const json_t *a, const json_t *b) {
    const char *key;
    json_t *item;
    if (json_is_number(a) && json_is_number(b)) return json_number_value(a) == json_number_value(b);
    if (json_typeof(a) != json_typeof(b)) return false;
    if (json_is_array(a)) {
        bool same = json_array_size(a) == json_array_size(b);
        for (size_t i = 0; same && i < json_array_size(a); i++)
            same = same_value(json_array_get(a, i), json_array_get(b, i));
        return same;
    }
    if (!json_is_object(a)) return json_equal(a, b);
    bool same = json_object_size(a) == json_object_size(b);
    json_object_foreach((json_t *)(uintptr_t)a, key, item) {
        const json_t *other = json_object_get(b, key);
        same = same && other && same_value(item, other);
    }
    return same;
}

static void json_check(llmgwi_base_str text, const llmgwi_base_mem *mem) {
    llmgwi_base_buf out, again;
    llmgwi_base_buf_init(&out, mem, (size_t)1 << 24);
    llmgwi_base_buf_init(&again, mem, (size_t)1 << 24);
    if (llmgwi_json_canonical(text, &out, 64)) {
        FUZZ_CHECK(!llmgwi_json_check(llmgwi_base_buf_str(&out), LLMGWI_JSON_NONE, 64, NULL));
        FUZZ_CHECK(llmgwi_json_canonical(llmgwi_base_buf_str(&out), &again, 64));
        FUZZ_CHECK(out.n == again.n && memcmp(out.p, again.p, out.n) == 0);
        json_t *before = json_loadb(text.p, text.n, JSON_DECODE_ANY, NULL);
        json_t *after = json_loadb(out.p, out.n, JSON_DECODE_ANY, NULL);
        if (before && after) FUZZ_CHECK(same_value(before, after)); /* jansson has no numbers over 64 bits */
        json_decref(before);
        json_decref(after);
    } else {
        FUZZ_CHECK(out.n == 0 && !out.failed);
    }
    llmgwi_base_buf_free(&out);
    llmgwi_base_buf_free(&again);
}

static void write_check(const llmgw_request *request, const llmgwi_base_mem *mem) {
    static const char *const names[] = {"openai", "anthropic", "gemini", "mistral", "deepseek", "openrouter"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(names); i++) {
        const llmgwi_dialect_known *known = llmgwi_dialect_known_find(names[i], NULL);
        llmgwi_dialect_target target;
        llmgwi_base_buf body;
        llmgw_error error;
        memset(&target, 0, sizeof target);
        memset(&error, 0, sizeof error);
        target.model = request->model;
        target.flavour = known->name;
        target.quirks = llmgwi_dialect_quirks_of(known->dialect, known->name, target.model, known->url);
        llmgwi_base_buf_init(&body, mem, (size_t)1 << 20);
        bool good =
            llmgwi_dialect_write(llmgwi_dialect_find(known->dialect), &target, request, NULL, &body, &error);
        FUZZ_CHECK(good == (error.code == LLMGW_OK));
        llmgwi_base_buf_free(&body);
    }
}

static void form_check(llmgwi_base_str bytes, const llmgwi_base_mem *mem) {
    llmgwi_base_arena arena, second;
    llmgw_request request, back;
    llmgw_error error;
    llmgwi_cache_form one, other;
    memset(&one, 0, sizeof one);
    memset(&other, 0, sizeof other);
    llmgwi_base_arena_init(&arena, mem);
    llmgwi_base_arena_init(&second, mem);
    llmgwi_base_buf_init(&one.bytes, mem, (size_t)1 << 24);
    llmgwi_base_buf_init(&other.bytes, mem, (size_t)1 << 24);
    if (llmgwi_cache_form_read(bytes, &arena, &request)) {
        (void)llmgwi_public_check(&request, &error);
        write_check(&request, mem);
        FUZZ_CHECK(llmgwi_cache_form_of(&one, &request, request.model, true));
        if (!one.refused) {
            FUZZ_CHECK(one.ask_n ? one.ask_at + one.ask_n == one.bytes.n : one.unfit != NULL);
            FUZZ_CHECK(llmgwi_cache_form_read(llmgwi_base_buf_str(&one.bytes), &second, &back));
            FUZZ_CHECK(llmgwi_cache_form_of(&other, &back, back.model, true));
            FUZZ_CHECK(one.bytes.n == other.bytes.n && memcmp(one.bytes.p, other.bytes.p, one.bytes.n) == 0);
            FUZZ_CHECK(one.ask_n == other.ask_n && one.ask_at == other.ask_at);
        }
    }
    llmgwi_base_arena_free(&arena);
    llmgwi_base_arena_free(&second);
    llmgwi_base_buf_free(&one.bytes);
    llmgwi_base_buf_free(&other.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_heap heap = {0};
    llmgwi_base_mem mem = {fuzz_alloc, &heap};
    llmgwi_base_str bytes = llmgwi_base_view((const char *)data, size);
    json_check(bytes, &mem);
    form_check(bytes, &mem);
    FUZZ_CHECK(heap.live == 0);
    return 0;
}
