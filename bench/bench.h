/* bench.h - what the benchmarks share: clocks, medians, a row of results, the server, the bare libcurl
   program. Included after llmgw.h.

   Two things that are compared run by turns in one process, in short rounds, and the ratio quoted is the
   median of the rounds' own ratios: what disturbs the machine then disturbs both. Time is CPU time of the
   process, unless a row says otherwise. A program prints its rows to stdout as
       metric TAB value TAB unit TAB bar TAB how measured
   and what it has to say to a person to stderr. */
#ifndef BENCH_H
#define BENCH_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BENCH_ROUNDS 64

static inline void bench_die(const char *what) {
    fprintf(stderr, "bench: %s (%s)\n", what, strerror(errno));
    exit(1);
}

/* QUICK=1: fewer rounds. */
static inline bool bench_quick(void) {
    const char *quick = getenv("QUICK");
    return quick && quick[0] && quick[0] != '0';
}

/* ---- clocks ---- */

static inline double bench_clock_us(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static inline double bench_wall_us(void) { return bench_clock_us(CLOCK_MONOTONIC); }

/* CPU time of this process, user and system; children (the server) are not in it. */
static inline double bench_cpu_us(void) { return bench_clock_us(CLOCK_PROCESS_CPUTIME_ID); }

/* ---- medians ---- */

static inline int bench_compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline double bench_median(const double *values, int count) {
    double sorted[BENCH_ROUNDS];
    if (count < 1 || count > BENCH_ROUNDS) bench_die("bench_median: how many rounds?");
    memcpy(sorted, values, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, bench_compare);
    return count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

/* What the rounds of two things, a and b, come to. */
typedef struct bench_pair {
    double a[BENCH_ROUNDS], b[BENCH_ROUNDS];
    int count;
} bench_pair;

static inline void bench_pair_add(bench_pair *pair, double a, double b) {
    if (pair->count == BENCH_ROUNDS) bench_die("too many rounds");
    pair->a[pair->count] = a;
    pair->b[pair->count++] = b;
}

static inline double bench_ratio(const bench_pair *pair) {
    double ratios[BENCH_ROUNDS];
    for (int i = 0; i < pair->count; i++) ratios[i] = pair->a[i] / pair->b[i];
    return bench_median(ratios, pair->count);
}

/* ---- rows ---- */

/* bar: "<= 1.3", ">= 8" or "". missed: why a missed bar is missed, as far as it is known; NULL: not
   known. */
__attribute__((format(printf, 6, 7))) static inline void bench_row(const char *metric, double value,
                                                                   const char *unit, const char *bar,
                                                                   const char *missed, const char *how, ...) {
    char text[512];
    va_list args;
    va_start(args, how);
    vsnprintf(text, sizeof text, how, args);
    va_end(args);
    double limit = bar[0] ? strtod(bar + 2, NULL) : 0;
    bool good = !bar[0] || (bar[0] == '<' ? value <= limit : value >= limit);
    int digits = value != 0 && value < 0.1 ? 4 : value < 10 ? 2 : value < 100 ? 1 : 0;
    printf("%s\t%.*f\t%s\t%s\t%s%s%s\n", metric, digits, value, unit, bar, text, good ? "" : "; MISSED: ",
           good     ? ""
           : missed ? missed
                    : "the reason is not known yet");
    fflush(stdout);
}

/* ---- the server, a process of its own ---- */

typedef struct bench_server {
    pid_t pid;
    int port;
} bench_server;

/* Runs the program "server" that stands beside this one. It ends with this process. */
static inline bench_server bench_server_start(void) {
    bench_server server;
    char path[4096], line[64] = "";
    int ends[2];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 16);
    if (n <= 0 || pipe(ends) != 0) bench_die("server");
    path[n] = 0;
    strcpy(strrchr(path, '/') + 1, "server");
    server.pid = fork();
    if (server.pid < 0) bench_die("fork");
    if (server.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        execl(path, path, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    if (read(ends[0], line, sizeof line - 1) <= 0 || sscanf(line, "READY %d", &server.port) != 1)
        bench_die("the server did not start");
    close(ends[0]);
    return server;
}

static inline void bench_server_stop(bench_server *server) {
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
}

/* Asks the server something on a connection of its own: GET path. The body goes to out. */
static inline void bench_server_ask(const bench_server *server, const char *path, char *out, size_t size) {
    struct sockaddr_in address;
    char text[16384];
    size_t n = 0;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)server->port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) bench_die("ask the server");
    int length = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nConnection: close\r\n\r\n", path);
    if (write(fd, text, (size_t)length) != length) bench_die("ask the server");
    for (ssize_t got; (got = read(fd, text + n, sizeof text - 1 - n)) > 0;) n += (size_t)got;
    close(fd);
    text[n] = 0;
    const char *body = strstr(text, "\r\n\r\n");
    snprintf(out, size, "%s", body ? body + 4 : "");
}

/* How many streams the server holds open. */
static inline int bench_server_held(const bench_server *server) {
    char text[64];
    bench_server_ask(server, "/held", text, sizeof text);
    return atoi(text);
}

/* Lets this process have all the descriptors it may have. Returns how many. */
static inline long bench_raise_files(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    return (long)limit.rlim_cur;
}

#endif
