/* Replies, streams, errors and headers of the gemini dialect; see fuzz_dialect.inc.h.
     make build/fuzz/fuzz_gemini && build/fuzz/fuzz_gemini build/fuzz/corpus-gemini tests/corpus/gemini */
#include "fuzz_dialect.inc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return fuzz_dialect("gemini", data, size); }
