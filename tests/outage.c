/* outage.c - 200 calls at once, streams and not, over a route of three providers of three dialects, while their
 * processes are killed and started again at random.
 *
 *   build/outage [--seconds N (60)] [--seed N] [--retry-percent N (the default; -1: no budget)]
 *
 * Every prompt has a number, and its answer is the prompt: a call that is lost, answered twice or with another's
 * answer shows. Prints the share of calls that succeeded; exits with 1 when a law is broken. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"

enum { CALLS = 200, PROVIDERS = 3, PROMPT = 400 };

/* Who was told of a failure waits a moment before the next call. ms */
enum { REST_MS = 200 };

/* Each is down this long at most; up at least as long. ms */
enum { DOWN_MS = 700, UP_MS = 300 };

typedef struct Slot {
    Rec rec;
    bool busy;
    int64_t rest; /* ms: no call before */
    char prompt[PROMPT];
} Slot;

typedef struct Killer {
    Provider provider;
    bool up;
    int64_t next; /* ms: when it is killed or started */
} Killer;

static Slot slots[CALLS];
static Killer killers[PROVIDERS];
static uint64_t seed = 1;
static unsigned long number, sent, good, failed, kills, resumed, attempts;
static int wrong, retry_percent;

static unsigned random_below(unsigned n) { /* splitmix64 */
    uint64_t z = seed += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (unsigned)((z ^ (z >> 31)) % n);
}

__attribute__((format(printf, 2, 3))) static void broken(const Slot *slot, const char *what, ...) {
    va_list list;
    va_start(list, what);
    fprintf(stderr, "outage: ");
    vfprintf(stderr, what, list);
    fprintf(stderr, " (%.60s)\n", slot ? slot->prompt : "");
    va_end(list);
    wrong++;
}

/* ---- the providers ---- */

static void start_provider(Killer *killer) {
    char port[16];
    snprintf(port, sizeof port, "%d", killer->provider.port);
    const char *const more[] = {"--port", port, NULL};
    provider_start(&killer->provider, more);
    killer->up = true;
}

static void kill_and_start(int64_t now) {
    for (int i = 0; i < PROVIDERS; i++) {
        Killer *killer = &killers[i];
        if (now < killer->next) continue;
        if (killer->up) {
            int port = killer->provider.port;
            provider_kill(&killer->provider);
            killer->provider.port = port;
            killer->up = false;
            kills++;
        } else {
            start_provider(killer);
        }
        killer->next = now + (killer->up ? UP_MS : 0) + random_below(DOWN_MS) + 20;
    }
}

static llmgw *open_gateway(void) {
    static const char *const paths[] = {"/v1", "", "/v1beta"}, *const names[] = {"one", "two", "three"},
                             *const targets[] = {"one/m", "two/m", "three/m"};
    static char urls[PROVIDERS][128];
    llmgw_provider providers[PROVIDERS];
    llmgw_options options;
    llmgw_route route;
    llmgw_error error;
    memset(&options, 0, sizeof options);
    memset(&route, 0, sizeof route);
    for (int i = 0; i < PROVIDERS; i++)
        providers[i] = t_provider(&killers[i].provider, names[i], t_dialects[i], paths[i],
                                  "sk-outage-0123456789", urls[i]);
    route.name = "r";
    route.targets = targets;
    route.target_count = PROVIDERS;
    options.providers = providers;
    options.provider_count = PROVIDERS;
    options.routes = &route;
    options.route_count = 1;
    options.no_environment = true;
    options.deadline_ms = 20000;
    options.breaker_open_ms = 500;
    options.retry_percent = retry_percent;
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) fprintf(stderr, "outage: llmgw_open: %s\n", error.text);
    return gw;
}

/* ---- the calls ---- */

/* Some 40 pieces, 3 ms apart: long enough to be killed within. */
static void send_one(llmgw *gw, Slot *slot) {
    llmgw_error error;
    bool stream = random_below(3) != 0;
    memset(&slot->rec, 0, sizeof slot->rec);
    int n = snprintf(slot->prompt, PROMPT, "fault:{\"first_ms\":%u,\"chunk_ms\":3} call %lu.",
                     random_below(60), ++number);
    for (int i = 0; n < PROMPT - 60; i++)
        n += snprintf(slot->prompt + n, PROMPT - (size_t)n, " Sentence %d of call %lu.", i, number);
    llmgw_request request = rec_request(&slot->rec, "r", slot->prompt, stream);
    request.whole_sentences = stream && random_below(2);
    slot->busy = llmgw_send(gw, &request, &error) != 0;
    if (slot->busy)
        sent++;
    else
        broken(slot, "not accepted: %s", error.text);
}

static void check_answer(Slot *slot) {
    static const char start[] = "Echo from m: ";
    const llmgw_reply *reply = slot->rec.reply;
    const size_t n = sizeof start - 1;
    if (strncmp(reply->text, start, n) != 0 || strcmp(reply->text + n, slot->prompt) != 0)
        broken(slot, "another answer: %s", reply->text);
    for (int i = 0; i < slot->rec.rewinds; i++) resumed += i == 0;
}

static void check_end(Slot *slot) {
    const Rec *rec = &slot->rec;
    const llmgw_reply *reply = rec->reply;
    if (rec->after_end || rec->out_of_order || rec->begun != rec->tried) broken(slot, "events out of order");
    if (rec->text.n != reply->text_len || (rec->text.n && memcmp(rec->text.p, reply->text, rec->text.n) != 0))
        broken(slot, "law 10: the events say something else than the reply");
    attempts += (unsigned)reply->attempts;
    if (reply->error.code == LLMGW_OK) {
        good++;
        check_answer(slot);
    } else {
        failed++;
        slot->rest = t_now_ms() + REST_MS;
        if (!reply->error.retryable) broken(slot, "failed for good: %s", reply->error.text);
    }
}

/* Checks what has ended and sends new ones in their place, until the time is over. */
static int turn_over(llmgw *gw, bool more) {
    int busy = 0;
    for (int i = 0; i < CALLS; i++) {
        Slot *slot = &slots[i];
        if (slot->busy && slot->rec.ends) {
            if (slot->rec.ends != 1) broken(slot, "END came %d times", slot->rec.ends);
            check_end(slot);
            rec_free(&slot->rec);
            slot->busy = false;
        }
        if (!slot->busy && more && t_now_ms() >= slot->rest) send_one(gw, slot);
        busy += slot->busy;
    }
    return busy;
}

static void run(llmgw *gw, int seconds) {
    int64_t until = t_now_ms() + (int64_t)seconds * 1000, last = until + 25000;
    for (;;) {
        int64_t now = t_now_ms();
        if (now < until) kill_and_start(now);
        int busy = turn_over(gw, now < until);
        if ((!busy && now >= until) || now > last) break;
        if (llmgw_poll(gw, 10) < 0) broken(NULL, "llmgw_poll failed");
    }
    for (int i = 0; i < CALLS; i++)
        if (slots[i].busy) broken(&slots[i], "lost: no END");
    if (llmgw_pending(gw) != 0) broken(NULL, "%zu calls are pending", llmgw_pending(gw));
}

int main(int argc, char **argv) {
    int seconds = 60;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--seconds")) seconds = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--retry-percent")) retry_percent = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--seed")) seed = strtoull(argv[i + 1], NULL, 10);
    }
    printf("outage: %d s, --seed %llu\n", seconds, (unsigned long long)seed);
    fflush(stdout);
    for (int i = 0; i < PROVIDERS; i++) {
        start_provider(&killers[i]);
        killers[i].next = t_now_ms() + 200 + random_below(DOWN_MS);
    }
    llmgw *gw = open_gateway();
    if (!gw) return 1;
    run(gw, seconds);
    llmgw_close(gw);
    for (int i = 0; i < PROVIDERS; i++)
        if (killers[i].up) provider_stop(&killers[i].provider);
    printf("outage: %lu calls, %lu good (%.2f %%), %lu failed, %.2f attempts a call, %lu taken back in part, "
           "%lu kills, %d laws broken\n",
           sent, good, sent ? 100.0 * (double)good / (double)sent : 0.0, failed,
           sent ? (double)attempts / (double)sent : 0.0, resumed, kills, wrong);
    return wrong || sent < CALLS || good + failed != sent || good * 2 < sent;
}
