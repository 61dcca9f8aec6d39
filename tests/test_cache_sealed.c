/* All of test_cache.c over a sealed store. */
#define LLMGW_SODIUM
#define CACHE_KEY "0123456789abcdef0123456789abcdef"
#include "test_cache.c"
