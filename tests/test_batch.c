/* Batches: submitted, looked at, read and cancelled over sockets, in both providers' forms, against a small server of
 * this file that checks what it is sent and can break off; what is counted, once. */
#include "unit.h"
#include "testing.h"

#define MOST 4000

/* A provider of batches. One batch at a time. */
typedef struct Server {
    Raw raw;
    pthread_mutex_t lock;
    char wrong[400]; /* what was wrong with a request; "": nothing */
    json_t *lines;   /* of the batch: {custom_id, body} */
    char endpoint[64], file[64];
    int uploads, creates, looks, contents, cancels;
    int polls_left;      /* looks that still find it running */
    int upload_failures; /* so often */
    int upload_status;   /* with this; 0: 500 */
    int create_status;   /* 0: good; 1: the connection is closed after the request was read */
    int cut_after;       /* results: the connection is closed after so many lines, once */
    int slow_ms;         /* between two lines */
    json_int_t tokens;   /* of each prompt, as it says; 0: 10 */
    bool junk;           /* a line of results makes no sense */
    bool twice;          /* each line of results comes twice */
    bool turned;         /* every second time they are read, in the order of the requests */
    bool cancelled, failed;
    char auth[128];
} Server;

static Server server;

/* The whole request. body: to be freed. */
static bool serve_read(int fd, char *head, size_t cap, char **body, size_t *body_n) {
    size_t n = 0;
    while (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0) {
        if (n + 1 >= cap || recv(fd, head + n, 1, 0) != 1) return false;
        n++;
    }
    head[n] = 0;
    const char *length = strcasestr(head, "content-length:");
    *body_n = length ? strtoul(length + 15, NULL, 10) : 0;
    *body = (char *)malloc(*body_n + 1);
    for (size_t got = 0; got < *body_n;) {
        ssize_t k = recv(fd, *body + got, *body_n - got, 0);
        if (k <= 0) return false;
        got += (size_t)k;
    }
    (*body)[*body_n] = 0;
    return true;
}

static void serve_wrong(const char *what, const char *detail) {
    if (!server.wrong[0]) snprintf(server.wrong, sizeof server.wrong, "%s: %.300s", what, detail);
}

/* The file's part of a form. Checks all around it. */
static char *serve_form(const char *head, char *body, size_t n) {
    char boundary[100] = "", mark[128], end[128];
    const char *at = strstr(head, "multipart/form-data; boundary=");
    if (!at || sscanf(at, "multipart/form-data; boundary=%99[^\r\n]", boundary) != 1) {
        serve_wrong("no form", head);
        return NULL;
    }
    snprintf(mark, sizeof mark, "--%s\r\n", boundary);
    snprintf(end, sizeof end, "\r\n--%s--\r\n", boundary);
    if (strncmp(body, mark, strlen(mark)) || n < strlen(end) || strcmp(body + n - strlen(end), end))
        serve_wrong("the form's frame", body);
    if (!strstr(body, "Content-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--"))
        serve_wrong("the purpose", body);
    char *file = strstr(body, "name=\"file\"; filename=");
    file = file ? strstr(file, "\r\n\r\n") : NULL;
    if (!file) {
        serve_wrong("no file", body);
        return NULL;
    }
    body[n - strlen(end)] = 0;
    return file + 4;
}

static void serve_line(const char *text) {
    json_error_t why;
    json_t *line = json_loads(text, JSON_REJECT_DUPLICATES, &why);
    if (!line) {
        serve_wrong(why.text, text);
        return;
    }
    if (strcmp(json_string_value(unit_at(line, "method")), "POST")) serve_wrong("method", text);
    const char *url = json_string_value(unit_at(line, "url"));
    if (server.endpoint[0] && strcmp(server.endpoint, url)) serve_wrong("several urls", url);
    snprintf(server.endpoint, sizeof server.endpoint, "%s", url);
    if (json_object_get(unit_at(line, "body"), "stream")) serve_wrong("stream", text);
    json_array_append_new(server.lines, json_pack("{s:O,s:O}", "custom_id", unit_at(line, "custom_id"),
                                                  "body", unit_at(line, "body")));
    json_decref(line);
}

static int serve_upload(const char *head, char *body, size_t n, char *answer, size_t cap) {
    server.uploads++;
    if (server.upload_failures-- > 0) return server.upload_status ? server.upload_status : 500;
    char *file = serve_form(head, body, n), *save = NULL;
    json_decref(server.lines);
    server.lines = json_array();
    server.endpoint[0] = 0;
    if (file && file[strlen(file) - 1] != '\n') serve_wrong("the last line is not ended", file);
    for (char *line = file ? strtok_r(file, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save))
        serve_line(line);
    snprintf(answer, cap, "{\"id\":\"file-in-7\",\"object\":\"file\",\"bytes\":%zu,\"purpose\":\"batch\"}",
             n);
    return 200;
}

/* openai's object, or anthropic's. */
static void serve_state(bool anthropic, char *answer, size_t cap) {
    size_t count = json_array_size(server.lines);
    const char *state = server.failed                                ? "failed"
                        : server.cancelled && server.polls_left <= 0 ? "cancelled"
                        : server.cancelled                           ? "cancelling"
                        : server.polls_left > 0                      ? "in_progress"
                                                                     : "completed";
    bool over = server.polls_left <= 0;
    if (anthropic) {
        snprintf(
            answer, cap,
            "{\"id\":\"msgbatch_013Zva\",\"type\":\"message_batch\",\"processing_status\":\"%s\","
            "\"request_counts\":{\"processing\":%zu,\"succeeded\":%zu,\"errored\":0,\"canceled\":0,"
            "\"expired\":0},\"ended_at\":%s,\"created_at\":\"2024-08-20T18:37:24.100435Z\","
            "\"expires_at\":\"2024-08-21T18:37:24.100435Z\",\"results_url\":\"https://example.com/steal\"}",
            over               ? "ended"
            : server.cancelled ? "canceling"
                               : "in_progress",
            over ? (size_t)0 : count, over ? count : 0, over ? "\"2024-08-20T18:39:24Z\"" : "null");
        return;
    }
    snprintf(answer, cap,
             "{\"id\":\"batch_abc123\",\"object\":\"batch\",\"endpoint\":\"%s\",\"errors\":%s,"
             "\"input_file_id\":\"file-in-7\",\"completion_window\":\"24h\",\"status\":\"%s\","
             "\"output_file_id\":%s,\"error_file_id\":%s,\"created_at\":1711471533,\"completed_at\":%s,"
             "\"expires_at\":1711557933,\"metadata\":null,"
             "\"request_counts\":{\"total\":%zu,\"completed\":%zu,\"failed\":%d}}",
             server.endpoint,
             server.failed
                 ? "{\"object\":\"list\",\"data\":[{\"code\":\"invalid_json_line\",\"message\":\"Line 3 is "
                   "not JSON\",\"line\":3}]}"
                 : "null",
             state, over && !server.failed ? "\"file-out-8\"" : "null",
             over && !server.failed ? "\"file-err-9\"" : "null", over ? "1711493163" : "null", count,
             over && !server.failed ? count - 1 : 0, over && !server.failed);
}

/* The i-th request's text. */
static const char *serve_prompt(size_t i) {
    json_t *messages = unit_at(json_array_get(server.lines, i), "body.messages");
    json_t *content = json_object_get(json_array_get(messages, json_array_size(messages) - 1), "content");
    if (json_is_array(content)) content = unit_at(content, "0.text");
    return json_is_string(content) ? json_string_value(content) : "?";
}

/* The i-th result: good ones in the output, the last one's error in the file of errors, for openai. */
static char *serve_result(bool anthropic, size_t i, bool error) {
    json_t *line, *id = json_object_get(json_array_get(server.lines, i), "custom_id");
    char text[200];
    snprintf(text, sizeof text, "Answer to %.150s", serve_prompt(i));
    if (anthropic && i == 0)
        line = json_pack("{s:O,s:{s:s,s:{s:s,s:{s:s,s:s}}}}", "custom_id", id, "result", "type", "errored",
                         "error", "type", "error", "error", "type", "invalid_request_error", "message",
                         "no such thing");
    else if (anthropic && i == 1)
        line = json_pack("{s:O,s:{s:s}}", "custom_id", id, "result", "type", "expired");
    else if (anthropic)
        line = json_pack("{s:O,s:{s:s,s:{s:s,s:s,s:s,s:s,s:[{s:s,s:s}],s:s,s:n,s:{s:i,s:i,s:s}}}}",
                         "custom_id", id, "result", "type", "succeeded", "message", "id", "msg_014", "type",
                         "message", "role", "assistant", "model", "claude-haiku-4-5-20251001", "content",
                         "type", "text", "text", text, "stop_reason", "end_turn", "stop_sequence", "usage",
                         "input_tokens", 10, "output_tokens", 5, "service_tier", "batch");
    else if (error)
        line = json_pack("{s:s,s:O,s:{s:i,s:s,s:{s:{s:s,s:s}}},s:n}", "id", "batch_req_e", "custom_id", id,
                         "response", "status_code", 400, "request_id", "req_1", "body", "error", "message",
                         "too long, this one", "code", "context_length_exceeded", "error");
    else
        line = json_pack(
            "{s:s,s:O,s:{s:i,s:s,s:{s:s,s:s,s:s,s:[{s:i,s:{s:s,s:s},s:s}],s:{s:I,s:i,s:i}}},s:n}", "id",
            "batch_req_1", "custom_id", id, "response", "status_code", 200, "request_id", "req_1", "body",
            "id", "chatcmpl-1", "object", "chat.completion", "model", "gpt-4o-mini-2024-07-18", "choices",
            "index", 0, "message", "role", "assistant", "content", text, "finish_reason", "stop", "usage",
            "prompt_tokens", server.tokens ? server.tokens : (json_int_t)10, "completion_tokens", 5,
            "total_tokens", 15, "error");
    char *out = json_dumps(line, JSON_COMPACT);
    json_decref(line);
    return out;
}

static void serve_results(int fd, bool anthropic, bool errors) {
    size_t count = json_array_size(server.lines), from = anthropic || !errors ? 0 : count - 1;
    size_t to = anthropic || errors ? count : count - 1;
    char chunk[64];
    int sent = 0;
    raw_puts(
        fd, anthropic
                ? "HTTP/1.1 200 OK\r\nContent-Type: application/x-jsonl\r\nTransfer-Encoding: chunked\r\n\r\n"
                : "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: "
                  "chunked\r\n\r\n");
    bool turn = server.turned && server.contents % 2 == 0;
    for (size_t k = to; k-- > from; sent++) { /* not in the order of the requests */
        size_t i = turn ? to - 1 - (k - from) : k;
        char *line = server.junk && sent == 2 ? strdup("{\"custom_id\": nonsense}")
                                              : serve_result(anthropic, i, errors);
        for (int again = 0; again < server.twice; again++) {
            snprintf(chunk, sizeof chunk, "%zx\r\n", strlen(line) + 1);
            raw_puts(fd, chunk);
            raw_puts(fd, line);
            raw_puts(fd, "\n\r\n");
        }
        if (server.cut_after && sent == server.cut_after) {
            server.cut_after = 0;
            free(line);
            shutdown(fd, SHUT_RDWR);
            return;
        }
        if (server.slow_ms) t_sleep_ms(server.slow_ms);
        snprintf(chunk, sizeof chunk, "%zx\r\n", strlen(line) + 1);
        raw_puts(fd, chunk);
        raw_puts(fd, line);
        raw_puts(fd, "\n\r\n");
        free(line);
    }
    raw_puts(fd, "0\r\n\r\n");
}

/* What anthropic is sent. */
static int serve_messages(const char *body, char *answer, size_t cap) {
    json_error_t why;
    json_t *all = json_loads(body, JSON_REJECT_DUPLICATES, &why), *requests = unit_at(all, "requests"), *one;
    size_t i;
    if (!all) serve_wrong(why.text, body);
    json_decref(server.lines);
    server.lines = json_array();
    json_array_foreach(requests, i, one) {
        if (!json_is_integer(unit_at(one, "params.max_tokens"))) serve_wrong("no max_tokens", body);
        json_array_append_new(server.lines, json_pack("{s:O,s:O}", "custom_id", unit_at(one, "custom_id"),
                                                      "body", unit_at(one, "params")));
    }
    json_decref(all);
    serve_state(true, answer, cap);
    return 200;
}

static int serve_create(const char *body, char *answer, size_t cap) {
    json_t *asked = json_loads(body, JSON_REJECT_DUPLICATES, NULL);
    const char *file = json_string_value(unit_at(asked, "input_file_id"));
    const char *endpoint = json_string_value(unit_at(asked, "endpoint"));
    const char *window = json_string_value(unit_at(asked, "completion_window"));
    if (!file || strcmp(file, "file-in-7")) serve_wrong("input_file_id", body);
    if (!endpoint || strcmp(endpoint, server.endpoint)) serve_wrong("endpoint", body);
    if (!window || strcmp(window, "24h")) serve_wrong("completion_window", body);
    json_decref(asked);
    serve_state(false, answer, cap);
    return 200;
}

/* 0: the connection is to be closed; -1: answered already. */
static int serve_one(int fd, const char *head, char *body, size_t n, char *answer, size_t cap) {
    char method[8] = "", path[200] = "";
    (void)sscanf(head, "%7s %199s", method, path);
    bool post = !strcmp(method, "POST"), anthropic = strstr(path, "/messages/") != NULL;
    const char *auth = strcasestr(head, anthropic ? "\r\nx-api-key:" : "\r\nauthorization:");
    if (!auth) serve_wrong("no key", head);
    if (auth) (void)sscanf(strchr(auth, ':') + 1, "%127[^\r\n]", server.auth);
    if (post && !strcmp(path, "/v1/files")) return serve_upload(head, body, n, answer, cap);
    if (post && (!strcmp(path, "/v1/batches") || !strcmp(path, "/v1/messages/batches"))) {
        server.creates++;
        int status = anthropic ? serve_messages(body, answer, cap) : serve_create(body, answer, cap);
        return server.create_status == 1 ? 0 : server.create_status ? server.create_status : status;
    }
    if (post && strstr(path, "/cancel")) {
        server.cancels++;
        server.cancelled = true;
        serve_state(anthropic, answer, cap);
        return 200;
    }
    if (post) serve_wrong("unknown path", path);
    if (strstr(path, "/content") || strstr(path, "/results")) {
        server.contents++;
        serve_results(fd, anthropic, strstr(path, "file-err-9") != NULL);
        return -1;
    }
    if (!strstr(path, anthropic ? "/v1/messages/batches/msgbatch_013Zva" : "/v1/batches/batch_abc123"))
        return snprintf(answer, cap,
                        "{\"error\":{\"message\":\"No batch found\",\"type\":\"not_found_error\"}}"),
               404;
    server.looks++;
    serve_state(anthropic, answer, cap);
    server.polls_left--;
    return 200;
}

static void serve(Raw *raw, int fd, int number) {

    char *answer = (char *)malloc(1 << 16), *body = NULL;
    char head[8192];
    size_t n;
    while (serve_read(fd, head, sizeof head, &body, &n)) {
        pthread_mutex_lock(&server.lock);
        answer[0] = 0;
        int status = serve_one(fd, head, body, n, answer, 1 << 16);
        pthread_mutex_unlock(&server.lock);
        free(body);
        body = NULL;
        char line[40];
        snprintf(line, sizeof line, "%d Whatever", status);
        if (status == 0) break;
        if (status > 0 && !raw_reply(fd, line, "Content-Type: application/json\r\n", answer)) break;
    }
    free(body);
    free(answer);
    (void)number, (void)raw;
}

static int reset(void **state) {
    memset(&server, 0, offsetof(Server, wrong));
    memset(server.wrong, 0, sizeof server - offsetof(Server, wrong));
    pthread_mutex_init(&server.lock, NULL);
    server.lines = json_array();
    raw_start(&server.raw, serve, NULL);
    return 0;
}

static int stop(void **state) {
    raw_stop(&server.raw);
    json_decref(server.lines);
    if (server.wrong[0]) fail_msg("the server was sent something wrong: %s", server.wrong);
    return 0;
}

/* ---- gateways and requests ---- */

static const char config[] =
    "{'models':{'mini':{'provider':'openai','model':'gpt-4o-mini','price':{'input':2,'output':8}},"
    "'haiku':{'provider':'anthropic','model':'claude-haiku-4-5','price':{'input':1,'output':5}}},"
    "'routes':{'r':{'try':['mini','haiku']}}}";

static llmgw *open_with(const char *json, const char *store) {
    char urls[2][128];
    llmgw_provider all[2];
    llmgw_options options = t_calm();
    llmgw_error error;
    Provider at;
    memset(&at, 0, sizeof at);
    at.port = server.raw.port;
    all[0] = t_provider(&at, "openai", NULL, "/v1", OPENAI_KEY, urls[0]);
    all[1] = t_provider(&at, "anthropic", NULL, "/v1", ANTHROPIC_KEY, urls[1]);
    options.providers = all;
    options.provider_count = 2;
    options.no_environment = true;
    options.config_json = unit_quoted(json);
    options.store.path = store;
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) fail_msg("llmgw_open: %s", error.text);
    return gw;
}

static llmgw_request requests[MOST];
static char prompts[MOST][32], names[MOST][24];
static const char *ids[MOST];

static llmgw_batch batch_of(const char *model, size_t count) {
    llmgw_batch batch;
    memset(&batch, 0, sizeof batch);
    memset(requests, 0, sizeof requests);
    for (size_t i = 0; i < count; i++) {
        snprintf(prompts[i], sizeof prompts[i], "question %zu", i);
        snprintf(names[i], sizeof names[i], "q-%zu", i);
        ids[i] = names[i];
        requests[i].prompt = prompts[i];
        requests[i].max_tokens = 100;
        requests[i].stream = i % 2 == 1;
    }
    batch.model = model;
    batch.requests = requests;
    batch.count = count;
    batch.ids = ids;
    return batch;
}

typedef struct Results {
    bool seen[MOST];
    int count, errors, stop_at;
    int64_t pico;
    bool unknown;
    llmgw_code codes[MOST];
    llmgw_reply *kept;
} Results;

static bool take(const char *id, const llmgw_reply *reply, void *user) {
    Results *results = (Results *)user;
    size_t i = 0;
    char want[64];
    if (sscanf(id, "q-%zu", &i) != 1) i = (size_t)atol(id);
    assert_true(i < MOST);
    if (results->seen[i]) fail_msg("%s came twice", id);
    results->seen[i] = true;
    results->count++;
    results->errors += reply->error.code != LLMGW_OK;
    results->codes[i] = reply->error.code;
    results->pico += reply->cost.pico_usd;
    results->unknown = results->unknown || !reply->cost.known;
    if (!reply->error.code) {
        snprintf(want, sizeof want, "Answer to question %zu", i);
        assert_string_equal(reply->text, want);
        assert_true(reply->usage.known && reply->usage.input == 10 && reply->usage.output == 5);
        assert_int_equal(reply->usage.tier, LLMGW_TIER_BATCH);
        assert_int_equal(reply->finish, LLMGW_FINISH_STOP);
        assert_true(reply->model_echo[0]);
        assert_int_equal(reply->message.part_count, 1);
    }
    if (results->count == 1) results->kept = llmgw_reply_keep(reply);
    return results->count != results->stop_at;
}

static bool take_lie(const char *id, const llmgw_reply *reply, void *user) { return id && reply && user; }

static int64_t read_all(llmgw *gw, const char *id, const llmgw_batch *how, Results *results,
                        llmgw_error *error) {
    memset(results, 0, sizeof *results);
    int64_t n = llmgw_batch_results(gw, id, how, take, results, error);
    llmgw_reply_free(results->kept);
    return n;
}

static Results results; /* of the test that runs */

/* ---- tests ---- */

static void openai(void **state) {
    char id[LLMGW_BATCH_ID];
    llmgw_error error;
    llmgw_batch_info info;
    llmgw *gw = open_with(config, NULL);
    llmgw_batch batch = batch_of("openai/gpt-4o-mini", 5);
    requests[2].schema = "{\"type\":\n \"object\",\r\n\"properties\":{}}"; /* more than one line */
    server.polls_left = 1;
    if (llmgw_batch_submit(gw, &batch, id, &error)) fail_msg("%s", error.text);
    assert_string_equal(id, "openai/gpt-4o-mini/batch_abc123");
    assert_string_equal(server.endpoint, "/v1/chat/completions");
    assert_string_equal(server.auth, " Bearer " OPENAI_KEY);
    assert_int_equal(json_array_size(server.lines), 5);
    unit_is(json_array_get(server.lines, 3), "custom_id", "'q-3'");
    unit_is(json_array_get(server.lines, 3), "body.model", "'gpt-4o-mini'");
    unit_is(json_array_get(server.lines, 3), "body.messages.0.content", "'question 3'");
    unit_is(json_array_get(server.lines, 2), "body.response_format.type", "'json_schema'");
    llmgw_close(gw); /* the name is all that is needed */

    gw = open_with(config, NULL);
    if (llmgw_batch_status(gw, id, NULL, &info, &error)) fail_msg("%s", error.text);
    assert_int_equal(info.state, LLMGW_BATCH_RUNNING);
    assert_false(info.over);
    assert_int_equal(info.total, 5);
    assert_int_equal(info.created_s, 1711471533);
    assert_int_equal(info.expires_s, 1711557933);
    server.polls_left = 1;
    assert_int_equal(read_all(gw, id, NULL, &results, &error), -LLMGW_E_LIMIT);
    unit_has(error.text, "not over yet: running");
    assert_true(error.retryable);
    assert_int_equal(server.contents, 0);

    if (llmgw_batch_status(gw, id, NULL, &info, &error)) fail_msg("%s", error.text);
    assert_int_equal(info.state, LLMGW_BATCH_ENDED);
    assert_true(info.over && info.succeeded == 4 && info.failed == 1 && info.ended_s == 1711493163);
    int64_t n = read_all(gw, id, NULL, &results, &error);
    if (n != 5) fail_msg("%lld: %s", (long long)n, error.text);
    assert_int_equal(results.errors, 1);
    assert_int_equal(results.codes[4], LLMGW_E_CONTEXT_LENGTH);
    llmgw_close(gw);
}

static void anthropic(void **state) {
    char id[LLMGW_BATCH_ID];
    llmgw_error error;
    llmgw_batch_info info;
    llmgw *gw = open_with(config, NULL);
    llmgw_batch batch = batch_of("haiku", 5);
    batch.ids = NULL;
    server.polls_left = 1;
    if (llmgw_batch_submit(gw, &batch, id, &error)) fail_msg("%s", error.text);
    assert_string_equal(id, "haiku/msgbatch_013Zva");
    assert_string_equal(server.auth, " " ANTHROPIC_KEY);
    unit_is(json_array_get(server.lines, 3), "custom_id", "'3'");
    unit_is(json_array_get(server.lines, 3), "body.model", "'claude-haiku-4-5'");
    if (llmgw_batch_status(gw, id, NULL, &info, &error)) fail_msg("%s", error.text);
    assert_int_equal(info.state, LLMGW_BATCH_RUNNING);
    assert_true(info.total == 5 && info.created_s == 1724179045 && info.ended_s == 0);
    if (llmgw_batch_status(gw, id, NULL, &info, &error)) fail_msg("%s", error.text);
    assert_int_equal(info.state, LLMGW_BATCH_ENDED);
    assert_true(info.over && info.succeeded == 5 && info.ended_s == 1724179164);
    int64_t n = read_all(gw, id, NULL, &results, &error);
    if (n != 5) fail_msg("%lld: %s", (long long)n, error.text);
    assert_int_equal(results.errors, 2);
    assert_int_equal(results.codes[0], LLMGW_E_BAD_REQUEST);
    assert_int_equal(results.codes[1], LLMGW_E_DEADLINE);
    assert_true(!results.unknown && results.pico == 3 * (10 * 1000000 + 5 * 5000000) / 2);
    llmgw_close(gw);
}

static void a_failed_one_says_why(void **state) {
    char id[LLMGW_BATCH_ID];
    llmgw_error error;
    llmgw_batch_info info;
    llmgw *gw = open_with(config, NULL);
    llmgw_batch batch = batch_of("mini", 2);
    if (llmgw_batch_submit(gw, &batch, id, &error)) fail_msg("%s", error.text);
    server.failed = true;
    if (llmgw_batch_status(gw, id, NULL, &info, &error)) fail_msg("%s", error.text);
    assert_int_equal(info.state, LLMGW_BATCH_FAILED);
    unit_has(info.why, "Line 3 is not JSON");
    assert_int_equal(read_all(gw, id, NULL, &results, &error), 0);
    llmgw_close(gw);
}

static void cancels(void **state) {
    char id[LLMGW_BATCH_ID];
    llmgw_error error;
    llmgw_batch_info info;
    llmgw *gw = open_with(config, NULL);
    const char *const models[] = {"mini", "haiku"};
    for (size_t i = 0; i < 2; i++) {
        llmgw_batch batch = batch_of(models[i], 2);
        server.polls_left = 1;
        server.cancelled = false;
        if (llmgw_batch_submit(gw, &batch, id, &error)) fail_msg("%s", error.text);
        if (llmgw_batch_cancel(gw, id, NULL, &error)) fail_msg("%s", error.text);
        assert_int_equal(server.cancels, i + 1);
        if (llmgw_batch_status(gw, id, NULL, &info, &error)) fail_msg("%s", error.text);
        assert_int_equal(info.state, LLMGW_BATCH_CANCELLING);
        assert_false(info.over);
        if (llmgw_batch_status(gw, id, NULL, &info, &error)) fail_msg("%s", error.text);
        assert_true(info.over);
        assert_int_equal(info.state, i ? LLMGW_BATCH_ENDED : LLMGW_BATCH_CANCELLED);
    }
    llmgw_close(gw);
}

static void refuses(void **state) {
    char id[LLMGW_BATCH_ID] = "x";
    llmgw_error error;
    llmgw *gw = open_with(config, NULL);
    const llmgw_batch good = batch_of("mini", 3);
    struct {
        const char *part;
        llmgw_code code;
        llmgw_batch batch;
    } rows[13];
    const char *twice[] = {"a", "b", "a"}, *odd[] = {"a", "b/c", "d"}, *restrictions[] = {"region=eu"};
    llmgw_request bad[3], none[3], few[3], restricted[3];
    memcpy(bad, requests, sizeof bad);
    bad[1].temperature = llmgw_set(7);
    memcpy(none, requests, sizeof none);
    none[1].message_count = 3; /* without messages */
    memcpy(few, requests, sizeof few);
    few[2].tool_count = 2;
    memcpy(restricted, requests, sizeof restricted);
    restricted[0].require = restrictions;
    restricted[0].require_count = 1;
    for (size_t i = 0; i < COUNT_OF(rows); i++) rows[i].batch = good, rows[i].code = LLMGW_E_ARGUMENT;
    rows[0].part = "batch.model: required", rows[0].batch.model = NULL;
    rows[1].part = "batch.count: none", rows[1].batch.count = 0;
    rows[2].part = "batch.count: none", rows[2].batch.requests = NULL;
    rows[3].part = "batch.ids: a comes twice", rows[3].batch.ids = twice;
    rows[4].part = "batch.ids: number 1: expected", rows[4].batch.ids = odd;
    rows[5].part = "batch.requests[1]: request.temperature", rows[5].batch.requests = bad;
    rows[6].part = "batch.model: expected a model, not a route", rows[6].batch.model = "r";
    rows[7].part = "batch.max_bytes: the requests are larger", rows[7].batch.max_bytes = 1;
    rows[8].part = "batch.count: none, or more", rows[8].batch.count = 50001;
    rows[9].part = "nobody", rows[9].batch.model = "nobody/m", rows[9].code = LLMGW_E_MODEL;
    rows[10].part = "batch.requests[1]: request.messages", rows[10].batch.requests = none;
    rows[11].part = "batch.requests[2]: request.tools", rows[11].batch.requests = few;
    rows[12].part = "batch.requests[0]: request.require", rows[12].batch.requests = restricted;
    rows[12].code = LLMGW_E_RESTRICTED;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        llmgw_code code = llmgw_batch_submit(gw, &rows[i].batch, id, &error);
        if (code != rows[i].code) fail_msg("row %zu: %s: %s", i, llmgw_code_name(code), error.text);
        unit_has(error.text, rows[i].part);
        assert_string_equal(id, "");
    }
    llmgw_batch many = batch_of("mini", MOST); /* some 600 kB */
    many.max_bytes = 10000;
    assert_int_equal(llmgw_batch_submit(gw, &many, id, &error), LLMGW_E_ARGUMENT);
    assert_int_equal(llmgw_batch_submit(gw, NULL, id, &error), LLMGW_E_ARGUMENT);
    assert_int_equal(llmgw_batch_submit(NULL, &good, id, &error), LLMGW_E_CLOSED);
    assert_int_equal(llmgw_batch_submit(gw, &good, NULL, NULL), LLMGW_E_ARGUMENT);
    const char *const odd_ids[] = {NULL, "", "batch_abc", "mini/", "mini/a b", "mini/../x", "mini/%2e"};
    for (size_t i = 0; i < COUNT_OF(odd_ids); i++)
        assert_int_equal(llmgw_batch_status(gw, odd_ids[i], NULL, NULL, &error),
                         i == 5 ? LLMGW_E_MODEL : LLMGW_E_ARGUMENT);
    assert_int_equal(llmgw_batch_results(gw, "mini/b", NULL, NULL, NULL, &error), -LLMGW_E_ARGUMENT);
    assert_int_equal(raw_requests(&server.raw), 0);
    assert_int_equal(server.uploads + server.creates + server.looks, 0);
    assert_int_equal(llmgw_batch_status(gw, "mini/batch_other", NULL, NULL, &error), LLMGW_E_NOT_FOUND);
    unit_has(error.text, "No batch found");
    llmgw_close(gw);
}

/* Sets how the next creation ends; returns how many there were. Under lock, as no reply of a connection that is closed
   says that the server is done. */
static int next_create(int status) {
    pthread_mutex_lock(&server.lock);
    server.create_status = status;
    int creates = server.creates;
    pthread_mutex_unlock(&server.lock);
    return creates;
}

/* An upload is sent again; what may have begun a batch is not. */
static void what_is_repeated(void **state) {
    char id[LLMGW_BATCH_ID];
    llmgw_error error;
    llmgw *gw = open_with(config, NULL);
    llmgw_batch batch = batch_of("mini", 2);
    server.upload_failures = 2;
    if (llmgw_batch_submit(gw, &batch, id, &error)) fail_msg("%s", error.text);
    assert_int_equal(server.uploads, 3);
    assert_int_equal(server.creates, 1);
    const int doubtful[] = {1, 500, 502};
    const char *const models[] = {"mini", "haiku"};
    for (size_t m = 0; m < 2; m++)
        for (size_t i = 0; i < COUNT_OF(doubtful); i++) {
            int before = next_create(doubtful[i]);
            batch.model = models[m];
            llmgw_code code = llmgw_batch_submit(gw, &batch, id, &error);
            assert_int_equal(code, doubtful[i] == 1 ? LLMGW_E_NETWORK : LLMGW_E_PROVIDER);
            assert_int_equal(next_create(0), before + 1);
            unit_has(error.text, "may exist all the same");
            assert_false(error.retryable);
            assert_string_equal(id, "");
        }
    int before = next_create(429); /* it was refused: again */
    assert_int_equal(llmgw_batch_submit(gw, &batch, id, &error), LLMGW_E_RATE_LIMITED);
    assert_true(server.creates > before + 1);
    assert_null(strstr(error.text, "may exist"));
    before = server.creates;
    server.create_status = 400;
    assert_int_equal(llmgw_batch_submit(gw, &batch, id, &error), LLMGW_E_BAD_REQUEST);
    assert_int_equal(server.creates, before + 1);
    assert_null(strstr(error.text, "may exist"));
    llmgw_close(gw);
}

/* Results that break off are read again, and none is given twice. */
static void cut_results_go_on(void **state) {
    char id[LLMGW_BATCH_ID];
    llmgw_error error;
    llmgw *gw = open_with(config, NULL);
    const char *const models[] = {"mini", "haiku"};
    for (size_t i = 0; i < 2; i++) {
        llmgw_batch batch = batch_of(models[i], 300);
        if (llmgw_batch_submit(gw, &batch, id, &error)) fail_msg("%s", error.text);
        server.cut_after = 117;
        server.contents = 0;
        server.turned = true; /* nobody promises their order */
        int64_t n = read_all(gw, id, NULL, &results, &error);
        if (n != 300) fail_msg("%lld: %s", (long long)n, error.text);
        assert_int_equal(server.contents, i ? 2 : 3);
    }
    llmgw_close(gw);
}

static void many(void **state) {
    char id[LLMGW_BATCH_ID];
    llmgw_error error;
    llmgw *gw = open_with(config, NULL);
    llmgw_batch batch = batch_of("mini", MOST);
    if (llmgw_batch_submit(gw, &batch, id, &error)) fail_msg("%s", error.text);
    assert_int_equal(read_all(gw, id, NULL, &results, &error), MOST);
    assert_int_equal(results.errors, 1);
    llmgw_target targets[2]; /* the route has both */
    llmgw_report report;
    llmgw_report_target told[2];
    memset(&report, 0, sizeof report);
    report.targets = told;
    report.target_room = 2;
    assert_int_equal(llmgw_targets(gw, targets, 2), 2);
    assert_true(targets[0].p50_ms == 0 &&
                targets[0].p95_ms == 0); /* how long this takes says nothing of the model */
    assert_int_equal(llmgw_report_fill(gw, &report), LLMGW_OK);
    assert_true(report.unknown == 0 && told[0].whole.count == 0 && told[0].first_token.count == 0);
    llmgw_close(gw);
}

static void stops_where_told(void **state) {
    char id[LLMGW_BATCH_ID];
    llmgw_error error;
    llmgw *gw = open_with(config, NULL);
    llmgw_batch batch = batch_of("mini", 50);
    if (llmgw_batch_submit(gw, &batch, id, &error)) fail_msg("%s", error.text);
    memset(&results, 0, sizeof results);
    results.stop_at = 7;
    int64_t n = llmgw_batch_results(gw, id, NULL, take, &results, &error);
    if (n != 7) fail_msg("%lld: %s", (long long)n, error.text);
    llmgw_reply_free(results.kept);
    server.junk = true;
    assert_int_equal(read_all(gw, id, NULL, &results, &error), -LLMGW_E_PROTOCOL);
    unit_has(error.text, "line 3 of the results makes no sense");
    assert_int_equal(results.count, 2);
    server.junk = false;
    server.slow_ms = 20;
    batch.deadline_ms = 200;
    assert_int_equal(read_all(gw, id, &batch, &results, &error), -LLMGW_E_DEADLINE);
    assert_int_equal(llmgw_pending(gw), 0);
    llmgw_close(gw);
}

/* ---- money ---- */

typedef struct Rows {
    int rows, batches;
    int64_t pico, input, output;
    char tag[65], id[64];
    llmgw_tier tier;
} Rows;

static bool take_row(const llmgw_ledger_row *row, void *user) {
    Rows *rows = (Rows *)user;
    rows->rows++;
    if (!row->usage.input) return true; /* of a submission */
    rows->batches++;
    rows->pico += row->cost.pico_usd;
    rows->input += row->usage.input;
    rows->output += row->usage.output;
    rows->tier = row->usage.tier;
    snprintf(rows->tag, sizeof rows->tag, "%s", row->tag_count ? row->tags[0] : "");
    snprintf(rows->id, sizeof rows->id, "%s", row->request_id);
    return true;
}

static Rows rows_of(llmgw *gw) {
    Rows rows;
    memset(&rows, 0, sizeof rows);
    assert_int_equal(llmgw_flush(gw), LLMGW_OK);
    assert_true(llmgw_ledger_query(gw, NULL, take_row, &rows) >= 0);
    return rows;
}

static const char money_config[] =
    "{'models':{'mini':{'provider':'openai','model':'gpt-4o-mini','price':{'input':2,'output':8}}},"
    "'budgets':{'bulk':{'tag':'bulk','total_usd':0.01},'all':{'total_usd':1}}}";

static int64_t spent(llmgw *gw, const char *name, bool reserved) {
    llmgw_budget_state budgets[8];
    size_t n = llmgw_budgets(gw, budgets, 8);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(budgets[i].name, name))
            return reserved ? budgets[i].reserved_pico : budgets[i].spent_pico;
    return -1;
}

static void counts_once(void **state) {
    static const char *const tags[] = {"bulk"};
    char id[LLMGW_BATCH_ID], dir[] = "/tmp/llmgw-batch-XXXXXX";
    llmgw_error error;
    assert_non_null(mkdtemp(dir));
    llmgw *gw = open_with(money_config, dir);
    llmgw_batch batch = batch_of("mini", 11);
    batch.tags = tags;
    batch.tag_count = 1;
    if (llmgw_batch_submit(gw, &batch, id, &error)) fail_msg("%s", error.text);
    Rows rows = rows_of(gw);
    assert_int_equal(rows.rows, 1); /* the submission, which is all that its reservation leaves */
    assert_int_equal(rows.batches, 0);
    assert_int_equal(spent(gw, "bulk", true), 0);

    memset(&results, 0, sizeof results);
    results.stop_at = 4; /* not read to the end: not counted */
    assert_int_equal(llmgw_batch_results(gw, id, &batch, take, &results, &error), 4);
    llmgw_reply_free(results.kept);
    assert_int_equal(rows_of(gw).batches, 0);

    const int64_t each = (10 * 2000000 + 5 * 8000000) / 2, all = each * 10;
    assert_int_equal(read_all(gw, id, &batch, &results, &error), 11);
    assert_int_equal(results.pico, all);
    rows = rows_of(gw);
    assert_int_equal(rows.batches, 1);
    assert_int_equal(rows.pico, all);
    assert_true(rows.input == 100 && rows.output == 50);
    assert_int_equal(rows.tier, LLMGW_TIER_BATCH);
    assert_string_equal(rows.tag, "bulk");
    assert_string_equal(rows.id, "batch_abc123");
    assert_int_equal(spent(gw, "bulk", false), all);
    assert_int_equal(spent(gw, "all", false), all);

    assert_int_equal(read_all(gw, id, &batch, &results, &error), 11);
    server.twice = true; /* a provider's error: each is given once, and paid once */
    assert_int_equal(read_all(gw, id, &batch, &results, &error), 11);
    llmgw_close(gw);
    gw = open_with(money_config, dir);
    assert_int_equal(read_all(gw, id, &batch, &results, &error), 11); /* another process */
    rows = rows_of(gw);
    assert_int_equal(rows.batches, 1);
    assert_int_equal(spent(gw, "bulk", false), all);
    assert_int_equal(spent(gw, "bulk", true), 0);
    llmgw_close(gw);
    t_remove_tree(dir);
}

/* What a batch may cost must fit when it is submitted; what it did cost is counted also when it no longer does. */
static void budgets_are_asked_first(void **state) {
    static const char *const tags[] = {"bulk"};
    char id[LLMGW_BATCH_ID], dir[] = "/tmp/llmgw-batch-XXXXXX";
    llmgw_error error;
    assert_non_null(mkdtemp(dir));
    llmgw *gw = open_with(money_config, dir);
    llmgw_batch batch =
        batch_of("mini", 26); /* 26 x 100 tokens of output at 4 USD a million: more than a cent */
    batch.tags = tags;
    batch.tag_count = 1;
    assert_int_equal(llmgw_batch_submit(gw, &batch, id, &error), LLMGW_E_BUDGET);
    unit_has(error.text, "bulk");
    assert_int_equal(server.uploads, 0);
    batch.count = 11;
    if (llmgw_batch_submit(gw, &batch, id, &error)) fail_msg("%s", error.text);
    llmgw_close(gw);
    gw = open_with(
        "{'models':{'mini':{'provider':'openai','model':'gpt-4o-mini','price':{'input':2,'output':8}}},"
        "'budgets':{'bulk':{'tag':'bulk','total_usd':0.0000001}}}",
        dir);
    assert_int_equal(read_all(gw, id, &batch, &results, &error), 11);
    assert_int_equal(rows_of(gw).batches, 1);
    assert_int_equal(spent(gw, "bulk", false), 300000000);
    assert_int_equal(llmgw_batch_submit(gw, &batch, id, &error), LLMGW_E_BUDGET);
    llmgw_close(gw);
    t_remove_tree(dir);
}

/* The largest caps on answers are no small sum, and a prefix that is written to a cache may cost more than its tokens. */
static void estimates_are_no_less_than_the_bill(void **state) {
    static char text[200001];
    char id[LLMGW_BATCH_ID], dir[] = "/tmp/llmgw-batch-XXXXXX";
    llmgw_error error;
    assert_non_null(mkdtemp(dir));
    llmgw *gw = open_with(
        "{'models':{'mini':{'provider':'openai','model':'gpt-4o-mini','price':{'input':2,'output':8}},"
        "'haiku':{'provider':'anthropic','model':'claude-haiku-4-5',"
        "'price':{'input':1,'output':5,'cache_write':100,'cache_write_1h':200}}},'budgets':{'all':{'total_"
        "usd':1}}}",
        dir);
    llmgw_batch batch = batch_of("mini", 2);
    requests[0].max_tokens = requests[1].max_tokens = INT64_MAX;
    assert_int_equal(llmgw_batch_submit(gw, &batch, id, &error), LLMGW_E_BUDGET);
    batch = batch_of("haiku", 1);
    memset(text, 'x',
           sizeof text - 1); /* at least 25,000 tokens: 0.0125 USD, or 2.5 if all of it is written */
    requests[0].system = text;
    if (llmgw_batch_submit(gw, &batch, id, &error)) fail_msg("%s", error.text);
    requests[0].prompt_cache = LLMGW_PROMPT_CACHE_1H;
    assert_int_equal(llmgw_batch_submit(gw, &batch, id, &error), LLMGW_E_BUDGET);
    llmgw_close(gw);
    t_remove_tree(dir);
}

/* A provider that lies about its tokens makes no sum run over. */
static void sums_do_not_run_over(void **state) {
    char id[LLMGW_BATCH_ID], dir[] = "/tmp/llmgw-batch-XXXXXX";
    llmgw_error error;
    assert_non_null(mkdtemp(dir));
    llmgw *gw = open_with(money_config, dir);
    llmgw_batch batch = batch_of("mini", 1200);
    for (size_t i = 0; i < batch.count; i++) requests[i].max_tokens = 1;
    if (llmgw_batch_submit(gw, &batch, id, &error)) fail_msg("%s", error.text);
    server.tokens = 9000000000000000;
    memset(&results, 0, sizeof results);
    assert_int_equal(llmgw_batch_results(gw, id, &batch, take_lie, &results, &error), 1200);
    Rows rows = rows_of(gw);
    assert_int_equal(rows.batches, 1);
    assert_int_equal(rows.input, 9000000000000000);
    llmgw_close(gw);
    t_remove_tree(dir);
}

/* ---- where it is sent ---- */

/* A gateway with one provider of these fields, and the model "m" of it. */
static llmgw *open_one(const char *fields) {
    char json[600];
    llmgw_options options = t_calm();
    llmgw_error error;
    snprintf(json, sizeof json, "{'providers':{'p':{'url':'http://127.0.0.1:%d%s}},'unsupported':'refuse'}",
             server.raw.port, fields);
    options.no_environment = true;
    options.config_json = unit_quoted(json);
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) fail_msg("llmgw_open: %s", error.text);
    return gw;
}

/* It stays with its account: what another key could do at once, this one does when it may again. */
static void one_key_is_asked_again(void **state) {
    char id[LLMGW_BATCH_ID];
    llmgw_error error;
    llmgw *gw = open_one("/v1','dialect':'openai','keys':['key-one','key-two']");
    llmgw_batch batch = batch_of("p/gpt-4o-mini", 2);
    server.upload_failures = 1;
    server.upload_status = 429;
    if (llmgw_batch_submit(gw, &batch, id, &error)) fail_msg("%s", error.text);
    assert_int_equal(server.uploads, 2);
    assert_string_equal(server.auth, " Bearer key-one");
    llmgw_close(gw);
}

/* What the gateway does with a parameter that a model does not take holds for batches, too. */
static void what_is_unsupported_is_refused(void **state) {
    char id[LLMGW_BATCH_ID];
    llmgw_error error;
    llmgw *gw = open_one("/v1','dialect':'openai','key':'key-one'");
    llmgw_batch batch = batch_of("p/gpt-4o-mini", 2);
    requests[1].top_k = llmgw_set(3);
    assert_int_equal(llmgw_batch_submit(gw, &batch, id, &error), LLMGW_E_UNSUPPORTED);
    unit_has(error.text, "batch.requests[1]: request.top_k");
    requests[1].unsupported = LLMGW_UNSUPPORTED_DROP;
    if (llmgw_batch_submit(gw, &batch, id, &error)) fail_msg("%s", error.text);
    llmgw_close(gw);
}

/* Azure's paths of deployments have no batches below them. */
static void not_below_a_deployment(void **state) {
    char id[LLMGW_BATCH_ID];
    llmgw_error error;
    llmgw *gw = open_one("/openai/deployments/{model}','dialect':'openai','key':'key-one'");
    llmgw_batch batch = batch_of("p/gpt-4o-mini", 2);
    assert_int_equal(llmgw_batch_submit(gw, &batch, id, &error), LLMGW_E_UNSUPPORTED);
    assert_int_equal(raw_requests(&server.raw), 0);
    llmgw_close(gw);
}

/* ---- against the strict provider ---- */

static bool take_any(const char *id, const llmgw_reply *reply, void *user) {
    Results *got = (Results *)user;
    size_t i = 0;
    char want[80];
    assert_int_equal(sscanf(id, "q-%zu", &i), 1);
    assert_false(got->seen[i]);
    got->seen[i] = true;
    got->count++;
    got->errors += reply->error.code != LLMGW_OK;
    snprintf(want, sizeof want, ": question %zu", i);
    if (!reply->error.code) unit_has(reply->text, want);
    if (!reply->error.code) assert_true(reply->usage.known && reply->usage.output > 0);
    return true;
}

static void the_strict_provider(void **state) {
    static const char *const models[] = {"openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", "newer/gpt-5.2"};
    Provider provider;
    provider_start(&provider, NULL);
    llmgw_error error;
    llmgw_batch_info info;
    char id[LLMGW_BATCH_ID], urls[3][128];
    llmgw_provider all[] = {t_provider(&provider, "openai", NULL, "/v1", OPENAI_KEY, urls[0]),
                            t_provider(&provider, "anthropic", NULL, "/v1", ANTHROPIC_KEY, urls[1]),
                            t_provider(&provider, "newer", "responses", "/v1", OPENAI_KEY, urls[2])};
    llmgw_options options = t_calm();
    options.providers = all;
    options.provider_count = 3;
    options.no_environment = true;
    llmgw *gw = llmgw_open(&options, NULL);
    for (size_t m = 0; m < 3; m++) {
        for (int errors = 0; errors < 2; errors++) {
            llmgw_batch batch = batch_of(models[m], 60);
            provider_rule(&provider, errors ? "{\"batch\":{\"polls\":3,\"errors\":0.5,\"seed\":7}}"
                                            : "{\"batch\":{\"polls\":3,\"errors\":0,\"seed\":7}}");
            if (llmgw_batch_submit(gw, &batch, id, &error)) fail_msg("%s", error.text);
            do {
                if (llmgw_batch_status(gw, id, NULL, &info, &error)) fail_msg("%s", error.text);
                assert_true(info.state <= LLMGW_BATCH_ENDED);
            } while (!info.over);
            assert_int_equal(info.total, 60);
            memset(&results, 0, sizeof results);
            int64_t n = llmgw_batch_results(gw, id, NULL, take_any, &results, &error);
            if (n != 60) fail_msg("%s: %lld: %s", id, (long long)n, error.text);
            assert_int_equal(info.succeeded, 60 - results.errors);
            assert_int_equal(results.errors > 0, errors);
        }
        llmgw_batch batch = batch_of(models[m], 10);
        if (llmgw_batch_submit(gw, &batch, id, &error)) fail_msg("%s", error.text);
        if (llmgw_batch_cancel(gw, id, NULL, &error)) fail_msg("%s", error.text);
        do {
            if (llmgw_batch_status(gw, id, NULL, &info, &error)) fail_msg("%s", error.text);
        } while (!info.over);
        memset(&results, 0, sizeof results);
        int64_t n = llmgw_batch_results(gw, id, NULL, take_any, &results, &error);
        assert_int_equal(n, m == 1 ? 10 : results.count); /* openai leaves the cancelled ones out */
        assert_true(results.count - results.errors > 0);
    }
    llmgw_close(gw);
    provider_stop(&provider);
}

/* ---- lines of results ---- */

static void results_of_lines(void **state) {
    static const struct {
        const char *line;
        bool reads;
        llmgw_code code;
        const char *text;
    } rows[] = {
        {"{}", false, LLMGW_OK, ""},
        {"[]", false, LLMGW_OK, ""},
        {"{'custom_id':7,'response':{}}", false, LLMGW_OK, ""},
        {"{'custom_id':'a'}", true, LLMGW_E_PROTOCOL, "neither an answer nor an error"},
        {"{'custom_id':'a','response':null,'error':{'code':'batch_expired','message':'This request could not "
         "be "
         "executed before the completion window expired.'}}",
         true, LLMGW_E_DEADLINE, "expired"},
        {"{'custom_id':'a','response':null,'error':{'code':'server_error','message':'oh'}}", true,
         LLMGW_E_PROVIDER, "oh"},
        {"{'custom_id':'a','response':{'status_code':429,'body':{'error':{'message':'slow down'}}}}", true,
         LLMGW_E_RATE_LIMITED, "slow down"},
        {"{'custom_id':'a','response':{'status_code':200,'body':{'choices':[]}}}", true, LLMGW_E_PROTOCOL,
         "no choices"},
        {"{'custom_id':'a','result':{'type':'canceled'}}", true, LLMGW_E_CANCELLED, "cancelled"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        llmgwi_dialect_result result;
        unit_answer u;
        unit_begin(&u, "openai", false);
        const char *line = unit_quoted(rows[i].line);
        assert_int_equal(llmgwi_dialect_result_read(&result, llmgwi_base_cstr(line), 64), rows[i].reads);
        if (rows[i].reads) {
            llmgwi_dialect_result_answer(&result, u.dialect, u.answer);
            if (u.answer->error.code != rows[i].code) fail_msg("%s: %s", rows[i].line, u.answer->error.text);
            unit_has(u.answer->error.text, rows[i].text);
        }
        unit_end(&u);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_of_lines),
        cmocka_unit_test(the_strict_provider),
        cmocka_unit_test_setup_teardown(openai, reset, stop),
        cmocka_unit_test_setup_teardown(anthropic, reset, stop),
        cmocka_unit_test_setup_teardown(a_failed_one_says_why, reset, stop),
        cmocka_unit_test_setup_teardown(cancels, reset, stop),
        cmocka_unit_test_setup_teardown(refuses, reset, stop),
        cmocka_unit_test_setup_teardown(what_is_repeated, reset, stop),
        cmocka_unit_test_setup_teardown(cut_results_go_on, reset, stop),
        cmocka_unit_test_setup_teardown(many, reset, stop),
        cmocka_unit_test_setup_teardown(stops_where_told, reset, stop),
        cmocka_unit_test_setup_teardown(counts_once, reset, stop),
        cmocka_unit_test_setup_teardown(budgets_are_asked_first, reset, stop),
        cmocka_unit_test_setup_teardown(estimates_are_no_less_than_the_bill, reset, stop),
        cmocka_unit_test_setup_teardown(sums_do_not_run_over, reset, stop),
        cmocka_unit_test_setup_teardown(one_key_is_asked_again, reset, stop),
        cmocka_unit_test_setup_teardown(what_is_unsupported_is_refused, reset, stop),
        cmocka_unit_test_setup_teardown(not_below_a_deployment, reset, stop),
    };
    const char *only = getenv("ONLY");
    if (only) cmocka_set_test_filter(only);
    return cmocka_run_group_tests_name("batch", tests, NULL, NULL);
}
