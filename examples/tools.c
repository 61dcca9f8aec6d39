/* tools.c - the model may call a function of this program: it asks for the clock, is told, and answers.

       cc -I. examples/tools.c -o tools -lcurl -lxxhash -lpthread
       OPENAI_API_KEY=... ./tools "How long is it until midnight?"

   LLMGW_MODEL names another model ("anthropic/claude-haiku-4-5" with ANTHROPIC_API_KEY), LLMGW_CONFIG a
   configuration file. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 8, CALLS = 16 }; /* at most; calls: in one round */

typedef struct tool_round { /* what the model asked for, and what it was told */
    llmgw_reply *reply;
    llmgw_part results[CALLS];
    char texts[CALLS][64];
} tool_round;

/* Runs the tool for each call. The arguments are JSON, written by the model: check them with your JSON
   library. To tell one word from another, looking for it will do. */
static llmgw_message run_tools(tool_round *round) {
    for (size_t i = 0; i < round->reply->tool_call_count; i++) {
        const llmgw_tool_call *call = &round->reply->tool_calls[i];
        time_t now = time(NULL);
        struct tm *local = strstr(call->arguments, "\"utc\"") ? gmtime(&now) : localtime(&now);
        strftime(round->texts[i], sizeof round->texts[i], "%Y-%m-%d %H:%M:%S %Z", local);
        round->results[i].kind = LLMGW_PART_TOOL_RESULT;
        round->results[i].id = call->id; /* which call it answers */
        round->results[i].text = round->texts[i];
        printf("[%s(%s): %s]\n", call->name, call->arguments, round->texts[i]);
    }
    return (llmgw_message){LLMGW_ROLE_TOOL, NULL, round->results, round->reply->tool_call_count};
}

int main(int argc, char **argv) {
    llmgw_options options = {0};
    options.config_path = getenv("LLMGW_CONFIG");
    llmgw *gw = llmgw_open(&options, NULL);
    const char *shape = "{\"type\":\"object\",\"properties\":{\"zone\":{\"enum\":[\"local\",\"utc\"]}}}";
    llmgw_tool clock_tool = {"clock", "The date and time now", shape, false};
    llmgw_message turns[1 + 2 * ROUNDS] = {{LLMGW_ROLE_USER, argc > 1 ? argv[1] : "What time is it?", NULL, 0}};
    llmgw_request request = {0};
    request.model = getenv("LLMGW_MODEL") ? getenv("LLMGW_MODEL") : "openai/gpt-4o-mini";
    request.tools = &clock_tool, request.tool_count = 1;
    request.messages = turns, request.message_count = 1;

    tool_round rounds[ROUNDS] = {{0}}; /* to the end: turns point into them */
    for (int i = 0; i < ROUNDS; i++) {
        const llmgw_reply *reply = rounds[i].reply = llmgw_chat(gw, &request);
        if (reply->finish != LLMGW_FINISH_TOOL || reply->tool_call_count > CALLS) {
            puts(reply->error.code ? reply->error.text : reply->text);
            break;
        }
        turns[request.message_count++] = reply->message;
        turns[request.message_count++] = run_tools(&rounds[i]);
    }
    ...
