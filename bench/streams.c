/* streams.c - thousands of streams held open in one thread: what one costs in memory beyond libcurl's own,
   whether all come to the right end, and what they cost a new request. Also: the heap of a gateway and of
   one call. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <malloc.h>

#include "net.h"

/* 10000 as "10,000". */
static const char *thousands(size_t count) {
    static char text[32];
    snprintf(text, sizeof text, "%zu,%03zu", count / 1000, count % 1000);
    return text;
}

/* ---- memory, each side in a process of its own ---- */

typedef struct heap_use {
    long long live, peak;
} heap_use;

static void *heap_alloc(void *p, size_t old_size, size_t new_size, void *user) {
    heap_use *heap = (heap_use *)user;
    if (new_size == 0) {
        heap->live -= (long long)old_size;
        free(p);
        return NULL;
    }
    void *grown = realloc(p, new_size);
    if (!grown) return NULL;
    heap->live += (long long)new_size - (p ? (long long)old_size : 0);
    if (heap->live > heap->peak) heap->peak = heap->live;
    return grown;
}

typedef struct footprint {
    double rss, heap; /* KB */
} footprint;

static footprint footprint_now(void) {
    footprint now = {0, 0};
    unsigned long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%lu %lu", &size, &resident) != 2) bench_die("/proc/self/statm");
    fclose(file);
    struct mallinfo2 info = mallinfo2();
    now.rss = (double)resident * (double)sysconf(_SC_PAGESIZE) / 1024;
    now.heap = (double)(info.uordblks + info.hblkhd) / 1024;
    return now;
}

/* A child: "memory lib 10000". Prints KB a stream: resident, malloc. */
static int memory_child(bool is_lib, size_t count) {
    bench_server server = bench_server_start();
    net_lib lib = {.gw = NULL};
    net_bare net;
    net_held held;
    footprint before, after;
    if (is_lib) {
        lib.gw = net_lib_open(&server, NULL, NULL);
        net_held_make(&held, lib.gw, count);
        memset(held.holds, 0xFF, count * sizeof *held.holds); /* touched: it is ours, not the library's */
        for (size_t i = 0; i < count; i++) held.holds[i] = (net_hold){&held, false};
        net_lib_round(&lib, "stream/gpt-4o-mini", true, 1, 1);
        before = footprint_now();
        net_lib_hold(&held, &server);
    } else {
        net_bare_open(&net, 20000);
        net.bare.discard = true;
        net_bare_round(&net, &server, "stream", true, 1, 1);
        before = footprint_now();
        net_bare_hold(&net, &server, count);
    }
    after = footprint_now();
    if (bench_server_held(&server) != (int)count) bench_die("not all streams are held");
    printf("%f %f\n", (after.rss - before.rss) / (double)count, (after.heap - before.heap) / (double)count);
    bench_server_stop(&server);
    return 0;
}

/* Runs this program again as a child of that kind. */
static footprint memory_run(const char *side, size_t count) {
    footprint use = {0, 0};
    char path[4096], command[4200];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0) bench_die("/proc/self/exe");
    path[n] = 0;
    snprintf(command, sizeof command, "'%s' memory %s %zu", path, side, count);
    FILE *pipe = popen(command, "r");
    if (!pipe || fscanf(pipe, "%lf %lf", &use.rss, &use.heap) != 2 || pclose(pipe) != 0)
        bench_die("the measuring child failed");
    return use;
}

static void bench_memory(size_t count, const char *bar) {
    char metric[128];
    snprintf(metric, sizeof metric, "memory of one of %s open streams beyond libcurl's own, KB",
             thousands(count));
    footprint ours = memory_run("lib", count), theirs = memory_run("bare", count);
    double beyond = ours.rss - theirs.rss;
    bench_row(metric, beyond, "KB", bar, NULL,
              "resident, each side in its own process: llmgw.h %.1f, libcurl %.1f; malloc'ed: %.1f and %.1f; "
              "%zu streams, prompts of 500 bytes, first event delivered",
              ours.rss, theirs.rss, ours.heap, theirs.heap, count);
}

/* ---- the heap of a gateway and of one call ---- */

static void bench_heap(const bench_server *server) {
    heap_use heap = {0, 0};
    net_lib lib = {.gw = net_lib_open(server, heap_alloc, &heap)};
    bench_row("heap after open", (double)heap.live, "bytes", "", NULL,
              "llmgw_open with three providers, options.alloc counted");
    net_lib_round(&lib, "delay/gpt-4o-mini", false, 1, 1);
    long long idle = heap.live;
    heap.peak = idle;
    net_lib_round(&lib, "delay/gpt-4o-mini", false, 1, 1);
    bench_row("peak heap of one call", (double)(heap.peak - idle), "bytes", "", NULL,
              "over an idle gateway; prompt of 500 bytes, reply of 800");
    heap.peak = idle;
    net_lib_round(&lib, "stream/gpt-4o-mini", true, 1, 1);
    bench_row("peak heap of one streamed call", (double)(heap.peak - idle), "bytes", "", NULL,
              "100 events of 285 bytes");
    bench_row("heap of an idle gateway after calls", (double)heap.live, "bytes", "", NULL,
              "after three calls");
    llmgw_close(lib.gw);
    if (heap.live != 0) bench_die("llmgw_close left memory behind");
}

/* ---- many streams, and a new request beside them ---- */

static void bench_many(const bench_server *server, size_t count) {
    char metric[128];
    net_lib fresh = {.gw = net_lib_open(server, NULL, NULL)};
    net_lib laden = {.gw = net_lib_open(server, NULL, NULL)};
    net_held held;
    bench_pair pair = {.count = 0}, alone = {.count = 0};
    net_held_make(&held, laden.gw, count);
    double cpu = bench_cpu_us(), start = bench_wall_us();
    net_lib_hold(&held, server);
    double opened = bench_wall_us() - start;
    cpu = bench_cpu_us() - cpu;
    if (bench_server_held(server) != (int)count) bench_die("not all streams are held");
    int rounds = bench_quick() ? 5 : 15, n = bench_quick() ? 1000 : 3000;
    net_lib_round(&laden, "delay/gpt-4o-mini", false, NET_FLIGHT, NET_FLIGHT * 2);
    net_lib_round(&fresh, "delay/gpt-4o-mini", false, NET_FLIGHT, NET_FLIGHT * 2);
    for (int round = 0; round < rounds; round++) {
        double ours = net_lib_round(&laden, "delay/gpt-4o-mini", false, NET_FLIGHT, n);
        bench_pair_add(&pair, ours, net_lib_round(&fresh, "delay/gpt-4o-mini", false, NET_FLIGHT, n));
        ours = net_lib_round(&laden, "delay/gpt-4o-mini", false, 1, 30);
        bench_pair_add(&alone, ours, net_lib_round(&fresh, "delay/gpt-4o-mini", false, 1, 30));
    }
    snprintf(metric, sizeof metric, "a new request with %s held, over one with none held", thousands(count));
    bench_row(metric, bench_ratio(&pair), "x", count == 10000 ? "<= 3" : "", NULL,
              "CPU a call, 64 in flight, two gateways by turns: %.1f us and %.1f us",
              bench_median(pair.a, rounds), bench_median(pair.b, rounds));
    snprintf(metric, sizeof metric, "the same with 1 in flight, %s held", thousands(count));
    bench_row(metric, bench_ratio(&alone), "x", "", NULL, "CPU a call: %.1f us and %.1f us",
              bench_median(alone.a, rounds), bench_median(alone.b, rounds));
    double cpu_end = bench_cpu_us();
    start = bench_wall_us();
    net_lib_release(&held, server);
    double ended = bench_wall_us() - start;
    cpu += bench_cpu_us() - cpu_end;
    char bar[32];
    snprintf(bar, sizeof bar, ">= %zu", count);
    snprintf(metric, sizeof metric, "%s concurrent streams in one thread, right answers", thousands(count));
    bench_row(
        metric, (double)held.right, "streams", bar, NULL,
        "all open at once, each with its own answer; opened in %.2f s, ended in %.2f s, %.0f us CPU each",
        opened / 1e6, ended / 1e6, cpu / (double)count);
    llmgw_close(laden.gw);
    llmgw_close(fresh.gw);
    free(held.holds);
}

int main(int argc, char **argv) {
    long files = bench_raise_files();
    if (argc == 4 && strcmp(argv[1], "memory") == 0)
        return memory_child(strcmp(argv[2], "lib") == 0, strtoul(argv[3], NULL, 10));
    size_t many = 10000;
    if (files < 10400) {
        many = files > 1400 ? (size_t)files - 400 : 1000;
        fprintf(stderr, "streams: only %ld descriptors (ulimit -Hn), so %zu streams instead of 10,000\n",
                files, many);
    }
    bench_server server = bench_server_start();
    bench_heap(&server);
    bench_memory(many, "<= 20");
    bench_memory(1000, "");
    bench_many(&server, many);
    bench_server_stop(&server);
    return 0;
}
