/* call.c - what llmgw.h adds to libcurl's CPU time: a call whose reply comes after 2 ms, with and without
   1,000 connections held to the host, and a stream of 100 events 2 ms apart. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include "net.h"

#define HELD 1000

static bench_server server;
static net_lib lib;
static net_bare net;

/* Are the two requests the same on the wire? */
static void same_request(const char *path, bool stream) {
    char model[32], ours[4096], theirs[4096];
    snprintf(model, sizeof model, "%s/gpt-4o-mini", path);
    net_lib_round(&lib, model, stream, 1, 1);
    bench_server_ask(&server, "/request", ours, sizeof ours);
    net_bare_round(&net, &server, path, stream, 1, 1);
    bench_server_ask(&server, "/request", theirs, sizeof theirs);
    if (strcmp(ours, theirs) == 0) return;
    fprintf(stderr, "llmgw.h sends\n%sand bare libcurl\n%s", ours, theirs);
    bench_die("the two sides do not send the same");
}

static void measure(const char *metric, const char *path, bool stream, const char *bar, int rounds,
                    int flight, int count, const char *how) {
    bench_pair pair = {.count = 0};
    char model[32];
    snprintf(model, sizeof model, "%s/gpt-4o-mini", path);
    net_lib_round(&lib, model, stream, flight, flight * 2);
    net_bare_round(&net, &server, path, stream, flight, flight * 2);
    for (int round = 0; round < rounds; round++) {
        double ours = net_lib_round(&lib, model, stream, flight, count);
        bench_pair_add(&pair, ours, net_bare_round(&net, &server, path, stream, flight, count));
    }
    const char *why =
        "on a laden machine both sides wake up less often and the kernel's share, equal on both, falls";
    bench_row(metric, bench_ratio(&pair), "x", bar, why, "%s; llmgw.h %.1f us, libcurl %.1f us", how,
              bench_median(pair.a, rounds), bench_median(pair.b, rounds));
}

int main(void) {
    bool quick = bench_quick();
    int rounds = quick ? 9 : 25;
    net_held held;
    long files = bench_raise_files();
    server = bench_server_start();
    lib.gw = net_lib_open(&server, NULL, NULL);
    net_bare_open(&net, 4096);
    same_request("delay", false);
    same_request("stream", true);
    measure("a stream of 100 events paced 2 ms, CPU over bare libcurl", "stream", true, "<= 1.2",
            quick ? 7 : 25, NET_FLIGHT, NET_FLIGHT, "64 at once, CPU a stream, every event delivered");
    measure("one upstream call, 1 in flight", "delay", false, "", rounds, 1, quick ? 20 : 100, "CPU a call");
    measure("one upstream call, reply delayed by 2 ms, 64 in flight, CPU over bare libcurl", "delay", false,
            "<= 1.3", rounds, NET_FLIGHT, quick ? 1000 : 5000,
            "one thread, requests equal byte for byte, by turns, CPU a call");
    if (files < HELD * 2 + 200) {
        fprintf(stderr, "call: only %ld descriptors (ulimit -Hn): no row with 1,000 held\n", files);
        return 0;
    }
    net_held_make(&held, lib.gw, HELD);
    net_lib_hold(&held, &server);
    net_bare_hold(&net, &server, HELD);
    if (bench_server_held(&server) != 2 * HELD) bench_die("not all streams are held");
    measure("the same with 1,000 connections held to the host", "delay", false, "<= 1.0", rounds, NET_FLIGHT,
            quick ? 1000 : 5000, "each side holds 1,000 open streams to the host of the calls, CPU a call");
    bench_server_stop(&server);
    return 0;
}
