/* Certificates are always verified; HTTP/2 through nghttpx; a proxy for https sees no key. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"
#include <sys/prctl.h>

static Provider provider; /* its certificate: localhost and 127.0.0.1, its own CA */
static char dir[64] = "/tmp/llmgw_tls.XXXXXX";

static int group_start(void **state) {
    static const char *const tls[] = {"--tls-port", "0", "--cert-dir", dir, NULL};
    assert_non_null(mkdtemp(dir));
    provider_start(&provider, tls);
    return 0;
}
static int group_stop(void **state) {
    char command[128];
    provider_stop(&provider);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}
static int reset(void **state) {
    provider_reset(&provider);
    return 0;
}

/* ---- certificates ---- */

static void write_file(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* dir/name.pem and dir/name.key, signed by itself. Dates as YYYYMMDDhhmmssZ. */
static void make_cert(const char *name, const char *names, const char *from, const char *to) {
    char path[128], text[1024], command[1500];
    snprintf(text, sizeof text,
             "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=test\n[ca]\ndefault_ca=c\n[c]\n"
             "database=%s/%s.index\nnew_certs_dir=%s\nserial=%s/"
             "%s.serial\ndefault_md=sha256\npolicy=p\nx509_extensions=v3\n"
             "[p]\ncommonName=supplied\n[v3]\nsubjectAltName=%s\nbasicConstraints=critical,CA:TRUE\n",
             dir, name, dir, dir, name, names);
    snprintf(path, sizeof path, "%s/%s.cnf", dir, name);
    write_file(path, text);
    snprintf(path, sizeof path, "%s/%s.index", dir, name);
    write_file(path, "");
    snprintf(
        command, sizeof command,
        "cd %s && openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -config %s.cnf "
        "-keyout %s.key -out %s.csr >log 2>&1 && openssl ca -batch -selfsign -config %s.cnf -in %s.csr "
        "-keyfile %s.key -out %s.pem -startdate %s -enddate %s -notext -create_serial >>log 2>&1",
        dir, name, name, name, name, name, name, name, from, to);
    if (system(command) != 0) fail_msg("openssl could not make the certificate %s", name);
}

static void start_with_cert(Provider *own, const char *name, char *cert, size_t n) {
    char key[128];
    snprintf(cert, n, "%s/%s.pem", dir, name);
    snprintf(key, sizeof key, "%s/%s.key", dir, name);
    const char *const more[] = {"--tls-port", "0", "--cert", cert, "--key", key, NULL};
    provider_start(own, more);
}

static const llmgw_reply *call_tls(Rec *rec, const char *host, int port, const char *ca_file, bool stream) {
    llmgw_options options = {.ca_file = ca_file};
    llmgw *gw = t_open_at("https", host, port, &options);
    llmgw_request request = rec_request(rec, "openai/m", "over tls", stream);
    request.deadline_ms = 15000;
    const llmgw_reply *reply = rec_chat(gw, rec, &request);
    llmgw_close(gw);
    return reply;
}

static void expect_refused(const char *host, int port, const char *ca_file) {
    for (int stream = 0; stream < 2; stream++) {
        Rec rec = {0};
        const llmgw_reply *reply = call_tls(&rec, host, port, ca_file, stream);
        t_expect_code(reply, LLMGW_E_TLS);
        assert_false(reply->error.retryable);
        assert_int_equal(reply->trace_count, 1); /* tried once */
        assert_int_equal(t_sent(reply), 0);      /* no byte of the request left */
        t_expect_text(reply, "openai");
        rec_free(&rec);
    }
}

static void self_signed_is_refused(void **state) {
    expect_refused("localhost", provider.tls_port, NULL);
    expect_refused("127.0.0.1", provider.tls_port, NULL);
    assert_int_equal(provider_count(&provider, "requests"), 0);
}

static void ca_file_is_trusted(void **state) {
    static const char *const hosts[] = {"localhost", "127.0.0.1"};
    for (int i = 0; i < 4; i++) {
        Rec rec = {0};
        const llmgw_reply *reply = call_tls(&rec, hosts[i % 2], provider.tls_port, provider.cert, i / 2);
        t_expect_code(reply, LLMGW_OK);
        assert_string_equal(reply->text, "Echo from m: over tls");
        assert_int_equal(reply->trace[0].http_version, 11);
        rec_free(&rec);
    }
}

static void wrong_host_name_is_refused(void **state) {
    Provider own;
    char cert[128];
    make_cert("other", "DNS:other.test,IP:192.0.2.1", "20200101000000Z", "20990101000000Z");
    start_with_cert(&own, "other", cert, sizeof cert);
    expect_refused("localhost", own.tls_port, cert);
    expect_refused("127.0.0.1", own.tls_port, cert);
    assert_int_equal(provider_count(&own, "requests"), 0);
    provider_stop(&own);
}

static void expired_certificate_is_refused(void **state) {
    static const char *const dates[][2] = {{"20200101000000Z", "20200201000000Z"},
                                           {"20980101000000Z", "20990101000000Z"},
                                           {"20200101000000Z", "20990101000000Z"}};
    for (int i = 0; i < 3; i++) { /* expired, not yet, and (that the helper is not to blame) valid */
        Provider own;
        char cert[128], name[16];
        snprintf(name, sizeof name, "dated%d", i);
        make_cert(name, "DNS:localhost,IP:127.0.0.1", dates[i][0], dates[i][1]);
        start_with_cert(&own, name, cert, sizeof cert);
        Rec rec = {0};
        if (i < 2)
            expect_refused("localhost", own.tls_port, cert);
        else
            t_expect_code(call_tls(&rec, "localhost", own.tls_port, cert, true), LLMGW_OK);
        rec_free(&rec);
        provider_stop(&own);
    }
}

static void plain_server_behind_https_is_refused(void **state) {
    expect_refused("localhost", provider.port, provider.cert);
    assert_int_equal(provider_count(&provider, "requests"), 0);
}

/* A file that is not there, or is no certificate: said at open, or by the first call, by name. */
static void bad_ca_file_is_named(void **state) {
    char path[128];
    snprintf(path, sizeof path, "%s/no.pem", dir);
    for (int i = 0; i < 2; i++) {
        llmgw_error error;
        llmgw_provider own = {.name = "openai", .key = OPENAI_KEY, .url = "https://127.0.0.1:9"};
        llmgw_options options = {
            .providers = &own, .provider_count = 1, .no_environment = true, .ca_file = path};
        if (i) write_file(path, "this is no certificate\n");
        llmgw *gw = llmgw_open(&options, &error);
        if (gw) {
            char url[64];
            llmgw_close(gw);
            Rec rec = {0};
            snprintf(url, sizeof url, "localhost");
            t_expect_code(call_tls(&rec, url, provider.tls_port, path, false), LLMGW_E_TLS);
            t_expect_text(rec.reply, "no.pem");
            rec_free(&rec);
        } else if (!strstr(error.text, "ca_file") && !strstr(error.text, "no.pem")) {
            fail_msg("neither ca_file nor the path is in: %s", error.text);
        }
    }
}

static void tls_connections_are_reused(void **state) {
    Provider own; /* late arrivals of other tests are not counted here */
    char key[128];
    snprintf(key, sizeof key, "%s/key.pem", dir);
    const char *const more[] = {"--tls-port", "0", "--cert", provider.cert, "--key", key, NULL};
    provider_start(&own, more);
    llmgw_options options = {.ca_file = provider.cert};
    llmgw *gw = t_open_at("https", "localhost", own.tls_port, &options);
    for (int i = 0; i < 12; i++) {
        char model[32];
        snprintf(model, sizeof model, "%s/m", t_dialects[i % 3]);
        llmgw_reply *reply = llmgw_ask(gw, model, "again");
        t_expect_code(reply, LLMGW_OK);
        llmgw_reply_free(reply);
    }
    int connections = provider_count(&own, "connections");
    if (connections > 2) fail_msg("%d connections", connections);
    llmgw_close(gw);
    provider_stop(&own);
}

static void a_refused_certificate_goes_to_the_next_target(void **state) {
    char url[64];
    Rec rec = {0};
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", provider.port);
    llmgw_provider plain = {.name = "plain", .dialect = "openai", .url = url, .key = "sk-plain-0123456789"};
    const char *targets[] = {"openai/m", "plain/m"};
    llmgw_route route = {.name = "both", .targets = targets, .target_count = 2};
    llmgw_options options = {.providers = &plain, .provider_count = 1, .routes = &route, .route_count = 1};
    llmgw *gw = t_open_at("https", "localhost", provider.tls_port, &options);
    llmgw_request request = rec_request(&rec, "both", "x", true);
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_string_equal(reply->provider, "plain");
    assert_int_equal(reply->trace[0].code, LLMGW_E_TLS);
    assert_int_equal(reply->trace_count, 2);
    assert_true(reply->cost.known == reply->trace[1].cost.known); /* the first was free */
    rec_free(&rec);
    llmgw_close(gw);
}

/* ---- HTTP/2 ---- */

typedef struct Front {
    pid_t pid;
    int port;
} Front;

static bool front_answers(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool good = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return good;
}

/* nghttpx with TLS before the fake provider. Skips the test, visibly, where it is not installed. */
static void front_start(Front *front) {
    char frontend[64], backend[64], log[128], cert[256], key[128];
    if (system("command -v nghttpx >/dev/null 2>&1") != 0) {
        print_message("nghttpx (package nghttp2-proxy) is missing: HTTP/2 is not tested\n");
        skip();
    }
    close(t_listen(1, &front->port));
    snprintf(frontend, sizeof frontend, "-f127.0.0.1,%d", front->port);
    snprintf(backend, sizeof backend, "-b127.0.0.1,%d;;proto=http/1.1", provider.port);
    snprintf(log, sizeof log, "--errorlog-file=%s/nghttpx.log", dir);
    snprintf(cert, sizeof cert, "%s", provider.cert);
    snprintf(key, sizeof key, "%s/key.pem", dir);
    front->pid = fork();
    if (front->pid == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGTERM); /* also when a test fails */
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0), dup2(null, 1), dup2(null, 2);
        execlp("nghttpx", "nghttpx", "--conf=/dev/null", frontend, backend, log, "--workers=1",
               "--backend-read-timeout=60s", "--accesslog-file=/dev/null", key, cert, (char *)NULL);
        _exit(127);
    }
    int64_t until = t_now_ms() + 8000;
    while (!front_answers(front->port) && t_now_ms() < until) t_sleep_ms(20);
}

static void front_stop(Front *front, int how) {
    kill(-front->pid, how); /* its group: the worker too */
    waitpid(front->pid, NULL, 0);
}

static void http2_all_dialects(void **state) {
    Front front;
    front_start(&front);
    llmgw_options options = {.ca_file = provider.cert};
    llmgw *gw = t_open_at("https", "localhost", front.port, &options);
    for (int i = 0; i < 12; i++) {
        Rec rec = {0};
        llmgw_request request =
            rec_request(&rec, t_model(t_dialects[i % 3], "\"text_repeat\":20,\"split_utf8\":true"),
                        "h\xC3\xA9llo", i % 2);
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        t_expect_code(reply, LLMGW_OK);
        assert_int_equal(reply->trace[0].http_version, 20);
        assert_int_equal(reply->trace[0].http_status, 200);
        assert_true(reply->text_len > 300);
        rec_free(&rec);
    }
    llmgw_close(gw);
    front_stop(&front, SIGTERM);
}

static void http2_many_at_once(void **state) {
    int n = t_rounds(120);
    Front front;
    front_start(&front);
    Rec *recs = (Rec *)calloc((size_t)n, sizeof *recs);
    llmgw_options options = {.ca_file = provider.cert};
    llmgw *gw = t_open_at("https", "localhost", front.port, &options);
    for (int i = 0; i < n; i++) {
        llmgw_request request =
            rec_request(&recs[i], t_model(t_dialects[i % 3], "\"chunk_ms\":20"), "many", i % 4 != 0);
        rec_send(gw, &recs[i], &request);
    }
    for (int i = 0; i < n; i += 10) llmgw_cancel(gw, recs[i].call); /* one stream's end is not the others' */
    assert_true(rec_drive(gw, recs, n, 30000));
    for (int i = 0; i < n; i++) {
        rec_check(&recs[i]);
        t_expect_code(recs[i].reply, i % 10 ? LLMGW_OK : LLMGW_E_CANCELLED);
        if (i % 10) assert_int_equal(recs[i].reply->trace[0].http_version, 20);
        if (i % 10) assert_int_equal(t_traced(recs[i].reply, LLMGW_TRACE_ATTEMPT), 1);
        rec_free(&recs[i]);
    }
    llmgw_close(gw);
    front_stop(&front, SIGTERM);
    free(recs);
}

static void http2_errors_keep_their_meaning(void **state) {
    Front front;
    Rec rec = {0};
    front_start(&front);
    llmgw_options options = {.ca_file = provider.cert, .max_attempts = 1};
    llmgw *gw = t_open_at("https", "localhost", front.port, &options);
    llmgw_request request =
        rec_request(&rec, t_model("anthropic", "\"status\":429,\"retry_after\":\"7\""), "x", true);
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_E_RATE_LIMITED);
    assert_int_equal(reply->error.retry_after_ms, 7000);
    rec_free(&rec);
    request = rec_request(&rec, t_model("openai", "\"cut_after\":400,\"text_repeat\":100"), "x", true);
    reply = rec_chat(gw, &rec, &request);
    if (reply->error.code != LLMGW_E_NETWORK) t_expect_code(reply, LLMGW_E_TRUNCATED);
    rec_free(&rec);
    request = rec_request(&rec, t_model("gemini", "\"endless\":true,\"chunk_ms\":20"), "x", true);
    request.deadline_ms = 400;
    t_expect_code(rec_chat(gw, &rec, &request), LLMGW_E_DEADLINE);
    rec_free(&rec);
    assert_true(provider_wait(&provider, "open", 0, 5000)); /* the reset went through */
    llmgw_close(gw);
    front_stop(&front, SIGTERM);
}

static void http2_front_is_killed(void **state) {
    enum { N = 12 };
    Rec recs[N] = {0};
    Front front;
    front_start(&front);
    llmgw_options options = {.ca_file = provider.cert, .max_attempts = 1};
    llmgw *gw = t_open_at("https", "localhost", front.port, &options);
    for (int i = 0; i < N; i++) {
        llmgw_request request =
            rec_request(&recs[i], t_model(t_dialects[i % 3], "\"endless\":true,\"chunk_ms\":20"), "x", true);
        request.deadline_ms = 15000;
        rec_send(gw, &recs[i], &request);
    }
    for (int64_t until = t_now_ms() + 8000; recs[N - 1].pieces < 3 && t_now_ms() < until;)
        (void)llmgw_poll(gw, 50);
    front_stop(&front, SIGKILL);
    assert_true(rec_drive(gw, recs, N, 10000));
    for (int i = 0; i < N; i++) {
        rec_check(&recs[i]);
        if (recs[i].reply->error.code != LLMGW_E_NETWORK) t_expect_code(recs[i].reply, LLMGW_E_TRUNCATED);
        rec_free(&recs[i]);
    }
    llmgw_close(gw);
}

/* ---- a proxy for https ---- */

typedef struct Proxy {
    int through; /* where every CONNECT goes; 0: refused */
    char head[2048];
} Proxy;

static void serve_proxy(Raw *raw, int fd, int number) {
    Proxy *proxy = (Proxy *)raw->arg;
    char piece[8192];
    if (!raw_request(raw, fd, proxy->head, sizeof proxy->head)) return;
    if (!proxy->through) {
        raw_puts(fd, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
        return;
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)proxy->through)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int to = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(to, (struct sockaddr *)&address, sizeof address) == 0)
        raw_puts(fd, "HTTP/1.1 200 Connection established\r\nX-Proxy: yes\r\n\r\n");
    for (bool open = true; open;) {
        struct pollfd p[2] = {{fd, POLLIN, 0}, {to, POLLIN, 0}};
        if (poll(p, 2, 10000) <= 0) break;
        for (int i = 0; i < 2 && open; i++) {
            if (!p[i].revents) continue;
            ssize_t n = recv(p[i].fd, piece, sizeof piece, 0);
            open = n > 0 && raw_write(i ? fd : to, piece, (size_t)n);
        }
    }
    close(to);
}

static void https_proxy_is_used(void **state) {
    Provider own;
    Proxy proxy = {0};
    Raw raw;
    char cert[128], url[64];
    make_cert("far", "DNS:provider.test", "20200101000000Z", "20990101000000Z");
    start_with_cert(&own, "far", cert, sizeof cert);
    raw_start(&raw, serve_proxy, &proxy);
    snprintf(url, sizeof url, "http://127.0.0.1:%d", raw.port);
    unsetenv("no_proxy");
    unsetenv("NO_PROXY");
    setenv("https_proxy", url, 1);
    for (int i = 0; i < 3; i++) {
        Rec rec = {0};
        proxy.through = i < 2 ? own.tls_port : 0;
        const llmgw_reply *reply = call_tls(&rec, "provider.test", 443, cert, i % 2);
        if (i < 2) {
            t_expect_code(reply, LLMGW_OK);
            assert_string_equal(reply->text, "Echo from m: over tls");
            assert_int_equal(reply->trace[0].http_status, 200);
        } else {
            t_expect_code(reply, LLMGW_E_NETWORK);
            assert_int_equal(t_sent(reply), 0);
        }
        assert_int_equal(strncmp(proxy.head, "CONNECT provider.test:443 ", 26), 0);
        assert_null(strstr(proxy.head, OPENAI_KEY));
        assert_null(strcasestr(proxy.head, "authorization"));
        rec_free(&rec);
    }
    assert_int_equal(provider_count(&own, "requests"), 2);
    unsetenv("https_proxy");
    raw_stop(&raw);
    provider_stop(&own);
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(self_signed_is_refused),
        TEST(ca_file_is_trusted),
        TEST(wrong_host_name_is_refused),
        TEST(expired_certificate_is_refused),
        TEST(plain_server_behind_https_is_refused),
        TEST(bad_ca_file_is_named),
        TEST(tls_connections_are_reused),
        TEST(a_refused_certificate_goes_to_the_next_target),
        TEST(http2_all_dialects),
        TEST(http2_many_at_once),
        TEST(http2_errors_keep_their_meaning),
        TEST(http2_front_is_killed),
        TEST(https_proxy_is_used),
    };
    return cmocka_run_group_tests_name("tls", tests, group_start, group_stop);
}
