/* test_ledger.c - what every attempt cost: intents, settlements, budgets, totals, and what is left of them after a
   crash at any step. */
#define LLMGWI_STORE_FAULTS
#define LLMGWI_STORE_PAUSE_US 30000
#include "unit.h"
#include "storing.h"
#include "faults.h"

#include <pthread.h>

/* ---- a clock, rows ---- */

#define START 1795000000 /* 2026-11-18 11:06:40 UTC */
static int64_t wall_s = START, mono_us = 1000000;

static int64_t clock_now(void *user) {
    (void)user;
    return mono_us;
}

static int64_t clock_wall(void *user) {
    (void)user;
    return wall_s;
}

static const llmgwi_base_clock test_clock = {clock_now, clock_wall, llmgwi_base_random, NULL};

typedef struct world {
    llmgwi_store *main;
    llmgwi_ledger *ledger;
} world;

static llmgwi_ledger_budget budgets[8];
static size_t budget_count;
static int64_t max_rows;

static void budget(const char *name, int kind, const char *of, int per, int64_t limit) {
    llmgwi_ledger_budget *made = &budgets[budget_count++];
    memset(made, 0, sizeof *made);
    made->name = name;
    made->kind = kind;
    made->of = of;
    made->per = per;
    made->limit_pico = limit;
}

static world open_world(void) {
    world made;
    llmgw_error error;
    memset(&error, 0, sizeof error);
    made.main = storing_open();
    made.ledger = llmgwi_ledger_open(&unit_mem, &test_clock, made.main, &storing_at, budgets, budget_count,
                                     max_rows, &error);
    if (!made.ledger) fail_msg("%s", error.text);
    return made;
}

static void close_world(world *w) {
    llmgwi_ledger_close(w->ledger, false);
    llmgwi_store_close(w->main, false);
}

/* What memory held is gone, nothing is written. */
static void crash_world(world *w) {
    llmgwi_store *live = w->ledger->live;
    llmgwi_ledger_free(w->ledger);
    llmgwi_store_close(live, false);
    llmgwi_store_close(w->main, false);
}

static int setup(void **state) {
    wall_s = START;
    budget_count = 0;
    max_rows = 0;
    no_fault();
    return storing_setup(state);
}

static llmgwi_ledger_intent an_intent(const char *key, const char *tag, int64_t reserve) {
    static const char *ring[256]; /* a list of one tag lives for as many more */
    static unsigned at;
    const char **tags = &ring[at++ % 256];
    llmgwi_ledger_intent intent;
    memset(&intent, 0, sizeof intent);
    tags[0] = tag;
    intent.route = "fast";
    intent.provider = "openai";
    intent.model = "gpt-5";
    intent.key = key;
    intent.tags = tags;
    intent.tag_count = tag ? 1 : 0;
    intent.epoch = 1;
    intent.reserved_usage.known = true;
    intent.reserved_usage.input = 100;
    intent.reserved_usage.output = 1000;
    intent.reserved.known = true;
    intent.reserved.pico_usd = reserve;
    for (int i = 0; i < 3; i++) intent.key_pico[i] = -1;
    return intent;
}

static llmgw_code begin(llmgwi_ledger *ledger, llmgwi_ledger_intent *intent) {
    assert_int_equal(llmgwi_ledger_begin(ledger, &intent, 1), 1);
    return intent->code;
}

static llmgw_ledger_row a_row(const llmgwi_ledger_intent *intent, int64_t cost) {
    llmgw_ledger_row row;
    memset(&row, 0, sizeof row);
    row.time_us = wall_s * 1000000 + 1234;
    row.route = intent->route;
    row.provider = intent->provider;
    row.model = intent->model;
    row.model_echo = "gpt-5-2026-01-01";
    row.key = intent->key;
    row.tags = intent->tags;
    row.tag_count = intent->tag_count;
    row.request_id = "req_8c1f0a";
    row.usage.known = true;
    row.usage.input = 90;
    row.usage.output = 40;
    row.usage.cached = 30;
    row.cost.known = cost >= 0;
    row.cost.pico_usd = cost >= 0 ? cost : 0;
    row.duration_us = 1500000;
    row.epoch = 1;
    row.http_status = 200;
    return row;
}

static llmgwi_ledger_spent spent(llmgwi_ledger *ledger, int kind, const char *of, int per) {
    llmgwi_ledger_spent sum;
    llmgwi_ledger_budget is;
    llmgwi_ledger_slot slot;
    llmgwi_store_txn txn;
    llmgwi_base_str value;
    int64_t to;
    memset(&sum, 0, sizeof sum);
    memset(&is, 0, sizeof is);
    is.kind = kind;
    is.of = of;
    is.per = per;
    slot.budget = llmgwi_ledger_rule_hash(ledger, &is);
    llmgwi_ledger_period(per, wall_s, &slot.from_s, &to);
    assert_true(llmgwi_store_read(ledger->live, &txn));
    if (llmgwi_store_get(&txn, LLMGWI_STORE_BUDGET, llmgwi_ledger_slot_key(&slot), &value))
        memcpy(&sum, value.p, sizeof sum);
    (void)llmgwi_store_end(&txn, false);
    return sum;
}

static void test_one(void **state) {
    (void)state;
    budget("all", LLMGWI_LEDGER_OF_ALL, NULL, LLMGWI_LEDGER_DAY, 1000);
    world w = open_world();
    llmgwi_ledger_intent intent = an_intent("", NULL, 600), second = an_intent("", NULL, 600);
    assert_int_equal(begin(w.ledger, &intent), LLMGW_OK);
    assert_true(intent.number >= (uint64_t)START * 1000000);
    assert_int_equal(spent(w.ledger, LLMGWI_LEDGER_OF_ALL, "", LLMGWI_LEDGER_DAY).reserved, 600);
    assert_int_equal(begin(w.ledger, &second), LLMGW_E_BUDGET);
    unit_has(second.why, "all");
    llmgw_ledger_row row = a_row(&intent, 400);
    llmgwi_ledger_settle(w.ledger, intent.number, &row);
    assert_int_equal(begin(w.ledger, &second), LLMGW_OK); /* the settlement comes first */
    assert_int_equal(spent(w.ledger, LLMGWI_LEDGER_OF_ALL, "", LLMGWI_LEDGER_DAY).spent, 400);
    assert_int_equal(spent(w.ledger, LLMGWI_LEDGER_OF_ALL, "", LLMGWI_LEDGER_DAY).reserved, 600);
    row = a_row(&second, 700);
    llmgwi_ledger_settle(w.ledger, second.number, &row);
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    assert_int_equal(storing_count(w.main, LLMGWI_STORE_ROW), 2);
    assert_int_equal(storing_count(w.ledger->live, LLMGWI_STORE_INTENT), 0);
    close_world(&w);
}

static llmgw_ledger_total sums; /* of rows that a test adds up */

static int64_t row_count;

static void add_row(llmgw_ledger_total *to, const llmgw_ledger_row *row) {
    to->attempts += row->epoch != 0;
    to->hits += row->epoch == 0;
    to->failures += row->epoch && row->code;
    to->unknown += row->epoch && !row->cost.known;
    to->estimated += row->usage.estimated || row->cost.estimated;
    to->recovered += row->recovered;
    to->input += row->usage.input;
    to->output += row->usage.output;
    to->cached += row->usage.cached;
    to->cache_write += row->usage.cache_write;
    to->reasoning += row->usage.reasoning;
    to->duration_us += row->duration_us;
    to->cost.pico_usd += row->cost.known ? row->cost.pico_usd : 0;
    to->saved.pico_usd += row->saved.known ? row->saved.pico_usd : 0;
}

static bool sum_row(const llmgw_ledger_row *row, void *user) {
    (void)user;
    row_count++;
    add_row(&sums, row);
    return true;
}

/* ---- budgets ---- */

#define USD ((int64_t)1000000000000)

static void settle(llmgwi_ledger *ledger, const llmgwi_ledger_intent *intent, int64_t cost) {
    llmgw_ledger_row row = a_row(intent, cost);
    llmgwi_ledger_settle(ledger, intent->number, &row);
}

/* One budget of each kind; an attempt that it is not about goes through, one that it is about does not. */
static void test_kinds(void **state) {
    static const struct {
        int kind;
        const char *of, *key, *tag, *route;
        llmgw_code code;
    } cases[] = {
        {LLMGWI_LEDGER_OF_ALL, NULL, "", NULL, "fast", LLMGW_E_BUDGET},
        {LLMGWI_LEDGER_OF_KEY, "ann", "ann", NULL, "fast", LLMGW_E_BUDGET},
        {LLMGWI_LEDGER_OF_KEY, "ann", "bob", "ann", "ann", LLMGW_OK},
        {LLMGWI_LEDGER_OF_TAG, "team", "ann", "team", "fast", LLMGW_E_BUDGET},
        {LLMGWI_LEDGER_OF_TAG, "team", "team", "teams", "team", LLMGW_OK},
        {LLMGWI_LEDGER_OF_TAG, "team", "ann", NULL, "fast", LLMGW_OK},
        {LLMGWI_LEDGER_OF_ROUTE, "slow", "ann", "team", "slow", LLMGW_E_BUDGET},
        {LLMGWI_LEDGER_OF_ROUTE, "slow", "slow", "slow", "fast", LLMGW_OK},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        budget_count = 0;
        budget("the-one", cases[i].kind, cases[i].of, LLMGWI_LEDGER_MONTH, 1000);
        world w = open_world();
        llmgwi_ledger_intent intent = an_intent(cases[i].key, cases[i].tag, 1001);
        intent.route = cases[i].route;
        if (begin(w.ledger, &intent) != cases[i].code) fail_msg("case %zu: code %d", i, intent.code);
        if (intent.code) unit_has(intent.why, "\"the-one\"");
        intent.reserved.pico_usd = 1000; /* exactly the limit */
        assert_int_equal(begin(w.ledger, &intent), LLMGW_OK);
        settle(w.ledger, &intent, 0);
        close_world(&w);
    }
}

/* What was spent stays with its day and month; the next has all its limit again. */
static void test_periods(void **state) {
    (void)state;
    wall_s = 1798761599; /* 2026-12-31 23:59:59 */
    budget("day", LLMGWI_LEDGER_OF_ALL, NULL, LLMGWI_LEDGER_DAY, 100);
    budget("month", LLMGWI_LEDGER_OF_ALL, NULL, LLMGWI_LEDGER_MONTH, 150);
    budget("ever", LLMGWI_LEDGER_OF_ALL, NULL, LLMGWI_LEDGER_TOTAL, 320);
    world w = open_world();
    llmgwi_ledger_intent late = an_intent("", NULL, 100), next = an_intent("", NULL, 100);
    assert_int_equal(begin(w.ledger, &late), LLMGW_OK);
    assert_int_equal(begin(w.ledger, &next), LLMGW_E_BUDGET);
    unit_has(next.why, "\"day\"");
    assert_int_equal(next.resets_s, 1798761600);
    unit_has(next.why, "resets 2027-01-01 00:00 UTC");
    wall_s++; /* 2027-01-01 */
    assert_int_equal(begin(w.ledger, &next), LLMGW_OK);
    settle(w.ledger, &late, 90); /* of the day before, though it ends now */
    settle(w.ledger, &next, 80);
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    llmgw_ledger_filter before;
    memset(&before, 0, sizeof before);
    before.to_s = wall_s;
    memset(&sums, 0, sizeof sums);
    assert_int_equal(llmgwi_ledger_query(w.ledger, &before, sum_row, NULL), 1); /* rows go by the same day */
    assert_int_equal(sums.cost.pico_usd, 90);
    assert_int_equal(spent(w.ledger, LLMGWI_LEDGER_OF_ALL, "", LLMGWI_LEDGER_DAY).spent, 80);
    assert_int_equal(spent(w.ledger, LLMGWI_LEDGER_OF_ALL, "", LLMGWI_LEDGER_MONTH).spent, 80);
    assert_int_equal(spent(w.ledger, LLMGWI_LEDGER_OF_ALL, "", LLMGWI_LEDGER_TOTAL).spent, 170);
    wall_s--;
    assert_int_equal(spent(w.ledger, LLMGWI_LEDGER_OF_ALL, "", LLMGWI_LEDGER_DAY).spent, 90);
    wall_s += 86401; /* 2027-01-02: 80 of 150 are spent this month */
    next = an_intent("", NULL, 71);
    assert_int_equal(begin(w.ledger, &next), LLMGW_E_BUDGET);
    unit_has(next.why, "\"month\"");
    assert_int_equal(next.resets_s, 1801440000); /* 2027-02-01 */
    next.reserved.pico_usd = 70;
    assert_int_equal(begin(w.ledger, &next), LLMGW_OK);
    wall_s = 1801440000;
    late = an_intent("", NULL, 81);
    assert_int_equal(begin(w.ledger, &late), LLMGW_E_BUDGET); /* 170 + 70 + 81 of 320 */
    unit_has(late.why, "\"ever\"");
    assert_int_equal(late.resets_s, 0);
    settle(w.ledger, &next, 69);
    assert_int_equal(begin(w.ledger, &late), LLMGW_OK);
    settle(w.ledger, &late, 0);
    close_world(&w);
    static const struct {
        int64_t at, from, to;
    } months[] = {{1709164800, 1706745600, 1709251200}, /* 2024-02-29 */
                  {0, 0, 2678400},
                  {4107542399, 4105123200, 4107542400}}; /* 2100-02-28 23:59:59 */
    for (size_t i = 0; i < 3; i++) {
        int64_t from, to;
        llmgwi_ledger_period(LLMGWI_LEDGER_MONTH, months[i].at, &from, &to);
        assert_int_equal(from, months[i].from);
        assert_int_equal(to, months[i].to);
    }
}

/* Budgets of the scoped key itself, soft ones, unknown prices, two budgets that are the same one. */
static void test_key_soft_unknown(void **state) {
    (void)state;
    budget("warn", LLMGWI_LEDGER_OF_TAG, "team", LLMGWI_LEDGER_DAY, 50);
    budgets[0].soft = true;
    budget("lax", LLMGWI_LEDGER_OF_ROUTE, "fast", LLMGWI_LEDGER_DAY, 1000);
    budgets[1].allow_unknown = true;
    budget("lax-twin", LLMGWI_LEDGER_OF_ROUTE, "fast", LLMGWI_LEDGER_DAY, 900);
    budgets[2].allow_unknown = true;
    world w = open_world();
    llmgwi_ledger_intent intent = an_intent("ann", "team", 50);
    intent.key_pico[LLMGWI_LEDGER_TOTAL] = 120;
    assert_int_equal(begin(w.ledger, &intent), LLMGW_OK);
    assert_int_equal(intent.soft, 0);
    settle(w.ledger, &intent, 60);
    assert_int_equal(begin(w.ledger, &intent), LLMGW_OK);
    assert_int_equal(intent.soft, 1);
    assert_int_equal(spent(w.ledger, LLMGWI_LEDGER_OF_ROUTE, "fast", LLMGWI_LEDGER_DAY).spent, 60);
    assert_int_equal(spent(w.ledger, LLMGWI_LEDGER_OF_ROUTE, "fast", LLMGWI_LEDGER_DAY).reserved,
                     50); /* once */
    settle(w.ledger, &intent, 50);
    assert_int_equal(begin(w.ledger, &intent), LLMGW_E_BUDGET);
    unit_has(intent.why, "key ann");
    intent = an_intent("bob", NULL, 0); /* unknown: these two allow it */
    intent.reserved.known = false;
    assert_int_equal(begin(w.ledger, &intent), LLMGW_OK);
    settle(w.ledger, &intent, -1);
    intent.key_pico[LLMGWI_LEDGER_DAY] = 1000; /* its key's budget does not */
    assert_int_equal(begin(w.ledger, &intent), LLMGW_E_BUDGET);
    unit_has(intent.why, "openai/gpt-5");
    unit_has(intent.why, "not known");
    llmgw_budget_state states[3];
    assert_int_equal(llmgwi_ledger_budgets(w.ledger, states, 3), 3);
    assert_string_equal(states[0].name, "warn");
    assert_string_equal(states[0].per, "day");
    assert_true(states[0].soft);
    assert_int_equal(states[0].spent_pico, 110);
    assert_int_equal(states[0].reserved_pico, 0);
    assert_int_equal(states[2].limit_pico, 900);
    assert_int_equal(states[2].resets_s, START - START % 86400 + 86400);
    close_world(&w);
}

/* Budgets that are new in the configuration know what was spent, wherever it stands: in the main store, in the live
   one, still in flight. */
static void test_new_budget(void **state) {
    (void)state;
    world w = open_world();
    llmgw_error error;
    llmgwi_ledger_intent moved = an_intent("ann", "team", 50), settled = an_intent("ann", "team", 50),
                         both = an_intent("ann", "team", 50), flying = an_intent("ann", "team", 50),
                         other = an_intent("bob", "other", 5000);
    llmgwi_ledger *third =
        llmgwi_ledger_open(&unit_mem, &test_clock, w.main, &storing_at, NULL, 0, 0, &error);
    assert_non_null(third);
    assert_int_equal(begin(w.ledger, &moved), LLMGW_OK);
    settle(w.ledger, &moved, 5);
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    assert_int_equal(begin(third, &settled), LLMGW_OK);
    settle(third, &settled, 13);
    assert_true(llmgwi_ledger_turn(third, true));
    assert_int_equal(begin(w.ledger, &flying), LLMGW_OK);
    assert_int_equal(begin(w.ledger, &other), LLMGW_OK);
    assert_int_equal(begin(w.ledger, &both), LLMGW_OK);
    settle(w.ledger, &both, 6);
    bool more = false;
    assert_true(llmgwi_ledger_turn(w.ledger, true) && llmgwi_ledger_move(w.ledger, true, &more));
    assert_int_equal(storing_count(w.main, LLMGWI_STORE_ROW), 2); /* one of them is in the live store too */
    assert_int_equal(storing_count(w.ledger->live, LLMGWI_STORE_INTENT), 4);
    budget("team", LLMGWI_LEDGER_OF_TAG, "team", LLMGWI_LEDGER_DAY, 174);
    llmgwi_ledger *second =
        llmgwi_ledger_open(&unit_mem, &test_clock, w.main, &storing_at, budgets, 1, 0, &error);
    assert_non_null(second);
    llmgw_budget_state now;
    assert_int_equal(llmgwi_ledger_budgets(second, &now, 1), 1); /* looks, changes nothing */
    assert_int_equal(now.spent_pico, 24);
    assert_int_equal(now.reserved_pico, 50);
    llmgwi_ledger_intent last = an_intent("ann", "team", 101);
    assert_int_equal(begin(second, &last), LLMGW_E_BUDGET);
    last.reserved.pico_usd = 100;
    assert_int_equal(begin(second, &last), LLMGW_OK);
    settle(w.ledger, &flying, 17); /* by the one that has no such budget */
    settle(w.ledger, &other, 1);
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    (void)llmgwi_ledger_budgets(second, &now, 1);
    assert_int_equal(now.spent_pico, 41);
    assert_int_equal(now.reserved_pico, 100);
    settle(second, &last, 100);
    llmgwi_ledger_close(second, false);
    llmgwi_ledger_close(third, false);
    close_world(&w);
}

static uint64_t seed = 7;

static unsigned draw(unsigned below) {
    seed += LLMGWI_BASE_STEP;
    return (unsigned)(llmgwi_base_mix(seed) % below);
}

/* Random attempts, batches, refusals, moves, restarts: each budget is what a plain model of it says, always. */
static void test_model(void **state) {
    (void)state;
    static llmgwi_ledger_intent flying[64];
    static const char *const keys[] = {"ann", "bob", ""}, *const tags[] = {"x", "y", NULL};
    int64_t spent_all = 0, spent_x = 0, held_all = 0, held_x = 0;
    int refused = 0;
    size_t count = 0;
    budget("all", LLMGWI_LEDGER_OF_ALL, NULL, LLMGWI_LEDGER_TOTAL, 20000);
    budget("x", LLMGWI_LEDGER_OF_TAG, "x", LLMGWI_LEDGER_TOTAL, 5000);
    world w = open_world();
    for (int i = 0; i < 3000; i++) {
        unsigned what = draw(100);
        if (what < 45 && count < 64) {
            llmgwi_ledger_intent *made = &flying[count];
            *made = an_intent(keys[draw(3)], NULL, 1 + draw(400));
            made->tags = &tags[draw(3)];
            made->tag_count = *made->tags != NULL;
            bool x = made->tag_count && !strcmp(*made->tags, "x");
            bool fits = spent_all + held_all + made->reserved.pico_usd <= 20000 &&
                        (!x || spent_x + held_x + made->reserved.pico_usd <= 5000);
            assert_int_equal(begin(w.ledger, made), fits ? LLMGW_OK : LLMGW_E_BUDGET);
            refused += !fits;
            if (!fits) continue;
            held_all += made->reserved.pico_usd;
            held_x += x ? made->reserved.pico_usd : 0;
            count++;
        } else if (what < 90 && count) {
            size_t at = draw((unsigned)count);
            bool x = flying[at].tag_count && !strcmp(*flying[at].tags, "x");
            int64_t cost = draw(8) ? (int64_t)draw(40) : -1;
            settle(w.ledger, &flying[at], cost);
            held_all -= flying[at].reserved.pico_usd;
            held_x -= x ? flying[at].reserved.pico_usd : 0;
            spent_all += cost > 0 ? cost : 0;
            spent_x += x && cost > 0 ? cost : 0;
            flying[at] = flying[--count];
        } else if (what < 98) {
            mono_us += 60000;
            (void)llmgwi_ledger_duty(w.ledger, 1000, what < 92);
        } else if (!count) {
            close_world(&w);
            w = open_world();
        }
        wall_s += draw(2);
    }
    while (count) {
        bool x = flying[--count].tag_count && !strcmp(*flying[count].tags, "x");
        settle(w.ledger, &flying[count], 1);
        spent_all++;
        spent_x += x;
    }
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    assert_true(refused > 20);
    assert_int_equal(spent(w.ledger, LLMGWI_LEDGER_OF_ALL, "", LLMGWI_LEDGER_TOTAL).spent, spent_all);
    assert_int_equal(spent(w.ledger, LLMGWI_LEDGER_OF_ALL, "", LLMGWI_LEDGER_TOTAL).reserved, 0);
    assert_int_equal(spent(w.ledger, LLMGWI_LEDGER_OF_TAG, "x", LLMGWI_LEDGER_TOTAL).spent, spent_x);
    assert_int_equal(storing_count(w.ledger->live, LLMGWI_STORE_INTENT), 0);
    close_world(&w);
}

/* ---- totals are the sums of the rows ---- */

static llmgw_ledger_total groups[4096];
static size_t group_count;
static unsigned grouped_by;
static const char *kept(const char *text) { /* few and for good */
    static char texts[512][80];
    static size_t count;
    for (size_t i = 0; i < count; i++)
        if (!strcmp(texts[i], text)) return texts[i];
    assert_true(count < 512);
    (void)snprintf(texts[count], sizeof texts[0], "%s", text);
    return texts[count++];
}

static void group_one(const llmgw_ledger_row *row, const char *tag) {
    int64_t s = row->time_us / 1000000, unit = grouped_by & LLMGW_BY_HOUR ? 3600 : 86400;
    llmgw_ledger_total key;
    memset(&key, 0, sizeof key);
    key.provider = kept(grouped_by & LLMGW_BY_PROVIDER ? row->provider : "");
    key.model = kept(grouped_by & LLMGW_BY_MODEL ? row->model : "");
    key.route = kept(grouped_by & LLMGW_BY_ROUTE ? row->route : "");
    key.key = kept(grouped_by & LLMGW_BY_KEY ? row->key : "");
    key.tag = kept(tag);
    key.time_s = grouped_by & (LLMGW_BY_HOUR | LLMGW_BY_DAY) ? s / unit * unit : 0;
    size_t at = 0;
    while (at < group_count && (groups[at].provider != key.provider || groups[at].model != key.model ||
                                groups[at].tag != key.tag || groups[at].route != key.route ||
                                groups[at].key != key.key || groups[at].time_s != key.time_s))
        at++;
    assert_true(at < 4096);
    if (at == group_count) groups[group_count++] = key;
    add_row(&groups[at], row);
}

static bool group_row(const llmgw_ledger_row *row, void *user) {
    (void)user;
    if (!(grouped_by & LLMGW_BY_TAG) || !row->tag_count) group_one(row, "");
    for (size_t i = 0; i < row->tag_count && grouped_by & LLMGW_BY_TAG; i++) group_one(row, row->tags[i]);
    return true;
}

static size_t given, wrong;
static char last_given[512];

static bool compare_total(const llmgw_ledger_total *total, void *user) {
    char order[512];
    size_t at = 0;
    (void)user;
    given++;
    while (at < group_count &&
           (strcmp(groups[at].provider, total->provider) || strcmp(groups[at].model, total->model) ||
            strcmp(groups[at].route, total->route) || strcmp(groups[at].key, total->key) ||
            strcmp(groups[at].tag, total->tag) || groups[at].time_s != total->time_s))
        at++;
    (void)snprintf(order, sizeof order, "%012lld\1%s\1%s\1%s\1%s\1%s", (long long)total->time_s,
                   total->provider, total->model, total->route, total->key, total->tag);
    wrong += at == group_count || strcmp(order, last_given) <= 0;
    (void)snprintf(last_given, sizeof last_given, "%s", order);
    if (at == group_count) return true;
    const llmgw_ledger_total *want = &groups[at];
    wrong += memcmp(&want->attempts, &total->attempts, 12 * sizeof(int64_t)) != 0;
    wrong += want->cost.pico_usd != total->cost.pico_usd || want->saved.pico_usd != total->saved.pico_usd;
    return true;
}

/* Totals by these, of what the filter lets through, against the rows that the query gives. */
static void check_totals(llmgwi_ledger *ledger, const llmgw_ledger_filter *filter, unsigned by) {
    grouped_by = by;
    group_count = given = wrong = 0;
    last_given[0] = 0;
    assert_true(llmgwi_ledger_query(ledger, filter, group_row, NULL) >= 0);
    assert_int_equal(llmgwi_ledger_totals(ledger, filter, by, compare_total, NULL), group_count);
    assert_int_equal(given, group_count);
    if (wrong) fail_msg("by %u: %zu of %zu are wrong", by, wrong, group_count);
}

static const char *const some_tags[] = {"blue", "green", "red, \"dark\""};

/* Attempts and hits of all sorts, over some days. */
static void fill(llmgwi_ledger *ledger, int rows, int step_s) {
    static const char *const models[] = {"gpt-5", "claude-opus-5", "gpt-4o"}, *const keys[] = {"ann", "bob",
                                                                                               ""};
    for (int i = 0; i < rows; i++) {
        llmgwi_ledger_intent intent = an_intent(keys[draw(3)], NULL, 100);
        unsigned tags = draw(4);
        intent.model = models[draw(3)];
        intent.provider = intent.model[0] == 'c' ? "anthropic" : "openai";
        intent.route = draw(2) ? "fast" : "slow";
        intent.tags = some_tags + (tags == 1 ? draw(3) : 0);
        intent.tag_count = tags;
        if (tags == 3) intent.tag_count = 3;
        if (tags == 2) intent.tag_count = 2;
        llmgw_ledger_row row = a_row(&intent, draw(5) ? (int64_t)draw(100000) : -1);
        row.usage.estimated = row.cost.estimated = draw(9) == 0;
        row.usage.cache_write = draw(50);
        row.usage.reasoning = draw(50);
        row.code = draw(4) ? LLMGW_OK : LLMGW_E_OVERLOADED;
        row.http_status = row.code ? 529 : 200;
        if (draw(6) == 0) {
            row.saved = row.cost;
            memset(&row.cost, 0, sizeof row.cost);
            row.verdict = LLMGW_VERDICT_EXACT;
            llmgwi_ledger_hit(ledger, &row);
        } else {
            assert_int_equal(begin(ledger, &intent), LLMGW_OK);
            settle(ledger, &intent, 0); /* overtaken by the next, which says more */
            llmgwi_base_buf_clear(&ledger->queue);
            llmgwi_ledger_settle(ledger, intent.number, &row);
        }
        wall_s += draw((unsigned)step_s * 2);
        if (i % 97 == 0) (void)llmgwi_ledger_duty(ledger, 0, true);
    }
    (void)llmgwi_ledger_duty(ledger, 0, true);
}

static void test_totals(void **state) {
    (void)state;
    world w = open_world();
    fill(w.ledger, 1500, 300);
    for (unsigned by = 0; by < 128; by++) check_totals(w.ledger, NULL, by);
    llmgw_ledger_filter filters[7];
    memset(filters, 0, sizeof filters);
    filters[0].provider = "openai";
    filters[1].model = "gpt-5";
    filters[2].route = "slow";
    filters[3].key = "ann";
    filters[4].tag = "green";
    filters[5].from_s = START / 3600 * 3600 + 7200;
    filters[5].to_s = filters[5].from_s + 3 * 86400 + 3600 * 5;
    filters[6].key = "nobody";
    for (size_t i = 0; i < 7; i++) {
        check_totals(w.ledger, &filters[i], LLMGW_BY_MODEL | LLMGW_BY_DAY);
        check_totals(w.ledger, &filters[i], LLMGW_BY_TAG | LLMGW_BY_HOUR);
        check_totals(w.ledger, &filters[i], 0);
        assert_true((group_count == 0) == (i == 6));
    }
    close_world(&w);
}

/* After 40 days the hours go; days stay, and are right. */
static void test_old_hours(void **state) {
    (void)state;
    world w = open_world();
    fill(w.ledger, 300, 600);
    uint64_t before = storing_count(w.main, LLMGWI_STORE_CELL);
    wall_s += 41 * 86400;
    for (int i = 0; i < 20; i++) {
        mono_us += LLMGWI_LEDGER_LOOK_US;
        (void)llmgwi_ledger_duty(w.ledger, 0, false);
    }
    assert_true(storing_count(w.main, LLMGWI_STORE_CELL) < before / 2);
    check_totals(w.ledger, NULL, LLMGW_BY_MODEL | LLMGW_BY_DAY);
    assert_true(group_count > 0);
    llmgw_ledger_filter filter;
    memset(&filter, 0, sizeof filter);
    filter.from_s = START / 86400 * 86400;
    filter.to_s = filter.from_s + 86400;
    check_totals(w.ledger, &filter, LLMGW_BY_TAG);
    fill(w.ledger, 50, 600);
    check_totals(w.ledger, NULL, LLMGW_BY_KEY);
    close_world(&w);
}

/* ---- rows ---- */

static llmgw_ledger_row seen_row;
static char seen_texts[8][128];

static bool see_row(const llmgw_ledger_row *row, void *user) {
    (void)user;
    seen_row = *row;
    (void)snprintf(seen_texts[0], 128, "%s|%s|%s|%s|%s|%s", row->route, row->provider, row->model,
                   row->model_echo, row->key, row->request_id);
    seen_texts[1][0] = 0;
    for (size_t i = 0; i < row->tag_count; i++) {
        strcat(seen_texts[1], row->tags[i]);
        strcat(seen_texts[1], "|");
    }
    row_count++;
    return true;
}

static const char *const two_tags[] = {"b=\"1\",x", "a"};

/* Every number there is; exact at the ends of its range. */
static llmgw_ledger_row full_row(const llmgwi_ledger_intent *intent) {
    llmgw_ledger_row row = a_row(intent, INT64_MAX);
    row.tags = two_tags;
    row.tag_count = 2;
    row.usage.cache_write = 1;
    row.usage.cache_write_1h = 127;
    row.usage.reasoning = 128;
    row.usage.audio_input = INT64_MAX;
    row.usage.audio_output = 16384;
    row.usage.tier = LLMGW_TIER_PRIORITY;
    row.cost.saturated = true;
    row.reported.known = true;
    row.reported.pico_usd = 5;
    row.saved.known = row.saved.estimated = true;
    row.saved.pico_usd = 6;
    row.price = 0xFEDCBA9876543210u;
    row.first_token_us = 7;
    row.epoch = UINT32_MAX;
    row.code = LLMGW_E_TRUNCATED;
    row.http_status = 599;
    row.verdict = LLMGW_VERDICT_STALE;
    return row;
}

static void test_row(void **state) {
    (void)state;
    world w = open_world();
    llmgwi_ledger_intent intent = an_intent("ann", "x", 1);
    assert_int_equal(begin(w.ledger, &intent), LLMGW_OK);
    llmgw_ledger_row row = full_row(&intent);
    llmgwi_ledger_settle(w.ledger, intent.number, &row);
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    row_count = 0;
    assert_int_equal(llmgwi_ledger_query(w.ledger, NULL, see_row, NULL), 1);
    assert_int_equal(row_count, 1);
    assert_string_equal(seen_texts[0], "fast|openai|gpt-5|gpt-5-2026-01-01|ann|req_8c1f0a");
    assert_string_equal(seen_texts[1], "b=\"1\",x|a|");
    assert_int_equal(seen_row.id, intent.number);
    assert_int_equal(seen_row.time_us, row.time_us);
    for (size_t i = 0; i < LLMGWI_LEDGER_FIELDS; i++)
        assert_int_equal(llmgwi_ledger_value(&seen_row, &llmgwi_ledger_fields[i]),
                         llmgwi_ledger_value(&row, &llmgwi_ledger_fields[i]));
    assert_int_equal(llmgwi_ledger_rows(w.ledger), 1);
    assert_int_equal(llmgwi_ledger_lost(w.ledger), 0);
    close_world(&w);
}

static void test_filters(void **state) {
    (void)state;
    world w = open_world();
    fill(w.ledger, 400, 900);
    llmgw_ledger_filter none, filter;
    memset(&none, 0, sizeof none);
    row_count = 0;
    assert_int_equal(llmgwi_ledger_query(w.ledger, &none, sum_row, NULL), 400);
#define COUNT(field, value, test)                                                                            \
    do {                                                                                                     \
        filter = none;                                                                                       \
        filter.field = value;                                                                                \
        int64_t passed = llmgwi_ledger_query(w.ledger, &filter, sum_row, NULL);                              \
        assert_true(passed > 0 && passed < 400);                                                             \
        assert_int_equal(llmgwi_ledger_query(w.ledger, &filter, see_row, NULL), passed);                     \
        assert_true(test);                                                                                   \
    } while (0)
    COUNT(provider, "anthropic", strstr(seen_texts[0], "|anthropic|claude-opus-5|") != NULL);
    COUNT(model, "gpt-4o", strstr(seen_texts[0], "|openai|gpt-4o|") != NULL);
    COUNT(route, "slow", strncmp(seen_texts[0], "slow|", 5) == 0);
    COUNT(key, "bob", strstr(seen_texts[0], "|bob|") != NULL);
    COUNT(tag, "green", strstr(seen_texts[1], "green|") != NULL);
    COUNT(failed, true, seen_row.code == LLMGW_E_OVERLOADED);
    COUNT(from_s, START + 86400, seen_row.time_us >= (START + 86400) * (int64_t)1000000);
    COUNT(to_s, START + 86400, seen_row.time_us < (START + 86400) * (int64_t)1000000);
    filter = none; /* both ends: what is before, in and behind is all */
    filter.to_s = START + 86400;
    int64_t before = llmgwi_ledger_query(w.ledger, &filter, sum_row, NULL);
    filter.from_s = filter.to_s;
    filter.to_s = 0;
    assert_int_equal(before + llmgwi_ledger_query(w.ledger, &filter, sum_row, NULL), 400);
    close_world(&w);
}

static char lines[8][2048];
static size_t line_count;

static bool keep_line(const char *line, size_t n, void *user) {
    (void)user;
    assert_true(line_count < 8 && n < sizeof lines[0]);
    assert_int_equal(strlen(line), n);
    memcpy(lines[line_count++], line, n + 1);
    return line_count < 8;
}

/* The i-th field of a line of CSV, read as RFC 4180 says. */
static const char *csv_field(const char *line, int i) {
    static char out[512];
    size_t n = 0;
    for (int at = 0; *line; at++) {
        bool quoted = *line == '"';
        if (quoted) line++;
        for (; *line && (quoted || *line != ','); line++) {
            if (quoted && *line == '"' && line[1] != '"') break;
            if (quoted && *line == '"') line++;
            if (at == i) out[n++] = *line;
        }
        if (quoted) line++;
        if (at == i) break;
        if (*line == ',') line++;
    }
    out[n] = 0;
    return out;
}

static int csv_column(const char *name) {
    for (int i = 0; i < 64; i++)
        if (!strcmp(csv_field(lines[0], i), name)) return i;
    fail_msg("no column %s", name);
    return -1;
}

static void test_export(void **state) {
    (void)state;
    world w = open_world();
    llmgwi_ledger_intent intent = an_intent("ann", "x", 1), bare = an_intent("", NULL, 1);
    intent.model = "a,\"b\"\r\nc";
    assert_int_equal(begin(w.ledger, &intent), LLMGW_OK);
    llmgw_ledger_row row = full_row(&intent);
    row.request_id = "bad \xFF utf";
    llmgwi_ledger_settle(w.ledger, intent.number, &row);
    assert_int_equal(begin(w.ledger, &bare), LLMGW_OK);
    llmgw_ledger_row unknown = a_row(&bare, -1);
    unknown.usage.known = false;
    llmgwi_ledger_settle(w.ledger, bare.number, &unknown);
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    line_count = 0;
    assert_int_equal(llmgwi_ledger_export(w.ledger, NULL, false, keep_line, NULL), 2);
    assert_int_equal(line_count, 2);
    json_error_t error;
    json_t *first = json_loads(lines[0], 0, &error), *second = json_loads(lines[1], 0, &error);
    assert_non_null(first);
    assert_non_null(second);
    assert_string_equal(json_string_value(json_object_get(first, "model")), "a,\"b\"\r\nc");
    assert_string_equal(json_string_value(json_array_get(json_object_get(first, "tags"), 0)), two_tags[0]);
    unit_is_at(first, "cost_pico_usd", "9223372036854775807", __FILE__, __LINE__);
    unit_is_at(first, "price", "'fedcba9876543210'", __FILE__, __LINE__);
    unit_is_at(first, "code", "'E_TRUNCATED'", __FILE__, __LINE__);
    unit_is_at(first, "tier", "'priority'", __FILE__, __LINE__);
    unit_is_at(first, "verdict", "'stale'", __FILE__, __LINE__);
    unit_is_at(first, "request_id", "'bad ? utf'", __FILE__, __LINE__);
    unit_is_at(first, "recovered", "false", __FILE__, __LINE__);
    unit_is_at(second, "cost_pico_usd", "null", __FILE__, __LINE__);
    unit_is_at(second, "input", "null", __FILE__, __LINE__);
    unit_is_at(second, "tags", "[]", __FILE__, __LINE__);
    unit_is_at(second, "http_status", "200", __FILE__, __LINE__);
    json_decref(first);
    json_decref(second);
    line_count = 0;
    assert_int_equal(llmgwi_ledger_export(w.ledger, NULL, true, keep_line, NULL), 2);
    assert_int_equal(line_count, 3);
    assert_string_equal(csv_field(lines[1], csv_column("model")), "a,\"b\"\r\nc");
    assert_string_equal(csv_field(lines[1], csv_column("tags")), "[\"b=\\\"1\\\",x\",\"a\"]");
    assert_string_equal(csv_field(lines[1], csv_column("recovered")), "0");
    assert_string_equal(csv_field(lines[1], csv_column("reported_pico_usd")), "5");
    assert_string_equal(csv_field(lines[2], csv_column("cost_pico_usd")), "");
    assert_string_equal(csv_field(lines[2], csv_column("duration_us")), "1500000");
    assert_string_equal(csv_field(lines[2], csv_column("model")), "gpt-5");
    close_world(&w);
}

/* The oldest go, the totals stay. */
static void test_retention(void **state) {
    (void)state;
    max_rows = 100;
    world w = open_world();
    fill(w.ledger, 500, 100);
    assert_int_equal(storing_count(w.main, LLMGWI_STORE_ROW), 100);
    row_count = 0;
    memset(&sums, 0, sizeof sums);
    group_count = 1;
    memset(&groups[0], 0, sizeof groups[0]);
    assert_int_equal(llmgwi_ledger_query(w.ledger, NULL, see_row, NULL), 100);
    assert_int_equal(llmgwi_ledger_query(w.ledger, NULL, sum_row, NULL), 100);
    assert_true(seen_row.time_us / 1000000 + 200 >= wall_s); /* the last stayed */
    groups[0].provider = groups[0].model = groups[0].route = groups[0].key = groups[0].tag = "";
    wrong = 0;
    last_given[0] = 0;
    assert_int_equal(llmgwi_ledger_totals(w.ledger, NULL, 0, compare_total, NULL), 1);
    assert_true(wrong > 0); /* more than the rows say */
    close_world(&w);
}

/* ---- other prices ---- */

static llmgw_cost new_price(void *user, const llmgw_ledger_row *row, uint64_t *price) {
    llmgw_cost cost;
    (void)user;
    memset(&cost, 0, sizeof cost);
    cost.known = strcmp(row->model, "gpt-4o") != 0;
    cost.estimated = row->usage.estimated;
    cost.pico_usd = cost.known ? row->usage.input * 10 + row->usage.output : 0;
    *price = cost.known ? 77 : 0;
    return cost;
}

static bool is_repriced(const llmgw_ledger_row *row, void *user) {
    uint64_t price;
    llmgw_cost cost = new_price(NULL, row, &price);
    (void)user;
    if (row->epoch &&
        (row->cost.known != cost.known || row->cost.pico_usd != cost.pico_usd || row->price != price))
        wrong++;
    return true;
}

static void test_reprice(void **state) {
    (void)state;
    world w = open_world();
    fill(w.ledger, 700, 200);
    llmgw_cost before, after;
    memset(&sums, 0, sizeof sums);
    (void)llmgwi_ledger_query(w.ledger, NULL, sum_row, NULL);
    int64_t would = llmgwi_ledger_reprice(w.ledger, NULL, false, new_price, NULL, &before, &after);
    assert_true(would > 400);
    assert_int_equal(before.pico_usd, sums.cost.pico_usd);
    check_totals(w.ledger, NULL, 127); /* nothing changed */
    assert_int_equal(llmgwi_ledger_reprice(w.ledger, NULL, true, new_price, NULL, &before, &after), would);
    memset(&sums, 0, sizeof sums);
    (void)llmgwi_ledger_query(w.ledger, NULL, sum_row, NULL);
    assert_int_equal(after.pico_usd, sums.cost.pico_usd);
    wrong = 0;
    (void)llmgwi_ledger_query(w.ledger, NULL, is_repriced, NULL);
    assert_int_equal(wrong, 0);
    for (unsigned by = 0; by < 128; by += 3) check_totals(w.ledger, NULL, by);
    assert_int_equal(llmgwi_ledger_reprice(w.ledger, NULL, true, new_price, NULL, NULL, NULL), 0);
    close_world(&w);
}

/* ---- crashes ---- */

/* A record of the highest number there is, which no ledger writes: whoever opens the store gets past it. */
static void test_highest_number(void **state) {
    world w = open_world();
    llmgwi_store_txn txn;
    uint64_t highest = UINT64_MAX;
    assert_int_equal(llmgwi_store_write(w.ledger->live, &txn, true), 1);
    assert_true(
        llmgwi_store_put(&txn, LLMGWI_STORE_INTENT, llmgwi_ledger_u64(&highest), llmgwi_base_cstr("?")));
    assert_true(llmgwi_store_end(&txn, true));
    llmgwi_ledger_intent left = an_intent("ann", "", 25);
    assert_int_equal(begin(w.ledger, &left), LLMGW_OK);
    close_world(&w);
    alarm(20);
    budget("all", LLMGWI_LEDGER_OF_ALL, "", LLMGWI_LEDGER_DAY, 1000);
    w = open_world();
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    memset(&sums, 0, sizeof sums);
    (void)llmgwi_ledger_query(w.ledger, NULL, sum_row, NULL);
    assert_int_equal(sums.attempts, 1);
    assert_int_equal(sums.recovered, 1);
    alarm(0);
    close_world(&w);
}

/* What stands in the store after everything has moved, as a world opened anew tells it. */
static void check_sound(int64_t attempts, int64_t hits, int64_t cost, const char *when, int n) {
    world w = open_world();
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    memset(&sums, 0, sizeof sums);
    (void)llmgwi_ledger_query(w.ledger, NULL, sum_row, NULL);
    llmgwi_ledger_spent all = spent(w.ledger, LLMGWI_LEDGER_OF_ALL, "", LLMGWI_LEDGER_DAY);
    if (sums.attempts != attempts || sums.hits != hits || sums.cost.pico_usd != cost || all.spent != cost ||
        all.reserved)
        fail_msg("%s, %d: %lld attempts (%lld), %lld hits (%lld), cost %lld (%lld), budget %lld + %lld", when,
                 n, (long long)sums.attempts, (long long)attempts, (long long)sums.hits, (long long)hits,
                 (long long)sums.cost.pico_usd, (long long)cost, (long long)all.spent,
                 (long long)all.reserved);
    check_totals(w.ledger, NULL, 127);
    assert_int_equal(storing_count(w.ledger->live, LLMGWI_STORE_INTENT), 0);
    close_world(&w);
}

/* A process that begins, settles some, and is killed: where says at which call of LMDB, counted from "now". */
static int kill_at;
static int pipe_ends[2];
static bool kill_in_duty;

static bool die_somewhere(void) {
    world w = open_world();
    llmgwi_ledger_intent intents[6];
    for (int i = 0; i < 6; i++) {
        intents[i] = an_intent("ann", "team", 100);
        (void)begin(w.ledger, &intents[i]);
    }
    for (int i = 0; i < 4; i++) settle(w.ledger, &intents[i], 30);
    intents[0] = an_intent("ann", "team", 100);
    (void)begin(w.ledger, &intents[0]); /* the four are in the live store now */
    set_fault(NULL, -1, kill_at, false);
    if (kill_in_duty) (void)llmgwi_ledger_duty(w.ledger, 0, true);
    char told = 'x';
    (void)!write(pipe_ends[1], &told, 1);
    (void)kill(getpid(), SIGKILL);
    return false;
}

/* Three were in flight: they are rows marked recovered, with what was reserved. */
static void test_recovery(void **state) {
    (void)state;
    budget("all", LLMGWI_LEDGER_OF_ALL, NULL, LLMGWI_LEDGER_DAY, 100000);
    kill_in_duty = false;
    assert_int_equal(pipe(pipe_ends), 0);
    assert_int_equal(storing_child(die_somewhere), 128 + SIGKILL);
    world w = open_world();
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    memset(&sums, 0, sizeof sums);
    assert_int_equal(llmgwi_ledger_query(w.ledger, NULL, sum_row, NULL), 7);
    assert_int_equal(sums.recovered, 3);
    assert_int_equal(sums.cost.pico_usd, 4 * 30 + 3 * 100);
    assert_int_equal(llmgwi_ledger_query(w.ledger, NULL, see_row, NULL), 7);
    assert_true(seen_row.recovered && seen_row.cost.estimated && seen_row.usage.estimated);
    assert_int_equal(seen_row.usage.output, 1000);
    assert_string_equal(seen_texts[1], "team|");
    close_world(&w);
    check_sound(7, 0, 420, "recovered", 0);
}

/* A zombie is dead; a process that lives is not, nor is another ledger of this one. */
static void test_alive(void **state) {
    (void)state;
    budget("all", LLMGWI_LEDGER_OF_ALL, NULL, LLMGWI_LEDGER_DAY, 100000);
    int ends[2];
    char c;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        world w = open_world();
        llmgwi_ledger_intent intent = an_intent("ann", NULL, 100);
        (void)begin(w.ledger, &intent);
        (void)!write(ends[1], "x", 1);
        sleep(20); /* killed before */
        _exit(1);
    }
    assert_int_equal(read(ends[0], &c, 1), 1);
    world w = open_world(), second = open_world();
    llmgwi_ledger_intent intent = an_intent("ann", NULL, 100);
    assert_int_equal(begin(second.ledger, &intent), LLMGW_OK);
    mono_us += LLMGWI_LEDGER_LOOK_US;
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    assert_int_equal(storing_count(w.main, LLMGWI_STORE_ROW), 0);
    assert_int_equal(kill(child, SIGKILL), 0);
    usleep(50000); /* it is a zombie now */
    mono_us += LLMGWI_LEDGER_LOOK_US;
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    assert_int_equal(storing_count(w.main, LLMGWI_STORE_ROW), 1);
    assert_int_equal(storing_wait(child), 128 + SIGKILL);
    close_world(&second); /* leaves its intent: nobody will settle it */
    mono_us += LLMGWI_LEDGER_LOOK_US;
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    assert_int_equal(storing_count(w.main, LLMGWI_STORE_ROW), 2);
    close_world(&w);
    check_sound(2, 0, 200, "alive", 0);
}

/* A refusal that a reservation had a part in has the dead looked for within a second, not a minute; no more often. */
static void test_refused_by_the_dead(void **state) {
    (void)state;
    budget("all", LLMGWI_LEDGER_OF_ALL, NULL, LLMGWI_LEDGER_DAY, 250);
    int ends[2];
    char c;
    assert_int_equal(pipe(ends), 0);
    world w = open_world();
    pid_t child = fork();
    if (child == 0) {
        (void)alarm(20); /* it does not outlive a test that fails */
        world of_child = open_world();
        llmgwi_ledger_intent intent = an_intent("ann", NULL, 200);
        (void)begin(of_child.ledger, &intent);
        (void)!write(ends[1], "x", 1);
        for (;;) pause();
    }
    assert_int_equal(read(ends[0], &c, 1), 1);
    llmgwi_ledger_intent intent = an_intent("bob", NULL, 100);
    assert_int_equal(begin(w.ledger, &intent), LLMGW_E_BUDGET);
    int64_t due = llmgwi_ledger_due_us(w.ledger);
    assert_true(due <= mono_us + 1000000);
    mono_us = due;
    (void)llmgwi_ledger_duty(w.ledger, 1000000, false);
    assert_int_equal(spent(w.ledger, LLMGWI_LEDGER_OF_ALL, "", LLMGWI_LEDGER_DAY).reserved,
                     200); /* it lives */
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(storing_wait(child), 128 + SIGKILL);
    assert_int_equal(begin(w.ledger, &intent), LLMGW_E_BUDGET);
    assert_int_equal(begin(w.ledger, &intent), LLMGW_E_BUDGET);
    due = llmgwi_ledger_due_us(w.ledger);
    assert_true(due > mono_us && due <= mono_us + 1000000);
    mono_us = due;
    (void)llmgwi_ledger_duty(w.ledger, 1000000, false);
    assert_int_equal(spent(w.ledger, LLMGWI_LEDGER_OF_ALL, "", LLMGWI_LEDGER_DAY).reserved, 0);
    assert_int_equal(spent(w.ledger, LLMGWI_LEDGER_OF_ALL, "", LLMGWI_LEDGER_DAY).spent, 200);
    assert_int_equal(close(ends[0]) | close(ends[1]), 0);
    close_world(&w);
    check_sound(1, 0, 200, "refused by the dead", 0);
}

static int steps; /* calls of LMDB that a duty makes */

static int count_fault(int at, int code) {
    set_fault(NULL, code, at, true);
    return at;
}

/* Cut between any two steps: every call of LMDB fails from the n-th on while rows move; then all of it is dropped as a
   crash would, and opened anew. */
static void test_cut_move(void **state) {
    (void)state;
    budget("all", LLMGWI_LEDGER_OF_ALL, NULL, LLMGWI_LEDGER_DAY, 1000000);
    int64_t attempts = 0, hits = 0, cost = 0;
    for (int n = 1;; n++) {
        world w = open_world();
        for (int i = 0; i < 3; i++) {
            llmgwi_ledger_intent intent = an_intent(i ? "ann" : "", i == 2 ? "team" : NULL, 100);
            assert_int_equal(begin(w.ledger, &intent), LLMGW_OK);
            settle(w.ledger, &intent, 30 + n);
            attempts++;
            cost += 30 + n;
        }
        llmgw_ledger_row row;
        llmgwi_ledger_intent intent = an_intent("ann", NULL, 0);
        row = a_row(&intent, 0);
        llmgwi_ledger_hit(w.ledger, &row);
        hits++;
        assert_true(llmgwi_ledger_turn(w.ledger, true)); /* committed: from here on nothing may be lost */
        (void)count_fault(n, n % 3 == 0 ? MDB_MAP_FULL : n % 3 == 1 ? MDB_BAD_TXN : ENOSPC);
        (void)llmgwi_ledger_duty(w.ledger, 0, true);
        steps = fault_seen;
        bool cut = fault_seen >= n;
        no_fault();
        assert_int_equal(llmgwi_ledger_lost(w.ledger), 0);
        usleep(cut && n % 3 == 2 ? 31000 : 0); /* a full disk is let alone for a while */
        if (n / 3 % 2)
            close_world(&w); /* tries again */
        else
            crash_world(&w);
        check_sound(attempts, hits, cost, "cut", n);
        if (!cut) break;
        assert_true(n < 500);
    }
    assert_true(steps > 30);
}

/* The same for a turn of the live store: an intent is there and reserved, or is not and was refused. */
static void test_cut_begin(void **state) {
    (void)state;
    budget("all", LLMGWI_LEDGER_OF_ALL, NULL, LLMGWI_LEDGER_DAY, 1000000);
    int64_t attempts = 0, cost = 0;
    bool cut = true;
    for (int n = 1; cut; n++) {
        world w = open_world();
        llmgwi_ledger_intent first = an_intent("ann", NULL, 100), second = an_intent("bob", "team", 100),
                             *list[] = {&second};
        assert_int_equal(begin(w.ledger, &first), LLMGW_OK);
        settle(w.ledger, &first, 40);
        (void)count_fault(n, MDB_MAP_FULL);
        int did = llmgwi_ledger_begin(w.ledger, list, 1);
        cut = fault_seen >= n;
        no_fault();
        assert_int_equal(did, cut ? -1 : 1);
        assert_int_equal(second.code, cut ? LLMGW_E_STORE : LLMGW_OK);
        llmgwi_ledger_spent all = spent(w.ledger, LLMGWI_LEDGER_OF_ALL, "", LLMGWI_LEDGER_DAY);
        assert_int_equal(all.spent, cost + (cut ? 0 : 40));
        assert_int_equal(all.reserved, 100);
        if (cut) assert_int_equal(begin(w.ledger, &second), LLMGW_OK); /* what waited still does */
        settle(w.ledger, &second, 50);
        attempts += 2;
        cost += 90;
        close_world(&w);
        check_sound(attempts, 0, cost, "begin", n);
        assert_true(n < 200);
    }
}

static void tear_live(void) {
    FILE *data = fopen(storing_file("live/data.mdb"), "r+b");
    assert_non_null(data);
    assert_int_equal(fseek(data, 8192, SEEK_SET), 0);
    for (int i = 0; i < 30000; i++) (void)fputc(i % 251, data);
    assert_int_equal(fclose(data), 0);
}

/* Another start of the machine: what the live store held may be torn, and is not looked at. */
static void boot_again(bool torn) {
    budget("all", LLMGWI_LEDGER_OF_ALL, NULL, LLMGWI_LEDGER_DAY, 100000);
    world w = open_world();
    llmgwi_ledger_intent intent = an_intent("ann", NULL, 100);
    assert_int_equal(begin(w.ledger, &intent), LLMGW_OK);
    settle(w.ledger, &intent, 70);
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    assert_int_equal(begin(w.ledger, &intent), LLMGW_OK); /* in flight at the power cut */
    crash_world(&w);
    FILE *users = fopen(storing_file("live/users"), "r+b");
    assert_non_null(users);
    assert_int_equal(fwrite("00000000-", 1, 9, users), 9);
    assert_int_equal(fclose(users), 0);
    if (torn) tear_live();
    w = open_world();
    llmgw_budget_state now;
    (void)llmgwi_ledger_budgets(w.ledger, &now, 1);
    assert_int_equal(now.spent_pico, 70); /* from the cells */
    assert_int_equal(now.reserved_pico, 0);
    uint64_t before = intent.number;
    assert_int_equal(begin(w.ledger, &intent), LLMGW_OK);
    assert_true(intent.number >= before);
    settle(w.ledger, &intent, 1);
    close_world(&w);
    check_sound(2, 0, 71, "boot", 0);
}

static void test_boot(void **state) {
    (void)state;
    boot_again(false);
}

static void test_boot_torn(void **state) {
    (void)state;
    boot_again(true);
}

/* Torn without a new start of the machine (the file was damaged otherwise): it is made anew as well. */
static void test_live_damaged(void **state) {
    (void)state;
    budget("all", LLMGWI_LEDGER_OF_ALL, NULL, LLMGWI_LEDGER_DAY, 100000);
    world w = open_world();
    close_world(&w);
    storing_spill(storing_file("live/data.mdb"), "garbage garbage garbage garbage", 31);
    check_sound(0, 0, 0, "damaged", 0);
}

/* ---- caps ---- */

static bool see_other(const llmgw_ledger_total *total, void *user) {
    int64_t *out = (int64_t *)user;
    out[0]++;
    out[1] += total->hits;
    if (!strcmp(total->key, "(other)")) out[2] += total->hits;
    return true;
}

/* Names and combinations without end: some thousands of their own, then "(other)"; every row is counted once. */
static void test_caps(void **state) {
    (void)state;
    storing_at.max_bytes = 256 << 20;
    max_rows = 1000;
    world w = open_world();
    const int64_t hits = 70000;
    int64_t found[3] = {0, 0, 0};
    for (int64_t i = 0; i < hits; i++) {
        char key[32];
        (void)snprintf(key, sizeof key, "key-%lld", (long long)i);
        llmgwi_ledger_intent intent = an_intent(key, NULL, 0);
        llmgw_ledger_row row = a_row(&intent, 0);
        llmgwi_ledger_hit(w.ledger, &row);
        if (i % 512 == 511) (void)llmgwi_ledger_duty(w.ledger, 0, true);
    }
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    int64_t given_groups =
        llmgwi_ledger_totals(w.ledger, NULL, LLMGW_BY_KEY | LLMGW_BY_HOUR, see_other, found);
    assert_int_equal(given_groups, found[0]);
    assert_int_equal(found[0], LLMGWI_LEDGER_CELLS + 1);
    assert_int_equal(found[1], hits);
    assert_int_equal(found[2], hits - LLMGWI_LEDGER_CELLS);
    /* "(other)", provider, model, route, echo, keys; a combination for each of the keys, and one for "(other)" */
    assert_int_equal(storing_count(w.main, LLMGWI_STORE_NAME),
                     LLMGWI_LEDGER_NAMES + (LLMGWI_LEDGER_NAMES - 5) + 1);
    assert_int_equal(llmgwi_ledger_lost(w.ledger), 0);
    close_world(&w);
}

/* ---- full, read-only, several processes, old versions ---- */

/* The main store is full: the oldest rows go, attempts go on. */
static void test_full(void **state) {
    (void)state;
    storing_at.max_bytes = 1 << 20;
    budget("all", LLMGWI_LEDGER_OF_ALL, NULL, LLMGWI_LEDGER_DAY, INT64_MAX);
    world w = open_world();
    char junk[60000];
    memset(junk, 'j', sizeof junk);
    for (uint64_t i = 0; i < 60; i++) { /* what the cache holds */
        llmgwi_store_txn txn;
        assert_true(llmgwi_store_write(w.main, &txn, true));
        bool put =
            llmgwi_store_put(&txn, LLMGWI_STORE_BLOCK, storing_u64(&i), llmgwi_base_view(junk, sizeof junk));
        if (!llmgwi_store_end(&txn, put) || !put) break;
    }
    int64_t cost = 0;
    for (int i = 0; i < 40000; i++) {
        llmgwi_ledger_intent intent = an_intent("ann", NULL, 100);
        assert_int_equal(begin(w.ledger, &intent), LLMGW_OK);
        settle(w.ledger, &intent, 3);
        cost += 3;
        if (i % 500 == 0) (void)llmgwi_ledger_duty(w.ledger, 0, true);
    }
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    assert_true(storing_count(w.main, LLMGWI_STORE_ROW) < 40000);
    assert_true(storing_count(w.main, LLMGWI_STORE_ROW) > 1000);
    assert_int_equal(llmgwi_ledger_lost(w.ledger), 0);
    assert_int_equal(spent(w.ledger, LLMGWI_LEDGER_OF_ALL, "", LLMGWI_LEDGER_DAY).spent, cost);
    close_world(&w);
}

/* The disk is full: no attempt goes, what was settled waits, and nothing is lost when there is room again. */
static void test_disk_full(void **state) {
    (void)state;
    budget("all", LLMGWI_LEDGER_OF_ALL, NULL, LLMGWI_LEDGER_DAY, 100000);
    world w = open_world();
    llmgwi_ledger_intent intent = an_intent("ann", NULL, 100), second = an_intent("ann", NULL, 100),
                         *list[] = {&second};
    assert_int_equal(begin(w.ledger, &intent), LLMGW_OK);
    settle(w.ledger, &intent, 60);
    set_fault("mdb_txn_commit", ENOSPC, 1, true);
    assert_int_equal(llmgwi_ledger_begin(w.ledger, list, 1), -1);
    assert_int_equal(llmgwi_ledger_begin(w.ledger, list, 1),
                     -1); /* it is not tried again at once, and says so */
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    no_fault();
    usleep(40000);
    assert_int_equal(begin(w.ledger, &second), LLMGW_OK);
    settle(w.ledger, &second, 10);
    close_world(&w);
    check_sound(2, 0, 70, "disk", 0);
}

static void test_read_only(void **state) {
    (void)state;
    world w = open_world();
    close_world(&w);
    if (geteuid() == 0) { /* root may write anything */
        assert_int_equal(chown(storing_dir, 65534, 65534), 0);
        assert_int_equal(chown(storing_file("live"), 65534, 65534), 0);
        static const char *const files[] = {"data.mdb", "lock", "users", "lock.mdb"};
        for (size_t i = 0; i < 8; i++) {
            char name[32];
            (void)snprintf(name, sizeof name, "%s%s", i < 4 ? "" : "live/", files[i % 4]);
            assert_int_equal(chown(storing_file(name), 65534, 65534), 0);
            assert_int_equal(chmod(storing_file(name), 0400), 0);
        }
        assert_int_equal(seteuid(65534), 0);
    }
    llmgw_error error;
    llmgwi_store *main = storing_open();
    assert_null(llmgwi_ledger_open(&unit_mem, &test_clock, main, &storing_at, NULL, 0, 0, &error));
    assert_int_equal(error.code, LLMGW_E_STORE);
    unit_has(error.text, storing_dir);
    llmgwi_store_close(main, false);
    (void)!seteuid(0);
}

#define PROCESSES 3
#define EACH 300 /* of 700 that the budget allows: each has to do some */

static bool spend_some(void) {
    world w = open_world();
    int gone = 0;
    for (int i = 0; i < EACH; i++) {
        llmgwi_ledger_intent intent = an_intent("ann", "team", 100), *list[] = {&intent};
        int did = 0;
        while ((did = llmgwi_ledger_begin(w.ledger, list, 1)) == 0) usleep(200);
        if (did < 0) return false;
        if (intent.code) continue;
        gone++;
        settle(w.ledger, &intent, 100);
        mono_us += 10000;
        (void)llmgwi_ledger_duty(w.ledger, 0, false);
    }
    (void)!write(pipe_ends[1], &gone, sizeof gone);
    close_world(&w);
    return true;
}

/* Three processes spend one budget: to its last pico-dollar, and no further. */
static void test_processes(void **state) {
    (void)state;
    budget("all", LLMGWI_LEDGER_OF_ALL, NULL, LLMGWI_LEDGER_DAY, 70000);
    assert_int_equal(pipe(pipe_ends), 0);
    pid_t children[PROCESSES];
    int all = 0;
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        if (children[i] == 0) _exit(spend_some() ? 0 : 1);
    }
    for (int i = 0; i < PROCESSES; i++) assert_int_equal(storing_wait(children[i]), 0);
    for (int i = 0; i < PROCESSES; i++) {
        int gone = 0;
        assert_int_equal(read(pipe_ends[0], &gone, sizeof gone), sizeof gone);
        assert_true(gone > 0);
        all += gone;
    }
    assert_int_equal(all, 700);
    check_sound(700, 0, 70000, "processes", 0);
}

/* A store of version 1 has fewer tables: it is opened, keeps what it has, and has a ledger. */
static void test_upgrade(void **state) {
    static const int made_later[] = {LLMGWI_STORE_INTENT, LLMGWI_STORE_BUDGET, LLMGWI_STORE_ROW,
                                     LLMGWI_STORE_CELL,   LLMGWI_STORE_NAME,   LLMGWI_STORE_NAMED,
                                     LLMGWI_STORE_PRICE,  LLMGWI_STORE_KEY};
    (void)state;
    llmgwi_store *store = storing_open();
    llmgwi_store_txn txn;
    uint32_t version = 1;
    assert_true(storing_put(store, LLMGWI_STORE_ENTRY, "k", "kept"));
    assert_true(llmgwi_store_write(store, &txn, true));
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(mdb_drop((MDB_txn *)txn.txn, store->tables[made_later[i]], 1), 0);
    assert_true(llmgwi_store_put_meta(&txn, "schema", &version, sizeof version));
    assert_true(llmgwi_store_end(&txn, true));
    llmgwi_store_close(store, false);
    world w = open_world();
    assert_string_equal(storing_get(w.main, LLMGWI_STORE_ENTRY, "k"), "kept");
    fill(w.ledger, 20, 10);
    close_world(&w);
    w = open_world();
    assert_int_equal(storing_count(w.main, LLMGWI_STORE_ROW), 20);
    close_world(&w);
}

/* Rates are kept once, by their hash, beside the rows that they priced. */
static void test_rates(void **state) {
    (void)state;
    world w = open_world();
    llmgwi_price_rates some_rates, read;
    llmgwi_price_entry entries[LLMGWI_PRICE_ENTRIES];
    memset(&some_rates, 0, sizeof some_rates);
    some_rates.count = 2;
    some_rates.own[0].atto = 1234567890123;
    some_rates.own[1].atto = 77;
    some_rates.own[1].from_tokens = 128000;
    llmgwi_price_stamp(&some_rates);
    uint64_t hash = some_rates.hash;
    llmgwi_store_txn txn;
    llmgwi_base_str value;
    for (int i = 0; i < 3; i++) {
        llmgwi_ledger_intent intent = an_intent("ann", NULL, 100);
        intent.rates = &some_rates;
        assert_int_equal(begin(w.ledger, &intent), LLMGW_OK);
        llmgw_ledger_row row = a_row(&intent, 1);
        row.price = hash;
        llmgwi_ledger_settle(w.ledger, intent.number, &row);
    }
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    assert_int_equal(storing_count(w.main, LLMGWI_STORE_PRICE), 1);
    assert_true(llmgwi_store_read(w.main, &txn));
    assert_true(llmgwi_store_get(&txn, LLMGWI_STORE_PRICE, llmgwi_ledger_u64(&hash), &value));
    assert_true(llmgwi_price_unpack(value.p, value.n, entries, &read));
    assert_int_equal(read.count, 2);
    assert_int_equal(read.hash, hash);
    assert_int_equal(entries[0].atto, 1234567890123);
    assert_int_equal(entries[1].from_tokens, 128000);
    (void)llmgwi_store_end(&txn, false);
    close_world(&w);
}

/* Over the cap of what may wait in memory a transaction is made at once; where that fails it is said to be lost. */
static void test_queue(void **state) {
    (void)state;
    world w = open_world();
    llmgwi_ledger_intent intent = an_intent("ann", NULL, 100);
    llmgw_ledger_row row = a_row(&intent, 1);
    int64_t hits = 0;
    while (llmgwi_ledger_lost(w.ledger) == 0) {
        llmgwi_ledger_hit(w.ledger, &row);
        hits++;
    }
    assert_true(hits > 10000 && w.ledger->queue.n <= LLMGWI_LEDGER_QUEUE_BYTES);
    assert_int_equal(begin(w.ledger, &intent), LLMGW_OK);
    assert_int_equal(storing_count(w.ledger->live, LLMGWI_STORE_INTENT), hits); /* one lost, one begun */
    settle(w.ledger, &intent, 1);
    close_world(&w);
    w = open_world();
    assert_int_equal(llmgwi_ledger_rows(w.ledger), hits);
    close_world(&w);
}

static llmgwi_ledger *shared;
static int threads_stop;

static void *ask_all(void *arg) {
    llmgw_budget_state state;
    llmgw_ledger_row hit;
    int64_t asked = 0;
    llmgwi_ledger_intent intent;
    memset(&intent, 0, sizeof intent);
    memset(&hit, 0, sizeof hit);
    hit.key = "ann";
    hit.time_us = START * (int64_t)1000000;
    for (; !LLMGWI_BASE_LOAD(&threads_stop); asked++) {
        int64_t found[3] = {0, 0, 0};
        llmgwi_ledger_hit(shared, &hit);
        assert_true(llmgwi_ledger_totals(shared, NULL, LLMGW_BY_KEY, see_other, found) >= 0);
        assert_true(llmgwi_ledger_reprice(shared, NULL, asked % 8 == 0, new_price, NULL, NULL, NULL) >= 0);
        (void)llmgwi_ledger_budgets(shared, &state, 1);
    }
    *(int64_t *)arg = asked;
    return NULL;
}

/* While attempts come and go, others ask, and the cache answers. */
static void test_threads(void **state) {
    (void)state;
    pthread_t threads[2];
    int64_t asked[2] = {0, 0};
    budget("all", LLMGWI_LEDGER_OF_ALL, NULL, LLMGWI_LEDGER_DAY, INT64_MAX);
    world w = open_world();
    shared = w.ledger;
    threads_stop = 0;
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[i], NULL, ask_all, &asked[i]), 0);
    for (int i = 0; i < 400; i++) {
        llmgwi_ledger_intent intent = an_intent("ann", "team", 100);
        assert_int_equal(begin(w.ledger, &intent), LLMGW_OK);
        settle(w.ledger, &intent, 10);
        if (i % 10 == 0) (void)llmgwi_ledger_duty(w.ledger, 0, true);
    }
    LLMGWI_BASE_STORE(&threads_stop, 1);
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    assert_int_equal(llmgwi_ledger_rows(w.ledger), 400 + asked[0] + asked[1]);
    assert_true(asked[0] > 0 && asked[1] > 0);
    (void)llmgwi_ledger_reprice(w.ledger, NULL, true, new_price, NULL, NULL, NULL);
    check_totals(w.ledger, NULL, 127);
    close_world(&w);
}

/* What is in the live store still is not trimmed in the main one: it would be counted again. And a tag that is named
   twice counts once. */
static void test_trim_moving(void **state) {
    static const char *const twice[] = {"blue", "blue"};
    (void)state;
    max_rows = 1;
    world w = open_world();
    int64_t found[3] = {0, 0, 0};
    bool more = false;
    llmgwi_ledger_intent intent = an_intent("ann", NULL, 0);
    llmgw_ledger_row row = a_row(&intent, 0);
    row.tags = twice;
    row.tag_count = 2;
    for (int i = 0; i < 5; i++) llmgwi_ledger_hit(w.ledger, &row);
    assert_true(llmgwi_ledger_turn(w.ledger, true) && llmgwi_ledger_move(w.ledger, true, &more));
    assert_int_equal(llmgwi_ledger_rows(w.ledger), 5);
    crash_world(&w); /* before the live store has let go of them */
    w = open_world();
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    assert_int_equal(llmgwi_ledger_totals(w.ledger, NULL, LLMGW_BY_TAG, see_other, found), 1);
    assert_int_equal(found[1], 5);
    llmgwi_ledger_hit(w.ledger, &row);
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    llmgwi_ledger_hit(w.ledger, &row);
    (void)llmgwi_ledger_duty(w.ledger, 0, true);
    assert_true(llmgwi_ledger_rows(w.ledger) <= 2); /* the last, and what was still moving */
    close_world(&w);
}

static world forked_world;

static bool close_in_child(void) {
    llmgwi_ledger_close(forked_world.ledger, true);
    llmgwi_store_close(forked_world.main, true);
    return true;
}

/* A child closes what is its parent's: nothing of it is written, and the parent goes on. */
static void test_fork(void **state) {
    (void)state;
    forked_world = open_world();
    llmgwi_ledger_intent intent = an_intent("ann", NULL, 100);
    assert_int_equal(begin(forked_world.ledger, &intent), LLMGW_OK);
    settle(forked_world.ledger, &intent, 10);
    assert_int_equal(storing_child(close_in_child), 0);
    assert_int_equal(llmgwi_ledger_rows(forked_world.ledger), 0);
    (void)llmgwi_ledger_duty(forked_world.ledger, 0, true);
    assert_int_equal(llmgwi_ledger_rows(forked_world.ledger), 1);
    close_world(&forked_world);
}

/* Nothing is due before something waits; then in time. */
static void test_due(void **state) {
    (void)state;
    world w = open_world();
    int64_t look = llmgwi_ledger_due_us(w.ledger);
    assert_true(look > mono_us + 50000000);
    llmgwi_ledger_intent intent = an_intent("ann", NULL, 100);
    assert_int_equal(begin(w.ledger, &intent), LLMGW_OK);
    assert_int_equal(llmgwi_ledger_due_us(w.ledger), look);
    settle(w.ledger, &intent, 5);
    assert_int_equal(llmgwi_ledger_due_us(w.ledger), mono_us + 50000);
    assert_false(llmgwi_ledger_duty(w.ledger, 1000, false));
    assert_int_equal(storing_count(w.main, LLMGWI_STORE_ROW), 0);
    while (llmgwi_ledger_due_us(w.ledger) <
           look) { /* to the live store, to the main one, out of the live one */
        mono_us = llmgwi_ledger_due_us(w.ledger);
        (void)llmgwi_ledger_duty(w.ledger, 1000, false);
    }
    assert_int_equal(storing_count(w.main, LLMGWI_STORE_ROW), 1);
    assert_int_equal(storing_count(w.ledger->live, LLMGWI_STORE_INTENT), 0);
    assert_int_equal(llmgwi_ledger_due_us(w.ledger), look);
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, storing_teardown)
        T(test_one),        T(test_kinds),          T(test_periods),   T(test_key_soft_unknown),
        T(test_new_budget), T(test_model),          T(test_totals),    T(test_old_hours),
        T(test_row),        T(test_filters),        T(test_export),    T(test_retention),
        T(test_reprice),    T(test_recovery),       T(test_alive),     T(test_refused_by_the_dead),
        T(test_cut_move),   T(test_cut_begin),      T(test_boot),      T(test_live_damaged),
        T(test_caps),       T(test_full),           T(test_disk_full), T(test_read_only),
        T(test_processes),  T(test_upgrade),        T(test_rates),     T(test_queue),
        T(test_due),        T(test_threads),        T(test_fork),      T(test_trim_moving),
        T(test_boot_torn),  T(test_highest_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
