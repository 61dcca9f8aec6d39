/* sim.c - the laws of DESIGN.md, checked over simulated hours against a world of failing providers.

     sim --seed N [--trace]              one seed; --trace prints everything that happens
     sim --seeds A B [--seconds S] [--least M]
                                         a range; stops after S seconds when at least M seeds ran
     sim --features                      what the header can do, as far as the simulator can switch it on
     ... --only NAME,NAME                switches on only these features (none: "--only none")

   Each seed is a world of five providers (simworld.h) with outages of all kinds, a configuration, and more
   than a thousand calls in more than ten simulated minutes. After every event the laws are checked that an
   onlooker can check: 1 (end), 2 (attempts), 3 (Retry-After), 4 (breakers), 5 (limits), 9 (secrets),
   10 (text), 12 (memory, livelocks), and that the money adds up ("cost"). One seed in three has a store, budgets,
   scoped keys, tags, targets of unknown price, another process that writes now and then, and up to five crashes, at
   any call of LMDB or around the sending of a request: there law 6 is checked (simmoney.h): no request reaches the
   world before its intent is committed; hard budgets hold over crashes; every attempt has one row, which says what
   its trace or, recovered, what its intent said; budgets and totals by anything are the sums of the rows; nothing
   stays reserved; an unknown price is never 0. The first failure ends the program with the seed, the
   time, the call and the law. The same seed gives the same run: a hash over all that happened is compared
   over two runs of the first seed of a range. */
#define LLMGW_IMPLEMENTATION
#define LLMGWI_STORE_FAULTS
#include "llmgw.h"

#include "simworld.h"

#include <signal.h>

#define SIM_CALLS 8192
#define SIM_ROUTES 7
#define SIM_TARGETS 10 /* providers x models */
#define SIM_LEAST_CALLS 1000
#define SIM_LEAST_US 600000000LL
#define SIM_ATTEMPTS 64
#define SIM_GRAIN_US 1000 /* a poll waits whole milliseconds */

/* ---- what the header can do ---- */

#define SIM_MINI "'providers':{'a':{'dialect':'openai','url':'https://a.example','key':'abcdefgh'%s}}"
#define SIM_PAIR ",'routes':{'r':{'try':['a/x','a/y']%s}}"

/* X(id, name, what stands in the provider, in the route, at the top level) */
#define SIM_FEATURES(X)                                                                                      \
    X(KEYS, "keys", ",'keys':['abcdefgh1','abcdefgh2']", "", "")                                             \
    X(LIMITS, "limits", ",'rpm':5,'tpm':5000,'rpd':50,'concurrency':2", "", "")                              \
    X(REGION, "region", ",'region':'eu'", "", "")                                                            \
    X(RACE, "race", "", ",'how':'race','width':2", "")                                                       \
    X(WEIGHTED, "weighted", "", ",'how':'weighted','weights':[1,2]", "")                                     \
    X(LEAST_BUSY, "least_busy", "", ",'how':'least_busy'", "")                                               \
    X(FASTEST, "fastest", "", ",'how':'fastest'", "")                                                        \
    X(HEDGE, "hedge", "", ",'hedge':200", "")                                                                \
    X(VALID, "valid", "", ",'valid':['not_empty']", "")                                                      \
    X(STANDBY, "standby", "", ",'standby':1", "")                                                            \
    X(BREAKER, "breaker", "", "", ",'breaker_failures':5")                                                   \
    X(RESUME, "resume", "", "", ",'max_resumes':3")                                                          \
    X(HOLD, "hold", "", "", ",'hold_ms':50")                                                                 \
    X(QUEUE, "queue", "", "", ",'max_waiting':10")                                                           \
    X(BACKOFF, "backoff", "", "", ",'backoff_ms':500")                                                       \
    X(LEDGER, "ledger", "", "", ",'ledger':{'max_rows':1000}")

#define SIM_FEATURE_ENUM(id, name, provider, route, top) SIM_##id,
typedef enum sim_feature { SIM_FEATURES(SIM_FEATURE_ENUM) SIM_FEATURE_COUNT } sim_feature;

static const struct {
    const char *name, *provider, *route, *top;
} sim_features[] = {
#define SIM_FEATURE_ROW(id, name, provider, route, top) {name, provider, route, top},
    SIM_FEATURES(SIM_FEATURE_ROW)};

static bool sim_can[SIM_FEATURE_COUNT];

static bool sim_accepts(const char *provider, const char *route, const char *top) {
    char json[1024], part[512];
    llmgw_options options;
    llmgw_error error;
    size_t n;
    json[0] = '{';
    n = 1 + (size_t)snprintf(json + 1, sizeof json - 1, SIM_MINI, provider);
    if (strstr(provider, "'keys'")) { /* not with key */
        char *key = strstr(json, ",'key':'abcdefgh'");
        memmove(key, key + 17, strlen(key + 17) + 1);
        n -= 17;
    }
    snprintf(part, sizeof part, SIM_PAIR, route);
    snprintf(json + n, sizeof json - n, "%s%s}", part, top);
    for (char *p = json; *p; p++)
        if (*p == '\'') *p = '"';
    memset(&options, 0, sizeof options);
    options.no_environment = true;
    options.config_json = json;
    llmgw *gw = llmgw_open(&options, &error);
    (void)llmgw_close(gw);
    return gw != NULL;
}

static void sim_find_features(const char *only) {
    for (int i = 0; i < SIM_FEATURE_COUNT; i++) {
        bool wanted = !only || strstr(only, sim_features[i].name);
        sim_can[i] =
            wanted && sim_accepts(sim_features[i].provider, sim_features[i].route, sim_features[i].top);
    }
}

/* ---- one simulation ---- */

typedef struct sim_call {
    world_timer arrive, cancel, late; /* late: at the deadline, in a heap of its own */
    world_ask ask;
    int route; /* -1: target alone */
    int target;
    int user; /* closed: who asks; -1: open */
    int deadline_ms, max_attempts, max_resumes;
    bool stream, events, whole, checks, patient;
    unsigned valid;
    int key, tags[3], tag_count; /* key: a scoped one; -1: none */
    llmgw_priority priority;
    llmgw_call id;
    int64_t probe_us[SIM_ATTEMPTS + 1]; /* when it began, if it is one */

    bool accepted, ended, cancelled, loose; /* loose: what was shown last was no whole sentence */
    int64_t accepted_us, deadline_us;
    int budget; /* attempts allowed */
    int starts, resumes, rewinds;
    uint32_t epoch;             /* of the content being shown; 0: none */
    uint64_t sent;              /* handed to http, by epoch */
    uint64_t begun, over, lost; /* attempts, by epoch; lost: they failed */
    int open;                   /* of them, in flight */
    uint32_t ghost;             /* its content came after its end */
    uint32_t approved;          /* epoch of the last answer that the caller's check let pass */
    world_text *answer;         /* what must come out */
    size_t shown, best;         /* bytes shown; best: the most there ever were */
    world_buf reasoning;
    int64_t input[SIM_ATTEMPTS + 1], output[SIM_ATTEMPTS + 1]; /* tokens, as the provider counts; -1: none */
    bool reached[SIM_ATTEMPTS + 1];                            /* the request was received */
    bool told[SIM_ATTEMPTS + 1];                               /* the provider could say so in full */
    int provider[SIM_ATTEMPTS + 1], model[SIM_ATTEMPTS + 1];
    uint32_t paid[SIM_ATTEMPTS + 1]; /* in the books of simmoney.h, and one more */
    uint32_t key_entry[SIM_ATTEMPTS + 1], model_entry[SIM_ATTEMPTS + 1]; /* in the lanes' lists */
} sim_call;

#define SIM_PROBES 16 /* in flight at a target */

/* What went over a lane: one entry a request that may have reached the provider. */
typedef struct sim_entry {
    int64_t at_us, tokens;
    bool counts; /* false: it never got there */
} sim_entry;

/* The entries of the last span_us. */
typedef struct sim_window {
    int64_t span_us;
    size_t from;
    int64_t count, tokens;
} sim_window;

typedef struct sim_lane {
    sim_entry *entries;
    size_t count, cap;
    sim_window minute, day;
    int64_t rpm, tpm, rpd;
    int concurrency, in_flight;
} sim_lane;

typedef struct sim_check {
    sim_lane *lane;
    const char *name;
    int call;
} sim_check;

typedef struct sim_route {
    char name[8];
    const char *how;
    int targets[SIM_TARGETS], count;
    char names[SIM_TARGETS][32];
    const char *list[SIM_TARGETS];
    double weights[SIM_TARGETS];
    llmgw_route pub;
} sim_route;

typedef struct sim_stats {
    int64_t seeds, calls, refused, good, attempts, beside, resumes, repairs, rewinds, cancelled, text,
        simulated_us, pauses, happened;
    int64_t ledgers, crashes, recovered, looks, broke, billed; /* broke: attempts refused by a budget */
    int64_t codes[512], peak_bytes;
} sim_stats;

typedef enum sim_drive {
    SIM_WAIT = 0, /* llmgw_poll(gw, -1) */
    SIM_TIMEOUT,  /* llmgw_poll(gw, some) */
    SIM_FD,       /* a foreign loop with llmgw_fd */
    SIM_TICK,     /* a game: llmgw_poll(gw, 0) every so often */
    SIM_DRIVES
} sim_drive;

typedef struct sim {
    uint64_t seed, rng;
    llmgw *gw;
    llmgw_options options;
    sim_drive drive;
    int64_t tick_us, poll_us; /* poll_us: when the present poll began */
    bool threads, hurried;    /* hurried: closes with calls in flight */
    bool closing;
    sim_route routes[SIM_ROUTES];
    int route_count;
    llmgw_provider providers[WORLD_PROVIDERS];
    llmgw_model models[SIM_TARGETS];
    char aliases[SIM_TARGETS][8];
    const char *keys[WORLD_PROVIDERS][WORLD_KEYS];
    llmgw_route route_list[SIM_ROUTES];
    int calls, finished, alive, users;
    int64_t until_us; /* closed users ask until then */
    int64_t sent_us;  /* the last call */
    world_heap deadlines;
    world_text *spare[SIM_CALLS];
    int spare_count;
    llmgw_reply *kept[64];
    size_t kept_sizes[64];
    int kept_count;
    int64_t bytes, peak;
    int most_alive;
    sim_check checks[1024]; /* of what has begun since the engine last waited */
    size_t check_count;
    sim_lane keys_of[WORLD_PROVIDERS][WORLD_KEYS], models_of[WORLD_PROVIDERS][WORLD_MODELS];
    llmgw_target targets[SIM_TARGETS * 2]; /* as last seen */
    size_t target_count;
    int64_t probes[WORLD_PROVIDERS][WORLD_MODELS][SIM_PROBES]; /* when those in flight began; 0: none */

    uint64_t probing[SIM_CALLS]; /* attempts that began as probes, by number */
} sim;

static sim S;
static world W;
static sim_call C[SIM_CALLS];
static sim_stats T;

/* ---- failing ---- */

static void sim_fail(const char *law, int call, const char *format, ...) LLMGWI_BASE_PRINTF(3, 4);

static void sim_fail(const char *law, int call, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *p = text; *p; p++)
        if (*p == '\n') *p = '|';
    printf("FAIL seed %llu at %.6f s, call %d, law %s: %s\n     build/sim --seed %llu --trace\n",
           (unsigned long long)S.seed, (double)(W.now_us - W.start_us) / 1e6, call, law, text,
           (unsigned long long)S.seed);
    fflush(stdout);
    exit(1);
}

static void sim_broken(world *w, const char *law, int call, const char *text) {
    (void)w;
    sim_fail(law, call, "%s", text);
}

static void sim_crashed(int number) {
    char line[128];
    int n =
        snprintf(line, sizeof line, "FAIL seed %llu, law 12: signal %d\n     build/sim --seed %llu --trace\n",
                 (unsigned long long)S.seed, number, (unsigned long long)S.seed);
    if (write(1, line, (size_t)n) < 0) _exit(3);
    _exit(2);
}

/* ---- memory: sizes are checked, all comes back ---- */

static void *sim_alloc(void *ptr, size_t old_size, size_t new_size, void *user) {
    size_t *head = ptr ? (size_t *)ptr - 2 : NULL;
    (void)user;
    if (head && head[0] != old_size)
        sim_fail("12", -1, "memory of %lu bytes is given back as %lu", (unsigned long)head[0],
                 (unsigned long)old_size);
    S.bytes += (int64_t)new_size - (ptr ? (int64_t)old_size : 0);
    if (S.bytes > S.peak) S.peak = S.bytes;
    if (!new_size) {
        if (head) memset(ptr, 0xDD, old_size < 64 ? old_size : 64);
        free(head);
        return NULL;
    }
    head = (size_t *)realloc(head, new_size + 2 * sizeof *head);
    if (!head) abort();
    head[0] = new_size;
    return head + 2;
}

static void sim_no_secret(const char *text, int call) {
    if (strstr(text, "sk-sim-")) sim_fail("9", call, "a key stands in: %s", text);
}

#include "simmoney.h"

static void sim_log(const llmgw_log_entry *entry, void *user) {
    (void)user;
    sim_no_secret(entry->line, -1);
    for (int i = 0; i < M.key_count; i++)
        if (M.secrets[i][0] && strstr(entry->line, M.secrets[i]))
            sim_fail("9", -1, "a scoped key stands in the log");
    world_note(&W, 11, (uint64_t)entry->item);
    WORLD_TRACE(&W, "log        %s", entry->line);
}

/* ---- laws about requests ---- */

static sim_call *sim_find(int number) {
    if (number < 0 || number >= S.calls) sim_fail("2", number, "a request for a call that nobody made");
    return &C[number];
}

/* How many requests of one call there may be at once. */
static int sim_width(const sim_call *call) {
    const llmgw_route *route = call->route >= 0 ? &S.route_list[call->route] : NULL;
    if (!route) return 1;
    if (route->how && strcmp(route->how, "race") == 0) return route->width ? route->width : 2;
    return route->hedge_ms ? 2 : 1;
}

static void sim_slide(const sim_lane *lane, sim_window *window) {
    for (; window->from < lane->count; window->from++) {
        const sim_entry *entry = &lane->entries[window->from];
        if (entry->at_us > W.now_us - window->span_us) break;
        window->count -= entry->counts;
        window->tokens -= entry->tokens;
    }
}

static void sim_over(int call, const char *lane, const char *what, int64_t used, int64_t limit) {
    if (limit && used > limit)
        sim_fail("5", call, "%s: %s %lld, configured %lld", lane, what, (long long)used, (long long)limit);
}

static void sim_check_lane(sim_lane *lane, const char *name, int call) {
    sim_slide(lane, &lane->minute);
    sim_slide(lane, &lane->day);
    sim_over(call, name, "requests in the last 60 s", lane->minute.count, lane->rpm);
    sim_over(call, name, "tokens in the last 60 s", lane->minute.tokens, lane->tpm);
    sim_over(call, name, "requests in the last 24 h", lane->day.count, lane->rpd);
    sim_over(call, name, "requests in flight", lane->in_flight, lane->concurrency);
}

/* Looked at when the engine waits: a transfer that ran into a timeout is stopped a moment after the next one
   began, since it cannot be inside an upcall. */
static void sim_recheck(sim_lane *lane, const char *name, int call) {
    sim_check *check = &S.checks[S.check_count++ % LLMGWI_BASE_COUNT(S.checks)];
    check->lane = lane;
    check->name = name;
    check->call = call;
}

/* Probes in flight at a target. One that is slow has failed by then, and the next may begin. */
static int sim_probes(int provider, int model) {
    int64_t slow_us = (int64_t)(S.options.breaker_slow_ms > 0 ? S.options.breaker_slow_ms : 5000) * 1000;
    int count = 0;
    for (int i = 0; i < SIM_PROBES; i++) {
        int64_t began_us = S.probes[provider][model][i];
        count += began_us && W.now_us - began_us < slow_us;
    }
    return count;
}

/* Puts a time in the place of another. */
static void sim_probe_set(int provider, int model, int64_t from_us, int64_t to_us) {
    int64_t *probes = S.probes[provider][model];
    for (int i = 0; i < SIM_PROBES; i++)
        if (probes[i] == from_us) {
            probes[i] = to_us;
            return;
        }
}

static void sim_settled(world *w) {
    size_t most = LLMGWI_BASE_COUNT(S.checks);
    (void)w;
    for (size_t i = 0; i < S.check_count && i < most; i++) {
        const sim_check *check = &S.checks[i];
        sim_check_lane(check->lane, check->name, check->call);
        for (int t = 0; t < W.provider_count * WORLD_MODELS; t++)
            if (sim_probes(t / WORLD_MODELS, t % WORLD_MODELS) > 1)
                sim_fail("4", check->call, "%s/%s: two probes at once", W.providers[t / WORLD_MODELS].name,
                         W.providers[t / WORLD_MODELS].model[t % WORLD_MODELS]);
        if (C[check->call].open > sim_width(&C[check->call]))
            sim_fail("2", check->call, "%d requests at once, its route allows %d", C[check->call].open,
                     sim_width(&C[check->call]));
    }
    S.check_count = 0;
}

/* A request begins. Returns its entry. */
static uint32_t sim_lane_begin(sim_lane *lane, const char *name, int call) {
    if (lane->count == lane->cap) {
        lane->cap = lane->cap ? lane->cap * 2 : 256;
        lane->entries = (sim_entry *)realloc(lane->entries, lane->cap * sizeof *lane->entries);
        if (!lane->entries) abort();
    }
    sim_entry *entry = &lane->entries[lane->count++];
    entry->at_us = W.now_us;
    entry->tokens = 0;
    entry->counts = true;
    lane->minute.count++;
    lane->day.count++;
    lane->in_flight++;
    sim_recheck(lane, name, call);
    return (uint32_t)lane->count - 1;
}

/* It is over. One that never reached the provider does not count; tokens count from its beginning. */
static void sim_lane_end(sim_lane *lane, uint32_t at, bool reached, int64_t tokens, const char *name,
                         int call) {
    sim_window *windows[] = {&lane->minute, &lane->day};
    lane->in_flight--;
    lane->entries[at].counts = reached;
    lane->entries[at].tokens = tokens;
    for (int i = 0; i < 2; i++) {
        if (at < windows[i]->from) continue;
        windows[i]->tokens += tokens;
        if (!reached) windows[i]->count--;
    }
    sim_recheck(lane, name, call);
}

static void sim_lane_open(sim_lane *lane, int64_t rpm, int64_t tpm, int64_t rpd, int concurrency) {
    sim_entry *entries = lane->entries;
    size_t cap = lane->cap;
    memset(lane, 0, sizeof *lane);
    lane->entries = entries;
    lane->cap = cap;
    lane->minute.span_us = 60000000;
    lane->day.span_us = 86400000000LL;
    lane->rpm = rpm;
    lane->tpm = tpm;
    lane->rpd = rpd;
    lane->concurrency = concurrency;
}

/* Law 5. */
static void sim_count_begin(sim_call *call, const world_seen *seen, int nth) {
    const world_provider *p = &W.providers[seen->provider];
    call->key_entry[nth] =
        sim_lane_begin(&S.keys_of[seen->provider][seen->key], p->keys[seen->key].text, call->ask.call);
    call->model_entry[nth] =
        sim_lane_begin(&S.models_of[seen->provider][seen->model], p->model[seen->model], call->ask.call);
}

static void sim_count_end(sim_call *call, const world_transfer *t) {
    const world_seen *seen = &t->seen;
    const world_provider *p = &W.providers[seen->provider];
    bool reached = t->stage > 0;
    int64_t tokens = 0;
    if (t->status == 200 && t->body.n)
        tokens = t->input + (int64_t)((double)t->output * (double)t->given / (double)t->body.n);
    sim_lane_end(&S.keys_of[seen->provider][seen->key], call->key_entry[seen->nth], reached, tokens,
                 p->keys[seen->key].text, call->ask.call);
    sim_lane_end(&S.models_of[seen->provider][seen->model], call->model_entry[seen->nth], reached, tokens,
                 p->model[seen->model], call->ask.call);
}

static const llmgw_target *sim_target(int provider, int model) {
    for (size_t i = 0; i < S.target_count; i++)
        if (S.targets[i].provider[1] - '0' == provider && /* "p0" to "p7" */
            strcmp(S.targets[i].model, W.providers[provider].model[model]) == 0)
            return &S.targets[i];
    return NULL;
}

static llmgw_breaker sim_breaker(int provider, int model) {
    const llmgw_target *target = sim_target(provider, model);
    return target ? target->breaker : LLMGW_BREAKER_CLOSED;
}

/* The engine calls us without its lock, but that is its own affair: only where the lock is free we look. */
static void sim_look(void) {
    if (pthread_mutex_trylock(&S.gw->lock) != 0) return;
    (void)pthread_mutex_unlock(&S.gw->lock);
    S.target_count = llmgw_targets(S.gw, S.targets, LLMGWI_BASE_COUNT(S.targets));
    if (S.target_count > LLMGWI_BASE_COUNT(S.targets)) S.target_count = LLMGWI_BASE_COUNT(S.targets);
}

/* Law 4: an open breaker lets nothing through but single probes, unless all the call's targets are open. */
static void sim_check_breaker(sim_call *call, const world_seen *seen, int nth) {
    sim_look();
    llmgw_breaker state = sim_breaker(seen->provider, seen->model);
    bool closed = false;
    if (state == LLMGW_BREAKER_CLOSED) return;
    for (int i = 0; call->route >= 0 && i < S.routes[call->route].count; i++) {
        int target = S.routes[call->route].targets[i];
        closed = closed || sim_breaker(target / WORLD_MODELS, target % WORLD_MODELS) == LLMGW_BREAKER_CLOSED;
    }
    if (!closed) return;
    for (int i = 0; W.trace && call->route >= 0 && i < S.routes[call->route].count; i++) {
        int target = S.routes[call->route].targets[i];
        WORLD_TRACE(&W, "breaker    %s/%s %s", W.providers[target / WORLD_MODELS].name,
                    W.providers[target / WORLD_MODELS].model[target % WORLD_MODELS],
                    llmgw_breaker_name(sim_breaker(target / WORLD_MODELS, target % WORLD_MODELS)));
    }
    if (state == LLMGW_BREAKER_OPEN)
        sim_fail("4", call->ask.call, "%s/%s: its breaker is open, another target's is not",
                 W.providers[seen->provider].name, W.providers[seen->provider].model[seen->model]);
    sim_probe_set(seen->provider, seen->model, 0, W.now_us);
    call->probe_us[nth] = W.now_us;
    S.probing[call->ask.call] |= (uint64_t)1 << (nth & 63);
}

/* Laws 2 to 5 at the moment a request is handed to http. Returns which attempt of its call it is. */
static int sim_on_start(world *w, const world_seen *seen) {
    sim_call *call = sim_find(seen->ask.call);
    const world_key *key = &w->providers[seen->provider].keys[seen->key];
    int number = seen->ask.call;
    if (!call->accepted || call->ended) sim_fail("2", number, "a request for a call that is not in flight");
    if (++call->starts > call->budget)
        sim_fail("2", number, "attempt %d, max_attempts is %d", call->starts, call->budget);
    /* with a ledger some attempts are never sent */
    int nth = M.on ? (int)((const llmgwi_engine_attempt *)seen->user)->epoch : call->starts;
    if (nth > SIM_ATTEMPTS) sim_fail("2", number, "attempt %d has number %d", call->starts, nth);
    if (w->now_us - SIM_GRAIN_US >= call->deadline_us && S.poll_us < call->deadline_us)
        sim_fail("1", number, "an attempt begins after the call's deadline");
    if (key->told_us[seen->model] > w->now_us)
        sim_fail("3", number, "%s key %d %s: asked %.6f s before the time that Retry-After gave",
                 w->providers[seen->provider].name, seen->key,
                 w->providers[seen->provider].model[seen->model],
                 (double)(key->told_us[seen->model] - w->now_us) / 1e6);
    sim_count_begin(call, seen, nth);
    call->open++;
    T.beside += call->open > 1;
    if (sim_can[SIM_BREAKER]) sim_check_breaker(call, seen, nth);
    if (seen->partial_n) {
        call->resumes++;
        if (!call->stream || call->max_resumes == LLMGW_OFF)
            sim_fail("10", number, "a call was resumed that may not be");
        if (seen->partial_n < world_complete(call->answer, call->shown))
            sim_fail("10", number, "resumed after %lu bytes, the caller has whole sentences up to %lu",
                     (unsigned long)seen->partial_n,
                     (unsigned long)world_complete(call->answer, call->shown));
    }
    call->input[nth] = call->output[nth] = -1;
    call->told[nth] = call->reached[nth] = false;
    call->provider[nth] = seen->provider;
    call->model[nth] = seen->model;
    call->sent |= (uint64_t)1 << (nth & 63);
    money_start(call, seen);
    money_started();
    return nth;
}

static void sim_on_done(world *w, const world_transfer *t) {
    sim_call *call = sim_find(t->seen.ask.call);
    (void)w;
    call->open--;
    call->reached[t->seen.nth] = t->stage > 0;
    sim_count_end(call, t);
    if (t->status == 200) {
        call->input[t->seen.nth] = t->input;
        call->output[t->seen.nth] = t->output;
        call->told[t->seen.nth] = !t->spoilt && t->given == t->body.n;
    }
    if (S.probing[t->seen.ask.call] & (uint64_t)1 << (t->seen.nth & 63))
        sim_probe_set(t->seen.provider, t->seen.model, call->probe_us[t->seen.nth], 0);
    money_done(call, t);
}

/* ---- laws about events ---- */

static int64_t sim_rate(int provider, int model, bool output) { /* pico-dollars a token */
    return (int64_t)(provider + 1) * 100000 * (model ? 10 : 1) * (output ? 5 : 1);
}

/* Content comes from one attempt until a rewind, and from none that is over. */
static void sim_check_epoch(sim_call *call, const llmgw_event *event) {
    uint64_t bit = (uint64_t)1 << (event->epoch & 63);
    int number = call->ask.call;
    if (!call->stream) return; /* in one piece, after all attempts are over */
    if (!(call->begun & bit))
        sim_fail("10", number, "content of attempt %u, which never began", event->epoch);
    if (call->ghost && call->ghost != event->epoch)
        sim_fail("10", number, "content of attempt %u, after that of %u which had failed", event->epoch,
                 call->ghost);
    if (call->lost & bit) call->ghost = event->epoch; /* it was held back: good if nobody wins */
    bool gone = call->lost >> (call->epoch & 63) & 1; /* what it showed stays, another goes on: no rewind */
    if (call->epoch && call->epoch != event->epoch && !gone)
        sim_fail("10", number, "content of attempt %u, attempt %u is being shown", event->epoch, call->epoch);
    call->epoch = event->epoch;
}

/* Can a sentence end after n bytes? Looser than the header's rule: at a line's end or after a mark. */
static bool sim_may_end(const world_text *answer, size_t n) {
    static const char *const marks[] = {".",           "!", "?", "\"", "`", "\xE3\x80\x82", "\xEF\xBC\x81",
                                        "\xE2\x80\x9D"};
    if (n == answer->n) return true;
    for (; n > 0 && (answer->p[n - 1] == ' ' || answer->p[n - 1] == '\n'); n--)
        if (answer->p[n - 1] == '\n') return true;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(marks); i++) {
        size_t length = strlen(marks[i]);
        if (n >= length && memcmp(answer->p + n - length, marks[i], length) == 0) return true;
    }
    return n == 0 || (n < answer->n && answer->p[n] == '\n');
}

static void sim_on_text(sim_call *call, const llmgw_event *event) {
    int number = call->ask.call;
    const world_text *answer = call->answer;
    sim_check_epoch(call, event);
    if (strlen(event->text) != event->text_len) sim_fail("10", number, "text_len is not the length of text");
    if (call->shown + event->text_len > answer->n ||
        memcmp(answer->p + call->shown, event->text, event->text_len) != 0)
        sim_fail("10", number, "after %lu good bytes came \"%.60s\", the answer goes on \"%.60s\"",
                 (unsigned long)call->shown, event->text, answer->p + call->shown);
    if (call->loose)
        sim_fail("10", number, "whole_sentences: text goes on after \"%.*s\"",
                 call->shown < 40 ? (int)call->shown : 40,
                 answer->p + call->shown - (call->shown < 40 ? call->shown : 40));
    call->shown += event->text_len;
    call->loose = call->whole && !sim_may_end(answer, call->shown);
    if (call->shown > call->best) call->best = call->shown;
    T.text += (int64_t)event->text_len;
}

static void sim_on_rewind(sim_call *call, const llmgw_event *event) {
    int number = call->ask.call;
    size_t whole = world_complete(call->answer, call->shown);
    bool may_restart = !sim_can[SIM_RESUME] || call->max_resumes == LLMGW_OFF || call->valid ||
                       call->checks || call->resumes >= call->max_resumes;
    if (!call->stream) sim_fail("10", number, "a rewind of a call that is no stream");
    if (event->keep > call->shown)
        sim_fail("10", number, "keep %lu of %lu bytes", (unsigned long)event->keep,
                 (unsigned long)call->shown);
    if (event->keep_reasoning > call->reasoning.n)
        sim_fail("10", number, "keep_reasoning is beyond what was given");
    if (event->keep < whole && (event->keep || !may_restart))
        sim_fail("10", number, "keep %lu bytes, but whole sentences were shown up to %lu",
                 (unsigned long)event->keep, (unsigned long)whole);
    if (call->whole && event->keep && event->keep < call->shown)
        sim_fail("10", number, "whole_sentences: %lu bytes are taken back",
                 (unsigned long)(call->shown - event->keep));
    call->shown = event->keep;
    call->reasoning.n = event->keep_reasoning;
    call->epoch = 0;
    call->rewinds++;
}

static void sim_on_try(sim_call *call, const llmgw_event *event) {
    const llmgw_trace *trace = event->trace;
    uint64_t bit = (uint64_t)1 << (trace->epoch & 63);
    int number = call->ask.call;
    if (trace->kind != LLMGW_TRACE_ATTEMPT || !trace->epoch)
        sim_fail("2", number, "a TRY that is no attempt");
    if (trace->duration_us < 0) {
        if (call->begun & bit) sim_fail("2", number, "attempt %u begins twice", trace->epoch);
        call->begun |= bit;
        return;
    }
    sim_no_secret(trace->reason, number);
    if (!(call->begun & bit) || call->over & bit)
        sim_fail("2", number, "attempt %u ends without a beginning, or twice", trace->epoch);
    call->over |= bit;
    if (trace->code) call->lost |= bit;
    money_settled(call, trace);
}

static const llmgw_trace *sim_winner(const llmgw_reply *reply) {
    uint32_t epoch = reply->epoch ? reply->epoch : (uint32_t)reply->attempts;
    for (size_t i = 0; i < reply->trace_count && !reply->epoch && M.on; i++)
        if (reply->trace[i].kind == LLMGW_TRACE_ATTEMPT && !reply->trace[i].code)
            epoch = reply->trace[i].epoch;
    for (size_t i = 0; i < reply->trace_count; i++)
        if (reply->trace[i].kind == LLMGW_TRACE_ATTEMPT && reply->trace[i].epoch == epoch)
            return &reply->trace[i];
    return NULL;
}

static int sim_max_repairs(const sim_call *call) {
    return call->ask.call % 3 ? 0 : call->ask.call % 2 ? LLMGW_OFF : 2;
}

/* Law 2, the trace and the money. */
static void sim_check_trace(sim_call *call, const llmgw_reply *reply) {
    int number = call->ask.call, attempts = 0, repairs = 0;
    int64_t cost = 0;
    bool known = true;
    uint64_t seen = 0;
    for (size_t i = 0; i < reply->trace_count; i++) {
        const llmgw_trace *item = &reply->trace[i];
        sim_no_secret(item->reason, number);
        if (item->kind != LLMGW_TRACE_ATTEMPT) continue;
        if (M.on && item->epoch <= SIM_ATTEMPTS && !(call->sent >> (item->epoch & 63) & 1))
            continue; /* not sent: money_settled has looked at it */
        attempts++;
        repairs += strncmp(item->reason, "repair: ", 8) == 0;
        if (item->epoch < 1 || (!M.on && (int)item->epoch > call->starts) || seen >> (item->epoch & 63) & 1)
            sim_fail("2", number, "the trace has attempt %u twice, or never made", item->epoch);
        seen |= (uint64_t)1 << (item->epoch & 63);
        if (strcmp(item->provider, W.providers[call->provider[item->epoch]].name) != 0)
            sim_fail("2", number, "attempt %u went to p%d, the trace says %s", item->epoch,
                     call->provider[item->epoch], item->provider);
        if (item->duration_us < 0) sim_fail("2", number, "attempt %u has no end in the trace", item->epoch);
        if (call->reached[item->epoch] && !item->sent)
            sim_fail("2", number, "attempt %u reached the provider, the trace says it was not sent",
                     item->epoch);
        known = known && item->cost.known;
        cost += item->cost.known ? item->cost.pico_usd : 0;
    }
    int most = sim_max_repairs(call);
    if (repairs > (most == LLMGW_OFF || !(call->valid & LLMGW_VALID_SCHEMA) ? 0 : most ? most : 1))
        sim_fail("2", number, "%d repairs, max_repairs is %d", repairs, most);
    T.repairs += repairs;
    if (attempts != call->starts || reply->attempts != call->starts)
        sim_fail("2", number, "%d requests were made, the reply says %d, its trace %d", call->starts,
                 reply->attempts, attempts);
    if (reply->cost.known != known || (known && reply->cost.pico_usd != cost))
        sim_fail("cost", number, "the reply costs %lld, its attempts %lld", (long long)reply->cost.pico_usd,
                 (long long)cost);
}

/* What the winning attempt cost is known from the wire. */
static void sim_check_cost(sim_call *call, const llmgw_reply *reply) {
    const llmgw_trace *won = sim_winner(reply);
    int number = call->ask.call;
    if (!won) {
        sim_fail("2", number, "the attempt that answered is not in the trace");
        return;
    }
    int64_t input = call->input[won->epoch], output = call->output[won->epoch];
    bool told = call->told[won->epoch], says = won->usage.known && !won->usage.estimated;
    if (!told && !says) return; /* the end of the answer was cut off: it may be missing */
    if (!says || won->usage.input != input || won->usage.output != output)
        sim_fail("cost", number, "usage %lld + %lld tokens, the provider said %lld + %lld",
                 (long long)won->usage.input, (long long)won->usage.output, (long long)input,
                 (long long)output);
    int64_t pico = input * sim_rate(call->provider[won->epoch], call->model[won->epoch], false) +
                   output * sim_rate(call->provider[won->epoch], call->model[won->epoch], true);
    if (M.unpriced[call->provider[won->epoch]][call->model[won->epoch]]) {
        if (won->cost.known) sim_fail("6", number, "its price is unknown, its cost is known");
        return;
    }
    if (!won->cost.known || won->cost.pico_usd != pico)
        sim_fail("cost", number, "the attempt cost %lld, not %lld", (long long)pico,
                 (long long)won->cost.pico_usd);
}

static void sim_check_code(const sim_call *call, const llmgw_error *error) {
    static const llmgw_code never[] = {LLMGW_E_INTERNAL, LLMGW_E_MEMORY,   LLMGW_E_ARGUMENT,  LLMGW_E_CONFIG,
                                       LLMGW_E_MODEL,    LLMGW_E_MISUSE,   LLMGW_E_FORKED,    LLMGW_E_NO_KEY,
                                       LLMGW_E_TLS,      LLMGW_E_INSECURE, LLMGW_E_RESTRICTED};
    int number = call->ask.call;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(never); i++)
        if (error->code == never[i])
            sim_fail("12", number, "%s: %s", llmgw_code_name(error->code), error->text);
    if (error->code == LLMGW_E_CANCELLED && !call->cancelled) sim_fail("1", number, "nobody cancelled it");
    if (error->code == LLMGW_E_CLOSED && !S.closing) sim_fail("1", number, "nobody closed the gateway");
    if (error->code == LLMGW_E_DEADLINE && W.now_us < call->deadline_us)
        sim_fail("1", number, "E_DEADLINE %.6f s before the deadline",
                 (double)(call->deadline_us - W.now_us) / 1e6);
    sim_no_secret(error->text, number);
}

/* Law 1: in time. A poll that began after the deadline ends what is late; one that began before wakes for
   it. */
static void sim_check_time(const sim_call *call) {
    int64_t latest = call->deadline_us > S.poll_us ? call->deadline_us : S.poll_us;
    if (call->deadline_us != WORLD_NEVER && W.now_us > latest + SIM_GRAIN_US)
        sim_fail("1", call->ask.call, "END comes %.6f s after the deadline",
                 (double)(W.now_us - call->deadline_us) / 1e6);
}

static void sim_check_text(const sim_call *call, const llmgw_reply *reply) {
    int number = call->ask.call;
    bool good = !reply->error.code;
    if (strlen(reply->text) != reply->text_len) sim_fail("10", number, "text_len is not the length of text");
    if (call->stream || good) {
        if (reply->text_len != call->shown)
            sim_fail("10", number, "the reply has %lu bytes, the events after all rewinds %lu",
                     (unsigned long)reply->text_len, (unsigned long)call->shown);
        if (reply->reasoning_len != call->reasoning.n ||
            (reply->reasoning_len && memcmp(reply->reasoning, call->reasoning.p, call->reasoning.n) != 0))
            sim_fail("10", number, "the reply's reasoning is not that of the events");
    }
    if (reply->text_len > call->answer->n || memcmp(reply->text, call->answer->p, reply->text_len) != 0)
        sim_fail("10", number, "the reply's text is not how the answer begins");
    if (good && reply->text_len != call->answer->n)
        sim_fail("10", number, "a good reply has %lu bytes of %lu", (unsigned long)reply->text_len,
                 (unsigned long)call->answer->n);
    size_t parts = 0;
    for (size_t i = 0; i < reply->message.part_count; i++)
        if (reply->message.parts[i].kind == LLMGW_PART_TEXT) {
            const llmgw_part *part = &reply->message.parts[i];
            if (part->text_len > reply->text_len - parts ||
                memcmp(part->text, reply->text + parts, part->text_len))
                sim_fail("10", number, "part %lu of the reply's message is not its text", (unsigned long)i);
            parts += part->text_len;
        }
    if (parts != reply->text_len) sim_fail("10", number, "the parts of the reply's message lack text");
    if (good && reply->finish != LLMGW_FINISH_STOP) sim_fail("10", number, "a good reply did not stop");
    if (good && call->checks && call->approved != reply->epoch)
        sim_fail("10", number, "an answer that did not pass the caller's check");
}

static void sim_finish(sim_call *call);

static void sim_on_end(sim_call *call, const llmgw_reply *reply) {
    int number = call->ask.call;
    if (call->ghost && !reply->error.code)
        sim_fail("10", number, "content of attempt %u came after it had failed, and the call succeeded",
                 call->ghost);
    if (call->begun != call->over) sim_fail("2", number, "an attempt has begun and not ended before END");
    sim_check_time(call);
    if (reply->error.code) sim_check_code(call, &reply->error);
    sim_check_text(call, reply);
    sim_check_trace(call, reply);
    if (!reply->error.code) sim_check_cost(call, reply);
    WORLD_TRACE(&W, "call %-5d END %s, %d attempts, %lu bytes; %s", number,
                llmgw_code_name(reply->error.code), reply->attempts, (unsigned long)reply->text_len,
                reply->error.text);
    if (S.kept_count < 64 && number % 100 == 7) {
        S.kept_sizes[S.kept_count] = reply->text_len;
        S.kept[S.kept_count++] = llmgw_reply_keep(reply);
    }
    T.codes[reply->error.code]++;
    T.good += !reply->error.code;
    sim_finish(call);
}

static void sim_on_event(const llmgw_event *event, void *user) {
    sim_call *call = (sim_call *)user;
    int number = call->ask.call;
    static const char *const names[] = {"?", "TEXT", "REASONING", "TOOL", "TRY", "REWIND", "END"};
    if (M.crashed) return;
    world_note(&W, (uint64_t)number << 8 | (uint64_t)event->kind,
               (uint64_t)W.now_us ^ (uint64_t)event->text_len << 40 ^ (uint64_t)event->keep << 20);
    if (event->kind != LLMGW_EVENT_END)
        WORLD_TRACE(&W, "call %-5d %s epoch %u, %lu bytes, keep %lu%s%s", number, names[event->kind],
                    event->epoch, (unsigned long)event->text_len, (unsigned long)event->keep,
                    event->trace ? event->trace->duration_us < 0 ? " begins" : " over: " : "",
                    event->trace && event->trace->duration_us >= 0 ? event->trace->reason : "");
    if (call->ended) sim_fail("1", number, "%s after END", names[event->kind]);
    if (event->gateway != S.gw) sim_fail("1", number, "the event names another gateway");
    if (call->id && event->call != call->id) sim_fail("1", number, "the event names another call");
    if (event->kind == LLMGW_EVENT_TEXT) {
        sim_on_text(call, event);
    } else if (event->kind == LLMGW_EVENT_REASONING) {
        sim_check_epoch(call, event);
        world_add(&call->reasoning, event->text, event->text_len);
    } else if (event->kind == LLMGW_EVENT_TRY) {
        sim_on_try(call, event);
    } else if (event->kind == LLMGW_EVENT_REWIND) {
        sim_on_rewind(call, event);
    } else if (event->kind == LLMGW_EVENT_END) {
        sim_on_end(call, event->reply);
        return;
    } else {
        sim_fail("10", number, "an event of kind %d", (int)event->kind);
    }
    if (world_chance(&S.rng, 0.0005)) {
        WORLD_TRACE(&W, "call %-5d is cancelled from its callback", number);
        call->cancelled = true;
        llmgw_cancel(S.gw, event->call);
    }
}

/* The caller's own check: lets five of six answers pass. */
static bool sim_is_valid(const llmgw_reply *reply, void *user) {
    sim_call *call = (sim_call *)user;
    int number = call->ask.call;
    if (M.crashed) return true;
    if (call->ended) sim_fail("1", number, "is_valid after END");
    if (reply->text_len != call->answer->n || memcmp(reply->text, call->answer->p, reply->text_len) != 0)
        sim_fail("10", number, "is_valid is asked about another text");
    if (world_seed(call->ask.seed, reply->epoch) % 6 == 0) return false;
    call->approved = reply->epoch;
    return true;
}

/* ---- making calls ---- */

static void sim_fill(sim_call *call, llmgw_request *request, char *prompt, size_t size) {
    static const char *tags[3];
    memset(request, 0, sizeof *request);
    world_prompt(prompt, size, &call->ask);
    request->model = call->route >= 0 ? S.routes[call->route].name : S.aliases[call->target];
    request->prompt = prompt;
    if (call->ask.call % 3 == 0) request->system = "You are a simulated model. Be brief.";
    request->stream = call->stream;
    request->on_event = sim_on_event;
    request->user = call;
    request->deadline_ms = call->deadline_ms;
    request->max_attempts = call->max_attempts;
    request->max_tokens = call->ask.call % 2 ? 4000 : 0;
    if (call->patient) request->first_token_ms = request->idle_ms = LLMGW_OFF;
    request->priority = call->priority;
    request->whole_sentences = call->whole;
    request->valid = call->valid;
    request->max_resumes = call->max_resumes;
    if (call->valid & LLMGW_VALID_SCHEMA) request->schema = "{\"type\":\"object\"}";
    request->max_repairs = sim_max_repairs(call);
    if (call->checks) request->is_valid = sim_is_valid;
    if (call->key >= 0) request->key = M.secrets[call->key];
    for (int i = 0; i < call->tag_count; i++) tags[i] = money_tag_names[call->tags[i]];
    request->tags = tags;
    request->tag_count = (size_t)call->tag_count;
}

static int sim_budget(const sim_call *call) {
    int targets = call->route >= 0 ? S.routes[call->route].count : 1;
    if (call->max_attempts) return call->max_attempts;
    if (S.options.max_attempts) return S.options.max_attempts;
    return targets > 4 ? targets : 4;
}

static void sim_next_of_user(int user);

static void sim_send(sim_call *call) {
    llmgw_request request;
    llmgw_error error;
    char prompt[128];
    sim_fill(call, &request, prompt, sizeof prompt);
    call->answer = S.spare_count ? S.spare[--S.spare_count] : (world_text *)malloc(sizeof *call->answer);
    if (!call->answer) abort();
    world_answer(call->ask.seed, call->ask.sentences, call->answer);
    call->budget = sim_budget(call);
    call->accepted_us = S.sent_us = W.now_us;
    call->deadline_us = call->deadline_ms == LLMGW_OFF ? WORLD_NEVER : W.now_us + call->deadline_ms * 1000LL;
    call->accepted = true;
    call->late.heap_at = SIZE_MAX;
    if (call->deadline_us != WORLD_NEVER) world_set(&W, &S.deadlines, &call->late, call->deadline_us);
    if (++S.alive > S.most_alive) S.most_alive = S.alive;
    T.calls++;
    call->id = llmgw_send(S.gw, &request, &error);
    WORLD_TRACE(&W, "call %-5d sent to %s%s, deadline %d ms: %s", call->ask.call, request.model,
                call->stream ? ", stream" : "", call->deadline_ms, call->id ? "accepted" : error.text);
    if (call->id) return;
    if (error.code != LLMGW_E_LIMIT && error.code != LLMGW_E_RATE_LIMITED && !M.crashed)
        sim_fail("1", call->ask.call, "not accepted: %s", error.text);
    T.refused++;
    sim_finish(call);
}

static void sim_on_arrive(world *w, world_timer *timer) {
    (void)w;
    sim_send((sim_call *)timer);
}

static void sim_on_cancel(world *w, world_timer *timer) {
    sim_call *call = (sim_call *)(void *)((char *)timer - offsetof(sim_call, cancel));
    (void)w;
    if (!call->accepted || call->ended) return;
    WORLD_TRACE(&W, "call %-5d is cancelled", call->ask.call);
    call->cancelled = true;
    T.cancelled++;
    world_set(&W, &S.deadlines, &call->late, W.now_us); /* it ends with the next poll */

    llmgw_cancel(S.gw, call->id);
}

/* The call is over: it ended or was not accepted. */
static void sim_finish(sim_call *call) {
    call->ended = true;
    S.finished++;
    S.alive--;
    T.attempts += call->starts;
    T.resumes += call->resumes;
    T.rewinds += call->rewinds;
    world_unset(&S.deadlines, &call->late);
    world_unset(&W.outside, &call->cancel);
    S.spare[S.spare_count++] = call->answer;
    call->answer = NULL;
    free(call->reasoning.p);
    memset(&call->reasoning, 0, sizeof call->reasoning);
    if (call->user >= 0 && !S.closing) sim_next_of_user(call->user);
}

/* ---- the workload ---- */

static void sim_draw_money(sim_call *call) {
    uint64_t rng = world_seed(S.seed, 5000000 + (uint64_t)call->ask.call);
    call->key = -1;
    if (!M.on) return;
    if (M.key_count && world_chance(&rng, 0.6)) call->key = (int)world_below(&rng, M.key_count);
    call->tag_count = (int)world_below(&rng, 4);
    for (int i = 0; i < call->tag_count; i++) call->tags[i] = (int)world_below(&rng, MONEY_TAGS);
}

/* A new call with everything about it drawn; it arrives at at_us. */
static sim_call *sim_draw(int64_t at_us) {
    uint64_t rng = world_seed(S.seed, 1000000 + (uint64_t)S.calls);
    if (S.calls == SIM_CALLS) return NULL;
    sim_call *call = &C[S.calls];
    memset(call, 0, sizeof *call);
    S.probing[S.calls] = 0;
    call->arrive.heap_at = call->cancel.heap_at = call->late.heap_at = SIZE_MAX;
    call->arrive.fire = sim_on_arrive;
    call->cancel.fire = sim_on_cancel;
    call->ask.call = S.calls++;
    call->ask.seed = world_random(&rng);
    call->ask.sentences =
        (size_t)(world_chance(&rng, 0.03) ? world_between(&rng, 20, 60) : world_between(&rng, 1, 9));
    call->ask.thinks = world_chance(&rng, 0.2) ? world_between(&rng, 1, 400) : 0;
    call->user = -1;
    call->route = world_chance(&rng, 0.8) ? (int)world_below(&rng, S.route_count) : -1;
    call->target = (int)world_below(&rng, W.provider_count * WORLD_MODELS);
    call->deadline_ms = (int)(1000 * exp(world_unit(&rng) * log(120)));
    if (world_chance(&rng, 0.01)) call->deadline_ms = LLMGW_OFF;
    call->max_attempts = world_chance(&rng, 0.3) ? (int)world_between(&rng, 1, 12) : 0;
    call->stream = world_chance(&rng, 0.6);
    call->patient = call->deadline_ms != LLMGW_OFF && world_chance(&rng, 0.1);
    call->priority = (llmgw_priority)world_below(&rng, 3);
    call->whole = sim_can[SIM_RESUME] && call->stream && world_chance(&rng, 0.2);
    call->max_resumes = !sim_can[SIM_RESUME] || world_chance(&rng, 0.7) ? 3
                        : world_chance(&rng, 0.5)                       ? LLMGW_OFF
                                                                        : 1;
    if (sim_can[SIM_VALID] && world_chance(&rng, 0.1)) {
        call->valid = LLMGW_VALID_NOT_EMPTY | LLMGW_VALID_NOT_REFUSED;
        call->ask.flags = WORLD_MAY_EMPTY | WORLD_MAY_REFUSE;
    }
    call->checks = sim_can[SIM_VALID] && world_chance(&rng, 0.05) && !call->ask.flags;
    /* no answer is of it: repairs, then other targets, until the attempts are used up */
    if (sim_can[SIM_VALID] && call->ask.call % 37 == 5) call->valid |= LLMGW_VALID_SCHEMA;
    sim_draw_money(call);
    world_set(&W, &W.outside, &call->arrive, at_us);
    if (world_chance(&rng, 0.05))
        world_set(&W, &W.outside, &call->cancel, at_us + world_exponential(&rng, 3e6));
    return call;
}

/* A closed user thinks, then asks again. */
static void sim_next_of_user(int user) {
    uint64_t rng = world_seed(S.seed, 3000000 + (uint64_t)S.calls);
    double mean = (double)(S.until_us - W.start_us) / 150; /* some 150 questions in a life */
    if (W.now_us >= S.until_us && S.calls >= SIM_LEAST_CALLS) return;
    int64_t think = world_chance(&rng, 0.1) ? 0 : world_exponential(&rng, mean);
    sim_call *call = sim_draw(W.now_us + think);
    if (call) call->user = user;
}

/* Calls that come whether others have ended or not, some in bursts. */
static void sim_draw_open(int64_t duration_us, int count) {
    uint64_t rng = world_seed(S.seed, 4);
    double gap = (double)duration_us / (count > 0 ? count : 1);
    int64_t at = W.now_us;
    while (count > 0) {
        int burst = world_chance(&rng, 0.02) ? (int)world_between(&rng, 5, 60) : 1;
        at += world_exponential(&rng, gap * burst);
        for (; burst > 0 && count > 0; burst--, count--)
            (void)sim_draw(at + (burst > 1 ? world_below(&rng, 2000000) : 0));
    }
}

static void sim_workload(void) {
    uint64_t rng = world_seed(S.seed, 5);
    static const int64_t stretch[] = {1, 1, 1, 1, 1, 1, 2, 2, 4, 30, 300}; /* x 10 minutes */
    int64_t duration = SIM_LEAST_US * stretch[world_below(&rng, LLMGWI_BASE_COUNT(stretch))];
    int open = (int)world_between(&rng, 0, 12) * 100;
    S.until_us = W.now_us + duration;
    S.users = open >= SIM_LEAST_CALLS ? (int)world_below(&rng, 4) : (int)world_between(&rng, 4, 16);
    sim_draw_open(duration, open);
    for (int i = 0; i < 20; i++)
        (void)sim_draw(S.until_us - world_below(&rng, 1000000) * (i > 0)); /* the last at the end */
    for (int user = 0; user < S.users; user++) sim_next_of_user(user);
}

/* ---- the world of a seed ---- */

static void sim_draw_provider(int index, uint64_t *rng) {
    static const char *const flavours[] = {"openai",   "anthropic", "gemini", "mistral",
                                           "deepseek", "groq",      "vllm"};
    int flavour = index < 3 ? index : (int)world_below(rng, 7);
    world_provider *p =
        world_provider_add(&W, flavours[flavour], sim_can[SIM_KEYS] ? (int)world_between(rng, 1, 3) : 1);
    static const int rpms[] = {0, 0, 0, 20, 60, 120, 300};
    static const int capacities[] = {0, 0, 3, 8, 20};
    int rpm = rpms[world_below(rng, 7)];
    p->region = (int)world_below(rng, 3);
    p->connect_us = 20000 + 180000 * world_unit(rng);
    p->first_us = 100000 * exp(3 * world_unit(rng));
    p->gap_us = 5000 * exp(3 * world_unit(rng));
    p->sigma = 0.3 + world_unit(rng);
    p->capacity = capacities[world_below(rng, 5)];
    p->sheds = world_chance(rng, 0.5);
    p->bucket = world_chance(rng, 0.5);
    p->tokens = rpm;
    for (int k = 0; k < p->key_count; k++) world_ring_open(&p->keys[k].rpm, rpm, 60000000);
    p->retry = (world_retry_form)world_below(rng, WORLD_RETRY_FORMS);
    p->lies = (int)world_below(rng, 3);
    p->ascii = world_chance(rng, 0.3);
    for (int kind = 0; kind < WORLD_FAULT_KINDS; kind++)
        if (world_chance(rng, 0.3))
            p->noise[kind] = world_unit(rng) * (kind == WORLD_KEY_DEAD || kind == WORLD_QUOTA ? 0.002 : 0.03);
}

static void sim_draw_faults(uint64_t *rng, int64_t duration) {
    double length = (double)duration / 12;
    for (int p = 0; p < W.provider_count; p++) {
        int count = (int)world_below(rng, 6);
        for (int i = 0; i < count; i++) {
            int64_t from = world_below(rng, duration);
            world_kind kind = (world_kind)world_below(rng, WORLD_FAULT_KINDS);
            world_fault_add(&W, p, kind, from, from + world_exponential(rng, length), 0.4 + world_unit(rng));
            world_fault *fault = &W.providers[p].faults[W.providers[p].fault_count - 1];
            fault->period_us = world_between(rng, 2000000, 40000000);
            if (kind == WORLD_KEY_DEAD || kind == WORLD_QUOTA)
                fault->key = (int)world_below(rng, W.providers[p].key_count);
        }
    }
    if (!world_chance(rng, 0.5)) return;
    int64_t from = world_below(rng, duration),
            to = from + world_exponential(rng, length); /* a region is out */
    int region = (int)world_below(rng, 3);
    for (int p = 0; p < W.provider_count; p++)
        if (W.providers[p].region == region)
            world_fault_add(&W, p, world_chance(rng, 0.5) ? WORLD_REFUSED : WORLD_HANGS, from, to, 1);
}

/* ---- the configuration of a seed ---- */

static void sim_set_limits(int i, uint64_t *rng) {
    llmgw_provider *to = &S.providers[i];
    const world_provider *p = &W.providers[i];
    if (sim_can[SIM_LIMITS]) {
        if (world_chance(rng, 0.5))
            to->rpm = p->keys[0].rpm.limit ? p->keys[0].rpm.limit : world_between(rng, 5, 100);
        if (world_chance(rng, 0.3)) to->tpm = world_between(rng, 20, 100) * 1000; /* above any one call */
        if (world_chance(rng, 0.2)) to->rpd = world_between(rng, 50, 500);
        if (world_chance(rng, 0.3)) to->concurrency = (int)world_between(rng, 1, 10);
    }
    for (int k = 0; k < WORLD_KEYS; k++)
        sim_lane_open(&S.keys_of[i][k], to->rpm, to->tpm, to->rpd, to->concurrency);
}

static void sim_set_providers(uint64_t *rng) {
    static const char *const regions[] = {"eu", "us", "asia"};
    for (int i = 0; i < W.provider_count; i++) {
        const world_provider *p = &W.providers[i];
        llmgw_provider *to = &S.providers[i];
        memset(to, 0, sizeof *to);
        to->name = p->name;
        to->dialect = p->flavour;
        to->url = p->url;
        to->key = p->keys[0].text;
        if (sim_can[SIM_REGION]) to->region = regions[p->region];
        for (int k = 0; k < p->key_count; k++) S.keys[i][k] = p->keys[k].text;
        if (p->key_count > 1) {
            to->key = NULL;
            to->keys = S.keys[i];
            to->key_count = (size_t)p->key_count;
        }
        sim_set_limits(i, rng);
    }
    S.options.providers = S.providers;
    S.options.provider_count = (size_t)W.provider_count;
}

static void sim_set_models(uint64_t *rng) {
    int count = W.provider_count * WORLD_MODELS;
    for (int i = 0; i < count; i++) {
        llmgw_model *to = &S.models[i];
        int p = i / WORLD_MODELS, m = i % WORLD_MODELS;
        memset(to, 0, sizeof *to);
        snprintf(S.aliases[i], sizeof S.aliases[i], "m%d", i);
        to->name = S.aliases[i];
        to->provider = W.providers[p].name;
        to->model = W.providers[p].model[m];
        to->price.input = llmgw_set((double)sim_rate(p, m, false) / 1e6);
        to->price.output = llmgw_set((double)sim_rate(p, m, true) / 1e6);
        if (sim_can[SIM_LIMITS] && world_chance(rng, 0.1)) to->rpm = world_between(rng, 5, 60);
        if (sim_can[SIM_LIMITS] && world_chance(rng, 0.1)) to->concurrency = (int)world_between(rng, 1, 6);
        sim_lane_open(&S.models_of[p][m], to->rpm, to->tpm, to->rpd, to->concurrency);
    }
    S.options.models = S.models;
    S.options.model_count = (size_t)count;
}

/* What kinds of route there are. */
static const struct {
    sim_feature needs;
    const char *how;
} sim_hows[] = {
    {SIM_RACE, "race"}, {SIM_WEIGHTED, "weighted"}, {SIM_LEAST_BUSY, "least_busy"}, {SIM_FASTEST, "fastest"}};

static void sim_set_route(sim_route *route, int index, uint64_t *rng) {
    llmgw_route *to = &S.route_list[index];
    int targets = W.provider_count * WORLD_MODELS;
    memset(route, 0, sizeof *route);
    memset(to, 0, sizeof *to);
    snprintf(route->name, sizeof route->name, "r%d", index);
    route->count = (int)world_between(rng, 2, 6);
    int at = (int)world_below(rng, targets), step = world_chance(rng, 0.5) ? 3 : 7; /* coprime to 10 */
    for (int i = 0; i < route->count; i++, at = (at + step) % targets) {
        route->targets[i] = at;
        snprintf(route->names[i], sizeof route->names[i], "%s/%s", W.providers[at / WORLD_MODELS].name,
                 W.providers[at / WORLD_MODELS].model[at % WORLD_MODELS]);
        route->list[i] = world_chance(rng, 0.5) ? S.aliases[at] : route->names[i];
        route->weights[i] = 0.1 + world_unit(rng);
    }
    to->name = route->name;
    to->targets = route->list;
    to->target_count = (size_t)route->count;
    size_t how = (size_t)index - 2;
    if (index >= 2 && how < LLMGWI_BASE_COUNT(sim_hows) && sim_can[sim_hows[how].needs])
        to->how = sim_hows[how].how;
    bool race = to->how && strcmp(to->how, "race") == 0;
    if (race) {
        to->width = (int)world_between(rng, 2, route->count > 3 ? 3 : route->count);
        if (world_chance(rng, 0.3)) to->race_by = "complete";
    } else if (sim_can[SIM_HEDGE] && world_chance(rng, 0.4)) {
        to->hedge_ms = world_chance(rng, 0.5) ? LLMGW_P95 : (int)world_between(rng, 50, 3000);
        to->hedge_percent = (int)world_between(rng, 1, 30);
    }
    if (to->how && strcmp(to->how, "weighted") == 0) {
        to->weights = route->weights;
        to->weight_count = (size_t)route->count;
    }
    if (sim_can[SIM_STANDBY] && world_chance(rng, 0.3)) to->standby = 1;
    if (sim_can[SIM_VALID] && world_chance(rng, 0.3)) to->valid = LLMGW_VALID_NOT_EMPTY;
}

static void sim_set_routes(uint64_t *rng) {
    S.route_count = SIM_ROUTES;
    for (int i = 0; i < S.route_count; i++) sim_set_route(&S.routes[i], i, rng);
    S.options.routes = S.route_list;
    S.options.route_count = (size_t)S.route_count;
}

/* One in so many seeds has another number than the default: X(option, feature or -1, one in, low, high). */
#define SIM_OPTIONS(X)                                                                                       \
    X(max_connections, -1, 4, 3, 40)                                                                         \
    X(max_calls, -1, 8, 10, 100)                                                                             \
    X(max_attempts, -1, 4, 1, 10)                                                                            \
    X(connect_ms, -1, 3, 100, 5000)                                                                          \
    X(first_token_ms, -1, 3, 500, 20000)                                                                     \
    X(idle_ms, -1, 3, 200, 10000)                                                                            \
    X(max_waiting, SIM_QUEUE, 4, 1, 50)                                                                      \
    X(backoff_ms, SIM_BACKOFF, 3, 10, 2000)                                                                  \
    X(retry_after_max_ms, SIM_BACKOFF, 4, 1000, 30000)                                                       \
    X(retry_percent, SIM_BACKOFF, 3, 5, 100)                                                                 \
    X(hold_ms, SIM_HOLD, 3, 1, 500)                                                                          \
    X(hold_bytes, SIM_HOLD, 3, 1, 500)                                                                       \
    X(min_bytes_per_s, SIM_HOLD, 4, 1, 50)                                                                   \
    X(breaker_failures, SIM_BREAKER, 3, 2, 10)                                                               \
    X(breaker_percent, SIM_BREAKER, 3, 20, 90)                                                               \
    X(breaker_open_ms, SIM_BREAKER, 3, 500, 20000)                                                           \
    X(breaker_slow_ms, SIM_BREAKER, 4, 1000, 30000)                                                          \
    X(key_dead_ms, SIM_KEYS, 4, 1000, 100000)

static void sim_set_options(uint64_t *rng) {
    static const size_t queues[] = {1024, 1500, 4000};
#define SIM_OPTION(option, feature, one_in, low, high)                                                       \
    if (world_below(rng, one_in) == 0 &&                                                                     \
        ((int)(feature) < 0 || sim_can[(int)(feature) < 0 ? 0 : (int)(feature)]))                            \
        S.options.option = (int)world_between(rng, low, high);
    SIM_OPTIONS(SIM_OPTION)
#undef SIM_OPTION
    if (sim_can[SIM_HOLD] && world_chance(rng, 0.2)) S.options.hold_ms = S.options.hold_bytes = LLMGW_OFF;
    if (sim_can[SIM_BREAKER] && world_chance(rng, 0.1))
        S.options.breaker_failures = S.options.breaker_percent = LLMGW_OFF;
    if (world_chance(rng, 0.4)) S.options.max_queue_bytes = queues[world_below(rng, 3)];
    W.max_active = S.options.max_connections ? S.options.max_connections : 20000;
    if (S.options.retry_after_max_ms > 0) W.told_cap_us = (int64_t)S.options.retry_after_max_ms * 1000;
    S.options.no_environment = true;
    S.options.alloc = sim_alloc;
    S.options.log = sim_log;
}

static void sim_setup(uint64_t seed) {
    uint64_t rng = world_seed(seed, 2);
    static const int batches[] = {1, 4, 128};
    static const int64_t ticks[] = {16000, 16000, 100000, 700000};
    memset(&S.options, 0, sizeof S.options);
    S.seed = seed;
    S.rng = world_seed(seed, 3);
    world_open(&W, seed);
    W.settled = NULL;
    W.lives = W.gone = NULL;
    W.on_start = sim_on_start;
    W.on_done = sim_on_done;
    W.broken = sim_broken;
    W.batch = batches[world_below(&rng, 3)];
    for (int i = 0; i < 5; i++) sim_draw_provider(i, &rng);
    sim_draw_faults(&rng, SIM_LEAST_US);
    sim_set_providers(&rng);
    sim_set_models(&rng);
    sim_set_routes(&rng);
    sim_set_options(&rng);
    money_setup(seed);
    S.drive = (sim_drive)world_below(&rng, SIM_DRIVES);
    S.tick_us = ticks[world_below(&rng, 4)];
    S.threads = world_chance(&rng, 0.3);
    S.hurried = world_chance(&rng, 0.25);
    S.closing = false;
    S.calls = S.finished = S.alive = S.kept_count = S.most_alive = 0;
    S.bytes = S.peak = 0;
    S.target_count = S.check_count = 0;
    S.deadlines.count = 0;
    memset(S.probes, 0, sizeof S.probes);
}

/* ---- driving ---- */

static bool sim_interrupt(world *w) {
    (void)w;
    if (S.threads) return true;
    llmgw_wake(S.gw);
    return false;
}

static int64_t sim_least(int64_t a, int64_t b) { return a < b ? a : b; }

/* What the gateway says of itself agrees with what the world sees. */
static void sim_check_reports(void) {
    llmgw_limit limits[128];
    sim_look();
    bool unsent = S.gw->unsent != NULL; /* their intents could not be committed yet */
    for (size_t i = 0; i < S.target_count && !unsent; i++)
        for (int t = 0; t < W.provider_count * WORLD_MODELS; t++) {
            int p = t / WORLD_MODELS, m = t % WORLD_MODELS;
            if (sim_target(p, m) == &S.targets[i] && S.targets[i].in_flight != S.models_of[p][m].in_flight)
                sim_fail("5", -1, "llmgw_targets: %s/%s has %lld requests in flight, the world sees %d",
                         S.targets[i].provider, S.targets[i].model, (long long)S.targets[i].in_flight,
                         S.models_of[p][m].in_flight);
        }
    size_t count = llmgw_limits(S.gw, limits, LLMGWI_BASE_COUNT(limits));
    for (size_t i = 0; i < count && i < LLMGWI_BASE_COUNT(limits); i++)
        if (!limits[i].learned && limits[i].used > limits[i].limit)
            sim_fail("5", -1, "llmgw_limits: %s of %s %s key %d: %lld of %lld used",
                     llmgw_limit_name(limits[i].kind), limits[i].provider, limits[i].model, limits[i].key,
                     (long long)limits[i].used, (long long)limits[i].limit);
}

/* Law 1: who waits for the caller goes on when the caller has taken everything. */
static void sim_check_paused(void) {
    for (size_t i = 0; i < W.made; i++)
        if (W.all[i]->used && W.all[i]->paused && W.turns - W.all[i]->paused_at > 8)
            sim_fail("1", W.all[i]->seen.ask.call,
                     "its transfer waits for room, the caller has taken everything");
}

/* One turn of the caller's loop. */
static void sim_turn(void) {
    static unsigned turns;
    int timeout_ms = 0;
    int64_t next = sim_least(world_next(&W.net), world_next(&W.outside));
    if (S.drive == SIM_WAIT) {
        timeout_ms = -1;
    } else if (S.drive == SIM_TIMEOUT) {
        timeout_ms = (int)world_between(&S.rng, 1, 300);
    } else if (S.drive == SIM_FD) {
        next = sim_least(next, W.arm_us);
        if (next == WORLD_NEVER && !W.noticed && !W.woken)
            sim_fail("1", -1, "the descriptor will never be readable, with %d calls in flight", S.alive);
        if (!W.noticed && !W.woken && next > W.now_us) W.now_us = next, W.still = 0;
        if (++W.still > WORLD_STILL) sim_fail("12", -1, "the descriptor stays readable for ever");
    } else {
        W.now_us += S.tick_us;
        if (!S.alive && next > W.now_us) W.now_us = next; /* nobody plays */
        W.still = 0;
    }
    (void)world_fire(&W, &W.outside, INT_MAX);
    money_turn();
    if (M.crashed) return;
    S.poll_us = W.now_us;
    int count = llmgw_poll(S.gw, timeout_ms);
    if (M.crashed) return;
    if (count < 0) sim_fail("1", -1, "llmgw_poll: %s", llmgw_code_name((llmgw_code)-count));
    if (S.deadlines.count && S.deadlines.items[0]->at_us + SIM_GRAIN_US <= S.poll_us) {
        sim_call *call = (sim_call *)(void *)((char *)S.deadlines.items[0] - offsetof(sim_call, late));
        sim_fail("1", call->ask.call, "%s %.6f s before a poll began, and it has not ended",
                 call->cancelled ? "it was cancelled" : "its deadline passed",
                 (double)(S.poll_us - call->late.at_us) / 1e6);
    }
    W.turns++;
    if (turns++ % 64 == 0) {
        sim_check_reports();
        sim_check_paused();
    }
    if (S.alive && W.now_us > S.sent_us + 30 * 3600000000LL) sim_fail("1", -1, "%d calls never end", S.alive);
    if (llmgw_pending(S.gw) > (size_t)S.alive)
        sim_fail("1", -1, "%lu calls are pending, %d have no END", (unsigned long)llmgw_pending(S.gw),
                 S.alive);
}

/* All that was allocated comes back; the peak is bounded by what is in flight. */
static void sim_check_memory(void) {
    int64_t most = (int64_t)1 << 20;
    most += (int64_t)S.most_alive * (256 << 10);
    if (M.on) most += (int64_t)2 << 20; /* the ledger's queue and tables */
    if (S.peak > most)
        sim_fail("12", -1, "%lld bytes at most, with %d calls at most", (long long)S.peak, S.most_alive);
    if (S.bytes) sim_fail("12", -1, "%lld bytes were not given back", (long long)S.bytes);
    if (S.peak > T.peak_bytes) T.peak_bytes = S.peak;
}

/* A gateway on the world, and on the seed's store if it has one. NULL: it crashed while it opened. */
static llmgw *sim_open(void) {
    llmgw_error error;
    llmgwi_http http = world_http(&W);
    llmgwi_base_clock clock = world_clock(&W);
    llmgw *gw = llmgwi_public_open(&S.options, &error, &http, &clock);
    if (!gw && !M.crashed) sim_fail("open", -1, "%s", error.text);
    return gw;
}

/* What the caller and the world remember of a process that is gone. */
static void sim_forget(void) {
    for (int i = 0; i < WORLD_PROVIDERS; i++) {
        for (int k = 0; k < WORLD_KEYS; k++) {
            sim_lane *lane = &S.keys_of[i][k];
            memset(W.providers[i].keys[k].told_us, 0, sizeof W.providers[i].keys[k].told_us);
            sim_lane_open(lane, lane->rpm, lane->tpm, lane->rpd, lane->concurrency);
        }
        for (int m = 0; m < WORLD_MODELS; m++) {
            sim_lane *lane = &S.models_of[i][m];
            sim_lane_open(lane, lane->rpm, lane->tpm, lane->rpd, lane->concurrency);
        }
    }
    memset(S.probes, 0, sizeof S.probes);
    S.check_count = S.target_count = 0;
    W.noticed = W.woken = false;
    W.arm_us = WORLD_NEVER;
    W.still = 0;
}

/* The gateway is gone with all that was in flight. The next one opens the same store, perhaps at the second try. */
static void sim_restart(void) {
    T.crashes++;
    money_idle(true);
    if (S.gw && llmgw_close(S.gw) != LLMGW_OK) sim_fail("1", -1, "llmgw_close refused");
    for (int i = 0; i < S.calls; i++)
        if (C[i].accepted && !C[i].ended) sim_finish(&C[i]);
    money_vanish();
    sim_forget();
    do {
        M.crashed = false;
        M.fuse = 0;
        M.life++;
        money_choose_budgets();
        if (world_chance(&M.rng, 0.3)) money_arm(MONEY_CRASH_STORE, 300);
        S.gw = sim_open();
        if (!S.gw) T.crashes++;
    } while (!S.gw);
    if (S.drive == SIM_FD && llmgw_fd(S.gw) < 0) sim_fail("1", -1, "no descriptor");
    if (world_chance(&M.rng, 0.5)) money_look();
}

/* Closed in good order, a ledger has lost nothing. */
static void sim_reopen(void) {
    if (!M.on) return;
    money_choose_budgets();
    S.gw = sim_open();
    S.alive = 0;
    money_look();
    if (llmgw_close(S.gw) != LLMGW_OK) sim_fail("1", -1, "llmgw_close refused");
}

static void sim_close(void) {
    S.closing = true;
    S.poll_us = W.now_us;
    M.fuse = 0;
    money_idle(true);
    if (llmgw_close(S.gw) != LLMGW_OK) sim_fail("1", -1, "llmgw_close refused");
    if (S.alive) sim_fail("1", -1, "%d calls have no END after llmgw_close", S.alive);
    sim_reopen();
    for (int i = 0; i < S.kept_count; i++) {
        if (strlen(S.kept[i]->text) != S.kept_sizes[i]) sim_fail("10", -1, "a kept reply has changed");
        llmgw_reply_free(S.kept[i]);
    }
    sim_check_memory();
    world_close(&W);
    money_clean();
}

/* May the gateway be closed under calls in flight now? */
static bool sim_hurries(void) { return S.hurried && S.calls >= SIM_LEAST_CALLS && W.now_us >= S.until_us; }

/* Runs a seed. Returns the hash of all that happened. */
static uint64_t sim_run(uint64_t seed) {
    sim_setup(seed);
    S.gw = sim_open();
    W.interrupt = sim_interrupt;
    W.settled = sim_settled;
    if (M.on) W.lives = money_lives;
    if (M.on) W.gone = money_gone;
    if (S.drive == SIM_FD && llmgw_fd(S.gw) < 0) sim_fail("1", -1, "no descriptor");
    money_make_keys();
    sim_workload();
    money_plan();
    do {
        while ((W.outside.count || (S.alive && !sim_hurries())) && !M.crashed) sim_turn();
        if (M.crashed) sim_restart();
        if (W.outside.count || (S.alive && !sim_hurries())) continue;
        if (M.on) money_look();
    } while (M.crashed || W.outside.count || (S.alive && !sim_hurries()));
    if (!S.hurried && llmgw_pending(S.gw)) sim_fail("1", -1, "all calls have ended, some are pending");
    sim_close();
    if (S.calls < SIM_LEAST_CALLS || W.now_us - W.start_us < SIM_LEAST_US)
        sim_fail("open", -1, "only %d calls in %.0f s", S.calls, (double)(W.now_us - W.start_us) / 1e6);
    T.seeds++;
    T.ledgers += M.on;
    T.simulated_us += W.now_us - W.start_us;
    T.happened += W.happened;
    T.pauses += W.pauses;
    world_note(&W, (uint64_t)S.calls, (uint64_t)W.requests);
    return W.hash;
}

/* ---- the program ---- */

static void sim_report(double seconds, uint64_t hash) {
    double calls = T.calls > 0 ? (double)T.calls : 1;
    printf("sim: %lld seeds, %lld calls, %lld simulated minutes, %lld attempts, laws held\n",
           (long long)T.seeds, (long long)T.calls, (long long)(T.simulated_us / 60000000),
           (long long)T.attempts);
    printf("     %.1f %% good, %.2f attempts a call, %lld refused, %lld cancelled, %lld rewinds, %lld "
           "resumed, %lld repairs, "
           "%lld beside others, %lld pauses, %.1f KB text, peak %.1f MB\n",
           100 * (double)T.good / calls, (double)T.attempts / calls, (long long)T.refused,
           (long long)T.cancelled, (long long)T.rewinds, (long long)T.resumes, (long long)T.repairs,
           (long long)T.beside, (long long)T.pauses, (double)T.text / 1024, (double)T.peak_bytes / 1048576);
    printf("     ");
    for (int code = 1; code < 512; code++)
        if (T.codes[code]) printf("%s %lld  ", llmgw_code_name((llmgw_code)code), (long long)T.codes[code]);
    printf("\n     %lld seeds with a ledger, %lld crashes, %lld attempts recovered, %lld refused by budgets, "
           "%lld looks, "
           "%.6f USD billed",
           (long long)T.ledgers, (long long)T.crashes, (long long)T.recovered, (long long)T.broke,
           (long long)T.looks, (double)T.billed / 1e12);
    printf("\n     %.1f s of work, %.1f us a call, %lld things happened, hash %016llx\n", seconds,
           seconds * 1e6 / calls, (long long)T.happened, (unsigned long long)hash);
}

/* Of the processor: other programs on the machine do not count. */
static double sim_work(void) { return (double)clock() / CLOCKS_PER_SEC; }

static double sim_seconds(void) { return (double)llmgwi_base_now_us(NULL) / 1e6; }

/* The same seed is the same run. */
static void sim_again(uint64_t seed, uint64_t hash) {
    sim_stats before = T;
    uint64_t again = sim_run(seed);
    if (again != hash)
        sim_fail("seed", -1, "two runs differ: hashes %016llx and %016llx", (unsigned long long)hash,
                 (unsigned long long)again);
    T = before;
}

static void sim_range(uint64_t from, uint64_t to, double seconds, uint64_t least) {
    double began = sim_seconds();
    uint64_t hash = 0;
    for (uint64_t seed = from; seed <= to; seed++) {
        uint64_t one = sim_run(seed);
        hash = world_mix(hash ^ one);
        if (seed == from) sim_again(seed, one);
        if (seconds > 0 && seed - from + 1 >= least && sim_seconds() - began > seconds) break;
    }
    sim_report(sim_work(), hash);
}

static int sim_usage(void) {
    puts("sim --seed N [--trace] | --seeds A B [--seconds S] [--least M] | --features   [--only NAME,...]");
    return 2;
}

int main(int argc, char **argv) {
    uint64_t from = 1, to = 0, least = 1;
    double seconds = 0;
    const char *only = NULL;
    bool list = false;
    for (int i = 1; i < argc; i++) {
        bool one = i + 1 < argc, two = i + 2 < argc;
        if (strcmp(argv[i], "--seed") == 0 && one)
            from = to = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--seeds") == 0 && two)
            from = strtoull(argv[i + 1], NULL, 10), to = strtoull(argv[i + 2], NULL, 10), i += 2;
        else if (strcmp(argv[i], "--seconds") == 0 && one)
            seconds = atof(argv[++i]);
        else if (strcmp(argv[i], "--least") == 0 && one)
            least = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--only") == 0 && one)
            only = argv[++i];
        else if (strcmp(argv[i], "--trace") == 0)
            W.trace = true;
        else if (strcmp(argv[i], "--features") == 0)
            list = true;
        else
            return sim_usage();
    }
    sim_find_features(only);
    M.wanted = sim_can[SIM_LEDGER];
    for (int i = 0; list && i < SIM_FEATURE_COUNT; i++)
        printf("%-12s %s\n", sim_features[i].name, sim_can[i] ? "on" : "off");
    if (list) return 0;
    if (to < from) return sim_usage();
    signal(SIGSEGV, sim_crashed);
    signal(SIGABRT, sim_crashed);
    signal(SIGFPE, sim_crashed);
    if (from == to && W.trace) {
        uint64_t hash = sim_run(from);
        sim_report(sim_work(), hash);
        return 0;
    }
    sim_range(from, to, seconds, least);
    return 0;
}
