/* ask.c - the requests that llmgw.h builds, sent to the replay server's /capture/ for reqcheck.py to check.

       ask PORT NAME=URL...      NAME=URL: recorded replies for the tool loops

   A tool loop asks a recorded reply first, appends its message as it is, adds a tool's result and asks
   again. Public API only. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *port;
static int argc_;
static char **argv_;

static const char *base_of(const char *name) {
    for (int i = 2; i < argc_; i++)
        if (strncmp(argv_[i], name, strlen(name)) == 0 && argv_[i][strlen(name)] == '=')
            return argv_[i] + strlen(name) + 1;
    return NULL;
}

static llmgw_reply *call(const char *provider, const char *url, llmgw_request q) {
    llmgw_error error = {0};
    llmgw_provider p = {0};
    p.name = provider;
    p.url = url;
    p.key = "sk-conform";
    llmgw_options o = {0};
    o.providers = &p;
    o.provider_count = 1;
    o.no_environment = true;
    llmgw *gw = llmgw_open(&o, &error);
    if (!gw) {
        fprintf(stderr, "ask: llmgw_open: %s\n", error.text);
        exit(2);
    }
    char model[128];
    snprintf(model, sizeof model, "%s/replay", provider);
    q.model = model;
    q.max_attempts = 1;
    llmgw_reply *r = llmgw_chat(gw, &q);
    llmgw_close(gw);
    return r;
}

/* Sends q to /capture/<provider>-<name>/ and says what came of it. */
static void capture(const char *provider, const char *name, llmgw_request q) {
    char url[256];
    const char *tail = strcmp(provider, "gemini") == 0 ? "/v1beta" : "/v1";
    snprintf(url, sizeof url, "http://127.0.0.1:%s/capture/%s-%s%s", port, provider, name, tail);
    llmgw_reply *r = call(provider, url, q);
    printf("%s-%s\t%s\t%d\t%s\n", provider, name, llmgw_code_name(r->error.code), r->error.http_status,
           r->error.text);
    llmgw_reply_free(r);
}

static const char WEATHER[] = "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"}},"
                              "\"required\":[\"city\"],\"additionalProperties\":false}";
static const char PERSON[] = "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},"
                             "\"age\":{\"type\":\"integer\"}},\"required\":[\"name\",\"age\"],"
                             "\"additionalProperties\":false}";
static const unsigned char PNG[] = {0x89, 'P', 'N', 'G', 13, 10, 26, 10, 0, 0, 0, 13, 0xff, 0};

static void all(const char *provider) {
    llmgw_tool tools[2] = {{0}};
    tools[0].name = "weather";
    tools[0].description = "The weather \"now\" in a city: \xC3\xA9t\xC3\xA9";
    tools[0].parameters = WEATHER;
    tools[0].strict = true;
    tools[1].name = "clock";

    llmgw_request q = {0};
    q.prompt = "line one\nline \"two\" \xF0\x9F\xA6\x86";
    capture(provider, "least", q);

    q.system = "Be brief.";
    q.temperature = llmgw_set(0.0);
    q.max_tokens = 77;
    const char *stop[] = {"END", "\n\n"};
    q.stop = stop;
    q.stop_count = 2;
    q.user_id = "user-7";
    q.stream = true;
    if (strcmp(provider, "anthropic") != 0) {
        q.seed = llmgw_set(42);
        q.frequency_penalty = llmgw_set(0.5);
        q.presence_penalty = llmgw_set(-0.5);
        q.top_p = llmgw_set(0.9);
    } else {
        q.top_k = llmgw_set(40);
    }
    capture(provider, "settings", q);

    static const struct {
        const char *name;
        llmgw_tool_mode mode;
    } modes[] = {{"tools-auto", LLMGW_TOOLS_AUTO},
                 {"tools-none", LLMGW_TOOLS_NONE},
                 {"tools-required", LLMGW_TOOLS_REQUIRED},
                 {"tools-one", LLMGW_TOOLS_ONE}};
    for (int i = 0; i < 4; i++) {
        llmgw_request t = {0};
        t.prompt = "weather?";
        t.tools = tools;
        t.tool_count = 2;
        t.tool_mode = modes[i].mode;
        if (t.tool_mode == LLMGW_TOOLS_ONE) t.tool_name = "clock";
        t.serial_tools = i == 2 && strcmp(provider, "gemini") != 0;
        capture(provider, modes[i].name, t);
    }

    llmgw_request s = {0};
    s.prompt = "who?";
    s.schema = PERSON;
    s.schema_name = "person";
    capture(provider, "schema", s);

    static const struct {
        const char *name;
        llmgw_effort effort;
    } efforts[] = {{"effort-none", LLMGW_EFFORT_NONE},
                   {"effort-low", LLMGW_EFFORT_LOW},
                   {"effort-medium", LLMGW_EFFORT_MEDIUM},
                   {"effort-high", LLMGW_EFFORT_HIGH}};
    for (int i = 0; i < 4; i++) {
        llmgw_request e = {0};
        e.prompt = "think";
        e.effort = efforts[i].effort;
        e.max_tokens = 9000;
        capture(provider, efforts[i].name, e);
    }

    llmgw_part parts[4] = {{0}};
    parts[0].kind = LLMGW_PART_TEXT;
    parts[0].text = "see";
    parts[1].kind = LLMGW_PART_IMAGE;
    parts[1].data = PNG;
    parts[1].data_len = sizeof PNG;
    parts[2].kind = LLMGW_PART_IMAGE;
    parts[2].url = "https://example.com/a.png";
    parts[2].mime = "image/png";
    parts[3].kind = LLMGW_PART_FILE;
    parts[3].data = "%PDF-1.4";
    parts[3].data_len = 8;
    parts[3].name = "a.pdf";
    llmgw_message images = {0};
    images.parts = parts;
    images.part_count = 4;
    llmgw_request m = {0};
    m.messages = &images;
    m.message_count = 1;
    capture(provider, "images", m);

    /* a conversation written by hand, with a failed tool and two results in one turn */
    llmgw_part calls[3] = {{0}}, results[2] = {{0}};
    calls[0].kind = LLMGW_PART_TEXT;
    calls[0].text = "I look.";
    for (int i = 0; i < 2; i++) {
        calls[i + 1].kind = LLMGW_PART_TOOL_CALL;
        calls[i + 1].id = i ? "call_b" : "call_a";
        calls[i + 1].name = i ? "clock" : "weather";
        calls[i + 1].arguments = i ? NULL : "{\"city\":\"Paris\"}";
        results[i].kind = LLMGW_PART_TOOL_RESULT;
        results[i].id = calls[i + 1].id;
        results[i].name = calls[i + 1].name;
        results[i].text = i ? "{\"time\":\"noon\"}" : "no such city";
        results[i].is_error = !i;
    }
    llmgw_message turns[4] = {{0}};
    turns[0].text = "weather and time?";
    turns[1].role = LLMGW_ROLE_ASSISTANT;
    turns[1].parts = calls;
    turns[1].part_count = 3;
    turns[2].role = LLMGW_ROLE_TOOL;
    turns[2].parts = results;
    turns[2].part_count = 2;
    turns[3].text = "and then?";
    llmgw_request h = {0};
    h.messages = turns;
    h.message_count = 4;
    h.tools = tools;
    h.tool_count = 2;
    capture(provider, "history", h);
}

static void loop(const char *provider, const char *name) {
    const char *url = base_of(name);
    if (!url) return;
    llmgw_request q = {0};
    q.prompt = "first";
    q.stream = strstr(name, "stream") != NULL;
    llmgw_tool tool = {0};
    tool.name = "weather";
    tool.parameters = WEATHER;
    q.tools = &tool;
    q.tool_count = 1;
    llmgw_reply *r = call(provider, url, q);
    if (r->error.code) {
        printf("%s\t%s\t0\tfirst turn: %s\n", name, llmgw_code_name(r->error.code), r->error.text);
        llmgw_reply_free(r);
        return;
    }
    llmgw_part results[16] = {{0}};
    llmgw_message turns[3] = {{0}};
    turns[0].text = "first";
    turns[1] = r->message;
    turns[2].text = r->tool_call_count ? NULL : "go on";
    turns[2].role = r->tool_call_count ? LLMGW_ROLE_TOOL : LLMGW_ROLE_USER;
    for (size_t i = 0; i < r->tool_call_count && i < 16; i++) {
        results[i].kind = LLMGW_PART_TOOL_RESULT;
        results[i].id = r->tool_calls[i].id;
        results[i].name = r->tool_calls[i].name;
        results[i].text = "sunny";
        turns[2].parts = results;
        turns[2].part_count = i + 1;
    }
    llmgw_request again = {0};
    again.messages = turns;
    again.message_count = 3;
    again.tools = &tool;
    again.tool_count = 1;
    capture(provider, name, again);
    llmgw_reply_free(r);
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    port = argv[1];
    argc_ = argc;
    argv_ = argv;
    all("openai");
    all("anthropic");
    all("gemini");
    for (int i = 2; i < argc; i++) { /* NAME is loop-PROVIDER-anything */
        char provider[64], name[128];
        if (sscanf(argv[i], "%127[^=]", name) != 1 || sscanf(name, "loop-%63[a-z]", provider) != 1) return 2;
        loop(provider, name);
    }
    return 0;
}
