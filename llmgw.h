/* llmgw.h - an LLM gateway in one C header.                                          version 0.2.0

   Do this:

       #define LLMGW_IMPLEMENTATION
       #include "llmgw.h"

   in EXACTLY ONE C or C++ file, before that file includes anything else, to create the
   implementation. Every other file includes llmgw.h without the #define. Link with
   -lcurl -lxxhash -lpthread.

   SMALLEST PROGRAM

       llmgw *gw = llmgw_open(NULL, NULL);                  (providers found from the environment)
       llmgw_reply *r = llmgw_ask(gw, "openai/gpt-4o-mini", "Why is the sky blue?");
       puts(r->error.code ? r->error.text : r->text);
       llmgw_reply_free(r);
       llmgw_close(gw);

   CONTENTS: search for a tag with its two angle brackets
       >>api      all that a user reads: types, functions, ownership, threads, errors
       ------     "stop here if you are only interested in the API" ------
       >>base     operating system: memory, buffers, clock, random, threads, SIMD kernels, poller
       >>text     UTF-8, sentence ends, seams of resumed texts, estimate of tokens
       >>json     strict reader without allocation, writer
       >>frame    splits a stream of bytes into server-sent events
       >>dialect  what the providers speak: requests out; replies, events and errors in
       >>schema   has a JSON text the shape that a JSON Schema asks for?
       >>config   descriptions, configuration file and environment to one checked table
       >>price    integer money
       >>health   what a failure means: backoff, breaker, limits, concurrency, latencies
       >>route    in which order a call tries its targets, and how often
       >>http     the only libcurl
       >>engine   calls, attempts, races and hedges, resumed streams, waiting lines, deadlines, events
       >>public   argument checks, open, send, poll, ask
       RELEASE NOTES and LICENSE are at the end.

   OWNERSHIP
     - Everything you pass in is copied before the function returns, except where a blocking call
       (llmgw_ask, llmgw_chat) reads your request while it runs.
     - A llmgw_reply from llmgw_ask or llmgw_chat is yours: llmgw_reply_free it. It may outlive
       the gateway. What an event points to lives until your callback returns; llmgw_reply_keep
       makes the reply of END yours.

   THREADS
     - A gateway may be used from any thread at the same time, except that llmgw_close must be the
       last call on it. llmgw_cancel and llmgw_wake may also be called from inside a callback.
     - Callbacks of calls made with llmgw_send run only inside llmgw_poll (and llmgw_close), on
       that thread, one at a time per call. Callbacks of llmgw_chat run on its caller's thread.
       No callback runs while a lock of ours is held, so it may call any function here except
       llmgw_poll and llmgw_close, which answer LLMGW_E_MISUSE.
     - No thread is started by this library. (libcurl may start one to resolve a host name.)

   A GOOD GUEST
     - Nothing is written to disk. llmgw_open does no network I/O.
     - SIGPIPE never reaches you. After fork the child's handle answers LLMGW_E_FORKED, and
       closing it there touches no socket of the parent.
     - A key is sent only to its own provider's host, never over plain http except to loopback,
       never after a redirect, and appears in no log line, error text or trace. TLS certificates
       are always verified; there is no switch to turn that off.

   COMPILE-TIME SWITCHES (define them where LLMGW_IMPLEMENTATION is defined)
     LLMGW_NO_OPENAI, LLMGW_NO_ANTHROPIC, LLMGW_NO_GEMINI   leave a dialect out
     LLMGW_API                                              linkage of public functions (extern)

   Zero-initialise every struct ("= {0}" in C, "= {}" in C++, or memset): zero means the default. */

/* ------------------------------------------------------------------------------------------- */
/* >>api   purpose: everything a user reads.   uses: nothing   guarantees: no other header of   */
/*         ours, no system header beyond the three below                                        */
/* ------------------------------------------------------------------------------------------- */
#if defined(LLMGW_IMPLEMENTATION) && !defined(LLMGWI_FEATURES)
#define LLMGWI_FEATURES
#if defined(_FEATURES_H) && !defined(__cplusplus) && !defined(_DEFAULT_SOURCE) && !defined(_GNU_SOURCE)
#error "llmgw.h: include it first where LLMGW_IMPLEMENTATION is defined, or compile with -D_DEFAULT_SOURCE"
#endif
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#endif

#ifndef LLMGW_H
#define LLMGW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LLMGW_VERSION_MAJOR 0
#define LLMGW_VERSION_MINOR 2
#define LLMGW_VERSION_PATCH 0
#define LLMGW_VERSION "0.2.0"

#ifndef LLMGW_API
#define LLMGW_API extern
#endif

/* Caps that are fixed when the implementation is compiled; define them before it to change them. */
#ifndef LLMGW_MAX_PARTS
#define LLMGW_MAX_PARTS 4096 /* text, reasoning and tool-call parts of one answer */
#endif
#ifndef LLMGW_MAX_NAMES
#define LLMGW_MAX_NAMES 4096 /* providers, aliases and routes, each; targets of a route: 64 */
#endif

/* A header of one version and an implementation of another do not link: the name carries both. */
#define llmgw_open llmgw_open_v0_2

#ifdef __cplusplus
extern "C" {
#endif

/* ---- handles ------------------------------------------------------------------------------ */

/* A gateway: its providers, connections and calls in flight. Made by llmgw_open. */
typedef struct llmgw llmgw;

/* A call in flight. 0 is never a call. A stale handle is harmless: it names nothing. */
typedef uint64_t llmgw_call;

/* ---- small conventions -------------------------------------------------------------------- */

/* For integers that can be switched off (deadlines): LLMGW_OFF. Zero is the default, not "off". */
#define LLMGW_OFF (-1)

/* A number that may be absent, where 0 is a meaningful value. Make one with llmgw_set(0.0). */
typedef struct llmgw_opt {
    bool set;
    double value;
} llmgw_opt;

LLMGW_API llmgw_opt llmgw_set(double value); /* {true, value}. Any thread. */

/* ---- errors ------------------------------------------------------------------------------- */

/* X(name, number, retryable, text). Numbers are frozen. Grouped by whose fault it is: 1xx the
   caller's, 2xx a policy, 3xx the provider's or the network's, 4xx the gateway's. Retryable: the
   same call may succeed later without a change. */
#define LLMGW_ERRORS(X)                                                                                      \
    X(OK, 0, 0, "no error")                                                                                  \
    X(E_ARGUMENT, 100, 0, "a request or option is wrong")                                                    \
    X(E_CONFIG, 101, 0, "the configuration is wrong")                                                        \
    X(E_MODEL, 102, 0, "the model name leads nowhere")                                                       \
    X(E_NO_KEY, 103, 0, "the provider needs a key and has none")                                             \
    X(E_UNSUPPORTED, 104, 0, "the target cannot do what was asked")                                          \
    X(E_MISUSE, 105, 0, "called from where it may not be called")                                            \
    X(E_CANCELLED, 106, 0, "cancelled by the caller")                                                        \
    X(E_RESTRICTED, 200, 0, "a restriction of the request cannot be kept")                                   \
    X(E_INSECURE, 201, 0, "a key would travel unprotected")                                                  \
    X(E_BAD_REQUEST, 300, 0, "the provider refused the request")                                             \
    X(E_AUTH, 301, 0, "the provider refused the key")                                                        \
    X(E_QUOTA, 302, 0, "the account's quota or credit is used up")                                           \
    X(E_NOT_FOUND, 303, 0, "the provider does not know the model or path")                                   \
    X(E_CONTEXT_LENGTH, 304, 0, "the prompt is too long for the model")                                      \
    X(E_FILTERED, 305, 0, "the provider's content filter refused the request")                               \
    X(E_RATE_LIMITED, 310, 1, "the provider's rate limit was reached")                                       \
    X(E_OVERLOADED, 311, 1, "the provider is overloaded")                                                    \
    X(E_PROVIDER, 312, 1, "the provider failed")                                                             \
    X(E_PROTOCOL, 313, 1, "the provider's reply makes no sense")                                             \
    X(E_TRUNCATED, 314, 1, "the reply ended before it was complete")                                         \
    X(E_TOO_LARGE, 315, 0, "the reply is larger than the cap")                                               \
    X(E_INVALID, 316, 1, "the answer did not pass its check")                                                \
    X(E_NETWORK, 320, 1, "the connection failed")                                                            \
    X(E_TLS, 321, 0, "TLS failed, or the certificate is not trusted")                                        \
    X(E_TIMEOUT_CONNECT, 330, 1, "no connection within connect_ms")                                          \
    X(E_TIMEOUT_FIRST_TOKEN, 331, 1, "no first token within first_token_ms")                                 \
    X(E_TIMEOUT_IDLE, 332, 1, "silence for longer than idle_ms")                                             \
    X(E_DEADLINE, 333, 1, "the call's deadline_ms passed")                                                   \
    X(E_MEMORY, 400, 1, "out of memory")                                                                     \
    X(E_LIMIT, 401, 1, "a cap of the gateway was reached")                                                   \
    X(E_CLOSED, 402, 0, "the gateway is closed or was never open")                                           \
    X(E_FORKED, 403, 0, "the handle belongs to the parent process")                                          \
    X(E_INTERNAL, 404, 0, "a defect in llmgw.h")                                                             \
    X(E_BREAKER, 405, 1, "the target's circuit breaker is open")                                             \
    X(E_RETRY_BUDGET, 406, 1, "the gateway's retry budget is used up")

#define LLMGWI_ERROR_ENUM(name, number, retryable, text) LLMGW_##name = number,
typedef enum llmgw_code { LLMGW_ERRORS(LLMGWI_ERROR_ENUM) } llmgw_code;
#undef LLMGWI_ERROR_ENUM

#define LLMGW_ERROR_TEXT 320

typedef struct llmgw_error {
    llmgw_code code;             /* LLMGW_OK (0): no error */
    bool retryable;              /* the same call may succeed later */
    int http_status;             /* of the provider's reply, 0: there was none */
    int64_t retry_after_ms;      /* as the provider asked, 0: it did not say */
    char text[LLMGW_ERROR_TEXT]; /* UTF-8, NUL-terminated, names the field, file or provider; no secrets */
} llmgw_error;

/* "E_TRUNCATED" for LLMGW_E_TRUNCATED; "?" for a number that is none. Never NULL. Any thread. */
LLMGW_API const char *llmgw_code_name(llmgw_code code);

/* ---- requests ----------------------------------------------------------------------------- */

typedef enum llmgw_role {
    LLMGW_ROLE_USER = 0,
    LLMGW_ROLE_ASSISTANT,
    LLMGW_ROLE_SYSTEM,
    LLMGW_ROLE_TOOL /* carries TOOL_RESULT parts; they may also stand in a USER message */
} llmgw_role;

typedef enum llmgw_part_kind {
    LLMGW_PART_TEXT = 0,    /* text */
    LLMGW_PART_IMAGE,       /* url, or data + data_len + mime ("image/png") */
    LLMGW_PART_FILE,        /* data + data_len + mime ("application/pdf"), name; or url */
    LLMGW_PART_TOOL_CALL,   /* id, name, arguments: the model asks for a tool (assistant) */
    LLMGW_PART_TOOL_RESULT, /* id of the call, text; is_error when the tool failed */
    LLMGW_PART_REASONING    /* text + signature + origin, as a reply gave it: pass it back unchanged */
} llmgw_part_kind;

/* One part of a message. Strings are UTF-8 and NUL-terminated; text_len 0 means strlen(text). */
typedef struct llmgw_part {
    llmgw_part_kind kind;
    const char *text;
    size_t text_len;
    const char *id;        /* TOOL_CALL, TOOL_RESULT */
    const char *name;      /* TOOL_CALL: the tool; TOOL_RESULT: may be NULL; FILE: file name */
    const char *arguments; /* TOOL_CALL: a JSON object as text; NULL means {} */
    const char *url;       /* IMAGE, FILE: https URL, fetched by the provider */
    const char *mime;      /* IMAGE, FILE with data; NULL: image/png, application/pdf */
    const void *data;      /* IMAGE, FILE: bytes (not base64) */
    size_t data_len;
    bool is_error; /* TOOL_RESULT */
    /* Opaque: what a provider wants back unread (signed or encrypted reasoning). Replayed unchanged to
       the same dialect, left out for another. Never write these yourself. */
    const char *signature;
    const char *origin;
} llmgw_part;

/* One turn. text is a shorthand for a first part of kind TEXT. */
typedef struct llmgw_message {
    llmgw_role role;
    const char *text;
    const llmgw_part *parts;
    size_t part_count;
} llmgw_message;

typedef struct llmgw_tool {
    const char *name;        /* required, [A-Za-z0-9_-]{1,64} */
    const char *description; /* NULL: none */
    const char *parameters;  /* JSON Schema of an object, as text; NULL: no arguments */
    bool strict;             /* ask the provider to enforce the schema, where it can */
} llmgw_tool;

typedef enum llmgw_tool_mode {
    LLMGW_TOOLS_AUTO = 0, /* the model decides */
    LLMGW_TOOLS_NONE,     /* it may not call */
    LLMGW_TOOLS_REQUIRED, /* it must call one */
    LLMGW_TOOLS_ONE       /* it must call request.tool_name */
} llmgw_tool_mode;

typedef enum llmgw_effort {
    LLMGW_EFFORT_DEFAULT = 0, /* nothing is sent: the model's own default */
    LLMGW_EFFORT_NONE,        /* switch reasoning off, where the model can */
    LLMGW_EFFORT_LOW,
    LLMGW_EFFORT_MEDIUM,
    LLMGW_EFFORT_HIGH
} llmgw_effort;

typedef struct llmgw_reply llmgw_reply;
typedef struct llmgw_event llmgw_event;
typedef void (*llmgw_event_fn)(const llmgw_event *event, void *user);

/* Who goes first where calls wait for a limit. */
typedef enum llmgw_priority {
    LLMGW_PRIORITY_NORMAL = 0,
    LLMGW_PRIORITY_INTERACTIVE, /* before normal */
    LLMGW_PRIORITY_BATCH        /* after normal */
} llmgw_priority;

/* What makes a whole answer valid; an answer that is not fails like an error (LLMGW_E_INVALID) and the call
   goes on to the next target. A sum of: */
#define LLMGW_VALID_NOT_EMPTY 1u   /* some text, or a tool call */
#define LLMGW_VALID_NOT_REFUSED 2u /* no refusal, and not ended by a content filter */
#define LLMGW_VALID_SCHEMA 4u      /* the text is JSON of the shape of request.schema; set with a schema */

/* The caller's own check, on a reply of which text, reasoning, refusal, tool_calls, finish, usage, provider,
   model and epoch are filled in, and which dies when this returns. Runs without a lock on whichever thread
   drives the gateway (one that is in llmgw_chat or llmgw_poll): it must not wait or call llmgw_ask or llmgw_chat, else what a callback
   may. */
typedef bool (*llmgw_valid_fn)(const llmgw_reply *reply, void *user);

/* What to ask. Zero-initialise, set model and prompt (or messages), send. */
typedef struct llmgw_request {
    const char *model;  /* required: "provider/model", an alias or a route of the configuration */
    const char *system; /* system text, before all messages; NULL: none */
    const llmgw_message *messages;
    size_t message_count;
    const char *prompt; /* a last user message; the shorthand for one question */

    const llmgw_tool *tools;
    size_t tool_count;
    llmgw_tool_mode tool_mode;
    const char *tool_name; /* for LLMGW_TOOLS_ONE */
    bool serial_tools;     /* at most one tool call a turn, where the provider can promise it */

    const char *schema;      /* JSON Schema, as text: the reply's text shall be JSON of this shape */
    const char *schema_name; /* NULL: "reply" */

    llmgw_opt temperature;       /* 0 to 2, unset: the provider's default. Unset differs from 0 */
    llmgw_opt top_p;             /* 0 to 1 */
    llmgw_opt top_k;             /* whole number >= 1; not sent to the openai dialect, which has none */
    llmgw_opt seed;              /* whole number up to 2^53; not sent to anthropic, which has none */
    llmgw_opt frequency_penalty; /* -2 to 2; not sent to anthropic */
    llmgw_opt presence_penalty;  /* -2 to 2; not sent to anthropic */
    int64_t max_tokens;          /* cap on the answer; 0: the provider's own (anthropic, which demands
                                    one: 4096) */
    const char *const *stop;     /* texts that end the answer */
    size_t stop_count;           /* at most 16; a provider may take fewer */
    llmgw_effort effort;         /* how long to reason */
    const char *user_id;         /* your end user's id, passed on for the provider's abuse checks */

    /* Restrictions ("region=eu", "tag=onprem"). This version cannot keep them, so a request that
       carries one is refused with LLMGW_E_RESTRICTED rather than sent. */
    const char *const *require;
    size_t require_count;

    bool stream;             /* ask the provider to stream; events come as they arrive */
    bool whole_sentences;    /* streams: TEXT comes in complete sentences only (the last one as it is), so
                                that nobody sees one that a cut stream would have to take back */
    llmgw_event_fn on_event; /* NULL: no events, only the reply */
    void *user;              /* handed to on_event and is_valid */

    llmgw_priority priority; /* where calls wait for a limit */
    unsigned valid;          /* LLMGW_VALID_..., added to the route's */
    llmgw_valid_fn is_valid; /* NULL: no check of your own */

    /* Deadlines in ms; 0: the gateway's, LLMGW_OFF: none. */
    int deadline_ms;    /* the whole call with all its attempts */
    int connect_ms;     /* each attempt: until the request can be written (DNS, TCP, TLS) */
    int first_token_ms; /* streams, each attempt: from the request until the first token */
    int idle_ms;        /* each attempt: silence between two chunks of a reply that has begun */
    int max_attempts;   /* upstream attempts in all, over all targets; 0: the gateway's. At most 64 */
    int max_resumes;    /* of a stream that was cut; 0: the gateway's, LLMGW_OFF: start it again */
} llmgw_request;

/* ---- replies ------------------------------------------------------------------------------ */

typedef enum llmgw_finish {
    LLMGW_FINISH_NONE = 0, /* no answer, or not complete */
    LLMGW_FINISH_STOP,     /* said all it wanted, or met a stop text */
    LLMGW_FINISH_LENGTH,   /* cut at max_tokens or at the model's context */
    LLMGW_FINISH_TOOL,     /* wants tools: answer tool_calls */
    LLMGW_FINISH_FILTER,   /* refused or cut by the provider's safety; see refusal */
    LLMGW_FINISH_PAUSE     /* a long turn paused: send it back as it is to go on */
} llmgw_finish;

/* Tokens, made comparable between providers: input includes cached and cache_write, output
   includes reasoning, whatever the provider's own counting is. */
typedef struct llmgw_usage {
    bool known;     /* false: the provider did not tell */
    bool estimated; /* of an attempt that was cut or cancelled: counted by us from the bytes; known too */
    int64_t input;
    int64_t output;
    int64_t cached;         /* part of input that was read from the provider's prompt cache */
    int64_t cache_write;    /* part of input that was written to it, all lifetimes */
    int64_t cache_write_1h; /* part of cache_write with the one-hour lifetime */
    int64_t reasoning;      /* part of output that was reasoning */
} llmgw_usage;

/* Money in pico-dollars (1e-12 USD). usd = pico_usd / 1e12. An unknown price is unknown, never 0. */
typedef struct llmgw_cost {
    bool known;
    bool estimated; /* from an estimated usage */
    bool saturated; /* beyond 9.2 million USD: pico_usd is the largest value */
    int64_t pico_usd;
} llmgw_cost;

typedef struct llmgw_tool_call {
    const char *id; /* never NULL; made up by llmgw where a provider gives none */
    const char *name;
    const char *arguments; /* JSON text as the model wrote it ("{}" if it wrote nothing): check it */
} llmgw_tool_call;

typedef enum llmgw_trace_kind {
    LLMGW_TRACE_ATTEMPT = 0, /* a request to a provider */
    LLMGW_TRACE_WAIT,        /* a pause before the next attempt */
    LLMGW_TRACE_SKIP         /* a target that was passed over */
} llmgw_trace_kind;

/* One step of a call: what was done, for how long, and why. Times in microseconds; 0 where it does
   not apply. Usage and cost belong to ATTEMPT only. */
typedef struct llmgw_trace {
    llmgw_trace_kind kind;
    uint32_t epoch;         /* ATTEMPT: 1, 2, ... as in the events */
    const char *provider;   /* tried, waited for or passed over; never NULL */
    const char *model;      /* as sent to the provider; never NULL */
    int64_t start_us;       /* since the call was accepted */
    int64_t duration_us;    /* -1 in the event that an attempt began */
    int64_t first_byte_us;  /* of the body, since start_us */
    int64_t first_token_us; /* first text, reasoning or tool, since start_us */
    bool sent;              /* the request was written to the network: the provider may have charged it */
    int http_status;        /* 0: no reply */
    int http_version;       /* 10, 11, 20; 0: no reply */
    llmgw_code code;        /* ATTEMPT: LLMGW_OK or what went wrong; WAIT, SKIP: why */
    llmgw_usage usage;      /* ATTEMPT: what this one used */
    llmgw_cost cost;
    char reason[160]; /* for people; no secrets */
} llmgw_trace;

/* The answer and how it came about. Never NULL; pointers in it live as long as the reply. text is
   never NULL. With an error, text holds what a broken stream had brought. */
struct llmgw_reply {
    llmgw_error error; /* error.code 0: success */
    const char *text;  /* UTF-8, NUL-terminated */
    size_t text_len;
    const char *reasoning; /* what the model showed of its reasoning; never NULL */
    size_t reasoning_len;
    const char *refusal; /* NULL, or why the model or the provider's filter refused */
    const llmgw_tool_call *tool_calls;
    size_t tool_call_count;
    llmgw_message message; /* the answer as a turn, to append to your messages (tool loops); it points into
                              this reply: keep every reply until the loop ends */
    llmgw_finish finish;
    llmgw_usage usage;        /* of the answer; sums over attempts are in trace */
    llmgw_cost cost;          /* of all attempts; unknown if one is unknown */
    const char *id;           /* the provider's id of the answer, "" if none */
    const char *provider;     /* who answered, "" if nobody */
    const char *model;        /* as asked of the provider, "" if nobody answered */
    const char *model_echo;   /* as the provider named itself, "" if it did not */
    int64_t elapsed_us;       /* from acceptance to end */
    int64_t first_token_us;   /* from acceptance to the first token of the answer; 0: not a stream */
    int attempts;             /* requests to providers, all in all */
    uint32_t epoch;           /* the attempt whose answer this is: 1, 2, ... as in trace; 0: none */
    const llmgw_trace *trace; /* every attempt, wait and skip, in order */
    size_t trace_count;
};

/* Frees a reply. NULL and the static out-of-memory reply are ignored. Any thread. */
LLMGW_API void llmgw_reply_free(llmgw_reply *reply);

/* Counts one more owner of a reply and returns the same pointer: in a callback it makes END's reply yours
   (llmgw_reply_free it), elsewhere a second llmgw_reply_free is needed. Any thread. */
LLMGW_API llmgw_reply *llmgw_reply_keep(const llmgw_reply *reply);

LLMGW_API const char *llmgw_finish_name(llmgw_finish finish);  /* "stop"; "?" for none such */
LLMGW_API const char *llmgw_trace_name(llmgw_trace_kind kind); /* "attempt"; "?" for none such */

/* ---- events ------------------------------------------------------------------------------- */

typedef enum llmgw_event_kind {
    LLMGW_EVENT_TEXT = 1,  /* text, text_len: more of the answer */
    LLMGW_EVENT_REASONING, /* text, text_len: more of the reasoning */
    LLMGW_EVENT_TOOL,      /* tool_index, tool_id, tool_name; text: more of the arguments' JSON */
    LLMGW_EVENT_TRY,       /* an attempt began (trace->duration_us < 0) or ended (>= 0) */
    LLMGW_EVENT_REWIND,    /* an attempt failed midway: keep only the first keep bytes of the text and the
                              first keep_reasoning bytes of the reasoning you were given, and no tools */
    LLMGW_EVENT_END        /* the last one, exactly once: reply */
} llmgw_event_kind;

/* What a callback is given. The text of all TEXT events, after all REWINDs, equals the reply's text.
   Without request.stream TRY comes as it happens; TEXT, REASONING and TOOL come in one piece each, just
   before END. */
struct llmgw_event {
    llmgw_event_kind kind;
    llmgw_call call; /* for llmgw_cancel; in a blocking call too */
    llmgw *gateway;
    uint32_t epoch;   /* the attempt it comes from: 1, 2, ... */
    const char *text; /* never NULL, NUL-terminated */
    size_t text_len;
    int tool_index;              /* which of several calls, from 0 */
    const char *tool_id;         /* TOOL: never NULL */
    const char *tool_name;       /* TOOL: never NULL */
    size_t keep, keep_reasoning; /* REWIND */
    const llmgw_trace *trace;    /* TRY */
    const llmgw_reply *reply;    /* END */
};

/* ---- configuration ------------------------------------------------------------------------ */

/* A provider. A known name (openai, anthropic, gemini, deepseek, mistral, qwen, moonshot,
   openrouter, portkey, tokenmix, ollama, llamacpp, vllm, groq, xai) brings dialect, url and key
   variable; what you set replaces them. */
typedef struct llmgw_provider {
    const char *name;        /* required: [A-Za-z0-9_.-]{1,64} */
    const char *dialect;     /* "openai", "anthropic", "gemini"; required for a name that is not known */
    const char *url;         /* base, as "https://api.openai.com/v1"; no user, query or fragment */
    const char *key;         /* "env:NAME", or the key itself; NULL: the known name's variable; "": none */
    const char *const *keys; /* or several, each as key; at most 16. An attempt takes the one least in use;
                                   a refused or used-up one is left alone for a while (key_dead_ms) */
    size_t key_count;
    const char *region; /* where it runs: providers of one region fail together, so that a hedge or a race
                           looks elsewhere first. NULL: the host of url counts instead */
    /* What the account allows, for each key; 0: no limit. Never exceeded (over any 60 seconds, any 24 hours):
       a call over it goes to the next target, or waits. */
    int64_t rpm;     /* requests a minute */
    int64_t tpm;     /* tokens a minute, input and output; reserved before, settled after */
    int64_t rpd;     /* requests a day */
    int concurrency; /* requests in flight */

    const char *const *headers; /* more request headers, "Name: value" or "Name: env:NAME"; secret too */
    size_t header_count;
} llmgw_provider;

/* USD per million tokens, as price lists give them. Unset cached and cache_write cost as input does;
   unset cache_write_1h as cache_write. Unset input or output: the price is unknown. */
typedef struct llmgw_price {
    llmgw_opt input;
    llmgw_opt output;
    llmgw_opt cached;
    llmgw_opt cache_write;
    llmgw_opt cache_write_1h;
} llmgw_price;

/* An alias: request.model = name asks this provider for this model. */
typedef struct llmgw_model {
    const char *name;      /* required */
    const char *provider;  /* required: a provider's name */
    const char *model;     /* NULL: name */
    llmgw_price price;     /* unset: the built-in row for the model, if there is one */
    int64_t rpm, tpm, rpd; /* limits of this model, over all keys, as in llmgw_provider */
    int concurrency;
} llmgw_model;

#define LLMGW_P95 (-2) /* llmgw_route.hedge_ms: after the route's own 95th percentile */

/* A route: request.model = name tries several targets. how says in which order:
     "fallback"    as they stand (the default)
     "race"        width of them at once; the first good answer wins, the others are cancelled and their cost
                   is counted
     "weighted"    drawn by weights
     "least_busy"  the one with the fewest requests in flight first
     "fastest"     of two drawn at random the one with the lower latency x load (peak EWMA; Mitzenmacher,
                   "The Power of Two Choices", 2001), then the others in the order of that
   What fails goes on to the next target at once (also a 400 or 401: another provider may take it); after
   the last the first is tried again, after a pause, if its failure was of a kind that passes. A target
   whose breaker is open is left out, unless all are open. max_attempts counts all attempts. */
typedef struct llmgw_route {
    const char *name;           /* required */
    const char *how;            /* NULL: "fallback" */
    const char *const *targets; /* aliases or "provider/model"; "try" in the file */
    size_t target_count;
    const double *weights; /* "weighted": one for each target, > 0; NULL: all 1 */
    size_t weight_count;
    int width;           /* "race": how many at once; 0: 2 */
    const char *race_by; /* "race": "first_text" (NULL): who shows text first wins, the stream is shown
                              from then on; "complete": nothing is shown until an answer is whole and valid */
    int hedge_ms;        /* a second attempt at another target when the first has shown nothing for this
                              long, LLMGW_P95: for the 95th percentile of this route ("p95" in the file; none
                              until 20 calls were timed); 0: never */
    int hedge_percent;   /* at most this share of the route's calls is hedged; 0: 5 */
    int standby;         /* connections to this many next targets are opened ahead, so that a failover pays no
                              DNS, TCP and TLS: a HEAD of the base URL, without key, at most every standby_ms
                              and only while the route is in use; 0: none */
    unsigned valid;      /* LLMGW_VALID_...; in the file ["not_empty", "not_refused", "schema"] */
} llmgw_route;

/* Log items: silent by default. X(name, level, text); levels: 0 error, 1 warning, 2 info. */
#define LLMGW_LOG_ITEMS(X)                                                                                   \
    X(OPEN_FAILED, 0, "llmgw_open failed")                                                                   \
    X(MISUSE, 0, "a function was called from where it may not be called")                                    \
    X(ATTEMPT_FAILED, 1, "an attempt failed")                                                                \
    X(CALL_FAILED, 1, "a call failed")                                                                       \
    X(FAILOVER, 2, "a call goes on with another attempt")                                                    \
    X(BREAKER, 1, "a circuit breaker opened or closed")                                                      \
    X(KEY_DEAD, 1, "a provider refused a key, which is left alone for a while")                              \
    X(HEADROOM, 1, "a limit is used to headroom_percent")

#define LLMGWI_LOG_ENUM(name, level, text) LLMGW_LOG_##name,
typedef enum llmgw_log_item { LLMGW_LOG_ITEMS(LLMGWI_LOG_ENUM) LLMGW_LOG_ITEM_COUNT } llmgw_log_item;
#undef LLMGWI_LOG_ENUM

/* Called from any thread, never with a lock held; line has no newline, no secret, no prompt. It may call
   llmgw_send, llmgw_cancel and llmgw_wake, nothing that waits. */
typedef void (*llmgw_log_fn)(llmgw_log_item item, int level, const char *line, void *user);

/* All memory of ours goes through this when set (libcurl's does not). Like realloc: ptr NULL
   allocates, new_size 0 frees and returns NULL. Called from any thread. */
typedef void *(*llmgw_alloc_fn)(void *ptr, size_t old_size, size_t new_size, void *user);

/* How to open. NULL or all zero: providers from the environment and the defaults below. What is set
   here adds to the configuration file; the same name here wins over the file, the file wins over the
   environment. */
typedef struct llmgw_options {
    /* A JSON file; NULL: none. README: "Configuration". In short:
       {"providers": {"openai": {"key": "env:OPENAI_API_KEY"},
                      "local":  {"dialect": "openai", "url": "http://127.0.0.1:8080/v1"}},
        "models":    {"mini": {"provider": "openai", "model": "gpt-4o-mini"}},
        "routes":    {"chat": {"how": "fallback", "try": ["mini", "local/llama"]}},
        "deadline_ms": 60000}                                       (and the other numbers below) */
    const char *config_path;
    const char *config_json; /* or its text, NUL-terminated; not both */
    const llmgw_provider *providers;
    size_t provider_count;
    const llmgw_model *models;
    size_t model_count;
    const llmgw_route *routes;
    size_t route_count;
    bool no_environment; /* do not look for providers' keys in the environment */
    const char *ca_file; /* PEM file of certificates to trust instead of the system's */

    llmgw_log_fn log;
    void *log_user;
    llmgw_alloc_fn alloc;
    void *alloc_user;

    /* Defaults for requests, in ms; LLMGW_OFF: none. */
    int deadline_ms;    /* 120,000 */
    int connect_ms;     /* 10,000 */
    int first_token_ms; /* 60,000 */
    int idle_ms;        /* 30,000 */
    int max_attempts;   /* 4, or the number of a route's targets if that is more; at most 64 */

    /* Caps. */
    int max_calls;            /* calls in flight, 65,536 */
    int max_connections;      /* to all hosts, 20,000; over it, attempts wait for one to be free */
    int max_idle_connections; /* kept for reuse, 256; in steps of 128 */
    size_t max_request_bytes; /* one request body, 64 MiB */
    size_t max_reply_bytes;   /* one reply, decoded, 16 MiB */
    size_t max_event_bytes;   /* one event of a stream, 8 MiB */
    size_t max_queue_bytes;   /* events of one call not yet delivered, 256 KiB; over it the transfer
                                 pauses until you poll */
    int max_json_depth;       /* of anything a provider or a file says, 128 */
    int max_waiting; /* calls that wait for a limit, 10,000; more are refused with the time to come back */
    int max_targets; /* provider and model pairs whose health is remembered, 4,096 */

    /* Resilience. README: "Policies" gives the reason for each default. LLMGW_OFF: without it. */
    int backoff_ms;            /* 500: the first pause is drawn from 0 to this, and it doubles */
    int backoff_max_ms;        /* 8,000 */
    int retry_after_max_ms;    /* 3,600,000: a longer Retry-After is cut to this */
    int retry_percent;         /* 20: repeated attempts, as a share of calls; up to 100 are saved up */
    int max_resumes;           /* 3: how often a cut stream is continued rather than started again */
    int hold_ms;               /* 50: a stream's first events are held back this long, or until ... */
    int hold_bytes;            /* 32: ... this much came, so that an error just after the start is not seen */
    int min_bytes_per_s;       /* 1: a stream slower than this over 30 s has failed */
    int breaker_failures;      /* 5 in a row open the breaker of a target */
    int breaker_percent;       /* 50: so does this share of failures ... */
    int breaker_min_calls;     /* 20: ... among at least so many calls ... */
    int breaker_window_ms;     /* 30,000: ... in this time */
    int breaker_open_ms;       /* 5,000: first time open; it doubles with each probe that fails */
    int breaker_open_max_ms;   /* 120,000 */
    int breaker_slow_ms;       /* a first token, or a whole reply, that comes later counts as failed; 0: ten
                                   times the target's median of first tokens, at least 5 s; four times its
                                   95th percentile of whole replies, at least 30 s (from 20 attempts on) */
    int key_dead_ms;           /* 60,000: a refused key is left alone; doubles up to an hour */
    int headroom_percent;      /* 80: LLMGW_LOG_HEADROOM when a configured limit is used to this share */
    int reserve_output_tokens; /* 4,096: for a request without max_tokens, against tpm */
    int standby_ms;            /* 50,000: an idle standby connection is refreshed after this */
} llmgw_options;

/* ---- functions ---------------------------------------------------------------------------- */

/* Opens a gateway. options may be NULL. error may be NULL: then a failure logs one line (options.log,
   else stderr); else it is always written. Returns NULL on failure; every other function takes that NULL
   and answers LLMGW_E_CLOSED. No network I/O. Errors: E_CONFIG, E_INSECURE, E_MEMORY. Any thread. */
LLMGW_API llmgw *llmgw_open(const llmgw_options *options, llmgw_error *error);

/* Ends all calls with E_CLOSED (their END callbacks run here), waits until other threads have left
   this gateway, and frees it. NULL is ignored. In a callback: LLMGW_E_MISUSE, and nothing happens. */
LLMGW_API llmgw_code llmgw_close(llmgw *gw);

/* Blocking: asks one question of one model. Never NULL; free with llmgw_reply_free. Any number of
   threads at once. */
LLMGW_API llmgw_reply *llmgw_ask(llmgw *gw, const char *model, const char *prompt);

/* Blocking, with everything a request can say. on_event runs on this thread; event->call is what
   llmgw_cancel takes, there or on another thread (the first event is a TRY, before the network is
   touched). A request that is refused brings no event, only the reply. Never NULL; free with
   llmgw_reply_free. */
LLMGW_API llmgw_reply *llmgw_chat(llmgw *gw, const llmgw_request *request);

/* Non-blocking: accepts a call and returns at once. The request is copied. Its events come inside
   llmgw_poll. Returns 0 and fills error (may be NULL) when it is not accepted; on_event is then never
   called. An accepted call gets END exactly once. Any thread, also from a callback. */
LLMGW_API llmgw_call llmgw_send(llmgw *gw, const llmgw_request *request, llmgw_error *error);

/* Does what is due and runs callbacks, waiting up to timeout_ms (0: not at all, -1: without limit) for an
   event to deliver or for llmgw_wake. Returns the number of events delivered, or -code for an error
   (-LLMGW_E_MISUSE in a callback). With no call in flight it waits as well, for a call that another
   thread sends: a thread of yours may loop on it. A signal does not end the wait. Any thread. */
LLMGW_API int llmgw_poll(llmgw *gw, int timeout_ms);

/* A file descriptor for your event loop, the same for life: readable (level-triggered) while
   llmgw_poll(gw, 0) has something to do, timers included. Belongs to the gateway: do not read or close
   it. -1 where the system has no epoll (then poll every llmgw_timeout_ms or at least every 10 ms), or on
   error. Any thread. */
LLMGW_API int llmgw_fd(llmgw *gw);

/* Milliseconds until llmgw_poll has something to do by the clock: 0 now, -1 nothing pending. */
LLMGW_API int llmgw_timeout_ms(llmgw *gw);

/* Ends a call with E_CANCELLED, and wakes whoever drives the gateway to do so. Events queued before still
   come. Stale handles and ended calls are ignored. Any thread, also from a callback. */
LLMGW_API void llmgw_cancel(llmgw *gw, llmgw_call call);

/* Makes a waiting llmgw_poll return. Any thread, also from a callback. */
LLMGW_API void llmgw_wake(llmgw *gw);

/* Calls accepted and not yet ended. Any thread. */
LLMGW_API size_t llmgw_pending(llmgw *gw);

typedef enum llmgw_limit_kind {
    LLMGW_LIMIT_RPM = 0,    /* requests in the last 60 s */
    LLMGW_LIMIT_TPM,        /* tokens in the last 60 s, reserved ones included */
    LLMGW_LIMIT_RPD,        /* requests in the last 24 h */
    LLMGW_LIMIT_CONCURRENCY /* requests in flight */
} llmgw_limit_kind;

/* One limit and how much of it is used. Strings live as long as the gateway. */
typedef struct llmgw_limit {
    llmgw_limit_kind kind;
    const char *provider;
    const char *model; /* "": of the provider's key */
    int key;           /* which of the provider's keys, from 0; -1: of the model, over all keys */
    bool learned;      /* from the provider's headers, or (CONCURRENCY) from its overload errors */
    int64_t limit, used;
} llmgw_limit;

/* Writes up to count limits and returns how many there are. limits may be NULL with count 0. Any thread. */
LLMGW_API size_t llmgw_limits(llmgw *gw, llmgw_limit *limits, size_t count);
LLMGW_API const char *llmgw_limit_name(llmgw_limit_kind kind); /* "rpm"; "?" for none such */

typedef enum llmgw_breaker {
    LLMGW_BREAKER_CLOSED = 0, /* calls go through */
    LLMGW_BREAKER_OPEN,       /* none goes through, unless every target of the call is open */
    LLMGW_BREAKER_HALF_OPEN   /* one at a time goes through, as a probe */
} llmgw_breaker;

/* How a target does. Strings live as long as the gateway. */
typedef struct llmgw_target {
    const char *provider, *model;
    llmgw_breaker breaker;
    int64_t open_ms; /* OPEN: until probes are let through */
    int64_t in_flight;
    int64_t attempts;       /* so far */
    int64_t failures;       /* of those, of a kind that counts against the breaker */
    int64_t p50_ms, p95_ms; /* until the first token of streams, or, with fewer than 20 of those, of whole
                               replies; 0: not known yet */
} llmgw_target;

/* As llmgw_limits, for the targets that were tried so far. Any thread. */
LLMGW_API size_t llmgw_targets(llmgw *gw, llmgw_target *targets, size_t count);
LLMGW_API const char *llmgw_breaker_name(llmgw_breaker breaker); /* "closed"; "?" for none such */

#ifdef __cplusplus
}
#endif
#endif /* LLMGW_H */

/* ---------------------------------------------------------------------------------------------
   Stop here if you are only interested in the API. The implementation follows.
   --------------------------------------------------------------------------------------------- */
#if defined(LLMGW_IMPLEMENTATION) && !defined(LLMGWI_IMPLEMENTED)
#define LLMGWI_IMPLEMENTED

/* ------------------------------------------------------------------------------------------- */
/* >>base   purpose: the only operating system calls, and what every section stands on.          */
/*          uses: nothing   guarantees: every buffer has a cap; no function here takes a lock     */
/*          that it does not name                                                                */
/* ------------------------------------------------------------------------------------------- */
#if defined(_WIN32)
#error "llmgw.h: Windows is not supported in this version; Linux and POSIX systems are"
#endif

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#if defined(__linux__) && !defined(LLMGWI_BASE_FORCE_POLL)
#define LLMGWI_BASE_EPOLL 1
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#else
#define LLMGWI_BASE_EPOLL 0
#endif

#if defined(__SSE2__)
#define LLMGWI_BASE_SSE2 1
#include <emmintrin.h>
#else
#define LLMGWI_BASE_SSE2 0
#endif

#if !defined(__GNUC__)
#error "llmgw.h: gcc or clang is needed (atomic builtins, thread-local storage)"
#endif

#define LLMGWI_BASE_UNUSED __attribute__((unused))
#define LLMGWI_BASE_HOT __attribute__((always_inline)) inline /* measured: bench/wire.c */
#define LLMGWI_BASE_COLD __attribute__((noinline))
#define LLMGWI_BASE_PRINTF(at, first) __attribute__((format(printf, at, first)))
#define LLMGWI_BASE_THREAD_LOCAL __thread
#define LLMGWI_BASE_LOAD(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define LLMGWI_BASE_STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define LLMGWI_BASE_ADD(p, v) __atomic_add_fetch((p), (v), __ATOMIC_ACQ_REL)
#define LLMGWI_BASE_SWAP(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
#define LLMGWI_BASE_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define LLMGWI_BASE_NEVER INT64_MAX

/* Left-out dialects vanish from their table; their functions stay unreferenced. */
#ifdef LLMGW_NO_OPENAI
#define LLMGWI_BASE_IF_OPENAI(...)
#else
#define LLMGWI_BASE_IF_OPENAI(...) __VA_ARGS__
#endif
#ifdef LLMGW_NO_ANTHROPIC
#define LLMGWI_BASE_IF_ANTHROPIC(...)
#else
#define LLMGWI_BASE_IF_ANTHROPIC(...) __VA_ARGS__
#endif
#ifdef LLMGW_NO_GEMINI
#define LLMGWI_BASE_IF_GEMINI(...)
#else
#define LLMGWI_BASE_IF_GEMINI(...) __VA_ARGS__
#endif

/* ---- memory ---- */

typedef struct llmgwi_base_mem {
    llmgw_alloc_fn fn; /* NULL: realloc and free */
    void *user;
} llmgwi_base_mem;

static void *llmgwi_base_realloc(const llmgwi_base_mem *mem, void *ptr, size_t old_size, size_t new_size) {
    if (mem->fn) return mem->fn(ptr, old_size, new_size, mem->user);
    if (new_size == 0) {
        free(ptr);
        return NULL;
    }
    return realloc(ptr, new_size);
}

static void *llmgwi_base_zalloc(const llmgwi_base_mem *mem, size_t size) {
    void *ptr = llmgwi_base_realloc(mem, NULL, 0, size);
    if (ptr) memset(ptr, 0, size);
    return ptr;
}

static void llmgwi_base_free(const llmgwi_base_mem *mem, void *ptr, size_t size) {
    if (ptr) (void)llmgwi_base_realloc(mem, ptr, size, 0);
}

/* The compiler may not drop this: the bytes held a key. */
static void llmgwi_base_wipe(void *ptr, size_t size) {
    volatile unsigned char *byte = (volatile unsigned char *)ptr;
    while (size--) *byte++ = 0;
}

/* Grows an array of count items to hold one more, doubling, up to max items. Returns the array, perhaps
   moved; NULL at the cap or without memory: then it is as it was. */
static void *llmgwi_base_grow(const llmgwi_base_mem *mem, void *array, size_t *cap, size_t count, size_t max,
                              size_t item) {
    if (count < *cap) return array;
    if (count >= max) return NULL;
    size_t cap_new = *cap ? *cap * 2 : 4;
    if (cap_new > max) cap_new = max;
    void *grown = llmgwi_base_realloc(mem, array, *cap * item, cap_new * item);
    if (grown) *cap = cap_new;
    return grown;
}

/* ---- string views: not owned, not NUL-terminated ---- */

typedef struct llmgwi_base_str {
    const char *p;
    size_t n;
} llmgwi_base_str;

static LLMGWI_BASE_HOT llmgwi_base_str llmgwi_base_view(const char *p, size_t n) {
    llmgwi_base_str view;
    view.p = p;
    view.n = n;
    return view;
}

static llmgwi_base_str llmgwi_base_cstr(const char *text) {
    return llmgwi_base_view(text ? text : "", text ? strlen(text) : 0);
}

static LLMGWI_BASE_HOT bool llmgwi_base_is(llmgwi_base_str view, const char *text) {
    return strlen(text) == view.n && memcmp(view.p, text, view.n) == 0;
}

static char llmgwi_base_lower(char c) { return (char)(c >= 'A' && c <= 'Z' ? c + 32 : c); }

static bool llmgwi_base_is_nocase(llmgwi_base_str view, const char *text) {
    if (strlen(text) != view.n) return false;
    for (size_t i = 0; i < view.n; i++)
        if (llmgwi_base_lower(view.p[i]) != llmgwi_base_lower(text[i])) return false;
    return true;
}

static bool llmgwi_base_starts(llmgwi_base_str view, const char *text) {
    size_t n = strlen(text);
    return view.n >= n && memcmp(view.p, text, n) == 0;
}

static bool llmgwi_base_has(llmgwi_base_str view, const char *text) {
    size_t n = strlen(text);
    for (size_t i = 0; i + n <= view.n; i++)
        if (llmgwi_base_is_nocase(llmgwi_base_view(view.p + i, n), text)) return true;
    return false;
}

static llmgwi_base_str llmgwi_base_trim(llmgwi_base_str view) {
    while (view.n && (view.p[0] == ' ' || view.p[0] == '\t')) view.p++, view.n--;
    while (view.n && strchr(" \t\r\n", view.p[view.n - 1]) && view.p[view.n - 1]) view.n--;
    return view;
}

/* Length of the well-formed UTF-8 character at p (1 to 4), 0 if there is none (Unicode 15, table 3-7:
   no overlong forms, no surrogates, nothing above U+10FFFF). */
static LLMGWI_BASE_HOT size_t llmgwi_base_char(const char *p, size_t n) {
    const unsigned char *s = (const unsigned char *)p;
    if (n == 0) return 0;
    if (s[0] < 0x80) return 1;
    if (s[0] < 0xC2 || s[0] > 0xF4) return 0;
    size_t size = s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    if (n < size) return 0;
    unsigned low = s[0] == 0xE0 ? 0xA0u : s[0] == 0xF0 ? 0x90u : 0x80u;
    unsigned high = s[0] == 0xED ? 0x9Fu : s[0] == 0xF4 ? 0x8Fu : 0xBFu;
    if (s[1] < low || s[1] > high) return 0;
    for (size_t i = 2; i < size; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    return size;
}

/* ---- buffers: append only, capped, always NUL-terminated once they hold anything ---- */

typedef enum llmgwi_base_fail {
    LLMGWI_BASE_FINE = 0,
    LLMGWI_BASE_NO_MEMORY,
    LLMGWI_BASE_OVER_CAP
} llmgwi_base_fail;

typedef struct llmgwi_base_buf {
    char *p; /* NULL while empty */
    size_t n;
    size_t cap; /* bytes allocated */
    size_t max; /* n never exceeds it */
    const llmgwi_base_mem *mem;
    llmgwi_base_fail failed; /* sticky: later appends do nothing */
} llmgwi_base_buf;

static void llmgwi_base_buf_init(llmgwi_base_buf *buf, const llmgwi_base_mem *mem, size_t max) {
    memset(buf, 0, sizeof *buf);
    buf->mem = mem;
    buf->max = max;
}

static void llmgwi_base_buf_free(llmgwi_base_buf *buf) {
    llmgwi_base_free(buf->mem, buf->p, buf->cap);
    buf->p = NULL;
    buf->n = buf->cap = 0;
}

static void llmgwi_base_buf_clear(llmgwi_base_buf *buf) {
    buf->n = 0;
    buf->failed = LLMGWI_BASE_FINE;
    if (buf->p) buf->p[0] = 0;
}

/* Room for more bytes and a NUL, and for slack bytes that a kernel may write beyond them. */
static bool llmgwi_base_buf_reserve_slack(llmgwi_base_buf *buf, size_t more, size_t slack) {
    if (buf->failed) return false;
    if (more > buf->max || buf->n > buf->max - more) {
        buf->failed = LLMGWI_BASE_OVER_CAP;
        return false;
    }
    size_t need = buf->n + more + slack + 1; /* max is below SIZE_MAX / 2 */
    if (need <= buf->cap) return true;
    size_t cap = buf->cap ? buf->cap + buf->cap / 2 : 64;
    if (cap < need) cap = need;
    char *p = (char *)llmgwi_base_realloc(buf->mem, buf->p, buf->cap, cap);
    if (!p) {
        buf->failed = LLMGWI_BASE_NO_MEMORY;
        return false;
    }
    buf->p = p;
    buf->cap = cap;
    return true;
}

/* Room for more bytes and a NUL. */
static bool llmgwi_base_buf_reserve(llmgwi_base_buf *buf, size_t more) {
    return llmgwi_base_buf_reserve_slack(buf, more, 0);
}

static bool llmgwi_base_buf_add(llmgwi_base_buf *buf, const void *bytes, size_t n) {
    if (!llmgwi_base_buf_reserve(buf, n)) return false;
    if (n) memcpy(buf->p + buf->n, bytes, n);
    buf->n += n;
    buf->p[buf->n] = 0;
    return true;
}

static bool llmgwi_base_buf_text(llmgwi_base_buf *buf, const char *text) {
    return llmgwi_base_buf_add(buf, text, strlen(text));
}

static bool llmgwi_base_buf_view(llmgwi_base_buf *buf, llmgwi_base_str view) {
    return llmgwi_base_buf_add(buf, view.p, view.n);
}

static const char *llmgwi_base_buf_cstr(const llmgwi_base_buf *buf) { return buf->p ? buf->p : ""; }

static llmgwi_base_str llmgwi_base_buf_str(const llmgwi_base_buf *buf) {
    return llmgwi_base_view(llmgwi_base_buf_cstr(buf), buf->n);
}

/* ---- arena: many small things that die together ---- */

typedef struct llmgwi_base_block {
    struct llmgwi_base_block *next;
    size_t size; /* with this head */
    size_t used;
} llmgwi_base_block;

typedef struct llmgwi_base_arena {
    llmgwi_base_block *head;
    const llmgwi_base_mem *mem;
    bool failed; /* sticky */
} llmgwi_base_arena;

static void llmgwi_base_arena_init(llmgwi_base_arena *arena, const llmgwi_base_mem *mem) {
    arena->head = NULL;
    arena->mem = mem;
    arena->failed = false;
}

static void llmgwi_base_arena_free(llmgwi_base_arena *arena) {
    while (arena->head) {
        llmgwi_base_block *next = arena->head->next;
        llmgwi_base_free(arena->mem, arena->head, arena->head->size);
        arena->head = next;
    }
}

/* Before freeing an arena that held keys. */
static void llmgwi_base_arena_wipe(llmgwi_base_arena *arena) {
    for (llmgwi_base_block *block = arena->head; block; block = block->next)
        llmgwi_base_wipe((char *)block + sizeof *block, block->size - sizeof *block);
}

/* Zeroed, aligned for any type; NULL when memory is out. */
static void *llmgwi_base_arena_get(llmgwi_base_arena *arena, size_t size) {
    const size_t align = 16, head = (sizeof(llmgwi_base_block) + align - 1) & ~(align - 1);
    if (arena->failed || size > SIZE_MAX / 2) return NULL;
    size = (size + align - 1) & ~(align - 1);
    llmgwi_base_block *block = arena->head;
    if (!block || block->size - block->used < size) {
        size_t want = head + (size < 512 - head ? 512 - head : size);
        block = (llmgwi_base_block *)llmgwi_base_realloc(arena->mem, NULL, 0, want);
        if (!block) {
            arena->failed = true;
            return NULL;
        }
        block->size = want;
        block->used = head;
        block->next = arena->head;
        arena->head = block;
    }
    void *ptr = (char *)block + block->used;
    block->used += size;
    memset(ptr, 0, size);
    return ptr;
}

/* A NUL-terminated copy; "" when memory is out (arena.failed tells). */
static const char *llmgwi_base_arena_copy(llmgwi_base_arena *arena, const char *p, size_t n) {
    char *copy = (char *)llmgwi_base_arena_get(arena, n + 1);
    if (!copy) return "";
    if (n) memcpy(copy, p, n);
    copy[n] = 0;
    return copy;
}

/* NULL stays NULL. */
static const char *llmgwi_base_arena_dup(llmgwi_base_arena *arena, const char *text) {
    return text ? llmgwi_base_arena_copy(arena, text, strlen(text)) : NULL;
}

/* ---- errors ---- */

typedef struct llmgwi_base_error_row {
    llmgw_code code;
    bool retryable;
    const char *name;
    const char *text;
} llmgwi_base_error_row;

#define LLMGWI_BASE_ERROR_ROW(name, number, retryable, text) {LLMGW_##name, (retryable) != 0, #name, text},
static const llmgwi_base_error_row llmgwi_base_errors[] = {LLMGW_ERRORS(LLMGWI_BASE_ERROR_ROW)};
#undef LLMGWI_BASE_ERROR_ROW

static const llmgwi_base_error_row *llmgwi_base_error_find(llmgw_code code) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_base_errors); i++)
        if (llmgwi_base_errors[i].code == code) return &llmgwi_base_errors[i];
    return NULL;
}

/* Cuts after at most cap - 1 bytes, never inside a UTF-8 character. */
static void llmgwi_base_copy_cut(char *out, size_t cap, const char *p, size_t n) {
    if (n >= cap) {
        n = cap - 1;
        while (n && ((unsigned char)p[n] & 0xC0) == 0x80) n--;
    }
    memmove(out, p, n);
    out[n] = 0;
}

/* Makes foreign bytes fit to be shown: bad UTF-8 and control characters become '?', in place. */
static void llmgwi_base_printable(char *p) {
    for (size_t i = 0, n = strlen(p), size; i < n; i += size ? size : 1) {
        size = llmgwi_base_char(p + i, n - i);
        if (size == 0 || (unsigned char)p[i] < ' ' || p[i] == 0x7F) p[i] = p[i] == '\n' ? ' ' : '?';
    }
}

/* Fills an error; error may be NULL. Returns the code. */
LLMGWI_BASE_PRINTF(3, 4)
static llmgw_code llmgwi_base_error(llmgw_error *error, llmgw_code code, const char *format, ...) {
    if (!error) return code;
    const llmgwi_base_error_row *row = llmgwi_base_error_find(code);
    char line[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n < 0) n = 0;
    if ((size_t)n >= sizeof line) n = (int)sizeof line - 1;
    llmgwi_base_printable(line);
    memset(error, 0, sizeof *error);
    error->code = code;
    error->retryable = row && row->retryable;
    llmgwi_base_copy_cut(error->text, sizeof error->text, line, (size_t)n);
    return code;
}

/* ---- clock and random: a table, so that a test can replace both ---- */

typedef struct llmgwi_base_clock {
    int64_t (*now_us)(void *user);  /* monotonic */
    int64_t (*wall_s)(void *user);  /* seconds since 1970 */
    uint64_t (*random)(void *user); /* uniform 64 bits; not for secrets */
    void *user;
} llmgwi_base_clock;

static int64_t llmgwi_base_now_us(void *user) {
    (void)user;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int64_t llmgwi_base_wall_s(void *user) {
    (void)user;
    return (int64_t)time(NULL);
}

/* splitmix64 (Steele, Lea, Flood 2014): a state, moved on by LLMGWI_BASE_STEP each time, to a random number. */
#define LLMGWI_BASE_STEP ((uint64_t)0x9E3779B97F4A7C15u)

static uint64_t llmgwi_base_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* One state a process, seeded by the clock and an address. */
static uint64_t llmgwi_base_random(void *user) {
    static uint64_t state;
    (void)user;
    if (!LLMGWI_BASE_LOAD(&state)) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        uint64_t seed = (uint64_t)t.tv_nsec * LLMGWI_BASE_STEP ^ (uint64_t)t.tv_sec ^ (uint64_t)(uintptr_t)&t;
        LLMGWI_BASE_ADD(&state, seed | 1);
    }
    return llmgwi_base_mix(LLMGWI_BASE_ADD(&state, LLMGWI_BASE_STEP));
}

static const llmgwi_base_clock llmgwi_base_real_clock = {llmgwi_base_now_us, llmgwi_base_wall_s,
                                                         llmgwi_base_random, NULL};

/* ---- threads ---- */

typedef pthread_mutex_t llmgwi_base_mutex;
typedef pthread_cond_t llmgwi_base_cond;
typedef pthread_once_t llmgwi_base_once;
#define LLMGWI_BASE_ONCE PTHREAD_ONCE_INIT

static void llmgwi_base_once_run(llmgwi_base_once *once, void (*fn)(void)) { (void)pthread_once(once, fn); }

static void llmgwi_base_mutex_init(llmgwi_base_mutex *mutex) { (void)pthread_mutex_init(mutex, NULL); }

static void llmgwi_base_mutex_free(llmgwi_base_mutex *mutex) { (void)pthread_mutex_destroy(mutex); }

static void llmgwi_base_lock(llmgwi_base_mutex *mutex) { (void)pthread_mutex_lock(mutex); }

static void llmgwi_base_unlock(llmgwi_base_mutex *mutex) { (void)pthread_mutex_unlock(mutex); }

/* Its waits go by the monotonic clock. */
static void llmgwi_base_cond_init(llmgwi_base_cond *cond) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

static void llmgwi_base_cond_free(llmgwi_base_cond *cond) { (void)pthread_cond_destroy(cond); }

static void llmgwi_base_cond_signal(llmgwi_base_cond *cond) { (void)pthread_cond_signal(cond); }

/* at_us: llmgwi_base_now_us time, LLMGWI_BASE_NEVER waits without limit. May wake early. */
static void llmgwi_base_cond_wait(llmgwi_base_cond *cond, llmgwi_base_mutex *mutex, int64_t at_us) {
    if (at_us == LLMGWI_BASE_NEVER) {
        pthread_cond_wait(cond, mutex);
        return;
    }
    struct timespec t;
    t.tv_sec = (time_t)(at_us / 1000000);
    t.tv_nsec = (long)(at_us % 1000000) * 1000;
    pthread_cond_timedwait(cond, mutex, &t);
}

/* ---- fork: a counter that rises in every child ---- */

static uint32_t llmgwi_base_fork_count;

static void llmgwi_base_after_fork(void) { LLMGWI_BASE_ADD(&llmgwi_base_fork_count, 1u); }

static void llmgwi_base_watch_fork_once(void) { (void)pthread_atfork(NULL, NULL, llmgwi_base_after_fork); }

static void llmgwi_base_watch_fork(void) {
    static llmgwi_base_once once = LLMGWI_BASE_ONCE;
    llmgwi_base_once_run(&once, llmgwi_base_watch_fork_once);
}

/* ---- SIMD kernels ---- */

/* How many leading bytes can stand in a JSON string as they are: ASCII from 0x20, no quote, no
   backslash. With out, copies them too, and may write up to 15 bytes more. The hot loop of reading and
   writing. */
static LLMGWI_BASE_HOT size_t llmgwi_base_plain_run(const char *p, size_t n, char *out) {
    size_t i = 0;
#if LLMGWI_BASE_SSE2
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'), space = _mm_set1_epi8(0x20);
    for (; i + 16 <= n; i += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
        if (out) _mm_storeu_si128((__m128i *)(void *)(out + i), v);
        /* signed compare: bytes from 0x80 are negative, so "< 0x20" catches them too */
        __m128i stop = _mm_or_si128(_mm_cmplt_epi8(v, space),
                                    _mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash)));
        int mask = _mm_movemask_epi8(stop);
        if (mask) return i + (size_t)__builtin_ctz((unsigned)mask);
    }
#else
    for (; i + 8 <= n; i += 8) {
        const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
        uint64_t v;
        memcpy(&v, p + i, 8);
        uint64_t quote = v ^ (ones * '"'), slash = v ^ (ones * '\\');
        if (((v - ones * 0x20) | (quote - ones) | (slash - ones) | v) & tops) break;
        if (out) memcpy(out + i, &v, 8);
    }
#endif
    for (; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c < 0x20 || c >= 0x80 || c == '"' || c == '\\') break;
        if (out) out[i] = p[i];
    }
    return i;
}

/* A bit for each of the first 64 bytes that cannot stand in a JSON string as it is; bytes from n on count
   as such. Only with SSE2. */
static LLMGWI_BASE_HOT uint64_t llmgwi_base_plain_mask(const char *p, size_t n) {
    uint64_t mask = 0;
#if LLMGWI_BASE_SSE2
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'), space = _mm_set1_epi8(0x20);
    char tail[64];
    if (n < sizeof tail) {
        memset(tail, 0, sizeof tail);
        memcpy(tail, p, n);
        p = tail;
    }
    for (int i = 0; i < 4; i++) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i));
        __m128i stop = _mm_or_si128(_mm_cmplt_epi8(v, space),
                                    _mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash)));
        mask |= (uint64_t)(unsigned)_mm_movemask_epi8(stop) << (16 * i);
    }
#else
    (void)p, (void)n;
#endif
    return mask;
}

/* Copies 16 bytes and returns a bit for each that needs an escape in a JSON string. high: some are not
   ASCII (without SSE2 always: then the caller goes byte by byte). */
static LLMGWI_BASE_HOT unsigned llmgwi_base_plain_block(const char *p, char *out, bool *high) {
#if LLMGWI_BASE_SSE2
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
    _mm_storeu_si128((__m128i *)(void *)out, v);
    *high = _mm_movemask_epi8(v) != 0;
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(
        _mm_cmplt_epi8(v, _mm_set1_epi8(0x20)),
        _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')), _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')))));
#else
    (void)p, (void)out;
    *high = true;
    return 0;
#endif
}

static LLMGWI_BASE_HOT size_t llmgwi_base_plain_span(const char *p, size_t n) {
    return llmgwi_base_plain_run(p, n, NULL);
}

/* ---- poller: sockets, a wake-up, and (epoll) one descriptor for foreign event loops ---- */

#define LLMGWI_BASE_READ 1u
#define LLMGWI_BASE_WRITE 2u
#define LLMGWI_BASE_POLL_BATCH 128

typedef struct llmgwi_base_ready {
    int fd;
    uint32_t tag;
    unsigned mask;
} llmgwi_base_ready;

typedef struct llmgwi_base_watch {
    uint32_t tag;
    unsigned char mask; /* as the kernel knows it */
    bool known;         /* registered */
    bool idle;          /* registered, nobody interested: kept to save two system calls a request */
    bool own;           /* made by poller_socket: its close is reported by poller_forget */
    int slot;           /* poll(2) only: index in fds */
} llmgwi_base_watch;

typedef struct llmgwi_base_poller {
    const llmgwi_base_mem *mem;
    int inner;         /* epoll: sockets and wake_read; -1 with poll(2) */
    int outer;         /* epoll: inner, timer and notice, for foreign loops; -1 until asked for */
    int timer, notice; /* -1 until outer is made */
    int wake_read, wake_write;
    int64_t armed_us;         /* what timer is set to */
    bool noticed;             /* notice is readable */
    llmgwi_base_watch *watch; /* by descriptor */
    size_t watch_cap;
    struct pollfd *fds; /* poll(2) only; [0] is wake_read */
    size_t fd_count, fd_cap;
} llmgwi_base_poller;

#define LLMGWI_BASE_MAX_FD ((size_t)1 << 20)

static void llmgwi_base_poller_close(llmgwi_base_poller *poller) {
    int fds[6] = {poller->inner,     poller->outer,
                  poller->timer,     poller->notice,
                  poller->wake_read, poller->wake_write == poller->wake_read ? -1 : poller->wake_write};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(fds); i++)
        if (fds[i] >= 0) close(fds[i]);
    llmgwi_base_free(poller->mem, poller->watch, poller->watch_cap * sizeof *poller->watch);
    llmgwi_base_free(poller->mem, poller->fds, poller->fd_cap * sizeof *poller->fds);
    poller->watch = NULL;
    poller->fds = NULL;
}

#if LLMGWI_BASE_EPOLL
static bool llmgwi_base_poller_start(llmgwi_base_poller *poller) {
    struct epoll_event event;
    poller->inner = epoll_create1(EPOLL_CLOEXEC);
    poller->wake_read = poller->wake_write = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (poller->inner < 0 || poller->wake_read < 0) return false;
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    event.data.u64 = UINT64_MAX;
    return epoll_ctl(poller->inner, EPOLL_CTL_ADD, poller->wake_read, &event) == 0;
}

static bool llmgwi_base_poller_control(llmgwi_base_poller *poller, int fd, llmgwi_base_watch *watch) {
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    if (watch->mask & LLMGWI_BASE_READ) event.events |= (uint32_t)EPOLLIN;
    if (watch->mask & LLMGWI_BASE_WRITE) event.events |= (uint32_t)EPOLLOUT;
    event.data.u64 = (uint64_t)watch->tag << 32 | (uint32_t)fd;
    int op = watch->known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(poller->inner, op, fd, &event) == 0) return true;
    op = errno == ENOENT ? EPOLL_CTL_ADD : errno == EEXIST ? EPOLL_CTL_MOD : -1;
    return op >= 0 && epoll_ctl(poller->inner, op, fd, &event) == 0;
}

static void llmgwi_base_poller_remove(llmgwi_base_poller *poller, int fd) {
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    (void)epoll_ctl(poller->inner, EPOLL_CTL_DEL, fd, &event);
}

/* Waits; timeout_ms -1: without limit. Returns the sockets that are ready. */
static int llmgwi_base_poller_wait(llmgwi_base_poller *poller, int timeout_ms, llmgwi_base_ready *ready,
                                   int max) {
    struct epoll_event events[LLMGWI_BASE_POLL_BATCH];
    if (max > LLMGWI_BASE_POLL_BATCH) max = LLMGWI_BASE_POLL_BATCH;
    int n = epoll_wait(poller->inner, events, max, timeout_ms), out = 0;
    for (int i = 0; i < n; i++) {
        if (events[i].data.u64 == UINT64_MAX) {
            uint64_t count;
            if (read(poller->wake_read, &count, sizeof count) < 0) continue;
            continue;
        }
        int fd = (int)(uint32_t)events[i].data.u64;
        llmgwi_base_watch *watch = &poller->watch[fd];
        if (!watch->known) continue;
        if (watch->idle) { /* the server closed a connection that nobody uses: curl finds out by itself */
            llmgwi_base_poller_remove(poller, fd);
            watch->known = watch->idle = false;
            continue;
        }
        ready[out].fd = fd;
        ready[out].tag = (uint32_t)(events[i].data.u64 >> 32);
        ready[out].mask = 0;
        if (events[i].events & (uint32_t)(EPOLLIN | EPOLLERR | EPOLLHUP)) ready[out].mask |= LLMGWI_BASE_READ;
        if (events[i].events & (uint32_t)(EPOLLOUT | EPOLLERR)) ready[out].mask |= LLMGWI_BASE_WRITE;
        out++;
    }
    return out;
}

static void llmgwi_base_poller_wake(llmgwi_base_poller *poller) {
    uint64_t one = 1;
    if (write(poller->wake_write, &one, sizeof one) < 0) return; /* full: it is readable already */
}

static int llmgwi_base_poller_outer(llmgwi_base_poller *poller) {
    if (poller->outer >= 0) return poller->outer;
    int outer = epoll_create1(EPOLL_CLOEXEC);
    poller->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    poller->notice = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int fds[3] = {poller->inner, poller->timer, poller->notice};
    bool ok = outer >= 0;
    for (int i = 0; ok && i < 3; i++) {
        struct epoll_event event;
        memset(&event, 0, sizeof event);
        event.events = EPOLLIN;
        ok = fds[i] >= 0 && epoll_ctl(outer, EPOLL_CTL_ADD, fds[i], &event) == 0;
    }
    if (ok) return poller->outer = outer;
    if (outer >= 0) close(outer);
    if (poller->timer >= 0) close(poller->timer);
    if (poller->notice >= 0) close(poller->notice);
    poller->timer = poller->notice = -1;
    return -1;
}

/* Makes the outer descriptor readable at at_us (or never). Cheap when nothing changed. */
static void llmgwi_base_poller_arm(llmgwi_base_poller *poller, int64_t at_us) {
    if (poller->timer < 0 || poller->armed_us == at_us) return;
    struct itimerspec spec;
    memset(&spec, 0, sizeof spec);
    if (at_us != LLMGWI_BASE_NEVER) {
        if (at_us < 1) at_us = 1;
        spec.it_value.tv_sec = (time_t)(at_us / 1000000);
        spec.it_value.tv_nsec = (long)(at_us % 1000000) * 1000;
    }
    (void)timerfd_settime(poller->timer, TFD_TIMER_ABSTIME, &spec, NULL);
    poller->armed_us = at_us;
}

/* Makes the outer descriptor readable (events wait to be delivered), or takes that back. */
static void llmgwi_base_poller_notice(llmgwi_base_poller *poller, bool on) {
    uint64_t count = 1;
    if (poller->notice < 0 || poller->noticed == on) return;
    poller->noticed = on;
    if (on && write(poller->notice, &count, sizeof count) < 0) return;
    if (!on && read(poller->notice, &count, sizeof count) < 0) return;
}
#else
static bool llmgwi_base_poller_start(llmgwi_base_poller *poller) {
    int ends[2];
    if (pipe(ends) != 0) return false;
    for (int i = 0; i < 2; i++) {
        (void)fcntl(ends[i], F_SETFD, FD_CLOEXEC);
        (void)fcntl(ends[i], F_SETFL, O_NONBLOCK);
    }
    poller->wake_read = ends[0];
    poller->wake_write = ends[1];
    poller->fds = (struct pollfd *)llmgwi_base_grow(poller->mem, NULL, &poller->fd_cap, 0, LLMGWI_BASE_MAX_FD,
                                                    sizeof *poller->fds);
    if (!poller->fds) return false;
    poller->fds[0].fd = ends[0];
    poller->fds[0].events = POLLIN;
    poller->fd_count = 1;
    return true;
}

static bool llmgwi_base_poller_control(llmgwi_base_poller *poller, int fd, llmgwi_base_watch *watch) {
    if (!watch->known) {
        struct pollfd *fds =
            (struct pollfd *)llmgwi_base_grow(poller->mem, poller->fds, &poller->fd_cap, poller->fd_count,
                                              LLMGWI_BASE_MAX_FD, sizeof *poller->fds);
        if (!fds) return false;
        poller->fds = fds;
        watch->slot = (int)poller->fd_count++;
        poller->fds[watch->slot].fd = fd;
    }
    short events = 0;
    if (watch->mask & LLMGWI_BASE_READ) events |= POLLIN;
    if (watch->mask & LLMGWI_BASE_WRITE) events |= POLLOUT;
    poller->fds[watch->slot].events = events;
    poller->fds[watch->slot].revents = 0;
    return true;
}

static void llmgwi_base_poller_remove(llmgwi_base_poller *poller, int fd) {
    int slot = poller->watch[fd].slot;
    poller->fds[slot] = poller->fds[--poller->fd_count];
    poller->watch[poller->fds[slot].fd].slot = slot;
}

static int llmgwi_base_poller_wait(llmgwi_base_poller *poller, int timeout_ms, llmgwi_base_ready *ready,
                                   int max) {
    int n = poll(poller->fds, (nfds_t)poller->fd_count, timeout_ms), out = 0;
    if (n > 0 && (poller->fds[0].revents & POLLIN)) {
        char sink[64];
        while (read(poller->wake_read, sink, sizeof sink) > 0) continue;
    }
    for (size_t i = poller->fd_count; n > 0 && i-- > 1;) {
        struct pollfd *p = &poller->fds[i];
        llmgwi_base_watch *watch = &poller->watch[p->fd];
        if (!p->revents || out == max) continue;
        if (watch->idle) {
            llmgwi_base_poller_remove(poller, p->fd);
            watch->known = watch->idle = false;
            continue;
        }
        ready[out].fd = p->fd;
        ready[out].tag = watch->tag;
        ready[out].mask = (p->revents & (POLLIN | POLLERR | POLLHUP)) ? LLMGWI_BASE_READ : 0u;
        if (p->revents & (POLLOUT | POLLERR)) ready[out].mask |= LLMGWI_BASE_WRITE;
        out++;
    }
    return out;
}

static void llmgwi_base_poller_wake(llmgwi_base_poller *poller) {
    if (write(poller->wake_write, "w", 1) < 0) return; /* full: it is readable already */
}

static int llmgwi_base_poller_outer(llmgwi_base_poller *poller) { return poller->outer; }
static void llmgwi_base_poller_arm(llmgwi_base_poller *poller, int64_t at_us) { poller->armed_us = at_us; }
static void llmgwi_base_poller_notice(llmgwi_base_poller *poller, bool on) { poller->noticed = on; }
#endif

static bool llmgwi_base_poller_open(llmgwi_base_poller *poller, const llmgwi_base_mem *mem) {
    memset(poller, 0, sizeof *poller);
    poller->mem = mem;
    poller->inner = poller->outer = poller->timer = poller->notice = -1;
    poller->wake_read = poller->wake_write = -1;
    poller->armed_us = LLMGWI_BASE_NEVER;
    if (llmgwi_base_poller_start(poller)) return true;
    llmgwi_base_poller_close(poller);
    return false;
}

static bool llmgwi_base_poller_room(llmgwi_base_poller *poller, int fd) {
    size_t at = (size_t)fd, cap = poller->watch_cap;
    if (fd < 0 || at >= LLMGWI_BASE_MAX_FD) return false;
    while (at >= poller->watch_cap) {
        llmgwi_base_watch *grown =
            (llmgwi_base_watch *)llmgwi_base_grow(poller->mem, poller->watch, &poller->watch_cap,
                                                  poller->watch_cap, LLMGWI_BASE_MAX_FD, sizeof *grown);
        if (!grown) return false;
        poller->watch = grown;
        memset(poller->watch + cap, 0, (poller->watch_cap - cap) * sizeof *poller->watch);
        cap = poller->watch_cap;
    }
    return true;
}

/* Watches fd for mask; tag comes back in ready. No system call when nothing changed. */
static bool llmgwi_base_poller_set(llmgwi_base_poller *poller, int fd, uint32_t tag, unsigned mask) {
    if (!llmgwi_base_poller_room(poller, fd)) return false;
    llmgwi_base_watch *watch = &poller->watch[fd];
    watch->idle = false;
    if (watch->known && watch->mask == mask && watch->tag == tag) return true;
    watch->mask = (unsigned char)mask;
    watch->tag = tag;
    if (!llmgwi_base_poller_control(poller, fd, watch)) {
        watch->mask = 0xFF; /* so that the next time tries again */
        return false;
    }
    watch->known = true;
    return true;
}

/* Nobody is interested in fd for now. The kernel may keep a socket of our own registered: its close will
   be reported. */
static void llmgwi_base_poller_rest(llmgwi_base_poller *poller, int fd) {
    if ((size_t)fd >= poller->watch_cap || !poller->watch[fd].known) return;
    if (poller->watch[fd].own && poller->watch[fd].mask == LLMGWI_BASE_READ) {
        poller->watch[fd].idle = true;
        return;
    }
    llmgwi_base_poller_remove(poller, fd);
    poller->watch[fd].known = poller->watch[fd].idle = false;
}

/* Closes a socket of poller_socket. */
static int llmgwi_base_poller_forget(llmgwi_base_poller *poller, int fd) {
    if (fd >= 0 && (size_t)fd < poller->watch_cap) {
        /* also with epoll: a forked child may hold the socket open, and the kernel its registration */
        if (poller->watch[fd].known) llmgwi_base_poller_remove(poller, fd);
        poller->watch[fd].known = poller->watch[fd].idle = poller->watch[fd].own = false;
    }
    return close(fd);
}

/* A socket that no child process inherits through exec. */
static int llmgwi_base_poller_socket(llmgwi_base_poller *poller, int family, int type, int protocol) {
    int fd = socket(family, type, protocol);
    if (fd < 0) return fd;
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (llmgwi_base_poller_room(poller, fd)) {
        poller->watch[fd].own = true;
        return fd;
    }
    close(fd);
    errno = ENOMEM;
    return -1;
}

/* ------------------------------------------------------------------------------------------- */
/* >>text   purpose: UTF-8, sentence ends, the seam of a resumed text, an estimate of tokens.    */
/*          uses: nothing   guarantees: pure, no allocation, linear time                         */
/* ------------------------------------------------------------------------------------------- */

/* Writes code point (valid, no surrogate) as UTF-8; returns its length. */
static size_t llmgwi_text_encode(uint32_t point, char *out) {
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    size_t size = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    static const unsigned lead[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = size - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (point & 0x3F));
        point >>= 6;
    }
    out[0] = (char)(lead[size] | point);
    return size;
}

/* ---- sentence ends: a stream that is cut is resumed at the last one ---- */

#define LLMGWI_TEXT_SENTENCE 4096 /* bytes: a longer sentence ends at white space, too */
#define LLMGWI_TEXT_TOKEN 24      /* bytes looked back for an abbreviation; all in the lists are shorter */

/* What a character may be; several at once. Letters, digits and all else: 0. */
enum {
    LLMGWI_TEXT_SPACE = 1,
    LLMGWI_TEXT_DOT = 2,  /* ends a sentence unless a lower-case letter follows */
    LLMGWI_TEXT_BANG = 4, /* ends one whatever follows the white space */
    LLMGWI_TEXT_WIDE = 8, /* ends one without white space */
    LLMGWI_TEXT_CLOSER = 16,
    LLMGWI_TEXT_QUOTE = 32,
    LLMGWI_TEXT_OPENER = 64
};

typedef struct llmgwi_text_mark {
    uint16_t point;
    uint8_t is;
} llmgwi_text_mark;

/* Sorted by code point. Sums of the above: 48 closes a quote; 80 opens or closes; 112 is a quote that opens
   in one language and closes in another. */
static const llmgwi_text_mark llmgwi_text_marks[] = {
    {'\t', 1},     {'\n', 1},     {'\v', 1},     {'\f', 1},     {'\r', 1},    {' ', 1},     {'!', 4},
    {'"', 112},    {'\'', 112},   {'(', 64},     {')', 16},     {'*', 80},    {'-', 64},    {'.', 2},
    {'?', 4},      {'[', 64},     {']', 16},     {'_', 80},     {'{', 64},    {'}', 16},    {'~', 80},
    {0xA0, 1},     {0xA1, 64},    {0xAB, 112},   {0xBB, 112},   {0xBF, 64},   {0x589, 4},   {0x61F, 4},
    {0x6D4, 4},    {0x964, 4},    {0x965, 4},    {0x2002, 1},   {0x2003, 1},  {0x2004, 1},  {0x2005, 1},
    {0x2006, 1},   {0x2007, 1},   {0x2008, 1},   {0x2009, 1},   {0x200A, 1},  {0x2013, 64}, {0x2014, 64},
    {0x2018, 112}, {0x2019, 48},  {0x201A, 64},  {0x201C, 112}, {0x201D, 48}, {0x201E, 64}, {0x2026, 2},
    {0x202F, 1},   {0x2039, 112}, {0x203A, 112}, {0x203C, 4},   {0x2047, 4},  {0x2048, 4},  {0x2049, 4},
    {0x3000, 1},   {0x3002, 8},   {0x3008, 64},  {0x3009, 16},  {0x300A, 64}, {0x300B, 16}, {0x300C, 64},
    {0x300D, 48},  {0x300E, 64},  {0x300F, 48},  {0x3010, 64},  {0x3011, 16}, {0x3014, 64}, {0x3015, 16},
    {0xFF01, 8},   {0xFF08, 64},  {0xFF09, 16},  {0xFF1F, 8},   {0xFF3B, 64}, {0xFF3D, 16}, {0xFF61, 8},
    {0xFF62, 64},  {0xFF63, 48}};

/* The period of these is no end, whatever follows. A list's words stand between spaces. */
static const char llmgwi_text_never[] =
    " Mr Mrs Ms Mx Dr Prof Rev Hon Gen Col Capt Cpt Lt Sgt Maj Cmdr Cdr Adm Gov Sen Rep Pres Supt St Ste Mt "
    "Ft "
    "Messrs vs viz cf ca approx incl excl e.g i.e eg ie resp misc Mme Mmes Mlle Mlles MM Mgr Pr "
    "env p.ex c.-\xC3\xA0-d av apr bzw evtl ggf ggfs inkl exkl einschl vgl sog bspw zzgl zz d.h z.B u.a "
    "o.\xC3\xA4 u.\xC3\xA4 i.d.R s.o s.u v.a u.U Ph.D o.g z.T u.v.a i.d i.S.d Hr Fr Dipl Ing Mag Hrsg geb "
    "Sr Sra Sres Sras Srta Dra Ud Uds Vd Vds Lic p.ej ej Excmo Avda Gral D\xC3\xB1"
    "a ";

/* The period of these is no end before a digit: "No. 5", but "No. I will not." */
static const char llmgwi_text_counted[] =
    " no nos fig figs eq eqs ch sec sect vol vols p pp pg art op ref refs tab par al max min avg "
    "Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec jan f\xC3\xA9v avr juil d\xC3\xA9"
    "c nr abb abs anm aufl bd "
    "kap str tel ziff rn s \xC2\xA7 chap cap p\xC3\xA1g p\xC3\xA1gs n\xC3\xBAm n\xC3\xBAms tel\xC3\xA9"
    "f ver v rev ext apt Abt ";

/* Letters with periods that may end a sentence; all others are initials. */
static const char llmgwi_text_final[] = " a.m p.m A.M P.M J.-C n.e d.C a.C e.V o.J u.s.w ";

/* After a number and a period: a date or an ordinal of German. */
static const char llmgwi_text_ordinal[] =
    " Januar J\xC3\xA4nner Februar M\xC3\xA4rz April Mai Juni Juli August September Oktober November "
    "Dezember Jan Feb "
    "Apr Aug Sept Okt Nov Dez Jahrhundert Jahrhunderts Jahrtausend Klasse Platz Mal Auflage Kapitel Stock "
    "Etage Geburtstag Lebensjahr Jh Bundestag Weltkrieg Weltkriegs ";

typedef enum llmgwi_text_stage {
    LLMGWI_TEXT_NONE = 0,
    LLMGWI_TEXT_CLOSE, /* after a terminator: more of them, closing quotes, brackets, marks */
    LLMGWI_TEXT_REF,   /* in a reference: [12] */
    LLMGWI_TEXT_GAP,   /* white space came: what follows decides */
    LLMGWI_TEXT_AFTER, /* white space and ">>" came: closes in French, opens in German */
    LLMGWI_TEXT_WORD   /* in the word after a number and a period */
} llmgwi_text_stage;

typedef enum llmgwi_text_kind {
    LLMGWI_TEXT_PLAIN = 0,
    LLMGWI_TEXT_NEVER,
    LLMGWI_TEXT_COUNTED,
    LLMGWI_TEXT_NUMBER
} llmgwi_text_kind;

/* Offsets count from the beginning of the text. A character is looked at once, so that cuts do not matter. */
typedef struct llmgwi_text_sentences {
    size_t end;             /* after the last complete sentence, without the white space that follows */
    size_t at;              /* scanned up to here */
    size_t last;            /* after the last character that is no white space */
    size_t before;          /* last, as it was when this line began */
    size_t token;           /* where this word began, if in_token */
    size_t dot, mark, word; /* of what may be an end: its first terminator, its end; the word after it */
    size_t fence;           /* length of the fence of the code block we are in */
    size_t line_fence;      /* length of the fence that this line began with */
    size_t run, code;       /* length of this run of backticks; of the run that opened inline code */
    llmgwi_text_stage stage;
    llmgwi_text_kind kind;
    uint32_t fence_char, line_char;
    uint8_t terms;                     /* the kinds of its terminators */
    bool weak;                         /* a lower-case letter takes it back */
    bool in_token, blank, lead, block; /* of the line: nothing yet; only markers yet; ends at its newline */
    bool bare;                         /* nothing after the line's fence */
    bool quoting, unstarring;          /* inside ""; in the stars that close */
    size_t stars;                      /* that are open: 2 inside bold */
} llmgwi_text_sentences;

static void llmgwi_text_sentences_init(llmgwi_text_sentences *s) {
    memset(s, 0, sizeof *s);
    s->blank = s->lead = s->bare = true;
}

/* Decodes the character at p and returns its length; 0: the rest of it has not come. A byte that is not
   UTF-8 counts as U+FFFD. */
static size_t llmgwi_text_decode(const char *p, size_t n, bool whole, uint32_t *point) {
    static const uint8_t bits[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    unsigned char c = (unsigned char)*p;
    size_t need = c < 0xC2 || c > 0xF4 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    size_t size = llmgwi_base_char(p, n);
    *point = 0xFFFD;
    if (size == 0) return need > n && !whole ? 0 : 1;
    *point = c & bits[size];
    for (size_t i = 1; i < size; i++) *point = *point << 6 | ((unsigned char)p[i] & 0x3F);
    return size;
}

static bool llmgwi_text_alnum(uint32_t point) { return point - '0' < 10 || (point | 32) - 'a' < 26; }

static unsigned llmgwi_text_is(uint32_t point) {
    size_t low = 0, high = LLMGWI_BASE_COUNT(llmgwi_text_marks);
    if (llmgwi_text_alnum(point) || (point >= 0x3020 && point < 0xFF00) || point > 0xFFFF) return 0;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (llmgwi_text_marks[middle].point < point)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < LLMGWI_BASE_COUNT(llmgwi_text_marks) && llmgwi_text_marks[low].point == point;
    return found ? llmgwi_text_marks[low].is : 0;
}

typedef struct llmgwi_text_range {
    uint16_t first, last;
    uint16_t parity; /* 2: all; 0, 1: the even, the odd ones */
} llmgwi_text_range;

/* Lower case in Latin-1, Latin Extended-A, Greek, Cyrillic. */
static const llmgwi_text_range llmgwi_text_lower_ranges[] = {
    {'a', 'z', 2},     {0xDF, 0xF6, 2},   {0xF8, 0xFF, 2},   {0x100, 0x137, 1},
    {0x138, 0x148, 0}, {0x149, 0x177, 1}, {0x17A, 0x17E, 0}, {0x17F, 0x17F, 2},
    {0x390, 0x390, 2}, {0x3AC, 0x3CE, 2}, {0x430, 0x45F, 2}, {0x460, 0x481, 1},
    {0x48A, 0x4BF, 1}, {0x4C2, 0x4CE, 0}, {0x4CF, 0x4CF, 2}, {0x4D0, 0x52F, 1}};

static bool llmgwi_text_lower(uint32_t point) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_text_lower_ranges); i++) {
        const llmgwi_text_range *range = &llmgwi_text_lower_ranges[i];
        if (point >= range->first && point <= range->last)
            return range->parity == 2 || (point & 1) == range->parity;
    }
    return false;
}

static bool llmgwi_text_letter(uint32_t point) {
    return (point | 32) - 'a' < 26 ||
           (point >= 0xC0 && point != 0xD7 && point != 0xF7 && !llmgwi_text_is(point));
}

/* Chinese, Japanese and their like: no white space between words. */
static bool llmgwi_text_wide(uint32_t point) {
    return (point >= 0x2E80 && point < 0xD7B0) || (point >= 0xF900 && point < 0xFB00) ||
           (point >= 0xFF00 && point < 0xFFF0) || (point >= 0x20000 && point < 0x40000);
}

static bool llmgwi_text_in(char c, const char *set) { return c != 0 && strchr(set, c) != NULL; }

/* Is the word in the list, as it is or with a small first letter? */
static bool llmgwi_text_listed(llmgwi_base_str word, const char *list) {
    if (word.n == 0 || memchr(word.p, ' ', word.n)) return false;
    for (const char *p = list; (p = strchr(p, ' ')) != NULL;) {
        p++;
        bool first = *p && (*p == word.p[0] || *p == llmgwi_base_lower(word.p[0])); /* a word may hold NULs */
        if (first && strncmp(p + 1, word.p + 1, word.n - 1) == 0 && p[word.n] == ' ') return true;
    }
    return false;
}

/* The word that ends at dot, without what opens a quote or bracket before it; empty when it is too long to
   be an abbreviation. */
static llmgwi_base_str llmgwi_text_word_before(const char *p, size_t dot) {
    size_t begin = dot;
    while (begin > 0 && dot - begin <= LLMGWI_TEXT_TOKEN &&
           !llmgwi_text_in(p[begin - 1], " \t\r\n([{\"'*_,;"))
        begin--;
    llmgwi_base_str word = llmgwi_base_view(p + begin, dot - begin);
    if (word.n > LLMGWI_TEXT_TOKEN) word.n = 0;
    for (uint32_t point; word.n && (unsigned char)word.p[0] >= 0x80;) {
        size_t size = llmgwi_text_decode(word.p, word.n, true, &point);
        if (llmgwi_text_letter(point) || point == 0xA7) break; /* U+A7: the section sign */
        word.p += size;
        word.n -= size;
    }
    return word;
}

/* One letter, or some with periods or hyphens between: "J", "U.S", "J.-P", not "Ph.D". */
static bool llmgwi_text_initials(llmgwi_base_str word) {
    uint32_t point;
    size_t at = 0;
    while (at < word.n) {
        at += llmgwi_text_decode(word.p + at, word.n - at, true, &point);
        if (!llmgwi_text_letter(point) || llmgwi_text_wide(point)) return false;
        if (at == word.n) return true;
        if (word.p[at] != '.') return false;
        at += at + 1 < word.n && word.p[at + 1] == '-' ? 2 : 1;
    }
    return false;
}

static llmgwi_text_kind llmgwi_text_period(llmgwi_base_str word) {
    bool digits = word.n > 0 && word.n <= 2;
    for (size_t i = 0; i < word.n; i++) digits = digits && word.p[i] >= '0' && word.p[i] <= '9';
    if (digits) return LLMGWI_TEXT_NUMBER;
    if (llmgwi_text_listed(word, llmgwi_text_never)) return LLMGWI_TEXT_NEVER;
    if (llmgwi_text_initials(word) && !llmgwi_text_listed(word, llmgwi_text_final)) return LLMGWI_TEXT_NEVER;
    return llmgwi_text_listed(word, llmgwi_text_counted) ? LLMGWI_TEXT_COUNTED : LLMGWI_TEXT_PLAIN;
}

static void llmgwi_text_commit(llmgwi_text_sentences *s, size_t end) {
    if (end > s->end) s->end = end;
    s->stage = LLMGWI_TEXT_NONE;
}

/* ---- lines: lists, headings, tables, quotes, code ---- */

/* Numbers as "1", "1.2"; one letter; a small Roman number. */
static bool llmgwi_text_ordinal_marker(llmgwi_base_str word) {
    bool roman = word.n <= 4, number = true,
         letter = word.n == 1 && llmgwi_text_letter((unsigned char)word.p[0] & 0x7Fu);
    size_t first = 0; /* digits before the first period: a year is no marker */
    while (first < word.n && word.p[first] != '.') first++;
    for (size_t i = 0; i < word.n; i++) {
        number = number && (word.p[i] == '.' ? i > 0 : word.p[i] >= '0' && word.p[i] <= '9');
        roman = roman && llmgwi_text_in(word.p[i], "ivxIVX");
    }
    return letter || roman || (number && first <= 3);
}

/* Is this a marker of a list, heading, table or quote, which stands at the beginning of a line? */
static bool llmgwi_text_marker(llmgwi_base_str word) {
    if (word.n && (word.p[0] == '>' || word.p[0] == '|')) return true;
    if (word.n == 0 || word.n > 12) return false;
    if (llmgwi_base_is(word, "\xE2\x80\xA2") || llmgwi_base_is(word, "+")) return true;
    size_t same = 1;
    while (same < word.n && word.p[same] == word.p[0]) same++;
    if (same == word.n && word.p[0] == '#') return word.n <= 6;
    if (same == word.n && llmgwi_text_in(word.p[0], "-*")) return word.n != 2; /* a bullet, or a line */
    while (word.n && llmgwi_text_in(word.p[0], "*_(")) word.p++, word.n--;
    while (word.n && llmgwi_text_in(word.p[word.n - 1], "*_")) word.n--;
    if (word.n < 2 || !llmgwi_text_in(word.p[word.n - 1], ".)")) return false;
    return llmgwi_text_ordinal_marker(llmgwi_base_view(word.p, word.n - 1));
}

/* The first words of a line: a marker makes it a block, which ends what stood before it. */
static void llmgwi_text_lead(llmgwi_text_sentences *s, const char *p) {
    s->lead = llmgwi_text_marker(llmgwi_base_view(p + s->token, s->last - s->token));
    if (!s->lead || s->fence) return;
    if (!s->block) llmgwi_text_commit(s, s->before);
    s->block = true;
    s->stage = LLMGWI_TEXT_NONE; /* the period of "1." */
}

/* A run of backticks ended before the character at s->at. */
static void llmgwi_text_run_end(llmgwi_text_sentences *s) {
    bool fence = s->line_fence >= 3 || s->fence;
    if (s->run && !fence) s->code = s->code == 0 ? s->run : s->code == s->run ? 0 : s->code;
    s->run = 0;
}

/* Backticks and tildes: at the beginning of a line perhaps a fence, later inline code. */
static void llmgwi_text_ticks(llmgwi_text_sentences *s, uint32_t point) {
    bool tick = point == '`' || point == '~';
    if (s->lead && tick && s->token == s->at) {
        s->line_char = point;
        s->line_fence = 1;
    } else if (s->line_char && s->line_char == point && s->at == s->token + s->line_fence && s->lead) {
        s->line_fence++;
    } else if (s->line_char && (s->fence || (point == '`' && s->line_char == '`'))) {
        s->bare = false; /* text after a closing fence, or inline code that looks like an opening one */
    }
    if (point == '`') s->run++;
}

static bool llmgwi_text_fence_line(const llmgwi_text_sentences *s) {
    if (s->line_fence < 3 || !s->bare) return false;
    return !s->fence || (s->line_char == s->fence_char && s->line_fence >= s->fence);
}

static void llmgwi_text_newline(llmgwi_text_sentences *s) {
    bool fence = llmgwi_text_fence_line(s);
    if (s->blank || s->block || s->fence || fence) {
        llmgwi_text_commit(s, s->last);
        s->code = 0;
        s->quoting = s->unstarring = false;
        s->stars = 0;
    }
    if (fence) {
        s->fence_char = s->line_char;
        s->fence = s->fence ? 0 : s->line_fence;
    }
    s->before = s->last;
    s->line_fence = s->line_char = 0;
    s->blank = s->lead = s->bare = true;
    s->block = false;
}

/* ---- what may be an end ---- */

/* The word after "3." came to its end. */
static void llmgwi_text_word_end(llmgwi_text_sentences *s, const char *p) {
    if (llmgwi_text_listed(llmgwi_base_view(p + s->word, s->at - s->word), llmgwi_text_ordinal))
        s->stage = LLMGWI_TEXT_NONE;
    else
        llmgwi_text_commit(s, s->mark);
}

static void llmgwi_text_space(llmgwi_text_sentences *s, const char *p) {
    if (s->in_token && s->lead) llmgwi_text_lead(s, p);
    s->in_token = false;
    if (s->stage == LLMGWI_TEXT_CLOSE) {
        bool period = s->terms == LLMGWI_TEXT_DOT && p[s->dot] == '.';
        bool dots = period && s->mark > s->dot + 1 && p[s->dot + 1] == '.';
        s->kind =
            period && !dots ? llmgwi_text_period(llmgwi_text_word_before(p, s->dot)) : LLMGWI_TEXT_PLAIN;
        s->stage = LLMGWI_TEXT_GAP;
        if (s->terms & LLMGWI_TEXT_WIDE) llmgwi_text_commit(s, s->mark);
    } else if (s->stage == LLMGWI_TEXT_REF) {
        s->stage = LLMGWI_TEXT_NONE;
    } else if (s->stage == LLMGWI_TEXT_AFTER) {
        s->mark = s->last;
        s->weak = true;
        s->stage = LLMGWI_TEXT_GAP;
    } else if (s->stage == LLMGWI_TEXT_WORD) {
        llmgwi_text_word_end(s, p);
    }
    if (s->last > s->end + LLMGWI_TEXT_SENTENCE) llmgwi_text_commit(s, s->last);
}

/* The first character after the gap that says something. */
static void llmgwi_text_decide(llmgwi_text_sentences *s, uint32_t point, unsigned is) {
    bool digit = point - '0' < 10;
    if (is & LLMGWI_TEXT_OPENER) {
        bool angle = point == 0xBB || point == 0x203A;
        s->stage = angle ? LLMGWI_TEXT_AFTER : LLMGWI_TEXT_GAP;
        return;
    }
    s->word = s->at;
    if ((s->weak && llmgwi_text_lower(point)) || s->kind == LLMGWI_TEXT_NEVER ||
        (digit && s->kind != LLMGWI_TEXT_PLAIN))
        s->stage = LLMGWI_TEXT_NONE;
    else if (s->kind == LLMGWI_TEXT_NUMBER && llmgwi_text_letter(point))
        s->stage = LLMGWI_TEXT_WORD;
    else
        llmgwi_text_commit(s, s->mark);
}

/* After a wide terminator white space says nothing: a mark that also opens closes only what is open. */
static bool llmgwi_text_closes(const llmgwi_text_sentences *s, const char *p, uint32_t point, unsigned is) {
    if (!(is & LLMGWI_TEXT_CLOSER)) return false;
    if (!(s->terms & LLMGWI_TEXT_WIDE) || !(is & LLMGWI_TEXT_OPENER)) return true;
    if (point == '*') return s->stars > 0 && (s->unstarring || p[s->at - 1] != '*');
    return point == '"' && s->quoting;
}

/* Does the character at s->at still belong to the end? */
static bool llmgwi_text_extend(llmgwi_text_sentences *s, const char *p, uint32_t point, unsigned is) {
    unsigned terms = is & (LLMGWI_TEXT_DOT | LLMGWI_TEXT_BANG | LLMGWI_TEXT_WIDE);
    if (s->stage == LLMGWI_TEXT_REF) {
        if (point == ']') s->stage = LLMGWI_TEXT_CLOSE;
        return point == ']' || point - '0' < 10 || point == ',' || point == '-' || point == '^';
    }
    if (point == '[') s->stage = LLMGWI_TEXT_REF;
    if (is & LLMGWI_TEXT_QUOTE) s->weak = true;
    if (terms & LLMGWI_TEXT_BANG) s->weak = false;
    s->terms = (uint8_t)(s->terms | terms);
    return point == '[' || terms || llmgwi_text_closes(s, p, point, is);
}

/* Something else follows a terminator, without white space. */
static void llmgwi_text_broken(llmgwi_text_sentences *s, uint32_t point) {
    bool wide = llmgwi_text_wide(point) && (s->terms & LLMGWI_TEXT_BANG);
    if (wide || (s->terms & LLMGWI_TEXT_WIDE))
        llmgwi_text_commit(s, s->mark);
    else
        s->stage = LLMGWI_TEXT_NONE;
}

/* Stars that follow a word close what stars opened, as many as those were. */
static void llmgwi_text_star(llmgwi_text_sentences *s, const char *p) {
    if (s->stars && p[s->at - 1] != '*') s->unstarring = true;
    s->stars = s->unstarring ? s->stars - 1 : s->stars + 1;
    if (s->stars == 0) s->unstarring = false;
}

/* A visible character in prose. */
static void llmgwi_text_prose(llmgwi_text_sentences *s, const char *p, uint32_t point, size_t size) {
    unsigned is = llmgwi_text_is(point);
    if (s->stage == LLMGWI_TEXT_WORD && !llmgwi_text_letter(point)) llmgwi_text_word_end(s, p);
    if (s->stage == LLMGWI_TEXT_CLOSE || s->stage == LLMGWI_TEXT_REF) {
        if (!llmgwi_text_extend(s, p, point, is))
            llmgwi_text_broken(s, point);
        else if (s->stage == LLMGWI_TEXT_CLOSE)
            s->mark = s->at + size;
    } else if (s->stage == LLMGWI_TEXT_GAP || s->stage == LLMGWI_TEXT_AFTER) {
        llmgwi_text_decide(s, point, is);
    }
    unsigned terms = is & (LLMGWI_TEXT_DOT | LLMGWI_TEXT_BANG | LLMGWI_TEXT_WIDE);
    if (s->stage == LLMGWI_TEXT_NONE && terms) {
        s->stage = LLMGWI_TEXT_CLOSE;
        s->terms = (uint8_t)terms;
        s->weak = (terms & LLMGWI_TEXT_DOT) || s->last < s->at; /* "Yes ? no": white space before it */
        s->dot = s->at;
        s->mark = s->at + size;
    }
    if (point == '"') s->quoting = !s->quoting;
    if (point == '*') llmgwi_text_star(s, p);
}

static void llmgwi_text_visible(llmgwi_text_sentences *s, const char *p, uint32_t point, size_t size) {
    if (!s->in_token) s->token = s->at;
    s->in_token = true;
    s->blank = false;
    llmgwi_text_ticks(s, point);
    if (!s->fence && !s->code && s->line_fence < 3) llmgwi_text_prose(s, p, point, size);
    s->last = s->at + size;
}

/* No more will come: white space follows, as it were. A line or paragraph without its newline is no end. */
static void llmgwi_text_finish(llmgwi_text_sentences *s, const char *p) {
    if (s->fence && llmgwi_text_fence_line(s)) llmgwi_text_commit(s, s->last);
    if (s->stage == LLMGWI_TEXT_CLOSE) llmgwi_text_commit(s, s->mark);
    if (s->stage == LLMGWI_TEXT_AFTER) s->mark = s->last;
    if (s->stage == LLMGWI_TEXT_WORD) llmgwi_text_word_end(s, p);
    bool undecided = s->stage == LLMGWI_TEXT_GAP || s->stage == LLMGWI_TEXT_AFTER;
    if (undecided && (s->kind != LLMGWI_TEXT_NEVER || s->last == s->mark)) llmgwi_text_commit(s, s->mark);
}

/* p[0..n) is all text so far; it grows, and what was there does not change. whole: no more will come.
   Returns s->end, which depends on the text only, not on how it was cut. */
static size_t llmgwi_text_sentences_feed(llmgwi_text_sentences *s, const char *p, size_t n, bool whole) {
    uint32_t point;
    for (size_t size; s->at < n; s->at += size) {
        size = llmgwi_text_decode(p + s->at, n - s->at, whole, &point);
        if (size == 0) return s->end;
        if (point != '`') llmgwi_text_run_end(s);
        if (llmgwi_text_is(point) & LLMGWI_TEXT_SPACE) {
            llmgwi_text_space(s, p);
            if (point == '\n') llmgwi_text_newline(s);
        } else {
            llmgwi_text_visible(s, p, point, size);
        }
    }
    if (whole) llmgwi_text_finish(s, p);
    return s->end;
}

/* ---- the seam: a model that was asked to go on may first repeat some of what it had said ---- */

#define LLMGWI_TEXT_SEAM 2048     /* bytes of the old text's end, and of the new one, that are compared */
#define LLMGWI_TEXT_SEAM_LEAST 16 /* bytes: less may be chance */
#define LLMGWI_TEXT_SEAM_ALL 8    /* bytes of an old text that is repeated from its beginning */
#define LLMGWI_TEXT_SEAM_RECENT ((size_t)64 << 10)

/* White space at the beginning; a character that has come in part may be some, too. */
static size_t llmgwi_text_seam_space(const char *p, size_t n, bool whole) {
    uint32_t point;
    size_t at = 0;
    while (at < n) {
        size_t size = llmgwi_text_decode(p + at, n - at, whole, &point);
        if (size == 0) return n;
        if (!(llmgwi_text_is(point) & LLMGWI_TEXT_SPACE)) break;
        at += size;
    }
    return at;
}

/* Decodes the character that ends before at and returns its length; 0: none. A byte that is not UTF-8 counts
   as U+FFFD. */
static size_t llmgwi_text_decode_back(const char *p, size_t at, uint32_t *point) {
    for (size_t size = 1; size <= 4 && size <= at; size++)
        if (llmgwi_text_decode(p + at - size, size, true, point) == size && (size > 1 || *point < 0x80))
            return size;
    *point = 0xFFFD;
    return at ? 1 : 0;
}

static bool llmgwi_text_in_word(uint32_t point) {
    return llmgwi_text_alnum(point) || (llmgwi_text_letter(point) && !llmgwi_text_wide(point));
}

/* May an overlap begin at k[at]? At the beginning of a character, not inside a word. */
static bool llmgwi_text_seam_boundary(const char *k, size_t kn, size_t at) {
    uint32_t point, before;
    if (at == 0) return true;
    if (((unsigned char)k[at] & 0xC0) == 0x80) return false;
    (void)llmgwi_text_decode(k + at, kn - at, true, &point);
    (void)llmgwi_text_decode_back(k, at, &before);
    return !llmgwi_text_in_word(point) || !llmgwi_text_in_word(before);
}

/* z[i]: how many bytes from n[i] on equal those from n[0] on. */
static void llmgwi_text_seam_z(const char *n, size_t count, uint16_t *z) {
    size_t left = 0, right = 0;
    z[0] = (uint16_t)count;
    for (size_t i = 1; i < count; i++) {
        size_t same = i < right ? z[i - left] : 0;
        if (i < right && same > right - i) same = right - i;
        while (i + same < count && n[same] == n[i + same]) same++;
        z[i] = (uint16_t)same;
        if (i + same > right) left = i, right = i + same;
    }
}

/* The new text n[0..nn), which begins with no white space, against each tail of k that is short enough, the
   longest first. Linear: each byte of k is matched once, by the z of n. */
static size_t llmgwi_text_seam_tail(const char *k, size_t kn, const char *n, size_t nn, bool whole) {
    uint16_t z[LLMGWI_TEXT_SEAM];
    size_t left = 0, right = 0, count = nn < LLMGWI_TEXT_SEAM ? nn : LLMGWI_TEXT_SEAM;
    size_t begin = kn > LLMGWI_TEXT_SEAM ? kn - LLMGWI_TEXT_SEAM : 0;
    if (count) llmgwi_text_seam_z(n, count, z);
    for (size_t i = begin; i + (i ? LLMGWI_TEXT_SEAM_LEAST : LLMGWI_TEXT_SEAM_ALL) <= kn; i++) {
        size_t same = i < right && count ? z[i - left] : 0;
        if (i < right && same > right - i) same = right - i;
        while (same < count && i + same < kn && n[same] == k[i + same]) same++;
        if (i + same > right) left = i, right = i + same;
        bool repeats = i + same == kn, may = same == count && !whole;
        if ((repeats || may) && llmgwi_text_seam_boundary(k, kn, i)) return repeats ? same : SIZE_MAX;
    }
    return 0;
}

/* Does n repeat all of k, which is longer than the window above? 0: no. While n is shorter, only its beginning
   and what came lately are compared: a long text in many pieces costs each byte a bounded time. */
static size_t llmgwi_text_seam_all(const char *k, size_t kn, const char *n, size_t nn, bool whole) {
    size_t old = nn > LLMGWI_TEXT_SEAM_RECENT ? nn - LLMGWI_TEXT_SEAM_RECENT : 0;
    size_t head = old < LLMGWI_TEXT_SEAM ? old : LLMGWI_TEXT_SEAM;
    if (nn >= kn) return memcmp(k, n, kn) == 0 ? kn : 0;
    if (whole || memcmp(k, n, head) != 0 || memcmp(k + old, n + old, nn - old) != 0) return 0;
    return SIZE_MAX;
}

/* How many bytes of n[0..nn), white space at its beginning included, repeat the end of k[0..kn) and are to be
   dropped; SIZE_MAX: more of n must come to know. whole: no more will. White space at the end of k need not
   be repeated. An overlap has at least 16 bytes and at most 2,048, or it is all of k and has at least 8. */
static size_t llmgwi_text_seam(const char *k, size_t kn, const char *n, size_t nn, bool whole) {
    size_t skip = llmgwi_text_seam_space(n, nn, whole), first = llmgwi_text_seam_space(k, kn, true), drop = 0;
    uint32_t point;
    for (size_t size; kn > first; kn -= size) {
        size = llmgwi_text_decode_back(k, kn, &point);
        if (!(llmgwi_text_is(point) & LLMGWI_TEXT_SPACE)) break;
    }
    k += first;
    kn -= first;
    n += skip;
    nn -= skip;
    if (kn > LLMGWI_TEXT_SEAM) drop = llmgwi_text_seam_all(k, kn, n, nn, whole);
    if (drop == 0) drop = llmgwi_text_seam_tail(k, kn, n, nn, whole);
    return drop && drop != SIZE_MAX ? skip + drop : drop;
}

/* ---- an estimate of tokens: the pieces that o200k_base cuts a text into, and what a piece of its kind and
   length cost on average in English, code, JSON and Chinese (measured; tests/test_text.c has samples) ---- */

#define LLMGWI_TEXT_PIECES 14 /* letters; longer pieces cost LLMGWI_TEXT_MORE for each further one */
#define LLMGWI_TEXT_MORE 25

/* Hundredths of a token: [small letters, Capitalised, CAPITALS][after a space, else][letters - 1]. */
static const uint16_t llmgwi_text_costs[3][2][LLMGWI_TEXT_PIECES] = {
    {{100, 100, 101, 101, 104, 106, 109, 112, 116, 120, 125, 130, 138, 150},
     {103, 108, 118, 116, 128, 132, 148, 165, 185, 220, 215, 240, 260, 280}},
    {{100, 101, 102, 104, 108, 118, 126, 136, 150, 165, 180, 195, 210, 230},
     {102, 122, 138, 130, 135, 140, 150, 170, 190, 215, 230, 260, 280, 310}},
    {{100, 104, 117, 143, 190, 175, 225, 215, 250, 260, 300, 320, 340, 360},
     {105, 115, 150, 150, 215, 190, 280, 250, 330, 330, 400, 430, 450, 460}}};

/* Letters beyond ASCII: a run of n costs base + n * each, at least 100; glued: more if no space stands before
   it, or (Chinese, Japanese) if one does. */
typedef struct llmgwi_text_script {
    uint16_t first, last;
    uint8_t base, each, glued, spaced;
} llmgwi_text_script;

static const llmgwi_text_script llmgwi_text_scripts[] = {
    {0xAA, 0x36F, 40, 28, 20, 0},     /* Latin; ASCII letters of the word count, too */
    {0x370, 0x3FF, 0, 38, 60, 0},     /* Greek */
    {0x400, 0x58F, 46, 18, 60, 0},    /* Cyrillic, Armenian */
    {0x590, 0x8FF, 56, 22, 60, 0},    /* Hebrew, Arabic */
    {0x900, 0x97F, 0, 34, 40, 0},     /* Devanagari */
    {0x980, 0xDFF, 0, 45, 40, 0},     /* other Indian scripts */
    {0xE00, 0x1FFF, 0, 50, 30, 0},    /* Thai, Georgian and others */
    {0x3041, 0x30FF, 0, 62, 0, 60},   /* Kana */
    {0x3400, 0x9FFF, 30, 69, 0, 60},  /* Han */
    {0xAC00, 0xD7AF, 50, 50, 40, 0}}; /* Hangul */

typedef struct llmgwi_text_count {
    const char *p;
    size_t n, at;
    int64_t cost;    /* hundredths of a token */
    unsigned before; /* of the piece to come: 0 nothing, 1 a space, 2 a mark */
} llmgwi_text_count;

static const llmgwi_text_script *llmgwi_text_script_of(uint32_t point) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_text_scripts); i++)
        if (point >= llmgwi_text_scripts[i].first && point <= llmgwi_text_scripts[i].last)
            return llmgwi_text_is(point) ? NULL : &llmgwi_text_scripts[i];
    return NULL;
}

static size_t llmgwi_text_count_ascii(const llmgwi_text_count *c, char first, size_t at) {
    size_t begin = at;
    while (at < c->n && (unsigned char)(c->p[at] - first) < 26) at++;
    return at - begin;
}

/* Letters beyond ASCII of one script; Latin ones with the ASCII letters around. small: ASCII letters that
   stand before. */
static void llmgwi_text_count_script(llmgwi_text_count *c, const llmgwi_text_script *script, int64_t small) {
    int64_t letters = small, cost;
    uint32_t point;
    while (c->at < c->n) {
        size_t size = llmgwi_text_decode(c->p + c->at, c->n - c->at, true, &point);
        bool ascii = script == llmgwi_text_scripts && point - 'a' < 26;
        if (!ascii && llmgwi_text_script_of(point) != script) break;
        c->at += size;
        letters++;
    }
    cost = script->base + letters * script->each;
    c->cost += (cost < 100 ? 100 : cost) + (c->before == 1 ? script->spaced : script->glued);
    if (c->before == 2 && script->spaced) c->cost += script->spaced;
}

/* Capitals, then small letters: "HTTPServer" is one piece, "getName" two. */
static void llmgwi_text_count_word(llmgwi_text_count *c) {
    size_t capitals = llmgwi_text_count_ascii(c, 'A', c->at);
    size_t small = llmgwi_text_count_ascii(c, 'a', c->at + capitals), letters = capitals + small;
    uint32_t point;
    c->at += letters;
    if (c->at < c->n && (unsigned char)c->p[c->at] >= 0x80) {
        (void)llmgwi_text_decode(c->p + c->at, c->n - c->at, true, &point);
        const llmgwi_text_script *script = llmgwi_text_script_of(point);
        if (script && (letters == 0 || script == llmgwi_text_scripts)) {
            llmgwi_text_count_script(c, script, (int64_t)letters);
            return;
        }
    }
    unsigned kind = capitals == 0 ? 0 : capitals == 1 && small ? 1 : 2;
    size_t row = letters < LLMGWI_TEXT_PIECES ? letters : LLMGWI_TEXT_PIECES;
    c->cost += llmgwi_text_costs[kind][c->before != 1][row - 1] + (int64_t)(letters - row) * LLMGWI_TEXT_MORE;
}

/* White space up to its last newline is one token; the last space of what is left joins the next piece. */
static void llmgwi_text_count_space(llmgwi_text_count *c) {
    size_t begin = c->at, line = c->at;
    for (; c->at < c->n && llmgwi_text_in(c->p[c->at], " \t\r\n"); c->at++)
        if (c->p[c->at] == '\n') line = c->at + 1;
    size_t rest = c->at - line;
    bool digit = c->at < c->n && (unsigned char)(c->p[c->at] - '0') < 10;
    bool joins = rest && c->at < c->n && !digit && c->p[c->at - 1] == ' ';
    c->cost += (line > begin ? 100 : 0) + (rest > 1 || (rest && !joins) ? 100 : 0);
    if (digit && rest > 1) c->cost += 100;
    c->before = joins ? 1 : 0;
}

/* Does a letter stand at c->at? */
static bool llmgwi_text_count_letter(const llmgwi_text_count *c, size_t at) {
    uint32_t point;
    if (at >= c->n) return false;
    (void)llmgwi_text_decode(c->p + at, c->n - at, true, &point);
    return (point | 32) - 'a' < 26 || llmgwi_text_script_of(point);
}

/* Marks: one of them alone joins a word that follows, newlines join them. Up to four in a row are mostly one
   token, and so are 16 that are equal. */
static void llmgwi_text_count_marks(llmgwi_text_count *c) {
    int64_t marks = 0, turns = 0, wide = 0;
    uint32_t point, last = 0;
    while (c->at < c->n && !llmgwi_text_in(c->p[c->at], " \t\r\n")) {
        size_t size = llmgwi_text_decode(c->p + c->at, c->n - c->at, true, &point);
        if (llmgwi_text_alnum(point) || (point >= 0x80 && llmgwi_text_script_of(point))) break;
        turns += point != last || marks % 16 == 0;
        wide += point > 0xFFFF ? 2 : point >= 0x2000 && !llmgwi_text_is(point);
        last = point;
        c->at += size;
        marks++;
    }
    if (marks == 1 && c->before == 0 && !wide && llmgwi_text_count_letter(c, c->at)) {
        c->before = 2;
        return;
    }
    c->cost += 100 + (turns > 2 ? (turns - 2) * 10 : 0) + (turns > 4 ? (turns - 4) * 40 : 0);
    if (wide > 1) c->cost += (wide - 1) * 80;
    while (c->at < c->n && marks && llmgwi_text_in(c->p[c->at], "\r\n")) c->at++;
    c->before = 0;
}

/* About how many tokens this text is for the tokenizers of today's models. */
static int64_t llmgwi_text_tokens(const char *p, size_t n) {
    llmgwi_text_count count;
    memset(&count, 0, sizeof count);
    count.p = p;
    count.n = n;
    while (count.at < n) {
        size_t digits = 0, begin = count.at;
        for (; count.at < n && (unsigned char)(p[count.at] - '0') < 10; digits++) count.at++;
        count.cost += (int64_t)((digits + 2) / 3) * 100;
        if (count.at > begin) {
            count.before = 0;
        } else if (llmgwi_text_in(p[count.at], " \t\r\n")) {
            llmgwi_text_count_space(&count);
        } else if (llmgwi_text_count_letter(&count, count.at)) {
            llmgwi_text_count_word(&count);
            count.before = 0;
        } else {
            llmgwi_text_count_marks(&count);
        }
    }
    return n && count.cost < 100 ? 1 : (count.cost + 50) / 100;
}

/* ------------------------------------------------------------------------------------------- */
/* >>json   purpose: read and write RFC 8259.   uses: text                                      */
/*          guarantees: the reader is strict (UTF-8 checked, depth capped, every byte of the     */
/*          document is validated once), never allocates, and names the offset of an error;      */
/*          members come in the order of the text, duplicates too: who assigns keeps the last     */
/* ------------------------------------------------------------------------------------------- */

typedef enum llmgwi_json_kind {
    LLMGWI_JSON_NONE = 0, /* end of text, or no value starts here */
    LLMGWI_JSON_OBJECT,
    LLMGWI_JSON_ARRAY,
    LLMGWI_JSON_STRING,
    LLMGWI_JSON_NUMBER,
    LLMGWI_JSON_TRUE,
    LLMGWI_JSON_FALSE,
    LLMGWI_JSON_NULL
} llmgwi_json_kind;

#define LLMGWI_JSON_MAX_DEPTH 1024
#define LLMGWI_JSON_KEY 64
#define LLMGWI_JSON_NUMBER_BYTES 1024

/* A cursor. Walk: object(), then while (member()) read or ignore the value; array(), while (item()).
   A value that is not read is skipped, and validated, by the next member() or item(). After an error
   everything answers false. */
typedef struct llmgwi_json {
    const char *start, *p, *end;
    const char *error; /* static text, NULL: none */
    size_t error_at;
    const char *block, *block_end; /* the stretch that mask describes */
    uint64_t mask;                 /* llmgwi_base_plain_mask of block */
    int depth, max_depth;
    bool fresh;                /* just entered a container: no comma yet */
    bool pending;              /* a value stands here, unread */
    char key[LLMGWI_JSON_KEY]; /* a key that had escapes, decoded */
} llmgwi_json;

/* A string as it stands between its quotes. */
typedef struct llmgwi_json_text {
    llmgwi_base_str raw;
    bool escaped; /* has backslashes: decode it */
} llmgwi_json_text;

typedef struct llmgwi_json_number {
    llmgwi_base_str raw;
    bool integer; /* i holds it exactly */
    int64_t i;
    double d;
} llmgwi_json_number;

static void llmgwi_json_init(llmgwi_json *json, const char *p, size_t n, int max_depth) {
    json->start = json->p = p;
    json->end = p + n;
    json->block = json->block_end = p;
    json->mask = 0;
    json->error = NULL;
    json->error_at = 0;
    json->depth = 0;
    json->max_depth = max_depth < LLMGWI_JSON_MAX_DEPTH ? max_depth : LLMGWI_JSON_MAX_DEPTH;
    json->fresh = false;
    json->pending = true;
}

static bool llmgwi_json_fail(llmgwi_json *json, const char *error) {
    if (!json->error) {
        json->error = error;
        json->error_at = (size_t)(json->p - json->start);
    }
    return false;
}

static LLMGWI_BASE_COLD void llmgwi_json_space_run(llmgwi_json *json) {
    while (json->p < json->end && (unsigned char)*json->p <= ' ') {
        if (*json->p != ' ' && *json->p != '\n' && *json->p != '\r' && *json->p != '\t') return;
        json->p++;
    }
}

static LLMGWI_BASE_HOT void llmgwi_json_space(llmgwi_json *json) {
    if (json->p < json->end && (unsigned char)*json->p <= ' ') llmgwi_json_space_run(json);
}

static LLMGWI_BASE_HOT llmgwi_json_kind llmgwi_json_peek(llmgwi_json *json) {
    if (json->error) return LLMGWI_JSON_NONE;
    llmgwi_json_space(json);
    if (json->p == json->end) return LLMGWI_JSON_NONE;
    switch (*json->p) {
    case '{': return LLMGWI_JSON_OBJECT;
    case '[': return LLMGWI_JSON_ARRAY;
    case '"': return LLMGWI_JSON_STRING;
    case 't': return LLMGWI_JSON_TRUE;
    case 'f': return LLMGWI_JSON_FALSE;
    case 'n': return LLMGWI_JSON_NULL;
    default:
        return *json->p == '-' || (*json->p >= '0' && *json->p <= '9') ? LLMGWI_JSON_NUMBER
                                                                       : LLMGWI_JSON_NONE;
    }
}

static int llmgwi_json_hex(const char *p, const char *end) {
    int value = 0;
    if (end - p < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char c = llmgwi_base_lower(p[i]);
        if (c >= '0' && c <= '9')
            value = value * 16 + (c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value * 16 + (c - 'a' + 10);
        else
            return -1;
    }
    return value;
}

/* One escape at json->p, which is at the backslash. */
static bool llmgwi_json_escape(llmgwi_json *json) {
    if (json->end - json->p < 2) return llmgwi_json_fail(json, "unterminated string");
    char c = json->p[1];
    if (c == 'u') {
        if (llmgwi_json_hex(json->p + 2, json->end) < 0) return llmgwi_json_fail(json, "bad \\u escape");
        json->p += 6;
        return true;
    }
    if (!c || !strchr("\"\\/bfnrt", c)) return llmgwi_json_fail(json, "bad escape");
    json->p += 2;
    return true;
}

/* The rest of a string that begins at begin, from json->p on, where something is not plain. */
static LLMGWI_BASE_COLD bool llmgwi_json_scan_rest(llmgwi_json *json, llmgwi_json_text *out,
                                                   const char *begin) {
    while (json->p < json->end && *json->p != '"') {
        if (*json->p == '\\') {
            out->escaped = true;
            if (!llmgwi_json_escape(json)) return false;
        } else if ((unsigned char)*json->p < 0x20) {
            return llmgwi_json_fail(json, "control character in string");
        }
        while (json->p < json->end && (unsigned char)*json->p >= 0x80) {
            size_t size = llmgwi_base_char(json->p, (size_t)(json->end - json->p));
            if (!size) return llmgwi_json_fail(json, "bad UTF-8 in string");
            json->p += size;
        }
        json->p += llmgwi_base_plain_span(json->p, (size_t)(json->end - json->p));
    }
    if (json->p == json->end) return llmgwi_json_fail(json, "unterminated string");
    out->raw = llmgwi_base_view(begin, (size_t)(json->p - begin));
    json->p++;
    return true;
}

/* Looks at the next stretches. */
static LLMGWI_BASE_COLD const char *llmgwi_json_stop_next(llmgwi_json *json, const char *p) {
    for (size_t n; (n = (size_t)(json->end - p)) > 0; p = json->block_end) {
        bool tail = n < 64 && json->end - json->start >= 64; /* the last 64 bytes: no copy is needed */
        json->mask =
            tail ? llmgwi_base_plain_mask(json->end - 64, 64) >> (64 - n) : llmgwi_base_plain_mask(p, n);
        json->block = p;
        json->block_end = p + (n < 64 ? n : 64);
        if (json->mask) return p + __builtin_ctzll(json->mask);
    }
    return p;
}

/* The first byte from p on that cannot stand in a string as it is, or the end. By a mask of 64 bytes at a
   time: where one string ends then depends on the last one by a shift only, not by a load. */
static LLMGWI_BASE_HOT const char *llmgwi_json_stop(llmgwi_json *json, const char *p) {
    if (!LLMGWI_BASE_SSE2) return p + llmgwi_base_plain_span(p, (size_t)(json->end - p));
    if (p >= json->block_end) return llmgwi_json_stop_next(json, p);
    uint64_t mask = json->mask >> (p - json->block);
    return mask ? p + __builtin_ctzll(mask) : llmgwi_json_stop_next(json, json->block_end);
}

/* The string at json->p, if it is plain: its bounds come back in registers (through memory the copy of a
   view would wait for the two stores that made it). Else json->p is where it stops being plain. */
static LLMGWI_BASE_HOT bool llmgwi_json_scan_plain(llmgwi_json *json, const char **p, size_t *n) {
    const char *begin = json->p + 1;
    *p = begin;
    json->p = llmgwi_json_stop(json, begin);
    *n = (size_t)(json->p - begin);
    if (json->p == json->end || *json->p != '"') return false;
    json->p++;
    return true;
}

/* The string at json->p, which is at its opening quote; leaves it after the closing one. */
static LLMGWI_BASE_HOT bool llmgwi_json_scan(llmgwi_json *json, llmgwi_json_text *out) {
    const char *p;
    size_t n;
    bool plain = llmgwi_json_scan_plain(json, &p, &n);
    out->escaped = false;
    out->raw.p = p;
    out->raw.n = n;
    return plain || llmgwi_json_scan_rest(json, out, p);
}

/* Decodes into out, which has room for text.raw.n bytes (escapes only shrink); returns the length. A
   lone surrogate becomes U+FFFD. */
static size_t llmgwi_json_decode(llmgwi_json_text text, char *out) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *p = text.raw.p, *end = p + text.raw.n;
    char *o = out;
    while (p < end) {
        const char *slash = (const char *)memchr(p, '\\', (size_t)(end - p));
        size_t plain = (size_t)((slash ? slash : end) - p);
        memmove(o, p, plain);
        o += plain;
        p += plain;
        if (p == end) break;
        if (p[1] != 'u') {
            *o++ = to[strchr(from, p[1]) - from];
            p += 2;
            continue;
        }
        uint32_t point = (uint32_t)llmgwi_json_hex(p + 2, end);
        p += 6;
        if (point >= 0xD800 && point < 0xDC00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
            uint32_t low = (uint32_t)llmgwi_json_hex(p + 2, end);
            if (low >= 0xDC00 && low < 0xE000) {
                point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
                p += 6;
            }
        }
        if (point >= 0xD800 && point < 0xE000) point = 0xFFFD;
        o += llmgwi_text_encode(point, o);
    }
    return (size_t)(o - out);
}

/* Appends the decoded text. */
static bool llmgwi_json_unescape(llmgwi_json_text text, llmgwi_base_buf *buf) {
    if (!text.escaped) return llmgwi_base_buf_view(buf, text.raw);
    if (!llmgwi_base_buf_reserve(buf, text.raw.n)) return false;
    buf->n += llmgwi_json_decode(text, buf->p + buf->n);
    buf->p[buf->n] = 0;
    return true;
}

/* Is the decoded text equal to this (ASCII, under 64 bytes)? */
static bool llmgwi_json_is(llmgwi_json_text text, const char *want) {
    char small[LLMGWI_JSON_KEY * 6];
    if (!text.escaped) return llmgwi_base_is(text.raw, want);
    if (text.raw.n > sizeof small) return false;
    return llmgwi_base_is(llmgwi_base_view(small, llmgwi_json_decode(text, small)), want);
}

static bool llmgwi_json_digits(llmgwi_json *json) {
    const char *begin = json->p;
    while (json->p < json->end && *json->p >= '0' && *json->p <= '9') json->p++;
    return json->p > begin || llmgwi_json_fail(json, "bad number");
}

static bool llmgwi_json_scan_number(llmgwi_json *json, llmgwi_base_str *raw, bool *whole) {
    const char *begin = json->p;
    *whole = true;
    if (*json->p == '-') json->p++;
    if (json->p < json->end && *json->p == '0')
        json->p++;
    else if (!llmgwi_json_digits(json))
        return false;
    if (json->p < json->end && *json->p == '.') {
        *whole = false;
        json->p++;
        if (!llmgwi_json_digits(json)) return false;
    }
    if (json->p < json->end && (*json->p == 'e' || *json->p == 'E')) {
        *whole = false;
        json->p++;
        if (json->p < json->end && (*json->p == '+' || *json->p == '-')) json->p++;
        if (!llmgwi_json_digits(json)) return false;
    }
    *raw = llmgwi_base_view(begin, (size_t)(json->p - begin));
    return true;
}

static bool llmgwi_json_word(llmgwi_json *json, const char *word) {
    size_t n = strlen(word);
    if ((size_t)(json->end - json->p) < n || memcmp(json->p, word, n) != 0)
        return llmgwi_json_fail(json, "unknown word");
    json->p += n;
    return true;
}

static const char *const llmgwi_json_words[] = {NULL, NULL, NULL, NULL, NULL, "true", "false", "null"};

/* A string, number or word. */
static bool llmgwi_json_scalar(llmgwi_json *json, llmgwi_json_kind kind) {
    llmgwi_json_text text;
    llmgwi_base_str raw;
    bool whole;
    if (kind == LLMGWI_JSON_STRING) return llmgwi_json_scan(json, &text);
    if (kind == LLMGWI_JSON_NUMBER) return llmgwi_json_scan_number(json, &raw, &whole);
    if (kind == LLMGWI_JSON_NONE)
        return llmgwi_json_fail(json, json->p == json->end ? "unexpected end" : "expected a value");
    return llmgwi_json_word(json, llmgwi_json_words[kind]);
}

/* A key that is not plain, from json->p on. A longer one with escapes than 63 bytes stays raw: it
   matches no name we know. */
static LLMGWI_BASE_COLD bool llmgwi_json_scan_key_rest(llmgwi_json *json, llmgwi_base_str *key) {
    llmgwi_json_text text;
    text.escaped = false;
    if (!llmgwi_json_scan_rest(json, &text, key->p)) return false;
    key->n = text.raw.n;
    if (!text.escaped || text.raw.n >= sizeof json->key) return true;
    key->n = llmgwi_json_decode(text, json->key);
    key->p = json->key;
    return true;
}

/* A key and its colon. */
static LLMGWI_BASE_HOT bool llmgwi_json_scan_key(llmgwi_json *json, llmgwi_base_str *key) {
    const char *p;
    size_t n;
    llmgwi_json_space(json);
    if (json->p == json->end || *json->p != '"') return llmgwi_json_fail(json, "expected a string as key");
    bool plain = llmgwi_json_scan_plain(json, &p, &n);
    key->p = p;
    key->n = n;
    if (!plain && !llmgwi_json_scan_key_rest(json, key)) return false;
    llmgwi_json_space(json);
    if (json->p == json->end || *json->p != ':') return llmgwi_json_fail(json, "expected ':'");
    json->p++;
    return true;
}

static bool llmgwi_json_descend(llmgwi_json *json) {
    if (json->depth >= json->max_depth) return llmgwi_json_fail(json, "nested too deeply");
    json->depth++;
    json->p++;
    return true;
}

/* After a value inside a container (closer '}' or ']'): true if another follows. Closes it otherwise. */
static LLMGWI_BASE_HOT bool llmgwi_json_more(llmgwi_json *json, char closer, bool first) {
    llmgwi_json_space(json);
    if (json->p == json->end) return llmgwi_json_fail(json, "unexpected end");
    if (*json->p == closer) {
        json->p++;
        json->depth--;
        return false;
    }
    if (first) return true;
    if (*json->p != ',')
        return llmgwi_json_fail(json, closer == '}' ? "expected ',' or '}'" : "expected ',' or ']'");
    json->p++;
    return true;
}

/* Skips one value of any depth without recursion: bits remember whether a level is an object. */
static bool llmgwi_json_skip_value(llmgwi_json *json) {
    uint64_t objects[LLMGWI_JSON_MAX_DEPTH / 64 + 1];
    int base = json->depth;
    for (;;) {
        llmgwi_json_kind kind = llmgwi_json_peek(json);
        bool first = false;
        if (kind == LLMGWI_JSON_OBJECT || kind == LLMGWI_JSON_ARRAY) {
            if (!llmgwi_json_descend(json)) return false;
            uint64_t bit = (uint64_t)1 << (json->depth % 64);
            if (kind == LLMGWI_JSON_OBJECT)
                objects[json->depth / 64] |= bit;
            else
                objects[json->depth / 64] &= ~bit;
            first = true;
        } else if (!llmgwi_json_scalar(json, kind)) {
            return false;
        }
        for (;; first = false) { /* what follows a value: a sibling, or the end of its container */
            if (json->depth == base) return true;
            bool object = (objects[json->depth / 64] >> (json->depth % 64)) & 1;
            if (llmgwi_json_more(json, object ? '}' : ']', first)) {
                llmgwi_base_str key;
                if (object && !llmgwi_json_scan_key(json, &key)) return false;
                break;
            }
            if (json->error) return false;
        }
    }
}

/* Skips the value here; raw (may be NULL) is its text. */
static bool llmgwi_json_skip(llmgwi_json *json, llmgwi_base_str *raw) {
    if (json->error) return false;
    llmgwi_json_space(json);
    const char *begin = json->p;
    llmgwi_json_kind kind = llmgwi_json_peek(json);
    bool deep = kind == LLMGWI_JSON_OBJECT || kind == LLMGWI_JSON_ARRAY;
    json->pending = false;
    if (deep ? !llmgwi_json_skip_value(json) : !llmgwi_json_scalar(json, kind)) return false;
    json->fresh = false;
    if (raw) *raw = llmgwi_base_view(begin, (size_t)(json->p - begin));
    return true;
}

static bool llmgwi_json_enter(llmgwi_json *json, llmgwi_json_kind kind) {
    if (llmgwi_json_peek(json) != kind)
        return llmgwi_json_fail(json,
                                kind == LLMGWI_JSON_OBJECT ? "expected an object" : "expected an array");
    json->fresh = true;
    json->pending = false;
    return llmgwi_json_descend(json);
}

static bool llmgwi_json_object(llmgwi_json *json) { return llmgwi_json_enter(json, LLMGWI_JSON_OBJECT); }
static bool llmgwi_json_array(llmgwi_json *json) { return llmgwi_json_enter(json, LLMGWI_JSON_ARRAY); }

static LLMGWI_BASE_HOT bool llmgwi_json_next(llmgwi_json *json, char closer) {
    if (json->error) return false;
    bool first = json->fresh && !json->pending;
    if (json->pending) {
        llmgwi_json_text text; /* most values that nobody reads are plain strings */
        llmgwi_json_space(json);
        bool string = json->p < json->end && *json->p == '"';
        json->pending = false;
        if (string ? !llmgwi_json_scan(json, &text) : !llmgwi_json_skip(json, NULL)) return false;
    }
    json->fresh = false;
    return llmgwi_json_more(json, closer, first);
}

/* The next member's key, decoded. False after the last one, or on error. */
static bool llmgwi_json_member(llmgwi_json *json, llmgwi_base_str *key) {
    if (!llmgwi_json_next(json, '}') || !llmgwi_json_scan_key(json, key)) return false;
    return json->pending = true;
}

static bool llmgwi_json_item(llmgwi_json *json) {
    if (!llmgwi_json_next(json, ']')) return false;
    return json->pending = true;
}

/* Reads a string; anything else is an error. */
static bool llmgwi_json_string(llmgwi_json *json, llmgwi_json_text *out) {
    if (llmgwi_json_peek(json) != LLMGWI_JSON_STRING) return llmgwi_json_fail(json, "expected a string");
    json->pending = json->fresh = false;
    return llmgwi_json_scan(json, out);
}

/* Reads a string if one stands here; another value is skipped and leaves out empty. */
static bool llmgwi_json_maybe(llmgwi_json *json, llmgwi_json_text *out) {
    if (llmgwi_json_peek(json) == LLMGWI_JSON_STRING) return llmgwi_json_string(json, out);
    out->raw = llmgwi_base_view("", 0);
    out->escaped = false;
    return llmgwi_json_skip(json, NULL) && false;
}

static bool llmgwi_json_to_int(llmgwi_base_str raw, int64_t *out) {
    bool minus = raw.n && raw.p[0] == '-';
    uint64_t value = 0, limit = minus ? (uint64_t)1 << 63 : (uint64_t)INT64_MAX;
    for (size_t i = minus; i < raw.n; i++) {
        uint64_t digit = (uint64_t)(raw.p[i] - '0');
        if (value > (limit - digit) / 10) return false;
        value = value * 10 + digit;
    }
    *out = minus ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

/* The host may have set a locale with another decimal point: strtod would stop at ours. */
static double llmgwi_json_to_double(llmgwi_base_str raw) {
    char text[LLMGWI_JSON_NUMBER_BYTES + 1], point[8];
    snprintf(point, sizeof point, "%.1f", 0.5);
    memcpy(text, raw.p, raw.n);
    text[raw.n] = 0;
    char *dot = strchr(text, '.');
    if (dot) *dot = point[1];
    return strtod(text, NULL);
}

static bool llmgwi_json_get_number(llmgwi_json *json, llmgwi_json_number *out) {
    bool whole;
    memset(out, 0, sizeof *out);
    if (llmgwi_json_peek(json) != LLMGWI_JSON_NUMBER) return llmgwi_json_fail(json, "expected a number");
    json->pending = json->fresh = false;
    if (!llmgwi_json_scan_number(json, &out->raw, &whole)) return false;
    if (out->raw.n > LLMGWI_JSON_NUMBER_BYTES) return llmgwi_json_fail(json, "number too long");
    out->integer = whole && llmgwi_json_to_int(out->raw, &out->i);
    out->d = out->integer ? (double)out->i : llmgwi_json_to_double(out->raw);
    return true;
}

/* Reads a whole number >= 0 if one stands here (7 or 7.0), skips anything else. For counts that
   providers report. */
static bool llmgwi_json_count(llmgwi_json *json, int64_t *out) {
    llmgwi_base_str raw;
    bool whole;
    int64_t value;
    if (llmgwi_json_peek(json) != LLMGWI_JSON_NUMBER) return llmgwi_json_skip(json, NULL) && false;
    json->pending = json->fresh = false;
    if (!llmgwi_json_scan_number(json, &raw, &whole) || raw.n > LLMGWI_JSON_NUMBER_BYTES) return false;
    if (!whole || !llmgwi_json_to_int(raw, &value)) {
        double d = llmgwi_json_to_double(raw);
        value = d >= 0 && d < 9e15 ? (int64_t)d : -1;
    }
    if (value < 0 || value > (int64_t)9e15) return false; /* sums of several must fit, too */
    *out = value;
    return true;
}

/* After the whole document: nothing may follow but white space. False on any error. */
static bool llmgwi_json_end(llmgwi_json *json) {
    if (!json->error && json->pending) (void)llmgwi_json_skip(json, NULL);
    if (json->error) return false;
    llmgwi_json_space(json);
    if (json->p != json->end) return llmgwi_json_fail(json, "text after the value");
    return true;
}

/* Is this text one JSON value of this kind (NONE: any)? Fills at with the offset of an error. */
static const char *llmgwi_json_check(llmgwi_base_str text, llmgwi_json_kind kind, int max_depth, size_t *at) {
    llmgwi_json json;
    llmgwi_json_init(&json, text.p, text.n, max_depth);
    if (kind != LLMGWI_JSON_NONE && llmgwi_json_peek(&json) != kind)
        (void)llmgwi_json_fail(&json, kind == LLMGWI_JSON_OBJECT ? "expected an object" : "wrong type");
    (void)llmgwi_json_end(&json);
    if (at) *at = json.error_at;
    return json.error;
}

/* ---- writer: commas by itself; the caller pairs open and close ---- */

typedef struct llmgwi_json_out {
    llmgwi_base_buf *buf;
    bool comma;
} llmgwi_json_out;

static void llmgwi_json_sep(llmgwi_json_out *out) {
    if (out->comma) llmgwi_base_buf_add(out->buf, ",", 1);
    out->comma = true;
}

static void llmgwi_json_open(llmgwi_json_out *out, char bracket) {
    llmgwi_json_sep(out);
    llmgwi_base_buf_add(out->buf, &bracket, 1);
    out->comma = false;
}

static void llmgwi_json_close(llmgwi_json_out *out, char bracket) {
    llmgwi_base_buf_add(out->buf, &bracket, 1);
    out->comma = true;
}

static void llmgwi_json_raw(llmgwi_json_out *out, llmgwi_base_str raw) {
    llmgwi_json_sep(out);
    llmgwi_base_buf_view(out->buf, raw);
}

/* key is a plain literal. */
static void llmgwi_json_key(llmgwi_json_out *out, const char *key) {
    llmgwi_json_sep(out);
    llmgwi_base_buf_add(out->buf, "\"", 1);
    llmgwi_base_buf_text(out->buf, key);
    llmgwi_base_buf_add(out->buf, "\":", 2);
    out->comma = false;
}

/* One character below 0x20, a quote or a backslash; returns the end. out has room for 6 bytes. */
static LLMGWI_BASE_HOT char *llmgwi_json_put_escape(char *out, unsigned char c) {
    static const char hex[] = "0123456789abcdef", to[] = "uuuuuuuubtnufruuuuuuuuuuuuuuuuuu";
    out[0] = '\\';
    out[1] = c < 0x20 ? to[c] : (char)c;
    if (out[1] != 'u') return out + 2;
    out[2] = out[3] = '0';
    out[4] = hex[c >> 4];
    out[5] = hex[c & 15];
    return out + 6;
}

/* A block of 16 ASCII bytes; mask marks those to escape. Reads and writes up to 16 bytes beyond its end. */
static LLMGWI_BASE_HOT char *llmgwi_json_put_block(char *out, const char *p, unsigned mask) {
    const char *from = p;
    for (; mask; mask &= mask - 1) {
        const char *at = p + __builtin_ctz(mask);
        memcpy(out, from, 16);
        out = llmgwi_json_put_escape(out + (at - from), (unsigned char)*at);
        from = at + 1;
    }
    memcpy(out, from, 16);
    return out + (p + 16 - from);
}

/* A run of text up to and with its first escape; moves p on. False: bad UTF-8 at p. */
static LLMGWI_BASE_HOT bool llmgwi_json_put_run(char **out, const char **p, const char *end) {
    size_t run = llmgwi_base_plain_run(*p, (size_t)(end - *p), *out);
    *p += run;
    *out += run;
    for (size_t size; *p < end && (unsigned char)**p >= 0x80; *p += size, *out += size) {
        size = llmgwi_base_char(*p, (size_t)(end - *p));
        if (!size) return false;
        memcpy(*out, *p, size);
    }
    unsigned char c = *p < end ? (unsigned char)**p : 'x';
    if (c < 0x20 || c == '"' || c == '\\') {
        *out = llmgwi_json_put_escape(*out, c);
        ++*p;
    }
    return true;
}

#define LLMGWI_JSON_SLACK 128 /* a block of 16 escapes of 6 bytes, and 16 beyond */

/* As many blocks as there is room for; moves p on. True: it stopped at one that is not ASCII. Goes by blocks
   that do not wait for each other: an escape moves the output on, not the input. */
static LLMGWI_BASE_HOT bool llmgwi_json_put_blocks(char **out, const char *stop, const char **p,
                                                   const char *end) {
    bool high = false;
    while (end - *p >= 32 && stop - *out > end - *p + LLMGWI_JSON_SLACK) {
        unsigned mask = llmgwi_base_plain_block(*p, *out, &high);
        if (high) break;
        *out = mask ? llmgwi_json_put_block(*out, *p, mask) : *out + 16;
        *p += 16;
    }
    return high;
}

/* Appends text escaped, without quotes. Returns text.n, or the offset of bad UTF-8. */
static size_t llmgwi_json_put_escaped(llmgwi_base_buf *buf, llmgwi_base_str text) {
    const char *p = text.p, *end = p + text.n;
    bool good = true;
    while (good && p < end && llmgwi_base_buf_reserve_slack(buf, (size_t)(end - p), LLMGWI_JSON_SLACK)) {
        char *out = buf->p + buf->n;
        bool high = llmgwi_json_put_blocks(&out, buf->p + buf->cap, &p, end);
        if (high || end - p < 32) good = llmgwi_json_put_run(&out, &p, end);
        buf->n = (size_t)(out - buf->p);
        if (buf->n <= buf->max) continue;
        buf->n = buf->max;
        buf->failed = LLMGWI_BASE_OVER_CAP;
    }
    if (buf->p) buf->p[buf->n] = 0;
    return good ? text.n : (size_t)(p - text.p);
}

/* A string value. Returns text.n, or the offset of bad UTF-8 (then the output is unusable). */
static size_t llmgwi_json_put(llmgwi_json_out *out, llmgwi_base_str text) {
    llmgwi_json_sep(out);
    llmgwi_base_buf_add(out->buf, "\"", 1);
    size_t good = llmgwi_json_put_escaped(out->buf, text);
    llmgwi_base_buf_add(out->buf, "\"", 1);
    return good;
}

static void llmgwi_json_put_int(llmgwi_json_out *out, int64_t value) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    llmgwi_json_raw(out, llmgwi_base_cstr(text));
}

/* Finite. The shortest of 15 or 17 digits that reads back the same. */
static void llmgwi_json_put_double(llmgwi_json_out *out, double value) {
    char text[40];
    snprintf(text, sizeof text, "%.15g", value);
    if (strtod(text, NULL) != value) snprintf(text, sizeof text, "%.17g", value);
    for (char *p = text; *p; p++)
        if (!strchr("0123456789+-eE", *p)) *p = '.';
    llmgwi_json_raw(out, llmgwi_base_cstr(text));
}

/* Key and value in one. */
static void llmgwi_json_pair(llmgwi_json_out *out, const char *key, const char *value) {
    llmgwi_json_key(out, key);
    (void)llmgwi_json_put(out, llmgwi_base_cstr(value));
}

static void llmgwi_json_put_base64(llmgwi_base_buf *buf, const unsigned char *p, size_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (n > (SIZE_MAX / 8) * 3 || !llmgwi_base_buf_reserve(buf, (n + 2) / 3 * 4)) {
        if (!buf->failed) buf->failed = LLMGWI_BASE_OVER_CAP;
        return;
    }
    char *o = buf->p + buf->n;
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v =
            (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0u);
        *o++ = digits[v >> 18];
        *o++ = digits[(v >> 12) & 63];
        *o++ = i + 1 < n ? digits[(v >> 6) & 63] : '=';
        *o++ = i + 2 < n ? digits[v & 63] : '=';
    }
    buf->n = (size_t)(o - buf->p);
    *o = 0;
}

/* ------------------------------------------------------------------------------------------- */
/* >>frame   purpose: a stream of bytes to server-sent events (WHATWG HTML, 9.2.6).              */
/*           uses: nothing   guarantees: the same events for every way of cutting the same bytes; */
/*           an event within one piece is handed on without a copy; size capped                   */
/* ------------------------------------------------------------------------------------------- */

/* One event; false stops the feeding. Views live during the call. */
typedef bool (*llmgwi_frame_fn)(void *user, llmgwi_base_str name, llmgwi_base_str data);

typedef struct llmgwi_frame {
    llmgwi_frame_fn fn;
    void *user;
    llmgwi_base_buf line; /* the unfinished line at the end of the last piece */
    llmgwi_base_buf data; /* data of the event so far, when it had to be kept */
    char name[64];        /* of the event, cut to fit: we know no longer one */
    llmgwi_base_str view; /* data of the event so far, still in the piece */
    bool has_data;        /* data or view holds something (perhaps an empty line) */
    bool in_view;
    bool after_cr; /* swallow an LF */
    bool started;  /* past the byte order mark */
    bool stopped;  /* fn said so */
} llmgwi_frame;

static void llmgwi_frame_init(llmgwi_frame *frame, const llmgwi_base_mem *mem, size_t max_event,
                              llmgwi_frame_fn fn, void *user) {
    memset(frame, 0, sizeof *frame);
    llmgwi_base_buf_init(&frame->line, mem, max_event);
    llmgwi_base_buf_init(&frame->data, mem, max_event);
    frame->fn = fn;
    frame->user = user;
}

static void llmgwi_frame_free(llmgwi_frame *frame) {
    llmgwi_base_buf_free(&frame->line);
    llmgwi_base_buf_free(&frame->data);
}

/* Copies data that still stands in the piece. */
static bool llmgwi_frame_keep(llmgwi_frame *frame) {
    if (!frame->in_view) return true;
    frame->in_view = false;
    return llmgwi_base_buf_view(&frame->data, frame->view);
}

static bool llmgwi_frame_dispatch(llmgwi_frame *frame) {
    bool go = true;
    if (frame->has_data)
        go = frame->fn(frame->user, llmgwi_base_cstr(frame->name),
                       frame->in_view ? frame->view : llmgwi_base_buf_str(&frame->data));
    frame->name[0] = 0;
    frame->has_data = frame->in_view = false;
    if (frame->data.n) llmgwi_base_buf_clear(&frame->data);
    if (!go) frame->stopped = true;
    return go;
}

static bool llmgwi_frame_data(llmgwi_frame *frame, llmgwi_base_str value, bool stable) {
    if (!frame->has_data && stable) {
        frame->view = value;
        return frame->has_data = frame->in_view = true;
    }
    if (!llmgwi_frame_keep(frame)) return false;
    if (frame->has_data && !llmgwi_base_buf_add(&frame->data, "\n", 1)) return false;
    frame->has_data = true;
    return llmgwi_base_buf_view(&frame->data, value);
}

/* One line without its end. stable: it stands in the piece until feed returns. */
static bool llmgwi_frame_line(llmgwi_frame *frame, llmgwi_base_str line, bool stable) {
    if (line.n > frame->line.max) {
        frame->line.failed = LLMGWI_BASE_OVER_CAP;
        return false;
    }
    if (line.n == 0) return llmgwi_frame_dispatch(frame);
    const char *colon = (const char *)memchr(line.p, ':', line.n);
    llmgwi_base_str field = llmgwi_base_view(line.p, colon ? (size_t)(colon - line.p) : line.n);
    llmgwi_base_str value = llmgwi_base_view(line.p + line.n, 0);
    if (colon) value = llmgwi_base_view(colon + 1, line.n - field.n - 1);
    if (value.n && value.p[0] == ' ') value.p++, value.n--;
    if (llmgwi_base_is(field, "data")) return llmgwi_frame_data(frame, value, stable);
    if (llmgwi_base_is(field, "event"))
        llmgwi_base_copy_cut(frame->name, sizeof frame->name, value.p, value.n);
    return true;
}

/* The end of the line that starts at p, or NULL: CR or LF, whichever comes first. */
static const char *llmgwi_frame_eol(const char *p, const char *end) {
    const char *lf = (const char *)memchr(p, '\n', (size_t)(end - p));
    const char *cr = (const char *)memchr(p, '\r', (size_t)((lf ? lf : end) - p));
    return cr ? cr : lf;
}

/* Skips a byte order mark, which may come in pieces; true once past the place where one may stand. */
static bool llmgwi_frame_start(llmgwi_frame *frame, const char **p, const char *end) {
    static const char mark[] = "\xEF\xBB\xBF";
    while (frame->line.n < 3 && *p < end && **p == mark[frame->line.n])
        if (!llmgwi_base_buf_add(&frame->line, (*p)++, 1)) return false;
    if (frame->line.n < 3 && *p == end) return false;
    if (frame->line.n == 3) llmgwi_base_buf_clear(&frame->line);
    return frame->started = true;
}

/* Feeds n bytes. False: fn stopped it, or memory or the cap (line.failed, data.failed). */
static bool llmgwi_frame_feed(llmgwi_frame *frame, const char *p, size_t n) {
    const char *end = p + n;
    if (frame->stopped) return false;
    if (!frame->started && !llmgwi_frame_start(frame, &p, end)) return !frame->line.failed;
    while (p < end) {
        if (frame->after_cr && *p == '\n') {
            frame->after_cr = false;
            p++;
            continue;
        }
        frame->after_cr = false;
        const char *eol = llmgwi_frame_eol(p, end);
        if (!eol || frame->line.n) {
            if (!llmgwi_base_buf_add(&frame->line, p, (size_t)((eol ? eol : end) - p))) return false;
        }
        if (!eol) break;
        bool carried = frame->line.n > 0;
        llmgwi_base_str line =
            carried ? llmgwi_base_buf_str(&frame->line) : llmgwi_base_view(p, (size_t)(eol - p));
        if (!llmgwi_frame_line(frame, line, !carried)) return false;
        if (carried) llmgwi_base_buf_clear(&frame->line);
        frame->after_cr = *eol == '\r';
        p = eol + 1;
    }
    return llmgwi_frame_keep(frame);
}

/* End of the stream: hands on a last event that was not closed by a blank line, as SDKs do. */
static bool llmgwi_frame_finish(llmgwi_frame *frame) {
    if (frame->stopped) return false;
    if (frame->line.n && !llmgwi_frame_line(frame, llmgwi_base_buf_str(&frame->line), false)) return false;
    llmgwi_base_buf_clear(&frame->line);
    return llmgwi_frame_dispatch(frame);
}

/* ------------------------------------------------------------------------------------------- */
/* >>dialect   purpose: what the providers speak: requests out; replies, events, errors and      */
/*             headers in.   uses: json, text, frame   guarantees: bytes only, no I/O, no clock;  */
/*             unknown fields, events and enum values are ignored; a malformed one is an error    */
/*             that names it                                                                      */
/* ------------------------------------------------------------------------------------------- */

/* ---- known providers ---- */

/* What the members of the openai family do in their own way (WIRE.md 5). */
#define LLMGWI_DIALECT_MAX_TOKENS 0x01u /* "max_tokens", not "max_completion_tokens" */
#define LLMGWI_DIALECT_MISTRAL 0x02u    /* random_seed, tool choice "any", ids of 9 letters, thinking parts */
#define LLMGWI_DIALECT_NO_USAGE_OPTION 0x04u  /* sends usage unasked and knows no stream_options */
#define LLMGWI_DIALECT_NO_IMAGE_URL 0x08u     /* images by bytes only */
#define LLMGWI_DIALECT_LOCAL 0x10u            /* needs no key */
#define LLMGWI_DIALECT_REPLAY_CONTENT 0x20u   /* wants reasoning_content back inside a tool loop */
#define LLMGWI_DIALECT_REPLAY_DETAILS 0x40u   /* wants reasoning_details back as they were */
#define LLMGWI_DIALECT_THINKING 0x80u         /* thinking: {type: enabled | disabled} */
#define LLMGWI_DIALECT_ENABLE_THINKING 0x100u /* enable_thinking: true | false */
#define LLMGWI_DIALECT_NO_TOOL_CHOICE 0x200u

typedef struct llmgwi_dialect_known {
    const char *name, *dialect, *url, *key_var, *key_header;
    unsigned quirks;
} llmgwi_dialect_known;

#define LLMGWI_DIALECT_OLD LLMGWI_DIALECT_MAX_TOKENS
static const llmgwi_dialect_known llmgwi_dialect_knowns[] = {
    {"openai", "openai", "https://api.openai.com/v1", "OPENAI_API_KEY", NULL, 0},
    {"anthropic", "anthropic", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", NULL, 0},
    {"gemini", "gemini", "https://generativelanguage.googleapis.com/v1beta", "GEMINI_API_KEY", NULL, 0},
    {"deepseek", "openai", "https://api.deepseek.com", "DEEPSEEK_API_KEY", NULL,
     LLMGWI_DIALECT_OLD | LLMGWI_DIALECT_REPLAY_CONTENT | LLMGWI_DIALECT_THINKING},
    {"mistral", "openai", "https://api.mistral.ai/v1", "MISTRAL_API_KEY", NULL,
     LLMGWI_DIALECT_OLD | LLMGWI_DIALECT_MISTRAL | LLMGWI_DIALECT_NO_USAGE_OPTION},
    {"qwen", "openai", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "DASHSCOPE_API_KEY", NULL,
     LLMGWI_DIALECT_OLD | LLMGWI_DIALECT_ENABLE_THINKING},
    {"moonshot", "openai", "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY", NULL,
     LLMGWI_DIALECT_OLD | LLMGWI_DIALECT_REPLAY_CONTENT},
    {"openrouter", "openai", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", NULL,
     LLMGWI_DIALECT_OLD | LLMGWI_DIALECT_REPLAY_DETAILS},
    {"portkey", "openai", "https://api.portkey.ai/v1", "PORTKEY_API_KEY", "x-portkey-api-key", 0},
    {"tokenmix", "openai", "https://api.tokenmix.ai/v1", "TOKENMIX_API_KEY", NULL, LLMGWI_DIALECT_OLD},
    {"ollama", "openai", "http://127.0.0.1:11434/v1", "OLLAMA_API_KEY", NULL,
     LLMGWI_DIALECT_OLD | LLMGWI_DIALECT_LOCAL | LLMGWI_DIALECT_NO_IMAGE_URL | LLMGWI_DIALECT_NO_TOOL_CHOICE},
    {"llamacpp", "openai", "http://127.0.0.1:8080/v1", "LLAMACPP_API_KEY", NULL,
     LLMGWI_DIALECT_OLD | LLMGWI_DIALECT_LOCAL},
    {"vllm", "openai", "http://127.0.0.1:8000/v1", "VLLM_API_KEY", NULL,
     LLMGWI_DIALECT_OLD | LLMGWI_DIALECT_LOCAL},
    {"groq", "openai", "https://api.groq.com/openai/v1", "GROQ_API_KEY", NULL, 0},
    {"xai", "openai", "https://api.x.ai/v1", "XAI_API_KEY", NULL, 0},
};

static const llmgwi_dialect_known *llmgwi_dialect_known_find(const char *name) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_dialect_knowns); i++)
        if (strcmp(llmgwi_dialect_knowns[i].name, name) == 0) return &llmgwi_dialect_knowns[i];
    return NULL;
}

/* Whom a request is written for. Strings are borrowed. */
typedef struct llmgwi_dialect_target {
    const char *model;   /* as the provider knows it */
    const char *flavour; /* a known name, or the dialect's: stamps opaque parts with their origin */
    unsigned quirks;
    const char *url; /* base, without a last slash; NULL: not known */
} llmgwi_dialect_target;

/* ---- the answer being put together ---- */

typedef struct llmgwi_dialect_piece {
    llmgw_part_kind kind;      /* TEXT, REASONING, TOOL_CALL */
    bool redacted;             /* REASONING of which only the opaque part came */
    int64_t wire_index;        /* the dialect's own number; -1: none */
    size_t at, n;              /* TEXT, REASONING: range in answer.text, answer.reasoning */
    const char *id, *name;     /* TOOL_CALL: in the arena, never NULL */
    llmgwi_base_buf arguments; /* TOOL_CALL */
    llmgwi_base_buf signature;
} llmgwi_dialect_piece;

/* More of the answer: TEXT, REASONING or TOOL (index counts tools; bytes may be empty at its start). */
typedef void (*llmgwi_dialect_sink)(void *user, llmgw_event_kind kind, const llmgwi_dialect_piece *piece,
                                    int tool_index, llmgwi_base_str bytes);

typedef struct llmgwi_dialect_answer {
    const llmgwi_base_mem *mem;
    const llmgwi_dialect_target *target;
    llmgwi_dialect_sink sink; /* NULL: not a stream */
    void *sink_user;
    uint64_t salt;    /* tells made-up ids of one answer from those of another */
    size_t max_bytes; /* of text, reasoning, arguments and signatures together */
    size_t bytes;
    int max_depth;
    llmgwi_base_buf text, reasoning, refusal;
    llmgwi_dialect_piece *pieces;
    size_t piece_count, piece_cap, tool_count;
    llmgwi_base_arena arena;
    const char *id, *model; /* "" until known */
    llmgw_finish finish;
    bool finished;  /* a finish reason came */
    bool ended;     /* the dialect's terminator came, or the reply was whole */
    bool any;       /* a first choice, message or candidate came */
    bool args_path; /* gemini's partialArgs are open: state below */
    bool args_string;
    char args_open[256];
    llmgw_usage usage;
    llmgw_error error; /* what the provider said, or what was wrong with it */
} llmgwi_dialect_answer;

static void llmgwi_dialect_answer_init(llmgwi_dialect_answer *answer, const llmgwi_base_mem *mem,
                                       const llmgwi_dialect_target *target, size_t max_bytes, int max_depth) {
    memset(answer, 0, sizeof *answer);
    answer->mem = mem;
    answer->target = target;
    answer->max_bytes = max_bytes;
    answer->max_depth = max_depth;
    llmgwi_base_buf_init(&answer->text, mem, max_bytes);
    llmgwi_base_buf_init(&answer->reasoning, mem, max_bytes);
    llmgwi_base_buf_init(&answer->refusal, mem, max_bytes);
    llmgwi_base_arena_init(&answer->arena, mem);
    answer->id = answer->model = "";
}

static void llmgwi_dialect_answer_free(llmgwi_dialect_answer *answer) {
    if (!answer->mem) return;
    for (size_t i = 0; i < answer->piece_count; i++) {
        llmgwi_base_buf_free(&answer->pieces[i].arguments);
        llmgwi_base_buf_free(&answer->pieces[i].signature);
    }
    llmgwi_base_free(answer->mem, answer->pieces, answer->piece_cap * sizeof *answer->pieces);
    llmgwi_base_buf_free(&answer->text);
    llmgwi_base_buf_free(&answer->reasoning);
    llmgwi_base_buf_free(&answer->refusal);
    llmgwi_base_arena_free(&answer->arena);
    memset(answer, 0, sizeof *answer);
}

static bool llmgwi_dialect_fail(llmgwi_dialect_answer *answer, llmgw_code code, const char *what) {
    if (!answer->error.code) (void)llmgwi_base_error(&answer->error, code, "%s", what);
    return false;
}

/* Where a byte of the text stands after `drop` bytes at `at` have become `put`. */
static size_t llmgwi_dialect_shift(size_t x, size_t at, size_t drop, size_t put) {
    if (x <= at) return x;
    return x >= at + drop ? x - drop + put : at + put;
}

/* Replaces `drop` bytes of the text by insert; the pieces move along. False: out of memory. */
static bool llmgwi_dialect_splice(llmgwi_dialect_answer *answer, size_t at, size_t drop, const char *insert) {
    size_t put = strlen(insert), n = answer->text.n;
    if (put > drop && !llmgwi_base_buf_reserve(&answer->text, put - drop)) return false;
    if (n) {
        memmove(answer->text.p + at + put, answer->text.p + at + drop, n - at - drop);
        memcpy(answer->text.p + at, insert, put);
    }
    answer->text.n = n - drop + put;
    if (answer->text.p) answer->text.p[answer->text.n] = 0;
    for (size_t i = 0; i < answer->piece_count; i++) {
        llmgwi_dialect_piece *piece = &answer->pieces[i];
        if (piece->kind != LLMGW_PART_TEXT) continue;
        size_t from = llmgwi_dialect_shift(piece->at, at, drop, put);
        size_t to = llmgwi_dialect_shift(piece->at + piece->n, at, drop, put);
        piece->at = from;
        piece->n = to - from;
    }
    return true;
}

/* Appends decoded text to a buffer of the answer, under the answer's cap. */
static bool llmgwi_dialect_append(llmgwi_dialect_answer *answer, llmgwi_base_buf *buf,
                                  llmgwi_json_text text) {
    size_t before = buf->n;
    if (text.raw.n == 0) return true;
    if (answer->bytes + text.raw.n > answer->max_bytes)
        return llmgwi_dialect_fail(answer, LLMGW_E_TOO_LARGE, "the answer is larger than max_reply_bytes");
    if (!llmgwi_json_unescape(text, buf))
        return llmgwi_dialect_fail(answer, LLMGW_E_MEMORY, "out of memory for the answer");
    answer->bytes += buf->n - before;
    return true;
}

static llmgwi_dialect_piece *llmgwi_dialect_piece_new(llmgwi_dialect_answer *answer, llmgw_part_kind kind) {
    llmgwi_dialect_piece *pieces =
        (llmgwi_dialect_piece *)llmgwi_base_grow(answer->mem, answer->pieces, &answer->piece_cap,
                                                 answer->piece_count, LLMGW_MAX_PARTS, sizeof *pieces);
    if (!pieces) {
        bool full = answer->piece_count >= LLMGW_MAX_PARTS;
        (void)llmgwi_dialect_fail(answer, full ? LLMGW_E_TOO_LARGE : LLMGW_E_MEMORY,
                                  full ? "the answer has more parts than LLMGW_MAX_PARTS" : "out of memory");
        return NULL;
    }
    answer->pieces = pieces;
    llmgwi_dialect_piece *piece = &pieces[answer->piece_count++];
    memset(piece, 0, sizeof *piece);
    piece->kind = kind;
    piece->wire_index = -1;
    piece->id = piece->name = "";
    piece->at = kind == LLMGW_PART_TEXT ? answer->text.n : answer->reasoning.n;
    llmgwi_base_buf_init(&piece->arguments, answer->mem, answer->max_bytes);
    llmgwi_base_buf_init(&piece->signature, answer->mem, answer->max_bytes);
    if (kind == LLMGW_PART_TOOL_CALL) answer->tool_count++;
    return piece;
}

static llmgwi_dialect_piece *llmgwi_dialect_last(llmgwi_dialect_answer *answer, llmgw_part_kind kind) {
    if (!answer->piece_count || answer->pieces[answer->piece_count - 1].kind != kind) return NULL;
    return &answer->pieces[answer->piece_count - 1];
}

/* More text or reasoning; goes on in the last piece if that is of the kind and not closed by a signature. */
static bool llmgwi_dialect_more(llmgwi_dialect_answer *answer, llmgw_part_kind kind, llmgwi_json_text text) {
    if (text.raw.n == 0) return true;
    llmgwi_dialect_piece *piece = llmgwi_dialect_last(answer, kind);
    if (!piece || piece->redacted || (piece->signature.n && kind == LLMGW_PART_TEXT))
        piece = llmgwi_dialect_piece_new(answer, kind);
    llmgwi_base_buf *buf = kind == LLMGW_PART_TEXT ? &answer->text : &answer->reasoning;
    size_t before = buf->n;
    if (!piece || !llmgwi_dialect_append(answer, buf, text)) return false;
    piece->n += buf->n - before;
    if (answer->sink)
        answer->sink(answer->sink_user, kind == LLMGW_PART_TEXT ? LLMGW_EVENT_TEXT : LLMGW_EVENT_REASONING,
                     piece, 0, llmgwi_base_view(buf->p + before, buf->n - before));
    return true;
}

/* Puts what a cut attempt had brought into a fresh answer, before its sink is set or told: the resumed
   stream's text goes on in the same piece. Reasoning has lost its signature. False: answer->error. */
static bool llmgwi_dialect_keep(llmgwi_dialect_answer *answer, llmgwi_base_str text,
                                llmgwi_base_str reasoning) {
    llmgwi_dialect_sink sink = answer->sink;
    llmgwi_json_text thought, said;
    thought.raw = reasoning;
    said.raw = text;
    thought.escaped = said.escaped = false;
    answer->sink = NULL;
    bool kept = llmgwi_dialect_more(answer, LLMGW_PART_REASONING, thought) &&
                llmgwi_dialect_more(answer, LLMGW_PART_TEXT, said);
    answer->sink = sink;
    return kept;
}

static const char *llmgwi_dialect_name(llmgwi_dialect_answer *answer, llmgwi_json_text text) {
    if (answer->bytes + text.raw.n > answer->max_bytes) {
        (void)llmgwi_dialect_fail(answer, LLMGW_E_TOO_LARGE, "the answer is larger than max_reply_bytes");
        return "";
    }
    answer->bytes += text.raw.n;
    char *copy = (char *)llmgwi_base_arena_get(&answer->arena, text.raw.n + 1);
    if (!copy) {
        (void)llmgwi_dialect_fail(answer, LLMGW_E_MEMORY, "out of memory for the answer");
        return "";
    }
    copy[llmgwi_json_decode(text, copy)] = 0;
    return copy;
}

#define LLMGWI_DIALECT_MADE_ID "llmgw_call_" /* starts an id that we made up */

static void llmgwi_dialect_tool_sink(llmgwi_dialect_answer *answer, const llmgwi_dialect_piece *piece,
                                     llmgwi_base_str bytes) {
    int index = -1;
    for (const llmgwi_dialect_piece *p = answer->pieces; p <= piece; p++)
        index += p->kind == LLMGW_PART_TOOL_CALL;
    if (answer->sink) answer->sink(answer->sink_user, LLMGW_EVENT_TOOL, piece, index, bytes);
}

/* A new tool call. An empty id is made up. */
static llmgwi_dialect_piece *llmgwi_dialect_tool(llmgwi_dialect_answer *answer, int64_t wire_index,
                                                 llmgwi_json_text id, llmgwi_json_text name) {
    llmgwi_dialect_piece *piece = llmgwi_dialect_piece_new(answer, LLMGW_PART_TOOL_CALL);
    if (!piece) return NULL;
    piece->wire_index = wire_index;
    piece->name = llmgwi_dialect_name(answer, name);
    if (id.raw.n) {
        piece->id = llmgwi_dialect_name(answer, id);
    } else {
        char made[40]; /* 40 bytes are the most that OpenAI takes back */
        snprintf(made, sizeof made, LLMGWI_DIALECT_MADE_ID "%llx_%x", (unsigned long long)answer->salt,
                 (unsigned)answer->tool_count);
        piece->id = llmgwi_base_arena_copy(&answer->arena, made, strlen(made));
    }
    llmgwi_dialect_tool_sink(answer, piece, llmgwi_base_view("", 0));
    return piece;
}

/* More of a call's arguments: the decoded text of a JSON string. */
static bool llmgwi_dialect_arguments(llmgwi_dialect_answer *answer, llmgwi_dialect_piece *piece,
                                     llmgwi_json_text text) {
    size_t before = piece->arguments.n;
    if (text.raw.n == 0) return true;
    if (!llmgwi_dialect_append(answer, &piece->arguments, text)) return false;
    llmgwi_dialect_tool_sink(answer, piece,
                             llmgwi_base_view(piece->arguments.p + before, piece->arguments.n - before));
    return true;
}

/* Bytes that are not a JSON string's inside. */
static llmgwi_json_text llmgwi_dialect_plain(llmgwi_base_str raw) {
    llmgwi_json_text text;
    text.raw = raw;
    text.escaped = false;
    return text;
}

/* No object, or one without members. */
static bool llmgwi_dialect_empty(llmgwi_base_str raw) {
    size_t i = 1;
    while (i + 1 < raw.n && (unsigned char)raw.p[i] <= ' ') i++;
    return i + 1 >= raw.n;
}

static llmgwi_json_text llmgwi_dialect_none(void) { return llmgwi_dialect_plain(llmgwi_base_view("", 0)); }

static void llmgwi_dialect_identify(llmgwi_dialect_answer *answer, llmgwi_json_text id,
                                    llmgwi_json_text model) {
    if (id.raw.n && !answer->id[0]) answer->id = llmgwi_dialect_name(answer, id);
    if (model.raw.n && !answer->model[0]) answer->model = llmgwi_dialect_name(answer, model);
}

/* ---- finish reasons ---- */

#define LLMGWI_DIALECT_BROKEN (-1) /* the provider says its own answer is broken */

typedef struct llmgwi_dialect_reason {
    const char *text;
    int finish; /* llmgw_finish or LLMGWI_DIALECT_BROKEN */
} llmgwi_dialect_reason;

/* One table for all: no two dialects use one word for two things (WIRE.md 2). */
static const llmgwi_dialect_reason llmgwi_dialect_reasons[] = {
    {"stop", LLMGW_FINISH_STOP},
    {"length", LLMGW_FINISH_LENGTH},
    {"model_length", LLMGW_FINISH_LENGTH},
    {"tool_calls", LLMGW_FINISH_TOOL},
    {"function_call", LLMGW_FINISH_TOOL},
    {"content_filter", LLMGW_FINISH_FILTER},
    {"error", LLMGWI_DIALECT_BROKEN},
    {"insufficient_system_resource", LLMGWI_DIALECT_BROKEN},
    {"end_turn", LLMGW_FINISH_STOP},
    {"stop_sequence", LLMGW_FINISH_STOP},
    {"max_tokens", LLMGW_FINISH_LENGTH},
    {"model_context_window_exceeded", LLMGW_FINISH_LENGTH},
    {"tool_use", LLMGW_FINISH_TOOL},
    {"refusal", LLMGW_FINISH_FILTER},
    {"pause_turn", LLMGW_FINISH_PAUSE},
    {"STOP", LLMGW_FINISH_STOP},
    {"MAX_TOKENS", LLMGW_FINISH_LENGTH},
    {"SAFETY", LLMGW_FINISH_FILTER},
    {"RECITATION", LLMGW_FINISH_FILTER},
    {"BLOCKLIST", LLMGW_FINISH_FILTER},
    {"PROHIBITED_CONTENT", LLMGW_FINISH_FILTER},
    {"SPII", LLMGW_FINISH_FILTER},
    {"IMAGE_SAFETY", LLMGW_FINISH_FILTER},
    {"IMAGE_PROHIBITED_CONTENT", LLMGW_FINISH_FILTER},
    {"IMAGE_RECITATION", LLMGW_FINISH_FILTER},
    {"IMAGE_OTHER", LLMGW_FINISH_FILTER},
    {"MODEL_ARMOR", LLMGW_FINISH_FILTER},
    {"MALFORMED_FUNCTION_CALL", LLMGWI_DIALECT_BROKEN},
    {"UNEXPECTED_TOOL_CALL", LLMGWI_DIALECT_BROKEN},
    {"TOO_MANY_TOOL_CALLS", LLMGWI_DIALECT_BROKEN},
    {"MISSING_THOUGHT_SIGNATURE", LLMGWI_DIALECT_BROKEN},
    {"MALFORMED_RESPONSE", LLMGWI_DIALECT_BROKEN},
    {"OTHER", LLMGWI_DIALECT_BROKEN},
    {"LANGUAGE", LLMGWI_DIALECT_BROKEN},
    {"NO_IMAGE", LLMGWI_DIALECT_BROKEN},
};

static void llmgwi_dialect_finish(llmgwi_dialect_answer *answer, llmgwi_json_text reason) {
    if (reason.raw.n == 0) return;
    int finish = LLMGW_FINISH_STOP; /* an unknown word: it did finish */
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_dialect_reasons); i++)
        if (llmgwi_json_is(reason, llmgwi_dialect_reasons[i].text)) finish = llmgwi_dialect_reasons[i].finish;
    answer->finished = true;
    answer->finish = finish == LLMGWI_DIALECT_BROKEN ? LLMGW_FINISH_NONE : (llmgw_finish)finish;
    if (finish != LLMGWI_DIALECT_BROKEN) return;
    char word[64];
    llmgwi_base_copy_cut(word, sizeof word, reason.raw.p, reason.raw.n);
    if (!answer->error.code)
        (void)llmgwi_base_error(&answer->error, LLMGW_E_PROVIDER,
                                "the provider broke off: finish reason '%s'", word);
}

/* ---- errors the provider sends ---- */

typedef struct llmgwi_dialect_class {
    const char *word;
    llmgw_code code;
} llmgwi_dialect_class;

/* Words in error.code, error.type and error.status, most telling first (WIRE.md 4). */
static const llmgwi_dialect_class llmgwi_dialect_classes[] = {
    {"context_length_exceeded", LLMGW_E_CONTEXT_LENGTH},
    {"exceed_context_size_error", LLMGW_E_CONTEXT_LENGTH}, /* llama.cpp */
    {"insufficient_quota", LLMGW_E_QUOTA},
    {"credit_balance_exhausted", LLMGW_E_QUOTA},
    {"exceeded_current_quota_error", LLMGW_E_QUOTA}, /* Moonshot */
    {"billing_error", LLMGW_E_QUOTA},
    {"billing_not_active", LLMGW_E_QUOTA},
    {"billing_hard_limit_reached", LLMGW_E_QUOTA},
    {"Arrearage", LLMGW_E_QUOTA}, /* Qwen */
    {"content_filter", LLMGW_E_FILTERED},
    {"content_policy_violation", LLMGW_E_FILTERED},
    {"ResponsibleAIPolicyViolation", LLMGW_E_FILTERED}, /* Azure */
    {"data_inspection_failed", LLMGW_E_FILTERED},       /* Qwen */
    {"invalid_api_key", LLMGW_E_AUTH},
    {"API_KEY_INVALID", LLMGW_E_AUTH},
    {"authentication_error", LLMGW_E_AUTH},
    {"permission_error", LLMGW_E_AUTH},
    {"UNAUTHENTICATED", LLMGW_E_AUTH},
    {"PERMISSION_DENIED", LLMGW_E_AUTH},
    {"model_not_found", LLMGW_E_NOT_FOUND},
    {"model_decommissioned", LLMGW_E_NOT_FOUND}, /* Groq */
    {"invalid_model", LLMGW_E_NOT_FOUND},        /* Mistral */
    {"not_found_error", LLMGW_E_NOT_FOUND},
    {"NOT_FOUND", LLMGW_E_NOT_FOUND},
    {"rate_limit_error", LLMGW_E_RATE_LIMITED},
    {"rate_limit_exceeded", LLMGW_E_RATE_LIMITED},
    {"RATE_LIMIT_EXCEEDED", LLMGW_E_RATE_LIMITED},
    {"RESOURCE_EXHAUSTED", LLMGW_E_RATE_LIMITED},
    {"overloaded_error", LLMGW_E_OVERLOADED},
    {"engine_overloaded_error", LLMGW_E_OVERLOADED}, /* Moonshot, with 429 */
    {"UNAVAILABLE", LLMGW_E_OVERLOADED},
    {"tool_use_failed", LLMGW_E_PROVIDER},
    {"server_error", LLMGW_E_PROVIDER},
    {"api_error", LLMGW_E_PROVIDER},
    {"timeout_error", LLMGW_E_PROVIDER},
    {"INTERNAL", LLMGW_E_PROVIDER},
    {"DEADLINE_EXCEEDED", LLMGW_E_PROVIDER},
    {"request_too_large", LLMGW_E_BAD_REQUEST},
    {"invalid_request_error", LLMGW_E_BAD_REQUEST},
    {"INVALID_ARGUMENT", LLMGW_E_BAD_REQUEST},
    {"FAILED_PRECONDITION", LLMGW_E_BAD_REQUEST},
};

typedef struct llmgwi_dialect_status {
    int from, to;
    llmgw_code code;
} llmgwi_dialect_status;

/* First row that holds the status. */
static const llmgwi_dialect_status llmgwi_dialect_statuses[] = {
    {300, 399, LLMGW_E_PROTOCOL},   {401, 401, LLMGW_E_AUTH},         {402, 402, LLMGW_E_QUOTA},
    {403, 403, LLMGW_E_AUTH},       {404, 404, LLMGW_E_NOT_FOUND},    {408, 409, LLMGW_E_PROVIDER},
    {424, 424, LLMGW_E_PROVIDER},   {429, 429, LLMGW_E_RATE_LIMITED}, {400, 499, LLMGW_E_BAD_REQUEST},
    {503, 503, LLMGW_E_OVERLOADED}, {529, 529, LLMGW_E_OVERLOADED},   {500, 599, LLMGW_E_PROVIDER},
};

static llmgw_code llmgwi_dialect_status_code(int status) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_dialect_statuses); i++)
        if (status >= llmgwi_dialect_statuses[i].from && status <= llmgwi_dialect_statuses[i].to)
            return llmgwi_dialect_statuses[i].code;
    return LLMGW_E_PROTOCOL;
}

/* Texts of error messages that tell more than code and status do, in lower or upper case. */
static const llmgwi_dialect_class llmgwi_dialect_texts[] = {
    {"maximum context length", LLMGW_E_CONTEXT_LENGTH},
    {"prompt is too long", LLMGW_E_CONTEXT_LENGTH},
    {"input is too long", LLMGW_E_CONTEXT_LENGTH},
    {"exceeds the maximum number of tokens", LLMGW_E_CONTEXT_LENGTH},
    {"exceeds the context window", LLMGW_E_CONTEXT_LENGTH},
    {"exceed context limit", LLMGW_E_CONTEXT_LENGTH},               /* Anthropic: input and max_tokens */
    {"exceeds the available context size", LLMGW_E_CONTEXT_LENGTH}, /* llama.cpp */
    {"maximum prompt length", LLMGW_E_CONTEXT_LENGTH},              /* xAI */
    {"exceeded model token limit", LLMGW_E_CONTEXT_LENGTH},         /* Moonshot */
    {"range of input length", LLMGW_E_CONTEXT_LENGTH},              /* Qwen */
    {"request too large for", LLMGW_E_CONTEXT_LENGTH}, /* OpenAI, Groq: over a whole minute's tokens */
    {"credit balance is too low", LLMGW_E_QUOTA},      /* Anthropic, with 400 */
    {"reached your specified api usage limits", LLMGW_E_QUOTA},
    {"spend limit", LLMGW_E_QUOTA},
    {"spending limit", LLMGW_E_QUOTA}, /* xAI, with 403 or 429 */
    {"spending cap", LLMGW_E_QUOTA},   /* Gemini */
};

/* What an error body says, wherever it says it. */
typedef struct llmgwi_dialect_said {
    llmgwi_json_text message;
    llmgwi_json_text words[4]; /* code, type, status, reason */
    int status;                /* a number among them */
    bool per_day;              /* gemini: the quota of the day is used up */
    bool flagged;              /* openrouter: moderation refused the input, with 403 */
    int64_t retry_ms;
} llmgwi_dialect_said;

/* Digits, under 1e15, as a number. -1: it is none. */
static int64_t llmgwi_dialect_count(llmgwi_base_str text) {
    int64_t count = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9' || count >= 100000000000000) return -1;
        count = count * 10 + (text.p[i] - '0');
    }
    return text.n ? count : -1;
}

#define LLMGWI_DIALECT_LONG_MS 1000000000000 /* no duration is longer: 31 years */

/* Reads "12" or "12.345" times unit (ms) from the start of text; *ms grows by it. Returns the bytes read. */
static size_t llmgwi_dialect_amount(llmgwi_base_str text, int64_t unit, int64_t *ms) {
    int64_t whole = 0, part = 0, scale = 1;
    size_t i = 0;
    for (; i < text.n && text.p[i] >= '0' && text.p[i] <= '9'; i++)
        if (whole <= LLMGWI_DIALECT_LONG_MS) whole = whole * 10 + (text.p[i] - '0');
    if (i == 0) return 0;
    if (i < text.n && text.p[i] == '.')
        for (i++; i < text.n && text.p[i] >= '0' && text.p[i] <= '9'; i++)
            if (scale < 1000000000) part = part * 10 + (text.p[i] - '0'), scale *= 10;
    bool huge = whole > LLMGWI_DIALECT_LONG_MS / unit;
    *ms = huge ? LLMGWI_DIALECT_LONG_MS : *ms + whole * unit + part * unit / scale;
    if (*ms > LLMGWI_DIALECT_LONG_MS) *ms = LLMGWI_DIALECT_LONG_MS;
    return i;
}

/* "34.4s" or "120" as milliseconds; 0 if it is neither. */
static int64_t llmgwi_dialect_seconds(llmgwi_base_str text) {
    int64_t ms = 0;
    size_t i = llmgwi_dialect_amount(text, 1000, &ms);
    if (i && i < text.n && text.p[i] == 's') i++;
    return i == text.n ? ms : 0;
}

typedef struct llmgwi_dialect_unit {
    const char *name;
    int64_t ms;
} llmgwi_dialect_unit;

static const llmgwi_dialect_unit llmgwi_dialect_units[] = {
    {"ms", 1},          {"milliseconds", 1}, {"s", 1000},        {"second", 1000}, {"seconds", 1000},
    {"m", 60000},       {"minute", 60000},   {"minutes", 60000}, {"h", 3600000},   {"hour", 3600000},
    {"hours", 3600000}, {"us", 0},           {"\xC2\xB5s", 0},   {"ns", 0}, /* below a millisecond: nothing */
};

/* The unit at the start of text, one space before it allowed. NULL: none; *n: the bytes read. */
static const llmgwi_dialect_unit *llmgwi_dialect_unit_at(llmgwi_base_str text, size_t *n) {
    size_t from = text.n && text.p[0] == ' ' ? 1 : 0, to = from;
    while (to < text.n && ((unsigned char)text.p[to] >= 0x80 || (text.p[to] >= 'a' && text.p[to] <= 'z')))
        to++;
    llmgwi_base_str word = llmgwi_base_view(text.p + from, to - from);
    *n = to;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_dialect_units); i++)
        if (llmgwi_base_is(word, llmgwi_dialect_units[i].name)) return &llmgwi_dialect_units[i];
    return NULL;
}

/* Go's durations, "6m0s", "1h2m3.5s", "850ms", at the start of text, in ms; *n: the bytes read. -1: none. */
static int64_t llmgwi_dialect_duration(llmgwi_base_str text, size_t *n) {
    int64_t ms = 0;
    size_t i = 0;
    do {
        int64_t none = 0;
        size_t word = 0, digits = llmgwi_dialect_amount(llmgwi_base_view(text.p + i, text.n - i), 1, &none);
        llmgwi_base_str rest = llmgwi_base_view(text.p + i + digits, text.n - i - digits);
        const llmgwi_dialect_unit *unit = digits ? llmgwi_dialect_unit_at(rest, &word) : NULL;
        if (!unit) return -1;
        if (unit->ms) (void)llmgwi_dialect_amount(llmgwi_base_view(text.p + i, digits), unit->ms, &ms);
        i += digits + word;
    } while (i < text.n && text.p[i] >= '0' && text.p[i] <= '9');
    *n = i;
    return ms;
}

/* "Please retry in 46.2s.", "try again in 1h2m3s", "retry after 20 seconds": ms; 0: it does not say. */
static int64_t llmgwi_dialect_prose(llmgwi_base_str text) {
    static const char *const leads[] = {"retry in ", "try again in ", "retry after "};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(leads); i++) {
        size_t n = strlen(leads[i]), used;
        for (size_t at = 0; at + n < text.n; at++) {
            if (!llmgwi_base_is_nocase(llmgwi_base_view(text.p + at, n), leads[i])) continue;
            int64_t ms = llmgwi_dialect_duration(llmgwi_base_view(text.p + at + n, text.n - at - n), &used);
            if (ms > 0) return ms;
        }
    }
    return 0;
}

static void llmgwi_dialect_said_value(llmgwi_dialect_said *said, llmgwi_json *json, llmgwi_base_str key);

/* {"message", "code", "type", "status", "error": ..., "details": [...]}, at any of these places. */
static void llmgwi_dialect_said_object(llmgwi_dialect_said *said, llmgwi_json *json) {
    llmgwi_base_str key;
    if (!llmgwi_json_object(json)) return;
    while (llmgwi_json_member(json, &key)) llmgwi_dialect_said_value(said, json, key);
}

static void llmgwi_dialect_said_value(llmgwi_dialect_said *said, llmgwi_json *json, llmgwi_base_str key) {
    static const char *const words[] = {"code", "type", "status", "reason"};
    llmgwi_json_kind kind = llmgwi_json_peek(json);
    llmgwi_json_number number;
    llmgwi_json_text text;
    bool deeper = llmgwi_base_is(key, "error") || llmgwi_base_is(key, "details") ||
                  llmgwi_base_is(key, "detail") || llmgwi_base_is(key, "violations");
    bool inside = llmgwi_base_is(key, "innererror") || llmgwi_base_is(key, "metadata") ||
                  llmgwi_base_is(key, "message"); /* azure, openrouter, mistral's 422 */
    if (json->depth > 8) return;
    if (llmgwi_base_is(key, "flagged_input")) said->flagged = true;
    if (kind == LLMGWI_JSON_OBJECT && (deeper || inside)) {
        llmgwi_dialect_said_object(said, json);
    } else if (kind == LLMGWI_JSON_ARRAY && deeper) {
        if (!llmgwi_json_array(json)) return;
        while (llmgwi_json_item(json))
            if (llmgwi_json_peek(json) == LLMGWI_JSON_OBJECT) llmgwi_dialect_said_object(said, json);
    } else if (kind == LLMGWI_JSON_NUMBER &&
               (llmgwi_base_is(key, "code") || llmgwi_base_is(key, "status_code"))) {
        if (llmgwi_json_get_number(json, &number) && number.integer && number.i >= 300 && number.i < 600)
            said->status = (int)number.i;
    } else if (kind == LLMGWI_JSON_STRING && llmgwi_json_string(json, &text) && text.raw.n) {
        bool message = llmgwi_base_is(key, "message") || llmgwi_base_is(key, "msg") || deeper;
        if (message && !said->message.raw.n) said->message = text;
        if (llmgwi_base_is(key, "retryDelay")) said->retry_ms = llmgwi_dialect_seconds(text.raw);
        if (llmgwi_base_is(key, "quotaId") && llmgwi_base_has(text.raw, "PerDay")) said->per_day = true;
        int64_t number_text = llmgwi_base_is(key, "code") ? llmgwi_dialect_count(text.raw) : -1;
        if (number_text >= 300 && number_text < 600) said->status = (int)number_text; /* "429" */
        for (size_t i = 0; i < LLMGWI_BASE_COUNT(words) && !llmgwi_json_is(text, "error"); i++)
            if (llmgwi_base_is(key, words[i]) && (!said->words[i].raw.n || i == 3)) said->words[i] = text;
    }
}

/* Does a code leave room for what the message's text says? */
static bool llmgwi_dialect_open_to_text(llmgw_code code) {
    return code == LLMGW_E_BAD_REQUEST || code == LLMGW_E_RATE_LIMITED || code == LLMGW_E_AUTH ||
           code == LLMGW_E_PROVIDER || code == LLMGW_E_PROTOCOL;
}

static llmgw_code llmgwi_dialect_classify(const llmgwi_dialect_said *said, int status) {
    llmgw_code code = LLMGW_OK;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_dialect_classes) && !code; i++)
        for (size_t w = 0; w < LLMGWI_BASE_COUNT(said->words); w++)
            if (llmgwi_json_is(said->words[w], llmgwi_dialect_classes[i].word))
                code = llmgwi_dialect_classes[i].code;
    if (!code) code = llmgwi_dialect_status_code(said->status ? said->status : status);
    /* a bare "bad request" or "server error" says less than a status that says more */
    bool vague = (code == LLMGW_E_BAD_REQUEST && status >= 401 && status <= 429) ||
                 (code == LLMGW_E_PROVIDER && (status == 429 || status == 503 || status == 529));
    if (vague) code = llmgwi_dialect_status_code(status);
    if (code == LLMGW_E_RATE_LIMITED && said->per_day) code = LLMGW_E_QUOTA; /* waiting does not help */
    if (code == LLMGW_E_AUTH && said->flagged) code = LLMGW_E_FILTERED;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_dialect_texts); i++)
        if (llmgwi_dialect_open_to_text(code) &&
            llmgwi_base_has(said->message.raw, llmgwi_dialect_texts[i].word))
            code = llmgwi_dialect_texts[i].code;
    if (code == LLMGW_E_PROTOCOL && (status == 200 || status == 0)) code = LLMGW_E_PROVIDER;
    return code;
}

/* What a body says of an error. False: it is no JSON. */
static bool llmgwi_dialect_listen(llmgwi_dialect_said *said, llmgwi_base_str body, int max_depth) {
    llmgwi_json json;
    memset(said, 0, sizeof *said);
    said->message = llmgwi_dialect_none();
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(said->words); i++) said->words[i] = llmgwi_dialect_none();
    llmgwi_json_init(&json, body.p, body.n, max_depth);
    /* an array of errors and a bare string are treated as if they stood under "error" */
    llmgwi_dialect_said_value(said, &json, llmgwi_base_cstr("error"));
    return llmgwi_json_end(&json);
}

/* An error body (or the value of "error" inside a 200) to an error: "HTTP 429: text". body may be
   anything. */
static void llmgwi_dialect_error(llmgw_error *error, int status, llmgwi_base_str body, int max_depth) {
    llmgwi_dialect_said said;
    char text[512], where[24] = "";
    bool html = !llmgwi_dialect_listen(&said, body, max_depth);
    if (html) said.message = llmgwi_dialect_plain(llmgwi_base_trim(body));
    size_t n = said.message.raw.n < sizeof text - 1 ? said.message.raw.n : sizeof text - 1;
    if (said.message.escaped && n == said.message.raw.n)
        n = llmgwi_json_decode(said.message, text);
    else
        memcpy(text, said.message.raw.p, n);
    text[n] = 0;
    for (size_t i = 0; i < n; i++)
        if (!text[i]) text[i] = '?';
    if (status) snprintf(where, sizeof where, "HTTP %d", status);
    (void)llmgwi_base_error(error, llmgwi_dialect_classify(&said, status), "%s%s%s", where,
                            where[0] && n ? ": " : "",
                            n || where[0] ? text : "the provider reported an error without a text");
    error->http_status = status;
    error->retry_after_ms = said.retry_ms ? said.retry_ms : llmgwi_dialect_prose(said.message.raw);
}

/* Was a request refused for the assistant's text at its end? Then a continuation turn may pass. */
static bool llmgwi_dialect_refuses_prefill(int status, const char *error_text) {
    static const char *const texts[] = {
        "prefill",  /* Claude 4.6 and later, llama.cpp when the model thinks */
        "pre-fill", /* Bedrock with tools */
        "end with a user message",
        "final `assistant` message", /* Claude when it thinks */
        "trailing whitespace",
        "last role",              /* Mistral */
        "continue_final_message", /* vLLM */
        "prefix",                 /* DeepSeek */
        "partial mode",           /* Qwen */
    };
    if (status != 400 && status != 422 && status != 500) return false; /* 500: older llama.cpp */
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(texts); i++)
        if (llmgwi_base_has(llmgwi_base_cstr(error_text), texts[i])) return true;
    return false;
}

/* ---- headers of a reply ---- */

/* What a provider allows, and what is left of it. Groq's requests are those of a day: reset_ms tells. */
typedef struct llmgwi_dialect_limit {
    bool seen;                /* some field was said; else the others mean nothing */
    int64_t limit, remaining; /* -1: not said */
    int64_t reset_ms;         /* until it is full again, 0: it is; -1: not said. Of a date: to the second */
} llmgwi_dialect_limit;

typedef struct llmgwi_dialect_meta {
    int64_t retry_after_ms; /* 0: not said */
    int should_retry;       /* 1 yes, -1 no, 0 not said */
    bool json, html;        /* content type */
    llmgwi_dialect_limit requests, tokens;
    llmgwi_dialect_limit tokens_heard[3]; /* plain, input, output: tokens is one of them */
} llmgwi_dialect_meta;

/* Days since 1970-01-01 of a Gregorian date (Howard Hinnant's days_from_civil). */
static int64_t llmgwi_dialect_days(int64_t y, int64_t m, int64_t d) {
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400, yoe = y - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

typedef struct llmgwi_dialect_time {
    int y, m, d, h, min, s;
} llmgwi_dialect_time;

/* Seconds since 1970; 0 if a field is out of its range. */
static int64_t llmgwi_dialect_time_s(const llmgwi_dialect_time *t) {
    if (t->y < 0 || t->m < 1 || t->m > 12 || t->d < 1 || t->d > 31) return 0;
    if (t->h < 0 || t->h > 23 || t->min < 0 || t->min > 59 || t->s < 0 || t->s > 60) return 0;
    return llmgwi_dialect_days(t->y, t->m, t->d) * 86400 + t->h * 3600 + t->min * 60 + t->s;
}

/* A header's value as a C string. False: too long for a date. */
static bool llmgwi_dialect_line(llmgwi_base_str text, char line[64]) {
    if (text.n >= 64) return false;
    memcpy(line, text.p, text.n);
    line[text.n] = 0;
    return true;
}

/* An HTTP date (RFC 9110, 5.6.7) as seconds since 1970; 0 if it is none. "Wed, 21 Oct 2015 07:28:00 GMT",
   and the old "Sunday, 06-Nov-94 08:49:37 GMT" (70 to 99: of the last century) and "Sun Nov  6 08:49:37 1994". */
static int64_t llmgwi_dialect_date(llmgwi_base_str text) {
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    char line[64], month[4];
    llmgwi_dialect_time t;
    if (!llmgwi_dialect_line(text, line)) return 0;
    bool dashed = sscanf(line, "%*[^,], %2d-%3s-%4d %2d:%2d:%2d", &t.d, month, &t.y, &t.h, &t.min, &t.s) == 6;
    if (!dashed &&
        sscanf(line, "%*3s, %2d %3s %4d %2d:%2d:%2d", &t.d, month, &t.y, &t.h, &t.min, &t.s) != 6 &&
        sscanf(line, "%*3s %3s %2d %2d:%2d:%2d %4d", month, &t.d, &t.h, &t.min, &t.s, &t.y) != 6)
        return 0;
    const char *at = strstr(months, month);
    if (!at || strlen(month) != 3 || (at - months) % 3) return 0;
    t.m = (int)((at - months) / 3 + 1);
    if (dashed && t.y >= 0 && t.y < 100) t.y += t.y < 70 ? 2000 : 1900;
    return llmgwi_dialect_time_s(&t);
}

/* "2026-02-17T23:44:11.5+01:00" (RFC 3339) as seconds since 1970, a fraction rounded up; 0 if it is none. */
static int64_t llmgwi_dialect_stamp(llmgwi_base_str text) {
    char line[64], sign[2] = "";
    llmgwi_dialect_time t;
    int n = 0, h = 0, min = 0, end = 0;
    if (!llmgwi_dialect_line(text, line)) return 0;
    if (sscanf(line, "%4d-%2d-%2d%*1[Tt ]%2d:%2d:%2d%n", &t.y, &t.m, &t.d, &t.h, &t.min, &t.s, &n) != 6 || !n)
        return 0;
    const char *p = line + n;
    bool more = *p == '.' && strspn(p + 1, "0123456789") > strspn(p + 1, "0");
    if (*p == '.') p += 1 + strspn(p + 1, "0123456789");
    bool utc = (p[0] == 'Z' || p[0] == 'z') && !p[1];
    if (!utc && (sscanf(p, "%1[+-]%2d:%2d%n", sign, &h, &min, &end) != 3 || p[end])) return 0;
    if (h < 0 || h > 23 || min < 0 || min > 59) return 0;
    int64_t s = llmgwi_dialect_time_s(&t), offset = h * 3600 + min * 60;
    return s ? s + more - (sign[0] == '-' ? -offset : offset) : 0;
}

/* When a limit is full again, in ms from now: a duration, seconds, or a point in time (RFC 3339, or epoch
   seconds or milliseconds, told apart by their size). -1: none of them. */
static int64_t llmgwi_dialect_reset(llmgwi_base_str text, int64_t wall_s) {
    int64_t ms = 0, at_s = llmgwi_dialect_stamp(text), count = llmgwi_dialect_count(text);
    size_t n = 0;
    if (count >= 100000000000) {
        ms = count - wall_s * 1000;
    } else if (count >= 1000000000 || at_s) {
        ms = ((at_s ? at_s : count) - wall_s) * 1000;
    } else if (!text.n || llmgwi_dialect_amount(text, 1000, &ms) != text.n) {
        ms = llmgwi_dialect_duration(text, &n);
        if (ms < 0 || n != text.n) return -1;
    }
    if (ms >= LLMGWI_DIALECT_LONG_MS) return -1;
    return ms > 0 ? ms : 0;
}

typedef struct llmgwi_dialect_limit_row {
    const char *name;
    signed char kind;    /* -1: requests; else which of tokens_heard */
    unsigned char field; /* limit, remaining, reset */
} llmgwi_dialect_limit_row;

static const llmgwi_dialect_limit_row llmgwi_dialect_limit_rows[] = {
    {"x-ratelimit-limit-requests", -1, 0},
    {"x-ratelimit-remaining-requests", -1, 1},
    {"x-ratelimit-reset-requests", -1, 2},
    {"x-ratelimit-limit-tokens", 0, 0},
    {"x-ratelimit-remaining-tokens", 0, 1},
    {"x-ratelimit-reset-tokens", 0, 2},
    {"x-ratelimit-limit", -1, 0}, /* OpenRouter */
    {"x-ratelimit-remaining", -1, 1},
    {"x-ratelimit-reset", -1, 2},
    {"anthropic-ratelimit-requests-limit", -1, 0},
    {"anthropic-ratelimit-requests-remaining", -1, 1},
    {"anthropic-ratelimit-requests-reset", -1, 2},
    {"anthropic-ratelimit-tokens-limit", 0, 0},
    {"anthropic-ratelimit-tokens-remaining", 0, 1},
    {"anthropic-ratelimit-tokens-reset", 0, 2},
    {"anthropic-ratelimit-input-tokens-limit", 1, 0},
    {"anthropic-ratelimit-input-tokens-remaining", 1, 1},
    {"anthropic-ratelimit-input-tokens-reset", 1, 2},
    {"anthropic-ratelimit-output-tokens-limit", 2, 0},
    {"anthropic-ratelimit-output-tokens-remaining", 2, 1},
    {"anthropic-ratelimit-output-tokens-reset", 2, 2},
};

/* Is less left of a, as a share, than of b? One that does not say goes behind one that does. */
static bool llmgwi_dialect_tighter(const llmgwi_dialect_limit *a, const llmgwi_dialect_limit *b) {
    bool a_says = a->limit > 0 && a->remaining >= 0, b_says = b->limit > 0 && b->remaining >= 0;
    if (!a_says || !b_says) return a_says || (!b_says && a->seen && !b->seen);
    return (double)a->remaining * (double)b->limit < (double)b->remaining * (double)a->limit;
}

/* A limit header. Values that make no sense are passed over. */
static void llmgwi_dialect_limit_header(llmgwi_dialect_meta *meta, llmgwi_base_str name,
                                        llmgwi_base_str value, int64_t wall_s) {
    const llmgwi_dialect_limit_row *row = NULL;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_dialect_limit_rows) && !row; i++)
        if (llmgwi_base_is_nocase(name, llmgwi_dialect_limit_rows[i].name))
            row = &llmgwi_dialect_limit_rows[i];
    if (!row) return;
    llmgwi_dialect_limit *limit = row->kind < 0 ? &meta->requests : &meta->tokens_heard[row->kind];
    int64_t *const fields[] = {&limit->limit, &limit->remaining, &limit->reset_ms};
    int64_t n = row->field == 2 ? llmgwi_dialect_reset(value, wall_s) : llmgwi_dialect_count(value);
    if (n < 0) return;
    if (!limit->seen) limit->limit = limit->remaining = limit->reset_ms = -1;
    limit->seen = true;
    *fields[row->field] = n;
    const llmgwi_dialect_limit *heard = meta->tokens_heard;
    if (row->kind < 0) return;
    meta->tokens = heard[0].seen                                  ? heard[0]
                   : llmgwi_dialect_tighter(&heard[2], &heard[1]) ? heard[2]
                                                                  : heard[1];
}

/* One header of a reply. wall_s: now, for dates. */
static void llmgwi_dialect_header(llmgwi_dialect_meta *meta, llmgwi_base_str name, llmgwi_base_str value,
                                  int64_t wall_s) {
    if (llmgwi_base_is_nocase(name, "content-type")) {
        meta->json = llmgwi_base_has(value, "json");
        meta->html = llmgwi_base_has(value, "text/html");
    } else if (llmgwi_base_is_nocase(name, "retry-after-ms")) {
        int64_t ms = llmgwi_dialect_seconds(value) / 1000;
        if (ms) meta->retry_after_ms = ms;
    } else if (llmgwi_base_is_nocase(name, "retry-after") && !meta->retry_after_ms) {
        meta->retry_after_ms = llmgwi_dialect_seconds(value);
        int64_t date = meta->retry_after_ms ? 0 : llmgwi_dialect_date(value);
        if (date > wall_s) meta->retry_after_ms = (date - wall_s) * 1000;
    } else if (llmgwi_base_is_nocase(name, "x-should-retry")) {
        meta->should_retry = llmgwi_base_is(value, "true") ? 1 : llmgwi_base_is(value, "false") ? -1 : 0;
    } else {
        llmgwi_dialect_limit_header(meta, name, value, wall_s);
    }
}

/* What the headers change in an error of the same reply: their Retry-After goes before the body's, and one
   that says when to come back means a full minute, not an empty purse (OpenRouter's 402). */
static void llmgwi_dialect_weigh(llmgw_error *error, const llmgwi_dialect_meta *meta) {
    int status = error->http_status;
    if (!meta->retry_after_ms) return;
    if (status == 402 && error->code == LLMGW_E_QUOTA)
        (void)llmgwi_base_error(error, LLMGW_E_RATE_LIMITED, "%s", error->text);
    error->http_status = status;
    error->retry_after_ms = meta->retry_after_ms;
}

/* ---- writing requests: what the dialects share ---- */

/* How a target goes on from the assistant's text that stands last (WIRE.md 8). */
typedef enum llmgwi_dialect_way {
    LLMGWI_DIALECT_WAY_TURN = 0, /* not at all: a user turn asks for it */
    LLMGWI_DIALECT_WAY_PLAIN,    /* unasked */
    LLMGWI_DIALECT_WAY_PREFIX,   /* "prefix": true in the message */
    LLMGWI_DIALECT_WAY_PARTIAL,  /* "partial": true in the message */
    LLMGWI_DIALECT_WAY_CONTINUE  /* continue_final_message in the request */
} llmgwi_dialect_way;

/* Going on with an answer that was cut. */
typedef struct llmgwi_dialect_resume {
    llmgwi_base_str text; /* the kept beginning of the answer; ends without white space */
    bool turn;            /* by a user turn, whatever else the target can do */
} llmgwi_dialect_resume;

typedef struct llmgwi_dialect_build {
    llmgwi_json_out out;
    const llmgw_request *request;
    const llmgwi_dialect_target *target;
    llmgw_error *error;
    size_t message, part;  /* where we are, for error texts; SIZE_MAX: outside */
    llmgw_message more[2]; /* the turns after the request's own that resume an answer */
    llmgw_part kept, plea[3];
    size_t more_count;
    llmgwi_dialect_way way;
} llmgwi_dialect_build;

static void llmgwi_dialect_refuse(llmgwi_dialect_build *build, llmgw_code code, const char *field,
                                  const char *why) {
    char where[64] = "";
    if (build->error->code) return;
    size_t own = build->request->message_count;
    if (build->message != SIZE_MAX && build->message >= own)
        field = build->message == own && build->request->prompt ? "prompt" : "(the answer so far)";
    else if (build->message != SIZE_MAX && build->part != SIZE_MAX)
        snprintf(where, sizeof where, "messages[%lu].parts[%lu].", (unsigned long)build->message,
                 (unsigned long)build->part);
    else if (build->message != SIZE_MAX)
        snprintf(where, sizeof where, "messages[%lu].", (unsigned long)build->message);
    (void)llmgwi_base_error(build->error, code, "request.%s%s: %s", where, field, why);
}

/* A string value from the caller: checked while it is written. */
static void llmgwi_dialect_put(llmgwi_dialect_build *build, const char *field, llmgwi_base_str text) {
    char why[64];
    size_t good = llmgwi_json_put(&build->out, text);
    if (good == text.n) return;
    snprintf(why, sizeof why, "bad UTF-8 at byte %lu", (unsigned long)good);
    llmgwi_dialect_refuse(build, LLMGW_E_ARGUMENT, field, why);
}

static void llmgwi_dialect_pair(llmgwi_dialect_build *build, const char *key, const char *field,
                                llmgwi_base_str text) {
    llmgwi_json_key(&build->out, key);
    llmgwi_dialect_put(build, field, text);
}

static void llmgwi_dialect_number(llmgwi_dialect_build *build, const char *key, llmgw_opt opt) {
    if (!opt.set) return;
    llmgwi_json_key(&build->out, key);
    llmgwi_json_put_double(&build->out, opt.value);
}

static void llmgwi_dialect_whole(llmgwi_dialect_build *build, const char *key, llmgw_opt opt) {
    if (!opt.set) return;
    llmgwi_json_key(&build->out, key);
    llmgwi_json_put_int(&build->out, (int64_t)opt.value);
}

static void llmgwi_dialect_raw(llmgwi_dialect_build *build, const char *key, const char *json) {
    llmgwi_json_key(&build->out, key);
    llmgwi_json_raw(&build->out, llmgwi_base_cstr(json));
}

static void llmgwi_dialect_stops(llmgwi_dialect_build *build, const char *key) {
    if (!build->request->stop_count) return;
    llmgwi_json_key(&build->out, key);
    llmgwi_json_open(&build->out, '[');
    for (size_t i = 0; i < build->request->stop_count; i++)
        llmgwi_dialect_put(build, "stop", llmgwi_base_cstr(build->request->stop[i]));
    llmgwi_json_close(&build->out, ']');
}

static size_t llmgwi_dialect_own_turns(const llmgw_request *request) {
    return request->message_count + (request->prompt ? 1 : 0);
}

/* The i-th turn: messages, then prompt as a user turn, then what resumes an answer. */
static llmgw_message llmgwi_dialect_turn(const llmgwi_dialect_build *build, size_t i) {
    const llmgw_request *request = build->request;
    llmgw_message turn;
    if (i < request->message_count) return request->messages[i];
    if (i >= llmgwi_dialect_own_turns(request)) return build->more[i - llmgwi_dialect_own_turns(request)];
    memset(&turn, 0, sizeof turn);
    turn.role = LLMGW_ROLE_USER;
    turn.text = request->prompt;
    return turn;
}

static size_t llmgwi_dialect_turns(const llmgwi_dialect_build *build) {
    return llmgwi_dialect_own_turns(build->request) + build->more_count;
}

/* The j-th part of a turn: its text shorthand, then its parts. */
static llmgw_part llmgwi_dialect_part(const llmgw_message *turn, size_t j) {
    llmgw_part part;
    size_t shorthand = turn->text ? 1 : 0;
    if (j >= shorthand) return turn->parts[j - shorthand];
    memset(&part, 0, sizeof part);
    part.text = turn->text;
    return part;
}

static size_t llmgwi_dialect_parts(const llmgw_message *turn) {
    return turn->part_count + (turn->text ? 1 : 0);
}

/* Tells the error texts where we are. */
static llmgw_part llmgwi_dialect_at(llmgwi_dialect_build *build, const llmgw_message *turn, size_t i,
                                    size_t j) {
    build->message = i;
    build->part = turn->text && j == 0 ? SIZE_MAX : j - (turn->text ? 1 : 0);
    return llmgwi_dialect_part(turn, j);
}

static llmgwi_base_str llmgwi_dialect_part_text(const llmgw_part *part) {
    if (part->text && part->text_len) return llmgwi_base_view(part->text, part->text_len);
    return llmgwi_base_cstr(part->text);
}

static const char *llmgwi_dialect_part_mime(const llmgw_part *part) {
    if (part->mime) return part->mime;
    return part->kind == LLMGW_PART_FILE ? "application/pdf" : "image/png";
}

static const char *llmgwi_dialect_part_arguments(const llmgw_part *part) {
    return part->arguments && part->arguments[0] ? part->arguments : "{}";
}

/* Did this opaque part come from the target's own dialect and flavour? */
static bool llmgwi_dialect_own(const llmgwi_dialect_build *build, const llmgw_part *part) {
    return part->origin && strcmp(part->origin, build->target->flavour) == 0;
}

/* Bytes as a base64 string value, after a literal prefix. */
static void llmgwi_dialect_base64(llmgwi_dialect_build *build, const llmgw_part *part, bool data_url) {
    llmgwi_json_sep(&build->out);
    llmgwi_base_buf *buf = build->out.buf;
    llmgwi_base_buf_add(buf, "\"", 1);
    if (data_url) {
        llmgwi_base_buf_text(buf, "data:");
        llmgwi_base_str mime = llmgwi_base_cstr(llmgwi_dialect_part_mime(part));
        if (llmgwi_json_put_escaped(buf, mime) != mime.n)
            llmgwi_dialect_refuse(build, LLMGW_E_ARGUMENT, "mime", "bad UTF-8");
        llmgwi_base_buf_text(buf, ";base64,");
    }
    llmgwi_json_put_base64(buf, (const unsigned char *)part->data, part->data_len);
    llmgwi_base_buf_add(buf, "\"", 1);
}

static bool llmgwi_dialect_has_system(const llmgw_request *request) {
    if (request->system) return true;
    for (size_t i = 0; i < request->message_count; i++)
        if (request->messages[i].role == LLMGW_ROLE_SYSTEM) return true;
    return false;
}

/* Calls put for each system text: request.system, then the SYSTEM turns' parts. */
static void llmgwi_dialect_each_system(llmgwi_dialect_build *build,
                                       void (*put)(llmgwi_dialect_build *build, llmgwi_base_str text)) {
    const llmgw_request *request = build->request;
    if (request->system) put(build, llmgwi_base_cstr(request->system));
    for (size_t i = 0; i < request->message_count; i++) {
        const llmgw_message *turn = &request->messages[i];
        if (turn->role != LLMGW_ROLE_SYSTEM) continue;
        for (size_t j = 0; j < llmgwi_dialect_parts(turn); j++) {
            llmgw_part part = llmgwi_dialect_at(build, turn, i, j);
            put(build, llmgwi_dialect_part_text(&part));
        }
    }
    build->message = build->part = SIZE_MAX;
}

#define LLMGWI_DIALECT_IMAGE_BYTES 6000 /* an image costs some 1,500 tokens, of some four bytes */

/* What a part weighs as text. A page of a PDF has some 50 kB and costs some 1,500 tokens. */
static int64_t llmgwi_dialect_part_bytes(const llmgw_part *part) {
    size_t n = llmgwi_dialect_part_text(part).n;
    bool call = part->kind == LLMGW_PART_TOOL_CALL;
    if (call) n += llmgwi_base_cstr(part->name).n + llmgwi_base_cstr(part->arguments).n;
    if (part->kind == LLMGW_PART_IMAGE) n += LLMGWI_DIALECT_IMAGE_BYTES;
    if (part->kind == LLMGW_PART_FILE) {
        bool text = llmgwi_base_starts(llmgwi_base_cstr(part->mime), "text/");
        size_t size = text ? part->data_len : part->data_len / 8;
        n += !text && size < LLMGWI_DIALECT_IMAGE_BYTES ? LLMGWI_DIALECT_IMAGE_BYTES : size;
    }
    return (int64_t)n;
}

/* The bytes of all text in a request, for an estimate of its tokens. */
static int64_t llmgwi_dialect_request_bytes(const llmgw_request *request) {
    int64_t n = (int64_t)(llmgwi_base_cstr(request->system).n + llmgwi_base_cstr(request->prompt).n +
                          llmgwi_base_cstr(request->schema).n);
    for (size_t i = 0; i < request->message_count; i++)
        for (size_t j = 0; j < llmgwi_dialect_parts(&request->messages[i]); j++) {
            llmgw_part part = llmgwi_dialect_part(&request->messages[i], j);
            n += llmgwi_dialect_part_bytes(&part);
        }
    for (size_t i = 0; i < request->tool_count; i++) {
        const llmgw_tool *tool = &request->tools[i];
        n += (int64_t)(llmgwi_base_cstr(tool->name).n + llmgwi_base_cstr(tool->description).n +
                       llmgwi_base_cstr(tool->parameters).n);
    }
    return n;
}

/* Turns that speak with one voice on the wire, for dialects whose roles must alternate. */
static bool llmgwi_dialect_same_voice(llmgw_role a, llmgw_role b) {
    return (a == LLMGW_ROLE_ASSISTANT) == (b == LLMGW_ROLE_ASSISTANT);
}

/* An empty text, without a signature that wants to go back. */
static bool llmgwi_dialect_blank(const llmgwi_dialect_build *build, const llmgw_part *part) {
    if (part->kind != LLMGW_PART_TEXT || llmgwi_dialect_part_text(part).n) return false;
    return !part->signature || !llmgwi_dialect_own(build, part);
}

/* Has a turn anything to say on this wire? Empty texts and another provider's reasoning are left out; a turn
   that has nothing else would be a 400. */
static bool llmgwi_dialect_speaks(const llmgwi_dialect_build *build, const llmgw_message *turn) {
    bool speaks = false;
    for (size_t j = 0; j < llmgwi_dialect_parts(turn); j++) {
        llmgw_part part = llmgwi_dialect_part(turn, j);
        bool thought = part.kind == LLMGW_PART_REASONING;
        speaks = speaks || (thought ? llmgwi_dialect_own(build, &part) && part.signature
                                    : !llmgwi_dialect_blank(build, &part));
    }
    return speaks;
}

/* Is a turn passed over where turns are grouped? */
static bool llmgwi_dialect_passed(const llmgwi_dialect_build *build, const llmgw_message *turn) {
    return turn->role == LLMGW_ROLE_SYSTEM || !llmgwi_dialect_speaks(build, turn);
}

/* The end of the group that starts at turn i (turns within it may be passed over). */
static size_t llmgwi_dialect_group(const llmgwi_dialect_build *build, size_t i) {
    size_t n = llmgwi_dialect_turns(build), end = i + 1;
    llmgw_role role = llmgwi_dialect_turn(build, i).role;
    for (; end < n; end++) {
        llmgw_message next = llmgwi_dialect_turn(build, end);
        if (!llmgwi_dialect_passed(build, &next) && !llmgwi_dialect_same_voice(role, next.role)) break;
    }
    return end;
}

typedef void (*llmgwi_dialect_put_part)(llmgwi_dialect_build *build, const llmgw_part *part);

/* Writes the parts of turns [from, to): results of tools first where the dialect wants that. */
static void llmgwi_dialect_group_parts(llmgwi_dialect_build *build, size_t from, size_t to,
                                       llmgwi_dialect_put_part put) {
    for (int results = 1; results >= 0; results--)
        for (size_t i = from; i < to; i++) {
            llmgw_message turn = llmgwi_dialect_turn(build, i);
            for (size_t j = 0; turn.role != LLMGW_ROLE_SYSTEM && j < llmgwi_dialect_parts(&turn); j++) {
                llmgw_part part = llmgwi_dialect_at(build, &turn, i, j);
                if (llmgwi_dialect_blank(build, &part)) continue;
                if ((part.kind == LLMGW_PART_TOOL_RESULT) == (results == 1)) put(build, &part);
            }
        }
    build->message = build->part = SIZE_MAX;
}

/* All turns as messages whose roles alternate: {"role": ..., parts: [...]}. */
static void llmgwi_dialect_groups(llmgwi_dialect_build *build, const char *assistant, const char *parts,
                                  llmgwi_dialect_put_part put) {
    llmgwi_json_out *out = &build->out;
    llmgwi_json_open(out, '[');
    for (size_t i = 0, end; i < llmgwi_dialect_turns(build); i = end) {
        llmgw_message turn = llmgwi_dialect_turn(build, i);
        end = i + 1;
        if (llmgwi_dialect_passed(build, &turn)) continue;
        end = llmgwi_dialect_group(build, i);
        llmgwi_json_open(out, '{');
        llmgwi_json_pair(out, "role", turn.role == LLMGW_ROLE_ASSISTANT ? assistant : "user");
        llmgwi_json_key(out, parts);
        llmgwi_json_open(out, '[');
        llmgwi_dialect_group_parts(build, i, end, put);
        llmgwi_json_close(out, ']');
        llmgwi_json_close(out, '}');
    }
    llmgwi_json_close(out, ']');
}

/* ---- openai: chat completions ---- */

/* Mistral takes ids of exactly nine letters or digits: another provider's id is hashed to that. */
static const char *llmgwi_dialect_openai_id(const llmgwi_dialect_build *build, const char *id, char out[16]) {
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    size_t n = strlen(id), i = 0;
    if (!(build->target->quirks & LLMGWI_DIALECT_MISTRAL)) return id;
    while (i < n && strchr("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", id[i])) i++;
    if (n == 9 && i == n) return id;
    uint64_t hash = XXH3_64bits(id, n);
    for (i = 0; i < 9; i++, hash /= 36) out[i] = digits[hash % 36];
    out[9] = 0;
    return out;
}

static void llmgwi_dialect_openai_part(llmgwi_dialect_build *build, const llmgw_part *part) {
    llmgwi_json_out *out = &build->out;
    bool image = part->kind == LLMGW_PART_IMAGE;
    if (part->kind != LLMGW_PART_TEXT && !image && part->kind != LLMGW_PART_FILE) return;
    llmgwi_json_open(out, '{');
    if (part->kind == LLMGW_PART_TEXT) {
        llmgwi_json_pair(out, "type", "text");
        llmgwi_dialect_pair(build, "text", "text", llmgwi_dialect_part_text(part));
    } else if (image) {
        if (part->url && (build->target->quirks & LLMGWI_DIALECT_NO_IMAGE_URL))
            llmgwi_dialect_refuse(build, LLMGW_E_UNSUPPORTED, "url",
                                  "this provider takes images by bytes only");
        llmgwi_json_pair(out, "type", "image_url");
        llmgwi_json_key(out, "image_url");
        llmgwi_json_open(out, '{');
        llmgwi_json_key(out, "url");
        if (part->url)
            llmgwi_dialect_put(build, "url", llmgwi_base_cstr(part->url));
        else
            llmgwi_dialect_base64(build, part, true);
        llmgwi_json_close(out, '}');
    } else {
        if (part->url)
            llmgwi_dialect_refuse(build, LLMGW_E_UNSUPPORTED, "url",
                                  "this dialect takes files by bytes only");
        llmgwi_json_pair(out, "type", "file");
        llmgwi_json_key(out, "file");
        llmgwi_json_open(out, '{');
        llmgwi_dialect_pair(build, "filename", "name", llmgwi_base_cstr(part->name ? part->name : "file"));
        llmgwi_json_key(out, "file_data");
        llmgwi_dialect_base64(build, part, true);
        llmgwi_json_close(out, '}');
    }
    llmgwi_json_close(out, '}');
}

/* "content": a plain string for one text, else an array of parts. */
static void llmgwi_dialect_openai_content(llmgwi_dialect_build *build, const llmgw_message *turn, size_t i) {
    size_t texts = 0, others = 0;
    for (size_t j = 0; j < llmgwi_dialect_parts(turn); j++) {
        llmgw_part_kind kind = llmgwi_dialect_part(turn, j).kind;
        texts += kind == LLMGW_PART_TEXT;
        others += kind == LLMGW_PART_IMAGE || kind == LLMGW_PART_FILE;
    }
    llmgwi_json_key(&build->out, "content");
    bool array = others || texts > 1;
    if (texts == 0 && !others) llmgwi_base_buf_text(build->out.buf, "null");
    if (texts == 0 && !others) build->out.comma = true;
    if (array) llmgwi_json_open(&build->out, '[');
    for (size_t j = 0; j < llmgwi_dialect_parts(turn); j++) {
        llmgw_part part = llmgwi_dialect_at(build, turn, i, j);
        if (array)
            llmgwi_dialect_openai_part(build, &part);
        else if (part.kind == LLMGW_PART_TEXT)
            llmgwi_dialect_put(build, "text", llmgwi_dialect_part_text(&part));
    }
    if (array) llmgwi_json_close(&build->out, ']');
}

static void llmgwi_dialect_openai_calls(llmgwi_dialect_build *build, const llmgw_message *turn, size_t i) {
    llmgwi_json_out *out = &build->out;
    bool open = false;
    char id[16];
    for (size_t j = 0; j < llmgwi_dialect_parts(turn); j++) {
        llmgw_part part = llmgwi_dialect_at(build, turn, i, j);
        if (part.kind != LLMGW_PART_TOOL_CALL) continue;
        if (!open) {
            llmgwi_json_key(out, "tool_calls");
            llmgwi_json_open(out, '[');
            open = true;
        }
        llmgwi_json_open(out, '{');
        llmgwi_dialect_pair(build, "id", "id",
                            llmgwi_base_cstr(llmgwi_dialect_openai_id(build, part.id, id)));
        llmgwi_json_pair(out, "type", "function");
        llmgwi_json_key(out, "function");
        llmgwi_json_open(out, '{');
        llmgwi_dialect_pair(build, "name", "name", llmgwi_base_cstr(part.name));
        llmgwi_dialect_pair(build, "arguments", "arguments",
                            llmgwi_base_cstr(llmgwi_dialect_part_arguments(&part)));
        llmgwi_json_close(out, '}');
        llmgwi_json_close(out, '}');
    }
    if (open) llmgwi_json_close(out, ']');
}

/* Reasoning goes back only to the provider it came from, in the form that one wants. */
static void llmgwi_dialect_openai_replay(llmgwi_dialect_build *build, const llmgw_message *turn, size_t i) {
    unsigned quirks = build->target->quirks;
    bool calls = false;
    for (size_t j = 0; j < turn->part_count; j++)
        calls = calls || turn->parts[j].kind == LLMGW_PART_TOOL_CALL;
    const char *key = quirks & LLMGWI_DIALECT_REPLAY_DETAILS ? "reasoning_details" : "reasoning_content";
    if (!(quirks & LLMGWI_DIALECT_REPLAY_DETAILS) && !(calls && (quirks & LLMGWI_DIALECT_REPLAY_CONTENT)))
        return;
    bool open = false;
    for (size_t j = 0; j < llmgwi_dialect_parts(turn); j++) {
        llmgw_part part = llmgwi_dialect_at(build, turn, i, j);
        if (part.kind != LLMGW_PART_REASONING || !llmgwi_dialect_own(build, &part)) continue;
        if (quirks & LLMGWI_DIALECT_REPLAY_DETAILS) {
            if (part.signature && !open) llmgwi_dialect_raw(build, key, part.signature);
            open = open || part.signature; /* the first part holds all of them */
            continue;
        }
        if (!open) {
            llmgwi_json_key(&build->out, key);
            llmgwi_base_buf_add(build->out.buf, "\"", 1);
        }
        open = true;
        (void)llmgwi_json_put_escaped(build->out.buf, llmgwi_dialect_part_text(&part));
    }
    if (open && !(quirks & LLMGWI_DIALECT_REPLAY_DETAILS)) {
        llmgwi_base_buf_add(build->out.buf, "\"", 1);
        build->out.comma = true;
    }
}

static void llmgwi_dialect_openai_results(llmgwi_dialect_build *build, const llmgw_message *turn, size_t i) {
    char id[16];
    for (size_t j = 0; j < llmgwi_dialect_parts(turn); j++) {
        llmgw_part part = llmgwi_dialect_at(build, turn, i, j);
        if (part.kind != LLMGW_PART_TOOL_RESULT) continue;
        llmgwi_json_open(&build->out, '{');
        llmgwi_json_pair(&build->out, "role", "tool");
        llmgwi_dialect_pair(build, "tool_call_id", "id",
                            llmgwi_base_cstr(llmgwi_dialect_openai_id(build, part.id, id)));
        llmgwi_dialect_pair(build, "content", "text", llmgwi_dialect_part_text(&part));
        llmgwi_json_close(&build->out, '}');
    }
}

static void llmgwi_dialect_openai_turn(llmgwi_dialect_build *build, size_t i) {
    static const char *const roles[] = {"user", "assistant", "system", "user"};
    llmgw_message turn = llmgwi_dialect_turn(build, i);
    size_t results = 0, n = llmgwi_dialect_parts(&turn);
    if (turn.role != LLMGW_ROLE_ASSISTANT) {
        for (size_t j = 0; j < n; j++)
            results += llmgwi_dialect_part(&turn, j).kind == LLMGW_PART_TOOL_RESULT;
        llmgwi_dialect_openai_results(build, &turn, i);
        if (results == n && n) return;
    }
    if (turn.role == LLMGW_ROLE_ASSISTANT && !llmgwi_dialect_speaks(build, &turn)) return;
    llmgwi_json_open(&build->out, '{');
    llmgwi_json_pair(&build->out, "role", roles[turn.role]);
    llmgwi_dialect_openai_content(build, &turn, i);
    if (turn.role == LLMGW_ROLE_ASSISTANT) {
        llmgwi_dialect_openai_calls(build, &turn, i);
        llmgwi_dialect_openai_replay(build, &turn, i);
    }
    llmgwi_json_close(&build->out, '}');
}

/* Can the kept text go on in the message of turn i? It can in an assistant's that is nothing but text. */
static bool llmgwi_dialect_openai_joins(const llmgwi_dialect_build *build, size_t i) {
    llmgw_message turn = llmgwi_dialect_turn(build, i);
    bool joins = turn.role == LLMGW_ROLE_ASSISTANT;
    for (size_t j = 0; j < llmgwi_dialect_parts(&turn); j++) {
        llmgw_part_kind kind = llmgwi_dialect_part(&turn, j).kind;
        joins = joins && (kind == LLMGW_PART_TEXT || kind == LLMGW_PART_REASONING);
    }
    return joins;
}

/* The texts of turns [from, to) as one message: a template would put something between two. */
static void llmgwi_dialect_openai_joined(llmgwi_dialect_build *build, const char *role, size_t from,
                                         size_t to) {
    llmgwi_json_out *out = &build->out;
    llmgwi_json_open(out, '{');
    llmgwi_json_pair(out, "role", role);
    llmgwi_json_key(out, "content");
    llmgwi_base_buf_add(out->buf, "\"", 1);
    for (size_t i = from; i < to; i++) {
        llmgw_message turn = llmgwi_dialect_turn(build, i);
        for (size_t j = 0; j < llmgwi_dialect_parts(&turn); j++) {
            llmgw_part part = llmgwi_dialect_at(build, &turn, i, j);
            llmgwi_base_str text = llmgwi_dialect_part_text(&part);
            if (part.kind != LLMGW_PART_TEXT || llmgwi_json_put_escaped(out->buf, text) == text.n) continue;
            llmgwi_dialect_refuse(build, LLMGW_E_ARGUMENT, "text", "bad UTF-8");
        }
    }
    llmgwi_base_buf_add(out->buf, "\"", 1);
    out->comma = true;
}

/* The kept text, in the assistant's last message if it began there, and how to go on from it. */
static void llmgwi_dialect_openai_resume(llmgwi_dialect_build *build, size_t from) {
    size_t kept = llmgwi_dialect_own_turns(build->request);
    llmgwi_dialect_openai_joined(build, "assistant", from, kept + 1);
    if (from < kept) {
        llmgw_message turn = llmgwi_dialect_turn(build, from);
        llmgwi_dialect_openai_replay(build, &turn, from);
    }
    if (build->way == LLMGWI_DIALECT_WAY_PREFIX) llmgwi_dialect_raw(build, "prefix", "true");
    if (build->way == LLMGWI_DIALECT_WAY_PARTIAL) llmgwi_dialect_raw(build, "partial", "true");
    llmgwi_json_close(&build->out, '}');
    if (build->more_count < 2) return;
    llmgwi_dialect_openai_joined(build, "user", kept + 1, kept + 2);
    llmgwi_json_close(&build->out, '}');
}

static void llmgwi_dialect_openai_tools(llmgwi_dialect_build *build) {
    const llmgw_request *request = build->request;
    llmgwi_json_out *out = &build->out;
    bool mistral = (build->target->quirks & LLMGWI_DIALECT_MISTRAL) != 0;
    if (!request->tool_count) return;
    llmgwi_json_key(out, "tools");
    llmgwi_json_open(out, '[');
    for (size_t i = 0; i < request->tool_count; i++) {
        const llmgw_tool *tool = &request->tools[i];
        llmgwi_json_open(out, '{');
        llmgwi_json_pair(out, "type", "function");
        llmgwi_json_key(out, "function");
        llmgwi_json_open(out, '{');
        llmgwi_json_pair(out, "name", tool->name);
        if (tool->description)
            llmgwi_dialect_pair(build, "description", "tools.description",
                                llmgwi_base_cstr(tool->description));
        llmgwi_dialect_raw(build, "parameters",
                           tool->parameters ? tool->parameters : "{\"type\":\"object\",\"properties\":{}}");
        if (tool->strict) llmgwi_dialect_raw(build, "strict", "true");
        llmgwi_json_close(out, '}');
        llmgwi_json_close(out, '}');
    }
    llmgwi_json_close(out, ']');
    if (request->serial_tools) llmgwi_dialect_raw(build, "parallel_tool_calls", "false");
    if (request->tool_mode == LLMGW_TOOLS_AUTO) return;
    if (build->target->quirks & LLMGWI_DIALECT_NO_TOOL_CHOICE) {
        llmgwi_dialect_refuse(build, LLMGW_E_UNSUPPORTED, "tool_mode", "this provider lets the model decide");
        return;
    }
    llmgwi_json_key(out, "tool_choice");
    if (request->tool_mode == LLMGW_TOOLS_ONE) {
        llmgwi_json_open(out, '{');
        llmgwi_json_pair(out, "type", "function");
        llmgwi_json_key(out, "function");
        llmgwi_json_open(out, '{');
        llmgwi_json_pair(out, "name", request->tool_name);
        llmgwi_json_close(out, '}');
        llmgwi_json_close(out, '}');
    } else {
        const char *word = request->tool_mode == LLMGW_TOOLS_NONE ? "none" : mistral ? "any" : "required";
        (void)llmgwi_json_put(out, llmgwi_base_cstr(word));
    }
}

static const char *const llmgwi_dialect_efforts[] = {NULL, "none", "low", "medium", "high"};

static void llmgwi_dialect_openai_options(llmgwi_dialect_build *build) {
    const llmgw_request *request = build->request;
    unsigned quirks = build->target->quirks;
    bool mistral = (quirks & LLMGWI_DIALECT_MISTRAL) != 0, off = request->effort == LLMGW_EFFORT_NONE;
    llmgwi_json_out *out = &build->out;
    llmgwi_dialect_number(build, "temperature", request->temperature);
    llmgwi_dialect_number(build, "top_p", request->top_p);
    llmgwi_dialect_number(build, "frequency_penalty", request->frequency_penalty);
    llmgwi_dialect_number(build, "presence_penalty", request->presence_penalty);
    llmgwi_dialect_whole(build, mistral ? "random_seed" : "seed", request->seed);
    llmgwi_dialect_stops(build, "stop");
    if (request->max_tokens) {
        llmgwi_json_key(out, quirks & LLMGWI_DIALECT_MAX_TOKENS ? "max_tokens" : "max_completion_tokens");
        llmgwi_json_put_int(out, request->max_tokens);
    }
    if (request->effort && (quirks & LLMGWI_DIALECT_ENABLE_THINKING)) {
        llmgwi_dialect_raw(build, "enable_thinking", off ? "false" : "true");
    } else if (request->effort && (quirks & LLMGWI_DIALECT_THINKING)) {
        llmgwi_dialect_raw(build, "thinking", off ? "{\"type\":\"disabled\"}" : "{\"type\":\"enabled\"}");
    } else if (request->effort && !mistral) {
        llmgwi_json_pair(out, "reasoning_effort", llmgwi_dialect_efforts[request->effort]);
    }
    if (request->user_id && !mistral)
        llmgwi_dialect_pair(build, "user", "user_id", llmgwi_base_cstr(request->user_id));
    if (!request->schema) return;
    llmgwi_json_key(out, "response_format");
    llmgwi_json_open(out, '{');
    llmgwi_json_pair(out, "type", "json_schema");
    llmgwi_json_key(out, "json_schema");
    llmgwi_json_open(out, '{');
    llmgwi_dialect_pair(build, "name", "schema_name",
                        llmgwi_base_cstr(request->schema_name ? request->schema_name : "reply"));
    llmgwi_dialect_raw(build, "schema", request->schema);
    llmgwi_dialect_raw(build, "strict", "true");
    llmgwi_json_close(out, '}');
    llmgwi_json_close(out, '}');
}

LLMGWI_BASE_UNUSED
static void llmgwi_dialect_openai_build(llmgwi_dialect_build *build) {
    const llmgw_request *request = build->request;
    llmgwi_json_out *out = &build->out;
    llmgwi_json_open(out, '{');
    llmgwi_dialect_pair(build, "model", "model", llmgwi_base_cstr(build->target->model));
    llmgwi_json_key(out, "messages");
    llmgwi_json_open(out, '[');
    if (request->system) {
        llmgwi_json_open(out, '{');
        llmgwi_json_pair(out, "role", "system");
        llmgwi_dialect_pair(build, "content", "system", llmgwi_base_cstr(request->system));
        llmgwi_json_close(out, '}');
    }
    size_t own = llmgwi_dialect_own_turns(request);
    if (build->more_count && own && llmgwi_dialect_openai_joins(build, own - 1)) own--;
    for (size_t i = 0; i < own; i++) llmgwi_dialect_openai_turn(build, i);
    if (build->more_count) llmgwi_dialect_openai_resume(build, own);
    build->message = build->part = SIZE_MAX;
    llmgwi_json_close(out, ']');
    llmgwi_dialect_openai_tools(build);
    llmgwi_dialect_openai_options(build);
    if (request->stream) {
        llmgwi_dialect_raw(build, "stream", "true");
        if (!(build->target->quirks & LLMGWI_DIALECT_NO_USAGE_OPTION))
            llmgwi_dialect_raw(build, "stream_options", "{\"include_usage\":true}");
    }
    if (build->way == LLMGWI_DIALECT_WAY_CONTINUE) {
        llmgwi_dialect_raw(build, "continue_final_message", "true");
        llmgwi_dialect_raw(build, "add_generation_prompt", "false");
    }
    llmgwi_json_close(out, '}');
}

/* One message or delta, taken apart; acted on when the choice is complete. */
typedef struct llmgwi_dialect_delta {
    llmgwi_json_text content, reasoning, refusal, finish;
    llmgwi_base_str parts, details, calls; /* raw arrays */
    int64_t index;
} llmgwi_dialect_delta;

static LLMGWI_BASE_HOT void llmgwi_dialect_clear(llmgwi_json_text *text) {
    text->raw.p = "";
    text->raw.n = 0;
    text->escaped = false;
}

/* Field by field: it stands in the hottest loop. */
static LLMGWI_BASE_HOT void llmgwi_dialect_delta_clear(llmgwi_dialect_delta *delta) {
    llmgwi_dialect_clear(&delta->content);
    llmgwi_dialect_clear(&delta->reasoning);
    llmgwi_dialect_clear(&delta->refusal);
    llmgwi_dialect_clear(&delta->finish);
    delta->parts.p = delta->details.p = delta->calls.p = "";
    delta->parts.n = delta->details.n = delta->calls.n = 0;
    delta->index = 0;
}

static void llmgwi_dialect_openai_message(llmgwi_json *json, llmgwi_dialect_delta *delta) {
    llmgwi_base_str key;
    llmgwi_json_text text;
    if (llmgwi_json_peek(json) != LLMGWI_JSON_OBJECT || !llmgwi_json_object(json)) return;
    while (llmgwi_json_member(json, &key)) {
        if (llmgwi_base_is(key, "content")) {
            if (llmgwi_json_peek(json) == LLMGWI_JSON_ARRAY)
                (void)llmgwi_json_skip(json, &delta->parts);
            else
                (void)llmgwi_json_maybe(json, &delta->content);
        } else if (llmgwi_base_is(key, "reasoning_content") || llmgwi_base_is(key, "reasoning")) {
            if (llmgwi_json_maybe(json, &text) && text.raw.n) delta->reasoning = text;
        } else if (llmgwi_base_is(key, "refusal")) {
            (void)llmgwi_json_maybe(json, &delta->refusal);
        } else if (llmgwi_base_is(key, "tool_calls")) {
            (void)llmgwi_json_skip(json, &delta->calls);
        } else if (llmgwi_base_is(key, "reasoning_details")) {
            (void)llmgwi_json_skip(json, &delta->details);
        }
    }
}

/* One of Mistral's content parts: {"type":"text","text"} or {"type":"thinking","thinking":[...]}. */
static void llmgwi_dialect_openai_item(llmgwi_dialect_answer *answer, llmgwi_json *json,
                                       llmgw_part_kind kind) {
    llmgwi_base_str key;
    llmgwi_json_text text = llmgwi_dialect_none();
    if (llmgwi_json_peek(json) != LLMGWI_JSON_OBJECT || !llmgwi_json_object(json)) return;
    while (llmgwi_json_member(json, &key)) {
        if (llmgwi_base_is(key, "text")) {
            (void)llmgwi_json_maybe(json, &text);
        } else if (llmgwi_base_is(key, "thinking") && llmgwi_json_peek(json) == LLMGWI_JSON_ARRAY &&
                   json->depth < 4) {
            if (!llmgwi_json_array(json)) return;
            while (llmgwi_json_item(json)) llmgwi_dialect_openai_item(answer, json, LLMGW_PART_REASONING);
        }
    }
    (void)llmgwi_dialect_more(answer, kind, text);
}

static void llmgwi_dialect_openai_items(llmgwi_dialect_answer *answer, llmgwi_base_str raw) {
    llmgwi_json json;
    llmgwi_json_init(&json, raw.p, raw.n, answer->max_depth);
    if (!llmgwi_json_array(&json)) return;
    while (llmgwi_json_item(&json)) llmgwi_dialect_openai_item(answer, &json, LLMGW_PART_TEXT);
}

/* OpenRouter's reasoning_details: the items of all events, as they are, in one array for the replay. */
static void llmgwi_dialect_openai_details(llmgwi_dialect_answer *answer, llmgwi_base_str raw) {
    llmgwi_json json;
    llmgwi_base_str item;
    llmgwi_json_init(&json, raw.p, raw.n, answer->max_depth);
    if (llmgwi_json_peek(&json) != LLMGWI_JSON_ARRAY || !llmgwi_json_array(&json)) return;
    while (llmgwi_json_item(&json)) {
        if (!llmgwi_json_skip(&json, &item)) return;
        llmgwi_dialect_piece *piece = NULL;
        for (size_t i = 0; i < answer->piece_count && !piece; i++)
            if (answer->pieces[i].kind == LLMGW_PART_REASONING) piece = &answer->pieces[i];
        if (!piece) piece = llmgwi_dialect_piece_new(answer, LLMGW_PART_REASONING);
        if (!piece) return;
        llmgwi_base_buf *all = &piece->signature;
        if (all->n) all->p[all->n - 1] = ','; /* reopen */
        if (!llmgwi_dialect_append(answer, all,
                                   llmgwi_dialect_plain(all->n ? item : llmgwi_base_view("[", 1))))
            return;
        if (all->n == 1 && !llmgwi_dialect_append(answer, all, llmgwi_dialect_plain(item))) return;
        if (!llmgwi_dialect_append(answer, all, llmgwi_dialect_plain(llmgwi_base_view("]", 1)))) return;
    }
}

/* Does a delta begin another call than this one, under the same index? A new id or name says so; the same
   name without an id does when the arguments so far are whole. */
static bool llmgwi_dialect_openai_other(const llmgwi_dialect_piece *piece, llmgwi_json_text id,
                                        llmgwi_json_text name) {
    if (!name.raw.n) return false;
    if (id.raw.n) return !llmgwi_json_is(id, piece->id);
    return !llmgwi_json_is(name, piece->name) ||
           !llmgwi_json_check(llmgwi_base_buf_str(&piece->arguments), LLMGWI_JSON_OBJECT,
                              LLMGWI_JSON_MAX_DEPTH, NULL);
}

/* Which call does a delta belong to? By index; without one by id, else the last one. A new id under an
   old index is a new call: some servers number every call 0. */
static llmgwi_dialect_piece *llmgwi_dialect_openai_call(llmgwi_dialect_answer *answer, int64_t index,
                                                        llmgwi_json_text id, llmgwi_json_text name) {
    for (size_t i = answer->piece_count; answer->sink && i-- > 0;) {
        llmgwi_dialect_piece *piece = &answer->pieces[i];
        if (piece->kind != LLMGW_PART_TOOL_CALL) continue;
        if (llmgwi_dialect_openai_other(piece, id, name)) continue;
        if (index < 0 || piece->wire_index == index) return piece;
    }
    if (!name.raw.n) {
        (void)llmgwi_dialect_fail(answer, LLMGW_E_PROTOCOL, "tool_calls: a call without a name");
        return NULL;
    }
    return llmgwi_dialect_tool(answer, index, id, name);
}

static void llmgwi_dialect_openai_call_item(llmgwi_dialect_answer *answer, llmgwi_json *json) {
    llmgwi_json_text id = llmgwi_dialect_none(), name = id, arguments = id;
    llmgwi_base_str key, raw;
    int64_t index = -1;
    if (llmgwi_json_peek(json) != LLMGWI_JSON_OBJECT || !llmgwi_json_object(json)) return;
    while (llmgwi_json_member(json, &key)) {
        if (llmgwi_base_is(key, "index"))
            (void)llmgwi_json_count(json, &index);
        else if (llmgwi_base_is(key, "id"))
            (void)llmgwi_json_maybe(json, &id);
        else if (llmgwi_base_is(key, "function") && llmgwi_json_peek(json) == LLMGWI_JSON_OBJECT) {
            if (!llmgwi_json_object(json)) return;
            while (llmgwi_json_member(json, &key)) {
                if (llmgwi_base_is(key, "name"))
                    (void)llmgwi_json_maybe(json, &name);
                else if (llmgwi_base_is(key, "arguments")) {
                    if (llmgwi_json_peek(json) == LLMGWI_JSON_OBJECT && llmgwi_json_skip(json, &raw))
                        arguments = llmgwi_dialect_plain(raw); /* Mistral: an object instead of its text */
                    else
                        (void)llmgwi_json_maybe(json, &arguments);
                }
            }
        }
    }
    if (json->error) return;
    llmgwi_dialect_piece *piece = llmgwi_dialect_openai_call(answer, index, id, name);
    if (piece) (void)llmgwi_dialect_arguments(answer, piece, arguments);
}

static void llmgwi_dialect_openai_call_list(llmgwi_dialect_answer *answer, llmgwi_base_str raw) {
    llmgwi_json json;
    llmgwi_json_init(&json, raw.p, raw.n, answer->max_depth);
    if (llmgwi_json_peek(&json) != LLMGWI_JSON_ARRAY || !llmgwi_json_array(&json)) return;
    while (llmgwi_json_item(&json)) llmgwi_dialect_openai_call_item(answer, &json);
}

static void llmgwi_dialect_openai_usage(llmgwi_dialect_answer *answer, llmgwi_json *json) {
    int64_t total = -1;
    llmgwi_base_str key;
    llmgw_usage *usage = &answer->usage;
    if (llmgwi_json_peek(json) != LLMGWI_JSON_OBJECT || !llmgwi_json_object(json)) return;
    while (llmgwi_json_member(json, &key)) {
        bool in = llmgwi_base_is(key, "prompt_tokens_details"),
             out = llmgwi_base_is(key, "completion_tokens_details");
        if (llmgwi_base_is(key, "prompt_tokens"))
            usage->known = llmgwi_json_count(json, &usage->input) || usage->known;
        else if (llmgwi_base_is(key, "completion_tokens"))
            (void)llmgwi_json_count(json, &usage->output);
        else if (llmgwi_base_is(key, "total_tokens"))
            (void)llmgwi_json_count(json, &total);
        else if (llmgwi_base_is(key, "prompt_cache_hit_tokens") || llmgwi_base_is(key, "cached_tokens"))
            (void)llmgwi_json_count(json, &usage->cached);
        else if ((in || out) && llmgwi_json_peek(json) == LLMGWI_JSON_OBJECT && llmgwi_json_object(json))
            while (llmgwi_json_member(json, &key)) {
                if (in && llmgwi_base_is(key, "cached_tokens"))
                    (void)llmgwi_json_count(json, &usage->cached);
                else if (in && (llmgwi_base_is(key, "cache_write_tokens") ||
                                llmgwi_base_is(key, "cache_creation_input_tokens")))
                    (void)llmgwi_json_count(json, &usage->cache_write);
                else if (out && llmgwi_base_is(key, "reasoning_tokens"))
                    (void)llmgwi_json_count(json, &usage->reasoning);
            }
    }
    /* xAI counts reasoning beside completion_tokens: the total shows it */
    if (usage->reasoning > 0 && total == usage->input + usage->output + usage->reasoning)
        usage->output += usage->reasoning;
}

static void llmgwi_dialect_openai_choice(llmgwi_dialect_answer *answer, llmgwi_json *json) {
    llmgwi_dialect_delta delta;
    llmgwi_base_str key;
    llmgwi_dialect_delta_clear(&delta);
    if (llmgwi_json_peek(json) != LLMGWI_JSON_OBJECT || !llmgwi_json_object(json)) return;
    while (llmgwi_json_member(json, &key)) {
        if (llmgwi_base_is(key, "index"))
            (void)llmgwi_json_count(json, &delta.index);
        else if (llmgwi_base_is(key, "delta") || llmgwi_base_is(key, "message"))
            llmgwi_dialect_openai_message(json, &delta);
        else if (llmgwi_base_is(key, "finish_reason"))
            (void)llmgwi_json_maybe(json, &delta.finish);
        else if (llmgwi_base_is(key, "usage"))
            llmgwi_dialect_openai_usage(answer, json); /* Moonshot */
    }
    if (json->error || delta.index != 0) return; /* we ask for one choice */
    answer->any = true;
    (void)llmgwi_dialect_more(answer, LLMGW_PART_REASONING, delta.reasoning);
    if (delta.details.n) llmgwi_dialect_openai_details(answer, delta.details);
    if (delta.parts.n) llmgwi_dialect_openai_items(answer, delta.parts);
    (void)llmgwi_dialect_more(answer, LLMGW_PART_TEXT, delta.content);
    (void)llmgwi_dialect_append(answer, &answer->refusal, delta.refusal);
    if (delta.calls.n) llmgwi_dialect_openai_call_list(answer, delta.calls);
    llmgwi_dialect_finish(answer, delta.finish);
}

/* A malformed text ends the answer with an error that says what and where. */
static bool llmgwi_dialect_parsed(llmgwi_dialect_answer *answer, llmgwi_json *json, const char *what) {
    if (llmgwi_json_end(json)) return answer->error.code == LLMGW_OK;
    if (!answer->error.code)
        (void)llmgwi_base_error(&answer->error, LLMGW_E_PROTOCOL, "%s: %s at byte %lu", what, json->error,
                                (unsigned long)json->error_at);
    return false;
}

/* An error inside a 200 ends the answer; empty: there is none. */
static bool llmgwi_dialect_unless(llmgwi_dialect_answer *answer, llmgwi_base_str error) {
    if (error.n && !answer->error.code) llmgwi_dialect_error(&answer->error, 0, error, answer->max_depth);
    return !answer->error.code;
}

/* A whole reply holds a choice, or whatever the dialect calls it. */
static bool llmgwi_dialect_whole_reply(llmgwi_dialect_answer *answer, const char *lack) {
    if (!answer->any) return llmgwi_dialect_fail(answer, LLMGW_E_PROTOCOL, lack);
    return answer->ended = true;
}

/* A whole reply or one chunk: they differ in "message" and "delta" only. */
static bool llmgwi_dialect_openai_body(llmgwi_dialect_answer *answer, llmgwi_base_str body,
                                       const char *what) {
    llmgwi_json json;
    llmgwi_base_str key, error = llmgwi_base_view("", 0);
    llmgwi_json_text id, model;
    llmgwi_dialect_clear(&id);
    llmgwi_dialect_clear(&model);
    llmgwi_json_init(&json, body.p, body.n, answer->max_depth);
    if (llmgwi_json_object(&json))
        while (llmgwi_json_member(&json, &key)) {
            if (llmgwi_base_is(key, "choices") && llmgwi_json_peek(&json) == LLMGWI_JSON_ARRAY) {
                if (!llmgwi_json_array(&json)) break;
                while (llmgwi_json_item(&json)) llmgwi_dialect_openai_choice(answer, &json);
            } else if (llmgwi_base_is(key, "usage")) {
                llmgwi_dialect_openai_usage(answer, &json);
            } else if (llmgwi_base_is(key, "id")) {
                (void)llmgwi_json_maybe(&json, &id);
            } else if (llmgwi_base_is(key, "model")) {
                (void)llmgwi_json_maybe(&json, &model);
            } else if (llmgwi_base_is(key, "error") && llmgwi_json_peek(&json) != LLMGWI_JSON_NULL) {
                (void)llmgwi_json_skip(&json, &error);
            } else if (llmgwi_base_is(key, "x_groq") && llmgwi_json_peek(&json) == LLMGWI_JSON_OBJECT) {
                if (!llmgwi_json_object(&json)) break;
                while (llmgwi_json_member(&json, &key))
                    if (llmgwi_base_is(key, "usage")) llmgwi_dialect_openai_usage(answer, &json);
            }
        }
    if (!llmgwi_dialect_parsed(answer, &json, what)) return false;
    llmgwi_dialect_identify(answer, id, model);
    return llmgwi_dialect_unless(answer, error);
}

LLMGWI_BASE_UNUSED
static bool llmgwi_dialect_openai_reply(llmgwi_dialect_answer *answer, llmgwi_base_str body) {
    return llmgwi_dialect_openai_body(answer, body, "reply") &&
           llmgwi_dialect_whole_reply(answer, "reply: no choices");
}

LLMGWI_BASE_UNUSED
static bool llmgwi_dialect_openai_event(llmgwi_dialect_answer *answer, llmgwi_base_str name,
                                        llmgwi_base_str data) {
    if (llmgwi_base_is(data, "[DONE]")) {
        if (!answer->any)
            return llmgwi_dialect_fail(answer, LLMGW_E_PROTOCOL, "stream: [DONE] before any choice");
        answer->ended = true;
        return true;
    }
    if (!llmgwi_dialect_openai_body(answer, data, "stream event")) return false;
    if (llmgwi_base_is(name, "error")) llmgwi_dialect_error(&answer->error, 0, data, answer->max_depth);
    return answer->error.code == LLMGW_OK;
}

/* ---- anthropic: messages ---- */

static void llmgwi_dialect_anthropic_source(llmgwi_dialect_build *build, const llmgw_part *part) {
    llmgwi_json_out *out = &build->out;
    llmgwi_json_key(out, "source");
    llmgwi_json_open(out, '{');
    if (part->url) {
        llmgwi_json_pair(out, "type", "url");
        llmgwi_dialect_pair(build, "url", "url", llmgwi_base_cstr(part->url));
    } else {
        llmgwi_json_pair(out, "type", "base64");
        llmgwi_dialect_pair(build, "media_type", "mime", llmgwi_base_cstr(llmgwi_dialect_part_mime(part)));
        llmgwi_json_key(out, "data");
        llmgwi_dialect_base64(build, part, false);
    }
    llmgwi_json_close(out, '}');
}

/* Thinking goes back word for word with its signature, or not at all. */
static void llmgwi_dialect_anthropic_thinking(llmgwi_dialect_build *build, const llmgw_part *part) {
    if (!part->signature || !llmgwi_dialect_own(build, part)) return;
    bool redacted = !part->text; /* as llmgwi_dialect_export leaves it */
    llmgwi_json_open(&build->out, '{');
    llmgwi_json_pair(&build->out, "type", redacted ? "redacted_thinking" : "thinking");
    if (!redacted) llmgwi_dialect_pair(build, "thinking", "text", llmgwi_dialect_part_text(part));
    llmgwi_dialect_pair(build, redacted ? "data" : "signature", "signature",
                        llmgwi_base_cstr(part->signature));
    llmgwi_json_close(&build->out, '}');
}

static void llmgwi_dialect_anthropic_part(llmgwi_dialect_build *build, const llmgw_part *part) {
    llmgwi_json_out *out = &build->out;
    if (part->kind == LLMGW_PART_REASONING) {
        llmgwi_dialect_anthropic_thinking(build, part);
        return;
    }
    llmgwi_base_str text = llmgwi_dialect_part_text(part);
    llmgwi_json_open(out, '{');
    switch (part->kind) {
    case LLMGW_PART_IMAGE:
    case LLMGW_PART_FILE:
        llmgwi_json_pair(out, "type", part->kind == LLMGW_PART_IMAGE ? "image" : "document");
        llmgwi_dialect_anthropic_source(build, part);
        if (part->kind == LLMGW_PART_FILE && part->name)
            llmgwi_dialect_pair(build, "title", "name", llmgwi_base_cstr(part->name));
        break;
    case LLMGW_PART_TOOL_CALL:
        llmgwi_json_pair(out, "type", "tool_use");
        llmgwi_dialect_pair(build, "id", "id", llmgwi_base_cstr(part->id));
        llmgwi_dialect_pair(build, "name", "name", llmgwi_base_cstr(part->name));
        llmgwi_dialect_raw(build, "input", llmgwi_dialect_part_arguments(part));
        break;
    case LLMGW_PART_TOOL_RESULT:
        llmgwi_json_pair(out, "type", "tool_result");
        llmgwi_dialect_pair(build, "tool_use_id", "id", llmgwi_base_cstr(part->id));
        llmgwi_dialect_pair(build, "content", "text", text);
        if (part->is_error) llmgwi_dialect_raw(build, "is_error", "true");
        break;
    case LLMGW_PART_TEXT:
    case LLMGW_PART_REASONING:
        llmgwi_json_pair(out, "type", "text");
        llmgwi_dialect_pair(build, "text", "text", text);
        break;
    }
    llmgwi_json_close(out, '}');
}

static void llmgwi_dialect_anthropic_system(llmgwi_dialect_build *build, llmgwi_base_str text) {
    if (!text.n) return;
    llmgwi_json_open(&build->out, '{');
    llmgwi_json_pair(&build->out, "type", "text");
    llmgwi_dialect_pair(build, "text", build->message == SIZE_MAX ? "system" : "text", text);
    llmgwi_json_close(&build->out, '}');
}

static void llmgwi_dialect_anthropic_tools(llmgwi_dialect_build *build) {
    static const char *const modes[] = {"auto", "none", "any", "tool"};
    const llmgw_request *request = build->request;
    llmgwi_json_out *out = &build->out;
    if (!request->tool_count) return;
    llmgwi_json_key(out, "tools");
    llmgwi_json_open(out, '[');
    for (size_t i = 0; i < request->tool_count; i++) {
        const llmgw_tool *tool = &request->tools[i];
        llmgwi_json_open(out, '{');
        llmgwi_json_pair(out, "name", tool->name);
        if (tool->description)
            llmgwi_dialect_pair(build, "description", "tools.description",
                                llmgwi_base_cstr(tool->description));
        llmgwi_dialect_raw(build, "input_schema",
                           tool->parameters ? tool->parameters : "{\"type\":\"object\"}");
        if (tool->strict) llmgwi_dialect_raw(build, "strict", "true");
        llmgwi_json_close(out, '}');
    }
    llmgwi_json_close(out, ']');
    if (request->tool_mode == LLMGW_TOOLS_AUTO && !request->serial_tools) return;
    llmgwi_json_key(out, "tool_choice");
    llmgwi_json_open(out, '{');
    llmgwi_json_pair(out, "type", modes[request->tool_mode]);
    if (request->tool_mode == LLMGW_TOOLS_ONE) llmgwi_json_pair(out, "name", request->tool_name);
    if (request->serial_tools && request->tool_mode != LLMGW_TOOLS_NONE)
        llmgwi_dialect_raw(build, "disable_parallel_tool_use", "true");
    llmgwi_json_close(out, '}');
}

#define LLMGWI_DIALECT_ANTHROPIC_TOKENS 4096 /* max_tokens is required; every Claude 3 and later takes this */

/* Models up to 4.5 think with a budget of tokens, later ones adaptively with an effort (WIRE.md 1.3). */
static bool llmgwi_dialect_anthropic_budget(const char *model) {
    static const char *const old[] = {"claude-3", "claude-2",    "-4-0",         "-4-1",
                                      "-4-5",     "opus-4-2025", "sonnet-4-2025"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(old); i++)
        if (strstr(model, old[i])) return true;
    return false;
}

/* thinking, and max_tokens, which must exceed its budget; the effort goes with the format. */
static void llmgwi_dialect_anthropic_effort(llmgwi_dialect_build *build) {
    static const int64_t budgets[] = {0, 0, 1024, 4096, 16384};
    llmgw_effort effort = build->request->effort;
    int64_t tokens = build->request->max_tokens, budget = budgets[effort];
    char text[64];
    bool old = llmgwi_dialect_anthropic_budget(build->target->model);
    if (old && budget && tokens && budget >= tokens) budget = tokens > 1024 ? 1024 : 0;
    if (!tokens) tokens = LLMGWI_DIALECT_ANTHROPIC_TOKENS + (old ? budget : 0);
    llmgwi_json_key(&build->out, "max_tokens");
    llmgwi_json_put_int(&build->out, tokens);
    if (effort == LLMGW_EFFORT_DEFAULT) return;
    if (effort == LLMGW_EFFORT_NONE || (old && !budget)) {
        llmgwi_dialect_raw(build, "thinking", "{\"type\":\"disabled\"}");
    } else if (old) {
        snprintf(text, sizeof text, "{\"type\":\"enabled\",\"budget_tokens\":%lld}", (long long)budget);
        llmgwi_dialect_raw(build, "thinking", text);
    } else {
        llmgwi_dialect_raw(build, "thinking", "{\"type\":\"adaptive\"}");
    }
}

static void llmgwi_dialect_anthropic_output(llmgwi_dialect_build *build) {
    const llmgw_request *request = build->request;
    bool effort =
        request->effort >= LLMGW_EFFORT_LOW && !llmgwi_dialect_anthropic_budget(build->target->model);
    llmgwi_json_out *out = &build->out;
    if (!effort && !request->schema) return;
    llmgwi_json_key(out, "output_config");
    llmgwi_json_open(out, '{');
    if (effort) llmgwi_json_pair(out, "effort", llmgwi_dialect_efforts[request->effort]);
    if (request->schema) {
        llmgwi_json_key(out, "format");
        llmgwi_json_open(out, '{');
        llmgwi_json_pair(out, "type", "json_schema");
        llmgwi_dialect_raw(build, "schema", request->schema);
        llmgwi_json_close(out, '}');
    }
    llmgwi_json_close(out, '}');
}

LLMGWI_BASE_UNUSED
static void llmgwi_dialect_anthropic_build(llmgwi_dialect_build *build) {
    const llmgw_request *request = build->request;
    llmgwi_json_out *out = &build->out;
    llmgwi_json_open(out, '{');
    llmgwi_dialect_pair(build, "model", "model", llmgwi_base_cstr(build->target->model));
    llmgwi_dialect_anthropic_effort(build);
    if (llmgwi_dialect_has_system(request)) {
        llmgwi_json_key(out, "system");
        llmgwi_json_open(out, '[');
        llmgwi_dialect_each_system(build, llmgwi_dialect_anthropic_system);
        llmgwi_json_close(out, ']');
    }
    llmgwi_json_key(out, "messages");
    llmgwi_dialect_groups(build, "assistant", "content", llmgwi_dialect_anthropic_part);
    llmgwi_dialect_anthropic_tools(build);
    llmgwi_dialect_anthropic_output(build);
    llmgwi_dialect_number(build, "temperature", request->temperature);
    llmgwi_dialect_number(build, "top_p", request->top_p);
    llmgwi_dialect_whole(build, "top_k", request->top_k);
    llmgwi_dialect_stops(build, "stop_sequences");
    if (request->user_id) {
        llmgwi_json_key(out, "metadata");
        llmgwi_json_open(out, '{');
        llmgwi_dialect_pair(build, "user_id", "user_id", llmgwi_base_cstr(request->user_id));
        llmgwi_json_close(out, '}');
    }
    if (request->stream) llmgwi_dialect_raw(build, "stream", "true");
    llmgwi_json_close(out, '}');
}

/* Anthropic's own counts: input excludes what the cache read and wrote. Kept apart until the sum is
   taken, since a later event restates only some of them. */
static void llmgwi_dialect_anthropic_usage(llmgwi_dialect_answer *answer, llmgwi_json *json) {
    llmgw_usage *usage = &answer->usage;
    int64_t fresh = usage->input - usage->cached - usage->cache_write;
    llmgwi_base_str key;
    if (llmgwi_json_peek(json) != LLMGWI_JSON_OBJECT || !llmgwi_json_object(json)) return;
    while (llmgwi_json_member(json, &key)) {
        if (llmgwi_base_is(key, "input_tokens"))
            usage->known = llmgwi_json_count(json, &fresh) || usage->known;
        else if (llmgwi_base_is(key, "output_tokens"))
            (void)llmgwi_json_count(json, &usage->output);
        else if (llmgwi_base_is(key, "cache_read_input_tokens"))
            (void)llmgwi_json_count(json, &usage->cached);
        else if (llmgwi_base_is(key, "cache_creation_input_tokens"))
            (void)llmgwi_json_count(json, &usage->cache_write);
        else if (llmgwi_base_is(key, "cache_creation") && llmgwi_json_peek(json) == LLMGWI_JSON_OBJECT) {
            if (!llmgwi_json_object(json)) return;
            while (llmgwi_json_member(json, &key))
                if (llmgwi_base_is(key, "ephemeral_1h_input_tokens"))
                    (void)llmgwi_json_count(json, &usage->cache_write_1h);
        } else if (llmgwi_base_is(key, "output_tokens_details") &&
                   llmgwi_json_peek(json) == LLMGWI_JSON_OBJECT) {
            if (!llmgwi_json_object(json)) return;
            while (llmgwi_json_member(json, &key))
                if (llmgwi_base_is(key, "thinking_tokens")) (void)llmgwi_json_count(json, &usage->reasoning);
        }
    }
    if (fresh > INT64_MAX / 4) fresh = INT64_MAX / 4;
    usage->input = fresh + usage->cached + usage->cache_write;
}

/* A block, or a delta of one: the same fields in both. */
typedef struct llmgwi_dialect_block {
    llmgwi_json_text type, text, thinking, signature, data, id, name, partial;
    llmgwi_base_str input;
} llmgwi_dialect_block;

static void llmgwi_dialect_anthropic_read(llmgwi_json *json, llmgwi_dialect_block *block) {
    static const char *const names[] = {"type", "text", "thinking", "signature",
                                        "data", "id",   "name",     "partial_json"};
    llmgwi_json_text *fields[] = {&block->type, &block->text, &block->thinking, &block->signature,
                                  &block->data, &block->id,   &block->name,     &block->partial};
    llmgwi_base_str key;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(fields); i++) *fields[i] = llmgwi_dialect_none();
    block->input = llmgwi_base_view("", 0);
    if (llmgwi_json_peek(json) != LLMGWI_JSON_OBJECT || !llmgwi_json_object(json)) return;
    while (llmgwi_json_member(json, &key)) {
        if (llmgwi_base_is(key, "input")) {
            (void)llmgwi_json_skip(json, &block->input);
            continue;
        }
        for (size_t i = 0; i < LLMGWI_BASE_COUNT(fields); i++)
            if (llmgwi_base_is(key, names[i]) && json->pending) (void)llmgwi_json_maybe(json, fields[i]);
    }
}

static void llmgwi_dialect_anthropic_sign(llmgwi_dialect_answer *answer, llmgwi_json_text signature) {
    llmgwi_dialect_piece *piece = llmgwi_dialect_last(answer, LLMGW_PART_REASONING);
    if (!signature.raw.n) return;
    if (!piece || piece->redacted) piece = llmgwi_dialect_piece_new(answer, LLMGW_PART_REASONING);
    if (piece) (void)llmgwi_dialect_append(answer, &piece->signature, signature);
}

/* A whole block of a reply, or the start of one in a stream. Kinds we do not know (server tools) are
   passed over. */
static void llmgwi_dialect_anthropic_block(llmgwi_dialect_answer *answer, const llmgwi_dialect_block *block,
                                           int64_t index) {
    if (llmgwi_json_is(block->type, "text")) {
        (void)llmgwi_dialect_more(answer, LLMGW_PART_TEXT, block->text);
    } else if (llmgwi_json_is(block->type, "thinking")) {
        if (answer->piece_count && llmgwi_dialect_last(answer, LLMGW_PART_REASONING))
            (void)llmgwi_dialect_piece_new(answer, LLMGW_PART_REASONING); /* two blocks, two signatures */
        (void)llmgwi_dialect_more(answer, LLMGW_PART_REASONING, block->thinking);
        llmgwi_dialect_anthropic_sign(answer, block->signature);
    } else if (llmgwi_json_is(block->type, "redacted_thinking")) {
        llmgwi_dialect_piece *piece = llmgwi_dialect_piece_new(answer, LLMGW_PART_REASONING);
        if (!piece) return;
        piece->redacted = true;
        (void)llmgwi_dialect_append(answer, &piece->signature, block->data);
    } else if (llmgwi_json_is(block->type, "tool_use")) {
        llmgwi_dialect_piece *piece = llmgwi_dialect_tool(answer, index, block->id, block->name);
        if (piece && !llmgwi_dialect_empty(block->input))
            (void)llmgwi_dialect_arguments(answer, piece, llmgwi_dialect_plain(block->input));
    }
}

static void llmgwi_dialect_anthropic_delta(llmgwi_dialect_answer *answer, const llmgwi_dialect_block *delta,
                                           int64_t index) {
    if (llmgwi_json_is(delta->type, "text_delta")) {
        (void)llmgwi_dialect_more(answer, LLMGW_PART_TEXT, delta->text);
    } else if (llmgwi_json_is(delta->type, "thinking_delta")) {
        (void)llmgwi_dialect_more(answer, LLMGW_PART_REASONING, delta->thinking);
    } else if (llmgwi_json_is(delta->type, "signature_delta")) {
        llmgwi_dialect_anthropic_sign(answer, delta->signature);
    } else if (llmgwi_json_is(delta->type, "input_json_delta")) {
        for (size_t i = answer->piece_count; i-- > 0;) {
            llmgwi_dialect_piece *piece = &answer->pieces[i];
            if (piece->kind != LLMGW_PART_TOOL_CALL || piece->wire_index != index) continue;
            (void)llmgwi_dialect_arguments(answer, piece, delta->partial);
            return;
        } /* no such block: a server tool's input, which we pass over */
    }
}

/* {"stop_reason", "stop_details"}, in a message and in message_delta. */
static void llmgwi_dialect_anthropic_stop(llmgwi_dialect_answer *answer, llmgwi_json_text reason,
                                          llmgwi_base_str details) {
    llmgwi_json json;
    llmgwi_base_str key;
    llmgwi_json_text why = llmgwi_dialect_none(), category = why;
    llmgwi_dialect_finish(answer, reason);
    if (!llmgwi_json_is(reason, "refusal")) return;
    llmgwi_json_init(&json, details.p, details.n, answer->max_depth);
    if (llmgwi_json_peek(&json) == LLMGWI_JSON_OBJECT && llmgwi_json_object(&json))
        while (llmgwi_json_member(&json, &key)) {
            if (llmgwi_base_is(key, "explanation"))
                (void)llmgwi_json_maybe(&json, &why);
            else if (llmgwi_base_is(key, "category"))
                (void)llmgwi_json_maybe(&json, &category);
        }
    if (!why.raw.n) why = category.raw.n ? category : reason;
    llmgwi_base_buf_clear(&answer->refusal);
    (void)llmgwi_dialect_append(answer, &answer->refusal, why);
}

/* A message: a whole reply, or what message_start carries. */
static void llmgwi_dialect_anthropic_message(llmgwi_dialect_answer *answer, llmgwi_json *json, bool whole) {
    llmgwi_json_text id = llmgwi_dialect_none(), model = id, reason = id;
    llmgwi_base_str key, details = llmgwi_base_view("", 0), error = details;
    int64_t index = 0;
    if (!llmgwi_json_object(json)) return;
    while (llmgwi_json_member(json, &key)) {
        if (llmgwi_base_is(key, "id"))
            (void)llmgwi_json_maybe(json, &id);
        else if (llmgwi_base_is(key, "model"))
            (void)llmgwi_json_maybe(json, &model);
        else if (llmgwi_base_is(key, "stop_reason"))
            (void)llmgwi_json_maybe(json, &reason);
        else if (llmgwi_base_is(key, "stop_details"))
            (void)llmgwi_json_skip(json, &details);
        else if (llmgwi_base_is(key, "error"))
            (void)llmgwi_json_skip(json, &error);
        else if (llmgwi_base_is(key, "usage"))
            llmgwi_dialect_anthropic_usage(answer, json);
        else if (llmgwi_base_is(key, "content") && llmgwi_json_peek(json) == LLMGWI_JSON_ARRAY) {
            if (!llmgwi_json_array(json)) return;
            for (answer->any = true; llmgwi_json_item(json); index++) {
                llmgwi_dialect_block block;
                llmgwi_dialect_anthropic_read(json, &block);
                if (whole) llmgwi_dialect_anthropic_block(answer, &block, index);
            }
        }
    }
    if (answer->id[0] && id.raw.n && !llmgwi_json_is(id, answer->id))
        (void)llmgwi_dialect_fail(answer, LLMGW_E_PROTOCOL,
                                  "stream: another message begins inside a message");
    llmgwi_dialect_identify(answer, id, model);
    if (whole) llmgwi_dialect_anthropic_stop(answer, reason, details);
    if (whole && error.n && !answer->any) llmgwi_dialect_error(&answer->error, 0, error, answer->max_depth);
}

LLMGWI_BASE_UNUSED
static bool llmgwi_dialect_anthropic_reply(llmgwi_dialect_answer *answer, llmgwi_base_str body) {
    llmgwi_json json;
    llmgwi_json_init(&json, body.p, body.n, answer->max_depth);
    llmgwi_dialect_anthropic_message(answer, &json, true);
    if (!llmgwi_dialect_parsed(answer, &json, "reply")) return false;
    return llmgwi_dialect_whole_reply(answer, "reply: no content");
}

/* The parts of a stream event, found before they are acted on: "type" may stand last. */
typedef struct llmgwi_dialect_packet {
    llmgwi_json_text type;
    llmgwi_base_str message, block, delta, usage;
    int64_t index;
} llmgwi_dialect_packet;

static bool llmgwi_dialect_anthropic_packet(llmgwi_dialect_answer *answer, llmgwi_base_str data,
                                            llmgwi_dialect_packet *packet) {
    llmgwi_json json;
    llmgwi_base_str key;
    packet->type = llmgwi_dialect_none();
    packet->message = packet->block = packet->delta = packet->usage = llmgwi_base_view("", 0);
    packet->index = 0;
    llmgwi_json_init(&json, data.p, data.n, answer->max_depth);
    if (llmgwi_json_object(&json))
        while (llmgwi_json_member(&json, &key)) {
            if (llmgwi_base_is(key, "type"))
                (void)llmgwi_json_maybe(&json, &packet->type);
            else if (llmgwi_base_is(key, "index"))
                (void)llmgwi_json_count(&json, &packet->index);
            else if (llmgwi_base_is(key, "message"))
                (void)llmgwi_json_skip(&json, &packet->message);
            else if (llmgwi_base_is(key, "content_block"))
                (void)llmgwi_json_skip(&json, &packet->block);
            else if (llmgwi_base_is(key, "delta"))
                (void)llmgwi_json_skip(&json, &packet->delta);
            else if (llmgwi_base_is(key, "usage"))
                (void)llmgwi_json_skip(&json, &packet->usage);
        }
    return llmgwi_dialect_parsed(answer, &json, "stream event");
}

/* message_delta: the stop reason, and usage so far (it replaces, it does not add). */
static void llmgwi_dialect_anthropic_closing(llmgwi_dialect_answer *answer,
                                             const llmgwi_dialect_packet *packet) {
    llmgwi_json json;
    llmgwi_base_str key, details = llmgwi_base_view("", 0);
    llmgwi_json_text reason = llmgwi_dialect_none();
    llmgwi_json_init(&json, packet->delta.p, packet->delta.n, answer->max_depth);
    if (llmgwi_json_peek(&json) == LLMGWI_JSON_OBJECT && llmgwi_json_object(&json))
        while (llmgwi_json_member(&json, &key)) {
            if (llmgwi_base_is(key, "stop_reason"))
                (void)llmgwi_json_maybe(&json, &reason);
            else if (llmgwi_base_is(key, "stop_details"))
                (void)llmgwi_json_skip(&json, &details);
        }
    llmgwi_dialect_anthropic_stop(answer, reason, details);
    llmgwi_json_init(&json, packet->usage.p, packet->usage.n, answer->max_depth);
    if (packet->usage.n) llmgwi_dialect_anthropic_usage(answer, &json);
}

LLMGWI_BASE_UNUSED
static bool llmgwi_dialect_anthropic_event(llmgwi_dialect_answer *answer, llmgwi_base_str name,
                                           llmgwi_base_str data) {
    llmgwi_dialect_packet packet;
    llmgwi_dialect_block block;
    llmgwi_json json;
    (void)name; /* data.type is what counts */
    if (!llmgwi_dialect_anthropic_packet(answer, data, &packet)) return false;
    if (llmgwi_json_is(packet.type, "content_block_delta") ||
        llmgwi_json_is(packet.type, "content_block_start")) {
        bool delta = packet.delta.n > 0;
        llmgwi_base_str raw = delta ? packet.delta : packet.block;
        llmgwi_json_init(&json, raw.p, raw.n, answer->max_depth);
        llmgwi_dialect_anthropic_read(&json, &block);
        if (delta)
            llmgwi_dialect_anthropic_delta(answer, &block, packet.index);
        else
            llmgwi_dialect_anthropic_block(answer, &block, packet.index);
    } else if (llmgwi_json_is(packet.type, "message_start")) {
        llmgwi_json_init(&json, packet.message.p, packet.message.n, answer->max_depth);
        llmgwi_dialect_anthropic_message(answer, &json, false);
    } else if (llmgwi_json_is(packet.type, "message_delta")) {
        llmgwi_dialect_anthropic_closing(answer, &packet);
    } else if (llmgwi_json_is(packet.type, "message_stop")) {
        answer->any = answer->ended = true;
    } else if (llmgwi_json_is(packet.type, "error")) {
        llmgwi_dialect_error(&answer->error, 0, data, answer->max_depth);
    }
    return answer->error.code == LLMGW_OK;
}

/* ---- gemini: generateContent ---- */

/* functionResponse wants the tool's name, which only the call has: the nearest one before the result. */
static const char *llmgwi_dialect_gemini_name(const llmgwi_dialect_build *build, const llmgw_part *result) {
    if (result->name) return result->name;
    for (size_t i = build->message; i-- > 0;)
        for (size_t j = 0; j < build->request->messages[i].part_count; j++) {
            const llmgw_part *part = &build->request->messages[i].parts[j];
            if (part->kind == LLMGW_PART_TOOL_CALL && strcmp(part->id, result->id) == 0) return part->name;
        }
    return result->id;
}

/* An id that we made up for a call without one does not go back. */
static void llmgwi_dialect_gemini_id(llmgwi_dialect_build *build, const char *id) {
    if (strncmp(id, LLMGWI_DIALECT_MADE_ID, strlen(LLMGWI_DIALECT_MADE_ID)) == 0) return;
    llmgwi_dialect_pair(build, "id", "id", llmgwi_base_cstr(id));
}

static void llmgwi_dialect_gemini_result(llmgwi_dialect_build *build, const llmgw_part *part) {
    llmgwi_json_out *out = &build->out;
    llmgwi_base_str text = llmgwi_dialect_part_text(part);
    llmgwi_json_key(out, "functionResponse");
    llmgwi_json_open(out, '{');
    llmgwi_dialect_gemini_id(build, part->id);
    llmgwi_dialect_pair(build, "name", "name", llmgwi_base_cstr(llmgwi_dialect_gemini_name(build, part)));
    llmgwi_json_key(out, "response");
    bool object =
        !part->is_error && !llmgwi_json_check(text, LLMGWI_JSON_OBJECT, LLMGWI_JSON_MAX_DEPTH, NULL);
    if (object) {
        llmgwi_json_raw(out, text);
    } else {
        llmgwi_json_open(out, '{');
        llmgwi_dialect_pair(build, part->is_error ? "error" : "result", "text", text);
        llmgwi_json_close(out, '}');
    }
    llmgwi_json_close(out, '}');
}

static void llmgwi_dialect_gemini_blob(llmgwi_dialect_build *build, const llmgw_part *part) {
    llmgwi_json_out *out = &build->out;
    llmgwi_json_key(out, part->url ? "fileData" : "inlineData");
    llmgwi_json_open(out, '{');
    if (!part->url || part->mime)
        llmgwi_dialect_pair(build, "mimeType", "mime", llmgwi_base_cstr(llmgwi_dialect_part_mime(part)));
    if (part->url) {
        llmgwi_dialect_pair(build, "fileUri", "url", llmgwi_base_cstr(part->url));
    } else {
        llmgwi_json_key(out, "data");
        llmgwi_dialect_base64(build, part, false);
    }
    llmgwi_json_close(out, '}');
}

static void llmgwi_dialect_gemini_part(llmgwi_dialect_build *build, const llmgw_part *part) {
    llmgwi_json_out *out = &build->out;
    bool own = llmgwi_dialect_own(build, part);
    if (part->kind == LLMGW_PART_REASONING && (!own || !part->signature)) return;
    llmgwi_json_open(out, '{');
    switch (part->kind) {
    case LLMGW_PART_IMAGE:
    case LLMGW_PART_FILE: llmgwi_dialect_gemini_blob(build, part); break;
    case LLMGW_PART_TOOL_RESULT: llmgwi_dialect_gemini_result(build, part); break;
    case LLMGW_PART_TOOL_CALL:
        llmgwi_json_key(out, "functionCall");
        llmgwi_json_open(out, '{');
        llmgwi_dialect_gemini_id(build, part->id);
        llmgwi_dialect_pair(build, "name", "name", llmgwi_base_cstr(part->name));
        llmgwi_dialect_raw(build, "args", llmgwi_dialect_part_arguments(part));
        llmgwi_json_close(out, '}');
        break;
    case LLMGW_PART_REASONING:
    case LLMGW_PART_TEXT:
        llmgwi_dialect_pair(build, "text", "text", llmgwi_dialect_part_text(part));
        if (part->kind == LLMGW_PART_REASONING) llmgwi_dialect_raw(build, "thought", "true");
        break;
    }
    if (own && part->signature)
        llmgwi_dialect_pair(build, "thoughtSignature", "signature", llmgwi_base_cstr(part->signature));
    llmgwi_json_close(out, '}');
}

static void llmgwi_dialect_gemini_system(llmgwi_dialect_build *build, llmgwi_base_str text) {
    llmgwi_json_open(&build->out, '{');
    llmgwi_dialect_pair(build, "text", build->message == SIZE_MAX ? "system" : "text", text);
    llmgwi_json_close(&build->out, '}');
}

static void llmgwi_dialect_gemini_tools(llmgwi_dialect_build *build) {
    static const char *const modes[] = {"AUTO", "NONE", "ANY", "ANY"};
    const llmgw_request *request = build->request;
    llmgwi_json_out *out = &build->out;
    if (!request->tool_count) return;
    llmgwi_base_buf_text(out->buf, ",\"tools\":[{\"functionDeclarations\":");
    out->comma = false;
    llmgwi_json_open(out, '[');
    for (size_t i = 0; i < request->tool_count; i++) {
        const llmgw_tool *tool = &request->tools[i];
        llmgwi_json_open(out, '{');
        llmgwi_json_pair(out, "name", tool->name);
        llmgwi_dialect_pair(build, "description", "tools.description",
                            llmgwi_base_cstr(tool->description ? tool->description : tool->name));
        if (tool->parameters) llmgwi_dialect_raw(build, "parametersJsonSchema", tool->parameters);
        llmgwi_json_close(out, '}');
    }
    llmgwi_json_close(out, ']');
    llmgwi_base_buf_text(out->buf, "}]");
    if (request->tool_mode == LLMGW_TOOLS_AUTO) return;
    llmgwi_json_key(out, "toolConfig");
    llmgwi_json_open(out, '{');
    llmgwi_json_key(out, "functionCallingConfig");
    llmgwi_json_open(out, '{');
    llmgwi_json_pair(out, "mode", modes[request->tool_mode]);
    if (request->tool_mode == LLMGW_TOOLS_ONE) {
        llmgwi_json_key(out, "allowedFunctionNames");
        llmgwi_json_open(out, '[');
        (void)llmgwi_json_put(out, llmgwi_base_cstr(request->tool_name));
        llmgwi_json_close(out, ']');
    }
    llmgwi_json_close(out, '}');
    llmgwi_json_close(out, '}');
}

/* Gemini 2 takes a budget of tokens, later ones a level. */
static void llmgwi_dialect_gemini_thinking(llmgwi_dialect_build *build) {
    static const char *const levels[] = {NULL, "MINIMAL", "LOW", "MEDIUM", "HIGH"};
    static const int64_t budgets[] = {0, 0, 1024, 8192, 24576};
    llmgw_effort effort = build->request->effort;
    llmgwi_json_out *out = &build->out;
    if (effort == LLMGW_EFFORT_DEFAULT) return;
    llmgwi_json_key(out, "thinkingConfig");
    llmgwi_json_open(out, '{');
    llmgwi_dialect_raw(build, "includeThoughts", effort == LLMGW_EFFORT_NONE ? "false" : "true");
    if (strstr(build->target->model, "gemini-2")) {
        llmgwi_json_key(out, "thinkingBudget");
        llmgwi_json_put_int(out, budgets[effort]);
    } else {
        llmgwi_json_pair(out, "thinkingLevel", levels[effort]);
    }
    llmgwi_json_close(out, '}');
}

static void llmgwi_dialect_gemini_config(llmgwi_dialect_build *build) {
    const llmgw_request *request = build->request;
    llmgwi_json_out *out = &build->out;
    llmgwi_json_key(out, "generationConfig");
    llmgwi_json_open(out, '{');
    llmgwi_dialect_number(build, "temperature", request->temperature);
    llmgwi_dialect_number(build, "topP", request->top_p);
    llmgwi_dialect_whole(build, "topK", request->top_k);
    llmgwi_dialect_whole(build, "seed", request->seed);
    llmgwi_dialect_number(build, "frequencyPenalty", request->frequency_penalty);
    llmgwi_dialect_number(build, "presencePenalty", request->presence_penalty);
    llmgwi_dialect_stops(build, "stopSequences");
    if (request->max_tokens) {
        llmgwi_json_key(out, "maxOutputTokens");
        llmgwi_json_put_int(out, request->max_tokens);
    }
    llmgwi_dialect_gemini_thinking(build);
    if (request->schema) {
        llmgwi_json_pair(out, "responseMimeType", "application/json");
        llmgwi_dialect_raw(build, "responseJsonSchema", request->schema);
    }
    llmgwi_json_close(out, '}');
}

LLMGWI_BASE_UNUSED
static void llmgwi_dialect_gemini_build(llmgwi_dialect_build *build) {
    const llmgw_request *request = build->request;
    llmgwi_json_out *out = &build->out;
    llmgwi_json_open(out, '{');
    if (llmgwi_dialect_has_system(request)) {
        llmgwi_json_key(out, "systemInstruction");
        llmgwi_json_open(out, '{');
        llmgwi_json_key(out, "parts");
        llmgwi_json_open(out, '[');
        llmgwi_dialect_each_system(build, llmgwi_dialect_gemini_system);
        llmgwi_json_close(out, ']');
        llmgwi_json_close(out, '}');
    }
    llmgwi_json_key(out, "contents");
    llmgwi_dialect_groups(build, "model", "parts", llmgwi_dialect_gemini_part);
    llmgwi_dialect_gemini_tools(build);
    llmgwi_dialect_gemini_config(build);
    llmgwi_json_close(out, '}');
}

static void llmgwi_dialect_gemini_usage(llmgwi_dialect_answer *answer, llmgwi_json *json) {
    llmgw_usage usage;
    int64_t tools = 0, candidates = 0;
    llmgwi_base_str key;
    memset(&usage, 0, sizeof usage);
    if (llmgwi_json_peek(json) != LLMGWI_JSON_OBJECT || !llmgwi_json_object(json)) return;
    while (llmgwi_json_member(json, &key)) {
        if (llmgwi_base_is(key, "promptTokenCount"))
            usage.known = llmgwi_json_count(json, &usage.input);
        else if (llmgwi_base_is(key, "toolUsePromptTokenCount"))
            (void)llmgwi_json_count(json, &tools);
        else if (llmgwi_base_is(key, "cachedContentTokenCount"))
            (void)llmgwi_json_count(json, &usage.cached);
        else if (llmgwi_base_is(key, "candidatesTokenCount"))
            (void)llmgwi_json_count(json, &candidates);
        else if (llmgwi_base_is(key, "thoughtsTokenCount"))
            (void)llmgwi_json_count(json, &usage.reasoning);
    }
    usage.input += tools;
    usage.output = candidates + usage.reasoning;
    if (usage.known) answer->usage = usage; /* cumulative: the last one counts */
}

/* Vertex streams arguments as (path, value) pairs in document order. They become JSON text as they
   come: what is open stays open until a path leaves it. args_open holds the closing brackets owed. */
static bool llmgwi_dialect_gemini_put(llmgwi_dialect_answer *answer, llmgwi_dialect_piece *piece,
                                      const char *text) {
    return llmgwi_dialect_arguments(answer, piece, llmgwi_dialect_plain(llmgwi_base_cstr(text)));
}

/* Length of the first component of a path ("$.a", ".a", "[0]"); 0 at its end. */
static size_t llmgwi_dialect_gemini_step(llmgwi_base_str path) {
    size_t n = 0;
    if (path.n && path.p[0] == '[') {
        while (n < path.n && path.p[n] != ']') n++;
        return n < path.n ? n + 1 : n;
    }
    for (n = path.n ? 1 : 0; n < path.n && path.p[n] != '.' && path.p[n] != '['; n++) continue;
    return n;
}

/* The key in a component: ".a" and "['a b']" are members, "[0]" is an item (empty key). */
static llmgwi_base_str llmgwi_dialect_gemini_key(llmgwi_base_str step) {
    if (step.p[0] == '.') return llmgwi_base_view(step.p + 1, step.n - 1);
    if (step.n >= 4 && (step.p[1] == '\'' || step.p[1] == '"'))
        return llmgwi_base_view(step.p + 2, step.n - 4);
    return llmgwi_base_view(step.p, 0);
}

/* Closes levels until only the first keep steps of the open path remain; args_open is that path. */
static bool llmgwi_dialect_gemini_leave(llmgwi_dialect_answer *answer, llmgwi_dialect_piece *piece,
                                        size_t keep) {
    if (answer->args_string && !llmgwi_dialect_gemini_put(answer, piece, "\"")) return false;
    answer->args_string = false;
    while (strlen(answer->args_open) > keep) {
        size_t at = 0, last = 0, n = strlen(answer->args_open);
        for (size_t step;
             (step = llmgwi_dialect_gemini_step(llmgwi_base_view(answer->args_open + at, n - at))) > 0;
             at += step)
            last = at;
        bool member = llmgwi_dialect_gemini_key(llmgwi_base_view(answer->args_open + last, n - last)).n > 0;
        answer->args_open[last] = 0;
        if (last > keep && !llmgwi_dialect_gemini_put(answer, piece, member ? "}" : "]")) return false;
        if (last == keep) break; /* the level itself stays open: a sibling follows */
    }
    return true;
}

static bool llmgwi_dialect_gemini_put_key(llmgwi_dialect_answer *answer, llmgwi_dialect_piece *piece,
                                          llmgwi_base_str key) {
    llmgwi_base_buf text;
    llmgwi_json_out out;
    llmgwi_base_buf_init(&text, answer->mem, answer->max_bytes);
    out.buf = &text;
    out.comma = false;
    (void)llmgwi_json_put(&out, key);
    bool good =
        llmgwi_base_buf_add(&text, ":", 1)
            ? llmgwi_dialect_arguments(answer, piece, llmgwi_dialect_plain(llmgwi_base_buf_str(&text)))
            : llmgwi_dialect_fail(answer, LLMGW_E_MEMORY, "out of memory for the answer");
    llmgwi_base_buf_free(&text);
    return good;
}

/* Opens the levels of path below what is open, with commas and keys. */
static bool llmgwi_dialect_gemini_enter(llmgwi_dialect_answer *answer, llmgwi_dialect_piece *piece,
                                        llmgwi_base_str path) {
    size_t same = 0, open = strlen(answer->args_open);
    for (size_t step; (step = llmgwi_dialect_gemini_step(llmgwi_base_view(path.p + same, path.n - same))) > 0;
         same += step) {
        bool whole =
            same + step <= open &&
            llmgwi_dialect_gemini_step(llmgwi_base_view(answer->args_open + same, open - same)) == step;
        if (!whole || memcmp(answer->args_open + same, path.p + same, step) != 0) break;
    }
    if (path.n >= sizeof answer->args_open || same == path.n)
        return llmgwi_dialect_fail(answer, LLMGW_E_PROTOCOL,
                                   "partialArgs: a path comes twice or is too long");
    bool sibling = same < open;
    if (!llmgwi_dialect_gemini_leave(answer, piece, same)) return false;
    for (size_t step; (step = llmgwi_dialect_gemini_step(llmgwi_base_view(path.p + same, path.n - same))) > 0;
         same += step) {
        llmgwi_base_str key = llmgwi_dialect_gemini_key(llmgwi_base_view(path.p + same, step));
        if (!llmgwi_dialect_gemini_put(answer, piece, sibling ? "," : key.n ? "{" : "[")) return false;
        sibling = false;
        if (key.n && !llmgwi_dialect_gemini_put_key(answer, piece, key)) return false;
    }
    memcpy(answer->args_open, path.p, path.n);
    answer->args_open[path.n] = 0;
    return true;
}

/* {"jsonPath", "stringValue" | "numberValue" | "boolValue" | "nullValue", "willContinue"} */
static void llmgwi_dialect_gemini_partial(llmgwi_dialect_answer *answer, llmgwi_dialect_piece *piece,
                                          llmgwi_json *json) {
    llmgwi_json_text path = llmgwi_dialect_none();
    llmgwi_base_str key, value = llmgwi_base_cstr("null"), more = llmgwi_base_view("", 0);
    if (llmgwi_json_peek(json) != LLMGWI_JSON_OBJECT || !llmgwi_json_object(json)) return;
    while (llmgwi_json_member(json, &key)) {
        if (llmgwi_base_is(key, "jsonPath"))
            (void)llmgwi_json_maybe(json, &path);
        else if (llmgwi_base_is(key, "willContinue"))
            (void)llmgwi_json_skip(json, &more);
        else if (llmgwi_base_is(key, "stringValue") || llmgwi_base_is(key, "numberValue") ||
                 llmgwi_base_is(key, "boolValue"))
            (void)llmgwi_json_skip(json, &value);
    }
    if (json->error || !piece) return;
    bool string = value.n && value.p[0] == '"', goes_on = llmgwi_base_is(more, "true");
    char decoded[sizeof answer->args_open];
    llmgwi_base_str at = llmgwi_base_view(decoded, 0);
    if (path.raw.n < sizeof decoded) at.n = llmgwi_json_decode(path, decoded);
    if (at.n && at.p[0] == '$') at.p++, at.n--;
    if (at.n == 0 || memchr(at.p, 0, at.n)) {
        (void)llmgwi_dialect_fail(answer, LLMGW_E_PROTOCOL, "partialArgs: a bad jsonPath");
        return;
    }
    bool same = answer->args_string && llmgwi_base_is(at, answer->args_open);
    if (!same && !llmgwi_dialect_gemini_enter(answer, piece, at)) return;
    if (string) value = llmgwi_base_view(value.p + 1, value.n - 2);
    if (string && !same && !llmgwi_dialect_gemini_put(answer, piece, "\"")) return;
    if (!llmgwi_dialect_arguments(answer, piece, llmgwi_dialect_plain(value))) return;
    answer->args_string = string && goes_on;
    if (string && !goes_on) (void)llmgwi_dialect_gemini_put(answer, piece, "\"");
}

/* Closes the arguments of a call that came in pieces, if one is open. */
static void llmgwi_dialect_gemini_shut(llmgwi_dialect_answer *answer) {
    size_t i = answer->piece_count;
    bool any = answer->args_open[0] != 0;
    if (!answer->args_path) return;
    answer->args_path = false;
    while (i > 0 && answer->pieces[i - 1].kind != LLMGW_PART_TOOL_CALL) i--;
    if (i > 0 && llmgwi_dialect_gemini_leave(answer, &answer->pieces[i - 1], 0) && any)
        (void)llmgwi_dialect_gemini_put(answer, &answer->pieces[i - 1], "}");
}

/* functionCall: whole ("args"), or opened ("willContinue"), continued ("partialArgs") and closed ({}). */
static void llmgwi_dialect_gemini_call(llmgwi_dialect_answer *answer, llmgwi_base_str raw,
                                       llmgwi_json_text signature) {
    llmgwi_json json;
    llmgwi_json_text id = llmgwi_dialect_none(), name = id;
    llmgwi_base_str key, args = llmgwi_base_view("", 0), partial = args, more = args;
    llmgwi_json_init(&json, raw.p, raw.n, answer->max_depth);
    if (!llmgwi_json_object(&json)) return;
    while (llmgwi_json_member(&json, &key)) {
        if (llmgwi_base_is(key, "id"))
            (void)llmgwi_json_maybe(&json, &id);
        else if (llmgwi_base_is(key, "name"))
            (void)llmgwi_json_maybe(&json, &name);
        else if (llmgwi_base_is(key, "args"))
            (void)llmgwi_json_skip(&json, &args);
        else if (llmgwi_base_is(key, "partialArgs"))
            (void)llmgwi_json_skip(&json, &partial);
        else if (llmgwi_base_is(key, "willContinue"))
            (void)llmgwi_json_skip(&json, &more);
    }
    llmgwi_dialect_piece *piece = llmgwi_dialect_last(answer, LLMGW_PART_TOOL_CALL);
    if (name.raw.n) {
        llmgwi_dialect_gemini_shut(answer);
        piece = llmgwi_dialect_tool(answer, -1, id, name);
        answer->args_path = partial.n || llmgwi_base_is(more, "true");
        answer->args_string = false;
        answer->args_open[0] = 0;
    }
    if (!piece) {
        (void)llmgwi_dialect_fail(answer, LLMGW_E_PROTOCOL, "functionCall: no name");
        return;
    }
    (void)llmgwi_dialect_append(answer, &piece->signature, signature);
    if (!llmgwi_dialect_empty(args))
        (void)llmgwi_dialect_arguments(answer, piece, llmgwi_dialect_plain(args));
    llmgwi_json_init(&json, partial.p, partial.n, answer->max_depth);
    if (partial.n && llmgwi_json_array(&json))
        while (llmgwi_json_item(&json) && !answer->error.code)
            llmgwi_dialect_gemini_partial(answer, piece, &json);
    if (!llmgwi_base_is(more, "true")) llmgwi_dialect_gemini_shut(answer);
}

static void llmgwi_dialect_gemini_item(llmgwi_dialect_answer *answer, llmgwi_json *json) {
    llmgwi_json_text text = llmgwi_dialect_none(), signature = text;
    llmgwi_base_str key, call = llmgwi_base_view("", 0);
    bool thought = false;
    if (llmgwi_json_peek(json) != LLMGWI_JSON_OBJECT || !llmgwi_json_object(json)) return;
    while (llmgwi_json_member(json, &key)) {
        if (llmgwi_base_is(key, "text"))
            (void)llmgwi_json_maybe(json, &text);
        else if (llmgwi_base_is(key, "thought"))
            thought = llmgwi_json_peek(json) == LLMGWI_JSON_TRUE;
        else if (llmgwi_base_is(key, "thoughtSignature"))
            (void)llmgwi_json_maybe(json, &signature);
        else if (llmgwi_base_is(key, "functionCall") && llmgwi_json_peek(json) == LLMGWI_JSON_OBJECT)
            (void)llmgwi_json_skip(json, &call);
    }
    if (json->error) return;
    if (call.n) {
        llmgwi_dialect_gemini_call(answer, call, signature);
        return;
    }
    llmgw_part_kind kind = thought ? LLMGW_PART_REASONING : LLMGW_PART_TEXT;
    if (!llmgwi_dialect_more(answer, kind, text) || !signature.raw.n) return;
    llmgwi_dialect_piece *piece = llmgwi_dialect_last(answer, kind);
    if (!piece || piece->signature.n)
        piece = llmgwi_dialect_piece_new(answer, kind); /* a signature on its own */
    if (piece) (void)llmgwi_dialect_append(answer, &piece->signature, signature);
}

static void llmgwi_dialect_gemini_candidate(llmgwi_dialect_answer *answer, llmgwi_json *json) {
    llmgwi_json_text reason = llmgwi_dialect_none();
    llmgwi_base_str key;
    int64_t index = 0;
    if (llmgwi_json_peek(json) != LLMGWI_JSON_OBJECT || !llmgwi_json_object(json)) return;
    while (llmgwi_json_member(json, &key)) {
        if (llmgwi_base_is(key, "finishReason")) {
            (void)llmgwi_json_maybe(json, &reason);
        } else if (llmgwi_base_is(key, "index")) {
            (void)llmgwi_json_count(json, &index);
        } else if (llmgwi_base_is(key, "content") && llmgwi_json_peek(json) == LLMGWI_JSON_OBJECT) {
            if (!llmgwi_json_object(json)) return;
            while (llmgwi_json_member(json, &key)) {
                if (!llmgwi_base_is(key, "parts") || llmgwi_json_peek(json) != LLMGWI_JSON_ARRAY) continue;
                if (!llmgwi_json_array(json)) return;
                while (llmgwi_json_item(json)) llmgwi_dialect_gemini_item(answer, json);
            }
        }
    }
    if (json->error) return;
    answer->any = true;
    if (reason.raw.n) llmgwi_dialect_gemini_shut(answer);
    llmgwi_dialect_finish(answer, reason);
}

/* {"blockReason", "blockReasonMessage"}: the prompt was refused, no candidate comes. */
static void llmgwi_dialect_gemini_feedback(llmgwi_dialect_answer *answer, llmgwi_json *json) {
    llmgwi_json_text reason = llmgwi_dialect_none(), message = reason;
    llmgwi_base_str key;
    if (llmgwi_json_peek(json) != LLMGWI_JSON_OBJECT || !llmgwi_json_object(json)) return;
    while (llmgwi_json_member(json, &key)) {
        if (llmgwi_base_is(key, "blockReason"))
            (void)llmgwi_json_maybe(json, &reason);
        else if (llmgwi_base_is(key, "blockReasonMessage"))
            (void)llmgwi_json_maybe(json, &message);
    }
    if (!reason.raw.n || json->error) return;
    answer->any = answer->finished = true;
    answer->finish = LLMGW_FINISH_FILTER;
    llmgwi_base_buf_clear(&answer->refusal);
    (void)llmgwi_dialect_append(answer, &answer->refusal, message.raw.n ? message : reason);
}

static bool llmgwi_dialect_gemini_body(llmgwi_dialect_answer *answer, llmgwi_base_str body,
                                       const char *what) {
    llmgwi_json json;
    llmgwi_base_str key, error = llmgwi_base_view("", 0);
    llmgwi_json_text id = llmgwi_dialect_none(), model = id;
    llmgwi_json_init(&json, body.p, body.n, answer->max_depth);
    if (llmgwi_json_object(&json))
        while (llmgwi_json_member(&json, &key)) {
            if (llmgwi_base_is(key, "candidates") && llmgwi_json_peek(&json) == LLMGWI_JSON_ARRAY) {
                if (!llmgwi_json_array(&json)) break;
                for (bool first = true; llmgwi_json_item(&json); first = false)
                    if (first) llmgwi_dialect_gemini_candidate(answer, &json);
            } else if (llmgwi_base_is(key, "usageMetadata"))
                llmgwi_dialect_gemini_usage(answer, &json);
            else if (llmgwi_base_is(key, "promptFeedback"))
                llmgwi_dialect_gemini_feedback(answer, &json);
            else if (llmgwi_base_is(key, "responseId"))
                (void)llmgwi_json_maybe(&json, &id);
            else if (llmgwi_base_is(key, "modelVersion"))
                (void)llmgwi_json_maybe(&json, &model);
            else if (llmgwi_base_is(key, "error") && llmgwi_json_peek(&json) != LLMGWI_JSON_NULL)
                (void)llmgwi_json_skip(&json, &error);
        }
    if (!llmgwi_dialect_parsed(answer, &json, what)) return false;
    llmgwi_dialect_identify(answer, id, model);
    return llmgwi_dialect_unless(answer, error);
}

/* Errors, and streams without alt=sse, come as an array of such bodies: the same as one after the other. */
static bool llmgwi_dialect_gemini_bodies(llmgwi_dialect_answer *answer, llmgwi_base_str body,
                                         const char *what) {
    llmgwi_json json;
    llmgwi_base_str item;
    llmgwi_json_init(&json, body.p, body.n, answer->max_depth);
    if (llmgwi_json_peek(&json) != LLMGWI_JSON_ARRAY) return llmgwi_dialect_gemini_body(answer, body, what);
    if (llmgwi_json_array(&json))
        while (llmgwi_json_item(&json))
            if (llmgwi_json_skip(&json, &item) && !llmgwi_dialect_gemini_body(answer, item, what))
                return false;
    return llmgwi_dialect_parsed(answer, &json, what);
}

LLMGWI_BASE_UNUSED
static bool llmgwi_dialect_gemini_reply(llmgwi_dialect_answer *answer, llmgwi_base_str body) {
    return llmgwi_dialect_gemini_bodies(answer, body, "reply") &&
           llmgwi_dialect_whole_reply(answer, "reply: no candidates");
}

LLMGWI_BASE_UNUSED
static bool llmgwi_dialect_gemini_event(llmgwi_dialect_answer *answer, llmgwi_base_str name,
                                        llmgwi_base_str data) {
    (void)name;
    return llmgwi_dialect_gemini_bodies(answer, data, "stream event");
}

/* ---- the table: a fourth dialect is one row and its functions ---- */

typedef struct llmgwi_dialect {
    const char *name;
    const char *path, *stream_path; /* after the base URL; {model} is replaced, percent-encoded */
    const char *key_header, *key_prefix;
    const char *header; /* one more that is always sent; NULL: none */
    bool needs_end;     /* a finish reason without the terminator is not the end */
    void (*build)(llmgwi_dialect_build *build);
    bool (*reply)(llmgwi_dialect_answer *answer, llmgwi_base_str body);
    bool (*event)(llmgwi_dialect_answer *answer, llmgwi_base_str name, llmgwi_base_str data);
} llmgwi_dialect;

static const llmgwi_dialect llmgwi_dialect_table[] = {
    LLMGWI_BASE_IF_OPENAI({"openai", "/chat/completions", "/chat/completions", "Authorization", "Bearer ",
                           NULL, false, llmgwi_dialect_openai_build, llmgwi_dialect_openai_reply,
                           llmgwi_dialect_openai_event}, )
        LLMGWI_BASE_IF_ANTHROPIC({"anthropic", "/messages", "/messages", "x-api-key", "",
                                  "anthropic-version: 2023-06-01", true, llmgwi_dialect_anthropic_build,
                                  llmgwi_dialect_anthropic_reply, llmgwi_dialect_anthropic_event}, )
            LLMGWI_BASE_IF_GEMINI({"gemini", "/models/{model}:generateContent",
                                   "/models/{model}:streamGenerateContent?alt=sse", "x-goog-api-key", "",
                                   NULL, false, llmgwi_dialect_gemini_build, llmgwi_dialect_gemini_reply,
                                   llmgwi_dialect_gemini_event}, ){NULL, NULL, NULL, NULL, NULL, NULL, false,
                                                                   NULL, NULL, NULL}};

static const llmgwi_dialect *llmgwi_dialect_find(const char *name) {
    for (size_t i = 0; llmgwi_dialect_table[i].name; i++)
        if (strcmp(llmgwi_dialect_table[i].name, name) == 0) return &llmgwi_dialect_table[i];
    return NULL;
}

/* ---- resuming a cut answer (WIRE.md 8) ---- */

typedef struct llmgwi_dialect_prefill {
    const char *flavour;
    const char *model; /* "*" stands for any run of characters */
    llmgwi_dialect_way way;
    bool thinks; /* unless told not to: then only a request with LLMGW_EFFORT_NONE can be prefilled */
} llmgwi_dialect_prefill;

/* The first row that fits counts; without one a user turn asks for the rest. Claude's are those before 4.6,
   with the date and the host's suffix cut off, and for OpenRouter with dots for dashes. */
static const llmgwi_dialect_prefill llmgwi_dialect_prefills_table[] = {
    {"anthropic", "claude-2*", LLMGWI_DIALECT_WAY_PLAIN, false},
    {"anthropic", "claude-instant*", LLMGWI_DIALECT_WAY_PLAIN, false},
    {"anthropic", "claude-3*", LLMGWI_DIALECT_WAY_PLAIN, false},
    {"anthropic", "claude-sonnet-4", LLMGWI_DIALECT_WAY_PLAIN, false},
    {"anthropic", "claude-sonnet-4-0", LLMGWI_DIALECT_WAY_PLAIN, false},
    {"anthropic", "claude-sonnet-4-5", LLMGWI_DIALECT_WAY_PLAIN, false},
    {"anthropic", "claude-opus-4", LLMGWI_DIALECT_WAY_PLAIN, false},
    {"anthropic", "claude-opus-4-0", LLMGWI_DIALECT_WAY_PLAIN, false},
    {"anthropic", "claude-opus-4-1", LLMGWI_DIALECT_WAY_PLAIN, false},
    {"anthropic", "claude-opus-4-5", LLMGWI_DIALECT_WAY_PLAIN, false},
    {"anthropic", "claude-haiku-4-5", LLMGWI_DIALECT_WAY_PLAIN, false},
    {"deepseek", "deepseek-chat", LLMGWI_DIALECT_WAY_PREFIX, false},
    {"deepseek", "*", LLMGWI_DIALECT_WAY_PREFIX, true},
    {"mistral", "magistral*", LLMGWI_DIALECT_WAY_TURN, false},
    {"mistral", "*", LLMGWI_DIALECT_WAY_PREFIX, false},
    {"qwen", "qwq*", LLMGWI_DIALECT_WAY_TURN, false},
    {"qwen", "qvq*", LLMGWI_DIALECT_WAY_TURN, false},
    {"qwen", "qwen-*", LLMGWI_DIALECT_WAY_PARTIAL, false}, /* the commercial ones */
    {"qwen", "qwen3-max*", LLMGWI_DIALECT_WAY_PARTIAL, false},
    {"qwen", "qwen*coder*", LLMGWI_DIALECT_WAY_PARTIAL, false},
    {"qwen", "qwen*instruct*", LLMGWI_DIALECT_WAY_PARTIAL, false},
    {"qwen", "qwen*", LLMGWI_DIALECT_WAY_PARTIAL, true},
    {"moonshot", "kimi-k2*", LLMGWI_DIALECT_WAY_PARTIAL, false},
    {"moonshot", "moonshot-v1*", LLMGWI_DIALECT_WAY_PARTIAL, false},
    {"vllm", "*", LLMGWI_DIALECT_WAY_CONTINUE, false},
    {"llamacpp", "*", LLMGWI_DIALECT_WAY_PLAIN, false},
};

/* A "-" in pattern fits a "." too. Goes back to the last star only: at most text.n x strlen(pattern) steps. */
static bool llmgwi_dialect_fits(llmgwi_base_str text, const char *pattern) {
    const char *star = NULL;
    size_t i = 0, again = 0;
    while (i < text.n) {
        char c = text.p[i] == '.' ? '-' : text.p[i];
        if (*pattern == '*') {
            star = pattern++;
            again = i;
        } else if (*pattern && *pattern == c) {
            pattern++;
            i++;
        } else if (star) {
            pattern = star + 1;
            i = ++again;
        } else {
            return false;
        }
    }
    while (*pattern == '*') pattern++;
    return *pattern == 0;
}

/* A model without what hosts add: "@20250514" (Vertex), ":beta" (OpenRouter), "-20250514", "-latest". */
static llmgwi_base_str llmgwi_dialect_bare(const char *model) {
    size_t n = strcspn(model, ":@"), digits = n;
    while (digits && model[digits - 1] >= '0' && model[digits - 1] <= '9') digits--;
    if (n - digits == 8 && digits && model[digits - 1] == '-') return llmgwi_base_view(model, digits - 1);
    if (n > 7 && memcmp(model + n - 7, "-latest", 7) == 0) n -= 7;
    return llmgwi_base_view(model, n);
}

static llmgwi_dialect_way llmgwi_dialect_way_of(const llmgwi_dialect *dialect,
                                                const llmgwi_dialect_target *target, llmgw_effort effort) {
    const char *flavour = target->flavour, *model = target->model;
    llmgwi_base_str whole = llmgwi_base_cstr(model), url = llmgwi_base_cstr(target->url);
    if (strcmp(flavour, "openrouter") == 0) {
        if (!llmgwi_base_starts(whole, "anthropic/")) return LLMGWI_DIALECT_WAY_TURN;
        model += strlen("anthropic/");
        flavour = "anthropic";
    } else if (strcmp(dialect->name, "anthropic") == 0) {
        flavour = "anthropic"; /* also at another host */
    }
    if (llmgwi_base_has(whole, "thinking") || llmgwi_base_has(whole, "reasoner"))
        return LLMGWI_DIALECT_WAY_TURN; /* cannot be told not to */
    if (strcmp(flavour, "deepseek") == 0 && (url.n < 5 || memcmp(url.p + url.n - 5, "/beta", 5) != 0))
        return LLMGWI_DIALECT_WAY_TURN;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_dialect_prefills_table); i++) {
        const llmgwi_dialect_prefill *row = &llmgwi_dialect_prefills_table[i];
        if (strcmp(row->flavour, flavour) != 0) continue;
        if (!llmgwi_dialect_fits(llmgwi_dialect_bare(model), row->model)) continue;
        return row->thinks && effort != LLMGW_EFFORT_NONE ? LLMGWI_DIALECT_WAY_TURN : row->way;
    }
    return LLMGWI_DIALECT_WAY_TURN;
}

/* What makes a prefill wrong for this request: it asks to think, or forces a call (the text is over then), or
   a shape (enforced again from the start of what comes: a rest of a JSON text has not that shape). */
static llmgwi_dialect_way llmgwi_dialect_way_for(const llmgwi_dialect *dialect,
                                                 const llmgwi_dialect_target *target,
                                                 const llmgw_request *request) {
    bool forced = request->tool_mode == LLMGW_TOOLS_REQUIRED || request->tool_mode == LLMGW_TOOLS_ONE;
    if (request->effort > LLMGW_EFFORT_NONE || forced || request->schema) return LLMGWI_DIALECT_WAY_TURN;
    return llmgwi_dialect_way_of(dialect, target, request->effort);
}

/* Can this target go on from an assistant's text by its own means? Else a user turn asks for it. */
static bool llmgwi_dialect_prefills(const llmgwi_dialect *dialect, const llmgwi_dialect_target *target,
                                    const llmgw_request *request) {
    return llmgwi_dialect_way_for(dialect, target, request) != LLMGWI_DIALECT_WAY_TURN;
}

/* Does the reply to a prefilled request begin with the prefilled text? */
LLMGWI_BASE_UNUSED
static bool llmgwi_dialect_echoes(const llmgwi_dialect *dialect, const llmgwi_dialect_target *target,
                                  const llmgw_request *request) {
    return (target->quirks & LLMGWI_DIALECT_MISTRAL) && llmgwi_dialect_prefills(dialect, target, request);
}

static llmgw_part llmgwi_dialect_text_part(llmgwi_base_str text) {
    llmgw_part part;
    memset(&part, 0, sizeof part);
    part.text = text.p;
    part.text_len = text.n;
    return part;
}

/* Adds the turns that resume an answer. A schema is no longer enforced (see above) but told. */
static void llmgwi_dialect_add_resume(llmgwi_dialect_build *build, const llmgwi_dialect_resume *resume,
                                      const char *schema) {
    build->kept = llmgwi_dialect_text_part(resume->text);
    build->more[0].role = LLMGW_ROLE_ASSISTANT;
    build->more[0].parts = &build->kept;
    build->more[0].part_count = build->more_count = 1;
    if (build->way != LLMGWI_DIALECT_WAY_TURN) return;
    build->plea[0] =
        llmgwi_dialect_text_part(llmgwi_base_cstr("Continue exactly where you stopped; do not repeat."));
    build->plea[1] = llmgwi_dialect_text_part(
        llmgwi_base_cstr("\nThe whole answer, with what stands above, is to be JSON of this schema:\n"));
    build->plea[2] = llmgwi_dialect_text_part(llmgwi_base_cstr(schema));
    build->more[1].role = LLMGW_ROLE_USER;
    build->more[1].parts = build->plea;
    build->more[1].part_count = schema ? 3 : 1;
    build->more_count = 2;
}

/* Writes a request's body; resume NULL, or with an empty text: from the start. False: error says which field
   is wrong, or that max_request_bytes is too small. */
static bool llmgwi_dialect_write(const llmgwi_dialect *dialect, const llmgwi_dialect_target *target,
                                 const llmgw_request *request, const llmgwi_dialect_resume *resume,
                                 llmgwi_base_buf *body, llmgw_error *error) {
    llmgwi_dialect_build build;
    llmgw_request rest = *request;
    memset(&build, 0, sizeof build);
    build.out.buf = body;
    build.request = request;
    build.target = target;
    build.error = error;
    build.message = build.part = SIZE_MAX;
    if (resume && resume->text.n) {
        if (!resume->turn) build.way = llmgwi_dialect_way_for(dialect, target, request);
        rest.schema = NULL;
        build.request = &rest;
        llmgwi_dialect_add_resume(&build, resume, request->schema);
    }
    dialect->build(&build);
    if (error->code) return false;
    if (!body->failed) return true;
    if (body->failed == LLMGWI_BASE_NO_MEMORY)
        (void)llmgwi_base_error(error, LLMGW_E_MEMORY, "out of memory for the request");
    else
        (void)llmgwi_base_error(error, LLMGW_E_ARGUMENT, "request: larger than max_request_bytes (%lu)",
                                (unsigned long)body->max);
    return false;
}

/* base + path, with {model} filled in. */
static bool llmgwi_dialect_url(const llmgwi_dialect *dialect, const char *base, const char *model,
                               bool stream, llmgwi_base_buf *url) {
    const char *path = stream ? dialect->stream_path : dialect->path, *mark = strstr(path, "{model}");
    llmgwi_base_buf_text(url, base);
    if (!mark) return llmgwi_base_buf_text(url, path);
    llmgwi_base_buf_add(url, path, (size_t)(mark - path));
    for (const char *p = model; *p; p++) {
        char hex[4];
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
                     strchr("-._~", *p);
        snprintf(hex, sizeof hex, "%%%02X", (unsigned)(unsigned char)*p);
        llmgwi_base_buf_add(url, plain ? p : hex, plain ? 1 : 3);
    }
    return llmgwi_base_buf_text(url, mark + strlen("{model}"));
}

/* The end of a stream: is the answer whole? */
static bool llmgwi_dialect_complete(const llmgwi_dialect *dialect, const llmgwi_dialect_answer *answer) {
    return !answer->error.code && (answer->ended || (answer->finished && !dialect->needs_end));
}

/* Last touches when the answer is whole: a call means TOOL whatever the finish reason says, empty
   arguments mean {}. */
static void llmgwi_dialect_settle(llmgwi_dialect_answer *answer) {
    for (size_t i = 0; i < answer->piece_count; i++) {
        llmgwi_dialect_piece *piece = &answer->pieces[i];
        if (piece->kind != LLMGW_PART_TOOL_CALL) continue;
        if (piece->arguments.n == 0)
            (void)llmgwi_dialect_append(answer, &piece->arguments,
                                        llmgwi_dialect_plain(llmgwi_base_cstr("{}")));
        if (answer->finish == LLMGW_FINISH_NONE || answer->finish == LLMGW_FINISH_STOP)
            answer->finish = LLMGW_FINISH_TOOL;
    }
    if (answer->finish == LLMGW_FINISH_NONE) answer->finish = LLMGW_FINISH_STOP;
}

/* ------------------------------------------------------------------------------------------- */
/* >>schema   purpose: has a JSON text the shape that a JSON Schema asks for?   uses: json      */
/*            guarantees: no allocation; bounded work and depth; an answer no names the path    */
/* ------------------------------------------------------------------------------------------- */

/* Keywords: those in llmgwi_schema_words. Others are ignored, and so are items beside prefixItems,
   additionalProperties beside patternProperties, and an argument of the wrong type. */

#define LLMGWI_SCHEMA_STEPS 1000000 /* a step reads up to LLMGWI_SCHEMA_STEP bytes */
#define LLMGWI_SCHEMA_STEP 64
#define LLMGWI_SCHEMA_DEPTH                                                                                  \
    128 /* of schemas within schemas, $ref and anyOf included: about 1 KB of stack each */
#define LLMGWI_SCHEMA_NAME 64 /* bytes of a member's name that an error shows */

/* Where in the JSON text we are; the way up is that of the C stack. */
typedef struct llmgwi_schema_path {
    const struct llmgwi_schema_path *up;
    llmgwi_base_str key; /* p is NULL: an item */
    size_t index;
} llmgwi_schema_path;

typedef struct llmgwi_schema {
    llmgwi_base_str root;
    int64_t steps;    /* left */
    int depth, quiet; /* quiet: inside alternatives, whose errors are not told */
    char *why;
    size_t why_size, why_n;
} llmgwi_schema;

/* All of one keyword's check: its argument, the schema around it, the value. */
typedef struct llmgwi_schema_check {
    const llmgwi_schema_path *path;
    llmgwi_base_str schema, arg, value;
    int mode;         /* of the keyword, see llmgwi_schema_words */
    const char *text; /* of the error */
} llmgwi_schema_check;

static bool llmgwi_schema_apply(llmgwi_schema *v, const llmgwi_schema_path *path, llmgwi_base_str schema,
                                llmgwi_base_str value);

/* ---- errors ---- */

static void llmgwi_schema_say(llmgwi_schema *v, llmgwi_base_str text) {
    for (size_t i = 0; i < text.n && v->why_n + 1 < v->why_size; i++)
        v->why[v->why_n++] = (char)((unsigned char)text.p[i] < ' ' ? '?' : text.p[i]);
    if (v->why_size) v->why[v->why_n] = 0;
}

static void llmgwi_schema_say_path(llmgwi_schema *v, const llmgwi_schema_path *path) {
    char index[32];
    if (!path) {
        llmgwi_schema_say(v, llmgwi_base_cstr("$"));
        return;
    }
    llmgwi_schema_say_path(v, path->up);
    snprintf(index, sizeof index, "[%zu]", path->index);
    llmgwi_schema_say(v, llmgwi_base_cstr(path->key.p ? "." : index));
    size_t n = path->key.n;
    if (n > LLMGWI_SCHEMA_NAME)
        for (n = LLMGWI_SCHEMA_NAME; n > 0 && ((unsigned char)path->key.p[n] & 0xC0) == 0x80;) n--;
    llmgwi_schema_say(v, llmgwi_base_view(path->key.p, n));
}

/* A text that was cut at its room ends with a whole character. */
static void llmgwi_schema_say_end(llmgwi_schema *v) {
    size_t n = v->why_n, lead = n;
    if (n == 0 || n + 1 < v->why_size) return;
    while (lead > 0 && ((unsigned char)v->why[lead - 1] & 0xC0) == 0x80) lead--;
    if (lead > 0 && (unsigned char)v->why[lead - 1] >= 0xC0 &&
        !llmgwi_base_char(v->why + lead - 1, n - lead + 1))
        v->why[lead - 1] = 0;
}

static bool llmgwi_schema_fail(llmgwi_schema *v, const llmgwi_schema_path *path, const char *text,
                               llmgwi_base_str arg) {
    if (v->quiet || v->why_n) return false;
    llmgwi_schema_say_path(v, path);
    llmgwi_schema_say(v, llmgwi_base_cstr(": "));
    llmgwi_schema_say(v, llmgwi_base_cstr(text));
    if (arg.n > LLMGWI_SCHEMA_NAME * 2) arg = llmgwi_base_cstr("what the schema says");
    llmgwi_schema_say(v, arg);
    llmgwi_schema_say_end(v);
    return false;
}

static bool llmgwi_schema_refuse(llmgwi_schema *v, const llmgwi_schema_check *check) {
    return llmgwi_schema_fail(v, check->path, check->text, check->arg);
}

/* ---- reading: both texts have been checked, a cursor over a part of them meets no error ---- */

static void llmgwi_schema_open(llmgwi_schema *v, llmgwi_json *json, llmgwi_base_str raw) {
    v->steps -= 1 + (int64_t)(raw.n / LLMGWI_SCHEMA_STEP);
    llmgwi_json_init(json, raw.p, raw.n, LLMGWI_JSON_MAX_DEPTH);
}

static llmgwi_json_kind llmgwi_schema_kind(llmgwi_base_str raw) {
    llmgwi_json json;
    llmgwi_json_init(&json, raw.p, raw.n, 1);
    return llmgwi_json_peek(&json);
}

/* Begins a walk, if raw is of this kind. */
static bool llmgwi_schema_walk(llmgwi_schema *v, llmgwi_json *json, llmgwi_base_str raw,
                               llmgwi_json_kind kind) {
    llmgwi_schema_open(v, json, raw);
    return v->steps > 0 && llmgwi_json_peek(json) == kind && llmgwi_json_enter(json, kind);
}

static bool llmgwi_schema_member(llmgwi_json *json, llmgwi_base_str *key, llmgwi_base_str *value) {
    return llmgwi_json_member(json, key) && llmgwi_json_skip(json, value);
}

static bool llmgwi_schema_item(llmgwi_json *json, llmgwi_base_str *value) {
    return llmgwi_json_item(json) && llmgwi_json_skip(json, value);
}

static bool llmgwi_schema_same(llmgwi_base_str a, llmgwi_base_str b) {
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* The last member of that name. */
static bool llmgwi_schema_find(llmgwi_schema *v, llmgwi_base_str object, llmgwi_base_str name,
                               llmgwi_base_str *out) {
    llmgwi_json json;
    llmgwi_base_str key, value;
    bool found = false;
    if (!llmgwi_schema_walk(v, &json, object, LLMGWI_JSON_OBJECT)) return false;
    while (llmgwi_schema_member(&json, &key, &value)) {
        if (!llmgwi_schema_same(key, name)) continue;
        *out = value;
        found = true;
    }
    return found;
}

/* A string, decoded a few bytes at a time. */
typedef struct llmgwi_schema_chars {
    llmgwi_base_str rest;
    char bytes[12];
    size_t at, n;
} llmgwi_schema_chars;

static void llmgwi_schema_chars_init(llmgwi_schema *v, llmgwi_schema_chars *c, llmgwi_base_str raw) {
    llmgwi_json json;
    llmgwi_json_text text;
    text.raw = llmgwi_base_view("", 0);
    llmgwi_schema_open(v, &json, raw);
    (void)llmgwi_json_string(&json, &text);
    memset(c, 0, sizeof *c);
    c->rest = text.raw;
}

/* The next byte; -1 at the end. */
static int llmgwi_schema_chars_next(llmgwi_schema_chars *c) {
    if (c->at < c->n) return (unsigned char)c->bytes[c->at++];
    if (c->rest.n == 0) return -1;
    const char *p = c->rest.p, *end = p + c->rest.n;
    llmgwi_json_text text;
    size_t size = *p != '\\' ? 1 : p[1] == 'u' ? 6 : 2;
    if (size == 6 && c->rest.n >= 12 && p[6] == '\\' && p[7] == 'u') {
        int high = llmgwi_json_hex(p + 2, end), low = llmgwi_json_hex(p + 8, end);
        if (high >= 0xD800 && high < 0xDC00 && low >= 0xDC00 && low < 0xE000) size = 12;
    }
    text.raw = llmgwi_base_view(p, size);
    text.escaped = size > 1;
    c->n = llmgwi_json_decode(text, c->bytes);
    c->at = 1;
    c->rest = llmgwi_base_view(p + size, c->rest.n - size);
    return (unsigned char)c->bytes[0];
}

static bool llmgwi_schema_number(llmgwi_schema *v, llmgwi_base_str raw, llmgwi_json_number *out) {
    llmgwi_json json;
    llmgwi_schema_open(v, &json, raw);
    return llmgwi_json_get_number(&json, out);
}

/* -1, 0, 1: a is less, equal, more. */
static int llmgwi_schema_compare(const llmgwi_json_number *a, const llmgwi_json_number *b) {
    if (a->integer && b->integer) return (a->i > b->i) - (a->i < b->i);
    return (a->d > b->d) - (a->d < b->d);
}

/* ---- equality ---- */

static bool llmgwi_schema_equal(llmgwi_schema *v, llmgwi_base_str a, llmgwi_base_str b);

static bool llmgwi_schema_equal_string(llmgwi_schema *v, llmgwi_base_str a, llmgwi_base_str b) {
    llmgwi_schema_chars left, right;
    int byte;
    llmgwi_schema_chars_init(v, &left, a);
    llmgwi_schema_chars_init(v, &right, b);
    do {
        byte = llmgwi_schema_chars_next(&left);
        if (byte != llmgwi_schema_chars_next(&right)) return false;
    } while (byte >= 0);
    return true;
}

static bool llmgwi_schema_equal_array(llmgwi_schema *v, llmgwi_base_str a, llmgwi_base_str b) {
    llmgwi_json left, right;
    llmgwi_base_str x, y;
    if (!llmgwi_schema_walk(v, &left, a, LLMGWI_JSON_ARRAY) ||
        !llmgwi_schema_walk(v, &right, b, LLMGWI_JSON_ARRAY))
        return false;
    for (;;) {
        bool more = llmgwi_schema_item(&left, &x);
        if (more != llmgwi_schema_item(&right, &y)) return false;
        if (!more) return true;
        if (!llmgwi_schema_equal(v, x, y)) return false;
    }
}

/* Each member of a is in b, and there are as many. */
static bool llmgwi_schema_equal_object(llmgwi_schema *v, llmgwi_base_str a, llmgwi_base_str b) {
    llmgwi_json json;
    llmgwi_base_str key, x, y;
    size_t count = 0;
    if (!llmgwi_schema_walk(v, &json, a, LLMGWI_JSON_OBJECT)) return false;
    for (; llmgwi_schema_member(&json, &key, &x); count++)
        if (!llmgwi_schema_find(v, b, key, &y) || !llmgwi_schema_equal(v, x, y)) return false;
    if (!llmgwi_schema_walk(v, &json, b, LLMGWI_JSON_OBJECT)) return false;
    while (llmgwi_schema_member(&json, &key, &x)) count--;
    return count == 0;
}

static bool llmgwi_schema_equal(llmgwi_schema *v, llmgwi_base_str a, llmgwi_base_str b) {
    llmgwi_json_kind kind = llmgwi_schema_kind(a);
    llmgwi_json_number x, y;
    bool equal = true;
    if (kind != llmgwi_schema_kind(b)) return false;
    if (v->depth >= LLMGWI_SCHEMA_DEPTH) v->steps = 0;
    if (v->steps <= 0) return false;
    v->depth++;
    if (kind == LLMGWI_JSON_STRING)
        equal = llmgwi_schema_equal_string(v, a, b);
    else if (kind == LLMGWI_JSON_NUMBER)
        equal = llmgwi_schema_number(v, a, &x) && llmgwi_schema_number(v, b, &y) &&
                llmgwi_schema_compare(&x, &y) == 0;
    else if (kind == LLMGWI_JSON_ARRAY)
        equal = llmgwi_schema_equal_array(v, a, b);
    else if (kind == LLMGWI_JSON_OBJECT)
        equal = llmgwi_schema_equal_object(v, a, b);
    v->depth--;
    return equal;
}

/* ---- keywords ---- */

static const char *const llmgwi_schema_types[] = {"",       "object",  "array",   "string",
                                                  "number", "boolean", "boolean", "null"};

/* 1.0 is an integer, too. */
static bool llmgwi_schema_integer(llmgwi_schema *v, llmgwi_base_str value) {
    llmgwi_json_number number;
    if (llmgwi_schema_kind(value) != LLMGWI_JSON_NUMBER || !llmgwi_schema_number(v, value, &number))
        return false;
    bool small = number.d > -9e15 && number.d < 9e15; /* beyond, a double has no fraction */
    return number.integer || !small || (double)(int64_t)number.d == number.d;
}

static bool llmgwi_schema_is_type(llmgwi_schema *v, llmgwi_base_str name, llmgwi_base_str value) {
    llmgwi_json json;
    llmgwi_json_text text;
    llmgwi_schema_open(v, &json, name);
    if (!llmgwi_json_string(&json, &text)) return false;
    if (llmgwi_json_is(text, "integer")) return llmgwi_schema_integer(v, value);
    return llmgwi_json_is(text, llmgwi_schema_types[llmgwi_schema_kind(value)]);
}

static bool llmgwi_schema_type(llmgwi_schema *v, const llmgwi_schema_check *check) {
    llmgwi_json json;
    llmgwi_base_str name;
    llmgwi_schema_check plain = *check;
    if (llmgwi_schema_walk(v, &json, check->arg, LLMGWI_JSON_ARRAY)) {
        while (llmgwi_schema_item(&json, &name))
            if (llmgwi_schema_is_type(v, name, check->value)) return true;
    } else if (llmgwi_schema_is_type(v, check->arg, check->value)) {
        return true;
    }
    if (plain.arg.n > 2 && plain.arg.p[0] == '"')
        plain.arg = llmgwi_base_view(plain.arg.p + 1, plain.arg.n - 2);
    return llmgwi_schema_refuse(v, &plain);
}

static bool llmgwi_schema_required(llmgwi_schema *v, const llmgwi_schema_check *check) {
    llmgwi_json json;
    llmgwi_base_str name, key, other;
    if (llmgwi_schema_kind(check->value) != LLMGWI_JSON_OBJECT) return true;
    if (!llmgwi_schema_walk(v, &json, check->arg, LLMGWI_JSON_ARRAY)) return true;
    while (llmgwi_schema_item(&json, &name)) {
        llmgwi_json names;
        bool found = false;
        if (llmgwi_schema_kind(name) != LLMGWI_JSON_STRING || name.n < 2) continue;
        key = llmgwi_base_view(name.p + 1, name.n - 2);
        if (memchr(key.p, '\\', key.n)) { /* as the reader decodes a key */
            char object[LLMGWI_JSON_KEY * 6 + 8];
            int n = snprintf(object, sizeof object, "{%.*s:0}", (int)(name.n < sizeof object ? name.n : 0),
                             name.p);
            llmgwi_json_init(&names, object, (size_t)n, 1);
            if (n < (int)sizeof object && llmgwi_json_object(&names) && llmgwi_json_member(&names, &key))
                found = llmgwi_schema_find(v, check->value, key, &other);
        } else {
            found = llmgwi_schema_find(v, check->value, key, &other);
        }
        if (!found) return llmgwi_schema_fail(v, check->path, check->text, name);
    }
    return true;
}

static llmgwi_schema_path llmgwi_schema_below(const llmgwi_schema_path *up, llmgwi_base_str key,
                                              size_t index) {
    llmgwi_schema_path path;
    path.up = up;
    path.key = key;
    path.index = index;
    return path;
}

/* mode 0: properties, the members that it names; 1: additionalProperties, those that it does not. */
static bool llmgwi_schema_properties(llmgwi_schema *v, const llmgwi_schema_check *check) {
    llmgwi_json json;
    llmgwi_base_str key, value, schema, named = check->arg;
    bool patterns = llmgwi_schema_find(v, check->schema, llmgwi_base_cstr("patternProperties"), &schema);
    if (check->mode && !llmgwi_schema_find(v, check->schema, llmgwi_base_cstr("properties"), &named))
        named = llmgwi_base_cstr("{}");
    if ((check->mode && patterns) || !llmgwi_schema_walk(v, &json, check->value, LLMGWI_JSON_OBJECT))
        return true;
    while (llmgwi_schema_member(&json, &key, &value)) {
        llmgwi_schema_path path = llmgwi_schema_below(check->path, key, 0);
        bool found = llmgwi_schema_find(v, named, key, &schema);
        if (found == (check->mode == 1)) continue;
        if (check->mode && llmgwi_schema_kind(check->arg) == LLMGWI_JSON_FALSE)
            return llmgwi_schema_fail(v, &path, check->text, llmgwi_base_view("", 0));
        if (!llmgwi_schema_apply(v, &path, check->mode ? check->arg : schema, value)) return false;
    }
    return true;
}

static bool llmgwi_schema_items(llmgwi_schema *v, const llmgwi_schema_check *check) {
    llmgwi_json json;
    llmgwi_base_str value, other;
    if (llmgwi_schema_kind(check->arg) == LLMGWI_JSON_ARRAY) return true;
    if (llmgwi_schema_find(v, check->schema, llmgwi_base_cstr("prefixItems"), &other)) return true;
    if (!llmgwi_schema_walk(v, &json, check->value, LLMGWI_JSON_ARRAY)) return true;
    for (size_t i = 0; llmgwi_schema_item(&json, &value); i++) {
        llmgwi_schema_path path = llmgwi_schema_below(check->path, llmgwi_base_view(NULL, 0), i);
        if (!llmgwi_schema_apply(v, &path, check->arg, value)) return false;
    }
    return true;
}

/* mode 0: const; 1: enum. */
static bool llmgwi_schema_equals(llmgwi_schema *v, const llmgwi_schema_check *check) {
    llmgwi_json json;
    llmgwi_base_str one;
    if (!check->mode)
        return llmgwi_schema_equal(v, check->arg, check->value) || llmgwi_schema_refuse(v, check);
    if (!llmgwi_schema_walk(v, &json, check->arg, LLMGWI_JSON_ARRAY)) return true;
    while (llmgwi_schema_item(&json, &one))
        if (llmgwi_schema_equal(v, one, check->value)) return true;
    return llmgwi_schema_refuse(v, check);
}

/* mode: bit 0, the argument is the most, not the least; bit 1, it is excluded. */
static bool llmgwi_schema_bound(llmgwi_schema *v, const llmgwi_schema_check *check,
                                const llmgwi_json_number *number) {
    llmgwi_json_number bound;
    if (llmgwi_schema_kind(check->arg) != LLMGWI_JSON_NUMBER || !llmgwi_schema_number(v, check->arg, &bound))
        return true;
    int order = llmgwi_schema_compare(number, &bound);
    if (check->mode & 1) order = -order;
    return order > 0 || (order == 0 && !(check->mode & 2)) || llmgwi_schema_refuse(v, check);
}

static bool llmgwi_schema_range(llmgwi_schema *v, const llmgwi_schema_check *check) {
    llmgwi_json_number number;
    if (llmgwi_schema_kind(check->value) != LLMGWI_JSON_NUMBER) return true;
    if (!llmgwi_schema_number(v, check->value, &number))
        return llmgwi_schema_fail(v, check->path, "number too long", llmgwi_base_view("", 0));
    return llmgwi_schema_bound(v, check, &number);
}

static bool llmgwi_schema_size(llmgwi_schema *v, const llmgwi_schema_check *check, int64_t size) {
    llmgwi_json_number number;
    memset(&number, 0, sizeof number);
    number.integer = true;
    number.i = size;
    number.d = (double)size;
    return llmgwi_schema_bound(v, check, &number);
}

static bool llmgwi_schema_length(llmgwi_schema *v, const llmgwi_schema_check *check) {
    llmgwi_schema_chars chars;
    int64_t points = 0;
    if (llmgwi_schema_kind(check->value) != LLMGWI_JSON_STRING) return true;
    llmgwi_schema_chars_init(v, &chars, check->value);
    for (int byte; (byte = llmgwi_schema_chars_next(&chars)) >= 0;) points += (byte & 0xC0) != 0x80;
    return llmgwi_schema_size(v, check, points);
}

static bool llmgwi_schema_count(llmgwi_schema *v, const llmgwi_schema_check *check) {
    llmgwi_json json;
    int64_t items = 0;
    if (!llmgwi_schema_walk(v, &json, check->value, LLMGWI_JSON_ARRAY)) return true;
    while (llmgwi_json_item(&json)) items++;
    return llmgwi_schema_size(v, check, items);
}

/* mode 0: anyOf; 1: oneOf. */
static bool llmgwi_schema_some(llmgwi_schema *v, const llmgwi_schema_check *check) {
    llmgwi_json json;
    llmgwi_base_str schema;
    int fits = 0;
    if (!llmgwi_schema_walk(v, &json, check->arg, LLMGWI_JSON_ARRAY)) return true;
    v->quiet++;
    while ((fits == 0 || (fits == 1 && check->mode)) && llmgwi_schema_item(&json, &schema))
        fits += llmgwi_schema_apply(v, check->path, schema, check->value);
    v->quiet--;
    return fits == 1 || llmgwi_schema_fail(v, check->path, fits ? "fits more than one of oneOf" : check->text,
                                           llmgwi_base_view("", 0));
}

static bool llmgwi_schema_all(llmgwi_schema *v, const llmgwi_schema_check *check) {
    llmgwi_json json;
    llmgwi_base_str schema;
    if (!llmgwi_schema_walk(v, &json, check->arg, LLMGWI_JSON_ARRAY)) return true;
    while (llmgwi_schema_item(&json, &schema))
        if (!llmgwi_schema_apply(v, check->path, schema, check->value)) return false;
    return true;
}

/* "#" and "#/a/b" within this schema, plain names only. A $ref that leads nowhere lets nothing pass. */
static bool llmgwi_schema_ref(llmgwi_schema *v, const llmgwi_schema_check *check) {
    llmgwi_json json;
    llmgwi_json_text text;
    llmgwi_base_str at = v->root;
    llmgwi_schema_open(v, &json, check->arg);
    if (!llmgwi_json_maybe(&json, &text)) return true;
    const char *p = text.raw.p, *end = p + text.raw.n;
    bool found = !text.escaped && p < end && *p++ == '#';
    while (found && p < end) {
        const char *next = *p == '/' ? (const char *)memchr(p + 1, '/', (size_t)(end - p - 1)) : NULL;
        if (!next) next = end;
        found = *p == '/' && llmgwi_schema_find(v, at, llmgwi_base_view(p + 1, (size_t)(next - p - 1)), &at);
        p = next;
    }
    return found ? llmgwi_schema_apply(v, check->path, at, check->value) : llmgwi_schema_refuse(v, check);
}

typedef struct llmgwi_schema_word {
    const char *name;
    bool (*check)(llmgwi_schema *v, const llmgwi_schema_check *check);
    int mode;
    const char *text;
} llmgwi_schema_word;

static const llmgwi_schema_word llmgwi_schema_words[] = {
    {"$ref", llmgwi_schema_ref, 0, "the schema does not have "},
    {"type", llmgwi_schema_type, 0, "expected "},
    {"enum", llmgwi_schema_equals, 1, "expected one of "},
    {"const", llmgwi_schema_equals, 0, "expected "},
    {"required", llmgwi_schema_required, 0, "expected a member "},
    {"properties", llmgwi_schema_properties, 0, ""},
    {"additionalProperties", llmgwi_schema_properties, 1, "expected no such member"},
    {"items", llmgwi_schema_items, 0, ""},
    {"minimum", llmgwi_schema_range, 0, "expected a number >= "},
    {"maximum", llmgwi_schema_range, 1, "expected a number <= "},
    {"exclusiveMinimum", llmgwi_schema_range, 2, "expected a number > "},
    {"exclusiveMaximum", llmgwi_schema_range, 3, "expected a number < "},
    {"minLength", llmgwi_schema_length, 0, "expected a length in characters >= "},
    {"maxLength", llmgwi_schema_length, 1, "expected a length in characters <= "},
    {"minItems", llmgwi_schema_count, 0, "expected a number of items >= "},
    {"maxItems", llmgwi_schema_count, 1, "expected a number of items <= "},
    {"anyOf", llmgwi_schema_some, 0, "fits none of anyOf"},
    {"oneOf", llmgwi_schema_some, 1, "fits none of oneOf"},
    {"allOf", llmgwi_schema_all, 0, ""},
};

static bool llmgwi_schema_keyword(llmgwi_schema *v, llmgwi_base_str key, llmgwi_schema_check *check) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_schema_words); i++) {
        const llmgwi_schema_word *word = &llmgwi_schema_words[i];
        if (!llmgwi_base_is(key, word->name)) continue;
        check->mode = word->mode;
        check->text = word->text;
        return word->check(v, check);
    }
    return true;
}

static bool llmgwi_schema_apply(llmgwi_schema *v, const llmgwi_schema_path *path, llmgwi_base_str schema,
                                llmgwi_base_str value) {
    llmgwi_json json;
    llmgwi_base_str key;
    llmgwi_schema_check check;
    bool good = true;
    if (v->depth >= LLMGWI_SCHEMA_DEPTH) v->steps = 0;
    if (v->steps <= 0) return false;
    if (llmgwi_schema_kind(schema) == LLMGWI_JSON_FALSE)
        return llmgwi_schema_fail(v, path, "expected nothing here", llmgwi_base_view("", 0));
    check.path = path;
    check.schema = schema;
    check.value = value;
    if (!llmgwi_schema_walk(v, &json, schema, LLMGWI_JSON_OBJECT)) return v->steps > 0;
    v->depth++;
    while (good && llmgwi_schema_member(&json, &key, &check.arg))
        good = llmgwi_schema_keyword(v, key, &check);
    v->depth--;
    return good && v->steps > 0;
}

/* One JSON value, no more: what is it, without the white space around it? */
static bool llmgwi_schema_read(llmgwi_schema *v, const char *what, llmgwi_base_str text, int max_depth,
                               llmgwi_base_str *raw) {
    llmgwi_json json;
    char at[96];
    llmgwi_json_init(&json, text.p, text.n, max_depth);
    if (llmgwi_json_skip(&json, raw) && llmgwi_json_end(&json)) return true;
    snprintf(at, sizeof at, "%s at byte %zu: %s", what, json.error_at, json.error);
    llmgwi_schema_say(v, llmgwi_base_cstr(at));
    return false;
}

/* Has json the shape that schema asks for? If not, why says where and what was expected:
   "$.items[2].price: expected number". why may be NULL if why_size is 0. */
static bool llmgwi_schema_valid(llmgwi_base_str schema, llmgwi_base_str json, int max_depth, char *why,
                                size_t why_size) {
    llmgwi_schema v;
    llmgwi_base_str value;
    memset(&v, 0, sizeof v);
    v.steps = LLMGWI_SCHEMA_STEPS;
    v.why = why;
    v.why_size = why_size;
    if (why_size) why[0] = 0;
    if (!llmgwi_schema_read(&v, "bad schema", schema, LLMGWI_JSON_MAX_DEPTH, &v.root)) return false;
    if (!llmgwi_schema_read(&v, "bad JSON", json, max_depth, &value)) return false;
    bool good = llmgwi_schema_apply(&v, NULL, v.root, value);
    if (v.steps > 0) return good;
    v.why_n = 0;
    llmgwi_schema_say(&v, llmgwi_base_cstr("too complex"));
    return false;
}

static llmgwi_base_str llmgwi_schema_trim(llmgwi_base_str text) {
    while (text.n && strchr(" \t\r\n", text.p[0]) && text.p[0]) text.p++, text.n--;
    return llmgwi_base_trim(text);
}

/* A model's text without white space around it and without the fence that many models put around JSON. */
static llmgwi_base_str llmgwi_schema_unfence(llmgwi_base_str text) {
    text = llmgwi_schema_trim(text);
    bool tildes = llmgwi_base_starts(text, "~~~");
    if (!tildes && !llmgwi_base_starts(text, "```")) return text;
    char mark = text.p[0];
    while (text.n && text.p[0] == mark) text.p++, text.n--;
    while (text.n && strchr("\t\r\n{[\" ", text.p[0]) == NULL) text.p++, text.n--; /* the language's name */
    while (text.n && text.p[text.n - 1] == mark) text.n--;
    return llmgwi_schema_trim(text);
}

/* ------------------------------------------------------------------------------------------- */
/* >>config   purpose: descriptions, configuration file and environment to one checked table.    */
/*            uses: json, dialect   guarantees: an error names the path of the field; keys stand  */
/*            in memory that is wiped; nothing here changes after open                            */
/* ------------------------------------------------------------------------------------------- */

#define LLMGWI_CONFIG_ROUTE_TARGETS 64 /* LLMGWI_ROUTE_TARGETS */
#define LLMGWI_CONFIG_HEADERS 32
#define LLMGWI_CONFIG_KEYS 16
#define LLMGWI_CONFIG_SECRETS (LLMGW_MAX_NAMES * (LLMGWI_CONFIG_KEYS + 4))
#define LLMGWI_CONFIG_FILE_BYTES ((size_t)4 << 20)
#define LLMGWI_CONFIG_PROBE_MS 50 /* connect deadline to a local server that nobody configured */

/* A header line; the list is in the form the http section wants. Lines may hold keys: wiped. */
typedef struct llmgwi_config_header {
    char *line;
    size_t size;
} llmgwi_config_header;

/* What an account or a model allows; 0: no limit. */
typedef struct llmgwi_config_limits {
    int64_t rpm, tpm, rpd, concurrency;
} llmgwi_config_limits;

static const llmgwi_config_limits llmgwi_config_unlimited = {0, 0, 0, 0};

typedef struct llmgwi_config_provider {
    const char *name;
    size_t index; /* among the providers */
    const llmgwi_dialect *dialect;
    const char *flavour; /* known name or dialect */
    unsigned quirks;
    const char *url; /* without a slash at its end */
    bool tls, loopback;
    bool keyed;                  /* some header is a secret */
    bool listed;                 /* at its known place: built-in prices hold */
    bool named;                  /* by its own name, not by dialect only: its key's variable holds */
    bool discovered;             /* a local server that nobody configured */
    int source;                  /* which of C, file and environment defined it */
    const char *missing;         /* NULL, or where the key should have come from */
    const char *region;          /* providers of one region fail together: its name, or host[:port] of url */
    bool domain_named;           /* region was given */
    llmgwi_config_limits limits; /* of each key */
    llmgwi_config_header keys[LLMGWI_CONFIG_KEYS]; /* a line for each key; NULL: without a key */
    size_t key_count;                              /* at least 1, also without a key: the lanes */
    size_t lane_at; /* lanes of the providers before: its lane k is lane_at + k of config.lane_count */
    llmgwi_config_header headers[LLMGWI_CONFIG_HEADERS]; /* beside the key's, the same for all keys */
    size_t header_count;
} llmgwi_config_provider;

/* provider + model: what an attempt goes to. */
typedef struct llmgwi_config_target {
    llmgwi_config_provider *provider;
    const char *model;
    llmgw_price price;
    /* Never NULL. The same struct for all names of a provider's model, if one of them limits it. */
    const llmgwi_config_limits *limits;
} llmgwi_config_target;

typedef struct llmgwi_config_model {
    const char *name;
    int source;
    llmgwi_config_target target;
    llmgwi_config_limits *limits; /* target.limits, while opening */
} llmgwi_config_model;

typedef enum llmgwi_config_how {
    LLMGWI_CONFIG_FALLBACK,
    LLMGWI_CONFIG_RACE,
    LLMGWI_CONFIG_WEIGHTED,
    LLMGWI_CONFIG_LEAST_BUSY,
    LLMGWI_CONFIG_FASTEST
} llmgwi_config_how;

typedef struct llmgwi_config_route {
    const char *name;
    size_t index; /* among the routes */
    int source;
    llmgwi_config_how how;
    llmgwi_config_target targets[LLMGWI_CONFIG_ROUTE_TARGETS];
    double weights[LLMGWI_CONFIG_ROUTE_TARGETS]; /* over 0; 1 where none are given */
    size_t target_count;
    int width;          /* attempts at once: 2 or more for RACE, else 1 */
    bool race_complete; /* a race is won by a whole answer, not by its first text */
    int hedge_ms;       /* 0: never; or LLMGW_P95 */
    int hedge_percent;  /* of the calls */
    int standby;        /* targets; 0: none */
    unsigned valid;     /* LLMGW_VALID_... */
} llmgwi_config_route;

typedef struct llmgwi_config {
    const llmgwi_base_mem *mem;
    llmgwi_base_arena arena;
    llmgw_options options; /* numbers resolved; pointers are the caller's: not used after open */
    const char *ca_file;
    int source; /* while opening: 0 C, 1 file, 2 environment */
    llmgwi_config_provider **providers;
    size_t provider_count, provider_cap;
    size_t lane_count; /* keys of all providers; set once all are there */
    llmgwi_config_model **models;
    size_t model_count, model_cap;
    llmgwi_config_route **routes;
    size_t route_count, route_cap;
    llmgwi_config_header *secrets; /* key values, for redaction */
    size_t secret_count, secret_cap;
} llmgwi_config;

/* ---- secrets ---- */

/* A key's own copy, wiped at close. */
static bool llmgwi_config_secret(llmgwi_config *config, const char *value) {
    llmgwi_config_header *secrets = (llmgwi_config_header *)llmgwi_base_grow(
        config->mem, config->secrets, &config->secret_cap, config->secret_count, LLMGWI_CONFIG_SECRETS,
        sizeof *secrets);
    if (!secrets) return false;
    config->secrets = secrets;
    llmgwi_config_header *secret = &secrets[config->secret_count];
    secret->size = strlen(value) + 1;
    secret->line = (char *)llmgwi_base_realloc(config->mem, NULL, 0, secret->size);
    if (!secret->line) return false;
    memcpy(secret->line, value, secret->size);
    for (size_t i = config->secret_count++; i > 0 && secrets[i].size > secrets[i - 1].size; i--) {
        llmgwi_config_header longer = secrets[i]; /* the longest first: one may begin another */
        secrets[i] = secrets[i - 1];
        secrets[i - 1] = longer;
    }
    return true;
}

#define LLMGWI_CONFIG_SECRET_MIN 6 /* a shorter "key" would blot out ordinary words */

/* Replaces every key that stands in a text by "[key]", in place. */
static void llmgwi_config_redact(const llmgwi_config *config, char *text) {
    for (size_t i = 0; i < config->secret_count; i++) {
        size_t n = config->secrets[i].size - 1;
        if (n < LLMGWI_CONFIG_SECRET_MIN) continue;
        for (char *at = text; (at = strstr(at, config->secrets[i].line)) != NULL; at += 5) {
            memmove(at + 5, at + n, strlen(at + n) + 1);
            memcpy(at, "[key]", 5);
        }
        size_t end = strlen(text), most = n - 1 < end ? n - 1 : end; /* a key that was cut off at the end */
        for (; most >= LLMGWI_CONFIG_SECRET_MIN; most--)
            if (memcmp(text + end - most, config->secrets[i].line, most) == 0) text[end - most] = 0;
    }
}

static void llmgwi_config_wipe(const llmgwi_config *config, llmgwi_config_header *lines, size_t count) {
    for (size_t i = 0; i < count; i++) {
        llmgwi_base_wipe(lines[i].line, lines[i].size);
        llmgwi_base_free(config->mem, lines[i].line, lines[i].size);
    }
}

static void llmgwi_config_close(llmgwi_config *config) {
    for (size_t i = 0; i < config->provider_count; i++) {
        llmgwi_config_wipe(config, config->providers[i]->keys, config->providers[i]->key_count);
        llmgwi_config_wipe(config, config->providers[i]->headers, config->providers[i]->header_count);
    }
    llmgwi_config_wipe(config, config->secrets, config->secret_count);
    llmgwi_base_free(config->mem, config->secrets, config->secret_cap * sizeof *config->secrets);
    llmgwi_base_free(config->mem, config->providers, config->provider_cap * sizeof *config->providers);
    llmgwi_base_free(config->mem, config->models, config->model_cap * sizeof *config->models);
    llmgwi_base_free(config->mem, config->routes, config->route_cap * sizeof *config->routes);
    llmgwi_base_arena_wipe(&config->arena);
    llmgwi_base_arena_free(&config->arena);
}

/* ---- checks ---- */

static bool llmgwi_config_memory(llmgw_error *error) {
    (void)llmgwi_base_error(error, LLMGW_E_MEMORY, "out of memory for the configuration");
    return false;
}

static bool llmgwi_config_wrong(llmgw_error *error, const char *path, const char *field, const char *why) {
    (void)llmgwi_base_error(error, LLMGW_E_CONFIG, "%s%s%s: %s", path, field[0] ? "." : "", field, why);
    return false;
}

/* Names of providers: letters, digits, "_.-". Aliases and routes may hold more ("gpt-4o:fast"). */
static bool llmgwi_config_name(const char *name, bool strict) {
    size_t n = name ? strlen(name) : 0;
    if (n == 0 || n > 64) return false;
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        bool word =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("_.-", c);
        if (!word && (strict || (unsigned char)c <= ' ' || c == '/' || c == 0x7F)) return false;
    }
    return true;
}

/* The place of a word among count words; count: it is none of them. */
static size_t llmgwi_config_word(const char *const *words, size_t count, const char *word) {
    size_t i = 0;
    while (i < count && strcmp(words[i], word) != 0) i++;
    return i;
}

/* Takes limits over as a description gives them. */
static bool llmgwi_config_limit(llmgwi_config_limits *limits, int64_t rpm, int64_t tpm, int64_t rpd,
                                int concurrency, const char *path, llmgw_error *error) {
    static const char *const names[] = {"rpm", "tpm", "rpd", "concurrency"};
    const int64_t values[] = {rpm, tpm, rpd, concurrency};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(names); i++)
        if (values[i] < 0 || values[i] > (i < 3 ? INT64_C(1000000000000) : 1000000))
            return llmgwi_config_wrong(error, path, names[i],
                                       i < 3 ? "expected 1 to 1,000,000,000,000, or 0 for no limit"
                                             : "expected 1 to 1,000,000, or 0 for no limit");
    limits->rpm = rpm;
    limits->tpm = tpm;
    limits->rpd = rpd;
    limits->concurrency = concurrency;
    return true;
}

static bool llmgwi_config_dotted_loopback(const char *host, size_t n) {
    char text[20];
    unsigned a, b, c, d;
    char rest;
    if (n >= sizeof text) return false;
    memcpy(text, host, n);
    text[n] = 0;
    if (strspn(text, "0123456789.") != n) return false; /* sscanf would take signs */
    return sscanf(text, "%3u.%3u.%3u.%3u%c", &a, &b, &c, &d, &rest) == 4 && a == 127 && b < 256 && c < 256 &&
           d < 256;
}

/* Takes an URL apart as far as safety needs it. NULL, or what is wrong. */
static const char *llmgwi_config_url(llmgwi_config_provider *provider, const char *url) {
    llmgwi_base_str all = llmgwi_base_cstr(url);
    provider->tls = llmgwi_base_starts(all, "https://");
    if (!provider->tls && !llmgwi_base_starts(all, "http://")) return "expected https://... or http://...";
    for (const char *p = url; *p; p++)
        if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7F || *p == '\\')
            return "a character that no URL may hold";
    const char *host = strstr(url, "://") + 3, *end = host + strcspn(host, "/?#");
    if (memchr(host, '@', (size_t)(end - host))) return "no user or password in an URL: use key";
    if (strpbrk(url, "?#")) return "no query or fragment in a base URL";
    const char *port = NULL, *name_end = end;
    if (*host == '[') {
        name_end = (const char *)memchr(host, ']', (size_t)(end - host));
        if (!name_end) return "']' is missing";
        name_end++;
        if (name_end < end && *name_end != ':') return "expected a port after ']'";
        if (name_end < end) port = name_end + 1;
    } else if ((port = (const char *)memchr(host, ':', (size_t)(end - host))) != NULL) {
        name_end = port++;
    }
    if (name_end == host) return "the host is missing";
    if (port && (port == end || (size_t)(end - port) > 5 ||
                 strspn(port, "0123456789") != (size_t)(end - port) || atoi(port) > 65535))
        return "a bad port";
    llmgwi_base_str name = llmgwi_base_view(host, (size_t)(name_end - host));
    provider->loopback = llmgwi_base_is_nocase(name, "localhost") || llmgwi_base_is(name, "[::1]") ||
                         llmgwi_config_dotted_loopback(name.p, name.n);
    return NULL;
}

/* ---- providers ---- */

static llmgwi_config_provider *llmgwi_config_provider_find(const llmgwi_config *config, const char *name,
                                                           size_t n) {
    for (size_t i = 0; i < config->provider_count; i++)
        if (llmgwi_base_is(llmgwi_base_view(name, n), config->providers[i]->name))
            return config->providers[i];
    return NULL;
}

/* "env:NAME" or the value itself; NULL if the variable is not set. */
static const char *llmgwi_config_value(const char *text) {
    if (strncmp(text, "env:", 4) != 0) return text;
    const char *value = getenv(text + 4);
    return value && value[0] ? value : NULL;
}

/* Appends the line "name: prefix value" to count lines, of which there may be most. */
static bool llmgwi_config_line_add(const llmgwi_config *config, llmgwi_config_header *lines, size_t *count,
                                   size_t most, const char *name, const char *prefix, const char *value) {
    if (*count == most) return false;
    size_t size = strlen(name) + strlen(prefix) + strlen(value) + 3;
    char *line = (char *)llmgwi_base_realloc(config->mem, NULL, 0, size);
    if (!line) return false;
    snprintf(line, size, "%s: %s%s", name, prefix, value);
    lines[*count].line = line;
    lines[(*count)++].size = size;
    return true;
}

static bool llmgwi_config_header_add(const llmgwi_config *config, llmgwi_config_provider *provider,
                                     const char *name, const char *value) {
    return llmgwi_config_line_add(config, provider->headers, &provider->header_count, LLMGWI_CONFIG_HEADERS,
                                  name, "", value);
}

static bool llmgwi_config_clean(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7F) return false;
    return true;
}

static bool llmgwi_config_key_add(llmgwi_config *config, llmgwi_config_provider *provider,
                                  const llmgwi_dialect_known *known, const char *key, const char *path,
                                  const char *field, llmgw_error *error) {
    if (!llmgwi_config_clean(key))
        return llmgwi_config_wrong(error, path, field, "holds a control character");
    if (strlen(key) > 16384) return llmgwi_config_wrong(error, path, field, "longer than 16,384 bytes");
    const char *header = known && known->key_header ? known->key_header : provider->dialect->key_header;
    const char *prefix = known && known->key_header ? "" : provider->dialect->key_prefix;
    provider->keyed = true;
    return (llmgwi_config_secret(config, key) &&
            llmgwi_config_line_add(config, provider->keys, &provider->key_count, LLMGWI_CONFIG_KEYS, header,
                                   prefix, key)) ||
           llmgwi_config_memory(error);
}

/* "key", or the variable of a known name. */
static bool llmgwi_config_key(llmgwi_config *config, llmgwi_config_provider *provider,
                              const llmgw_provider *from, const llmgwi_dialect_known *known, const char *path,
                              llmgw_error *error) {
    const char *key = from->key && from->key[0] ? llmgwi_config_value(from->key) : NULL;
    bool asked = from->key && from->key[0];
    if (asked && strcmp(from->key, "env:") == 0)
        return llmgwi_config_wrong(error, path, "key", "expected a variable's name after \"env:\"");
    bool own = provider->named || provider->listed;
    if (!from->key && known && own && !(known->quirks & LLMGWI_DIALECT_LOCAL && !provider->loopback))
        key = getenv(known->key_var);
    if (key && key[0]) return llmgwi_config_key_add(config, provider, known, key, path, "key", error);
    bool needs = asked || (!from->key && known && !(known->quirks & LLMGWI_DIALECT_LOCAL) &&
                           provider->listed && !from->url);
    if (needs)
        provider->missing = llmgwi_base_arena_dup(&config->arena, asked ? from->key + 4 : known->key_var);
    return true;
}

/* "keys": those whose variable is not set are left out; without any, the first is what is missing. */
static bool llmgwi_config_keys(llmgwi_config *config, llmgwi_config_provider *provider,
                               const llmgw_provider *from, const llmgwi_dialect_known *known,
                               const char *path, llmgw_error *error) {
    const char *values[LLMGWI_CONFIG_KEYS];
    char field[32];
    if (from->key) return llmgwi_config_wrong(error, path, "keys", "not together with key");
    if (!from->keys || !from->key_count || from->key_count > LLMGWI_CONFIG_KEYS)
        return llmgwi_config_wrong(error, path, "keys", "expected a list of 1 to 16 keys");
    for (size_t i = 0; i < from->key_count; i++) {
        const char *text = from->keys[i];
        snprintf(field, sizeof field, "keys[%lu]", (unsigned long)i);
        if (!text || !text[0] || strcmp(text, "env:") == 0)
            return llmgwi_config_wrong(error, path, field, "expected \"env:NAME\" or a key");
        values[i] = llmgwi_config_value(text);
        for (size_t j = 0; j < i; j++)
            if (strcmp(text, from->keys[j]) == 0 ||
                (values[i] && values[j] && strcmp(values[i], values[j]) == 0))
                return llmgwi_config_wrong(error, path, field, "the same as one before");
        if (values[i] && !llmgwi_config_key_add(config, provider, known, values[i], path, field, error))
            return false;
    }
    if (!provider->key_count) provider->missing = llmgwi_base_arena_dup(&config->arena, from->keys[0] + 4);
    return true;
}

static bool llmgwi_config_headers(llmgwi_config *config, llmgwi_config_provider *provider,
                                  const llmgw_provider *from, const char *path, llmgw_error *error) {
    char field[40], name[128];
    if (from->header_count > LLMGWI_CONFIG_HEADERS - 3)
        return llmgwi_config_wrong(error, path, "headers", "too many (29 at most)");
    for (size_t i = 0; i < from->header_count; i++) {
        snprintf(field, sizeof field, "headers[%lu]", (unsigned long)i);
        const char *line = from->headers ? from->headers[i] : NULL, *colon = line ? strchr(line, ':') : NULL;
        if (!colon || colon == line || (size_t)(colon - line) >= sizeof name)
            return llmgwi_config_wrong(error, path, field, "expected \"Name: value\"");
        llmgwi_base_copy_cut(name, sizeof name, line, (size_t)(colon - line));
        if (strpbrk(name, " \t") || !llmgwi_config_clean(line))
            return llmgwi_config_wrong(error, path, field, "a bad character");
        const char *value = colon + 1 + strspn(colon + 1, " "), *resolved = llmgwi_config_value(value);
        if (!resolved) return llmgwi_config_wrong(error, path, field, "its environment variable is not set");
        if (!llmgwi_config_clean(resolved)) return llmgwi_config_wrong(error, path, field, "a bad character");
        const char *word = strchr(resolved, ' '); /* "Bearer sk-...": the second word is the secret */
        provider->keyed = true;
        if (!llmgwi_config_secret(config, resolved) || (word && !llmgwi_config_secret(config, word + 1)) ||
            !llmgwi_config_header_add(config, provider, name, resolved))
            return llmgwi_config_memory(error);
    }
    return true;
}

/* Finds dialect, flavour and URL of a description. */
static bool llmgwi_config_identify(llmgwi_config *config, llmgwi_config_provider *provider,
                                   const llmgw_provider *from, const llmgwi_dialect_known **known,
                                   const char *path, llmgw_error *error) {
    const llmgwi_dialect_known *row = llmgwi_dialect_known_find(from->name);
    bool by_name = row != NULL;
    if (from->dialect && (!row || strcmp(row->dialect, from->dialect) != 0)) {
        row = llmgwi_dialect_known_find(from->dialect);
        by_name = false;
    }
    if (!row && !from->dialect)
        return llmgwi_config_wrong(error, path, "dialect", "required: the name is not a known provider");
    if (!row)
        return llmgwi_config_wrong(error, path, "dialect",
                                   "unknown; openai, anthropic, gemini or a known provider's name");
    provider->dialect = llmgwi_dialect_find(row->dialect);
    if (!provider->dialect)
        return llmgwi_config_wrong(error, path, "dialect", "left out when the program was compiled");
    provider->flavour = row->name;
    size_t place = from->url ? strlen(from->url) : 0;
    while (place && from->url[place - 1] == '/') place--;
    provider->listed = !from->url || llmgwi_base_is(llmgwi_base_view(from->url, place), row->url);
    provider->named = by_name;
    provider->quirks = row->quirks;
    if (!provider->listed && !by_name && strcmp(row->name, "openai") == 0)
        provider->quirks = LLMGWI_DIALECT_MAX_TOKENS;
    const char *url = from->url ? from->url : row->url, *why = llmgwi_config_url(provider, url);
    if (why) return llmgwi_config_wrong(error, path, "url", why);
    size_t n = strlen(url);
    while (n && url[n - 1] == '/') n--;
    provider->url = llmgwi_base_arena_copy(&config->arena, url, n);
    *known = row;
    return true;
}

/* Region and limits. */
static bool llmgwi_config_place(llmgwi_config *config, llmgwi_config_provider *provider,
                                const llmgw_provider *from, const char *path, llmgw_error *error) {
    const char *host = strstr(provider->url, "://");
    if (from->region && !llmgwi_config_name(from->region, false))
        return llmgwi_config_wrong(error, path, "region",
                                   "expected 1 to 64 characters without space or slash");
    host = host ? host + 3 : ""; /* "": memory is out, which the caller sees */
    provider->domain_named = from->region != NULL;
    provider->region = from->region ? llmgwi_base_arena_dup(&config->arena, from->region)
                                    : llmgwi_base_arena_copy(&config->arena, host, strcspn(host, "/"));
    return llmgwi_config_limit(&provider->limits, from->rpm, from->tpm, from->rpd, from->concurrency, path,
                               error);
}

/* Everything that may be secret, and whether it may travel. */
static bool llmgwi_config_auth(llmgwi_config *config, llmgwi_config_provider *provider,
                               const llmgw_provider *from, const llmgwi_dialect_known *known,
                               const char *path, llmgw_error *error) {
    bool several = from->keys || from->key_count;
    if (!(several ? llmgwi_config_keys(config, provider, from, known, path, error)
                  : llmgwi_config_key(config, provider, from, known, path, error)))
        return false;
    if (!provider->key_count) provider->key_count = 1;
    if (!llmgwi_config_headers(config, provider, from, path, error)) return false;
    if (provider->keyed && !provider->tls && !provider->loopback) {
        (void)llmgwi_base_error(error, LLMGW_E_INSECURE,
                                "%s.url: a key would travel over plain http; use https", path);
        return false;
    }
    const char *fixed = provider->dialect->header, *colon = fixed ? strchr(fixed, ':') : NULL;
    char name[64];
    if (fixed) llmgwi_base_copy_cut(name, sizeof name, fixed, (size_t)(colon - fixed));
    return !fixed || llmgwi_config_header_add(config, provider, name, colon + 2) ||
           llmgwi_config_memory(error);
}

/* Checks a description and adds it, or puts it in the place of one with the same name. */
static bool llmgwi_config_provider_add(llmgwi_config *config, const llmgw_provider *from, const char *path,
                                       llmgw_error *error) {
    const llmgwi_dialect_known *known = NULL;
    if (!llmgwi_config_name(from->name, true))
        return llmgwi_config_wrong(error, path, "name", "expected [A-Za-z0-9_.-]{1,64}");
    llmgwi_config_provider *same = llmgwi_config_provider_find(config, from->name, strlen(from->name));
    if (same)
        return same->source != config->source || llmgwi_config_wrong(error, path, "name", "defined twice");
    llmgwi_config_provider **list =
        (llmgwi_config_provider **)llmgwi_base_grow(config->mem, config->providers, &config->provider_cap,
                                                    config->provider_count, LLMGW_MAX_NAMES, sizeof *list);
    llmgwi_config_provider *provider =
        (llmgwi_config_provider *)llmgwi_base_arena_get(&config->arena, sizeof *provider);
    if (list) config->providers = list;
    if (!list || !provider) return llmgwi_config_memory(error);
    provider->index = config->provider_count;
    list[config->provider_count++] = provider;
    provider->name = llmgwi_base_arena_dup(&config->arena, from->name);
    provider->source = config->source;
    if (!llmgwi_config_identify(config, provider, from, &known, path, error)) return false;
    if (!llmgwi_config_place(config, provider, from, path, error)) return false;
    if (!llmgwi_config_auth(config, provider, from, known, path, error)) return false;
    return !config->arena.failed || llmgwi_config_memory(error);
}

/* ---- models and routes ---- */

static bool llmgwi_config_price(const llmgw_price *price, const char *path, llmgw_error *error) {
    const llmgw_opt *opts[] = {&price->input, &price->output, &price->cached, &price->cache_write,
                               &price->cache_write_1h};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(opts); i++)
        if (opts[i]->set && !(opts[i]->value >= 0 && opts[i]->value <= 1e6))
            return llmgwi_config_wrong(error, path, "price",
                                       "expected USD per million tokens, 0 to 1,000,000");
    return true;
}

static void llmgwi_config_stricter(int64_t *limit, int64_t other) {
    if (other && (!*limit || other < *limit)) *limit = other;
}

/* Models of one provider may have several names. A limit is the model's, by whatever name it is asked: the
   names share one struct, which takes the strictest of what they say. */
static bool llmgwi_config_model_limit(llmgwi_config *config, llmgwi_config_model *model,
                                      const llmgw_model *from, const char *path, llmgw_error *error) {
    llmgwi_config_limits own;
    if (!llmgwi_config_limit(&own, from->rpm, from->tpm, from->rpd, from->concurrency, path, error))
        return false;
    for (size_t i = 0; i < config->model_count && !model->limits; i++) {
        const llmgwi_config_target *other = &config->models[i]->target;
        if (other->provider == model->target.provider && strcmp(other->model, model->target.model) == 0)
            model->limits = config->models[i]->limits;
    }
    if (!model->limits)
        model->limits = (llmgwi_config_limits *)llmgwi_base_arena_get(&config->arena, sizeof own);
    if (!model->limits) return llmgwi_config_memory(error);
    model->target.limits = model->limits;
    llmgwi_config_stricter(&model->limits->rpm, own.rpm);
    llmgwi_config_stricter(&model->limits->tpm, own.tpm);
    llmgwi_config_stricter(&model->limits->rpd, own.rpd);
    llmgwi_config_stricter(&model->limits->concurrency, own.concurrency);
    return true;
}

static bool llmgwi_config_model_add(llmgwi_config *config, const llmgw_model *from, const char *path,
                                    llmgw_error *error) {
    if (!llmgwi_config_name(from->name, false))
        return llmgwi_config_wrong(error, path, "name", "expected 1 to 64 characters without space or slash");
    for (size_t i = 0; i < config->model_count; i++)
        if (strcmp(config->models[i]->name, from->name) == 0)
            return config->models[i]->source != config->source ||
                   llmgwi_config_wrong(error, path, "name", "defined twice");
    if (!from->provider) return llmgwi_config_wrong(error, path, "provider", "required");
    if (!llmgwi_config_price(&from->price, path, error)) return false;
    llmgwi_config_provider *provider =
        llmgwi_config_provider_find(config, from->provider, strlen(from->provider));
    if (!provider) return llmgwi_config_wrong(error, path, "provider", "no such provider is configured");
    llmgwi_config_model **list = (llmgwi_config_model **)llmgwi_base_grow(
        config->mem, config->models, &config->model_cap, config->model_count, LLMGW_MAX_NAMES, sizeof *list);
    llmgwi_config_model *model = (llmgwi_config_model *)llmgwi_base_arena_get(&config->arena, sizeof *model);
    if (list) config->models = list;
    if (!list || !model) return llmgwi_config_memory(error);
    model->name = llmgwi_base_arena_dup(&config->arena, from->name);
    model->source = config->source;
    model->target.provider = provider;
    model->target.model =
        llmgwi_base_arena_dup(&config->arena, from->model && from->model[0] ? from->model : from->name);
    model->target.price = from->price;
    if (!llmgwi_config_model_limit(config, model, from, path, error)) return false;
    list[config->model_count++] = model;
    return !config->arena.failed || llmgwi_config_memory(error);
}

/* What is configured of a model holds by whatever name it is asked: its price, its limits. */
static void llmgwi_config_target_known(const llmgwi_config *config, llmgwi_config_target *target) {
    for (size_t i = 0; target->provider && i < config->model_count; i++) {
        const llmgwi_config_target *known = &config->models[i]->target;
        if (known->provider != target->provider || strcmp(known->model, target->model) != 0) continue;
        target->price = known->price;
        target->limits = known->limits;
    }
}

/* "alias" or "provider/model" as a target. False: it is neither. The model's text is borrowed. */
static bool llmgwi_config_target_find(const llmgwi_config *config, const char *name,
                                      llmgwi_config_target *target) {
    memset(target, 0, sizeof *target);
    target->limits = &llmgwi_config_unlimited;
    for (size_t i = 0; i < config->model_count; i++)
        if (strcmp(config->models[i]->name, name) == 0) {
            *target = config->models[i]->target;
            return true;
        }
    const char *slash = strchr(name, '/');
    if (!slash || !slash[1]) return false;
    target->provider = llmgwi_config_provider_find(config, name, (size_t)(slash - name));
    target->model = slash + 1;
    llmgwi_config_target_known(config, target);
    return target->provider != NULL;
}

static llmgwi_config_route *llmgwi_config_route_find(const llmgwi_config *config, const char *name) {
    for (size_t i = 0; i < config->route_count; i++)
        if (strcmp(config->routes[i]->name, name) == 0) return config->routes[i];
    return NULL;
}

/* How a route chooses: how, weights, width, race_by. */
static bool llmgwi_config_route_how(llmgwi_config_route *route, const llmgw_route *from, const char *path,
                                    llmgw_error *error) {
    static const char *const hows[] = {"fallback", "race", "weighted", "least_busy", "fastest"};
    static const char *const bys[] = {"first_text", "complete"};
    size_t how = llmgwi_config_word(hows, LLMGWI_BASE_COUNT(hows), from->how ? from->how : hows[0]);
    size_t by = llmgwi_config_word(bys, LLMGWI_BASE_COUNT(bys), from->race_by ? from->race_by : bys[0]);
    bool race = how == LLMGWI_CONFIG_RACE;
    if (how == LLMGWI_BASE_COUNT(hows))
        return llmgwi_config_wrong(error, path, "how",
                                   "expected fallback, race, weighted, least_busy or fastest");
    if ((from->weights || from->weight_count) && how != LLMGWI_CONFIG_WEIGHTED)
        return llmgwi_config_wrong(error, path, "weights", "only with \"how\" weighted");
    if ((from->weights || from->weight_count) && (!from->weights || from->weight_count != from->target_count))
        return llmgwi_config_wrong(error, path, "weights", "expected one for each target");
    for (size_t i = 0; i < from->target_count; i++) {
        route->weights[i] = from->weights ? from->weights[i] : 1;
        if (!(route->weights[i] > 0 && route->weights[i] <= 1e9)) /* their sum is finite; NaN is none */
            return llmgwi_config_wrong(error, path, "weights", "expected numbers over 0, 1e9 at most");
    }
    if (from->race_by && !race) return llmgwi_config_wrong(error, path, "race_by", "only with \"how\" race");
    if (by == LLMGWI_BASE_COUNT(bys))
        return llmgwi_config_wrong(error, path, "race_by", "expected first_text or complete");
    if (from->width && !race) return llmgwi_config_wrong(error, path, "width", "only with \"how\" race");
    if (race && from->target_count < 2)
        return llmgwi_config_wrong(error, path, "try", "a race needs two targets");
    if (from->width && (from->width < 2 || from->width > 16 || (size_t)from->width > from->target_count))
        return llmgwi_config_wrong(error, path, "width",
                                   "expected 2 to 16, and not more than there are targets");
    route->how = (llmgwi_config_how)how;
    route->race_complete = by == 1;
    route->width = !race ? 1 : from->width ? from->width : 2;
    return true;
}

/* What a route does besides: hedging, standby connections, checks of the answer. */
static bool llmgwi_config_route_extras(llmgwi_config_route *route, const llmgw_route *from, const char *path,
                                       const char *hedge, llmgw_error *error) {
    const unsigned valid = LLMGW_VALID_NOT_EMPTY | LLMGW_VALID_NOT_REFUSED | LLMGW_VALID_SCHEMA;
    int hedge_ms = from->hedge_ms == LLMGW_OFF ? 0 : from->hedge_ms;
    if (hedge_ms < LLMGW_P95) return llmgwi_config_wrong(error, path, hedge, "expected milliseconds or p95");
    if (hedge_ms && route->how == LLMGWI_CONFIG_RACE)
        return llmgwi_config_wrong(error, path, hedge, "not in a race");
    if (hedge_ms && from->target_count < 2)
        return llmgwi_config_wrong(error, path, hedge, "needs a second target");
    if (from->hedge_percent < 0 || from->hedge_percent > 100)
        return llmgwi_config_wrong(error, path, "hedge_percent", "expected 1 to 100");
    if (from->standby < 0 || from->standby > 8)
        return llmgwi_config_wrong(error, path, "standby", "expected 1 to 8");
    if (from->standby && (size_t)from->standby >= from->target_count)
        return llmgwi_config_wrong(error, path, "standby", "expected fewer than there are targets");
    if (from->valid & ~valid)
        return llmgwi_config_wrong(error, path, "valid", "a bit that is no LLMGW_VALID_...");
    route->hedge_ms = hedge_ms;
    route->hedge_percent = from->hedge_percent ? from->hedge_percent : 5;
    route->standby = from->standby;
    route->valid = from->valid;
    return true;
}

static bool llmgwi_config_route_targets(llmgwi_config *config, llmgwi_config_route *route,
                                        const llmgw_route *from, const char *path, llmgw_error *error) {
    char field[32];
    for (size_t i = 0; i < from->target_count; i++) {
        snprintf(field, sizeof field, "%s[%lu]", config->source ? "try" : "targets", (unsigned long)i);
        const char *name = llmgwi_base_arena_dup(&config->arena, from->targets[i] ? from->targets[i] : "");
        if (config->arena.failed) return llmgwi_config_memory(error);
        if (!llmgwi_config_target_find(config, name, &route->targets[i]))
            return llmgwi_config_wrong(error, path, field,
                                       "no such alias, and no \"provider/model\" of a configured provider");
    }
    route->target_count = from->target_count;
    return true;
}

static bool llmgwi_config_route_add(llmgwi_config *config, const llmgw_route *from, const char *path,
                                    llmgw_error *error) {
    if (!llmgwi_config_name(from->name, false))
        return llmgwi_config_wrong(error, path, "name", "expected 1 to 64 characters without space or slash");
    llmgwi_config_route *same = llmgwi_config_route_find(config, from->name);
    if (same)
        return same->source != config->source || llmgwi_config_wrong(error, path, "name", "defined twice");
    for (size_t i = 0; i < config->model_count; i++)
        if (strcmp(config->models[i]->name, from->name) == 0)
            return llmgwi_config_wrong(error, path, "name", "also the name of a model");
    if (!from->target_count || !from->targets)
        return llmgwi_config_wrong(error, path, "try", "expected a list of models");
    if (from->target_count > LLMGWI_CONFIG_ROUTE_TARGETS)
        return llmgwi_config_wrong(error, path, "try", "64 targets at most");
    llmgwi_config_route **list = (llmgwi_config_route **)llmgwi_base_grow(
        config->mem, config->routes, &config->route_cap, config->route_count, LLMGW_MAX_NAMES, sizeof *list);
    llmgwi_config_route *route = (llmgwi_config_route *)llmgwi_base_arena_get(&config->arena, sizeof *route);
    if (list) config->routes = list;
    if (!list || !route) return llmgwi_config_memory(error);
    route->name = llmgwi_base_arena_dup(&config->arena, from->name);
    route->source = config->source;
    if (!llmgwi_config_route_how(route, from, path, error) ||
        !llmgwi_config_route_extras(route, from, path, config->source ? "hedge" : "hedge_ms", error) ||
        !llmgwi_config_route_targets(config, route, from, path, error))
        return false;
    route->index = config->route_count;
    list[config->route_count++] = route;
    return !config->arena.failed || llmgwi_config_memory(error);
}

/* ---- the file ---- */

typedef enum llmgwi_config_type {
    LLMGWI_CONFIG_TEXT,   /* const char * */
    LLMGWI_CONFIG_INT,    /* int */
    LLMGWI_CONFIG_WIDE,   /* int64_t */
    LLMGWI_CONFIG_SIZE,   /* size_t */
    LLMGWI_CONFIG_USD,    /* llmgw_opt */
    LLMGWI_CONFIG_LIST,   /* const char *const *, then its size_t count */
    LLMGWI_CONFIG_PAIRS,  /* the same, from an object: "Name: value" */
    LLMGWI_CONFIG_REALS,  /* const double *, then its size_t count */
    LLMGWI_CONFIG_HEDGE,  /* int: milliseconds, or LLMGW_P95 from "p95" */
    LLMGWI_CONFIG_VALID,  /* unsigned: LLMGW_VALID_... from a list of words */
    LLMGWI_CONFIG_FIELDS, /* an object with fields of its own */
    LLMGWI_CONFIG_NAMED,  /* an object of named objects */
    LLMGWI_CONFIG_LATER   /* DESIGN knows it, this version does not */
} llmgwi_config_type;

typedef struct llmgwi_config_field {
    const char *name;
    llmgwi_config_type type;
    size_t at;
    const struct llmgwi_config_field *fields; /* FIELDS, NAMED */
} llmgwi_config_field;

static const llmgwi_config_field llmgwi_config_provider_fields[] = {
    {"dialect", LLMGWI_CONFIG_TEXT, offsetof(llmgw_provider, dialect), NULL},
    {"url", LLMGWI_CONFIG_TEXT, offsetof(llmgw_provider, url), NULL},
    {"key", LLMGWI_CONFIG_TEXT, offsetof(llmgw_provider, key), NULL},
    {"headers", LLMGWI_CONFIG_PAIRS, offsetof(llmgw_provider, headers), NULL},
    {"keys", LLMGWI_CONFIG_LIST, offsetof(llmgw_provider, keys), NULL},
    {"region", LLMGWI_CONFIG_TEXT, offsetof(llmgw_provider, region), NULL},
    {"rpm", LLMGWI_CONFIG_WIDE, offsetof(llmgw_provider, rpm), NULL},
    {"tpm", LLMGWI_CONFIG_WIDE, offsetof(llmgw_provider, tpm), NULL},
    {"rpd", LLMGWI_CONFIG_WIDE, offsetof(llmgw_provider, rpd), NULL},
    {"concurrency", LLMGWI_CONFIG_INT, offsetof(llmgw_provider, concurrency), NULL},
    {"tags", LLMGWI_CONFIG_LATER, 0, NULL},
    {NULL, LLMGWI_CONFIG_TEXT, 0, NULL}};

static const llmgwi_config_field llmgwi_config_price_fields[] = {
    {"input", LLMGWI_CONFIG_USD, offsetof(llmgw_price, input), NULL},
    {"output", LLMGWI_CONFIG_USD, offsetof(llmgw_price, output), NULL},
    {"cached", LLMGWI_CONFIG_USD, offsetof(llmgw_price, cached), NULL},
    {"cache_write", LLMGWI_CONFIG_USD, offsetof(llmgw_price, cache_write), NULL},
    {"cache_write_1h", LLMGWI_CONFIG_USD, offsetof(llmgw_price, cache_write_1h), NULL},
    {NULL, LLMGWI_CONFIG_TEXT, 0, NULL}};

static const llmgwi_config_field llmgwi_config_model_fields[] = {
    {"provider", LLMGWI_CONFIG_TEXT, offsetof(llmgw_model, provider), NULL},
    {"model", LLMGWI_CONFIG_TEXT, offsetof(llmgw_model, model), NULL},
    {"price", LLMGWI_CONFIG_FIELDS, offsetof(llmgw_model, price), llmgwi_config_price_fields},
    {"rpm", LLMGWI_CONFIG_WIDE, offsetof(llmgw_model, rpm), NULL},
    {"tpm", LLMGWI_CONFIG_WIDE, offsetof(llmgw_model, tpm), NULL},
    {"rpd", LLMGWI_CONFIG_WIDE, offsetof(llmgw_model, rpd), NULL},
    {"concurrency", LLMGWI_CONFIG_INT, offsetof(llmgw_model, concurrency), NULL},
    {"quality", LLMGWI_CONFIG_LATER, 0, NULL},
    {NULL, LLMGWI_CONFIG_TEXT, 0, NULL}};

static const llmgwi_config_field llmgwi_config_route_fields[] = {
    {"how", LLMGWI_CONFIG_TEXT, offsetof(llmgw_route, how), NULL},
    {"try", LLMGWI_CONFIG_LIST, offsetof(llmgw_route, targets), NULL},
    {"weights", LLMGWI_CONFIG_REALS, offsetof(llmgw_route, weights), NULL},
    {"width", LLMGWI_CONFIG_INT, offsetof(llmgw_route, width), NULL},
    {"race_by", LLMGWI_CONFIG_TEXT, offsetof(llmgw_route, race_by), NULL},
    {"hedge", LLMGWI_CONFIG_HEDGE, offsetof(llmgw_route, hedge_ms), NULL},
    {"hedge_percent", LLMGWI_CONFIG_INT, offsetof(llmgw_route, hedge_percent), NULL},
    {"standby", LLMGWI_CONFIG_INT, offsetof(llmgw_route, standby), NULL},
    {"valid", LLMGWI_CONFIG_VALID, offsetof(llmgw_route, valid), NULL},
    {NULL, LLMGWI_CONFIG_TEXT, 0, NULL}};

static const llmgwi_config_field llmgwi_config_top_fields[] = {
    {"providers", LLMGWI_CONFIG_NAMED, 0, llmgwi_config_provider_fields},
    {"models", LLMGWI_CONFIG_NAMED, 1, llmgwi_config_model_fields},
    {"routes", LLMGWI_CONFIG_NAMED, 2, llmgwi_config_route_fields},
    {"ca_file", LLMGWI_CONFIG_TEXT, offsetof(llmgw_options, ca_file), NULL},
    {"deadline_ms", LLMGWI_CONFIG_INT, offsetof(llmgw_options, deadline_ms), NULL},
    {"connect_ms", LLMGWI_CONFIG_INT, offsetof(llmgw_options, connect_ms), NULL},
    {"first_token_ms", LLMGWI_CONFIG_INT, offsetof(llmgw_options, first_token_ms), NULL},
    {"idle_ms", LLMGWI_CONFIG_INT, offsetof(llmgw_options, idle_ms), NULL},
    {"max_attempts", LLMGWI_CONFIG_INT, offsetof(llmgw_options, max_attempts), NULL},
    {"max_calls", LLMGWI_CONFIG_INT, offsetof(llmgw_options, max_calls), NULL},
    {"max_connections", LLMGWI_CONFIG_INT, offsetof(llmgw_options, max_connections), NULL},
    {"max_idle_connections", LLMGWI_CONFIG_INT, offsetof(llmgw_options, max_idle_connections), NULL},
    {"max_request_bytes", LLMGWI_CONFIG_SIZE, offsetof(llmgw_options, max_request_bytes), NULL},
    {"max_reply_bytes", LLMGWI_CONFIG_SIZE, offsetof(llmgw_options, max_reply_bytes), NULL},
    {"max_event_bytes", LLMGWI_CONFIG_SIZE, offsetof(llmgw_options, max_event_bytes), NULL},
    {"max_queue_bytes", LLMGWI_CONFIG_SIZE, offsetof(llmgw_options, max_queue_bytes), NULL},
    {"max_json_depth", LLMGWI_CONFIG_INT, offsetof(llmgw_options, max_json_depth), NULL},
    {"max_waiting", LLMGWI_CONFIG_INT, offsetof(llmgw_options, max_waiting), NULL},
    {"max_targets", LLMGWI_CONFIG_INT, offsetof(llmgw_options, max_targets), NULL},
    {"backoff_ms", LLMGWI_CONFIG_INT, offsetof(llmgw_options, backoff_ms), NULL},
    {"backoff_max_ms", LLMGWI_CONFIG_INT, offsetof(llmgw_options, backoff_max_ms), NULL},
    {"retry_after_max_ms", LLMGWI_CONFIG_INT, offsetof(llmgw_options, retry_after_max_ms), NULL},
    {"retry_percent", LLMGWI_CONFIG_INT, offsetof(llmgw_options, retry_percent), NULL},
    {"max_resumes", LLMGWI_CONFIG_INT, offsetof(llmgw_options, max_resumes), NULL},
    {"hold_ms", LLMGWI_CONFIG_INT, offsetof(llmgw_options, hold_ms), NULL},
    {"hold_bytes", LLMGWI_CONFIG_INT, offsetof(llmgw_options, hold_bytes), NULL},
    {"min_bytes_per_s", LLMGWI_CONFIG_INT, offsetof(llmgw_options, min_bytes_per_s), NULL},
    {"breaker_failures", LLMGWI_CONFIG_INT, offsetof(llmgw_options, breaker_failures), NULL},
    {"breaker_percent", LLMGWI_CONFIG_INT, offsetof(llmgw_options, breaker_percent), NULL},
    {"breaker_min_calls", LLMGWI_CONFIG_INT, offsetof(llmgw_options, breaker_min_calls), NULL},
    {"breaker_window_ms", LLMGWI_CONFIG_INT, offsetof(llmgw_options, breaker_window_ms), NULL},
    {"breaker_open_ms", LLMGWI_CONFIG_INT, offsetof(llmgw_options, breaker_open_ms), NULL},
    {"breaker_open_max_ms", LLMGWI_CONFIG_INT, offsetof(llmgw_options, breaker_open_max_ms), NULL},
    {"breaker_slow_ms", LLMGWI_CONFIG_INT, offsetof(llmgw_options, breaker_slow_ms), NULL},
    {"key_dead_ms", LLMGWI_CONFIG_INT, offsetof(llmgw_options, key_dead_ms), NULL},
    {"headroom_percent", LLMGWI_CONFIG_INT, offsetof(llmgw_options, headroom_percent), NULL},
    {"reserve_output_tokens", LLMGWI_CONFIG_INT, offsetof(llmgw_options, reserve_output_tokens), NULL},
    {"standby_ms", LLMGWI_CONFIG_INT, offsetof(llmgw_options, standby_ms), NULL},
    {"prices", LLMGWI_CONFIG_LATER, 0, NULL},
    {"store", LLMGWI_CONFIG_LATER, 0, NULL},
    {"cache", LLMGWI_CONFIG_LATER, 0, NULL},
    {"budget", LLMGWI_CONFIG_LATER, 0, NULL},
    {NULL, LLMGWI_CONFIG_TEXT, 0, NULL}};

/* The document being read. Named objects are collected, then added: models need all providers. */
typedef struct llmgwi_config_load {
    llmgwi_config *config;
    llmgwi_json json;
    llmgw_error *error;
    llmgw_provider *providers;
    llmgw_model *models;
    llmgw_route *routes;
    size_t counts[3], caps[3];
    char path[256];
} llmgwi_config_load;

static bool llmgwi_config_load_wrong(llmgwi_config_load *load, const char *why) {
    if (load->error && load->error->code) return false;
    if (load->json.error)
        (void)llmgwi_base_error(load->error, LLMGW_E_CONFIG, "%s: %s at byte %lu",
                                load->path[0] ? load->path : "configuration", load->json.error,
                                (unsigned long)load->json.error_at);
    else
        (void)llmgwi_base_error(load->error, LLMGW_E_CONFIG, "%s: %s",
                                load->path[0] ? load->path : "configuration", why);
    return false;
}

/* Appends ".name" (cut to fit) to the path; returns where it ended before. */
static size_t llmgwi_config_path_push(llmgwi_config_load *load, llmgwi_base_str name) {
    size_t n = strlen(load->path), room = sizeof load->path - n - 2;
    if (n + 2 >= sizeof load->path) return n; /* full: the error's path ends here */
    if (n) load->path[n] = '.', load->path[n + 1] = 0;
    llmgwi_base_copy_cut(load->path + strlen(load->path), room, name.p, name.n);
    return n;
}

static const char *llmgwi_config_text(llmgwi_config_load *load) {
    llmgwi_json_text text;
    if (llmgwi_json_peek(&load->json) != LLMGWI_JSON_STRING) {
        (void)llmgwi_config_load_wrong(load, "expected a string");
        return NULL;
    }
    if (!llmgwi_json_string(&load->json, &text)) {
        (void)llmgwi_config_load_wrong(load, "");
        return NULL;
    }
    char *copy = (char *)llmgwi_base_arena_get(&load->config->arena, text.raw.n + 1);
    if (!copy) {
        (void)llmgwi_config_memory(load->error);
        return NULL;
    }
    size_t n = llmgwi_json_decode(text, copy);
    copy[n] = 0;
    if (memchr(copy, 0, n)) {
        (void)llmgwi_config_load_wrong(load, "holds a NUL character");
        return NULL;
    }
    return copy;
}

static bool llmgwi_config_number(llmgwi_config_load *load, const llmgwi_config_field *field, char *into) {
    llmgwi_json_number number;
    if (llmgwi_json_peek(&load->json) != LLMGWI_JSON_NUMBER)
        return llmgwi_config_load_wrong(load, "expected a number");
    if (!llmgwi_json_get_number(&load->json, &number)) return llmgwi_config_load_wrong(load, "");
    if (field->type == LLMGWI_CONFIG_USD) {
        *(llmgw_opt *)(void *)(into + field->at) = llmgw_set(number.d);
        return true;
    }
    bool wide = field->type == LLMGWI_CONFIG_WIDE;
    if (!number.integer || (!wide && (number.i < -1 || number.i > INT_MAX)))
        return llmgwi_config_load_wrong(load, "expected a whole number");
    if (wide)
        *(int64_t *)(void *)(into + field->at) = number.i;
    else if (field->type != LLMGWI_CONFIG_SIZE)
        *(int *)(void *)(into + field->at) = (int)number.i;
    else if (number.i < 0)
        return llmgwi_config_load_wrong(load, "expected a whole number from 0");
    else
        *(size_t *)(void *)(into + field->at) = (size_t)number.i;
    return true;
}

/* ["a", "b"] or {"Name": "value"} to an array of texts and its count beside it. */
static bool llmgwi_config_list(llmgwi_config_load *load, const llmgwi_config_field *field, char *into) {
    const char **list = (const char **)llmgwi_base_arena_get(&load->config->arena,
                                                             LLMGWI_CONFIG_ROUTE_TARGETS * sizeof *list);
    size_t count = 0;
    llmgwi_base_str key = llmgwi_base_view("", 0);
    bool pairs = field->type == LLMGWI_CONFIG_PAIRS;
    if (!list) return llmgwi_config_memory(load->error);
    if (llmgwi_json_peek(&load->json) != (pairs ? LLMGWI_JSON_OBJECT : LLMGWI_JSON_ARRAY))
        return llmgwi_config_load_wrong(load, pairs ? "expected an object of strings"
                                                    : "expected a list of strings");
    (void)(pairs ? llmgwi_json_object(&load->json) : llmgwi_json_array(&load->json));
    while (pairs ? llmgwi_json_member(&load->json, &key) : llmgwi_json_item(&load->json)) {
        if (count == LLMGWI_CONFIG_ROUTE_TARGETS) return llmgwi_config_load_wrong(load, "64 at most");
        const char *text = llmgwi_config_text(load);
        if (!text) return false;
        if (pairs) {
            size_t size = key.n + strlen(text) + 3;
            char *line = (char *)llmgwi_base_arena_get(&load->config->arena, size);
            if (!line) return llmgwi_config_memory(load->error);
            snprintf(line, size, "%.*s: %s", (int)key.n, key.p, text);
            text = line;
        }
        list[count++] = text;
    }
    *(const char *const **)(void *)(into + field->at) = list;
    *(size_t *)(void *)(into + field->at + sizeof(const char *const *)) = count;
    return !load->json.error || llmgwi_config_load_wrong(load, "");
}

/* [1, 2.5] to an array of numbers and its count beside it. */
static bool llmgwi_config_reals(llmgwi_config_load *load, const llmgwi_config_field *field, char *into) {
    llmgwi_json_number number;
    size_t count = 0;
    double *list =
        (double *)llmgwi_base_arena_get(&load->config->arena, LLMGWI_CONFIG_ROUTE_TARGETS * sizeof *list);
    if (!list) return llmgwi_config_memory(load->error);
    if (llmgwi_json_peek(&load->json) != LLMGWI_JSON_ARRAY)
        return llmgwi_config_load_wrong(load, "expected a list of numbers");
    (void)llmgwi_json_array(&load->json);
    while (llmgwi_json_item(&load->json)) {
        if (count == LLMGWI_CONFIG_ROUTE_TARGETS) return llmgwi_config_load_wrong(load, "64 at most");
        if (llmgwi_json_peek(&load->json) != LLMGWI_JSON_NUMBER)
            return llmgwi_config_load_wrong(load, "expected a list of numbers");
        if (!llmgwi_json_get_number(&load->json, &number)) return llmgwi_config_load_wrong(load, "");
        list[count++] = number.d;
    }
    *(const double **)(void *)(into + field->at) = list;
    *(size_t *)(void *)(into + field->at + sizeof(const double *)) = count;
    return !load->json.error || llmgwi_config_load_wrong(load, "");
}

static bool llmgwi_config_hedge(llmgwi_config_load *load, const llmgwi_config_field *field, char *into) {
    llmgwi_json_kind kind = llmgwi_json_peek(&load->json);
    if (kind == LLMGWI_JSON_NUMBER) return llmgwi_config_number(load, field, into);
    const char *text = kind == LLMGWI_JSON_STRING ? llmgwi_config_text(load) : "";
    if (!text) return false;
    if (strcmp(text, "p95") != 0) return llmgwi_config_load_wrong(load, "expected milliseconds or \"p95\"");
    *(int *)(void *)(into + field->at) = LLMGW_P95;
    return true;
}

static bool llmgwi_config_valid(llmgwi_config_load *load, const llmgwi_config_field *field, char *into) {
    static const char *const words[] = {"not_empty", "not_refused", "schema"}; /* bit i is words[i] */
    unsigned valid = 0;
    if (llmgwi_json_peek(&load->json) != LLMGWI_JSON_ARRAY)
        return llmgwi_config_load_wrong(load, "expected a list of strings");
    (void)llmgwi_json_array(&load->json);
    while (llmgwi_json_item(&load->json)) {
        const char *text = llmgwi_config_text(load);
        if (!text) return false;
        size_t bit = llmgwi_config_word(words, LLMGWI_BASE_COUNT(words), text);
        if (bit == LLMGWI_BASE_COUNT(words))
            return llmgwi_config_load_wrong(load, "expected not_empty, not_refused or schema");
        valid |= 1u << bit;
    }
    *(unsigned *)(void *)(into + field->at) = valid;
    return !load->json.error || llmgwi_config_load_wrong(load, "");
}

static bool llmgwi_config_fields(llmgwi_config_load *load, const llmgwi_config_field *fields, char *into);

/* {"name": {...}, ...} under providers, models or routes. */
static bool llmgwi_config_named(llmgwi_config_load *load, const llmgwi_config_field *field) {
    static const size_t sizes[3] = {sizeof(llmgw_provider), sizeof(llmgw_model), sizeof(llmgw_route)};
    size_t kind = field->at;
    llmgwi_base_str key;
    if (llmgwi_json_peek(&load->json) != LLMGWI_JSON_OBJECT)
        return llmgwi_config_load_wrong(load, "expected an object");
    (void)llmgwi_json_object(&load->json);
    while (llmgwi_json_member(&load->json, &key)) {
        void *array = kind == 0   ? (void *)load->providers
                      : kind == 1 ? (void *)load->models
                                  : (void *)load->routes;
        array = llmgwi_base_grow(load->config->mem, array, &load->caps[kind], load->counts[kind],
                                 LLMGW_MAX_NAMES, sizes[kind]);
        if (!array)
            return load->counts[kind] >= LLMGW_MAX_NAMES
                       ? llmgwi_config_load_wrong(load, "too many: more than LLMGW_MAX_NAMES")
                       : llmgwi_config_memory(load->error);
        if (kind == 0)
            load->providers = (llmgw_provider *)array;
        else if (kind == 1)
            load->models = (llmgw_model *)array;
        else
            load->routes = (llmgw_route *)array;
        char *item = (char *)array + load->counts[kind]++ * sizes[kind];
        memset(item, 0, sizes[kind]);
        size_t before = llmgwi_config_path_push(load, key);
        /* name is the first field of all three */
        *(const char **)(void *)item = llmgwi_base_arena_copy(&load->config->arena, key.p, key.n);
        if (!llmgwi_config_fields(load, field->fields, item)) return false;
        load->path[before] = 0;
    }
    return !load->json.error || llmgwi_config_load_wrong(load, "");
}

static bool llmgwi_config_field_read(llmgwi_config_load *load, const llmgwi_config_field *field, char *into) {
    switch (field->type) {
    case LLMGWI_CONFIG_TEXT:
        return (*(const char **)(void *)(into + field->at) = llmgwi_config_text(load)) != NULL;
    case LLMGWI_CONFIG_INT:
    case LLMGWI_CONFIG_WIDE:
    case LLMGWI_CONFIG_SIZE:
    case LLMGWI_CONFIG_USD: return llmgwi_config_number(load, field, into);
    case LLMGWI_CONFIG_LIST:
    case LLMGWI_CONFIG_PAIRS: return llmgwi_config_list(load, field, into);
    case LLMGWI_CONFIG_REALS: return llmgwi_config_reals(load, field, into);
    case LLMGWI_CONFIG_HEDGE: return llmgwi_config_hedge(load, field, into);
    case LLMGWI_CONFIG_VALID: return llmgwi_config_valid(load, field, into);
    case LLMGWI_CONFIG_FIELDS: return llmgwi_config_fields(load, field->fields, into + field->at);
    case LLMGWI_CONFIG_NAMED: return llmgwi_config_named(load, field);
    case LLMGWI_CONFIG_LATER: break;
    }
    return llmgwi_config_load_wrong(load, "not available in this version");
}

/* Says which fields there are. */
static bool llmgwi_config_unknown(llmgwi_config_load *load, const llmgwi_config_field *fields) {
    char why[LLMGW_ERROR_TEXT] = "unknown field; there are ";
    const char *comma = "";
    for (; fields->name; fields++) {
        size_t n = strlen(why);
        if (fields->type == LLMGWI_CONFIG_LATER || n + strlen(fields->name) + 3 > sizeof why) continue;
        snprintf(why + n, sizeof why - n, "%s%s", comma, fields->name);
        comma = ", ";
    }
    return llmgwi_config_load_wrong(load, why);
}

static bool llmgwi_config_fields(llmgwi_config_load *load, const llmgwi_config_field *fields, char *into) {
    llmgwi_base_str key;
    if (llmgwi_json_peek(&load->json) != LLMGWI_JSON_OBJECT)
        return llmgwi_config_load_wrong(load, "expected an object");
    (void)llmgwi_json_object(&load->json);
    while (llmgwi_json_member(&load->json, &key)) {
        const llmgwi_config_field *field = fields;
        size_t before = llmgwi_config_path_push(load, key);
        while (field->name && !llmgwi_base_is(key, field->name)) field++;
        if (!field->name) return llmgwi_config_unknown(load, fields);
        if (!llmgwi_config_field_read(load, field, into)) return false;
        load->path[before] = 0;
    }
    return !load->json.error || llmgwi_config_load_wrong(load, "");
}

/* Adds providers, then models, then routes: each may name what came before. */
static bool llmgwi_config_add_all(llmgwi_config *config, const llmgw_provider *providers,
                                  size_t provider_count, const llmgw_model *models, size_t model_count,
                                  const llmgw_route *routes, size_t route_count, int only, const char *prefix,
                                  llmgw_error *error) {
    char path[160];
    size_t counts[3] = {provider_count, model_count, route_count};
    static const char *const names[3] = {"providers", "models", "routes"};
    for (size_t i = 0; i < counts[only]; i++) {
        const char *name = only == 0 ? providers[i].name : only == 1 ? models[i].name : routes[i].name;
        if (prefix[0])
            snprintf(path, sizeof path, "%s%s[%lu]", prefix, names[only], (unsigned long)i);
        else
            snprintf(path, sizeof path, "%s.%.80s", names[only], name ? name : "");
        bool ok = only == 0   ? llmgwi_config_provider_add(config, &providers[i], path, error)
                  : only == 1 ? llmgwi_config_model_add(config, &models[i], path, error)
                              : llmgwi_config_route_add(config, &routes[i], path, error);
        if (!ok) return false;
    }
    return true;
}

/* ---- environment ---- */

/* OLLAMA_HOST ("host", ":port", "host:port", an IPv6 address or an URL) to a base URL; "" if unset. */
static void llmgwi_config_ollama(char *url, size_t size) {
    const char *host = getenv("OLLAMA_HOST"), *slashes = host ? strstr(host, "://") : NULL;
    url[0] = 0;
    if (!host || !host[0] || strlen(host) > 200) return;
    const char *name = slashes ? slashes + 3 : host, *colon = strchr(name, ':');
    int n = (int)strcspn(name, "/"), scheme = slashes ? (int)(slashes + 3 - host) : 7;
    bool six = colon && name[0] != '[' && strchr(colon + 1, ':');
    bool any = strncmp(name, "0.0.0.0", 7) == 0, none = name[0] == ':' && !six;
    if (any) name += 7, n -= 7;
    const char *port = name[0] == '[' ? strstr(name, "]:") : six ? NULL : strchr(name, ':');
    snprintf(url, size, "%.*s%s%s%.*s%s%s/v1", scheme, slashes ? host : "http://",
             any || none ? "127.0.0.1" : "", six ? "[" : "", n, name, six ? "]" : "",
             port || slashes ? "" : ":11434");
}

/* Every known provider whose key is set, and a local Ollama, which is looked for at first use. */
static bool llmgwi_config_environment(llmgwi_config *config, llmgw_error *error) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_dialect_knowns); i++) {
        const llmgwi_dialect_known *known = &llmgwi_dialect_knowns[i];
        const char *key = getenv(known->key_var);
        bool ollama = strcmp(known->name, "ollama") == 0;
        llmgw_provider from;
        char url[256] = "", path[64];
        memset(&from, 0, sizeof from);
        from.name = known->name;
        if (ollama) llmgwi_config_ollama(url, sizeof url);
        if (url[0]) from.url = url;
        if ((!key || !key[0]) && !ollama) continue;
        if (!llmgwi_dialect_find(known->dialect)) continue;
        if (llmgwi_config_provider_find(config, from.name, strlen(from.name))) continue;
        snprintf(path, sizeof path, "environment.%s", known->name);
        size_t before = config->provider_count;
        llmgw_error odd;
        memset(&odd, 0, sizeof odd);
        if (llmgwi_config_provider_add(config, &from, path, &odd)) {
            config->providers[before]->discovered = ollama && !url[0];
        } else if (ollama && odd.code == LLMGW_E_CONFIG) {
            config->provider_count = before; /* a variable that is not ours: no reason to fail */
        } else {
            *error = odd;
            return false;
        }
    }
    return true;
}

/* A name that no source defined may still be a known provider: then its key is what is missing. */
static const char *llmgwi_config_hint(const char *model) {
    const char *slash = strchr(model, '/');
    for (size_t i = 0; slash && i < LLMGWI_BASE_COUNT(llmgwi_dialect_knowns); i++)
        if (llmgwi_base_is(llmgwi_base_view(model, (size_t)(slash - model)), llmgwi_dialect_knowns[i].name))
            return llmgwi_dialect_knowns[i].key_var;
    return NULL;
}

/* "provider/model", an alias, a route, or, if nothing of the kind exists, a model of the only provider
   there is: fills targets (the route's, or own), their count, and the route, which is NULL for a single
   target. Borrows the config's texts and name. */
static bool llmgwi_config_resolve(const llmgwi_config *config, const char *name, llmgwi_config_target *own,
                                  const llmgwi_config_target **targets, size_t *count,
                                  const llmgwi_config_route **from, llmgw_error *error) {
    const llmgwi_config_route *route = llmgwi_config_route_find(config, name);
    const char *hint = llmgwi_config_hint(name);
    *from = route;
    *targets = route ? route->targets : own;
    *count = route ? route->target_count : 1;
    if (route || llmgwi_config_target_find(config, name, own)) return true;
    if (config->provider_count == 1 && !strchr(name, '/')) {
        own->provider = config->providers[0];
        own->model = name;
        llmgwi_config_target_known(config, own);
        return true;
    }
    if (hint)
        (void)llmgwi_base_error(
            error, LLMGW_E_NO_KEY,
            "model '%.80s': the provider is not configured; set %s or add it under providers", name, hint);
    else
        (void)llmgwi_base_error(
            error, LLMGW_E_MODEL,
            config->provider_count
                ? "model '%.80s': expected \"provider/model\" of a configured provider, an alias or a route"
                : "model '%.80s': no provider is configured",
            name);
    return false;
}

/* ---- all together ---- */

typedef struct llmgwi_config_default {
    const char *name;
    size_t at;
    bool wide; /* size_t, else int */
    int64_t value, low, high;
    bool off; /* LLMGW_OFF is allowed */
} llmgwi_config_default;

#define LLMGWI_CONFIG_DEFAULT(field, wide, value, low, high, off)                                            \
    { #field, offsetof(llmgw_options, field), wide, value, low, high, off }
static const llmgwi_config_default llmgwi_config_defaults[] = {
    LLMGWI_CONFIG_DEFAULT(deadline_ms, false, 120000, 1, INT_MAX, true),
    LLMGWI_CONFIG_DEFAULT(connect_ms, false, 10000, 1, INT_MAX, true),
    LLMGWI_CONFIG_DEFAULT(first_token_ms, false, 60000, 1, INT_MAX, true),
    LLMGWI_CONFIG_DEFAULT(idle_ms, false, 30000, 1, INT_MAX, true),
    LLMGWI_CONFIG_DEFAULT(max_attempts, false, 0, 1, 64, false),
    LLMGWI_CONFIG_DEFAULT(max_calls, false, 65536, 1, 1 << 24, false),
    LLMGWI_CONFIG_DEFAULT(max_connections, false, 20000, 1, 1 << 20, false),
    LLMGWI_CONFIG_DEFAULT(max_idle_connections, false, 256, 1, 1 << 20, false),
    LLMGWI_CONFIG_DEFAULT(max_request_bytes, true, 64 << 20, 1024, INT_MAX, false),
    LLMGWI_CONFIG_DEFAULT(max_reply_bytes, true, 16 << 20, 1024, INT_MAX, false),
    LLMGWI_CONFIG_DEFAULT(max_event_bytes, true, 8 << 20, 1024, INT_MAX, false),
    LLMGWI_CONFIG_DEFAULT(max_queue_bytes, true, 256 << 10, 1024, INT_MAX, false),
    LLMGWI_CONFIG_DEFAULT(max_json_depth, false, 128, 8, LLMGWI_JSON_MAX_DEPTH, false),
    LLMGWI_CONFIG_DEFAULT(max_waiting, false, 10000, 1, 1 << 24, false),
    LLMGWI_CONFIG_DEFAULT(max_targets, false, 4096, 1, 1 << 20, false),
    LLMGWI_CONFIG_DEFAULT(backoff_ms, false, 500, 1, 3600000, true),
    LLMGWI_CONFIG_DEFAULT(backoff_max_ms, false, 8000, 1, 3600000, false),
    LLMGWI_CONFIG_DEFAULT(retry_after_max_ms, false, 3600000, 1, INT_MAX, false),
    LLMGWI_CONFIG_DEFAULT(retry_percent, false, 20, 1, 10000, true),
    LLMGWI_CONFIG_DEFAULT(max_resumes, false, 3, 1, 64, true),
    LLMGWI_CONFIG_DEFAULT(hold_ms, false, 50, 1, 60000, true),
    LLMGWI_CONFIG_DEFAULT(hold_bytes, false, 32, 1, 1 << 20, true),
    LLMGWI_CONFIG_DEFAULT(min_bytes_per_s, false, 1, 1, 1 << 30, true),
    LLMGWI_CONFIG_DEFAULT(breaker_failures, false, 5, 1, 1000000, true),
    LLMGWI_CONFIG_DEFAULT(breaker_percent, false, 50, 1, 100, true),
    LLMGWI_CONFIG_DEFAULT(breaker_min_calls, false, 20, 1, 1000000, false),
    LLMGWI_CONFIG_DEFAULT(breaker_window_ms, false, 30000, 10, 86400000, false),
    LLMGWI_CONFIG_DEFAULT(breaker_open_ms, false, 5000, 1, 86400000, false),
    LLMGWI_CONFIG_DEFAULT(breaker_open_max_ms, false, 120000, 1, 86400000, false),
    LLMGWI_CONFIG_DEFAULT(breaker_slow_ms, false, 0, 1, INT_MAX, true),
    LLMGWI_CONFIG_DEFAULT(key_dead_ms, false, 60000, 1, 3600000, false),
    LLMGWI_CONFIG_DEFAULT(headroom_percent, false, 80, 1, 100, true),
    LLMGWI_CONFIG_DEFAULT(reserve_output_tokens, false, 4096, 1, 10000000, false),
    LLMGWI_CONFIG_DEFAULT(standby_ms, false, 50000, 1, 86400000, true),
};

/* Takes over what from sets and to does not, or the default where from is NULL; checks ranges. */
static bool llmgwi_config_numbers(llmgw_options *to, const llmgw_options *from, llmgw_error *error) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_config_defaults); i++) {
        const llmgwi_config_default *row = &llmgwi_config_defaults[i];
        size_t *wide = (size_t *)(void *)((char *)to + row->at);
        int *narrow = (int *)(void *)((char *)to + row->at);
        const char *source = from ? (const char *)from + row->at : NULL;
        int64_t value = row->wide ? (int64_t)(*wide > INT_MAX ? (size_t)INT_MAX + 1 : *wide) : *narrow;
        if (value == 0 && from)
            value = row->wide ? (int64_t) * (const size_t *)(const void *)source
                              : *(const int *)(const void *)source;
        if (value == 0 && !from) value = row->value;
        if (value != 0 && (value < row->low || value > row->high) && !(row->off && value == LLMGW_OFF)) {
            (void)llmgwi_base_error(error, LLMGW_E_CONFIG, "%s: expected %lld to %lld%s", row->name,
                                    (long long)row->low, (long long)row->high,
                                    row->off ? ", or LLMGW_OFF" : "");
            return false;
        }
        if (row->wide)
            *wide = (size_t)value;
        else
            *narrow = (int)value;
    }
    return true;
}

/* The whole file, NUL-terminated; the caller frees buf. */
static bool llmgwi_config_slurp(const char *path, llmgwi_base_buf *buf, llmgw_error *error) {
    char piece[4096];
    FILE *file = fopen(path, "rb");
    if (!file) {
        (void)llmgwi_base_error(error, LLMGW_E_CONFIG, "config_path %s: %s", path, strerror(errno));
        return false;
    }
    (void)setvbuf(file, NULL, _IONBF, 0); /* keys may stand in it: no copy in stdio's buffer */
    (void)llmgwi_base_buf_reserve(buf, LLMGWI_CONFIG_FILE_BYTES -
                                           1); /* growing would leave copies of keys behind */
    for (size_t n; (n = fread(piece, 1, sizeof piece, file)) > 0 && !buf->failed;)
        llmgwi_base_buf_add(buf, piece, n);
    bool bad = ferror(file) != 0;
    llmgwi_base_wipe(piece, sizeof piece);
    (void)fclose(file);
    if (!bad && !buf->failed) return true;
    if (buf->failed == LLMGWI_BASE_NO_MEMORY) return llmgwi_config_memory(error);
    (void)llmgwi_base_error(error, LLMGW_E_CONFIG, "config_path %s: %s", path,
                            bad ? "cannot be read" : "larger than 4 MiB");
    return false;
}

static void llmgwi_config_load_free(llmgwi_config_load *load) {
    llmgwi_base_free(load->config->mem, load->providers, load->caps[0] * sizeof *load->providers);
    llmgwi_base_free(load->config->mem, load->models, load->caps[1] * sizeof *load->models);
    llmgwi_base_free(load->config->mem, load->routes, load->caps[2] * sizeof *load->routes);
}

/* The document may hold keys: its arena copies live until close and are wiped with it. */
static bool llmgwi_config_parse(llmgwi_config_load *load, llmgw_options *file, llmgwi_base_str text) {
    llmgwi_json_init(&load->json, text.p, text.n, LLMGWI_JSON_MAX_DEPTH);
    if (!llmgwi_config_fields(load, llmgwi_config_top_fields, (char *)file)) return false;
    return llmgwi_json_end(&load->json) || llmgwi_config_load_wrong(load, "");
}

/* Descriptions of C and of the file in turn: what C defines first stays. */
static bool llmgwi_config_merge(llmgwi_config *config, const llmgw_options *options,
                                const llmgwi_config_load *load, llmgw_error *error) {
    for (int kind = 0; kind < 3; kind++) {
        config->source = 0;
        if (!llmgwi_config_add_all(config, options->providers, options->provider_count, options->models,
                                   options->model_count, options->routes, options->route_count, kind,
                                   "options.", error))
            return false;
        config->source = 1;
        if (!llmgwi_config_add_all(config, load->providers, load->counts[0], load->models, load->counts[1],
                                   load->routes, load->counts[2], kind, "", error))
            return false;
        config->source = 2;
        if (kind == 0 && !options->no_environment && !llmgwi_config_environment(config, error)) return false;
    }
    for (size_t i = 0; i < config->provider_count; i++) {
        config->providers[i]->lane_at = config->lane_count;
        config->lane_count += config->providers[i]->key_count;
    }
    return true;
}

/* Checks everything and fills config, which llmgwi_config_close frees also after a failure. */
static bool llmgwi_config_open(llmgwi_config *config, const llmgwi_base_mem *mem,
                               const llmgw_options *options, llmgw_error *error) {
    llmgwi_config_load load;
    llmgw_options file;
    llmgwi_base_buf buf;
    memset(config, 0, sizeof *config);
    memset(&load, 0, sizeof load);
    memset(&file, 0, sizeof file);
    config->mem = mem;
    llmgwi_base_arena_init(&config->arena, mem);
    llmgwi_base_buf_init(&buf, mem, LLMGWI_CONFIG_FILE_BYTES);
    load.config = config;
    load.error = error;
    config->options = *options;
    const char *text = options->config_json;
    bool ok = true;
    if (text && options->config_path)
        ok = llmgwi_config_wrong(error, "options", "config_json", "not together with config_path");
    if ((options->provider_count && !options->providers) || (options->model_count && !options->models) ||
        (options->route_count && !options->routes))
        ok = llmgwi_config_wrong(error, "options", "providers, models, routes", "a count without its array");
    if (ok && options->config_path) ok = llmgwi_config_slurp(options->config_path, &buf, error);
    llmgwi_base_str document = text ? llmgwi_base_cstr(text) : llmgwi_base_buf_str(&buf);
    if (ok && (text || options->config_path)) ok = llmgwi_config_parse(&load, &file, document);
    ok = ok && llmgwi_config_numbers(&config->options, &file, error) &&
         llmgwi_config_numbers(&config->options, NULL, error);
    if (ok)
        config->ca_file =
            llmgwi_base_arena_dup(&config->arena, options->ca_file ? options->ca_file : file.ca_file);
    FILE *ca = ok && config->ca_file ? fopen(config->ca_file, "rb") : NULL;
    if (ok && config->ca_file && !ca) ok = llmgwi_config_wrong(error, "ca_file", "", strerror(errno));
    if (ca) (void)fclose(ca);
    ok = ok && llmgwi_config_merge(config, options, &load, error);
    llmgwi_config_load_free(&load);
    if (buf.p) llmgwi_base_wipe(buf.p, buf.cap);
    llmgwi_base_buf_free(&buf);
    return ok;
}

/* ------------------------------------------------------------------------------------------- */
/* >>price   purpose: what usage costs.   uses: nothing   guarantees: integers only, rounded once  */
/*           per attempt; an unknown price is unknown, never 0                                   */
/* ------------------------------------------------------------------------------------------- */

/* Rates in atto-dollars (1e-18 USD) per token: USD per million tokens x 1e12. -1: unset. */
typedef struct llmgwi_price_rates {
    int64_t input, output, cached, cache_write, cache_write_1h;
} llmgwi_price_rates;

/* USD per million tokens, list prices of pydantic/genai-prices (MIT), data of 2026-08-21 resolved to
   2026-11-22. -1: not listed. long_from: a request with more input tokens than this costs twice as
   much on the input side and one and a half times on the output side, all of it; 0: never. */
typedef struct llmgwi_price_row {
    const char *flavour, *model;
    double input, output, cached, cache_write, cache_write_1h;
    int64_t long_from;
} llmgwi_price_row;

static const llmgwi_price_row llmgwi_price_book[] = {
    {"openai", "gpt-5.6-sol", 5, 30, 0.5, 6.25, -1, 272000},
    {"openai", "gpt-5.6-terra", 2, 12, 0.2, 2.5, -1, 272000},
    {"openai", "gpt-5.6-luna", 0.2, 1.2, 0.02, 0.25, -1, 272000},
    {"openai", "gpt-5.5", 5, 30, 0.5, -1, -1, 0},
    {"openai", "gpt-5.4", 2.5, 15, 0.25, -1, -1, 272000},
    {"openai", "gpt-5.4-mini", 0.75, 4.5, 0.075, -1, -1, 0},
    {"openai", "gpt-5.4-nano", 0.2, 1.25, 0.02, -1, -1, 0},
    {"openai", "gpt-5.2", 1.75, 14, 0.175, -1, -1, 0},
    {"openai", "gpt-5", 1.25, 10, 0.125, -1, -1, 0},
    {"openai", "gpt-5-mini", 0.25, 2, 0.025, -1, -1, 0},
    {"openai", "gpt-5-nano", 0.05, 0.4, 0.005, -1, -1, 0},
    {"openai", "gpt-4.1", 2, 8, 0.5, -1, -1, 0},
    {"openai", "gpt-4.1-mini", 0.4, 1.6, 0.1, -1, -1, 0},
    {"openai", "gpt-4o", 2.5, 10, 1.25, -1, -1, 0},
    {"openai", "gpt-4o-mini", 0.15, 0.6, 0.075, -1, -1, 0},
    {"openai", "o3", 2, 8, 0.5, -1, -1, 0},
    {"openai", "o4-mini", 1.1, 4.4, 0.275, -1, -1, 0},
    {"anthropic", "claude-fable-5", 10, 50, 1, 12.5, 20, 0},
    {"anthropic", "claude-opus-5", 5, 25, 0.5, 6.25, 10, 0},
    {"anthropic", "claude-opus-4-8", 5, 25, 0.5, 6.25, 10, 0},
    {"anthropic", "claude-opus-4-6", 5, 25, 0.5, 6.25, 10, 0},
    {"anthropic", "claude-opus-4-5", 5, 25, 0.5, 6.25, 10, 0},
    {"anthropic", "claude-sonnet-5", 3, 15, 0.3, 3.75, 6, 0},
    {"anthropic", "claude-sonnet-4-6", 3, 15, 0.3, 3.75, 6, 0},
    {"anthropic", "claude-sonnet-4-5", 3, 15, 0.3, 3.75, 6, 200000},
    {"anthropic", "claude-haiku-4-5", 1, 5, 0.1, 1.25, 2, 0},
    {"gemini", "gemini-3.1-pro-preview", 2, 12, 0.2, -1, -1, 200000},
    {"gemini", "gemini-3-flash-preview", 0.5, 3, 0.05, -1, -1, 0},
    {"gemini", "gemini-3.5-flash", 1.5, 9, 0.15, -1, -1, 0},
    {"gemini", "gemini-3.5-flash-lite", 0.3, 2.5, 0.03, -1, -1, 0},
    {"gemini", "gemini-3.6-flash", 0.75, 3.75, 0.075, -1, -1, 0},
    {"gemini", "gemini-3.7-flash", 0.75, 3.75, 0.075, -1, -1, 0},
    {"gemini", "gemini-2.5-pro", 1.25, 10, 0.125, -1, -1, 200000},
    {"gemini", "gemini-2.5-flash", 0.3, 2.5, 0.03, -1, -1, 0},
    {"gemini", "gemini-2.5-flash-lite", 0.1, 0.4, 0.01, -1, -1, 0},
    {"deepseek", "deepseek-v4-flash", 0.14, 0.28, 0.0028, -1, -1, 0},
    {"deepseek", "deepseek-v4-pro", 0.435, 0.87, 0.003625, -1, -1, 0},
    {"deepseek", "deepseek-v3.2", 0.2288, 0.3432, -1, -1, -1, 0},
    {"mistral", "mistral-large-2512", 0.5, 1.5, 0.05, -1, -1, 0},
    {"mistral", "mistral-medium-3", 0.4, 2, -1, -1, -1, 0},
    {"mistral", "mistral-small-2603", 0.15, 0.6, 0.015, -1, -1, 0},
    {"mistral", "codestral-2508", 0.3, 0.9, 0.03, -1, -1, 0},
    {"mistral", "magistral-medium", 2, 5, -1, -1, -1, 0},
    {"xai", "grok-4.5", 2, 6, 0.5, -1, -1, 0},
    {"xai", "grok-4.3", 1.25, 2.5, 0.2, -1, -1, 0},
    {"moonshot", "kimi-k2.6", 0.95, 4, 0.16, -1, -1, 0},
    {"moonshot", "kimi-k3", 3, 15, 0.3, -1, -1, 0},
    {"openrouter", "qwen/qwen3.7-max", 1.25, 3.75, 0.25, 1.5625, -1, 0},
    {"openrouter", "qwen/qwen3.7-plus", 0.4, 1.6, 0.08, 0.5, -1, 0},
    {"openrouter", "qwen/qwen3-max", 1.2, 6, -1, -1, -1, 0},
    {"openrouter", "qwen/qwen-plus", 0.4, 1.2, 0.16, -1, -1, 0},
};

/* Exact for every price with up to 12 decimals below 9,000 USD per million. */
static int64_t llmgwi_price_atto(double usd_per_million) {
    return usd_per_million < 0 ? -1 : (int64_t)(usd_per_million * 1e12 + 0.5);
}

/* "gpt-4o" holds for "gpt-4o-2024-08-06", "claude-opus-5" for "claude-opus-5-20260801": a date may
   follow, nothing else. */
static bool llmgwi_price_matches(const char *row, const char *model) {
    size_t n = strlen(row);
    if (strncmp(row, model, n) != 0) return false;
    if (!model[n]) return true;
    for (size_t form = 0; form < 2; form++) {
        const char *mask = form ? "-2ddd-dd-dd" : "-2ddddddd", *p = model + n;
        while (*mask && (*mask == 'd' ? *p >= '0' && *p <= '9' : *p == *mask)) mask++, p++;
        if (!*mask && !*p) return true;
    }
    return false;
}

/* What a price is asked for. */
typedef struct llmgwi_price_what {
    const llmgw_price *own; /* as configured; goes before the book */
    const char *flavour;    /* the provider in the book; NULL: it is not there */
    const char *model;
} llmgwi_price_what;

/* The rates that hold for this usage. False: unknown. */
static bool llmgwi_price_find(const llmgwi_price_what *what, const llmgw_usage *usage,
                              llmgwi_price_rates *rates) {
    const llmgw_price *own = what->own;
    if (own->input.set || own->output.set) {
        rates->input = own->input.set ? llmgwi_price_atto(own->input.value) : -1;
        rates->output = own->output.set ? llmgwi_price_atto(own->output.value) : -1;
        rates->cached = own->cached.set ? llmgwi_price_atto(own->cached.value) : -1;
        rates->cache_write = own->cache_write.set ? llmgwi_price_atto(own->cache_write.value) : -1;
        rates->cache_write_1h = own->cache_write_1h.set ? llmgwi_price_atto(own->cache_write_1h.value) : -1;
        return rates->input >= 0 && rates->output >= 0;
    }
    for (size_t i = 0; what->flavour && i < LLMGWI_BASE_COUNT(llmgwi_price_book); i++) {
        const llmgwi_price_row *row = &llmgwi_price_book[i];
        if (strcmp(row->flavour, what->flavour) != 0 || !llmgwi_price_matches(row->model, what->model))
            continue;
        bool longer = row->long_from && usage->input > row->long_from;
        rates->input = llmgwi_price_atto(row->input * (longer ? 2 : 1));
        rates->output = llmgwi_price_atto(row->output * (longer ? 1.5 : 1));
        rates->cached = llmgwi_price_atto(row->cached * (longer ? 2 : 1));
        rates->cache_write = llmgwi_price_atto(row->cache_write * (longer ? 2 : 1));
        rates->cache_write_1h = llmgwi_price_atto(row->cache_write_1h * (longer ? 2 : 1));
        return true;
    }
    return false;
}

/* sum += count x rate, in 128 bits (high, low). */
static void llmgwi_price_add(uint64_t sum[2], int64_t count, int64_t rate) {
    uint64_t a = count > 0 ? (uint64_t)count : 0, b = rate > 0 ? (uint64_t)rate : 0;
    uint64_t a0 = a & 0xFFFFFFFFu, a1 = a >> 32, b0 = b & 0xFFFFFFFFu, b1 = b >> 32;
    uint64_t low = a0 * b0, middle = a1 * b0 + (low >> 32), cross = a0 * b1 + (middle & 0xFFFFFFFFu);
    uint64_t product_low = (cross << 32) | (low & 0xFFFFFFFFu);
    sum[1] += product_low;
    sum[0] += a1 * b1 + (middle >> 32) + (cross >> 32) + (sum[1] < product_low);
}

/* 128-bit atto-dollars to pico-dollars, half to even; saturates. */
static llmgw_cost llmgwi_price_round(const uint64_t sum[2]) {
    const uint64_t unit = 1000000;
    llmgw_cost cost;
    uint64_t quotient = 0, rest = sum[0] % unit;
    bool over = sum[0] / unit > 0;
    for (int bit = 63; bit >= 0; bit--) { /* long division of (rest, sum[1]) */
        rest = rest << 1 | (sum[1] >> bit & 1);
        quotient <<= 1;
        if (rest >= unit) {
            rest -= unit;
            quotient |= 1;
        }
    }
    if (rest * 2 > unit || (rest * 2 == unit && (quotient & 1))) quotient++;
    over = over || quotient > (uint64_t)INT64_MAX;
    cost.known = true;
    cost.saturated = over;
    cost.pico_usd = over ? INT64_MAX : (int64_t)quotient;
    return cost;
}

static llmgw_cost llmgwi_price_cost(const llmgwi_price_what *what, const llmgw_usage *usage) {
    llmgwi_price_rates rates;
    uint64_t sum[2] = {0, 0};
    llmgw_cost cost;
    memset(&cost, 0, sizeof cost);
    if (!usage->known || !llmgwi_price_find(what, usage, &rates)) return cost;
    int64_t cached = usage->cached < usage->input ? usage->cached : usage->input;
    int64_t written = usage->cache_write < usage->input - cached ? usage->cache_write : usage->input - cached;
    int64_t hour = usage->cache_write_1h < written ? usage->cache_write_1h : written;
    int64_t write_rate = rates.cache_write >= 0 ? rates.cache_write : rates.input;
    llmgwi_price_add(sum, usage->input - cached - written, rates.input);
    llmgwi_price_add(sum, cached, rates.cached >= 0 ? rates.cached : rates.input);
    llmgwi_price_add(sum, written - hour, write_rate);
    llmgwi_price_add(sum, hour, rates.cache_write_1h >= 0 ? rates.cache_write_1h : write_rate);
    llmgwi_price_add(sum, usage->output, rates.output);
    return llmgwi_price_round(sum);
}

/* Sum over attempts: unknown if one is. */
static void llmgwi_price_total(llmgw_cost *total, llmgw_cost more) {
    total->known = total->known && more.known;
    total->estimated = total->estimated || more.estimated;
    total->saturated = total->saturated || more.saturated || total->pico_usd > INT64_MAX - more.pico_usd;
    total->pico_usd = total->saturated ? INT64_MAX : total->pico_usd + more.pico_usd;
    if (!total->known) total->pico_usd = 0;
}

/* ------------------------------------------------------------------------------------------- */
/* >>health   purpose: what a failure means, how long to wait, who may go now.   uses: nothing   */
/*            guarantees: pure functions of state, time and random; no allocation, no lock; every */
/*            count is bounded. A state of zero bytes is a fresh one, where no init is named.     */
/* ------------------------------------------------------------------------------------------- */

/* Times are microseconds of a monotonic clock, greater than 0. The bounds keep sums and products of two
   of these numbers inside 64 bits. */
#define LLMGWI_HEALTH_COUNT_MAX ((int64_t)1 << 50)      /* of a slot; 61 slots: below 2^56 */
#define LLMGWI_HEALTH_TIME_MAX ((int64_t)1 << 60)       /* 36,000 years */
#define LLMGWI_HEALTH_DAY_US ((int64_t)86400 * 1000000) /* the longest that a breaker stays open */
#define LLMGWI_HEALTH_MINUTE_US ((int64_t)60 * 1000000)

static int64_t llmgwi_health_clip(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}

/* Moves the number of a ring's running slot on to `to`; returns how many slots of it begin anew. A step of
   one back is the clock of another thread; a larger one, another width of the slots: all begin anew. */
static int64_t llmgwi_health_tick(int64_t *at, int64_t to, int64_t slots) {
    int64_t steps = to - *at;
    if (steps == 0 || steps == -1) return 0;
    *at = to;
    return steps < 0 || steps > slots ? slots : steps;
}

/* ---- what a failure means ---- */

#define LLMGWI_HEALTH_OTHER 0x01u /* another target, now */
#define LLMGWI_HEALTH_SAME 0x02u  /* this target again, after a pause */
#define LLMGWI_HEALTH_BOTH 0x03u
#define LLMGWI_HEALTH_KEY 0x04u     /* another key of this target, now */
#define LLMGWI_HEALTH_BREAKER 0x08u /* counts against the breaker */
#define LLMGWI_HEALTH_DEAD 0x10u    /* the key is left alone for a while */
#define LLMGWI_HEALTH_SHRINK 0x20u  /* the provider is over its capacity: the concurrency limit falls */
#define LLMGWI_HEALTH_COSTS 0x40u   /* the provider may have charged */

typedef struct llmgwi_health_rule {
    llmgw_code code;
    const char *name;
    unsigned what;
} llmgwi_health_rule;

#define LLMGWI_HEALTH_FAILED (LLMGWI_HEALTH_BOTH | LLMGWI_HEALTH_BREAKER)

/* Codes that are not here end the call. */
static const llmgwi_health_rule llmgwi_health_rules[] = {
    {LLMGW_E_UNSUPPORTED, "caller's fault", LLMGWI_HEALTH_OTHER},
    {LLMGW_E_NO_KEY, "caller's fault", LLMGWI_HEALTH_OTHER},
    {LLMGW_E_BAD_REQUEST, "caller's fault", LLMGWI_HEALTH_OTHER},
    {LLMGW_E_NOT_FOUND, "caller's fault", LLMGWI_HEALTH_OTHER},
    {LLMGW_E_CONTEXT_LENGTH, "caller's fault", LLMGWI_HEALTH_OTHER},
    {LLMGW_E_TOO_LARGE, "caller's fault", LLMGWI_HEALTH_OTHER | LLMGWI_HEALTH_COSTS},
    {LLMGW_E_FILTERED, "filtered", LLMGWI_HEALTH_OTHER | LLMGWI_HEALTH_COSTS},
    {LLMGW_E_AUTH, "key dead", LLMGWI_HEALTH_KEY | LLMGWI_HEALTH_OTHER | LLMGWI_HEALTH_DEAD},
    {LLMGW_E_QUOTA, "quota gone", LLMGWI_HEALTH_KEY | LLMGWI_HEALTH_OTHER | LLMGWI_HEALTH_DEAD},
    {LLMGW_E_RATE_LIMITED, "rate limited", LLMGWI_HEALTH_KEY | LLMGWI_HEALTH_BOTH},
    {LLMGW_E_OVERLOADED, "overloaded", LLMGWI_HEALTH_FAILED | LLMGWI_HEALTH_SHRINK},
    {LLMGW_E_PROVIDER, "provider broken", LLMGWI_HEALTH_FAILED},
    {LLMGW_E_PROTOCOL, "protocol", LLMGWI_HEALTH_FAILED | LLMGWI_HEALTH_COSTS},
    {LLMGW_E_TRUNCATED, "truncated", LLMGWI_HEALTH_FAILED | LLMGWI_HEALTH_COSTS},
    {LLMGW_E_INVALID, "invalid", LLMGWI_HEALTH_BOTH | LLMGWI_HEALTH_COSTS},
    {LLMGW_E_NETWORK, "network", LLMGWI_HEALTH_FAILED},
    {LLMGW_E_TLS, "network", LLMGWI_HEALTH_OTHER | LLMGWI_HEALTH_BREAKER},
    {LLMGW_E_TIMEOUT_CONNECT, "network", LLMGWI_HEALTH_FAILED},
    {LLMGW_E_TIMEOUT_FIRST_TOKEN, "too slow",
     LLMGWI_HEALTH_FAILED | LLMGWI_HEALTH_SHRINK | LLMGWI_HEALTH_COSTS},
    {LLMGW_E_TIMEOUT_IDLE, "too slow", LLMGWI_HEALTH_FAILED | LLMGWI_HEALTH_COSTS},
};

static const llmgwi_health_rule *llmgwi_health_rule_of(llmgw_code code) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_health_rules); i++)
        if (llmgwi_health_rules[i].code == code) return &llmgwi_health_rules[i];
    return NULL;
}

/* A sum of the flags above; 0: the call ends. should_retry: what the provider said of it (x-should-retry):
   1, -1, or 0 for nothing. */
static unsigned llmgwi_health_what(llmgw_code code, int should_retry) {
    const llmgwi_health_rule *rule = llmgwi_health_rule_of(code);
    if (!rule) return 0;
    if (should_retry < 0) return rule->what & ~LLMGWI_HEALTH_SAME;
    return rule->what | (should_retry > 0 ? LLMGWI_HEALTH_SAME : 0);
}

/* For people. "": a code that ends the call. */
static const char *llmgwi_health_class(llmgw_code code) {
    const llmgwi_health_rule *rule = llmgwi_health_rule_of(code);
    return rule ? rule->name : "";
}

/* ---- pauses ---- */

/* Pause before the n-th repetition (from 1): full jitter (Brooker, "Exponential Backoff And Jitter",
   AWS 2015), uniform over 0 to min(max, base x 2^(n-1)). */
static int64_t llmgwi_health_pause(unsigned n, int64_t base_us, int64_t max_us, uint64_t random) {
    int64_t top = base_us;
    if (base_us <= 0 || max_us <= 0) return 0;
    while (n-- > 1 && top < max_us) top = top > max_us / 2 ? max_us : top * 2;
    if (top > max_us) top = max_us;
    return (int64_t)(random % ((uint64_t)top + 1));
}

/* ---- window: at most limit in any span ---- */

/* 60 whole slots and the running one: the oldest is dropped when all of it is older than the span, so the
   sum is never less than what the last span_us held, and more by at most what one slot held. */
#define LLMGWI_HEALTH_WINDOW_SLOTS 61

typedef struct llmgwi_health_window {
    int64_t limit; /* 0: none */
    int64_t span_us;
    int64_t used; /* sum of the slots */
    int64_t at;   /* number of the running slot: time / width */
    int64_t slots[LLMGWI_HEALTH_WINDOW_SLOTS];
} llmgwi_health_window;

static int64_t llmgwi_health_window_width(const llmgwi_health_window *w) {
    int64_t whole = LLMGWI_HEALTH_WINDOW_SLOTS - 1;
    return w->span_us > 0 ? (w->span_us + whole - 1) / whole : 1;
}

static void llmgwi_health_window_init(llmgwi_health_window *w, int64_t limit, int64_t span_us) {
    memset(w, 0, sizeof *w);
    w->limit = llmgwi_health_clip(limit, 0, LLMGWI_HEALTH_COUNT_MAX);
    w->span_us = llmgwi_health_clip(span_us, 1, LLMGWI_HEALTH_TIME_MAX);
}

static int64_t llmgwi_health_window_used(llmgwi_health_window *w, int64_t now) {
    int64_t to = now / llmgwi_health_window_width(w);
    int64_t begin = llmgwi_health_tick(&w->at, to, LLMGWI_HEALTH_WINDOW_SLOTS);
    for (; begin > 0; begin--) {
        int64_t *slot = &w->slots[(to - begin + 1 + LLMGWI_HEALTH_WINDOW_SLOTS) % LLMGWI_HEALTH_WINDOW_SLOTS];
        w->used -= *slot;
        *slot = 0;
    }
    return w->used;
}

/* Adds delta to a slot that take named, as far as it is still in the window and its count stays in
   0 to COUNT_MAX. */
static void llmgwi_health_window_settle(llmgwi_health_window *w, int64_t now, int64_t slot, int64_t delta) {
    (void)llmgwi_health_window_used(w, now);
    if (slot < 0 || slot > w->at || w->at - slot >= LLMGWI_HEALTH_WINDOW_SLOTS) return;
    int64_t *count = &w->slots[slot % LLMGWI_HEALTH_WINDOW_SLOTS];
    int64_t old = *count;
    *count += llmgwi_health_clip(delta, -old, LLMGWI_HEALTH_COUNT_MAX - old);
    w->used += *count - old;
}

/* Counts n, whether it fits or not; returns the slot it went to, for settle. */
static int64_t llmgwi_health_window_take(llmgwi_health_window *w, int64_t now, int64_t n) {
    (void)llmgwi_health_window_used(w, now);
    llmgwi_health_window_settle(w, now, w->at, n > 0 ? n : 0);
    return w->at;
}

/* The earliest time at which n more fit if nothing else is taken. n may exceed the limit (calls queue before
   this one): a further span for each whole limit that must pass before. */
static int64_t llmgwi_health_window_when(llmgwi_health_window *w, int64_t now, int64_t n) {
    if (w->limit <= 0 || n <= 0) return now;
    int64_t spans = llmgwi_health_clip((n - 1) / w->limit, 0, LLMGWI_HEALTH_TIME_MAX / w->span_us);
    int64_t room = w->limit - ((n - 1) % w->limit + 1), left = llmgwi_health_window_used(w, now),
            free_us = now;
    for (int64_t slot = w->at - LLMGWI_HEALTH_WINDOW_SLOTS + 1; left > room && slot <= w->at; slot++) {
        if (slot < 0) continue;
        left -= w->slots[slot % LLMGWI_HEALTH_WINDOW_SLOTS];
        free_us = (slot + LLMGWI_HEALTH_WINDOW_SLOTS) * llmgwi_health_window_width(w);
    }
    return free_us + spans * w->span_us;
}

/* ---- bucket: what the provider's limit headers say ---- */

/* x-ratelimit-* (OpenAI) and anthropic-ratelimit-* give limit, remaining, and the time until it is full
   again. Both are token buckets that refill continuously (platform.openai.com/docs/guides/rate-limits,
   docs.anthropic.com/en/api/rate-limits), so what is there now follows by a straight line. Headers may lie:
   nothing here holds a call back for more than WAIT_MAX, and after KNOWN nothing is left of them. */
#define LLMGWI_HEALTH_BUCKET_MAX ((int64_t)10000000000) /* tokens; times two WAIT_MAX it fits 64 bits */
#define LLMGWI_HEALTH_BUCKET_WAIT_MAX_US LLMGWI_HEALTH_MINUTE_US
#define LLMGWI_HEALTH_BUCKET_KNOWN_US (2 * LLMGWI_HEALTH_MINUTE_US)

typedef struct llmgwi_health_bucket {
    bool known;
    int64_t limit;      /* 0: not told, the bucket is a gate that opens gain_us after learned_us */
    int64_t level;      /* at at_us; below 0: more was taken than there was */
    int64_t at_us;      /* the refill is in level up to here */
    int64_t learned_us; /* when the header came */
    int64_t gain;       /* refill: gain in gain_us */
    int64_t gain_us;    /* 1 to WAIT_MAX */
} llmgwi_health_bucket;

/* True: it knows something of this moment, and the refill up to it is in level. */
static bool llmgwi_health_bucket_refill(llmgwi_health_bucket *b, int64_t now) {
    int64_t age = now - b->learned_us;
    b->known = b->known && age < (b->limit ? LLMGWI_HEALTH_BUCKET_KNOWN_US : b->gain_us);
    if (!b->known || !b->limit || now <= b->at_us) return b->known;
    int64_t past = llmgwi_health_clip(now - b->at_us, 0, LLMGWI_HEALTH_BUCKET_KNOWN_US);
    int64_t more = b->gain * past / b->gain_us;
    if (b->level + more >= b->limit) {
        b->level = b->limit;
        b->at_us = now;
    } else if (more > 0) { /* at_us moves by the time of whole units, so that no fraction is lost */
        b->level += more;
        b->at_us += (more * b->gain_us + b->gain - 1) / b->gain;
    }
    return true;
}

/* A reply's headers: the limit (0 or less: not told), what remained, and the time until it is full again.
   taken_since: what was taken after that request began, as if none of it were in remaining yet. A negative
   remaining or reset_us is no header at all. */
static void llmgwi_health_bucket_learn(llmgwi_health_bucket *b, int64_t now, int64_t limit, int64_t remaining,
                                       int64_t reset_us, int64_t taken_since) {
    if (remaining < 0 || reset_us < 0) return;
    b->known = true;
    b->limit = llmgwi_health_clip(limit, 0, LLMGWI_HEALTH_BUCKET_MAX);
    remaining = llmgwi_health_clip(remaining, 0, b->limit ? b->limit : LLMGWI_HEALTH_BUCKET_MAX);
    b->level = remaining - llmgwi_health_clip(taken_since, 0, LLMGWI_HEALTH_BUCKET_MAX);
    b->at_us = b->learned_us = now;
    b->gain = b->limit - remaining;
    b->gain_us = llmgwi_health_clip(reset_us, 1, LLMGWI_HEALTH_BUCKET_WAIT_MAX_US);
    if (b->limit && !b->gain) { /* full, which tells no rate: limits are per minute */
        b->gain = b->limit;
        b->gain_us = LLMGWI_HEALTH_MINUTE_US;
    }
}

static void llmgwi_health_bucket_take(llmgwi_health_bucket *b, int64_t now, int64_t n) {
    if (!llmgwi_health_bucket_refill(b, now)) return;
    b->level -= llmgwi_health_clip(n, 0, LLMGWI_HEALTH_BUCKET_MAX);
    if (b->level < -LLMGWI_HEALTH_BUCKET_MAX) b->level = -LLMGWI_HEALTH_BUCKET_MAX;
}

/* Of what was taken, n were not used. */
static void llmgwi_health_bucket_give(llmgwi_health_bucket *b, int64_t n) {
    b->level += llmgwi_health_clip(n, 0, LLMGWI_HEALTH_BUCKET_MAX);
    if (b->level > (b->limit ? b->limit : LLMGWI_HEALTH_BUCKET_MAX))
        b->level = b->limit ? b->limit : LLMGWI_HEALTH_BUCKET_MAX;
}

/* The earliest time at which n are there; n above the limit counts as the limit. Never later than WAIT_MAX
   from now. */
static int64_t llmgwi_health_bucket_when(llmgwi_health_bucket *b, int64_t now, int64_t n) {
    if (!llmgwi_health_bucket_refill(b, now)) return now;
    n = llmgwi_health_clip(n, 0, b->limit ? b->limit : LLMGWI_HEALTH_BUCKET_MAX);
    if (b->level >= n) return now;
    int64_t forgotten = b->learned_us + LLMGWI_HEALTH_BUCKET_KNOWN_US;
    int64_t when = b->limit ? b->at_us + ((n - b->level) * b->gain_us + b->gain - 1) / b->gain
                            : b->learned_us + b->gain_us;
    if (when > forgotten) when = forgotten;
    return llmgwi_health_clip(when, now, now + LLMGWI_HEALTH_BUCKET_WAIT_MAX_US);
}

/* ---- breaker: a target that fails is left alone (Nygard, "Release It!", 2007) ---- */

#define LLMGWI_HEALTH_BREAKER_SLOTS 10 /* of window_us */
#define LLMGWI_HEALTH_BREAKER_PROBES 2 /* good ones in a row that close it */
#define LLMGWI_HEALTH_BREAKER_CALM                                                                           \
    10 /* closed for so many open_us: the next opening is as short as the first */
#define LLMGWI_HEALTH_BREAKER_ROW 1000000 /* failures in a row are counted up to here */

typedef struct llmgwi_health_breaker_rules {
    int failures;           /* in a row, 0 or less: this rule is off */
    int percent, min_calls; /* failed, of at least so many in window_us; percent 0 or less: off */
    int64_t window_us;
    int64_t open_us, open_max_us; /* the first time, the longest; at most a day */
} llmgwi_health_breaker_rules;

typedef struct llmgwi_health_breaker {
    llmgw_breaker state;
    int64_t open_until_us;
    int64_t open_for_us; /* the last opening's length, 0: none yet */
    int64_t failed_us;   /* last failure, 0: none */
    int64_t closed_us;   /* since when it is closed again */
    int64_t probe_us;    /* when the probe in flight began */
    int64_t stale_us;    /* a probe older than this is forgotten: 2 x open_max_us */
    int64_t at;          /* number of the running slot */
    int row;             /* failures in a row */
    int good;            /* good probes in a row */
    bool probing;        /* a probe is in flight */
    uint32_t calls[LLMGWI_HEALTH_BREAKER_SLOTS];
    uint32_t failed[LLMGWI_HEALTH_BREAKER_SLOTS];
} llmgwi_health_breaker;

/* May an attempt begin? An OPEN one whose time is over becomes HALF_OPEN here. */
static bool llmgwi_health_breaker_allows(llmgwi_health_breaker *b, int64_t now) {
    if (b->state == LLMGW_BREAKER_CLOSED) return true;
    if (b->state == LLMGW_BREAKER_OPEN) {
        if (now < b->open_until_us) return false;
        b->state = LLMGW_BREAKER_HALF_OPEN;
        b->probing = false;
        b->good = 0;
    }
    if (b->probing && now - b->probe_us > b->stale_us) b->probing = false;
    return !b->probing;
}

/* An attempt begins, allowed or not. True: it is the probe; say so to result. */
static bool llmgwi_health_breaker_begin(llmgwi_health_breaker *b, int64_t now) {
    if (!llmgwi_health_breaker_allows(b, now) || b->state != LLMGW_BREAKER_HALF_OPEN) return false;
    b->probing = true;
    b->probe_us = now;
    return true;
}

static void llmgwi_health_breaker_open(llmgwi_health_breaker *b, const llmgwi_health_breaker_rules *rules,
                                       int64_t now, int64_t open_for_us) {
    int64_t longest = llmgwi_health_clip(rules->open_max_us, 0, LLMGWI_HEALTH_DAY_US);
    b->state = LLMGW_BREAKER_OPEN;
    b->open_for_us = llmgwi_health_clip(open_for_us, 0, longest);
    b->open_until_us = now + b->open_for_us;
    b->stale_us = 2 * longest;
    b->probing = false;
}

static void llmgwi_health_breaker_close(llmgwi_health_breaker *b, int64_t now) {
    b->state = LLMGW_BREAKER_CLOSED;
    b->closed_us = now;
    b->row = 0;
    memset(b->calls, 0, sizeof b->calls);
    memset(b->failed, 0, sizeof b->failed);
}

static void llmgwi_health_breaker_count(llmgwi_health_breaker *b, const llmgwi_health_breaker_rules *rules,
                                        int64_t now, bool failed) {
    int64_t width = rules->window_us / LLMGWI_HEALTH_BREAKER_SLOTS;
    int64_t begin = llmgwi_health_tick(&b->at, now / (width > 0 ? width : 1), LLMGWI_HEALTH_BREAKER_SLOTS);
    size_t slot = (size_t)(b->at % LLMGWI_HEALTH_BREAKER_SLOTS);
    for (size_t i = slot; begin > 0; begin--) {
        b->calls[i] = b->failed[i] = 0;
        i = (i + LLMGWI_HEALTH_BREAKER_SLOTS - 1) % LLMGWI_HEALTH_BREAKER_SLOTS;
    }
    if (b->calls[slot] < UINT32_MAX) {
        b->calls[slot]++;
        b->failed[slot] += failed;
    }
    b->row = !failed ? 0 : b->row < LLMGWI_HEALTH_BREAKER_ROW ? b->row + 1 : b->row;
}

static bool llmgwi_health_breaker_is_over(const llmgwi_health_breaker *b,
                                          const llmgwi_health_breaker_rules *rules) {
    int64_t calls = 0, failed = 0;
    if (rules->failures > 0 && b->row >= rules->failures) return true;
    for (size_t i = 0; i < LLMGWI_HEALTH_BREAKER_SLOTS; i++) {
        calls += b->calls[i];
        failed += b->failed[i];
    }
    int64_t percent = llmgwi_health_clip(rules->percent, 0, 1000); /* times 10 x 2^32 it fits 64 bits */
    return percent && calls >= rules->min_calls && failed * 100 >= percent * calls;
}

static void llmgwi_health_breaker_while_closed(llmgwi_health_breaker *b,
                                               const llmgwi_health_breaker_rules *rules, int64_t now,
                                               bool failed) {
    int64_t first = llmgwi_health_clip(rules->open_us, 0, LLMGWI_HEALTH_DAY_US);
    llmgwi_health_breaker_count(b, rules, now, failed);
    if (!failed || !llmgwi_health_breaker_is_over(b, rules)) return; /* a good result never opens it */
    bool calm = !b->open_for_us || now - b->closed_us >= LLMGWI_HEALTH_BREAKER_CALM * first;
    llmgwi_health_breaker_open(b, rules, now, calm ? first : b->open_for_us);
}

static void llmgwi_health_breaker_after_probe(llmgwi_health_breaker *b,
                                              const llmgwi_health_breaker_rules *rules, int64_t now,
                                              bool failed) {
    int64_t first = llmgwi_health_clip(rules->open_us, 0, LLMGWI_HEALTH_DAY_US);
    if (failed)
        llmgwi_health_breaker_open(b, rules, now, b->open_for_us > first / 2 ? 2 * b->open_for_us : first);
    else if (++b->good >= LLMGWI_HEALTH_BREAKER_PROBES)
        llmgwi_health_breaker_close(b, now);
}

/* How an attempt ended. probe: what begin said. ok: 1 good, 0 failed, -1 neither (cancelled, or not the
   target's fault). What began before it opened neither closes it nor keeps it open. */
static void llmgwi_health_breaker_result(llmgwi_health_breaker *b, const llmgwi_health_breaker_rules *rules,
                                         int64_t now, bool probe, int ok) {
    bool mine = probe && b->state == LLMGW_BREAKER_HALF_OPEN;
    if (mine) b->probing = false;
    if (ok < 0) return;
    if (!ok) b->failed_us = now;
    if (b->state == LLMGW_BREAKER_CLOSED)
        llmgwi_health_breaker_while_closed(b, rules, now, !ok);
    else if (mine)
        llmgwi_health_breaker_after_probe(b, rules, now, !ok);
}

/* An OPEN one stays so until then at least (Retry-After); never shorter than it would have. */
static void llmgwi_health_breaker_extend(llmgwi_health_breaker *b, int64_t until_us) {
    if (b->state == LLMGW_BREAKER_OPEN && until_us > b->open_until_us) b->open_until_us = until_us;
}

/* Saved: version, state, failures in a row, and six times relative to now, each as 64 bits, least
   significant byte first. Not saved: the window, and probes in flight. */
#define LLMGWI_HEALTH_BREAKER_VERSION 1
#define LLMGWI_HEALTH_BREAKER_WORDS 6
#define LLMGWI_HEALTH_BREAKER_BYTES (2 + 8 * LLMGWI_HEALTH_BREAKER_WORDS)
#define LLMGWI_HEALTH_BREAKER_AGO_MAX_US (30 * LLMGWI_HEALTH_DAY_US)

/* Returns LLMGWI_HEALTH_BREAKER_BYTES. */
LLMGWI_BASE_UNUSED static size_t llmgwi_health_breaker_save(const llmgwi_health_breaker *b, int64_t now,
                                                            unsigned char *bytes) {
    bool shut = b->state != LLMGW_BREAKER_CLOSED; /* HALF_OPEN: as OPEN whose time is over */
    int64_t words[LLMGWI_HEALTH_BREAKER_WORDS];
    words[0] = b->state == LLMGW_BREAKER_OPEN && b->open_until_us > now ? b->open_until_us - now : 0;
    words[1] = b->open_for_us;
    words[2] = b->stale_us;
    words[3] = now - b->closed_us;
    words[4] = b->failed_us ? now - b->failed_us : -1;
    words[5] = b->row;
    bytes[0] = LLMGWI_HEALTH_BREAKER_VERSION;
    bytes[1] = (unsigned char)(shut ? LLMGW_BREAKER_OPEN : LLMGW_BREAKER_CLOSED);
    for (size_t i = 0; i < 8 * LLMGWI_HEALTH_BREAKER_WORDS; i++)
        bytes[2 + i] = (unsigned char)((uint64_t)words[i / 8] >> (i % 8 * 8) & 255);
    return LLMGWI_HEALTH_BREAKER_BYTES;
}

/* now: when it was saved, on the present clock: the present time less how long ago that is (it may be below
   0). False: these are no such bytes, and b is as it was. Values out of range are clipped. */
LLMGWI_BASE_UNUSED static bool llmgwi_health_breaker_load(llmgwi_health_breaker *b, int64_t now,
                                                          const unsigned char *bytes, size_t n) {
    static const int64_t most[LLMGWI_HEALTH_BREAKER_WORDS] = {
        LLMGWI_HEALTH_DAY_US,
        LLMGWI_HEALTH_DAY_US,
        2 * LLMGWI_HEALTH_DAY_US,
        LLMGWI_HEALTH_BREAKER_AGO_MAX_US,
        LLMGWI_HEALTH_BREAKER_AGO_MAX_US,
        LLMGWI_HEALTH_BREAKER_ROW,
    };
    uint64_t words[LLMGWI_HEALTH_BREAKER_WORDS];
    int64_t in[LLMGWI_HEALTH_BREAKER_WORDS];
    if (n != LLMGWI_HEALTH_BREAKER_BYTES || bytes[0] != LLMGWI_HEALTH_BREAKER_VERSION) return false;
    if (bytes[1] != LLMGW_BREAKER_CLOSED && bytes[1] != LLMGW_BREAKER_OPEN) return false;
    memset(words, 0, sizeof words);
    for (size_t i = 0; i < 8 * LLMGWI_HEALTH_BREAKER_WORDS; i++)
        words[i / 8] |= (uint64_t)bytes[2 + i] << (i % 8 * 8);
    bool has_failed = words[4] >> 63 == 0;
    for (size_t i = 0; i < LLMGWI_HEALTH_BREAKER_WORDS; i++) /* too large and negative: the most */
        in[i] = words[i] < (uint64_t)most[i] ? (int64_t)words[i] : most[i];
    memset(b, 0, sizeof *b);
    b->state = bytes[1] == LLMGW_BREAKER_OPEN ? LLMGW_BREAKER_OPEN : LLMGW_BREAKER_CLOSED;
    b->open_until_us = b->state == LLMGW_BREAKER_OPEN ? now + in[0] : 0;
    b->open_for_us = in[1];
    b->stale_us = in[2] > LLMGWI_HEALTH_MINUTE_US ? in[2] : LLMGWI_HEALTH_MINUTE_US; /* 0: all at once */
    b->closed_us = now - in[3];
    if (has_failed) b->failed_us = now - in[4] ? now - in[4] : -1;
    b->row = (int)in[5];
    return true;
}

/* ---- adaptive concurrency: additive increase, multiplicative decrease ---- */

/* Chiu and Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance", 1989; cut and
   growth condition as in Netflix's concurrency-limits, AIMDLimit. */
#define LLMGWI_HEALTH_AIMD_SLOTS 7 /* of 10 s: the largest in flight of the last 60 to 70 s */
#define LLMGWI_HEALTH_AIMD_SLOT_US 10000000

typedef struct llmgwi_health_aimd {
    double limit;   /* 0: none */
    int64_t cut_us; /* when it was cut last, 0: never */
    int64_t at;     /* number of the running slot */
    int64_t peaks[LLMGWI_HEALTH_AIMD_SLOTS];
} llmgwi_health_aimd;

/* Attempts in flight at the same time. INT64_MAX: no limit. */
static int64_t llmgwi_health_aimd_limit(const llmgwi_health_aimd *a) {
    return a->limit > 0 ? (int64_t)a->limit : INT64_MAX;
}

/* Notes how many are in flight; returns the most of the last minute. */
static int64_t llmgwi_health_aimd_peak(llmgwi_health_aimd *a, int64_t now, int64_t in_flight) {
    int64_t begin = llmgwi_health_tick(&a->at, now / LLMGWI_HEALTH_AIMD_SLOT_US, LLMGWI_HEALTH_AIMD_SLOTS);
    int64_t slot = a->at % LLMGWI_HEALTH_AIMD_SLOTS, most = 0;
    for (int64_t i = slot; begin > 0; begin--) {
        a->peaks[i] = 0;
        i = (i + LLMGWI_HEALTH_AIMD_SLOTS - 1) % LLMGWI_HEALTH_AIMD_SLOTS;
    }
    if (in_flight > a->peaks[slot]) a->peaks[slot] = in_flight;
    for (size_t i = 0; i < LLMGWI_HEALTH_AIMD_SLOTS; i++)
        if (a->peaks[i] > most) most = a->peaks[i];
    return most;
}

/* An attempt succeeded; in_flight counts it. A limit that is more than twice what is ever in flight limits
   nothing, and is forgotten. */
static void llmgwi_health_aimd_good(llmgwi_health_aimd *a, int64_t now, int64_t in_flight) {
    in_flight = llmgwi_health_clip(in_flight, 1, LLMGWI_HEALTH_COUNT_MAX);
    int64_t most = llmgwi_health_aimd_peak(a, now, in_flight);
    if (a->limit <= 0) return;
    if ((double)in_flight >= a->limit / 2) a->limit += 1 / a->limit;
    if (a->limit > 2 * (double)most) a->limit = 0;
}

/* An attempt that began at began_us met an overloaded provider; in_flight counts it. Of all the attempts that
   one overload fails, the first cuts. */
static void llmgwi_health_aimd_overload(llmgwi_health_aimd *a, int64_t now, int64_t began_us,
                                        int64_t in_flight) {
    in_flight = llmgwi_health_clip(in_flight, 1, LLMGWI_HEALTH_COUNT_MAX);
    (void)llmgwi_health_aimd_peak(a, now, in_flight);
    if (a->cut_us && began_us <= a->cut_us) return;
    double were = (double)in_flight;
    if (a->limit > 0 && were > a->limit) were = a->limit; /* else a cut could raise it */
    a->limit = were * 0.9 > 1 ? were * 0.9 : 1;
    a->cut_us = now;
}

/* ---- budget of repetitions ---- */

/* Finagle's RetryBudget: each call deposits a share of a repetition, each repetition takes one, and a minimum
   a second is always there. So repetitions are bounded by a share of the calls, whatever fails. The same with
   other numbers holds for hedges. */
#define LLMGWI_HEALTH_BUDGET_START 10
#define LLMGWI_HEALTH_BUDGET_CAP 100
#define LLMGWI_HEALTH_BUDGET_PER_S 1
#define LLMGWI_HEALTH_BUDGET_ONE 1000000 /* so that one a second is one unit a microsecond */
#define LLMGWI_HEALTH_BUDGET_MOST 1000000

typedef struct llmgwi_health_budget {
    int64_t balance, cap; /* in millionths of a repetition */
    int64_t per_s;
    int64_t at_us; /* the refill is in balance up to here, 0: it has not begun */
} llmgwi_health_budget;

/* start: at once; cap: the most that is saved up; per_s: refill in whole repetitions a second. */
static void llmgwi_health_budget_init(llmgwi_health_budget *b, int64_t start, int64_t cap, int64_t per_s) {
    cap = llmgwi_health_clip(cap, 0, LLMGWI_HEALTH_BUDGET_MOST);
    b->cap = cap * LLMGWI_HEALTH_BUDGET_ONE;
    b->balance = llmgwi_health_clip(start, 0, cap) * LLMGWI_HEALTH_BUDGET_ONE;
    b->per_s = llmgwi_health_clip(per_s, 0, LLMGWI_HEALTH_BUDGET_MOST);
    b->at_us = 0;
}

/* A call was accepted. */
static void llmgwi_health_budget_call(llmgwi_health_budget *b, int percent) {
    int64_t share = llmgwi_health_clip(percent, 0, 10000) * (LLMGWI_HEALTH_BUDGET_ONE / 100);
    b->balance = llmgwi_health_clip(b->balance + share, 0, b->cap);
}

/* May one repetition be made? True: it is taken. percent below 0: there is no budget. */
static bool llmgwi_health_budget_take(llmgwi_health_budget *b, int64_t now, int percent) {
    if (percent < 0) return true;
    int64_t past =
        b->at_us ? llmgwi_health_clip(now - b->at_us, 0, b->cap) : 0; /* at 1 a second, cap fills it */
    if (!b->at_us || now > b->at_us) b->at_us = now;
    b->balance = llmgwi_health_clip(b->balance + past * b->per_s, 0, b->cap);
    if (b->balance < LLMGWI_HEALTH_BUDGET_ONE) return false;
    b->balance -= LLMGWI_HEALTH_BUDGET_ONE;
    return true;
}

/* ---- histogram of latencies ---- */

/* Buckets are a quarter of an octave wide, so a quantile is at most 19 % above the truth. */
#define LLMGWI_HEALTH_HISTOGRAM_BUCKETS 96 /* the last one's bound: 58 minutes; longer ones are in it too */
#define LLMGWI_HEALTH_HISTOGRAM_FIRST_US 250
#define LLMGWI_HEALTH_HISTOGRAM_FEW 20    /* below this no quantile means anything */
#define LLMGWI_HEALTH_HISTOGRAM_MANY 2000 /* above it all counts are halved: old ones fade */

typedef struct llmgwi_health_histogram {
    uint32_t total;
    uint32_t counts[LLMGWI_HEALTH_HISTOGRAM_BUCKETS];
} llmgwi_health_histogram;

/* Upper bound of a bucket: 250 us x 2^(i/4). */
static int64_t llmgwi_health_histogram_bound(int i) {
    static const int64_t quarter[4] = {65536, 77936, 92682, 110218}; /* 65536 x 2^(0, 1/4, 1/2, 3/4) */
    return (LLMGWI_HEALTH_HISTOGRAM_FIRST_US * quarter[i % 4] << i / 4) / 65536;
}

static void llmgwi_health_histogram_record(llmgwi_health_histogram *h, int64_t us) {
    int low = 0, high = LLMGWI_HEALTH_HISTOGRAM_BUCKETS - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (us <= llmgwi_health_histogram_bound(middle))
            high = middle;
        else
            low = middle + 1;
    }
    h->counts[low]++;
    if (++h->total <= LLMGWI_HEALTH_HISTOGRAM_MANY) return;
    h->total = 0;
    for (size_t i = 0; i < LLMGWI_HEALTH_HISTOGRAM_BUCKETS; i++) {
        h->counts[i] /= 2;
        h->total += h->counts[i];
    }
}

/* How many are in it, faded ones not counted. */
static int64_t llmgwi_health_histogram_count(const llmgwi_health_histogram *h) { return h->total; }

/* The bound of the bucket below which the share q (0 to 1) of all lies, in us. 0: too few were recorded. */
static int64_t llmgwi_health_histogram_quantile(const llmgwi_health_histogram *h, double q) {
    if (llmgwi_health_histogram_count(h) < LLMGWI_HEALTH_HISTOGRAM_FEW) return 0;
    double rank = (q > 1 ? 1 : q > 0 ? q : 0) * (double)h->total;
    uint64_t below = h->counts[0];
    int i = 0;
    while (i < LLMGWI_HEALTH_HISTOGRAM_BUCKETS - 1 && (!below || (double)below < rank))
        below += h->counts[++i];
    return llmgwi_health_histogram_bound(i);
}

/* ---- peak EWMA: what a target costs in time ---- */

/* As Finagle's PeakEwma: the average follows a rise at once and a fall slowly; what is in flight multiplies
   it, and a target that was never measured gets one attempt and no more until that is back. */
#define LLMGWI_HEALTH_EWMA_TAU_US 10000000.0
#define LLMGWI_HEALTH_EWMA_PENALTY_US 1e14 /* three years: above every real cost */

typedef struct llmgwi_health_ewma {
    double value; /* us, at at_us; below 1: not known, or so long ago that it is not */
    int64_t at_us;
} llmgwi_health_ewma;

/* e^(-us / tau), without libm: 2^-n times the Pade approximant [3/3] of e^-g, 0 <= g < ln 2. Its relative
   error is below g^7 / 100,800 < 8e-7. */
static double llmgwi_health_ewma_decay(int64_t us) {
    double x = us > 0 ? (double)us / LLMGWI_HEALTH_EWMA_TAU_US : 0;
    double octaves = x * 1.4426950408889634; /* 1 / ln 2 */
    if (octaves > 60) return 0;
    int n = (int)octaves;
    double g = (octaves - n) * 0.6931471805599453, even = 120 + 12 * g * g, odd = (60 + g * g) * g;
    return (even - odd) / (even + odd) / (double)((int64_t)1 << n);
}

static void llmgwi_health_ewma_add(llmgwi_health_ewma *e, int64_t now, int64_t us) {
    double seen = (double)llmgwi_health_clip(us, 1, LLMGWI_HEALTH_DAY_US);
    double keep = llmgwi_health_ewma_decay(now - e->at_us);
    e->value = seen > e->value ? seen : e->value * keep + seen * (1 - keep);
    if (now > e->at_us) e->at_us = now;
}

/* The less, the better. 0: never measured and nothing in flight, so it is tried first. */
static double llmgwi_health_ewma_cost(const llmgwi_health_ewma *e, int64_t now, int64_t in_flight) {
    double value = e->value * llmgwi_health_ewma_decay(now - e->at_us);
    double others = in_flight > 0 ? (double)in_flight : 0;
    if (value < 1) return others > 0 ? LLMGWI_HEALTH_EWMA_PENALTY_US + others : 0;
    return value * (others + 1);
}

/* ------------------------------------------------------------------------------------------- */
/* >>route   purpose: a call's targets, in which order they are tried and how often.             */
/*           uses: health   guarantees: pure functions of state and random                       */
/* ------------------------------------------------------------------------------------------- */

#define LLMGWI_ROUTE_TARGETS 64

/* A call's way through its targets, which it knows by number. */
typedef struct llmgwi_route_plan {
    unsigned char order[LLMGWI_ROUTE_TARGETS]; /* order[0] is tried first */
    unsigned char tries[LLMGWI_ROUTE_TARGETS];
    bool dead[LLMGWI_ROUTE_TARGETS];             /* this call does not try it again */
    unsigned short passed[LLMGWI_ROUTE_TARGETS]; /* the code it was last passed over with, for the trace */
    size_t count;
    unsigned rounds; /* repetitions so far, for the backoff */
    bool waited;     /* the pause before the next attempt is over */
} llmgwi_route_plan;

/* As they stand. */
static void llmgwi_route_in_order(llmgwi_route_plan *plan, size_t count) {
    plan->count = count;
    for (size_t i = 0; i < count; i++) plan->order[i] = (unsigned char)i;
}

static void llmgwi_route_to_front(llmgwi_route_plan *plan, size_t from, size_t to) {
    unsigned char moved = plan->order[from];
    memmove(plan->order + to + 1, plan->order + to, from - to);
    plan->order[to] = moved;
}

/* The next number in [0, 1). */
static double llmgwi_route_uniform(uint64_t *state) {
    *state += LLMGWI_BASE_STEP;
    return (double)(llmgwi_base_mix(*state) >> 11) / 9007199254740992.0;
}

/* Draws without putting back, each with its weight's share of what is left. weights NULL: all alike. */
static void llmgwi_route_draw(llmgwi_route_plan *plan, const double *weights, uint64_t random) {
    for (size_t done = 0; done + 1 < plan->count; done++) {
        double left = 0;
        for (size_t i = done; i < plan->count; i++) left += weights ? weights[plan->order[i]] : 1;
        double at = llmgwi_route_uniform(&random) * left;
        size_t i = done;
        for (; i + 1 < plan->count; i++) {
            at -= weights ? weights[plan->order[i]] : 1;
            if (at < 0) break;
        }
        llmgwi_route_to_front(plan, i, done);
    }
}

/* The cheapest first; equal ones stay as they stand. */
static void llmgwi_route_by_cost(llmgwi_route_plan *plan, const double *costs, size_t from) {
    for (size_t i = from + 1; i < plan->count; i++) {
        size_t to = i;
        while (to > from && costs[plan->order[to - 1]] > costs[plan->order[i]]) to--;
        llmgwi_route_to_front(plan, i, to);
    }
}

/* The better of two drawn at random, then the others by cost: calls that look at the same moment do not all
   run to the same target (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001). */
static void llmgwi_route_two_choices(llmgwi_route_plan *plan, const double *costs, uint64_t random) {
    llmgwi_route_draw(plan, NULL, random);
    if (plan->count > 1 && costs[plan->order[1]] < costs[plan->order[0]]) llmgwi_route_to_front(plan, 1, 0);
    llmgwi_route_by_cost(plan, costs, 1);
}

/* Notes a failure of target i; what: LLMGWI_HEALTH_... */
static void llmgwi_route_failed(llmgwi_route_plan *plan, size_t i, unsigned what) {
    if (!(what & LLMGWI_HEALTH_SAME)) plan->dead[i] = true;
    if (!(what & (LLMGWI_HEALTH_SAME | LLMGWI_HEALTH_OTHER)))
        for (size_t j = 0; j < plan->count; j++) plan->dead[j] = true;
}

/* The next target: the first in order of those tried least. SIZE_MAX: none is left. */
static size_t llmgwi_route_next(const llmgwi_route_plan *plan) {
    size_t best = SIZE_MAX;
    for (size_t o = 0; o < plan->count; o++) {
        size_t i = plan->order[o];
        if (!plan->dead[i] && (best == SIZE_MAX || plan->tries[i] < plan->tries[best])) best = i;
    }
    return best;
}

/* ------------------------------------------------------------------------------------------- */
/* >>http   purpose: the only libcurl.   uses: nothing   guarantees: certificates verified; no    */
/*          redirect; one request per start (libcurl's own resend is refused); a keyed request    */
/*          over plain http reaches loopback only; every call here returns in bounded time, also   */
/*          when a resolver never answers                                                        */
/* ------------------------------------------------------------------------------------------- */
#include <curl/curl.h>

#if LIBCURL_VERSION_NUM < 0x075700
#error "llmgw.h: libcurl 7.87 or later is needed (CURLOPT_QUICK_EXIT, CURLOPT_PREREQFUNCTION)"
#endif

/* Answers of the body function. */
#define LLMGWI_HTTP_GO 0
#define LLMGWI_HTTP_PAUSE 1 /* the bytes are given again after resume */
#define LLMGWI_HTTP_STOP 2

typedef struct llmgwi_http_result {
    llmgw_code code;     /* of the transfer, not of the status */
    int status, version; /* 0: no reply */
    char text[200];
} llmgwi_http_result;

/* Upcalls, on the thread that polls. done may start transfers (libcurl refuses it inside the others); none
   may cancel one. */
typedef struct llmgwi_http_events {
    bool (*sent)(void *user); /* connected; the request is written next, if this says true */
    void (*header)(void *user, llmgwi_base_str name, llmgwi_base_str value);
    int (*body)(void *user, int status, const char *p, size_t n);
    void (*done)(void *user, const llmgwi_http_result *result); /* the transfer is gone */
} llmgwi_http_events;

typedef struct llmgwi_http_request {
    const char *url;
    const void *headers; /* as made by headers_make */
    const char *body;
    size_t body_len;
    bool stream;   /* no compression */
    bool tls;      /* url is https */
    bool keyed;    /* headers hold a secret */
    bool loopback; /* no proxy */
    const llmgwi_http_events *events;
    void *user;
} llmgwi_http_request;

/* The seam: a test replaces this table. self is the implementation's own. */
typedef struct llmgwi_http {
    void *self;
    bool (*room)(void *self); /* fewer than max_connections are in use */
    void *(*start)(void *self, const llmgwi_http_request *request); /* a transfer; NULL: out of memory */
    void (*cancel)(void *self, void *transfer); /* no upcall follows; not inside an upcall */
    void (*resume)(void *self, void *transfer);
    int64_t (*next_us)(void *self);           /* when poll must run by the clock; NEVER */
    void (*poll)(void *self, int timeout_ms); /* upcalls happen in here */
    void (*wake)(void *self);                 /* makes poll return; any thread */
    int (*fd)(void *self);
    void (*arm)(void *self, int64_t at_us);                       /* the fd becomes readable then */
    void (*notice)(void *self, bool on);                          /* the fd is readable while on */
    bool (*warm)(void *self, const llmgwi_http_request *request); /* a connection for the next start to that
                           host and port; true: on its way; false: no room. No upcall; only url, tls, keyed
                           and loopback of the request count */
    void *(*headers_make)(void *self, const char *const *lines, size_t count);
    void (*headers_free)(void *self, void *headers);
    void (*close)(void *self, bool forked);
} llmgwi_http;

/* ---- libcurl ---- */

/* FLOORS.md: a request's cost grows with the connections its multi handle holds to the host (18 us with
   none, 46 with 1,000, 575 with 10,000), so transfers are spread over several. */
#define LLMGWI_HTTP_SHARD 128
#define LLMGWI_HTTP_POOL 64                  /* idle easy handles kept */
#define LLMGWI_HTTP_HEADER_BYTES (256 << 10) /* of one reply */
#define LLMGWI_HTTP_LINGER_US 10000000       /* an empty shard keeps its connections this long */
#define LLMGWI_HTTP_WARM 16                  /* warm transfers at once */
#define LLMGWI_HTTP_WARM_MS 10000L           /* from name to reply */

struct llmgwi_http_curl;

typedef struct llmgwi_http_shard {
    struct llmgwi_http_curl *http;
    CURLM *multi; /* NULL: not in use */
    uint32_t index;
    int active, warming; /* transfers; how many of them are warm */
    int64_t timer_us;
    int64_t empty_us; /* since when active is 0 */
} llmgwi_http_shard;

typedef struct llmgwi_http_transfer {
    struct llmgwi_http_curl *http;
    CURL *easy;
    llmgwi_http_shard *shard;
    const llmgwi_http_events *events;
    void *user;
    struct llmgwi_http_transfer *next; /* in the pool */
    size_t header_bytes;
    uint64_t origin; /* a warm transfer: where it goes; 0: a call's */
    int sends;
    bool loopback_only, in_body, refused, insecure;
    char error[CURL_ERROR_SIZE];
} llmgwi_http_transfer;

typedef struct llmgwi_http_curl {
    const llmgwi_base_mem *mem;
    const char *ca_file; /* borrowed from config */
    llmgwi_base_poller poller;
    CURLSH *share; /* names and TLS sessions */
    llmgwi_http_shard **shards;
    size_t shard_count, shard_cap, free_hint; /* no shard below free_hint has room */
    llmgwi_http_transfer *pool;
    int pooled, active, max_active, keep_shards;
    unsigned upcalls; /* body and done, counted */
    llmgwi_http_transfer *warm[LLMGWI_HTTP_WARM];
    int warming; /* of active */
} llmgwi_http_curl;

static int64_t llmgwi_http_now(void) { return llmgwi_base_now_us(NULL); }

/* Tells the poller what libcurl wants to know of a socket. */
static int llmgwi_http_on_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *socket_user) {
    llmgwi_http_shard *shard = (llmgwi_http_shard *)user;
    (void)easy, (void)socket_user;
    if (what == CURL_POLL_REMOVE) {
        llmgwi_base_poller_rest(&shard->http->poller, (int)fd);
        return 0;
    }
    unsigned mask =
        (what & CURL_POLL_IN ? LLMGWI_BASE_READ : 0u) | (what & CURL_POLL_OUT ? LLMGWI_BASE_WRITE : 0u);
    if (!llmgwi_base_poller_set(&shard->http->poller, (int)fd, shard->index, mask))
        shard->timer_us = llmgwi_http_now() + 10000; /* then libcurl looks by its clock */
    return 0;
}

static int llmgwi_http_on_timer(CURLM *multi, long timeout_ms, void *user) {
    (void)multi;
    ((llmgwi_http_shard *)user)->timer_us =
        timeout_ms < 0 ? LLMGWI_BASE_NEVER : llmgwi_http_now() + (int64_t)timeout_ms * 1000;
    return 0;
}

static curl_socket_t llmgwi_http_on_open(void *user, curlsocktype purpose, struct curl_sockaddr *address) {
    (void)purpose;
    return llmgwi_base_poller_socket(&((llmgwi_http_curl *)user)->poller, address->family, address->socktype,
                                     address->protocol);
}

static int llmgwi_http_on_close(void *user, curl_socket_t fd) {
    return llmgwi_base_poller_forget(&((llmgwi_http_curl *)user)->poller, (int)fd);
}

/* Just before a request is written. The second time it would be libcurl's own resend on a fresh
   connection, after a kept one died: refused, our retry loop is the only one. A warm transfer is no
   attempt, and a fresh connection is what it is for. */
static int llmgwi_http_on_request(void *user, char *primary_ip, char *local_ip, int primary_port,
                                  int local_port) {
    llmgwi_http_transfer *transfer = (llmgwi_http_transfer *)user;
    (void)local_ip, (void)primary_port, (void)local_port;
    if (transfer->sends++ > 0 && !transfer->origin) {
        transfer->refused = true;
        return CURL_PREREQFUNC_ABORT;
    }
    if (transfer->loopback_only && strncmp(primary_ip, "127.", 4) != 0 && strcmp(primary_ip, "::1") != 0) {
        transfer->insecure = true;
        return CURL_PREREQFUNC_ABORT;
    }
    return transfer->events->sent(transfer->user) ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
}

static size_t llmgwi_http_on_header(char *p, size_t size, size_t count, void *user) {
    llmgwi_http_transfer *transfer = (llmgwi_http_transfer *)user;
    size_t n = size * count;
    transfer->header_bytes += n;
    if (transfer->header_bytes > LLMGWI_HTTP_HEADER_BYTES) return 0;
    const char *colon = (const char *)memchr(p, ':', n);
    if (transfer->in_body || !colon || (n >= 5 && memcmp(p, "HTTP/", 5) == 0))
        return n; /* trailers, status line */
    size_t name = (size_t)(colon - p);
    transfer->events->header(transfer->user, llmgwi_base_view(p, name),
                             llmgwi_base_trim(llmgwi_base_view(colon + 1, n - name - 1)));
    return n;
}

static size_t llmgwi_http_on_body(char *p, size_t size, size_t count, void *user) {
    llmgwi_http_transfer *transfer = (llmgwi_http_transfer *)user;
    long status = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    transfer->in_body = true;
    transfer->http->upcalls++;
    int answer = transfer->events->body(transfer->user, (int)status, p, size * count);
    if (answer == LLMGWI_HTTP_GO) return size * count;
    return answer == LLMGWI_HTTP_PAUSE ? (size_t)CURL_WRITEFUNC_PAUSE : 0;
}

/* What never changes over the life of an easy handle. */
static bool llmgwi_http_prepare(llmgwi_http_curl *http, llmgwi_http_transfer *transfer) {
    CURL *easy = transfer->easy;
    bool ok = curl_easy_setopt(easy, CURLOPT_PRIVATE, (void *)transfer) == CURLE_OK;
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);                   /* never wait for a resolver thread */
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)INT_MAX); /* the engine's clock decides */
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, llmgwi_http_on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, (void *)transfer);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, llmgwi_http_on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, (void *)transfer);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, llmgwi_http_on_request);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, (void *)transfer);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, llmgwi_http_on_open);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, (void *)http);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, llmgwi_http_on_close);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, (void *)http);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error);
    curl_easy_setopt(easy, CURLOPT_SHARE, http->share);
    if (http->ca_file) ok = ok && curl_easy_setopt(easy, CURLOPT_CAINFO, http->ca_file) == CURLE_OK;
    return ok;
}

static void llmgwi_http_transfer_free(llmgwi_http_curl *http, llmgwi_http_transfer *transfer) {
    if (transfer->easy) curl_easy_cleanup(transfer->easy);
    llmgwi_base_free(http->mem, transfer, sizeof *transfer);
}

static llmgwi_http_transfer *llmgwi_http_transfer_new(llmgwi_http_curl *http) {
    llmgwi_http_transfer *transfer = (llmgwi_http_transfer *)llmgwi_base_zalloc(http->mem, sizeof *transfer);
    if (!transfer) return NULL;
    transfer->http = http;
    transfer->easy = curl_easy_init();
    if (transfer->easy && llmgwi_http_prepare(http, transfer)) return transfer;
    llmgwi_http_transfer_free(http, transfer);
    return NULL;
}

static llmgwi_http_transfer *llmgwi_http_transfer_get(llmgwi_http_curl *http) {
    llmgwi_http_transfer *transfer = http->pool;
    if (!transfer) return llmgwi_http_transfer_new(http);
    http->pool = transfer->next;
    http->pooled--;
    return transfer;
}

/* Back to the pool, without the last request's headers and body. A warm one's HEAD stays out of it. */
static void llmgwi_http_transfer_put(llmgwi_http_curl *http, llmgwi_http_transfer *transfer) {
    if (http->pooled >= LLMGWI_HTTP_POOL || transfer->origin) {
        llmgwi_http_transfer_free(http, transfer);
        return;
    }
    curl_easy_setopt(transfer->easy, CURLOPT_FORBID_REUSE, 0L);
    curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, NULL);
    curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDS, NULL);
    transfer->next = http->pool;
    http->pool = transfer;
    http->pooled++;
}

static bool llmgwi_http_shard_open(llmgwi_http_shard *shard) {
    shard->multi = curl_multi_init();
    if (!shard->multi) return false;
    shard->timer_us = LLMGWI_BASE_NEVER;
    curl_multi_setopt(shard->multi, CURLMOPT_SOCKETFUNCTION, llmgwi_http_on_socket);
    curl_multi_setopt(shard->multi, CURLMOPT_SOCKETDATA, (void *)shard);
    curl_multi_setopt(shard->multi, CURLMOPT_TIMERFUNCTION, llmgwi_http_on_timer);
    curl_multi_setopt(shard->multi, CURLMOPT_TIMERDATA, (void *)shard);
    curl_multi_setopt(shard->multi, CURLMOPT_MAXCONNECTS,
                      (long)LLMGWI_HTTP_SHARD); /* below the concurrency it costs 3x */
    return true;
}

/* The first shard with room: low ones stay in use, high ones empty. A warm transfer takes no place, so that
   the start it is for finds the same shard. */
static llmgwi_http_shard *llmgwi_http_shard_pick(llmgwi_http_curl *http) {
    size_t i = http->free_hint;
    while (i < http->shard_count && http->shards[i]->active - http->shards[i]->warming >= LLMGWI_HTTP_SHARD)
        i++;
    http->free_hint = i;
    if (i == http->shard_count) {
        llmgwi_http_shard **shards = (llmgwi_http_shard **)llmgwi_base_grow(
            http->mem, http->shards, &http->shard_cap, i, (size_t)http->max_active / LLMGWI_HTTP_SHARD + 1,
            sizeof *shards);
        llmgwi_http_shard *shard =
            shards ? (llmgwi_http_shard *)llmgwi_base_zalloc(http->mem, sizeof *shard) : NULL;
        if (shards) http->shards = shards;
        if (!shard) return NULL;
        shard->http = http;
        shard->index = (uint32_t)i;
        shards[http->shard_count++] = shard;
    }
    llmgwi_http_shard *shard = http->shards[i];
    return shard->multi || llmgwi_http_shard_open(shard) ? shard : NULL;
}

/* A warm transfer gives way to a call. */
static bool llmgwi_http_room(void *self) {
    const llmgwi_http_curl *http = (const llmgwi_http_curl *)self;
    return http->active - http->warming < http->max_active;
}

/* Takes a transfer out of its shard. */
static void llmgwi_http_detach(llmgwi_http_transfer *transfer) {
    llmgwi_http_curl *http = transfer->http;
    llmgwi_http_shard *shard = transfer->shard;
    curl_multi_remove_handle(shard->multi, transfer->easy);
    if (transfer->origin) {
        int at = 0;
        while (http->warm[at] != transfer) at++;
        http->warm[at] = http->warm[--http->warming];
        shard->warming--;
    }
    http->active--;
    if (--shard->active == 0) shard->empty_us = llmgwi_http_now();
    if (shard->index < http->free_hint) http->free_hint = shard->index;
    llmgwi_http_transfer_put(http, transfer);
}

/* An HTTP/2 stream that is left gets its reset from libcurl 7.88 only with the next request, and the
   provider goes on generating meanwhile: close the connection, if no other stream is on it. */
static void llmgwi_http_drop(llmgwi_http_transfer *transfer) {
    curl_easy_setopt(transfer->easy, CURLOPT_FORBID_REUSE, 1L);
}

static void llmgwi_http_cancel(void *self, void *transfer) {
    (void)self;
    llmgwi_http_drop((llmgwi_http_transfer *)transfer);
    llmgwi_http_detach((llmgwi_http_transfer *)transfer);
}

/* What a start and the warm transfer before it must have alike, or libcurl takes another connection. */
static bool llmgwi_http_aim(llmgwi_http_transfer *transfer, llmgwi_http_shard *shard,
                            const llmgwi_http_request *request) {
    CURL *easy = transfer->easy;
    transfer->shard = shard;
    transfer->header_bytes = 0;
    transfer->sends = 0;
    transfer->loopback_only = request->keyed && !request->tls;
    transfer->in_body = transfer->refused = transfer->insecure = false;
    transfer->error[0] = 0;
    /* h2 without TLS fails on every reuse in 7.88 (curl issue 10634) */
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                     request->tls ? (long)CURL_HTTP_VERSION_2TLS : (long)CURL_HTTP_VERSION_1_1);
    return curl_easy_setopt(easy, CURLOPT_URL, request->url) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_NOPROXY, request->loopback ? "*" : NULL) ==
               CURLE_OK; /* a proxy would see the key */
}

static bool llmgwi_http_add(llmgwi_http_transfer *transfer) {
    if (curl_multi_add_handle(transfer->shard->multi, transfer->easy) != CURLM_OK) return false;
    transfer->shard->active++;
    transfer->http->active++;
    return true;
}

static void *llmgwi_http_start(void *self, const llmgwi_http_request *request) {
    llmgwi_http_curl *http = (llmgwi_http_curl *)self;
    if (http->active >= http->max_active && http->warming)
        llmgwi_http_cancel(http, http->warm[http->warming - 1]);
    llmgwi_http_shard *shard = llmgwi_http_shard_pick(http);
    llmgwi_http_transfer *transfer = shard ? llmgwi_http_transfer_get(http) : NULL;
    if (!transfer) return NULL;
    CURL *easy = transfer->easy;
    transfer->events = request->events;
    transfer->user = request->user;
    bool ok = llmgwi_http_aim(transfer, shard, request);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_len);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, (struct curl_slist *)(uintptr_t)request->headers);
    curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, request->stream ? NULL : "");
    if (ok && llmgwi_http_add(transfer)) return transfer;
    llmgwi_http_transfer_put(http, transfer);
    return NULL;
}

static void llmgwi_http_resume(void *self, void *transfer) {
    (void)self;
    curl_easy_pause(((llmgwi_http_transfer *)transfer)->easy, CURLPAUSE_CONT);
}

/* ---- connections opened ahead ---- */

static bool llmgwi_http_mute_sent(void *user) {
    (void)user;
    return true;
}
static void llmgwi_http_mute_header(void *user, llmgwi_base_str name, llmgwi_base_str value) {
    (void)user, (void)name, (void)value;
}
static int llmgwi_http_mute_body(void *user, int status, const char *p, size_t n) {
    (void)user, (void)status, (void)p, (void)n;
    return LLMGWI_HTTP_STOP; /* there is none to a HEAD */
}
static const llmgwi_http_events llmgwi_http_mute = {llmgwi_http_mute_sent, llmgwi_http_mute_header,
                                                    llmgwi_http_mute_body, NULL};

/* Host and port of a url as one number; 0: they cannot be told. */
static uint64_t llmgwi_http_origin(const char *url, bool tls) {
    char text[272]; /* a name of 253 bytes, a colon, a port */
    const char *host = strstr(url, "://");
    size_t n = host ? strcspn(host + 3, "/?#") : 0;
    if (n == 0 || n + sizeof ":443" > sizeof text) return 0;
    for (size_t i = 0; i < n; i++) text[i] = llmgwi_base_lower(host[3 + i]);
    text[n] = 0;
    const char *bracket = strchr(text, ']'); /* before it the colons are an address's */
    if (!strchr(bracket ? bracket : text, ':')) memcpy(text + n, tls ? ":443" : ":80\0", sizeof ":443");
    uint64_t origin = XXH3_64bits(text, strlen(text));
    return origin ? origin : 1;
}

/* Opens a connection and leaves it in the pool of the shard that the next start takes. It must be a real
   request: libcurl shares no CURLOPT_CONNECT_ONLY connection (its manual says so), and closes one whose
   CURLOPT_PREREQFUNCTION aborts. */
static bool llmgwi_http_warm(void *self, const llmgwi_http_request *request) {
    llmgwi_http_curl *http = (llmgwi_http_curl *)self;
    uint64_t origin = llmgwi_http_origin(request->url, request->tls);
    if (!origin) return false;
    for (int i = 0; i < http->warming; i++)
        if (http->warm[i]->origin == origin) return true;
    if (http->warming == LLMGWI_HTTP_WARM || http->active >= http->max_active) return false;
    llmgwi_http_shard *shard = llmgwi_http_shard_pick(http);
    llmgwi_http_transfer *transfer = shard ? llmgwi_http_transfer_new(http) : NULL;
    if (!transfer) return false;
    transfer->origin = origin;
    transfer->events = &llmgwi_http_mute;
    bool ok = llmgwi_http_aim(transfer, shard, request);
    curl_easy_setopt(transfer->easy, CURLOPT_NOBODY, 1L);
    curl_easy_setopt(transfer->easy, CURLOPT_TIMEOUT_MS, LLMGWI_HTTP_WARM_MS);
    curl_easy_setopt(transfer->easy, CURLOPT_USERAGENT, "llmgw.h/" LLMGW_VERSION);
    if (!ok || !llmgwi_http_add(transfer)) {
        llmgwi_http_transfer_free(http, transfer);
        return false;
    }
    shard->warming++;
    http->warm[http->warming++] = transfer;
    return true;
}

/* ---- what becomes of transfers ---- */

typedef struct llmgwi_http_row {
    CURLcode curl;
    llmgw_code code;
} llmgwi_http_row;

/* What is not here is E_NETWORK. */
static const llmgwi_http_row llmgwi_http_rows[] = {
    {CURLE_OK, LLMGW_OK},
    {CURLE_PARTIAL_FILE, LLMGW_E_TRUNCATED},
    {CURLE_OUT_OF_MEMORY, LLMGW_E_MEMORY},
    {CURLE_URL_MALFORMAT, LLMGW_E_CONFIG},
    {CURLE_WEIRD_SERVER_REPLY, LLMGW_E_PROTOCOL},
    {CURLE_UNSUPPORTED_PROTOCOL, LLMGW_E_PROTOCOL},
    {CURLE_BAD_CONTENT_ENCODING, LLMGW_E_PROTOCOL},
    {CURLE_WRITE_ERROR, LLMGW_E_PROTOCOL},
    {CURLE_SSL_CONNECT_ERROR, LLMGW_E_TLS},
    {CURLE_PEER_FAILED_VERIFICATION, LLMGW_E_TLS},
    {CURLE_SSL_CERTPROBLEM, LLMGW_E_TLS},
    {CURLE_SSL_CIPHER, LLMGW_E_TLS},
    {CURLE_SSL_CACERT_BADFILE, LLMGW_E_TLS},
    {CURLE_SSL_ISSUER_ERROR, LLMGW_E_TLS},
    {CURLE_SSL_INVALIDCERTSTATUS, LLMGW_E_TLS},
};

static void llmgwi_http_explain(const llmgwi_http_transfer *transfer, CURLcode curl,
                                llmgwi_http_result *result) {
    const char *text = transfer->error[0] ? transfer->error : curl_easy_strerror(curl);
    result->code = LLMGW_E_NETWORK;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_http_rows); i++)
        if (llmgwi_http_rows[i].curl == curl) result->code = llmgwi_http_rows[i].code;
    if (result->code == LLMGW_E_NETWORK && result->status) result->code = LLMGW_E_TRUNCATED;
    if (curl == CURLE_OUT_OF_MEMORY && transfer->header_bytes && !transfer->in_body) {
        result->code = LLMGW_E_PROTOCOL; /* libcurl's cap of 100 KB a line, reported so until 8.6 */
        text = "a header line of the reply is too long";
    } else if (transfer->refused) {
        result->code = LLMGW_E_NETWORK;
        text = "the kept connection died before the reply began; not sent a second time";
    } else if (transfer->insecure) {
        result->code = LLMGW_E_INSECURE;
        text = "the host is not loopback: a key would travel over plain http";
    } else if (transfer->header_bytes > LLMGWI_HTTP_HEADER_BYTES) {
        text = "the reply's headers are larger than 256 KiB";
    }
    llmgwi_base_copy_cut(result->text, sizeof result->text, text, strlen(text));
    llmgwi_base_printable(result->text);
}

static void llmgwi_http_finish(llmgwi_http_transfer *transfer, CURLcode curl) {
    llmgwi_http_result result;
    const llmgwi_http_events *events = transfer->events;
    void *user = transfer->user;
    long status = 0, version = 0;
    if (curl != CURLE_OK) llmgwi_http_drop(transfer);
    if (transfer->origin) {
        llmgwi_http_detach(transfer);
        return;
    }
    memset(&result, 0, sizeof result);
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(transfer->easy, CURLINFO_HTTP_VERSION, &version);
    result.status = (int)status;
    if (status)
        result.version = version == CURL_HTTP_VERSION_2_0   ? 20
                         : version == CURL_HTTP_VERSION_1_0 ? 10
                         : version == CURL_HTTP_VERSION_3   ? 30
                                                            : 11;
    llmgwi_http_explain(transfer, curl, &result);
    transfer->http->upcalls++;
    llmgwi_http_detach(transfer);
    events->done(user, &result);
}

/* Lets libcurl act on a socket or on time, and hands on what is finished. */
static void llmgwi_http_act(llmgwi_http_shard *shard, curl_socket_t fd, int mask) {
    int running, left;
    CURLMsg *message;
    curl_multi_socket_action(shard->multi, fd, mask, &running);
    while ((message = curl_multi_info_read(shard->multi, &left)) != NULL) {
        char *transfer = NULL;
        CURLcode curl = message->data.result;
        if (message->msg != CURLMSG_DONE) continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
        llmgwi_http_finish((llmgwi_http_transfer *)(void *)transfer, curl);
    }
}

static int64_t llmgwi_http_next_us(void *self) {
    llmgwi_http_curl *http = (llmgwi_http_curl *)self;
    int64_t next = LLMGWI_BASE_NEVER;
    for (size_t i = 0; i < http->shard_count; i++)
        if (http->shards[i]->multi && http->shards[i]->timer_us < next) next = http->shards[i]->timer_us;
    return next;
}

static void llmgwi_http_timers(llmgwi_http_curl *http) {
    int64_t now = llmgwi_http_now();
    for (size_t i = 0; i < http->shard_count; i++) {
        llmgwi_http_shard *shard = http->shards[i];
        if (!shard->multi) continue;
        if (shard->timer_us <= now) {
            shard->timer_us = LLMGWI_BASE_NEVER;
            llmgwi_http_act(shard, CURL_SOCKET_TIMEOUT, 0);
        } else if ((int)i >= http->keep_shards && !shard->active &&
                   now - shard->empty_us > LLMGWI_HTTP_LINGER_US) {
            curl_multi_cleanup(shard->multi);
            shard->multi = NULL;
        }
    }
}

static void llmgwi_http_poll(void *self, int timeout_ms) {
    llmgwi_http_curl *http = (llmgwi_http_curl *)self;
    llmgwi_base_ready ready[LLMGWI_BASE_POLL_BATCH];
    unsigned before = http->upcalls;
    llmgwi_http_timers(http);                    /* a new transfer begins by its timer */
    if (http->upcalls != before) timeout_ms = 0; /* there is news */
    int64_t next = llmgwi_http_next_us(self);
    if (next != LLMGWI_BASE_NEVER) {
        int64_t wait = (next - llmgwi_http_now() + 999) / 1000;
        if (wait < 0) wait = 0;
        if (timeout_ms < 0 || wait < timeout_ms) timeout_ms = (int)wait;
    }
    int n = llmgwi_base_poller_wait(&http->poller, timeout_ms, ready, LLMGWI_BASE_POLL_BATCH);
    for (int i = 0; i < n; i++) {
        llmgwi_http_shard *shard = http->shards[ready[i].tag];
        int mask = (ready[i].mask & LLMGWI_BASE_READ ? CURL_CSELECT_IN : 0) |
                   (ready[i].mask & LLMGWI_BASE_WRITE ? CURL_CSELECT_OUT : 0);
        if (shard->multi) llmgwi_http_act(shard, ready[i].fd, mask);
    }
    llmgwi_http_timers(http);
}

static void llmgwi_http_wake(void *self) { llmgwi_base_poller_wake(&((llmgwi_http_curl *)self)->poller); }
static int llmgwi_http_fd(void *self) {
    return llmgwi_base_poller_outer(&((llmgwi_http_curl *)self)->poller);
}
static void llmgwi_http_arm(void *self, int64_t at_us) {
    llmgwi_base_poller_arm(&((llmgwi_http_curl *)self)->poller, at_us);
}
static void llmgwi_http_notice(void *self, bool on) {
    llmgwi_base_poller_notice(&((llmgwi_http_curl *)self)->poller, on);
}

/* A list in libcurl's form over the caller's lines, which must outlive it: so that a key has no copy. */
static void *llmgwi_http_headers_make(void *self, const char *const *lines, size_t count) {
    llmgwi_http_curl *http = (llmgwi_http_curl *)self;
    struct curl_slist *list = (struct curl_slist *)llmgwi_base_zalloc(http->mem, (count + 1) * sizeof *list);
    for (size_t i = 0; list && i < count; i++) {
        list[i].data = (char *)(uintptr_t)lines[i];
        list[i].next = i + 1 < count ? &list[i + 1] : NULL;
    }
    return list;
}

static void llmgwi_http_headers_free(void *self, void *headers) {
    struct curl_slist *list = (struct curl_slist *)headers;
    size_t count = 1;
    for (struct curl_slist *at = list; at && at->data; at = at->next) count++;
    llmgwi_base_free(((llmgwi_http_curl *)self)->mem, headers, count * sizeof *list);
}

/* In a forked child libcurl's state belongs to the parent: its sockets may not be shut down here, so
   that memory is left, as everything a process leaves at its end. */
static void llmgwi_http_close(void *self, bool forked) {
    llmgwi_http_curl *http = (llmgwi_http_curl *)self;
    const llmgwi_base_mem *mem = http->mem;
    while (!forked && http->warming) llmgwi_http_cancel(http, http->warm[0]);
    while (!forked && http->pool) {
        llmgwi_http_transfer *transfer = http->pool;
        http->pool = transfer->next;
        llmgwi_http_transfer_free(http, transfer);
    }
    for (size_t i = 0; i < http->shard_count; i++) {
        if (!forked && http->shards[i]->multi) curl_multi_cleanup(http->shards[i]->multi);
        llmgwi_base_free(mem, http->shards[i], sizeof *http->shards[i]);
    }
    if (!forked && http->share) curl_share_cleanup(http->share);
    llmgwi_base_free(mem, http->shards, http->shard_cap * sizeof *http->shards);
    llmgwi_base_poller_close(&http->poller);
    llmgwi_base_free(mem, http, sizeof *http);
}

static void llmgwi_http_init_once(void) { (void)curl_global_init(CURL_GLOBAL_DEFAULT); } /* never undone */

static bool llmgwi_http_open(llmgwi_http *out, const llmgwi_base_mem *mem, const char *ca_file,
                             int max_active, int max_idle) {
    static llmgwi_base_once once = LLMGWI_BASE_ONCE;
    static const llmgwi_http table = {NULL,
                                      llmgwi_http_room,
                                      llmgwi_http_start,
                                      llmgwi_http_cancel,
                                      llmgwi_http_resume,
                                      llmgwi_http_next_us,
                                      llmgwi_http_poll,
                                      llmgwi_http_wake,
                                      llmgwi_http_fd,
                                      llmgwi_http_arm,
                                      llmgwi_http_notice,
                                      llmgwi_http_warm,
                                      llmgwi_http_headers_make,
                                      llmgwi_http_headers_free,
                                      llmgwi_http_close};
    llmgwi_base_once_run(&once, llmgwi_http_init_once);
    llmgwi_http_curl *http = (llmgwi_http_curl *)llmgwi_base_zalloc(mem, sizeof *http);
    if (!http) return false;
    http->mem = mem;
    http->ca_file = ca_file;
    http->max_active = max_active;
    http->keep_shards = (max_idle + LLMGWI_HTTP_SHARD - 1) / LLMGWI_HTTP_SHARD;
    if (!llmgwi_base_poller_open(&http->poller, mem)) {
        llmgwi_base_free(mem, http, sizeof *http);
        return false;
    }
    *out = table;
    out->self = http;
    http->share = curl_share_init();
    if (http->share) {
        curl_share_setopt(http->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
        curl_share_setopt(http->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
        return true;
    }
    out->self = NULL;
    llmgwi_http_close(http, false);
    return false;
}

/* ------------------------------------------------------------------------------------------- */
/* >>engine   purpose: calls and attempts, deadlines, events; who drives and who waits.          */
/*            uses: text, json, frame, dialect, schema, config, price, health, route, http       */
/*            guarantees: laws 1 to 5 and 10; one thread at a time drives; callbacks run without a */
/*            lock; END always has room, its reply is allocated when the call is accepted        */
/* ------------------------------------------------------------------------------------------- */

#define LLMGWI_ENGINE_ERROR_BYTES (64 << 10) /* of an error reply's body that are read */
#define LLMGWI_ENGINE_CLOSING_US 200000      /* wait for the transfer's end after the last event */
#define LLMGWI_ENGINE_KEEP_QUEUE (16 << 10)  /* a larger queue is freed when it is empty */
#define LLMGWI_ENGINE_MAX_TRACE 512
#define LLMGWI_ENGINE_MINUTE_US ((int64_t)60000000)
#define LLMGWI_ENGINE_TOKENS_MAX ((int64_t)1 << 32) /* of one request; times max_waiting it fits 64 bits */
#define LLMGWI_ENGINE_AWAY_US 100000 /* nobody drove for so long: read before anything is found late */
#define LLMGWI_ENGINE_SLOW_US ((int64_t)5000000)        /* no first token that comes earlier is slow */
#define LLMGWI_ENGINE_SLOW_WHOLE_US ((int64_t)30000000) /* no whole reply */
#define LLMGWI_ENGINE_RATE_US 30000000                  /* a stream's speed is taken over this time */
#define LLMGWI_ENGINE_KEY_DEAD_MAX_US ((int64_t)3600000000)

/* ---- states: X(name, may go to, deadline) ---- */

typedef enum llmgwi_engine_state {
    LLMGWI_ENGINE_QUEUED = 0, /* accepted, not yet seen by the driver */
    LLMGWI_ENGINE_WAITING,    /* for backoff, Retry-After, a limit or a free connection */
    LLMGWI_ENGINE_RUNNING,    /* at least one attempt is in flight */
    LLMGWI_ENGINE_ENDED,
    /* of an attempt */
    LLMGWI_ENGINE_CONNECTING,
    LLMGWI_ENGINE_SENT,      /* its request is being written, or the answer awaited */
    LLMGWI_ENGINE_ANSWERING, /* the answer has begun */
    LLMGWI_ENGINE_CLOSING,   /* the answer is whole, the transfer is not */
    LLMGWI_ENGINE_OVER
} llmgwi_engine_state;

#define LLMGWI_ENGINE_BIT(state) (1u << LLMGWI_ENGINE_##state)

/* ---- replies ---- */

typedef struct llmgwi_engine_reply {
    llmgw_reply pub;     /* first: the caller's pointer is ours */
    uint32_t refs;       /* 0: static, never freed */
    llmgwi_base_mem mem; /* its own: a reply may outlive the gateway */
    llmgwi_base_arena arena;
    llmgwi_dialect_answer answer; /* the text stays in these buffers */
    llmgw_trace *trace;
    size_t trace_count, trace_cap;
} llmgwi_engine_reply;

static llmgwi_engine_reply *llmgwi_engine_reply_new(const llmgwi_base_mem *mem) {
    llmgwi_engine_reply *reply = (llmgwi_engine_reply *)llmgwi_base_zalloc(mem, sizeof *reply);
    if (!reply) return NULL;
    reply->refs = 1;
    reply->mem = *mem;
    llmgwi_base_arena_init(&reply->arena, &reply->mem);
    reply->pub.text = reply->pub.reasoning = "";
    reply->pub.id = reply->pub.provider = reply->pub.model = reply->pub.model_echo = "";
    reply->pub.message.role = LLMGW_ROLE_ASSISTANT;
    return reply;
}

static void llmgwi_engine_reply_drop(llmgwi_engine_reply *reply) {
    if (!reply || !reply->refs || LLMGWI_BASE_ADD(&reply->refs, (uint32_t)-1) != 0) return;
    llmgwi_base_mem mem = reply->mem;
    llmgwi_dialect_answer_free(&reply->answer);
    llmgwi_base_arena_free(&reply->arena);
    llmgwi_base_free(&mem, reply->trace, reply->trace_cap * sizeof *reply->trace);
    llmgwi_base_free(&mem, reply, sizeof *reply);
}

/* ---- timers ---- */

typedef struct llmgwi_engine_timer {
    int64_t at_us;
    size_t heap_at; /* place in the heap, SIZE_MAX: none */
    void (*fire)(void *owner, int64_t now);
    void *owner;
} llmgwi_engine_timer;

/* ---- what is known of providers: shared by all calls ---- */

struct llmgwi_engine_call;

/* Calls that wait for the same targets, by priority, each first come first served. */
typedef struct llmgwi_engine_line {
    llmgw *gw;
    struct llmgwi_engine_call *head[3], *tail[3]; /* interactive, normal, batch */
    int64_t counts[3], tokens[3];                 /* reserved by them */
    size_t count;
    llmgwi_engine_timer timer; /* when the first of them may go by the clock */
    int64_t left_us;           /* when a call last left it with others behind; 0: not yet */
    int64_t interval_us;       /* between two that leave, smoothed; 0: not known */
    bool active;
    struct llmgwi_engine_line *next; /* among the active ones */
} llmgwi_engine_line;

/* Limits of a key (over all models) or of a model (over all keys); 0: none. */
typedef struct llmgwi_engine_limits {
    llmgwi_health_window rpm, tpm, rpd;
    int64_t concurrency, in_flight;
    bool counted;   /* some window has a limit */
    bool warned[4]; /* by llmgw_limit_kind: headroom was reported and has not come back */
} llmgwi_engine_limits;

/* A refused or used-up key is left alone. */
typedef struct llmgwi_engine_dead {
    int64_t until_us, for_us;
    llmgw_code code;
} llmgwi_engine_dead;

/* A provider's key. */
typedef struct llmgwi_engine_account {
    llmgwi_engine_limits limits;
    llmgwi_engine_dead dead;
} llmgwi_engine_account;

/* Target and key. */
typedef struct llmgwi_engine_lane {
    int64_t not_before_us; /* Retry-After */
    int64_t started, in_flight;
    llmgwi_health_bucket requests, tokens; /* as its headers tell */
    llmgwi_engine_dead dead;               /* the key may not use this model */
} llmgwi_engine_lane;

/* Provider and model. */
typedef struct llmgwi_engine_target {
    const llmgwi_config_provider *provider;
    char *model;
    llmgwi_health_breaker breaker;
    llmgwi_health_aimd aimd;
    llmgwi_health_ewma ewma;
    llmgwi_health_histogram latency[2]; /* whole replies; until the first token of streams */
    int64_t in_flight, attempts, failures;
    llmgwi_engine_limits *limits;      /* NULL: none */
    llmgwi_engine_lane *lanes;         /* one for each key */
    llmgwi_engine_line line;           /* of calls for it alone */
    struct llmgwi_engine_target *next; /* in its hash chain */
} llmgwi_engine_target;

/* A route's own memory. */
typedef struct llmgwi_engine_route {
    llmgwi_engine_target *targets[LLMGWI_ROUTE_TARGETS];
    llmgwi_health_histogram latency[2]; /* of first attempts: whole replies, streams */
    llmgwi_health_budget hedges;
    llmgwi_engine_line line;
} llmgwi_engine_route;

/* ---- calls and attempts ---- */

struct llmgwi_engine_waiter;

/* What was counted when an attempt began, to be settled when it ends. */
typedef struct llmgwi_engine_taken {
    int64_t tokens;         /* reserved */
    int64_t key_slots[3];   /* rpm, tpm, rpd of the key's windows */
    int64_t model_slots[3]; /* of the model's */
    int64_t lane_started;   /* the lane's count of attempts, this one included */
    bool open, probe;
} llmgwi_engine_taken;

typedef struct llmgwi_engine_attempt {
    llmgw *gw;
    struct llmgwi_engine_call *call;    /* NULL: given up, its transfer is still to be stopped */
    struct llmgwi_engine_attempt *next; /* of the call, or of those given up */
    uint32_t epoch;
    llmgwi_engine_state state;
    llmgwi_engine_timer timer;
    size_t target, key;
    llmgwi_engine_lane *lane; /* of these two */
    llmgwi_engine_target *at; /* the first */
    bool lingers;             /* it was given up inside an upcall: its place is not free yet */
    size_t trace_at;          /* its item in the trace */
    void *transfer;           /* NULL: none is open */
    llmgwi_dialect_target wire;
    llmgwi_base_buf body, url;
    llmgwi_base_buf raw; /* a reply that is no stream, or an error's body */
    llmgwi_frame frame;
    llmgwi_dialect_meta meta;
    llmgwi_dialect_answer answer;
    llmgw_error stop; /* why it must end, as found in an upcall */
    llmgwi_engine_taken taken;
    llmgwi_base_buf held;            /* events that are not shown yet */
    size_t held_bytes;               /* of text in them */
    llmgwi_text_sentences sentences; /* whole_sentences */
    size_t text_at;                  /* bytes of the answer's text that are in events */
    size_t kept;                     /* the answer began with so many bytes of an earlier one */
    int64_t began_us, last_us;       /* bytes came */
    int64_t limit_us;                /* the longest stay in its state ends */
    int64_t release_us;              /* the held events are shown then; NEVER */
    int64_t rate_us;                 /* its speed is looked at then; NEVER */
    int64_t slow_us;   /* its target counts as slow if nothing of the answer is here by then; NEVER */
    size_t rate_bytes; /* that had come by the last look */
    int64_t tokens_in; /* estimate */
    bool shown;        /* its events go to the caller: it is the winner */
    bool ripe;         /* hold_ms is over: it waits for its first text only */
    bool seen_text;    /* text or a tool is among the held events */
    bool seam;         /* resumed, and what it repeats of the kept text is not known yet */
    bool prefill;      /* resumed by the dialect's own means */
    bool echoes;       /* and the reply repeats all of the kept text first */
    bool exact;        /* or it repeats nothing of it */
    bool hedge, paused, framed;
    bool judged; /* its target's breaker knows already that it is slow */
} llmgwi_engine_attempt;

typedef struct llmgwi_engine_call {
    llmgw *gw;
    llmgw_call id;
    const llmgw_request *request;
    llmgwi_base_arena arena; /* the request's copy */
    bool blocking, events;
    llmgwi_engine_state state;
    int64_t accepted_us, deadline_us;
    llmgwi_engine_timer timer;
    int64_t connect_us, first_token_us, idle_us, closing_us; /* NEVER: none */
    int max_attempts, max_resumes;
    int put_off; /* how often the retry budget said no */
    unsigned valid;
    const llmgwi_config_target *targets; /* the route's, or &own_target: a call does not move */
    llmgwi_config_target own_target;
    const llmgwi_config_route *route; /* NULL: a single target */
    llmgwi_engine_route *own_route;
    llmgwi_engine_target *const *states; /* of the targets */
    llmgwi_engine_target *own_state;
    llmgwi_route_plan plan;
    llmgw_error last; /* of the last attempt that failed */
    /* attempts */
    llmgwi_engine_attempt *attempts;
    int running, wanted; /* attempts in flight, and how many there should be */
    uint32_t epoch;      /* attempts so far */
    uint32_t answered;   /* whose answer is in the reply */
    size_t tried;        /* target of the last attempt */
    int64_t tokens_in;   /* estimate; -1: not made yet */
    int64_t hedge_us;    /* when a second attempt begins; NEVER */
    int64_t hedge_wait_us;
    bool hedged, whole; /* whole: no stream, or nothing is shown of it before its end */
    bool no_prefill;    /* a target refused to go on from an assistant's text */
    bool on_turn;       /* the next attempt is with another key, or asks in another way, at once */
    size_t bad_target;  /* these keys of it have failed since the last pause, bit by bit */
    uint32_t bad_keys;
    /* a stream that was shown and cut: the reply's answer holds what the caller has */
    bool visible;     /* something was shown */
    bool must_rewind; /* and what is behind kept is to be taken back */
    int resumes;
    size_t kept;           /* the answer's text ends with a whole sentence here; 0: start again */
    char gap[64];          /* the white space that followed it */
    bool went_on;          /* and there was more, which is lost: the answer does not end here */
    llmgwi_base_buf stash; /* events of a failed attempt that nobody saw: shown if it stays the last */
    /* waiting */
    size_t wait_at;           /* item in the trace, SIZE_MAX: none */
    bool starved, served;     /* served: its turn in the line has come */
    llmgwi_engine_line *line; /* NULL: in none */
    struct llmgwi_engine_call *line_next, *line_prev, *starved_next, **starved_at;
    llmgwi_engine_reply *reply;
    /* under the gateway's lock */
    llmgwi_base_buf queue; /* events not yet delivered */
    bool paused;           /* it is full */
    bool cancelled, ended, dispatching, released, in_inbox, in_ready;
    struct llmgwi_engine_call *inbox_next, *ready_next;
    struct llmgwi_engine_waiter *waiter; /* blocking: who waits for it */
} llmgwi_engine_call;

/* What a state is called, what may follow, how long it may last, and what it means if it lasts longer. */
typedef struct llmgwi_engine_move {
    const char *name;
    unsigned next; /* states that may follow */
    size_t limit;  /* where a call keeps the longest stay, in us; 0: the call's deadline is all */
    llmgw_code late;
    const char *late_text;
    const char *doing; /* for the text of E_DEADLINE */
} llmgwi_engine_move;

#define LLMGWI_ENGINE_LIMIT(field) offsetof(llmgwi_engine_call, field)

static const llmgwi_engine_move llmgwi_engine_moves[] = {
    {"queued", LLMGWI_ENGINE_BIT(WAITING) | LLMGWI_ENGINE_BIT(ENDED), 0, LLMGW_OK, "", "queued"},
    {"waiting", LLMGWI_ENGINE_BIT(WAITING) | LLMGWI_ENGINE_BIT(RUNNING) | LLMGWI_ENGINE_BIT(ENDED), 0,
     LLMGW_OK, "", "waiting to try again"},
    {"running", LLMGWI_ENGINE_BIT(WAITING) | LLMGWI_ENGINE_BIT(ENDED), 0, LLMGW_OK, "", "running"},
    {"ended", 0, 0, LLMGW_OK, "", ""},
    {"connecting", LLMGWI_ENGINE_BIT(SENT) | LLMGWI_ENGINE_BIT(OVER), LLMGWI_ENGINE_LIMIT(connect_us),
     LLMGW_E_TIMEOUT_CONNECT, "no connection within connect_ms", "connecting"},
    {"sent", LLMGWI_ENGINE_BIT(ANSWERING) | LLMGWI_ENGINE_BIT(CLOSING) | LLMGWI_ENGINE_BIT(OVER),
     LLMGWI_ENGINE_LIMIT(first_token_us), LLMGW_E_TIMEOUT_FIRST_TOKEN, "no first token within first_token_ms",
     "waiting for the answer"},
    {"answering", LLMGWI_ENGINE_BIT(CLOSING) | LLMGWI_ENGINE_BIT(OVER), LLMGWI_ENGINE_LIMIT(idle_us),
     LLMGW_E_TIMEOUT_IDLE, "silence for longer than idle_ms", "in the middle of the answer"},
    {"closing", LLMGWI_ENGINE_BIT(OVER), LLMGWI_ENGINE_LIMIT(closing_us), LLMGW_OK, "", "closing"},
    {"over", 0, 0, LLMGW_OK, "", ""},
};

/* An event in a queue; its bytes follow: text, id, name, each with a NUL (TRY: a llmgw_trace). */
typedef struct llmgwi_engine_event {
    size_t size; /* of all, a multiple of 8 */
    size_t text_len, id_len, name_len, keep, keep_reasoning;
    llmgw_event_kind kind;
    uint32_t epoch;
    int tool_index;
} llmgwi_engine_event;

/* A thread that waits: for its call, for events, or to become the driver. */
typedef struct llmgwi_engine_waiter {
    llmgwi_base_cond cond;
    struct llmgwi_engine_waiter *prev, *next;
    bool polls; /* in llmgw_poll */
} llmgwi_engine_waiter;

typedef struct llmgwi_engine_slot {
    llmgwi_engine_call *call; /* NULL: free */
    uint32_t generation;
    uint32_t next_free;
} llmgwi_engine_slot;

#define LLMGWI_ENGINE_CHAINS 256 /* of the hash table of targets */

struct llmgw {
    llmgwi_base_mem mem;
    llmgwi_base_clock clock;
    llmgwi_config config;
    llmgwi_http http;
    llmgw_log_fn log;
    void *log_user;
    uint32_t fork_count;
    void **headers; /* per lane (provider and key) and stream */
    /* under lock */
    llmgwi_base_mutex lock;
    bool driving; /* a thread has the driver's part */
    bool asleep;  /* it may be waiting in http.poll */
    bool woken, closing, fd_used;
    int64_t next_us;       /* as of the last turn */
    unsigned inside;       /* threads in a function of ours */
    llmgwi_base_cond left; /* inside fell */
    size_t pending;
    llmgwi_engine_call *inbox, **inbox_tail;
    llmgwi_engine_call *ready, **ready_tail;
    size_t ready_count;
    llmgwi_engine_waiter *waiters;
    llmgwi_engine_slot *slots;
    size_t slot_count, slot_cap;
    uint32_t free_slot; /* UINT32_MAX: none */
    /* written by the driver under lock, so that others may look */
    llmgwi_engine_account *accounts; /* by lane number of config */
    llmgwi_engine_target *chains[LLMGWI_ENGINE_CHAINS];
    llmgwi_engine_target **targets; /* the same, in order of their coming */
    size_t target_count, target_cap;
    /* the driver's */
    llmgwi_engine_route *routes; /* by config's number */
    llmgwi_health_budget retries;
    llmgwi_health_breaker_rules breaker_rules;
    int64_t *warm_us; /* per provider: a connection was in use or opened ahead */
    llmgwi_engine_timer **heap;
    size_t heap_count, heap_cap, heap_need;
    llmgwi_engine_call *starved, **starved_tail; /* wait for a connection */
    llmgwi_engine_line *lines;                   /* active ones */
    size_t waiting;                              /* calls in them */
    bool freed;                                  /* a limit has room again: look at the lines */
    int64_t read_us;                             /* when sockets were read last */
    bool in_http;                                /* upcalls may come: no transfer may be stopped */
    llmgwi_engine_attempt *given_up;             /* to be freed, their transfers to be stopped */
};

static LLMGWI_BASE_THREAD_LOCAL int llmgwi_engine_in_callback;
static LLMGWI_BASE_THREAD_LOCAL bool llmgwi_engine_in_log;

static int64_t llmgwi_engine_now(const llmgw *gw) { return gw->clock.now_us(gw->clock.user); }

static void llmgwi_engine_log(llmgw *gw, llmgw_log_item item, const char *text) {
#define LLMGWI_ENGINE_LOG_LEVEL(name, level, text) level,
    static const int levels[] = {LLMGW_LOG_ITEMS(LLMGWI_ENGINE_LOG_LEVEL)};
#undef LLMGWI_ENGINE_LOG_LEVEL
    if (!gw->log || llmgwi_engine_in_log) return; /* what it does is not logged in turn */
    llmgwi_engine_in_log = true; /* this thread may be driving: it must not wait for itself */
    llmgwi_engine_in_callback++;
    gw->log(item, levels[item], text, gw->log_user);
    llmgwi_engine_in_callback--;
    llmgwi_engine_in_log = false;
}

/* ---- heap of timers ---- */

static void llmgwi_engine_heap_set(llmgw *gw, size_t at, llmgwi_engine_timer *timer) {
    gw->heap[at] = timer;
    timer->heap_at = at;
}

static void llmgwi_engine_heap_fix(llmgw *gw, size_t at) {
    llmgwi_engine_timer *timer = gw->heap[at];
    for (; at > 0 && gw->heap[(at - 1) / 2]->at_us > timer->at_us; at = (at - 1) / 2)
        llmgwi_engine_heap_set(gw, at, gw->heap[(at - 1) / 2]);
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= gw->heap_count) break;
        if (child + 1 < gw->heap_count && gw->heap[child + 1]->at_us < gw->heap[child]->at_us) child++;
        if (gw->heap[child]->at_us >= timer->at_us) break;
        llmgwi_engine_heap_set(gw, at, gw->heap[child]);
        at = child;
    }
    llmgwi_engine_heap_set(gw, at, timer);
}

static void llmgwi_engine_timer_stop(llmgw *gw, llmgwi_engine_timer *timer) {
    if (timer->heap_at == SIZE_MAX) return;
    size_t at = timer->heap_at;
    llmgwi_engine_timer *last = gw->heap[--gw->heap_count];
    timer->heap_at = SIZE_MAX;
    if (last == timer) return;
    llmgwi_engine_heap_set(gw, at, last);
    llmgwi_engine_heap_fix(gw, at);
}

/* Readies a timer and makes room for it, so that setting it cannot fail. False: out of memory. */
static bool llmgwi_engine_timer_init(llmgw *gw, llmgwi_engine_timer *timer,
                                     void (*fire)(void *owner, int64_t now), void *owner) {
    size_t most = SIZE_MAX / sizeof(void *) / 4;
    timer->heap_at = SIZE_MAX;
    timer->fire = NULL; /* without room it is none */
    timer->owner = owner;
    llmgwi_engine_timer **heap = (llmgwi_engine_timer **)llmgwi_base_grow(&gw->mem, gw->heap, &gw->heap_cap,
                                                                          gw->heap_need, most, sizeof *heap);
    if (!heap) return false;
    gw->heap = heap;
    gw->heap_need++;
    timer->fire = fire;
    return true;
}

/* Gives up a timer's room. */
static void llmgwi_engine_timer_done(llmgw *gw, llmgwi_engine_timer *timer) {
    if (!timer->fire) return;
    llmgwi_engine_timer_stop(gw, timer);
    timer->fire = NULL;
    gw->heap_need--;
}

static void llmgwi_engine_timer_set(llmgw *gw, llmgwi_engine_timer *timer, int64_t at_us) {
    if (timer->heap_at != SIZE_MAX && timer->at_us == at_us) return;
    timer->at_us = at_us;
    if (timer->heap_at == SIZE_MAX) llmgwi_engine_heap_set(gw, gw->heap_count++, timer);
    llmgwi_engine_heap_fix(gw, timer->heap_at);
}

static int64_t llmgwi_engine_after(int64_t now, int64_t wait_us) {
    return wait_us == LLMGWI_BASE_NEVER ? LLMGWI_BASE_NEVER : now + wait_us;
}

/* Sets when the clock looks at a call again: at its own time or its deadline. */
static void llmgwi_engine_wake_at(llmgwi_engine_call *call, int64_t at_us) {
    llmgwi_engine_timer_set(call->gw, &call->timer, at_us < call->deadline_us ? at_us : call->deadline_us);
}

/* The longest stay in a state. */
static int64_t llmgwi_engine_stay(const llmgwi_engine_call *call, llmgwi_engine_state state) {
    size_t at = llmgwi_engine_moves[state].limit;
    return at ? *(const int64_t *)(const void *)((const char *)call + at) : LLMGWI_BASE_NEVER;
}

/* The one place where a state changes. False: a defect of ours, told in error. */
static bool llmgwi_engine_move_to(llmgwi_engine_state *state, llmgwi_engine_state to, llmgw_error *error) {
    const llmgwi_engine_move *from = &llmgwi_engine_moves[*state];
    if (!(from->next & (1u << to))) {
        (void)llmgwi_base_error(error, LLMGW_E_INTERNAL, "state %s cannot become %s", from->name,
                                llmgwi_engine_moves[to].name);
        return false;
    }
    *state = to;
    return true;
}

static void llmgwi_engine_enter(llmgwi_engine_call *call, llmgwi_engine_state state) {
    (void)llmgwi_engine_move_to(&call->state, state, &call->last);
    if (state == LLMGWI_ENGINE_ENDED) llmgwi_engine_timer_stop(call->gw, &call->timer);
}

/* Sets an attempt's timer to the first of what it waits for. */
static void llmgwi_engine_attempt_wake(llmgwi_engine_attempt *attempt) {
    int64_t at = attempt->limit_us;
    if (attempt->release_us < at) at = attempt->release_us;
    if (attempt->rate_us < at) at = attempt->rate_us;
    if (attempt->slow_us < at) at = attempt->slow_us;
    llmgwi_engine_timer_set(attempt->gw, &attempt->timer, at);
}

/* A defect makes the attempt end, loudly. */
static void llmgwi_engine_attempt_enter(llmgwi_engine_attempt *attempt, llmgwi_engine_state state,
                                        int64_t now) {
    if (!llmgwi_engine_move_to(&attempt->state, state, &attempt->stop) || !attempt->call) return;
    attempt->limit_us = llmgwi_engine_after(now, llmgwi_engine_stay(attempt->call, state));
    llmgwi_engine_attempt_wake(attempt);
}

/* ---- waking others (under lock) ---- */

static void llmgwi_engine_inbox_add(llmgw *gw, llmgwi_engine_call *call) {
    if (!call->in_inbox) {
        call->in_inbox = true;
        call->inbox_next = NULL;
        *gw->inbox_tail = call;
        gw->inbox_tail = &call->inbox_next;
    }
    if (gw->asleep || (gw->fd_used && !gw->driving)) gw->http.wake(gw->http.self);
}

static void llmgwi_engine_signal_poller(llmgw *gw) {
    for (llmgwi_engine_waiter *waiter = gw->waiters; waiter; waiter = waiter->next)
        if (waiter->polls) {
            llmgwi_base_cond_signal(&waiter->cond);
            return;
        }
}

/* Somebody should drive now that nobody does. */
static void llmgwi_engine_hand_over(llmgw *gw) {
    if (gw->driving) return;
    if (gw->waiters)
        llmgwi_base_cond_signal(&gw->waiters->cond);
    else if (gw->fd_used && gw->inbox)
        gw->http.wake(gw->http.self); /* a foreign loop shall see what came while we drove */
}

/* A call has something to deliver. */
static void llmgwi_engine_ready_add(llmgw *gw, llmgwi_engine_call *call) {
    if (call->blocking) {
        if (call->waiter) llmgwi_base_cond_signal(&call->waiter->cond);
        return;
    }
    if (call->in_ready || call->dispatching) return; /* whoever delivers looks again */
    call->in_ready = true;
    call->ready_next = NULL;
    if (!gw->ready) {
        gw->http.notice(gw->http.self, true);
        llmgwi_engine_signal_poller(gw);
    }
    *gw->ready_tail = call;
    gw->ready_tail = &call->ready_next;
    gw->ready_count++;
}

/* ---- events ---- */

/* Writes an event to the end of a buffer. payload (TRY: the trace item) stands where text would. */
static bool llmgwi_engine_put(llmgwi_base_buf *buf, llmgwi_engine_event event, const void *payload,
                              const char *id, const char *name) {
    size_t bytes = sizeof event + event.text_len + 1 + event.id_len + 1 + event.name_len + 1;
    event.size = (bytes + 7) & ~(size_t)7;
    if (!llmgwi_base_buf_reserve(buf, event.size)) return false;
    char *p = buf->p + buf->n;
    memset(p, 0, event.size);
    memcpy(p, &event, sizeof event);
    p += sizeof event;
    if (event.text_len) memcpy(p, payload, event.text_len);
    p += event.text_len + 1;
    if (event.id_len) memcpy(p, id, event.id_len);
    p += event.id_len + 1;
    if (event.name_len) memcpy(p, name, event.name_len);
    buf->n += event.size;
    return true;
}

/* Queues an event for the caller. False: out of memory. */
static bool llmgwi_engine_push(llmgwi_engine_call *call, llmgwi_engine_event event, const void *payload,
                               const char *id, const char *name) {
    llmgw *gw = call->gw;
    if (!call->events) return true;
    llmgwi_base_lock(&gw->lock);
    bool put = llmgwi_engine_put(&call->queue, event, payload, id, name);
    if (put) llmgwi_engine_ready_add(gw, call);
    llmgwi_base_unlock(&gw->lock);
    return put;
}

/* Queues events that were held back. */
static bool llmgwi_engine_push_held(llmgwi_engine_call *call, llmgwi_base_buf *held) {
    llmgw *gw = call->gw;
    bool put = true;
    if (held->n && call->events) {
        llmgwi_base_lock(&gw->lock);
        put = llmgwi_base_buf_add(&call->queue, held->p, held->n);
        if (put) llmgwi_engine_ready_add(gw, call);
        llmgwi_base_unlock(&gw->lock);
    }
    llmgwi_base_buf_free(held);
    return put;
}

static void llmgwi_engine_push_try(llmgwi_engine_call *call, llmgwi_engine_attempt *attempt) {
    llmgwi_engine_event event;
    memset(&event, 0, sizeof event);
    event.kind = LLMGW_EVENT_TRY;
    event.epoch = attempt->epoch;
    event.text_len = sizeof(llmgw_trace);
    if (!llmgwi_engine_push(call, event, &call->reply->trace[attempt->trace_at], "", "") &&
        !attempt->stop.code)
        (void)llmgwi_base_error(&attempt->stop, LLMGW_E_MEMORY, "out of memory for events");
}

/* ---- trace ---- */

#define LLMGWI_ENGINE_TRACE_SPARE 64 /* kept for attempts */

/* A new item; NULL without memory or over the cap. The texts are borrowed until the reply is made. */
static llmgw_trace *llmgwi_engine_trace(llmgwi_engine_call *call, llmgw_trace_kind kind, size_t target,
                                        int64_t now) {
    llmgwi_engine_reply *reply = call->reply;
    size_t most = LLMGWI_ENGINE_MAX_TRACE - (kind == LLMGW_TRACE_ATTEMPT ? 0 : LLMGWI_ENGINE_TRACE_SPARE);
    if (reply->trace_count >= most) return NULL;
    llmgw_trace *items =
        (llmgw_trace *)llmgwi_base_grow(&reply->mem, reply->trace, &reply->trace_cap, reply->trace_count,
                                        LLMGWI_ENGINE_MAX_TRACE, sizeof *items);
    if (!items) return NULL;
    reply->trace = items;
    llmgw_trace *item = &items[reply->trace_count++];
    memset(item, 0, sizeof *item);
    item->kind = kind;
    item->provider = call->targets[target].provider->name;
    item->model = call->targets[target].model;
    item->start_us = now - call->accepted_us;
    return item;
}

static void llmgwi_engine_reason(llmgwi_engine_call *call, llmgw_trace *item, const char *text) {
    char line[sizeof item->reason];
    memset(line, 0, sizeof line); /* the caller gets all of it: no remains of the stack */
    llmgwi_base_copy_cut(line, sizeof line, text, strlen(text));
    llmgwi_config_redact(&call->gw->config, line);
    memcpy(item->reason, line, sizeof line);
}

/* A target was passed over; said once for each reason. */
static void llmgwi_engine_pass(llmgwi_engine_call *call, size_t target, llmgw_code code, const char *why,
                               int64_t now) {
    if (call->plan.passed[target] == (unsigned short)code) return;
    call->plan.passed[target] = (unsigned short)code;
    llmgw_trace *item = llmgwi_engine_trace(call, LLMGW_TRACE_SKIP, target, now);
    if (!item) return;
    item->code = code;
    llmgwi_engine_reason(call, item, why);
}

/* A target is passed over for good; its reason is the call's error if nothing else comes. */
static void llmgwi_engine_skip(llmgwi_engine_call *call, size_t target, llmgw_code code, const char *why,
                               int64_t now) {
    if (!call->epoch || !call->last.code) (void)llmgwi_base_error(&call->last, code, "%s", why);
    call->plan.dead[target] = true;
    llmgwi_engine_pass(call, target, code, why, now);
}

static void llmgwi_engine_wait_ends(llmgwi_engine_call *call, int64_t now) {
    if (call->wait_at == SIZE_MAX) return;
    llmgw_trace *item = &call->reply->trace[call->wait_at];
    item->duration_us = now - call->accepted_us - item->start_us;
    call->wait_at = SIZE_MAX;
}

/* A pause begins; its length is filled in when it ends. */
static void llmgwi_engine_wait_begins(llmgwi_engine_call *call, size_t target, llmgw_code code,
                                      const char *why, int64_t now) {
    llmgwi_engine_wait_ends(call, now);
    llmgw_trace *item = llmgwi_engine_trace(call, LLMGW_TRACE_WAIT, target, now);
    call->wait_at = SIZE_MAX;
    if (!item) return;
    call->wait_at = (size_t)(item - call->reply->trace);
    item->code = code;
    llmgwi_engine_reason(call, item, why);
}

/* ---- ending a call ---- */

static llmgw_part llmgwi_engine_export_part(llmgwi_base_arena *arena, const llmgwi_dialect_answer *answer,
                                            const llmgwi_dialect_piece *piece, const char *flavour) {
    llmgw_part part;
    memset(&part, 0, sizeof part);
    part.kind = piece->kind;
    if (piece->signature.n) {
        part.signature = llmgwi_base_buf_cstr(&piece->signature);
        part.origin = llmgwi_base_arena_dup(arena, flavour);
    }
    if (piece->kind == LLMGW_PART_TOOL_CALL) {
        part.id = piece->id;
        part.name = piece->name;
        part.arguments = llmgwi_base_buf_cstr(&piece->arguments);
    } else if (!piece->redacted) {
        const llmgwi_base_buf *from = piece->kind == LLMGW_PART_TEXT ? &answer->text : &answer->reasoning;
        part.text = llmgwi_base_arena_copy(arena, llmgwi_base_buf_cstr(from) + piece->at, piece->n);
        part.text_len = piece->n;
        if (piece->kind == LLMGW_PART_REASONING) part.origin = llmgwi_base_arena_dup(arena, flavour);
    }
    return part;
}

/* An answer's pieces as message parts and tool calls of a reply. False: out of memory. */
static bool llmgwi_engine_export(llmgw_reply *pub, llmgwi_base_arena *arena,
                                 const llmgwi_dialect_answer *answer, const char *flavour) {
    llmgw_part *parts = (llmgw_part *)llmgwi_base_arena_get(arena, (answer->piece_count + 1) * sizeof *parts);
    llmgw_tool_call *calls =
        (llmgw_tool_call *)llmgwi_base_arena_get(arena, (answer->tool_count + 1) * sizeof *calls);
    size_t tools = 0;
    for (size_t i = 0; parts && calls && i < answer->piece_count; i++) {
        parts[i] = llmgwi_engine_export_part(arena, answer, &answer->pieces[i], flavour);
        if (parts[i].kind != LLMGW_PART_TOOL_CALL) continue;
        calls[tools].id = parts[i].id;
        calls[tools].name = parts[i].name;
        calls[tools++].arguments = parts[i].arguments;
    }
    if (arena->failed) return false;
    pub->message.role = LLMGW_ROLE_ASSISTANT;
    pub->message.parts = parts;
    pub->message.part_count = answer->piece_count;
    pub->tool_calls = calls;
    pub->tool_call_count = tools;
    return true;
}

/* What an answer says, borrowed from it. */
static void llmgwi_engine_show(llmgw_reply *pub, const llmgwi_dialect_answer *answer) {
    pub->text = llmgwi_base_buf_cstr(&answer->text);
    pub->text_len = answer->text.n;
    pub->reasoning = llmgwi_base_buf_cstr(&answer->reasoning);
    pub->reasoning_len = answer->reasoning.n;
    pub->refusal = answer->refusal.n ? answer->refusal.p : NULL;
    pub->finish = answer->finish;
    pub->usage = answer->usage;
    pub->id = answer->id ? answer->id : "";
    pub->model_echo = answer->model ? answer->model : "";
}

/* Gives the trace texts of its own: those it borrows die with the gateway or the request. */
static bool llmgwi_engine_own_trace(llmgwi_engine_reply *reply) {
    for (size_t i = 0; i < reply->trace_count; i++) {
        reply->trace[i].provider = llmgwi_base_arena_dup(&reply->arena, reply->trace[i].provider);
        reply->trace[i].model = llmgwi_base_arena_dup(&reply->arena, reply->trace[i].model);
    }
    reply->pub.trace = reply->trace;
    reply->pub.trace_count = reply->trace_count;
    return !reply->arena.failed;
}

static void llmgwi_engine_fill(llmgwi_engine_call *call, const llmgw_error *error) {
    llmgwi_engine_reply *reply = call->reply;
    llmgw_reply *pub = &reply->pub;
    llmgwi_engine_show(pub, &reply->answer);
    pub->cost.known = true;
    pub->epoch = call->answered;
    for (size_t i = 0; i < reply->trace_count; i++) {
        llmgw_trace *item = &reply->trace[i];
        if (item->kind != LLMGW_TRACE_ATTEMPT) continue;
        llmgwi_price_total(&pub->cost, item->cost);
        if (item->epoch == call->answered && item->first_token_us)
            pub->first_token_us = item->start_us + item->first_token_us;
    }
    bool made = true;
    if (call->epoch) {
        const llmgwi_config_target *target = &call->targets[call->tried]; /* of the answer, or the last */
        pub->provider = llmgwi_base_arena_dup(&reply->arena, target->provider->name);
        pub->model = llmgwi_base_arena_dup(&reply->arena, target->model);
        made = llmgwi_engine_export(pub, &reply->arena, &reply->answer, target->provider->flavour);
    }
    if (error) {
        pub->error = *error;
        pub->finish = LLMGW_FINISH_NONE;
    }
    if (!llmgwi_engine_own_trace(reply) || !made) {
        (void)llmgwi_base_error(&pub->error, LLMGW_E_MEMORY, "out of memory for the reply");
        pub->finish = LLMGW_FINISH_NONE;
        pub->trace_count = 0;
    }
    pub->elapsed_us = llmgwi_engine_now(call->gw) - call->accepted_us;
    pub->attempts = (int)call->epoch;
}

static void llmgwi_engine_leave_line(llmgwi_engine_call *call, int64_t now);
static void llmgwi_engine_unstarve(llmgwi_engine_call *call);

/* Ends a call, once. error NULL: success. No attempt is in flight. */
static void llmgwi_engine_end(llmgwi_engine_call *call, const llmgw_error *error) {
    llmgw *gw = call->gw;
    int64_t now = llmgwi_engine_now(gw);
    if (call->state == LLMGWI_ENGINE_ENDED) return;
    llmgwi_engine_unstarve(call);
    if (call->line) gw->freed = true; /* those behind it are looked at */
    llmgwi_engine_leave_line(call, now);
    llmgwi_engine_wait_ends(call, now);
    llmgwi_engine_enter(call, LLMGWI_ENGINE_ENDED);
    llmgwi_engine_timer_done(gw, &call->timer);
    llmgwi_engine_fill(call, error);
    if (error && error->code != LLMGW_E_CANCELLED) llmgwi_engine_log(gw, LLMGW_LOG_CALL_FAILED, error->text);
    llmgwi_base_lock(&gw->lock);
    call->ended = true;
    gw->pending--;
    llmgwi_engine_ready_add(gw, call);
    llmgwi_base_unlock(&gw->lock);
}

/* ---- what is known of providers ---- */

static void llmgwi_engine_limits_init(llmgwi_engine_limits *limits, const llmgwi_config_limits *from) {
    llmgwi_health_window_init(&limits->rpm, from->rpm, LLMGWI_ENGINE_MINUTE_US);
    llmgwi_health_window_init(&limits->tpm, from->tpm, LLMGWI_ENGINE_MINUTE_US);
    llmgwi_health_window_init(&limits->rpd, from->rpd, LLMGWI_ENGINE_MINUTE_US * 60 * 24);
    limits->concurrency = from->concurrency;
    limits->counted = from->rpm || from->tpm || from->rpd;
}

static bool llmgwi_engine_limited(const llmgwi_config_limits *limits) {
    return limits->rpm || limits->tpm || limits->rpd || limits->concurrency;
}

static void llmgwi_engine_target_free(llmgw *gw, llmgwi_engine_target *target) {
    llmgwi_base_free(&gw->mem, target->model, strlen(target->model) + 1);
    llmgwi_base_free(&gw->mem, target->limits, sizeof *target->limits);
    llmgwi_base_free(&gw->mem, target->lanes, target->provider->key_count * sizeof *target->lanes);
    llmgwi_base_free(&gw->mem, target, sizeof *target);
}

static llmgwi_engine_target *llmgwi_engine_target_new(llmgw *gw, const llmgwi_config_target *from,
                                                      const char *model) {
    size_t n = strlen(model) + 1;
    llmgwi_engine_target *target = (llmgwi_engine_target *)llmgwi_base_zalloc(&gw->mem, sizeof *target);
    if (!target) return NULL;
    target->provider = from->provider;
    target->model = (char *)llmgwi_base_realloc(&gw->mem, NULL, 0, n);
    target->lanes =
        (llmgwi_engine_lane *)llmgwi_base_zalloc(&gw->mem, from->provider->key_count * sizeof *target->lanes);
    bool limited = llmgwi_engine_limited(from->limits);
    if (limited)
        target->limits = (llmgwi_engine_limits *)llmgwi_base_zalloc(&gw->mem, sizeof *target->limits);
    target->line.timer.heap_at = SIZE_MAX;
    if (target->model) memcpy(target->model, model, n);
    if (!target->model || !target->lanes || (limited && !target->limits)) {
        if (target->model)
            llmgwi_engine_target_free(gw, target);
        else {
            llmgwi_base_free(&gw->mem, target->limits, sizeof *target->limits);
            llmgwi_base_free(&gw->mem, target->lanes, from->provider->key_count * sizeof *target->lanes);
            llmgwi_base_free(&gw->mem, target, sizeof *target);
        }
        return NULL;
    }
    if (limited) llmgwi_engine_limits_init(target->limits, from->limits);
    return target;
}

/* The memory of a provider and model, made when it is first used; over max_targets one that all further
   models of the provider share, but for those with a limit of their own. NULL: out of memory. Driver only. */
static llmgwi_engine_target *llmgwi_engine_target_get(llmgw *gw, const llmgwi_config_target *from) {
    size_t most = (size_t)gw->config.options.max_targets;
    const char *model = from->model;
    for (;;) {
        uint64_t hash = XXH3_64bits_withSeed(model, strlen(model), from->provider->index);
        llmgwi_engine_target **chain = &gw->chains[hash % LLMGWI_ENGINE_CHAINS], *target = *chain;
        while (target && (target->provider != from->provider || strcmp(target->model, model) != 0))
            target = target->next;
        if (target) return target;
        if (gw->target_count >= most && !llmgwi_engine_limited(from->limits) && strcmp(model, "*") != 0) {
            model = "*";
            continue;
        }
        target = llmgwi_engine_target_new(gw, from, model);
        if (!target) return NULL;
        llmgwi_base_lock(&gw->lock);
        llmgwi_engine_target **list = (llmgwi_engine_target **)llmgwi_base_grow(
            &gw->mem, gw->targets, &gw->target_cap, gw->target_count,
            most + gw->config.provider_count + gw->config.model_count, sizeof *list);
        if (list) {
            gw->targets = list;
            list[gw->target_count++] = target;
            target->next = *chain;
            *chain = target;
        }
        llmgwi_base_unlock(&gw->lock);
        if (!list) llmgwi_engine_target_free(gw, target);
        return list ? target : NULL;
    }
}

/* Where a limit stands. */
typedef struct llmgwi_engine_use {
    int64_t limit, used;
} llmgwi_engine_use;

static llmgwi_engine_use llmgwi_engine_limit_use(llmgwi_engine_limits *limits, llmgw_limit_kind kind,
                                                 int64_t now) {
    llmgwi_engine_use use;
    llmgwi_health_window *windows[3];
    windows[0] = &limits->rpm;
    windows[1] = &limits->tpm;
    windows[2] = &limits->rpd;
    if (kind == LLMGW_LIMIT_CONCURRENCY) {
        use.limit = limits->concurrency;
        use.used = limits->in_flight;
    } else {
        use.limit = windows[kind]->limit;
        use.used = use.limit ? llmgwi_health_window_used(windows[kind], now) : 0;
    }
    return use;
}

/* Bits of the limits that crossed headroom_percent just now. Under lock. */
static unsigned llmgwi_engine_crossings(llmgw *gw, llmgwi_engine_limits *limits, int64_t now) {
    int percent = gw->config.options.headroom_percent;
    unsigned crossed = 0;
    for (int kind = 0; percent > 0 && kind <= LLMGW_LIMIT_CONCURRENCY; kind++) {
        llmgwi_engine_use use = llmgwi_engine_limit_use(limits, (llmgw_limit_kind)kind, now);
        if (!use.limit) continue;
        double share = (double)use.used * 100 / (double)use.limit;
        if (share >= percent && !limits->warned[kind]) crossed |= 1u << kind;
        if (share >= percent)
            limits->warned[kind] = true;
        else if (share < percent * 0.9) /* or it would be told at every call at the edge */
            limits->warned[kind] = false;
    }
    return crossed;
}

static const char *const llmgwi_engine_limit_names[] = {"rpm", "tpm", "rpd", "concurrency"};
static const char *const llmgwi_engine_breaker_names[] = {"closed", "open", "half open"};

static void llmgwi_engine_log_crossings(llmgw *gw, unsigned crossed, const char *provider,
                                        const char *model) {
    char line[256];
    for (unsigned kind = 0; crossed >> kind; kind++) {
        if (!(crossed >> kind & 1)) continue;
        snprintf(line, sizeof line, "%.64s%s%.80s: %s is used to %d %%", provider, model[0] ? "/" : "", model,
                 llmgwi_engine_limit_names[kind], gw->config.options.headroom_percent);
        llmgwi_engine_log(gw, LLMGW_LOG_HEADROOM, line);
    }
}

/* What an attempt will use of the limits in tokens, before it is known. */
static int64_t llmgwi_engine_reserve(llmgwi_engine_call *call) {
    const llmgw_request *request = call->request;
    if (call->tokens_in < 0) call->tokens_in = llmgwi_dialect_request_bytes(request) / 4 + 8;
    int64_t out = request->max_tokens ? request->max_tokens : call->gw->config.options.reserve_output_tokens;
    if (out > LLMGWI_ENGINE_TOKENS_MAX) out = LLMGWI_ENGINE_TOKENS_MAX;
    return call->tokens_in + call->tokens_in * 15 / 100 + out; /* DESIGN, law 6 */
}

static void llmgwi_engine_limits_take(llmgwi_engine_limits *limits, int64_t slots[3], int64_t tokens,
                                      int64_t now) {
    limits->in_flight++;
    if (!limits->counted) return;
    slots[0] = llmgwi_health_window_take(&limits->rpm, now, 1);
    slots[1] = llmgwi_health_window_take(&limits->tpm, now, tokens);
    slots[2] = llmgwi_health_window_take(&limits->rpd, now, 1);
}

/* sent: it counts as a request; tokens: more (or fewer) than were reserved. */
static void llmgwi_engine_limits_settle(llmgwi_engine_limits *limits, const int64_t slots[3], bool sent,
                                        int64_t tokens, int64_t now) {
    limits->in_flight--;
    if (!limits->counted) return;
    if (!sent) llmgwi_health_window_settle(&limits->rpm, now, slots[0], -1);
    if (!sent) llmgwi_health_window_settle(&limits->rpd, now, slots[2], -1);
    llmgwi_health_window_settle(&limits->tpm, now, slots[1], tokens);
}

/* The request goes out only now: it counts from now on, as it does at the provider. */
static void llmgwi_engine_limits_move(llmgwi_engine_limits *limits, int64_t slots[3], int64_t tokens,
                                      int64_t now) {
    llmgwi_engine_limits_settle(limits, slots, false, -tokens, now);
    llmgwi_engine_limits_take(limits, slots, tokens, now);
}

static void llmgwi_engine_retake(llmgwi_engine_attempt *attempt, int64_t now) {
    llmgw *gw = attempt->gw;
    llmgwi_engine_target *target = attempt->call->states[attempt->target];
    llmgwi_engine_taken *taken = &attempt->taken;
    llmgwi_engine_account *account = &gw->accounts[target->provider->lane_at + attempt->key];
    llmgwi_base_lock(&gw->lock);
    llmgwi_engine_limits_move(&account->limits, taken->key_slots, taken->tokens, now);
    if (target->limits) llmgwi_engine_limits_move(target->limits, taken->model_slots, taken->tokens, now);
    llmgwi_base_unlock(&gw->lock);
}

/* An answer that is later than this counts as a failure; NEVER: none does. A whole reply takes as long as it
   is long, so that only one beyond most others is slow. */
static int64_t llmgwi_engine_slow_us(const llmgw *gw, const llmgwi_engine_target *target, bool stream) {
    int slow_ms = gw->config.options.breaker_slow_ms;
    if (slow_ms) return slow_ms < 0 ? LLMGWI_BASE_NEVER : (int64_t)slow_ms * 1000;
    int64_t usual = llmgwi_health_histogram_quantile(&target->latency[stream], stream ? 0.5 : 0.95);
    if (!usual) return LLMGWI_BASE_NEVER;
    int64_t slow_us = usual * (stream ? 10 : 4);
    int64_t least_us = stream ? LLMGWI_ENGINE_SLOW_US : LLMGWI_ENGINE_SLOW_WHOLE_US;
    return slow_us > least_us ? slow_us : least_us;
}

/* Counts an attempt against everything it uses: it begins. */
static void llmgwi_engine_take(llmgwi_engine_attempt *attempt, int64_t now) {
    llmgwi_engine_call *call = attempt->call;
    llmgw *gw = attempt->gw;
    const llmgwi_config_provider *provider = call->targets[attempt->target].provider;
    llmgwi_engine_target *target = call->states[attempt->target];
    llmgwi_engine_account *account = &gw->accounts[provider->lane_at + attempt->key];
    llmgwi_engine_lane *lane = &target->lanes[attempt->key];
    llmgwi_engine_taken *taken = &attempt->taken;
    taken->tokens = llmgwi_engine_reserve(call);
    attempt->tokens_in = call->tokens_in;
    llmgwi_base_lock(&gw->lock);
    taken->open = true;
    llmgwi_engine_limits_take(&account->limits, taken->key_slots, taken->tokens, now);
    if (target->limits) llmgwi_engine_limits_take(target->limits, taken->model_slots, taken->tokens, now);
    llmgwi_health_bucket_take(&lane->requests, now, 1);
    llmgwi_health_bucket_take(&lane->tokens, now, taken->tokens);
    taken->lane_started = ++lane->started;
    lane->in_flight++;
    target->in_flight++;
    target->attempts++;
    taken->probe = llmgwi_health_breaker_begin(&target->breaker, now);
    attempt->slow_us = llmgwi_engine_after(now, llmgwi_engine_slow_us(gw, target, call->request->stream));
    unsigned of_key = llmgwi_engine_crossings(gw, &account->limits, now);
    unsigned of_model = target->limits ? llmgwi_engine_crossings(gw, target->limits, now) : 0;
    llmgwi_base_unlock(&gw->lock);
    llmgwi_engine_log_crossings(gw, of_key, provider->name, "");
    llmgwi_engine_log_crossings(gw, of_model, provider->name, target->model);
}

static void llmgwi_engine_learn(llmgwi_health_bucket *bucket, const llmgwi_dialect_limit *limit,
                                int64_t since, int64_t now) {
    if (limit->seen && limit->remaining >= 0)
        llmgwi_health_bucket_learn(bucket, now, limit->limit, limit->remaining,
                                   limit->reset_ms > 0 ? limit->reset_ms * 1000 : 0, since);
}

/* What the end of an attempt says of its target: 1 good, 0 failed, -1 nothing. us: until its first token, or
   so far. */
static int llmgwi_engine_verdict(const llmgwi_engine_attempt *attempt, const llmgwi_engine_target *target,
                                 llmgw_code code, int64_t us) {
    if (us > llmgwi_engine_slow_us(attempt->gw, target, attempt->call->request->stream)) return 0;
    if (code == LLMGW_OK) return 1;
    unsigned what = llmgwi_health_what(code, 0);
    if (what & LLMGWI_HEALTH_BREAKER) return 0;
    /* a probe whose hedge was faster: were that nothing, the next call would probe at once, and so on until
       one is lucky */
    bool outrun = code == LLMGW_E_CANCELLED && attempt->taken.probe && attempt->call->hedged &&
                  !attempt->hedge && !attempt->call->reply->trace[attempt->trace_at].first_token_us;
    if (outrun) return 0;
    bool answered = code == LLMGW_E_INVALID || code == LLMGW_E_FILTERED || code == LLMGW_E_BAD_REQUEST ||
                    code == LLMGW_E_CONTEXT_LENGTH;
    return answered ? 1 : -1;
}

/* Notes what the end of an attempt says of its target. Under lock; returns whether the breaker moved. */
static bool llmgwi_engine_note_health(llmgwi_engine_attempt *attempt, llmgwi_engine_target *target,
                                      llmgw_code code, int64_t now) {
    const llmgw *gw = attempt->gw;
    const llmgw_trace *item = &attempt->call->reply->trace[attempt->trace_at];
    bool began = item->first_token_us != 0;
    int64_t us = began ? item->first_token_us : now - attempt->began_us;
    unsigned what = llmgwi_health_what(code, 0);
    llmgw_breaker before = target->breaker.state;
    int verdict = item->sent || what ? llmgwi_engine_verdict(attempt, target, code, us) : -1;
    if (attempt->judged) verdict = -1;
    if (verdict == 0) target->failures++;
    llmgwi_health_breaker_result(&target->breaker, &gw->breaker_rules, now, attempt->taken.probe, verdict);
    if (what & LLMGWI_HEALTH_SHRINK)
        llmgwi_health_aimd_overload(&target->aimd, now, attempt->began_us, target->in_flight);
    else if (code == LLMGW_OK)
        llmgwi_health_aimd_good(&target->aimd, now, target->in_flight);
    if (code == LLMGW_OK || began || verdict == 0) {
        llmgwi_health_ewma_add(&target->ewma, now, us);
        llmgwi_health_histogram_record(&target->latency[attempt->call->request->stream], us);
    }
    return target->breaker.state != before;
}

static void llmgwi_engine_log_breaker(llmgw *gw, const llmgwi_engine_target *target, llmgw_breaker breaker) {
    char line[256];
    snprintf(line, sizeof line, "%.64s/%.80s: the breaker is %s now", target->provider->name, target->model,
             llmgwi_engine_breaker_names[breaker]);
    llmgwi_engine_log(gw, LLMGW_LOG_BREAKER, line);
}

/* Nothing has come for so long that the target counts as slow: its breaker is told now, not at the end, when
   all that came meanwhile would have gone there too. */
static void llmgwi_engine_judge_slow(llmgwi_engine_attempt *attempt, int64_t now) {
    llmgw *gw = attempt->gw;
    llmgwi_engine_target *target = attempt->call->states[attempt->target];
    attempt->slow_us = LLMGWI_BASE_NEVER;
    if (attempt->call->reply->trace[attempt->trace_at].first_token_us || attempt->judged) return;
    attempt->judged = true;
    llmgwi_base_lock(&gw->lock);
    llmgw_breaker before = target->breaker.state;
    target->failures++;
    llmgwi_health_breaker_result(&target->breaker, &gw->breaker_rules, now, attempt->taken.probe, 0);
    attempt->taken.probe = false;
    llmgw_breaker breaker = target->breaker.state;
    llmgwi_base_unlock(&gw->lock);
    if (breaker != before) llmgwi_engine_log_breaker(gw, target, breaker);
}

/* Gives back what an attempt took and settles it with what it used. */
static void llmgwi_engine_settle(llmgwi_engine_attempt *attempt, llmgw_code code, int64_t now) {
    llmgwi_engine_call *call = attempt->call;
    llmgw *gw = attempt->gw;
    const llmgw_trace *item = &call->reply->trace[attempt->trace_at];
    llmgwi_engine_target *target = call->states[attempt->target];
    llmgwi_engine_account *account = &gw->accounts[target->provider->lane_at + attempt->key];
    llmgwi_engine_lane *lane = &target->lanes[attempt->key];
    llmgwi_engine_taken *taken = &attempt->taken;
    if (!taken->open) return;
    bool refused = item->http_status >= 300 || !item->sent;
    int64_t used = refused ? 0 : item->usage.known ? item->usage.input + item->usage.output : taken->tokens;
    int64_t more = used - taken->tokens, since;
    llmgwi_base_lock(&gw->lock);
    taken->open = false;
    since = lane->started - taken->lane_started;
    llmgwi_engine_limits_settle(&account->limits, taken->key_slots, item->sent, more, now);
    if (target->limits)
        llmgwi_engine_limits_settle(target->limits, taken->model_slots, item->sent, more, now);
    if (more < 0) llmgwi_health_bucket_give(&lane->tokens, -more);
    if (!item->sent) llmgwi_health_bucket_give(&lane->requests, 1);
    llmgwi_engine_learn(&lane->requests, &attempt->meta.requests, since, now);
    llmgwi_engine_learn(&lane->tokens, &attempt->meta.tokens, since * taken->tokens, now);
    bool moved = llmgwi_engine_note_health(attempt, target, code, now); /* it is still counted in flight */
    lane->in_flight--;
    target->in_flight--;
    unsigned of_key = llmgwi_engine_crossings(gw, &account->limits, now); /* and re-arms those that fell */
    unsigned of_model = target->limits ? llmgwi_engine_crossings(gw, target->limits, now) : 0;

    llmgw_breaker breaker = target->breaker.state;
    llmgwi_base_unlock(&gw->lock);
    gw->freed = true;
    if (item->sent) gw->warm_us[target->provider->index] = now;
    llmgwi_engine_log_crossings(gw, of_key, target->provider->name, "");
    llmgwi_engine_log_crossings(gw, of_model, target->provider->name, target->model);
    if (moved) llmgwi_engine_log_breaker(gw, target, breaker);
}

/* ---- attempts: what they bring ---- */

static void llmgwi_engine_advance(llmgwi_engine_call *call);
static void llmgwi_engine_lose(llmgwi_engine_attempt *attempt, llmgw_code code, const char *reason);

static void llmgwi_engine_no_room(llmgwi_engine_attempt *attempt) {
    if (!attempt->stop.code)
        (void)llmgwi_base_error(&attempt->stop, LLMGW_E_MEMORY, "out of memory for events");
}

/* An event of an attempt: to the caller, or held back until the attempt is shown. False: out of memory. */
static bool llmgwi_engine_emit(llmgwi_engine_attempt *attempt, llmgwi_engine_event event, const void *payload,
                               const char *id, const char *name) {
    event.epoch = attempt->epoch;
    bool put = attempt->shown ? llmgwi_engine_push(attempt->call, event, payload, id, name)
                              : llmgwi_engine_put(&attempt->held, event, payload, id, name);
    attempt->held_bytes += event.text_len;
    if (!put) llmgwi_engine_no_room(attempt);
    return put;
}

/* How much of what came repeats the kept text; SIZE_MAX: more must come to know. */
static size_t llmgwi_engine_repeats(const llmgwi_engine_attempt *attempt, bool whole) {
    size_t kept = attempt->kept, n = attempt->answer.text.n - kept;
    const char *text = llmgwi_base_buf_cstr(&attempt->answer.text);
    bool same = attempt->echoes && memcmp(text, text + kept, n < kept ? n : kept) == 0;
    if (same && (n >= kept || !whole)) return n >= kept ? kept : SIZE_MAX;
    return llmgwi_text_seam(text, kept, text + kept, n, whole);
}

/* Joins a resumed answer to the text that was kept: what it repeats is dropped, and the white space between
   is put back if it brings none. False: more must come first. */
static bool llmgwi_engine_join(llmgwi_engine_attempt *attempt, bool whole) {
    llmgwi_dialect_answer *answer = &attempt->answer;
    size_t kept = attempt->kept, n = answer->text.n - kept;
    const char *text = llmgwi_base_buf_cstr(&answer->text);
    if (n == 0) return whole;
    size_t drop = attempt->exact ? 0 : llmgwi_engine_repeats(attempt, whole);
    if (drop == SIZE_MAX || (drop >= n && !whole)) return false;
    bool space = drop >= n || memchr(" \n\r\t", text[kept + drop], 4) != NULL;
    if (!llmgwi_dialect_splice(answer, kept, drop, space ? "" : attempt->call->gap))
        llmgwi_engine_no_room(attempt);
    attempt->seam = false;
    return true;
}

/* Makes an event of the text that may be shown by now. whole: no more text comes before what follows. */
static void llmgwi_engine_flush_text(llmgwi_engine_attempt *attempt, bool whole) {
    llmgwi_dialect_answer *answer = &attempt->answer;
    llmgwi_engine_event event;
    if (attempt->call->whole || (attempt->seam && !llmgwi_engine_join(attempt, whole))) return;
    size_t upto = answer->text.n;
    const char *text = llmgwi_base_buf_cstr(&answer->text);
    if (attempt->call->request->whole_sentences && !whole)
        upto = llmgwi_text_sentences_feed(&attempt->sentences, text, upto, false);
    if (upto <= attempt->text_at) return;
    memset(&event, 0, sizeof event);
    event.kind = LLMGW_EVENT_TEXT;
    event.text_len = upto - attempt->text_at;
    attempt->seen_text = true;
    if (llmgwi_engine_emit(attempt, event, text + attempt->text_at, "", "")) attempt->text_at = upto;
}

/* A first attempt's time until its first token, or so far if it was beaten: what a hedge waits for. */
static void llmgwi_engine_time_route(const llmgwi_engine_attempt *attempt) {
    const llmgwi_engine_call *call = attempt->call;
    const llmgw_trace *item = &call->reply->trace[attempt->trace_at];
    int64_t us =
        item->first_token_us ? item->first_token_us : llmgwi_engine_now(call->gw) - attempt->began_us;
    if (call->own_route && attempt->epoch == 1)
        llmgwi_health_histogram_record(&call->own_route->latency[call->request->stream], us);
}

/* Ends the other attempts of a call: this one has won. */
static void llmgwi_engine_beat(llmgwi_engine_attempt *winner) {
    llmgwi_engine_call *call = winner->call;
    for (llmgwi_engine_attempt *other = call->attempts, *next; other; other = next) {
        next = other->next;
        if (other == winner) continue;
        llmgwi_engine_time_route(other);
        llmgwi_engine_lose(other, LLMGW_E_CANCELLED, "another attempt was first");
    }
    call->wanted = 1;
    call->hedge_us = LLMGWI_BASE_NEVER;
}

/* From now on this attempt's events are the caller's. */
static void llmgwi_engine_claim(llmgwi_engine_attempt *attempt) {
    llmgwi_engine_call *call = attempt->call;
    if (attempt->shown) return;
    llmgwi_engine_beat(attempt);
    attempt->shown = call->visible = true;
    llmgwi_base_buf_free(&call->stash);
    attempt->release_us = LLMGWI_BASE_NEVER;
    if (llmgwi_engine_push_held(call, &attempt->held)) return;
    attempt->text_at = attempt->kept; /* the caller has nothing of it */
    llmgwi_engine_no_room(attempt);
}

/* Shows an attempt's events if they were held back long enough: an error just after the start shall fail
   over unseen. In a race the first text or tool decides, not the first reasoning. */
static void llmgwi_engine_consider(llmgwi_engine_attempt *attempt, int64_t now) {
    llmgwi_engine_call *call = attempt->call;
    const llmgw_options *options = &attempt->gw->config.options;
    if (attempt->shown || !attempt->held.n) return;
    bool full = attempt->held.n > options->max_queue_bytes;
    if (call->running > 1 && !attempt->seen_text && !full) return;
    bool enough = options->hold_bytes < 0 || attempt->held_bytes >= (size_t)options->hold_bytes;
    if (enough || full || attempt->ripe || options->hold_ms < 0) {
        llmgwi_engine_claim(attempt);
    } else if (attempt->release_us == LLMGWI_BASE_NEVER) {
        attempt->release_us = now + (int64_t)options->hold_ms * 1000;
        llmgwi_engine_attempt_wake(attempt);
    }
}

/* More of the answer, from the dialect. */
static void llmgwi_engine_on_piece(void *user, llmgw_event_kind kind, const llmgwi_dialect_piece *piece,
                                   int tool_index, llmgwi_base_str bytes) {
    llmgwi_engine_attempt *attempt = (llmgwi_engine_attempt *)user;
    llmgwi_engine_call *call = attempt->call;
    llmgwi_engine_event event;
    llmgw_trace *trace = &call->reply->trace[attempt->trace_at];
    if (attempt->state == LLMGWI_ENGINE_SENT) {
        if (attempt->gw->config.options.min_bytes_per_s > 0)
            attempt->rate_us = attempt->last_us + LLMGWI_ENGINE_RATE_US;
        llmgwi_engine_attempt_enter(attempt, LLMGWI_ENGINE_ANSWERING, attempt->last_us);
    }
    if (!trace->first_token_us) trace->first_token_us = attempt->last_us - attempt->began_us;
    if (call->whole) return;
    llmgwi_engine_flush_text(attempt, kind != LLMGW_EVENT_TEXT);
    if (kind != LLMGW_EVENT_TEXT) {
        memset(&event, 0, sizeof event);
        event.kind = kind;
        event.text_len = bytes.n;
        event.tool_index = tool_index;
        if (kind == LLMGW_EVENT_TOOL) {
            event.id_len = strlen(piece->id);
            event.name_len = strlen(piece->name);
            attempt->seen_text = true;
        }
        (void)llmgwi_engine_emit(attempt, event, bytes.p, piece->id, piece->name);
    }
    llmgwi_engine_consider(attempt, attempt->last_us);
}

/* ---- attempts: what they cost ---- */

static llmgw_cost llmgwi_engine_cost(const llmgwi_config_target *target, const llmgw_usage *usage) {
    llmgwi_price_what what;
    what.own = &target->price;
    what.flavour = target->provider->listed ? target->provider->flavour : NULL;
    what.model = target->model;
    llmgw_cost cost = llmgwi_price_cost(&what, usage);
    cost.estimated = usage->estimated;
    return cost;
}

/* Tokens of what came in the present attempt. */
static int64_t llmgwi_engine_tokens_out(const llmgwi_engine_attempt *attempt) {
    const llmgwi_dialect_answer *answer = &attempt->answer;
    const char *text = llmgwi_base_buf_cstr(&answer->text);
    size_t kept = attempt->kept < answer->text.n ? attempt->kept : answer->text.n;
    int64_t tokens = llmgwi_text_tokens(text + kept, answer->text.n - kept) +
                     llmgwi_text_tokens(llmgwi_base_buf_cstr(&answer->reasoning), answer->reasoning.n);
    for (size_t i = 0; i < answer->piece_count; i++)
        tokens += llmgwi_text_tokens(llmgwi_base_buf_cstr(&answer->pieces[i].arguments),
                                     answer->pieces[i].arguments.n);
    return tokens;
}

/* What an attempt that did not end well has used, as far as it can be known: what came so far is not the
   bill. */
static llmgw_usage llmgwi_engine_estimate(const llmgwi_engine_attempt *attempt) {
    llmgw_usage usage = attempt->answer.usage;
    int64_t out = llmgwi_engine_tokens_out(attempt);
    if (!usage.known) usage.input = attempt->tokens_in;
    if (usage.output < out) usage.output = out;
    usage.known = usage.estimated = true;
    return usage;
}

/* Closes an attempt's item in the trace. */
static void llmgwi_engine_close_trace(llmgwi_engine_attempt *attempt, llmgw_code code, const char *reason) {
    llmgwi_engine_call *call = attempt->call;
    llmgw_trace *item = &call->reply->trace[attempt->trace_at];
    const llmgwi_config_target *target = &call->targets[attempt->target];
    char line[sizeof item->reason];
    unsigned what = llmgwi_health_what(code, 0);
    bool refused = item->http_status && (item->http_status < 200 || item->http_status > 299);
    bool blank = !item->first_token_us && what && !(what & LLMGWI_HEALTH_COSTS) && code != LLMGW_E_NETWORK;
    item->duration_us = llmgwi_engine_now(call->gw) - attempt->began_us;
    item->code = code;
    item->usage = attempt->answer.usage;
    bool free = !item->sent || refused || (code && blank); /* the provider did no work */
    if (code && !attempt->answer.finished && !free) item->usage = llmgwi_engine_estimate(attempt);
    if (free) item->usage.known = false;
    item->cost = llmgwi_engine_cost(target, &item->usage);
    if (free) item->cost.known = true;
    snprintf(line, sizeof line, "%s%s", attempt->hedge ? "hedge: " : "", reason);
    llmgwi_engine_reason(call, item, line);
}

/* ---- attempts: their end ---- */

/* Retry-After holds for the lane also when the attempt it was told to has lost or was cancelled meanwhile. */
static int64_t llmgwi_engine_heed(llmgwi_engine_attempt *attempt, int64_t retry_ms) {
    int64_t most_ms = attempt->gw->config.options.retry_after_max_ms;
    int64_t until_us = llmgwi_engine_now(attempt->gw) + (retry_ms < most_ms ? retry_ms : most_ms) * 1000;
    if (retry_ms > 0 && attempt->lane->not_before_us < until_us) attempt->lane->not_before_us = until_us;
    return until_us;
}

/* Takes the place of an attempt in the limits of concurrency, or gives it back. */
static void llmgwi_engine_places(llmgwi_engine_attempt *attempt, int64_t count) {
    llmgw *gw = attempt->gw;
    llmgwi_base_lock(&gw->lock);
    gw->accounts[attempt->at->provider->lane_at + attempt->key].limits.in_flight += count;
    if (attempt->at->limits) attempt->at->limits->in_flight += count;
    attempt->at->in_flight += count;
    llmgwi_base_unlock(&gw->lock);
}

/* The end of an attempt whose item in the trace is closed: settled, and no longer the call's. Its transfer is
   stopped now or, inside an upcall, at the end of the turn; its memory goes then. */
static void llmgwi_engine_over(llmgwi_engine_attempt *attempt, llmgw_code code) {
    llmgwi_engine_call *call = attempt->call;
    llmgw *gw = attempt->gw;
    int status = call->reply->trace[attempt->trace_at].http_status;
    if (code && status / 100 != 2) (void)llmgwi_engine_heed(attempt, attempt->meta.retry_after_ms);
    llmgwi_engine_settle(attempt, code, llmgwi_engine_now(gw));
    llmgwi_engine_push_try(call, attempt);
    llmgwi_engine_attempt **at = &call->attempts;
    while (*at != attempt) at = &(*at)->next;
    *at = attempt->next;
    call->running--;
    attempt->call = NULL;
    if (attempt->transfer && !gw->in_http) {
        gw->http.cancel(gw->http.self, attempt->transfer);
        attempt->transfer = NULL;
    }
    attempt->lingers = attempt->transfer != NULL;
    if (attempt->lingers) llmgwi_engine_places(attempt, 1);
    attempt->state = LLMGWI_ENGINE_OVER;
    llmgwi_engine_timer_done(gw, &attempt->timer);
    attempt->next = gw->given_up;
    gw->given_up = attempt;
}

/* An attempt of which nothing is kept. */
static void llmgwi_engine_lose(llmgwi_engine_attempt *attempt, llmgw_code code, const char *reason) {
    attempt->call->plan.tries[attempt->target]--; /* it has not failed */
    llmgwi_engine_close_trace(attempt, code, reason);
    llmgwi_engine_over(attempt, code);
}

static void llmgwi_engine_attempt_free(llmgwi_engine_attempt *attempt) {
    llmgw *gw = attempt->gw;
    llmgwi_engine_timer_done(gw, &attempt->timer);
    llmgwi_base_buf_free(&attempt->body);
    llmgwi_base_buf_free(&attempt->url);
    llmgwi_base_buf_free(&attempt->raw);
    llmgwi_base_buf_free(&attempt->held);
    llmgwi_frame_free(&attempt->frame);
    llmgwi_dialect_answer_free(&attempt->answer);
    llmgwi_base_free(&gw->mem, attempt, sizeof *attempt);
}

/* Stops what was given up. Not inside an upcall. */
static void llmgwi_engine_reap(llmgw *gw) {
    while (gw->given_up) {
        llmgwi_engine_attempt *attempt = gw->given_up;
        gw->given_up = attempt->next;
        if (attempt->transfer) gw->http.cancel(gw->http.self, attempt->transfer);
        if (attempt->lingers) llmgwi_engine_places(attempt, -1);
        if (attempt->lingers) gw->freed = true;
        llmgwi_engine_attempt_free(attempt);
    }
}

/* Takes an answer over into the reply. */
static void llmgwi_engine_move_answer(llmgwi_engine_attempt *attempt) {
    llmgwi_engine_call *call = attempt->call;
    llmgwi_dialect_answer *to = &call->reply->answer;
    llmgwi_dialect_answer_free(to);
    *to = attempt->answer;
    to->sink = NULL;
    to->target = NULL; /* it is the attempt's */
    memset(&attempt->answer, 0, sizeof attempt->answer);
    call->tried = attempt->target;
    call->answered = attempt->epoch;
}

/* An attempt did not end well: what the caller has of it, or would have if it stays the last, is kept. */
static void llmgwi_engine_keep_answer(llmgwi_engine_attempt *attempt) {
    llmgwi_engine_call *call = attempt->call;
    llmgwi_dialect_answer *answer = &attempt->answer;
    call->tried = attempt->target;
    if (call->visible && !attempt->shown) return;          /* the caller has an earlier one's text */
    if (!call->whole && attempt->text_at < answer->text.n) /* a sentence that was not whole */
        (void)llmgwi_dialect_splice(answer, attempt->text_at, answer->text.n - attempt->text_at, "");
    if (!attempt->shown) {
        llmgwi_base_buf_free(&call->stash);
        call->stash = attempt->held;
        memset(&attempt->held, 0, sizeof attempt->held);
    }
    llmgwi_engine_move_answer(attempt);
}

/* Ends all attempts of a call. */
static void llmgwi_engine_stop_all(llmgwi_engine_call *call, llmgw_code code, const char *text) {
    while (call->attempts) {
        llmgwi_engine_attempt *attempt = call->attempts;
        llmgwi_engine_close_trace(attempt, code, text);
        llmgwi_engine_keep_answer(attempt);
        llmgwi_engine_over(attempt, code);
    }
}

/* Ends a call that will not be answered. */
static void llmgwi_engine_end_badly(llmgwi_engine_call *call, const llmgw_error *error) {
    llmgw_error why = *error;
    if (!llmgwi_engine_push_held(call, &call->stash)) { /* then the reply does not say it either */
        (void)llmgwi_dialect_splice(&call->reply->answer, 0, call->reply->answer.text.n, "");
        if (!why.code) (void)llmgwi_base_error(&why, LLMGW_E_MEMORY, "out of memory for events");
    }
    llmgwi_engine_end(call, &why);
}

/* ---- attempts: failure ---- */

/* The error of a failed attempt as the call would tell it. */
static void llmgwi_engine_note_error(llmgwi_engine_attempt *attempt, const llmgw_error *why,
                                     int64_t retry_ms) {
    llmgwi_engine_call *call = attempt->call;
    const llmgwi_config_target *target = &call->targets[attempt->target];
    (void)llmgwi_base_error(&call->last, why->code, "%.64s/%.80s: %s", target->provider->name, target->model,
                            why->text);
    bool absent = why->code == LLMGW_E_NETWORK || why->code == LLMGW_E_TIMEOUT_CONNECT;
    size_t end = strlen(call->last.text);
    if (target->provider->discovered && absent && end + 64 < sizeof call->last.text)
        snprintf(call->last.text + end, sizeof call->last.text - end, "; is Ollama running at %.40s?",
                 target->provider->url);
    call->last.http_status = why->http_status;
    if (attempt->meta.should_retry) call->last.retryable = attempt->meta.should_retry > 0;
    call->last.retry_after_ms = retry_ms;
}

/* The key is left alone: everywhere, or with a 403 for this model only. */
static void llmgwi_engine_bury_key(llmgwi_engine_attempt *attempt, const llmgw_error *why, int64_t retry_ms,
                                   int64_t now) {
    llmgw *gw = attempt->gw;
    llmgwi_engine_target *target = attempt->call->states[attempt->target];
    llmgwi_engine_dead *dead = why->http_status == 403
                                   ? &target->lanes[attempt->key].dead
                                   : &gw->accounts[target->provider->lane_at + attempt->key].dead;
    char line[256];
    if (now < dead->until_us) return; /* by another attempt that was under way */
    int64_t first = (int64_t)gw->config.options.key_dead_ms * 1000;
    dead->for_us = dead->for_us ? dead->for_us * 2 : first;
    if (dead->for_us > LLMGWI_ENGINE_KEY_DEAD_MAX_US) dead->for_us = LLMGWI_ENGINE_KEY_DEAD_MAX_US;
    if (dead->for_us < first) dead->for_us = first;
    dead->until_us = now + (retry_ms * 1000 > dead->for_us ? retry_ms * 1000 : dead->for_us);
    dead->code = why->code;
    snprintf(line, sizeof line, "%.64s: key %lu was refused (%s) and is left alone for %lld s",
             target->provider->name, (unsigned long)attempt->key + 1,
             why->code == LLMGW_E_QUOTA ? "quota" : "not valid",
             (long long)((dead->until_us - now) / 1000000));
    llmgwi_engine_log(gw, LLMGW_LOG_KEY_DEAD, line);
}

static bool llmgwi_engine_bad_key(const llmgwi_engine_call *call, size_t i, size_t key) {
    return call->bad_target == i && (call->bad_keys >> key & 1);
}

/* Is there another key of a target that may be used now? */
static bool llmgwi_engine_other_key(llmgwi_engine_call *call, size_t i, size_t but, int64_t now) {
    const llmgwi_engine_target *target = call->states[i];
    call->bad_keys = (call->bad_target == i ? call->bad_keys : 0) | 1u << but;
    call->bad_target = i;
    for (size_t key = 0; key < target->provider->key_count; key++) {
        const llmgwi_engine_account *account = &call->gw->accounts[target->provider->lane_at + key];
        const llmgwi_engine_lane *lane = &target->lanes[key];
        if (!llmgwi_engine_bad_key(call, i, key) && account->dead.until_us <= now &&
            lane->dead.until_us <= now && lane->not_before_us <= now)
            return true;
    }
    return false;
}

/* What the failure means for the call's further way. */
static void llmgwi_engine_plan_on(llmgwi_engine_attempt *attempt, const llmgw_error *why, int64_t now) {
    llmgwi_engine_call *call = attempt->call;
    size_t target = attempt->target;
    unsigned what = llmgwi_health_what(why->code, attempt->meta.should_retry);
    if (attempt->prefill && llmgwi_dialect_refuses_prefill(why->http_status, why->text)) {
        call->no_prefill = call->on_turn = true; /* the same again, asking in a turn of its own */
        call->plan.tries[target]--;
    } else if ((what & LLMGWI_HEALTH_KEY) && llmgwi_engine_other_key(call, target, attempt->key, now)) {
        call->on_turn = true;
        call->plan.tries[target]--;
    } else {
        llmgwi_route_failed(&call->plan, target, what);
    }
    if (call->hedged) call->wanted = 1;
}

/* A stream that was shown broke: where can it go on? */
static void llmgwi_engine_find_seam(llmgwi_engine_attempt *attempt, const llmgw_error *why) {
    llmgwi_engine_call *call = attempt->call;
    const llmgwi_dialect_answer *answer = &attempt->answer;
    const char *text = llmgwi_base_buf_cstr(&answer->text);
    size_t n = answer->text.n, gap = 0;
    bool fit = call->request->stream && !call->request->schema && call->resumes < call->max_resumes &&
               why->code != LLMGW_E_INVALID && why->code != LLMGW_E_TOO_LARGE && n;
    llmgwi_text_sentences sentences;
    call->must_rewind = true;
    if (fit && attempt->seam) return; /* it has shown no text: what was kept before it is kept */
    call->kept = 0;
    call->gap[0] = 0;
    call->went_on = false;
    if (!fit) return;
    llmgwi_text_sentences_init(&sentences);
    call->kept = llmgwi_text_sentences_feed(&sentences, text, n, false);
    if (answer->tool_count) /* the text before a tool call is whole */
        for (call->kept = attempt->text_at; call->kept && memchr(" \n\r\t", text[call->kept - 1], 4);)
            call->kept--;
    if (call->kept > attempt->text_at) call->kept = attempt->text_at; /* what is behind was not shown */
    while (call->kept + gap < n && gap + 1 < sizeof call->gap &&
           memchr(" \n\r\t", text[call->kept + gap], 4)) {
        call->gap[gap] = text[call->kept + gap];
        gap++;
    }
    call->gap[gap] = 0;
    call->went_on = call->kept + gap < n;
}

/* The attempt failed: note it, then go on with another or end. */
static void llmgwi_engine_failed(llmgwi_engine_attempt *attempt, const llmgw_error *why) {
    llmgwi_engine_call *call = attempt->call;
    llmgw *gw = call->gw;
    int64_t now = llmgwi_engine_now(gw), most_ms = gw->config.options.retry_after_max_ms;
    int64_t retry_ms = why->retry_after_ms;
    if (!retry_ms && why->code == LLMGW_E_RATE_LIMITED && gw->config.options.backoff_ms > 0)
        (void)llmgwi_engine_heed(attempt, gw->config.options.backoff_ms); /* for other calls too */
    llmgw_error told = *why;
    llmgwi_config_redact(&gw->config, told.text);
    if (retry_ms > most_ms) retry_ms = most_ms;
    llmgwi_engine_note_error(attempt, &told, retry_ms);
    llmgwi_engine_log(gw, LLMGW_LOG_ATTEMPT_FAILED, call->last.text);
    llmgwi_engine_close_trace(attempt, why->code, told.text);
    llmgwi_engine_target *target = call->states[attempt->target];
    int64_t until_us = llmgwi_engine_heed(attempt, retry_ms);
    if (llmgwi_health_what(why->code, 0) & LLMGWI_HEALTH_DEAD)
        llmgwi_engine_bury_key(attempt, why, retry_ms, now);
    llmgwi_engine_plan_on(attempt, &told, now);
    if (attempt->shown) llmgwi_engine_find_seam(attempt, why);
    llmgwi_engine_keep_answer(attempt);
    llmgwi_engine_over(attempt, why->code);
    llmgwi_base_lock(&gw->lock);
    llmgwi_health_breaker_extend(&target->breaker, until_us);
    llmgwi_base_unlock(&gw->lock);
    if (!call->running) llmgwi_engine_enter(call, LLMGWI_ENGINE_WAITING);
    llmgwi_engine_advance(call);
}

/* ---- attempts: success ---- */

/* The caller's own check, on a reply that is there for it alone. */
static bool llmgwi_engine_ask_caller(llmgwi_engine_attempt *attempt) {
    llmgwi_engine_call *call = attempt->call;
    const llmgwi_config_target *target = &call->targets[attempt->target];
    llmgwi_engine_reply shown; /* no refs: keep and free leave it alone */
    llmgw_reply *reply = &shown.pub;
    llmgwi_base_arena arena;
    bool in_log = llmgwi_engine_in_log;
    memset(&shown, 0, sizeof shown);
    llmgwi_base_arena_init(&arena, &call->gw->mem);
    llmgwi_engine_show(reply, &attempt->answer);
    reply->provider = target->provider->name;
    reply->model = target->model;
    reply->epoch = attempt->epoch;
    reply->attempts = (int)call->epoch;
    bool valid = llmgwi_engine_export(reply, &arena, &attempt->answer, target->provider->flavour);
    if (valid) {
        llmgwi_engine_in_callback++;
        llmgwi_engine_in_log = true; /* this thread drives: it must not wait for itself */
        valid = call->request->is_valid(reply, call->request->user);
        llmgwi_engine_in_log = in_log;
        llmgwi_engine_in_callback--;
    }
    llmgwi_base_arena_free(&arena);
    return valid;
}

/* Is a whole answer what was asked for? */
static bool llmgwi_engine_valid(llmgwi_engine_attempt *attempt, llmgw_error *why) {
    llmgwi_engine_call *call = attempt->call;
    const llmgwi_dialect_answer *answer = &attempt->answer;
    char wrong[160] = "";
    const char *text = "the caller's is_valid said no";
    bool refused = answer->refusal.n || answer->finish == LLMGW_FINISH_FILTER;
    llmgwi_base_str json = llmgwi_schema_unfence(llmgwi_base_buf_str(&answer->text));
    if (attempt->kept && call->went_on && answer->text.n == attempt->kept && !answer->tool_count)
        text = "the continuation of a cut answer is empty";
    else if ((call->valid & LLMGW_VALID_NOT_EMPTY) && !answer->text.n && !answer->tool_count)
        text = "the answer is empty";
    else if ((call->valid & LLMGW_VALID_NOT_REFUSED) && refused)
        text = "the model refused to answer";
    else if ((call->valid & LLMGW_VALID_SCHEMA) && call->request->schema && !answer->tool_count && !refused &&
             !llmgwi_schema_valid(llmgwi_base_cstr(call->request->schema), json,
                                  call->gw->config.options.max_json_depth, wrong, sizeof wrong))
        text = wrong;
    else if (!call->request->is_valid || llmgwi_engine_ask_caller(attempt))
        return true;
    (void)llmgwi_base_error(why, LLMGW_E_INVALID, "%s", text);
    return false;
}

/* A key that works is not dead. */
static void llmgwi_engine_revive_key(llmgwi_engine_attempt *attempt) {
    llmgwi_engine_target *target = attempt->call->states[attempt->target];
    attempt->gw->accounts[target->provider->lane_at + attempt->key].dead.for_us = 0;
    target->lanes[attempt->key].dead.for_us = 0;
}

static void llmgwi_engine_succeeded(llmgwi_engine_attempt *attempt) {
    llmgwi_engine_call *call = attempt->call;
    llmgw_error why;
    memset(&why, 0, sizeof why);
    llmgwi_dialect_settle(&attempt->answer);
    if (attempt->answer.error.code)
        why = attempt->answer.error;
    else
        llmgwi_engine_flush_text(attempt, true);
    if (!why.code && llmgwi_engine_valid(attempt, &why) && !call->whole) llmgwi_engine_claim(attempt);
    if (!why.code) why = attempt->stop;
    if (why.code) {
        llmgwi_engine_failed(attempt, &why);
        return;
    }
    llmgwi_engine_beat(attempt);
    llmgwi_engine_time_route(attempt);

    llmgwi_engine_revive_key(attempt);
    llmgwi_engine_close_trace(attempt, LLMGW_OK, "answered");
    llmgwi_engine_move_answer(attempt);
    llmgwi_engine_over(attempt, LLMGW_OK);
    llmgwi_engine_end(call, NULL);
}

/* ---- attempts: upcalls of http ---- */

static bool llmgwi_engine_on_event(void *user, llmgwi_base_str name, llmgwi_base_str data) {
    llmgwi_engine_attempt *attempt = (llmgwi_engine_attempt *)user;
    llmgwi_dialect_answer *answer = &attempt->answer;
    const llmgwi_dialect *dialect = attempt->call->targets[attempt->target].provider->dialect;
    if (answer->ended) return true; /* after the terminator nothing counts */
    if (!dialect->event(answer, name, data)) return false;
    if (answer->ended && attempt->state != LLMGWI_ENGINE_CLOSING)
        llmgwi_engine_attempt_enter(attempt, LLMGWI_ENGINE_CLOSING, attempt->last_us);
    return !attempt->stop.code;
}

static bool llmgwi_engine_on_sent(void *user) {
    llmgwi_engine_attempt *attempt = (llmgwi_engine_attempt *)user;
    if (!attempt->call) return false; /* given up: what it had reserved is given back already */
    attempt->call->reply->trace[attempt->trace_at].sent = true;
    attempt->last_us = llmgwi_engine_now(attempt->gw);
    llmgwi_engine_retake(attempt, attempt->last_us);
    llmgwi_engine_attempt_enter(attempt, LLMGWI_ENGINE_SENT, attempt->last_us);
    return true;
}

static void llmgwi_engine_on_header(void *user, llmgwi_base_str name, llmgwi_base_str value) {
    llmgwi_engine_attempt *attempt = (llmgwi_engine_attempt *)user;
    llmgw *gw = attempt->gw;
    llmgwi_dialect_header(&attempt->meta, name, value, gw->clock.wall_s(gw->clock.user));
}

/* Is the queue of events so full that the transfer must wait for the caller? */
static bool llmgwi_engine_full(llmgwi_engine_attempt *attempt) {
    llmgwi_engine_call *call = attempt->call;
    llmgw *gw = call->gw;
    if (!call->events) return false;
    llmgwi_base_lock(&gw->lock);
    bool full = call->queue.n > gw->config.options.max_queue_bytes;
    if (full) call->paused = attempt->paused = true;
    llmgwi_base_unlock(&gw->lock);
    return full;
}

/* Bytes of a stream. */
static int llmgwi_engine_stream(llmgwi_engine_attempt *attempt, const char *p, size_t n) {
    if (attempt->answer.ended) return LLMGWI_HTTP_GO;
    if (llmgwi_frame_feed(&attempt->frame, p, n)) return LLMGWI_HTTP_GO;
    if (!attempt->stop.code && attempt->answer.error.code) attempt->stop = attempt->answer.error;
    if (!attempt->stop.code) {
        bool cap = attempt->frame.line.failed == LLMGWI_BASE_OVER_CAP ||
                   attempt->frame.data.failed == LLMGWI_BASE_OVER_CAP;
        (void)llmgwi_base_error(&attempt->stop, cap ? LLMGW_E_TOO_LARGE : LLMGW_E_MEMORY,
                                cap ? "an event of the stream is larger than max_event_bytes"
                                    : "out of memory for the stream");
    }
    return LLMGWI_HTTP_STOP;
}

static int llmgwi_engine_on_body(void *user, int status, const char *p, size_t n) {
    llmgwi_engine_attempt *attempt = (llmgwi_engine_attempt *)user;
    llmgwi_engine_call *call = attempt->call;
    if (!call || attempt->stop.code) return LLMGWI_HTTP_STOP;
    llmgw_trace *trace = &call->reply->trace[attempt->trace_at];
    bool good = status >= 200 && status < 300;
    if (good && attempt->shown && llmgwi_engine_full(attempt)) return LLMGWI_HTTP_PAUSE;
    attempt->last_us = llmgwi_engine_now(attempt->gw);
    trace->http_status = status;
    if (!trace->first_byte_us) trace->first_byte_us = attempt->last_us - attempt->began_us;
    attempt->framed = good && call->request->stream && !attempt->meta.json && !attempt->meta.html;
    if (attempt->framed) return llmgwi_engine_stream(attempt, p, n);
    if (attempt->state == LLMGWI_ENGINE_SENT)
        llmgwi_engine_attempt_enter(attempt, LLMGWI_ENGINE_ANSWERING, attempt->last_us);
    if (good || attempt->raw.n + n <= LLMGWI_ENGINE_ERROR_BYTES)
        llmgwi_base_buf_add(&attempt->raw, p, n);
    else
        return LLMGWI_HTTP_STOP; /* enough to see what is wrong */
    if (!attempt->raw.failed) return LLMGWI_HTTP_GO;
    bool cap = attempt->raw.failed == LLMGWI_BASE_OVER_CAP;
    (void)llmgwi_base_error(&attempt->stop, cap ? LLMGW_E_TOO_LARGE : LLMGW_E_MEMORY,
                            cap ? "the reply is larger than max_reply_bytes" : "out of memory for the reply");
    return LLMGWI_HTTP_STOP;
}

/* The transfer of a good status is over: what is wrong with it? */
static void llmgwi_engine_judge(llmgwi_engine_attempt *attempt, const llmgwi_http_result *result,
                                llmgw_error *why) {
    llmgwi_dialect_answer *answer = &attempt->answer;
    const llmgwi_dialect *dialect = attempt->call->targets[attempt->target].provider->dialect;
    attempt->framed = attempt->call->request->stream && !attempt->meta.json &&
                      !attempt->meta.html; /* also without a byte */
    if (attempt->stop.code) {
        *why = attempt->stop;
    } else if (attempt->framed && result->code == LLMGW_OK && !answer->ended) {
        bool fed = llmgwi_frame_finish(&attempt->frame);
        if (!fed && answer->error.code == LLMGW_E_PROTOCOL) { /* a torn last event: cut, so is its usage */
            memset(&answer->error, 0, sizeof answer->error);
            answer->usage = llmgwi_engine_estimate(attempt);
        }
        if (answer->error.code) *why = answer->error;
    }
    if (!why->code && attempt->stop.code) *why = attempt->stop;
    if (why->code || (attempt->framed && llmgwi_dialect_complete(dialect, answer))) return;
    if (result->code) {
        (void)llmgwi_base_error(why, result->code, "%s", result->text);
    } else if (attempt->framed) {
        (void)llmgwi_base_error(why, LLMGW_E_TRUNCATED, "the stream ended without its last event");
    } else if (attempt->meta.html) {
        (void)llmgwi_base_error(why, LLMGW_E_PROTOCOL, "the reply is a web page, not JSON");
    } else if (!dialect->reply(answer, llmgwi_base_buf_str(&attempt->raw))) {
        *why = answer->error;
    } else if (attempt->stop.code) { /* its events found no place */
        *why = attempt->stop;
    }
}

static void llmgwi_engine_on_done(void *user, const llmgwi_http_result *result) {
    llmgwi_engine_attempt *attempt = (llmgwi_engine_attempt *)user;
    llmgw_error why;
    memset(&why, 0, sizeof why);
    attempt->transfer = NULL;
    if (!attempt->call && result->status / 100 != 2)
        (void)llmgwi_engine_heed(attempt, attempt->meta.retry_after_ms);
    if (!attempt->call) return;
    llmgw_trace *trace = &attempt->call->reply->trace[attempt->trace_at];
    attempt->last_us = llmgwi_engine_now(attempt->gw);
    trace->http_status = result->status;
    trace->http_version = result->version;
    if (result->status && (result->status < 200 || result->status > 299)) {
        llmgwi_dialect_error(&why, result->status, llmgwi_base_buf_str(&attempt->raw),
                             attempt->gw->config.options.max_json_depth);
        if (result->status < 400)
            (void)llmgwi_base_error(&why, LLMGW_E_PROTOCOL, "HTTP %d: a redirect, which is not followed",
                                    result->status);
    } else {
        llmgwi_engine_judge(attempt, result, &why);
    }
    if (why.code) why.http_status = result->status;
    if (why.code) llmgwi_dialect_weigh(&why, &attempt->meta);
    if (why.code)
        llmgwi_engine_failed(attempt, &why);
    else
        llmgwi_engine_succeeded(attempt);
}

static const llmgwi_http_events llmgwi_engine_upcalls = {llmgwi_engine_on_sent, llmgwi_engine_on_header,
                                                         llmgwi_engine_on_body, llmgwi_engine_on_done};

/* ---- attempts: their beginning ---- */

/* What the caller has of a cut stream is taken back to where the next attempt goes on. */
static void llmgwi_engine_rewind(llmgwi_engine_call *call, llmgwi_engine_attempt *attempt) {
    llmgwi_engine_event event;
    llmgwi_engine_reply *reply = call->reply;
    llmgwi_dialect_answer kept;
    size_t reasoning = call->kept ? reply->answer.reasoning.n : 0;
    bool same = call->kept && call->kept == reply->answer.text.n && !reply->answer.tool_count;
    llmgwi_dialect_answer_init(&kept, &reply->mem, &attempt->wire,
                               attempt->gw->config.options.max_reply_bytes,
                               attempt->gw->config.options.max_json_depth);
    memset(&event, 0, sizeof event);
    event.kind = LLMGW_EVENT_REWIND;
    event.epoch = attempt->epoch;
    event.keep = call->kept;
    event.keep_reasoning = reasoning;
    if (!llmgwi_dialect_keep(&kept, llmgwi_base_view(llmgwi_base_buf_cstr(&reply->answer.text), call->kept),
                             llmgwi_base_view(llmgwi_base_buf_cstr(&reply->answer.reasoning), reasoning)) ||
        (!same && !llmgwi_engine_push(call, event, "", "", ""))) {
        llmgwi_engine_no_room(attempt); /* nothing was taken back: the reply still says what the caller has */
        llmgwi_dialect_answer_free(&kept);
        return;
    }
    kept.target = NULL;
    llmgwi_dialect_answer_free(&reply->answer);
    reply->answer = kept;
    call->must_rewind = false;
    if (call->kept) call->resumes++;
}

/* Writes the request of an attempt. False: attempt->stop says why not. */
static bool llmgwi_engine_write(llmgwi_engine_attempt *attempt) {
    llmgwi_engine_call *call = attempt->call;
    const llmgwi_config_target *target = &call->targets[attempt->target];
    const llmgwi_dialect *dialect = target->provider->dialect;
    llmgwi_dialect_resume resume;
    attempt->wire.model = target->model;
    attempt->wire.flavour = target->provider->flavour;
    attempt->wire.quirks = target->provider->quirks;
    attempt->wire.url = target->provider->url;

    resume.text = llmgwi_base_view(llmgwi_base_buf_cstr(&call->reply->answer.text), call->kept);
    resume.turn = call->no_prefill || !llmgwi_dialect_prefills(dialect, &attempt->wire, call->request);
    attempt->prefill = call->kept && !resume.turn;
    attempt->echoes = attempt->prefill && llmgwi_dialect_echoes(dialect, &attempt->wire, call->request);
    attempt->exact = attempt->prefill && !attempt->echoes;

    if (!llmgwi_dialect_write(dialect, &attempt->wire, call->request, call->kept ? &resume : NULL,
                              &attempt->body, &attempt->stop))
        return false;
    if (!llmgwi_dialect_url(dialect, target->provider->url, target->model, call->request->stream,
                            &attempt->url))
        (void)llmgwi_base_error(&attempt->stop, LLMGW_E_MEMORY, "out of memory for the URL");
    return !attempt->stop.code;
}

/* Readies the answer that the attempt will fill, with what is kept of an earlier one. */
static void llmgwi_engine_ready_answer(llmgwi_engine_attempt *attempt) {
    llmgwi_engine_call *call = attempt->call;
    const llmgw_options *options = &attempt->gw->config.options;
    const llmgwi_dialect_answer *earlier = &call->reply->answer;
    llmgwi_dialect_answer_init(&attempt->answer, &call->reply->mem, &attempt->wire, options->max_reply_bytes,
                               options->max_json_depth);
    attempt->answer.salt = attempt->gw->clock.random(attempt->gw->clock.user);
    llmgwi_text_sentences_init(&attempt->sentences);
    if (call->kept && !llmgwi_dialect_keep(&attempt->answer, llmgwi_base_buf_str(&earlier->text),
                                           llmgwi_base_buf_str(&earlier->reasoning)))
        llmgwi_engine_no_room(attempt);
    attempt->kept = attempt->text_at = call->kept;
    attempt->seam = call->kept != 0;
    attempt->rate_bytes = attempt->answer.bytes;

    if (!call->request->stream) return;
    attempt->answer.sink = llmgwi_engine_on_piece;
    attempt->answer.sink_user = attempt;
}

static void llmgwi_engine_fire_attempt(void *owner, int64_t now);

/* An attempt of a call, not begun. NULL: out of memory. */
static llmgwi_engine_attempt *llmgwi_engine_attempt_new(llmgwi_engine_call *call, size_t target, size_t key,
                                                        int64_t now) {
    llmgw *gw = call->gw;
    const llmgw_options *options = &gw->config.options;
    llmgwi_engine_attempt *attempt = (llmgwi_engine_attempt *)llmgwi_base_zalloc(&gw->mem, sizeof *attempt);
    if (!attempt) return NULL;
    if (!llmgwi_engine_timer_init(gw, &attempt->timer, llmgwi_engine_fire_attempt, attempt)) {
        llmgwi_base_free(&gw->mem, attempt, sizeof *attempt);
        return NULL;
    }
    attempt->gw = gw;
    attempt->call = call;
    attempt->state = LLMGWI_ENGINE_CONNECTING;
    attempt->target = target;
    attempt->key = key;
    attempt->at = call->states[target];
    attempt->lane = &attempt->at->lanes[key];
    attempt->began_us = attempt->last_us = now;
    attempt->limit_us = attempt->release_us = attempt->rate_us = attempt->slow_us = LLMGWI_BASE_NEVER;
    llmgwi_base_buf_init(&attempt->body, &gw->mem, options->max_request_bytes);
    llmgwi_base_buf_init(&attempt->url, &gw->mem, 8192);
    llmgwi_base_buf_init(&attempt->raw, &gw->mem, options->max_reply_bytes);
    llmgwi_base_buf_init(&attempt->held, &gw->mem, call->queue.max);
    llmgwi_frame_init(&attempt->frame, &gw->mem, options->max_event_bytes, llmgwi_engine_on_event, attempt);
    return attempt;
}

static void llmgwi_engine_log_failover(llmgwi_engine_call *call, size_t target) {
    const llmgwi_config_target *to = &call->targets[target];
    char line[LLMGW_ERROR_TEXT + 240];
    snprintf(line, sizeof line, "attempt %u goes to %.64s/%.80s, after: %s", (unsigned)call->epoch,
             to->provider->name, to->model, call->last.code ? call->last.text : "nothing failed");
    llmgwi_engine_log(call->gw, LLMGW_LOG_FAILOVER, line);
}

/* Is there a limit of requests or tokens on it? */
static bool llmgwi_engine_counted(const llmgwi_engine_attempt *attempt) {
    const llmgwi_engine_target *target = attempt->call->states[attempt->target];
    const llmgwi_engine_limits *key = &attempt->gw->accounts[target->provider->lane_at + attempt->key].limits;
    const llmgwi_engine_limits *model = target->limits ? target->limits : key;
    return key->rpm.limit || key->tpm.limit || model->rpm.limit || model->tpm.limit;
}

/* Puts a readied attempt among the call's. */
static void llmgwi_engine_begin(llmgwi_engine_attempt *attempt, llmgw_trace *item, int64_t now) {
    llmgwi_engine_call *call = attempt->call;
    attempt->trace_at = (size_t)(item - call->reply->trace);
    attempt->epoch = item->epoch = ++call->epoch;
    attempt->next = call->attempts;
    call->attempts = attempt;
    call->running++;
    call->plan.tries[attempt->target]++;
    call->plan.waited = call->on_turn = call->served = false;
    item->duration_us = -1;
    llmgwi_engine_wait_ends(call, now);
    llmgwi_engine_take(attempt, now);
    llmgwi_engine_push_try(call, attempt);
    if (call->must_rewind)
        llmgwi_engine_rewind(call, attempt);
    else if (!call->visible && call->reply->answer.mem) /* of an attempt that nobody saw */
        llmgwi_dialect_answer_free(&call->reply->answer);
    llmgwi_base_buf_free(&call->stash);
    llmgwi_engine_ready_answer(attempt);
    if (call->state != LLMGWI_ENGINE_RUNNING) llmgwi_engine_enter(call, LLMGWI_ENGINE_RUNNING);
    int64_t limit_us = llmgwi_engine_stay(call, LLMGWI_ENGINE_CONNECTING),
            probe_us = LLMGWI_CONFIG_PROBE_MS * 1000;
    if (call->targets[attempt->target].provider->discovered && limit_us > probe_us) limit_us = probe_us;
    if (limit_us > LLMGWI_ENGINE_MINUTE_US && llmgwi_engine_counted(attempt))
        limit_us = LLMGWI_ENGINE_MINUTE_US; /* later its place in the windows is another's */
    attempt->limit_us = llmgwi_engine_after(now, limit_us);
    llmgwi_engine_attempt_wake(attempt);
}

static void *llmgwi_engine_transfer(llmgwi_engine_attempt *attempt) {
    llmgwi_engine_call *call = attempt->call;
    llmgw *gw = attempt->gw;
    const llmgwi_config_provider *provider = call->targets[attempt->target].provider;
    llmgwi_http_request request;
    memset(&request, 0, sizeof request);
    request.url = attempt->url.p;
    request.headers = gw->headers[(provider->lane_at + attempt->key) * 2 + (call->request->stream ? 1 : 0)];
    request.body = llmgwi_base_buf_cstr(&attempt->body);
    request.body_len = attempt->body.n;
    request.stream = call->request->stream;
    request.tls = provider->tls;
    request.keyed = provider->keyed;
    request.loopback = provider->loopback;
    request.events = &llmgwi_engine_upcalls;
    request.user = attempt;
    return gw->http.start(gw->http.self, &request);
}

/* Opens connections to the next targets of a route ahead of need. */
static void llmgwi_engine_standby(llmgwi_engine_call *call, int64_t now) {
    llmgw *gw = call->gw;
    int64_t fresh_us = (int64_t)gw->config.options.standby_ms * 1000;
    int left = call->route && fresh_us > 0 ? call->route->standby : 0;
    for (size_t o = 0; left > 0 && o < call->plan.count; o++) {
        size_t i = call->plan.order[o];
        const llmgwi_config_provider *provider = call->targets[i].provider;
        llmgwi_http_request request;
        if (call->plan.tries[i] || call->plan.dead[i] || provider->missing) continue;
        left--;
        if (gw->warm_us[provider->index] && gw->warm_us[provider->index] + fresh_us > now) continue;
        memset(&request, 0, sizeof request);
        request.url = provider->url;
        request.tls = provider->tls;
        request.loopback = provider->loopback;
        if (gw->http.warm(gw->http.self, &request)) gw->warm_us[provider->index] = now;
    }
}

/* Waits in line for a connection. */
static void llmgwi_engine_starve(llmgwi_engine_call *call, size_t target, int64_t now) {
    llmgw *gw = call->gw;
    llmgwi_engine_wait_begins(call, target, LLMGW_E_LIMIT, "max_connections are in use", now);
    call->starved = true;
    call->starved_next = NULL;
    call->starved_at = gw->starved_tail;
    *gw->starved_tail = call;
    gw->starved_tail = &call->starved_next;
    llmgwi_engine_wake_at(call, LLMGWI_BASE_NEVER);
}

static void llmgwi_engine_unstarve(llmgwi_engine_call *call) {
    llmgw *gw = call->gw;
    if (!call->starved) return;
    call->starved = false;
    *call->starved_at = call->starved_next;
    if (call->starved_next)
        call->starved_next->starved_at = call->starved_at;
    else
        gw->starved_tail = call->starved_at;
}

/* Begins an attempt. False: nothing was begun, another target may be. */
static bool llmgwi_engine_launch(llmgwi_engine_call *call, size_t target, size_t key, int64_t now) {
    llmgwi_engine_attempt *attempt = llmgwi_engine_attempt_new(call, target, key, now);
    if (attempt && !llmgwi_engine_write(attempt)) {
        llmgw_error why = attempt->stop;
        llmgwi_engine_skip(call, target, why.code, why.text, now);
        if (!llmgwi_health_what(why.code, 0)) llmgwi_route_failed(&call->plan, target, 0);
        llmgwi_engine_attempt_free(attempt);
        return false;
    }
    llmgw_trace *item = attempt ? llmgwi_engine_trace(call, LLMGW_TRACE_ATTEMPT, target, now) : NULL;
    if (attempt && item) attempt->transfer = llmgwi_engine_transfer(attempt);
    if (!attempt || !attempt->transfer) {
        if (item) call->reply->trace_count--;
        if (attempt) llmgwi_engine_attempt_free(attempt);
        llmgwi_engine_skip(call, target, LLMGW_E_MEMORY, "out of memory for the transfer", now);
        llmgwi_route_failed(&call->plan, target, 0);
        return false;
    }
    attempt->hedge = call->running > 0 && call->hedged;
    llmgwi_engine_begin(attempt, item, now);
    if (call->epoch > 1) llmgwi_engine_log_failover(call, target);
    if (call->running == 1) llmgwi_engine_standby(call, now);
    return true;
}

/* ---- choosing a target ---- */

/* Where a call may go, and when. */
typedef struct llmgwi_engine_choice {
    size_t target, key;
    int64_t at_us;   /* NEVER: when something in flight ends */
    llmgw_code code; /* why not now */
    const char *why;
} llmgwi_engine_choice;

static void llmgwi_engine_later(llmgwi_engine_choice *choice, int64_t at_us, llmgw_code code,
                                const char *why) {
    if (at_us <= choice->at_us) return;
    choice->at_us = at_us;
    choice->code = code;
    choice->why = why;
}

/* ahead: calls that go before this one; before: the tokens they need. */
static void llmgwi_engine_look_limits(llmgwi_engine_limits *limits, int64_t tokens, int64_t ahead,
                                      int64_t before, llmgwi_engine_choice *choice, int64_t now) {
    int64_t n = 1 + ahead; /* a request of more tokens than the limit goes when it is alone */
    if (limits->tpm.limit && tokens > limits->tpm.limit) tokens = limits->tpm.limit;
    llmgwi_engine_later(choice, llmgwi_health_window_when(&limits->rpm, now, n), LLMGW_E_LIMIT,
                        "rpm is used up");
    llmgwi_engine_later(choice, llmgwi_health_window_when(&limits->tpm, now, tokens + before), LLMGW_E_LIMIT,
                        "tpm is used up");
    llmgwi_engine_later(choice, llmgwi_health_window_when(&limits->rpd, now, n), LLMGW_E_LIMIT,
                        "rpd is used up");
    if (limits->concurrency && limits->in_flight >= limits->concurrency)
        llmgwi_engine_later(choice, LLMGWI_BASE_NEVER, LLMGW_E_LIMIT, "concurrency is used up");
}

static llmgwi_engine_line *llmgwi_engine_line_of(llmgwi_engine_call *call) {
    return call->own_route ? &call->own_route->line : &call->states[0]->line;
}

static size_t llmgwi_engine_rank(const llmgwi_engine_call *call) {
    static const size_t ranks[] = {1, 0, 2}; /* by llmgw_priority */
    return ranks[call->request->priority];
}

/* What those need who go before a call. */
static int64_t llmgwi_engine_tokens_ahead(llmgwi_engine_call *call) {
    const llmgwi_engine_line *line = llmgwi_engine_line_of(call);
    int64_t tokens = 0;
    for (size_t r = 0; r <= llmgwi_engine_rank(call); r++) tokens += line->tokens[r];
    return tokens;
}

static bool llmgwi_engine_is_dead(const llmgwi_engine_dead *dead, llmgwi_engine_choice *choice, int64_t now) {
    if (dead->until_us <= now) return false;
    choice->code = dead->code;
    choice->why = dead->code == LLMGW_E_QUOTA ? "its key's quota was used up a while ago"
                                              : "its key was refused a while ago";
    return true;
}

/* When target i may be tried, and with which key. False: with none; choice says why. Under lock. */
static bool llmgwi_engine_look(llmgwi_engine_call *call, size_t i, int64_t ahead, int64_t now,
                               llmgwi_engine_choice *choice) {
    llmgwi_engine_target *target = call->states[i];
    int64_t tokens = llmgwi_engine_reserve(call), load = 0;
    int64_t before = ahead ? llmgwi_engine_tokens_ahead(call) : 0;
    bool found = false;
    for (size_t key = 0; key < target->provider->key_count; key++) {
        llmgwi_engine_account *account = &call->gw->accounts[target->provider->lane_at + key];
        llmgwi_engine_lane *lane = &target->lanes[key];
        llmgwi_engine_choice one;
        memset(&one, 0, sizeof one);
        one.target = i;
        one.key = key;
        one.at_us = now;
        if (call->on_turn && llmgwi_engine_bad_key(call, i, key)) continue; /* another one is there */
        if (llmgwi_engine_is_dead(&account->dead, found ? &one : choice, now) ||
            llmgwi_engine_is_dead(&lane->dead, found ? &one : choice, now))
            continue;
        llmgwi_engine_later(&one, lane->not_before_us, LLMGW_E_RATE_LIMITED,
                            "it asked to wait (Retry-After), or said 429 a moment ago");
        llmgwi_engine_look_limits(&account->limits, tokens, ahead, before, &one, now);
        llmgwi_engine_later(&one, llmgwi_health_bucket_when(&lane->requests, now, 1 + ahead), LLMGW_E_LIMIT,
                            "its headers say that the requests are used up");
        llmgwi_engine_later(&one, llmgwi_health_bucket_when(&lane->tokens, now, tokens), LLMGW_E_LIMIT,
                            "its headers say that the tokens are used up");
        if (found &&
            (one.at_us > choice->at_us || (one.at_us == choice->at_us && account->limits.in_flight >= load)))
            continue;
        *choice = one;
        load = account->limits.in_flight;
        found = true;
    }
    if (!found) return false;
    if (target->limits) llmgwi_engine_look_limits(target->limits, tokens, ahead, before, choice, now);
    if (target->in_flight >= llmgwi_health_aimd_limit(&target->aimd))
        llmgwi_engine_later(choice, LLMGWI_BASE_NEVER, LLMGW_E_OVERLOADED,
                            "it is as busy as it can be (adaptive concurrency)");
    return true;
}

static bool llmgwi_engine_shut(llmgwi_engine_call *call, size_t i, int64_t now) {
    llmgwi_base_lock(&call->gw->lock);
    bool shut = !llmgwi_health_breaker_allows(&call->states[i]->breaker, now);
    llmgwi_base_unlock(&call->gw->lock);
    return shut;
}

/* Is every target of a call behind an open breaker? Under lock. */
static bool llmgwi_engine_all_open(llmgwi_engine_call *call, int64_t now) {
    for (size_t i = 0; i < call->plan.count; i++)
        if (!call->targets[i].provider->missing &&
            llmgwi_health_breaker_allows(&call->states[i]->breaker, now))
            return false;
    return true;
}

/* Has the call an attempt at this target, or, with near, at one that would fail together with it? */
static bool llmgwi_engine_busy_at(const llmgwi_engine_call *call, size_t i, bool near) {
    const llmgwi_config_provider *provider = call->targets[i].provider;
    for (const llmgwi_engine_attempt *attempt = call->attempts; attempt; attempt = attempt->next) {
        if (attempt->target == i || call->states[attempt->target] == call->states[i]) return true;
        if (near && strcmp(call->targets[attempt->target].provider->region, provider->region) == 0)
            return true;
    }
    return false;
}

/* One target as a candidate. False: it is none. */
static bool llmgwi_engine_candidate(llmgwi_engine_call *call, size_t i, int64_t ahead, int64_t now,
                                    llmgwi_engine_choice *choice) {
    char why[160];
    const llmgwi_config_provider *provider = call->targets[i].provider;
    memset(choice, 0, sizeof *choice);
    choice->target = i;
    if (provider->missing) {
        snprintf(why, sizeof why, "provider %.64s has no key: set %.64s", provider->name, provider->missing);
        llmgwi_engine_skip(call, i, LLMGW_E_NO_KEY, why, now);
        return false;
    }
    llmgwi_base_lock(&call->gw->lock);
    bool usable = llmgwi_engine_look(call, i, ahead, now, choice);
    llmgwi_base_unlock(&call->gw->lock);
    if (usable) return true;
    snprintf(why, sizeof why, "%.64s/%.64s: %s", provider->name, call->targets[i].model, choice->why);
    llmgwi_engine_skip(call, i, choice->code, why, now);
    return false;
}

/* A target behind an open breaker is better the longer ago it failed, once its Retry-After is over. */
static bool llmgwi_engine_older(const llmgwi_engine_call *call, const llmgwi_engine_choice *one,
                                const llmgwi_engine_choice *best, int64_t now) {
    if (best->target == SIZE_MAX) return true;
    bool one_now = one->at_us <= now, best_now = best->at_us <= now;
    if (one_now != best_now) return one_now;
    if (!one_now) return one->at_us < best->at_us;
    return call->states[one->target]->breaker.failed_us < call->states[best->target]->breaker.failed_us;
}

/* Chooses the next target: the first in order that may be tried now; if none may, the one that may first;
   behind open breakers only if there is no other (DESIGN, law 4). far: not one that would fail together with
   those in flight. False: none is left. */
static bool llmgwi_engine_choose(llmgwi_engine_call *call, int64_t ahead, bool far, int64_t now,
                                 llmgwi_engine_choice *best) {
    llmgwi_route_plan look = call->plan; /* those looked at are put aside in a copy */
    llmgwi_engine_choice one, passed[LLMGWI_ROUTE_TARGETS];
    size_t passed_count = 0;
    llmgwi_base_lock(&call->gw->lock);
    bool all_open = llmgwi_engine_all_open(call, now);
    llmgwi_base_unlock(&call->gw->lock);
    memset(best, 0, sizeof *best);
    best->target = SIZE_MAX;
    for (size_t i; (i = llmgwi_route_next(&look)) != SIZE_MAX; look.dead[i] = true) {
        if (llmgwi_engine_busy_at(call, i, far)) continue;
        if (!llmgwi_engine_candidate(call, i, ahead, now, &one)) continue;
        if (!all_open && llmgwi_engine_shut(call, i, now)) {
            one.code = LLMGW_E_BREAKER;
            one.why = "its circuit breaker is open";
        } else if (all_open ? llmgwi_engine_older(call, &one, best, now)
                            : best->target == SIZE_MAX || one.at_us < best->at_us) {
            *best = one;
        }
        passed[passed_count++] = one;
        if (!all_open && best->target == i && one.at_us <= now) break;
    }
    for (size_t i = 0; i < passed_count && !ahead && !call->running; i++)
        if (passed[i].target != best->target && passed[i].code)
            llmgwi_engine_pass(call, passed[i].target, passed[i].code, passed[i].why, now);
    return best->target != SIZE_MAX;
}

/* ---- waiting in line for a limit ---- */

/* Ends a call that has nothing left to try. */
static void llmgwi_engine_give_up(llmgwi_engine_call *call) {
    llmgw_error error = call->last;
    if (!error.code) (void)llmgwi_base_error(&error, LLMGW_E_MODEL, "no target could be tried");
    size_t n = strlen(error.text);
    if (call->epoch > 1 && n + 32 < sizeof error.text)
        snprintf(error.text + n, sizeof error.text - n, " (after %u attempts)", (unsigned)call->epoch);
    llmgwi_engine_end_badly(call, &error);
}

static void llmgwi_engine_leave_line(llmgwi_engine_call *call, int64_t now) {
    llmgwi_engine_line *line = call->line;
    if (!line) return;
    size_t rank = llmgwi_engine_rank(call);
    if (call->line_prev)
        call->line_prev->line_next = call->line_next;
    else
        line->head[rank] = call->line_next;
    if (call->line_next)
        call->line_next->line_prev = call->line_prev;
    else
        line->tail[rank] = call->line_prev;
    call->line = NULL;
    line->counts[rank]--;
    line->tokens[rank] -= llmgwi_engine_reserve(call);
    line->count--;
    call->gw->waiting--;
    if (line->left_us) {
        int64_t interval = now - line->left_us;
        line->interval_us = line->interval_us ? (line->interval_us * 7 + interval) / 8 : interval;
    }
    line->left_us = line->count ? now : 0;
    if (!line->count) line->interval_us = 0; /* what it was then says nothing of the next crowd */
}

/* How many calls go before one of this rank. */
static int64_t llmgwi_engine_ahead(const llmgwi_engine_line *line, size_t rank) {
    int64_t ahead = 0;
    for (size_t r = 0; r <= rank; r++) ahead += line->counts[r];
    return ahead;
}

static void llmgwi_engine_fire_line(void *owner, int64_t now) {
    llmgwi_engine_line *line = (llmgwi_engine_line *)owner;
    (void)now;
    line->gw->freed = true;
    llmgwi_engine_timer_stop(line->gw, &line->timer);
}

/* Ends a call whose turn would come too late. */
static void llmgwi_engine_refuse(llmgwi_engine_call *call, const llmgwi_engine_choice *choice, int64_t at_us,
                                 bool full, int64_t now) {
    const llmgwi_config_target *target = &call->targets[choice->target];
    llmgw_error why;
    bool told = choice->code == LLMGW_E_RATE_LIMITED;
    if (call->last.code && call->epoch) {
        why = call->last;
    } else if (told) {
        (void)llmgwi_base_error(&why, LLMGW_E_RATE_LIMITED,
                                "%.64s: it asked not to be called yet, for longer than the call's deadline",
                                target->provider->name);
    } else {
        (void)llmgwi_base_error(&why, choice->code ? choice->code : LLMGW_E_LIMIT, "%.64s/%.80s: %s, %s",
                                target->provider->name, target->model, choice->why ? choice->why : "busy",
                                full ? "and max_waiting calls wait already"
                                     : "for longer than the call's deadline");
    }
    if (at_us != LLMGWI_BASE_NEVER && at_us > now) why.retry_after_ms = (at_us - now + 999) / 1000;
    call->last = why;
    llmgwi_engine_give_up(call);
}

/* When the last of a line would go; NEVER: not known. */
static int64_t llmgwi_engine_foresee(llmgwi_engine_call *call, const llmgwi_engine_line *line, int64_t ahead,
                                     int64_t now) {
    llmgwi_engine_choice choice;
    if (!llmgwi_engine_choose(call, ahead, false, now, &choice)) return LLMGWI_BASE_NEVER;
    if (choice.at_us != LLMGWI_BASE_NEVER && choice.at_us > now) return choice.at_us;
    return ahead && line->interval_us ? now + ahead * line->interval_us : LLMGWI_BASE_NEVER;
}

/* Puts a call in line, or ends it if there is no sense in that. */
static void llmgwi_engine_join_line(llmgwi_engine_call *call, const llmgwi_engine_choice *choice,
                                    int64_t now) {
    llmgw *gw = call->gw;
    llmgwi_engine_line *line = llmgwi_engine_line_of(call);
    size_t rank = llmgwi_engine_rank(call);
    int64_t at_us = llmgwi_engine_foresee(call, line, llmgwi_engine_ahead(line, rank), now);
    bool known = at_us != LLMGWI_BASE_NEVER, full = gw->waiting >= (size_t)gw->config.options.max_waiting;
    if (!line->timer.fire && !llmgwi_engine_timer_init(gw, &line->timer, llmgwi_engine_fire_line, line))
        full = true;
    if (full || (known && at_us >= call->deadline_us)) {
        llmgwi_engine_refuse(call, choice, at_us, full, now);
        return;
    }
    llmgwi_engine_wait_begins(call, choice->target, choice->code ? choice->code : LLMGW_E_LIMIT,
                              choice->why ? choice->why : "others wait already", now);
    call->line = line;
    call->line_next = NULL;
    call->line_prev = line->tail[rank];
    if (line->tail[rank])
        line->tail[rank]->line_next = call;
    else
        line->head[rank] = call;
    line->tail[rank] = call;
    line->gw = gw;
    line->counts[rank]++;
    line->tokens[rank] += llmgwi_engine_reserve(call);
    line->count++;
    gw->waiting++;
    if (!line->active) {
        line->active = true;
        line->next = gw->lines;
        gw->lines = line;
    }
    if (choice->at_us <= now)
        gw->freed = true; /* it waits for others only */
    else if (choice->at_us != LLMGWI_BASE_NEVER &&
             (line->timer.heap_at == SIZE_MAX || choice->at_us < line->timer.at_us))
        llmgwi_engine_timer_set(gw, &line->timer, choice->at_us);
    llmgwi_engine_wake_at(call, LLMGWI_BASE_NEVER);
}

#define LLMGWI_ENGINE_LOOK_PAST 8 /* after so many of a rank that cannot go the others are not looked at */

/* Lets go who may. Returns when the next may by the clock. */
static int64_t llmgwi_engine_serve(llmgwi_engine_line *line, int64_t now) {
    int64_t at_us = LLMGWI_BASE_NEVER;
    for (size_t rank = 0; rank < 3; rank++) {
        int stuck = 0;
        for (llmgwi_engine_call *call = line->head[rank], *next; call; call = next) {
            llmgwi_engine_choice choice;
            if (stuck >= (call->own_route ? LLMGWI_ENGINE_LOOK_PAST : 1))
                break; /* a single target's waits for all */
            next = call->line_next;
            if (llmgwi_engine_choose(call, 0, false, now, &choice) && choice.at_us > now) {
                if (choice.at_us < at_us) at_us = choice.at_us;
                stuck++;
                continue;
            }
            llmgwi_engine_leave_line(call, now);
            call->served = true;
            llmgwi_engine_advance(call);
        }
    }
    return at_us;
}

/* Looks at all lines after a limit has got room. */
static void llmgwi_engine_serve_lines(llmgw *gw) {
    int64_t now = llmgwi_engine_now(gw);
    gw->freed = false;
    for (llmgwi_engine_line **at = &gw->lines; *at;) {
        llmgwi_engine_line *line = *at;
        int64_t at_us = llmgwi_engine_serve(line, now);
        if (line->count) {
            if (at_us != LLMGWI_BASE_NEVER) llmgwi_engine_timer_set(gw, &line->timer, at_us);
            at = &line->next;
        } else {
            llmgwi_engine_timer_stop(gw, &line->timer);
            line->active = false;
            *at = line->next;
        }
    }
}

/* ---- the one retry loop ---- */

static void llmgwi_engine_plan_hedge(llmgwi_engine_call *call, int64_t now);

/* Waits before the next attempt, unless that would outlast the deadline. */
static void llmgwi_engine_pause(llmgwi_engine_call *call, const llmgwi_engine_choice *choice, int64_t at_us,
                                int64_t now) {
    char why[96];
    if (at_us >= call->deadline_us) {
        llmgwi_engine_give_up(call);
        return;
    }
    snprintf(why, sizeof why, "backoff after %s (%s)", llmgw_code_name(call->last.code),
             llmgwi_health_class(call->last.code));
    llmgwi_engine_wait_begins(call, choice->target, call->last.code, why, now);
    call->plan.waited = true; /* until an attempt begins */
    call->bad_keys = 0;
    llmgwi_engine_wake_at(call, at_us);
}

/* May the gateway afford a repetition? A call's first attempt at a target is none: no target gets more of
   them than there are calls. */
static bool llmgwi_engine_afford(llmgwi_engine_call *call, const llmgwi_engine_choice *choice, int64_t now) {
    llmgw *gw = call->gw;
    bool fresh = !call->plan.tries[choice->target];

    if (!call->epoch || fresh || call->on_turn || call->running) return true;
    if (llmgwi_health_budget_take(&gw->retries, now, gw->config.options.retry_percent)) return true;
    llmgwi_engine_pass(call, choice->target, LLMGW_E_RETRY_BUDGET,
                       "no more repetitions: the gateway's retry budget is used up", now);
    return false;
}

/* The gateway could not afford a repetition. Perhaps it can later, or a breaker has let go by then. */
static void llmgwi_engine_put_off(llmgwi_engine_call *call, const llmgwi_engine_choice *choice, int64_t now) {
    const llmgw_options *options = &call->gw->config.options;
    if (++call->put_off > call->max_attempts) {
        llmgwi_engine_give_up(call);
        return;
    }
    int64_t base_us = (options->backoff_ms > 0 ? (int64_t)options->backoff_ms : 1) * 1000;
    uint64_t random = call->gw->clock.random(call->gw->clock.user);
    int64_t pause_us =
        llmgwi_health_pause(++call->plan.rounds, base_us, (int64_t)options->backoff_max_ms * 1000, random);
    llmgwi_engine_pause(call, choice, now + 1 + pause_us, now);
}

/* Another one beside those in flight: only what may go at once. */
static bool llmgwi_engine_second(llmgwi_engine_call *call, int64_t now, llmgwi_engine_choice *choice) {
    for (int far = 1; far >= 0; far--)
        if (llmgwi_engine_choose(call, 0, far != 0, now, choice) && choice->at_us <= now &&
            !call->plan.tries[choice->target])
            return true;
    return false;
}

/* Must the call wait? Then it does, or is ended. */
static bool llmgwi_engine_waits(llmgwi_engine_call *call, const llmgwi_engine_choice *choice, int64_t now) {
    llmgw *gw = call->gw;
    llmgwi_engine_line *line = llmgwi_engine_line_of(call);
    bool others = !call->served && !call->epoch && llmgwi_engine_ahead(line, llmgwi_engine_rank(call)) > 0;
    if (call->plan.tries[choice->target] && !call->plan.waited && !call->on_turn) {
        int64_t pause_us = llmgwi_health_pause(
            ++call->plan.rounds, (int64_t)gw->config.options.backoff_ms * 1000,
            (int64_t)gw->config.options.backoff_max_ms * 1000, gw->clock.random(gw->clock.user));
        if (now + pause_us > now && (choice->at_us == LLMGWI_BASE_NEVER || now + pause_us > choice->at_us)) {
            llmgwi_engine_pause(call, choice, now + pause_us, now);
            return true;
        }
        call->plan.waited = true;
    }
    if (choice->at_us > now || others) {
        llmgwi_engine_join_line(call, choice, now);
        return true;
    }
    if (gw->http.room(gw->http.self)) return false;
    llmgwi_engine_starve(call, choice->target, now);
    return true;
}

/* The one retry loop: starts the attempts that the call should have, waits for the next, or ends the call. */
static void llmgwi_engine_advance(llmgwi_engine_call *call) {
    llmgw *gw = call->gw;
    int64_t now = llmgwi_engine_now(gw);
    llmgwi_engine_choice choice;
    while (call->state != LLMGWI_ENGINE_ENDED && call->running < call->wanted) {
        bool spent = call->epoch >= (uint32_t)call->max_attempts;
        if (call->running) {
            if (spent || !llmgwi_engine_second(call, now, &choice) || !gw->http.room(gw->http.self)) return;
        } else if (spent || !llmgwi_engine_choose(call, 0, false, now, &choice)) {
            llmgwi_engine_give_up(call);
            return;
        } else if (llmgwi_engine_waits(call, &choice, now)) {
            return;
        }
        if (!llmgwi_engine_afford(call, &choice, now)) {
            llmgwi_engine_put_off(call, &choice, now);
            return;
        }
        if (!llmgwi_engine_launch(call, choice.target, choice.key, now)) continue;
        if (call->epoch == 1) llmgwi_engine_plan_hedge(call, now);
        if (call->hedge_us == LLMGWI_BASE_NEVER) continue;
        if (call->running == 1) call->hedge_us = now + call->hedge_wait_us;
        llmgwi_engine_wake_at(call, call->hedge_us);
    }
}

/* ---- the clock ---- */

/* When a second attempt is to begin. */
static void llmgwi_engine_plan_hedge(llmgwi_engine_call *call, int64_t now) {
    const llmgwi_config_route *route = call->route;
    if (!route || !route->hedge_ms || call->running != 1) return;
    llmgwi_engine_route *own = call->own_route;
    int64_t wait_us = route->hedge_ms > 0
                          ? (int64_t)route->hedge_ms * 1000
                          : llmgwi_health_histogram_quantile(&own->latency[call->request->stream], 0.95);
    llmgwi_health_budget_call(&own->hedges, route->hedge_percent);
    call->hedge_wait_us = wait_us;
    if (wait_us > 0) call->hedge_us = now + wait_us;
}

/* The first attempt has shown nothing for long: a second one begins, if the route's share allows. */
static void llmgwi_engine_hedge(llmgwi_engine_call *call, int64_t now) {
    call->hedge_us = LLMGWI_BASE_NEVER;
    if (call->hedged || call->running != 1 || call->attempts->shown) return;
    if (call->epoch >= (uint32_t)call->max_attempts) return;
    llmgwi_engine_choice choice;
    if (!llmgwi_engine_second(call, now, &choice) || !call->gw->http.room(call->gw->http.self)) return;
    if (!llmgwi_health_budget_take(&call->own_route->hedges, now, call->route->hedge_percent)) {
        llmgwi_engine_pass(call, call->attempts->target, LLMGW_E_LIMIT, "no hedge: hedge_percent is used up",
                           now);
        return;
    }
    call->hedged = true;
    call->wanted = 2;
    llmgwi_engine_advance(call);
}

/* The call's deadline passed. */
static void llmgwi_engine_expire(llmgwi_engine_call *call) {
    llmgw_error why;
    llmgwi_engine_state state = call->state;
    for (llmgwi_engine_attempt *attempt = call->attempts; attempt; attempt = attempt->next)
        if (attempt->state > state) state = attempt->state; /* the one that has come furthest */
    (void)llmgwi_base_error(&why, LLMGW_E_DEADLINE, "the call's deadline_ms (%lld ms) passed while %s%s%s",
                            (long long)((call->deadline_us - call->accepted_us) / 1000),
                            llmgwi_engine_moves[state].doing, call->last.code ? "; before that: " : "",
                            call->last.code ? call->last.text : "");
    llmgwi_engine_stop_all(call, LLMGW_E_DEADLINE, why.text);
    llmgwi_engine_end_badly(call, &why);
}

static void llmgwi_engine_fire_call(void *owner, int64_t now) {
    llmgwi_engine_call *call = (llmgwi_engine_call *)owner;
    llmgwi_engine_wake_at(call, LLMGWI_BASE_NEVER);
    if (now >= call->deadline_us) {
        llmgwi_engine_expire(call);
    } else if (call->state == LLMGWI_ENGINE_RUNNING) {
        if (now >= call->hedge_us) llmgwi_engine_hedge(call, now);
    } else if (!call->starved && !call->line) {
        llmgwi_engine_wait_ends(call, now);
        llmgwi_engine_advance(call);
    }
}

/* A stream that is not late after all: bytes came meanwhile, or it is we who stopped reading. */
static bool llmgwi_engine_spared(llmgwi_engine_attempt *attempt, int64_t now) {
    int64_t idle_us = attempt->call->idle_us;
    bool answering = attempt->state == LLMGWI_ENGINE_ANSWERING;
    bool alive = answering && idle_us != LLMGWI_BASE_NEVER && attempt->last_us + idle_us > now;
    if (!alive && !attempt->paused) return false;
    attempt->limit_us = llmgwi_engine_after(attempt->paused ? now : attempt->last_us, idle_us);
    return true;
}

/* Too few bytes since the last look? */
static bool llmgwi_engine_too_slow(llmgwi_engine_attempt *attempt, int64_t now) {
    const llmgwi_dialect_answer *answer = &attempt->answer;
    size_t came = answer->bytes - attempt->rate_bytes;
    bool slow =
        came < (size_t)attempt->gw->config.options.min_bytes_per_s * (LLMGWI_ENGINE_RATE_US / 1000000);
    attempt->rate_bytes = answer->bytes;
    attempt->rate_us = now + LLMGWI_ENGINE_RATE_US;
    return slow && !attempt->paused && attempt->state == LLMGWI_ENGINE_ANSWERING;
}

/* The longest stay in a state is over. False: the attempt goes on. */
static bool llmgwi_engine_late(llmgwi_engine_attempt *attempt, int64_t now, llmgw_error *why) {
    const llmgwi_engine_move *move = &llmgwi_engine_moves[attempt->state];
    if (now < attempt->limit_us || llmgwi_engine_spared(attempt, now)) return false;
    int64_t limit_us = llmgwi_engine_stay(attempt->call, attempt->state);
    bool probe = attempt->state == LLMGWI_ENGINE_CONNECTING &&
                 attempt->call->targets[attempt->target].provider->discovered;
    if (probe) limit_us = LLMGWI_CONFIG_PROBE_MS * 1000;
    (void)llmgwi_base_error(why, move->late, "%s (%lld ms)", move->late_text, (long long)(limit_us / 1000));
    return true;
}

static void llmgwi_engine_fire_attempt(void *owner, int64_t now) {
    llmgwi_engine_attempt *attempt = (llmgwi_engine_attempt *)owner;
    llmgw_error why;
    memset(&why, 0, sizeof why);
    if (attempt->state == LLMGWI_ENGINE_CLOSING && now >= attempt->limit_us) {
        llmgwi_engine_succeeded(attempt);
        return;
    }
    if (now >= attempt->slow_us) llmgwi_engine_judge_slow(attempt, now);
    if (now >= attempt->release_us) {
        attempt->release_us = LLMGWI_BASE_NEVER;
        attempt->ripe = true;
        llmgwi_engine_consider(attempt, now);
        if (attempt->stop.code) why = attempt->stop;
    }
    if (!why.code && now >= attempt->rate_us && llmgwi_engine_too_slow(attempt, now))
        (void)llmgwi_base_error(&why, LLMGW_E_TIMEOUT_IDLE, "slower than min_bytes_per_s for %d s",
                                LLMGWI_ENGINE_RATE_US / 1000000);
    if (why.code || llmgwi_engine_late(attempt, now, &why))
        llmgwi_engine_failed(attempt, &why);
    else
        llmgwi_engine_attempt_wake(attempt);
}

static void llmgwi_engine_clock(llmgw *gw) {
    int64_t now = llmgwi_engine_now(gw);
    while (gw->heap_count && gw->heap[0]->at_us <= now) gw->heap[0]->fire(gw->heap[0]->owner, now);
}

/* ---- the driver ---- */

static void llmgwi_engine_free_call(llmgwi_engine_call *call) {
    llmgw *gw = call->gw;
    llmgwi_base_buf_free(&call->stash);
    llmgwi_base_buf_free(&call->queue);
    llmgwi_base_arena_free(&call->arena);
    llmgwi_engine_reply_drop(call->reply);
    llmgwi_base_free(&gw->mem, call, sizeof *call);
}

/* The targets of a call, with what is known of them, in the order in which they will be tried. False: out of
   memory. */
static bool llmgwi_engine_order(llmgwi_engine_call *call, int64_t now) {
    llmgw *gw = call->gw;
    const llmgwi_config_route *route = call->route;
    double costs[LLMGWI_ROUTE_TARGETS];
    if (route) {
        call->own_route = &gw->routes[route->index];
        call->states = call->own_route->targets;
    } else {
        call->own_state = llmgwi_engine_target_get(gw, call->targets);
        call->states = &call->own_state;
    }
    for (size_t i = 0; i < call->plan.count; i++) {
        if (!call->states[i]) return false;
        costs[i] = route && route->how == LLMGWI_CONFIG_FASTEST
                       ? llmgwi_health_ewma_cost(&call->states[i]->ewma, now, call->states[i]->in_flight)
                       : (double)call->states[i]->in_flight;
    }
    llmgwi_route_in_order(&call->plan, call->plan.count);
    if (!route) return true;
    uint64_t random = gw->clock.random(gw->clock.user);
    if (route->how == LLMGWI_CONFIG_WEIGHTED) llmgwi_route_draw(&call->plan, route->weights, random);
    if (route->how == LLMGWI_CONFIG_FASTEST) llmgwi_route_two_choices(&call->plan, costs, random);
    if (route->how == LLMGWI_CONFIG_LEAST_BUSY) llmgwi_route_draw(&call->plan, NULL, random);
    if (route->how == LLMGWI_CONFIG_LEAST_BUSY) llmgwi_route_by_cost(&call->plan, costs, 0);
    return true;
}

/* The driver sees a call for the first time. */
static void llmgwi_engine_welcome(llmgwi_engine_call *call, int64_t now) {
    llmgw *gw = call->gw;
    llmgw_error why;
    memset(&why, 0, sizeof why);
    if (!llmgwi_engine_timer_init(gw, &call->timer, llmgwi_engine_fire_call, call) ||
        !llmgwi_engine_order(call, now)) {
        (void)llmgwi_base_error(&why, LLMGW_E_MEMORY, "out of memory for the call");
        llmgwi_engine_end(call, &why);
        return;
    }
    llmgwi_health_budget_call(&gw->retries, gw->config.options.retry_percent);
    llmgwi_engine_enter(call, LLMGWI_ENGINE_WAITING);
    llmgwi_engine_wake_at(call, LLMGWI_BASE_NEVER);
    llmgwi_engine_advance(call);
}

/* The caller has read: transfers that waited for that go on. */
static void llmgwi_engine_go_on(llmgwi_engine_call *call, int64_t now) {
    llmgw *gw = call->gw;
    for (llmgwi_engine_attempt *attempt = call->attempts, *next; attempt; attempt = next) {
        next = attempt->next;
        if (!attempt->paused || !attempt->transfer) continue;
        attempt->paused = false;
        attempt->last_us = now;
        gw->in_http = true;
        gw->http.resume(gw->http.self, attempt->transfer); /* gives the bytes again, here and now */
        gw->in_http = false;

        if (attempt->call && attempt->stop.code) {
            llmgw_error why = attempt->stop;
            llmgwi_engine_failed(attempt, &why);
            return;
        }
    }
}

/* A call that asked for attention: it is new, cancelled, or drained. */
static void llmgwi_engine_attend(llmgwi_engine_call *call, bool cancelled, bool resume, bool closing) {
    int64_t now = llmgwi_engine_now(call->gw);
    llmgw_error why;
    memset(&why, 0, sizeof why);
    if (cancelled || closing) {
        (void)llmgwi_base_error(&why, cancelled ? LLMGW_E_CANCELLED : LLMGW_E_CLOSED,
                                cancelled ? "cancelled by the caller" : "the gateway was closed");
        llmgwi_engine_stop_all(call, why.code, why.text);
        llmgwi_engine_end_badly(call, &why);
    } else if (call->state == LLMGWI_ENGINE_QUEUED) {
        llmgwi_engine_welcome(call, now);
    } else if (resume) {
        llmgwi_engine_go_on(call, now);
    }
}

static void llmgwi_engine_take_inbox(llmgw *gw) {
    llmgwi_base_lock(&gw->lock);
    while (gw->inbox) {
        llmgwi_engine_call *call = gw->inbox;
        gw->inbox = call->inbox_next;
        if (!gw->inbox) gw->inbox_tail = &gw->inbox;
        call->in_inbox = false;
        bool cancelled = call->cancelled, closing = gw->closing, released = call->released;
        bool ended = call->ended; /* then its owner may free it as soon as the lock is gone */
        bool resume = call->paused && call->queue.n <= gw->config.options.max_queue_bytes / 2;
        if (resume) call->paused = false;
        llmgwi_base_unlock(&gw->lock);
        if (released)
            llmgwi_engine_free_call(call);
        else if (!ended)
            llmgwi_engine_attend(call, cancelled, resume, closing);
        llmgwi_base_lock(&gw->lock);
    }
    llmgwi_base_unlock(&gw->lock);
}

/* Stops what was given up, and lets calls go that waited for a limit or a connection. */
static void llmgwi_engine_feed(llmgw *gw) {
    llmgwi_engine_reap(gw);
    if (gw->freed) llmgwi_engine_serve_lines(gw);
    while (gw->starved && gw->http.room(gw->http.self)) {
        llmgwi_engine_call *call = gw->starved;
        llmgwi_engine_unstarve(call);
        llmgwi_engine_advance(call);
    }
}

static int64_t llmgwi_engine_next_us(llmgw *gw) {
    int64_t next = gw->http.next_us(gw->http.self);
    if (gw->freed || gw->given_up) return 0;
    if (gw->heap_count && gw->heap[0]->at_us < next) next = gw->heap[0]->at_us;
    return next;
}

static void llmgwi_engine_read(llmgw *gw, int wait_ms) {
    gw->in_http = true;
    gw->http.poll(gw->http.self, wait_ms);
    gw->in_http = false;
    gw->read_us = llmgwi_engine_now(gw);
}

/* One turn of the driver, waiting until something happens or until_us. own: the blocking call it is
   driven for; NULL: for a poll. Called with the lock held and driving false; returns the same way. */
static void llmgwi_engine_turn(llmgw *gw, int64_t until_us, const llmgwi_engine_call *own) {
    gw->driving = true;
    llmgwi_base_unlock(&gw->lock);
    llmgwi_engine_take_inbox(gw);
    if (llmgwi_engine_now(gw) - gw->read_us > LLMGWI_ENGINE_AWAY_US) llmgwi_engine_read(gw, 0);
    llmgwi_engine_clock(gw);
    llmgwi_engine_feed(gw);
    int64_t next = llmgwi_engine_next_us(gw), now = llmgwi_engine_now(gw), wait_ms = -1;
    if (next > until_us) next = until_us;
    if (next != LLMGWI_BASE_NEVER) wait_ms = next > now ? (next - now + 999) / 1000 : 0;
    if (wait_ms > 3600000) wait_ms = 3600000;
    llmgwi_base_lock(&gw->lock);
    bool news = own ? own->ended || own->queue.n : gw->ready || gw->woken;
    if (gw->inbox || news) wait_ms = 0;
    gw->asleep = wait_ms != 0;
    llmgwi_base_unlock(&gw->lock);
    llmgwi_engine_read(gw, (int)wait_ms);
    llmgwi_engine_clock(gw);
    llmgwi_engine_feed(gw);
    llmgwi_base_lock(&gw->lock);
    gw->asleep = false;
    gw->next_us = llmgwi_engine_next_us(gw);
    if (gw->fd_used) gw->http.arm(gw->http.self, gw->next_us);
    gw->driving = false;
}

/* ---- delivery (under lock, which is given up while a callback runs) ---- */

static void llmgwi_engine_tell(llmgwi_engine_call *call, llmgw_event *event) {
    event->gateway = call->gw;
    event->call = call->id;
    if (!event->text) event->text = "";
    if (!event->tool_id) event->tool_id = event->tool_name = "";
    llmgwi_engine_in_callback++;
    call->request->on_event(event, call->request->user);
    llmgwi_engine_in_callback--;
}

/* The events of a batch, oldest first. Returns how many. */
static int llmgwi_engine_tell_batch(llmgwi_engine_call *call, const llmgwi_base_buf *batch) {
    int count = 0;
    for (size_t at = 0; at < batch->n; count++) {
        llmgwi_engine_event queued;
        llmgw_trace trace;
        llmgw_event event;
        memcpy(&queued, batch->p + at, sizeof queued);
        const char *p = batch->p + at + sizeof queued;
        memset(&event, 0, sizeof event);
        event.kind = queued.kind;
        event.epoch = queued.epoch;
        event.tool_index = queued.tool_index;
        event.keep = queued.keep;
        event.keep_reasoning = queued.keep_reasoning;
        if (queued.kind == LLMGW_EVENT_TRY) {
            memcpy(&trace, p, sizeof trace);
            event.trace = &trace;
        } else {
            event.text = p;
            event.text_len = queued.text_len;
            event.tool_id = p + queued.text_len + 1;
            event.tool_name = event.tool_id + queued.id_len + 1;
        }
        llmgwi_engine_tell(call, &event);
        at += queued.size;
    }
    return count;
}

/* What a stream would have brought, in one piece. */
static int llmgwi_engine_tell_whole(llmgwi_engine_call *call) {
    const llmgw_reply *reply = &call->reply->pub;
    llmgw_event event;
    int count = 0;
    for (int kind = LLMGW_EVENT_TEXT; kind <= LLMGW_EVENT_REASONING; kind++) {
        memset(&event, 0, sizeof event);
        event.kind = (llmgw_event_kind)kind;
        event.epoch = reply->epoch;
        event.text = kind == LLMGW_EVENT_TEXT ? reply->text : reply->reasoning;
        event.text_len = kind == LLMGW_EVENT_TEXT ? reply->text_len : reply->reasoning_len;
        if (!event.text_len) continue;
        llmgwi_engine_tell(call, &event);
        count++;
    }
    for (size_t i = 0; i < reply->tool_call_count; i++, count++) {
        memset(&event, 0, sizeof event);
        event.kind = LLMGW_EVENT_TOOL;
        event.epoch = reply->epoch;
        event.tool_index = (int)i;
        event.tool_id = reply->tool_calls[i].id;
        event.tool_name = reply->tool_calls[i].name;
        event.text = reply->tool_calls[i].arguments;
        event.text_len = strlen(event.text);
        llmgwi_engine_tell(call, &event);
    }
    return count;
}

static int llmgwi_engine_tell_end(llmgwi_engine_call *call) {
    llmgw_event event;
    int count = 0;
    if (!call->events) return 0;
    if (call->whole) count = llmgwi_engine_tell_whole(call);
    memset(&event, 0, sizeof event);
    event.kind = LLMGW_EVENT_END;
    event.epoch = call->epoch;
    event.reply = &call->reply->pub;
    llmgwi_engine_tell(call, &event);
    return count + 1;
}

/* Delivers what a call has queued, and END if nothing else is left. Returns how many events. done: END was
   among them. For a poll one batch: what comes meanwhile is for the next. */
static int llmgwi_engine_deliver(llmgwi_engine_call *call, bool *done) {
    llmgw *gw = call->gw;
    int count = 0;
    *done = false;
    call->dispatching = true;
    for (bool first = true; call->queue.n || call->ended; first = false) {
        llmgwi_base_buf batch = call->queue;
        bool last = batch.n == 0;
        if (!last && !first && !call->blocking) break;
        llmgwi_base_buf_init(&call->queue, batch.mem, batch.max);
        if (call->paused) llmgwi_engine_inbox_add(gw, call); /* there is room again */
        llmgwi_engine_hand_over(gw);
        llmgwi_base_unlock(&gw->lock);
        count += last ? llmgwi_engine_tell_end(call) : llmgwi_engine_tell_batch(call, &batch);
        llmgwi_base_buf_clear(&batch);
        llmgwi_base_lock(&gw->lock);
        bool reuse = !call->queue.p && batch.cap <= LLMGWI_ENGINE_KEEP_QUEUE;
        if (reuse)
            call->queue = batch;
        else
            llmgwi_base_buf_free(&batch);
        if (last) {
            *done = true;
            break;
        }
    }
    call->dispatching = false;
    if (!*done && !call->blocking && (call->queue.n || call->ended)) llmgwi_engine_ready_add(gw, call);
    return count;
}

/* Forgets a call whose END was delivered. Under lock. */
static void llmgwi_engine_release(llmgwi_engine_call *call) {
    llmgw *gw = call->gw;
    uint32_t slot = (uint32_t)(call->id & 0xFFFFFFFFu) - 1;
    gw->slots[slot].call = NULL;
    gw->slots[slot].generation++;
    gw->slots[slot].next_free = gw->free_slot;
    gw->free_slot = slot;
    call->released = true;
    if (!call->in_inbox) llmgwi_engine_free_call(call); /* else whoever takes the inbox frees it */
}

/* Runs the callbacks of the calls that have something to say now. Under lock. Returns how many events;
   ended: a call ended, perhaps without any. */
static int llmgwi_engine_dispatch(llmgw *gw, bool *ended) {
    int count = 0;
    *ended = false;
    for (size_t left = gw->ready_count; left > 0 && gw->ready; left--) {
        llmgwi_engine_call *call = gw->ready;
        bool done = false;
        gw->ready = call->ready_next;
        if (!gw->ready) gw->ready_tail = &gw->ready;
        call->in_ready = false;
        gw->ready_count--;
        count += llmgwi_engine_deliver(call, &done);
        if (done) llmgwi_engine_release(call);
        *ended = *ended || done;
    }
    if (!gw->ready) gw->http.notice(gw->http.self, false);
    return count;
}

/* ---- accepting a call ---- */

static int64_t llmgwi_engine_limit(int asked_ms, int default_ms) {
    int ms = asked_ms ? asked_ms : default_ms;
    return ms < 0 ? LLMGWI_BASE_NEVER : (int64_t)ms * 1000;
}

/* Under lock. 0: no memory. */
static llmgw_call llmgwi_engine_slot_take(llmgw *gw, llmgwi_engine_call *call) {
    uint32_t at = gw->free_slot;
    if (at == UINT32_MAX) {
        llmgwi_engine_slot *slots = (llmgwi_engine_slot *)llmgwi_base_grow(
            &gw->mem, gw->slots, &gw->slot_cap, gw->slot_count, (size_t)gw->config.options.max_calls * 2 + 16,
            sizeof *slots);
        if (!slots) return 0;
        gw->slots = slots;
        at = (uint32_t)gw->slot_count++;
        slots[at].generation = 1;
        slots[at].next_free = UINT32_MAX;
    }
    gw->free_slot = gw->slots[at].next_free;
    gw->slots[at].call = call;
    return (llmgw_call)gw->slots[at].generation << 32 | (at + 1);
}

/* Fills in what follows from the request and the options. */
static void llmgwi_engine_prepare(llmgwi_engine_call *call) {
    llmgw *gw = call->gw;
    const llmgw_request *request = call->request;
    const llmgw_options *options = &gw->config.options;
    int64_t deadline_us = llmgwi_engine_limit(request->deadline_ms, options->deadline_ms);
    call->accepted_us = llmgwi_engine_now(gw);
    call->deadline_us = llmgwi_engine_after(call->accepted_us, deadline_us);
    call->connect_us = llmgwi_engine_limit(request->connect_ms, options->connect_ms);
    call->first_token_us = llmgwi_engine_limit(request->first_token_ms, options->first_token_ms);
    call->idle_us = llmgwi_engine_limit(request->idle_ms, options->idle_ms);
    call->closing_us = LLMGWI_ENGINE_CLOSING_US;
    if (!request->stream) call->first_token_us = LLMGWI_BASE_NEVER; /* a whole reply comes when it is whole */
    call->max_attempts = request->max_attempts ? request->max_attempts : options->max_attempts;
    if (!call->max_attempts) call->max_attempts = call->plan.count > 4 ? (int)call->plan.count : 4;
    call->max_resumes = request->max_resumes ? request->max_resumes : options->max_resumes;
    call->valid = request->valid | (request->schema ? LLMGW_VALID_SCHEMA : 0);
    call->wanted = 1;
    call->whole = !request->stream;
    if (call->route) {
        call->valid |= call->route->valid;
        call->wanted = call->route->width > 1 ? call->route->width : 1;
        call->whole = call->whole || call->route->race_complete;
    }
    call->events = request->on_event != NULL;
    call->timer.heap_at = call->wait_at = SIZE_MAX;
    call->hedge_us = LLMGWI_BASE_NEVER;
    call->tokens_in = -1;
    llmgwi_base_buf_init(&call->stash, &gw->mem, 0);
    llmgwi_base_buf_init(&call->queue, &gw->mem,
                         options->max_queue_bytes + 2 * options->max_event_bytes + options->max_reply_bytes +
                             (256 << 10));
}

/* Takes a checked request and returns its handle; 0: error says why. After that a call that is not blocking
   belongs to whoever drives, and may be gone already. */
static llmgw_call llmgwi_engine_accept(llmgw *gw, llmgwi_engine_call *call, llmgw_error *error) {
    llmgw_call id = 0;
    if (!llmgwi_config_resolve(&gw->config, call->request->model, &call->own_target, &call->targets,
                               &call->plan.count, &call->route, error))
        return 0;
    llmgwi_engine_prepare(call);
    llmgwi_base_lock(&gw->lock);
    if (gw->closing) {
        (void)llmgwi_base_error(error, LLMGW_E_CLOSED, "the gateway is closing");
    } else if (gw->pending >= (size_t)gw->config.options.max_calls) {
        (void)llmgwi_base_error(error, LLMGW_E_LIMIT, "max_calls (%d) calls are in flight",
                                gw->config.options.max_calls);
    } else if ((id = llmgwi_engine_slot_take(gw, call)) == 0) {
        (void)llmgwi_base_error(error, LLMGW_E_MEMORY, "out of memory for the call");
    } else {
        call->id = id;
        gw->pending++;
        llmgwi_engine_inbox_add(gw, call);
    }
    llmgwi_base_unlock(&gw->lock);
    return id;
}

/* ---- waiting ---- */

static void llmgwi_engine_waiter_add(llmgw *gw, llmgwi_engine_waiter *waiter, bool polls) {
    llmgwi_base_cond_init(&waiter->cond);
    waiter->polls = polls;
    waiter->prev = NULL;
    waiter->next = gw->waiters;
    if (gw->waiters) gw->waiters->prev = waiter;
    gw->waiters = waiter;
}

static void llmgwi_engine_waiter_remove(llmgw *gw, llmgwi_engine_waiter *waiter) {
    if (waiter->prev)
        waiter->prev->next = waiter->next;
    else
        gw->waiters = waiter->next;
    if (waiter->next) waiter->next->prev = waiter->prev;
    llmgwi_base_cond_free(&waiter->cond);
}

/* Drives, or waits for who drives, until the call has ended and its events were delivered. Under lock. */
static void llmgwi_engine_run(llmgwi_engine_call *call) {
    llmgw *gw = call->gw;
    bool done = false;
    for (;;) {
        if (call->queue.n || call->ended) (void)llmgwi_engine_deliver(call, &done);
        if (done) break;
        if (!gw->driving) {
            llmgwi_engine_turn(gw, LLMGWI_BASE_NEVER, call);
            continue;
        }
        llmgwi_engine_waiter waiter;
        llmgwi_engine_waiter_add(gw, &waiter, false);
        call->waiter = &waiter;
        llmgwi_base_cond_wait(&waiter.cond, &gw->lock, LLMGWI_BASE_NEVER);
        call->waiter = NULL;
        llmgwi_engine_waiter_remove(gw, &waiter);
    }
    llmgwi_engine_hand_over(gw);
}

/* Under lock. Returns the number of events delivered. */
static int llmgwi_engine_poll(llmgw *gw, int64_t until_us) {
    int count = 0;
    for (bool turned = false;; turned = true) {
        bool ended, late = turned && llmgwi_engine_now(gw) >= until_us;
        count += llmgwi_engine_dispatch(gw, &ended);
        if (count || ended || gw->closing || late || (turned && gw->woken))
            break; /* a wake shortens the wait, not the work */
        if (!gw->driving) {
            llmgwi_engine_turn(gw, until_us, NULL);
        } else if (until_us > llmgwi_engine_now(gw) && !gw->woken) {
            llmgwi_engine_waiter waiter;
            llmgwi_engine_waiter_add(gw, &waiter, true);
            llmgwi_base_cond_wait(&waiter.cond, &gw->lock, until_us);
            llmgwi_engine_waiter_remove(gw, &waiter);
        } else {
            break;
        }
    }
    gw->woken = false;
    llmgwi_engine_hand_over(gw);
    return count;
}

/* ------------------------------------------------------------------------------------------- */
/* >>public   purpose: argument checks and defaults; the functions of the API.                   */
/*            uses: text, json, dialect, config, health, route, http, engine                     */
/*            guarantees: misuse is an error that names the field, never a crash                  */
/* ------------------------------------------------------------------------------------------- */

/* ---- checking a request ---- */

#define LLMGWI_PUBLIC_MAX_MESSAGES 65536
#define LLMGWI_PUBLIC_MAX_TOOLS 1024

static bool llmgwi_public_wrong(llmgw_error *error, const char *field, const char *why) {
    (void)llmgwi_base_error(error, LLMGW_E_ARGUMENT, "request.%s: %s", field, why);
    return false;
}

static bool llmgwi_public_object(llmgw_error *error, const char *field, const char *json) {
    char why[128];
    size_t at;
    const char *bad =
        llmgwi_json_check(llmgwi_base_cstr(json), LLMGWI_JSON_OBJECT, LLMGWI_JSON_MAX_DEPTH, &at);
    if (!bad) return true;
    snprintf(why, sizeof why, "%s at byte %lu", bad, (unsigned long)at);
    return llmgwi_public_wrong(error, field, why);
}

static const char *llmgwi_public_part(const llmgw_part *part, llmgw_role role) {
    bool assistant = role == LLMGW_ROLE_ASSISTANT;
    switch (part->kind) {
    case LLMGW_PART_TEXT: return part->text ? NULL : "text is missing";
    case LLMGW_PART_REASONING: return assistant ? NULL : "reasoning belongs in an assistant's message";
    case LLMGW_PART_IMAGE:
    case LLMGW_PART_FILE:
        if (role != LLMGW_ROLE_USER) return "images and files belong in a user's message";
        if (!part->url == !part->data) return "expected url, or data with data_len";
        return part->data && !part->data_len ? "data_len is missing" : NULL;
    case LLMGW_PART_TOOL_CALL:
        if (!assistant) return "a tool call belongs in an assistant's message";
        return part->id && part->id[0] && part->name && part->name[0] ? NULL : "id and name are required";
    case LLMGW_PART_TOOL_RESULT:
        if (role != LLMGW_ROLE_TOOL && role != LLMGW_ROLE_USER)
            return "a tool result belongs in a tool's or user's message";
        return part->id && part->id[0] && part->text ? NULL : "id and text are required";
    }
    return "kind: no such kind";
}

static bool llmgwi_public_message(const llmgw_message *message, size_t i, llmgw_error *error) {
    char field[80];
    snprintf(field, sizeof field, "messages[%lu]", (unsigned long)i);
    if ((unsigned)message->role > LLMGW_ROLE_TOOL)
        return llmgwi_public_wrong(error, field, "role: no such role");
    if (message->part_count && !message->parts)
        return llmgwi_public_wrong(error, field, "part_count without parts");
    if (!message->part_count && !message->text)
        return llmgwi_public_wrong(error, field, "neither text nor parts");
    if (message->role == LLMGW_ROLE_TOOL && message->text)
        return llmgwi_public_wrong(error, field, "a tool's message holds tool results only");
    if (message->part_count > LLMGW_MAX_PARTS)
        return llmgwi_public_wrong(error, field, "more parts than LLMGW_MAX_PARTS");
    for (size_t j = 0; j < message->part_count; j++) {
        const llmgw_part *part = &message->parts[j];
        const char *why = llmgwi_public_part(part, message->role);
        if (!why && message->role == LLMGW_ROLE_SYSTEM && part->kind != LLMGW_PART_TEXT)
            why = "a system message holds text only";
        if (!why && message->role == LLMGW_ROLE_TOOL && part->kind != LLMGW_PART_TOOL_RESULT)
            why = "a tool's message holds tool results only";
        snprintf(field, sizeof field, "messages[%lu].parts[%lu]", (unsigned long)i, (unsigned long)j);
        if (why) return llmgwi_public_wrong(error, field, why);
        if (part->kind != LLMGW_PART_TOOL_CALL || !part->arguments || !part->arguments[0]) continue;
        snprintf(field, sizeof field, "messages[%lu].parts[%lu].arguments", (unsigned long)i,
                 (unsigned long)j);
        if (!llmgwi_public_object(error, field, part->arguments)) return false;
    }
    return true;
}

static bool llmgwi_public_tool_name(const char *name) {
    size_t n = name ? strlen(name) : 0;
    if (n == 0 || n > 64) return false;
    for (; *name; name++)
        if (!(*name >= 'a' && *name <= 'z') && !(*name >= 'A' && *name <= 'Z') &&
            !(*name >= '0' && *name <= '9') && *name != '_' && *name != '-')
            return false;
    return true;
}

static bool llmgwi_public_tools(const llmgw_request *request, llmgw_error *error) {
    bool named = false;
    char field[64];
    if (request->tool_count && !request->tools)
        return llmgwi_public_wrong(error, "tools", "tool_count without tools");
    if (request->tool_count > LLMGWI_PUBLIC_MAX_TOOLS)
        return llmgwi_public_wrong(error, "tools", "more than 1,024");
    if ((unsigned)request->tool_mode > LLMGW_TOOLS_ONE)
        return llmgwi_public_wrong(error, "tool_mode", "no such mode");
    for (size_t i = 0; i < request->tool_count; i++) {
        const llmgw_tool *tool = &request->tools[i];
        snprintf(field, sizeof field, "tools[%lu].name", (unsigned long)i);
        if (!llmgwi_public_tool_name(tool->name))
            return llmgwi_public_wrong(error, field, "expected [A-Za-z0-9_-]{1,64}");
        for (size_t j = 0; j < i; j++)
            if (strcmp(request->tools[j].name, tool->name) == 0)
                return llmgwi_public_wrong(error, field, "comes twice");
        named = named || (request->tool_name && strcmp(request->tool_name, tool->name) == 0);
        snprintf(field, sizeof field, "tools[%lu].parameters", (unsigned long)i);
        if (tool->parameters && !llmgwi_public_object(error, field, tool->parameters)) return false;
    }
    bool forced = request->tool_mode == LLMGW_TOOLS_REQUIRED || request->tool_mode == LLMGW_TOOLS_ONE;
    if (forced && !request->tool_count) return llmgwi_public_wrong(error, "tool_mode", "there are no tools");
    if (request->tool_mode == LLMGW_TOOLS_ONE && !named)
        return llmgwi_public_wrong(error, "tool_name", "is not among the tools");
    return true;
}

typedef struct llmgwi_public_range {
    const char *name;
    size_t at;
    double low, high;
    bool whole;
} llmgwi_public_range;

static const llmgwi_public_range llmgwi_public_ranges[] = {
    {"temperature", offsetof(llmgw_request, temperature), 0, 2, false},
    {"top_p", offsetof(llmgw_request, top_p), 0, 1, false},
    {"top_k", offsetof(llmgw_request, top_k), 1, 1e9, true},
    {"seed", offsetof(llmgw_request, seed), -9007199254740992.0, 9007199254740992.0, true},
    {"frequency_penalty", offsetof(llmgw_request, frequency_penalty), -2, 2, false},
    {"presence_penalty", offsetof(llmgw_request, presence_penalty), -2, 2, false},
};

static bool llmgwi_public_numbers(const llmgw_request *request, llmgw_error *error) {
    char why[80];
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_public_ranges); i++) {
        const llmgwi_public_range *row = &llmgwi_public_ranges[i];
        const llmgw_opt *opt = (const llmgw_opt *)(const void *)((const char *)request + row->at);
        bool good = opt->value >= row->low && opt->value <= row->high; /* a NaN is neither */
        if (good && row->whole) good = (double)(int64_t)opt->value == opt->value;
        if (!opt->set || good) continue;
        snprintf(why, sizeof why, "expected %s%.0f to %.0f", row->whole ? "a whole number, " : "", row->low,
                 row->high);
        return llmgwi_public_wrong(error, row->name, why);
    }
    int deadlines[] = {request->deadline_ms, request->connect_ms, request->first_token_ms, request->idle_ms};
    static const char *const names[] = {"deadline_ms", "connect_ms", "first_token_ms", "idle_ms"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(deadlines); i++)
        if (deadlines[i] < LLMGW_OFF)
            return llmgwi_public_wrong(error, names[i], "expected milliseconds, 0 or LLMGW_OFF");
    if (request->max_tokens < 0) return llmgwi_public_wrong(error, "max_tokens", "expected a count, or 0");
    if (request->max_attempts < 0 || request->max_attempts > 64)
        return llmgwi_public_wrong(error, "max_attempts", "expected 0 to 64");
    if (request->max_resumes < LLMGW_OFF)
        return llmgwi_public_wrong(error, "max_resumes", "expected a count, 0 or LLMGW_OFF");
    if ((unsigned)request->effort > LLMGW_EFFORT_HIGH)
        return llmgwi_public_wrong(error, "effort", "no such effort");
    if ((unsigned)request->priority > LLMGW_PRIORITY_BATCH)
        return llmgwi_public_wrong(error, "priority", "no such priority");
    if (request->valid & ~(LLMGW_VALID_NOT_EMPTY | LLMGW_VALID_NOT_REFUSED | LLMGW_VALID_SCHEMA))
        return llmgwi_public_wrong(error, "valid", "expected a sum of LLMGW_VALID_...");
    return true;
}

/* Is there anything wrong with a request that can be seen without a provider? */
static bool llmgwi_public_check(const llmgw_request *request, llmgw_error *error) {
    if (!request) return llmgwi_public_wrong(error, "(all)", "NULL");
    if (!request->model || !request->model[0])
        return llmgwi_public_wrong(error, "model", "required: \"provider/model\", an alias or a route");
    if (strlen(request->model) > 256 || !llmgwi_config_clean(request->model))
        return llmgwi_public_wrong(error, "model", "longer than 256 bytes, or holds a control character");
    if (request->message_count && !request->messages)
        return llmgwi_public_wrong(error, "messages", "message_count without messages");
    if (request->message_count > LLMGWI_PUBLIC_MAX_MESSAGES)
        return llmgwi_public_wrong(error, "messages", "more than 65,536");
    bool asks = request->prompt != NULL;
    for (size_t i = 0; i < request->message_count; i++) {
        if (!llmgwi_public_message(&request->messages[i], i, error)) return false;
        asks = asks || request->messages[i].role != LLMGW_ROLE_SYSTEM;
    }
    if (!asks) return llmgwi_public_wrong(error, "prompt", "there is nothing to ask: set prompt or messages");
    if (request->prompt && !request->prompt[0]) return llmgwi_public_wrong(error, "prompt", "empty");
    if (!llmgwi_public_tools(request, error) || !llmgwi_public_numbers(request, error)) return false;
    if (request->schema && !llmgwi_public_object(error, "schema", request->schema)) return false;
    if (request->schema_name && !llmgwi_public_tool_name(request->schema_name))
        return llmgwi_public_wrong(error, "schema_name", "expected [A-Za-z0-9_-]{1,64}");
    if (request->stop_count > 16 || (request->stop_count && !request->stop))
        return llmgwi_public_wrong(error, "stop", "expected up to 16 texts");
    for (size_t i = 0; i < request->stop_count; i++)
        if (!request->stop[i] || !request->stop[i][0])
            return llmgwi_public_wrong(error, "stop", "an empty text");
    if (!request->require_count) return true;
    (void)llmgwi_base_error(
        error, LLMGW_E_RESTRICTED,
        "request.require: restrictions cannot be kept by this version, so the request is not sent");
    return false;
}

/* ---- copying a request ---- */

static llmgw_part llmgwi_public_copy_part(llmgwi_base_arena *arena, const llmgw_part *from) {
    llmgw_part part = *from;
    if (from->text) {
        part.text_len = from->text_len ? from->text_len : strlen(from->text);
        part.text = llmgwi_base_arena_copy(arena, from->text, part.text_len);
    }
    part.id = llmgwi_base_arena_dup(arena, from->id);
    part.name = llmgwi_base_arena_dup(arena, from->name);
    part.arguments = llmgwi_base_arena_dup(arena, from->arguments);
    part.url = llmgwi_base_arena_dup(arena, from->url);
    part.mime = llmgwi_base_arena_dup(arena, from->mime);
    part.signature = llmgwi_base_arena_dup(arena, from->signature);
    part.origin = llmgwi_base_arena_dup(arena, from->origin);
    if (from->data) part.data = llmgwi_base_arena_copy(arena, (const char *)from->data, from->data_len);
    return part;
}

static const llmgw_message *llmgwi_public_copy_messages(llmgwi_base_arena *arena, const llmgw_request *from) {
    llmgw_message *messages =
        (llmgw_message *)llmgwi_base_arena_get(arena, from->message_count * sizeof *messages);
    for (size_t i = 0; messages && i < from->message_count; i++) {
        const llmgw_message *source = &from->messages[i];
        llmgw_part *parts = (llmgw_part *)llmgwi_base_arena_get(arena, source->part_count * sizeof *parts);
        for (size_t j = 0; parts && j < source->part_count; j++)
            parts[j] = llmgwi_public_copy_part(arena, &source->parts[j]);
        messages[i] = *source;
        messages[i].text = llmgwi_base_arena_dup(arena, source->text);
        messages[i].parts = parts;
    }
    return messages;
}

static const llmgw_tool *llmgwi_public_copy_tools(llmgwi_base_arena *arena, const llmgw_request *from) {
    llmgw_tool *tools = (llmgw_tool *)llmgwi_base_arena_get(arena, from->tool_count * sizeof *tools);
    for (size_t i = 0; tools && i < from->tool_count; i++) {
        tools[i] = from->tools[i];
        tools[i].name = llmgwi_base_arena_dup(arena, from->tools[i].name);
        tools[i].description = llmgwi_base_arena_dup(arena, from->tools[i].description);
        tools[i].parameters = llmgwi_base_arena_dup(arena, from->tools[i].parameters);
    }
    return tools;
}

/* A request of our own. NULL: out of memory. */
static const llmgw_request *llmgwi_public_copy(llmgwi_base_arena *arena, const llmgw_request *from) {
    llmgw_request *to = (llmgw_request *)llmgwi_base_arena_get(arena, sizeof *to);
    const char **stop = (const char **)llmgwi_base_arena_get(arena, from->stop_count * sizeof *stop);
    if (!to || !stop) return NULL;
    *to = *from;
    to->model = llmgwi_base_arena_dup(arena, from->model);
    to->system = llmgwi_base_arena_dup(arena, from->system);
    to->prompt = llmgwi_base_arena_dup(arena, from->prompt);
    to->tool_name = llmgwi_base_arena_dup(arena, from->tool_name);
    to->schema = llmgwi_base_arena_dup(arena, from->schema);
    to->schema_name = llmgwi_base_arena_dup(arena, from->schema_name);
    to->user_id = llmgwi_base_arena_dup(arena, from->user_id);
    to->messages = llmgwi_public_copy_messages(arena, from);
    to->tools = llmgwi_public_copy_tools(arena, from);
    for (size_t i = 0; i < from->stop_count; i++) stop[i] = llmgwi_base_arena_dup(arena, from->stop[i]);
    to->stop = stop;
    return arena->failed ? NULL : to;
}

/* ---- replies without a call ---- */

#define LLMGWI_PUBLIC_STATIC(code, retryable, text)                                                          \
    {                                                                                                        \
        {{code, retryable, 0, 0, text},                                                                      \
         "",                                                                                                 \
         0,                                                                                                  \
         "",                                                                                                 \
         0,                                                                                                  \
         NULL,                                                                                               \
         NULL,                                                                                               \
         0,                                                                                                  \
         {LLMGW_ROLE_ASSISTANT, NULL, NULL, 0},                                                              \
         LLMGW_FINISH_NONE,                                                                                  \
         {false, false, 0, 0, 0, 0, 0, 0},                                                                   \
         {false, false, false, 0},                                                                           \
         "",                                                                                                 \
         "",                                                                                                 \
         "",                                                                                                 \
         "",                                                                                                 \
         0,                                                                                                  \
         0,                                                                                                  \
         0,                                                                                                  \
         0,                                                                                                  \
         NULL,                                                                                               \
         0},                                                                                                 \
            0                                                                                                \
    }

/* Never freed, never written: what is left to say when there is no memory, or no gateway. */
typedef struct llmgwi_public_fixed {
    llmgw_reply pub;
    uint32_t refs;
} llmgwi_public_fixed;

static const llmgwi_public_fixed llmgwi_public_no_memory =
    LLMGWI_PUBLIC_STATIC(LLMGW_E_MEMORY, true, "out of memory");
static const llmgwi_public_fixed llmgwi_public_no_gateway =
    LLMGWI_PUBLIC_STATIC(LLMGW_E_CLOSED, false, "the gateway is NULL: llmgw_open failed or was not called");
static const llmgwi_public_fixed llmgwi_public_forked = LLMGWI_PUBLIC_STATIC(
    LLMGW_E_FORKED, false, "the gateway belongs to the parent process: open one in the child");

/* The caller gets a pointer that it may free, which for these does nothing. */
static llmgw_reply *llmgwi_public_fixed_reply(const llmgwi_public_fixed *fixed) {
    return (llmgw_reply *)(uintptr_t)&fixed->pub;
}

static bool llmgwi_public_is_forked(const llmgw *gw) {
    return gw->fork_count != LLMGWI_BASE_LOAD(&llmgwi_base_fork_count);
}

static llmgw_reply *llmgwi_public_error_reply(llmgw *gw, const llmgw_error *error) {
    llmgwi_engine_reply *reply = error->code == LLMGW_E_MEMORY ? NULL : llmgwi_engine_reply_new(&gw->mem);
    if (!reply) return llmgwi_public_fixed_reply(&llmgwi_public_no_memory);
    reply->pub.error = *error;
    llmgwi_config_redact(&gw->config, reply->pub.error.text);
    return &reply->pub;
}

/* ---- calls ---- */

/* Makes a call of a checked request. NULL: out of memory. */
static llmgwi_engine_call *llmgwi_public_make(llmgw *gw, const llmgw_request *request, bool blocking) {
    llmgwi_engine_call *call = (llmgwi_engine_call *)llmgwi_base_zalloc(&gw->mem, sizeof *call);
    if (!call) return NULL;
    call->gw = gw;
    call->blocking = blocking;
    llmgwi_base_arena_init(&call->arena, &gw->mem);
    call->reply = llmgwi_engine_reply_new(&gw->mem);
    call->request = blocking ? request : llmgwi_public_copy(&call->arena, request);
    if (call->reply && call->request) return call;
    llmgwi_engine_free_call(call);
    return NULL;
}

/* Checks a request and accepts a call. 0: error says why. call (may be NULL): where to put a blocking one. */
static llmgw_call llmgwi_public_begin(llmgw *gw, const llmgw_request *request, llmgwi_engine_call **blocking,
                                      llmgw_error *error) {
    if (!llmgwi_public_check(request, error)) return 0;
    llmgwi_engine_call *call = llmgwi_public_make(gw, request, blocking != NULL);
    if (!call) {
        (void)llmgwi_base_error(error, LLMGW_E_MEMORY, "out of memory for the call");
        return 0;
    }
    llmgw_call id = llmgwi_engine_accept(gw, call, error);
    if (!id) llmgwi_engine_free_call(call);
    if (blocking) *blocking = id ? call : NULL;
    return id;
}

static void llmgwi_public_enter(llmgw *gw) {
    llmgwi_base_lock(&gw->lock);
    gw->inside++;
}

static void llmgwi_public_leave(llmgw *gw) {
    if (--gw->inside == 0) llmgwi_base_cond_signal(&gw->left);
    llmgwi_base_unlock(&gw->lock);
}

LLMGW_API llmgw_reply *llmgw_chat(llmgw *gw, const llmgw_request *request) {
    llmgw_error error;
    memset(&error, 0, sizeof error);
    if (!gw) return llmgwi_public_fixed_reply(&llmgwi_public_no_gateway);
    if (llmgwi_public_is_forked(gw)) return llmgwi_public_fixed_reply(&llmgwi_public_forked);
    if (llmgwi_engine_in_log) {
        (void)llmgwi_base_error(&error, LLMGW_E_MISUSE,
                                "a blocking call was made from the log function or is_valid");
        return llmgwi_public_error_reply(gw, &error);
    }
    llmgwi_public_enter(gw);
    llmgwi_base_unlock(&gw->lock);
    llmgwi_engine_call *call = NULL;
    bool accepted = llmgwi_public_begin(gw, request, &call, &error) != 0;
    llmgw_reply *reply = accepted ? NULL : llmgwi_public_error_reply(gw, &error);
    llmgwi_base_lock(&gw->lock);
    if (call) {
        llmgwi_engine_run(call);
        reply = &call->reply->pub;
        call->reply = NULL;
        llmgwi_engine_release(call);
    }
    llmgwi_public_leave(gw);
    return reply;
}

LLMGW_API llmgw_reply *llmgw_ask(llmgw *gw, const char *model, const char *prompt) {
    llmgw_request request;
    memset(&request, 0, sizeof request);
    request.model = model;
    request.prompt = prompt;
    return llmgw_chat(gw, &request);
}

LLMGW_API llmgw_call llmgw_send(llmgw *gw, const llmgw_request *request, llmgw_error *error) {
    llmgw_error local;
    bool silent = !error;
    if (!error) error = &local;
    memset(error, 0, sizeof *error);
    if (!gw || llmgwi_public_is_forked(gw)) {
        *error = gw ? llmgwi_public_forked.pub.error : llmgwi_public_no_gateway.pub.error;
        return 0;
    }
    llmgwi_public_enter(gw);
    llmgwi_base_unlock(&gw->lock);
    llmgw_call id = llmgwi_public_begin(gw, request, NULL, error);
    if (!id) llmgwi_config_redact(&gw->config, error->text);
    if (!id && silent) llmgwi_engine_log(gw, LLMGW_LOG_CALL_FAILED, error->text);
    llmgwi_base_lock(&gw->lock);
    llmgwi_public_leave(gw);
    return id;
}

static int llmgwi_public_misuse(llmgw *gw, const char *what) {
    llmgwi_engine_log(gw, LLMGW_LOG_MISUSE, what);
    return LLMGW_E_MISUSE;
}

LLMGW_API int llmgw_poll(llmgw *gw, int timeout_ms) {
    if (!gw) return -LLMGW_E_CLOSED;
    if (llmgwi_public_is_forked(gw)) return -LLMGW_E_FORKED;
    if (llmgwi_engine_in_callback) return -llmgwi_public_misuse(gw, "llmgw_poll was called from a callback");
    if (timeout_ms < -1) return -LLMGW_E_ARGUMENT;
    int64_t until = timeout_ms < 0 ? LLMGWI_BASE_NEVER : llmgwi_engine_now(gw) + (int64_t)timeout_ms * 1000;
    llmgwi_public_enter(gw);
    int count = llmgwi_engine_poll(gw, until);
    llmgwi_public_leave(gw);
    return count;
}

LLMGW_API int llmgw_fd(llmgw *gw) {
    if (!gw || llmgwi_public_is_forked(gw)) return -1;
    llmgwi_base_lock(&gw->lock);
    int fd = gw->http.fd(gw->http.self);
    if (fd >= 0 && !gw->fd_used) {
        gw->fd_used = true;
        gw->http.notice(gw->http.self, gw->ready != NULL);
        gw->http.wake(gw->http.self); /* one poll sets the timer */
    }
    llmgwi_base_unlock(&gw->lock);
    return fd;
}

LLMGW_API int llmgw_timeout_ms(llmgw *gw) {
    if (!gw || llmgwi_public_is_forked(gw)) return -1;
    llmgwi_base_lock(&gw->lock);
    int64_t now = llmgwi_engine_now(gw), next = gw->inbox || gw->ready || gw->woken ? now
                                                : gw->pending                       ? gw->next_us
                                                                                    : LLMGWI_BASE_NEVER;
    llmgwi_base_unlock(&gw->lock);
    if (next == LLMGWI_BASE_NEVER) return -1;
    int64_t wait = next > now ? (next - now + 999) / 1000 : 0;
    return wait > INT_MAX ? INT_MAX : (int)wait;
}

LLMGW_API void llmgw_cancel(llmgw *gw, llmgw_call id) {
    if (!gw || llmgwi_public_is_forked(gw)) return;
    uint32_t slot = (uint32_t)(id & 0xFFFFFFFFu);
    llmgwi_base_lock(&gw->lock);
    if (slot && slot <= gw->slot_count && gw->slots[slot - 1].generation == (uint32_t)(id >> 32)) {
        llmgwi_engine_call *call = gw->slots[slot - 1].call;
        if (call && !call->ended) {
            call->cancelled = true;
            llmgwi_engine_inbox_add(gw, call);
        }
    }
    llmgwi_base_unlock(&gw->lock);
}

LLMGW_API void llmgw_wake(llmgw *gw) {
    if (!gw || llmgwi_public_is_forked(gw)) return;
    llmgwi_base_lock(&gw->lock);
    gw->woken = true;
    if (gw->asleep || gw->fd_used) gw->http.wake(gw->http.self);
    for (llmgwi_engine_waiter *waiter = gw->waiters; waiter; waiter = waiter->next)
        if (waiter->polls) llmgwi_base_cond_signal(&waiter->cond);
    llmgwi_base_unlock(&gw->lock);
}

LLMGW_API size_t llmgw_pending(llmgw *gw) {
    if (!gw || llmgwi_public_is_forked(gw)) return 0;
    llmgwi_base_lock(&gw->lock);
    size_t pending = gw->pending;
    llmgwi_base_unlock(&gw->lock);
    return pending;
}

/* Lists the limits of one key or model. Under lock; returns how many there are by now. */
static size_t llmgwi_public_list_limits(llmgwi_engine_limits *limits, const llmgw_limit *of, int64_t now,
                                        llmgw_limit *list, size_t count, size_t found) {
    for (int kind = 0; kind <= LLMGW_LIMIT_CONCURRENCY; kind++) {
        llmgwi_engine_use use = llmgwi_engine_limit_use(limits, (llmgw_limit_kind)kind, now);
        if (!use.limit) continue;
        if (found < count) {
            list[found] = *of;
            list[found].kind = (llmgw_limit_kind)kind;
            list[found].limit = use.limit;
            list[found].used = use.used;
        }
        found++;
    }
    return found;
}

/* The same for what its headers and overload errors have taught of a target. */
static size_t llmgwi_public_list_learned(llmgwi_engine_target *target, llmgw_limit *of, int64_t now,
                                         llmgw_limit *list, size_t count, size_t found) {
    int64_t most = llmgwi_health_aimd_limit(&target->aimd);
    of->learned = true;
    for (int kind = LLMGW_LIMIT_RPM; kind <= LLMGW_LIMIT_TPM; kind++)
        for (size_t key = 0; key < target->provider->key_count; key++) {
            llmgwi_engine_lane *lane = &target->lanes[key];
            llmgwi_health_bucket *bucket = kind == LLMGW_LIMIT_RPM ? &lane->requests : &lane->tokens;
            if (!llmgwi_health_bucket_refill(bucket, now) || bucket->limit <= 0) continue;
            if (found < count) {
                list[found] = *of;
                list[found].kind = (llmgw_limit_kind)kind;
                list[found].key = (int)key;
                list[found].limit = bucket->limit;
                list[found].used = bucket->limit - bucket->level;
            }
            found++;
        }
    if (most == INT64_MAX) return found;
    if (found < count) {
        list[found] = *of;
        list[found].kind = LLMGW_LIMIT_CONCURRENCY;
        list[found].limit = most;
        list[found].used = target->in_flight;
    }
    return found + 1;
}

LLMGW_API size_t llmgw_limits(llmgw *gw, llmgw_limit *limits, size_t count) {
    size_t found = 0;
    if (!gw || llmgwi_public_is_forked(gw)) return 0;
    if (!limits) count = 0;
    llmgwi_base_lock(&gw->lock);
    int64_t now = llmgwi_engine_now(gw);
    llmgw_limit of;
    memset(&of, 0, sizeof of);
    of.model = "";
    for (size_t i = 0; i < gw->config.provider_count; i++)
        for (size_t key = 0; key < gw->config.providers[i]->key_count; key++) {
            of.provider = gw->config.providers[i]->name;
            of.key = (int)key;
            found = llmgwi_public_list_limits(&gw->accounts[gw->config.providers[i]->lane_at + key].limits,
                                              &of, now, limits, count, found);
        }
    for (size_t i = 0; i < gw->target_count; i++) {
        llmgwi_engine_target *target = gw->targets[i];
        of.provider = target->provider->name;
        of.model = target->model;
        of.key = -1;
        of.learned = false;
        if (target->limits) found = llmgwi_public_list_limits(target->limits, &of, now, limits, count, found);
        found = llmgwi_public_list_learned(target, &of, now, limits, count, found);
    }
    llmgwi_base_unlock(&gw->lock);
    return found;
}

LLMGW_API size_t llmgw_targets(llmgw *gw, llmgw_target *targets, size_t count) {
    if (!gw || llmgwi_public_is_forked(gw)) return 0;
    if (!targets) count = 0;
    llmgwi_base_lock(&gw->lock);
    int64_t now = llmgwi_engine_now(gw);
    size_t all = gw->target_count;
    for (size_t i = 0; i < all && i < count; i++) {
        const llmgwi_engine_target *from = gw->targets[i];
        llmgw_target *to = &targets[i];
        to->provider = from->provider->name;
        to->model = from->model;
        to->breaker = from->breaker.state;
        to->open_ms = 0;
        if (to->breaker == LLMGW_BREAKER_OPEN && from->breaker.open_until_us > now)
            to->open_ms = (from->breaker.open_until_us - now + 999) / 1000;
        to->in_flight = from->in_flight;
        to->attempts = from->attempts;
        to->failures = from->failures;
        const llmgwi_health_histogram *latency = &from->latency[1];
        if (!llmgwi_health_histogram_quantile(latency, 0.5)) latency = &from->latency[0];
        to->p50_ms = llmgwi_health_histogram_quantile(latency, 0.5) / 1000;
        to->p95_ms = llmgwi_health_histogram_quantile(latency, 0.95) / 1000;
    }
    llmgwi_base_unlock(&gw->lock);
    return all;
}

LLMGW_API void llmgw_reply_free(llmgw_reply *reply) {
    llmgwi_engine_reply_drop((llmgwi_engine_reply *)(void *)reply);
}

LLMGW_API llmgw_reply *llmgw_reply_keep(const llmgw_reply *reply) {
    llmgwi_engine_reply *own = (llmgwi_engine_reply *)(uintptr_t)reply;
    if (!own) return llmgwi_public_fixed_reply(&llmgwi_public_no_memory);
    if (own->refs) LLMGWI_BASE_ADD(&own->refs, 1u);
    return &own->pub;
}

LLMGW_API llmgw_opt llmgw_set(double value) {
    llmgw_opt opt;
    opt.set = true;
    opt.value = value;
    return opt;
}

LLMGW_API const char *llmgw_code_name(llmgw_code code) {
    const llmgwi_base_error_row *row = llmgwi_base_error_find(code);
    return row ? row->name : "?";
}

LLMGW_API const char *llmgw_finish_name(llmgw_finish finish) {
    static const char *const names[] = {"none", "stop", "length", "tool", "filter", "pause"};
    return (unsigned)finish < LLMGWI_BASE_COUNT(names) ? names[finish] : "?";
}

LLMGW_API const char *llmgw_limit_name(llmgw_limit_kind kind) {
    return (unsigned)kind < LLMGWI_BASE_COUNT(llmgwi_engine_limit_names) ? llmgwi_engine_limit_names[kind]
                                                                         : "?";
}

LLMGW_API const char *llmgw_breaker_name(llmgw_breaker breaker) {
    return (unsigned)breaker < LLMGWI_BASE_COUNT(llmgwi_engine_breaker_names)
               ? llmgwi_engine_breaker_names[breaker]
               : "?";
}

LLMGW_API const char *llmgw_trace_name(llmgw_trace_kind kind) {
    static const char *const names[] = {"attempt", "wait", "skip"};
    return (unsigned)kind < LLMGWI_BASE_COUNT(names) ? names[kind] : "?";
}

/* ---- open and close ---- */

/* The request headers of one lane: for a plain call and for a stream. */
static bool llmgwi_public_lane(llmgw *gw, const llmgwi_config_provider *provider, size_t key) {
    static const char *const common[] = {"Content-Type: application/json",
                                         ("User-Agent: llmgw.h/" LLMGW_VERSION), "Expect:"};
    static const char *const accept[] = {"Accept: application/json", "Accept: text/event-stream"};
    const char *lines[LLMGWI_CONFIG_HEADERS + 5];
    void **made = &gw->headers[(provider->lane_at + key) * 2];
    size_t n = 0;
    if (provider->keys[key].line) lines[n++] = provider->keys[key].line;
    for (size_t h = 0; h < provider->header_count; h++) lines[n++] = provider->headers[h].line;
    for (size_t c = 0; c < LLMGWI_BASE_COUNT(common); c++) lines[n++] = common[c];
    for (size_t stream = 0; stream < 2; stream++) {
        lines[n] = accept[stream];
        made[stream] = gw->http.headers_make(gw->http.self, lines, n + 1);
        if (!made[stream]) return false;
    }
    return true;
}

static bool llmgwi_public_headers(llmgw *gw) {
    size_t providers = gw->config.provider_count, lanes = gw->config.lane_count;
    gw->headers = (void **)llmgwi_base_zalloc(&gw->mem, (lanes * 2 + 1) * sizeof *gw->headers);
    if (!gw->headers) return false;

    for (size_t i = 0; i < providers; i++)
        for (size_t key = 0; key < gw->config.providers[i]->key_count; key++)
            if (!llmgwi_public_lane(gw, gw->config.providers[i], key)) return false;
    return true;
}

/* Readies what is remembered of keys, targets and routes. */
static bool llmgwi_public_health(llmgw *gw) {
    const llmgwi_config *config = &gw->config;
    const llmgw_options *options = &config->options;
    gw->accounts = (llmgwi_engine_account *)llmgwi_base_zalloc(&gw->mem, (config->lane_count + 1) *
                                                                             sizeof *gw->accounts);
    gw->routes =
        (llmgwi_engine_route *)llmgwi_base_zalloc(&gw->mem, (config->route_count + 1) * sizeof *gw->routes);
    gw->warm_us = (int64_t *)llmgwi_base_zalloc(&gw->mem, (config->provider_count + 1) * sizeof *gw->warm_us);
    if (!gw->accounts || !gw->routes || !gw->warm_us) return false;
    for (size_t i = 0; i < config->provider_count; i++)
        for (size_t key = 0; key < config->providers[i]->key_count; key++)
            llmgwi_engine_limits_init(&gw->accounts[config->providers[i]->lane_at + key].limits,
                                      &config->providers[i]->limits);
    for (size_t r = 0; r < config->route_count; r++) {
        gw->routes[r].line.timer.heap_at = SIZE_MAX;
        llmgwi_health_budget_init(&gw->routes[r].hedges, 1, 10, 0);
        for (size_t i = 0; i < config->routes[r]->target_count; i++) {
            gw->routes[r].targets[i] = llmgwi_engine_target_get(gw, &config->routes[r]->targets[i]);
            if (!gw->routes[r].targets[i]) return false;
        }
    }
    llmgwi_health_budget_init(&gw->retries, LLMGWI_HEALTH_BUDGET_START, LLMGWI_HEALTH_BUDGET_CAP,
                              LLMGWI_HEALTH_BUDGET_PER_S);
    gw->breaker_rules.failures = options->breaker_failures;
    gw->breaker_rules.percent = options->breaker_percent;
    gw->breaker_rules.min_calls = options->breaker_min_calls;
    gw->breaker_rules.window_us = (int64_t)options->breaker_window_ms * 1000;
    gw->breaker_rules.open_us = (int64_t)options->breaker_open_ms * 1000;
    gw->breaker_rules.open_max_us = (int64_t)options->breaker_open_max_ms * 1000;
    return true;
}

/* Frees what open or a life has filled. */
static void llmgwi_public_free(llmgw *gw, bool forked) {
    llmgwi_base_mem mem = gw->mem;
    if (gw->http.self && !forked) llmgwi_engine_reap(gw);
    for (size_t i = 0; gw->http.self && gw->headers && i < gw->config.lane_count * 2; i++)
        if (gw->headers[i] && !forked) gw->http.headers_free(gw->http.self, gw->headers[i]);
    if (gw->http.self) gw->http.close(gw->http.self, forked);
    llmgwi_base_free(&mem, gw->headers, (gw->config.lane_count * 2 + 1) * sizeof *gw->headers);
    for (size_t i = 0; i < gw->target_count; i++) llmgwi_engine_target_free(gw, gw->targets[i]);
    llmgwi_base_free(&mem, gw->targets, gw->target_cap * sizeof *gw->targets);
    llmgwi_base_free(&mem, gw->accounts, (gw->config.lane_count + 1) * sizeof *gw->accounts);
    llmgwi_base_free(&mem, gw->routes, (gw->config.route_count + 1) * sizeof *gw->routes);
    llmgwi_base_free(&mem, gw->warm_us, (gw->config.provider_count + 1) * sizeof *gw->warm_us);

    llmgwi_base_free(&mem, gw->slots, gw->slot_cap * sizeof *gw->slots);
    llmgwi_base_free(&mem, gw->heap, gw->heap_cap * sizeof *gw->heap);
    if (!forked) {
        llmgwi_base_cond_free(&gw->left);
        llmgwi_base_mutex_free(&gw->lock);
    }
    llmgwi_config_close(&gw->config);
    llmgwi_base_free(&mem, gw, sizeof *gw);
}

static llmgw *llmgwi_public_failed(const llmgw_options *options, llmgw_error *error, const llmgw_error *why) {
    if (error)
        *error = *why;
    else if (options->log)
        options->log(LLMGW_LOG_OPEN_FAILED, 0, why->text, options->log_user);
    else
        (void)fprintf(stderr, "llmgw_open: %s\n", why->text);
    return NULL;
}

/* llmgw_open with the two seams: NULL is the real thing. A http given here belongs to the gateway. */
static llmgw *llmgwi_public_open(const llmgw_options *options, llmgw_error *error, const llmgwi_http *http,
                                 const llmgwi_base_clock *clock) {
    llmgw_options none;
    llmgw_error why;
    llmgwi_base_mem mem;
    memset(&none, 0, sizeof none);
    memset(&why, 0, sizeof why);
    if (error) memset(error, 0, sizeof *error);
    if (!options) options = &none;
    mem.fn = options->alloc;
    mem.user = options->alloc_user;
    llmgwi_base_watch_fork();
    llmgw *gw = (llmgw *)llmgwi_base_zalloc(&mem, sizeof *gw);
    if (!gw) {
        (void)llmgwi_base_error(&why, LLMGW_E_MEMORY, "out of memory for the gateway");
        return llmgwi_public_failed(options, error, &why);
    }
    gw->mem = mem;
    gw->clock = clock ? *clock : llmgwi_base_real_clock;
    gw->log = options->log;
    gw->log_user = options->log_user;
    gw->fork_count = LLMGWI_BASE_LOAD(&llmgwi_base_fork_count);
    gw->inbox_tail = &gw->inbox;
    gw->ready_tail = &gw->ready;
    gw->starved_tail = &gw->starved;
    gw->free_slot = UINT32_MAX;
    gw->next_us = LLMGWI_BASE_NEVER;
    llmgwi_base_mutex_init(&gw->lock);
    llmgwi_base_cond_init(&gw->left);
    bool ok = llmgwi_config_open(&gw->config, &gw->mem, options, &why);
    const llmgw_options *caps = &gw->config.options;
    if (http)
        gw->http = *http;
    else if (ok)
        ok = llmgwi_http_open(&gw->http, &gw->mem, gw->config.ca_file, caps->max_connections,
                              caps->max_idle_connections);
    if (ok && llmgwi_public_headers(gw) && llmgwi_public_health(gw)) return gw;
    if (!why.code)
        (void)llmgwi_base_error(&why, LLMGW_E_MEMORY, "out of memory or descriptors for the gateway");
    llmgwi_config_redact(&gw->config, why.text);
    llmgwi_public_free(gw, false);
    return llmgwi_public_failed(options, error, &why);
}

LLMGW_API llmgw *llmgw_open(const llmgw_options *options, llmgw_error *error) {
    return llmgwi_public_open(options, error, NULL, NULL);
}

LLMGW_API llmgw_code llmgw_close(llmgw *gw) {
    if (!gw) return LLMGW_OK;
    if (llmgwi_public_is_forked(gw)) {
        llmgwi_public_free(gw, true);
        return LLMGW_OK;
    }
    if (llmgwi_engine_in_callback)
        return (llmgw_code)llmgwi_public_misuse(gw, "llmgw_close was called from a callback");
    llmgwi_base_lock(&gw->lock);
    gw->closing = true;
    for (size_t i = 0; i < gw->slot_count; i++)
        if (gw->slots[i].call && !gw->slots[i].call->ended) llmgwi_engine_inbox_add(gw, gw->slots[i].call);
    for (llmgwi_engine_waiter *waiter = gw->waiters; waiter; waiter = waiter->next)
        llmgwi_base_cond_signal(&waiter->cond);
    gw->http.wake(gw->http.self);
    for (;;) {
        bool ended;
        (void)llmgwi_engine_dispatch(gw, &ended);
        if (!gw->pending && !gw->inside && !gw->ready && !gw->inbox) break;
        if (!gw->driving && gw->inbox)
            llmgwi_engine_turn(gw, 0, NULL);
        else
            llmgwi_base_cond_wait(&gw->left, &gw->lock, llmgwi_base_now_us(NULL) + 10000);
    }
    llmgwi_base_unlock(&gw->lock);
    llmgwi_public_free(gw, false);
    return LLMGW_OK;
}

#endif /* LLMGW_IMPLEMENTATION */

/* RELEASE NOTES
     0.2.0  (2026-11-22)  routes that race, hedge, weigh and balance; breakers, retry budget, several keys,
                          limits with waiting lines, learned limits, adaptive concurrency; streams that go on
                          after a cut; validators; warm standby; llmgw_limits, llmgw_targets
     0.1.0  (2026-11-22)  calling (blocking, poll, descriptor), dialects openai, anthropic and gemini,
                          ordered fallback, exact cost from built-in and configured prices

   LICENSE
     MIT, see the file LICENSE. */
