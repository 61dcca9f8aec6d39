/* What may be tried after a failure, how long to wait, whose turn it is, and who may go at all: tables of
   single steps, and properties under random loads against exact logs and simulated providers. */
#include "unit.h"

#include <math.h>

#define SECOND ((int64_t)1000000)
#define MINUTE (60 * SECOND)

/* A run is its seed. */
static uint64_t random_state;

static int64_t random_below(int64_t n) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((random_state >> 33) % (uint64_t)n);
}

/* Clocks start anywhere: at 1 us, after some hours, and after 30 years. */
static int64_t random_start(unsigned seed) {
    static const int64_t starts[] = {1, 12345678901, 946080000000000};
    random_state = seed * 7919u + 17;
    for (int i = 0; i < 4; i++) (void)random_below(2);
    return starts[seed % LLMGWI_BASE_COUNT(starts)];
}

static int64_t backoff(unsigned n, uint64_t random) {
    return llmgwi_health_pause(n, 500000, 8000000, random);
}

/* More than the limit counts as the limit: a big one passes when it is alone. */
static bool fits(llmgwi_health_window *w, int64_t now, int64_t n) {
    return llmgwi_health_window_when(w, now, w->limit && n > w->limit ? w->limit : n) <= now;
}

static void test_backoff_bounds(void **state) {
    static const int64_t tops[] = {500000, 500000, 1000000, 2000000, 4000000, 8000000, 8000000, 8000000};
    for (unsigned n = 0; n < LLMGWI_BASE_COUNT(tops); n++) {
        assert_int_equal(backoff(n, 0), 0);
        assert_int_equal(backoff(n, (uint64_t)tops[n]), tops[n]); /* the top itself is reached */
        assert_int_equal(backoff(n, (uint64_t)tops[n] + 1), 0);
    }
    static const unsigned large[] = {60, 63, 64, 65, 1000, UINT_MAX};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(large); i++) {
        assert_int_equal(backoff(large[i], 8000000), 8000000);
        assert_in_range(backoff(large[i], UINT64_MAX), 0, 8000000);
    }
}

/* Full jitter: uniform over the whole range. Ten bins of 10,000 each, by the header's own random. */
static void test_backoff_jitter(void **state) {
    for (unsigned n = 1; n <= 6; n++) {
        int64_t top = n >= 5 ? 8000000 : 500000LL << (n - 1), sum = 0;
        int bins[10] = {0};
        for (int i = 0; i < 100000; i++) {
            int64_t us = backoff(n, llmgwi_base_random(NULL));
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

#define KEY LLMGWI_HEALTH_KEY
#define BREAKER LLMGWI_HEALTH_BREAKER
#define DEAD LLMGWI_HEALTH_DEAD
#define SHRINK LLMGWI_HEALTH_SHRINK
#define COSTS LLMGWI_HEALTH_COSTS

static const struct {
    llmgw_code code;
    unsigned what;
    const char *name;
} meanings[] = {
    {LLMGW_OK, 0, ""},
    {LLMGW_E_ARGUMENT, 0, ""},
    {LLMGW_E_CONFIG, 0, ""},
    {LLMGW_E_MODEL, 0, ""},
    {LLMGW_E_NO_KEY, OTHER, "caller's fault"},
    {LLMGW_E_UNSUPPORTED, OTHER, "caller's fault"},
    {LLMGW_E_MISUSE, 0, ""},
    {LLMGW_E_CANCELLED, 0, ""},
    {LLMGW_E_RESTRICTED, 0, ""},
    {LLMGW_E_INSECURE, 0, ""},
    {LLMGW_E_BAD_REQUEST, OTHER, "caller's fault"},
    {LLMGW_E_AUTH, KEY | OTHER | DEAD, "key dead"},
    {LLMGW_E_QUOTA, KEY | OTHER | DEAD, "quota gone"},
    {LLMGW_E_NOT_FOUND, OTHER, "caller's fault"},
    {LLMGW_E_CONTEXT_LENGTH, OTHER, "caller's fault"},
    {LLMGW_E_FILTERED, OTHER | COSTS, "filtered"},
    {LLMGW_E_RATE_LIMITED, KEY | BOTH, "rate limited"},
    {LLMGW_E_OVERLOADED, BOTH | BREAKER | SHRINK, "overloaded"},
    {LLMGW_E_PROVIDER, BOTH | BREAKER, "provider broken"},
    {LLMGW_E_PROTOCOL, BOTH | BREAKER | COSTS, "protocol"},
    {LLMGW_E_TRUNCATED, BOTH | BREAKER | COSTS, "truncated"},
    {LLMGW_E_TOO_LARGE, OTHER | LLMGWI_HEALTH_COSTS, "caller's fault"},
    {LLMGW_E_INVALID, BOTH | COSTS, "invalid"},
    {LLMGW_E_NETWORK, BOTH | BREAKER, "network"},
    {LLMGW_E_TLS, OTHER | BREAKER, "network"},
    {LLMGW_E_TIMEOUT_CONNECT, BOTH | BREAKER, "network"},
    {LLMGW_E_TIMEOUT_FIRST_TOKEN, BOTH | BREAKER | SHRINK | COSTS, "too slow"},
    {LLMGW_E_TIMEOUT_IDLE, BOTH | BREAKER | COSTS, "too slow"},
    {LLMGW_E_DEADLINE, 0, ""},
    {LLMGW_E_MEMORY, 0, ""},
    {LLMGW_E_LIMIT, 0, ""},
    {LLMGW_E_CLOSED, 0, ""},
    {LLMGW_E_FORKED, 0, ""},
    {LLMGW_E_INTERNAL, 0, ""},
    {LLMGW_E_BREAKER, 0, ""},
    {LLMGW_E_RETRY_BUDGET, 0, ""},
    {LLMGW_E_STORE, OTHER, "no ledger"},
    {LLMGW_E_UNAUTHORIZED, 0, ""},
    {LLMGW_E_FORBIDDEN, 0, ""},
    {LLMGW_E_BUDGET, OTHER, "no money"},
};

static void test_meaning(void **state) {
    assert_int_equal(LLMGWI_BASE_COUNT(meanings), LLMGWI_BASE_COUNT(llmgwi_base_errors)); /* all of them */
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(meanings); i++) {
        unsigned what = llmgwi_health_what(meanings[i].code, 0);
        if (what != meanings[i].what) fail_msg("%s: %#x", llmgw_code_name(meanings[i].code), what);
        assert_string_equal(llmgwi_health_class(meanings[i].code), meanings[i].name);
    }
    assert_int_equal(llmgwi_health_what((llmgw_code)9999, 1), 0);
    assert_string_equal(llmgwi_health_class((llmgw_code)9999), "");
}

/* x-should-retry decides about this target only: an ended call stays ended. */
static void test_meaning_should_retry(void **state) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(meanings); i++) {
        unsigned what = meanings[i].what;
        assert_int_equal(llmgwi_health_what(meanings[i].code, 1), what ? what | SAME : 0);
        assert_int_equal(llmgwi_health_what(meanings[i].code, -1), what & ~SAME);
    }
}

static const struct {
    unsigned n;
    int64_t base_us, max_us, top; /* the longest pause that may come out */
} pauses[] = {
    {1, 100, 1000, 100},
    {0, 100, 1000, 100},
    {2, 100, 1000, 200},
    {4, 100, 1000, 800},
    {5, 100, 1000, 1000},
    {1, 5000, 700, 700},
    {9, 5000, 700, 700},
    {UINT_MAX, 1, 1 << 20, 1 << 20},
    {3, 0, 1000, 0},
    {3, -5, 1000, 0},
    {3, 100, 0, 0},
    {3, 100, -1, 0},
    {UINT_MAX, 3, INT64_MAX, INT64_MAX},
};

static void test_pause(void **state) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(pauses); i++) {
        unsigned n = pauses[i].n;
        int64_t base = pauses[i].base_us, max = pauses[i].max_us, top = pauses[i].top;
        assert_int_equal(llmgwi_health_pause(n, base, max, 0), 0);
        assert_int_equal(llmgwi_health_pause(n, base, max, (uint64_t)top), top);
        assert_int_equal(llmgwi_health_pause(n, base, max, (uint64_t)top + 1), 0);
    }
}

static llmgwi_route_plan plan_of(size_t count) {
    llmgwi_route_plan plan;
    memset(&plan, 0, sizeof plan);
    llmgwi_route_in_order(&plan, count);
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

/* ---- window ---- */

#define WINDOW_LOG 20000

/* Everything that was ever taken, exactly. */
typedef struct window_log {
    int64_t at[WINDOW_LOG], n[WINDOW_LOG], slot[WINDOW_LOG];
    int count;
} window_log;

static window_log taken;

static int64_t taken_after(int64_t after) {
    int64_t sum = 0;
    for (int i = taken.count - 1; i >= 0 && taken.at[i] > after; i--) sum += taken.n[i];
    return sum;
}

/* What take counted for the last log entries is corrected, as when a reply tells the true usage. */
static void window_settle_random(llmgwi_health_window *w, int64_t now, int64_t most_up) {
    int i = taken.count - 1 - (int)random_below(taken.count < 50 ? taken.count : 50);
    int64_t delta = random_below(taken.n[i] + 1 + most_up) - taken.n[i];
    llmgwi_health_window_settle(w, now, taken.slot[i], delta);
    taken.n[i] += delta;
}

/* The sum is never below the truth of one span, never above that of 61 slots; when is exact. */
static void window_check(llmgwi_health_window *w, int64_t now) {
    int64_t width = llmgwi_health_window_width(w), used = llmgwi_health_window_used(w, now);
    int64_t n = 1 + random_below(w->limit), when;
    llmgwi_health_window later = *w;
    assert_true(used >= taken_after(now - w->span_us));
    assert_true(used <= taken_after(now - 61 * width));
    when = llmgwi_health_window_when(w, now, n);
    assert_true(when >= now && when <= now + 61 * width);
    assert_int_equal(when == now, fits(w, now, n));
    if (when == now) return;
    assert_false(fits(&later, when - 1, n));
    assert_true(fits(&later, when, n));
}

static void window_run(unsigned seed, int64_t most_up) {
    static const int64_t spans[] = {MINUTE, SECOND, 1440 * MINUTE, 60 * 7 + 1};
    llmgwi_health_window w;
    int64_t now = random_start(seed), limit = 1 + random_below(seed % 2 ? 20 : 100000);
    int64_t span = spans[seed / 3 % LLMGWI_BASE_COUNT(spans)], pause = 1 + span / (1 + random_below(300));
    llmgwi_health_window_init(&w, limit, span);
    for (taken.count = 0; taken.count < 2000;) {
        int64_t n = 1 + random_below(random_below(4) ? 1 + limit / 10 : limit);
        now += random_below(pause) * (random_below(50) ? 1 : 40);
        if (fits(&w, now, n)) {
            taken.at[taken.count] = now;
            taken.n[taken.count] = n;
            taken.slot[taken.count++] = llmgwi_health_window_take(&w, now, n);
            if (!most_up) assert_true(taken_after(now - span) <= limit);
        }
        if (taken.count && !random_below(3)) window_settle_random(&w, now, most_up);
        if (!random_below(8)) window_check(&w, now);
    }
}

static void test_window_property(void **state) {
    for (unsigned seed = 0; seed < 24; seed++) window_run(seed, 0);
    for (unsigned seed = 0; seed < 24; seed++) window_run(seed, 1 + seed * 10);
}

/* At saturation nearly the whole limit goes through: one slot in 61 is lost to the coarseness. */
static void test_window_throughput(void **state) {
    static const int64_t limits[] = {1, 7, 60, 1000};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(limits); i++) {
        llmgwi_health_window w;
        int64_t start = random_start((unsigned)i), now = start, through = 0, spans = 40;
        llmgwi_health_window_init(&w, limits[i], MINUTE);
        for (; now < start + spans * MINUTE; now += i % 2 ? 0 : random_below(1000)) {
            now = llmgwi_health_window_when(&w, now, 1);
            (void)llmgwi_health_window_take(&w, now, 1);
            through++;
        }
        assert_true(through * 62 >= limits[i] * spans * 60);
        assert_true(through <= limits[i] * (spans + 1));
    }
}

static void test_window_steps(void **state) {
    llmgwi_health_window w;
    llmgwi_health_window_init(&w, 100, MINUTE); /* slots of one second */
    assert_int_equal(llmgwi_health_window_take(&w, SECOND - 1, 40), 0);
    assert_int_equal(llmgwi_health_window_take(&w, SECOND, 60), 1);
    assert_false(fits(&w, SECOND, 1));
    assert_int_equal(llmgwi_health_window_used(&w, 60 * SECOND + 999999), 100);
    assert_int_equal(llmgwi_health_window_used(&w, 61 * SECOND), 60);
    assert_int_equal(llmgwi_health_window_used(&w, 60 * SECOND), 60); /* a clock one slot behind */
    assert_int_equal(llmgwi_health_window_when(&w, 61 * SECOND, 40), 61 * SECOND);
    assert_int_equal(llmgwi_health_window_when(&w, 61 * SECOND, 41), 62 * SECOND);
    assert_int_equal(llmgwi_health_window_when(&w, 61 * SECOND, 100), 62 * SECOND);
    assert_int_equal(llmgwi_health_window_when(&w, 61 * SECOND, 101), 121 * SECOND);
    assert_int_equal(llmgwi_health_window_when(&w, 61 * SECOND, 240), 181 * SECOND);
    assert_int_equal(llmgwi_health_window_when(&w, 61 * SECOND, 241), 182 * SECOND);
    assert_int_equal(llmgwi_health_window_used(&w, 62 * SECOND), 0);
}

static void test_window_big_request(void **state) {
    llmgwi_health_window w;
    llmgwi_health_window_init(&w, 100, MINUTE);
    assert_true(fits(&w, SECOND, 5000));
    int64_t slot = llmgwi_health_window_take(&w, SECOND, 5000);
    assert_false(fits(&w, SECOND, 1));
    llmgwi_health_window_settle(&w, 2 * SECOND, slot, -4990);
    assert_true(fits(&w, 2 * SECOND, 90));
    assert_false(fits(&w, 2 * SECOND, 91));
    assert_false(fits(&w, 2 * SECOND, 5000)); /* not alone */
    assert_true(fits(&w, 62 * SECOND, 5000));
}

static void test_window_bounds(void **state) {
    llmgwi_health_window w;
    llmgwi_health_window_init(&w, 0, MINUTE); /* no limit */
    for (int i = 0; i < 5; i++) (void)llmgwi_health_window_take(&w, SECOND * i + 1, INT64_MAX);
    assert_true(fits(&w, SECOND, INT64_MAX));
    assert_int_equal(llmgwi_health_window_when(&w, SECOND, INT64_MAX), SECOND);
    assert_int_equal(llmgwi_health_window_used(&w, 5 * SECOND), 5 * LLMGWI_HEALTH_COUNT_MAX);
    llmgwi_health_window_init(&w, INT64_MAX, INT64_MAX);
    assert_true(llmgwi_health_window_take(&w, INT64_MAX, INT64_MAX) > 0);
    assert_true(llmgwi_health_window_when(&w, SECOND, INT64_MAX) > SECOND);
    llmgwi_health_window_init(&w, -1, -1);
    assert_true(fits(&w, 1, 1));
    llmgwi_health_window_init(&w, 10, MINUTE);
    assert_int_equal(llmgwi_health_window_take(&w, 100 * SECOND, -5), 100);
    assert_int_equal(llmgwi_health_window_used(&w, 100 * SECOND), 0);
    assert_true(fits(&w, 100 * SECOND, -5));
    (void)llmgwi_health_window_take(&w, 100 * SECOND, 4);
    static const int64_t strange[] = {-1, 0, 39, 101, INT64_MAX, INT64_MIN, 61 + 100, 100 - 61};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(strange); i++)
        llmgwi_health_window_settle(&w, 100 * SECOND, strange[i], 3); /* not in the window: nothing */
    assert_int_equal(llmgwi_health_window_used(&w, 100 * SECOND), 4);
    llmgwi_health_window_settle(&w, 160 * SECOND, 100, 3); /* the oldest that is */
    assert_int_equal(llmgwi_health_window_used(&w, 160 * SECOND), 7);
    llmgwi_health_window_settle(&w, 160 * SECOND, 100, INT64_MIN + 1);
    assert_int_equal(llmgwi_health_window_used(&w, 160 * SECOND), 0);
}

/* ---- bucket ---- */

/* limit, remaining, reset and taken_since at second 1000; then n are wanted `later` us after that. */
static const struct {
    int64_t limit, remaining, reset_us, since, later, n, wait;
} buckets[] = {
    {100, 0, 10 * SECOND, 0, 0, 1, SECOND / 10},         /* a straight line */
    {100, 0, 10 * SECOND, 0, 0, 100, 10 * SECOND},       /* all of it */
    {100, 0, 10 * SECOND, 0, 0, 5000, 10 * SECOND},      /* a big one: when it is full */
    {100, 0, 10 * SECOND, 0, 2 * SECOND, 30, SECOND},    /* 20 are back */
    {100, 0, 10 * SECOND, 0, 30 * SECOND, 100, 0},       /* full */
    {100, 60, 8 * SECOND, 0, 0, 60, 0},                  /* at once */
    {100, 60, 8 * SECOND, 0, 0, 65, SECOND},             /* 40 in 8 s */
    {100, 60, 8 * SECOND, 20, 0, 60, 4 * SECOND},        /* 20 of the 60 are gone */
    {100, 60, 8 * SECOND, 80, 0, 20, 8 * SECOND},        /* more than there was */
    {100, 100, 0, 0, 0, 100, 0},                         /* full tells no rate: per minute */
    {100, 100, 0, 50, 0, 100, 30 * SECOND},              /* ditto */
    {3, 0, SECOND, 0, 0, 1, 333334},                     /* rounded up */
    {100, 50, 0, 0, 1, 100, 0},                          /* reset at once */
    {100, 400, 10 * SECOND, 0, 0, 100, 0},               /* more remaining than the limit: clipped */
    {100, 400, 10 * SECOND, 70, 0, 31, SECOND / 10 * 6}, /* to 100 less 70 */
    {100, 0, 3600 * SECOND, 0, 0, 100, MINUTE},          /* reset is capped */
    {100, 0, MINUTE, 1000, 0, 100, MINUTE},              /* never later than a minute */
    {100, 0, MINUTE, 1000, 119999999, 100, 1},           /* soon forgotten */
    {100, 0, MINUTE, 1000, 2 * MINUTE, 100, 0},          /* forgotten */
    {100, -1, SECOND, 0, 0, 100, 0},                     /* no header at all */
    {100, 0, -SECOND, 0, 0, 100, 0},                     /* no header at all */
    {100, 0, SECOND, -50, 0, 100, SECOND},               /* none taken */
    {0, 0, 7 * SECOND, 0, 0, 1, 7 * SECOND},             /* a gate */
    {-1, 0, 7 * SECOND, 0, 5 * SECOND, 900, 2 * SECOND}, /* a gate that does not refill */
    {0, 0, 7 * SECOND, 0, 7 * SECOND, INT64_MAX, 0},     /* open */
    {0, 5, 7 * SECOND, 0, 0, 5, 0},                      /* five pass it */
    {0, 5, 7 * SECOND, 3, 0, 3, 7 * SECOND},             /* two */
    {0, 0, 3600 * SECOND, 0, 0, 1, MINUTE},              /* a minute at most */
    {INT64_MAX, 0, INT64_MAX, 0, 0, INT64_MAX, MINUTE},  /* no overflow */
    {INT64_MAX, 0, MINUTE, INT64_MAX, 0, INT64_MAX, MINUTE},
    {INT64_MAX, INT64_MAX, 1, 0, 0, INT64_MAX, 0},
};

static void test_bucket_steps(void **state) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(buckets); i++) {
        llmgwi_health_bucket b;
        int64_t now = 1000 * SECOND;
        memset(&b, 0, sizeof b);
        llmgwi_health_bucket_learn(&b, now, buckets[i].limit, buckets[i].remaining, buckets[i].reset_us,
                                   buckets[i].since);
        now += buckets[i].later;
        int64_t wait = llmgwi_health_bucket_when(&b, now, buckets[i].n) - now;
        if (wait != buckets[i].wait) fail_msg("row %d: %lld", (int)i, (long long)wait);
        assert_int_equal(llmgwi_health_bucket_when(&b, now + wait, buckets[i].n) > now + wait,
                         wait == MINUTE && buckets[i].since > 100); /* then it is true */
    }
}

static void test_bucket_take_and_give(void **state) {
    llmgwi_health_bucket b;
    memset(&b, 0, sizeof b);
    llmgwi_health_bucket_take(&b, SECOND, 1000); /* nothing is known: nothing is taken */
    assert_int_equal(llmgwi_health_bucket_when(&b, SECOND, 1000), SECOND);
    llmgwi_health_bucket_learn(&b, SECOND, 100, 0, 10 * SECOND, 0);
    llmgwi_health_bucket_take(&b, 6 * SECOND, 50);
    assert_int_equal(llmgwi_health_bucket_when(&b, 6 * SECOND, 1), 6 * SECOND + 100000);
    llmgwi_health_bucket_give(&b, 20);
    assert_int_equal(llmgwi_health_bucket_when(&b, 6 * SECOND, 20), 6 * SECOND);
    assert_int_equal(llmgwi_health_bucket_when(&b, 6 * SECOND, 21), 6 * SECOND + 100000);
    llmgwi_health_bucket_give(&b, INT64_MAX); /* never above the limit */
    llmgwi_health_bucket_take(&b, 6 * SECOND, 100);
    assert_int_equal(llmgwi_health_bucket_when(&b, 6 * SECOND, 1), 6 * SECOND + 100000);
    for (int i = 0; i < 5; i++) llmgwi_health_bucket_take(&b, 6 * SECOND, INT64_MAX);
    assert_int_equal(llmgwi_health_bucket_when(&b, 6 * SECOND, 1), 66 * SECOND);
    assert_int_equal(llmgwi_health_bucket_when(&b, 121 * SECOND, 1), 121 * SECOND);
    llmgwi_health_bucket_learn(&b, 200 * SECOND, 10, 10, 0,
                               0); /* idle and full: saves up no more than full */
    llmgwi_health_bucket_take(&b, 300 * SECOND, 10);
    assert_int_equal(llmgwi_health_bucket_when(&b, 300 * SECOND, 1), 306 * SECOND);
}

#define FLIGHTS 200

/* One true bucket, as a provider keeps it, and replies on their way back from it. */
typedef struct bucket_provider {
    double limit, level, per_us;
    int64_t at, count;
    struct {
        int64_t begun, back, remaining, reset_us, before;
    } flights[FLIGHTS];
} bucket_provider;

static void provider_serve(bucket_provider *p, int64_t now, int64_t n, int64_t latency, int64_t before) {
    p->level += (double)(now - p->at) * p->per_us;
    if (p->level > p->limit) p->level = p->limit;
    p->at = now;
    p->level -= (double)n;
    assert_true(p->level > -0.5); /* it would answer 429 */
    assert_true(p->count < FLIGHTS);
    int64_t i = p->count++;
    p->flights[i].begun = now;
    p->flights[i].back = now + latency;
    p->flights[i].remaining = p->level > 0 ? (int64_t)p->level : 0;
    p->flights[i].reset_us = (int64_t)((p->limit - p->level) / p->per_us);
    p->flights[i].before = before;
}

/* The replies that are back by now, in any order. */
static void provider_answer(bucket_provider *p, llmgwi_health_bucket *b, int64_t now, int64_t taken_in_all) {
    for (int64_t i = p->count - 1; i >= 0; i--) {
        if (p->flights[i].back > now) continue;
        llmgwi_health_bucket_learn(b, now, (int64_t)p->limit, p->flights[i].remaining, p->flights[i].reset_us,
                                   taken_in_all - p->flights[i].before);
        p->flights[i] = p->flights[--p->count];
    }
}

/* Whoever goes only when `when` says so never meets a 429, and still gets nearly all there is. */
static void test_bucket_property(void **state) {
    for (unsigned seed = 0; seed < 12; seed++) {
        static bucket_provider p;
        llmgwi_health_bucket b;
        int64_t start = random_start(seed), now = start, all = 0;
        int64_t limit = seed % 2 ? 100 : 100000, most = seed % 2 ? 1 : 5000;
        int64_t latency = 1 + random_below(seed % 4 < 2 ? 100000 : 2 * SECOND);
        memset(&b, 0, sizeof b);
        memset(&p, 0, sizeof p);
        p.limit = p.level = (double)limit;
        p.per_us = p.limit / (double)MINUTE;
        p.at = now;
        llmgwi_health_bucket_learn(&b, now, limit, limit, 0, 0);
        while (now < start + 20 * MINUTE) {
            int64_t n = 1 + random_below(most);
            provider_answer(&p, &b, now, all);
            int64_t when = llmgwi_health_bucket_when(&b, now, n);
            assert_true(when >= now && when <= now + MINUTE);
            if (when == now && p.count < FLIGHTS) {
                llmgwi_health_bucket_take(&b, now, n);
                all += n;
                provider_serve(&p, now, n, 1 + random_below(latency), all);
            }
            now += when > now + SECOND / 50 ? SECOND / 50 : 1 + random_below(SECOND / 50);
        }
        assert_true(all >= limit * 18 && all <= limit * 21);
    }
}

/* ---- breaker ---- */

typedef llmgwi_health_breaker breaker;

static const llmgwi_health_breaker_rules breaker_rules = {3, 50, 10, 10 * SECOND, SECOND, 5 * SECOND};

static void breaker_failures(breaker *b, const llmgwi_health_breaker_rules *rules, int64_t now, int n) {
    while (n-- > 0) llmgwi_health_breaker_result(b, rules, now, false, 0);
}

/* It lets a probe through at now, which ends so. */
static void breaker_probe(breaker *b, int64_t now, int ok) {
    assert_true(llmgwi_health_breaker_allows(b, now));
    assert_int_equal(b->state, LLMGW_BREAKER_HALF_OPEN);
    assert_true(llmgwi_health_breaker_begin(b, now));
    assert_false(llmgwi_health_breaker_allows(b, now)); /* one at a time */
    assert_false(llmgwi_health_breaker_begin(b, now));
    llmgwi_health_breaker_result(b, &breaker_rules, now, true, ok);
}

/* Opened at now, by failures in a row. */
static breaker breaker_opened(int64_t now) {
    breaker b;
    memset(&b, 0, sizeof b);
    breaker_failures(&b, &breaker_rules, now, 3);
    assert_int_equal(b.state, LLMGW_BREAKER_OPEN);
    return b;
}

/* g good, f failed, c cancelled, one a tenth of a second; the state after each: . closed, o open. */
static const struct {
    int failures, percent, min_calls;
    const char *results, *states;
} breaker_runs[] = {
    {3, 0, 0, "fff", "..o"},
    {3, 0, 0, "ffgffgfff", "........o"},
    {3, 0, 0, "ffcf", "...o"}, /* cancelled is neither */
    {1, 0, 0, "gf", ".o"},
    {0, 50, 4, "ffgf", "...o"},
    {0, 50, 4, "fffg", "...."}, /* a good one does not open it */
    {0, 50, 4, "fffgf", "....o"},
    {0, 50, 4, "gggggfffff", ".........o"},
    {0, 50, 4, "ffccccf", "......."}, /* cancelled ones are no calls */
    {0, 100, 4, "gffffffff", "........."},
    {0, 100, 3, "fff", "..o"},
    {0, 101, 1, "ffffffff", "........"},
    {0, 1, 0, "ggggf", "....o"},
    {5, 60, 5, "gffff", "....o"}, /* by the share: it is the fourth in a row */
    {0, 0, 0, "ffffffffffffffffffffffff", "........................"},
    {-1, -1, -1, "ffffffffffffffffffffffff", "........................"},
};

static void test_breaker_opens(void **state) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(breaker_runs); i++) {
        llmgwi_health_breaker_rules rules = breaker_rules;
        breaker b;
        memset(&b, 0, sizeof b);
        rules.failures = breaker_runs[i].failures;
        rules.percent = breaker_runs[i].percent;
        rules.min_calls = breaker_runs[i].min_calls;
        for (size_t j = 0; breaker_runs[i].results[j]; j++) {
            char how = breaker_runs[i].results[j], want = breaker_runs[i].states[j];
            llmgwi_health_breaker_result(&b, &rules, (int64_t)(10 + j) * SECOND / 10, false,
                                         how == 'g'   ? 1
                                         : how == 'f' ? 0
                                                      : -1);
            if ((b.state == LLMGW_BREAKER_OPEN) != (want == 'o')) fail_msg("run %d, step %d", (int)i, (int)j);
        }
    }
}

/* Failures older than the window do not count towards the share. */
static void test_breaker_window(void **state) {
    llmgwi_health_breaker_rules rules = {0, 50, 10, 10 * SECOND, SECOND, 5 * SECOND};
    breaker b;
    for (int64_t gap = 9; gap <= 10; gap++) {
        memset(&b, 0, sizeof b);
        breaker_failures(&b, &rules, 100 * SECOND, 9);
        breaker_failures(&b, &rules, (100 + gap) * SECOND, 1);
        assert_int_equal(b.state, gap == 9 ? LLMGW_BREAKER_OPEN : LLMGW_BREAKER_CLOSED);
    }
    memset(&b, 0, sizeof b);
    for (int i = 0; i < 1000; i++) breaker_failures(&b, &rules, (100 + i) * SECOND + i * SECOND / 5, 1);
    assert_int_equal(b.state, LLMGW_BREAKER_CLOSED); /* one every 1.2 s: never ten */
}

static void test_breaker_cycle(void **state) {
    breaker b = breaker_opened(100 * SECOND);
    assert_int_equal(b.failed_us, 100 * SECOND);
    assert_false(llmgwi_health_breaker_allows(&b, 101 * SECOND - 1));
    assert_false(llmgwi_health_breaker_begin(&b, 101 * SECOND - 1)); /* forced: no probe */
    breaker_probe(&b, 101 * SECOND, 1);
    assert_int_equal(b.state, LLMGW_BREAKER_HALF_OPEN);
    breaker_probe(&b, 101 * SECOND, -1); /* given back */
    breaker_probe(&b, 101 * SECOND, 1);
    assert_int_equal(b.state, LLMGW_BREAKER_CLOSED);
    assert_true(llmgwi_health_breaker_allows(&b, 101 * SECOND));
    assert_false(llmgwi_health_breaker_begin(&b, 101 * SECOND));
    breaker_failures(&b, &breaker_rules, 101 * SECOND, 2); /* counts anew */
    assert_int_equal(b.state, LLMGW_BREAKER_CLOSED);
    breaker_failures(&b, &breaker_rules, 101 * SECOND, 1);
    assert_int_equal(b.state, LLMGW_BREAKER_OPEN);
    assert_int_equal(b.open_until_us, 102 * SECOND);
}

/* What was in the window before it opened does not open it again. */
static void test_breaker_close_clears(void **state) {
    llmgwi_health_breaker_rules rules = {0, 50, 10, 3600 * SECOND, SECOND, 5 * SECOND};
    breaker b;
    memset(&b, 0, sizeof b);
    breaker_failures(&b, &rules, 100 * SECOND, 10);
    for (int i = 0; i < 2; i++) breaker_probe(&b, 101 * SECOND, 1);
    assert_int_equal(b.state, LLMGW_BREAKER_CLOSED);
    breaker_failures(&b, &rules, 101 * SECOND, 9);
    assert_int_equal(b.state, LLMGW_BREAKER_CLOSED);
    breaker_failures(&b, &rules, 101 * SECOND, 1);
    assert_int_equal(b.state, LLMGW_BREAKER_OPEN);
}

static void test_breaker_longer(void **state) {
    static const int64_t lengths[] = {1, 2, 4, 5, 5, 5};
    int64_t now = 100 * SECOND;
    breaker b = breaker_opened(now);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(lengths); i++) {
        assert_int_equal(b.open_until_us - now, lengths[i] * SECOND);
        now = b.open_until_us;
        if (i % 2) breaker_probe(&b, now, 1); /* one good is not two in a row */
        breaker_probe(&b, now, 0);
    }
    /* Closed for less than 10 x open_us: as long as the last time. For that long: as the first time. */
    for (int64_t calm = 10 * SECOND - 1; calm <= 10 * SECOND; calm++) {
        breaker c = b;
        now = c.open_until_us;
        for (int i = 0; i < 2; i++) breaker_probe(&c, now, 1);
        breaker_failures(&c, &breaker_rules, now + calm, 3);
        assert_int_equal(c.open_until_us - now - calm, calm < 10 * SECOND ? 5 * SECOND : SECOND);
    }
}

static void test_breaker_in_a_row(void **state) {
    breaker b = breaker_opened(100 * SECOND);
    breaker_probe(&b, 101 * SECOND, 1);
    breaker_probe(&b, 101 * SECOND, 0);
    assert_int_equal(b.state, LLMGW_BREAKER_OPEN);
    breaker_probe(&b, 103 * SECOND, 1);
    assert_int_equal(b.state, LLMGW_BREAKER_HALF_OPEN);
    breaker_probe(&b, 103 * SECOND, 1);
    assert_int_equal(b.state, LLMGW_BREAKER_CLOSED);
}

/* Attempts that began before it opened. */
static void test_breaker_late_results(void **state) {
    breaker b = breaker_opened(100 * SECOND);
    int64_t until = b.open_until_us;
    for (int i = 0; i < 20; i++) {
        llmgwi_health_breaker_result(&b, &breaker_rules, 100 * SECOND + i, false, i % 2);
        llmgwi_health_breaker_result(&b, &breaker_rules, 100 * SECOND + i, true, i % 2); /* a lost probe */
    }
    assert_int_equal(b.state, LLMGW_BREAKER_OPEN);
    assert_int_equal(b.open_until_us, until);
    assert_int_equal(b.failed_us, 100 * SECOND + 18);
    assert_true(llmgwi_health_breaker_begin(&b, until));
    for (int i = 0; i < 20; i++) llmgwi_health_breaker_result(&b, &breaker_rules, until, false, i % 2);
    assert_int_equal(b.state, LLMGW_BREAKER_HALF_OPEN);
    assert_false(llmgwi_health_breaker_allows(&b, until)); /* the probe is still out */
    llmgwi_health_breaker_result(&b, &breaker_rules, until, true, -1);
    assert_true(llmgwi_health_breaker_allows(&b, until));
}

static void test_breaker_lost_probe(void **state) {
    breaker b = breaker_opened(100 * SECOND);
    assert_true(llmgwi_health_breaker_begin(&b, 101 * SECOND));
    assert_false(llmgwi_health_breaker_allows(&b, 111 * SECOND)); /* 2 x 5 s */
    assert_true(llmgwi_health_breaker_begin(&b, 111 * SECOND + 1));
    assert_false(llmgwi_health_breaker_begin(&b, 111 * SECOND + 1));
    llmgwi_health_breaker_result(&b, &breaker_rules, 112 * SECOND, true, 0);
    assert_int_equal(b.open_until_us, 114 * SECOND);
}

static void test_breaker_extend(void **state) {
    breaker b = breaker_opened(100 * SECOND);
    llmgwi_health_breaker_extend(&b, 100 * SECOND);
    assert_int_equal(b.open_until_us, 101 * SECOND);
    llmgwi_health_breaker_extend(&b, 130 * SECOND);
    assert_false(llmgwi_health_breaker_allows(&b, 130 * SECOND - 1));
    breaker_probe(&b, 130 * SECOND, 0);
    assert_int_equal(b.open_until_us, 132 * SECOND); /* doubled is the length, not the extension */
    breaker_probe(&b, 132 * SECOND, 1);
    llmgwi_health_breaker_extend(&b, 200 * SECOND); /* not open: nothing */
    breaker_probe(&b, 132 * SECOND, 1);
    llmgwi_health_breaker_extend(&b, 200 * SECOND);
    assert_true(llmgwi_health_breaker_allows(&b, 133 * SECOND));
}

#define BREAKER_BYTES LLMGWI_HEALTH_BREAKER_BYTES

/* Saved at one clock's 100 s, loaded 20 s later at 3 s of another: all is as if there were one clock. */
static void test_breaker_save(void **state) {
    unsigned char bytes[BREAKER_BYTES];
    breaker b = breaker_opened(99 * SECOND), c;
    llmgwi_health_breaker_extend(&b, 130 * SECOND);
    assert_int_equal(llmgwi_health_breaker_save(&b, 100 * SECOND, bytes), BREAKER_BYTES);
    assert_true(llmgwi_health_breaker_load(&c, 3 * SECOND - 20 * SECOND, bytes, sizeof bytes));
    assert_int_equal(c.state, LLMGW_BREAKER_OPEN);
    assert_int_equal(c.open_until_us, 13 * SECOND);
    assert_int_equal(c.failed_us, -18 * SECOND);
    assert_int_equal(c.open_for_us, SECOND);
    assert_false(llmgwi_health_breaker_allows(&c, 13 * SECOND - 1));
    breaker_probe(&c, 13 * SECOND, 0);
    assert_int_equal(c.open_until_us, 15 * SECOND); /* twice as long */

    breaker_probe(&c, 15 * SECOND, 1); /* HALF_OPEN comes back as OPEN whose time is over */
    assert_true(llmgwi_health_breaker_begin(&c, 15 * SECOND));
    (void)llmgwi_health_breaker_save(&c, 16 * SECOND, bytes);
    assert_true(llmgwi_health_breaker_load(&b, 1000 * SECOND, bytes, sizeof bytes));
    assert_int_equal(b.state, LLMGW_BREAKER_OPEN);
    breaker_probe(&b, 1000 * SECOND, 1);
    breaker_probe(&b, 1000 * SECOND, 1);

    breaker_failures(&b, &breaker_rules, 1001 * SECOND,
                     2); /* CLOSED: the failures in a row, and since when */
    (void)llmgwi_health_breaker_save(&b, 1002 * SECOND, bytes);
    assert_true(llmgwi_health_breaker_load(&c, 502 * SECOND, bytes, sizeof bytes));
    assert_int_equal(c.closed_us, 500 * SECOND);
    assert_int_equal(c.failed_us, 501 * SECOND);
    breaker_failures(&c, &breaker_rules, 503 * SECOND, 1);
    assert_int_equal(c.open_until_us, 505 * SECOND);

    memset(&b, 0, sizeof b);
    (void)llmgwi_health_breaker_save(&b, SECOND, bytes);
    assert_true(llmgwi_health_breaker_load(&c, 5 * SECOND, bytes, sizeof bytes));
    assert_int_equal(c.failed_us, 0); /* none */
    assert_int_equal(c.state, LLMGW_BREAKER_CLOSED);
}

/* Least significant byte first, whatever the machine. */
static void test_breaker_bytes(void **state) {
    unsigned char bytes[BREAKER_BYTES];
    breaker b = breaker_opened(100 * SECOND);
    b.open_until_us = 100 * SECOND + 0x0102030405;
    (void)llmgwi_health_breaker_save(&b, 100 * SECOND, bytes);
    static const unsigned char want[] = {1, 1, 5, 4, 3, 2, 1, 0, 0, 0};
    assert_memory_equal(bytes, want, sizeof want);
}

static void test_breaker_load_refuses(void **state) {
    unsigned char bytes[BREAKER_BYTES + 1] = {0};
    breaker b = breaker_opened(100 * SECOND), before = b;
    (void)llmgwi_health_breaker_save(&b, 100 * SECOND, bytes);
    assert_false(llmgwi_health_breaker_load(&b, SECOND, bytes, 0));
    assert_false(llmgwi_health_breaker_load(&b, SECOND, bytes, BREAKER_BYTES - 1));
    assert_false(llmgwi_health_breaker_load(&b, SECOND, bytes, BREAKER_BYTES + 1));
    for (int i = 0; i < 2; i++)
        for (int value = 2; value < 256; value++) { /* version and state */
            unsigned char good = bytes[i];
            bytes[i] = (unsigned char)value;
            assert_false(llmgwi_health_breaker_load(&b, SECOND, bytes, BREAKER_BYTES));
            bytes[i] = good;
        }
    bytes[0] = 0;
    assert_false(llmgwi_health_breaker_load(&b, SECOND, bytes, BREAKER_BYTES));
    assert_memory_equal(&b, &before, sizeof b);
}

/* Whatever the bytes: no time out of bounds, it recovers within a day and two probes, and opens again. */
static void test_breaker_load_hostile(void **state) {
    int64_t day = LLMGWI_HEALTH_DAY_US, now = random_start(1);
    for (int round = 0; round < 5000; round++) {
        unsigned char bytes[BREAKER_BYTES];
        breaker b;
        for (size_t i = 0; i < sizeof bytes; i++) {
            int64_t kind = random_below(4);
            bytes[i] = (unsigned char)(kind == 0 ? 0 : kind == 1 ? 255 : random_below(256));
        }
        if (round < 2) memset(bytes, round ? 255 : 0, sizeof bytes);
        bytes[0] = LLMGWI_HEALTH_BREAKER_VERSION;
        bytes[1] = (unsigned char)(round % 2);
        assert_true(llmgwi_health_breaker_load(&b, now, bytes, sizeof bytes));
        assert_true(b.failed_us <= now && b.failed_us >= now - 30 * day && b.closed_us <= now);
        assert_true(b.open_until_us <= now + day && b.open_for_us >= 0 && b.open_for_us <= day);
        if (b.state == LLMGW_BREAKER_OPEN) {
            breaker_probe(&b, now + day, 0);
            int64_t length = b.open_until_us - now - day;
            assert_true(length >= SECOND && length <= 5 * SECOND);
            for (int i = 0; i < 2; i++) breaker_probe(&b, b.open_until_us, 1);
        }
        assert_true(llmgwi_health_breaker_allows(&b, now + 2 * day));
        breaker_failures(&b, &breaker_rules, now + 2 * day, 3);
        assert_int_equal(b.state, LLMGW_BREAKER_OPEN);
    }
}

#define BREAKER_LOG 4000

/* Random results against a log of all of them since it closed; probes one at a time, and none too early. */
static void breaker_run(unsigned seed) {
    static struct {
        int64_t slot;
        bool failed;
    } log[BREAKER_LOG];
    llmgwi_health_breaker_rules rules = {seed % 3 ? 4 : 0, seed % 2 ? 40 : 0, 5, 5 * SECOND,
                                         SECOND,           9 * SECOND};
    int64_t now = random_start(seed), opened = 0;
    int count = 0, row = 0, ill = 0;
    breaker b;
    memset(&b, 0, sizeof b);
    for (int step = 0; step < BREAKER_LOG; step++) {
        now += 1 + random_below(SECOND);
        if (!random_below(20)) ill = (int)random_below(100);
        bool allowed = llmgwi_health_breaker_allows(&b, now), failed = random_below(100) < ill;
        if (b.state == LLMGW_BREAKER_CLOSED) {
            int64_t slot = now * 10 / rules.window_us, calls = 0, bad = 0;
            log[count].slot = slot;
            log[count++].failed = failed;
            row = failed ? row + 1 : 0;
            for (int i = 0; i < count; i++)
                if (log[i].slot > slot - 10) {
                    calls++;
                    bad += log[i].failed;
                }
            bool open = failed && ((rules.failures && row >= rules.failures) ||
                                   (rules.percent && calls >= 5 && bad * 100 >= rules.percent * calls));
            assert_true(allowed);
            llmgwi_health_breaker_result(&b, &rules, now, false, !failed);
            assert_int_equal(b.state, open ? LLMGW_BREAKER_OPEN : LLMGW_BREAKER_CLOSED);
            opened += open;
        } else if (allowed) {
            assert_true(now >= b.open_until_us);
            assert_true(llmgwi_health_breaker_begin(&b, now));
            assert_false(llmgwi_health_breaker_allows(&b, now));
            llmgwi_health_breaker_result(&b, &rules, now, true, !failed);
            assert_int_equal(b.state == LLMGW_BREAKER_OPEN, failed);
            count = row = 0;
        } else {
            assert_true(now < b.open_until_us && b.open_until_us - now <= rules.open_max_us);
        }
    }
    assert_int_equal(opened > 3, rules.failures || rules.percent);
}

static void test_breaker_property(void **state) {
    for (unsigned seed = 0; seed < 18; seed++) breaker_run(seed);
}

/* ---- adaptive concurrency ---- */

static void test_aimd_steps(void **state) {
    llmgwi_health_aimd a;
    memset(&a, 0, sizeof a);
    for (int i = 0; i < 100; i++) llmgwi_health_aimd_good(&a, 50 * SECOND, 500);
    assert_true(llmgwi_health_aimd_limit(&a) == INT64_MAX); /* none before the first overload */
    llmgwi_health_aimd_overload(&a, 100 * SECOND, 99 * SECOND, 100);
    assert_int_equal(llmgwi_health_aimd_limit(&a), 90);
    for (int i = 0; i < 50; i++) /* the others that the same overload failed */
        llmgwi_health_aimd_overload(&a, 101 * SECOND, 100 * SECOND - i, 99);
    assert_int_equal(llmgwi_health_aimd_limit(&a), 90);
    llmgwi_health_aimd_overload(&a, 103 * SECOND, 100 * SECOND + 1, 50);
    assert_int_equal(llmgwi_health_aimd_limit(&a), 45);
    llmgwi_health_aimd_overload(&a, 105 * SECOND, 104 * SECOND, 200); /* forced: a cut never raises it */
    assert_int_equal(llmgwi_health_aimd_limit(&a), 40);
    for (int i = 0; i < 1000; i++) llmgwi_health_aimd_good(&a, 106 * SECOND, 20); /* below half: no growth */
    assert_int_equal(llmgwi_health_aimd_limit(&a), 40);
    for (int i = 0; i < 41; i++) llmgwi_health_aimd_good(&a, 106 * SECOND, 21); /* about one a round */
    assert_int_equal(llmgwi_health_aimd_limit(&a), 41);
    for (int i = 0; i < 200; i++) {
        int64_t now = (107 + i) * SECOND;
        llmgwi_health_aimd_overload(&a, now, now - 1, llmgwi_health_aimd_limit(&a));
    }
    assert_int_equal(llmgwi_health_aimd_limit(&a), 1); /* never 0 */
    llmgwi_health_aimd_overload(&a, 500 * SECOND, 499 * SECOND, 0);
    assert_int_equal(llmgwi_health_aimd_limit(&a), 1);
}

/* A limit that limits nothing any more is forgotten, a minute after the last time it did. */
static void test_aimd_forgets(void **state) {
    llmgwi_health_aimd a;
    memset(&a, 0, sizeof a);
    llmgwi_health_aimd_overload(&a, 100 * SECOND, 99 * SECOND, 20);
    for (int64_t s = 100; s <= 160; s++) {
        llmgwi_health_aimd_good(&a, s * SECOND, 2);
        assert_int_equal(llmgwi_health_aimd_limit(&a), 18);
    }
    llmgwi_health_aimd_good(&a, 170 * SECOND, 2);
    assert_true(llmgwi_health_aimd_limit(&a) == INT64_MAX);
    llmgwi_health_aimd_overload(&a, 200 * SECOND, 199 * SECOND, 4);
    assert_int_equal(llmgwi_health_aimd_limit(&a), 3);
    for (int64_t s = 200; s < 400; s++) {
        llmgwi_health_aimd_good(&a, s * SECOND, s % 50 ? 1 : 3); /* needed now and then: kept */
        assert_true(llmgwi_health_aimd_limit(&a) <= 6);
    }
    llmgwi_health_aimd_good(&a, 4000 * SECOND, INT64_MAX); /* no overflow */
    llmgwi_health_aimd_overload(&a, 4001 * SECOND, 4000 * SECOND, INT64_MAX);
}

/* A provider that refuses above its capacity, and callers without end: the limit stays near the capacity. */
static void test_aimd_converges(void **state) {
    static const int64_t capacities[] = {1, 3, 10, 64, 500};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(capacities); i++) {
        int64_t capacity = capacities[i], now = random_start((unsigned)i), used = 0, rounds = 4000;
        llmgwi_health_aimd a;
        memset(&a, 0, sizeof a);
        for (int64_t round = 0; round < rounds; round++) { /* all of a round begin together */
            int64_t began = now += SECOND, limit = llmgwi_health_aimd_limit(&a);
            int64_t flying = limit < 2 * capacity + 8 ? limit : 2 * capacity + 8;
            now += SECOND;
            for (int64_t j = 0; j < flying; j++) {
                if (j < capacity)
                    llmgwi_health_aimd_good(&a, now, flying);
                else
                    llmgwi_health_aimd_overload(&a, now, began, flying);
            }
            if (round < 20) continue;
            assert_true(flying <= capacity + 2);
            assert_true(10 * flying >= 8 * capacity - 10);
            used += flying < capacity ? flying : capacity;
        }
        assert_true(used * 100 >= capacity * (rounds - 20) * 90);
    }
}

/* ---- budgets ---- */

static void retry_init(llmgwi_health_budget *b) {
    llmgwi_health_budget_init(b, LLMGWI_HEALTH_BUDGET_START, LLMGWI_HEALTH_BUDGET_CAP,
                              LLMGWI_HEALTH_BUDGET_PER_S);
}

static int budget_drain(llmgwi_health_budget *b, int64_t now, int percent) {
    int n = 0;
    while (n < 10000 && llmgwi_health_budget_take(b, now, percent)) n++;
    return n;
}

static void test_budget_steps(void **state) {
    for (unsigned seed = 0; seed < 3; seed++) {
        int64_t now = random_start(seed);
        llmgwi_health_budget b;
        retry_init(&b);
        assert_int_equal(budget_drain(&b, now, 20), 10); /* at the start, whenever that is */
        assert_int_equal(budget_drain(&b, now + SECOND - 1, 20), 0);
        assert_int_equal(budget_drain(&b, now + SECOND, 20), 1);
        for (int i = 0; i < 4; i++) llmgwi_health_budget_call(&b, 20);
        assert_int_equal(budget_drain(&b, now + SECOND, 20), 0);
        llmgwi_health_budget_call(&b, 20); /* the fifth makes one */
        assert_int_equal(budget_drain(&b, now + SECOND, 20), 1);
        for (int i = 0; i < 100000; i++) llmgwi_health_budget_call(&b, 20);
        assert_int_equal(budget_drain(&b, now + SECOND, 20), 100); /* no more is saved up */
        assert_int_equal(budget_drain(&b, now + 31 * SECOND, 0), 30);
        assert_int_equal(budget_drain(&b, now + 30 * SECOND, 0), 0); /* a clock behind */
        assert_int_equal(budget_drain(&b, now + 32 * SECOND, 0), 1);
        assert_int_equal(budget_drain(&b, now + 100000 * SECOND, 0), 100);
        assert_int_equal(budget_drain(&b, now + 100000 * SECOND, -1), 10000); /* no budget */
    }
}

static void test_budget_bounds(void **state) {
    llmgwi_health_budget b;
    llmgwi_health_budget_init(&b, 50, 5, 0); /* a hedge's: nothing but its share */
    assert_int_equal(budget_drain(&b, SECOND, 5), 5);
    assert_int_equal(budget_drain(&b, 99999 * SECOND, 5), 0);
    for (int i = 0; i < 20; i++) llmgwi_health_budget_call(&b, 5);
    assert_int_equal(budget_drain(&b, 99999 * SECOND, 5), 1);
    llmgwi_health_budget_call(&b, INT_MIN);
    assert_int_equal(budget_drain(&b, 99999 * SECOND, 5), 0);
    llmgwi_health_budget_init(&b, INT64_MAX, INT64_MAX, INT64_MAX);
    assert_int_equal(budget_drain(&b, SECOND, 5), 10000);
    for (int i = 0; i < 100; i++) llmgwi_health_budget_call(&b, INT_MAX);
    assert_int_equal(budget_drain(&b, INT64_MAX, 5), 10000);
    llmgwi_health_budget_init(&b, -5, -5, -5);
    llmgwi_health_budget_call(&b, 100);
    assert_int_equal(budget_drain(&b, SECOND, 5), 0);
}

/* Everything fails and wants to be repeated: repetitions are the share of the calls plus the minimum, neither
   more nor less. */
static void test_budget_property(void **state) {
    static const int percents[] = {0, 5, 20, 100};
    for (unsigned seed = 0; seed < 24; seed++) {
        int64_t start = random_start(seed), now = start, calls = 0, repeated = 0;
        int64_t gap = seed % 2 ? 2000 : 500000;
        int percent = percents[seed / 2 % LLMGWI_BASE_COUNT(percents)];
        llmgwi_health_budget b;
        retry_init(&b);
        for (int i = 0; i < 20000; i++) {
            now += random_below(gap);
            llmgwi_health_budget_call(&b, percent);
            calls++;
            for (int j = 0; j < 3; j++) repeated += llmgwi_health_budget_take(&b, now, percent);
        }
        int64_t earned = calls * percent / 100 + (now - start) / SECOND;
        assert_true(repeated <= 10 + earned);
        assert_true(repeated >= earned - 1 || repeated == 3 * calls);
    }
}

/* ---- histogram ---- */

static void test_histogram_bounds(void **state) {
    for (int i = 0; i < LLMGWI_HEALTH_HISTOGRAM_BUCKETS; i++) {
        int64_t bound = llmgwi_health_histogram_bound(i);
        double exact = 250 * pow(2, i / 4.0);
        assert_true(fabs((double)bound - exact) <= 1 + exact / 50000);
        for (int64_t us = bound; us <= bound + 1; us++) { /* the bound itself is in, one more is not */
            llmgwi_health_histogram h;
            memset(&h, 0, sizeof h);
            llmgwi_health_histogram_record(&h, us);
            int last = LLMGWI_HEALTH_HISTOGRAM_BUCKETS - 1;
            assert_int_equal(h.counts[us > bound && i < last ? i + 1 : i], 1);
            assert_int_equal(llmgwi_health_histogram_count(&h), 1);
        }
    }
    assert_true(llmgwi_health_histogram_bound(LLMGWI_HEALTH_HISTOGRAM_BUCKETS - 1) > 58 * MINUTE);
}

static void test_histogram_few(void **state) {
    llmgwi_health_histogram h;
    memset(&h, 0, sizeof h);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(llmgwi_health_histogram_quantile(&h, 0.5), 0);
        llmgwi_health_histogram_record(&h, i < 10 ? -5 : INT64_MAX);
    }
    int64_t first = llmgwi_health_histogram_bound(0);
    int64_t last = llmgwi_health_histogram_bound(LLMGWI_HEALTH_HISTOGRAM_BUCKETS - 1);
    assert_int_equal(llmgwi_health_histogram_quantile(&h, 0.5), first);
    assert_int_equal(llmgwi_health_histogram_quantile(&h, 0.51), last);
    assert_int_equal(llmgwi_health_histogram_quantile(&h, -1), first);
    assert_int_equal(llmgwi_health_histogram_quantile(&h, (double)NAN), first);
    assert_int_equal(llmgwi_health_histogram_quantile(&h, 1), last);
    h.counts[LLMGWI_HEALTH_HISTOGRAM_BUCKETS - 1] = 0; /* no bucket above the last that holds something */
    h.counts[0] = 20;
    assert_int_equal(llmgwi_health_histogram_quantile(&h, 7), first);
}

static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Against the sorted values: never below, and at most a quarter of an octave above. */
static void test_histogram_property(void **state) {
    static const double shares[] = {0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 1};
    for (unsigned seed = 0; seed < 30; seed++) {
        static int64_t all[2000];
        llmgwi_health_histogram h;
        (void)random_start(seed);
        int n = 20 + (int)random_below(1981);
        int64_t octaves = 1 + random_below(23);
        memset(&h, 0, sizeof h);
        for (int i = 0; i < n; i++) {
            int64_t low = (int64_t)250 << random_below(octaves);
            all[i] = low + random_below(low);
            llmgwi_health_histogram_record(&h, all[i]);
        }
        qsort(all, (size_t)n, sizeof all[0], by_size);
        assert_int_equal(llmgwi_health_histogram_count(&h), n);
        for (size_t i = 0; i < LLMGWI_BASE_COUNT(shares); i++) {
            int64_t exact = all[(int)ceil(shares[i] * n) - 1];
            int64_t got = llmgwi_health_histogram_quantile(&h, shares[i]);
            assert_true(got >= exact && (double)got <= (double)exact * 1.1893);
        }
    }
}

static void test_histogram_fades(void **state) {
    llmgwi_health_histogram h;
    memset(&h, 0, sizeof h);
    for (int i = 0; i < 2000; i++) llmgwi_health_histogram_record(&h, 1000);
    assert_int_equal(llmgwi_health_histogram_count(&h), 2000);
    llmgwi_health_histogram_record(&h, 1000);
    assert_int_equal(llmgwi_health_histogram_count(&h), 1000);
    for (int i = 0; i < 1100; i++) llmgwi_health_histogram_record(&h, 900000);
    assert_true(llmgwi_health_histogram_quantile(&h, 0.5) > 900000);
    for (int64_t i = 0; i < 100000; i++) {
        llmgwi_health_histogram_record(&h, 250 << i % 20);
        assert_in_range(llmgwi_health_histogram_count(&h), 900, 2000);
    }
    assert_true(llmgwi_health_histogram_quantile(&h, 1) > 900000);
}

/* ---- peak EWMA ---- */

static void test_ewma_decay(void **state) {
    double before = 2;
    for (int64_t us = 0; us < 500 * SECOND; us += 7919) {
        double got = llmgwi_health_ewma_decay(us), want = exp(-(double)us / 1e7);
        if (us < 400 * SECOND) assert_true(fabs(got / want - 1) < 1e-6);
        assert_true(got >= 0 && got <= before * (1 + 1e-6));
        before = got;
    }
    assert_true(llmgwi_health_ewma_decay(INT64_MAX) == 0);
    assert_true(llmgwi_health_ewma_decay(-5) == 1);
    assert_true(llmgwi_health_ewma_decay(0) == 1);
}

static bool about(double got, double want) { return fabs(got - want) <= 1e-5 * want; }

static void test_ewma_steps(void **state) {
    for (unsigned seed = 0; seed < 3; seed++) {
        int64_t now = random_start(seed);
        llmgwi_health_ewma e;
        memset(&e, 0, sizeof e);
        assert_true(llmgwi_health_ewma_cost(&e, now, 0) == 0);   /* never measured: first */
        assert_true(llmgwi_health_ewma_cost(&e, now, 1) > 9e13); /* but one at a time */
        assert_true(llmgwi_health_ewma_cost(&e, now, 2) > llmgwi_health_ewma_cost(&e, now, 1));
        llmgwi_health_ewma_add(&e, now, 1000000);
        assert_true(about(llmgwi_health_ewma_cost(&e, now, 0), 1e6));
        assert_true(about(llmgwi_health_ewma_cost(&e, now, 4), 5e6));
        assert_true(about(llmgwi_health_ewma_cost(&e, now - 100, -4), 1e6));
        assert_true(about(llmgwi_health_ewma_cost(&e, now + 10 * SECOND, 0), 1e6 * exp(-1)));
        llmgwi_health_ewma_add(&e, now, 3000000); /* a peak, at once */
        assert_true(about(llmgwi_health_ewma_cost(&e, now, 0), 3e6));
        llmgwi_health_ewma_add(&e, now + 5 * SECOND, 1000000); /* then slowly down */
        assert_true(about(llmgwi_health_ewma_cost(&e, now + 5 * SECOND, 0), 1e6 + 2e6 * exp(-0.5)));
        llmgwi_health_ewma_add(&e, now, 1000000); /* a clock behind: no decay twice */
        assert_true(about(llmgwi_health_ewma_cost(&e, now + 5 * SECOND, 0), 1e6 + 2e6 * exp(-0.5)));
        assert_true(llmgwi_health_ewma_cost(&e, now + 3600 * SECOND, 0) == 0); /* forgotten */
        assert_true(llmgwi_health_ewma_cost(&e, now + 3600 * SECOND, 1) > 9e13);
        llmgwi_health_ewma_add(&e, now + 6 * SECOND, INT64_MAX);
        assert_true(llmgwi_health_ewma_cost(&e, now + 6 * SECOND, 100) < 9e13); /* no real cost is above */
        memset(&e, 0, sizeof e);
        llmgwi_health_ewma_add(&e, now, -5);
        assert_true(about(llmgwi_health_ewma_cost(&e, now, 0), 1));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backoff_bounds),
        cmocka_unit_test(test_backoff_jitter),
        cmocka_unit_test(test_meaning),
        cmocka_unit_test(test_meaning_should_retry),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_route_order),
        cmocka_unit_test(test_route_dead),
        cmocka_unit_test(test_route_end),
        cmocka_unit_test(test_route_cap_agrees),
        cmocka_unit_test(test_window_property),
        cmocka_unit_test(test_window_throughput),
        cmocka_unit_test(test_window_steps),
        cmocka_unit_test(test_window_big_request),
        cmocka_unit_test(test_window_bounds),
        cmocka_unit_test(test_bucket_steps),
        cmocka_unit_test(test_bucket_take_and_give),
        cmocka_unit_test(test_bucket_property),
        cmocka_unit_test(test_breaker_opens),
        cmocka_unit_test(test_breaker_window),
        cmocka_unit_test(test_breaker_cycle),
        cmocka_unit_test(test_breaker_close_clears),
        cmocka_unit_test(test_breaker_longer),
        cmocka_unit_test(test_breaker_in_a_row),
        cmocka_unit_test(test_breaker_late_results),
        cmocka_unit_test(test_breaker_lost_probe),
        cmocka_unit_test(test_breaker_extend),
        cmocka_unit_test(test_breaker_save),
        cmocka_unit_test(test_breaker_bytes),
        cmocka_unit_test(test_breaker_load_refuses),
        cmocka_unit_test(test_breaker_load_hostile),
        cmocka_unit_test(test_breaker_property),
        cmocka_unit_test(test_aimd_steps),
        cmocka_unit_test(test_aimd_forgets),
        cmocka_unit_test(test_aimd_converges),
        cmocka_unit_test(test_budget_steps),
        cmocka_unit_test(test_budget_bounds),
        cmocka_unit_test(test_budget_property),
        cmocka_unit_test(test_histogram_bounds),
        cmocka_unit_test(test_histogram_few),
        cmocka_unit_test(test_histogram_property),
        cmocka_unit_test(test_histogram_fades),
        cmocka_unit_test(test_ewma_decay),
        cmocka_unit_test(test_ewma_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
