/* group.h - one fake provider for all tests of a program: cmocka_run_group_tests(tests, group_start, group_stop). */
#ifndef GROUP_H
#define GROUP_H

#include "testing.h"

static Provider provider;

static int group_start(void **state) {
    provider_start(&provider, NULL);
    return 0;
}

static int group_stop(void **state) {
    provider_stop(&provider);
    return 0;
}

#endif
