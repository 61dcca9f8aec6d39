/* keys.c - hands out a key of its own, that may ask one model, three times a minute, for an hour: uses it, asks for
   what it may not, revokes it, and prints how the gateway did, as Prometheus would read it.

       cc -I. examples/keys.c -o keys -lcurl -llmdb -lxxhash -lpthread -lm
       OPENAI_API_KEY=... ./keys

   Or LLMGW_MODEL=anthropic/claude-haiku-4-5 with ANTHROPIC_API_KEY; LLMGW_CONFIG names a config file, LLMGW_STORE a
   directory instead of ~/.cache/llmgw. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static bool print(const char *line, size_t len, void *user) {
    (void)len;
    (void)user;
    puts(line);
    return true;
}

static bool failed(const char *what, const llmgw_error *error) {
    if (error->code) printf("%s: %s\n", what, error->text);
    return error->code != LLMGW_OK;
}

static bool ask(llmgw *gw, const char *key, const char *model) {
    llmgw_request request = {.model = model, .prompt = "Name a bird, in one word.", .key = key};
    llmgw_reply *reply = llmgw_chat(gw, &request);
    bool wrong = failed(model, &reply->error);
    if (!wrong) printf("%s: %s\n", model, reply->text);
    llmgw_reply_free(reply);
    return wrong;
}

int main(void) {
    const char *model = getenv("LLMGW_MODEL"), *path = getenv("LLMGW_STORE");
    if (!model) model = "openai/gpt-4o-mini";
    llmgw_options options = {.config_path = getenv("LLMGW_CONFIG")};
    options.store.path = path ? path : "~/.cache/llmgw";
    options.keys_required = true;
    llmgw *gw = llmgw_open(&options, NULL);

    char secret[LLMGW_KEY_TEXT]; /* to be shown once, to its bearer; the store keeps its SHA-256 */
    llmgw_key key = {.name = "guest", .models = &model, .model_count = 1, .rpm = 3};
    llmgw_error error;
    key.expires_s = (int64_t)time(NULL) + 3600;
    (void)llmgw_key_revoke(gw, key.name); /* of a run before that was broken off */
    if (llmgw_key_create(gw, &key, secret, &error)) return failed("llmgw_key_create", &error);
    printf("made %.17s...\n", secret);
    bool wrong = ask(gw, secret, model);
    (void)ask(gw, secret, "openai/gpt-5");
    (void)llmgw_key_revoke(gw, key.name);
    (void)ask(gw, secret, model);
    (void)llmgw_metrics(gw, LLMGW_METRICS_PROMETHEUS, print, NULL);
    llmgw_close(gw);
    return wrong;
}
