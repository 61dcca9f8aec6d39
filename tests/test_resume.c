/* Streams that are cut: at many bytes of an answer, in every dialect and by every vendor's way of going on. The
 * answer is whole in the end, the events say the same (law 10), and what was kept was not asked for again.
 *
 *   test_resume            every 29th byte
 *   test_resume --every    (or LLMGW_EVERY=1) every byte */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "testing.h"

#include <ctype.h>

enum { SCRIPT = 3000, BATCH = 16 };

static Provider provider;
static char *script;
static bool every;

static int group_start(void **state) {
    provider_start(&provider, NULL);
    script = provider_script(&provider, SCRIPT);
    return 0;
}
static int group_stop(void **state) {
    free(script);
    provider_stop(&provider);
    return 0;
}
static int reset(void **state) {
    provider_reset(&provider);
    return 0;
}

/* ---- a gateway that knows vendors ---- */

typedef struct Vendor {
    const char *name, *dialect, *path, *model;
    bool prefills; /* goes on from the assistant's text without another turn */
} Vendor;

static const Vendor vendors[] = {
    {"openai", "openai", "/v1", "gpt-4o-mini", false},
    {"anthropic", "anthropic", "", "claude-sonnet-4-5", true},
    {"gemini", "gemini", "/v1beta", "gemini-2.5-flash", false},
    {"anthropic", "anthropic", "", "claude-opus-4-6", false},
    {"mistral", "openai", "/mistral/v1", "mistral-small", true},
    {"deepseek", "openai", "/deepseek/beta", "deepseek-chat", true},
    {"qwen", "openai", "/qwen/v1", "qwen-plus", true},
    {"vllm", "openai", "/vllm/v1", "llama", true},
    {"llamacpp", "openai", "/llamacpp/v1", "llama", true},
    {"openrouter", "openai", "/openrouter/v1", "anthropic/claude-sonnet-4-5", true},
    {"groq", "openai", "/v1", "llama", false},
    {"responses", "responses", "/v1", "gpt-4o-mini", false},
    {"bedrock", "bedrock", "", "us.amazon.nova-micro-v1:0", false},
    {"bedrock", "bedrock", "", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", true},
    {"ollama", "ollama", "", "llama3", false},
    {"cohere", "cohere", "/v2", "command-a-03-2025", false},
};

/* One provider of each name; more: routes and numbers. */
static llmgw *open_vendors(const llmgw_options *more) {
    static char urls[COUNT_OF(vendors)][128];
    llmgw_provider all[COUNT_OF(vendors)];
    llmgw_options options = *more;
    llmgw_error error;
    size_t n = 0;
    for (size_t i = 0; i < COUNT_OF(vendors); i++) {
        const Vendor *v = &vendors[i];
        bool known = false;
        for (size_t k = 0; k < n; k++) known = known || !strcmp(all[k].name, v->name);
        if (known) continue;
        all[n] = t_provider(&provider, v->name, v->dialect, v->path, "sk-resume-0123456789", urls[n]);
        if (strcmp(v->dialect, "bedrock") == 0) all[n].region = "us-east-1";
        n++;
    }
    options.providers = all;
    options.provider_count = n;
    options.no_environment = true;
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) fail_msg("llmgw_open: %s", error.text);
    return gw;
}

static llmgw *open_calm(void) {
    llmgw_options options = t_calm();
    options.max_attempts = 10;
    return open_vendors(&options);
}

/* ---- what is watched in the events ---- */

typedef struct Watch {
    size_t shown;      /* bytes of text that were given and not taken back */
    size_t taken_back; /* the most that one REWIND took back */
    size_t least_keep; /* of a REWIND, SIZE_MAX: there was none */
    Text reasoning;    /* after all rewinds */
    bool sentences;    /* check whole_sentences */
    int partial, back; /* pieces that ended within a sentence; rewinds below what was shown */
    char where[80];    /* the end of the first such piece */
} Watch;

/* Ends of the script that are none of a sentence. */
static bool abbreviation(const char *text, size_t n) {
    static const char *const list[] = {"Dr.", "no.", "i.e.", "a.m.", "U.S.", "Prof.", "sec.", "cf.", "Fig."};
    for (size_t i = 0; i < COUNT_OF(list); i++) {
        size_t k = strlen(list[i]);
        if (n >= k && memcmp(text + n - k, list[i], k) == 0) return true;
    }
    return false;
}

static bool ends_in(const char *text, size_t n, const char *end) {
    size_t k = strlen(end);
    return n >= k && memcmp(text + n - k, end, k) == 0;
}

/* Is text[0..n) of the script up to the end of a sentence, or of a line? White space after it may be there. */
static bool sentence_end(const char *text, size_t n) {
    static const char *const ends[] = {
        ".", "!", "?", ".\"", "\xE3\x80\x82", "\xEF\xBC\x81", "\xEF\xBC\x9F", "\xE3\x80\x82\xE3\x80\x8D"};
    while (n && isspace((unsigned char)text[n - 1])) n--;
    if (!n || !text[n] || text[n] == '\n') return true;
    if (abbreviation(text, n)) return false;
    for (size_t i = 0; i < COUNT_OF(ends); i++)
        if (ends_in(text, n, ends[i])) return i >= 4 || isspace((unsigned char)text[n]);
    return false;
}

static void watch_text(Watch *watch, const Rec *rec) {
    watch->shown = rec->text.n;
    if (!watch->sentences || sentence_end(script, watch->shown)) return;
    size_t from = watch->shown > 40 ? watch->shown - 40 : 0;
    if (!watch->partial++)
        snprintf(watch->where, sizeof watch->where, "%.*s", (int)(watch->shown - from), script + from);
}

static void watch_rewind(Watch *watch, const llmgw_event *event) {
    if (event->keep < watch->shown) watch->back++;
    if (event->keep < watch->shown && watch->shown - event->keep > watch->taken_back)
        watch->taken_back = watch->shown - event->keep;
    if (event->keep < watch->least_keep) watch->least_keep = event->keep;
    if (event->keep < watch->shown) watch->shown = event->keep;
    if (event->keep_reasoning < watch->reasoning.n) watch->reasoning.n = event->keep_reasoning;
}

static void watch_event(Rec *rec, const llmgw_event *event) {
    Watch *watch = (Watch *)rec->arg;
    if (event->kind == LLMGW_EVENT_TEXT) watch_text(watch, rec);
    if (event->kind == LLMGW_EVENT_REWIND) watch_rewind(watch, event);
    if (event->kind == LLMGW_EVENT_REASONING)
        t_collect((char *)(uintptr_t)event->text, 1, event->text_len, &watch->reasoning);
}

static void watch_start(Watch *watch, Rec *rec) {
    memset(watch, 0, sizeof *watch);
    memset(rec, 0, sizeof *rec);
    watch->least_keep = SIZE_MAX;
    rec->hook = watch_event;
    rec->arg = watch;
}

/* ---- one call ---- */

static void expect_whole(const Rec *rec, const char *text, const char *what) {
    rec_check(rec);
    if (rec->reply->error.code)
        fail_msg("%s: %s: %s", what, llmgw_code_name(rec->reply->error.code), rec->reply->error.text);
    size_t n = strlen(text), same = 0;
    while (same < n && same < rec->reply->text_len && rec->reply->text[same] == text[same]) same++;
    if (same != n || rec->reply->text_len != n)
        fail_msg("%s: wrong from byte %zu of %zu (it has %zu): '%.60s'", what, same, n, rec->reply->text_len,
                 rec->reply->text + (same > 20 ? same - 20 : 0));
    assert_int_equal(rec->reply->finish, LLMGW_FINISH_STOP);
}

/* A stream with the prompt as the steering; checks the answer. Free rec. */
static const llmgw_reply *ask(llmgw *gw, Rec *rec, const char *model, const char *fault,
                              const llmgw_request *more) {
    char prompt[512];
    snprintf(prompt, sizeof prompt, "fault:{\"script\":%d,%s} Tell me all.", SCRIPT, fault);
    llmgw_request request = rec_request(rec, model, prompt, true);
    if (more) {
        request.whole_sentences = more->whole_sentences;
        request.max_resumes = more->max_resumes;
    }
    const llmgw_reply *reply = rec_chat(gw, rec, &request);
    expect_whole(rec, script, prompt);
    return reply;
}

static void done(Watch *watch, Rec *rec) {
    free(watch->reasoning.p);
    rec_free(rec);
}

/* ---- every byte ---- */

typedef struct Sweep {
    const char *model, *fault; /* fault: a format of the byte, without braces */
    int from, to, step;
    bool sentences;
    size_t taken_back; /* at most: a sentence */
} Sweep;

static void sweep_send(llmgw *gw, const Sweep *sweep, Watch *watch, Rec *rec, int at) {
    char prompt[512], fault[256];
    watch_start(watch, rec);
    watch->sentences = sweep->sentences;
    snprintf(fault, sizeof fault, sweep->fault, at);
    snprintf(prompt, sizeof prompt, "fault:{\"script\":%d,\"model_echo\":\"%d\",%s} Tell me all.", SCRIPT, at,
             fault);
    llmgw_request request = rec_request(rec, sweep->model, prompt, true);
    request.whole_sentences = sweep->sentences;
    rec_send(gw, rec, &request);
}

static void sweep_check(const Sweep *sweep, Watch *watch, Rec *rec, int at) {
    char what[160];
    snprintf(what, sizeof what, "%s cut at %d (%s)", sweep->model, at, sweep->fault);
    expect_whole(rec, script, what);
    if (rec->reply->attempts < 2 && at < SCRIPT - 40) fail_msg("%s: was not cut", what);
    if (watch->taken_back > sweep->taken_back)
        fail_msg("%s: %zu bytes were taken back", what, watch->taken_back);
    if (watch->partial) fail_msg("%s: shown within a sentence: ...%s", what, watch->where);
    if (sweep->sentences && watch->back) fail_msg("%s: a REWIND took back whole sentences", what);
    done(watch, rec);
}

static void sweep_run(llmgw *gw, const Sweep *sweep) {
    static Watch watches[BATCH];
    static Rec recs[BATCH];
    for (int at = sweep->from; at < sweep->to;) {
        int first = at, n = 0;
        for (; n < BATCH && at < sweep->to; n++, at += sweep->step)
            sweep_send(gw, sweep, &watches[n], &recs[n], at);
        assert_true(rec_drive(gw, recs, n, 30000));
        for (int i = 0; i < n; i++) sweep_check(sweep, &watches[i], &recs[i], first + i * sweep->step);
    }
}

static int step(int usual) { return every ? 1 : t_slow() ? usual * 8 : usual; }

/* The longest sentence of the script has fewer bytes. */
enum { SENTENCE = 160 };

static const char *vendor_model(const Vendor *v) {
    static char model[128];
    snprintf(model, sizeof model, "%s/%s", v->name, v->model);
    return model;
}

static void cut_at_any_byte(void **state) {
    llmgw *gw = open_calm();
    for (size_t i = 0; i < COUNT_OF(vendors); i++) {
        provider_reset(&provider); /* a cut belongs to its fault, whichever vendor it is */
        Sweep sweep = {vendor_model(&vendors[i]), "\"cut_at\":%d", 0,       SCRIPT,
                       step(i < 4 ? 29 : 29 * 7), false,           SENTENCE};
        sweep_run(gw, &sweep);
        int prefills = provider_count(&provider, "prefills"), turns = provider_count(&provider, "turns");
        if (vendors[i].prefills ? turns || !prefills : prefills || !turns)
            fail_msg("%s: %d prefills, %d turns", sweep.model, prefills, turns);
    }
    llmgw_close(gw);
}

/* Within an event, a line or a character. */
static void cut_at_any_byte_of_the_body(void **state) {
    llmgw *gw = open_calm();
    for (size_t i = 0; i < 4; i++) {
        provider_reset(&provider); /* a cut belongs to its fault, whichever vendor it is */
        Sweep sweep = {vendor_model(&vendors[i]),
                       "\"cut_body\":%d,\"chunk_chars\":31",
                       0,
                       6000,
                       step(83),
                       false,
                       SENTENCE};
        sweep_run(gw, &sweep);
    }
    llmgw_close(gw);
}

static void whole_sentences_never_take_one_back(void **state) {
    llmgw *gw = open_calm();
    for (size_t i = 0; i < 5; i++) {
        provider_reset(&provider); /* a cut belongs to its fault, whichever vendor it is */
        Sweep sweep = {
            vendor_model(&vendors[i]), "\"cut_at\":%d,\"chunk_chars\":3", 0, SCRIPT, step(61), true, 0};
        sweep_run(gw, &sweep);
    }
    llmgw_close(gw);
}

static void seams_are_not_said_twice(void **state) {
    llmgw *gw = open_calm();
    static const char *const faults[] = {"\"cut_at\":%d,\"seam\":20",
                                         "\"cut_at\":%d,\"seam\":150,\"chunk_chars\":2",
                                         "\"cut_at\":%d,\"seam\":4000"};
    static const size_t by_turn[] = {0, 2, 3}; /* a prefill is gone on from exactly */
    for (size_t i = 0; i < COUNT_OF(by_turn) * COUNT_OF(faults); i++) {
        provider_reset(&provider); /* a cut belongs to its fault, whichever vendor it is */
        Sweep sweep = {vendor_model(&vendors[by_turn[i / COUNT_OF(faults)]]),
                       faults[i % COUNT_OF(faults)],
                       0,
                       SCRIPT - 700,
                       step(97),
                       false,
                       SENTENCE};
        sweep_run(gw, &sweep);
    }
    llmgw_close(gw);
}

/* ---- cut again ---- */

static void cut_again_in_the_continuation(void **state) {
    llmgw *gw = open_calm();
    for (size_t i = 0; i < 4; i++) {
        Rec rec;
        Watch watch;
        watch_start(&watch, &rec);
        provider_reset(&provider);
        const llmgw_reply *reply =
            ask(gw, &rec, vendor_model(&vendors[i]), "\"cut_at\":700,\"cut_times\":3", NULL);
        assert_int_equal(reply->attempts, 4);
        assert_true(watch.taken_back <= SENTENCE);
        assert_true(watch.least_keep > 0);
        done(&watch, &rec);
    }
    llmgw_close(gw);
}

/* After max_resumes it starts again. */
static void resumes_are_counted(void **state) {
    llmgw *gw = open_calm();
    Rec rec;
    Watch watch;
    llmgw_request more = {.max_resumes = 1};
    watch_start(&watch, &rec);
    const llmgw_reply *reply = ask(gw, &rec, "openai/m", "\"cut_at\":700,\"cut_times\":2", &more);
    assert_int_equal(reply->attempts, 3);
    assert_int_equal(provider_count(&provider, "turns"), 1);
    assert_int_equal(watch.least_keep, 0);
    done(&watch, &rec);
    llmgw_close(gw);
}

static void resumes_can_be_off(void **state) {
    llmgw_options options = t_calm();
    Rec rec;
    Watch watch;
    for (int i = 0; i < 2; i++) {
        llmgw_request more = {.max_resumes = i ? 0 : LLMGW_OFF};
        options.max_resumes = i ? LLMGW_OFF : 0;
        llmgw *gw = open_vendors(&options);
        provider_reset(&provider);
        watch_start(&watch, &rec);
        const llmgw_reply *reply = ask(gw, &rec, "anthropic/claude-sonnet-4-5", "\"cut_at\":700", &more);
        assert_int_equal(reply->attempts, 2);
        assert_int_equal(rec.rewinds, 1);
        assert_int_equal(watch.least_keep, 0);
        assert_int_equal(provider_count(&provider, "prefills") + provider_count(&provider, "turns"), 0);
        done(&watch, &rec);
        llmgw_close(gw);
    }
}

/* Nothing is asked for twice: the second request pays for the rest only. */
static void both_attempts_are_accounted_for(void **state) {
    llmgw *gw = open_calm();
    Rec rec;
    Watch watch;
    watch_start(&watch, &rec);
    const llmgw_reply *reply = ask(gw, &rec, "openai/m", "\"cut_at\":2000", NULL);
    const llmgw_trace *lost = &reply->trace[0], *last = &reply->trace[reply->trace_count - 1];
    assert_int_equal(lost->kind, LLMGW_TRACE_ATTEMPT);
    assert_int_equal(lost->code, LLMGW_E_TRUNCATED);
    assert_true(lost->usage.known);
    assert_true(lost->usage.estimated); /* openai tells at the end only */
    assert_true(lost->usage.output > 2000 / 12 && lost->usage.output < 2000);
    assert_true(last->usage.known);
    assert_false(last->usage.estimated);
    assert_true(last->usage.output < (SCRIPT - 2000 + SENTENCE) / 4 + 10);
    done(&watch, &rec);
    llmgw_close(gw);
}

/* ---- reasoning and tools ---- */

#define THOUGHTS "First I look at it. Then I think about no. 2. At last I am sure of it."

static void expect_thoughts(const Watch *watch, const Rec *rec) {
    assert_string_equal(rec->reply->reasoning, THOUGHTS);
    assert_int_equal(watch->reasoning.n, strlen(THOUGHTS)); /* law 10, of the reasoning */
    assert_memory_equal(watch->reasoning.p, THOUGHTS, strlen(THOUGHTS));
}

static void cut_within_the_reasoning(void **state) {
    llmgw *gw = open_calm();
    for (size_t i = 0; i < 3; i++)
        for (int at = 0; at < (int)strlen(THOUGHTS); at += t_slow() ? 31 : 7) {
            Rec rec;
            Watch watch;
            char fault[200];
            watch_start(&watch, &rec);
            provider_reset(&provider); /* the cut belongs to the fault, not to the vendor */
            snprintf(fault, sizeof fault, "\"reasoning\":\"%s\",\"cut_reasoning\":%d", THOUGHTS, at);
            const llmgw_reply *reply = ask(gw, &rec, vendor_model(&vendors[i]), fault, NULL);
            assert_int_equal(reply->attempts, 2);
            assert_int_equal(provider_count(&provider, "prefills") + provider_count(&provider, "turns"), 0);
            expect_thoughts(&watch, &rec);
            done(&watch, &rec);
        }
    llmgw_close(gw);
}

/* The thoughts were whole: they are kept with the text. */
static void cut_after_the_reasoning(void **state) {
    llmgw *gw = open_calm();
    for (size_t i = 0; i < 3; i++) {
        Rec rec;
        Watch watch;
        watch_start(&watch, &rec);
        provider_reset(&provider);
        ask(gw, &rec, vendor_model(&vendors[i]), "\"reasoning\":\"" THOUGHTS "\",\"cut_at\":1500", NULL);
        expect_thoughts(&watch, &rec);
        assert_true(watch.taken_back <= SENTENCE);
        done(&watch, &rec);
    }
    llmgw_close(gw);
}

/* The text before a call is kept or not; the call is made anew, once. */
static void cut_within_a_tool_call(void **state) {
    static const char call[] = "\"script\":300,\"tool_calls\":[{\"name\":\"find\",\"arguments\":"
                               "{\"city\":\"K\xC3\xB6ln\",\"days\":[1,2,3]}}]";
    llmgw *gw = open_calm();
    char *text = provider_script(&provider, 300), prompt[400];
    for (int i = 0; i < 3; i++)
        for (int at = 0; at < 30; at += i == 2 ? 100 : 4) { /* gemini's calls come whole */
            Rec rec;
            Watch watch;
            watch_start(&watch, &rec);
            provider_reset(&provider);
            snprintf(prompt, sizeof prompt, "fault:{%s,\"cut_args\":%d}", call, at);
            llmgw_request request = rec_request(&rec, vendor_model(&vendors[i]), prompt, true);
            const llmgw_reply *reply = rec_chat(gw, &rec, &request);
            t_expect_code(reply, LLMGW_OK);
            assert_string_equal(reply->text, text);
            assert_int_equal(reply->attempts, 2);
            assert_int_equal(reply->finish, LLMGW_FINISH_TOOL);
            assert_int_equal(reply->tool_call_count, 1);
            assert_string_equal(reply->tool_calls[0].name, "find");
            json_t *args = json_loads(reply->tool_calls[0].arguments, 0, NULL);
            assert_int_equal(json_array_size(json_object_get(args, "days")), 3);
            json_decref(args);
            done(&watch, &rec);
        }
    free(text);
    llmgw_close(gw);
}

/* ---- another target, and one that refuses ---- */

static void another_target_goes_on(void **state) {
    for (size_t i = 0; i < 12; i++) {
        const Vendor *first = &vendors[i % 3], *second = &vendors[i / 3];
        char names[2][128];
        const char *targets[] = {names[0], names[1]};
        snprintf(names[0], sizeof names[0], "%s/first", first->name);
        snprintf(names[1], sizeof names[1], "%s/%s", second->name, second->model);
        llmgw_route route = {.name = "r", .targets = targets, .target_count = 2};
        llmgw_options options = t_calm();
        options.routes = &route;
        options.route_count = 1;
        provider_reset(&provider);
        provider_model_rule(&provider, "first", "\"script\":3000,\"cut_at\":1234,\"times\":1");
        provider_model_rule(&provider, "first", "\"status\":500");
        provider_model_rule(&provider, second->model, "\"script\":3000");
        llmgw *gw = open_vendors(&options);
        Rec rec;
        Watch watch;
        watch_start(&watch, &rec);
        llmgw_request request = rec_request(&rec, "r", "Tell me all.", true);
        const llmgw_reply *reply = rec_chat(gw, &rec, &request);
        expect_whole(&rec, script, names[1]);
        assert_string_equal(reply->model, second->model);
        assert_string_equal(reply->provider, second->name);
        assert_true(watch.taken_back <= SENTENCE);
        assert_int_equal(provider_count(&provider, second->prefills ? "prefills" : "turns"), 1);
        done(&watch, &rec);
        llmgw_close(gw);
    }
}

/* A model that cannot go on from its own text after all is asked by a turn. */
static void a_refused_prefill_becomes_a_turn(void **state) {
    llmgw *gw = open_calm();
    Rec rec;
    Watch watch;
    provider_model_rule(&provider, "claude-sonnet-4-5", "\"script\":3000,\"cut_at\":1234,\"times\":1");
    provider_model_rule(
        &provider, "claude-sonnet-4-5",
        "\"status\":400,\"times\":1,\"error_message\":\"This model does not support assistant "
        "message prefill. The conversation must end with a user message.\"");
    provider_model_rule(&provider, "claude-sonnet-4-5", "\"script\":3000");
    watch_start(&watch, &rec);
    llmgw_request request = rec_request(&rec, "anthropic/claude-sonnet-4-5", "Tell me all.", true);
    const llmgw_reply *reply = rec_chat(gw, &rec, &request);
    expect_whole(&rec, script, "the refused prefill");
    assert_int_equal(reply->attempts, 3);
    assert_int_equal(provider_count(&provider, "prefills"), 1);
    assert_int_equal(provider_count(&provider, "turns"), 1);
    assert_true(watch.least_keep > 0);
    done(&watch, &rec);
    llmgw_close(gw);
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(int argc, char **argv) {
    const char *all = getenv("LLMGW_EVERY");
    every = (all && *all) || (argc > 1 && !strcmp(argv[1], "--every"));
    const struct CMUnitTest tests[] = {
        TEST(cut_at_any_byte),
        TEST(cut_at_any_byte_of_the_body),
        TEST(whole_sentences_never_take_one_back),
        TEST(seams_are_not_said_twice),
        TEST(cut_again_in_the_continuation),
        TEST(resumes_are_counted),
        TEST(resumes_can_be_off),
        TEST(both_attempts_are_accounted_for),
        TEST(cut_within_the_reasoning),
        TEST(cut_after_the_reasoning),
        TEST(cut_within_a_tool_call),
        TEST(another_target_goes_on),
        TEST(a_refused_prefill_becomes_a_turn),
    };
    return cmocka_run_group_tests_name("resume", tests, group_start, group_stop);
}
