/* AWS Signature Version 4: AWS's published examples, vectors of our own, its test suite and those for Bedrock. */
#include "unit.h"

#include "fixtures.h"

#include <time.h>

#define SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY" /* of AWS's documentation */

static llmgwi_dialect_aws signer(const char *region, const char *service) {
    llmgwi_dialect_aws aws;
    memset(&aws, 0, sizeof aws);
    aws.region = region;
    aws.service = service;
    aws.access = "AKIDEXAMPLE";
    aws.secret = SECRET;
    return aws;
}

/* ---- keys ---- */

static void key_is(const char *secret, const char *day, const char *region, const char *service,
                   const char *want) {
    llmgwi_dialect_aws aws = signer(region, service);
    unsigned char key[32];
    char hex[65];
    aws.secret = secret;
    llmgwi_dialect_sign_key(&aws, day, key);
    llmgwi_crypto_hex(key, hex);
    assert_string_equal(hex, want);
}

/* The first two are published by AWS ("Deriving the signing key", of two editions of its documentation); the others
   were made with Python's hmac: 60 bytes of secret fill HMAC's block, 61 are hashed. */
static void test_keys(void **state) {
    char secret[62];
    (void)state;
    key_is(SECRET, "20120215", "us-east-1", "iam",
           "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d");
    key_is(SECRET, "20150830", "us-east-1", "iam",
           "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
    memset(secret, 's', sizeof secret);
    secret[60] = secret[61] = 0;
    key_is(secret, "20240229", "eu-central-1", "bedrock",
           "9d570f98c2a94b1eabf4eb8056c2c692063b8b5759b7ba2851cc122b90349b9c");
    secret[60] = 's';
    key_is(secret, "20240229", "eu-central-1", "bedrock",
           "d4aa81528feeb84cbad7e11f7ba667f5f4cbb762e0b181d73ad87896d416740e");
}

/* AWS's worked example, "Signing AWS requests": the canonical request's hash and the signature. */
static void test_published_request(void **state) {
    const llmgwi_dialect_signed headers[] = {
        {"content-type", llmgwi_base_cstr("application/x-www-form-urlencoded; charset=utf-8")},
        {"host", llmgwi_base_cstr("iam.amazonaws.com")},
        {"x-amz-date", llmgwi_base_cstr("20150830T123600Z")},
        {"x-amz-security-token", llmgwi_base_view(NULL, 0)}};
    llmgwi_dialect_aws aws = signer("us-east-1", "iam");
    llmgwi_base_buf canonical, line;
    unsigned char digest[32];
    char hex[65];
    (void)state;
    llmgwi_base_buf_init(&canonical, &unit_mem, 1 << 16);
    llmgwi_base_buf_init(&line, &unit_mem, 1 << 16);
    llmgwi_dialect_canonical(&canonical, "GET", llmgwi_base_cstr("/"),
                             llmgwi_base_cstr("Action=ListUsers&Version=2010-05-08"), headers, 4,
                             "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    llmgwi_crypto_sha256_of(canonical.p, canonical.n, digest);
    llmgwi_crypto_hex(digest, hex);
    assert_string_equal(hex, "f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59");
    llmgwi_dialect_authorize(&line, &aws, "20150830T123600Z", llmgwi_base_buf_str(&canonical), headers, 4);
    assert_string_equal(line.p,
                        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
                        "SignedHeaders=content-type;host;x-amz-date, Signature="
                        "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7");
    llmgwi_base_buf_free(&canonical);
    llmgwi_base_buf_free(&line);
}

/* ---- whole requests ---- */

typedef struct lines {
    llmgwi_base_buf buf;
    const char *line[LLMGWI_DIALECT_SIGN_LINES];
    size_t count;
} lines;

static void sign(lines *out, const llmgwi_dialect_aws *aws, const char *url, const char *body,
                 int64_t wall_s) {
    memset(out, 0, sizeof *out);
    llmgwi_base_buf_init(&out->buf, &unit_mem, LLMGWI_DIALECT_SIGN_BYTES);
    out->count =
        llmgwi_dialect_sign(aws, "POST", url, "application/json", llmgwi_base_cstr(body), wall_s, &out->buf);
    const char *at = out->buf.p;
    for (size_t i = 0; i < out->count; i++, at += strlen(at) + 1) out->line[i] = at;
    assert_true(at <= out->buf.p + out->buf.n + 1);
}

/* The value of a header among the lines; NULL: it is not there. */
static const char *value(const lines *of, const char *name) {
    for (size_t i = 0; i < of->count; i++) {
        size_t n = strlen(name);
        if (strncasecmp(of->line[i], name, n) == 0 && strncmp(of->line[i] + n, ": ", 2) == 0)
            return of->line[i] + n + 2;
    }
    return NULL;
}

#define LEAP_DAY 1709251199 /* 2024-02-29T23:59:59Z */
#define EMPTY_TALK "{\"messages\":[]}"
#define SIGNED_FOR(names)                                                                                    \
    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20240229/eu-central-1/bedrock/aws4_request, "                   \
    "SignedHeaders=" names ", Signature="

/* Signatures by Python's hmac: a path under a base, a port, a token. */
static void test_requests(void **state) {
    llmgwi_dialect_aws aws = signer("eu-central-1", "bedrock");
    lines l;
    (void)state;
    sign(&l, &aws,
         "https://bedrock-runtime.eu-central-1.amazonaws.com/model/"
         "eu.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream",
         EMPTY_TALK, LEAP_DAY);
    assert_int_equal(l.count, 4);
    assert_string_equal(value(&l, "host"), "bedrock-runtime.eu-central-1.amazonaws.com");
    assert_string_equal(value(&l, "x-amz-date"), "20240229T235959Z");
    assert_string_equal(value(&l, "x-amz-content-sha256"),
                        "5e4ce7b36ba37b78a5d5f9fd08e6b7b54ba6879d651aa46ec9e1d6fa24ebe30a");
    assert_string_equal(
        value(&l, "authorization"),
        SIGNED_FOR("content-type;host;x-amz-content-sha256;x-amz-date") "6f3c123a6bdc27e6126fe8b39aefecbad559"
                                                                        "ed2823690c1d716cbfb8371d57e4");
    assert_null(value(&l, "x-amz-security-token"));
    llmgwi_base_buf_free(&l.buf);
    aws.token = "TOKEN==";
    sign(&l, &aws, "http://127.0.0.1:8080/base/model/arn%3Aaws%3Abedrock%3Aeu-central-1%3A1%3Ax%2Fy/converse",
         EMPTY_TALK, LEAP_DAY);
    assert_int_equal(l.count, 5);
    assert_string_equal(value(&l, "host"), "127.0.0.1:8080");
    assert_string_equal(value(&l, "x-amz-security-token"), "TOKEN==");
    assert_string_equal(value(&l, "authorization"),
                        SIGNED_FOR("content-type;host;x-amz-content-sha256;x-amz-date;x-amz-"
                                   "security-token") "d839f87e3b91a7b258ab430da27a9bfeaaeff3cbf09"
                                                     "ae822ee58dd5950c62d4f");
    llmgwi_base_buf_free(&l.buf);
}

/* Everything that is signed changes the signature. */
static void test_what_is_signed(void **state) {
    static const char url[] = "https://h/model/m/converse?a=b";
    llmgwi_dialect_aws aws = signer("r", "bedrock"), other = aws;
    lines base, l;
    (void)state;
    sign(&base, &aws, url, "{}", LEAP_DAY);
    for (int i = 0; i < 9; i++) {
        other = aws;
        if (i == 1) other.secret = SECRET "x";
        if (i == 2) other.region = "s";
        if (i == 3) other.token = "t";
        const char *to = i == 4   ? "https://h/model/n/converse?a=b"
                         : i == 5 ? "https://i/model/m/converse?a=b"
                         : i == 6 ? "https://h/model/m/converse?a=c"
                                  : url;
        sign(&l, &other, to, i == 7 ? "{ }" : "{}", LEAP_DAY + (i == 8));
        assert_int_equal(strcmp(strstr(value(&l, "authorization"), "Signature="),
                                strstr(value(&base, "authorization"), "Signature=")) == 0,
                         i == 0);
        llmgwi_base_buf_free(&l.buf);
    }
    llmgwi_base_buf_free(&base.buf);
}

/* A token of the most bytes there can be fits, and one more than the cap on lines is no overrun. */
static void test_long_token(void **state) {
    static char token[LLMGWI_DIALECT_SIGN_BYTES];
    llmgwi_dialect_aws aws = signer("r", "bedrock");
    lines l;
    (void)state;
    memset(token, 't', 16384);
    aws.token = token;
    sign(&l, &aws, "https://h/m", "{}", LEAP_DAY);
    assert_int_equal(l.count, 5);
    assert_int_equal(strlen(value(&l, "x-amz-security-token")), 16384);
    llmgwi_base_buf_free(&l.buf);
    memset(token, 't', sizeof token - 1);
    sign(&l, &aws, "https://h/m", "{}", LEAP_DAY);
    assert_int_equal(l.count, 0);
    llmgwi_base_buf_free(&l.buf);
}

static void test_stamps(void **state) {
    (void)state;
    for (int64_t s = 0; s < INT64_C(253402300800); s += 86400 * 13 + 4999) {
        char want[32], got[32];
        time_t at = (time_t)s;
        struct tm tm;
        assert_non_null(gmtime_r(&at, &tm));
        strftime(want, sizeof want, "%Y%m%dT%H%M%SZ", &tm);
        llmgwi_dialect_sign_stamp(s, got);
        assert_string_equal(got, want);
    }
    char got[32];
    llmgwi_dialect_sign_stamp(-1, got);
    assert_string_equal(got, "19700101T000000Z");
    llmgwi_dialect_sign_stamp(INT64_MAX, got);
    assert_int_equal(strlen(got), 16);
}

/* ---- ../shared/fixtures/sigv4-bedrock-golden: two other implementations agree on these ---- */

static void test_golden(void **state) {
    size_t n, i;
    json_error_t error;
    json_t *vector;
    (void)state;
    char *text = fixture_read("sigv4-bedrock-golden/vectors.json", &n);
    FIXTURES_OR_SKIP(text ? 1 : 0);
    json_t *vectors = json_loadb(text, n, 0, &error);
    assert_int_equal(json_array_size(vectors), 8);
    json_array_foreach(vectors, i, vector) {
        json_t *headers = json_object_get(vector, "headers");
        const char *model = json_string_value(json_object_get(vector, "model"));
        llmgwi_dialect_aws aws = signer("us-east-1", "bedrock");
        llmgwi_base_buf url;
        lines l;
        char base[200];
        aws.token = json_string_value(json_object_get(vector, "session_token"));
        snprintf(base, sizeof base, "https://%s", json_string_value(json_object_get(headers, "host")));
        llmgwi_base_buf_init(&url, &unit_mem, 8192);
        bool stream = strcmp(json_string_value(json_object_get(vector, "op")), "converse-stream") == 0;
        assert_true(llmgwi_dialect_url(llmgwi_dialect_find("bedrock"), base, model, stream, &url));
        assert_string_equal(url.p + strlen(base), json_string_value(json_object_get(vector, "path_on_wire")));
        sign(&l, &aws, url.p, json_string_value(json_object_get(vector, "body")), 1767323045);
        static const char *const names[] = {"host", "x-amz-date", "x-amz-content-sha256",
                                            "x-amz-security-token", "authorization"};
        for (size_t h = 0; h < LLMGWI_BASE_COUNT(names); h++) {
            const char *want = json_string_value(json_object_get(headers, names[h])),
                       *got = value(&l, names[h]);
            if (!want != !got || (want && strcmp(want, got) != 0))
                fail_msg("vector %zu, %s: %s, expected %s", i, names[h], got ? got : "none",
                         want ? want : "none");
        }
        llmgwi_base_buf_free(&l.buf);
        llmgwi_base_buf_free(&url);
    }
    json_decref(vectors);
    free(text);
}

/* ---- ../shared/fixtures/sigv4-testsuite: AWS's own ---- */

#define SUITE_HEADERS 16

/* A file of a case; the caller frees it. NULL: it is not there. CR is left out. */
static char *suite_file(const char *dir, const char *name, const char *end) {
    char path[400];
    size_t n, to = 0;
    snprintf(path, sizeof path, "sigv4-testsuite/%s%s/%s.%s", dir, name, name, end);
    char *text = fixture_read(path, &n);
    for (size_t i = 0; text && i <= n; i++)
        if (text[i] != '\r') text[to++] = text[i];
    return text;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const llmgwi_dialect_signed *)a)->name, ((const llmgwi_dialect_signed *)b)->name);
}

/* Splits "name:value" lines in place, up to an empty one; names in lower case, sorted. *end: what stands behind. */
static size_t suite_headers(char *p, llmgwi_dialect_signed *headers, char **end) {
    size_t n = 0;
    while (*p && *p != '\n') {
        char *next = strchr(p, '\n'), *colon = strchr(p, ':');
        assert_true(n < SUITE_HEADERS && colon);
        if (next) *next = 0;
        *colon = 0;
        for (char *c = p; *c; c++) *c = llmgwi_base_lower(*c);
        headers[n].name = p;
        headers[n++].value = llmgwi_base_trim(llmgwi_base_cstr(colon + 1));
        p = next ? next + 1 : colon + 1 + strlen(colon + 1);
    }
    qsort(headers, n, sizeof *headers, by_name);
    *end = *p ? p + 1 : p;
    return n;
}

/* From the canonical request to Authorization: holds for every case. */
static void suite_sign(const char *dir, const char *name) {
    llmgwi_dialect_signed headers[SUITE_HEADERS];
    llmgwi_dialect_aws aws = signer("us-east-1", "service");
    llmgwi_base_buf line;
    char *canonical = suite_file(dir, name, "creq"), *want = suite_file(dir, name, "authz"), *end;
    assert_true(canonical && want);
    size_t n = strlen(canonical);
    char *copy = strdup(canonical), *head = strchr(strchr(strchr(copy, '\n') + 1, '\n') + 1, '\n') + 1;
    size_t count = suite_headers(head, headers, &end);
    llmgwi_base_buf_init(&line, &unit_mem, 1 << 16);
    llmgwi_dialect_authorize(&line, &aws, "20150830T123600Z", llmgwi_base_view(canonical, n), headers, count);
    if (strcmp(line.p, want) != 0) fail_msg("%s: %s, expected %s", name, line.p, want);
    llmgwi_base_buf_free(&line);
    free(copy);
    free(canonical);
    free(want);
}

/* From the request to the canonical request: for those that need no putting in order, of queries or of headers, and
   whose path holds nothing to be encoded (the suite encodes it once, as for S3). */
static void suite_canonical(const char *dir, const char *name) {
    llmgwi_dialect_signed headers[SUITE_HEADERS];
    llmgwi_base_buf got;
    unsigned char digest[32];
    char hex[65], *body, method[16], target[400];
    char *request = suite_file(dir, name, "req"), *want = suite_file(dir, name, "creq");
    assert_true(request && want && sscanf(request, "%15s %399s", method, target) == 2);
    size_t count = suite_headers(strchr(request, '\n') + 1, headers, &body);
    llmgwi_crypto_sha256_of(body, strlen(body), digest);
    llmgwi_crypto_hex(digest, hex);
    char *query = strchr(target, '?');
    if (query) *query++ = 0;
    llmgwi_base_buf_init(&got, &unit_mem, 1 << 16);
    llmgwi_dialect_canonical(&got, method, llmgwi_base_cstr(target), llmgwi_base_cstr(query), headers, count,
                             hex);
    if (strcmp(got.p, want) != 0) fail_msg("%s: '%s', expected '%s'", name, got.p, want);
    llmgwi_base_buf_free(&got);
    free(request);
    free(want);
}

static void test_suite(void **state) {
    static const struct {
        const char *dir, *name;
        bool canonical;
    } cases[] = {
        {"", "get-vanilla", true},
        {"", "get-vanilla-query", true},
        {"", "get-vanilla-empty-query-key", true},
        {"", "get-vanilla-query-unreserved", true},
        {"", "get-unreserved", true},
        {"", "post-header-key-case", true},
        {"", "post-header-key-sort", true},
        {"", "post-header-value-case", true},
        {"", "post-vanilla", true},
        {"", "post-vanilla-query", true},
        {"", "post-vanilla-empty-query-value", true},
        {"", "post-x-www-form-urlencoded", true},
        {"", "post-x-www-form-urlencoded-parameters", true},
        {"post-sts-token/", "post-sts-header-before", true},
        {"post-sts-token/", "post-sts-header-after", true},
        {"", "get-header-key-duplicate", false},
        {"", "get-header-value-multiline", false},
        {"", "get-header-value-order", false},
        {"", "get-header-value-trim", false},
        {"", "get-utf8", false},
        {"", "get-vanilla-query-order-encoded", false},
        {"", "get-vanilla-query-order-key", false},
        {"", "get-vanilla-query-order-key-case", false},
        {"", "get-vanilla-query-order-value", false},
        {"", "get-vanilla-utf8-query", false},
        {"", "get-vanilla-with-session-token", false},
        {"normalize-path/", "get-relative", false},
        {"normalize-path/", "get-relative-relative", false},
        {"normalize-path/", "get-slash", false},
        {"normalize-path/", "get-slash-dot-slash", false},
        {"normalize-path/", "get-slash-pointless-dot", false},
        {"normalize-path/", "get-slashes", false},
        {"normalize-path/", "get-space", false},
        {"normalize-path/", "get-special-character", false},
    };
    (void)state;
    char *there = suite_file("", "get-vanilla", "req");
    FIXTURES_OR_SKIP(there ? 1 : 0);
    free(there);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(cases); i++) {
        suite_sign(cases[i].dir, cases[i].name);
        if (cases[i].canonical) suite_canonical(cases[i].dir, cases[i].name);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),       cmocka_unit_test(test_published_request),
        cmocka_unit_test(test_requests),   cmocka_unit_test(test_what_is_signed),
        cmocka_unit_test(test_long_token), cmocka_unit_test(test_stamps),
        cmocka_unit_test(test_golden),     cmocka_unit_test(test_suite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
