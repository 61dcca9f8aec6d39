/* cache_kill.c - processes that share a store are killed at random moments: see killing.h.
 *
 *   build/cache_kill [--kills N (500)] [--seed N (1)]
 *
 * Prints what happened; ends with 1 when something that was committed is gone, tables disagree or somebody waits. */
#include "killing.h"

int main(int argc, char **argv) {
    int kills = 500;
    uint64_t seed = 1;
    killing_main(argc, argv);
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--kills")) kills = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--seed")) seed = strtoull(argv[i + 1], NULL, 10);
    }
    killing_sum sum = killing(kills, seed);
    killing_print(&sum);
    return !killing_is_good(&sum);
}
