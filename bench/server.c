/* server.c - the provider of the network benchmarks: one thread, one epoll, as light as it can be, so that
   the client is what is measured. It believes everything it is sent. Prints "READY port" and serves
   127.0.0.1 until it is killed.

     POST /delay/...   one openai reply, 2 ms after the request
     POST /stream/...  100 events 2 ms apart, then the end
     POST /hold/...    the first event of a stream, which then stays open until /release
     GET  /held        how many streams are held
     GET  /release     all held streams go on to their end
     GET  /request     the head of the last POST, as it came
   A text "#...#" in the request comes back in the answer, so that a client can tell whose it is. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_FDS (1 << 17)
#define PACE_US 2000
#define EVENTS 100
#define MARK 24
#define HEAD_BYTES 4096

typedef enum { IDLE = 0, DELAY, STREAM, HOLD } what;

typedef struct connection {
    uint32_t generation; /* of the descriptor: a closed connection's timers come to nothing */
    uint8_t doing;
    uint8_t event; /* STREAM: the next one */
    char mark[MARK];
    char *in; /* the part of a request that came first; NULL: nothing waits */
    size_t in_size;
} connection;

/* Everything waits equally long: a ring in order of time. */
typedef struct timer {
    int64_t at_us;
    int fd;
    uint32_t generation;
} timer;

static connection connections[MAX_FDS];
static timer *timers;
static size_t timer_head, timer_count, timer_cap;
static int poller, held;
static char last_head[HEAD_BYTES];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void timer_add(int fd) {
    if (timer_count == timer_cap) {
        size_t cap = timer_cap ? timer_cap * 2 : 1024;
        timer *grown = malloc(cap * sizeof *grown);
        if (!grown) die("malloc");
        for (size_t i = 0; i < timer_count; i++) grown[i] = timers[(timer_head + i) % timer_cap];
        free(timers);
        timers = grown;
        timer_cap = cap;
        timer_head = 0;
    }
    timers[(timer_head + timer_count++) % timer_cap] =
        (timer){now_us() + PACE_US, fd, connections[fd].generation};
}

static void end(int fd) {
    connection *c = &connections[fd];
    if (c->doing == HOLD) held--;
    c->generation++;
    c->doing = IDLE;
    free(c->in);
    c->in = NULL;
    c->in_size = 0;
    close(fd);
}

/* Nothing here is large: a full socket is a client that does not read, and an error. */
static void put(int fd, const char *p, size_t n) {
    if (send(fd, p, n, MSG_NOSIGNAL) == (ssize_t)n) return;
    fprintf(stderr, "server: short write: %s\n", strerror(errno));
    end(fd);
}

/* ---- what is said ---- */

#define HEADERS                                                                                              \
    "Date: Sun, 22 Nov 2026 12:00:00 GMT\r\n"                                                                \
    "Connection: keep-alive\r\n"                                                                             \
    "openai-processing-ms: 412\r\n"                                                                          \
    "openai-version: 2020-10-01\r\n"                                                                         \
    "x-ratelimit-limit-requests: 10000\r\n"                                                                  \
    "x-ratelimit-remaining-requests: 9999\r\n"                                                               \
    "x-request-id: req_5f0c1b2a3d4e5f60718293a4b5c6d7e8\r\n"                                                 \
    "Server: cloudflare\r\n"

static size_t chunk(char *out, const char *data) {
    return (size_t)sprintf(out, "%zx\r\ndata: %s\n\n\r\n", strlen(data) + 8, data);
}

static size_t event(char *out, const char *content, const char *finish) {
    char data[512];
    snprintf(data, sizeof data,
             "{\"id\":\"chatcmpl-BzJ4hK8mQ2vXw7RtYp3LdNfG\",\"object\":\"chat.completion.chunk\","
             "\"created\":1753000000,\"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\","
             "\"system_fingerprint\":\"fp_62a23a81ef\",\"choices\":[{\"index\":0,\"delta\":{%s%s%s},"
             "\"logprobs\":null,\"finish_reason\":%s}]}",
             content ? "\"content\":\"" : "", content ? content : "", content ? "\"" : "", finish);
    return chunk(out, data);
}

static void reply(int fd) {
    connection *c = &connections[fd];
    char body[1024], text[2048];
    int n = snprintf(
        body, sizeof body,
        "{\n  \"id\": \"chatcmpl-BzJ4hK8mQ2vXw7RtYp3LdNfG\",\n  \"object\": \"chat.completion\",\n"
        "  \"created\": 1753000000,\n  \"model\": \"gpt-4o-mini-2024-07-18\",\n  \"choices\": [\n    {\n"
        "      \"index\": 0,\n      \"message\": {\n        \"role\": \"assistant\",\n"
        "        \"content\": \"The sky is blue because air scatters short waves of light more than long "
        "ones, and our eyes see blue better than violet. %s\",\n        \"refusal\": null\n      },\n"
        "      \"logprobs\": null,\n      \"finish_reason\": \"stop\"\n    }\n  ],\n  \"usage\": {\n"
        "    \"prompt_tokens\": 19,\n    \"completion_tokens\": 31,\n    \"total_tokens\": 50\n  }\n}\n",
        c->mark);
    int size = snprintf(text, sizeof text,
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" HEADERS
                        "Content-Length: %d\r\n\r\n%s",
                        n, body);
    c->doing = IDLE;
    put(fd, text, (size_t)size);
}

/* The last words of a stream. */
static void stream_end(int fd) {
    connection *c = &connections[fd];
    char text[2048], content[64];
    size_t n = 0;
    snprintf(content, sizeof content, " %s", c->mark);
    n += event(text + n, content, "null");
    n += event(text + n, NULL, "\"stop\"");
    n += chunk(text + n, "{\"id\":\"chatcmpl-BzJ4hK8mQ2vXw7RtYp3LdNfG\",\"object\":\"chat.completion.chunk\","
                         "\"created\":1753000000,\"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[],"
                         "\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":101,\"total_tokens\":120}}");
    n += chunk(text + n, "[DONE]");
    n += (size_t)sprintf(text + n, "0\r\n\r\n");
    if (c->doing == HOLD) held--;
    c->doing = IDLE;
    put(fd, text, n);
}

static void stream_begin(int fd) {
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                               "Transfer-Encoding: chunked\r\n" HEADERS "\r\n";
    char text[2048];
    memcpy(text, head, sizeof head - 1);
    size_t n = sizeof head - 1;
    n += event(text + n, "Hello", "null");
    connections[fd].event = 1;
    put(fd, text, n);
}

static void stream_more(int fd) {
    static char text[1024];
    static size_t n;
    if (!n) n = event(text, " yesterday", "null");
    if (connections[fd].event++ < EVENTS) {
        put(fd, text, n);
        if (connections[fd].doing == STREAM) timer_add(fd);
    } else {
        stream_end(fd);
    }
}

/* ---- what is asked ---- */

static void say(int fd, const char *body) {
    char text[HEAD_BYTES + 256];
    int n =
        snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
                 strlen(body), body);
    put(fd, text, (size_t)n);
    end(fd);
}

static void control(int fd, const char *path) {
    char text[32];
    if (strncmp(path, "/release", 8) == 0) {
        for (int i = 0; i < MAX_FDS; i++)
            if (connections[i].doing == HOLD) stream_end(i);
        say(fd, "released");
    } else if (strncmp(path, "/request", 8) == 0) {
        say(fd, last_head);
    } else {
        snprintf(text, sizeof text, "%d", held);
        say(fd, text);
    }
}

static void act(int fd, const char *head, size_t head_size, const char *body, size_t body_size) {
    connection *c = &connections[fd];
    if (memcmp(head, "POST ", 5) != 0) {
        control(fd, head + 4);
        return;
    }
    const char *path = head + 5;
    size_t keep = head_size < sizeof last_head - 1 ? head_size : sizeof last_head - 1;
    memcpy(last_head, head, keep);
    last_head[keep] = 0;
    const char *from = memchr(body, '#', body_size);
    const char *to = from ? memchr(from + 1, '#', body_size - (size_t)(from + 1 - body)) : NULL;
    c->mark[0] = 0;
    if (to && to - from + 1 < MARK) {
        memcpy(c->mark, from, (size_t)(to - from) + 1);
        c->mark[to - from + 1] = 0;
    }
    c->doing = path[1] == 'd' ? DELAY : path[1] == 's' ? STREAM : HOLD;
    if (c->doing == HOLD) held++;
    if (c->doing != DELAY) stream_begin(fd);
    if (c->doing == DELAY || c->doing == STREAM) timer_add(fd);
}

/* One whole request at p? Acts on it. */
static bool request(int fd, const char *p, size_t n) {
    const char *blank = memmem(p, n, "\r\n\r\n", 4);
    if (!blank) return false;
    size_t head = (size_t)(blank - p) + 4, length = 0;
    const char *at = memmem(p, head, "Content-Length:", 15);
    if (at) length = strtoul(at + 15, NULL, 10);
    if (n < head + length) return false;
    act(fd, p, head, p + head, length);
    return true;
}

static void readable(int fd) {
    static char buffer[1 << 18];
    connection *c = &connections[fd];
    if (c->in) memcpy(buffer, c->in, c->in_size);
    ssize_t n = recv(fd, buffer + c->in_size, sizeof buffer - c->in_size, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        end(fd);
        return;
    }
    size_t size = c->in_size + (size_t)n;
    uint32_t generation = c->generation;
    bool done = request(fd, buffer, size);
    if (c->generation != generation) return;
    free(c->in);
    c->in = NULL;
    c->in_size = 0;
    if (done) return;
    c->in = malloc(size);
    if (!c->in) die("malloc");
    memcpy(c->in, buffer, size);
    c->in_size = size;
}

static void welcome(int listener) {
    for (;;) {
        int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN || errno == ECONNABORTED) return;
            die("accept");
        }
        if (fd >= MAX_FDS) {
            close(fd);
            return;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0) die("epoll_ctl");
    }
}

/* Does what is due; returns how long to the next, in us, -1: nothing waits. */
static int64_t run_timers(void) {
    int64_t now = now_us();
    while (timer_count) {
        timer t = timers[timer_head];
        if (t.at_us > now) return t.at_us - now;
        timer_head = (timer_head + 1) % timer_cap;
        timer_count--;
        if (connections[t.fd].generation != t.generation) continue;
        if (connections[t.fd].doing == DELAY)
            reply(t.fd);
        else if (connections[t.fd].doing == STREAM)
            stream_more(t.fd);
    }
    return -1;
}

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 4096) != 0 || getsockname(listener, (struct sockaddr *)&address, &size) != 0)
        die("listen");
    poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) != 0) die("epoll");
    printf("READY %d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int64_t wait = run_timers();
        struct timespec span = {wait / 1000000, wait % 1000000 * 1000};
        int n = epoll_pwait2(poller, events, 256, wait < 0 ? NULL : &span, NULL);
        if (n < 0 && errno == ENOSYS)
            n = epoll_wait(poller, events, 256, wait < 0 ? -1 : (int)(wait / 1000) + 1);
        if (n < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener)
                welcome(listener);
            else
                readable(events[i].data.fd);
        }
    }
}
