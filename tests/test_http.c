/* What goes over the wire, byte for byte: one request an attempt (law 2), reuse, redirects, caps, odd replies,
 * compression, SIGPIPE, fork and proxies. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"

static Provider provider;

static int group_start(void **state) {
    static const char *const tls[] = {"--tls-port", "0", NULL};
    provider_start(&provider, tls);
    return 0;
}
static int group_stop(void **state) {
    provider_stop(&provider);
    return 0;
}
static int reset(void **state) {
    provider_reset(&provider);
    return 0;
}

/* One call to a raw server of the openai dialect. */
static const llmgw_reply *call_raw(const Raw *raw, Rec *rec, bool stream, int attempts,
                                   const llmgw_options *options) {
    llmgw *gw = t_open_at("http", "127.0.0.1", raw->port, options);
    llmgw_request request = rec_request(rec, "openai/m", "hi", stream);
    request.max_attempts = attempts;
    request.deadline_ms = 15000;
    const llmgw_reply *reply = rec_chat(gw, rec, &request);
    llmgw_close(gw);
    return reply;
}

/* ---- law 2: one request an attempt ---- */

/* Every connection answers one request and dies after it has read the second. */
static void serve_dying(Raw *raw, int fd, int number) {
    char head[8192];
    if (!raw_request(raw, fd, head, sizeof head)) return;
    bool stream = strstr(head, "text/event-stream") != NULL;
    if (stream)
        raw_puts(fd, "HTTP/1.1 200 OK\r\n" RAW_IS_SSE "Content-Length: 273\r\n\r\n");
    else
        raw_reply(fd, "200 OK", RAW_IS_JSON, RAW_JSON);
    if (stream) raw_puts(fd, RAW_DELTA("hello") RAW_LAST);
    (void)raw_request(raw, fd, head, sizeof head);
}

static void dead_kept_connection_is_one_request(void **state) {
    assert_int_equal(strlen(RAW_DELTA("hello") RAW_LAST), 273);
    for (int stream = 0; stream < 2; stream++) {
        Raw raw;
        raw_start(&raw, serve_dying, NULL);
        llmgw *gw = t_open_at("http", "127.0.0.1", raw.port, NULL);
        int sent = 0;
        for (int i = 0; i < 4; i++) {
            Rec rec = {0};
            llmgw_request request = rec_request(&rec, "openai/m", "x", stream);
            request.max_attempts = i < 2 ? 1 : 3;
            const llmgw_reply *reply = rec_chat(gw, &rec, &request);
            sent += t_sent(reply);
            assert_int_equal(raw_requests(&raw), sent); /* never one that the trace does not show */
            if (i == 1) {
                t_expect_code(reply, LLMGW_E_NETWORK);
                assert_int_equal(t_sent(reply), 1);
            } else {
                t_expect_code(reply, LLMGW_OK);
                assert_string_equal(reply->text, "hello");
                assert_int_equal(t_sent(reply), i == 3 ? 2 : 1);
            }
            rec_free(&rec);
        }
        llmgw_close(gw);
        raw_stop(&raw);
    }
}

static void kept_connections_are_reused(void **state) {
    llmgw *gw = t_open(&provider, NULL);
    for (int i = 0; i < 30; i++) {
        Rec rec = {0};
        const char *model = i % 5 == 4 ? t_model("openai", "\"status\":400") : "openai/m";
        llmgw_request request = rec_request(&rec, i % 3 ? model : "gemini/m", "again", i % 2);
        (void)rec_chat(gw, &rec, &request);
        rec_free(&rec);
    }
    json_t *stats = provider_stats(&provider);
    assert_int_equal(json_integer_value(json_object_get(stats, "requests")), 30);
    assert_true(json_integer_value(json_object_get(stats, "connections")) <= 3); /* two are this test's own */
    json_decref(stats);
    llmgw_close(gw);
}

/* ---- redirects ---- */

static void serve_anything(Raw *raw, int fd, int number) {
    char head[8192];
    while (raw_request(raw, fd, head, sizeof head))
        if (!raw_reply(fd, "200 OK", RAW_IS_JSON, RAW_JSON)) return;
}

static void redirects_are_not_followed(void **state) {
    Raw raw;
    raw_start(&raw, serve_anything, NULL);
    llmgw *gw = t_open(&provider, NULL);
    static const int statuses[] = {301, 302, 303, 307, 308};
    for (size_t i = 0; i < COUNT_OF(statuses) * 6; i++) {
        char fault[160];
        Rec rec = {0};
        snprintf(fault, sizeof fault, "\"status\":%d,\"redirect\":\"http://%s:%d/v1/chat/completions\"",
                 statuses[i % 5], i % 2 ? "127.0.0.1" : "localhost", raw.port);
        llmgw_request request = rec_request(&rec, t_model(t_dialects[i / 5 % 3], fault), "x", i % 2);
        request.max_attempts = 1;
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        t_expect_code(reply, LLMGW_E_PROTOCOL);
        t_expect_text(reply, "redirect");
        assert_int_equal(reply->error.http_status, statuses[i % 5]);
        rec_free(&rec);
    }
    assert_int_equal(raw_connections(&raw), 0);
    llmgw_close(gw);
    raw_stop(&raw);
}

/* ---- caps ---- */

static void reply_cap(void **state) {
    llmgw_options options = {.max_reply_bytes = 100 << 10};
    llmgw *gw = t_open(&provider, &options);
    for (int i = 0; i < 6; i++) {
        Rec rec = {0};
        llmgw_request request =
            rec_request(&rec, t_model(t_dialects[i % 3], "\"endless\":true,\"text_repeat\":20"), "e", i / 3);
        request.max_attempts = 1;
        request.deadline_ms = 15000;
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        t_expect_code(reply, LLMGW_E_TOO_LARGE);
        t_expect_text(reply, "max_reply_bytes");
        assert_true(reply->text_len <= 100 << 10);
        rec_free(&rec);
    }
    llmgw_close(gw);
}

static void serve_headers(Raw *raw, int fd, int number) {
    char head[8192], line[1100];
    int kind = *(int *)raw->arg;
    if (!raw_request(raw, fd, head, sizeof head) || !raw_puts(fd, "HTTP/1.1 200 OK\r\n")) return;
    memset(line, 'h', sizeof line);
    memcpy(line, "X-Long: ", 8);
    memcpy(line + 1022, "\r\n", 2);
    if (kind == 1) { /* one line without end */
        raw_puts(fd, "X-Endless: ");
        for (int i = 0; i < 100000 && raw_write(fd, line + 8, 1000); i++) continue;
        return;
    }
    for (int i = 0; (kind == 2 || i < 400) && raw_write(fd, line, 1024); i++) continue;
    raw_reply(fd, "200 OK", RAW_IS_JSON, RAW_JSON);
}

static void huge_headers(void **state) {
    for (int kind = 0; kind < 3; kind++) { /* 400 KB of them; one line; without end */
        Raw raw;
        Rec rec = {0};
        raw_start(&raw, serve_headers, &kind);
        const llmgw_reply *reply = call_raw(&raw, &rec, kind % 2, 1, NULL);
        if (reply->error.code != LLMGW_E_TOO_LARGE) t_expect_code(reply, LLMGW_E_PROTOCOL);
        t_expect_text(reply, "header");
        rec_free(&rec);
        raw_stop(&raw);
    }
}

static void serve_endless_event(Raw *raw, int fd, int number) {
    char head[8192], junk[4096];
    memset(junk, 'x', sizeof junk);
    if (!raw_request(raw, fd, head, sizeof head)) return;
    raw_puts(fd, "HTTP/1.1 200 OK\r\n" RAW_IS_SSE "Connection: close\r\n\r\n");
    if (*(int *)raw->arg == 0) raw_puts(fd, "data: ");
    if (*(int *)raw->arg == 1) memcpy(junk, "\ndata: ", 7); /* many lines, one event */
    if (*(int *)raw->arg == 2) memcpy(junk, "\n: ", 3);     /* comments: no event, no growth */
    for (int i = 0; i < 2000 && raw_write(fd, junk, sizeof junk); i++) continue;
}

static void endless_event(void **state) {
    llmgw_options options = {.max_event_bytes = 64 << 10};
    for (int kind = 0; kind < 3; kind++) {
        Raw raw;
        Rec rec = {0};
        raw_start(&raw, serve_endless_event, &kind);
        const llmgw_reply *reply = call_raw(&raw, &rec, true, 1, &options);
        t_expect_code(reply, kind == 2 ? LLMGW_E_TRUNCATED : LLMGW_E_TOO_LARGE);
        if (kind < 2) t_expect_text(reply, "max_event_bytes");
        rec_free(&rec);
        raw_stop(&raw);
    }
}

/* An error's body is read only as far as it helps. */
static void serve_endless_error(Raw *raw, int fd, int number) {
    char head[8192], junk[4096];
    memset(junk, 'e', sizeof junk);
    if (!raw_request(raw, fd, head, sizeof head)) return;
    raw_puts(fd, "HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\n");
    while (raw_write(fd, junk, sizeof junk)) continue;
}

static void endless_error_body(void **state) {
    for (int stream = 0; stream < 2; stream++) {
        Raw raw;
        Rec rec = {0};
        raw_start(&raw, serve_endless_error, NULL);
        const llmgw_reply *reply = call_raw(&raw, &rec, stream, 1, NULL);
        t_expect_code(reply, LLMGW_E_BAD_REQUEST);
        assert_int_equal(reply->error.http_status, 400);
        rec_free(&rec);
        raw_stop(&raw);
    }
}

/* ---- odd replies ---- */

typedef struct Script {
    const char *bytes; /* the whole reply; then the connection is closed */
    bool stream;
    llmgw_code code;
    const char *text;  /* of the answer */
    const char *error; /* part of the error's text */
    int version;
} Script;

static void serve_script(Raw *raw, int fd, int number) {
    const Script *script = (const Script *)raw->arg;
    char head[8192];
    if (raw_request(raw, fd, head, sizeof head)) raw_puts(fd, script->bytes);
}

#define CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
#define CLOSED "HTTP/1.1 200 OK\r\nConnection: close\r\n"

static const Script scripts[] = {
    /* interim replies */
    {"HTTP/1.1 100 Continue\r\n\r\n" CLOSED RAW_IS_JSON "\r\n" RAW_JSON, false, LLMGW_OK, "hello", NULL, 11},
    {"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\nContent-Type: text/html\r\n\r\n" CLOSED RAW_IS_SSE
     "\r\n" RAW_DELTA("hello") RAW_LAST,
     true, LLMGW_OK, "hello", NULL, 11},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" CLOSED RAW_IS_JSON "\r\n" RAW_JSON, false,
     LLMGW_OK, "hello", NULL, 11},
    /* chunks, extensions and trailers */
    {CHUNKED RAW_IS_SSE "Trailer: Retry-After\r\n\r\n111;x=y\r\n" RAW_DELTA("hello") RAW_LAST
     "\r\n0\r\nRetry-After: 99\r\nContent-Type: text/html\r\n\r\n",
     true, LLMGW_OK, "hello", NULL, 11},
    {CHUNKED RAW_IS_JSON "\r\nzz\r\n" RAW_JSON "\r\n0\r\n\r\n", false, LLMGW_E_TRUNCATED, "", NULL, 11},
    {CHUNKED RAW_IS_SSE "\r\n111\r\n" RAW_DELTA("hello") RAW_LAST "\r\n", true, LLMGW_OK, "hello", NULL, 11},
    /* content types */
    {CLOSED "Content-Type: text/html\r\n\r\n<html><body>Login</body></html>", false, LLMGW_E_PROTOCOL, "",
     "web page", 11},
    {CLOSED "Content-Type: text/html\r\n\r\n<html><body>Login</body></html>", true, LLMGW_E_PROTOCOL, "",
     "web page", 11},
    {CLOSED "\r\n" RAW_JSON, false, LLMGW_OK, "hello", NULL, 11},
    {CLOSED "Content-Type: text/plain\r\n\r\n" RAW_JSON, false, LLMGW_OK, "hello", NULL, 11},
    {CLOSED "Content-Type: text/plain\r\n\r\n" RAW_DELTA("hello") RAW_LAST, true, LLMGW_OK, "hello", NULL,
     11},
    {CLOSED RAW_IS_JSON "\r\n" RAW_JSON, true, LLMGW_OK, "hello", NULL, 11},
    {CLOSED RAW_IS_SSE "\r\n" RAW_DELTA("hello") RAW_LAST, false, LLMGW_E_PROTOCOL, "", NULL, 11},
    /* lengths and versions */
    {"HTTP/1.0 200 OK\r\n\r\n" RAW_JSON, false, LLMGW_OK, "hello", NULL, 10},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n" RAW_IS_JSON "\r\n" RAW_JSON, false, LLMGW_E_TRUNCATED, "",
     NULL, 11},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n" RAW_IS_SSE "\r\n" RAW_DELTA("hello") RAW_LAST, true,
     LLMGW_OK, "hello", NULL, 11},
    {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" RAW_IS_JSON "\r\n", false, LLMGW_E_PROTOCOL, "", NULL, 11},
    {"HTTP/1.1 204 No Content\r\n\r\n", true, LLMGW_E_TRUNCATED, "", NULL, 11},
    {"HTTP/1.1 200\r\nConnection: close\r\n\r\n" RAW_JSON, false, LLMGW_OK, "hello", NULL, 11},
    {CLOSED RAW_IS_SSE "\r\n", true, LLMGW_E_TRUNCATED, "", NULL, 11},
    {CLOSED RAW_IS_SSE "\r\n" RAW_DELTA("hel") RAW_DELTA("lo"), true, LLMGW_E_TRUNCATED, "hello", NULL, 11},
    {CLOSED RAW_IS_SSE "\r\n" RAW_DELTA("hello") "data: {\"cut\":", true, LLMGW_E_TRUNCATED, "hello", NULL,
     11},
    {CLOSED RAW_IS_SSE "\r\n" RAW_DELTA("hello") RAW_LAST RAW_DELTA("not this"), true, LLMGW_OK, "hello",
     NULL, 11},
    /* no HTTP at all */
    {"hello\n", false, LLMGW_E_PROTOCOL, "", NULL, 0},
    {"\x16\x03\x01\x02\x00garbage", true, LLMGW_E_PROTOCOL, "", NULL, 0},
    {"", false, LLMGW_E_NETWORK, "", NULL, 0},
    {"HTTP/1.1 200 OK\r\nContent-", false, LLMGW_E_PROTOCOL, "", NULL, 11},
};

static void odd_replies(void **state) {
    for (size_t i = 0; i < COUNT_OF(scripts); i++) {
        const Script *script = &scripts[i];
        Raw raw;
        Rec rec = {0};
        raw_start(&raw, serve_script, (void *)(uintptr_t)script);
        const llmgw_reply *reply = call_raw(&raw, &rec, script->stream, 1, NULL);
        bool network = script->code == LLMGW_E_TRUNCATED && reply->error.code == LLMGW_E_NETWORK;
        if (reply->error.code != script->code && !(network && !reply->trace[0].http_status))
            fail_msg("script %zu: expected %s, got %s: %s", i, llmgw_code_name(script->code),
                     llmgw_code_name(reply->error.code), reply->error.text);
        if (strcmp(reply->text, script->text) != 0) fail_msg("script %zu: text '%s'", i, reply->text);
        if (script->error) t_expect_text(reply, script->error);
        assert_int_equal(reply->trace_count, 1);
        if (!network && reply->trace[0].http_version != script->version)
            fail_msg("script %zu: version %d", i, reply->trace[0].http_version);
        assert_int_equal(raw_requests(&raw), 1);
        rec_free(&rec);
        raw_stop(&raw);
    }
}

/* ---- compression ---- */

static uint32_t crc32_of(uint32_t crc, const char *p, size_t n) {
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= (unsigned char)p[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

/* A gzip member with one stored block. */
static size_t gzip_stored(char *out, const char *p, size_t n) {
    static const unsigned char head[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1};
    uint32_t tail[2] = {crc32_of(0, p, n), (uint32_t)n};
    uint16_t size[2] = {(uint16_t)n, (uint16_t)~n};
    memcpy(out, head, sizeof head);
    memcpy(out + 11, size, 4);
    memcpy(out + 15, p, n);
    memcpy(out + 15 + n, tail, 8);
    return n + 23;
}

/* 8,000 times 258 equal bytes in 13 KB: fixed Huffman codes, one literal, then matches at distance 1. */
static size_t gzip_bomb(unsigned char *out) {
    static const unsigned char head[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255};
    size_t bit = sizeof head * 8;
    memset(out, 0, 16 << 10);
    memcpy(out, head, sizeof head);
#define PUT(value) (out[bit / 8] |= (unsigned char)((value) << bit % 8), bit++)
    PUT(1), PUT(1), PUT(0); /* last block, fixed codes */
    for (int k = 7; k >= 0; k--) PUT((0x30 + ' ') >> k & 1);
    for (int i = 0; i < 8000; i++) {
        for (int k = 7; k >= 0; k--) PUT(0xC5 >> k & 1);
        for (int k = 0; k < 5; k++) PUT(0);
    }
#undef PUT
    return bit / 8 + 1;
}

static char seen_encoding[2][80]; /* what was asked for: plain, stream */

static void serve_gzip(Raw *raw, int fd, int number) {
    char out[20 << 10];
    char head[8192], line[200];
    int kind = *(int *)raw->arg;
    if (!raw_request(raw, fd, head, sizeof head)) return;
    const char *encoding = strcasestr(head, "accept-encoding:");
    bool stream = strstr(head, "text/event-stream") != NULL;
    snprintf(seen_encoding[stream], 80, "%s", encoding ? encoding : "(none)");
    size_t n = kind == 1 ? gzip_bomb((unsigned char *)out) : gzip_stored(out, RAW_JSON, strlen(RAW_JSON));
    if (kind == 2) memset(out + 2, 0x55, 40);
    if (kind == 3) n -= 30;
    snprintf(line, sizeof line,
             "HTTP/1.1 200 OK\r\n" RAW_IS_JSON "Content-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n", n);
    if (raw_puts(fd, line)) raw_write(fd, out, n);
}

static void compressed_replies(void **state) {
    static const llmgw_code codes[] = {LLMGW_OK, LLMGW_E_TOO_LARGE, LLMGW_E_PROTOCOL, LLMGW_E_PROTOCOL};
    llmgw_options options = {.max_reply_bytes = 1 << 20};
    for (int kind = 0; kind < 4; kind++) { /* good, bomb, broken, cut */
        Raw raw;
        Rec rec = {0};
        raw_start(&raw, serve_gzip, &kind);
        const llmgw_reply *reply = call_raw(&raw, &rec, false, 1, &options);
        if (kind == 3 && reply->error.code == LLMGW_E_TRUNCATED)
            kind = 3;
        else
            t_expect_code(reply, codes[kind]);
        if (kind == 0) assert_string_equal(reply->text, "hello");
        assert_non_null(strstr(seen_encoding[0], "gzip"));
        rec_free(&rec);
        raw_stop(&raw);
    }
}

static void streams_are_not_compressed(void **state) {
    Raw raw;
    Rec rec = {0};
    int kind = 0;
    raw_start(&raw, serve_gzip, &kind);
    const llmgw_reply *reply = call_raw(&raw, &rec, true, 1, NULL);
    assert_string_equal(seen_encoding[1], "(none)");
    assert_true(reply->error.code != LLMGW_OK); /* it was compressed unasked: bytes, not text */
    rec_free(&rec);
    raw_stop(&raw);
}

/* An easy handle comes back from the pool: what the last request set must not stay. */
static void pooled_handles_forget(void **state) {
    Raw raw;
    int kind = 0;
    raw_start(&raw, serve_gzip, &kind);
    llmgw *gw = t_open_at("http", "127.0.0.1", raw.port, NULL);
    for (int i = 0; i < 4; i++) {
        Rec rec = {0};
        llmgw_request request = rec_request(&rec, "openai/m", "x", i % 2);
        request.max_attempts = 1;
        (void)rec_chat(gw, &rec, &request);
        if (i % 2) assert_string_equal(seen_encoding[1], "(none)");
        if (i % 2 == 0) assert_non_null(strstr(seen_encoding[0], "gzip"));
        rec_free(&rec);
    }
    llmgw_close(gw);
    raw_stop(&raw);
}

/* ---- SIGPIPE ---- */

/* Takes some of a large upload, then resets the connection. number odd: through to the TLS port first. */
static void serve_reset(Raw *raw, int fd, int number) {
    char piece[8192];
    int through = *(int *)raw->arg, to = -1;
    struct linger now = {1, 0};
    if (through) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)through)};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        to = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(to, (struct sockaddr *)&address, sizeof address) != 0) return;
    }
    for (size_t total = 0; total < 300000;) {
        struct pollfd p[2] = {{fd, POLLIN, 0}, {to, POLLIN, 0}};
        if (poll(p, 2, 5000) <= 0) break;
        for (int i = 0; i < 2; i++) {
            if (!(p[i].revents & (POLLIN | POLLHUP))) continue;
            ssize_t n = recv(p[i].fd, piece, sizeof piece, 0);
            if (n <= 0) total = SIZE_MAX / 2;
            if (n > 0 && i == 0) total += (size_t)n;
            if (n > 0 && (i ? fd : to) >= 0) (void)raw_write(i ? fd : to, piece, (size_t)n);
        }
    }
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    if (to >= 0) close(to);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    dup2(null, fd); /* closes it with a reset, keeps the number */
    close(null);
}

static int upload_in_child(const char *scheme, int port) {
    size_t n = 24 << 20;
    char *prompt = (char *)malloc(n + 1);
    memset(prompt, 'p', n);
    prompt[n] = 0;
    signal(SIGPIPE, SIG_DFL);
    llmgw_options options = {.ca_file = provider.cert};
    llmgw *gw = t_open_at(scheme, "localhost", port, &options);
    llmgw_request request = {.model = "openai/m", .prompt = prompt, .max_attempts = 3, .deadline_ms = 20000};
    llmgw_reply *reply = llmgw_chat(gw, &request);
    int answer = reply->error.code == LLMGW_E_NETWORK ? 0 : reply->error.code == LLMGW_OK ? 1 : 2;
    if (answer) fprintf(stderr, "child: %s\n", reply->error.text);
    llmgw_reply_free(reply);
    llmgw_close(gw);
    free(prompt);
    return answer;
}

static void sigpipe_never_comes(void **state) {
    for (int tls = 0; tls < 2; tls++) {
        Raw raw;
        int through = tls ? provider.tls_port : 0, status = 0;
        raw_start(&raw, serve_reset, &through);
        pid_t pid = fork();
        if (pid == 0) _exit(upload_in_child(tls ? "https" : "http", raw.port));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFSIGNALED(status))
            fail_msg("the child died of signal %d (%s)", WTERMSIG(status), tls ? "TLS" : "plain");
        assert_int_equal(WEXITSTATUS(status), 0);
        assert_true(raw_connections(&raw) >= 3);
        raw_stop(&raw);
    }
}

/* ---- fork ---- */

static int forked_child(llmgw *gw) {
    llmgw_error error;
    llmgw_request request = {.model = "openai/m", .prompt = "x"};
    llmgw_reply *reply = llmgw_ask(gw, "openai/m", "x");
    if (reply->error.code != LLMGW_E_FORKED) return 1;
    llmgw_reply_free(reply);
    if (llmgw_send(gw, &request, &error) != 0 || error.code != LLMGW_E_FORKED) return 2;
    if (llmgw_poll(gw, 0) != -LLMGW_E_FORKED || llmgw_fd(gw) != -1 || llmgw_timeout_ms(gw) != -1) return 3;
    llmgw_cancel(gw, 1);
    llmgw_wake(gw);
    if (llmgw_pending(gw) != 0) return 4;
    return llmgw_close(gw) == LLMGW_OK ? 0 : 5;
}

static void fork_leaves_the_parent_alone(void **state) {
    Rec rec = {0};
    llmgw *gw = t_open(&provider, NULL);
    llmgw_reply *reply = llmgw_ask(gw, "openai/m", "before");
    t_expect_code(reply, LLMGW_OK);
    llmgw_reply_free(reply);
    llmgw_request request =
        rec_request(&rec, t_model("anthropic", "\"chunk_ms\":60,\"chunk_chars\":3"), "midway", true);
    rec_send(gw, &rec, &request);
    while (rec.pieces < 2) (void)llmgw_poll(gw, 100);
    int connections = provider_count(&provider, "connections");
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) _exit(forked_child(gw));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(rec_drive(gw, &rec, 1, 10000));
    rec_check(&rec);
    t_expect_code(rec.reply, LLMGW_OK);
    rec_free(&rec);
    reply = llmgw_ask(gw, "openai/m", "after"); /* on the connection of before */
    t_expect_code(reply, LLMGW_OK);
    llmgw_reply_free(reply);
    assert_int_equal(provider_count(&provider, "connections"), connections + 1); /* this look */
    llmgw_close(gw);
}

/* A child that calls exec inherits none of our descriptors. */
static void exec_inherits_nothing(void **state) {
    Rec rec = {0};
    llmgw *gw = t_open(&provider, NULL);
    (void)llmgw_fd(gw);
    llmgw_request request = rec_request(&rec, t_model("openai", "\"never\":true"), "x", true);
    rec_send(gw, &rec, &request);
    for (int i = 0; i < 10; i++) (void)llmgw_poll(gw, 20);
    for (int fd = 3; fd < 256; fd++) {
        int flags = fcntl(fd, F_GETFD);
        struct sockaddr_in peer;
        socklen_t n = sizeof peer;
        bool socket = flags >= 0 && getpeername(fd, (struct sockaddr *)&peer, &n) == 0;
        if (socket && peer.sin_family == AF_INET && ntohs(peer.sin_port) == provider.port)
            assert_true(flags & FD_CLOEXEC);
    }
    assert_true(fcntl(llmgw_fd(gw), F_GETFD) & FD_CLOEXEC);
    llmgw_close(gw);
    rec_check(&rec);
    rec_free(&rec);
}

/* ---- where a key may go ---- */

static void http_proxy_sees_no_loopback_request(void **state) {
    static const char *const names[] = {"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"};
    Raw raw;
    char url[64];
    raw_start(&raw, serve_anything, NULL);
    snprintf(url, sizeof url, "http://127.0.0.1:%d", raw.port);
    unsetenv("no_proxy");
    unsetenv("NO_PROXY");
    for (size_t i = 0; i < COUNT_OF(names); i++) setenv(names[i], url, 1);
    for (int i = 0; i < 2; i++) {
        llmgw *gw = t_open_at("http", i ? "localhost" : "127.0.0.1", provider.port, NULL);
        llmgw_reply *reply = llmgw_ask(gw, "openai/m", "through no proxy");
        t_expect_code(reply, LLMGW_OK);
        assert_string_equal(reply->text, "Echo from m: through no proxy");
        llmgw_reply_free(reply);
        llmgw_close(gw);
    }
    for (size_t i = 0; i < COUNT_OF(names); i++) unsetenv(names[i]);
    assert_int_equal(raw_connections(&raw), 0);
    raw_stop(&raw);
}

static void plain_http_with_a_key_is_refused_at_open(void **state) {
    static const char *const bad[] = {"http://192.0.2.1/v1",           "http://api.example.com/v1",
                                      "http://127.0.0.1.evil.test/v1", "http://localhost.evil.test:80/v1",
                                      "http://[2001:db8::1]/v1",       "http://10.0.0.1:8080"};
    static const char *const good[] = {"http://127.0.0.1:9/v1", "http://localhost:9/v1", "http://[::1]:9/v1",
                                       "https://api.example.com/v1"};
    for (size_t i = 0; i < COUNT_OF(bad) + COUNT_OF(good); i++) {
        llmgw_error error;
        bool is_bad = i < COUNT_OF(bad);
        llmgw_provider own = {.name = "mine", .dialect = "openai", .key = "sk-secret-key-0123456789"};
        llmgw_options options = {.providers = &own, .provider_count = 1, .no_environment = true};
        own.url = is_bad ? bad[i] : good[i - COUNT_OF(bad)];
        llmgw *gw = llmgw_open(&options, &error);
        if (is_bad != (gw == NULL)) fail_msg("%s: %s", own.url, gw ? "was accepted" : error.text);
        if (is_bad) {
            assert_int_equal(error.code, LLMGW_E_INSECURE);
            assert_non_null(strstr(error.text, "url"));
            assert_null(strstr(error.text, "sk-secret"));
        }
        llmgw_close(gw);
    }
}

static void users_in_urls_are_refused(void **state) {
    static const char *const bad[] = {"http://127.0.0.1:1@evil.test/v1",
                                      "https://user:pw@api.example.com",
                                      "ftp://127.0.0.1/v1",
                                      "file:///etc/passwd",
                                      "http://",
                                      "https://h/v1?k=v",
                                      "https://h/v1#f",
                                      "http://127.0.0.1\t/v1",
                                      "http://127.0.0.1\r\nX: y/v1"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        llmgw_error error;
        llmgw_provider own = {
            .name = "mine", .dialect = "openai", .key = "sk-secret-key-0123456789", .url = bad[i]};
        llmgw_options options = {.providers = &own, .provider_count = 1, .no_environment = true};
        llmgw *gw = llmgw_open(&options, &error);
        if (gw) fail_msg("%s was accepted", bad[i]);
        assert_non_null(strstr(error.text, "url"));
        llmgw_close(gw);
    }
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void) {
    signal(SIGPIPE, SIG_DFL);
    const struct CMUnitTest tests[] = {
        TEST(dead_kept_connection_is_one_request),
        TEST(kept_connections_are_reused),
        TEST(redirects_are_not_followed),
        TEST(reply_cap),
        TEST(huge_headers),
        TEST(endless_event),
        TEST(endless_error_body),
        TEST(odd_replies),
        TEST(compressed_replies),
        TEST(streams_are_not_compressed),
        TEST(pooled_handles_forget),
        TEST(sigpipe_never_comes),
        TEST(fork_leaves_the_parent_alone),
        TEST(exec_inherits_nothing),
        TEST(http_proxy_sees_no_loopback_request),
        TEST(plain_http_with_a_key_is_refused_at_open),
        TEST(users_in_urls_are_refused),
    };
    return cmocka_run_group_tests_name("http", tests, group_start, group_stop);
}
