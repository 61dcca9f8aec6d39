/* test_fake_more.c - the fake provider's newer dialects, its embeddings and its batches: what it takes, what it
   refuses, how its streams look and how they break. Told by libcurl and jansson alone. In JSON given as text, '
   stands for ". */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include "testing.h"

#include <math.h>

static Provider fake;

/* ---- asking ---- */

typedef struct Reply {
    long status;
    CURLcode code;
    Text body, head;
    json_t *json; /* of the body, NULL when it is none */
} Reply;

/* ' becomes ". Free it. */
static char *quoted(const char *text) {
    char *copy = strdup(text);
    for (char *p = copy; *p; p++)
        if (*p == '\'') *p = '"';
    return copy;
}

/* headers: lines, ended by NULL. n < 0: body is text; NULL: GET or DELETE. */
static Reply ask_with(const char *method, const char *path, const char *const *headers, const char *body,
                      long n) {
    Reply reply;
    char url[1024];
    CURL *easy = curl_easy_init();
    struct curl_slist *list = NULL;
    memset(&reply, 0, sizeof reply);
    for (; headers && *headers; headers++) list = curl_slist_append(list, *headers);
    list = curl_slist_append(list, "Expect:");
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", fake.port, path);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, list);
    if (body) curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, n < 0 ? (long)strlen(body) : n);
    if (body) curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, t_collect);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &reply.body);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, t_collect);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, &reply.head);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 2000L);
    reply.code = curl_easy_perform(easy);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &reply.status);
    curl_slist_free_all(list);
    curl_easy_cleanup(easy);
    if (!reply.body.p) reply.body.p = strdup("");
    reply.json = json_loadb(reply.body.p, reply.body.n, 0, NULL);
    return reply;
}

static const char *const all_keys[] = {"Content-Type: application/json",
                                       "Authorization: Bearer k",
                                       "x-goog-api-key: k",
                                       "x-api-key: k",
                                       "anthropic-version: 2023-06-01",
                                       NULL};

static Reply ask(const char *path, const char *body) {
    char *text = quoted(body);
    Reply reply = ask_with("POST", path, all_keys, text, -1);
    free(text);
    return reply;
}

static Reply get(const char *path) { return ask_with("GET", path, all_keys, NULL, 0); }

static void done(Reply *reply) {
    json_decref(reply->json);
    free(reply->body.p);
    free(reply->head.p);
    memset(reply, 0, sizeof *reply);
}

/* "a.0.b" */
static json_t *at(json_t *json, const char *path) {
    char step[64];
    while (json && *path) {
        size_t n = strcspn(path, ".");
        snprintf(step, sizeof step, "%.*s", (int)n, path);
        json = json_is_array(json) ? json_array_get(json, (size_t)atoi(step)) : json_object_get(json, step);
        path += n + (path[n] == '.');
    }
    return json;
}

static const char *text_at(json_t *json, const char *path) {
    const char *s = json_string_value(at(json, path));
    return s ? s : "(none)";
}

static void control(const char *json) {
    char *text = quoted(json);
    provider_rule(&fake, text);
    free(text);
}

typedef struct Case {
    const char *path, *body;
    long status;
    const char *part; /* of the body, ' for " */
} Case;

static void check_cases(const Case *cases, size_t count) {
    for (size_t i = 0; i < count; i++) {
        Reply reply = ask(cases[i].path, cases[i].body);
        char *part = quoted(cases[i].part);
        bool said = memmem(reply.body.p, reply.body.n, part, strlen(part)) != NULL;
        if (reply.status != cases[i].status || !said)
            fail_msg("%s %s: %ld, not %ld with %s: %.600s", cases[i].path, cases[i].body, reply.status,
                     cases[i].status, part, reply.body.p);
        free(part);
        done(&reply);
    }
}

/* ---- bedrock ---- */

#define CONVERSE "/bedrock/model/us.anthropic.claude-3/converse"
#define HI "{'role':'user','content':[{'text':'hi'}]}"
#define USE "{'role':'assistant','content':[{'toolUse':{'toolUseId':'t1','name':'f','input':{'a':1}}}]}"
#define RESULT "{'role':'user','content':[{'toolResult':{'toolUseId':'t1','content':[{'text':'42'}]}}]}"
#define SPEC                                                                                                 \
    "'toolConfig':{'tools':[{'toolSpec':{'name':'f','inputSchema':{'json':{'type':'object','properties':{"   \
    "'a':{'type':'integer'}},'required':['a']}}}}]"

static void test_bedrock_requests(void **state) {
    static const Case cases[] = {
        {CONVERSE, "{'messages':[" HI "]}", 200, "Echo from us.anthropic.claude-3: hi"},
        {"/model/m/converse", "{'messages':[" HI "],'system':[],'inferenceConfig':{}}", 200,
         "Echo from m: hi"},
        {"/model/a%3Ab%2Fc/converse", "{'messages':[" HI "]}", 200, "Echo from a:b/c: hi"},
        {"/model/a/b/converse", "{'messages':[" HI "]}", 404, ""},
        {CONVERSE, "{'messages':[" HI "],'system':[{'text':'be brief'}],'inferenceConfig':{'maxTokens':2}}",
         200, "'stopReason':'max_tokens'"},
        {CONVERSE, "{'messages':[" HI "],'inferenceConfig':{'stopSequences':['from']}}", 200,
         "'stop_sequence'"},
        {CONVERSE, "{'messages':[" HI "," USE "," RESULT "]," SPEC "}}", 200, "Tool said: 42"},
        {CONVERSE,
         "{'messages':[" HI "],'outputConfig':{'textFormat':{'type':'json_schema','structure':{'jsonSchema':{"
         "'schema':'{\\'type\\':\\'object\\',\\'properties\\':{\\'n\\':{\\'type\\':\\'integer\\'}},"
         "\\'required\\':[\\'n\\']}','name':'x'}}}}}",
         200, "{\\'n\\':1}"},
        {CONVERSE, "{'messages':[" HI "]," SPEC ",'toolChoice':{'any':{}}}}", 200, "'stopReason':'tool_use'"},
        {CONVERSE,
         "{'messages':[{'role':'user','content':[{'image':{'format':'png','source':{'bytes':'iVBO'}}},"
         "{'text':'see'}]}]}",
         200, "[image 3 bytes image/png]"},
        {CONVERSE, "{'messages':[" HI "],'stream':true}", 400, "extraneous key [stream]"},
        {CONVERSE, "{'messages':[" HI "],'inferenceConfig':{'topK':4}}", 400, "inferenceConfig.topK"},
        {CONVERSE, "{'messages':[" HI "],'inferenceConfig':{'temperature':1.5}}", 400,
         "temperature: out of range"},
        {CONVERSE, "{'messages':[" HI "],'inferenceConfig':{'maxTokens':0}}", 400, "maxTokens: out of range"},
        {CONVERSE, "{'messages':[]}", 400, "start with a user message"},
        {CONVERSE, "{'messages':[" USE "]}", 400, "start with a user message"},
        {CONVERSE, "{'messages':[" HI "," HI "]}", 400, "must alternate"},
        {CONVERSE, "{'messages':[{'role':'user','content':[{'text':' '}]}]}", 400, "is blank"},
        {CONVERSE, "{'messages':[{'role':'user','content':'hi'}]}", 400, "content: wrong type"},
        {CONVERSE, "{'messages':[{'role':'user','content':[]}]}", 400, "is empty"},
        {CONVERSE, "{'messages':[{'role':'system','content':[{'text':'x'}]}]}", 400, "enum value set"},
        {CONVERSE, "{'messages':[{'role':'user','content':[{'text':'x','cachePoint':{}}]}]}", 400,
         "exactly one"},
        {CONVERSE, "{'messages':[" HI "," USE "," RESULT "]}", 400, "toolConfig field must be defined"},
        {CONVERSE, "{'messages':[" HI "," USE "," HI "]," SPEC "}}", 400, "Expected toolResult blocks"},
        {CONVERSE, "{'messages':[" HI "," USE "]," SPEC "}}", 400, "toolUse at the end"},
        {CONVERSE,
         "{'messages':[" HI "," USE
         ",{'role':'user','content':[{'toolResult':{'toolUseId':'t2','content':[]}}]}]," SPEC "}}",
         400, "has the Id t2"},
        {CONVERSE,
         "{'messages':[" HI "," USE ",{'role':'user','content':[{'toolResult':{'toolUseId':'t1','content':[{"
         "'json':[1]}]}}]}]," SPEC "}}",
         400, "Provide a json object"},
        {CONVERSE, "{'messages':[" HI "]," SPEC ",'toolChoice':{'tool':{'name':'g'}}}}", 400, "toolChoice"},
        {CONVERSE, "{'messages':[" HI "],'toolConfig':{'tools':[]}}", 400, "greater than or equal to 1"},
        {CONVERSE,
         "{'messages':[{'role':'user','content':[{'image':{'format':'bmp','source':{'bytes':'iVBO'}}}]}]}",
         400, "[gif, jpeg, png, webp]"},
        {CONVERSE,
         "{'messages':[{'role':'user','content':[{'image':{'format':'png','source':{'url':'http://x/'}}}]}]}",
         400, "base64"},
        {CONVERSE,
         "{'messages':[{'role':'user','content':[{'document':{'format':'pdf','name':'a','source':{'bytes':'"
         "iVBO'"
         "}}}]}]}",
         400, "text block is required"},
        {CONVERSE,
         "{'messages':[" HI "],'outputConfig':{'textFormat':{'type':'json_schema','structure':{'jsonSchema':{"
         "'schema':{'type':'object'}}}}}}",
         400, "schema: wrong type"},
        {CONVERSE,
         "{'messages':[" HI
         ",{'role':'assistant','content':[{'reasoningContent':{'reasoningText':{'text':'x',"
         "'signature':'no'}}},{'text':'y'}]}," HI "]}",
         400, "Invalid `signature`"},
        {"/model/anthropic.claude-sonnet-4-6/converse",
         "{'messages':[" HI ",{'role':'assistant','content':[{'text':'Echo'}]}]}", 400,
         "does not support assistant"},
        {"/model/meta.llama3/converse",
         "{'messages':[" HI ",{'role':'assistant','content':[{'text':'Echo'}]}]}", 400,
         "must end with a user message"},
        {CONVERSE, "{'messages':[" HI ",{'role':'assistant','content':[{'text':'Echo from'}]}]}", 200,
         "{'text':' us.anthropic.claude-3: hi'}"},
    };
    (void)state;
    provider_reset(&fake);
    check_cases(cases, COUNT_OF(cases));
    Reply reply = ask(CONVERSE, "{'messages':[]}");
    assert_non_null(strstr(reply.head.p, "x-amzn-ErrorType: ValidationException:"));
    assert_non_null(strstr(reply.head.p, "x-amzn-requestid: 5fa4e000-"));
    done(&reply);
}

/* CRC-32 by the polynomial division of the book: reflected bits, no table. */
static uint32_t crc_of(const unsigned char *p, size_t n) {
    uint64_t poly = 0x104C11DB7ull;
    uint32_t reg = 0xFFFFFFFFu, out = 0;
    for (size_t i = 0; i < n * 8; i++) {
        uint32_t bit = p[i / 8] >> (i % 8) & 1;
        bool carry = (reg >> 31 ^ bit) & 1;
        reg = reg << 1 ^ (carry ? (uint32_t)poly : 0);
    }
    for (int i = 0; i < 32; i++) out |= (~reg >> i & 1) << (31 - i);
    return out;
}

static uint32_t be32(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* One message; false: the CRC of all of it is wrong. The value of a header that is not there is "". */
typedef struct Frame {
    char type[200], event[200], message[200];
    json_t *payload;
    size_t size;
} Frame;

static bool read_frame(const unsigned char *p, size_t n, Frame *frame) {
    memset(frame, 0, sizeof *frame);
    assert_true(n >= 16);
    uint32_t total = be32(p), headers = be32(p + 4);
    assert_true(total <= n && headers + 16 <= total);
    assert_int_equal(be32(p + 8), crc_of(p, 8));
    for (const unsigned char *h = p + 12, *end = h + headers; h < end;) {
        char name[40], value[200];
        size_t k = *h++;
        snprintf(name, sizeof name, "%.*s", (int)k, (const char *)h);
        h += k;
        assert_int_equal(*h, 7);
        k = (size_t)h[1] << 8 | h[2];
        snprintf(value, sizeof value, "%.*s", (int)k, (const char *)h + 3);
        h += 3 + k;
        if (!strcmp(name, ":message-type")) snprintf(frame->type, sizeof frame->type, "%s", value);
        if (!strcmp(name, ":error-message")) snprintf(frame->message, sizeof frame->message, "%s", value);
        if (!strcmp(name, ":event-type") || !strcmp(name, ":exception-type") || !strcmp(name, ":error-code"))
            snprintf(frame->event, sizeof frame->event, "%s", value);
    }
    frame->payload = json_loadb((const char *)p + 12 + headers, total - headers - 16, 0, NULL);
    frame->size = total;
    return be32(p + total - 4) == crc_of(p, total - 4);
}

/* The events in their order, "event event ..."; the text in text. Frames with a wrong CRC are "(crc)". */
static void read_frames(const Reply *reply, char *events, size_t cap, char *text) {
    events[0] = text[0] = 0;
    for (size_t i = 0; i < reply->body.n;) {
        Frame frame;
        bool whole = read_frame((const unsigned char *)reply->body.p + i, reply->body.n - i, &frame);
        snprintf(events + strlen(events), cap - strlen(events), "%s%s%s%s", *events ? " " : "",
                 strcmp(frame.type, "event") ? frame.type : "", strcmp(frame.type, "event") ? ":" : "",
                 whole ? frame.event : "(crc)");
        const char *piece = json_string_value(at(frame.payload, "delta.text"));
        if (piece) strcat(text, piece);
        if (!strcmp(frame.type, "event")) assert_true(json_string_length(at(frame.payload, "p")) >= 3);
        json_decref(frame.payload);
        i += frame.size;
    }
}

#define STREAM "/bedrock/model/m/converse-stream"

static void test_bedrock_stream(void **state) {
    char events[2000], text[500];
    (void)state;
    provider_reset(&fake);
    Reply reply =
        ask(STREAM, "{'messages':[" HI "],'additionalModelRequestFields':{'thinking':{'type':'adaptive'}}}");
    read_frames(&reply, events, sizeof events, text);
    assert_string_equal(text, "Echo from m: hi");
    assert_string_equal(events, "messageStart contentBlockDelta contentBlockDelta contentBlockDelta "
                                "contentBlockDelta contentBlockStop contentBlockDelta contentBlockDelta "
                                "contentBlockStop messageStop metadata");
    assert_non_null(strstr(reply.head.p, "application/vnd.amazon.eventstream"));
    done(&reply);
    reply = ask(STREAM, "{'messages':[{'role':'user','content':[{'text':'call:f {\\'a\\':7}'}]}]," SPEC "}}");
    read_frames(&reply, events, sizeof events, text);
    assert_string_equal(text, "");
    assert_string_equal(events, "messageStart contentBlockStart contentBlockDelta contentBlockDelta "
                                "contentBlockDelta contentBlockStop messageStop metadata");
    done(&reply);
}

static void test_bedrock_stream_faults(void **state) {
    static const struct {
        const char *rule, *events;
    } cases[] = {
        {"'exception':'throttlingException','exception_after':1", "messageStart contentBlockDelta "
                                                                  "exception:throttlingException"},
        {"'error_after':0", "messageStart exception:serviceUnavailableException"},
        {"'frame_error':true", "messageStart error:serviceUnavailableException"},
        {"'crc':true", "messageStart (crc) contentBlockDelta contentBlockStop messageStop metadata"},
        {"'crc_after':4", "messageStart contentBlockDelta contentBlockDelta contentBlockStop (crc) metadata"},
        {"'no_terminator':true", "messageStart contentBlockDelta contentBlockDelta contentBlockStop"},
        {"'cut_at':8", "messageStart contentBlockDelta"},
        {"'drip_bytes':7",
         "messageStart contentBlockDelta contentBlockDelta contentBlockStop messageStop metadata"},
    };
    char events[2000], text[500], rule[300];
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        provider_reset(&fake);
        snprintf(rule, sizeof rule, "{'times':1,%s}", cases[i].rule);
        control(rule);
        Reply reply = ask(STREAM, "{'messages':[" HI "]}");
        read_frames(&reply, events, sizeof events, text);
        if (strcmp(events, cases[i].events)) fail_msg("%s: %s", cases[i].rule, events);
        done(&reply);
    }
    provider_reset(&fake);
    control("{'times':1,'status':429}");
    Reply reply = ask(STREAM, "{'messages':[" HI "]}");
    assert_int_equal(reply.status, 429);
    assert_non_null(strstr(reply.head.p, "x-amzn-ErrorType: ThrottlingException"));
    assert_string_equal(text_at(reply.json, "message"), "Rate limit reached. Please try again later.");
    done(&reply);
    control("{'times':1,'usage_none':true}");
    reply = ask("/model/m/converse", "{'messages':[" HI "]}");
    assert_null(at(reply.json, "usage"));
    assert_non_null(at(reply.json, "metrics.latencyMs"));
    done(&reply);
}

/* ---- signatures: made by botocore 1.44 with a fixed clock ---- */

#define SCOPE "AWS4-HMAC-SHA256 Credential=AKIDTEST/20260304/eu-west-1/bedrock/aws4_request, "
#define PLAIN_NAMES "SignedHeaders=content-type;host;x-amz-date, Signature="
#define TOKEN_NAMES "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature="
#define NOVA "/bedrock/model/us.amazon.nova-micro-v1%3A0/converse"
#define ROUTER                                                                                               \
    "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aprompt-router%2Fa.b%3A1/converse-stream"
#define NOVA_SIGNED PLAIN_NAMES "b67765b0069be7006e23b4cdb5ca23633a528b232c3e134b36f7d2796063a3c4"
#define BODY "{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"ping \xC3\xA9\"}]}]}"
#define AWS "'access':'AKIDTEST','secret':'se/cret+KEY','region':'eu-west-1','now':'20260304T050607Z'"

static Reply signed_ask(const char *path, const char *authorization, const char *date, const char *token,
                        const char *body) {
    char a[600], d[60], t[100];
    const char *const headers[] = {
        a, d, "Host: fake.test", "Content-Type: application/json", token ? t : NULL, NULL};
    snprintf(a, sizeof a, "Authorization: %s", authorization);
    snprintf(d, sizeof d, "X-Amz-Date: %s", date);
    snprintf(t, sizeof t, "X-Amz-Security-Token: %s", token ? token : "");
    return ask_with("POST", path, headers, body, -1);
}

static void test_signatures(void **state) {
    static const struct {
        const char *control, *path, *authorization, *token, *date, *body;
        long status;
        const char *error;
    } cases[] = {
        {"{'aws':{" AWS "}}", NOVA, SCOPE NOVA_SIGNED, NULL, "20260304T050607Z", BODY, 200, NULL},
        {"{'aws':{" AWS "}}", ROUTER,
         SCOPE PLAIN_NAMES "9ebab595d9c058a426f627402524912cd249f823617b4f1975a9fb6327daf891", NULL,
         "20260304T050607Z", BODY, 200, NULL},
        {"{'aws':{" AWS ",'token':'tok/en+=='}}", NOVA,
         SCOPE TOKEN_NAMES "de8a196a7036ba12fa1d74c25982589fc67763bff59adb02d77cc67c82647221",
         "tok/en+==", "20260304T050607Z", BODY, 200, NULL},
        {"{'aws':{" AWS "}}", NOVA, SCOPE NOVA_SIGNED, NULL, "20260304T050607Z", "{}", 403,
         "InvalidSignatureException"},
        {"{'aws':{" AWS "}}", "/bedrock/model/us.amazon.nova-micro-v1:0/converse", SCOPE NOVA_SIGNED, NULL,
         "20260304T050607Z", BODY, 403, "InvalidSignatureException"},
        {"{'aws':{" AWS "}}", NOVA, SCOPE NOVA_SIGNED, NULL, "20260304T050608Z", BODY, 403,
         "InvalidSignatureException"},
        {"{'aws':{'access':'AKIDTEST','secret':'other','region':'eu-west-1','now':'20260304T050607Z'}}", NOVA,
         SCOPE NOVA_SIGNED, NULL, "20260304T050607Z", BODY, 403, "InvalidSignatureException"},
        {"{'aws':{'access':'AKIDTEST','secret':'se/cret+KEY','region':'us-east-1','now':'20260304T050607Z'}}",
         NOVA, SCOPE NOVA_SIGNED, NULL, "20260304T050607Z", BODY, 403, "InvalidSignatureException"},
        {"{'aws':{'access':'AKIDTEST','secret':'se/cret+KEY','region':'eu-west-1','now':'20260304T052108Z'}}",
         NOVA, SCOPE NOVA_SIGNED, NULL, "20260304T050607Z", BODY, 403, "InvalidSignatureException"},
        {"{'aws':{'access':'AKIDTEST','secret':'se/cret+KEY','region':'eu-west-1','now':'20260304T052106Z'}}",
         NOVA, SCOPE NOVA_SIGNED, NULL, "20260304T050607Z", BODY, 200, NULL},
        {"{'aws':{'access':'AKIDELSE','secret':'se/cret+KEY','region':'eu-west-1','now':'20260304T050607Z'}}",
         NOVA, SCOPE NOVA_SIGNED, NULL, "20260304T050607Z", BODY, 403, "UnrecognizedClientException"},
        {"{'aws':{" AWS ",'token':'tok/en+=='}}", NOVA, SCOPE NOVA_SIGNED, NULL, "20260304T050607Z", BODY,
         403, "UnrecognizedClientException"},
        {"{'aws':{" AWS ",'expired':true}}", NOVA, SCOPE NOVA_SIGNED, NULL, "20260304T050607Z", BODY, 403,
         "ExpiredTokenException"},
        {"{'aws':{" AWS "}}", NOVA, "Bearer k", NULL, "20260304T050607Z", BODY, 200, NULL},
        {"{'aws':{" AWS "}}", NOVA, "AWS4-HMAC-SHA256 nonsense", NULL, "20260304T050607Z", BODY, 403,
         "IncompleteSignatureException"},
        {"{'aws':null}", NOVA,
         SCOPE PLAIN_NAMES "b67765b0069be7006e23b4cdb5ca23633a528b232c3e134b36f7d2796063a300", NULL,
         "20260304T050607Z", BODY, 200, NULL},
    };
    (void)state;
    provider_reset(&fake);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        control(cases[i].control);
        Reply reply =
            signed_ask(cases[i].path, cases[i].authorization, cases[i].date, cases[i].token, cases[i].body);
        bool ok =
            reply.status == cases[i].status && (!cases[i].error || strstr(reply.head.p, cases[i].error));
        if (!ok) fail_msg("case %zu: %ld %s%s", i, reply.status, reply.head.p, reply.body.p);
        done(&reply);
    }
    provider_reset(&fake);
}

/* The vectors that lie beside the repository, where they do. */
static void test_golden_signatures(void **state) {
    const char *dir = getenv("FIXTURES");
    char path[400], rule[300];
    (void)state;
    snprintf(path, sizeof path, "%s/sigv4-bedrock-golden/vectors.json", dir ? dir : "../shared/fixtures");
    json_t *all = json_load_file(path, 0, NULL), *v;
    if (!all) all = json_load_file("/work/shared/fixtures/sigv4-bedrock-golden/vectors.json", 0, NULL);
    if (!all) {
        print_message("skipped: %s is not there\n", path);
        skip();
    }
    size_t i;
    json_array_foreach(all, i, v) {
        const char *token = json_string_value(json_object_get(v, "session_token")), *key;
        char lines[8][700];
        const char *headers[9] = {NULL};
        size_t n = 0;
        json_t *value;
        snprintf(
            rule, sizeof rule,
            "{'aws':{'access':'AKIDEXAMPLE','secret':'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY','region':"
            "'us-east-1','now':'%s','token':'%s'}}",
            text_at(v, "date"), token ? token : "");
        control(rule);
        json_object_foreach(json_object_get(v, "headers"), key, value) {
            snprintf(lines[n], sizeof lines[n], "%s: %s", key, json_string_value(value));
            headers[n] = lines[n];
            n++;
        }
        Reply reply = ask_with("POST", text_at(v, "path_on_wire"), headers, text_at(v, "body"), -1);
        if (reply.status != 200) fail_msg("vector %zu: %ld %s", i, reply.status, reply.body.p);
        done(&reply);
    }
    assert_int_equal(i, 8);
    json_decref(all);
    provider_reset(&fake);
}

/* ---- responses ---- */

#define RESP "/v1/responses"
#define RTOOL "'tools':[{'type':'function','name':'f','parameters':{'type':'object','properties':{}}}]"
#define RCALL "{'type':'function_call','call_id':'c1','name':'f','arguments':'{}'}"

static void test_responses_requests(void **state) {
    static const Case cases[] = {
        {RESP, "{'model':'m','store':false,'input':'hi'}", 200, "'text':'Echo from m: hi'"},
        {RESP,
         "{'model':'m','store':false,'input':[{'role':'user','content':[{'type':'input_text','text':'hi'}]}]"
         "}",
         200, "'text':'Echo from m: hi'"},
        {RESP,
         "{'model':'m','store':false,'input':[{'role':'user','content':'x'}," RCALL
         ",{'type':'function_call_output','call_id':'c1','output':'42'}]," RTOOL "}",
         200, "Tool said: 42"},
        {RESP, "{'model':'m','store':false,'input':'a long question','max_output_tokens':16}", 200,
         "'status':'completed'"},
        {RESP, "{'model':'m','store':false,'input':'x'," RTOOL ",'tool_choice':'required'}", 200,
         "'function_call'"},
        {RESP,
         "{'model':'m','store':false,'input':'x','text':{'format':{'type':'json_schema','name':'n','schema':{"
         "'type':'object','properties':{'n':{'type':'integer'}},'required':['n']}}}}",
         200, "{\\'n\\':1}"},
        {RESP, "{'model':'m','input':'hi'}", 400, "store: must be false"},
        {RESP, "{'model':'m','store':false,'input':'hi','messages':[]}", 400, "unknown_parameter"},
        {RESP, "{'model':'m','store':false,'input':'hi','max_tokens':20}", 400, "unknown_parameter"},
        {RESP, "{'model':'m','store':false,'input':'hi','response_format':{}}", 400, "unknown_parameter"},
        {RESP, "{'model':'m','store':false,'input':'hi','max_output_tokens':15}", 400, "out of range"},
        {RESP, "{'model':'gpt-5','store':false,'input':'hi','temperature':0.5}", 400,
         " is not supported with this model"},
        {RESP, "{'model':'o3','store':false,'input':'hi','top_p':0.5}", 400, "Unsupported parameter"},
        {RESP, "{'model':'gpt-4o','store':false,'input':'hi','temperature':0.5}", 200, "Echo"},
        {RESP, "{'model':'gpt-4o','store':false,'input':'hi','reasoning':{'effort':'low'}}", 400,
         "reasoning.effort"},
        {RESP, "{'model':'m','store':false,'input':[]}", 400, "input: must not be empty"},
        {RESP, "{'model':'m','store':false,'input':[" RCALL "]}", 400,
         "No tool output found for function call c1"},
        {RESP,
         "{'model':'m','store':false,'input':[{'role':'user','content':'x'},{'type':'function_call_output',"
         "'call_id':'c9','output':'1'}]}",
         400, "No tool call found for function call output with call_id c9"},
        {RESP,
         "{'model':'m','store':false,'input':[{'role':'assistant','content':[{'type':'input_text','text':'x'}"
         "]}]}",
         400, "Supported values are: "},
        {RESP, "{'model':'m','store':false,'input':[{'role':'user','content':[{'type':'text','text':'x'}]}]}",
         400, "invalid value "},
        {RESP, "{'model':'m','store':false,'input':[{'role':'tool','content':'x'}]}", 400, "role: invalid"},
        {RESP,
         "{'model':'m','store':false,'input':'x','tools':[{'type':'function','function':{'name':'f'}}]}", 400,
         "tools[0].function"},
        {RESP,
         "{'model':'m','store':false,'input':[{'type':'reasoning','id':'rs_1','summary':[]}," RCALL "]}", 400,
         "Items are not persisted"},
        {RESP,
         "{'model':'m','store':false,'input':[{'type':'reasoning','id':'rs_1','summary':[],'encrypted_"
         "content':"
         "'gAAA'}," RCALL "]}",
         400, "invalid_encrypted_content"},
        {RESP,
         "{'model':'m','store':false,'input':'x','stream_options':{'include_usage':true},'stream':true}", 400,
         "stream_options.include_usage"},
    };
    (void)state;
    provider_reset(&fake);
    check_cases(cases, COUNT_OF(cases));
}

/* What it made can be sent back, in that order only. */
static void test_responses_reasoning(void **state) {
    (void)state;
    provider_reset(&fake);
    Reply reply = ask(RESP, "{'model':'gpt-5','store':false,'input':'x'," RTOOL
                            ",'tool_choice':'required','reasoning':{'effort':'low'},'include':["
                            "'reasoning.encrypted_content']}");
    json_t *output = json_incref(at(reply.json, "output"));
    assert_string_equal(text_at(output, "0.type"), "reasoning");
    assert_true(strncmp(text_at(output, "0.encrypted_content"), "gAAAA", 5) == 0);
    assert_int_equal(json_array_size(at(output, "0.summary")), 0);
    assert_string_equal(text_at(output, "1.type"), "function_call");
    assert_int_equal(json_integer_value(at(reply.json, "usage.output_tokens_details.reasoning_tokens")), 5);
    done(&reply);
    for (int turned = 0; turned < 2; turned++) {
        json_t *items = json_pack("[{s:s,s:s}]", "role", "user", "content", "x");
        json_array_append(items, json_array_get(output, turned ? 1 : 0));
        json_array_append(items, json_array_get(output, turned ? 0 : 1));
        json_array_append_new(items, json_pack("{s:s,s:s,s:s}", "type", "function_call_output", "call_id",
                                               text_at(output, "1.call_id"), "output", "7"));
        json_t *root = json_pack("{s:s,s:b,s:o}", "model", "gpt-5", "store", 0, "input", items);
        char *text = json_dumps(root, 0);
        reply = ask_with("POST", RESP, all_keys, text, -1);
        assert_int_equal(reply.status, turned ? 400 : 200);
        assert_non_null(
            strstr(reply.body.p, turned ? "without its required following item" : "Tool said: 7"));
        free(text);
        json_decref(root);
        done(&reply);
    }
    json_decref(output);
}

/* The names of the events of an SSE stream, without "response."; each data is JSON of that type. */
static void read_sse(const Reply *reply, char *events, size_t cap) {
    long last = -1;
    char *save = NULL, *copy = strdup(reply->body.p), name[80] = "";
    events[0] = 0;
    for (char *line = strtok_r(copy, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
        if (strncmp(line, "event: ", 7) == 0) snprintf(name, sizeof name, "%s", line + 7);
        if (strncmp(line, "data: ", 6) != 0) continue;
        json_t *json = json_loads(line + 6, 0, NULL), *number = at(json, "sequence_number");
        if (!json) assert_string_equal(line + 6, "[DONE]");
        if (json) assert_string_equal(text_at(json, "type"), name);
        if (number) assert_true(json_integer_value(number) > last);
        if (number) last = (long)json_integer_value(number);
        const char *brief = !json ? "[DONE]" : strncmp(name, "response.", 9) == 0 ? name + 9 : name;
        snprintf(events + strlen(events), cap - strlen(events), "%s%s", *events ? " " : "", brief);
        json_decref(json);
    }
    free(copy);
}

static void test_responses_stream(void **state) {
    static const struct {
        const char *rule, *events;
    } cases[] = {
        {"'text':'seven b'", "created in_progress output_item.added content_part.added output_text.delta "
                             "output_text.done content_part.done output_item.done completed"},
        {"'text':'seven b','finish':'content_filter'",
         "created in_progress output_item.added content_part.added output_text.delta output_text.done "
         "content_part.done output_item.done incomplete"},
        {"'text':'seven b','finish':'failed'",
         "created in_progress output_item.added content_part.added output_text.delta output_text.done "
         "content_part.done output_item.done failed"},
        {"'refusal':'no'",
         "created in_progress output_item.added content_part.added refusal.delta refusal.done "
         "content_part.done output_item.done completed"},
        {"'text':'seven bytes','error_after':1",
         "created in_progress output_item.added content_part.added output_text.delta error failed"},
        {"'text':'seven bytes','error_after':1,'flat':true",
         "created in_progress output_item.added content_part.added output_text.delta error"},
        {"'reasoning':'hm','text':'x'",
         "created in_progress output_item.added reasoning_summary_part.added reasoning_summary_text.delta "
         "reasoning_summary_text.done reasoning_summary_part.done output_item.done output_item.added "
         "content_part.added output_text.delta output_text.done content_part.done output_item.done "
         "completed"},
        {"'tool_calls':[{'name':'f','arguments':{'a':1}}]",
         "created in_progress output_item.added function_call_arguments.delta function_call_arguments.delta "
         "function_call_arguments.delta function_call_arguments.done output_item.done completed"},
    };
    char events[2000], rule[300];
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        provider_reset(&fake);
        snprintf(rule, sizeof rule, "{%s}", cases[i].rule);
        control(rule);
        Reply reply = ask(RESP, "{'model':'m','store':false,'input':'x','stream':true}");
        read_sse(&reply, events, sizeof events);
        if (strcmp(events, cases[i].events)) fail_msg("%s: %s", cases[i].rule, events);
        done(&reply);
    }
    provider_reset(&fake);
}

/* ---- ollama ---- */

#define OL "/api/chat"
#define OTOOL                                                                                                \
    "'tools':[{'type':'function','function':{'name':'f','parameters':{'type':'object','properties':{"        \
    "'a':{'type':'integer'}},'required':['a']}}}]"

static void test_ollama(void **state) {
    static const Case cases[] = {
        {OL, "{'model':'m','messages':[{'role':'user','content':'hi'}],'stream':false}", 200,
         "'content':'Echo from m: hi'},'done':true,'done_reason':'stop'"},
        {OL,
         "{'model':'m','messages':[{'role':'user','content':'hi'}],'stream':false,'options':{'num_predict':2}"
         "}",
         200, "'done_reason':'length'"},
        {OL, "{'model':'m','messages':[{'role':'user','content':'x','images':['iVBO']}],'stream':false}", 200,
         "[image 3 bytes base64]"},
        {OL,
         "{'model':'m','messages':[{'role':'user','content':'call:f {\\'a\\':1}'}],'stream':false," OTOOL "}",
         200, "'tool_calls':[{'function':{'name':'f','arguments':{'a':1}}}]"},
        {OL,
         "{'model':'m','stream':false,'messages':[{'role':'user','content':'x'},{'role':'assistant','content'"
         ":'',"
         "'tool_calls':[{'function':{'name':'f','arguments':{}}}]},{'role':'tool','tool_name':'f','content':'"
         "9'}]}",
         200, "Tool said: 9"},
        {OL,
         "{'model':'m','stream':false,'messages':[{'role':'user','content':'x'}],'format':{'type':'object',"
         "'properties':{'n':{'type':'integer'}},'required':['n']}}",
         200, "{\\'n\\':1}"},
        {OL, "{'model':'m','stream':false,'messages':[{'role':'user','content':'x'}],'think':'low'}", 200,
         "'thinking':'Thinking about it.'"},
        {OL, "{'model':'m','messages':[{'role':'user','content':[{'type':'text','text':'x'}]}]}", 400,
         "cannot unmarshal array"},
        {OL, "{'model':'m','messages':[{'role':'user','content':'x','images':['http://x/']}]}", 400,
         "base64"},
        {OL, "{'model':'m','messages':[{'role':'user','content':'x'}],'temperature':0}", 400, "temperature"},
        {OL, "{'model':'m','messages':[{'role':'user','content':'x'}],'options':{'max_tokens':1}}", 400,
         "options.max_tokens"},
        {OL, "{'model':'m','messages':[{'role':'user','content':'x'}],'think':'max'}", 400,
         "invalid think value"},
        {OL, "{'model':'m','messages':[{'role':'user','content':'x'}],'format':'yaml'}", 400,
         "invalid format"},
        {OL, "{'model':'m','messages':[{'role':'developer','content':'x'}]}", 400, "invalid role"},
        {OL,
         "{'model':'m','messages':[{'role':'user','content':'x'},{'role':'assistant','tool_calls':[{'"
         "function':{"
         "'name':'f','arguments':'{}'}}]}]}",
         400, "cannot unmarshal string"},
        {OL,
         "{'model':'m','messages':[{'role':'user','content':'x'},{'role':'tool','tool_name':'f','content':'9'"
         "}]}",
         400, "is no call"},
        {"/api/chat", "{'model':'fault:{\\'status\\':404}','messages':[{'role':'user','content':'x'}]}", 404,
         "{'error':'Not found.'}"},
    };
    (void)state;
    provider_reset(&fake);
    check_cases(cases, COUNT_OF(cases));
}

static void test_ollama_stream(void **state) {
    char text[200] = "";
    const char *const bare[] = {"Content-Type: application/json", NULL};
    int lines = 0;
    (void)state;
    provider_reset(&fake);
    Reply reply =
        ask_with("POST", OL, bare,
                 "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi there\"}]}", -1);
    assert_non_null(strstr(reply.head.p, "application/x-ndjson"));
    char *save = NULL;
    for (char *line = strtok_r(reply.body.p, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save), lines++) {
        json_t *json = json_loads(line, 0, NULL);
        strcat(text, text_at(json, "message.content"));
        assert_int_equal(json_is_true(at(json, "done")), save && !*save);
        json_decref(json);
    }
    assert_string_equal(text, "Echo from m: hi there");
    assert_int_equal(lines, 4);
    done(&reply);
    reply = ask(OL, "{'model':'fault:{\\'error_after\\':1}','messages':[{'role':'user','content':'hi'}]}");
    assert_non_null(strstr(reply.body.p, "\"done\":false}\n{\"error\":\"The server"));
    done(&reply);
}

/* ---- cohere ---- */

#define CO "/cohere/v2/chat"

static void test_cohere(void **state) {
    static const Case cases[] = {
        {CO, "{'model':'m','messages':[{'role':'user','content':'hi'}]}", 200,
         "'content':[{'type':'text','text':'Echo from m: hi'}]},'finish_reason':'COMPLETE'"},
        {CO, "{'model':'m','messages':[{'role':'user','content':'hi'}],'max_tokens':2}", 200, "'MAX_TOKENS'"},
        {CO, "{'model':'m','messages':[{'role':'user','content':'hi'}]," OTOOL ",'tool_choice':'REQUIRED'}",
         200, "'finish_reason':'TOOL_CALL'"},
        {CO,
         "{'model':'m','messages':[{'role':'user','content':'hi'},{'role':'assistant','tool_plan':'p','tool_"
         "calls':"
         "[{'id':'c','type':'function','function':{'name':'f','arguments':'{}'}}]},{'role':'tool','tool_call_"
         "id':"
         "'c','content':[{'type':'document','document':{'data':'42'}}]}]}",
         200, "Tool said: 42"},
        {CO,
         "{'model':'m','messages':[{'role':'user','content':'hi'}],'response_format':{'type':'json_object',"
         "'json_schema':{'type':'object','properties':{'n':{'type':'integer'}},'required':['n']}}}",
         200, "{\\'n\\':1}"},
        {CO, "{'model':'m','messages':[{'role':'user','content':'hi'}],'thinking':{'type':'enabled'}}", 200,
         "{'type':'thinking','thinking':'Thinking about it.'}"},
        {CO, "{'model':'m','messages':[{'role':'user','content':'hi'}],'top_p':0.5}", 400,
         "not a valid field"},
        {CO, "{'model':'m','messages':[{'role':'user','content':'hi'}],'p':1}", 400, "p: out of range"},
        {CO, "{'model':'m','messages':[{'role':'user','content':'hi'}],'temperature':1.5}", 400,
         "temperature"},
        {CO, "{'model':'m','messages':[{'role':'user','content':'hi'}]," OTOOL ",'tool_choice':'auto'}", 400,
         "REQUIRED or NONE"},
        {CO,
         "{'model':'m','messages':[{'role':'user','content':'hi'}]," OTOOL ",'response_format':{'type':"
         "'json_object'}}",
         400, "not together with tools"},
        {CO, "{'model':'m','messages':[{'role':'user','content':'hi'},{'role':'assistant','content':'x'}]}",
         400, "last message"},
        {CO,
         "{'model':'m','messages':[{'role':'user','content':'hi'},{'role':'tool','tool_call_id':'c','content'"
         ":"
         "'x'}]}",
         400, "no preceding tool call"},
        {CO, "{'model':'m','messages':[{'role':'developer','content':'hi'}]}", 400, "role: invalid"},
    };
    char events[2000];
    (void)state;
    provider_reset(&fake);
    check_cases(cases, COUNT_OF(cases));
    Reply reply = ask(CO, "{'model':'m','messages':[{'role':'user','content':'x'}],'stream':true}");
    read_sse(&reply, events, sizeof events);
    assert_string_equal(events,
                        "message-start content-start content-delta content-delta content-end message-end "
                        "[DONE]");
    done(&reply);
    reply = ask(
        CO,
        "{'model':'m','messages':[{'role':'user','content':'call:f {\\'a\\':1}'}],'stream':true," OTOOL "}");
    read_sse(&reply, events, sizeof events);
    assert_string_equal(events,
                        "message-start tool-call-start tool-call-delta tool-call-delta tool-call-delta "
                        "tool-call-end message-end [DONE]");
    done(&reply);
    control("{'error_after':1}");
    reply = ask(CO, "{'model':'m','messages':[{'role':'user','content':'x'}],'stream':true}");
    read_sse(&reply, events, sizeof events);
    assert_string_equal(events, "message-start content-start content-delta message-end");
    assert_non_null(strstr(reply.body.p, "\"finish_reason\":\"ERROR\""));
    done(&reply);
    provider_reset(&fake);
}

/* ---- azure and vertex ---- */

#define AZ "/openai/deployments/gpt/chat/completions"
#define VX "/v1/projects/p/locations/us-central1/publishers/google/models/gemini-2.5"
#define CHAT "{'messages':[{'role':'user','content':'hi'}]}"

static void test_azure_and_vertex(void **state) {
    static const char *const key[] = {"Content-Type: application/json", "api-key: k", NULL};
    static const char *const google[] = {"Content-Type: application/json", "x-goog-api-key: k", NULL};
    static const Case cases[] = {
        {AZ "?api-version=2024-10-21", CHAT, 200, "'content_filter_results'"},
        {AZ "?api-version=2024-12-01-preview", CHAT, 200, "'prompt_filter_results'"},
        {AZ, CHAT, 404, "Resource not found"},
        {AZ "?api-version=v1", CHAT, 404, "API version not supported"},
        {"/openai/v1/chat/completions", "{'model':'d','messages':[{'role':'user','content':'hi'}]}", 200,
         "from d: hi"},
        {"/openai/v1/responses", "{'model':'d','store':false,'input':'hi'}", 200, "from d: hi"},
        {"/openai/deployments/e/embeddings?api-version=2024-10-21", "{'input':'x'}", 200, "'embedding':["},
        {"/v1/chat/completions", "{'model':'d','messages':[{'role':'user','content':'hi'}]}", 200,
         "'finish_reason':'stop'}]"},
        {VX ":generateContent", "{'contents':[{'role':'user','parts':[{'text':'hi'}]}]}", 200,
         "from gemini-2.5: hi"},
        {"/v1/projects/p/publishers/google/models/g:generateContent",
         "{'contents':[{'role':'user','parts':[{'text':'hi'}]}]}", 404, "was not found"},
    };
    (void)state;
    provider_reset(&fake);
    check_cases(cases, COUNT_OF(cases));
    Reply reply = ask_with("POST", AZ "?api-version=2024-10-21", key,
                           "{\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}", -1);
    assert_int_equal(reply.status, 200);
    assert_true(strncmp(reply.body.p, "data: {\"choices\":[],\"created\":0,\"id\":\"\"", 39) == 0);
    done(&reply);
    reply = ask_with("POST", AZ "?api-version=2024-10-21", google, "{}", -1);
    assert_int_equal(reply.status, 401);
    assert_string_equal(text_at(reply.json, "error.code"), "401");
    done(&reply);
    control("{'times':1,'content_filter':true}");
    reply = ask(AZ "?api-version=2024-10-21", CHAT);
    assert_int_equal(reply.status, 400);
    assert_string_equal(text_at(reply.json, "error.code"), "content_filter");
    assert_true(json_is_true(at(reply.json, "error.innererror.content_filter_result.hate.filtered")));
    done(&reply);
    reply = ask_with("POST", VX ":generateContent", google, "{}", -1);
    assert_int_equal(reply.status, 401);
    assert_string_equal(text_at(reply.json, "error.status"), "UNAUTHENTICATED");
    done(&reply);
    provider_reset(&fake);
}

/* ---- keys, limits, bills and the oracle ---- */

typedef struct Way {
    const char *path, *body, *text; /* text: where the answer is */
    long refused, quota;
} Way;

static const Way ways[] = {
    {"/model/m/converse", "{'messages':[{'role':'user','content':[{'text':'Where is it?'}]}]}",
     "output.message.content.0.text", 403, 400},
    {RESP, "{'model':'m','store':false,'input':'Where is it?'}", "output.0.content.0.text", 401, 429},
    {OL, "{'model':'m','stream':false,'messages':[{'role':'user','content':'Where is it?'}]}",
     "message.content", 401, 429},
    {CO, "{'model':'m','messages':[{'role':'user','content':'Where is it?'}]}", "message.content.0.text", 401,
     429},
    {AZ "?api-version=2024-10-21", "{'messages':[{'role':'user','content':'Where is it?'}]}",
     "choices.0.message.content", 401, 429},
    {VX ":generateContent", "{'contents':[{'role':'user','parts':[{'text':'Where is it?'}]}]}",
     "candidates.0.content.parts.0.text", 401, 429},
};

static long status_of(const Way *way) {
    Reply reply = ask(way->path, way->body);
    long status = reply.status;
    done(&reply);
    return status;
}

static void test_keys_and_limits(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(ways); i++) {
        provider_reset(&fake);
        control("{'keys':{'k':'refused'}}");
        assert_int_equal(status_of(&ways[i]), ways[i].refused);
        control("{'keys':{'k':'quota'}}");
        assert_int_equal(status_of(&ways[i]), ways[i].quota);
        control("{'keys':{'k':'ok'}}");
        control("{'limits':{'rpm':1}}");
        provider_reset(&fake);
        control("{'limits':{'rpm':1}}");
        assert_int_equal(status_of(&ways[i]), 200);
        assert_int_equal(status_of(&ways[i]), 429);
        assert_int_equal(provider_key(&fake, "k", "limited"), 1);
        Reply bills = get("/_bills");
        int lines = 0;
        for (const char *p = bills.body.p; *p; p++) lines += *p == '\n';
        assert_int_equal(lines, 1);
        done(&bills);
    }
    provider_reset(&fake);
}

static void test_oracle(void **state) {
    static char path[] = "/tmp/test_fake_more.XXXXXX";
    const char *const more[] = {"--answers", path, NULL};
    Provider plain = fake;
    int fd = mkstemp(path);
    (void)state;
    dprintf(fd, "Where is it?\there\n");
    close(fd);
    provider_start(&fake, more);
    for (size_t i = 0; i < COUNT_OF(ways); i++) {
        Reply reply = ask(ways[i].path, ways[i].body);
        assert_string_equal(text_at(reply.json, ways[i].text), "here");
        done(&reply);
    }
    provider_stop(&fake);
    fake = plain;
    unlink(path);
}

/* assistant(partial), user(continue): every dialect leaves out what there was. */
static void test_continuation(void **state) {
#define GO "Continue exactly where you stopped; do not repeat."
    static const Case cases[] = {
        {"/model/m/converse",
         "{'messages':[" HI
         ",{'role':'assistant','content':[{'text':'Echo '}]},{'role':'user','content':[{'text':'" GO "'}]}]}",
         200, "{'text':'from m: hi'}"},
        {RESP,
         "{'model':'m','store':false,'input':[{'role':'user','content':'hi'},{'role':'assistant','content':'"
         "Echo '},"
         "{'role':'user','content':'" GO "'}]}",
         200, "'text':'from m: hi'"},
        {OL,
         "{'model':'m','stream':false,'messages':[{'role':'user','content':'hi'},{'role':'assistant','"
         "content':"
         "'Echo '},{'role':'user','content':'" GO "'}]}",
         200, "'content':'from m: hi'"},
        {CO,
         "{'model':'m','messages':[{'role':'user','content':'hi'},{'role':'assistant','content':'Echo '},"
         "{'role':'user','content':'" GO "'}]}",
         200, "'text':'from m: hi'"},
    };
    (void)state;
    provider_reset(&fake);
    check_cases(cases, COUNT_OF(cases));
    assert_int_equal(provider_count(&fake, "turns"), 4);
}

/* ---- embeddings ---- */

#define G "/v1beta/models/g:"
#define TITAN "/bedrock/model/amazon.titan-embed-text-v2%3A0/invoke"
#define V3 "/bedrock/model/cohere.embed-english-v3/invoke"
#define V4 "/bedrock/model/cohere.embed-v4%3A0/invoke"
#define NOVA_EMBED "/bedrock/model/amazon.nova-2-multimodal-embeddings-v1%3A0/invoke"

static void test_embeddings(void **state) {
    static const struct {
        const char *path, *body, *vector;
        size_t dim;
    } cases[] = {
        {"/v1/embeddings", "{'model':'e','input':['x','my card'],'dimensions':256}", "data.1.embedding", 256},
        {"/mistral/v1/embeddings", "{'model':'e','input':'my card','output_dimension':256}",
         "data.0.embedding", 256},
        {G "embedContent", "{'content':{'parts':[{'text':'my card'}]},'outputDimensionality':256}",
         "embedding.values", 256},
        {G "batchEmbedContents",
         "{'requests':[{'model':'models/g','content':{'parts':[{'text':'my "
         "card'}]},'outputDimensionality':256}]}",
         "embeddings.0.values", 256},
        {"/api/embed", "{'model':'e','input':['x','my card'],'dimensions':256}", "embeddings.1", 256},
        {"/v2/embed",
         "{'model':'embed-v4.0','texts':['my card'],'input_type':'search_query','output_dimension':256}",
         "embeddings.float.0", 256},
        {TITAN, "{'inputText':'my card','dimensions':256,'normalize':true}", "embedding", 256},
        {V3, "{'texts':['my card'],'input_type':'search_query'}", "embeddings.0", 64},
        {V4, "{'texts':['my card'],'input_type':'search_query','output_dimension':256}", "embeddings.float.0",
         256},
        {NOVA_EMBED,
         "{'taskType':'SINGLE_EMBEDDING','singleEmbeddingParams':{'embeddingPurpose':'GENERIC_INDEX',"
         "'embeddingDimension':256,'text':{'value':'my card','truncationMode':'END'}}}",
         "embeddings.0.embedding", 256},
    };
    static const Case refused[] = {
        {"/v1/embeddings", "{'model':'e','input':'x','output_dimension':8}", 400, "output_dimension"},
        {"/mistral/v1/embeddings", "{'model':'e','input':'x','dimensions':8}", 400, "dimensions"},
        {G "embedContent", "{'content':{'parts':[]}}", 400, "empty Part"},
        {G "batchEmbedContents", "{'requests':[{'model':'g','content':{'parts':[{'text':'x'}]}}]}", 400,
         "models/"},
        {G "batchEmbedContents", "{'requests':[]}", 400, "at most 100"},
        {G "embedContent", "{'content':{'parts':[{'text':'x'}]},'taskType':'X'}", 400, "taskType"},
        {"/api/embed", "{'model':'e','prompt':'x'}", 400, "prompt"},
        {"/v2/embed", "{'model':'e','texts':['x']}", 400, "input_type"},
        {"/v2/embed", "{'model':'e','texts':['x'],'input_type':'search_query','output_dimension':7}", 400,
         "sizes"},
        {TITAN, "{'inputText':'x','dimensions':64}", 400, "not one of the sizes"},
        {TITAN, "{'inputText':['x']}", 400, "wrong type"},
        {V3, "{'texts':['x'],'input_type':'search_query','output_dimension':256}", 400, "not supported"},
        {V4, "{'texts':['x'],'input_type':'search_query','truncate':'END'}", 400, "truncate"},
        {"/bedrock/model/other/invoke", "{}", 404, "only embedding models"},
    };
    (void)state;
    provider_reset(&fake);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        Reply reply = ask(cases[i].path, cases[i].body);
        json_t *v = at(reply.json, cases[i].vector), *one;
        double sum = 0;
        size_t k;
        json_array_foreach(v, k, one) sum += json_number_value(one) * json_number_value(one);
        if (json_array_size(v) != cases[i].dim || fabs(sum - 1) > 1e-5)
            fail_msg("%s: %ld %.300s", cases[i].path, reply.status, reply.body.p);
        bool invoked = strstr(cases[i].path, "/invoke") != NULL;
        assert_int_equal(strstr(reply.head.p, "x-amzn-bedrock-input-token-count: 2") != NULL, invoked);
        done(&reply);
    }
    check_cases(refused, COUNT_OF(refused));
    control("{'embed_short':true,'embed_shuffled':true}");
    Reply reply = ask("/v1/embeddings", "{'model':'e','input':['a','b','c']}");
    assert_int_equal(json_array_size(at(reply.json, "data")), 2);
    assert_int_equal(json_integer_value(at(reply.json, "data.0.index")), 1);
    done(&reply);
    provider_reset(&fake);
}

/* ---- batches ---- */

/* Uploads text under a name; the id of the file, or "" when it was refused. */
static void upload(const char *text, const char *name, const char *purpose, char id[60]) {
    static const char *const headers[] = {"Content-Type: multipart/form-data; boundary=xyz",
                                          "Authorization: Bearer k", NULL};
    size_t cap = strlen(text) + 600;
    char *body = malloc(cap);
    snprintf(body, cap,
             "--xyz\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n%s\r\n--xyz\r\n"
             "Content-Disposition: form-data; name=\"file\"; filename=\"%s\"\r\nContent-Type: "
             "application/octet-stream\r\n\r\n%s\r\n--xyz--\r\n",
             purpose, name, text);
    Reply reply = ask_with("POST", "/v1/files", headers, body, -1);
    snprintf(id, 60, "%s", reply.status == 200 ? text_at(reply.json, "id") : "");
    done(&reply);
    free(body);
}

static Reply start_batch(const char *file, const char *endpoint) {
    char body[300];
    snprintf(body, sizeof body, "{'input_file_id':'%s','endpoint':'%s','completion_window':'24h'}", file,
             endpoint);
    return ask("/v1/batches", body);
}

static Reply look(const char *path, const char *id, const char *verb) {
    char whole[200];
    snprintf(whole, sizeof whole, "%s%s%s", path, id, verb);
    return !strcmp(verb, "/cancel") ? ask_with("POST", whole, all_keys, "", -1) : get(whole);
}

/* How many lines hold all three of these. */
static int count_lines(const char *text, const char *a, const char *b) {
    char *copy = strdup(text), *save = NULL;
    int n = 0;
    for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        json_t *json = json_loads(line, 0, NULL);
        assert_non_null(json);
        json_decref(json);
        n += strstr(line, a) && strstr(line, b);
    }
    free(copy);
    return n;
}

#define LINE(id, extra)                                                                                      \
    "{\"custom_id\":\"" id                                                                                   \
    "\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{\"model\":\"m\","                     \
    "\"messages\":[{\"role\":\"user\",\"content\":\"hi " id "\"}]" extra "}}\n"

static void test_openai_batch(void **state) {
    char file[60], id[60], out[60], wrong[60];
    (void)state;
    provider_reset(&fake);
    control("{'batch':{'polls':3}}");
    upload(LINE("a", "") LINE("b", ",\"n\":\"x\"") LINE("c", ""), "in.jsonl", "batch", file);
    assert_true(strncmp(file, "file-", 5) == 0);
    Reply reply = start_batch(file, "/v1/chat/completions");
    snprintf(id, sizeof id, "%s", text_at(reply.json, "id"));
    assert_string_equal(text_at(reply.json, "status"), "validating");
    done(&reply);
    static const char *const states[] = {"in_progress", "finalizing", "completed", "completed"};
    for (size_t i = 0; i < COUNT_OF(states); i++) {
        reply = look("/v1/batches/", id, "");
        assert_string_equal(text_at(reply.json, "status"), states[i]);
        assert_int_equal(json_integer_value(at(reply.json, "request_counts.total")), 3);
        snprintf(out, sizeof out, "%s", text_at(reply.json, "output_file_id"));
        snprintf(wrong, sizeof wrong, "%s", text_at(reply.json, "error_file_id"));
        done(&reply);
    }
    reply = look("/v1/files/", out, "/content");
    assert_int_equal(count_lines(reply.body.p, "\"status_code\":200", "Echo from m: hi "), 2);
    done(&reply);
    reply = look("/v1/files/", wrong, "/content");
    assert_int_equal(count_lines(reply.body.p, "\"custom_id\":\"b\"", "\"status_code\":400"), 1);
    done(&reply);
    reply = look("/v1/batches/", id, "/cancel");
    assert_int_equal(reply.status, 409);
    done(&reply);
    reply = ask_with("GET", "/v1/batches", all_keys, NULL, 0);
    assert_int_equal(json_array_size(at(reply.json, "data")), 1);
    done(&reply);
}

static void test_openai_batch_troubles(void **state) {
    char file[60], id[60];
    (void)state;
    provider_reset(&fake);
    upload("x", "in.txt", "batch", file);
    assert_string_equal(file, "");
    upload("x", "in.jsonl", "vision", file);
    assert_string_equal(file, "");
    control("{'batch':{'polls':1}}");
    static const struct {
        const char *text, *code;
    } bad[] = {{"nonsense\n", "invalid_json_line"},
               {LINE("a", "") LINE("a", ""), "duplicate_custom_id"},
               {"{\"method\":\"POST\"}", "missing_required_parameter"}};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        upload(bad[i].text, "in.jsonl", "batch", file);
        Reply reply = start_batch(file, "/v1/chat/completions");
        snprintf(id, sizeof id, "%s", text_at(reply.json, "id"));
        done(&reply);
        reply = look("/v1/batches/", id, "");
        assert_string_equal(text_at(reply.json, "status"), "failed");
        assert_string_equal(text_at(reply.json, "errors.data.0.code"), bad[i].code);
        done(&reply);
    }
    Reply reply = start_batch("file-none", "/v1/chat/completions");
    assert_int_equal(reply.status, 400);
    done(&reply);
    control("{'batch':{'expires':1}}");
    upload(LINE("a", ""), "in.jsonl", "batch", file);
    reply = start_batch(file, "/v1/chat/completions");
    snprintf(id, sizeof id, "%s", text_at(reply.json, "id"));
    done(&reply);
    control("{'model':'batches','times':1,'status':503}");
    reply = look("/v1/batches/", id, "");
    assert_int_equal(reply.status, 503);
    done(&reply);
    reply = look("/v1/batches/", id, "");
    assert_string_equal(text_at(reply.json, "status"), "expired");
    assert_null(json_string_value(at(reply.json, "output_file_id")));
    snprintf(file, sizeof file, "%s", text_at(reply.json, "error_file_id"));
    done(&reply);
    reply = look("/v1/files/", file, "/content");
    assert_int_equal(count_lines(reply.body.p, "batch_expired", "\"response\":null"), 1);
    done(&reply);
    provider_reset(&fake);
}

#define MB "/v1/messages/batches"
#define ONE(id, role)                                                                                        \
    "{'custom_id':'" id "','params':{'model':'c','max_tokens':20,'messages':[{'role':'" role                 \
    "','content':'hi " id "'}]}}"

static void test_anthropic_batch(void **state) {
    static const Case refused[] = {
        {MB, "{'requests':[]}", 400, "1 to 100,000"},
        {MB, "{'requests':[" ONE("a b", "user") "]}", 400, "should match pattern"},
        {MB, "{'requests':[" ONE("a", "user") "," ONE("a", "user") "]}", 400, "must be unique"},
        {MB, "{'requests':[{'custom_id':'a'}]}", 400, "params: field required"},
        {MB, "{'requests':[" ONE("a", "user") "],'model':'x'}", 400, "Extra inputs"},
    };
    char id[60];
    (void)state;
    for (int cancel = 0; cancel < 2; cancel++) {
        provider_reset(&fake);
        Reply reply =
            ask(MB, "{'requests':[" ONE("a", "user") "," ONE("b", "assistant") "," ONE("c", "user") "]}");
        snprintf(id, sizeof id, "%s", text_at(reply.json, "id"));
        assert_string_equal(text_at(reply.json, "processing_status"), "in_progress");
        done(&reply);
        reply = look(MB "/", id, "/results");
        assert_int_equal(reply.status, 404);
        done(&reply);
        reply = look(MB "/", id, cancel ? "/cancel" : "");
        assert_string_equal(text_at(reply.json, "processing_status"), cancel ? "canceling" : "in_progress");
        done(&reply);
        reply = look(MB "/", id, "");
        assert_string_equal(text_at(reply.json, "processing_status"), "ended");
        assert_int_equal(json_integer_value(at(reply.json, "request_counts.succeeded")), 2);
        assert_non_null(strstr(text_at(reply.json, "results_url"), "/results"));
        done(&reply);
        reply = look(MB "/", id, "/results");
        assert_int_equal(count_lines(reply.body.p, "\"type\":\"succeeded\"", "Echo from c: hi "), 2);
        assert_int_equal(
            count_lines(reply.body.p, "\"custom_id\":\"b\"", cancel ? "\"canceled\"" : "\"errored\""), 1);
        done(&reply);
    }
    check_cases(refused, COUNT_OF(refused));
}

/* A stranger's key sees nothing of it. */
static void test_batches_have_owners(void **state) {
    static const char *const other[] = {"Authorization: Bearer other", "x-api-key: other",
                                        "anthropic-version: 2023-06-01", NULL};
    char file[60], path[200];
    (void)state;
    provider_reset(&fake);
    upload(LINE("a", ""), "in.jsonl", "batch", file);
    snprintf(path, sizeof path, "/v1/files/%s", file);
    Reply reply = ask_with("GET", path, other, NULL, 0);
    assert_int_equal(reply.status, 404);
    done(&reply);
    reply = get(path);
    assert_int_equal(reply.status, 200);
    done(&reply);
    reply = ask_with("DELETE", path, all_keys, NULL, 0);
    assert_true(json_is_true(at(reply.json, "deleted")));
    done(&reply);
    reply = get(path);
    assert_int_equal(reply.status, 404);
    done(&reply);
}

static int setup(void **state) {
    (void)state;
    provider_start(&fake, NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    provider_stop(&fake);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bedrock_requests),
        cmocka_unit_test(test_bedrock_stream),
        cmocka_unit_test(test_bedrock_stream_faults),
        cmocka_unit_test(test_signatures),
        cmocka_unit_test(test_golden_signatures),
        cmocka_unit_test(test_responses_requests),
        cmocka_unit_test(test_responses_reasoning),
        cmocka_unit_test(test_responses_stream),
        cmocka_unit_test(test_ollama),
        cmocka_unit_test(test_ollama_stream),
        cmocka_unit_test(test_cohere),
        cmocka_unit_test(test_azure_and_vertex),
        cmocka_unit_test(test_keys_and_limits),
        cmocka_unit_test(test_oracle),
        cmocka_unit_test(test_continuation),
        cmocka_unit_test(test_embeddings),
        cmocka_unit_test(test_openai_batch),
        cmocka_unit_test(test_openai_batch_troubles),
        cmocka_unit_test(test_anthropic_batch),
        cmocka_unit_test(test_batches_have_owners),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
