/* The response cache through the whole library: hits, what is kept and what never, calls that share one answer,
 * old answers when nobody else answers, the thread of our own. */
#define LLMGW_IMPLEMENTATION
#define LLMGWI_STORE_FAULTS
#define LLMGWI_STORE_PAUSE_US 30000
#include "llmgw.h"
#include "testing.h"
#include "group.h"
#include "faults.h"
#include <sys/stat.h>

/* How often an item was logged, and its last line. */
typedef struct Logged {
    int count[LLMGW_LOG_ITEM_COUNT];
    char line[LLMGW_LOG_ITEM_COUNT][256];
} Logged;
static void on_log(const llmgw_log_entry *entry, void *user) {
    Logged *logged = (Logged *)user;
    logged->count[entry->item]++;
    snprintf(logged->line[entry->item], sizeof logged->line[entry->item], "%s", entry->line);
}

static char dir[64];

/* Each test has a store of its own. */
static int reset(void **state) {
    provider_reset(&provider);
    if (dir[0]) t_remove_tree(dir);
    strcpy(dir, "/tmp/llmgw-cache-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return 0;
}
static int clean(void **state) {
    t_remove_tree(dir);
    dir[0] = 0;
    return 0;
}

static llmgw_options cached(void) {
    llmgw_options options = t_calm();
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

static void expect(llmgw *gw, const llmgw_request *request, llmgw_verdict verdict, const char *text) {
    llmgw_reply *reply = llmgw_chat(gw, request);
    t_expect_code(reply, LLMGW_OK);
    if (reply->cached.verdict != verdict)
        fail_msg("expected %s, got %s (%s)", llmgw_verdict_name(verdict),
                 llmgw_verdict_name(reply->cached.verdict), reply->cached.reason);
    if (text) assert_string_equal(reply->text, text);
    assert_int_equal(reply->text_len, strlen(reply->text));
    llmgw_reply_free(reply);
}

/* ---- hits ---- */

static void the_second_time_it_is_a_hit(void **state) {
    llmgw *gw = open_cached();
    for (int d = 0; d < 3; d++) {
        char model[64];
        snprintf(model, sizeof model, "%s/m", t_dialects[d]);
        llmgw_reply *first = llmgw_ask(gw, model, "Why is the sky blue?");
        llmgw_reply *second = llmgw_ask(gw, model, "Why is the sky blue?");
        t_expect_code(first, LLMGW_OK);
        t_expect_code(second, LLMGW_OK);
        assert_int_equal(first->cached.verdict, LLMGW_VERDICT_MISS);
        assert_int_equal(second->cached.verdict, LLMGW_VERDICT_EXACT);
        assert_true(first->cached.entry != 0);
        assert_true(second->cached.entry == first->cached.entry);
        assert_string_equal(second->text, first->text);
        assert_string_equal(second->provider, first->provider);
        assert_string_equal(second->model, first->model);
        assert_string_equal(second->model_echo, first->model_echo);
        assert_int_equal(second->finish, LLMGW_FINISH_STOP);
        assert_int_equal(second->attempts, 0);
        assert_true(second->cost.known && second->cost.pico_usd == 0);
        assert_true(second->usage.known && second->usage.input == 0);
        assert_int_equal(second->cached.saved.known, first->cost.known);
        assert_true(second->cached.saved_us > 0);
        assert_int_equal(second->message.part_count, 1);
        assert_string_equal(second->message.parts[0].text, first->text);
        llmgw_reply_free(first);
        llmgw_reply_free(second);
    }
    assert_int_equal(provider_count(&provider, "requests"), 3);
    llmgw_close(gw);
}

static void a_hit_outlives_the_process_that_asked(void **state) {
    llmgw *gw = open_cached();
    llmgw_request request = ask("openai/m", "Remember this.");
    expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
    llmgw_close(gw);
    gw = open_cached();
    expect(gw, &request, LLMGW_VERDICT_EXACT, NULL);
    llmgw_close(gw);
    assert_int_equal(provider_count(&provider, "requests"), 1);
}

/* Streams are kept whole, and shown as streams; events come in llmgw_poll only. */
static void a_hit_is_shown_as_a_stream(void **state) {
    llmgw *gw = open_cached();
    Rec rec;
    for (int i = 0; i < 4; i++) {
        memset(&rec, 0, sizeof rec);
        llmgw_request request = rec_request(&rec, "openai/m", "Say it again", i != 2);
        if (i < 2) {
            (void)rec_chat(gw, &rec, &request);
        } else {
            rec_send(gw, &rec, &request);
            assert_int_equal(rec.events, 0);
            assert_int_equal(llmgw_pending(gw), 0);
            assert_true(rec_drive(gw, &rec, 1, 5000));
            rec_check(&rec);
        }
        assert_int_equal(rec.reply->cached.verdict, i ? LLMGW_VERDICT_EXACT : LLMGW_VERDICT_MISS);
        assert_true(rec.text.n > 0);
        rec_free(&rec);
    }
    assert_int_equal(provider_count(&provider, "requests"), 1);
    llmgw_close(gw);
}

/* A descriptor tells of a hit as of any other event. */
static void the_descriptor_tells_of_a_hit(void **state) {
    llmgw *gw = open_cached();
    int fd = llmgw_fd(gw);
    llmgw_request plain = ask("openai/m", "fd");
    expect(gw, &plain, LLMGW_VERDICT_MISS, NULL);
    while (llmgw_poll(gw, 0) > 0) continue;
    Rec rec;
    memset(&rec, 0, sizeof rec);
    llmgw_request request = rec_request(&rec, "openai/m", "fd", false);
    rec_send(gw, &rec, &request);
    struct pollfd wait = {fd, POLLIN, 0};
    assert_int_equal(poll(&wait, 1, 2000), 1);
    assert_true(llmgw_poll(gw, 0) > 0);
    rec_check(&rec);
    rec_free(&rec);
    llmgw_close(gw);
}

/* ---- what a request says ---- */

static void flags_do_what_they_say(void **state) {
    llmgw *gw = open_cached();
    llmgw_request request = ask("openai/m", "Flags");
    request.cache = LLMGW_CACHE_OFF;
    expect(gw, &request, LLMGW_VERDICT_NONE, NULL);
    request.cache = LLMGW_CACHE_READ_ONLY;
    expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
    expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
    provider_rule(&provider, "{\"model\":\"*\",\"times\":1,\"text\":\"first\"}");
    request.cache = LLMGW_CACHE_WRITE_ONLY;
    expect(gw, &request, LLMGW_VERDICT_MISS, "first");
    provider_rule(&provider, "{\"model\":\"*\",\"times\":1,\"text\":\"second\"}");
    expect(gw, &request, LLMGW_VERDICT_MISS, "second");
    request.cache = 0;
    expect(gw, &request, LLMGW_VERDICT_EXACT, "first");
    provider_rule(&provider, "{\"model\":\"*\",\"times\":1,\"text\":\"third\"}");
    request.cache = LLMGW_CACHE_REFRESH;
    expect(gw, &request, LLMGW_VERDICT_MISS, "third");
    request.cache = LLMGW_CACHE_EXACT;
    expect(gw, &request, LLMGW_VERDICT_EXACT, "third");
    request.cache_max_age_s = 1;
    t_sleep_ms(2100);
    expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
    llmgw_close(gw);
}

static void a_random_answer_is_not_kept(void **state) {
    llmgw *gw = open_cached();
    llmgw_request request = ask("openai/m", "Be creative");
    request.temperature = llmgw_set(0.9);
    expect(gw, &request, LLMGW_VERDICT_NONE, NULL);
    expect(gw, &request, LLMGW_VERDICT_NONE, NULL);
    request.cache = LLMGW_CACHE_FORCE;
    expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
    expect(gw, &request, LLMGW_VERDICT_EXACT, NULL);
    request.cache = 0;
    request.seed = llmgw_set(7);
    expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
    expect(gw, &request, LLMGW_VERDICT_EXACT, NULL);
    llmgw_close(gw);
}

/* Law 7: a namespace's answers are its own. */
static void namespaces_never_mix(void **state) {
    llmgw *gw = open_cached();
    static const char *const names[] = {NULL, "a", "b", "a\x7f"};
    for (int i = 0; i < 3; i++) {
        llmgw_request request = ask("openai/m", "Whose is it?");
        request.cache_namespace = names[i];
        expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
        expect(gw, &request, LLMGW_VERDICT_EXACT, NULL);
    }
    llmgw_close(gw);
}

static bool only_good(const llmgw_reply *reply, void *user) {
    ++*(int *)user;
    return strstr(reply->text, "good") != NULL;
}

/* The caller's check is asked about hits too; what does not pass is asked anew, and replaced. */
static void a_hit_must_pass_the_callers_check(void **state) {
    llmgw *gw = open_cached();
    int checks = 0;
    llmgw_request request = ask("openai/m", "Checked");
    provider_rule(&provider, "{\"model\":\"*\",\"times\":1,\"text\":\"bad\"}");
    expect(gw, &request, LLMGW_VERDICT_MISS, "bad");
    provider_rule(&provider, "{\"model\":\"*\",\"times\":1,\"text\":\"good\"}");
    request.is_valid = only_good;
    request.user = &checks;
    expect(gw, &request, LLMGW_VERDICT_MISS, "good");
    assert_int_equal(checks, 2);
    expect(gw, &request, LLMGW_VERDICT_EXACT, "good");
    assert_int_equal(checks, 3);
    llmgw_close(gw);
}

/* ---- law 8 ---- */

static void what_is_never_kept(void **state) {
    static const char *const faults[] = {"\"finish\":\"length\"",
                                         "\"finish\":\"content_filter\"",
                                         "\"tool_calls\":[{\"name\":\"f\",\"arguments\":{}}]",
                                         "\"status\":500",
                                         "\"cut_after\":2",
                                         "\"text\":\"\""};
    llmgw *gw = open_cached();
    for (size_t i = 0; i < COUNT_OF(faults); i++)
        for (int stream = 0; stream < 2; stream++) {
            static const llmgw_tool tool = {"f", NULL, NULL, false};
            provider_reset(&provider);
            char prompt[64];
            snprintf(prompt, sizeof prompt, "never %zu %d", i, stream);
            llmgw_request request = ask("openai/m", prompt);
            request.stream = stream != 0;
            request.tools = &tool;
            request.tool_count = 1;
            request.max_attempts = 1;
            request.max_resumes = LLMGW_OFF;
            for (int round = 0; round < 2; round++) {
                provider_model_rule(&provider, "*", faults[i]);
                llmgw_reply *reply = llmgw_chat(gw, &request);
                if (reply->cached.verdict != LLMGW_VERDICT_MISS || reply->cached.entry)
                    fail_msg("%s was kept", faults[i]);
                llmgw_reply_free(reply);
            }
            if (provider_count(&provider, "requests") != 2)
                fail_msg("%s was answered from the cache", faults[i]);
        }
    llmgw_close(gw);
}

/* ---- one answer for several ---- */

static void callers_share_one_answer(void **state) {
    for (int stream = 0; stream < 2; stream++) {
        reset(state);
        llmgw *gw = open_cached();
        provider_rule(&provider,
                      "{\"model\":\"*\",\"first_token_delay_ms\":200,\"delay_ms\":200,\"usage_input\":7}");
        Rec recs[5];
        memset(recs, 0, sizeof recs);
        for (int i = 0; i < 5; i++) {
            llmgw_request request = rec_request(&recs[i], "openai/m", "Together", stream);
            rec_send(gw, &recs[i], &request);
        }
        assert_true(rec_drive(gw, recs, 5, 10000));
        int joined = 0;
        for (int i = 0; i < 5; i++) {
            rec_check(&recs[i]);
            t_expect_code(recs[i].reply, LLMGW_OK);
            joined += recs[i].reply->cached.verdict == LLMGW_VERDICT_JOINED;
            assert_true(recs[i].text.n > 0);
            if (recs[i].reply->cached.verdict == LLMGW_VERDICT_JOINED) {
                assert_int_equal(recs[i].reply->attempts, 0);
                assert_true(recs[i].reply->cost.known && recs[i].reply->cost.pico_usd == 0);
            }
        }
        assert_int_equal(joined, 4);
        assert_int_equal(recs[0].reply->cached.verdict, LLMGW_VERDICT_MISS);
        assert_int_equal(provider_count(&provider, "requests"), 1);
        llmgw_close(gw); /* replies outlive it, in any order */
        for (int i = 0; i < 5; i++) {
            assert_string_equal(recs[i].reply->model, "m");
            rec_free(&recs[i]);
        }
    }
}

/* One who comes late to a stream gets what was shown so far. */
static void a_late_caller_catches_up(void **state) {
    llmgw *gw = open_cached();
    provider_rule(
        &provider,
        "{\"model\":\"*\",\"chunk_ms\":20,\"chunk_chars\":4,\"text\":\"0123456789\",\"text_repeat\":20}");
    Rec recs[2];
    memset(recs, 0, sizeof recs);
    llmgw_request first = rec_request(&recs[0], "openai/m", "Long", true);
    rec_send(gw, &recs[0], &first);
    int64_t until = t_now_ms() + 10000;
    while (recs[0].text.n < 60 && t_now_ms() < until) (void)llmgw_poll(gw, 50);
    llmgw_request second = rec_request(&recs[1], "openai/m", "Long", true);
    rec_send(gw, &recs[1], &second);
    assert_true(rec_drive(gw, recs, 2, 20000));
    for (int i = 0; i < 2; i++) {
        rec_check(&recs[i]);
        assert_int_equal(recs[i].reply->text_len, 200);
        rec_free(&recs[i]);
    }
    assert_int_equal(provider_count(&provider, "requests"), 1);
    llmgw_close(gw);
}

/* Whoever leaves, the others' answer goes on; it ends with the last one. */
static void the_first_may_leave(void **state) {
    for (int leaver = 0; leaver < 3; leaver++) {
        reset(state);
        llmgw *gw = open_cached();
        provider_rule(&provider,
                      "{\"model\":\"*\",\"chunk_ms\":30,\"text\":\"abcdefgh \",\"text_repeat\":10}");
        Rec recs[3];
        memset(recs, 0, sizeof recs);
        for (int i = 0; i < 3; i++) {
            llmgw_request request = rec_request(&recs[i], "openai/m", "Leave", true);
            rec_send(gw, &recs[i], &request);
        }
        int64_t until = t_now_ms() + 10000;
        while (recs[2].text.n < 9 && t_now_ms() < until) (void)llmgw_poll(gw, 50);
        llmgw_cancel(gw, recs[leaver].call);
        assert_true(rec_drive(gw, recs, 3, 20000));
        for (int i = 0; i < 3; i++) {
            assert_int_equal(recs[i].ends, 1);
            assert_int_equal(recs[i].reply->error.code, i == leaver ? LLMGW_E_CANCELLED : LLMGW_OK);
            assert_int_equal(recs[i].text.n, recs[i].reply->text_len);
            if (i != leaver) rec_check(&recs[i]);
            rec_free(&recs[i]);
        }
        assert_int_equal(provider_count(&provider, "requests"), 1);
        assert_int_equal(provider_count(&provider, "disconnects"), 0);
        llmgw_close(gw);
    }
}

static void the_last_takes_the_flight_along(void **state) {
    llmgw *gw = open_cached();
    provider_rule(&provider, "{\"model\":\"*\",\"never\":true}");
    Rec recs[2];
    memset(recs, 0, sizeof recs);
    for (int i = 0; i < 2; i++) {
        llmgw_request request = rec_request(&recs[i], "openai/m", "Nobody waits", i == 2);
        request.deadline_ms = i ? 300 : 600;
        rec_send(gw, &recs[i], &request);
    }
    int64_t began = t_now_ms();
    assert_true(rec_drive(gw, recs, 2, 5000));
    assert_true(t_now_ms() - began < 1500);
    for (int i = 0; i < 2; i++) {
        t_expect_code(recs[i].reply, LLMGW_E_DEADLINE);
        assert_int_equal(recs[i].ends, 1);
        rec_free(&recs[i]);
    }
    assert_true(provider_wait(&provider, "disconnects", 1, 3000));
    llmgw_close(gw);
}

/* Blocking threads join each other too. */
static void *join_thread(void *arg) {
    llmgw_reply *reply = llmgw_ask((llmgw *)arg, "openai/m", "Threads");
    bool good = !reply->error.code && reply->cached.verdict >= LLMGW_VERDICT_MISS;
    llmgw_reply_free(reply);
    return good ? arg : NULL;
}

static void threads_share_one_answer(void **state) {
    llmgw *gw = open_cached();
    provider_rule(&provider, "{\"model\":\"*\",\"delay_ms\":100}");
    pthread_t threads[16];
    for (int i = 0; i < 16; i++) assert_int_equal(pthread_create(&threads[i], NULL, join_thread, gw), 0);
    for (int i = 0; i < 16; i++) {
        void *good = NULL;
        pthread_join(threads[i], &good);
        assert_non_null(good);
    }
    assert_int_equal(provider_count(&provider, "requests"), 1);
    llmgw_close(gw);
}

static void errors_are_shared_too(void **state) {
    llmgw *gw = open_cached();
    provider_rule(&provider, "{\"model\":\"*\",\"delay_ms\":100,\"status\":400,\"error_message\":\"no\"}");
    Rec recs[3];
    memset(recs, 0, sizeof recs);
    for (int i = 0; i < 3; i++) {
        llmgw_request request = rec_request(&recs[i], "openai/m", "Fail", false);
        rec_send(gw, &recs[i], &request);
    }
    assert_true(rec_drive(gw, recs, 3, 10000));
    for (int i = 0; i < 3; i++) {
        rec_check(&recs[i]);
        t_expect_code(recs[i].reply, LLMGW_E_BAD_REQUEST);
        rec_free(&recs[i]);
    }
    assert_int_equal(provider_count(&provider, "requests"), 1);
    llmgw_close(gw);
}

/* ---- stale ---- */

static void an_old_answer_when_all_fail(void **state) {
    llmgw_options options = cached();
    options.cache.ttl_s = 1;
    llmgw *gw = t_open(&provider, &options);
    llmgw_request request = ask("openai/m", "Old");
    request.cache = LLMGW_CACHE_STALE;
    provider_rule(&provider, "{\"model\":\"*\",\"times\":1,\"text\":\"old\"}");
    expect(gw, &request, LLMGW_VERDICT_MISS, "old");
    t_sleep_ms(2100);
    provider_rule(&provider, "{\"model\":\"*\",\"status\":503}");
    expect(gw, &request, LLMGW_VERDICT_STALE, "old");
    Rec rec;
    memset(&rec, 0, sizeof rec);
    llmgw_request stream = rec_request(&rec, "openai/m", "Old", true);
    stream.cache = LLMGW_CACHE_STALE;
    rec_send(gw, &rec, &stream);
    assert_true(rec_drive(gw, &rec, 1, 10000));
    rec_check(&rec);
    assert_int_equal(rec.reply->cached.verdict, LLMGW_VERDICT_STALE);
    rec_free(&rec);
    request.cache = 0;
    llmgw_reply *reply = llmgw_chat(gw, &request);
    t_expect_code(reply, LLMGW_E_OVERLOADED);
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

/* ---- without a store, with a broken one ---- */

static void a_broken_store_does_not_fail_a_call(void **state) {
    llmgw_options options = cached();
    char file[128];
    snprintf(file, sizeof file, "%s/file", dir);
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fclose(f);
    options.store.path = file; /* not a directory */
    llmgw *gw = t_open(&provider, &options);
    llmgw_request request = ask("openai/m", "Anyway");
    expect(gw, &request, LLMGW_VERDICT_NONE, NULL);
    llmgw_cache_numbers numbers;
    assert_int_equal(llmgw_cache_stats(gw, NULL, &numbers), LLMGW_E_STORE);
    assert_true(numbers.reason[0] != 0 && !numbers.on);
    llmgw_close(gw);
}

/* ---- the thread of our own ---- */

/* A full disk is said once, and once that it is over; so is a store that is switched off. No call suffers. */
static void a_failing_store_is_logged_once(void **state) {
    Logged logged;
    memset(&logged, 0, sizeof logged);
    llmgw_options options = cached();
    options.log = on_log;
    options.log_user = &logged;
    llmgw *gw = t_open(&provider, &options);
    llmgw_request request = ask("openai/m", "Before");
    expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
    assert_int_equal(llmgw_flush(gw), LLMGW_OK);
    assert_int_equal(logged.count[LLMGW_LOG_STORE], 0);
    set_fault("mdb_txn_commit", ENOSPC, 1, true);
    for (int i = 0; i < 4; i++) {
        char prompt[32];
        snprintf(prompt, sizeof prompt, "While it is full %d", i);
        request.prompt = prompt;
        expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
        (void)llmgw_flush(gw);
        t_sleep_ms(40);
    }
    assert_int_equal(logged.count[LLMGW_LOG_STORE], 1);
    assert_non_null(strstr(logged.line[LLMGW_LOG_STORE], "not written for now"));
    assert_non_null(strstr(logged.line[LLMGW_LOG_STORE], "No space"));
    no_fault();
    t_sleep_ms(40);
    request.prompt = "After";
    expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
    assert_int_equal(llmgw_flush(gw), LLMGW_OK);
    assert_int_equal(logged.count[LLMGW_LOG_STORE], 2);
    assert_non_null(strstr(logged.line[LLMGW_LOG_STORE], "written again"));
    set_fault("mdb_get", MDB_CORRUPTED, 1, true); /* met by a reader, not by a commit */
    for (int i = 0; i < 3; i++) {
        llmgw_reply *reply = llmgw_chat(gw, &request);
        t_expect_code(reply, LLMGW_OK);
        llmgw_reply_free(reply);
    }
    no_fault();
    assert_int_equal(logged.count[LLMGW_LOG_STORE], 3);
    assert_non_null(strstr(logged.line[LLMGW_LOG_STORE], "switched off"));
    llmgw_cache_numbers numbers;
    assert_int_equal(llmgw_cache_stats(gw, NULL, &numbers), LLMGW_OK);
    assert_true(!numbers.on && numbers.reason[0]);
    llmgw_close(gw);
    assert_int_equal(logged.count[LLMGW_LOG_STORE], 3);
}

static void a_thread_of_ours_drives(void **state) {
    llmgw_options options = cached();
    options.background_thread = true;
    llmgw *gw = t_open(&provider, &options);
    Rec rec;
    memset(&rec, 0, sizeof rec);
    llmgw_request request = rec_request(&rec, "openai/m", "Background", true);
    rec_send(gw, &rec, &request);
    assert_true(provider_wait(&provider, "requests", 1, 3000)); /* nobody polls */
    t_sleep_ms(200);
    assert_int_equal(rec.events, 0); /* callbacks still wait */
    assert_true(rec_drive(gw, &rec, 1, 5000));
    rec_check(&rec);
    rec_free(&rec);
    llmgw_request plain = ask("openai/m", "Background");
    expect(gw, &plain, LLMGW_VERDICT_EXACT, NULL);
    plain.prompt = "Other";
    expect(gw, &plain, LLMGW_VERDICT_MISS, NULL);
    assert_int_equal(llmgw_flush(gw), LLMGW_OK);
    assert_int_equal(llmgw_drain(gw, 1000), LLMGW_OK);
    llmgw_close(gw);
}

static void flush_while_others_poll(void **state) {
    llmgw *gw = open_cached();
    provider_rule(&provider, "{\"model\":\"*\",\"delay_ms\":300}");
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, join_thread, gw), 0);
    assert_true(provider_wait(&provider, "requests", 1, 3000));
    int64_t began = t_now_ms();
    assert_int_equal(llmgw_flush(gw), LLMGW_OK); /* takes the driver's part for a moment */
    assert_true(t_now_ms() - began < 250);
    void *good = NULL;
    pthread_join(thread, &good);
    assert_non_null(good);
    llmgw_close(gw);
}

/* ---- what a hit takes ---- */

typedef struct Counted {
    int64_t bytes, made; /* atomic: held; pieces ever made or grown */
} Counted;
static void *counting(void *ptr, size_t old_size, size_t new_size, void *user) {
    Counted *counted = (Counted *)user;
    LLMGWI_BASE_ADD(&counted->bytes, (int64_t)new_size - (int64_t)(ptr ? old_size : 0));
    if (new_size) {
        LLMGWI_BASE_ADD(&counted->made, 1);
        return realloc(ptr, new_size);
    }
    free(ptr);
    return NULL;
}

/* What is kept from one request to the next saves memory; it is never large, and goes with the gateway. */
static void a_hit_takes_one_piece_of_memory(void **state) {
    static char large[40000];
    Counted counted = {0, 0};
    llmgw_options options = cached();
    options.alloc = counting;
    options.alloc_user = &counted;
    llmgw *gw = t_open(&provider, &options);
    memset(large, 'x', sizeof large - 1);
    llmgw_request small = ask("openai/m", "Small"), big = ask("openai/m", large);
    expect(gw, &small, LLMGW_VERDICT_MISS, NULL);
    expect(gw, &big, LLMGW_VERDICT_MISS, NULL);
    llmgw_close(gw);
    assert_int_equal(counted.bytes, 0);
    gw = t_open(&provider, &options);
    expect(gw, &small, LLMGW_VERDICT_EXACT, NULL);
    Counted before = counted;
    expect(gw, &small, LLMGW_VERDICT_EXACT, NULL);
    assert_int_equal(counted.made - before.made, 1);
    assert_int_equal(counted.bytes, before.bytes);
    expect(gw, &big, LLMGW_VERDICT_EXACT, NULL);
    assert_true(counted.bytes <= before.bytes);
    expect(gw, &small, LLMGW_VERDICT_EXACT, NULL);
    llmgw_close(gw);
    assert_int_equal(counted.bytes, 0);
}

typedef struct Asker {
    llmgw *gw;
    int number;
} Asker;
static void *hit_thread(void *arg) {
    const Asker *asker = (const Asker *)arg;
    char prompt[64];
    snprintf(prompt, sizeof prompt, "Thread %d asks", asker->number);
    llmgw_request request = ask("openai/m", prompt);
    int hits = 0;
    for (int i = 0; i < 500; i++) {
        llmgw_reply *reply = llmgw_chat(asker->gw, &request);
        bool good = strstr(reply->text, prompt) != NULL;
        hits += reply->cached.verdict == LLMGW_VERDICT_EXACT;
        llmgw_reply_free(reply);
        if (!good) return NULL;
    }
    if (hits < 400) return NULL; /* one that looks while the answer is being committed may miss it */
    return arg;
}

static void threads_get_their_own_answers(void **state) {
    llmgw *gw = open_cached();
    pthread_t threads[8];
    Asker askers[8];
    for (int i = 0; i < 8; i++) {
        askers[i].gw = gw;
        askers[i].number = i;
        assert_int_equal(pthread_create(&threads[i], NULL, hit_thread, &askers[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        void *good = NULL;
        pthread_join(threads[i], &good);
        assert_non_null(good);
    }
    llmgw_close(gw);
}

/* ---- like questions ---- */

static llmgw_options fuzzy(void) {
    llmgw_options options = cached();
    options.cache.semantic = true;
    return options;
}

static void a_like_question_is_answered(void **state) {
    llmgw_options options = fuzzy();
    options.cache.similarity = llmgw_set(0.6);
    llmgw *gw = t_open(&provider, &options);
    llmgw_request request = ask("openai/m", "How do I reset the password of my account?");
    provider_rule(&provider, "{\"model\":\"*\",\"times\":1,\"text\":\"Press reset.\"}");
    expect(gw, &request, LLMGW_VERDICT_MISS, "Press reset.");
    request.prompt = "How can I reset my account password";
    llmgw_reply *reply = llmgw_chat(gw, &request);
    assert_int_equal(reply->cached.verdict, LLMGW_VERDICT_SEMANTIC);
    assert_string_equal(reply->text, "Press reset.");
    assert_true(reply->cached.similarity >= 0.6 && reply->cached.similarity < 1);
    assert_true(reply->cached.entry != 0);
    llmgw_reply_free(reply);
    Rec rec;
    memset(&rec, 0, sizeof rec);
    llmgw_request stream = rec_request(&rec, "openai/m", "reset my account's password, how?", true);
    rec_send(gw, &rec, &stream);
    assert_true(rec_drive(gw, &rec, 1, 5000));
    rec_check(&rec);
    assert_int_equal(rec.reply->cached.verdict, LLMGW_VERDICT_SEMANTIC);
    rec_free(&rec);
    request.cache = LLMGW_CACHE_EXACT | LLMGW_CACHE_READ_ONLY;
    expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
    request.cache = 0;
    request.cache_namespace = "other";
    expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
    llmgw_close(gw);
}

static void a_guard_keeps_a_wrong_answer_back(void **state) {
    llmgw_options options = fuzzy();
    options.cache.similarity = llmgw_set(0.3);
    llmgw *gw = t_open(&provider, &options);
    llmgw_request request = ask("openai/m", "How many kilometers are 5 miles on the road?");
    expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
    request.prompt = "How many kilometers are 7 miles on the road?";
    llmgw_reply *reply = llmgw_chat(gw, &request);
    assert_int_equal(reply->cached.verdict, LLMGW_VERDICT_MISS);
    assert_non_null(strstr(reply->cached.reason, "numbers"));
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

/* Nothing fuzzy is served before the evidence is there; then hits come, and a share of them is asked again. */
static void hits_are_learned_and_asked_again(void **state) {
    static const char *const words[] = {"dear",    "friend", "listen", "well",  "simply",
                                        "quickly", "again",  "kind",   "folks", "team"};
    llmgw_options options = fuzzy();
    options.cache.max_error = llmgw_set(0.1);
    Logged logged;
    memset(&logged, 0, sizeof logged);
    options.log = on_log;
    options.log_user = &logged;
    llmgw *gw = t_open(&provider, &options);
    provider_rule(&provider, "{\"model\":\"*\",\"text\":\"Go to settings and press reset.\"}");
    int semantic = 0, first = 0;
    for (int i = 0; i < 400; i++) {
        char prompt[160];
        snprintf(prompt, sizeof prompt, "%s how do I reset the password of my account %s %s", words[i % 10],
                 words[i / 10 % 10], words[i / 100 % 10]);
        llmgw_request request = ask("openai/m", prompt);
        llmgw_reply *reply = llmgw_chat(gw, &request);
        t_expect_code(reply, LLMGW_OK);
        semantic += reply->cached.verdict == LLMGW_VERDICT_SEMANTIC;
        if (semantic && !first) first = i;
        llmgw_reply_free(reply);
    }
    assert_int_equal(llmgw_drain(gw, 10000), LLMGW_OK);
    llmgw_cache_numbers numbers;
    assert_int_equal(llmgw_cache_stats(gw, NULL, &numbers), LLMGW_OK);
    assert_true(semantic > 20);
    assert_true(first >= 199); /* CALIBRATION.md: warm */
    assert_int_equal(numbers.semantic_hits, semantic);
    assert_true(numbers.revalidations > 0);
    assert_int_equal(numbers.pending_samples, 0);
    assert_int_equal(numbers.revalidated_wrong, 0);
    assert_true(numbers.error_bound >= numbers.error && numbers.error_bound <= 0.1);

    /* the answer changes: samples find that out, what is old goes, and that is logged */
    assert_int_equal(logged.count[LLMGW_LOG_CACHE], 0);
    provider_reset(&provider);
    provider_rule(&provider, "{\"model\":\"*\",\"text\":\"Write a letter to the bank in Lisbon.\"}");
    for (int i = 0; i < 600 && !logged.count[LLMGW_LOG_CACHE]; i++) {
        char prompt[160];
        snprintf(prompt, sizeof prompt, "%s how do I reset the password of my account %s %s", words[i % 10],
                 words[i / 100 % 10], words[i / 10 % 10]);
        llmgw_request request = ask("openai/m", prompt);
        llmgw_reply_free(llmgw_chat(gw, &request));
        if (i % 10 == 9) assert_int_equal(llmgw_drain(gw, 10000), LLMGW_OK);
    }
    assert_true(logged.count[LLMGW_LOG_CACHE] > 0);
    assert_int_equal(llmgw_cache_stats(gw, NULL, &numbers), LLMGW_OK);
    assert_true(numbers.purges >= logged.count[LLMGW_LOG_CACHE]);
    llmgw_close(gw);
}

/* ---- vectors of a provider, and of the caller ---- */

static void vectors_come_from_a_provider(void **state) {
    llmgw_options options = fuzzy();
    options.cache.similarity = llmgw_set(0.6);
    options.cache.embed_model = "openai/embed";
    llmgw *gw = t_open(&provider, &options);
    llmgw_request request = ask("openai/m", "How do I reset the password of my account?");
    expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
    assert_int_equal(provider_asked(&provider, "embed"), 1);
    request.prompt = "How can I reset my account password";
    expect(gw, &request, LLMGW_VERDICT_SEMANTIC, NULL);
    assert_int_equal(provider_asked(&provider, "embed"), 2);
    expect(gw, &request, LLMGW_VERDICT_SEMANTIC, NULL);
    assert_int_equal(provider_asked(&provider, "m"), 1);
    llmgw_close(gw);
    options.cache.embed_model = "gemini/embedding"; /* any dialect that gives vectors */
    gw = t_open(&provider, &options);
    request.prompt = "Which river runs through the city of Prague?";
    expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
    request.prompt = "Which river runs through Prague, the city?";
    expect(gw, &request, LLMGW_VERDICT_SEMANTIC, NULL);
    assert_int_equal(provider_asked(&provider, "embedding"), 2);
    llmgw_close(gw);
}

/* A dead endpoint delays a call by its own deadline at most, and in the end not at all. */
static void a_dead_endpoint_delays_nobody(void **state) {
    llmgw_options options = fuzzy();
    options.cache.similarity = llmgw_set(0.6);
    options.cache.embed_model = "openai/embed";
    options.cache.embed_ms = 100;
    llmgw *gw = t_open(&provider, &options);
    provider_model_rule(&provider, "embed", "\"never\":true");
    llmgw_request request = ask("openai/m", "How do I reset the password of my account?");
    int64_t began = t_now_ms();
    expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
    assert_true(t_now_ms() - began < 1000);
    request.prompt = "How can I reset my account password";
    expect(gw, &request, LLMGW_VERDICT_SEMANTIC, NULL); /* by its words */
    provider_reset(&provider);
    provider_model_rule(&provider, "embed", "\"status\":500");
    request.prompt = "What is the capital of France?";
    expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
    provider_reset(&provider);
    provider_model_rule(&provider, "embed", "\"never\":true");
    Rec rec;
    memset(&rec, 0, sizeof rec);
    llmgw_request cancelled = rec_request(&rec, "openai/m", "Name three rivers of Spain", false);
    rec_send(gw, &rec, &cancelled);
    (void)llmgw_poll(gw, 20);
    llmgw_cancel(gw, rec.call);
    assert_true(rec_drive(gw, &rec, 1, 3000));
    t_expect_code(rec.reply, LLMGW_E_CANCELLED);
    rec_free(&rec);
    llmgw_close(gw);
}

static bool embed(const char *text, size_t text_len, float *vector, size_t dim, void *user) {
    int *calls = (int *)user;
    ++*calls;
    for (size_t i = 0; i < dim; i++)
        vector[i] = i == (strstr(text, "cat") || strstr(text, "feline") ? 0u : 1u) ? 1 : 0;
    return *calls != 4;
}

static void vectors_come_from_the_caller(void **state) {
    int calls = 0;
    llmgw_options options = fuzzy();
    options.cache.similarity = llmgw_set(0.35);
    options.cache.embed = embed;
    options.cache.embed_user = &calls;
    options.cache.embed_dim = 8;
    llmgw *gw = t_open(&provider, &options);
    llmgw_request request = ask("openai/m", "Which food suits a cat?");
    expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
    request.prompt = "What may felines eat at home?";
    expect(gw, &request, LLMGW_VERDICT_SEMANTIC, NULL); /* hardly a word in common */
    request.prompt = "Which tyres suit the snow?";
    expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
    request.prompt = "Name three rivers of Spain";
    expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
    assert_int_equal(calls, 4);
    llmgw_close(gw);
}

/* What is only written is found by its vector too. */
static void what_is_only_written_has_a_vector(void **state) {
    static const unsigned flags[] = {LLMGW_CACHE_WRITE_ONLY, LLMGW_CACHE_REFRESH};
    for (int i = 0; i < 2; i++) {
        int calls = 0;
        llmgw_options options = fuzzy();
        options.cache.similarity = llmgw_set(0.35);
        options.cache.embed = embed;
        options.cache.embed_user = &calls;
        options.cache.embed_dim = 8;
        llmgw *gw = t_open(&provider, &options);
        llmgw_request request = ask("openai/m", "Which food suits a cat?");
        request.cache_namespace = i ? "refreshed" : "written";
        request.cache = flags[i];
        expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
        request.cache = 0;
        request.prompt = "What may felines eat at home?";
        expect(gw, &request, LLMGW_VERDICT_SEMANTIC, NULL);
        llmgw_close(gw);
    }
}

/* ---- what a callback may not do ---- */

static void on_event(const llmgw_event *event, void *user) {
    llmgw_error error;
    static const unsigned char key[32] = {1};
    int *asked = (int *)user;
    if (event->kind != LLMGW_EVENT_END) return;
    assert_int_equal(llmgw_flush(event->gateway), LLMGW_E_MISUSE);
    assert_int_equal(llmgw_drain(event->gateway, 10), LLMGW_E_MISUSE);
    assert_int_equal(llmgw_store_rekey(event->gateway, key, &error), LLMGW_E_MISUSE);
    assert_int_equal(error.code, LLMGW_E_MISUSE);
    assert_non_null(strstr(error.text, "llmgw_store_rekey"));
    ++*asked;
}

static void a_callback_may_not_write(void **state) {
    int asked = 0;
    llmgw *gw = open_cached();
    llmgw_request request = ask("openai/m", "May I?");
    request.on_event = on_event;
    request.user = &asked;
    expect(gw, &request, LLMGW_VERDICT_MISS, NULL);
    assert_int_equal(asked, 1);
    llmgw_close(gw);
}

/* ---- a judge ---- */

static void a_judge_is_asked_about_wordings(void **state) {
    llmgw_options options = fuzzy();
    options.cache.max_error = llmgw_set(0.1);
    options.cache.judge = "openai/judge";
    llmgw *gw = t_open(&provider, &options);
    provider_model_rule(&provider, "judge", "\"text\":\"Yes.\"");
    static const char *const answers[] = {
        "You can reset the password in the settings of your account.",
        "Open your account, go to settings, choose the password and reset it there."};
    for (int i = 0; i < 12; i++) {
        char prompt[96], fault[256];
        snprintf(prompt, sizeof prompt, "how do I reset the password of account variant %c%c", 'a' + i,
                 'p' + i / 4);
        snprintf(fault, sizeof fault, "\"times\":1,\"text\":\"%s\"", answers[i % 2]);
        provider_model_rule(&provider, "m", fault);
        llmgw_request request = ask("openai/m", prompt);
        expect(gw, &request, LLMGW_VERDICT_MISS, answers[i % 2]);
    }
    assert_int_equal(llmgw_drain(gw, 10000), LLMGW_OK);
    assert_true(provider_asked(&provider, "judge") > 0);
    llmgw_close(gw);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, reset, clean)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_second_time_it_is_a_hit),
        TEST(a_hit_outlives_the_process_that_asked),
        TEST(a_hit_is_shown_as_a_stream),
        TEST(the_descriptor_tells_of_a_hit),
        TEST(flags_do_what_they_say),
        TEST(a_random_answer_is_not_kept),
        TEST(namespaces_never_mix),
        TEST(a_hit_must_pass_the_callers_check),
        TEST(what_is_never_kept),
        TEST(callers_share_one_answer),
        TEST(a_late_caller_catches_up),
        TEST(the_first_may_leave),
        TEST(the_last_takes_the_flight_along),
        TEST(threads_share_one_answer),
        TEST(errors_are_shared_too),
        TEST(an_old_answer_when_all_fail),
        TEST(a_broken_store_does_not_fail_a_call),
        TEST(a_failing_store_is_logged_once),
        TEST(a_thread_of_ours_drives),
        TEST(flush_while_others_poll),
        TEST(a_hit_takes_one_piece_of_memory),
        TEST(threads_get_their_own_answers),
        TEST(a_like_question_is_answered),
        TEST(a_guard_keeps_a_wrong_answer_back),
        TEST(hits_are_learned_and_asked_again),
        TEST(vectors_come_from_a_provider),
        TEST(a_dead_endpoint_delays_nobody),
        TEST(vectors_come_from_the_caller),
        TEST(what_is_only_written_has_a_vector),
        TEST(a_callback_may_not_write),
        TEST(a_judge_is_asked_about_wordings),
    };
    return cmocka_run_group_tests_name("cache_calls", tests, group_start, group_stop);
}
