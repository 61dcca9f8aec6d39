/* Replies, streams, errors and headers of the bedrock dialect; see fuzz_dialect.inc.h. A stream is lines of
   "name TAB data" in place of binary messages, which fuzz_eventstream has: no fuzzer finds their checksums.
     make build/fuzz/fuzz_bedrock && build/fuzz/fuzz_bedrock build/fuzz/corpus-bedrock tests/corpus/bedrock */
#include "fuzz_dialect.inc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return fuzz_dialect("bedrock", data, size); }
