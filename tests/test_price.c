/* Money: exact, rounded once, and unknown when it is not known. */
#include "unit.h"

typedef unsigned __int128 wide;

static llmgw_usage used(int64_t input, int64_t output, int64_t cached, int64_t write, int64_t hour) {
    llmgw_usage usage;
    memset(&usage, 0, sizeof usage);
    usage.known = true;
    usage.input = input;
    usage.output = output;
    usage.cached = cached;
    usage.cache_write = write;
    usage.cache_write_1h = hour;
    return usage;
}

static llmgw_cost cost_of(const llmgw_price *own, const char *flavour, const char *model, llmgw_usage usage) {
    llmgw_price none;
    llmgwi_price_what what;
    llmgwi_price_rates rates;
    memset(&none, 0, sizeof none);
    what.own = own ? own : &none;
    what.flavour = flavour;
    what.model = model;
    return llmgwi_price_cost(llmgwi_price_find(NULL, &what, &rates) ? &rates : NULL, &usage);
}

/* atto-dollars to pico-dollars, half to even, by another way than the header's. */
static int64_t rounded(wide atto) {
    wide quotient = atto / 1000000, rest = atto % 1000000;
    if (rest > 500000 || (rest == 500000 && quotient % 2)) quotient++;
    assert_true(quotient <= (wide)INT64_MAX);
    return (int64_t)quotient;
}

static void expect_pico(llmgw_cost cost, int64_t pico) {
    assert_true(cost.known);
    assert_false(cost.saturated);
    assert_int_equal(cost.pico_usd, pico);
}

/* By hand, from PRICES.md: USD per million x tokens = micro-dollars; x 1e6 = pico-dollars. */
static void test_by_hand(void **state) {
    expect_pico(cost_of(NULL, "openai", "gpt-4o-mini", used(1000, 500, 0, 0, 0)),
                1000 * 150000 + 500 * 600000);
    expect_pico(cost_of(NULL, "openai", "gpt-4o-mini", used(1, 0, 0, 0, 0)), 150000);
    expect_pico(cost_of(NULL, "openai", "gpt-5-nano", used(3, 1, 2, 0, 0)), 50000 + 2 * 5000 + 400000);
    expect_pico(cost_of(NULL, "anthropic", "claude-sonnet-5", used(1329, 30, 1322, 5, 2)),
                2 * 3000000 + 1322 * 300000 + 3 * 3750000 + 2 * 6000000 + 30 * 15000000);
    expect_pico(cost_of(NULL, "deepseek", "deepseek-v4-pro", used(10, 10, 10, 0, 0)),
                10 * 3625 + 10 * 870000);
    expect_pico(cost_of(NULL, "gemini", "gemini-2.5-flash-lite", used(0, 0, 0, 0, 0)), 0);
}

/* Every row of PRICES.md that has prices of chat models, as decimal text: micro-dollars per token. */
static const struct {
    const char *flavour, *model, *input, *cached, *write, *hour, *output;
    int64_t long_from;
} prices_md[] = {
    {"openai", "gpt-5.6-sol", "5", "0.5", "6.25", "", "30", 272000},
    {"openai", "gpt-5.6-terra", "2", "0.2", "2.5", "", "12", 272000},
    {"openai", "gpt-5.6-luna", "0.2", "0.02", "0.25", "", "1.2", 272000},
    {"openai", "gpt-5.5", "5", "0.5", "", "", "30", 0},
    {"openai", "gpt-5.4", "2.5", "0.25", "", "", "15", 272000},
    {"openai", "gpt-5.4-mini", "0.75", "0.075", "", "", "4.5", 0},
    {"openai", "gpt-5.4-nano", "0.2", "0.02", "", "", "1.25", 0},
    {"openai", "gpt-5.2", "1.75", "0.175", "", "", "14", 0},
    {"openai", "gpt-5", "1.25", "0.125", "", "", "10", 0},
    {"openai", "gpt-5-mini", "0.25", "0.025", "", "", "2", 0},
    {"openai", "gpt-5-nano", "0.05", "0.005", "", "", "0.4", 0},
    {"openai", "gpt-4.1", "2", "0.5", "", "", "8", 0},
    {"openai", "gpt-4.1-mini", "0.4", "0.1", "", "", "1.6", 0},
    {"openai", "gpt-4o", "2.5", "1.25", "", "", "10", 0},
    {"openai", "gpt-4o-mini", "0.15", "0.075", "", "", "0.6", 0},
    {"openai", "o3", "2", "0.5", "", "", "8", 0},
    {"openai", "o4-mini", "1.1", "0.275", "", "", "4.4", 0},
    {"anthropic", "claude-fable-5", "10", "1", "12.5", "20", "50", 0},
    {"anthropic", "claude-opus-5", "5", "0.5", "6.25", "10", "25", 0},
    {"anthropic", "claude-opus-4-8", "5", "0.5", "6.25", "10", "25", 0},
    {"anthropic", "claude-opus-4-6", "5", "0.5", "6.25", "10", "25", 0},
    {"anthropic", "claude-opus-4-5", "5", "0.5", "6.25", "10", "25", 0},
    {"anthropic", "claude-sonnet-5", "3", "0.3", "3.75", "6", "15", 0},
    {"anthropic", "claude-sonnet-4-6", "3", "0.3", "3.75", "6", "15", 0},
    {"anthropic", "claude-sonnet-4-5", "3", "0.3", "3.75", "6", "15", 200000},
    {"anthropic", "claude-haiku-4-5", "1", "0.1", "1.25", "2", "5", 0},
    {"gemini", "gemini-3.1-pro-preview", "2", "0.2", "", "", "12", 200000},
    {"gemini", "gemini-3-flash-preview", "0.5", "0.05", "", "", "3", 0},
    {"gemini", "gemini-3.5-flash", "1.5", "0.15", "", "", "9", 0},
    {"gemini", "gemini-3.5-flash-lite", "0.3", "0.03", "", "", "2.5", 0},
    {"gemini", "gemini-3.6-flash", "0.75", "0.075", "", "", "3.75", 0},
    {"gemini", "gemini-3.7-flash", "0.75", "0.075", "", "", "3.75", 0},
    {"gemini", "gemini-2.5-pro", "1.25", "0.125", "", "", "10", 200000},
    {"gemini", "gemini-2.5-flash", "0.3", "0.03", "", "", "2.5", 0},
    {"gemini", "gemini-2.5-flash-lite", "0.1", "0.01", "", "", "0.4", 0},
    {"deepseek", "deepseek-v4-flash", "0.14", "0.0028", "", "", "0.28", 0},
    {"deepseek", "deepseek-v4-pro", "0.435", "0.003625", "", "", "0.87", 0},
    {"deepseek", "deepseek-v3.2", "0.2288", "", "", "", "0.3432", 0},
    {"mistral", "mistral-large-2512", "0.5", "0.05", "", "", "1.5", 0},
    {"mistral", "mistral-medium-3", "0.4", "", "", "", "2", 0},
    {"mistral", "mistral-small-2603", "0.15", "0.015", "", "", "0.6", 0},
    {"mistral", "codestral-2508", "0.3", "0.03", "", "", "0.9", 0},
    {"mistral", "magistral-medium", "2", "", "", "", "5", 0},
    {"xai", "grok-4.5", "2", "0.5", "", "", "6", 0},
    {"xai", "grok-4.3", "1.25", "0.2", "", "", "2.5", 0},
    {"moonshot", "kimi-k2.6", "0.95", "0.16", "", "", "4", 0},
    {"moonshot", "kimi-k3", "3", "0.3", "", "", "15", 0},
    {"openai", "text-embedding-3-small", "0.02", "", "", "", "", 0},
    {"openai", "text-embedding-3-large", "0.13", "", "", "", "", 0},
    {"gemini", "gemini-embedding-001", "0.15", "", "", "", "", 0},
    {"mistral", "mistral-embed", "0.1", "", "", "", "0.1", 0},
    {"bedrock", "amazon.nova-pro-v1:0", "0.8", "0.2", "", "", "3.2", 0},
    {"bedrock", "amazon.nova-lite-v1:0", "0.06", "0.015", "", "", "0.24", 0},
    {"bedrock", "amazon.nova-micro-v1:0", "0.035", "0.00875", "", "", "0.14", 0},
    {"bedrock", "global.anthropic.claude-sonnet-5-v1:0", "3", "0.3", "3.75", "", "15", 0},
    {"bedrock", "global.anthropic.claude-opus-5", "5", "0.5", "6.25", "", "25", 0},
    {"bedrock", "meta.llama4-maverick-17b-instruct-v1:0", "0.24", "", "", "", "0.97", 0},
    {"openrouter", "qwen/qwen3.7-max", "1.25", "0.25", "1.5625", "", "3.75", 0},
    {"openrouter", "qwen/qwen3.7-plus", "0.4", "0.08", "0.5", "", "1.6", 0},
    {"openrouter", "qwen/qwen3-max", "1.2", "", "", "", "6", 0},
    {"openrouter", "qwen/qwen-plus", "0.4", "0.16", "", "", "1.2", 0},
};

/* "0.003625" USD per million to atto-dollars per token, without floating point. "" is instead. */
static wide atto(const char *decimal, wide instead) {
    wide value = 0, unit = 1000000000000;
    bool point = false;
    if (!decimal[0]) return instead;
    for (; *decimal; decimal++) {
        if (*decimal == '.') {
            point = true;
            continue;
        }
        if (point) unit /= 10;
        value = value * 10 + (wide)(*decimal - '0');
    }
    return value * unit;
}

static wide expected_atto(size_t row, llmgw_usage usage) {
    wide input = atto(prices_md[row].input, 0), output = atto(prices_md[row].output, 0);
    wide cached = atto(prices_md[row].cached, input), write = atto(prices_md[row].write, input);
    wide hour = atto(prices_md[row].hour, write);
    bool longer = prices_md[row].long_from && usage.input > prices_md[row].long_from;
    wide in_sum = (wide)(usage.input - usage.cached - usage.cache_write) * input +
                  (wide)usage.cached * cached + (wide)(usage.cache_write - usage.cache_write_1h) * write +
                  (wide)usage.cache_write_1h * hour;
    wide out_sum = (wide)usage.output * output;
    return longer ? in_sum * 2 + out_sum * 3 / 2 : in_sum + out_sum;
}

static void test_whole_book(void **state) {
    uint64_t random = 1;
    assert_int_equal(LLMGWI_BASE_COUNT(prices_md), LLMGWI_BASE_COUNT(llmgwi_price_rows));
    for (size_t row = 0; row < LLMGWI_BASE_COUNT(prices_md); row++)
        for (int i = 0; i < 200; i++) {
            int64_t part[5];
            for (int j = 0; j < 5; j++) {
                random = random * 6364136223846793005u + 1442695040888963407u;
                part[j] = (int64_t)((random >> 33) % (i < 100 ? 1000 : 150000));
            }
            llmgw_usage usage =
                used(part[0] + part[1] + part[2] + part[3], part[4], part[1], part[2] + part[3], part[3]);
            if (!prices_md[row].output[0]) usage.output = 0; /* embeddings have none */
            expect_pico(cost_of(NULL, prices_md[row].flavour, prices_md[row].model, usage),
                        rounded(expected_atto(row, usage)));
        }
}

static void test_long_tier_boundary(void **state) {
    expect_pico(cost_of(NULL, "anthropic", "claude-sonnet-4-5", used(200000, 2, 0, 0, 0)),
                200000LL * 3000000 + 2 * 15000000);
    expect_pico(cost_of(NULL, "anthropic", "claude-sonnet-4-5", used(200001, 2, 0, 0, 0)),
                200001LL * 6000000 + 2 * 22500000);
    expect_pico(cost_of(NULL, "anthropic", "claude-sonnet-4-5", used(200001, 0, 200001, 0, 0)),
                200001LL * 600000);
    expect_pico(cost_of(NULL, "anthropic", "claude-sonnet-4-5", used(200001, 0, 0, 200001, 200001)),
                200001LL * 12000000);
    expect_pico(cost_of(NULL, "openai", "gpt-5.4", used(272000, 0, 0, 0, 0)), 272000LL * 2500000);
    expect_pico(cost_of(NULL, "openai", "gpt-5.4", used(272001, 0, 0, 0, 0)), 272001LL * 5000000);
    expect_pico(cost_of(NULL, "gemini", "gemini-2.5-flash", used(900000, 0, 0, 0, 0)), 900000LL * 300000);
}

static llmgw_price price(double input, double output) {
    llmgw_price own;
    memset(&own, 0, sizeof own);
    own.input = llmgw_set(input);
    own.output = llmgw_set(output);
    return own;
}

/* Half a pico-dollar goes to the even neighbour: 0.0000005 USD per million is half a pico a token. */
static void test_half_to_even(void **state) {
    static const struct {
        int64_t tokens, pico;
    } rows[] = {{1, 0}, {2, 1}, {3, 2}, {4, 2}, {5, 2}, {6, 3}, {7, 4}, {9, 4}, {11, 6}};
    llmgw_price half = price(0.0000005, 0), above = price(0.000000500001, 0),
                below = price(0.000000499999, 0);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++)
        expect_pico(cost_of(&half, NULL, "m", used(rows[i].tokens, 0, 0, 0, 0)), rows[i].pico);
    expect_pico(cost_of(&above, NULL, "m", used(1, 0, 0, 0, 0)), 1);
    expect_pico(cost_of(&below, NULL, "m", used(1, 0, 0, 0, 0)), 0);
    expect_pico(cost_of(&below, NULL, "m", used(3, 0, 0, 0, 0)), 1);
}

/* Rounded once: halves of several kinds add up before. */
static void test_rounded_once(void **state) {
    llmgw_price own = price(0.0000005, 0.0000005);
    own.cached = own.cache_write = own.cache_write_1h = llmgw_set(0.0000005);
    expect_pico(cost_of(&own, NULL, "m", used(4, 1, 1, 2, 1)), 2); /* five halves, not 0+0+0+0+0 */
    expect_pico(cost_of(&own, NULL, "m", used(4, 2, 1, 2, 1)), 3);
}

static void test_configured(void **state) {
    llmgw_price own = price(3, 15);
    expect_pico(cost_of(&own, "openai", "gpt-4o", used(10, 1, 4, 3, 2)),
                10 * 3000000 + 15000000); /* unset: as input */
    own.cached = llmgw_set(0);
    expect_pico(cost_of(&own, "openai", "gpt-4o", used(10, 1, 4, 3, 2)), 6 * 3000000 + 15000000);
    own.cache_write = llmgw_set(4);
    expect_pico(cost_of(&own, "openai", "gpt-4o", used(10, 1, 4, 3, 2)),
                3 * 3000000 + 3 * 4000000 + 15000000);
    own.cache_write_1h = llmgw_set(8);
    expect_pico(cost_of(&own, "openai", "gpt-4o", used(10, 1, 4, 3, 2)),
                3 * 3000000 + 4000000 + 2 * 8000000 + 15000000);
    own = price(123456.7, 999999.999999);
    expect_pico(cost_of(&own, NULL, "m", used(1, 1, 0, 0, 0)), 123456700000LL + 999999999999LL);
    assert_int_equal(llmgwi_price_atto(123456.7), 123456700000000000);
    assert_int_equal(llmgwi_price_atto(0.0000123), 12300000);
    own = price(0, 0); /* set to nothing: free, and known */
    expect_pico(cost_of(&own, NULL, "m", used(1000, 1000, 0, 0, 0)), 0);
}

static void test_unknown(void **state) {
    llmgw_usage usage = used(10, 10, 0, 0, 0), silent;
    llmgw_price own = price(1, 1);
    assert_false(cost_of(NULL, "openai", "no-such-model", usage).known);
    assert_false(cost_of(NULL, "nobody", "gpt-4o", usage).known);
    assert_false(cost_of(NULL, "anthropic", "gpt-4o", usage).known); /* another's model */
    assert_false(cost_of(NULL, NULL, "gpt-4o", usage).known);        /* not at its known place */
    own.output.set = false;
    assert_false(cost_of(&own, "openai", "gpt-4o", usage).known); /* one rate: not filled from the book */
    own = price(1, 1);
    own.input.set = false;
    assert_false(cost_of(&own, "openai", "gpt-4o", usage).known);
    memset(&silent, 0, sizeof silent);
    llmgw_cost cost = cost_of(NULL, "openai", "gpt-4o", silent);
    assert_false(cost.known);
    assert_false(cost.saturated);
    assert_int_equal(cost.pico_usd, 0);
}

static void test_dated_names(void **state) {
    static const struct {
        const char *flavour, *model;
        bool known;
    } rows[] = {
        {"openai", "gpt-4o-2024-08-06", true},
        {"openai", "gpt-4o-20240806", true},
        {"openai", "gpt-4o-mini-2024-07-18", true},
        {"openai", "gpt-5-2025-08-07", true},
        {"anthropic", "claude-opus-5-20260801", true},
        {"anthropic", "claude-sonnet-4-5-20250929", true},
        {"openai", "gpt-4o-", false},
        {"openai", "gpt-4o-audio", false},
        {"openai", "gpt-4o2024-08-06", false},
        {"openai", "gpt-5-pro", false},
        {"openai", "gpt-5-2", false},
        {"openai", "GPT-4o", false},
        {"openai", "gpt-4o-2024-08-06-x", false},
        {"anthropic", "claude-opus-5-5", false},
        {"anthropic", "claude-opus-5-5-20261101", false}, /* another model: $4, not $5 */
        {"anthropic", "claude-sonnet-5-5-20260901", false},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++)
        if (cost_of(NULL, rows[i].flavour, rows[i].model, used(1, 1, 0, 0, 0)).known != rows[i].known)
            fail_msg("%s: expected %s", rows[i].model, rows[i].known ? "a price" : "none");
    expect_pico(cost_of(NULL, "openai", "gpt-4o-mini-2024-07-18", used(1, 0, 0, 0, 0)), 150000);
}

/* Parts that exceed the whole: a provider's own slip never costs more than all of it at its dearest. */
static void test_inconsistent_usage(void **state) {
    llmgw_price own = price(10, 0);
    own.cached = llmgw_set(1);
    own.cache_write = llmgw_set(2);
    own.cache_write_1h = llmgw_set(4);
    expect_pico(cost_of(&own, NULL, "m", used(5, 0, 9, 0, 0)), 5 * 1000000);
    expect_pico(cost_of(&own, NULL, "m", used(5, 0, 3, 9, 0)), 3 * 1000000 + 2 * 2000000);
    expect_pico(cost_of(&own, NULL, "m", used(5, 0, 0, 5, 9)), 5 * 4000000);
    expect_pico(cost_of(&own, NULL, "m", used(0, 0, 7, 7, 7)), 0);
}

static void test_saturation(void **state) {
    llmgw_price own = price(1000000, 1000000); /* 1e12 pico a token */
    expect_pico(cost_of(&own, NULL, "m", used(9223372, 0, 0, 0, 0)), 9223372000000000000LL);
    llmgw_cost cost = cost_of(&own, NULL, "m", used(9223373, 0, 0, 0, 0));
    assert_true(cost.known);
    assert_true(cost.saturated);
    assert_true(cost.pico_usd == INT64_MAX);
    cost = cost_of(&own, NULL, "m", used(9000000000000000LL, 9000000000000000LL, 0, 0, 0));
    assert_true(cost.saturated);
    assert_true(cost.pico_usd == INT64_MAX);
}

/* The two 128-bit steps against the compiler's own. */
static void test_wide_arithmetic(void **state) {
    uint64_t random = 7;
    for (int i = 0; i < 20000; i++) {
        uint64_t sum[2] = {0, 0};
        wide expected = 0;
        for (int j = 0; j < 5; j++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            int64_t count = (int64_t)(random >> (1 + random % 60));
            random = random * 6364136223846793005u + 1442695040888963407u;
            int64_t rate = (int64_t)(random >> (3 + random % 58));
            llmgwi_price_add(sum, count, rate);
            expected += (wide)(uint64_t)count * (uint64_t)rate;
        }
        assert_true(sum[0] == (uint64_t)(expected >> 64) && sum[1] == (uint64_t)expected);
        llmgw_cost cost = llmgwi_price_round(sum);
        if (expected / 1000000 < (wide)INT64_MAX)
            assert_int_equal(cost.pico_usd, rounded(expected));
        else
            assert_true(cost.saturated);
    }
}

static llmgw_cost money(bool known, int64_t pico) {
    llmgw_cost cost;
    memset(&cost, 0, sizeof cost);
    cost.known = known;
    cost.pico_usd = pico;
    return cost;
}

static void test_total(void **state) {
    llmgw_cost total = money(true, 0);
    llmgwi_price_total(&total, money(true, 5));
    llmgwi_price_total(&total, money(true, 7));
    expect_pico(total, 12);
    llmgwi_price_total(&total, money(true, INT64_MAX));
    assert_true(total.known && total.saturated);
    assert_true(total.pico_usd == INT64_MAX);
    llmgwi_price_total(&total, money(true, 1));
    assert_true(total.pico_usd == INT64_MAX);
    total = money(true, 5);
    llmgwi_price_total(&total, money(false, 0));
    assert_false(total.known);
    llmgwi_price_total(&total, money(true, 3)); /* stays unknown */
    assert_false(total.known);
    assert_int_equal(total.pico_usd, 0);
}

/* ---- decimals ---- */

static void test_decimals(void **state) {
    static const struct {
        const char *text;
        int places;
        int64_t value; /* -1: refused */
    } rows[] = {
        {"0", 18, 0},
        {"-0", 18, 0},
        {"-0.0e5", 18, 0},
        {"2.5e-06", 18, 2500000000000},
        {"2.5E-6", 18, 2500000000000},
        {"0.0000025", 18, 2500000000000},
        {"25e-7", 18, 2500000000000},
        {"1", 18, 1000000000000000000},
        {"1.0e0", 18, 1000000000000000000},
        {"1e+0", 18, 1000000000000000000},
        {"9.223372036854775807", 18, INT64_MAX},
        {"9.223372036854775808", 18, -1},
        {"9223372036854775807", 0, INT64_MAX},
        {"9223372036854775808", 0, -1},
        {"2.9999900000000002e-06", 18, 2999990000000}, /* ...000.2: to the nearest */
        {"0.5", 0, 0},
        {"1.5", 0, 2},
        {"2.5", 0, 2},
        {"2.50000000000000000000000000000000000000001", 0, 3},
        {"0.4999999999999999999999999999999999999999", 0, 0},
        {"5e-19", 18, 0},
        {"15e-19", 18, 2},
        {"25e-19", 18, 2},
        {"25.00000000000000000000000000001e-19", 18, 3},
        {"1e-999999999999999999999", 18, 0},
        {"1e999", 18, -1},
        {"1e999999999999999999999", 18, -1},
        {"0e999999999999999999999", 18, 0},
        {"-1e-30", 18, -1},
        {"-1", 18, -1},
        {"100000000000000000000000000000000e-32", 18, 1000000000000000000},
        {"922337203685477580.75", 0, 922337203685477581},
        {"", 18, -1},
        {"-", 18, -1},
        {".5", 18, -1},
        {"1.", 18, -1},
        {"1e", 18, -1},
        {"01", 18, -1},
        {"1 ", 18, -1},
        {"0x10", 18, -1},
        {"nan", 18, -1},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        int64_t value = 7;
        if (!llmgwi_json_decimal(llmgwi_base_cstr(rows[i].text), rows[i].places, &value)) value = -1;
        if (value != rows[i].value) fail_msg("%s: %lld", rows[i].text, (long long)value);
    }
}

/* Any whole number, with its point and exponent anywhere, reads back. */
static void test_decimals_anywhere(void **state) {
    uint64_t random = 3;
    for (int i = 0; i < 50000; i++) {
        char digits[32], text[96];
        int64_t value;
        random = random * 6364136223846793005u + 1442695040888963407u;
        int64_t want = (int64_t)(random >> (1 + (random >> 20) % 62));
        int n = snprintf(digits, sizeof digits, "%lld", (long long)want);
        int cut = 1 + (int)((random >> 8) % (uint64_t)n), zeros = (int)(random >> 16) % 3;
        snprintf(text, sizeof text, "%.*s%s%s%.*se%d", cut, digits, cut < n || zeros ? "." : "", digits + cut,
                 zeros, "000", n - cut - 18);
        if (!llmgwi_json_decimal(llmgwi_base_cstr(text), 18, &value) || value != want) fail_msg("%s", text);
    }
}

/* ---- books ---- */

static llmgwi_price_book *load_n(const char *text, size_t n, const llmgwi_price_book *old, llmgw_error *error,
                                 size_t bite) {
    llmgwi_base_buf buf;
    llmgw_error ignored;
    memset(error ? error : &ignored, 0, sizeof *error);
    llmgwi_base_buf_init(&buf, &unit_mem, (size_t)64 << 20);
    assert_true(llmgwi_base_buf_add(&buf, text, n));
    llmgwi_price_load *load = llmgwi_price_load_new(&unit_mem, &buf);
    assert_non_null(load);
    assert_null(buf.p); /* taken over */
    while (bite && llmgwi_price_load_step(load, bite)) continue;
    return llmgwi_price_load_end(load, old, error);
}

static llmgwi_price_book *load_good(const char *quoted) {
    llmgw_error error;
    const char *text = unit_quoted(quoted);
    llmgwi_price_book *book = load_n(text, strlen(text), NULL, &error, 0);
    if (!book) fail_msg("%s", error.text);
    return book;
}

static void drop(llmgwi_price_book *book) { llmgwi_price_book_free(book, &unit_mem); }

static bool find(const llmgwi_price_book *book, const char *flavour, const char *model,
                 llmgwi_price_rates *rates) {
    llmgwi_price_what what = {NULL, flavour, model};
    return llmgwi_price_find(book, &what, rates);
}

static llmgw_cost booked(const llmgwi_price_book *book, const char *flavour, const char *model,
                         llmgw_usage usage) {
    llmgwi_price_rates rates;
    return llmgwi_price_cost(find(book, flavour, model, &rates) ? &rates : NULL, &usage);
}

static const char every_kind[] =
    "{'sample_spec':{'litellm_provider':'openai','input_cost_per_token':-1},"
    "'m':{'litellm_provider':'openai','max_input_tokens':1000.0,'max_output_tokens':50,"
    "'input_cost_per_token':1e-6,'output_cost_per_token':2e-6,'cache_read_input_token_cost':3e-6,"
    "'cache_creation_input_token_cost':4e-6,'cache_creation_input_token_cost_above_1hr':5e-6,"
    "'output_cost_per_reasoning_token':6e-6,'input_cost_per_audio_token':7e-6,'output_cost_per_audio_token':"
    "8e-6,"
    "'input_cost_per_request':0.001,'input_cost_per_image':0.5,"
    "'input_cost_per_token_above_128k_tokens':11e-6,'input_cost_per_token_above_200k_tokens':12e-6,"
    "'input_cost_per_token_above_272k_tokens':13e-6,'input_cost_per_token_above_512k_tokens':14e-6,"
    "'output_cost_per_token_above_200k_tokens':15e-6,"
    "'cache_creation_input_token_cost_above_1hr_above_200k_tokens':16e-6,"
    "'input_cost_per_token_batches':21e-6,'output_cost_per_token_batches':22e-6,"
    "'input_cost_per_token_flex':'23e-6','cache_read_input_token_cost_priority':24e-6,"
    "'input_cost_per_token_above_200k_tokens_priority':25e-6,'input_cost_per_token_priority':26e-6,"
    "'input_cost_per_token_above_xk_tokens':9,'input_cost_per_token_above_5_tokens':9,'input_cost_per_second'"
    ":9,"
    "'input_cost_per_token_above_':9,'output_cost_per_token_cheap':9,'tiered_pricing':null,"
    "'cache_read_input_token_cost_flex':null}}";

/* In micro-dollars. */
static void expect_micro(llmgw_cost cost, int64_t micro) { expect_pico(cost, micro * 1000000); }

static void test_every_kind(void **state) {
    llmgwi_price_book *book = load_good(every_kind);
    llmgwi_price_rates rates;
    assert_int_equal(book->count, 1);
    assert_true(find(book, "openai", "m", &rates));
    assert_int_equal(rates.max_input, 1000);
    assert_int_equal(rates.max_output, 50);
    assert_int_equal(llmgwi_price_rate(&rates, LLMGWI_PRICE_IMAGE, 0, 0), 500000000000000000);
    expect_micro(booked(book, "openai", "m", used(0, 0, 0, 0, 0)), 1000); /* the request */
    llmgw_usage usage = used(1 + 10 + 100 + 1000 + 10000, 1 + 10 + 100, 10, 100 + 1000, 1000);
    usage.audio_input = 10000;
    usage.reasoning = 10;
    usage.audio_output = 100;
    expect_micro(booked(book, "openai", "m", usage),
                 1000 + 1 + 10 * 3 + 100 * 4 + 1000 * 5 + 10000 * 7 + 2 + 10 * 6 + 100 * 8);
    usage.tier = LLMGW_TIER_BATCH;
    expect_micro(booked(book, "openai", "m", usage),
                 1000 + 21 + 10 * 3 + 100 * 4 + 1000 * 5 + 10000 * 7 + 22 + 10 * 6 + 100 * 8);
    usage.tier = LLMGW_TIER_FLEX;
    expect_micro(booked(book, "openai", "m", usage),
                 1000 + 23 + 10 * 3 + 100 * 4 + 1000 * 5 + 10000 * 7 + 2 + 10 * 6 + 100 * 8);
    usage.tier = LLMGW_TIER_PRIORITY;
    expect_micro(booked(book, "openai", "m", usage),
                 1000 + 26 + 10 * 24 + 100 * 4 + 1000 * 5 + 10000 * 7 + 2 + 10 * 6 + 100 * 8);
    usage.reasoning = 1000; /* parts beyond the whole */
    usage.audio_input = 1000000;
    usage.tier = LLMGW_TIER_STANDARD;
    expect_micro(booked(book, "openai", "m", usage),
                 1000 + 10 * 3 + 100 * 4 + 1000 * 5 + 10001 * 7 + 111 * 6);
    usage.estimated = true;
    assert_true(booked(book, "openai", "m", usage).estimated);
    usage.reasoning = usage.audio_output = usage.cached = -5;
    assert_true(booked(book, "openai", "m", usage).known);
    drop(book);
}

static void test_thresholds(void **state) {
    static const struct {
        int64_t input;
        llmgw_tier tier;
        int64_t micro; /* of one input token */
    } rows[] = {{128000, LLMGW_TIER_STANDARD, 1},  {128001, LLMGW_TIER_STANDARD, 11},
                {200000, LLMGW_TIER_STANDARD, 11}, {200001, LLMGW_TIER_STANDARD, 12},
                {272000, LLMGW_TIER_STANDARD, 12}, {272001, LLMGW_TIER_STANDARD, 13},
                {512000, LLMGW_TIER_STANDARD, 13}, {512001, LLMGW_TIER_STANDARD, 14},
                {128000, LLMGW_TIER_PRIORITY, 26}, {200001, LLMGW_TIER_PRIORITY, 25},
                {128000, LLMGW_TIER_FLEX, 23},     {900000, LLMGW_TIER_FLEX, 14},
                {272001, LLMGW_TIER_PRIORITY, 13}};
    llmgwi_price_book *book = load_good(every_kind);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_usage usage = used(rows[i].input, 0, 0, 0, 0);
        usage.tier = rows[i].tier;
        expect_micro(booked(book, "openai", "m", usage), 1000 + rows[i].input * rows[i].micro);
    }
    expect_micro(booked(book, "openai", "m", used(200001, 1, 0, 200001, 200001)), 1000 + 200001 * 16 + 15);
    expect_micro(booked(book, "openai", "m", used(200001, 1, 0, 200001, 0)), 1000 + 200001 * 4 + 15);
    drop(book);
    book = load_good("{'dashscope/q':{'litellm_provider':'dashscope','tiered_pricing':["
                     "{'input_cost_per_token':1e-6,'output_cost_per_token':2e-6,'range':[0,32000.0]},"
                     "{'range':[32000.0,1e5],'input_cost_per_token':3e-6,'output_cost_per_token':4e-6,"
                     "'tiered_pricing':[{'input_cost_per_token':9}]},7,null,{'range':[1e5,1e6]}]},"
                     "'dashscope/late':{'litellm_provider':'dashscope','tiered_pricing':["
                     "{'range':[100,200],'input_cost_per_token':1e-6,'output_cost_per_token':1e-6}]}}");
    expect_micro(booked(book, "qwen", "q", used(32000, 1, 0, 0, 0)), 32002);
    expect_micro(booked(book, "qwen", "q", used(32001, 1, 0, 0, 0)), 32001 * 3 + 4);
    expect_micro(booked(book, "qwen", "q", used(2000000, 1, 0, 0, 0)), 2000000 * 3 + 4);
    expect_micro(booked(book, "qwen", "late", used(101, 1, 0, 0, 0)), 102);
    assert_false(booked(book, "qwen", "late", used(100, 1, 0, 0, 0)).known); /* not told: not free */
    drop(book);
}

/* A kind that is missing costs as its parent; without that too the cost is unknown, unless nothing was used. */
static void test_missing(void **state) {
    llmgwi_price_book *book = load_good(
        "{'in':{'litellm_provider':'openai','input_cost_per_token':1e-6},"
        "'both':{'litellm_provider':'openai','input_cost_per_token':1e-6,'output_cost_per_token':2e-6},"
        "'write':{'litellm_provider':'openai','input_cost_per_token':1e-6,"
        "'cache_creation_input_token_cost':3e-6},"
        "'none':{'litellm_provider':'openai','mode':'chat'},"
        "'hit':{'litellm_provider':'openai','input_cost_per_token':9e-6,"
        "'input_cost_per_token_cache_hit':2e-6},"
        "'weak':{'litellm_provider':'openai','cache_read_input_token_cost':3e-6,"
        "'input_cost_per_token_cache_hit':2e-6},"
        "'late':{'litellm_provider':'openai','input_cost_per_token_cache_hit':2e-6,"
        "'cache_read_input_token_cost':3e-6},"
        "'free':{'litellm_provider':'openai','input_cost_per_token':0,'output_cost_per_token':0.0}}");
    llmgw_usage usage = used(100, 100, 10, 20, 5);
    usage.audio_input = usage.audio_output = usage.reasoning = 10;
    assert_int_equal(book->count, 7);
    expect_micro(booked(book, "openai", "both", usage), 300);
    expect_pico(booked(book, "openai", "free", usage), 0);
    expect_micro(booked(book, "openai", "hit", used(10, 0, 10, 0, 0)), 20);
    expect_micro(booked(book, "openai", "weak", used(10, 0, 10, 0, 0)), 30);
    expect_micro(booked(book, "openai", "late", used(10, 0, 10, 0, 0)), 30);
    expect_micro(booked(book, "openai", "write", used(10, 0, 0, 9, 9)), 1 + 27);
    expect_micro(booked(book, "openai", "in", used(5, 0, 0, 0, 0)), 5);
    assert_false(booked(book, "openai", "in", used(5, 1, 0, 0, 0)).known);
    assert_false(booked(book, "openai", "none", usage).known);
    assert_false(booked(book, "openai", "late", used(1, 0, 0, 0, 0)).known);
    usage.known = false;
    assert_false(booked(book, "openai", "both", usage).known);
    drop(book);
}

static void test_names(void **state) {
#define ROW(name, provider, micro)                                                                           \
    "'" name "':{'litellm_provider':'" provider "','output_cost_per_token':0,'input_cost_per_token':" #micro \
    "e-6}"
    static const struct {
        const char *flavour, *model;
        int64_t micro; /* -1: unknown */
    } rows[] = {
        {"openai", "gpt-x", 1},
        {"openai", "gpt-x-2031-01-02", 1},
        {"openai", "gpt-x-20310102", 1},
        {"openai", "gpt-x-20990101", 2}, /* a row of its own */
        {"openai", "gpt-x-y", -1},
        {"gemini", "g", 3},
        {"qwen", "q", 5},
        {"dashscope", "q", 5}, /* by the file's own name */
        {"cohere", "command", 6},
        {"bedrock", "us.nova", 7},
        {"bedrock", "eu.nova", 8},
        {"openrouter", "openai/gpt-x", 9},
        {"fireworks_ai", "f", 10},
        {"openai", "f", -1},
        {"openai", "g", -1},
        {"deepseek", "deepseek-chat", 12}, /* the provider's row before the bare one */
        {"openai", "gpt-4o-mini", 13},     /* before the built-in row */
        {"anthropic", "claude-haiku-4-5", 1000},
    };
    llmgwi_price_book *book =
        load_good(
            "{" ROW("gpt-x", "openai", 1) "," ROW("gpt-x-20990101", "openai", 2) "," ROW("gemini/g", "gemini", 3) "," ROW("g", "vertex_ai", 4) "," ROW(
                "dashscope/q",
                "dashscope",
                5) "," ROW("command", "cohere_chat",
                           6) "," ROW("us.nova", "bedrock_converse",
                                      7) "," ROW("bedrock/eu.nova", "bedrock",
                                                 8) "," ROW("openrouter/openai/gpt-x", "openrouter",
                                                            9) "," ROW("fireworks_ai/f", "fireworks_ai",
                                                                       10) "," ROW("deepseek/deepseek-chat",
                                                                                   "deepseek",
                                                                                   12) "," ROW("deepseek-"
                                                                                               "chat",
                                                                                               "deepseek",
                                                                                               11) "," ROW("g"
                                                                                                           "p"
                                                                                                           "t"
                                                                                                           "-"
                                                                                                           "4"
                                                                                                           "o"
                                                                                                           "-"
                                                                                                           "m"
                                                                                                           "i"
                                                                                                           "n"
                                                                                                           "i",
                                                                                                           "o"
                                                                                                           "p"
                                                                                                           "e"
                                                                                                           "n"
                                                                                                           "a"
                                                                                                           "i",
                                                                                                           13) "," ROW("gpt-x",
                                                                                                                       "openai",
                                                                                                                       1) "}");
#undef ROW
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_cost cost = booked(book, rows[i].flavour, rows[i].model, used(1, 0, 0, 0, 0));
        if (!cost.known ? rows[i].micro >= 0
                        : cost.pico_usd != rows[i].micro * (rows[i].micro < 1000 ? 1000000 : 1000))
            fail_msg("%s %s: %d %lld", rows[i].flavour, rows[i].model, cost.known, (long long)cost.pico_usd);
    }
    assert_int_equal(book->count, book->row_count - 1); /* gpt-x came twice */
    char name[1000];
    llmgwi_price_rates rates;
    memset(name, 'x', sizeof name);
    name[999] = 0;
    assert_false(find(book, "openai", name, &rates));
    assert_false(find(book, NULL, "gpt-x", &rates));
    llmgw_price own = price(3, 15);
    llmgwi_price_what what = {&own, "openai", "gpt-x"};
    assert_true(llmgwi_price_find(book, &what, &rates)); /* what is configured goes first */
    assert_int_equal(llmgwi_price_rate(&rates, LLMGWI_PRICE_INPUT, 0, 0), 3000000000000);
    drop(book);
}

/* The last of two rows, and of two members of a row, counts. */
static void test_duplicates(void **state) {
    llmgwi_price_book *book =
        load_good("{'m':{'litellm_provider':'openai','input_cost_per_token':1e-6},"
                  "'m':{'litellm_provider':'openai','input_cost_per_token':2e-6,'input_cost_per_token':3e-6},"
                  "'n':{'litellm_provider':'openai','input_cost_per_token':1e-6}}");
    assert_int_equal(book->count, 2);
    expect_micro(booked(book, "openai", "m", used(1, 0, 0, 0, 0)), 3);
    assert_int_equal(llmgwi_price_changes(NULL, book, NULL, NULL), 2);
    assert_int_equal(llmgwi_price_changes(book, book, NULL, NULL), 0);
    drop(book);
}

static void test_openrouter(void **state) {
    llmgwi_price_book *book =
        load_good("{'object':'list','data':[{'id':'a/"
                  "b','context_length':8000,'top_provider':{'max_completion_tokens':90,"
                  "'context_length':7000},'pricing':{'prompt':'0.0000025','completion':'0.00001','request':'"
                  "0.002','image':"
                  "'0.0036','web_search':'0','internal_reasoning':'0','input_cache_read':'0.00000125',"
                  "'input_cache_write':'0','audio':'0.00004'}},{'id':'a/"
                  "free','pricing':{'prompt':'0','completion':'0'}},"
                  "{'id':'openrouter/"
                  "auto','pricing':{'prompt':'-1','completion':'-1'}},{'id':7},{'pricing':{'prompt':'1'}},"
                  "3,[],{'id':'a/none'},{'id':'a/"
                  "b:free','pricing':{'prompt':0,'completion':0}}],'more':{'prompt':'x'}}");
    llmgwi_price_rates rates;
    llmgw_usage usage = used(100, 20, 10, 30, 0);
    usage.reasoning = 15; /* "0": not free, but billed as output */
    usage.audio_input = 5;
    assert_int_equal(book->count, 3);
    expect_pico(booked(book, "openrouter", "a/b", usage),
                2000000000LL + (100 - 10 - 5) * 2500000 + 10 * 1250000 + 5 * 40000000 + 20 * 10000000);
    expect_pico(booked(book, "openrouter", "a/free", usage), 0);
    assert_false(booked(book, "openrouter", "openrouter/auto", usage).known); /* it depends */
    assert_false(booked(book, "openrouter", "a/none", usage).known);
    assert_true(find(book, "openrouter", "a/b", &rates));
    assert_true(rates.max_input == 7000 && rates.max_output == 90);
    drop(book);
}

static void test_hostile_files(void **state) {
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"", "expected an object"},
        {"[]", "expected an object"},
        {"{}", "no model"},
        {"{'data':[]}", "no model"},
        {"{'a':{'litellm_provider':'openai','max_tokens':5}}", "no model"},
        {"{'a':{'input_cost_per_token':1e-6}}", "no model"}, /* whose? */
        {"{'a':1,'b':[{}],'c':'x','d':null}", "no model"},
        {"{'a':{'litellm_provider':'openai','input_cost_per_token':-1e-6}}", "a: input_cost_per_token"},
        {"{'a':{'litellm_provider':'openai','input_cost_per_token':1e999}}", "a: input_cost_per_token"},
        {"{'a':{'litellm_provider':'openai','input_cost_per_token_flex':1.000001}}", "is not a price"},
        {"{'a':{'litellm_provider':'openai','output_cost_per_token':'free'}}", "free"},
        {"{'a':{'litellm_provider':'openai','output_cost_per_token':99999999999999999999999999}}", "price"},
        {"{'data':[{'id':'x','pricing':{'prompt':'1e5'}}]}", "x: prompt"},
        {"{'a':{'litellm_provider':'openai','input_cost_per_token':NaN}}", "at byte"},
        {"{'a':{'litellm_provider':'openai','input_cost_per_token':1e-6}", "unexpected end"},
        {"{'a':{'litellm_provider':'openai','input_cost_per_token':1e-6}} x", "text after"},
        {"{'a':{'litellm_provider':'openai','input_cost_per_token':1e-6,}}", "at byte"},
        {"{'a':{'litellm_provider':'openai','tiered_pricing':[{'range':[0,'input_cost_per_token':1}]}}",
         "at byte"},
        {"{'data':[{'id':'x','pricing':{'prompt':'0'}}", "unexpected end"},
    };
    llmgw_error error;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++)
        for (size_t bite = 0; bite < 3; bite++) {
            const char *text = unit_quoted(rows[i].text);
            assert_null(load_n(text, strlen(text), NULL, &error, bite));
            assert_int_equal(error.code, LLMGW_E_CONFIG);
            if (!strstr(error.text, rows[i].why)) fail_msg("%s: %s", rows[i].text, error.text);
        }
    static char deep[100000];
    memset(deep, '[', sizeof deep);
    memcpy(deep, "{\"a\":", 5);
    assert_null(load_n(deep, sizeof deep, NULL, &error, 0));
    unit_has(error.text, "too deeply");
    const char *bad = "{\"a\xff\":{}}";
    assert_null(load_n(bad, strlen(bad), NULL, &error, 0));
    unit_has(error.text, "UTF-8");
}

/* Names that are too long, escaped or empty are no rows; a row of very many rates is refused. */
static void test_odd_rows(void **state) {
    llmgwi_base_buf buf;
    llmgw_error error;
    llmgwi_base_buf_init(&buf, &unit_mem, 1 << 20);
    llmgwi_base_buf_text(&buf, "{\"\":{\"litellm_provider\":\"openai\",\"input_cost_per_token\":0},\"");
    for (int i = 0; i < 201; i++) llmgwi_base_buf_text(&buf, "n");
    llmgwi_base_buf_text(&buf, "\":{\"litellm_provider\":\"openai\",\"input_cost_per_token\":0},"
                               "\"e\":{\"litellm_provider\":\"open\\u0061i\",\"input_cost_per_token\":0},"
                               "\"\\u006f\":{\"litellm_provider\":\"openai\",\"input_cost_per_token\":0}}");
    llmgwi_price_book *book = load_n(buf.p, buf.n, NULL, &error, 0);
    assert_non_null(book);
    assert_int_equal(book->count, 1);
    assert_true(booked(book, "openai", "o", used(1, 0, 0, 0, 0)).known);
    drop(book);
    llmgwi_base_buf_clear(&buf);
    llmgwi_base_buf_text(&buf, "{\"a\":{\"litellm_provider\":\"openai\"");
    for (int i = 1; i <= LLMGWI_PRICE_ENTRIES + 1; i++) {
        char field[80];
        snprintf(field, sizeof field, ",\"input_cost_per_token_above_%dk_tokens\":0", i);
        llmgwi_base_buf_text(&buf, field);
    }
    llmgwi_base_buf_text(&buf, "}}");
    assert_null(load_n(buf.p, buf.n, NULL, &error, 0));
    unit_has(error.text, "rates");
    llmgwi_base_buf_free(&buf);
}

static llmgwi_price_book *of_rows(int from, int to, double micro, const llmgwi_price_book *old,
                                  llmgw_error *error) {
    llmgwi_base_buf buf;
    llmgwi_base_buf_init(&buf, &unit_mem, 1 << 20);
    llmgwi_base_buf_text(&buf, "{");
    for (int i = from; i < to; i++) {
        char row[160];
        snprintf(row, sizeof row,
                 "%s\"m%d\":{\"litellm_provider\":\"openai\",\"input_cost_per_token\":%.3fe-6}",
                 i > from ? "," : "", i, micro);
        llmgwi_base_buf_text(&buf, row);
    }
    llmgwi_base_buf_text(&buf, "}");
    llmgwi_price_book *book = load_n(buf.p, buf.n, old, error, 7);
    llmgwi_base_buf_free(&buf);
    return book;
}

static void test_shrunk_file(void **state) {
    llmgw_error error;
    llmgwi_price_book *old = of_rows(0, 100, 1, NULL, &error);
    assert_int_equal(old->count, 100);
    assert_null(of_rows(0, 49, 1, old, &error));
    unit_has(error.text, "only 49 of the 100 models");
    assert_int_equal(error.code, LLMGW_E_CONFIG);
    drop(of_rows(0, 50, 1, old, &error));
    assert_int_equal(error.code, LLMGW_OK);
    assert_null(of_rows(51, 300, 1, old, &error)); /* as many, but others */
    unit_has(error.text, "only 49 of the 100 models");
    expect_micro(booked(old, "openai", "m99", used(1, 0, 0, 0, 0)), 1); /* untouched */
    drop(old);
}

typedef struct changed {
    int added, gone, other;
} changed;

static void on_change(void *user, const char *name, const llmgwi_price_rates *was,
                      const llmgwi_price_rates *is) {
    changed *c = (changed *)user;
    assert_int_equal(name[0], 'm');
    assert_true(was || is);
    if (was && is) {
        assert_true(was->hash != is->hash);
        assert_int_equal(llmgwi_price_rate(was, LLMGWI_PRICE_INPUT, 0, 0), 1000000000000);
        assert_int_equal(llmgwi_price_rate(is, LLMGWI_PRICE_INPUT, 0, 0), 1500000000000);
    }
    *(was ? is ? &c->other : &c->gone : &c->added) += 1;
}

static void test_changes(void **state) {
    llmgw_error error;
    changed c = {0, 0, 0};
    llmgwi_price_book *was = of_rows(0, 100, 1, NULL, &error), *same = of_rows(0, 100, 1, NULL, &error);
    llmgwi_price_book *is = of_rows(20, 130, 1.5, was, &error);
    assert_int_equal(llmgwi_price_changes(was, same, on_change, &c), 0);
    assert_int_equal(llmgwi_price_changes(was, is, on_change, &c), 130);
    assert_true(c.added == 30 && c.gone == 20 && c.other == 80);
    llmgwi_price_book_keep(is);
    drop(is);
    expect_pico(booked(is, "openai", "m20", used(1, 0, 0, 0, 0)), 1500000);
    drop(is);
    drop(same);
    drop(was);
    drop(NULL);
}

static void test_packed(void **state) {
    llmgwi_price_book *book = load_good(every_kind);
    llmgwi_price_entry entries[LLMGWI_PRICE_ENTRIES];
    unsigned char bytes[LLMGWI_PRICE_PACKED], again[LLMGWI_PRICE_PACKED];
    llmgwi_price_rates from[3], to;
    llmgw_price own = price(3, 15);
    llmgwi_price_what what = {&own, NULL, "m"};
    assert_true(find(book, "openai", "m", &from[0]));
    assert_true(find(NULL, "anthropic", "claude-sonnet-4-5", &from[1]));
    assert_true(llmgwi_price_find(NULL, &what, &from[2]));
    llmgw_usage usage = used(300000, 500, 1000, 2000, 300);
    for (int i = 0; i < 3; i++) {
        size_t n = llmgwi_price_pack(&from[i], bytes);
        assert_true(from[i].hash != 0);
        assert_true(llmgwi_price_unpack(bytes, n, entries, &to));
        assert_true(to.hash == from[i].hash && to.count == from[i].count);
        assert_int_equal(llmgwi_price_pack(&to, again), n);
        assert_memory_equal(bytes, again, n);
        expect_pico(llmgwi_price_cost(&to, &usage), llmgwi_price_cost(&from[i], &usage).pico_usd);
        assert_false(llmgwi_price_unpack(bytes, n - 1, entries, &to));
        bytes[0] = 200;
        assert_false(llmgwi_price_unpack(bytes, n, entries, &to));
        bytes[0] = 0;
        bytes[13] = 0x80; /* a rate below zero */
        assert_false(llmgwi_price_unpack(bytes, n, entries, &to));
    }
    assert_true(from[0].hash != from[1].hash && from[1].hash != from[2].hash);
    llmgwi_price_rates copy = from[2]; /* may be copied */
    memset(&from[2], 0, sizeof from[2]);
    expect_pico(llmgwi_price_cost(&copy, &usage), 300000LL * 3000000 + 500 * 15000000LL);
    drop(book);
}

typedef struct heap {
    int64_t left; /* allocations until one fails; negative: none does */
    size_t live;
} heap;

static void *meter(void *ptr, size_t old_size, size_t new_size, void *user) {
    heap *h = (heap *)user;
    if (new_size && h->left >= 0 && h->left-- == 0) {
        h->left = 0;
        return NULL;
    }
    h->live += new_size - old_size;
    if (new_size) return realloc(ptr, new_size);
    free(ptr);
    return NULL;
}

/* Every allocation in turn: an error, or the whole book; and nothing is left. */
static void test_out_of_memory(void **state) {
    bool made = false;
    int failed = 0;
    for (int64_t after = 0; !made; after++) {
        heap h = {-1, 0};
        llmgwi_base_mem mem = {meter, &h};
        llmgwi_base_buf buf;
        llmgw_error error;
        memset(&error, 0, sizeof error);
        llmgwi_base_buf_init(&buf, &mem, 1 << 20);
        assert_true(llmgwi_base_buf_text(&buf, unit_quoted(every_kind)));
        h.left = after;
        llmgwi_price_load *load = llmgwi_price_load_new(&mem, &buf);
        llmgwi_price_book *book = load ? llmgwi_price_load_end(load, NULL, &error) : NULL;
        h.left = -1;
        if (load && !book) assert_int_equal(error.code, LLMGW_E_MEMORY);
        failed += !book;
        made = book != NULL;
        llmgwi_price_book_free(book, &mem);
        assert_int_equal(h.live, 0);
    }
    assert_true(failed >= 5);
}

/* A load that is given up gives everything back; one that stands still between bites loses nothing. */
static void test_bites(void **state) {
    heap h = {-1, 0};
    llmgwi_base_mem mem = {meter, &h};
    llmgwi_base_buf buf;
    llmgw_error error;
    llmgwi_base_buf_init(&buf, &mem, 1 << 20);
    assert_true(llmgwi_base_buf_text(&buf, unit_quoted(every_kind)));
    llmgwi_price_load *load = llmgwi_price_load_new(&mem, &buf);
    assert_true(llmgwi_price_load_step(load, 1)); /* sample_spec */
    assert_true(llmgwi_price_load_step(load, 1)); /* m */
    assert_int_equal(load->book->row_count, 1);
    assert_false(llmgwi_price_load_step(load, 1));
    assert_false(llmgwi_price_load_step(load, 1));
    llmgwi_price_load_free(load);
    assert_int_equal(h.live, 0);
    llmgwi_price_book *all = of_rows(0, 300, 1, NULL, &error), *one = of_rows(0, 300, 1, all, &error);
    assert_int_equal(llmgwi_price_changes(all, one, NULL, NULL), 0);
    drop(all);
    drop(one);
}

#define LITELLM "/work/shared/data/prices/model_prices_and_context_window.json"

static bool has_rate(json_t *row) {
    const char *key;
    json_t *value;
    static const char *const names[] = {"input_cost_per_token",
                                        "output_cost_per_token",
                                        "cache_read_input_token_cost",
                                        "cache_creation_input_token_cost",
                                        "input_cost_per_audio_token",
                                        "output_cost_per_audio_token",
                                        "output_cost_per_reasoning_token",
                                        "input_cost_per_image",
                                        "input_cost_per_request"};
    json_object_foreach(row, key, value) {
        for (size_t i = 0; i < LLMGWI_BASE_COUNT(names); i++)
            if (strcmp(key, names[i]) == 0) return true;
        if (strcmp(key, "tiered_pricing") == 0 &&
            json_object_get(json_array_get(value, 0), "input_cost_per_token"))
            return true;
    }
    return false;
}

/* LiteLLM's own file, whole: each of its rows that has a price, and its input price as jansson reads it. */
static void test_litellm_file(void **state) {
    json_error_t why;
    json_t *json = json_load_file(LITELLM, 0, &why), *row;
    const char *name;
    size_t priced = 0, steps = 0;
    llmgw_error error;
    if (!json) {
        print_message("SKIP %s: %s\n", LITELLM, why.text);
        skip();
    }
    llmgwi_base_buf buf;
    llmgwi_base_buf_init(&buf, &unit_mem, (size_t)64 << 20);
    char *text = json_dumps(json, JSON_PRESERVE_ORDER);
    assert_true(llmgwi_base_buf_text(&buf, text));
    free(text);
    llmgwi_price_load *load = llmgwi_price_load_new(&unit_mem, &buf);
    while (llmgwi_price_load_step(load, 64)) steps++;
    llmgwi_price_book *book = llmgwi_price_load_end(load, NULL, &error);
    if (!book) fail_msg("%s", error.text);
    assert_int_equal(steps, json_object_size(json) / 64);
    json_object_foreach(json, name, row) {
        if (strcmp(name, "sample_spec") == 0 || !has_rate(row)) continue;
        uint32_t slot = *llmgwi_price_slot(book, llmgwi_base_cstr(name));
        llmgwi_price_rates rates;
        if (!slot) fail_msg("%s is not there", name);
        priced++;
        llmgwi_price_read(book, &book->rows[slot - 1], &rates);
        json_t *input = json_object_get(row, "input_cost_per_token");
        int64_t atto = llmgwi_price_rate(&rates, LLMGWI_PRICE_INPUT, 0, 0);
        if (input &&
            fabs((double)atto / 1e18 - json_number_value(input)) > 1e-15 * json_number_value(input) + 1e-18)
            fail_msg("%s: %lld, file %g", name, (long long)atto, json_number_value(input));
    }
    assert_int_equal(book->count, priced);
    print_message("%lu rows, %lu of them priced, %lu rates\n", (unsigned long)json_object_size(json),
                  (unsigned long)priced, (unsigned long)book->entry_count);
    json_decref(json);
    drop(book);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_whole_book),
        cmocka_unit_test(test_long_tier_boundary),
        cmocka_unit_test(test_half_to_even),
        cmocka_unit_test(test_rounded_once),
        cmocka_unit_test(test_configured),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_dated_names),
        cmocka_unit_test(test_inconsistent_usage),
        cmocka_unit_test(test_saturation),
        cmocka_unit_test(test_wide_arithmetic),
        cmocka_unit_test(test_total),
        cmocka_unit_test(test_decimals),
        cmocka_unit_test(test_decimals_anywhere),
        cmocka_unit_test(test_every_kind),
        cmocka_unit_test(test_thresholds),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_openrouter),
        cmocka_unit_test(test_hostile_files),
        cmocka_unit_test(test_odd_rows),
        cmocka_unit_test(test_shrunk_file),
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_packed),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_bites),
        cmocka_unit_test(test_litellm_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
