/* The README against the code: every option's default, every row of what a failure means, the numbers in its
   sentences, when the cache begins to serve like questions, the fields of the configuration file, and its examples. */
#include "unit.h"

#include <inttypes.h>

static char readme[256 << 10];

/* Line breaks become spaces, so that a sentence is found wherever it is broken; rows still begin with "| ". */
static char flat[sizeof readme];

static int read_readme(void **state) {
    FILE *file = fopen("README.md", "rb");
    if (!file) return 1;
    size_t n = fread(readme, 1, sizeof readme - 1, file);
    (void)fclose(file);
    for (size_t i = 0; i <= n; i++) flat[i] = readme[i] == '\n' ? ' ' : readme[i];
    return n == sizeof readme - 1;
}

/* The cell'th cell (from 1) of a line that is a row of a table, without its spaces. */
static bool cell_of(const char *line, int cell, char *out, size_t size) {
    const char *end = line + strcspn(line, "\n");
    for (; cell > 0 && line < end; cell--) line += strcspn(line, "|\n") + 1;
    size_t n = line < end ? strcspn(line, "|\n") : 0;
    for (; n && *line == ' '; n--) line++;
    while (n && line[n - 1] == ' ') n--;
    if (n >= size) fail_msg("a cell of more than %zu bytes: %.60s", size, line);
    memcpy(out, line, n);
    out[n] = 0;
    return n > 0;
}

/* The only row whose first cell holds this name. */
static const char *row_of(const char *name) {
    const char *found = NULL;
    char quoted[80], cell[512];
    snprintf(quoted, sizeof quoted, "`%s`", name);
    for (const char *at = readme; (at = strstr(at, "\n| ")) != NULL; at++) {
        if (!cell_of(at + 1, 1, cell, sizeof cell) || !strstr(cell, quoted)) continue;
        if (found) fail_msg("%s has two rows", name);
        found = at + 1;
    }
    if (!found) fail_msg("%s has no row", name);
    return found;
}

/* "65,536", "64 MiB", "4, or ...": a number with commas and a unit. */
static int64_t number_of(const char *text) {
    int64_t n = 0;
    if (*text < '0' || *text > '9') fail_msg("no number: %s", text);
    for (; (*text >= '0' && *text <= '9') || (*text == ',' && text[1] != ' '); text++)
        if (*text != ',') n = n * 10 + (*text - '0');
    return n * (!strncmp(text, " MiB", 4) ? 1 << 20 : !strncmp(text, " KiB", 4) ? 1 << 10 : 1);
}

static void test_defaults(void **state) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_config_defaults); i++) {
        const llmgwi_config_default *row = &llmgwi_config_defaults[i];
        char cell[512];
        int64_t want = strcmp(row->name, "max_attempts") == 0 ? 4 : row->value; /* 0 there: not a constant */
        assert_true(cell_of(row_of(row->name), 2, cell, sizeof cell));
        if (number_of(cell) != want) fail_msg("%s: %s, not %" PRId64, row->name, cell, want);
        if ((strstr(cell, "(-1)") != NULL) != row->off) fail_msg("%s: can it be off? %s", row->name, cell);
    }
}

/* The default of a row of options.store or options.cache, as the README writes it. */
static void expect_durable(const llmgwi_config_durable *row) {
    char cell[512], *end;
    assert_true(cell_of(row_of(row->name), 2, cell, sizeof cell));
    bool is_number = row->type == LLMGWI_CONFIG_INT || row->type == LLMGWI_CONFIG_BYTES ||
                     row->type == LLMGWI_CONFIG_SIZE || row->type == LLMGWI_CONFIG_USD;
    const char *word = row->type == LLMGWI_CONFIG_BOOL ? "false" : "none";
    bool has_value = is_number && row->value >= 0 && (row->value > 0 || row->type == LLMGWI_CONFIG_USD);
    if (!has_value) {
        if (strcmp(cell, word) != 0) fail_msg("%s: %s, not %s", row->name, cell, word);
        return;
    }
    double got = (double)number_of(cell);
    if (row->type == LLMGWI_CONFIG_USD) got = strtod(cell, &end);
    if (got < row->value || got > row->value) fail_msg("%s: %s, not %g", row->name, cell, row->value);
    if ((strstr(cell, "(-1)") != NULL) != row->off) fail_msg("%s: can it be off? %s", row->name, cell);
}

static void test_durables(void **state) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_config_durables); i++)
        expect_durable(&llmgwi_config_durables[i]);
}

/* What a gateway without a word about store and cache does is what the table says: the defaults are taken over. */
static void test_durables_taken(void **state) {
    llmgwi_config config;
    llmgw_options options;
    llmgw_error error;
    char cell[64];
    memset(&options, 0, sizeof options);
    memset(&error, 0, sizeof error);
    options.no_environment = true;
    options.config_json = "{}";
    if (!llmgwi_config_open(&config, &unit_mem, &options, &error)) fail_msg("%s", error.text);
    assert_true(cell_of(row_of("store.commit_ms"), 2, cell, sizeof cell));
    assert_int_equal(number_of(cell), config.options.store.commit_ms);
    assert_true(cell_of(row_of("cache.max_ask_bytes"), 2, cell, sizeof cell));
    assert_int_equal(number_of(cell), config.options.cache.max_ask_bytes);
    assert_true(config.options.cache.max_error.set && !config.options.cache.similarity.set);
    assert_null(config.options.store.path);
    assert_false(config.options.cache.on || config.options.cache.semantic ||
                 config.options.background_thread);
    llmgwi_config_close(&config);
}

static llmgwi_calibrate_rules rules_of(double max_error, bool strict) {
    llmgwi_calibrate_rules rules;
    memset(&rules, 0, sizeof rules);
    rules.max_error = max_error;
    rules.strict = strict;
    return rules;
}

/* The first request that may be answered when no nearest entry was ever wrong. */
static int64_t first_served(double max_error, bool strict) {
    llmgwi_calibrate_rules rules = rules_of(max_error, strict);
    llmgwi_calibrate_unit *unit = calloc(1, sizeof *unit);
    int64_t n = 0;
    assert_non_null(unit);
    do {
        llmgwi_calibrate_request(unit, &rules, 20);
        n++;
    } while (!llmgwi_calibrate_may_serve(unit, &rules, 20) && n < 100000);
    free(unit);
    return n;
}

/* The last request whose hit is checked for certain. */
static int64_t last_certain(double max_error, bool strict) {
    llmgwi_calibrate_rules rules = rules_of(max_error, strict);
    llmgwi_calibrate_unit *unit = calloc(1, sizeof *unit);
    int64_t n = 0;
    assert_non_null(unit);
    do {
        llmgwi_calibrate_request(unit, &rules, 20);
        n++;
    } while (llmgwi_calibrate_rate(unit, &rules) >= 1 && n < 100000);
    free(unit);
    return n - 1;
}

static void test_cold_start(void **state) {
    char want[256];
    snprintf(want, sizeof want,
             "with %" PRId64 " requests at 0.02 (%" PRId64 " at 0.01, %" PRId64 " at 0.05; strict %" PRId64
             ", %" PRId64 ", %" PRId64 ")",
             first_served(.02, false), first_served(.01, false), first_served(.05, false),
             first_served(.02, true), first_served(.01, true), first_served(.05, true));
    if (!strstr(flat, want)) fail_msg("the README does not say: %s", want);
    snprintf(want, sizeof want, "Up to %" PRId64 " requests (strict %" PRId64 ") all hits",
             last_certain(.02, false), last_certain(.02, true));
    if (!strstr(flat, want)) fail_msg("the README does not say: %s", want);
}

static void join(char *list, size_t size, bool wanted, const char *word) {
    size_t n = strlen(list);
    if (wanted) snprintf(list + n, size - n, "%s%s", n ? ", " : "", word);
}

static void expect_cell(const llmgwi_health_rule *rule, int cell, const char *want) {
    char got[512];
    (void)cell_of(row_of(llmgw_code_name(rule->code)), cell, got, sizeof got);
    if (strcmp(got, want) != 0) fail_msg("%s: %s, not %s", llmgw_code_name(rule->code), got, want);
}

static void test_failures(void **state) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_health_rules); i++) {
        const llmgwi_health_rule *rule = &llmgwi_health_rules[i];
        char then[128] = "";
        join(then, sizeof then, rule->what & LLMGWI_HEALTH_KEY, "another key");
        join(then, sizeof then, rule->what & LLMGWI_HEALTH_OTHER, "another target");
        join(then, sizeof then, rule->what & LLMGWI_HEALTH_SAME, "same after a pause");
        join(then, sizeof then, rule->what & LLMGWI_HEALTH_DEAD, "key left alone");
        join(then, sizeof then, rule->what & LLMGWI_HEALTH_SHRINK, "fewer at once");
        bool costs = rule->what & LLMGWI_HEALTH_COSTS || rule->code == LLMGW_E_NETWORK;
        expect_cell(rule, 3, rule->name);
        expect_cell(rule, 4, then);
        expect_cell(rule, 5, rule->what & LLMGWI_HEALTH_BREAKER ? "yes" : "no");
        expect_cell(rule, 6, costs ? "yes" : "no");
    }
}

static void test_sentences(void **state) {
    static const struct {
        const char *text;
        int64_t n[3];
    } rows[] = {
        {"starts with %" PRId64 ", saves up to %" PRId64 " and gets %" PRId64 " a second",
         {LLMGWI_HEALTH_BUDGET_START, LLMGWI_HEALTH_BUDGET_CAP, LLMGWI_HEALTH_BUDGET_PER_S}},
        {"in a row up to %" PRId64 " s", {LLMGWI_ENGINE_KEY_DEAD_MAX_US / 1000000, 0, 0}},
        {"| a list of keys instead of `key`, up to %" PRId64 ";", {LLMGWI_CONFIG_KEYS, 0, 0}},
        {"`provider/model`, up to %" PRId64 " |", {LLMGWI_CONFIG_ROUTE_TARGETS, 0, 0}},
        {"the median of at least %" PRId64 " attempts, and never below %" PRId64 " s",
         {LLMGWI_HEALTH_HISTOGRAM_FEW, LLMGWI_ENGINE_SLOW_US / 1000000, 0}},
        {"%" PRId64 " good probes in a row close it", {LLMGWI_HEALTH_BREAKER_PROBES, 0, 0}},
        {"less than %" PRId64 " \xC3\x97 `breaker_open_ms`", {LLMGWI_HEALTH_BREAKER_CALM, 0, 0}},
        {"A window has %" PRId64 " slots", {LLMGWI_HEALTH_WINDOW_SLOTS - 1, 0, 0}},
        {"no longer than %" PRId64 " s and are forgotten after %" PRId64 " s",
         {LLMGWI_HEALTH_BUCKET_WAIT_MAX_US / 1000000, LLMGWI_HEALTH_BUCKET_KNOWN_US / 1000000, 0}},
        {"looked at until %" PRId64 " cannot go", {LLMGWI_ENGINE_LOOK_PAST, 0, 0}},
        {"peak EWMA over %" PRId64 " s", {(int64_t)LLMGWI_HEALTH_EWMA_TAU_US / 1000000, 0, 0}},
        {"none until %" PRId64 " calls were timed", {LLMGWI_HEALTH_HISTOGRAM_FEW, 0, 0}},
        {"at most %" PRId64 " at once, only while the route is used", {LLMGWI_HTTP_WARM, 0, 0}},
        {"over %" PRId64 " s of an answer that has begun", {LLMGWI_ENGINE_RATE_US / 1000000, 0, 0}},
        {"a sentence of more than %" PRId64 " bytes ends at white space", {LLMGWI_TEXT_SENTENCE, 0, 0}},
        {"At most %" PRId64 " items, of which %" PRId64 " are kept for attempts",
         {LLMGWI_ENGINE_MAX_TRACE, LLMGWI_ENGINE_TRACE_SPARE, 0}},
        {"Such entries are kept for %" PRId64 " h more", {LLMGWI_CACHE_STALE_S / 3600, 0, 0}},
        {"up to its newest %" PRId64 ";", {LLMGWI_INDEX_SCAN, 0, 0}},
        {"or of more than %" PRId64 " bytes are never matched", {LLMGWI_TEXT_GUARD_LONG, 0, 0}},
        {"The %" PRId64 " nearest are asked", {LLMGWI_CALIBRATE_NEAR, 0, 0}},
        {"format, 2 to %" PRId64 " numbers each", {LLMGWI_INDEX_WORD_DIM, 0, 0}},
        {"strict with a credit of %" PRId64 " errors", {LLMGWI_CALIBRATE_CREDIT, 0, 0}},
        {"(%" PRId64 " names and scopes in a gateway", {LLMGWI_CACHE_UNITS, 0, 0}},
        {"its requests has reached %" PRId64 ".",
         {LLMGWI_CACHE_SCOPE_BEGINS + LLMGWI_CACHE_SCOPE_COUNTS, 0, 0}},
        {"at most %" PRId64 " at once, and cost money", {LLMGWI_ENGINE_JOBS, 0, 0}},
        {"while %" PRId64 " wait in a gateway, or %" PRId64 " in the store, nothing is served fuzzily",
         {LLMGWI_CACHE_SAMPLES, LLMGWI_CACHE_SAMPLES_ALL, 0}},
        {"is taken over after %" PRId64 " s", {LLMGWI_CACHE_LEASE_S, 0, 0}},
        {"all of them until %" PRId64 " were right", {LLMGWI_CACHE_ECHO_RIGHT, 0, 0}},
        {"one of the last %" PRId64 " fuzzy hits of this gateway", {LLMGWI_CACHE_SERVED, 0, 0}},
        {"at most %" PRId64 " writes and %" PRId64 " MiB wait",
         {LLMGWI_CACHE_OPS, (int64_t)(LLMGWI_CACHE_OPS_BYTES >> 20), 0}},
        {"of %" PRId64 " at random the quarter", {LLMGWI_CACHE_PICK, 0, 0}},
        {"writes pause for %" PRId64 " s and try again", {LLMGWI_STORE_PAUSE_US / 1000000, 0, 0}},
        {"share a transaction, %" PRId64 " at most", {LLMGWI_ENGINE_INTENTS, 0, 0}},
        {"tried again after %" PRId64 " ms, without", {LLMGWI_ENGINE_LEDGER_BUSY_US / 1000, 0, 0}},
        {"one that has it open, within %" PRId64 " s", {LLMGWI_LEDGER_LOOK_US / 1000000, 0, 0}},
        {"an environment of %" PRId64 " MiB", {LLMGWI_LEDGER_LIVE_BYTES >> 20, 0, 0}},
        {"the main one, up to %" PRId64 " in a transaction", {LLMGWI_LEDGER_GROUP, 0, 0}},
        {"more than %" PRId64 " MiB, 65,536 rows, or %" PRId64 " rates in one",
         {LLMGWI_PRICE_FILE >> 20, LLMGWI_PRICE_ENTRIES, 0}},
        {"or above %" PRId64 " USD a token", {LLMGWI_PRICE_MAX / 1000000000000000000, 0, 0}},
        {"an image %" PRId64 ", another file", {LLMGWI_DIALECT_IMAGE_TOKENS, 0, 0}},
        {"each its own limit, up to %" PRId64 " in all", {LLMGWI_CONFIG_BUDGETS * 3, 0, 0}},
        {"tags and keys beyond %" PRId64 " combinations", {LLMGWI_LEDGER_CELLS, 0, 0}},
        {"random bits, %" PRId64 " characters", {LLMGWI_AUTH_TEXT, 0, 0}},
        {"sums of hours for %" PRId64 " days", {LLMGWI_LEDGER_HOURS_S / LLMGWI_LEDGER_DAY_S, 0, 0}},
        {"the latest first, %" PRId64 " kinds", {LLMGWI_ENGINE_FAILURES, 0, 0}},
    };
    char want[256];
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        snprintf(want, sizeof want, rows[i].text, rows[i].n[0], rows[i].n[1], rows[i].n[2]);
        if (!strstr(flat, want)) fail_msg("the README does not say: %s", want);
    }
}

/* All fields of a list stand under this prefix in the first cell of a row. */
static void expect_fields(const llmgwi_config_field *fields, const char *prefix) {
    for (; fields->name; fields++) {
        char full[80], brief[80];
        snprintf(full, sizeof full, "\n| `%s.%s`", prefix, fields->name);
        snprintf(brief, sizeof brief, ", `.%s`", fields->name); /* "`models.N.provider`, `.model`" */
        bool named = strstr(readme, full) != NULL;
        for (const char *at = readme; !named && (at = strstr(at, prefix)) != NULL; at++) {
            const char *row = strstr(at, brief);
            named = row && row < at + strcspn(at, "|\n");
        }
        if (named == (fields->type == LLMGWI_CONFIG_LATER))
            fail_msg("%s.%s is %s", prefix, fields->name, named ? "named and not there" : "not named");
    }
}

static void test_fields(void **state) {
    expect_fields(llmgwi_config_capability_fields, "capabilities.N");
    expect_fields(llmgwi_config_provider_fields, "providers.N");
    expect_fields(llmgwi_config_model_fields, "models.N");
    expect_fields(llmgwi_config_route_fields, "routes.N");
    expect_fields(llmgwi_config_store_fields, "store");
    expect_fields(llmgwi_config_cache_fields, "cache");
    expect_fields(llmgwi_config_ledger_fields, "ledger");
    expect_fields(llmgwi_config_budget_fields, "budget");
}

/* The words of capabilities are those that the README has. */
static void test_capability_words(void **state) {
    const char *table = strstr(readme, "| `capabilities.N.like`");
    char word[40];
    assert_non_null(table);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_dialect_fields); i++)
        for (const char *p = llmgwi_dialect_fields[i].words; *p; p += strcspn(p, " "), p += *p == ' ') {
            snprintf(word, sizeof word, "`%.*s`", (int)strcspn(p, " "), p);
            if (*p < '0' || *p > '9')
                if (!strstr(table, word)) fail_msg("%s: %s", llmgwi_dialect_fields[i].name, word);
        }
}

/* The example is accepted, and what it leaves out has the defaults that the table says. */
static void test_example(void **state) {
    llmgwi_config config;
    llmgw_options options;
    llmgw_error error;
    char cell[64];
    char *json = strstr(readme, "```json\n");
    assert_non_null(json);
    json = strdup(json + strlen("```json\n"));
    *strstr(json, "```") = 0;
    memset(&options, 0, sizeof options);
    memset(&error, 0, sizeof error);
    options.config_json = json;
    options.no_environment = true;
    if (!llmgwi_config_open(&config, &unit_mem, &options, &error)) fail_msg("%s", error.text);
    const llmgwi_config_route *chat = llmgwi_config_route_find(&config, "chat");
    assert_non_null(chat);
    assert_true(cell_of(row_of("routes.N.hedge_percent"), 3, cell, sizeof cell));
    assert_int_equal(number_of(cell), chat->hedge_percent);
    assert_int_equal(chat->how, LLMGWI_CONFIG_FALLBACK);
    llmgwi_config_close(&config);
    free(json);
}

/* A later one of the examples in JSON, from 1, is accepted. */
static void open_example(int number, llmgwi_config *config) {
    llmgw_options options;
    llmgw_error error;
    char *json = readme;
    for (int i = 0; i < number; i++) {
        json = strstr(json + 1, "```json\n");
        assert_non_null(json);
    }
    json = strdup(json + strlen("```json\n"));
    *strstr(json, "```") = 0;
    memset(&options, 0, sizeof options);
    memset(&error, 0, sizeof error);
    options.config_json = json;
    options.no_environment = true;
    if (!llmgwi_config_open(config, &unit_mem, &options, &error)) fail_msg("%s", error.text);
    free(json);
}

static void test_cache_example(void **state) {
    llmgwi_config config;
    open_example(2, &config);
    assert_true(config.options.cache.on && config.options.cache.semantic);
    assert_non_null(config.options.store.path);
    llmgwi_config_close(&config);
}

/* Five limits, of all kinds of budgets. */
static void test_money_example(void **state) {
    llmgwi_config config;
    char kinds[8] = "";
    open_example(3, &config);
    assert_int_equal(config.budget_count, 5);
    for (size_t i = 0; i < config.budget_count; i++) kinds[i] = config.budgets[i].kind;
    assert_non_null(strchr(kinds, 'a'));
    assert_non_null(strchr(kinds, 'k'));
    assert_non_null(strchr(kinds, 't'));
    assert_non_null(strchr(kinds, 'r'));
    assert_int_equal(llmgwi_config_route_find(&config, "chat")->how, LLMGWI_CONFIG_CHEAPEST);
    llmgwi_config_close(&config);
}

/* Every item of the log has a row, with its level. */
static void test_log_items(void **state) {
#define ROW(name, level, text) {#name, level},
    static const struct {
        const char *name;
        int level;
    } items[] = {LLMGW_LOG_ITEMS(ROW)};
#undef ROW
    char row[64];
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(items); i++) {
        snprintf(row, sizeof row, "\n| %s | %d |", items[i].name, items[i].level);
        if (!strstr(readme, row)) fail_msg("the README has no row of the log item %s", items[i].name);
    }
}

/* Every metric is named: whole, by its ending after one of the same row, or as one of the cache's. */
static void test_metrics(void **state) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_report_fields); i++) {
        const llmgwi_report_field *field = &llmgwi_report_fields[i];
        if (field->kind < LLMGWI_REPORT_GAUGE || !strncmp(field->name, "llmgw_cache_", 12)) continue;
        char whole[128];
        bool named = false;
        snprintf(whole, sizeof whole, "`%s`", field->name);
        named = strstr(readme, whole) != NULL;
        for (const char *end = field->name; !named && (end = strchr(end + 1, '_')) != NULL;) {
            snprintf(whole, sizeof whole, "`%s`", end);
            named = strstr(readme, whole) != NULL;
        }
        if (!named) fail_msg("the README does not name the metric %s", field->name);
    }
}

/* All flags of request.cache have a row. */
static void test_flags(void **state) {
    static const char *const names[] = {"OFF",   "READ_ONLY", "WRITE_ONLY", "REFRESH",
                                        "EXACT", "FORCE",     "STALE"};
    char name[64];
    assert_int_equal(LLMGW_CACHE_STALE, 1u << (LLMGWI_BASE_COUNT(names) - 1));
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(names); i++) {
        snprintf(name, sizeof name, "LLMGW_CACHE_%s", names[i]);
        assert_non_null(row_of(name));
    }
}

/* ---- the table of providers ---- */

static const char *const feature_names[] = {
    "provider",  "chat",         "stream, cancel", "tools",         "images",     "schema",
    "reasoning", "tokens, cost", "cached tokens",  "prefix marked", "embeddings", "batches"};
enum { FEATURES = sizeof feature_names / sizeof *feature_names, SCRIPT_FIELDS = 10 };

/* A file's text; free it. NULL: there is no such file. */
static char *text_of(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    char *text = calloc(1, 256 << 10);
    assert_non_null(text);
    assert_true(fread(text, 1, (256 << 10) - 1, file) < (256 << 10) - 1);
    (void)fclose(file);
    return text;
}

/* The text of the test that a letter of the section stands for. */
static char *test_of(const char *section, char letter) {
    char mark[8], path[80];
    snprintf(mark, sizeof mark, "`%c` ", letter);
    const char *at = strstr(section, mark);
    at = at ? strstr(at, "](") : NULL;
    if (!at) fail_msg("nobody says what %c is", letter);
    snprintf(path, sizeof path, "%.*s", (int)strcspn(at + 2, ")"), at + 2);
    char *text = text_of(path);
    if (!text) fail_msg("%c: there is no %s", letter, path);
    return text;
}

/* Does a test say this word as a string, or as the start of one ("openai/gpt-4o", "openai:responses")? */
static bool says(const char *test, const char *word) {
    char quoted[80];
    static const char ends[] = "\"/:";
    for (const char *end = ends; *end; end++) {
        snprintf(quoted, sizeof quoted, "\"%s%c", word, *end);
        if (strstr(test, quoted)) return true;
    }
    snprintf(quoted, sizeof quoted, ":%s\"", word);
    return strstr(test, quoted) != NULL;
}

/* Rows of the script that speak a dialect (NULL: by the name alone) with a provider: how many there are, and how many
   do what their fields 4 (images) to 7 (cached tokens) may say why not. */
static int script_rows(const char *test, const char *name, const char *dialect, int field, int *doing) {
    char begin[120], value[16];
    int count = 0;
    snprintf(begin, sizeof begin, dialect ? "    {\"%s\", \"%s\"," : "    {\"%s\", NULL,", name, dialect);
    *doing = 0;
    for (const char *at = test; (at = strstr(at, begin)) != NULL; at++, count++) {
        const char *cell = at;
        for (int i = 0; i < field; i++) cell += strcspn(cell, ",") + 1;
        cell += strspn(cell, " \n");
        snprintf(value, sizeof value, "%.*s", (int)strcspn(cell, ",}"), cell);
        *doing += strcmp(value, "NULL") == 0;
    }
    return count;
}

/* One cell: "no", "-", or letters of tests that speak of the provider. */
static void expect_feature(const char *section, const char *script, const char *name, const char *dialect,
                           int feature, const char *cell) {
    static const int fields[FEATURES] = {0, 0, 0, 0, 4, 6, 5, 0, 7, 0, 0, 0};
    int doing, rows = script_rows(script, name, dialect, fields[feature], &doing);
    bool by_script = strchr(cell, 'S') != NULL, does = rows && (!fields[feature] || doing);
    if (!rows) fail_msg("%s: the script has no row of it", name);
    if (feature <= 8 && by_script != does)
        fail_msg("%s: %s: the script %s, the table says %s", name, feature_names[feature],
                 does ? "has it" : "has it not", cell);
    if (strcmp(cell, "no") == 0 || strcmp(cell, "-") == 0) return;
    for (; *cell; cell++) {
        char *test = test_of(section, *cell);
        if (!says(test, name) || (dialect && !says(test, dialect)))
            fail_msg("%s, %s: %c does not speak of it", name, feature_names[feature], *cell);
        free(test);
    }
}

/* All known providers have a row, whose cells the tests bear out. */
static void test_providers(void **state) {
    char cell[512], row[160], *script = text_of("tests/test_script.c");
    const char *section = strstr(readme, "\n### Providers\n");
    assert_true(section && script);
    const char *table = strstr(section, "\n| provider |") + 1;
    for (int i = 0; i < FEATURES; i++) {
        assert_true(cell_of(table, i + 1, cell, sizeof cell));
        assert_string_equal(cell, feature_names[i]);
    }
    const char *line = strstr(strstr(table, "\n|") + 1, "\n|"); /* past the line of dashes */
    for (; line && line[1] == '|'; line = strchr(line + 1, '\n')) {
        char name[64] = "", dialect[64] = "";
        assert_true(cell_of(line + 1, 1, cell, sizeof cell));
        int n = sscanf(cell, "`%63[^`]` as `%63[^`]`", name, dialect);
        if (n < 1 || !llmgwi_dialect_known_find(name, NULL)) fail_msg("no known provider: %s", cell);
        for (int i = 1; i < FEATURES; i++) {
            assert_true(cell_of(line + 1, i + 1, cell, sizeof cell));
            expect_feature(flat + (section - readme), script, name, n > 1 ? dialect : NULL, i, cell);
        }
    }
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_dialect_knowns); i++) {
        const llmgwi_dialect_known *known = &llmgwi_dialect_knowns[i];
        bool second = llmgwi_dialect_known_find(known->name, NULL) != known;
        snprintf(row, sizeof row, second ? "\n| `%s` as `%s` |" : "\n| `%s` |", known->name, known->dialect);
        if (!strstr(table, row)) fail_msg("the table of providers has no%s", row);
    }
    free(script);
}

/* The header's manual is as long as the README says, give or take a hundred lines. */
static void test_manual(void **state) {
    FILE *file = fopen("llmgw.h", "rb");
    const char *said = strstr(flat, "The first "), *rest = said ? strstr(said, " lines of the header") : NULL;
    char line[4096] = "";
    int64_t lines = 0;
    assert_true(file && rest);
    for (; !strstr(line, "#endif /* LLMGW_H */"); lines++) assert_non_null(fgets(line, sizeof line, file));
    (void)fclose(file);
    if (llabs(number_of(said + strlen("The first ")) - lines) > 100)
        fail_msg("%.40s: %" PRId64 " they are", said, lines);
}

/* A race that says nothing of its width. */
static void test_width(void **state) {
    llmgwi_config config;
    llmgw_options options;
    llmgw_error error;
    char cell[64];
    memset(&options, 0, sizeof options);
    memset(&error, 0, sizeof error);
    options.no_environment = true;
    options.config_json = unit_quoted("{'providers':{'ollama':{}},'routes':{'r':{'how':'race',"
                                      "'try':['ollama/a','ollama/b','ollama/c']}}}");
    if (!llmgwi_config_open(&config, &unit_mem, &options, &error)) fail_msg("%s", error.text);
    assert_true(cell_of(row_of("routes.N.width"), 3, cell, sizeof cell));
    assert_int_equal(number_of(cell), config.routes[0]->width);
    llmgwi_config_close(&config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),       cmocka_unit_test(test_durables),
        cmocka_unit_test(test_durables_taken), cmocka_unit_test(test_failures),
        cmocka_unit_test(test_sentences),      cmocka_unit_test(test_cold_start),
        cmocka_unit_test(test_fields),         cmocka_unit_test(test_capability_words),
        cmocka_unit_test(test_example),        cmocka_unit_test(test_cache_example),
        cmocka_unit_test(test_flags),          cmocka_unit_test(test_width),
        cmocka_unit_test(test_money_example),  cmocka_unit_test(test_log_items),
        cmocka_unit_test(test_metrics),        cmocka_unit_test(test_providers),
        cmocka_unit_test(test_manual),
    };
    return cmocka_run_group_tests(tests, read_readme, NULL);
}
