/* ask.c - asks one question, waits for the answer, prints it.

       cc -I. examples/ask.c -o ask -lcurl -llmdb -lxxhash -lpthread -lm
       OPENAI_API_KEY=... ./ask "Why is the sky blue?"
       ANTHROPIC_API_KEY=... ./ask anthropic/claude-haiku-4-5 "Why is the sky blue?"

   A key in the environment is all it takes to reach a real provider. LLMGW_MODEL names another model,
   LLMGW_CONFIG a configuration file. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    const char *question = argc > 1 ? argv[argc - 1] : "Why is the sky blue?";
    const char *model = argc > 2 ? argv[1] : getenv("LLMGW_MODEL");
    if (!model) model = "openai/gpt-4o-mini";

    llmgw_options options = {.config_path = getenv("LLMGW_CONFIG")};
    llmgw *gw = llmgw_open(&options, NULL); /* NULL: a failure is told on stderr */

    llmgw_reply *reply = llmgw_ask(gw, model, question); /* never NULL, also without a gateway */
    int failed = reply->error.code != LLMGW_OK;
    if (failed)
        fprintf(stderr, "ask: %s\n", reply->error.text);
    else
        printf("%s\n", reply->text);

    llmgw_reply_free(reply);
    llmgw_close(gw);
    return failed;
}
