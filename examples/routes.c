/* routes.c - asks a route instead of a model: what fails, or gives no good answer, goes on to the next target;
   what is slow gets a second attempt beside it. Then prints what was done, and for how long.

       cc -I. examples/routes.c -o routes -lcurl -llmdb -lxxhash -lpthread -lm
       OPENAI_API_KEY=... ./routes "Is water wet? Say yes or no, and why."

   LLMGW_MODEL names another first target (of any provider with a key), LLMGW_CONFIG a config file. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An answer that does not take a side is no better than none. */
static bool takes_a_side(const llmgw_reply *reply, void *user) {
    (void)user;
    return strstr(reply->text, "es") || strstr(reply->text, "no") || strstr(reply->text, "No");
}

static void print_trace(const llmgw_reply *reply) {
    for (size_t i = 0; i < reply->trace_count; i++) {
        const llmgw_trace *step = &reply->trace[i];
        printf("%5lld ms  %-7s %s/%s: %s, %lld ms. %s\n", (long long)step->start_us / 1000,
               llmgw_trace_name(step->kind), step->provider, step->model, llmgw_code_name(step->code),
               (long long)step->duration_us / 1000, step->reason);
    }
}

int main(int argc, char **argv) {
    const char *first = getenv("LLMGW_MODEL");
    const char *targets[] = {first ? first : "openai/gpt-4o-mini", "openai/gpt-4.1-mini", "openai/gpt-4.1"};
    llmgw_route route = {.name = "careful", .targets = targets, .target_count = 3};
    route.hedge_ms = 1500;     /* no sign of the first for so long: the second is asked too */
    route.hedge_percent = 100; /* of this route's calls; the default of 5 keeps a busy service cheap */
    route.valid = LLMGW_VALID_NOT_EMPTY | LLMGW_VALID_NOT_REFUSED;

    llmgw_options options = {.config_path = getenv("LLMGW_CONFIG"), .routes = &route, .route_count = 1};
    llmgw *gw = llmgw_open(&options, NULL);

    llmgw_request request = {.model = "careful", .is_valid = takes_a_side};
    request.prompt = argc > 1 ? argv[1] : "Is water wet? Say yes or no, and why.";
    llmgw_reply *reply = llmgw_chat(gw, &request);
    bool failed = reply->error.code != LLMGW_OK;
    printf("%s\n\n", failed ? reply->error.text : reply->text);
    print_trace(reply);

    llmgw_reply_free(reply);
    llmgw_close(gw);
    return failed;
}
