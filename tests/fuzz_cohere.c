/* Replies, streams, errors and headers of the cohere dialect; see fuzz_dialect.inc.h.
     make build/fuzz/fuzz_cohere && build/fuzz/fuzz_cohere build/fuzz/corpus-cohere tests/corpus/cohere */
#include "fuzz_dialect.inc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return fuzz_dialect("cohere", data, size); }
