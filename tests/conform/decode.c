/* decode.c - the llmgw.h side of the conformance suite: the public API and nothing else.
   Reads jobs from stdin, one JSON object a line:
       {"id", "provider", "dialect", "url", "model", "stream", "send"}
   and writes for each one line with all that the reply says and what the events said. "send" takes the way
   of llmgw_send and llmgw_poll instead of llmgw_chat. Threads run the jobs side by side. */
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
    return o;
}

static const char *get(json_t *job, const char *key) { return json_string_value(json_object_get(job, key)); }

static void run(json_t *job) {
    seen s = {0};
    llmgw_error error = {0};
    llmgw_provider p = {0};
    p.name = get(job, "provider");
    p.dialect = get(job, "dialect");
    p.url = get(job, "url");
    p.key = "sk-conform";
    llmgw_options o = {0};
    o.providers = &p;
    o.provider_count = 1;
    o.no_environment = true;
    llmgw *gw = llmgw_open(&o, &error);
    if (!gw) {
        fprintf(stderr, "decode: llmgw_open: %s\n", error.text);
        exit(2);
    }
    char model[256];
    snprintf(model, sizeof model, "%s/%s", p.name, get(job, "model"));
    llmgw_request q = {0};
    q.model = model;
    q.prompt = "replay";
    q.stream = json_is_true(json_object_get(job, "stream"));
    q.on_event = on_event;
    q.user = &s;
    q.max_attempts = 1;
    q.deadline_ms = 60000;
    llmgw_reply *r;
    if (json_is_true(json_object_get(job, "send"))) {
        s.keep = true;
        if (!llmgw_send(gw, &q, &error)) {
            fprintf(stderr, "decode: llmgw_send: %s\n", error.text);
            exit(2);
        }
        while (!s.ends) {
            int n = llmgw_poll(gw, 5000);
            if (n < 0) {
                fprintf(stderr, "decode: llmgw_poll: %s\n", llmgw_code_name((llmgw_code)-n));
                exit(2);
            }
        }
        r = s.kept;
    } else {
        r = llmgw_chat(gw, &q);
    }
    json_t *out = report(job, r, &s);
    llmgw_reply_free(r);
    llmgw_code closed = llmgw_close(gw);
    if (closed != LLMGW_OK) json_object_set_new(out, "close", cstr(llmgw_code_name(closed)));
    char *line = json_dumps(out, JSON_COMPACT);
    flockfile(stdout);
    puts(line);
    funlockfile(stdout);
    free(line);
    json_decref(out);
    free(s.text.p);
    free(s.reasoning.p);
    for (int i = 0; i < TOOLS; i++) {
        free(s.tool[i].p);
        free(s.id[i].p);
        free(s.name[i].p);
    }
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
