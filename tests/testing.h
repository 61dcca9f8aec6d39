/* testing.h - what the tests of calls share: the fake provider as a child process, a gateway opened on it,
 * a recorder of events, and a raw TCP server for byte-exact misbehaviour.
 *
 * Include it after llmgw.h (with its implementation). Nothing here asserts outside the test's own thread. */
#ifndef LLMGW_TESTING_H
#define LLMGW_TESTING_H

#include <ftw.h>
#include <sys/stat.h>
#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define T_FN static __attribute__((unused))
#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

#define OPENAI_KEY "sk-openai-0123456789abcdef"
#define ANTHROPIC_KEY "sk-ant-0123456789abcdefgh"
#define GEMINI_KEY "AIza-gemini-0123456789abc"

static const char *const t_dialects[] = {"openai", "anthropic", "gemini"};

/* ---- time and size ---- */

T_FN int64_t t_now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

T_FN void t_sleep_ms(int ms) {
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    while (nanosleep(&t, &t) != 0 && errno == EINTR) continue;
}

/* Sanitized and emulated runs are slow: fewer rounds. */
T_FN bool t_slow(void) { return getenv("LLMGW_SANITIZED") != NULL; }
T_FN int t_rounds(int n) { return t_slow() ? (n + 3) / 4 : n; }

/* ---- a directory of a test's own ---- */

T_FN int t_remove_one(const char *path, const struct stat *info, int kind, struct FTW *at) {
    return remove(path);
}

T_FN void t_remove_tree(const char *path) { nftw(path, t_remove_one, 8, FTW_DEPTH | FTW_PHYS); }

/* ---- talking to a control port ---- */

typedef struct Text {
    char *p;
    size_t n;
} Text;

T_FN size_t t_collect(char *p, size_t size, size_t count, void *user) {
    Text *text = (Text *)user;
    text->p = (char *)realloc(text->p, text->n + size * count + 1);
    memcpy(text->p + text->n, p, size * count);
    text->n += size * count;
    text->p[text->n] = 0;
    return size * count;
}

/* Returns the body (free it), or NULL. */
T_FN char *t_http(const char *method, const char *url, const char *body) {
    Text text = {NULL, 0};
    CURL *easy = curl_easy_init();
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
    if (body) curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, t_collect);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &text);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 20000L);
    CURLcode code = curl_easy_perform(easy);
    curl_easy_cleanup(easy);
    if (code == CURLE_OK) return text.p ? text.p : strdup("");
    free(text.p);
    return NULL;
}

/* ---- the fake provider ---- */

typedef struct Provider {
    pid_t pid;
    int in; /* its standard input: it ends when this is closed */
    int port, tls_port;
    char cert[256];
} Provider;

T_FN void t_exec_provider(const char *const *more, int in, int out) {
    char path[512];
    const char *build = getenv("BUILD"), *argv[16];
    int n = 0;
    snprintf(path, sizeof path, "%s/fake_provider", build ? build : "build");
    argv[n++] = path;
    argv[n++] = "--parent-pid-watch";
    while (more && *more && n < 15) argv[n++] = *more++;
    argv[n] = NULL;
    dup2(in, 0);
    dup2(out, 1);
    execv(path, (char *const *)(uintptr_t)argv);
    _exit(127);
}

/* more: further arguments, ended by NULL. Start it from the main thread: it ends with its parent thread. */
T_FN void provider_start(Provider *provider, const char *const *more) {
    int in[2], out[2];
    char line[512] = "";
    memset(provider, 0, sizeof *provider);
    assert_return_code(pipe2(in, O_CLOEXEC), errno);
    assert_return_code(pipe2(out, O_CLOEXEC), errno);
    provider->pid = fork();
    if (provider->pid == 0) t_exec_provider(more, in[0], out[1]);
    assert_true(provider->pid > 0);
    close(in[0]);
    close(out[1]);
    provider->in = in[1];
    for (size_t n = 0; n + 1 < sizeof line && read(out[0], line + n, 1) == 1 && line[n] != '\n'; n++)
        continue;
    close(out[0]);
    if (sscanf(line, "READY port=%d tls_port=%d cert=%255s", &provider->port, &provider->tls_port,
               provider->cert) != 3)
        fail_msg("the fake provider did not start: %s (is build/fake_provider built?)", line);
}

T_FN void provider_stop(Provider *provider) {
    if (provider->pid <= 0) return;
    close(provider->in);
    waitpid(provider->pid, NULL, 0);
    provider->pid = 0;
}

T_FN void provider_kill(Provider *provider) {
    kill(provider->pid, SIGKILL);
    waitpid(provider->pid, NULL, 0);
    close(provider->in);
    provider->pid = 0;
}

T_FN char *provider_http(const Provider *provider, const char *method, const char *path, const char *body) {
    char url[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", provider->port, path);
    return t_http(method, url, body);
}

T_FN void provider_rule(const Provider *provider, const char *json) {
    char *answer = provider_http(provider, "POST", "/_control", json);
    if (!answer || !strstr(answer, "true"))
        fail_msg("rule refused: %s: %s", json, answer ? answer : "(none)");
    free(answer);
}

/* Forgets rules and counters. */
T_FN void provider_reset(const Provider *provider) {
    char *answer = provider_http(provider, "DELETE", "/_control", NULL);
    assert_non_null(answer);
    free(answer);
}

T_FN json_t *provider_stats(const Provider *provider) {
    char *answer = provider_http(provider, "GET", "/_stats", NULL);
    assert_non_null(answer);
    json_t *stats = json_loads(answer, JSON_ALLOW_NUL, NULL);
    assert_non_null(stats);
    free(answer);
    return stats;
}

/* A counter of /_stats: requests, open, max_open, connections (this look included), disconnects. */
T_FN int provider_count(const Provider *provider, const char *name) {
    json_t *stats = provider_stats(provider);
    int n = (int)json_integer_value(json_object_get(stats, name));
    json_decref(stats);
    return n;
}

/* Waits until a counter has a value. */
T_FN bool provider_wait(const Provider *provider, const char *name, int value, int ms) {
    int64_t until = t_now_ms() + ms;
    while (provider_count(provider, name) != value) {
        if (t_now_ms() > until) return false;
        t_sleep_ms(20);
    }
    return true;
}

/* A number of a key in /_stats: requests, refused, limited, open, max_open, max_window, tokens; 0 unseen. */
T_FN int64_t provider_key(const Provider *provider, const char *key, const char *name) {
    json_t *stats = provider_stats(provider);
    json_t *of = json_object_get(json_object_get(stats, "keys"), key);
    int64_t n = (int64_t)json_integer_value(json_object_get(of, name));
    json_decref(stats);
    return n;
}

/* Requests for a model, as the provider was asked for it. */
T_FN int provider_asked(const Provider *provider, const char *model) {
    json_t *stats = provider_stats(provider);
    int n = (int)json_integer_value(json_object_get(json_object_get(stats, "by_model"), model));
    json_decref(stats);
    return n;
}

/* The text that the fault "script":bytes answers. Free it. */
T_FN char *provider_script(const Provider *provider, int bytes) {
    char path[32];
    snprintf(path, sizeof path, "/_script/%d", bytes);
    char *text = provider_http(provider, "GET", path, NULL);
    assert_non_null(text);
    return text;
}

/* One rule: {"model":MODEL, fault...}; fault without braces. */
T_FN void provider_model_rule(const Provider *provider, const char *model, const char *fault) {
    char json[1024];
    int n = snprintf(json, sizeof json, "{\"model\":\"%s\",%s}", model, fault);
    assert_true(n < (int)sizeof json);
    provider_rule(provider, json);
}

/* ---- a gateway on it ---- */

/* Options under which a failure has no effect on later calls: no pauses, no breaker, no retry budget. */
T_FN llmgw_options t_calm(void) {
    llmgw_options options;
    memset(&options, 0, sizeof options);
    options.backoff_ms = 1;
    options.retry_percent = LLMGW_OFF;
    options.breaker_failures = options.breaker_percent = LLMGW_OFF;
    options.breaker_slow_ms = LLMGW_OFF;
    return options;
}

/* A provider at a path of the fake one. url lives as long as the caller keeps it. */
T_FN llmgw_provider t_provider(const Provider *provider, const char *name, const char *dialect,
                               const char *path, const char *key, char url[128]) {
    llmgw_provider made;
    memset(&made, 0, sizeof made);
    snprintf(url, 128, "http://127.0.0.1:%d%s", provider->port, path);
    made.name = name;
    made.dialect = dialect;
    made.url = url;
    made.key = key;
    return made;
}

/* Three providers named openai, anthropic and gemini at one port. options NULL: defaults. */
T_FN llmgw *t_open_at(const char *scheme, const char *host, int port, const llmgw_options *options) {
    static const char *const keys[] = {OPENAI_KEY, ANTHROPIC_KEY, GEMINI_KEY};
    static const char *const paths[] = {"/v1", "", "/v1beta"};
    char urls[3][160];
    llmgw_provider all[16];
    llmgw_options own;
    llmgw_error error;
    memset(&own, 0, sizeof own);
    memset(all, 0, sizeof all);
    if (options) own = *options;
    for (size_t i = 0; i < 3; i++) {
        snprintf(urls[i], sizeof urls[i], "%s://%s:%d%s", scheme, host, port, paths[i]);
        all[i].name = all[i].dialect = t_dialects[i];
        all[i].url = urls[i];
        all[i].key = keys[i];
    }
    for (size_t i = 0; i < own.provider_count; i++) all[3 + i] = own.providers[i];
    own.providers = all;
    own.provider_count += 3;
    own.no_environment = true;
    llmgw *gw = llmgw_open(&own, &error);
    if (!gw) fail_msg("llmgw_open: %s", error.text);
    return gw;
}

T_FN llmgw *t_open(const Provider *provider, const llmgw_options *options) {
    return t_open_at("http", "127.0.0.1", provider->port, options);
}

/* A model name that makes the fake provider misbehave; json without the outer braces. A few buffers in turn. */
T_FN const char *t_model(const char *provider, const char *json) {
    static __thread char names[16][256];
    static __thread unsigned next;
    char *name = names[next++ % 16];
    int n = snprintf(name, 256, "%s/fault:{%s}", provider, json);
    assert_true(n < 256);
    return name;
}

/* Law 2: attempts that were sent. */
T_FN int t_sent(const llmgw_reply *reply) {
    int n = 0;
    for (size_t i = 0; i < reply->trace_count; i++)
        n += reply->trace[i].kind == LLMGW_TRACE_ATTEMPT && reply->trace[i].sent;
    return n;
}

T_FN int t_traced(const llmgw_reply *reply, llmgw_trace_kind kind) {
    int n = 0;
    for (size_t i = 0; i < reply->trace_count; i++) n += reply->trace[i].kind == kind;
    return n;
}

T_FN void t_expect_code(const llmgw_reply *reply, llmgw_code code) {
    if (reply->error.code != code)
        fail_msg("expected %s, got %s: %s", llmgw_code_name(code), llmgw_code_name(reply->error.code),
                 reply->error.text);
}

T_FN void t_expect_text(const llmgw_reply *reply, const char *part) {
    if (!strstr(reply->error.text, part)) fail_msg("'%s' is not in: %s", part, reply->error.text);
}

/* ---- a recorder of events ---- */

typedef struct Rec Rec;
struct Rec {
    /* set these */
    void (*hook)(Rec *rec, const llmgw_event *event); /* after the event was recorded */
    void *arg;
    pthread_t thread; /* callbacks must come on this thread, if check_thread */
    bool check_thread;
    /* read these */
    int ends, pieces, begun, tried, rewinds, events;
    int wrong_thread, after_end, out_of_order;
    Text text;      /* after all rewinds */
    uint32_t epoch; /* of the last attempt that began */
    uint32_t shown; /* whose content came last; 0: none since an attempt began */
    llmgw_call call;
    llmgw *gw;
    llmgw_reply *reply; /* END's, kept */
    char log[4096];     /* what TRY, TOOL and REASONING events said */
};

T_FN void rec_note(Rec *rec, const char *text) {
    size_t n = strlen(rec->log);
    snprintf(rec->log + n, sizeof rec->log - n, "%s\n", text);
}

/* No event of a loser follows the winner's first: after content only its attempt speaks, until a new attempt
   begins. */
T_FN void rec_order(Rec *rec, const llmgw_event *event) {
    bool begins = event->kind == LLMGW_EVENT_TRY && event->trace->duration_us < 0;
    bool content = event->kind <= LLMGW_EVENT_TOOL;
    if (begins && event->epoch <= rec->epoch) rec->out_of_order++;
    if (begins) rec->shown = 0; /* the one that was shown has failed */
    if (begins) rec->epoch = event->epoch;
    if (rec->shown && event->kind != LLMGW_EVENT_END && event->epoch != rec->shown) rec->out_of_order++;
    if (content) rec->shown = event->epoch;
    if (event->epoch > rec->epoch) rec->out_of_order++;
}

T_FN void rec_event(const llmgw_event *event, void *user) {
    Rec *rec = (Rec *)user;
    if (rec->check_thread && !pthread_equal(rec->thread, pthread_self())) rec->wrong_thread++;
    if (__atomic_load_n(&rec->ends, __ATOMIC_RELAXED)) rec->after_end++;
    rec_order(rec, event);

    __atomic_store_n(&rec->call, event->call, __ATOMIC_RELAXED);
    rec->gw = event->gateway;
    rec->events++;
    switch (event->kind) {
    case LLMGW_EVENT_TEXT:
        t_collect((char *)(uintptr_t)event->text, 1, event->text_len, &rec->text);
        rec->pieces++;
        break;
    case LLMGW_EVENT_REWIND:
        rec->rewinds++;
        if (event->keep > rec->text.n) rec->out_of_order++;
        rec->text.n = event->keep;
        if (rec->text.p) rec->text.p[rec->text.n] = 0;
        break;
    case LLMGW_EVENT_TRY:
        if (event->trace->duration_us < 0)
            rec->begun++;
        else
            rec->tried++;
        rec_note(rec, event->trace->reason);
        break;
    case LLMGW_EVENT_TOOL: rec_note(rec, event->tool_name); break;
    case LLMGW_EVENT_REASONING: rec_note(rec, event->text); break;
    case LLMGW_EVENT_END: rec->reply = llmgw_reply_keep(event->reply); break;
    }
    if (rec->hook) rec->hook(rec, event);
    if (event->kind == LLMGW_EVENT_END) __atomic_add_fetch(&rec->ends, 1, __ATOMIC_RELEASE);
}

/* Laws 1 and 10: one END, nothing after it, and the text of the events is the reply's. */
T_FN void rec_check(const Rec *rec) {
    assert_int_equal(rec->ends, 1);
    assert_int_equal(rec->after_end, 0);
    assert_int_equal(rec->wrong_thread, 0);
    assert_int_equal(rec->out_of_order, 0);
    assert_non_null(rec->reply);
    assert_int_equal(rec->begun, rec->tried);
    assert_int_equal(rec->begun, t_traced(rec->reply, LLMGW_TRACE_ATTEMPT));
    if (rec->text.n != rec->reply->text_len || (rec->text.n && strcmp(rec->text.p, rec->reply->text) != 0))
        fail_msg("law 10: events gave '%.200s' (%zu bytes), the reply says '%.200s' (%zu)",
                 rec->text.p ? rec->text.p : "", rec->text.n, rec->reply->text, rec->reply->text_len);
}

T_FN void rec_free(Rec *rec) {
    llmgw_reply_free(rec->reply);
    free(rec->text.p);
    memset(rec, 0, sizeof *rec);
}

T_FN llmgw_request rec_request(Rec *rec, const char *model, const char *prompt, bool stream) {
    llmgw_request request;
    memset(&request, 0, sizeof request);
    request.model = model;
    request.prompt = prompt;
    request.stream = stream;
    request.on_event = rec_event;
    request.user = rec;
    return request;
}

/* Another thread may poll meanwhile: the handle is stored atomically. */
T_FN void rec_send(llmgw *gw, Rec *rec, const llmgw_request *request) {
    llmgw_error error;
    llmgw_call call = llmgw_send(gw, request, &error);
    if (call) __atomic_store_n(&rec->call, call, __ATOMIC_RELAXED);
    if (!call) fail_msg("llmgw_send: %s", error.text);
}

T_FN int rec_ended(const Rec *recs, int count) {
    int n = 0;
    for (int i = 0; i < count; i++) n += __atomic_load_n(&recs[i].ends, __ATOMIC_ACQUIRE) != 0;
    return n;
}

/* Polls until all have ended, at most ms. */
T_FN bool rec_drive(llmgw *gw, const Rec *recs, int count, int ms) {
    int64_t until = t_now_ms() + ms;
    while (rec_ended(recs, count) < count) {
        if (t_now_ms() > until) return false;
        int n = llmgw_poll(gw, 200);
        if (n < 0) return false;
    }
    return true;
}

/* A blocking call that is recorded and checked. The reply is the recorder's. */
T_FN const llmgw_reply *rec_chat(llmgw *gw, Rec *rec, const llmgw_request *request) {
    rec->thread = pthread_self();
    rec->check_thread = true;
    llmgw_reply *reply = llmgw_chat(gw, request);
    assert_ptr_equal(reply, rec->reply);
    llmgw_reply_free(reply);
    rec_check(rec);
    return rec->reply;
}

/* ---- a raw TCP server ---- */

#define RAW_MAX 256

typedef struct Raw Raw;
struct Raw {
    int fd, port;
    void (*serve)(Raw *raw, int fd, int number); /* on a thread of its own; number from 0 */
    void *arg;
    pthread_t thread;
    pthread_t threads[RAW_MAX];
    int fds[RAW_MAX];
    int connections, requests; /* atomically */
    bool stopping;
};

typedef struct RawOne {
    Raw *raw;
    int number;
} RawOne;

T_FN void *raw_one(void *user) {
    RawOne one = *(RawOne *)user;
    free(user);
    one.raw->serve(one.raw, one.raw->fds[one.number], one.number);
    shutdown(one.raw->fds[one.number], SHUT_RDWR);
    return NULL;
}

T_FN void *raw_main(void *user) {
    Raw *raw = (Raw *)user;
    while (!__atomic_load_n(&raw->stopping, __ATOMIC_ACQUIRE)) {
        struct pollfd p = {raw->fd, POLLIN, 0};
        if (poll(&p, 1, 50) <= 0) continue;
        int fd = accept4(raw->fd, NULL, NULL, SOCK_CLOEXEC), n = raw->connections;
        if (fd < 0) continue;
        if (n == RAW_MAX) {
            close(fd);
            continue;
        }
        RawOne *one = (RawOne *)malloc(sizeof *one);
        one->raw = raw;
        one->number = n;
        raw->fds[n] = fd;
        pthread_create(&raw->threads[n], NULL, raw_one, one);
        __atomic_add_fetch(&raw->connections, 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

T_FN int t_listen(int backlog, int *port) {
    struct sockaddr_in address;
    socklen_t n = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_return_code(bind(fd, (struct sockaddr *)&address, sizeof address), errno);
    assert_return_code(listen(fd, backlog), errno);
    assert_return_code(getsockname(fd, (struct sockaddr *)&address, &n), errno);
    *port = ntohs(address.sin_port);
    return fd;
}

T_FN void raw_start(Raw *raw, void (*serve)(Raw *raw, int fd, int number), void *arg) {
    memset(raw, 0, sizeof *raw);
    raw->serve = serve;
    raw->arg = arg;
    raw->fd = t_listen(64, &raw->port);
    assert_int_equal(pthread_create(&raw->thread, NULL, raw_main, raw), 0);
}

T_FN void raw_stop(Raw *raw) {
    __atomic_store_n(&raw->stopping, true, __ATOMIC_RELEASE);
    shutdown(raw->fd, SHUT_RDWR); /* ends its poll */
    pthread_join(raw->thread, NULL);
    for (int i = 0; i < raw->connections; i++) shutdown(raw->fds[i], SHUT_RDWR);
    for (int i = 0; i < raw->connections; i++) {
        pthread_join(raw->threads[i], NULL);
        close(raw->fds[i]);
    }
    close(raw->fd);
}

T_FN bool raw_write(int fd, const void *p, size_t n) {
    for (size_t at = 0; at < n;) {
        ssize_t k = send(fd, (const char *)p + at, n - at, MSG_NOSIGNAL);
        if (k <= 0) return false;
        at += (size_t)k;
    }
    return true;
}

T_FN bool raw_puts(int fd, const char *text) { return raw_write(fd, text, strlen(text)); }

/* Reads one HTTP request with its body. False: the client hung up. head gets the headers. */
T_FN bool raw_request(Raw *raw, int fd, char *head, size_t cap) {
    size_t n = 0;
    char body[4096];
    while (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0) {
        if (n + 1 >= cap || recv(fd, head + n, 1, 0) != 1) return false;
        n++;
    }
    head[n] = 0;
    const char *length = strcasestr(head, "content-length:");
    size_t left = length ? strtoul(length + 15, NULL, 10) : 0;
    while (left) {
        ssize_t k = recv(fd, body, left < sizeof body ? left : sizeof body, 0);
        if (k <= 0) return false;
        left -= (size_t)k;
    }
    __atomic_add_fetch(&raw->requests, 1, __ATOMIC_RELEASE);
    return true;
}

T_FN int raw_requests(const Raw *raw) { return __atomic_load_n(&raw->requests, __ATOMIC_ACQUIRE); }
T_FN int raw_connections(const Raw *raw) { return __atomic_load_n(&raw->connections, __ATOMIC_ACQUIRE); }

/* A whole answer of the openai dialect. */
#define RAW_JSON                                                                                             \
    "{\"id\":\"c1\",\"object\":\"chat.completion\",\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":"   \
    "{\"role\":\"assistant\",\"content\":\"hello\"},\"finish_reason\":\"stop\"}],"                           \
    "\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3}}"
#define RAW_DELTA(text)                                                                                      \
    "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,"   \
    "\"delta\":{\"content\":\"" text "\"},\"finish_reason\":null}]}\n\n"
#define RAW_LAST                                                                                             \
    "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,"   \
    "\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"

/* headers: further lines, each with \r\n. */
T_FN bool raw_reply(int fd, const char *status, const char *headers, const char *body) {
    char head[1024];
    snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n%s\r\n", status, strlen(body),
             headers);
    return raw_puts(fd, head) && raw_puts(fd, body);
}

#define RAW_IS_JSON "Content-Type: application/json\r\n"
#define RAW_IS_SSE "Content-Type: text/event-stream\r\n"

#endif
