/* test_cache_kill.c - kill -9 of processes that share a store, a few times; build/cache_kill is the long form. */
#include "killing.h"

static void test_kill(void **state) {
    (void)state;
    killing_sum sum = killing(t_rounds(25), 1);
    killing_print(&sum);
    assert_true(killing_is_good(&sum));
    assert_true(sum.looked > 0 && sum.flushes > 0 && sum.survivors > 0);
    assert_true(sum.exact > 0 || t_slow()); /* a few questions do not repeat */
}

int main(int argc, char **argv) {
    killing_main(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
