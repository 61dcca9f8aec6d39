/* Fails the nth allocation of the library, then the nth input/output call of the process, once and for
   ever after, n = 1, 2, 3, ... until a run completes without a failure having been due. After each run:
   nothing crashed, every call ended exactly once, every allocation was given back, and a gateway opened
   afterwards answers. Run by `make torture` (from the repository root; needs build/fake_provider). */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <dlfcn.h>
#include <signal.h>
#include <sys/wait.h>

enum { TORTURE_MAX = 20000 };

/* ---- the faults ---- */

static bool armed;         /* faults count only while the library is at work */
static bool forever;       /* once the nth failed, all later ones fail too */
static long alloc_at = -1; /* -1: never */
static long io_at = -1;
static long alloc_seen, io_seen;
static long live_bytes;

static bool due(long *seen, long at) {
    if (!armed || at < 0) return false;
    long n = ++*seen;
    return n == at || (forever && n > at);
}

static void *torture_alloc(void *ptr, size_t old_size, size_t new_size, void *user) {
    (void)user;
    if (new_size == 0) {
        live_bytes -= (long)old_size;
        free(ptr);
        return NULL;
    }
    if (due(&alloc_seen, alloc_at)) return NULL;
    void *fresh = realloc(ptr, new_size);
    if (fresh) live_bytes += (long)new_size - (long)old_size;
    return fresh;
}

/* The executable's own definitions stand before libc's, also for libcurl. */
#define REAL(name) ((name##_fn)dlsym(RTLD_NEXT, #name))
typedef ssize_t (*send_fn)(int, const void *, size_t, int);
typedef ssize_t (*recv_fn)(int, void *, size_t, int);
typedef int (*connect_fn)(int, const struct sockaddr *, socklen_t);
typedef int (*socket_fn)(int, int, int);
typedef int (*epoll_ctl_fn)(int, int, int, struct epoll_event *);
typedef int (*epoll_wait_fn)(int, struct epoll_event *, int, int);

static bool io_fails(int error) {
    if (!due(&io_seen, io_at)) return false;
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
    return io_fails(ENETUNREACH) ? -1 : REAL(connect)(fd, address, n);
}

int socket(int family, int type, int protocol) {
    return io_fails(EMFILE) ? -1 : REAL(socket)(family, type, protocol);
}

int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event) {
    return io_fails(ENOSPC) ? -1 : REAL(epoll_ctl)(epfd, op, fd, event);
}

int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout) {
    return io_fails(EINTR) ? -1 : REAL(epoll_wait)(epfd, events, max, timeout);
}

/* ---- the work ---- */

static int port;
static int ends, sent, text_wrong;
static size_t text_len;

static void on_event(const llmgw_event *event, void *user) {
    (void)user;
    if (event->kind == LLMGW_EVENT_TEXT) text_len += event->text_len;
    if (event->kind == LLMGW_EVENT_REWIND) text_len = event->keep;
    if (event->kind != LLMGW_EVENT_END) return;
    ends++;
    if (event->reply->text_len != text_len) text_wrong++;
}

static llmgw *open_gateway(void) {
    char v1[64], v1beta[64];
    llmgw_error error;
    snprintf(v1, sizeof v1, "http://127.0.0.1:%d/v1", port);
    snprintf(v1beta, sizeof v1beta, "http://127.0.0.1:%d/v1beta", port);
    const llmgw_provider providers[] = {{"openai", NULL, v1, "key-openai", NULL, 0},
                                        {"anthropic", NULL, v1, "key-anthropic", NULL, 0},
                                        {"gemini", NULL, v1beta, "key-gemini", NULL, 0}};
    const char *const targets[] = {"openai/fault:{\"status\":500}", "anthropic/fault:{\"cut_after\":300}",
                                   "gemini/good"};
    const llmgw_route route = {"way", NULL, targets, 3};
    llmgw_options options;
    memset(&options, 0, sizeof options);
    options.providers = providers;
    options.provider_count = 3;
    options.routes = &route;
    options.route_count = 1;
    options.no_environment = true;
    options.alloc = torture_alloc;
    options.deadline_ms = 1500;
    options.connect_ms = 500;
    options.idle_ms = 500;
    options.first_token_ms = 500;
    return llmgw_open(&options, &error);
}

/* One plain and one streamed call at once, over three targets, with a tool; then a blocking one. */
static void work(llmgw *gw) {
    static const llmgw_tool tool = {"now", "the time", "{\"type\":\"object\"}", false};
    llmgw_request request;
    llmgw_error error;
    memset(&request, 0, sizeof request);
    request.model = "way";
    request.prompt = "What is the time? call:now {}";
    request.tools = &tool;
    request.tool_count = 1;
    request.on_event = on_event;
    for (int stream = 0; stream < 2; stream++) {
        int before = ends;
        text_len = 0;
        request.stream = stream == 1;
        llmgw_call call = llmgw_send(gw, &request, &error);
        if (!call) continue;
        sent++;
        for (int i = 0; i < 400 && ends == before; i++) (void)llmgw_poll(gw, 50);
    }
    request.on_event = NULL;
    llmgw_reply *reply = llmgw_chat(gw, &request);
    llmgw_reply_free(reply);
}

/* ---- runs ---- */

static int start_provider(pid_t *pid) {
    int pipes[2];
    char line[256] = "";
    if (pipe(pipes) != 0) return 0;
    *pid = fork();
    if (*pid == 0) {
        dup2(pipes[1], 1);
        execl("build/fake_provider", "fake_provider", "--port", "0", (char *)NULL);
        _exit(127);
    }
    close(pipes[1]);
    FILE *out = fdopen(pipes[0], "r");
    int found = 0;
    if (out && fgets(line, sizeof line, out)) sscanf(line, "READY port=%d", &found);
    return found;
}

static bool run(const char *what, long at) {
    alloc_seen = io_seen = 0;
    ends = sent = text_wrong = 0;
    armed = true;
    llmgw *gw = open_gateway();
    if (gw) work(gw);
    if (gw) llmgw_close(gw);
    armed = false;
    if (ends == sent && !text_wrong && !live_bytes) return true;
    printf("FAIL %s %ld%s: sent %d, ended %d, text wrong %d, bytes left %ld\n", what, at,
           forever ? " and after" : "", sent, ends, text_wrong, live_bytes);
    live_bytes = 0;
    return false;
}

/* Fails the nth, for n from 1, until one run has fewer than n. Returns how many runs were wrong. */
static int series(const char *what, long *at, const long *seen, int *runs) {
    int wrong = 0;
    for (*at = 1; *at < TORTURE_MAX; ++*at) {
        wrong += !run(what, *at);
        ++*runs;
        if (*seen < *at) break;
    }
    *at = -1;
    return wrong;
}

int main(void) {
    pid_t pid = 0;
    int wrong = 0, runs = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    port = start_provider(&pid);
    if (!port) {
        puts("torture: build/fake_provider did not start");
        return 1;
    }
    wrong += !run("nothing", 0); /* warms up libcurl's and OpenSSL's own state */
    for (int always = 0; always < 2; always++) {
        forever = always == 1;
        wrong += series("allocation", &alloc_at, &alloc_seen, &runs);
        wrong += series("input/output", &io_at, &io_seen, &runs);
    }
    wrong += !run("nothing", 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    printf("%d passed, %d failed\n", runs - wrong, wrong);
    return wrong != 0;
}
