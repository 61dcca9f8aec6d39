/* What providers say when they refuse: bodies, statuses and headers to errors. */
#include "unit.h"

static llmgw_error read_error(int status, const char *body) {
    llmgw_error error;
    memset(&error, 0x55, sizeof error);
    llmgwi_dialect_error(&error, status, llmgwi_base_cstr(unit_quoted(body)), 64);
    assert_int_equal(error.http_status, status);
    assert_true(memchr(error.text, 0, sizeof error.text) != NULL);
    return error;
}

typedef struct error_row {
    int status;
    const char *body;
    llmgw_code code;
    const char *text; /* a part of it */
} error_row;

static void check(const error_row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        llmgw_error error = read_error(rows[i].status, rows[i].body);
        if (error.code != rows[i].code)
            fail_msg("row %zu (%d %s): %s, expected %s", i, rows[i].status, rows[i].body,
                     llmgw_code_name(error.code), llmgw_code_name(rows[i].code));
        assert_int_equal(error.retryable, llmgwi_base_error_find(rows[i].code)->retryable);
        unit_has(error.text, rows[i].text);
        if (rows[i].status) unit_has(error.text, "HTTP ");
    }
}
#define CHECK(rows) check(rows, LLMGWI_BASE_COUNT(rows))

static void test_statuses(void **state) {
    static const struct {
        int status;
        llmgw_code code;
    } rows[] = {
        {300, LLMGW_E_PROTOCOL},  {308, LLMGW_E_PROTOCOL},     {400, LLMGW_E_BAD_REQUEST},
        {401, LLMGW_E_AUTH},      {402, LLMGW_E_QUOTA},        {403, LLMGW_E_AUTH},
        {404, LLMGW_E_NOT_FOUND}, {405, LLMGW_E_BAD_REQUEST},  {408, LLMGW_E_PROVIDER},
        {409, LLMGW_E_PROVIDER},  {413, LLMGW_E_BAD_REQUEST},  {422, LLMGW_E_BAD_REQUEST},
        {424, LLMGW_E_PROVIDER},  {429, LLMGW_E_RATE_LIMITED}, {451, LLMGW_E_BAD_REQUEST},
        {500, LLMGW_E_PROVIDER},  {502, LLMGW_E_PROVIDER},     {503, LLMGW_E_OVERLOADED},
        {504, LLMGW_E_PROVIDER},  {520, LLMGW_E_PROVIDER},     {529, LLMGW_E_OVERLOADED},
        {599, LLMGW_E_PROVIDER},  {600, LLMGW_E_PROTOCOL},     {100, LLMGW_E_PROTOCOL},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        static const char *const bodies[] = {"", "{}", "{'error':{}}",
                                             "{'error':{'message':'why','type':null}}"};
        for (size_t j = 0; j < LLMGWI_BASE_COUNT(bodies); j++) {
            char where[16];
            llmgw_error error = read_error(rows[i].status, bodies[j]);
            assert_int_equal(error.code, rows[i].code);
            snprintf(where, sizeof where, "HTTP %d", rows[i].status);
            unit_has(error.text, where);
        }
    }
}

static void test_openai_table(void **state) {
    static const error_row rows[] = {
        {401,
         "{'error':{'message':'Incorrect API "
         "key','type':'invalid_request_error','param':null,'code':'invalid_api_key'}}",
         LLMGW_E_AUTH, "HTTP 401: Incorrect API key"},
        {429,
         "{'error':{'message':'Rate limit "
         "reached','type':'tokens','param':null,'code':'rate_limit_exceeded'}}",
         LLMGW_E_RATE_LIMITED, "Rate limit reached"},
        {429,
         "{'error':{'message':'You exceeded your current "
         "quota','type':'insufficient_quota','code':'insufficient_quota'}}",
         LLMGW_E_QUOTA, "quota"},
        {429, "{'error':{'message':'x','type':'insufficient_quota','code':null}}", LLMGW_E_QUOTA, "x"},
        {429, "{'error':{'message':'x','code':'credit_balance_exhausted'}}", LLMGW_E_QUOTA, "x"},
        {429, "{'error':{'message':'x','code':'billing_not_active'}}", LLMGW_E_QUOTA, "x"},
        {400,
         "{'error':{'message':'too long','type':'invalid_request_error','code':'context_length_exceeded'}}",
         LLMGW_E_CONTEXT_LENGTH, "too long"},
        {400,
         "{'error':{'message':'This model\\u0027s maximum context length is 8192 "
         "tokens.','type':'invalid_request_error','code':null}}",
         LLMGW_E_CONTEXT_LENGTH, "model's maximum context length"},
        {400,
         "{'error':{'message':'Unsupported "
         "parameter','type':'invalid_request_error','param':'max_tokens','code':'unsupported_parameter'}}",
         LLMGW_E_BAD_REQUEST, "Unsupported parameter"},
        {400, "{'error':{'message':'no','code':'content_policy_violation'}}", LLMGW_E_FILTERED, "no"},
        {404,
         "{'error':{'message':'The model does not "
         "exist','type':'invalid_request_error','code':'model_not_found'}}",
         LLMGW_E_NOT_FOUND, "does not exist"},
        {404, "{'error':{'message':'unknown url','type':'invalid_request_error','code':null}}",
         LLMGW_E_NOT_FOUND, "url"},
        {403, "{'error':{'message':'country','type':'invalid_request_error'}}", LLMGW_E_AUTH, "country"},
        {500, "{'error':{'message':'oops','type':'server_error','code':null}}", LLMGW_E_PROVIDER, "oops"},
        {503, "{'error':{'message':'full','type':'service_unavailable'}}", LLMGW_E_OVERLOADED, "full"},
    };
    CHECK(rows);
}

static void test_azure_filter(void **state) {
    static const error_row rows[] = {
        {400,
         "{'error':{'message':'The response was "
         "filtered','type':null,'param':'prompt','code':'content_filter',"
         "'status':400,'innererror':{'code':'ResponsibleAIPolicyViolation','content_filter_result':{'hate':{"
         "'filtered':true,'severity':'high'}}}}}",
         LLMGW_E_FILTERED, "HTTP 400 (filtered: hate): The response was filtered"},
        {429, "{'error':{'code':'429','message':'Requests have exceeded call rate limit'}}",
         LLMGW_E_RATE_LIMITED, "rate"},
        {401, "{'error':{'code':'401','message':'Access denied'}}", LLMGW_E_AUTH, "denied"},
        {404, "{'error':{'code':'DeploymentNotFound','message':'no such deployment'}}", LLMGW_E_NOT_FOUND,
         "deployment"},
    };
    CHECK(rows);
}

static void test_anthropic_table(void **state) {
#define ANTHROPIC(type, message)                                                                             \
    "{'type':'error','error':{'type':'" type "','message':'" message "'},'request_id':'r'}"
    static const error_row rows[] = {
        {400, ANTHROPIC("invalid_request_error", "bad field"), LLMGW_E_BAD_REQUEST, "HTTP 400: bad field"},
        {400, ANTHROPIC("invalid_request_error", "prompt is too long: 210000 tokens > 200000"),
         LLMGW_E_CONTEXT_LENGTH, "prompt is too long"},
        {401, ANTHROPIC("authentication_error", "invalid x-api-key"), LLMGW_E_AUTH, "invalid"},
        {402, ANTHROPIC("billing_error", "pay"), LLMGW_E_QUOTA, "pay"},
        {400, ANTHROPIC("billing_error", "pay"), LLMGW_E_QUOTA, "pay"},
        {403, ANTHROPIC("permission_error", "no"), LLMGW_E_AUTH, "no"},
        {404, ANTHROPIC("not_found_error", "model: x"), LLMGW_E_NOT_FOUND, "model: x"},
        {413, ANTHROPIC("request_too_large", "big"), LLMGW_E_BAD_REQUEST, "big"},
        {429, ANTHROPIC("rate_limit_error", "slow"), LLMGW_E_RATE_LIMITED, "slow"},
        {500, ANTHROPIC("api_error", "oops"), LLMGW_E_PROVIDER, "oops"},
        {504, ANTHROPIC("timeout_error", "late"), LLMGW_E_PROVIDER, "late"},
        {529, ANTHROPIC("overloaded_error", "Overloaded"), LLMGW_E_OVERLOADED, "HTTP 529: Overloaded"},
        {0, ANTHROPIC("overloaded_error", "Overloaded"), LLMGW_E_OVERLOADED, "Overloaded"},
        {0, ANTHROPIC("rate_limit_error", "slow"), LLMGW_E_RATE_LIMITED, "slow"},
    };
    CHECK(rows);
}

static void test_gemini_table(void **state) {
#define GEMINI(code, status, more)                                                                           \
    "{'error':{'code':" code ",'message':'why','status':'" status "','details':[" more "]}}"
    static const error_row rows[] = {
        {400, GEMINI("400", "INVALID_ARGUMENT", ""), LLMGW_E_BAD_REQUEST, "why"},
        {400,
         GEMINI("400", "INVALID_ARGUMENT",
                "{'@type':'type.googleapis.com/"
                "google.rpc.ErrorInfo','reason':'API_KEY_INVALID','domain':'googleapis.com'}"),
         LLMGW_E_AUTH, "why"},
        {401, GEMINI("401", "UNAUTHENTICATED", ""), LLMGW_E_AUTH, "why"},
        {403, GEMINI("403", "PERMISSION_DENIED", ""), LLMGW_E_AUTH, "why"},
        {404, GEMINI("404", "NOT_FOUND", ""), LLMGW_E_NOT_FOUND, "why"},
        {429, GEMINI("429", "RESOURCE_EXHAUSTED", ""), LLMGW_E_RATE_LIMITED, "HTTP 429: why"},
        {500, GEMINI("500", "INTERNAL", ""), LLMGW_E_PROVIDER, "why"},
        {503, GEMINI("503", "UNAVAILABLE", ""), LLMGW_E_OVERLOADED, "why"},
        {504, GEMINI("504", "DEADLINE_EXCEEDED", ""), LLMGW_E_PROVIDER, "why"},
        {400, GEMINI("400", "FAILED_PRECONDITION", ""), LLMGW_E_BAD_REQUEST, "why"},
        {400,
         "{'error':{'code':400,'message':'The input token count (1200000) exceeds the maximum number of "
         "tokens allowed (1048576).','status':'INVALID_ARGUMENT'}}",
         LLMGW_E_CONTEXT_LENGTH, "exceeds"},
        {429, "[" GEMINI("429", "RESOURCE_EXHAUSTED", "") "]", LLMGW_E_RATE_LIMITED, "why"},
        {503, "[\r\n" GEMINI("503", "UNAVAILABLE", "") "\r\n]\r\n", LLMGW_E_OVERLOADED, "why"},
        {0, GEMINI("429", "RESOURCE_EXHAUSTED", ""), LLMGW_E_RATE_LIMITED, "why"},
        {0, "{'error':{'code':503,'message':'why'}}", LLMGW_E_OVERLOADED, "why"},
    };
    CHECK(rows);
}

static void test_gemini_retry_info(void **state) {
    static const struct {
        const char *delay;
        int64_t ms;
    } rows[] = {{"34.4s", 34400}, {"46s", 46000}, {"0.250s", 250}, {"1.0009s", 1000},
                {"x", 0},         {"-5s", 0},     {"", 0}};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        char body[512];
        snprintf(body, sizeof body,
                 GEMINI("429", "RESOURCE_EXHAUSTED",
                        "{'@type':'type.googleapis.com/google.rpc.Help','links':[{'url':'x'}]},"
                        "{'@type':'type.googleapis.com/google.rpc.RetryInfo','retryDelay':'%s'}"),
                 rows[i].delay);
        assert_int_equal(read_error(429, body).retry_after_ms, rows[i].ms);
    }
}

/* WIRE.md 4: a daily quota is used up; waiting half a minute does not help. */
static void test_gemini_daily_quota(void **state) {
    static const error_row rows[] = {
        {429,
         GEMINI("429", "RESOURCE_EXHAUSTED",
                "{'@type':'type.googleapis.com/google.rpc.QuotaFailure','violations':[{'quotaMetric':'m',"
                "'quotaId':'GenerateRequestsPerDayPerProjectPerModel-FreeTier','quotaValue':'250'}]},"
                "{'@type':'type.googleapis.com/google.rpc.RetryInfo','retryDelay':'34s'}"),
         LLMGW_E_QUOTA, "why"},
        {429,
         GEMINI("429", "RESOURCE_EXHAUSTED",
                "{'@type':'type.googleapis.com/google.rpc.QuotaFailure','violations':[{'quotaMetric':'m',"
                "'quotaId':'GenerateRequestsPerMinutePerProjectPerModel-FreeTier'}]}"),
         LLMGW_E_RATE_LIMITED, "why"},
    };
    CHECK(rows);
}

static void test_other_shapes(void **state) {
    static const error_row rows[] = {
        /* mistral: no wrapper; 422 with a list */
        {401,
         "{'object':'error','message':'Unauthorized','type':'invalid_request_error','param':null,'code':"
         "null}",
         LLMGW_E_AUTH, "HTTP 401: Unauthorized"},
        {429,
         "{'object':'error','message':'Requests rate limit exceeded','type':'rate_limited','code':'1300'}",
         LLMGW_E_RATE_LIMITED, "rate limit"},
        {422,
         "{'object':'error','message':{'detail':[{'type':'extra_forbidden','loc':['body','x'],'msg':'Extra "
         "inputs'}]},'type':'invalid_request_error'}",
         LLMGW_E_BAD_REQUEST, "HTTP 422"},
        {422, "{'detail':[{'type':'missing','loc':['body','model'],'msg':'Field required','input':{}}]}",
         LLMGW_E_BAD_REQUEST, "HTTP 422: Field required"},
        {401, "{'detail':'Unauthorized'}", LLMGW_E_AUTH, "HTTP 401: Unauthorized"},
        /* openrouter */
        {502,
         "{'error':{'code':502,'message':'Provider returned "
         "error','metadata':{'provider_name':'X','raw':'y'}},'user_id':'u'}",
         LLMGW_E_PROVIDER, "Provider returned error"},
        {402, "{'error':{'code':402,'message':'Insufficient credits'}}", LLMGW_E_QUOTA, "credits"},
        {0, "{'error':{'code':429,'message':'slow'}}", LLMGW_E_RATE_LIMITED, "slow"},
        {0, "{'code':401,'message':'No auth'}", LLMGW_E_AUTH, "No auth"},
        /* ollama */
        {404, "{'error':'model \\u0022x\\u0022 not found, try pulling it first'}", LLMGW_E_NOT_FOUND,
         "model \"x\" not found"},
        {0, "'boom'", LLMGW_E_PROVIDER, "boom"},
        /* deepseek, groq, llama.cpp */
        {402,
         "{'error':{'message':'Insufficient "
         "Balance','type':'unknown_error','param':null,'code':'invalid_request_error'}}",
         LLMGW_E_QUOTA, "Balance"},
        {422, "{'error':{'message':'bad','type':'invalid_request_error'}}", LLMGW_E_BAD_REQUEST, "bad"},
        {0, "{'message':'Failed','type':'invalid_request_error','code':'tool_use_failed','status_code':400}",
         LLMGW_E_PROVIDER, "Failed"},
        {503, "{'error':{'code':503,'message':'Loading model','type':'unavailable_error'}}",
         LLMGW_E_OVERLOADED, "Loading"},
    };
    CHECK(rows);
}

static void test_not_json(void **state) {
    static const error_row rows[] = {
        {502, "<html><head><title>502 Bad Gateway</title></head>\r\n<body></body></html>\r\n",
         LLMGW_E_PROVIDER, "HTTP 502"},
        {503, "upstream connect error", LLMGW_E_OVERLOADED, "upstream connect error"},
        {500, "", LLMGW_E_PROVIDER, "HTTP 500"},
        {500, "   \n", LLMGW_E_PROVIDER, "HTTP 500"},
        {500, "{'error':{'message':'cut", LLMGW_E_PROVIDER, "HTTP 500"},
        {429, "123", LLMGW_E_RATE_LIMITED, "HTTP 429"},
        {429, "null", LLMGW_E_RATE_LIMITED, "HTTP 429"},
        {400, "{'error':null}", LLMGW_E_BAD_REQUEST, "HTTP 400"},
        {400, "{'error':[[[[[[[[[[1]]]]]]]]]]}", LLMGW_E_BAD_REQUEST, "HTTP 400"},
        {0, "", LLMGW_E_PROVIDER, "provider"},
    };
    CHECK(rows);
    assert_null(strchr(read_error(502, rows[0].body).text, '\n'));
    assert_null(strchr(read_error(502, rows[0].body).text, '\r'));
}

/* Foreign bytes: the text is UTF-8 without control characters, at any length. */
static void test_foreign_bytes(void **state) {
    static char body[4000];
    static const char *const fillers[] = {"x",    "\xC3\xA9", "\xF0\x9F\x98\x80", "\xFF", "\xC3", "\x01",
                                          "\x7F", "\\n",      "\\u00e9"};
    for (size_t f = 0; f < LLMGWI_BASE_COUNT(fillers); f++)
        for (size_t lead = 0; lead < 4; lead++)
            for (int json = 0; json < 2; json++) {
                size_t n = (size_t)snprintf(body, sizeof body, "%s%.*s", json ? "{'error':{'message':'" : "",
                                            (int)lead, "abcd");
                while (n + 20 < 3000) n += (size_t)snprintf(body + n, sizeof body - n, "%s", fillers[f]);
                if (json) snprintf(body + n, sizeof body - n, "'}}");
                llmgw_error error = read_error(500, body);
                assert_true(unit_is_utf8(error.text));
                assert_true(strlen(error.text) < LLMGW_ERROR_TEXT);
                for (const char *p = error.text; *p; p++) assert_true((unsigned char)*p >= ' ' && *p != 0x7F);
            }
}

/* A long message is cut, and decoded all the same: a key with a slash in it is known by its letters only. */
static void test_long_escapes(void **state) {
    static const char *const ends[] = {"\\/", "\\u00e9", "\\n", "e"};
    static const char *const begins[] = {"a\\/b+c\\u002fd",
                                         "a/b+c/d"}; /* the other fills the text to its last byte */
    for (size_t e = 0; e < 2 * LLMGWI_BASE_COUNT(ends); e++)
        for (size_t fill = 480; fill < 530; fill++) {
            char body[1200];
            llmgw_error error;
            size_t n =
                (size_t)snprintf(body, sizeof body, "{\"error\":{\"message\":\"you sent %s ", begins[e % 2]);
            memset(body + n, '-', fill);
            snprintf(body + n + fill, sizeof body - n - fill, "%s%s\"}}", ends[e / 2], ends[e / 2]);
            memset(&error, 0, sizeof error);
            llmgwi_dialect_error(&error, 400, llmgwi_base_cstr(body), 64);
            unit_has(error.text, "you sent a/b+c/d ---");
            assert_null(strchr(error.text, '\\'));
        }
}

static void test_body_with_nul(void **state) {
    static const char body[] = "{\"error\":{\"message\":\"a\\u0000b\"}}";
    llmgw_error error = read_error(500, body);
    unit_has(error.text, "HTTP 500");
    llmgwi_dialect_error(&error, 500, llmgwi_base_view("a\0b", 3), 64);
    unit_has(error.text, "HTTP 500");
    assert_true(unit_is_utf8(error.text));
}

static void test_deep_body(void **state) {
    static char body[8000];
    size_t n = 0;
    for (int i = 0; i < 500; i++) n += (size_t)snprintf(body + n, sizeof body - n, "{'error':");
    snprintf(body + n, sizeof body - n, "1");
    assert_int_equal(read_error(500, body).code, LLMGW_E_PROVIDER);
}

/* ---- headers ---- */

#define WALL 1445412480 /* Wed, 21 Oct 2015 07:28:00 GMT */

static int64_t retry_after(const char *name, const char *value) {
    llmgwi_dialect_meta meta;
    memset(&meta, 0, sizeof meta);
    llmgwi_dialect_header(&meta, llmgwi_base_cstr(name), llmgwi_base_cstr(value), WALL - 10);
    return meta.retry_after_ms;
}

static void test_retry_after(void **state) {
    static const struct {
        const char *value;
        int64_t ms;
    } rows[] = {
        {"120", 120000},
        {"1.5", 1500},
        {"0", 0},
        {"0.25", 250},
        {"7.0", 7000},
        {"Wed, 21 Oct 2015 07:28:00 GMT", 10000},
        {"Wed, 21 Oct 2015 07:27:50 GMT", 0}, /* now */
        {"Wed, 21 Oct 2015 07:27:00 GMT", 0}, /* past */
        {"Thu, 22 Oct 2015 07:28:00 GMT", 86410000},
        {"Mon, 29 Feb 2016 00:00:00 GMT", 0}, /* filled in below */
        {"-5", 0},
        {"-0.5", 0},
        {"soon", 0},
        {"", 0},
        {"12x", 0},
        {"1e3", 0},
        {".5", 0},
        {"Wed, 21 Foo 2015 07:28:00 GMT", 0},
        {"Wed, 21 ctN 2015 07:28:00 GMT", 0},
        {"Wed, 21 Oct", 0},
        {"nan", 0},
        {"inf", 0},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        if (strstr(rows[i].value, "2016")) continue;
        int64_t got = retry_after("Retry-After", rows[i].value);
        if (got != rows[i].ms) fail_msg("'%s': %lld", rows[i].value, (long long)got);
    }
    assert_int_equal(retry_after("retry-after", "Mon, 29 Feb 2016 00:00:00 GMT"),
                     (1456704000LL - WALL + 10) * 1000);
}

/* A number without end is a long wait, not a negative one. */
static void test_retry_after_huge(void **state) {
    static const char *const rows[] = {"9999999999", "99999999999999999999999999", "18446744073709551616",
                                       "Fri, 31 Dec 9999 23:59:59 GMT"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++)
        assert_true(retry_after("Retry-After", rows[i]) >= 3600000 /* what retry_after_max_ms cuts it to */);
}

static void test_retry_after_ms(void **state) {
    static const struct {
        const char *value;
        int64_t ms;
    } rows[] = {{"1500", 1500}, {"250.7", 250}, {"0", 0}, {"-1", 0}, {"x", 0}, {"", 0}};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++)
        assert_int_equal(retry_after("Retry-After-Ms", rows[i].value), rows[i].ms);
}

static int64_t both(const char *first, const char *first_value, const char *second,
                    const char *second_value) {
    llmgwi_dialect_meta meta;
    memset(&meta, 0, sizeof meta);
    llmgwi_dialect_header(&meta, llmgwi_base_cstr(first), llmgwi_base_cstr(first_value), WALL);
    llmgwi_dialect_header(&meta, llmgwi_base_cstr(second), llmgwi_base_cstr(second_value), WALL);
    return meta.retry_after_ms;
}

/* The one in milliseconds goes first, in any order; garbage in it does not undo the other. */
static void test_retry_after_both(void **state) {
    assert_int_equal(both("retry-after-ms", "1500", "retry-after", "2"), 1500);
    assert_int_equal(both("retry-after", "2", "retry-after-ms", "1500"), 1500);
    assert_int_equal(both("retry-after-ms", "garbage", "retry-after", "2"), 2000);
    assert_int_equal(both("retry-after", "2", "retry-after-ms", "garbage"), 2000);
}

static void test_should_retry(void **state) {
    static const struct {
        const char *value;
        int want;
    } rows[] = {{"true", 1}, {"false", -1}, {"maybe", 0}, {"", 0}};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_dialect_meta meta;
        memset(&meta, 0, sizeof meta);
        llmgwi_dialect_header(&meta, llmgwi_base_cstr("X-Should-Retry"), llmgwi_base_cstr(rows[i].value),
                              WALL);
        assert_int_equal(meta.should_retry, rows[i].want);
    }
}

static void test_content_type(void **state) {
    static const struct {
        const char *value;
        bool json, html;
    } rows[] = {{"application/json", true, false},
                {"Application/JSON; charset=utf-8", true, false},
                {"text/html; charset=utf-8", false, true},
                {"text/event-stream", false, false}};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_dialect_meta meta;
        memset(&meta, 0, sizeof meta);
        llmgwi_dialect_header(&meta, llmgwi_base_cstr("CONTENT-type"), llmgwi_base_cstr(rows[i].value), WALL);
        assert_int_equal(meta.json, rows[i].json);
        assert_int_equal(meta.html, rows[i].html);
    }
}

static void test_dates(void **state) {
    static const struct {
        const char *text;
        int64_t seconds;
    } rows[] = {{"Thu, 01 Jan 1970 00:00:01 GMT", 1},
                {"Tue, 29 Feb 2000 12:00:00 GMT", 951825600},
                {"Wed, 21 Oct 2015 07:28:00 GMT", WALL},
                {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
                {"Fri, 31 Dec 2027 23:59:59 GMT", 1830297599}};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++)
        assert_int_equal(llmgwi_dialect_date(llmgwi_base_cstr(rows[i].text)), rows[i].seconds);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statuses),           cmocka_unit_test(test_openai_table),
        cmocka_unit_test(test_azure_filter),       cmocka_unit_test(test_anthropic_table),
        cmocka_unit_test(test_gemini_table),       cmocka_unit_test(test_gemini_retry_info),
        cmocka_unit_test(test_gemini_daily_quota), cmocka_unit_test(test_other_shapes),
        cmocka_unit_test(test_not_json),           cmocka_unit_test(test_foreign_bytes),
        cmocka_unit_test(test_long_escapes),       cmocka_unit_test(test_body_with_nul),
        cmocka_unit_test(test_deep_body),          cmocka_unit_test(test_retry_after),
        cmocka_unit_test(test_retry_after_huge),   cmocka_unit_test(test_retry_after_ms),
        cmocka_unit_test(test_retry_after_both),   cmocka_unit_test(test_should_retry),
        cmocka_unit_test(test_content_type),       cmocka_unit_test(test_dates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
