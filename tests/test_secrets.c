/* Law 9: keys in no error text, no trace, no log line, no event; whatever a provider echoes, and wherever a text is
 * cut. A window of a key is looked for, not only the whole of it: a cut one counts. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"
#include "group.h"

#define HEADER_KEY "header-secret-Zx81-qwertzuiopas"
#define FIRST_KEY "first-of-two-Mk47-yxcvbnmasdf"
#define SECOND_KEY "second-of-two-Pw92-lkjhgfdsa"
#define WINDOW 11 /* so many bytes in a row of any key are a leak */

static const char *const secrets[] = {OPENAI_KEY, ANTHROPIC_KEY, GEMINI_KEY,
                                      HEADER_KEY, FIRST_KEY,     SECOND_KEY};

static char logged[1 << 16];
static size_t logged_n;

static int reset(void **state) {
    provider_reset(&provider);
    return 0;
}

static void on_log(const llmgw_log_entry *entry, void *user) {
    size_t n = strlen(entry->line);
    if (logged_n + n + 2 > sizeof logged) logged_n = 0;
    memcpy(logged + logged_n, entry->line, n);
    logged_n += n;
    logged[logged_n++] = '\n';
    logged[logged_n] = 0;
}

static void expect_clean(const char *text, const char *where) {
    for (size_t k = 0; k < COUNT_OF(secrets); k++)
        for (size_t i = 0; i + WINDOW <= strlen(secrets[k]); i++) {
            char window[WINDOW + 1];
            memcpy(window, secrets[k] + i, WINDOW);
            window[WINDOW] = 0;
            if (strstr(text, window)) fail_msg("law 9: '%s' in %s: %s", window, where, text);
        }
}

static void expect_clean_reply(const llmgw_reply *reply, const Rec *rec) {
    expect_clean(reply->error.text, "error.text");
    for (size_t i = 0; i < reply->trace_count; i++) {
        expect_clean(reply->trace[i].reason, "trace.reason");
        expect_clean(reply->trace[i].provider, "trace.provider");
        expect_clean(reply->trace[i].model, "trace.model");
    }
    if (rec) expect_clean(rec->log, "an event");
    expect_clean(logged, "the log");
}

static llmgw *open_logged(int port, const llmgw_options *more) {
    llmgw_options options = {0};
    if (more) options = *more;
    options.log = on_log;
    if (!options.key_dead_ms) options.key_dead_ms = 1; /* a refused key is tried again */
    logged_n = 0;
    logged[0] = 0;
    return t_open_at("http", "127.0.0.1", port, &options);
}

/* ---- the fake provider's own error bodies ---- */

static void echoed_in_an_error(void **state) {
    static const int statuses[] = {400, 401, 403, 404, 413, 429, 500, 503};
    llmgw *gw = open_logged(provider.port, NULL);
    for (size_t i = 0; i < COUNT_OF(statuses) * 3; i++) {
        char json[400];
        Rec rec = {0};
        provider_reset(&provider);
        snprintf(json, sizeof json,
                 "{\"model\":\"m\",\"status\":%d,\"error_message\":\"Incorrect key %s given (Bearer %s).\","
                 "\"headers\":{\"x-echo\":\"%s\",\"x-request-id\":\"%s\"}}",
                 statuses[i / 3], secrets[i % 3], secrets[i % 3], secrets[i % 3], secrets[i % 3]);
        provider_rule(&provider, json);
        char model[32];
        snprintf(model, sizeof model, "%s/m", t_dialects[i % 3]);
        llmgw_request request = rec_request(&rec, model, "x", i % 2);
        request.max_attempts = 1;
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        assert_int_not_equal(reply->error.code, LLMGW_OK);
        t_expect_text(reply, "Incorrect key [key] given");
        assert_non_null(strstr(logged, "[key]"));
        expect_clean_reply(reply, &rec);
        rec_free(&rec);
    }
    llmgw_close(gw);
}

static void echoed_in_an_error_event(void **state) {
    llmgw *gw = open_logged(provider.port, NULL);
    for (size_t i = 0; i < 6; i++) {
        static const char *const bodies[] = {
            "data: {\\\"error\\\":{\\\"message\\\":\\\"bad key "
            "%s!\\\",\\\"type\\\":\\\"invalid_request_error\\\",\\\"code\\\":\\\"%s\\\"}}\\n\\n",
            "event: error\\ndata: "
            "{\\\"type\\\":\\\"error\\\",\\\"error\\\":{\\\"type\\\":\\\"authentication_error\\\","
            "\\\"message\\\":\\\"bad key %s! %s\\\"}}\\n\\n",
            "data: {\\\"error\\\":{\\\"code\\\":401,\\\"message\\\":\\\"bad key "
            "%s!\\\",\\\"status\\\":\\\"%s\\\"}}\\n\\n"};
        char body[400], json[600], model[32];
        Rec rec = {0};
        provider_reset(&provider);
        snprintf(body, sizeof body, bodies[i % 3], secrets[i % 3], secrets[i % 3]);
        snprintf(json, sizeof json, "{\"model\":\"m\",\"body\":\"%s\"%s}", body,
                 i < 3 ? "" : ",\"drip_bytes\":5,\"drip_ms\":1");
        provider_rule(&provider, json);
        snprintf(model, sizeof model, "%s/m", t_dialects[i % 3]);
        llmgw_request request = rec_request(&rec, model, "x", true);
        request.max_attempts = 1;
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        assert_int_not_equal(reply->error.code, LLMGW_OK);
        t_expect_text(reply, "bad key [key]!");
        expect_clean_reply(reply, &rec);
        rec_free(&rec);
    }
    llmgw_close(gw);
}

/* ---- raw echoes ---- */

typedef struct Echo {
    const char *format; /* %s: the key */
    size_t pad;         /* bytes before it */
    const char *key;
} Echo;

/* Says format, with the key in it, after pad bytes where \1 stands. */
static void serve_echo(Raw *raw, int fd, int number) {
    const Echo *echo = (const Echo *)raw->arg;
    char head[8192], out[4096], *to = out;
    while (raw_request(raw, fd, head, sizeof head)) {
        to = out;
        for (const char *p = echo->format; *p; p++) {
            if (*p == '\1') {
                memset(to, '.', echo->pad);
                to += echo->pad;
            } else if (*p == '\2') {
                to += sprintf(to, "%s", echo->key);
            } else {
                *to++ = *p;
            }
        }
        raw_write(fd, out, (size_t)(to - out));
        return;
    }
}

#define END "Connection: close\r\n"
#define JSON_ERROR(status) "HTTP/1.1 " status "\r\n" END RAW_IS_JSON "\r\n{\"error\":{\"message\":\""

static const char *const echoes[] = {
    JSON_ERROR("401 Unauthorized") "\1\2\",\"type\":\"x\"}}",
    JSON_ERROR("500 Oops") "\1 \2 and \2 again\"}}",
    JSON_ERROR("400 \2") "Bearer \2\",\"code\":\"\2\",\"param\":\"\2\"}}",
    JSON_ERROR("400 Bad") "\1\\u0041 \\\"\2\\\" \\n\"}}", /* escapes in it */
    JSON_ERROR("403 Bad") "\1\2\2\2\2\2\2\2\2\2\2\2\2\"}}",
    "HTTP/1.1 401 \2\r\nX-Key: \2\r\nWWW-Authenticate: Bearer \2\r\n" END "\r\n\1\2",
    "HTTP/1.1 502 Bad Gateway\r\n" END "Content-Type: text/html\r\n\r\n<html>\1\2</html>",
    "HTTP/1.1 404 No\r\n" END RAW_IS_JSON "\r\n{\"error\":\"\1\2\"}",
    "HTTP/1.1 400 No\r\n" END RAW_IS_JSON "\r\n[{\"error\":{\"message\":\"\1\2\"}}]",
    "HTTP/1.1 503 No\r\n" END RAW_IS_JSON "\r\n{\"message\":\"\1\2\",\"detail\":\"\2\"}",
    "HTTP/1.1 200 OK\r\n" END RAW_IS_JSON "\r\n{\"error\":{\"message\":\"\1\2\"}}",
    "HTTP/1.1 200 OK\r\n" END RAW_IS_JSON "\r\n{\"\2\":\"\1\2\"",
    "HTTP/1.1 200 OK\r\n" END RAW_IS_SSE "\r\ndata: {\"error\":{\"message\":\"\1\2\"}}\n\n",
    "HTTP/1.1 200 OK\r\n" END RAW_IS_SSE "\r\nevent: error\ndata: \1\2\n\n",
    "HTTP/1.1 200 OK\r\n" END RAW_IS_SSE
    "\r\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"\2\"}]}\n\n",
    "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\2\r\n" END "\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: \2\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Encoding: \2\r\n" END "\r\nx",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: \2\r\n" END "\r\nx",
    "HTTP/1.1 429 Slow\r\nRetry-After: \2\r\n" END "\r\n\1\2",
    "\2 \2\r\n\r\n",
};

static void echo_once(const Raw *raw, const char *model, bool stream) {
    const char *const keys[] = {OPENAI_KEY, FIRST_KEY, SECOND_KEY};
    llmgw_provider extra = {.name = "custom", .dialect = "openai", .keys = keys, .key_count = 3};
    const char *lines[] = {"X-Own: " HEADER_KEY};
    char url[64];
    Rec rec = {0};
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", raw->port);
    extra.url = url;
    extra.headers = lines;
    extra.header_count = 1;
    llmgw_options options = {.providers = &extra, .provider_count = 1};
    llmgw *gw = open_logged(raw->port, &options);
    llmgw_request request = rec_request(&rec, model, "x", stream);
    request.max_attempts = 1;
    request.deadline_ms = 10000;
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    assert_int_equal(raw_requests(raw), 1);
    expect_clean_reply(reply, &rec);
    rec_free(&rec);
    llmgw_close(gw);
}

static void echoed_in_every_place(void **state) {
    for (size_t i = 0; i < COUNT_OF(echoes); i++)
        for (size_t k = 0; k < 3; k++)
            for (int stream = 0; stream < 2; stream++) {
                char model[32];
                Raw raw;
                Echo echo = {echoes[i], 3, secrets[k]};
                snprintf(model, sizeof model, "%s/m", t_dialects[k]);
                raw_start(&raw, serve_echo, &echo);
                echo_once(&raw, model, stream);
                raw_stop(&raw);
            }
}

/* The key at every place of a long text: where it is cut, a part of the key is left. */
static void cut_by_truncation(void **state) {
    static const size_t kinds[] = {0, 5, 6, 10, 12}; /* JSON, plain, HTML, error in a 200, error event */
    static const size_t windows[][2] = {{100, 165}, {260, 330}, {470, 520}}; /* around 160, 320 and 512 */
    size_t step = t_slow() ? 9 : 1;
    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        for (size_t window = 0; window < COUNT_OF(windows); window++)
            for (size_t at = windows[window][0]; at < windows[window][1]; at += step) {
                Raw raw;
                Echo echo = {echoes[kinds[i]], at, OPENAI_KEY};
                raw_start(&raw, serve_echo, &echo);
                echo_once(&raw, "openai/m", kinds[i] == 12);
                raw_stop(&raw);
            }
}

static void header_secrets_are_secret(void **state) {
    for (size_t i = 0; i < COUNT_OF(echoes); i++) {
        Raw raw;
        Echo echo = {echoes[i], 20, HEADER_KEY};
        raw_start(&raw, serve_echo, &echo);
        echo_once(&raw, "custom/m", i % 2);
        raw_stop(&raw);
    }
}

/* One provider is told another's key (by a mistake of the caller): it is a secret all the same. */
static void every_key_is_kept_from_every_text(void **state) {
    for (size_t k = 0; k < COUNT_OF(secrets); k++) {
        Raw raw;
        Echo echo = {echoes[1], 5, secrets[k]};
        raw_start(&raw, serve_echo, &echo);
        echo_once(&raw, "custom/m", false);
        raw_stop(&raw);
    }
}

static void over_attempts_and_deadlines(void **state) {
    Raw raw;
    Echo echo = {echoes[1], 200, ANTHROPIC_KEY};
    raw_start(&raw, serve_echo, &echo);
    llmgw *gw = open_logged(raw.port, NULL);
    for (int i = 0; i < 2; i++) {
        Rec rec = {0};
        llmgw_request request = rec_request(&rec, "anthropic/m", "x", true);
        request.max_attempts = i ? 64 : 3;
        request.deadline_ms = i ? 600 : 10000;
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        assert_int_not_equal(reply->error.code, LLMGW_OK);
        expect_clean_reply(reply, &rec);
        rec_free(&rec);
    }
    llmgw_close(gw);
    raw_stop(&raw);
}

/* ---- several keys of one provider ---- */

/* A gateway with two keys at "pair": one in the environment, one not. */
static llmgw *open_pair(int port, llmgw_options *options) {
    static const char *const keys[] = {"env:LLMGW_TEST_KEY", SECOND_KEY, "env:LLMGW_NOT_SET_ANYWHERE"};
    static llmgw_provider pair;
    static char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", port);
    memset(&pair, 0, sizeof pair);
    pair.name = "pair";
    pair.dialect = "openai";
    pair.url = url;
    pair.keys = keys;
    pair.key_count = COUNT_OF(keys);
    options->providers = &pair;
    options->provider_count = 1;
    setenv("LLMGW_TEST_KEY", FIRST_KEY, 1);
    llmgw *gw = open_logged(port, options);
    unsetenv("LLMGW_TEST_KEY");
    return gw;
}

/* Whichever of two keys goes out, neither stands in any text, even if a provider says both. */
static void two_keys_are_kept_from_every_text(void **state) {
    for (size_t i = 0; i < COUNT_OF(echoes) * 2; i++) {
        Raw raw;
        Rec rec = {0};
        llmgw_options options = {0};
        Echo echo = {echoes[i / 2], 3, i % 2 ? SECOND_KEY : FIRST_KEY};
        raw_start(&raw, serve_echo, &echo);
        llmgw *gw = open_pair(raw.port, &options);
        llmgw_request request = rec_request(&rec, "pair/m", "x", i % 4 < 2);
        request.max_attempts = 1;
        request.deadline_ms = 10000;
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        assert_int_equal(raw_requests(&raw), 1);
        expect_clean_reply(reply, &rec);
        rec_free(&rec);
        llmgw_close(gw);
        raw_stop(&raw);
    }
}

typedef struct Heap {
    const char *sought[2];
    int blocks, held, freed; /* blocks in use; of those at the count, and of those given back, with a key */
    struct Block {
        void *p;
        size_t n;
    } block[4096];
} Heap;

static bool heap_sought(const Heap *heap, const void *p, size_t n) {
    return memmem(p, n, heap->sought[0], strlen(heap->sought[0])) ||
           memmem(p, n, heap->sought[1], strlen(heap->sought[1]));
}

/* Never moves a block in place: each one that dies is looked at. */
static void *heap_alloc(void *ptr, size_t old_size, size_t new_size, void *user) {
    Heap *heap = (Heap *)user;
    char *fresh = new_size ? (char *)calloc(1, new_size) : NULL; /* no remains of other tests' keys */
    if (new_size && !fresh) return NULL;
    if (ptr && fresh) memcpy(fresh, ptr, old_size < new_size ? old_size : new_size);
    for (int i = 0; ptr && i < heap->blocks; i++)
        if (heap->block[i].p == ptr) {
            heap->freed += heap_sought(heap, ptr, old_size);
            heap->block[i] = heap->block[--heap->blocks];
            break;
        }
    free(ptr);
    if (fresh && heap->blocks < (int)COUNT_OF(heap->block)) {
        heap->block[heap->blocks].p = fresh;
        heap->block[heap->blocks++].n = new_size;
    }
    return fresh;
}

/* Memory holds both keys while the gateway is open, and neither once it was given back. */
static void two_keys_are_gone_after_close(void **state) {
    static Heap heap;
    llmgw_options options = {0};
    memset(&heap, 0, sizeof heap);
    heap.sought[0] = FIRST_KEY;
    heap.sought[1] = SECOND_KEY;
    options.alloc = heap_alloc;
    options.alloc_user = &heap;
    llmgw *gw = open_pair(provider.port, &options);
    llmgw_reply *reply = llmgw_ask(gw, "pair/m", "x");
    t_expect_code(reply, LLMGW_OK);
    llmgw_reply_free(reply);
    for (int i = 0; i < heap.blocks; i++) heap.held += heap_sought(&heap, heap.block[i].p, heap.block[i].n);
    assert_true(heap.held >= 4); /* each as a header line, and for the comparison with texts */
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
    assert_int_equal(heap.blocks, 0);
    assert_int_equal(heap.freed, 0);
}

/* ---- before any request ---- */

static void open_keeps_secrets(void **state) {
    static const char *const configs[] = {
        "{\"providers\":{\"openai\":{\"key\":\"" OPENAI_KEY "\",\"nonsense\":1}}}",
        "{\"providers\":{\"openai\":{\"key\":\"" OPENAI_KEY "\n\"}}}",
        "{\"providers\":{\"openai\":{\"key\":\"" OPENAI_KEY "\\n\"}}}",
        "{\"providers\":{\"openai\":{\"key\":\"" OPENAI_KEY "\"",
        "{\"providers\":{\"openai\":{\"key\":[\"" OPENAI_KEY "\"]}}}",
        "{\"providers\":{\"mine\":{\"dialect\":\"openai\",\"url\":\"http://192.0.2.1\",\"key\":\"" OPENAI_KEY
        "\"}}}",
        "{\"providers\":{\"mine\":{\"dialect\":\"openai\",\"url\":\"https://me:" OPENAI_KEY "@192.0.2.1\"}}}",
        "{\"providers\":{\"mine\":{\"dialect\":\"openai\",\"url\":\"https://h/?key=" OPENAI_KEY "\"}}}",
        "{\"providers\":{\"openai\":{\"headers\":[\"X-Own " HEADER_KEY "\"]}}}",
        "{\"providers\":{\"openai\":{\"headers\":[\"X-Own: " HEADER_KEY "\\r\\nX: y\"]}}}",
        "{\"providers\":{\"openai\":{\"headers\":{\"X-Own\":\"" HEADER_KEY "\\n\"}}}}",
        "{\"providers\":{\"openai\":{\"dialect\":\"" OPENAI_KEY "\"}}}",
        "{\"providers\":{\"openai\":{\"keys\":[\"" FIRST_KEY "\",\"" FIRST_KEY "\"]}}}",
        "{\"providers\":{\"openai\":{\"keys\":[\"" FIRST_KEY "\",\"" SECOND_KEY "\\n\"]}}}",
        "{\"providers\":{\"openai\":{\"keys\":[\"" FIRST_KEY "\",\"" SECOND_KEY "\",7]}}}",
        "{\"providers\":{\"openai\":{\"keys\":[\"" FIRST_KEY "\",\"" SECOND_KEY "\"",
        "{\"providers\":{\"openai\":{\"keys\":\"" FIRST_KEY "," SECOND_KEY "\"}}}",
        "{\"providers\":{\"openai\":{\"key\":\"" FIRST_KEY "\",\"keys\":[\"" SECOND_KEY "\"]}}}",
        "{\"providers\":{\"mine\":{\"dialect\":\"openai\",\"url\":\"http://192.0.2.1\",\"keys\":[\"" FIRST_KEY
        "\",\"" SECOND_KEY "\"]}}}",
    };
    for (size_t i = 0; i < COUNT_OF(configs); i++) {
        llmgw_error error;
        llmgw_options options = {.config_json = configs[i], .no_environment = true, .log = on_log};
        logged_n = 0;
        logged[0] = 0;
        llmgw *gw = llmgw_open(&options, &error);
        if (gw) fail_msg("config %zu was accepted", i);
        /* 11: a key where a dialect should be is quoted back: nobody can know */
        if (i != 11) expect_clean(error.text, configs[i]);
        assert_null(llmgw_open(&options, NULL)); /* logs one line */
        assert_true(logged_n > 0);
        if (i != 11) expect_clean(logged, "the log of llmgw_open");
    }
}

static void keys_from_the_environment(void **state) {
    char url[64];
    llmgw_error error;
    Rec rec = {0};
    provider_rule(&provider,
                  "{\"model\":\"m\",\"status\":401,\"error_message\":\"no such key: " OPENAI_KEY "\"}");
    setenv("LLMGW_TEST_KEY", OPENAI_KEY, 1);
    setenv("LLMGW_TEST_HEADER", HEADER_KEY, 1);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", provider.port);
    const char *lines[] = {"X-Own: env:LLMGW_TEST_HEADER"};
    llmgw_provider own = {.name = "own", .dialect = "openai", .url = url, .key = "env:LLMGW_TEST_KEY"};
    own.headers = lines;
    own.header_count = 1;
    llmgw_options options = {.providers = &own, .provider_count = 1, .no_environment = true, .log = on_log};
    llmgw *gw = llmgw_open(&options, &error);
    assert_non_null(gw);
    unsetenv("LLMGW_TEST_KEY");
    unsetenv("LLMGW_TEST_HEADER");
    llmgw_request request = rec_request(&rec, "own/m", "x", false);
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_E_AUTH);
    t_expect_text(reply, "no such key: [key]");
    expect_clean_reply(reply, &rec);
    json_t *stats = provider_stats(&provider); /* and it was sent where it belongs */
    json_t *headers = json_object_get(json_object_get(stats, "last"), "headers");
    assert_string_equal(json_string_value(json_object_get(headers, "x-own")), HEADER_KEY);
    assert_string_equal(json_string_value(json_object_get(headers, "authorization")), "Bearer " OPENAI_KEY);
    json_decref(stats);
    rec_free(&rec);
    llmgw_close(gw);
}

/* Each provider gets its own key and no other's. */
static void each_provider_gets_its_own_key(void **state) {
    llmgw *gw = open_logged(provider.port, NULL);
    for (size_t i = 0; i < 3; i++) {
        char model[32];
        snprintf(model, sizeof model, "%s/m", t_dialects[i]);
        llmgw_reply *reply = llmgw_ask(gw, model, "x");
        t_expect_code(reply, LLMGW_OK);
        llmgw_reply_free(reply);
        json_t *stats = provider_stats(&provider);
        json_t *last = json_object_get(stats, "last");
        char *text = json_dumps(last, 0);
        for (size_t k = 0; k < 3; k++) assert_int_equal(strstr(text, secrets[k]) != NULL, k == i);
        assert_null(strstr(json_string_value(json_object_get(last, "path")), secrets[i]));
        free(text);
        json_decref(stats);
    }
    llmgw_close(gw);
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(echoed_in_an_error),
        TEST(echoed_in_an_error_event),
        TEST(echoed_in_every_place),
        TEST(cut_by_truncation),
        TEST(header_secrets_are_secret),
        TEST(every_key_is_kept_from_every_text),
        TEST(two_keys_are_kept_from_every_text),
        TEST(two_keys_are_gone_after_close),
        TEST(over_attempts_and_deadlines),
        TEST(open_keeps_secrets),
        TEST(keys_from_the_environment),
        TEST(each_provider_gets_its_own_key),
    };
    return cmocka_run_group_tests_name("secrets", tests, group_start, group_stop);
}
