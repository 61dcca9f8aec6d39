/* Fails the nth allocation of the library, the nth of libcurl, and the nth input/output call of the process,
   once and for ever after, n = 1, 2, 3, ... until a run completes without a failure having been due; for each
   of the scenarios below. After each run: nothing crashed, every call ended exactly once and in time, its
   events say what its reply says, every allocation was given back and every descriptor closed; and once all
   is well again, a gateway answers as it should. Run by `make torture` (from the repository root; needs
   build/fake_provider).

     torture [SCENARIO...]     all of them, or those named */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <ftw.h>
#include <dirent.h>
#include <dlfcn.h>
#include <signal.h>
#include <sys/wait.h>

enum {
    RUNS_MAX = 20000,
    CALLS = 4,       /* of a scenario, at most */
    TEXT_MAX = 8192, /* of an answer */
    DEADLINE_MS = 1500,
    SLACK_MS = 1500 /* a sanitized program on a busy machine */
};

/* ---- the faults ---- */

typedef enum Kind { ALLOCATION, CURL_ALLOCATION, INPUT_OUTPUT, KINDS } Kind;
static const char *const kind_names[] = {"allocation", "libcurl's allocation", "input/output"};

static bool armed;   /* faults count only while the library is at work */
static bool forever; /* once the nth failed, all later ones fail too */
static Kind failing; /* this kind fails ... */
static long fail_at; /* ... at this one; 0: never */
static long seen[KINDS];
static long live_bytes, live_blocks; /* the library's, libcurl's */
static int connects;

static bool due(Kind kind) {
    if (!armed) return false;
    long n = ++seen[kind];
    if (kind != failing || !fail_at) return false;
    return n == fail_at || (forever && n > fail_at);
}

static void *torture_alloc(void *ptr, size_t old_size, size_t new_size, void *user) {
    (void)user;
    if (new_size == 0) {
        live_bytes -= (long)old_size;
        free(ptr);
        return NULL;
    }
    if (due(ALLOCATION)) return NULL;
    void *fresh = realloc(ptr, new_size);
    if (fresh) live_bytes += (long)new_size - (long)old_size;
    return fresh;
}

static void *curl_got(void *ptr) {
    if (ptr) live_blocks++;
    return ptr;
}
static void *curl_malloc(size_t size) { return due(CURL_ALLOCATION) ? NULL : curl_got(malloc(size)); }
static void *curl_calloc(size_t n, size_t size) {
    return due(CURL_ALLOCATION) ? NULL : curl_got(calloc(n, size));
}
static char *curl_strdup(const char *text) {
    return (char *)(due(CURL_ALLOCATION) ? NULL : curl_got(strdup(text)));
}
static void *curl_realloc(void *ptr, size_t size) {
    if (due(CURL_ALLOCATION)) return NULL;
    return ptr ? realloc(ptr, size) : curl_got(malloc(size));
}
static void curl_release(void *ptr) {
    if (ptr) live_blocks--;
    free(ptr);
}

/* The executable's own definitions stand before libc's, also for libcurl. */
#define REAL(name) ((name##_fn)dlsym(RTLD_NEXT, #name))
typedef ssize_t (*send_fn)(int, const void *, size_t, int);
typedef ssize_t (*recv_fn)(int, void *, size_t, int);
typedef int (*connect_fn)(int, const struct sockaddr *, socklen_t);
typedef int (*socket_fn)(int, int, int);
typedef int (*epoll_create1_fn)(int);
typedef int (*epoll_ctl_fn)(int, int, int, struct epoll_event *);
typedef int (*epoll_wait_fn)(int, struct epoll_event *, int, int);
typedef int (*eventfd_fn)(unsigned, int);
typedef int (*timerfd_create_fn)(int, int);

static bool io_fails(int error) {
    if (!due(INPUT_OUTPUT)) return false;
    errno = error;
    return true;
}

ssize_t send(int fd, const void *p, size_t n, int flags) {
    return io_fails(ECONNRESET) ? -1 : REAL(send)(fd, p, n, flags);
}

ssize_t recv(int fd, void *p, size_t n, int flags) {
    return io_fails(ECONNRESET) ? -1 : REAL(recv)(fd, p, n, flags);
}

int connect(int fd, const struct sockaddr *address, socklen_t n) {
    connects += armed;
    return io_fails(ENETUNREACH) ? -1 : REAL(connect)(fd, address, n);
}

int socket(int family, int type, int protocol) {
    return io_fails(EMFILE) ? -1 : REAL(socket)(family, type, protocol);
}

int epoll_create1(int flags) { return io_fails(EMFILE) ? -1 : REAL(epoll_create1)(flags); }

int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event) {
    return io_fails(ENOSPC) ? -1 : REAL(epoll_ctl)(epfd, op, fd, event);
}

int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout) {
    return io_fails(EINTR) ? -1 : REAL(epoll_wait)(epfd, events, max, timeout);
}

int eventfd(unsigned value, int flags) { return io_fails(EMFILE) ? -1 : REAL(eventfd)(value, flags); }

int timerfd_create(int clock, int flags) {
    return io_fails(EMFILE) ? -1 : REAL(timerfd_create)(clock, flags);
}

/* ---- the scenarios ---- */

enum { STREAM = 1, SENTENCES = 2, TOOL = 4, SCHEMA = 8 };

/* One call. prompt: a format of the run's number, as the provider counts its cuts by the fault's text. */
typedef struct Ask {
    const char *model, *prompt;
    unsigned with; /* STREAM ... */
    int attempts;  /* when nothing fails, at least */
} Ask;

typedef enum How {
    ONE_BY_ONE,
    AT_ONCE,
    BY_FD,
    CANCELLED,
    CLOSED,
    EMBED,
    BATCH
} How; /* the last two ask for no answer */

typedef struct Scenario {
    const char *name;
    How how;
    int connects, waits,
        text;           /* connections, waits of calls, bytes of an answer: when nothing fails, at least */
    const char *config; /* what stands beside the providers */
    Ask asks[CALLS];
} Scenario;

#define RESUME(at) "fault:{\"script\":900,\"cut_at\":" #at ",\"model_echo\":\"run %ld\"} Go."
#define NOW "What is the time? call:now {}"
#define SLOW_RACE "'routes':{'r':{'how':'race','try':['o/never','g/slow']}}"

/* config: with ' for " */
/* clang-format off */
static const Scenario scenarios[] = {
    {"open", ONE_BY_ONE, 0, 0, 0, "'max_attempts':2", {{NULL, NULL, 0, 0}}},
    {"failover",
     ONE_BY_ONE, 1, 0, 0, "'routes':{'r':{'try':['o/fails','a/cut','g/good']}}",
     {{"r", NOW, TOOL, 2}, {"r", NOW, TOOL | STREAM, 3}}},
    {"by_fd",
     BY_FD, 1, 0, 4, "'routes':{'r':{'try':['o/fails','g/good']}}",
     {{"r", "Who are you?", STREAM, 2}, {"r", "Who else?", 0, 2}}},
    {"race",
     ONE_BY_ONE, 3, 0, 4,
     "'routes':{'r':{'how':'race','width':3,'try':['o/m','a/m','g/m']},"
     "'w':{'how':'race','width':3,'race_by':'complete','try':['o/fails','a/m','g/m']}}",
     {{"r", "Who is the fastest?", STREAM, 3}, {"r", "Who is it?", 0, 3}, {"w", "Who is done first?", STREAM, 3}}},
    {"hedge",
     ONE_BY_ONE, 2, 0, 4, "'routes':{'r':{'hedge':15,'hedge_percent':100,'try':['o/slow','g/m']}}",
     {{"r", "Are you there?", STREAM, 2}, {"r", "Are you there?", 0, 2}}},
    {"resume",
     ONE_BY_ONE, 1, 0, 899, "'max_resumes':2",
     {{"o/m", RESUME(400), STREAM, 2}, {"a/claude-sonnet-4-5", RESUME(401), STREAM, 2}, {"g/m", RESUME(402), STREAM, 2}}},
    {"sentences",
     AT_ONCE, 1, 0, 899, "'max_resumes':2",
     {{"o/m", RESUME(403), STREAM | SENTENCES, 2}, {"a/claude-sonnet-4-5", RESUME(404), STREAM | SENTENCES, 2}}},
    {"keys",
     ONE_BY_ONE, 1, 0, 3, "'routes':{'r':{'try':['k/m','g/m']}}",
     {{"r", "One", STREAM, 1}, {"k/m", "Two", 0, 1}, {"k/m", "Three", STREAM, 1}}},
    {"limits",
     AT_ONCE, 1, 3, 3, "'models':{'x':{'provider':'one','model':'m','tpm':100000,'rpm':100}}",
     {{"x", "One", STREAM, 1}, {"x", "Two", 0, 1}, {"x", "Three", STREAM, 1}, {"one/y", "Four", STREAM, 1}}},
    {"schema",
     ONE_BY_ONE, 1, 0, 7,
     "'routes':{'r':{'valid':['not_empty','not_refused','schema'],'try':['o/prose','a/other','g/json']}}",
     {{"r", "Count.", STREAM | SCHEMA, 3}, {"r", "Count.", SCHEMA, 3}}},
    {"standby",
     ONE_BY_ONE, 2, 0, 3, "'routes':{'r':{'try':['o/m','far/m','g/m'],'standby':2}}",
     {{"r", "One", STREAM, 1}, {"r", "Two", 0, 1}}},
    {"cancel",
     CANCELLED, 1, 0, 0, SLOW_RACE,
     {{"r", "One", STREAM, 1}, {"one/never", "Two", 0, 1}, {"one/m", "Three", STREAM, 0}}},
    {"close",
     CLOSED, 1, 0, 0, SLOW_RACE,
     {{"r", "One", STREAM, 1}, {"one/never", "Two", 0, 1}, {"one/m", "Three", STREAM, 0}}},
    /* the store is made in the first run: each question is new, its second time joins the first or is a hit */
    {"cache",
     AT_ONCE, 1, 0, 0, "'cache':{'semantic':true,'similarity':0.9,'judge':'o/m'}",
     {{"o/m", "How do I reset password %ld of mine?", STREAM, 1}, {"o/m", "How do I reset password %ld of mine?", STREAM, 0},
      {"o/m", "What is the capital of country %ld?", 0, 0}}},
    {"vectors",
     ONE_BY_ONE, 1, 0, 0, "'cache':{'semantic':true,'embed_model':'o/embed','embed_ms':300}",
     {{"o/m", "How do I reset password %ld of mine?", STREAM, 1}}},
    {"embed", EMBED, 1, 0, 0, "'routes':{'r':{'try':['q/e','q2/e']}}", {{"r", NULL, 0, 0}}},
    {"batch",
     BATCH, 1, 0, 0,
     "'models':{'b':{'provider':'o','model':'m','price':{'input':1,'output':2}}}",
     {{"b", NULL, 0, 0}}},
    {"batch_a", BATCH, 1, 0, 0, "'max_attempts':2", {{"a/m", NULL, 0, 0}}},
};

/* What the provider does for models and keys of these names. */
static const char *const rules[] = {
    "{\"model\":\"fails\",\"status\":500}",
    "{\"batch\":{\"polls\":1,\"errors\":0,\"seed\":7}}",
    "{\"model\":\"cut\",\"cut_after\":300}",
    "{\"model\":\"slow\",\"first_ms\":300}",
    "{\"model\":\"never\",\"never\":true}",
    "{\"model\":\"prose\",\"text\":\"There are seven.\"}",
    "{\"model\":\"other\",\"text\":\"{\\\"n\\\":\\\"seven\\\"}\"}",
    "{\"model\":\"json\",\"text\":\"{\\\"n\\\":7}\"}",
    "{\"keys\":{\"key-dead\":\"refused\"}}",
};

/* ---- the work ---- */

static int64_t now_us(void) { return llmgwi_base_now_us(NULL); }

typedef struct Call {
    bool sent, wrong; /* wrong: an event after END, or one that does not fit */
    int ends;
    int64_t begun_us, ended_us;
    size_t text_len;
    char text[TEXT_MAX];
    llmgw_reply *reply; /* END's, kept */
} Call;

static int ports[2];
static long run_number;
static Call calls[CALLS];
static const char *misled; /* what was wrong beside the calls */

static void on_event(const llmgw_event *event, void *user) {
    Call *call = (Call *)user;
    if (call->ends) call->wrong = true;
    if (event->kind == LLMGW_EVENT_TEXT) {
        if (event->text_len > sizeof call->text - call->text_len) {
            call->wrong = true;
            return;
        }
        memcpy(call->text + call->text_len, event->text, event->text_len);
        call->text_len += event->text_len;
    }
    if (event->kind == LLMGW_EVENT_REWIND) {
        if (event->keep > call->text_len) call->wrong = true;
        call->text_len = event->keep;
    }
    if (event->kind != LLMGW_EVENT_END) return;
    call->ends++;
    call->ended_us = now_us();
    call->reply = llmgw_reply_keep(event->reply);
}

static bool is_seven(const llmgw_reply *reply, void *user) {
    (void)user;
    return reply->text_len > 0 && strstr(reply->text, "7") != NULL;
}

static char store_dir[] = "/tmp/llmgw-torture-XXXXXX";

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at) {
    (void)info;
    (void)kind;
    (void)at;
    return remove(path);
}

static llmgw *open_gateway(const Scenario *scenario) {
    static const char format[] =
        "{'providers':{"
        "'o':{'dialect':'openai','url':'http://127.0.0.1:%1$d/v1','key':'ko','region':'1'},"
        "'a':{'dialect':'anthropic','url':'http://127.0.0.1:%1$d/v1','key':'ka','region':'2'},"
        "'g':{'dialect':'gemini','url':'http://127.0.0.1:%1$d/v1beta','key':'kg','region':'3'},"
        "'k':{'dialect':'openai','url':'http://127.0.0.1:%1$d/v1','keys':['key-dead','key-live']},"
        "'q':{'dialect':'qwen','url':'http://127.0.0.1:%1$d/v1','key':'kq'},"
        "'q2':{'dialect':'qwen','url':'http://127.0.0.1:%1$d/v1','key':'kq2'},"
        "'one':{'dialect':'openai','url':'http://127.0.0.1:%1$d/v1','key':'k1','concurrency':1},"
        "'far':{'dialect':'openai','url':'http://127.0.0.1:%2$d/v1','key':'kf'}},%3$s}";
    char json[4096];
    llmgw_options options;
    llmgw_error error;
    memset(&options, 0, sizeof options);
    snprintf(json, sizeof json, format, ports[0], ports[1], scenario->config);
    for (char *p = json; *p; p++)
        if (*p == '\'') *p = '"';
    options.config_json = json;
    if (strstr(json, "\"cache\"") || scenario->how == BATCH) options.store.path = store_dir;
    options.store.no_sync = true;
    options.store.max_bytes = 8 << 20;
    options.no_environment = true;
    options.alloc = torture_alloc;
    options.deadline_ms = DEADLINE_MS;
    options.connect_ms = options.idle_ms = options.first_token_ms = 500;
    options.backoff_ms = 1;
    options.backoff_max_ms = 4;
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw && error.code != LLMGW_E_MEMORY) {
        printf("llmgw_open: %s: %s\n", llmgw_code_name(error.code), error.text);
        misled = "llmgw_open says something else than E_MEMORY";
    }
    return gw;
}

static void make_request(llmgw_request *request, const Ask *ask, char *prompt, size_t size) {
    static const llmgw_tool tool = {"now", "the time", "{\"type\":\"object\"}", false};
    memset(request, 0, sizeof *request);
    snprintf(prompt, size, ask->prompt, run_number);
    request->model = ask->model;
    request->prompt = prompt;
    request->stream = (ask->with & STREAM) != 0;
    request->whole_sentences = (ask->with & SENTENCES) != 0;
    if (ask->with & TOOL) {
        request->tools = &tool;
        request->tool_count = 1;
    }
    if (ask->with & SCHEMA) {
        request->schema =
            "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"]}";
        request->is_valid = is_seven;
    }
}

static llmgw_call send_one(llmgw *gw, const Ask *ask, Call *call) {
    char prompt[160];
    llmgw_request request;
    llmgw_error error;
    make_request(&request, ask, prompt, sizeof prompt);
    request.on_event = on_event;
    request.user = call;
    call->begun_us = now_us();
    llmgw_call handle = llmgw_send(gw, &request, &error);
    call->sent = handle != 0;
    if (!handle && !error.code) call->wrong = true;
    return handle;
}

static bool all_ended(void) {
    for (int i = 0; i < CALLS; i++)
        if (calls[i].sent && !calls[i].ends) return false;
    return true;
}

static void drive(llmgw *gw, bool by_fd) {
    int64_t until = now_us() + (int64_t)(DEADLINE_MS + SLACK_MS) * 1000;
    while (!all_ended() && now_us() < until) {
        struct pollfd fd = {by_fd ? llmgw_fd(gw) : -1, POLLIN, 0};
        if (by_fd && fd.fd >= 0) (void)poll(&fd, 1, 50);
        (void)llmgw_poll(gw, fd.fd >= 0 ? 0 : 20);
    }
}

static void look(llmgw *gw) {
    llmgw_limit limits[8];
    llmgw_target targets[8];
    (void)llmgw_limits(gw, limits, 8);
    size_t n = llmgw_targets(gw, targets, 8);
    for (size_t i = 0; i < n && i < 8; i++)
        if (targets[i].in_flight && all_ended()) misled = "llmgw_targets: in flight, after the last END";
}

/* Some parts: all vectors, or none and why. */
static void embed(llmgw *gw, const char *model) {
    static const char *texts[45];
    llmgw_embed_request request;
    memset(&request, 0, sizeof request);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) texts[i] = "one of many texts";
    request.model = model;
    request.texts = texts;
    request.text_count = sizeof texts / sizeof texts[0];
    int64_t begun_us = now_us();
    llmgw_vectors *v = llmgw_embed(gw, &request);
    if (now_us() - begun_us > (int64_t)(DEADLINE_MS + SLACK_MS) * 1000) misled = "llmgw_embed: late";
    if (v->error.code ? !v->error.text[0] || v->values || v->count || v->dim
                      : v->count != request.text_count || !v->dim)
        misled = "llmgw_embed: an error with vectors, or neither";
    for (size_t i = 0; i < v->count; i++)
        if (memcmp(v->values, v->values + i * v->dim, v->dim * sizeof(float)) != 0)
            misled = "llmgw_embed: equal texts, other vectors";
    if (!fail_at && v->error.code) misled = "llmgw_embed: fails although nothing does";
    if (llmgw_pending(gw)) misled = "llmgw_embed: a part is left";
    llmgw_vectors_free(v);
}

typedef struct Lines {
    int count, wrong;
} Lines;

static bool on_result(const char *id, const llmgw_reply *reply, void *user) {
    Lines *lines = (Lines *)user;
    lines->count++;
    if (!id[0] || !reply->text || (reply->error.code && !reply->error.text[0])) lines->wrong++;
    return true;
}

/* What fails has a text; results are all there, or the call says that they are not. */
static void batch(llmgw *gw, const char *model) {
    enum { COUNT = 5 };
    llmgw_request requests[COUNT];
    llmgw_batch one;
    llmgw_batch_info info;
    llmgw_error error;
    Lines lines = {0, 0};
    char id[LLMGW_BATCH_ID];
    memset(requests, 0, sizeof requests);
    memset(&one, 0, sizeof one);
    for (int i = 0; i < COUNT; i++) requests[i].prompt = "one of many questions", requests[i].max_tokens = 10;
    one.model = model;
    one.requests = requests;
    one.count = COUNT;
    one.deadline_ms = 300;
    if (llmgw_batch_submit(gw, &one, id, &error)) {
        if (!error.text[0] || id[0] || !fail_at) misled = "llmgw_batch_submit";
        return;
    }
    for (int i = 0; i < 9 && !llmgw_batch_status(gw, id, &one, &info, &error) && !info.over; i++) continue;
    int64_t n = llmgw_batch_results(gw, id, &one, on_result, &lines, &error);
    if (lines.wrong || (n < 0 ? !error.text[0] || !fail_at : n != COUNT || lines.count != COUNT))
        misled = "llmgw_batch_results";
    if (llmgw_batch_cancel(gw, id, &one, &error) && !error.text[0]) misled = "llmgw_batch_cancel";
    if (llmgw_pending(gw)) misled = "llmgw_batch_...: a call is left";
}

static void work(llmgw *gw, const Scenario *scenario) {
    llmgw_call handles[CALLS] = {0};
    How how = scenario->how;
    if (how == EMBED) embed(gw, scenario->asks[0].model);
    if (how == BATCH) batch(gw, scenario->asks[0].model);
    if (how == EMBED || how == BATCH) return;
    for (int i = 0; i < CALLS && scenario->asks[i].model; i++) {
        handles[i] = send_one(gw, &scenario->asks[i], &calls[i]);
        if (how == ONE_BY_ONE || how == BY_FD) drive(gw, how == BY_FD);
    }
    if (how == CANCELLED || how == CLOSED)
        for (int i = 0; i < 4; i++) (void)llmgw_poll(gw, 5);
    look(gw);
    if (how == CANCELLED)
        for (int i = 0; i < CALLS; i++) llmgw_cancel(gw, handles[i]);
    if (how != CLOSED) drive(gw, false);
    look(gw);
    if (how != ONE_BY_ONE || !scenario->asks[0].model) return;
    char prompt[160];
    llmgw_request request;
    make_request(&request, &scenario->asks[0], prompt, sizeof prompt);
    llmgw_reply *reply = llmgw_chat(gw, &request);
    if (!reply || !reply->text) calls[0].wrong = true;
    llmgw_reply_free(reply);
}

/* ---- what a run must leave behind ---- */

static const char *call_fault(const Call *call) {
    const llmgw_reply *reply = call->reply;
    if (call->wrong) return "an event or answer that does not fit";
    if (call->sent != (call->ends == 1)) return call->ends ? "ended twice, or was never sent" : "never ended";
    if (!call->sent) return NULL;
    if (call->ended_us - call->begun_us > (int64_t)(DEADLINE_MS + SLACK_MS) * 1000) return "ended late";
    if (reply->text_len != call->text_len || memcmp(reply->text, call->text, call->text_len) != 0)
        return "the events say other than the reply";
    if (reply->error.code && !reply->error.text[0]) return "an error without a text";
    return NULL;
}

static int count_fds(void) {
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir)) n++;
    if (dir) closedir(dir);
    return n;
}

static int complain(const Scenario *scenario, const char *what) {
    printf("FAIL %s: %s %ld%s: %s\n", scenario->name, kind_names[failing], fail_at,
           forever ? " and all after it" : "", what);
    return 1;
}

/* What the scenario is about did happen, when nothing fails. */
static int check_good(const Scenario *scenario) {
    char what[400];
    int waits = 0;
    for (int i = 0; i < CALLS && scenario->asks[i].model && scenario->how < EMBED; i++) {
        const llmgw_reply *reply = calls[i].reply;
        llmgw_code want = scenario->how == CANCELLED ? LLMGW_E_CANCELLED
                          : scenario->how == CLOSED  ? LLMGW_E_CLOSED
                                                     : LLMGW_OK;
        for (size_t k = 0; reply && k < reply->trace_count; k++)
            waits += reply->trace[k].kind == LLMGW_TRACE_WAIT;
        if (reply && reply->error.code == want && reply->attempts >= scenario->asks[i].attempts &&
            (int)reply->text_len >= scenario->text)
            continue;
        snprintf(what, sizeof what, "call %d: %d attempts, %lu bytes, %s", i, reply ? reply->attempts : 0,
                 reply ? (unsigned long)reply->text_len : 0, reply ? reply->error.text : "not sent");
        return complain(scenario, what);
    }
    if (waits < scenario->waits) return complain(scenario, "too few calls have waited");
    if (connects < scenario->connects) return complain(scenario, "too few connections were opened");
    return 0;
}

/* What the calls say; to be asked before their replies are freed. */
static int check_calls(const Scenario *scenario) {
    char what[480];
    for (int i = 0; i < CALLS; i++) {
        const char *fault = call_fault(&calls[i]);
        if (!fault) continue;
        const llmgw_reply *reply = calls[i].reply;
        snprintf(what, sizeof what, "call %d: %s (%lu bytes in events, %lu in the reply; %s)", i, fault,
                 (unsigned long)calls[i].text_len, reply ? (unsigned long)reply->text_len : 0,
                 reply ? reply->error.text : "none");
        return complain(scenario, what);
    }
    if (misled) return complain(scenario, misled);
    return fail_at ? 0 : check_good(scenario);
}

static int check_left(const Scenario *scenario, int fds, long blocks) {
    char what[200];
    if (!live_bytes && live_blocks == blocks && fds == count_fds()) return 0;
    snprintf(what, sizeof what, "left: %ld bytes of ours, %ld blocks of libcurl's, %d descriptors",
             live_bytes, live_blocks - blocks, count_fds() - fds);
    live_bytes = 0;
    return complain(scenario, what);
}

static int run(const Scenario *scenario) {
    int fds = count_fds();
    long blocks = live_blocks;
    memset(seen, 0, sizeof seen);
    memset(calls, 0, sizeof calls);
    connects = 0;
    misled = NULL;
    run_number++;
    armed = true;
    llmgw *gw = open_gateway(scenario);
    if (gw) work(gw, scenario);
    if (gw && llmgw_close(gw) != LLMGW_OK) calls[0].wrong = true;
    armed = false;
    int wrong = check_calls(scenario); /* the replies outlive the gateway */
    for (int i = 0; i < CALLS; i++) llmgw_reply_free(calls[i].reply);
    return wrong || check_left(scenario, fds, blocks);
}

/* Fails the nth, for n from 1, until one run has fewer than n. Returns how many runs were wrong. */
static int series(const Scenario *scenario, int *runs) {
    int wrong = 0;
    for (fail_at = 1; fail_at < RUNS_MAX; fail_at++) {
        wrong += run(scenario);
        ++*runs;
        if (seen[failing] < fail_at) break;
    }
    fail_at = 0;
    return wrong;
}

static int torture(const Scenario *scenario, int *runs) {
    int64_t begun = now_us();
    int before = *runs, wrong = run(scenario);
    if (wrong) return wrong;
    for (int kind = 0; kind < KINDS; kind++) {
        if (kind == CURL_ALLOCATION && scenario->asks[0].model) continue; /* 7.88 does not outlive all */
        for (int always = 0; always < 2; always++) {
            failing = (Kind)kind;
            forever = always == 1;
            wrong += series(scenario, runs);
        }
    }
    wrong += run(scenario);
    *runs += 2;
    printf("%-4s %-10s %5d runs, %3d s\n", wrong ? "FAIL" : "ok", scenario->name, *runs - before,
           (int)((now_us() - begun) / 1000000));
    return wrong;
}

/* ---- the provider ---- */

static int start_provider(pid_t *pid) {
    int pipes[2], in[2]; /* it ends when nobody holds the other end of its input: also when we crash */
    char line[256] = "";
    if (pipe(pipes) != 0 || pipe(in) != 0) return 0;
    *pid = fork();
    if (*pid == 0) {
        close(in[1]);
        dup2(in[0], 0);
        dup2(pipes[1], 1);
        execl("build/fake_provider", "fake_provider", "--port", "0", "--parent-pid-watch", (char *)NULL);
        _exit(127);
    }
    close(pipes[1]);
    close(in[0]);
    FILE *out = fdopen(pipes[0], "r");
    int found = 0;
    if (out && fgets(line, sizeof line, out)) sscanf(line, "READY port=%d", &found);
    return found;
}

static size_t discard(char *p, size_t size, size_t n, void *user) {
    (void)p, (void)user;
    return size * n;
}

static bool set_rules(void) {
    char url[64];
    CURLcode code = CURLE_OK;
    CURL *easy = curl_easy_init();
    snprintf(url, sizeof url, "http://127.0.0.1:%d/_control", ports[0]);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, discard);
    for (size_t i = 0; i < sizeof rules / sizeof rules[0] && code == CURLE_OK; i++) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, rules[i]);
        code = curl_easy_perform(easy);
    }
    curl_easy_cleanup(easy);
    return code == CURLE_OK;
}

static bool chosen(const Scenario *scenario, int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], scenario->name) == 0) return true;
    return argc == 1;
}

int main(int argc, char **argv) {
    pid_t pids[2] = {0, 0};
    int wrong = 0, runs = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!mkdtemp(store_dir)) return 1;
    curl_global_init_mem(CURL_GLOBAL_DEFAULT, curl_malloc, curl_release, curl_realloc, curl_strdup, curl_calloc);
    for (int i = 0; i < 2; i++) ports[i] = start_provider(&pids[i]);
    if (!ports[0] || !ports[1] || !set_rules()) {
        puts("torture: build/fake_provider did not start");
        return 1;
    }
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++)
        if (chosen(&scenarios[i], argc, argv)) wrong += torture(&scenarios[i], &runs);
    for (int i = 0; i < 2; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    (void)nftw(store_dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    printf("%d passed, %d failed\n", runs - wrong, wrong);
    return wrong != 0;
}
