/* cache.c - keeps answers on disk: asks, asks the same again, asks alike, and tells what that saved. Run it twice:
   the second time nothing is asked of the provider.

       cc -I. examples/cache.c -o cache -lcurl -llmdb -lxxhash -lpthread -lm
       OPENAI_API_KEY=... ./cache "Why is the sky blue?" "Why is the sky so blue?"

   Or LLMGW_MODEL=anthropic/claude-haiku-4-5 with ANTHROPIC_API_KEY; LLMGW_CONFIG names a config file, LLMGW_STORE
   a directory instead of ~/.cache/llmgw. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <stdio.h>
#include <stdlib.h>

static bool ask(llmgw *gw, const char *model, const char *question) {
    llmgw_reply *reply = llmgw_ask(gw, model, question);
    bool failed = reply->error.code != LLMGW_OK;
    printf("%s\n  %s\n", question, failed ? reply->error.text : reply->text);
    printf("  [%s, %.2f ms", llmgw_verdict_name(reply->cached.verdict), (double)reply->elapsed_us / 1000);
    if (reply->cached.verdict == LLMGW_VERDICT_SEMANTIC)
        printf(", similarity %.2f", reply->cached.similarity);
    if (reply->cached.verdict == LLMGW_VERDICT_MISS) printf(": %s", reply->cached.reason);
    puts("]\n");
    llmgw_reply_free(reply);
    return failed;
}

int main(int argc, char **argv) {
    const char *model = getenv("LLMGW_MODEL"), *path = getenv("LLMGW_STORE");
    const char *first = argc > 1 ? argv[1] : "Why is the sky blue?";
    llmgw_options options = {.config_path = getenv("LLMGW_CONFIG")};
    options.store.path = path ? path : "~/.cache/llmgw";
    options.cache.on = true;
    options.cache.semantic = true;
    /* A fixed similarity promises nothing, but shows at once how like questions are found. Without it max_error is
       kept, and answers to like questions begin after some 360 of them: see the README. */
    options.cache.similarity = llmgw_set(0.6);
    llmgw *gw = llmgw_open(&options, NULL);
    if (!model) model = "openai/gpt-4o-mini";

    bool failed = ask(gw, model, first);
    failed |= ask(gw, model, first);
    llmgw_flush(gw); /* like questions are looked for among what is on disk */
    failed |= ask(gw, model, argc > 2 ? argv[2] : "Why is the sky so blue?");

    llmgw_cache_numbers n;
    if (llmgw_cache_stats(gw, NULL, &n))
        printf("no cache: %s\n", n.reason); /* the gateway works without it */
    else
        printf("%lld entries; of %lld requests %lld exact and %lld semantic hits, which saved %.1f ms\n",
               (long long)n.entries, (long long)n.requests, (long long)n.exact_hits,
               (long long)n.semantic_hits, (double)n.saved_us / 1000);
    llmgw_close(gw);
    return failed;
}
