/* The index of questions: kernels, nearest entries against a second implementation, blocks, removal, learned
   rarities, vectors, damaged records. */
#include "unit.h"

#include <ftw.h>
#include <pthread.h>
#include <sys/stat.h>

static llmgwi_store *store;
static char path[64];
static llmgwi_index_query query; /* 11 KB */

static int drop_file(const char *name, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(name);
}

static int set_up(void **state) {
    llmgw_store desc;
    llmgw_error error;
    snprintf(path, sizeof path, "/tmp/llmgw-index-XXXXXX");
    if (!mkdtemp(path)) return -1;
    memset(&desc, 0, sizeof desc);
    desc.path = path;
    desc.max_bytes = (int64_t)256 << 20;
    desc.no_sync = true;
    store = llmgwi_store_open(&unit_mem, &desc, &error);
    return store ? 0 : -1;
}

static int tear_down(void **state) {
    llmgwi_store_close(store, false);
    return nftw(path, drop_file, 8, FTW_DEPTH | FTW_PHYS);
}

static llmgwi_store_txn begin(void) {
    llmgwi_store_txn txn;
    assert_true(llmgwi_store_write(store, &txn, true));
    return txn;
}

static const unsigned char scope_a[16] = {1, 2, 3}, scope_b[16] = {1, 2, 4};

/* ---- questions: a template and words, different for each number ---- */

static uint64_t seed = 7;

static size_t draw(size_t below) { return (size_t)(llmgwi_base_mix(seed += LLMGWI_BASE_STEP) % below); }

static const char *question(size_t number) {
    static const char *const verbs[] = {"repair", "paint",  "sell", "clean",
                                        "insure", "borrow", "move", "weigh"};
    static const char *const things[] = {"bicycle", "piano",   "greenhouse", "telescope", "canoe",
                                         "violin",  "tractor", "aquarium",   "sofa",      "lantern"};
    static const char *const places[] = {"Lisbon",     "the attic",  "winter",  "a small flat",
                                         "Norway",     "the garden", "a storm", "Chile",
                                         "the desert", "my office",  "school"};
    static char text[200];
    snprintf(text, sizeof text, "How do I %s a %s in %s, case %zu%s", verbs[number % 8],
             things[number / 8 % 10], places[number / 80 % 11], number, number % 3 ? "?" : " please");
    return text;
}

static void add(llmgwi_index *index, llmgwi_store_txn *txn, const unsigned char *scope, uint64_t id,
                const char *text) {
    llmgwi_index_hit about;
    memset(&about, 0, sizeof about);
    about.answer_class = id * 10;
    about.created_s = (uint32_t)id;
    memset(about.key, (int)(id & 255), sizeof about.key);
    llmgwi_index_ask(index, txn, llmgwi_base_cstr(text), NULL, 0, &query);
    assert_true(llmgwi_index_add(index, txn, scope, id, &query, &about));
}

static size_t near(llmgwi_index *index, llmgwi_store_txn *txn, const unsigned char *scope, const char *text,
                   llmgwi_index_hit *hits, size_t count) {
    llmgwi_index_ask(index, txn, llmgwi_base_cstr(text), NULL, 0, &query);
    return llmgwi_index_near(index, txn, scope, &query, hits, count);
}

/* ---- kernels ---- */

static void test_scan_kernels(void **state) {
    enum { N = 500 };
    static char records[N * LLMGWI_BASE_RECORD + 8];
    static uint32_t plain[N], best[N];
    for (int round = 0; round < 50; round++) {
        char *r = records + round % 8; /* not aligned */
        uint64_t sig[4];
        for (size_t i = 0; i < N * LLMGWI_BASE_RECORD; i++) r[i] = (char)draw(256);
        for (int i = 0; i < 4; i++) sig[i] = llmgwi_base_mix(seed++);
        memcpy(r + 8, sig, 32); /* the first equals it, the second is its opposite */
        for (int i = 0; i < 32; i++) r[48 + i] = (char)~r[8 + i];
        unsigned limit = round == 0 ? 256 : (unsigned)draw(257);
        size_t count = llmgwi_base_scan_plain(r, N, sig, limit, plain, r), expected = 0;
        for (uint32_t i = 0; i < N; i++) {
            unsigned bits = 0;
            for (int b = 0; b < 256; b++)
                bits += (((unsigned char)r[i * 40 + 8 + (size_t)b / 8] ^ ((unsigned char *)sig)[b / 8]) >>
                         b % 8) &
                        1u;
            if (i < 2) assert_int_equal(bits, i * 256);
            if (bits > limit) continue;
            assert_true(expected < count);
            assert_int_equal(plain[expected++], i << 16 | bits);
        }
        assert_int_equal(count, expected);
        assert_int_equal(llmgwi_base_scan_best()(r, N, sig, limit, best, r), count);
        assert_memory_equal(plain, best, count * sizeof *plain);
    }
}

static void test_dot_kernel(void **state) {
    static signed char a[LLMGWI_INDEX_DIM], b[LLMGWI_INDEX_DIM];
    for (size_t n = 0; n <= LLMGWI_INDEX_DIM; n = n < 70 ? n + 1 : n * 2 - 5) {
        int32_t expected = 0;
        for (size_t i = 0; i < n; i++) {
            a[i] = (signed char)(draw(255) - 127);
            b[i] = (signed char)(draw(255) - 127);
            expected += a[i] * b[i];
        }
        assert_int_equal(llmgwi_base_dot8(a, b, n), expected);
    }
    memset(a, -128, sizeof a);
    assert_int_equal(llmgwi_base_dot8(a, a, sizeof a), 128 * 128 * 4096);
}

/* Sums in planes against plain sums: every weight, every place. */
static void test_signs(void **state) {
    llmgwi_index_sums sums;
    int plain[256], total = 0;
    unsigned char signature[32];
    memset(&sums, 0, sizeof sums);
    memset(plain, 0, sizeof plain);
    for (uint32_t f = 0; f < 300; f++) {
        llmgwi_index_sums one;
        int weight = (int)draw(200) - 60;
        if (!weight) continue;
        memset(&one, 0, sizeof one);
        llmgwi_index_feature(&one, 5, f, weight < 0 ? -1 : 1);
        for (int i = 0; i < 256; i++)
            if (one.planes[0][i / 64] >> i % 64 & 1) plain[i] += abs(weight);
        llmgwi_index_feature(&sums, 5, f, weight);
        total += abs(weight);
    }
    assert_int_equal(sums.total, total);
    llmgwi_index_signs(&sums, signature);
    for (int i = 0; i < 256; i++) {
        uint64_t words[4];
        memcpy(words, signature, sizeof words);
        assert_int_equal(words[i / 64] >> i % 64 & 1, plain[i] > total / 2);
    }
}

/* ---- similarity: a second implementation, from the features of both texts ---- */

static double alike(llmgwi_index *index, const char *one, const char *two) {
    static llmgwi_text_features a, b;
    double dot = 0, na = 0, nb = 0;
    size_t grams = 0;
    llmgwi_text_features_of(llmgwi_base_cstr(one), NULL, &a);
    llmgwi_text_features_of(llmgwi_base_cstr(two), NULL, &b);
    for (size_t i = 0; i < a.word_count; i++) {
        double w = (double)llmgwi_index_weight(index, a.words[i], a.rarity[i]);
        na += w * w;
        for (size_t j = 0; j < b.word_count; j++)
            if (a.words[i] == b.words[j]) dot += w * w;
    }
    for (size_t j = 0; j < b.word_count; j++) {
        double w = (double)llmgwi_index_weight(index, b.words[j], b.rarity[j]);
        nb += w * w;
    }
    for (size_t i = 0; i < a.gram_count; i++)
        for (size_t j = 0; j < b.gram_count; j++) grams += a.grams[i] == b.grams[j];
    double gram =
        a.gram_count && b.gram_count ? (double)grams / sqrt((double)a.gram_count * (double)b.gram_count) : 0;
    double word = na > 0 && nb > 0 ? dot / sqrt(na * nb) : 0;
    return a.word_count || b.word_count ? .65 * word + .35 * gram : gram;
}

static void test_nearest_equal_a_full_search(void **state) {
    enum { N = 1200 }; /* two blocks and a tail */
    llmgwi_index *index = llmgwi_index_open(&unit_mem, store);
    llmgwi_store_txn txn = begin();
    static double all[N];
    int whole = 0;
    for (size_t i = 0; i < N; i++) {
        add(index, &txn, scope_a, i + 1, question(i * 7));
        llmgwi_index_learn(index, &query);
    }
    for (size_t i = 0; i < 20; i++) {
        char text[200];
        llmgwi_index_hit hits[8];
        snprintf(text, sizeof text, "Please tell me: %s", question(draw(N) * 7));
        size_t better = 0;
        assert_int_equal(near(index, &txn, scope_a, text, hits, 8), 8);
        for (size_t j = 0; j < N; j++) all[j] = alike(index, text, question(j * 7));
        for (size_t j = 0; j < 8; j++) {
            assert_true(fabs(hits[j].similarity - all[hits[j].id - 1]) < 1e-5);
            assert_int_equal(hits[j].answer_class, hits[j].id * 10);
            assert_int_equal(hits[j].key[15], hits[j].id & 255);
            if (j == 0) continue;
            assert_true(hits[j].similarity < hits[j - 1].similarity ||
                        (hits[j].similarity == hits[j - 1].similarity && hits[j].id < hits[j - 1].id));
        }
        for (size_t j = 0; j < N; j++) better += all[j] > hits[7].similarity + 1e-5;
        whole += better <= 7;
    }
    assert_in_range(whole, 18, 20);
    llmgwi_store_end(&txn, false);
    llmgwi_index_close(index);
}

/* What is spared comparing would not have been among the hits: with and without vectors, by one who reads and by
   one who writes. */
static void spare_none(llmgwi_index *index, llmgwi_store_txn *txn, size_t size) {
    llmgwi_index_hit hits[LLMGWI_INDEX_HITS], want[LLMGWI_INDEX_HITS], hit;
    static llmgwi_index_scratch s;
    llmgwi_index_scratch_ready(&s, &query);
    llmgwi_index_scan(index, txn, scope_a, &query, true, &s);
    size_t picks = llmgwi_index_order(&s), wanted = 0,
           count = llmgwi_index_near(index, txn, scope_a, &query, hits, size);
    for (size_t i = 0; i < picks; i++) {
        hit.id = s.order[i];
        if (llmgwi_index_compare(index, txn, scope_a, &query, &s, llmgwi_base_view(NULL, 0), &hit))
            wanted = llmgwi_index_insert(want, wanted, size, &hit);
    }
    assert_int_equal(count, wanted);
    assert_int_equal(count, size);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(hits[i].id, want[i].id);
        assert_memory_equal(&hits[i].similarity, &want[i].similarity, sizeof hit.similarity);
    }
}

static void test_spared(void **state) {
    enum { N = 1500, DIM = 40 };
    llmgwi_index *index = llmgwi_index_open(&unit_mem, store);
    llmgwi_store_txn txn = begin();
    llmgwi_index_hit about;
    float v[DIM];
    memset(&about, 0, sizeof about);
    for (size_t i = 0; i <= 256; i++) index->likest[i] = 2; /* all picks have their turn */
    for (size_t i = 0; i < N + 120; i++) {
        static const size_t sizes[] = {1, 8, 32};
        for (size_t k = 0; k < DIM; k++) v[k] = (float)draw(200) - 50;
        if (i >= N && i % 4 == 0) {
            assert_true(llmgwi_store_end(&txn, true));
            if (i % 8) txn = begin();
            if (i % 8 == 0) assert_true(llmgwi_store_read(store, &txn));
        }
        llmgwi_index_ask(index, &txn, llmgwi_base_cstr(question(i < N ? i : draw(2 * N))), v,
                         draw(3) ? DIM : 0, &query);
        if (i < N) assert_true(llmgwi_index_add(index, &txn, scope_a, i + 1, &query, &about));
        if (i >= N) spare_none(index, &txn, sizes[i % 3]);
    }
    llmgwi_store_end(&txn, false);
    llmgwi_index_close(index);
}

/* Signatures of known distance, so that only the scan is at work: what is far from the query in the newest
   blocks says nothing of the others. */
static void test_a_wrong_guess(void **state) {
    enum { N = 20 * 409 };
    llmgwi_index *index = llmgwi_index_open(&unit_mem, store);
    llmgwi_store_txn txn = begin();
    llmgwi_index_hit about;
    static llmgwi_index_scratch s;
    memset(&about, 0, sizeof about);
    for (int newest_close = 0; newest_close < 2; newest_close++) {
        const unsigned char *scope = newest_close ? scope_a : scope_b;
        size_t expected = 0, within[257] = {0};
        llmgwi_index_ask(index, &txn, llmgwi_base_cstr("one two"), NULL, 0, &query);
        for (uint64_t id = 1; id <= N; id++) {
            bool is_new = id > N - 500;
            unsigned bits = (unsigned)((is_new == (newest_close != 0) ? 10 : 150) + draw(20));
            memset(query.signature, 0, 32);
            for (unsigned i = 0; i < bits; i++) query.signature[i / 8] |= (unsigned char)(1 << i % 8);
            assert_true(llmgwi_index_signature_add(&txn, scope, id, query.signature));
            within[bits]++;
        }
        memset(query.signature, 0, 32);
        llmgwi_index_scan(index, &txn, scope, &query, true, &s);
        size_t picks = llmgwi_index_order(&s);
        assert_int_equal(s.seen, N);
        assert_in_range(picks, 512, 1024);
        for (size_t bits = 0; bits <= 256; bits++) { /* the nearest of all */
            size_t want = within[bits] < picks - expected ? within[bits] : picks - expected;
            assert_int_equal(s.counts[bits], want);
            expected += want;
        }
        for (size_t i = 1; i < picks; i++) assert_int_not_equal(s.order[i], s.order[i - 1]);
    }
    llmgwi_store_end(&txn, false);
    llmgwi_index_close(index);
}

static void test_edges_of_near(void **state) {
    llmgwi_index *index = llmgwi_index_open(&unit_mem, store);
    llmgwi_store_txn txn = begin();
    llmgwi_index_hit hits[40];
    assert_int_equal(near(index, &txn, scope_a, question(1), hits, 8), 0); /* an empty scope */
    for (uint64_t id = 1; id <= 50; id++) add(index, &txn, scope_a, id, "Where is the nearest harbour?");
    assert_int_equal(near(index, &txn, scope_a, "Where is the nearest harbour?", hits, 40), 32);
    for (size_t i = 0; i < 32; i++) { /* equal: the newest first */
        assert_int_equal(hits[i].id, 50 - i);
        assert_true(fabs(hits[i].similarity - 1) < 1e-6);
    }
    assert_int_equal(near(index, &txn, scope_a, "", hits, 8), 0);
    assert_int_equal(near(index, &txn, scope_a, "?!", hits, 8), 0);
    assert_int_equal(near(index, &txn, scope_a, "harbour", hits, 0), 0);
    assert_int_equal(near(index, &txn, scope_a, "harbour", hits, 1), 1);
    assert_int_equal(near(index, &txn, scope_a, "zygote", hits, 1), 1); /* unlike, but the nearest */
    assert_true(hits[0].similarity < .1);
    char *huge = (char *)malloc(200001);
    for (size_t i = 0; i < 200000; i++) huge[i] = i % 7 ? (char)('a' + draw(26)) : ' ';
    huge[200000] = 0;
    add(index, &txn, scope_a, 60, huge);
    assert_int_equal(near(index, &txn, scope_a, huge, hits, 8), 8);
    assert_int_equal(hits[0].id, 60);
    assert_true(hits[0].similarity > .999);
    free(huge);
    llmgwi_index_hit about;
    memset(&about, 0, sizeof about);
    assert_false(llmgwi_index_add(index, &txn, scope_a, 0, &query, &about));
    assert_false(llmgwi_index_add(index, &txn, scope_a, LLMGWI_INDEX_IDS, &query, &about));
    llmgwi_store_end(&txn, false);
    llmgwi_index_close(index);
}

/* Law 7: also when a signature stands in a scope where it does not belong. */
static void test_scopes_stay_apart(void **state) {
    llmgwi_index *index = llmgwi_index_open(&unit_mem, store);
    llmgwi_store_txn txn = begin();
    llmgwi_index_hit hits[8];
    add(index, &txn, scope_a, 1, question(1));
    add(index, &txn, scope_b, 2, question(1));
    assert_int_equal(near(index, &txn, scope_a, question(1), hits, 8), 1);
    assert_int_equal(hits[0].id, 1);
    assert_true(llmgwi_index_signature_add(&txn, scope_a, 2, query.signature));
    assert_int_equal(near(index, &txn, scope_a, question(1), hits, 8), 1);
    assert_int_equal(near(index, &txn, scope_b, question(1), hits, 8), 1);
    assert_int_equal(hits[0].id, 2);
    llmgwi_store_end(&txn, false);
    llmgwi_index_close(index);
}

static void test_expired_and_classes(void **state) {
    llmgwi_index *index = llmgwi_index_open(&unit_mem, store);
    llmgwi_store_txn txn = begin();
    llmgwi_index_hit about, hits[8];
    memset(&about, 0, sizeof about);
    llmgwi_index_ask(index, &txn, llmgwi_base_cstr("how far is the moon"), NULL, 0, &query);
    about.answer_class = 5;
    about.expire_s = 1000;
    assert_true(llmgwi_index_add(index, &txn, scope_a, 1, &query, &about));
    about.expire_s = 0;
    assert_true(llmgwi_index_add(index, &txn, scope_a, 2, &query, &about));
    query.now_s = 999;
    assert_int_equal(llmgwi_index_near(index, &txn, scope_a, &query, hits, 8), 2);
    query.now_s = 1000;
    assert_int_equal(llmgwi_index_near(index, &txn, scope_a, &query, hits, 8), 1);
    assert_int_equal(hits[0].id, 2);
    assert_true(llmgwi_index_set_class(index, &txn, 2, 77));
    assert_false(llmgwi_index_set_class(index, &txn, 3, 77));
    assert_int_equal(llmgwi_index_near(index, &txn, scope_a, &query, hits, 8), 1);
    assert_int_equal(hits[0].answer_class, 77);
    assert_true(fabs(hits[0].similarity - 1) < 1e-6);
    assert_true(llmgwi_index_add(index, &txn, scope_b, 2, &query, &about)); /* replaced, and moved */
    assert_int_equal(llmgwi_index_near(index, &txn, scope_a, &query, hits, 8), 0);
    assert_int_equal(llmgwi_index_near(index, &txn, scope_b, &query, hits, 8), 1);
    llmgwi_store_end(&txn, false);
    llmgwi_index_close(index);
}

/* ---- tails and blocks ---- */

enum { IDS = 6000 };
static unsigned char where[IDS]; /* of an id: 0 nowhere, 1 scope a, 2 scope b */

static size_t check_page(llmgwi_base_str page, int scope, bool dead_allowed) {
    size_t live = 0;
    static const char zero[32];
    assert_int_equal(page.n % LLMGWI_BASE_RECORD, 0);
    for (size_t at = 0; at < page.n; at += LLMGWI_BASE_RECORD) {
        uint64_t id = llmgwi_index_get64(page.p + at);
        if (dead_allowed && (id & LLMGWI_INDEX_DEAD)) {
            assert_memory_equal(page.p + at + 8, zero, 32); /* nothing of it is left */
            continue;
        }
        assert_true(id < IDS);
        assert_int_equal(where[id], scope);
        where[id] |= 128; /* seen */
        live++;
    }
    return live;
}

/* What the tables hold is what they should. Returns how many blocks there are. */
static size_t check_tables(llmgwi_store_txn *txn) {
    static const unsigned char *const scopes[2] = {scope_a, scope_b};
    size_t blocks = 0;
    for (int scope = 0; scope < 2; scope++) {
        llmgwi_store_cursor cursor;
        llmgwi_base_str key = llmgwi_index_bytes(scopes[scope], 16), page;
        assert_true(llmgwi_store_cursor_open(txn, LLMGWI_STORE_TAIL, &cursor));
        for (bool first = true; llmgwi_store_dups(&cursor, key, first, &page); first = false)
            check_page(page, scope + 1, false);
        llmgwi_store_cursor_close(&cursor);
        assert_true(llmgwi_store_cursor_open(txn, LLMGWI_STORE_BLOCK, &cursor));
        bool more = llmgwi_index_block_seek(&cursor, scopes[scope], 0, &key, &page);
        for (; more; more = llmgwi_index_block_next(&cursor, scopes[scope], &key, &page), blocks++) {
            size_t live = check_page(page, scope + 1, true);
            assert_true(live > 0);
        }
        llmgwi_store_cursor_close(&cursor);
    }
    size_t asks = 0;
    for (uint64_t id = 0; id < IDS; id++) {
        llmgwi_base_str value;
        assert_true(where[id] == 0 || where[id] & 128);
        where[id] &= 127;
        asks += where[id] != 0;
        assert_int_equal(llmgwi_store_get(txn, LLMGWI_STORE_ASK, llmgwi_index_bytes(&id, sizeof id), &value),
                         where[id] != 0);
    }
    assert_int_equal(llmgwi_store_count(txn, LLMGWI_STORE_ASK), asks);
    return blocks;
}

static void put_in(llmgwi_index *index, llmgwi_store_txn *txn, uint64_t id, int scope) {
    llmgwi_index_hit about;
    memset(&about, 0, sizeof about);
    for (int i = 0; i < 32; i++) query.signature[i] = (unsigned char)draw(256);
    assert_true(llmgwi_index_add(index, txn, scope == 1 ? scope_a : scope_b, id, &query, &about));
    where[id] = (unsigned char)scope;
}

/* ordered false: ids come as two processes commit them. From which end they are removed: 0 the old, 1 the new,
   2 anywhere, 3 the middle of each block. */
static void fill_and_empty(bool ordered, int how) {
    llmgwi_index *index = llmgwi_index_open(&unit_mem, store);
    llmgwi_store_txn txn = begin();
    static uint64_t ids[IDS];
    size_t n = 0;
    memset(where, 0, sizeof where);
    llmgwi_index_ask(index, &txn, llmgwi_base_cstr("fox"), NULL, 0, &query);
    for (uint64_t id = 1; id <= 3000; id++) ids[n++] = id;
    if (!ordered)
        for (size_t i = 0; i + 900 < n; i += 300) { /* runs of 300, swapped */
            uint64_t keep = ids[i];
            ids[i] = ids[i + 900], ids[i + 900] = keep;
        }
    for (size_t i = 0; i < n; i++) put_in(index, &txn, ids[i], ids[i] % 5 ? 1 : 2);
    size_t full = check_tables(&txn);
    assert_int_equal(full, 2400 / 409 + 600 / 409);
    for (size_t i = 0; i < n; i++) {
        size_t left = n - i, at = how == 0 ? i : i + (how == 1 ? left - 1 : how == 2 ? draw(left) : left / 2);
        uint64_t id = ids[at];
        ids[at] = ids[i];
        ids[i] = id;
        assert_true(llmgwi_index_remove(index, &txn, id));
        where[id] = 0;
        if (i % 97 == 0) {
            size_t blocks = check_tables(&txn);
            assert_true(blocks <= 2 * (n - i) / LLMGWI_INDEX_BLOCK + 4);
        }
        if (i % 500 == 0) {
            assert_false(llmgwi_index_remove(index, &txn, id)); /* it is gone */
            put_in(index, &txn, 3000 + i + 1, 1);               /* stays, and life goes on */
        }
    }
    check_tables(&txn);
    for (size_t i = 0; i < n; i += 500) {
        assert_true(llmgwi_index_remove(index, &txn, 3000 + i + 1));
        where[3000 + i + 1] = 0;
    }
    check_tables(&txn);
    assert_int_equal(llmgwi_store_count(&txn, LLMGWI_STORE_TAIL), 0);
    assert_int_equal(llmgwi_store_count(&txn, LLMGWI_STORE_BLOCK), 0);
    assert_int_equal(txn.error, 0);
    llmgwi_store_end(&txn, false);
    llmgwi_index_close(index);
}

static void test_fill_and_empty(void **state) {
    for (int how = 0; how < 4; how++) fill_and_empty(true, how);
    for (int how = 0; how < 3; how++) fill_and_empty(false, how);
}

/* ---- learned rarities ---- */

static double weight_of(llmgwi_index *index, const char *word) {
    llmgwi_index_ask(index, NULL, llmgwi_base_cstr(word), NULL, 0, &query);
    assert_int_equal(query.features.word_count, 1);
    return (double)query.weights[0];
}

static void learn(llmgwi_index *index, const char *text, int times) {
    llmgwi_index_ask(index, NULL, llmgwi_base_cstr(text), NULL, 0, &query);
    while (times--) llmgwi_index_learn(index, &query);
}

static void save(llmgwi_index *index, size_t budget) {
    llmgwi_store_txn txn = begin();
    assert_true(llmgwi_index_save(index, &txn, budget));
    assert_true(llmgwi_store_end(&txn, true));
}

static void test_two_indexes_learn_together(void **state) {
    llmgwi_index *a = llmgwi_index_open(&unit_mem, store), *b = llmgwi_index_open(&unit_mem, store), *c;
    double before = weight_of(a, "tractor");
    learn(a, "tractor", 3000);
    learn(b, "tractor", 2000);
    learn(b, "canoe", 5000);
    double a_alone = weight_of(a, "tractor"), common = weight_of(b, "canoe");
    assert_true(a_alone < before / 2);
    assert_true(common < before / 2);
    save(a, 256);
    save(b, 256);
    save(a, 256); /* nothing new of its own, but it sees the other's */
    assert_int_equal(a->docs, 10000);
    assert_int_equal(b->docs, 10000);
    llmgwi_index_ask(a, NULL, llmgwi_base_cstr("tractor"), NULL, 0, &query);
    uint32_t word = query.features.words[0];
    assert_int_equal(a->counts[word & 0xFFFF], 5000);
    assert_int_equal(b->counts[word >> 16], 5000);
    assert_true(weight_of(a, "tractor") == weight_of(b, "tractor"));
    assert_true(weight_of(a, "canoe") == weight_of(b, "canoe"));
    c = llmgwi_index_open(&unit_mem, store); /* as a later process does */
    assert_int_equal(c->docs, 10000);
    assert_memory_equal(c->counts, a->counts, sizeof c->counts);
    learn(c, "tractor", 70000); /* more than can wait: the rest counts here only */
    save(c, 256);
    assert_int_equal(c->docs, 80000);
    llmgwi_index_ask(c, NULL, llmgwi_base_cstr("tractor"), NULL, 0, &query);
    assert_in_range(c->counts[word & 0xFFFF], 5000 + 65000, 5000 + 65535);
    llmgwi_index_close(a);
    llmgwi_index_close(b);
    llmgwi_index_close(c);
}

static void test_save_in_bites(void **state) {
    llmgwi_index *a = llmgwi_index_open(&unit_mem, store), *b;
    learn(a, "greenhouse aquarium lantern", 40);
    for (int i = 0; i < 9; i++) save(a, 25);
    b = llmgwi_index_open(&unit_mem, store);
    assert_int_equal(b->docs, 40);
    assert_memory_equal(a->counts, b->counts, 225 * LLMGWI_INDEX_PIECE * sizeof *a->counts);
    llmgwi_index_close(b);
    for (int i = 0; i < 2; i++) save(a, 25); /* 275 pieces in all: every one was its turn */
    b = llmgwi_index_open(&unit_mem, store);
    assert_memory_equal(a->counts, b->counts, sizeof a->counts);
    assert_int_equal(b->docs, 40);
    llmgwi_index_close(a);
    llmgwi_index_close(b);
}

/* ---- vectors ---- */

static void ask_vector(llmgwi_index *index, llmgwi_store_txn *txn, const char *text, const float *v,
                       size_t dim) {
    llmgwi_index_ask(index, txn, llmgwi_base_cstr(text), v, dim, &query);
}

static void test_embeddings(void **state) {
    enum { DIM = 96 };
    llmgwi_index *index = llmgwi_index_open(&unit_mem, store);
    llmgwi_store_txn txn = begin();
    llmgwi_index_hit about, hits[8];
    static float v[100][DIM];
    memset(&about, 0, sizeof about);
    for (size_t i = 0; i < 100; i++) {
        for (size_t k = 0; k < DIM; k++) v[i][k] = (float)draw(2001) / 1000 - 1;
        ask_vector(index, &txn, question(i), v[i], DIM);
        assert_int_equal(query.dim, DIM);
        assert_true(llmgwi_index_add(index, &txn, scope_a, i + 1, &query, &about));
    }
    ask_vector(index, &txn, "zebra", v[42], DIM); /* no word in common: the vector decides */
    assert_int_equal(llmgwi_index_near(index, &txn, scope_a, &query, hits, 8), 8);
    assert_int_equal(hits[0].id, 43);
    assert_true(hits[0].similarity > .399 && hits[0].similarity < .45);
    ask_vector(index, &txn, question(42), v[42], DIM);
    assert_int_equal(llmgwi_index_near(index, &txn, scope_a, &query, hits, 8), 8);
    assert_true(fabs(hits[0].similarity - 1) < 1e-5);
    ask_vector(index, &txn, "zebra", v[42], DIM);
    size_t n = llmgwi_index_near(index, &txn, scope_a, &query, hits, 8);
    for (size_t i = 0; i < n; i++) { /* .4 of the true cosine, as grams and words share (nearly) nothing */
        double d = 0, a = 0, b = 0;
        for (size_t k = 0; k < DIM; k++) {
            double x = (double)v[42][k], y = (double)v[hits[i].id - 1][k];
            d += x * y, a += x * x, b += y * y;
        }
        assert_true(fabs(hits[i].similarity - .4 * d / sqrt(a * b)) < .04);
    }
    ask_vector(index, &txn, question(42), v[42], DIM - 1); /* another length is not compared */
    assert_int_equal(llmgwi_index_near(index, &txn, scope_a, &query, hits, 1), 1);
    assert_int_equal(hits[0].id, 43);
    assert_true(fabs(hits[0].similarity - 1) < 1e-5);
    v[0][3] = (float)NAN;
    ask_vector(index, &txn, question(42), v[0], DIM);
    assert_int_equal(query.dim, 0);
    memset(v[0], 0, sizeof v[0]);
    ask_vector(index, &txn, question(42), v[0], DIM);
    assert_int_equal(query.dim, 0);
    static float big[LLMGWI_INDEX_DIM + 1];
    for (size_t k = 0; k <= LLMGWI_INDEX_DIM; k++) big[k] = 1e30f;
    ask_vector(index, &txn, question(42), big, LLMGWI_INDEX_DIM + 1);
    assert_int_equal(query.dim, 0);
    ask_vector(index, &txn, question(42), big, LLMGWI_INDEX_DIM);
    assert_int_equal(query.dim, LLMGWI_INDEX_DIM);
    assert_true(llmgwi_index_add(index, &txn, scope_b, 500, &query, &about));
    assert_true(llmgwi_index_set_class(index, &txn, 500, 3));
    assert_int_equal(llmgwi_index_near(index, &txn, scope_b, &query, hits, 1), 1);
    assert_true(fabs(hits[0].similarity - 1) < 1e-5);
    llmgwi_store_end(&txn, false);
    llmgwi_index_close(index);
}

static bool vector_line(llmgwi_index *index, llmgwi_store_txn *txn, const char *line) {
    return llmgwi_index_vector_line(index, txn, llmgwi_base_cstr(line), &query);
}

static void test_word_vectors(void **state) {
    llmgwi_index *index = llmgwi_index_open(&unit_mem, store);
    llmgwi_store_txn txn = begin();
    llmgwi_index_hit about, hits[8];
    memset(&about, 0, sizeof about);
    assert_true(vector_line(index, &txn, "bicycle 0.5 -1e-1 .25 1.0E+0\n"));
    assert_true(vector_line(index, &txn, "cycle 0.5 -0.1 0.25 1"));
    assert_true(vector_line(index, &txn, "violin -2 0.3 1 0.01"));
    static const char *const bad[] = {"",
                                      "word",
                                      "word 1",
                                      "boat 1 2 3",
                                      "boat 1 2 3 4 5",
                                      "boat 1 2 3 x",
                                      "boat 1 2 3 4e99",
                                      "boat 1 2 3 --4",
                                      "boat 1..2 3 4 5",
                                      "boat 0 0 0 0",
                                      "boat 1 2  3 4",
                                      "?! 1 2 3 4",
                                      "boat 1 2 3 4-"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(bad); i++) {
        if (vector_line(index, &txn, bad[i])) fail_msg("taken: %s", bad[i]);
        assert_int_equal(txn.error, 0);
    }
    assert_int_equal(llmgwi_store_count(&txn, LLMGWI_STORE_VECTOR), 3);
    assert_int_equal(llmgwi_index_word_dim(&txn), 4);
    static const char *const texts[] = {"sell bicycle", "sell violin", "unknownword"};
    for (uint64_t i = 0; i < 3; i++) {
        ask_vector(index, &txn, texts[i], NULL, 0);
        assert_int_equal(query.dim, i < 2 ? 4 : 0);
        assert_true(llmgwi_index_add(index, &txn, scope_a, i + 1, &query, &about));
    }
    ask_vector(index, &txn, "cycle", NULL, 0); /* no word in common with either, but the vector */
    assert_int_equal(llmgwi_index_near(index, &txn, scope_a, &query, hits, 8), 3);
    assert_int_equal(hits[0].id, 1);
    assert_true(hits[0].similarity > .4);
    assert_true(hits[1].similarity < .2);
    static const float same[4] = {.5f, -.1f, .25f, 1}; /* an embedding is of another kind, if as long */
    ask_vector(index, &txn, "cycle", same, 4);
    assert_int_equal(query.dim, 4);
    assert_true(llmgwi_index_near(index, &txn, scope_a, &query, hits, 8) == 3 && hits[0].similarity < .2);
    llmgwi_store_end(&txn, false);
    llmgwi_index_close(index);
}

/* The i-th of the numbers of a question's vector over its largest, as floating-point numbers. */
static double sentence_part(llmgwi_index *index, llmgwi_store_txn *txn, const char *text, size_t i) {
    ask_vector(index, txn, text, NULL, 0);
    assert_int_equal(query.dim, 5);
    return (double)query.vector[i] / 127;
}

/* A common word adds less than a rare one, by a / (a + p): neither its root nor nothing. */
static void test_sentence_weights(void **state) {
    llmgwi_index *index = llmgwi_index_open(&unit_mem, store);
    llmgwi_store_txn txn = begin();
    /* pairs, so that all words have the fifth number in common, and nothing else */
    static const char *const lines[] = {"violin 1 0 0 0 0", "zither -1 0 0 0 0", "all 0 1 0 0 0",
                                        "with 0 -1 0 0 0",  "money 0 0 3 0 0",   "cards 0 0 -3 0 0",
                                        "the 0 0 0 1 0",    "a 0 0 0 -1 0",      "piano 0 0 0 0 9"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(lines); i++) assert_true(vector_line(index, &txn, lines[i]));
    double rank_1 = .001 / (.001 + .1), all = .001 / (.001 + exp(-3.75) / 12);           /* .0099, .338 */
    double money = .001 / (.001 + exp(-6.0) / 12), the = .001 / (.001 + exp(-1.5) / 12); /* .829, .051 */
    assert_true(fabs(sentence_part(index, &txn, "all violin", 0) - rank_1 / all) < .005);
    assert_true(fabs(sentence_part(index, &txn, "all money", 1) - all / (3 * money)) < .005);
    assert_true(fabs(sentence_part(index, &txn, "the all", 3) - the / all) < .005);
    /* by what was shipped, not by what was learned: here all speak of money, and it still says something */
    for (int i = 0; i < 5000; i++) llmgwi_index_learn(index, &query);
    ask_vector(index, &txn, "all money", NULL, 0);
    for (int i = 0; i < 5000; i++) llmgwi_index_learn(index, &query);
    assert_true(fabs(sentence_part(index, &txn, "all money", 1) - all / (3 * money)) < .005);
    llmgwi_store_end(&txn, false);
    llmgwi_index_close(index);
}

/* A word that no shipped table has weighs more the later it stands in the file. */
static void test_sentence_ranks(void **state) {
    llmgwi_index *index = llmgwi_index_open(&unit_mem, store);
    llmgwi_store_txn txn = begin();
    char line[64];
    assert_true(vector_line(index, &txn, "nicht 1 0 0 0 0"));
    for (int i = 1; i < 199; i++) { /* of no effect on the two */
        snprintf(line, sizeof line, "wort%c%c 0 0 0 0 1", 'a' + i / 20, 'a' + i % 20);
        assert_true(vector_line(index, &txn, line));
    }
    assert_true(vector_line(index, &txn, "karte 0 1 0 0 0"));
    double first = .001 / (.001 + .1), last = .001 / (.001 + .1 / 200); /* .0099, .667 */
    for (int i = 0; i < 2; i++) { /* a line that comes again changes neither words nor ranks */
        assert_true(fabs(sentence_part(index, &txn, "karte nicht", 0) - first / last) < .008);
        assert_true(fabs(sentence_part(index, &txn, "karte nicht", 1) - 1) < .005);
        assert_true(vector_line(index, &txn, "nicht 0 0 0 1 0"));
        assert_true(vector_line(index, &txn, "Karte 0 0 1 0 0"));
        assert_true(vector_line(index, &txn, "karte-karte 0 0 1 0 0"));
    }
    assert_int_equal(llmgwi_store_count(&txn, LLMGWI_STORE_VECTOR), 200);
    llmgwi_store_end(&txn, false);
    llmgwi_index_close(index);
}

/* What all words share is no likeness; it is told by the file's first words. */
static void test_sentence_common(void **state) {
    llmgwi_index *index = llmgwi_index_open(&unit_mem, store);
    llmgwi_store_txn txn = begin();
    llmgwi_index_common common;
    llmgwi_index_hit about, hits[2];
    memset(&about, 0, sizeof about);
    assert_true(vector_line(index, &txn, "violin 1 0 0 0 20"));
    assert_true(vector_line(index, &txn, "lawyer 0 1 0 0 20"));
    assert_true(vector_line(index, &txn, "fiddle 1 .2 0 0 20"));
    assert_true(vector_line(index, &txn, "zither -2 -1.2 0 0 20")); /* the sum is 0 0 0 0 80 */
    assert_true(fabs(sentence_part(index, &txn, "violin", 0) - 1) < .001);
    assert_int_equal(query.vector[4], 0);
    assert_true(llmgwi_index_add(index, &txn, scope_a, 1, &query, &about));
    ask_vector(index, &txn, "lawyer", NULL, 0);
    assert_int_equal(llmgwi_index_near(index, &txn, scope_a, &query, hits, 2), 1);
    assert_true(hits[0].similarity < .02); /* .4 if they kept it */
    ask_vector(index, &txn, "fiddle", NULL, 0);
    assert_int_equal(llmgwi_index_near(index, &txn, scope_a, &query, hits, 2), 1);
    assert_true(hits[0].similarity > .38 && hits[0].similarity < .4); /* .4 times .98 */
    /* after so many words no more are added up */
    assert_true(llmgwi_index_common_get(&txn, &common));
    assert_int_equal(common.count, 4);
    common.count = LLMGWI_INDEX_COMMON;
    assert_true(llmgwi_store_put(&txn, LLMGWI_STORE_META, llmgwi_base_cstr("vectors common"),
                                 llmgwi_index_bytes(&common, sizeof common)));
    assert_true(vector_line(index, &txn, "harp 0 0 1000 0 0"));
    assert_true(llmgwi_index_common_get(&txn, &common));
    assert_int_equal(common.count, LLMGWI_INDEX_COMMON);
    assert_true(common.sum[2] <= 0 && common.sum[2] >= 0);
    assert_true(fabs(sentence_part(index, &txn, "harp", 2) - 1) < .001);
    llmgwi_store_end(&txn, false);
    llmgwi_index_close(index);
}

/* ---- what cannot be trusted ---- */

/* Every byte of a record changed, and every length: no crash, and never another similarity than a number
   from 0 to 1. */
static void test_damaged_records(void **state) {
    llmgwi_index *index = llmgwi_index_open(&unit_mem, store);
    llmgwi_store_txn txn = begin();
    llmgwi_index_hit hits[8];
    char record[LLMGWI_INDEX_RECORD_MAX], broken[LLMGWI_INDEX_RECORD_MAX];
    llmgwi_base_str value;
    uint64_t id = 1;
    add(index, &txn, scope_a, id, question(3));
    llmgwi_base_str key = llmgwi_index_bytes(&id, sizeof id);
    assert_true(llmgwi_store_get(&txn, LLMGWI_STORE_ASK, key, &value));
    size_t n = value.n, found = 0;
    memcpy(record, value.p, n);
    for (size_t i = 0; i < 2 * n; i++) {
        memcpy(broken, record, n);
        if (i < n) broken[i] = (char)~broken[i];
        assert_true(
            llmgwi_store_put(&txn, LLMGWI_STORE_ASK, key, llmgwi_base_view(broken, i < n ? n : i - n)));
        if (llmgwi_index_near(index, &txn, scope_a, &query, hits, 8) == 0) continue;
        assert_true(i < n);
        assert_true(hits[0].similarity >= 0 && hits[0].similarity <= 1);
        found++;
    }
    assert_true(found > 0 && found < n);
    assert_true(llmgwi_store_put(&txn, LLMGWI_STORE_ASK, key, llmgwi_base_view(record, n)));
    memcpy(broken, record, n);
    broken[0] ^= 64; /* another version: not found, but removed with its signature */
    assert_true(llmgwi_store_put(&txn, LLMGWI_STORE_ASK, key, llmgwi_base_view(broken, n)));
    assert_int_equal(llmgwi_index_near(index, &txn, scope_a, &query, hits, 8), 0);
    assert_true(llmgwi_index_remove(index, &txn, id));
    assert_int_equal(llmgwi_store_count(&txn, LLMGWI_STORE_TAIL), 0);
    add(index, &txn, scope_a, id, question(3));
    for (uint32_t number = 1; number <= 100; number++) { /* blocks of any size */
        llmgwi_index_place place;
        for (size_t i = 0; i < sizeof broken; i++) broken[i] = (char)draw(256);
        assert_true(llmgwi_store_put(&txn, LLMGWI_STORE_BLOCK,
                                     llmgwi_index_place_key(&place, scope_a, number),
                                     llmgwi_base_view(broken, number * 13)));
    }
    (void)llmgwi_index_near(index, &txn, scope_a, &query, hits, 8);
    (void)llmgwi_index_remove(index, &txn, 1);
    uint32_t piece = 3;
    uint64_t docs = 5;
    assert_true(llmgwi_store_put(&txn, LLMGWI_STORE_WEIGHT, llmgwi_index_bytes(&piece, sizeof piece),
                                 llmgwi_index_bytes(&docs, sizeof docs)));
    assert_true(llmgwi_index_save(index, &txn, 1000));
    assert_int_equal(txn.error, 0);
    llmgwi_store_end(&txn, false);
    llmgwi_index_close(index);
}

static void *no_memory(void *ptr, size_t old_size, size_t new_size, void *user) {
    size_t *left = (size_t *)user;
    if (new_size == 0) {
        free(ptr);
        return NULL;
    }
    if (*left == 0) return NULL;
    --*left;
    return realloc(ptr, new_size);
}

/* The second of two blocks claims more pages than there are: found before its end is read, and the store goes off. */
static void test_a_damaged_block(void **state) {
    static char records[LLMGWI_INDEX_BLOCK_BYTES];
    llmgwi_index *index = llmgwi_index_open(&unit_mem, store);
    llmgwi_store_txn txn = begin();
    llmgwi_store_cursor cursor;
    llmgwi_base_str key, block;
    llmgwi_index_place place;
    char name[80];
    const uint32_t pages = 1u << 30;
    add(index, &txn, scope_a, 1, question(3));
    for (uint32_t i = 0; i < 2; i++)
        assert_true(llmgwi_store_put(&txn, LLMGWI_STORE_BLOCK,
                                     llmgwi_index_place_key(&place, scope_a, UINT32_MAX - i),
                                     llmgwi_base_view(records, sizeof records)));
    assert_true(llmgwi_store_end(&txn, true));
    assert_true(llmgwi_store_read(store, &txn));
    llmgwi_index_hit hits[8];
    assert_int_equal(llmgwi_index_near(index, &txn, scope_a, &query, hits, 8), 1);
    assert_int_equal(txn.error, 0);
    assert_true(llmgwi_store_cursor_open(&txn, LLMGWI_STORE_BLOCK, &cursor));
    assert_true(llmgwi_index_block_seek(&cursor, scope_a, UINT32_MAX, &key, &block));
    llmgwi_store_cursor_close(&cursor);
    snprintf(name, sizeof name, "%s/data.mdb", path);
    int fd = open(name, O_WRONLY);
    assert_true(fd >= 0); /* LMDB maps the file: what is written to it is seen */
    assert_int_equal(pwrite(fd, &pages, sizeof pages, block.p - 4 - store->map), sizeof pages);
    close(fd);
    (void)llmgwi_index_near(index, &txn, scope_a, &query, hits, 8);
    assert_int_equal(txn.error, MDB_CORRUPTED);
    assert_false(llmgwi_store_on(store));
    (void)llmgwi_store_end(&txn, false);
    llmgwi_index_close(index);
}

static void test_without_memory(void **state) {
    size_t left = 0;
    llmgwi_base_mem mem;
    llmgwi_index_hit hits[8];
    mem.fn = no_memory;
    mem.user = &left;
    assert_null(llmgwi_index_open(&mem, store));
    left = 1;
    llmgwi_index *index = llmgwi_index_open(&mem, store);
    llmgwi_store_txn txn = begin();
    assert_non_null(index);
    add(index, &txn, scope_a, 1, question(3));
    assert_int_equal(llmgwi_index_near(index, &txn, scope_a, &query, hits, 8), 0);
    left = 1;
    assert_int_equal(llmgwi_index_near(index, &txn, scope_a, &query, hits, 8), 1);
    assert_int_equal(llmgwi_index_near(index, &txn, scope_a, &query, hits, 8), 1); /* the scratch was kept */
    llmgwi_store_end(&txn, false);
    llmgwi_index_close(index);
}

/* ---- threads ---- */

static llmgwi_index *shared;

static void *searcher(void *user) {
    llmgwi_index_query *q = (llmgwi_index_query *)malloc(sizeof *q);
    size_t *found = (size_t *)user;
    for (size_t i = 0; i < 100; i++) {
        char text[200];
        llmgwi_store_txn txn;
        llmgwi_index_hit hits[8];
        snprintf(text, sizeof text, "how do I move a lantern, case %zu", i);
        if (!llmgwi_store_read(store, &txn)) continue;
        llmgwi_index_ask(shared, &txn, llmgwi_base_cstr(text), NULL, 0, q);
        if (llmgwi_index_near(shared, &txn, scope_a, q, hits, 8) == 8) ++*found;
        llmgwi_index_learn(shared, q);
        llmgwi_store_end(&txn, false);
    }
    free(q);
    return NULL;
}

static void test_threads(void **state) {
    enum { THREADS = 12 }; /* more than scratches are kept */
    pthread_t threads[THREADS];
    size_t found[THREADS];
    shared = llmgwi_index_open(&unit_mem, store);
    llmgwi_store_txn txn = begin();
    for (uint64_t id = 1; id <= 450; id++) add(shared, &txn, scope_a, id, question(id));
    assert_true(llmgwi_store_end(&txn, true));
    memset(found, 0, sizeof found);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, searcher, &found[i]), 0);
    for (uint64_t id = 451; id <= 900; id += 50) {
        txn = begin();
        for (uint64_t k = id; k < id + 50; k++) add(shared, &txn, scope_a, k, question(k));
        for (uint64_t k = id - 450; k < id - 440; k++) assert_true(llmgwi_index_remove(shared, &txn, k));
        assert_true(llmgwi_index_save(shared, &txn, 64));
        assert_true(llmgwi_store_end(&txn, true));
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(found[i], 100);
    }
    for (int i = 0; i < 4; i++) save(shared, 64);
    assert_int_equal(shared->docs, THREADS * 100);
    llmgwi_index_close(shared);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scan_kernels),
        cmocka_unit_test(test_dot_kernel),
        cmocka_unit_test(test_signs),
        TEST(test_nearest_equal_a_full_search),
        TEST(test_spared),
        TEST(test_a_wrong_guess),
        TEST(test_edges_of_near),
        TEST(test_scopes_stay_apart),
        TEST(test_expired_and_classes),
        TEST(test_fill_and_empty),
        TEST(test_two_indexes_learn_together),
        TEST(test_save_in_bites),
        TEST(test_embeddings),
        TEST(test_word_vectors),
        TEST(test_sentence_weights),
        TEST(test_sentence_ranks),
        TEST(test_sentence_common),
        TEST(test_damaged_records),
        TEST(test_a_damaged_block),
        TEST(test_without_memory),
        TEST(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
