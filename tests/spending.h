/* spending.h - kill -9 at random moments, and budgets that many spend at once: is the money right afterwards?
 *
 * Two processes at a time, each a gateway over one store, make calls of all kinds to the fake provider; one or both are
 * killed. Ledger, budgets and the provider's own books must agree by law 6: each request that reached it has one row,
 * or an intent; what a row that was not estimated says is the provider's bill to the token; what was recovered is at
 * least what was not settled; what was spent of a budget is the sum of its rows; and at the end nothing is reserved.
 *
 * And three processes of 64 threads each spend one budget of a dollar: see "a dollar".
 *
 * Shared by money_kill.c (the long form) and test_money_kill.c. Writers and checkers are this very program, executed
 * again: what they find out comes back in shared memory. */
#ifndef SPENDING_H
#define SPENDING_H

#include "moneycheck.h"
#include "testing.h"

#include <sys/mman.h>
#include <sys/prctl.h>

enum {
    SPENDING_FLIGHT = 16,    /* calls of a writer */
    SPENDING_PER_STORE = 24, /* kills, then a new one */
    SPENDING_OUTPUT = 100,   /* max_tokens of every call */
    SPENDING_THREADS = 64,
    SPENDING_PROCESSES = 3,
    SPENDING_LATE_MS = 4000 /* no open may take longer, and no survivor be silent */
};

#define SPENDING_DOLLAR ((int64_t)1000000000000)

/* What may be bought. Prices in pico-dollars a token, as they stand in spending_config. */
typedef struct spending_model {
    const char *name, *dialect, *model;
    bool
        loose; /* attempts at it are given up on, or cost more than is reserved: recovered ones may say less */
    int64_t input, output;
} spending_model;

static const spending_model spending_models[] = {
    {"oa", "openai", "oa-1", false, 2500000, 10000000},
    {"an", "anthropic", "an-1", false, 3000000, 15000000},
    {"ge", "gemini", "ge-1", false, 300000, 2500000},
    {"bad", "openai", "bad-1", false, 2500000, 10000000},
    {"slow", "openai", "slow-1", true, 2500000, 10000000},
    {"ra", "openai", "ra-1", true, 2500000, 10000000},
    {"rb", "gemini", "rb-1", true, 300000, 2500000},
    {"even", "openai", "even-1", false, 1000000, 10000000},
    {"under", "openai", "under-1", false, 1000000, 10000000},
    {"over", "openai", "over-1", true, 1000000, 10000000},
};
enum { SPENDING_MODELS = 10 };

static const char spending_config[] =
    "{'models': {'oa': {'provider': 'openai', 'model': 'oa-1', 'price': {'input': 2.5, 'output': 10}},"
    "'an': {'provider': 'anthropic', 'model': 'an-1', 'price': {'input': 3, 'output': 15}},"
    "'ge': {'provider': 'gemini', 'model': 'ge-1', 'price': {'input': 0.3, 'output': 2.5}},"
    "'bad': {'provider': 'openai', 'model': 'bad-1', 'price': {'input': 2.5, 'output': 10}},"
    "'slow': {'provider': 'openai', 'model': 'slow-1', 'price': {'input': 2.5, 'output': 10}},"
    "'ra': {'provider': 'openai', 'model': 'ra-1', 'price': {'input': 2.5, 'output': 10}},"
    "'rb': {'provider': 'gemini', 'model': 'rb-1', 'price': {'input': 0.3, 'output': 2.5}},"
    "'even': {'provider': 'openai', 'model': 'even-1', 'price': {'input': 1, 'output': 10}},"
    "'under': {'provider': 'openai', 'model': 'under-1', 'price': {'input': 1, 'output': 10}},"
    "'over': {'provider': 'openai', 'model': 'over-1', 'price': {'input': 1, 'output': 10}}},"
    "'routes': {'fail': {'try': ['bad', 'an']}, 'race': {'how': 'race', 'try': ['ra', 'rb']}},"
    "'budgets': {'poor': {'tag': 'poor', 'total_usd': 0.05}, 'team': {'tag': 'team', 'per_month_usd': 20},"
    "'route': {'route': 'fail', 'per_day_usd': 30}, 'warn': {'tag': 'team', 'total_usd': 0.01, 'soft': "
    "true}}}";

#define SPENDING_KEY "bearer" /* a scoped key, of 0.6 dollars in all */

typedef struct spending_writer { /* written by the writer, also while it is killed */
    int ready;
    int64_t calls, good, refused, cancelled, streams, flushes;
    int64_t attempts,
        settled;      /* that were sent and have ended; of these, before the last flush that is done */
    int64_t failures; /* calls that ended as nothing here should make them end */
} spending_writer;

typedef struct spending_report { /* of a checker */
    int64_t open_ms, rows, hits, recovered, estimated, intents, spent, overrun, excess, reserved_each;
    int64_t bills, billed, problems;
} spending_report;

typedef struct spending_shared {
    spending_writer writers[SPENDING_PROCESSES];
    spending_report report;
    char secret[LLMGW_KEY_TEXT];
    double dollars; /* the gateway's budget */
} spending_shared;

typedef struct spending_sum {
    int kills, checks, failed_checks, survivors, stuck;
    int64_t calls, good, refused, cancelled, streams, flushes, failures, problems, rows, hits, recovered,
        estimated, bills, most_rows, worst_open_ms;
} spending_sum;

typedef struct spending_job {
    const char *dir;
    int port;
    uint64_t seed;
    int who;    /* of the writers */
    bool final; /* nobody else has the store open */
    spending_shared *shared;
} spending_job;

#define spending_bad(job, ...)                                                                               \
    do {                                                                                                     \
        if ((job)->shared->report.problems++ < 20) {                                                         \
            fprintf(stderr, "money: --seed %llu: ", (unsigned long long)(job)->seed);                        \
            fprintf(stderr, __VA_ARGS__);                                                                    \
            fprintf(stderr, "\n");                                                                           \
        }                                                                                                    \
    } while (0)

static uint64_t spending_next(uint64_t *seed) { return llmgwi_base_mix(*seed += LLMGWI_BASE_STEP); }

static llmgw *spending_open(const spending_job *job) {
    llmgw_options options = t_calm();
    options.config_json = unit_quoted(spending_config);
    options.store.path = job->dir;
    options.store.max_bytes = 256 << 20;
    options.store.commit_ms = job->seed % 3 ? (job->seed % 3 == 1 ? 5 : 0) : LLMGW_OFF;
    options.store.no_sync = job->seed % 2;
    options.store.required = true;
    options.cache.on = job->seed % 4 == 1;
    options.budget.total_usd = llmgw_set(job->shared->dollars);
    options.budget.per_day_usd = llmgw_set(50);
    options.max_connections = 500;
    options.background_thread = job->seed % 5 == 0;
    return t_open_at("http", "127.0.0.1", job->port, &options);
}

/* ---- a writer: calls of all kinds, until it is killed ---- */

typedef struct spending_call {
    struct spending_desk *desk;
    llmgw_call id;
    bool open, may_cancel;
    int64_t cancel_ms; /* when; 0: never */
} spending_call;

typedef struct spending_desk {
    const spending_job *job;
    spending_writer *me;
    llmgw *gw;
    uint64_t seed;
    char tag[32];
    spending_call calls[SPENDING_FLIGHT];
} spending_desk;

static void spending_event(const llmgw_event *event, void *user) {
    spending_call *call = (spending_call *)user;
    spending_writer *me = call->desk->me;
    if (event->kind != LLMGW_EVENT_END) return;
    const llmgw_reply *reply = event->reply;
    llmgw_code code = reply->error.code;
    me->attempts += t_sent(reply);
    me->good += code == LLMGW_OK;
    me->refused += code == LLMGW_E_BUDGET;
    me->cancelled += code == LLMGW_E_CANCELLED;
    bool fine = code == LLMGW_OK || code == LLMGW_E_BUDGET || (code == LLMGW_E_CANCELLED && call->may_cancel);
    /* the target that fails could be paid, the next one could not */
    for (size_t i = 0; i < reply->trace_count && code == LLMGW_E_PROVIDER; i++)
        fine = fine || reply->trace[i].code == LLMGW_E_BUDGET;
    if (!fine) {
        fprintf(stderr, "money: a call ended with %s: %s\n", llmgw_code_name(code), reply->error.text);
        me->failures++;
    }
    call->open = false;
    __atomic_store_n(&me->ready, 1, __ATOMIC_RELEASE);
}

static void spending_send(spending_desk *desk, spending_call *call) {
    static const char *const models[] = {"oa", "an", "ge", "oa", "fail", "race", "slow", "ge"};
    uint64_t random = spending_next(&desk->seed);
    const char *tags[3] = {desk->tag, random >> 50 & 7 ? "team" : "poor", NULL};
    char prompt[200];
    llmgw_request request;
    llmgw_error error;
    memset(&request, 0, sizeof request);
    request.model = models[random % 8];
    /* some again and again: where there is a cache, it answers them */
    unsigned long long number = random >> 40 & 3 ? random >> 20 : random >> 20 & 7;
    snprintf(prompt, sizeof prompt, "Tell me what is known of the %.*s parcel with the number %llu",
             (int)(random >> 16 & 31), "small brown heavy and quite expensive", number);
    request.prompt = prompt;
    request.max_tokens = SPENDING_OUTPUT;
    request.stream = random >> 10 & 1;
    request.tags = tags;
    request.tag_count = random >> 11 & 1 ? 2 : 1;
    if (!(random >> 12 & 3)) request.key = desk->job->shared->secret;
    request.on_event = spending_event;
    request.user = call;
    call->desk = desk;
    call->may_cancel = random % 8 == 6 && (random >> 14 & 3);
    call->cancel_ms = call->may_cancel ? t_now_ms() + (int64_t)(random >> 30 & 15) : 0;
    call->open = true;
    desk->me->calls++;
    desk->me->streams += request.stream;
    call->id = llmgw_send(desk->gw, &request, &error);
    if (call->id) return;
    call->open = false;
    desk->me->failures++;
    fprintf(stderr, "money: llmgw_send: %s\n", error.text);
}

static void spending_cancel(spending_desk *desk) {
    for (int i = 0; i < SPENDING_FLIGHT; i++) {
        spending_call *call = &desk->calls[i];
        if (!call->open || !call->cancel_ms || t_now_ms() < call->cancel_ms) continue;
        call->cancel_ms = 0;
        llmgw_cancel(desk->gw, call->id);
    }
}

static int spending_write(const spending_job *job) {
    spending_desk *desk = (spending_desk *)calloc(1, sizeof *desk);
    if (!desk) return 1;
    desk->job = job;
    desk->me = &job->shared->writers[job->who];
    desk->seed = job->seed * 77 + (uint64_t)job->who;
    snprintf(desk->tag, sizeof desk->tag, "w%llu-%d", (unsigned long long)job->seed, job->who);
    desk->gw = spending_open(job);
    for (int turn = 1;; turn++) {
        for (int i = 0; i < SPENDING_FLIGHT; i++)
            if (!desk->calls[i].open) spending_send(desk, &desk->calls[i]);
        if (llmgw_poll(desk->gw, 5) < 0) return 2;
        spending_cancel(desk);
        if (spending_next(&desk->seed) % 64) continue;
        int64_t ended = desk->me->attempts;
        if (llmgw_flush(desk->gw) != LLMGW_OK) continue;
        __atomic_store_n(&desk->me->settled, ended, __ATOMIC_RELEASE);
        __atomic_add_fetch(&desk->me->flushes, 1, __ATOMIC_RELEASE);
    }
}

/* ---- the provider's books ---- */

typedef struct spending_bill {
    char id[MONEYCHECK_TEXT], model[32];
    int64_t input, output;
    bool old; /* from before the ledger was looked at */
    bool met; /* by a row */
} spending_bill;

typedef struct spending_books {
    spending_bill *bills;
    size_t count;
    int64_t asked[SPENDING_MODELS], asked_after[SPENDING_MODELS];
} spending_books;

static const spending_model *spending_model_of(const char *model) {
    for (int i = 0; i < SPENDING_MODELS; i++)
        if (!strcmp(spending_models[i].model, model)) return &spending_models[i];
    return NULL;
}

static int64_t spending_cost(const spending_bill *bill) {
    const spending_model *model = spending_model_of(bill->model);
    return model ? bill->input * model->input + bill->output * model->output : 0;
}

static void spending_asked(const Provider *provider, int64_t asked[SPENDING_MODELS]) {
    json_t *stats = provider_stats(provider), *by = json_object_get(stats, "by_model");
    for (int i = 0; i < SPENDING_MODELS; i++)
        asked[i] = (int64_t)json_integer_value(json_object_get(by, spending_models[i].model));
    json_decref(stats);
}

static int spending_by_id(const void *a, const void *b) {
    return strcmp(((const spending_bill *)a)->id, ((const spending_bill *)b)->id);
}

/* old_bytes: how long they were before. */
static void spending_read_bills(const Provider *provider, size_t old_bytes, spending_books *books) {
    char *text = provider_http(provider, "GET", "/_bills", NULL);
    assert_non_null(text);
    size_t lines = 0;
    for (const char *p = text; *p; p++) lines += *p == '\n';
    books->bills = (spending_bill *)calloc(lines + 1, sizeof *books->bills);
    for (char *line = text, *end; books->bills && (end = strchr(line, '\n')); line = end + 1) {
        spending_bill *bill = &books->bills[books->count++];
        long long input, output;
        assert_int_equal(sscanf(line, "%71s %31s %lld %lld", bill->id, bill->model, &input, &output), 4);
        bill->input = input;
        bill->output = output;
        bill->old = (size_t)(line - text) < old_bytes;
    }
    free(text);
    qsort(books->bills, books->count, sizeof *books->bills, spending_by_id);
}

/* ---- a checker ---- */

/* Of one model, what ledger and provider say. */
typedef struct spending_tally {
    int64_t attempts;  /* rows and intents */
    int64_t reached;   /* of which a provider's answer is known */
    int64_t anonymous; /* of which it is not known which request they were */
    int64_t anonymous_pico, all_pico, unmet, unmet_pico, billed_pico, estimated;
} spending_tally;

/* One attempt, and the bill that it names. */
static void spending_match(const spending_job *job, spending_books *books, const moneycheck_item *item,
                           spending_tally *tally) {
    spending_bill probe, *bill;
    tally->attempts++;
    tally->reached += item->http_status != 0;
    tally->all_pico += item->pending && !item->late ? item->reserved_pico : item->cost_pico;
    tally->estimated += item->estimated;
    if (!item->request_id[0]) {
        bool certain = !item->pending && item->http_status >= 300; /* an error costs nothing */
        tally->anonymous += !certain;
        tally->anonymous_pico += item->pending && !item->late ? item->reserved_pico : item->cost_pico;
        return;
    }
    moneycheck_copy(probe.id, item->request_id);
    bill = (spending_bill *)bsearch(&probe, books->bills, books->count, sizeof probe, spending_by_id);
    if (!bill || bill->met) {
        spending_bad(job, "row %llu names request %s: %s", (unsigned long long)item->number, probe.id,
                     bill ? "so does another" : "the provider does not know it");
        return;
    }
    bill->met = true;
    if (item->estimated || item->code) return;
    if (item->input != bill->input || item->output != bill->output ||
        item->cost_pico != spending_cost(bill) || strcmp(item->model, bill->model) || !item->known)
        spending_bad(job,
                     "row %llu of %s says %lld + %lld tokens, %lld pico-dollars; its bill %lld + %lld, %lld",
                     (unsigned long long)item->number, item->model, (long long)item->input,
                     (long long)item->output, (long long)item->cost_pico, (long long)bill->input,
                     (long long)bill->output, (long long)spending_cost(bill));
}

static void spending_judge(const spending_job *job, const spending_books *books, int i,
                           const spending_tally *tally) {
    const spending_model *model = &spending_models[i];
    if (tally->attempts < books->asked[i])
        spending_bad(job, "%s was asked %lld times, the ledger knows of %lld", model->model,
                     (long long)books->asked[i], (long long)tally->attempts);
    if (tally->reached > books->asked_after[i])
        spending_bad(job, "%s was asked %lld times, the ledger has %lld answers", model->model,
                     (long long)books->asked_after[i], (long long)tally->reached);
    if (tally->unmet > tally->anonymous)
        spending_bad(job, "%lld answers of %s are in no row, %lld could be", (long long)tally->unmet,
                     model->model, (long long)tally->anonymous);
    if (model->loose) return;
    if (tally->unmet_pico > tally->anonymous_pico)
        spending_bad(job, "%s: %lld pico-dollars are in no row, %lld were recovered", model->model,
                     (long long)tally->unmet_pico, (long long)tally->anonymous_pico);
    if (job->final && !tally->estimated && tally->all_pico != tally->billed_pico)
        spending_bad(job, "%s: rows cost %lld, bills %lld, and nothing was estimated", model->model,
                     (long long)tally->all_pico, (long long)tally->billed_pico);
}

static void spending_compare(const spending_job *job, spending_books *books, const moneycheck_sum *sum) {
    spending_tally tallies[SPENDING_MODELS];
    spending_report *report = &job->shared->report;
    memset(tallies, 0, sizeof tallies);
    for (size_t i = 0; i < sum->count; i++) {
        const moneycheck_item *item = &sum->items[i];
        const spending_model *model = spending_model_of(item->model);
        report->hits += !item->epoch;
        report->recovered += item->recovered && !item->pending;
        report->estimated += item->estimated && !item->pending;
        if (!item->epoch) continue;
        if (model)
            spending_match(job, books, item, &tallies[model - spending_models]);
        else
            spending_bad(job, "a row is of %s, which nobody asked", item->model);
    }
    for (size_t i = 0; i < books->count; i++) {
        const spending_bill *bill = &books->bills[i];
        const spending_model *model = spending_model_of(bill->model);
        if (!model) continue;
        spending_tally *tally = &tallies[model - spending_models];
        tally->billed_pico += spending_cost(bill);
        report->billed += spending_cost(bill);
        if (!bill->old || bill->met) continue;
        tally->unmet++;
        tally->unmet_pico += spending_cost(bill);
    }
    for (int i = 0; i < SPENDING_MODELS; i++) spending_judge(job, books, i, &tallies[i]);
    report->bills = (int64_t)books->count;
}

/* What writers had told of as flushed is settled, not recovered: their tags say whose it is. */
static void spending_durable(const spending_job *job, const int64_t *settled, const moneycheck_sum *sum) {
    for (int w = 0; w < 2; w++) {
        char tag[32];
        int64_t found = 0;
        snprintf(tag, sizeof tag, "w%llu-%d", (unsigned long long)job->seed, w);
        for (size_t i = 0; i < sum->count; i++) {
            const moneycheck_item *item = &sum->items[i];
            if (item->pending || item->recovered || !item->epoch) continue;
            for (size_t t = 0; t < item->tag_count; t++) found += !strcmp(item->tags[t], tag);
        }
        if (found < settled[w])
            spending_bad(job, "writer %d had flushed %lld attempts, %lld are there", w, (long long)settled[w],
                         (long long)found);
    }
}

/* The public functions say what was found in the tables. */
typedef struct spending_seen {
    int64_t rows, pico, attempts;
} spending_seen;

static bool spending_see_row(const llmgw_ledger_row *row, void *user) {
    spending_seen *seen = (spending_seen *)user;
    seen->rows++;
    seen->attempts += row->epoch != 0;
    seen->pico += row->cost.known ? row->cost.pico_usd : 0;
    return true;
}

static bool spending_see_total(const llmgw_ledger_total *total, void *user) {
    spending_seen *seen = (spending_seen *)user;
    seen->rows += total->attempts + total->hits;
    seen->attempts += total->attempts;
    seen->pico += total->cost.known ? total->cost.pico_usd : 0;
    return true;
}

/* Nobody else writes. */
static void spending_public(const spending_job *job, llmgw *gw, const moneycheck_sum *sum) {
    spending_seen rows = {0, 0, 0}, totals = {0, 0, 0}, told = {0, 0, 0};
    llmgw_budget_state states[MONEYCHECK_RULES];
    int64_t asked = llmgw_ledger_query(gw, NULL, spending_see_row, &rows);
    (void)llmgw_ledger_totals(gw, NULL, LLMGW_BY_MODEL | LLMGW_BY_KEY | LLMGW_BY_ROUTE, spending_see_total,
                              &totals);
    for (size_t i = 0; i < sum->count; i++) {
        told.rows++;
        told.attempts += sum->items[i].epoch != 0;
        told.pico += sum->items[i].cost_pico;
    }
    if (asked != rows.rows || memcmp(&rows, &told, sizeof rows) || memcmp(&totals, &told, sizeof totals))
        spending_bad(job, "tables: %lld rows, %lld pico; query: %lld, %lld; totals: %lld, %lld",
                     (long long)told.rows, (long long)told.pico, (long long)rows.rows, (long long)rows.pico,
                     (long long)totals.rows, (long long)totals.pico);
    size_t count = llmgw_budgets(gw, states, MONEYCHECK_RULES);
    for (size_t i = 0; i < count; i++) {
        const llmgw_budget_state *state = &states[i];
        if (state->reserved_pico)
            spending_bad(job, "%lld of budget %s are reserved at the end", (long long)state->reserved_pico,
                         state->name);
        if (!strcmp(state->name, "budget") && !strcmp(state->per, "total"))
            job->shared->report.spent = state->spent_pico;
        if (!strcmp(state->name, "budget") && state->spent_pico != told.pico)
            spending_bad(job, "budget per %s: %lld spent, rows cost %lld", state->per,
                         (long long)state->spent_pico, (long long)told.pico);
    }
    if (sum->intents) spending_bad(job, "%zu intents are left", sum->intents);
}

/* Every hard budget holds: nothing here costs more than was reserved for it. */
static void spending_within(const spending_job *job, llmgw *gw) {
    llmgw_budget_state states[MONEYCHECK_RULES];
    size_t count = llmgw_budgets(gw, states, MONEYCHECK_RULES);
    for (size_t i = 0; i < count; i++)
        if (!states[i].soft && states[i].spent_pico + states[i].reserved_pico > states[i].limit_pico)
            spending_bad(job, "budget %s: %lld spent, %lld reserved, of %lld", states[i].name,
                         (long long)states[i].spent_pico, (long long)states[i].reserved_pico,
                         (long long)states[i].limit_pico);
}

/* In a process of its own; one of the writers may live. */
static int spending_check(const spending_job *job) {
    spending_report *report = &job->shared->report;
    spending_books books;
    Provider provider;
    int64_t settled[2];
    memset(&provider, 0, sizeof provider);
    memset(&books, 0, sizeof books);
    provider.port = job->port;
    for (int w = 0; w < 2; w++)
        settled[w] = __atomic_load_n(&job->shared->writers[w].settled, __ATOMIC_ACQUIRE);
    int64_t began = t_now_ms();
    llmgw *gw = spending_open(job);
    report->open_ms = t_now_ms() - began;
    if (job->final) assert_int_equal(llmgw_flush(gw), LLMGW_OK);
    char *before = provider_http(&provider, "GET", "/_bills", NULL);
    assert_non_null(before);
    size_t old_bytes = strlen(before);
    free(before);
    spending_asked(&provider, books.asked);
    moneycheck_sum sum = moneycheck(gw->ledger, SPENDING_KEY);
    spending_asked(&provider, books.asked_after);
    spending_read_bills(&provider, old_bytes, &books);
    spending_compare(job, &books, &sum);
    spending_durable(job, settled, &sum);
    spending_within(job, gw);
    if (job->final) spending_public(job, gw, &sum);
    report->problems += (int64_t)sum.problems;
    report->rows = (int64_t)sum.count;
    report->intents = (int64_t)sum.intents;
    free(sum.items);
    free(books.bills);
    llmgw_close(gw);
    return 0;
}

/* ---- a dollar: 3 processes of 64 threads each spend it ---- */

typedef struct spending_purse {
    const spending_job *job;
    llmgw *gw;
    int overs; /* 1: some answers use more than was reserved; 2: all do */
    int thread, done;
} spending_purse;

static llmgw_request spending_request(void) {
    llmgw_request request;
    memset(&request, 0, sizeof request);
    request.model = "even";
    request.prompt =
        "What does it cost to send a parcel of two pounds from one end of the country to the other?";
    request.max_tokens = SPENDING_OUTPUT;
    request.cache = LLMGW_CACHE_OFF;
    return request;
}

/* DESIGN, law 6: input x 1.15 + output cap, priced. */
static int64_t spending_reserve(void) {
    llmgw_request request = spending_request();
    int64_t input = llmgwi_dialect_request_tokens(&request);
    return (input + input * 15 / 100) * 1000000 + SPENDING_OUTPUT * (int64_t)10000000;
}

/* Is the dollar gone? Not while something is reserved: it may come to less. */
static bool spending_is_gone(llmgw *gw) {
    llmgw_budget_state states[MONEYCHECK_RULES];
    size_t count = llmgw_budgets(gw, states, MONEYCHECK_RULES);
    for (size_t i = 0; i < count; i++)
        if (!strcmp(states[i].name, "budget") && !strcmp(states[i].per, "total"))
            return !states[i].reserved_pico &&
                   states[i].spent_pico + spending_reserve() > states[i].limit_pico;
    return true;
}

static void *spending_buy(void *user) {
    static const char *const models[] = {"even", "under", "even", "over", "under"};
    spending_purse *purse = (spending_purse *)user;
    spending_writer *me = &purse->job->shared->writers[purse->job->who];
    uint64_t seed = purse->job->seed * 1000 + (uint64_t)(purse->job->who * SPENDING_THREADS);
    int number = __atomic_fetch_add(&purse->thread, 1, __ATOMIC_RELAXED);
    seed += (uint64_t)number;
    while (!__atomic_load_n(&purse->done, __ATOMIC_ACQUIRE)) {
        uint64_t random = spending_next(&seed);
        llmgw_request request = spending_request();
        request.model = purse->overs > 1 ? "over" : models[random % 5];
        if (!purse->overs && random % 5 == 3) request.model = "even";
        request.stream = random >> 20 & 1;
        llmgw_reply *reply = llmgw_chat(purse->gw, &request);
        llmgw_code code = reply->error.code;
        __atomic_add_fetch(&me->calls, 1, __ATOMIC_RELAXED);
        __atomic_add_fetch(&me->good, code == LLMGW_OK, __ATOMIC_RELAXED);
        __atomic_add_fetch(&me->refused, code == LLMGW_E_BUDGET, __ATOMIC_RELAXED);
        if (code && code != LLMGW_E_BUDGET) {
            __atomic_add_fetch(&me->failures, 1, __ATOMIC_RELAXED);
            fprintf(stderr, "money: %s: %s\n", llmgw_code_name(code), reply->error.text);
        }
        llmgw_reply_free(reply);
        if (code == LLMGW_OK) continue;
        if (code != LLMGW_E_BUDGET || spending_is_gone(purse->gw))
            __atomic_store_n(&purse->done, 1, __ATOMIC_RELEASE);
        t_sleep_ms(5 + number % 16);
    }
    return NULL;
}

static int spending_shop(const spending_job *job) {
    pthread_t threads[SPENDING_THREADS];
    spending_purse purse = {job, spending_open(job), job->seed % 2 ? 0 : job->seed % 4 ? 2 : 1, 0, 0};
    for (int i = 0; i < SPENDING_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, spending_buy, &purse), 0);
    for (int i = 0; i < SPENDING_THREADS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    llmgw_close(purse.gw);
    return 0;
}

/* After it: by how much the dollar was overrun, and by how much attempts exceeded what was reserved for them. */
static int spending_audit(const spending_job *job) {
    spending_report *report = &job->shared->report;
    spending_books books;
    Provider provider;
    int64_t reserve = spending_reserve();
    memset(&provider, 0, sizeof provider);
    memset(&books, 0, sizeof books);
    provider.port = job->port;
    llmgw *gw = spending_open(job);
    assert_int_equal(llmgw_flush(gw), LLMGW_OK);
    moneycheck_sum sum = moneycheck(gw->ledger, NULL);
    spending_asked(&provider, books.asked);
    memcpy(books.asked_after, books.asked, sizeof books.asked);
    spending_read_bills(&provider, SIZE_MAX, &books);
    spending_compare(job, &books, &sum);
    spending_public(job, gw, &sum);
    for (size_t i = 0; i < sum.count; i++)
        if (sum.items[i].cost_pico > reserve) report->excess += sum.items[i].cost_pico - reserve;
    report->problems += (int64_t)sum.problems;
    report->rows = (int64_t)sum.count;
    report->reserved_each = reserve;
    report->overrun = report->spent > SPENDING_DOLLAR ? report->spent - SPENDING_DOLLAR : 0;
    if (report->overrun > report->excess)
        spending_bad(job, "overrun by %lld, although attempts exceeded their reservations by %lld only",
                     (long long)report->overrun, (long long)report->excess);
    if (!report->recovered && report->spent != report->billed)
        spending_bad(job, "%lld pico-dollars were spent, %lld billed", (long long)report->spent,
                     (long long)report->billed);
    if (report->spent < SPENDING_DOLLAR / 100 * 95)
        spending_bad(job, "only %lld pico-dollars were spent", (long long)report->spent);
    free(sum.items);
    free(books.bills);
    llmgw_close(gw);
    return 0;
}

/* ---- the parent ---- */

/* For main: runs what is asked for and ends, if this is not the parent. Arguments: --job WHAT DIR PORT SEED WHO FD */
static void spending_main(int argc, char **argv) {
    if (argc < 8 || strcmp(argv[1], "--job")) return;
    spending_job job = {argv[3], atoi(argv[4]), strtoull(argv[5], NULL, 10), atoi(argv[6]), false, NULL};
    void *map = mmap(NULL, sizeof(spending_shared), PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argv[7]), 0);
    if (map == MAP_FAILED) exit(4);
    job.shared = (spending_shared *)map;
    job.final = argv[2][0] == 'f';
    switch (argv[2][0]) {
    case 'w': exit(spending_write(&job));
    case 's': exit(spending_shop(&job));
    case 'a': exit(spending_audit(&job));
    default: exit(spending_check(&job));
    }
}

static pid_t spending_run(const spending_job *job, const char *what, int who, int fd) {
    char port[16], seed[32], number[16], memory[16];
    snprintf(port, sizeof port, "%d", job->port);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)job->seed);
    snprintf(number, sizeof number, "%d", who);
    snprintf(memory, sizeof memory, "%d", fd);
    pid_t parent = getpid(), pid = fork();
    if (pid) return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(0);
    execl("/proc/self/exe", "spending", "--job", what, job->dir, port, seed, number, memory, (char *)NULL);
    _exit(127);
}

static int spending_status(pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    return status;
}

static void spending_kill(spending_sum *sum, pid_t pid) {
    kill(pid, SIGKILL);
    int status = spending_status(pid);
    sum->kills++;
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
        fprintf(stderr, "money: a writer had ended by itself: %d\n", status);
        sum->failures++;
    }
}

static void spending_checked(spending_sum *sum, const spending_job *job, const char *what, int fd) {
    spending_report *report = &job->shared->report;
    memset(report, 0, sizeof *report);
    int status = spending_status(spending_run(job, what, 0, fd));
    sum->checks++;
    if (status || report->problems) {
        fprintf(stderr, "money: --seed %llu: check %s ended with %d and %lld problems\n",
                (unsigned long long)job->seed, what, status, (long long)report->problems);
        sum->failed_checks++;
    }
    sum->problems += report->problems;
    if (report->rows > sum->most_rows) sum->most_rows = report->rows;
    if (report->open_ms > sum->worst_open_ms) sum->worst_open_ms = report->open_ms;
}

static void spending_gather(spending_sum *sum, spending_shared *shared) {
    for (int w = 0; w < SPENDING_PROCESSES; w++) {
        const spending_writer *writer = &shared->writers[w];
        sum->calls += writer->calls;
        sum->good += writer->good;
        sum->refused += writer->refused;
        sum->cancelled += writer->cancelled;
        sum->streams += writer->streams;
        sum->flushes += writer->flushes;
        sum->failures += writer->failures;
    }
    memset(shared->writers, 0, sizeof shared->writers);
}

/* The one that lives goes on, although the other was killed. */
static void spending_survives(spending_sum *sum, const spending_writer *writer) {
    int64_t before = __atomic_load_n(&writer->flushes, __ATOMIC_ACQUIRE),
            until = t_now_ms() + SPENDING_LATE_MS;
    while (__atomic_load_n(&writer->flushes, __ATOMIC_ACQUIRE) == before && t_now_ms() < until) t_sleep_ms(1);
    sum->survivors++;
    sum->stuck += __atomic_load_n(&writer->flushes, __ATOMIC_ACQUIRE) == before;
}

static void spending_round(spending_sum *sum, const spending_job *job, int fd) {
    pid_t pids[2];
    uint64_t random = llmgwi_base_mix(job->seed);
    for (int w = 0; w < 2; w++) pids[w] = spending_run(job, "write", w, fd);
    if (random % 8) /* else they are killed while they open it */
        for (int64_t until = t_now_ms() + SPENDING_LATE_MS; t_now_ms() < until;) {
            if (__atomic_load_n(&job->shared->writers[0].ready, __ATOMIC_ACQUIRE) &&
                __atomic_load_n(&job->shared->writers[1].ready, __ATOMIC_ACQUIRE))
                break;
            t_sleep_ms(1);
        }
    usleep((useconds_t)(random >> 8) % 150000);
    int first = (int)(random >> 40 & 1);
    spending_kill(sum, pids[first]);
    if (random >> 41 & 1) {
        spending_checked(sum, job, "check", fd);
        spending_survives(sum, &job->shared->writers[!first]);
        usleep((useconds_t)(random >> 16) % 20000);
    }
    spending_kill(sum, pids[!first]);
    spending_checked(sum, job, "final", fd);
    spending_gather(sum, job->shared);
}

/* What the fake provider does, and who may ask it. */
static void spending_prepare(Provider *provider, spending_job *job, double dollars) {
    static const char *const rules[][2] = {
        {"bad-1", "\"status\":500"},
        {"slow-1", "\"first_token_delay_ms\":8,\"chunk_ms\":1,\"chunk_chars\":8"},
        {"ra-1", "\"delay_ms\":3"},
        {"even-1", "\"usage_output\":100,\"delay_ms\":10"},
        {"under-1", "\"usage_output\":40,\"delay_ms\":10"},
        {"over-1", "\"usage_output\":110,\"delay_ms\":10"}};
    provider_start(provider, NULL);
    for (size_t i = 0; i < COUNT_OF(rules); i++) provider_model_rule(provider, rules[i][0], rules[i][1]);
    job->port = provider->port;
    memset(job->shared, 0, sizeof *job->shared);
    job->shared->dollars = dollars;
    llmgw_key key;
    llmgw_error error;
    memset(&key, 0, sizeof key);
    key.name = SPENDING_KEY;
    key.total_usd = llmgw_set(0.6);
    key.per_month_usd = llmgw_set(5);
    llmgw *gw = spending_open(job);
    if (llmgw_key_create(gw, &key, job->shared->secret, &error)) fail_msg("llmgw_key_create: %s", error.text);
    llmgw_close(gw);
}

static spending_shared *spending_share(int *fd) {
    *fd = memfd_create("spending", 0);
    if (*fd < 0 || ftruncate(*fd, sizeof(spending_shared))) exit(3);
    void *map = mmap(NULL, sizeof(spending_shared), PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    if (map == MAP_FAILED) exit(3);
    return (spending_shared *)map;
}

/* A provider and a store of its own for every so many kills: who was killed may be heard by a provider later. */
static spending_sum spending_kills(int kills, uint64_t seed) {
    spending_sum sum;
    int fd;
    spending_shared *shared = spending_share(&fd);
    memset(&sum, 0, sizeof sum);
    while (sum.kills < kills) {
        char top[] = "/tmp/llmgw-money-XXXXXX";
        Provider provider;
        int until = sum.kills + SPENDING_PER_STORE < kills ? sum.kills + SPENDING_PER_STORE : kills;
        if (!mkdtemp(top)) exit(3);
        spending_job job = {top, 0, seed, 0, false, shared};
        spending_prepare(&provider, &job, 10);
        for (; sum.kills < until; job.seed = ++seed) spending_round(&sum, &job, fd);
        sum.rows += shared->report.rows; /* of the last check */
        sum.hits += shared->report.hits;
        sum.recovered += shared->report.recovered;
        sum.estimated += shared->report.estimated;
        sum.bills += shared->report.bills;
        provider_stop(&provider);
        t_remove_tree(top);
    }
    close(fd);
    munmap(shared, sizeof *shared);
    return sum;
}

/* killed: so many of the three are, in the middle. */
static spending_report spending_dollar(uint64_t seed, int killed, spending_sum *sum) {
    char top[] = "/tmp/llmgw-dollar-XXXXXX";
    int fd;
    Provider provider;
    pid_t pids[SPENDING_PROCESSES];
    if (!mkdtemp(top)) exit(3);
    spending_job job = {top, 0, seed, 0, false, spending_share(&fd)};
    spending_prepare(&provider, &job, 1);
    for (int i = 0; i < SPENDING_PROCESSES; i++) pids[i] = spending_run(&job, "shop", i, fd);
    for (int i = 0; i < killed; i++) {
        t_sleep_ms(100 + (int)(seed * 37 % 150));
        spending_kill(sum, pids[i]);
    }
    for (int i = killed; i < SPENDING_PROCESSES; i++)
        if (spending_status(pids[i])) sum->failures++;
    spending_checked(sum, &job, "audit", fd);
    spending_gather(sum, job.shared);
    spending_report report = job.shared->report;
    printf("a dollar, %d threads of %d processes, %d killed, --seed %llu: %lld attempts (%lld recovered), "
           "%lld calls "
           "refused; spent %.9f USD, the provider's bill %.9f; overrun %.9f <= %.9f, by which attempts "
           "exceeded what "
           "was reserved for them (%.9f each)\n",
           SPENDING_THREADS, SPENDING_PROCESSES, killed, (unsigned long long)seed, (long long)report.rows,
           (long long)report.recovered, (long long)sum->refused, (double)report.spent / 1e12,
           (double)report.billed / 1e12, (double)report.overrun / 1e12, (double)report.excess / 1e12,
           (double)report.reserved_each / 1e12);
    munmap(job.shared, sizeof *job.shared);
    close(fd);
    provider_stop(&provider);
    t_remove_tree(top);
    return report;
}

static bool spending_is_good(const spending_sum *sum) {
    return !sum->failed_checks && !sum->problems && !sum->failures && !sum->stuck &&
           sum->worst_open_ms < SPENDING_LATE_MS;
}

static void spending_print(const spending_sum *sum) {
    printf(
        "kill -9: %d kills, %d checks, %d of them failed with %lld problems; %lld calls (%lld streams): %lld "
        "good, "
        "%lld refused, %lld cancelled, %lld failed; %lld flushes; %lld rows (%lld hits, %lld recovered, %lld "
        "estimated in all) and %lld bills; %d survivors, %d stuck; slowest open %lld ms\n",
        sum->kills, sum->checks, sum->failed_checks, (long long)sum->problems, (long long)sum->calls,
        (long long)sum->streams, (long long)sum->good, (long long)sum->refused, (long long)sum->cancelled,
        (long long)sum->failures, (long long)sum->flushes, (long long)sum->rows, (long long)sum->hits,
        (long long)sum->recovered, (long long)sum->estimated, (long long)sum->bills, sum->survivors,
        sum->stuck, (long long)sum->worst_open_ms);
}

#endif
