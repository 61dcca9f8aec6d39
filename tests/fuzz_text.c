/* Sentence ends, seams, tokens, schema: no crash, and what the text says does not depend on how it came. The
   first byte says how it is cut; the rest is the text. A newline with a NUL parts old text from new, schema
   from JSON.

   build/fuzz/fuzz_text -max_total_time=60 tests/corpus/text */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include "fuzz_main.h"

static void sentences_check(const char *p, size_t n, size_t step) {
    llmgwi_text_sentences one, cut, whole;
    size_t last = 0;
    llmgwi_text_sentences_init(&one);
    llmgwi_text_sentences_init(&cut);
    llmgwi_text_sentences_init(&whole);
    for (size_t i = 0; i <= n; i++) {
        size_t end = llmgwi_text_sentences_feed(&one, p, i, false);
        FUZZ_CHECK(end >= last && end <= i);
        if (i % step == 0) FUZZ_CHECK(llmgwi_text_sentences_feed(&cut, p, i, false) == end);
        last = end;
    }
    size_t end = llmgwi_text_sentences_feed(&whole, p, n, true);
    FUZZ_CHECK(end >= last && end <= n);
    FUZZ_CHECK(llmgwi_text_sentences_feed(&cut, p, n, true) == end);
}

/* What is known does not change when more comes. */
static void seam_check(const char *k, size_t kn, const char *n, size_t nn, size_t step) {
    size_t known = SIZE_MAX, all = llmgwi_text_seam(k, kn, n, nn, true);
    FUZZ_CHECK(all <= nn);
    for (size_t i = 0; i <= nn; i += step) {
        size_t drop = llmgwi_text_seam(k, kn, n, i, false);
        FUZZ_CHECK(known == SIZE_MAX || drop == known);
        FUZZ_CHECK(drop == SIZE_MAX || drop == all);
        known = drop;
    }
}

static void schema_check(const char *schema, size_t schema_n, const char *json, size_t json_n) {
    char why[64];
    bool good = llmgwi_schema_valid(llmgwi_base_view(schema, schema_n), llmgwi_base_view(json, json_n), 64,
                                    why, sizeof why);
    FUZZ_CHECK(good == (why[0] == 0) && strlen(why) < sizeof why);
    llmgwi_base_str bare = llmgwi_schema_unfence(llmgwi_base_view(json, json_n));
    FUZZ_CHECK(bare.n <= json_n && (bare.n == 0 || (bare.p >= json && bare.p + bare.n <= json + json_n)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    (void)fuzz_alloc; /* nothing here allocates */
    if (size == 0 || size > 4096) return 0;
    const char *p = (const char *)data + 1;
    size_t n = size - 1, step = 1 + data[0] % 16, first = 0;
    sentences_check(p, n, step);
    int64_t tokens = llmgwi_text_tokens(p, n);
    FUZZ_CHECK(tokens >= (n > 0) && tokens <= 2 * (int64_t)n + 1);
    while (first + 1 < n && !(p[first] == '\n' && p[first + 1] == 0)) first++;
    if (first + 1 >= n) return 0;
    seam_check(p, first, p + first + 2, n - first - 2, step);
    schema_check(p, first, p + first + 2, n - first - 2);
    return 0;
}
