/* image.c - shows the model a picture: the bytes of a PNG or JPEG file, or a red square of its own.

       cc -I. examples/image.c -o image -lcurl -llmdb -lxxhash -lpthread -lm
       OPENAI_API_KEY=... ./image holiday.jpg "Where was this taken?"

   Or LLMGW_MODEL=anthropic/claude-haiku-4-5 with ANTHROPIC_API_KEY; LLMGW_CONFIG names a config file. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <stdio.h>
#include <stdlib.h>

/* A PNG of 16 x 16 pixels. */
static const unsigned char red_square[] = {
    137, 80,  78,  71,  13,  10,  26,  10, 0,  0,   0,   13,  73, 72,  68, 82,  0,   0,  0,  16,
    0,   0,   0,   16,  8,   2,   0,   0,  0,  144, 145, 104, 54, 0,   0,  0,   22,  73, 68, 65,
    84,  120, 218, 99,  248, 207, 192, 64, 18, 98,  24,  213, 48, 170, 97, 248, 106, 0,  0,  144,
    249, 255, 1,   242, 238, 232, 87,  0,  0,  0,   0,   73,  69, 78,  68, 174, 66,  96, 130};

static unsigned char file_bytes[8 << 20];

static size_t read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    size_t size = file ? fread(file_bytes, 1, sizeof file_bytes, file) : 0;
    if (file) fclose(file);
    return size;
}

int main(int argc, char **argv) {
    const char *model = getenv("LLMGW_MODEL");
    const unsigned char *picture = argc > 1 ? file_bytes : red_square;
    size_t size = argc > 1 ? read_file(argv[1]) : sizeof red_square;
    if (!size) return perror(argv[1]), 1;

    llmgw_part parts[2] = {{.kind = LLMGW_PART_TEXT}, {.kind = LLMGW_PART_IMAGE}};
    parts[0].text = argc > 2 ? argv[2] : "What is in this picture?";
    parts[1].data = picture; /* bytes, not base64 */
    parts[1].data_len = size;
    parts[1].mime = picture[0] == 0xFF ? "image/jpeg" : "image/png";
    llmgw_message message = {.parts = parts, .part_count = 2};
    llmgw_request request = {
        .model = model ? model : "openai/gpt-4o-mini", .messages = &message, .message_count = 1};

    llmgw_options options = {.config_path = getenv("LLMGW_CONFIG")};
    llmgw *gw = llmgw_open(&options, NULL);
    llmgw_reply *reply = llmgw_chat(gw, &request);
    bool failed = reply->error.code != LLMGW_OK;
    fprintf(failed ? stderr : stdout, "%s\n", failed ? reply->error.text : reply->text);
    llmgw_reply_free(reply);
    llmgw_close(gw);
    return failed;
}
