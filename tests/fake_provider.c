/* fake_provider.c - a fake LLM provider for the tests of llmgw.h.
 *
 * Speaks the dialects of OpenAI (chat and Responses), Anthropic, Gemini, Bedrock's Converse, Ollama and Cohere,
 * also on the paths of Azure and Vertex AI; strictly validates what it is sent, answers deterministically, and
 * misbehaves on demand. It shares no code with the library on purpose: a misreading of a wire format must not
 * cancel out. The later dialects stand in fake_NAME.h beside this file, each with its own faults told on top.
 *
 *   fake_provider [--port N] [--tls-port N] [--cert FILE --key FILE] [--cert-dir DIR]
 *                 [--key-required KEY] [--name NAME] [--parent-pid-watch]
 *                 [--answers FILE] [--wordings N] [--seed N]
 *   cc -std=gnu11 -O2 -Wall -Wextra -Werror tests/fake_provider.c -o build/fake_provider \
 *      -lmicrohttpd -ljansson -lgnutls -lpthread -lm
 *
 * When it listens (127.0.0.1 only) it prints one line: READY port=N tls_port=N cert=PATH
 *
 * Steering: POST /_control with {"model":"name or *","times":N, faults...}, or a model named
 * fault:{faults...}, or a first user message that begins so; the fields are in fault_fields[] below.
 * {"limits":{"key":"K or *","rpm":N,"burst":N,"concurrency":N,"window_ms":N}} makes the provider enforce a
 * limit for each key, {"keys":{"K":"refused" | "quota" | "ok"}} refuses keys. DELETE /_control forgets all
 * that and the counters, GET /_stats reports, GET /_script/N is the answer of the fault "script":N, POST
 * /_quit stops.
 *
 * A request whose messages end in a partial answer is continued from there, by the rules of the vendor whose
 * name is in the path (/mistral/v1/...): see "continuing". "cut_at":N cuts the connection after N bytes of
 * text, "cut_reasoning" and "cut_args" of those, "cut_body" of the body, each on the first "cut_times" (1)
 * requests that carry the same fault. "seam":N makes a continuation repeat the last N bytes first.
 *
 * --answers FILE makes it an oracle: lines of question TAB answer; a chat request of any dialect whose last
 * user text is a known question is given its answer, any other "unknown: " and the text. With --wordings N
 * (1 to 5) the answer stands in one of N sentences, drawn at random from --seed, its '_' written as blanks.
 * POST /_control {"oracle":{"wordings":N,"seed":N,"noise":SHARE,"change":SHARE}} sets the same while it runs
 * (a seed starts the draws anew); noise answers that share of the requests with the answer of another
 * question; change gives that share of the distinct answers a new text from now on, and the reply tells
 * which: {"ok":true,"changed":{"old":"new"}}. DELETE /_control undoes it. GET /_asked: how often each question
 * was asked; POST /_asked with a question as the body: the same of one, and its answer of now.
 *
 * Embeddings of several makers are in fake_embed.h, batches in fake_batch.h.
 *
 * GET /_bills is what a provider would bill: a line "id model input output" (tokens) for every answer of a chat, also
 * one that the client did not wait for; oldest first, until DELETE /_control.
 *
 * How it works: a request is read whole, parsed, validated and answered into one buffer (Out) that is
 * cut into pieces (one per stream event); a content reader hands the pieces to libmicrohttpd. A reply
 * that has to wait is a suspended connection in a heap, resumed by the one timer thread, which also
 * watches every socket for hang-ups because libmicrohttpd does not look at suspended ones.
 *
 * Contents: buffers, requests, limits, faults, validation (shared, openai, anthropic, gemini), continuing,
 * oracle, answers, rendering (shared, openai, anthropic, gemini), errors, pacing, keys, the dialects (bedrock,
 * responses, more, embed), deciding the reply, provider requests (batch), control, http, main.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define MAX_BODY ((size_t)64 << 20)
#define LOG_SIZE 64
#define MAX_CALLS 32
#define MAX_HEADERS 32
#define MAX_SPLITS 500
#define FOREVER INT64_MAX

/* ---------------------------------------------------------------- buffers */

typedef struct Buf {
    char *p;
    size_t n, cap;
} Buf;

static void *must(void *p) {
    if (!p) {
        fputs("fake_provider: out of memory\n", stderr);
        abort();
    }
    return p;
}

static void buf_room(Buf *b, size_t extra) {
    if (b->n + extra + 1 <= b->cap) return;
    b->cap = (b->n + extra + 1) * 2 + 64;
    b->p = must(realloc(b->p, b->cap));
}

static void buf_add(Buf *b, const void *p, size_t n) {
    buf_room(b, n);
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = 0;
}

static void buf_str(Buf *b, const char *s) { buf_add(b, s, strlen(s)); }
static void buf_cat(Buf *b, const Buf *o) { buf_add(b, o->p, o->n); }
static const char *buf_text(const Buf *b) { return b->p ? b->p : ""; }
static void buf_free(Buf *b) {
    free(b->p);
    *b = (Buf){0};
}

__attribute__((format(printf, 2, 3))) static void buf_fmt(Buf *b, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    buf_room(b, (size_t)n);
    vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again);
    va_end(again);
    b->n += (size_t)n;
}

/* JSON string with its quotes. Non-ASCII stays raw UTF-8: the split and cut faults need real multi-byte
 * bytes. */
static void buf_json(Buf *b, const char *p, size_t n) {
    buf_str(b, "\"");
    size_t from = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        buf_add(b, p + from, i - from);
        from = i + 1;
        if (c == '"' || c == '\\')
            buf_fmt(b, "\\%c", c);
        else if (c == '\n')
            buf_str(b, "\\n");
        else
            buf_fmt(b, "\\u%04x", c);
    }
    buf_add(b, p + from, n - from);
    buf_str(b, "\"");
}

static void buf_jstr(Buf *b, const char *s) { buf_json(b, s, strlen(s)); }

static void buf_dump(Buf *b, const json_t *j) {
    char *s = must(json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY));
    buf_str(b, s);
    free(s);
}

static uint32_t hash32(const char *p, size_t n) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * 16777619u;
    return h;
}

/* Length in bytes of the UTF-8 character at p (the input has been checked by the JSON parser). */
static size_t utf8_len(const char *p, size_t left) {
    unsigned char c = (unsigned char)*p;
    size_t n = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    return n < left ? n : left;
}

/* Decoded length of strict, padded base64, or -1. */
static long base64_len(const char *p, size_t n) {
    if (n % 4) return -1;
    size_t pad = 0;
    for (size_t i = 0; i < n; i++) {
        bool sextet = isalnum((unsigned char)p[i]) || p[i] == '+' || p[i] == '/';
        if (p[i] == '=' && i + 2 >= n)
            pad++;
        else if (!sextet || pad)
            return -1;
    }
    return (long)(n / 4 * 3 - pad);
}

static void base64_put(Buf *b, const char *p, size_t n) {
    static const char abc[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = 0;
        for (size_t k = 0; k < 3; k++) v = v << 8 | (i + k < n ? (unsigned char)p[i + k] : 0);
        char q[4] = {abc[v >> 18], abc[v >> 12 & 63], abc[v >> 6 & 63], abc[v & 63]};
        if (i + 1 >= n) q[2] = '=';
        if (i + 2 >= n) q[3] = '=';
        buf_add(b, q, 4);
    }
}

/* ---------------------------------------------------------------- requests */

enum { OPENAI, ANTHROPIC, GEMINI, BEDROCK, RESPONSES, OLLAMA, COHERE, DIALECTS };
typedef enum { EV_PRE, EV_TEXT, EV_POST, EV_TERM } EvKind; /* before, in and after the text; the terminator */
typedef enum { END_CLEAN, END_CUT, END_STALL } End;
typedef enum { CUT_REASONING, CUT_TEXT, CUT_ARGS, CUT_KINDS } CutKind;

/* Numbers are -1 when not given, the rest NULL or false. Strings borrow from root. */
typedef struct Fault {
    json_t *root;
    json_int_t status, delay_ms, first_token_delay_ms, chunk_ms, chunk_chars, drip_bytes, drip_ms, cut_after,
        error_after, garbage_after, stall_after, text_repeat, cached, usage_input, usage_output, times,
        script, cut_at, cut_reasoning, cut_args, cut_body, cut_times, seam, dim, crc_after;
    bool rethink, crc, frame_error, flat, content_filter, embed_short, embed_shuffled, cut_in_utf8, garbage,
        endless, never, no_terminator, usage_none, keepalive_comments, split_utf8, close;
    json_t *body, *error_type, *error_code, *error_message, *headers, *retry_after, *content_type, *text,
        *reasoning, *tool_calls, *finish, *redirect, *model_echo, *refusal, *model, *exception;
} Fault;

typedef struct Call {
    char *name;
    Buf args;
    char id[48];
} Call;

/* What the request asks for, whatever its dialect. */
typedef struct Ask {
    bool stream, usage_asked, reasoning, one_call, no_calls, json_object;
    bool encrypted;            /* reasoning is wanted in a form that can be sent back */
    Buf user, results, images; /* text of the last user message, tool results that end the request */
    Buf partial;               /* the beginning of the answer that is to be continued */
    bool has_results, continues, by_turn, thinks;
    size_t in_bytes;
    json_int_t max_tokens;
    json_t *stop, *schema, *tools, *forced; /* forced: the declaration that tool_choice demands a call of */
} Ask;

typedef enum { FIN_STOP, FIN_STOP_SEQ, FIN_LENGTH, FIN_TOOL, FIN_REFUSAL } Finish;

typedef struct Answer {
    Buf reasoning, text, refusal;
    Call calls[MAX_CALLS];
    size_t ncalls;
    Finish finish;
    const char *stop_hit;
    json_int_t in, out, cached, thought;
} Answer;

/* The reply: bytes, and the ends of the pieces they are sent in. */
typedef struct Out {
    unsigned status;
    Buf body, tmp;
    size_t *ends, n, cap;
    json_int_t events, texts;
    size_t text_lo, text_hi, loop_piece; /* what an endless reply repeats */
    bool sse, array, stopped, chunked, loop, garbage_sent;
    json_int_t left[CUT_KINDS]; /* bytes until the cut, -1: none */
    int64_t pace;
    End end;
} Out;

typedef struct Req Req;
struct Req {
    struct MHD_Connection *conn;
    int fd;
    char *uri, *method;
    bool seen, counted, too_big, ready, gone, cut, quit;
    Buf body;
    json_t *root;
    int dialect;
    bool gem_stream, gem_sse, azure, vertex, invokes;
    const struct Embedding *embeds; /* the kind of embeddings it asks for, NULL: none */
    json_t *texts;                  /* what is to be embedded; its own */
    size_t dim;                     /* numbers of a vector, 0: the default */
    void (*serve)(Req *);           /* answers it, when it is no chat and no embedding; NULL */
    void (*put_one)(Req *, const void *batch);
    char *item; /* what follows the path: an id, and a verb */
    char *model;
    const char *label;  /* the model as answers name it: fault:{...} is only "fault" */
    const char *vendor; /* of the path, "" none */
    long lane;          /* its key in g.lanes, -1 before the key is known */
    bool admitted;      /* counts in the key's requests in flight */
    char retry[24];     /* Retry-After of a limit, in seconds */
    struct {
        bool on;
        json_int_t limit, remaining;
        int64_t reset_us;
    } told; /* what the limit headers say */
    char id[40];
    Fault f;
    Ask ask;
    Answer ans;
    Out out;
    Buf err; /* what validation found wrong, "" when nothing */
    const char *err_code, *err_param;
    unsigned err_status;
    char *hname[MAX_HEADERS], *hvalue[MAX_HEADERS];
    size_t nheaders;
    size_t pos, piece, sent;  /* of the reader */
    int64_t due;              /* when the next piece may go, us */
    size_t heap_at;           /* place in the heap of waiting requests, from 1; 0 is none */
    bool http11, tls, direct; /* direct: the timer thread may write pieces to the socket itself */
    Buf debt;                 /* what a full socket did not take of the last one */
};

typedef struct Rule {
    char *model;
    json_int_t left;
    Fault f;
} Rule;
/* A key and what the provider thinks of it. times: when its requests of the last window came, a ring. */
typedef struct Lane {
    char *key, state; /* 'o'k, 'r'efused, out of 'q'uota */
    json_int_t rpm, burst, concurrency;
    int64_t window_us;
    double level; /* of the bucket, when there is a burst */
    int64_t filled_us;
    int64_t *times, *good;
    size_t first, count, cap, good_first, good_count, good_cap;
    json_int_t requests, refused, limited, open, max_open, max_window, tokens;
} Lane;

typedef struct LogLine {
    char *model, *path;
    unsigned status;
} LogLine;
typedef struct Slot {
    uint32_t gen;
    bool hup;
    Req *cur;
} Slot; /* one per file descriptor */

static struct {
    pthread_mutex_t lock;
    Rule *rules;
    size_t nrules;
    Lane *lanes, any; /* any: the limits of a key that is new */
    size_t nlanes;
    json_t *cuts;               /* how often a fault was met that cuts */
    json_int_t prefills, turns; /* requests that asked for a continuation, by each way */
    json_int_t requests, open, max_open, connections, disconnects;
    json_t *by_model, *last_headers;
    char *last_path;
    Buf last_body, bills;
    LogLine log[LOG_SIZE];
    size_t logged;
    Slot *slots;
    size_t nslots;
    Req **heap;
    size_t nheap, heap_cap;
    int64_t sleep_until;
    bool quitting;
    int epoll, wake, quit_fd;
    uint64_t serial;
    const char *key, *name;
    uint8_t sent_calls[8192]; /* bitmap over hashes of Gemini calls that went out with a signature */
} g = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* What the dialects do differently. The table stands before "deciding the reply". */
typedef struct Dialect {
    const char *id;   /* how the ids of answers begin */
    const char *call; /* how the ids of calls begin, and how many digits follow */
    int call_digits;
    const char *list;        /* the request's field with the messages */
    const char *eol;         /* of a stream */
    bool named;              /* a stream's events have an event: line */
    const char *junk;        /* the event that carries garbage */
    const char *type;        /* Content-Type of a plain reply */
    const char *stream_type; /* of a stream */
    const char *id_header;   /* the header with the request's id, NULL: none */
    const char *key_bad;     /* the code of a refused key */
    unsigned key_status,
        stream_error; /* the status of a refused key, and the one whose error ends a stream */
    const char *(*key)(Req *);
    bool (*auth)(Req *), (*validate)(Req *);
    void (*plain)(Req *), (*stream)(Req *);
    void (*error)(Req *, Buf *, unsigned status, const char *type, const char *message);
    void (*put)(Req *, const char *event, const char *data, size_t n); /* one event of a stream */
    void (*put_error)(Req *); /* the error that ends a stream, NULL: an event with the error's body */
    const char *finish[5];    /* by Finish */
    const char *unknown;      /* how it refuses an unknown field */
} Dialect;

static const Dialect *own(const Req *r);
static void aws_clear(void);
static void error_body(Req *r, Buf *b, unsigned status, const char *message);

/* Whose headers tell the limits: 0 OpenAI's, 1 Anthropic's, 2 none. */
static int limit_style(const Req *r) {
    return r->dialect == OPENAI || r->dialect == RESPONSES ? 0 : r->dialect == ANTHROPIC ? 1 : 2;
}

static void lock(void) { pthread_mutex_lock(&g.lock); }
static void unlock(void) { pthread_mutex_unlock(&g.lock); }
static uint64_t serial(void) { return __atomic_add_fetch(&g.serial, 1, __ATOMIC_RELAXED); }

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void set_header(Req *r, const char *name, const char *value) {
    size_t i = 0;
    while (i < r->nheaders && strcasecmp(r->hname[i], name)) i++;
    if (i == MAX_HEADERS) return;
    if (i == r->nheaders)
        r->nheaders++;
    else {
        free(r->hname[i]);
        free(r->hvalue[i]);
    }
    r->hname[i] = must(strdup(name));
    r->hvalue[i] = must(strdup(value));
}

/* Notes the first thing wrong with the request; always false, so that checks can end in it. */
__attribute__((format(printf, 2, 3))) static bool bad(Req *r, const char *fmt, ...) {
    if (r->err.n) return false;
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    buf_str(&r->err, text);
    r->err_status = 400;
    return false;
}

static bool bad_code(Req *r, const char *code, const char *param, const char *message) {
    if (r->err.n) return false;
    r->err_code = code;
    r->err_param = param;
    return bad(r, "%s", message);
}

static bool refuse(Req *r, unsigned status, const char *code, const char *message) {
    if (r->err.n) return false;
    bad_code(r, code, NULL, message);
    r->err_status = status;
    return false;
}

/* ---------------------------------------------------------------- limits */

/* A ring of times. */
static void times_push(int64_t **p, size_t *first, size_t *count, size_t *cap, int64_t t) {
    if (*count == *cap) {
        size_t n = *cap * 2 + 64;
        int64_t *q = must(malloc(n * sizeof *q));
        for (size_t i = 0; i < *count; i++) q[i] = (*p)[(*first + i) % *cap];
        free(*p);
        *p = q;
        *first = 0;
        *cap = n;
    }
    (*p)[(*first + (*count)++) % *cap] = t;
}

static void times_drop(int64_t *p, size_t *first, size_t *count, size_t cap, int64_t before) {
    while (*count && p[*first] <= before) {
        *first = (*first + 1) % cap;
        --*count;
    }
}

/* Under the lock. */
static long lane_of(const char *key) {
    for (size_t i = 0; i < g.nlanes; i++)
        if (!strcmp(g.lanes[i].key, key)) return (long)i;
    g.lanes = must(realloc(g.lanes, (g.nlanes + 1) * sizeof *g.lanes));
    Lane *l = &g.lanes[g.nlanes];
    *l = g.any;
    l->key = must(strdup(key));
    l->state = 'o';
    l->level = (double)l->burst;
    l->filled_us = now_us();
    return (long)g.nlanes++;
}

static void lane_fill(Lane *l, int64_t now) {
    double per_us = (double)l->rpm / (double)l->window_us;
    l->level += (double)(now - l->filled_us) * per_us;
    if (l->level > (double)l->burst) l->level = (double)l->burst;
    l->filled_us = now;
}

/* Microseconds until one more request may come; 0 now. */
static int64_t lane_wait(Lane *l, int64_t now) {
    if (l->rpm <= 0) return 0;
    if (l->burst > 0) {
        lane_fill(l, now);
        if (l->level >= 1) return 0;
        return (int64_t)((1 - l->level) * (double)l->window_us / (double)l->rpm) + 1;
    }
    times_drop(l->good, &l->good_first, &l->good_count, l->good_cap, now - l->window_us);
    if (l->good_count < (size_t)l->rpm) return 0;
    return l->good[l->good_first] + l->window_us - now + 1;
}

/* What the headers tell: the limit, what is left of it, and when all of it is there again. */
static void lane_tell(Req *r, Lane *l, int64_t now) {
    if (l->rpm <= 0) return;
    r->told.on = true;
    r->told.limit = l->burst > 0 ? l->burst : l->rpm;
    r->told.remaining = l->burst > 0 ? (json_int_t)l->level : l->rpm - (json_int_t)l->good_count;
    if (l->burst > 0)
        r->told.reset_us = (int64_t)(((double)l->burst - l->level) * (double)l->window_us / (double)l->rpm);
    else if (l->good_count)
        r->told.reset_us = l->good[(l->good_first + l->good_count - 1) % l->good_cap] + l->window_us - now;
}

static void lane_count(Lane *l, int64_t now) {
    l->requests++;
    times_push(&l->times, &l->first, &l->count, &l->cap, now);
    times_drop(l->times, &l->first, &l->count, l->cap, now - l->window_us);
    if ((json_int_t)l->count > l->max_window) l->max_window = (json_int_t)l->count;
}

static void lane_take(Req *r, Lane *l, int64_t now) {
    if (l->burst > 0)
        l->level -= 1;
    else if (l->rpm > 0)
        times_push(&l->good, &l->good_first, &l->good_count, &l->good_cap, now);
    r->admitted = true;
    l->open++;
    if (l->open > l->max_open) l->max_open = l->open;
}

/* The request is over for its key. Before the last byte goes out: a client that has it may send the next. */
static void lane_release(Req *r) {
    lock();
    if (r->admitted) g.lanes[r->lane].open--;
    r->admitted = false;
    unlock();
}

static bool refuse_quota(Req *r) {
    static const char openai[] =
        "You exceeded your current quota, please check your plan and billing details.",
                      anthropic[] = "Your credit balance is too low to access the Anthropic API.",
                      gemini[] = "You exceeded your current quota. Quota exceeded for requests per day.";
    if (r->dialect == ANTHROPIC) return refuse(r, 402, NULL, anthropic);
    if (r->dialect == BEDROCK) return refuse(r, 400, "ServiceQuotaExceededException", openai);
    return r->dialect == GEMINI ? refuse(r, 429, "QUOTA", gemini)
                                : refuse(r, 429, "insufficient_quota", openai);
}

static bool vertex_refused(Req *r) {
    return refuse(r, 401, "ACCESS_TOKEN_EXPIRED", "Request had invalid authentication credentials.");
}

static bool lane_admit(Req *r, Lane *l, int64_t now) {
    if (l->state == 'r') {
        if (r->vertex) return vertex_refused(r);
        if (r->azure) return refuse(r, 401, "401", "Access denied due to invalid subscription key.");
        if (r->dialect == GEMINI)
            return refuse(r, 400, "API_KEY_INVALID", "API key not valid. Please pass a valid API key.");
        return refuse(r, own(r)->key_status, own(r)->key_bad, "Incorrect API key provided.");
    }
    if (l->state == 'q') return refuse_quota(r);
    int64_t wait = lane_wait(l, now);
    if (!wait && l->concurrency > 0 && l->open >= l->concurrency) wait = 1000000;
    if (!wait) lane_take(r, l, now);
    lane_tell(r, l, now);
    if (!wait) return true;
    l->limited++;
    snprintf(r->retry, sizeof r->retry, "%.3f", (double)wait / 1e6);
    return refuse(r, 429, NULL, "Rate limit reached. Please try again later.");
}

/* Counts the request for its key, and refuses it when the key may not send one now. */
static bool admit(Req *r, const char *key) {
    lock();
    r->lane = lane_of(key);
    Lane *l = &g.lanes[r->lane];
    int64_t now = now_us();
    lane_count(l, now);
    bool ok = lane_admit(r, l, now);
    if (!ok) l->refused++;
    unlock();
    return ok;
}

static void clear_lanes(void) {
    for (size_t i = 0; i < g.nlanes; i++) {
        Lane *l = &g.lanes[i];
        json_int_t open = l->open;
        char *key = l->key;
        free(l->times);
        free(l->good);
        *l = (Lane){.key = key, .state = 'o', .open = open, .max_open = open, .window_us = 60000000};
    }
    g.any = (Lane){.state = 'o', .window_us = 60000000};
}

/* ---------------------------------------------------------------- faults */

enum { K_INT, K_BOOL, K_STR, K_OBJ, K_ARR, K_ANY };
typedef struct FaultField {
    const char *name;
    int kind;
    size_t at;
} FaultField;
#define F(kind, name)                                                                                        \
    { #name, kind, offsetof(Fault, name) }

static const FaultField fault_fields[] = {
    F(K_STR, model),
    F(K_INT, times),
    F(K_INT, status),
    F(K_STR, body),
    F(K_STR, error_type),
    F(K_ANY, error_code),
    F(K_STR, error_message),
    F(K_OBJ, headers),
    F(K_STR, retry_after),
    F(K_INT, delay_ms),
    F(K_INT, first_token_delay_ms),
    F(K_INT, chunk_ms),
    F(K_INT, chunk_chars),
    F(K_INT, drip_bytes),
    F(K_INT, drip_ms),
    F(K_INT, cut_after),
    F(K_BOOL, cut_in_utf8),
    F(K_INT, error_after),
    F(K_BOOL, garbage),
    F(K_INT, garbage_after),
    F(K_BOOL, endless),
    F(K_STR, content_type),
    F(K_BOOL, never),
    F(K_INT, stall_after),
    F(K_BOOL, no_terminator),
    F(K_STR, text),
    F(K_INT, text_repeat),
    F(K_STR, reasoning),
    F(K_ARR, tool_calls),
    F(K_STR, finish),
    F(K_INT, cached),
    F(K_INT, usage_input),
    F(K_INT, usage_output),
    F(K_BOOL, usage_none),
    F(K_STR, redirect),
    F(K_BOOL, keepalive_comments),
    F(K_BOOL, split_utf8),
    F(K_BOOL, close),
    F(K_STR, model_echo),
    F(K_STR, refusal),
    {"first_ms", K_INT, offsetof(Fault, first_token_delay_ms)},
    F(K_INT, script),
    F(K_INT, cut_at),
    F(K_INT, cut_reasoning),
    F(K_INT, cut_args),
    F(K_INT, cut_body),
    F(K_INT, cut_times),
    F(K_INT, seam),
    F(K_INT, dim),
    F(K_BOOL, rethink),
    F(K_STR, exception),
    {"exception_after", K_INT, offsetof(Fault, error_after)},
    F(K_BOOL, frame_error),
    F(K_BOOL, flat),
    F(K_BOOL, content_filter),
    F(K_BOOL, embed_short),
    F(K_BOOL, embed_shuffled),
    F(K_BOOL, crc),
    F(K_INT, crc_after),
};

static void fault_init(Fault *f) {
    *f = (Fault){0};
    for (size_t i = 0; i < COUNT(fault_fields); i++)
        if (fault_fields[i].kind == K_INT) *(json_int_t *)((char *)f + fault_fields[i].at) = -1;
}

static bool fault_set(Fault *f, const FaultField *ff, json_t *v) {
    char *at = (char *)f + ff->at;
    if (ff->kind == K_INT) {
        *(json_int_t *)at = json_integer_value(v);
        return json_is_integer(v) && json_integer_value(v) >= 0;
    }
    if (ff->kind == K_BOOL) {
        *(bool *)at = json_is_true(v);
        return json_is_boolean(v);
    }
    *(json_t **)at = v;
    return ff->kind == K_ANY || (ff->kind == K_STR && json_is_string(v)) ||
           (ff->kind == K_OBJ && json_is_object(v)) || (ff->kind == K_ARR && json_is_array(v));
}

static bool fault_values_ok(Fault *f, Buf *err) {
    const char *key;
    json_t *v;
    size_t i;
    json_object_foreach(f->headers, key,
                        v) if (!json_is_string(v)) return buf_fmt(err, "headers.%s must be a string", key),
        false;
    json_array_foreach(f->tool_calls, i, v) {
        json_t *args = json_object_get(v, "arguments");
        bool ok = json_is_string(json_object_get(v, "name")) &&
                  (!args || json_is_object(args) || json_is_string(args));
        if (!ok) return buf_fmt(err, "tool_calls[%zu] must be {name, arguments}", i), false;
    }
    if ((f->exception || f->frame_error) && f->error_after < 0) f->error_after = 0;
    if (f->crc && f->crc_after < 0) f->crc_after = 1;
    if (json_array_size(f->tool_calls) > MAX_CALLS) return buf_str(err, "tool_calls: too many"), false;
    if (f->status >= 0 && (f->status < 200 || f->status > 599))
        return buf_str(err, "status is out of range"), false;
    return true;
}

/* Takes its own reference to obj. On failure err names the field. */
static bool fault_parse(Fault *f, json_t *obj, Buf *err) {
    fault_init(f);
    if (!json_is_object(obj)) return buf_str(err, "the faults must be a JSON object"), false;
    const char *key;
    json_t *v;
    json_object_foreach(obj, key, v) {
        size_t i = 0;
        while (i < COUNT(fault_fields) && strcmp(fault_fields[i].name, key)) i++;
        if (i == COUNT(fault_fields)) return buf_fmt(err, "unknown field '%s'", key), false;
        if (!fault_set(f, &fault_fields[i], v))
            return buf_fmt(err, "field '%s' has a wrong type or value", key), false;
    }
    if (!fault_values_ok(f, err)) return false;
    f->root = json_incref(obj);
    return true;
}

/* First rule for the model that has times left, else nothing. */
static void fault_from_rules(Req *r) {
    for (size_t i = 0; i < g.nrules; i++) {
        Rule *rule = &g.rules[i];
        if (!rule->left || (strcmp(rule->model, "*") && strcmp(rule->model, r->model))) continue;
        if (rule->left > 0) rule->left--;
        r->f = rule->f;
        json_incref(r->f.root);
        return;
    }
}

/* ---------------------------------------------------------------- validation, shared */

#define T_STR 1u
#define T_INT 2u
#define T_NUM 4u
#define T_BOOL 8u
#define T_ARR 16u
#define T_OBJ 32u
#define T_NULL 64u
#define T_FOREIGN 128u /* a field of another dialect: a real server refuses it as unknown */
#define T_NEED 256u

typedef struct Field {
    const char *name;
    unsigned types;
    double min, max;
} Field;

static unsigned json_types(const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_STRING: return T_STR;
    case JSON_INTEGER: return T_INT | T_NUM;
    case JSON_REAL: return T_NUM;
    case JSON_TRUE:
    case JSON_FALSE: return T_BOOL;
    case JSON_ARRAY: return T_ARR;
    case JSON_OBJECT: return T_OBJ;
    default: return T_NULL;
    }
}

static bool check_field(Req *r, const json_t *obj, const Field *f, const char *where) {
    const char *dot = *where ? "." : "";
    json_t *v = json_object_get(obj, f->name);
    if (!v) return !(f->types & T_NEED) || bad(r, "%s%s%s: field required", where, dot, f->name);
    if (f->types & T_FOREIGN) return bad(r, "%s%s%s: unknown field", where, dot, f->name);
    if (!(json_types(v) & f->types)) return bad(r, "%s%s%s: wrong type", where, dot, f->name);
    bool ranged = f->min < f->max && json_is_number(v);
    double n = json_number_value(v);
    if (ranged && (n < f->min || n > f->max)) return bad(r, "%s%s%s: out of range", where, dot, f->name);
    return true;
}

static bool check_fields(Req *r, const json_t *obj, const Field *f, size_t n, const char *where) {
    if (!json_is_object(obj)) return bad(r, "%s: must be an object", where);
    for (size_t i = 0; i < n; i++)
        if (!check_field(r, obj, &f[i], where)) return false;
    return true;
}
#define CHECK_FIELDS(r, obj, table, where) check_fields(r, obj, table, COUNT(table), where)

/* Also refuses every field that is not in the list, in the dialect's own words. */
static bool only_fields(Req *r, json_t *obj, const Field *f, size_t n, const char *where) {
    const char *key;
    char text[400], path[200];
    json_t *v;
    json_object_foreach(obj, key, v) {
        size_t i = 0;
        while (i < n && strcmp(f[i].name, key)) i++;
        if (i < n) continue;
        const char *form = own(r)->unknown, *mark = strstr(form, "%s");
        snprintf(path, sizeof path, "%s%s%s", where, *where ? "." : "", key);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(mark - form), form, path, mark + 2);
        return bad_code(r, limit_style(r) == 0 ? "unknown_parameter" : NULL, NULL, text);
    }
    return check_fields(r, obj, f, n, where);
}
#define ONLY_FIELDS(r, obj, table, where) only_fields(r, obj, table, COUNT(table), where)

static const char *str_of(const json_t *obj, const char *key) {
    const char *s = json_string_value(json_object_get(obj, key));
    return s ? s : "";
}

static bool is_one_of(const char *s, const char *const *list) {
    while (*list && strcmp(*list, s)) list++;
    return *list != NULL;
}
#define ONE_OF(s, ...) is_one_of(s, (const char *const[]){__VA_ARGS__, NULL})

static bool name_ok(const char *s, const char *extra, size_t max) {
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)s[i]) && !strchr(extra, s[i])) return false;
    return n > 0 && n <= max;
}

static bool starts_with(const char *s, const char *start) {
    while (*start && *s == *start) s++, start++; /* not strncmp: gcc 12 warns when it can see that s is "" */
    return !*start;
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

/* Counts text towards the input tokens and, when into is given, keeps it. */
static void take_text(Req *r, Buf *into, const json_t *s) {
    r->ask.in_bytes += json_string_length(s);
    if (into) buf_add(into, json_string_value(s), json_string_length(s));
}

static bool take_image_b64(Req *r, Buf *into, const char *type, const char *data, size_t n,
                           const char *where) {
    long bytes = base64_len(data, n);
    if (bytes <= 0) return bad(r, "%s: invalid base64 data", where);
    if (into) buf_fmt(into, " [image %ld bytes %s]", bytes, type);
    return true;
}

static bool take_data_url(Req *r, Buf *into, const char *url, const char *where) {
    const char *type = url + 5, *mark = strstr(type, ";base64,");
    if (!mark || mark == type || !memchr(type, '/', (size_t)(mark - type)))
        return bad(r, "%s: a data: URL must be data:TYPE/SUBTYPE;base64,...", where);
    char kind[100];
    snprintf(kind, sizeof kind, "%.*s", (int)(mark - type), type);
    return take_image_b64(r, into, kind, mark + 8, strlen(mark + 8), where);
}

static bool take_url(Req *r, Buf *into, const char *url, const char *where) {
    if (starts_with(url, "data:")) return take_data_url(r, into, url, where);
    if (!starts_with(url, "http://") && !starts_with(url, "https://"))
        return bad(r, "%s: invalid URL", where);
    if (into) buf_fmt(into, " [image %s]", url);
    return true;
}

static bool check_schema(Req *r, const json_t *schema, const char *where) {
    json_t *props = json_object_get(schema, "properties"), *required = json_object_get(schema, "required"),
           *name;
    size_t i;
    if (!json_is_object(schema)) return bad(r, "%s: the schema must be an object", where);
    if (props && !json_is_object(props)) return bad(r, "%s.properties: must be an object", where);
    if (required && !json_is_array(required)) return bad(r, "%s.required: must be an array", where);
    json_array_foreach(required, i, name) if (!json_is_string(name)) return bad(
        r, "%s.required[%zu]: must be a string", where, i);
    return true;
}

/* Parameters of a tool: real servers want an object schema. */
static bool check_params(Req *r, const json_t *schema, const char *where) {
    if (!check_schema(r, schema, where)) return false;
    return !strcasecmp(str_of(schema, "type"), "object") || bad(r, "%s.type: must be \"object\"", where);
}

static bool check_strings(Req *r, const json_t *list, size_t max, const char *where) {
    size_t i;
    json_t *s;
    if (json_array_size(list) > max) return bad(r, "%s: at most %zu", where, max);
    json_array_foreach(list, i, s) if (!json_string_length(s)) return bad(
        r, "%s[%zu]: must be a nonempty string", where, i);
    return true;
}

/* The declaration of the named tool in ask.tools, a plain list of objects with "name". */
static json_t *find_tool(Req *r, const char *name) {
    size_t i;
    json_t *t;
    json_array_foreach(r->ask.tools, i, t) if (!strcmp(str_of(t, "name"), name)) return t;
    return NULL;
}

static bool add_tool(Req *r, json_t *decl, const char *name_extra, size_t name_max, const char *where) {
    const char *name = str_of(decl, "name");
    if (!name_ok(name, name_extra, name_max)) return bad(r, "%s.name: invalid tool name '%s'", where, name);
    if (find_tool(r, name)) return bad(r, "%s.name: duplicate tool name '%s'", where, name);
    if (!r->ask.tools) r->ask.tools = json_array();
    json_array_append(r->ask.tools, decl);
    return true;
}

/* ids: a set (JSON object) of calls that wait for their result. */
static bool answer_call(Req *r, json_t *ids, const char *id, const char *where) {
    if (!json_object_del(ids, id)) return true;
    return bad(r, "%s: no preceding tool call with id '%s'", where, id);
}

/* ---------------------------------------------------------------- validation, openai */

static const Field openai_fields[] = {
    {"model", T_STR | T_NEED, 0, 0},
    {"messages", T_ARR | T_NEED, 0, 0},
    {"max_completion_tokens", T_INT | T_NULL, 1, 1e9},
    {"max_tokens", T_INT | T_NULL, 1, 1e9},
    {"temperature", T_NUM | T_NULL, 0, 2},
    {"top_p", T_NUM | T_NULL, 0, 1},
    {"n", T_INT | T_NULL, 1, 128},
    {"stop", T_STR | T_ARR | T_NULL, 0, 0},
    {"seed", T_INT | T_NULL, 0, 0},
    {"frequency_penalty", T_NUM | T_NULL, -2, 2},
    {"presence_penalty", T_NUM | T_NULL, -2, 2},
    {"response_format", T_OBJ, 0, 0},
    {"tools", T_ARR, 0, 0},
    {"tool_choice", T_STR | T_OBJ, 0, 0},
    {"parallel_tool_calls", T_BOOL, 0, 0},
    {"stream", T_BOOL | T_NULL, 0, 0},
    {"stream_options", T_OBJ | T_NULL, 0, 0},
    {"reasoning_effort", T_STR | T_NULL, 0, 0},
    {"user", T_STR, 0, 0},
    {"safety_identifier", T_STR, 0, 0},
    {"prompt_cache_key", T_STR, 0, 0},
    {"prompt_cache_retention", T_STR | T_NULL, 0, 0},
    {"service_tier", T_STR | T_NULL, 0, 0},
    {"metadata", T_OBJ | T_NULL, 0, 0},
    {"store", T_BOOL | T_NULL, 0, 0},
    {"logprobs", T_BOOL | T_NULL, 0, 0},
    {"top_logprobs", T_INT | T_NULL, 0, 20},
    {"logit_bias", T_OBJ | T_NULL, 0, 0},
    {"system", T_FOREIGN, 0, 0},
    {"stop_sequences", T_FOREIGN, 0, 0},
    {"max_output_tokens", T_FOREIGN, 0, 0},
    {"generationConfig", T_FOREIGN, 0, 0},
    {"contents", T_FOREIGN, 0, 0},
    {"output_config", T_FOREIGN, 0, 0},
};

static bool openai_image(Req *r, json_t *part, Buf *images, const char *where) {
    static const Field f[] = {{"url", T_STR | T_NEED, 0, 0}, {"detail", T_STR, 0, 0}};
    json_t *img = json_object_get(part, "image_url");
    if (!CHECK_FIELDS(r, img, f, where)) return false;
    if (json_object_get(img, "detail") && !ONE_OF(str_of(img, "detail"), "auto", "low", "high", "original"))
        return bad(r, "%s.detail: invalid", where);
    return take_url(r, images, str_of(img, "url"), where);
}

static bool openai_audio(Req *r, json_t *part, const char *where) {
    json_t *a = json_object_get(part, "input_audio"), *data = json_object_get(a, "data");
    if (!ONE_OF(str_of(a, "format"), "wav", "mp3")) return bad(r, "%s.format: must be wav or mp3", where);
    return take_image_b64(r, NULL, "", str_of(a, "data"), json_string_length(data), where);
}

static bool openai_file(Req *r, json_t *part, const char *where) {
    json_t *file = json_object_get(part, "file");
    const char *data = str_of(file, "file_data");
    if (*str_of(file, "file_id")) return true;
    if (!starts_with(data, "data:"))
        return bad(r, "%s: file_id or a data: URL in file_data is required", where);
    return take_data_url(r, NULL, data, where);
}

/* The vendor's name in the path. */
static bool at_vendor(const Req *r, const char *name) {
    char part[40];
    snprintf(part, sizeof part, "/%s/", name);
    return strstr(r->uri, part) != NULL;
}

/* user: all kinds of parts are allowed, elsewhere only text. */
static bool openai_part(Req *r, json_t *part, bool user, Buf *text, Buf *images, const char *where) {
    const char *type = str_of(part, "type");
    if (!strcmp(type, "text")) {
        json_t *s = json_object_get(part, "text");
        if (!json_is_string(s)) return bad(r, "%s.text: must be a string", where);
        take_text(r, text, s);
        return true;
    }
    if (strcmp(type, "text") && at_vendor(r, "deepseek"))
        return bad(r, "%s: unknown variant `%s`, expected `text`", where, type);
    if (user && !strcmp(type, "image_url")) return openai_image(r, part, images, where);
    if (user && !strcmp(type, "input_audio")) return openai_audio(r, part, where);
    if (user && !strcmp(type, "file")) return openai_file(r, part, where);
    return bad(r, "%s.type: invalid content part '%s'", where, type);
}

static bool openai_content(Req *r, json_t *msg, bool user, Buf *text, Buf *images, const char *where) {
    json_t *c = json_object_get(msg, "content"), *part;
    size_t i;
    char at[100];
    if (json_is_string(c)) {
        take_text(r, text, c);
        return true;
    }
    if (!json_array_size(c)) return bad(r, "%s.content: must be a string or a nonempty array", where);
    json_array_foreach(c, i, part) {
        snprintf(at, sizeof at, "%s.content[%zu]", where, i);
        if (!openai_part(r, part, user, text, images, at)) return false;
    }
    return true;
}

static bool openai_calls(Req *r, json_t *calls, json_t *ids, const char *where) {
    size_t i;
    json_t *c;
    if (!json_array_size(calls)) return bad(r, "%s.tool_calls: must be a nonempty array", where);
    json_array_foreach(calls, i, c) {
        json_t *fn = json_object_get(c, "function");
        bool ok = *str_of(c, "id") && !strcmp(str_of(c, "type"), "function") &&
                  name_ok(str_of(fn, "name"), "_-", 64) && json_is_string(json_object_get(fn, "arguments"));
        if (!ok)
            return bad(r,
                       "%s.tool_calls[%zu]: must be {id, type:function, function:{name, arguments:string}}",
                       where, i);
        if (strlen(str_of(c, "id")) > 40)
            return bad(
                r,
                "Invalid '%s.tool_calls[%zu].id': string too long. Expected a string with maximum length 40",
                where, i);
        take_text(r, NULL, json_object_get(fn, "arguments"));
        json_object_set_new(ids, str_of(c, "id"), json_true());
    }
    return true;
}

static bool openai_assistant(Req *r, json_t *msg, json_t *ids, const char *where) {
    json_t *calls = json_object_get(msg, "tool_calls"), *c = json_object_get(msg, "content");
    if (calls && !openai_calls(r, calls, ids, where)) return false;
    if ((!c || json_is_null(c)) && (calls || *str_of(msg, "refusal"))) return true;
    return openai_content(r, msg, false, NULL, NULL, where);
}

static bool openai_tool(Req *r, json_t *msg, json_t *ids, const char *where) {
    if (!*str_of(msg, "tool_call_id")) return bad(r, "%s.tool_call_id: field required", where);
    if (!answer_call(r, ids, str_of(msg, "tool_call_id"), where)) return false;
    if (r->ask.has_results) buf_str(&r->ask.results, "; ");
    r->ask.has_results = true;
    return openai_content(r, msg, false, &r->ask.results, NULL, where);
}

static bool openai_message(Req *r, json_t *msg, json_t *ids, size_t i) {
    char where[40];
    snprintf(where, sizeof where, "messages[%zu]", i);
    const char *role = str_of(msg, "role");
    if (strcmp(role, "tool")) {
        if (json_object_size(ids))
            return bad(
                r,
                "%s: an assistant message with 'tool_calls' must be followed by tool messages responding "
                "to each 'tool_call_id'",
                where);
        r->ask.has_results = false;
        r->ask.results.n = 0;
    } else {
        return openai_tool(r, msg, ids, where);
    }
    if (!strcmp(role, "assistant")) return openai_assistant(r, msg, ids, where);
    if (ONE_OF(role, "system", "developer")) return openai_content(r, msg, false, NULL, NULL, where);
    if (strcmp(role, "user")) return bad(r, "%s.role: invalid value '%s'", where, role);
    r->ask.user.n = r->ask.images.n = 0;
    return openai_content(r, msg, true, &r->ask.user, &r->ask.images, where);
}

static bool openai_messages(Req *r) {
    json_t *list = json_object_get(r->root, "messages"), *msg, *ids = json_object();
    size_t i;
    bool ok = json_array_size(list) || bad(r, "messages: must not be empty");
    json_array_foreach(list, i, msg) ok = ok && openai_message(r, msg, ids, i);
    if (ok && json_object_size(ids)) ok = bad(r, "messages: tool calls at the end have no tool messages");
    json_decref(ids);
    return ok;
}

static bool openai_tools(Req *r) {
    static const Field fn_fields[] = {{"name", T_STR | T_NEED, 0, 0},
                                      {"description", T_STR, 0, 0},
                                      {"parameters", T_OBJ, 0, 0},
                                      {"strict", T_BOOL | T_NULL, 0, 0}};
    json_t *tools = json_object_get(r->root, "tools"), *t;
    size_t i;
    char where[40];
    if (tools && !json_array_size(tools)) return bad(r, "tools: must not be empty");
    json_array_foreach(tools, i, t) {
        json_t *fn = json_object_get(t, "function"), *params = json_object_get(fn, "parameters");
        snprintf(where, sizeof where, "tools[%zu].function", i);
        if (strcmp(str_of(t, "type"), "function")) return bad(r, "tools[%zu].type: must be 'function'", i);
        if (!CHECK_FIELDS(r, fn, fn_fields, where)) return false;
        if (params && !check_params(r, params, where)) return false;
        if (!add_tool(r, fn, "_-", 64, where)) return false;
    }
    return true;
}

static bool openai_choice(Req *r) {
    json_t *choice = json_object_get(r->root, "tool_choice");
    if (!choice) return true;
    const char *word = json_string_value(choice), *name = str_of(json_object_get(choice, "function"), "name");
    if (!r->ask.tools && word && !strcmp(word, "none")) return true;
    if (!r->ask.tools) return bad(r, "tool_choice: only allowed when 'tools' are specified");
    if (word && !ONE_OF(word, "auto", "none", "required", "any"))
        return bad(r, "tool_choice: invalid value '%s'", word);
    if (word && !strcmp(word, "none")) r->ask.no_calls = true;
    if (word && ONE_OF(word, "required", "any")) r->ask.forced = json_array_get(r->ask.tools, 0);
    if (word) return true;
    r->ask.forced = find_tool(r, name);
    bool ok = !strcmp(str_of(choice, "type"), "function") && r->ask.forced;
    return ok || bad(r, "tool_choice: must name a function in 'tools'");
}

/* JSON mode: the word must stand in the messages; only llama.cpp takes a schema with it. */
static bool openai_json_object(Req *r, json_t *format) {
    char *text = must(json_dumps(json_object_get(r->root, "messages"), JSON_COMPACT));
    bool named = strcasestr(text, "json") != NULL;
    free(text);
    r->ask.json_object = true;
    r->ask.schema = json_object_get(format, "schema");
    if (r->ask.schema && !strstr(r->uri, "/llamacpp/"))
        return bad(r, "response_format.schema: unknown field");
    return named || r->ask.schema ||
           bad(r, "'messages' must contain the word 'json' in some form, to use 'response_format' of type "
                  "'json_object'.");
}

static bool openai_format(Req *r) {
    json_t *rf = json_object_get(r->root, "response_format"), *js = json_object_get(rf, "json_schema");
    const char *type = str_of(rf, "type");
    if (!rf || !strcmp(type, "text")) return true;
    if (!strcmp(type, "json_object")) return openai_json_object(r, rf);
    if (strstr(r->uri, "/deepseek/") || strstr(r->uri, "/moonshot/") || strstr(r->uri, "/qwen/"))
        return bad(r, "response_format.type: this response_format type is unavailable now");
    if (strcmp(type, "json_schema")) return bad(r, "response_format.type: invalid value '%s'", type);
    if (!name_ok(str_of(js, "name"), "_-", 64))
        return bad(r, "response_format.json_schema.name: missing or invalid");
    r->ask.schema = json_object_get(js, "schema");
    json_t *strict = json_object_get(js, "strict");
    if (strict && !json_is_boolean(strict) && !json_is_null(strict))
        return bad(r, "response_format.json_schema.strict: wrong type");
    return check_schema(r, r->ask.schema, "response_format.json_schema.schema");
}

/* What OpenAI's own reasoning models refuse. */
static bool openai_gates(Req *r) {
    json_t *temp = json_object_get(r->root, "temperature"), *top = json_object_get(r->root, "top_p");
    bool gated =
        starts_with(r->model, "gpt-5") || (r->model[0] == 'o' && isdigit((unsigned char)r->model[1]));
    if (!gated) return true;
    if (json_is_integer(json_object_get(r->root, "max_tokens")))
        return bad_code(r, "unsupported_parameter", "max_tokens",
                        "Unsupported parameter: 'max_tokens' is not "
                        "supported with this model. Use 'max_completion_tokens' instead.");
    bool ok = (!json_is_number(temp) || json_number_value(temp) == 1) &&
              (!json_is_number(top) || json_number_value(top) == 1);
    return ok || bad_code(r, "unsupported_value", "temperature",
                          "Unsupported value: 'temperature' and 'top_p' do "
                          "not support other values than 1 with this model.");
}

static bool openai_stream(Req *r) {
    json_t *opt = json_object_get(r->root, "stream_options"), *use = json_object_get(opt, "include_usage");
    r->ask.stream = json_is_true(json_object_get(r->root, "stream"));
    r->ask.usage_asked = json_is_true(use) || strstr(r->uri, "/mistral/"); /* it tells unasked */
    if (use && !json_is_boolean(use)) return bad(r, "stream_options.include_usage: wrong type");
    if (json_is_object(opt) && !r->ask.stream)
        return bad(r, "The 'stream_options' parameter is only allowed when 'stream' is enabled.");
    return true;
}

static bool openai_limits(Req *r) {
    json_t *a = json_object_get(r->root, "max_tokens"),
           *b = json_object_get(r->root, "max_completion_tokens");
    json_t *stop = json_object_get(r->root, "stop"), *n = json_object_get(r->root, "n");
    if (json_is_integer(a) && json_is_integer(b))
        return bad(r, "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.");
    if (json_is_integer(n) && json_integer_value(n) != 1) return bad(r, "n: this fake only answers n = 1");
    if (json_is_string(stop) && !json_string_length(stop)) return bad(r, "stop: must not be empty");
    if (json_is_array(stop) && !check_strings(r, stop, 4, "stop")) return false;
    r->ask.stop = json_is_null(stop) ? NULL : stop;
    r->ask.max_tokens = json_is_integer(a)   ? json_integer_value(a)
                        : json_is_integer(b) ? json_integer_value(b)
                                             : -1;
    return true;
}

/* In a loop of tools these two want to read again what they thought before the calls (WIRE.md 5). */
static bool openai_loop(Req *r) {
    json_t *list = json_object_get(r->root, "messages");
    size_t at = json_array_size(list);
    if (!r->ask.reasoning || !(at_vendor(r, "deepseek") || at_vendor(r, "moonshot"))) return true;
    while (at && !strcmp(str_of(json_array_get(list, at - 1), "role"), "tool")) at--;
    if (!at || at == json_array_size(list)) return true;
    return *str_of(json_array_get(list, at - 1), "reasoning_content") ||
           bad(r,
               "thinking is enabled but reasoning_content is missing in assistant tool call message at "
               "index %zu",
               at - 1);
}

/* Who thinks by another word than reasoning_effort, by no word, or not at all (WIRE.md 5, docs.x.ai, groq). */
static bool openai_thinks(Req *r, const char *effort) {
    json_t *enable = json_object_get(r->root, "enable_thinking"),
           *think = json_object_get(r->root, "thinking");
    const char *type = str_of(think, "type");
    if (enable && !(at_vendor(r, "qwen") && json_is_boolean(enable)))
        return bad(r, "enable_thinking: only qwen's, a boolean");
    if (think &&
        !((at_vendor(r, "deepseek") || at_vendor(r, "moonshot")) && ONE_OF(type, "enabled", "disabled")))
        return bad(r, "thinking: only deepseek's and moonshot's, {type: enabled or disabled}");
    if (*effort && at_vendor(r, "groq") && !strstr(r->model, "gpt-oss") && !strstr(r->model, "qwen3"))
        return bad(r, "`reasoning_effort` is not supported with this model");
    if (*effort && at_vendor(r, "xai") && ONE_OF(r->model, "grok-4", "grok-3"))
        return bad(r, "Model %s does not support parameter reasoningEffort.", r->model);
    r->ask.reasoning = (*effort && strcmp(effort, "none")) || json_is_true(enable) ||
                       !strcmp(type, "enabled") ||
                       (at_vendor(r, "mistral") && starts_with(r->model, "magistral"));
    return openai_loop(r);
}

static bool openai_validate(Req *r) {
    const char *effort = str_of(r->root, "reasoning_effort");
    if (!CHECK_FIELDS(r, r->root, openai_fields, "")) return false;
    if (*effort && !ONE_OF(effort, "none", "minimal", "low", "medium", "high", "xhigh", "max"))
        return bad(r, "reasoning_effort: invalid value '%s'", effort);
    r->ask.one_call = json_is_false(json_object_get(r->root, "parallel_tool_calls"));
    return openai_thinks(r, effort) && openai_stream(r) && openai_limits(r) && openai_gates(r) &&
           openai_tools(r) && openai_choice(r) && openai_format(r) && openai_messages(r);
}

/* ---------------------------------------------------------------- validation, anthropic */

static const Field anthropic_fields[] = {
    {"model", T_STR | T_NEED, 0, 0},
    {"messages", T_ARR | T_NEED, 0, 0},
    {"max_tokens", T_INT | T_NEED, 1, 1e9},
    {"system", T_STR | T_ARR, 0, 0},
    {"temperature", T_NUM, 0, 1},
    {"top_p", T_NUM, 0, 1},
    {"top_k", T_INT, 0, 1e9},
    {"stop_sequences", T_ARR, 0, 0},
    {"tools", T_ARR, 0, 0},
    {"tool_choice", T_OBJ, 0, 0},
    {"stream", T_BOOL, 0, 0},
    {"thinking", T_OBJ, 0, 0},
    {"output_config", T_OBJ, 0, 0},
    {"metadata", T_OBJ, 0, 0},
    {"service_tier", T_STR, 0, 0},
    {"cache_control", T_OBJ | T_NULL, 0, 0},
    {"stop", T_FOREIGN, 0, 0},
    {"max_completion_tokens", T_FOREIGN, 0, 0},
    {"response_format", T_FOREIGN, 0, 0},
    {"stream_options", T_FOREIGN, 0, 0},
    {"n", T_FOREIGN, 0, 0},
    {"seed", T_FOREIGN, 0, 0},
    {"reasoning_effort", T_FOREIGN, 0, 0},
    {"frequency_penalty", T_FOREIGN, 0, 0},
    {"presence_penalty", T_FOREIGN, 0, 0},
    {"parallel_tool_calls", T_FOREIGN, 0, 0},
    {"user", T_FOREIGN, 0, 0},
    {"generationConfig", T_FOREIGN, 0, 0},
    {"contents", T_FOREIGN, 0, 0},
};

/* State of a walk over Anthropic's messages. */
typedef struct Walk {
    json_t *ids;  /* calls that wait for their results */
    json_t *used; /* all ids so far: of turns before, too (Switchyard issue 502) */
    Buf *text, *images;
    bool user, other_seen;
    size_t cache_marks;
} Walk;

static bool anthropic_source(Req *r, json_t *block, Buf *images, const char *where) {
    json_t *src = json_object_get(block, "source");
    const char *type = str_of(src, "type"), *data = str_of(src, "data"), *media = str_of(src, "media_type");
    if (!strcmp(type, "base64")) {
        if (!strchr(media, '/')) return bad(r, "%s.source.media_type: invalid", where);
        return take_image_b64(r, images, media, data, strlen(data), where);
    }
    if (!strcmp(type, "url")) {
        if (starts_with(str_of(src, "url"), "data:"))
            return bad(r, "%s.source.url: only http(s) URLs", where);
        return take_url(r, images, str_of(src, "url"), where);
    }
    bool document = !strcmp(str_of(block, "type"), "document");
    if (document && ONE_OF(type, "text", "file", "content")) return true;
    return bad(r, "%s.source.type: invalid value '%s'", where, type);
}

static bool anthropic_text(Req *r, json_t *block, Buf *into, const char *where) {
    json_t *s = json_object_get(block, "text");
    if (!json_string_length(s))
        return bad(r, "%s.text: text content blocks must be non-empty strings", where);
    if (strspn(json_string_value(s), " \t\r\n") == json_string_length(s))
        return bad(r, "%s.text: text content blocks must contain non-whitespace text", where);
    take_text(r, into, s);
    return true;
}

static bool anthropic_result_content(Req *r, json_t *c, Buf *into, const char *where) {
    size_t i;
    json_t *b;
    if (!c) return true;
    if (json_is_string(c)) {
        take_text(r, into, c);
        return true;
    }
    if (!json_is_array(c)) return bad(r, "%s.content: must be a string or an array", where);
    json_array_foreach(c, i, b) {
        const char *type = str_of(b, "type");
        bool ok = !strcmp(type, "text") ? anthropic_text(r, b, into, where)
                  : !strcmp(type, "image")
                      ? anthropic_source(r, b, NULL, where)
                      : bad(r, "%s.content[%zu].type: invalid value '%s'", where, i, type);
        if (!ok) return false;
    }
    return true;
}

static bool anthropic_result(Req *r, json_t *b, Walk *w, const char *where) {
    json_t *is_error = json_object_get(b, "is_error");
    if (!w->user) return bad(r, "%s: tool_result blocks can only be in user messages", where);
    if (w->other_seen) return bad(r, "%s: tool_result blocks must come first in the content", where);
    if (is_error && !json_is_boolean(is_error)) return bad(r, "%s.is_error: wrong type", where);
    if (json_is_true(is_error) && json_is_string(json_object_get(b, "content")) && !*str_of(b, "content"))
        return bad(r, "%s.tool_result: content cannot be empty if `is_error` is true", where);
    if (!answer_call(r, w->ids, str_of(b, "tool_use_id"), where)) return false;
    if (r->ask.has_results) buf_str(&r->ask.results, "; ");
    r->ask.has_results = true;
    return anthropic_result_content(r, json_object_get(b, "content"), &r->ask.results, where);
}

static bool anthropic_use(Req *r, json_t *b, Walk *w, const char *where) {
    if (w->user) return bad(r, "%s: tool_use blocks can only be in assistant messages", where);
    bool ok = name_ok(str_of(b, "id"), "_-", 256) && name_ok(str_of(b, "name"), "_-", 128) &&
              json_is_object(json_object_get(b, "input"));
    if (!ok) return bad(r, "%s: tool_use must be {id, name, input:{}}", where);
    if (json_object_get(w->used, str_of(b, "id"))) return bad(r, "%s: tool_use ids must be unique", where);
    json_object_set_new(w->used, str_of(b, "id"), json_true());
    json_object_set_new(w->ids, str_of(b, "id"), json_true());
    return true;
}

/* The signature is a hash of the text, so an edit of either shows without any state. */
static bool anthropic_thinking(Req *r, json_t *b, Walk *w, const char *where) {
    json_t *t = json_object_get(b, "thinking");
    char want[40];
    if (w->user) return bad(r, "%s: thinking blocks can only be in assistant messages", where);
    if (!json_is_string(t)) return bad(r, "%s.thinking: field required", where);
    snprintf(want, sizeof want, "sig-%u", hash32(json_string_value(t), json_string_length(t)));
    if (strcmp(str_of(b, "signature"), want))
        return bad(r, "%s: Invalid `signature` in `thinking` block", where);
    return true;
}

static bool anthropic_cache(Req *r, json_t *b, Walk *w, const char *where) {
    json_t *cc = json_object_get(b, "cache_control");
    if (!cc || json_is_null(cc)) return true;
    if (strcmp(str_of(cc, "type"), "ephemeral"))
        return bad(r, "%s.cache_control.type: must be ephemeral", where);
    if (json_object_get(cc, "ttl") && !ONE_OF(str_of(cc, "ttl"), "5m", "1h"))
        return bad(r, "%s.cache_control.ttl: must be 5m or 1h", where);
    if (++w->cache_marks > 4) return bad(r, "A maximum of 4 blocks with cache_control may be provided.");
    return true;
}

static bool anthropic_block(Req *r, json_t *b, Walk *w, const char *where) {
    const char *type = str_of(b, "type");
    if (!anthropic_cache(r, b, w, where)) return false;
    if (!strcmp(type, "tool_result")) return anthropic_result(r, b, w, where);
    w->other_seen = true;
    if (!strcmp(type, "text")) return anthropic_text(r, b, w->text, where);
    if (ONE_OF(type, "image", "document")) {
        bool image = type[0] == 'i';
        return w->user ? anthropic_source(r, b, image ? w->images : NULL, where)
                       : bad(r, "%s: %s blocks can only be in user messages", where, type);
    }
    if (!strcmp(type, "tool_use")) return anthropic_use(r, b, w, where);
    if (!strcmp(type, "thinking")) return anthropic_thinking(r, b, w, where);
    if (!strcmp(type, "redacted_thinking"))
        return (!w->user && *str_of(b, "data")) || bad(r, "%s: invalid redacted_thinking", where);
    return bad(r, "%s.type: invalid value '%s'", where, type);
}

static bool anthropic_blocks(Req *r, json_t *msg, Walk *w, const char *where) {
    json_t *c = json_object_get(msg, "content"), *b;
    size_t i;
    char at[100];
    if (json_is_string(c)) {
        if (!json_string_length(c)) return bad(r, "%s.content: must be non-empty", where);
        take_text(r, w->text, c);
        return true;
    }
    if (!json_array_size(c)) return bad(r, "%s.content: must be a string or a nonempty array", where);
    json_array_foreach(c, i, b) {
        snprintf(at, sizeof at, "%s.content.%zu", where, i);
        if (!anthropic_block(r, b, w, at)) return false;
    }
    return true;
}

static bool anthropic_message(Req *r, json_t *msg, Walk *w, size_t i) {
    char where[40];
    const char *role = str_of(msg, "role");
    snprintf(where, sizeof where, "messages.%zu", i);
    if (!ONE_OF(role, "user", "assistant")) return bad(r, "%s.role: must be 'user' or 'assistant'", where);
    w->user = role[0] == 'u';
    if (!i && !w->user) return bad(r, "messages: first message must use the \"user\" role");
    bool calls_wait = json_object_size(w->ids) > 0;
    if (calls_wait && !w->user)
        return bad(r, "%s: `tool_use` blocks without `tool_result` right after", where);
    if (w->user) r->ask.user.n = r->ask.images.n = 0;
    r->ask.results.n = 0;
    r->ask.has_results = w->other_seen = false;
    w->text = w->user ? &r->ask.user : NULL;
    w->images = w->user ? &r->ask.images : NULL;
    if (!anthropic_blocks(r, msg, w, where)) return false;
    if (calls_wait && json_object_size(w->ids))
        return bad(
            r,
            "%s: `tool_use` ids were found without `tool_result` blocks immediately after. Each `tool_use` "
            "block must have a corresponding `tool_result` block in the next message.",
            where);
    return true;
}

/* A trailing assistant message asks for its continuation, which newer models refuse. */
static bool anthropic_prefill(Req *r, json_t *last) {
    static const char *const newer[] = {"4-6",      "4-7",     "4-8",   "opus-5",
                                        "sonnet-5", "haiku-5", "fable", "mythos"};
    if (strcmp(str_of(last, "role"), "assistant")) return true;
    for (size_t i = 0; i < COUNT(newer); i++)
        if (starts_with(r->model, "claude") && strstr(r->model, newer[i]))
            return bad(
                r, "This model does not support assistant message prefill. The conversation must end with a "
                   "user message.");
    if (r->ask.thinks)
        return bad(r, "messages: a final assistant message cannot be continued when `thinking` is enabled");
    json_t *c = json_object_get(last, "content");
    json_t *text = json_is_array(c) ? json_object_get(json_array_get(c, json_array_size(c) - 1), "text") : c;
    const char *s = json_string_value(text);
    size_t n = json_string_length(text);
    return !n || !isspace((unsigned char)s[n - 1]) ||
           bad(r, "messages: final assistant content cannot end with trailing whitespace");
}

static bool anthropic_messages(Req *r, Walk *w) {
    json_t *list = json_object_get(r->root, "messages"), *msg;
    size_t i;
    if (!json_array_size(list)) return bad(r, "messages: at least one message is required");
    json_array_foreach(list, i, msg) if (!anthropic_message(r, msg, w, i)) return false;
    if (json_object_size(w->ids)) return bad(r, "messages: `tool_use` at the end without `tool_result`");
    if (r->ask.user.n) r->ask.has_results = false; /* text after the results is what gets echoed */
    return anthropic_prefill(r, json_array_get(list, json_array_size(list) - 1));
}

static bool anthropic_system(Req *r, Walk *w) {
    json_t *sys = json_object_get(r->root, "system"), *b;
    size_t i;
    if (json_is_string(sys)) take_text(r, NULL, sys);
    json_array_foreach(sys, i, b) {
        if (strcmp(str_of(b, "type"), "text")) return bad(r, "system.%zu.type: must be 'text'", i);
        if (!anthropic_text(r, b, NULL, "system") || !anthropic_cache(r, b, w, "system")) return false;
    }
    return true;
}

static bool anthropic_tools(Req *r, Walk *w) {
    static const Field f[] = {{"name", T_STR | T_NEED, 0, 0},         {"description", T_STR, 0, 0},
                              {"input_schema", T_OBJ | T_NEED, 0, 0}, {"strict", T_BOOL, 0, 0},
                              {"parameters", T_FOREIGN, 0, 0},        {"function", T_FOREIGN, 0, 0}};
    json_t *t;
    size_t i;
    char where[40];
    json_array_foreach(json_object_get(r->root, "tools"), i, t) {
        snprintf(where, sizeof where, "tools.%zu", i);
        if (!CHECK_FIELDS(r, t, f, where) || !anthropic_cache(r, t, w, where)) return false;
        if (!check_params(r, json_object_get(t, "input_schema"), where)) return false;
        if (!add_tool(r, t, "_-", 128, where)) return false;
    }
    return true;
}

static bool anthropic_choice(Req *r) {
    json_t *c = json_object_get(r->root, "tool_choice");
    const char *type = str_of(c, "type");
    if (!c) return true;
    if (!ONE_OF(type, "auto", "any", "tool", "none"))
        return bad(r, "tool_choice.type: invalid value '%s'", type);
    if (!r->ask.tools) return bad(r, "tool_choice: may only be specified while providing tools");
    r->ask.one_call = json_is_true(json_object_get(c, "disable_parallel_tool_use"));
    r->ask.no_calls = !strcmp(type, "none");
    if (!strcmp(type, "any")) r->ask.forced = json_array_get(r->ask.tools, 0);
    if (strcmp(type, "tool")) return true;
    r->ask.forced = find_tool(r, str_of(c, "name"));
    return r->ask.forced || bad(r, "tool_choice.name: no tool named '%s'", str_of(c, "name"));
}

static bool anthropic_think_config(Req *r) {
    json_t *t = json_object_get(r->root, "thinking"), *budget = json_object_get(t, "budget_tokens");
    json_t *temp = json_object_get(r->root, "temperature");
    const char *type = str_of(t, "type");
    if (!t) return true;
    if (!ONE_OF(type, "enabled", "adaptive", "disabled"))
        return bad(r, "thinking.type: invalid value '%s'", type);
    r->ask.reasoning = r->ask.thinks = strcmp(type, "disabled") != 0;
    if (!strcmp(type, "enabled")) {
        if (!json_is_integer(budget) || json_integer_value(budget) < 1024)
            return bad(r, "thinking.budget_tokens: must be an integer of at least 1024");
        if (json_integer_value(budget) >= r->ask.max_tokens)
            return bad(r, "`max_tokens` must be greater than `thinking.budget_tokens`");
    } else if (budget) {
        return bad(r, "thinking.budget_tokens: only allowed when enabled");
    }
    if (r->ask.reasoning && temp && json_number_value(temp) != 1)
        return bad(r, "`temperature` may only be set to 1 when thinking is enabled");
    if (r->ask.reasoning && r->ask.forced)
        return bad(r, "Thinking may not be enabled when tool_choice forces tool use.");
    return true;
}

static bool anthropic_output(Req *r) {
    json_t *oc = json_object_get(r->root, "output_config"), *fmt = json_object_get(oc, "format");
    json_t *effort = json_object_get(oc, "effort");
    if (effort && !ONE_OF(str_of(oc, "effort"), "low", "medium", "high", "xhigh", "max"))
        return bad(r, "output_config.effort: invalid value");
    if (!fmt) return true;
    if (strcmp(str_of(fmt, "type"), "json_schema"))
        return bad(r, "output_config.format.type: must be 'json_schema'");
    r->ask.schema = json_object_get(fmt, "schema");
    if (starts_with(r->model, "claude-3"))
        return bad(r, "output_config.format: this model does not support structured outputs");
    return check_schema(r, r->ask.schema, "output_config.format.schema");
}

static bool anthropic_validate(Req *r) {
    if (!CHECK_FIELDS(r, r->root, anthropic_fields, "")) return false;
    r->ask.stream = json_is_true(json_object_get(r->root, "stream"));
    r->ask.usage_asked = true;
    r->ask.max_tokens = json_integer_value(json_object_get(r->root, "max_tokens"));
    r->ask.stop = json_object_get(r->root, "stop_sequences");
    Walk w = {.ids = json_object(), .used = json_object()};
    bool ok = check_strings(r, r->ask.stop, 1000, "stop_sequences") && anthropic_tools(r, &w) &&
              anthropic_choice(r) && anthropic_think_config(r) && anthropic_output(r) &&
              anthropic_system(r, &w) && anthropic_messages(r, &w);
    json_decref(w.ids);
    json_decref(w.used);
    return ok;
}

/* ---------------------------------------------------------------- validation, gemini */

static const Field gemini_fields[] = {
    {"contents", T_ARR | T_NEED, 0, 0},
    {"systemInstruction", T_OBJ, 0, 0},
    {"generationConfig", T_OBJ, 0, 0},
    {"tools", T_ARR, 0, 0},
    {"toolConfig", T_OBJ, 0, 0},
    {"safetySettings", T_ARR, 0, 0},
    {"cachedContent", T_STR, 0, 0},
    {"labels", T_OBJ, 0, 0},
    {"serviceTier", T_STR, 0, 0},
    {"messages", T_FOREIGN, 0, 0},
    {"max_tokens", T_FOREIGN, 0, 0},
    {"stream", T_FOREIGN, 0, 0},
    {"system", T_FOREIGN, 0, 0},
    {"temperature", T_FOREIGN, 0, 0},
    {"stop", T_FOREIGN, 0, 0},
    {"tool_choice", T_FOREIGN, 0, 0},
    {"response_format", T_FOREIGN, 0, 0},
};

static const Field gemini_config_fields[] = {
    {"temperature", T_NUM, 0, 2},
    {"topP", T_NUM, 0, 1},
    {"topK", T_NUM, 0, 1e9},
    {"maxOutputTokens", T_INT, 1, 1e9},
    {"stopSequences", T_ARR, 0, 0},
    {"seed", T_INT, 0, 0},
    {"candidateCount", T_INT, 1, 1.5},
    {"responseMimeType", T_STR, 0, 0},
    {"responseSchema", T_OBJ, 0, 0},
    {"responseJsonSchema", T_OBJ, 0, 0},
    {"frequencyPenalty", T_NUM, -2, 2},
    {"presencePenalty", T_NUM, -2, 2},
    {"thinkingConfig", T_OBJ, 0, 0},
    {"max_tokens", T_FOREIGN, 0, 0},
    {"top_p", T_FOREIGN, 0, 0},
    {"stop", T_FOREIGN, 0, 0},
};

static void gemini_signature(Buf *b, const char *name) {
    char raw[40];
    int n = snprintf(raw, sizeof raw, "sig-%u", hash32(name, strlen(name)));
    base64_put(b, raw, (size_t)n);
}

/* Identity of a call, independent of the order of its arguments. */
static uint32_t gemini_call_hash(const char *name, const json_t *args) {
    char *s = must(json_dumps(args ? args : json_object(), JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY));
    uint32_t h = (hash32(name, strlen(name)) * 31 + hash32(s, strlen(s))) % (8 * sizeof g.sent_calls);
    free(s);
    return h;
}

static bool gemini_check_signature(Req *r, json_t *part, const char *where) {
    json_t *call = json_object_get(part, "functionCall"), *args = json_object_get(call, "args");
    const char *name = str_of(call, "name"), *have = str_of(part, "thoughtSignature");
    if (!starts_with(r->model, "gemini-3")) return true;
    if (!strcmp(have, "skip_thought_signature_validator")) return true;
    Buf want = {0};
    gemini_signature(&want, name);
    bool same = !strcmp(have, want.p);
    buf_free(&want);
    uint32_t h = args ? gemini_call_hash(name, args) : 0;
    lock();
    bool ours = args && (g.sent_calls[h / 8] >> h % 8 & 1);
    unlock();
    if (!*have && ours)
        return bad(
            r,
            "Function call is missing a thought_signature in functionCall parts. This is required for tools "
            "to work correctly. Function call `%s`, %s.",
            name, where);
    return !*have || same || bad(r, "%s: Thought signature is not valid.", where);
}

/* State of a walk over Gemini's contents: calls of the last model turn and what follows them. */
typedef struct Turn {
    bool user;
    size_t calls, responses, waiting;
    json_t *prev;
} Turn;

static bool gemini_call(Req *r, json_t *part, Turn *t, const char *where) {
    json_t *c = json_object_get(part, "functionCall"), *args = json_object_get(c, "args");
    if (t->user) return bad(r, "%s.functionCall: only allowed in a model turn", where);
    if (!name_ok(str_of(c, "name"), "_-.:", 128))
        return bad(r, "%s.functionCall.name: missing or invalid", where);
    if (args && !json_is_object(args)) return bad(r, "%s.functionCall.args: must be an object", where);
    if (r->vertex && json_object_get(c, "id"))
        return bad(r, "Unknown name \"id\" at '%s.function_call'", where);
    return (t->calls++, gemini_check_signature(r, part, where));
}

static void gemini_result_text(Req *r, json_t *response) {
    static const char *const keys[] = {"result", "output", "content", "error"};
    json_t *v = NULL;
    for (size_t i = 0; !v && i < COUNT(keys) && json_object_size(response) == 1; i++)
        v = json_object_get(response, keys[i]);
    if (json_is_string(v))
        take_text(r, &r->ask.results, v);
    else
        buf_dump(&r->ask.results, v ? v : response);
}

static bool gemini_response(Req *r, json_t *part, Turn *t, const char *where) {
    json_t *f = json_object_get(part, "functionResponse"), *response = json_object_get(f, "response");
    if (!t->user) return bad(r, "%s.functionResponse: only allowed in a user turn", where);
    if (!name_ok(str_of(f, "name"), "_-.:", 128))
        return bad(r, "%s.functionResponse.name: missing or invalid", where);
    if (!json_is_object(response)) return bad(r, "%s.functionResponse.response: must be an object", where);
    if (r->vertex && json_object_get(f, "id"))
        return bad(r, "Unknown name \"id\" at '%s.function_response'", where);
    bool named = false;
    size_t i;
    json_t *p;
    json_array_foreach(json_object_get(t->prev, "parts"), i, p) named =
        named || !strcmp(str_of(json_object_get(p, "functionCall"), "name"), str_of(f, "name"));
    if (!named) return bad(r, "%s.functionResponse.name: no function call of that name before", where);
    if (t->responses++) buf_str(&r->ask.results, "; ");
    r->ask.has_results = true;
    gemini_result_text(r, response);
    return true;
}

static bool gemini_blob(Req *r, json_t *part, Turn *t, const char *where) {
    json_t *in = json_object_get(part, "inlineData"), *file = json_object_get(part, "fileData");
    const char *mime = str_of(in ? in : file, "mimeType"), *data = str_of(in, "data");
    bool image = starts_with(mime, "image/");
    Buf *images = t->user && image ? &r->ask.images : NULL;
    if (in && !strchr(mime, '/')) return bad(r, "%s.inlineData.mimeType: missing or invalid", where);
    if (in) return take_image_b64(r, images, mime, data, strlen(data), where);
    if (!*str_of(file, "fileUri")) return bad(r, "%s.fileData.fileUri: field required", where);
    if (t->user && (image || !*mime)) buf_fmt(&r->ask.images, " [image %s]", str_of(file, "fileUri"));
    return true;
}

static bool gemini_part(Req *r, json_t *part, Turn *t, const char *where) {
    static const char *const kinds[] = {
        "text",           "inlineData",         "fileData", "functionCall", "functionResponse",
        "executableCode", "codeExecutionResult"};
    json_t *sig = json_object_get(part, "thoughtSignature"), *text = json_object_get(part, "text");
    json_t *thought = json_object_get(part, "thought");
    size_t n = 0;
    for (size_t i = 0; i < COUNT(kinds); i++) n += json_object_get(part, kinds[i]) != NULL;
    if (n != 1) return bad(r, "%s: a part must have exactly one kind of data, this has %zu", where, n);
    if (thought && !json_is_boolean(thought)) return bad(r, "%s.thought: wrong type", where);
    bool skip = sig && !strcmp(str_of(part, "thoughtSignature"), "skip_thought_signature_validator");
    if (sig && !skip &&
        (!json_is_string(sig) || base64_len(json_string_value(sig), json_string_length(sig)) < 0))
        return bad(r, "%s.thoughtSignature: invalid base64", where);
    if (json_object_get(part, "functionCall")) return gemini_call(r, part, t, where);
    if (json_object_get(part, "functionResponse")) return gemini_response(r, part, t, where);
    if (!text)
        return json_object_get(part, "inlineData") || json_object_get(part, "fileData")
                   ? gemini_blob(r, part, t, where)
                   : true;
    if (!json_is_string(text)) return bad(r, "%s.text: wrong type", where);
    take_text(r, t->user ? &r->ask.user : NULL, text);
    return true;
}

static bool gemini_parts(Req *r, json_t *content, Turn *t, const char *where) {
    json_t *parts = json_object_get(content, "parts"), *p;
    size_t i;
    char at[100];
    if (!json_array_size(parts)) return bad(r, "%s.parts: must not be empty", where);
    json_array_foreach(parts, i, p) {
        snprintf(at, sizeof at, "%s.parts[%zu]", where, i);
        if (!gemini_part(r, p, t, at)) return false;
    }
    return true;
}

static bool gemini_content(Req *r, json_t *content, Turn *t, size_t i) {
    char where[40];
    const char *role = str_of(content, "role");
    snprintf(where, sizeof where, "contents[%zu]", i);
    if (!ONE_OF(role, "user", "model")) return bad(r, "Please use a valid role: user, model. (%s)", where);
    bool user = role[0] == 'u';
    if (user == t->user)
        return bad(r, "%s: roles must alternate between user and model, starting with user", where);
    *t = (Turn){.user = user, .waiting = t->calls, .prev = t->prev};
    if (user) r->ask.user.n = r->ask.images.n = 0;
    r->ask.results.n = 0;
    r->ask.has_results = false;
    if (!gemini_parts(r, content, t, where)) return false;
    t->prev = content;
    if (t->waiting != t->responses)
        return bad(
            r,
            "Please ensure that the number of function response parts is equal to the number of function "
            "call parts of the function call turn. (%s: %zu, %zu)",
            where, t->responses, t->waiting);
    return true;
}

static bool gemini_contents(Req *r) {
    json_t *list = json_object_get(r->root, "contents"), *c;
    Turn t = {0};
    size_t i;
    if (!json_array_size(list)) return bad(r, "contents is not specified");
    json_array_foreach(list, i, c) if (!gemini_content(r, c, &t, i)) return false;
    if (t.calls) return bad(r, "contents: the function calls at the end have no responses");
    if (r->ask.user.n) r->ask.has_results = false;
    return true;
}

static bool gemini_system(Req *r) {
    json_t *sys = json_object_get(r->root, "systemInstruction"), *parts = json_object_get(sys, "parts"), *p;
    size_t i;
    if (sys && !json_array_size(parts)) return bad(r, "systemInstruction.parts: must not be empty");
    json_array_foreach(parts, i, p) {
        if (!json_is_string(json_object_get(p, "text")))
            return bad(r, "systemInstruction.parts[%zu].text: required", i);
        take_text(r, NULL, json_object_get(p, "text"));
    }
    return true;
}

/* The OpenAPI subset has no references; a JSON schema goes into the *JsonSchema fields. */
static bool gemini_openapi(Req *r, const json_t *s, const char *where) {
    static const char *const refused[] = {"$schema", "$ref", "$defs", "const", "oneOf", "patternProperties"};
    const char *key;
    json_t *v;
    if (!s) return true;
    for (size_t i = 0; i < COUNT(refused); i++)
        if (json_object_get(s, refused[i]))
            return bad(r, "Invalid JSON payload received. Unknown name \"%s\" at '%s': Cannot find field.",
                       refused[i], where);
    json_object_foreach(json_object_get(s, "properties"), key,
                        v) if (!gemini_openapi(r, v, where)) return false;
    return !json_object_get(s, "items") || gemini_openapi(r, json_object_get(s, "items"), where);
}

static bool gemini_decl(Req *r, json_t *d, const char *where) {
    static const Field f[] = {{"name", T_STR | T_NEED, 0, 0},    {"description", T_STR, 0, 0},
                              {"parameters", T_OBJ, 0, 0},       {"parametersJsonSchema", T_OBJ, 0, 0},
                              {"input_schema", T_FOREIGN, 0, 0}, {"strict", T_FOREIGN, 0, 0}};
    if (!CHECK_FIELDS(r, d, f, where)) return false;
    json_t *a = json_object_get(d, "parameters"), *b = json_object_get(d, "parametersJsonSchema");
    if (a && b) return bad(r, "%s: parameters and parametersJsonSchema exclude each other", where);
    if (a && !gemini_openapi(r, a, where)) return false;
    if ((a || b) && !check_params(r, a ? a : b, where)) return false;
    return add_tool(r, d, "_-.:", 128, where);
}

static bool gemini_tools(Req *r) {
    json_t *t, *d;
    size_t i, k;
    char where[80];
    json_array_foreach(json_object_get(r->root, "tools"), i, t) {
        json_t *decls = json_object_get(t, "functionDeclarations");
        if (!json_object_size(t)) return bad(r, "tools[%zu]: must not be empty", i);
        if (decls && !json_array_size(decls))
            return bad(r, "tools[%zu].functionDeclarations: must not be empty", i);
        json_array_foreach(decls, k, d) {
            snprintf(where, sizeof where, "tools[%zu].functionDeclarations[%zu]", i, k);
            if (!gemini_decl(r, d, where)) return false;
        }
    }
    return true;
}

static bool gemini_choice(Req *r) {
    json_t *fc = json_object_get(json_object_get(r->root, "toolConfig"), "functionCallingConfig");
    json_t *names = json_object_get(fc, "allowedFunctionNames"), *n;
    const char *mode = str_of(fc, "mode");
    size_t i;
    if (!fc) return true;
    if (!ONE_OF(mode, "AUTO", "ANY", "NONE", "VALIDATED"))
        return bad(r, "toolConfig: invalid mode '%s'", mode);
    if (names && !ONE_OF(mode, "ANY", "VALIDATED"))
        return bad(r, "toolConfig: allowedFunctionNames needs mode ANY");
    if (!strcmp(mode, "ANY") && !r->ask.tools)
        return bad(r, "toolConfig: mode ANY without function declarations");
    json_array_foreach(names, i, n) if (!json_is_string(n) || !find_tool(r, json_string_value(n))) return bad(
        r, "toolConfig: allowedFunctionNames[%zu] is not declared", i);
    r->ask.no_calls = !strcmp(mode, "NONE");
    if (!strcmp(mode, "ANY"))
        r->ask.forced = json_array_size(names) ? find_tool(r, json_string_value(json_array_get(names, 0)))
                                               : json_array_get(r->ask.tools, 0);
    return true;
}

static bool gemini_format(Req *r, const json_t *gc) {
    json_t *a = json_object_get(gc, "responseSchema"), *b = json_object_get(gc, "responseJsonSchema");
    const char *mime = str_of(gc, "responseMimeType");
    bool json = !strcmp(mime, "application/json");
    if (*mime && !json && strcmp(mime, "text/plain"))
        return bad(r, "responseMimeType: unsupported '%s'", mime);
    if (a && b) return bad(r, "responseSchema and responseJsonSchema exclude each other");
    if ((a || b) && !json) return bad(r, "a response schema needs responseMimeType application/json");
    if (a && !gemini_openapi(r, a, "generation_config.response_schema")) return false;
    r->ask.schema = a ? a : b;
    r->ask.json_object = json && !r->ask.schema;
    return !r->ask.schema || check_schema(r, r->ask.schema, "generationConfig");
}

static bool gemini_config(Req *r) {
    json_t *gc = json_object_get(r->root, "generationConfig"), *tc = json_object_get(gc, "thinkingConfig");
    static const Field tf[] = {{"includeThoughts", T_BOOL, 0, 0},
                               {"thinkingBudget", T_INT, -1, 1e6},
                               {"thinkingLevel", T_STR, 0, 0}};
    if (!gc) return true;
    if (!CHECK_FIELDS(r, gc, gemini_config_fields, "generationConfig")) return false;
    r->ask.stop = json_object_get(gc, "stopSequences");
    if (!check_strings(r, r->ask.stop, 5, "generationConfig.stopSequences")) return false;
    json_t *max = json_object_get(gc, "maxOutputTokens");
    if (max) r->ask.max_tokens = json_integer_value(max);
    if (tc && !CHECK_FIELDS(r, tc, tf, "generationConfig.thinkingConfig")) return false;
    if (json_object_get(tc, "thinkingBudget") && json_object_get(tc, "thinkingLevel"))
        return bad(r, "thinkingBudget and thinkingLevel exclude each other");
    if (json_object_get(tc, "thinkingLevel") && !ONE_OF(str_of(tc, "thinkingLevel"), "MINIMAL", "LOW",
                                                        "MEDIUM", "HIGH", "minimal", "low", "medium", "high"))
        return bad(r, "thinkingLevel: invalid");
    r->ask.reasoning = json_is_true(json_object_get(tc, "includeThoughts"));
    return gemini_format(r, gc);
}

static bool gemini_validate(Req *r) {
    r->ask.stream = r->gem_stream;
    r->ask.usage_asked = true;
    r->ask.max_tokens = -1;
    return CHECK_FIELDS(r, r->root, gemini_fields, "") && gemini_config(r) && gemini_tools(r) &&
           gemini_choice(r) && gemini_system(r) && gemini_contents(r);
}

/* ---------------------------------------------------------------- continuing */

/* How vendors of the openai dialect want to be asked to go on from a last assistant message (WIRE.md 8). */
typedef struct Vendor {
    const char *name;
    const char *mark;       /* a boolean of the last message, NULL: none */
    const char *flag;       /* a boolean of the request, NULL: none */
    const char *under;      /* only where the path has this, NULL: anywhere */
    bool trailing;          /* a last assistant message is continued without any mark */
    bool demands;           /* a last assistant message without the mark is refused */
    bool echoes;            /* the answer begins with the partial text */
    const char *thinks_bad; /* refused with this text when it is to think */
} Vendor;

static const Vendor vendors[] = {
    {"mistral", "prefix", NULL, NULL, false, true, true, NULL},
    {"deepseek", "prefix", NULL, "/beta/", false, false, false, NULL},
    {"qwen", "partial", NULL, NULL, false, false, false, "partial mode does not support thinking."},
    {"moonshot", "partial", NULL, NULL, false, false, false, NULL},
    {"vllm", NULL, "continue_final_message", NULL, false, false, false, NULL},
    {"llamacpp", NULL, "continue_final_message", NULL, true, false, false,
     "Assistant response prefill is incompatible with enable_thinking."},
    {"openrouter", NULL, NULL, NULL, false, false, false, NULL},
};
static const char *const vendor_marks[] = {"prefix", "partial"};
static const char turn_text[] = "Continue exactly where you stopped; do not repeat.";

static const Vendor *vendor_of(const Req *r) {
    char part[40];
    for (size_t i = 0; r->dialect == OPENAI && i < COUNT(vendors); i++) {
        snprintf(part, sizeof part, "/%s/", vendors[i].name);
        if (strstr(r->uri, part)) return &vendors[i];
    }
    return NULL;
}

static json_t *last_of(json_t *list, size_t back) {
    size_t n = json_array_size(list);
    return n > back ? json_array_get(list, n - 1 - back) : NULL;
}

/* The text of a message of any dialect, its parts joined; thoughts left out. */
static void message_text(json_t *msg, Buf *into) {
    json_t *c = json_object_get(msg, "content"), *part;
    size_t i;
    if (json_is_string(c)) buf_add(into, json_string_value(c), json_string_length(c));
    if (!json_is_array(c)) c = json_object_get(msg, "parts");
    json_array_foreach(c, i, part) {
        json_t *text = json_object_get(part, "text");
        if (json_is_true(json_object_get(part, "thought"))) continue;
        buf_add(into, json_string_value(text) ? json_string_value(text) : "", json_string_length(text));
    }
}

static bool is_answerer(json_t *msg) { return ONE_OF(str_of(msg, "role"), "assistant", "model"); }

/* Marks that this vendor does not know are refused, as unknown fields are. */
static bool check_marks(Req *r, const Vendor *v, json_t *list) {
    static const char *const flags[] = {"continue_final_message", "add_generation_prompt"};
    size_t i;
    json_t *msg;
    json_array_foreach(list, i, msg) for (size_t k = 0; k < COUNT(vendor_marks); k++) {
        const char *mark = vendor_marks[k];
        if (!json_object_get(msg, mark)) continue;
        bool known = v && v->mark && !strcmp(v->mark, mark);
        if (!known || (v->under && !strstr(r->uri, v->under)))
            return bad(r, "messages[%zu].%s: unknown field", i, mark);
        if (i + 1 < json_array_size(list) || !is_answerer(msg))
            return bad(r, "messages[%zu].%s: only on the last message, of the assistant", i, mark);
    }
    for (size_t k = 0; k < COUNT(flags); k++)
        if (json_object_get(r->root, flags[k]) && !(v && v->flag))
            return bad(r, "%s: unknown field", flags[k]);
    return true;
}

static bool vllm_flags(Req *r, bool answerer) {
    json_t *more = json_object_get(r->root, "continue_final_message"),
           *add = json_object_get(r->root, "add_generation_prompt");
    if (!json_is_true(more)) return true;
    if (!answerer)
        return bad(r, "Cannot use `continue_final_message` when the last message is not from the assistant.");
    return json_is_false(add) ||
           bad(r, "Cannot set both `continue_final_message` and `add_generation_prompt` to True.");
}

/* Does this vendor go on from a last message of the assistant? False with an error when it refuses. */
static bool prefills(Req *r, const Vendor *v, json_t *last) {
    bool marked = v->mark && json_is_true(json_object_get(last, v->mark));
    bool flagged = v->flag && json_is_true(json_object_get(r->root, v->flag));
    bool router = !strcmp(v->name, "openrouter") && strstr(r->model, "claude");
    if (router) {
        const char *model = r->model, *slash = strchr(model, '/');
        char *own = r->model;
        r->model = must(strdup(slash ? slash + 1 : model));
        bool ok = anthropic_prefill(r, last);
        free(r->model);
        r->model = own;
        return ok;
    }
    if (v->demands && !marked)
        return bad(r, "Expected last role User or Tool (or Assistant with prefix True) for serving but got "
                      "assistant");
    bool goes_on = marked || flagged || v->trailing;
    if (goes_on && v->thinks_bad && r->ask.reasoning) return bad(r, "%s", v->thinks_bad);
    return goes_on;
}

static bool find_prefill(Req *r, const Vendor *v, json_t *last) {
    if (r->dialect != OPENAI && r->dialect != ANTHROPIC && r->dialect != BEDROCK)
        return true; /* it begins a new answer */
    if (r->dialect != OPENAI)
        r->ask.continues = true; /* validated */
    else
        r->ask.continues = v && prefills(r, v, last);
    if (r->ask.continues) message_text(last, &r->ask.partial);
    return !r->err.n;
}

/* assistant(partial), user("Continue ..."): the question is the user's message before. */
static void find_turn(Req *r, json_t *list) {
    Buf text = {0};
    message_text(last_of(list, 0), &text);
    bool asked = !strcmp(buf_text(&text), turn_text) && is_answerer(last_of(list, 1));
    buf_free(&text);
    if (!asked) return;
    r->ask.continues = r->ask.by_turn = true;
    message_text(last_of(list, 1), &r->ask.partial);
    r->ask.user.n = 0;
    for (size_t back = 2; back < json_array_size(list); back++)
        if (!strcmp(str_of(last_of(list, back), "role"), "user"))
            return message_text(last_of(list, back), &r->ask.user);
}

static bool find_continuation(Req *r) {
    const Vendor *v = vendor_of(r);
    json_t *list = json_object_get(r->root, own(r)->list);
    json_t *last = last_of(list, 0);
    r->vendor = v ? v->name : "";
    if (r->dialect == OPENAI && !check_marks(r, v, list)) return false;
    if (v && v->flag && !vllm_flags(r, is_answerer(last))) return false;
    if (is_answerer(last)) return find_prefill(r, v, last);
    find_turn(r, list);
    return true;
}

/* How much of the end of the partial text is said again: at least `seam` bytes, from the start of a word. */
static size_t seam_start(const Req *r) {
    const Buf *p = &r->ask.partial;
    if (r->f.seam <= 0) return p->n;
    size_t at = p->n > (size_t)r->f.seam ? p->n - (size_t)r->f.seam : 0;
    while (at && !isspace((unsigned char)p->p[at - 1])) at--;
    return at;
}

/* Leaves of the whole answer what comes after the partial text. A script cannot go on from another's text;
 * other answers are then given whole. */
static void continue_text(Req *r) {
    const Vendor *v = vendor_of(r);
    Buf *t = &r->ans.text, *p = &r->ask.partial, rest = {0};
    if (!r->ask.continues || r->f.endless) return;
    bool fits = p->n <= t->n && !memcmp(buf_text(t), buf_text(p), p->n);
    if (!fits) return;
    size_t from = v && v->echoes && !r->ask.by_turn ? 0 : seam_start(r);
    buf_add(&rest, buf_text(t) + from, t->n - from);
    buf_free(t);
    *t = rest;
}

/* The answer of the fault "script": sentences that are no easy prey for who looks for their ends. Paragraphs
 * are numbered, so that no stretch of 16 bytes comes twice. */
static void script_text(Buf *b, size_t bytes) {
    size_t from = b->n;
    for (int i = 1; b->n - from < bytes; i++) {
        buf_fmt(b, "Dr. Smith (no. %d) measured 3.%d mm at 10 a.m., i.e. before the U.S. team of run %d. ", i,
                i * 7 + 1, i);
        buf_fmt(b, "The error was 0.%02d%%, far below the limit of %d! Was test %d enough? Perhaps... ",
                i * 3 % 100, i + 40, i);
        buf_fmt(b, "Prof. Li wrote \"Sample %d is fine.\" and left.\n\n", i);
        buf_fmt(b, "- item %d: v1.%d.2 of the tool (see sec. 4.%d)\n- next to %d: 1,%03d calls, etc.\n", i, i,
                i, i, i * 11);
        buf_fmt(b,
                "%d. na\xC3\xAFve caf\xC3\xA9 no. %d at %d \xC2\xB0"
                "C\n\n",
                i, i, i + 5);
        buf_fmt(b,
                "\xE7\xAC\xAC%d\xE7\xAB\xA0\xE3\x80\x82\xE4\xBB\x8A\xE5\xA4\xA9%d\xE6\x98\x9F"
                "\xE6\x9C\x9F\xE4\xBA\x94\xEF\xBC\x81%d.5\xE5\x85\x83\xE5\x90\x97\xEF\xBC\x9F"
                "\xE3\x80\x8C\xE4\xBD\xA0\xE5\xA5\xBD%d\xE3\x80\x82\xE3\x80\x8D\n\n",
                i, i, i, i);
        buf_fmt(b, "```c\nint f%d(void) { return %d; } /* no. %d. */\nputs(\"a. B %d\");\n```\n\n", i, i, i,
                i);
        buf_fmt(b, "The run %d took 1.%d s. Its p95 was 12.%d ms; all others (cf. Fig. %d) were slower.\n", i,
                i, i, i);
    }
    b->n = from + bytes;
    while (b->n > from && (b->p[b->n] & 0xC0) == 0x80) b->n--;
    while (b->n > from && isspace((unsigned char)b->p[b->n - 1])) b->n--;
    b->p[b->n] = 0;
}

/* ---------------------------------------------------------------- oracle */

#define MAX_WORDINGS 5

typedef struct Truth {    /* a distinct answer */
    char *text, *changed; /* changed: what it is now instead, NULL: nothing */
} Truth;

typedef struct Question {
    char *text;
    size_t truth;
    json_int_t asked;
} Question;

static struct {
    Question *list; /* an open hash table of size slots; text NULL: free */
    size_t size, count;
    Truth *truths;
    size_t ntruths;
    int wordings, first_wordings; /* 0: the bare answer; first_: of the command line */
    double noise;                 /* share of answers that belong to another question */
    uint64_t seed, first_seed, draws;
    json_int_t known, unknown;
    unsigned generation; /* of changes */
} oracle;

/* SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). */
static uint64_t mix64(uint64_t z) {
    z += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* The slot of a question, or the free one where it belongs. Blanks at both ends do not count. */
static Question *oracle_slot(const char *p, size_t n) {
    while (n && isspace((unsigned char)*p)) p++, n--;
    while (n && isspace((unsigned char)p[n - 1])) n--;
    size_t at = (size_t)mix64(hash32(p, n)) & (oracle.size - 1);
    for (; oracle.list[at].text; at = (at + 1) & (oracle.size - 1))
        if (strlen(oracle.list[at].text) == n && !memcmp(oracle.list[at].text, p, n)) break;
    return &oracle.list[at];
}

static size_t oracle_truth(const char *text) {
    size_t i = oracle.ntruths;
    while (i && strcmp(oracle.truths[i - 1].text, text)) i--; /* files have their answers in runs */
    if (i) return i - 1;
    oracle.truths = must(realloc(oracle.truths, (oracle.ntruths + 1) * sizeof *oracle.truths));
    oracle.truths[oracle.ntruths] = (Truth){must(strdup(text)), NULL};
    return oracle.ntruths++;
}

/* A question that stands twice keeps its first answer. */
static void oracle_add(const char *question, size_t n, const char *answer) {
    while (n && isspace((unsigned char)*question)) question++, n--;
    while (n && isspace((unsigned char)question[n - 1])) n--;
    Question *q = oracle_slot(question, n);
    if (q->text || !n) return;
    *q = (Question){must(strndup(question, n)), oracle_truth(answer), 0};
    oracle.count++;
}

static bool oracle_load(const char *path) {
    char *line = NULL;
    size_t room = 0, lines = 1;
    FILE *f = fopen(path, "r");
    if (!f) return false;
    while (getline(&line, &room, f) > 0) lines++;
    for (oracle.size = 64; oracle.size < lines * 2;) oracle.size *= 2;
    oracle.list = must(calloc(oracle.size, sizeof *oracle.list));
    rewind(f);
    while (getline(&line, &room, f) > 0) {
        char *tab = strchr(line, '\t');
        if (!tab) continue;
        tab[1 + strcspn(tab + 1, "\r\n")] = 0;
        oracle_add(line, (size_t)(tab - line), tab + 1);
    }
    free(line);
    fclose(f);
    return oracle.count > 0;
}

static void oracle_free(void) {
    for (size_t i = 0; i < oracle.size; i++) free(oracle.list[i].text);
    for (size_t i = 0; i < oracle.ntruths; i++) {
        free(oracle.truths[i].text);
        free(oracle.truths[i].changed);
    }
    free(oracle.list);
    free(oracle.truths);
}

/* Under the lock: as it was at the start. */
static void oracle_clear(void) {
    for (size_t i = 0; i < oracle.size; i++) oracle.list[i].asked = 0;
    for (size_t i = 0; i < oracle.ntruths; i++) {
        free(oracle.truths[i].changed);
        oracle.truths[i].changed = NULL;
    }
    oracle.wordings = oracle.first_wordings;
    oracle.seed = oracle.first_seed;
    oracle.draws = oracle.generation = 0;
    oracle.noise = 0;
    oracle.known = oracle.unknown = 0;
}

/* Two made-up words that share nothing with any answer: "zarimo_teluka". */
static char *oracle_new_text(const char *text) {
    static const char consonants[] = "bdfgklmnprstvz", vowels[] = "aeiou";
    uint64_t x = mix64(hash32(text, strlen(text)) + ((uint64_t)oracle.generation << 32));
    Buf b = {0};
    for (int i = 0; i < 6; i++, x = mix64(x)) {
        char syllable[2] = {consonants[x % (sizeof consonants - 1)], vowels[(x >> 32) % 5]};
        if (i == 3) buf_str(&b, "_");
        buf_add(&b, syllable, 2);
    }
    return b.p;
}

/* Under the lock. Changes a share of the answers, drawn from the seed; all of them at 1. */
static json_t *oracle_change(double share) {
    json_t *changed = json_object();
    size_t left = oracle.ntruths, want = (size_t)(share * (double)oracle.ntruths + 0.5);
    uint64_t x = mix64(oracle.seed + 0xC4A76Eu + ++oracle.generation);
    for (size_t i = 0; i < oracle.ntruths && want; i++, left--, x = mix64(x)) {
        if (x % left >= want) continue; /* want of left, each with equal chance */
        Truth *t = &oracle.truths[i];
        want--;
        free(t->changed);
        t->changed = oracle_new_text(t->text);
        json_object_set_new(changed, t->text, json_string(t->changed));
    }
    return changed;
}

static const char *truth_now(size_t i) {
    const Truth *t = &oracle.truths[i];
    return t->changed ? t->changed : t->text;
}

static uint64_t oracle_draw(void) { return mix64(oracle.seed + oracle.draws++ * 0x9E3779B97F4A7C15u); }

/* The answer of a question, now and then that of another. */
static const char *oracle_pick(const Question *q) {
    size_t other = oracle.ntruths - 1;
    bool astray = oracle.noise > 0 && other && (double)(oracle_draw() >> 11) * 0x1p-53 < oracle.noise;
    return truth_now(astray ? (q->truth + 1 + oracle_draw() % other) % oracle.ntruths : q->truth);
}

/* %: the answer in words. */
static const char *const wordings[MAX_WORDINGS] = {
    "This is about %.",
    "You are asking about %; I have passed your message on to the team that looks after it.",
    "It sounds as if your question concerns %. Would you like me to connect you with a colleague?",
    "Thanks for reaching out! What you describe belongs under %, and our help page has the next steps.",
    "Topic: %\n\nPlease have a look at the instructions in the app, and write again if they do not help.",
};

static void oracle_wrap(Buf *to, const char *answer) {
    int which = (int)(oracle_draw() % (uint64_t)oracle.wordings);
    const char *form = wordings[which], *mark = strchr(form, '%');
    buf_add(to, form, (size_t)(mark - form));
    for (; *answer; answer++) buf_add(to, *answer == '_' ? " " : answer, 1);
    buf_str(to, mark + 1);
}

static void oracle_answer(const Buf *user, Buf *to) {
    lock();
    Question *q = oracle_slot(buf_text(user), user->n);
    if (q->text) {
        q->asked++;
        oracle.known++;
        if (oracle.wordings)
            oracle_wrap(to, oracle_pick(q));
        else
            buf_str(to, oracle_pick(q));
    } else {
        oracle.unknown++;
        buf_str(to, "unknown: ");
        buf_cat(to, user);
    }
    unlock();
}

/* POST /_control {"oracle":{...}}. On success changed is NULL or what to tell. */
static bool oracle_control(json_t *obj, json_t **changed, Buf *err) {
    const char *name;
    json_t *v, *w = json_object_get(obj, "wordings"), *seed = json_object_get(obj, "seed"),
               *change = json_object_get(obj, "change"), *noise = json_object_get(obj, "noise");
    if (!oracle.size) return buf_str(err, "oracle: started without --answers"), false;
    if (!json_is_object(obj)) return buf_str(err, "oracle: must be an object"), false;
    json_object_foreach(obj, name, v) {
        if (v == w || v == seed || v == change || v == noise) continue;
        return buf_fmt(err, "oracle.%s: unknown", name), false;
    }
    if (w && (!json_is_integer(w) || json_integer_value(w) < 0 || json_integer_value(w) > MAX_WORDINGS))
        return buf_fmt(err, "oracle.wordings: must be 0 to %d", MAX_WORDINGS), false;
    if (seed && !json_is_integer(seed)) return buf_str(err, "oracle.seed: must be a whole number"), false;
    if (noise && !(json_is_number(noise) && json_number_value(noise) >= 0 && json_number_value(noise) <= 1))
        return buf_str(err, "oracle.noise: must be a share, up to 1"), false;
    if (change && !(json_number_value(change) > 0 && json_number_value(change) <= 1))
        return buf_str(err, "oracle.change: must be a share, up to 1"), false;
    lock();
    if (w) oracle.wordings = (int)json_integer_value(w);
    if (seed) oracle.seed = (uint64_t)json_integer_value(seed), oracle.draws = 0;
    if (noise) oracle.noise = json_number_value(noise);
    if (change) *changed = oracle_change(json_number_value(change));
    unlock();
    return true;
}

/* GET: all questions that were asked; POST: the one in the body. */
static void oracle_asked(Req *r) {
    json_t *j = json_object();
    bool one = !strcmp(r->method, "POST");
    lock();
    Question *q = one && oracle.size ? oracle_slot(buf_text(&r->body), r->body.n) : NULL;
    if (q && q->text) {
        json_object_set_new(j, "asked", json_integer(q->asked));
        json_object_set_new(j, "answer", json_string(truth_now(q->truth)));
    }
    for (size_t i = 0; !one && i < oracle.size; i++)
        if (oracle.list[i].asked)
            json_object_set_new(j, oracle.list[i].text, json_integer(oracle.list[i].asked));
    unlock();
    if (one && !(q && q->text)) r->out.status = 404;
    buf_dump(&r->out.body, j);
    buf_str(&r->out.body, "\n");
    json_decref(j);
}

/* ---------------------------------------------------------------- answers */

static json_t *plain_value(json_t *schema, json_t *top, int depth);

static json_t *plain_object(json_t *schema, json_t *top, int depth) {
    json_t *o = json_object(), *name;
    size_t i;
    json_array_foreach(json_object_get(schema, "required"), i, name) {
        json_t *prop = json_object_get(json_object_get(schema, "properties"), json_string_value(name));
        json_object_set_new(o, json_string_value(name), plain_value(prop, top, depth + 1));
    }
    return o;
}

static json_t *plain_array(json_t *schema, json_t *top, int depth) {
    json_t *a = json_array();
    json_int_t n = json_integer_value(json_object_get(schema, "minItems"));
    for (json_int_t i = 0; i < n && i < 100; i++)
        json_array_append_new(a, plain_value(json_object_get(schema, "items"), top, depth + 1));
    return a;
}

static json_t *plain_ref(json_t *top, const char *ref, int depth) {
    json_t *at = top;
    char path[300], *save = NULL;
    snprintf(path, sizeof path, "%s", ref[0] == '#' ? ref + 1 : ref);
    for (char *k = strtok_r(path, "/", &save); k; k = strtok_r(NULL, "/", &save)) at = json_object_get(at, k);
    return plain_value(at, top, depth + 1);
}

/* A plain value that fits the schema. */
static json_t *plain_value(json_t *s, json_t *top, int depth) {
    json_t *type = json_object_get(s, "type"), *e = json_object_get(s, "enum"),
           *any = json_object_get(s, "anyOf");
    if (depth > 30 || !json_is_object(s)) return json_string("text");
    if (json_object_get(s, "const")) return json_incref(json_object_get(s, "const"));
    if (json_array_size(e)) return json_incref(json_array_get(e, 0));
    if (json_array_size(any)) return plain_value(json_array_get(any, 0), top, depth + 1);
    if (*str_of(s, "$ref")) return plain_ref(top, str_of(s, "$ref"), depth);
    const char *t = json_string_value(json_is_array(type) ? json_array_get(type, 0) : type);
    if (!t) return json_object_get(s, "properties") ? plain_object(s, top, depth) : json_string("text");
    if (!strcasecmp(t, "object")) return plain_object(s, top, depth);
    if (!strcasecmp(t, "array")) return plain_array(s, top, depth);
    if (!strcasecmp(t, "integer")) {
        json_t *min = json_object_get(s, "minimum");
        return json_integer(json_is_integer(min) ? json_integer_value(min) : 1);
    }
    if (!strcasecmp(t, "number")) return json_real(1.5);
    if (!strcasecmp(t, "boolean")) return json_true();
    return strcasecmp(t, "null") ? json_string("text") : json_null();
}

static void put_id(char *to, size_t n, const char *prefix, int digits) {
    snprintf(to, n, "%s%0*llu", prefix, digits, (unsigned long long)serial());
}

static Call *add_call(Req *r, const char *name, size_t n) {
    if (r->ans.ncalls == MAX_CALLS) return NULL;
    Call *c = &r->ans.calls[r->ans.ncalls++];
    c->name = must(strndup(name, n));
    put_id(c->id, sizeof c->id, own(r)->call, own(r)->call_digits);
    return c;
}

/* "call:NAME {json}" in the user text, any number of times. */
static void find_calls(Req *r) {
    const char *p = buf_text(&r->ask.user), *end = p + r->ask.user.n;
    while ((p = memmem(p, (size_t)(end - p), "call:", 5))) {
        const char *name = p += 5;
        while (p < end && (isalnum((unsigned char)*p) || (*p && strchr("_-.", *p)))) p++;
        if (p == name) continue;
        Call *c = add_call(r, name, (size_t)(p - name));
        if (!c) return;
        const char *args = p;
        while (args < end && *args == ' ') args++;
        json_error_t e;
        json_t *j = args < end && *args == '{'
                        ? json_loadb(args, (size_t)(end - args), JSON_DISABLE_EOF_CHECK, &e)
                        : NULL;
        if (j) {
            p = args + e.position;
            buf_add(&c->args, args, (size_t)e.position); /* as written, not as jansson would write it */
        } else {
            buf_str(&c->args, "{}");
        }
        json_decref(j);
        if (r->ask.one_call) return;
    }
}

static void steered_calls(Req *r) {
    size_t i;
    json_t *c;
    json_array_foreach(r->f.tool_calls, i, c) {
        json_t *args = json_object_get(c, "arguments");
        Call *call = add_call(r, str_of(c, "name"), strlen(str_of(c, "name")));
        if (json_is_string(args))
            buf_str(&call->args, json_string_value(args)); /* may be broken on purpose */
        else if (args)
            buf_dump(&call->args, args);
        else
            buf_str(&call->args, "{}");
    }
}

static void forced_call(Req *r) {
    static const char *const params[] = {"parameters", "input_schema", "parametersJsonSchema"};
    json_t *schema = NULL;
    for (size_t i = 0; !schema && i < COUNT(params); i++) schema = json_object_get(r->ask.forced, params[i]);
    if (!schema) schema = json_object_get(json_object_get(r->ask.forced, "inputSchema"), "json");
    json_t *v = schema ? plain_value(schema, schema, 0) : json_object();
    Call *c = add_call(r, str_of(r->ask.forced, "name"), strlen(str_of(r->ask.forced, "name")));
    buf_dump(&c->args, v);
    json_decref(v);
}

static void default_text(Req *r) {
    Buf *t = &r->ans.text;
    if (r->ask.has_results) {
        buf_str(t, "Tool said: ");
        buf_cat(t, &r->ask.results);
    } else if (r->ask.schema) {
        json_t *v = plain_value(r->ask.schema, r->ask.schema, 0);
        buf_dump(t, v);
        json_decref(v);
    } else if (r->ask.json_object) {
        buf_str(t, "{\"echo\":");
        buf_json(t, buf_text(&r->ask.user), r->ask.user.n);
        buf_str(t, "}");
    } else if (oracle.size) {
        oracle_answer(&r->ask.user, t);
    } else {
        buf_fmt(t, "Echo from %s: ", r->label);
        buf_cat(t, &r->ask.user);
        buf_cat(t, &r->ask.images);
    }
}

static void repeat_text(Buf *t, json_int_t times) {
    size_t one = t->n;
    if (times < 0) return;
    if (!times) t->n = 0;
    if (one && times > (json_int_t)(((size_t)1 << 30) / one)) times = (json_int_t)(((size_t)1 << 30) / one);
    buf_room(t, one * (size_t)times);
    for (json_int_t i = 1; i < times; i++) buf_add(t, t->p, one);
}

/* Cuts the text before the first stop string in it. */
static void apply_stop(Req *r) {
    Buf *t = &r->ans.text;
    const char *best = NULL;
    size_t n = json_is_array(r->ask.stop) ? json_array_size(r->ask.stop) : r->ask.stop ? 1 : 0;
    for (size_t i = 0; i < n; i++) {
        json_t *s = json_is_array(r->ask.stop) ? json_array_get(r->ask.stop, i) : r->ask.stop;
        const char *at = memmem(buf_text(t), t->n, json_string_value(s), json_string_length(s));
        if (!at || (best && at >= best)) continue;
        best = at;
        r->ans.stop_hit = json_string_value(s);
    }
    if (!best) return;
    t->n = (size_t)(best - t->p);
    r->ans.finish = FIN_STOP_SEQ;
}

static void apply_limit(Req *r) {
    Buf *t = &r->ans.text;
    size_t max = r->ask.max_tokens < 0 || r->f.endless ? SIZE_MAX : (size_t)r->ask.max_tokens * 4;
    if (t->n <= max) return;
    while (max && (t->p[max] & 0xC0) == 0x80) max--;
    t->n = max;
    r->ans.finish = FIN_LENGTH;
}

static json_int_t tokens(size_t bytes) { return (json_int_t)((bytes + 3) / 4); }

static void count_usage(Req *r) {
    Answer *a = &r->ans;
    size_t bytes = a->text.n + a->refusal.n;
    for (size_t i = 0; i < a->ncalls; i++) bytes += a->calls[i].args.n;
    a->thought = tokens(a->reasoning.n);
    a->out = tokens(bytes) + a->thought;
    a->in = tokens(r->ask.in_bytes);
    a->cached = r->f.cached > 0 ? r->f.cached : 0;
    if (r->f.usage_input >= 0) a->in = r->f.usage_input;
    if (a->cached > a->in) a->in = a->cached;
    if (r->f.usage_output < 0) return;
    a->out = r->f.usage_output;
    if (a->thought > a->out) a->thought = a->out;
}

static void make_calls(Req *r) {
    bool may = r->ask.tools && !r->ask.no_calls && !r->ask.has_results && !r->f.text && !r->f.endless;
    if (r->f.tool_calls)
        steered_calls(r); /* also when it goes on: calls are never part of what was kept */
    else if (may)
        find_calls(r);
    if (may && !r->f.tool_calls && !r->ans.ncalls && r->ask.forced) forced_call(r);
    if (r->ans.ncalls) r->ans.finish = FIN_TOOL;
}

static void make_answer(Req *r) {
    Fault *f = &r->f;
    Answer *a = &r->ans;
    bool silent = r->ask.continues && !(r->ask.by_turn && f->rethink);
    if (silent)
        a->reasoning.n = 0;
    else if (f->reasoning)
        buf_add(&a->reasoning, json_string_value(f->reasoning), json_string_length(f->reasoning));
    else if (r->ask.reasoning)
        buf_str(&a->reasoning, "Thinking about it.");
    if (f->refusal) {
        buf_add(&a->refusal, json_string_value(f->refusal), json_string_length(f->refusal));
        a->finish = FIN_REFUSAL;
        return count_usage(r);
    }
    make_calls(r);
    if (f->text)
        buf_add(&a->text, json_string_value(f->text), json_string_length(f->text));
    else if (f->script > 0)
        script_text(&a->text, (size_t)f->script);
    else if (!a->ncalls)
        default_text(r);
    repeat_text(&a->text, f->text_repeat);
    continue_text(r);
    if (f->endless && !a->text.n) buf_str(&a->text, "more and more ");
    apply_stop(r);
    apply_limit(r);
    count_usage(r);
}

/* ---------------------------------------------------------------- rendering, shared */

static void end_piece(Out *o) {
    if (o->n == o->cap) {
        o->cap = o->cap * 2 + 8;
        o->ends = must(realloc(o->ends, o->cap * sizeof *o->ends));
    }
    o->ends[o->n++] = o->body.n;
}

/* One SSE event, or one element of Gemini's array. */
static void put_sse(Req *r, const char *event, const char *data, size_t n) {
    Out *o = &r->out;
    const char *eol = own(r)->eol;
    if (o->array) {
        buf_str(&o->body, o->events ? ",\r\n" : "[");
        buf_add(&o->body, data, n);
    } else {
        if (own(r)->named && event) buf_fmt(&o->body, "event: %s%s", event, eol);
        buf_str(&o->body, "data: ");
        buf_add(&o->body, data, n);
        buf_str(&o->body, eol);
        buf_str(&o->body, eol);
    }
}

/* An event as a piece of the reply. */
static void put_event(Req *r, const char *event, const char *data, size_t n) {
    own(r)->put(r, event, data, n);
    end_piece(&r->out);
    r->out.events++;
}

static const char stream_error_text[] = "The server had an error while answering (steered).";

static void put_stream_error(Req *r) {
    Buf b = {0};
    r->out.stopped = true;
    if (own(r)->put_error) return own(r)->put_error(r);
    error_body(r, &b, own(r)->stream_error, stream_error_text);
    put_event(r, "error", b.p, b.n);
    buf_free(&b);
}

static bool fault_before(Req *r, EvKind kind) {
    Out *o = &r->out;
    Fault *f = &r->f;
    if (o->stopped) return true;
    if (f->stall_after >= 0 && o->events >= f->stall_after) {
        o->end = END_STALL;
        return o->stopped = true;
    }
    bool due = f->error_after >= 0 && kind != EV_PRE && (o->texts >= f->error_after || kind == EV_TERM);
    if (due) return put_stream_error(r), true;
    if (f->garbage_after >= 0 && o->events >= f->garbage_after && !o->garbage_sent) {
        static const char junk[] = "{\"broken\": tru";
        o->garbage_sent = true;
        put_event(r, own(r)->junk, junk, sizeof junk - 1);
    }
    return kind == EV_TERM && f->no_terminator;
}

/* Sends what is in out.tmp as an event, unless a fault has other plans. */
static void emit(Req *r, EvKind kind, const char *event) {
    Out *o = &r->out;
    if (!fault_before(r, kind)) {
        size_t from = o->body.n, piece = o->n;
        if (r->f.keepalive_comments && o->sse) {
            buf_fmt(&o->body, ": keep-alive%s%s", own(r)->eol, own(r)->eol);
            end_piece(o);
        }
        put_event(r, event, buf_text(&o->tmp), o->tmp.n);
        if (kind == EV_TEXT) {
            if (!o->texts++) o->text_lo = from, o->loop_piece = piece;
            o->text_hi = o->body.n;
        }
    }
    o->tmp.n = 0;
}

/* The connection ends here, after what was emitted. */
static void cut_here(Req *r) {
    r->out.stopped = true;
    r->out.end = END_CUT;
}

/* Calls fn for each run of chars characters, up to the cut. */
static void each_chunk(Req *r, CutKind kind, const char *p, size_t n, json_int_t chars,
                       void (*fn)(Req *, void *, const char *, size_t), void *arg) {
    json_int_t *left = &r->out.left[kind];
    bool cut = *left >= 0 && *left <= (json_int_t)n;
    size_t upto = cut ? (size_t)*left : n;
    while (upto < n && upto && ((unsigned char)p[upto] & 0xC0) == 0x80) upto--;
    const char *end = p + upto;
    while (p < end) {
        const char *from = p;
        for (json_int_t k = 0; k < chars && p < end; k++) p += utf8_len(p, (size_t)(end - p));
        fn(r, arg, from, (size_t)(p - from));
    }
    if (*left >= 0) *left -= (json_int_t)upto;
    if (cut && !r->out.stopped) cut_here(r);
}

static json_int_t chunk_chars(const Req *r) { return r->f.chunk_chars > 0 ? r->f.chunk_chars : 8; }

/* Arguments come in at least three fragments when they are long enough. */
static json_int_t arg_chars(const Req *r, const Call *c) {
    json_int_t third = (json_int_t)c->args.n / 3 + 1;
    return third < chunk_chars(r) ? third : chunk_chars(r);
}

/* The text of a plain reply; remembers where it is for the endless fault. */
static void put_plain_text(Req *r) {
    Buf *b = &r->out.body;
    r->out.text_lo = b->n + 1;
    buf_json(b, buf_text(&r->ans.text), r->ans.text.n);
    r->out.text_hi = b->n - 1;
}

static const char *finish_word(const Req *r) {
    return r->f.finish ? json_string_value(r->f.finish) : own(r)->finish[r->ans.finish];
}

static void put_model(Req *r, Buf *b) {
    const char *echo = r->f.model_echo ? json_string_value(r->f.model_echo) : NULL;
    Buf m = {0};
    buf_fmt(&m, "%s%s", echo ? echo : r->label, !echo && limit_style(r) == 0 ? "-2026-01-01" : "");
    buf_jstr(b, m.p);
    buf_free(&m);
}

/* ---------------------------------------------------------------- rendering, openai */

static void openai_usage(Req *r, Buf *b) {
    Answer *a = &r->ans;
    buf_fmt(b,
            "{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,\"total_tokens\":%lld,"
            "\"prompt_tokens_details\":{\"cached_tokens\":%lld,\"audio_tokens\":0},"
            "\"completion_tokens_details\":{\"reasoning_tokens\":%lld,\"audio_tokens\":0,"
            "\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}",
            (long long)a->in, (long long)a->out, (long long)(a->in + a->out), (long long)a->cached,
            (long long)a->thought);
}

static void openai_head(Req *r, Buf *b, const char *object) {
    buf_fmt(b, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", r->id, object,
            (long long)time(NULL));
    put_model(r, b);
    buf_str(b, ",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_fake\",\"choices\":[");
}

static void openai_call_json(Buf *b, const Call *c) {
    buf_fmt(b, "{\"id\":\"%s\",\"type\":\"function\",\"function\":{\"name\":", c->id);
    buf_jstr(b, c->name);
    buf_str(b, ",\"arguments\":");
    buf_json(b, buf_text(&c->args), c->args.n);
    buf_str(b, "}}");
}

/* Azure judges the prompt and each choice. */
#define AZURE_RESULT(filtered, severity)                                                                     \
    "{\"hate\":{\"filtered\":" filtered ",\"severity\":\"" severity                                          \
    "\"},\"self_harm\":{\"filtered\":false,\"severity\":\"safe\"},\"sexual\":{\"filtered\":false,"           \
    "\"severity\":"                                                                                          \
    "\"safe\"},\"violence\":{\"filtered\":false,\"severity\":\"safe\"}}"
static const char azure_prompt[] =
    "\"prompt_filter_results\":[{\"prompt_index\":0,\"content_filter_results\":" AZURE_RESULT("false",
                                                                                              "safe") "}]";

static void azure_choice(Req *r, Buf *b) {
    if (!r->azure) return;
    buf_str(b, ",\"content_filter_results\":");
    buf_str(b, !strcmp(finish_word(r), "content_filter") ? AZURE_RESULT("true", "high")
                                                         : AZURE_RESULT("false", "safe"));
}

/* What was thought, by the names that vendors have for it: Mistral's is in the content. */
static void openai_thought(Req *r, Buf *b, const char *p, size_t n) {
    bool router = at_vendor(r, "openrouter");
    if (at_vendor(r, "mistral")) {
        buf_str(b, "{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":");
        buf_json(b, p, n);
        return buf_str(b, "}]}");
    }
    bool brief = router || at_vendor(r, "vllm") || at_vendor(r, "ollama") || at_vendor(r, "groq");
    buf_str(b, brief ? "\"reasoning\":" : "\"reasoning_content\":");
    buf_json(b, p, n);
    if (!router) return;
    buf_str(b, ",\"reasoning_details\":[{\"type\":\"reasoning.text\",\"text\":");
    buf_json(b, p, n);
    buf_str(b, ",\"format\":\"unknown\",\"index\":0}]");
}

static void openai_plain(Req *r) {
    Buf *b = &r->out.body;
    Answer *a = &r->ans;
    bool listed = a->reasoning.n && at_vendor(r, "mistral");
    openai_head(r, b, "chat.completion");
    buf_str(b, "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
    if (listed) {
        buf_str(b, "[");
        openai_thought(r, b, a->reasoning.p, a->reasoning.n);
        buf_str(b, ",{\"type\":\"text\",\"text\":");
        put_plain_text(r);
        buf_str(b, "}]");
    } else if (a->refusal.n || (a->ncalls && !a->text.n))
        buf_str(b, "null");
    else
        put_plain_text(r);
    buf_str(b, ",\"refusal\":");
    if (a->refusal.n)
        buf_json(b, a->refusal.p, a->refusal.n);
    else
        buf_str(b, "null");
    if (a->reasoning.n && !listed) {
        buf_str(b, ",");
        openai_thought(r, b, a->reasoning.p, a->reasoning.n);
    }
    for (size_t i = 0; i < a->ncalls; i++) {
        buf_str(b, i ? "," : ",\"tool_calls\":[");
        openai_call_json(b, &a->calls[i]);
    }
    if (a->ncalls) buf_str(b, "]");
    buf_str(b, ",\"annotations\":[]},\"logprobs\":null,\"finish_reason\":");
    buf_jstr(b, finish_word(r));
    azure_choice(r, b);
    buf_str(b, "}]");
    if (r->azure) buf_fmt(b, ",%s", azure_prompt);
    if (!r->f.usage_none) {
        buf_str(b, ",\"usage\":");
        openai_usage(r, b);
    }
    buf_str(b, "}\n");
}

/* The parts of a chunk that do not change within a stream. */
typedef struct ChunkFrame {
    Buf head;
    bool usage;
} ChunkFrame;

static void openai_open(Req *r, const ChunkFrame *c) {
    buf_cat(&r->out.tmp, &c->head);
    buf_str(&r->out.tmp, "{\"index\":0,\"delta\":{");
}

static void openai_close(Req *r, const ChunkFrame *c, EvKind kind, const char *finish) {
    Buf *b = &r->out.tmp;
    buf_str(b, "},\"logprobs\":null,\"finish_reason\":");
    if (finish)
        buf_jstr(b, finish);
    else
        buf_str(b, "null");
    if (kind != EV_PRE) azure_choice(r, b);
    buf_str(b, c->usage ? "}],\"usage\":null}" : "}]}");
    emit(r, kind, NULL);
}

typedef struct Delta {
    const ChunkFrame *frame;
    const char *key;
    EvKind kind;
    size_t index;
} Delta;

static void openai_delta(Req *r, void *arg, const char *p, size_t n) {
    Delta *d = arg;
    openai_open(r, d->frame);
    buf_fmt(&r->out.tmp, "\"%s\":", d->key);
    buf_json(&r->out.tmp, p, n);
    openai_close(r, d->frame, d->kind, NULL);
}

static void openai_thought_delta(Req *r, void *arg, const char *p, size_t n) {
    Delta *d = arg;
    bool listed = at_vendor(r, "mistral");
    openai_open(r, d->frame);
    if (listed) buf_str(&r->out.tmp, "\"content\":[");
    openai_thought(r, &r->out.tmp, p, n);
    if (listed) buf_str(&r->out.tmp, "]");
    openai_close(r, d->frame, d->kind, NULL);
}

static void openai_arg_delta(Req *r, void *arg, const char *p, size_t n) {
    Delta *d = arg;
    openai_open(r, d->frame);
    buf_fmt(&r->out.tmp, "\"tool_calls\":[{\"index\":%zu,\"function\":{\"arguments\":", d->index);
    buf_json(&r->out.tmp, p, n);
    buf_str(&r->out.tmp, "}}]");
    openai_close(r, d->frame, d->kind, NULL);
}

static void openai_stream_call(Req *r, const ChunkFrame *c, size_t i) {
    Call *call = &r->ans.calls[i];
    openai_open(r, c);
    buf_fmt(&r->out.tmp,
            "\"tool_calls\":[{\"index\":%zu,\"id\":\"%s\",\"type\":\"function\",\"function\":{\"name\":", i,
            call->id);
    buf_jstr(&r->out.tmp, call->name);
    buf_str(&r->out.tmp, ",\"arguments\":\"\"}}]");
    openai_close(r, c, EV_POST, NULL);
    Delta d = {c, NULL, EV_POST, i};
    each_chunk(r, CUT_ARGS, buf_text(&call->args), call->args.n, arg_chars(r, call), openai_arg_delta, &d);
}

static void openai_end(Req *r, const ChunkFrame *c) {
    openai_open(r, c);
    openai_close(r, c, EV_TERM, finish_word(r));
    if (c->usage) {
        buf_cat(&r->out.tmp, &c->head);
        buf_str(&r->out.tmp, "],\"usage\":");
        openai_usage(r, &r->out.tmp);
        buf_str(&r->out.tmp, "}");
        emit(r, EV_TERM, NULL);
    }
    buf_str(&r->out.tmp, "[DONE]");
    emit(r, EV_TERM, NULL);
}

static void openai_stream_out(Req *r) {
    Answer *a = &r->ans;
    ChunkFrame c = {.usage = r->ask.usage_asked && !r->f.usage_none};
    openai_head(r, &c.head, "chat.completion.chunk");
    if (r->azure) {
        buf_fmt(&r->out.tmp, "{\"choices\":[],\"created\":0,\"id\":\"\",\"model\":\"\",\"object\":\"\",%s}",
                azure_prompt);
        emit(r, EV_PRE, NULL);
    }
    openai_open(r, &c);
    buf_fmt(&r->out.tmp, "\"role\":\"assistant\",\"content\":%s,\"refusal\":null",
            a->ncalls && !a->text.n ? "null" : "\"\"");
    openai_close(r, &c, EV_PRE, NULL);
    Delta d = {&c, NULL, EV_PRE, 0};
    each_chunk(r, CUT_REASONING, buf_text(&a->reasoning), a->reasoning.n, chunk_chars(r),
               openai_thought_delta, &d);
    d.kind = EV_TEXT;
    d.key = "refusal";
    each_chunk(r, CUT_TEXT, buf_text(&a->refusal), a->refusal.n, chunk_chars(r), openai_delta, &d);
    d.key = "content";
    each_chunk(r, CUT_TEXT, buf_text(&a->text), a->text.n, chunk_chars(r), openai_delta, &d);
    for (size_t i = 0; i < a->ncalls; i++) openai_stream_call(r, &c, i);
    openai_end(r, &c);
    buf_free(&c.head);
}

/* ---------------------------------------------------------------- rendering, anthropic */

/* out: what message_start knows (1) or the final count. */
static void anthropic_usage(Req *r, Buf *b, json_int_t out) {
    Answer *a = &r->ans;
    if (r->f.usage_none) return;
    buf_fmt(b,
            ",\"usage\":{\"input_tokens\":%lld,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":"
            "%lld,"
            "\"output_tokens\":%lld,\"service_tier\":\"standard\"",
            (long long)(a->in - a->cached), (long long)a->cached, (long long)out);
    if (a->reasoning.n && out == a->out)
        buf_fmt(b, ",\"output_tokens_details\":{\"thinking_tokens\":%lld}", (long long)a->thought);
    buf_str(b, "}");
}

static void anthropic_head(Req *r, Buf *b) {
    buf_fmt(b, "{\"id\":\"%s\",\"type\":\"message\",\"role\":\"assistant\",\"model\":", r->id);
    put_model(r, b);
}

static void anthropic_stop(Req *r, Buf *b) {
    buf_str(b, "\"stop_reason\":");
    buf_jstr(b, finish_word(r));
    buf_str(b, ",\"stop_sequence\":");
    if (r->ans.finish == FIN_STOP_SEQ)
        buf_jstr(b, r->ans.stop_hit);
    else
        buf_str(b, "null");
    if (!r->ans.refusal.n) return;
    buf_str(b, ",\"stop_details\":{\"type\":\"refusal\",\"category\":null,\"explanation\":");
    buf_json(b, r->ans.refusal.p, r->ans.refusal.n);
    buf_str(b, "}");
}

static void anthropic_call_json(Buf *b, const Call *c) {
    json_t *args = json_loadb(buf_text(&c->args), c->args.n, 0, NULL);
    buf_fmt(b, "{\"type\":\"tool_use\",\"id\":\"%s\",\"name\":", c->id);
    buf_jstr(b, c->name);
    buf_str(b, ",\"input\":");
    if (args)
        buf_cat(b, &c->args);
    else
        buf_json(b, buf_text(&c->args), c->args.n); /* broken on purpose: no way to say it but as a string */
    buf_str(b, "}");
    json_decref(args);
}

static void put_sig(Req *r, Buf *b) {
    buf_fmt(b, "\"sig-%u\"", hash32(r->ans.reasoning.p, r->ans.reasoning.n));
}

static void anthropic_plain(Req *r) {
    Buf *b = &r->out.body;
    Answer *a = &r->ans;
    const char *comma = "";
    anthropic_head(r, b);
    buf_str(b, ",\"content\":[");
    if (a->reasoning.n) {
        buf_str(b, "{\"type\":\"thinking\",\"thinking\":");
        buf_json(b, a->reasoning.p, a->reasoning.n);
        buf_str(b, ",\"signature\":");
        put_sig(r, b);
        buf_str(b, "}");
        comma = ",";
    }
    if (a->text.n) {
        buf_fmt(b, "%s{\"type\":\"text\",\"text\":", comma);
        put_plain_text(r);
        buf_str(b, "}");
        comma = ",";
    }
    for (size_t i = 0; i < a->ncalls; i++, comma = ",") {
        buf_str(b, comma);
        anthropic_call_json(b, &a->calls[i]);
    }
    buf_str(b, "],");
    anthropic_stop(r, b);
    anthropic_usage(r, b, a->out);
    buf_str(b, "}");
}

static void anthropic_delta(Req *r, void *arg, const char *p, size_t n) {
    Delta *d = arg; /* key: "text_delta","text" and so on, written out */
    buf_fmt(&r->out.tmp, "{\"type\":\"content_block_delta\",\"index\":%zu,\"delta\":{\"type\":%s:", d->index,
            d->key);
    buf_json(&r->out.tmp, p, n);
    buf_str(&r->out.tmp, "}}");
    emit(r, d->kind, "content_block_delta");
}

static void anthropic_block_start(Req *r, EvKind kind, size_t index, const char *block) {
    buf_fmt(&r->out.tmp, "{\"type\":\"content_block_start\",\"index\":%zu,\"content_block\":%s}", index,
            block);
    emit(r, kind, "content_block_start");
    if (index) return;
    buf_str(&r->out.tmp, "{\"type\":\"ping\"}");
    emit(r, kind, "ping");
}

static void anthropic_block_stop(Req *r, EvKind kind, size_t index) {
    buf_fmt(&r->out.tmp, "{\"type\":\"content_block_stop\",\"index\":%zu}", index);
    emit(r, kind, "content_block_stop");
}

static void anthropic_stream_thinking(Req *r, size_t index) {
    Answer *a = &r->ans;
    anthropic_block_start(r, EV_PRE, index, "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}");
    Delta d = {NULL, "\"thinking_delta\",\"thinking\"", EV_PRE, index};
    each_chunk(r, CUT_REASONING, a->reasoning.p, a->reasoning.n, chunk_chars(r), anthropic_delta, &d);
    buf_fmt(&r->out.tmp,
            "{\"type\":\"content_block_delta\",\"index\":%zu,\"delta\":{\"type\":\"signature_delta\","
            "\"signature\":",
            index);
    put_sig(r, &r->out.tmp);
    buf_str(&r->out.tmp, "}}");
    emit(r, EV_PRE, "content_block_delta");
    anthropic_block_stop(r, EV_PRE, index);
}

static void anthropic_stream_call(Req *r, size_t index, Call *c) {
    Buf block = {0};
    buf_fmt(&block, "{\"type\":\"tool_use\",\"id\":\"%s\",\"name\":", c->id);
    buf_jstr(&block, c->name);
    buf_str(&block, ",\"input\":{}}");
    anthropic_block_start(r, EV_POST, index, block.p);
    buf_free(&block);
    Delta d = {NULL, "\"input_json_delta\",\"partial_json\"", EV_POST, index};
    anthropic_delta(r, &d, "", 0);
    each_chunk(r, CUT_ARGS, buf_text(&c->args), c->args.n, arg_chars(r, c), anthropic_delta, &d);
    anthropic_block_stop(r, EV_POST, index);
}

static void anthropic_end(Req *r) {
    Buf *b = &r->out.tmp;
    buf_str(b, "{\"type\":\"message_delta\",\"delta\":{");
    anthropic_stop(r, b);
    buf_str(b, "}");
    anthropic_usage(r, b, r->ans.out);
    buf_str(b, "}");
    emit(r, EV_TERM, "message_delta");
    buf_str(b, "{\"type\":\"message_stop\"}");
    emit(r, EV_TERM, "message_stop");
}

static void anthropic_stream_out(Req *r) {
    Answer *a = &r->ans;
    Buf *b = &r->out.tmp;
    size_t index = 0;
    buf_str(b, "{\"type\":\"message_start\",\"message\":");
    anthropic_head(r, b);
    buf_str(b, ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null");
    anthropic_usage(r, b, 1);
    buf_str(b, "}}");
    emit(r, EV_PRE, "message_start");
    if (a->reasoning.n) anthropic_stream_thinking(r, index++);
    if (a->text.n) {
        anthropic_block_start(r, EV_PRE, index, "{\"type\":\"text\",\"text\":\"\"}");
        Delta d = {NULL, "\"text_delta\",\"text\"", EV_TEXT, index};
        each_chunk(r, CUT_TEXT, a->text.p, a->text.n, chunk_chars(r), anthropic_delta, &d);
        anthropic_block_stop(r, EV_POST, index++);
    }
    for (size_t i = 0; i < a->ncalls; i++) anthropic_stream_call(r, index++, &a->calls[i]);
    anthropic_end(r);
}

/* ---------------------------------------------------------------- rendering, gemini */

static void gemini_tail(Req *r, Buf *b, json_int_t out) {
    Answer *a = &r->ans;
    if (!r->f.usage_none) {
        buf_fmt(b,
                ",\"usageMetadata\":{\"promptTokenCount\":%lld,\"candidatesTokenCount\":%lld,"
                "\"totalTokenCount\":%lld",
                (long long)a->in, (long long)out, (long long)(a->in + out + a->thought));
        if (a->cached) buf_fmt(b, ",\"cachedContentTokenCount\":%lld", (long long)a->cached);
        if (a->thought) buf_fmt(b, ",\"thoughtsTokenCount\":%lld", (long long)a->thought);
        buf_fmt(b, ",\"promptTokensDetails\":[{\"modality\":\"TEXT\",\"tokenCount\":%lld}]}",
                (long long)a->in);
    }
    buf_str(b, ",\"modelVersion\":");
    put_model(r, b);
    buf_fmt(b, ",\"responseId\":\"%s\"}", r->id);
}

static void gemini_text_part(Buf *b, const char *p, size_t n, bool thought) {
    buf_str(b, "{\"text\":");
    buf_json(b, p, n);
    buf_str(b, thought ? ",\"thought\":true}" : "}");
}

/* As the real one does it: only the first of parallel calls carries the signature. */
static void gemini_call_part(Req *r, Buf *b, size_t i) {
    Call *c = &r->ans.calls[i];
    json_t *args = json_loadb(buf_text(&c->args), c->args.n, 0, NULL);
    buf_str(b, "{\"functionCall\":{\"name\":");
    buf_jstr(b, c->name);
    buf_str(b, ",\"args\":");
    if (args)
        buf_cat(b, &c->args);
    else
        buf_json(b, buf_text(&c->args), c->args.n);
    buf_str(b, "}");
    if (!i && (starts_with(r->model, "gemini-3") || r->ans.reasoning.n)) {
        buf_str(b, ",\"thoughtSignature\":\"");
        gemini_signature(b, c->name);
        buf_str(b, "\"");
        uint32_t h = args ? gemini_call_hash(c->name, args) : 0;
        lock();
        g.sent_calls[h / 8] |= (uint8_t)(1u << h % 8);
        unlock();
    }
    buf_str(b, "}");
    json_decref(args);
}

/* The signature of an answer that is only text. */
static void gemini_text_signature(Req *r, Buf *b) {
    if (!r->ans.reasoning.n || r->ans.ncalls) return;
    buf_str(b, ",\"thoughtSignature\":\"");
    gemini_signature(b, "text");
    buf_str(b, "\"");
}

static void gemini_blocked(Req *r, Buf *b) {
    buf_str(b, "{\"promptFeedback\":{\"blockReason\":");
    buf_jstr(b, finish_word(r));
    buf_str(b, ",\"blockReasonMessage\":");
    buf_json(b, r->ans.refusal.p, r->ans.refusal.n);
    buf_str(b, "}");
    gemini_tail(r, b, 0);
}

static json_int_t gemini_out(const Req *r) { return r->ans.out - r->ans.thought; }

static void gemini_plain(Req *r) {
    Buf *b = &r->out.body;
    Answer *a = &r->ans;
    const char *comma = "";
    if (a->refusal.n) return gemini_blocked(r, b);
    buf_str(b, "{\"candidates\":[{\"content\":{\"parts\":[");
    if (a->reasoning.n) {
        gemini_text_part(b, a->reasoning.p, a->reasoning.n, true);
        comma = ",";
    }
    if (a->text.n || !a->ncalls) {
        buf_fmt(b, "%s{\"text\":", comma);
        put_plain_text(r);
        gemini_text_signature(r, b);
        buf_str(b, "}");
        comma = ",";
    }
    for (size_t i = 0; i < a->ncalls; i++, comma = ",") {
        buf_str(b, comma);
        gemini_call_part(r, b, i);
    }
    buf_str(b, "],\"role\":\"model\"},\"finishReason\":");
    buf_jstr(b, finish_word(r));
    buf_str(b, ",\"index\":0}]");
    gemini_tail(r, b, gemini_out(r));
}

static const char gemini_chunk_open[] = "{\"candidates\":[{\"content\":{\"parts\":[";
static const char gemini_chunk_close[] = "],\"role\":\"model\"},\"index\":0}]";

typedef struct GeminiDelta {
    EvKind kind;
    size_t sent;
} GeminiDelta;

static void gemini_delta(Req *r, void *arg, const char *p, size_t n) {
    GeminiDelta *d = arg;
    Buf *b = &r->out.tmp;
    if (d->kind == EV_TEXT) d->sent += n;
    buf_str(b, gemini_chunk_open);
    gemini_text_part(b, p, n, d->kind == EV_PRE);
    buf_str(b, gemini_chunk_close);
    gemini_tail(r, b, tokens(d->sent));
    emit(r, d->kind, NULL);
}

static void gemini_last_chunk(Req *r) {
    Buf *b = &r->out.tmp;
    buf_str(b, gemini_chunk_open);
    buf_str(b, "{\"text\":\"\"");
    gemini_text_signature(r, b);
    buf_str(b, "}],\"role\":\"model\"},\"finishReason\":");
    buf_jstr(b, finish_word(r));
    buf_str(b, ",\"index\":0}]");
    gemini_tail(r, b, gemini_out(r));
    emit(r, EV_TERM, NULL);
}

static void gemini_stream_body(Req *r) {
    Answer *a = &r->ans;
    if (a->refusal.n) {
        gemini_blocked(r, &r->out.tmp);
        return emit(r, EV_TERM, NULL);
    }
    GeminiDelta d = {EV_PRE, 0};
    each_chunk(r, CUT_REASONING, buf_text(&a->reasoning), a->reasoning.n, chunk_chars(r), gemini_delta, &d);
    d.kind = EV_TEXT;
    each_chunk(r, CUT_TEXT, buf_text(&a->text), a->text.n, chunk_chars(r), gemini_delta, &d);
    for (size_t i = 0; i < a->ncalls; i++) {
        if (r->out.left[CUT_ARGS] >= 0) cut_here(r); /* calls come whole here */
        buf_str(&r->out.tmp, gemini_chunk_open);
        gemini_call_part(r, &r->out.tmp, i);
        buf_str(&r->out.tmp, gemini_chunk_close);
        gemini_tail(r, &r->out.tmp, gemini_out(r));
        emit(r, EV_POST, NULL);
    }
    gemini_last_chunk(r);
}

static void gemini_stream_out(Req *r) {
    gemini_stream_body(r);
    if (!r->out.array || r->out.end != END_CLEAN || r->f.no_terminator) return;
    buf_str(&r->out.body, r->out.events ? "]" : "[]");
    end_piece(&r->out);
}

/* ---------------------------------------------------------------- errors */

typedef struct ErrorKind {
    unsigned status;
    const char *openai, *anthropic, *gemini, *bedrock, *text;
} ErrorKind;

static const ErrorKind error_kinds[] = {
    {400, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT", "ValidationException",
     "Bad request."},
    {401, "invalid_request_error", "authentication_error", "UNAUTHENTICATED", "UnrecognizedClientException",
     "Invalid authentication."},
    {402, "insufficient_quota", "billing_error", "FAILED_PRECONDITION", "AccessDeniedException",
     "Insufficient balance."},
    {403, "invalid_request_error", "permission_error", "PERMISSION_DENIED", "AccessDeniedException",
     "Permission denied."},
    {404, "invalid_request_error", "not_found_error", "NOT_FOUND", "ResourceNotFoundException", "Not found."},
    {405, "invalid_request_error", "invalid_request_error", "UNIMPLEMENTED", "UnknownOperationException",
     "Method not allowed."},
    {408, "timeout", "timeout_error", "DEADLINE_EXCEEDED", "ModelTimeoutException", "Request timeout."},
    {409, "conflict", "api_error", "ABORTED", "ConflictException", "Conflict."},
    {413, "invalid_request_error", "request_too_large", "INVALID_ARGUMENT", "ValidationException",
     "Request too large."},
    {415, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT", "ValidationException",
     "Unsupported media type."},
    {422, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT", "ValidationException",
     "Unprocessable."},
    {424, "server_error", "api_error", "UNAVAILABLE", "ModelErrorException", "The model failed."},
    {429, "requests", "rate_limit_error", "RESOURCE_EXHAUSTED", "ThrottlingException",
     "Rate limit reached. Please try again later."},
    {500, "server_error", "api_error", "INTERNAL", "InternalServerException", "Internal server error."},
    {502, "server_error", "api_error", "UNAVAILABLE", "ServiceUnavailableException", "Bad gateway."},
    {503, "server_error", "api_error", "UNAVAILABLE", "ServiceUnavailableException",
     "The service is overloaded. Please try again later."},
    {504, "server_error", "timeout_error", "DEADLINE_EXCEEDED", "ServiceUnavailableException",
     "Gateway timeout."},
    {529, "server_error", "overloaded_error", "UNAVAILABLE", "ServiceUnavailableException", "Overloaded"},
};

static const ErrorKind *error_kind(unsigned status) {
    for (size_t i = 0; i < COUNT(error_kinds); i++)
        if (error_kinds[i].status == status) return &error_kinds[i];
    return status >= 500 ? error_kind(500) : &error_kinds[0];
}

static const char azure_filter_text[] =
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please "
    "modify your prompt and retry.";

/* Azure's gateway has errors of its own; what the model's server says comes through as OpenAI's. */
static bool azure_error(Req *r, Buf *b, unsigned status, const char *message) {
    char code[12];
    if (r->f.content_filter) {
        buf_str(b, "{\"error\":{\"message\":");
        buf_jstr(b, message);
        buf_str(b, ",\"type\":null,\"param\":\"prompt\",\"code\":\"content_filter\",\"status\":400,"
                   "\"innererror\":{\"code\":\"ResponsibleAIPolicyViolation\",\"content_filter_result\":{"
                   "\"hate\":{\"filtered\":true,\"severity\":\"high\"},\"violence\":{\"filtered\":false,"
                   "\"severity\":\"safe\"}}}}}");
        return true;
    }
    if (!r->azure || status == 400 || status == 422) return false;
    snprintf(code, sizeof code, "%u", status);
    buf_str(b, "{\"error\":{\"code\":");
    if (r->f.error_code)
        buf_dump(b, r->f.error_code);
    else
        buf_jstr(b, r->err_code ? r->err_code : status == 404 ? "DeploymentNotFound" : code);
    buf_str(b, ",\"message\":");
    buf_jstr(b, message);
    buf_str(b, "}}");
    return true;
}

static void openai_error(Req *r, Buf *b, unsigned status, const char *type, const char *message) {
    if (azure_error(r, b, status, message)) return;
    const char *code = r->err_code                  ? r->err_code
                       : status == 429              ? "rate_limit_exceeded"
                       : status == 404 && !r->serve ? "model_not_found"
                       : status == 401              ? "invalid_api_key"
                                                    : NULL;
    buf_str(b, "{\"error\":{\"message\":");
    buf_jstr(b, message);
    buf_str(b, ",\"type\":");
    buf_jstr(b, type);
    buf_str(b, ",\"param\":");
    if (r->err_param)
        buf_jstr(b, r->err_param);
    else
        buf_str(b, "null");
    buf_str(b, ",\"code\":");
    if (r->f.error_code)
        buf_dump(b, r->f.error_code);
    else if (code)
        buf_jstr(b, code);
    else
        buf_str(b, "null");
    buf_str(b, "}}");
}

static void anthropic_error(Req *r, Buf *b, unsigned status, const char *type, const char *message) {
    (void)status;
    buf_str(b, "{\"type\":\"error\",\"error\":{\"type\":");
    buf_jstr(b, type);
    buf_str(b, ",\"message\":");
    buf_jstr(b, message);
    if (r->f.error_code) {
        buf_str(b, ",\"code\":");
        buf_dump(b, r->f.error_code);
    }
    buf_fmt(b, "},\"request_id\":\"req_%s\"}", r->id);
}

static void gemini_error(Req *r, Buf *b, unsigned status, const char *type, const char *message) {
    bool whole = json_is_integer(r->f.error_code);
    const char *after = r->f.retry_after ? json_string_value(r->f.retry_after) : r->retry;
    bool quota = r->err_code && !strcmp(r->err_code, "QUOTA");
    buf_fmt(b, "{\"error\":{\"code\":%lld,\"message\":",
            whole ? (long long)json_integer_value(r->f.error_code) : status);
    buf_jstr(b, message);
    buf_str(b, ",\"status\":");
    buf_jstr(b, type);
    if (*after && strspn(after, "0123456789.") == strlen(after))
        buf_fmt(
            b,
            ",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"%ss\"}]",
            after);
    else if (quota)
        buf_str(b, ",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.QuotaFailure\",\"violations\":"
                   "[{\"quotaId\":\"GenerateRequestsPerDayPerProjectPerModel\"}]}]");
    else if (r->err_code)
        buf_fmt(b,
                ",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":\"%s\","
                "\"domain\":\"googleapis.com\"}]",
                r->err_code);
    buf_str(b, "}}");
}

/* The dialect's own error object; error_type, error_code and error_message of the fault come first. */
static void error_body(Req *r, Buf *b, unsigned status, const char *message) {
    const ErrorKind *k = error_kind(status);
    const char *const types[DIALECTS] = {k->openai, k->anthropic, k->gemini, k->bedrock,
                                         k->openai, k->openai,    k->openai};
    const char *type = r->f.error_type ? json_string_value(r->f.error_type) : types[r->dialect];
    if (r->f.error_message) message = json_string_value(r->f.error_message);
    if (!message) message = k->text;
    own(r)->error(r, b, status, type, message);
}

/* ---------------------------------------------------------------- pacing */

static void heap_put(size_t at, Req *r) {
    g.heap[at] = r;
    r->heap_at = at;
}

/* Restores the order after the due time of the request at `at` has changed. The root is at 1. */
static void heap_fix(size_t at) {
    Req *r = g.heap[at];
    for (; at > 1 && g.heap[at / 2]->due > r->due; at /= 2) heap_put(at, g.heap[at / 2]);
    for (size_t kid; (kid = at * 2) <= g.nheap; at = kid) {
        if (kid < g.nheap && g.heap[kid + 1]->due < g.heap[kid]->due) kid++;
        if (g.heap[kid]->due >= r->due) break;
        heap_put(at, g.heap[kid]);
    }
    heap_put(at, r);
}

static void heap_push(Req *r) {
    if (g.nheap + 2 > g.heap_cap) {
        g.heap_cap = g.heap_cap * 2 + 64;
        g.heap = must(realloc(g.heap, g.heap_cap * sizeof *g.heap));
    }
    heap_put(++g.nheap, r);
    heap_fix(g.nheap);
}

static Req *heap_pop(void) {
    Req *first = g.heap[1], *last = g.heap[g.nheap--];
    first->heap_at = 0;
    if (g.nheap) {
        heap_put(1, last);
        heap_fix(1);
    }
    return first;
}

/* Under the lock. With many waiting the due times are rounded to a grid, so that they come in batches. */
static void wait_until(Req *r, int64_t due) {
    int64_t grid = (int64_t)g.nheap / 4; /* us: 10,000 waiting, 2.5 ms */
    r->due = due == FOREVER || grid < 500 ? due : (due + grid - 1) / grid * grid;
    if (g.slots[r->fd].hup || g.quitting) {
        r->gone = true;
        r->due = 0;
    }
    heap_push(r);
}

/* Suspends the connection until due. */
static void park(Req *r, int64_t due) {
    MHD_suspend_connection(r->conn); /* first: a resume that came earlier would be lost */
    lock();
    wait_until(r, due);
    bool wake = r->due < g.sleep_until;
    unlock();
    uint64_t one = 1;
    if (wake && write(g.wake, &one, sizeof one) < 0 && errno != EAGAIN) abort();
}

static void hang_up(uint64_t tag) {
    size_t fd = (uint32_t)tag;
    lock();
    Slot *s = &g.slots[fd];
    if (s->gen == tag >> 32) {
        s->hup = true;
        if (s->cur && s->cur->heap_at) {
            s->cur->gone = true;
            s->cur->due = 0;
            heap_fix(s->cur->heap_at);
        }
    }
    unlock();
}

/* Copies what may go now; sets the due time of the next piece. */
static size_t take(Req *r, char *buf, size_t max) {
    Out *o = &r->out;
    size_t limit = o->loop ? o->text_hi : o->body.n, n = 0;
    if (r->f.cut_after >= 0) {
        size_t left = (size_t)r->f.cut_after - r->sent;
        if (!left) {
            o->end = END_CUT;
            lane_release(r);
            return 0;
        }
        if (left < max) max = left;
    }
    while (n < max && r->pos < limit) {
        while (o->pace && r->piece + 1 < o->n && o->ends[r->piece] <= r->pos) r->piece++;
        size_t upto = o->pace && o->n && o->ends[r->piece] < limit ? o->ends[r->piece] : limit;
        size_t k = upto - r->pos < max - n ? upto - r->pos : max - n;
        memcpy(buf + n, o->body.p + r->pos, k);
        n += k;
        r->pos += k;
        bool whole = r->pos == upto;
        if (o->loop && r->pos == limit) {
            r->pos = o->text_lo;
            r->piece = o->loop_piece;
        }
        if (o->pace && whole) {
            if (r->pos < limit || o->end == END_STALL) r->due = now_us() + o->pace;
            break;
        }
    }
    r->sent += n;
    if (!o->loop && r->pos == o->body.n && o->end != END_STALL) lane_release(r);
    return n;
}

/* Sends what it can of the debt. False: the client is gone. */
static bool pay_debt(Req *r) {
    ssize_t n = send(r->fd, r->debt.p, r->debt.n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    r->debt.n -= (size_t)n;
    memmove(r->debt.p, r->debt.p + n, r->debt.n);
    return true;
}

/* The next piece of a paced stream, as an HTTP chunk, straight to the socket. A resume costs some ten times
 * as much: it wakes MHD's thread, which walks the list of all suspended connections and re-arms epoll. MHD
 * has nothing of its own to send then, as the reader is only asked when all before is out, and it keeps no
 * count of the chunks. False: MHD has to go on (the end of the stream, or the client has left). */
static bool send_piece(Req *r) {
    char data[8192];
    if (!r->debt.n) {
        size_t n = take(r, data, sizeof data);
        if (!n) return false;
        buf_fmt(&r->debt, "%zx\r\n", n);
        buf_add(&r->debt, data, n);
        buf_str(&r->debt, "\r\n");
    }
    if (!pay_debt(r)) return r->gone = true, false;
    if (r->debt.n && r->due < now_us() + 1000) r->due = now_us() + 1000;
    return true;
}

static void resume_due(void) {
    enum { BATCH = 512 };
    Req *batch[BATCH];
    size_t n;
    do {
        int64_t now = now_us();
        lock();
        for (n = 0; n < BATCH && g.nheap && (g.heap[1]->due <= now || g.quitting); n++) {
            batch[n] = heap_pop();
            if (g.quitting) batch[n]->gone = true;
        }
        unlock();
        for (size_t i = 0; i < n; i++) {
            Req *r = batch[i];
            if (!r->direct || r->gone || !send_piece(r)) {
                MHD_resume_connection(r->conn); /* from here on r belongs to MHD's thread */
                continue;
            }
            lock();
            wait_until(r, r->due);
            unlock();
        }
    } while (n == BATCH);
}

static int sleep_ms(void) {
    lock();
    g.sleep_until = g.nheap ? g.heap[1]->due : FOREVER;
    int64_t left = g.sleep_until == FOREVER ? FOREVER : g.sleep_until - now_us();
    unlock();
    if (left == FOREVER) return -1;
    return left <= 0 ? 0 : left > 60000000 ? 60000 : (int)((left + 999) / 1000);
}

/* The one timer thread: waits for due times, for wake-ups and for clients that hang up. */
static void *timer_main(void *unused) {
    struct epoll_event ev[256];
    (void)unused;
    while (!__atomic_load_n(&g.quitting, __ATOMIC_RELAXED)) {
        int n = epoll_wait(g.epoll, ev, COUNT(ev), sleep_ms());
        lock();
        g.sleep_until = 0;
        unlock();
        for (int i = 0; i < n; i++) {
            uint64_t drain;
            if (ev[i].data.u64 != UINT64_MAX)
                hang_up(ev[i].data.u64);
            else if (read(g.wake, &drain, sizeof drain) < 0 && errno != EAGAIN)
                abort();
        }
        resume_due();
    }
    return NULL;
}

static ssize_t read_body(void *cls, uint64_t pos, char *buf, size_t max) {
    Req *r = cls;
    (void)pos;
    if (r->gone) return MHD_CONTENT_READER_END_WITH_ERROR;
    if (r->due && r->due > now_us()) return park(r, r->due), 0;
    r->due = 0;
    size_t n = take(r, buf, max);
    if (n) return (ssize_t)n;
    if (r->out.end == END_STALL) return park(r, FOREVER), 0;
    if (r->out.end == END_CLEAN) return MHD_CONTENT_READER_END_OF_STREAM;
    r->cut = true;
    return MHD_CONTENT_READER_END_WITH_ERROR;
}

/* ---------------------------------------------------------------- keys */

static const char *header(Req *r, const char *name) {
    const char *v = MHD_lookup_connection_value(r->conn, MHD_HEADER_KIND, name);
    return v ? v : "";
}

static bool key_ok(const char *key) { return *key && (!g.key || !strcmp(g.key, key)); }

/* A key of Azure's own stands in its own header, a token of Entra is a bearer. */
static bool azure_auth(Req *r) {
    const char *key = header(r, "api-key"), *a = header(r, "authorization");
    if (!*key && starts_with(a, "Bearer ")) key = a + 7;
    return key_ok(key) || refuse(r, 401, "401",
                                 "Access denied due to invalid subscription key or wrong API endpoint. Make "
                                 "sure to provide a valid key for an active subscription and use a correct "
                                 "regional API endpoint for your resource.");
}

static bool openai_auth(Req *r) {
    if (r->azure) return azure_auth(r);
    const char *a = header(r, "authorization"), *portkey = header(r, "x-portkey-api-key");
    if (at_vendor(r, "portkey"))
        return key_ok(portkey) || refuse(r, 401, NULL, "Either x-portkey-api-key or a virtual key is needed");
    if (!starts_with(a, "Bearer "))
        return refuse(r, 401, NULL,
                      "You didn't provide an API key. You need to provide your "
                      "API key in an Authorization header using Bearer auth.");
    return key_ok(a + 7) || refuse(r, 401, "invalid_api_key", "Incorrect API key provided.");
}

static bool anthropic_auth(Req *r) {
    const char *version = header(r, "anthropic-version");
    if (!*header(r, "x-api-key")) return refuse(r, 401, NULL, "x-api-key header is required");
    if (!key_ok(header(r, "x-api-key"))) return refuse(r, 401, NULL, "invalid x-api-key");
    if (!*version) return refuse(r, 400, NULL, "anthropic-version: header is required");
    return !strcmp(version, "2023-06-01") ||
           bad(r, "anthropic-version: \"%.40s\" is not a valid version", version);
}

static bool vertex_auth(Req *r) {
    const char *a = header(r, "authorization");
    return (starts_with(a, "Bearer ") && key_ok(a + 7)) ||
           refuse(
               r, 401, "ACCESS_TOKEN_TYPE_UNSUPPORTED",
               "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie "
               "or other valid authentication credential.");
}

static bool gemini_auth(Req *r) {
    if (r->vertex) return vertex_auth(r);
    const char *key = header(r, "x-goog-api-key");
    if (!*key)
        return refuse(
            r, 403, NULL,
            "Method doesn't allow unregistered callers (callers without established "
            "identity). Please use API Key or other form of API consumer identity to call this API.");
    return key_ok(key) ||
           refuse(r, 400, "API_KEY_INVALID", "API key not valid. Please pass a valid API key.");
}

static const char *bearer_key(Req *r) {
    if (at_vendor(r, "portkey")) return header(r, "x-portkey-api-key");
    return r->azure && *header(r, "api-key") ? header(r, "api-key") : header(r, "authorization") + 7;
}
static const char *anthropic_key(Req *r) { return header(r, "x-api-key"); }
static const char *gemini_key(Req *r) {
    return r->vertex ? header(r, "authorization") + 7 : header(r, "x-goog-api-key");
}

/* ---------------------------------------------------------------- the dialects */

#include "fake_bedrock.h"
#include "fake_responses.h"
#include "fake_more.h"
#include "fake_embed.h"

static const Dialect dialects[DIALECTS] = {
    {"chatcmpl-",
     "call_",
     24,
     "messages",
     "\n",
     false,
     NULL,
     "application/json",
     "text/event-stream; charset=utf-8",
     "x-request-id",
     "invalid_api_key",
     401,
     503,
     bearer_key,
     openai_auth,
     openai_validate,
     openai_plain,
     openai_stream_out,
     openai_error,
     put_sse,
     NULL,
     {"stop", "stop", "length", "tool_calls", "stop"},
     "Unknown parameter: '%s'."},
    {"msg_",
     "toolu_01",
     22,
     "messages",
     "\n",
     true,
     "content_block_delta",
     "application/json",
     "text/event-stream",
     "request-id",
     NULL,
     401,
     529,
     anthropic_key,
     anthropic_auth,
     anthropic_validate,
     anthropic_plain,
     anthropic_stream_out,
     anthropic_error,
     put_sse,
     NULL,
     {"end_turn", "stop_sequence", "max_tokens", "tool_use", "refusal"},
     "%s: Extra inputs are not permitted"},
    {"resp-",
     "",
     22,
     "contents",
     "\r\n",
     false,
     NULL,
     "application/json; charset=UTF-8",
     "text/event-stream",
     NULL,
     "API_KEY_INVALID",
     400,
     503,
     gemini_key,
     gemini_auth,
     gemini_validate,
     gemini_plain,
     gemini_stream_out,
     gemini_error,
     put_sse,
     NULL,
     {"STOP", "STOP", "MAX_TOKENS", "STOP", "SAFETY"},
     "Invalid JSON payload received. Unknown name \"%s\": Cannot find field."},
    {"5fa4e000-0000-4000-8000-",
     "tooluse_",
     22,
     "messages",
     "",
     false,
     "contentBlockDelta",
     "application/json",
     "application/vnd.amazon.eventstream",
     "x-amzn-requestid",
     "UnrecognizedClientException",
     403,
     503,
     bedrock_key,
     bedrock_auth,
     bedrock_validate,
     bedrock_plain,
     bedrock_stream_out,
     bedrock_error,
     put_aws,
     put_aws_exception,
     {"end_turn", "stop_sequence", "max_tokens", "tool_use", "guardrail_intervened"},
     "Malformed input request: #: extraneous key [%s] is not permitted, please reformat your input and try "
     "again."},
    {"resp_",
     "call_",
     24,
     "input",
     "\n",
     true,
     "response.output_text.delta",
     "application/json",
     "text/event-stream; charset=utf-8",
     "x-request-id",
     "invalid_api_key",
     401,
     503,
     bearer_key,
     openai_auth,
     responses_validate,
     responses_plain,
     responses_stream_out,
     openai_error,
     put_sse,
     put_responses_error,
     {"completed", "completed", "max_output_tokens", "completed", "completed"},
     "Unknown parameter: '%s'."},
    {"ollama-",
     "",
     22,
     "messages",
     "",
     false,
     NULL,
     "application/json; charset=utf-8",
     "application/x-ndjson",
     NULL,
     NULL,
     401,
     500,
     ollama_key,
     ollama_auth,
     ollama_validate,
     ollama_plain,
     ollama_stream_out,
     ollama_error,
     put_line,
     NULL,
     {"stop", "stop", "length", "stop", "stop"},
     "unknown field '%s'"},
    {"5fa4e000-0000-4000-9000-",
     "call_",
     12,
     "messages",
     "\n",
     true,
     "content-delta",
     "application/json",
     "text/event-stream",
     NULL,
     NULL,
     401,
     500,
     bearer_key,
     cohere_auth,
     cohere_validate,
     cohere_plain,
     cohere_stream_out,
     cohere_error,
     put_sse,
     put_cohere_error,
     {"COMPLETE", "STOP_SEQUENCE", "MAX_TOKENS", "TOOL_CALL", "COMPLETE"},
     "unknown field: parameter '%s' is not a valid field"},
};

static const Dialect *own(const Req *r) { return &dialects[r->dialect]; }

/* ---------------------------------------------------------------- deciding the reply */

/* A byte position inside a multi-byte character of the text, or the middle when there is none. */
static size_t utf8_cut(const Out *o) {
    size_t lo = o->text_hi ? o->text_lo : 0, hi = o->text_hi ? o->text_hi : o->body.n;
    for (size_t i = hi; i > lo; i--)
        if ((unsigned char)o->body.p[i - 1] >= 0xC0) return i;
    return o->body.n / 2;
}

static void repiece_drip(Out *o, size_t step) {
    size_t all = o->body.n;
    o->n = 0;
    for (size_t at = step; at < all; at += step) {
        o->body.n = at;
        end_piece(o);
    }
    o->body.n = all;
    end_piece(o);
}

/* Adds a boundary inside each multi-byte character (at most MAX_SPLITS of them). */
static void repiece_split(Out *o) {
    size_t all = o->body.n, n = o->n, k = 0, splits = 0;
    size_t *old = o->ends;
    o->ends = NULL;
    o->n = o->cap = 0;
    for (size_t i = 0; i < all; i++) {
        bool old_end = k < n && old[k] == i + 1;
        bool split = (unsigned char)o->body.p[i] >= 0xC0 && splits < MAX_SPLITS;
        k += old_end;
        splits += split;
        o->body.n = i + 1;
        if (old_end || split || i + 1 == all) end_piece(o);
    }
    free(old);
}

static void apply_transport(Req *r) {
    Fault *f = &r->f;
    Out *o = &r->out;
    o->pace = f->chunk_ms > 0 ? f->chunk_ms * 1000 : 0;
    o->loop = f->endless && o->text_hi > o->text_lo;
    if (o->loop) o->chunked = true;
    if (o->n == 0 || o->ends[o->n - 1] < o->body.n) end_piece(o);
    if (f->drip_bytes > 0) {
        repiece_drip(o, (size_t)f->drip_bytes);
        o->pace = (f->drip_ms > 0 ? f->drip_ms : 1) * 1000;
    }
    if (f->split_utf8) {
        repiece_split(o);
        if (!o->pace) o->pace = 1000;
    }
}

static void raw_body(Req *r) {
    buf_add(&r->out.body, json_string_value(r->f.body), json_string_length(r->f.body));
    r->out.status = r->f.status >= 0 ? (unsigned)r->f.status : 200;
    if (r->out.status != 200 || !r->ask.stream) return;
    set_header(r, "Content-Type", own(r)->stream_type);
    r->out.chunked = true;
}

static void garbage_body(Req *r) {
    uint32_t x = 2463534242u;
    for (int i = 0; i < 600; i++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        buf_add(&r->out.body, &x, 1);
    }
    r->out.status = 200;
}

/* DeepSeek sends blank lines before the JSON while it is busy. */
static void blank_lines(Req *r) {
    if (!r->f.keepalive_comments) return;
    r->out.chunked = true;
    for (int i = 0; i < 4; i++) {
        buf_str(&r->out.body, "\n");
        end_piece(&r->out);
    }
}

static void count_tokens(Req *r) {
    lock();
    if (r->lane >= 0) g.lanes[r->lane].tokens += r->ans.in + r->ans.out;
    buf_fmt(&g.bills, "%s %s %lld %lld\n", r->id, r->model ? r->model : "-", (long long)r->ans.in,
            (long long)r->ans.out);
    unlock();
}

/* Cuts belong to the first cut_times requests that carry the fault. */
static void arm_cuts(Req *r) {
    Fault *f = &r->f;
    const json_int_t at[CUT_KINDS] = {f->cut_reasoning, f->cut_at, f->cut_args};
    for (size_t i = 0; i < CUT_KINDS; i++) r->out.left[i] = -1;
    if (!f->root || (at[0] & at[1] & at[2] & f->cut_body) == -1) return;
    char *key = must(json_dumps(f->root, JSON_COMPACT));
    lock();
    json_int_t met = json_integer_value(json_object_get(g.cuts, key));
    json_object_set_new(g.cuts, key, json_integer(met + 1));
    unlock();
    free(key);
    if (met >= (f->cut_times < 0 ? 1 : f->cut_times)) return;
    memcpy(r->out.left, at, sizeof at);
    if (f->cut_body >= 0) f->cut_after = f->cut_body;
}

static void answer_body(Req *r) {
    Out *o = &r->out;
    if (r->embeds) return embed_body(r);
    if (r->serve) {
        o->status = r->f.status >= 0 ? (unsigned)r->f.status : 200;
        return r->serve(r);
    }
    o->status = r->f.status >= 0 ? (unsigned)r->f.status : 200;
    if (!r->ask.stream) blank_lines(r);
    if (!r->ask.stream && r->f.error_after >= 0 && r->dialect == BEDROCK)
        o->status = 503; /* never in a 200 */
    if (!r->ask.stream && r->f.error_after >= 0) return error_body(r, &o->body, 503, NULL);
    make_answer(r);
    count_tokens(r);
    if (!r->ask.stream) return own(r)->plain(r);
    o->chunked = true;
    o->array = r->dialect == GEMINI && !r->gem_sse;
    o->sse = !o->array && starts_with(own(r)->stream_type, "text/event-stream");
    if (!o->array) set_header(r, "Content-Type", own(r)->stream_type);
    if (o->sse) set_header(r, "Cache-Control", "no-cache");
    if (r->f.error_after >= 0) set_header(r, "Connection", "close");
    own(r)->stream(r);
}

/* limit, remaining and reset of a key's own limit, as the dialect writes them. */
static void lane_headers(Req *r, char own[3][40]) {
    if (!r->told.on) return;
    snprintf(own[0], sizeof own[0], "%lld", (long long)r->told.limit);
    snprintf(own[1], sizeof own[1], "%lld", (long long)r->told.remaining);
    long long ms = (long long)(r->told.reset_us + 999) / 1000;
    if (limit_style(r) == 0) {
        if (ms < 1000)
            snprintf(own[2], sizeof own[2], "%lldms", ms);
        else
            snprintf(own[2], sizeof own[2], "%lldm%lld.%03llds", ms / 60000, ms / 1000 % 60, ms % 1000);
        return;
    }
    struct timespec t;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &t);
    time_t later = t.tv_sec + (ms + t.tv_nsec / 1000000 + 999) / 1000;
    gmtime_r(&later, &tm);
    strftime(own[2], sizeof own[2], "%Y-%m-%dT%H:%M:%SZ", &tm);
}

/* Whole seconds, rounded up, as the standard has it; OpenAI also tells milliseconds, Gemini in the body. */
static void retry_headers(Req *r) {
    char text[24];
    double s = atof(r->retry);
    if (!*r->retry || r->dialect == GEMINI || r->dialect == BEDROCK) return;
    snprintf(text, sizeof text, "%lld", (long long)(s + 0.999));
    set_header(r, "Retry-After", text);
    snprintf(text, sizeof text, "%lld", (long long)(s * 1000 + 0.999));
    if (limit_style(r) == 0) set_header(r, "retry-after-ms", text);
}

static void limit_headers(Req *r) {
    static const struct {
        const char *kind, *limit, *remaining;
    } rates[] = {
        {"requests", "10000", "9999"},
        {"tokens", "2000000", "1999000"},
        {"input-tokens", "1500000", "1499500"},
        {"output-tokens", "500000", "499500"},
    };
    static const char *const form[2][3] = {
        {"x-ratelimit-limit-%s", "x-ratelimit-remaining-%s", "x-ratelimit-reset-%s"},
        {"anthropic-ratelimit-%s-limit", "anthropic-ratelimit-%s-remaining", "anthropic-ratelimit-%s-reset"},
    };
    char reset[40], name[80];
    time_t t = time(NULL) + 60;
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(reset, sizeof reset, "%Y-%m-%dT%H:%M:%SZ", &tm);
    char own[3][40];
    lane_headers(r, own);
    int style = limit_style(r);
    for (size_t i = 0; style < 2 && i < (style == 0 ? 2 : COUNT(rates)); i++) {
        const char *later = style == 1 ? reset : i ? "1.2s" : "6ms";
        bool ours = r->told.on && !i;
        const char *const values[] = {ours ? own[0] : rates[i].limit, ours ? own[1] : rates[i].remaining,
                                      ours ? own[2] : later};
        for (size_t k = 0; k < COUNT(values); k++) {
            const char *at = strstr(form[style][k], "%s");
            snprintf(name, sizeof name, "%.*s%s%s", (int)(at - form[style][k]), form[style][k], rates[i].kind,
                     at + 2);
            set_header(r, name, values[k]);
        }
    }
}

static void default_headers(Req *r) {
    char id[60];
    snprintf(id, sizeof id, "%s%s", r->dialect == BEDROCK ? "" : "req_", r->id);
    set_header(r, "Content-Type", own(r)->type);
    if (own(r)->id_header) set_header(r, own(r)->id_header, id);
    if (limit_style(r) == 0) set_header(r, "openai-processing-ms", "7");
    if (g.name) set_header(r, "x-fake-provider", g.name);
    limit_headers(r);
    retry_headers(r);
}

static void fault_headers(Req *r) {
    const char *key;
    json_t *v;
    if (r->f.retry_after) set_header(r, "Retry-After", json_string_value(r->f.retry_after));
    if (r->f.redirect) set_header(r, "Location", json_string_value(r->f.redirect));
    if (r->f.content_type) set_header(r, "Content-Type", json_string_value(r->f.content_type));
    if (r->f.close) set_header(r, "Connection", "close");
    json_object_foreach(r->f.headers, key, v) set_header(r, key, json_string_value(v));
}

/* Which of the steered replies it is; the rest of the faults only change how it is sent. */
static void choose_body(Req *r) {
    Fault *f = &r->f;
    Out *o = &r->out;
    if (r->err.n) {
        o->status = r->err_status;
        return error_body(r, &o->body, o->status, r->err.p);
    }
    if (f->redirect) {
        o->status = f->status >= 0 ? (unsigned)f->status : 302;
        return;
    }
    if (f->content_filter) {
        o->status = 400;
        return error_body(r, &o->body, 400, azure_filter_text);
    }
    if (f->body) return raw_body(r);
    if (f->garbage) return garbage_body(r);
    if (f->status < 300) return answer_body(r);
    o->status = (unsigned)f->status;
    error_body(r, &o->body, o->status, NULL);
}

/* ---------------------------------------------------------------- provider requests */

static bool json_type_ok(Req *r) {
    const char *ct = header(r, "content-type");
    bool ok = !strncasecmp(ct, "application/json", 16) && (!ct[16] || ct[16] == ';' || ct[16] == ' ');
    return ok || refuse(r, 415, NULL, "Content-Type: must be application/json");
}

/* .../models/NAME:generateContent; url is already percent-decoded. */
static bool gemini_route(Req *r, const char *url) {
    static const char *const verbs[] = {":generateContent", ":streamGenerateContent", ":embedContent",
                                        ":batchEmbedContents"};
    const char *models = strstr(url, "/models/");
    for (size_t i = 0; models && i < COUNT(verbs); i++) {
        if (!ends_with(url, verbs[i])) continue;
        const char *name = models + 8;
        const char *alt = MHD_lookup_connection_value(r->conn, MHD_GET_ARGUMENT_KIND, "alt");
        if (strlen(name) < strlen(verbs[i])) return false;
        r->dialect = GEMINI;
        r->model = must(strndup(name, strlen(name) - strlen(verbs[i])));
        r->gem_stream = i == 1;
        if (i >= 2) r->embeds = &embed_kinds[i == 2 ? EMBED_GEMINI : EMBED_GEMINI_BATCH];
        r->gem_sse = alt && !strcmp(alt, "sse");
        return true;
    }
    return false;
}

static bool batch_route(Req *r, const char *url);

typedef struct Route {
    const char *end; /* of the path */
    int dialect;
    const Embedding *embeds;
} Route;

static const Route routes[] = {
    {"/chat/completions", OPENAI, NULL},
    {"/mistral/v1/embeddings", OPENAI, &embed_kinds[EMBED_MISTRAL]},
    {"/embeddings", OPENAI, &embed_kinds[EMBED_OPENAI]},
    {"/messages", ANTHROPIC, NULL},
    {"/responses", RESPONSES, NULL},
    {"/api/chat", OLLAMA, NULL},
    {"/api/embed", OLLAMA, &embed_kinds[EMBED_OLLAMA]},
    {"/v2/chat", COHERE, NULL},
    {"/v2/embed", COHERE, &embed_kinds[EMBED_COHERE]},
};

static bool route(Req *r, const char *url) {
    bool known = batch_route(r, url) || gemini_route(r, url) || bedrock_route(r);
    for (size_t i = 0; !known && i < COUNT(routes); i++) {
        if (!ends_with(url, routes[i].end)) continue;
        r->dialect = routes[i].dialect;
        r->embeds = routes[i].embeds;
        known = true;
    }
    put_id(r->id, sizeof r->id, own(r)->id, r->dialect == BEDROCK || r->dialect == COHERE ? 12 : 1);
    if (known && !(r->dialect == GEMINI ? vertex_route(r) : azure_route(r))) return false;
    if (r->invokes && !bedrock_invoke(r)) return false;
    if (!known) return refuse(r, 404, "unknown_url", "Unknown request URL.");
    return r->serve || !strcmp(r->method, "POST") ||
           refuse(r, 405, "method_not_supported", "Only POST is allowed here.");
}

static bool parse_body(Req *r) {
    json_error_t e;
    if (r->too_big) return refuse(r, 413, NULL, "The request is larger than 64 MiB.");
    r->root = json_loadb(buf_text(&r->body), r->body.n, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &e);
    if (!r->root) return bad(r, "Invalid JSON payload: %s (byte %d)", e.text, e.position);
    if (!json_is_object(r->root)) return bad(r, "Invalid JSON payload: must be an object");
    if (!r->model) r->model = must(strdup(str_of(r->root, "model")));
    if (r->azure && !json_object_get(r->root, "model"))
        json_object_set_new(r->root, "model", json_string(r->model)); /* the path says it */
    return *r->model || bad(r, "model: field required");
}

static bool model_fault(Req *r) {
    r->label = r->model;
    if (!starts_with(r->model, "fault:")) return true;
    json_error_t e;
    Buf err = {0};
    json_t *obj = json_loads(r->model + 6, JSON_ALLOW_NUL, &e);
    bool ok = obj ? fault_parse(&r->f, obj, &err) : (buf_str(&err, e.text), false);
    if (!ok) fault_init(&r->f);
    if (!ok) bad(r, "model: %s", err.p);
    buf_free(&err);
    json_decref(obj);
    r->label = "fault";
    return ok;
}

/* A first user message that begins with fault:{...} steers this request, where nothing else does. */
static bool fault_from_prompt(Req *r) {
    json_t *list = json_object_get(r->root, own(r)->list), *msg;
    Buf text = {0}, err = {0};
    size_t i;
    if (r->f.root) return true;
    if (json_is_string(list)) buf_str(&text, json_string_value(list));
    json_array_foreach(list, i, msg) {
        if (strcmp(str_of(msg, "role"), "user")) continue;
        message_text(msg, &text);
        break;
    }
    bool ok = true;
    if (starts_with(buf_text(&text), "fault:{")) {
        json_error_t e;
        json_t *obj = json_loads(text.p + 6, JSON_ALLOW_NUL | JSON_DISABLE_EOF_CHECK, &e);
        ok = obj ? fault_parse(&r->f, obj, &err) : (buf_str(&err, e.text), false);
        if (!ok) fault_init(&r->f);
        if (!ok) bad(r, "prompt: %s", buf_text(&err));
        json_decref(obj);
    }
    buf_free(&text);
    buf_free(&err);
    return ok;
}

/* What comes with a request for a batch: nothing, a form, or JSON. */
static bool service_body(Req *r) {
    if (strcmp(r->method, "POST") || !strcmp(r->model, "files") || (r->item && !r->body.n)) return true;
    return json_type_ok(r) && parse_body(r);
}

static bool examine(Req *r, const char *url) {
    if (!route(r, url)) return false;
    if (r->serve) return own(r)->auth(r) && service_body(r) && admit(r, own(r)->key(r));
    if (!own(r)->auth(r) || !json_type_ok(r) || !parse_body(r) || !model_fault(r)) return false;
    bool good = r->embeds ? r->embeds->validate(r) : own(r)->validate(r) && find_continuation(r);
    return good && admit(r, own(r)->key(r));
}

static enum MHD_Result keep_header(void *to, enum MHD_ValueKind kind, const char *key, const char *value) {
    char low[256];
    size_t n = 0;
    (void)kind;
    for (; key[n] && n < sizeof low - 1; n++) low[n] = (char)tolower((unsigned char)key[n]);
    low[n] = 0;
    json_t *v = json_string(value ? value : "");
    json_object_set_new(to, low, v ? v : json_string("(not UTF-8)"));
    return MHD_YES;
}

/* Everything /_stats tells; before the reply goes out, so that a client that has it finds itself counted. */
static void record(Req *r) {
    json_t *headers = json_object();
    const char *model = r->model ? r->model : "";
    MHD_get_connection_values(r->conn, MHD_HEADER_KIND, keep_header, headers);
    lock();
    g.requests++;
    g.prefills += r->ask.continues && !r->ask.by_turn;
    g.turns += r->ask.by_turn;
    json_object_set_new(g.by_model, model,
                        json_integer(json_integer_value(json_object_get(g.by_model, model)) + 1));
    json_decref(g.last_headers);
    g.last_headers = headers;
    free(g.last_path);
    g.last_path = must(strdup(r->uri));
    Buf swap = g.last_body;
    g.last_body = r->body;
    r->body = swap;
    LogLine *l = &g.log[g.logged++ % LOG_SIZE];
    free(l->model);
    free(l->path);
    *l = (LogLine){must(strdup(model)), must(strdup(r->uri)), r->f.never && !r->err.n ? 0 : r->out.status};
    unlock();
}

#include "fake_batch.h"

static void provide(Req *r, const char *url) {
    bool ok = examine(r, url);
    lock();
    if (ok && !r->f.root) fault_from_rules(r);
    unlock();
    ok = ok && (r->serve || fault_from_prompt(r));
    arm_cuts(r);
    default_headers(r);
    choose_body(r);
    if (ok) fault_headers(r);
    apply_transport(r);
    record(r);
}

/* ---------------------------------------------------------------- control */

static void clear_rules(void) {
    for (size_t i = 0; i < g.nrules; i++) {
        free(g.rules[i].model);
        json_decref(g.rules[i].f.root);
    }
    for (size_t i = 0; i < LOG_SIZE; i++) {
        free(g.log[i].model);
        free(g.log[i].path);
        g.log[i] = (LogLine){0};
    }
    free(g.rules);
    g.rules = NULL;
    g.nrules = g.logged = 0;
    g.requests = g.connections = g.disconnects = 0;
    g.max_open = g.open;
    clear_lanes();
    aws_clear();
    oracle_clear();
    g.prefills = g.turns = 0;
    json_object_clear(g.cuts);
    json_object_clear(g.by_model);
    json_decref(g.last_headers);
    g.last_headers = NULL;
    free(g.last_path);
    g.last_path = NULL;
    buf_free(&g.last_body);
    buf_free(&g.bills);
}

static bool set_limits(json_t *obj, Buf *err) {
    static const struct {
        const char *name;
        size_t at;
    } fields[] = {{"rpm", offsetof(Lane, rpm)},
                  {"burst", offsetof(Lane, burst)},
                  {"concurrency", offsetof(Lane, concurrency)},
                  {"window_ms", offsetof(Lane, window_us)}};
    Lane made = {.state = 'o', .window_us = 60000};
    const char *key = str_of(obj, "key"), *name;
    json_t *v;
    json_object_foreach(obj, name, v) {
        size_t i = 0;
        while (i < COUNT(fields) && strcmp(fields[i].name, name)) i++;
        if (i == COUNT(fields) && !strcmp(name, "key")) continue;
        if (i == COUNT(fields) || !json_is_integer(v) || json_integer_value(v) < 1)
            return buf_fmt(err, "limits.%s: unknown, or not a whole number from 1", name), false;
        *(json_int_t *)((char *)&made + fields[i].at) = json_integer_value(v);
    }
    made.window_us *= 1000;
    lock();
    if (!*key || !strcmp(key, "*"))
        g.any = made;
    else
        lane_of(key);
    for (size_t i = 0; i < g.nlanes; i++) {
        Lane *l = &g.lanes[i];
        if (*key && strcmp(key, "*") && strcmp(key, l->key)) continue;
        l->rpm = made.rpm;
        l->concurrency = made.concurrency;
        l->burst = made.burst;
        l->level = (double)made.burst;
        l->filled_us = now_us();
        l->window_us = made.window_us;
    }
    unlock();
    return true;
}

static bool set_keys(json_t *obj, Buf *err) {
    const char *key;
    json_t *v;
    json_object_foreach(obj, key, v) {
        const char *word = json_string_value(v);
        if (!word || !ONE_OF(word, "ok", "refused", "quota"))
            return buf_fmt(err, "keys.%s: must be ok, refused or quota", key), false;
        lock();
        long at = lane_of(key); /* may move g.lanes */
        g.lanes[at].state = word[0];
        unlock();
    }
    return true;
}

static bool push_rule(json_t *obj, Buf *err);

static bool add_rule(Req *r, json_t **changed, Buf *err) {
    json_error_t e;
    json_t *obj = json_loadb(buf_text(&r->body), r->body.n, JSON_ALLOW_NUL, &e);
    if (!obj) return buf_fmt(err, "invalid JSON: %s", e.text), false;
    json_t *limits = json_object_get(obj, "limits"), *keys = json_object_get(obj, "keys"),
           *truth = json_object_get(obj, "oracle"), *aws = json_object_get(obj, "aws"),
           *batch = json_object_get(obj, "batch");
    bool ok = (!limits || set_limits(limits, err)) && (!keys || set_keys(keys, err)) &&
              (!truth || oracle_control(truth, changed, err)) && (!aws || aws_control(aws, err)) &&
              (!batch || batch_control(batch, err)) &&
              (limits || keys || truth || aws || batch || push_rule(obj, err));
    json_decref(obj);
    return ok;
}

static bool push_rule(json_t *obj, Buf *err) {
    Fault f;
    if (!fault_parse(&f, obj, err)) return false;
    lock();
    g.rules = must(realloc(g.rules, (g.nrules + 1) * sizeof *g.rules));
    g.rules[g.nrules++] =
        (Rule){must(strdup(f.model ? json_string_value(f.model) : "*")), f.times > 0 ? f.times : -1, f};
    unlock();
    return true;
}

static void control_rules(Req *r) {
    Buf err = {0};
    json_t *changed = NULL;
    bool clear = !strcmp(r->method, "DELETE");
    if (clear) batch_clear();
    lock();
    if (clear) clear_rules();
    unlock();
    if (clear || (!strcmp(r->method, "POST") && add_rule(r, &changed, &err))) {
        buf_str(&r->out.body, "{\"ok\":true");
        if (changed) {
            buf_str(&r->out.body, ",\"changed\":");
            buf_dump(&r->out.body, changed);
        }
        buf_str(&r->out.body, "}\n");
    } else {
        r->out.status = 400;
        buf_str(&r->out.body, "{\"error\":");
        buf_jstr(&r->out.body, err.n ? err.p : "POST or DELETE only");
        buf_str(&r->out.body, "}\n");
    }
    json_decref(changed);
    buf_free(&err);
}

static json_t *last_json(void) {
    json_t *body = json_loadb(buf_text(&g.last_body), g.last_body.n, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
    if (!body) body = json_stringn(buf_text(&g.last_body), g.last_body.n);
    if (!body) body = json_string("(not UTF-8)");
    return json_pack("{s:s,s:O,s:o}", "path", g.last_path, "headers", g.last_headers, "body", body);
}

static json_t *log_json(void) {
    json_t *list = json_array();
    size_t n = g.logged < LOG_SIZE ? g.logged : LOG_SIZE;
    for (size_t i = g.logged - n; i < g.logged; i++) {
        LogLine *l = &g.log[i % LOG_SIZE];
        json_array_append_new(
            list, json_pack("{s:s,s:s,s:i}", "model", l->model, "path", l->path, "status", l->status));
    }
    return list;
}

static json_t *keys_json(void) {
    json_t *all = json_object();
    for (size_t i = 0; i < g.nlanes; i++) {
        Lane *l = &g.lanes[i];
        json_object_set_new(all, l->key,
                            json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "requests", l->requests, "refused",
                                      l->refused, "limited", l->limited, "open", l->open, "max_open",
                                      l->max_open, "max_window", l->max_window, "tokens", l->tokens));
    }
    return all;
}

static void control_stats(Req *r) {
    lock();
    json_t *j =
        json_pack("{s:s,s:I,s:O,s:I,s:I,s:I,s:o,s:o,s:I,s:o,s:I,s:I,s:I,s:I}", "name", g.name ? g.name : "",
                  "requests", g.requests, "by_model", g.by_model, "open", g.open, "max_open", g.max_open,
                  "connections", g.connections, "last", g.last_path ? last_json() : json_null(), "log",
                  log_json(), "disconnects", g.disconnects, "keys", keys_json(), "prefills", g.prefills,
                  "turns", g.turns, "known", oracle.known, "unknown", oracle.unknown);
    char *s = j ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    unlock();
    buf_str(&r->out.body, s ? s : "{\"error\":\"the last request cannot be shown\"}");
    buf_str(&r->out.body, "\n");
    free(s);
}

static void control(Req *r, const char *url) {
    set_header(r, "Content-Type", "application/json");
    r->out.status = 200;
    if (!strcmp(url, "/_control")) return control_rules(r);
    if (!strcmp(url, "/_stats")) return control_stats(r);
    if (!strcmp(url, "/_asked")) return oracle_asked(r);
    if (!strcmp(url, "/_bills")) {
        lock();
        buf_cat(&r->out.body, &g.bills);
        unlock();
        return;
    }
    int bytes = starts_with(url, "/_script/") ? atoi(url + 9) : 0;
    if (bytes > 0) return script_text(&r->out.body, (size_t)bytes);
    r->quit = !strcmp(url, "/_quit") && !strcmp(r->method, "POST");
    if (!r->quit) r->out.status = 404;
    buf_str(&r->out.body, r->quit ? "{\"ok\":true}\n" : "{\"error\":\"no such control endpoint\"}\n");
}

/* ---------------------------------------------------------------- http */

static void *on_uri(void *cls, const char *uri, struct MHD_Connection *conn) {
    Req *r = must(calloc(1, sizeof *r));
    (void)cls;
    r->conn = conn;
    r->uri = must(strdup(uri));
    r->lane = -1;
    r->vendor = "";
    fault_init(&r->f);
    return r;
}

static void begin(Req *r, const char *method) {
    r->seen = true;
    r->method = must(strdup(method));
    r->fd = MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    r->counted = !starts_with(r->uri, "/_");
    lock();
    g.slots[r->fd].cur = r;
    g.open += r->counted;
    if (g.open > g.max_open) g.max_open = g.open;
    unlock();
}

static void collect(Req *r, const char *data, size_t n) {
    if (r->body.n + n > MAX_BODY)
        r->too_big = true;
    else
        buf_add(&r->body, data, n);
}

static struct MHD_Response *make_response(Req *r) {
    Out *o = &r->out;
    Fault *f = &r->f;
    size_t size = o->body.n;
    if (f->cut_in_utf8 && !r->err.n) {
        o->body.n = utf8_cut(o);
        o->end = END_CUT;
        while (o->n && o->ends[o->n - 1] > o->body.n) o->n--;
        end_piece(o);
    }
    if (o->chunked) return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, read_body, r, NULL);
    bool simple = !o->pace && f->cut_after < 0 && !r->due && o->end == END_CLEAN;
    if (simple) lane_release(r);
    if (simple) return MHD_create_response_from_buffer(size, o->body.p, MHD_RESPMEM_PERSISTENT);
    return MHD_create_response_from_callback(size, 16384, read_body, r, NULL);
}

static enum MHD_Result reply(Req *r) {
    r->direct = r->out.chunked && r->out.pace && r->f.cut_after < 0 && r->http11 && !r->tls;
    r->due = r->f.first_token_delay_ms > 0 ? now_us() + r->f.first_token_delay_ms * 1000 : 0;
    struct MHD_Response *resp = make_response(r);
    if (!resp) return MHD_NO;
    for (size_t i = 0; i < r->nheaders; i++) MHD_add_response_header(resp, r->hname[i], r->hvalue[i]);
    enum MHD_Result ok = MHD_queue_response(r->conn, r->out.status, resp);
    MHD_destroy_response(resp);
    return ok;
}

/* When the reply may start: now (0), later, or never. */
static int64_t start_time(const Req *r) {
    if (r->err.n) return 0;
    if (r->f.never) return FOREVER;
    return r->f.delay_ms > 0 ? now_us() + r->f.delay_ms * 1000 : 0;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn, const char *url, const char *method,
                                  const char *version, const char *data, size_t *n, void **state) {
    Req *r = *state;
    (void)conn;
    if (!r->seen) {
        r->http11 = !strcmp(version, "HTTP/1.1");
        r->tls = cls != NULL;
        return begin(r, method), MHD_YES;
    }
    if (*n) {
        collect(r, data, *n);
        *n = 0;
        return MHD_YES;
    }
    if (r->gone) return MHD_NO;
    if (r->ready) return reply(r);
    r->ready = true;
    if (r->counted)
        provide(r, url);
    else
        control(r, url);
    int64_t start = start_time(r);
    if (!start) return reply(r);
    park(r, start);
    return MHD_YES;
}

static void free_request(Req *r) {
    Buf *bufs[] = {&r->body,        &r->ask.user,      &r->ask.results, &r->ask.images,
                   &r->ask.partial, &r->ans.reasoning, &r->ans.text,    &r->ans.refusal,
                   &r->out.body,    &r->out.tmp,       &r->err,         &r->debt};
    for (size_t i = 0; i < COUNT(bufs); i++) buf_free(bufs[i]);
    for (size_t i = 0; i < r->ans.ncalls; i++) {
        free(r->ans.calls[i].name);
        buf_free(&r->ans.calls[i].args);
    }
    for (size_t i = 0; i < r->nheaders; i++) {
        free(r->hname[i]);
        free(r->hvalue[i]);
    }
    json_decref(r->ask.tools);
    json_decref(r->texts);
    json_decref(r->root);
    json_decref(r->f.root);
    free(r->out.ends);
    free(r->uri);
    free(r->method);
    free(r->model);
    free(r->item);
    free(r);
}

static void on_completed(void *cls, struct MHD_Connection *conn, void **state,
                         enum MHD_RequestTerminationCode code) {
    Req *r = *state;
    uint64_t one = 1;
    (void)cls, (void)conn;
    if (!r) return;
    lane_release(r);
    bool quit = r->quit;
    lock();
    if (r->seen && g.slots[r->fd].cur == r) g.slots[r->fd].cur = NULL;
    if (r->counted) g.open--;
    if (r->counted && code != MHD_REQUEST_TERMINATED_COMPLETED_OK && !r->cut && !g.quitting) g.disconnects++;
    unlock();
    free_request(r);
    *state = NULL;
    if (quit && write(g.quit_fd, &one, sizeof one) < 0) abort();
}

/* Every connection is watched for hang-ups by the timer thread from its start: one epoll_ctl in its life. The
 * generation tells a recycled descriptor from the one that was watched. */
static void on_connection(void *cls, struct MHD_Connection *conn, void **state,
                          enum MHD_ConnectionNotificationCode code) {
    (void)cls, (void)state;
    if (code != MHD_CONNECTION_NOTIFY_STARTED) return;
    int fd = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    lock();
    Slot *s = &g.slots[fd];
    s->gen++;
    s->hup = false;
    s->cur = NULL;
    g.connections++;
    struct epoll_event ev = {.events = EPOLLRDHUP | EPOLLET,
                             .data.u64 = (uint64_t)s->gen << 32 | (uint32_t)fd};
    unlock();
    epoll_ctl(g.epoll, EPOLL_CTL_ADD, fd, &ev);
}

static void on_log(void *cls, const char *fmt, va_list ap) {
    (void)cls;
    /* Clients that cut connections are everyday business here; the log is only for debugging the fake. */
    if (getenv("FAKE_PROVIDER_LOG")) vfprintf(stderr, fmt, ap);
}

/* ---------------------------------------------------------------- main */

typedef struct Options {
    int port, tls_port; /* tls_port -1: no TLS */
    const char *cert, *key, *cert_dir, *answers;
    bool watch_parent;
} Options;

__attribute__((noreturn)) static void die(const char *what) {
    fprintf(stderr, "fake_provider: %s\n", what);
    exit(1);
}

static int port_number(const char *s) {
    char *end;
    long n = strtol(s, &end, 10);
    if (*end || n < 0 || n > 65535) die("bad port number");
    return (int)n;
}

static int wording_count(const char *s) {
    int n = atoi(s);
    if (n < 1 || n > MAX_WORDINGS) die("--wordings must be 1 to 5");
    return n;
}

static Options parse_options(int argc, char **argv) {
    Options o = {.tls_port = -1};
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (!strcmp(a, "--parent-pid-watch")) {
            o.watch_parent = true;
            continue;
        }
        const char *v = i + 1 < argc ? argv[++i] : NULL;
        if (!v)
            die("usage: fake_provider [--port N] [--tls-port N] [--cert FILE --key FILE] [--cert-dir DIR] "
                "[--key-required KEY] [--name NAME] [--parent-pid-watch] [--answers FILE] [--wordings N] "
                "[--seed N]");
        if (!strcmp(a, "--port"))
            o.port = port_number(v);
        else if (!strcmp(a, "--tls-port"))
            o.tls_port = port_number(v);
        else if (!strcmp(a, "--cert"))
            o.cert = v;
        else if (!strcmp(a, "--key"))
            o.key = v;
        else if (!strcmp(a, "--cert-dir"))
            o.cert_dir = v;
        else if (!strcmp(a, "--key-required"))
            g.key = v;
        else if (!strcmp(a, "--name"))
            g.name = v;
        else if (!strcmp(a, "--seed"))
            oracle.seed = oracle.first_seed = strtoull(v, NULL, 10);
        else if (!strcmp(a, "--wordings"))
            oracle.wordings = oracle.first_wordings = wording_count(v);
        else if (!strcmp(a, "--answers"))
            o.answers = v;
        else
            die("unknown option (see the top of the source)");
    }
    if (!o.cert != !o.key) die("--cert and --key go together");
    return o;
}

static rlim_t raise_nofile(void) {
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim)) die("getrlimit failed");
    if (lim.rlim_max == RLIM_INFINITY || lim.rlim_max > 1000000) lim.rlim_max = 1000000;
    lim.rlim_cur = lim.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &lim)) die("setrlimit failed");
    return lim.rlim_cur;
}

static void run_openssl(const char *conf, const char *cert, const char *key) {
    pid_t pid = fork();
    if (pid < 0) die("fork failed");
    if (!pid) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        dup2(null, 2);
        execlp("openssl", "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
               "ec_paramgen_curve:prime256v1", "-nodes", "-days", "5", "-config", conf, "-keyout", key,
               "-out", cert, (char *)NULL);
        _exit(127);
    }
    int status;
    if (waitpid(pid, &status, 0) < 0 || status) die("openssl could not make a certificate");
}

/* A self-signed certificate that is its own CA. */
static void make_cert(Options *o) {
    static const char text[] =
        "[req]\ndistinguished_name=dn\nx509_extensions=v3\nprompt=no\n[dn]\nCN=localhost\n[v3]\n"
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=critical,CA:TRUE\n"
        "keyUsage=critical,digitalSignature,keyCertSign\nextendedKeyUsage=serverAuth\nsubjectKeyIdentifier="
        "hash\n";
    static char dir[] = "/tmp/fake_provider.XXXXXX", cert[4200], key[4200];
    char conf[4200];
    if (!o->cert_dir) o->cert_dir = mkdtemp(dir);
    if (!o->cert_dir) die("mkdtemp failed");
    mkdir(o->cert_dir, 0700);
    if (strlen(o->cert_dir) > 4000) die("--cert-dir is too long");
    snprintf(cert, sizeof cert, "%s/cert.pem", o->cert_dir);
    snprintf(key, sizeof key, "%s/key.pem", o->cert_dir);
    snprintf(conf, sizeof conf, "%s/openssl.cnf", o->cert_dir);
    mode_t old = umask(077);
    FILE *f = fopen(conf, "w");
    if (!f || fputs(text, f) < 0 || fclose(f)) die("cannot write into the certificate directory");
    run_openssl(conf, cert, key);
    umask(old);
    chmod(cert, 0644);
    o->cert = cert;
    o->key = key;
}

static char *read_file(const char *path) {
    Buf b = {0};
    char chunk[4096];
    size_t n;
    FILE *f = fopen(path, "r");
    if (!f) die("cannot read the certificate or the key");
    while ((n = fread(chunk, 1, sizeof chunk, f))) buf_add(&b, chunk, n);
    fclose(f);
    return b.p ? b.p : must(strdup(""));
}

static struct MHD_Daemon *listen_on(int port, unsigned conn_limit, const char *cert, const char *key) {
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)cert},
                                   {MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)key},
                                   {MHD_OPTION_END, 0, NULL}};
    if (!cert) tls[0].option = MHD_OPTION_END;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
                     (cert ? MHD_USE_TLS : 0);
    struct MHD_Daemon *d = MHD_start_daemon(
        flags, (uint16_t)port, NULL, NULL, on_request, (void *)(uintptr_t)cert, MHD_OPTION_EXTERNAL_LOGGER,
        on_log, NULL, /* first, so that it hears of the other options */
        MHD_OPTION_SOCK_ADDR, &addr, MHD_OPTION_CONNECTION_LIMIT, conn_limit,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)64 * 1024, MHD_OPTION_LISTEN_BACKLOG_SIZE, 16384u,
        MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_URI_LOG_CALLBACK, on_uri, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, NULL,
        MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
    if (!d) die(cert ? "cannot listen on the TLS port" : "cannot listen on the port");
    return d;
}

static int bound_port(struct MHD_Daemon *d) {
    return d ? MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT)->port : 0;
}

static void watch_parent(void) {
    pid_t parent = getppid();
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent || parent == 1) raise(SIGTERM);
}

/* Returns when a signal, POST /_quit or (if watched) the end of stdin asks for it. */
static void wait_for_end(int signals, bool watch_stdin) {
    struct pollfd p[] = {{signals, POLLIN, 0}, {g.quit_fd, POLLIN, 0}, {watch_stdin ? 0 : -1, POLLIN, 0}};
    char junk[256];
    for (;;) {
        if (poll(p, COUNT(p), -1) < 0 && errno != EINTR) die("poll failed");
        if (p[0].revents || p[1].revents) return;
        if (p[2].revents && read(0, junk, sizeof junk) <= 0) return;
    }
}

static void setup(rlim_t files) {
    json_object_seed(0); /* not thread-safe when it happens by itself */
    g.nslots = files;
    g.slots = must(calloc(g.nslots, sizeof *g.slots));
    g.by_model = json_object();
    g.cuts = json_object();
    clear_lanes();
    g.epoll = epoll_create1(EPOLL_CLOEXEC);
    g.wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    g.quit_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (g.epoll < 0 || g.wake < 0 || g.quit_fd < 0) die("epoll or eventfd failed");
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = UINT64_MAX};
    if (epoll_ctl(g.epoll, EPOLL_CTL_ADD, g.wake, &ev)) die("epoll_ctl failed");
}

/* MHD cannot stop while connections are suspended, so the timer thread lets go of all of them first. */
static void shut_down(pthread_t timer, struct MHD_Daemon *plain, struct MHD_Daemon *tls) {
    uint64_t one = 1;
    alarm(3); /* whatever happens, do not outlive the test run */
    signal(SIGALRM, SIG_DFL);
    lock();
    g.quitting = true;
    unlock();
    if (write(g.wake, &one, sizeof one) < 0) die("cannot wake the timer thread");
    pthread_join(timer, NULL);
    resume_due();
    MHD_stop_daemon(plain);
    if (tls) MHD_stop_daemon(tls);
    lock();
    clear_rules();
    json_decref(g.by_model);
    json_decref(g.cuts);
    for (size_t i = 0; i < g.nlanes; i++) free(g.lanes[i].key);
    free(g.lanes);
    unlock();
    free(g.heap);
    free(g.slots);
    oracle_free();
    batch_clear();
}

int main(int argc, char **argv) {
    Options o = parse_options(argc, argv);
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    pthread_sigmask(SIG_BLOCK, &ends, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (o.watch_parent) watch_parent();
    rlim_t files = raise_nofile();
    setup(files);
    if (o.answers && !oracle_load(o.answers)) die("cannot read --answers, or nothing is in it");
    bool with_tls = o.tls_port >= 0;
    if (with_tls && !o.cert) make_cert(&o);
    char *cert = with_tls ? read_file(o.cert) : NULL, *key = with_tls ? read_file(o.key) : NULL;
    unsigned limit = (unsigned)(files > 200 ? files - 100 : files);
    struct MHD_Daemon *plain = listen_on(o.port, limit, NULL, NULL);
    struct MHD_Daemon *tls = with_tls ? listen_on(o.tls_port, limit, cert, key) : NULL;
    pthread_t timer;
    if (pthread_create(&timer, NULL, timer_main, NULL)) die("cannot start the timer thread");
    printf("READY port=%d tls_port=%d cert=%s\n", bound_port(plain), bound_port(tls),
           with_tls ? o.cert : "-");
    fflush(stdout);
    int signals = signalfd(-1, &ends, SFD_CLOEXEC);
    wait_for_end(signals, o.watch_parent);
    shut_down(timer, plain, tls);
    free(cert);
    free(key);
    return 0;
}
