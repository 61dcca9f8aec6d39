/* Conversations that move from one provider to another: random ones, valid by our API, written in every dialect,
 * are taken by the fake provider's strict validator, and nothing of them is lost or out of order.
 *
 *   MOVED_SEED=N   only this conversation, in every dialect, with what is sent printed
 *   MOVED_COUNT=N  so many for each dialect (2000) */
#include "unit.h"
#include "testing.h"
#include "group.h"

/* ---- where they go ---- */

/* Which of its own reasoning a home has back. */
typedef enum back {
    NEVER,
    ALWAYS,
    LOOP,    /* that of a turn with calls */
    FOLLOWED /* with something said or called after it in its turn */
} back;

typedef struct home {
    const char *dialect, *flavour, *path, *model;
    back back;
    bool idless;  /* a call may have no id on this wire */
    bool unique;  /* takes an id once in a request */
    size_t share; /* of the conversations that it gets, in percent */
} home;

/* A dialect of llmgw.h that is not here is spoken to at the path of its name: one line makes it right. */
static const home homes[] = {
    {"openai", "openai", "/v1", "gpt-4o", NEVER, false, false, 100},
    {"openai", "azure", "/openai/v1", "gpt-4o", NEVER, false, false, 100},
    {"openai", "mistral", "/mistral/v1", "mistral-large", NEVER, false, false, 20},
    {"openai", "deepseek", "/deepseek/v1", "deepseek-chat", LOOP, false, false, 100},
    {"openai", "moonshot", "/moonshot/v1", "kimi-k3", LOOP, false, false, 20},
    {"openai", "qwen", "/qwen/v1", "qwen3-vl-plus", NEVER, false, false, 20},
    {"openai", "openrouter", "/openrouter/v1", "x/y", ALWAYS, false, false, 20},
    {"openai", "groq", "/groq/v1", "openai/gpt-oss-20b", NEVER, false, false, 20},
    {"openai", "xai", "/xai/v1", "grok-4.5", NEVER, false, false, 20},
    {"openai", "llamacpp", "/llamacpp/v1", "m", NEVER, false, false, 20},
    {"openai", "vllm", "/vllm/v1", "m", NEVER, false, false, 20},
    {"openai", "ollama", "/v1", "llama", NEVER, false, false, 20},
    {"anthropic", "anthropic", "", "claude-sonnet-4-5", ALWAYS, false, true, 100},
    {"gemini", "gemini", "/v1beta", "gemini-2.5-flash", ALWAYS, true, false, 50},
    {"gemini", "gemini", "/v1beta", "gemini-3-pro", ALWAYS, true, false, 100},
    {"gemini", "vertex", "/v1/projects/p-1/locations/global/publishers/google", "gemini-3-pro", ALWAYS, true,
     false, 100},
    {"responses", "responses", "/v1", "gpt-5.2", FOLLOWED, false, true, 100},
    {"responses", "azure", "/openai/v1", "gpt-5.2", NEVER, false, true, 20},
    {"ollama", "ollama", "", "llama3.2", FOLLOWED, true, false, 100},
    {"cohere", "cohere", "/v2", "command-a-03-2025", FOLLOWED, false, false, 100},
    {"bedrock", "bedrock", "", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", ALWAYS, false, true, 100},
    {"bedrock", "bedrock", "", "amazon.nova-pro-v1:0", ALWAYS, false, true, 20},
};

/* ---- a conversation ---- */

#define MAX_TURNS 48
#define MAX_PARTS 256
#define MAX_MARKS 512
#define MARK 8 /* "<t00001>" */

typedef enum kind { TEXT, SYSTEM, CALL, RESULT, IMAGE, SIGNATURE, KINDS } kind;

typedef struct mark {
    kind kind;
    char text[40];       /* what is looked for in the body */
    const char *origin;  /* SIGNATURE: whose */
    bool loop, followed; /* what a home may want of it */
    size_t call;         /* RESULT: the mark of its call */
} mark;

typedef struct talk {
    uint64_t seed, random;
    llmgw_request request;
    llmgw_message messages[MAX_TURNS];
    llmgw_part parts[MAX_PARTS];
    llmgw_tool tools[4];
    mark marks[MAX_MARKS];
    size_t turn_count, part_count, mark_count;
    const char *ids[MAX_PARTS]; /* of all calls */
    size_t id_count, old_ids;   /* those of the turns before */
    bool urls;                  /* not every provider fetches */
    char room[256 << 10];
    size_t used;
} talk;

static uint64_t draw(talk *t) {
    uint64_t z = t->random += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}
static size_t below(talk *t, size_t n) { return (size_t)(draw(t) % n); }
static bool chance(talk *t, int percent) { return below(t, 100) < (size_t)percent; }

/* A formatted text that lives as long as the talk. */
__attribute__((format(printf, 2, 3))) static char *say(talk *t, const char *format, ...) {
    va_list args;
    char *at = t->room + t->used;
    va_start(args, format);
    int n = vsnprintf(at, sizeof t->room - t->used, format, args);
    va_end(args);
    assert_true(n >= 0 && t->used + (size_t)n + 1 < sizeof t->room);
    t->used += (size_t)n + 1;
    return at;
}

/* A new mark; its number. */
static size_t mark_new(talk *t, kind k, const char *text) {
    assert_true(t->mark_count < MAX_MARKS);
    mark *m = &t->marks[t->mark_count];
    m->kind = k;
    snprintf(m->text, sizeof m->text, "%s", text);
    m->origin = NULL;
    m->loop = m->followed = false;
    m->call = SIZE_MAX;
    return t->mark_count++;
}

static const char *mark_text(talk *t) { return say(t, "<t%05u>", (unsigned)t->mark_count); }

/* Words with what JSON and tokenizers find hard. */
static const char *words(talk *t) {
    static const char *const some[] = {"hello",
                                       "\"quoted\"",
                                       "back\\slash",
                                       "new\nline",
                                       "tab\t",
                                       "\xC3\xA4\xE2\x82\xAC",
                                       "\xF0\x9F\x98\x80",
                                       "</s>",
                                       "{\"a\":[1]}",
                                       "\x01",
                                       "```",
                                       "e\xCC\x81",
                                       " ",
                                       "<|im_end|>"};
    char text[256] = "";
    for (size_t n = below(t, 5); n > 0; n--) {
        strcat(text, " ");
        strcat(text, some[below(t, COUNT_OF(some))]);
    }
    return say(t, "%s", text);
}

static llmgw_part *part_new(talk *t, llmgw_part_kind k) {
    assert_true(t->part_count < MAX_PARTS);
    llmgw_part *part = &t->parts[t->part_count++];
    memset(part, 0, sizeof *part);
    part->kind = k;
    return part;
}

static void add_text(talk *t, kind k) {
    const char *m = mark_text(t);
    (void)mark_new(t, k, m);
    part_new(t, LLMGW_PART_TEXT)->text = say(t, "%s%s%s", chance(t, 50) ? words(t) : "", m, words(t));
}

/* Says nothing. */
static void add_blank(talk *t) {
    static const char *const blanks[] = {"", "", " ", "\n\n", "\t "};
    part_new(t, LLMGW_PART_TEXT)->text = blanks[below(t, COUNT_OF(blanks))];
}

/* Bytes whose base64 is found in the body as it is. */
static void add_image(talk *t, bool file) {
    const char *m = mark_text(t);
    llmgwi_base_buf buf;
    llmgw_part *part = part_new(t, file ? LLMGW_PART_FILE : LLMGW_PART_IMAGE);
    if (!file && t->urls && chance(t, 30)) {
        part->url = say(t, "https://example.com/%s.png", m + 1);
        (void)mark_new(t, IMAGE, part->url);
        return;
    }
    char *bytes = say(t, "%s!%.*s", m, (int)below(t, 9), "\x89PNG....");
    part->data = bytes;
    part->data_len = strlen(bytes);
    if (file) part->name = "paper.pdf";
    if (!file && chance(t, 50)) part->mime = "image/jpeg";
    llmgwi_base_buf_init(&buf, &unit_mem, 256);
    llmgwi_json_put_base64(&buf, (const unsigned char *)bytes, 9); /* of the first nine: no padding */
    (void)mark_new(t, IMAGE, buf.p);
    llmgwi_base_buf_free(&buf);
}

static uint32_t fnv(const char *p) { /* as the fake provider signs */
    uint32_t h = 2166136261u;
    for (; *p; p++) h = (h ^ (unsigned char)*p) * 16777619u;
    return h;
}

static char *base64(talk *t, const char *text) {
    llmgwi_base_buf buf;
    llmgwi_base_buf_init(&buf, &unit_mem, 4096);
    llmgwi_json_put_base64(&buf, (const unsigned char *)text, strlen(text));
    char *out = say(t, "%s", buf.p);
    llmgwi_base_buf_free(&buf);
    return out;
}

/* An item of the Responses API, whose id and secret belong together as the fake provider has it. */
static char *reasoning_item(talk *t) {
    char *id = say(t, "rs_%05u", (unsigned)t->mark_count);
    char *secret = base64(t, say(t, "enc-%u-enc-enc", fnv(id)));
    return say(t,
               "{\"id\":\"%s\",\"type\":\"reasoning\",\"encrypted_content\":\"gAAAAABo%s\",\"summary\":[]}",
               id, secret);
}

/* Reasoning of one of the providers, as its reply gave it: signed, or a text alone. */
static void add_reasoning(talk *t, bool loop, bool followed) {
    static const struct {
        const char *origin;
        char sign; /* hash of the text, base64, details, item, 0: none */
    } kinds[] = {{"anthropic", 'h'},  {"bedrock", 'h'},   {"gemini", 'b'}, {"vertex", 'b'},
                 {"openrouter", 'd'}, {"responses", 'i'}, {"openai", 0},   {"cohere", 0},
                 {"deepseek", 0},     {"moonshot", 0},    {"ollama", 0}};
    llmgw_part *part = part_new(t, LLMGW_PART_REASONING);
    size_t which = below(t, COUNT_OF(kinds));
    const char *m = mark_text(t), *find = m;
    part->origin = kinds[which].origin;
    part->text = say(t, "Hm %s", m);
    switch (kinds[which].sign) {
    case 'h': part->signature = find = say(t, "sig-%u", fnv(part->text)); break;
    case 'b': part->signature = find = base64(t, m); break;
    case 'd': part->signature = say(t, "[{\"type\":\"reasoning.text\",\"text\":\"%s\"}]", m); break;
    case 'i':
        part->signature = reasoning_item(t);
        find = say(t, "rs_%05u", (unsigned)t->mark_count);
        break;
    }
    size_t at = mark_new(t, SIGNATURE, find);
    t->marks[at].origin = part->origin;
    t->marks[at].loop = loop;
    t->marks[at].followed = followed;
}

static const char *const names[] = {"get_weather", "lookup", "Search-2"};

/* One that a call of an earlier turn has: some models begin to count anew in each (vllm issue 50295). */
static const char *old_id(talk *t) {
    const char *id = t->ids[below(t, t->old_ids)];
    for (size_t i = t->old_ids; i < t->id_count; i++)
        if (strcmp(t->ids[i], id) == 0) return NULL;
    return id;
}

/* Ids as the providers make them. */
static const char *call_id(talk *t, unsigned n) {
    const char *old = t->old_ids && chance(t, 20) ? old_id(t) : NULL;
    if (old) return old;
    switch (below(t, 7)) {
    case 0: return say(t, "call_%024u", n);
    case 1: return say(t, "toolu_01%022u", n);
    case 2: return say(t, "functions.get_weather:%u", n);
    case 3: return say(t, "%09u", n);
    case 4: return say(t, "chatcmpl-tool-%032u", n);
    case 5: return say(t, LLMGWI_DIALECT_MADE_ID "%x_%u", 77u, n);
    default: return say(t, "tooluse_%022u", n);
    }
}

typedef struct asked {
    const char *id, *name;
    size_t mark;
} asked;

static asked add_call(talk *t) {
    asked a;
    const char *m = mark_text(t);
    llmgw_part *part = part_new(t, LLMGW_PART_TOOL_CALL);
    a.mark = mark_new(t, CALL, m);
    a.name = part->name = names[below(t, COUNT_OF(names))];
    a.id = part->id = t->ids[t->id_count] = call_id(t, (unsigned)t->mark_count);
    t->id_count++;
    part->arguments = say(t, "{\"q\": \"%s\", \"deep\": {\"list\": [1, 2.50, null]}}", m);
    if (chance(t, 20)) {
        part->origin = "gemini";
        part->signature = base64(t, say(t, "sig-%u", fnv(part->name)));
        size_t at = mark_new(t, SIGNATURE, part->signature);
        t->marks[at].origin = part->origin;
    }
    return a;
}

static void add_result(talk *t, const asked *a) {
    llmgw_part *part = part_new(t, LLMGW_PART_TOOL_RESULT);
    part->id = a->id;
    if (chance(t, 50)) part->name = a->name;
    part->is_error = chance(t, 25);
    part->text = "";
    if (chance(t, 15)) return;
    const char *m = mark_text(t);
    size_t at = mark_new(t, RESULT, m);
    t->marks[at].call = a->mark;
    part->text = chance(t, 50) ? say(t, "%s%s", m, words(t)) : say(t, "{\"temp\": 21, \"note\": \"%s\"}", m);
}

/* Opens a turn; its parts are added then. */
static llmgw_message *turn_new(talk *t, llmgw_role role) {
    assert_true(t->turn_count < MAX_TURNS);
    llmgw_message *turn = &t->messages[t->turn_count++];
    memset(turn, 0, sizeof *turn);
    turn->role = role;
    turn->parts = &t->parts[t->part_count];
    return turn;
}

/* Closes it; one whose first part is text may say so in short. */
static void turn_end(talk *t, llmgw_message *turn) {
    turn->part_count = (size_t)(&t->parts[t->part_count] - turn->parts);
    if (turn->role != LLMGW_ROLE_TOOL && turn->part_count && turn->parts[0].kind == LLMGW_PART_TEXT &&
        chance(t, 40)) {
        turn->text = turn->parts[0].text;
        turn->parts++;
        turn->part_count--;
    }
}

static void system_turn(talk *t) {
    llmgw_message *turn = turn_new(t, LLMGW_ROLE_SYSTEM);
    add_text(t, SYSTEM);
    if (chance(t, 20)) add_blank(t);
    turn_end(t, turn);
}

static void user_turn(talk *t) {
    llmgw_message *turn = turn_new(t, LLMGW_ROLE_USER);
    for (size_t n = 1 + below(t, 3); n > 0; n--) {
        size_t what = below(t, 10);
        if (what < 6)
            add_text(t, TEXT);
        else if (what < 8)
            add_image(t, what == 7 && chance(t, 40));
        else
            add_blank(t);
    }
    turn_end(t, turn);
}

/* One turn of the assistant, or two; its calls. */
static size_t assistant_turns(talk *t, asked *calls) {
    size_t count = chance(t, 50) ? 1 + below(t, 3) : 0, turns = chance(t, 20) ? 2 : 1;
    t->old_ids = t->id_count;
    for (size_t i = 0; i < turns; i++) {
        llmgw_message *turn = turn_new(t, LLMGW_ROLE_ASSISTANT);
        bool says = chance(t, 70), adds = chance(t, 10);
        if (chance(t, 30)) add_reasoning(t, count > 0, says || adds || (count && i == 0));
        if (says) add_text(t, TEXT);
        if (chance(t, 10)) add_blank(t);
        for (size_t k = 0; k < count && i == 0; k++) calls[k] = add_call(t);
        if (adds) add_text(t, TEXT);
        if (turn->parts == &t->parts[t->part_count]) add_blank(t);
        turn_end(t, turn);
    }
    return count;
}

/* The answers to all calls, in any order, in one turn or several, with others between them. */
static void result_turns(talk *t, asked *calls, size_t count) {
    while (count) {
        bool user = chance(t, 30);
        if (chance(t, 10)) system_turn(t);
        if (chance(t, 10)) user_turn(t);
        llmgw_message *turn = turn_new(t, user ? LLMGW_ROLE_USER : LLMGW_ROLE_TOOL);
        if (user && chance(t, 30)) add_text(t, TEXT);
        for (size_t n = 1 + below(t, count); n > 0; n--) {
            size_t i = below(t, count);
            add_result(t, &calls[i]);
            calls[i] = calls[--count];
        }
        if (user && chance(t, 50)) add_text(t, TEXT);
        turn_end(t, turn);
    }
}

static void talk_make(talk *t, uint64_t seed) {
    asked calls[4];
    memset(t, 0, offsetof(talk, room));
    t->used = 0;
    t->seed = t->random = seed;
    t->urls = chance(t, 20);
    if (chance(t, 50)) {
        const char *m = mark_text(t);
        (void)mark_new(t, SYSTEM, m);
        t->request.system = say(t, "Be kind. %s", m);
    }
    if (chance(t, 10)) system_turn(t);
    if (chance(t, 90)) user_turn(t);
    for (size_t rounds = below(t, 5); rounds > 0; rounds--) {
        size_t count = assistant_turns(t, calls);
        result_turns(t, calls, count);
        if (!count || chance(t, 30)) user_turn(t);
        if (chance(t, 15)) user_turn(t);
        if (chance(t, 15)) system_turn(t);
    }
    /* it ends with something to answer, which says something */
    llmgw_message *last = turn_new(t, LLMGW_ROLE_USER);
    add_text(t, TEXT);
    turn_end(t, last);
    if (chance(t, 30)) {
        const char *m = mark_text(t);
        (void)mark_new(t, TEXT, m);
        t->request.prompt = say(t, "And? %s", m);
    }
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        t->tools[i].name = names[i];
        t->tools[i].description = "A tool.";
        t->tools[i].parameters = "{\"type\":\"object\",\"properties\":{\"q\":{\"type\":\"string\"}}}";
    }
    t->request.model = "x/y";
    t->request.messages = t->messages;
    t->request.message_count = t->turn_count;
    t->request.tools = t->tools;
    t->request.tool_count = COUNT_OF(names);
    t->request.max_tokens = 100;
}

/* ---- what was written ---- */

/* Each string of a body, in the order of the text, and the id next to it. */
typedef struct leaf {
    const char *text, *id;
} leaf;

typedef struct leaves {
    leaf *list;
    size_t count, cap;
} leaves;

static const char *const id_keys[] = {"tool_call_id", "tool_use_id", "toolUseId", "call_id", "id"};

static void collect(leaves *all, const json_t *at, const char *id) {
    const char *key;
    json_t *value;
    size_t i;
    if (json_is_string(at)) {
        if (all->count == all->cap)
            all->list = (leaf *)realloc(all->list, (all->cap = all->cap * 2 + 64) * sizeof *all->list);
        all->list[all->count].text = json_string_value(at);
        all->list[all->count++].id = id;
    }
    json_array_foreach(at, i, value) collect(all, value, NULL == id ? NULL : id);
    for (i = 0; json_is_object(at) && i < COUNT_OF(id_keys); i++) {
        json_t *own = json_object_get(at, id_keys[i]);
        if (!json_is_string(own)) continue;
        id = json_string_value(own);
        break;
    }
    json_object_foreach((json_t *)(uintptr_t)at, key, value) collect(all, value, id);
}

/* The first leaf that holds a text; SIZE_MAX: none. */
static size_t find(const leaves *all, const char *text) {
    for (size_t i = 0; i < all->count; i++)
        if (strstr(all->list[i].text, text)) return i;
    return SIZE_MAX;
}

static const char *const kind_names[KINDS] = {"text", "system text", "call", "result", "image", "signature"};

static bool goes_back(const home *h, const mark *m) {
    if (strcmp(m->origin, h->flavour) != 0) return false;
    return h->back == ALWAYS || (h->back == LOOP && m->loop) || (h->back == FOLLOWED && m->followed);
}

/* The mark of another call with the same id on this wire; SIZE_MAX: none. */
static size_t same_id(const talk *t, const leaves *all, const size_t *at, size_t i) {
    const char *id = all->list[at[i]].id;
    for (size_t k = 0; id && k < i; k++)
        if (t->marks[k].kind == CALL && strcmp(all->list[at[k]].id, id) == 0) return k;
    return SIZE_MAX;
}

/* Is everything there, in order? NULL, or what is wrong. */
static const char *check_body(const talk *t, const home *h, const json_t *body) {
    static char why[256];
    leaves all = {NULL, 0, 0};
    size_t last[KINDS] = {0, 0, 0, 0, 0, 0}, at[MAX_MARKS];
    collect(&all, body, NULL);
    why[0] = 0;
    for (size_t i = 0; i < t->mark_count && !why[0]; i++) {
        const mark *m = &t->marks[i];
        /* texts and images are one sequence, but where images stand beside the text (ollama) */
        kind k = m->kind == IMAGE && strcmp(h->dialect, "ollama") != 0 ? TEXT : m->kind;
        at[i] = find(&all, m->text);
        if (m->kind == SIGNATURE) {
            bool own = strcmp(m->origin, h->flavour) == 0;
            if (goes_back(h, m) && at[i] == SIZE_MAX)
                snprintf(why, sizeof why, "lost: own reasoning %s", m->text);
            if (!own && at[i] != SIZE_MAX)
                snprintf(why, sizeof why, "another's reasoning went along: %s", m->text);
            continue;
        }
        if (at[i] == SIZE_MAX)
            snprintf(why, sizeof why, "lost: %s %s", kind_names[m->kind], m->text);
        else if (at[i] < last[k] && m->kind != RESULT)
            snprintf(why, sizeof why, "out of order: %s %s", kind_names[m->kind], m->text);
        else if (m->call != SIZE_MAX && at[i] < at[m->call])
            snprintf(why, sizeof why, "before its call: %s %s", kind_names[m->kind], m->text);
        if (why[0]) break;
        last[k] = at[i];
        if (h->unique && m->kind == CALL && same_id(t, &all, at, i) != SIZE_MAX)
            snprintf(why, sizeof why, "call %s: its id comes twice: %s", m->text, all.list[at[i]].id);
        if (m->call == SIZE_MAX) continue;
        const char *call = all.list[at[m->call]].id, *result = all.list[at[i]].id;
        if (!call != !result || (!call && !h->idless) || (call && strcmp(call, result) != 0))
            snprintf(why, sizeof why, "%s %s: the call is %s, the result %s", kind_names[m->kind], m->text,
                     call ? call : "(none)", result ? result : "(none)");
        if (strcmp(h->flavour, "mistral") == 0 && call && strlen(call) != 9)
            snprintf(why, sizeof why, "mistral: an id of %zu letters: %s", strlen(call), call);
    }
    free(all.list);
    return why[0] ? why : NULL;
}

/* ---- sending ---- */

typedef struct wire {
    CURL *easy;
    struct curl_slist *headers;
    char url[256];
    Text reply;
} wire;

static void wire_open(wire *w, const home *h, const llmgwi_dialect *dialect) {
    bool bearer = strcmp(h->flavour, "vertex") == 0;
    char base[128], line[256];
    llmgwi_base_buf url;
    memset(w, 0, sizeof *w);
    snprintf(base, sizeof base, "http://127.0.0.1:%d%s", provider.port, h->path);
    llmgwi_base_buf_init(&url, &unit_mem, sizeof w->url - 1);
    assert_true(llmgwi_dialect_url(dialect, base, h->model, false, &url));
    snprintf(w->url, sizeof w->url, "%s", url.p);
    llmgwi_base_buf_free(&url);
    w->headers = curl_slist_append(w->headers, "Content-Type: application/json");
    w->headers = curl_slist_append(w->headers, "Expect:");
    if (dialect->header) w->headers = curl_slist_append(w->headers, dialect->header);
    snprintf(line, sizeof line, "%s: %ssk-moved-0123456789",
             bearer                ? "Authorization"
             : dialect->key_header ? dialect->key_header
                                   : "X-None",
             bearer                ? "Bearer "
             : dialect->key_prefix ? dialect->key_prefix
                                   : "");
    w->headers = curl_slist_append(w->headers, line);
    w->easy = curl_easy_init();
    curl_easy_setopt(w->easy, CURLOPT_URL, w->url);
    curl_easy_setopt(w->easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(w->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(w->easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(w->easy, CURLOPT_HTTPHEADER, w->headers);
    curl_easy_setopt(w->easy, CURLOPT_WRITEFUNCTION, t_collect);
    curl_easy_setopt(w->easy, CURLOPT_WRITEDATA, &w->reply);
    curl_easy_setopt(w->easy, CURLOPT_TIMEOUT_MS, 20000L);
}

static void wire_close(wire *w) {
    curl_easy_cleanup(w->easy);
    curl_slist_free_all(w->headers);
    free(w->reply.p);
}

/* The status of the reply to a body. */
static long wire_post(wire *w, const llmgwi_base_buf *body) {
    long status = 0;
    w->reply.n = 0;
    curl_easy_setopt(w->easy, CURLOPT_POSTFIELDS, body->p);
    curl_easy_setopt(w->easy, CURLOPT_POSTFIELDSIZE, (long)body->n);
    CURLcode code = curl_easy_perform(w->easy);
    if (code != CURLE_OK) fail_msg("%s: %s", w->url, curl_easy_strerror(code));
    curl_easy_getinfo(w->easy, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

/* One conversation in one dialect. False: the dialect cannot say it, and said so. */
static bool move(talk *t, const home *h, const llmgwi_dialect *dialect, wire *w, bool show) {
    llmgwi_dialect_target target;
    llmgwi_base_buf body;
    llmgw_error error;
    memset(&target, 0, sizeof target);
    memset(&error, 0, sizeof error);
    target.model = h->model;
    target.flavour = h->flavour;
    target.quirks = llmgwi_dialect_quirks_of(h->dialect, h->flavour, h->model, NULL);
    if (!llmgwi_public_check(&t->request, &error))
        fail_msg("seed %llu: %s", (unsigned long long)t->seed, error.text);
    llmgwi_base_buf_init(&body, &unit_mem, (size_t)1 << 22);
    bool written = llmgwi_dialect_write(dialect, &target, &t->request, NULL, &body, &error);
    if (show) printf("%s/%s: %s\n", h->flavour, h->model, written ? body.p : error.text);
    if (written) {
        json_error_t where;
        json_t *json = json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES, &where);
        const char *why = json ? check_body(t, h, json) : where.text;
        long status = wire_post(w, &body);
        if (!why && status != 200) why = w->reply.p;
        if (why)
            fail_msg("%s/%s, MOVED_SEED=%llu: %s (HTTP %ld)\n%s", h->flavour, h->model,
                     (unsigned long long)t->seed, why, status, body.p);
        json_decref(json);
    } else if (error.code != LLMGW_E_UNSUPPORTED) {
        fail_msg("%s, MOVED_SEED=%llu: %s", h->flavour, (unsigned long long)t->seed, error.text);
    }
    llmgwi_base_buf_free(&body);
    return written;
}

static void move_all(const home *h) {
    static talk t;
    const char *seed = getenv("MOVED_SEED"), *count = getenv("MOVED_COUNT");
    size_t n = (count ? (size_t)atoi(count) : (size_t)t_rounds(2000)) * h->share / 100, refused = 0;
    const llmgwi_dialect *dialect = llmgwi_dialect_find(h->dialect);
    wire w;
    if (!dialect) return; /* left out */
    wire_open(&w, h, dialect);
    for (size_t i = 0; i < (seed ? 1 : n); i++) {
        talk_make(&t, seed ? strtoull(seed, NULL, 10) : i + 1);
        refused += !move(&t, h, dialect, &w, seed != NULL);
    }
    wire_close(&w);
    bool blind =
        (llmgwi_dialect_quirks_of(h->dialect, h->flavour, h->model, NULL) & LLMGWI_DIALECT_NO_IMAGES) != 0;
    if (refused * (blind ? 1 : 2) > n - (blind ? n / 4 : 0))
        fail_msg("%s refused %zu of %zu", h->flavour, refused, n);
}

static void test_moved(void **state) {
    for (size_t i = 0; i < COUNT_OF(homes); i++) move_all(&homes[i]);
}

/* A dialect that this table does not know yet. */
static void test_others(void **state) {
    for (size_t d = 0; llmgwi_dialect_table[d].name; d++) {
        char path[80];
        home own = {llmgwi_dialect_table[d].name,
                    llmgwi_dialect_table[d].name,
                    path,
                    "model",
                    NEVER,
                    true,
                    false,
                    100};
        bool known = false;
        snprintf(path, sizeof path, "/%s", own.dialect);
        for (size_t i = 0; i < COUNT_OF(homes); i++)
            known = known || strcmp(homes[i].dialect, own.dialect) == 0;
        if (!known) move_all(&own);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_moved),
    cmocka_unit_test(test_others),
};

int main(void) { return cmocka_run_group_tests_name("moved", tests, group_start, group_stop); }
