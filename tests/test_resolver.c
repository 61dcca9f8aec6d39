/* A resolver that never answers freezes nothing. This program defines getaddrinfo itself (the linker exports it,
 * as libcurl refers to it): never.test blocks the asking thread for an hour, slow.test for a second. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"
#include "group.h"
#include <dlfcn.h>
#include <netdb.h>

#define SLACK_MS 4000

static int asked_never, asked_gone; /* atomically */

typedef int (*resolve_fn)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
    resolve_fn real = (resolve_fn)dlsym(RTLD_NEXT, "getaddrinfo");
    if (name && strcmp(name, "never.test") == 0) {
        __atomic_add_fetch(&asked_never, 1, __ATOMIC_RELEASE);
        sleep(3600);
        return EAI_AGAIN;
    }
    if (name && strcmp(name, "gone.test") == 0) {
        __atomic_add_fetch(&asked_gone, 1, __ATOMIC_RELEASE);
        return EAI_NONAME;
    }
    if (name && strcmp(name, "slow.test") == 0) {
        sleep(1);
        name = "127.0.0.1";
    }
    return real(name, service, hints, out);
}

static int reset(void **state) {
    provider_reset(&provider);
    return 0;
}

/* openai, anthropic and gemini at the fake provider; the provider named far at a host of this name. */
static llmgw *open_with(const char *host, const llmgw_options *more) {
    static char url[64];
    static llmgw_provider far = {.name = "far", .dialect = "openai"};
    llmgw_options options = {0};
    if (more) options = *more;
    snprintf(url, sizeof url, "http://%s:%d/v1", host, provider.port);
    far.url = url;
    options.providers = &far;
    options.provider_count = 1;
    return t_open(&provider, &options);
}

static void wait_until_asked(llmgw *gw, int before) {
    for (int64_t until = t_now_ms() + 5000; t_now_ms() < until;) {
        if (__atomic_load_n(&asked_never, __ATOMIC_ACQUIRE) > before) return;
        (void)llmgw_poll(gw, 20);
    }
    fail_msg("libcurl did not call this program's getaddrinfo");
}

static void the_interposer_is_called(void **state) {
    Rec rec = {0};
    llmgw *gw = open_with("gone.test", NULL);
    llmgw_request request = rec_request(&rec, "far/m", "x", false);
    request.max_attempts = 1;
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    assert_true(__atomic_load_n(&asked_gone, __ATOMIC_ACQUIRE) > 0);
    t_expect_code(reply, LLMGW_E_NETWORK);
    t_expect_text(reply, "gone.test");
    assert_int_equal(t_sent(reply), 0);
    rec_free(&rec);
    llmgw_close(gw);
}

static void cancel_ends_at_once(void **state) {
    Rec rec = {0};
    int before = __atomic_load_n(&asked_never, __ATOMIC_ACQUIRE);
    llmgw *gw = open_with("never.test", NULL);
    llmgw_request request = rec_request(&rec, "far/m", "x", true);
    rec_send(gw, &rec, &request);
    wait_until_asked(gw, before);
    int64_t start = t_now_ms();
    llmgw_cancel(gw, rec.call);
    assert_true(rec_drive(gw, &rec, 1, SLACK_MS));
    assert_true(t_now_ms() - start < SLACK_MS);
    rec_check(&rec);
    t_expect_code(rec.reply, LLMGW_E_CANCELLED);
    rec_free(&rec);
    llmgw_close(gw);
}

static void connect_deadline_ends_it(void **state) {
    Rec rec = {0};
    llmgw *gw = open_with("never.test", NULL);
    llmgw_request request = rec_request(&rec, "far/m", "x", true);
    request.connect_ms = 300;
    request.max_attempts = 2;
    int64_t start = t_now_ms();
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    assert_true(t_now_ms() - start < 1100 + SLACK_MS);
    t_expect_code(reply, LLMGW_E_TIMEOUT_CONNECT);
    t_expect_text(reply, "connect_ms");
    assert_int_equal(t_traced(reply, LLMGW_TRACE_ATTEMPT), 2);
    rec_free(&rec);
    llmgw_close(gw);
}

static void call_deadline_ends_it(void **state) {
    Rec rec = {0};
    llmgw *gw = open_with("never.test", NULL);
    llmgw_request request = rec_request(&rec, "far/m", "x", false);
    request.deadline_ms = 300;
    request.connect_ms = LLMGW_OFF;
    int64_t start = t_now_ms();
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    assert_true(t_now_ms() - start < 300 + SLACK_MS);
    t_expect_code(reply, LLMGW_E_DEADLINE);
    t_expect_text(reply, "connecting");
    rec_free(&rec);
    llmgw_close(gw);
}

static void other_calls_go_on(void **state) {
    enum { STUCK = 10, FREE = 20 };
    Rec stuck[STUCK] = {0}, recs[FREE] = {0};
    int before = __atomic_load_n(&asked_never, __ATOMIC_ACQUIRE);
    llmgw *gw = open_with("never.test", NULL);
    for (int i = 0; i < STUCK; i++) {
        llmgw_request request = rec_request(&stuck[i], "far/m", "x", i % 2);
        rec_send(gw, &stuck[i], &request);
    }
    wait_until_asked(gw, before);
    int64_t start = t_now_ms();
    for (int i = 0; i < FREE; i++) {
        llmgw_request request =
            rec_request(&recs[i], t_model(t_dialects[i % 3], "\"chunk_ms\":5"), "free", i % 2);
        rec_send(gw, &recs[i], &request);
    }
    assert_true(rec_drive(gw, recs, FREE, SLACK_MS));
    llmgw_reply *reply = llmgw_ask(gw, "openai/m", "blocking too");
    t_expect_code(reply, LLMGW_OK);
    llmgw_reply_free(reply);
    assert_true(t_now_ms() - start < SLACK_MS);
    assert_int_equal(rec_ended(stuck, STUCK), 0);
    start = t_now_ms();
    assert_int_equal(llmgw_close(gw), LLMGW_OK); /* with ten threads that will not come back */
    assert_true(t_now_ms() - start < SLACK_MS);
    for (int i = 0; i < FREE; i++) rec_check(&recs[i]), rec_free(&recs[i]);
    for (int i = 0; i < STUCK; i++) {
        rec_check(&stuck[i]);
        t_expect_code(stuck[i].reply, LLMGW_E_CLOSED);
        rec_free(&stuck[i]);
    }
}

static void a_frozen_name_falls_back(void **state) {
    Rec rec = {0};
    const char *targets[] = {"far/m", "gemini/m"};
    llmgw_route route = {.name = "both", .targets = targets, .target_count = 2};
    llmgw_options options = {.routes = &route, .route_count = 1, .connect_ms = 300};
    llmgw *gw = open_with("never.test", &options);
    llmgw_request request = rec_request(&rec, "both", "fall back", true);
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_string_equal(reply->provider, "gemini");
    assert_int_equal(reply->trace[0].code, LLMGW_E_TIMEOUT_CONNECT);
    rec_free(&rec);
    llmgw_close(gw);
}

static void a_slow_name_is_waited_for(void **state) {
    Rec rec = {0};
    llmgw *gw = open_with("slow.test", NULL);
    llmgw_request request = rec_request(&rec, "far/m", "patience", true);
    int64_t start = t_now_ms();
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    /* the key-less provider is reached; the fake one misses the key */
    t_expect_code(reply, LLMGW_E_AUTH);
    assert_true(t_now_ms() - start >= 900);
    assert_int_equal(reply->trace[0].http_status, 401);
    rec_free(&rec);
    llmgw_close(gw);
}

/* The answer of a resolver comes when its call has long gone. */
static void a_late_answer_is_harmless(void **state) {
    Rec rec = {0};
    llmgw *gw = open_with("slow.test", NULL);
    llmgw_request request = rec_request(&rec, "far/m", "impatience", true);
    request.deadline_ms = 250;
    t_expect_code(rec_chat(gw, &rec, &request), LLMGW_E_DEADLINE);
    rec_free(&rec);
    for (int64_t until = t_now_ms() + 1200; t_now_ms() < until;) {
        llmgw_reply *reply = llmgw_ask(gw, "openai/m", "meanwhile");
        t_expect_code(reply, LLMGW_OK);
        llmgw_reply_free(reply);
        t_sleep_ms(20);
    }
    llmgw_close(gw);
}

static void the_descriptor_alone_suffices(void **state) {
    Rec rec = {0};
    llmgw *gw = open_with("never.test", NULL);
    struct pollfd p = {llmgw_fd(gw), POLLIN, 0};
    llmgw_request request = rec_request(&rec, "far/m", "x", true);
    request.connect_ms = 400;
    request.max_attempts = 1;
    rec_send(gw, &rec, &request);
    int turns = 0;
    for (; !rec.ends; turns++) {
        assert_int_equal(poll(&p, 1, 400 + SLACK_MS), 1);
        (void)llmgw_poll(gw, 0);
    }
    rec_check(&rec);
    t_expect_code(rec.reply, LLMGW_E_TIMEOUT_CONNECT);
    assert_true(turns < 1000);
    rec_free(&rec);
    llmgw_close(gw);
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_interposer_is_called),  TEST(cancel_ends_at_once),       TEST(connect_deadline_ends_it),
        TEST(call_deadline_ends_it),     TEST(other_calls_go_on),         TEST(a_frozen_name_falls_back),
        TEST(a_slow_name_is_waited_for), TEST(a_late_answer_is_harmless), TEST(the_descriptor_alone_suffices),
    };
    return cmocka_run_group_tests_name("resolver", tests, group_start, group_stop);
}
