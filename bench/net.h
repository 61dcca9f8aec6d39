/* net.h - the two sides of a network benchmark, doing the same: llmgw.h, and bare libcurl. Included after
   llmgw.h with its implementation. */
#ifndef NET_H
#define NET_H

#include "bare.h"

#define NET_KEY "sk-bench-0123456789abcdef0123456789abcdef"
#define NET_FLIGHT 64

typedef struct net_lib {
    llmgw *gw;
    const char *model; /* of the round */
    bool stream;
    int to_send, done, wrong;
} net_lib;

typedef struct net_bare {
    bare bare;
    char url[96];
    bool stream;
    int to_send, done;
} net_bare;

/* A question of about 500 bytes, with a mark that comes back in the answer. */
static inline void net_prompt(char *out, size_t size, const char *mark) {
    snprintf(
        out, size,
        "You are asked by somebody who looks out of the window, and who does not know much of physics: "
        "why is the sky blue? Answer in one short sentence, in plain words.\nDo not speak of \"Rayleigh\" "
        "and do not use formulas; compare the colours with something that everybody has seen. Then name "
        "one other thing in nature that owes its colour to the same cause, if there is one, and say "
        "which. Do not apologise, do not repeat the question. Reference: #%s#",
        mark);
}

static void net_check(net_lib *lib, const llmgw_event *event) {
    if (event->reply->error.code == LLMGW_OK && strstr(event->reply->text, "#same#")) return;
    if (!lib->wrong++) fprintf(stderr, "llmgw: %s: %s\n", event->reply->error.text, event->reply->text);
}

static void net_lib_send(net_lib *lib);

static void net_on_event(const llmgw_event *event, void *user) {
    net_lib *lib = (net_lib *)user;
    if (event->kind != LLMGW_EVENT_END) return;
    net_check(lib, event);
    lib->done++;
    if (lib->to_send) net_lib_send(lib);
}

static char net_same_prompt[1024];

static void net_lib_send(net_lib *lib) {
    llmgw_request request;
    llmgw_error error;
    memset(&request, 0, sizeof request);
    request.model = lib->model;
    request.prompt = net_same_prompt;
    request.stream = lib->stream;
    request.on_event = net_on_event;
    request.user = lib;
    lib->to_send--;
    if (!llmgw_send(lib->gw, &request, &error)) bench_die(error.text);
}

static inline llmgw *net_lib_open(const bench_server *server, llmgw_alloc_fn alloc, void *alloc_user) {
    static const char *const names[] = {"delay", "stream", "hold"};
    llmgw_provider providers[3];
    char urls[3][96];
    llmgw_options options;
    llmgw_error error;
    memset(providers, 0, sizeof providers);
    memset(&options, 0, sizeof options);
    for (int i = 0; i < 3; i++) {
        snprintf(urls[i], sizeof urls[i], "http://127.0.0.1:%d/%s", server->port, names[i]);
        providers[i].name = names[i];
        providers[i].dialect = "openai";
        providers[i].url = urls[i];
        providers[i].key = NET_KEY;
    }
    options.providers = providers;
    options.provider_count = 3;
    options.no_environment = true;
    options.alloc = alloc;
    options.alloc_user = alloc_user;
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) bench_die(error.text);
    if (!net_same_prompt[0]) net_prompt(net_same_prompt, sizeof net_same_prompt, "same");
    return gw;
}

/* count requests, NET_FLIGHT at a time (or fewer). Returns the CPU time of one, in us. */
static inline double net_lib_round(net_lib *lib, const char *model, bool stream, int flight, int count) {
    double start = bench_cpu_us();
    lib->model = model;
    lib->stream = stream;
    lib->done = 0;
    lib->to_send = count;
    for (int i = 0; i < flight && lib->to_send; i++) net_lib_send(lib);
    while (lib->done < count)
        if (llmgw_poll(lib->gw, -1) < 0) bench_die("llmgw_poll");
    double used = (bench_cpu_us() - start) / count;
    if (lib->wrong) bench_die("llmgw gave wrong answers");
    return used;
}

/* ---- the same on bare libcurl ---- */

static char net_body[2][2048]; /* as llmgw.h writes it; [1]: for a stream */
static size_t net_body_size[2];

static inline void net_body_make(bool stream) {
    llmgwi_base_mem mem = {NULL, NULL};
    llmgwi_dialect_target target = {"gpt-4o-mini", "openai", 0, NULL};
    llmgw_request request;
    llmgw_error error;
    llmgwi_base_buf body;
    memset(&request, 0, sizeof request);
    memset(&error, 0, sizeof error);
    request.prompt = net_same_prompt;
    request.stream = stream;
    llmgwi_base_buf_init(&body, &mem, sizeof net_body[0] - 1);
    if (!llmgwi_dialect_write(llmgwi_dialect_find("openai"), &target, &request, NULL, &body, &error))
        bench_die(error.text);
    memcpy(net_body[stream], body.p, body.n);
    net_body_size[stream] = body.n;
    llmgwi_base_buf_free(&body);
}

static void net_bare_send(net_bare *net) {
    net->to_send--;
    bare_start(&net->bare, net->stream, net->url, net_body[net->stream], net_body_size[net->stream]);
}

static void net_bare_done(bare_transfer *transfer, void *user) {
    net_bare *net = (net_bare *)user;
    net->done++;
    if (transfer->n < 300) bench_die("bare libcurl: a short reply");
    if (net->to_send) net_bare_send(net);
}

static inline void net_bare_open(net_bare *net, long connections) {
    static const char *const plain[] = {
        "Authorization: Bearer " NET_KEY,     "Content-Type: application/json",
        "User-Agent: llmgw.h/" LLMGW_VERSION, "Expect:",
        "Accept: application/json",           NULL};
    static const char *const streams[] = {
        "Authorization: Bearer " NET_KEY,     "Content-Type: application/json",
        "User-Agent: llmgw.h/" LLMGW_VERSION, "Expect:",
        "Accept: text/event-stream",          NULL};
    memset(net, 0, sizeof *net);
    if (!net_same_prompt[0]) net_prompt(net_same_prompt, sizeof net_same_prompt, "same");
    net_body_make(false);
    net_body_make(true);
    bare_open(&net->bare, plain, streams, connections);
    net->bare.done = net_bare_done;
    net->bare.user = net;
}

static inline double net_bare_round(net_bare *net, const bench_server *server, const char *path, bool stream,
                                    int flight, int count) {
    double start = bench_cpu_us();
    snprintf(net->url, sizeof net->url, "http://127.0.0.1:%d/%s/chat/completions", server->port, path);
    net->stream = stream;
    net->done = 0;
    net->to_send = count;
    for (int i = 0; i < flight && net->to_send; i++) net_bare_send(net);
    while (net->done < count) bare_step(&net->bare);
    return (bench_cpu_us() - start) / count;
}

/* ---- streams that are held open ---- */

#define NET_OPENING 256 /* at a time: the kernel's queue of new connections is short */

typedef struct net_held {
    llmgw *gw;
    size_t count, sent, opened, right, wrong;
    struct net_hold *holds;
} net_held;

typedef struct net_hold {
    net_held *held;
    bool open;
} net_hold;

/* The answer to stream 7 is "Hello #7#". */
static void net_on_hold(const llmgw_event *event, void *user) {
    net_hold *hold = (net_hold *)user;
    net_held *held = hold->held;
    if (event->kind == LLMGW_EVENT_TEXT && !hold->open) {
        hold->open = true;
        held->opened++;
    }
    if (event->kind != LLMGW_EVENT_END) return;
    char want[32];
    snprintf(want, sizeof want, "Hello #%zu#", (size_t)(hold - held->holds));
    bool right = event->reply->error.code == LLMGW_OK && strcmp(event->reply->text, want) == 0;
    if (right)
        held->right++;
    else if (!held->wrong++)
        fprintf(stderr, "llmgw: stream %s: %s: %s\n", want, event->reply->error.text, event->reply->text);
}

static inline void net_held_make(net_held *held, llmgw *gw, size_t count) {
    memset(held, 0, sizeof *held);
    held->gw = gw;
    held->count = count;
    held->holds = (net_hold *)calloc(count, sizeof *held->holds);
    if (!held->holds) bench_die("memory");
    for (size_t i = 0; i < count; i++) held->holds[i].held = held;
}

/* Opens all, and waits until of each the first text has come. */
static inline void net_lib_hold(net_held *held, const bench_server *server) {
    llmgw_request request;
    llmgw_error error;
    char prompt[1024], mark[24];
    memset(&request, 0, sizeof request);
    request.model = "hold/gpt-4o-mini";
    request.prompt = prompt;
    request.stream = true;
    request.on_event = net_on_hold;
    request.deadline_ms = request.idle_ms = request.first_token_ms = LLMGW_OFF;
    while (held->opened < held->count && !held->wrong) {
        for (; held->sent < held->count && held->sent - held->opened < NET_OPENING; held->sent++) {
            snprintf(mark, sizeof mark, "%zu", held->sent);
            net_prompt(prompt, sizeof prompt, mark);
            request.user = &held->holds[held->sent];
            if (!llmgw_send(held->gw, &request, &error)) bench_die(error.text);
        }
        if (llmgw_poll(held->gw, -1) < 0) bench_die("llmgw_poll");
    }
    if (held->wrong) bench_die("llmgw could not hold the streams");
    (void)server;
}

/* Lets them go on to their end. */
static inline void net_lib_release(net_held *held, const bench_server *server) {
    char text[64];
    bench_server_ask(server, "/release", text, sizeof text);
    while (held->right + held->wrong < held->count)
        if (llmgw_poll(held->gw, -1) < 0) bench_die("llmgw_poll");
}

/* The same on bare libcurl. */
static inline void net_bare_hold(net_bare *net, const bench_server *server, size_t count) {
    size_t sent = 0, opened = 0, first = 0;
    snprintf(net->url, sizeof net->url, "http://127.0.0.1:%d/hold/chat/completions", server->port);
    net->stream = true;
    net->done = net->to_send = 0;
    net->bare.received = 0;
    while (opened < count) {
        for (; sent < count && sent - opened < NET_OPENING && (sent == 0 || first); sent++) {
            net->to_send = 1;
            net_bare_send(net);
        }
        bare_step(&net->bare);
        if (!first) first = net->bare.received; /* all begin alike */
        if (first) opened = net->bare.received / first;
    }
}

#endif
