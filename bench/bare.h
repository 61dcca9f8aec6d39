/* bare.h - the floor of the network benchmarks: a good small program straight on libcurl. One multi handle
   driven by epoll and socket_action, easy handles reused, options that never change set once, the reply read
   into a buffer that is kept. It sends what llmgw.h sends, byte for byte, and looks at nothing it gets but
   the status. */
#ifndef BARE_H
#define BARE_H

#include <curl/curl.h>
#include <limits.h>
#include <sys/epoll.h>

#include "bench.h"

typedef struct bare_transfer {
    struct bare *bare;
    CURL *easy;
    bool stream;
    char *reply;
    size_t n, cap;
    struct bare_transfer *next; /* idle */
} bare_transfer;

typedef void (*bare_done_fn)(bare_transfer *transfer, void *user);

typedef struct bare {
    CURLM *multi;
    int poller;
    double timer_us;               /* < 0: none */
    struct curl_slist *headers[2]; /* [1]: of a stream */
    bare_transfer *idle[2];
    int active;
    size_t received; /* bytes of bodies */
    bool discard;    /* keep no replies */
    bare_done_fn done;
    void *user;
} bare;

static int bare_on_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *known) {
    bare *b = (bare *)user;
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.data.fd = fd;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(b->poller, EPOLL_CTL_DEL, fd, &event);
        return 0;
    }
    event.events =
        (what & CURL_POLL_IN ? (uint32_t)EPOLLIN : 0u) | (what & CURL_POLL_OUT ? (uint32_t)EPOLLOUT : 0u);
    epoll_ctl(b->poller, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
    if (!known) curl_multi_assign(b->multi, fd, b);
    return 0;
}

static int bare_on_timer(CURLM *multi, long timeout_ms, void *user) {
    ((bare *)user)->timer_us = timeout_ms < 0 ? -1 : bench_wall_us() + (double)timeout_ms * 1000;
    return 0;
}

static size_t bare_on_body(char *p, size_t size, size_t count, void *user) {
    bare_transfer *t = (bare_transfer *)user;
    size_t n = size * count;
    t->bare->received += n;
    if (t->bare->discard) {
        t->n += n;
        return n;
    }
    if (t->n + n > t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 2048;
        while (cap < t->n + n) cap *= 2;
        t->reply = (char *)realloc(t->reply, cap);
        if (!t->reply) bench_die("memory");
        t->cap = cap;
    }
    memcpy(t->reply + t->n, p, n);
    t->n += n;
    return n;
}

/* plain, stream: header lines, ending with NULL. */
static void bare_open(bare *b, const char *const *plain, const char *const *stream, long connections) {
    memset(b, 0, sizeof *b);
    b->multi = curl_multi_init();
    b->poller = epoll_create1(EPOLL_CLOEXEC);
    b->timer_us = -1;
    for (; *plain; plain++) b->headers[0] = curl_slist_append(b->headers[0], *plain);
    for (; *stream; stream++) b->headers[1] = curl_slist_append(b->headers[1], *stream);
    curl_multi_setopt(b->multi, CURLMOPT_SOCKETFUNCTION, bare_on_socket);
    curl_multi_setopt(b->multi, CURLMOPT_SOCKETDATA, (void *)b);
    curl_multi_setopt(b->multi, CURLMOPT_TIMERFUNCTION, bare_on_timer);
    curl_multi_setopt(b->multi, CURLMOPT_TIMERDATA, (void *)b);
    curl_multi_setopt(b->multi, CURLMOPT_MAXCONNECTS, connections);
}

static bare_transfer *bare_transfer_get(bare *b, bool stream) {
    bare_transfer *t = b->idle[stream];
    if (t) {
        b->idle[stream] = t->next;
        return t;
    }
    t = (bare_transfer *)calloc(1, sizeof *t);
    if (!t || !(t->easy = curl_easy_init())) bench_die("memory");
    t->bare = b;
    t->stream = stream;
    curl_easy_setopt(t->easy, CURLOPT_PRIVATE, (void *)t);
    curl_easy_setopt(t->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(t->easy, CURLOPT_POST, 1L);
    curl_easy_setopt(t->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, b->headers[stream]);
    curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, bare_on_body);
    curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, (void *)t);
    if (!stream) curl_easy_setopt(t->easy, CURLOPT_ACCEPT_ENCODING, "");
    return t;
}

/* body is borrowed until the transfer is done. */
static void bare_start(bare *b, bool stream, const char *url, const char *body, size_t body_size) {
    bare_transfer *t = bare_transfer_get(b, stream);
    t->n = 0;
    curl_easy_setopt(t->easy, CURLOPT_URL, url);
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body_size);
    if (curl_multi_add_handle(b->multi, t->easy) != CURLM_OK) bench_die("curl_multi_add_handle");
    b->active++;
}

static void bare_act(bare *b, curl_socket_t fd, int mask) {
    int running;
    curl_multi_socket_action(b->multi, fd, mask, &running);
}

static void bare_reap(bare *b) {
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(b->multi, &left)) != NULL) {
        char *private = NULL;
        long status = 0;
        if (message->msg != CURLMSG_DONE) continue;
        CURLcode code = message->data.result;
        CURL *easy = message->easy_handle;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        if (code != CURLE_OK || status != 200) {
            fprintf(stderr, "bare libcurl: %s, status %ld\n", curl_easy_strerror(code), status);
            exit(1);
        }
        bare_transfer *t = (bare_transfer *)(void *)private;
        curl_multi_remove_handle(b->multi, easy);
        b->active--;
        t->next = b->idle[t->stream];
        b->idle[t->stream] = t;
        b->done(t, b->user);
    }
}

/* One turn: what is due by the clock, then what the sockets say. */
static void bare_step(bare *b) {
    struct epoll_event events[128];
    int wait_ms = -1;
    if (b->timer_us >= 0) {
        double left = b->timer_us - bench_wall_us();
        if (left <= 0) {
            b->timer_us = -1;
            bare_act(b, CURL_SOCKET_TIMEOUT, 0);
            wait_ms = 0;
        } else {
            wait_ms = (int)(left / 1000) + 1;
        }
    }
    int n = epoll_wait(b->poller, events, 128, wait_ms);
    for (int i = 0; i < n; i++) {
        int mask = (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? CURL_CSELECT_IN : 0) |
                   (events[i].events & (EPOLLOUT | EPOLLERR) ? CURL_CSELECT_OUT : 0);
        bare_act(b, events[i].data.fd, mask);
    }
    bare_reap(b);
}

#endif
