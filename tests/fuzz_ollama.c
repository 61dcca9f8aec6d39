/* Replies, streams, errors and headers of the ollama dialect; see fuzz_dialect.inc.h.
     make build/fuzz/fuzz_ollama && build/fuzz/fuzz_ollama build/fuzz/corpus-ollama tests/corpus/ollama */
#include "fuzz_dialect.inc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return fuzz_dialect("ollama", data, size); }
