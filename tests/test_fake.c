/* test_fake.c - the fake provider's oracle and embeddings: what the tests and benchmarks of the cache stand
   on. The chat side of it is tested by everything else. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include "testing.h"

#include <math.h>

#define ANSWERS 40

static Provider oracle;
static char answers_path[] = "/tmp/test_fake.XXXXXX";

static const char *const questions[] = {"Where is my card?", "How do I top up?", "What is the fee?"};
static const char *const answers[] = {"card_arrival", "top_up", "cash_fee"};

static llmgw *open_oracle(void) { return t_open(&oracle, NULL); }

/* Free it. */
static char *ask(llmgw *gw, const char *model, const char *question) {
    llmgw_reply *reply = llmgw_ask(gw, model, question);
    t_expect_code(reply, LLMGW_OK);
    char *text = strdup(reply->text);
    llmgw_reply_free(reply);
    return text;
}

static void expect(llmgw *gw, const char *model, const char *question, const char *answer) {
    char *text = ask(gw, model, question);
    assert_string_equal(text, answer);
    free(text);
}

static int asked(const char *question) {
    char *body = provider_http(&oracle, "POST", "/_asked", question);
    json_t *j = json_loads(body, 0, NULL);
    int n = json_object_get(j, "asked") ? (int)json_integer_value(json_object_get(j, "asked")) : -1;
    json_decref(j);
    free(body);
    return n;
}

/* What the change says of an answer; free the result's owner. */
static json_t *control(const char *json) {
    char *body = provider_http(&oracle, "POST", "/_control", json);
    json_t *j = json_loads(body, 0, NULL);
    assert_non_null(j);
    free(body);
    return j;
}

static void test_every_dialect(void **state) {
    static const char *const models[] = {"openai/m", "anthropic/m", "gemini/m"};
    (void)state;
    provider_reset(&oracle);
    llmgw *gw = open_oracle();
    for (size_t m = 0; m < 3; m++)
        for (size_t i = 0; i < 3; i++) expect(gw, models[m], questions[i], answers[i]);
    expect(gw, "openai/m", "Who are you?", "unknown: Who are you?");
    expect(gw, "openai/m", " Where is my card?\n", "card_arrival");
    assert_int_equal(asked(questions[0]), 4);
    assert_int_equal(asked(questions[1]), 3);
    assert_int_equal(asked("Who are you?"), -1);
    assert_int_equal(provider_count(&oracle, "known"), 10);
    assert_int_equal(provider_count(&oracle, "unknown"), 1);
    llmgw_close(gw);
}

static void test_last_turn_counts(void **state) {
    (void)state;
    llmgw *gw = open_oracle();
    llmgw_message turns[] = {{LLMGW_ROLE_USER, questions[0], NULL, 0},
                             {LLMGW_ROLE_ASSISTANT, "card_arrival", NULL, 0},
                             {LLMGW_ROLE_USER, questions[1], NULL, 0}};
    llmgw_request request;
    memset(&request, 0, sizeof request);
    request.model = "openai/m";
    request.messages = turns;
    request.message_count = 3;
    llmgw_reply *reply = llmgw_chat(gw, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_string_equal(reply->text, "top_up");
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

/* All of the wordings come up, each holds the answer in words, and a seed repeats the draws. */
static void test_wordings(void **state) {
    char *first[ANSWERS];
    int distinct = 0;
    (void)state;
    provider_reset(&oracle);
    llmgw *gw = open_oracle();
    for (int round = 0; round < 2; round++) {
        provider_rule(&oracle, "{\"oracle\":{\"wordings\":5,\"seed\":11}}");
        for (int i = 0; i < ANSWERS; i++) {
            char *text = ask(gw, "openai/m", questions[0]);
            assert_non_null(strstr(text, "card arrival"));
            bool seen = false;
            for (int k = 0; round == 0 && k < i; k++) seen = seen || strcmp(first[k], text) == 0;
            distinct += round == 0 && !seen;
            if (round == 0) {
                first[i] = text;
                continue;
            }
            assert_string_equal(first[i], text);
            free(text);
            free(first[i]);
        }
    }
    assert_int_equal(distinct, 5);
    provider_reset(&oracle);
    expect(gw, "openai/m", questions[0], "card_arrival");
    llmgw_close(gw);
}

static void test_change(void **state) {
    (void)state;
    provider_reset(&oracle);
    llmgw *gw = open_oracle();
    json_t *told = control("{\"oracle\":{\"seed\":3,\"change\":0.34}}");
    json_t *changed = json_object_get(told, "changed");
    assert_int_equal(json_object_size(changed), 1);
    for (size_t i = 0; i < 3; i++) {
        const char *now = json_string_value(json_object_get(changed, answers[i]));
        expect(gw, "openai/m", questions[i], now ? now : answers[i]);
        assert_true(!now || strcmp(now, answers[i]) != 0);
    }
    json_decref(told);
    told = control("{\"oracle\":{\"change\":1}}");
    assert_int_equal(json_object_size(json_object_get(told, "changed")), 3);
    json_decref(told);
    provider_reset(&oracle);
    for (size_t i = 0; i < 3; i++) expect(gw, "openai/m", questions[i], answers[i]);
    llmgw_close(gw);
}

/* Over 400 questions a share of .25 is wrong, give or take 5 standard deviations of a fair draw. */
static void test_noise(void **state) {
    int wrong = 0;
    (void)state;
    provider_reset(&oracle);
    llmgw *gw = open_oracle();
    provider_rule(&oracle, "{\"oracle\":{\"noise\":0.25,\"seed\":5}}");
    for (int i = 0; i < 400; i++) {
        char *text = ask(gw, "openai/m", questions[i % 3]);
        wrong += strcmp(text, answers[i % 3]) != 0;
        free(text);
    }
    assert_in_range(wrong, 57, 143);
    llmgw_close(gw);
}

static void test_model_echo(void **state) {
    (void)state;
    provider_reset(&oracle);
    llmgw *gw = open_oracle();
    provider_model_rule(&oracle, "m", "\"model_echo\":\"m-2027\"");
    llmgw_reply *reply = llmgw_ask(gw, "openai/m", questions[0]);
    assert_string_equal(reply->model_echo, "m-2027");
    assert_string_equal(reply->text, "card_arrival");
    llmgw_reply_free(reply);
    llmgw_close(gw);
    provider_reset(&oracle);
}

static void test_bad_control(void **state) {
    static const char *const bad[] = {"{\"oracle\":{\"wordings\":6}}", "{\"oracle\":{\"wordings\":-1}}",
                                      "{\"oracle\":{\"seed\":\"x\"}}", "{\"oracle\":{\"change\":0}}",
                                      "{\"oracle\":{\"change\":1.5}}", "{\"oracle\":{\"other\":1}}",
                                      "{\"oracle\":{\"noise\":2}}",    "{\"oracle\":7}"};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        json_t *told = control(bad[i]);
        if (!json_object_get(told, "error")) fail_msg("taken: %s", bad[i]);
        json_decref(told);
    }
}

/* ---- embeddings ---- */

static json_t *embed(const char *body, long *status) {
    Text text = {NULL, 0};
    char url[64];
    CURL *easy = curl_easy_init();
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Authorization: Bearer " OPENAI_KEY);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1/embeddings", oracle.port);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, t_collect);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &text);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 300L);
    CURLcode code = curl_easy_perform(easy);
    *status = 0;
    if (code == CURLE_OK) curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, status);
    curl_slist_free_all(headers);
    curl_easy_cleanup(easy);
    json_t *j = text.p ? json_loads(text.p, 0, NULL) : NULL;
    free(text.p);
    return j;
}

static json_t *vector_of(json_t *reply, size_t i) {
    return json_object_get(json_array_get(json_object_get(reply, "data"), i), "embedding");
}

static double dot(json_t *a, json_t *b) {
    double sum = 0;
    assert_int_equal(json_array_size(a), json_array_size(b));
    for (size_t i = 0; i < json_array_size(a); i++)
        sum += json_number_value(json_array_get(a, i)) * json_number_value(json_array_get(b, i));
    return sum;
}

static void test_vectors(void **state) {
    long status;
    (void)state;
    json_t *reply = embed("{\"model\":\"e\",\"input\":[\"where is my card\",\"WHERE is the card?\","
                          "\"bananas grow on plants\"],\"dimensions\":256}",
                          &status);
    assert_int_equal(status, 200);
    json_t *a = vector_of(reply, 0), *b = vector_of(reply, 1), *c = vector_of(reply, 2);
    assert_int_equal(json_array_size(a), 256);
    assert_true(fabs(dot(a, a) - 1) < 1e-5);
    assert_true(dot(a, b) > 0.6); /* three words of four */
    assert_true(fabs(dot(a, c)) < 0.3);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(reply, "usage"), "prompt_tokens")),
                     json_integer_value(json_object_get(json_object_get(reply, "usage"), "total_tokens")));
    json_t *one = embed("{\"model\":\"e\",\"input\":\"where is my card\",\"dimensions\":256}", &status);
    assert_true(fabs(dot(a, vector_of(one, 0)) - 1) < 1e-5);
    json_decref(one);
    json_decref(reply);
}

/* 64 floats, little-endian: the same numbers as in the other format. */
static void test_base64(void **state) {
    static const char abc[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    long status;
    unsigned char bytes[258];
    float value;
    (void)state;
    json_t *plain = embed("{\"model\":\"e\",\"input\":\"my card\"}", &status);
    json_t *packed = embed("{\"model\":\"e\",\"input\":\"my card\",\"encoding_format\":\"base64\"}", &status);
    const char *text = json_string_value(vector_of(packed, 0));
    assert_int_equal(strlen(text), 344);
    for (size_t i = 0; i < 344; i += 4) {
        uint32_t v = 0;
        for (size_t k = 0; k < 4; k++)
            v = v << 6 | (uint32_t)(text[i + k] == '=' ? 0 : strchr(abc, text[i + k]) - abc);
        for (size_t k = 0; k < 3; k++) bytes[i / 4 * 3 + k] = (unsigned char)(v >> (16 - 8 * k));
    }
    for (size_t i = 0; i < 64; i++) {
        memcpy(&value, bytes + 4 * i, 4);
        assert_true(fabs((double)value - json_number_value(json_array_get(vector_of(plain, 0), i))) < 1e-6);
    }
    json_decref(plain);
    json_decref(packed);
}

static void test_embedding_faults(void **state) {
    static const struct {
        const char *body;
        long status;
    } cases[] = {
        {"{\"model\":\"e\"}", 400},
        {"{\"input\":\"x\"}", 400},
        {"{\"model\":\"e\",\"input\":\"\"}", 400},
        {"{\"model\":\"e\",\"input\":[]}", 400},
        {"{\"model\":\"e\",\"input\":[\"x\",7]}", 400},
        {"{\"model\":\"e\",\"input\":\"x\",\"encoding_format\":\"int8\"}", 400},
        {"{\"model\":\"e\",\"input\":\"x\",\"dimensions\":0}", 400},
        {"{\"model\":\"e\",\"input\":\"x\",\"messages\":[]}", 400},
        {"{\"model\":\"fault:{\\\"status\\\":500}\",\"input\":\"x\"}", 500},
        {"{\"model\":\"fault:{\\\"never\\\":true}\",\"input\":\"x\"}", 0},
        {"{\"model\":\"fault:{\\\"delay_ms\\\":2000}\",\"input\":\"x\"}", 0},
    };
    (void)state;
    long status;
    json_t *reply;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        reply = embed(cases[i].body, &status);
        if (status != cases[i].status) fail_msg("%s: %ld", cases[i].body, status);
        json_decref(reply);
    }
    reply = embed("{\"model\":\"fault:{\\\"dim\\\":3}\",\"input\":\"x\",\"dimensions\":8}", &status);
    assert_int_equal(json_array_size(vector_of(reply, 0)), 3);
    json_decref(reply);
}

static int setup(void **state) {
    const char *const more[] = {"--answers", answers_path, NULL};
    int fd = mkstemp(answers_path);
    (void)state;
    for (size_t i = 0; i < COUNT_OF(questions); i++)
        dprintf(fd, "%s\t%s\n%s\tignored, the first counts\n", questions[i], answers[i], questions[i]);
    close(fd);
    provider_start(&oracle, more);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    provider_stop(&oracle);
    unlink(answers_path);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_dialect), cmocka_unit_test(test_last_turn_counts),
        cmocka_unit_test(test_wordings),      cmocka_unit_test(test_change),
        cmocka_unit_test(test_noise),         cmocka_unit_test(test_model_echo),
        cmocka_unit_test(test_bad_control),   cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_base64),        cmocka_unit_test(test_embedding_faults),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
