/* simworld.h - a world of LLM providers in simulated time, behind the http and clock seams of llmgw.h.

   Include it after llmgw.h with LLMGW_IMPLEMENTATION. Everything is drawn from one seed: the same seed is
   the same world. No socket, no thread, no sleep: the engine's wait is what moves the clock.

   A request names its call, and what to answer, in its prompt: "@NUMBER SEED SENTENCES THINKS FLAGS"
   (world_prompt writes it). The answer is a function of SEED and SENTENCES alone (world_answer), so that a
   second provider goes on where a first was cut off, and a test knows what must come out. Wire bytes are
   written here by hand; no code of the header makes or reads them.

   Used by sim.c (the laws) and bench/outages.c. */
#ifndef SIMWORLD_H
#define SIMWORLD_H

#include <math.h>

#define WORLD_UNUSED __attribute__((unused))
#define WORLD_NEVER INT64_MAX
#define WORLD_PROVIDERS 8
#define WORLD_KEYS 4
#define WORLD_MODELS 2
#define WORLD_FAULTS 48 /* of one provider */
#define WORLD_SENTENCES 64
#define WORLD_TEXT 16384   /* bytes of an answer at most: 64 sentences of up to 250 */
#define WORLD_STILL 200000 /* polls without time passing: a livelock */

/* ---- random: splitmix64 (Steele, Lea, Flood 2014) ---- */

static uint64_t world_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint64_t world_random(uint64_t *state) { return world_mix(*state += 0x9E3779B97F4A7C15u); }

/* A seed of its own for each purpose. */
static uint64_t world_seed(uint64_t seed, uint64_t purpose) {
    return world_mix(seed * 0x9E3779B97F4A7C15u + world_mix(purpose + 1));
}

static int64_t world_below(uint64_t *state, int64_t n) {
    return n > 0 ? (int64_t)(world_random(state) % (uint64_t)n) : 0;
}

static int64_t world_between(uint64_t *state, int64_t low, int64_t high) {
    return low + world_below(state, high - low + 1);
}

static double world_unit(uint64_t *state) { return (double)(world_random(state) >> 11) / 9007199254740992.0; }

static bool world_chance(uint64_t *state, double share) { return world_unit(state) < share; }

static int64_t world_exponential(uint64_t *state, double mean_us) {
    return (int64_t)(-log(1 - world_unit(state)) * mean_us);
}

/* Log-normal by Box and Muller (1958). */
static int64_t world_lognormal(uint64_t *state, double median_us, double sigma) {
    double u = 1 - world_unit(state), v = world_unit(state);
    return (int64_t)(median_us * exp(sigma * sqrt(-2 * log(u)) * cos(6.283185307179586 * v)));
}

/* ---- bytes ---- */

typedef struct world_buf {
    char *p;
    size_t n, cap;
} world_buf;

static void world_add(world_buf *buf, const char *p, size_t n) {
    if (buf->n + n + 1 > buf->cap) {
        buf->cap = (buf->n + n + 1) * 2 + 256;
        buf->p = (char *)realloc(buf->p, buf->cap);
        if (!buf->p) abort();
    }
    if (n) memcpy(buf->p + buf->n, p, n);
    buf->n += n;
    buf->p[buf->n] = 0;
}

static void world_put(world_buf *buf, const char *text) { world_add(buf, text, strlen(text)); }

static void world_number(world_buf *buf, int64_t value) {
    char digits[24], *at = digits + sizeof digits;
    bool minus = value < 0;
    uint64_t left = minus ? (uint64_t)-value : (uint64_t)value;
    do *--at = (char)('0' + left % 10);
    while (left /= 10);
    if (minus) *--at = '-';
    world_add(buf, at, (size_t)(digits + sizeof digits - at));
}

/* Code point at p, its length in n. The texts here are valid UTF-8. */
static uint32_t world_point(const char *p, size_t *n) {
    unsigned char c = (unsigned char)*p;
    *n = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    uint32_t point = *n == 1 ? c : c & (0xFFu >> (*n + 1));
    for (size_t i = 1; i < *n; i++) point = point << 6 | ((unsigned char)p[i] & 0x3F);
    return point;
}

static void world_escape(world_buf *buf, uint32_t unit) {
    char text[8];
    world_add(buf, text, (size_t)snprintf(text, sizeof text, "\\u%04x", (unsigned)unit));
}

/* The inside of a JSON string. ascii: all else as \u, as Python's json writes it. */
static void world_json(world_buf *buf, const char *p, size_t n, bool ascii) {
    size_t from = 0;
    for (size_t i = 0, step = 1; i < n; i += step) {
        unsigned char c = (unsigned char)p[i];
        bool plain = c >= 0x20 && c != '"' && c != '\\' && (c < 0x80 || !ascii);
        step = 1;
        if (plain) continue;
        world_add(buf, p + from, i - from);
        uint32_t point = world_point(p + i, &step);
        if (c == '"' || c == '\\') {
            char pair[2] = {'\\', (char)c};
            world_add(buf, pair, 2);
        } else if (c == '\n') {
            world_add(buf, "\\n", 2);
        } else if (point > 0xFFFF) {
            world_escape(buf, 0xD800 + ((point - 0x10000) >> 10));
            world_escape(buf, 0xDC00 + ((point - 0x10000) & 0x3FF));
        } else {
            world_escape(buf, point);
        }
        from = i + step;
    }
    if (from < n) world_add(buf, p + from, n - from);
}

static void world_utf8(world_buf *buf, uint32_t c) {
    char out[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; c >>= 6) out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)(n == 1 ? c : ((0xF00u >> n) & 0xFF) | c);
    world_add(buf, out, n);
}

/* Decodes the JSON string that begins after its opening quote. */
static void world_unjson(world_buf *out, const char *p, const char *end) {
    static const char letters[] = "n\nt\tr\rb\bf\f";
    uint32_t high = 0;
    for (; p < end && *p != '"'; p++) {
        if (*p != '\\') {
            world_add(out, p, 1);
            continue;
        }
        const char *known = strchr(letters, *++p);
        if (*p != 'u') {
            world_add(out, known ? known + 1 : p, 1);
            continue;
        }
        char hex[5] = {p[1], p[2], p[3], p[4], 0};
        uint32_t unit = (uint32_t)strtoul(hex, NULL, 16);
        p += 4;
        if (unit >= 0xD800 && unit < 0xDC00) {
            high = unit;
        } else {
            world_utf8(out, unit >= 0xDC00 && unit < 0xE000
                                ? 0x10000 + ((high - 0xD800) << 10) + (unit - 0xDC00)
                                : unit);
        }
    }
}

/* ---- answers ---- */

typedef struct world_text {
    size_t n, count;
    size_t starts[WORLD_SENTENCES]; /* of the marker "Nk:" */
    size_t ends[WORLD_SENTENCES];   /* after the last mark of the sentence, before white space */
    char p[WORLD_TEXT];
} world_text;

static void world_say(world_text *text, const char *more) {
    size_t n = strlen(more);
    if (text->n + n >= WORLD_TEXT) abort(); /* 64 x 250 fits: a sentence of ours is too long */
    memcpy(text->p + text->n, more, n);
    text->n += n;
}

/* No word comes twice in a sentence, so that no continuation looks like a repetition. */
static void world_words(world_text *text, uint64_t *rng, int64_t count) {
    static const char *const words[] = {
        "river",  "stone",  "quiet",   "copper", "garden", "window", "seven",  "letter", "morning", "paper",
        "silver", "branch", "harbour", "engine", "winter", "candle", "market", "yellow", "bridge"};
    int64_t n = (int64_t)(sizeof words / sizeof words[0]), at = world_below(rng, n);
    int64_t step = world_between(rng, 1, n - 1); /* n is prime */
    for (int64_t i = 0; i < count && i < n; i++, at = (at + step) % n) {
        if (i) world_say(text, " ");
        world_say(text, words[at]);
    }
}

static void world_ideographs(world_text *text, uint64_t *rng, int64_t count) {
    int64_t at = world_below(rng, 997), step = world_between(rng, 1, 996); /* 997 is prime */
    for (int64_t i = 0; i < count; i++, at = (at + step) % 997) {
        uint32_t c = 0x4E00 + (uint32_t)at;
        char out[4] = {(char)(0xE0 | c >> 12), (char)(0x80 | (c >> 6 & 0x3F)), (char)(0x80 | (c & 0x3F)), 0};
        world_say(text, out);
    }
}

/* X(before the marker, after it, words, after them (its end belongs to the sentence), what separates) */
#define WORLD_SENTENCE_KINDS(X)                                                                              \
    X("", "The ", 8, ".", " ")                                                                               \
    X("", "A ", 5, ".", " ")                                                                                 \
    X("", "Dr. Smith of No. 5 said, e.g., that 3.14 of the ", 3, ".", " ")                                   \
    X("", "Is it the ", 6, "?", " ")                                                                         \
    X("", "Then she said: \"The ", 4, ".\"", " ")                                                            \
    X("", "Version v1.2.3 at https://example.org/a.b?q=1.5 costs $3.50 per ", 2, ".", "\n\n")                \
    X("", "\xE7\xAC\xAC", -9, "\xE3\x80\x82", "")                                                            \
    X("", "\xE4\xBB\x96\xE8\xAF\xB4\xE2\x80\x9C", -6, "\xEF\xBC\x81\xE2\x80\x9D", "")                        \
    X("", "Caf\xC3\xA9 \xE2\x80\x94 na\xC3\xAFve \xF0\x9F\x98\x80 and ", 5, "!", " ")                        \
    X("\n", "See:\n```c\nint x = 3.5; /* a. B \"q\" */\nreturn x;\n// ", 3, "\n```", "\n")                   \
    X("\n- ", "the ", 4, "", "\n")

/* What the model says to a prompt. Sentence k begins with "Nk:". */
static void world_answer(uint64_t seed, size_t sentences, world_text *text) {
#define WORLD_KIND(before, after, words, last, gap) {before, after, words, last, gap},
    static const struct {
        const char *before, *after;
        int words; /* negative: ideographs */
        const char *last, *gap;
    } kinds[] = {WORLD_SENTENCE_KINDS(WORLD_KIND)};
#undef WORLD_KIND
    uint64_t rng = world_seed(seed, 77);
    text->n = text->count = 0;
    for (size_t k = 0; k < sentences && k < WORLD_SENTENCES; k++) {
        size_t kind = (size_t)world_below(&rng, sizeof kinds / sizeof kinds[0]);
        char marker[16];
        bool line = text->n == 0 || text->p[text->n - 1] == '\n';
        const char *before = kinds[kind].before;
        world_say(text, *before == '\n' && line ? before + 1 : before);
        text->starts[k] = text->n;
        snprintf(marker, sizeof marker, "N%lu: ", (unsigned long)k);
        world_say(text, marker);
        world_say(text, kinds[kind].after);
        int64_t words = kinds[kind].words;
        if (words > 0)
            world_words(text, &rng, world_between(&rng, 2, words + 2));
        else
            world_ideographs(text, &rng, world_between(&rng, 3, -words));
        world_say(text, kinds[kind].last);
        text->ends[k] = text->n;
        if (k + 1 < sentences) world_say(text, kinds[kind].gap);
        text->count = k + 1;
    }
}

/* The end of the last sentence that the first n bytes surely hold whole: the next one's marker is there. */
WORLD_UNUSED static size_t world_complete(const world_text *text, size_t n) {
    size_t end = 0;
    for (size_t k = 0; k + 1 < text->count; k++)
        if (text->starts[k + 1] + 3 <= n) end = text->ends[k];
    return end;
}

/* ---- what a request asks ---- */

#define WORLD_MAY_EMPTY 1u  /* the call has a check against empty answers: they may come */
#define WORLD_MAY_REFUSE 2u /* the same for refusals */

typedef struct world_ask {
    int call;
    uint64_t seed;
    size_t sentences;
    int64_t thinks; /* bytes of reasoning */
    unsigned flags;
} world_ask;

/* Writes the prompt of a call; size 96 is enough. */
static void world_prompt(char *out, size_t size, const world_ask *ask) {
    snprintf(out, size, "@%d %llu %lu %lld %u please", ask->call, (unsigned long long)ask->seed,
             (unsigned long)ask->sentences, (long long)ask->thinks, ask->flags);
}

static bool world_read_prompt(const char *body, size_t n, world_ask *ask) {
    const char *at = (const char *)memmem(body, n, "\"@", 2);
    char *end;
    if (!at) return false;
    ask->call = (int)strtol(at + 2, &end, 10);
    ask->seed = strtoull(end, &end, 10);
    ask->sentences = strtoul(end, &end, 10);
    ask->thinks = strtoll(end, &end, 10);
    ask->flags = (unsigned)strtoul(end, &end, 10);
    return strncmp(end, " please", 7) == 0;
}

/* The last place of a needle. */
static const char *world_last(const char *p, size_t n, const char *needle) {
    size_t length = strlen(needle);
    for (size_t i = n >= length ? n - length + 1 : 0; i-- > 0;)
        if (p[i] == needle[0] && memcmp(p + i, needle, length) == 0) return p + i;
    return NULL;
}

/* The text of the last assistant's message, if there is one. last: nothing comes after it (prefill). */
static void world_read_partial(const char *body, size_t n, world_buf *partial, bool *last) {
    const char *assistant = world_last(body, n, "\"role\":\"assistant\""), *end = body + n;
    const char *role = world_last(body, n, "\"role\":\"");
    if (!assistant) assistant = world_last(body, n, "\"role\":\"model\"");
    partial->n = 0;
    *last = assistant && assistant == role;
    if (!assistant) return;
    const char *text = (const char *)memmem(assistant, (size_t)(end - assistant), "\"text\":\"", 8);
    const char *content = (const char *)memmem(assistant, (size_t)(end - assistant), "\"content\":\"", 11);
    if (content && (!text || content < text))
        world_unjson(partial, content + 11, end);
    else if (text)
        world_unjson(partial, text + 8, end);
}

/* ---- the world ---- */

struct world;

/* Something that will happen. Embed it as the first member. */
typedef struct world_timer {
    int64_t at_us;
    uint64_t order; /* of two at the same time the one set first goes first */
    size_t heap_at; /* SIZE_MAX: not set */
    void (*fire)(struct world *w, struct world_timer *timer);
} world_timer;

typedef struct world_heap {
    world_timer **items;
    size_t count, cap;
} world_heap;

/* The last `limit` times at which something was let through: the exact sliding window. */
typedef struct world_ring {
    int64_t *times;
    int64_t limit, span_us;
    uint64_t count;
} world_ring;

typedef enum world_dialect { WORLD_OPENAI = 0, WORLD_ANTHROPIC, WORLD_GEMINI } world_dialect;

typedef enum world_kind {
    WORLD_REFUSED = 0, /* connection refused */
    WORLD_HANGS,       /* no connection, no refusal */
    WORLD_FLAPS,       /* refused in every second half period */
    WORLD_DOWN,        /* 500, 502, 503 */
    WORLD_BROWN,       /* everything takes 20 times as long */
    WORLD_BURST,       /* errors of all kinds */
    WORLD_CUTS,        /* the connection breaks inside the answer */
    WORLD_STALLS,      /* the answer stops coming */
    WORLD_ERROR_FIRST, /* 200, then an error event */
    WORLD_ERROR_LATE,  /* an error event inside the answer */
    WORLD_SHORT,       /* the answer ends too early, in good order */
    WORLD_GARBAGE,
    WORLD_KEY_DEAD, /* 401 */
    WORLD_QUOTA,    /* the account is used up */
    WORLD_FAULT_KINDS
} world_kind;

typedef struct world_fault {
    world_kind kind;
    int64_t from_us, to_us;
    double share;      /* of the requests */
    int64_t period_us; /* FLAPS */
    int key;           /* KEY_DEAD, QUOTA: which; -1: all */
} world_fault;

/* How Retry-After is said. */
typedef enum world_retry_form {
    WORLD_RETRY_NONE = 0,
    WORLD_RETRY_SECONDS,
    WORLD_RETRY_FRACTION, /* "2.5" */
    WORLD_RETRY_MS,       /* retry-after-ms */
    WORLD_RETRY_DATE,
    WORLD_RETRY_BODY, /* gemini: RetryInfo; others: as SECONDS */
    WORLD_RETRY_FORMS
} world_retry_form;

typedef struct world_key {
    char text[40];
    world_ring rpm; /* the server's own limit */
    int in_flight;
    int64_t told_us[WORLD_MODELS]; /* no request before this: Retry-After, as the client was told */
} world_key;

typedef struct world_provider {
    char name[16], url[48], model[WORLD_MODELS][32];
    const char *flavour; /* the dialect's name for the gateway */
    world_dialect dialect;
    int region;
    int key_count;
    world_key keys[WORLD_KEYS];
    double connect_us, first_us, gap_us, sigma; /* medians; sigma of the logarithm */
    int capacity;                               /* requests at a time; 0: any number */
    bool sheds;                                 /* over capacity: 503 or 529; else it is slower */
    bool bucket;                                /* rpm as a token bucket, else as a sliding window */
    double tokens;                              /* of the bucket of key 0; all keys share it */
    int64_t filled_us;
    world_retry_form retry;
    int lies; /* limit headers: 0 none, 1 true, 2 lying */
    bool ascii;
    double noise[WORLD_FAULT_KINDS]; /* share of requests, at any time */
    world_fault faults[WORLD_FAULTS];
    int fault_count;
    int in_flight, idle; /* connections kept */
    int64_t idle_us;     /* since when */
    int64_t served, warmed;
} world_provider;

/* A request as the world first sees it. */
typedef struct world_seen {
    int provider, key, model;
    world_ask ask;
    const char *partial; /* "": none */
    size_t partial_n;
    int nth;    /* attempt of its call, as on_start answered */
    void *user; /* as the gateway gave it to http */
} world_seen;

typedef struct world_transfer {
    world_timer timer;
    struct world_transfer *next; /* unused ones */
    const llmgwi_http_events *events;
    void *user;
    uint64_t rng;
    world_seen seen;
    world_buf partial, body;
    int stage; /* 0 connects, 1 begins to answer, 2 answers, 3 closes */
    bool stream, prefill, paused, stalls, used;
    uint64_t paused_at; /* in turns of the caller */
    bool spoilt;        /* the answer is not what it was going to be */
    int status;
    llmgw_code code; /* of the transfer */
    size_t given, stop_at;
    int64_t gap_us, began_us, retry_ms;
    int64_t input, output; /* tokens, as the answer says */
    world_retry_form retry;
} world_transfer;

typedef struct world_headers {
    int provider, key;
} world_headers;

typedef struct world {
    uint64_t seed, rng, hash, order;
    int64_t now_us, start_us, wall_s; /* wall_s: at start_us */
    world_heap net, outside;
    world_provider providers[WORLD_PROVIDERS];
    int provider_count;
    world_transfer *unused, *all[65536];
    size_t made;
    int active, max_active; /* connections */
    int batch;              /* things that happen in one poll at most */
    int64_t told_cap_us;    /* a longer Retry-After is cut to this */
    int64_t arm_us;
    bool noticed, woken, in_upcall, trace;
    int still;
    int64_t requests, sent_bytes, happened, pauses;
    uint64_t turns;  /* of the caller's loop, counted by the caller */
    world_text text; /* scratch */
    void *user;      /* of those below */
    int (*on_start)(struct world *w, const world_seen *seen);
    void (*on_done)(struct world *w, const world_transfer *transfer); /* also when cancelled */
    void (*settled)(struct world *w); /* the engine has done all it can, and waits */
    bool (*lives)(struct world *w); /* a request is handed over. NULL: yes. False: the process died before */
    bool (*gone)(struct world *w);  /* it has: nothing comes back. NULL: no */
    bool (*interrupt)(struct world *w); /* something outside is due; true: fire it now, as another thread */
    void (*broken)(struct world *w, const char *law, int call, const char *text);
} world;

static void world_note(world *w, uint64_t a, uint64_t b) { w->hash = world_mix(w->hash ^ a) + b; }

#define WORLD_TRACE(w, ...)                                                                                  \
    do {                                                                                                     \
        if ((w)->trace) {                                                                                    \
            printf("%12.6f ", (double)((w)->now_us - (w)->start_us) / 1e6);                                  \
            printf(__VA_ARGS__);                                                                             \
            putchar('\n');                                                                                   \
        }                                                                                                    \
    } while (0)

/* ---- time ---- */

static bool world_before(const world_timer *a, const world_timer *b) {
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void world_place(world_heap *heap, size_t at, world_timer *timer) {
    heap->items[at] = timer;
    timer->heap_at = at;
}

static void world_sift(world_heap *heap, size_t at) {
    world_timer *timer = heap->items[at];
    for (; at > 0 && world_before(timer, heap->items[(at - 1) / 2]); at = (at - 1) / 2)
        world_place(heap, at, heap->items[(at - 1) / 2]);
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= heap->count) break;
        if (child + 1 < heap->count && world_before(heap->items[child + 1], heap->items[child])) child++;
        if (!world_before(heap->items[child], timer)) break;
        world_place(heap, at, heap->items[child]);
        at = child;
    }
    world_place(heap, at, timer);
}

static void world_unset(world_heap *heap, world_timer *timer) {
    size_t at = timer->heap_at;
    if (at == SIZE_MAX) return;
    world_timer *last = heap->items[--heap->count];
    timer->heap_at = SIZE_MAX;
    if (last == timer) return;
    world_place(heap, at, last);
    world_sift(heap, at);
}

static void world_set(world *w, world_heap *heap, world_timer *timer, int64_t at_us) {
    world_unset(heap, timer);
    if (heap->count == heap->cap) {
        heap->cap = heap->cap ? heap->cap * 2 : 64;
        heap->items = (world_timer **)realloc(heap->items, heap->cap * sizeof *heap->items);
        if (!heap->items) abort();
    }
    timer->at_us = at_us;
    timer->order = ++w->order;
    world_place(heap, heap->count++, timer);
    world_sift(heap, timer->heap_at);
}

static int64_t world_next(const world_heap *heap) {
    return heap->count ? heap->items[0]->at_us : WORLD_NEVER;
}

/* Fires what is due, at most count. Returns how many were. */
static int world_fire(world *w, world_heap *heap, int count) {
    int fired = 0;
    for (; fired < count && world_next(heap) <= w->now_us; fired++) {
        world_timer *timer = heap->items[0];
        world_unset(heap, timer);
        timer->fire(w, timer);
    }
    return fired;
}

static int64_t world_wall_s(const world *w) { return w->wall_s + (w->now_us - w->start_us) / 1000000; }

/* ---- exact limits ---- */

WORLD_UNUSED static void world_ring_open(world_ring *ring, int64_t limit, int64_t span_us) {
    memset(ring, 0, sizeof *ring);
    if (limit <= 0) return;
    ring->limit = limit;
    ring->span_us = span_us;
    ring->times = (int64_t *)calloc((size_t)limit, sizeof *ring->times);
    if (!ring->times) abort();
}

/* When one more fits. */
static int64_t world_ring_when(const world_ring *ring) {
    if (!ring->limit || ring->count < (uint64_t)ring->limit) return 0;
    return ring->times[ring->count % (uint64_t)ring->limit] + ring->span_us;
}

static void world_ring_take(world_ring *ring, int64_t now) {
    if (ring->limit) ring->times[ring->count++ % (uint64_t)ring->limit] = now;
}

/* ---- faults ---- */

static bool world_fault_at(const world_fault *fault, int64_t now, int key) {
    if (now < fault->from_us || now >= fault->to_us) return false;
    if (fault->key >= 0 && fault->key != key) return false;
    return fault->kind != WORLD_FLAPS || (now - fault->from_us) % fault->period_us < fault->period_us / 2;
}

/* Does this kind of fault meet a request now? */
static bool world_struck(world *w, int provider, world_kind kind, int key, uint64_t *rng) {
    const world_provider *p = &w->providers[provider];
    if (p->noise[kind] > 0 && world_chance(rng, p->noise[kind])) return true;
    for (int i = 0; i < p->fault_count; i++)
        if (p->faults[i].kind == kind && world_fault_at(&p->faults[i], w->now_us, key) &&
            world_chance(rng, p->faults[i].share))
            return true;
    return false;
}

/* from_us and to_us count from the start. */
WORLD_UNUSED static void world_fault_add(world *w, int provider, world_kind kind, int64_t from_us,
                                         int64_t to_us, double share) {
    world_provider *p = &w->providers[provider];
    if (p->fault_count == WORLD_FAULTS) return;
    world_fault *fault = &p->faults[p->fault_count++];
    fault->kind = kind;
    fault->from_us = w->start_us + from_us;
    fault->to_us = w->start_us + to_us;
    fault->share = share;
    fault->period_us = 10000000;
    fault->key = -1;
}

/* ---- wire: errors ---- */

/* What the dialects say for the same trouble. */
typedef struct world_trouble {
    int status[3];
    const char *type[3];
    const char *code; /* openai's error.code */
} world_trouble;

enum { WORLD_T_500, WORLD_T_503, WORLD_T_429, WORLD_T_401, WORLD_T_QUOTA, WORLD_T_400, WORLD_T_408 };

static const world_trouble world_troubles[] = {
    {{500, 500, 500}, {"server_error", "api_error", "INTERNAL"}, "internal"},
    {{503, 529, 503}, {"server_error", "overloaded_error", "UNAVAILABLE"}, "overloaded"},
    {{429, 429, 429}, {"requests", "rate_limit_error", "RESOURCE_EXHAUSTED"}, "rate_limit_exceeded"},
    {{401, 401, 401},
     {"invalid_request_error", "authentication_error", "UNAUTHENTICATED"},
     "invalid_api_key"},
    {{429, 402, 429}, {"insufficient_quota", "billing_error", "RESOURCE_EXHAUSTED"}, "insufficient_quota"},
    {{400, 400, 400}, {"invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"}, "bad"},
    {{408, 504, 504}, {"timeout", "timeout_error", "DEADLINE_EXCEEDED"}, "timeout"},
};

static void world_retry_info(world_buf *out, int64_t ms) {
    char text[96];
    snprintf(text, sizeof text,
             ",{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"%lld.%03llds\"}",
             (long long)(ms / 1000), (long long)(ms % 1000));
    world_put(out, text);
}

/* An error's JSON; retry_ms > 0: gemini's RetryInfo too. */
static void world_error_body(world_buf *out, world_dialect dialect, int trouble, const char *text,
                             int64_t retry_ms) {
    const world_trouble *row = &world_troubles[trouble];
    static const char *const heads[] = {"{\"error\":{\"message\":\"",
                                        "{\"type\":\"error\",\"error\":{\"message\":\"",
                                        "{\"error\":{\"message\":\""};
    world_put(out, heads[dialect]);
    world_put(out, text);
    world_put(out, dialect == WORLD_GEMINI ? "\",\"status\":\"" : "\",\"type\":\"");
    world_put(out, row->type[dialect]);
    if (dialect == WORLD_OPENAI) {
        world_put(out, "\",\"param\":null,\"code\":\"");
        world_put(out, row->code);
        world_put(out, "\"}}");
    } else if (dialect == WORLD_ANTHROPIC) {
        world_put(out, "\"},\"request_id\":\"req_1\"}");
    } else {
        world_put(out, "\",\"code\":");
        world_number(out, row->status[dialect]);
        world_put(out, ",\"details\":[{\"reason\":\"X\"");
        if (trouble == WORLD_T_QUOTA)
            world_put(out, ",\"violations\":[{\"quotaId\":\"GenerateRequestsPerDayPerProject\"}]");
        world_put(out, "}");
        if (retry_ms > 0) world_retry_info(out, retry_ms);
        world_put(out, "]}}");
    }
}

/* The same as an event of a stream. */
static void world_error_event(world_buf *out, world_dialect dialect, int trouble) {
    if (dialect == WORLD_ANTHROPIC) world_put(out, "event: error\n");
    world_put(out, "data: ");
    world_error_body(out, dialect, trouble, "something broke", 0);
    world_put(out, dialect == WORLD_GEMINI ? "\r\n\r\n" : "\n\n");
}

/* ---- wire: answers ---- */

/* Fewer than a tokenizer would find, so that what a client reserves by its own estimate covers it. */
static int64_t world_tokens(size_t bytes) { return (int64_t)(bytes + 5) / 6; }

/* One answer being written: pieces of its text as events, or the whole as JSON. */
typedef struct world_writer {
    world_buf *out;
    const world_provider *provider;
    const char *model;
    uint64_t *rng;
    int64_t id, input, output;
} world_writer;

static void world_open_chunk(world_writer *x) {
    world_put(x->out, "data: {\"id\":\"c");
    world_number(x->out, x->id);
    world_put(x->out, "\",\"object\":\"chat.completion.chunk\",\"model\":\"");
    world_put(x->out, x->model);
    world_put(x->out, "\",\"choices\":[");
}

/* A delta of text or reasoning. */
static void world_delta(world_writer *x, const char *p, size_t n, bool thought) {
    world_buf *out = x->out;
    switch (x->provider->dialect) {
    case WORLD_OPENAI:
        world_open_chunk(x);
        world_put(out, thought ? "{\"index\":0,\"delta\":{\"reasoning_content\":\""
                               : "{\"index\":0,\"delta\":{\"content\":\"");
        world_json(out, p, n, x->provider->ascii);
        world_put(out, "\"},\"finish_reason\":null}]}\n\n");
        break;
    case WORLD_ANTHROPIC:
        world_put(out, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":");
        world_put(out, thought ? "0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\""
                               : "1,\"delta\":{\"type\":\"text_delta\",\"text\":\"");
        world_json(out, p, n, x->provider->ascii);
        world_put(out, "\"}}\n\n");
        break;
    case WORLD_GEMINI:
        world_put(out, "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"");
        world_json(out, p, n, x->provider->ascii);
        world_put(out, thought ? "\",\"thought\":true}]" : "\"}]");
        world_put(out, ",\"role\":\"model\"},\"index\":0}],\"modelVersion\":\"");
        world_put(out, x->model);
        world_put(out, "\",\"responseId\":\"g");
        world_number(out, x->id);
        world_put(out, "\"}\r\n\r\n");
        break;
    }
}

/* Cuts a text into deltas at random places between characters. */
static void world_deltas(world_writer *x, const char *p, size_t n, bool thought) {
    for (size_t at = 0; at < n;) {
        size_t length = (size_t)world_between(x->rng, 1, world_chance(x->rng, 0.2) ? 12 : 140);
        if (length > n - at) length = n - at;
        while (at + length < n && ((unsigned char)p[at + length] & 0xC0) == 0x80) length++;
        world_delta(x, p + at, length, thought);
        at += length;
    }
}

static void world_begin(world_writer *x, bool thinks) {
    world_buf *out = x->out;
    if (x->provider->dialect == WORLD_OPENAI) {
        if (world_chance(x->rng, 0.3)) world_put(out, ": keep-alive\n\n");
        world_open_chunk(x);
        world_put(
            out,
            "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n");
    } else if (x->provider->dialect == WORLD_ANTHROPIC) {
        world_put(out, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_");
        world_number(out, x->id);
        world_put(out, "\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":\"");
        world_put(out, x->model);
        world_put(out, "\",\"usage\":{\"input_tokens\":");
        world_number(out, x->input);
        world_put(out, ",\"cache_read_input_tokens\":0,\"output_tokens\":1}}}\n\n");
        if (thinks)
            world_put(out,
                      "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,"
                      "\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n");
    }
}

static void world_turn_to_text(world_writer *x, bool thinks) {
    if (x->provider->dialect != WORLD_ANTHROPIC) return;
    if (thinks)
        world_put(x->out,
                  "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n");
    world_put(x->out, "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,"
                      "\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
                      "event: ping\ndata: {\"type\":\"ping\"}\n\n");
}

static void world_usage(world_writer *x) {
    static const char *const names[][2] = {
        {"\"usage\":{\"prompt_tokens\":", ",\"completion_tokens\":"},
        {"\"usage\":{\"input_tokens\":", ",\"output_tokens\":"},
        {"\"usageMetadata\":{\"promptTokenCount\":", ",\"candidatesTokenCount\":"}};
    world_put(x->out, names[x->provider->dialect][0]);
    world_number(x->out, x->input);
    world_put(x->out, names[x->provider->dialect][1]);
    world_number(x->out, x->output);
    world_put(x->out, "}");
}

/* What the dialects call a good end and a refusal. */
static const char *const world_reasons[3][2] = {
    {"stop", "content_filter"}, {"end_turn", "refusal"}, {"STOP", "SAFETY"}};

static void world_finish(world_writer *x, bool refused) {
    world_buf *out = x->out;
    const char *reason = world_reasons[x->provider->dialect][refused];
    if (x->provider->dialect == WORLD_OPENAI) {
        world_open_chunk(x);
        world_put(out, "{\"index\":0,\"delta\":{},\"finish_reason\":\"");
        world_put(out, reason);
        world_put(out, "\"}]}\n\n");
        world_open_chunk(x);
        world_put(out, "],");
        world_usage(x);
        world_put(out, "}\n\ndata: [DONE]\n\n");
    } else if (x->provider->dialect == WORLD_ANTHROPIC) {
        world_put(out,
                  "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n"
                  "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"");
        world_put(out, reason);
        world_put(out, "\",\"stop_sequence\":null},");
        world_usage(x);
        world_put(out, "}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    } else {
        world_put(
            out, "data: {\"candidates\":[{\"content\":{\"parts\":[],\"role\":\"model\"},\"finishReason\":\"");
        world_put(out, reason);
        world_put(out, "\",\"index\":0}],");
        world_usage(x);
        world_put(out, "}\r\n\r\n");
    }
}

/* A reply in one piece. */
static void world_whole(world_writer *x, const char *thought, size_t thought_n, const char *p, size_t n,
                        bool refused) {
    static const char *const heads[] = {"{\"object\":\"chat.completion\",\"model\":\"",
                                        "{\"type\":\"message\",\"role\":\"assistant\",\"model\":\"",
                                        "{\"modelVersion\":\""};
    static const char *const thoughts[] = {
        "\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"reasoning_content\":\"",
        "\",\"content\":[{\"type\":\"thinking\",\"signature\":\"\",\"thinking\":\"",
        "\",\"candidates\":[{\"index\":0,\"content\":{\"role\":\"model\",\"parts\":[{\"thought\":true,"
        "\"text\":\""};
    static const char *const texts[] = {"\",\"content\":\"", "\"},{\"type\":\"text\",\"text\":\"",
                                        "\"},{\"text\":\""};
    static const char *const ends[] = {"\"},\"finish_reason\":\"", "\"}],\"stop_reason\":\"",
                                       "\"}]},\"finishReason\":\""};
    static const char *const tails[] = {"\"}],", "\",", "\"}],"};
    world_dialect d = x->provider->dialect;
    world_put(x->out, heads[d]);
    world_put(x->out, x->model);
    world_put(x->out, thoughts[d]);
    world_json(x->out, thought, thought_n, x->provider->ascii);
    world_put(x->out, texts[d]);
    world_json(x->out, p, n, x->provider->ascii);
    world_put(x->out, ends[d]);
    world_put(x->out, world_reasons[d][refused]);
    world_put(x->out, tails[d]);
    world_usage(x);
    world_put(x->out, "}");
}

/* ---- the server ---- */

static void world_broken(world *w, const char *law, int call, const char *text) {
    w->broken(w, law, call, text);
}

/* A refusal or failure by status. */
static void world_refuse(world *w, world_transfer *t, int trouble, const char *text) {
    world_provider *p = &w->providers[t->seen.provider];
    t->status = world_troubles[trouble].status[p->dialect];
    bool retry = trouble == WORLD_T_429 || (trouble == WORLD_T_503 && world_chance(&t->rng, 0.5));
    if (!retry) t->retry_ms = 0;
    t->retry = retry ? p->retry : WORLD_RETRY_NONE;
    if (p->dialect != WORLD_GEMINI && t->retry == WORLD_RETRY_BODY) t->retry = WORLD_RETRY_SECONDS;
    if (t->retry_ms <= 0) t->retry = WORLD_RETRY_NONE;
    world_error_body(&t->body, p->dialect, trouble, text, t->retry == WORLD_RETRY_BODY ? t->retry_ms : 0);
}

/* The text to be said: the answer, or what is missing of it, perhaps with the seam said again. */
static const char *world_rest(world *w, world_transfer *t, size_t *n) {
    world_text *text = &w->text;
    const world_ask *ask = &t->seen.ask;
    world_answer(ask->seed, ask->sentences, text);
    size_t from = t->partial.n;
    if (from > text->n || (from && memcmp(text->p, t->partial.p, from) != 0)) {
        world_broken(w, "10", ask->call, "the partial text in the request is not how the answer begins");
        from = 0;
    }
    bool echoes = from && strcmp(w->providers[t->seen.provider].flavour, "mistral") == 0 && t->prefill;
    if (echoes) {
        from = 0;
    } else if (!t->prefill && from >= 40 &&
               world_chance(&t->rng, 0.4)) { /* a prefill is gone on from exactly */
        size_t back = from - (size_t)world_between(&t->rng, 20, from > 220 ? 200 : (int64_t)from - 20);
        while (back > 0 && !(text->p[back - 1] == ' ' && text->p[back] != ' ')) back--;
        from = back;
    }
    *n = text->n - from;
    return text->p + from;
}

static void world_think(char *out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = "thinking about it "[i % 18];
}

/* Writes a good answer and, perhaps, where it breaks. */
static void world_reply(world *w, world_transfer *t, bool empty, bool refused) {
    world_provider *p = &w->providers[t->seen.provider];
    char thought[512];
    size_t thinks = t->partial.n ? 0 : (size_t)t->seen.ask.thinks, n;
    const char *text = world_rest(w, t, &n);
    world_writer x = {&t->body, p, p->model[t->seen.model], &t->rng, (int64_t)t->seen.ask.call, 0, 0};
    if (empty || refused) n = 0;
    if (thinks > sizeof thought) thinks = sizeof thought;
    world_think(thought, thinks);
    t->input = x.input = world_tokens(t->partial.n) + 8;
    t->output = x.output = world_tokens(n + thinks);
    t->status = 200;
    if (!t->stream) {
        world_whole(&x, thought, thinks, text, n, refused);
        return;
    }
    world_begin(&x, thinks > 0);
    world_deltas(&x, thought, thinks, true);
    world_turn_to_text(&x, thinks > 0);
    world_deltas(&x, text, n, false);
    world_finish(&x, refused);
}

/* Breaks an answer that was going to be good. */
static void world_spoil(world *w, world_transfer *t) {
    int provider = t->seen.provider, key = t->seen.key;
    world_dialect dialect = w->providers[provider].dialect;
    size_t at = (size_t)world_below(&t->rng, (int64_t)t->body.n);
    t->spoilt = true;
    if (world_struck(w, provider, WORLD_CUTS, key, &t->rng)) {
        t->stop_at = at;
        t->code = world_chance(&t->rng, 0.5) ? LLMGW_E_TRUNCATED : LLMGW_E_NETWORK;
    } else if (world_struck(w, provider, WORLD_STALLS, key, &t->rng)) {
        t->stop_at = at ? at : 1; /* before the first byte a plain call without a deadline waits for ever */
        t->stalls = true;
    } else if (t->stream && world_struck(w, provider, WORLD_ERROR_FIRST, key, &t->rng)) {
        t->body.n = 0;
        world_error_event(&t->body, dialect, WORLD_T_503);
    } else if (t->stream && world_struck(w, provider, WORLD_ERROR_LATE, key, &t->rng)) {
        while (at > 0 && t->body.p[at - 1] != '\n') at--; /* between two events */
        while (at > 0 && strncmp(t->body.p + at, "data:", 5) != 0 &&
               strncmp(t->body.p + at, "event:", 6) != 0)
            at--;
        t->body.n = at;
        world_put(&t->body, "\n\n");
        world_error_event(&t->body, dialect, WORLD_T_500);
    } else if (world_struck(w, provider, WORLD_SHORT, key, &t->rng)) {
        t->body.n = at;
    } else if (world_struck(w, provider, WORLD_GARBAGE, key, &t->rng)) {
        for (size_t i = 0; i < t->body.n; i++) t->body.p[i] = (char)(world_random(&t->rng) & 0xFF);
    } else {
        t->spoilt = false;
    }
}

/* When the server's own limit lets one more through; now or before: it does, and it is taken. */
static int64_t world_admit(world *w, world_provider *p, int key) {
    world_ring *ring = &p->keys[key].rpm;
    if (!ring->limit) return 0;
    if (!p->bucket) {
        int64_t when = world_ring_when(ring);
        if (when <= w->now_us) world_ring_take(ring, w->now_us);
        return when;
    }
    double per_us = (double)ring->limit / 60e6;
    p->tokens += (double)(w->now_us - p->filled_us) * per_us;
    if (p->tokens > (double)ring->limit) p->tokens = (double)ring->limit;
    p->filled_us = w->now_us;
    if (p->tokens < 1) return w->now_us + (int64_t)((1 - p->tokens) / per_us) + 1;
    p->tokens -= 1;
    return 0;
}

static bool world_burst(world *w, world_transfer *t) {
    static const int troubles[] = {WORLD_T_500, WORLD_T_503, WORLD_T_408, WORLD_T_429, WORLD_T_503};
    if (!world_struck(w, t->seen.provider, WORLD_BURST, t->seen.key, &t->rng)) return false;
    world_refuse(w, t, troubles[world_below(&t->rng, 5)], "a burst of trouble");
    return true;
}

/* Decides what becomes of a request that has arrived. */
static void world_decide(world *w, world_transfer *t) {
    int provider = t->seen.provider, key = t->seen.key;
    world_provider *p = &w->providers[provider];
    unsigned flags = t->seen.ask.flags;
    int64_t when;
    bool over = p->capacity && p->in_flight > p->capacity;
    t->retry_ms = world_between(&t->rng, 50, 8000);
    if (world_struck(w, provider, WORLD_DOWN, key, &t->rng)) {
        world_refuse(w, t, world_chance(&t->rng, 0.7) ? WORLD_T_500 : WORLD_T_503, "down");
    } else if (world_struck(w, provider, WORLD_KEY_DEAD, key, &t->rng)) {
        char text[96];
        snprintf(text, sizeof text, "Incorrect API key provided: %s", p->keys[key].text);
        world_refuse(w, t, WORLD_T_401, text);
    } else if (world_struck(w, provider, WORLD_QUOTA, key, &t->rng)) {
        world_refuse(w, t, WORLD_T_QUOTA, "You exceeded your current quota");
    } else if ((when = world_admit(w, p, key)) > w->now_us) {
        t->retry_ms = (when - w->now_us + 999) / 1000;
        world_refuse(w, t, WORLD_T_429, "slow down");
    } else if (over && p->sheds) {
        world_refuse(w, t, WORLD_T_503, "overloaded");
    } else if (world_burst(w, t)) {
        return;
    } else if (t->prefill && p->dialect == WORLD_ANTHROPIC && t->seen.model == 1) {
        world_refuse(w, t, WORLD_T_400,
                     "This model does not support assistant message prefill. The "
                     "conversation must end with a user message.");
    } else {
        bool fresh = t->partial.n == 0; /* an empty continuation would pass for the end */
        bool empty = fresh && (flags & WORLD_MAY_EMPTY) && world_chance(&t->rng, 0.2);
        bool refused = fresh && (flags & WORLD_MAY_REFUSE) && world_chance(&t->rng, 0.2);
        world_reply(w, t, empty, refused);
        world_spoil(w, t);
    }
}

/* How long everything takes now, against the usual. */
static double world_slowness(world *w, const world_transfer *t, uint64_t *rng) {
    world_provider *p = &w->providers[t->seen.provider];
    double factor = world_struck(w, t->seen.provider, WORLD_BROWN, t->seen.key, rng) ? 20 : 1;
    if (p->capacity && p->in_flight > p->capacity && !p->sheds) {
        double load = (double)p->in_flight / p->capacity;
        factor *= load * load;
    }
    return factor;
}

/* ---- transfers ---- */

static void world_release(world *w, world_transfer *t, bool keep) {
    world_provider *p = &w->providers[t->seen.provider];
    world_unset(&w->net, &t->timer);
    if (w->on_done) w->on_done(w, t);
    w->active--;
    p->in_flight--;
    p->keys[t->seen.key].in_flight--;
    if (keep) {
        p->idle++;
        p->idle_us = w->now_us;
    }
    t->used = false;
    t->next = w->unused;
    w->unused = t;
}

static void world_done(world *w, world_transfer *t, llmgw_code code, const char *text) {
    llmgwi_http_result result;
    const llmgwi_http_events *events = t->events;
    void *user = t->user;
    memset(&result, 0, sizeof result);
    result.code = code;
    result.status = t->stage >= 2 ? t->status : 0;
    result.version = result.status ? 11 : 0;
    snprintf(result.text, sizeof result.text, "%s", text);
    world_note(w, 3, (uint64_t)code);
    WORLD_TRACE(w, "  net    call %d at %s: over, %s, status %d", t->seen.ask.call,
                w->providers[t->seen.provider].name, llmgw_code_name(code), result.status);
    world_release(w, t, code == LLMGW_OK);
    w->in_upcall = true;
    events->done(user, &result);
    w->in_upcall = false;
}

static void world_header(world_transfer *t, const char *name, const char *value) {
    t->events->header(t->user, llmgwi_base_cstr(name), llmgwi_base_cstr(value));
}

/* "Sun, 06 Nov 1994 08:49:37 GMT". */
static void world_date(char *out, size_t size, int64_t wall_s) {
    time_t at = (time_t)wall_s;
    struct tm parts;
    gmtime_r(&at, &parts);
    strftime(out, size, "%a, %d %b %Y %H:%M:%S GMT", &parts);
}

/* The client knows now that it is not to ask before then. */
static void world_told(world *w, const world_transfer *t, int64_t until) {
    int64_t *told = &w->providers[t->seen.provider].keys[t->seen.key].told_us[t->seen.model];
    if (until > w->now_us + w->told_cap_us) until = w->now_us + w->told_cap_us;
    if (*told < until) *told = until;
    WORLD_TRACE(w, "  net    %s key %d %s: not before %.6f", w->providers[t->seen.provider].name, t->seen.key,
                w->providers[t->seen.provider].model[t->seen.model], (double)(until - w->start_us) / 1e6);
}

/* Says Retry-After, and remembers what was said. */
static void world_say_retry(world *w, world_transfer *t) {
    char value[64];
    int64_t until = w->now_us + t->retry_ms * 1000, date;
    switch (t->retry) {
    case WORLD_RETRY_NONE:
    case WORLD_RETRY_FORMS:
    case WORLD_RETRY_BODY: return; /* stands in the body */
    case WORLD_RETRY_SECONDS:
        snprintf(value, sizeof value, "%lld", (long long)((t->retry_ms + 999) / 1000));
        until = w->now_us + (t->retry_ms + 999) / 1000 * 1000000;
        world_header(t, "Retry-After", value);
        break;
    case WORLD_RETRY_FRACTION:
        snprintf(value, sizeof value, "%lld.%03lld", (long long)(t->retry_ms / 1000),
                 (long long)(t->retry_ms % 1000));
        world_header(t, "retry-after", value);
        break;
    case WORLD_RETRY_MS:
        snprintf(value, sizeof value, "%lld", (long long)t->retry_ms);
        world_header(t, "retry-after-ms", value);
        break;
    case WORLD_RETRY_DATE:
        date = world_wall_s(w) + (t->retry_ms + 999) / 1000 + 1;
        until = w->start_us + (date - w->wall_s) * 1000000;
        world_date(value, sizeof value, date);
        world_header(t, "Retry-After", value);
        break;
    }
    world_told(w, t, until);
}

/* The limit headers, in the dialect's form; some providers lie. */
static void world_say_limits(world *w, world_transfer *t) {
    static const char *const lies[] = {"-5", "99999999999999999999", "0", "x", ""};
    const world_provider *p = &w->providers[t->seen.provider];
    const world_ring *ring = &p->keys[t->seen.key].rpm;
    bool anthropic = p->dialect == WORLD_ANTHROPIC, lying = p->lies == 2;
    char value[64];
    if (!p->lies || !ring->limit || p->dialect == WORLD_GEMINI) return;
    int64_t used = 0;
    for (int64_t i = 0; i < ring->limit && (uint64_t)i < ring->count; i++)
        if (ring->times[i] > w->now_us - ring->span_us) used++;
    snprintf(value, sizeof value, "%lld", (long long)ring->limit);
    world_header(t, anthropic ? "anthropic-ratelimit-requests-limit" : "x-ratelimit-limit-requests",
                 lying ? lies[world_below(&t->rng, 5)] : value);
    snprintf(value, sizeof value, "%lld", (long long)(p->bucket ? (int64_t)p->tokens : ring->limit - used));
    world_header(t, anthropic ? "anthropic-ratelimit-requests-remaining" : "x-ratelimit-remaining-requests",
                 lying ? lies[world_below(&t->rng, 5)] : value);
    if (anthropic) {
        time_t at = (time_t)(world_wall_s(w) + (lying ? 86400 : 60));
        struct tm parts;
        gmtime_r(&at, &parts);
        strftime(value, sizeof value, "%Y-%m-%dT%H:%M:%SZ", &parts);
        world_header(t, "anthropic-ratelimit-requests-reset", value);
    } else {
        world_header(t, "x-ratelimit-reset-requests", lying ? "9999h" : "1m0s");
    }
}

/* The next bytes of a body. */
static void world_piece(world *w, world_transfer *t) {
    size_t end = t->stop_at < t->body.n ? t->stop_at : t->body.n;
    size_t n = end - t->given,
           most = (size_t)world_between(&t->rng, 1, world_chance(&t->rng, 0.1) ? 40 : 1600);
    if (t->status == 200 && n > most) n = most;
    if (n) {
        w->in_upcall = true;
        int answer = t->events->body(t->user, t->status, t->body.p + t->given, n);
        w->in_upcall = false;
        if (answer == LLMGWI_HTTP_PAUSE) {
            t->paused = true;
            t->paused_at = w->turns;
            w->pauses++;
            return;
        }
        if (answer == LLMGWI_HTTP_STOP) {
            world_done(w, t, LLMGW_E_PROTOCOL, "the client stopped reading");
            return;
        }
        w->sent_bytes += (int64_t)n;
        t->given += n;
    }
    if (t->given < end) {
        int64_t gap = t->stream ? world_lognormal(&t->rng, (double)t->gap_us, 1) : 200;
        world_set(w, &w->net, &t->timer, t->timer.at_us + gap); /* the server does not wait for our poll */
    } else if (end < t->body.n && t->stalls) {
        return; /* nothing more, ever */
    } else if (end < t->body.n) {
        world_done(w, t, t->code, "the connection was lost");
    } else if (t->status != 200) {
        if (t->retry == WORLD_RETRY_BODY) world_told(w, t, w->now_us + t->retry_ms * 1000);
        world_done(w, t, LLMGW_OK, "");
    } else {
        t->stage = 3; /* some servers are slow to close */
        int64_t linger = world_chance(&t->rng, 0.05) ? world_between(&t->rng, 0, 2000000) : 100;
        world_set(w, &w->net, &t->timer, t->timer.at_us + linger);
    }
}

/* Upcalls that begin an answer. An error comes whole at once. */
static void world_head(world *w, world_transfer *t) {
    bool good = t->status == 200;
    t->stage = 2;
    w->in_upcall = true;
    world_header(t, "Content-Type",
                 good && t->stream ? "text/event-stream; charset=utf-8" : "application/json");
    world_say_retry(w, t);
    world_say_limits(w, t);
    w->in_upcall = false;
    if (good)
        world_set(w, &w->net, &t->timer, t->timer.at_us + world_lognormal(&t->rng, 500, 1));
    else
        world_piece(w, t); /* at once: nobody can act between the header and the end */
}

/* The request has arrived at the server. */
static void world_arrive(world *w, world_transfer *t) {
    world_provider *p = &w->providers[t->seen.provider];
    w->in_upcall = true;
    bool goes = t->events->sent(t->user);
    w->in_upcall = false;
    if (!goes) { /* nothing was written */
        world_done(w, t, LLMGW_E_NETWORK, "the request was not sent");
        return;
    }
    world_decide(w, t);
    double slow = world_slowness(w, t, &t->rng);
    int64_t wait = world_lognormal(&t->rng, t->status == 200 ? p->first_us : 20000, p->sigma);
    t->gap_us = (int64_t)(p->gap_us * slow) + 1;
    if (t->status == 200 && !t->stream) wait += (int64_t)(t->body.n / 700) * t->gap_us;
    p->served++;
    t->stage = 1;
    world_set(w, &w->net, &t->timer,
              t->timer.at_us + (int64_t)((double)wait * (t->status == 200 ? slow : 1)) + 1);
}

/* An outage that begins breaks what is under way, mostly. */
static bool world_interrupted(world *w, world_transfer *t) {
    const world_provider *p = &w->providers[t->seen.provider];
    for (int i = 0; i < p->fault_count; i++) {
        const world_fault *fault = &p->faults[i];
        bool kills = fault->kind == WORLD_REFUSED || fault->kind == WORLD_DOWN || fault->kind == WORLD_FLAPS;
        if (kills && fault->from_us > t->began_us && world_fault_at(fault, w->now_us, t->seen.key) &&
            world_chance(&t->rng, 0.2))
            return true;
    }
    return false;
}

static void world_step(world *w, world_timer *timer) {
    world_transfer *t = (world_transfer *)timer;
    world_note(w, (uint64_t)t->seen.ask.call << 3 | (uint64_t)t->stage, (uint64_t)w->now_us);
    w->happened++;
    if (t->stage > 0 && t->status == 200 && world_interrupted(w, t)) {
        world_done(w, t, t->stage >= 2 ? LLMGW_E_TRUNCATED : LLMGW_E_NETWORK, "the connection was reset");
        return;
    }
    if (t->stage == 0 && t->code)
        world_done(w, t, t->code, "connection refused");
    else if (t->stage == 0)
        world_arrive(w, t);
    else if (t->stage == 1)
        world_head(w, t);
    else if (t->stage == 2)
        world_piece(w, t);
    else
        world_done(w, t, LLMGW_OK, "");
}

static world_transfer *world_transfer_get(world *w) {
    world_transfer *t = w->unused;
    if (t) {
        w->unused = t->next;
        return t;
    }
    t = (world_transfer *)calloc(1, sizeof *t);
    if (!t || w->made == sizeof w->all / sizeof w->all[0]) abort();
    w->all[w->made++] = t;
    t->timer.heap_at = SIZE_MAX;
    t->timer.fire = world_step;
    return t;
}

/* ---- the seam ---- */

static int world_model_of(const world_provider *p, const char *url, const char *body) {
    for (int m = 0; m < WORLD_MODELS; m++) {
        char want[64];
        snprintf(want, sizeof want, p->dialect == WORLD_GEMINI ? "/%s:" : "\"model\":\"%s\"", p->model[m]);
        if (strstr(p->dialect == WORLD_GEMINI ? url : body, want)) return m;
    }
    return -1;
}

/* Reads who asks what of whom. */
static void world_recognise(world *w, world_transfer *t, const llmgwi_http_request *request) {
    const world_headers *headers = (const world_headers *)request->headers;
    const world_provider *p = &w->providers[headers->provider];
    size_t n = strlen(p->url);
    memset(&t->seen, 0, sizeof t->seen);
    t->seen.provider = headers->provider;
    t->seen.key = headers->key;
    t->seen.user = request->user;
    if (!world_read_prompt(request->body, request->body_len, &t->seen.ask))
        world_broken(w, "2", -1, "a request without the prompt of a call");
    if (strncmp(request->url, p->url, n) != 0)
        world_broken(w, "9", t->seen.ask.call, "a key went to another provider's host");
    t->seen.model = world_model_of(p, request->url, request->body);
    if (t->seen.model < 0) world_broken(w, "2", t->seen.ask.call, "a request for no known model");
    bool asked = p->dialect == WORLD_GEMINI ? strstr(request->url, "alt=sse") != NULL
                                            : strstr(request->body, "\"stream\":true") != NULL;
    if (asked != request->stream)
        world_broken(w, "2", t->seen.ask.call, "the request and its body disagree about streaming");
    world_read_partial(request->body, request->body_len, &t->partial, &t->prefill);
    if (strstr(request->body, "Your last answer is not valid")) t->partial.n = 0; /* it is asked anew */
    t->seen.partial = t->partial.n ? t->partial.p : "";
    t->seen.partial_n = t->partial.n;
}

/* How long the connection takes; kept ones are at once. NEVER: it hangs. */
static int64_t world_connect(world *w, world_transfer *t) {
    world_provider *p = &w->providers[t->seen.provider];
    if (w->now_us - p->idle_us > 60000000) p->idle = 0; /* closed by the server */
    if (world_struck(w, t->seen.provider, WORLD_HANGS, t->seen.key, &t->rng)) return WORLD_NEVER;
    bool refused = world_struck(w, t->seen.provider, WORLD_REFUSED, t->seen.key, &t->rng) ||
                   world_struck(w, t->seen.provider, WORLD_FLAPS, t->seen.key, &t->rng);
    if (refused) t->code = LLMGW_E_NETWORK;
    if (!refused && p->idle > 0) {
        p->idle--;
        return 200;
    }
    return world_lognormal(&t->rng, p->connect_us, 0.4);
}

static bool world_room(void *self, size_t more) {
    const world *w = (const world *)self;
    return w->active + (int)more < w->max_active;
}

static void *world_start(void *self, const llmgwi_http_request *request) {
    world *w = (world *)self;
    if (w->lives && !w->lives(w)) return NULL;
    world_transfer *t = world_transfer_get(w);
    t->body.n = t->given = 0;
    t->stop_at = SIZE_MAX;
    t->stage = t->status = 0;
    t->code = LLMGW_OK;
    t->retry = WORLD_RETRY_NONE;
    t->paused = t->stalls = t->spoilt = false;
    t->used = true;
    t->stream = request->stream;
    t->events = request->events;
    t->user = request->user;
    t->began_us = w->now_us;
    world_recognise(w, t, request);
    world_provider *p = &w->providers[t->seen.provider];
    t->rng = world_seed(w->seed ^ (uint64_t)t->seen.ask.call << 20, (uint64_t)w->requests++);
    WORLD_TRACE(w, "  net    call %d asks %s key %d %s%s%s", t->seen.ask.call, p->name, t->seen.key,
                p->model[t->seen.model], t->stream ? ", stream" : "", t->partial.n ? ", goes on" : "");
    world_note(w, (uint64_t)t->seen.ask.call,
               (uint64_t)(t->seen.provider * 64 + t->seen.key * 8 + t->seen.model));
    if (w->on_start) t->seen.nth = w->on_start(w, &t->seen);
    w->active++;
    p->in_flight++;
    p->keys[t->seen.key].in_flight++;
    int64_t wait = world_connect(w, t);
    if (wait != WORLD_NEVER) world_set(w, &w->net, &t->timer, w->now_us + wait);
    return t;
}

static void world_cancel(void *self, void *transfer) {
    world *w = (world *)self;
    world_transfer *t = (world_transfer *)transfer;
    if (!t->used) world_broken(w, "12", t->seen.ask.call, "a transfer was cancelled that is over");
    if (w->in_upcall) world_broken(w, "12", t->seen.ask.call, "a transfer was cancelled inside an upcall");
    world_note(w, 5, (uint64_t)t->seen.ask.call);
    WORLD_TRACE(w, "  net    call %d at %s: cancelled", t->seen.ask.call,
                w->providers[t->seen.provider].name);
    world_release(w, t, false);
}

static void world_resume(void *self, void *transfer) {
    world *w = (world *)self;
    world_transfer *t = (world_transfer *)transfer;
    if (!t->used) world_broken(w, "12", t->seen.ask.call, "a transfer was resumed that is over");
    if (!t->paused) return;
    t->paused = false;
    world_set(w, &w->net, &t->timer, w->now_us);
}

static int64_t world_next_us(void *self) {
    (void)self;
    return WORLD_NEVER; /* what happens here comes from sockets, not from a clock */
}

static int64_t world_least(int64_t a, int64_t b) { return a < b ? a : b; }

/* The wait is what moves the clock. */
static void world_poll(void *self, int timeout_ms) {
    world *w = (world *)self;
    if (w->active > w->max_active) world_broken(w, "12", -1, "more than max_connections are in use");
    if (w->gone && w->gone(w)) return;
    if (w->settled) w->settled(w);
    int64_t until = timeout_ms < 0 ? WORLD_NEVER : w->now_us + (int64_t)timeout_ms * 1000;
    if (w->woken) until = w->now_us;
    w->woken = false;
    int64_t next = world_least(world_least(world_next(&w->net), world_next(&w->outside)), until);
    if (next == WORLD_NEVER) {
        world_broken(w, "1", -1, "the engine waits without limit, and nothing will ever happen");
        return;
    }
    if (next > w->now_us) {
        w->now_us = next;
        w->still = 0;
    } else if (++w->still > WORLD_STILL) {
        world_broken(w, "12", -1, "the engine polls for ever without waiting");
    }
    (void)world_fire(w, &w->net, w->batch);
    if (world_next(&w->outside) <= w->now_us && w->interrupt && w->interrupt(w))
        (void)world_fire(w, &w->outside, INT_MAX);
}

static void world_wake(void *self) { ((world *)self)->woken = true; }
static void world_arm(void *self, int64_t at_us) { ((world *)self)->arm_us = at_us; }
static void world_notice(void *self, bool on) { ((world *)self)->noticed = on; }
static int world_fd(void *self) {
    (void)self;
    return 1000; /* nobody polls it: the test looks at arm_us, noticed and woken */
}

static bool world_warm(void *self, const llmgwi_http_request *request) {
    world *w = (world *)self;
    if (w->active >= w->max_active) return false;
    for (int i = 0; i < w->provider_count; i++)
        if (strncmp(request->url, w->providers[i].url, strlen(w->providers[i].url)) == 0) {
            w->providers[i].warmed++;
            w->providers[i].idle++;
            w->providers[i].idle_us = w->now_us;
        }
    return true;
}

/* Which key stands in the header lines: only that says whose they are. */
static void *world_headers_make(void *self, const char *const *lines, size_t count) {
    world *w = (world *)self;
    world_headers *headers = (world_headers *)calloc(1, sizeof *headers);
    if (!headers) abort();
    headers->provider = -1;
    for (size_t i = 0; i < count; i++)
        for (int p = 0; p < w->provider_count; p++)
            for (int k = 0; k < w->providers[p].key_count; k++)
                if (strstr(lines[i], w->providers[p].keys[k].text)) {
                    headers->provider = p;
                    headers->key = k;
                }
    if (headers->provider < 0) world_broken(w, "9", -1, "request headers without a key");
    return headers;
}

static void world_headers_free(void *self, void *headers) {
    (void)self;
    free(headers);
}

static void world_http_close(void *self, bool forked) {
    world *w = (world *)self;
    (void)forked;
    if (w->active) world_broken(w, "12", -1, "the gateway closed http with transfers open");
}

static int64_t world_now(void *user) { return ((world *)user)->now_us; }
static int64_t world_wall(void *user) { return world_wall_s((world *)user); }
static uint64_t world_any(void *user) { return world_random(&((world *)user)->rng); }

WORLD_UNUSED static llmgwi_http world_http(world *w) {
    llmgwi_http http = {w,
                        world_room,
                        world_start,
                        world_cancel,
                        world_resume,
                        world_next_us,
                        world_poll,
                        world_wake,
                        world_fd,
                        world_arm,
                        world_notice,
                        world_warm,
                        world_headers_make,
                        world_headers_free,
                        world_http_close};
    return http;
}

WORLD_UNUSED static llmgwi_base_clock world_clock(world *w) {
    llmgwi_base_clock clock = {world_now, world_wall, world_any, w};
    return clock;
}

/* ---- life ---- */

/* A world without providers. Its memory is reused by the next world_open. */
WORLD_UNUSED static void world_open(world *w, uint64_t seed) {
    w->seed = seed;
    w->rng = world_seed(seed, 1);
    w->hash = seed;
    w->now_us = w->start_us = (int64_t)(world_random(&w->rng) % 1000000000000u) + 1;
    w->wall_s = 1795000000 + world_below(&w->rng, 100000000); /* from November 2026 */
    w->order = 0;
    w->net.count = w->outside.count = 0;
    memset(w->providers, 0, sizeof w->providers);
    w->provider_count = w->active = w->still = 0;
    w->max_active = 20000;
    w->batch = 128;
    w->told_cap_us = 3600000000LL;
    w->arm_us = WORLD_NEVER;
    w->noticed = w->woken = w->in_upcall = false;
    w->requests = w->sent_bytes = w->happened = w->pauses = 0;
}

/* Adds a provider with keys; the numbers are those of a healthy one and may be changed. */
WORLD_UNUSED static world_provider *world_provider_add(world *w, const char *flavour, int keys) {
    int index = w->provider_count++;
    world_provider *p = &w->providers[index];
    bool anthropic = strcmp(flavour, "anthropic") == 0, gemini = strcmp(flavour, "gemini") == 0;
    p->flavour = flavour;
    p->dialect = anthropic ? WORLD_ANTHROPIC : gemini ? WORLD_GEMINI : WORLD_OPENAI;
    snprintf(p->name, sizeof p->name, "p%d", index);
    snprintf(p->url, sizeof p->url, "https://p%d.sim.example/v1", index);
    snprintf(p->model[0], sizeof p->model[0], anthropic ? "claude-haiku-4-5" : "small-%d", index);
    snprintf(p->model[1], sizeof p->model[1], anthropic ? "claude-sonnet-5" : "large-%d", index);
    p->region = index;
    p->key_count = keys;
    for (int k = 0; k < keys; k++)
        snprintf(p->keys[k].text, sizeof p->keys[k].text, "sk-sim-%d-%d-%08x", index, k,
                 (unsigned)world_seed(w->seed, (uint64_t)(100 + index * 10 + k)));
    p->connect_us = 60000;
    p->first_us = 400000;
    p->gap_us = 40000;
    p->sigma = 0.6;
    p->retry = WORLD_RETRY_SECONDS;
    p->filled_us = w->now_us;
    return p;
}

/* After the gateway's close. */
WORLD_UNUSED static void world_close(world *w) {
    for (int i = 0; i < w->provider_count; i++)
        for (int k = 0; k < WORLD_KEYS; k++) {
            free(w->providers[i].keys[k].rpm.times);
            w->providers[i].keys[k].rpm.times = NULL;
        }
}

#endif
