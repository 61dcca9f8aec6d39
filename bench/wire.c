/* wire.c - what the wire costs without a network: reading stream events, writing requests, reading long
   strings, splitting streams into events; beside cJSON and jansson. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <cjson/cJSON.h>
#include <jansson.h>
#include <malloc.h>

#include "bench.h"

/* 285 bytes: an openai chat chunk as it comes. */
static const char openai_event[] =
    "{\"id\":\"chatcmpl-BzJ4hK8mQ2vXw7RtYp3LdNfG\",\"object\":\"chat.completion.chunk\","
    "\"created\":1753000000,\"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\","
    "\"system_fingerprint\":\"fp_62a23a81ef\",\"choices\":[{\"index\":0,\"delta\":{\"content\":"
    "\" yesterday\"},\"logprobs\":null,\"finish_reason\":null}]}";
static const char anthropic_event[] = "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":"
                                      "\"text_delta\",\"text\":\" yesterday, all my troubles\"}}";
static const char anthropic_start[] =
    "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}";
static const char gemini_event[] =
    "{\"candidates\": [{\"content\": {\"parts\": [{\"text\": \" yesterday, all my troubles\"}],\"role\": "
    "\"model\"},\"index\": 0}],\"usageMetadata\": {\"promptTokenCount\": 12,\"candidatesTokenCount\": 7,"
    "\"totalTokenCount\": 19,\"promptTokensDetails\": [{\"modality\": \"TEXT\",\"tokenCount\": 12}]},"
    "\"modelVersion\": \"gemini-2.5-flash\",\"responseId\": \"u8J4aK2mQ2vXw7Rt\"}";

static volatile size_t sink;

static const llmgwi_base_mem plain_mem = {NULL, NULL};
static const llmgwi_dialect_target target = {"gpt-4o-mini", "openai", 0, NULL};

/* CPU time of one run of fn, in ns, over count runs. */
static double time_ns(void (*fn)(void), int count) {
    double start = bench_cpu_us();
    for (int i = 0; i < count; i++) fn();
    return (bench_cpu_us() - start) * 1000 / count;
}

static int rounds(void) { return bench_quick() ? 15 : 45; }

/* ---- events ---- */

#define EVENTS_AN_ANSWER 100

static bool (*event_fn)(llmgwi_dialect_answer *, llmgwi_base_str, llmgwi_base_str);
static const char *event_first, *event_text;
static size_t event_size;
static const char *event_name;

/* An answer of 100 events: made, filled, freed. The text is kept, as in a call. */
static void ours_answer(void) {
    llmgwi_dialect_answer answer;
    llmgwi_dialect_answer_init(&answer, &plain_mem, &target, 1 << 20, 128);
    llmgwi_base_str name = llmgwi_base_cstr(event_name), data = llmgwi_base_view(event_text, event_size);
    bool good = !event_first ||
                event_fn(&answer, llmgwi_base_cstr("content_block_start"), llmgwi_base_cstr(event_first));
    for (int i = 0; i < EVENTS_AN_ANSWER; i++) good = good && event_fn(&answer, name, data);
    if (!good || answer.text.n < EVENTS_AN_ANSWER * 10) bench_die("the event was not understood");
    sink += answer.text.n;
    llmgwi_dialect_answer_free(&answer);
}

static bool ours_delta(llmgwi_json *json) {
    llmgwi_base_str key;
    llmgwi_json_text text;
    if (!llmgwi_json_object(json)) return false;
    while (llmgwi_json_member(json, &key))
        if (llmgwi_base_is(key, "content") && llmgwi_json_string(json, &text)) sink += text.raw.n;
    return true;
}

/* The reader alone: finds the content and checks every byte. */
static void ours_read(void) {
    for (int i = 0; i < EVENTS_AN_ANSWER; i++) {
        llmgwi_json json;
        llmgwi_base_str key;
        size_t before = sink;
        llmgwi_json_init(&json, openai_event, sizeof openai_event - 1, 128);
        llmgwi_json_object(&json);
        while (llmgwi_json_member(&json, &key)) {
            if (!llmgwi_base_is(key, "choices") || !llmgwi_json_array(&json)) continue;
            while (llmgwi_json_item(&json)) {
                if (!llmgwi_json_object(&json)) continue;
                while (llmgwi_json_member(&json, &key))
                    if (llmgwi_base_is(key, "delta")) ours_delta(&json);
            }
        }
        if (sink == before || json.error) bench_die("the reader did not find the content");
    }
}

static void cjson_read(void) {
    for (int i = 0; i < EVENTS_AN_ANSWER; i++) {
        cJSON *root = cJSON_ParseWithLength(openai_event, sizeof openai_event - 1);
        const cJSON *choice = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(root, "choices"), 0);
        const cJSON *delta = cJSON_GetObjectItemCaseSensitive(choice, "delta");
        const char *content = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(delta, "content"));
        sink += strlen(content);
        cJSON_Delete(root);
    }
}

static void jansson_read(void) {
    for (int i = 0; i < EVENTS_AN_ANSWER; i++) {
        json_t *root = json_loadb(openai_event, sizeof openai_event - 1, 0, NULL);
        json_t *choice = json_array_get(json_object_get(root, "choices"), 0);
        json_t *content = json_object_get(json_object_get(choice, "delta"), "content");
        sink += json_string_length(content);
        json_decref(root);
    }
}

static void use_event(bool (*fn)(llmgwi_dialect_answer *, llmgwi_base_str, llmgwi_base_str), const char *name,
                      const char *first, const char *text) {
    event_fn = fn;
    event_name = name;
    event_first = first;
    event_text = text;
    event_size = strlen(text);
}

static void bench_events(void) {
    bench_pair cjson = {.count = 0}, jansson = {.count = 0}, cjson_only = {.count = 0},
               jansson_only = {.count = 0};
    int n = bench_quick() ? 60 : 150;
    use_event(llmgwi_dialect_openai_event, "", NULL, openai_event);
    for (int round = 0; round < rounds(); round++) {
        double ours = time_ns(ours_answer, n * 4) / EVENTS_AN_ANSWER;
        double c = time_ns(cjson_read, n) / EVENTS_AN_ANSWER;
        double read = time_ns(ours_read, n * 4) / EVENTS_AN_ANSWER;
        double j = time_ns(jansson_read, n / 2) / EVENTS_AN_ANSWER;
        bench_pair_add(&cjson, c, ours);
        bench_pair_add(&jansson, j, ours);
        bench_pair_add(&cjson_only, c, read);
        bench_pair_add(&jansson_only, j, read);
    }
    double ours = bench_median(cjson.b, cjson.count), read = bench_median(cjson_only.b, cjson.count);
    double c = bench_median(cjson.a, cjson.count), j = bench_median(jansson.a, cjson.count);
    const char *why =
        "24 tokens, each begins where the one before it ended: about 6 ns a token of waiting; more "
        "inlining gains a tenth and costs 20 to 40 KB of machine code";
    bench_row("stream event read, cJSON's time over ours", bench_ratio(&cjson), "x", ">= 4", why,
              "285-byte openai chunk checked, its text appended to the answer (100 an answer): ours %.0f ns; "
              "cJSON parse, get, delete: %.0f ns",
              ours, c);
    bench_row("stream event read, jansson's time over ours", bench_ratio(&jansson), "x", ">= 20", why,
              "the same; jansson load, get, decref: %.0f ns", j);
    bench_row("stream event, JSON reader only, cJSON's time over ours", bench_ratio(&cjson_only), "x", "",
              NULL, "content found, every byte checked, nothing kept: ours %.0f ns", read);
    bench_row("stream event, JSON reader only, jansson's time over ours", bench_ratio(&jansson_only), "x", "",
              NULL, "the same");
    bench_row("stream event read, openai", ours, "ns", "", NULL, "%d bytes", (int)event_size);
    double a[BENCH_ROUNDS], g[BENCH_ROUNDS];
    int count = rounds();
    for (int round = 0; round < count; round++) {
        use_event(llmgwi_dialect_anthropic_event, "content_block_delta", anthropic_start, anthropic_event);
        a[round] = time_ns(ours_answer, n * 2) / EVENTS_AN_ANSWER;
        use_event(llmgwi_dialect_gemini_event, "", NULL, gemini_event);
        g[round] = time_ns(ours_answer, n * 2) / EVENTS_AN_ANSWER;
    }
    bench_row("stream event read, anthropic", bench_median(a, count), "ns", "", NULL, "%d bytes",
              (int)sizeof anthropic_event - 1);
    bench_row("stream event read, gemini", bench_median(g, count), "ns", "", NULL, "%d bytes",
              (int)sizeof gemini_event - 1);
}

/* ---- a 100 KB prompt written ---- */

#define PROMPT_BYTES 102400

static char prompt_area[PROMPT_BYTES + 4096 + 1], *prompt;
static size_t written;

/* Repeats text until the prompt is full, cut at a character. Each round stands at another place of its page:
   a copy between places whose low 12 bits agree is slower, which is luck and not ours. */
static void fill_prompt(const char *text, int round) {
    size_t n = strlen(text), at = 0;
    prompt = prompt_area + round * 592 % 4096;
    while (at < PROMPT_BYTES) {
        size_t take = n < PROMPT_BYTES - at ? n : PROMPT_BYTES - at;
        memcpy(prompt + at, text, take);
        at += take;
    }
    while (((unsigned char)prompt[at - 1] & 0xC0) == 0x80) at--;
    if ((unsigned char)prompt[at - 1] >= 0xC0) at--;
    prompt[at] = 0;
}

/* As the engine does it: a fresh buffer each time. */
static void ours_write(void) {
    llmgw_request request;
    llmgw_error error;
    llmgwi_base_buf body;
    memset(&request, 0, sizeof request);
    memset(&error, 0, sizeof error);
    request.model = "openai/gpt-4o-mini";
    request.prompt = prompt;
    llmgwi_base_buf_init(&body, &plain_mem, 64 << 20);
    if (!llmgwi_dialect_write(llmgwi_dialect_find("openai"), &target, &request, NULL, &body, &error))
        bench_die(error.text);
    written = body.n;
    llmgwi_base_buf_free(&body);
}

static void cjson_write(void) {
    cJSON *root = cJSON_CreateObject(), *messages = cJSON_AddArrayToObject(root, "messages");
    cJSON *message = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "model", "gpt-4o-mini");
    cJSON_AddItemToArray(messages, message);
    cJSON_AddStringToObject(message, "role", "user");
    cJSON_AddStringToObject(message, "content", prompt);
    char *text = cJSON_PrintUnformatted(root);
    sink += (unsigned char)text[100];
    free(text);
    cJSON_Delete(root);
}

static void jansson_write(void) {
    json_t *root = json_pack("{s:s, s:[{s:s, s:s}]}", "model", "gpt-4o-mini", "messages", "role", "user",
                             "content", prompt);
    char *text = json_dumps(root, JSON_COMPACT);
    sink += (unsigned char)text[100];
    free(text);
    json_decref(root);
}

static void bench_write(const char *what, const char *text, const char *bar) {
    bench_pair cjson = {.count = 0}, jansson = {.count = 0};
    char metric[128];
    int n = bench_quick() ? 8 : 20;
    for (int round = 0; round < rounds(); round++) {
        fill_prompt(text, round);
        double ours = time_ns(ours_write, n * 8);
        double c = time_ns(cjson_write, n);
        double j = time_ns(jansson_write, n / 4);
        bench_pair_add(&cjson, c, ours);
        bench_pair_add(&jansson, j, ours);
    }
    double ours = bench_median(cjson.b, cjson.count);
    snprintf(metric, sizeof metric, "100 KB prompt checked and written%s, cJSON's time over ours", what);
    bench_row(
        metric, bench_ratio(&cjson), "x", bar, NULL,
        "openai request of %zu bytes, memory included: ours %.1f us, cJSON (which checks nothing) %.1f us",
        written, ours / 1000, bench_median(cjson.a, cjson.count) / 1000);
    snprintf(metric, sizeof metric, "100 KB prompt checked and written%s, jansson's time over ours", what);
    bench_row(metric, bench_ratio(&jansson), "x", "", NULL, "jansson %.1f us",
              bench_median(jansson.a, jansson.count) / 1000);
}

/* ---- a 100 KB string read ---- */

static char *document;
static size_t document_size;

static void ours_string(void) {
    llmgwi_json json;
    llmgwi_base_str key;
    llmgwi_json_text text;
    llmgwi_base_buf buf;
    llmgwi_base_buf_init(&buf, &plain_mem, 1 << 20);
    llmgwi_json_init(&json, document, document_size, 128);
    llmgwi_json_object(&json);
    while (llmgwi_json_member(&json, &key))
        if (llmgwi_json_string(&json, &text) && !llmgwi_json_unescape(text, &buf)) bench_die("memory");
    if (json.error || buf.n < PROMPT_BYTES - 4) bench_die("the string was not read");
    llmgwi_base_buf_free(&buf);
}

static void cjson_string(void) {
    cJSON *root = cJSON_ParseWithLength(document, document_size);
    sink += (unsigned char)cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "content"))[9];
    cJSON_Delete(root);
}

static void jansson_string(void) {
    json_t *root = json_loadb(document, document_size, 0, NULL);
    sink += json_string_length(json_object_get(root, "content"));
    json_decref(root);
}

static void bench_string(const char *what, const char *text) {
    bench_pair cjson = {.count = 0}, jansson = {.count = 0};
    char metric[128];
    int n = bench_quick() ? 8 : 20;
    fill_prompt(text, 0);
    json_t *root = json_pack("{s:s}", "content", prompt);
    document = json_dumps(root, JSON_COMPACT);
    document_size = strlen(document);
    json_decref(root);
    for (int round = 0; round < rounds(); round++) {
        double ours = time_ns(ours_string, n * 6);
        bench_pair_add(&cjson, time_ns(cjson_string, n), ours);
        bench_pair_add(&jansson, time_ns(jansson_string, n / 5), ours);
    }
    free(document);
    snprintf(metric, sizeof metric, "100 KB string read%s, cJSON's time over ours", what);
    bench_row(metric, bench_ratio(&cjson), "x", "", NULL,
              "checked and decoded into memory of its own: ours %.1f us, cJSON %.1f us",
              bench_median(cjson.b, cjson.count) / 1000, bench_median(cjson.a, cjson.count) / 1000);
    snprintf(metric, sizeof metric, "100 KB string read%s, jansson's time over ours", what);
    bench_row(metric, bench_ratio(&jansson), "x", "", NULL, "jansson %.1f us",
              bench_median(jansson.a, jansson.count) / 1000);
}

/* ---- frames ---- */

#define STREAM_EVENTS 1000

static char *stream;
static size_t stream_size, piece_size;
static int events_seen;

static bool on_frame(void *user, llmgwi_base_str name, llmgwi_base_str data) {
    (void)user, (void)name;
    events_seen++;
    sink += data.n;
    return true;
}

static void split_stream(void) {
    llmgwi_frame frame;
    llmgwi_frame_init(&frame, &plain_mem, 1 << 20, on_frame, NULL);
    events_seen = 0;
    for (size_t at = 0; at < stream_size; at += piece_size)
        llmgwi_frame_feed(&frame, stream + at, piece_size < stream_size - at ? piece_size : stream_size - at);
    if (events_seen != STREAM_EVENTS) bench_die("the stream was not split as it should be");
    llmgwi_frame_free(&frame);
}

static void bench_frames(void) {
    static const size_t sizes[] = {16384, 1460, 100};
    char metric[128];
    stream = (char *)malloc(STREAM_EVENTS * (sizeof openai_event + 16));
    for (int i = 0; i < STREAM_EVENTS; i++)
        stream_size += (size_t)sprintf(stream + stream_size, "data: %s\n\n", openai_event);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        double ns[BENCH_ROUNDS];
        int count = rounds();
        piece_size = sizes[s];
        for (int round = 0; round < count; round++) ns[round] = time_ns(split_stream, 20);
        double median = bench_median(ns, count);
        snprintf(metric, sizeof metric, "frame splitting, pieces of %zu bytes, MB/s", piece_size);
        bench_row(metric, (double)stream_size / median * 1000, "MB/s", "", NULL,
                  "openai events of 293 bytes, %.0f ns each", median / STREAM_EVENTS);
    }
    free(stream);
}

int main(void) {
    static const char prose[] =
        "The gateway takes a request, finds out which provider shall answer it, and writes it in the\n"
        "provider's own words. \"Fast\" means: what it adds to a call should not be noticed, and what it\n"
        "keeps of a stream should be small. There are three ways to drive it, and they may be mixed.\n\n";
    static const char ascii[] =
        "The gateway takes a request, finds out which provider shall answer it, and writes it in the "
        "provider's own words. Fast means: what it adds to a call should not be noticed, and what it keeps "
        "of a stream should be small. There are three ways to drive it, and they may be mixed. ";
    static const char foreign[] =
        "Das Gateway nimmt eine Anfrage entgegen und \xC3\xBC"
        "bersetzt sie f\xC3\xBCr den Anbieter, der sie beantworten soll; "
        "\xE7\xBD\x91\xE5\x85\xB3\xE6\x8E\xA5\xE6\x94\xB6\xE8\xAF\xB7\xE6\xB1\x82\xEF\xBC\x8C"
        "\xE5\xB9\xB6\xE8\xBD\xAC\xE5\x8F\x91\xE7\xBB\x99\xE6\x8F\x90\xE4\xBE\x9B\xE5\x95\x86\xE3\x80\x82\n";
    mallopt(M_MMAP_THRESHOLD, 64 << 20); /* for all alike: no page faults in the figures */
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    bench_events();
    bench_write("", prose, ">= 8");
    bench_write(" (one line of ASCII)", ascii, "");
    bench_write(" (German and Chinese)", foreign, "");
    bench_string("", prose);
    bench_string(" (one line of ASCII)", ascii);
    bench_frames();
    return 0;
}
