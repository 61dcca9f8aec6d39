/* When to come back, and what is left: Retry-After, dates, durations, limit headers; and what an error's text
   and headers change in its kind. */
#include "unit.h"

#define WALL 1771371851 /* 2026-02-17T23:44:11Z */

static llmgwi_dialect_meta meta_of(const char *const *headers) {
    llmgwi_dialect_meta meta;
    memset(&meta, 0, sizeof meta);
    for (size_t i = 0; headers[i]; i += 2)
        llmgwi_dialect_header(&meta, llmgwi_base_cstr(headers[i]), llmgwi_base_cstr(headers[i + 1]), WALL);
    return meta;
}

static void limit_is(const llmgwi_dialect_limit *got, int64_t limit, int64_t remaining, int64_t reset_ms) {
    assert_true(got->seen);
    assert_int_equal(got->limit, limit);
    assert_int_equal(got->remaining, remaining);
    assert_int_equal(got->reset_ms, reset_ms);
}

/* ---- dates and durations ---- */

static void test_dates(void **state) {
    static const struct {
        const char *text;
        int64_t seconds;
    } rows[] = {
        {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
        {"Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
        {"Sun Nov  6 08:49:37 1994", 784111777},
        {"Sun Nov 06 08:49:37 1994", 784111777},
        {"Tuesday, 17-Feb-26 23:44:11 GMT", WALL},
        {"Tuesday, 17-Feb-2026 23:44:11 GMT", WALL},
        {"Tue Feb 17 23:44:11 2026", WALL},
        {"Tue, 17 Feb 2026 23:44:11 GMT", WALL},
        {"Wednesday, 31-Dec-69 23:59:59 GMT", 3155759999},
        {"Thursday, 01-Jan-70 00:00:01 GMT", 1},
        {"Tuesday, 17-Foo-26 23:44:11 GMT", 0},
        {"Tuesday, 17-bFe-26 23:44:11 GMT", 0},
        {"Tuesday, 17-Feb-26", 0},
        {"Tue Feb 17 23:44:11", 0},
        {"Tue Feb 17 24:00:00 2026", 0},
        {"Tue Feb 17 23:60:00 2026", 0},
        {"Tue Feb 17 23:59:61 2026", 0},
        {"Tue Feb 17 -3:00:00 2026", 0},
        {"Tue Feb 00 23:00:00 2026", 0},
        {"Tue Feb 32 23:00:00 2026", 0},
        {"Tue, 17 Feb -999 23:44:11 GMT", 0},
        {"Tuesday Tuesday Tuesday Tuesday Tuesday Tuesday, 17-Feb-26 23:44:11 GMT", 0},
        {"", 0},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        int64_t got = llmgwi_dialect_date(llmgwi_base_cstr(rows[i].text));
        if (got != rows[i].seconds) fail_msg("'%s': %lld", rows[i].text, (long long)got);
    }
}

static void test_retry_after_dates(void **state) {
    static const struct {
        const char *text;
        int64_t ms;
    } rows[] = {{"Tue, 17 Feb 2026 23:44:21 GMT", 10000},
                {"Tuesday, 17-Feb-26 23:44:21 GMT", 10000},
                {"Tue Feb 17 23:44:21 2026", 10000},
                {"Tue Feb 17 23:44:01 2026", 0},
                {"Tuesday, 17-Feb-25 23:44:21 GMT", 0}};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        const char *const headers[] = {"retry-after", rows[i].text, NULL};
        assert_int_equal(meta_of(headers).retry_after_ms, rows[i].ms);
    }
}

static void test_stamps(void **state) {
    static const struct {
        const char *text;
        int64_t seconds;
    } rows[] = {
        {"2026-02-17T23:44:11Z", WALL},
        {"2026-02-17t23:44:11z", WALL},
        {"2026-02-17 23:44:11Z", WALL},
        {"2026-02-17T23:44:11.000Z", WALL},
        {"2026-02-17T23:44:11.001Z", WALL + 1},
        {"2026-02-17T23:44:11.999999999Z", WALL + 1},
        {"2026-02-18T00:44:11+01:00", WALL},
        {"2026-02-17T18:14:11.5-05:30", WALL + 1},
        {"2026-02-17T23:44:11", 0},
        {"2026-02-17T23:44:11Zx", 0},
        {"2026-02-17T23:44:11+1:00x", 0},
        {"2026-02-17T23:44:11+99:00", 0},
        {"2026-02-17T23:44:11+01:-5", 0},
        {"2026-02-17T23:44Z", 0},
        {"2026-13-17T23:44:11Z", 0},
        {"2026-02-17", 0},
        {"20260217T234411Z", 0},
        {"", 0},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        int64_t got = llmgwi_dialect_stamp(llmgwi_base_cstr(rows[i].text));
        if (got != rows[i].seconds) fail_msg("'%s': %lld", rows[i].text, (long long)got);
    }
}

static void test_resets(void **state) {
    static const struct {
        const char *text;
        int64_t ms;
    } rows[] = {
        {"0s", 0},
        {"4ms", 4},
        {"1.2s", 1200},
        {"6m0s", 360000},
        {"1h2m3s", 3723000},
        {"2m59.56s", 179560},
        {"1.5h", 5400000},
        {"17.5ms", 17},
        {"350us", 0},
        {"350\xC2\xB5s", 0},
        {"1s500us", 1000},
        {"60", 60000},
        {"0", 0},
        {"0.25", 250},
        {"0.123456789012345678901234567890", 123},
        {"7.66", 7660},
        {"2026-02-17T23:44:21Z", 10000},
        {"2026-02-17T23:44:01Z", 0}, /* past: full already */
        {"2026-02-17T23:44:11.5Z", 1000},
        {"1771371861000", 10000}, /* epoch ms */
        {"1771371851250", 250},
        {"1771371861", 10000}, /* epoch s */
        {"1771371841000", 0},
        {"1771371841", 0},
        {"", -1},
        {"-1", -1},
        {"-5s", -1},
        {"s", -1},
        {"5x", -1},
        {"5 x", -1},
        {"1h2", -1},
        {"1h2m3s!", -1},
        {"1..2s", -1},
        {"nan", -1},
        {"1e3", -1},
        {"soon", -1},
        {"99999999999999999999", -1},
        {"99999999999999999999s", -1},
        {"99999999999h", -1},
        {"9999-12-31T23:59:59Z", -1},
        {"999999999999999", -1},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        int64_t got = llmgwi_dialect_reset(llmgwi_base_cstr(rows[i].text), WALL);
        if (got != rows[i].ms) fail_msg("'%s': %lld", rows[i].text, (long long)got);
    }
}

/* ---- limit headers ---- */

static void test_openai_limits(void **state) {
    static const char *const headers[] = {"X-RateLimit-Limit-Requests",     "10000",  /* */
                                          "x-ratelimit-remaining-requests", "9999",   /* */
                                          "x-ratelimit-reset-requests",     "6ms",    /* */
                                          "x-ratelimit-limit-tokens",       "200000", /* */
                                          "x-ratelimit-remaining-tokens",   "199000", /* */
                                          "x-ratelimit-reset-tokens",       "1m12s",  NULL};
    llmgwi_dialect_meta meta = meta_of(headers);
    limit_is(&meta.requests, 10000, 9999, 6);
    limit_is(&meta.tokens, 200000, 199000, 72000);
}

static void test_no_limits(void **state) {
    static const char *const headers[] = {"content-type",
                                          "application/json", /* */
                                          "x-ratelimit-policy",
                                          "10", /* */
                                          "x-ratelimit-limit-",
                                          "10", /* */
                                          "ratelimit-limit",
                                          "10", /* */
                                          "anthropic-ratelimit",
                                          "10",
                                          NULL};
    llmgwi_dialect_meta meta = meta_of(headers);
    assert_false(meta.requests.seen || meta.tokens.seen);
}

static void test_one_field(void **state) {
    static const char *const remaining[] = {"x-ratelimit-remaining-requests", "0", NULL};
    static const char *const reset[] = {"x-ratelimit-reset-tokens", "0s", NULL};
    llmgwi_dialect_meta meta = meta_of(remaining);
    limit_is(&meta.requests, -1, 0, -1);
    assert_false(meta.tokens.seen);
    meta = meta_of(reset);
    limit_is(&meta.tokens, -1, -1, 0);
    assert_false(meta.requests.seen);
}

static void test_hostile_limits(void **state) {
    static const char *const values[] = {"",
                                         "-1",
                                         "+5",
                                         "1.5",
                                         "x",
                                         "10x",
                                         "1 0",
                                         "0x10",
                                         "1e9",
                                         "99999999999999999999",
                                         "1000000000000000",
                                         "10, 10;w=60",
                                         "\xFF"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(values); i++) {
        const char *const alone[] = {"x-ratelimit-limit-requests", values[i], "x-ratelimit-remaining-tokens",
                                     values[i], NULL};
        const char *const after[] = {"x-ratelimit-limit-requests", "7", "x-ratelimit-limit-requests",
                                     values[i], NULL};
        llmgwi_dialect_meta meta = meta_of(alone);
        if (meta.requests.seen || meta.tokens.seen) fail_msg("'%s'", values[i]);
        meta = meta_of(after);
        limit_is(&meta.requests, 7, -1, -1);
    }
    static const char *const large[] = {"x-ratelimit-limit-tokens", "999999999999999", NULL};
    llmgwi_dialect_meta meta = meta_of(large);
    limit_is(&meta.tokens, 999999999999999, -1, -1);
}

static void test_anthropic_limits(void **state) {
    static const char *const headers[] = {"anthropic-ratelimit-requests-limit",
                                          "50", /* */
                                          "anthropic-ratelimit-requests-remaining",
                                          "49", /* */
                                          "anthropic-ratelimit-requests-reset",
                                          "2026-02-17T23:44:12Z", /* */
                                          "anthropic-ratelimit-input-tokens-limit",
                                          "1000", /* */
                                          "anthropic-ratelimit-input-tokens-remaining",
                                          "1", /* */
                                          "anthropic-ratelimit-tokens-limit",
                                          "90000", /* */
                                          "anthropic-ratelimit-tokens-remaining",
                                          "80000", /* */
                                          "anthropic-ratelimit-tokens-reset",
                                          "2026-02-17T23:45:11Z", /* */
                                          "anthropic-ratelimit-output-tokens-limit",
                                          "500", /* */
                                          "anthropic-ratelimit-output-tokens-remaining",
                                          "0",
                                          NULL};
    llmgwi_dialect_meta meta = meta_of(headers);
    limit_is(&meta.requests, 50, 49, 1000);
    limit_is(&meta.tokens, 90000, 80000, 60000); /* the plain one goes first */
}

/* Without the plain one, the tighter of input and output, in any order of the headers. */
static void test_anthropic_tighter(void **state) {
    static const struct {
        const char *in_limit, *in_left, *out_limit, *out_left;
        int64_t limit, left;
    } rows[] = {
        {"1000", "500", "100", "10", 100, 10},      {"1000", "50", "100", "10", 1000, 50},
        {"1000", "1000", "100", "100", 1000, 1000}, {"1000", "0", "100", "1", 1000, 0},
        {"1000", NULL, "100", "90", 100, 90},       {"1000", "900", "100", NULL, 1000, 900},
        {NULL, NULL, "100", "90", 100, 90},         {"1000", "900", NULL, NULL, 1000, 900},
        {NULL, NULL, "100", NULL, 100, -1},         {"0", "0", "100", "90", 100, 90},
        {"1000", "900", "0", "0", 1000, 900},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++)
        for (int backwards = 0; backwards < 2; backwards++) {
            const char *const names[] = {
                "anthropic-ratelimit-input-tokens-limit", "anthropic-ratelimit-input-tokens-remaining",
                "anthropic-ratelimit-output-tokens-limit", "anthropic-ratelimit-output-tokens-remaining"};
            const char *const values[] = {rows[i].in_limit, rows[i].in_left, rows[i].out_limit,
                                          rows[i].out_left};
            const char *headers[9];
            size_t n = 0;
            for (int j = 0; j < 4; j++) {
                int k = backwards ? 3 - j : j;
                if (!values[k]) continue;
                headers[n++] = names[k];
                headers[n++] = values[k];
            }
            headers[n] = NULL;
            llmgwi_dialect_meta meta = meta_of(headers);
            if (meta.tokens.limit != rows[i].limit || meta.tokens.remaining != rows[i].left)
                fail_msg("row %zu, %d: %lld of %lld", i, backwards, (long long)meta.tokens.remaining,
                         (long long)meta.tokens.limit);
            assert_false(meta.requests.seen);
        }
}

static void test_openrouter_limits(void **state) {
    static const char *const headers[] = {"X-RateLimit-Limit",
                                          "20", /* */
                                          "X-RateLimit-Remaining",
                                          "0", /* */
                                          "X-RateLimit-Reset",
                                          "1771371900000",
                                          NULL};
    llmgwi_dialect_meta meta = meta_of(headers);
    limit_is(&meta.requests, 20, 0, 49000);
    assert_false(meta.tokens.seen);
}

/* ---- what an error's text says ---- */

static llmgw_error error_of(int status, const char *body) {
    llmgw_error error;
    memset(&error, 0, sizeof error);
    llmgwi_dialect_error(&error, status, llmgwi_base_cstr(unit_quoted(body)), 64);
    return error;
}

static void test_prose(void **state) {
    static const struct {
        const char *text;
        int64_t ms;
    } rows[] = {
        {"Quota exceeded. Please retry in 46.2s.", 46200},
        {"Please retry in 46.235112s.", 46235},
        {"try again in 1h2m3s", 3723000},
        {"Rate limit reached. Please try again in 1m30.5s. Visit x", 90500},
        {"Limit 3, Used 3. Please try again in 850ms.", 850},
        {"Please try again in 6.2s. Visit", 6200},
        {"Please try again in 20ms.", 20},
        {"Please TRY AGAIN IN 7m12s", 432000},
        {"Please retry after 20 seconds.", 20000},
        {"Please try again in 1 minute.", 60000},
        {"please try again in 2 hours", 7200000},
        {"try again in a moment; then retry in 5s", 5000},
        {"retry in 5", 0},
        {"retry in -5s", 0},
        {"retry in 5 parsecs", 0},
        {"retry in 5sx", 0},
        {"retry in ", 0},
        {"retry in", 0},
        {"retry in 0s", 0},
        {"retry in 99999999999999999999s", LLMGWI_DIALECT_LONG_MS},
        {"retry in 99999999999999h", LLMGWI_DIALECT_LONG_MS},
        {"retry in 900000000s900000000s", LLMGWI_DIALECT_LONG_MS},
        {"wait 5s", 0},
        {"", 0},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        char body[256];
        snprintf(body, sizeof body, "{'error':{'message':'%s'}}", rows[i].text);
        int64_t got = error_of(429, body).retry_after_ms;
        if (got != rows[i].ms) fail_msg("'%s': %lld", rows[i].text, (long long)got);
    }
    assert_int_equal(error_of(503, "busy, retry in 3s").retry_after_ms, 3000); /* no JSON */
}

/* RetryInfo is a field, prose only a text. */
static void test_retry_info_first(void **state) {
    llmgw_error error = error_of(
        429, "{'error':{'code':429,'message':'Please retry in 46.2s.','status':'RESOURCE_EXHAUSTED',"
             "'details':[{'@type':'type.googleapis.com/google.rpc.RetryInfo','retryDelay':'12s'}]}}");
    assert_int_equal(error.retry_after_ms, 12000);
}

static void test_weigh(void **state) {
    static const struct {
        int status;
        const char *body, *retry_after;
        llmgw_code code;
        int64_t ms;
    } rows[] = {
        {402, "{'error':{'code':402,'message':'wait'}}", "30", LLMGW_E_RATE_LIMITED, 30000},
        {402, "{'error':{'code':402,'message':'pay'}}", NULL, LLMGW_E_QUOTA, 0},
        {402, "{'error':{'code':402,'message':'pay'}}", "0", LLMGW_E_QUOTA, 0},
        {429, "{'error':{'code':'insufficient_quota','message':'x'}}", "30", LLMGW_E_QUOTA, 30000},
        {429, "{'error':{'message':'try again in 60s'}}", "30", LLMGW_E_RATE_LIMITED, 30000},
        {429, "{'error':{'message':'try again in 60s'}}", NULL, LLMGW_E_RATE_LIMITED, 60000},
        {503, "{'error':{'message':'x'}}", "5", LLMGW_E_OVERLOADED, 5000},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        const char *const headers[] = {"retry-after", rows[i].retry_after, NULL};
        const char *const none[] = {NULL};
        llmgwi_dialect_meta meta = meta_of(rows[i].retry_after ? headers : none);
        llmgw_error error = error_of(rows[i].status, rows[i].body), before = error;
        llmgwi_dialect_weigh(&error, &meta);
        if (error.code != rows[i].code || error.retry_after_ms != rows[i].ms) fail_msg("row %zu", i);
        assert_int_equal(error.retryable, llmgwi_base_error_find(rows[i].code)->retryable);
        assert_int_equal(error.http_status, rows[i].status);
        assert_string_equal(error.text, before.text);
    }
}

typedef struct kind_row {
    int status;
    const char *body;
    llmgw_code code;
} kind_row;

#define SAYS(text) "{'error':{'message':'" text "'}}"
#define TYPED(type, text) "{'error':{'type':'" type "','message':'" text "'}}"
#define CODED(code, text) "{'error':{'code':'" code "','message':'" text "'}}"

/* WIRE.md 4, and what the providers of WIRE.md 5 add to it. */
static void test_kinds(void **state) {
    static const kind_row rows[] = {
        /* too long */
        {400, SAYS("maximum context length"), LLMGW_E_CONTEXT_LENGTH},
        {400, SAYS("Prompt is too long"), LLMGW_E_CONTEXT_LENGTH},
        {400, SAYS("Input is too long for requested model."), LLMGW_E_CONTEXT_LENGTH},
        {400, SAYS("it exceeds the maximum number of tokens"), LLMGW_E_CONTEXT_LENGTH},
        {400, SAYS("Your input exceeds the context window of this model."), LLMGW_E_CONTEXT_LENGTH},
        {400,
         TYPED("invalid_request_error", "input length and `max_tokens` exceed context limit: 9 + 9 > 10"),
         LLMGW_E_CONTEXT_LENGTH},
        {400, TYPED("exceed_context_size_error", "x"), LLMGW_E_CONTEXT_LENGTH},
        {500, TYPED("server_error", "the request exceeds the available context size"),
         LLMGW_E_CONTEXT_LENGTH},
        {400, SAYS("This model has the maximum prompt length is 131072"), LLMGW_E_CONTEXT_LENGTH},
        {400, SAYS("Your request exceeded model token limit: 8192"), LLMGW_E_CONTEXT_LENGTH},
        {400, SAYS("Range of input length should be [1, 30720]"), LLMGW_E_CONTEXT_LENGTH},
        {413, CODED("rate_limit_exceeded", "Request too large for model `x`"), LLMGW_E_CONTEXT_LENGTH},
        {429, CODED("rate_limit_exceeded", "Request too large for gpt-4o"), LLMGW_E_CONTEXT_LENGTH},
        {422, SAYS("maximum context length"), LLMGW_E_CONTEXT_LENGTH},
        {0, SAYS("maximum context length"), LLMGW_E_CONTEXT_LENGTH},
        {404, SAYS("maximum context length"), LLMGW_E_NOT_FOUND},
        {413, TYPED("request_too_large", "Request exceeds the maximum size"), LLMGW_E_BAD_REQUEST},
        /* used up */
        {429, CODED("insufficient_quota", "x"), LLMGW_E_QUOTA},
        {429, TYPED("exceeded_current_quota_error", "x"), LLMGW_E_QUOTA},
        {400, CODED("billing_hard_limit_reached", "x"), LLMGW_E_QUOTA},
        {400, CODED("Arrearage", "x"), LLMGW_E_QUOTA},
        {400, TYPED("invalid_request_error", "Your credit balance is too low to access the API"),
         LLMGW_E_QUOTA},
        {400, TYPED("invalid_request_error", "You have reached your specified API usage limits."),
         LLMGW_E_QUOTA},
        {429, TYPED("rate_limit_error", "This would exceed your organization\\u0027s monthly spend limit"),
         LLMGW_E_QUOTA},
        {403, SAYS("Your team has reached its monthly spending limit."), LLMGW_E_QUOTA},
        {429, "{'error':{'code':429,'status':'RESOURCE_EXHAUSTED','message':'monthly spending cap'}}",
         LLMGW_E_QUOTA},
        {402, SAYS("x"), LLMGW_E_QUOTA},
        /* full for a while */
        {429, TYPED("rate_limit_error", "slow down"), LLMGW_E_RATE_LIMITED},
        {403, "{'error':{'code':403,'message':'x','details':[{'reason':'RATE_LIMIT_EXCEEDED'}]}}",
         LLMGW_E_RATE_LIMITED},
        {0, CODED("429", "x"), LLMGW_E_RATE_LIMITED},
        {0, CODED("503", "x"), LLMGW_E_OVERLOADED},
        {0, CODED("1300", "x"), LLMGW_E_PROVIDER},
        {0, CODED("200", "x"), LLMGW_E_PROVIDER},
        {429, TYPED("engine_overloaded_error", "x"), LLMGW_E_OVERLOADED},
        {529, SAYS("x"), LLMGW_E_OVERLOADED},
        /* filtered */
        {400, CODED("content_filter", "x"), LLMGW_E_FILTERED},
        {400, "{'error':{'code':null,'message':'x','innererror':{'code':'ResponsibleAIPolicyViolation'}}}",
         LLMGW_E_FILTERED},
        {400, CODED("data_inspection_failed", "x"), LLMGW_E_FILTERED},
        {403,
         "{'error':{'code':403,'message':'flagged','metadata':{'reasons':['violence'],'flagged_input':'x',"
         "'provider_name':'y'}}}",
         LLMGW_E_FILTERED},
        {403, "{'error':{'code':403,'message':'no','metadata':{'provider_name':'y'}}}", LLMGW_E_AUTH},
        /* not there */
        {400, CODED("model_decommissioned", "x"), LLMGW_E_NOT_FOUND},
        {400, "{'object':'error','message':'Invalid model: x','type':'invalid_model','code':'1500'}",
         LLMGW_E_NOT_FOUND},
        /* the provider's trouble */
        {408, SAYS("x"), LLMGW_E_PROVIDER},
        {409, SAYS("x"), LLMGW_E_PROVIDER},
        {424, SAYS("x"), LLMGW_E_PROVIDER},
        {500, "{'error':'llama runner process has terminated'}", LLMGW_E_PROVIDER},
        /* ours */
        {422,
         "{'object':'error','message':{'detail':[{'type':'missing','msg':'Field required'}]},'code':null}",
         LLMGW_E_BAD_REQUEST},
        {400, "{'error':'invalid options'}", LLMGW_E_BAD_REQUEST},
        {413, SAYS("x"), LLMGW_E_BAD_REQUEST},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_error error = error_of(rows[i].status, rows[i].body);
        if (error.code != rows[i].code)
            fail_msg("row %zu (%d %s): %s", i, rows[i].status, rows[i].body, llmgw_code_name(error.code));
    }
    unit_has(error_of(422, rows[LLMGWI_BASE_COUNT(rows) - 3].body).text, "Field required");
}

/* Every row of the tables of words and texts is found in a body that says it. */
static void test_every_word(void **state) {
    char body[256];
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_dialect_classes); i++) {
        const llmgwi_dialect_class *row = &llmgwi_dialect_classes[i];
        snprintf(body, sizeof body, "{'error':{'code':'%s','message':'x'}}", row->word);
        if (error_of(400, body).code != row->code) fail_msg("%s", row->word);
    }
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_dialect_texts); i++) {
        const llmgwi_dialect_class *row = &llmgwi_dialect_texts[i];
        snprintf(body, sizeof body, "{'error':{'message':'so %s there'}}", row->word);
        if (error_of(400, body).code != row->code) fail_msg("%s", row->word);
    }
}

static void test_refuses_prefill(void **state) {
    static const struct {
        int status;
        const char *text;
        bool refuses;
    } rows[] = {
        {400,
         "HTTP 400: This model does not support assistant message prefill. The conversation must end with a "
         "user "
         "message.",
         true},
        {400, "The conversation must end with a user message.", true},
        {400, "Assistant response prefill is incompatible with enable_thinking.", true},
        {500, "Assistant response prefill is incompatible with enable_thinking.", true},
        {400, "When using tools, pre-filling the `assistant` response is not supported.", true},
        {400, "When `thinking` is enabled, a final `assistant` message must start with a thinking block",
         true},
        {400, "final assistant content cannot end with trailing whitespace", true},
        {400, "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant",
         true},
        {400, "continue_final_message is set but the final message does not appear in the chat", true},
        {422, "prefix: extra fields not permitted", true},
        {400, "Partial mode is not supported when enable_thinking is true", true},
        {429, "This model does not support assistant message prefill.", false},
        {401, "prefill", false},
        {503, "prefill", false},
        {0, "prefill", false},
        {400, "HTTP 400: bad field", false},
        {400, "", false},
        {400, NULL, false},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++)
        if (llmgwi_dialect_refuses_prefill(rows[i].status, rows[i].text) != rows[i].refuses)
            fail_msg("row %zu: %s", i, rows[i].text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dates),
        cmocka_unit_test(test_retry_after_dates),
        cmocka_unit_test(test_stamps),
        cmocka_unit_test(test_resets),
        cmocka_unit_test(test_openai_limits),
        cmocka_unit_test(test_no_limits),
        cmocka_unit_test(test_one_field),
        cmocka_unit_test(test_hostile_limits),
        cmocka_unit_test(test_anthropic_limits),
        cmocka_unit_test(test_anthropic_tighter),
        cmocka_unit_test(test_openrouter_limits),
        cmocka_unit_test(test_prose),
        cmocka_unit_test(test_retry_info_first),
        cmocka_unit_test(test_weigh),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_every_word),
        cmocka_unit_test(test_refuses_prefill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
