/* game_loop.c - a game asks without ever waiting: one llmgw_poll(gw, 0) a frame, no thread, 60 frames a
   second, and the answer grows on screen as it comes.

       cc -I. examples/game_loop.c -o game_loop -lcurl -llmdb -lxxhash -lpthread -lm
       OPENAI_API_KEY=... ./game_loop "Greet the knight who enters your tavern."

   Or LLMGW_MODEL=anthropic/claude-haiku-4-5 with ANTHROPIC_API_KEY; LLMGW_CONFIG names a config file. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct npc { /* a game character and what it says */
    char speech[2000];
    size_t length;
    bool done, failed;
} npc;

static void on_event(const llmgw_event *event, void *user) {
    npc *who = user;
    size_t room = sizeof who->speech - 1 - who->length, n = event->text_len < room ? event->text_len : room;
    if (event->kind == LLMGW_EVENT_TEXT) memcpy(who->speech + who->length, event->text, n), who->length += n;
    if (event->kind == LLMGW_EVENT_REWIND && event->keep < who->length) who->length = event->keep;
    if (event->kind != LLMGW_EVENT_END) return;
    who->done = true;
    who->failed = event->reply->error.code != LLMGW_OK;
    if (who->failed) fprintf(stderr, "\ngame_loop: %s\n", event->reply->error.text);
}

int main(int argc, char **argv) {
    const char *model = getenv("LLMGW_MODEL");
    llmgw_options options = {.config_path = getenv("LLMGW_CONFIG")};
    llmgw *gw = llmgw_open(&options, NULL);

    npc keeper = {0};
    llmgw_request request = {0};
    request.model = model ? model : "openai/gpt-4o-mini";
    request.prompt = argc > 1 ? argv[1] : "Greet the knight who enters your tavern.";
    request.stream = true;
    request.on_event = on_event;
    request.user = &keeper;
    llmgw_error error;
    if (!llmgw_send(gw, &request, &error)) return fprintf(stderr, "game_loop: %s\n", error.text), 1;

    for (int frame = 0; !keeper.done; frame++) {
        llmgw_poll(gw, 0); /* callbacks run in here, on this thread; takes microseconds */
        int x = frame % 38 < 19 ? frame % 38 : 38 - frame % 38;
        printf("\r[%*s%*s] frame %d, %lu bytes said", x + 1, "o", 19 - x, "", frame,
               (unsigned long)keeper.length);
        fflush(stdout);
        nanosleep(&(struct timespec){0, 1000000000 / 60}, NULL);
    }
    printf("\n%.*s\n", (int)keeper.length, keeper.speech);
    llmgw_close(gw);
    return keeper.failed;
}
