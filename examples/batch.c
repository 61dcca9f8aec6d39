/* batch.c - many questions at half the price, answered within a day.

       cc -I. examples/batch.c -o batch -lcurl -llmdb -lxxhash -lpthread -lm
       OPENAI_API_KEY=... ./batch                               submits, and prints the batch's name
       OPENAI_API_KEY=... ./batch openai/gpt-4o-mini/batch_abc  another day: how it stands, or its results

   LLMGW_MODEL=anthropic/claude-haiku-4-5 does the same at Anthropic. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <stdio.h>
#include <stdlib.h>

static bool print_result(const char *custom_id, const llmgw_reply *reply, void *user) {
    (void)user;
    printf("%s: %s\n", custom_id, reply->error.code ? reply->error.text : reply->text);
    return true; /* go on */
}

static int submit(llmgw *gw) {
    static const char *const questions[] = {"Why is the sky blue?", "Why is grass green?",
                                            "Why is snow white?"};
    static const char *const ids[] = {"sky", "grass", "snow"};
    llmgw_request requests[3] = {{0}};
    llmgw_error error;
    char id[LLMGW_BATCH_ID];
    for (int i = 0; i < 3; i++) {
        requests[i].prompt = questions[i];
        requests[i].max_tokens = 200;
    }
    llmgw_batch batch = {.requests = requests, .count = 3, .ids = ids};
    batch.model = getenv("LLMGW_MODEL") ? getenv("LLMGW_MODEL") : "openai/gpt-4o-mini";
    if (llmgw_batch_submit(gw, &batch, id, &error)) {
        fprintf(stderr, "batch: %s\n", error.text);
        return 1;
    }
    printf("%s\n", id);
    return 0;
}

int main(int argc, char **argv) {
    llmgw_options options = {.config_path = getenv("LLMGW_CONFIG")};
    llmgw_batch_info info;
    llmgw_error error;
    llmgw *gw = llmgw_open(&options, NULL);
    int failed = argc < 2 ? submit(gw) : llmgw_batch_status(gw, argv[1], NULL, &info, &error) != LLMGW_OK;
    if (argc > 1 && !failed)
        printf("%s: %lld of %lld answered\n", llmgw_batch_state_name(info.state), (long long)info.succeeded,
               (long long)info.total);
    if (argc > 1 && !failed && info.over)
        failed = llmgw_batch_results(gw, argv[1], NULL, print_result, NULL, &error) < 0;
    if (argc > 1 && failed) fprintf(stderr, "batch: %s\n", error.text);
    llmgw_close(gw);
    return failed;
}
