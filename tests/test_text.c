/* Sentence ends, seams of resumed texts, estimates of tokens. */
#include "unit.h"

/* ---- sentence ends: in the samples '|' stands after each end, and is no part of the text ---- */

#define MOST 64

typedef struct sample {
    char text[8192];
    size_t n, ends[MOST], count;
} sample;

static void sample_read(sample *s, const char *marked) {
    s->n = s->count = 0;
    for (; *marked; marked++) {
        assert_true(s->n < sizeof s->text && s->count < MOST);
        if (*marked == '|')
            s->ends[s->count++] = s->n;
        else
            s->text[s->n++] = *marked;
    }
}

/* Every end that is told when the text comes byte by byte, then what `whole` adds. */
static size_t ends_of(const char *text, size_t n, size_t *ends) {
    llmgwi_text_sentences s;
    size_t count = 0, told = 0;
    llmgwi_text_sentences_init(&s);
    for (size_t i = 0; i <= n; i++) {
        char *copy = (char *)malloc(i + 1); /* so that a sanitizer sees a byte read too far */
        assert_non_null(copy);
        memcpy(copy, text, i);
        size_t end = llmgwi_text_sentences_feed(&s, copy, i, i == n);
        assert_true(end >= told && end <= i && end == s.end);
        if (end != told) ends[count++] = end;
        told = end;
        assert_true(count < MOST);
        free(copy);
    }
    return count;
}

static void check_ends(const char *marked) {
    static sample s;
    size_t ends[MOST];
    char got[9000];
    sample_read(&s, marked);
    size_t count = ends_of(s.text, s.n, ends), o = 0, next = 0;
    for (size_t i = 0; i <= s.n; i++) {
        if (next < count && ends[next] == i) got[o++] = '|', next++;
        if (i < s.n) got[o++] = s.text[i];
    }
    got[o] = 0;
    assert_string_equal(got, marked);
}

static void check_all(const char *const *samples) {
    for (size_t i = 0; samples[i]; i++) check_ends(samples[i]);
}

static void test_ends_plain(void **state) {
    (void)state;
    static const char *const good[] = {"One.| Two!| Three?| Four",
                                       "One.| Two.|",
                                       "A mark without white space.Next is none",
                                       "",
                                       "What?!| No...| Yes.|",
                                       "Wait... what?| And so on",
                                       "Well\xE2\x80\xA6 maybe.| Well\xE2\x80\xA6| Maybe",
                                       "He said \"Yes.\"| She left.|",
                                       "\"Stop!\" he said.| (As it was.)| Next",
                                       "**Bold end.**| Next _one._| X",
                                       "Foo.[12]| Bar [3].| Baz.[see it] Next.|",
                                       "Is it?| yes.|",
                                       "one. two. three",
                                       "What ? no.| Oui ?| Non.|",
                                       "It costs $5.| Next",
                                       "The answer is 42.| Next",
                                       "One.|\nTwo.\nthree",
                                       "A soft\nwrap is none.| B",
                                       NULL};
    check_all(good);
}

static void test_ends_abbreviations(void **state) {
    (void)state;
    static const char *const samples[] = {
        "Mr. Smith met Dr. Jones.| They talked.|",
        "J.-P. Sartre and J. R. R. Tolkien wrote it.| The U.S. Army did not.|",
        "Apples, pears, etc. are fruit.| Apples, etc.| Then more.|",
        "See e.g. Paris or i.e. London.| Next",
        "See No. 5 and Fig. 3.| I said no.| Then we left.|",
        "approx. 5 m, cf. Miller et al. (2019) for it.| X",
        "Das ist z.B. Berlin, d.h. gro\xC3\x9F.| Es ist z. B. Hamburg.| Nr. 5 lebt.| \xC3\x84pfel usw.| Dann",
        "Am 3. Oktober 1990 um 10.30 Uhr im 19. Jahrhundert.| Er kam am 3. 10. 1990.| Ja.|",
        "M. Dupont et Mme. Curie sont l\xC3\xA0.| El Sr. L\xC3\xB3pez y la Sra. Ruiz.| Fin",
        "At 9 a.m. sharp.| At 9 a.m.| The next.|",
        "It is 3.14 or v1.2.3, at 10.30.| Next",
        "Open main.c or https://x.y/z.html?q=a.| Then https://a.b/c!d=e no.| X",
        "The end of Mr.|",
        NULL};
    check_all(samples);
}

static void test_ends_lower_case(void **state) {
    (void)state;
    static const char *const samples[] = {"Foo. \xC3\xA4ndern.| X",
                                          "Foo.| \xC3\x84ndern.| X",
                                          "Foo. \xC5\xBE"
                                          "e.| X",
                                          "Foo.| \xC5\xBD"
                                          "e.| X",
                                          "Foo. \xCE\xB1\xCE\xB1.| X",
                                          "Foo.| \xCE\x91\xCE\xB1.| X",
                                          "Foo. \xD0\xB4\xD0\xB0.| X",
                                          "\xD0\x94\xD0\xB0.| \xD0\x9D\xD0\xB5\xD1\x82.| X",
                                          "Foo. (see it.)| X",
                                          "Foo.| (See it.)| X",
                                          "Foo.| `foo` is it.| X",
                                          "Foo. - bar",
                                          NULL};
    check_all(samples);
}

static void test_ends_quotes(void **state) {
    (void)state;
    static const char *const samples[] = {"\xE2\x80\x9EHallo.\xE2\x80\x9C| Er ging.|",
                                          "\xE2\x80\x9CHi.\xE2\x80\x9D| He left.|",
                                          "\xC2\xAB Oui. \xC2\xBB| Il part.|",
                                          "\xC2\xAB Oui ! \xC2\xBB dit-il.| X",
                                          "Er ging.| \xC2\xBBNein.\xC2\xAB| Ja",
                                          "\xE2\x80\x98So.\xE2\x80\x99| Then",
                                          "\xC2\xAB\xC2\xA0Vraiment\xC2\xA0?\xC2\xA0\xC2\xBB| Il part.|",
                                          NULL};
    check_all(samples);
}

static void test_ends_scripts(void **state) {
    (void)state;
    static const char *const samples[] = {
        "\xE4\xBD\xA0\xE5\xA5\xBD\xE3\x80\x82|\xE5\x86\x8D\xE8\xA7\x81\xEF\xBC\x81\xEF\xBC\x9F|\xE5\xA5\xBD",
        "\xE4\xBB\x96\xE8\xAF\xB4\xE3\x80\x8C\xE5\xA5\xBD\xE3\x80\x82\xE3\x80\x8D|\xE5\xA5\xBD",
        "\xE2\x80\x9C\xE5\xA5\xBD\xE3\x80\x82\xE2\x80\x9D|\xE2\x80\x9C\xE5\xA5\xBD\xE3\x80\x82\xE2\x80\x9D|"
        "\xE5\xA5\xBD",
        "\"\xE5\xA5\xBD\xE3\x80\x82\"|\"\xE5\xA5\xBD\xEF\xBD\xA1\"|\xE5\xA5\xBD",
        "**\xE5\xA5\xBD\xE3\x80\x82**|**\xE5\xA5\xBD**\xE3\x80\x82|**\xE5\xA5\xBD**",
        "\xE5\xA5\xBD\xE3\x80\x82|\xE5\xA5\xBD\xE3\x80\x82|",
        "\xE5\xA5\xBD!|\xE5\xA5\xBD. \xE5\xA5\xBD",
        "\xD9\x86\xD8\xB9\xD9\x85\xD8\x9F| \xD9\x84\xD8\xA7\xDB\x94| \xD9\x84\xD8\xA7",
        "\xE0\xA4\xB9\xE0\xA5\xA4| \xE0\xA4\xB9\xE0\xA5\xA5| \xE0\xA4\xB9",
        "\xD4\xB1\xD5\xA1\xD6\x89| \xD4\xB1",
        NULL};
    static char fixed[8192];
    for (size_t i = 0; samples[i]; i++) {
        strcpy(fixed, samples[i]);
        char *ascii = strstr(fixed, ". \xE5"); /* a period and white space end Chinese, too */
        if (ascii) {
            memmove(ascii + 2, ascii + 1, strlen(ascii));
            ascii[1] = '|';
        }
        check_ends(fixed);
    }
}

static void test_ends_lines(void **state) {
    (void)state;
    static const char *const samples[] = {"1. First thing|\n2. Second",
                                          "1. One.| Two|\n12) Three|\na. Four|\n",
                                          "Look:|\n- one|\n- two|\n* three",
                                          "# Title|\nText goes\non.| X",
                                          "## 1. Title|\nX",
                                          "| a | b ",
                                          "> quoted text. more|\n> 2. x|\n",
                                          "A paragraph|\n\nB paragraph|\n \nC",
                                          "Text\n---|\nMore",
                                          "**1.** Foo bar|\n",
                                          "iv. Four|\nX",
                                          "1984.| What a year\nfor us.| X",
                                          "\xE2\x80\xA2 dot|\nX",
                                          "A line\r|\n\r\nB",
                                          "-5 degrees\nare cold",
                                          "1.2. Sub|\nX",
                                          NULL};
    for (size_t i = 0; samples[i]; i++) {
        if (samples[i][0] == '|' || strchr(samples[i], '\r')) continue; /* below: '|' is text here */
        check_ends(samples[i]);
    }
    size_t ends[MOST];
    assert_int_equal(ends_of("| a. B |\n| c |\nText", 19, ends), 2);
    assert_int_equal(ends[0], 8);
    assert_int_equal(ends[1], 14);
    assert_int_equal(ends_of(" \0\0\0. B", 7, ends), 1); /* a word of NULs is in no list */
    assert_int_equal(ends_of("A line\r\n\r\nB", 11, ends), 1);
    assert_int_equal(ends[0], 6);
}

static void test_ends_code(void **state) {
    (void)state;
    static const char *const good[] = {"Code:\n```c|\nint a. B. C;|\n\n  x(); ! Y|\n```|\nText.| X",
                                       "~~~|\na. B|\n```|\n~~~|\nSo.| X",
                                       "````|\n```|\nA. B|\n````|\nX. y",
                                       "Use `a. B! C` now.| X",
                                       "Use ``a ` B. C`` now.| X",
                                       "- x:|\n  ```|\n  a. B|\n  ```|\n",
                                       "```|\nno end. Here",
                                       "```|\nx|\n```|",
                                       "An `open tick. Here|\n\nNew.| X",
                                       NULL};
    check_all(good);
}

static void test_ends_long(void **state) {
    (void)state;
    static char text[20000];
    llmgwi_text_sentences s;
    for (size_t i = 0; i < sizeof text; i++) text[i] = i % 5 == 4 ? ' ' : 'a';
    llmgwi_text_sentences_init(&s);
    assert_int_equal(llmgwi_text_sentences_feed(&s, text, 4099, false), 0);
    assert_int_equal(llmgwi_text_sentences_feed(&s, text, 4100, false), 4099);
    assert_true(llmgwi_text_sentences_feed(&s, text, sizeof text, false) > 12000);
}

/* Text from pieces that mean something to the scanner, also broken UTF-8. */
static size_t soup(unsigned *seed, char *out, size_t most) {
    static const char *const pieces[] = {"a",
                                         "B",
                                         " ",
                                         " ",
                                         "\n",
                                         "\n\n",
                                         ".",
                                         "!",
                                         "?",
                                         "...",
                                         "\"",
                                         "\xC2\xBB",
                                         " \xC2\xBB",
                                         "`",
                                         "```",
                                         "\n```\n",
                                         "~~~",
                                         "- ",
                                         "1. ",
                                         "# ",
                                         "> ",
                                         "|",
                                         "Dr.",
                                         "z.B.",
                                         "No.",
                                         "3.",
                                         "Mai",
                                         "etc.",
                                         "\xE3\x80\x82",
                                         "\xE5\xA5\xBD",
                                         "*",
                                         "**",
                                         "[1]",
                                         "(",
                                         ")",
                                         "\xE2\x80\xA6",
                                         "\xC3",
                                         "\xE2\x80",
                                         "\xFF",
                                         "\xC3\xA4",
                                         "\xC3\x84",
                                         "x.y",
                                         "\r\n",
                                         "\t",
                                         "_"};
    size_t n = 0;
    while (n + 8 < most) {
        *seed = *seed * 1103515245u + 12345;
        const char *piece = pieces[(*seed >> 16) % (sizeof pieces / sizeof pieces[0])];
        memcpy(out + n, piece, strlen(piece));
        n += strlen(piece);
    }
    return n;
}

/* However it is cut, the end after n bytes is the same; and none is taken back. */
static void test_ends_any_cut(void **state) {
    (void)state;
    static char text[300];
    static size_t want[301];
    for (unsigned round = 0, seed = 1; round < 3000; round++) {
        llmgwi_text_sentences s, once;
        size_t n = soup(&seed, text, 20 + seed % 270), at = 0;
        llmgwi_text_sentences_init(&s);
        for (size_t i = 0; i <= n; i++) want[i] = llmgwi_text_sentences_feed(&s, text, i, false);
        llmgwi_text_sentences_init(&s);
        while (at < n) {
            seed = seed * 1103515245u + 12345;
            at += 1 + (seed >> 16) % 40;
            if (at > n) at = n;
            assert_int_equal(llmgwi_text_sentences_feed(&s, text, at, false), want[at]);
        }
        llmgwi_text_sentences_init(&once);
        size_t whole = llmgwi_text_sentences_feed(&once, text, n, true);
        assert_int_equal(llmgwi_text_sentences_feed(&s, text, n, true), whole);
        assert_true(whole >= want[n] && whole <= n);
        assert_int_equal(llmgwi_text_sentences_feed(&s, text, n, true), whole);
        assert_true(whole == 0 || ((unsigned char)text[whole - 1] > ' '));
    }
}

/* ---- seams ---- */

/* On copies, so that a sanitizer sees a byte read too far. */
static size_t seam_n(const char *k, size_t kn, const char *n, size_t nn, bool whole) {
    char *old = (char *)malloc(kn + 1), *copy = (char *)malloc(nn + 1);
    assert_true(old && copy);
    memcpy(old + 1, k, kn);
    memcpy(copy + 1, n, nn);
    size_t drop = llmgwi_text_seam(old + 1, kn, copy + 1, nn, whole);
    free(old);
    free(copy);
    return drop;
}

static size_t seam(const char *k, const char *n, bool whole) {
    return seam_n(k, strlen(k), n, strlen(n), whole);
}

static int64_t tokens(const char *text, size_t n) {
    char *copy = (char *)malloc(n + 1);
    assert_non_null(copy);
    memcpy(copy + 1, text, n);
    int64_t count = llmgwi_text_tokens(copy + 1, n);
    free(copy);
    return count;
}

static void test_seam_plain(void **state) {
    (void)state;
    static const char *k = "The sky is blue. The grass is rather green.";
    assert_int_equal(seam(k, " The s", false), SIZE_MAX); /* still "The s", the beginning of all */
    assert_int_equal(seam(k, " Cows eat it.", false), 0);
    assert_int_equal(seam(k, "The grass is rather green. Cows", false), 26);
    assert_int_equal(seam(k, "\n The grass is rather green. Cows", false), 28);
    assert_int_equal(seam(k, "The sky is blue. The grass is rather green. Cows", false), 43);
    assert_int_equal(seam(k, "The sky is blue. The grass", false), SIZE_MAX);
    assert_int_equal(seam(k, "The sky is blue. The grass", true), 0);
    assert_int_equal(seam(k, "", false), SIZE_MAX);
    assert_int_equal(seam(k, "", true), 0);
    assert_int_equal(seam(k, " \xC2", false), SIZE_MAX); /* half of a no-break space */
    assert_int_equal(seam(k, "is rather green. Cows", false), 16);
    assert_int_equal(seam(k, "rather green. Cows", false), 0);        /* 13 bytes may be chance */
    assert_int_equal(seam(k, "ass is rather green. Cows", false), 0); /* inside a word */
    assert_int_equal(seam("short", "short", false), 0);
    assert_int_equal(seam("", "anything", false), 0);
    assert_int_equal(seam(" \x87", "", false), 0); /* not UTF-8, nothing before it */
    assert_int_equal(seam("The sky is very blue.\xC2\xA0\xE3\x80\x80", "The sky is very blue.", false), 21);
    assert_int_equal(seam("\n The sky is very blue. \n", "The sky is very blue.\nAnd", false), 21);
}

static void test_seam_longest(void **state) {
    (void)state;
    static const char *k = "tick tock tick tock tick tock tick tock";
    assert_int_equal(seam(k, "tick tock tick tock tick tock tick tock and", false), 39);
    assert_int_equal(seam(k, "tick tock tick tock tick tock", false), SIZE_MAX);
    assert_int_equal(seam(k, "tick tock tick tock tick tock", true), 29);
    assert_int_equal(seam(k, "tick tock tick tock and", false), 19);
}

static void test_seam_characters(void **state) {
    (void)state;
    /* Chinese has no spaces: any character may begin an overlap, none may be cut. */
    static const char *k =
        "\xE5\xA4\xA9\xE6\xB0\x94\xE5\xA5\xBD\xE6\x88\x91\xE4\xBB\xAC\xE5\x8E\xBB\xE5\x90\xA7\xE3\x80\x82";
    assert_int_equal(llmgwi_text_seam(k, 24, k + 6, 18, true), 18);
    assert_int_equal(llmgwi_text_seam(k, 24, k + 7, 17, true), 0);
    assert_int_equal(llmgwi_text_seam(k, 24, k + 6, 10, false), SIZE_MAX);
}

/* All of a text beyond the window, in pieces; and only a tail beyond it, which is not looked for. */
static void test_seam_whole_prefix(void **state) {
    (void)state;
    static char k[200000], n[200100];
    for (size_t i = 0; i < sizeof k; i++) k[i] = (char)(i % 7 == 6 ? ' ' : 'a' + (int)(i * i / 7 % 23));
    k[sizeof k - 1] = '.';
    memcpy(n, k, sizeof k);
    memset(n + sizeof k, 'Z', 100);
    for (size_t nn = 1; nn < sizeof k; nn += 1999) {
        assert_int_equal(llmgwi_text_seam(k, sizeof k, n, nn, false), SIZE_MAX);
        n[nn - 1]++;
        if (nn > 20) assert_int_equal(llmgwi_text_seam(k, sizeof k, n, nn, false), 0);
        n[nn - 1]--;
    }
    assert_int_equal(llmgwi_text_seam(k, sizeof k, n, sizeof k, false), sizeof k);
    assert_int_equal(llmgwi_text_seam(k, sizeof k, n, sizeof n, false), sizeof k);
    n[100000]++;
    assert_int_equal(llmgwi_text_seam(k, sizeof k, n, sizeof n, false), 0);
}

static unsigned roll(unsigned *seed, unsigned below) {
    *seed = *seed * 1103515245u + 12345;
    return (*seed >> 16) % below;
}

/* Sentences of random words: 16 bytes do not come twice. */
static size_t story(unsigned *seed, char *out, size_t sentences, size_t *ends) {
    size_t n = 0;
    for (size_t i = 0; i < sentences; i++) {
        for (unsigned words = 3 + roll(seed, 6); words; words--) {
            for (unsigned letters = 4 + roll(seed, 6); letters; letters--)
                out[n++] = (char)('a' + roll(seed, 26));
            out[n++] = ' ';
        }
        out[n - 1] = '.';
        ends[i] = n;
        out[n++] = ' ';
    }
    return n;
}

/* What is dropped is asked after each piece until it is known. */
static size_t seam_pieces(unsigned *seed, const char *k, size_t kn, const char *n, size_t nn) {
    for (size_t at = 0; at < nn;) {
        at += 1 + roll(seed, 12);
        if (at > nn) at = nn;
        size_t drop = llmgwi_text_seam(k, kn, n, at, at == nn);
        if (drop != SIZE_MAX) return drop;
    }
    return SIZE_MAX;
}

static void test_seam_random(void **state) {
    (void)state;
    static char text[8192], again[8192];
    size_t ends[20], repeated = 0;
    for (unsigned round = 0, seed = 5; round < 300; round++) {
        size_t n = story(&seed, text, 20, ends);
        for (size_t cut = 0; cut < 19; cut++) {
            size_t kn = ends[cut], back = 1 + roll(&seed, (unsigned)kn), from = kn - back;
            assert_int_equal(seam_pieces(&seed, text, kn, text + kn, n - kn), 0);
            while (from > 0 && text[from - 1] != ' ') from--;
            back = kn - from;
            again[0] = again[1] = '\n';
            memcpy(again + 2, text + from, n - from);
            size_t want = back >= (from ? 16 : 8) && back <= LLMGWI_TEXT_SEAM ? back : 0;
            repeated += want > 0;
            assert_int_equal(seam_pieces(&seed, text, kn, again + 2, n - from), want);
            assert_int_equal(seam_pieces(&seed, text, kn, again, n - from + 2), want ? want + 2 : 0);
        }
    }
    assert_true(repeated > 3000);
}

/* The same, said slowly. */
static size_t seam_slow(const char *k, size_t kn, const char *n, size_t nn, bool whole) {
    for (size_t i = 0; i + (i ? 16 : 8) <= kn; i++) {
        size_t tail = kn - i, m = nn < tail ? nn : tail;
        bool inside = i > 0 && k[i - 1] != ' ' && k[i] != ' ';
        if (inside || memcmp(k + i, n, m) != 0) continue;
        if (m == tail) return tail;
        if (!whole) return SIZE_MAX;
    }
    return 0;
}

static void test_seam_slow(void **state) {
    (void)state;
    char k[120], n[120];
    size_t kinds[3] = {0, 0, 0};
    for (unsigned round = 0, seed = 9; round < 200000; round++) {
        size_t kn = 1 + roll(&seed, 100), nn = 1 + roll(&seed, 60), from = roll(&seed, (unsigned)kn);
        for (size_t i = 0; i < kn; i++) k[i] = "aab "[roll(&seed, 4)];
        for (size_t i = 0; i < nn; i++) n[i] = from + i < kn ? k[from + i] : "aab "[roll(&seed, 4)];
        k[0] = k[kn - 1] = n[0] = 'a';
        bool whole = roll(&seed, 2);
        size_t want = seam_slow(k, kn, n, nn, whole);
        assert_int_equal(seam_n(k, kn, n, nn, whole), want);
        kinds[want == 0 ? 0 : want == SIZE_MAX ? 1 : 2]++;
    }
    assert_true(kinds[0] > 1000 && kinds[1] > 1000 && kinds[2] > 1000);
}

/* ---- tokens ---- */

typedef struct counted {
    int tokens; /* o200k_base */
    const char *text;
} counted;

static const counted counts[] = {
    {22,
     "The quick brown fox jumps over the lazy dog, and nobody in the whole village seems to mind very much."},
    {32, "Photosynthesis is the process by which green plants convert sunlight, water and carbon dioxide "
         "into oxygen and energy-rich glucose. It takes place in the chloroplasts."},
    {23, "My card was declined at the supermarket yesterday even though I have enough money in my account. "
         "What should I do?"},
    {48, "for (size_t i = 0; i < count; i++) {\n    if (items[i].size > max) return llmgw_fail(error, "
         "LLMGW_E_ARGUMENT);\n    total += items[i].size;\n}\n"},
    {33, "def read_lines(path):\n    with open(path, encoding=\"utf-8\") as file:\n        return "
         "[line.strip() for line in file if line.strip()]\n"},
    {38, "const response = await fetch(`${baseUrl}/v1/models`, { headers: { Authorization: `Bearer ${key}` } "
         "});\nif (!response.ok) throw new Error(response.statusText);\n"},
    {77, "{\"id\": \"chatcmpl-123\", \"object\": \"chat.completion\", \"created\": 1677652288, \"choices\": "
         "[{\"index\": 0, \"message\": {\"role\": \"assistant\", \"content\": \"Hello there\"}, "
         "\"finish_reason\": \"stop\"}], \"usage\": {\"prompt_tokens\": 9, \"completion_tokens\": 12}}"},
    {40, "\xE4\xBA\xBA\xE5\xB7\xA5\xE6\x99\xBA\xE8\x83\xBD\xE6\x98\xAF\xE8\xAE\xA1\xE7\xAE\x97\xE6\x9C\xBA"
         "\xE7\xA7\x91\xE5\xAD\xA6\xE7\x9A\x84\xE4\xB8\x80\xE4\xB8\xAA\xE5\x88\x86\xE6\x94\xAF\xEF\xBC\x8C"
         "\xE5\xAE\x83\xE8\xAF\x95\xE5\x9B\xBE\xE4\xBA\x86\xE8\xA7\xA3\xE6\x99\xBA\xE8\x83\xBD\xE7\x9A\x84"
         "\xE5\xAE\x9E\xE8\xB4\xA8\xEF\xBC\x8C\xE5\xB9\xB6\xE7\x94\x9F\xE4\xBA\xA7\xE5\x87\xBA\xE4\xB8\x80"
         "\xE7\xA7\x8D\xE6\x96\xB0\xE7\x9A\x84\xE8\x83\xBD\xE4\xBB\xA5\xE4\xBA\xBA\xE7\xB1\xBB\xE6\x99\xBA"
         "\xE8\x83\xBD\xE7\x9B\xB8\xE4\xBC\xBC\xE7\x9A\x84\xE6\x96\xB9\xE5\xBC\x8F\xE5\x81\x9A\xE5\x87\xBA"
         "\xE5\x8F\x8D\xE5\xBA\x94\xE7\x9A\x84\xE6\x99\xBA\xE8\x83\xBD\xE6\x9C\xBA\xE5\x99\xA8\xE3\x80\x82"},
    {25, "Der Bundestag hat am Donnerstag ein Gesetz beschlossen, das den Ausbau der erneuerbaren Energien "
         "deutlich beschleunigen soll."},
    {24, "\xD0\x9C\xD0\xBE\xD1\x81\xD0\xBA\xD0\xB2\xD0\xB0 "
         "\xD1\x8F\xD0\xB2\xD0\xBB\xD1\x8F\xD0\xB5\xD1\x82\xD1\x81\xD1\x8F "
         "\xD1\x81\xD1\x82\xD0\xBE\xD0\xBB\xD0\xB8\xD1\x86\xD0\xB5\xD0\xB9 "
         "\xD0\xA0\xD0\xBE\xD1\x81\xD1\x81\xD0\xB8\xD0\xB8 \xD0\xB8 "
         "\xD0\xBA\xD1\x80\xD1\x83\xD0\xBF\xD0\xBD\xD0\xB5\xD0\xB9\xD1\x88\xD0\xB8\xD0\xBC \xD0\xBF\xD0\xBE "
         "\xD1\x87\xD0\xB8\xD1\x81\xD0\xBB\xD0\xB5\xD0\xBD\xD0\xBD\xD0\xBE\xD1\x81\xD1\x82\xD0\xB8 "
         "\xD0\xBD\xD0\xB0\xD1\x81\xD0\xB5\xD0\xBB\xD0\xB5\xD0\xBD\xD0\xB8\xD1\x8F "
         "\xD0\xB3\xD0\xBE\xD1\x80\xD0\xBE\xD0\xB4\xD0\xBE\xD0\xBC "
         "\xD1\x81\xD1\x82\xD1\x80\xD0\xB0\xD0\xBD\xD1\x8B, "
         "\xD1\x80\xD0\xB0\xD1\x81\xD0\xBF\xD0\xBE\xD0\xBB\xD0\xBE\xD0\xB6\xD0\xB5\xD0\xBD\xD0\xBD\xD1\x8B"
         "\xD0\xBC \xD0\xBD\xD0\xB0 \xD1\x80\xD0\xB5\xD0\xBA\xD0\xB5 "
         "\xD0\x9C\xD0\xBE\xD1\x81\xD0\xBA\xD0\xB2\xD0\xB5."},
    {32,
     "\xE5\x90\xBE\xE8\xBC\xA9\xE3\x81\xAF\xE7\x8C\xAB\xE3\x81\xA7\xE3\x81\x82\xE3\x82\x8B\xE3\x80\x82\xE5"
     "\x90\x8D\xE5\x89\x8D\xE3\x81\xAF\xE3\x81\xBE\xE3\x81\xA0\xE7\x84\xA1\xE3\x81\x84\xE3\x80\x82\xE3\x81"
     "\xA9\xE3\x81\x93\xE3\x81\xA7\xE7\x94\x9F\xE3\x82\x8C\xE3\x81\x9F\xE3\x81\x8B\xE3\x81\xA8\xE3\x82\x93"
     "\xE3\x81\xA8\xE8\xA6\x8B\xE5\xBD\x93\xE3\x81\x8C\xE3\x81\xA4\xE3\x81\x8B\xE3\x81\xAC\xE3\x80\x82"},
    {20, "Le chat dort sur le canap\xC3\xA9 pendant que les \xC3\xA9l\xC3\xA8ves \xC3\xA9tudient la "
         "g\xC3\xA9ographie de la r\xC3\xA9gion."},
};

static void test_tokens_samples(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        int64_t got = tokens(counts[i].text, strlen(counts[i].text));
        if (got * 100 < counts[i].tokens * 75 || got * 100 > counts[i].tokens * 125)
            fail_msg("%d tokens, estimated %d: %s", counts[i].tokens, (int)got, counts[i].text);
    }
}

static void test_tokens_edges(void **state) {
    (void)state;
    static char text[3000];
    assert_int_equal(tokens("", 0), 0);
    assert_int_equal(tokens("a", 1), 1);
    assert_int_equal(tokens(" \n", 2), 1);
    assert_int_equal(tokens("1234567", 7), 3);
    static const counted exact[] = {
        {2, "foo.bar"}, {3, "foo . bar"},        {3, "a b c"},        {2, "getName"},
        {4, "x 12345"}, {4, "x  = y"},           {2, "x\n\n"},        {4, "a\n  b"},
        {1, "..."},     {3, "a \xE2\x80\x94 b"}, {1, "\xE5\xA5\xBD"}, {5, "(\"a\": 1"}};
    for (size_t i = 0; i < sizeof exact / sizeof exact[0]; i++)
        if (tokens(exact[i].text, strlen(exact[i].text)) != exact[i].tokens)
            fail_msg("%d, not %d: %s", (int)tokens(exact[i].text, strlen(exact[i].text)), exact[i].tokens,
                     exact[i].text);
    memset(text, '-', sizeof text);
    assert_in_range(tokens(text, sizeof text), 20, 300);
    memset(text, '\xFF', sizeof text);
    assert_in_range(tokens(text, sizeof text), 20, 6000);
    memset(text, 'a', sizeof text);
    assert_in_range(tokens(text, sizeof text), 300, 1500);
    for (unsigned round = 0, seed = 3; round < 2000; round++) {
        size_t n = soup(&seed, text, 20 + seed % 270);
        assert_in_range(tokens(text, n), n / 8, n + 1);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_ends_plain),        cmocka_unit_test(test_ends_abbreviations),
    cmocka_unit_test(test_ends_lower_case),   cmocka_unit_test(test_ends_quotes),
    cmocka_unit_test(test_ends_scripts),      cmocka_unit_test(test_ends_lines),
    cmocka_unit_test(test_ends_code),         cmocka_unit_test(test_ends_long),
    cmocka_unit_test(test_ends_any_cut),      cmocka_unit_test(test_seam_plain),
    cmocka_unit_test(test_seam_longest),      cmocka_unit_test(test_seam_characters),
    cmocka_unit_test(test_seam_whole_prefix), cmocka_unit_test(test_seam_random),
    cmocka_unit_test(test_seam_slow),         cmocka_unit_test(test_tokens_samples),
    cmocka_unit_test(test_tokens_edges),
};

int main(void) { return cmocka_run_group_tests_name("text", tests, NULL, NULL); }
