/* limits.c - two keys of one account, each allowed three requests a minute: the seventh question would have to
   wait, and is refused at once because it may not wait that long. Then prints what is used, and how well it went.

       cc -I. examples/limits.c -o limits -lcurl -llmdb -lxxhash -lpthread -lm
       OPENAI_API_KEY=... OPENAI_API_KEY_2=... ./limits

   A key that is not set is left out. OPENAI_BASE_URL names another server that speaks like OpenAI's. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <stdio.h>
#include <stdlib.h>

int main(void) {
    const char *keys[] = {"env:OPENAI_API_KEY", "env:OPENAI_API_KEY_2"};
    llmgw_provider provider = {.name = "openai", .url = getenv("OPENAI_BASE_URL")};
    provider.keys = keys;
    provider.key_count = 2;
    provider.rpm = 3; /* of each key, over any 60 seconds */
    llmgw_options options = {.providers = &provider, .provider_count = 1, .deadline_ms = 20000};
    llmgw *gw = llmgw_open(&options, NULL);
    if (!gw) return 1;

    for (int i = 1; i <= 7; i++) {
        llmgw_reply *reply = llmgw_ask(gw, "openai/gpt-4o-mini", "Name a bird, in one word.");
        if (reply->error.code == LLMGW_E_LIMIT)
            printf("%d: come back in %lld s\n", i, (long long)reply->error.retry_after_ms / 1000);
        else
            printf("%d: %s\n", i, reply->error.code ? reply->error.text : reply->text);
        llmgw_reply_free(reply);
    }

    llmgw_limit limits[8];
    size_t count = llmgw_limits(gw, limits, 8); /* how many there are, which may be more */
    for (size_t i = 0; i < count && i < 8; i++)
        printf("%s %s key %d: %lld of %lld %s%s\n", limits[i].provider, limits[i].model, limits[i].key,
               (long long)limits[i].used, (long long)limits[i].limit, llmgw_limit_name(limits[i].kind),
               limits[i].learned ? " (as the provider says)" : "");

    llmgw_target targets[8];
    count = llmgw_targets(gw, targets, 8);
    for (size_t i = 0; i < count && i < 8; i++)
        printf("%s/%s: breaker %s, %lld of %lld attempts failed, half of them took %lld ms\n",
               targets[i].provider, targets[i].model, llmgw_breaker_name(targets[i].breaker),
               (long long)targets[i].failures, (long long)targets[i].attempts, (long long)targets[i].p50_ms);
    llmgw_close(gw);
    return 0;
}
