/* Money through the whole library: rows of the ledger, budgets, scoped keys, prices kept fresh, and what becomes of
 * them when attempts fail, stores break and processes get in each other's way. */
#define LLMGW_IMPLEMENTATION
#define LLMGWI_STORE_FAULTS
#define LLMGWI_STORE_PAUSE_US 30000
#include "llmgw.h"
#include "testing.h"
#include "group.h"
#include "faults.h"
#include <sys/stat.h>

/* ---- a shop: a store, three providers of which each has one model, their prices ---- */

#define USD(x) ((int64_t)((x)*1e12 + 0.5))
#define IN_PICO ((int64_t)1000000000) /* a token of input: a thousandth of a dollar; of output: twice that */

static char dir[64], store_path[96];

/* How often an item was logged, its last line, and whether any line held what it must not. */
typedef struct Logged {
    int count[LLMGW_LOG_ITEM_COUNT];
    char line[LLMGW_LOG_ITEM_COUNT][400], prompt[64], answer[64];
    const char *secret;
    bool leaked;
} Logged;
static Logged logged;
static void on_log(const llmgw_log_entry *entry, void *user) {
    if (logged.secret && (strstr(entry->line, logged.secret) || strstr(entry->prompt, logged.secret)))
        logged.leaked = true;
    __atomic_add_fetch(&logged.count[entry->item], 1, __ATOMIC_RELAXED);
    snprintf(logged.line[entry->item], sizeof logged.line[0], "%s", entry->line);
    if (entry->item != LLMGW_LOG_CALL) return;
    snprintf(logged.prompt, sizeof logged.prompt, "%s", entry->prompt);
    snprintf(logged.answer, sizeof logged.answer, "%s", entry->answer);
}

/* The wall clock of a gateway goes so much ahead. */
static int64_t ahead_s;
static int64_t wall(void *user) { return llmgwi_base_wall_s(user) + ahead_s; }
static llmgw *with_clock(llmgw *gw) {
    gw->clock.wall_s = wall;
    return gw;
}

static int reset(void **state) {
    provider_reset(&provider);
    strcpy(dir, "/tmp/llmgw-money-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(store_path, sizeof store_path, "%s/store", dir);
    memset(&logged, 0, sizeof logged);
    ahead_s = 0;
    return 0;
}
static int clean(void **state) {
    no_fault();
    t_remove_tree(dir);
    return 0;
}

typedef struct Shop {
    llmgw_options options;
    llmgw_budget budgets[6];
    llmgw_route routes[4];
} Shop;

static Shop shop(void) {
    Shop made;
    memset(&made, 0, sizeof made);
    made.options = t_calm();
    made.options.store.path = store_path;
    made.options.store.no_sync = true;
    made.options.store.commit_ms = LLMGW_OFF;
    made.options.log = on_log;
    made.options.no_environment = true;
    return made;
}

static llmgw_budget *budget(Shop *of, const char *name, double usd) {
    llmgw_budget *made = &of->budgets[of->options.budget_count++];
    made->name = name;
    made->total_usd = llmgw_set(usd);
    return made;
}

static llmgw_route *route(Shop *of, const char *name, const char *how, const char *const *targets, size_t n) {
    llmgw_route *made = &of->routes[of->options.route_count++];
    made->name = name;
    made->how = how;
    made->targets = targets;
    made->target_count = n;
    return made;
}

/* Models a (openai), b (anthropic), c (gemini), u of unknown price, d at a port where nobody is. a costs 1000 and
   2000 USD per million tokens, b and c a tenth of that. */
static llmgw *open_shop_error(Shop *of, llmgw_error *error) {
    static const char *const names[] = {"one", "two", "three", "dead"}, *const models[] = {"a", "b", "c", "d",
                                                                                           "u"};
    static const char *const paths[] = {"/v1", "", "/v1beta", "/v1"};
    static char urls[4][128];
    llmgw_provider providers[4];
    llmgw_model all[5];
    memset(all, 0, sizeof all);
    for (size_t i = 0; i < 5; i++) {
        size_t p = i % 4;
        if (i < 4)
            providers[i] =
                t_provider(&provider, names[i], t_dialects[i % 3], paths[i], "sk-money-0123456789", urls[i]);
        if (i < 4) providers[i].region = names[i];
        all[i].name = all[i].model = models[i];
        all[i].provider = names[p];
        if (i == 4) continue;
        all[i].price.input = llmgw_set(i ? 100 : 1000);
        all[i].price.output = llmgw_set(i ? 200 : 2000);
    }
    providers[3].url = "http://127.0.0.1:1/v1";
    of->options.providers = providers;
    of->options.provider_count = 4;
    of->options.models = all;
    of->options.model_count = 5;
    of->options.routes = of->routes;
    of->options.budgets = of->budgets;
    return llmgw_open(&of->options, error);
}

static llmgw *open_shop(Shop *of) {
    llmgw_error error;
    llmgw *gw = open_shop_error(of, &error);
    if (!gw) fail_msg("llmgw_open: %s", error.text);
    return gw;
}

/* 10 tokens of output at most: of a, that and the prompt reserve some 0.03 USD. */
static llmgw_request ask(const char *model, const char *prompt) {
    llmgw_request request;
    memset(&request, 0, sizeof request);
    request.model = model;
    request.prompt = prompt;
    request.max_tokens = 10;
    return request;
}

static llmgw_reply *chat(llmgw *gw, const llmgw_request *request, llmgw_code code) {
    llmgw_reply *reply = llmgw_chat(gw, request);
    t_expect_code(reply, code);
    return reply;
}

static void expect(llmgw *gw, const llmgw_request *request, llmgw_code code) {
    llmgw_reply_free(chat(gw, request, code));
}

/* What every request costs from now on. */
static void usage(int input, int output) {
    char json[96];
    snprintf(json, sizeof json, "\"usage_input\":%d,\"usage_output\":%d", input, output);
    provider_model_rule(&provider, "*", json);
}

/* ---- rows ---- */

typedef struct Row {
    llmgw_ledger_row is;
    char text[7][256], tags[8][72];
    const char *tag_at[8];
} Row;
typedef struct Rows {
    Row row[200];
    size_t n;
    int64_t cost;
    bool known;
} Rows;

static bool take_row(const llmgw_ledger_row *row, void *user) {
    Rows *rows = (Rows *)user;
    Row *to = &rows->row[rows->n++];
    assert_true(rows->n < COUNT_OF(rows->row));
    const char *texts[] = {row->route, row->provider, row->model, row->model_echo, row->key, row->request_id};
    for (size_t i = 0; i < COUNT_OF(texts); i++) snprintf(to->text[i], sizeof to->text[i], "%s", texts[i]);
    to->is = *row;
    to->is.route = to->text[0];
    to->is.provider = to->text[1];
    to->is.model = to->text[2];
    to->is.model_echo = to->text[3];
    to->is.key = to->text[4];
    to->is.request_id = to->text[5];
    for (size_t i = 0; i < row->tag_count; i++) {
        snprintf(to->tags[i], sizeof to->tags[i], "%s", row->tags[i]);
        to->tag_at[i] = to->tags[i];
    }
    to->is.tags = to->tag_at;
    if (row->cost.known)
        rows->cost += row->cost.pico_usd;
    else
        rows->known = false;
    return true;
}

static const llmgw_ledger_filter everything;

static Rows *rows_of(llmgw *gw) {
    static Rows rows;
    memset(&rows, 0, sizeof rows);
    rows.known = true;
    assert_int_equal(llmgw_flush(gw), LLMGW_OK);
    int64_t n = llmgw_ledger_query(gw, &everything, take_row, &rows);
    assert_int_equal(n, (int64_t)rows.n);
    return &rows;
}

static void same_usage(const llmgw_usage *a, const llmgw_usage *b) {
    assert_int_equal(a->known, b->known);
    assert_int_equal(a->estimated, b->estimated);
    if (!a->known) return;
    assert_int_equal(a->input, b->input);
    assert_int_equal(a->output, b->output);
    assert_int_equal(a->cached, b->cached);
    assert_int_equal(a->cache_write, b->cache_write);
    assert_int_equal(a->reasoning, b->reasoning);
}

static void same_cost(llmgw_cost a, llmgw_cost b) {
    assert_int_equal(a.known, b.known);
    if (!a.known) return;
    assert_int_equal(a.pico_usd, b.pico_usd);
    assert_int_equal(a.estimated, b.estimated);
}

/* The rows from `from` on are the attempts of a reply, one each, and none for what was refused. */
static void same_as_trace(const Rows *rows, size_t from, const llmgw_reply *reply,
                          const llmgw_request *request) {
    size_t found = 0;
    int64_t cost = 0;
    for (size_t i = 0; i < reply->trace_count; i++) {
        const llmgw_trace *item = &reply->trace[i];
        const llmgw_ledger_row *row = NULL;
        if (item->kind != LLMGW_TRACE_ATTEMPT || item->code == LLMGW_E_BUDGET) continue;
        for (size_t r = from; r < rows->n; r++)
            if (rows->row[r].is.epoch == item->epoch) row = &rows->row[r].is;
        if (!row) fail_msg("attempt %u (%s) has no row", item->epoch, item->reason);
        found++;
        assert_string_equal(row->provider, item->provider);
        assert_string_equal(row->model, item->model);
        assert_string_equal(row->route, request->model);
        assert_int_equal(row->code, item->code);
        assert_int_equal(row->http_status, item->http_status);
        assert_int_equal(row->first_token_us, item->first_token_us);
        assert_int_equal(row->duration_us, item->duration_us);
        same_usage(&row->usage, &item->usage);
        same_cost(row->cost, item->cost);
        assert_int_equal(row->tag_count, request->tag_count);
        for (size_t t = 0; t < request->tag_count; t++) assert_string_equal(row->tags[t], request->tags[t]);
        assert_false(row->recovered);
        cost += row->cost.known ? row->cost.pico_usd : 0;
        if (item->epoch != reply->epoch || reply->error.code) continue;
        assert_string_equal(row->model_echo, reply->model_echo);
        assert_string_equal(row->request_id, reply->id);
    }
    assert_int_equal(rows->n - from, found);
    if (reply->cost.known) assert_int_equal(cost, reply->cost.pico_usd);
    assert_int_equal(reply->attempts, (int)found);
}

/* No budget holds a reservation. */
static void nothing_reserved(llmgw *gw) {
    llmgw_budget_state states[8];
    assert_int_equal(llmgw_flush(gw), LLMGW_OK);
    size_t n = llmgw_budgets(gw, states, COUNT_OF(states));
    for (size_t i = 0; i < n; i++)
        if (states[i].reserved_pico)
            fail_msg("%s: %lld reserved", states[i].name, (long long)states[i].reserved_pico);
}

static int64_t spent_of(llmgw *gw, const char *name) {
    llmgw_budget_state states[16];
    assert_int_equal(llmgw_flush(gw), LLMGW_OK);
    size_t n = llmgw_budgets(gw, states, COUNT_OF(states));
    for (size_t i = 0; i < n && i < COUNT_OF(states); i++)
        if (!strcmp(states[i].name, name)) return states[i].spent_pico;
    fail_msg("no budget %s", name);
    return -1;
}

static void rows_are_the_trace(void **state) {
    static const char *const models[] = {"a", "b", "c"}, *const tags[] = {"team", "job:7"};
    Shop of = shop();
    llmgw *gw = open_shop(&of);
    size_t from = 0;
    for (int d = 0; d < 6; d++) {
        llmgw_request request = ask(models[d % 3], "Why is the sky blue?");
        request.stream = d >= 3;
        request.tags = tags;
        request.tag_count = (size_t)d % 3;
        provider_reset(&provider);
        usage(100 + d, 10 + d);
        llmgw_reply *reply = chat(gw, &request, LLMGW_OK);
        int64_t unit = d % 3 ? IN_PICO / 10 : IN_PICO;
        assert_int_equal(reply->cost.pico_usd, (100 + d) * unit + (10 + d) * 2 * unit);
        const Rows *rows = rows_of(gw);
        same_as_trace(rows, from, reply, &request);
        assert_true(request.stream == (rows->row[from].is.first_token_us > 0));
        assert_true(rows->row[from].is.price != 0);
        assert_int_equal(llabs(rows->row[from].is.time_us / 1000000 - time(NULL)) <= 2, 1);
        from = rows->n;
        llmgw_reply_free(reply);
    }
    llmgw_close(gw);
}

/* Whatever goes wrong: each attempt has one row, and they sum up to the reply's cost. */
static void failed_attempts_have_rows(void **state) {
    static const char *const abc[] = {"a", "b", "c"}, *const dabc[] = {"d", "a", "b"};
    static const char *const faults[] = {"\"status\":500",
                                         "\"status\":400",
                                         "\"status\":429",
                                         "\"garbage\":true",
                                         "\"cut_after\":40",
                                         "\"usage_none\":true,\"cut_after\":200",
                                         "\"usage_none\":true,\"error_after\":2",
                                         "\"status\":401"};
    for (int stream = 0; stream < 2; stream++) {
        Shop of = shop();
        route(&of, "r", NULL, abc, 3);
        route(&of, "s", NULL, dabc, 3);
        llmgw *gw = open_shop(&of);
        size_t from = rows_of(gw)->n;
        for (size_t i = 0; i <= COUNT_OF(faults); i++) {
            provider_reset(&provider);
            if (i < COUNT_OF(faults)) provider_model_rule(&provider, "a", faults[i]);
            llmgw_request request = ask(i < COUNT_OF(faults) ? "r" : "s", "What may go wrong?");
            request.stream = stream;
            llmgw_reply *reply = chat(gw, &request, LLMGW_OK);
            same_as_trace(rows_of(gw), from, reply, &request);
            t_sleep_ms(3); /* the lane of a 429 is shut for a millisecond, for the next call too */
            if (reply->attempts < 2) fail_msg("%s did not fail", faults[i]);
            assert_true(reply->cost.known);
            if (i == 4 || i == 5) assert_true(!stream || reply->cost.estimated);
            from = rows_of(gw)->n;
            llmgw_reply_free(reply);
        }
        llmgw_close(gw);
        clean(state);
        reset(state);
    }
}

static void resumed_and_cancelled_attempts(void **state) {
    Shop of = shop();
    llmgw *gw = open_shop(&of);
    llmgw_request request = ask("a", "Go on.");
    request.stream = true;
    request.max_tokens = 0;
    provider_model_rule(&provider, "a", "\"script\":400,\"cut_at\":200,\"chunk_chars\":20");
    llmgw_reply *reply = chat(gw, &request, LLMGW_OK);
    assert_int_equal(reply->attempts, 2);
    assert_true(reply->cost.estimated);
    same_as_trace(rows_of(gw), 0, reply, &request);
    llmgw_reply_free(reply);
    size_t from = rows_of(gw)->n;

    provider_reset(&provider);
    provider_model_rule(&provider, "b", "\"text_repeat\":50,\"chunk_ms\":20");
    Rec rec;
    memset(&rec, 0, sizeof rec);
    request = rec_request(&rec, "b", "Stop it", true);
    rec_send(gw, &rec, &request);
    for (int i = 0; i < 200 && rec.pieces < 3; i++) (void)llmgw_poll(gw, 50);
    llmgw_cancel(gw, rec.call);
    assert_true(rec_drive(gw, &rec, 1, 5000));
    t_expect_code(rec.reply, LLMGW_E_CANCELLED);
    same_as_trace(rows_of(gw), from, rec.reply, &request);
    const llmgw_ledger_row *row = &rows_of(gw)->row[from].is;
    assert_int_equal(row->code, LLMGW_E_CANCELLED);
    assert_true(row->usage.known && row->usage.estimated && row->cost.known && row->cost.estimated);
    assert_true(row->cost.pico_usd > 0);
    rec_free(&rec);
    llmgw_close(gw);
}

static void races_and_hedges(void **state) {
    static const char *const ab[] = {"a", "b"};
    Shop of = shop();
    route(&of, "race", "race", ab, 2);
    route(&of, "hedge", NULL, ab, 2)->hedge_ms = 30;
    of.routes[1].hedge_percent = 100;
    llmgw *gw = open_shop(&of);
    provider_model_rule(&provider, "a", "\"delay_ms\":300,\"first_token_delay_ms\":300");
    size_t from = 0;
    for (int i = 0; i < 4; i++) {
        llmgw_request request = ask(i % 2 ? "hedge" : "race", "Who is first?");
        request.stream = i >= 2;
        llmgw_reply *reply = chat(gw, &request, LLMGW_OK);
        assert_string_equal(reply->model, "b");
        assert_int_equal(reply->attempts, 2);
        same_as_trace(rows_of(gw), from, reply, &request);
        from += 2;
        llmgw_reply_free(reply);
    }
    llmgw_close(gw);
}

/* ---- budgets ---- */

static void expect_budget(const llmgw_reply *reply, const char *name) {
    t_expect_code(reply, LLMGW_E_BUDGET);
    t_expect_text(reply, name);
    assert_true(reply->error.retryable);
    assert_int_equal(reply->attempts, 0);
    assert_true(reply->cost.known && reply->cost.pico_usd == 0);
    assert_int_equal(t_sent(reply), 0);
}

/* Every kind of budget, every period: one call fits, the next does not and is never sent. */
static void a_hard_budget_refuses_before_sending(void **state) {
    static const char *const tags[] = {"other", "team"}, *const one[] = {"a"};
    for (int kind = 0; kind < 3; kind++)
        for (int per = 0; per < 3; per++) {
            Shop of = shop();
            llmgw_budget *b = budget(&of, "purse", 0.1);
            llmgw_opt limit = llmgw_set(0.1), none = {false, 0};
            b->per_day_usd = per == 0 ? limit : none;
            b->per_month_usd = per == 1 ? limit : none;
            b->total_usd = per == 2 ? limit : none;
            b->tag = kind == 1 ? "team" : NULL;
            b->route = kind == 2 ? "r" : NULL;
            route(&of, "r", NULL, one, 1);
            llmgw *gw = open_shop(&of);
            usage(80, 5); /* 0.09 */
            llmgw_request request = ask("r", "Spend it");
            request.tags = tags;
            request.tag_count = 2;
            expect(gw, &request, LLMGW_OK);
            int before = provider_count(&provider, "requests");
            llmgw_reply *reply = llmgw_chat(gw, &request);
            expect_budget(reply, "purse");
            int64_t s = reply->error.retry_after_ms / 1000;
            assert_true(per == 2 ? s == 0 : s > 0 && s <= (per ? 31 : 1) * 86400);
            llmgw_reply_free(reply);
            assert_int_equal(provider_count(&provider, "requests"), before);
            request.tag_count = 1;
            request.model = kind == 2 ? "a" : "r";
            expect(gw, &request, kind ? LLMGW_OK : LLMGW_E_BUDGET); /* not of its kind */
            assert_int_equal(spent_of(gw, "purse"), USD(0.09));
            nothing_reserved(gw);
            assert_int_equal(rows_of(gw)->n, kind ? 2 : 1);
            llmgw_close(gw);
            gw = open_shop(&of); /* and the next process knows */
            request = ask("r", "Spend it");
            request.tags = tags;
            request.tag_count = 2;
            expect(gw, &request, LLMGW_E_BUDGET);
            llmgw_close(gw);
            clean(state);
            reset(state);
        }
}

/* The next target that can be paid is taken, and a refusal leaves nothing behind at the first one. */
static void who_can_be_paid_is_asked(void **state) {
    static const char *const ab[] = {"a", "b"};
    for (int cached = 0; cached < 2; cached++) {
        Shop of = shop();
        of.options.cache.on = cached;
        of.options.breaker_failures = 1;
        budget(&of, "purse", 0.02); /* a: some 0.03, b: 0.003 */
        route(&of, "r", NULL, ab, 2);
        llmgw *gw = open_shop(&of);
        usage(7, 5);
        for (int i = 0; i < 2; i++) {
            llmgw_request request = ask("r", i ? "Twice?" : "Once?");
            request.max_attempts = 1;
            llmgw_reply *reply = chat(gw, &request, LLMGW_OK);
            assert_string_equal(reply->model, "b");
            assert_int_equal(reply->attempts, 1);
            assert_int_equal(t_sent(reply), 1);
            llmgw_reply_free(reply);
        }
        assert_int_equal(provider_asked(&provider, "a"), 0);
        assert_int_equal(provider_asked(&provider, "b"), 2);
        llmgw_target targets[8];
        size_t n = llmgw_targets(gw, targets, COUNT_OF(targets));
        for (size_t i = 0; i < n && i < COUNT_OF(targets); i++) {
            assert_int_equal(targets[i].breaker, LLMGW_BREAKER_CLOSED);
            assert_int_equal(targets[i].failures, 0);
            assert_int_equal(targets[i].in_flight, 0);
            if (!strcmp(targets[i].model, "a")) assert_int_equal(targets[i].attempts, 0);
        }
        assert_int_equal(rows_of(gw)->n, 2);
        nothing_reserved(gw);
        llmgw_close(gw);
        clean(state);
        reset(state);
    }
}

/* A refusal costs no request of a provider's limits, and ends no half-open probe wrongly. */
static void a_refusal_uses_no_limit(void **state) {
    Shop of = shop();
    budget(&of, "purse", 0.001);
    llmgw_limit limits[8];
    llmgw *gw = open_shop(&of);
    /* the limits of the first account, as a provider with rpm would have them */
    gw->accounts[0].limits.rpm.limit = 0;
    llmgw_request request = ask("a", "Too dear");
    for (int i = 0; i < 3; i++) expect(gw, &request, LLMGW_E_BUDGET);
    assert_int_equal(gw->accounts[0].limits.in_flight, 0);
    (void)limits;
    llmgw_close(gw);

    Shop limited = shop();
    budget(&limited, "purse", 0.001);
    limited.options.config_json =
        "{\"providers\":{\"few\":{\"dialect\":\"openai\",\"url\":\"http://127.0.0.1:1/v1\","
        "\"key\":\"sk-few-0123456789\",\"rpm\":2,\"concurrency\":1}},\"models\":{\"f\":{"
        "\"provider\":\"few\",\"model\":\"f\",\"price\":{\"input\":1000,\"output\":2000}}}}";
    gw = open_shop(&limited);
    request.model = "f";
    for (int i = 0; i < 5; i++) expect(gw, &request, LLMGW_E_BUDGET);
    size_t n = llmgw_limits(gw, limits, COUNT_OF(limits));
    assert_true(n > 0);
    for (size_t i = 0; i < n; i++) assert_int_equal(limits[i].used, 0);
    llmgw_close(gw);
}

/* What a call in flight may cost is not another's to spend, and is again when it cost less. */
static void a_reservation_is_given_back(void **state) {
    Shop of = shop();
    budget(&of, "purse", 0.05);
    llmgw *gw = open_shop(&of);
    provider_model_rule(&provider, "a", "\"delay_ms\":100,\"usage_input\":1,\"usage_output\":1");
    Rec recs[2];
    memset(recs, 0, sizeof recs);
    for (int i = 0; i < 2; i++) {
        llmgw_request request = rec_request(&recs[i], "a", i ? "second" : "first", false);
        request.max_tokens = 10;
        rec_send(gw, &recs[i], &request);
    }
    assert_true(rec_drive(gw, recs, 2, 5000));
    t_expect_code(recs[0].reply, LLMGW_OK);
    expect_budget(recs[1].reply, "purse");
    for (int i = 0; i < 2; i++) rec_free(&recs[i]);
    nothing_reserved(gw);
    assert_int_equal(spent_of(gw, "purse"), 3 * IN_PICO);
    llmgw_request request = ask("a", "third");
    expect(gw, &request, LLMGW_OK);
    llmgw_close(gw);
}

static void a_refused_hedge_hurts_nobody(void **state) {
    static const char *const ba[] = {"b", "a"};
    Shop of = shop();
    budget(&of, "purse", 0.02);
    route(&of, "hedge", NULL, ba, 2)->hedge_ms = 20;
    of.routes[0].hedge_percent = 100;
    route(&of, "race", "race", ba, 2);
    llmgw *gw = open_shop(&of);
    provider_model_rule(&provider, "b", "\"delay_ms\":100,\"usage_input\":1");
    size_t from = 0;
    for (int i = 0; i < 4; i++) {
        llmgw_request request = ask(i % 2 ? "race" : "hedge", "Patience");
        request.stream = i >= 2;
        llmgw_reply *reply = chat(gw, &request, LLMGW_OK);
        assert_string_equal(reply->model, "b");
        assert_int_equal(reply->attempts, 1);
        same_as_trace(rows_of(gw), from, reply, &request);
        from = rows_of(gw)->n;
        llmgw_reply_free(reply);
    }
    assert_int_equal(provider_asked(&provider, "a"), 0);
    llmgw_close(gw);
}

static void an_unknown_price_is_unknown(void **state) {
    static const char *const ub[] = {"u", "b"};
    for (int kind = 0; kind < 3; kind++) { /* hard, allowed, none */
        Shop of = shop();
        llmgw_budget *b = kind < 2 ? budget(&of, "purse", 1) : NULL;
        if (kind == 1) b->allow_unknown = true;
        route(&of, "r", NULL, ub, 2);
        llmgw *gw = open_shop(&of);
        usage(9, 9);
        llmgw_request request = ask("r", "What does it cost?");
        llmgw_reply *reply = chat(gw, &request, LLMGW_OK);
        assert_string_equal(reply->model, kind ? "u" : "b");
        assert_int_equal(reply->cost.known, !kind);
        const Rows *rows = rows_of(gw);
        same_as_trace(rows, 0, reply, &request);
        assert_int_equal(rows->known, !kind);
        if (kind) assert_int_equal(rows->row[0].is.price, 0);
        llmgw_reply_free(reply);
        request.model = "u";
        reply = llmgw_chat(gw, &request);
        if (!kind) {
            expect_budget(reply, "purse");
            t_expect_text(reply, "not known");
            assert_int_equal(provider_asked(&provider, "u"), 0);
        }
        llmgw_reply_free(reply);
        if (kind == 1) assert_int_equal(spent_of(gw, "purse"), 0);
        llmgw_close(gw);
        clean(state);
        reset(state);
    }
}

static void a_soft_budget_says_so_and_goes_cheaper(void **state) {
    Shop of = shop();
    llmgw_budget *b = budget(&of, "wish", 0.05);
    b->soft = true;
    b->cheaper = "b";
    llmgw *gw = open_shop(&of);
    usage(100, 10); /* a: 0.12 */
    llmgw_request request = ask("a", "More");
    llmgw_reply *reply = chat(gw, &request, LLMGW_OK);
    assert_string_equal(reply->model, "a");
    llmgw_reply_free(reply);
    for (int i = 0; i < 3; i++) {
        assert_true(llmgw_poll(gw, 0) >= 0);
        assert_int_equal(llmgw_flush(gw), LLMGW_OK);
    }
    expect(gw, &request, LLMGW_OK); /* at the latest now it is seen */
    int asked = provider_asked(&provider, "a");
    for (int i = 0; i < 3; i++) {
        reply = chat(gw, &request, LLMGW_OK);
        assert_string_equal(reply->model, "b");
        llmgw_reply_free(reply);
    }
    assert_int_equal(provider_asked(&provider, "a"), asked);
    assert_int_equal(logged.count[LLMGW_LOG_BUDGET], 1);
    assert_non_null(strstr(logged.line[LLMGW_LOG_BUDGET], "wish"));
    assert_string_equal(rows_of(gw)->row[rows_of(gw)->n - 1].is.route, "a");
    llmgw_close(gw);
    gw = open_shop(&of); /* a program that asks once and ends */
    reply = chat(gw, &request, LLMGW_OK);
    assert_string_equal(reply->model, "b");
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

/* A stream breaks and there is no money left to go on: what was shown stays, and the error says why. */
static void a_resume_may_be_too_dear(void **state) {
    Shop of = shop();
    budget(&of, "purse", 0.45);
    llmgw *gw = open_shop(&of);
    provider_model_rule(&provider, "a", "\"script\":400,\"cut_at\":300,\"chunk_chars\":20");
    Rec rec;
    memset(&rec, 0, sizeof rec);
    llmgw_request request = rec_request(&rec, "a", "Go on.", true);
    request.max_tokens = 200; /* 0.4 */
    (void)rec_chat(gw, &rec, &request);
    t_expect_code(rec.reply, LLMGW_E_BUDGET);
    assert_int_equal(rec.reply->attempts, 1);
    assert_true(rec.reply->text_len > 100);
    assert_true(rec.reply->cost.known && rec.reply->cost.estimated);
    same_as_trace(rows_of(gw), 0, rec.reply, &request);
    nothing_reserved(gw);
    assert_int_equal(spent_of(gw, "purse"), rec.reply->cost.pico_usd);
    rec_free(&rec);
    llmgw_close(gw);
}

/* Repetitions go on at the one that can be paid, up to max_attempts. */
static void repetitions_of_what_can_be_paid(void **state) {
    static const char *const ab[] = {"a", "b"};
    for (int streams = 0; streams < 2; streams++) {
        Shop of = shop();
        budget(&of, "purse", 0.02);
        route(&of, "r", NULL, ab, 2);
        llmgw *gw = open_shop(&of);
        provider_model_rule(&provider, "b", "\"status\":503");
        llmgw_request request = ask("r", "Again");
        request.stream = streams;
        request.max_attempts = 3;
        llmgw_reply *reply = llmgw_chat(gw, &request);
        t_expect_code(reply, LLMGW_E_OVERLOADED);
        t_expect_text(reply, "after 3 attempts");
        assert_int_equal(reply->attempts, 3);
        same_as_trace(rows_of(gw), 0, reply, &request);
        llmgw_reply_free(reply);
        llmgw_close(gw);
        clean(state);
        reset(state);
    }
}

/* Intents are committed by whoever drives: a thread of ours, or a loop that looks at the descriptor only. */
static void others_drive(void **state) {
    static const char *const abc[] = {"d", "b"};
    for (int own = 0; own < 2; own++) {
        Shop of = shop();
        of.options.background_thread = own;
        route(&of, "r", NULL, abc, 2);
        llmgw *gw = open_shop(&of);
        int fd = own ? -1 : llmgw_fd(gw);
        Rec rec;
        memset(&rec, 0, sizeof rec);
        llmgw_request request = rec_request(&rec, "r", "Drive me", false);
        rec_send(gw, &rec, &request);
        if (own) assert_true(provider_wait(&provider, "requests", 1, 2000));
        for (int i = 0; !own && i < 100 && !rec.ends; i++) {
            struct pollfd wait = {fd, POLLIN, 0};
            assert_int_equal(poll(&wait, 1, 2000), 1);
            (void)llmgw_poll(gw, 0);
        }
        assert_true(rec_drive(gw, &rec, 1, 2000));
        t_expect_code(rec.reply, LLMGW_OK);
        same_as_trace(rows_of(gw), 0, rec.reply, &request);
        rec_free(&rec);
        llmgw_close(gw);
        clean(state);
        reset(state);
    }
}

/* ---- scoped keys ---- */

typedef struct Secret {
    char text[LLMGW_KEY_TEXT];
} Secret;

static Secret make_key(llmgw *gw, const llmgw_key *key) {
    Secret secret;
    llmgw_error error;
    if (llmgw_key_create(gw, key, secret.text, &error)) fail_msg("llmgw_key_create: %s", error.text);
    return secret;
}

static llmgw_key plain_key(const char *name) {
    llmgw_key key;
    memset(&key, 0, sizeof key);
    key.name = name;
    return key;
}

/* Does a file under a directory hold a text? */
static const char *looked_for;
static int found_in;
static int look_in(const char *path, const struct stat *info, int kind, struct FTW *at) {
    if (kind != FTW_F) return 0;
    FILE *file = fopen(path, "rb");
    size_t n = (size_t)info->st_size;
    char *all = (char *)malloc(n + 1);
    n = fread(all, 1, n, file);
    found_in += memmem(all, n, looked_for, strlen(looked_for)) != NULL;
    fclose(file);
    free(all);
    return 0;
}

static bool no_secret_in(const char *line, size_t len, void *user) {
    assert_null(memmem(line, len, (const char *)user, strlen((const char *)user)));
    return true;
}

static void a_key_opens_what_it_may(void **state) {
    static const char *const models[] = {"a", "two/*"};
    for (int cached = 0; cached < 2; cached++) {
        Shop of = shop();
        of.options.cache.on = cached;
        of.options.log_content = true;
        llmgw *gw = open_shop(&of);
        llmgw_key key = plain_key("guest");
        key.models = models;
        key.model_count = 2;
        Secret secret = make_key(gw, &key), wrong = secret;
        logged.secret = secret.text;
        llmgw_request request = ask("a", "May I?");
        request.key = secret.text;
        expect(gw, &request, LLMGW_OK);
        request.model = "two/b";
        expect(gw, &request, LLMGW_OK);
        request.model = "c";
        llmgw_reply *reply = chat(gw, &request, LLMGW_E_FORBIDDEN);
        assert_null(strstr(reply->error.text, secret.text));
        llmgw_reply_free(reply);
        request.model = "no/such";
        reply = llmgw_chat(gw, &request);
        t_expect_code(reply, LLMGW_E_FORBIDDEN);
        llmgw_reply_free(reply);
        request.model = "a";
        wrong.text[30] = wrong.text[30] == 'x' ? 'y' : 'x';
        static const char *const bad[] = {"", "llmgw-", "sk-nothing", "llmgw-00000000000-0000", NULL};
        request.key = wrong.text;
        for (int i = 0; i < 5; request.key = bad[i++]) {
            if (i && !request.key) break;
            Rec rec;
            llmgw_error error;
            expect(gw, &request, LLMGW_E_UNAUTHORIZED);
            memset(&rec, 0, sizeof rec);
            assert_int_equal(llmgw_send(gw, &request, &error), 0);
            assert_int_equal(error.code, LLMGW_E_UNAUTHORIZED);
            assert_null(strstr(error.text, wrong.text));
        }
        const Rows *rows = rows_of(gw);
        assert_int_equal(rows->n, 2);
        assert_string_equal(rows->row[0].is.key, "guest");
        assert_true(llmgw_ledger_export(gw, &everything, false, no_secret_in, secret.text) > 0);
        assert_true(llmgw_ledger_export(gw, &everything, true, no_secret_in, secret.text) > 0);
        if (cached) assert_true(llmgw_cache_export(gw, NULL, no_secret_in, secret.text) > 0);
        assert_false(logged.leaked);
        llmgw_close(gw);
        looked_for = secret.text;
        found_in = 0;
        nftw(store_path, look_in, 8, FTW_PHYS);
        assert_int_equal(found_in, 0);
        clean(state);
        reset(state);
    }
}

static void keys_are_required(void **state) {
    Shop of = shop();
    of.options.keys_required = true;
    llmgw *gw = with_clock(open_shop(&of));
    llmgw_reply *reply = llmgw_ask(gw, "a", "Let me in");
    t_expect_code(reply, LLMGW_E_UNAUTHORIZED);
    t_expect_text(reply, "keys_required");
    llmgw_reply_free(reply);
    llmgw_key key = plain_key("guest");
    key.expires_s = time(NULL) + 100;
    Secret secret = make_key(gw, &key);
    llmgw_request request = ask("a", "Let me in");
    request.key = secret.text;
    expect(gw, &request, LLMGW_OK);
    ahead_s = 101;
    expect(gw, &request, LLMGW_E_UNAUTHORIZED); /* expired */
    assert_int_equal(provider_count(&provider, "requests"), 1);
    llmgw_close(gw);
}

/* A revoked key gets nothing more, not even what the cache knows; what is in flight goes on. */
static void revoked_is_revoked(void **state) {
    Shop of = shop();
    of.options.cache.on = true;
    llmgw *gw = open_shop(&of);
    llmgw_key key = plain_key("guest");
    Secret secret = make_key(gw, &key);
    llmgw_request request = ask("a", "Known");
    request.key = secret.text;
    expect(gw, &request, LLMGW_OK);
    llmgw_reply *reply = chat(gw, &request, LLMGW_OK);
    assert_int_equal(reply->cached.verdict, LLMGW_VERDICT_EXACT);
    llmgw_reply_free(reply);
    provider_model_rule(&provider, "b", "\"delay_ms\":200");
    Rec rec;
    memset(&rec, 0, sizeof rec);
    llmgw_request slow = rec_request(&rec, "b", "Under way", false);
    slow.key = secret.text;
    rec_send(gw, &rec, &slow);
    (void)llmgw_poll(gw, 20);
    assert_int_equal(llmgw_key_revoke(gw, "guest"), LLMGW_OK);
    expect(gw, &request, LLMGW_E_UNAUTHORIZED);
    assert_true(rec_drive(gw, &rec, 1, 5000));
    t_expect_code(rec.reply, LLMGW_OK);
    rec_free(&rec);
    assert_int_equal(llmgw_key_revoke(gw, "guest"), LLMGW_E_NOT_FOUND);
    const Rows *rows = rows_of(gw);
    assert_int_equal(rows->n, 3); /* with the hit */
    for (size_t i = 0; i < rows->n; i++) assert_string_equal(rows->row[i].is.key, "guest");
    llmgw_close(gw);
}

static void limits_of_a_key(void **state) {
    Shop of = shop();
    of.options.cache.on = true;
    llmgw *gw = open_shop(&of);
    llmgw_key key = plain_key("rpm");
    key.rpm = 3;
    Secret secret = make_key(gw, &key);
    llmgw_request request = ask("a", "Count me");
    request.key = secret.text;
    int ok = 0;
    llmgw_reply *reply = NULL;
    for (int i = 0; i < 5; i++) {
        llmgw_reply_free(reply);
        reply = llmgw_chat(gw, &request);
        ok += !reply->error.code;
        if (reply->error.code) break;
    }
    assert_int_equal(ok, 3); /* hits count as requests */
    t_expect_code(reply, LLMGW_E_LIMIT);
    t_expect_text(reply, "rpm");
    assert_true(reply->error.retry_after_ms > 50000 && reply->error.retry_after_ms < 62000);
    llmgw_reply_free(reply);

    key = plain_key("tpm");
    key.tpm = 1000;
    secret = make_key(gw, &key);
    request.key = secret.text;
    request.max_tokens = 900;
    usage(100, 500);
    request.prompt = "tokens";
    expect(gw, &request, LLMGW_OK); /* 900 reserved, 600 used */
    for (int i = 0; i < 5; i++) expect(gw, &request, LLMGW_E_LIMIT);
    request.max_tokens = 300;
    request.prompt = "fewer tokens";
    expect(gw, &request, LLMGW_OK); /* 400 were given back */
    request.max_tokens = 900;
    reply = chat(gw, &request, LLMGW_E_LIMIT);
    t_expect_text(reply, "tpm");
    assert_true(reply->error.retry_after_ms > 0);
    llmgw_reply_free(reply);
    request.max_tokens = INT64_MAX; /* does not run over into a negative sum */
    expect(gw, &request, LLMGW_E_LIMIT);
    llmgw_close(gw);
}

/* The place of a call in its key's concurrency is given back however it ends. */
static void a_place_is_given_back(void **state) {
    Shop of = shop();
    of.options.cache.on = true;
    budget(&of, "purse", 0.5)->tag = "poor";
    llmgw *gw = open_shop(&of);
    llmgw_key key = plain_key("one");
    key.concurrency = 1;
    Secret secret = make_key(gw, &key);
    static const char *const poor[] = {"poor"};
    provider_model_rule(&provider, "b", "\"never\":true");
    usage(1000, 1);
    for (int round = 0; round < 2; round++) {
        llmgw_request request = ask("a", "one at a time");
        request.key = secret.text;
        expect(gw, &request, LLMGW_OK); /* then a hit */
        request.tags = poor;
        request.tag_count = 1;
        request.prompt = round ? "poor again" : "poor";
        expect(gw, &request, round ? LLMGW_E_BUDGET : LLMGW_OK);
        request.tag_count = 0;
        request.model = "no/such";
        expect(gw, &request, LLMGW_E_MODEL);
        request.model = "d";
        request.max_attempts = 1;
        expect(gw, &request, LLMGW_E_NETWORK);
        llmgw_error error;
        request.model = "a/b/c";
        (void)llmgw_send(gw, &request, &error);

        Rec recs[2];
        memset(recs, 0, sizeof recs);
        llmgw_request slow = rec_request(&recs[0], "b", round ? "never" : "ever", round);
        slow.key = secret.text;
        rec_send(gw, &recs[0], &slow);
        (void)llmgw_poll(gw, 50);
        request = ask("a", "is it free?");
        request.key = secret.text;
        request.cache = LLMGW_CACHE_OFF;
        llmgw_reply *reply = chat(gw, &request, LLMGW_E_LIMIT);
        t_expect_text(reply, "concurrency");
        assert_true(reply->error.retryable);
        llmgw_reply_free(reply);
        llmgw_cancel(gw, recs[0].call);
        assert_true(rec_drive(gw, recs, 1, 5000));
        rec_free(&recs[0]);
        expect(gw, &request, LLMGW_OK);
        /* a hit that has its events in llmgw_poll */
        memset(recs, 0, sizeof recs);
        slow = rec_request(&recs[0], "a", "one at a time", false);
        slow.max_tokens = 10;
        slow.key = secret.text;
        rec_send(gw, &recs[0], &slow);
        assert_true(rec_drive(gw, recs, 1, 5000));
        assert_int_equal(recs[0].reply->cached.verdict, LLMGW_VERDICT_EXACT);
        rec_free(&recs[0]);
        expect(gw, &request, LLMGW_OK);
    }
    llmgw_close(gw);
}

static void budgets_of_a_key(void **state) {
    Shop of = shop();
    budget(&of, "named", 0.21)->key = "rich";
    llmgw *gw = open_shop(&of);
    llmgw_key key = plain_key("poor");
    key.per_day_usd = llmgw_set(0.12);
    Secret poor = make_key(gw, &key);
    key = plain_key("rich");
    Secret rich = make_key(gw, &key);
    usage(100, 0); /* 0.1 */
    llmgw_request request = ask("a", "How rich am I?");
    request.key = poor.text;
    expect(gw, &request, LLMGW_OK);
    llmgw_reply *reply = llmgw_chat(gw, &request);
    expect_budget(reply, "poor");
    assert_true(reply->error.retry_after_ms > 0);
    llmgw_reply_free(reply);
    request.key = rich.text;
    expect(gw, &request, LLMGW_OK);
    expect(gw, &request, LLMGW_OK);
    reply = llmgw_chat(gw, &request);
    expect_budget(reply, "named");
    llmgw_reply_free(reply);
    request.key = NULL;
    expect(gw, &request, LLMGW_OK);
    request.model = "u"; /* of unknown price */
    request.key = poor.text;
    expect(gw, &request, LLMGW_E_BUDGET);
    assert_int_equal(rows_of(gw)->n, 4);
    llmgw_close(gw);

    of.options.budget_count = 0;
    of.options.ledger.off = true; /* nobody could tell what it has spent */
    gw = open_shop(&of);
    request.model = "a";
    reply = chat(gw, &request, LLMGW_E_STORE);
    llmgw_reply_free(reply);
    request.key = rich.text;
    expect(gw, &request, LLMGW_OK);
    llmgw_close(gw);
}

static void namespaces_of_keys(void **state) {
    Shop of = shop();
    of.options.cache.on = true;
    llmgw *gw = open_shop(&of);
    llmgw_key key = plain_key("x");
    key.cache_namespace = "x";
    Secret secrets[3];
    secrets[0] = make_key(gw, &key);
    key.name = "y";
    key.cache_namespace = "y";
    secrets[1] = make_key(gw, &key);
    key.name = "x2";
    key.cache_namespace = "x";
    secrets[2] = make_key(gw, &key);
    for (int i = 0; i < 6; i++) {
        llmgw_request request = ask("a", "Whose?");
        request.key = secrets[i % 3].text;
        request.cache_namespace = i >= 3 ? "mine" : NULL; /* the key's goes before the request's */
        llmgw_reply *reply = chat(gw, &request, LLMGW_OK);
        assert_int_equal(reply->cached.verdict, i < 2 ? LLMGW_VERDICT_MISS : LLMGW_VERDICT_EXACT);
        llmgw_reply_free(reply);
    }
    llmgw_close(gw);
}

/* ---- one answer for several, hits ---- */

static bool take_total(const llmgw_ledger_total *total, void *user) {
    llmgw_ledger_total *to = (llmgw_ledger_total *)user;
    to->attempts += total->attempts;
    to->hits += total->hits;
    to->failures += total->failures;
    to->unknown += total->unknown;
    to->cost.pico_usd += total->cost.pico_usd;
    to->saved.pico_usd += total->saved.pico_usd;
    return true;
}

static llmgw_ledger_total total_of(llmgw *gw, const char *key, const char *tag) {
    llmgw_ledger_total total;
    llmgw_ledger_filter filter = everything;
    memset(&total, 0, sizeof total);
    filter.key = key;
    filter.tag = tag;
    assert_int_equal(llmgw_flush(gw), LLMGW_OK);
    assert_true(llmgw_ledger_totals(gw, &filter, 0, take_total, &total) >= 0);
    return total;
}

static void who_joins_pays_nothing(void **state) {
    static const char *const tags[] = {"t"};
    Shop of = shop();
    of.options.cache.on = true;
    llmgw *gw = open_shop(&of);
    Secret secrets[3];
    const char *names[] = {"k0", "k1", "k2"};
    for (int i = 0; i < 3; i++) {
        llmgw_key key = plain_key(names[i]);
        key.concurrency = 1;
        secrets[i] = make_key(gw, &key);
    }
    provider_rule(&provider, "{\"model\":\"*\",\"delay_ms\":100,\"usage_input\":10,\"usage_output\":10}");
    Rec recs[4];
    memset(recs, 0, sizeof recs);
    for (int i = 0; i < 4; i++) {
        llmgw_request request = rec_request(&recs[i], "a", "Together", false);
        if (i < 3) request.key = secrets[i].text;
        request.tags = tags;
        request.tag_count = i == 3;
        rec_send(gw, &recs[i], &request);
    }
    assert_true(rec_drive(gw, recs, 4, 5000));
    assert_int_equal(provider_count(&provider, "requests"), 1);
    const Rows *rows = rows_of(gw);
    assert_int_equal(rows->n, 4);
    int paid = 0;
    for (size_t i = 0; i < 4; i++) {
        const llmgw_ledger_row *row = &rows->row[i].is;
        assert_int_equal(recs[i].reply->cached.verdict, i ? LLMGW_VERDICT_JOINED : LLMGW_VERDICT_MISS);
        paid += row->cost.pico_usd != 0;
        assert_int_equal(row->cost.pico_usd ? !strcmp(row->key, "k0") : row->verdict == LLMGW_VERDICT_JOINED,
                         1);
        assert_true(row->cost.known);
        rec_free(&recs[i]);
    }
    assert_int_equal(paid, 1);
    assert_int_equal(rows->cost, 30 * IN_PICO);
    llmgw_ledger_total total = total_of(gw, "k1", NULL);
    assert_int_equal(total.attempts, 0);
    assert_int_equal(total.hits, 1);
    assert_int_equal(total.saved.pico_usd, 30 * IN_PICO);
    /* now of the cache; a request without key and tags leaves no row */
    for (int i = 0; i < 4; i++) {
        llmgw_request request = ask("a", "Together");
        request.max_tokens = 0;
        if (i < 2) request.key = secrets[1].text;
        request.tags = tags;
        request.tag_count = i == 2;
        llmgw_reply *reply = chat(gw, &request, LLMGW_OK);
        assert_int_equal(reply->cached.verdict, LLMGW_VERDICT_EXACT);
        llmgw_reply_free(reply);
    }
    assert_int_equal(total_of(gw, "k1", NULL).hits, 3);
    assert_int_equal(total_of(gw, NULL, "t").hits, 2);
    assert_int_equal(rows_of(gw)->n, 7);
    /* a failure that is shared is nobody's hit */
    provider_reset(&provider);
    provider_rule(&provider, "{\"model\":\"*\",\"delay_ms\":50,\"status\":400}");
    for (int i = 0; i < 2; i++) {
        llmgw_request request = rec_request(&recs[i], "a", "Fail together", false);
        request.key = secrets[i].text;
        rec_send(gw, &recs[i], &request);
    }
    assert_true(rec_drive(gw, recs, 2, 5000));
    for (int i = 0; i < 2; i++) rec_free(&recs[i]);
    assert_int_equal(total_of(gw, "k1", NULL).hits, 3);
    assert_int_equal(rows_of(gw)->n, 8);
    llmgw_close(gw);
}

/* One whose budget is used up does not take down those who ask the same and can pay. */
static void the_poor_do_not_ground_a_flight(void **state) {
    for (int stream = 0; stream < 2; stream++) {
        Shop of = shop();
        of.options.cache.on = true;
        llmgw *gw = open_shop(&of);
        Secret secrets[4];
        const char *names[] = {"poor", "poorer", "rich", "richer"};
        for (int i = 0; i < 4; i++) {
            llmgw_key key = plain_key(names[i]);
            if (i < 2) key.total_usd = llmgw_set(0.0001);
            secrets[i] = make_key(gw, &key);
        }
        Rec recs[4];
        memset(recs, 0, sizeof recs);
        for (int i = 0; i < 4; i++) {
            llmgw_request request = rec_request(&recs[i], "a", "All the same", stream);
            request.key = secrets[i].text;
            rec_send(gw, &recs[i], &request);
        }
        assert_true(rec_drive(gw, recs, 4, 5000));
        for (int i = 0; i < 4; i++) {
            t_expect_code(recs[i].reply, i < 2 ? LLMGW_E_BUDGET : LLMGW_OK);
            assert_int_equal(recs[i].ends, 1);
            assert_int_equal(recs[i].out_of_order, 0);
            if (i < 2) t_expect_text(recs[i].reply, names[i]);
            assert_int_equal(recs[i].reply->attempts, i == 2);
        }
        assert_int_equal(provider_count(&provider, "requests"), 1);
        const Rows *rows = rows_of(gw);
        assert_int_equal(rows->n, 2);
        for (size_t i = 0; i < 2; i++)
            assert_string_equal(rows->row[i].is.key,
                                rows->row[i].is.verdict == LLMGW_VERDICT_JOINED ? "richer" : "rich");
        for (int i = 0; i < 4; i++) rec_free(&recs[i]);
        llmgw_close(gw);
        clean(state);
        reset(state);
    }
}

static void calls_of_our_own_are_recorded(void **state) {
    static const char *const tags[] = {"t"};
    Shop of = shop();
    of.options.cache.on = of.options.cache.semantic = true;
    of.options.cache.similarity = llmgw_set(0.6);
    of.options.cache.embed_model = "one/embed";
    llmgw *gw = open_shop(&of);
    llmgw_request request = ask("a", "How do I reset the password of my account?");
    request.max_tokens = 0;
    request.tags = tags;
    request.tag_count = 1;
    expect(gw, &request, LLMGW_OK);
    request.prompt = "How can I reset my account password";
    llmgw_reply *reply = chat(gw, &request, LLMGW_OK);
    assert_int_equal(reply->cached.verdict, LLMGW_VERDICT_SEMANTIC);
    llmgw_reply_free(reply);
    const Rows *rows = rows_of(gw);
    int embeds = 0, hits = 0;
    for (size_t i = 0; i < rows->n; i++) {
        embeds += !strcmp(rows->row[i].is.model, "embed") && !strcmp(rows->row[i].is.route, "one/embed");
        hits += rows->row[i].is.verdict == LLMGW_VERDICT_SEMANTIC;
    }
    assert_int_equal(embeds, 2);
    assert_int_equal(hits, 1);
    assert_int_equal(total_of(gw, NULL, "t").hits, 1);
    llmgw_close(gw);
    clean(state);
    reset(state);

    of = shop();
    of.options.cache.on = of.options.cache.semantic = true;
    of.options.cache.max_error = llmgw_set(0.1);
    of.options.cache.judge = "one/judge";
    gw = open_shop(&of);
    provider_model_rule(&provider, "judge", "\"text\":\"Yes.\"");
    static const char *const answers[] = {
        "You can reset the password in the settings of your account.",
        "Open your account, go to settings, choose the password and reset it there."};
    for (int i = 0; i < 12; i++) {
        char prompt[96], rule[256];
        snprintf(prompt, sizeof prompt, "how do I reset the password of account variant %c%c", 'a' + i,
                 'p' + i / 4);
        snprintf(rule, sizeof rule, "\"times\":1,\"text\":\"%s\"", answers[i % 2]);
        provider_model_rule(&provider, "a", rule);
        request = ask("a", prompt);
        request.max_tokens = 0;
        expect(gw, &request, LLMGW_OK);
    }
    assert_int_equal(llmgw_drain(gw, 10000), LLMGW_OK);
    rows = rows_of(gw);
    int judged = 0;
    for (size_t i = 0; i < rows->n; i++) judged += !strcmp(rows->row[i].is.model, "judge");
    assert_true(judged > 0);
    assert_int_equal(judged, provider_asked(&provider, "judge"));
    assert_int_equal(rows->n, provider_count(&provider, "requests"));
    llmgw_close(gw);
}

/* ---- periods ---- */

static void a_new_day_has_a_new_budget(void **state) {
    Shop of = shop();
    llmgw_budget *hard = budget(&of, "purse", 0.1), *soft = budget(&of, "wish", 0.01);
    llmgw_opt none = {false, 0};
    hard->per_day_usd = hard->total_usd;
    soft->per_day_usd = soft->total_usd;
    hard->total_usd = soft->total_usd = none;
    soft->soft = true;
    llmgw *gw = with_clock(open_shop(&of));
    usage(80, 5); /* 0.09 */
    llmgw_request request = ask("a", "Every day");
    for (int day = 0; day < 3; day++) {
        ahead_s = day * 86400;
        expect(gw, &request, LLMGW_OK);
        for (int i = 0; i < 3; i++) expect(gw, &request, LLMGW_E_BUDGET);
        nothing_reserved(gw);
        assert_int_equal(spent_of(gw, "purse"), USD(0.09));
        gw->budgets_us = 0;
        (void)llmgw_poll(gw, 0);
    }
    assert_int_equal(logged.count[LLMGW_LOG_BUDGET], 6); /* one is nearly, the other quite used up */
    assert_int_equal(rows_of(gw)->n, 3);
    llmgw_close(gw);
}

/* ---- prices kept fresh ---- */

static char prices_path[128];

/* A file of LiteLLM's form: m0, m1... of openai. The first costs cents[0] for a million tokens, and so on. */
static char *price_text(const int *cents, size_t n) {
    char *text = (char *)malloc(4096), *p = text;
    p += sprintf(p, "{");
    for (size_t i = 0; i < n; i++)
        p += sprintf(
            p,
            "%s\"m%zu\":{\"litellm_provider\":\"openai\",\"mode\":\"chat\",\"input_cost_per_token\":%de-8,"
            "\"output_cost_per_token\":%de-8}",
            i ? "," : "", i, cents[i], cents[i]);
    sprintf(p, "}");
    return text;
}

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void write_prices(const int *cents, size_t n) {
    char *text = price_text(cents, n);
    write_file(prices_path, text);
    free(text);
}

/* The fake provider stands where openai's prices hold. */
static llmgw *open_priced(Shop *of) {
    static const char *const targets[] = {"openai/m0", "openai/m1"};
    route(of, "r", "cheapest", targets, 2);
    of->options.routes = of->routes;
    llmgw *gw = t_open(&provider, &of->options);
    for (size_t i = 0; i < gw->config.provider_count; i++) gw->config.providers[i]->listed = true;
    return gw;
}

/* Looks at the source now, and until it is read. */
static void look_at_prices(llmgw *gw) {
    gw->prices.at_us = 0;
    for (int64_t until = t_now_ms() + 3000; t_now_ms() < until;) {
        (void)llmgw_poll(gw, 1);
        if (gw->prices.at_us && !gw->prices.load && !gw->prices.transfer) return;
    }
    fail_msg("prices were not read");
}

static int64_t cost_of(llmgw *gw, const char *model, const char **taken) {
    llmgw_request request = ask(model, "What do you cost?");
    llmgw_reply *reply = chat(gw, &request, LLMGW_OK);
    int64_t cost = reply->cost.known ? reply->cost.pico_usd : -1;
    if (taken) *taken = strcmp(reply->model, "m0") ? "m1" : "m0";
    llmgw_reply_free(reply);
    return cost;
}

static void prices_of_a_file_are_kept_fresh(void **state) {
    static const int cheap[] = {100, 300, 1, 1, 1, 1}, dear[] = {500, 300, 1, 1, 1, 1};
    const char *model;
    snprintf(prices_path, sizeof prices_path, "%s/prices.json", dir);
    Shop of = shop();
    of.options.prices = prices_path;
    write_prices(cheap, 6);
    usage(1000, 0);
    llmgw *gw = open_priced(&of);
    assert_int_equal(cost_of(gw, "r", &model), 1000 * 1000000);
    assert_string_equal(model, "m0");
    uint64_t was = rows_of(gw)->row[0].is.price;
    assert_int_equal(logged.count[LLMGW_LOG_PRICE], 0);
    t_sleep_ms(20); /* another mtime */
    write_prices(dear, 6);
    look_at_prices(gw);
    assert_int_equal(logged.count[LLMGW_LOG_PRICE], 2); /* how many of the list, and the configured one */
    assert_non_null(strstr(logged.line[LLMGW_LOG_PRICE], "openai/m0"));
    assert_int_equal(cost_of(gw, "r", &model), (int64_t)3000 * 1000000);
    assert_string_equal(model, "m1");
    assert_int_equal(cost_of(gw, "openai/m0", NULL), (int64_t)5000 * 1000000);
    assert_true(rows_of(gw)->row[2].is.price != was);

    static const char *const broken[] = {
        "", "{\"m0\":", "[]", "{\"m0\":{\"litellm_provider\":\"openai\"}}",
        "{\"m0\":{\"litellm_provider\":\"openai\",\"input_cost_per_token\":-1,"
        "\"output_cost_per_token\":1}}"};
    for (size_t i = 0; i <= COUNT_OF(broken) + 1; i++) {
        int before = logged.count[LLMGW_LOG_PRICE];
        t_sleep_ms(5);
        if (i < COUNT_OF(broken))
            write_file(prices_path, broken[i]);
        else if (i == COUNT_OF(broken))
            write_prices(cheap, 2); /* it shrank */
        else
            assert_int_equal(unlink(prices_path), 0);
        look_at_prices(gw);
        look_at_prices(gw); /* told once */
        if (i <= COUNT_OF(broken)) assert_int_equal(logged.count[LLMGW_LOG_PRICE], before + 1);
        assert_int_equal(cost_of(gw, "openai/m0", NULL), (int64_t)5000 * 1000000);
    }
    write_prices(cheap, 6);
    look_at_prices(gw);
    assert_int_equal(cost_of(gw, "r", &model), 1000 * 1000000);
    assert_string_equal(model, "m0");
    llmgw_close(gw);
}

/* A server of prices: "v1" and "v2" by ETag, or what goes wrong. */
enum { SERVE_1, SERVE_2, SERVE_BROKEN, SERVE_HUGE, SERVE_500 };
typedef struct PriceServer {
    int mode, asked, unchanged;
} PriceServer;

static void serve_prices(Raw *raw, int fd, int number) {
    static const int cents[2][3] = {{100, 300, 1}, {500, 300, 1}};
    PriceServer *server = (PriceServer *)raw->arg;
    char head[4096], tag[64];
    while (raw_request(raw, fd, head, sizeof head)) {
        int mode = __atomic_load_n(&server->mode, __ATOMIC_ACQUIRE);
        __atomic_add_fetch(&server->asked, 1, __ATOMIC_ACQ_REL);
        snprintf(tag, sizeof tag, "ETag: \"v%d\"\r\n", mode);
        if (mode <= SERVE_2) {
            char want[64], *text = price_text(cents[mode], 3);
            snprintf(want, sizeof want, "If-None-Match: \"v%d\"", mode);
            bool same = strcasestr(head, want) != NULL;
            if (same) __atomic_add_fetch(&server->unchanged, 1, __ATOMIC_ACQ_REL);
            if (same)
                raw_puts(fd, "HTTP/1.1 304 Not Modified\r\n\r\n");
            else
                raw_reply(fd, "200 OK", tag, text);
            free(text);
        } else if (mode == SERVE_HUGE) {
            static char zeros[65536];
            bool more = raw_puts(fd, "HTTP/1.1 200 OK\r\nETag: \"v3\"\r\n\r\n");
            for (int i = 0; more && i < 530; i++) more = raw_write(fd, zeros, sizeof zeros);
            return;
        } else {
            raw_reply(fd, mode == SERVE_500 ? "500 No" : "200 OK", tag, "{\"m0\":");
        }
    }
}

static void prices_of_a_url(void **state) {
    Raw raw;
    PriceServer server = {SERVE_1, 0, 0};
    char url[64];
    struct stat info;
    raw_start(&raw, serve_prices, &server);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/prices.json", raw.port);
    snprintf(prices_path, sizeof prices_path, "%s/prices.json", store_path);
    Shop of = shop();
    of.options.prices = url;
    usage(1000, 0);
    llmgw *gw = open_priced(&of);
    assert_int_equal(server.asked, 0); /* open does no network I/O */
    look_at_prices(gw);
    assert_int_equal(cost_of(gw, "openai/m0", NULL), 1000 * 1000000);
    assert_int_equal(stat(prices_path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    for (int i = 0; i < 20; i++) (void)llmgw_poll(gw, 1);
    assert_int_equal(server.asked, 1); /* once a day */
    assert_true(gw->prices.at_us - llmgwi_engine_now(gw) > (int64_t)86000 * 1000000);
    look_at_prices(gw);
    assert_int_equal(server.unchanged, 1);
    __atomic_store_n(&server.mode, SERVE_2, __ATOMIC_RELEASE);
    look_at_prices(gw);
    assert_int_equal(cost_of(gw, "openai/m0", NULL), (int64_t)5000 * 1000000);
    assert_true(logged.count[LLMGW_LOG_PRICE] == 2);
    for (int mode = SERVE_BROKEN; mode <= SERVE_500; mode++) {
        int before = logged.count[LLMGW_LOG_PRICE];
        __atomic_store_n(&server.mode, mode, __ATOMIC_RELEASE);
        look_at_prices(gw);
        assert_int_equal(logged.count[LLMGW_LOG_PRICE], before + 1);
        assert_int_equal(cost_of(gw, "openai/m0", NULL), (int64_t)5000 * 1000000);
    }
    assert_true(gw->prices.at_us - llmgwi_engine_now(gw) < (int64_t)3700 * 1000000);
    __atomic_store_n(&server.mode, SERVE_2, __ATOMIC_RELEASE);
    look_at_prices(gw);
    assert_int_equal(server.unchanged, 2); /* its tag is still that of what is in use */
    llmgw_close(gw);
    int asked = server.asked;
    of.options.route_count = 0;
    gw = open_priced(&of); /* what was kept is read, and is good for the day */
    assert_int_equal(cost_of(gw, "openai/m0", NULL), (int64_t)5000 * 1000000);
    for (int i = 0; i < 10; i++) (void)llmgw_poll(gw, 1);
    assert_int_equal(server.asked, asked);
    llmgw_close(gw);
    raw_stop(&raw);
}

/* ---- stores that break, processes that write ---- */

static void a_broken_ledger(void **state) {
    static const char *const calls[] = {"mdb_txn_commit", "mdb_put", "mdb_txn_begin"};
    for (size_t i = 0; i < COUNT_OF(calls) * 3; i++) {
        int kind = (int)(i % 3); /* no budget, a soft one, a hard one */
        Shop of = shop();
        if (kind) budget(&of, "purse", 1)->soft = kind == 1;
        llmgw *gw = open_shop(&of);
        llmgw_request request = ask("a", "Still there?");
        expect(gw, &request, LLMGW_OK);
        set_fault(calls[i / 3], EIO, 1, true);
        for (int n = 0; n < 3; n++) {
            llmgw_reply *reply = chat(gw, &request, kind == 2 ? LLMGW_E_STORE : LLMGW_OK);
            assert_int_equal(reply->attempts, kind != 2);
            llmgw_reply_free(reply);
        }
        assert_int_equal(provider_count(&provider, "requests"), kind == 2 ? 1 : 4);
        if (kind != 2) assert_int_equal(LLMGWI_BASE_LOAD(&gw->ledger_lost), 3);
        if (kind != 2) assert_int_equal(logged.count[LLMGW_LOG_LEDGER], 1);
        llmgw_target target[4];
        size_t n = llmgw_targets(gw, target, 4);
        for (size_t t = 0; t < n && t < 4; t++) assert_int_equal(target[t].in_flight, 0);
        no_fault();
        llmgw_close(gw);
        clean(state);
        reset(state);
    }
}

/* Another process writes to the live store for so long. */
static pid_t hold_ledger(int ms) {
    int ready[2];
    char byte = 0;
    assert_return_code(pipe(ready), errno);
    pid_t pid = fork();
    if (pid == 0) {
        llmgw_store desc;
        llmgw_error error;
        llmgwi_base_mem mem;
        llmgwi_store_txn txn;
        memset(&desc, 0, sizeof desc);
        memset(&mem, 0, sizeof mem);
        desc.path = store_path;
        desc.no_sync = true;
        llmgwi_store *live = llmgwi_store_open_live(&mem, &desc, (int64_t)64 << 20, &error);
        bool begun = live && llmgwi_store_write(live, &txn, true);
        byte = begun ? 'y' : 'n';
        if (write(ready[1], &byte, 1) == 1) t_sleep_ms(ms);
        if (begun) (void)llmgwi_store_end(&txn, false);
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void another_process_writes(void **state) {
    Shop of = shop();
    of.options.cache.on = true;
    budget(&of, "purse", 1);
    llmgw *gw = open_shop(&of);
    llmgw_request request = ask("a", "Known");
    expect(gw, &request, LLMGW_OK);
    int sent = provider_count(&provider, "requests");
    for (int round = 0; round < 4; round++) {
        char prompt[32];
        Rec rec;
        memset(&rec, 0, sizeof rec);
        pid_t pid = hold_ledger(300);
        int64_t began = t_now_ms();
        expect(gw, &request, LLMGW_OK); /* a hit needs nobody's turn */
        assert_true(t_now_ms() - began < 150);
        snprintf(prompt, sizeof prompt, "round %d", round);
        llmgw_request other = rec_request(&rec, "a", prompt, false);
        other.max_tokens = 10;
        other.connect_ms = 100; /* it is not the provider that lets it wait */
        if (round == 1) other.deadline_ms = 100;
        rec_send(gw, &rec, &other);
        if (round == 2) (void)llmgw_poll(gw, 50);
        if (round == 2) llmgw_cancel(gw, rec.call);
        if (round == 3) (void)llmgw_poll(gw, 50);
        if (round == 3) kill(pid, SIGKILL);
        assert_true(rec_drive(gw, &rec, 1, 5000));
        int64_t took = t_now_ms() - began;
        t_expect_code(rec.reply, round == 1 ? LLMGW_E_DEADLINE : round == 2 ? LLMGW_E_CANCELLED : LLMGW_OK);
        if (round == 0 && (took < 250 || took > 1500)) fail_msg("it took %lld ms", (long long)took);
        if (round && took > 290) fail_msg("round %d took %lld ms", round, (long long)took);
        sent += round == 0 || round == 3;
        assert_int_equal(provider_count(&provider, "requests"), sent);
        assert_int_equal(t_sent(rec.reply), round == 0 || round == 3);
        assert_int_equal(rec.reply->attempts, t_sent(rec.reply));
        assert_int_equal(rec.reply->trace_count, 1); /* and nobody has failed */
        rec_free(&rec);
        waitpid(pid, NULL, 0);
        nothing_reserved(gw);
    }
    assert_int_equal(rows_of(gw)->n, 3);
    llmgw_target target[4];
    size_t n = llmgw_targets(gw, target, 4);
    for (size_t t = 0; t < n && t < 4; t++) assert_int_equal(target[t].failures, 0);
    llmgw_close(gw);
}

/* ---- the log ---- */

static void calls_are_logged(void **state) {
    for (int content = 0; content < 2; content++) {
        Shop of = shop();
        of.options.cache.on = true;
        of.options.log_content = content;
        llmgw *gw = open_shop(&of);
        usage(10, 10);
        for (int i = 0; i < 3; i++) {
            llmgw_request request = ask(i < 2 ? "a" : "c", "Tell nobody");
            llmgw_reply *reply = chat(gw, &request, LLMGW_OK);
            assert_int_equal(logged.count[LLMGW_LOG_CALL], i + 1);
            assert_string_equal(logged.prompt, content ? "Tell nobody" : "");
            assert_string_equal(logged.answer, content ? reply->text : "");
            assert_non_null(strstr(logged.line[LLMGW_LOG_CALL], i < 2 ? "one/a" : "three/c"));
            assert_int_equal(strstr(logged.line[LLMGW_LOG_CALL], "from the cache") != NULL, i == 1);
            llmgw_reply_free(reply);
        }
        llmgw_request request = ask("d", "Nobody is there");
        request.max_attempts = 1;
        expect(gw, &request, LLMGW_E_NETWORK);
        assert_int_equal(logged.count[LLMGW_LOG_CALL], 4);
        assert_non_null(strstr(logged.line[LLMGW_LOG_CALL], "E_NETWORK"));
        for (int i = 0; i < LLMGW_LOG_ITEM_COUNT; i++) {
            assert_null(strstr(logged.line[i], "Tell nobody"));
            assert_null(strchr(logged.line[i], '\n'));
        }
        llmgw_close(gw);
        clean(state);
        reset(state);
    }
}

/* ---- many at once, and the end ---- */

enum { CROWD = 32 };
typedef struct Crowd {
    llmgw *gw;
    int ok, refused, other;
    int64_t overrun, spent;
} Crowd;

static void *crowd_main(void *user) {
    Crowd *crowd = (Crowd *)user;
    for (int i = 0; i < 8; i++) {
        llmgw_request request = ask("a", "Share what is there.");
        llmgw_reply *reply = llmgw_chat(crowd->gw, &request);
        int64_t in = llmgwi_dialect_request_tokens(&request);
        int64_t reserved = (in + in * 15 / 100) * IN_PICO + 10 * 2 * IN_PICO;
        crowd->ok += !reply->error.code;
        crowd->refused += reply->error.code == LLMGW_E_BUDGET;
        crowd->other += reply->error.code && reply->error.code != LLMGW_E_BUDGET;
        if (reply->cost.pico_usd > reserved) crowd->overrun += reply->cost.pico_usd - reserved;
        crowd->spent += reply->cost.pico_usd;
        llmgw_reply_free(reply);
    }
    return NULL;
}

static void a_crowd_shares_a_budget(void **state) {
    for (int dear = 0; dear < 2; dear++) {
        Shop of = shop();
        budget(&of, "purse", 1);
        llmgw *gw = open_shop(&of);
        usage(5, dear ? 30 : 5); /* 0.015, or 0.065: more than was reserved */
        Crowd crowds[CROWD], all;
        pthread_t threads[CROWD];
        memset(crowds, 0, sizeof crowds);
        memset(&all, 0, sizeof all);
        for (int i = 0; i < CROWD; i++) {
            crowds[i].gw = gw;
            assert_int_equal(pthread_create(&threads[i], NULL, crowd_main, &crowds[i]), 0);
        }
        for (int i = 0; i < CROWD; i++) {
            pthread_join(threads[i], NULL);
            all.ok += crowds[i].ok;
            all.refused += crowds[i].refused;
            all.other += crowds[i].other;
            all.overrun += crowds[i].overrun;
            all.spent += crowds[i].spent;
        }
        int64_t billed = provider_count(&provider, "requests") * (dear ? USD(0.065) : USD(0.015));
        assert_int_equal(all.other, 0);
        assert_true(all.refused > 0 && all.ok > 10);
        assert_int_equal(billed, all.spent);
        assert_int_equal(all.overrun > 0, dear);
        if (billed > USD(1) + all.overrun)
            fail_msg("%lld spent, overrun %lld", (long long)billed, (long long)all.overrun);
        assert_int_equal(spent_of(gw, "purse"), billed);
        nothing_reserved(gw);
        llmgw_close(gw);
        clean(state);
        reset(state);
    }
}

static void close_settles_what_is_in_flight(void **state) {
    Shop of = shop();
    budget(&of, "purse", 1);
    llmgw *gw = open_shop(&of);
    provider_model_rule(&provider, "a", "\"never\":true");
    Rec recs[3];
    memset(recs, 0, sizeof recs);
    for (int i = 0; i < 3; i++) {
        llmgw_request request = rec_request(&recs[i], "a", "Until the end", i == 1);
        request.max_tokens = 10;
        rec_send(gw, &recs[i], &request);
    }
    assert_true(llmgw_poll(gw, 100) >= 0);
    (void)provider_wait(&provider, "requests", 3, 1000);
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
    for (int i = 0; i < 3; i++) {
        t_expect_code(recs[i].reply, LLMGW_E_CLOSED);
        rec_free(&recs[i]);
    }
    gw = open_shop(&of);
    nothing_reserved(gw);
    const Rows *rows = rows_of(gw);
    assert_int_equal(rows->n, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rows->row[i].is.code, LLMGW_E_CLOSED);
        assert_true(rows->row[i].is.usage.estimated && rows->row[i].is.cost.known);
        assert_false(rows->row[i].is.recovered);
    }
    assert_int_equal(spent_of(gw, "purse"), rows->cost);
    assert_true(rows->cost > 0);
    llmgw_close(gw);
}

/* What a killed process had in flight is found at the next open, costs what was reserved, and is told. */
static void the_killed_are_found(void **state) {
    Shop of = shop();
    budget(&of, "purse", 1);
    provider_model_rule(&provider, "a", "\"never\":true");
    pid_t pid = fork();
    if (pid == 0) {
        llmgw *gw = open_shop(&of);
        llmgw_request request;
        memset(&request, 0, sizeof request);
        request.model = "a";
        request.prompt = "Never answered";
        request.max_tokens = 10;
        if (!gw || !llmgw_send(gw, &request, NULL)) _exit(1);
        for (;;) (void)llmgw_poll(gw, 1000);
    }
    assert_true(pid > 0 && provider_wait(&provider, "requests", 1, 5000));
    assert_return_code(kill(pid, SIGKILL), errno);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    memset(&logged, 0, sizeof logged);
    llmgw *gw = open_shop(&of);
    for (int i = 0; i < 50 && !logged.count[LLMGW_LOG_LEDGER]; i++) (void)llmgw_poll(gw, 10);
    assert_int_equal(logged.count[LLMGW_LOG_LEDGER], 1);
    assert_non_null(strstr(logged.line[LLMGW_LOG_LEDGER], "1 attempts of a process that died"));
    const Rows *rows = rows_of(gw);
    assert_int_equal(rows->n, 1);
    assert_true(rows->row[0].is.recovered && rows->row[0].is.cost.estimated && rows->cost > 0);
    assert_int_equal(spent_of(gw, "purse"), rows->cost);
    nothing_reserved(gw);
    llmgw_close(gw);
}

static void a_forked_child_touches_nothing(void **state) {
    Shop of = shop();
    of.options.cache.on = true;
    budget(&of, "purse", 1);
    llmgw *gw = open_shop(&of);
    llmgw_key key = plain_key("k");
    Secret secret = make_key(gw, &key);
    provider_model_rule(&provider, "a", "\"delay_ms\":100");
    Rec rec;
    memset(&rec, 0, sizeof rec);
    llmgw_request request = rec_request(&rec, "a", "Parent's", false);
    request.key = secret.text;
    request.max_tokens = 10;
    rec_send(gw, &rec, &request);
    (void)llmgw_poll(gw, 20);
    pid_t pid = fork();
    if (pid == 0) {
        Rows none;
        llmgw_cost cost;
        llmgw_reply *reply = llmgw_ask(gw, "a", "Child's");
        int wrong = reply->error.code != LLMGW_E_FORKED;
        wrong += llmgw_ledger_query(gw, &everything, take_row, &none) != -(int64_t)LLMGW_E_FORKED;
        wrong += llmgw_ledger_reprice(gw, &everything, true, &cost, &cost) != -(int64_t)LLMGW_E_FORKED;
        wrong += llmgw_key_create(gw, &key, secret.text, NULL) != LLMGW_E_FORKED;
        wrong += llmgw_key_revoke(gw, "k") != LLMGW_E_FORKED;
        wrong += llmgw_budgets(gw, NULL, 0) != 0;
        llmgw_reply_free(reply);
        (void)llmgw_close(gw);
        _exit(wrong);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    assert_true(rec_drive(gw, &rec, 1, 5000));
    t_expect_code(rec.reply, LLMGW_OK);
    rec_free(&rec);
    assert_int_equal(rows_of(gw)->n, 1);
    nothing_reserved(gw);
    assert_int_equal(provider_count(&provider, "requests"), 1);
    llmgw_close(gw);
}

static void off_is_off(void **state) {
    char path[128];
    struct stat info;
    Rows none;
    Shop of = shop();
    of.options.ledger.off = true;
    of.options.cache.on = true;
    llmgw *gw = open_shop(&of);
    llmgw_request request = ask("a", "Nothing is written");
    static const char *const tags[] = {"verytelling"};
    request.tags = tags;
    request.tag_count = 1;
    expect(gw, &request, LLMGW_OK);
    expect(gw, &request, LLMGW_OK);
    assert_int_equal(llmgw_flush(gw), LLMGW_OK);
    assert_int_equal(llmgw_ledger_query(gw, &everything, take_row, &none), -(int64_t)LLMGW_E_STORE);
    assert_int_equal(llmgw_budgets(gw, NULL, 0), 0);
    llmgw_close(gw);
    snprintf(path, sizeof path, "%s/live", store_path);
    assert_int_not_equal(stat(path, &info), 0);
    looked_for = "verytelling";
    found_in = 0;
    nftw(store_path, look_in, 8, FTW_PHYS);
    assert_int_equal(found_in, 0);
}

static void wrong_arguments(void **state) {
    static char longest[LLMGW_KEY_TEXT];
    static const char *const many[] = {"1", "2", "3", "4", "5", "6", "7", "8", "9"};
    static const char *const bad[][1] = {{NULL}, {""}, {longest}, {"a\nb"}, {"\xff"}};
    llmgw_error error;
    llmgw_cost cost;
    llmgw_ledger_total total;
    Rows none;
    memset(longest, 'x', 65);
    Shop of = shop();
    llmgw *gw = open_shop(&of);
    llmgw_request request = ask("a", "tags");
    request.tags = many;
    request.tag_count = 9;
    expect(gw, &request, LLMGW_E_ARGUMENT);
    request.tag_count = 8;
    expect(gw, &request, LLMGW_OK);
    request.tags = NULL;
    expect(gw, &request, LLMGW_E_ARGUMENT);
    request.tag_count = 1;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        request.tags = bad[i];
        llmgw_reply *reply = chat(gw, &request, LLMGW_E_ARGUMENT);
        t_expect_text(reply, "tag");
        llmgw_reply_free(reply);
        assert_int_equal(llmgw_send(gw, &request, &error), 0);
        assert_int_equal(error.code, LLMGW_E_ARGUMENT);
    }
    longest[64] = 0;
    request.tags = bad[2];
    expect(gw, &request, LLMGW_OK);
    assert_string_equal(rows_of(gw)->row[1].is.tags[0], longest);

    int64_t wrong = -(int64_t)LLMGW_E_ARGUMENT, closed = -(int64_t)LLMGW_E_CLOSED;
    assert_int_equal(llmgw_ledger_query(gw, NULL, NULL, NULL), wrong);
    assert_int_equal(llmgw_ledger_export(gw, NULL, false, NULL, NULL), wrong);
    assert_int_equal(llmgw_ledger_totals(gw, NULL, 0, NULL, NULL), wrong);
    assert_int_equal(llmgw_ledger_totals(gw, NULL, 128, take_total, &total), wrong);
    assert_int_equal(llmgw_keys(gw, NULL, NULL), wrong);
    assert_int_equal(llmgw_ledger_query(NULL, NULL, take_row, &none), closed);
    assert_int_equal(llmgw_ledger_totals(NULL, NULL, 0, take_total, &total), closed);
    assert_int_equal(llmgw_ledger_reprice(NULL, NULL, false, &cost, &cost), closed);
    assert_int_equal(llmgw_ledger_export(NULL, NULL, false, no_secret_in, ""), closed);
    assert_int_equal(llmgw_keys(NULL, NULL, NULL), closed);
    assert_int_equal(llmgw_ledger_query(gw, NULL, take_row, (memset(&none, 0, sizeof none), &none)), 2);
    assert_int_equal(llmgw_ledger_reprice(gw, NULL, false, NULL, NULL), 0);
    assert_int_equal(llmgw_budgets(gw, NULL, 5), 0);
    assert_int_equal(llmgw_key_create(NULL, NULL, longest, &error), LLMGW_E_CLOSED);
    assert_int_equal(llmgw_key_create(gw, NULL, longest, &error), LLMGW_E_ARGUMENT);
    assert_int_equal(llmgw_key_revoke(gw, NULL), LLMGW_E_ARGUMENT);
    llmgw_close(gw);

    of = shop(); /* without a store */
    of.options.store.path = NULL;
    gw = open_shop(&of);
    assert_int_equal(llmgw_ledger_query(gw, NULL, take_row, &none), -(int64_t)LLMGW_E_STORE);
    assert_int_equal(llmgw_keys(gw, NULL, NULL), -(int64_t)LLMGW_E_STORE);
    request.key = "llmgw-x";
    expect(gw, &request, LLMGW_E_STORE);
    llmgw_close(gw);
    budget(&of, "purse", 1);
    assert_null(open_shop_error(&of, &error));
    assert_int_equal(error.code, LLMGW_E_CONFIG);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, reset, clean)

int main(void) {
    cmocka_set_test_filter(getenv("ONLY"));
    const struct CMUnitTest tests[] = {
        TEST(rows_are_the_trace),
        TEST(failed_attempts_have_rows),
        TEST(resumed_and_cancelled_attempts),
        TEST(races_and_hedges),
        TEST(a_hard_budget_refuses_before_sending),
        TEST(who_can_be_paid_is_asked),
        TEST(a_refusal_uses_no_limit),
        TEST(a_reservation_is_given_back),
        TEST(a_refused_hedge_hurts_nobody),
        TEST(an_unknown_price_is_unknown),
        TEST(a_soft_budget_says_so_and_goes_cheaper),
        TEST(a_resume_may_be_too_dear),
        TEST(repetitions_of_what_can_be_paid),
        TEST(others_drive),
        TEST(a_key_opens_what_it_may),
        TEST(keys_are_required),
        TEST(revoked_is_revoked),
        TEST(limits_of_a_key),
        TEST(a_place_is_given_back),
        TEST(budgets_of_a_key),
        TEST(namespaces_of_keys),
        TEST(who_joins_pays_nothing),
        TEST(the_poor_do_not_ground_a_flight),
        TEST(calls_of_our_own_are_recorded),
        TEST(a_new_day_has_a_new_budget),
        TEST(prices_of_a_file_are_kept_fresh),
        TEST(prices_of_a_url),
        TEST(a_broken_ledger),
        TEST(another_process_writes),
        TEST(calls_are_logged),
        TEST(a_crowd_shares_a_budget),
        TEST(close_settles_what_is_in_flight),
        TEST(the_killed_are_found),
        TEST(a_forked_child_touches_nothing),
        TEST(off_is_off),
        TEST(wrong_arguments),
    };
    return cmocka_run_group_tests_name("money", tests, group_start, group_stop);
}
