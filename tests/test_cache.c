/* The cache's core: entries, both tiers, evidence, duties; over real LMDB files. */
#define LLMGWI_STORE_FAULTS
#include "cachecheck.h"
#include "faults.h"

#include <sys/stat.h>
#include <sys/wait.h>

/* ---- a world: a directory, a store, a cache, a clock ---- */

typedef struct world {
    char dir[64];
    llmgw_store desc;
    llmgw_cache options;
    llmgwi_base_clock clock;
    int64_t now_us, wall_s;
    uint64_t seed;
    llmgwi_store *store;
    llmgwi_cache *cache;
    llmgwi_base_arena arena;
} world;

static int64_t world_now(void *user) { return ((world *)user)->now_us; }
static int64_t world_wall(void *user) { return ((world *)user)->wall_s; }
static uint64_t world_random(void *user) {
    return llmgwi_base_mix(((world *)user)->seed += LLMGWI_BASE_STEP);
}

static void world_open(world *w) {
    llmgw_error error;
    w->store = llmgwi_store_open(&unit_mem, &w->desc, &error);
    if (!w->store) fail_msg("%s", error.text);
    w->cache = llmgwi_cache_open(&unit_mem, &w->clock, w->store, &w->options, 50000);
    assert_non_null(w->cache);
}

static void world_shut(world *w) {
    llmgwi_cache_close(w->cache, false);
    llmgwi_store_close(w->store, false);
    w->cache = NULL;
    w->store = NULL;
}

static void world_begin(world *w) {
    memset(w, 0, sizeof *w);
    strcpy(w->dir, "/tmp/llmgw_cache_XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    w->desc.path = w->dir;
    w->desc.max_bytes = (int64_t)64 << 20;
    w->desc.no_sync = true;
#ifdef CACHE_KEY
    w->desc.key = CACHE_KEY; /* tests/test_cache_sealed.c */
#endif
    w->options.on = true;
    w->options.ttl_s = 604800;
    w->options.semantic = true;
    w->options.max_error = llmgw_set(.05);
    w->options.revalidate_usd_per_day = llmgw_set(1);
    w->options.revalidate_per_day = 10000;
    w->options.max_entry_bytes = (size_t)1 << 20;
    w->options.max_ask_bytes = 2000;
    w->wall_s = 1800000000;
    w->now_us = 1000000;
    w->clock.now_us = world_now;
    w->clock.wall_s = world_wall;
    w->clock.random = world_random;
    w->clock.user = w;
    llmgwi_base_arena_init(&w->arena, &unit_mem);
    world_open(w);
}

static void world_end(world *w) {
    char line[128];
    if (w->cache) {
        cachecheck(w->store);
        world_shut(w);
    }
    llmgwi_base_arena_free(&w->arena);
    snprintf(line, sizeof line, "rm -rf %s", w->dir);
    assert_int_equal(system(line), 0);
}

/* Time passes, and a group is committed. */
static void world_turn(world *w) {
    w->now_us += 60000;
    (void)llmgwi_cache_duty(w->cache, 1000000, false);
}

static void world_flush(world *w) { (void)llmgwi_cache_duty(w->cache, 1000000, true); }

/* ---- requests ---- */

static llmgwi_cache_answer answer_of(const char *text) {
    llmgwi_cache_answer answer;
    memset(&answer, 0, sizeof answer);
    answer.text = llmgwi_base_cstr(text);
    answer.reasoning = llmgwi_base_cstr("");
    answer.provider = llmgwi_base_cstr("openai");
    answer.model = llmgwi_base_cstr("gpt-4o-mini");
    answer.model_echo = llmgwi_base_cstr("gpt-4o-mini-2024");
    answer.id = llmgwi_base_cstr("chat-1");
    answer.usage.known = true;
    answer.usage.input = 11;
    answer.usage.output = 7;
    answer.usage.reasoning = 3;
    answer.cost.known = true;
    answer.cost.pico_usd = 5000000;
    answer.elapsed_us = 700000;
    return answer;
}

/* Begins a look; end it with llmgwi_cache_look_free. */
static void look_begin(world *w, llmgwi_cache_look *look, const llmgw_request *request) {
    memset(look, 0, sizeof *look);
    assert_true(llmgwi_cache_look_init(w->cache, look, request, request->model, 0));
    assert_non_null(look->cached.reason);
}

static bool exact(world *w, const llmgw_request *request, llmgwi_cache_answer *answer) {
    llmgwi_cache_look look;
    look_begin(w, &look, request);
    bool hit = llmgwi_cache_exact(w->cache, &look, &w->arena, answer);
    if (hit) assert_int_equal(look.cached.verdict, LLMGW_VERDICT_EXACT);
    llmgwi_cache_look_free(w->cache, &look);
    return hit;
}

/* The reason why it is not served exactly. */
static const char *missed(world *w, const llmgw_request *request) {
    llmgwi_cache_answer answer;
    llmgwi_cache_look look;
    look_begin(w, &look, request);
    assert_false(llmgwi_cache_exact(w->cache, &look, &w->arena, &answer));
    const char *reason = look.cached.reason;
    llmgwi_cache_look_free(w->cache, &look);
    return reason;
}

/* As the engine does for a miss without a fuzzy hit. */
static uint64_t put(world *w, const llmgw_request *request, const char *text) {
    llmgwi_cache_answer answer = answer_of(text);
    llmgwi_cache_look look;
    look_begin(w, &look, request);
    llmgwi_cache_exact(w->cache, &look, &w->arena, &answer);
    answer = answer_of(text);
    uint64_t entry = llmgwi_cache_put(w->cache, &look, &answer);
    llmgwi_cache_look_free(w->cache, &look);
    return entry;
}

static void is_text(llmgwi_base_str view, const char *want) {
    assert_int_equal(view.n, strlen(want));
    assert_memory_equal(view.p, want, view.n);
    assert_int_equal(view.p[view.n], 0);
}

/* ---- exact tier ---- */

static void test_exact(void **state) {
    (void)state;
    world w;
    world_begin(&w);
    llmgwi_cache_answer answer;
    llmgw_request why = unit_ask("Why is the sky blue?"), other = unit_ask("Why is the sky blue");
    assert_false(exact(&w, &why, &answer));
    uint64_t entry = put(&w, &why, "Rayleigh.");
    assert_true(entry > 0);
    assert_true(exact(&w, &why, &answer)); /* it waits for its commit, and answers already */
    is_text(answer.text, "Rayleigh.");
    world_turn(&w);
    assert_int_equal(w.cache->op_count, 0);
    memset(&answer, 0, sizeof answer);
    assert_true(exact(&w, &why, &answer));
    is_text(answer.text, "Rayleigh.");
    is_text(answer.reasoning, "");
    is_text(answer.provider, "openai");
    is_text(answer.model, "gpt-4o-mini");
    is_text(answer.model_echo, "gpt-4o-mini-2024");
    is_text(answer.id, "chat-1");
    assert_int_equal(answer.entry, entry);
    assert_int_equal(answer.created_s, w.wall_s);
    assert_true(answer.usage.known);
    assert_int_equal(answer.usage.input, 11);
    assert_int_equal(answer.usage.output, 7);
    assert_int_equal(answer.usage.reasoning, 3);
    assert_true(answer.cost.known);
    assert_int_equal(answer.cost.pico_usd, 5000000);
    assert_int_equal(answer.elapsed_us, 700000);
    assert_false(exact(&w, &other, &answer));
    world_end(&w);
}

/* A restart finds everything again. */
static void test_reopen(void **state) {
    (void)state;
    world w;
    world_begin(&w);
    llmgwi_cache_answer answer;
    llmgw_request why = unit_ask("Why?");
    uint64_t entry = put(&w, &why, "So.");
    world_shut(&w);
    world_open(&w);
    assert_true(exact(&w, &why, &answer));
    assert_int_equal(answer.entry, entry);
    llmgw_request next = unit_ask("And then?");
    assert_true(put(&w, &next, "Nothing.") > entry);
    world_end(&w);
}

/* ---- laws 7 and 8 ---- */

static void test_namespaces(void **state) {
    (void)state;
    world w;
    world_begin(&w);
    llmgwi_cache_answer answer;
    llmgw_request one = unit_ask("What is my balance?"), two = one, none = one;
    one.cache_namespace = "alice";
    two.cache_namespace = "bob";
    put(&w, &one, "7 francs");
    world_turn(&w);
    assert_true(exact(&w, &one, &answer));
    assert_false(exact(&w, &two, &answer));
    assert_false(exact(&w, &none, &answer));
    world_end(&w);
}

/* Flips every byte of an entry in turn: it answers never, or as it was (law 8), and goes once it was seen damaged. */
static void test_damage(void **state) {
    (void)state;
    world w;
    world_begin(&w);
    llmgwi_cache_answer answer;
    llmgwi_cache_look look;
    llmgw_request why = unit_ask("Why?");
    uint64_t first = put(&w, &why, "So.");
    world_turn(&w);
    look_begin(&w, &look, &why);
    llmgwi_base_str key = llmgwi_base_view((const char *)look.key, 16), value;
    llmgwi_store_txn txn;
    char kept[2048], bent[2048];
    assert_true(llmgwi_store_read(w.store, &txn));
    assert_true(llmgwi_store_get(&txn, LLMGWI_STORE_ENTRY, key, &value));
    size_t n = value.n;
    assert_true(n < sizeof kept);
    memcpy(kept, value.p, n);
    llmgwi_store_end(&txn, false);
    for (size_t at = 0; at <= n; at++) {
        memcpy(bent, kept, n);
        if (at < n) bent[at] ^= 0x41;
        assert_true(llmgwi_store_write(w.store, &txn, true));
        assert_true(
            llmgwi_store_put(&txn, LLMGWI_STORE_ENTRY, key, llmgwi_base_view(bent, at < n ? n : n - 1)));
        assert_true(llmgwi_store_end(&txn, true));
        assert_false(llmgwi_cache_exact(w.cache, &look, &w.arena, &answer));
    }
    world_turn(&w);
    assert_true(llmgwi_store_read(w.store, &txn));
    assert_false(llmgwi_store_get(&txn, LLMGWI_STORE_ENTRY, key, &value));
    llmgwi_store_end(&txn, false);
    put(&w, &why, "So.");
    world_turn(&w);
    (void)llmgwi_cache_feedback(w.cache, first, false); /* the old number does not hit the new entry */
    world_turn(&w);
    assert_true(exact(&w, &why, &answer));
    llmgwi_cache_look_free(w.cache, &look);
    world_shut(&w); /* what the damaged one left behind is found by the fuzzy tier only: no checker here */
    world_end(&w);
}

/* ---- what a request says ---- */

static void test_flags(void **state) {
    (void)state;
    world w;
    world_begin(&w);
    llmgwi_cache_answer answer;
    llmgwi_cache_look look;
    llmgw_request ask = unit_ask("Who wrote Faust?"), r = ask;
    r.cache = LLMGW_CACHE_READ_ONLY;
    assert_int_equal(put(&w, &r, "Goethe"), 0);
    world_turn(&w);
    assert_string_equal(missed(&w, &ask), "no such entry");
    r.cache = LLMGW_CACHE_OFF;
    look_begin(&w, &look, &r);
    assert_false(look.active);
    assert_int_equal(look.cached.verdict, LLMGW_VERDICT_NONE);
    assert_string_equal(look.cached.reason, "off");
    llmgwi_cache_look_free(w.cache, &look);
    r.cache = 0;
    r.temperature = llmgw_set(1);
    look_begin(&w, &look, &r);
    assert_false(look.active);
    assert_string_equal(look.cached.reason, "temperature");
    llmgwi_cache_look_free(w.cache, &look);
    r.cache = LLMGW_CACHE_FORCE;
    look_begin(&w, &look, &r);
    assert_true(look.active);
    llmgwi_cache_look_free(w.cache, &look);

    r = ask;
    uint64_t first = put(&w, &ask, "Goethe");
    world_turn(&w);
    r.cache = LLMGW_CACHE_WRITE_ONLY;
    assert_string_equal(missed(&w, &r), "write only");
    put(&w, &r, "Marlowe"); /* there is one already: it stays */
    world_turn(&w);
    assert_true(exact(&w, &ask, &answer));
    is_text(answer.text, "Goethe");
    assert_int_equal(answer.entry, first);
    r.cache = LLMGW_CACHE_REFRESH;
    assert_string_equal(missed(&w, &r), "refresh");
    uint64_t second = put(&w, &r, "J. W. Goethe");
    world_turn(&w);
    assert_true(exact(&w, &ask, &answer));
    is_text(answer.text, "J. W. Goethe");
    assert_int_equal(answer.entry, second);
    assert_int_equal(llmgwi_cache_feedback(w.cache, first, true), LLMGW_E_NOT_FOUND);
    world_end(&w);
}

static void test_times(void **state) {
    (void)state;
    world w;
    world_begin(&w);
    llmgwi_cache_answer answer;
    llmgwi_cache_look look;
    llmgw_request ask = unit_ask("Who?"), young = ask, stale = ask;
    young.cache_max_age_s = 100;
    stale.cache = LLMGW_CACHE_STALE;
    put(&w, &ask, "Me");
    world_turn(&w);
    w.wall_s += 100;
    assert_true(exact(&w, &young, &answer));
    w.wall_s++;
    assert_string_equal(missed(&w, &young), "too old");
    assert_true(exact(&w, &ask, &answer));
    put(&w, &young, "You"); /* a younger one replaces what was too old */
    world_turn(&w);
    assert_true(exact(&w, &young, &answer));
    is_text(answer.text, "You");
    w.wall_s += 604799;
    assert_true(exact(&w, &ask, &answer));
    w.wall_s++;
    assert_string_equal(missed(&w, &ask), "expired");
    look_begin(&w, &look, &ask);
    assert_false(llmgwi_cache_stale(w.cache, &look, &w.arena, &answer));
    llmgwi_cache_look_free(w.cache, &look);
    look_begin(&w, &look, &stale);
    assert_false(llmgwi_cache_exact(w.cache, &look, &w.arena, &answer));
    assert_true(llmgwi_cache_stale(w.cache, &look, &w.arena, &answer));
    is_text(answer.text, "You");
    assert_int_equal(look.cached.verdict, LLMGW_VERDICT_STALE);
    assert_int_equal(look.cached.age_s, 604800);
    llmgwi_cache_look_free(w.cache, &look);
    w.wall_s += LLMGWI_CACHE_STALE_S;
    llmgw_request other = unit_ask("Something else");
    for (int i = 0; i < 3; i++) {
        put(&w, &other, "x");
        world_turn(&w);
    }
    look_begin(&w, &look, &stale); /* it is gone for good */
    assert_false(llmgwi_cache_stale(w.cache, &look, &w.arena, &answer));
    llmgwi_cache_look_free(w.cache, &look);
    world_end(&w);
}

/* ---- the fuzzy tier ---- */

typedef struct turn { /* what became of one request */
    llmgw_verdict verdict;
    uint64_t entry;
    char text[64], reason[64];
    double z;
} turn;

/* One request as the engine carries it; truth is what the provider would answer. */
static turn ask_cache(world *w, const llmgw_request *request, const char *truth) {
    turn t;
    llmgwi_cache_look look;
    llmgwi_cache_answer answer;
    memset(&t, 0, sizeof t);
    look_begin(w, &look, request);
    bool hit = llmgwi_cache_exact(w->cache, &look, &w->arena, &answer) ||
               llmgwi_cache_fuzzy(w->cache, &look, NULL, 0, world_random(w), &w->arena, &answer);
    t.entry = look.cached.entry;
    if (!hit) {
        answer = answer_of(truth);
        t.entry = llmgwi_cache_put(w->cache, &look, &answer);
    }
    t.verdict = look.cached.verdict;
    t.z = look.cached.score;
    snprintf(t.text, sizeof t.text, "%.*s", (int)answer.text.n, answer.text.p);
    snprintf(t.reason, sizeof t.reason, "%s", look.cached.reason);
    llmgwi_cache_look_free(w->cache, &look);
    llmgwi_base_arena_free(&w->arena);
    w->now_us += 20000;
    (void)llmgwi_cache_duty(w->cache, 1000000, false);
    return t;
}

static turn ask_text(world *w, const char *question, const char *truth) {
    llmgw_request request = unit_ask(question);
    return ask_cache(w, &request, truth);
}

static const char *const subjects[] = {"invoice",  "password", "passport", "kitchen", "umbrella", "bicycle",
                                       "server",   "ticket",   "garden",   "engine",  "printer",  "window",
                                       "contract", "blanket",  "camera",   "dentist"};

/* A question about subject s, in one of many wordings; its answer. */
static const char *question_of(world *w, size_t s, char *out, size_t size) {
    static const char *const forms[] = {"How do I renew my %s%s?", "Please tell me how I can renew my %s%s",
                                        "I would like to renew my %s%s, how?", "my %s%s: how to renew it"};
    static const char *const tails[] = {"",         " online", " at home",  " by myself",
                                        " quickly", " here",   " with help"};
    snprintf(out, size, forms[world_random(w) % 4], subjects[s], tails[world_random(w) % 7]);
    return out;
}

/* Runs samples as the engine does; wrong subject gets another answer. */
static size_t run_samples(world *w, const char *changed) {
    llmgwi_cache_sample sample;
    size_t count = 0;
    while (llmgwi_cache_sample_next(w->cache, &sample)) {
        llmgwi_base_arena arena;
        llmgw_request request;
        char truth[64] = "?";
        llmgwi_base_arena_init(&arena, &unit_mem);
        assert_true(llmgwi_cache_form_read(llmgwi_base_buf_str(&sample.form), &arena, &request));
        const char *text = request.prompt ? request.prompt : request.messages[request.message_count - 1].text;
        if (!text) text = request.messages[request.message_count - 1].parts[0].text;
        for (size_t s = 0; s < LLMGWI_BASE_COUNT(subjects); s++)
            if (strstr(text, subjects[s])) snprintf(truth, sizeof truth, "See %s desk", subjects[s]);
        if (changed && strstr(text, changed)) snprintf(truth, sizeof truth, "It has moved away");
        llmgwi_cache_answer fresh = answer_of(truth);
        llmgwi_cache_sample_done(w->cache, &sample, &fresh, false);
        llmgwi_base_arena_free(&arena);
        count++;
    }
    return count;
}

typedef struct tally {
    int requests, semantic, wrong, samples;
} tally;

static tally drive(world *w, int requests, const char *changed) {
    tally t;
    char question[128], truth[64];
    memset(&t, 0, sizeof t);
    for (int i = 0; i < requests; i++) {
        size_t s = world_random(w) % LLMGWI_BASE_COUNT(subjects);
        snprintf(truth, sizeof truth, "See %s desk", subjects[s]);
        if (changed && strcmp(changed, subjects[s]) == 0) snprintf(truth, sizeof truth, "It has moved away");
        llmgw_request request = unit_ask(question_of(w, s, question, sizeof question));
        turn got = ask_cache(w, &request, truth);
        t.requests++;
        if (got.verdict == LLMGW_VERDICT_SEMANTIC) {
            t.semantic++;
            t.wrong += strcmp(got.text, truth) != 0;
        }
        t.samples += (int)run_samples(w, changed);
    }
    return t;
}

static uint64_t samples_stored(world *w) {
    llmgwi_store_txn txn;
    assert_true(llmgwi_store_read(w->store, &txn));
    uint64_t count = llmgwi_store_count(&txn, LLMGWI_STORE_SAMPLE);
    (void)llmgwi_store_end(&txn, false);
    return count;
}

/* Cold start: nothing is served before there is evidence; then it is, and rightly. */
static void test_fuzzy(void **state) {
    (void)state;
    world w;
    llmgw_cache_numbers n, m;
    world_begin(&w);
    w.options.ttl_s = 1000000;
    tally first = drive(&w, 150, NULL);
    assert_int_equal(first.semantic, 0);
    tally rest = drive(&w, 1200, NULL);
    print_message("semantic %d of %d, wrong %d, samples %d\n", rest.semantic, rest.requests, rest.wrong,
                  rest.samples);
    assert_true(rest.semantic > 50);
    assert_int_equal(rest.wrong, 0);
    assert_true(rest.samples > 10);
    world_flush(&w);
    llmgwi_cache_numbers(w.cache, NULL, &n);
    llmgwi_cache_numbers(w.cache, "m", &m);
    assert_true(n.on);
    assert_int_equal(n.requests, 1350);
    assert_int_equal(m.requests, 1350);
    assert_int_equal(n.semantic_hits, rest.semantic);
    assert_int_equal(m.semantic_hits, rest.semantic);
    assert_int_equal(n.revalidations, rest.samples);
    assert_int_equal(n.pending_samples, 0);
    assert_int_equal(samples_stored(&w), 0);
    assert_int_equal(n.revalidated_wrong, 0);
    assert_true(n.revalidation_cost.known);
    assert_int_equal(n.revalidation_cost.pico_usd, 5000000 * (int64_t)rest.samples);
    assert_true(n.threshold > -10 && n.threshold < 10);
    assert_true(n.error_bound < .05 && n.error_bound > 0);
    assert_int_equal(n.exact_hits + n.semantic_hits + n.entries, 1350);
    world_shut(&w); /* evidence survives */
    world_open(&w);
    llmgwi_cache_numbers(w.cache, NULL, &m);
    assert_int_equal(m.requests, 1350);
    assert_true(m.threshold > -10 && m.threshold < 10);
    assert_true(drive(&w, 100, NULL).semantic > 0);
    world_end(&w);
}

/* Numbers of the store's counters, of all. */
static llmgw_cache_numbers numbers(world *w) {
    llmgw_cache_numbers n;
    llmgwi_cache_numbers(w->cache, NULL, &n);
    return n;
}

static int64_t evidence_of(world *w, llmgwi_calibrate_count which) {
    return w->cache->all->evidence ? w->cache->all->evidence->unit.all.counts[which] : 0;
}

/* A guard keeps the nearest back; the miss tells whether it would have been right. */
static void test_vetoes(void **state) {
    (void)state;
    world w;
    world_begin(&w);
    ask_text(&w, "How many days has a month of 30 days?", "thirty");
    w.now_us += 100000;
    world_flush(&w);
    turn t = ask_text(&w, "How many days has a month of 31 days?", "thirty-one");
    assert_string_equal(t.reason, "guard: numbers");
    assert_int_equal(numbers(&w).vetoes, 1);
    assert_int_equal(numbers(&w).vetoes_same, 0);
    world_flush(&w);
    t = ask_text(&w, "How many days has a month of 29 days?", "thirty-one"); /* a guard that was wrong */
    assert_int_equal(numbers(&w).vetoes, 2);
    assert_int_equal(numbers(&w).vetoes_same, strncmp(t.reason, "guard", 5) == 0);
    t = ask_text(&w, "What is the weather like today?", "wet");
    assert_string_equal(t.reason, "relative time");
    world_end(&w);
}

/* EXACT, max_error 0: nothing is taught, nothing is indexed. */
static void test_untaught(void **state) {
    (void)state;
    world w;
    world_begin(&w);
    drive(&w, 50, NULL);
    int64_t before = evidence_of(&w, LLMGWI_CALIBRATE_REQUESTS), fuzzy = numbers(&w).fuzzy_requests;
    assert_true(before > 0);
    llmgw_request r = unit_ask("How do I renew my dentist card?");
    r.cache = LLMGW_CACHE_EXACT;
    assert_string_equal(ask_cache(&w, &r, "See dentist desk").reason, "exact only");
    r = unit_ask("How do I renew my bicycle really?");
    r.max_error = llmgw_set(0);
    assert_string_equal(ask_cache(&w, &r, "See bicycle desk").reason, "max_error 0");
    assert_int_equal(evidence_of(&w, LLMGWI_CALIBRATE_REQUESTS), before);
    assert_int_equal(numbers(&w).fuzzy_requests, fuzzy);
    world_flush(&w);
    cachecheck_sum sum = cachecheck(w.store);
    assert_int_equal(sum.entries, sum.asks + 2);
    world_end(&w);
}

/* The evidence of a request's model and of its scope; NULL: it has none. */
static void units_of(world *w, const llmgw_request *like, const llmgwi_calibrate_evidence **model,
                     const llmgwi_calibrate_evidence **scope) {
    char key[LLMGWI_CACHE_KEY];
    llmgwi_cache_look look;
    llmgw_request request = *like;
    request.prompt = "How do I renew my dentist?";
    look_begin(w, &look, &request);
    assert_true(llmgwi_cache_fits(w->cache, &look));
    size_t n = llmgwi_cache_unit_key('s', llmgwi_cache_bytes(look.scope, 16), key);
    llmgwi_cache_unit *unit = *llmgwi_cache_unit_slot(w->cache, llmgwi_base_view(key, n));
    *model = &look.name->evidence->unit.all;
    *scope = unit ? &unit->evidence->unit.all : NULL;
    llmgwi_cache_look_free(w->cache, &look);
}

/* Asks until the fuzzy tier looked at so many requests for the model. */
static void drive_like(world *w, const llmgw_request *like, int64_t until, bool samples) {
    const llmgwi_calibrate_evidence *model, *scope;
    char question[128], truth[64];
    for (units_of(w, like, &model, &scope); model->counts[LLMGWI_CALIBRATE_REQUESTS] < until;) {
        llmgw_request request = *like;
        size_t s = world_random(w) % 16;
        request.prompt = question_of(w, s, question, sizeof question);
        request.cache = world_random(w) % 4 ? LLMGW_CACHE_READ_ONLY : 0;
        snprintf(truth, sizeof truth, "See %s desk", subjects[s]);
        (void)ask_cache(w, &request, truth);
        if (samples) (void)run_samples(w, NULL);
    }
}

/* A scope that was all of its model's traffic begins with the model's evidence, whole; one that was not, be it for one
   request, with none. */
static void test_scope_begins(void **state) {
    (void)state;
    const llmgwi_calibrate_evidence *model, *scope;
    world w;
    world_begin(&w); /* max_error .05: a scope begins with its 160th request */
    llmgw_request alone = unit_ask(""), other = alone, shared = alone;
    alone.model = "alone";
    drive_like(&w, &alone, 159, true);
    units_of(&w, &alone, &model, &scope);
    assert_null(scope);
    for (int64_t until = 160; until <= 300; until += 140) {
        drive_like(&w, &alone, until, true);
        units_of(&w, &alone, &model, &scope);
        assert_non_null(scope);
        assert_int_equal(scope->counts[LLMGWI_CALIBRATE_REQUESTS], until);
        assert_memory_equal(scope->counts, model->counts, sizeof scope->counts);
        assert_memory_equal(scope->scored, model->scored, sizeof scope->scored);
        assert_memory_equal(scope->wrong, model->wrong, sizeof scope->wrong);
        assert_memory_equal(scope->lam, model->lam, sizeof scope->lam);
        int64_t wrong = 0;
        for (int i = 0; i < LLMGWI_CALIBRATE_LEVELS; i++) wrong += model->wrong[i];
        assert_true(wrong > 0); /* there was something to begin with */
    }
    assert_true(model->counts[LLMGWI_CALIBRATE_HITS] > 0);
    other.model = shared.model = "shared";
    other.system = "Be brief.";
    drive_like(&w, &other, 1, true);
    drive_like(&w, &shared, 160, true);
    units_of(&w, &shared, &model, &scope);
    assert_null(scope);
    drive_like(&w, &shared, 200, true);
    units_of(&w, &shared, &model, &scope);
    assert_non_null(scope);
    assert_int_equal(scope->counts[LLMGWI_CALIBRATE_REQUESTS], 200 - 160);
    units_of(&w, &other, &model, &scope);
    assert_null(scope);
    world_end(&w);
}

/* It waits for samples that are out: their labels would miss it; but not for ever. */
static void test_scope_waits(void **state) {
    (void)state;
    const llmgwi_calibrate_evidence *model, *scope;
    for (int is_told = 0; is_told < 2; is_told++) {
        world w;
        world_begin(&w);
        world_shut(&w);
        w.options.max_error = llmgw_set(.02); /* begins at 400, obeyed at 1,200; hits from 358 on */
        world_open(&w);
        llmgw_request alone = unit_ask("");
        drive_like(&w, &alone, 420, false);
        units_of(&w, &alone, &model, &scope);
        assert_true(model->counts[LLMGWI_CALIBRATE_PENDING] > 0);
        assert_null(scope);
        if (is_told) (void)run_samples(&w, NULL);
        drive_like(&w, &alone, is_told ? 421 : 1199, false);
        units_of(&w, &alone, &model, &scope);
        assert_int_equal(scope != NULL, is_told);
        if (!is_told) drive_like(&w, &alone, 1200, false);
        units_of(&w, &alone, &model, &scope);
        assert_non_null(scope);
        assert_int_equal(scope->counts[LLMGWI_CALIBRATE_REQUESTS], is_told ? 421 : 1);
        world_end(&w);
    }
}

/* A request's own max_error is asked of the same evidence. */
static void test_stricter(void **state) {
    (void)state;
    world w;
    llmgwi_cache_look look;
    llmgwi_cache_answer answer;
    char question[128];
    world_begin(&w);
    drive(&w, 1200, NULL);
    int served[2] = {0, 0};
    for (int i = 0; i < 400; i++) {
        llmgw_request r = unit_ask(question_of(&w, (size_t)i % 16, question, sizeof question));
        r.max_error = llmgw_set(i % 2 ? .0001 : .05);
        r.cache = LLMGW_CACHE_READ_ONLY;
        look_begin(&w, &look, &r);
        bool hit = llmgwi_cache_fuzzy(w.cache, &look, NULL, 0, world_random(&w), &w.arena, &answer);
        served[i % 2] += hit;
        if (!hit) assert_string_equal(look.cached.reason, "threshold");
        llmgwi_cache_look_free(w.cache, &look);
    }
    assert_true(served[0] > 100);
    assert_int_equal(served[1], 0);
    world_end(&w);
}

/* A fixed similarity serves from the first entry on, samples none and promises nothing. */
static void test_fixed(void **state) {
    (void)state;
    world w;
    world_begin(&w);
    world_shut(&w);
    w.options.similarity = llmgw_set(.5);
    world_open(&w);
    ask_text(&w, "How do I renew my dentist?", "See dentist desk");
    world_flush(&w);
    turn t = ask_text(&w, "How do I renew my dentist quickly?", "?");
    assert_int_equal(t.verdict, LLMGW_VERDICT_SEMANTIC);
    assert_string_equal(t.text, "See dentist desk");
    t = ask_text(&w, "Which bicycle is the best for mountains?", "?");
    assert_int_equal(t.verdict, LLMGW_VERDICT_MISS);
    assert_int_equal(evidence_of(&w, LLMGWI_CALIBRATE_REQUESTS), 0);
    assert_int_equal(w.cache->waiter_count, 0);
    world_end(&w);
}

/* No budget, nothing fuzzy. */
static void test_no_budget(void **state) {
    (void)state;
    world w;
    world_begin(&w);
    world_shut(&w);
    w.options.revalidate_usd_per_day = llmgw_set(0);
    world_open(&w);
    assert_int_equal(drive(&w, 1200, NULL).semantic, 0);
    assert_string_equal(ask_text(&w, "How do I renew my dentist, please?", "x").reason, "no budget");
    world_end(&w);
}

/* A budget for ten samples a day is for ten samples a day. */
static void test_budget(void **state) {
    (void)state;
    world w;
    world_begin(&w);
    world_shut(&w);
    w.options.revalidate_usd_per_day = llmgw_set(10 * 5e-6);
    world_open(&w);
    tally t = drive(&w, 900, NULL);
    assert_int_equal(t.samples, 10);
    assert_true(t.semantic > 10);
    assert_int_equal(run_samples(&w, NULL), 0);
    world_shut(&w); /* a restart earns no new budget */
    world_open(&w);
    world_flush(&w);
    assert_true(w.cache->waiter_count > 0);
    assert_int_equal(run_samples(&w, NULL), 0);
    w.wall_s += 86400; /* the next day; leases are over, they are taken anew */
    w.now_us += LLMGWI_CACHE_ADOPT_US;
    world_flush(&w);
    ask_text(&w, "How do I renew my dentist, please?", "See dentist desk");
    (void)run_samples(&w, NULL);
    world_flush(&w);
    t.samples += (int)run_samples(&w, NULL);
    world_flush(&w);
    llmgw_cache_numbers n = numbers(&w);
    assert_int_equal(n.revalidations, 20);
    world_end(&w);
}

/* The answers of a class change: it is found out, and the class goes. */
static void test_drift(void **state) {
    (void)state;
    world w;
    world_begin(&w);
    drive(&w, 1500, NULL);
    assert_int_equal(numbers(&w).purges, 0);
    tally t = drive(&w, 1500, "bicycle");
    llmgw_cache_numbers n = numbers(&w);
    print_message("after the change: %d wrong, %d samples, %lld purges\n", t.wrong, t.samples,
                  (long long)n.purges);
    assert_true(n.revalidated_wrong > 0);
    assert_true(t.wrong <= 75);
    world_end(&w);
}

/* STRICT: every answer changes in mid-stream; the promise holds at every moment. */
static void test_strict(void **state) {
    (void)state;
    world w;
    char question[128], truth[64];
    int wrong = 0, hits = 0;
    world_begin(&w);
    world_shut(&w);
    w.options.strict = true;
    world_open(&w);
    for (int i = 0; i < 3000; i++) {
        size_t s = world_random(&w) % 16;
        bool changed = i > 1800;
        snprintf(truth, sizeof truth, changed ? "It has moved away" : "See %s desk", subjects[s]);
        llmgw_request r = unit_ask(question_of(&w, s, question, sizeof question));
        r.cache = i % 2 ? LLMGW_CACHE_READ_ONLY : 0; /* so that not all is answered exactly soon */
        turn got = ask_cache(&w, &r, truth);
        hits += got.verdict == LLMGW_VERDICT_SEMANTIC;
        wrong += got.verdict == LLMGW_VERDICT_SEMANTIC && strcmp(got.text, truth) != 0;
        (void)run_samples(&w, changed ? "" : NULL);
        int64_t requests = evidence_of(&w, LLMGWI_CALIBRATE_REQUESTS);
        assert_true(wrong <= .05 * (double)requests);
    }
    print_message("strict: %d hits, %d wrong of %d\n", hits, wrong,
                  (int)evidence_of(&w, LLMGWI_CALIBRATE_REQUESTS));
    assert_true(hits > 20);
    world_end(&w);
}

/* The very members: a class is removed whole by a drift alarm. */
static void test_purge(void **state) {
    (void)state;
    world w;
    llmgwi_cache_answer answer;
    world_begin(&w);
    for (int i = 0; i < 3; i++) {
        ask_text(&w,
                 i == 0   ? "How do I renew my dentist?"
                 : i == 1 ? "my dentist: how to renew it"
                          : "renew my dentist how",
                 "Desk 4");
        world_flush(&w);
    }
    cachecheck_sum sum = cachecheck(w.store);
    assert_int_equal(sum.classes, 1);
    assert_int_equal(sum.members, 3);
    ask_text(&w, "Who sells umbrellas?", "Miller");
    world_flush(&w);
    llmgwi_cache_look look;
    llmgw_request r = unit_ask("How do I renew my dentist?");
    look_begin(&w, &look, &r);
    (void)llmgwi_cache_fuzzy(w.cache, &look, NULL, 0, 1, &w.arena, &answer);
    uint64_t cls = look.hits[0].answer_class;
    llmgwi_cache_look_free(w.cache, &look);
    for (int i = 0; i < 20; i++) {
        llmgwi_cache_op *op = llmgwi_cache_op_new(w.cache, LLMGWI_CACHE_OP_DRIFT, 0);
        op->id = cls;
        op->is_wrong = true;
        assert_true(llmgwi_cache_queue(w.cache, op));
    }
    world_flush(&w);
    assert_int_equal(numbers(&w).purges, 1);
    sum = cachecheck(w.store);
    assert_int_equal(sum.entries, 1);
    assert_int_equal(sum.classes, 1);
    assert_false(exact(&w, &r, &answer));
    world_end(&w);
}

static void test_feedback(void **state) {
    (void)state;
    world w;
    llmgwi_cache_answer answer;
    world_begin(&w);
    llmgw_request r = unit_ask("Why?");
    uint64_t entry = put(&w, &r, "So.");
    assert_int_equal(llmgwi_cache_feedback(w.cache, entry, true), LLMGW_OK); /* not yet written */
    world_turn(&w);
    assert_int_equal(llmgwi_cache_feedback(w.cache, entry, true), LLMGW_OK);
    assert_int_equal(llmgwi_cache_feedback(w.cache, entry + 1000000, true), LLMGW_E_NOT_FOUND);
    assert_int_equal(llmgwi_cache_feedback(w.cache, 0, true), LLMGW_E_NOT_FOUND);
    assert_true(exact(&w, &r, &answer));
    assert_int_equal(llmgwi_cache_feedback(w.cache, entry, false), LLMGW_OK);
    world_turn(&w);
    assert_false(exact(&w, &r, &answer));
    assert_int_equal(llmgwi_cache_feedback(w.cache, entry, false), LLMGW_E_NOT_FOUND);
    assert_int_equal(numbers(&w).feedback_right, 2);
    assert_int_equal(numbers(&w).feedback_wrong, 1);
    world_end(&w);
}

/* A wrong fuzzy answer that no coin had chosen is evidence when the application says so. */
static void test_feedback_fuzzy(void **state) {
    (void)state;
    world w;
    char question[128];
    world_begin(&w);
    drive(&w, 2000, NULL);
    int64_t before = evidence_of(&w, LLMGWI_CALIBRATE_TOLD_WRONG);
    for (int i = 0; i < 400 && evidence_of(&w, LLMGWI_CALIBRATE_TOLD_WRONG) == before; i++) {
        llmgw_request r = unit_ask(question_of(&w, (size_t)i % 16, question, sizeof question));
        turn t = ask_cache(&w, &r, "See the boss");
        if (t.verdict != LLMGW_VERDICT_SEMANTIC) continue;
        assert_int_equal(llmgwi_cache_feedback(w.cache, t.entry, false), LLMGW_OK);
    }
    assert_int_equal(evidence_of(&w, LLMGWI_CALIBRATE_TOLD_WRONG), before + 1);
    world_end(&w);
}

/* ---- sameness, the judge ---- */

static bool same_first_letter(const char *a, size_t a_len, const char *b, size_t b_len, void *user) {
    ++*(int *)user;
    return a_len && b_len && a[0] == b[0];
}

static void test_sameness(void **state) {
    (void)state;
    world w;
    int calls = 0;
    world_begin(&w);
    static const struct {
        const char *a, *b;
        llmgwi_cache_same want;
    } rows[] = {
        {"Yes.", "yes", LLMGWI_CACHE_SAME},
        {"Yes.", "No.", LLMGWI_CACHE_DIFFERENT},
        {"", "", LLMGWI_CACHE_SAME},
        {".", "!", LLMGWI_CACHE_DIFFERENT},
        {"{\"a\": 1, \"b\": [2]}", "{\"b\":[2],\"a\":1.0}", LLMGWI_CACHE_SAME},
        {"{\"a\": 1}", "{\"a\": 2}", LLMGWI_CACHE_DIFFERENT},
        {"The capital of France is Paris.", "The capital of France is Lyon.", LLMGWI_CACHE_DIFFERENT},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_cache_same same =
            llmgwi_cache_compare(w.cache, llmgwi_base_cstr(rows[i].a), llmgwi_base_cstr(rows[i].b));
        if (same != rows[i].want) fail_msg("%s | %s: %d", rows[i].a, rows[i].b, (int)same);
    }
    w.cache->options.same = same_first_letter;
    w.cache->options.same_user = &calls;
    assert_int_equal(llmgwi_cache_compare(w.cache, llmgwi_base_cstr("abc"), llmgwi_base_cstr("axy")),
                     LLMGWI_CACHE_SAME);
    assert_int_equal(llmgwi_cache_compare(w.cache, llmgwi_base_cstr("abc"), llmgwi_base_cstr("bbc")),
                     LLMGWI_CACHE_DIFFERENT);
    assert_int_equal(calls, 2);
    assert_int_equal(llmgwi_cache_compare(w.cache, llmgwi_base_cstr("abc"), llmgwi_base_cstr("ABC")),
                     LLMGWI_CACHE_SAME);
    assert_int_equal(calls, 2); /* equal after normalisation: nobody is asked */
    world_end(&w);
}

/* Two texts between the same and not. */
static const char *const unsure_a =
    "You can renew it at the desk on the first floor of the town hall with a form";
static const char *const unsure_b =
    "You can renew it at the desk on the first floor if you bring photographs";

/* A miss that the comparison is not sure of: the judge labels it, and gives the new entry its class. */
static void test_judge(void **state) {
    (void)state;
    for (int verdict = -1; verdict <= 1; verdict++) {
        world w;
        world_begin(&w);
        w.cache->has_judge = true;
        llmgwi_cache_judgement job;
        assert_int_equal(
            llmgwi_cache_compare(w.cache, llmgwi_base_cstr(unsure_a), llmgwi_base_cstr(unsure_b)),
            LLMGWI_CACHE_UNSURE);
        ask_text(&w, "How do I renew my dentist?", unsure_a);
        world_flush(&w);
        assert_false(llmgwi_cache_judge_next(w.cache, &job));
        turn t = ask_text(&w, "How do I renew my dentist quickly?", unsure_b);
        assert_int_equal(t.verdict, LLMGW_VERDICT_MISS);
        world_flush(&w);
        assert_int_equal(cachecheck(w.store).classes, 2);
        assert_true(llmgwi_cache_judge_next(w.cache, &job));
        assert_memory_equal(job.question.p, "How do I renew my dentist quickly?", job.question.n);
        assert_memory_equal(job.a.p, unsure_a, job.a.n);
        assert_memory_equal(job.b.p, unsure_b, job.b.n);
        llmgwi_cache_judgement again;
        assert_false(llmgwi_cache_judge_next(w.cache, &again));
        llmgw_cost cost = answer_of("").cost;
        llmgwi_cache_judge_done(w.cache, &job, verdict, &cost);
        assert_int_equal(numbers(&w).revalidation_cost.pico_usd, cost.pico_usd);
        world_flush(&w);
        assert_int_equal(cachecheck(w.store).classes, verdict > 0 ? 1 : 2);
        int64_t wrong = 0;
        for (int i = 0; i < LLMGWI_CALIBRATE_LEVELS; i++) wrong += w.cache->all->evidence->unit.all.wrong[i];
        assert_int_equal(wrong, verdict == 0);
        if (verdict >= 0) assert_true(numbers(&w).comparator_error == (verdict > 0 ? 1.0 : 0.0));
        world_end(&w);
    }
}

/* The judge is paid out of the budget of the samples; what it may not be asked today waits. */
static void test_judge_budget(void **state) {
    (void)state;
    world w;
    llmgwi_cache_judgement job, other;
    llmgw_cost cost = answer_of("").cost;
    world_begin(&w);
    w.options.revalidate_usd_per_day = llmgw_set(1.5 * 5e-6);
    w.cache->options = w.options;
    w.cache->has_judge = true;
    ask_text(&w, "How do I renew my dentist?", unsure_a);
    world_flush(&w);
    ask_text(&w, "How do I renew my dentist quickly?", unsure_b);
    ask_text(&w, "How do I renew my dentist slowly?", unsure_b);
    assert_int_equal(w.cache->pair_count, 2);
    assert_true(llmgwi_cache_judge_next(w.cache, &job));
    llmgwi_cache_judge_done(w.cache, &job, 1, &cost);
    assert_false(llmgwi_cache_judge_next(w.cache, &other)); /* the next one costs as much, likely */
    assert_int_equal(w.cache->pair_count, 1);
    world_shut(&w);
    world_open(&w);
    llmgwi_base_lock(&w.cache->mutex);
    assert_false(llmgwi_cache_affords(w.cache, 3000000));
    assert_true(llmgwi_cache_affords(w.cache, 2500000));
    w.wall_s += 86400;
    assert_true(llmgwi_cache_affords(w.cache, 3000000));
    w.cache->options.revalidate_per_day = 1; /* what has no price counts */
    assert_true(llmgwi_cache_affords(w.cache, 0));
    llmgwi_base_unlock(&w.cache->mutex);
    cost.known = false;
    llmgwi_cache_judge_done(w.cache, &job, 1, &cost);
    llmgwi_base_lock(&w.cache->mutex);
    assert_false(llmgwi_cache_affords(w.cache, 0));
    llmgwi_base_unlock(&w.cache->mutex);
    world_end(&w);
}

static bool affords(world *w, int64_t pico_usd) {
    llmgwi_base_lock(&w->cache->mutex);
    bool so = llmgwi_cache_affords(w->cache, pico_usd);
    llmgwi_base_unlock(&w->cache->mutex);
    return so;
}

/* Several caches of one store are one day: who looks at the clock late does not begin it anew. */
static void test_day_shared(void **state) {
    (void)state;
    world w;
    llmgw_cost cost = answer_of("").cost; /* 5e6 pico-dollars */
    llmgwi_cache_judgement none;
    memset(&none, 0, sizeof none);
    world_begin(&w);
    w.options.revalidate_usd_per_day = llmgw_set(2.5 * 5e-6);
    w.cache->options = w.options;
    llmgwi_cache *first = w.cache;
    w.cache = llmgwi_cache_open(&unit_mem, &w.clock, w.store, &w.options, 50000);
    llmgwi_cache *second = w.cache;
    for (int day = 0; day < 2; day++) {
        w.cache = first;
        assert_true(affords(&w, 12000000));
        for (int i = 0; i < 2; i++) {
            assert_true(affords(&w, 5000000));
            llmgwi_cache_judge_done(first, &none, -1, &cost);
        }
        assert_false(affords(&w, 5000000));
        world_flush(&w);
        w.cache = second;
        (void)numbers(&w); /* it hears of what the other one counted */
        assert_false(affords(&w, 5000000));
        assert_true(affords(&w, 2500000));
        world_flush(&w);
        w.cache = llmgwi_cache_open(&unit_mem, &w.clock, w.store, &w.options, 50000);
        assert_false(affords(&w, 5000000));
        assert_true(affords(&w, 2500000));
        llmgwi_cache_close(w.cache, false);
        w.wall_s += 86400;
    }
    llmgwi_cache_close(first, false);
    w.cache = second;
    world_end(&w);
}

/* ---- samples ---- */

/* Drives until a sample waits. */
static void until_sample(world *w) {
    char question[128], truth[64];
    for (int i = 0; i < 3000 && w->cache->waiter_count == 0; i++) {
        size_t s = world_random(w) % 16;
        snprintf(truth, sizeof truth, "See %s desk", subjects[s]);
        ask_text(w, question_of(w, s, question, sizeof question), truth);
    }
    assert_int_equal(w->cache->waiter_count, 1);
}

/* Pending samples survive a close, and are taken by the next process; lost ones count as wrong. */
static void test_samples_survive(void **state) {
    (void)state;
    world w;
    llmgwi_cache_sample sample, other;
    world_begin(&w);
    until_sample(&w);
    assert_true(llmgwi_cache_sample_next(w.cache, &sample));
    assert_false(llmgwi_cache_sample_next(w.cache, &other)); /* in flight: not taken twice */
    llmgwi_cache_sample_done(w.cache, &sample, NULL, true);
    assert_true(llmgwi_cache_sample_next(w.cache, &sample)); /* put back */
    llmgwi_cache_sample_free(&sample);                       /* the process goes down with it in flight */
    assert_int_equal(evidence_of(&w, LLMGWI_CALIBRATE_PENDING), 1);
    world_shut(&w);
    world_open(&w);
    assert_int_equal(numbers(&w).pending_samples, 1);
    w.now_us += 1000000;
    (void)llmgwi_cache_duty(w.cache, 1000, false);
    assert_int_equal(w.cache->waiter_count, 1);
    assert_true(llmgwi_cache_sample_next(w.cache, &sample));
    llmgwi_cache_sample_done(w.cache, &sample, NULL, false);
    world_flush(&w);
    llmgw_cache_numbers n = numbers(&w);
    assert_int_equal(n.pending_samples, 0);
    assert_int_equal(n.failed_samples, 1);
    assert_int_equal(evidence_of(&w, LLMGWI_CALIBRATE_PENDING), 0);
    assert_int_equal(evidence_of(&w, LLMGWI_CALIBRATE_LOST), 1);
    world_shut(&w);
    world_open(&w);
    world_flush(&w);
    assert_int_equal(w.cache->waiter_count, 0); /* told: it does not come again */
    assert_int_equal(samples_stored(&w), 0);
    world_end(&w);
}

/* Samples that nobody can pay for do not fill the store: nothing fuzzy is served until they are done. */
static void test_samples_wait(void **state) {
    (void)state;
    char question[128], truth[64];
    world w;
    world_begin(&w);
    w.cache->sample_cap = 3;
    int served = 0, waits = 0;
    for (int i = 0; i < 3000; i++) {
        size_t s = world_random(&w) % 16;
        snprintf(truth, sizeof truth, "See %s desk", subjects[s]);
        turn t = ask_text(&w, question_of(&w, s, question, sizeof question), truth);
        world_flush(&w);
        if (samples_stored(&w) >= 3 && waits++ > 0 && t.verdict == LLMGW_VERDICT_SEMANTIC) served++;
        if (waits == 50) break;
    }
    assert_int_equal(waits, 50);
    assert_int_equal(served, 0);
    assert_int_equal(samples_stored(&w), 3);
    int said = 0;
    for (size_t s = 0; s < 16; s++) {
        snprintf(truth, sizeof truth, "See %s desk", subjects[s]);
        said += !strcmp(ask_text(&w, question_of(&w, s, question, sizeof question), truth).reason,
                        "samples wait");
    }
    assert_true(said > 0);
    assert_true(run_samples(&w, NULL) >= 3);
    world_flush(&w);
    assert_int_equal(samples_stored(&w), 0);
    assert_true(drive(&w, 100, NULL).semantic > 0);
    world_end(&w);
}

/* Of a process that was killed: its samples come back when the lease is over, and not before. */
static void test_samples_lease(void **state) {
    (void)state;
    world w;
    llmgwi_cache_sample sample;
    world_begin(&w);
    until_sample(&w);
    world_flush(&w);
    llmgwi_cache *dead = w.cache;
    w.cache = llmgwi_cache_open(&unit_mem, &w.clock, w.store, &w.options, 50000);
    world_flush(&w);
    assert_int_equal(w.cache->waiter_count, 0);
    w.wall_s += LLMGWI_CACHE_LEASE_S + 1;
    w.now_us += LLMGWI_CACHE_ADOPT_US;
    ask_text(&w, "Anything else?", "no");
    world_flush(&w);
    assert_int_equal(w.cache->waiter_count, 1);
    assert_false(llmgwi_cache_sample_next(dead, &sample)); /* it is no longer its own */
    assert_int_equal(run_samples(&w, NULL), 1);
    world_flush(&w);
    assert_int_equal(evidence_of(&w, LLMGWI_CALIBRATE_PENDING), 0);
    assert_int_equal(evidence_of(&w, LLMGWI_CALIBRATE_SAMPLED), 1);
    llmgwi_cache_close(dead, false);
    world_end(&w);
}

/* A sample that was wrong brings the fresh answer in, under its own question. */
static void test_sample_wrong(void **state) {
    (void)state;
    world w;
    llmgwi_cache_sample sample;
    llmgwi_cache_answer answer;
    llmgw_request request;
    llmgwi_base_arena arena;
    world_begin(&w);
    until_sample(&w);
    assert_true(llmgwi_cache_sample_next(w.cache, &sample));
    llmgwi_base_arena_init(&arena, &unit_mem);
    assert_true(llmgwi_cache_form_read(llmgwi_base_buf_str(&sample.form), &arena, &request));
    assert_false(exact(&w, &request, &answer));
    llmgwi_cache_answer fresh = answer_of("Something quite different");
    llmgwi_cache_sample_done(w.cache, &sample, &fresh, false);
    world_flush(&w);
    assert_true(exact(&w, &request, &answer));
    is_text(answer.text, "Something quite different");
    llmgwi_base_arena_free(&arena);
    assert_int_equal(numbers(&w).revalidated_wrong, 1);
    assert_int_equal(evidence_of(&w, LLMGWI_CALIBRATE_SAMPLED_WRONG), 1);
    world_end(&w);
}

/* A model that names itself anew: answers of the old one are all sampled, until 60 were right. */
static void test_echo(void **state) {
    (void)state;
    world w;
    char question[128];
    world_begin(&w);
    w.options.max_error = llmgw_set(.2);
    world_shut(&w);
    world_open(&w);
    drive(&w, 4000, NULL); /* .2: by now few hits are sampled */
    world_flush(&w);
    llmgwi_store_txn txn;
    llmgwi_cache_answer fresh = answer_of("x");
    fresh.model_echo = llmgwi_base_cstr("gpt-4o-mini-2031");
    assert_true(llmgwi_store_read(w.store, &txn));
    llmgwi_base_lock(&w.cache->mutex);
    llmgwi_cache_echo_heard(w.cache, &txn, &fresh);
    llmgwi_base_unlock(&w.cache->mutex);
    llmgwi_store_end(&txn, false);
    int hits = 0, sampled = 0, after = 0, after_sampled = 0;
    for (int i = 0; i < 4000 && after < 200; i++) {
        llmgw_request r = unit_ask(question_of(&w, (size_t)i % 16, question, sizeof question));
        llmgwi_cache_look look;
        look_begin(&w, &look, &r);
        bool hit = llmgwi_cache_fuzzy(w.cache, &look, NULL, 0, world_random(&w), &w.arena, &fresh);
        bool late = sampled >= LLMGWI_CACHE_ECHO_RIGHT;
        llmgwi_cache_look_free(w.cache, &look);
        llmgwi_base_arena_free(&w.arena);
        size_t ran = run_samples(&w, NULL);
        *(late ? &after : &hits) += hit;
        *(late ? &after_sampled : &sampled) += (int)ran;
        world_turn(&w);
        if (ran) { /* the provider answers as the old model did, and under its name: put the change back */
            llmgwi_base_lock(&w.cache->mutex);
            w.cache->echoes[0].echo = XXH3_64bits("gpt-4o-mini-2031", 16);
            w.cache->echoes[0].right = (uint32_t)sampled;
            llmgwi_base_unlock(&w.cache->mutex);
        }
    }
    print_message("old echo: %d hits, %d sampled; then %d hits, %d sampled\n", hits, sampled, after,
                  after_sampled);
    assert_int_equal(hits, sampled);
    assert_int_equal(hits, LLMGWI_CACHE_ECHO_RIGHT);
    assert_true(after >= 200 && after_sampled < 100);
    world_end(&w);
}

/* ---- room ---- */

/* Endless puts into a store of 4 MiB: it stays below its cap, goes on taking, and its tables agree. */
static void test_eviction(void **state) {
    (void)state;
    world w;
    char question[64], *text = (char *)malloc(8001);
    world_begin(&w);
    world_shut(&w);
    w.desc.max_bytes = (int64_t)4 << 20;
    strcat(w.dir, "_small");
    w.desc.path = w.dir;
    world_open(&w);
    assert_non_null(text);
    llmgwi_cache_answer answer;
    llmgw_request dear = unit_ask("The dear one"), last;
    uint64_t most = 0;
    put(&w, &dear, "dear");
    for (int i = 0; i < 1800; i++) {
        snprintf(question, sizeof question, "How do I renew object %d of my list?", i);
        size_t n = 100 + world_random(&w) % 7900;
        memset(text, 'a' + i % 26, n);
        text[n] = 0;
        last = unit_ask(question);
        assert_true(put(&w, &last, text) > 0);
        world_turn(&w);
        for (int k = 0; k < 4; k++) (void)exact(&w, &dear, &answer);
        llmgwi_base_arena_free(&w.arena);
        llmgwi_store_txn txn;
        assert_true(llmgwi_store_read(w.store, &txn));
        uint64_t used = llmgwi_store_used_bytes(&txn);
        llmgwi_store_end(&txn, false);
        if (used > most) most = used;
    }
    size_t young = 0; /* victims are drawn: one of the last may be among them */
    for (int i = 1790; i < 1800; i++) {
        snprintf(question, sizeof question, "How do I renew object %d of my list?", i);
        last = unit_ask(question);
        young += exact(&w, &last, &answer);
    }
    assert_true(young >= 5);
    assert_true(exact(&w, &dear, &answer)); /* used and small: it outlives them all */
    assert_true(most <= (uint64_t)4 << 20);
    world_flush(&w);
    cachecheck_sum sum = cachecheck(w.store);
    print_message("%zu entries stay, at most %llu bytes\n", sum.entries, (unsigned long long)most);
    assert_true(sum.entries > 100 && sum.entries < 3000);
    assert_int_equal(w.cache->all->stored[LLMGWI_CACHE_N_DROPPED], 0);
    free(text);
    world_end(&w);
}

/* The queue has a cap: what is over it is dropped and counted. */
static void test_queue(void **state) {
    (void)state;
    world w;
    char question[64];
    world_begin(&w);
    for (int i = 0; i < LLMGWI_CACHE_OPS + 20; i++) {
        snprintf(question, sizeof question, "q%d", i);
        llmgw_request r = unit_ask(question);
        assert_int_equal(put(&w, &r, "a") > 0, i < LLMGWI_CACHE_OPS);
    }
    world_turn(&w);
    world_flush(&w);
    assert_int_equal(cachecheck(w.store).entries, LLMGWI_CACHE_OPS);
    assert_int_equal(w.cache->all->stored[LLMGWI_CACHE_N_DROPPED], 20);
    world_end(&w);
}

/* ---- removal, export, import ---- */

static void test_remove(void **state) {
    (void)state;
    world w;
    llmgwi_cache_answer answer;
    llmgw_cache_filter filter;
    llmgwi_cache_look look;
    char question[64];
    world_begin(&w);
    for (int i = 0; i < 300; i++) {
        snprintf(question, sizeof question, "q%d", i);
        llmgw_request r = unit_ask(question);
        r.cache_namespace = i % 2 ? "odd" : NULL;
        r.model = i % 3 ? "m" : "n";
        put(&w, &r, "a");
        if (i % 100 == 99) world_flush(&w);
    }
    llmgw_request waits = unit_ask("waits"), one = unit_ask("q4");
    waits.cache_namespace = "odd";
    put(&w, &waits, "a");
    memset(&filter, 0, sizeof filter);
    filter.cache_namespace = "odd";
    assert_int_equal(llmgwi_cache_remove(w.cache, &filter, NULL), 151);
    world_flush(&w);
    assert_false(exact(&w, &waits, &answer));
    assert_int_equal(cachecheck(w.store).entries, 150);
    filter.cache_namespace = NULL;
    filter.model = "n";
    assert_int_equal(llmgwi_cache_remove(w.cache, &filter, NULL), 50);
    filter.model = NULL;
    filter.answered_by = "another";
    assert_int_equal(llmgwi_cache_remove(w.cache, &filter, NULL), 0);
    filter.answered_by = NULL;
    filter.older_s = 10;
    assert_int_equal(llmgwi_cache_remove(w.cache, &filter, NULL), 0);
    memset(&filter, 0, sizeof filter);
    assert_true(exact(&w, &one, &answer));
    look_begin(&w, &look, &one);
    assert_int_equal(llmgwi_cache_remove(w.cache, &filter, &look.form), 1);
    assert_int_equal(llmgwi_cache_remove(w.cache, &filter, &look.form), 0);
    llmgwi_cache_look_free(w.cache, &look);
    assert_false(exact(&w, &one, &answer));
    filter.answered_by = "gpt-4o-mini-2024";
    assert_int_equal(llmgwi_cache_remove(w.cache, &filter, NULL), 99);
    assert_int_equal(cachecheck(w.store).entries, 0);
    world_end(&w);
}

static bool on_line(const char *line, size_t n, void *user) {
    world *w = (world *)user;
    llmgw_error error;
    json_error_t why;
    json_t *json = json_loadb(line, n, JSON_REJECT_DUPLICATES, &why);
    if (!json) fail_msg("%s in %.*s", why.text, (int)n, line);
    json_decref(json);
    llmgw_code code = llmgwi_cache_import(w->cache, line, n, &error);
    if (code == LLMGW_E_LIMIT) {
        world_flush(w);
        code = llmgwi_cache_import(w->cache, line, n, &error);
    }
    if (code) fail_msg("%s", error.text);
    for (size_t at = 0; at < n; at += 1 + n / 40) { /* a line cut off is refused */
        assert_int_equal(llmgwi_cache_import(w->cache, line, at, &error), LLMGW_E_ARGUMENT);
        assert_true(error.text[0] != 0);
    }
    return true;
}

/* A store is carried over to another: it answers the same from the first request on. */
static void test_export(void **state) {
    (void)state;
    world w, x;
    world_begin(&w);
    world_begin(&x);
    drive(&w, 1200, NULL);
    world_flush(&w);
    cachecheck_sum before = cachecheck(w.store);
    int64_t lines = llmgwi_cache_export(w.cache, NULL, NULL, on_line, &x);
    assert_true(lines > (int64_t)before.entries + 1);
    world_flush(&x);
    cachecheck_sum after = cachecheck(x.store);
    assert_int_equal(after.entries, before.entries);
    assert_int_equal(after.classes, before.classes);
    assert_int_equal(evidence_of(&x, LLMGWI_CALIBRATE_REQUESTS), evidence_of(&w, LLMGWI_CALIBRATE_REQUESTS));
    assert_true(drive(&x, 200, NULL).semantic > 20);
    assert_int_equal(llmgwi_cache_export(w.cache, NULL, NULL, on_line, &x),
                     lines); /* again: nothing changes */
    world_flush(&x);
    world_end(&w);
    world_end(&x);
}

/* ---- several at once ---- */

/* Two gateways of one process: what one has added the other knows, and nothing is counted twice. */
static void test_two_gateways(void **state) {
    (void)state;
    world w;
    world_begin(&w);
    llmgwi_cache *one = w.cache, *two = llmgwi_cache_open(&unit_mem, &w.clock, w.store, &w.options, 50000);
    for (int i = 0; i < 40; i++) {
        w.cache = i % 2 ? one : two;
        drive(&w, 40, NULL);
    }
    w.cache = one;
    world_flush(&w);
    w.cache = two;
    world_flush(&w);
    assert_int_equal(numbers(&w).requests, 1600);
    assert_int_equal(evidence_of(&w, LLMGWI_CALIBRATE_REQUESTS), numbers(&w).fuzzy_requests);
    assert_true(numbers(&w).semantic_hits > 50);
    w.cache = one;
    assert_int_equal(numbers(&w).requests, 1600);
    assert_int_equal(evidence_of(&w, LLMGWI_CALIBRATE_REQUESTS), numbers(&w).fuzzy_requests);
    llmgwi_cache_close(two, false);
    world_end(&w);
}

/* Two processes: the same. */
static void test_two_processes(void **state) {
    (void)state;
    world w;
    int status;
    world_begin(&w);
    world_shut(&w);
    pid_t child = fork();
    assert_true(child >= 0);
    w.seed = child ? 1 : 99;
    world_open(&w);
    for (int i = 0; i < 40; i++) {
        drive(&w, 20, NULL);
        (void)llmgwi_cache_duty(w.cache, 1000, true);
    }
    if (!child) {
        world_shut(&w);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    world_flush(&w);
    assert_int_equal(numbers(&w).requests, 1600);
    assert_int_equal(evidence_of(&w, LLMGWI_CALIBRATE_REQUESTS), numbers(&w).fuzzy_requests);
    assert_int_equal(evidence_of(&w, LLMGWI_CALIBRATE_PENDING), 0);
    world_end(&w);
}

typedef struct crew {
    world *w;
    int id, hits;
} crew;

static int crew_rounds(void) { return getenv("LLMGW_SANITIZED") ? 150 : 1000; }

static void *crew_run(void *user) {
    crew *c = (crew *)user;
    llmgwi_base_arena arena;
    llmgwi_cache_answer answer;
    char question[64];
    llmgwi_base_arena_init(&arena, &unit_mem);
    for (int i = 0; i < crew_rounds(); i++) {
        llmgwi_cache_look look;
        snprintf(question, sizeof question, "How do I renew my %s please?", subjects[i % 16]);
        llmgw_request r = unit_ask(question);
        memset(&look, 0, sizeof look);
        if (!llmgwi_cache_look_init(c->w->cache, &look, &r, "m", 0)) break;
        bool hit = llmgwi_cache_exact(c->w->cache, &look, &arena, &answer) ||
                   llmgwi_cache_fuzzy(c->w->cache, &look, NULL, 0, (uint64_t)i << 40, &arena, &answer);
        c->hits += hit;
        if (hit && !strstr(answer.text.p, subjects[i % 16])) c->hits = -100000;
        if (!hit) {
            char truth[64];
            snprintf(truth, sizeof truth, "See %s desk", subjects[i % 16]);
            answer = answer_of(truth);
            (void)llmgwi_cache_put(c->w->cache, &look, &answer);
        }
        llmgwi_cache_look_free(c->w->cache, &look);
        llmgwi_base_arena_free(&arena);
        if (c->id == 0) (void)llmgwi_cache_duty(c->w->cache, 100, i % 2 == 0);
    }
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    world w;
    pthread_t threads[6];
    crew crews[6];
    world_begin(&w);
    for (int i = 0; i < 6; i++) {
        crews[i].w = &w;
        crews[i].id = i;
        crews[i].hits = 0;
        assert_int_equal(pthread_create(&threads[i], NULL, crew_run, &crews[i]), 0);
    }
    for (int i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
        assert_true(crews[i].hits > 0);
    }
    world_flush(&w);
    llmgw_cache_numbers n = numbers(&w);
    assert_int_equal(n.requests, 6 * crew_rounds());
    assert_int_equal(n.entries, 16);
    world_end(&w);
}

/* ---- a store that fails ---- */

/* Everything that a cache does, in short; any answer that comes must be right. */
static void live(world *w) {
    static const char *const asks[] = {"How do I renew my dentist?", "Where is the bicycle?",
                                       "How do I renew my dentist here?"};
    for (int i = 0; i < 9; i++) {
        llmgwi_cache_look look;
        llmgwi_cache_answer answer;
        llmgw_request r = unit_ask(asks[i % 3]);
        const char *truth = i % 3 == 1 ? "In the yard" : "Desk 4";
        memset(&look, 0, sizeof look);
        assert_true(llmgwi_cache_look_init(w->cache, &look, &r, "m", 0));
        bool hit = llmgwi_cache_exact(w->cache, &look, &w->arena, &answer) ||
                   llmgwi_cache_fuzzy(w->cache, &look, NULL, 0, 0, &w->arena, &answer);
        if (hit) is_text(answer.text, truth);
        if (!hit) {
            answer = answer_of(truth);
            (void)llmgwi_cache_put(w->cache, &look, &answer);
        }
        (void)llmgwi_cache_feedback(w->cache, look.cached.entry, i != 4);
        llmgwi_cache_look_free(w->cache, &look);
        llmgwi_base_arena_free(&w->arena);
        llmgwi_cache_sample sample;
        if (llmgwi_cache_sample_next(w->cache, &sample)) {
            answer = answer_of("Another desk");
            llmgwi_cache_sample_done(w->cache, &sample, i % 2 ? &answer : NULL, false);
        }
        w->now_us += 60000;
        (void)llmgwi_cache_duty(w->cache, 1000, false);
        (void)numbers(w);
    }
    (void)llmgwi_cache_duty(w->cache, 1000, true);
}

/* Every call of LMDB fails in turn, once and from then on: never a wrong answer, never a crash, and what is in the
   file afterwards agrees with itself. */
static void test_failing_store(void **state) {
    (void)state;
    static const int codes[] = {EIO, ENOSPC, MDB_MAP_FULL, MDB_CORRUPTED};
    /* opening is most of the time: many first calls, then fewer and fewer; LLMGW_LONG: nearly all */
    bool is_long = getenv("LLMGW_LONG") != NULL;
    for (int at = 1; at < 1 << 20; at += is_long ? (at < 150 ? 1 : 7) : 5 + at / 12) {
        world w;
        world_begin(&w);
        world_shut(&w);
        w.options.similarity = at % 2 ? llmgw_set(.6) : w.options.similarity;
        world_open(&w);
        set_fault(NULL, codes[at / 3 % 4], at, at / 12 % 2);
        live(&w);
        bool ended = fault_seen < at;
        no_fault();
        llmgwi_cache_close(w.cache, false);
        llmgwi_store_close(w.store, false);
        world_open(&w);
        world_end(&w);
        if (ended) break;
    }
}

/* Wordings are seen through once enough answers were heard; contradictions and other answers are not. */
static void test_wordings(void **state) {
    static const char *const forms[] = {"This is about the %s.",
                                        "You are asking about the %s; a colleague looks after it.",
                                        "Topic: %s. Please have a look at the instructions in the app."};
    static const char *const topics[] = {"arrival",   "refund",    "limit",    "currency",  "passcode",
                                         "receipt",   "voucher",   "branch",   "salary",    "mortgage",
                                         "deposit",   "cheque",    "transfer", "overdraft", "signature",
                                         "insurance", "statement", "terminal", "contract",  "interest"};
    char texts[20][3][128];
    world w;
    world_begin(&w);
    for (int i = 0; i < 20; i++)
        for (int k = 0; k < 3; k++) snprintf(texts[i][k], sizeof texts[i][k], forms[k], topics[i]);
    for (int heard = 0; heard <= 600; heard += 600) {
        for (int n = 0; n < heard; n++)
            llmgwi_cache_hear(w.cache, llmgwi_base_cstr(texts[n % 20][n / 20 % 3]));
        for (int i = 0; i < 20; i++)
            for (int k = 1; k < 3; k++) {
                llmgwi_base_str one = llmgwi_base_cstr(texts[i][0]), two = llmgwi_base_cstr(texts[i][k]);
                assert_int_equal(llmgwi_cache_compare(w.cache, one, two),
                                 heard ? LLMGWI_CACHE_SAME : LLMGWI_CACHE_DIFFERENT);
                two = llmgwi_base_cstr(texts[(i + 1) % 20][k]);
                assert_int_equal(llmgwi_cache_compare(w.cache, one, two), LLMGWI_CACHE_DIFFERENT);
            }
    }
    assert_int_equal(llmgwi_cache_compare(w.cache, llmgwi_base_cstr("This is about the arrival in 5 days."),
                                          llmgwi_base_cstr("This is about the arrival in 7 days.")),
                     LLMGWI_CACHE_DIFFERENT);
    for (int n = 0; n < 600; n++) llmgwi_cache_hear(w.cache, llmgwi_base_cstr("This is not about that."));
    assert_int_equal(llmgwi_cache_compare(w.cache, llmgwi_base_cstr("This is about the arrival."),
                                          llmgwi_base_cstr("This is not about the arrival.")),
                     LLMGWI_CACHE_DIFFERENT);
    world_end(&w);
}

/* One text is one class in a scope, also as JSON, however far the questions are apart. */
static void test_class_of_a_text(void **state) {
    unsigned char here[16] = {1}, there[16] = {2};
    world w;
    world_begin(&w);
    uint64_t number = llmgwi_cache_class_number(w.cache, here, llmgwi_base_cstr("Press reset."));
    assert_true(number != 0);
    assert_true(number == llmgwi_cache_class_number(w.cache, here, llmgwi_base_cstr(" press  RESET")));
    assert_true(number != llmgwi_cache_class_number(w.cache, there, llmgwi_base_cstr("Press reset.")));
    assert_true(number != llmgwi_cache_class_number(w.cache, here, llmgwi_base_cstr("Press start.")));
    assert_true(llmgwi_cache_class_number(w.cache, here, llmgwi_base_cstr("{\"a\":1,\"b\":2}")) ==
                llmgwi_cache_class_number(w.cache, here, llmgwi_base_cstr("{ \"b\": 2, \"a\": 1 }")));
    assert_true(llmgwi_cache_class_number(w.cache, here, llmgwi_base_cstr(".")) !=
                llmgwi_cache_class_number(w.cache, here, llmgwi_base_cstr("!")));
    world_end(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_reopen),
        cmocka_unit_test(test_namespaces),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_fuzzy),
        cmocka_unit_test(test_vetoes),
        cmocka_unit_test(test_untaught),
        cmocka_unit_test(test_scope_begins),
        cmocka_unit_test(test_scope_waits),
        cmocka_unit_test(test_stricter),
        cmocka_unit_test(test_fixed),
        cmocka_unit_test(test_no_budget),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_drift),
        cmocka_unit_test(test_strict),
        cmocka_unit_test(test_purge),
        cmocka_unit_test(test_feedback),
        cmocka_unit_test(test_feedback_fuzzy),
        cmocka_unit_test(test_sameness),
        cmocka_unit_test(test_judge),
        cmocka_unit_test(test_judge_budget),
        cmocka_unit_test(test_day_shared),
        cmocka_unit_test(test_samples_survive),
        cmocka_unit_test(test_samples_lease),
        cmocka_unit_test(test_samples_wait),
        cmocka_unit_test(test_sample_wrong),
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_eviction),
        cmocka_unit_test(test_queue),
        cmocka_unit_test(test_remove),
        cmocka_unit_test(test_export),
        cmocka_unit_test(test_two_gateways),
        cmocka_unit_test(test_two_processes),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_failing_store),
        cmocka_unit_test(test_wordings),
        cmocka_unit_test(test_class_of_a_text),
    };
    if (getenv("ONE")) cmocka_set_test_filter(getenv("ONE"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
