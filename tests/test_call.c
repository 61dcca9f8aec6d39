/* The three ways of calling, mixed, cancelled, woken and closed: END exactly once under all of them (law 1),
 * and the text of the events is the reply's (law 10). */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"
#include "group.h"
#include <sys/epoll.h>
#include <sys/resource.h>
#include <uv.h>

static int reset(void **state) {
    provider_reset(&provider);
    return 0;
}

/* ---- blocking ---- */

static void ask_all_dialects(void **state) {
    llmgw *gw = t_open(&provider, NULL);
    for (size_t i = 0; i < COUNT_OF(t_dialects); i++)
        for (int stream = 0; stream < 2; stream++) {
            char model[64];
            Rec rec = {0};
            snprintf(model, sizeof model, "%s/some-model", t_dialects[i]);
            llmgw_request request = rec_request(&rec, model, "h\xC3\xA9llo there, world", stream);
            const llmgw_reply *reply = rec_chat(gw, &rec, &request);
            t_expect_code(reply, LLMGW_OK);
            assert_string_equal(reply->text, "Echo from some-model: h\xC3\xA9llo there, world");
            assert_string_equal(reply->provider, t_dialects[i]);
            assert_int_equal(reply->finish, LLMGW_FINISH_STOP);
            assert_true(reply->usage.known);
            assert_true(stream ? rec.pieces > 1 : rec.pieces == 1);
            rec_free(&rec);
        }
    assert_int_equal(llmgw_pending(gw), 0);
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
}

typedef struct Blocker {
    llmgw *gw;
    pthread_t thread;
    int number, rounds, good;
    llmgw_code code; /* of the last */
    int64_t took_ms;
    const char *model;
} Blocker;

static void *block(void *user) {
    Blocker *me = (Blocker *)user;
    for (int i = 0; i < me->rounds; i++) {
        char model[80], prompt[64], expected[160];
        Rec rec = {0};
        snprintf(model, sizeof model, "%s/m%d", t_dialects[(me->number + i) % 3], me->number);
        snprintf(prompt, sizeof prompt, "thread %d round %d", me->number, i);
        snprintf(expected, sizeof expected, "Echo from m%d: %s", me->number, prompt);
        llmgw_request request = rec_request(&rec, me->model ? me->model : model, prompt, (i & 1) == 0);
        rec.thread = pthread_self();
        rec.check_thread = true;
        int64_t start = t_now_ms();
        llmgw_reply *reply = llmgw_chat(me->gw, &request);
        me->took_ms = t_now_ms() - start;
        me->code = reply->error.code;
        bool same = rec.text.n == reply->text_len && (!rec.text.n || !strcmp(rec.text.p, reply->text));
        me->good += !reply->error.code && !strcmp(reply->text, expected) && same && rec.ends == 1 &&
                    !rec.wrong_thread && !rec.after_end;
        if (rec.ends != 1) me->good = -1000000;
        llmgw_reply_free(reply);
        rec_free(&rec);
    }
    return NULL;
}

static void blocker_start(Blocker *blocker, llmgw *gw, int number, int rounds, const char *model) {
    memset(blocker, 0, sizeof *blocker);
    blocker->gw = gw;
    blocker->number = number;
    blocker->rounds = rounds;
    blocker->model = model;
    assert_int_equal(pthread_create(&blocker->thread, NULL, block, blocker), 0);
}

static void many_threads_block(void **state) {
    enum { N = 20 };
    Blocker blockers[N];
    llmgw *gw = t_open(&provider, NULL);
    int rounds = t_rounds(20);
    for (int i = 0; i < N; i++) blocker_start(&blockers[i], gw, i, rounds, NULL);
    for (int i = 0; i < N; i++) {
        pthread_join(blockers[i].thread, NULL);
        assert_int_equal(blockers[i].good, rounds);
    }
    assert_int_equal(provider_count(&provider, "requests"), N * rounds);
    assert_int_equal(llmgw_pending(gw), 0);
    llmgw_close(gw);
}

/* ---- send and poll ---- */

static void poll_runs_callbacks_here(void **state) {
    enum { N = 12 };
    Rec recs[N] = {0};
    llmgw *gw = t_open(&provider, NULL);
    for (int i = 0; i < N; i++) {
        char model[64], prompt[64];
        snprintf(model, sizeof model, "%s/m", t_dialects[i % 3]);
        snprintf(prompt, sizeof prompt, "number %d", i);
        llmgw_request request = rec_request(&recs[i], model, prompt, i % 2);
        recs[i].thread = pthread_self();
        recs[i].check_thread = true;
        rec_send(gw, &recs[i], &request);
        memset(prompt, 'x', sizeof prompt - 1); /* the request was copied */
        memset(model, 'x', sizeof model - 1);
    }
    assert_int_equal(llmgw_pending(gw), N);
    assert_true(rec_drive(gw, recs, N, 10000));
    for (int i = 0; i < N; i++) {
        char expected[64];
        snprintf(expected, sizeof expected, "Echo from m: number %d", i);
        rec_check(&recs[i]);
        assert_string_equal(recs[i].reply->text, expected);
        rec_free(&recs[i]);
    }
    assert_int_equal(llmgw_pending(gw), 0);
    llmgw_close(gw);
}

static void *wake_in_a_moment(void *gw) {
    t_sleep_ms(100);
    llmgw_wake((llmgw *)gw);
    return NULL;
}

/* With nothing in flight a poll waits for another thread's send or wake, as a worker thread wants. */
static void poll_waits_with_nothing_pending(void **state) {
    llmgw *gw = t_open(&provider, NULL);
    pthread_t thread;
    int64_t start = t_now_ms();
    assert_int_equal(llmgw_poll(gw, 50), 0);
    assert_true(t_now_ms() - start >= 45);
    assert_int_equal(pthread_create(&thread, NULL, wake_in_a_moment, gw), 0);
    assert_int_equal(llmgw_poll(gw, -1), 0);
    pthread_join(thread, NULL);
    assert_int_equal(llmgw_timeout_ms(gw), -1);
    assert_int_equal(llmgw_poll(gw, -2), -LLMGW_E_ARGUMENT);
    assert_int_equal(llmgw_poll(NULL, 0), -LLMGW_E_CLOSED);
    llmgw_close(gw);
}

static void poll_without_callback(void **state) {
    llmgw *gw = t_open(&provider, NULL);
    llmgw_request request = {0};
    request.model = "openai/m";
    request.prompt = "nobody listens";
    assert_int_not_equal(llmgw_send(gw, &request, NULL), 0);
    int64_t until = t_now_ms() + 5000;
    while (llmgw_pending(gw) && t_now_ms() < until) (void)llmgw_poll(gw, 100);
    assert_int_equal(llmgw_pending(gw), 0);
    llmgw_close(gw);
}

static void two_hundred_in_flight(void **state) {
    int n = t_rounds(200);
    Rec *recs = (Rec *)calloc((size_t)n, sizeof *recs);
    llmgw *gw = t_open(&provider, NULL);
    for (int i = 0; i < n; i++) {
        llmgw_request request = rec_request(
            &recs[i], t_model(t_dialects[i % 3], "\"chunk_ms\":30,\"text_repeat\":5"), "abc", true);
        recs[i].thread = pthread_self();
        recs[i].check_thread = true;
        rec_send(gw, &recs[i], &request);
    }
    assert_true(rec_drive(gw, recs, n, 20000));
    for (int i = 0; i < n; i++) {
        rec_check(&recs[i]);
        t_expect_code(recs[i].reply, LLMGW_OK);
        rec_free(&recs[i]);
    }
    assert_true(provider_count(&provider, "max_open") > n / 2);
    assert_int_equal(provider_count(&provider, "requests"), n);
    llmgw_close(gw);
    free(recs);
}

/* ---- foreign event loops ---- */

/* Only our descriptor is watched, for as long as it takes. */
static bool epoll_drive(llmgw *gw, const Rec *recs, int count, int ms) {
    int set = epoll_create1(EPOLL_CLOEXEC), fd = llmgw_fd(gw);
    struct epoll_event event = {.events = EPOLLIN};
    int64_t until = t_now_ms() + ms;
    bool good = fd >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0;
    while (good && rec_ended(recs, count) < count) {
        int64_t left = until - t_now_ms();
        int n = left > 0 ? epoll_wait(set, &event, 1, (int)left) : 0;
        good = n == 1 && llmgw_poll(gw, 0) >= 0;
    }
    close(set);
    return good;
}

static void nested_in_epoll(void **state) {
    enum { N = 30 };
    Rec recs[N] = {0};
    llmgw *gw = t_open(&provider, NULL);
    for (int round = 0; round < 2; round++) { /* sent before and after the descriptor was first asked for */
        for (int i = 0; i < N; i++) {
            llmgw_request request =
                rec_request(&recs[i], t_model(t_dialects[i % 3], "\"chunk_ms\":10"), "in a loop", i % 2);
            rec_send(gw, &recs[i], &request);
        }
        assert_true(epoll_drive(gw, recs, N, 8000));
        for (int i = 0; i < N; i++) {
            rec_check(&recs[i]);
            t_expect_code(recs[i].reply, LLMGW_OK);
            rec_free(&recs[i]);
        }
    }
    llmgw_close(gw);
}

static void descriptor_brings_timers(void **state) {
    Rec recs[3] = {0};
    llmgw *gw = t_open(&provider, NULL);
    llmgw_request silent = rec_request(&recs[0], t_model("openai", "\"never\":true"), "x", true);
    silent.deadline_ms = 400;
    rec_send(gw, &recs[0], &silent);
    llmgw_request backoff = rec_request(&recs[1], t_model("gemini", "\"status\":500"), "x", true);
    backoff.max_attempts = 3;
    rec_send(gw, &recs[1], &backoff);
    llmgw_request stalled = rec_request(&recs[2], t_model("anthropic", "\"stall_after\":4"), "x", true);
    stalled.idle_ms = 300;
    stalled.max_attempts = 1;
    rec_send(gw, &recs[2], &stalled);
    int64_t start = t_now_ms();
    assert_true(epoll_drive(gw, recs, 3, 10000));
    assert_true(t_now_ms() - start < 8000);
    t_expect_code(recs[0].reply, LLMGW_E_DEADLINE);
    t_expect_code(recs[1].reply, LLMGW_E_PROVIDER);
    assert_int_equal(t_traced(recs[1].reply, LLMGW_TRACE_ATTEMPT), 3);
    t_expect_code(recs[2].reply, LLMGW_E_TIMEOUT_IDLE);
    for (int i = 0; i < 3; i++) rec_check(&recs[i]), rec_free(&recs[i]);
    llmgw_close(gw);
}

static void idle_descriptor_is_quiet(void **state) {
    llmgw *gw = t_open(&provider, NULL);
    struct pollfd p = {llmgw_fd(gw), POLLIN, 0};
    Rec rec = {0};
    assert_true(p.fd >= 0);
    assert_int_equal(llmgw_fd(gw), p.fd);
    (void)llmgw_poll(gw, 0);
    assert_int_equal(poll(&p, 1, 200), 0);
    llmgw_request request = rec_request(&rec, "openai/m", "x", true);
    rec_send(gw, &rec, &request);
    assert_int_equal(poll(&p, 1, 5000), 1);
    assert_true(epoll_drive(gw, &rec, 1, 5000));
    int spins = 0;
    for (; poll(&p, 1, 200) == 1 && spins < 20; spins++) (void)llmgw_poll(gw, 0);
    assert_true(spins < 20); /* no busy loop once all is said */
    rec_check(&rec);
    rec_free(&rec);
    llmgw_close(gw);
}

static void descriptor_is_quiet_again(void **state) {
    llmgw *gw = NULL;
    for (int what = 0; what < 2; what++) {
        Provider own;
        provider_start(&own, NULL);
        gw = t_open(&own, NULL);
        struct pollfd p = {llmgw_fd(gw), POLLIN, 0};
        llmgw_reply *reply = llmgw_ask(gw, "openai/m", "leaves an idle connection");
        t_expect_code(reply, LLMGW_OK);
        llmgw_reply_free(reply);
        if (what == 0) provider_kill(&own); /* the idle connection becomes readable */
        if (what == 1) llmgw_wake(gw);
        int spins = 0;
        for (; poll(&p, 1, 300) == 1 && spins < 50; spins++) (void)llmgw_poll(gw, 0);
        llmgw_close(gw);
        provider_stop(&own);
        if (spins == 50) fail_msg("the descriptor stays readable (%s)", what ? "wake" : "server left");
    }
}

/* The driver's wait, made to see a new call and its own call's end in the same turn: what it was woken for
   must not be lost when it stops driving. */
static llmgwi_http race_real;
static llmgw *race_gw;
static Rec race_recs[64];
static int race_sent;
static pthread_t race_thread;

static void race_poll(void *self, int timeout_ms) {
    if (race_gw && pthread_equal(pthread_self(), race_thread) && timeout_ms != 0 && race_sent < 64) {
        Rec *rec = &race_recs[race_sent++];
        t_sleep_ms(100); /* the answer is there by now */
        llmgw_request request = rec_request(rec, "openai/m", "sent in a bad moment", false);
        rec->call = llmgw_send(race_gw, &request, NULL);
    }
    race_real.poll(self, timeout_ms);
}

static void new_call_is_not_lost_when_a_driver_leaves(void **state) {
    llmgwi_base_mem mem = {0};
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", provider.port);
    llmgw_provider one = {.name = "openai", .dialect = "openai", .url = url, .key = OPENAI_KEY};
    llmgw_options options = {.providers = &one, .provider_count = 1, .no_environment = true};
    llmgw_error error;
    assert_true(llmgwi_http_open(&race_real, &mem, NULL, 100, 100));
    llmgwi_http table = race_real;
    table.poll = race_poll;
    llmgw *gw = llmgwi_public_open(&options, &error, &table, NULL);
    assert_non_null(gw);
    (void)llmgw_fd(gw);
    memset(race_recs, 0, sizeof race_recs);
    race_sent = 0;
    race_thread = pthread_self();
    for (int round = 0; round < 3; round++) {
        int before = race_sent;
        race_gw = gw;
        llmgw_reply *reply = llmgw_ask(gw, t_model("openai", "\"first_token_delay_ms\":50"), "blocking");
        race_gw = NULL;
        t_expect_code(reply, LLMGW_OK);
        llmgw_reply_free(reply);
        assert_true(race_sent > before);
        bool drove = epoll_drive(gw, race_recs, race_sent, 3000);
        if (!drove) fail_msg("%d of %d calls ended", rec_ended(race_recs, race_sent), race_sent);
    }
    for (int i = 0; i < race_sent; i++) rec_check(&race_recs[i]), rec_free(&race_recs[i]);
    llmgw_close(gw);
}

static void waiting_descriptor_does_not_spin(void **state) {
    llmgw *gw = t_open(&provider, NULL);
    struct pollfd p = {llmgw_fd(gw), POLLIN, 0};
    Rec rec = {0};
    llmgw_request request = rec_request(&rec, t_model("openai", "\"never\":true"), "x", true);
    request.deadline_ms = 800;
    rec_send(gw, &rec, &request);
    int turns = 0;
    for (int64_t until = t_now_ms() + 8000; !rec.ends && t_now_ms() < until; turns++) {
        assert_int_equal(poll(&p, 1, 8000), 1);
        (void)llmgw_poll(gw, 0);
    }
    assert_true(turns < 200);
    rec_check(&rec);
    rec_free(&rec);
    llmgw_close(gw);
}

static void on_uv(uv_poll_t *handle, int status, int events) {
    llmgw *gw = (llmgw *)handle->data;
    (void)llmgw_poll(gw, 0);
    if (llmgw_pending(gw) == 0) uv_poll_stop(handle);
}

static void nested_in_libuv(void **state) {
    enum { N = 20 };
    Rec recs[N] = {0};
    uv_loop_t loop;
    uv_poll_t handle;
    llmgw *gw = t_open(&provider, NULL);
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(uv_poll_init(&loop, &handle, llmgw_fd(gw)), 0);
    handle.data = gw;
    assert_int_equal(uv_poll_start(&handle, UV_READABLE, on_uv), 0);
    for (int i = 0; i < N; i++) {
        llmgw_request request =
            rec_request(&recs[i], t_model(t_dialects[i % 3], "\"chunk_ms\":10"), "in libuv", i % 2);
        if (i == 0) request.model = t_model("openai", "\"never\":true");
        if (i == 0) request.deadline_ms = 700;
        rec_send(gw, &recs[i], &request);
    }
    uv_run(&loop, UV_RUN_DEFAULT); /* ends when the last call has */
    for (int i = 0; i < N; i++) {
        t_expect_code(recs[i].reply, i ? LLMGW_OK : LLMGW_E_DEADLINE);
        rec_check(&recs[i]);
        rec_free(&recs[i]);
    }
    uv_close((uv_handle_t *)&handle, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    llmgw_close(gw);
}

/* A loop that has only the descriptor, while other threads block and send. */
typedef struct Sender {
    llmgw *gw;
    pthread_t thread;
    Rec *recs;
    int count;
} Sender;

static void *send_slowly(void *user) {
    Sender *me = (Sender *)user;
    for (int i = 0; i < me->count; i++) {
        llmgw_request request = rec_request(&me->recs[i], "openai/m", "sent from a thread", true);
        (void)llmgw_send(me->gw, &request, NULL);
        if (i % 8 == 0) t_sleep_ms(1);
    }
    return NULL;
}

static void descriptor_while_others_block(void **state) {
    enum { N = 3 };
    Blocker blockers[N];
    int n = t_rounds(400);
    Rec *recs = (Rec *)calloc((size_t)n, sizeof *recs);
    llmgw *gw = t_open(&provider, NULL);
    Sender sender = {.gw = gw, .recs = recs, .count = n};
    (void)llmgw_fd(gw);
    for (int i = 0; i < N; i++) blocker_start(&blockers[i], gw, i, n / 4, NULL);
    assert_int_equal(pthread_create(&sender.thread, NULL, send_slowly, &sender), 0);
    bool drove = epoll_drive(gw, recs, n, 20000);
    pthread_join(sender.thread, NULL);
    for (int i = 0; i < N; i++) {
        pthread_join(blockers[i].thread, NULL);
        assert_int_equal(blockers[i].good, n / 4);
    }
    if (!drove) fail_msg("the descriptor stayed silent with %d of %d calls ended", rec_ended(recs, n), n);
    for (int i = 0; i < n; i++) {
        rec_check(&recs[i]);
        t_expect_code(recs[i].reply, LLMGW_OK);
        rec_free(&recs[i]);
    }
    llmgw_close(gw);
    free(recs);
}

/* ---- mixing ---- */

static void threads_block_while_one_polls(void **state) {
    enum { N = 8, CALLS = 60 };
    Blocker blockers[N];
    Rec recs[CALLS] = {0};
    llmgw *gw = t_open(&provider, NULL);
    int rounds = t_rounds(16);
    for (int i = 0; i < N; i++) blocker_start(&blockers[i], gw, i, rounds, NULL);
    for (int i = 0; i < CALLS; i++) {
        recs[i].thread = pthread_self();
        recs[i].check_thread = true;
        llmgw_request request =
            rec_request(&recs[i], t_model(t_dialects[i % 3], "\"chunk_ms\":5"), "p", true);
        rec_send(gw, &recs[i], &request);
    }
    assert_true(rec_drive(gw, recs, CALLS, 15000));
    for (int i = 0; i < N; i++) {
        pthread_join(blockers[i].thread, NULL);
        assert_int_equal(blockers[i].good, rounds);
    }
    for (int i = 0; i < CALLS; i++) {
        rec_check(&recs[i]);
        t_expect_code(recs[i].reply, LLMGW_OK);
        rec_free(&recs[i]);
    }
    llmgw_close(gw);
}

typedef struct Poller {
    llmgw *gw;
    pthread_t thread;
    int timeout_ms;
    int result; /* of the last poll */
    bool stop, left;
} Poller;

static void *poll_until_told(void *user) {
    Poller *me = (Poller *)user;
    while (!__atomic_load_n(&me->stop, __ATOMIC_ACQUIRE)) me->result = llmgw_poll(me->gw, me->timeout_ms);
    __atomic_store_n(&me->left, true, __ATOMIC_RELEASE);
    return NULL;
}

/* As a program would have it: one thread does nothing but poll, others send. */
static void a_thread_that_only_polls(void **state) {
    enum { CALLS = 40 };
    Rec recs[CALLS] = {0};
    llmgw *gw = t_open(&provider, NULL);
    Poller poller = {.gw = gw, .timeout_ms = -1};
    pthread_create(&poller.thread, NULL, poll_until_told, &poller);
    t_sleep_ms(100); /* it waits with nothing in flight */
    for (int i = 0; i < CALLS; i++) {
        llmgw_request request =
            rec_request(&recs[i], t_model(t_dialects[i % 3], "\"chunk_ms\":3"), "x", i % 2);
        recs[i].thread = poller.thread;
        recs[i].check_thread = true;
        assert_int_not_equal(llmgw_send(gw, &request, NULL), 0);
        if (i % 10 == 9) t_sleep_ms(60); /* sometimes nothing is in flight */
    }
    for (int64_t until = t_now_ms() + 10000; rec_ended(recs, CALLS) < CALLS && t_now_ms() < until;)
        t_sleep_ms(10);
    __atomic_store_n(&poller.stop, true, __ATOMIC_RELEASE);
    llmgw_wake(gw);
    pthread_join(poller.thread, NULL);
    for (int i = 0; i < CALLS; i++) {
        rec_check(&recs[i]);
        t_expect_code(recs[i].reply, LLMGW_OK);
        rec_free(&recs[i]);
    }
    llmgw_close(gw);
}

static void many_threads_poll(void **state) {
    enum { N = 4, CALLS = 80 };
    Poller pollers[N] = {0};
    Rec recs[CALLS] = {0};
    llmgw *gw = t_open(&provider, NULL);
    for (int i = 0; i < CALLS; i++) {
        llmgw_request request =
            rec_request(&recs[i], t_model(t_dialects[i % 3], "\"chunk_ms\":5"), "p", true);
        rec_send(gw, &recs[i], &request);
    }
    for (int i = 0; i < N; i++) {
        pollers[i].gw = gw;
        pollers[i].timeout_ms = 50;
        pthread_create(&pollers[i].thread, NULL, poll_until_told, &pollers[i]);
    }
    int64_t until = t_now_ms() + 15000;
    while (rec_ended(recs, CALLS) < CALLS && t_now_ms() < until) t_sleep_ms(20);
    for (int i = 0; i < N; i++) __atomic_store_n(&pollers[i].stop, true, __ATOMIC_RELEASE);
    for (int i = 0; i < N; i++) pthread_join(pollers[i].thread, NULL);
    for (int i = 0; i < CALLS; i++) {
        rec_check(&recs[i]);
        t_expect_code(recs[i].reply, LLMGW_OK);
        rec_free(&recs[i]);
    }
    llmgw_close(gw);
}

/* ---- waking and cancelling ---- */

static void *wake_later(void *user) {
    t_sleep_ms(300);
    llmgw_wake((llmgw *)user);
    return NULL;
}

static void wake_from_another_thread(void **state) {
    pthread_t thread;
    Rec rec = {0};
    llmgw *gw = t_open(&provider, NULL);
    llmgw_request request = rec_request(&rec, t_model("openai", "\"never\":true"), "x", false);
    rec_send(gw, &rec, &request);
    while (llmgw_poll(gw, 100) > 0) continue; /* TRY */
    pthread_create(&thread, NULL, wake_later, gw);
    int64_t start = t_now_ms();
    assert_int_equal(llmgw_poll(gw, 20000), 0);
    int64_t took = t_now_ms() - start;
    assert_true(took >= 100 && took < 5000);
    pthread_join(thread, NULL);
    llmgw_wake(gw); /* with nobody waiting: the next poll returns at once */
    start = t_now_ms();
    assert_int_equal(llmgw_poll(gw, 20000), 0);
    assert_true(t_now_ms() - start < 5000);
    llmgw_cancel(gw, rec.call);
    assert_true(rec_drive(gw, &rec, 1, 5000));
    rec_check(&rec);
    rec_free(&rec);
    llmgw_close(gw);
}

static void wake_in_hook(Rec *rec, const llmgw_event *event) {
    if (event->kind == LLMGW_EVENT_TRY) llmgw_wake(event->gateway);
}

static void wake_from_a_callback(void **state) {
    Rec rec = {0};
    llmgw *gw = t_open(&provider, NULL);
    rec.hook = wake_in_hook;
    llmgw_request request = rec_request(&rec, "openai/m", "x", true);
    rec_send(gw, &rec, &request);
    assert_true(rec_drive(gw, &rec, 1, 5000));
    rec_check(&rec);
    t_expect_code(rec.reply, LLMGW_OK);
    rec_free(&rec);
    llmgw_close(gw);
}

static void *cancel_later(void *user) {
    Rec *rec = (Rec *)user;
    t_sleep_ms(300);
    llmgw_cancel((llmgw *)rec->arg, __atomic_load_n(&rec->call, __ATOMIC_RELAXED));
    return NULL;
}

static void cancel_from_another_thread(void **state) {
    llmgw *gw = t_open(&provider, NULL);
    for (int blocking = 0; blocking < 2; blocking++) {
        pthread_t thread;
        Rec rec = {0};
        rec.arg = gw;
        llmgw_request request = rec_request(&rec, t_model("anthropic", "\"stall_after\":5"), "stall", true);
        if (!blocking) rec_send(gw, &rec, &request);
        pthread_create(&thread, NULL, cancel_later, &rec);
        int64_t start = t_now_ms();
        if (blocking)
            (void)rec_chat(gw, &rec, &request);
        else
            assert_true(rec_drive(gw, &rec, 1, 10000));
        assert_true(t_now_ms() - start < 5000);
        pthread_join(thread, NULL);
        rec_check(&rec);
        t_expect_code(rec.reply, LLMGW_E_CANCELLED);
        assert_int_equal(rec.reply->finish, LLMGW_FINISH_NONE);
        rec_free(&rec);
    }
    assert_true(provider_wait(&provider, "open", 0, 3000)); /* the transfers are gone */
    llmgw_close(gw);
}

static void cancel_in_hook(Rec *rec, const llmgw_event *event) {
    if (event->kind == LLMGW_EVENT_TEXT || event->kind == LLMGW_EVENT_END)
        llmgw_cancel(event->gateway, event->call);
}

static void cancel_inside_a_callback(void **state) {
    llmgw *gw = t_open(&provider, NULL);
    for (int i = 0; i < 6; i++) {
        Rec rec = {0};
        rec.hook = cancel_in_hook;
        llmgw_request request =
            rec_request(&rec, t_model(t_dialects[i % 3], "\"endless\":true,\"chunk_ms\":20"), "e", true);
        if (i < 3) {
            (void)rec_chat(gw, &rec, &request);
        } else {
            rec_send(gw, &rec, &request);
            assert_true(rec_drive(gw, &rec, 1, 5000));
        }
        rec_check(&rec);
        t_expect_code(rec.reply, LLMGW_E_CANCELLED);
        assert_true(rec.reply->text_len > 0);
        rec_free(&rec);
    }
    llmgw_close(gw);
}

static void cancel_of_stale_handles(void **state) {
    Rec recs[2] = {0};
    llmgw *gw = t_open(&provider, NULL);
    llmgw_request request = rec_request(&recs[0], "openai/m", "x", false);
    rec_send(gw, &recs[0], &request);
    llmgw_call stale = recs[0].call;
    assert_true(rec_drive(gw, recs, 1, 5000));
    request = rec_request(&recs[1], "openai/m", "y", false); /* likely takes the same place */
    rec_send(gw, &recs[1], &request);
    assert_true(recs[1].call != stale);
    llmgw_cancel(gw, stale);
    llmgw_cancel(gw, 0);
    llmgw_cancel(gw, UINT64_MAX);
    llmgw_cancel(gw, 77);
    llmgw_cancel(NULL, stale);
    assert_true(rec_drive(gw, recs, 2, 5000));
    for (int i = 0; i < 2; i++) {
        rec_check(&recs[i]);
        t_expect_code(recs[i].reply, LLMGW_OK);
        rec_free(&recs[i]);
    }
    llmgw_close(gw);
}

static void cancel_before_the_first_poll(void **state) {
    Rec rec = {0};
    llmgw *gw = t_open(&provider, NULL);
    llmgw_request request = rec_request(&rec, "openai/m", "x", false);
    rec_send(gw, &rec, &request);
    llmgw_cancel(gw, rec.call);
    llmgw_cancel(gw, rec.call);
    assert_true(rec_drive(gw, &rec, 1, 5000));
    rec_check(&rec);
    t_expect_code(rec.reply, LLMGW_E_CANCELLED);
    assert_int_equal(provider_count(&provider, "requests"), 0);
    rec_free(&rec);
    llmgw_close(gw);
}

typedef struct Storm {
    llmgw *gw;
    Rec *recs;
    int count;
} Storm;

static void *cancel_storm(void *user) {
    Storm *storm = (Storm *)user;
    for (int i = 0; i < storm->count; i++) {
        if (i % 16 == 0) t_sleep_ms(1);
        llmgw_call call = __atomic_load_n(&storm->recs[i].call, __ATOMIC_RELAXED); /* events store it */
        llmgw_cancel(storm->gw, call);
        llmgw_cancel(storm->gw, call);
    }
    return NULL;
}

static void cancel_storm_ends_each_once(void **state) {
    int n = t_rounds(400);
    Rec *recs = (Rec *)calloc((size_t)n, sizeof *recs);
    llmgw *gw = t_open(&provider, NULL);
    Storm storm = {gw, recs, n};
    pthread_t thread;
    for (int i = 0; i < n; i++) {
        llmgw_request request =
            rec_request(&recs[i], t_model(t_dialects[i % 3], "\"chunk_ms\":2"), "s", i % 2);
        rec_send(gw, &recs[i], &request);
    }
    pthread_create(&thread, NULL, cancel_storm, &storm);
    assert_true(rec_drive(gw, recs, n, 20000));
    pthread_join(thread, NULL);
    for (int i = 0; i < n; i++) {
        rec_check(&recs[i]);
        if (recs[i].reply->error.code != LLMGW_E_CANCELLED) t_expect_code(recs[i].reply, LLMGW_OK);
        rec_free(&recs[i]);
    }
    assert_int_equal(llmgw_pending(gw), 0);
    llmgw_close(gw);
    free(recs);
}

/* ---- from inside callbacks ---- */

static void chain_hook(Rec *rec, const llmgw_event *event) {
    if (event->kind != LLMGW_EVENT_END || !rec->arg) return;
    Rec *next = (Rec *)rec->arg;
    llmgw_request request = rec_request(next, "gemini/m", "next in the chain", true);
    next->call = llmgw_send(event->gateway, &request, NULL);
}

static void send_from_a_callback(void **state) {
    enum { N = 6 };
    Rec recs[N] = {0};
    llmgw *gw = t_open(&provider, NULL);
    for (int i = 0; i < N; i++) {
        recs[i].hook = chain_hook;
        recs[i].arg = i + 1 < N ? &recs[i + 1] : NULL;
    }
    llmgw_request request = rec_request(&recs[0], "openai/m", "first", true);
    rec_send(gw, &recs[0], &request);
    assert_true(rec_drive(gw, recs, N, 10000));
    for (int i = 0; i < N; i++) rec_check(&recs[i]), rec_free(&recs[i]);
    llmgw_close(gw);
}

static void chat_hook(Rec *rec, const llmgw_event *event) {
    if (event->kind != LLMGW_EVENT_TRY || rec->arg) return;
    rec->arg = llmgw_ask(event->gateway, "anthropic/inner", "asked inside a callback");
}

static void chat_inside_a_callback(void **state) {
    llmgw *gw = t_open(&provider, NULL);
    for (int blocking = 0; blocking < 2; blocking++) {
        Rec rec = {0};
        rec.hook = chat_hook;
        llmgw_request request = rec_request(&rec, t_model("openai", "\"chunk_ms\":20"), "outer", true);
        if (blocking) {
            (void)rec_chat(gw, &rec, &request);
        } else {
            rec_send(gw, &rec, &request);
            assert_true(rec_drive(gw, &rec, 1, 8000));
        }
        llmgw_reply *inner = (llmgw_reply *)rec.arg;
        assert_non_null(inner);
        assert_string_equal(inner->text, "Echo from inner: asked inside a callback");
        llmgw_reply_free(inner);
        rec_check(&rec);
        t_expect_code(rec.reply, LLMGW_OK);
        rec_free(&rec);
    }
    llmgw_close(gw);
}

typedef struct Misuse {
    int polled, closed;
    int logged;
} Misuse;

static void misuse_hook(Rec *rec, const llmgw_event *event) {
    Misuse *misuse = (Misuse *)rec->arg;
    misuse->polled += llmgw_poll(event->gateway, 1000) == -LLMGW_E_MISUSE;
    misuse->closed += llmgw_close(event->gateway) == LLMGW_E_MISUSE;
}

static void misuse_log(const llmgw_log_entry *entry, void *user) {
    if (entry->item == LLMGW_LOG_MISUSE && entry->level == 0 && strstr(entry->line, "callback"))
        ((Misuse *)user)->logged++;
}

static void poll_and_close_inside_a_callback(void **state) {
    Misuse misuse = {0};
    llmgw_options options = {0};
    options.log = misuse_log;
    options.log_user = &misuse;
    llmgw *gw = t_open(&provider, &options);
    Rec recs[2] = {0};
    for (int i = 0; i < 2; i++) {
        recs[i].hook = misuse_hook;
        recs[i].arg = &misuse;
        llmgw_request request = rec_request(&recs[i], "openai/m", "x", true);
        if (i == 0) {
            rec_send(gw, &recs[i], &request);
            assert_true(rec_drive(gw, &recs[i], 1, 5000));
        } else {
            (void)rec_chat(gw, &recs[i], &request);
        }
        rec_check(&recs[i]);
        t_expect_code(recs[i].reply, LLMGW_OK);
    }
    int events = recs[0].events + recs[1].events;
    assert_int_equal(misuse.polled, events);
    assert_int_equal(misuse.closed, events);
    assert_int_equal(misuse.logged, 2 * events);
    rec_free(&recs[0]);
    rec_free(&recs[1]);
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
}

/* ---- closing ---- */

static void close_with_calls_in_flight(void **state) {
    enum { N = 30 };
    Rec recs[N] = {0};
    llmgw *gw = t_open(&provider, NULL);
    for (int i = 0; i < N; i++) { /* not begun, waiting, stalled, in backoff */
        static const char *const faults[] = {"\"never\":true", "\"stall_after\":5", "\"status\":500",
                                             "\"cached\":1"};
        llmgw_request request = rec_request(&recs[i], t_model(t_dialects[i % 3], faults[i % 4]), "x", i % 2);
        request.max_attempts = 60;
        recs[i].thread = pthread_self();
        recs[i].check_thread = true;
        rec_send(gw, &recs[i], &request);
        if (i == N / 2)
            for (int k = 0; k < 10; k++) (void)llmgw_poll(gw, 20);
    }
    int64_t start = t_now_ms();
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
    assert_true(t_now_ms() - start < 5000);
    for (int i = 0; i < N; i++) {
        rec_check(&recs[i]);
        if (recs[i].reply->error.code != LLMGW_OK) t_expect_code(recs[i].reply, LLMGW_E_CLOSED);
        rec_free(&recs[i]);
    }
}

static void close_lets_blocked_threads_return(void **state) {
    enum { N = 8 };
    Blocker blockers[N];
    llmgw *gw = t_open(&provider, NULL);
    Poller poller = {.gw = gw, .timeout_ms = -1};
    for (int i = 0; i < N; i++)
        blocker_start(&blockers[i], gw, i, 1, t_model(t_dialects[i % 3], "\"never\":true"));
    while (llmgw_pending(gw) < N) t_sleep_ms(10);
    poller.stop = false;
    pthread_create(&poller.thread, NULL, poll_until_told, &poller);
    t_sleep_ms(200);
    __atomic_store_n(&poller.stop, true, __ATOMIC_RELEASE);
    int64_t start = t_now_ms();
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
    assert_true(t_now_ms() - start < 5000);
    pthread_join(poller.thread, NULL);
    for (int i = 0; i < N; i++) {
        pthread_join(blockers[i].thread, NULL);
        assert_int_equal(blockers[i].code, LLMGW_E_CLOSED);
        assert_int_equal(blockers[i].good, 0);
    }
}

static void replies_outlive_their_gateway(void **state) {
    Rec rec = {0};
    llmgw *gw = t_open(&provider, NULL);
    llmgw_request request =
        rec_request(&rec, t_model("anthropic", "\"reasoning\":\"hm\",\"text_repeat\":50"), "k", true);
    rec_send(gw, &rec, &request);
    assert_true(rec_drive(gw, &rec, 1, 5000));
    llmgw_reply *blocking = llmgw_ask(gw, "openai/m", "and this one");
    llmgw_close(gw);
    rec_check(&rec);
    assert_string_equal(rec.reply->provider, "anthropic");
    assert_string_equal(rec.reply->reasoning, "hm");
    assert_string_equal(rec.reply->trace[0].provider, "anthropic");
    assert_non_null(strstr(rec.reply->trace[0].model, "fault:"));
    assert_true(rec.reply->message.part_count >= 2);
    assert_string_equal(blocking->text, "Echo from m: and this one");
    llmgw_reply *again = llmgw_reply_keep(blocking);
    llmgw_reply_free(blocking);
    assert_string_equal(again->text, "Echo from m: and this one");
    llmgw_reply_free(again);
    rec_free(&rec);
}

static void null_gateway(void **state) {
    llmgw_error error;
    llmgw_request request = {0};
    request.model = "openai/m";
    request.prompt = "x";
    llmgw_reply *reply = llmgw_ask(NULL, "openai/m", "x");
    t_expect_code(reply, LLMGW_E_CLOSED);
    assert_string_equal(reply->text, "");
    llmgw_reply_free(reply);
    llmgw_reply_free(reply);
    assert_int_equal(llmgw_send(NULL, &request, &error), 0);
    assert_int_equal(error.code, LLMGW_E_CLOSED);
    assert_int_equal(llmgw_fd(NULL), -1);
    assert_int_equal(llmgw_timeout_ms(NULL), -1);
    assert_int_equal(llmgw_pending(NULL), 0);
    llmgw_wake(NULL);
    assert_int_equal(llmgw_close(NULL), LLMGW_OK);
}

/* ---- caps ---- */

typedef struct Meter {
    size_t now, peak; /* atomically */
} Meter;

static void *metered(void *p, size_t old_size, size_t new_size, void *user) {
    Meter *meter = (Meter *)user;
    size_t now = __atomic_add_fetch(&meter->now, new_size - old_size, __ATOMIC_RELAXED);
    size_t peak = __atomic_load_n(&meter->peak, __ATOMIC_RELAXED);
    while (now > peak &&
           !__atomic_compare_exchange_n(&meter->peak, &peak, now, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        continue;
    if (new_size) return realloc(p, new_size);
    free(p);
    return NULL;
}

static void text_hook(Rec *rec, const llmgw_event *event) {
    rec->text.n = 0; /* an endless text is not kept */
}

/* Another thread drives, so that the stream flows while nobody takes its events. */
static void slow_consumer_pauses_the_transfer(void **state) {
    Meter meter = {0, 0};
    Rec rec = {0}, other = {0};
    llmgw_options options = {0};
    options.alloc = metered;
    options.alloc_user = &meter;
    options.max_queue_bytes = 32 << 10;
    options.max_reply_bytes = (size_t)1 << 30;
    llmgw *gw = t_open(&provider, &options);
    rec.hook = text_hook;
    llmgw_request request =
        rec_request(&rec, t_model("openai", "\"endless\":true"), "a long text to repeat", true);
    request.idle_ms = 300; /* a pause is ours: it is no silence of the provider */
    rec_send(gw, &rec, &request);
    llmgw_request wait = rec_request(&other, t_model("gemini", "\"delay_ms\":800"), "x", false);
    (void)rec_chat(gw, &other, &wait); /* drives both calls */
    t_expect_code(other.reply, LLMGW_OK);
    assert_true(meter.peak < 4 << 20);
    assert_int_equal(rec.events, 0);
    size_t paused = meter.now;
    for (int64_t until = t_now_ms() + 3000; rec.pieces < 3000 && t_now_ms() < until;)
        (void)llmgw_poll(gw, 100);
    assert_true(rec.pieces >= 3000); /* it flows again */
    assert_int_equal(rec.ends, 0);
    assert_true(paused < 4 << 20);
    llmgw_cancel(gw, rec.call);
    assert_true(rec_drive(gw, &rec, 1, 5000));
    t_expect_code(rec.reply, LLMGW_E_CANCELLED);
    assert_int_equal(rec.ends, 1);
    rec_free(&rec);
    rec_free(&other);
    llmgw_close(gw);
    assert_int_equal(meter.now, 0);
}

static void paused_stream_loses_nothing(void **state) {
    Rec rec = {0}, other = {0};
    llmgw_options options = {0};
    options.max_queue_bytes = 8 << 10;
    llmgw *gw = t_open(&provider, &options);
    for (size_t i = 0; i < 3; i++) {
        llmgw_request request =
            rec_request(&rec, t_model(t_dialects[i], "\"text_repeat\":4000"), "0123456789", true);
        rec_send(gw, &rec, &request);
        llmgw_request wait = rec_request(&other, t_model("gemini", "\"delay_ms\":200"), "x", false);
        (void)rec_chat(gw, &other, &wait);
        assert_true(rec_drive(gw, &rec, 1, 10000));
        rec_check(&rec);
        t_expect_code(rec.reply, LLMGW_OK);
        assert_true(rec.reply->text_len > 12000); /* anthropic stops at its default max_tokens */
        rec_free(&rec);
        rec_free(&other);
    }
    llmgw_close(gw);
}

static void a_paused_call_can_reach_its_deadline(void **state) {
    Rec rec = {0}, other = {0};
    llmgw_options options = {0};
    options.max_queue_bytes = 4 << 10;
    options.max_reply_bytes = (size_t)1 << 30;
    llmgw *gw = t_open(&provider, &options);
    llmgw_request request = rec_request(&rec, t_model("anthropic", "\"endless\":true"), "deadline", true);
    request.deadline_ms = 500;
    rec_send(gw, &rec, &request);
    llmgw_request wait = rec_request(&other, t_model("gemini", "\"delay_ms\":700"), "x", false);
    (void)rec_chat(gw, &other, &wait);
    assert_true(rec_drive(gw, &rec, 1, 5000));
    rec_check(&rec);
    t_expect_code(rec.reply, LLMGW_E_DEADLINE);
    rec_free(&rec);
    rec_free(&other);
    llmgw_close(gw);
}

static void max_calls_is_kept(void **state) {
    Rec recs[5] = {0};
    llmgw_error error;
    llmgw_options options = {0};
    options.max_calls = 4;
    llmgw *gw = t_open(&provider, &options);
    for (int i = 0; i < 4; i++) {
        llmgw_request request = rec_request(&recs[i], t_model("openai", "\"delay_ms\":200"), "x", false);
        rec_send(gw, &recs[i], &request);
    }
    llmgw_request request = rec_request(&recs[4], "openai/m", "x", false);
    assert_int_equal(llmgw_send(gw, &request, &error), 0);
    assert_int_equal(error.code, LLMGW_E_LIMIT);
    assert_non_null(strstr(error.text, "max_calls"));
    llmgw_reply *reply = llmgw_ask(gw, "openai/m", "x");
    t_expect_code(reply, LLMGW_E_LIMIT);
    llmgw_reply_free(reply);
    assert_true(rec_drive(gw, recs, 4, 5000));
    assert_int_equal(recs[4].events, 0);
    rec_send(gw, &recs[4], &request); /* there is room again */
    assert_true(rec_drive(gw, recs, 5, 5000));
    for (int i = 0; i < 5; i++) rec_check(&recs[i]), rec_free(&recs[i]);
    llmgw_close(gw);
}

static void max_connections_queue(void **state) {
    enum { N = 40 };
    Rec recs[N] = {0};
    llmgw_options options = {0};
    options.max_connections = 3;
    llmgw *gw = t_open(&provider, &options);
    for (int i = 0; i < N; i++) {
        llmgw_request request =
            rec_request(&recs[i], t_model(t_dialects[i % 3], "\"delay_ms\":30"), "x", i % 2);
        if (i == N - 1) request.deadline_ms = 60; /* ends in the queue */
        rec_send(gw, &recs[i], &request);
    }
    llmgw_cancel(gw, recs[N - 2].call);
    assert_true(rec_drive(gw, recs, N, 15000));
    for (int i = 0; i < N; i++) {
        rec_check(&recs[i]);
        t_expect_code(recs[i].reply, i == N - 1   ? LLMGW_E_DEADLINE
                                     : i == N - 2 ? LLMGW_E_CANCELLED
                                                  : LLMGW_OK);
        rec_free(&recs[i]);
    }
    assert_true(provider_count(&provider, "max_open") <= 3);
    assert_int_equal(provider_count(&provider, "requests"), N - 2);
    llmgw_close(gw);
}

/* A call that repeats its attempts while connections are short. */
static void retries_with_one_connection(void **state) {
    enum { N = 6 };
    Rec recs[N] = {0};
    llmgw_options options = {0};
    options.max_connections = 1;
    llmgw *gw = t_open(&provider, &options);
    provider_rule(&provider, "{\"model\":\"flaky\",\"status\":500,\"times\":3}");
    for (int i = 0; i < N; i++) {
        llmgw_request request = rec_request(&recs[i], "openai/flaky", "x", i % 2);
        rec_send(gw, &recs[i], &request);
    }
    assert_true(rec_drive(gw, recs, N, 10000));
    for (int i = 0; i < N; i++) {
        rec_check(&recs[i]);
        t_expect_code(recs[i].reply, LLMGW_OK);
        rec_free(&recs[i]);
    }
    assert_int_equal(provider_count(&provider, "requests"), N + 3);
    llmgw_close(gw);
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(ask_all_dialects),
        TEST(many_threads_block),
        TEST(poll_runs_callbacks_here),
        TEST(poll_waits_with_nothing_pending),
        TEST(poll_without_callback),
        TEST(two_hundred_in_flight),
        TEST(nested_in_epoll),
        TEST(descriptor_brings_timers),
        TEST(idle_descriptor_is_quiet),
        TEST(descriptor_is_quiet_again),
        TEST(new_call_is_not_lost_when_a_driver_leaves),
        TEST(waiting_descriptor_does_not_spin),
        TEST(nested_in_libuv),
        TEST(descriptor_while_others_block),
        TEST(threads_block_while_one_polls),
        TEST(many_threads_poll),
        TEST(a_thread_that_only_polls),
        TEST(wake_from_another_thread),
        TEST(wake_from_a_callback),
        TEST(cancel_from_another_thread),
        TEST(cancel_inside_a_callback),
        TEST(cancel_of_stale_handles),
        TEST(cancel_before_the_first_poll),
        TEST(cancel_storm_ends_each_once),
        TEST(send_from_a_callback),
        TEST(chat_inside_a_callback),
        TEST(poll_and_close_inside_a_callback),
        TEST(close_with_calls_in_flight),
        TEST(close_lets_blocked_threads_return),
        TEST(replies_outlive_their_gateway),
        TEST(null_gateway),
        TEST(slow_consumer_pauses_the_transfer),
        TEST(paused_stream_loses_nothing),
        TEST(a_paused_call_can_reach_its_deadline),
        TEST(max_calls_is_kept),
        TEST(max_connections_queue),
        TEST(retries_with_one_connection),
    };
    return cmocka_run_group_tests_name("call", tests, group_start, group_stop);
}
