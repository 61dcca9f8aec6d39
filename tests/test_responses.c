/* OpenAI's Responses API from end to end, over sockets: what test_dialect_responses.c has byte by byte, a gateway
 * does with a provider that checks each request by its own rules. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"
#include "group.h"

static int reset(void **state) {
    provider_reset(&provider);
    return 0;
}

/* "new" speaks responses; so does "openrouter", which stays who it is; "old" is there to fail over to. */
static llmgw *open_with(const llmgw_options *more) {
    static char urls[3][128];
    llmgw_provider all[3] = {
        t_provider(&provider, "new", "responses", "/v1", OPENAI_KEY, urls[0]),
        t_provider(&provider, "openrouter", "responses", "/openrouter/v1", "sk-or-0123456789", urls[1]),
        t_provider(&provider, "old", "openai", "/v1", OPENAI_KEY, urls[2])};
    llmgw_options options = more ? *more : t_calm();
    llmgw_error error;
    options.providers = all;
    options.provider_count = COUNT_OF(all);
    options.no_environment = true;
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) fail_msg("llmgw_open: %s", error.text);
    return gw;
}

/* The body of the request that came last, and its path. json_decref it. */
static json_t *last_body(const char *path) {
    json_t *stats = provider_stats(&provider), *last = json_object_get(stats, "last");
    assert_string_equal(json_string_value(json_object_get(last, "path")), path);
    json_t *body = json_incref(json_object_get(last, "body"));
    json_decref(stats);
    return body;
}

static void chat_and_stream(void **state) {
    static const char *const models[] = {"new/some-model", "openrouter/some-model"};
    llmgw *gw = open_with(NULL);
    for (size_t i = 0; i < COUNT_OF(models); i++)
        for (int stream = 0; stream < 2; stream++) {
            Rec rec = {0};
            llmgw_request request = rec_request(&rec, models[i], "h\xC3\xA9llo there, world", stream);
            request.system = "be kind";
            request.user_id = "u1";
            request.max_tokens = 1; /* 16 are asked for */
            const llmgw_reply *reply = rec_chat(gw, &rec, &request);
            t_expect_code(reply, LLMGW_OK);
            assert_string_equal(reply->text, "Echo from some-model: h\xC3\xA9llo there, world");
            assert_int_equal(reply->finish, LLMGW_FINISH_STOP);
            assert_true(reply->usage.known && reply->usage.input > 0 && reply->usage.output > 0);
            assert_int_equal(strncmp(reply->id, "resp_", 5), 0);
            assert_true(stream ? rec.pieces > 1 : rec.pieces == 1);
            json_t *body = last_body(i ? "/openrouter/v1/responses" : "/v1/responses");
            assert_true(json_is_false(json_object_get(body, "store")));
            assert_string_equal(json_string_value(json_object_get(body, "instructions")), "be kind");
            json_decref(body);
            rec_free(&rec);
        }
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
}

/* All that a conversation may hold, at once, is taken; two calls come back at the same time. */
static void whole_conversation(void **state) {
    static const llmgw_tool tools[2] = {
        {"add", "Adds", "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}}", false},
        {"look", NULL, NULL, false}};
    static const unsigned char png[] = {0x89, 'P', 'N', 'G', 13, 10, 26, 10};
    llmgw_part see[3];
    llmgw_message turns[5];
    memset(see, 0, sizeof see);
    memset(turns, 0, sizeof turns);
    see[0].text = "call:add {\"a\": 1} and call:look";
    see[1].kind = LLMGW_PART_IMAGE;
    see[1].data = png;
    see[1].data_len = sizeof png;
    see[2].kind = LLMGW_PART_FILE;
    see[2].data = "%PDF-";
    see[2].data_len = 5;
    turns[0].parts = see;
    turns[0].part_count = 3;
    llmgw *gw = open_with(NULL);
    for (int stream = 0; stream < 2; stream++) {
        Rec rec = {0}, again = {0};
        llmgw_request request = rec_request(&rec, "new/gpt-5", NULL, stream);
        request.system = "s";
        request.messages = turns;
        request.message_count = 1;
        request.tools = tools;
        request.tool_count = 2;
        request.effort = LLMGW_EFFORT_LOW;
        provider_rule(&provider, "{\"model\":\"gpt-5\",\"reasoning\":\"let me see\",\"times\":1}");
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        t_expect_code(reply, LLMGW_OK);
        assert_int_equal(reply->finish, LLMGW_FINISH_TOOL);
        assert_int_equal(reply->tool_call_count, 2);
        assert_string_equal(reply->tool_calls[0].name, "add");
        assert_string_equal(reply->tool_calls[0].arguments, "{\"a\": 1}");
        assert_string_equal(reply->tool_calls[1].arguments, "{}");
        assert_string_equal(reply->reasoning, "let me see");
        assert_true(reply->usage.reasoning > 0);

        llmgw_part results[2];
        memset(results, 0, sizeof results);
        for (int i = 0; i < 2; i++) {
            results[i].kind = LLMGW_PART_TOOL_RESULT;
            results[i].id = reply->tool_calls[i].id;
            results[i].text = i ? "a cat" : "2";
        }
        turns[1] = reply->message;
        turns[2].role = LLMGW_ROLE_TOOL;
        turns[2].parts = results;
        turns[2].part_count = 2;
        llmgw_request next = rec_request(&again, "new/gpt-5", NULL, stream);
        next.messages = turns;
        next.message_count = 3;
        next.tools = tools;
        next.tool_count = 2;
        reply = rec_chat(gw, &again, &next);
        t_expect_code(reply,
                      LLMGW_OK); /* the provider has checked that id and encrypted content belong together */
        assert_string_equal(reply->text, "Tool said: 2; a cat");
        json_t *body = last_body("/v1/responses");
        json_t *thought = json_array_get(json_object_get(body, "input"), 1);
        assert_string_equal(json_string_value(json_object_get(thought, "type")), "reasoning");
        assert_non_null(json_string_value(json_object_get(thought, "encrypted_content")));
        json_decref(body);
        rec_free(&rec);
        rec_free(&again);
    }
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
}

static void schema_and_choice(void **state) {
    static const llmgw_tool tools[1] = {{"look", NULL, NULL, false}};
    llmgw *gw = open_with(NULL);
    Rec rec = {0};
    llmgw_request request = rec_request(&rec, "new/m", "go", true);
    request.schema =
        "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"],"
        "\"additionalProperties\":false}";
    request.valid = LLMGW_VALID_SCHEMA;
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_non_null(strstr(reply->text, "\"n\""));
    rec_free(&rec);
    request = rec_request(&rec, "new/m", "go", true);
    request.tools = tools;
    request.tool_count = 1;
    request.tool_mode = LLMGW_TOOLS_ONE;
    request.tool_name = "look";
    request.serial_tools = true;
    reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_int_equal(reply->tool_call_count, 1);
    rec_free(&rec);
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
}

/* How an answer ends: cut by its length, by a filter, by a failure, by a refusal. */
static void ends(void **state) {
    static const struct {
        const char *fault;
        llmgw_code code;
        llmgw_finish finish;
    } rows[] = {
        {"\"finish\":\"max_output_tokens\"", LLMGW_OK, LLMGW_FINISH_LENGTH},
        {"\"finish\":\"content_filter\"", LLMGW_OK, LLMGW_FINISH_FILTER},
        {"\"finish\":\"failed\"", LLMGW_E_PROVIDER, LLMGW_FINISH_NONE},
        {"\"finish\":\"failed\",\"error_code\":\"rate_limit_exceeded\"", LLMGW_E_RATE_LIMITED,
         LLMGW_FINISH_NONE},
        {"\"refusal\":\"I will not\"", LLMGW_OK, LLMGW_FINISH_STOP},
        {"\"status\":429,\"error_code\":\"insufficient_quota\"", LLMGW_E_QUOTA, LLMGW_FINISH_NONE},
    };
    llmgw_options options = t_calm();
    options.max_attempts = 1;
    llmgw *gw = open_with(&options);
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        for (int stream = 0; stream < 2; stream++) {
            Rec rec = {0};
            llmgw_request request = rec_request(&rec, "new/m", "go", stream);
            provider_model_rule(&provider, "m", rows[i].fault);
            const llmgw_reply *reply = rec_chat(gw, &rec, &request);
            if (reply->error.code != rows[i].code || reply->finish != rows[i].finish)
                fail_msg("%s, stream %d: %s, finish %d", rows[i].fault, stream, reply->error.text,
                         reply->finish);
            if (strstr(rows[i].fault, "refusal")) assert_string_equal(reply->refusal, "I will not");
            rec_free(&rec);
            provider_reset(&provider);
        }
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
}

/* An error in the middle of a stream, in both of its shapes: the next target answers, and what was shown is taken
   back or goes on. */
static void failover(void **state) {
    static const char *const targets[] = {"new/bad", "old/good"};
    static const char *const faults[] = {"\"error_after\":3", "\"error_after\":3,\"flat\":true"};
    llmgw_route route;
    llmgw_options options = t_calm();
    memset(&route, 0, sizeof route);
    route.name = "r";
    route.targets = targets;
    route.target_count = 2;
    options.routes = &route;
    options.route_count = 1;
    options.max_attempts = 2;
    llmgw *gw = open_with(&options);
    for (size_t i = 0; i < COUNT_OF(faults); i++) {
        Rec rec = {0};
        llmgw_request request = rec_request(&rec, "r", "one two three four five six seven", true);
        request.max_resumes = LLMGW_OFF;
        provider_model_rule(&provider, "bad", faults[i]);
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        t_expect_code(reply, LLMGW_OK);
        assert_string_equal(reply->provider, "old");
        assert_string_equal(reply->text, "Echo from good: one two three four five six seven");
        assert_int_equal(reply->trace[0].code, LLMGW_E_PROVIDER);
        rec_free(&rec);
        provider_reset(&provider);
    }
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
}

/* Cut at many bytes, or left without its last event, a stream is gone on with by a user's turn. */
static void cut_and_resume(void **state) {
    char *script = provider_script(&provider, 3000);
    llmgw_options options = t_calm();
    options.max_attempts = 10;
    llmgw *gw = open_with(&options);
    for (int cut = 1; cut < 3000; cut += 211) {
        char model[128];
        Rec rec = {0};
        snprintf(model, sizeof model, "new/fault:{\"script\":3000,\"cut_at\":%d,\"seam\":%d}", cut,
                 cut % 3 * 20);
        llmgw_request request = rec_request(&rec, model, "tell", true);
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        t_expect_code(reply, LLMGW_OK);
        assert_string_equal(reply->text, script);
        assert_int_equal(reply->attempts, 2);
        rec_free(&rec);
    }
    Rec rec = {0};
    llmgw_request request =
        rec_request(&rec, "new/fault:{\"script\":300,\"no_terminator\":true,\"times\":1}", "tell", true);
    request.max_attempts = 1;
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_E_TRUNCATED);
    rec_free(&rec);
    free(script);
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
}

static void cancel_at_text(Rec *rec, const llmgw_event *event) {
    if (event->kind == LLMGW_EVENT_TEXT && rec->pieces == 2) (void)llmgw_cancel(rec->gw, event->call);
}

static void cancelled(void **state) {
    llmgw *gw = open_with(NULL);
    Rec rec = {0};
    rec.hook = cancel_at_text;
    llmgw_request request = rec_request(&rec, "new/fault:{\"endless\":true,\"chunk_ms\":5}", "go", true);
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_E_CANCELLED);
    assert_true(provider_wait(&provider, "open", 0, 5000));
    rec_free(&rec);
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
}

/* A refused key is told as openai tells it. */
static void refused_key(void **state) {
    llmgw *gw = open_with(NULL);
    Rec rec = {0};
    provider_rule(&provider, "{\"keys\":{\"" OPENAI_KEY "\":\"refused\"}}");
    llmgw_request request = rec_request(&rec, "new/m", "go", false);
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    t_expect_code(reply, LLMGW_E_AUTH);
    rec_free(&rec);
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(chat_and_stream, reset),   cmocka_unit_test_setup(whole_conversation, reset),
        cmocka_unit_test_setup(schema_and_choice, reset), cmocka_unit_test_setup(ends, reset),
        cmocka_unit_test_setup(failover, reset),          cmocka_unit_test_setup(cut_and_resume, reset),
        cmocka_unit_test_setup(cancelled, reset),         cmocka_unit_test_setup(refused_key, reset),
    };
    return cmocka_run_group_tests(tests, group_start, group_stop);
}
