/* simmoney.h - law 6 in the simulator: a store under the gateway, prices, budgets, scoped keys and tags, crashes.

   Part of sim.c, which includes it once. The onlooker keeps books of his own: every request that is handed to the
   world with what the ledger's intent says was reserved for it, what its trace says it cost, and what the provider
   would bill for it. A crash is a call of LMDB that fails, and after it each one (LLMGWI_STORE_FAULTS): nothing
   that the gateway does from then on reaches the files, the world or the caller. The gateway is closed, its calls
   have vanished, and the next one opens the same store. */
#ifndef SIMMONEY_H
#define SIMMONEY_H

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#define MONEY_KEYS 3
#define MONEY_TAGS 4
#define MONEY_BUDGETS 6
#define MONEY_LIMITS (MONEY_BUDGETS * 3 + MONEY_KEYS * 3)
#define MONEY_PERIODS 8 /* of a limit, the last ones */
#define MONEY_HOUR 3600

typedef enum money_state {
    MONEY_FLIES = 0, /* no end of it was seen */
    MONEY_SETTLED,   /* its trace said what it cost */
    MONEY_VANISHED   /* the gateway crashed before */
} money_state;

/* One request that was handed to http, or one that the ledger found after a crash and that never was. */
typedef struct money_attempt {
    uint64_t number; /* of its intent */
    int call, provider, model, life;
    uint32_t epoch;
    money_state state;
    bool priced, told;         /* told: the provider could say what it bills */
    bool over;                 /* its transfer is */
    int64_t began_s, ended_us; /* wall clock; simulated */
    int64_t reserved;
    int64_t held, charge; /* in our books at present: reserved, spent */
    llmgw_cost cost;
    int64_t bill;  /* the provider's own account */
    uint32_t look; /* the look at the ledger that found its row */
    bool has_row;
    llmgw_cost row;
} money_attempt;

typedef struct money_period {
    int64_t from_s, spent, reserved;
    bool whole; /* the limit was in force in all of it */
} money_period;

/* A budget's limit of one period, ours or a scoped key's. */
typedef struct money_limit {
    char name[8], of[16];
    int kind, per; /* LLMGWI_LEDGER_OF_..., LLMGWI_LEDGER_DAY... */
    int64_t pico;
    bool hard, allow_unknown, on, is_key;
    money_period periods[MONEY_PERIODS];
} money_limit;

typedef struct money_row {
    uint64_t id;
    int64_t hour_s, input, output, duration_us;
    int provider, model, key; /* key: -1: none */
    unsigned tags;
    char route[8];
    llmgw_code code;
    llmgw_cost cost;
    bool usage_estimated, recovered;
} money_row;

typedef enum money_crash_kind {
    MONEY_CRASH_STORE = 0, /* at a call of LMDB */
    MONEY_CRASH_BEFORE,    /* a request is handed over: the provider never sees it */
    MONEY_CRASH_AFTER,     /* the provider has it */
    MONEY_CRASH_TURN,      /* between two turns */
    MONEY_CRASHES
} money_crash_kind;

static struct {
    bool on, wanted;
    char dir[64];
    uint64_t rng;
    bool peeking, crashed, checks_open; /* peeking: the onlooker reads the store: no faults */
    int64_t fuse;                       /* calls of LMDB, or requests, until the crash; 0: none */
    money_crash_kind kind;
    int64_t crash_us[8], dead_us; /* when the next ones are armed; dead_us: of the last */
    int crashes, crash_next, life;
    bool sure;  /* and no trace is on its way */
    bool exact; /* our books and the ledger's are the same: no crash since they were compared */

    llmgw_budget budgets[MONEY_BUDGETS];
    char budget_names[MONEY_BUDGETS][8], budget_of[MONEY_BUDGETS][16];
    int budget_count;
    llmgw_budget used[MONEY_BUDGETS]; /* of this life */
    size_t used_count;
    money_limit limits[MONEY_LIMITS];
    int limit_count;
    int key_count;
    char secrets[MONEY_KEYS][LLMGW_KEY_TEXT], key_names[MONEY_KEYS][8];
    llmgw_key keys[MONEY_KEYS];
    bool unpriced[WORLD_PROVIDERS][WORLD_MODELS];

    money_attempt *attempts;
    size_t attempt_count, attempt_cap;
    money_row *rows;
    size_t row_count, row_cap;
    uint32_t looks;
    int64_t look_us; /* when the next one is */
    int lock_fd;     /* another process writes; -1: none does */
    int64_t unlock_us;
} M;

static const char *const money_tag_names[MONEY_TAGS] = {"t0", "t1", "t2", "t3"};

/* ---- faults ---- */

static void money_crash(const char *where) {
    M.crashed = true;
    M.fuse = 0;
    M.dead_us = W.now_us;
    WORLD_TRACE(&W, "crash      %s", where);
}

static int llmgwi_store_fault(const char *call) {
    if (M.peeking) return 0;
    if (M.crashed) return MDB_PANIC;
    if (M.fuse <= 0 || M.kind != MONEY_CRASH_STORE || --M.fuse) return 0;
    money_crash(call);
    return MDB_PANIC;
}

/* A request is about to reach the world. False: the process has died. */
static bool money_lives(world *w) {
    (void)w;
    if (!M.crashed && M.fuse > 0 && M.kind == MONEY_CRASH_BEFORE && !--M.fuse)
        money_crash("before a request is sent");
    return !M.crashed;
}

/* The poll of a process that is gone returns, so that it can be closed. */
static bool money_gone(world *w) {
    (void)w;
    if (M.crashed && !S.closing && S.gw) llmgw_wake(S.gw);
    return M.crashed;
}

static void money_started(void) {
    if (M.fuse > 0 && M.kind == MONEY_CRASH_AFTER && !--M.fuse) money_crash("after a request was sent");
}

/* Another process begins to write, for a while. */
static void money_busy(void) {
    char path[64];
    if (M.lock_fd >= 0 || !S.gw || !S.gw->ledger || !world_chance(&M.rng, 0.003)) return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", S.gw->ledger->live->lock_fd);
    M.lock_fd = open(path, O_RDWR | O_CLOEXEC);
    if (M.lock_fd >= 0 && flock(M.lock_fd, LOCK_EX | LOCK_NB) != 0)
        sim_fail("6", -1, "the store's lock is held");
    M.unlock_us = W.now_us + world_between(&M.rng, 1, 400000);
}

static void money_idle(bool now) {
    if (M.lock_fd < 0 || (!now && W.now_us < M.unlock_us)) return;
    (void)close(M.lock_fd);
    M.lock_fd = -1;
}

/* ---- what concerns what ---- */

static unsigned money_tags_of(const sim_call *call) {
    unsigned tags = 0;
    for (int i = 0; i < call->tag_count; i++) tags |= 1u << call->tags[i];
    return tags;
}

static const char *money_route_of(const sim_call *call) {
    return call->route >= 0 ? S.routes[call->route].name : S.aliases[call->target];
}

static bool money_concerns(const money_limit *limit, const char *route, int key, unsigned tags) {
    if (limit->kind == LLMGWI_LEDGER_OF_KEY) return key >= 0 && !strcmp(limit->of, M.key_names[key]);
    if (limit->kind == LLMGWI_LEDGER_OF_ROUTE) return !strcmp(limit->of, route);
    for (int t = 0; t < MONEY_TAGS && limit->kind == LLMGWI_LEDGER_OF_TAG; t++)
        if (tags >> t & 1 && !strcmp(limit->of, money_tag_names[t])) return true;
    return limit->kind == LLMGWI_LEDGER_OF_ALL;
}

/* The C library's calendar, not the header's. */
static int64_t money_from(int per, int64_t wall_s) {
    time_t at = (time_t)wall_s;
    struct tm parts;
    gmtime_r(&at, &parts);
    parts.tm_hour = parts.tm_min = parts.tm_sec = 0;
    if (per == LLMGWI_LEDGER_MONTH) parts.tm_mday = 1;
    return per == LLMGWI_LEDGER_TOTAL ? 0 : (int64_t)timegm(&parts);
}

static money_period *money_period_of(money_limit *limit, int64_t wall_s) {
    int64_t from = money_from(limit->per, wall_s);
    money_period *oldest = &limit->periods[0];
    for (int i = 0; i < MONEY_PERIODS; i++) {
        if (limit->periods[i].from_s == from) return &limit->periods[i];
        if (limit->periods[i].from_s < oldest->from_s) oldest = &limit->periods[i];
    }
    memset(oldest, 0, sizeof *oldest);
    oldest->from_s = from;
    oldest->whole = limit->on && from > world_wall_s(&W) - (W.now_us - W.start_us) / 1000000;
    return oldest;
}

/* What our books have for an attempt. */
static void money_book(money_attempt *a, int64_t held, int64_t charge) {
    const sim_call *call = &C[a->call];
    for (int i = 0; i < M.limit_count; i++) {
        if (!money_concerns(&M.limits[i], money_route_of(call), call->key, money_tags_of(call))) continue;
        money_period *period = money_period_of(&M.limits[i], a->began_s);
        period->reserved += held - a->held;
        period->spent += charge - a->charge;
    }
    a->held = held;
    a->charge = charge;
}

static void money_limits_hold(int number, const char *route, int key, unsigned tags) {
    for (int i = 0; i < M.limit_count; i++) {
        money_limit *limit = &M.limits[i];
        if (!limit->on || !limit->hard || !money_concerns(limit, route, key, tags)) continue;
        money_period *period = money_period_of(limit, world_wall_s(&W));
        if (period->spent + period->reserved > limit->pico)
            sim_fail("6", number,
                     "budget %s of %s: %lld spent, %lld reserved with this attempt, the limit is %lld",
                     limit->name, limit->of, (long long)period->spent, (long long)period->reserved,
                     (long long)limit->pico);
    }
}

/* ---- attempts ---- */

static int64_t sim_rate(int provider, int model, bool output);

/* What stands in the ledger's live store for an intent, as another process would see it: committed. */
static bool money_intent(uint64_t number, llmgwi_ledger_record *record) {
    llmgwi_store_txn txn;
    llmgwi_base_str value;
    llmgwi_ledger *ledger = S.gw->ledger;
    M.peeking = true;
    bool there = llmgwi_store_read(ledger->live, &txn);
    if (there) {
        there = llmgwi_store_get(&txn, LLMGWI_STORE_INTENT, llmgwi_ledger_u64(&number), &value) &&
                llmgwi_ledger_read(ledger, number, value, record);
        (void)llmgwi_store_end(&txn, false);
    }
    M.peeking = false;
    return there;
}

/* Law 6: estimated input x 1.15 + output cap, priced. */
static void money_check_reserved(const sim_call *call, const money_attempt *a) {
    int64_t out = sim_rate(a->provider, a->model, true) * (call->ask.call % 2 ? 4000 : 4096);
    int64_t in = a->reserved - out, rate = sim_rate(a->provider, a->model, false);
    if (!a->priced && !a->reserved) return;
    if (in <= 0 || in % rate || in / rate > 4096)
        sim_fail("6", a->call, "%lld reserved, the output alone may cost %lld", (long long)a->reserved,
                 (long long)out);
}

static money_attempt *money_add(void) {
    if (M.attempt_count == M.attempt_cap) {
        M.attempt_cap = M.attempt_cap ? M.attempt_cap * 2 : 4096;
        M.attempts = (money_attempt *)realloc(M.attempts, M.attempt_cap * sizeof *M.attempts);
        if (!M.attempts) abort();
    }
    money_attempt *a = &M.attempts[M.attempt_count++];
    memset(a, 0, sizeof *a);
    return a;
}

/* By the number of its intent: they rise. */
static money_attempt *money_find(uint64_t number) {
    size_t low = 0, high = M.attempt_count;
    while (low < high) {
        size_t at = (low + high) / 2;
        if (M.attempts[at].number < number)
            low = at + 1;
        else
            high = at;
    }
    return low < M.attempt_count && M.attempts[low].number == number ? &M.attempts[low] : NULL;
}

static void money_check_unknown(const sim_call *call, const money_attempt *a) {
    for (int i = 0; i < M.limit_count && !a->priced; i++)
        if (M.limits[i].on && M.limits[i].hard && !M.limits[i].allow_unknown &&
            money_concerns(&M.limits[i], money_route_of(call), call->key, money_tags_of(call)))
            sim_fail("6", a->call, "a target of unknown price, and budget %s does not allow that",
                     M.limits[i].name);
}

/* Law 6 at the moment a request is handed to http: its intent is committed, and says what is sent. */
static void money_start(sim_call *call, const world_seen *seen) {
    const llmgwi_engine_attempt *engine = (const llmgwi_engine_attempt *)seen->user;
    llmgwi_ledger_record record;
    llmgwi_base_mem mem = {NULL, NULL};
    int number = call->ask.call;
    if (!M.on) return;
    memset(&record, 0, sizeof record);
    llmgwi_base_buf_init(&record.text, &mem, 1 << 20);
    if (!engine->intent || !money_intent(engine->intent, &record))
        sim_fail("6", number, "a request goes out, and its intent is not committed");
    const llmgw_ledger_row *row = &record.row;
    bool same = record.head.state == LLMGWI_LEDGER_INTENT && row->epoch == engine->epoch &&
                !strcmp(row->provider, W.providers[seen->provider].name) &&
                !strcmp(row->model, W.providers[seen->provider].model[seen->model]) &&
                !strcmp(row->route, money_route_of(call)) &&
                !strcmp(row->key, call->key >= 0 ? M.key_names[call->key] : "") &&
                row->tag_count == (size_t)call->tag_count;
    if (!same) sim_fail("6", number, "the intent of attempt %u says something else", engine->epoch);
    money_attempt *a = money_add();
    a->number = engine->intent;
    if (M.attempt_count > 1 && a->number <= a[-1].number)
        sim_fail("6", number, "intents' numbers do not rise");
    a->call = number;
    a->life = M.life;
    a->epoch = engine->epoch;
    a->provider = seen->provider;
    a->model = seen->model;
    a->priced = !M.unpriced[a->provider][a->model];
    a->began_s = world_wall_s(&W);
    a->reserved = record.head.reserved_pico;
    llmgwi_base_buf_free(&record.text);
    if (row->cost.known != a->priced) sim_fail("6", number, "known and unknown prices are mixed up");
    money_check_reserved(call, a);
    money_check_unknown(call, a);
    call->paid[a->epoch] = (uint32_t)M.attempt_count;
    money_book(a, a->reserved, 0);
    money_limits_hold(number, money_route_of(call), call->key, money_tags_of(call));
    world_note(&W, a->number, (uint64_t)a->reserved);
}

/* Its transfer is over: what the provider bills is known to the provider. */
static void money_done(sim_call *call, const world_transfer *t) {
    if (!M.on || !call->paid[t->seen.nth]) return;
    money_attempt *a = &M.attempts[call->paid[t->seen.nth] - 1];
    if (!M.crashed) a->over = true;
    if (!M.crashed && a->state == MONEY_FLIES && !a->has_row)
        money_book(a, 0, 0); /* its trace is on its way */
    if (t->stage < 1 || t->status != 200) return;
    a->told = !t->spoilt && t->given == t->body.n;
    a->bill =
        t->input * sim_rate(a->provider, a->model, false) + t->output * sim_rate(a->provider, a->model, true);
    T.billed += a->bill;
}

static bool money_same(const llmgw_cost *a, const llmgw_cost *b) {
    return a->known == b->known && a->estimated == b->estimated && (!a->known || a->pico_usd == b->pico_usd);
}

/* The end of an attempt, as its trace says it. */
static void money_settled(sim_call *call, const llmgw_trace *trace) {
    if (!M.on) return;
    if (trace->epoch > SIM_ATTEMPTS || !call->paid[trace->epoch]) { /* it was never sent */
        if (trace->sent || !trace->cost.known || trace->cost.pico_usd)
            sim_fail("6", call->ask.call, "attempt %u was not sent, and costs something", trace->epoch);
        T.broke += trace->code == LLMGW_E_BUDGET;
        return;
    }
    money_attempt *a = &M.attempts[call->paid[trace->epoch] - 1];
    a->state = MONEY_SETTLED;
    a->cost = trace->cost;
    a->ended_us = W.now_us;
    if (!a->priced && a->cost.known && a->cost.pico_usd) sim_fail("6", a->call, "an unknown price is known");
    if (!a->priced && a->cost.known && (trace->usage.known || !trace->code))
        sim_fail("6", a->call, "what has no known price costs nothing");
    if (a->has_row && !money_same(&a->row, &a->cost))
        sim_fail("6", a->call, "attempt %u cost %lld, its row says %lld", a->epoch,
                 (long long)a->cost.pico_usd, (long long)a->row.pico_usd);
    money_book(a, 0, a->cost.known ? a->cost.pico_usd : 0);
}

/* After a crash: what was in flight is charged as reserved; of what had ended the settlement may be lost or not. Until
   the next look our books have the least that it can be. */
static void money_vanish(void) {
    for (size_t i = M.attempt_count; i-- > 0;) {
        money_attempt *a = &M.attempts[i];
        if (a->state == MONEY_FLIES) {
            money_book(a, 0, a->over ? 0 : a->reserved);
            a->state = MONEY_VANISHED;
            a->ended_us = W.now_us;
        } else if (!a->look && a->charge > a->reserved) {
            money_book(a, 0, a->reserved);
        }
    }
    M.exact = false;
}

/* ---- the ledger's rows ---- */

static int money_digit(const char *text, char head) {
    return text[0] == head && text[1] >= '0' && text[1] <= '9' && !text[2] ? text[1] - '0' : -1;
}

static bool money_on_row(const llmgw_ledger_row *from, void *user) {
    (void)user;
    if (M.row_count == M.row_cap) {
        M.row_cap = M.row_cap ? M.row_cap * 2 : 4096;
        M.rows = (money_row *)realloc(M.rows, M.row_cap * sizeof *M.rows);
        if (!M.rows) abort();
    }
    money_row *row = &M.rows[M.row_count++];
    memset(row, 0, sizeof *row);
    row->id = from->id;
    row->hour_s = from->time_us / 1000000 - from->time_us / 1000000 % MONEY_HOUR;
    row->input = from->usage.input;
    row->output = from->usage.output;
    row->duration_us = from->duration_us;
    row->provider = money_digit(from->provider, 'p');
    if (row->provider < 0 || row->provider >= W.provider_count)
        sim_fail("6", -1, "a row of provider \"%s\"", from->provider);
    row->model = strcmp(from->model, W.providers[row->provider].model[1]) == 0;
    if (strcmp(from->model, W.providers[row->provider].model[row->model]) != 0)
        sim_fail("6", -1, "a row of model \"%s\"", from->model);
    row->key = money_digit(from->key, 'k');
    for (size_t i = 0; i < from->tag_count; i++) row->tags |= 1u << money_digit(from->tags[i], 't');
    snprintf(row->route, sizeof row->route, "%s", from->route);
    row->code = from->code;
    row->cost = from->cost;
    row->usage_estimated = from->usage.estimated;
    row->recovered = from->recovered;
    if (!from->epoch) sim_fail("6", -1, "a row of the cache, which is off");
    world_note(&W, row->id,
               (uint64_t)row->cost.pico_usd << 2 | (uint64_t)row->cost.known << 1 | row->recovered);
    return true;
}

/* A row of an attempt whose books are ours. */
static void money_check_row(money_attempt *a, const money_row *row) {
    const sim_call *call = &C[a->call];
    int number = a->call;
    llmgw_cost reserved;
    memset(&reserved, 0, sizeof reserved);
    reserved.known = a->priced;
    reserved.estimated = true;
    reserved.pico_usd = a->reserved;
    if (a->look == M.looks) sim_fail("6", number, "attempt %u has two rows", a->epoch);
    if (a->provider != row->provider || a->model != row->model || call->key != row->key ||
        money_tags_of(call) != row->tags || strcmp(money_route_of(call), row->route) != 0)
        sim_fail("6", number, "the row of attempt %u names others", a->epoch);
    if (a->has_row && !money_same(&a->row, &row->cost))
        sim_fail("6", number, "the row of attempt %u changed", a->epoch);
    if (row->hour_s != a->began_s - a->began_s % MONEY_HOUR)
        sim_fail("6", number, "the row of attempt %u is of another hour", a->epoch);
    a->look = M.looks;
    a->has_row = true;
    a->row = row->cost;
    if (row->recovered) {
        if (a->life == M.life) sim_fail("6", number, "attempt %u was recovered, nobody crashed", a->epoch);
        if (!money_same(&row->cost, &reserved))
            sim_fail("6", number, "attempt %u was recovered with %lld, reserved were %lld", a->epoch,
                     (long long)row->cost.pico_usd, (long long)a->reserved);
        T.recovered++;
    } else if (a->state == MONEY_VANISHED && !a->over) {
        sim_fail("6", number, "attempt %u was in flight at a crash, its row is not recovered", a->epoch);
    } else if (a->state == MONEY_SETTLED && !money_same(&row->cost, &a->cost)) {
        sim_fail("6", number, "attempt %u cost %lld, its row says %lld", a->epoch,
                 (long long)a->cost.pico_usd, (long long)row->cost.pico_usd);
    }
    if (!a->priced && row->cost.known && row->cost.pico_usd)
        sim_fail("6", number, "an unknown price is known");
    if (a->priced && a->told && row->cost.known && !row->cost.estimated && row->cost.pico_usd &&
        row->cost.pico_usd != a->bill)
        sim_fail("6", number, "the provider bills %lld for attempt %u, its row says %lld", (long long)a->bill,
                 a->epoch, (long long)row->cost.pico_usd);
}

/* Every attempt has its row, each row its attempt; one that a crash kept from being sent has only a row. */
static int64_t money_check_rows(void) {
    int64_t flying = 0;
    M.sure = M.exact;
    for (size_t i = 0; i < M.row_count; i++) {
        money_attempt *a = money_find(M.rows[i].id);
        if (i && M.rows[i].id <= M.rows[i - 1].id) sim_fail("6", -1, "rows are not in order");
        if (a)
            money_check_row(a, &M.rows[i]);
        else if (!M.rows[i].recovered || !M.life)
            sim_fail("6", -1, "a row of an attempt that was never made");
    }
    for (size_t i = 0; i < M.attempt_count; i++) {
        const money_attempt *a = &M.attempts[i];
        if (a->state == MONEY_FLIES && a->over) M.sure = false;
        if (a->look == M.looks) continue;
        flying++;
        if (a->state != MONEY_FLIES) sim_fail("6", a->call, "attempt %u is over, and has no row", a->epoch);
    }
    return flying;
}

/* ---- budgets as the ledger has them ---- */

typedef struct money_sum {
    int64_t spent, reserved, over;
} money_sum;

/* From the rows and from what is in flight. */
static money_sum money_expected(const money_limit *limit, int64_t from_s) {
    money_sum sum = {0, 0, 0};
    for (size_t i = 0; i < M.row_count; i++) {
        const money_row *row = &M.rows[i];
        if (money_from(limit->per, row->hour_s) == from_s && row->cost.known &&
            money_concerns(limit, row->route, row->key, row->tags))
            sum.spent += row->cost.pico_usd;
    }
    for (size_t i = 0; i < M.attempt_count; i++) {
        const money_attempt *a = &M.attempts[i];
        const sim_call *call = &C[a->call];
        if (money_from(limit->per, a->began_s) != from_s ||
            !money_concerns(limit, money_route_of(call), call->key, money_tags_of(call)))
            continue;
        if (a->look != M.looks) sum.reserved += a->reserved;
        if (a->look == M.looks && a->row.known && a->row.pico_usd > a->reserved)
            sum.over += a->row.pico_usd - a->reserved;
    }
    return sum;
}

static void money_compare(const money_limit *limit, const money_sum *want, int64_t spent, int64_t reserved) {
    if (spent != want->spent || reserved != want->reserved)
        sim_fail("6", -1, "budget %s of %s: the ledger has %lld spent, %lld reserved; it is %lld and %lld",
                 limit->name, limit->of, (long long)spent, (long long)reserved, (long long)want->spent,
                 (long long)want->reserved);
}

static void money_check_limit(money_limit *limit) {
    int64_t now_s = world_wall_s(&W);
    money_period *period = money_period_of(limit, now_s);
    money_sum want = money_expected(limit, period->from_s);
    llmgwi_ledger *ledger = S.gw->ledger;
    llmgwi_ledger_budget budget;
    llmgwi_ledger_slot slot;
    llmgwi_ledger_spent sum;
    llmgwi_store_txn txn;
    llmgwi_base_str value;
    if (limit->hard && limit->on && period->whole && want.spent + want.reserved > limit->pico + want.over)
        sim_fail(
            "6", -1,
            "budget %s of %s: %lld spent and reserved, the limit is %lld, estimates were exceeded by %lld",
            limit->name, limit->of, (long long)(want.spent + want.reserved), (long long)limit->pico,
            (long long)want.over);
    if (M.sure && (period->spent != want.spent || period->reserved != want.reserved))
        sim_fail("6", -1, "budget %s of %s: the traces say %lld spent, %lld reserved, the rows %lld and %lld",
                 limit->name, limit->of, (long long)period->spent, (long long)period->reserved,
                 (long long)want.spent, (long long)want.reserved);
    period->spent = want.spent;
    period->reserved = want.reserved;
    memset(&budget, 0, sizeof budget);
    budget.kind = limit->kind;
    budget.of = limit->of;
    budget.per = limit->per;
    slot.budget = llmgwi_ledger_rule_hash(ledger, &budget);
    slot.from_s = period->from_s;
    if (!llmgwi_store_read(ledger->live, &txn)) sim_fail("6", -1, "the live store cannot be read");
    if (limit->on && llmgwi_store_get(&txn, LLMGWI_STORE_BUDGET, llmgwi_ledger_slot_key(&slot), &value) &&
        value.n == sizeof sum) {
        memcpy(&sum, value.p, sizeof sum);
        money_compare(limit, &want, sum.spent, sum.reserved);
    }
    (void)llmgwi_store_end(&txn, false);
}

static void money_check_states(void) {
    llmgw_budget_state states[MONEY_BUDGETS * 3 + 1];
    static const char *const pers[] = {"day", "month", "total"};
    size_t count = llmgw_budgets(S.gw, states, LLMGWI_BASE_COUNT(states)), on = 0;
    for (int i = 0; i < M.limit_count; i++) {
        money_limit *limit = &M.limits[i];
        if (!limit->on || limit->is_key) continue;
        on++;
        size_t at = 0;
        while (at < count &&
               (strcmp(states[at].name, limit->name) != 0 || strcmp(states[at].per, pers[limit->per]) != 0))
            at++;
        if (at == count || states[at].limit_pico != limit->pico || states[at].soft == limit->hard)
            sim_fail("6", -1, "llmgw_budgets does not know budget %s as it is", limit->name);
        money_sum want = money_expected(limit, money_from(limit->per, world_wall_s(&W)));
        money_compare(limit, &want, states[at].spent_pico, states[at].reserved_pico);
    }
    if (on != count)
        sim_fail("6", -1, "llmgw_budgets: %lu, there are %lu", (unsigned long)count, (unsigned long)on);
}

/* Nothing stays reserved when nothing is in flight; no record stays that is no attempt in flight. */
static void money_check_live(int64_t flying) {
    llmgwi_store_txn txn;
    llmgwi_store_cursor cursor;
    llmgwi_base_str key, value;
    llmgwi_ledger_spent sum;
    if (!llmgwi_store_read(S.gw->ledger->live, &txn)) sim_fail("6", -1, "the live store cannot be read");
    uint64_t intents = llmgwi_store_count(&txn, LLMGWI_STORE_INTENT);
    if (intents != (uint64_t)flying)
        sim_fail("6", -1, "%lld attempts are in flight, the live store has %llu records", (long long)flying,
                 (unsigned long long)intents);
    if (!llmgwi_store_cursor_open(&txn, LLMGWI_STORE_BUDGET, &cursor)) sim_fail("6", -1, "no cursor");
    for (bool at = llmgwi_store_move(&cursor, LLMGWI_STORE_FIRST, &key, &value); at;
         at = llmgwi_store_move(&cursor, LLMGWI_STORE_NEXT, &key, &value)) {
        memcpy(&sum, value.p, sizeof sum);
        if (sum.reserved < 0 || (sum.reserved && !flying))
            sim_fail("6", -1, "%lld stays reserved, nothing is in flight", (long long)sum.reserved);
    }
    llmgwi_store_cursor_close(&cursor);
    (void)llmgwi_store_end(&txn, false);
}

/* ---- totals ---- */

typedef struct money_totalling {
    const llmgw_ledger_filter *filter;
    unsigned by;
    int64_t matched, cost;
} money_totalling;

static bool money_passes(const llmgw_ledger_filter *filter, const money_row *row) {
    if (filter->provider && money_digit(filter->provider, 'p') != row->provider) return false;
    if (filter->key && money_digit(filter->key, 'k') != row->key) return false;
    if (filter->tag && !(row->tags >> money_digit(filter->tag, 't') & 1)) return false;
    return !filter->route || strcmp(filter->route, row->route) == 0;
}

static bool money_belongs(const money_totalling *job, const llmgw_ledger_total *total, const money_row *row) {
    unsigned by = job->by;
    int key = money_digit(total->key, 'k'), tag = money_digit(total->tag, 't');
    if (!money_passes(job->filter, row)) return false;
    if (by & LLMGW_BY_HOUR && total->time_s != row->hour_s) return false;
    if (by & LLMGW_BY_DAY && !(by & LLMGW_BY_HOUR) && total->time_s != row->hour_s - row->hour_s % 86400)
        return false;
    if (by & LLMGW_BY_PROVIDER && money_digit(total->provider, 'p') != row->provider) return false;
    if (by & LLMGW_BY_MODEL && strcmp(total->model, W.providers[row->provider].model[row->model]) != 0)
        return false;
    if (by & LLMGW_BY_ROUTE && strcmp(total->route, row->route) != 0) return false;
    if (by & LLMGW_BY_KEY && key != row->key) return false;
    return !(by & LLMGW_BY_TAG) || (tag < 0 ? !row->tags : (row->tags >> tag & 1) != 0);
}

static bool money_on_total(const llmgw_ledger_total *total, void *user) {
    money_totalling *job = (money_totalling *)user;
    llmgw_ledger_total sum;
    memset(&sum, 0, sizeof sum);
    for (size_t i = 0; i < M.row_count; i++) {
        const money_row *row = &M.rows[i];
        if (!money_belongs(job, total, row)) continue;
        sum.attempts++;
        sum.failures += row->code != LLMGW_OK;
        sum.unknown += !row->cost.known;
        sum.estimated += row->usage_estimated || row->cost.estimated;
        sum.recovered += row->recovered;
        sum.input += row->input;
        sum.output += row->output;
        sum.duration_us += row->duration_us;
        sum.cost.pico_usd += row->cost.known ? row->cost.pico_usd : 0;
    }
    if (sum.attempts != total->attempts || sum.failures != total->failures || sum.unknown != total->unknown ||
        sum.estimated != total->estimated || sum.recovered != total->recovered || sum.input != total->input ||
        sum.output != total->output || sum.duration_us != total->duration_us ||
        sum.cost.pico_usd != total->cost.pico_usd || !sum.attempts)
        sim_fail("6", -1,
                 "totals by %u, %s/%s/%s/%s/%s: %lld attempts, %lld failed, %lld unknown cost %lld, the rows "
                 "say %lld, "
                 "%lld, %lld, %lld",
                 job->by, total->provider, total->model, total->route, total->key, total->tag,
                 (long long)total->attempts, (long long)total->failures, (long long)total->unknown,
                 (long long)total->cost.pico_usd, (long long)sum.attempts, (long long)sum.failures,
                 (long long)sum.unknown, (long long)sum.cost.pico_usd);
    job->matched += total->attempts;
    job->cost += total->cost.pico_usd;
    return true;
}

static int64_t money_places(const money_row *row, unsigned by) {
    int64_t tags = 0;
    for (int t = 0; t < MONEY_TAGS; t++) tags += row->tags >> t & 1;
    return by & LLMGW_BY_TAG && tags ? tags : 1;
}

static void money_check_totals(unsigned by, const llmgw_ledger_filter *filter) {
    money_totalling job = {filter, by, 0, 0};
    int64_t rows = 0, cost = 0;
    if (llmgw_ledger_totals(S.gw, filter, by, money_on_total, &job) < 0)
        sim_fail("6", -1, "llmgw_ledger_totals failed");
    for (size_t i = 0; i < M.row_count; i++) {
        if (!money_passes(filter, &M.rows[i])) continue;
        int64_t places = money_places(&M.rows[i], by);
        rows += places;
        cost += M.rows[i].cost.known ? M.rows[i].cost.pico_usd * places : 0;
    }
    if (job.matched != rows || job.cost != cost)
        sim_fail("6", -1, "totals by %u have %lld attempts that cost %lld, the rows %lld and %lld", by,
                 (long long)job.matched, (long long)job.cost, (long long)rows, (long long)cost);
}

static void money_check_some_totals(void) {
    static const unsigned masks[] = {
        LLMGW_BY_PROVIDER | LLMGW_BY_MODEL, LLMGW_BY_ROUTE,
        LLMGW_BY_KEY | LLMGW_BY_TAG,        LLMGW_BY_TAG,
        LLMGW_BY_DAY | LLMGW_BY_PROVIDER,   LLMGW_BY_HOUR,
        LLMGW_BY_HOUR | LLMGW_BY_KEY,       LLMGW_BY_DAY | LLMGW_BY_TAG | LLMGW_BY_MODEL};
    static const char *const providers[] = {"p0", "p1", "p2", "p3", "p4"};
    llmgw_ledger_filter filter;
    memset(&filter, 0, sizeof filter);
    money_check_totals(0, &filter);
    money_check_totals(masks[world_below(&M.rng, LLMGWI_BASE_COUNT(masks))], &filter);
    int64_t what = world_below(&M.rng, 4);
    if (what == 0) filter.provider = providers[world_below(&M.rng, W.provider_count)];
    if (what == 1) filter.tag = money_tag_names[world_below(&M.rng, MONEY_TAGS)];
    if (what == 2 && M.key_count) filter.key = M.key_names[world_below(&M.rng, M.key_count)];
    if (what == 3) filter.route = S.routes[world_below(&M.rng, S.route_count)].name;
    money_check_totals(masks[world_below(&M.rng, LLMGWI_BASE_COUNT(masks))], &filter);
}

/* A look at the whole ledger, between two turns. */
static void money_look(void) {
    if (!M.on) return;
    money_idle(true);
    llmgw_code code = llmgw_flush(S.gw);
    if (M.crashed) return;
    if (code) sim_fail("6", -1, "llmgw_flush: %s", llmgw_code_name(code));
    M.peeking = true;
    M.looks++;
    M.row_count = 0;
    if (llmgw_ledger_query(S.gw, NULL, money_on_row, NULL) != (int64_t)M.row_count)
        sim_fail("6", -1, "llmgw_ledger_query failed");
    int64_t flying = money_check_rows();
    for (int i = 0; i < M.limit_count; i++) money_check_limit(&M.limits[i]);
    for (size_t i = 0; i < M.attempt_count; i++) {
        money_attempt *a = &M.attempts[i];
        bool there = a->look == M.looks;
        a->held = there ? 0 : a->reserved;
        a->charge = there && a->row.known ? a->row.pico_usd : 0;
    }
    money_check_states();
    money_check_live(flying);
    money_check_some_totals();
    M.peeking = false;
    M.exact = true;
    T.looks++;
    WORLD_TRACE(&W, "ledger     %lu rows, %lld attempts in flight", (unsigned long)M.row_count,
                (long long)flying);
}

/* ---- a seed's store, budgets and keys ---- */

static void money_limit_add(const char *name, int kind, const char *of, int per, int64_t pico, bool hard,
                            bool allow_unknown, bool is_key) {
    money_limit *limit = &M.limits[M.limit_count++];
    memset(limit, 0, sizeof *limit);
    snprintf(limit->name, sizeof limit->name, "%s", name);
    snprintf(limit->of, sizeof limit->of, "%s", of);
    limit->kind = kind;
    limit->per = per;
    limit->pico = pico;
    limit->hard = hard;
    limit->allow_unknown = allow_unknown;
    limit->is_key = is_key;
    limit->on = true;
    for (int i = 0; i < MONEY_PERIODS; i++) limit->periods[i].from_s = -1 - i;
}

/* Micro-dollars, so that the limit in pico-dollars is whole: a reservation is 0.002 to 0.1 USD. */
static int64_t money_draw_micro(void) { return (int64_t)(30000 * exp(world_unit(&M.rng) * log(200))); }

static void money_draw_budget(int i) {
    llmgw_budget *budget = &M.budgets[i];
    llmgw_opt *limits[3] = {&budget->per_day_usd, &budget->per_month_usd, &budget->total_usd};
    static const int kinds[] = {LLMGWI_LEDGER_OF_ALL, LLMGWI_LEDGER_OF_KEY, LLMGWI_LEDGER_OF_TAG,
                                LLMGWI_LEDGER_OF_ROUTE};
    int kind = kinds[world_below(&M.rng, 4)];
    memset(budget, 0, sizeof *budget);
    snprintf(M.budget_names[i], sizeof M.budget_names[i], "b%d", i);
    char *of = M.budget_of[i];
    of[0] = 0;
    budget->name = M.budget_names[i];
    budget->soft = world_chance(&M.rng, 0.3);
    budget->allow_unknown = world_chance(&M.rng, 0.6);
    if (kind == LLMGWI_LEDGER_OF_KEY && !M.key_count) kind = LLMGWI_LEDGER_OF_ALL;
    if (kind == LLMGWI_LEDGER_OF_KEY) snprintf(of, 16, "k%d", (int)world_below(&M.rng, M.key_count));
    if (kind == LLMGWI_LEDGER_OF_TAG) snprintf(of, 16, "t%d", (int)world_below(&M.rng, MONEY_TAGS));
    if (kind == LLMGWI_LEDGER_OF_ROUTE) snprintf(of, 16, "r%d", (int)world_below(&M.rng, SIM_ROUTES));
    budget->key = kind == LLMGWI_LEDGER_OF_KEY ? of : NULL;
    budget->tag = kind == LLMGWI_LEDGER_OF_TAG ? of : NULL;
    budget->route = kind == LLMGWI_LEDGER_OF_ROUTE ? of : NULL;
    int must = (int)world_below(&M.rng, 3);
    for (int per = 0; per < 3; per++) {
        int64_t micro = money_draw_micro() * (kind == LLMGWI_LEDGER_OF_ALL ? 4 : 1);
        if (per != must && !world_chance(&M.rng, 0.3)) continue;
        *limits[per] = llmgw_set((double)micro / 1e6);
        money_limit_add(budget->name, kind, of, per, micro * 1000000, !budget->soft, budget->allow_unknown,
                        false);
    }
}

static void money_draw_key(int i) {
    llmgw_key *key = &M.keys[i];
    llmgw_opt *limits[3] = {&key->per_day_usd, &key->per_month_usd, &key->total_usd};
    memset(key, 0, sizeof *key);
    snprintf(M.key_names[i], sizeof M.key_names[i], "k%d", i);
    key->name = M.key_names[i];
    for (int per = 0; per < 3; per++) {
        int64_t micro = money_draw_micro();
        if (!world_chance(&M.rng, 0.3)) continue;
        *limits[per] = llmgw_set((double)micro / 1e6);
        money_limit_add(key->name, LLMGWI_LEDGER_OF_KEY, key->name, per, micro * 1000000, true, false, true);
    }
}

/* Which budgets are configured in this life of the gateway: a new one has to know what was spent before. */
static void money_choose_budgets(void) {
    M.used_count = 0;
    for (int b = 0; b < M.budget_count; b++) {
        bool on = world_chance(&M.rng, 0.8);
        if (on) M.used[M.used_count++] = M.budgets[b];
        for (int i = 0; i < M.limit_count; i++) {
            money_limit *limit = &M.limits[i];
            if (strcmp(limit->name, M.budget_names[b]) != 0) continue;
            limit->on = on;
            for (int p = 0; p < MONEY_PERIODS && !on; p++) limit->periods[p].whole = false;
        }
    }
    S.options.budgets = M.used;
    S.options.budget_count = M.used_count;
}

/* The wall clock passes midnight at the end of a month in the first ten minutes of some seeds. */
static void money_set_clock(void) {
    int64_t next = money_from(LLMGWI_LEDGER_MONTH, money_from(LLMGWI_LEDGER_MONTH, W.wall_s) + 32 * 86400);
    if (world_chance(&M.rng, 0.5)) W.wall_s = next - world_below(&M.rng, 900);
}

static void money_remove(const char *path) {
    DIR *dir = opendir(path);
    char name[512];
    if (!dir) return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (unlink(name)) money_remove(name);
    }
    (void)closedir(dir);
    (void)rmdir(path);
}

static void money_clean(void) {
    if (M.dir[0]) money_remove(M.dir);
    M.dir[0] = 0;
}

static void money_make_dir(void) {
    static bool registered;
    if (!registered) (void)atexit(money_clean);
    registered = true;
    snprintf(M.dir, sizeof M.dir, "/dev/shm/sim-XXXXXX");
    if (mkdtemp(M.dir)) return;
    snprintf(M.dir, sizeof M.dir, "/tmp/sim-XXXXXX");
    if (!mkdtemp(M.dir)) sim_fail("open", -1, "no directory for a store");
}

/* After the models are set. One seed in three has a store. */
static void money_setup(uint64_t seed) {
    static const int commits[] = {0, 0, LLMGW_OFF, 1, 500, 2000};
    M.rng = world_seed(seed, 60);
    M.on = M.wanted && world_chance(&M.rng, 0.34);
    M.crashed = M.peeking = false;
    M.fuse = 0;
    M.lock_fd = -1;
    M.life = M.crashes = M.crash_next = M.limit_count = M.key_count = M.budget_count = 0;
    M.attempt_count = M.row_count = M.used_count = 0;
    M.looks = 0;
    M.exact = true;
    memset(M.unpriced, 0, sizeof M.unpriced);
    if (!M.on) return;
    money_make_dir();
    money_set_clock();
    S.options.store.path = M.dir;
    S.options.store.max_bytes = 32 << 20;
    S.options.store.no_sync = world_chance(&M.rng, 0.5);
    S.options.store.commit_ms = commits[world_below(&M.rng, LLMGWI_BASE_COUNT(commits))];
    M.key_count = (int)world_below(&M.rng, MONEY_KEYS + 1);
    for (int i = 0; i < M.key_count; i++) money_draw_key(i);
    M.budget_count = (int)world_below(&M.rng, MONEY_BUDGETS + 1);
    for (int i = 0; i < M.budget_count; i++) money_draw_budget(i);
    for (int i = 0; i < W.provider_count * WORLD_MODELS; i++) {
        int p = i / WORLD_MODELS, m = i % WORLD_MODELS;
        /* of claude's the built-in table knows the price */
        if (W.providers[p].dialect == WORLD_ANTHROPIC || !world_chance(&M.rng, 0.15)) continue;
        memset(&S.models[i].price, 0, sizeof S.models[i].price);
        M.unpriced[p][m] = true;
    }
    money_choose_budgets();
    M.crashes = (int)world_below(&M.rng, 6);
}

/* When they come, once the duration of the run is known. */
static void money_plan(void) {
    int64_t spread = S.until_us - W.now_us;
    for (int i = 0; i < M.crashes; i++) M.crash_us[i] = W.now_us + world_below(&M.rng, spread);
    for (int i = 1; i < M.crashes; i++)
        for (int k = i; k > 0 && M.crash_us[k - 1] > M.crash_us[k]; k--) {
            int64_t other = M.crash_us[k];
            M.crash_us[k] = M.crash_us[k - 1];
            M.crash_us[k - 1] = other;
        }
    M.look_us = W.now_us + world_below(&M.rng, spread / 2);
}

static void money_make_keys(void) {
    llmgw_error error;
    for (int i = 0; M.on && i < M.key_count; i++)
        if (llmgw_key_create(S.gw, &M.keys[i], M.secrets[i], &error))
            sim_fail("open", -1, "llmgw_key_create: %s", error.text);
}

static void money_arm(money_crash_kind kind, int64_t most) {
    M.kind = kind;
    M.fuse = 1 + (int64_t)exp(world_unit(&M.rng) * log((double)most));
}

/* Before each turn. */
static void money_turn(void) {
    if (!M.on) return;
    money_idle(false);
    money_busy();
    if (M.crash_next < M.crashes && W.now_us >= M.crash_us[M.crash_next] && S.alive && !M.fuse) {
        M.crash_next++;
        money_crash_kind kind = (money_crash_kind)world_below(&M.rng, MONEY_CRASHES);
        if (world_chance(&M.rng, 0.4)) kind = MONEY_CRASH_STORE;
        money_arm(kind, kind == MONEY_CRASH_STORE ? 400 : 8);
        if (kind == MONEY_CRASH_TURN) money_crash("between two turns");
    }
    if (W.now_us < M.look_us || M.crashed || M.looks > 6) return;
    M.look_us = W.now_us + world_exponential(&M.rng, (double)(S.until_us - W.start_us) / 4);
    money_look();
}

#endif
