/* outages.c - what a caller sees of outages, by the policy that stands between it and its providers.

     outages [--quick] [--markdown] [--picture FILE] [--world OUTAGE POLICY SEED]

   Three providers in simulated time (tests/simworld.h): p0 is asked first, p1 is in its region, p2 is elsewhere;
   p1 and p2 cost more and are a little slower. All policies meet the same world: the same arrival times,
   prompts, streaming or not (6 of 10), outage, and the same luck: request n of a call to a provider is drawn
   from (seed, call, provider, n). The client gives up after 30 s. The answer must be whole: the text is
   compared (of ours) or must have come to its end mark (of the others, which start an answer again).

   A latency is that of the whole answer; a call that fails counts as 30 s, however early it failed. Load is
   requests to providers a call; peak is the busiest second of any provider against the busiest second of the
   offered calls. The bill is the world's, the same for all: input of every request that a provider began to
   answer, output as far as it was sent (whole for what does not stream, also when it is cancelled).

   make build/bench/outages && build/bench/outages --picture bench/outages.svg   draws the picture anew.

   The policies:
     no retries          one request to p0.
     naive retry x3      up to three requests to p0, one at once after the other.
     litellm fallbacks   LiteLLM's Router as documented: model groups p0, p1, p2 of one deployment each, p0 with
                         fallbacks [p1, p2].
     litellm shuffle     the same with p0, p1, p2 as deployments of one group (simple-shuffle, equal weights).
     llmgw fallback      {"how": "fallback", "try": [p0, p1, p2]}, nothing else set but the deadline.
     llmgw + hedge       the same with "hedge": "p95".

   What was taken of LiteLLM, from docs/my-website/docs/routing.md ("Cooldowns", "Retries"; commit 08d1303c of
   BerriAI/litellm), docs.litellm.ai/docs/router/learn/reliability and litellm/constants.py (000db7e8):
     - routing_strategy simple-shuffle (default); num_retries 2 (DEFAULT_MAX_RETRIES); retry_after 0; order of
       fallbacks as listed (max_fallbacks 5), each group with its own retries.
     - Cooldown of a deployment: at once on 429, 401, 404, 408; else when more than half of its requests of the
       current minute failed, of at least 5 (DEFAULT_FAILURE_THRESHOLD_MINIMUM_REQUESTS). For Retry-After where
       the reply says so, else 5 s (DEFAULT_COOLDOWN_TIME_SECONDS). allowed_fails (3) is left at its default,
       with which the percentage above decides.
     - The pause before a retry: none while the group has another healthy deployment; else Retry-After up to
       60 s, else 0.5 s x 2^n up to 8 s plus up to 0.75 s (INITIAL_RETRY_DELAY, MAX_RETRY_DELAY, JITTER).
       Constants are read at the source; the rule is from others' descriptions of router.py
       (_time_to_sleep_before_retry), the sum of backoff and jitter from memory of litellm/utils.py.
     - A group without a healthy deployment falls back at once; without a fallback the call fails at once. A retry
       skips the deployments that failed this request. (Same descriptions; of the reliability page an excerpt.)
   Where the documents leave a choice it is made in LiteLLM's favour: a stream that breaks is tried again like
   any other failure; a group of one deployment is cooled down too (constants.py hints that the code exempts
   it); timeout is the caller's 30 s and counts as 408. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include "bench.h"

#include "../tests/simworld.h"

#define PROVIDERS 3
#define WORLDS 20 /* <= BENCH_ROUNDS */
#define QUICK_WORLDS 3
#define CALLS 3000
#define SPAN_US 600000000LL    /* of the calls */
#define DEADLINE_US 30000000LL /* of each */
#define SECONDS 700            /* SPAN_US and the last calls */
#define PICTURE_SPAN_S 300     /* of the picture */
#define PICTURE_PERIOD_S 40    /* of the flapping in it */
#define PICTURE_FROM_S 60      /* it begins */
#define PICTURE_TO_S 260       /* it ends */
#define BIN_S 5                /* a point of the picture */
#define BINS (PICTURE_SPAN_S / BIN_S)
#define BIN_CALLS 2048 /* most calls of a point, over all worlds */

/* ---- what is compared ---- */

typedef enum outage { CALM = 0, DOWN, SLOW, LIMITED, REGION, FLAPPING, SILENT, OUTAGES, PICTURE } outage;

static const struct {
    const char *name;
    bool judged; /* named in the criterion; the others are controls */
} outages[OUTAGES] = {{"no outage", false},           {"one provider down", true},
                      {"one 20 times as slow", true}, {"one rate limits", true},
                      {"a region of two down", true}, {"one flapping", true},
                      {"one never answers", false}};

typedef enum policy { NONE = 0, NAIVE, FALLBACKS, SHUFFLE, OURS, HEDGED, POLICIES } policy;

static const char *const policies[POLICIES] = {"no retries",      "naive retry x3", "litellm fallbacks",
                                               "litellm shuffle", "llmgw fallback", "llmgw + hedge"};

/* USD per million tokens. */
static const struct {
    double input, output, first_us;
    const char *region;
} models[PROVIDERS] = {{0.15, 0.60, 400000, "eu"}, {0.30, 2.50, 500000, "eu"}, {0.80, 4.00, 600000, "us"}};

typedef enum measure { FAILED = 0, P50, P99, LOAD, PEAK, COST, MEASURES } measure;

static const char *const measures[MEASURES] = {"failed %", "p50 s", "p99 s",
                                               "load",     "peak",  "$/1000 answers"};

/* One point of the picture, over all worlds. */
typedef struct bin {
    int calls, good, requests;
    float latency[BIN_CALLS];
} bin;

static double results[OUTAGES][POLICIES][MEASURES][BENCH_ROUNDS];
static bin bins[POLICIES][BINS];

/* ---- one call, as its caller sees it ---- */

typedef struct call {
    world_timer arrive, again, late;
    world_ask ask;
    bool stream, over, good;
    int64_t began_us, took_us;
    int sent[PROVIDERS]; /* requests */
    /* of the policies that are not llmgw: */
    world_transfer *transfer; /* NULL: none under way */
    world_buf body;
    int64_t told_us;            /* Retry-After; 0: none */
    int provider, group, tries; /* tries: in this group */
    unsigned tried;             /* providers, in this group */
} call;

/* How LiteLLM sees a deployment. */
typedef struct deployment {
    int64_t cool_until_us, minute;
    int good, bad; /* in that minute */
} deployment;

static world W;
static call calls[CALLS];
static int call_count, alive;
static outage now_outage;
static policy now_policy;
static int now_world;
static deployment deployments[PROVIDERS];
static uint64_t luck; /* of the policy */
static void *headers[PROVIDERS];
static llmgw *gateway;
static int per_second[PROVIDERS][SECONDS];
static int64_t requests;
static double bill_usd;
static int quietest_peak; /* of the run without retries */

static void broken(world *w, const char *law, int number, const char *text) {
    (void)w;
    fprintf(stderr, "outages: %s, %s, world %d, call %d: law %s: %s\n",
            now_outage < OUTAGES ? outages[now_outage].name : "picture", policies[now_policy], now_world,
            number, law, text);
    exit(1);
}

static int bin_of(int64_t at_us) { return (int)((at_us - W.start_us) / (BIN_S * 1000000LL)); }

static void finish(call *c, bool good) {
    if (c->over) return;
    c->over = true;
    c->good = good;
    c->took_us = good ? W.now_us - c->began_us : DEADLINE_US;
    alive--;
    WORLD_TRACE(&W, "call %d: %s after %.3f s", c->ask.call, good ? "answered" : "failed",
                (double)(W.now_us - c->began_us) / 1e6);
    world_unset(&W.outside, &c->late);
    world_unset(&W.outside, &c->again);
}

/* ---- what the world counts ---- */

/* The same luck for every policy, whatever else it has asked before. */
static int on_start(world *w, const world_seen *seen) {
    world_transfer *t = (world_transfer *)((uintptr_t)seen - offsetof(world_transfer, seen));
    call *c = &calls[seen->ask.call];
    int nth = c->sent[seen->provider]++;
    int64_t second = (w->now_us - w->start_us) / 1000000;
    t->rng = world_seed(w->seed ^ (uint64_t)seen->ask.call << 20, (uint64_t)(seen->provider * 64 + nth));
    if (second < SECONDS) per_second[seen->provider][second]++;
    requests++;
    if (now_outage == PICTURE && bin_of(w->now_us) < BINS) bins[now_policy][bin_of(w->now_us)].requests++;
    return nth;
}

static void on_done(world *w, const world_transfer *t) {
    (void)w;
    if (t->status != 200 || t->stage < 1) return;
    double share = t->stream && t->body.n ? (double)t->given / (double)t->body.n : 1;
    bill_usd += (double)t->input * models[t->seen.provider].input / 1e6 +
                share * (double)t->output * models[t->seen.provider].output / 1e6;
}

/* ---- a client of its own, for the other policies ---- */

static void failed(call *c, int status);

static bool client_sent(void *user) {
    (void)user;
    return true;
}

static void client_header(void *user, llmgwi_base_str name, llmgwi_base_str value) {
    call *c = (call *)user;
    if (llmgwi_base_is_nocase(name, "retry-after")) c->told_us = strtoll(value.p, NULL, 10) * 1000000;
}

static int client_body(void *user, int status, const char *p, size_t n) {
    call *c = (call *)user;
    (void)status;
    world_add(&c->body, p, n);
    return LLMGWI_HTTP_GO;
}

static void served(int provider, bool good);

static void client_done(void *user, const llmgwi_http_result *result) {
    call *c = (call *)user;
    const char *end = c->stream ? "data: [DONE]" : "\"finish_reason\":\"stop\"";
    bool whole = c->body.n && strstr(c->body.p, end);
    c->transfer = NULL;
    if (c->over) return;
    if (result->code == LLMGW_OK && result->status == 200 && whole) {
        served(c->provider, true);
        finish(c, true);
    } else {
        failed(c, result->status);
    }
}

static const llmgwi_http_events client_events = {client_sent, client_header, client_body, client_done};

static void client_send(call *c, int provider) {
    llmgwi_http_request request;
    char body[512], prompt[128], url[64];
    const world_provider *p = &W.providers[provider];
    world_prompt(prompt, sizeof prompt, &c->ask);
    memset(&request, 0, sizeof request);
    snprintf(url, sizeof url, "%s/chat/completions", p->url);
    request.body_len = (size_t)snprintf(
        body, sizeof body, "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]%s}",
        p->model[0], prompt, c->stream ? ",\"stream\":true" : "");
    request.url = url;
    request.body = body;
    request.headers = headers[provider];
    request.stream = c->stream;
    request.events = &client_events;
    request.user = c;
    c->provider = provider;
    c->body.n = 0;
    c->told_us = 0;
    c->transfer = (world_transfer *)world_start(&W, &request);
}

/* ---- the policies ---- */

static bool cools(int provider) { return deployments[provider].cool_until_us > W.now_us; }

static deployment *deployment_now(int provider) {
    deployment *d = &deployments[provider];
    int64_t minute = world_wall_s(&W) / 60;
    if (d->minute != minute) d->good = d->bad = 0;
    d->minute = minute;
    return d;
}

/* LiteLLM counts by the minute of the clock. */
static void served(int provider, bool good) {
    deployment *d = deployment_now(provider);
    if (good)
        d->good++;
    else
        d->bad++;
}

static void cool(const call *c, int status) {
    deployment *d = deployment_now(c->provider);
    bool at_once = status == 429 || status == 401 || status == 404 || status == 408;
    bool mostly = d->good + d->bad >= 5 && d->bad * 2 > d->good + d->bad;
    int64_t until = W.now_us + (c->told_us > 0 ? c->told_us : 5000000);
    if ((at_once || mostly) && d->cool_until_us < until) d->cool_until_us = until;
}

/* The deployments of the group: a bit for each provider. */
static unsigned group_of(const call *c) {
    if (now_policy == SHUFFLE) return c->group == 0 ? (1u << PROVIDERS) - 1 : 0;
    return c->group < PROVIDERS ? 1u << c->group : 0;
}

/* One of the healthy ones at random, rather one that this request has not tried; -1: none is healthy. */
static int shuffle(const call *c) {
    unsigned healthy = 0, fresh;
    int count = 0, list[PROVIDERS];
    for (int i = 0; i < PROVIDERS; i++)
        if ((group_of(c) >> i & 1) && !cools(i)) healthy |= 1u << i;
    fresh = healthy & ~c->tried;
    if (!fresh) fresh = healthy;
    for (int i = 0; i < PROVIDERS; i++)
        if (fresh >> i & 1) list[count++] = i;
    return count ? list[world_below(&luck, count)] : -1;
}

/* The first group from this one on that has a healthy deployment. */
static void route(call *c) {
    for (; group_of(c); c->group++, c->tries = 0, c->tried = 0) {
        int provider = shuffle(c);
        if (provider < 0) continue;
        c->tries++;
        c->tried |= 1u << provider;
        client_send(c, provider);
        return;
    }
    finish(c, false);
}

static int64_t pause_us(const call *c) {
    int healthy = 0, size = 0;
    for (int i = 0; i < PROVIDERS; i++)
        if (group_of(c) >> i & 1) size++, healthy += !cools(i);
    if (size > 1 && healthy) return 0;
    if (c->told_us > 0 && c->told_us <= 60000000) return c->told_us;
    int64_t base = 500000LL << (c->tries - 1);
    return (base < 8000000 ? base : 8000000) + (int64_t)(0.75e6 * world_unit(&luck));
}

/* One request has failed; status 0: without a reply. */
static void failed(call *c, int status) {
    if (now_policy == NONE || (now_policy == NAIVE && ++c->tries == 3)) {
        finish(c, false);
        return;
    }
    int64_t wait = 0;
    if (now_policy != NAIVE) {
        served(c->provider, false);
        cool(c, status);
        if (c->tries == 3 || shuffle(c) < 0) /* num_retries 2 */
            c->group++, c->tries = 0, c->tried = 0;
        else
            wait = pause_us(c);
    }
    world_set(&W, &W.outside, &c->again, W.now_us + wait);
}

static void on_again(world *w, world_timer *timer) {
    call *c = (call *)(void *)((char *)timer - offsetof(call, again));
    (void)w;
    if (now_policy == NAIVE)
        client_send(c, 0);
    else
        route(c);
}

/* The caller gives up. */
static void on_late(world *w, world_timer *timer) {
    call *c = (call *)(void *)((char *)timer - offsetof(call, late));
    bool asks = c->transfer != NULL;
    if (asks) world_cancel(w, c->transfer);
    c->transfer = NULL;
    if (asks) served(c->provider, false);
    if (asks && now_policy >= FALLBACKS) cool(c, 408);
    finish(c, false);
}

/* ---- ours ---- */

static bool is_whole(const call *c, const llmgw_reply *reply) {
    static world_text answer;
    world_answer(c->ask.seed, c->ask.sentences, &answer);
    return reply->text_len == answer.n && memcmp(reply->text, answer.p, answer.n) == 0;
}

static void on_event(const llmgw_event *event, void *user) {
    call *c = (call *)user;
    if (event->kind != LLMGW_EVENT_END) return;
    bool good = event->reply->error.code == LLMGW_OK && is_whole(c, event->reply);
    WORLD_TRACE(&W, "call %d: END %s", c->ask.call, llmgw_code_name(event->reply->error.code));
    for (size_t i = 0; W.trace && !good && i < event->reply->trace_count; i++) {
        const llmgw_trace *step = &event->reply->trace[i];
        WORLD_TRACE(&W, "    %s %s at %.3f s for %.3f s: %s, %s", llmgw_trace_name(step->kind),
                    step->provider, (double)step->start_us / 1e6, (double)step->duration_us / 1e6,
                    llmgw_code_name(step->code), step->reason);
    }
    finish(c, good);
}

static void ours_send(call *c) {
    llmgw_request request;
    llmgw_error error;
    char prompt[128];
    world_prompt(prompt, sizeof prompt, &c->ask);
    memset(&request, 0, sizeof request);
    request.model = "chat";
    request.prompt = prompt;
    request.stream = c->stream;
    request.on_event = on_event;
    request.user = c;
    if (!llmgw_send(gateway, &request, &error)) finish(c, false);
}

static void ours_open(bool hedge) {
    static const char *const names[PROVIDERS] = {"p0/small-0", "p1/small-1", "p2/small-2"};
    llmgw_options options;
    llmgw_provider providers[PROVIDERS];
    llmgw_route chat;
    llmgw_error error;
    memset(&options, 0, sizeof options);
    memset(&chat, 0, sizeof chat);
    memset(providers, 0, sizeof providers);
    for (int i = 0; i < PROVIDERS; i++) {
        providers[i].name = W.providers[i].name;
        providers[i].dialect = "openai";
        providers[i].url = W.providers[i].url;
        providers[i].key = W.providers[i].keys[0].text;
        providers[i].region = models[i].region;
    }
    chat.name = "chat";
    chat.targets = names;
    chat.target_count = PROVIDERS;
    chat.hedge_ms = hedge ? LLMGW_P95 : 0;
    options.providers = providers;
    options.provider_count = PROVIDERS;
    options.routes = &chat;
    options.route_count = 1;
    options.no_environment = true;
    options.deadline_ms = (int)(DEADLINE_US / 1000);
    llmgwi_http http = world_http(&W);
    llmgwi_base_clock clock = world_clock(&W);
    gateway = llmgwi_public_open(&options, &error, &http, &clock);
    if (!gateway) broken(&W, "open", -1, error.text);
}

static bool interrupt(world *w) {
    (void)w;
    llmgw_wake(gateway);
    return false;
}

static void ours_run(bool hedge) {
    ours_open(hedge);
    W.interrupt = interrupt;
    while (W.outside.count || alive) {
        (void)world_fire(&W, &W.outside, INT_MAX);
        int count = llmgw_poll(gateway, -1);
        if (count < 0) broken(&W, "poll", -1, llmgw_code_name((llmgw_code)-count));
    }
    (void)llmgw_close(gateway);
}

static void others_run(void) {
    for (int i = 0; i < PROVIDERS; i++) {
        const char *line = W.providers[i].keys[0].text;
        headers[i] = world_headers_make(&W, &line, 1);
    }
    memset(deployments, 0, sizeof deployments);
    luck = world_seed(W.seed, 9);
    while (W.net.count || W.outside.count) {
        int64_t next = world_least(world_next(&W.net), world_next(&W.outside));
        if (next > W.now_us) W.now_us = next;
        (void)world_fire(&W, &W.net, INT_MAX);
        (void)world_fire(&W, &W.outside, INT_MAX);
    }
    for (int i = 0; i < PROVIDERS; i++) world_headers_free(&W, headers[i]);
}

/* ---- a world ---- */

static void set_providers(void) {
    for (int i = 0; i < PROVIDERS; i++) {
        world_provider *p = world_provider_add(&W, "openai", 1);
        p->first_us = models[i].first_us;
        p->gap_us = 200000; /* with some 300 characters a piece: 75 tokens, of 4, in 0.2 s and more */
        p->lies = 1;
        p->noise[WORLD_BURST] = 0.002;
        p->noise[WORLD_CUTS] = 0.001;
    }
}

/* What p0 allows is half of what is offered. */
static void set_limit(uint64_t *rng) {
    world_provider *p = &W.providers[0];
    p->bucket = world_chance(rng, 0.5);
    world_ring_open(&p->keys[0].rpm, CALLS / 20, 60000000);
}

static void set_outage(outage which) {
    static const int64_t periods_s[] = {4, 10, 20, 40, 60};
    uint64_t rng = world_seed(W.seed, 20 + (uint64_t)which);
    world_kind dead = world_chance(&rng, 0.5) ? WORLD_REFUSED : WORLD_DOWN;
    int64_t from = 120000000, to = 420000000;
    world_provider *p = &W.providers[0];
    if (which == DOWN || which == REGION) world_fault_add(&W, 0, dead, from, to, 1);
    if (which == REGION) world_fault_add(&W, 1, dead, from, to, 1);
    if (which == SLOW) world_fault_add(&W, 0, WORLD_BROWN, from, to, 1);
    if (which == SILENT) world_fault_add(&W, 0, WORLD_HANGS, from, to, 1);
    if (which == LIMITED) set_limit(&rng);
    if (which == FLAPPING) {
        world_fault_add(&W, 0, WORLD_FLAPS, from, to, 1);
        p->faults[0].period_us = periods_s[world_below(&rng, LLMGWI_BASE_COUNT(periods_s))] * 1000000;
    }
    if (which == PICTURE) {
        world_fault_add(&W, 0, WORLD_FLAPS, PICTURE_FROM_S * 1000000LL, PICTURE_TO_S * 1000000LL, 1);
        p->faults[0].period_us = PICTURE_PERIOD_S * 1000000LL;
    }
}

static void on_arrive(world *w, world_timer *timer) {
    call *c = (call *)timer;
    c->began_us = w->now_us;
    if (now_policy >= OURS) {
        ours_send(c);
        return;
    }
    world_set(w, &w->outside, &c->late, w->now_us + DEADLINE_US);
    if (now_policy >= FALLBACKS)
        route(c);
    else
        client_send(c, 0);
}

static void set_calls(int count, int64_t span_us) {
    uint64_t rng = world_seed(W.seed, 10);
    int64_t at = W.now_us;
    call_count = alive = count;
    for (int i = 0; i < count; i++) {
        call *c = &calls[i];
        free(c->body.p);
        memset(c, 0, sizeof *c);
        c->arrive.heap_at = c->again.heap_at = c->late.heap_at = SIZE_MAX;
        c->arrive.fire = on_arrive;
        c->again.fire = on_again;
        c->late.fire = on_late;
        c->ask.call = i;
        c->ask.seed = world_random(&rng);
        c->ask.sentences =
            (size_t)(world_chance(&rng, 0.03) ? world_between(&rng, 20, 40) : world_between(&rng, 1, 9));
        c->stream = world_chance(&rng, 0.6);
        at += world_exponential(&rng, (double)span_us / count);
        world_set(&W, &W.outside, &c->arrive, at);
    }
}

static void run(outage which, policy how, int seed, bool trace) {
    int64_t span_us = which == PICTURE ? PICTURE_SPAN_S * 1000000LL : SPAN_US;
    now_outage = which;
    now_policy = how;
    now_world = seed;
    memset(per_second, 0, sizeof per_second);
    requests = 0;
    bill_usd = 0;
    world_open(&W, (uint64_t)seed);
    W.trace = trace;
    W.settled = NULL;
    W.on_start = on_start;
    W.on_done = on_done;
    W.broken = broken;
    set_providers();
    set_outage(which);
    set_calls((int)(CALLS * span_us / SPAN_US), span_us);
    if (how >= OURS)
        ours_run(how == HEDGED);
    else
        others_run();
    if (alive) broken(&W, "1", -1, "calls without an end");
    world_close(&W);
}

/* ---- what comes of it ---- */

static int busiest_second(void) {
    int most = 0;
    for (int p = 0; p < PROVIDERS; p++)
        for (int s = 0; s < SECONDS; s++)
            if (per_second[p][s] > most) most = per_second[p][s];
    return most;
}

/* The value at a share of a sorted list. */
static double quantile(const double *sorted, int count, double share) {
    int at = (int)ceil(share * count) - 1;
    return sorted[at < 0 ? 0 : at];
}

static void measure_run(int at) {
    static double took[CALLS];
    double *to[MEASURES];
    int good = 0;
    for (int m = 0; m < MEASURES; m++) to[m] = &results[now_outage][now_policy][m][at];
    for (int i = 0; i < call_count; i++) {
        took[i] = (double)calls[i].took_us / 1e6;
        good += calls[i].good;
    }
    qsort(took, (size_t)call_count, sizeof *took, bench_compare);
    if (now_policy == NONE) quietest_peak = busiest_second();
    *to[FAILED] = 100.0 * (call_count - good) / call_count;
    *to[P50] = quantile(took, call_count, 0.5);
    *to[P99] = quantile(took, call_count, 0.99);
    *to[LOAD] = (double)requests / call_count;
    *to[PEAK] = (double)busiest_second() / quietest_peak;
    *to[COST] = good ? 1000 * bill_usd / good : 0;
}

static void measure_bins(void) {
    for (int i = 0; i < call_count; i++) {
        int at = bin_of(calls[i].began_us);
        if (at >= BINS) continue;
        bin *b = &bins[now_policy][at];
        if (b->calls == BIN_CALLS) bench_die("BIN_CALLS is too small");
        b->good += calls[i].good;
        b->latency[b->calls++] = (float)calls[i].took_us / 1e6f;
    }
}

static double median_of(outage o, policy p, measure m, int worlds) {
    return bench_median(results[o][p][m], worlds);
}

static void spread_of(outage o, policy p, measure m, int worlds, double *low, double *high) {
    *low = *high = results[o][p][m][0];
    for (int i = 1; i < worlds; i++) {
        double value = results[o][p][m][i];
        if (value < *low) *low = value;
        if (value > *high) *high = value;
    }
}

static void table_cell(FILE *out, outage o, policy p, measure m, int worlds, bool markdown) {
    static const int digits[MEASURES] = {2, 2, 1, 2, 2, 3};
    char range[64], text[96];
    double low, high;
    spread_of(o, p, m, worlds, &low, &high);
    snprintf(range, sizeof range, "%.*f-%.*f", digits[m], low, digits[m], high);
    snprintf(text, sizeof text, "%.*f (%s)", digits[m], median_of(o, p, m, worlds), range);
    fprintf(out, markdown ? " %s |" : " %20s", text);
}

/* Medians over the worlds, and from the least to the most. */
static void table(FILE *out, int worlds, bool markdown) {
    fprintf(out, markdown ? "| outage | policy |" : "%-22s %-18s", "outage", "policy");
    for (int m = 0; m < MEASURES; m++) fprintf(out, markdown ? " %s |" : " %20s", measures[m]);
    if (markdown) fprintf(out, "\n|---|---|---|---|---|---|---|---|");
    for (int o = 0; o < OUTAGES; o++)
        for (int p = 0; p < POLICIES; p++) {
            const char *name = p == 0 ? outages[o].name : "";
            fprintf(out, markdown ? "\n| %s | %s |" : "\n%-22s %-18s", name, policies[p]);
            for (int m = 0; m < MEASURES; m++)
                table_cell(out, (outage)o, (policy)p, (measure)m, worlds, markdown);
        }
    fprintf(out, "\n%d worlds of %d calls in %d simulated minutes: median (least-most).\n", worlds, CALLS,
            (int)(SPAN_US / 60000000));
}

/* The best of the other policies, by medians. */
static policy best_other(outage o, measure m, int worlds) {
    policy best = NONE;
    for (int p = NAIVE; p < OURS; p++)
        if (median_of(o, (policy)p, m, worlds) < median_of(o, best, m, worlds)) best = (policy)p;
    return best;
}

/* Worlds in which no other policy is better. */
static int wins(outage o, policy ours, measure m, int worlds) {
    int count = 0;
    for (int i = 0; i < worlds; i++) {
        bool best = true;
        for (int p = 0; p < OURS; p++)
            if (results[o][p][m][i] < results[o][ours][m][i]) best = false;
        count += best;
    }
    return count;
}

static void row_against(outage o, policy ours, measure m, int worlds) {
    char name[96], bar[32];
    policy other = best_other(o, m, worlds);
    snprintf(name, sizeof name, "outages, %s: %s, %s", outages[o].name, policies[ours],
             m == FAILED ? "calls without an answer" : "99th percentile of latency");
    snprintf(bar, sizeof bar, "<= %.4f", median_of(o, other, m, worlds));
    const char *why = o == REGION && m == P99
                          ? "the one provider that is left asks for pauses (Retry-After): ours "
                            "keeps them, the other fails those calls at once, which 1 % hides"
                          : NULL;
    bench_row(name, median_of(o, ours, m, worlds), m == FAILED ? "%" : "s", bar, why,
              "median of %d worlds; bar: the best other policy (%s); none is better in %d of %d worlds",
              worlds, policies[other], wins(o, ours, m, worlds), worlds);
}

static void row_load(policy ours, measure m, int worlds) {
    char name[96];
    int worst = DOWN;
    for (int o = DOWN; o < OUTAGES; o++)
        if (outages[o].judged &&
            median_of((outage)o, ours, m, worlds) > median_of((outage)worst, ours, m, worlds))
            worst = o;
    snprintf(name, sizeof name, "outages: %s, %s", policies[ours],
             m == LOAD ? "requests a call" : "busiest second of a provider");
    bench_row(name, median_of((outage)worst, ours, m, worlds), "x", "<= 1.2", NULL,
              "median of %d worlds in the worst of the outages (%s); 1: as without retries%s", worlds,
              outages[worst].name, m == PEAK ? ", all calls to one provider" : "");
}

static void rows(int worlds) {
    for (int p = OURS; p < POLICIES; p++) {
        for (int o = DOWN; o < OUTAGES; o++) {
            if (!outages[o].judged) continue;
            row_against((outage)o, (policy)p, FAILED, worlds);
            row_against((outage)o, (policy)p, P99, worlds);
        }
        row_load((policy)p, LOAD, worlds);
        row_load((policy)p, PEAK, worlds);
    }
}

/* ---- the picture ---- */

#define WIDTH 880
#define LEFT 64
#define RIGHT 24
#define PANEL_TOP 128 /* of the first panel */
#define PANEL_HEIGHT 132
#define PANEL_STEP 190 /* from one panel to the next */
#define HEIGHT (PANEL_TOP + 3 * PANEL_STEP + 4)

/* On light and on dark ground. The first is broad, so that it shows under those that run on it. */
static const struct {
    const char *light, *dark, *width, *dash;
} strokes[POLICIES] = {{"#b3bac2", "#6e7681", "4", ""},   {"#d1570b", "#f0883e", "1.5", ""},
                       {"#2f6fd0", "#6cb0ff", "1.5", ""}, {"#9a54c9", "#cf9bf5", "1.5", ""},
                       {"#12a06e", "#3fd69b", "3", ""},   {"#0b3d2c", "#d9fbe9", "1.4", "1 4"}};

/* What a panel shows. */
typedef struct panel {
    const char *title;
    double most; /* at its top */
    double step; /* between two lines */
    double (*value)(policy p, int at);
} panel;

static double value_answered(policy p, int at) {
    const bin *b = &bins[p][at];
    return b->calls ? 100.0 * b->good / b->calls : 100;
}

static int compare_floats(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double value_p99(policy p, int at) {
    bin *b = &bins[p][at];
    if (!b->calls) return 0;
    qsort(b->latency, (size_t)b->calls, sizeof *b->latency, compare_floats);
    int nth = (int)ceil(0.99 * b->calls) - 1;
    return (double)b->latency[nth < 0 ? 0 : nth];
}

static double value_load(policy p, int at) {
    const bin *b = &bins[p][at];
    return b->calls ? (double)b->requests / b->calls : 0;
}

static const panel panels[] = {
    {"calls answered, of those that came in these 5 s (%)", 100, 25, value_answered},
    {"99th percentile of latency, a failure counted as 30 s (s)", 30, 10, value_p99},
    {"requests to providers for each call (1 = no extra load)", 3, 1, value_load}};

static double x_of(double second) { return LEFT + (WIDTH - LEFT - RIGHT) * second / PICTURE_SPAN_S; }

static double y_of(const panel *of, int index, double value) {
    return PANEL_TOP + index * PANEL_STEP + PANEL_HEIGHT * (1 - value / of->most);
}

static void picture_text(FILE *out, double x, double y, const char *style, const char *text) {
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" %s>%s</text>\n", x, y, style, text);
}

static void picture_head(FILE *out, int worlds) {
    char text[192];
    fprintf(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" "
        "font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\" font-size=\"12\">\n"
        "<title>A flapping provider, by policy</title>\n<style>@media (prefers-color-scheme: dark) {"
        ".g{fill:#0d1117}.t{fill:#e6edf3}.m{fill:#9198a1}.r{stroke:#30363d}.d{fill:#f85149;fill-opacity:.13}",
        WIDTH, HEIGHT, WIDTH, HEIGHT);
    for (int p = 0; p < POLICIES; p++) fprintf(out, ".p%d{stroke:%s}", p, strokes[p].dark);
    fprintf(out, "}</style>\n<rect class=\"g\" width=\"%d\" height=\"%d\" rx=\"8\" fill=\"#ffffff\"/>\n",
            WIDTH, HEIGHT);
    picture_text(out, LEFT, 32, "class=\"t\" fill=\"#1f2328\" font-size=\"17\" font-weight=\"600\"",
                 "The first of three providers flaps");
    snprintf(
        text, sizeof text,
        "It refuses connections for %d s of every %d (shaded). %d simulated worlds of 5 calls a second; one "
        "point for 5 s.",
        PICTURE_PERIOD_S / 2, PICTURE_PERIOD_S, worlds);
    picture_text(out, LEFT, 52, "class=\"m\" fill=\"#59636e\"", text);
}

static void picture_legend(FILE *out) {
    double x = LEFT;
    for (int p = 0; p < POLICIES; p++) {
        fprintf(out,
                "<path class=\"p%d\" d=\"M%.0f 76h22\" stroke=\"%s\" stroke-width=\"%s\" "
                "stroke-dasharray=\"%s\" stroke-linecap=\"round\"/>\n",
                p, x, strokes[p].light, strokes[p].width, strokes[p].dash);
        picture_text(out, x + 29, 80,
                     p >= OURS ? "class=\"t\" fill=\"#1f2328\" font-weight=\"600\""
                               : "class=\"t\" fill=\"#1f2328\"",
                     policies[p]);
        x += 42 + (p >= OURS ? 7.2 : 6.3) * (double)strlen(policies[p]);
    }
}

/* Ground, scale and title of a panel. */
static void picture_frame(FILE *out, const panel *of, int index) {
    char text[32];
    for (int at = PICTURE_FROM_S; at < PICTURE_TO_S; at += PICTURE_PERIOD_S)
        fprintf(out,
                "<rect class=\"d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" fill=\"#cf222e\" "
                "fill-opacity=\".08\"/>\n",
                x_of(at), y_of(of, index, of->most), x_of(PICTURE_PERIOD_S / 2) - x_of(0), PANEL_HEIGHT);
    for (double value = 0; value <= of->most; value += of->step) {
        fprintf(out, "<path class=\"r\" d=\"M%d %.1fH%d\" stroke=\"#d1d9e0\"/>\n", LEFT,
                y_of(of, index, value), WIDTH - RIGHT);
        snprintf(text, sizeof text, "%g", value);
        picture_text(out, LEFT - 10, y_of(of, index, value) + 4,
                     "class=\"m\" fill=\"#59636e\" text-anchor=\"end\"", text);
    }
    picture_text(out, LEFT, y_of(of, index, of->most) - 10,
                 "class=\"t\" fill=\"#1f2328\" font-weight=\"600\"", of->title);
    for (int at = 0; at <= PICTURE_SPAN_S; at += 20) {
        snprintf(text, sizeof text, at == PICTURE_SPAN_S ? "%d s" : "%d", at);
        picture_text(out, x_of(at), y_of(of, index, 0) + 18,
                     "class=\"m\" fill=\"#59636e\" text-anchor=\"middle\"", text);
    }
}

static void picture_line(FILE *out, const panel *of, int index, policy p) {
    fprintf(out,
            "<path class=\"p%d\" fill=\"none\" stroke=\"%s\" stroke-width=\"%s\" stroke-dasharray=\"%s\" "
            "stroke-linejoin=\"round\" stroke-linecap=\"round\" d=\"",
            p, strokes[p].light, strokes[p].width, strokes[p].dash);
    for (int at = 0; at < BINS; at++) {
        double value = of->value(p, at);
        fprintf(out, "%c%.1f %.1f", at ? 'L' : 'M', x_of((at + 0.5) * BIN_S),
                y_of(of, index, value < of->most ? value : of->most));
    }
    fprintf(out, "\"/>\n");
}

static void picture(const char *path, int worlds) {
    for (int seed = 1; seed <= worlds; seed++)
        for (int p = 0; p < POLICIES; p++) {
            run(PICTURE, (policy)p, seed, false);
            measure_bins();
        }
    FILE *out = fopen(path, "w");
    if (!out) bench_die(path);
    picture_head(out, worlds);
    picture_legend(out);
    for (int i = 0; i < (int)LLMGWI_BASE_COUNT(panels); i++) {
        picture_frame(out, &panels[i], i);
        for (int p = 0; p < POLICIES; p++) picture_line(out, &panels[i], i, (policy)p);
    }
    fprintf(out, "</svg>\n");
    if (fclose(out) != 0) bench_die(path);
}

/* ---- the program ---- */

static int usage(void) {
    fprintf(stderr, "outages [--quick] [--markdown] [--picture FILE] [--world OUTAGE POLICY SEED]\n");
    for (int o = 0; o < OUTAGES; o++) fprintf(stderr, "  outage %d: %s\n", o, outages[o].name);
    for (int p = 0; p < POLICIES; p++) fprintf(stderr, "  policy %d: %s\n", p, policies[p]);
    return 2;
}

static void run_all(int worlds) {
    for (int o = 0; o < OUTAGES; o++)
        for (int seed = 1; seed <= worlds; seed++)
            for (int p = 0; p < POLICIES; p++) {
                run((outage)o, (policy)p, seed, false);
                measure_run(seed - 1);
            }
}

int main(int argc, char **argv) {
    bool quick = bench_quick(), markdown = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0) {
            quick = true;
        } else if (strcmp(argv[i], "--markdown") == 0) {
            markdown = true;
        } else if (strcmp(argv[i], "--picture") == 0 && i + 1 < argc) {
            picture(argv[i + 1], quick ? QUICK_WORLDS : WORLDS);
            return 0;
        } else if (strcmp(argv[i], "--world") == 0 && i + 3 < argc) {
            run((outage)atoi(argv[i + 1]), (policy)atoi(argv[i + 2]), atoi(argv[i + 3]), true);
            return 0;
        } else {
            return usage();
        }
    }
    int worlds = quick ? QUICK_WORLDS : WORLDS;
    run_all(worlds);
    table(markdown ? stdout : stderr, worlds, markdown);
    if (!markdown) rows(worlds);
    return 0;
}
