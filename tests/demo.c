/* demo.c - what `make demo` runs: questions over three dialects, blocking and streaming, an outage in the middle of
   an answer, and answers that come from the cache on disk.

       demo NAME:PORT:PID...   against fake providers that tests/demo.sh has started; the first one is killed
       demo                    against the real providers whose keys are in the environment

   LLMGW_DEMO_STORE names the directory of the cache; without it the part that shows the cache is left out.
   Public API only. What a line says of a call comes from its reply. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define TARGETS 3
#define INDENT 6
#define KILL_AFTER 60 /* bytes of the answer that the outage falls into */

typedef struct target {
    const char *name, *model;                      /* provider, "provider/model" */
    const char *key;                               /* the variable with its key */
    const char *tail;                              /* of the fake's base URL */
    double input, output;                          /* its price, USD per million tokens */
    int whole_ms, first_ms, chunk_ms, chunk_chars; /* the fake's pace: a whole reply, a stream */
    int port;
    pid_t pid;
    bool usable;
    char url[64];
    int answers, failures;
    int64_t in, out, pico_usd;
} target;

static target targets[TARGETS] = {
    {.name = "openai",
     .model = "openai/gpt-4o-mini",
     .key = "OPENAI_API_KEY",
     .input = 0.15,
     .output = 0.6,
     .tail = "/v1",
     .whole_ms = 900,
     .first_ms = 400,
     .chunk_ms = 35,
     .chunk_chars = 6},
    {.name = "anthropic",
     .model = "anthropic/claude-haiku-4-5",
     .key = "ANTHROPIC_API_KEY",
     .input = 1,
     .output = 5,
     .tail = "/v1",
     .whole_ms = 600,
     .first_ms = 250,
     .chunk_ms = 25,
     .chunk_chars = 7},
    {.name = "gemini",
     .model = "gemini/gemini-2.5-flash",
     .key = "GEMINI_API_KEY",
     .input = 0.3,
     .output = 2.5,
     .tail = "/v1beta",
     .whole_ms = 700,
     .first_ms = 550,
     .chunk_ms = 120,
     .chunk_chars = 32},
};

#define ROUTE (-1)
typedef struct question {
    int act, target; /* ROUTE: the route "chat" */
    bool stream;
    int victim;                /* the target that dies in the middle of this answer, from 1; 0: none */
    const char *text, *answer; /* answer: what the fakes are told to say */
} question;

static const char *const acts[] = {
    "Blocking: llmgw_chat waits for the whole answer",
    "Streaming: the same, but text comes as it is written",
    "Outage: the provider dies in the middle of its answer",
    "And on it goes: the route falls over to who is left",
    "The cache: a new gateway on the same files, also while providers are dead",
};
#define CACHE 4 /* the act that needs a store */

static const question questions[] = {
    {0, 0, false, 0, "Why is the sky blue?",
     "Air scatters short waves of light far more than long ones, so blue reaches your eyes from everywhere."},
    {0, 1, false, 0, "Why do cats purr?",
     "Muscles of the larynx open and close it some 25 times a second, breathing in and breathing out."},
    {0, 2, false, 0, "What is a monad, in one sentence?",
     "A way to chain steps that each return a value in a wrapper, without unwrapping it by hand each time."},
    {1, 0, true, 0, "Write a haiku about C.",
     "A pointer wanders;\nthe heap forgets its own name.\nSegmentation fault."},
    {1, 1, true, 0, "How far away is the Moon?",
     "About 384,400 km on average. All the other planets would fit in between, side by side, with a little "
     "room to spare."},
    {1, 2, true, 0, "Name three uses for a paper clip.",
     "It resets a router, it holds a hem until you find a needle, and unfolded it is the bookmark nobody "
     "steals."},
    {2, ROUTE, true, 1, "Tell me how a lighthouse works.",
     "A lamp stands in the focus of a Fresnel lens, whose rings of prisms bend its light into one flat beam. "
     "The lens turns, and each ship tells by the rhythm of the flashes which lighthouse it sees."},
    {3, ROUTE, false, 0, "What should I pack for Iceland in May?",
     "Layers, a windproof jacket, swimwear for the hot springs, and a sleep mask: the nights are bright."},
    {3, ROUTE, true, 2, "Explain a semaphore to a child.",
     "There are three swings and three tickets. Take a ticket before you swing and give it back after; when "
     "there is none, you wait."},
    {3, ROUTE, true, 0, "Give me one good rule for naming things.",
     "Say what it is to the reader, not how it came to be: the story of its making belongs in a comment."},
    {CACHE, 0, false, 0, "Why is the sky blue?", "Never said: it was answered before."},
    {CACHE, 0, false, 0, "Tell me why the sky is blue!", "Never said: the question is like one before."},
    {CACHE, 2, true, 0, "Name three uses for a paper clip.", "Never said: it was answered before."},
    {CACHE, 2, true, 0, "Name five uses for a paper clip.",
     "A hook, a zipper pull, a cable tie, a SIM key, and a very small trombone that plays no note."},
};

/* ---- the terminal ---- */

static struct {
    bool colour;
    int width, column;
    bool wrap;    /* a line break is due */
    char label;   /* of the open line: A, !, 0: none */
    size_t shown; /* bytes of the answer on the screen */
    int asked, answered, failures;
    const char *store; /* NULL: no cache */
} d;

static const char DIM[] = "2", BOLD[] = "1", RED[] = "31", GREEN[] = "32", CYAN[] = "36";

/* printf in a colour, when standard output is a terminal. */
__attribute__((format(printf, 2, 3))) static void say(const char *colour, const char *format, ...) {
    va_list list;
    va_start(list, format);
    if (d.colour && colour) printf("\033[%sm", colour);
    vprintf(format, list);
    if (d.colour && colour) printf("\033[0m");
    va_end(list);
    fflush(stdout);
}

static void nap(int ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&t, NULL);
}

static void look_at_terminal(void) {
    struct winsize size;
    const char *term = getenv("TERM"), *no_colour = getenv("NO_COLOR");
    bool terminal = isatty(STDOUT_FILENO);
    d.colour = terminal && !(no_colour && *no_colour) && term && strcmp(term, "dumb") != 0;
    d.width = 80;
    if (terminal && !ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col >= 40) d.width = size.ws_col;
    if (d.width > 100) d.width = 100;
}

/* Begins a line, after ending one that is open. */
static void begin_line(char label, const char *colour) {
    if (d.column) putchar('\n');
    printf("   ");
    say(colour, "%c", label);
    printf("  ");
    d.column = INDENT;
    d.label = label;
    d.wrap = false;
}

static void end_line(void) {
    if (d.column) putchar('\n');
    d.column = 0;
    d.label = 0;
}

/* Wrapped at a space that comes late in the line. */
static void put_wrapped(const char *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        bool late = p[i] == ' ' && d.column >= d.width - 12;
        if (d.wrap) {
            printf("\n%*s", INDENT, "");
            d.column = INDENT;
        }
        d.wrap = late || p[i] == '\n'; /* done when something follows */
        if (d.wrap) continue;
        putchar(p[i]);
        if ((p[i] & 0xC0) != 0x80) d.column++;
    }
    fflush(stdout);
}

/* A piece of an answer. */
static void show_text(const char *p, size_t n) {
    if (d.label != 'A') begin_line('A', BOLD);
    put_wrapped(p, n);
    d.shown += n;
}

/* What happens beside the answer, on a line of its own. */
__attribute__((format(printf, 2, 3))) static void note(const char *colour, const char *format, ...) {
    char text[400];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (n < 0) return;
    begin_line('!', colour);
    if (d.colour) printf("\033[%sm", colour);
    put_wrapped(text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
    if (d.colour) printf("\033[0m");
    end_line();
}

/* ---- the fakes ---- */

/* Sends one request to a fake's steering and reads the reply to its end. A dead one is no matter. */
static void control(const target *t, const char *method, const char *body) {
    char request[2048], reply[512];
    struct sockaddr_in address = {0};
    int n = snprintf(
        request, sizeof request,
        "%s /_control HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %lu\r\n\r\n%s",
        method, (unsigned long)strlen(body), body);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)t->port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (!connect(s, (const struct sockaddr *)&address, sizeof address) &&
        send(s, request, (size_t)n, MSG_NOSIGNAL) == n)
        while (recv(s, reply, sizeof reply, 0) > 0) continue;
    close(s);
}

/* Tells the fakes what to answer next, each at its own pace. */
static void prepare(const question *q) {
    char text[1024], rule[1536];
    size_t n = 0;
    for (const char *p = q->answer; *p; p++) { /* as JSON; no answer holds anything worse than a newline */
        if (*p == '\n') text[n++] = '\\';
        text[n++] = *p == '\n' ? 'n' : *p;
    }
    text[n] = 0;
    for (target *t = targets; t < targets + TARGETS; t++) {
        if (!t->port) continue;
        snprintf(
            rule, sizeof rule,
            "{\"model\":\"*\",\"text\":\"%s\",\"delay_ms\":%d,\"first_token_delay_ms\":%d,\"chunk_ms\":%d,"
            "\"chunk_chars\":%d}",
            text, q->stream ? 0 : t->whole_ms, q->stream ? t->first_ms : 0, q->stream ? t->chunk_ms : 0,
            t->chunk_chars);
        control(t, "DELETE", "");
        control(t, "POST", rule);
    }
}

/* A real outage. */
static void strike(target *t) {
    kill(t->pid, SIGKILL);
    note(RED, "kill -9 %ld: %s is dead", (long)t->pid, t->name);
    t->pid = 0;
}

/* ---- calls ---- */

static target *target_of(const char *provider) {
    for (target *t = targets; t < targets + TARGETS; t++)
        if (strcmp(t->name, provider) == 0) return t;
    return NULL;
}

/* An attempt failed: the caller need not know, but here it is the point. */
static void show_failure(const llmgw_trace *trace) {
    target *t = target_of(trace->provider);
    if (t) t->failures++;
    d.failures++;
    static bool told[1000]; /* by code */
    bool again = told[trace->code];
    note(RED, "%s failed after %.1f ms: %s%s%s", trace->provider, (double)trace->duration_us / 1000,
         llmgw_code_name(trace->code), again ? "" : ", ", again ? "" : trace->reason);
    told[trace->code] = true;
}

static void on_event(const llmgw_event *event, void *user) {
    const question *q = user;
    if (event->kind == LLMGW_EVENT_TEXT) {
        show_text(event->text, event->text_len);
        target *victim = q->victim ? &targets[q->victim - 1] : NULL;
        if (victim && victim->pid && d.shown >= KILL_AFTER) strike(victim);
    } else if (event->kind == LLMGW_EVENT_REWIND) {
        note(CYAN, "REWIND: %lu bytes are taken back, another provider begins anew",
             (unsigned long)(d.shown - event->keep));
        d.shown = event->keep;
    } else if (event->kind == LLMGW_EVENT_TRY && event->trace->duration_us >= 0 && event->trace->code) {
        show_failure(event->trace);
    }
}

/* A hit: nobody was asked. What it saved is what the answer had cost and taken when it was new. */
static void show_hit(const llmgw_reply *reply) {
    const llmgw_cached *cached = &reply->cached;
    char like[40] = "", saved[40] = "";
    if (cached->verdict == LLMGW_VERDICT_SEMANTIC) snprintf(like, sizeof like, " %.2f", cached->similarity);
    if (cached->saved.known)
        snprintf(saved, sizeof saved, " and $%.6f", (double)cached->saved.pico_usd / 1e12);
    d.answered++;
    end_line();
    say(GREEN, "      %-9s", "cache");
    say(DIM, "  %s%s  total %.3f ms  saved %.2f s%s\n\n", llmgw_verdict_name(cached->verdict), like,
        (double)reply->elapsed_us / 1000, (double)cached->saved_us / 1e6, saved);
}

/* Who answered, how fast, for how much. Adds it to the totals. */
static void show_call(const llmgw_reply *reply) {
    int attempts = 0;
    int64_t first_us = 0, pico_usd = 0;
    bool broken = false, priced = false; /* an attempt's cost is unknown; the answer's is known */
    for (size_t i = 0; i < reply->trace_count; i++) {
        const llmgw_trace *trace = &reply->trace[i];
        if (trace->kind != LLMGW_TRACE_ATTEMPT) continue;
        attempts++;
        first_us = trace->first_token_us ? trace->start_us + trace->first_token_us : 0;
        pico_usd += trace->cost.pico_usd;
        priced = trace->cost.known;
        broken = broken || (trace->code && !trace->cost.known);
    }
    target *t = target_of(reply->provider);
    if (t) {
        t->answers++;
        t->in += reply->usage.input;
        t->out += reply->usage.output;
        t->pico_usd += pico_usd;
    }
    d.answered++;
    char first[16] = "     -"; /* a blocking call has no first token */
    if (first_us) snprintf(first, sizeof first, "%4.2f s", (double)first_us / 1e6);
    char cost[40] = "cost unknown";
    if (priced) snprintf(cost, sizeof cost, "%s$%.6f", reply->cost.known ? "" : ">", (double)pico_usd / 1e12);
    if (priced && broken && !reply->cost.known)
        note(DIM, "the broken attempt told no usage: the cost is a lower bound (>)");
    end_line();
    say(GREEN, "      %-9s", reply->provider);
    say(DIM, "  first %6s  total %.2f s  %lld in %lld out  %s  %d %s\n\n", first,
        (double)reply->elapsed_us / 1e6, (long long)reply->usage.input, (long long)reply->usage.output, cost,
        attempts, attempts == 1 ? "try" : "tries");
}

/* One question, from asking to the line below its answer. */
static void ask(llmgw *gw, const question *q, const char *model) {
    llmgw_request request = {.model = model, .prompt = q->text, .stream = q->stream, .on_event = on_event};
    request.system = "Answer in at most two short sentences of plain text.";
    request.user = (void *)(uintptr_t)q;
    prepare(q);
    say(BOLD, "   Q  ");
    say(NULL, "%s", q->text);
    say(DIM, "  [%s]\n", model);
    d.shown = 0;
    d.asked++;
    llmgw_reply *reply = llmgw_chat(gw, &request);
    if (reply->error.code)
        note(RED, "no answer: %s", reply->error.text), putchar('\n');
    else if (reply->cached.verdict == LLMGW_VERDICT_EXACT || reply->cached.verdict == LLMGW_VERDICT_SEMANTIC)
        show_hit(reply);
    else
        show_call(reply);
    if (q->act == CACHE && reply->cached.verdict == LLMGW_VERDICT_MISS)
        note(CYAN, "the cache had no answer: %s", reply->cached.reason), putchar('\n');
    llmgw_reply_free(reply);
    nap(300);
}

/* ---- the show ---- */

static bool real; /* providers */

static void show_start(void) {
    say(BOLD, "llmgw.h %s: one program, one gateway, three dialects\n", LLMGW_VERSION);
    if (real)
        say(NULL, "REAL providers, real money (far less than a cent), keys from the environment:\n\n");
    else
        say(NULL, "FAKE providers on this machine: no key, no network, no cost (prices are real).\n\n");
    for (const target *t = targets; t < targets + TARGETS; t++) {
        if (!t->usable) continue;
        say(GREEN, "      %-9s", t->name);
        say(DIM, "  %-28s", t->model);
        if (t->port) say(DIM, "  port %d, process %ld", t->port, (long)t->pid);
        putchar('\n');
    }
    say(DIM, "\n      chat: a route, tries %sthese in order\n", real ? "a closed port, then " : "");
    say(DIM, "      first: time to the first token; tries: requests to providers\n\n");
}

/* What the cache says of itself. */
static void show_cache(const llmgw_cache_numbers *n) {
    say(GREEN, "      %-9s", "cache");
    say(NULL, "  %7lld exact, %lld semantic, of %lld entries; they saved %.1f s", (long long)n->exact_hits,
        (long long)n->semantic_hits, (long long)n->entries, (double)n->saved_us / 1e6);
    if (n->saved.known) say(NULL, " and $%.6f", (double)n->saved.pico_usd / 1e12);
    say(DIM,
        "\n      (like questions: at a fixed similarity here; by default max_error is kept by learning)\n");
}

/* One line of the bill, as the ledger on disk tells it. */
static bool show_total(const llmgw_ledger_total *total, void *user) {
    llmgw_ledger_total *sum = (llmgw_ledger_total *)user;
    say(GREEN, "      %-9s", total->provider);
    say(NULL, "  %-17.17s  %8lld  ", total->model, (long long)total->attempts);
    say(total->failures ? RED : NULL, "%6lld", (long long)total->failures);
    say(NULL, "  %9lld  %10lld   $%.6f%s\n", (long long)total->input, (long long)total->output,
        (double)total->cost.pico_usd / 1e12, total->estimated ? " *" : "");
    sum->attempts += total->attempts;
    sum->failures += total->failures;
    sum->input += total->input;
    sum->output += total->output;
    sum->estimated += total->estimated;
    sum->unknown += total->unknown;
    sum->cost.pico_usd += total->cost.pico_usd;
    return true;
}

/* Who answered what, at what cost. False: there is no ledger. */
static bool show_bill(llmgw *gw) {
    llmgw_ledger_total sum = {0};
    say(BOLD, "The bill");
    say(DIM, ", from the ledger\n      provider   model              attempts  failed  tokens in  tokens out "
             "       cost\n");
    int64_t lines = llmgw_ledger_totals(gw, NULL, LLMGW_BY_PROVIDER | LLMGW_BY_MODEL, show_total, &sum);
    if (lines <= 0) return false;
    say(BOLD, "      %-28s  %8lld  %6lld  %9lld  %10lld   $%.6f\n", "all", (long long)sum.attempts,
        (long long)sum.failures, (long long)sum.input, (long long)sum.output,
        (double)sum.cost.pico_usd / 1e12);
    if (sum.estimated) say(DIM, "      * attempts that were cut: what they used is estimated\n");
    if (sum.unknown) say(DIM, "      %lld attempts have no known price\n", (long long)sum.unknown);
    return true;
}

/* Without a store: what the replies told. */
static void show_replies(void) {
    say(BOLD, "Summary\n");
    say(DIM, "      provider   answers  failed attempts  tokens in  tokens out        cost\n");
    for (const target *t = targets; t < targets + TARGETS; t++) {
        if (!t->usable) continue;
        say(GREEN, "      %-9s", t->name);
        say(NULL, "  %7d  ", t->answers);
        say(t->failures ? RED : NULL, "%15d", t->failures);
        say(NULL, "  %9lld  %10lld   $%.6f\n", (long long)t->in, (long long)t->out,
            (double)t->pico_usd / 1e12);
    }
}

static void show_end(double seconds, const llmgw_cache_numbers *cache) {
    if (cache->on) show_cache(cache);
    say(d.answered == d.asked ? BOLD : RED, "\n      %d questions, %d answers; ", d.asked, d.answered);
    say(NULL, "%d attempts failed without the caller's notice.\n", d.failures);
    say(NULL, "      %.1f s, of which this program used the CPU for %.0f ms.\n\n", seconds,
        (double)clock() * 1000 / CLOCKS_PER_SEC);
    if (!real)
        say(NULL, "The same with real providers:  LLMGW_DEMO_REAL=1 OPENAI_API_KEY=... make demo\n"
                  "(ANTHROPIC_API_KEY and GEMINI_API_KEY are used too where they are set)\n");
}

/* A gateway over what is usable. For real providers the outage is one that nobody listens for: its port is
   closed, and it comes first in the route. */
static llmgw *open_gateway(void) {
    llmgw_provider providers[TARGETS] = {{0}};
    const char *order[TARGETS + 1];
    llmgw_model models[TARGETS] = {
        {0}}; /* for the price: built-in ones hold at a provider's own address only */
    size_t provider_count = 0, model_count = 0, order_count = 0;
    if (real) {
        providers[provider_count++] =
            (llmgw_provider){.name = "closed", .dialect = "openai", .url = "http://127.0.0.1:9/v1"};
        order[order_count++] = "closed/gpt-4o-mini";
    }
    for (target *t = targets; t < targets + TARGETS; t++) {
        if (!t->usable) continue;
        order[order_count++] = t->model;
        if (real) continue; /* the gateway finds it in the environment */
        snprintf(t->url, sizeof t->url, "http://127.0.0.1:%d%s", t->port, t->tail);
        providers[provider_count++] = (llmgw_provider){.name = t->name, .url = t->url, .key = "fake"};
        llmgw_model *model = &models[model_count++];
        model->provider = t->name;
        model->name = strchr(t->model, '/') + 1;
        model->price.input = llmgw_set(t->input);
        model->price.output = llmgw_set(t->output);
    }
    llmgw_route route = {.name = "chat", .targets = order, .target_count = order_count};
    llmgw_options options = {.providers = providers, .provider_count = provider_count};
    options.models = models;
    options.model_count = model_count;
    options.routes = &route;
    options.route_count = 1;
    options.store.path = d.store;
    options.cache.on = options.cache.semantic = d.store != NULL;
    /* Fixed: to learn what keeps max_error takes more questions than a demo has. It promises nothing. */
    if (d.store) options.cache.similarity = llmgw_set(0.6);
    options.no_environment = !real;
    options.config_path = real ? getenv("LLMGW_CONFIG") : NULL;
    return llmgw_open(&options, NULL);
}

static bool read_arguments(int argc, char **argv) {
    real = argc == 1;
    size_t usable = 0;
    for (target *t = targets; t < targets + TARGETS; t++) {
        const char *key = getenv(t->key);
        for (int i = 1; i < argc; i++) {
            char name[16];
            int port;
            long pid;
            if (sscanf(argv[i], "%15[^:]:%d:%ld", name, &port, &pid) != 3 || strcmp(name, t->name)) continue;
            t->port = port;
            t->pid = (pid_t)pid;
        }
        t->usable = real ? key && *key : t->port > 0;
        usable += t->usable;
    }
    if (!usable) fputs("demo: set OPENAI_API_KEY, ANTHROPIC_API_KEY or GEMINI_API_KEY\n", stderr);
    return real ? usable > 0 : usable == TARGETS;
}

int main(int argc, char **argv) {
    struct timespec start, end;
    int act = -1;
    if (!read_arguments(argc, argv)) return 1;
    look_at_terminal();
    clock_gettime(CLOCK_MONOTONIC, &start);
    d.store = getenv("LLMGW_DEMO_STORE");
    llmgw *gw = open_gateway();
    show_start();
    for (size_t i = 0; gw && i < COUNT(questions); i++) {
        const question *q = &questions[i];
        if (q->act == CACHE && !d.store) break;
        const char *title =
            real && q->victim == 1 ? "Outage: nobody listens at the route's first provider" : acts[q->act];
        if (q->act == CACHE && act != CACHE) { /* what it answers is on disk */
            llmgw_close(gw);
            gw = open_gateway();
            if (!gw) break;
        }
        if (q->act != act) say(BOLD, "%d. %s\n\n", q->act + 1, title);
        act = q->act;
        int number = q->target;
        while (number != ROUTE && !targets[number].usable) number = (number + 1) % TARGETS;
        ask(gw, q, number == ROUTE ? "chat" : targets[number].model);
    }
    if (!gw) return 1;
    llmgw_cache_numbers numbers;
    (void)llmgw_flush(gw); /* entries are counted on disk */
    (void)llmgw_cache_stats(gw, NULL, &numbers);
    if (!d.store || !show_bill(gw)) show_replies();
    llmgw_close(gw);
    clock_gettime(CLOCK_MONOTONIC, &end);
    show_end((double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9, &numbers);
    return d.answered == d.asked ? 0 : 1;
}
