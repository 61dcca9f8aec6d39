/* Ollama's own dialect, Cohere's, Azure and Vertex end to end: against the fake provider's strict readers of them. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"
#include "group.h"

static int reset(void **state) {
    provider_reset(&provider);
    return 0;
}

static bool give(const char *name, char *token, size_t size, int64_t *expires_s, void *user) {
    snprintf(token, size, "ya29.token-0123456789");
    return true;
}

typedef struct place {
    const char *name, *dialect, *path, *version;
    bool token;
} place;

static const place places[] = {
    {"ollama", "ollama", "", NULL, false}, {"cohere", NULL, "/v2", NULL, false},
    {"azure", NULL, "", NULL, false},      {"azure", NULL, "", "2024-10-21", true},
    {"vertex", NULL, "/v1", NULL, true},
};

static llmgw *open_place(const place *at) {
    static char url[128];
    llmgw_options options = t_calm();
    llmgw_error error;
    llmgw_provider one =
        t_provider(&provider, at->name, at->dialect, at->path, at->token ? NULL : "a-key-0123456789", url);
    one.api_version = at->version;
    if (strcmp(at->name, "vertex") == 0) one.project = "p-1";
    if (at->token) one.token = give;
    options.providers = &one;
    options.provider_count = 1;
    options.no_environment = true;
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) fail_msg("%s: %s", at->name, error.text);
    return gw;
}

/* Plain and as a stream: with a system text, an image, options, and what it cost. */
static void asked_and_streamed(void **state) {
    for (size_t i = 0; i < COUNT_OF(places); i++)
        for (int stream = 0; stream < 2; stream++) {
            llmgw *gw = open_place(&places[i]);
            char model[64];
            Rec rec;
            llmgw_part parts[2];
            llmgw_message turn;
            memset(&rec, 0, sizeof rec);
            memset(parts, 0, sizeof parts);
            memset(&turn, 0, sizeof turn);
            parts[0].text = "what is it?";
            parts[1].kind = LLMGW_PART_IMAGE;
            parts[1].data = "\x89PNG\r\n\x1a\n";
            parts[1].data_len = 8;
            turn.parts = parts;
            turn.part_count = 2;
            snprintf(model, sizeof model, "%s/m", places[i].name);
            llmgw_request request = rec_request(&rec, model, NULL, stream);
            request.messages = &turn;
            request.message_count = 1;
            request.system = "be brief";
            request.temperature = llmgw_set(0.5);
            request.max_tokens = 200;
            const llmgw_reply *reply = rec_chat(gw, &rec, &request);
            if (reply->error.code) fail_msg("%s, stream %d: %s", places[i].name, stream, reply->error.text);
            assert_true(reply->text_len > 0);
            assert_true(reply->usage.known && reply->usage.input > 0 && reply->usage.output > 0);
            assert_int_equal(reply->finish, LLMGW_FINISH_STOP);
            rec_check(&rec);
            rec_free(&rec);
            llmgw_close(gw);
        }
}

/* A key that is refused, a server that fails: as with every other dialect. */
static void faults(void **state) {
    static const struct {
        const char *rule;
        llmgw_code code;
    } rows[] = {{"{\"model\":\"*\",\"times\":1,\"status\":401}", LLMGW_E_AUTH},
                {"{\"model\":\"*\",\"times\":9,\"status\":500}", LLMGW_E_PROVIDER},
                {"{\"model\":\"*\",\"times\":9,\"status\":400}", LLMGW_E_BAD_REQUEST}};
    for (size_t i = 0; i < 3; i++) /* those without a token, which is fetched anew */
        for (size_t r = 0; r < COUNT_OF(rows); r++) {
            char model[64];
            provider_reset(&provider);
            provider_rule(&provider, rows[r].rule);
            llmgw *gw = open_place(&places[i]);
            snprintf(model, sizeof model, "%s/m", places[i].name);
            llmgw_reply *reply = llmgw_ask(gw, model, "x");
            if (reply->error.code != rows[r].code)
                fail_msg("%s, %s: %s %s", places[i].name, rows[r].rule, llmgw_code_name(reply->error.code),
                         reply->error.text);
            llmgw_reply_free(reply);
            llmgw_close(gw);
        }
}

#define TEST(f) cmocka_unit_test_setup(f, reset)
static const struct CMUnitTest tests[] = {TEST(asked_and_streamed), TEST(faults)};

int main(void) { return cmocka_run_group_tests_name("more", tests, group_start, group_stop); }
