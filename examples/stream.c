/* stream.c - prints an answer while it is being written. Ctrl-C ends the call, not just the program: the
   provider stops writing (and charging).

       cc -I. examples/stream.c -o stream -lcurl -llmdb -lxxhash -lpthread -lm
       OPENAI_API_KEY=... ./stream "Tell me a long story."

   Or LLMGW_MODEL=anthropic/claude-haiku-4-5 with ANTHROPIC_API_KEY; LLMGW_CONFIG names a config file. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static volatile sig_atomic_t interrupted;
static llmgw_code result;

static void on_interrupt(int number) {
    (void)number;
    interrupted = 1; /* no function of llmgw.h is safe in a signal handler: the loop below cancels */
}

static void on_event(const llmgw_event *event, void *user) {
    (void)user;
    if (event->kind == LLMGW_EVENT_TEXT) fwrite(event->text, 1, event->text_len, stdout);
    if (event->kind == LLMGW_EVENT_REWIND) fputs("\n[the connection broke: once more]\n", stdout);
    fflush(stdout);
    if (event->kind != LLMGW_EVENT_END) return;
    putchar('\n');
    result = event->reply->error.code;
    if (result) fprintf(stderr, "stream: %s\n", event->reply->error.text);
}

int main(int argc, char **argv) {
    const char *model = getenv("LLMGW_MODEL");
    llmgw_options options = {.config_path = getenv("LLMGW_CONFIG")};
    llmgw *gw = llmgw_open(&options, NULL);

    llmgw_request request = {0};
    request.model = model ? model : "openai/gpt-4o-mini";
    request.prompt = argc > 1 ? argv[1] : "Tell me a long story.";
    request.stream = true;
    request.on_event = on_event;

    llmgw_error error = {0};
    llmgw_call call = llmgw_send(gw, &request, &error);
    if (!call) fprintf(stderr, "stream: %s\n", error.text);

    signal(SIGINT, on_interrupt);
    while (llmgw_pending(gw)) {
        if (interrupted) llmgw_cancel(gw, call); /* END follows, with LLMGW_E_CANCELLED */
        llmgw_poll(gw, 100);
    }
    llmgw_close(gw);
    return interrupted ? 130 : !call || result;
}
