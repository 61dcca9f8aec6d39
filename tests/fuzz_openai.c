/* Replies, streams, errors and headers of the openai dialect; see fuzz_dialect.inc.h.
     make build/fuzz/fuzz_openai && build/fuzz/fuzz_openai build/fuzz/corpus-openai tests/corpus/openai */
#include "fuzz_dialect.inc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return fuzz_dialect("openai", data, size); }
