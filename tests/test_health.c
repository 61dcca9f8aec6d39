/* What may be tried after a failure, how long to wait, and whose turn it is. */
#include "unit.h"

static void test_backoff_bounds(void **state) {
    static const int64_t tops[] = {500000, 500000, 1000000, 2000000, 4000000, 8000000, 8000000, 8000000};
    for (unsigned n = 0; n < LLMGWI_BASE_COUNT(tops); n++) {
        assert_int_equal(llmgwi_health_backoff(n, 0), 0);
        assert_int_equal(llmgwi_health_backoff(n, (uint64_t)tops[n]),
                         tops[n]); /* the top itself is reached */
        assert_int_equal(llmgwi_health_backoff(n, (uint64_t)tops[n] + 1), 0);
    }
    static const unsigned large[] = {60, 63, 64, 65, 1000, UINT_MAX};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(large); i++) {
        assert_int_equal(llmgwi_health_backoff(large[i], 8000000), 8000000);
        assert_in_range(llmgwi_health_backoff(large[i], UINT64_MAX), 0, 8000000);
    }
}

/* Full jitter: uniform over the whole range. Ten bins of 10,000 each, by the header's own random. */
static void test_backoff_jitter(void **state) {
    for (unsigned n = 1; n <= 6; n++) {
        int64_t top = n >= 5 ? 8000000 : 500000LL << (n - 1), sum = 0;
        int bins[10] = {0};
        for (int i = 0; i < 100000; i++) {
            int64_t us = llmgwi_health_backoff(n, llmgwi_base_random(NULL));
            assert_true(us >= 0 && us <= top);
            sum += us;
            bins[us == top ? 9 : us * 10 / top]++;
        }
        for (int i = 0; i < 10; i++) assert_in_range(bins[i], 9300, 10700); /* 7 standard deviations */
        assert_in_range(sum / 100000, top / 2 - top / 100, top / 2 + top / 100);
    }
}

#define OTHER LLMGWI_HEALTH_OTHER
#define SAME LLMGWI_HEALTH_SAME
#define BOTH LLMGWI_HEALTH_BOTH

static const struct {
    llmgw_code code;
    unsigned next;
} nexts[] = {
    {LLMGW_OK, 0},
    {LLMGW_E_ARGUMENT, 0},
    {LLMGW_E_CONFIG, 0},
    {LLMGW_E_MODEL, 0},
    {LLMGW_E_NO_KEY, OTHER},
    {LLMGW_E_UNSUPPORTED, OTHER},
    {LLMGW_E_MISUSE, 0},
    {LLMGW_E_CANCELLED, 0},
    {LLMGW_E_RESTRICTED, 0},
    {LLMGW_E_INSECURE, 0},
    {LLMGW_E_BAD_REQUEST, OTHER},
    {LLMGW_E_AUTH, OTHER},
    {LLMGW_E_QUOTA, OTHER},
    {LLMGW_E_NOT_FOUND, OTHER},
    {LLMGW_E_CONTEXT_LENGTH, OTHER},
    {LLMGW_E_FILTERED, OTHER},
    {LLMGW_E_RATE_LIMITED, BOTH},
    {LLMGW_E_OVERLOADED, BOTH},
    {LLMGW_E_PROVIDER, BOTH},
    {LLMGW_E_PROTOCOL, BOTH},
    {LLMGW_E_TRUNCATED, BOTH},
    {LLMGW_E_TOO_LARGE, OTHER},
    {LLMGW_E_NETWORK, BOTH},
    {LLMGW_E_TLS, OTHER},
    {LLMGW_E_TIMEOUT_CONNECT, BOTH},
    {LLMGW_E_TIMEOUT_FIRST_TOKEN, BOTH},
    {LLMGW_E_TIMEOUT_IDLE, BOTH},
    {LLMGW_E_DEADLINE, 0},
    {LLMGW_E_MEMORY, 0},
    {LLMGW_E_LIMIT, 0},
    {LLMGW_E_CLOSED, 0},
    {LLMGW_E_FORKED, 0},
    {LLMGW_E_INTERNAL, 0},
};

static void test_next(void **state) {
    assert_int_equal(LLMGWI_BASE_COUNT(nexts), LLMGWI_BASE_COUNT(llmgwi_base_errors)); /* all of them */
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(nexts); i++) {
        unsigned next = llmgwi_health_next(nexts[i].code, 0);
        if (next != nexts[i].next) fail_msg("%s: %u", llmgw_code_name(nexts[i].code), next);
    }
    assert_int_equal(llmgwi_health_next((llmgw_code)9999, 0), 0);
}

/* x-should-retry decides about this target only: an ended call stays ended. */
static void test_next_should_retry(void **state) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(nexts); i++) {
        unsigned yes = llmgwi_health_next(nexts[i].code, 1), no = llmgwi_health_next(nexts[i].code, -1);
        assert_int_equal(yes, nexts[i].next ? nexts[i].next | SAME : 0);
        assert_int_equal(no, nexts[i].next ? OTHER : 0);
    }
}

static llmgwi_route_plan plan_of(size_t count) {
    llmgwi_route_plan plan;
    memset(&plan, 0, sizeof plan);
    plan.count = count;
    return plan;
}

static void test_route_order(void **state) {
    llmgwi_route_plan plan = plan_of(3);
    for (int round = 0; round < 4; round++)
        for (size_t want = 0; want < 3; want++) { /* in order, again and again */
            size_t i = llmgwi_route_next(&plan);
            assert_int_equal(i, want);
            plan.tries[i]++;
            llmgwi_route_failed(&plan, i, BOTH);
        }
}

static void test_route_dead(void **state) {
    llmgwi_route_plan plan = plan_of(3);
    plan.tries[0]++;
    llmgwi_route_failed(&plan, 0, OTHER); /* not again */
    assert_int_equal(llmgwi_route_next(&plan), 1);
    plan.tries[1]++;
    llmgwi_route_failed(&plan, 1, BOTH);
    assert_int_equal(llmgwi_route_next(&plan), 2);
    plan.tries[2]++;
    llmgwi_route_failed(&plan, 2, OTHER);
    assert_int_equal(llmgwi_route_next(&plan), 1); /* the only one left */
    plan.tries[1]++;
    llmgwi_route_failed(&plan, 1, OTHER);
    assert_int_equal(llmgwi_route_next(&plan), SIZE_MAX);
}

static void test_route_end(void **state) {
    llmgwi_route_plan plan = plan_of(LLMGWI_ROUTE_TARGETS);
    llmgwi_route_failed(&plan, 5, 0); /* a failure that ends the call */
    assert_int_equal(llmgwi_route_next(&plan), SIZE_MAX);
    plan = plan_of(0);
    assert_int_equal(llmgwi_route_next(&plan), SIZE_MAX);
    plan = plan_of(LLMGWI_ROUTE_TARGETS);
    for (size_t i = 0; i + 1 < plan.count; i++) llmgwi_route_failed(&plan, i, OTHER);
    assert_int_equal(llmgwi_route_next(&plan), LLMGWI_ROUTE_TARGETS - 1);
}

static void test_route_cap_agrees(void **state) {
    assert_int_equal(LLMGWI_ROUTE_TARGETS, LLMGWI_CONFIG_ROUTE_TARGETS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backoff_bounds), cmocka_unit_test(test_backoff_jitter),
        cmocka_unit_test(test_next),           cmocka_unit_test(test_next_should_retry),
        cmocka_unit_test(test_route_order),    cmocka_unit_test(test_route_dead),
        cmocka_unit_test(test_route_end),      cmocka_unit_test(test_route_cap_agrees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
