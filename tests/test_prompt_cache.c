/* The provider's prompt cache: a prefix is marked once, each dialect has its form, and the reply says what it saved. */
#include "unit.h"

#include "testing.h"
#include "group.h"

static int reset(void **state) {
    provider_reset(&provider);
    return 0;
}

/* ---- marks ---- */

#define MARK "'cache_control':{'type':'ephemeral'}"
#define MARK_1H "'cache_control':{'type':'ephemeral','ttl':'1h'}"

static const llmgw_tool tools[2] = {{"f", NULL, NULL, false}, {"g", NULL, NULL, false}};

static llmgw_request talk(const llmgw_message *turns, size_t count, llmgw_prompt_cache how, size_t messages) {
    llmgw_request request = unit_talk(turns, count);
    request.prompt_cache = how;
    request.prompt_cache_messages = messages;
    return request;
}

/* How many marks there are in all of a body. */
static int marks(json_t *body, const char *name) {
    char *text = json_dumps(body, JSON_COMPACT);
    int n = 0;
    for (const char *p = text; (p = strstr(p, name)) != NULL; p++) n++;
    free(text);
    return n;
}

static void without_a_wish_nothing_is_marked(void **state) {
    static const char *const names[][2] = {{"anthropic", "claude-sonnet-4-5"},
                                           {"openai", "gpt-4o"},
                                           {"openrouter", "anthropic/claude-3.5-sonnet"},
                                           {"gemini", "gemini-2.5-pro"}};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        llmgw_request request = unit_ask("q");
        request.system = "s";
        json_t *body = unit_body(names[i][0], names[i][1], &request);
        assert_int_equal(marks(body, "cache"), 0);
        json_decref(body);
    }
}

static void anthropic_system(void **state) {
    llmgw_message turns[2] = {unit_message(LLMGW_ROLE_SYSTEM, "second", NULL, 0),
                              unit_message(LLMGW_ROLE_USER, "q", NULL, 0)};
    llmgw_request request = talk(turns, 2, LLMGW_PROMPT_CACHE_5M, 0);
    request.system = "first";
    request.tools = tools;
    request.tool_count = 2;
    json_t *body = unit_body("anthropic", "claude-sonnet-4-5", &request);
    unit_is(body, "system", "[{'type':'text','text':'first'},{'type':'text','text':'second'," MARK "}]");
    assert_int_equal(marks(body, "cache_control"), 1);
    json_decref(body);
    turns[0].text = ""; /* is not written */
    body = unit_body("anthropic", "claude-sonnet-4-5", &request);
    unit_is(body, "system", "[{'type':'text','text':'first'," MARK "}]");
    assert_int_equal(marks(body, "cache_control"), 1);
    json_decref(body);
}

static void anthropic_tools(void **state) {
    llmgw_request request = unit_ask("q");
    request.prompt_cache = LLMGW_PROMPT_CACHE_1H;
    request.tools = tools;
    request.tool_count = 2;
    json_t *body = unit_body("anthropic", "claude-sonnet-4-5", &request);
    unit_none(body, "tools.0.cache_control");
    unit_is(body, "tools.1.cache_control", "{'type':'ephemeral','ttl':'1h'}");
    assert_int_equal(marks(body, "cache_control"), 1);
    json_decref(body);
    request.tool_count = 0; /* nothing is left to mark */
    body = unit_body("anthropic", "claude-sonnet-4-5", &request);
    assert_int_equal(marks(body, "cache_control"), 0);
    json_decref(body);
}

/* The last part of the prefix that can carry a mark: not reasoning, not an empty text. */
static void anthropic_messages(void **state) {
    llmgw_part call[2] = {unit_thought("hm", "sig", "anthropic"), unit_tool_call("c1", "f", NULL)};
    llmgw_part result = unit_tool_result("c1", "5");
    llmgw_part said[3] = {unit_part(LLMGW_PART_TEXT, "it is 5"), unit_part(LLMGW_PART_TEXT, ""),
                          unit_thought("hm", "sig", "anthropic")};
    llmgw_message turns[5] = {
        unit_message(LLMGW_ROLE_USER, "q", NULL, 0), unit_message(LLMGW_ROLE_ASSISTANT, NULL, call, 2),
        unit_message(LLMGW_ROLE_TOOL, NULL, &result, 1), unit_message(LLMGW_ROLE_ASSISTANT, NULL, said, 3),
        unit_message(LLMGW_ROLE_USER, "and?", NULL, 0)};
    static const char *const paths[] = {"system.0",
                                        "messages.0.content.0",
                                        "messages.1.content.1",
                                        "messages.2.content.0",
                                        "messages.3.content.0",
                                        "messages.4.content.0"};
    for (size_t n = 0; n <= 5; n++) {
        llmgw_request request = talk(turns, 5, LLMGW_PROMPT_CACHE_5M, n);
        char path[64];
        request.system = "s";
        json_t *body = unit_body("anthropic", "claude-sonnet-4-5", &request);
        snprintf(path, sizeof path, "%s.cache_control", paths[n]);
        unit_is(body, path, "{'type':'ephemeral'}");
        assert_int_equal(marks(body, "cache_control"), 1);
        json_decref(body);
    }
}

/* A turn's shorthand is its first part. */
static void anthropic_shorthand(void **state) {
    llmgw_part image = unit_part(LLMGW_PART_IMAGE, NULL);
    llmgw_message turns[2] = {unit_message(LLMGW_ROLE_USER, "look", &image, 1),
                              unit_message(LLMGW_ROLE_USER, "well?", NULL, 0)};
    llmgw_request request = talk(turns, 2, LLMGW_PROMPT_CACHE_5M, 1);
    image.url = "https://example.com/a.png";
    json_t *body = unit_body("anthropic", "claude-sonnet-4-5", &request);
    unit_none(body, "messages.0.content.0.cache_control");
    unit_is(body, "messages.0.content.1.cache_control", "{'type':'ephemeral'}");
    json_decref(body);
    turns[0].part_count = 0;
    body = unit_body("anthropic", "claude-sonnet-4-5", &request);
    unit_is(body, "messages.0.content",
            "[{'type':'text','text':'look'," MARK "},{'type':'text','text':'well?'}]");
    json_decref(body);
}

/* OpenRouter hands the marks of Claude and Gemini on; others' models cache by themselves. */
static void openrouter(void **state) {
    llmgw_message turns[3] = {unit_message(LLMGW_ROLE_USER, "a", NULL, 0),
                              unit_message(LLMGW_ROLE_ASSISTANT, "b", NULL, 0),
                              unit_message(LLMGW_ROLE_USER, "c", NULL, 0)};
    llmgw_request request = talk(turns, 3, LLMGW_PROMPT_CACHE_1H, 0);
    request.system = "s";
    json_t *body = unit_body("openrouter", "anthropic/claude-sonnet-4.5", &request);
    unit_is(body, "messages.0", "{'role':'system','content':[{'type':'text','text':'s'," MARK_1H "}]}");
    assert_int_equal(marks(body, "cache_control"), 1);
    json_decref(body);
    request.prompt_cache_messages = 2;
    body = unit_body("openrouter", "google/gemini-2.5-pro", &request);
    unit_is(body, "messages.2", "{'role':'assistant','content':[{'type':'text','text':'b'," MARK_1H "}]}");
    unit_is(body, "messages.0.content", "'s'");
    assert_int_equal(marks(body, "cache_control"), 1);
    json_decref(body);
    body = unit_body("openrouter", "openai/gpt-5", &request);
    assert_int_equal(marks(body, "cache"), 0);
    json_decref(body);
}

/* ---- OpenAI: the prefix by its hash ---- */

static char *key_of(const char *model, const llmgw_request *request) {
    json_t *body = unit_body("openai", model, request);
    const char *key = json_string_value(json_object_get(body, "prompt_cache_key"));
    char *copy = strdup(key ? key : "");
    json_decref(body);
    return copy;
}

static void expect_keys(const llmgw_request *a, const llmgw_request *b, bool same) {
    char *one = key_of("gpt-4o", a), *two = key_of("gpt-4o", b);
    assert_int_equal(strlen(one), 22); /* "llmgw-" and 16 digits */
    if ((strcmp(one, two) == 0) != same) fail_msg("'%s' and '%s'", one, two);
    free(one);
    free(two);
}

static void one_prefix_has_one_key(void **state) {
    llmgw_message one[3] = {unit_message(LLMGW_ROLE_USER, "long text", NULL, 0),
                            unit_message(LLMGW_ROLE_ASSISTANT, "yes", NULL, 0),
                            unit_message(LLMGW_ROLE_USER, "first question", NULL, 0)};
    llmgw_message two[3] = {one[0], one[1], unit_message(LLMGW_ROLE_USER, "another", NULL, 0)};
    llmgw_request a = talk(one, 3, LLMGW_PROMPT_CACHE_5M, 2), b = talk(two, 3, LLMGW_PROMPT_CACHE_5M, 2);
    a.system = b.system = "s";
    b.temperature = llmgw_set(0.5);
    b.max_tokens = 9;
    expect_keys(&a, &b, true);
    b.prompt_cache_messages = 3;
    expect_keys(&a, &b, false);
    b.prompt_cache_messages = 2;
    b.tools = tools;
    b.tool_count = 1;
    expect_keys(&a, &b, false);
    b.tool_count = 0;
    b.system = "t";
    expect_keys(&a, &b, false);
    a.prompt_cache_messages = b.prompt_cache_messages = 0;
    expect_keys(&a, &b, false);
    b.system = "s";
    expect_keys(&a, &b, true);
}

static void a_day_where_the_model_takes_it(void **state) {
    static const struct {
        const char *model;
        llmgw_prompt_cache how;
        const char *want;
    } rows[] = {{"gpt-5.1", LLMGW_PROMPT_CACHE_1H, "'24h'"},
                {"gpt-4.1-2025-04-14", LLMGW_PROMPT_CACHE_1H, "'24h'"},
                {"gpt-5.1", LLMGW_PROMPT_CACHE_5M, NULL},
                {"gpt-4o", LLMGW_PROMPT_CACHE_1H, NULL},
                {"gpt-4.1-mini", LLMGW_PROMPT_CACHE_1H, NULL}};
    static const char *const places[] = {"openai", "azure"};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        llmgw_request request = unit_ask("q");
        request.system = "s";
        request.prompt_cache = rows[i].how;
        for (size_t k = 0; k < COUNT_OF(places); k++) {
            json_t *body = unit_body(places[k], rows[i].model, &request);
            assert_non_null(json_object_get(body, "prompt_cache_key"));
            unit_is(body, "prompt_cache_retention", rows[i].want);
            json_decref(body);
        }
    }
}

/* A provider that caches by itself, or cannot: nothing is sent. An empty prefix has no key. */
static void nothing_to_say(void **state) {
    static const char *const names[][2] = {{"gemini", "gemini-2.5-pro"},
                                           {"deepseek", "deepseek-chat"},
                                           {"mistral", "mistral-large-latest"},
                                           {"ollama", "llama3.2"}};
    llmgw_request request = unit_ask("q");
    request.prompt_cache = LLMGW_PROMPT_CACHE_1H;
    char *key = key_of("gpt-4o", &request);
    assert_string_equal(key, "");
    free(key);
    request.system = "s";
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        json_t *body = unit_body(names[i][0], names[i][1], &request);
        assert_int_equal(marks(body, "cache"), 0);
        json_decref(body);
    }
}

/* The Responses API takes the same key, of its own text. */
static void responses(void **state) {
    llmgw_message turns[2] = {unit_message(LLMGW_ROLE_USER, "long", NULL, 0),
                              unit_message(LLMGW_ROLE_USER, "first question", NULL, 0)};
    char first[64] = "";
    for (int i = 0; i < 3; i++) {
        llmgw_request request = talk(turns, 2, LLMGW_PROMPT_CACHE_1H, 1);
        request.system = i < 2 ? "s" : "t";
        turns[1].text = i ? "another" : "first question";
        json_t *body = unit_body("openai:responses", "gpt-5.1", &request);
        const char *key = json_string_value(json_object_get(body, "prompt_cache_key"));
        assert_non_null(key);
        if (i == 0) snprintf(first, sizeof first, "%s", key);
        assert_int_equal(strcmp(first, key) == 0, i < 2);
        unit_is(body, "prompt_cache_retention", "'24h'");
        json_decref(body);
    }
}

static void bedrock(void **state) {
    llmgw_message turns[2] = {unit_message(LLMGW_ROLE_USER, "long", NULL, 0),
                              unit_message(LLMGW_ROLE_USER, "short", NULL, 0)};
    llmgw_request request = talk(turns, 2, LLMGW_PROMPT_CACHE_5M, 0);
    request.tools = tools;
    request.tool_count = 2;
    request.system = "s";
    json_t *body = unit_body("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", &request);
    unit_is(body, "system", "[{'text':'s'},{'cachePoint':{'type':'default'}}]");
    assert_int_equal(marks(body, "cachePoint"), 1);
    json_decref(body);
    request.system = NULL;
    body = unit_body("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", &request);
    unit_is(body, "toolConfig.tools.2", "{'cachePoint':{'type':'default'}}");
    assert_int_equal(marks(body, "cachePoint"), 1);
    json_decref(body);
    request.prompt_cache_messages = 1;
    body = unit_body("bedrock", "us.amazon.nova-pro-v1:0", &request);
    unit_is(body, "messages.0.content",
            "[{'text':'long'},{'cachePoint':{'type':'default'}},{'text':'short'}]");
    json_decref(body);
}

/* What bedrock's dialect calls. */
static void cache_points(void **state) {
    static const struct {
        const char *model, *want;
        llmgw_prompt_cache how;
    } rows[] = {
        {"us.anthropic.claude-sonnet-4-5-20250929-v1:0",
         ",{\"cachePoint\":{\"type\":\"default\",\"ttl\":\"1h\"}}", LLMGW_PROMPT_CACHE_1H},
        {"us.anthropic.claude-sonnet-4-5-20250929-v1:0", ",{\"cachePoint\":{\"type\":\"default\"}}",
         LLMGW_PROMPT_CACHE_5M},
        {"anthropic.claude-3-7-sonnet-20250219-v1:0", ",{\"cachePoint\":{\"type\":\"default\"}}",
         LLMGW_PROMPT_CACHE_1H},
        {"us.amazon.nova-pro-v1:0", ",{\"cachePoint\":{\"type\":\"default\"}}", LLMGW_PROMPT_CACHE_1H},
        {"meta.llama3-1-8b-instruct-v1:0", "", LLMGW_PROMPT_CACHE_1H},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        llmgw_message turn = unit_message(LLMGW_ROLE_USER, "q", NULL, 0);
        llmgw_request request = talk(&turn, 1, rows[i].how, 1);
        llmgwi_dialect_target target;
        llmgwi_dialect_build build;
        llmgwi_base_buf body;
        memset(&target, 0, sizeof target);
        memset(&build, 0, sizeof build);
        llmgwi_base_buf_init(&body, &unit_mem, 4096);
        target.model = rows[i].model;
        target.flavour = "bedrock";
        target.quirks = llmgwi_dialect_quirks_of("bedrock", "bedrock", rows[i].model, NULL);
        build.request = &request;
        build.target = &target;
        build.out.buf = &body;
        build.out.comma = true;
        llmgwi_dialect_mark(&build, false);
        (void)llmgwi_dialect_at(&build, &turn, 0, 0);
        llmgwi_dialect_cache_point(&build, llmgwi_dialect_marked(&build));
        assert_string_equal(llmgwi_base_buf_cstr(&body), rows[i].want);
        llmgwi_base_buf_free(&body);
    }
}

/* ---- what it saved ---- */

static llmgw *open_priced(const llmgw_price *price) {
    llmgw_options options = t_calm();
    llmgw_model models[2];
    memset(models, 0, sizeof models);
    models[0].name = "claude";
    models[0].provider = "anthropic";
    models[0].model = "claude-sonnet-4-5";
    models[0].price = *price;
    models[1].name = "unpriced";
    models[1].provider = "anthropic";
    models[1].model = "nobody-knows-its-price";
    options.models = models;
    options.model_count = 2;
    return t_open(&provider, &options);
}

/* 3, 15, 0.3, 3.75 and 6 USD a million tokens. */
static llmgw_price sonnet(void) {
    llmgw_price price;
    memset(&price, 0, sizeof price);
    price.input = llmgw_set(3);
    price.output = llmgw_set(15);
    price.cached = llmgw_set(0.3);
    price.cache_write = llmgw_set(3.75);
    price.cache_write_1h = llmgw_set(6);
    return price;
}

static void what_was_read_was_saved(void **state) {
    llmgw_price price = sonnet();
    llmgw *gw = open_priced(&price);
    llmgw_request request = unit_ask("hi");
    request.model = "claude";
    provider_model_rule(&provider, "claude-sonnet-4-5", "\"usage_input\":1000,\"cached\":800");
    llmgw_reply *reply = llmgw_chat(gw, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_int_equal(reply->usage.input, 1000);
    assert_int_equal(reply->usage.cached, 800);
    assert_true(reply->prompt_saved.known && !reply->prompt_saved.estimated);
    assert_int_equal(reply->prompt_saved.pico_usd, INT64_C(800) * (3000000 - 300000));
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

/* The same by the formula of the documentation, for usages that no fake gives. */
static void the_formula(void **state) {
    static const struct {
        int64_t cached, write, write_1h, saved;
    } rows[] = {
        {0, 0, 0, 0},
        {1000, 0, 0, INT64_C(1000) * 2700000},
        {0, 1000, 0, -INT64_C(1000) * 750000},
        {0, 1000, 1000, -INT64_C(1000) * 3000000},
        {500, 400, 100, INT64_C(500) * 2700000 - INT64_C(300) * 750000 - INT64_C(100) * 3000000},
    };
    llmgw_price price = sonnet();
    llmgwi_price_rates rates;
    llmgwi_price_what what;
    memset(&what, 0, sizeof what);
    what.own = &price;
    what.model = "claude";
    assert_true(llmgwi_price_find(NULL, &what, &rates));
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        llmgwi_engine_reply reply;
        llmgw_trace item;
        memset(&reply, 0, sizeof reply);
        memset(&item, 0, sizeof item);
        item.usage.known = true;
        item.usage.input = 1000;
        item.usage.output = 10;
        item.usage.cached = rows[i].cached;
        item.usage.cache_write = rows[i].write;
        item.usage.cache_write_1h = rows[i].write_1h;
        item.cost = llmgwi_engine_cost(&rates, &item.usage);
        llmgwi_engine_count_saved(&reply, &item, &rates);
        llmgwi_engine_count_saved(&reply, &item, &rates); /* two attempts */
        assert_false(reply.saved_unknown);
        if (reply.saved_pico != 2 * rows[i].saved) fail_msg("row %zu: %lld", i, (long long)reply.saved_pico);
    }

    price.input.value =
        0.001; /* 1,000 pico-dollars a token: what one attempt saved fits 64 bits, of two it does not */
    price.cached.value = 0;
    assert_true(llmgwi_price_find(NULL, &what, &rates));
    llmgwi_engine_reply reply;
    llmgw_trace item;
    memset(&reply, 0, sizeof reply);
    memset(&item, 0, sizeof item);
    item.usage.known = true;
    item.usage.input = item.usage.cached = INT64_C(9000000000000000);
    item.cost = llmgwi_engine_cost(&rates, &item.usage);
    for (int i = 0; i < 2; i++) llmgwi_engine_count_saved(&reply, &item, &rates);
    assert_true(reply.saved_unknown);
}

static void unknown_is_not_nothing(void **state) {
    llmgw_price price = sonnet();
    llmgw *gw = open_priced(&price);
    llmgw_request request = unit_ask("hi");
    request.model = "unpriced";
    provider_model_rule(&provider, "nobody-knows-its-price", "\"usage_input\":1000,\"cached\":800");
    llmgw_reply *reply = llmgw_chat(gw, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_false(reply->cost.known || reply->prompt_saved.known);
    assert_int_equal(reply->prompt_saved.pico_usd, 0);
    llmgw_reply_free(reply);
    request.model = "claude"; /* nothing was cached: nothing saved */
    reply = llmgw_chat(gw, &request);
    t_expect_code(reply, LLMGW_OK);
    assert_true(reply->prompt_saved.known && reply->prompt_saved.pico_usd == 0);
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

/* Money is set aside for the dearer write. */
static void a_marked_request_reserves_more(void **state) {
    llmgw_price price = sonnet();
    llmgwi_price_rates rates;
    llmgwi_price_what what;
    llmgwi_engine_call call;
    llmgw gw;
    llmgw_request request = unit_ask("a few words to be counted");
    int64_t pico[3];
    memset(&what, 0, sizeof what);
    memset(&gw, 0, sizeof gw);
    what.own = &price;
    what.model = "claude";
    assert_true(llmgwi_price_find(NULL, &what, &rates));
    for (int how = 0; how < 3; how++) {
        memset(&call, 0, sizeof call);
        call.gw = &gw;
        call.request = &request;
        call.tokens_in = -1;
        request.max_tokens = 100;
        request.prompt_cache = (llmgw_prompt_cache)how;
        llmgw_usage usage = llmgwi_engine_reserved(&call, &rates);
        pico[how] = llmgwi_engine_cost(&rates, &usage).pico_usd;
    }
    assert_true(pico[0] < pico[1] && pico[1] < pico[2]);
}

static void faulty_wishes(void **state) {
    llmgw *gw = t_open(&provider, NULL);
    llmgw_message turn = unit_message(LLMGW_ROLE_USER, "q", NULL, 0);
    llmgw_request request = talk(&turn, 1, LLMGW_PROMPT_CACHE_5M, 2);
    request.model = "openai/gpt-4o";
    llmgw_reply *reply = llmgw_chat(gw, &request);
    t_expect_code(reply, LLMGW_E_ARGUMENT);
    t_expect_text(reply, "request.prompt_cache_messages: more than there are messages");
    llmgw_reply_free(reply);
    request.prompt_cache_messages = 1;
    request.prompt_cache = (llmgw_prompt_cache)3;
    reply = llmgw_chat(gw, &request);
    t_expect_code(reply, LLMGW_E_ARGUMENT);
    t_expect_text(reply, "request.prompt_cache: no such lifetime");
    llmgw_reply_free(reply);
    llmgw_close(gw);
}

/* The strict fake takes each form. */
static void the_forms_are_taken(void **state) {
    static const char *const models[] = {"openai/gpt-5.1", "anthropic/claude-sonnet-4-5",
                                         "gemini/gemini-2.5-flash"};
    llmgw *gw = t_open(&provider, NULL);
    llmgw_message turns[2] = {unit_message(LLMGW_ROLE_USER, "long", NULL, 0),
                              unit_message(LLMGW_ROLE_USER, "short", NULL, 0)};
    for (size_t i = 0; i < COUNT_OF(models); i++)
        for (size_t n = 0; n < 3; n++) {
            llmgw_request request = talk(turns, 2, LLMGW_PROMPT_CACHE_1H, n);
            request.model = models[i];
            request.system = "be brief";
            llmgw_reply *reply = llmgw_chat(gw, &request);
            t_expect_code(reply, LLMGW_OK);
            llmgw_reply_free(reply);
        }
    llmgw_close(gw);
}

#define TEST(f) cmocka_unit_test_setup(f, reset)
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_wish_nothing_is_marked),
        cmocka_unit_test(anthropic_system),
        cmocka_unit_test(anthropic_tools),
        cmocka_unit_test(anthropic_messages),
        cmocka_unit_test(anthropic_shorthand),
        cmocka_unit_test(openrouter),
        cmocka_unit_test(one_prefix_has_one_key),
        cmocka_unit_test(a_day_where_the_model_takes_it),
        cmocka_unit_test(nothing_to_say),
        cmocka_unit_test(responses),
        cmocka_unit_test(bedrock),
        cmocka_unit_test(cache_points),
        cmocka_unit_test(the_formula),
        cmocka_unit_test(a_marked_request_reserves_more),
        TEST(what_was_read_was_saved),
        TEST(unknown_is_not_nothing),
        TEST(faulty_wishes),
        TEST(the_forms_are_taken),
    };
    return cmocka_run_group_tests_name("prompt_cache", tests, group_start, group_stop);
}
