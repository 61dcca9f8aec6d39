/* decode.c - the llmgw.h side of the conformance suite: the public API and nothing else.
   Reads jobs from stdin, one JSON object a line:
       {"id", "provider", "dialect", "url", "model", "stream", "send"}
   and writes for each one line with all that the reply says and what the events said. "send" takes the way
   of llmgw_send and llmgw_poll instead of llmgw_chat. Threads run the jobs side by side.
   A job may instead bring "config", the whole configuration, and "ask", the members of llmgw_request by
   their names; with "results" (tool: text) the tools that it calls are answered and it is asked again. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { THREADS = 8, TOOLS = 64 };

/* libcurl's reads come through here, to show that the pieces really were reads of their own. */
static unsigned long reads, read_bytes;

ssize_t recv(int fd, void *buf, size_t n, int flags) {
    ssize_t got = syscall(SYS_recvfrom, fd, buf, n, flags, NULL, NULL);
    if (got > 0) {
        __atomic_fetch_add(&reads, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&read_bytes, (unsigned long)got, __ATOMIC_RELAXED);
    }
    return got;
}

typedef struct {
    char *p;
    size_t len, cap;
} text;

static void add(text *t, const char *s, size_t n) {
    if (t->len + n + 1 > t->cap) {
        t->cap = (t->len + n + 1) * 2;
        t->p = realloc(t->p, t->cap);
        if (!t->p) abort();
    }
    memcpy(t->p + t->len, s, n);
    t->len += n;
    t->p[t->len] = 0;
}

typedef struct {
    text text, reasoning, tool[TOOLS], id[TOOLS], name[TOOLS];
    int tools, ends, rewinds, text_events, bad;
    llmgw_reply *kept;
    bool keep;
} seen;

static void on_event(const llmgw_event *e, void *user) {
    seen *s = user;
    if (s->ends) s->bad++; /* nothing may follow END */
    switch (e->kind) {
    case LLMGW_EVENT_TEXT:
        if (e->text_len != strlen(e->text) && !memchr(e->text, 0, e->text_len)) s->bad++;
        add(&s->text, e->text, e->text_len);
        s->text_events++;
        break;
    case LLMGW_EVENT_REASONING: add(&s->reasoning, e->text, e->text_len); break;
    case LLMGW_EVENT_TOOL: {
        int i = e->tool_index;
        if (i < 0 || i >= TOOLS || !e->tool_id || !e->tool_name) {
            s->bad++;
            break;
        }
        if (i >= s->tools) s->tools = i + 1;
        add(&s->tool[i], e->text, e->text_len);
        s->id[i].len = s->name[i].len = 0;
        add(&s->id[i], e->tool_id, strlen(e->tool_id));
        add(&s->name[i], e->tool_name, strlen(e->tool_name));
        break;
    }
    case LLMGW_EVENT_TRY: break;
    case LLMGW_EVENT_REWIND:
        s->rewinds++;
        if (e->keep > s->text.len)
            s->bad++;
        else
            s->text.len = e->keep;
        s->reasoning.len = 0;
        for (int i = 0; i < s->tools; i++) s->tool[i].len = 0;
        s->tools = 0;
        break;
    case LLMGW_EVENT_END:
        s->ends++;
        if (s->keep) s->kept = llmgw_reply_keep(e->reply);
        break;
    default: s->bad++;
    }
}

static json_t *str(const char *p, size_t n) {
    json_t *j = p ? json_stringn(p, n) : json_null();
    return j ? j : json_pack("{s:b}", "invalid_utf8", 1);
}

static json_t *cstr(const char *p) { return str(p, p ? strlen(p) : 0); }

static json_t *report(json_t *job, llmgw_reply *r, seen *s) {
    json_t *o = json_object(), *a = json_array(), *u = json_object(), *e = json_object();
    json_object_set(o, "id", json_object_get(job, "id"));
    json_object_set_new(o, "text", str(r->text, r->text_len));
    json_object_set_new(o, "reasoning", str(r->reasoning, r->reasoning_len));
    json_object_set_new(o, "refusal", cstr(r->refusal));
    for (size_t i = 0; i < r->tool_call_count; i++) {
        json_t *t = json_object();
        json_object_set_new(t, "id", cstr(r->tool_calls[i].id));
        json_object_set_new(t, "name", cstr(r->tool_calls[i].name));
        json_object_set_new(t, "arguments", cstr(r->tool_calls[i].arguments));
        json_array_append_new(a, t);
    }
    json_object_set_new(o, "tools", a);
    json_object_set_new(o, "finish", cstr(llmgw_finish_name(r->finish)));
    json_object_set_new(u, "known", json_boolean(r->usage.known));
    json_object_set_new(u, "input", json_integer(r->usage.input));
    json_object_set_new(u, "output", json_integer(r->usage.output));
    json_object_set_new(u, "cached", json_integer(r->usage.cached));
    json_object_set_new(u, "cache_write", json_integer(r->usage.cache_write));
    json_object_set_new(u, "cache_write_1h", json_integer(r->usage.cache_write_1h));
    json_object_set_new(u, "reasoning", json_integer(r->usage.reasoning));
    json_object_set_new(o, "usage", u);
    json_object_set_new(o, "reply_id", cstr(r->id));
    json_object_set_new(o, "model_echo", cstr(r->model_echo));
    json_object_set_new(e, "code", cstr(llmgw_code_name(r->error.code)));
    json_object_set_new(e, "number", json_integer(r->error.code));
    json_object_set_new(e, "status", json_integer(r->error.http_status));
    json_object_set_new(e, "text", cstr(r->error.text));
    json_object_set_new(e, "retry_after_ms", json_integer(r->error.retry_after_ms));
    json_object_set_new(o, "error", e);
    json_object_set_new(o, "event_text", str(s->text.p ? s->text.p : "", s->text.len));
    json_object_set_new(o, "event_reasoning", str(s->reasoning.p ? s->reasoning.p : "", s->reasoning.len));
    a = json_array();
    for (int i = 0; i < s->tools; i++) {
        json_t *t = json_object();
        json_object_set_new(t, "id", str(s->id[i].p ? s->id[i].p : "", s->id[i].len));
        json_object_set_new(t, "name", str(s->name[i].p ? s->name[i].p : "", s->name[i].len));
        json_object_set_new(t, "arguments", str(s->tool[i].p ? s->tool[i].p : "", s->tool[i].len));
        json_array_append_new(a, t);
    }
    json_object_set_new(o, "event_tools", a);
    json_object_set_new(o, "ends", json_integer(s->ends));
    json_object_set_new(o, "rewinds", json_integer(s->rewinds));
    json_object_set_new(o, "text_events", json_integer(s->text_events));
    json_object_set_new(o, "bad_events", json_integer(s->bad));
    json_object_set_new(o, "provider", cstr(r->provider));
    json_object_set_new(o, "ms", json_integer(r->elapsed_us / 1000));
    json_object_set_new(o, "attempts", json_integer(r->attempts));
    return o;
}

static const char *get(json_t *job, const char *key) { return json_string_value(json_object_get(job, key)); }

/* ---- a request of a job: strings stay the job's ---- */

typedef struct {
    llmgw_message messages[16];
    llmgw_part parts[64];
    llmgw_tool tools[8];
    const char *stop[8];
    char bytes[256]; /* of images: their content does not matter */
    char model[256];
    size_t message_count, part_count;
} written;

static int code_of(json_t *o, const char *key, const char *const *names) {
    const char *s = get(o, key);
    for (int i = 0; s && names[i]; i++)
        if (strcmp(names[i], s) == 0) return i;
    if (!s) return 0;
    fprintf(stderr, "decode: %s: %s?\n", key, s);
    exit(2);
}

static void write_part(json_t *in, llmgw_part *p, written *w) {
    static const char *const kinds[] = {"text", "image", "file", "call", "result", NULL};
    p->kind = (llmgw_part_kind)code_of(in, "kind", kinds);
    p->text = get(in, "text");
    p->id = get(in, "id");
    p->name = get(in, "name");
    p->arguments = get(in, "arguments");
    p->url = get(in, "url");
    p->mime = get(in, "mime");
    p->is_error = json_is_true(json_object_get(in, "is_error"));
    if (get(in, "data")) {
        p->data = w->bytes;
        p->data_len = (size_t)snprintf(w->bytes, sizeof w->bytes, "%s", get(in, "data"));
    }
}

static llmgw_part *more_parts(written *w, size_t n) {
    if (w->part_count + n > 64 || w->message_count == 16) {
        fprintf(stderr, "decode: a job's conversation is too long\n");
        exit(2);
    }
    llmgw_part *p = &w->parts[w->part_count];
    w->part_count += n;
    return p;
}

static void write_messages(json_t *ask, llmgw_request *q, written *w) {
    static const char *const roles[] = {"user", "assistant", "system", "tool", NULL};
    size_t i, k;
    json_t *m, *part;
    json_array_foreach(json_object_get(ask, "messages"), i, m) {
        json_t *list = json_object_get(m, "parts");
        llmgw_part *parts = more_parts(w, json_array_size(list));
        llmgw_message *to = &w->messages[w->message_count++];
        to->role = (llmgw_role)code_of(m, "role", roles);
        to->text = get(m, "text");
        to->parts = parts;
        to->part_count = json_array_size(list);
        json_array_foreach(list, k, part) write_part(part, &parts[k], w);
    }
    q->messages = w->messages;
    q->message_count = w->message_count;
}

static llmgw_opt number(json_t *ask, const char *key) {
    json_t *v = json_object_get(ask, key);
    llmgw_opt none = {false, 0};
    return v ? llmgw_set(json_number_value(v)) : none;
}

static int whole(json_t *ask, const char *key) { return (int)json_integer_value(json_object_get(ask, key)); }

static void write_request(json_t *ask, llmgw_request *q, written *w) {
    static const char *const modes[] = {"auto", "none", "required", "one", NULL};
    static const char *const efforts[] = {"default", "none", "low", "medium", "high", NULL};
    size_t i;
    json_t *v;
    q->model = get(ask, "model");
    q->system = get(ask, "system");
    q->prompt = get(ask, "prompt");
    q->schema = get(ask, "schema");
    q->tool_name = get(ask, "tool_name");
    q->user_id = get(ask, "user_id");
    q->tool_mode = (llmgw_tool_mode)code_of(ask, "tool_mode", modes);
    q->effort = (llmgw_effort)code_of(ask, "effort", efforts);
    q->serial_tools = json_is_true(json_object_get(ask, "serial_tools"));
    q->stream = json_is_true(json_object_get(ask, "stream"));
    q->temperature = number(ask, "temperature");
    q->top_p = number(ask, "top_p");
    q->top_k = number(ask, "top_k");
    q->seed = number(ask, "seed");
    q->frequency_penalty = number(ask, "frequency_penalty");
    q->presence_penalty = number(ask, "presence_penalty");
    q->schema_name = get(ask, "schema_name");
    q->max_tokens = whole(ask, "max_tokens");
    q->deadline_ms = whole(ask, "deadline_ms");
    q->first_token_ms = whole(ask, "first_token_ms");
    q->idle_ms = whole(ask, "idle_ms");
    q->max_attempts = whole(ask, "max_attempts");
    q->max_resumes = whole(ask, "max_resumes");
    json_array_foreach(json_object_get(ask, "tools"), i, v) {
        w->tools[i].name = get(v, "name");
        w->tools[i].description = get(v, "description");
        w->tools[i].parameters = get(v, "parameters");
        w->tools[i].strict = json_is_true(json_object_get(v, "strict"));
        q->tool_count = i + 1;
    }
    q->tools = w->tools;
    json_array_foreach(json_object_get(ask, "stop"), i, v) w->stop[i] = json_string_value(v);
    q->stop = w->stop;
    q->stop_count = json_array_size(json_object_get(ask, "stop"));
    write_messages(ask, q, w);
}

/* The reply's tools answered: its message as it is and their results, after what was there. */
static void write_results(json_t *results, const llmgw_reply *r, llmgw_request *q, written *w) {
    llmgw_part *parts = more_parts(w, r->tool_call_count);
    if (q->prompt) w->messages[w->message_count++].text = q->prompt;
    w->messages[w->message_count++] = r->message;
    for (size_t i = 0; i < r->tool_call_count; i++) {
        parts[i].kind = LLMGW_PART_TOOL_RESULT;
        parts[i].id = r->tool_calls[i].id;
        parts[i].name = r->tool_calls[i].name;
        parts[i].text = get(results, r->tool_calls[i].name);
    }
    w->messages[w->message_count].role = LLMGW_ROLE_TOOL;
    w->messages[w->message_count].parts = parts;
    w->messages[w->message_count++].part_count = r->tool_call_count;
    q->prompt = NULL;
    q->message_count = w->message_count;
}

/* ---- one job ---- */

static llmgw *open_for(json_t *job, char *why) {
    llmgw_error error = {0};
    llmgw_provider p = {0};
    llmgw_options o = {0};
    char *config = json_dumps(json_object_get(job, "config"), JSON_COMPACT);
    o.config_json = config;
    if (!config) {
        p.name = get(job, "provider");
        p.dialect = get(job, "dialect");
        p.url = get(job, "url");
        p.key = "sk-conform";
        o.providers = &p;
        o.provider_count = 1;
    }
    o.no_environment = true;
    llmgw *gw = llmgw_open(&o, &error);
    free(config);
    snprintf(why, LLMGW_ERROR_TEXT, "%s", error.text);
    return gw;
}

static llmgw_reply *call(llmgw *gw, const llmgw_request *q, seen *s, bool send) {
    llmgw_error error = {0};
    if (!send) return llmgw_chat(gw, q);
    s->keep = true;
    if (!llmgw_send(gw, q, &error)) {
        fprintf(stderr, "decode: llmgw_send: %s\n", error.text);
        exit(2);
    }
    while (!s->ends) {
        int n = llmgw_poll(gw, 5000);
        if (n < 0) {
            fprintf(stderr, "decode: llmgw_poll: %s\n", llmgw_code_name((llmgw_code)-n));
            exit(2);
        }
    }
    return s->kept;
}

static void forget(seen *s) {
    free(s->text.p);
    free(s->reasoning.p);
    for (int i = 0; i < TOOLS; i++) {
        free(s->tool[i].p);
        free(s->id[i].p);
        free(s->name[i].p);
    }
    memset(s, 0, sizeof *s);
}

static void say(json_t *out) {
    char *line = json_dumps(out, JSON_COMPACT);
    flockfile(stdout);
    puts(line);
    funlockfile(stdout);
    free(line);
    json_decref(out);
}

static void run(json_t *job) {
    seen s = {0};
    written w = {0};
    llmgw_request q = {0};
    char why[LLMGW_ERROR_TEXT];
    llmgw *gw = open_for(job, why);
    if (!gw) { /* this header may not know the dialect */
        say(json_pack("{s:O, s:s}", "id", json_object_get(job, "id"), "refused", why));
        return;
    }
    json_t *ask = json_object_get(job, "ask"), *results = json_object_get(job, "results");
    bool send = json_is_true(json_object_get(job, "send"));
    if (ask) {
        write_request(ask, &q, &w);
    } else {
        snprintf(w.model, sizeof w.model, "%s/%s", get(job, "provider"), get(job, "model"));
        q.model = w.model;
        q.prompt = "replay";
        q.stream = json_is_true(json_object_get(job, "stream"));
        q.max_attempts = 1;
        q.deadline_ms = 60000;
    }
    q.on_event = on_event;
    q.user = &s;
    llmgw_reply *r = call(gw, &q, &s, send), *first = NULL;
    if (results && r->error.code == LLMGW_OK && r->tool_call_count) {
        first = r;
        forget(&s);
        write_results(results, first, &q, &w);
        r = call(gw, &q, &s, send);
    }
    json_t *out = report(job, r, &s);
    json_object_set_new(out, "turns", json_integer(first ? 2 : 1));
    llmgw_reply_free(r);
    llmgw_reply_free(first);
    llmgw_code closed = llmgw_close(gw);
    if (closed != LLMGW_OK) json_object_set_new(out, "close", cstr(llmgw_code_name(closed)));
    say(out);
    forget(&s);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *work(void *arg) {
    (void)arg;
    char *line = NULL;
    size_t cap = 0;
    for (;;) {
        pthread_mutex_lock(&lock);
        ssize_t n = getline(&line, &cap, stdin);
        pthread_mutex_unlock(&lock);
        if (n <= 0) break;
        json_error_t e;
        json_t *job = json_loads(line, 0, &e);
        if (!job) {
            fprintf(stderr, "decode: bad job: %s\n", e.text);
            exit(2);
        }
        run(job);
        json_decref(job);
    }
    free(line);
    return NULL;
}

int main(void) {
    pthread_t t[THREADS];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&t[i], NULL, work, NULL)) return 2;
    for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
    fprintf(stderr, "decode: %lu bytes in %lu reads\n", read_bytes, reads);
    return 0;
}
