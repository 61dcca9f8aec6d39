/* vectors.c - embeddings and batches for vectors.py: the public API and nothing else.
   Reads jobs from stdin, one JSON object a line, and writes for each one line with what came of it:
       {"id", "config", "embed": {"model", "texts", "dimensions", "purpose", "max_attempts", "deadline_ms"}}
       {"id", "config", "batch": {"model", "prompts"}} */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST = 512 };

static const char *get(json_t *o, const char *key) { return json_string_value(json_object_get(o, key)); }
static int whole(json_t *o, const char *key) { return (int)json_integer_value(json_object_get(o, key)); }

static void say_error(json_t *out, const llmgw_error *e) {
    json_object_set_new(out, "error",
                        json_pack("{s:s, s:s, s:i, s:I}", "code", llmgw_code_name(e->code), "text", e->text,
                                  "status", e->http_status, "retry_after_ms", (json_int_t)e->retry_after_ms));
}

static void embed(llmgw *gw, json_t *ask, json_t *out) {
    const char *texts[MOST];
    llmgw_embed_request q = {0};
    size_t i;
    json_t *text, *values = json_array();
    json_array_foreach(json_object_get(ask, "texts"), i, text) if (i < MOST) texts[i] =
        json_string_value(text);
    q.model = get(ask, "model");
    q.texts = texts;
    q.text_count = json_array_size(json_object_get(ask, "texts"));
    q.dimensions = whole(ask, "dimensions");
    q.purpose = (llmgw_purpose)whole(ask, "purpose");
    q.max_attempts = whole(ask, "max_attempts");
    q.deadline_ms = whole(ask, "deadline_ms");
    llmgw_vectors *v = llmgw_embed(gw, &q);
    for (i = 0; i < v->count; i++) {
        json_t *one = json_array();
        for (size_t k = 0; k < v->dim; k++)
            json_array_append_new(one, json_real((double)v->values[i * v->dim + k]));
        json_array_append_new(values, one);
    }
    json_object_set_new(out, "values", values);
    json_object_set_new(out, "known", json_boolean(v->usage.known && !v->usage.estimated));
    json_object_set_new(out, "input", json_integer(v->usage.input));
    json_object_set_new(out, "model", json_string(v->model_echo));
    json_object_set_new(out, "provider", json_string(v->provider));
    json_object_set_new(out, "ms", json_integer(v->elapsed_us / 1000));
    say_error(out, &v->error);
    llmgw_vectors_free(v);
}

static bool on_result(const char *custom_id, const llmgw_reply *reply, void *user) {
    json_object_set_new(
        (json_t *)user, custom_id,
        json_pack("{s:s, s:s}", "code", llmgw_code_name(reply->error.code), "text", reply->text));
    return true;
}

static void batch(llmgw *gw, json_t *ask, json_t *out) {
    llmgw_request requests[16] = {{0}};
    char ident[LLMGW_BATCH_ID] = "";
    llmgw_error error = {0};
    llmgw_batch b = {0};
    llmgw_batch_info info = {0};
    struct timespec pause = {0, 50000000};
    size_t i;
    json_t *prompt, *results = json_object();
    json_array_foreach(json_object_get(ask, "prompts"), i, prompt) if (i < 16) {
        requests[i].prompt = json_string_value(prompt);
        b.count = i + 1;
    }
    b.model = get(ask, "model");
    b.requests = requests;
    llmgw_code code = llmgw_batch_submit(gw, &b, ident, &error);
    for (int turns = 0; !code && !info.over && turns < 100; turns++) {
        code = llmgw_batch_status(gw, ident, NULL, &info, &error);
        if (!code && !info.over) nanosleep(&pause, NULL);
    }
    int64_t count = code ? 0 : llmgw_batch_results(gw, ident, NULL, on_result, results, &error);
    json_object_set_new(out, "name", json_string(ident));
    json_object_set_new(out, "state", json_string(llmgw_batch_state_name(info.state)));
    json_object_set_new(out, "succeeded", json_integer(info.succeeded));
    json_object_set_new(out, "count", json_integer(count));
    json_object_set_new(out, "results", results);
    say_error(out, &error);
}

int main(void) {
    char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, stdin) > 0) {
        llmgw_error error = {0};
        llmgw_options o = {0};
        json_t *job = json_loads(line, 0, NULL), *out = json_object();
        char *config = json_dumps(json_object_get(job, "config"), JSON_COMPACT);
        o.config_json = config;
        o.no_environment = true;
        llmgw *gw = llmgw_open(&o, &error);
        json_object_set(out, "id", json_object_get(job, "id"));
        if (!gw)
            json_object_set_new(out, "refused", json_string(error.text));
        else if (json_object_get(job, "embed"))
            embed(gw, json_object_get(job, "embed"), out);
        else
            batch(gw, json_object_get(job, "batch"), out);
        char *text = json_dumps(out, JSON_COMPACT | JSON_REAL_PRECISION(9));
        puts(text);
        llmgw_close(gw);
        free(text);
        free(config);
        json_decref(out);
        json_decref(job);
    }
    free(line);
    return 0;
}
