/* overflow.c - more calls than a provider takes, with a second one beside it: 15,000 a minute are offered, openly
 * paced, to one that takes 10,000. All are served, the first provider refuses none, and the latency is compared
 * with a run against a provider without limits.
 *
 *   build/overflow [--seconds N (70)]
 *
 * Runs shorter than a minute get a limit that is as much too small. Exits with 1 if a call was not served, or if
 * the limit was met. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"

#define MAIN_KEY "sk-main-0123456789abcde"
#define SIDE_KEY "sk-side-0123456789abcde"

enum { PER_SECOND = 250, FLYING = 4096 };

typedef struct Flight {
    int64_t due_us;
    bool busy;
} Flight;

typedef struct Run {
    llmgw *gw;
    Flight flights[FLYING];
    int64_t *latency_us;
    size_t ended, asked;
    size_t side, failed;
    char why[LLMGW_ERROR_TEXT];
} Run;

static Run run;
static Provider provider;

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void on_event(const llmgw_event *event, void *user) {
    Flight *flight = (Flight *)user;
    if (event->kind != LLMGW_EVENT_END) return;
    run.latency_us[run.ended++] = now_us() - flight->due_us;
    run.side += !strcmp(event->reply->provider, "side");
    if (event->reply->error.code && !run.failed++)
        snprintf(run.why, sizeof run.why, "%s", event->reply->error.text);
    flight->busy = false;
}

static llmgw *open_gateway(int64_t rpm) {
    static const char *const targets[] = {"main/m", "side/m"};
    static char urls[2][128];
    llmgw_provider providers[2];
    llmgw_options options;
    llmgw_route route;
    llmgw_error error;
    memset(&options, 0, sizeof options);
    memset(&route, 0, sizeof route);
    providers[0] = t_provider(&provider, "main", "openai", "/v1", MAIN_KEY, urls[0]);
    providers[1] = t_provider(&provider, "side", "openai", "/v1", SIDE_KEY, urls[1]);
    providers[0].rpm = rpm;
    route.name = "r";
    route.targets = targets;
    route.target_count = 2;
    options.providers = providers;
    options.provider_count = 2;
    options.routes = &route;
    options.route_count = 1;
    options.no_environment = true;
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) fprintf(stderr, "overflow: llmgw_open: %s\n", error.text);
    return gw;
}

/* Sends what is due by now. A call that cannot be sent counts as failed. */
static void send_due(int64_t begun, size_t total) {
    while (run.asked < total) {
        int64_t due = begun + (int64_t)run.asked * 1000000 / PER_SECOND;
        Flight *flight = &run.flights[run.asked % FLYING];
        if (due > now_us() || flight->busy) return;
        llmgw_request request;
        memset(&request, 0, sizeof request);
        request.model = "r";
        request.prompt = "fault:{\"first_ms\":20} a call of many";
        request.stream = run.asked % 2;
        request.on_event = on_event;
        request.user = flight;
        run.asked++;
        flight->due_us = due;
        flight->busy = true;
        if (!llmgw_send(run.gw, &request, NULL)) run.failed++;
    }
}

static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static double percentile_ms(int percent) {
    return run.ended ? (double)run.latency_us[(run.ended - 1) * (size_t)percent / 100] / 1000 : 0;
}

/* Offers PER_SECOND calls a second. rpm 0: no limit. Returns the 95th percentile in ms, < 0 when it went wrong. */
static double offer(const char *name, int seconds, int64_t rpm) {
    size_t total = (size_t)seconds * PER_SECOND;
    memset(&run, 0, sizeof run);
    run.latency_us = (int64_t *)calloc(total, sizeof *run.latency_us);
    run.gw = open_gateway(rpm);
    if (!run.gw || !run.latency_us) return -1;
    int64_t begun = now_us(), last = begun + (int64_t)(seconds + 130) * 1000000;
    while (run.ended < total && now_us() < last) {
        send_due(begun, total);
        int64_t next = begun + (int64_t)run.asked * 1000000 / PER_SECOND - now_us();
        if (llmgw_poll(run.gw, run.asked == total ? 100 : next > 1000 ? (int)(next / 1000) : 0) < 0) break;
    }
    bool all = run.ended == total && !run.failed;
    qsort(run.latency_us, run.ended, sizeof *run.latency_us, by_size);
    double p95 = percentile_ms(95);
    printf("overflow: %-13s %zu calls, %zu ended, %zu by the side, %zu failed; p50 %.2f ms, p95 %.2f ms, "
           "p99 %.2f ms\n",
           name, total, run.ended, run.side, run.failed, percentile_ms(50), p95, percentile_ms(99));
    if (run.failed) printf("overflow: the first failure: %s\n", run.why);
    llmgw_close(run.gw);
    free(run.latency_us);
    fflush(stdout);
    return all ? p95 : -1;
}

int main(int argc, char **argv) {
    int seconds = argc > 2 && !strcmp(argv[1], "--seconds") ? atoi(argv[2]) : 70;
    if (seconds < 1) seconds = 1;
    int64_t rpm = seconds >= 60 ? 10000 : (int64_t)seconds * PER_SECOND * 2 / 3;
    char rule[160];
    provider_start(&provider, NULL);
    double free_p95 = offer("without limit", seconds < 20 ? seconds : 20, 0);
    provider_reset(&provider);
    /* 100 ms less than a minute: for what is under way between the two clocks */
    snprintf(rule, sizeof rule, "{\"limits\":{\"key\":\"%s\",\"rpm\":%lld,\"window_ms\":59900}}", MAIN_KEY,
             (long long)rpm);
    provider_rule(&provider, rule);
    double p95 = offer("with a limit", seconds, rpm);
    int64_t refused = provider_key(&provider, MAIN_KEY, "refused");
    int64_t most = provider_key(&provider, MAIN_KEY, "max_window");
    int64_t side = provider_key(&provider, SIDE_KEY, "requests");
    provider_stop(&provider);
    printf("overflow: limit %lld a minute, most in a minute %lld, refused %lld, p95 ratio %.2f\n",
           (long long)rpm, (long long)most, (long long)refused, free_p95 > 0 ? p95 / free_p95 : 0.0);
    return free_p95 < 0 || p95 < 0 || refused || most > rpm || !side;
}
