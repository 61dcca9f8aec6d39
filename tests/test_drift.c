/* test_drift.c - answers change while the cache serves them: the classes of changed answers are purged, steady ones
 * are not, and a model that names itself anew is asked again until it was right for a while. LLMGW_SOAK=1: longer. */
#include "cachecheck.h"
#include "asking.h"

#include <math.h>

static Provider provider;
static char dir[64];
static bool soak;

enum { WORDINGS = ASKING_MOST / ASKING_INTENTS, ANSWER_BYTES = 48 };

static int group_start(void **state) {
    (void)state;
    char path[80];
    soak = getenv("LLMGW_SOAK") != NULL;
    strcpy(dir, "/tmp/llmgw-drift-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    (void)snprintf(path, sizeof path, "%s/answers", dir);
    asking_oracle(path, ASKING_MOST, ANSWER_BYTES);
    const char *const more[] = {"--answers", path, NULL};
    provider_start(&provider, more);
    return 0;
}

static int group_stop(void **state) {
    (void)state;
    char line[80];
    provider_stop(&provider);
    (void)snprintf(line, sizeof line, "rm -rf %s", dir);
    return system(line);
}

static int before(void **state) {
    (void)state;
    char line[80];
    provider_reset(&provider);
    (void)snprintf(line, sizeof line, "rm -rf %s/store", dir);
    return system(line);
}

static llmgw *open_store(void) {
    char path[80];
    (void)snprintf(path, sizeof path, "%s/store", dir);
    llmgw_options options = t_calm();
    options.store.path = path;
    options.store.no_sync = true;
    options.store.commit_ms =
        LLMGW_OFF; /* thousands of calls a second: what is learned must not come too late */
    options.cache.on = options.cache.semantic = true;
    options.cache.max_error = llmgw_set(0.1);
    options.cache.revalidate_per_day = 1000000;
    return t_open(&provider, &options);
}

/* What was asked and heard of each intent, since it was cleared. */
typedef struct drift {
    int next[ASKING_INTENTS]; /* the wording that comes next; never twice the same */
    int hits[ASKING_INTENTS], stale[ASKING_INTENTS], sampled[ASKING_INTENTS];
    int asked, all_hits, astray;
    char truth[ASKING_INTENTS][64], old[ASKING_INTENTS][64]; /* old "": it has not changed */
    uint64_t stale_class[ASKING_MOST]; /* by question: whose old answer it was given; 0: it was not */
} drift;

static void drift_begin(drift *d) {
    memset(d, 0, sizeof *d);
    for (size_t k = 0; k < ASKING_INTENTS; k++) asking_answer(k, d->truth[k], ANSWER_BYTES);
}

/* Of an entry; 0: it is gone. */
static uint64_t class_of(llmgw *gw, uint64_t entry) {
    llmgwi_store_txn txn;
    llmgwi_cache_where where;
    llmgwi_cache_record record;
    llmgwi_base_str value;
    uint64_t answer_class = 0;
    assert_true(llmgwi_store_read(gw->store, &txn));
    if (llmgwi_cache_where_of(&txn, entry, &where) &&
        llmgwi_store_get(&txn, LLMGWI_STORE_ENTRY, llmgwi_base_view((const char *)where.key, 16), &value) &&
        llmgwi_cache_record_read(value, &record))
        answer_class = record.head.answer_class;
    (void)llmgwi_store_end(&txn, false);
    return answer_class;
}

static llmgw_verdict drift_ask(llmgw *gw, drift *d, size_t intent, unsigned flags) {
    char question[160];
    size_t i = intent + ASKING_INTENTS * (size_t)(d->next[intent]++ * 7 % WORDINGS);
    llmgw_request request;
    memset(&request, 0, sizeof request);
    asking_question(i, question, sizeof question);
    request.model = "openai/m";
    request.prompt = question;
    request.cache = flags;
    llmgw_reply *reply = llmgw_chat(gw, &request);
    llmgw_verdict verdict = reply->cached.verdict;
    t_expect_code(reply, LLMGW_OK);
    bool hit = verdict == LLMGW_VERDICT_SEMANTIC, stale = hit && strcmp(reply->text, d->old[intent]) == 0;
    d->asked++;
    d->all_hits += hit;
    d->hits[intent] += hit;
    d->stale[intent] += stale;
    d->stale_class[i] = stale ? class_of(gw, reply->cached.entry) : 0;
    d->astray += hit && !stale && strcmp(reply->text, d->truth[intent]) != 0;
    llmgw_reply_free(reply);
    return verdict;
}

static void warm(llmgw *gw, drift *d, int each) {
    for (int n = 0; n < each; n++)
        for (size_t k = 0; k < ASKING_INTENTS; k++)
            (void)drift_ask(gw, d, (k * 7 + (size_t)n) % ASKING_INTENTS, 0);
    assert_int_equal(llmgw_drain(gw, 10000), LLMGW_OK);
}

static llmgw_cache_numbers numbers_of(llmgw *gw) {
    llmgw_cache_numbers numbers;
    assert_int_equal(llmgw_cache_stats(gw, NULL, &numbers), LLMGW_OK);
    return numbers;
}

/* A share of the provider's answers is another from now on. Returns how many. */
static int change(drift *d, const char *control) {
    const char *old;
    json_t *to;
    int changed = 0;
    char *text = provider_http(&provider, "POST", "/_control", control);
    json_t *answer = json_loads(text ? text : "", 0, NULL);
    assert_non_null(answer);
    json_object_foreach(json_object_get(answer, "changed"), old, to) {
        for (size_t k = 0; k < ASKING_INTENTS; k++) {
            if (strcmp(d->truth[k], old)) continue;
            strcpy(d->old[k], old);
            assert_true(json_string_length(to) < sizeof d->truth[k]);
            strcpy(d->truth[k], json_string_value(to));
            changed++;
        }
    }
    json_decref(answer);
    free(text);
    return changed;
}

/* What became of one class of answers that have changed. */
typedef struct fate {
    uint64_t answer_class;
    int stale, sampled;
} fate;

enum { FATES = 512 };

static fate *fate_of(fate *fates, size_t *count, uint64_t answer_class) {
    for (size_t i = 0; i < *count; i++)
        if (fates[i].answer_class == answer_class) return &fates[i];
    assert_true(*count < FATES);
    fates[*count].answer_class = answer_class;
    return &fates[(*count)++];
}

/* A question is asked once by the test; served stale and yet known to the provider, it was a sample. */
static size_t fates_of(drift *d, fate *fates) {
    char question[160];
    size_t count = 0;
    char *text = provider_http(&provider, "GET", "/_asked", NULL);
    json_t *asked = json_loads(text ? text : "", 0, NULL);
    assert_non_null(asked);
    memset(fates, 0, FATES * sizeof *fates);
    for (size_t i = 0; i < ASKING_MOST; i++) {
        if (!d->stale_class[i]) continue;
        fate *f = fate_of(fates, &count, d->stale_class[i]);
        asking_question(i, question, sizeof question);
        f->stale++;
        f->sampled += json_integer_value(json_object_get(asked, question)) > 0;
    }
    json_decref(asked);
    free(text);
    return count;
}

static bool is_purged(llmgw *gw, uint64_t answer_class) {
    llmgwi_store_txn txn;
    llmgwi_cache_class cls;
    assert_true(llmgwi_store_read(gw->store, &txn));
    bool there = llmgwi_cache_class_of(&txn, answer_class, &cls) && !cls.dead;
    (void)llmgwi_store_end(&txn, false);
    return !there;
}

typedef struct changes { /* summed over rounds */
    int judged, purged;
} changes;

static void changed_once(int seed, changes *sum) {
    char control[80];
    drift *d = (drift *)malloc(sizeof *d);
    assert_non_null(d);
    drift_begin(d);
    llmgw *gw = open_store();
    warm(gw, d, soak ? 60 : 20);
    (void)snprintf(control, sizeof control, "{\"oracle\":{\"seed\":%d,\"change\":0.05}}", seed);
    llmgw_cache_numbers then = numbers_of(gw);
    int hits = d->all_hits, count = change(d, control), each = soak ? 800 : 120;
    assert_int_equal(count, 3);
    assert_int_equal(then.purges, 0);
    memset(d->hits, 0, sizeof d->hits);
    for (int n = 0; n < each; n++) {
        for (size_t k = 0; k < ASKING_INTENTS; k++)
            if (d->old[k][0]) (void)drift_ask(gw, d, k, LLMGW_CACHE_READ_ONLY);
        assert_int_equal(llmgw_drain(gw, 1000), LLMGW_OK);
        for (int other = 0; other < 3; other++) {
            size_t k = (size_t)(n * 3 + other) * 7 % ASKING_INTENTS;
            if (!d->old[k][0]) (void)drift_ask(gw, d, k, 0);
        }
    }
    assert_int_equal(llmgw_drain(gw, 10000), LLMGW_OK);
    llmgw_cache_numbers now = numbers_of(gw);
    fate fates[FATES];
    size_t classes = fates_of(d, fates);
    int judged = 0, purged = 0, stale = 0, samples = 0, most = soak ? 60 : 20, worst = 0;
    for (size_t i = 0; i < classes; i++) {
        bool gone = is_purged(gw, fates[i].answer_class);
        stale += fates[i].stale;
        samples += fates[i].sampled;
        purged += gone;
        judged += gone || fates[i].sampled >= most;
        if (gone && fates[i].sampled > worst) worst = fates[i].sampled;
    }
    print_message(
        "%d hits, %lld revalidations until %d answers of %zu classes changed; then %d asked of them, %d "
        "stale "
        "served, %d of them sampled; %d classes purged, after %d samples at most, of %d that had %d or were "
        "purged; %lld purges in all; %d astray of all\n",
        hits, (long long)then.revalidations, count, classes, each * 3, stale, samples, purged, worst, judged,
        most, (long long)now.purges, d->astray);
    sum->judged += judged;
    sum->purged += purged;
    assert_true(stale > 0);
    assert_true(now.purges >= purged && now.purges <= purged + 1); /* hardly another */
    (void)cachecheck(gw->store);
    llmgw_close(gw);
    free(d);
}

static void test_changed(void **state) {
    changes sum = {0, 0};
    /* short: until a class had samples enough; the coins are real */
    for (int seed = 1; seed <= 12 && (soak || seed <= 2 || !sum.judged); seed++) {
        assert_int_equal(before(state), 0);
        changed_once(seed, &sum);
    }
    print_message("%d of %d classes with enough samples were purged\n", sum.purged, sum.judged);
    assert_true(sum.judged > 0);
    assert_true(sum.purged * 100 >= sum.judged * 95);
}

/* A new echo: each hit on answers of before is asked again until enough were right. */
static void test_echo(void **state) {
    (void)state;
    drift *d = (drift *)malloc(sizeof *d);
    assert_non_null(d);
    drift_begin(d);
    llmgw *gw = open_store();
    warm(gw, d, soak ? 60 : 25);
    int64_t share[4] = {0, 0, 0, 0}, of[4] = {0, 0, 0, 0};
    for (int part = 0; part < 3; part++) { /* before, at once after, later */
        int64_t was = numbers_of(gw).revalidations;
        int hits = d->all_hits, until = part == 1 ? LLMGWI_CACHE_ECHO_RIGHT : 150;
        if (part == 1) {
            provider_rule(&provider, "{\"model\":\"m\",\"model_echo\":\"m-2031\"}");
            (void)drift_ask(gw, d, 0, LLMGW_CACHE_EXACT); /* who tells of the new name */
            llmgw_close(gw);
            gw = open_store(); /* it is remembered */
        }
        for (size_t k = 0; d->all_hits - hits < until && k < 2000; k++) {
            (void)drift_ask(gw, d, k * 7 % ASKING_INTENTS, LLMGW_CACHE_READ_ONLY);
            if (part == 1) assert_int_equal(llmgw_drain(gw, 5000), LLMGW_OK);
        }
        assert_int_equal(llmgw_drain(gw, 5000), LLMGW_OK);
        of[part] = d->all_hits - hits;
        share[part] = numbers_of(gw).revalidations - was;
    }
    print_message("revalidated: %lld of %lld hits before, %lld of %lld at once after the model had another "
                  "name, %lld of "
                  "%lld later\n",
                  (long long)share[0], (long long)of[0], (long long)share[1], (long long)of[1],
                  (long long)share[2], (long long)of[2]);
    assert_int_equal(of[0], 150);
    assert_true(share[0] * 2 < of[0]);
    assert_int_equal(of[1], LLMGWI_CACHE_ECHO_RIGHT);
    assert_int_equal(share[1], of[1]);
    assert_true(share[2] * 2 < of[2]);
    llmgw_close(gw);
    free(d);
}

/* The first that a process hears is the answer to a sample that another has left behind: what the store knows of the
   model counts. */
static void test_echo_of_a_sample(void **state) {
    (void)state;
    drift *d = (drift *)malloc(sizeof *d);
    llmgwi_cache_sample sample;
    llmgwi_cache_answer fresh;
    assert_non_null(d);
    drift_begin(d);
    llmgw *gw = open_store();
    assert_int_equal(drift_ask(gw, d, 0, 0), LLMGW_VERDICT_MISS);
    llmgw_close(gw);
    gw = open_store();
    memset(&sample, 0, sizeof sample);
    memset(&fresh, 0, sizeof fresh);
    fresh.provider = llmgwi_base_cstr("openai");
    fresh.model = llmgwi_base_cstr("m");
    fresh.model_echo = llmgwi_base_cstr("m-2031");
    llmgwi_cache_sample_paid(gw->cache, &sample, &fresh);
    assert_true(gw->cache->echoes[0].who != 0);
    assert_int_equal(gw->cache->echoes[0].right, 0);
    llmgw_close(gw);
    free(d);
}

/* ---- steady answers are left alone ---- */

static double draw(uint64_t *random) {
    return (double)(llmgwi_base_mix(*random += LLMGWI_BASE_STEP) >> 11) / 9007199254740992.0; /* 2^53 */
}

/* Hits over classes, and which of them are wrong. */
typedef struct traffic {
    const char *name;
    int classes;
    bool zipf;        /* the k-th class has 1/k of the first one's hits; else all alike */
    double all, each; /* the share of wrong hits; and in the classes that have any */
} traffic;

enum { STEADY_CLASSES = 5000, STEADY_HITS = 100000 };

typedef struct steady {
    llmgwi_calibrate_class cls[STEADY_CLASSES];
    double upto[STEADY_CLASSES], wrong[STEADY_CLASSES]; /* share of the hits up to this class; of its own */
} steady;

/* Classes are made wrong, rare ones first, until all that are wrong are had. */
static void steady_begin(steady *s, const traffic *t) {
    double all = 0, left = t->all;
    memset(s, 0, sizeof *s);
    for (int k = 0; k < t->classes; k++) s->upto[k] = all += t->zipf ? 1. / (k + 1) : 1;
    for (int k = t->classes - 1; k >= 0; k--) {
        double share = (s->upto[k] - (k ? s->upto[k - 1] : 0)) / all;
        s->wrong[k] = left < share * t->each ? left / share : t->each;
        left -= s->wrong[k] * share;
    }
    for (int k = 0; k < t->classes; k++) s->upto[k] /= all;
    assert_true(left < 1e-6);
}

static int steady_draw(const steady *s, const traffic *t, uint64_t *seed) {
    double at = draw(seed);
    int low = 0, high = t->classes - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (s->upto[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* 100,000 hits, sampled at a rate: how many alarms, of classes that never changed. */
static int alarms_of(steady *s, const traffic *t, double rate, uint64_t seed, int64_t *samples) {
    int alarms = 0;
    steady_begin(s, t);
    for (int i = 0; i < STEADY_HITS; i++) {
        int k = steady_draw(s, t, &seed);
        if (!llmgwi_calibrate_alarmed(&s->cls[k]) && draw(&seed) >= rate) continue;
        ++*samples;
        alarms += llmgwi_calibrate_drift(&s->cls[k], draw(&seed) < s->wrong[k]);
    }
    return alarms;
}

/* At most 3 in each of hundreds of runs. */
static void test_steady(void **state) {
    (void)state;
    static const double rates[] = {.02, .05, .1, .3, 1};
    static const traffic shapes[] = {
        {"one class", 1, false, .03, .03},       {"one class, 10 % wrong", 1, false, .1, .1},
        {"few classes", 5, false, .03, .03},     {"few classes, 10 % wrong in some", 5, false, .03, .1},
        {"many classes", 5000, false, .03, .03}, {"many classes, 10 % wrong in some", 5000, false, .03, .1},
        {"Zipf", 1000, true, .03, .03},          {"Zipf, 10 % wrong in the rare ones", 1000, true, .03, .1}};
    int runs = soak ? 500 : 5, worst = 0;
    steady *s = (steady *)malloc(sizeof *s);
    assert_non_null(s);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        int sum = 0, most = 0, n = 0;
        double extra = 0;
        for (size_t r = 0; r < sizeof rates / sizeof rates[0]; r++) {
            int64_t samples = 0;
            for (int seed = 1; seed <= runs; seed++, n++) {
                int alarms = alarms_of(s, &shapes[i], rates[r], (uint64_t)seed * 1000 + r, &samples);
                sum += alarms;
                most = alarms > most ? alarms : most;
            }
            double more = (double)samples / (runs * rates[r] * STEADY_HITS) - 1;
            extra = more > extra ? more : extra;
        }
        print_message(
            "steady, %s: %d alarms in %d times 100,000 hits, at most %d; at most %.1f %% more samples\n",
            shapes[i].name, sum, n, most, 100 * extra);
        worst = most > worst ? most : worst;
        assert_true(extra < (shapes[i].all > .05 ? .35 : .12));
    }
    free(s);
    assert_true(worst <= 3);
}

/* The same through everything, long: the provider is wrong in 3 of 100. */
static void test_steady_calls(void **state) {
    (void)state;
    int hits = soak ? 100000 : 2500;
    drift *d = (drift *)malloc(sizeof *d);
    assert_non_null(d);
    drift_begin(d);
    llmgw *gw = open_store();
    warm(gw, d, 20);
    provider_rule(&provider, "{\"oracle\":{\"noise\":0.03}}");
    d->all_hits = d->astray = 0;
    for (size_t k = 0; d->all_hits < hits && k < (size_t)hits * 4; k++)
        (void)drift_ask(gw, d, k * 7 % ASKING_INTENTS, 0);
    assert_int_equal(llmgw_drain(gw, 10000), LLMGW_OK);
    llmgw_cache_numbers numbers = numbers_of(gw);
    print_message("steady calls: %d hits, %lld revalidated, %lld of them wrong, %lld purges\n", d->all_hits,
                  (long long)numbers.revalidations, (long long)numbers.revalidated_wrong,
                  (long long)numbers.purges);
    assert_true(d->all_hits >= hits && numbers.revalidated_wrong > 0);
    assert_true(numbers.purges <= 3);
    (void)cachecheck(gw->store);
    llmgw_close(gw);
    free(d);
}

#define TEST(name) cmocka_unit_test_setup(name, before)

int main(void) {
    const struct CMUnitTest tests[] = {TEST(test_changed), TEST(test_echo), TEST(test_echo_of_a_sample),
                                       TEST(test_steady), TEST(test_steady_calls)};
    if (getenv("ONE")) cmocka_set_test_filter(getenv("ONE"));
    return cmocka_run_group_tests(tests, group_start, group_stop);
}
