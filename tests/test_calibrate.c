/* What fuzzy answers may be served: figures worked out elsewhere, and the promises under hostile streams. */
#include "unit.h"

#include <math.h>

#include "baselines.h"

#define WRONG true
#define RIGHT false
#define HIT true
#define MISS false

/* A linear congruential generator (Knuth's MMIX), so that other programs can make the same streams. */
static double uniform(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(*seed >> 11) / 9007199254740992.0;
}

static llmgwi_calibrate_rules rules_of(double max_error, bool strict, bool per_hit) {
    llmgwi_calibrate_rules rules;
    memset(&rules, 0, sizeof rules);
    rules.max_error = max_error;
    rules.strict = strict;
    rules.per_hit = per_hit;
    return rules;
}

static int64_t count(const llmgwi_calibrate_unit *unit, llmgwi_calibrate_count what) {
    return unit->all.counts[what];
}

static void near_to(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("got %.12g, expected %.12g", got, want);
}

/* ---- score ---- */

/* From a few lines of Python after CALIBRATION.md, section 2. */
static void test_score(void **state) {
    static const llmgwi_calibrate_near near[9] = {{.91, 7}, {.85, 7}, {.80, 3}, {.66, 7}, {.5, 2},
                                                  {.4, 7},  {.3, 9},  {.2, 7},  {.1, 7}};
    static const struct {
        size_t n;
        double words, vectors;
    } wants[] = {{1, .34865, .4674},
                 {3, .750050658, .834701671},
                 {8, 2.81056189, 2.839072553},
                 {9, 2.81056189, 2.839072553}}; /* the ninth is not looked at */
    for (size_t i = 0; i < sizeof wants / sizeof wants[0]; i++) {
        near_to(llmgwi_calibrate_score(near, wants[i].n, false), wants[i].words, 1e-8);
        near_to(llmgwi_calibrate_score(near, wants[i].n, true), wants[i].vectors, 1e-8);
    }
    llmgwi_calibrate_near all[8];
    for (int i = 0; i < 8; i++) {
        all[i].similarity = .95;
        all[i].answer_class = 1;
    }
    near_to(llmgwi_calibrate_score(all, 8, false), 5.2404, 1e-9);
    all[1].similarity = .9;
    near_to(llmgwi_calibrate_score(all, 2, false), 1.1739, 1e-9);
    assert_true(llmgwi_calibrate_score(near, 0, false) == -INFINITY);
    all[0].similarity = NAN;
    assert_true(llmgwi_calibrate_score(all, 8, false) == -INFINITY);
}

/* ---- the bets ---- */

static void test_levels(void **state) {
    near_to(llmgwi_calibrate_level_z(0), -4 + 12 / 128. * 5, 0); /* floor(128 * 2 / 50) = 5 */
    near_to(llmgwi_calibrate_level_z(1), -4 + 12 / 128. * 7, 0); /* floor(7.68) */
    near_to(llmgwi_calibrate_level_z(47), -4 + 12 / 128. * 125, 0);
    assert_int_equal(llmgwi_calibrate_level(-3.54), LLMGWI_CALIBRATE_NONE);
    assert_int_equal(llmgwi_calibrate_level(-INFINITY), LLMGWI_CALIBRATE_NONE);
    assert_int_equal(llmgwi_calibrate_level(NAN), LLMGWI_CALIBRATE_NONE);
    assert_int_equal(llmgwi_calibrate_level(INFINITY), 47);
    for (int i = 0; i < 48; i++) {
        assert_int_equal(llmgwi_calibrate_level(llmgwi_calibrate_level_z(i)), i);
        assert_int_equal(llmgwi_calibrate_level(llmgwi_calibrate_level_z(i) - 1e-9), i - 1);
    }
}

/* The mean of a wrong hit's factor is 1, whatever p: that is the theorem. A component dies before it could not be. */
static void test_a_bet_is_fair(void **state) {
    near_to(llmgwi_calibrate_lambda(0, 1), .9, 1e-15);
    near_to(llmgwi_calibrate_lambda(0, .7), 1.8822814816410187, 1e-12);
    near_to(llmgwi_calibrate_lambda(3, .2), .7593153263238951, 1e-12);
    near_to(llmgwi_calibrate_lambda(8, .01), .43223819388546664, 1e-12);
    for (double p = 1; p > .0039; p *= .97) {
        uint32_t dead = llmgwi_calibrate_deadly(p);
        for (int k = 0; k < LLMGWI_CALIBRATE_BETS; k++) {
            double c = .9 / (1 << k), lambda = llmgwi_calibrate_lambda(k, p);
            assert_int_equal(dead >> k & 1, 1 - exp(-c) > .9 * p);
            if (dead >> k & 1) continue;
            assert_true(lambda >= c && lambda < 4);
            near_to((1 - p) * exp(c) + p * exp(c - lambda), 1, 1e-12);
        }
    }
    assert_int_equal(llmgwi_calibrate_deadly(1), 0);
    assert_int_equal(llmgwi_calibrate_deadly(.66), 0);
    assert_int_equal(llmgwi_calibrate_deadly(.65), 1);
    assert_int_equal(llmgwi_calibrate_deadly(.05), 31);
    assert_int_equal(llmgwi_calibrate_deadly(.01), 127);
    assert_int_equal(llmgwi_calibrate_deadly(.0042), 255);
    assert_int_equal(llmgwi_calibrate_deadly(0), 511);
}

/* p = max(.01, A / (delta T)), and its floor. */
static void test_rate(void **state) {
    llmgwi_calibrate_unit unit;
    memset(&unit, 0, sizeof unit);
    llmgwi_calibrate_rules rules = rules_of(.02, false, false);
    near_to(llmgwi_calibrate_rate(&unit, &rules), 1, 0);
    unit.all.counts[LLMGWI_CALIBRATE_REQUESTS] = 1200;
    near_to(llmgwi_calibrate_rate(&unit, &rules), .5, 1e-12);
    rules.strict = true;
    near_to(llmgwi_calibrate_rate(&unit, &rules), 1, 1e-12);
    unit.all.counts[LLMGWI_CALIBRATE_REQUESTS] = 12000;
    near_to(llmgwi_calibrate_rate(&unit, &rules), .1, 1e-12);
    rules.strict = false;
    unit.all.counts[LLMGWI_CALIBRATE_REQUESTS] = 10000000;
    near_to(llmgwi_calibrate_rate(&unit, &rules), .01, 1e-12);
    rules.floor = .03;
    near_to(llmgwi_calibrate_rate(&unit, &rules), .03, 1e-12);
    rules.floor = 1e-9; /* would leave no component alive */
    near_to(llmgwi_calibrate_rate(&unit, &rules), .004, 1e-12);
    rules.per_hit = true; /* of the hits, of which there are none */
    near_to(llmgwi_calibrate_rate(&unit, &rules), 1, 0);
    unit.all.counts[LLMGWI_CALIBRATE_HITS] = 1199;
    near_to(llmgwi_calibrate_rate(&unit, &rules), .5, 1e-12);
    rules.max_error = 0;
    near_to(llmgwi_calibrate_rate(&unit, &rules), 1, 0);
}

/* ---- cold start ---- */

static void test_cold_start(void **state) {
    static const struct {
        double max_error;
        bool strict;
        int opens; /* CALIBRATION.md 3: 7.2 / delta, STRICT 10.1 / delta, 200 at least */
    } rows[] = {{.01, false, 716}, {.02, false, 358}, {.05, false, 200},
                {.01, true, 1006}, {.02, true, 503},  {.05, true, 202}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        llmgwi_calibrate_unit unit;
        llmgwi_calibrate_rules rules = rules_of(rows[i].max_error, rows[i].strict, false);
        memset(&unit, 0, sizeof unit);
        assert_false(llmgwi_calibrate_may_serve(&unit, &rules, INFINITY));
        for (int t = 1; t <= rows[i].opens; t++) {
            assert_true(llmgwi_calibrate_threshold(&unit, &rules) == INFINITY);
            llmgwi_calibrate_request(&unit, &rules, -INFINITY);
        }
        near_to(llmgwi_calibrate_threshold(&unit, &rules), -3.53125, 0);
        assert_true(llmgwi_calibrate_may_serve(&unit, &rules, -3.5));
        assert_false(llmgwi_calibrate_may_serve(&unit, &rules, -3.6));
        assert_false(llmgwi_calibrate_may_serve(&unit, &rules, NAN));
    }
}

/* Per hit a threshold opens by the requests that pass it: the lowest one that has seen enough of them. */
static void test_cold_start_per_hit(void **state) {
    llmgwi_calibrate_unit unit;
    llmgwi_calibrate_rules rules = rules_of(.05, false, true);
    memset(&unit, 0, sizeof unit);
    int t = 0;
    for (; t < 4000 && llmgwi_calibrate_threshold(&unit, &rules) > 7; t++)
        llmgwi_calibrate_request(&unit, &rules, t % 10 ? -5 : 1); /* one of ten has a score */
    /* 3.158 / .9 in place of L: (delta H - 2) = 3.158..; H = 104 */
    assert_int_equal(unit.all.scored[llmgwi_calibrate_level(1)], 104);
    near_to(llmgwi_calibrate_threshold(&unit, &rules), -3.53125, 0);
}

/* ---- the same stream as another program's ---- */

typedef struct row {
    int at;
    int64_t hits, wrong, sampled, sampled_wrong;
    double threshold, p, error, bound;
    uint32_t dead;
} row;

static void expect_row(const llmgwi_calibrate_unit *unit, const llmgwi_calibrate_rules *rules, double p,
                       int64_t wrong, const row *want) {
    assert_int_equal(count(unit, LLMGWI_CALIBRATE_HITS), want->hits);
    assert_int_equal(wrong, want->wrong);
    assert_int_equal(count(unit, LLMGWI_CALIBRATE_SAMPLED), want->sampled);
    assert_int_equal(count(unit, LLMGWI_CALIBRATE_SAMPLED_WRONG), want->sampled_wrong);
    double threshold = llmgwi_calibrate_threshold(unit, rules);
    if (want->threshold < INFINITY)
        near_to(threshold, want->threshold, 1e-9);
    else
        assert_true(threshold == INFINITY);
    near_to(p, want->p, 1e-12);
    near_to(llmgwi_calibrate_error(unit, rules), want->error, 1e-8);
    near_to(llmgwi_calibrate_bound(unit, rules), want->bound, 1e-6);
    assert_int_equal(unit->all.dead, want->dead);
}

/* Labels at once. A request's answer is wrong with probability 1 / (1 + exp(2 + z)), z uniform in -5 .. 8. */
static void run_rows(double max_error, bool strict, bool per_hit, const row *rows) {
    llmgwi_calibrate_unit unit;
    llmgwi_calibrate_rules rules = rules_of(max_error, strict, per_hit);
    uint64_t seed = 7;
    int64_t served_wrong = 0;
    memset(&unit, 0, sizeof unit);
    for (int t = 1, at = 0; at < 3; t++) {
        double z = -5 + 13 * uniform(&seed);
        bool wrong = uniform(&seed) < 1 / (1 + exp(2 + z));
        double coin = uniform(&seed);
        llmgwi_calibrate_request(&unit, &rules, z);
        double p = llmgwi_calibrate_rate(&unit, &rules);
        if (llmgwi_calibrate_may_serve(&unit, &rules, z)) {
            served_wrong += wrong;
            llmgwi_calibrate_served(&unit, &rules, coin < p, p);
            if (coin < p) llmgwi_calibrate_label(&unit, &rules, z, wrong, p, HIT);
        } else {
            llmgwi_calibrate_label(&unit, &rules, z, wrong, 1, MISS);
        }
        if (t == rows[at].at) expect_row(&unit, &rules, p, served_wrong, &rows[at++]);
    }
}

/* The rows are from a Python program that follows CALIBRATION.md 3 and 4 line by line: lam[48][9] as sums for
   every threshold that is passed, U by 200 halvings, exact floats of 64 bits. */
static void test_streams(void **state) {
    static const row balanced[] = {
        {400, 24, 0, 24, 0, .78125, 1, 0, 0, 0},
        {2000, 1010, 13, 573, 5, .03125, .3, .005075, .017560122, 3},
        {20000, 11972, 163, 1451, 18, .3125, .03, .008227, .027447035, 63},
    };
    static const row strict[] = {
        {400, 0, 0, 0, 0, INFINITY, 1, 0, 0, 0},
        {2000, 908, 13, 791, 10, .03125, .6, .00610875, .012157169, 1},
        {20000, 11664, 152, 2485, 33, .78125, .06, .007619667, .017708937, 31},
    };
    static const row per_hit[] = {
        {400, 101, 0, 101, 0, -.4375, 1, 0, 0, 0},
        {2000, 1184, 30, 612, 14, -.25, 0.2027027027027027, .028533221, .071298749, 7},
        {20000, 12618, 256, 1212, 29, .03125, 0.01902044698050404, .027286416, .065071861, 63},
    };
    static const row five[] = {
        {400, 127, 1, 102, 1, -.71875, .6, .0025, .030603189, 1},
        {2000, 1240, 39, 381, 11, -.4375, .12, .02790625, .066144821, 7},
        {20000, 13568, 440, 789, 21, -.90625, .012, .0213325, .062100174, 127},
    };
    static const row strict_per_hit[] = {
        {400, 0, 0, 0, 0, INFINITY, 1, 0, 0, 0},
        {2000, 1073, 31, 1073, 31, -1.1875, 1, .02889096, .02889096, 0},
        {20000, 13574, 475, 6787, 239, -.90625, 0.1414468837483424, .035141171, .044258362, 7},
    };
    run_rows(.05, true, true, strict_per_hit);
    run_rows(.02, false, false, balanced);
    run_rows(.02, true, false, strict);
    run_rows(.05, false, true, per_hit);
    run_rows(.05, false, false, five);
}

/* ---- the promises ---- */

/* Who decides about a stream's answers may look at everything that has happened, coins too. */
typedef struct world {
    llmgwi_calibrate_unit unit;
    llmgwi_calibrate_rules rules;
    uint64_t seed;
    int kind, requests, now, delay;
    int64_t served_wrong;
    bool loses; /* samples that were wrong get lost */
    bool was_over, was_above_bound;
    struct waiting {
        int due;
        double z, p;
        bool wrong;
    } waiting[4096];
    size_t first, last;
} world;

typedef bool (*world_fn)(world *w);

static bool world_half(world *w) { return uniform(&w->seed) < .5; }
static bool world_always(world *w) { return true; }
static bool world_turns(world *w) { return w->now > w->requests / 2; }
static bool world_half_turns(world *w) { return w->now > w->requests / 2 && uniform(&w->seed) < .5; }
static bool world_bursts(world *w) { return w->now / 150 % 5 == 4; }
/* Errs where it is checked least, and behaves after it was caught. */
static bool world_cunning(world *w) {
    int64_t caught = count(&w->unit, LLMGWI_CALIBRATE_SAMPLED_WRONG);
    return llmgwi_calibrate_rate(&w->unit, &w->rules) < .2 && caught * 25 < w->served_wrong + 25;
}
/* Errs when the budget is nearly used, to push it over. */
static bool world_pushes(world *w) {
    return (double)w->served_wrong > .8 * w->rules.max_error * w->now || w->now % 97 == 0 || world_turns(w);
}

static const world_fn worlds[] = {world_half,   world_always,  world_turns, world_half_turns,
                                  world_bursts, world_cunning, world_pushes};
#define WORLDS (sizeof worlds / sizeof worlds[0])

static void world_labels(world *w) {
    for (; w->first < w->last && w->waiting[w->first].due <= w->now; w->first++) {
        struct waiting *s = &w->waiting[w->first];
        if (s->wrong && w->loses)
            llmgwi_calibrate_lost(&w->unit, &w->rules, s->z, s->p);
        else
            llmgwi_calibrate_label(&w->unit, &w->rules, s->z, s->wrong, s->p, HIT);
    }
}

static double world_allows(const world *w) {
    double n = (double)w->now;
    if (w->rules.per_hit) n = (double)count(&w->unit, LLMGWI_CALIBRATE_HITS);
    return w->rules.max_error * n + (w->rules.strict && w->rules.per_hit ? 4 : 0);
}

static void world_step(world *w) {
    double z = -5 + 13 * uniform(&w->seed); /* a useless score, as far as the world is concerned */
    w->now++;
    world_labels(w);
    bool wrong = worlds[w->kind](w);
    llmgwi_calibrate_request(&w->unit, &w->rules, z);
    double p = llmgwi_calibrate_rate(&w->unit, &w->rules);
    if (!llmgwi_calibrate_may_serve(&w->unit, &w->rules, z)) {
        llmgwi_calibrate_label(&w->unit, &w->rules, z, wrong, 1, MISS);
        return;
    }
    bool sampled = uniform(&w->seed) < p;
    llmgwi_calibrate_served(&w->unit, &w->rules, sampled, p);
    w->served_wrong += wrong;
    if (sampled) {
        struct waiting s;
        s.due = w->now + w->delay;
        s.z = z;
        s.p = p;
        s.wrong = wrong;
        assert_true(w->last < sizeof w->waiting / sizeof w->waiting[0]);
        w->waiting[w->last++] = s;
    }
    if ((double)w->served_wrong > world_allows(w)) w->was_over = true;
    if ((double)w->served_wrong > llmgwi_calibrate_most_wrong(&w->unit.all)) w->was_above_bound = true;
}

static void world_run(world *w, uint64_t number, bool per_hit) {
    static const double errors[] = {.02, .05, .1, .2};
    static const int delays[] = {0, 0, 40, 400};
    memset(w, 0, sizeof *w);
    w->kind = (int)(number % WORLDS);
    w->requests = 3000;
    w->rules = rules_of(errors[number / WORLDS % 4], true, per_hit);
    w->delay = delays[number / WORLDS / 4 % 4];
    w->loses = number / WORLDS / 16 % 2;
    w->seed = llmgwi_base_mix(number);
    while (w->now < w->requests) world_step(w);
}

/* STRICT: W <= delta T at every moment, and W <= U, in 95 % of streams or more. 37 of 400 would be passed once in
   10,000 times if each were over with 5 %; a share that is far larger means that the bets are wrong. */
static void strict_holds(bool per_hit, uint64_t streams, int most) {
    world *w = (world *)calloc(1, sizeof *w);
    int over = 0, above = 0;
    int64_t hits = 0, wrong = 0;
    for (uint64_t i = 0; i < streams; i++) {
        world_run(w, i, per_hit);
        over += w->was_over;
        above += w->was_above_bound;
        hits += count(&w->unit, LLMGWI_CALIBRATE_HITS);
        wrong += w->served_wrong;
    }
    print_message("%d streams%s: %d over, %d above the bound; %d hits, %d wrong\n", (int)streams,
                  per_hit ? " per hit" : "", over, above, (int)hits, (int)wrong);
    assert_true(over <= most);
    assert_true(above <= most);
    assert_true(hits > (int64_t)streams * 50); /* serving nothing keeps every promise */
    free(w);
}

static void test_strict_keeps_its_promise(void **state) { strict_holds(false, 400, 37); }
static void test_strict_per_hit_keeps_its_promise(void **state) { strict_holds(true, 112, 15); }

/* BALANCED on streams that stay as they are: a promise of experience, and worth its hits. */
static void test_balanced_on_steady_streams(void **state) {
    int over = 0;
    int64_t hits = 0;
    double estimated = 0, true_error = 0;
    for (uint64_t i = 1; i <= 10; i++) {
        llmgwi_calibrate_unit unit;
        llmgwi_calibrate_rules rules = rules_of(i % 2 ? .02 : .05, false, false);
        uint64_t seed = llmgwi_base_mix(i);
        int64_t served_wrong = 0;
        memset(&unit, 0, sizeof unit);
        for (int t = 0; t < 8000; t++) {
            double z = -5 + 13 * uniform(&seed), coin = uniform(&seed);
            bool wrong = uniform(&seed) < 1 / (1 + exp(2 + z));
            llmgwi_calibrate_request(&unit, &rules, z);
            double p = llmgwi_calibrate_rate(&unit, &rules);
            if (!llmgwi_calibrate_may_serve(&unit, &rules, z)) {
                llmgwi_calibrate_label(&unit, &rules, z, wrong, 1, MISS);
                continue;
            }
            llmgwi_calibrate_served(&unit, &rules, coin < p, p);
            served_wrong += wrong;
            if (coin < p) llmgwi_calibrate_label(&unit, &rules, z, wrong, p, HIT);
        }
        over += (double)served_wrong > rules.max_error * 8000;
        hits += count(&unit, LLMGWI_CALIBRATE_HITS);
        estimated += llmgwi_calibrate_error(&unit, &rules);
        true_error += (double)served_wrong / 8000;
        assert_true(llmgwi_calibrate_bound(&unit, &rules) * 8000 >= (double)served_wrong);
    }
    assert_true(over == 0);
    print_message("mean error %.2f %%, estimated %.2f %%, hits %d of 80,000\n", 10 * true_error,
                  10 * estimated, (int)hits);
    near_to(estimated, true_error, .3 * true_error); /* some 130 wrong samples: three sigma */
    assert_true(hits > 10 * 8000 / 2);               /* the best fixed thresholds serve 66 and 76 % here */
}

/* What pends and what is lost counts as wrong, for the governor and the bound. */
static void test_pending_and_lost_are_wrong(void **state) {
    llmgwi_calibrate_unit unit;
    llmgwi_calibrate_rules rules = rules_of(.02, true, false);
    memset(&unit, 0, sizeof unit);
    for (int i = 0; i < 600; i++) llmgwi_calibrate_request(&unit, &rules, -INFINITY);
    int served = 0; /* 600 * .02 = 12 errors are allowed */
    for (; served < 100 && llmgwi_calibrate_may_serve(&unit, &rules, 7); served++)
        llmgwi_calibrate_served(&unit, &rules, true, 1);
    assert_int_equal(served, 12);
    near_to(llmgwi_calibrate_bound(&unit, &rules), .02, 1e-12);
    near_to(llmgwi_calibrate_error(&unit, &rules), 0, 0);
    llmgwi_calibrate_label(&unit, &rules, 7, RIGHT, 1, HIT);
    assert_true(llmgwi_calibrate_governed(&unit.all, &rules));
    near_to(llmgwi_calibrate_bound(&unit, &rules), 11. / 600, 1e-12);
    for (int i = 0; i < 10; i++) llmgwi_calibrate_label(&unit, &rules, 7, RIGHT, 1, HIT);
    near_to(unit.all.g[0], .9, 1e-12);
    llmgwi_calibrate_lost(&unit, &rules, 7, 1);
    near_to(unit.all.g[0], .9, 1e-12);
    near_to(llmgwi_calibrate_bound(&unit, &rules), 1. / 600, 1e-12);
    assert_int_equal(unit.all.wrong[llmgwi_calibrate_level(7)], 1);
    llmgwi_calibrate_told_wrong(&unit, INFINITY);
    near_to(unit.all.g[0], 1.8, 1e-12);
    near_to(llmgwi_calibrate_bound(&unit, &rules), 2. / 600, 1e-12);
    assert_int_equal(unit.all.wrong[47], 1);
}

/* Many hits of which nothing is known: the mixture decides. From Python: the least T for which the mean of
   exp(c (.02 T - 1) - sum of lambda) is 20. */
static void test_governor_by_hand(void **state) {
    static const int opens[] = {331, 431};
    for (int wrong = 0; wrong <= 2; wrong += 2) {
        llmgwi_calibrate_unit unit;
        llmgwi_calibrate_rules rules = rules_of(.02, true, false);
        memset(&unit, 0, sizeof unit);
        for (int i = 0; i < 1000; i++) llmgwi_calibrate_served(&unit, &rules, i < wrong, 1);
        for (int i = 0; i < wrong; i++) llmgwi_calibrate_label(&unit, &rules, 1, WRONG, 1, HIT);
        int t = 1;
        for (; t < 2000; t++) {
            llmgwi_calibrate_request(&unit, &rules, -INFINITY);
            if (llmgwi_calibrate_governed(&unit.all, &rules)) break;
        }
        assert_int_equal(t, opens[wrong / 2]);
        assert_true(llmgwi_calibrate_most_wrong(&unit.all) <= .02 * t);
        assert_true(llmgwi_calibrate_most_wrong(&unit.all) > .02 * t - 1.1);
    }
}

/* Two units of one request: it is checked with the larger of their rates, and both learn that rate. */
static void test_pooling(void **state) {
    llmgwi_calibrate_unit route, scope;
    llmgwi_calibrate_rules rules = rules_of(.05, false, false);
    memset(&route, 0, sizeof route);
    memset(&scope, 0, sizeof scope);
    for (int i = 0; i < 4000; i++) llmgwi_calibrate_request(&route, &rules, -INFINITY);
    for (int i = 0; i < 400; i++) llmgwi_calibrate_request(&scope, &rules, -INFINITY);
    double p = llmgwi_calibrate_rate(&scope, &rules);
    near_to(p, .6, 1e-12);
    near_to(llmgwi_calibrate_rate(&route, &rules), .06, 1e-12);
    assert_int_equal(route.all.dead, 31); /* before any hit: by its own rate */
    llmgwi_calibrate_served(&route, &rules, true, p);
    llmgwi_calibrate_label(&route, &rules, 1, WRONG, p, HIT);
    near_to(llmgwi_calibrate_error(&route, &rules), 1 / .6 / 4000, 1e-12);
    near_to((double)route.all.lam[llmgwi_calibrate_level(1)][5], llmgwi_calibrate_lambda(5, .6), 1e-6);
    near_to((double)route.all.lam[llmgwi_calibrate_level(1)][0], 0, 0); /* dead since p was below .66 here */
    assert_true(route.all.dead > scope.all.dead);
}

/* A request may ask for a stricter share than its unit is kept by. */
static void test_stricter_request(void **state) {
    llmgwi_calibrate_unit unit;
    llmgwi_calibrate_rules rules = rules_of(.02, false, false), stricter = rules_of(.01, false, false);
    memset(&unit, 0, sizeof unit);
    for (int i = 1; i <= 800; i++) {
        llmgwi_calibrate_request(&unit, &rules, 0);
        assert_int_equal(llmgwi_calibrate_may_serve(&unit, &rules, 0), i >= 358);
        assert_int_equal(llmgwi_calibrate_may_serve(&unit, &stricter, 0), i >= 716);
    }
    for (int i = 0; i < 20; i++) {
        if (i < 8) llmgwi_calibrate_label(&unit, &rules, 0, WRONG, 1, MISS);
        llmgwi_calibrate_request(&unit, &rules, 0);
    }
    assert_true(llmgwi_calibrate_may_serve(&unit, &rules, 0));
    assert_false(llmgwi_calibrate_may_serve(&unit, &stricter, 0));
}

/* The threshold moves at every twentieth request, and a wrong answer closes what lies below its score. */
static void test_scan(void **state) {
    llmgwi_calibrate_unit unit;
    llmgwi_calibrate_rules rules = rules_of(.02, false, false);
    memset(&unit, 0, sizeof unit);
    for (int i = 0; i < 358; i++) llmgwi_calibrate_request(&unit, &rules, 0);
    for (int i = 0; i < 9; i++) llmgwi_calibrate_label(&unit, &rules, 0, WRONG, 1, MISS);
    for (int i = 0; i < 19; i++) llmgwi_calibrate_request(&unit, &rules, 0);
    assert_true(llmgwi_calibrate_may_serve(&unit, &rules, -3));
    llmgwi_calibrate_request(&unit, &rules, 0);
    assert_false(llmgwi_calibrate_may_serve(&unit, &rules, 0));
    near_to(llmgwi_calibrate_threshold(&unit, &rules), .03125, 0); /* the first level above 0 */
    for (int i = 0; i < 2000; i++) llmgwi_calibrate_request(&unit, &rules, 0);
    near_to(llmgwi_calibrate_threshold(&unit, &rules), -3.53125, 0);
}

/* ---- several processes, and the store ---- */

static bool same_counts(const llmgwi_calibrate_evidence *a, const llmgwi_calibrate_evidence *b) {
    return !memcmp(a->counts, b->counts, sizeof a->counts) &&
           !memcmp(a->scored, b->scored, sizeof a->scored) && !memcmp(a->wrong, b->wrong, sizeof a->wrong);
}

static void expect_same(const llmgwi_calibrate_evidence *a, const llmgwi_calibrate_evidence *b) {
    assert_true(same_counts(a, b));
    near_to(a->weighted, b->weighted, 1e-9 * (1 + b->weighted));
    for (int k = 0; k < LLMGWI_CALIBRATE_BETS; k++) {
        if ((a->dead | b->dead) >> k & 1) continue;
        near_to(a->g[k], b->g[k], 1e-9);
        for (int i = 0; i < 48; i++)
            near_to((double)a->lam[i][k], (double)b->lam[i][k], 1e-5 * (1 + (double)b->lam[i][k]));
    }
}

static void one_event(llmgwi_calibrate_unit *unit, uint64_t number, double p) {
    llmgwi_calibrate_rules rules = rules_of(.05, false, false);
    uint64_t seed = number * 7919;
    (void)uniform(&seed);
    double z = -5 + 13 * uniform(&seed);
    bool wrong = uniform(&seed) < .2, hit = uniform(&seed) < .6, sampled = uniform(&seed) < p;
    llmgwi_calibrate_request(unit, &rules, z);
    if (!hit) {
        llmgwi_calibrate_label(unit, &rules, z, wrong, 1, MISS);
        return;
    }
    llmgwi_calibrate_served(unit, &rules, sampled, p);
    if (sampled && number % 13 == 0)
        llmgwi_calibrate_lost(unit, &rules, z, p);
    else if (sampled && number % 17)
        llmgwi_calibrate_label(unit, &rules, z, wrong, p, HIT);
}

static void commit(llmgwi_calibrate_unit *unit, unsigned char *bytes, bool works) {
    llmgwi_calibrate_evidence mine, stored;
    llmgwi_calibrate_take(unit, &mine);
    assert_true(llmgwi_calibrate_load(&stored, bytes, LLMGWI_CALIBRATE_BYTES));
    llmgwi_calibrate_merge(&stored, &mine);
    if (!works) {
        llmgwi_calibrate_merge(&unit->added, &mine);
        return;
    }
    assert_true(llmgwi_calibrate_save(&stored, bytes, LLMGWI_CALIBRATE_BYTES));
    llmgwi_calibrate_adopt(unit, &stored);
}

/* Two processes that commit at other times, one of them with failures, know in the end what one would know. */
static void test_merge_of_parts_is_the_whole(void **state) {
    static llmgwi_calibrate_unit whole, parts[2];
    static llmgwi_calibrate_evidence none;
    unsigned char bytes[LLMGWI_CALIBRATE_BYTES];
    memset(&whole, 0, sizeof whole);
    memset(parts, 0, sizeof parts);
    assert_true(llmgwi_calibrate_save(&none, bytes, sizeof bytes));
    for (uint64_t i = 1; i <= 3000; i++) {
        double p = i < 600 ? 1 : 600. / (double)i;
        one_event(&whole, i, p);
        one_event(&parts[i % 3 == 0], i, p);
        if (i % 50 == 0) commit(&parts[0], bytes, true);
        if (i % 30 == 0) { /* a look at what the other has committed, with additions of its own */
            llmgwi_calibrate_evidence stored;
            int64_t had = count(&parts[1], LLMGWI_CALIBRATE_REQUESTS);
            assert_true(llmgwi_calibrate_load(&stored, bytes, sizeof bytes));
            llmgwi_calibrate_adopt(&parts[1], &stored);
            assert_true(count(&parts[1], LLMGWI_CALIBRATE_REQUESTS) >= had);
        }
        if (i % 70 == 0) commit(&parts[1], bytes, i % 140 == 0);
    }
    commit(&parts[0], bytes, true);
    commit(&parts[1], bytes, true);
    expect_same(&parts[1].all, &whole.all);
    assert_true(whole.all.dead != 0 && parts[1].all.dead == whole.all.dead);
    llmgwi_calibrate_rules rules = rules_of(.05, false, false);
    near_to(llmgwi_calibrate_bound(&parts[1], &rules), llmgwi_calibrate_bound(&whole, &rules), 1e-6);
    assert_true(memcmp(&parts[1].added, &none, sizeof none) == 0);
    assert_true(count(&whole, LLMGWI_CALIBRATE_PENDING) > 20 && count(&whole, LLMGWI_CALIBRATE_LOST) > 20);
}

/* What another process has learned, good or bad, is in force as soon as it is adopted, and stays. */
static void test_others_are_heard(void **state) {
    static llmgwi_calibrate_unit mine, other;
    llmgwi_calibrate_rules rules = rules_of(.02, false, false);
    memset(&mine, 0, sizeof mine);
    memset(&other, 0, sizeof other);
    for (int i = 0; i < 1000; i++) llmgwi_calibrate_request(&other, &rules, 0);
    llmgwi_calibrate_request(&mine, &rules, 0);
    assert_false(llmgwi_calibrate_may_serve(&mine, &rules, 0));
    llmgwi_calibrate_adopt(&mine, &other.all);
    assert_true(llmgwi_calibrate_may_serve(&mine, &rules, 0));
    llmgwi_calibrate_request(&mine, &rules, 0);
    assert_true(llmgwi_calibrate_may_serve(&mine, &rules, 0));
    for (int i = 0; i < 30; i++) llmgwi_calibrate_label(&other, &rules, 0, WRONG, 1, MISS);
    llmgwi_calibrate_adopt(&mine, &other.all);
    assert_false(llmgwi_calibrate_may_serve(&mine, &rules, 0));
    llmgwi_calibrate_request(&mine, &rules, 0);
    assert_false(llmgwi_calibrate_may_serve(&mine, &rules, 0));
    assert_int_equal(count(&mine, LLMGWI_CALIBRATE_REQUESTS), 1003);
}

/* 10 million requests lose nothing to rounding: counts are integers where a float would have stopped at 2^24. */
static void test_sums_stay_exact(void **state) {
    static llmgwi_calibrate_unit unit;
    llmgwi_calibrate_rules rules = rules_of(.02, false, false);
    llmgwi_calibrate_evidence mine;
    memset(&unit, 0, sizeof unit);
    for (int i = 0; i < 100000; i++) llmgwi_calibrate_label(&unit, &rules, 1, WRONG, 1, MISS);
    llmgwi_calibrate_take(&unit, &mine);
    for (int i = 1; i < 1000; i++) llmgwi_calibrate_merge(&unit.all, &mine);
    assert_int_equal(unit.all.wrong[llmgwi_calibrate_level(1)], 100000000);
}

static void fill(llmgwi_calibrate_unit *unit) {
    memset(unit, 0, sizeof *unit);
    for (uint64_t i = 1; i <= 2000; i++) one_event(unit, i, i < 600 ? 1 : 600. / (double)i);
}

static void test_save_and_load(void **state) {
    static llmgwi_calibrate_unit unit;
    llmgwi_calibrate_evidence read, before;
    unsigned char bytes[LLMGWI_CALIBRATE_BYTES], again[LLMGWI_CALIBRATE_BYTES];
    fill(&unit);
    unit.all.counts[LLMGWI_CALIBRATE_PENDING] = -3; /* another process drew them and has not committed */
    assert_false(llmgwi_calibrate_save(&unit.all, bytes, sizeof bytes - 1));
    assert_true(llmgwi_calibrate_save(&unit.all, bytes, sizeof bytes));
    assert_true(llmgwi_calibrate_load(&read, bytes, sizeof bytes));
    assert_true(same_counts(&read, &unit.all));
    assert_memory_equal(read.lam, unit.all.lam, sizeof read.lam);
    assert_memory_equal(read.g, unit.all.g, sizeof read.g);
    assert_true(llmgwi_calibrate_save(&read, again, sizeof again));
    assert_memory_equal(bytes, again, sizeof bytes);
    before = read;
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] ^= (unsigned char)(1 << i % 8);
        if (llmgwi_calibrate_load(&read, bytes, sizeof bytes)) fail_msg("byte %d", (int)i);
        bytes[i] ^= (unsigned char)(1 << i % 8);
    }
    assert_false(llmgwi_calibrate_load(&read, bytes, sizeof bytes - 1));
    assert_false(llmgwi_calibrate_load(&read, bytes, 0));
    assert_memory_equal(&read, &before, sizeof read);
}

/* Bytes with a good check sum that no run of ours has written. */
static void test_hostile_bytes(void **state) {
    static const double bad_sums[] = {NAN, INFINITY, -INFINITY, 1e300};
    static llmgwi_calibrate_unit unit;
    llmgwi_calibrate_evidence bad, read;
    unsigned char bytes[LLMGWI_CALIBRATE_BYTES];
    fill(&unit);
    memset(&read, 0, sizeof read);
    for (int i = 0; i < 4 * 7; i++) {
        bad = unit.all;
        double sum = bad_sums[i % 4];
        switch (i / 4) {
        case 0: bad.lam[i % 4 * 13][i % 4 * 2] = (float)sum; break;
        case 1: bad.g[i % 4 * 2] = sum; break;
        case 2: bad.weighted = sum; break;
        case 3: bad.lam[47][8] = -1; break;
        case 4:
            bad.counts[i % 3 ? LLMGWI_CALIBRATE_HITS : LLMGWI_CALIBRATE_LOST] = i % 2 ? -1 : INT64_MAX;
            break;
        case 5: bad.wrong[i % 4 * 15] = i % 2 ? INT64_MIN : (int64_t)1 << 54; break;
        default: bad.dead = 512u << i % 4; break;
        }
        assert_true(llmgwi_calibrate_save(&bad, bytes, sizeof bytes));
        if (llmgwi_calibrate_load(&read, bytes, sizeof bytes)) fail_msg("case %d", i);
    }
    assert_true(llmgwi_calibrate_save(&unit.all, bytes, sizeof bytes));
    bytes[0]++; /* a version to come */
    llmgwi_calibrate_put(bytes + sizeof bytes - 8, llmgwi_base_hash(NULL, bytes, sizeof bytes - 8), 8);
    assert_false(llmgwi_calibrate_load(&read, bytes, sizeof bytes));
}

/* ---- drift ---- */

static void test_drift_by_hand(void **state) {
    llmgwi_calibrate_class cls;
    memset(&cls, 0, sizeof cls);
    assert_false(llmgwi_calibrate_alarmed(&cls));
    assert_false(llmgwi_calibrate_drift(&cls, WRONG)); /* 10 / 3 */
    assert_true(llmgwi_calibrate_alarmed(&cls));
    assert_false(llmgwi_calibrate_drift(&cls, RIGHT));
    near_to((double)cls.e, 10 / 3. * .5 / .85, 1e-5);
    assert_true(llmgwi_calibrate_alarmed(&cls));
    assert_false(llmgwi_calibrate_drift(&cls, RIGHT)); /* 1.15: two right ones after a wrong one end it */
    assert_false(llmgwi_calibrate_alarmed(&cls));
    assert_false(llmgwi_calibrate_drift(&cls, RIGHT));
    for (int i = 0; i < 7; i++) assert_false(llmgwi_calibrate_drift(&cls, WRONG)); /* from 1: 4,572 */
    near_to((double)cls.e / pow(10 / 3., 7), 1, 1e-5);
    assert_true(llmgwi_calibrate_drift(&cls, WRONG));
    near_to((double)cls.e, 1, 0);
    assert_false(llmgwi_calibrate_alarmed(&cls));
    static const float bad[] = {NAN, INFINITY, -INFINITY, -1, 1e30f};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cls.e = bad[i];
        assert_false(llmgwi_calibrate_drift(&cls, RIGHT));
        assert_false(llmgwi_calibrate_alarmed(&cls));
    }
}

/* Hits on one class until it is purged. */
static int hits_to_alarm(uint64_t *seed, double p, double wrong, int *samples) {
    llmgwi_calibrate_class cls;
    memset(&cls, 0, sizeof cls);
    *samples = 0;
    for (int hits = 1;; hits++) {
        if (uniform(seed) >= (llmgwi_calibrate_alarmed(&cls) ? 1 : p)) continue;
        ++*samples;
        if (llmgwi_calibrate_drift(&cls, uniform(seed) < wrong)) return hits;
    }
}

static int by_size(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

/* Fewer than 60 samples; hits by the table of CALIBRATION.md 6, whose rule was another: twice as many is the most. */
static void test_drift_is_found(void **state) {
    enum { TIMES = 2001 };
    static const struct {
        double p, wrong;
        int median, p95;
    } rows[] = {{.02, 1, 42, 155}, {.02, .6, 76, 302}, {.05, 1, 16, 58}, {.05, .6, 32, 122},
                {.1, 1, 9, 29},    {.1, .6, 17, 69},   {1, 1, 8, 8},     {1, .6, 17, 31}};
    uint64_t seed = 11;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int hits[TIMES], samples[TIMES];
        for (int n = 0; n < TIMES; n++) hits[n] = hits_to_alarm(&seed, rows[i].p, rows[i].wrong, &samples[n]);
        qsort(hits, TIMES, sizeof hits[0], by_size);
        qsort(samples, TIMES, sizeof samples[0], by_size);
        print_message(
            "p %.2f, %.0f %% wrong: median %d hits, 95 %% %d; %d samples, 95 %% %d, 99 %% %d, most %d\n",
            rows[i].p, 100 * rows[i].wrong, hits[TIMES / 2], hits[TIMES * 95 / 100], samples[TIMES / 2],
            samples[TIMES * 95 / 100], samples[TIMES * 99 / 100], samples[TIMES - 1]);
        assert_true(hits[TIMES / 2] < rows[i].median * 2);
        assert_true(hits[TIMES * 95 / 100] < rows[i].p95 * 2);
        assert_true(samples[TIMES * 95 / 100] < (rows[i].wrong < 1 ? 40 : 10));
        assert_true(samples[TIMES * 99 / 100] < 50);
    }
}

/* ---- what the benchmarks compare with ---- */

static void expect_vcache(const double (*seen)[2], size_t n, double t, double gamma, double variance,
                          const double *taus) {
    static const double asked[3][2] = {{.9, .05}, {.99, .2}, {.7, .1}}; /* similarity, delta */
    baseline_entry e;
    memset(&e, 0, sizeof e);
    for (size_t i = 0; i < n; i++) {
        if (i < 4) assert_false(baseline_vcache_decide(&e, .99, .5, .9999));          /* too few: explore */
        assert_true(baseline_vcache_observe(&e, seen[i][0] + .0004, seen[i][1] > 0)); /* 3 digits are kept */
    }
    for (int i = 0; i < 3; i++) {
        double tau = baseline_vcache_tau(&e, asked[i][0], asked[i][1]);
        near_to(tau, taus[i], 1.1e-5);
        assert_int_equal(baseline_vcache_decide(&e, asked[i][0], asked[i][1], tau + .001), true);
        assert_int_equal(baseline_vcache_decide(&e, asked[i][0], asked[i][1], tau - .001), false);
    }
    near_to(e.t, t, 1e-12);
    near_to(e.gamma, gamma, 1e-9);
    near_to(e.variance, variance, 1e-7);
    baseline_entry_free(&e);
}

/* From scikit-learn 1.9 (LogisticRegression without penalty, lbfgs, tol 1e-8) and scipy 1.17. */
static void test_vcache_baseline(void **state) {
    static const double mixed[][2] = {{.62, 0}, {.7, 1}, {.75, 0}, {.8, 1}, {.86, 1}, {.9, 1}, {.55, 0}};
    static const double noisy[][2] = {{.3, 1},  {.5, 0}, {.9, 0}, {.95, 1}, {.8, 1},
                                      {.85, 1}, {.4, 0}, {.6, 0}, {.97, 1}, {.99, 1}};
    static const double mixed_taus[] = {.6526, -3.78853, .875}, noisy_taus[] = {.8912, .47323, .84453};
    expect_vcache(mixed, 7, .718, 22.871, .0026700350643, mixed_taus);
    expect_vcache(noisy, 10, .612, 4.637, .026183000994, noisy_taus);
    assert_true(baseline_fixed_decide(.8, BASELINE_GPTCACHE) &&
                !baseline_fixed_decide(.79, BASELINE_GPTCACHE));
}

/* All right ones above all wrong ones: the slope is where the solver stops. From the same program, with the
   variances of this one. */
static void test_vcache_baseline_separated(void **state) {
    baseline_entry e;
    memset(&e, 0, sizeof e);
    for (int i = 0; i < 7; i++) assert_true(baseline_vcache_observe(&e, i < 4 ? .9 : .5, i < 4));
    near_to(baseline_vcache_tau(&e, .9, .05), .67555, 1e-4);
    near_to(baseline_vcache_tau(&e, .7, .1), .83607, 1e-4);
    near_to(e.t, .699, 1e-9);
    near_to(e.gamma, 87.169, .05);
    near_to(e.variance, .02012336434, 1e-9);
    for (int i = 0; i < 100; i++) assert_true(baseline_vcache_observe(&e, .9, true));
    near_to(baseline_vcache_tau(&e, .95, .02), .21358, 1e-3);
    near_to(e.t, .674, 1e-9);
    near_to(e.gamma, 81.77, .05);
    baseline_entry_free(&e);
    for (int i = 0; i < 20; i++) assert_true(baseline_vcache_observe(&e, .8, true));
    near_to(baseline_vcache_tau(&e, .9, .05), -1.44977, 1e-4);
    near_to(baseline_vcache_tau(&e, .7, .1), -2.99493, 1e-4);
    near_to(e.gamma, 42.329, .05);
    for (int i = 0; i < 20000; i++) assert_true(baseline_vcache_observe(&e, .8, true));
    assert_true(baseline_vcache_decide(&e, .85, .02, .1));
    baseline_entry_free(&e);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_score),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_a_bet_is_fair),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_cold_start),
        cmocka_unit_test(test_cold_start_per_hit),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_strict_keeps_its_promise),
        cmocka_unit_test(test_strict_per_hit_keeps_its_promise),
        cmocka_unit_test(test_balanced_on_steady_streams),
        cmocka_unit_test(test_pending_and_lost_are_wrong),
        cmocka_unit_test(test_governor_by_hand),
        cmocka_unit_test(test_pooling),
        cmocka_unit_test(test_stricter_request),
        cmocka_unit_test(test_scan),
        cmocka_unit_test(test_merge_of_parts_is_the_whole),
        cmocka_unit_test(test_others_are_heard),
        cmocka_unit_test(test_sums_stay_exact),
        cmocka_unit_test(test_save_and_load),
        cmocka_unit_test(test_hostile_bytes),
        cmocka_unit_test(test_drift_by_hand),
        cmocka_unit_test(test_drift_is_found),
        cmocka_unit_test(test_vcache_baseline),
        cmocka_unit_test(test_vcache_baseline_separated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
