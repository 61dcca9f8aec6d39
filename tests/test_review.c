/* What a reviewer of the engine found, each as a test: the engine over a network and a clock that the test
 * holds in its hand. Nothing happens by itself: a test answers transfers, moves the clock, polls. */
#include "unit.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- a network by hand ---- */

#define NET_MAX 4096

typedef struct Wire {
    bool open, sent, told, over; /* what is still to be told: told: bytes, over: the end */
    char key[64], body[4096];
    const llmgwi_http_events *events;
    void *user;
    int status;
    llmgw_code code;
    char bytes[8192];
    const char *header, *value; /* NULL: none */
} Wire;

typedef struct Net {
    int64_t now;
    int active, max, count;
    Wire wires[NET_MAX];
    int most; /* transfers open at the same time with one key */
    bool inside;
    bool slow; /* connections take until the first answer */
} Net;

static Net net;

static bool net_room(void *self, size_t more) { return net.active + (int)more < net.max; }

static void *net_start(void *self, const llmgwi_http_request *request) {
    assert_true(net.count < NET_MAX);
    Wire *wire = &net.wires[net.count++];
    memset(wire, 0, sizeof *wire);
    wire->open = true;
    snprintf(wire->key, sizeof wire->key, "%s", (const char *)request->headers);
    snprintf(wire->body, sizeof wire->body, "%.*s", (int)request->body_len, request->body);
    wire->events = request->events;
    wire->user = request->user;
    net.active++;
    int same = 0;
    for (int i = 0; i < net.count; i++) same += net.wires[i].open && !strcmp(net.wires[i].key, wire->key);
    if (same > net.most) net.most = same;
    return wire;
}

static void net_close(Wire *wire) {
    assert_true(wire->open);
    wire->open = false;
    net.active--;
}

static void net_cancel(void *self, void *transfer) {
    assert_false(net.inside);
    net_close((Wire *)transfer);
}
static void net_resume(void *self, void *transfer) {}
static int64_t net_next_us(void *self) { return LLMGWI_BASE_NEVER; }

static void net_tell(Wire *wire) {
    bool told = wire->told || wire->over;
    if (!wire->sent && (told || !net.slow) && wire->code != LLMGW_E_NETWORK) {
        wire->sent = true;
        if (!wire->events->sent(wire->user)) wire->over = true, wire->code = LLMGW_E_NETWORK;
        if (wire->header && wire->code != LLMGW_E_NETWORK)
            wire->events->header(wire->user, llmgwi_base_cstr(wire->header), llmgwi_base_cstr(wire->value));
    }
    if (wire->told && wire->code != LLMGW_E_NETWORK)
        (void)wire->events->body(wire->user, wire->status, wire->bytes, strlen(wire->bytes));
    wire->told = false;
    if (!wire->over) return;
    llmgwi_http_result result;
    memset(&result, 0, sizeof result);
    result.code = wire->code;
    result.status = wire->status;
    result.version = wire->status ? 11 : 0;
    snprintf(result.text, sizeof result.text, "by hand");
    net_close(wire);
    wire->events->done(wire->user, &result);
}

static void net_poll(void *self, int timeout_ms) {
    net.inside = true;
    for (int i = 0; i < net.count; i++)
        if (net.wires[i].open) net_tell(&net.wires[i]);
    net.inside = false;
}

static void net_wake(void *self) {}
static int net_fd(void *self) { return -1; }
static void net_arm(void *self, int64_t at_us) {}
static void net_notice(void *self, bool on) {}
static bool net_warm(void *self, const llmgwi_http_request *request) { return true; }
static void *net_headers_make(void *self, const char *const *lines, size_t count) { return strdup(lines[0]); }
static void net_headers_free(void *self, void *headers) { free(headers); }
static void net_shut(void *self, bool forked) { assert_int_equal(net.active, 0); }

static int64_t net_now(void *user) { return net.now; }
static int64_t net_wall(void *user) { return 1795000000; }
static uint64_t net_random(void *user) { return 0x8000000000000001u; }

static llmgw *open_on(const llmgw_options *options) {
    static const llmgwi_http table = {&net,        net_room, net_start,        net_cancel,       net_resume,
                                      net_next_us, net_poll, net_wake,         net_fd,           net_arm,
                                      net_notice,  net_warm, net_headers_make, net_headers_free, net_shut};
    static const llmgwi_base_clock clock = {net_now, net_wall, net_random, NULL};
    llmgw_error error;
    llmgw_options own = *options;
    own.no_environment = true;
    memset(&net, 0, sizeof net);
    net.now = 1000000000;
    net.max = NET_MAX;
    llmgw *gw = llmgwi_public_open(&own, &error, &table, &clock);
    if (!gw) fail_msg("open: %s", error.text);
    return gw;
}

/* A gateway of a configuration's text; ' stands for ". */
static llmgw *open_text(const char *json) {
    llmgw_options options;
    memset(&options, 0, sizeof options);
    options.config_json = unit_quoted(json);
    return open_on(&options);
}

/* Ends transfer i (from 0, as they were started). */
static void answer(int i, int status, const char *bytes) {
    Wire *wire = &net.wires[i];
    if (i >= net.count || !wire->open) fail_msg("transfer %d of %d is not open", i, net.count);
    wire->status = status;
    snprintf(wire->bytes, sizeof wire->bytes, "%s", unit_quoted(bytes));
    wire->told = wire->over = true;
}

/* More of a stream. */
static void more(int i, const char *bytes) {
    answer(i, 200, bytes);
    net.wires[i].over = false;
}

static void cut(int i) {
    net.wires[i].over = true;
    net.wires[i].code = LLMGW_E_TRUNCATED;
}

#define HELLO                                                                                                \
    "{'id':'c','model':'m','choices':[{'index':0,'message':{'role':'assistant','content':'hello'},"          \
    "'finish_reason':'stop'}],'usage':{'prompt_tokens':1,'completion_tokens':2,'total_tokens':3}}"
#define LIMITED "{'error':{'message':'slow down','type':'rate_limit','code':'rate_limit_exceeded'}}"
#define BROKEN "{'error':{'message':'oops','type':'server_error'}}"
#define DELTA(json) "data: {'id':'c','model':'m','choices':[{'index':0,'delta':{" json "}}]}\n\n"
#define LAST                                                                                                 \
    "data: {'id':'c','model':'m','choices':[{'index':0,'delta':{},'finish_reason':'stop'}]}\n\n"             \
    "data: [DONE]\n\n"
#define P(name, more)                                                                                        \
    "'" name "':{'dialect':'openai','url':'https://" name ".example/v1','key':'k-" name "'" more "}"

/* ---- calls ---- */

typedef struct Seen {
    int ends, rewinds;
    char text[8192];
    size_t n;
    bool beyond; /* a REWIND kept more than there was */
    llmgw_reply *reply;
} Seen;

static void see(const llmgw_event *event, void *user) {
    Seen *seen = (Seen *)user;
    if (event->kind == LLMGW_EVENT_TEXT) {
        memcpy(seen->text + seen->n, event->text, event->text_len);
        seen->n += event->text_len;
    }
    if (event->kind == LLMGW_EVENT_REWIND) {
        seen->rewinds++;
        if (event->keep > seen->n) seen->beyond = true;
        seen->n = event->keep;
    }
    seen->text[seen->n] = 0;
    if (event->kind == LLMGW_EVENT_END) seen->reply = llmgw_reply_keep(event->reply);
    if (event->kind == LLMGW_EVENT_END) seen->ends++;
}

static llmgw_request ask_of(Seen *seen, const char *model) {
    llmgw_request request;
    memset(&request, 0, sizeof request);
    memset(seen, 0, sizeof *seen);
    request.model = model;
    request.prompt = "please";
    request.on_event = see;
    request.user = seen;
    return request;
}

static llmgw_call send_it(llmgw *gw, const llmgw_request *request) {
    llmgw_error error;
    llmgw_call call = llmgw_send(gw, request, &error);
    if (!call) fail_msg("send: %s", error.text);
    return call;
}

static llmgw_call send_to(llmgw *gw, Seen *seen, const char *model) {
    llmgw_request request = ask_of(seen, model);
    return send_it(gw, &request);
}

static void turn(llmgw *gw) {
    for (int i = 0; i < 6; i++) (void)llmgw_poll(gw, 0);
}

/* The clock moves on, in steps. */
static void pass_ms(llmgw *gw, int64_t ms) {
    int64_t step = ms / 20 > 1 ? ms / 20 : 1;
    for (int64_t at = 0; at < ms; at += step) {
        net.now += step * 1000;
        turn(gw);
    }
}

static void drop(Seen *seen) {
    llmgw_reply_free(seen->reply);
    seen->reply = NULL;
}

/* ---- several keys ---- */

/* A 429 that does not say when to come back: the other key is asked at once, and when that is over its limit
   too, there is a pause. */
static void a_key_that_was_limited_is_not_asked_again_at_once(void **state) {
    Seen seen;
    llmgw *gw = open_text("{'providers':{'p':{'dialect':'openai','url':'https://p.example/v1',"
                          "'keys':['k-one','k-two']}},'max_attempts':6}");
    (void)send_to(gw, &seen, "p/m");
    turn(gw);
    assert_int_equal(net.count, 1);
    for (int i = 0; i < 2 && net.count > i; i++) {
        answer(i, 429, LIMITED);
        turn(gw);
    }
    int second = net.count; /* no time has passed */
    bool other = net.count > 1 && strcmp(net.wires[0].key, net.wires[1].key) != 0;
    llmgw_close(gw);
    drop(&seen);
    assert_true(other);
    assert_int_equal(second, 2);
}

/* ---- out of memory ---- */

static int fail_size; /* an allocation that grows to this size fails */
static void *fail_alloc(void *ptr, size_t old_size, size_t new_size, void *user) {
    if (fail_size && new_size == (size_t)fail_size) return NULL;
    if (new_size == 0) {
        free(ptr);
        return NULL;
    }
    return realloc(ptr, new_size);
}

static void a_call_without_memory_for_its_timer_harms_no_other(void **state) {
    Seen seen;
    llmgw_options options;
    memset(&options, 0, sizeof options);
    options.config_json = unit_quoted("{'providers':{" P("p", "") "}}");
    options.alloc = fail_alloc;
    llmgw *gw = open_on(&options);
    (void)send_to(gw, &seen, "p/m");
    fail_size = 4 * sizeof(void *); /* the heap of timers, when it is made */
    turn(gw);
    fail_size = 0;
    assert_int_equal(seen.ends, 1);
    drop(&seen);
    size_t need = gw->heap_need;
    (void)send_to(gw, &seen, "p/m");
    turn(gw);
    if (net.count) answer(0, 200, HELLO);
    turn(gw);
    llmgw_code code = seen.reply ? seen.reply->error.code : LLMGW_E_INTERNAL;
    llmgw_close(gw);
    drop(&seen);
    assert_int_equal(need, 0);
    assert_int_equal(code, LLMGW_OK);
}

/* The same for a line of waiting calls: a timer that got no room must not be set. */
static void a_line_without_memory_for_its_timer_gets_it_later(void **state) {
    static Seen seen[8];
    llmgw_options options;
    memset(&options, 0, sizeof options);
    options.config_json = unit_quoted("{'providers':{" P("p", ",'rpm':2") "}}");
    options.alloc = fail_alloc;
    llmgw *gw = open_on(&options);
    (void)send_to(gw, &seen[0], "p/m");
    (void)send_to(gw, &seen[1], "p/m");
    turn(gw); /* four timers: two calls, two attempts */
    assert_int_equal(gw->heap_need, 4);
    fail_size = 8 * sizeof(void *);
    llmgwi_engine_line *line = &gw->targets[0]->line;
    assert_false(llmgwi_engine_timer_init(gw, &line->timer, llmgwi_engine_fire_line, line));
    bool set = line->timer.fire != NULL;
    line->timer.fire = NULL;
    fail_size = 0;
    llmgw_close(gw);
    drop(&seen[0]);
    drop(&seen[1]);
    assert_false(set); /* join_line would take it as ready and write beyond the heap */
}

/* ---- law 10 ---- */

static void expect_law_10(Seen *seen) {
    assert_int_equal(seen->ends, 1);
    if (seen->beyond || seen->n != seen->reply->text_len || memcmp(seen->text, seen->reply->text, seen->n))
        fail_msg("law 10%s: events '%s' (%zu), reply '%s' (%zu)",
                 seen->beyond ? ", keep beyond the text" : "", seen->text, seen->n, seen->reply->text,
                 seen->reply->text_len);
}

/* whole_sentences: text after a tool call that is not a whole sentence was not shown, so it is not kept. */
static void nothing_is_kept_that_was_not_shown(void **state) {
    Seen seen;
    llmgw *gw = open_text("{'providers':{" P("p", "") "}, 'backoff_ms':1}");
    llmgw_request request = ask_of(&seen, "p/m");
    request.stream = request.whole_sentences = true;
    (void)send_it(gw, &request);
    turn(gw);
    more(0, DELTA("'content':'Here is one whole sentence for you. And one more, quite long. '")
                DELTA("'tool_calls':[{'index':0,'id':'t','type':'function','function':{'name':'f',"
                      "'arguments':'{}'}}]") DELTA("'content':'Then text that is not a sentence yet'"));
    turn(gw);
    cut(0);
    turn(gw);
    pass_ms(gw, 20);
    assert_int_equal(net.count, 2);
    bool clean = strstr(net.wires[1].body, "not a sentence yet") == NULL;
    more(1, DELTA("'content':' The end of it all has come now, dear reader.'") LAST);
    net.wires[1].over = true;
    turn(gw);
    llmgw_close(gw);
    expect_law_10(&seen);
    drop(&seen);
    assert_true(clean);
}

/* A stream that was shown and cut within its third sentence, and asked for again. */
static llmgw *cut_once(Seen *seen) {
    llmgw *gw = open_text("{'providers':{" P("p", "") "}, 'backoff_ms':1}");
    llmgw_request request = ask_of(seen, "p/m");
    request.stream = true;
    (void)send_it(gw, &request);
    turn(gw);
    more(0, DELTA("'content':'Hello, this is one. Two is here. Th'"));
    turn(gw);
    cut(0);
    turn(gw);
    pass_ms(gw, 20);
    return gw;
}

/* A resumed stream that reasons first is shown; then it repeats what was kept, and is cut before the seam is
   clear: what it repeated was not shown either. */
static void a_cut_within_the_seam_keeps_what_was_shown(void **state) {
    Seen seen;
    llmgw *gw = cut_once(&seen);
    assert_int_equal(net.count, 2);
    more(1, DELTA("'reasoning_content':'I should go on where I stopped, says the user.'")
                DELTA("'content':'Hello, this is one. Two is'"));
    turn(gw);
    cut(1);
    turn(gw);
    pass_ms(gw, 50);
    assert_int_equal(net.count, 3);
    more(2, DELTA("'content':' Three is the end of the whole answer.'") LAST);
    net.wires[2].over = true;
    turn(gw);
    llmgw_close(gw);
    expect_law_10(&seen);
    drop(&seen);
}

/* The same a little earlier: what was whole and shown is not taken back, and the space after it is not lost. */
static void a_cut_within_the_seam_takes_nothing_back(void **state) {
    Seen seen;
    llmgw *gw = cut_once(&seen);
    more(1, DELTA("'reasoning_content':'I should go on where I stopped, says the user.'")
                DELTA("'content':'Hello, this is'"));
    turn(gw);
    cut(1);
    turn(gw);
    pass_ms(gw, 50);
    assert_int_equal(net.count, 3);
    size_t kept = seen.n;
    more(2, DELTA("'content':'Three is the end of the whole answer.'") LAST);
    net.wires[2].over = true;
    turn(gw);
    llmgw_close(gw);
    expect_law_10(&seen);
    drop(&seen);
    assert_int_equal(kept, strlen("Hello, this is one. Two is here."));
    assert_string_equal(seen.text, "Hello, this is one. Two is here. Three is the end of the whole answer.");
}

/* Nobody listens to the stream: only its reply is wanted. */
static void a_stream_without_on_event_is_no_crash(void **state) {
    for (int early = 0; early < 2; early++) {
        pid_t child = fork();
        if (child == 0) {
            llmgw *gw = open_text("{'providers':{" P("p", "") "}}");
            llmgw_request request;
            memset(&request, 0, sizeof request);
            request.model = "p/m";
            request.prompt = "x";
            request.stream = true;
            (void)send_it(gw, &request);
            turn(gw);
            more(0, DELTA("'content':'One sentence that is long enough to be shown. '"));
            if (early) turn(gw); /* shown before its end */
            more(0, early ? LAST : DELTA("'content':'One sentence that is long enough. '") LAST);
            net.wires[0].over = true;
            turn(gw);
            size_t left = llmgw_pending(gw);
            llmgw_close(gw);
            _exit(left ? 1 : 0);
        }
        int status = -1;
        waitpid(child, &status, 0);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

/* ---- breaker ---- */

/* Long answers are no failures: forty short ones of 0.3 s, then five of 8 s, all good. */
static void long_answers_do_not_open_the_breaker(void **state) {
    Seen seen;
    llmgw_target target;
    llmgw *gw = open_text("{'providers':{" P("p", "") "}}");
    for (int i = 0; i < 45; i++) {
        (void)send_to(gw, &seen, "p/m");
        turn(gw);
        pass_ms(gw, i < 40 ? 300 : 8000);
        answer(i, 200, HELLO);
        turn(gw);
        assert_int_equal(seen.reply->error.code, LLMGW_OK);
        drop(&seen);
    }
    assert_int_equal(llmgw_targets(gw, &target, 1), 1);
    llmgw_close(gw);
    assert_int_equal(target.failures, 0);
    assert_int_equal(target.breaker, LLMGW_BREAKER_CLOSED);
}

/* ---- the caller's own check ---- */

static bool checks_with_a_call(const llmgw_reply *reply, void *user) {
    llmgw_reply *judge = llmgw_ask(*(llmgw **)user, "p/m", "is it good?");
    bool good = judge->error.code == LLMGW_E_MISUSE;
    llmgw_reply_free(judge);
    return good;
}

/* Whoever drives cannot wait for whoever drives. */
static void a_blocking_call_in_is_valid_is_refused(void **state) {
    pid_t child = fork();
    if (child == 0) {
        llmgw *gw = open_text("{'providers':{" P("p", "") "}}");
        llmgw_request request;
        memset(&request, 0, sizeof request);
        request.model = "p/m";
        request.prompt = "x";
        request.is_valid = checks_with_a_call;
        request.user = &gw;
        (void)send_it(gw, &request);
        turn(gw);
        answer(0, 200, HELLO);
        turn(gw);
        _exit(0);
    }
    int status = -1, waited = 0;
    struct timespec pause = {0, 10000000};
    while (waited++ < 60 && waitpid(child, &status, WNOHANG) == 0) nanosleep(&pause, NULL);
    if (waited > 60) {
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
    }
    assert_true(WIFEXITED(status)); /* else it hung */
    assert_int_equal(WEXITSTATUS(status), 0);
}

static bool keeps(const llmgw_reply *reply, void *user) {
    for (int i = 0; i < 3; i++) llmgw_reply_keep(reply);
    for (int i = 0; i < 4; i++) llmgw_reply_free((llmgw_reply *)(uintptr_t)reply);
    return true;
}

/* Misuse of what dies when is_valid returns; a sanitizer sees it. */
static void a_reply_kept_in_is_valid_is_no_crash(void **state) {
    Seen seen;
    llmgw *gw = open_text("{'providers':{" P("p", "") "}}");
    llmgw_request request = ask_of(&seen, "p/m");
    request.is_valid = keeps;
    (void)send_it(gw, &request);
    turn(gw);
    answer(0, 200, HELLO);
    turn(gw);
    llmgw_close(gw);
    assert_int_equal(seen.reply->error.code, LLMGW_OK);
    drop(&seen);
}

/* ---- waiting in line ---- */

/* One slow spell is not for ever: a line that never held two calls since still believes in it. */
static void a_slow_spell_is_forgotten(void **state) {
    static Seen seen[8];
    llmgw_request request;
    llmgw *gw = open_text("{'providers':{" P("p", ",'concurrency':1") "},'deadline_ms':300000}");
    for (int i = 0; i < 4; i++) (void)send_to(gw, &seen[i], "p/m");
    turn(gw);
    answer(0, 200, HELLO); /* call 1 goes; 2 and 3 stay behind */
    turn(gw);
    pass_ms(gw, 100000);
    answer(1, 200, HELLO); /* it took 100 s */
    turn(gw);
    answer(2, 200, HELLO);
    turn(gw);
    answer(3, 200, HELLO);
    turn(gw);
    for (int i = 0; i < 4; i++) assert_int_equal(seen[i].reply->error.code, LLMGW_OK);
    for (int i = 0; i < 4; i++) drop(&seen[i]);
    int refused = 0, at = 4;
    for (int round = 0; round < 50; round++) { /* from now on an answer takes 100 ms */
        for (int i = 0; i < 3; i++) {
            request = ask_of(&seen[i], "p/m");
            request.deadline_ms = 60000;
            (void)send_it(gw, &request);
            turn(gw);
        }
        for (int i = 0; i < 3; i++) {
            pass_ms(gw, 100);
            if (at < net.count) answer(at++, 200, HELLO);
            turn(gw);
        }
        for (int i = 0; i < 3; i++) refused += round >= 25 && seen[i].reply->error.code != LLMGW_OK;
        for (int i = 0; i < 3; i++) drop(&seen[i]);
    }
    llmgw_close(gw);
    assert_int_equal(refused, 0);
}

/* When calls leave the line without going, those behind them are looked at. */
static void those_behind_move_up(void **state) {
    enum { LARGE = 8 };
    static Seen seen[LARGE + 2];
    llmgw_call calls[LARGE];
    llmgw *gw = open_text("{'providers':{" P("p", ",'tpm':10000") "}}");
    llmgw_request request = ask_of(&seen[LARGE + 1], "p/m");
    request.max_tokens = 5000;
    (void)send_it(gw, &request);
    turn(gw);
    assert_int_equal(net.count, 1);
    for (int i = 0; i < LARGE; i++) {
        request = ask_of(&seen[i], "p/m");
        request.max_tokens = 9000;
        request.deadline_ms = 600000 * (i + 1);
        calls[i] = send_it(gw, &request);
        turn(gw);
    }
    request = ask_of(&seen[LARGE], "p/m");
    request.max_tokens = 100;
    request.deadline_ms = 6000000;
    (void)send_it(gw, &request);
    turn(gw);
    assert_int_equal(net.count, 1);
    for (int i = 0; i < LARGE; i++) llmgw_cancel(gw, calls[i]);
    turn(gw);
    int started = net.count;
    llmgw_close(gw);
    for (int i = 0; i < LARGE + 2; i++) drop(&seen[i]);
    assert_int_equal(started, 2);
}

/* First come, first served: small calls that keep coming do not hold a large one back until its deadline. */
static void a_large_call_gets_its_turn(void **state) {
    static Seen large, small[80];
    llmgw *gw = open_text("{'providers':{" P("p", ",'tpm':10000") "}}");
    llmgw_request request;
    int at = 0;
    bool gone = false;
    for (int i = 0; i < 80 && !gone; i++) {
        request = ask_of(&small[i], "p/m");
        request.max_tokens = 750;
        (void)send_it(gw, &request);
        if (i == 15) {
            request = ask_of(&large, "p/m");
            request.max_tokens = 9000;
            request.deadline_ms = 300000;
            (void)send_it(gw, &request);
        }
        turn(gw);
        for (; at < net.count; at++) {
            if (!net.wires[at].open) continue;
            gone = gone || strstr(net.wires[at].body, "9000") != NULL;
            answer(at, 200,
                   "{'id':'c','model':'m','choices':[{'index':0,'message':{'role':'assistant','content':'x'},"
                   "'finish_reason':'stop'}],'usage':{'prompt_tokens':20,'completion_tokens':740}}");
        }
        turn(gw);
        pass_ms(gw, 5000);
    }
    llmgw_close(gw);
    for (int i = 0; i < 80; i++) drop(&small[i]);
    drop(&large);
    assert_true(gone);
}

static void a_full_line_says_so(void **state) {
    static Seen seen[4];
    llmgw *gw = open_text("{'providers':{" P("p", ",'concurrency':1") "},'max_waiting':1}");
    for (int i = 0; i < 3; i++) (void)send_to(gw, &seen[i], "p/m");
    turn(gw);
    assert_int_equal(seen[2].ends, 1);
    llmgw_code code = seen[2].reply->error.code;
    bool says = strstr(seen[2].reply->error.text, "max_waiting") != NULL;
    llmgw_close(gw);
    for (int i = 0; i < 3; i++) drop(&seen[i]);
    assert_int_equal(code, LLMGW_E_LIMIT);
    assert_true(says);
}

/* ---- limits ---- */

static void a_huge_max_tokens_overflows_nothing(void **state) {
    static Seen seen[4];
    llmgw *gw = open_text("{'providers':{" P("p", ",'tpm':1000,'concurrency':1") "}}");
    for (int i = 0; i < 3; i++) {
        llmgw_request request = ask_of(&seen[i], "p/m");
        request.max_tokens = i == 1 ? INT64_MAX / 2 : INT64_MAX;
        (void)send_it(gw, &request);
    }
    turn(gw);
    assert_int_equal(net.count, 1);
    llmgw_limit limits[8];
    size_t n = llmgw_limits(gw, limits, 8);
    bool sane = true;
    for (size_t i = 0; i < n && i < 8; i++)
        if (limits[i].kind == LLMGW_LIMIT_TPM) sane = limits[i].used > 0;
    llmgw_close(gw);
    for (int i = 0; i < 3; i++) drop(&seen[i]);
    assert_true(sane);
}

/* With one provider its name may be left out: the model's limit holds all the same. */
static void a_bare_model_name_keeps_the_models_limit(void **state) {
    static Seen seen[4];
    llmgw *gw =
        open_text("{'providers':{" P("p", "") "},"
                                              "'models':{'mini':{'provider':'p','model':'small','rpm':1}}}");
    (void)send_to(gw, &seen[0], "small");
    (void)send_to(gw, &seen[1], "mini");
    (void)send_to(gw, &seen[2], "p/small");
    turn(gw);
    int started = net.count;
    llmgw_close(gw);
    for (int i = 0; i < 3; i++) drop(&seen[i]);
    assert_int_equal(started, 1);
}

/* Over max_targets health is shared, but no limit is lost. */
static void over_max_targets_limits_hold(void **state) {
    static Seen seen[8];
    llmgw *gw =
        open_text("{'providers':{" P("p", "") "},'max_targets':1,"
                                              "'models':{'mini':{'provider':'p','model':'small','rpm':1}}}");
    (void)send_to(gw, &seen[0], "p/one");
    (void)send_to(gw, &seen[1], "p/two");
    turn(gw);
    assert_int_equal(net.count, 2);
    for (int i = 2; i < 5; i++) (void)send_to(gw, &seen[i], "mini");
    turn(gw);
    int started = net.count;
    llmgw_close(gw);
    for (int i = 0; i < 5; i++) drop(&seen[i]);
    assert_int_equal(started, 3);
}

/* A request counts from when it is written: one that waited longer than a minute for its connection too. */
static void a_late_connection_does_not_break_rpm(void **state) {
    static Seen seen[2];
    llmgw *gw = open_text("{'providers':{" P("p", ",'rpm':1") "},'connect_ms':200000,'deadline_ms':300000}");
    net.slow = true;
    (void)send_to(gw, &seen[0], "p/m");
    turn(gw);
    pass_ms(gw, 62000);
    (void)send_to(gw, &seen[1], "p/m");
    turn(gw);
    for (int i = 0; i < net.count; i++) /* all that are still there connect now */
        if (net.wires[i].open) answer(i, 200, HELLO);
    turn(gw);
    int sent = 0;
    for (int i = 0; i < net.count; i++) sent += net.wires[i].sent && net.wires[i].code == LLMGW_OK;
    llmgw_close(gw);
    drop(&seen[0]);
    drop(&seen[1]);
    assert_int_equal(sent, 1);
}

/* A race that is won in an upcall gives its losers' places back; they are free only when the transfers are. */
static void a_losers_place_is_free_when_its_transfer_is(void **state) {
    static Seen seen[4];
    llmgw *gw = open_text("{'providers':{" P("a", "") "," P("b", ",'concurrency':1") "," P(
        "c", "") "},"
                 "'routes':{'race':{'how':'race','try':['a/m','b/m'],'width':2},"
                 "'next':{'try':['c/m','b/m']}}}");
    (void)send_to(gw, &seen[0], "race");
    turn(gw);
    (void)send_to(gw, &seen[1], "next");
    turn(gw);
    assert_int_equal(net.count, 3);
    more(1, " "); /* b has the request */
    turn(gw);
    answer(0, 200, HELLO);
    answer(2, 500, BROKEN); /* in the same poll: its next target is b */
    turn(gw);
    int most = net.most;
    llmgw_close(gw);
    drop(&seen[0]);
    drop(&seen[1]);
    assert_int_equal(most, 1);
}

/* ---- what is told ---- */

/* The error is what the provider said, not that another target has no key. */
static void a_target_without_key_does_not_hide_the_error(void **state) {
    Seen seen;
    llmgw *gw = open_text(
        "{'providers':{" P("a", "") ",'b':{'dialect':'openai','url':'https://b.example/v1',"
                                    "'key':'env:LLMGW_NO_SUCH_KEY'}},'routes':{'r':{'try':['a/m','b/m']}}}");
    (void)send_to(gw, &seen, "r");
    turn(gw);
    answer(0, 400, "{'error':{'message':'no such parameter','type':'invalid_request_error'}}");
    turn(gw);
    assert_int_equal(seen.ends, 1);
    llmgw_code code = seen.reply->error.code;
    llmgw_close(gw);
    drop(&seen);
    assert_int_equal(code, LLMGW_E_BAD_REQUEST);
}

/* A hedge that finds no place takes nothing from the route's share. */
static void a_hedge_without_a_place_costs_no_share(void **state) {
    static Seen seen[3];
    llmgw *gw = open_text("{'providers':{" P("a", "") "," P(
        "b", ",'concurrency':1") "},"
                                 "'routes':{'r':{'try':['a/m','b/m'],'hedge':1000}}}");
    (void)send_to(gw, &seen[0], "b/m"); /* b is busy */
    (void)send_to(gw, &seen[1], "r");
    turn(gw);
    pass_ms(gw, 1100); /* no place for a hedge */
    answer(0, 200, HELLO);
    answer(1, 200, HELLO);
    turn(gw);
    (void)send_to(gw, &seen[2], "r");
    turn(gw);
    pass_ms(gw, 1100);
    int started = net.count;
    llmgw_close(gw);
    for (int i = 0; i < 3; i++) drop(&seen[i]);
    assert_int_equal(started, 4);
}

/* The hedge's time runs for the attempt in flight, not for one that failed before. */
static void a_hedge_waits_for_the_attempt_in_flight(void **state) {
    Seen seen;
    llmgw *gw = open_text("{'providers':{" P("a", "") "," P("b", "") "," P(
        "c", "") "},"
                 "'routes':{'r':{'try':['a/m','b/m','c/m'],'hedge':1000}}}");
    (void)send_to(gw, &seen, "r");
    turn(gw);
    pass_ms(gw, 900);
    answer(0, 500, BROKEN);
    turn(gw);
    assert_int_equal(net.count, 2);
    pass_ms(gw, 300); /* b has had 300 ms of its 1,000 */
    int started = net.count;
    llmgw_close(gw);
    drop(&seen);
    assert_int_equal(started, 2);
}

/* How long the line is follows from what those in it need, not from what this one needs. */
static void a_large_call_is_not_refused_for_small_ones(void **state) {
    static Seen large, small[24];
    llmgw *gw = open_text("{'providers':{" P("p", ",'tpm':10000") "}}");
    llmgw_request request;
    for (int i = 0; i < 24; i++) {
        request = ask_of(&small[i], "p/m");
        request.max_tokens = i < 4 ? 2400 : 100; /* four go, twenty wait for a minute */
        (void)send_it(gw, &request);
    }
    request = ask_of(&large, "p/m");
    request.max_tokens = 6000;
    request.deadline_ms = 300000;
    (void)send_it(gw, &request);
    turn(gw);
    int refused = large.ends;
    llmgw_close(gw);
    for (int i = 0; i < 24; i++) drop(&small[i]);
    drop(&large);
    assert_int_equal(refused, 0);
}

/* The loser of a race has not failed: when the winner breaks, it is asked at once. */
static void the_loser_of_a_race_is_next(void **state) {
    Seen seen;
    llmgw *gw = open_text(
        "{'providers':{" P("a", "") "," P("b", "") "},"
                                                   "'routes':{'r':{'how':'race','try':['a/m','b/m']}}}");
    llmgw_request request = ask_of(&seen, "r");
    request.stream = true;
    (void)send_it(gw, &request);
    turn(gw);
    assert_int_equal(net.count, 2);
    more(0, DELTA("'content':'A first sentence that is shown. And'"));
    turn(gw);
    assert_false(net.wires[1].open);
    cut(0);
    turn(gw); /* no time has passed */
    bool next = net.count == 3 && strcmp(net.wires[2].key, net.wires[1].key) == 0;
    llmgw_close(gw);
    drop(&seen);
    assert_true(next);
}

/* A caller that does not poll for a while finds what came meanwhile: it was not the provider that was silent. */
static void who_polls_late_reads_first(void **state) {
    Seen seen;
    llmgw *gw = open_text("{'providers':{" P("p", "") "},'hold_ms':-1}");
    llmgw_request request = ask_of(&seen, "p/m");
    request.stream = true;
    (void)send_it(gw, &request);
    turn(gw);
    more(0, DELTA("'content':'One. '"));
    turn(gw);
    more(0, DELTA("'content':'Two.'") LAST);
    net.wires[0].over = true;
    net.now += 31000000; /* idle_ms is 30,000 */
    turn(gw);
    int started = net.count;
    llmgw_close(gw);
    assert_int_equal(seen.reply->error.code, LLMGW_OK);
    assert_int_equal(seen.reply->attempts, 1);
    drop(&seen);
    assert_int_equal(started, 1);
}

/* ---- many ---- */

/* Calls that wait for a connection and are cancelled, last first. */
static void cancelling_those_without_a_connection_is_not_quadratic(void **state) {
    enum { CALLS = 20000 };
    static Seen seen;
    static llmgw_call calls[CALLS];
    llmgw *gw = open_text("{'providers':{" P("p", "") "}}");
    llmgw_request request = ask_of(&seen, "p/m");
    request.on_event = NULL;
    net.max = 1;
    for (int i = 0; i < CALLS; i++) calls[i] = send_it(gw, &request);
    turn(gw);
    for (int i = CALLS; i-- > 0;) llmgw_cancel(gw, calls[i]);
    clock_t from = clock();
    turn(gw);
    double s = (double)(clock() - from) / CLOCKS_PER_SEC;
    llmgw_close(gw);
    print_message("  %d cancelled in %.3f s\n", CALLS, s);
    assert_true(s < 0.5);
}

#define TEST(name) cmocka_unit_test(name)

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        TEST(a_key_that_was_limited_is_not_asked_again_at_once),
        TEST(a_call_without_memory_for_its_timer_harms_no_other),
        TEST(a_line_without_memory_for_its_timer_gets_it_later),
        TEST(nothing_is_kept_that_was_not_shown),
        TEST(a_cut_within_the_seam_keeps_what_was_shown),
        TEST(a_cut_within_the_seam_takes_nothing_back),
        TEST(a_stream_without_on_event_is_no_crash),
        TEST(long_answers_do_not_open_the_breaker),
        TEST(a_blocking_call_in_is_valid_is_refused),
        TEST(a_reply_kept_in_is_valid_is_no_crash),
        TEST(a_slow_spell_is_forgotten),
        TEST(those_behind_move_up),
        TEST(a_large_call_gets_its_turn),
        TEST(a_large_call_is_not_refused_for_small_ones),
        TEST(a_full_line_says_so),
        TEST(a_huge_max_tokens_overflows_nothing),
        TEST(a_bare_model_name_keeps_the_models_limit),
        TEST(over_max_targets_limits_hold),
        TEST(a_late_connection_does_not_break_rpm),
        TEST(a_losers_place_is_free_when_its_transfer_is),
        TEST(a_target_without_key_does_not_hide_the_error),
        TEST(a_hedge_without_a_place_costs_no_share),
        TEST(a_hedge_waits_for_the_attempt_in_flight),
        TEST(the_loser_of_a_race_is_next),
        TEST(who_polls_late_reads_first),
        TEST(cancelling_those_without_a_connection_is_not_quadratic),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
