/* money_kill.c - processes that spend on one ledger are killed at random moments, and budgets of a dollar are spent by
 * 3 processes of 64 threads: see spending.h.
 *
 *   build/money_kill [--kills N (200)] [--dollars N (6)] [--seed N (1)]
 *
 * Prints what happened; ends with 1 when ledger, budgets and the provider's own books do not agree. */
#include "spending.h"

int main(int argc, char **argv) {
    int kills = 200, dollars = 6;
    uint64_t seed = 1;
    spending_main(argc, argv);
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--kills")) kills = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--dollars")) dollars = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--seed")) seed = strtoull(argv[i + 1], NULL, 10);
    }
    spending_sum sum = spending_kills(kills, seed);
    spending_print(&sum);
    bool good = spending_is_good(&sum);
    for (int i = 0; i < dollars; i++) {
        memset(&sum, 0, sizeof sum);
        (void)spending_dollar(seed + (uint64_t)i, i % 3 == 2 ? 1 + i % 2 : 0, &sum);
        good = spending_is_good(&sum) && good;
    }
    return !good;
}
