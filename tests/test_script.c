/* The same conversation with every provider, whole and streamed: a system text and an image, two tools at once and
 * their results, an answer of a schema, reasoning that goes back, a cancelled stream. A provider is one line of
 * rows[]; all of it is against the fake provider, which refuses what the real one would (WIRE.md). */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"
#include "group.h"

/* What a row does not do is said with the reason (WIRE.md), printed, and held to: who is blind refuses an image
 * before it is sent, who is mute shows no reasoning. */
typedef struct row {
    const char *name;    /* of the provider; a known one */
    const char *dialect; /* NULL: as the name says */
    const char *path;    /* of the fake provider */
    const char *model;
    const char *blind;   /* why it takes no images, NULL: it does */
    const char *mute;    /* why it shows no reasoning */
    const char *told;    /* why it enforces no schema: the fake provider is then told what to say */
    const char *plain;   /* why it counts no tokens as cached */
    const char *version; /* azure's */
    bool token;          /* of a function, instead of a key */
} row;

#define TEXT_ONLY "it knows no part but text and answers 400 to an image"
#define NO_SCHEMA "it refuses json_schema; json_object does not hold it to anything"
#define NO_THOUGHT "the model does not reason (WIRE.md 1: reasoning)"
#define UNSAID "the model reasons unasked, takes no effort and shows nothing (docs.x.ai)"
#define UNTOLD "it has no word for cached tokens (WIRE.md 5: prompt_eval_count)"
#define BILLED "what is billed are billed_units, of which none are told to be cached"

static const row rows[] = {
    {"openai", NULL, "/v1", "gpt-5.2", NULL, NULL, NULL, NULL, NULL, false},
    {"anthropic", NULL, "", "claude-sonnet-4-5", NULL, NULL, NULL, NULL, NULL, false},
    {"anthropic", NULL, "", "claude-3-5-haiku", NULL, NO_THOUGHT, NULL, NULL, NULL, false},
    {"gemini", NULL, "/v1beta", "gemini-2.5-flash", NULL, NULL, NULL, NULL, NULL, false},
    {"gemini", NULL, "/v1beta", "gemini-3-pro", NULL, NULL, NULL, NULL, NULL, false},
    {"deepseek", NULL, "/deepseek/v1", "deepseek-chat", TEXT_ONLY, NULL, NO_SCHEMA, NULL, NULL, false},
    {"mistral", NULL, "/mistral/v1", "mistral-small", NULL, NO_THOUGHT, NULL, NULL, NULL, false},
    {"mistral", NULL, "/mistral/v1", "magistral-medium", NULL, NULL, NULL, NULL, NULL, false},
    {"openrouter", NULL, "/openrouter/v1", "x/y", NULL, NULL, NULL, NULL, NULL, false},
    {"llamacpp", NULL, "/llamacpp/v1", "local", NULL, NULL, NULL, NULL, NULL, false},
    {"vllm", NULL, "/vllm/v1", "local", NULL, NULL, NULL, NULL, NULL, false},
    {"own", "openai", "/v1", "m", NULL, NULL, NULL, NULL, NULL, false},
    {"openai", "responses", "/v1", "gpt-5.2", NULL, NULL, NULL, NULL, NULL, false},
    {"bedrock", NULL, "", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", NULL, NULL, NULL, NULL, NULL,
     false},
    {"bedrock", NULL, "", "amazon.nova-pro-v1:0", NULL, NO_THOUGHT, NULL, NULL, NULL, false},
    {"azure", NULL, "", "gpt-5.2", NULL, NULL, NULL, NULL, NULL, false},
    {"azure", NULL, "", "our-deployment", NULL, NULL, NULL, NULL, "2024-10-21", true},
    {"azure", "responses", "", "gpt-5.2", NULL, NULL, NULL, NULL, NULL, true},
    {"vertex", NULL, "/v1", "gemini-3-pro", NULL, NULL, NULL, NULL, NULL, true},
    {"vertex", NULL, "/v1", "gemini-2.5-flash", NULL, NULL, NULL, NULL, NULL, false},
    {"cohere", NULL, "/v2", "command-a-03-2025", NULL, NULL, NULL, BILLED, NULL, false},
    {"ollama", "ollama", "", "llama3.2", NULL, NULL, NULL, UNTOLD, NULL, false},
    {"ollama", NULL, "/ollama/v1", "llama3.2", NULL, NULL, NULL, NULL, NULL, false},
    {"groq", NULL, "/groq/v1", "openai/gpt-oss-120b", NULL, NULL, NULL, NULL, NULL, false},
    {"groq", NULL, "/groq/v1", "llama-3.3-70b-versatile", NULL, NO_THOUGHT, NULL, NULL, NULL, false},
    {"xai", NULL, "/xai/v1", "grok-4.5", NULL, NULL, NULL, NULL, NULL, false},
    {"xai", NULL, "/xai/v1", "grok-4", NULL, UNSAID, NULL, NULL, NULL, false},
    {"qwen", NULL, "/qwen/v1", "qwen3-vl-plus", NULL, NULL, NO_SCHEMA, NULL, NULL, false},
    {"moonshot", NULL, "/moonshot/v1", "kimi-k3", NULL, NULL, NO_SCHEMA, NULL, NULL, false},
    {"portkey", NULL, "/portkey/v1", "m", NULL, NULL, NULL, NULL, NULL, false},
    {"tokenmix", NULL, "/tokenmix/v1", "m", NULL, NULL, NULL, NULL, NULL, false},
};

/* ---- what all steps share ---- */

typedef struct stage {
    const row *row;
    llmgw *gw;
    char model[96];
    bool stream;
    Rec rec;
} stage;

static bool give(const char *name, char *token, size_t size, int64_t *expires_s, void *user) {
    snprintf(token, size, "token-0123456789");
    return true;
}

static void stage_open(stage *s, const row *r, bool stream) {
    static char url[128];
    llmgw_options options = t_calm();
    llmgw_error error;
    llmgw_model model;
    memset(s, 0, sizeof *s);
    llmgw_provider made =
        t_provider(&provider, r->name, r->dialect, r->path, r->token ? NULL : "sk-script-0123456789", url);
    memset(&model, 0, sizeof model);
    model.name = "priced";
    model.provider = r->name;
    model.model = r->model;
    model.price.input = llmgw_set(3);
    model.price.output = llmgw_set(15);
    model.price.cached = llmgw_set(0.3);
    options.models = &model;
    options.model_count = 1;
    made.api_version = r->version;
    if (r->token) made.token = give;
    if (strcmp(r->name, "vertex") == 0) made.project = "p-1";
    s->row = r;
    s->stream = stream;
    snprintf(s->model, sizeof s->model, "%s/%s", r->name, r->model);
    options.providers = &made;
    options.provider_count = 1;
    options.no_environment = true;
    options.max_attempts = 1; /* nothing is mended by asking again */
    options.hold_ms = options.hold_bytes = LLMGW_OFF;
    s->gw = llmgw_open(&options, &error);
    if (!s->gw) fail_msg("llmgw_open: %s", error.text);
    provider_reset(&provider);
}

static void stage_close(stage *s) {
    rec_free(&s->rec);
    llmgw_close(s->gw);
}

static llmgw_request stage_ask(stage *s, const char *prompt) {
    rec_free(&s->rec);
    return rec_request(&s->rec, s->model, prompt, s->stream);
}

/* A good answer. */
static const llmgw_reply *stage_answer(stage *s, const llmgw_request *request, const char *step) {
    const llmgw_reply *reply = rec_chat(s->gw, &s->rec, request);
    if (reply->error.code)
        fail_msg("%s, %s, %s: %s", s->model, s->stream ? "streamed" : "whole", step, reply->error.text);
    return reply;
}

static void stage_has(const stage *s, const char *text, const char *part, const char *step) {
    if (!text || !strstr(text, part))
        fail_msg("%s, %s, %s: '%s' is not in '%s'", s->model, s->stream ? "streamed" : "whole", step, part,
                 text ? text : "(null)");
}

/* ---- the steps ---- */

/* The system text reaches it: it counts; so does the image, by its bytes. */
static void system_and_image(stage *s) {
    llmgw_part parts[2];
    llmgw_message turn;
    memset(parts, 0, sizeof parts);
    memset(&turn, 0, sizeof turn);
    parts[0].text = "What is this?";
    parts[1].kind = LLMGW_PART_IMAGE;
    parts[1].data = "\x89PNG-bytes";
    parts[1].data_len = 10;
    turn.parts = parts;
    turn.part_count = 2;
    llmgw_request request = stage_ask(s, NULL);
    request.messages = &turn;
    request.message_count = 1;
    if (s->row->blind) {
        t_expect_code(rec_chat(s->gw, &s->rec, &request), LLMGW_E_UNSUPPORTED);
        turn.part_count = 1;
        request = stage_ask(s, NULL);
        request.messages = &turn;
        request.message_count = 1;
    }
    const llmgw_reply *reply = stage_answer(s, &request, "image");
    int64_t without = reply->usage.input;
    assert_true(reply->usage.known);
    stage_has(s, reply->text, "What is this?", "image");
    bool typeless = s->row->dialect && strcmp(s->row->dialect, "ollama") == 0; /* images are bare base64 */
    if (turn.part_count == 2)
        stage_has(s, reply->text, typeless ? "[image 10 bytes " : "[image 10 bytes image/png]", "image");
    if (s->stream && s->rec.pieces < 2) fail_msg("%s: the stream came in one piece", s->model);
    request = stage_ask(s, NULL);
    request.messages = &turn;
    request.message_count = 1;
    request.system = "You are a keeper of pictures, and kind to all who ask.";
    reply = stage_answer(s, &request, "system");
    if (reply->usage.input <= without) fail_msg("%s: the system text was not counted", s->model);
}

static const llmgw_tool tools[] = {
    {"get_weather", "The weather of a city.",
     "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"}}}", false},
    {"get_time", NULL, NULL, false},
};

/* Two calls at once; their results go back in the other order; the answer knows both. */
static void two_tools(stage *s) {
    llmgw_message turns[3];
    llmgw_part results[2];
    memset(turns, 0, sizeof turns);
    memset(results, 0, sizeof results);
    llmgw_request request = stage_ask(s, "call:get_weather {\"city\":\"Oslo\"} call:get_time");
    request.tools = tools;
    request.tool_count = 2;
    turns[0].text = request.prompt;
    const llmgw_reply *reply = stage_answer(s, &request, "tools");
    assert_int_equal(reply->finish, LLMGW_FINISH_TOOL);
    assert_int_equal(reply->tool_call_count, 2);
    assert_string_equal(reply->tool_calls[0].name, "get_weather");
    stage_has(s, reply->tool_calls[0].arguments, "Oslo", "tools");
    assert_string_equal(reply->tool_calls[1].name, "get_time");
    llmgw_reply *kept = llmgw_reply_keep(reply);
    turns[1] = kept->message;
    for (int i = 0; i < 2; i++) {
        results[i].kind = LLMGW_PART_TOOL_RESULT;
        results[i].id = kept->tool_calls[1 - i].id;
        results[i].text = i ? "sunny" : "noon";
    }
    turns[2].role = LLMGW_ROLE_TOOL;
    turns[2].parts = results;
    turns[2].part_count = 2;
    request = stage_ask(s, NULL);
    request.messages = turns;
    request.message_count = 3;
    request.tools = tools;
    request.tool_count = 2;
    reply = stage_answer(s, &request, "results");
    stage_has(s, reply->text, "sunny", "results");
    stage_has(s, reply->text, "noon", "results");
    assert_int_equal(reply->finish, LLMGW_FINISH_STOP);
    llmgw_reply_free(kept);
}

static void of_a_schema(stage *s) {
    llmgw_request request = stage_ask(s, "Who is she?");
    request.schema =
        "{\"type\":\"object\",\"properties\":{\"age\":{\"type\":\"integer\"}},\"required\":[\"age\"],"
        "\"additionalProperties\":false}";
    if (s->row->told) provider_model_rule(&provider, s->row->model, "\"text\":\"{\\\"age\\\":1}\"");
    const llmgw_reply *reply = stage_answer(s, &request, "schema");
    json_t *json = json_loads(reply->text, 0, NULL);
    if (!json_is_integer(json_object_get(json, "age"))) fail_msg("%s: %s", s->model, reply->text);
    assert_int_equal(reply->tool_call_count, 0);
    json_decref(json);
    provider_reset(&provider);
}

/* It thinks, then calls: what it thought goes back before the call when the result does. */
static void reasoning_in_loop(stage *s) {
    llmgw_message turns[3];
    llmgw_part result;
    memset(turns, 0, sizeof turns);
    memset(&result, 0, sizeof result);
    llmgw_request request = stage_ask(s, "call:get_weather {\"city\":\"Bergen\"}");
    request.effort = LLMGW_EFFORT_HIGH;
    request.tools = tools;
    request.tool_count = 2;
    turns[0].text = request.prompt;
    llmgw_reply *kept = llmgw_reply_keep(stage_answer(s, &request, "reasoning and a call"));
    assert_int_equal(kept->tool_call_count, 1);
    turns[1] = kept->message;
    result.kind = LLMGW_PART_TOOL_RESULT;
    result.id = kept->tool_calls[0].id;
    result.text = "rain";
    turns[2].role = LLMGW_ROLE_TOOL;
    turns[2].parts = &result;
    turns[2].part_count = 1;
    request = stage_ask(s, NULL);
    request.effort = LLMGW_EFFORT_HIGH;
    request.tools = tools;
    request.tool_count = 2;
    request.messages = turns;
    request.message_count = 3;
    stage_has(s, stage_answer(s, &request, "reasoning and a result")->text, "rain", "reasoning and a result");
    llmgw_reply_free(kept);
}

/* What it thought is told, and goes back with the next question. */
static void reasoning(stage *s) {
    llmgw_message turns[2];
    memset(turns, 0, sizeof turns);
    llmgw_request request = stage_ask(s, "Think.");
    request.effort = LLMGW_EFFORT_HIGH;
    turns[0].text = request.prompt;
    const llmgw_reply *reply = stage_answer(s, &request, "reasoning");
    if (s->row->mute && reply->reasoning && reply->reasoning[0]) fail_msg("%s: not mute", s->model);
    if (!s->row->mute) stage_has(s, reply->reasoning, "Thinking about it.", "reasoning");
    llmgw_reply *kept = llmgw_reply_keep(reply);
    turns[1] = kept->message;
    request = stage_ask(s, "Go on.");
    request.messages = turns;
    request.message_count = 2;
    request.effort = LLMGW_EFFORT_HIGH;
    stage_has(s, stage_answer(s, &request, "reasoning goes back")->text, "Go on.", "reasoning goes back");
    llmgw_reply_free(kept);
}

/* What it says it read, from its cache and not, is what is counted and paid for. */
static void counted(stage *s) {
    provider_model_rule(&provider, s->row->model, "\"usage_input\":1000,\"usage_output\":20,\"cached\":800");
    llmgw_request request = stage_ask(s, "What do I pay?");
    request.model = "priced";
    const llmgw_reply *reply = stage_answer(s, &request, "usage");
    const llmgw_usage *usage = &reply->usage;
    if (!usage->known || usage->estimated || usage->input != 1000 || usage->output < 20 ||
        usage->cached != (s->row->plain ? 0 : 800))
        fail_msg("%s: %lld tokens, %lld cached, %lld out", s->model, (long long)usage->input,
                 (long long)usage->cached, (long long)usage->output);
    int64_t want = (1000 - usage->cached) * 3000000 + usage->cached * 300000 + usage->output * 15000000;
    if (!reply->cost.known || reply->cost.pico_usd != want)
        fail_msg("%s: %lld, not %lld", s->model, (long long)reply->cost.pico_usd, (long long)want);
    provider_reset(&provider);
}

/* Cancelled after its first piece: END says so, the provider sees the connection go. */
static void cancelled(stage *s) {
    provider_model_rule(&provider, s->row->model,
                        "\"chunk_ms\":20,\"text\":\"so it goes on \",\"text_repeat\":500");
    llmgw_request request = stage_ask(s, "Tell me all.");
    rec_send(s->gw, &s->rec, &request);
    for (int64_t until = t_now_ms() + 5000; s->stream && !s->rec.pieces && t_now_ms() < until;)
        llmgw_poll(s->gw, 20);
    if (!s->stream) (void)provider_wait(&provider, "open", 1, 0);
    assert_int_equal(s->rec.ends, 0);
    llmgw_cancel(s->gw, s->rec.call);
    assert_true(rec_drive(s->gw, &s->rec, 1, 5000));
    t_expect_code(s->rec.reply, LLMGW_E_CANCELLED);
    rec_check(&s->rec);
    provider_reset(&provider);
}

static void left_out(const row *r) {
    const char *const why[][2] = {{"images", r->blind},
                                  {"reasoning shown", r->mute},
                                  {"a schema enforced", r->told},
                                  {"cached tokens", r->plain}};
    for (size_t i = 0; i < COUNT_OF(why); i++)
        if (why[i][1])
            print_message("           %s/%s: not %s: %s\n", r->name, r->model, why[i][0], why[i][1]);
}

static void test_script(void **state) {
    static void (*const steps[])(stage *) = {system_and_image,  two_tools, of_a_schema, reasoning,
                                             reasoning_in_loop, counted,   cancelled};
    const char *only = getenv("ONLY");
    for (size_t i = 0; i < COUNT_OF(rows) * 2; i++) {
        stage s;
        if (only && strcmp(only, rows[i / 2].name) != 0) continue;
        if (i % 2 == 0) left_out(&rows[i / 2]);
        stage_open(&s, &rows[i / 2], i % 2);
        for (size_t k = 0; k < COUNT_OF(steps); k++) steps[k](&s);
        stage_close(&s);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_script),
};

int main(void) { return cmocka_run_group_tests_name("script", tests, group_start, group_stop); }
