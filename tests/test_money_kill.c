/* test_money_kill.c - kill -9 of processes that spend on one ledger, a few times, and a dollar that 3 processes of 64
 * threads spend; build/money_kill is the long form. */
#include "spending.h"

static void test_kill(void **state) {
    (void)state;
    spending_sum sum = spending_kills(t_rounds(20), 1);
    spending_print(&sum);
    assert_true(spending_is_good(&sum));
    assert_true(sum.good > 0 && sum.cancelled > 0 && sum.recovered > 0 && sum.flushes > 0);
    assert_true(sum.refused > 0 || t_slow()); /* a few kills do not use up a budget */
    assert_true(sum.rows > sum.recovered && sum.bills > 0);
}

/* seed: 2: all answers use more than was reserved for them; odd: none does, and nothing may be overrun. */
static void dollar(uint64_t seed) {
    spending_sum sum;
    memset(&sum, 0, sizeof sum);
    spending_report report = spending_dollar(seed, 0, &sum);
    assert_true(spending_is_good(&sum));
    assert_true(report.rows > 800 && sum.refused > 0);
    assert_true(seed % 2 ? report.excess == 0 && report.overrun == 0
                         : report.excess > 0 && report.overrun > 0);
}

static void test_dollar(void **state) {
    (void)state;
    dollar(1);
}

static void test_dollar_overrun(void **state) {
    (void)state;
    dollar(2);
}

int main(int argc, char **argv) {
    spending_main(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill), cmocka_unit_test(test_dollar),
                                       cmocka_unit_test(test_dollar_overrun)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
