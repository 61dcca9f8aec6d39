/* Replies, streams and errors of the responses dialect; see fuzz_dialect.inc.h.
     make build/fuzz/fuzz_responses && build/fuzz/fuzz_responses build/fuzz/corpus-responses tests/corpus/responses */
#include "fuzz_dialect.inc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return fuzz_dialect("responses", data, size); }
