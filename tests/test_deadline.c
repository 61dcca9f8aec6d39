/* The four deadlines: each ends its attempt with its own code and a text that names the field (law 1: a call
 * ends not later than its deadline). All upper bounds are generous: the machine may be loaded. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"
#include "group.h"

#define SLACK_MS 4000

static llmgw *gw;

static int start(void **state) {
    provider_reset(&provider);
    gw = t_open(&provider, NULL);
    return 0;
}
static int stop(void **state) { return llmgw_close(gw) == LLMGW_OK ? 0 : -1; }

/* A blocking call that must end with code, between low_ms and high_ms. Its reply belongs to rec. */
static const llmgw_reply *expect(llmgw *on, Rec *rec, const llmgw_request *request, llmgw_code code,
                                 int low_ms, int high_ms) {
    int64_t begin = t_now_ms();
    const llmgw_reply *reply = rec_chat(on, rec, request);
    int64_t took = t_now_ms() - begin;
    t_expect_code(reply, code);
    if (took < low_ms || took > high_ms)
        fail_msg("took %d ms, expected %d to %d: %s", (int)took, low_ms, high_ms, reply->error.text);
    assert_true(reply->elapsed_us / 1000 <= took + 1);
    assert_int_equal(llmgw_pending(on), 0);
    return reply;
}

/* ---- connect ---- */

/* A socket whose queue of connections is full: further ones get no answer. */
static int full_backlog(int *port, int *fillers, int count) {
    struct sockaddr_in address;
    int fd = t_listen(0, port);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)*port);
    for (int i = 0; i < count; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(fillers[i], (struct sockaddr *)&address, sizeof address);
    }
    t_sleep_ms(50);
    return fd;
}

static void connect_deadline(void **state) {
    int port, fillers[4], fd = full_backlog(&port, fillers, 4);
    llmgw *other = t_open_at("http", "127.0.0.1", port, NULL);
    Rec rec = {0};
    llmgw_request request = rec_request(&rec, "openai/m", "x", false);
    request.connect_ms = 300;
    request.max_attempts = 1;
    const llmgw_reply *reply = expect(other, &rec, &request, LLMGW_E_TIMEOUT_CONNECT, 280, 300 + SLACK_MS);
    t_expect_text(reply, "connect_ms");
    t_expect_text(reply, "300");
    t_expect_text(reply, "openai");
    assert_true(reply->error.retryable);
    assert_int_equal(t_sent(reply), 0);
    assert_true(reply->cost.known); /* nothing was sent: free */
    assert_int_equal(reply->cost.pico_usd, 0);
    rec_free(&rec);
    llmgw_close(other);
    for (int i = 0; i < 4; i++) close(fillers[i]);
    close(fd);
}

static void serve_silence(Raw *raw, int fd, int number) {
    char c;
    while (recv(fd, &c, 1, 0) == 1) continue;
}

/* connect_ms covers the TLS handshake. */
static void connect_deadline_covers_tls(void **state) {
    Raw raw;
    Rec rec = {0};
    raw_start(&raw, serve_silence, NULL);
    llmgw *other = t_open_at("https", "127.0.0.1", raw.port, NULL);
    llmgw_request request = rec_request(&rec, "openai/m", "x", false);
    request.connect_ms = 300;
    request.max_attempts = 2;
    const llmgw_reply *reply = expect(other, &rec, &request, LLMGW_E_TIMEOUT_CONNECT, 580, 1100 + SLACK_MS);
    t_expect_text(reply, "after 2 attempts");
    assert_int_equal(t_sent(reply), 0);
    rec_free(&rec);
    llmgw_close(other);
    raw_stop(&raw);
}

static void connect_deadline_from_the_options(void **state) {
    Raw raw;
    Rec rec = {0};
    llmgw_options options = {0};
    options.connect_ms = 250;
    options.max_attempts = 1;
    raw_start(&raw, serve_silence, NULL);
    llmgw *other = t_open_at("https", "127.0.0.1", raw.port, &options);
    llmgw_request request = rec_request(&rec, "openai/m", "x", false);
    rec_free(&rec);
    expect(other, &rec, &request, LLMGW_E_TIMEOUT_CONNECT, 230, 250 + SLACK_MS);
    rec_free(&rec);
    request.connect_ms = LLMGW_OFF; /* the request wins: now only the call's deadline is left */
    request.deadline_ms = 500;
    const llmgw_reply *reply = expect(other, &rec, &request, LLMGW_E_DEADLINE, 480, 500 + SLACK_MS);
    t_expect_text(reply, "connecting");
    rec_free(&rec);
    llmgw_close(other);
    raw_stop(&raw);
}

/* ---- first token ---- */

static void first_token_deadline(void **state) {
    for (size_t i = 0; i < 3; i++) {
        Rec rec = {0};
        llmgw_request request =
            rec_request(&rec, t_model(t_dialects[i], "\"first_token_delay_ms\":5000"), "x", true);
        request.first_token_ms = 150;
        request.max_attempts = 1;
        const llmgw_reply *reply =
            expect(gw, &rec, &request, LLMGW_E_TIMEOUT_FIRST_TOKEN, 130, 150 + SLACK_MS);
        t_expect_text(reply, "first_token_ms (150 ms)");
        t_expect_text(reply, t_dialects[i]);
        assert_int_equal(t_sent(reply), 1);
        assert_false(reply->cost.known); /* it was sent: who knows what it costs */
        rec_free(&rec);
    }
    assert_true(provider_wait(&provider, "open", 0, 3000));
}

static void comments_are_no_token(void **state) {
    Rec rec = {0};
    llmgw_request request =
        rec_request(&rec,
                    t_model("openai", "\"body\":\": keep-alive\\n\\n: still\\n\\n: more\\n\\n: "
                                      "and\\n\\n\",\"drip_bytes\":1,\"drip_ms\":50"),
                    "x", true);
    request.first_token_ms = 300;
    request.max_attempts = 1;
    expect(gw, &rec, &request, LLMGW_E_TIMEOUT_FIRST_TOKEN, 280, 300 + SLACK_MS);
    rec_free(&rec);
}

static void plain_replies_have_no_first_token(void **state) {
    Rec rec = {0};
    llmgw_request request = rec_request(&rec, t_model("gemini", "\"delay_ms\":300"), "x", false);
    request.first_token_ms = 100;
    expect(gw, &rec, &request, LLMGW_OK, 280, 300 + SLACK_MS);
    rec_free(&rec);
}

/* ---- idle ---- */

static void idle_deadline(void **state) {
    for (size_t i = 0; i < 3; i++) {
        Rec rec = {0};
        llmgw_request request = rec_request(
            &rec, t_model(t_dialects[i], "\"stall_after\":5,\"text_repeat\":20"), "a long answer", true);
        request.idle_ms = 150;
        request.max_attempts = 1;
        const llmgw_reply *reply = expect(gw, &rec, &request, LLMGW_E_TIMEOUT_IDLE, 130, 150 + SLACK_MS);
        t_expect_text(reply, "idle_ms (150 ms)");
        assert_true(rec.pieces > 0);
        assert_true(reply->text_len > 0); /* what the broken stream had brought */
        rec_free(&rec);
    }
}

static void idle_is_reset_by_every_chunk(void **state) {
    Rec rec = {0};
    llmgw_request request = rec_request(&rec, t_model("openai", "\"chunk_ms\":110,\"chunk_chars\":4"),
                                        "not idle, only slow", true);
    request.idle_ms = 1000; /* less than the whole takes */
    expect(gw, &rec, &request, LLMGW_OK, 1000, 20000);
    rec_free(&rec);
}

static void idle_in_a_plain_reply(void **state) {
    Rec rec = {0};
    llmgw_request request =
        rec_request(&rec, t_model("openai", "\"drip_bytes\":60,\"drip_ms\":5000"), "x", false);
    request.idle_ms = 300;
    request.max_attempts = 1;
    expect(gw, &rec, &request, LLMGW_E_TIMEOUT_IDLE, 280, 300 + SLACK_MS);
    rec_free(&rec);
}

/* ---- the whole call ---- */

static void call_deadline_while_it_drips(void **state) {
    for (int i = 0; i < 6; i += 1 + t_slow()) {
        Rec rec = {0};
        const char *fault = i < 3 ? "\"endless\":true,\"chunk_ms\":30"
                                  : "\"text_repeat\":500,\"drip_bytes\":1,\"drip_ms\":30";
        llmgw_request request = rec_request(&rec, t_model(t_dialects[i % 3], fault), "x", i < 3);
        request.deadline_ms = 150;
        const llmgw_reply *reply = expect(gw, &rec, &request, LLMGW_E_DEADLINE, 130, 150 + SLACK_MS);
        t_expect_text(reply, "deadline_ms (150 ms)");
        assert_int_equal(reply->trace_count, 1);
        assert_int_equal(reply->trace[0].code, LLMGW_E_DEADLINE);
        rec_free(&rec);
    }
    assert_true(provider_wait(&provider, "open", 0, 3000));
}

static void call_deadline_with_no_answer(void **state) {
    Rec rec = {0};
    llmgw_request request = rec_request(&rec, t_model("anthropic", "\"never\":true"), "x", false);
    request.deadline_ms = 300;
    const llmgw_reply *reply = expect(gw, &rec, &request, LLMGW_E_DEADLINE, 280, 300 + SLACK_MS);
    t_expect_text(reply, "waiting for the answer");
    rec_free(&rec);
}

static void call_deadline_in_backoff(void **state) {
    Rec rec = {0};
    llmgw_request request = rec_request(&rec, t_model("openai", "\"status\":500"), "x", false);
    request.deadline_ms = 700;
    request.max_attempts = 64;
    int64_t begin = t_now_ms();
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    assert_true(t_now_ms() - begin < 700 + SLACK_MS);
    /* in a wait that fits (then the deadline passes in it or in an attempt), or before one that does not */
    if (reply->error.code != LLMGW_E_DEADLINE) t_expect_code(reply, LLMGW_E_PROVIDER);
    assert_int_equal(t_sent(reply), t_traced(reply, LLMGW_TRACE_ATTEMPT));
    rec_free(&rec);
}

static void deadline_says_what_came_before(void **state) {
    Rec rec = {0};
    llmgw_model models[2] = {{.name = "bad", .provider = "openai", .model = "bad"},
                             {.name = "mute", .provider = "gemini", .model = "mute"}};
    const char *targets[] = {"bad", "mute"};
    llmgw_route route = {.name = "both", .targets = targets, .target_count = 2};
    llmgw_options options = {.models = models, .model_count = 2, .routes = &route, .route_count = 1};
    provider_rule(&provider, "{\"model\":\"bad\",\"status\":401,\"error_message\":\"no such key here\"}");
    provider_rule(&provider, "{\"model\":\"mute\",\"never\":true}");
    llmgw *other = t_open(&provider, &options);
    llmgw_request request = rec_request(&rec, "both", "x", true);
    request.deadline_ms = 500;
    const llmgw_reply *reply = expect(other, &rec, &request, LLMGW_E_DEADLINE, 480, 500 + SLACK_MS);
    t_expect_text(reply, "no such key here");
    assert_int_equal(t_sent(reply), 2);
    rec_free(&rec);
    llmgw_close(other);
}

static void retry_after_beyond_the_deadline_ends_at_once(void **state) {
    for (int i = 0; i < 2; i++) {
        Rec rec = {0};
        llmgw_request request =
            rec_request(&rec, t_model("openai", "\"status\":429,\"retry_after\":\"30\""), "x", false);
        request.deadline_ms = 8000;
        const llmgw_reply *reply = expect(gw, &rec, &request, LLMGW_E_RATE_LIMITED, 0, SLACK_MS);
        assert_true(reply->error.retry_after_ms > 20000 && reply->error.retry_after_ms <= 30000);
        assert_true(reply->error.retryable);
        assert_int_equal(t_sent(reply), i == 0); /* the second call is not even sent */
        rec_free(&rec);
    }
    assert_int_equal(provider_count(&provider, "requests"), 1);
}

static void deadline_while_waiting_for_retry_after(void **state) {
    Rec rec = {0}, other = {0};
    provider_rule(&provider, "{\"model\":\"once\",\"status\":503,\"retry_after\":\"1\",\"times\":1}");
    llmgw_request request = rec_request(&rec, "openai/once", "x", false);
    request.deadline_ms = 20000;
    const llmgw_reply *reply = expect(gw, &rec, &request, LLMGW_OK, 900, 1000 + SLACK_MS);
    assert_int_equal(reply->trace_count, 3);
    assert_int_equal(reply->trace[1].kind, LLMGW_TRACE_WAIT);
    assert_true(reply->trace[1].duration_us > 800000);
    /* cancelled in the wait */
    provider_rule(&provider, "{\"model\":\"wait\",\"status\":503,\"retry_after\":\"20\"}");
    request = rec_request(&other, "openai/wait", "x", false);
    rec_send(gw, &other, &request);
    for (int64_t until = t_now_ms() + 300; t_now_ms() < until;) (void)llmgw_poll(gw, 50);
    assert_int_equal(other.ends, 0);
    llmgw_cancel(gw, other.call);
    assert_true(rec_drive(gw, &other, 1, SLACK_MS));
    rec_check(&other);
    t_expect_code(other.reply, LLMGW_E_CANCELLED);
    rec_free(&rec);
    rec_free(&other);
}

/* ---- off ---- */

static void off_switches_each(void **state) {
    Rec rec = {0};
    llmgw_options options = {.deadline_ms = 200, .connect_ms = 200, .first_token_ms = 200, .idle_ms = 200};
    llmgw *strict = t_open(&provider, &options);
    llmgw_request request = rec_request(
        &rec, t_model("openai", "\"first_token_delay_ms\":400,\"chunk_ms\":210,\"chunk_chars\":40"), "slow",
        true);
    request.max_attempts = 1;
    expect(strict, &rec, &request, LLMGW_E_DEADLINE, 150, 200 + SLACK_MS);
    rec_free(&rec);
    request.deadline_ms = request.connect_ms = request.first_token_ms = request.idle_ms = LLMGW_OFF;
    expect(strict, &rec, &request, LLMGW_OK, 600, 20000);
    rec_free(&rec);
    llmgw_close(strict);
    options.deadline_ms = options.connect_ms = options.first_token_ms = options.idle_ms = LLMGW_OFF;
    llmgw *lax = t_open(&provider, &options);
    request.deadline_ms = 0;
    request.model = t_model("openai", "\"first_token_delay_ms\":500");
    expect(lax, &rec, &request, LLMGW_OK, 480, 20000);
    rec_free(&rec);
    llmgw_close(lax);
}

static void a_wrong_deadline_is_refused(void **state) {
    llmgw_error error;
    for (int i = 0; i < 4; i++) {
        static const char *const names[] = {"deadline_ms", "connect_ms", "first_token_ms", "idle_ms"};
        llmgw_request request = {.model = "openai/m", .prompt = "x"};
        int *fields[] = {&request.deadline_ms, &request.connect_ms, &request.first_token_ms,
                         &request.idle_ms};
        *fields[i] = -7;
        assert_int_equal(llmgw_send(gw, &request, &error), 0);
        assert_int_equal(error.code, LLMGW_E_ARGUMENT);
        assert_non_null(strstr(error.text, names[i]));
    }
    llmgw_request request = {.model = "openai/m", .prompt = "x", .max_attempts = 65};
    assert_int_equal(llmgw_send(gw, &request, &error), 0);
    assert_non_null(strstr(error.text, "max_attempts"));
}

/* Many at once: each by its own clock. */
static void many_deadlines(void **state) {
    enum { N = 60 };
    Rec recs[N] = {0};
    int64_t begin = t_now_ms();
    for (int i = 0; i < N; i++) {
        llmgw_request request =
            rec_request(&recs[i], t_model(t_dialects[i % 3], "\"never\":true"), "x", i % 2);
        request.deadline_ms = 200 + i * 13 % 60 * 10;
        rec_send(gw, &recs[i], &request);
    }
    assert_true(rec_drive(gw, recs, N, 800 + SLACK_MS));
    assert_true(t_now_ms() - begin >= 700);
    for (int i = 0; i < N; i++) {
        rec_check(&recs[i]);
        t_expect_code(recs[i].reply, LLMGW_E_DEADLINE);
        assert_true(recs[i].reply->elapsed_us >= (200 + i * 13 % 60 * 10) * 1000 - 2000);
        rec_free(&recs[i]);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(connect_deadline),
        TEST(connect_deadline_covers_tls),
        TEST(connect_deadline_from_the_options),
        TEST(first_token_deadline),
        TEST(comments_are_no_token),
        TEST(plain_replies_have_no_first_token),
        TEST(idle_deadline),
        TEST(idle_is_reset_by_every_chunk),
        TEST(idle_in_a_plain_reply),
        TEST(call_deadline_while_it_drips),
        TEST(call_deadline_with_no_answer),
        TEST(call_deadline_in_backoff),
        TEST(deadline_says_what_came_before),
        TEST(retry_after_beyond_the_deadline_ends_at_once),
        TEST(deadline_while_waiting_for_retry_after),
        TEST(off_switches_each),
        TEST(a_wrong_deadline_is_refused),
        TEST(many_deadlines),
    };
    return cmocka_run_group_tests_name("deadline", tests, group_start, group_stop);
}
