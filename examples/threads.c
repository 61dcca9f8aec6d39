/* threads.c - eight threads ask at once through one gateway. They share its connections; nothing has to be
   locked or started.

       cc -I. examples/threads.c -o threads -lcurl -llmdb -lxxhash -lpthread -lm
       OPENAI_API_KEY=... ./threads

   Or LLMGW_MODEL=anthropic/claude-haiku-4-5 with ANTHROPIC_API_KEY; LLMGW_CONFIG names a config file. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define THREADS 8

static const char *const cities[THREADS] = {"Rome",  "Cairo", "Lima",  "Oslo",
                                            "Delhi", "Tokyo", "Accra", "Quito"};

typedef struct job {
    pthread_t thread;
    llmgw *gw;
    const char *model, *city;
    bool failed;
} job;

static void *work(void *argument) {
    job *j = argument;
    char question[100];
    snprintf(question, sizeof question, "In one sentence: what is %s known for?", j->city);
    llmgw_reply *reply = llmgw_ask(j->gw, j->model, question);
    j->failed = reply->error.code != LLMGW_OK;
    printf("%-6s %-9s %5lld ms  %s\n", j->city, reply->provider, (long long)reply->elapsed_us / 1000,
           j->failed ? reply->error.text : reply->text);
    llmgw_reply_free(reply);
    return NULL;
}

int main(int argc, char **argv) {
    const char *model = argc > 1 ? argv[1] : getenv("LLMGW_MODEL");
    llmgw_options options = {.config_path = getenv("LLMGW_CONFIG")};
    llmgw *gw = llmgw_open(&options, NULL);

    job jobs[THREADS] = {{0}};
    for (int i = 0; i < THREADS; i++) {
        jobs[i].gw = gw;
        jobs[i].model = model ? model : "openai/gpt-4o-mini";
        jobs[i].city = cities[i];
        if (pthread_create(&jobs[i].thread, NULL, work, &jobs[i])) abort();
    }
    bool failed = false;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(jobs[i].thread, NULL);
        failed = failed || jobs[i].failed;
    }
    llmgw_close(gw); /* the last call on it: all threads are done */
    return failed;
}
