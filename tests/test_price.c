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
    memset(&none, 0, sizeof none);
    what.own = own ? own : &none;
    what.flavour = flavour;
    what.model = model;
    return llmgwi_price_cost(&what, &usage);
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
    assert_int_equal(LLMGWI_BASE_COUNT(prices_md), LLMGWI_BASE_COUNT(llmgwi_price_book));
    for (size_t row = 0; row < LLMGWI_BASE_COUNT(prices_md); row++)
        for (int i = 0; i < 200; i++) {
            int64_t part[5];
            for (int j = 0; j < 5; j++) {
                random = random * 6364136223846793005u + 1442695040888963407u;
                part[j] = (int64_t)((random >> 33) % (i < 100 ? 1000 : 150000));
            }
            llmgw_usage usage =
                used(part[0] + part[1] + part[2] + part[3], part[4], part[1], part[2] + part[3], part[3]);
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
