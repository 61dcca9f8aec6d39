/* tools.c - the model may call a function of this program: it asks for the clock, is told, and answers.

       cc -I. examples/tools.c -o tools -lcurl -llmdb -lxxhash -lpthread -lm
       OPENAI_API_KEY=... ./tools "How long is it until midnight?"

   Or LLMGW_MODEL=anthropic/claude-haiku-4-5 with ANTHROPIC_API_KEY; LLMGW_CONFIG names a config file. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 8, CALLS = 16 }; /* at most; CALLS: in one round */
static const char zone[] = "{\"type\":\"object\",\"properties\":{\"zone\":{\"type\":\"string\","
                           "\"enum\":[\"local\",\"utc\"]}},\"required\":[\"zone\"]}";
static const llmgw_tool tools[] = {{.name = "clock", .description = "The time now", .parameters = zone}};

typedef struct exchange { /* what the model asked for, and what it was told */
    llmgw_reply *reply;
    llmgw_part results[CALLS];
    char texts[CALLS][64];
} exchange;

/* Answers each call. Arguments are JSON that a model wrote: read them with your JSON library, trust nothing. */
static llmgw_message run_tools(exchange *e) {
    size_t n = e->reply->tool_call_count;
    for (size_t i = 0; i < n; i++) {
        const llmgw_tool_call *call = &e->reply->tool_calls[i];
        time_t now = time(NULL);
        struct tm *t = strstr(call->arguments, "utc") ? gmtime(&now) : localtime(&now);
        strftime(e->texts[i], sizeof e->texts[i], "%Y-%m-%d %H:%M:%S %Z", t);
        e->results[i] = (llmgw_part){LLMGW_PART_TOOL_RESULT, .id = call->id, .text = e->texts[i]};
        printf("[%s(%s): %s]\n", call->name, call->arguments, e->texts[i]);
    }
    return (llmgw_message){LLMGW_ROLE_TOOL, .parts = e->results, .part_count = n};
}

int main(int argc, char **argv) {
    const char *model = getenv("LLMGW_MODEL");
    llmgw_options options = {.config_path = getenv("LLMGW_CONFIG")};
    llmgw *gw = llmgw_open(&options, NULL);
    llmgw_message turns[1 + 2 * ROUNDS] = {{.text = argc > 1 ? argv[1] : "What time is it?"}};
    llmgw_request request = {.messages = turns, .message_count = 1, .tools = tools, .tool_count = 1};
    request.model = model ? model : "openai/gpt-4o-mini";
    exchange done[ROUNDS] = {{0}}; /* freed last: turns point into them */
    bool more = true, failed = true;
    for (int i = 0; i < ROUNDS && more; i++) {
        const llmgw_reply *reply = done[i].reply = llmgw_chat(gw, &request);
        more = reply->finish == LLMGW_FINISH_TOOL && reply->tool_call_count <= CALLS;
        failed = more || reply->error.code;
        if (!more) puts(reply->error.code ? reply->error.text : reply->text);
        turns[request.message_count++] = reply->message;
        if (more) turns[request.message_count++] = run_tools(&done[i]);
    }
    for (int i = 0; i < ROUNDS; i++) llmgw_reply_free(done[i].reply);
    llmgw_close(gw);
    return failed;
}
