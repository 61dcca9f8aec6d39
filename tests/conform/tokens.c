/* tokens.c - how many tokens llmgw.h takes texts for. Reads a JSON array of texts on standard input, writes a number for each
 * on a line. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include <jansson.h>

int main(void) {
    json_t *texts = json_loadf(stdin, JSON_ALLOW_NUL, NULL), *text;
    size_t i;
    if (!json_is_array(texts)) return 1;
    json_array_foreach(texts, i, text) {
        llmgw_request request;
        memset(&request, 0, sizeof request);
        request.prompt = json_string_value(text);
        printf("%lld\n", (long long)(llmgwi_dialect_request_tokens(&request) - 8)); /* less a chat's frame */
    }
    json_decref(texts);
    return 0;
}
