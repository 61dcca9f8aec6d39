/* baselines.h - what other caches decide by, for the benchmarks: a fixed threshold, and vCache.

   Include it after <math.h>, <stdbool.h>, <stddef.h>, <stdlib.h> and <string.h>. One state per cached entry, zeroed is new:

       baseline_entry *e;                                    of the nearest entry, at this similarity (0 to 1)
       if (baseline_vcache_decide(e, similarity, delta, coin)) serve it; vCache never checks what it serves
       else ask upstream, compare, baseline_vcache_observe(e, similarity, correct), and insert the new question and
            answer only if they were not the same (an entry that is found right stays the only one of its kind)
       baseline_entry_free(e) */
#ifndef BASELINES_H
#define BASELINES_H

#define BASELINE_UNUSED __attribute__((unused))

/* ---- a fixed threshold ---- */

#define BASELINE_GPTCACHE .8 /* similarity_threshold of GPTCache's Config */

BASELINE_UNUSED static bool baseline_fixed_decide(double similarity, double threshold) {
    return similarity >= threshold;
}

/* ---- vCache ----

   Schroeder, Desai, Cuadron, Chu, Liu, Zhao, Krusche, Kemper, Stoica, Zaharia, Gonzalez: "vCache: Verified Semantic
   Prompt Caching", arXiv 2502.03771; the policy VerifiedDecisionPolicy of github.com/vcache-project/vCache, from what
   it does (the code here is our own):

   - An entry keeps its observations (similarity rounded to 3 digits, was its answer right?), of which two are there
     from the start: (0, wrong) and (1, right). Fewer than 6 with these: explore.
   - A logistic regression without a penalty gives P(right | s) = 1 / (1 + exp(-gamma (s - t))); gamma at least 1e-6,
     t clipped to 0 .. 1, both rounded to 3 digits.
   - The variance of t comes from the inverse Fisher information by the delta method. If all right ones lie above all
     wrong ones there is no such thing, and vCache takes it from a table by the number of observations (6 to 48, the
     last for more) that it made by simulation. The table is noisy (.035 at 6, .019 at 10, .005 to .019 from 11 on);
     here is a smooth curve through it, which is a little smaller at the end: it errs in vCache's favour.
   - For 50 confidences 1 - e (e evenly from 1e-6 to 1 - 1e-6): t' = t + (normal quantile of 1 - e) * sd, clipped to
     0 .. 1; a = (1 - e) / (1 + exp(-gamma (s - t'))) is at most the probability of being right;
     tau = 1 - delta / (1 - a). The smallest tau, rounded to 5 digits, is the probability of exploring. */

#define BASELINE_LEVELS 50
#define BASELINE_FIRST 6
#define BASELINE_MOST 65536 /* observations of an entry; more are dropped (no data set here comes near) */

typedef struct baseline_observation {
    double similarity;
    bool correct;
} baseline_observation;

typedef struct baseline_entry {
    baseline_observation *seen; /* without the first two */
    size_t count, room;
    double t, gamma, variance; /* of `fitted` observations */
    size_t fitted;
} baseline_entry;

typedef struct baseline_fit {
    double intercept, slope;
    double h[3]; /* Fisher information: intercept twice, both, slope twice */
} baseline_fit;

BASELINE_UNUSED static void baseline_entry_free(baseline_entry *e) {
    free(e->seen);
    memset(e, 0, sizeof *e);
}

static double baseline_round(double v, double steps) { return rint(v * steps) / steps; }

static baseline_observation baseline_at(const baseline_entry *e, size_t i) {
    baseline_observation first = {i ? 1. : 0., i != 0};
    return i < 2 ? first : e->seen[i - 2];
}

/* Gradient of the log likelihood per observation; h: its curvature, not divided. */
static double baseline_gradient(const baseline_entry *e, baseline_fit *fit, double g[2]) {
    double n = (double)(e->count + 2), loss = 0;
    g[0] = g[1] = fit->h[0] = fit->h[1] = fit->h[2] = 0;
    for (size_t i = 0; i < e->count + 2; i++) {
        baseline_observation o = baseline_at(e, i);
        double x = fit->intercept + fit->slope * o.similarity, p = 1 / (1 + exp(-x)), w = p * (1 - p);
        double d = (o.correct ? 1 - p : -p) / n, side = o.correct ? x : -x;
        g[0] += d;
        g[1] += d * o.similarity;
        fit->h[0] += w;
        fit->h[1] += w * o.similarity;
        fit->h[2] += w * o.similarity * o.similarity;
        loss += (side > 0 ? log1p(exp(-side)) : -side + log1p(exp(side))) / n;
    }
    return loss;
}

/* A step along d that lowers the loss enough and flattens it enough (weak Wolfe conditions: 1e-3 and .9, as in
   L-BFGS-B's line search), by doubling and halving. fit, g and loss move. */
static bool baseline_step(const baseline_entry *e, baseline_fit *fit, double g[2], double *loss,
                          const double d[2], double step) {
    double slope = -(g[0] * d[0] + g[1] * d[1]), low = 0, high = INFINITY, to;
    for (int i = 0; i < 60; i++) {
        baseline_fit next;
        double at[2];
        next.intercept = fit->intercept + step * d[0];
        next.slope = fit->slope + step * d[1];
        to = baseline_gradient(e, &next, at);
        if (!(to <= *loss + 1e-3 * step * slope)) {
            high = step;
        } else if (-(at[0] * d[0] + at[1] * d[1]) < .9 * slope) {
            low = step;
        } else {
            *fit = next;
            *loss = to;
            g[0] = at[0];
            g[1] = at[1];
            return true;
        }
        step = high < INFINITY ? (low + high) / 2 : 4 * low;
    }
    return false;
}

#define BASELINE_PAIRS 10 /* steps that the curvature is learned from, as L-BFGS-B's default */

typedef struct baseline_pairs {
    double s[BASELINE_PAIRS][2], y[BASELINE_PAIRS][2]; /* step, and how the gradient of the loss changed */
    size_t count;                                      /* of all; the last ones are kept */
} baseline_pairs;

static double baseline_dot(const double a[2], const double b[2]) { return a[0] * b[0] + a[1] * b[1]; }

/* d becomes the inverse Hessian times d (Nocedal's two loops). */
static void baseline_direct(const baseline_pairs *pairs, double d[2]) {
    double shares[BASELINE_PAIRS];
    size_t from = pairs->count > BASELINE_PAIRS ? pairs->count - BASELINE_PAIRS : 0;
    for (size_t i = pairs->count; i-- > from;) {
        const double *s = pairs->s[i % BASELINE_PAIRS], *y = pairs->y[i % BASELINE_PAIRS];
        double share = shares[i % BASELINE_PAIRS] = baseline_dot(s, d) / baseline_dot(s, y);
        d[0] -= share * y[0];
        d[1] -= share * y[1];
    }
    if (pairs->count) {
        size_t last = (pairs->count - 1) % BASELINE_PAIRS;
        double scale =
            baseline_dot(pairs->s[last], pairs->y[last]) / baseline_dot(pairs->y[last], pairs->y[last]);
        d[0] *= scale;
        d[1] *= scale;
    }
    for (size_t i = from; i < pairs->count; i++) {
        const double *s = pairs->s[i % BASELINE_PAIRS], *y = pairs->y[i % BASELINE_PAIRS];
        double share = shares[i % BASELINE_PAIRS] - baseline_dot(y, d) / baseline_dot(s, y);
        d[0] += share * s[0];
        d[1] += share * s[1];
    }
}

/* vCache's solver is L-BFGS (scikit-learn) until no part of the gradient exceeds 1e-8. On data that can be separated
   the slope would grow for ever, so where it ends is what the method makes of it: hence L-BFGS here too. */
static baseline_fit baseline_fit_of(const baseline_entry *e) {
    baseline_fit fit;
    baseline_pairs pairs;
    double g[2];
    memset(&fit, 0, sizeof fit);
    memset(&pairs, 0, sizeof pairs);
    double loss = baseline_gradient(e, &fit, g);
    for (int round = 0; round < 1000 && (fabs(g[0]) > 1e-8 || fabs(g[1]) > 1e-8); round++) {
        double was[2] = {g[0], g[1]}, from[2] = {fit.intercept, fit.slope}, d[2] = {g[0], g[1]};
        baseline_direct(&pairs, d);
        if (!baseline_step(e, &fit, g, &loss, d, round ? 1 : 1 / hypot(d[0], d[1]))) break;
        double *s = pairs.s[pairs.count % BASELINE_PAIRS], *y = pairs.y[pairs.count % BASELINE_PAIRS];
        s[0] = fit.intercept - from[0];
        s[1] = fit.slope - from[1];
        y[0] = was[0] - g[0];
        y[1] = was[1] - g[1];
        if (baseline_dot(s, y) > 0) pairs.count++;
    }
    return fit;
}

static bool baseline_is_separated(const baseline_entry *e) {
    double least_right = 1, most_wrong = 0;
    for (size_t i = 0; i < e->count; i++) {
        double s = e->seen[i].similarity;
        if (e->seen[i].correct && s < least_right) least_right = s;
        if (!e->seen[i].correct && s > most_wrong) most_wrong = s;
    }
    return least_right > most_wrong;
}

static double baseline_variance(const baseline_entry *e, const baseline_fit *fit, double gamma) {
    if (baseline_is_separated(e)) {
        double v = .0355 * pow(6. / (double)(e->count + 2), 1.4);
        return v > .0107 ? v : .0107;
    }
    double det = fit->h[0] * fit->h[2] - fit->h[1] * fit->h[1];
    double a = -1 / gamma, b = fit->intercept / (gamma * gamma);
    double v = (a * a * fit->h[2] - 2 * a * b * fit->h[1] + b * b * fit->h[0]) / det;
    return v > 0 ? v : 0;
}

static void baseline_learn(baseline_entry *e) {
    baseline_fit fit = baseline_fit_of(e);
    double gamma = fit.slope > 1e-6 ? fit.slope : 1e-6, t = -fit.intercept / gamma;
    e->variance = baseline_variance(e, &fit, gamma);
    e->t = baseline_round(t < 0 ? 0 : t > 1 ? 1 : t, 1e3);
    e->gamma = baseline_round(gamma, 1e3);
    e->fitted = e->count;
}

/* The normal distribution's quantile, by halving. */
static double baseline_quantile(double q) {
    double low = -8, high = 8;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (erfc(-middle / sqrt(2.)) / 2 < q)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

/* The probability of exploring. One thread, or call it once before there are others. */
BASELINE_UNUSED static double baseline_vcache_tau(baseline_entry *e, double similarity, double delta) {
    static double quantiles[BASELINE_LEVELS];
    double least = 1, s = baseline_round(similarity, 1e3);
    if (e->count + 2 < BASELINE_FIRST) return 1;
    if (e->fitted != e->count) baseline_learn(e);
    double sd = sqrt(e->variance);
    for (int i = 0; i < BASELINE_LEVELS; i++) {
        double doubt = 1e-6 + (1 - 2e-6) * i / (BASELINE_LEVELS - 1);
        if (quantiles[i] == 0) quantiles[i] = baseline_quantile(1 - doubt);
        double t = e->t + quantiles[i] * sd;
        t = t < 0 ? 0 : t > 1 ? 1 : t;
        double tau = 1 - delta / (1 - (1 - doubt) / (1 + exp(-e->gamma * (s - t))));
        if (tau < least) least = tau;
    }
    return baseline_round(least, 1e5);
}

/* True: serve it. coin: uniform in 0 .. 1. */
BASELINE_UNUSED static bool baseline_vcache_decide(baseline_entry *e, double similarity, double delta,
                                                   double coin) {
    return coin > baseline_vcache_tau(e, similarity, delta);
}

/* An explored request was answered: did the entry's answer say the same? False: out of memory. */
BASELINE_UNUSED static bool baseline_vcache_observe(baseline_entry *e, double similarity, bool correct) {
    if (e->count >= BASELINE_MOST) return true;
    if (e->count == e->room) {
        size_t room = e->room ? 2 * e->room : 8;
        baseline_observation *seen = (baseline_observation *)realloc(e->seen, room * sizeof *seen);
        if (!seen) return false;
        e->seen = seen;
        e->room = room;
    }
    e->seen[e->count].similarity = baseline_round(similarity, 1e3);
    e->seen[e->count++].correct = correct;
    return true;
}

#endif
