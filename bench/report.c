/* report.c - a scrape under load: the metrics of 200 targets as Prometheus' text and as JSON, while 64 calls are in
   flight and another thread drives them; and what a record in a sketch costs. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <pthread.h>

#include "net.h"

#define TARGETS 200
#define RECORDS 1000000

typedef struct load {
    llmgw *gw;
    bool stop, full; /* full: every target has been asked; atomic */
    unsigned sent;
    int in_flight;
} load;

static void load_send(load *load);

static void load_on_event(const llmgw_event *event, void *user) {
    load *own = (load *)user;
    if (event->kind != LLMGW_EVENT_END) return;
    if (event->reply->error.code) bench_die(event->reply->error.text);
    own->in_flight--;
    if (!__atomic_load_n(&own->stop, __ATOMIC_ACQUIRE)) load_send(own);
}

/* Each target in turn: half of them give whole replies, half streams. */
static void load_send(load *load) {
    char model[64];
    llmgw_request request;
    llmgw_error error;
    bool stream = load->sent / TARGETS % 2;
    snprintf(model, sizeof model, "%s/a-model-with-a-usual-name-%u", stream ? "stream" : "delay",
             load->sent % (TARGETS / 2));
    memset(&request, 0, sizeof request);
    request.model = model;
    request.prompt = net_same_prompt;
    request.stream = stream;
    request.on_event = load_on_event;
    request.user = load;
    if (!llmgw_send(load->gw, &request, &error)) bench_die(error.text);
    load->in_flight++;
    if (++load->sent == TARGETS * 3) __atomic_store_n(&load->full, true, __ATOMIC_RELEASE);
}

static void *load_run(void *user) {
    load *own = (load *)user;
    for (int i = 0; i < NET_FLIGHT; i++) load_send(own);
    while (own->in_flight)
        if (llmgw_poll(own->gw, 10) < 0) bench_die("llmgw_poll");
    return NULL;
}

static bool count_bytes(const char *line, size_t len, void *user) {
    *(size_t *)user += len + (line[0] != 0);
    return true;
}

/* Median wall time of a scrape; *most: the longest. */
static double scrape_us(llmgw *gw, llmgw_metrics_format format, int rounds, double *most, int64_t *lines,
                        size_t *bytes) {
    double times[BENCH_ROUNDS];
    *most = 0;
    for (int i = 0; i < rounds; i++) {
        *bytes = 0;
        double start = bench_wall_us();
        *lines = llmgw_metrics(gw, format, count_bytes, bytes);
        times[i] = bench_wall_us() - start;
        if (*lines <= 0) bench_die("llmgw_metrics");
        if (times[i] > *most) *most = times[i];
        usleep(20000);
    }
    return bench_median(times, rounds);
}

static void measure_record(void) {
    static llmgwi_health_sketch sketch;
    uint64_t draw = 88172645463325252u;
    double start = bench_cpu_us();
    for (int i = 0; i < RECORDS; i++) {
        draw ^= draw << 13;
        draw ^= draw >> 7;
        draw ^= draw << 17;
        llmgwi_health_sketch_record(&sketch, (int64_t)(draw & 0xFFFFFFF));
    }
    bench_row("a time recorded in a sketch", (bench_cpu_us() - start) * 1000 / RECORDS, "ns", "", NULL,
              "random times up to 4 minutes, with the drawing of them; a sketch takes %zu bytes",
              sizeof sketch);
}

int main(void) {
    static const struct {
        const char *name;
        llmgw_metrics_format format;
    } formats[] = {{"Prometheus' text", LLMGW_METRICS_PROMETHEUS}, {"JSON", LLMGW_METRICS_JSON}};
    int rounds = bench_quick() ? 15 : 60;
    bench_server server = bench_server_start();
    pthread_t thread;
    load own;
    memset(&own, 0, sizeof own);
    own.gw = net_lib_open(&server, NULL, NULL);
    if (pthread_create(&thread, NULL, load_run, &own)) bench_die("pthread_create");
    while (!__atomic_load_n(&own.full, __ATOMIC_ACQUIRE)) usleep(10000);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        char metric[128];
        double most;
        int64_t lines;
        size_t bytes;
        double us = scrape_us(own.gw, formats[i].format, rounds, &most, &lines, &bytes);
        snprintf(metric, sizeof metric, "a scrape of 200 targets, 64 calls in flight, %s", formats[i].name);
        bench_row(metric, us / 1000, "ms", "<= 5", NULL,
                  "wall time beside the thread that drives, the longest of %d %.1f ms; %lld lines, %zu KB",
                  rounds, most / 1000, (long long)lines, bytes / 1024);
    }
    __atomic_store_n(&own.stop, true, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    measure_record();
    llmgw_close(own.gw);
    bench_server_stop(&server);
    return 0;
}
