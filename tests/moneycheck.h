/* moneycheck.h - walks all that a ledger keeps, in both of its stores, and says what disagrees: intents, rows, cells,
 * budgets, names, prices. Sums are computed here, not by the ledger. Others may write meanwhile: one moment is looked
 * at, that of a read transaction of the live store. Include it after llmgw.h with its implementation. */
#ifndef MONEYCHECK_H
#define MONEYCHECK_H

#include "unit.h"

enum { MONEYCHECK_TEXT = 72, MONEYCHECK_CELLS = 1 << 14, MONEYCHECK_RULES = 32 };

/* A row, or an intent that may become one. */
typedef struct moneycheck_item {
    uint64_t number;
    bool pending; /* an intent at that moment */
    bool late;    /* in the main store, but not yet settled, or not yet begun, at that moment */
    bool known;   /* its cost */
    bool estimated, recovered;
    uint32_t epoch;
    int code, http_status;
    int64_t time_us, cost_pico, reserved_pico, input, output;
    char provider[MONEYCHECK_TEXT], model[MONEYCHECK_TEXT], route[MONEYCHECK_TEXT], key[MONEYCHECK_TEXT],
        request_id[MONEYCHECK_TEXT], tags[LLMGWI_LEDGER_TAGS][MONEYCHECK_TEXT];
    size_t tag_count, slot_count;
    llmgwi_ledger_slot slots[8];
} moneycheck_item;

/* What the cell of an hour or a day must say. */
typedef struct moneycheck_cell {
    bool used, found, hour;
    int64_t from_s, n[9];
    llmgwi_ledger_combo combo;
} moneycheck_cell;

typedef struct moneycheck_sum {
    moneycheck_item *items; /* yours: free them */
    size_t count, cap;
    size_t rows, intents, settled, cells, budgets, names, problems;
} moneycheck_sum;

typedef struct moneycheck_job {
    llmgwi_ledger *ledger;
    moneycheck_sum sum;
    llmgwi_store_txn live;
    llmgwi_ledger_reader reader; /* of the main store; its transaction began after live's */
    moneycheck_cell *cells;
    llmgwi_ledger_rule rules[MONEYCHECK_RULES];
    size_t rule_count;
} moneycheck_job;

#define moneycheck_bad(job, ...)                                                                             \
    do {                                                                                                     \
        if ((job)->sum.problems++ < 20) {                                                                    \
            fprintf(stderr, "ledger: " __VA_ARGS__);                                                         \
            fprintf(stderr, "\n");                                                                           \
        }                                                                                                    \
    } while (0)

static void moneycheck_copy(char to[MONEYCHECK_TEXT], const char *from) {
    snprintf(to, MONEYCHECK_TEXT, "%s", from);
}

/* What came of an attempt. */
static void moneycheck_take(moneycheck_item *item, const llmgw_ledger_row *row) {
    item->known = row->cost.known;
    item->estimated = row->cost.estimated || row->usage.estimated;
    item->recovered = row->recovered;
    item->code = row->code;
    item->http_status = row->http_status;
    item->cost_pico = row->cost.known ? row->cost.pico_usd : 0;
    item->input = row->usage.input;
    item->output = row->usage.output;
    moneycheck_copy(item->request_id, row->request_id);
}

static moneycheck_item *moneycheck_add(moneycheck_job *job, const llmgw_ledger_row *row) {
    moneycheck_sum *sum = &job->sum;
    if (sum->count == sum->cap) {
        sum->cap = sum->cap * 2 + 1024;
        sum->items = (moneycheck_item *)realloc(sum->items, sum->cap * sizeof *sum->items);
        if (!sum->items) exit(5);
    }
    moneycheck_item *item = &sum->items[sum->count++];
    memset(item, 0, sizeof *item);
    item->number = row->id;
    moneycheck_take(item, row);
    item->epoch = row->epoch;
    item->time_us = row->time_us;
    moneycheck_copy(item->provider, row->provider);
    moneycheck_copy(item->model, row->model);
    moneycheck_copy(item->route, row->route);
    moneycheck_copy(item->key, row->key);
    item->tag_count = row->tag_count;
    for (size_t i = 0; i < row->tag_count; i++) moneycheck_copy(item->tags[i], row->tags[i]);
    return item;
}

/* Goes through a table; visit has job. */
static void moneycheck_walk(moneycheck_job *job, llmgwi_store_txn *txn, int table,
                            void (*visit)(moneycheck_job *, llmgwi_base_str, llmgwi_base_str)) {
    llmgwi_store_cursor cursor;
    llmgwi_base_str key = llmgwi_base_cstr(""), value = llmgwi_base_cstr("");
    if (!llmgwi_store_cursor_open(txn, table, &cursor)) {
        moneycheck_bad(job, "table %d cannot be read", table);
        return;
    }
    for (bool on = llmgwi_store_move(&cursor, LLMGWI_STORE_FIRST, &key, &value); on;
         on = llmgwi_store_move(&cursor, LLMGWI_STORE_NEXT, &key, &value))
        visit(job, key, value);
    llmgwi_store_cursor_close(&cursor);
}

static bool moneycheck_has(llmgwi_store_txn *txn, int table, uint64_t number) {
    llmgwi_base_str value;
    return llmgwi_store_get(txn, table, llmgwi_ledger_u64(&number), &value);
}

/* ---- the live store's records ---- */

static void moneycheck_record(moneycheck_job *job, llmgwi_base_str key, llmgwi_base_str value) {
    llmgwi_ledger_record record;
    uint64_t number = llmgwi_ledger_number(key);
    llmgwi_base_buf_init(&record.text, &unit_mem, 1 << 20);
    if (!llmgwi_ledger_read(job->ledger, number, value, &record)) {
        moneycheck_bad(job, "intent %llu is damaged", (unsigned long long)number);
    } else {
        bool pending = record.head.state == LLMGWI_LEDGER_INTENT;
        moneycheck_item *item = moneycheck_add(job, &record.row);
        item->pending = pending;
        item->reserved_pico = pending ? record.head.reserved_pico : 0;
        item->slot_count = record.head.slots < 8 ? record.head.slots : 8;
        memcpy(item->slots, record.slots.p, item->slot_count * sizeof item->slots[0]);
        job->sum.intents += pending;
        job->sum.settled += !pending;
        uint64_t price = record.row.price;
        if (price && !moneycheck_has(&job->live, LLMGWI_STORE_PRICE, price) &&
            !moneycheck_has(&job->reader.txn, LLMGWI_STORE_PRICE, price))
            moneycheck_bad(job, "the rates of intent %llu are nowhere", (unsigned long long)number);
        if (!pending && item->slot_count)
            moneycheck_bad(job, "settled record %llu holds budgets", (unsigned long long)number);
    }
    llmgwi_base_buf_free(&record.text);
}

/* ---- rows, and what their cells must say ---- */

static moneycheck_cell *moneycheck_cell_of(moneycheck_job *job, bool hour, int64_t from_s,
                                           const llmgwi_ledger_combo *combo) {
    size_t bytes = combo->n * sizeof combo->id[0];
    uint64_t at = llmgwi_base_hash(NULL, (const char *)combo->id, bytes) + (uint64_t)from_s + hour;
    for (;; at++) {
        moneycheck_cell *cell = &job->cells[at % MONEYCHECK_CELLS];
        if (!cell->used) {
            cell->hour = hour;
            cell->from_s = from_s;
            cell->combo = *combo;
            return cell;
        }
        if (cell->hour == hour && cell->from_s == from_s && cell->combo.n == combo->n &&
            !memcmp(cell->combo.id, combo->id, bytes))
            return cell;
    }
}

/* Where in a cell what is counted here stands. */
static const int moneycheck_at[9] = {LLMGWI_LEDGER_ATTEMPTS, LLMGWI_LEDGER_FAILURES,  LLMGWI_LEDGER_HITS,
                                     LLMGWI_LEDGER_UNKNOWN,  LLMGWI_LEDGER_RECOVERED, LLMGWI_LEDGER_INPUT,
                                     LLMGWI_LEDGER_OUTPUT,   LLMGWI_LEDGER_DURATION,  LLMGWI_LEDGER_COST};

static void moneycheck_count(moneycheck_job *job, const llmgw_ledger_row *row) {
    for (int hour = 0; hour < 2; hour++) {
        int64_t unit_s = hour ? 3600 : 86400, from_s = row->time_us / 1000000 / unit_s * unit_s;
        moneycheck_cell *cell = moneycheck_cell_of(job, hour, from_s, &job->reader.combo);
        const int64_t n[9] = {row->epoch > 0,
                              row->epoch > 0 && row->code,
                              row->epoch == 0,
                              row->epoch > 0 && !row->cost.known,
                              row->recovered,
                              row->usage.input,
                              row->usage.output,
                              row->duration_us,
                              row->cost.known ? row->cost.pico_usd : 0};
        cell->used = true;
        for (int i = 0; i < 9; i++) cell->n[i] += n[i];
    }
}

static void moneycheck_row(moneycheck_job *job, llmgwi_base_str key, llmgwi_base_str value) {
    unsigned long long number = llmgwi_ledger_number(key);
    job->sum.rows++;
    if (!llmgwi_ledger_read_row(&job->reader, key, value)) {
        moneycheck_bad(job, "row %llu is damaged", number);
        return;
    }
    const llmgw_ledger_row *row = &job->reader.row;
    moneycheck_count(job, row);
    if (row->price && !moneycheck_has(&job->reader.txn, LLMGWI_STORE_PRICE, row->price))
        moneycheck_bad(job, "the rates of row %llu are nowhere", number);
    if (!*row->provider || !*row->model) moneycheck_bad(job, "the names of row %llu are nowhere", number);
    if (!moneycheck_has(&job->live, LLMGWI_STORE_INTENT, number)) {
        (void)moneycheck_add(job, row);
        return;
    }
    /* it has moved, and has not gone yet; or it was in flight at the moment that is looked at */
    for (size_t i = 0; i < job->sum.intents + job->sum.settled; i++) {
        moneycheck_item *item = &job->sum.items[i];
        if (item->number != (uint64_t)number) continue;
        if (item->pending) {
            item->late = true;
            moneycheck_take(item, row);
        } else if (item->cost_pico != (row->cost.known ? row->cost.pico_usd : 0)) {
            moneycheck_bad(job, "row %llu costs something else than its settlement", number);
        }
        return;
    }
}

static void moneycheck_a_cell(moneycheck_job *job, llmgwi_base_str key, llmgwi_base_str value) {
    llmgwi_ledger_combo combo;
    uint32_t number;
    int64_t from_s;
    bool hour;
    if (!llmgwi_ledger_read_cell_key(key, &hour, &from_s, &number)) {
        moneycheck_bad(job, "a cell has a key of %zu bytes", key.n);
        return;
    }
    if (!number) return; /* how many combinations an hour has */
    job->sum.cells++;
    if (!llmgwi_ledger_get_combo(&job->reader.txn, number, &combo)) {
        moneycheck_bad(job, "a cell is of combination %u, which is nowhere", number);
        return;
    }
    moneycheck_cell *cell = moneycheck_cell_of(job, hour, from_s, &combo);
    int64_t n[LLMGWI_LEDGER_SUMS];
    if (!cell->used || cell->found || value.n != sizeof n) {
        moneycheck_bad(job, "a cell of combination %u is of no row", number);
        return;
    }
    memcpy(n, value.p, sizeof n);
    for (int i = 0; i < 9; i++)
        if (n[moneycheck_at[i]] != cell->n[i])
            moneycheck_bad(job, "combination %u, %s %lld: sum %d is %lld, its rows say %lld", number,
                           hour ? "hour" : "day", (long long)from_s, i, (long long)n[moneycheck_at[i]],
                           (long long)cell->n[i]);
    cell->found = true;
}

/* ---- budgets ---- */

static bool moneycheck_concerns(const llmgwi_ledger_budget *budget, const moneycheck_item *item) {
    bool of = budget->kind == LLMGWI_LEDGER_OF_ALL;
    if (budget->kind == LLMGWI_LEDGER_OF_KEY) of = !strcmp(budget->of, item->key);
    if (budget->kind == LLMGWI_LEDGER_OF_ROUTE) of = !strcmp(budget->of, item->route);
    for (size_t i = 0; i < item->tag_count && budget->kind == LLMGWI_LEDGER_OF_TAG; i++)
        of = of || !strcmp(budget->of, item->tags[i]);
    return of;
}

/* What its rows and intents say was spent and is reserved, at the moment that is looked at. */
static llmgwi_ledger_spent moneycheck_spent(const moneycheck_job *job, const llmgwi_ledger_rule *rule,
                                            const llmgwi_ledger_slot *slot, int64_t to_s) {
    llmgwi_ledger_spent sum;
    memset(&sum, 0, sizeof sum);
    for (size_t i = 0; i < job->sum.count; i++) {
        const moneycheck_item *item = &job->sum.items[i];
        int64_t time_s = item->time_us / 1000000;
        for (size_t s = 0; s < item->slot_count && item->pending; s++)
            if (!memcmp(&item->slots[s], slot, sizeof *slot)) sum.reserved += item->reserved_pico;
        if (item->pending || item->late || time_s < slot->from_s || (to_s && time_s >= to_s)) continue;
        if (moneycheck_concerns(&rule->is, item)) sum.spent += item->cost_pico;
    }
    return sum;
}

static void moneycheck_budget(moneycheck_job *job, llmgwi_base_str key, llmgwi_base_str value) {
    llmgwi_ledger_slot slot;
    llmgwi_ledger_spent sum, want;
    const llmgwi_ledger_rule *rule = NULL;
    job->sum.budgets++;
    if (key.n != sizeof slot || value.n != sizeof sum) {
        moneycheck_bad(job, "a budget is damaged");
        return;
    }
    memcpy(&slot, key.p, sizeof slot);
    memcpy(&sum, value.p, sizeof sum);
    for (size_t i = 0; i < job->rule_count && !rule; i++)
        if (job->rules[i].hash == slot.budget) rule = &job->rules[i];
    if (!rule) {
        moneycheck_bad(job, "a budget is nobody's");
        return;
    }
    want = moneycheck_spent(job, rule, &slot, sum.to_s);
    const char *name = rule->is.name ? rule->is.name : rule->is.of;
    if (sum.spent != want.spent || sum.reserved != want.reserved)
        moneycheck_bad(job, "budget %s: %lld spent, its rows say %lld; %lld reserved, its intents say %lld",
                       name, (long long)sum.spent, (long long)want.spent, (long long)sum.reserved,
                       (long long)want.reserved);
}

/* ---- names ---- */

static void moneycheck_name(moneycheck_job *job, llmgwi_base_str key, llmgwi_base_str value) {
    uint64_t number = llmgwi_ledger_number(key);
    llmgwi_ledger_combo combo;
    job->sum.names++;
    if (number >> 32 == 0) return;
    if (!llmgwi_ledger_get_combo(&job->reader.txn, (uint32_t)number, &combo)) {
        moneycheck_bad(job, "combination %llu has %zu bytes", (unsigned long long)number, value.n);
        return;
    }
    for (size_t i = 0; i < combo.n; i++)
        if (combo.id[i] && !moneycheck_has(&job->reader.txn, LLMGWI_STORE_NAME, combo.id[i]))
            moneycheck_bad(job, "name %u of combination %llu is nowhere", combo.id[i],
                           (unsigned long long)number);
}

static void moneycheck_named(moneycheck_job *job, llmgwi_base_str key, llmgwi_base_str value) {
    unsigned char digest[16];
    llmgwi_base_buf name;
    llmgwi_base_buf_init(&name, &unit_mem, 1 << 20);
    bool there = key.n == 17 && llmgwi_ledger_get_name(job->ledger, &job->reader.txn, key.p[0] & 1,
                                                       (uint32_t)llmgwi_ledger_number(value), &name);
    if (there) llmgwi_store_digest(job->ledger->main, name.p, name.n, digest);
    if (!there || memcmp(digest, key.p + 1, sizeof digest))
        moneycheck_bad(job, "a digest leads to no name of it");
    llmgwi_base_buf_free(&name);
}

static void moneycheck_names(moneycheck_job *job) {
    llmgwi_store_txn *main = &job->reader.txn;
    uint64_t names = llmgwi_ledger_meta(main, "ledger_names"),
             combos = llmgwi_ledger_meta(main, "ledger_combos");
    moneycheck_walk(job, main, LLMGWI_STORE_NAME, moneycheck_name);
    moneycheck_walk(job, main, LLMGWI_STORE_NAMED, moneycheck_named);
    if (job->sum.names != names + combos || llmgwi_store_count(main, LLMGWI_STORE_NAMED) != job->sum.names)
        moneycheck_bad(job, "%zu names, %llu of them counted, %llu digests", job->sum.names,
                       (unsigned long long)(names + combos),
                       (unsigned long long)llmgwi_store_count(main, LLMGWI_STORE_NAMED));
}

/* key: a scoped key that has budgets, or NULL. sum.problems says how many things disagree. */
UNIT_UNUSED static moneycheck_sum moneycheck(llmgwi_ledger *ledger, const char *key) {
    moneycheck_job *job = (moneycheck_job *)calloc(1, sizeof *job);
    moneycheck_sum sum;
    if (!job || !(job->cells = (moneycheck_cell *)calloc(MONEYCHECK_CELLS, sizeof *job->cells))) exit(5);
    job->ledger = ledger;
    for (size_t i = 0; i < ledger->rule_count; i++) job->rules[job->rule_count++] = ledger->rules[i];
    for (int per = 0; per < 3 && key; per++) {
        llmgwi_ledger_rule *rule = &job->rules[job->rule_count++];
        rule->is.kind = LLMGWI_LEDGER_OF_KEY;
        rule->is.of = key;
        rule->is.per = per;
        rule->hash = llmgwi_ledger_rule_hash(ledger, &rule->is);
    }
    assert_true(llmgwi_store_read(ledger->live, &job->live));
    assert_true(llmgwi_ledger_reader_open(&job->reader, ledger));
    uint64_t last = llmgwi_ledger_meta(&job->live, "ledger_last");
    moneycheck_walk(job, &job->live, LLMGWI_STORE_INTENT, moneycheck_record);
    moneycheck_walk(job, &job->reader.txn, LLMGWI_STORE_ROW, moneycheck_row);
    for (size_t i = 0; i < job->sum.count; i++) job->sum.items[i].late |= job->sum.items[i].number > last;
    moneycheck_walk(job, &job->reader.txn, LLMGWI_STORE_CELL, moneycheck_a_cell);
    for (size_t i = 0; i < MONEYCHECK_CELLS; i++)
        if (job->cells[i].used && !job->cells[i].found)
            moneycheck_bad(job, "rows of a combination have no cell");
    moneycheck_walk(job, &job->live, LLMGWI_STORE_BUDGET, moneycheck_budget);
    moneycheck_names(job);
    llmgwi_ledger_reader_close(&job->reader);
    (void)llmgwi_store_end(&job->live, false);
    sum = job->sum;
    free(job->cells);
    free(job);
    return sum;
}

#endif
