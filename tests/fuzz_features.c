/* The normal form and the features of texts: no crash, within their caps, sorted, and the normal form of a normal
   form is itself. A newline with a NUL parts two texts.

   build/fuzz/fuzz_features -max_total_time=60 tests/corpus/features */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include "fuzz_main.h"

static void normal_check(llmgwi_base_str text, const llmgwi_base_mem *mem) {
    llmgwi_base_buf once, twice;
    llmgwi_base_buf_init(&once, mem, 1 << 16);
    llmgwi_base_buf_init(&twice, mem, 1 << 16);
    FUZZ_CHECK(llmgwi_text_normal(text, &once));
    FUZZ_CHECK(once.n <= 3 * text.n);
    for (size_t i = 0; i < once.n;) {
        size_t size = fuzz_utf8(once.p + i, once.n - i);
        FUZZ_CHECK(size > 0 && !(once.p[i] >= 'A' && once.p[i] <= 'Z') && (unsigned char)once.p[i] >= ' ');
        FUZZ_CHECK(once.p[i] != ' ' || (i > 0 && i + 1 < once.n && once.p[i + 1] != ' '));
        i += size;
    }
    FUZZ_CHECK(llmgwi_text_normal(llmgwi_base_view(once.p, once.n), &twice));
    FUZZ_CHECK(twice.n == once.n && (once.n == 0 || memcmp(twice.p, once.p, once.n) == 0));
    llmgwi_base_buf_free(&once);
    llmgwi_base_buf_free(&twice);
}

static void features_check(llmgwi_base_str text, const llmgwi_base_mem *mem) {
    static llmgwi_text_features f, again;
    llmgwi_text_features_of(text, NULL, &f);
    FUZZ_CHECK(f.word_count <= LLMGWI_TEXT_WORDS && f.gram_count <= LLMGWI_TEXT_GRAMS);
    for (size_t i = 0; i < f.word_count; i++) {
        FUZZ_CHECK(i == 0 || f.words[i - 1] < f.words[i]);
        FUZZ_CHECK(f.rarity[i] > 0 && f.rarity[i] <= LLMGWI_TEXT_RARE);
    }
    for (size_t i = 1; i < f.gram_count; i++) FUZZ_CHECK(f.grams[i - 1] < f.grams[i]);
    /* words do not depend on case, nor on white space around the text */
    llmgwi_base_buf copy;
    llmgwi_base_buf_init(&copy, mem, 1 << 16);
    llmgwi_base_buf_add(&copy, " ", 1);
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i] >= 'A' && text.p[i] <= 'Z' ? (char)(text.p[i] + 32) : text.p[i];
        llmgwi_base_buf_add(&copy, &c, 1);
    }
    llmgwi_base_buf_add(&copy, "\n", 1);
    llmgwi_text_features_of(llmgwi_base_view(copy.p, copy.n), NULL, &again);
    FUZZ_CHECK(memcmp(&f, &again, sizeof f) == 0);
    llmgwi_base_buf_free(&copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_heap heap = {0};
    llmgwi_base_mem mem;
    memset(&mem, 0, sizeof mem);
    mem.fn = fuzz_alloc;
    mem.user = &heap;
    if (size > 8192) return 0;
    llmgwi_base_str text = llmgwi_base_view((const char *)data, size);
    normal_check(text, &mem);
    features_check(text, &mem);
    FUZZ_CHECK(heap.live == 0);
    return 0;
}
