/* llmgw.h - an LLM gateway in one C header.                                          version 0.1.0

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
       >>text     UTF-8
       >>json     strict reader without allocation, writer
       >>frame    splits a stream of bytes into server-sent events
       >>dialect  what the providers speak: requests out; replies, events and errors in
       >>config   descriptions, configuration file and environment to one checked table
       >>price    integer money
       >>health   waiting times: backoff, Retry-After
       >>route    names to ordered targets
       >>http     the only libcurl
       >>engine   calls, attempts, deadlines, events
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
#define LLMGW_VERSION_MINOR 1
#define LLMGW_VERSION_PATCH 0
#define LLMGW_VERSION "0.1.0"

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
#define llmgw_open llmgw_open_v0_1

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
    X(E_INTERNAL, 404, 0, "a defect in llmgw.h")

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

typedef struct llmgw_event llmgw_event;
typedef void (*llmgw_event_fn)(const llmgw_event *event, void *user);

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
    llmgw_event_fn on_event; /* NULL: no events, only the reply */
    void *user;              /* handed to on_event */

    /* Deadlines in ms; 0: the gateway's, LLMGW_OFF: none. */
    int deadline_ms;    /* the whole call with all its attempts */
    int connect_ms;     /* each attempt: until the request can be written (DNS, TCP, TLS) */
    int first_token_ms; /* streams, each attempt: from the request until the first token */
    int idle_ms;        /* each attempt: silence between two chunks of a reply that has begun */
    int max_attempts;   /* upstream attempts in all, over all targets; 0: the gateway's. At most 64 */
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
    bool known; /* false: the provider did not tell */
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
typedef struct llmgw_reply {
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
    int attempts;             /* requests to providers, all in all; the last one is what answered */
    const llmgw_trace *trace; /* every attempt, wait and skip, in order */
    size_t trace_count;
} llmgw_reply;

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
    LLMGW_EVENT_REWIND,    /* an attempt failed midway: keep only the first keep bytes of the text you
                              were given, and no reasoning and no tools */
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
    int tool_index;        /* which of several calls, from 0 */
    const char *tool_id;   /* TOOL: never NULL */
    const char *tool_name; /* TOOL: never NULL */
    size_t keep;
    const llmgw_trace *trace; /* TRY */
    const llmgw_reply *reply; /* END */
};

/* ---- configuration ------------------------------------------------------------------------ */

/* A provider. A known name (openai, anthropic, gemini, deepseek, mistral, qwen, moonshot,
   openrouter, portkey, tokenmix, ollama, llamacpp, vllm, groq, xai) brings dialect, url and key
   variable; what you set replaces them. */
typedef struct llmgw_provider {
    const char *name;           /* required: [A-Za-z0-9_.-]{1,64} */
    const char *dialect;        /* "openai", "anthropic", "gemini"; required for a name that is not known */
    const char *url;            /* base, as "https://api.openai.com/v1"; no user, query or fragment */
    const char *key;            /* "env:NAME", or the key itself; NULL: the known name's variable; "": none */
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
    const char *name;     /* required */
    const char *provider; /* required: a provider's name */
    const char *model;    /* NULL: name */
    llmgw_price price;    /* unset: the built-in row for the model, if there is one */
} llmgw_model;

/* A route: request.model = name tries these in order. What fails goes on to the next target at once
   (also a 400 or 401: another provider may take it); after the last the first is tried again, after a
   pause, if its failure was of a kind that passes. max_attempts counts them all. */
typedef struct llmgw_route {
    const char *name;           /* required */
    const char *how;            /* NULL or "fallback"; nothing else in this version */
    const char *const *targets; /* aliases or "provider/model"; "try" in the file */
    size_t target_count;
} llmgw_route;

/* Log items: silent by default. X(name, level, text); levels: 0 error, 1 warning, 2 info. */
#define LLMGW_LOG_ITEMS(X)                                                                                   \
    X(OPEN_FAILED, 0, "llmgw_open failed")                                                                   \
    X(MISUSE, 0, "a function was called from where it may not be called")                                    \
    X(ATTEMPT_FAILED, 1, "an attempt failed")                                                                \
    X(CALL_FAILED, 1, "a call failed")                                                                       \
    X(FAILOVER, 2, "a call goes on with another attempt")

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

/* splitmix64 (Steele, Lea, Flood 2014), one state a process, seeded by the clock and an address. */
static uint64_t llmgwi_base_random(void *user) {
    static uint64_t state;
    (void)user;
    if (!LLMGWI_BASE_LOAD(&state)) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        uint64_t seed =
            (uint64_t)t.tv_nsec * 0x9E3779B97F4A7C15u ^ (uint64_t)t.tv_sec ^ (uint64_t)(uintptr_t)&t;
        LLMGWI_BASE_ADD(&state, seed | 1);
    }
    uint64_t z = LLMGWI_BASE_ADD(&state, (uint64_t)0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
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
/* >>text   purpose: UTF-8.   uses: nothing   guarantees: no state, no allocation               */
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
    {"insufficient_quota", LLMGW_E_QUOTA},
    {"credit_balance_exhausted", LLMGW_E_QUOTA},
    {"billing_error", LLMGW_E_QUOTA},
    {"billing_not_active", LLMGW_E_QUOTA},
    {"content_filter", LLMGW_E_FILTERED},
    {"content_policy_violation", LLMGW_E_FILTERED},
    {"invalid_api_key", LLMGW_E_AUTH},
    {"API_KEY_INVALID", LLMGW_E_AUTH},
    {"authentication_error", LLMGW_E_AUTH},
    {"permission_error", LLMGW_E_AUTH},
    {"UNAUTHENTICATED", LLMGW_E_AUTH},
    {"PERMISSION_DENIED", LLMGW_E_AUTH},
    {"model_not_found", LLMGW_E_NOT_FOUND},
    {"not_found_error", LLMGW_E_NOT_FOUND},
    {"NOT_FOUND", LLMGW_E_NOT_FOUND},
    {"rate_limit_error", LLMGW_E_RATE_LIMITED},
    {"rate_limit_exceeded", LLMGW_E_RATE_LIMITED},
    {"RESOURCE_EXHAUSTED", LLMGW_E_RATE_LIMITED},
    {"overloaded_error", LLMGW_E_OVERLOADED},
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

/* What an error body says, wherever it says it. */
typedef struct llmgwi_dialect_said {
    llmgwi_json_text message;
    llmgwi_json_text words[4]; /* code, type, status, reason */
    int status;                /* a number among them */
    bool per_day;              /* gemini: the quota of the day is used up */
    int64_t retry_ms;
} llmgwi_dialect_said;

/* "34.4s" or "120" as milliseconds; 0 if it is neither. */
static int64_t llmgwi_dialect_seconds(llmgwi_base_str text) {
    int64_t ms = 0, unit = 1000;
    size_t i = 0;
    for (; i < text.n && text.p[i] >= '0' && text.p[i] <= '9'; i++)
        if (ms < 1000000000) ms = ms * 10 + (text.p[i] - '0') * 1000;
    if (i == 0) return 0;
    if (i < text.n && text.p[i] == '.')
        for (i++; i < text.n && text.p[i] >= '0' && text.p[i] <= '9'; i++)
            ms += (text.p[i] - '0') * (unit /= 10);
    if (i < text.n && text.p[i] == 's') i++;
    return i == text.n ? ms : 0;
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
    if (json->depth > 8) return;
    if (kind == LLMGWI_JSON_OBJECT && (deeper || llmgwi_base_is(key, "innererror"))) {
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
        for (size_t i = 0; i < LLMGWI_BASE_COUNT(words) && !llmgwi_json_is(text, "error"); i++)
            if (llmgwi_base_is(key, words[i]) && (!said->words[i].raw.n || i == 3)) said->words[i] = text;
    }
}

static llmgw_code llmgwi_dialect_classify(const llmgwi_dialect_said *said, int status) {
    static const char *const long_prompt[] = {"maximum context length", "prompt is too long",
                                              "input is too long", "exceeds the maximum number of tokens"};
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
    if (code == LLMGW_E_BAD_REQUEST)
        for (size_t i = 0; i < LLMGWI_BASE_COUNT(long_prompt); i++)
            if (llmgwi_base_has(said->message.raw, long_prompt[i])) code = LLMGW_E_CONTEXT_LENGTH;
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
    error->retry_after_ms = said.retry_ms;
}

/* ---- headers of a reply ---- */

typedef struct llmgwi_dialect_meta {
    int64_t retry_after_ms; /* 0: not said */
    int should_retry;       /* 1 yes, -1 no, 0 not said */
    bool json, html;        /* content type */
} llmgwi_dialect_meta;

/* Days since 1970-01-01 of a Gregorian date (Howard Hinnant's days_from_civil). */
static int64_t llmgwi_dialect_days(int64_t y, int64_t m, int64_t d) {
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400, yoe = y - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

/* "Wed, 21 Oct 2015 07:28:00 GMT" as seconds since 1970; 0 if it is none. */
static int64_t llmgwi_dialect_date(llmgwi_base_str text) {
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    char line[64], month[4];
    int d, y, h, m, s;
    if (text.n >= sizeof line) return 0;
    memcpy(line, text.p, text.n);
    line[text.n] = 0;
    if (sscanf(line, "%*3s, %2d %3s %4d %2d:%2d:%2d", &d, month, &y, &h, &m, &s) != 6) return 0;
    const char *at = strstr(months, month);
    if (!at || strlen(month) != 3 || (at - months) % 3) return 0;
    return llmgwi_dialect_days(y, (at - months) / 3 + 1, d) * 86400 + h * 3600 + m * 60 + s;
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
    }
}

/* ---- writing requests: what the dialects share ---- */

typedef struct llmgwi_dialect_build {
    llmgwi_json_out out;
    const llmgw_request *request;
    const llmgwi_dialect_target *target;
    llmgw_error *error;
    size_t message, part; /* where we are, for error texts; SIZE_MAX: outside */
} llmgwi_dialect_build;

static void llmgwi_dialect_refuse(llmgwi_dialect_build *build, llmgw_code code, const char *field,
                                  const char *why) {
    char where[64] = "";
    if (build->error->code) return;
    if (build->message != SIZE_MAX && build->message == build->request->message_count)
        field = "prompt";
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

/* The i-th turn: messages, then prompt as a user turn. */
static llmgw_message llmgwi_dialect_turn(const llmgw_request *request, size_t i) {
    llmgw_message turn;
    if (i < request->message_count) return request->messages[i];
    memset(&turn, 0, sizeof turn);
    turn.role = LLMGW_ROLE_USER;
    turn.text = request->prompt;
    return turn;
}

static size_t llmgwi_dialect_turns(const llmgw_request *request) {
    return request->message_count + (request->prompt ? 1 : 0);
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
    size_t n = llmgwi_dialect_turns(build->request), end = i + 1;
    llmgw_role role = llmgwi_dialect_turn(build->request, i).role;
    for (; end < n; end++) {
        llmgw_message next = llmgwi_dialect_turn(build->request, end);
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
            llmgw_message turn = llmgwi_dialect_turn(build->request, i);
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
    for (size_t i = 0, end; i < llmgwi_dialect_turns(build->request); i = end) {
        llmgw_message turn = llmgwi_dialect_turn(build->request, i);
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
    llmgw_message turn = llmgwi_dialect_turn(build->request, i);
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
    for (size_t i = 0; i < llmgwi_dialect_turns(request); i++) llmgwi_dialect_openai_turn(build, i);
    build->message = build->part = SIZE_MAX;
    llmgwi_json_close(out, ']');
    llmgwi_dialect_openai_tools(build);
    llmgwi_dialect_openai_options(build);
    if (request->stream) {
        llmgwi_dialect_raw(build, "stream", "true");
        if (!(build->target->quirks & LLMGWI_DIALECT_NO_USAGE_OPTION))
            llmgwi_dialect_raw(build, "stream_options", "{\"include_usage\":true}");
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

/* Writes a request's body. False: error says which field is wrong, or that max_request_bytes is too
   small. */
static bool llmgwi_dialect_write(const llmgwi_dialect *dialect, const llmgwi_dialect_target *target,
                                 const llmgw_request *request, llmgwi_base_buf *body, llmgw_error *error) {
    llmgwi_dialect_build build;
    memset(&build, 0, sizeof build);
    build.out.buf = body;
    build.request = request;
    build.target = target;
    build.error = error;
    build.message = build.part = SIZE_MAX;
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
/* >>config   purpose: descriptions, configuration file and environment to one checked table.    */
/*            uses: json, dialect   guarantees: an error names the path of the field; keys stand  */
/*            in memory that is wiped; nothing here changes after open                            */
/* ------------------------------------------------------------------------------------------- */

#define LLMGWI_CONFIG_ROUTE_TARGETS 64 /* LLMGWI_ROUTE_TARGETS */
#define LLMGWI_CONFIG_HEADERS 32
#define LLMGWI_CONFIG_FILE_BYTES ((size_t)4 << 20)
#define LLMGWI_CONFIG_PROBE_MS 50 /* connect deadline to a local server that nobody configured */

/* A header line; the list is in the form the http section wants. Lines may hold keys: wiped. */
typedef struct llmgwi_config_header {
    char *line;
    size_t size;
} llmgwi_config_header;

typedef struct llmgwi_config_provider {
    const char *name;
    size_t index; /* among the providers */
    const llmgwi_dialect *dialect;
    const char *flavour; /* known name or dialect */
    unsigned quirks;
    const char *url; /* without a slash at its end */
    bool tls, loopback;
    bool keyed;          /* some header is a secret */
    bool listed;         /* at its known place: built-in prices hold */
    bool named;          /* by its own name, not by dialect only: its key's variable holds */
    bool discovered;     /* a local server that nobody configured */
    int source;          /* which of C, file and environment defined it */
    const char *missing; /* NULL, or where the key should have come from */
    llmgwi_config_header headers[LLMGWI_CONFIG_HEADERS];
    size_t header_count;
} llmgwi_config_provider;

/* provider + model: what an attempt goes to. */
typedef struct llmgwi_config_target {
    llmgwi_config_provider *provider;
    const char *model;
    llmgw_price price;
} llmgwi_config_target;

typedef struct llmgwi_config_model {
    const char *name;
    int source;
    llmgwi_config_target target;
} llmgwi_config_model;

typedef struct llmgwi_config_route {
    const char *name;
    int source;
    llmgwi_config_target targets[LLMGWI_CONFIG_ROUTE_TARGETS];
    size_t target_count;
} llmgwi_config_route;

typedef struct llmgwi_config {
    const llmgwi_base_mem *mem;
    llmgwi_base_arena arena;
    llmgw_options options; /* numbers resolved; pointers are the caller's: not used after open */
    const char *ca_file;
    int source; /* while opening: 0 C, 1 file, 2 environment */
    llmgwi_config_provider **providers;
    size_t provider_count, provider_cap;
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
    llmgwi_config_header *secrets =
        (llmgwi_config_header *)llmgwi_base_grow(config->mem, config->secrets, &config->secret_cap,
                                                 config->secret_count, LLMGW_MAX_NAMES * 4, sizeof *secrets);
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

static void llmgwi_config_close(llmgwi_config *config) {
    for (size_t i = 0; i < config->provider_count; i++)
        for (size_t h = 0; h < config->providers[i]->header_count; h++) {
            llmgwi_config_header *header = &config->providers[i]->headers[h];
            llmgwi_base_wipe(header->line, header->size);
            llmgwi_base_free(config->mem, header->line, header->size);
        }
    for (size_t i = 0; i < config->secret_count; i++) {
        llmgwi_base_wipe(config->secrets[i].line, config->secrets[i].size);
        llmgwi_base_free(config->mem, config->secrets[i].line, config->secrets[i].size);
    }
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

/* Adds the line "name: prefix value". */
static bool llmgwi_config_header_add(llmgwi_config *config, llmgwi_config_provider *provider,
                                     const char *name, const char *prefix, const char *value) {
    if (provider->header_count == LLMGWI_CONFIG_HEADERS) return false;
    size_t size = strlen(name) + strlen(prefix) + strlen(value) + 3;
    char *line = (char *)llmgwi_base_realloc(config->mem, NULL, 0, size);
    if (!line) return false;
    snprintf(line, size, "%s: %s%s", name, prefix, value);
    provider->headers[provider->header_count].line = line;
    provider->headers[provider->header_count++].size = size;
    return true;
}

static bool llmgwi_config_clean(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7F) return false;
    return true;
}

static bool llmgwi_config_key(llmgwi_config *config, llmgwi_config_provider *provider,
                              const llmgw_provider *from, const llmgwi_dialect_known *known, const char *path,
                              llmgw_error *error) {
    const char *key = from->key && from->key[0] ? llmgwi_config_value(from->key) : NULL;
    bool asked = from->key && from->key[0];
    if (asked && strcmp(from->key, "env:") == 0)
        return llmgwi_config_wrong(error, path, "key", "expected a variable's name after \"env:\"");
    const char *header = known && known->key_header ? known->key_header : provider->dialect->key_header;
    const char *prefix = known && known->key_header ? "" : provider->dialect->key_prefix;
    bool own = provider->named || provider->listed;
    if (!from->key && known && own && !(known->quirks & LLMGWI_DIALECT_LOCAL && !provider->loopback))
        key = getenv(known->key_var);
    if (!key || !key[0]) {
        bool needs = asked || (!from->key && known && !(known->quirks & LLMGWI_DIALECT_LOCAL) &&
                               provider->listed && !from->url);
        if (needs)
            provider->missing = llmgwi_base_arena_dup(&config->arena, asked ? from->key + 4 : known->key_var);
        return true;
    }
    if (!llmgwi_config_clean(key))
        return llmgwi_config_wrong(error, path, "key", "holds a control character");
    if (strlen(key) > 16384) return llmgwi_config_wrong(error, path, "key", "longer than 16,384 bytes");
    provider->keyed = true;
    return (llmgwi_config_secret(config, key) &&
            llmgwi_config_header_add(config, provider, header, prefix, key)) ||
           llmgwi_config_memory(error);
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
            !llmgwi_config_header_add(config, provider, name, "", resolved))
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
    if (!llmgwi_config_key(config, provider, from, known, path, error)) return false;
    if (!llmgwi_config_headers(config, provider, from, path, error)) return false;
    if (provider->keyed && !provider->tls && !provider->loopback) {
        (void)llmgwi_base_error(error, LLMGW_E_INSECURE,
                                "%s.url: a key would travel over plain http; use https", path);
        return false;
    }
    const char *fixed = provider->dialect->header, *colon = fixed ? strchr(fixed, ':') : NULL;
    char name[64];
    if (fixed) llmgwi_base_copy_cut(name, sizeof name, fixed, (size_t)(colon - fixed));
    if (fixed && !llmgwi_config_header_add(config, provider, name, "", colon + 2))
        return llmgwi_config_memory(error);
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
    list[config->model_count++] = model;
    return !config->arena.failed || llmgwi_config_memory(error);
}

/* "alias" or "provider/model" as a target. False: it is neither. The model's text is borrowed. */
static bool llmgwi_config_target_find(const llmgwi_config *config, const char *name,
                                      llmgwi_config_target *target) {
    memset(target, 0, sizeof *target);
    for (size_t i = 0; i < config->model_count; i++)
        if (strcmp(config->models[i]->name, name) == 0) {
            *target = config->models[i]->target;
            return true;
        }
    const char *slash = strchr(name, '/');
    if (!slash || !slash[1]) return false;
    target->provider = llmgwi_config_provider_find(config, name, (size_t)(slash - name));
    target->model = slash + 1;
    for (size_t i = 0; target->provider && i < config->model_count;
         i++) { /* a configured price holds here too */
        const llmgwi_config_target *known = &config->models[i]->target;
        if (known->provider == target->provider && strcmp(known->model, target->model) == 0)
            target->price = known->price;
    }
    return target->provider != NULL;
}

static llmgwi_config_route *llmgwi_config_route_find(const llmgwi_config *config, const char *name) {
    for (size_t i = 0; i < config->route_count; i++)
        if (strcmp(config->routes[i]->name, name) == 0) return config->routes[i];
    return NULL;
}

static bool llmgwi_config_route_add(llmgwi_config *config, const llmgw_route *from, const char *path,
                                    llmgw_error *error) {
    char field[32];
    if (!llmgwi_config_name(from->name, false))
        return llmgwi_config_wrong(error, path, "name", "expected 1 to 64 characters without space or slash");
    llmgwi_config_route *same = llmgwi_config_route_find(config, from->name);
    if (same)
        return same->source != config->source || llmgwi_config_wrong(error, path, "name", "defined twice");
    for (size_t i = 0; i < config->model_count; i++)
        if (strcmp(config->models[i]->name, from->name) == 0)
            return llmgwi_config_wrong(error, path, "name", "also the name of a model");
    if (from->how && strcmp(from->how, "fallback") != 0)
        return llmgwi_config_wrong(error, path, "how", "only \"fallback\" exists in this version");
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
    for (size_t i = 0; i < from->target_count; i++) {
        snprintf(field, sizeof field, "%s[%lu]", config->source ? "try" : "targets", (unsigned long)i);
        const char *name = llmgwi_base_arena_dup(&config->arena, from->targets[i] ? from->targets[i] : "");
        if (!llmgwi_config_target_find(config, name, &route->targets[i]))
            return llmgwi_config_wrong(error, path, field,
                                       "no such alias, and no \"provider/model\" of a configured provider");
    }
    route->target_count = from->target_count;
    list[config->route_count++] = route;
    return !config->arena.failed || llmgwi_config_memory(error);
}

/* ---- the file ---- */

typedef enum llmgwi_config_type {
    LLMGWI_CONFIG_TEXT,   /* const char * */
    LLMGWI_CONFIG_INT,    /* int */
    LLMGWI_CONFIG_SIZE,   /* size_t */
    LLMGWI_CONFIG_USD,    /* llmgw_opt */
    LLMGWI_CONFIG_LIST,   /* const char *const *, then its size_t count */
    LLMGWI_CONFIG_PAIRS,  /* the same, from an object: "Name: value" */
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
    {"rpm", LLMGWI_CONFIG_LATER, 0, NULL},
    {"tpm", LLMGWI_CONFIG_LATER, 0, NULL},
    {"rpd", LLMGWI_CONFIG_LATER, 0, NULL},
    {"concurrency", LLMGWI_CONFIG_LATER, 0, NULL},
    {"keys", LLMGWI_CONFIG_LATER, 0, NULL},
    {"tags", LLMGWI_CONFIG_LATER, 0, NULL},
    {"region", LLMGWI_CONFIG_LATER, 0, NULL},
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
    {"quality", LLMGWI_CONFIG_LATER, 0, NULL},
    {NULL, LLMGWI_CONFIG_TEXT, 0, NULL}};

static const llmgwi_config_field llmgwi_config_route_fields[] = {
    {"how", LLMGWI_CONFIG_TEXT, offsetof(llmgw_route, how), NULL},
    {"try", LLMGWI_CONFIG_LIST, offsetof(llmgw_route, targets), NULL},
    {"hedge", LLMGWI_CONFIG_LATER, 0, NULL},
    {"width", LLMGWI_CONFIG_LATER, 0, NULL},
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
    if (!number.integer || number.i < -1 || number.i > INT_MAX)
        return llmgwi_config_load_wrong(load, "expected a whole number");
    if (field->type == LLMGWI_CONFIG_INT)
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
    case LLMGWI_CONFIG_SIZE:
    case LLMGWI_CONFIG_USD: return llmgwi_config_number(load, field, into);
    case LLMGWI_CONFIG_LIST:
    case LLMGWI_CONFIG_PAIRS: return llmgwi_config_list(load, field, into);
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
   there is: fills targets (the route's, or own) and their count. Borrows the config's texts and name. */
static bool llmgwi_config_resolve(const llmgwi_config *config, const char *name, llmgwi_config_target *own,
                                  const llmgwi_config_target **targets, size_t *count, llmgw_error *error) {
    const llmgwi_config_route *route = llmgwi_config_route_find(config, name);
    const char *hint = llmgwi_config_hint(name);
    *targets = route ? route->targets : own;
    *count = route ? route->target_count : 1;
    if (route || llmgwi_config_target_find(config, name, own)) return true;
    if (config->provider_count == 1 && !strchr(name, '/')) {
        own->provider = config->providers[0];
        own->model = name;
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
    total->saturated = total->saturated || more.saturated || total->pico_usd > INT64_MAX - more.pico_usd;
    total->pico_usd = total->saturated ? INT64_MAX : total->pico_usd + more.pico_usd;
    if (!total->known) total->pico_usd = 0;
}

/* ------------------------------------------------------------------------------------------- */
/* >>health   purpose: what a failure means and how long to wait.   uses: nothing                */
/*            guarantees: pure functions of state, time and random                              */
/* ------------------------------------------------------------------------------------------- */

/* What may be tried after a failure of this kind. OTHER: another target, now. SAME: this target again,
   after a pause. */
#define LLMGWI_HEALTH_OTHER 1u
#define LLMGWI_HEALTH_SAME 2u
#define LLMGWI_HEALTH_BOTH 3u

typedef struct llmgwi_health_rule {
    llmgw_code code;
    unsigned next;
} llmgwi_health_rule;

/* Codes that are not here end the call. */
static const llmgwi_health_rule llmgwi_health_rules[] = {
    {LLMGW_E_UNSUPPORTED, LLMGWI_HEALTH_OTHER},    {LLMGW_E_NO_KEY, LLMGWI_HEALTH_OTHER},
    {LLMGW_E_BAD_REQUEST, LLMGWI_HEALTH_OTHER},    {LLMGW_E_AUTH, LLMGWI_HEALTH_OTHER},
    {LLMGW_E_QUOTA, LLMGWI_HEALTH_OTHER},          {LLMGW_E_NOT_FOUND, LLMGWI_HEALTH_OTHER},
    {LLMGW_E_CONTEXT_LENGTH, LLMGWI_HEALTH_OTHER}, {LLMGW_E_FILTERED, LLMGWI_HEALTH_OTHER},
    {LLMGW_E_TOO_LARGE, LLMGWI_HEALTH_OTHER},      {LLMGW_E_TLS, LLMGWI_HEALTH_OTHER},
    {LLMGW_E_RATE_LIMITED, LLMGWI_HEALTH_BOTH},    {LLMGW_E_OVERLOADED, LLMGWI_HEALTH_BOTH},
    {LLMGW_E_PROVIDER, LLMGWI_HEALTH_BOTH},        {LLMGW_E_PROTOCOL, LLMGWI_HEALTH_BOTH},
    {LLMGW_E_TRUNCATED, LLMGWI_HEALTH_BOTH},       {LLMGW_E_NETWORK, LLMGWI_HEALTH_BOTH},
    {LLMGW_E_TIMEOUT_CONNECT, LLMGWI_HEALTH_BOTH}, {LLMGW_E_TIMEOUT_FIRST_TOKEN, LLMGWI_HEALTH_BOTH},
    {LLMGW_E_TIMEOUT_IDLE, LLMGWI_HEALTH_BOTH},
};

/* should_retry: what the provider said of it (x-should-retry): 1, -1, or 0 for nothing. */
static unsigned llmgwi_health_next(llmgw_code code, int should_retry) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_health_rules); i++)
        if (llmgwi_health_rules[i].code == code) {
            if (should_retry < 0) return LLMGWI_HEALTH_OTHER;
            return llmgwi_health_rules[i].next | (should_retry > 0 ? LLMGWI_HEALTH_SAME : 0);
        }
    return 0;
}

#define LLMGWI_HEALTH_BACKOFF_US 500000
#define LLMGWI_HEALTH_BACKOFF_MAX_US 8000000
#define LLMGWI_HEALTH_RETRY_AFTER_MAX_MS 3600000 /* a longer one is cut to this */

/* Pause before the n-th repetition (from 1): full jitter (Brooker, "Exponential Backoff And Jitter",
   AWS 2015), uniform over 0 to min(max, base x 2^(n-1)). */
static int64_t llmgwi_health_backoff(unsigned n, uint64_t random) {
    int64_t top = LLMGWI_HEALTH_BACKOFF_US;
    while (n-- > 1 && top < LLMGWI_HEALTH_BACKOFF_MAX_US) top *= 2;
    if (top > LLMGWI_HEALTH_BACKOFF_MAX_US) top = LLMGWI_HEALTH_BACKOFF_MAX_US;
    return (int64_t)(random % (uint64_t)(top + 1));
}

/* ------------------------------------------------------------------------------------------- */
/* >>route   purpose: a name to targets, and which of them comes next.   uses: health            */
/*           guarantees: pure functions of state and time                                       */
/* ------------------------------------------------------------------------------------------- */

#define LLMGWI_ROUTE_TARGETS 64

/* One lane (provider and key): shared by all calls of a gateway. */
typedef struct llmgwi_route_lane {
    int64_t not_before_us; /* Retry-After */
} llmgwi_route_lane;

/* A call's way through its targets, which it knows by number. */
typedef struct llmgwi_route_plan {
    unsigned char tries[LLMGWI_ROUTE_TARGETS];
    bool dead[LLMGWI_ROUTE_TARGETS]; /* this call does not try it again */
    size_t count;
    unsigned rounds; /* repetitions so far, for the backoff */
    bool waited;     /* the pause before the next attempt is over */
} llmgwi_route_plan;

/* Notes a failure of target i. */
static void llmgwi_route_failed(llmgwi_route_plan *plan, size_t i, unsigned next) {
    if (!(next & LLMGWI_HEALTH_SAME)) plan->dead[i] = true;
    if (!next)
        for (size_t j = 0; j < plan->count; j++) plan->dead[j] = true;
}

/* The next target: the first of those tried least. SIZE_MAX: none is left. */
static size_t llmgwi_route_next(const llmgwi_route_plan *plan) {
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < plan->count; i++)
        if (!plan->dead[i] && (best == SIZE_MAX || plan->tries[i] < plan->tries[best])) best = i;
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

/* Upcalls, on the thread that polls. They may start transfers, but not cancel one. */
typedef struct llmgwi_http_events {
    void (*sent)(void *user); /* connected; the request is written next */
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
    void (*arm)(void *self, int64_t at_us); /* the fd becomes readable then */
    void (*notice)(void *self, bool on);    /* the fd is readable while on */
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

struct llmgwi_http_curl;

typedef struct llmgwi_http_shard {
    struct llmgwi_http_curl *http;
    CURLM *multi; /* NULL: not in use */
    uint32_t index;
    int active;
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
   connection, after a kept one died: refused, our retry loop is the only one. */
static int llmgwi_http_on_request(void *user, char *primary_ip, char *local_ip, int primary_port,
                                  int local_port) {
    llmgwi_http_transfer *transfer = (llmgwi_http_transfer *)user;
    (void)local_ip, (void)primary_port, (void)local_port;
    if (transfer->sends++ > 0) {
        transfer->refused = true;
        return CURL_PREREQFUNC_ABORT;
    }
    if (transfer->loopback_only && strncmp(primary_ip, "127.", 4) != 0 && strcmp(primary_ip, "::1") != 0) {
        transfer->insecure = true;
        return CURL_PREREQFUNC_ABORT;
    }
    transfer->events->sent(transfer->user);
    return CURL_PREREQFUNC_OK;
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

static llmgwi_http_transfer *llmgwi_http_transfer_get(llmgwi_http_curl *http) {
    llmgwi_http_transfer *transfer = http->pool;
    if (transfer) {
        http->pool = transfer->next;
        http->pooled--;
        return transfer;
    }
    transfer = (llmgwi_http_transfer *)llmgwi_base_zalloc(http->mem, sizeof *transfer);
    if (!transfer) return NULL;
    transfer->http = http;
    transfer->easy = curl_easy_init();
    if (transfer->easy && llmgwi_http_prepare(http, transfer)) return transfer;
    llmgwi_http_transfer_free(http, transfer);
    return NULL;
}

/* Back to the pool, without the last request's headers and body. */
static void llmgwi_http_transfer_put(llmgwi_http_curl *http, llmgwi_http_transfer *transfer) {
    if (http->pooled >= LLMGWI_HTTP_POOL) {
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

/* The first shard with room: low ones stay warm, high ones empty. */
static llmgwi_http_shard *llmgwi_http_shard_pick(llmgwi_http_curl *http) {
    size_t i = http->free_hint;
    while (i < http->shard_count && http->shards[i]->active >= LLMGWI_HTTP_SHARD) i++;
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

static bool llmgwi_http_room(void *self) {
    const llmgwi_http_curl *http = (const llmgwi_http_curl *)self;
    return http->active < http->max_active;
}

static void *llmgwi_http_start(void *self, const llmgwi_http_request *request) {
    llmgwi_http_curl *http = (llmgwi_http_curl *)self;
    llmgwi_http_shard *shard = llmgwi_http_shard_pick(http);
    llmgwi_http_transfer *transfer = shard ? llmgwi_http_transfer_get(http) : NULL;
    if (!transfer) return NULL;
    CURL *easy = transfer->easy;
    transfer->shard = shard;
    transfer->events = request->events;
    transfer->user = request->user;
    transfer->header_bytes = 0;
    transfer->sends = 0;
    transfer->loopback_only = request->keyed && !request->tls;
    transfer->in_body = transfer->refused = transfer->insecure = false;
    transfer->error[0] = 0;
    bool ok = curl_easy_setopt(easy, CURLOPT_URL, request->url) == CURLE_OK;
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_len);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, (struct curl_slist *)(uintptr_t)request->headers);
    curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, request->stream ? NULL : "");
    /* h2 without TLS fails on every reuse in 7.88 (curl issue 10634) */
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                     request->tls ? (long)CURL_HTTP_VERSION_2TLS : (long)CURL_HTTP_VERSION_1_1);
    ok = ok && curl_easy_setopt(easy, CURLOPT_NOPROXY, request->loopback ? "*" : NULL) ==
                   CURLE_OK; /* a proxy would see the key */
    if (!ok || curl_multi_add_handle(shard->multi, easy) != CURLM_OK) {
        llmgwi_http_transfer_put(http, transfer);
        return NULL;
    }
    shard->active++;
    http->active++;
    return transfer;
}

/* Takes a transfer out of its shard. */
static void llmgwi_http_detach(llmgwi_http_transfer *transfer) {
    llmgwi_http_curl *http = transfer->http;
    llmgwi_http_shard *shard = transfer->shard;
    curl_multi_remove_handle(shard->multi, transfer->easy);
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

static void llmgwi_http_resume(void *self, void *transfer) {
    (void)self;
    curl_easy_pause(((llmgwi_http_transfer *)transfer)->easy, CURLPAUSE_CONT);
}

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
    if (curl != CURLE_OK) llmgwi_http_drop(transfer);
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
    llmgwi_http_close(http, false);
    return false;
}

/* ------------------------------------------------------------------------------------------- */
/* >>engine   purpose: calls and attempts, deadlines, events; who drives and who waits.          */
/*            uses: json, frame, dialect, config, price, health, route, http                     */
/*            guarantees: laws 1 and 2; one thread at a time drives; callbacks run without a lock; */
/*            END always has room, its reply is allocated when the call is accepted              */
/* ------------------------------------------------------------------------------------------- */

#define LLMGWI_ENGINE_ERROR_BYTES (64 << 10) /* of an error reply's body that are read */
#define LLMGWI_ENGINE_CLOSING_US 200000      /* wait for the transfer's end after the last event */
#define LLMGWI_ENGINE_KEEP_QUEUE (16 << 10)  /* a larger queue is freed when it is empty */
#define LLMGWI_ENGINE_MAX_TRACE 512

/* ---- states: X(name, may go to, deadline) ---- */

typedef enum llmgwi_engine_state {
    LLMGWI_ENGINE_QUEUED = 0, /* accepted, not yet seen by the driver */
    LLMGWI_ENGINE_WAITING,    /* for backoff, Retry-After or a free connection */
    LLMGWI_ENGINE_CONNECTING, /* an attempt began */
    LLMGWI_ENGINE_SENT,       /* its request is being written, or the answer awaited */
    LLMGWI_ENGINE_ANSWERING,  /* the answer has begun */
    LLMGWI_ENGINE_CLOSING,    /* the answer is whole, the transfer is not */
    LLMGWI_ENGINE_ENDED
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

/* ---- calls ---- */

struct llmgwi_engine_waiter;

typedef struct llmgwi_engine_call {
    llmgw *gw;
    llmgw_call id;
    const llmgw_request *request;
    llmgwi_base_arena arena; /* the request's copy */
    bool blocking, events;
    llmgwi_engine_state state;
    int64_t accepted_us, deadline_us;
    int64_t wake_us;                                         /* when the clock has something to do with it */
    size_t heap_at;                                          /* place in the heap of timers, SIZE_MAX: none */
    int64_t connect_us, first_token_us, idle_us, closing_us; /* NEVER: none */
    int max_attempts;
    const llmgwi_config_target *targets; /* the route's, or &own_target: a call does not move */
    llmgwi_config_target own_target;
    llmgwi_route_plan plan;
    llmgw_error last; /* of the last attempt that failed */
    llmgw_error stop; /* why the present attempt must end, as found in an upcall */
    /* the attempt */
    uint32_t epoch; /* attempts so far */
    size_t target;  /* chosen */
    size_t tried;   /* of the last attempt */
    llmgwi_dialect_target wire;
    void *transfer; /* NULL: none is open */
    llmgwi_base_buf body, url;
    llmgwi_base_buf raw; /* a reply that is no stream, or an error's body */
    llmgwi_frame frame;
    llmgwi_dialect_meta meta;
    int64_t last_us; /* bytes came */
    size_t trace_at; /* its item in the trace */
    bool shown;      /* events of this attempt were queued: a failure must rewind */
    bool paused, framed, starved;
    struct llmgwi_engine_call *starved_next;
    llmgwi_engine_reply *reply;
    /* under the gateway's lock */
    llmgwi_base_buf queue; /* events not yet delivered */
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
    {"waiting", LLMGWI_ENGINE_BIT(WAITING) | LLMGWI_ENGINE_BIT(CONNECTING) | LLMGWI_ENGINE_BIT(ENDED), 0,
     LLMGW_OK, "", "waiting to try again"},
    {"connecting", LLMGWI_ENGINE_BIT(SENT) | LLMGWI_ENGINE_BIT(WAITING) | LLMGWI_ENGINE_BIT(ENDED),
     LLMGWI_ENGINE_LIMIT(connect_us), LLMGW_E_TIMEOUT_CONNECT, "no connection within connect_ms",
     "connecting"},
    {"sent",
     LLMGWI_ENGINE_BIT(ANSWERING) | LLMGWI_ENGINE_BIT(CLOSING) | LLMGWI_ENGINE_BIT(WAITING) |
         LLMGWI_ENGINE_BIT(ENDED),
     LLMGWI_ENGINE_LIMIT(first_token_us), LLMGW_E_TIMEOUT_FIRST_TOKEN, "no first token within first_token_ms",
     "waiting for the answer"},
    {"answering", LLMGWI_ENGINE_BIT(CLOSING) | LLMGWI_ENGINE_BIT(WAITING) | LLMGWI_ENGINE_BIT(ENDED),
     LLMGWI_ENGINE_LIMIT(idle_us), LLMGW_E_TIMEOUT_IDLE, "silence for longer than idle_ms",
     "in the middle of the answer"},
    {"closing", LLMGWI_ENGINE_BIT(WAITING) | LLMGWI_ENGINE_BIT(ENDED), LLMGWI_ENGINE_LIMIT(closing_us),
     LLMGW_OK, "", "closing"},
    {"ended", 0, 0, LLMGW_OK, "", ""},
};

/* An event in a queue; its bytes follow: text, id, name, each with a NUL (TRY: a llmgw_trace). */
typedef struct llmgwi_engine_event {
    size_t size; /* of all, a multiple of 8 */
    size_t text_len, id_len, name_len, keep;
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

struct llmgw {
    llmgwi_base_mem mem;
    llmgwi_base_clock clock;
    llmgwi_config config;
    llmgwi_http http;
    llmgw_log_fn log;
    void *log_user;
    uint32_t fork_count;
    void **headers; /* per provider and stream: 2 x provider_count */
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
    /* the driver's */
    llmgwi_route_lane *lanes; /* per provider */
    llmgwi_engine_call **heap;
    size_t heap_count, heap_cap;
    llmgwi_engine_call *starved, **starved_tail; /* wait for a connection */
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

static void llmgwi_engine_heap_set(llmgw *gw, size_t at, llmgwi_engine_call *call) {
    gw->heap[at] = call;
    call->heap_at = at;
}

static void llmgwi_engine_heap_fix(llmgw *gw, size_t at) {
    llmgwi_engine_call *call = gw->heap[at];
    for (; at > 0 && gw->heap[(at - 1) / 2]->wake_us > call->wake_us; at = (at - 1) / 2)
        llmgwi_engine_heap_set(gw, at, gw->heap[(at - 1) / 2]);
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= gw->heap_count) break;
        if (child + 1 < gw->heap_count && gw->heap[child + 1]->wake_us < gw->heap[child]->wake_us) child++;
        if (gw->heap[child]->wake_us >= call->wake_us) break;
        llmgwi_engine_heap_set(gw, at, gw->heap[child]);
        at = child;
    }
    llmgwi_engine_heap_set(gw, at, call);
}

static void llmgwi_engine_heap_remove(llmgw *gw, llmgwi_engine_call *call) {
    if (call->heap_at == SIZE_MAX) return;
    size_t at = call->heap_at;
    llmgwi_engine_call *last = gw->heap[--gw->heap_count];
    call->heap_at = SIZE_MAX;
    if (last == call) return;
    llmgwi_engine_heap_set(gw, at, last);
    llmgwi_engine_heap_fix(gw, at);
}

/* Room for one more call's timer. */
static bool llmgwi_engine_heap_room(llmgw *gw) {
    llmgwi_engine_call **heap =
        (llmgwi_engine_call **)llmgwi_base_grow(&gw->mem, gw->heap, &gw->heap_cap, gw->heap_count,
                                                (size_t)gw->config.options.max_calls + 1, sizeof *heap);
    if (heap) gw->heap = heap;
    return heap != NULL;
}

/* Sets when the clock looks at a call again: at its own time or its deadline. Room was made when the
   driver first saw the call. */
static void llmgwi_engine_wake_at(llmgw *gw, llmgwi_engine_call *call, int64_t at_us) {
    call->wake_us = at_us < call->deadline_us ? at_us : call->deadline_us;
    if (call->heap_at == SIZE_MAX) llmgwi_engine_heap_set(gw, gw->heap_count++, call);
    llmgwi_engine_heap_fix(gw, call->heap_at);
}

static int64_t llmgwi_engine_after(int64_t now, int64_t wait_us) {
    return wait_us == LLMGWI_BASE_NEVER ? LLMGWI_BASE_NEVER : now + wait_us;
}

/* The longest stay in a state. */
static int64_t llmgwi_engine_stay(const llmgwi_engine_call *call, llmgwi_engine_state state) {
    size_t at = llmgwi_engine_moves[state].limit;
    return at ? *(const int64_t *)(const void *)((const char *)call + at) : LLMGWI_BASE_NEVER;
}

/* The one place where a call's state changes. Who waits says how long. */
static void llmgwi_engine_enter(llmgwi_engine_call *call, llmgwi_engine_state state, int64_t now) {
    const llmgwi_engine_move *from = &llmgwi_engine_moves[call->state], *to = &llmgwi_engine_moves[state];
    if (!(from->next & (1u << state))) { /* a defect of ours: the attempt ends, loudly */
        (void)llmgwi_base_error(&call->stop, LLMGW_E_INTERNAL, "state %s cannot become %s", from->name,
                                to->name);
        return;
    }
    call->state = state;
    if (state == LLMGWI_ENGINE_ENDED) llmgwi_engine_heap_remove(call->gw, call);
    if (to->limit)
        llmgwi_engine_wake_at(call->gw, call, llmgwi_engine_after(now, llmgwi_engine_stay(call, state)));
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

/* Queues an event. payload (TRY: the trace item) stands where text would. */
static void llmgwi_engine_push(llmgwi_engine_call *call, llmgwi_engine_event event, const void *payload,
                               const char *id, const char *name) {
    llmgw *gw = call->gw;
    if (!call->events) return;
    size_t bytes = sizeof event + event.text_len + 1 + event.id_len + 1 + event.name_len + 1;
    event.size = (bytes + 7) & ~(size_t)7;
    event.epoch = call->epoch;
    llmgwi_base_lock(&gw->lock);
    if (llmgwi_base_buf_reserve(&call->queue, event.size)) {
        char *p = call->queue.p + call->queue.n;
        memset(p, 0, event.size);
        memcpy(p, &event, sizeof event);
        p += sizeof event;
        if (event.text_len) memcpy(p, payload, event.text_len);
        p += event.text_len + 1;
        if (event.id_len) memcpy(p, id, event.id_len);
        p += event.id_len + 1;
        if (event.name_len) memcpy(p, name, event.name_len);
        call->queue.n += event.size;
        llmgwi_engine_ready_add(gw, call);
    } else if (!call->stop.code) {
        (void)llmgwi_base_error(&call->stop, LLMGW_E_MEMORY, "out of memory for events");
    }
    llmgwi_base_unlock(&gw->lock);
}

static void llmgwi_engine_push_try(llmgwi_engine_call *call) {
    llmgwi_engine_event event;
    memset(&event, 0, sizeof event);
    event.kind = LLMGW_EVENT_TRY;
    event.text_len = sizeof(llmgw_trace);
    llmgwi_engine_push(call, event, &call->reply->trace[call->trace_at], "", "");
}

static void llmgwi_engine_push_rewind(llmgwi_engine_call *call, size_t keep) {
    llmgwi_engine_event event;
    memset(&event, 0, sizeof event);
    event.kind = LLMGW_EVENT_REWIND;
    event.keep = keep;
    llmgwi_engine_push(call, event, "", "", "");
}

/* More of the answer, from the dialect. */
static void llmgwi_engine_on_piece(void *user, llmgw_event_kind kind, const llmgwi_dialect_piece *piece,
                                   int tool_index, llmgwi_base_str bytes) {
    llmgwi_engine_call *call = (llmgwi_engine_call *)user;
    llmgwi_engine_event event;
    llmgw_trace *trace = &call->reply->trace[call->trace_at];
    if (call->state == LLMGWI_ENGINE_SENT) llmgwi_engine_enter(call, LLMGWI_ENGINE_ANSWERING, call->last_us);
    if (!trace->first_token_us) trace->first_token_us = call->last_us - call->accepted_us - trace->start_us;
    memset(&event, 0, sizeof event);
    event.kind = kind;
    event.text_len = bytes.n;
    event.tool_index = tool_index;
    if (kind == LLMGW_EVENT_TOOL) {
        event.id_len = strlen(piece->id);
        event.name_len = strlen(piece->name);
    }
    call->shown = true;
    llmgwi_engine_push(call, event, bytes.p, piece->id, piece->name);
}

/* ---- trace ---- */

/* A new item; NULL without memory or over the cap. The texts are borrowed until the reply is made. */
static llmgw_trace *llmgwi_engine_trace(llmgwi_engine_call *call, llmgw_trace_kind kind, int64_t now) {
    llmgwi_engine_reply *reply = call->reply;
    llmgw_trace *items =
        (llmgw_trace *)llmgwi_base_grow(&reply->mem, reply->trace, &reply->trace_cap, reply->trace_count,
                                        LLMGWI_ENGINE_MAX_TRACE, sizeof *items);
    if (!items) return NULL;
    reply->trace = items;
    llmgw_trace *item = &items[reply->trace_count++];
    memset(item, 0, sizeof *item);
    item->kind = kind;
    item->provider = call->targets[call->target].provider->name;
    item->model = call->targets[call->target].model;
    item->start_us = now - call->accepted_us;
    return item;
}

static void llmgwi_engine_reason(llmgwi_engine_call *call, llmgw_trace *item, const char *text) {
    char line[sizeof item->reason];
    llmgwi_base_copy_cut(line, sizeof line, text, strlen(text));
    llmgwi_config_redact(&call->gw->config, line);
    memcpy(item->reason, line, sizeof line);
}

/* ---- ending a call ---- */

static llmgw_part llmgwi_engine_export_part(llmgwi_engine_reply *reply, const llmgwi_dialect_piece *piece,
                                            const char *flavour) {
    llmgwi_base_arena *arena = &reply->arena;
    const llmgwi_dialect_answer *answer = &reply->answer;
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

/* The answer's pieces as message parts and tool calls. False: out of memory. */
static bool llmgwi_engine_export(llmgwi_engine_reply *reply, const char *flavour) {
    const llmgwi_dialect_answer *answer = &reply->answer;
    llmgw_part *parts =
        (llmgw_part *)llmgwi_base_arena_get(&reply->arena, (answer->piece_count + 1) * sizeof *parts);
    llmgw_tool_call *calls =
        (llmgw_tool_call *)llmgwi_base_arena_get(&reply->arena, (answer->tool_count + 1) * sizeof *calls);
    size_t tools = 0;
    for (size_t i = 0; parts && calls && i < answer->piece_count; i++) {
        parts[i] = llmgwi_engine_export_part(reply, &answer->pieces[i], flavour);
        if (parts[i].kind != LLMGW_PART_TOOL_CALL) continue;
        calls[tools].id = parts[i].id;
        calls[tools].name = parts[i].name;
        calls[tools++].arguments = parts[i].arguments;
    }
    if (reply->arena.failed) return false;
    reply->pub.message.parts = parts;
    reply->pub.message.part_count = answer->piece_count;
    reply->pub.tool_calls = calls;
    reply->pub.tool_call_count = tools;
    return true;
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
    llmgwi_dialect_answer *answer = &reply->answer;
    llmgw_reply *pub = &reply->pub;
    if (error) pub->error = *error;
    pub->text = llmgwi_base_buf_cstr(&answer->text);
    pub->text_len = answer->text.n;
    pub->reasoning = llmgwi_base_buf_cstr(&answer->reasoning);
    pub->reasoning_len = answer->reasoning.n;
    pub->refusal = answer->refusal.n ? answer->refusal.p : NULL;
    pub->finish = error ? LLMGW_FINISH_NONE : answer->finish;
    pub->usage = answer->usage;
    pub->cost.known = true;
    for (size_t i = 0; i < reply->trace_count; i++)
        if (reply->trace[i].kind == LLMGW_TRACE_ATTEMPT) llmgwi_price_total(&pub->cost, reply->trace[i].cost);
    bool made = true;
    if (call->epoch) {
        const llmgwi_config_target *target = &call->targets[call->tried]; /* target may be the next one */
        pub->provider = llmgwi_base_arena_dup(&reply->arena, target->provider->name);
        pub->model = llmgwi_base_arena_dup(&reply->arena, target->model);
        pub->id = answer->id ? answer->id : "";
        pub->model_echo = answer->model ? answer->model : "";
        made = llmgwi_engine_export(reply, target->provider->flavour);
    }
    if (!llmgwi_engine_own_trace(reply) || !made) {
        (void)llmgwi_base_error(&pub->error, LLMGW_E_MEMORY, "out of memory for the reply");
        pub->finish = LLMGW_FINISH_NONE;
        pub->trace_count = 0;
    }
    pub->elapsed_us = llmgwi_engine_now(call->gw) - call->accepted_us;
    pub->attempts = (int)call->epoch;
    const llmgw_trace *last = call->epoch ? &reply->trace[call->trace_at] : NULL;
    if (last && last->first_token_us) pub->first_token_us = last->start_us + last->first_token_us;
}

/* Ends a call, once. error NULL: success. */
static void llmgwi_engine_end(llmgwi_engine_call *call, const llmgw_error *error) {
    llmgw *gw = call->gw;
    if (call->state == LLMGWI_ENGINE_ENDED) return;
    llmgwi_engine_enter(call, LLMGWI_ENGINE_ENDED, 0);
    llmgwi_engine_fill(call, error);
    if (error && error->code != LLMGW_E_CANCELLED) llmgwi_engine_log(gw, LLMGW_LOG_CALL_FAILED, error->text);
    llmgwi_base_buf_free(&call->body);
    llmgwi_base_buf_free(&call->raw);
    llmgwi_frame_free(&call->frame);
    llmgwi_base_lock(&gw->lock);
    call->ended = true;
    gw->pending--;
    llmgwi_engine_ready_add(gw, call);
    llmgwi_base_unlock(&gw->lock);
}

/* ---- attempts ---- */

static void llmgwi_engine_advance(llmgwi_engine_call *call);

static llmgw_cost llmgwi_engine_cost(const llmgwi_engine_call *call) {
    const llmgwi_config_target *target = &call->targets[call->target];
    llmgwi_price_what what;
    what.own = &target->price;
    what.flavour = target->provider->listed ? target->provider->flavour : NULL;
    what.model = target->model;
    return llmgwi_price_cost(&what, &call->reply->answer.usage);
}

/* Closes the present attempt's item in the trace. */
static void llmgwi_engine_close_trace(llmgwi_engine_call *call, llmgw_code code, const char *reason) {
    llmgw_trace *item = &call->reply->trace[call->trace_at];
    llmgwi_dialect_answer *answer = &call->reply->answer;
    item->duration_us = llmgwi_engine_now(call->gw) - call->accepted_us - item->start_us;
    item->code = code;
    if (code && !answer->finished) answer->usage.known = false; /* what came so far is not the bill */
    item->usage = answer->usage;
    item->cost = llmgwi_engine_cost(call);
    bool refused = item->http_status && (item->http_status < 200 || item->http_status > 299);
    if (!item->sent || refused)
        item->cost.known = true; /* nothing was sent, or the provider refused it: free */
    llmgwi_engine_reason(call, item, reason);
    llmgwi_engine_push_try(call);
}

/* The attempt failed: note it, then go on with another or end. */
static void llmgwi_engine_failed(llmgwi_engine_call *call, const llmgw_error *why) {
    llmgw *gw = call->gw;
    const llmgwi_config_target *target = &call->targets[call->target];
    int64_t retry_ms =
        call->meta.retry_after_ms > why->retry_after_ms ? call->meta.retry_after_ms : why->retry_after_ms;
    char text[LLMGW_ERROR_TEXT];
    memcpy(text, why->text, sizeof text);
    llmgwi_config_redact(&gw->config, text);
    (void)llmgwi_base_error(&call->last, why->code, "%.64s/%.80s: %s", target->provider->name, target->model,
                            text);
    bool absent = why->code == LLMGW_E_NETWORK || why->code == LLMGW_E_TIMEOUT_CONNECT;
    size_t end = strlen(call->last.text);
    if (target->provider->discovered && absent && end + 64 < sizeof call->last.text)
        snprintf(call->last.text + end, sizeof call->last.text - end, "; is Ollama running at %.40s?",
                 target->provider->url);
    call->last.http_status = why->http_status;
    if (call->meta.should_retry) call->last.retryable = call->meta.should_retry > 0;
    if (retry_ms > LLMGWI_HEALTH_RETRY_AFTER_MAX_MS) retry_ms = LLMGWI_HEALTH_RETRY_AFTER_MAX_MS;
    call->last.retry_after_ms = retry_ms;
    llmgwi_engine_close_trace(call, why->code, text);
    llmgwi_engine_log(gw, LLMGW_LOG_ATTEMPT_FAILED, call->last.text);
    llmgwi_route_lane *lane = &gw->lanes[target->provider->index];
    int64_t until = llmgwi_engine_now(gw) + retry_ms * 1000;
    if (retry_ms > 0 && lane->not_before_us < until) lane->not_before_us = until;
    llmgwi_route_failed(&call->plan, call->target, llmgwi_health_next(why->code, call->meta.should_retry));
    llmgwi_engine_enter(call, LLMGWI_ENGINE_WAITING, 0);
    llmgwi_engine_advance(call);
}

static void llmgwi_engine_succeeded(llmgwi_engine_call *call) {
    llmgwi_dialect_settle(&call->reply->answer);
    if (call->reply->answer.error.code) {
        llmgwi_engine_failed(call, &call->reply->answer.error);
        return;
    }
    llmgwi_engine_close_trace(call, LLMGW_OK, "answered");
    llmgwi_engine_end(call, NULL);
}

static bool llmgwi_engine_on_event(void *user, llmgwi_base_str name, llmgwi_base_str data) {
    llmgwi_engine_call *call = (llmgwi_engine_call *)user;
    llmgwi_dialect_answer *answer = &call->reply->answer;
    const llmgwi_dialect *dialect = call->targets[call->target].provider->dialect;
    if (answer->ended) return true; /* after the terminator nothing counts */
    if (!dialect->event(answer, name, data)) return false;
    if (answer->ended && call->state != LLMGWI_ENGINE_CLOSING)
        llmgwi_engine_enter(call, LLMGWI_ENGINE_CLOSING, call->last_us);
    return !call->stop.code;
}

static void llmgwi_engine_on_sent(void *user) {
    llmgwi_engine_call *call = (llmgwi_engine_call *)user;
    call->reply->trace[call->trace_at].sent = true;
    call->last_us = llmgwi_engine_now(call->gw);
    llmgwi_engine_enter(call, LLMGWI_ENGINE_SENT, call->last_us);
}

static void llmgwi_engine_on_header(void *user, llmgwi_base_str name, llmgwi_base_str value) {
    llmgwi_engine_call *call = (llmgwi_engine_call *)user;
    llmgw *gw = call->gw;
    llmgwi_dialect_header(&call->meta, name, value, gw->clock.wall_s(gw->clock.user));
}

/* Is the queue of events so full that the transfer must wait for the caller? */
static bool llmgwi_engine_full(llmgwi_engine_call *call) {
    llmgw *gw = call->gw;
    if (!call->events) return false;
    llmgwi_base_lock(&gw->lock);
    bool full = call->queue.n > gw->config.options.max_queue_bytes;
    if (full) call->paused = true;
    llmgwi_base_unlock(&gw->lock);
    return full;
}

/* Bytes of a stream. */
static int llmgwi_engine_stream(llmgwi_engine_call *call, const char *p, size_t n) {
    if (call->reply->answer.ended) return LLMGWI_HTTP_GO;
    if (llmgwi_frame_feed(&call->frame, p, n)) return LLMGWI_HTTP_GO;
    if (!call->stop.code && call->reply->answer.error.code) call->stop = call->reply->answer.error;
    if (!call->stop.code) {
        bool cap = call->frame.line.failed == LLMGWI_BASE_OVER_CAP ||
                   call->frame.data.failed == LLMGWI_BASE_OVER_CAP;
        (void)llmgwi_base_error(&call->stop, cap ? LLMGW_E_TOO_LARGE : LLMGW_E_MEMORY,
                                cap ? "an event of the stream is larger than max_event_bytes"
                                    : "out of memory for the stream");
    }
    return LLMGWI_HTTP_STOP;
}

static int llmgwi_engine_on_body(void *user, int status, const char *p, size_t n) {
    llmgwi_engine_call *call = (llmgwi_engine_call *)user;
    llmgw_trace *trace = &call->reply->trace[call->trace_at];
    bool good = status >= 200 && status < 300;
    if (call->stop.code) return LLMGWI_HTTP_STOP;
    if (good && call->request->stream && llmgwi_engine_full(call)) return LLMGWI_HTTP_PAUSE;
    call->last_us = llmgwi_engine_now(call->gw);
    trace->http_status = status;
    if (!trace->first_byte_us) trace->first_byte_us = call->last_us - call->accepted_us - trace->start_us;
    call->framed = good && call->request->stream && !call->meta.json && !call->meta.html;
    if (call->framed) return llmgwi_engine_stream(call, p, n);
    if (call->state == LLMGWI_ENGINE_SENT) llmgwi_engine_enter(call, LLMGWI_ENGINE_ANSWERING, call->last_us);
    if (good || call->raw.n + n <= LLMGWI_ENGINE_ERROR_BYTES)
        llmgwi_base_buf_add(&call->raw, p, n);
    else
        return LLMGWI_HTTP_STOP; /* enough to see what is wrong */
    if (!call->raw.failed) return LLMGWI_HTTP_GO;
    bool cap = call->raw.failed == LLMGWI_BASE_OVER_CAP;
    (void)llmgwi_base_error(&call->stop, cap ? LLMGW_E_TOO_LARGE : LLMGW_E_MEMORY,
                            cap ? "the reply is larger than max_reply_bytes" : "out of memory for the reply");
    return LLMGWI_HTTP_STOP;
}

/* The transfer of a good status is over: what is wrong with it? */
static void llmgwi_engine_judge(llmgwi_engine_call *call, const llmgwi_http_result *result,
                                llmgw_error *why) {
    llmgwi_dialect_answer *answer = &call->reply->answer;
    const llmgwi_dialect *dialect = call->targets[call->target].provider->dialect;
    call->framed = call->request->stream && !call->meta.json && !call->meta.html; /* also without a byte */
    if (call->stop.code) {
        *why = call->stop;
    } else if (call->framed && result->code == LLMGW_OK && !answer->ended) {
        bool fed = llmgwi_frame_finish(&call->frame);
        if (!fed && answer->error.code == LLMGW_E_PROTOCOL)
            memset(&answer->error, 0, sizeof answer->error); /* a torn last event: cut */
        if (answer->error.code) *why = answer->error;
    }
    if (!why->code && call->stop.code) *why = call->stop;
    if (why->code || (call->framed && llmgwi_dialect_complete(dialect, answer))) return;
    if (result->code) {
        (void)llmgwi_base_error(why, result->code, "%s", result->text);
    } else if (call->framed) {
        (void)llmgwi_base_error(why, LLMGW_E_TRUNCATED, "the stream ended without its last event");
    } else if (call->meta.html) {
        (void)llmgwi_base_error(why, LLMGW_E_PROTOCOL, "the reply is a web page, not JSON");
    } else if (!dialect->reply(answer, llmgwi_base_buf_str(&call->raw))) {
        *why = answer->error;
    } else if (call->stop.code) { /* its events found no place */
        *why = call->stop;
    }
}

static void llmgwi_engine_on_done(void *user, const llmgwi_http_result *result) {
    llmgwi_engine_call *call = (llmgwi_engine_call *)user;
    llmgw_trace *trace = &call->reply->trace[call->trace_at];
    llmgw_error why;
    memset(&why, 0, sizeof why);
    call->transfer = NULL;
    call->last_us = llmgwi_engine_now(call->gw);
    trace->http_status = result->status;
    trace->http_version = result->version;
    if (result->status && (result->status < 200 || result->status > 299)) {
        llmgwi_dialect_error(&why, result->status, llmgwi_base_buf_str(&call->raw),
                             call->gw->config.options.max_json_depth);
        if (result->status < 400)
            (void)llmgwi_base_error(&why, LLMGW_E_PROTOCOL, "HTTP %d: a redirect, which is not followed",
                                    result->status);
        why.http_status = result->status;
    } else {
        llmgwi_engine_judge(call, result, &why);
        if (why.code) why.http_status = result->status;
    }
    if (why.code)
        llmgwi_engine_failed(call, &why);
    else
        llmgwi_engine_succeeded(call);
}

static const llmgwi_http_events llmgwi_engine_upcalls = {llmgwi_engine_on_sent, llmgwi_engine_on_header,
                                                         llmgwi_engine_on_body, llmgwi_engine_on_done};

/* Stops the present transfer without an upcall. */
static void llmgwi_engine_abandon(llmgwi_engine_call *call) {
    if (call->transfer) call->gw->http.cancel(call->gw->http.self, call->transfer);
    call->transfer = NULL;
}

/* Readies everything an attempt needs. False: call->stop says why not. */
static bool llmgwi_engine_ready_attempt(llmgwi_engine_call *call) {
    llmgw *gw = call->gw;
    const llmgw_options *options = &gw->config.options;
    const llmgwi_config_target *target = &call->targets[call->target];
    llmgwi_engine_reply *reply = call->reply;
    call->wire.model = target->model;
    call->wire.flavour = target->provider->flavour;
    call->wire.quirks = target->provider->quirks;
    llmgwi_base_buf_free(&call->body);
    llmgwi_base_buf_init(&call->body, &gw->mem, options->max_request_bytes);
    llmgwi_base_buf_clear(&call->url);
    memset(&call->stop, 0, sizeof call->stop);
    if (!llmgwi_dialect_write(target->provider->dialect, &call->wire, call->request, &call->body,
                              &call->stop))
        return false;
    if (!llmgwi_dialect_url(target->provider->dialect, target->provider->url, target->model,
                            call->request->stream, &call->url)) {
        (void)llmgwi_base_error(&call->stop, LLMGW_E_MEMORY, "out of memory for the URL");
        return false;
    }
    llmgwi_frame_free(&call->frame);
    llmgwi_frame_init(&call->frame, &gw->mem, options->max_event_bytes, llmgwi_engine_on_event, call);
    llmgwi_base_buf_free(&call->raw);
    llmgwi_base_buf_init(&call->raw, &gw->mem, options->max_reply_bytes);
    if (call->shown) llmgwi_engine_push_rewind(call, 0); /* events and answer are taken back together */
    call->shown = false;
    llmgwi_dialect_answer_free(&reply->answer);
    llmgwi_dialect_answer_init(&reply->answer, &reply->mem, &call->wire, options->max_reply_bytes,
                               options->max_json_depth);
    reply->answer.salt = gw->clock.random(gw->clock.user);
    if (call->request->stream) {
        reply->answer.sink = llmgwi_engine_on_piece;
        reply->answer.sink_user = call;
    }
    memset(&call->meta, 0, sizeof call->meta);
    call->framed = false;
    return true;
}

/* A target was passed over. */
static void llmgwi_engine_skip(llmgwi_engine_call *call, llmgw_code code, const char *why, int64_t now) {
    llmgw_trace *item = llmgwi_engine_trace(call, LLMGW_TRACE_SKIP, now);
    (void)llmgwi_base_error(&call->last, code, "%s", why);
    call->plan.dead[call->target] = true;
    if (!item) return;
    item->code = code;
    llmgwi_engine_reason(call, item, why);
}

/* Waits in line for a connection. */
static void llmgwi_engine_starve(llmgwi_engine_call *call, int64_t now) {
    llmgw *gw = call->gw;
    llmgw_trace *item = llmgwi_engine_trace(call, LLMGW_TRACE_WAIT, now);
    if (item) {
        item->code = LLMGW_E_LIMIT;
        llmgwi_engine_reason(call, item, "max_connections are in use");
    }
    call->starved = true;
    call->starved_next = NULL;
    *gw->starved_tail = call;
    gw->starved_tail = &call->starved_next;
    llmgwi_engine_wake_at(gw, call, LLMGWI_BASE_NEVER);
}

static void llmgwi_engine_unstarve(llmgwi_engine_call *call) {
    llmgw *gw = call->gw;
    if (!call->starved) return;
    call->starved = false;
    llmgwi_engine_call **at = &gw->starved;
    while (*at != call) at = &(*at)->starved_next;
    *at = call->starved_next;
    if (!*at) gw->starved_tail = at;
}

static void llmgwi_engine_log_failover(llmgwi_engine_call *call) {
    const llmgwi_config_target *target = &call->targets[call->target];
    char line[LLMGW_ERROR_TEXT + 240];
    snprintf(line, sizeof line, "attempt %u goes to %.64s/%.80s, after: %s", (unsigned)call->epoch,
             target->provider->name, target->model, call->last.text);
    llmgwi_engine_log(call->gw, LLMGW_LOG_FAILOVER, line);
}

/* Hands the request to http. False: nothing was started, another target may be. */
static bool llmgwi_engine_launch(llmgwi_engine_call *call, int64_t now) {
    llmgw *gw = call->gw;
    const llmgwi_config_target *target = &call->targets[call->target];
    llmgwi_http_request request;
    if (!gw->http.room(gw->http.self)) {
        llmgwi_engine_starve(call, now);
        return true;
    }
    if (!llmgwi_engine_ready_attempt(call)) {
        llmgw_error why = call->stop;
        llmgwi_engine_skip(call, why.code, why.text, now);
        if (!llmgwi_health_next(why.code, 0)) llmgwi_route_failed(&call->plan, call->target, 0);
        return false;
    }
    memset(&request, 0, sizeof request);
    request.url = call->url.p;
    request.headers = gw->headers[target->provider->index * 2 + (call->request->stream ? 1 : 0)];
    request.body = llmgwi_base_buf_cstr(&call->body);
    request.body_len = call->body.n;
    request.stream = call->request->stream;
    request.tls = target->provider->tls;
    request.keyed = target->provider->keyed;
    request.loopback = target->provider->loopback;
    request.events = &llmgwi_engine_upcalls;
    request.user = call;
    call->transfer = gw->http.start(gw->http.self, &request);
    llmgw_trace *item = llmgwi_engine_trace(call, LLMGW_TRACE_ATTEMPT, now);
    if (!call->transfer || !item) {
        llmgwi_engine_abandon(call);
        llmgwi_engine_skip(call, LLMGW_E_MEMORY, "out of memory for the transfer", now);
        llmgwi_route_failed(&call->plan, call->target, 0);
        return false;
    }
    call->trace_at = (size_t)(item - call->reply->trace);
    call->tried = call->target;
    call->plan.tries[call->target]++;
    call->plan.waited = false;
    item->epoch = ++call->epoch;
    item->duration_us = -1;
    if (call->epoch > 1) llmgwi_engine_log_failover(call);
    llmgwi_engine_push_try(call);
    llmgwi_engine_enter(call, LLMGWI_ENGINE_CONNECTING, now);
    if (target->provider->discovered && call->connect_us > LLMGWI_CONFIG_PROBE_MS * 1000)
        llmgwi_engine_wake_at(gw, call, now + LLMGWI_CONFIG_PROBE_MS * 1000);
    return true;
}

/* Chooses the next target: the first in order whose lane is open; if none is, the one that opens first.
   False: none is left. */
static bool llmgwi_engine_choose(llmgwi_engine_call *call, int64_t now, int64_t *at_us) {
    llmgwi_route_plan look = call->plan; /* blocked ones are put aside in a copy */
    size_t first = SIZE_MAX;
    *at_us = LLMGWI_BASE_NEVER;
    for (size_t i; (i = llmgwi_route_next(&look)) != SIZE_MAX;) {
        int64_t open = call->gw->lanes[call->targets[i].provider->index].not_before_us;
        if (open < *at_us) {
            *at_us = open;
            first = i;
        }
        if (open <= now) break;
        look.dead[i] = true;
    }
    if (first != SIZE_MAX) call->target = first;
    return first != SIZE_MAX;
}

/* Ends a call that has nothing left to try. */
static void llmgwi_engine_give_up(llmgwi_engine_call *call) {
    llmgw_error error = call->last;
    if (!error.code) (void)llmgwi_base_error(&error, LLMGW_E_MODEL, "no target could be tried");
    size_t n = strlen(error.text);
    if (call->epoch > 1 && n + 32 < sizeof error.text)
        snprintf(error.text + n, sizeof error.text - n, " (after %u attempts)", (unsigned)call->epoch);
    llmgwi_engine_end(call, &error);
}

/* Waits before the next attempt, unless that would outlast the deadline. */
static void llmgwi_engine_pause(llmgwi_engine_call *call, int64_t now, int64_t at_us, bool lane) {
    const llmgwi_config_target *target = &call->targets[call->target];
    if (at_us >= call->deadline_us) {
        if (!call->last.code) {
            (void)llmgwi_base_error(
                &call->last, LLMGW_E_RATE_LIMITED,
                "%.64s: it asked not to be called yet, for longer than the call's deadline",
                target->provider->name);
            call->last.retry_after_ms = (at_us - now) / 1000;
        }
        llmgwi_engine_give_up(call);
        return;
    }
    llmgw_trace *item = llmgwi_engine_trace(call, LLMGW_TRACE_WAIT, now);
    if (item) {
        char why[96];
        const llmgwi_base_error_row *last = llmgwi_base_error_find(call->last.code);
        snprintf(why, sizeof why, lane ? "this provider asked to wait (Retry-After)" : "backoff after %s",
                 last ? last->name : "?");
        item->duration_us = at_us - now;
        item->code = call->last.code;
        llmgwi_engine_reason(call, item, why);
    }
    llmgwi_engine_wake_at(call->gw, call, at_us);
}

/* The one retry loop: starts the next attempt, waits for it, or ends the call. In WAITING. */
static void llmgwi_engine_advance(llmgwi_engine_call *call) {
    llmgw *gw = call->gw;
    int64_t now = llmgwi_engine_now(gw), at_us;
    for (;;) {
        if (call->epoch >= (uint32_t)call->max_attempts || !llmgwi_engine_choose(call, now, &at_us)) {
            llmgwi_engine_give_up(call);
            return;
        }
        const llmgwi_config_provider *provider = call->targets[call->target].provider;
        if (provider->missing) {
            char why[160];
            snprintf(why, sizeof why, "provider %.64s has no key: set %.64s", provider->name,
                     provider->missing);
            llmgwi_engine_skip(call, LLMGW_E_NO_KEY, why, now);
            continue;
        }
        bool lane = at_us > now;
        if (call->plan.tries[call->target] && !call->plan.waited) {
            int64_t backoff =
                now + llmgwi_health_backoff(++call->plan.rounds, gw->clock.random(gw->clock.user));
            if (backoff > at_us) at_us = backoff, lane = false;
        }
        if (at_us > now) {
            call->plan.waited = true; /* until an attempt begins */
            llmgwi_engine_pause(call, now, at_us, lane);
            return;
        }
        if (llmgwi_engine_launch(call, now)) return;
    }
}

/* ---- the clock ---- */

/* A stream that is not late after all: bytes came meanwhile, or it is we who stopped reading. */
static bool llmgwi_engine_spared(llmgwi_engine_call *call, int64_t now) {
    bool alive = call->state == LLMGWI_ENGINE_ANSWERING && call->idle_us != LLMGWI_BASE_NEVER &&
                 call->last_us + call->idle_us > now;
    if (!alive && !call->paused) return false;
    llmgwi_engine_wake_at(call->gw, call,
                          llmgwi_engine_after(call->paused ? now : call->last_us, call->idle_us));
    return true;
}

/* The call's deadline passed. */
static void llmgwi_engine_expire(llmgwi_engine_call *call) {
    llmgw_error why;
    llmgwi_engine_state state = call->state;
    llmgwi_engine_unstarve(call);
    (void)llmgwi_base_error(&why, LLMGW_E_DEADLINE, "the call's deadline_ms (%lld ms) passed while %s%s%s",
                            (long long)((call->deadline_us - call->accepted_us) / 1000),
                            llmgwi_engine_moves[state].doing, call->last.code ? "; before that: " : "",
                            call->last.code ? call->last.text : "");
    if (state >= LLMGWI_ENGINE_CONNECTING) llmgwi_engine_close_trace(call, LLMGW_E_DEADLINE, why.text);
    llmgwi_engine_end(call, &why);
}

static void llmgwi_engine_timeout(llmgwi_engine_call *call, int64_t now) {
    llmgw_error why;
    bool deadline = now >= call->deadline_us;
    llmgwi_engine_state state = call->state;
    if (!deadline && llmgwi_engine_spared(call, now)) return;
    llmgwi_engine_abandon(call);
    if (state == LLMGWI_ENGINE_CLOSING) {
        llmgwi_engine_succeeded(call);
    } else if (deadline) {
        llmgwi_engine_expire(call);
    } else if (state == LLMGWI_ENGINE_WAITING) {
        llmgwi_engine_advance(call);
    } else {
        bool probe = state == LLMGWI_ENGINE_CONNECTING && call->targets[call->target].provider->discovered;
        int64_t limit_ms = probe ? LLMGWI_CONFIG_PROBE_MS : llmgwi_engine_stay(call, state) / 1000;
        (void)llmgwi_base_error(&why, llmgwi_engine_moves[state].late, "%s (%lld ms)",
                                llmgwi_engine_moves[state].late_text, (long long)limit_ms);
        llmgwi_engine_failed(call, &why);
    }
}

static void llmgwi_engine_clock(llmgw *gw) {
    int64_t now = llmgwi_engine_now(gw);
    while (gw->heap_count && gw->heap[0]->wake_us <= now) llmgwi_engine_timeout(gw->heap[0], now);
}

/* ---- the driver ---- */

static void llmgwi_engine_free_call(llmgwi_engine_call *call) {
    llmgw *gw = call->gw;
    llmgwi_base_buf_free(&call->body);
    llmgwi_base_buf_free(&call->url);
    llmgwi_base_buf_free(&call->raw);
    llmgwi_base_buf_free(&call->queue);
    llmgwi_frame_free(&call->frame);
    llmgwi_base_arena_free(&call->arena);
    llmgwi_engine_reply_drop(call->reply);
    llmgwi_base_free(&gw->mem, call, sizeof *call);
}

/* A call that asked for attention: it is new, cancelled, or drained. */
static void llmgwi_engine_attend(llmgwi_engine_call *call, bool cancelled, bool resume, bool closing) {
    llmgw *gw = call->gw;
    llmgw_error why;
    memset(&why, 0, sizeof why);
    if (cancelled || closing) {
        (void)llmgwi_base_error(&why, cancelled ? LLMGW_E_CANCELLED : LLMGW_E_CLOSED,
                                cancelled ? "cancelled by the caller" : "the gateway was closed");
        bool open = call->state >= LLMGWI_ENGINE_CONNECTING;
        llmgwi_engine_abandon(call);
        llmgwi_engine_unstarve(call);
        if (open) llmgwi_engine_close_trace(call, why.code, why.text);
        llmgwi_engine_end(call, &why);
    } else if (call->state == LLMGWI_ENGINE_QUEUED && !llmgwi_engine_heap_room(gw)) {
        (void)llmgwi_base_error(&why, LLMGW_E_MEMORY, "out of memory for the call's timer");
        llmgwi_engine_end(call, &why);
    } else if (call->state == LLMGWI_ENGINE_QUEUED) {
        llmgwi_engine_enter(call, LLMGWI_ENGINE_WAITING, 0);
        llmgwi_engine_wake_at(gw, call, LLMGWI_BASE_NEVER);
        llmgwi_engine_advance(call);
    } else if (resume && call->transfer) {
        call->last_us = llmgwi_engine_now(gw);
        gw->http.resume(gw->http.self, call->transfer); /* gives the bytes again, here and now */
        if (call->stop.code && call->transfer && call->state != LLMGWI_ENGINE_ENDED) {
            why = call->stop;
            llmgwi_engine_abandon(call);
            llmgwi_engine_failed(call, &why);
        }
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

/* Calls that waited for a connection, while there are any free. */
static void llmgwi_engine_feed(llmgw *gw) {
    while (gw->starved && gw->http.room(gw->http.self)) {
        llmgwi_engine_call *call = gw->starved;
        llmgwi_engine_unstarve(call);
        llmgwi_engine_advance(call);
    }
}

static int64_t llmgwi_engine_next_us(llmgw *gw) {
    int64_t next = gw->http.next_us(gw->http.self);
    if (gw->heap_count && gw->heap[0]->wake_us < next) next = gw->heap[0]->wake_us;
    return next;
}

/* One turn of the driver, waiting until something happens or until_us. own: the blocking call it is
   driven for; NULL: for a poll. Called with the lock held and driving false; returns the same way. */
static void llmgwi_engine_turn(llmgw *gw, int64_t until_us, const llmgwi_engine_call *own) {
    gw->driving = true;
    llmgwi_base_unlock(&gw->lock);
    llmgwi_engine_take_inbox(gw);
    llmgwi_engine_feed(gw);
    llmgwi_engine_clock(gw);
    int64_t next = llmgwi_engine_next_us(gw), now = llmgwi_engine_now(gw), wait_ms = -1;
    if (next > until_us) next = until_us;
    if (next != LLMGWI_BASE_NEVER) wait_ms = next > now ? (next - now + 999) / 1000 : 0;
    if (wait_ms > 3600000) wait_ms = 3600000;
    llmgwi_base_lock(&gw->lock);
    bool news = own ? own->ended || own->queue.n : gw->ready || gw->woken;
    if (gw->inbox || news) wait_ms = 0;
    gw->asleep = wait_ms != 0;
    llmgwi_base_unlock(&gw->lock);
    gw->http.poll(gw->http.self, (int)wait_ms);
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
        event.epoch = call->epoch;
        event.text = kind == LLMGW_EVENT_TEXT ? reply->text : reply->reasoning;
        event.text_len = kind == LLMGW_EVENT_TEXT ? reply->text_len : reply->reasoning_len;
        if (!event.text_len) continue;
        llmgwi_engine_tell(call, &event);
        count++;
    }
    for (size_t i = 0; i < reply->tool_call_count; i++, count++) {
        memset(&event, 0, sizeof event);
        event.kind = LLMGW_EVENT_TOOL;
        event.epoch = call->epoch;
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
    if (!call->request->stream) count = llmgwi_engine_tell_whole(call);
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
    call->events = request->on_event != NULL;
    call->heap_at = SIZE_MAX;
    call->last_us = call->accepted_us;
    llmgwi_base_buf_init(&call->body, &gw->mem, options->max_request_bytes);
    llmgwi_base_buf_init(&call->url, &gw->mem, 8192);
    llmgwi_base_buf_init(&call->raw, &gw->mem, options->max_reply_bytes);
    llmgwi_base_buf_init(&call->queue, &gw->mem,
                         options->max_queue_bytes + 2 * options->max_event_bytes + options->max_reply_bytes +
                             (256 << 10));
    llmgwi_frame_init(&call->frame, &gw->mem, options->max_event_bytes, llmgwi_engine_on_event, call);
}

/* Takes a checked request and returns its handle; 0: error says why. After that a call that is not blocking
   belongs to whoever drives, and may be gone already. */
static llmgw_call llmgwi_engine_accept(llmgw *gw, llmgwi_engine_call *call, llmgw_error *error) {
    llmgw_call id = 0;
    if (!llmgwi_config_resolve(&gw->config, call->request->model, &call->own_target, &call->targets,
                               &call->plan.count, error))
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
/*            uses: text, json, dialect, config, route, http, engine                             */
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
    if ((unsigned)request->effort > LLMGW_EFFORT_HIGH)
        return llmgwi_public_wrong(error, "effort", "no such effort");
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
         {false, 0, 0, 0, 0, 0, 0},                                                                          \
         {false, false, 0},                                                                                  \
         "",                                                                                                 \
         "",                                                                                                 \
         "",                                                                                                 \
         "",                                                                                                 \
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
        (void)llmgwi_base_error(&error, LLMGW_E_MISUSE, "a blocking call was made from the log function");
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

LLMGW_API const char *llmgw_trace_name(llmgw_trace_kind kind) {
    static const char *const names[] = {"attempt", "wait", "skip"};
    return (unsigned)kind < LLMGWI_BASE_COUNT(names) ? names[kind] : "?";
}

/* ---- open and close ---- */

static bool llmgwi_public_headers(llmgw *gw) {
    static const char *const common[] = {"Content-Type: application/json",
                                         ("User-Agent: llmgw.h/" LLMGW_VERSION), "Expect:"};
    static const char *const accept[] = {"Accept: application/json", "Accept: text/event-stream"};
    size_t providers = gw->config.provider_count;
    gw->headers = (void **)llmgwi_base_zalloc(&gw->mem, (providers * 2 + 1) * sizeof *gw->headers);
    gw->lanes = (llmgwi_route_lane *)llmgwi_base_zalloc(&gw->mem, (providers + 1) * sizeof *gw->lanes);
    if (!gw->headers || !gw->lanes) return false;
    for (size_t i = 0; i < providers; i++) {
        const llmgwi_config_provider *provider = gw->config.providers[i];
        const char *lines[LLMGWI_CONFIG_HEADERS + 4];
        size_t n = 0;
        for (size_t h = 0; h < provider->header_count; h++) lines[n++] = provider->headers[h].line;
        for (size_t c = 0; c < LLMGWI_BASE_COUNT(common); c++) lines[n++] = common[c];
        for (size_t stream = 0; stream < 2; stream++) {
            lines[n] = accept[stream];
            gw->headers[i * 2 + stream] = gw->http.headers_make(gw->http.self, lines, n + 1);
            if (!gw->headers[i * 2 + stream]) return false;
        }
    }
    return true;
}

/* Frees what open or a life has filled. */
static void llmgwi_public_free(llmgw *gw, bool forked) {
    llmgwi_base_mem mem = gw->mem;
    for (size_t i = 0; gw->http.self && gw->headers && i < gw->config.provider_count * 2; i++)
        if (gw->headers[i] && !forked) gw->http.headers_free(gw->http.self, gw->headers[i]);
    if (gw->http.self) gw->http.close(gw->http.self, forked);
    llmgwi_base_free(&mem, gw->headers, (gw->config.provider_count * 2 + 1) * sizeof *gw->headers);
    llmgwi_base_free(&mem, gw->lanes, (gw->config.provider_count + 1) * sizeof *gw->lanes);
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
    if (ok && llmgwi_public_headers(gw)) return gw;
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
     0.1.0  (2026-11-22)  calling (blocking, poll, descriptor), dialects openai, anthropic and gemini,
                          ordered fallback, exact cost from built-in and configured prices

   LICENSE
     MIT, see the file LICENSE. */
