/* standby.c - what a failover pays before the first byte: a target without a connection (TCP, TLS 1.3, request)
   against one whose connection was opened ahead, by the seam of http. TLS and HTTP/2 by nghttpx before the
   server; once over bare loopback, once through a proxy that delays as a round trip of 20 ms does. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <netinet/tcp.h>
#include <poll.h>

#include "bench.h"

#define TRIALS 200
#define RTT_US 20000.0 /* of a provider one country away */

/* ---- a proxy that delays ---- */

#define MOST 64 /* connections at a time, and pieces under way */

/* Bytes under way to one end of a connection; n 0: its end. */
typedef struct piece {
    double due_us;
    int to;
    size_t n;
    char bytes[16 << 10];
} piece;

typedef struct line {
    int ends[2];      /* client, target; -1: free */
    bool closed[2];   /* read to its end */
    double shaken_us; /* the real handshake would be over: the client's bytes leave then */
} line;

static line lines[MOST];
static piece pieces[MOST];
static size_t piece_count;

static int dial(int port) {
    struct sockaddr_in address;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        return fd;
    }
    if (fd >= 0) close(fd);
    return -1;
}

static int listen_any(int *port) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, MOST) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        bench_die("listen");
    *port = ntohs(address.sin_port);
    return fd;
}

static void proxy_welcome(int listener, int target_port) {
    int at = 0, one = 1, fd = accept(listener, NULL, NULL);
    while (at < MOST && lines[at].ends[0] >= 0) at++;
    if (fd < 0 || at == MOST) bench_die("proxy: accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    lines[at].ends[0] = fd;
    lines[at].ends[1] = dial(target_port);
    lines[at].closed[0] = lines[at].closed[1] = false;
    lines[at].shaken_us = bench_wall_us() + RTT_US;
    if (lines[at].ends[1] < 0) bench_die("proxy: connect");
}

/* Half a round trip from now, but not before the handshake that the loopback has left out. */
static void proxy_take(line *l, int end) {
    piece *p = &pieces[piece_count];
    double from = bench_wall_us();
    ssize_t n = recv(l->ends[end], p->bytes, sizeof p->bytes, 0);
    p->n = n > 0 ? (size_t)n : 0;
    p->to = l->ends[!end];
    p->due_us = (from > l->shaken_us ? from : l->shaken_us) + RTT_US / 2;
    l->closed[end] = n <= 0;
    piece_count++;
}

static void proxy_close(int fd) {
    for (int i = 0; i < MOST; i++) {
        if (lines[i].ends[0] != fd && lines[i].ends[1] != fd) continue;
        for (size_t k = 0; k < piece_count; k++) /* to a socket that is gone */
            if (pieces[k].to == lines[i].ends[0] || pieces[k].to == lines[i].ends[1]) pieces[k].to = -1;
        close(lines[i].ends[0]);
        close(lines[i].ends[1]);
        lines[i].ends[0] = lines[i].ends[1] = -1;
        return;
    }
}

/* Hands on what is due, oldest first. Returns how long to the next, in us. */
static double proxy_give(void) {
    double now = bench_wall_us(), next = 1e6;
    size_t kept = 0;
    for (size_t i = 0; i < piece_count; i++) {
        if (pieces[i].to >= 0 && pieces[i].due_us > now) {
            if (pieces[i].due_us - now < next) next = pieces[i].due_us - now;
            if (kept != i) pieces[kept] = pieces[i];
            kept++;
        } else if (pieces[i].to >= 0 && (pieces[i].n == 0 || send(pieces[i].to, pieces[i].bytes, pieces[i].n,
                                                                  MSG_NOSIGNAL) != (ssize_t)pieces[i].n)) {
            proxy_close(pieces[i].to);
        }
    }
    piece_count = kept;
    return next;
}

static void proxy_run(int listener, int target_port) {
    for (int i = 0; i < MOST; i++) lines[i].ends[0] = lines[i].ends[1] = -1;
    for (;;) {
        struct pollfd fds[1 + 2 * MOST];
        line *of[1 + 2 * MOST];
        nfds_t count = 1;
        double wait = proxy_give();
        struct timespec span = {(time_t)(wait / 1e6), (long)(wait * 1e3) % 1000000000};
        fds[0] = (struct pollfd){listener, POLLIN, 0};
        for (int i = 0; i < 2 * MOST; i++) {
            line *l = &lines[i / 2];
            if (l->ends[0] < 0 || l->closed[i % 2]) continue;
            of[count] = l;
            fds[count++] = (struct pollfd){l->ends[i % 2], POLLIN, 0};
        }
        if (ppoll(fds, count, &span, NULL) < 0 && errno != EINTR) bench_die("proxy: poll");
        if (fds[0].revents) proxy_welcome(listener, target_port);
        for (nfds_t i = 1; i < count && piece_count < MOST; i++)
            if (fds[i].revents) proxy_take(of[i], fds[i].fd == of[i]->ends[1]);
    }
}

/* ---- processes beside this one ---- */

typedef struct helper {
    pid_t pid;
    int port;
} helper;

static helper proxy_start(int target_port) {
    helper proxy;
    int listener = listen_any(&proxy.port);
    proxy.pid = fork();
    if (proxy.pid < 0) bench_die("fork");
    if (proxy.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        proxy_run(listener, target_port);
    }
    close(listener);
    return proxy;
}

/* nghttpx with a certificate of dir before the server. */
static helper front_start(const char *dir, int server_port) {
    helper front;
    char command[512], frontend[64], backend[64], key[96], cert[96];
    snprintf(
        command, sizeof command,
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=bench "
        "-addext subjectAltName=IP:127.0.0.1 -keyout %s/key.pem -out %s/cert.pem >/dev/null 2>&1",
        dir, dir);
    if (system(command) != 0) bench_die("openssl made no certificate");
    close(listen_any(&front.port));
    snprintf(frontend, sizeof frontend, "-f127.0.0.1,%d", front.port);
    snprintf(backend, sizeof backend, "-b127.0.0.1,%d;;proto=http/1.1", server_port);
    snprintf(key, sizeof key, "%s/key.pem", dir);
    snprintf(cert, sizeof cert, "%s/cert.pem", dir);
    front.pid = fork();
    if (front.pid < 0) bench_die("fork");
    if (front.pid == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0), dup2(null, 1), dup2(null, 2);
        execlp("nghttpx", "nghttpx", "--conf=/dev/null", frontend, backend, "--workers=1",
               "--errorlog-file=/dev/null", "--accesslog-file=/dev/null", key, cert, (char *)NULL);
        _exit(127);
    }
    double until = bench_wall_us() + 8e6;
    int fd;
    while ((fd = dial(front.port)) < 0 && bench_wall_us() < until) usleep(10000);
    if (fd < 0) bench_die("nghttpx did not start");
    close(fd);
    return front;
}

/* ---- one trial ---- */

typedef struct trial {
    double first_us, cpu_us; /* from start to the first byte of the reply */
    double ahead_us;         /* CPU of what was done ahead */
} trial;

typedef struct told {
    bool first, done;
    llmgwi_http_result result;
} told;

static bool on_sent(void *user) {
    (void)user;
    return true;
}
static void on_header(void *user, llmgwi_base_str name, llmgwi_base_str value) {
    (void)user, (void)name, (void)value;
}
static int on_body(void *user, int status, const char *p, size_t n) {
    ((told *)user)->first = status == 200 && n > 0 && p[0] == 'd'; /* "data:" */
    return LLMGWI_HTTP_GO;
}
static void on_done(void *user, const llmgwi_http_result *result) {
    ((told *)user)->done = true;
    ((told *)user)->result = *result;
}
static const llmgwi_http_events events = {on_sent, on_header, on_body, on_done};

/* A gateway's http of its own: no connection, no TLS session. */
static trial trial_run(const char *url, const char *ca_file, bool ahead) {
    static const llmgwi_base_mem mem = {NULL, NULL};
    static const char *const lines_of[] = {"Content-Type: application/json", "Accept: text/event-stream"};
    told told = {false, false, {LLMGW_OK, 0, 0, ""}};
    llmgwi_http http;
    llmgwi_http_request request;
    if (!llmgwi_http_open(&http, &mem, ca_file, 100, 128)) bench_die("llmgwi_http_open");
    memset(&request, 0, sizeof request);
    request.url = url;
    request.headers = http.headers_make(http.self, lines_of, 2);
    request.body = "{\"stream\":true}";
    request.body_len = strlen(request.body);
    request.stream = request.tls = request.keyed = request.loopback = true;
    request.events = &events;
    request.user = &told;
    double cpu = bench_cpu_us();
    if (ahead && !http.warm(http.self, &request)) bench_die("warm");
    while (((llmgwi_http_curl *)http.self)->warming) http.poll(http.self, 1000);
    trial t = {bench_wall_us(), bench_cpu_us(), bench_cpu_us() - cpu};
    void *transfer = http.start(http.self, &request);
    while (transfer && !told.first && !told.done) http.poll(http.self, 1000);
    t.first_us = bench_wall_us() - t.first_us;
    t.cpu_us = bench_cpu_us() - t.cpu_us;
    if (!told.first || told.done) bench_die(told.result.text);
    http.cancel(http.self, transfer);
    http.headers_free(http.self, (void *)(uintptr_t)request.headers);
    http.close(http.self, false);
    return t;
}

/* ---- rows ---- */

static double median(double *values, size_t count) {
    qsort(values, count, sizeof *values, bench_compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* By turns; the ratio is the median of the turns' own ratios. */
static void measure(const char *metric, const char *bar, int port, const char *ca_file) {
    static double values[6][TRIALS]; /* first byte cold, warm, their ratio, CPU cold, warm, ahead */
    double m[6];
    size_t count = bench_quick() ? TRIALS / 10 : TRIALS;
    char url[96];
    snprintf(url, sizeof url, "https://127.0.0.1:%d/stream/chat/completions", port);
    (void)trial_run(url, ca_file, true);
    (void)trial_run(url, ca_file, false);
    for (size_t i = 0; i < count; i++) {
        trial warm = trial_run(url, ca_file, true), cold = trial_run(url, ca_file, false);
        double all[6] = {cold.first_us, warm.first_us, cold.first_us / warm.first_us,
                         cold.cpu_us,   warm.cpu_us,   warm.ahead_us};
        for (int k = 0; k < 6; k++) values[k][i] = all[k];
    }
    for (int k = 0; k < 6; k++) m[k] = median(values[k], count);
    bench_row(
        metric, m[2], "x", bar, NULL,
        "TLS 1.3, HTTP/2, no session to resume, name known; medians of %zu by turns: %.2f ms and %.2f ms; "
        "CPU till then %.0f us and %.0f us, and %.0f us ahead",
        count, m[0] / 1e3, m[1] / 1e3, m[3], m[4], m[5]);
}

int main(void) {
    char dir[] = "/tmp/llmgw_bench.XXXXXX", cert[96], command[96];
    if (system("command -v nghttpx >/dev/null 2>&1") != 0 || !mkdtemp(dir)) {
        fprintf(stderr, "standby: nghttpx (package nghttp2-proxy) is missing: no rows\n");
        return 0;
    }
    bench_server server = bench_server_start();
    helper front = front_start(dir, server.port), proxy = proxy_start(front.port);
    snprintf(cert, sizeof cert, "%s/cert.pem", dir);
    measure("first byte from a cold target over one kept warm, loopback", "", front.port, cert);
    measure("first byte from a cold target over one kept warm, round trip 20 ms", ">= 2", proxy.port, cert);
    kill(proxy.pid, SIGKILL);
    kill(-front.pid, SIGTERM);
    waitpid(proxy.pid, NULL, 0);
    waitpid(front.pid, NULL, 0);
    bench_server_stop(&server);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}
