/* Replies, streams, errors and headers of the anthropic dialect; see fuzz_dialect.inc.h.
     make build/fuzz/fuzz_anthropic && build/fuzz/fuzz_anthropic build/fuzz/corpus-anthropic tests/corpus/anthropic */
#include "fuzz_dialect.inc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return fuzz_dialect("anthropic", data, size); }
