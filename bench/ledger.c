/* ledger.c - what a ledger costs: CPU of an attempt (begin, settle, and its way to the main store) beside a bare LMDB
   commit, and a month's total by model over ten million rows (QUICK: a hundredth of them). The rows are written by the
   ledger itself, with a clock that runs through 30 days. The bare commits are LMDB's own calls, without sync, in the
   same rounds. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include "bench.h"

#define MODELS 40
#define KEYS 5
#define START ((int64_t)1793491200) /* 2026-11-01 */
#define DAYS 30

static int64_t wall_s = START;

static int64_t clock_wall(void *user) {
    (void)user;
    return wall_s;
}

static const llmgwi_base_clock bench_clock = {llmgwi_base_now_us, clock_wall, llmgwi_base_random, NULL};
static const llmgwi_base_mem bench_mem;

typedef struct bench_ledger {
    char path[64];
    llmgwi_store *main;
    llmgwi_ledger *ledger;
} bench_ledger;

static bench_ledger open_ledger(int64_t max_rows, bool no_sync) {
    bench_ledger b;
    llmgw_store at;
    llmgw_error error;
    llmgwi_ledger_budget day;
    memset(&at, 0, sizeof at);
    memset(&day, 0, sizeof day);
    snprintf(b.path, sizeof b.path, "/tmp/llmgw-bench-XXXXXX");
    if (!mkdtemp(b.path)) bench_die("mkdtemp");
    at.path = b.path;
    at.max_bytes = (int64_t)8 << 30;
    at.no_sync = no_sync;
    day.name = "day";
    day.per = LLMGWI_LEDGER_DAY;
    day.limit_pico = INT64_MAX;
    b.main = llmgwi_store_open(&bench_mem, &at, &error);
    b.ledger =
        b.main ? llmgwi_ledger_open(&bench_mem, &bench_clock, b.main, &at, &day, 1, max_rows, &error) : NULL;
    if (!b.ledger) bench_die(error.text);
    return b;
}

static void close_ledger(bench_ledger *b) {
    char command[128];
    llmgwi_ledger_close(b->ledger, false);
    llmgwi_store_close(b->main, false);
    snprintf(command, sizeof command, "rm -rf %s", b->path);
    if (system(command)) bench_die("rm");
}

/* ---- attempts ---- */

static uint64_t seed = 1;

static unsigned draw(unsigned below) {
    seed += LLMGWI_BASE_STEP;
    return (unsigned)(llmgwi_base_mix(seed) % below);
}

static void an_attempt(llmgwi_ledger_intent *intent, llmgw_ledger_row *row) {
    static char models[MODELS][32], keys[KEYS][16];
    static const char *tags[KEYS];
    unsigned model = draw(MODELS), key = draw(KEYS);
    if (!models[model][0]) snprintf(models[model], sizeof models[0], "model-%u-2026-08-06", model);
    if (!keys[key][0]) snprintf(keys[key], sizeof keys[0], "team-%u", key);
    tags[key] = keys[key];
    memset(intent, 0, sizeof *intent);
    memset(row, 0, sizeof *row);
    row->route = intent->route = "fast";
    row->provider = intent->provider = model % 2 ? "openai" : "anthropic";
    row->model = intent->model = row->model_echo = models[model];
    row->key = intent->key = keys[key];
    row->tags = intent->tags = &tags[key];
    row->tag_count = intent->tag_count = 1;
    row->epoch = intent->epoch = 1;
    intent->reserved.known = row->cost.known = true;
    intent->reserved.pico_usd = 9000000000;
    row->cost.pico_usd = 1000000000 + draw(1000000000);
    intent->reserved_usage.known = row->usage.known = true;
    intent->reserved_usage.input = row->usage.input = 500 + draw(3000);
    intent->reserved_usage.output = 4096;
    row->usage.output = 50 + draw(800);
    row->usage.cached = draw(400);
    row->request_id = "req_011CSHoEeqs5C35K2UUqR7Fy";
    row->price = 0x9E3779B97F4A7C15u;
    row->duration_us = 900000 + draw(3000000);
    row->first_token_us = 300000 + draw(100000);
    row->http_status = 200;
    row->time_us = wall_s * 1000000;
    for (int i = 0; i < 3; i++) intent->key_pico[i] = -1;
}

static void attempts(llmgwi_ledger *ledger, int count) {
    static llmgwi_ledger_intent intents[LLMGWI_LEDGER_GROUP], *list[LLMGWI_LEDGER_GROUP];
    static llmgw_ledger_row rows[LLMGWI_LEDGER_GROUP];
    for (int i = 0; i < count; i++) {
        list[i] = &intents[i];
        an_attempt(list[i], &rows[i]);
    }
    if (llmgwi_ledger_begin(ledger, list, (size_t)count) != 1) bench_die("begin");
    for (int i = 0; i < count; i++) {
        if (intents[i].code) bench_die(intents[i].why);
        llmgwi_ledger_settle(ledger, intents[i].number, &rows[i]);
    }
}

/* ---- a bare commit: one small record, no sync ---- */

static MDB_env *bare_env;
static MDB_dbi bare_table;
static char bare_path[64];

static void bare_open(void) {
    MDB_txn *txn;
    snprintf(bare_path, sizeof bare_path, "/tmp/llmgw-bench-XXXXXX");
    if (!mkdtemp(bare_path) || mdb_env_create(&bare_env) || mdb_env_set_mapsize(bare_env, 64 << 20) ||
        mdb_env_open(bare_env, bare_path, MDB_NOSYNC, 0600) || mdb_txn_begin(bare_env, NULL, 0, &txn) ||
        mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &bare_table) || mdb_txn_commit(txn))
        bench_die("bare LMDB");
}

static void bare_commit(uint64_t number) {
    char record[150];
    MDB_txn *txn;
    MDB_val key = {sizeof number, &number}, value = {sizeof record, record};
    memset(record, 7, sizeof record);
    number %= 64;
    if (mdb_txn_begin(bare_env, NULL, 0, &txn) || mdb_put(txn, bare_table, &key, &value, 0) ||
        mdb_txn_commit(txn))
        bench_die("bare commit");
}

/* ---- rounds ---- */

static double cpu_attempts(llmgwi_ledger *ledger, int calls, int flight) {
    double begin = bench_cpu_us();
    for (int i = 0; i < calls; i += flight) {
        attempts(ledger, flight);
        if (i % LLMGWI_LEDGER_GROUP == 0) (void)llmgwi_ledger_duty(ledger, 0, false);
    }
    (void)llmgwi_ledger_duty(ledger, 0, true);
    return (bench_cpu_us() - begin) / calls;
}

static double cpu_bare(int commits) {
    double begin = bench_cpu_us();
    for (int i = 0; i < commits; i++) bare_commit((uint64_t)i);
    return (bench_cpu_us() - begin) / commits;
}

static void bench_calls(void) {
    bench_ledger b = open_ledger(1000000, true);
    bench_pair many = {{0}, {0}, 0}, one = {{0}, {0}, 0};
    int rounds = bench_quick() ? 5 : 15, calls = bench_quick() ? 2048 : 8192;
    bare_open();
    (void)cpu_attempts(b.ledger, calls, 64);
    for (int i = 0; i < rounds; i++) {
        bench_pair_add(&many, cpu_attempts(b.ledger, calls, 64), cpu_bare(calls / 8));
        bench_pair_add(&one, cpu_attempts(b.ledger, calls / 8, 1), cpu_bare(calls / 8));
    }
    bench_row("ledger, a call at 64 in flight", bench_median(many.a, many.count), "us CPU", "<= 5", NULL,
              "begin, settle and the move to the main store; median of %d rounds of %d calls", rounds, calls);
    bench_row("ledger, a single call", bench_median(one.a, one.count), "us CPU", "", NULL,
              "each with a transaction of its own before it is sent");
    bench_row("bare LMDB commit without sync", bench_median(one.b, one.count), "us CPU", "", NULL,
              "one record of 150 bytes, in the same rounds");
    bench_row("ledger, a single call over the bare commit", bench_ratio(&one), "ratio", "", NULL,
              "median of the rounds' ratios");
    mdb_env_close(bare_env);
    close_ledger(&b);
}

static bool count_total(const llmgw_ledger_total *total, void *user) {
    *(int64_t *)user += total->attempts;
    return true;
}

static void bench_month(void) {
    int64_t rows = bench_quick() ? 100000 : 10000000, sum = 0;
    bench_ledger b = open_ledger(rows, true);
    llmgw_ledger_filter filter;
    double times[15], begin = bench_cpu_us();
    wall_s = START;
    for (int64_t i = 0; i < rows; i += 256) {
        wall_s = START + i * DAYS * 86400 / rows;
        attempts(b.ledger, (int)(rows - i < 256 ? rows - i : 256));
        if (i % 512 == 0) (void)llmgwi_ledger_duty(b.ledger, 0, false);
    }
    (void)llmgwi_ledger_duty(b.ledger, 0, true);
    double fill = bench_cpu_us() - begin;
    llmgwi_store_txn txn;
    if (!llmgwi_store_read(b.main, &txn)) bench_die("read");
    double bytes = (double)llmgwi_store_used_bytes(&txn) / (double)rows;
    (void)llmgwi_store_end(&txn, false);
    memset(&filter, 0, sizeof filter);
    filter.from_s = START;
    filter.to_s = START + DAYS * 86400;
    int64_t groups = 0;
    for (int i = 0; i < 15; i++) {
        sum = 0;
        begin = bench_wall_us();
        groups = llmgwi_ledger_totals(b.ledger, &filter, LLMGW_BY_MODEL, count_total, &sum);
        times[i] = (bench_wall_us() - begin) / 1e3;
        if (sum != rows || groups != MODELS) bench_die("the total is wrong");
    }
    bench_row("ledger, a month by model", bench_median(times, 15), "ms", "< 10", NULL,
              "%lld rows, %d models, %d keys and tags; wall time, median of 15", (long long)rows, MODELS,
              KEYS);
    bench_row("ledger, bytes a row", bytes, "bytes", "", NULL, "of the store, cells and names included");
    bench_row("ledger, filling", fill / (double)rows, "us CPU", "", NULL, "a row, 256 at a time");
    close_ledger(&b);
}

int main(void) {
    bench_calls();
    bench_month();
    return 0;
}
