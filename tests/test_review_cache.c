/* What a review of the cache and of its calls found: each test failed before its repair. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"
#include "group.h"
#include <sys/stat.h>
#include <sys/wait.h>

static char dir[64];

static int reset(void **state) {
    provider_reset(&provider);
    strcpy(dir, "/tmp/llmgw-review-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return 0;
}

static int clean(void **state) {
    t_remove_tree(dir);
    return 0;
}

/* "p" is m of the fake provider, with a price. */
static llmgw_options cached(void) {
    static llmgw_model priced;
    llmgw_options options = t_calm();
    priced.name = "p";
    priced.provider = "openai";
    priced.model = "m";
    priced.price.input = priced.price.output = llmgw_set(1.0);
    options.models = &priced;
    options.model_count = 1;
    options.store.path = dir;
    options.store.no_sync = true;
    options.store.commit_ms = LLMGW_OFF;
    options.cache.on = true;
    return options;
}

static llmgw *open_cached(void) {
    llmgw_options options = cached();
    return t_open(&provider, &options);
}

static llmgw_request ask(const char *model, const char *prompt) {
    llmgw_request request;
    memset(&request, 0, sizeof request);
    request.model = model;
    request.prompt = prompt;
    return request;
}

static void expect(llmgw *gw, const llmgw_request *request, llmgw_verdict verdict) {
    llmgw_reply *reply = llmgw_chat(gw, request);
    t_expect_code(reply, LLMGW_OK);
    if (reply->cached.verdict != verdict)
        fail_msg("expected %s, got %s (%s)", llmgw_verdict_name(verdict),
                 llmgw_verdict_name(reply->cached.verdict), reply->cached.reason);
    llmgw_reply_free(reply);
}

/* A thread that must end; a test that waits for ever would tell nothing. */
static void *join_within(pthread_t thread, int ms) {
    struct timespec until;
    void *result = NULL;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ms / 1000;
    if (pthread_timedjoin_np(thread, &result, &until)) {
        fprintf(stderr, "a thread hangs\n");
        abort();
    }
    return result;
}

/* ---- who drives while the cache answers ---- */

static llmgw *hits_gw;
static bool hits_stop;

/* Each hit asks the next: there is always an event to deliver. */
static void hits_again(Rec *rec, const llmgw_event *event) {
    if (event->kind != LLMGW_EVENT_END || hits_stop) return;
    llmgw_reply_free(rec->reply);
    rec->reply = NULL;
    llmgw_request request = rec_request(rec, "openai/m", "hit", false);
    (void)llmgw_send(event->gateway, &request, NULL);
}

/* Law 1: calls that wait for a provider end in time while a poll finds a hit to deliver each time. */
static void hits_do_not_starve_others(void **state) {
    llmgw *gw = open_cached();
    llmgw_request plain = ask("openai/m", "hit");
    expect(gw, &plain, LLMGW_VERDICT_MISS);
    provider_rule(&provider, "{\"model\":\"*\",\"never\":true}");
    Rec slow, hits;
    memset(&slow, 0, sizeof slow);
    memset(&hits, 0, sizeof hits);
    llmgw_request request = rec_request(&slow, "openai/m", "slow", false);
    request.deadline_ms = 200;
    rec_send(gw, &slow, &request);
    hits.hook = hits_again;
    hits_stop = false;
    request = rec_request(&hits, "openai/m", "hit", false);
    rec_send(gw, &hits, &request);
    int64_t until = t_now_ms() + 1500;
    while (!slow.ends && t_now_ms() < until) (void)llmgw_poll(gw, 100);
    hits_stop = true;
    assert_int_equal(slow.ends, 1);
    assert_true(hits.ends > 10);
    t_expect_code(slow.reply, LLMGW_E_DEADLINE);
    while (llmgw_poll(gw, 0) > 0) continue;
    rec_free(&slow);
    rec_free(&hits);
    llmgw_close(gw);
}

static void *poll_main(void *arg) {
    while (!__atomic_load_n(&hits_stop, __ATOMIC_ACQUIRE)) (void)llmgw_poll(hits_gw, 5000);
    return NULL;
}

/* A hit that one thread sends is delivered by another that sleeps in llmgw_poll. */
static void a_hit_wakes_who_polls(void **state) {
    llmgw *gw = hits_gw = open_cached();
    llmgw_request plain = ask("openai/m", "hit");
    expect(gw, &plain, LLMGW_VERDICT_MISS);
    pthread_t thread;
    hits_stop = false;
    assert_int_equal(pthread_create(&thread, NULL, poll_main, NULL), 0);
    t_sleep_ms(200);
    Rec rec;
    memset(&rec, 0, sizeof rec);
    llmgw_request request = rec_request(&rec, "openai/m", "hit", false);
    rec_send(gw, &rec, &request);
    int64_t until = t_now_ms() + 1500;
    while (!rec_ended(&rec, 1) && t_now_ms() < until) t_sleep_ms(5);
    int ended = rec_ended(&rec, 1);
    __atomic_store_n(&hits_stop, true, __ATOMIC_RELEASE);
    llmgw_wake(gw);
    (void)join_within(thread, 10000);
    assert_int_equal(ended, 1);
    rec_free(&rec);
    llmgw_close(gw);
}

/* ---- evidence, made once ---- */

static char *warm_lines[1024];
static int warm_count;

static bool warm_line(const char *line, size_t len, void *user) {
    if (warm_count == (int)COUNT_OF(warm_lines)) return false;
    warm_lines[warm_count] = (char *)malloc(len + 1);
    memcpy(warm_lines[warm_count], line, len);
    warm_lines[warm_count++][len] = 0;
    return true;
}

static const char *warm_prompt(int i) {
    static const char *const words[] = {"dear",    "friend", "listen", "well",  "simply",
                                        "quickly", "again",  "kind",   "folks", "team"};
    static __thread char prompt[160];
    snprintf(prompt, sizeof prompt, "%s how do I reset the password of my account %s %s", words[i % 10],
             words[i / 10 % 10], words[i / 100 % 10]);
    return prompt;
}

static llmgw_options fuzzy(void) {
    llmgw_options options = cached();
    options.cache.semantic = true;
    options.cache.max_error = llmgw_set(0.1);
    return options;
}

/* Into an open gateway, whose store is empty: what lets fuzzy hits begin. */
static void warm(llmgw *gw) {
    if (!warm_count) {
        provider_rule(&provider, "{\"model\":\"*\",\"text\":\"Go to settings and press reset.\"}");
        for (int i = 0; i < 198; i++) {
            llmgw_request request = ask("p", warm_prompt(i));
            llmgw_reply_free(llmgw_chat(gw, &request));
        }
        assert_int_equal(llmgw_drain(gw, 10000), LLMGW_OK);
        assert_true(llmgw_cache_export(gw, NULL, warm_line, NULL) > 198);
        provider_reset(&provider);
        return;
    }
    for (int i = 0; i < warm_count; i++) {
        if (i % 100 == 99) assert_int_equal(llmgw_flush(gw), LLMGW_OK);
        assert_int_equal(llmgw_cache_import(gw, warm_lines[i], strlen(warm_lines[i]), NULL), LLMGW_OK);
    }
    assert_int_equal(llmgw_flush(gw), LLMGW_OK);
}

/* Asks until a hit has been drawn to be asked again. Returns how many semantic hits there were. */
static int until_sampled(llmgw *gw) {
    llmgw_cache_numbers numbers;
    int semantic = 0;
    for (int i = 198; i < 500; i++) {
        llmgw_request request = ask("p", warm_prompt(i));
        request.deadline_ms = 300; /* not of the sample */
        llmgw_reply *reply = llmgw_chat(gw, &request);
        semantic += reply->cached.verdict == LLMGW_VERDICT_SEMANTIC;
        llmgw_reply_free(reply);
        assert_int_equal(llmgw_cache_stats(gw, NULL, &numbers), LLMGW_OK);
        if (numbers.pending_samples + numbers.revalidations + numbers.failed_samples) return semantic;
    }
    fail_msg("no sample after %d semantic hits", semantic);
    return 0;
}

static llmgw_cache_numbers stats(llmgw *gw) {
    llmgw_cache_numbers numbers;
    assert_int_equal(llmgw_cache_stats(gw, NULL, &numbers), LLMGW_OK);
    return numbers;
}

/* The thread of our own asks again what was drawn, also when it sleeps while the hit is served. */
static void a_thread_of_ours_revalidates(void **state) {
    llmgw_options options = fuzzy();
    options.background_thread = true;
    llmgw *gw = t_open(&provider, &options);
    warm(gw);
    t_sleep_ms(200);
    provider_rule(&provider, "{\"model\":\"*\",\"text\":\"Go to settings and press reset.\"}");
    (void)until_sampled(gw);
    int64_t until = t_now_ms() + 2000;
    while (!stats(gw).revalidations && t_now_ms() < until) t_sleep_ms(10);
    assert_true(stats(gw).revalidations >= 1);
    assert_int_equal(llmgw_drain(gw, 3000), LLMGW_OK);
    assert_int_equal(stats(gw).pending_samples, 0);
    llmgw_close(gw);
}

static void *drain_main(void *arg) { return (void *)(intptr_t)llmgw_drain((llmgw *)arg, LLMGW_OFF); }
static void *close_main(void *arg) { return (void *)(intptr_t)llmgw_close((llmgw *)arg); }

/* llmgw_close waits for whoever is inside: what drains must leave. */
static void close_ends_a_drain(void **state) {
    llmgw_options options = fuzzy();
    llmgw *gw = t_open(&provider, &options);
    warm(gw);
    provider_rule(&provider, "{\"model\":\"*\",\"never\":true}");
    (void)until_sampled(gw);
    pthread_t drains, closes;
    assert_int_equal(pthread_create(&drains, NULL, drain_main, gw), 0);
    t_sleep_ms(200);
    assert_int_equal(pthread_create(&closes, NULL, close_main, gw), 0);
    (void)join_within(drains, 5000);
    (void)join_within(closes, 5000);
}

/* ---- what samples cost ---- */

/* A sample whose answer says nothing was paid, too, and is not asked for again and again. */
static void a_useless_sample_is_paid(void **state) {
    llmgw_options options = fuzzy();
    llmgw *gw = t_open(&provider, &options);
    warm(gw);
    provider_rule(&provider, "{\"model\":\"*\",\"finish\":\"length\",\"text\":\"Go to\"}");
    (void)until_sampled(gw);
    (void)llmgw_drain(gw, 3000);
    llmgw_cache_numbers numbers = stats(gw);
    assert_true(numbers.failed_samples >= 1);
    assert_int_equal(numbers.pending_samples, 0);
    assert_true(numbers.revalidation_cost.pico_usd > 0);
    llmgw_close(gw);
}

/* Nor is one whose answers do not pass the route's check: each try is paid. */
static void an_invalid_sample_is_not_tried_for_ever(void **state) {
    static const char *const targets[] = {"p"};
    static llmgw_route route;
    llmgw_options options = fuzzy();
    route.name = "r";
    route.targets = targets;
    route.target_count = 1;
    route.valid = LLMGW_VALID_NOT_REFUSED;
    options.routes = &route;
    options.route_count = 1;
    options.max_attempts = 1;
    llmgw *gw = t_open(&provider, &options);
    provider_rule(&provider, "{\"model\":\"*\",\"text\":\"Go to settings and press reset.\"}");
    for (int i = 0; i < 198; i++) {
        llmgw_request request = ask("r", warm_prompt(i));
        llmgw_reply_free(llmgw_chat(gw, &request));
    }
    provider_reset(&provider);
    provider_rule(&provider, "{\"model\":\"*\",\"refusal\":\"I will not.\"}");
    for (int i = 198; i < 500 && !stats(gw).pending_samples && !stats(gw).failed_samples; i++) {
        llmgw_request request = ask("r", warm_prompt(i));
        llmgw_reply_free(llmgw_chat(gw, &request));
    }
    (void)llmgw_poll(gw, 300);
    int before = provider_count(&provider, "requests");
    (void)llmgw_drain(gw, 1500);
    assert_true(provider_count(&provider, "requests") - before <= 1);
    assert_true(stats(gw).revalidation_cost.pico_usd > 0);
    llmgw_close(gw);
}

/* ---- calls that share an answer ---- */

/* Law 10: who was shown the beginning of an answer is not given another one. */
static void a_stale_answer_does_not_follow_a_fresh_one(void **state) {
    llmgw_options options = cached();
    options.cache.ttl_s = 1;
    llmgw *gw = t_open(&provider, &options);
    llmgw_request plain = ask("openai/m", "Stale?");
    expect(gw, &plain, LLMGW_VERDICT_MISS);
    t_sleep_ms(1100);
    provider_rule(&provider, "{\"model\":\"*\",\"chunk_ms\":50,\"text\":\"abcdefgh \",\"text_repeat\":40}");
    Rec recs[2];
    memset(recs, 0, sizeof recs);
    for (int i = 0; i < 2; i++) {
        llmgw_request request = rec_request(&recs[i], "openai/m", "Stale?", true);
        request.cache = LLMGW_CACHE_STALE;
        request.deadline_ms = i ? 800 : 20000;
        rec_send(gw, &recs[i], &request);
    }
    assert_true(rec_drive(gw, &recs[1], 1, 5000));
    assert_true(recs[1].text.n > 9);
    t_expect_code(recs[1].reply, LLMGW_E_DEADLINE);
    assert_int_equal(recs[1].text.n, recs[1].reply->text_len);
    llmgw_cancel(gw, recs[0].call);
    assert_true(rec_drive(gw, recs, 1, 5000));
    for (int i = 0; i < 2; i++) rec_free(&recs[i]);
    llmgw_close(gw);
}

/* Calls with other limits are no company: one attempt is not the budget of two. */
static void another_budget_is_another_flight(void **state) {
    llmgw *gw = open_cached();
    provider_rule(&provider, "{\"model\":\"*\",\"times\":1,\"delay_ms\":300,\"status\":503}");
    Rec recs[2];
    memset(recs, 0, sizeof recs);
    for (int i = 0; i < 2; i++) {
        llmgw_request request = rec_request(&recs[i], "openai/m", "Budget", false);
        request.max_attempts = i + 1;
        rec_send(gw, &recs[i], &request);
        (void)llmgw_poll(gw, 50);
    }
    assert_true(rec_drive(gw, recs, 2, 10000));
    t_expect_code(recs[1].reply, LLMGW_OK);
    for (int i = 0; i < 2; i++) {
        rec_check(&recs[i]);
        rec_free(&recs[i]);
    }
    llmgw_close(gw);
}

static void *plain_main(void *arg) {
    llmgw_request request = ask("openai/m", "Tries");
    llmgw_reply *reply = llmgw_chat((llmgw *)arg, &request);
    bool good = reply->error.code == LLMGW_OK;
    llmgw_reply_free(reply);
    return good ? arg : NULL;
}

/* Who joins one that wants no events gets the attempts all the same. */
static void the_attempts_are_told_to_who_joins(void **state) {
    llmgw *gw = open_cached();
    provider_rule(&provider, "{\"model\":\"*\",\"delay_ms\":400}");
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, plain_main, gw), 0);
    assert_true(provider_wait(&provider, "requests", 1, 3000));
    Rec rec;
    memset(&rec, 0, sizeof rec);
    llmgw_request request = rec_request(&rec, "openai/m", "Tries", false);
    (void)rec_chat(gw, &rec, &request); /* checks that each attempt in the trace was told */
    assert_int_equal(rec.reply->cached.verdict, LLMGW_VERDICT_JOINED);
    assert_non_null(join_within(thread, 5000));
    rec_free(&rec);
    llmgw_close(gw);
}

/* What is kept of a stream for those who come late does not count against the caps. */
static void a_long_stream_of_small_events(void **state) {
    llmgw_options options = cached();
    options.max_reply_bytes = 200000;
    options.max_event_bytes = 4096;
    options.max_queue_bytes = 65536;
    llmgw *gw = t_open(&provider, &options);
    provider_rule(&provider,
                  "{\"model\":\"*\",\"chunk_chars\":2,\"text\":\"0123456789\",\"text_repeat\":4000}");
    Rec rec;
    memset(&rec, 0, sizeof rec);
    llmgw_request request = rec_request(&rec, "openai/m", "Long", true);
    rec_send(gw, &rec, &request);
    assert_true(rec_drive(gw, &rec, 1, 20000));
    t_expect_code(rec.reply, LLMGW_OK);
    rec_check(&rec);
    rec_free(&rec);
    llmgw_close(gw);
}

static void *chat_main(void *arg) {
    Rec *rec = (Rec *)arg;
    llmgw_request request = rec_request(rec, "openai/m", "Slow", true);
    llmgw_reply_free(llmgw_chat(hits_gw, &request));
    return arg;
}

/* One who does not read costs the others nothing, and gets it all in the end. */
static void one_who_does_not_read(void **state) {
    llmgw_options options = cached();
    options.max_reply_bytes = 200000;
    options.max_event_bytes = 4096;
    options.max_queue_bytes = 65536;
    llmgw *gw = hits_gw = t_open(&provider, &options);
    provider_rule(&provider, "{\"model\":\"*\",\"first_token_delay_ms\":200,\"chunk_chars\":2,"
                             "\"text\":\"0123456789\",\"text_repeat\":4000}");
    Rec recs[2];
    memset(recs, 0, sizeof recs);
    llmgw_request request = rec_request(&recs[0], "openai/m", "Slow", true);
    rec_send(gw, &recs[0], &request);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, chat_main, &recs[1]), 0);
    assert_non_null(join_within(thread, 20000));
    assert_int_equal(recs[0].events, 0);
    assert_true(rec_drive(gw, recs, 1, 5000));
    for (int i = 0; i < 2; i++) {
        t_expect_code(recs[i].reply, LLMGW_OK);
        rec_check(&recs[i]);
        rec_free(&recs[i]);
    }
    assert_int_equal(provider_count(&provider, "requests"), 1);
    llmgw_close(gw);
}

/* ---- the caller's own functions ---- */

static bool says_no(const llmgw_reply *reply, void *user) {
    ++*(int *)user;
    return strstr(reply->text, "fresh") != NULL;
}

/* Whatever the cache answers with must pass the caller's check: also after a question's vector came, also when it
   is old. */
static void every_hit_must_pass_the_check(void **state) {
    llmgw_options options = cached();
    int checks = 0;
    options.cache.semantic = true;
    options.cache.similarity = llmgw_set(0.6);
    options.cache.embed_model = "openai/embed";
    options.cache.ttl_s = 1;
    llmgw *gw = t_open(&provider, &options);
    provider_model_rule(&provider, "m", "\"times\":1,\"text\":\"bad\"");
    llmgw_request request = ask("openai/m", "How do I reset the password of my account?");
    expect(gw, &request, LLMGW_VERDICT_MISS);
    provider_reset(&provider);
    provider_model_rule(&provider, "m", "\"text\":\"fresh\"");
    llmgw_request checked = ask("openai/m", "How can I reset my account password");
    checked.is_valid = says_no;
    checked.user = &checks;
    llmgw_reply *reply = llmgw_chat(gw, &checked);
    t_expect_code(reply, LLMGW_OK);
    assert_string_equal(reply->text, "fresh");
    assert_int_equal(reply->cached.verdict, LLMGW_VERDICT_MISS);
    llmgw_reply_free(reply);
    t_sleep_ms(1100);
    provider_reset(&provider);
    provider_model_rule(&provider, "m", "\"status\":503");
    request.is_valid = says_no;
    request.user = &checks;
    request.cache = LLMGW_CACHE_STALE;
    reply = llmgw_chat(gw, &request);
    t_expect_code(reply, LLMGW_E_OVERLOADED);
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

/* A stale reply tells of the attempts that failed, and nothing of what they said. */
static void a_stale_reply_is_the_old_answer_alone(void **state) {
    llmgw_options options = cached();
    options.cache.ttl_s = 1;
    options.max_attempts = 2;
    llmgw *gw = t_open(&provider, &options);
    llmgw_request request = ask("p", "Refused later");
    request.cache = LLMGW_CACHE_STALE;
    request.valid = LLMGW_VALID_NOT_REFUSED;
    expect(gw, &request, LLMGW_VERDICT_MISS);
    t_sleep_ms(1100);
    provider_rule(&provider, "{\"model\":\"*\",\"refusal\":\"I will not.\"}");
    for (int alone = 0; alone < 2; alone++) {
        int checks = 0;
        request.user = &checks;
        request.is_valid = alone ? says_no : NULL; /* then it flies alone; it passes nothing but "fresh" */
        llmgw_reply *reply = llmgw_chat(gw, &request);
        assert_int_equal(reply->attempts, 2);
        assert_int_equal(reply->trace_count >= 2, 1);
        assert_true(!reply->cost.known || reply->cost.pico_usd > 0);
        if (!alone) {
            t_expect_code(reply, LLMGW_OK);
            assert_int_equal(reply->cached.verdict, LLMGW_VERDICT_STALE);
            assert_null(reply->refusal);
            assert_int_equal(reply->tool_call_count, 0);
        }
        llmgw_reply_free(reply);
    }
    llmgw_close(gw);
}

static llmgw *same_gw;
static int same_calls, same_flush, same_chat;

static bool same_that_calls(const char *a, size_t a_len, const char *b, size_t b_len, void *user) {
    same_calls++;
    same_flush = llmgw_flush(same_gw);
    llmgw_reply *reply = llmgw_ask(same_gw, "openai/m", "inside");
    same_chat = reply->error.code;
    llmgw_reply_free(reply);
    return true;
}

static void *same_main(void *arg) {
    static const char *const prompts[] = {"How do I reset the password of my account?",
                                          "How can I reset my account password"};
    for (int i = 0; i < 2; i++) {
        llmgw_request request = ask("openai/m", prompts[i]);
        llmgw_reply_free(llmgw_chat((llmgw *)arg, &request));
    }
    return NULL;
}

/* options.cache.same runs on the thread that drives: what would wait for it is refused, not waited for. */
static void the_comparison_may_not_wait(void **state) {
    llmgw_options options = fuzzy();
    options.cache.same = same_that_calls;
    llmgw *gw = same_gw = t_open(&provider, &options);
    pthread_t thread;
    same_calls = 0;
    provider_rule(&provider, "{\"model\":\"*\",\"times\":1,\"text\":\"one\"}");
    assert_int_equal(pthread_create(&thread, NULL, same_main, gw), 0);
    (void)join_within(thread, 5000);
    assert_true(same_calls > 0);
    assert_int_equal(same_flush, LLMGW_E_MISUSE);
    assert_int_equal(same_chat, LLMGW_E_MISUSE);
    llmgw_close(gw);
}

/* ---- nobody turns in vain ---- */

static int turns;
static void (*real_poll)(void *self, int wait_ms);
static void counted_poll(void *self, int wait_ms) {
    __atomic_add_fetch(&turns, 1, __ATOMIC_RELAXED);
    real_poll(self, wait_ms);
}

static void an_idle_gateway_sleeps(void **state) {
    llmgw_options options = fuzzy();
    llmgw *gw = hits_gw = t_open(&provider, &options);
    for (int i = 0; i < 5; i++) {
        llmgw_request request = ask("p", warm_prompt(i % 3));
        llmgw_reply_free(llmgw_chat(gw, &request));
    }
    assert_int_equal(llmgw_flush(gw), LLMGW_OK);
    real_poll = gw->http.poll;
    gw->http.poll = counted_poll;
    turns = 0;
    int64_t until = t_now_ms() + 500;
    while (t_now_ms() < until) (void)llmgw_poll(gw, (int)(until - t_now_ms()));
    assert_true(turns <= 8);
    llmgw_close(gw);
}

/* Another process that writes for long costs us no processor. */
static void a_busy_store_is_waited_for_asleep(void **state) {
    llmgw *gw = open_cached();
    llmgwi_store_txn txn;
    assert_true(llmgwi_store_write(gw->store, &txn, true));
    real_poll = gw->http.poll;
    gw->http.poll = counted_poll;
    turns = 0;
    Rec rec;
    memset(&rec, 0, sizeof rec);
    llmgw_request request = rec_request(&rec, "openai/m", "Busy", false);
    rec_send(gw, &rec, &request);
    assert_true(rec_drive(gw, &rec, 1, 5000));
    turns = 0;
    int64_t until = t_now_ms() + 500;
    while (t_now_ms() < until) (void)llmgw_poll(gw, (int)(until - t_now_ms()));
    int turned = turns;
    (void)llmgwi_store_end(&txn, false);
    assert_true(turned <= 400);
    assert_int_equal(llmgw_flush(gw), LLMGW_OK);
    rec_free(&rec);
    llmgw_close(gw);
}

static bool hold_logs;
static int hold_logged;
static void hold_log(const llmgw_log_entry *entry, void *user) {
    if (entry->item != LLMGW_LOG_CALL_FAILED || !__atomic_load_n(&hold_logs, __ATOMIC_ACQUIRE)) return;
    int seen = __atomic_add_fetch(&hold_logged, 1, __ATOMIC_ACQ_REL);
    t_sleep_ms(seen == 1 ? 100 : 300);
}

static void *flush_main(void *arg) { return (void *)(intptr_t)llmgw_flush((llmgw *)arg); }

/* Who flushes while the driver is busy gets its part before the driver goes to sleep. */
static void flush_does_not_wait_for_a_sleeper(void **state) {
    llmgw_options options = cached();
    options.background_thread = true;
    options.log = hold_log;
    hold_logged = 0;
    llmgw *gw = t_open(&provider, &options);
    provider_rule(&provider, "{\"model\":\"*\",\"never\":true}");
    Rec recs[2];
    memset(recs, 0, sizeof recs);
    llmgw_request request = rec_request(&recs[0], "openai/m", "a", false);
    request.deadline_ms = 100;
    request.cache = LLMGW_CACHE_OFF;
    __atomic_store_n(&hold_logs, true, __ATOMIC_RELEASE);
    rec_send(gw, &recs[0], &request);
    while (__atomic_load_n(&hold_logged, __ATOMIC_ACQUIRE) < 1) t_sleep_ms(5);
    request = rec_request(&recs[1], "openai/m", "b", false); /* it is late when the next turn begins */
    request.deadline_ms = 1;
    request.cache = LLMGW_CACHE_OFF;
    rec_send(gw, &recs[1], &request);
    while (__atomic_load_n(&hold_logged, __ATOMIC_ACQUIRE) < 2) t_sleep_ms(5);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, flush_main, gw), 0);
    assert_int_equal((intptr_t)join_within(thread, 3000), LLMGW_OK);
    __atomic_store_n(&hold_logs, false, __ATOMIC_RELEASE);
    assert_true(rec_drive(gw, recs, 2, 3000));
    for (int i = 0; i < 2; i++) rec_free(&recs[i]);
    llmgw_close(gw);
}

static bool keep_none(const char *line, size_t len, void *user) { return true; }

/* ---- many threads, two gateways, one store ---- */

static llmgw *storm_gws[2];
static bool storm_stop;

static void storm_hook(Rec *rec, const llmgw_event *event) {
    if (event->kind == LLMGW_EVENT_TEXT && event->text[0] == 'b') llmgw_cancel(event->gateway, event->call);
}

/* Streams that join each other, hits, calls that leave. */
static void *storm_calls(void *arg) {
    uintptr_t me = (uintptr_t)arg;
    for (unsigned i = 0; !__atomic_load_n(&storm_stop, __ATOMIC_ACQUIRE); i++) {
        llmgw *gw = storm_gws[(i + me) % 2];
        Rec rec;
        memset(&rec, 0, sizeof rec);
        rec.hook = storm_hook;
        llmgw_request request = rec_request(&rec, "p", warm_prompt(0), i % 3 != 0);
        char prompt[200];
        snprintf(prompt, sizeof prompt, "%u %s", i / 4 % 50,
                 i % 5 ? "what is this" : "how do I reset the password");
        request.prompt = prompt;
        if (i % 7 == 0) request.on_event = NULL;
        if (i % 11 == 0) request.deadline_ms = 3;
        if (i % 13 == 0) request.cache = LLMGW_CACHE_REFRESH;
        llmgw_reply *reply = llmgw_chat(gw, &request);
        if (i % 7 && rec.ends != 1) abort();
        if (i % 17 == 0 && reply->cached.entry) (void)llmgw_cache_feedback(gw, reply->cached.entry, i % 2);
        llmgw_reply_free(reply);
        rec_free(&rec);
    }
    return NULL;
}

static void *storm_rest(void *arg) {
    for (unsigned i = 0; !__atomic_load_n(&storm_stop, __ATOMIC_ACQUIRE); i++) {
        llmgw *gw = storm_gws[i % 2];
        llmgw_cache_numbers numbers;
        llmgw_cache_filter filter;
        memset(&filter, 0, sizeof filter);
        filter.model = "nobody";
        (void)llmgw_cache_stats(gw, i % 3 ? NULL : "p", &numbers);
        if (i % 4 == 0) (void)llmgw_flush(gw);
        if (i % 8 == 0) (void)llmgw_drain(gw, 5);
        if (i % 16 == 0) (void)llmgw_cache_remove(gw, &filter);
        if (i % 16 == 8) (void)llmgw_cache_export(gw, NULL, keep_none, NULL);
        (void)llmgw_poll(gw, 1);
    }
    return NULL;
}

/* For thread sanitizer above all: no lock is missing, none is waited for in a circle. */
static void threads_share_two_gateways(void **state) {
    llmgw_options options = fuzzy();
    options.store.commit_ms = 1;
    provider_rule(&provider, "{\"model\":\"*\",\"chunk_ms\":2,\"text\":\"a b \",\"text_repeat\":3}");
    for (int i = 0; i < 2; i++) {
        options.background_thread = i == 0;
        storm_gws[i] = t_open(&provider, &options);
    }
    pthread_t threads[5];
    storm_stop = false;
    for (int i = 0; i < 5; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, i ? storm_calls : storm_rest, (void *)(intptr_t)i),
                         0);
    t_sleep_ms(t_slow() ? 3000 : 700);
    __atomic_store_n(&storm_stop, true, __ATOMIC_RELEASE);
    for (int i = 0; i < 5; i++) (void)join_within(threads[i], 20000);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(llmgw_pending(storm_gws[i]), 0);
        llmgw_close(storm_gws[i]);
    }
}

/* ---- hostile lines, another process ---- */

static char *one_line;
static bool keep_line(const char *line, size_t len, void *user) {
    if (strstr(line, "\"entry\"") && !one_line) {
        one_line = (char *)malloc(len + 64);
        memcpy(one_line, line, len);
        one_line[len] = 0;
    }
    return true;
}

/* Law 12: numbers of a line are only numbers. */
static void huge_numbers_in_a_line(void **state) {
    static const char *const names[] = {"\"elapsed_us\":", "\"pico_usd\":", "\"created\":", "\"expires\":"};
    llmgw *gw = open_cached();
    llmgw_request request = ask("p", "Line");
    expect(gw, &request, LLMGW_VERDICT_MISS);
    one_line = NULL;
    assert_true(llmgw_cache_export(gw, NULL, keep_line, NULL) >= 1);
    assert_non_null(one_line);
    char made[8192];
    size_t n = 0;
    for (const char *at = one_line; *at;) {
        bool hit = false;
        for (size_t i = 0; i < COUNT_OF(names) - 2; i++) {
            size_t k = strlen(names[i]);
            if (strncmp(at, names[i], k) != 0) continue;
            n += (size_t)snprintf(made + n, sizeof made - n, "%s9223372036854775807", names[i]);
            at += k;
            while (*at >= '0' && *at <= '9') at++;
            hit = true;
        }
        if (!hit) made[n++] = *at++;
        assert_true(n < sizeof made - 64);
    }
    made[n] = 0;
    assert_non_null(strstr(made, "9223372036854775807"));
    assert_true(llmgw_cache_remove(gw, NULL) == 1);
    llmgw_error error;
    llmgw_code code = llmgw_cache_import(gw, made, n, &error);
    assert_true(code == LLMGW_OK || code == LLMGW_E_ARGUMENT);
    for (int i = 0; i < 4 && code == LLMGW_OK; i++) {
        expect(gw, &request, LLMGW_VERDICT_EXACT);
        assert_int_equal(llmgw_flush(gw), LLMGW_OK);
        llmgw_cache_numbers numbers = stats(gw);
        assert_true(numbers.saved_us >= 0 && numbers.saved.pico_usd >= 0);
    }
    free(one_line);
    llmgw_close(gw);
}

/* A child's handle touches nothing of the store. */
static void a_child_may_close(void **state) {
    llmgw_options options = fuzzy();
    llmgw *gw = t_open(&provider, &options);
    llmgw_request request = ask("p", "Before the fork");
    expect(gw, &request, LLMGW_VERDICT_MISS);
    pid_t child = fork();
    if (child == 0) {
        llmgw_cache_numbers numbers;
        bool good = llmgw_flush(gw) == LLMGW_E_FORKED && llmgw_drain(gw, 10) == LLMGW_E_FORKED &&
                    llmgw_cache_stats(gw, NULL, &numbers) == LLMGW_E_FORKED &&
                    llmgw_cache_remove(gw, NULL) == -LLMGW_E_FORKED;
        llmgw_close(gw);
        llmgw *own = t_open(&provider, &options); /* the same store, opened by the child itself */
        llmgw_reply *reply = llmgw_chat(own, &request);
        good = good && reply->cached.verdict == LLMGW_VERDICT_EXACT;
        llmgw_reply_free(reply);
        llmgw_close(own);
        _exit(good ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    expect(gw, &request, LLMGW_VERDICT_EXACT);
    request.prompt = "After the fork";
    expect(gw, &request, LLMGW_VERDICT_MISS);
    assert_int_equal(llmgw_flush(gw), LLMGW_OK);
    llmgw_close(gw);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, reset, clean)

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        TEST(hits_do_not_starve_others),
        TEST(a_hit_wakes_who_polls),
        TEST(a_thread_of_ours_revalidates),
        TEST(close_ends_a_drain),
        TEST(a_useless_sample_is_paid),
        TEST(an_invalid_sample_is_not_tried_for_ever),
        TEST(a_stale_answer_does_not_follow_a_fresh_one),
        TEST(another_budget_is_another_flight),
        TEST(the_attempts_are_told_to_who_joins),
        TEST(a_long_stream_of_small_events),
        TEST(one_who_does_not_read),
        TEST(every_hit_must_pass_the_check),
        TEST(a_stale_reply_is_the_old_answer_alone),
        TEST(the_comparison_may_not_wait),
        TEST(an_idle_gateway_sleeps),
        TEST(a_busy_store_is_waited_for_asleep),
        TEST(flush_does_not_wait_for_a_sleeper),
        TEST(threads_share_two_gateways),
        TEST(huge_numbers_in_a_line),
        TEST(a_child_may_close),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, group_start, group_stop);
}
