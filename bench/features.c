/* features.c - how well the features of questions tell like from unlike, by brute force.

   gptcache   the benchmark of GPTCache (MIT, its mock_data.json): all "origin" are stored, each "similar" is
              asked; right if the nearest stored one is its own. How many are right when the threshold lets
              at most 24 and 49 of them be wrong.
   banking77  (CC BY 4.0) asked one after the other, from empty; CALIBRATION.md's score of the 8 nearest. Share of
              requests served when the best threshold in hindsight has 1, 2, 5 % wrong.

   build/bench/features [DIR [SEED]]      DIR: where gptcache/ and banking77/ are; else $LLMGW_DATA, or
                                          ../shared/data; what is not there is skipped. QUICK=1: gptcache only */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include "bench.h"

#include <jansson.h>
#include <stdio.h>

#define MOST 16384
#define BUCKETS 1048576 /* of hashes of words and grams */

typedef struct features_doc {
    char *text;
    int label;
    llmgwi_text_features f;
    double word_norm;
} features_doc;

typedef struct features_list {
    uint32_t *ids;
    size_t n, cap;
} features_list;

static features_doc *docs;
static size_t doc_count;
static features_list *words, *grams;
static double *document_frequency, total;
static float *dot, *shared; /* of the query with each document, set by score_all() */
static double word_share = 0.65;

static uint32_t bucket(uint32_t hash) { return hash % BUCKETS; }

static void list_add(features_list *list, uint32_t id) {
    if (list->n == list->cap) {
        list->cap = list->cap ? 2 * list->cap : 8;
        list->ids = (uint32_t *)realloc(list->ids, list->cap * sizeof *list->ids);
    }
    list->ids[list->n++] = id;
}

static double weight(const llmgwi_text_features *f, size_t i) {
    return (double)llmgwi_text_rarity(f->rarity[i], document_frequency[bucket(f->words[i])], total);
}

static double norm(const llmgwi_text_features *f) {
    double sum = 0;
    for (size_t i = 0; i < f->word_count; i++) sum += weight(f, i) * weight(f, i);
    return sqrt(sum);
}

static void store(uint32_t id) {
    const llmgwi_text_features *f = &docs[id].f;
    for (size_t i = 0; i < f->word_count; i++) list_add(&words[bucket(f->words[i])], id);
    for (size_t i = 0; i < f->gram_count; i++) list_add(&grams[bucket(f->grams[i])], id);
    docs[id].word_norm = norm(f);
}

static void learn(const llmgwi_text_features *f) {
    for (size_t i = 0; i < f->word_count; i++) document_frequency[bucket(f->words[i])]++;
    total++;
}

static void score_all(const llmgwi_text_features *f, size_t count) {
    memset(dot, 0, count * sizeof *dot);
    memset(shared, 0, count * sizeof *shared);
    for (size_t i = 0; i < f->word_count; i++) {
        const features_list *list = &words[bucket(f->words[i])];
        float w = (float)(weight(f, i) * weight(f, i));
        for (size_t k = 0; k < list->n; k++) dot[list->ids[k]] += w;
    }
    for (size_t i = 0; i < f->gram_count; i++) {
        const features_list *list = &grams[bucket(f->grams[i])];
        for (size_t k = 0; k < list->n; k++) shared[list->ids[k]]++;
    }
}

static double similarity(const llmgwi_text_features *f, double f_norm, size_t id) {
    const features_doc *doc = &docs[id];
    double w = f_norm > 0 && doc->word_norm > 0 ? (double)dot[id] / (f_norm * doc->word_norm) : 0;
    double g = f->gram_count && doc->f.gram_count
                   ? (double)shared[id] / sqrt((double)f->gram_count * (double)doc->f.gram_count)
                   : 0;
    return word_share * w + (1 - word_share) * g;
}

typedef struct features_try {
    double z;
    bool wrong;
} features_try;

static int by_score(const void *a, const void *b) {
    double x = ((const features_try *)a)->z, y = ((const features_try *)b)->z;
    return (x < y) - (x > y);
}

/* Right ones served when at most `most` are wrong. */
static size_t served(features_try *tries, size_t n, size_t most, bool count_wrong) {
    size_t best = 0, wrong = 0;
    qsort(tries, n, sizeof *tries, by_score);
    for (size_t i = 0; i < n; i++) {
        wrong += tries[i].wrong;
        if (wrong > most) break;
        if (i + 1 == n || tries[i + 1].z < tries[i].z) best = i + 1 - (count_wrong ? 0 : wrong);
    }
    return best;
}

static void reset(void) {
    for (size_t i = 0; i < BUCKETS; i++) words[i].n = grams[i].n = 0;
    memset(document_frequency, 0, BUCKETS * sizeof *document_frequency);
    total = 0;
}

static void read_csv(const char *path) {
    static char line[8192];
    static char labels[256][64];
    static int label_count;
    FILE *file = fopen(path, "r");
    if (!file || !fgets(line, sizeof line, file)) {
        fprintf(stderr, "features: %s: %s: SKIPPED\n", path, strerror(errno));
        if (file) fclose(file);
        return;
    }
    size_t used = 0;
    int c;
    bool quoted = false;
    while ((c = fgetc(file)) != EOF && doc_count < MOST) {
        if (c == '"') quoted = !quoted;
        if (c != '\n' || quoted) {
            if (c != '"' && c != '\r' && used + 1 < sizeof line) line[used++] = (char)c;
            continue;
        }
        line[used] = 0, used = 0;
        char *comma = strrchr(line, ',');
        if (!comma) continue;
        int label = 0;
        while (label < label_count && strcmp(labels[label], comma + 1) != 0) label++;
        if (label == label_count) snprintf(labels[label_count++], 64, "%s", comma + 1);
        *comma = 0;
        docs[doc_count].text = strdup(line);
        docs[doc_count++].label = label;
    }
    fclose(file);
}

/* CALIBRATION.md, 2. */
static double vote(const double *s, const size_t *at, size_t n) {
    double best_other = s[n - 1] - .02, same_sum = 0, all = 0, same = 0;
    for (size_t j = 0; j < n; j++) {
        double e = exp((s[j] - s[0]) / .08);
        bool is = docs[at[j]].label == docs[at[0]].label;
        all += e;
        if (is) same_sum += e, same++;
    }
    for (size_t j = 0; j < n; j++)
        if (docs[at[j]].label != docs[at[0]].label) {
            best_other = s[j];
            break;
        }
    return -4.93 + 2.20 * s[0] + 1.02 * (s[0] - best_other) + 2.57 * same_sum / all + 5.49 * same / 8;
}

static double ask(const llmgwi_text_features *f, size_t count, size_t *nearest) {
    double s[8], length = norm(f);
    size_t at[8], n = 0;
    score_all(f, count);
    for (size_t k = 0; k < count; k++) {
        double now = similarity(f, length, k);
        if (n == 8 && now <= s[7]) continue;
        size_t j = n < 8 ? n++ : 7;
        for (; j > 0 && s[j - 1] < now; j--) s[j] = s[j - 1], at[j] = at[j - 1];
        s[j] = now, at[j] = k;
    }
    *nearest = n ? at[0] : SIZE_MAX;
    return n ? vote(s, at, n) : -99;
}

static void gptcache(const char *dir) {
    static features_try tries[MOST], scored[MOST];
    static llmgwi_text_features f;
    char path[1024];
    json_error_t error;
    snprintf(path, sizeof path, "%s/gptcache/mock_data.json", dir);
    json_t *all = json_load_file(path, 0, &error);
    if (!all) {
        fprintf(stderr, "features: %s: %s: SKIPPED\n", path, error.text);
        return;
    }
    size_t n = json_array_size(all), right = 0;
    reset();
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_object_get(json_array_get(all, i), "origin"));
        llmgwi_text_features_of(llmgwi_base_cstr(text), NULL, &docs[i].f);
        docs[i].label = (int)i;
        if (getenv("LEARN")) learn(&docs[i].f);
    }
    for (size_t i = 0; i < n; i++) store((uint32_t)i);
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_object_get(json_array_get(all, i), "similar"));
        llmgwi_text_features_of(llmgwi_base_cstr(text), NULL, &f);
        double length = norm(&f), best = -1;
        size_t at = 0;
        double z = ask(&f, n, &at);
        best = similarity(&f, length, at);
        tries[i].z = best, tries[i].wrong = at != i;
        scored[i].z = z, scored[i].wrong = at != i;
        right += at == i;
        if (getenv("SHOW") && at != i)
            printf("%.2f %zu\n  Q %s\n  N %s\n  O %s\n", best, i, text,
                   json_string_value(json_object_get(json_array_get(all, at), "origin")),
                   json_string_value(json_object_get(json_array_get(all, i), "origin")));
    }
    static const size_t wrong[] = {24, 49};
    bench_row("features: gptcache, nearest is right", 100 * (double)right / (double)n, "%", "", NULL,
              "%zu of %zu asked", right, n);
    for (int k = 0; k < 2; k++) {
        char name[80];
        snprintf(name, sizeof name, "features: gptcache, right with at most %zu wrong", wrong[k]);
        bench_row(name, (double)served(tries, n, wrong[k], false), "", "", NULL, "by score: %zu",
                  served(scored, n, wrong[k], false));
    }
    json_decref(all);
}

static void banking(const char *dir, unsigned seed) {
    static features_try tries[MOST];
    char path[1024];
    if (!doc_count) {
        snprintf(path, sizeof path, "%s/banking77/train.csv", dir);
        read_csv(path);
        snprintf(path, sizeof path, "%s/banking77/test.csv", dir);
        read_csv(path);
    }
    if (!doc_count) return;
    reset();
    size_t right = 0;
    srand(seed);
    for (size_t i = doc_count - 1; i > 0; i--) {
        size_t j = (size_t)rand() % (i + 1);
        features_doc t = docs[i];
        docs[i] = docs[j], docs[j] = t;
    }
    for (size_t i = 0; i < doc_count; i++) {
        size_t nearest;
        llmgwi_text_features_of(llmgwi_base_cstr(docs[i].text), NULL, &docs[i].f);
        if (i % 500 == 0)
            for (size_t k = 0; k < i; k++) docs[k].word_norm = norm(&docs[k].f);
        tries[i].z = ask(&docs[i].f, i, &nearest);
        tries[i].wrong = nearest == SIZE_MAX || docs[nearest].label != docs[i].label;
        right += !tries[i].wrong;
        store((uint32_t)i);
        learn(&docs[i].f);
    }
    double n = (double)doc_count;
    bench_row("features: banking77, nearest is right", 100 * (double)right / n, "%", "", NULL, "%zu asked",
              doc_count);
    static const int percent[] = {1, 2, 5};
    for (int k = 0; k < 3; k++) {
        char name[80];
        snprintf(name, sizeof name, "features: banking77, served with %d %% wrong", percent[k]);
        bench_row(name,
                  100 * (double)served(tries, doc_count, doc_count * (size_t)percent[k] / 100, true) / n, "%",
                  "", NULL, "the best threshold in hindsight");
    }
}

int main(int argc, char **argv) {
    const char *data = getenv("LLMGW_DATA"), *dir = argc > 1 ? argv[1] : data ? data : "../shared/data";
    docs = (features_doc *)calloc(MOST, sizeof *docs);
    words = (features_list *)calloc(BUCKETS, sizeof *words);
    grams = (features_list *)calloc(BUCKETS, sizeof *grams);
    document_frequency = (double *)calloc(BUCKETS, sizeof *document_frequency);
    dot = (float *)calloc(MOST, sizeof *dot);
    shared = (float *)calloc(MOST, sizeof *shared);
    if (getenv("SHARE")) word_share = atof(getenv("SHARE"));
    gptcache(dir);
    if (!bench_quick()) banking(dir, argc > 2 ? (unsigned)atoi(argv[2]) : 1);
    return 0;
}
