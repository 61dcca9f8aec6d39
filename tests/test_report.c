/* Reports: the sketch of times, sums that equal the replies' traces, Prometheus' text and JSON of everything, hostile
 * names in them, the log of failures. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"
#include "group.h"

#include <ctype.h>
#include <math.h>

static int reset(void **state) {
    provider_reset(&provider);
    return 0;
}

/* ---- the sketch ---- */

static uint64_t random_state = 88172645463325252u;

static double draw(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (double)(random_state >> 11) / 9007199254740992.0;
}

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static int64_t log_uniform(void) { return (int64_t)exp(draw() * log(3.6e9)); }
static int64_t uniform(void) { return 1 + (int64_t)(draw() * 3.6e9); }
static int64_t constant(void) { return 123457; }
static int64_t bimodal(void) {
    return draw() < 0.93 ? 1000 + (int64_t)(draw() * 100) : 60000000 + (int64_t)(draw() * 1e6);
}

#define DRAWN 20000

static void quantiles_are_within_a_hundredth(void **state) {
    static int64_t (*const from[])(void) = {log_uniform, uniform, constant, bimodal};
    static const double shares[] = {0, 0.001, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1};
    static int64_t values[DRAWN], us[COUNT_OF(shares)];
    static llmgwi_health_sketch sketch;
    for (size_t i = 0; i < COUNT_OF(from); i++)
        for (size_t n = 1; n <= DRAWN; n = n * 7 + (n < DRAWN && n * 7 > DRAWN ? DRAWN - n * 7 : 0)) {
            memset(&sketch, 0, sizeof sketch);
            uint64_t sum = 0;
            for (size_t j = 0; j < n; j++) {
                values[j] = from[i]();
                sum += (uint64_t)values[j];
                llmgwi_health_sketch_record(&sketch, values[j]);
            }
            qsort(values, n, sizeof *values, by_value);
            llmgwi_health_sketch_quantiles(&sketch, shares, us, COUNT_OF(shares));
            for (size_t q = 0; q < COUNT_OF(shares); q++) {
                double rank = ceil(shares[q] * (double)n);
                double truth = (double)values[rank < 1 ? 0 : (size_t)rank - 1];
                double error = fabs((double)us[q] - truth) / truth;
                if (error > 0.01)
                    fail_msg("data %zu, n %zu, q %g: %lld for %g", i, n, shares[q], (long long)us[q], truth);
            }
            assert_true(sketch.total == n && sketch.sum_us == sum);
            if (n == DRAWN) break;
        }
}

/* Bucket by bucket: rising, without a gap, and nowhere more than 1/128 off. */
static void every_time_has_its_bucket(void **state) {
    uint32_t last = 0;
    for (int64_t us = 1; us < ((int64_t)1 << 32); us += 1 + us / 1000) {
        uint32_t at = llmgwi_health_sketch_at(us);
        int64_t middle = llmgwi_health_sketch_middle(at);
        assert_true(at == last || at == last + 1 || us == 1);
        assert_true((middle > us ? middle - us : us - middle) * 128 <= us);
        last = at;
    }
    assert_int_equal(llmgwi_health_sketch_at(UINT32_MAX), LLMGWI_HEALTH_SKETCH_BUCKETS - 1);
    assert_int_equal(llmgwi_health_sketch_at(INT64_MAX), LLMGWI_HEALTH_SKETCH_BUCKETS - 1);
    assert_int_equal(llmgwi_health_sketch_at(0), 1);
    assert_int_equal(llmgwi_health_sketch_at(-5), 1);
}

static void a_full_sketch_is_halved(void **state) {
    static llmgwi_health_sketch sketch;
    const double half = 0.5;
    int64_t us;
    llmgwi_health_sketch_quantiles(&sketch, &half, &us, 1);
    assert_true(us == 0); /* nothing yet */
    for (int i = 0; i < 10; i++) llmgwi_health_sketch_record(&sketch, 50);
    llmgwi_health_sketch_record(&sketch, 1000000);
    sketch.counts[50] = UINT32_MAX;
    sketch.total += UINT32_MAX - 10;
    llmgwi_health_sketch_record(&sketch, 50);
    assert_int_equal(sketch.counts[50], UINT32_MAX / 2 + 1);
    assert_true(sketch.total ==
                (uint64_t)(UINT32_MAX / 2) + 1); /* of the one other, halved, nothing is left */
    llmgwi_health_sketch_quantiles(&sketch, &half, &us, 1);
    assert_true(us == 50);
}

static void buckets_are_counted_within_a_hundredth(void **state) {
    static llmgwi_health_sketch sketch;
    int64_t bounds[14], counts[14], low[14] = {0}, high[14] = {0};
    for (int i = 0; i < 14; i++) bounds[i] = 10000 << i;
    for (int i = 0; i < DRAWN; i++) {
        int64_t us = log_uniform();
        llmgwi_health_sketch_record(&sketch, us);
        for (int b = 0; b < 14; b++) {
            low[b] += us <= bounds[b] * 99 / 100;
            high[b] += us <= bounds[b] * 101 / 100;
        }
    }
    llmgwi_health_sketch_below(&sketch, bounds, counts, 14);
    for (int b = 0; b < 14; b++) assert_true(counts[b] >= low[b] && counts[b] <= high[b]);
}

static void decimals_are_exact(void **state) {
    static const struct {
        int64_t value;
        int places;
        const char *text;
    } cases[] = {{0, 0, "0"},
                 {0, 6, "0"},
                 {7, 0, "7"},
                 {1500000, 6, "1.5"},
                 {1000000, 6, "1"},
                 {1, 12, "0.000000000001"},
                 {-1234, 3, "-1.234"},
                 {-5, 6, "-0.000005"},
                 {INT64_MAX, 12, "9223372.036854775807"},
                 {INT64_MIN, 0, "-9223372036854775808"}};
    char out[32];
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_string_equal(llmgwi_report_decimal(cases[i].value, cases[i].places, out), cases[i].text);
}

/* ---- reading what was written ---- */

#define SERIES 60000

typedef struct Scrape {
    Text text;
    int64_t lines, most; /* most: stop after so many; 0: not */
    char **series;       /* "name{labels}", in their order */
    double *values;
    size_t count;
} Scrape;

static bool on_line(const char *line, size_t len, void *user) {
    Scrape *scrape = (Scrape *)user;
    assert_int_equal(strlen(line), len);
    assert_null(strchr(line, '\n'));
    (void)t_collect((char *)(uintptr_t)line, 1, len, &scrape->text);
    (void)t_collect((char *)(uintptr_t) "\n", 1, 1, &scrape->text);
    return ++scrape->lines != scrape->most;
}

/* A name of the format. Returns what follows it. */
static const char *skip_name(const char *p) {
    const char *start = p;
    while (isalnum((unsigned char)*p) || *p == '_') p++;
    assert_true(p > start && !isdigit((unsigned char)*start));
    return p;
}

/* Labels with their braces, in the strict form of the format. Returns what follows. */
static const char *skip_labels(const char *p) {
    if (*p != '{') return p;
    do {
        p = skip_name(p + 1);
        assert_true(*p++ == '=');
        assert_true(*p++ == '"');
        for (; *p != '"'; p++) {
            assert_true(*p != 0);
            if (*p == '\\' && !strchr("\\\"n", *++p)) fail_msg("a bad escape: %s", p - 1);
        }
    } while (*++p == ',');
    assert_true(*p == '}');
    return p + 1;
}

static void read_sample(Scrape *scrape, const char *line, const char *name, const char *type) {
    static const char *const suffixes[] = {"_bucket", "_count", "_sum"};
    const char *end = skip_name(line);
    size_t n = (size_t)(end - line);
    if (strcmp(type, "histogram") == 0) {
        bool known = false;
        for (size_t i = 0; i < COUNT_OF(suffixes); i++)
            known = known || (n == strlen(name) + strlen(suffixes[i]) &&
                              !strncmp(line + strlen(name), suffixes[i], strlen(suffixes[i])));
        assert_true(known);
        n = strlen(name);
    }
    if (n != strlen(name) || strncmp(line, name, n) != 0) fail_msg("'%s' stands under %s", line, name);
    end = skip_labels(end);
    assert_true(*end == ' ');
    char *rest;
    double value = strtod(end + 1, &rest);
    assert_true(*rest == 0 && rest > end + 1);
    assert_true(strcmp(type, "gauge") == 0 || value >= 0);
    assert_true(scrape->count < SERIES);
    scrape->series[scrape->count] = strndup(line, (size_t)(end - line));
    scrape->values[scrape->count++] = value;
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Every name has HELP and TYPE once, right before its samples; no series is there twice. */
static void read_all(Scrape *scrape) {
    char name[128] = "", type[16] = "", helped[128] = "";
    static char seen[16384];
    seen[0] = 0;
    char *text = strdup(scrape->text.p), *next = NULL;
    for (char *line = strtok_r(text, "\n", &next); line; line = strtok_r(NULL, "\n", &next)) {
        if (sscanf(line, "# HELP %127s", helped) == 1) {
            char mark[140];
            snprintf(mark, sizeof mark, "|%s|", helped);
            assert_null(strstr(seen, mark));
            assert_true(strlen(seen) + strlen(mark) < sizeof seen);
            strcat(seen, mark);
        } else if (sscanf(line, "# TYPE %127s %15s", name, type) == 2) {
            assert_string_equal(name, helped);
        } else {
            read_sample(scrape, line, name, type);
        }
    }
    free(text);
    char **sorted = (char **)malloc((scrape->count + 1) * sizeof *sorted);
    memcpy(sorted, scrape->series, scrape->count * sizeof *sorted);
    qsort(sorted, scrape->count, sizeof *sorted, by_text);
    for (size_t i = 1; i < scrape->count; i++)
        if (strcmp(sorted[i - 1], sorted[i]) == 0) fail_msg("twice: %s", sorted[i]);
    free(sorted);
}

static Scrape scrape_text(llmgw *gw) {
    Scrape scrape;
    memset(&scrape, 0, sizeof scrape);
    scrape.series = (char **)calloc(SERIES, sizeof *scrape.series);
    scrape.values = (double *)calloc(SERIES, sizeof *scrape.values);
    int64_t lines = llmgw_metrics(gw, LLMGW_METRICS_PROMETHEUS, on_line, &scrape);
    assert_int_equal(lines, scrape.lines);
    read_all(&scrape);
    return scrape;
}

static void scrape_free(Scrape *scrape) {
    for (size_t i = 0; i < scrape->count; i++) free(scrape->series[i]);
    free(scrape->series);
    free(scrape->values);
    free(scrape->text.p);
}

/* The sum over the series of a name whose labels hold a text; NAN: none. */
static double total(const Scrape *scrape, const char *name, const char *label) {
    double sum = NAN;
    size_t n = strlen(name);
    for (size_t i = 0; i < scrape->count; i++) {
        const char *series = scrape->series[i];
        if (strncmp(series, name, n) || (series[n] && series[n] != '{') || !strstr(series, label)) continue;
        sum = (isnan(sum) ? 0 : sum) + scrape->values[i];
    }
    return sum;
}

/* Prometheus' own judgement, lints included. */
static void promtool(const Scrape *scrape) {
    char path[] = "/tmp/llmgw-metrics-XXXXXX", command[128];
    if (system("command -v promtool >/dev/null 2>&1")) {
        print_message("promtool is not installed (Debian: prometheus): the text was not shown to it\n");
        return;
    }
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_true(write(fd, scrape->text.p, scrape->text.n) == (ssize_t)scrape->text.n);
    close(fd);
    snprintf(command, sizeof command, "promtool check metrics <%s >&2", path);
    int status = system(command);
    unlink(path);
    assert_int_equal(status, 0);
}

static json_t *scrape_json(llmgw *gw) {
    Scrape scrape;
    json_error_t why;
    memset(&scrape, 0, sizeof scrape);
    assert_int_equal(llmgw_metrics(gw, LLMGW_METRICS_JSON, on_line, &scrape), 1);
    json_t *json = json_loads(scrape.text.p, JSON_REJECT_DUPLICATES, &why);
    if (!json) fail_msg("not JSON: %s in %s", why.text, scrape.text.p);
    free(scrape.text.p);
    return json;
}

/* ---- calls ---- */

static const llmgw_price price = {{true, 1000}, {true, 2000}, {false, 0}, {false, 0}, {false, 0}};

/* Model "a" at openai and "b" at anthropic have a price, others none; "r" is both. */
static llmgw *open_gateway(llmgw_options options) {
    static const char *const names[] = {"a", "b"}, *const at[] = {"openai", "anthropic"};
    static llmgw_model models[2];
    static llmgw_route route;
    memset(models, 0, sizeof models);
    memset(&route, 0, sizeof route);
    for (int i = 0; i < 2; i++) {
        models[i].name = models[i].model = names[i];
        models[i].provider = at[i];
        models[i].price = price;
    }
    route.name = "r";
    route.targets = names;
    route.target_count = 2;
    options.models = models;
    options.model_count = 2;
    options.routes = &route;
    options.route_count = 1;
    return t_open(&provider, &options);
}

typedef struct Sums {
    int64_t calls, failed, attempts, failures, retries, input, output, unknown, pico, good, streams;
    int64_t good_us, first_us;
} Sums;

static void add_reply(Sums *sums, const llmgw_reply *reply, bool stream) {
    sums->calls++;
    sums->failed += reply->error.code != LLMGW_OK;
    for (size_t i = 0; i < reply->trace_count; i++) {
        const llmgw_trace *item = &reply->trace[i];
        if (item->kind != LLMGW_TRACE_ATTEMPT) continue;
        sums->attempts++;
        sums->retries += item->epoch > 1;
        sums->failures += item->code != LLMGW_OK;
        if (item->usage.known) sums->input += item->usage.input, sums->output += item->usage.output;
        if (item->cost.known)
            sums->pico += item->cost.pico_usd;
        else
            sums->unknown++;
        if (!item->code) sums->good++, sums->good_us += item->duration_us;
        if (stream && item->first_token_us) sums->streams++, sums->first_us += item->first_token_us;
    }
}

static void ask(llmgw *gw, const char *model, bool stream, Sums *sums) {
    llmgw_request request;
    memset(&request, 0, sizeof request);
    request.model = model;
    request.prompt = "Why is the sky blue?";
    request.stream = stream;
    request.temperature = llmgw_set(0); /* a cache, where there is one, takes it */
    llmgw_reply *reply = llmgw_chat(gw, &request);
    if (sums) add_reply(sums, reply, stream);
    llmgw_reply_free(reply);
}

static void check_sums(llmgw *gw, const Sums *sums) {
    llmgw_report_target targets[64];
    llmgw_report report;
    memset(&report, 0, sizeof report);
    report.targets = targets;
    report.target_room = COUNT_OF(targets);
    assert_int_equal(llmgw_report_fill(gw, &report), LLMGW_OK);
    assert_true(report.target_count <= COUNT_OF(targets));
    Sums got;
    memset(&got, 0, sizeof got);
    for (size_t i = 0; i < report.target_count; i++) {
        got.attempts += targets[i].attempts;
        got.failures += targets[i].failures;
        got.input += targets[i].input;
        got.output += targets[i].output;
        got.unknown += targets[i].unknown;
        got.pico += targets[i].cost.pico_usd;
        got.good += targets[i].whole.count;
        got.streams += targets[i].first_token.count;
        assert_true(targets[i].cost.known && targets[i].in_flight == 0);
    }
    got.calls = report.calls;
    got.failed = report.calls_failed;
    got.retries = report.retries;
    got.good_us = sums->good_us; /* not in the struct */
    got.first_us = sums->first_us;
    assert_memory_equal(&got, sums, sizeof got);
    assert_true(report.attempts == sums->attempts && report.unknown == sums->unknown);
    assert_true(report.cost.known && report.cost.pico_usd == sums->pico);
    assert_true(report.pending == 0 && report.waiting == 0 && report.hits == 0 && report.hedges == 0);
    assert_true(!report.cache.on && report.ledger_rows == -1 && report.ledger_lost == 0);
}

static void some_calls(llmgw *gw, Sums *sums) {
    provider_model_rule(&provider, "bad", "\"status\":500");
    provider_model_rule(&provider, "cut", "\"cut_after\":900,\"text_repeat\":10");
    for (int i = 0; i < 4; i++) {
        ask(gw, "a", false, sums);
        ask(gw, "b", true, sums);
        ask(gw, "gemini/unpriced", true, sums);
    }
    ask(gw, "openai/bad", false, sums);
    ask(gw, "openai/cut", true, sums);
    provider_model_rule(&provider, "a", "\"status\":503");
    ask(gw, "r", false, sums); /* goes on to b */
}

static void sums_are_those_of_the_traces(void **state) {
    llmgw_options options = t_calm();
    Sums sums;
    memset(&sums, 0, sizeof sums);
    options.max_attempts = 2;
    llmgw *gw = open_gateway(options);
    some_calls(gw, &sums);
    assert_true(sums.failures > 3 && sums.retries > 0 && sums.unknown > 3 && sums.pico > 0 &&
                sums.streams > 7);
    check_sums(gw, &sums);
    Scrape scrape = scrape_text(gw);
    assert_true(total(&scrape, "llmgw_calls_total", "") == (double)sums.calls);
    assert_true(total(&scrape, "llmgw_calls_failed_total", "") == (double)sums.failed);
    assert_true(total(&scrape, "llmgw_attempts_total", "") == (double)sums.attempts);
    assert_true(total(&scrape, "llmgw_attempts_failed_total", "") == (double)sums.failures);
    assert_true(total(&scrape, "llmgw_failures_total", "") == (double)sums.failures);
    assert_true(total(&scrape, "llmgw_unknown_costs_total", "") == (double)sums.unknown);
    assert_true(fabs(total(&scrape, "llmgw_cost_usd_total", "") * 1e12 - (double)sums.pico) < 1);
    assert_true(total(&scrape, "gen_ai_client_token_usage_sum", "\"input\"") == (double)sums.input);
    assert_true(total(&scrape, "gen_ai_client_token_usage_sum", "\"output\"") == (double)sums.output);
    assert_true(total(&scrape, "gen_ai_client_operation_duration_seconds_count", "") == (double)sums.good);
    assert_true(fabs(total(&scrape, "gen_ai_client_operation_duration_seconds_sum", "") * 1e6 -
                     (double)sums.good_us) < 1);
    assert_true(fabs(total(&scrape, "gen_ai_client_operation_time_to_first_chunk_seconds_sum", "") * 1e6 -
                     (double)sums.first_us) < 1);
    promtool(&scrape);
    scrape_free(&scrape);
    llmgw_close(gw);
}

/* Each bucket holds those of the ones before it, and the last all. */
static void check_histogram(const Scrape *scrape, const char *name) {
    char bucket[128];
    double last = 0;
    int buckets = 0, whole = 0;
    snprintf(bucket, sizeof bucket, "%s_bucket{", name);
    for (size_t i = 0; i < scrape->count; i++) {
        if (strncmp(scrape->series[i], bucket, strlen(bucket)) != 0) continue;
        assert_true(scrape->values[i] >= last);
        last = scrape->values[i];
        buckets++;
        if (!strstr(scrape->series[i], "le=\"+Inf\"")) continue;
        assert_int_equal(buckets, 15);
        assert_true(scrape->values[i + 1] == last && strstr(scrape->series[i + 1], "_count"));
        last = 0;
        buckets = 0;
        whole++;
    }
    assert_true(whole > 0 && buckets == 0);
}

static void histograms_and_words_are_opentelemetrys(void **state) {
    llmgw_options options = t_calm();
    Sums sums;
    memset(&sums, 0, sizeof sums);
    llmgw *gw = open_gateway(options);
    some_calls(gw, &sums);
    Scrape scrape = scrape_text(gw);
    check_histogram(&scrape, "gen_ai_client_operation_duration_seconds");
    check_histogram(&scrape, "gen_ai_client_operation_time_to_first_chunk_seconds");
    check_histogram(&scrape, "gen_ai_client_token_usage");
    assert_non_null(strstr(scrape.text.p, "le=\"0.01\"}"));
    assert_non_null(strstr(scrape.text.p, "le=\"81.92\"}"));
    assert_non_null(strstr(scrape.text.p, "le=\"67108864\"}"));
    char want[256];
    snprintf(want, sizeof want,
             "llmgw_attempts_total{gen_ai_operation_name=\"generate_content\",gen_ai_provider_name="
             "\"gcp.gemini\",gen_ai_request_model=\"unpriced\",server_address=\"127.0.0.1\",server_port="
             "\"%d\",llmgw_provider=\"gemini\"} 4\n",
             provider.port);
    assert_non_null(strstr(scrape.text.p, want));
    assert_true(total(&scrape, "llmgw_failures_total", "error_type=\"E_PROVIDER\"") > 0);
    assert_true(total(&scrape, "llmgw_failures_total", "http_response_status_code=\"503\"") > 0);
    assert_true(total(&scrape, "llmgw_operation_duration_seconds_quantile", "\"a\"") > 0);
    assert_true(isnan(total(&scrape, "llmgw_operation_duration_seconds_quantile", "\"bad\""))); /* not 0 */
    scrape_free(&scrape);
    llmgw_close(gw);
}

static void json_says_what_the_struct_says(void **state) {
    llmgw_options options = t_calm();
    Sums sums;
    llmgw_report_target targets[16];
    llmgw_report report;
    memset(&sums, 0, sizeof sums);
    memset(&report, 0, sizeof report);
    report.targets = targets;
    report.target_room = COUNT_OF(targets);
    llmgw *gw = open_gateway(options);
    some_calls(gw, &sums);
    assert_int_equal(llmgw_report_fill(gw, &report), LLMGW_OK);
    json_t *json = scrape_json(gw), *list = json_object_get(json, "targets");
    assert_int_equal(json_array_size(list), report.target_count);
    for (size_t i = 0; i < report.target_count; i++) {
        json_t *one = json_array_get(list, i);
        assert_string_equal(json_string_value(json_object_get(one, "model")), targets[i].model);
        assert_string_equal(json_string_value(json_object_get(one, "endpoint")), targets[i].endpoint);
        assert_string_equal(json_string_value(json_object_get(one, "breaker")), "closed");
        assert_int_equal(json_integer_value(json_object_get(one, "attempts")), targets[i].attempts);
        assert_int_equal(json_integer_value(json_object_get(one, "output")), targets[i].output);
        double p95 = json_number_value(json_object_get(one, "whole_p95_s"));
        assert_true(fabs(p95 * 1e6 - (double)targets[i].whole.p95_us) < 0.5);
        double usd = json_number_value(json_object_get(one, "cost_usd"));
        assert_true(fabs(usd * 1e12 - (double)targets[i].cost.pico_usd) < 0.5);
        assert_true(json_is_null(json_object_get(one, "tokens_per_s")) ==
                    (isnan(targets[i].tokens_per_s) != 0));
    }
    assert_int_equal(json_integer_value(json_object_get(json, "calls")), report.calls);
    assert_int_equal(json_integer_value(json_object_get(json, "ledger_rows")), -1);
    assert_null(json_object_get(json, "cache"));
    json_t *failure = json_array_get(json_object_get(json, "failures"), 0);
    assert_string_equal(json_string_value(json_object_get(failure, "error")), "E_OVERLOADED");
    json_decref(json);
    llmgw_close(gw);
}

/* 20 tokens in 10 steps of 20 ms: 100 tokens a second, less what the machine adds. */
static void speed_is_that_of_the_stream(void **state) {
    llmgw_options options = t_calm();
    llmgw_report_target targets[16];
    llmgw_report report;
    memset(&report, 0, sizeof report);
    report.targets = targets;
    report.target_room = COUNT_OF(targets);
    llmgw *gw = open_gateway(options);
    provider_model_rule(&provider, "a",
                        "\"chunk_ms\":20,\"text\":\"ten words \",\"text_repeat\":10,\"usage_output\":40");
    ask(gw, "a", true, NULL);
    ask(gw, "b", false, NULL); /* no stream: it has no speed */
    assert_int_equal(llmgw_report_fill(gw, &report), LLMGW_OK);
    for (size_t i = 0; i < report.target_count; i++) {
        const llmgw_report_target *target = &targets[i];
        if (strcmp(target->model, "a") != 0) {
            assert_true(isnan(target->tokens_per_s));
            continue;
        }
        double rest_s = (double)(target->whole.p50_us - target->first_token.p50_us) / 1e6;
        assert_true(rest_s > 0.03);
        double speed = (double)target->output / rest_s;
        assert_true(target->tokens_per_s > speed * 0.95 && target->tokens_per_s < speed * 1.05);
    }
    llmgw_close(gw);
}

/* ---- hostile names, many of them ---- */

static void hostile_names_stay_inside_their_quotes(void **state) {
    static const char *const models[] = {
        "openai/a\"} 1", "openai/back\\slash", "openai/{le=\"1\"}",        "gemini/x\xFF",
        "gemini/x%FF",   "gemini/x\xC3",       "gemini/\xC3\xA9t\xC3\xA9", "openai/# HELP x y"};
    llmgw *gw = open_gateway(t_calm());
    for (size_t i = 0; i < COUNT_OF(models); i++) ask(gw, models[i], false, NULL);
    Scrape scrape = scrape_text(gw);
    assert_true(total(&scrape, "llmgw_attempts_total", "model=\"a\\\"} 1\"") >= 1);
    assert_true(total(&scrape, "llmgw_attempts_total", "model=\"back\\\\slash\"") >= 1);
    assert_true(total(&scrape, "llmgw_attempts_total", "model=\"x%FF\"") >= 0);
    assert_true(total(&scrape, "llmgw_attempts_total", "model=\"x%25FF\"") >= 0);
    assert_true(total(&scrape, "llmgw_attempts_total", "model=\"\xC3\xA9t\xC3\xA9\"") >= 1);
    promtool(&scrape);
    scrape_free(&scrape);
    json_decref(scrape_json(gw));
    llmgw_close(gw);
}

static void names_are_capped(void **state) {
    llmgw_options options = t_calm();
    options.max_targets = 8;
    llmgw *gw = open_gateway(options);
    for (int i = 0; i < 30; i++) {
        char model[32];
        snprintf(model, sizeof model, "openai/m%d", i);
        ask(gw, model, false, NULL);
    }
    Scrape scrape = scrape_text(gw);
    size_t targets = 0;
    for (size_t i = 0; i < scrape.count; i++)
        targets += strncmp(scrape.series[i], "llmgw_attempts_total{", 21) == 0;
    assert_true(targets <= 8 + 3); /* and one of all others at each provider */
    assert_true(total(&scrape, "llmgw_attempts_total", "") == 30);
    assert_true(total(&scrape, "llmgw_attempts_total", "model=\"*\"") >= 22);
    scrape_free(&scrape);
    llmgw_close(gw);
}

static void addresses_are_taken_apart(void **state) {
    static const struct {
        const char *url, *address;
        int port;
    } cases[] = {{"https://api.openai.com/v1", "api.openai.com", 443},
                 {"http://127.0.0.1:8080/v1", "127.0.0.1", 8080},
                 {"http://[::1]:9/v1", "::1", 9},
                 {"https://[fe80::2]", "fe80::2", 443},
                 {"http://localhost", "localhost", 80}};
    llmgwi_report_row row;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        llmgwi_config_provider from;
        memset(&from, 0, sizeof from);
        from.url = cases[i].url;
        from.tls = strncmp(from.url, "https", 5) == 0;
        llmgwi_report_address(&from, &row);
        assert_string_equal(row.address, cases[i].address);
        assert_int_equal(row.port, cases[i].port);
    }
    assert_string_equal(llmgwi_report_system("mistral"), "mistral_ai");
    assert_string_equal(llmgwi_report_system("openai"), "openai");
}

/* ---- failures ---- */

static void failures_are_told_the_latest_first(void **state) {
    llmgw_failure failures[8];
    llmgw *gw = open_gateway(t_calm());
    provider_model_rule(&provider, "one", "\"status\":400");
    provider_model_rule(&provider, "two", "\"status\":404");
    int64_t before_s = (int64_t)time(NULL);
    ask(gw, "openai/one", false, NULL);
    ask(gw, "openai/two", false, NULL);
    ask(gw, "openai/one", false, NULL);
    assert_int_equal(llmgw_failures(gw, NULL, 0), 2);
    assert_int_equal(llmgw_failures(gw, failures, 8), 2);
    assert_string_equal(failures[0].model, "one");
    assert_string_equal(failures[0].provider, "openai");
    assert_true(failures[0].code == LLMGW_E_BAD_REQUEST && failures[0].http_status == 400);
    assert_int_equal(failures[0].count, 2);
    assert_true(failures[0].first_s >= before_s && failures[0].last_s >= failures[0].first_s);
    assert_true(failures[0].text[0] != 0);
    assert_string_equal(failures[1].model, "two");
    assert_true(failures[1].code == LLMGW_E_NOT_FOUND && failures[1].count == 1);
    assert_null(strstr(failures[1].text, OPENAI_KEY));
    llmgw_close(gw);
}

static void the_failure_that_was_not_seen_for_longest_goes(void **state) {
    static llmgw_failure failures[300];
    llmgw *gw = open_gateway(t_calm());
    llmgw_trace item;
    memset(&item, 0, sizeof item);
    item.code = LLMGW_E_PROVIDER;
    ask(gw, "a", false, NULL);
    for (int i = 0; i < 300; i++) {
        item.http_status = 1000 + i;
        llmgwi_engine_note_failure(gw, gw->targets[0], &item);
        item.http_status = 1000; /* seen again and again: it stays */
        llmgwi_engine_note_failure(gw, gw->targets[0], &item);
    }
    assert_int_equal(llmgw_failures(gw, failures, 300), 256);
    assert_int_equal(failures[0].http_status, 1000);
    assert_int_equal(failures[0].count, 301);
    for (int i = 1; i < 256; i++) {
        assert_int_equal(failures[i].http_status, 1300 - i);
        assert_int_equal(failures[i].count, 1);
    }
    llmgw_close(gw);
}

/* ---- who asks ---- */

static void misuse_is_told(void **state) {
    llmgw_report report;
    Scrape scrape;
    memset(&scrape, 0, sizeof scrape);
    assert_int_equal(llmgw_report_fill(NULL, &report), LLMGW_E_CLOSED);
    assert_int_equal(llmgw_metrics(NULL, LLMGW_METRICS_JSON, on_line, &scrape), -LLMGW_E_CLOSED);
    assert_int_equal(llmgw_failures(NULL, NULL, 0), 0);
    llmgw *gw = open_gateway(t_calm());
    assert_int_equal(llmgw_report_fill(gw, NULL), LLMGW_E_ARGUMENT);
    assert_int_equal(llmgw_metrics(gw, LLMGW_METRICS_JSON, NULL, NULL), -LLMGW_E_ARGUMENT);
    assert_int_equal(llmgw_metrics(gw, (llmgw_metrics_format)7, on_line, &scrape), -LLMGW_E_ARGUMENT);
    scrape.most = 5;
    assert_int_equal(llmgw_metrics(gw, LLMGW_METRICS_PROMETHEUS, on_line, &scrape), 5);
    free(scrape.text.p);
    pid_t child = fork();
    if (child == 0)
        _exit(llmgw_report_fill(gw, &report) == LLMGW_E_FORKED && !llmgw_failures(gw, NULL, 0) ? 0 : 1);
    int status = 1;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    llmgw_close(gw);
}

static void hits_and_limits_and_budgets_are_there(void **state) {
    char dir[] = "/tmp/llmgw-report-XXXXXX";
    llmgw_options options = t_calm();
    llmgw_report report;
    memset(&report, 0, sizeof report);
    assert_non_null(mkdtemp(dir));
    options.store.path = dir;
    options.budget.per_day_usd = llmgw_set(50); /* a call reserves some 8 */
    options.cache.on = true;
    llmgw *gw = open_gateway(options);
    for (int i = 0; i < 3; i++) ask(gw, "a", false, NULL);
    (void)llmgw_flush(gw);
    assert_int_equal(llmgw_report_fill(gw, &report), LLMGW_OK);
    assert_true(report.cache.on);
    assert_int_equal(report.ledger_rows, 1);
    assert_int_equal(report.calls, 3);
    assert_int_equal(report.hits, report.cache.exact_hits);
    assert_int_equal(report.attempts + report.hits, 3);
    assert_true(report.hits > 0);
    Scrape scrape = scrape_text(gw);
    assert_true(total(&scrape, "llmgw_cache_hits_total", "exact") == (double)report.hits);
    assert_true(total(&scrape, "llmgw_budget_limit_usd", "budget=\"budget\"") == 50);
    assert_true(total(&scrape, "llmgw_budget_spent_usd", "per=\"day\"") > 0);
    assert_true(total(&scrape, "llmgw_ledger_rows", "") == 1);
    promtool(&scrape);
    scrape_free(&scrape);
    json_t *json = scrape_json(gw);
    assert_true(json_is_true(json_object_get(json_object_get(json, "cache"), "on")));
    assert_int_equal(json_array_size(json_object_get(json, "budgets")), 1);
    json_decref(json);
    llmgw_close(gw);
    t_remove_tree(dir);
}

/* ---- many threads ---- */

typedef struct Worker {
    llmgw *gw;
    int calls;
    bool *stop;
    Sums sums;
    int64_t bad;
} Worker;

static void *work(void *arg) {
    static const char *const models[] = {"a", "b", "openai/bad", "gemini/unpriced"};
    Worker *worker = (Worker *)arg;
    for (int i = 0; i < worker->calls; i++) ask(worker->gw, models[i % 4], i % 3 == 0, &worker->sums);
    return NULL;
}

static bool only_counts(const char *line, size_t len, void *user) {
    return line[len] == 0 && ++*(int64_t *)user;
}

static void *watch(void *arg) {
    Worker *worker = (Worker *)arg;
    llmgw_report_target targets[8];
    llmgw_failure failures[4];
    int64_t last = 0;
    while (!__atomic_load_n(worker->stop, __ATOMIC_ACQUIRE)) {
        llmgw_report report;
        int64_t lines = 0;
        memset(&report, 0, sizeof report);
        report.targets = targets;
        report.target_room = COUNT_OF(targets);
        worker->bad += llmgw_report_fill(worker->gw, &report) != LLMGW_OK || report.calls < last;
        last = report.calls;
        worker->bad += llmgw_metrics(worker->gw, LLMGW_METRICS_PROMETHEUS, only_counts, &lines) != lines;
        worker->bad += llmgw_metrics(worker->gw, LLMGW_METRICS_JSON, only_counts, &lines) != 1;
        (void)llmgw_failures(worker->gw, failures, 4);
        worker->calls++;
    }
    return NULL;
}

static void many_threads_while_scraping(void **state) {
    llmgw_options options = t_calm();
    pthread_t threads[8], watchers[2];
    Worker workers[8], eyes[2];
    bool stop = false;
    Sums sums;
    memset(workers, 0, sizeof workers);
    memset(eyes, 0, sizeof eyes);
    memset(&sums, 0, sizeof sums);
    options.max_attempts = 2;
    llmgw *gw = open_gateway(options);
    provider_model_rule(&provider, "bad", "\"status\":500");
    for (int i = 0; i < 2; i++) {
        eyes[i].gw = gw;
        eyes[i].stop = &stop;
        pthread_create(&watchers[i], NULL, watch, &eyes[i]);
    }
    for (int i = 0; i < 8; i++) {
        workers[i].gw = gw;
        workers[i].calls = t_rounds(60);
        pthread_create(&threads[i], NULL, work, &workers[i]);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        const int64_t *from = &workers[i].sums.calls;
        for (size_t j = 0; j < sizeof sums / sizeof(int64_t); j++) (&sums.calls)[j] += from[j];
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
    for (int i = 0; i < 2; i++) {
        pthread_join(watchers[i], NULL);
        assert_true(eyes[i].bad == 0 && eyes[i].calls > 0);
    }
    check_sums(gw, &sums);
    llmgw_close(gw);
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_are_within_a_hundredth),
        cmocka_unit_test(every_time_has_its_bucket),
        cmocka_unit_test(a_full_sketch_is_halved),
        cmocka_unit_test(buckets_are_counted_within_a_hundredth),
        cmocka_unit_test(decimals_are_exact),
        cmocka_unit_test(addresses_are_taken_apart),
        TEST(sums_are_those_of_the_traces),
        TEST(histograms_and_words_are_opentelemetrys),
        TEST(json_says_what_the_struct_says),
        TEST(speed_is_that_of_the_stream),
        TEST(hostile_names_stay_inside_their_quotes),
        TEST(names_are_capped),
        TEST(failures_are_told_the_latest_first),
        TEST(the_failure_that_was_not_seen_for_longest_goes),
        TEST(misuse_is_told),
        TEST(hits_and_limits_and_budgets_are_there),
        TEST(many_threads_while_scraping),
    };
    return cmocka_run_group_tests_name("report", tests, group_start, group_stop);
}
