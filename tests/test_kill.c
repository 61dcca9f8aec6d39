/* Providers that die: killed in the middle of everything, and cut at every few bytes of a stream and of a plain
 * reply. A call ends, with the right error, never with a success that is not whole; what it shows is what it says
 * (law 10), and it is UTF-8. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"
#include "group.h"

static int reset(void **state) {
    provider_reset(&provider);
    return 0;
}

static bool is_utf8(const char *p, size_t n) {
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)p[i++];
        int more = c < 0x80                ? 0
                   : c >= 0xC2 && c < 0xE0 ? 1
                   : (c & 0xF0) == 0xE0    ? 2
                   : c >= 0xF0 && c < 0xF5 ? 3
                                           : -1;
        if (more < 0) return false;
        for (; more; more--)
            if (i == n || ((unsigned char)p[i++] & 0xC0) != 0x80) return false;
    }
    return true;
}

static bool broken_off(const llmgw_reply *reply) {
    return reply->error.code == LLMGW_E_TRUNCATED || reply->error.code == LLMGW_E_NETWORK;
}

/* ---- kill -9 ---- */

static void killed_in_every_state(void **state) {
    enum { N = 24 };
    static const char *const faults[] = {"\"endless\":true,\"chunk_ms\":15", "\"never\":true",
                                         "\"stall_after\":5,\"text_repeat\":9",
                                         "\"text_repeat\":90,\"drip_bytes\":9,\"drip_ms\":20"};
    Provider own;
    Rec recs[N] = {0};
    provider_start(&own, NULL);
    int port = own.port;
    llmgw_options options = {.max_attempts = 1};
    llmgw *gw = t_open(&own, &options);
    for (int i = 0; i < N; i++) {
        const char *fault = i / 3 == 2 ? "\"delay_ms\":60000" : faults[i / 3 % 4];
        llmgw_request request = rec_request(&recs[i], t_model(t_dialects[i % 3], fault), "x", i >= N / 2);
        rec_send(gw, &recs[i], &request);
    }
    for (int64_t until = t_now_ms() + 400; t_now_ms() < until;) (void)llmgw_poll(gw, 50);
    assert_int_equal(rec_ended(recs, N), 0);
    provider_kill(&own);
    assert_true(rec_drive(gw, recs, N, 5000));
    for (int i = 0; i < N; i++) {
        rec_check(&recs[i]);
        if (!broken_off(recs[i].reply)) t_expect_code(recs[i].reply, LLMGW_E_NETWORK);
        assert_true(recs[i].reply->error.retryable);
        assert_true(recs[i].reply->trace[0].sent);
        rec_free(&recs[i]);
    }
    llmgw_reply *reply = llmgw_ask(gw, "openai/m", "nobody there");
    t_expect_code(reply, LLMGW_E_NETWORK);
    assert_false(reply->trace[0].sent);
    llmgw_reply_free(reply);
    char text[16];
    snprintf(text, sizeof text, "%d", port);
    const char *const again[] = {"--port", text, NULL};
    provider_start(&own, again); /* it is back: so are we */
    reply = llmgw_ask(gw, "openai/m", "back again");
    t_expect_code(reply, LLMGW_OK);
    llmgw_reply_free(reply);
    provider_stop(&own);
    llmgw_close(gw);
}

/* A restart with kept connections: the dead ones cost no attempt that is not traced. */
static void killed_between_calls(void **state) {
    Provider own;
    provider_start(&own, NULL);
    char text[16];
    snprintf(text, sizeof text, "%d", own.port);
    const char *const again[] = {"--port", text, NULL};
    llmgw *gw = t_open(&own, NULL);
    for (int i = 0; i < t_rounds(6); i++) {
        Rec rec = {0};
        llmgw_request request = rec_request(&rec, "anthropic/m", "again", i % 2);
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        t_expect_code(reply, LLMGW_OK);
        assert_int_equal(provider_count(&own, "requests"), 1);
        rec_free(&rec);
        provider_kill(&own);
        provider_start(&own, again);
    }
    llmgw_close(gw);
    provider_stop(&own);
}

/* Has each of the calls shown some text? The last one sent is not the last one answered. */
static bool all_show(const Rec *recs, int count) {
    for (int i = 0; i < count; i++)
        if (!recs[i].pieces) return false;
    return true;
}

static void killed_with_a_fallback(void **state) {
    enum { N = 20 };
    Provider own;
    Rec recs[N] = {0};
    char url[64];
    provider_start(&own, NULL);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", own.port);
    llmgw_provider doomed = {
        .name = "doomed", .dialect = "openai", .key = "sk-doomed-0123456789", .url = url};
    const char *targets[] = {"doomed/fault:{\"endless\":true,\"chunk_ms\":15}", "gemini/safe"};
    llmgw_route route = {.name = "r", .targets = targets, .target_count = 2};
    llmgw_options options = {.providers = &doomed, .provider_count = 1, .routes = &route, .route_count = 1};
    llmgw *gw = t_open(&provider, &options);
    for (int i = 0; i < N; i++) {
        llmgw_request request = rec_request(&recs[i], "r", "who is left?", true);
        rec_send(gw, &recs[i], &request);
    }
    for (int64_t until = t_now_ms() + 5000; !all_show(recs, N) && t_now_ms() < until;)
        (void)llmgw_poll(gw, 20);
    provider_kill(&own);
    assert_true(rec_drive(gw, recs, N, 8000));
    for (int i = 0; i < N; i++) {
        rec_check(&recs[i]);
        t_expect_code(recs[i].reply, LLMGW_OK);
        assert_string_equal(recs[i].reply->text, "Echo from safe: who is left?");
        assert_int_equal(recs[i].rewinds, 1);
        rec_free(&recs[i]);
    }
    llmgw_close(gw);
}

/* ---- cuts ---- */

#define PROMPT "h\xC3\xA9 \xF0\x9F\x99\x82 end"

/* Cuts a reply after n bytes. Returns whether the call succeeded. */
static bool cut_at(llmgw *gw, size_t dialect, bool stream, int n, const char *whole) {
    char fault[64];
    Rec rec = {0};
    snprintf(fault, sizeof fault, "\"cut_after\":%d,\"chunk_chars\":6", n);
    llmgw_request request = rec_request(&rec, t_model(t_dialects[dialect], fault), PROMPT, stream);
    request.deadline_ms = 10000;
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    bool good = reply->error.code == LLMGW_OK;
    if (!good && !broken_off(reply))
        fail_msg("%s %s cut at %d: %s: %s", t_dialects[dialect], stream ? "stream" : "reply", n,
                 llmgw_code_name(reply->error.code), reply->error.text);
    if (good && (strcmp(reply->text, whole) != 0 || reply->finish != LLMGW_FINISH_STOP))
        fail_msg("%s %s cut at %d is called whole: '%s'", t_dialects[dialect], stream ? "stream" : "reply", n,
                 reply->text);
    if (!good && (strncmp(whole, reply->text, reply->text_len) != 0 || reply->finish != LLMGW_FINISH_NONE))
        fail_msg("%s cut at %d: '%s' is no beginning of the answer", t_dialects[dialect], n, reply->text);
    assert_true(is_utf8(reply->text, reply->text_len));
    assert_true(is_utf8(reply->error.text, strlen(reply->error.text)));
    assert_int_equal(t_sent(reply), 1);
    rec_free(&rec);
    return good;
}

static void cut_everywhere(size_t dialect) {
    llmgw_options options = {.max_attempts = 1};
    llmgw *gw = t_open(&provider, &options);
    int step = t_slow() ? 37 : 7;
    for (int stream = 0; stream < 2; stream++) {
        char whole[128];
        snprintf(whole, sizeof whole, "Echo from fault: %s", PROMPT);
        int n = 0, cuts = 0;
        for (; n < 20000 && !cut_at(gw, dialect, stream, n, whole); n += step) cuts++;
        assert_true(cuts > 100 / step); /* the first success ends it: later cuts take away less */
        assert_true(n < 20000);
        for (int i = 0; i < 60; i += step) assert_true(cut_at(gw, dialect, stream, n + i, whole));
    }
    llmgw_close(gw);
}

static void cut_openai(void **state) { cut_everywhere(0); }
static void cut_anthropic(void **state) { cut_everywhere(1); }
static void cut_gemini(void **state) { cut_everywhere(2); }

/* As above, with a reset instead of an orderly end, and without chunks or length: only the dialect knows. */
typedef struct Cut {
    const char *bytes;
    size_t n;
    bool reset;
} Cut;

static void serve_cut(Raw *raw, int fd, int number) {
    const Cut *cut = (const Cut *)raw->arg;
    char head[8192];
    struct linger now = {1, 0};
    if (!raw_request(raw, fd, head, sizeof head)) return;
    raw_write(fd, cut->bytes, cut->n);
    if (!cut->reset) return;
    t_sleep_ms(2);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    dup2(null, fd); /* closes it with a reset, keeps the number */
    close(null);
}

static void cut_without_a_length(void **state) {
    static const char plain[] = "HTTP/1.1 200 OK\r\nConnection: close\r\n" RAW_IS_JSON "\r\n" RAW_JSON;
    static const char stream[] = "HTTP/1.1 200 OK\r\nConnection: close\r\n" RAW_IS_SSE "\r\n" RAW_DELTA("hel")
        RAW_DELTA("lo") RAW_LAST;
    for (int kind = 0; kind < 4; kind++) {
        Cut cut = {kind % 2 ? stream : plain, 0, kind >= 2};
        size_t all = strlen(cut.bytes), step = t_slow() ? 67 : 13;
        for (cut.n = 0; cut.n <= all; cut.n += cut.n + step > all && cut.n < all ? all - cut.n : step) {
            Raw raw;
            Rec rec = {0};
            raw_start(&raw, serve_cut, &cut);
            llmgw *gw = t_open_at("http", "127.0.0.1", raw.port, NULL);
            llmgw_request request = rec_request(&rec, "openai/m", "x", kind % 2);
            request.max_attempts = 1;
            request.deadline_ms = 10000;
            const llmgw_reply *reply = rec_chat(gw, &rec, &request);
            if (reply->error.code == LLMGW_OK) {
                assert_string_equal(reply->text, "hello");
            } else if (!broken_off(reply) && (kind % 2 || reply->error.code != LLMGW_E_PROTOCOL)) {
                fail_msg("kind %d cut at %zu: %s", kind, cut.n, reply->error.text);
            }
            if (cut.n == all && kind < 2) t_expect_code(reply, LLMGW_OK);
            assert_int_equal(strncmp("hello", reply->text, reply->text_len), 0);
            rec_free(&rec);
            llmgw_close(gw);
            raw_stop(&raw);
        }
    }
}

/* A character cut in two, within an answer that goes on being cut at each attempt. */
static void cut_in_a_character(void **state) {
    llmgw *gw = t_open(&provider, NULL);
    for (int i = 0; i < 6; i++) {
        Rec rec = {0};
        llmgw_request request = rec_request(
            &rec,
            t_model(t_dialects[i % 3],
                    "\"cut_in_utf8\":true,\"text\":\"\xC3\xA9t\xC3\xA9 \xE6\x97\xA5\xE6\x9C\xAC\""),
            "x", i / 3);
        request.max_attempts = 2;
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        t_expect_code(reply, LLMGW_E_TRUNCATED);
        assert_true(is_utf8(reply->text, reply->text_len));
        assert_int_equal(t_sent(reply), 2);
        rec_free(&rec);
    }
    llmgw_close(gw);
}

static void many_cut_at_once(void **state) {
    int n = t_rounds(200);
    Rec *recs = (Rec *)calloc((size_t)n, sizeof *recs);
    llmgw *gw = t_open(&provider, NULL);
    for (int i = 0; i < n; i++) {
        char fault[80];
        snprintf(fault, sizeof fault, "\"cut_after\":%d,\"chunk_ms\":3,\"text_repeat\":20", i * 17 % 2500);
        llmgw_request request =
            rec_request(&recs[i], t_model(t_dialects[i % 3], fault), "at once", i % 4 != 0);
        request.max_attempts = 1;
        rec_send(gw, &recs[i], &request);
    }
    assert_true(rec_drive(gw, recs, n, 15000));
    for (int i = 0; i < n; i++) {
        rec_check(&recs[i]);
        if (!broken_off(recs[i].reply)) t_expect_code(recs[i].reply, LLMGW_OK);
        rec_free(&recs[i]);
    }
    assert_int_equal(provider_count(&provider, "requests"), n);
    llmgw_close(gw);
    free(recs);
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(killed_in_every_state),  TEST(killed_between_calls),
        TEST(killed_with_a_fallback), TEST(cut_openai),
        TEST(cut_anthropic),          TEST(cut_gemini),
        TEST(cut_without_a_length),   TEST(cut_in_a_character),
        TEST(many_cut_at_once),
    };
    return cmocka_run_group_tests_name("kill", tests, group_start, group_stop);
}
