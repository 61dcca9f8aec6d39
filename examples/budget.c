/* budget.c - a tenth of a cent a day for what carries the tag "team-b": asks until that is used up, shows the refusal,
   and what each tag has cost. Run it twice: what was spent today is remembered.

       cc -I. examples/budget.c -o budget -lcurl -llmdb -lxxhash -lpthread -lm
       OPENAI_API_KEY=... ./budget

   Or LLMGW_MODEL=anthropic/claude-haiku-4-5 with ANTHROPIC_API_KEY; LLMGW_CONFIG names a config file, LLMGW_STORE a
   directory instead of ~/.cache/llmgw. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool show(const llmgw_ledger_total *total, void *user) {
    (void)user;
    printf("%-8s %lld attempts, %.9f USD\n", total->tag, (long long)total->attempts,
           (double)total->cost.pico_usd / 1e12);
    return true;
}

static llmgw_code ask(llmgw *gw, const char *tag) {
    llmgw_request request = {.model = "small", .prompt = "Name a bird, in one word."};
    request.max_tokens = 1600; /* until it is known what it cost, 0.00096 USD are reserved for an answer */
    request.tags = &tag;
    request.tag_count = 1;
    llmgw_reply *reply = llmgw_chat(gw, &request);
    llmgw_code code = reply->error.code;
    printf("%s: %s\n", tag, code ? reply->error.text : reply->text);
    if (code) printf("%s: come back in %lld s\n", tag, (long long)reply->error.retry_after_ms / 1000);
    llmgw_reply_free(reply);
    return code;
}

int main(void) {
    const char *target = getenv("LLMGW_MODEL"), *path = getenv("LLMGW_STORE");
    if (!target) target = "openai/gpt-4o-mini";
    const char *slash = strchr(target, '/');
    char provider[65] = "";
    if (!slash) return 2;
    snprintf(provider, sizeof provider, "%.*s", (int)(slash - target), target);
    llmgw_model small = {.name = "small", .provider = provider, .model = slash + 1};
    small.price.input = llmgw_set(0.15); /* USD per million tokens; without these lines: the price book's */
    small.price.output = llmgw_set(0.60);
    llmgw_budget budget = {.name = "team-b", .tag = "team-b", .per_day_usd = llmgw_set(0.001)};
    llmgw_options options = {.config_path = getenv("LLMGW_CONFIG"), .models = &small, .model_count = 1};
    options.budgets = &budget;
    options.budget_count = 1;
    options.store.path = path ? path : "~/.cache/llmgw";
    llmgw *gw = llmgw_open(&options, NULL);
    (void)ask(gw, "team-a"); /* whose tag has no budget */
    llmgw_code code = LLMGW_OK;
    for (int i = 0; i < 200 && !code; i++) code = ask(gw, "team-b");
    llmgw_flush(gw); /* totals are as of the last commit */
    (void)llmgw_ledger_totals(gw, NULL, LLMGW_BY_TAG, show, NULL);
    llmgw_close(gw);
    return code != LLMGW_E_BUDGET;
}
