/* test_features.c - the normal form of texts and the features of questions. */
#include "unit.h"

#include <limits.h>

static const char *normal(const char *text) {
    static char ring[4][512];
    static unsigned at;
    char *out = ring[at++ % 4];
    llmgwi_base_buf buf;
    llmgwi_base_buf_init(&buf, &unit_mem, 511);
    assert_true(llmgwi_base_buf_text(&buf, "<"));
    assert_true(llmgwi_text_normal(llmgwi_base_cstr(text), &buf));
    assert_int_equal(buf.p[0], '<');
    memcpy(out, buf.p + 1, buf.n); /* and the NUL */
    llmgwi_base_buf_free(&buf);
    return out;
}

static llmgwi_text_features *features(const char *text) {
    static llmgwi_text_features ring[4];
    static unsigned at;
    llmgwi_text_features *f = &ring[at++ % 4];
    memset(f, 0xA5, sizeof *f);
    llmgwi_text_features_of(llmgwi_base_cstr(text), NULL, f);
    return f;
}

static bool has_hash(const llmgwi_text_features *f, uint32_t hash, size_t *at) {
    for (*at = 0; *at < f->word_count; ++*at)
        if (f->words[*at] == hash) return true;
    return false;
}

static bool has(const llmgwi_text_features *f, const char *stem) {
    size_t at;
    return has_hash(f, (uint32_t)XXH3_64bits(stem, strlen(stem)), &at);
}

/* All words of the text are these stems, and nothing else. */
static void words_are(const char *text, const char *stems, int line) {
    const llmgwi_text_features *f = features(text);
    char copy[256];
    size_t n = 0;
    snprintf(copy, sizeof copy, "%s", stems);
    for (char *stem = strtok(copy, " "); stem; stem = strtok(NULL, " ")) {
        n++;
        if (!has(f, stem)) fail_msg("line %d: \"%s\" has no \"%s\"", line, text, stem);
    }
    if (f->word_count != n) fail_msg("line %d: \"%s\": %zu words, not %zu", line, text, f->word_count, n);
}
#define WORDS(text, stems) words_are(text, stems, __LINE__)

static void same_words(const char *a, const char *b, int line) {
    const llmgwi_text_features *x = features(a), *y = features(b);
    if (x->word_count == 0 || x->word_count != y->word_count ||
        memcmp(x->words, y->words, x->word_count * sizeof x->words[0]) != 0)
        fail_msg("line %d: \"%s\" and \"%s\" differ", line, a, b);
}
#define SAME_WORDS(a, b) same_words(a, b, __LINE__)

static float rarity_of(const char *word) {
    const llmgwi_text_features *f = features(word);
    assert_int_equal(f->word_count, 1);
    return f->rarity[0];
}

static void test_normal(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"", ""},
        {" \t\n ", ""},
        {"Hello,  World!", "hello, world"},
        {"\r\n Hello\xC2\xA0\tWorld ...\n", "hello world"},
        {"What?!", "what"},
        {"3.5 or 4.0?", "3.5 or 4.0"},
        {"?!", "?!"},
        {"\xE2\x80\x9CYes\xE2\x80\x9D \xE2\x80\x98no\xE2\x80\x99", "\"yes\" 'no'"},
        {"a\xE2\x80\x94"
         "b\xE2\x88\x92"
         "c\xE2\x80\x91"
         "d",
         "a-b-c-d"},
        {"wait\xE2\x80\xA6 what", "wait... what"},
        {"wait\xE2\x80\xA6", "wait"},
        {"soft\xC2\xADhyphen\xE2\x80\x8B zero\xEF\xBB\xBF", "softhyphen zero"},
        {"\xEF\xBC\xA1\xEF\xBC\xA2\xEF\xBC\x91\xEF\xBC\x9F", "ab1"},
        {"\xE4\xBD\xA0\xE5\xA5\xBD\xE3\x80\x82", "\xE4\xBD\xA0\xE5\xA5\xBD"},
        {"\xC3\x89T\xC3\x89 \xC5\xA0 \xC5\xB8 \xC4\xB0 \xE1\xBA\x9E",
         "\xC3\xA9t\xC3\xA9 \xC5\xA1 \xC3\xBF i \xC3\x9F"},
        {"\xCE\x91\xCE\x98\xCE\x97\xCE\x9D\xCE\x91 \xCE\x9F\xCE\xA3 \xCE\xBF\xCF\x82",
         "\xCE\xB1\xCE\xB8\xCE\xB7\xCE\xBD\xCE\xB1 \xCE\xBF\xCF\x83 \xCE\xBF\xCF\x83"},
        {"\xD0\x9F\xD0\xA0\xD0\x98 \xD0\x81 \xD2\x90", "\xD0\xBF\xD1\x80\xD0\xB8 \xD1\x91 \xD2\x91"},
        {"\xC3\x97 \xC3\xB7 \xC3\x9F", "\xC3\x97 \xC3\xB7 \xC3\x9F"}, /* the holes in the ranges */
        {"o\xEF\xAC\x83"
         "ce",
         "office"},
        {"a\xFF"
         "b",
         "a\xEF\xBF\xBD"
         "b"},
        {"NO. 5.", "no. 5"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        assert_string_equal(normal(pairs[i][0]), pairs[i][1]);
        assert_string_equal(normal(pairs[i][1]), pairs[i][1]);
    }
    assert_string_not_equal(normal("not 5"), normal("not 6"));
}

static void test_normal_cap(void **state) {
    (void)state;
    llmgwi_base_buf buf;
    llmgwi_base_buf_init(&buf, &unit_mem, 4);
    assert_false(llmgwi_text_normal(llmgwi_base_cstr("hello"), &buf));
    assert_true(buf.n <= 4);
    llmgwi_base_buf_free(&buf);
}

/* Rows are found by bisection; suffixes by their size. */
static void test_tables(void **state) {
    (void)state;
    for (size_t i = 1; i < LLMGWI_BASE_COUNT(llmgwi_text_folds); i++)
        assert_true(llmgwi_text_folds[i - 1].to < llmgwi_text_folds[i].from);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_text_folds); i++)
        assert_true(llmgwi_text_folds[i].from <= llmgwi_text_folds[i].to);
    for (size_t i = 1; i < LLMGWI_BASE_COUNT(llmgwi_text_kinds); i++)
        assert_true(llmgwi_text_kinds[i - 1].to < llmgwi_text_kinds[i].from);
    for (size_t i = 1; i < LLMGWI_BASE_COUNT(llmgwi_text_plains); i++)
        assert_true(llmgwi_text_plains[i - 1].point < llmgwi_text_plains[i].point);
    assert_int_equal(sizeof llmgwi_text_bases - 1, 0x180 - 0xC0);
    for (uint32_t point = 0; point < 0x110000; point++)
        if (llmgwi_text_fold(llmgwi_text_fold(point)) != llmgwi_text_fold(point)) fail_msg("fold %x", point);
}

/* Every record of a table of words is found; what stands between two is not. Returns how many. */
static size_t table_holds(const char *table, const char *before) {
    char last[64], word[64];
    size_t count = 0;
    snprintf(last, sizeof last, "%s", before);
    for (const char *p = table; *p; count++) {
        size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyz");
        assert_true(n > 0 && n < 40);
        snprintf(word, sizeof word, "%.*s", (int)n, p);
        assert_true(strcmp(last, word) < 0);
        assert_ptr_equal(llmgwi_text_look(table, strlen(table), llmgwi_base_cstr(word)), p + n);
        snprintf(last, sizeof last, "%s", word);
        strcat(word, "qq");
        assert_null(llmgwi_text_look(table, strlen(table), llmgwi_base_cstr(word)));
        word[n - 1] = 0;
        const char *short_one = llmgwi_text_look(table, strlen(table), llmgwi_base_cstr(word));
        assert_true(!short_one || (size_t)(short_one - table) < strlen(table));
        p += n;
        while (!(*p >= 'A' && *p <= 'Z')) assert_true(*p++);
        p++;
    }
    return count;
}

static void suffixes_hold(const llmgwi_text_suffix *row) {
    for (; row->size; row++) {
        assert_int_equal(strlen(row->suffix), row->size);
        assert_true(strlen(row->becomes) <= row->size);
    }
    assert_int_equal(row->suffix[0], 0);
}

static void test_word_tables(void **state) {
    (void)state;
    size_t bytes = 0, count = 0;
    suffixes_hold(llmgwi_text_plurals);
    suffixes_hold(llmgwi_text_tenses);
    suffixes_hold(llmgwi_text_endings);
    suffixes_hold(llmgwi_text_remains);
    assert_true(table_holds(llmgwi_text_forms, "") > 200);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_text_common); i++) {
        count += table_holds(llmgwi_text_common[i], "");
        assert_true(llmgwi_text_prior(llmgwi_base_cstr("use")) < LLMGWI_TEXT_RARE);
        bytes += strlen(llmgwi_text_common[i]);
        if (i > 0) { /* the page is found by the first letter alone */
            const char *end = llmgwi_text_common[i - 1] + strlen(llmgwi_text_common[i - 1]) - 1;
            while (end > llmgwi_text_common[i - 1] && end[-1] >= 'a') end--;
            assert_true(*end < llmgwi_text_common[i][0]);
        }
    }
    assert_int_equal(count, 1500);
    assert_true(bytes < 12288);
    assert_null(LLMGWI_TEXT_LOOK(llmgwi_text_forms, llmgwi_base_cstr("")));
    assert_null(LLMGWI_TEXT_LOOK(llmgwi_text_forms, llmgwi_base_cstr("zzz")));
    assert_null(LLMGWI_TEXT_LOOK(llmgwi_text_forms, llmgwi_base_cstr("aaa")));
}

static void test_words(void **state) {
    (void)state;
    WORDS("", "");
    WORDS(" ?! ", "");
    WORDS("Hello, please", "");
    WORDS("The cards THE card", "the card");
    WORDS("state-of-the-art", "stat of the art");
    WORDS("1,000.50 and 2.10.0, 1,2", "1000.50 and 2.10.0 1 2");
    WORDS("C++ or C# or c, a+b", "c++ or c# c a b");
    WORDS("GPT4 x\xC2\xB2", "gpt4 x\xC2\xB2");
    WORDS("caf\xC3\xA9", "caf");
    WORDS("cafe\xCC\x81", "caf");
    WORDS("\xD0\x9F\xD0\xBE\xD1\x87\xD0\xB5\xD0\xBC\xD1\x83",
          "\xD0\xBF\xD0\xBE\xD1\x87\xD0\xB5\xD0\xBC\xD1\x83");
    /* three characters of Chinese: two pairs; then one alone */
    WORDS("\xE4\xBD\xA0\xE5\xA5\xBD\xE5\x90\x97 \xE5\x90\x97",
          "\xE4\xBD\xA0\xE5\xA5\xBD \xE5\xA5\xBD\xE5\x90\x97 \xE5\x90\x97");
    WORDS("iOS\xE4\xBD\xA0\xE5\xA5\xBD", "ios \xE4\xBD\xA0\xE5\xA5\xBD");
    assert_true(has(features("how do I not"), "how") && has(features("why not"), "why"));
}

static void test_same_words(void **state) {
    (void)state;
    SAME_WORDS("don't", "dont");
    SAME_WORDS("can\xE2\x80\x99t", "cannot");
    SAME_WORDS("what's", "what");
    SAME_WORDS("the user's cards", "the users card");
    SAME_WORDS("installation", "installed");
    SAME_WORDS("cancellations", "cancelling");
    SAME_WORDS("verifying", "verification");
    SAME_WORDS("colour", "color");
    SAME_WORDS("organisations", "organize");
    SAME_WORDS("sent", "sending");
    SAME_WORDS("paid", "payment");
    SAME_WORDS("children", "child");
    SAME_WORDS("stopping", "stops");
    SAME_WORDS("countries", "country");
    SAME_WORDS("boxes", "box");
    SAME_WORDS("softly", "soft");
    SAME_WORDS("arrival", "arrives");
    SAME_WORDS("could you please help", "Could you help?");
    static const char *const apart[][2] = {
        {"current", "currency"}, {"import", "important"}, {"bus", "but"},  {"police", "policy"}, {"c++", "c"},
        {"don't", "do"},         {"status", "state"},     {"thing", "th"}, {"bring", "bred"}};
    for (size_t i = 0; i < sizeof apart / sizeof apart[0]; i++)
        assert_int_not_equal(features(apart[i][0])->words[0], features(apart[i][1])->words[0]);
}

static void test_rarity(void **state) {
    (void)state;
    float the = rarity_of("the"), card = rarity_of("card");
    assert_true(the > 0 && the < card && card < rarity_of("flabbergasted"));
    assert_true(rarity_of("flabbergasted") == LLMGWI_TEXT_RARE);
    assert_true(rarity_of("7") < rarity_of("2048"));
    float before = llmgwi_text_rarity(8, 0, 0);
    assert_true(before > 2.8f && before < 2.9f); /* the root of 8 */
    assert_true(llmgwi_text_rarity(8, 0, 1e6) > before);
    assert_true(llmgwi_text_rarity(8, 1000, 10000) < llmgwi_text_rarity(8, 10, 10000));
    assert_true(llmgwi_text_rarity(2, 10, 100) < llmgwi_text_rarity(8, 10, 100));
    double far = (double)llmgwi_text_rarity(2, 1e5, 1e6) - (double)llmgwi_text_rarity(8, 1e5, 1e6);
    assert_true(far < 0 && far > -1e-3); /* much evidence: the prior does not matter */
    assert_true(llmgwi_text_rarity(0.1f, 1e9, 1e9) > 0.1f);
}

static uint64_t other_hash(const void *key, const void *p, size_t n) {
    return (uint64_t)XXH3_64bits_withSeed(p, n, *(const uint64_t *)key);
}

static void test_hashes(void **state) {
    (void)state;
    uint64_t key = 77;
    llmgwi_base_hasher hasher = {other_hash, &key};
    static llmgwi_text_features plain, keyed;
    llmgwi_text_features_of(llmgwi_base_cstr("Caf\xC3\xA9s"), NULL, &plain);
    llmgwi_text_features_of(llmgwi_base_cstr("Caf\xC3\xA9s"), &hasher, &keyed);
    assert_int_equal(plain.word_count, 1);
    assert_true(plain.names[0] == (uint64_t)XXH3_64bits("caf\xC3\xA9s", 6)); /* as it stands, folded */
    assert_true(keyed.names[0] == other_hash(&key, "caf\xC3\xA9s", 6));
    assert_int_equal(plain.gram_count, keyed.gram_count);
    assert_int_not_equal(plain.words[0], keyed.words[0]);
    assert_memory_not_equal(plain.grams, keyed.grams, plain.gram_count * sizeof plain.grams[0]);
}

static size_t shared(const llmgwi_text_features *a, const llmgwi_text_features *b) {
    size_t n = 0;
    for (size_t i = 0, j = 0; i < a->gram_count && j < b->gram_count;) {
        uint32_t x = a->grams[i], y = b->grams[j];
        n += x == y;
        i += x <= y;
        j += y <= x;
    }
    return n;
}

static void test_grams(void **state) {
    (void)state;
    /* " card ": 4 + 3 + 2 */
    assert_int_equal(features("card")->gram_count, 9);
    static const uint32_t ends[][3] = {{' ', 'c', 'a'},
                                       {'r', 'd', ' '}}; /* code points, blanks around the word */
    for (size_t i = 0; i < 2; i++) {
        const llmgwi_text_features *f = features("card");
        uint32_t hash = (uint32_t)XXH3_64bits(ends[i], sizeof ends[i]);
        size_t at = 0;
        while (at < f->gram_count && f->grams[at] != hash) at++;
        assert_true(at < f->gram_count);
    }
    assert_int_equal(features("a")->gram_count, 1);
    assert_int_equal(features("card card")->gram_count, 9);
    assert_int_equal(features("please")->gram_count, 0);
    assert_int_equal(shared(features("card"), features("Card!")), 9);
    assert_int_equal(shared(features("card"), features("cards")),
                     6); /* "ca "ar "rd, and so on: all but those at the end */
    assert_int_equal(shared(features("card"), features("dog")), 0);
    assert_int_equal(shared(features("r\xC3\xA9sum\xC3\xA9"), features("resume")),
                     features("resume")->gram_count);
}

static void sorted(const llmgwi_text_features *f) {
    assert_true(f->word_count <= LLMGWI_TEXT_WORDS && f->gram_count <= LLMGWI_TEXT_GRAMS);
    for (size_t i = 1; i < f->word_count; i++) assert_true(f->words[i - 1] < f->words[i]);
    for (size_t i = 1; i < f->gram_count; i++) assert_true(f->grams[i - 1] < f->grams[i]);
    for (size_t i = 0; i < f->word_count; i++) assert_true(f->rarity[i] > 0);
}

/* Of long texts the smallest hashes stay, whatever the order of the words. */
static void test_long(void **state) {
    (void)state;
    static char forth[40000], back[40000];
    static llmgwi_text_features a, b, c;
    size_t n = 0, m = 0;
    for (unsigned i = 0; i < 1500; i++) n += (size_t)sprintf(forth + n, "w%u ", i * 7919u);
    for (unsigned i = 1500; i-- > 0;) m += (size_t)sprintf(back + m, "w%u ", i * 7919u);
    llmgwi_text_features_of(llmgwi_base_view(forth, n), NULL, &a);
    llmgwi_text_features_of(llmgwi_base_view(back, m), NULL, &b);
    sorted(&a);
    assert_true(a.cut && a.word_count == LLMGWI_TEXT_WORDS && a.gram_count == LLMGWI_TEXT_GRAMS);
    assert_memory_equal(&a, &b, sizeof a);
    uint32_t least = UINT32_MAX;
    for (unsigned i = 0; i < 1500; i++) {
        char word[16];
        uint32_t hash = (uint32_t)XXH3_64bits(word, (size_t)sprintf(word, "w%u", i * 7919u));
        if (hash < least) least = hash;
    }
    assert_int_equal(a.words[0], least);
    llmgwi_text_features_of(llmgwi_base_view(forth, n / 4), NULL, &c);
    assert_true(c.cut);
    n = 0; /* more grams than are kept, but not so many that they are packed twice */
    for (unsigned i = 0; i < 70; i++) n += (size_t)sprintf(forth + n, "%u ", 123456789u + i * 7654321u);
    llmgwi_text_features_of(llmgwi_base_view(forth, n), NULL, &c);
    assert_true(c.cut && c.word_count == 70 && c.gram_count == LLMGWI_TEXT_GRAMS);
    sorted(&c);
    assert_false(features("short")->cut);
    sorted(features("How do I reset the password of my account if I have lost the phone?"));
}

static void test_caps(void **state) {
    (void)state;
    static char text[LLMGWI_TEXT_FEATURE_BYTES + 64];
    static llmgwi_text_features f;
    memset(text, ' ', sizeof text);
    memcpy(text, "first", 5);
    memcpy(text + LLMGWI_TEXT_FEATURE_BYTES, "beyond", 6);
    llmgwi_text_features_of(llmgwi_base_view(text, sizeof text), NULL, &f);
    assert_true(f.cut && f.word_count == 1);
    memset(text, 'a', sizeof text);
    llmgwi_text_features_of(llmgwi_base_view(text, 1000), NULL, &f);
    assert_true(f.cut && f.word_count == 1);
    memset(text, '9', 41), text[40] = 0;
    assert_false(features(text)->cut);
    text[40] = '9', text[41] = 0;
    assert_true(features(text)->cut);
    for (size_t i = 0; i + 3 <= 600; i += 3) memcpy(text + i, "\xE4\xBD\xA0", 4);
    llmgwi_text_features_of(llmgwi_base_cstr(text), NULL, &f); /* a run has no longest length */
    assert_true(!f.cut && f.word_count == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_normal), cmocka_unit_test(test_normal_cap),
        cmocka_unit_test(test_tables), cmocka_unit_test(test_word_tables),
        cmocka_unit_test(test_words),  cmocka_unit_test(test_same_words),
        cmocka_unit_test(test_rarity), cmocka_unit_test(test_hashes),
        cmocka_unit_test(test_grams),  cmocka_unit_test(test_long),
        cmocka_unit_test(test_caps),
    };
    return cmocka_run_group_tests_name("features", tests, NULL, NULL);
}
