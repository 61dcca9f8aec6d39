/* Guards: no crash, no read beyond the text, nothing that differs from itself, the same both ways. A NUL parts one
   text from the other.

   build/fuzz/fuzz_guards -max_total_time=60 tests/corpus/guards */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include "fuzz_main.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    (void)fuzz_alloc; /* nothing here allocates */
    if (size > 20000) return 0;
    const char *p = (const char *)data, *zero = size ? (const char *)memchr(p, 0, size) : NULL;
    size_t n = zero ? (size_t)(zero - p) : size;
    llmgwi_base_str a = llmgwi_base_view(p, n),
                    b = llmgwi_base_view(zero ? zero + 1 : p, zero ? size - n - 1 : n);
    llmgwi_text_facts x, y;
    llmgwi_text_facts_of(a, &x);
    llmgwi_text_facts_of(b, &y);
    FUZZ_CHECK(x.count <= LLMGWI_TEXT_FACTS && y.count <= LLMGWI_TEXT_FACTS);
    FUZZ_CHECK(x.cut || !llmgwi_text_veto(&x, &x));
    FUZZ_CHECK((llmgwi_text_veto(&x, &y) != NULL) == (llmgwi_text_veto(&y, &x) != NULL));
    double there = llmgwi_text_alike(a, b), back = llmgwi_text_alike(b, a), self = llmgwi_text_alike(a, a);
    FUZZ_CHECK(there >= 0 && there <= 1 && there - back < 1e-9 && back - there < 1e-9);
    FUZZ_CHECK(self > .8);
    const char *unfit = llmgwi_text_unfit(a);
    FUZZ_CHECK(!unfit || unfit[0]);
    return 0;
}
