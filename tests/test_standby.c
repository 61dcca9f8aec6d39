/* Connections opened ahead of need: what goes over the wire, that the next request opens none, and that nobody
 * waits for them. Drives the seam itself. This program defines getaddrinfo (the linker exports it, as libcurl
 * refers to it): never.test blocks the asking thread for an hour. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"
#include <dlfcn.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <sys/prctl.h>

static Provider provider;
static char dir[64] = "/tmp/llmgw_standby.XXXXXX";
static int asked_never; /* atomically */

typedef int (*resolve_fn)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
    resolve_fn real = (resolve_fn)dlsym(RTLD_NEXT, "getaddrinfo");
    if (name && strcmp(name, "never.test") == 0) {
        __atomic_add_fetch(&asked_never, 1, __ATOMIC_RELEASE);
        sleep(3600);
        return EAI_AGAIN;
    }
    return real(name, service, hints, out);
}

static int group_start(void **state) {
    static const char *const tls[] = {"--tls-port", "0", "--cert-dir", dir, NULL};
    assert_non_null(mkdtemp(dir));
    provider_start(&provider, tls);
    return 0;
}
static int group_stop(void **state) {
    char command[128];
    provider_stop(&provider);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}
static int reset(void **state) {
    provider_reset(&provider);
    return 0;
}

/* ---- the seam ---- */

typedef struct Seam {
    llmgwi_base_mem mem;
    llmgwi_http table;
    llmgwi_http_curl *curl;
    void *headers;
} Seam;

/* What the upcalls of one transfer said. */
typedef struct Told {
    llmgwi_http_transfer *transfer;
    int sent, headers, pieces, done;
    long connects; /* sockets opened for it, as libcurl tells when the request is written */
    llmgwi_http_result result;
} Told;

static bool told_sent(void *user) {
    Told *told = (Told *)user;
    told->sent++;
    curl_easy_getinfo(told->transfer->easy, CURLINFO_NUM_CONNECTS, &told->connects);
    return true;
}
static void told_header(void *user, llmgwi_base_str name, llmgwi_base_str value) {
    ((Told *)user)->headers++;
}
static int told_body(void *user, int status, const char *p, size_t n) {
    ((Told *)user)->pieces++;
    return LLMGWI_HTTP_GO;
}
static void told_done(void *user, const llmgwi_http_result *result) {
    Told *told = (Told *)user;
    told->done++;
    told->result = *result;
}
static const llmgwi_http_events told_events = {told_sent, told_header, told_body, told_done};

static void seam_open(Seam *seam, const char *ca_file, int max_active) {
    static const char *const lines[] = {"Authorization: Bearer " OPENAI_KEY, "X-Api-Key: " ANTHROPIC_KEY,
                                        "X-Ours: 1", "Expect:"};
    memset(seam, 0, sizeof *seam);
    assert_true(llmgwi_http_open(&seam->table, &seam->mem, ca_file, max_active, 128));
    seam->curl = (llmgwi_http_curl *)seam->table.self;
    seam->headers = seam->table.headers_make(seam->table.self, lines, COUNT_OF(lines));
    assert_non_null(seam->headers);
}

static void seam_close(Seam *seam) {
    seam->table.headers_free(seam->table.self, seam->headers);
    seam->table.close(seam->table.self, false);
}

static llmgwi_http_request seam_request(const Seam *seam, const char *url, Told *told) {
    llmgwi_http_request request;
    memset(&request, 0, sizeof request);
    memset(told, 0, sizeof *told);
    request.url = url;
    request.headers = seam->headers;
    request.body = "{\"a\":1}";
    request.body_len = 7;
    request.tls = strncmp(url, "https:", 6) == 0;
    request.keyed = request.loopback = true;
    request.events = &told_events;
    request.user = told;
    return request;
}

static bool seam_warm(Seam *seam, const char *url) {
    Told told;
    llmgwi_http_request request = seam_request(seam, url, &told);
    return seam->table.warm(seam->table.self, &request);
}

static void seam_start(Seam *seam, const char *url, Told *told) {
    llmgwi_http_request request = seam_request(seam, url, told);
    told->transfer = (llmgwi_http_transfer *)seam->table.start(seam->table.self, &request);
    assert_non_null(told->transfer);
}

/* Polls until so many warm transfers are left. */
static bool seam_settle(Seam *seam, int warming, int ms) {
    int64_t until = t_now_ms() + ms;
    while (seam->curl->warming > warming && t_now_ms() < until) seam->table.poll(seam->table.self, 50);
    return seam->curl->warming == warming;
}

static bool seam_done(Seam *seam, const Told *told, int ms) {
    int64_t until = t_now_ms() + ms;
    while (!told->done && t_now_ms() < until) seam->table.poll(seam->table.self, 50);
    return told->done == 1;
}

static const char *url_at(const char *scheme, const char *host, int port) {
    static char urls[8][128];
    static unsigned next;
    char *url = urls[next++ % 8];
    snprintf(url, 128, "%s://%s:%d/v1/chat/completions", scheme, host, port);
    return url;
}

/* ---- servers ---- */

typedef struct Heads {
    const char *status; /* of the reply to a HEAD */
    const char *more;   /* its further headers */
    char head[8][2048];
    bool held; /* atomically: the reply waits */
} Heads;

static void serve_heads(Raw *raw, int fd, int number) {
    Heads *heads = (Heads *)raw->arg;
    char head[2048], line[512];
    while (raw_request(raw, fd, head, sizeof head)) {
        int n = raw_requests(raw) - 1;
        if (n < 8) memcpy(heads->head[n], head, sizeof head);
        bool is_head = strncmp(head, "HEAD ", 5) == 0;
        while (__atomic_load_n(&heads->held, __ATOMIC_ACQUIRE)) t_sleep_ms(5);
        snprintf(line, sizeof line, "HTTP/1.1 %s\r\nContent-Length: 5000\r\n%s\r\n", heads->status,
                 heads->more);
        if (!(is_head ? raw_puts(fd, line) : raw_reply(fd, "200 OK", RAW_IS_JSON, RAW_JSON))) return;
    }
}

/* The server counts a connection a moment after it has begun to serve it. */
static void expect_connections(const Raw *raw, int count) {
    int64_t until = t_now_ms() + 3000;
    while (raw_connections(raw) < count && t_now_ms() < until) t_sleep_ms(5);
    assert_int_equal(raw_connections(raw), count);
}

/* Takes what comes and says nothing. */
static void serve_nothing(Raw *raw, int fd, int number) {
    char byte;
    while (recv(fd, &byte, 1, 0) == 1) continue;
}

/* Answers one request of a connection, and dies after the second. */
static void serve_one(Raw *raw, int fd, int number) {
    char head[2048];
    if (!raw_request(raw, fd, head, sizeof head)) return;
    raw_puts(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    (void)raw_request(raw, fd, head, sizeof head);
}

/* ---- what goes over the wire ---- */

static void expect_bare_head(const char *head) {
    assert_int_equal(strncmp(head, "HEAD /v1/chat/completions HTTP/1.1\r\n", 36), 0);
    assert_non_null(strstr(head, "\r\nUser-Agent: llmgw.h/" LLMGW_VERSION "\r\n"));
    static const char *const absent[] = {"authorization", "x-api-key",        "x-ours",
                                         "sk-",           "content-length",   "transfer-encoding",
                                         "content-type",  "accept-encoding:", "expect"};
    for (size_t i = 0; i < COUNT_OF(absent); i++)
        if (strcasestr(head, absent[i])) fail_msg("'%s' is in %s", absent[i], head);
}

static void expect_call(const char *head) {
    assert_int_equal(strncmp(head, "POST /v1/chat/completions HTTP/1.1\r\n", 36), 0);
    assert_non_null(strstr(head, "\r\nAuthorization: Bearer " OPENAI_KEY "\r\n"));
    assert_non_null(strstr(head, "\r\nContent-Length: 7\r\n"));
    assert_null(strstr(head, "User-Agent")); /* nothing of the HEAD's stays */
}

/* Any status counts, a redirect goes nowhere, and the next start opens no connection. */
static void a_start_after_warm_opens_no_connection(void **state) {
    static const char *const statuses[] = {"200 OK",        "301 Moved",    "401 Unauthorized",
                                           "404 Not Found", "405 Not Here", "503 Busy"};
    Raw elsewhere;
    char location[96];
    raw_start(&elsewhere, serve_nothing, NULL);
    snprintf(location, sizeof location, "Location: http://127.0.0.1:%d/\r\n", elsewhere.port);
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        Heads heads = {statuses[i], location, {""}, false};
        Raw raw;
        Seam seam;
        Told warm, told;
        raw_start(&raw, serve_heads, &heads);
        seam_open(&seam, NULL, 100);
        const char *url = url_at("http", "127.0.0.1", raw.port);
        llmgwi_http_request request = seam_request(&seam, url, &warm);
        for (int n = 0; n < 2; n++) { /* the second refreshes the same connection */
            assert_true(seam.table.warm(seam.table.self, &request));
            assert_int_equal(seam.curl->active, 1);
            assert_true(seam_settle(&seam, 0, 5000));
        }
        assert_int_equal(seam.curl->active, 0);
        assert_int_equal(seam.curl->upcalls, 0);
        assert_int_equal(warm.sent + warm.headers + warm.pieces + warm.done, 0);
        for (int n = 0; n < 3; n++) {
            seam_start(&seam, url, &told);
            assert_true(seam_done(&seam, &told, 5000));
            assert_int_equal(told.result.code, LLMGW_OK);
            assert_int_equal(told.result.status, 200);
            assert_int_equal(told.connects, 0);
            assert_true(told.pieces > 0);
        }
        assert_int_equal(raw_requests(&raw), 5);
        expect_connections(&raw, 1);
        for (int n = 0; n < 5; n++) (n < 2 ? expect_bare_head : expect_call)(heads.head[n]);
        seam_close(&seam);
        raw_stop(&raw);
    }
    expect_connections(&elsewhere, 0);
    raw_stop(&elsewhere);
}

/* A handle that a call has used before: its body and headers are not the HEAD's, and the other way. */
static void pooled_handles_and_warm_ones_do_not_mix(void **state) {
    Heads heads = {"405 Not Here", "", {""}, false};
    Raw raw;
    Seam seam;
    Told told;
    raw_start(&raw, serve_heads, &heads);
    seam_open(&seam, NULL, 100);
    const char *url = url_at("http", "127.0.0.1", raw.port);
    for (int n = 0; n < 6; n++) {
        if (n % 2) {
            assert_true(seam_warm(&seam, url));
            assert_true(seam_settle(&seam, 0, 5000));
        } else {
            seam_start(&seam, url, &told);
            assert_true(seam_done(&seam, &told, 5000));
        }
        assert_int_equal(raw_requests(&raw), n + 1);
        (n % 2 ? expect_bare_head : expect_call)(heads.head[n]);
    }
    expect_connections(&raw, 1);
    seam_close(&seam);
    raw_stop(&raw);
}

/* A kept connection that dies under the HEAD is replaced at once: a call is never sent twice, this is no call. */
static void a_dead_connection_is_replaced(void **state) {
    Raw raw;
    Seam seam;
    Told told;
    raw_start(&raw, serve_one, NULL);
    seam_open(&seam, NULL, 100);
    const char *url = url_at("http", "127.0.0.1", raw.port);
    for (int n = 1; n <= 2; n++) {
        assert_true(seam_warm(&seam, url));
        assert_true(seam_settle(&seam, 0, 5000));
        expect_connections(&raw, n);
    }
    assert_int_equal(raw_requests(&raw), 3);
    seam_start(&seam, url, &told); /* dies likewise, and is not sent again */
    assert_true(seam_done(&seam, &told, 5000));
    assert_int_equal(told.result.code, LLMGW_E_NETWORK);
    assert_int_equal(told.connects, 0);
    assert_int_equal(raw_requests(&raw), 4);
    seam_close(&seam);
    raw_stop(&raw);
}

/* ---- where it may go ---- */

static void a_proxy_sees_no_loopback_host(void **state) {
    Heads heads = {"404 Not Found", "", {""}, false};
    Raw proxy, raw;
    Seam seam;
    char url[64];
    raw_start(&proxy, serve_nothing, NULL);
    raw_start(&raw, serve_heads, &heads);
    snprintf(url, sizeof url, "http://127.0.0.1:%d", proxy.port);
    unsetenv("no_proxy");
    unsetenv("NO_PROXY");
    setenv("http_proxy", url, 1);
    seam_open(&seam, NULL, 100);
    assert_true(seam_warm(&seam, url_at("http", "127.0.0.1", raw.port)));
    assert_true(seam_settle(&seam, 0, 5000));
    unsetenv("http_proxy");
    expect_connections(&proxy, 0);
    assert_int_equal(raw_requests(&raw), 1);
    seam_close(&seam);
    raw_stop(&proxy);
    raw_stop(&raw);
}

/* An address of this machine that is not loopback. */
static bool outer_address(struct sockaddr_in *out) {
    struct ifaddrs *all = NULL;
    bool found = false;
    assert_return_code(getifaddrs(&all), errno);
    for (struct ifaddrs *at = all; at && !found; at = at->ifa_next) {
        if (!at->ifa_addr || at->ifa_addr->sa_family != AF_INET) continue;
        memcpy(out, at->ifa_addr, sizeof *out);
        found = ntohl(out->sin_addr.s_addr) >> 24 != 127;
    }
    freeifaddrs(all);
    return found;
}

static void a_keyed_plain_host_must_be_loopback(void **state) {
    struct sockaddr_in address;
    socklen_t n = sizeof address;
    char host[32], url[96], head[512];
    Told told;
    if (!outer_address(&address)) {
        print_message("this machine has no address but loopback: not tested\n");
        skip();
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_port = 0;
    assert_return_code(bind(listener, (struct sockaddr *)&address, n), errno);
    assert_return_code(listen(listener, 8), errno);
    assert_return_code(getsockname(listener, (struct sockaddr *)&address, &n), errno);
    inet_ntop(AF_INET, &address.sin_addr, host, sizeof host);
    snprintf(url, sizeof url, "http://%s:%d/v1", host, ntohs(address.sin_port));
    for (int keyed = 0; keyed < 2; keyed++) {
        Seam seam;
        seam_open(&seam, NULL, 100);
        llmgwi_http_request request = seam_request(&seam, url, &told);
        request.keyed = keyed;
        assert_true(seam.table.warm(seam.table.self, &request));
        (void)seam_settle(&seam, 0, keyed ? 5000 : 300);
        assert_int_equal(seam.curl->warming, !keyed); /* refused, or waiting for its reply */
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        seam_close(&seam);
        ssize_t got = recv(fd, head, sizeof head, 0);
        assert_int_equal(got > 0, !keyed);
        close(fd);
    }
    close(listener);
}

static void certificates_are_verified(void **state) {
    for (int trusted = 0; trusted < 2; trusted++) {
        Seam seam;
        Told told;
        seam_open(&seam, trusted ? provider.cert : NULL, 100);
        const char *url = url_at("https", "localhost", provider.tls_port);
        assert_true(seam_warm(&seam, url));
        assert_true(seam_settle(&seam, 0, 8000));
        int before = provider_count(&provider, "connections");
        seam_start(&seam, url, &told);
        assert_true(seam_done(&seam, &told, 8000));
        assert_int_equal(told.result.code, trusted ? LLMGW_OK : LLMGW_E_TLS);
        if (trusted) assert_int_equal(told.connects, 0);
        if (trusted) assert_int_equal(provider_count(&provider, "connections"), before + 1); /* this look */
        seam_close(&seam);
    }
}

/* ---- HTTP/2 ---- */

static bool answers(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool good = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return good;
}

/* nghttpx with TLS before the fake provider. Skips the test, visibly, where it is not installed. */
static pid_t front_start(int *port) {
    char frontend[64], backend[64], log[128], key[128];
    if (system("command -v nghttpx >/dev/null 2>&1") != 0) {
        print_message("nghttpx (package nghttp2-proxy) is missing: HTTP/2 is not tested\n");
        skip();
    }
    close(t_listen(1, port));
    snprintf(frontend, sizeof frontend, "-f127.0.0.1,%d", *port);
    snprintf(backend, sizeof backend, "-b127.0.0.1,%d;;proto=http/1.1", provider.port);
    snprintf(log, sizeof log, "--errorlog-file=%s/nghttpx.log", dir);
    snprintf(key, sizeof key, "%s/key.pem", dir);
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGTERM); /* also when a test fails */
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0), dup2(null, 1), dup2(null, 2);
        execlp("nghttpx", "nghttpx", "--conf=/dev/null", frontend, backend, log, "--workers=1",
               "--accesslog-file=/dev/null", key, provider.cert, (char *)NULL);
        _exit(127);
    }
    for (int64_t until = t_now_ms() + 8000; !answers(*port) && t_now_ms() < until;) t_sleep_ms(20);
    return pid;
}

static void http2_connections_are_kept_too(void **state) {
    int port;
    Seam seam;
    Told told[4];
    pid_t front = front_start(&port);
    seam_open(&seam, provider.cert, 100);
    const char *url = url_at("https", "localhost", port);
    assert_true(seam_warm(&seam, url));
    assert_true(seam_settle(&seam, 0, 8000));
    for (int i = 0; i < 4; i++) seam_start(&seam, url, &told[i]); /* streams of the one connection */
    for (int i = 0; i < 4; i++) {
        assert_true(seam_done(&seam, &told[i], 8000));
        assert_int_equal(told[i].result.version, 20);
        assert_true(told[i].result.status > 0);
        assert_int_equal(told[i].connects, 0);
    }
    seam_close(&seam);
    kill(-front, SIGTERM);
    waitpid(front, NULL, 0);
}

/* ---- nobody waits ---- */

/* Hosts that never come to an answer: without a reply, in the TLS handshake, in the TCP one, in the resolver. */
static const char *silent_url(int kind, const Raw *raw, int full_port) {
    if (kind == 2) return url_at("http", "127.0.0.1", full_port);
    if (kind == 3) return url_at("http", "never.test", raw->port);
    return url_at(kind ? "https" : "http", "127.0.0.1", raw->port);
}

static void a_silent_host_holds_up_neither_poll_nor_close(void **state) {
    int full_port, full = t_listen(0, &full_port), stuffing[4];
    Raw raw;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)full_port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    raw_start(&raw, serve_nothing, NULL);
    for (int i = 0; i < 4; i++) { /* then the kernel answers no more SYN */
        stuffing[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(stuffing[i], (struct sockaddr *)&address, sizeof address);
    }
    for (int kind = 0; kind < 4; kind++) {
        Seam seam;
        int64_t start = t_now_ms();
        seam_open(&seam, NULL, 100);
        assert_true(seam_warm(&seam, silent_url(kind, &raw, full_port)));
        for (int i = 0; i < 10; i++) seam.table.poll(seam.table.self, 20);
        assert_int_equal(seam.curl->warming, 1);
        seam_close(&seam);
        if (t_now_ms() - start > 2000) fail_msg("kind %d: %d ms", kind, (int)(t_now_ms() - start));
    }
    expect_connections(&raw, 2);
    assert_int_equal(__atomic_load_n(&asked_never, __ATOMIC_ACQUIRE), 1);
    for (int i = 0; i < 4; i++) close(stuffing[i]);
    close(full);
    raw_stop(&raw);
}

/* Its own time limit is what poll waits for, and it ends the transfer. LLMGW_SOAK=1: waits it out. */
static void a_silent_host_is_given_up(void **state) {
    Raw raw;
    Seam seam;
    raw_start(&raw, serve_nothing, NULL);
    seam_open(&seam, NULL, 100);
    int64_t start = llmgwi_http_now();
    assert_true(seam_warm(&seam, url_at("http", "127.0.0.1", raw.port)));
    for (int i = 0; i < 10; i++) seam.table.poll(seam.table.self, 50);
    assert_in_range((uint64_t)(seam.table.next_us(seam.table.self) - start), 9000000, 10600000);
    if (getenv("LLMGW_SOAK")) {
        assert_true(seam_settle(&seam, 0, 15000));
        assert_in_range((uint64_t)(llmgwi_http_now() - start), 9900000, 12000000);
        assert_int_equal(seam.curl->active, 0);
    }
    seam_close(&seam);
    raw_stop(&raw);
}

static void a_dead_port_is_no_news(void **state) {
    int port;
    Seam seam;
    close(t_listen(1, &port));
    seam_open(&seam, NULL, 100);
    for (int i = 0; i < 3; i++) {
        assert_true(seam_warm(&seam, url_at("http", "127.0.0.1", port)));
        assert_true(seam_settle(&seam, 0, 5000));
        assert_int_equal(seam.curl->active, 0);
        assert_int_equal(seam.curl->shards[0]->active + seam.curl->shards[0]->warming, 0);
    }
    assert_int_equal(seam.curl->upcalls, 0);
    assert_false(seam_warm(&seam, "no url at all"));
    assert_false(seam_warm(&seam, "http:///v1"));
    seam_close(&seam);
}

/* Closed at every step of its life. */
static void close_takes_it_along_at_any_step(void **state) {
    for (int polls = 0; polls < 12; polls++) {
        Seam seam;
        seam_open(&seam, provider.cert, 100);
        assert_true(seam_warm(&seam, url_at("https", "127.0.0.1", provider.tls_port)));
        assert_true(seam_warm(&seam, url_at("http", "127.0.0.1", provider.port)));
        for (int i = 0; i < polls; i++) seam.table.poll(seam.table.self, 1);
        seam_close(&seam);
    }
    assert_true(provider_wait(&provider, "open", 0, 5000));
}

static void fork_leaves_it_to_the_parent(void **state) {
    Heads heads = {"404 Not Found", "", {""}, false};
    int status = 0;
    Raw raw;
    Seam seam;
    Told told;
    heads.held = true;
    raw_start(&raw, serve_heads, &heads);
    seam_open(&seam, NULL, 100);
    const char *url = url_at("http", "127.0.0.1", raw.port);
    assert_true(seam_warm(&seam, url));
    for (int i = 0; i < 100 && !raw_requests(&raw); i++) seam.table.poll(seam.table.self, 20);
    assert_int_equal(seam.curl->warming, 1);
    pid_t pid = fork();
    if (pid == 0) {
        seam.table.close(seam.table.self, true);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    __atomic_store_n(&heads.held, false, __ATOMIC_RELEASE);
    assert_true(seam_settle(&seam, 0, 5000));
    seam_start(&seam, url, &told);
    assert_true(seam_done(&seam, &told, 5000));
    assert_int_equal(told.connects, 0);
    expect_connections(&raw, 1);
    seam_close(&seam);
    raw_stop(&raw);
}

/* ---- caps ---- */

/* One under way to a host and port is enough, however the url is written. */
static void one_at_a_time_to_a_host_and_port(void **state) {
    static const struct {
        const char *a, *b;
        bool same;
    } pairs[] = {
        {"http://localhost/v1", "http://LOCALHOST:80/v2?x=http://a", true},
        {"https://localhost/v1", "https://localhost:443", true},
        {"http://[::1]:81/v1", "http://[::1]:81/#/", true},
        {"https://[::1]/v1", "https://[::1]:443/v1", true},
        {"http://localhost:81/v1", "http://localhost:82/v1", false},
        {"http://localhost/v1", "https://localhost/v1", false},
        {"http://[::1]/v1", "http://[::1]:81/v1", false},
        {"http://localhost:8/v1", "http://localhost:80/v1", false},
        {"http://127.0.0.1:81/v1", "http://localhost:81/v1", false},
    };
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        Seam seam;
        seam_open(&seam, NULL, 100);
        for (int n = 0; n < 2; n++) {
            assert_true(seam_warm(&seam, pairs[i].a));
            assert_true(seam_warm(&seam, pairs[i].b));
        }
        if (seam.curl->warming != (pairs[i].same ? 1 : 2)) fail_msg("%s and %s", pairs[i].a, pairs[i].b);
        assert_int_equal(seam.curl->active, seam.curl->warming);
        seam_close(&seam);
    }
}

static void sixteen_at_once_and_no_more(void **state) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t n = sizeof address;
    int accepted = 0, warmed = 0, fd,
        listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    Seam seam;
    assert_return_code(bind(listener, (struct sockaddr *)&address, sizeof address), errno);
    assert_return_code(listen(listener, 200), errno);
    assert_return_code(getsockname(listener, (struct sockaddr *)&address, &n), errno);
    seam_open(&seam, NULL, 1000);
    for (int round = 0; round < 2; round++) {
        for (int i = 1; i <= 100; i++) {
            char host[32];
            snprintf(host, sizeof host, "127.0.0.%d", i);
            warmed += seam_warm(&seam, url_at("http", host, ntohs(address.sin_port)));
        }
        for (int i = 0; i < 20; i++) seam.table.poll(seam.table.self, 10);
        assert_int_equal(warmed, 16 * (round + 1)); /* again: they are under way */
        assert_int_equal(seam.curl->warming, 16);
    }
    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) accepted++, close(fd);
    assert_int_equal(accepted, 16);
    assert_true(seam_settle(&seam, 0, 5000)); /* all hung up: room again */
    assert_true(seam_warm(&seam, url_at("http", "127.0.0.99", ntohs(address.sin_port))));
    seam_close(&seam);
    close(listener);
}

static void max_connections_is_kept_and_calls_come_first(void **state) {
    Raw raw;
    Seam seam;
    Told told[2];
    raw_start(&raw, serve_nothing, NULL);
    seam_open(&seam, NULL, 2);
    seam_start(&seam, url_at("http", "127.0.0.1", raw.port), &told[0]);
    assert_true(seam_warm(&seam, url_at("http", "localhost", raw.port)));
    assert_false(seam_warm(&seam, url_at("http", "127.0.0.2", raw.port)));
    for (int i = 0; i < 10; i++) seam.table.poll(seam.table.self, 20);
    expect_connections(&raw, 2);
    assert_int_equal(seam.curl->active, 2);
    assert_true(seam.table.room(seam.table.self, 0));
    seam_start(&seam, url_at("http", "127.0.0.1", raw.port), &told[1]);
    assert_int_equal(seam.curl->warming, 0);
    assert_int_equal(seam.curl->active, 2);
    assert_false(seam.table.room(seam.table.self, 0));
    assert_false(seam_warm(&seam, url_at("http", "localhost", raw.port)));
    for (int i = 0; i < 2; i++) seam.table.cancel(seam.table.self, told[i].transfer);
    assert_int_equal(seam.curl->active, 0);
    seam_close(&seam);
    raw_stop(&raw);
}

/* A connection is of use only in the shard that the start takes. */
static void it_lands_where_the_next_start_goes(void **state) {
    Seam seam;
    Told told[LLMGWI_HTTP_SHARD + 2];
    const char *url = "http://127.0.0.1:9/";
    seam_open(&seam, NULL, 1000);
    for (int i = 0; i < LLMGWI_HTTP_SHARD - 1; i++) seam_start(&seam, url, &told[i]);
    assert_true(seam_warm(&seam, url));
    seam_start(&seam, url, &told[LLMGWI_HTTP_SHARD - 1]);
    assert_int_equal(seam.curl->warm[0]->shard->index, 0);
    assert_int_equal(told[LLMGWI_HTTP_SHARD - 1].transfer->shard->index, 0);
    assert_true(seam_warm(&seam, "http://127.0.0.1:10/"));
    seam_start(&seam, url, &told[LLMGWI_HTTP_SHARD]);
    assert_int_equal(seam.curl->warm[1]->shard->index, 1);
    assert_int_equal(told[LLMGWI_HTTP_SHARD].transfer->shard->index, 1);
    seam.table.cancel(seam.table.self, told[0].transfer);
    seam_start(&seam, url, &told[0]);
    assert_int_equal(told[0].transfer->shard->index, 0);
    for (int i = 0; i <= LLMGWI_HTTP_SHARD; i++) seam.table.cancel(seam.table.self, told[i].transfer);
    assert_int_equal(seam.curl->active, 2);
    seam_close(&seam);
}

/* A shard with nothing but a warm transfer is not put away under it. */
static void an_idle_shard_stays_while_it_warms(void **state) {
    Raw raw;
    Seam seam;
    raw_start(&raw, serve_nothing, NULL);
    seam_open(&seam, NULL, 1000);
    seam.curl->keep_shards = 0;
    assert_true(seam_warm(&seam, url_at("http", "127.0.0.1", raw.port)));
    seam.curl->shards[0]->empty_us = llmgwi_http_now() - 2 * LLMGWI_HTTP_LINGER_US;
    for (int i = 0; i < 5; i++) seam.table.poll(seam.table.self, 10);
    assert_non_null(seam.curl->shards[0]->multi);
    assert_int_equal(seam.curl->warming, 1);
    llmgwi_http_cancel(seam.curl, seam.curl->warm[0]);
    seam.table.poll(seam.table.self, 0);
    assert_non_null(seam.curl->shards[0]->multi); /* it keeps what it has for the usual time */
    seam.curl->shards[0]->empty_us = llmgwi_http_now() - 2 * LLMGWI_HTTP_LINGER_US;
    seam.table.poll(seam.table.self, 0);
    assert_null(seam.curl->shards[0]->multi);
    seam_close(&seam);
    raw_stop(&raw);
}

/* ---- through a route ---- */

/* The first request is answered, all later ones fail. */
static void serve_until_it_breaks(Raw *raw, int fd, int number) {
    char head[2048];
    while (raw_request(raw, fd, head, sizeof head)) {
        bool good = raw_requests(raw) == 1;
        if (!raw_reply(fd, good ? "200 OK" : "500 Broken", RAW_IS_JSON, good ? RAW_JSON : "{}")) return;
    }
}

/* The next target of a route in use has a connection before it is needed: the failover opens none. */
static void a_failover_finds_its_connection_open(void **state) {
    for (int standby = 0; standby < 2; standby++) {
        Heads heads = {"404 Not Found", "", {""}, false};
        Raw first, second;
        raw_start(&first, serve_until_it_breaks, NULL);
        raw_start(&second, serve_heads, &heads);
        char urls[2][64];
        snprintf(urls[0], sizeof urls[0], "http://127.0.0.1:%d/v1", first.port);
        snprintf(urls[1], sizeof urls[1], "http://127.0.0.1:%d/v1", second.port);
        llmgw_provider providers[2];
        memset(providers, 0, sizeof providers);
        for (int i = 0; i < 2; i++) {
            providers[i].name = i ? "second" : "first";
            providers[i].dialect = "openai";
            providers[i].url = urls[i];
            providers[i].key = OPENAI_KEY;
        }
        static const char *const targets[] = {"first/m", "second/m"};
        llmgw_route route = {.name = "r", .targets = targets, .target_count = 2, .standby = standby};
        llmgw_options options = {.providers = providers,
                                 .provider_count = 2,
                                 .routes = &route,
                                 .route_count = 1,
                                 .no_environment = true};
        llmgw_error error;
        llmgw *gw = llmgw_open(&options, &error);
        assert_non_null(gw);
        llmgw_reply *reply = llmgw_ask(gw, "r", "x");
        t_expect_code(reply, LLMGW_OK);
        assert_string_equal(reply->provider, "first");
        llmgw_reply_free(reply);
        for (int i = 0; i < 20; i++) (void)llmgw_poll(gw, 10); /* the HEAD's answer is read */
        expect_connections(&second, standby);
        assert_int_equal(raw_requests(&second), standby);
        if (standby) assert_int_equal(strncmp(heads.head[0], "HEAD /v1 HTTP/1.1\r\n", 19), 0);
        if (standby) assert_null(strcasestr(heads.head[0], "authorization"));
        reply = llmgw_ask(gw, "r", "x");
        t_expect_code(reply, LLMGW_OK);
        assert_string_equal(reply->provider, "second");
        llmgw_reply_free(reply);
        expect_connections(&second, 1); /* with standby it is the one that was there */
        assert_int_equal(raw_requests(&second), standby + 1);
        llmgw_close(gw);
        raw_stop(&first);
        raw_stop(&second);
    }
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void) {
    signal(SIGPIPE, SIG_DFL);
    const struct CMUnitTest tests[] = {
        TEST(a_start_after_warm_opens_no_connection),
        TEST(pooled_handles_and_warm_ones_do_not_mix),
        TEST(a_dead_connection_is_replaced),
        TEST(a_proxy_sees_no_loopback_host),
        TEST(a_keyed_plain_host_must_be_loopback),
        TEST(certificates_are_verified),
        TEST(http2_connections_are_kept_too),
        TEST(a_silent_host_holds_up_neither_poll_nor_close),
        TEST(a_silent_host_is_given_up),
        TEST(a_dead_port_is_no_news),
        TEST(close_takes_it_along_at_any_step),
        TEST(fork_leaves_it_to_the_parent),
        TEST(one_at_a_time_to_a_host_and_port),
        TEST(sixteen_at_once_and_no_more),
        TEST(max_connections_is_kept_and_calls_come_first),
        TEST(it_lands_where_the_next_start_goes),
        TEST(an_idle_shard_stays_while_it_warms),
        TEST(a_failover_finds_its_connection_open),
    };
    return cmocka_run_group_tests_name("standby", tests, group_start, group_stop);
}
