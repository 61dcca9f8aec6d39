/* Azure and Vertex: where requests go, with which header, and what Azure's content filter says. */
#include "unit.h"
#include "fixture_streams.h"
#include "testing.h"

/* ---- where: base URL, query, header of a key ---- */

static llmgw_provider make(const char *name, const char *url, const char *version, const char *project,
                           const char *region, const char *key) {
    llmgw_provider provider;
    memset(&provider, 0, sizeof provider);
    provider.name = name;
    provider.url = url;
    provider.api_version = version;
    provider.project = project;
    provider.region = region;
    provider.key = key;
    return provider;
}

static void check_place(const llmgw_provider *from, bool stream, llmgw_code code, const char *want,
                        const char *header) {
    llmgwi_config config;
    llmgw_options options;
    llmgw_error error;
    memset(&options, 0, sizeof options);
    memset(&error, 0, sizeof error);
    options.providers = from;
    options.provider_count = 1;
    options.no_environment = true;
    bool good = llmgwi_config_open(&config, &unit_mem, &options, &error);
    if (code) {
        assert_false(good);
        assert_int_equal(error.code, code);
        unit_has(error.text, want);
        llmgwi_config_close(&config);
        return;
    }
    if (!good) fail_msg("%s", error.text);
    const llmgwi_config_provider *provider = config.providers[0];
    llmgwi_base_buf url;
    llmgwi_base_buf_init(&url, &unit_mem, 8192);
    assert_true(llmgwi_dialect_url(provider->dialect, provider->url, "m/1", stream, &url));
    if (provider->query[0]) {
        llmgwi_base_buf_text(&url, strchr(url.p, '?') ? "&" : "?");
        llmgwi_base_buf_text(&url, provider->query);
    }
    assert_string_equal(url.p, want);
    assert_null(strchr(provider->root, '{'));
    if (header) assert_string_equal(provider->keys[0].line, header);
    llmgwi_base_buf_free(&url);
    llmgwi_config_close(&config);
}

#define RES "https://res.openai.azure.com"

static void test_azure_places(void **state) {
    static const struct {
        const char *url, *version, *want;
    } rows[] = {
        {RES, NULL, RES "/openai/v1/chat/completions"},
        {RES "/", "v1", RES "/openai/v1/chat/completions"},
        {RES "/openai", NULL, RES "/openai/v1/chat/completions"},
        {RES "/openai/v1/", NULL, RES "/openai/v1/chat/completions"},
        {RES, "preview", RES "/openai/v1/chat/completions?api-version=preview"},
        {RES, "2024-10-21", RES "/openai/deployments/m%2F1/chat/completions?api-version=2024-10-21"},
        {RES "/openai/v1", "2024-12-01-preview",
         RES "/openai/deployments/m%2F1/chat/completions?api-version=2024-12-01-preview"},
        {"https://gw.example/azure/x", "2024-10-21",
         "https://gw.example/azure/x/openai/deployments/m%2F1/chat/completions?api-version=2024-10-21"},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_provider provider = make("azure", rows[i].url, rows[i].version, NULL, NULL, "the-key");
        check_place(&provider, false, LLMGW_OK, rows[i].want, "api-key: the-key");
        provider.dialect = "responses"; /* by date, too, it stands under no deployment */
        check_place(&provider, false, LLMGW_OK,
                    i < 4    ? RES "/openai/v1/responses"
                    : i == 4 ? RES "/openai/v1/responses?api-version=preview"
                    : i == 5 ? RES "/openai/responses?api-version=2024-10-21"
                    : i == 6 ? RES "/openai/responses?api-version=2024-12-01-preview"
                             : "https://gw.example/azure/x/openai/responses?api-version=2024-10-21",
                    "api-key: the-key");
        provider.name = "corp";
        provider.dialect = "azure"; /* by any other name */
        check_place(&provider, true, LLMGW_OK, rows[i].want, "api-key: the-key");
    }
}

static void test_azure_refused(void **state) {
    static const struct {
        const char *url, *version, *part;
        llmgw_code code;
    } rows[] = {
        {NULL, NULL, "AZURE_OPENAI_ENDPOINT", LLMGW_E_CONFIG},
        {RES, "2024?x=1", "api_version", LLMGW_E_CONFIG},
        {RES "?x", NULL, "url", LLMGW_E_CONFIG},
        {"http://res.openai.azure.com", NULL, "https", LLMGW_E_INSECURE},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_provider provider = make("azure", rows[i].url, rows[i].version, NULL, NULL, "the-key");
        check_place(&provider, false, rows[i].code, rows[i].part, NULL);
    }
    llmgw_provider provider = make("openai", NULL, "v1", NULL, NULL, "the-key");
    check_place(&provider, false, LLMGW_E_CONFIG, "api_version", NULL);
}

/* What it costs is known where the URL is Azure's own, as that of the others at theirs. */
static void test_azure_environment(void **state) {
    llmgwi_config config;
    llmgw_options options;
    llmgw_error error;
    memset(&options, 0, sizeof options);
    setenv("AZURE_OPENAI_API_KEY", "the-key", 1);
    unsetenv("AZURE_OPENAI_ENDPOINT");
    for (int with = 0; with < 2; with++) {
        if (with) setenv("AZURE_OPENAI_ENDPOINT", RES "/", 1);
        if (!llmgwi_config_open(&config, &unit_mem, &options, &error)) fail_msg("%s", error.text);
        llmgwi_config_provider *provider = llmgwi_config_provider_find(&config, "azure", 5);
        assert_int_equal(provider != NULL, with);
        if (provider) assert_string_equal(provider->url, RES "/openai/v1");
        if (provider) assert_true(provider->listed);
        llmgwi_config_close(&config);
    }
    unsetenv("AZURE_OPENAI_API_KEY");
    if (!llmgwi_config_open(&config, &unit_mem, &options, &error)) fail_msg("%s", error.text);
    assert_null(llmgwi_config_provider_find(&config, "azure", 5));
    llmgwi_config_close(&config);
    llmgw_provider provider = make("azure", NULL, NULL, NULL, NULL, NULL);
    options.providers = &provider;
    options.provider_count = 1;
    if (!llmgwi_config_open(&config, &unit_mem, &options, &error)) fail_msg("%s", error.text);
    assert_string_equal(config.providers[0]->missing, "AZURE_OPENAI_API_KEY");
    llmgwi_config_close(&config);
    unsetenv("AZURE_OPENAI_ENDPOINT");
}

#define GOOGLE "/publishers/google/models/m%2F1:"

static void test_vertex_places(void **state) {
    static const struct {
        const char *url, *project, *region, *want;
    } rows[] = {
        {NULL, "p-1", NULL,
         "https://aiplatform.googleapis.com/v1/projects/p-1/locations/global" GOOGLE "generateContent"},
        {NULL, "p-1", "europe-west4",
         "https://europe-west4-aiplatform.googleapis.com/v1/projects/p-1/locations/europe-west4" GOOGLE
         "generateContent"},
        {NULL, "example.com:p", "eu",
         "https://aiplatform.eu.rep.googleapis.com/v1/projects/example.com:p/locations/eu" GOOGLE
         "generateContent"},
        {"https://h/v1beta1/", "p-1", "us-east1",
         "https://h/v1beta1/projects/p-1/locations/us-east1" GOOGLE "generateContent"},
        {"https://h/v1/projects/q/locations/l/publishers/google", NULL, NULL,
         "https://h/v1/projects/q/locations/l" GOOGLE "generateContent"},
    };
    unsetenv("GOOGLE_CLOUD_PROJECT");
    unsetenv("GOOGLE_CLOUD_LOCATION");
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_provider provider =
            make("vertex", rows[i].url, NULL, rows[i].project, rows[i].region, "ya29.token");
        check_place(&provider, false, LLMGW_OK, rows[i].want, "Authorization: Bearer ya29.token");
    }
    llmgw_provider provider = make("vertex", NULL, NULL, NULL, NULL, "ya29.token");
    check_place(&provider, false, LLMGW_E_CONFIG, "GOOGLE_CLOUD_PROJECT", NULL);
    provider.project = "a/../b";
    check_place(&provider, false, LLMGW_E_CONFIG, "project", NULL);
    provider.project = NULL;
    setenv("GOOGLE_CLOUD_PROJECT", "from-env", 1);
    setenv("GOOGLE_CLOUD_LOCATION", "us-central1", 1);
    check_place(
        &provider, true, LLMGW_OK,
        "https://us-central1-aiplatform.googleapis.com/v1/projects/from-env/locations/us-central1" GOOGLE
        "streamGenerateContent?alt=sse",
        NULL);
    unsetenv("GOOGLE_CLOUD_PROJECT");
    unsetenv("GOOGLE_CLOUD_LOCATION");
}

/* ---- what Azure answers ---- */

static void test_fixture(void **state) {
    unit_answer u;
    if (!fixture_stream(&u, "azure", "azure-openai/vercel__azure-model-router.1.sse")) skip();
    unit_text(&u, "Capital of Denmark.");
    assert_string_equal(u.answer->model, "gpt-5-nano-2025-08-07"); /* not the first chunk's "" */
    assert_true(u.answer->usage.known && u.answer->usage.output > 0);
    assert_int_equal(u.answer->finish, LLMGW_FINISH_STOP);
    unit_end(&u);
}

/* Its asynchronous filter sends chunks that hold results alone; a filtered answer ends with content_filter. */
static void test_filter_chunks(void **state) {
    static const char *const events[] = {
        "{'choices':[],'created':0,'id':'','model':'','object':'','prompt_filter_results':[{'prompt_index':0,"
        "'content_filter_results':{'hate':{'filtered':false,'severity':'safe'}}}]}",
        "{'id':'c1','model':'gpt-4o','choices':[{'index':0,'delta':{'role':'assistant','content':'so'},"
        "'finish_reason':null,'content_filter_results':{}}]}",
        "{'id':'','object':'','created':0,'model':'','choices':[{'index':0,'finish_reason':null,"
        "'content_filter_results':{'violence':{'filtered':false,'severity':'safe'}},'content_filter_offsets':"
        "{"
        "'check_offset':44,'start_offset':44,'end_offset':198}}]}",
        "{'id':'','model':'','choices':[{'index':0,'finish_reason':'content_filter','content_filter_results':"
        "{"
        "'violence':{'filtered':true,'severity':'high'}}}]}",
        "[DONE]",
        NULL};
    unit_answer u;
    unit_stream(&u, "azure", events);
    unit_complete(&u);
    unit_text(&u, "so");
    assert_int_equal(u.answer->finish, LLMGW_FINISH_FILTER);
    assert_string_equal(u.answer->id, "c1");
    assert_string_equal(u.answer->model, "gpt-4o");
    unit_end(&u);
}

static void test_filter_errors(void **state) {
    static const struct {
        int status;
        const char *body, *part;
        llmgw_code code;
    } rows[] = {
        {400,
         "{'error':{'message':'The response was filtered due to the prompt triggering the content management "
         "policy.','type':null,'param':'prompt','code':'content_filter','status':400,'innererror':{'code':"
         "'ResponsibleAIPolicyViolation','content_filter_result':{'hate':{'filtered':false,'severity':'safe'}"
         ","
         "'jailbreak':{'filtered':true,'detected':true},'violence':{'filtered':true,'severity':'high'}}}}}",
         "(filtered: jailbreak, violence)", LLMGW_E_FILTERED},
        {400,
         "{'error':{'message':'m','code':'content_filter','innererror':{'content_filter_results':{'self_harm'"
         ":"
         "{'severity':'high','filtered':true}}}}}",
         "(filtered: self_harm)", LLMGW_E_FILTERED},
        {400, "{'error':{'message':'m','code':'content_filter','innererror':{'content_filter_result':[1]}}}",
         "HTTP 400: m", LLMGW_E_FILTERED},
        {404, "{'error':{'code':'DeploymentNotFound','message':'The API deployment does not exist.'}}",
         "deployment", LLMGW_E_NOT_FOUND},
        {401, "{'error':{'code':'401','message':'Access denied due to invalid subscription key.'}}",
         "subscription", LLMGW_E_AUTH},
        {429, "{'error':{'code':'429','message':'Requests have exceeded. Please retry after 7 seconds.'}}",
         "exceeded", LLMGW_E_RATE_LIMITED},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_error error;
        memset(&error, 0, sizeof error);
        llmgwi_dialect_error(&error, rows[i].status, llmgwi_base_cstr(unit_quoted(rows[i].body)), 64);
        assert_int_equal(error.code, rows[i].code);
        unit_has(error.text, rows[i].part);
    }
}

/* ---- over a socket: what stands in the request ---- */

static char head[4096];
static const char *status_line, *answer_body;

static void serve(Raw *raw, int fd, int number) {
    while (raw_request(raw, fd, head, sizeof head))
        if (!raw_reply(fd, status_line, RAW_IS_JSON, answer_body)) return;
}

static llmgw_reply *ask(const llmgw_provider *provider) {
    llmgw_options options = t_calm();
    llmgw_error error;
    char model[64];
    options.providers = provider;
    options.provider_count = 1;
    options.no_environment = true;
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) fail_msg("%s", error.text);
    snprintf(model, sizeof model, "%s/gpt 4o", provider->name);
    llmgw_reply *reply = llmgw_ask(gw, model, "hi");
    llmgw_close(gw);
    return reply;
}

static void test_azure_socket(void **state) {
    static const struct {
        const char *version, *line;
    } rows[] = {{NULL, "POST /openai/v1/chat/completions HTTP/1.1\r\n"},
                {"2024-10-21",
                 "POST /openai/deployments/gpt%204o/chat/completions?api-version=2024-10-21 HTTP/1.1\r\n"}};
    Raw raw;
    char url[64];
    status_line = "200 OK";
    answer_body = RAW_JSON;
    raw_start(&raw, serve, NULL);
    snprintf(url, sizeof url, "http://127.0.0.1:%d", raw.port);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_provider provider = make("azure", url, rows[i].version, NULL, NULL, "azure-key-0123456789");
        llmgw_reply *reply = ask(&provider);
        t_expect_code(reply, LLMGW_OK);
        assert_string_equal(reply->text, "hello");
        assert_true(strncmp(head, rows[i].line, strlen(rows[i].line)) == 0);
        assert_non_null(strstr(head, "api-key: azure-key-0123456789\r\n"));
        assert_null(strcasestr(head, "authorization:"));
        llmgw_reply_free(reply);
    }
    raw_stop(&raw);
}

static void test_azure_filtered_socket(void **state) {
    Raw raw;
    char url[64];
    status_line = "400 Bad Request";
    answer_body =
        "{\"error\":{\"message\":\"no\",\"code\":\"content_filter\",\"innererror\":{\"code\":"
        "\"ResponsibleAIPolicyViolation\",\"content_filter_result\":{\"sexual\":{\"filtered\":true}}}}}";
    raw_start(&raw, serve, NULL);
    snprintf(url, sizeof url, "http://127.0.0.1:%d", raw.port);
    llmgw_provider provider = make("azure", url, NULL, NULL, NULL, "azure-key-0123456789");
    llmgw_reply *reply = ask(&provider);
    t_expect_code(reply, LLMGW_E_FILTERED);
    t_expect_text(reply, "(filtered: sexual)");
    assert_int_equal(reply->attempts, 1);
    llmgw_reply_free(reply);
    raw_stop(&raw);
}

static void test_vertex_socket(void **state) {
    Raw raw;
    char url[64];
    status_line = "200 OK";
    answer_body = "{\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"hello\"}]},"
                  "\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":1,"
                  "\"candidatesTokenCount\":2,\"trafficType\":\"ON_DEMAND\"}}";
    raw_start(&raw, serve, NULL);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", raw.port);
    llmgw_provider provider = make("vertex", url, NULL, "p-1", "us-east1", "ya29.token-0123456789");
    llmgw_reply *reply = ask(&provider);
    t_expect_code(reply, LLMGW_OK);
    assert_string_equal(reply->text, "hello");
    const char *line =
        "POST /v1/projects/p-1/locations/us-east1/publishers/google/models/gpt%204o:generateContent "
        "HTTP/1.1\r\n";
    assert_true(strncmp(head, line, strlen(line)) == 0);
    assert_non_null(strstr(head, "Authorization: Bearer ya29.token-0123456789\r\n"));
    assert_null(strcasestr(head, "x-goog-api-key"));
    llmgw_reply_free(reply);
    raw_stop(&raw);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_azure_places),
    cmocka_unit_test(test_azure_refused),
    cmocka_unit_test(test_azure_environment),
    cmocka_unit_test(test_vertex_places),
    cmocka_unit_test(test_fixture),
    cmocka_unit_test(test_filter_chunks),
    cmocka_unit_test(test_filter_errors),
    cmocka_unit_test(test_azure_socket),
    cmocka_unit_test(test_azure_filtered_socket),
    cmocka_unit_test(test_vertex_socket),
};

int main(void) { return cmocka_run_group_tests_name("azure", tests, NULL, NULL); }
