/* fake_bedrock.h - Amazon Bedrock's Converse for fake_provider.c, which includes this after its own dialects.
 *
 *   POST .../model/ID/converse and .../model/ID/converse-stream; ID percent-encoded.
 *
 * Faults of its own: "exception":NAME ends a stream with that exception, "exception_after":N after N pieces of
 * text (the same as "error_after"); "frame_error":true makes it a message of type error instead; "crc":true
 * gives the second message of a stream a wrong CRC, "crc_after":N the one after N messages.
 *
 * POST /_control {"aws":{"access":"AKID","secret":"S","token":"T"|null,"region":"us-east-1"}} makes it verify
 * the SigV4 signature of every request that has one (WIRE.md 3): with it "now":"20260102T030405Z" is the time
 * the date is held against, within 15 minutes; "expired":true refuses the token as too old. {"aws":null} or
 * DELETE /_control: signatures are taken as they are. A bearer token is a key like any other.
 *
 * Contents: signatures, requests, frames, replies. */
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

/* ---------------------------------------------------------------- bedrock: signatures */

static struct {
    char *access, *secret, *token, *region, *now;
    bool on, expired;
} aws;

/* Under the lock. */
static void aws_clear(void) {
    char **all[] = {&aws.access, &aws.secret, &aws.token, &aws.region, &aws.now};
    for (size_t i = 0; i < COUNT(all); i++) {
        free(*all[i]);
        *all[i] = NULL;
    }
    aws.on = aws.expired = false;
}

static bool aws_control(json_t *obj, Buf *err) {
    static const char *const names[] = {"access", "secret", "token", "region", "now"};
    char **to[] = {&aws.access, &aws.secret, &aws.token, &aws.region, &aws.now};
    lock();
    aws_clear();
    aws.on = json_is_object(obj);
    for (size_t i = 0; i < COUNT(names); i++)
        if (*str_of(obj, names[i])) *to[i] = must(strdup(str_of(obj, names[i])));
    aws.expired = json_is_true(json_object_get(obj, "expired"));
    bool ok = !aws.on || (aws.access && aws.secret && aws.region);
    if (!ok) aws_clear();
    unlock();
    return ok || (buf_str(err, "aws: access, secret and region are needed"), false);
}

static void hex(Buf *b, const unsigned char *p, size_t n) {
    for (size_t i = 0; i < n; i++) buf_fmt(b, "%02x", p[i]);
}

static void sha256_hex(Buf *to, const char *p, size_t n) {
    unsigned char sum[32];
    gnutls_hash_fast(GNUTLS_DIG_SHA256, p, n, sum);
    hex(to, sum, sizeof sum);
}

static void hmac(unsigned char out[32], const void *key, size_t n, const char *text) {
    gnutls_hmac_fast(GNUTLS_MAC_SHA256, key, n, text, strlen(text), out);
}

/* What an Authorization header of AWS says. */
typedef struct Signed {
    char access[140], date[20], region[40], service[40], last[40], names[600], signature[80];
} Signed;

static bool signed_parse(const char *a, Signed *s) {
    memset(s, 0, sizeof *s);
    int n = sscanf(a,
                   "AWS4-HMAC-SHA256 Credential=%139[^/]/%19[^/]/%39[^/]/%39[^/]/%39[^, ]%*[, ]"
                   "SignedHeaders=%599[^, ]%*[, ]Signature=%79[0-9a-f]",
                   s->access, s->date, s->region, s->service, s->last, s->names, s->signature);
    return n == 7 && strlen(s->signature) == 64;
}

/* The path as it stands on the wire, encoded once more. */
static void canonical_path(Buf *b, const char *uri) {
    for (const char *p = uri; *p && *p != '?'; p++) {
        if (isalnum((unsigned char)*p) || strchr("-._~/", *p))
            buf_add(b, p, 1);
        else
            buf_fmt(b, "%%%02X", (unsigned char)*p);
    }
}

/* Ends trimmed, inner blanks single. */
static void canonical_value(Buf *b, const char *v) {
    while (*v == ' ' || *v == '\t') v++;
    size_t n = strlen(v);
    while (n && (v[n - 1] == ' ' || v[n - 1] == '\t')) n--;
    for (size_t i = 0; i < n; i++)
        if (v[i] != ' ' || v[i - 1] != ' ') buf_add(b, v + i, 1);
}

/* False when a signed header is not in the request. */
static bool canonical_request(Req *r, const Signed *s, Buf *b) {
    char names[600], *save = NULL;
    const char *query = strchr(r->uri, '?');
    buf_fmt(b, "%s\n", r->method);
    canonical_path(b, r->uri);
    buf_fmt(b, "\n%s\n", query ? query + 1 : "");
    snprintf(names, sizeof names, "%s", s->names);
    for (char *name = strtok_r(names, ";", &save); name; name = strtok_r(NULL, ";", &save)) {
        if (!*header(r, name)) return false;
        buf_fmt(b, "%s:", name);
        canonical_value(b, header(r, name));
        buf_str(b, "\n");
    }
    buf_fmt(b, "\n%s\n", s->names);
    sha256_hex(b, buf_text(&r->body), r->body.n);
    return true;
}

static void sign(const Signed *s, const char *date, const char *secret, const Buf *canonical, Buf *to) {
    Buf text = {0}, key = {0};
    unsigned char k[32];
    buf_fmt(&text, "AWS4-HMAC-SHA256\n%s\n%s/%s/%s/%s\n", date, s->date, s->region, s->service, s->last);
    sha256_hex(&text, canonical->p, canonical->n);
    buf_fmt(&key, "AWS4%s", secret);
    hmac(k, key.p, key.n, s->date);
    hmac(k, k, sizeof k, s->region);
    hmac(k, k, sizeof k, s->service);
    hmac(k, k, sizeof k, s->last);
    hmac(k, k, sizeof k, text.p);
    hex(to, k, sizeof k);
    buf_free(&text);
    buf_free(&key);
}

/* Seconds since 1970 of 20260102T030405Z, or -1. */
static int64_t aws_time(const char *s) {
    struct tm tm = {0};
    const char *end = strptime(s, "%Y%m%dT%H%M%SZ", &tm);
    return end && !*end && strlen(s) == 16 ? (int64_t)timegm(&tm) : -1;
}

/* Is this name among those that are signed? */
static bool is_signed(const Signed *s, const char *name) {
    Buf list = {0}, one = {0};
    buf_fmt(&list, ";%s;", s->names);
    buf_fmt(&one, ";%s;", name);
    bool found = strstr(list.p, one.p) != NULL;
    buf_free(&list);
    buf_free(&one);
    return found;
}

static bool names_sorted(const Signed *s) {
    char names[600], before[600] = "", *save = NULL;
    snprintf(names, sizeof names, "%s", s->names);
    for (char *name = strtok_r(names, ";", &save); name; name = strtok_r(NULL, ";", &save)) {
        if (strcmp(before, name) >= 0) return false;
        for (const char *p = name; *p; p++)
            if (isupper((unsigned char)*p)) return false;
        snprintf(before, sizeof before, "%s", name);
    }
    return true;
}

static bool check_scope(Req *r, const Signed *s, const char *date) {
    static const char *const must_sign[] = {"content-type", "x-amz-content-sha256", "x-amz-security-token"};
    char text[200];
    int64_t sent = aws_time(date), now = aws.now ? aws_time(aws.now) : (int64_t)time(NULL);
    bool scope =
        !strcmp(s->region, aws.region) && !strcmp(s->service, "bedrock") && !strcmp(s->last, "aws4_request");
    if (sent < 0)
        return refuse(r, 403, "IncompleteSignatureException", "Date must be in ISO-8601 'basic format'.");
    if (strncmp(date, s->date, 8) || strlen(s->date) != 8)
        return refuse(r, 403, "InvalidSignatureException",
                      "Date in Credential scope does not match X-Amz-Date.");
    if (!scope)
        return refuse(r, 403, "InvalidSignatureException",
                      "Credential should be scoped to a valid region and to service bedrock.");
    snprintf(text, sizeof text, "Signature %s: %s is %lld s away from the time of the server.",
             sent < now ? "expired" : "not yet current", date, (long long)(sent - now));
    if (llabs((long long)(sent - now)) > 15 * 60) return refuse(r, 403, "InvalidSignatureException", text);
    bool named = is_signed(s, "host") && is_signed(s, "x-amz-date") && names_sorted(s);
    for (size_t i = 0; i < COUNT(must_sign); i++)
        named = named && (!*header(r, must_sign[i]) || is_signed(s, must_sign[i]));
    return named ||
           refuse(r, 403, "InvalidSignatureException",
                  "SignedHeaders: host, content-type and every x-amz- header must be in it, in lower "
                  "case, in order, once.");
}

static bool check_credentials(Req *r, const Signed *s) {
    static const char invalid[] = "The security token included in the request is invalid.";
    const char *token = header(r, "x-amz-security-token");
    if (strcmp(s->access, aws.access)) return refuse(r, 403, "UnrecognizedClientException", invalid);
    if (strcmp(token, aws.token ? aws.token : ""))
        return refuse(r, 403, "UnrecognizedClientException", invalid);
    return !aws.expired ||
           refuse(r, 403, "ExpiredTokenException", "The security token included in the request is expired");
}

static bool check_signature(Req *r, const Signed *s, const char *date) {
    Buf canonical = {0}, want = {0}, sum = {0}, text = {0};
    bool whole = canonical_request(r, s, &canonical);
    sign(s, date, aws.secret, &canonical, &want);
    sha256_hex(&sum, buf_text(&r->body), r->body.n);
    const char *told = header(r, "x-amz-content-sha256");
    bool ok = whole && !strcmp(want.p, s->signature) && (!*told || !strcmp(told, sum.p));
    buf_fmt(
        &text,
        "The request signature we calculated does not match the signature you provided. Check your AWS "
        "Secret Access Key and signing method. The Canonical String for this request should have been '%s'",
        buf_text(&canonical));
    if (!ok) refuse(r, 403, "InvalidSignatureException", text.p);
    buf_free(&canonical);
    buf_free(&want);
    buf_free(&sum);
    buf_free(&text);
    return ok;
}

static bool bedrock_auth(Req *r) {
    const char *a = header(r, "authorization"), *date = header(r, "x-amz-date");
    Signed s;
    if (starts_with(a, "Bearer "))
        return key_ok(a + 7) || refuse(r, 403, "AccessDeniedException",
                                       "Authentication failed: Please make sure your API Key is valid.");
    if (!*a) return refuse(r, 403, "MissingAuthenticationTokenException", "Missing Authentication Token");
    if (!signed_parse(a, &s) || !*date)
        return refuse(
            r, 403, "IncompleteSignatureException",
            "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature', and there "
            "must be an X-Amz-Date.");
    lock();
    bool ok =
        !aws.on || (check_credentials(r, &s) && check_scope(r, &s, date) && check_signature(r, &s, date));
    unlock();
    return ok;
}

/* The access key id of a signature, or the bearer token. */
static const char *bedrock_key(Req *r) {
    static _Thread_local Signed s;
    const char *a = header(r, "authorization");
    return signed_parse(a, &s) ? s.access : a + 7;
}

/* ---------------------------------------------------------------- bedrock: requests */

/* False on a percent sign without two digits. */
static bool percent_decode(const char *p, size_t n, Buf *to) {
    for (size_t i = 0; i < n; i++) {
        char c = p[i];
        if (c == '%') {
            char two[3] = {0};
            if (i + 2 >= n || !isxdigit((unsigned char)p[i + 1]) || !isxdigit((unsigned char)p[i + 2]))
                return false;
            memcpy(two, p + i + 1, 2);
            c = (char)strtol(two, NULL, 16);
            i += 2;
        }
        buf_add(to, &c, 1);
    }
    return true;
}

/* /model/ID/converse: a slash within ID must be encoded, so the path is taken as it came. */
static bool bedrock_route(Req *r) {
    const char *at = strstr(r->uri, "/model/"), *id = at ? at + 7 : "", *end = strpbrk(id, "/?");
    size_t n = end ? strcspn(end, "?") : 0;
    bool plain = n == 9 && !memcmp(end, "/converse", n),
         stream = n == 16 && !memcmp(end, "/converse-stream", n),
         invoke = n == 7 && !memcmp(end, "/invoke", n);
    Buf model = {0};
    if ((!plain && !stream && !invoke) || !percent_decode(id, (size_t)(end - id), &model) || !model.n) {
        buf_free(&model);
        return false;
    }
    r->dialect = BEDROCK;
    r->model = model.p;
    r->ask.stream = stream;
    r->invokes = invoke;
    return true;
}

static const Field bedrock_fields[] = {
    {"messages", T_ARR | T_NEED, 0, 0}, {"system", T_ARR, 0, 0},
    {"inferenceConfig", T_OBJ, 0, 0},   {"toolConfig", T_OBJ, 0, 0},
    {"guardrailConfig", T_OBJ, 0, 0},   {"additionalModelRequestFields", T_OBJ, 0, 0},
    {"promptVariables", T_OBJ, 0, 0},   {"additionalModelResponseFieldPaths", T_ARR, 0, 0},
    {"requestMetadata", T_OBJ, 0, 0},   {"performanceConfig", T_OBJ, 0, 0},
    {"serviceTier", T_OBJ, 0, 0},       {"outputConfig", T_OBJ, 0, 0},
};

/* State of a walk over the messages. */
typedef struct Turns {
    json_t *ids; /* calls that wait for their result */
    bool user, calls_seen, document, text, other;
    size_t marks;
} Turns;

static bool bedrock_text(Req *r, json_t *s, Buf *into, const char *where) {
    size_t n = json_string_length(s), i = 0;
    if (!json_is_string(s)) return bad(r, "%s.text: wrong type", where);
    while (i < n && isspace((unsigned char)json_string_value(s)[i])) i++;
    if (i == n)
        return bad(
            r,
            "The text field in the ContentBlock object at %s is blank. Add text to the text field, and try "
            "again.",
            where);
    take_text(r, into, s);
    return true;
}

/* A source: bytes in base64, or a place in S3. */
static bool bedrock_source(Req *r, json_t *block, Buf *images, const char *type, const char *where) {
    json_t *src = json_object_get(block, "source"), *s3 = json_object_get(src, "s3Location"),
           *bytes = json_object_get(src, "bytes");
    if (json_object_size(src) != 1) return bad(r, "%s.source: exactly one of bytes and s3Location", where);
    if (s3)
        return starts_with(str_of(s3, "uri"), "s3://") || bad(r, "%s.source.s3Location.uri: invalid", where);
    return take_image_b64(r, images, type, str_of(src, "bytes"), json_string_length(bytes), where);
}

static bool bedrock_image(Req *r, json_t *image, Buf *images, const char *where) {
    static const Field f[] = {{"format", T_STR | T_NEED, 0, 0}, {"source", T_OBJ | T_NEED, 0, 0}};
    char type[40];
    if (!ONLY_FIELDS(r, image, f, where)) return false;
    if (!ONE_OF(str_of(image, "format"), "png", "jpeg", "gif", "webp"))
        return bad(
            r,
            "Value '%s' at '%s.format' failed to satisfy constraint: Member must satisfy enum value set: "
            "[gif, jpeg, png, webp]",
            str_of(image, "format"), where);
    snprintf(type, sizeof type, "image/%s", str_of(image, "format"));
    return bedrock_source(r, image, images, type, where);
}

static bool bedrock_document(Req *r, json_t *doc, const char *where) {
    static const Field f[] = {{"format", T_STR, 0, 0},
                              {"name", T_STR | T_NEED, 0, 0},
                              {"source", T_OBJ | T_NEED, 0, 0},
                              {"context", T_STR, 0, 0},
                              {"citations", T_OBJ, 0, 0}};
    json_t *src = json_object_get(doc, "source");
    if (!ONLY_FIELDS(r, doc, f, where)) return false;
    if (!name_ok(str_of(doc, "name"), " -()[]", 200) || strstr(str_of(doc, "name"), "  "))
        return bad(
            r,
            "%s.name: The document file name can only contain alphanumeric characters, whitespace "
            "characters, hyphens, parentheses, and square brackets. The name can't contain more than one "
            "consecutive whitespace character.",
            where);
    if (json_object_get(doc, "format") &&
        !ONE_OF(str_of(doc, "format"), "pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"))
        return bad(r, "%s.format: not one of the enum", where);
    if (json_object_get(src, "text") || json_object_get(src, "content")) return true;
    return bedrock_source(r, doc, NULL, "", where);
}

static bool bedrock_mark(Req *r, json_t *point, Turns *t, const char *where) {
    static const Field f[] = {{"type", T_STR | T_NEED, 0, 0}, {"ttl", T_STR, 0, 0}};
    if (!ONLY_FIELDS(r, point, f, where)) return false;
    if (strcmp(str_of(point, "type"), "default")) return bad(r, "%s.type: must be default", where);
    if (json_object_get(point, "ttl") && !ONE_OF(str_of(point, "ttl"), "5m", "1h"))
        return bad(r, "%s.ttl: must be 5m or 1h", where);
    return ++t->marks <= 4 || bad(r, "You reached the maximum number of cache points (4).");
}

static bool bedrock_result_part(Req *r, json_t *part, const char *where) {
    json_t *json = json_object_get(part, "json"), *text = json_object_get(part, "text");
    if (json_object_size(part) != 1) return bad(r, "%s: exactly one member must be set", where);
    if (json) {
        if (!json_is_object(json))
            return bad(
                r,
                "The format of the value at %s.json is invalid. Provide a json object for the field and "
                "try again.",
                where);
        buf_dump(&r->ask.results, json);
        return true;
    }
    if (json_is_string(text)) return take_text(r, &r->ask.results, text), true;
    if (json_object_get(part, "image")) return bedrock_image(r, json_object_get(part, "image"), NULL, where);
    if (json_object_get(part, "document"))
        return bedrock_document(r, json_object_get(part, "document"), where);
    return bad(r, "%s: unknown kind of tool result", where);
}

static bool bedrock_result(Req *r, json_t *res, Turns *t, const char *where) {
    static const Field f[] = {{"toolUseId", T_STR | T_NEED, 0, 0},
                              {"content", T_ARR | T_NEED, 0, 0},
                              {"status", T_STR, 0, 0},
                              {"type", T_STR, 0, 0}};
    json_t *part;
    size_t i;
    char at[160];
    if (!ONLY_FIELDS(r, res, f, where)) return false;
    if (!t->user) return bad(r, "%s: toolResult blocks can only be in user messages", where);
    if (json_object_get(res, "status") && !ONE_OF(str_of(res, "status"), "success", "error"))
        return bad(r, "%s.status: must be success or error", where);
    if (json_object_del(t->ids, str_of(res, "toolUseId")))
        return bad(
            r, "The toolResult block at %s has the Id %s, which no toolUse block of the previous turn has.",
            where, str_of(res, "toolUseId"));
    if (r->ask.has_results) buf_str(&r->ask.results, "; ");
    r->ask.has_results = true;
    json_array_foreach(json_object_get(res, "content"), i, part) {
        snprintf(at, sizeof at, "%s.content.%zu", where, i);
        if (!bedrock_result_part(r, part, at)) return false;
    }
    return true;
}

static bool bedrock_use(Req *r, json_t *use, Turns *t, const char *where) {
    static const Field f[] = {{"toolUseId", T_STR | T_NEED, 0, 0},
                              {"name", T_STR | T_NEED, 0, 0},
                              {"input", T_OBJ | T_NEED, 0, 0},
                              {"type", T_STR, 0, 0}};
    const char *id = str_of(use, "toolUseId");
    if (t->user) return bad(r, "%s: toolUse blocks can only be in assistant messages", where);
    if (!ONLY_FIELDS(r, use, f, where)) return false;
    if (!name_ok(id, "_.:-", 64)) return bad(r, "%s.toolUseId: [a-zA-Z0-9_.:-]{1,64}", where);
    if (!name_ok(str_of(use, "name"), "_-", 64)) return bad(r, "%s.name: [a-zA-Z0-9_-]{1,64}", where);
    if (json_object_get(t->ids, id))
        return bad(r, "The toolUse blocks at %s contain duplicate Ids: %s", where, id);
    json_object_set_new(t->ids, id, json_true());
    t->calls_seen = true;
    return true;
}

/* A signature is a hash of its text, so an edit of either shows. Claude wants it, others do without. */
static bool bedrock_thought(Req *r, json_t *block, Turns *t, const char *where) {
    json_t *rt = json_object_get(block, "reasoningText"), *text = json_object_get(rt, "text"),
           *sig = json_object_get(rt, "signature"), *red = json_object_get(block, "redactedContent");
    char want[40];
    if (t->user) return bad(r, "%s: reasoningContent can only be in assistant messages", where);
    if (json_object_size(block) != 1) return bad(r, "%s: exactly one member must be set", where);
    if (red)
        return base64_len(str_of(block, "redactedContent"), json_string_length(red)) > 0 ||
               bad(r, "%s.redactedContent: invalid base64", where);
    if (!json_is_string(text)) return bad(r, "%s.reasoningText.text: field required", where);
    snprintf(want, sizeof want, "sig-%u", hash32(json_string_value(text), json_string_length(text)));
    if (!sig && !strstr(r->model, "claude")) return true;
    return !strcmp(str_of(rt, "signature"), want) ||
           bad(r, "The model returned the following errors: %s: Invalid `signature` in `thinking` block",
               where);
}

static bool bedrock_block(Req *r, json_t *b, Turns *t, const char *where) {
    json_t *v;
    Buf *text = t->user ? &r->ask.user : NULL, *images = t->user ? &r->ask.images : NULL;
    if (json_object_size(b) != 1) return bad(r, "%s: exactly one member of the union must be set", where);
    if ((v = json_object_get(b, "toolResult"))) return bedrock_result(r, v, t, where);
    if ((v = json_object_get(b, "cachePoint"))) return bedrock_mark(r, v, t, where);
    t->other = true;
    if ((v = json_object_get(b, "text"))) return t->text = true, bedrock_text(r, v, text, where);
    if ((v = json_object_get(b, "image")))
        return t->user ? bedrock_image(r, v, images, where)
                       : bad(r, "%s: image in an assistant message", where);
    if ((v = json_object_get(b, "document"))) {
        t->document = true;
        return t->user ? bedrock_document(r, v, where) : bad(r, "%s: document of the assistant", where);
    }
    if ((v = json_object_get(b, "toolUse"))) return bedrock_use(r, v, t, where);
    if ((v = json_object_get(b, "reasoningContent"))) return bedrock_thought(r, v, t, where);
    return bad(r, "%s: unknown kind of ContentBlock", where);
}

static bool bedrock_blocks(Req *r, json_t *list, Turns *t, const char *where) {
    json_t *b;
    size_t i;
    char at[100];
    if (!json_array_size(list))
        return bad(r,
                   "The content field in the Message object at %s is empty. Add a ContentBlock object to the "
                   "content field and try again.",
                   where);
    t->document = t->text = t->other = false;
    json_array_foreach(list, i, b) {
        snprintf(at, sizeof at, "%s.content.%zu", where, i);
        if (!bedrock_block(r, b, t, at)) return false;
    }
    return !t->document || t->text || bad(r, "%s: a text block is required with a document", where);
}

static bool bedrock_message(Req *r, json_t *msg, Turns *t, size_t i) {
    static const Field f[] = {{"role", T_STR | T_NEED, 0, 0}, {"content", T_ARR | T_NEED, 0, 0}};
    const char *role = str_of(msg, "role");
    char where[40];
    snprintf(where, sizeof where, "messages.%zu", i);
    if (!ONLY_FIELDS(r, msg, f, where)) return false;
    if (!ONE_OF(role, "user", "assistant"))
        return bad(
            r,
            "Value '%s' at '%s.role' failed to satisfy constraint: Member must satisfy enum value set: "
            "[user, assistant]",
            role, where);
    bool user = role[0] == 'u', wait = json_object_size(t->ids) > 0;
    if (!i && !user)
        return bad(r,
                   "A conversation must start with a user message. Try again with a conversation that starts "
                   "with a user message.");
    if (i && user == t->user)
        return bad(
            r, "A conversation must alternate between user and assistant roles. Make sure the conversation "
               "alternates between user and assistant roles and try again.");
    t->user = user;
    if (user) r->ask.user.n = r->ask.images.n = 0;
    r->ask.results.n = 0;
    r->ask.has_results = false;
    if (!bedrock_blocks(r, json_object_get(msg, "content"), t, where)) return false;
    if (wait && json_object_size(t->ids))
        return bad(r, "Expected toolResult blocks at %s.content for the following Ids: %s", where,
                   json_object_iter_key(json_object_iter(t->ids)));
    return true;
}

/* Which models go on from a message of the assistant. */
static bool bedrock_prefill(Req *r, json_t *last) {
    if (strcmp(str_of(last, "role"), "assistant")) return true;
    const char *claude = strstr(r->model, "claude");
    if (!claude && strchr(r->model, '.') && !strstr(r->model, "nova"))
        return bad(
            r, "A conversation must end with a user message. Try again with a conversation that ends with a "
               "user message.");
    char *model = r->model, *own_name = claude ? must(strdup(claude)) : model;
    Buf text = {0};
    message_text(last, &text);
    bool blank = text.n && isspace((unsigned char)text.p[text.n - 1]);
    buf_free(&text);
    r->model = own_name;
    bool ok = anthropic_prefill(r, last);
    r->model = model;
    if (claude) free(own_name);
    return ok && (!blank || bad(r, "messages: final assistant content cannot end with trailing whitespace"));
}

static bool bedrock_messages(Req *r, Turns *t) {
    json_t *list = json_object_get(r->root, "messages"), *msg;
    size_t i;
    if (!json_array_size(list))
        return bad(r,
                   "A conversation must start with a user message. Try again with a conversation that starts "
                   "with a user message.");
    json_array_foreach(list, i, msg) if (!bedrock_message(r, msg, t, i)) return false;
    if (json_object_size(t->ids)) return bad(r, "messages: toolUse at the end without toolResult");
    if (t->calls_seen && !r->ask.tools)
        return bad(r,
                   "The toolConfig field must be defined when using toolUse and toolResult content blocks.");
    if (r->ask.user.n) r->ask.has_results = false;
    return bedrock_prefill(r, json_array_get(list, json_array_size(list) - 1));
}

static bool bedrock_system(Req *r, Turns *t) {
    json_t *list = json_object_get(r->root, "system"), *b;
    size_t i;
    char where[40];
    json_array_foreach(list, i, b) {
        snprintf(where, sizeof where, "system.%zu", i);
        if (json_object_size(b) != 1) return bad(r, "%s: exactly one member of the union must be set", where);
        json_t *point = json_object_get(b, "cachePoint");
        bool ok = point ? bedrock_mark(r, point, t, where)
                        : bedrock_text(r, json_object_get(b, "text"), NULL, where);
        if (!ok) return false;
    }
    return true;
}

static bool bedrock_tool(Req *r, json_t *tool, Turns *t, const char *where) {
    static const Field f[] = {{"name", T_STR | T_NEED, 0, 0},
                              {"description", T_STR, 0, 0},
                              {"inputSchema", T_OBJ | T_NEED, 0, 0},
                              {"strict", T_BOOL, 0, 0}};
    json_t *spec = json_object_get(tool, "toolSpec"), *d = json_object_get(spec, "description");
    if (json_object_size(tool) != 1) return bad(r, "%s: exactly one member of the union must be set", where);
    if (json_object_get(tool, "cachePoint"))
        return bedrock_mark(r, json_object_get(tool, "cachePoint"), t, where);
    if (!ONLY_FIELDS(r, spec, f, where)) return false;
    if (d && !json_string_length(d)) return bad(r, "%s.description: at least 1 character", where);
    json_t *schema = json_object_get(json_object_get(spec, "inputSchema"), "json");
    return check_params(r, schema, where) && add_tool(r, spec, "_-", 64, where);
}

static bool bedrock_choice(Req *r, json_t *choice) {
    json_t *tool = json_object_get(choice, "tool");
    if (!choice) return true;
    if (json_object_size(choice) != 1) return bad(r, "toolConfig.toolChoice: exactly one member must be set");
    if (json_object_get(choice, "auto")) return true;
    if (json_object_get(choice, "any"))
        r->ask.forced = json_array_get(r->ask.tools, 0);
    else if (tool)
        r->ask.forced = find_tool(r, str_of(tool, "name"));
    if (!r->ask.forced) return bad(r, "toolConfig.toolChoice: must be auto, any, or name one of the tools");
    return !r->ask.thinks ||
           bad(r, "The model returned the following errors: Thinking may not be enabled when "
                  "tool_choice forces tool use.");
}

static bool bedrock_tools(Req *r, Turns *t) {
    static const Field f[] = {{"tools", T_ARR | T_NEED, 0, 0}, {"toolChoice", T_OBJ, 0, 0}};
    json_t *config = json_object_get(r->root, "toolConfig"), *list = json_object_get(config, "tools"), *tool;
    size_t i;
    char where[40];
    if (!config) return true;
    if (!ONLY_FIELDS(r, config, f, "toolConfig")) return false;
    json_array_foreach(list, i, tool) {
        snprintf(where, sizeof where, "toolConfig.tools.%zu", i);
        if (!bedrock_tool(r, tool, t, where)) return false;
    }
    if (!r->ask.tools) return bad(r, "toolConfig.tools: Member must have length greater than or equal to 1");
    return bedrock_choice(r, json_object_get(config, "toolChoice"));
}

/* The vendor's own fields: only Claude's thinking means something here. */
static bool bedrock_thinking(Req *r) {
    json_t *more = json_object_get(r->root, "additionalModelRequestFields"),
           *t = json_object_get(more, "thinking");
    json_t *config = json_object_get(r->root, "inferenceConfig"),
           *temp = json_object_get(config, "temperature"), *budget = json_object_get(t, "budget_tokens"),
           *max = json_object_get(config, "maxTokens");
    const char *type = str_of(t, "type");
    if (json_object_get(more, "reasoning_effort") || json_object_get(more, "reasoningConfig"))
        r->ask.reasoning = true; /* gpt-oss and Nova */
    if (!t) return true;
    if (!strstr(r->model, "claude") && strchr(r->model, '.'))
        return bad(r,
                   "Malformed input request: #: extraneous key [thinking] is not permitted, please reformat "
                   "your input and try again.");
    if (!ONE_OF(type, "enabled", "adaptive", "disabled"))
        return bad(r, "thinking.type: invalid value '%s'", type);
    r->ask.reasoning = r->ask.thinks = strcmp(type, "disabled") != 0;
    if (!strcmp(type, "enabled") != !!budget)
        return bad(r, "thinking.budget_tokens: only when enabled, and then");
    if (budget && json_integer_value(budget) < 1024)
        return bad(r, "thinking.budget_tokens: must be an integer of at least 1024");
    if (budget && max && json_integer_value(budget) >= json_integer_value(max))
        return bad(r, "`max_tokens` must be greater than `thinking.budget_tokens`");
    return !r->ask.thinks || !temp || json_number_value(temp) == 1 ||
           bad(r, "`temperature` may only be set to 1 when thinking is enabled");
}

static bool bedrock_inference(Req *r) {
    static const Field f[] = {{"maxTokens", T_INT, 1, 1e9},
                              {"temperature", T_NUM, 0, 1},
                              {"topP", T_NUM, 0, 1},
                              {"stopSequences", T_ARR, 0, 0}};
    json_t *config = json_object_get(r->root, "inferenceConfig"), *max = json_object_get(config, "maxTokens");
    if (!config) return true;
    if (!ONLY_FIELDS(r, config, f, "inferenceConfig")) return false;
    if (max) r->ask.max_tokens = json_integer_value(max);
    r->ask.stop = json_object_get(config, "stopSequences");
    return check_strings(r, r->ask.stop, 2500, "inferenceConfig.stopSequences");
}

/* The schema is a string that holds JSON. */
static bool bedrock_format(Req *r) {
    static const Field top[] = {{"textFormat", T_OBJ, 0, 0}},
                       inner[] = {{"type", T_STR | T_NEED, 0, 0}, {"structure", T_OBJ | T_NEED, 0, 0}},
                       def[] = {{"schema", T_STR | T_NEED, 0, 0},
                                {"name", T_STR, 0, 0},
                                {"description", T_STR, 0, 0}};
    json_t *oc = json_object_get(r->root, "outputConfig"), *tf = json_object_get(oc, "textFormat");
    json_t *js = json_object_get(json_object_get(tf, "structure"), "jsonSchema");
    if (!oc) return true;
    if (!ONLY_FIELDS(r, oc, top, "outputConfig")) return false;
    if (!tf) return true;
    if (!ONLY_FIELDS(r, tf, inner, "outputConfig.textFormat") ||
        !ONLY_FIELDS(r, js, def, "outputConfig.textFormat.structure.jsonSchema"))
        return false;
    if (strcmp(str_of(tf, "type"), "json_schema"))
        return bad(r, "outputConfig.textFormat.type: must be json_schema");
    json_t *schema = json_loads(str_of(js, "schema"), 0, NULL);
    if (!schema) return bad(r, "outputConfig.textFormat.structure.jsonSchema.schema: not valid JSON");
    json_object_set_new(r->root, " schema", schema); /* the root owns it */
    r->ask.schema = schema;
    return check_schema(r, schema, "outputConfig.textFormat.structure.jsonSchema.schema");
}

static bool bedrock_rest(Req *r) {
    json_t *tier = json_object_get(r->root, "serviceTier"),
           *meta = json_object_get(r->root, "requestMetadata"), *v;
    const char *key;
    if (tier && !ONE_OF(str_of(tier, "type"), "priority", "default", "flex", "reserved"))
        return bad(r, "serviceTier.type: not one of the enum");
    if (json_object_size(meta) > 16) return bad(r, "requestMetadata: at most 16");
    json_object_foreach(meta, key, v) if (!json_is_string(v) || json_string_length(v) > 256) return bad(
        r, "requestMetadata.%s: must be a string of at most 256 characters", key);
    return true;
}

static bool bedrock_validate(Req *r) {
    r->ask.usage_asked = true;
    r->ask.max_tokens = -1;
    Turns t = {.ids = json_object()};
    bool ok = ONLY_FIELDS(r, r->root, bedrock_fields, "") && bedrock_inference(r) && bedrock_thinking(r) &&
              bedrock_tools(r, &t) && bedrock_format(r) && bedrock_rest(r) && bedrock_system(r, &t) &&
              bedrock_messages(r, &t);
    json_decref(t.ids);
    return ok;
}

/* ---------------------------------------------------------------- bedrock: frames */

/* CRC-32 as zlib has it, a bit at a time. */
static uint32_t crc32_of(const char *p, size_t n) {
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < n; i++) {
        crc ^= (unsigned char)p[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static void put_be32(Buf *b, uint32_t v) {
    char p[4] = {(char)(v >> 24), (char)(v >> 16), (char)(v >> 8), (char)v};
    buf_add(b, p, 4);
}

static void put_aws_header(Buf *b, const char *name, const char *value) {
    size_t n = strlen(name), m = strlen(value);
    char head[3] = {7, (char)(m >> 8), (char)m};
    char len = (char)n;
    buf_add(b, &len, 1);
    buf_add(b, name, n);
    buf_add(b, head, 3);
    buf_add(b, value, m);
}

/* One message of the event stream. */
static void put_frame(Req *r, const Buf *headers, const char *payload, size_t n) {
    Buf *b = &r->out.body;
    size_t from = b->n;
    put_be32(b, (uint32_t)(headers->n + n + 16));
    put_be32(b, (uint32_t)headers->n);
    put_be32(b, crc32_of(b->p + from, 8));
    buf_cat(b, headers);
    buf_add(b, payload, n);
    uint32_t crc = crc32_of(b->p + from, b->n - from);
    put_be32(b, r->f.crc_after == r->out.events ? crc ^ 0x10 : crc);
}

/* Payloads are padded to hide the length of the text, and the order of the headers varies. */
static void put_aws(Req *r, const char *event, const char *data, size_t n) {
    static const char pad[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    Buf headers = {0}, payload = {0};
    bool turned = r->out.events % 3 == 2;
    if (turned) put_aws_header(&headers, ":message-type", "event");
    put_aws_header(&headers, ":event-type", event);
    put_aws_header(&headers, ":content-type", "application/json");
    if (!turned) put_aws_header(&headers, ":message-type", "event");
    buf_add(&payload, data, n);
    if (n > 2 && data[n - 1] == '}') {
        payload.n--;
        buf_fmt(&payload, ",\"p\":\"%.*s\"}", (int)(hash32(data, n) % (sizeof pad - 3)) + 3, pad);
    }
    put_frame(r, &headers, payload.p, payload.n);
    buf_free(&headers);
    buf_free(&payload);
}

/* The exception, or the error, that ends a stream. */
static void put_aws_exception(Req *r) {
    const char *name = r->f.exception ? json_string_value(r->f.exception) : "serviceUnavailableException";
    const char *text = r->f.error_message ? json_string_value(r->f.error_message) : stream_error_text;
    Buf headers = {0}, payload = {0};
    put_aws_header(&headers, r->f.frame_error ? ":error-code" : ":exception-type", name);
    if (r->f.frame_error) {
        put_aws_header(&headers, ":error-message", text);
    } else {
        put_aws_header(&headers, ":content-type", "application/json");
        buf_str(&payload, "{\"message\":");
        buf_jstr(&payload, text);
        buf_str(&payload, "}");
    }
    put_aws_header(&headers, ":message-type", r->f.frame_error ? "error" : "exception");
    put_frame(r, &headers, buf_text(&payload), payload.n);
    end_piece(&r->out);
    r->out.events++;
    buf_free(&headers);
    buf_free(&payload);
}

/* ---------------------------------------------------------------- bedrock: replies */

static void bedrock_error(Req *r, Buf *b, unsigned status, const char *type, const char *message) {
    char text[200];
    (void)status;
    if (!r->f.error_type && r->err_code && ends_with(r->err_code, "Exception")) type = r->err_code;
    snprintf(text, sizeof text, "%s:http://internal.amazon.com/coral/com.amazon.bedrock/", type);
    set_header(r, "x-amzn-ErrorType", text);
    buf_str(b, "{\"message\":");
    buf_jstr(b, message);
    buf_str(b, "}");
}

/* inputTokens leaves out what came from the cache. */
static void bedrock_usage(Req *r, Buf *b) {
    Answer *a = &r->ans;
    if (!r->f.usage_none) {
        buf_fmt(b, "\"usage\":{\"inputTokens\":%lld,\"outputTokens\":%lld,\"totalTokens\":%lld",
                (long long)(a->in - a->cached), (long long)a->out, (long long)(a->in + a->out));
        if (a->cached)
            buf_fmt(b, ",\"cacheReadInputTokens\":%lld,\"cacheWriteInputTokens\":0", (long long)a->cached);
        buf_str(b, ",\"serverToolUsage\":{}},");
    }
    buf_str(b, "\"metrics\":{\"latencyMs\":268}");
}

static void bedrock_call_json(Buf *b, const Call *c) {
    json_t *args = json_loadb(buf_text(&c->args), c->args.n, 0, NULL);
    buf_fmt(b, "{\"toolUse\":{\"toolUseId\":\"%s\",\"name\":", c->id);
    buf_jstr(b, c->name);
    buf_str(b, ",\"input\":");
    if (args)
        buf_cat(b, &c->args);
    else
        buf_json(b, buf_text(&c->args), c->args.n); /* broken on purpose */
    buf_str(b, "}}");
    json_decref(args);
}

static void bedrock_plain(Req *r) {
    Buf *b = &r->out.body;
    Answer *a = &r->ans;
    const char *comma = "";
    buf_str(b, "{\"output\":{\"message\":{\"content\":[");
    if (a->reasoning.n) {
        buf_str(b, "{\"reasoningContent\":{\"reasoningText\":{\"signature\":");
        put_sig(r, b);
        buf_str(b, ",\"text\":");
        buf_json(b, a->reasoning.p, a->reasoning.n);
        buf_str(b, "}}}");
        comma = ",";
    }
    if (a->text.n || a->refusal.n) {
        buf_fmt(b, "%s{\"text\":", comma);
        if (a->refusal.n)
            buf_json(b, a->refusal.p, a->refusal.n);
        else
            put_plain_text(r);
        buf_str(b, "}");
        comma = ",";
    }
    for (size_t i = 0; i < a->ncalls; i++, comma = ",") {
        buf_str(b, comma);
        bedrock_call_json(b, &a->calls[i]);
    }
    buf_str(b, "],\"role\":\"assistant\"}},\"stopReason\":");
    buf_jstr(b, finish_word(r));
    buf_str(b, ",");
    bedrock_usage(r, b);
    buf_str(b, "}");
}

/* d->key: what stands before the string and what after it. */
static void bedrock_delta(Req *r, void *arg, const char *p, size_t n) {
    Delta *d = arg;
    buf_fmt(&r->out.tmp, "{\"contentBlockIndex\":%zu,\"delta\":{%s", d->index, d->key);
    buf_json(&r->out.tmp, p, n);
    for (const char *c = d->key; *c; c++)
        if (*c == '{') buf_str(&r->out.tmp, "}");
    buf_str(&r->out.tmp, "}}");
    emit(r, d->kind, "contentBlockDelta");
}

static void bedrock_block_stop(Req *r, EvKind kind, size_t index) {
    buf_fmt(&r->out.tmp, "{\"contentBlockIndex\":%zu}", index);
    emit(r, kind, "contentBlockStop");
}

static void bedrock_stream_thought(Req *r, size_t index) {
    Answer *a = &r->ans;
    char sig[40];
    int n = snprintf(sig, sizeof sig, "sig-%u", hash32(a->reasoning.p, a->reasoning.n));
    Delta d = {NULL, "\"reasoningContent\":{\"text\":", EV_PRE, index};
    each_chunk(r, CUT_REASONING, a->reasoning.p, a->reasoning.n, chunk_chars(r), bedrock_delta, &d);
    d.key = "\"reasoningContent\":{\"signature\":";
    bedrock_delta(r, &d, sig, (size_t)n);
    bedrock_block_stop(r, EV_PRE, index);
}

/* A call without arguments has one empty fragment. */
static void bedrock_stream_call(Req *r, size_t index, Call *c) {
    buf_fmt(&r->out.tmp,
            "{\"contentBlockIndex\":%zu,\"start\":{\"toolUse\":{\"toolUseId\":\"%s\",\"name\":", index,
            c->id);
    buf_jstr(&r->out.tmp, c->name);
    buf_str(&r->out.tmp, "}}}");
    emit(r, EV_POST, "contentBlockStart");
    Delta d = {NULL, "\"toolUse\":{\"input\":", EV_POST, index};
    if (!strcmp(buf_text(&c->args), "{}"))
        bedrock_delta(r, &d, "", 0);
    else
        each_chunk(r, CUT_ARGS, buf_text(&c->args), c->args.n, arg_chars(r, c), bedrock_delta, &d);
    bedrock_block_stop(r, EV_POST, index);
}

/* Text has no contentBlockStart, and the usage comes after messageStop. */
static void bedrock_stream_out(Req *r) {
    Answer *a = &r->ans;
    Buf *b = &r->out.tmp;
    size_t index = 0;
    buf_str(b, "{\"role\":\"assistant\"}");
    emit(r, EV_PRE, "messageStart");
    if (a->reasoning.n) bedrock_stream_thought(r, index++);
    Buf *text = a->refusal.n ? &a->refusal : &a->text; /* what a guardrail says stands for the text */
    if (text->n) {
        Delta d = {NULL, "\"text\":", EV_TEXT, index};
        each_chunk(r, CUT_TEXT, text->p, text->n, chunk_chars(r), bedrock_delta, &d);
        bedrock_block_stop(r, EV_POST, index++);
    }
    for (size_t i = 0; i < a->ncalls; i++) bedrock_stream_call(r, index++, &a->calls[i]);
    buf_str(b, "{\"stopReason\":");
    buf_jstr(b, finish_word(r));
    buf_str(b, "}");
    emit(r, EV_TERM, "messageStop");
    buf_str(b, "{");
    bedrock_usage(r, b);
    buf_str(b, "}");
    emit(r, EV_TERM, "metadata");
}
