/* What makes two like questions different, and whether two answers are the same. LLMGW_SHOW=1 prints each pair of
   adversarial.h that is judged wrong. */
#include "unit.h"

#include "adversarial.h"

static const char *veto(const char *a, const char *b) {
    llmgwi_text_facts x, y;
    llmgwi_text_facts_of(llmgwi_base_cstr(a), &x);
    llmgwi_text_facts_of(llmgwi_base_cstr(b), &y);
    const char *there = llmgwi_text_veto(&x, &y), *back = llmgwi_text_veto(&y, &x);
    assert_int_equal(there != NULL, back != NULL);
    return there;
}

static const char *unfit(const char *text) { return llmgwi_text_unfit(llmgwi_base_cstr(text)); }

static double alike(const char *a, const char *b) {
    double there = llmgwi_text_alike(llmgwi_base_cstr(a), llmgwi_base_cstr(b));
    double back = llmgwi_text_alike(llmgwi_base_cstr(b), llmgwi_base_cstr(a));
    assert_true(there >= 0 && there <= 1);
    assert_true(there - back < 1e-9 && back - there < 1e-9);
    return there;
}

/* ---- the pairs ---- */

static void show(const char *what, const adversarial *pair, const char *other) {
    if (getenv("LLMGW_SHOW")) print_message("  %s, %s: %s | %s\n", pair->kind, what, pair->question, other);
}

static void test_pairs(void **state) {
    size_t count = LLMGWI_BASE_COUNT(adversarials), caught = 0, lost = 0;
    (void)state;
    assert_true(count >= 420);
    for (size_t i = 0; i < count;) {
        const char *kind = adversarials[i].kind;
        size_t rows = 0, caught_here = 0, lost_here = 0;
        for (; i < count && strcmp(adversarials[i].kind, kind) == 0; i++, rows++) {
            const adversarial *pair = &adversarials[i];
            bool variant = veto(pair->question, pair->variant) != NULL,
                 twin = veto(pair->question, pair->twin) != NULL;
            if (!variant) show("not seen", pair, pair->variant);
            if (twin) show("vetoed", pair, pair->twin);
            caught_here += variant;
            lost_here += twin;
        }
        assert_true(rows >= 20);
        print_message("%-11s variants vetoed %zu of %zu, paraphrases %zu\n", kind, caught_here, rows,
                      lost_here);
        caught += caught_here;
        lost += lost_here;
    }
    print_message("all         variants vetoed %zu of %zu, paraphrases %zu\n", caught, count, lost);
    assert_true(caught * 100 >= count * 98);
    assert_true(lost * 100 <= count * 5);
}

static void test_pairs_fit(void **state) {
    size_t unfit_count = 0;
    (void)state;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(adversarials); i++)
        unfit_count += unfit(adversarials[i].question) || unfit(adversarials[i].twin);
    assert_true(unfit_count * 100 <= LLMGWI_BASE_COUNT(adversarials) * 2);
}

/* ---- one rule at a time ---- */

typedef struct rule {
    const char *why, *a, *b; /* why NULL: no veto */
} rule;

static const rule rules[] = {
    {"numbers", "rows of 1,000", "rows of 100"},
    {NULL, "pay 1,000 euros", "pay 1000 euros"},
    {NULL, "pay 3.50 euros", "pay 3.5 euros"},
    {"numbers", "use Python 3.10", "use Python 3.1"},
    {NULL, "two hundred and fifty rows", "250 rows"},
    {NULL, "three million people", "3,000,000 people"},
    {NULL, "a dozen eggs", "12 eggs"},
    {NULL, "a salary of 45k", "a salary of 45000"},
    {"numbers", "what is -5 plus 3", "what is 5 plus 3"},
    {NULL, "World War II planes", "World War 2 planes"},
    {"numbers", "how many eggs for 6", "how many eggs"},
    {NULL, "which one is better", "which is better"},
    {NULL, "on 2024-05-01", "on May 1, 2024"},
    {"numbers", "\xEF\xBC\x91\xEF\xBC\x92 rows", "13 rows"},
    {NULL, "\xEF\xBC\x91\xEF\xBC\x92 rows", "12 rows"},
    {"units", "is 5 kg much", "is 5 lb much"},
    {NULL, "is 5kg much", "is 5 kilograms much"},
    {"units", "save 10% of it", "save 10 dollars of it"},
    {"dates", "open on Monday", "open on Tuesday"},
    {"dates", "open on Monday", "is it open"},
    {NULL, "may I open it", "can I open it"},
    {"negation", "does it work", "does it not work"},
    {"negation", "does it work", "doesn\xE2\x80\x99t it work"},
    {NULL, "why does it not work", "why does it fail to work"},
    {NULL, "I don't know how to open it", "how do I open it"},
    {NULL, "are you not impressed", "are you unimpressed"},
    {"antonyms", "is it locked", "is it unlocked"},
    {"antonyms", "is it reliable", "is it unreliable"},
    {"antonyms", "prices increased", "prices decreased"},
    {"antonyms", "ways of buying shares", "ways of selling shares"},
    {NULL, "ways of raising it", "ways of increasing it"},
    {"operands", "from Lima to Oslo", "from Oslo to Lima"},
    {NULL, "from Lima to Oslo", "to Oslo from Lima"},
    {"operands", "is tea better than milk", "is milk better than tea"},
    {"operands", "what is 7 minus 2", "what is 2 minus 7"},
    {"operands", "salt without pepper", "pepper without salt"},
    {"entities", "who is Ann Miller", "who is Bob Miller"},
    {"entities", "the streets of paris", "the streets of london"},
    {NULL, "who is Ann Miller", "who is ann miller"},
    {NULL, "the streets of the United States", "the streets of the USA"},
    {NULL, "the rules of the World Chess Federation", "the rules of the WCF"},
    {"language", "how to sort in Java", "how to sort in Python"},
    {"language", "say it in French", "say it in German"},
    {"language", "say it in French", "say it"},
    {"format", "the list as JSON", "the list as XML"},
    {"format", "answer in a table", "answer me"},
    {"length", "explain it briefly", "explain it"},
    {"links", "what is on example.com", "what is on example.org"},
    {"links", "what is in main.c", "what is in main.h"},
    {"quotes", "what is \"abc\"", "what is \"abd\""},
    {NULL, "what is \"abc\"", "what is abc"},
    {"quotes", "what is `Foo`", "what is `foo`"},
    {"question", "why did it end", "when did it end"},
    {"negation", "\xE6\x88\x91\xE8\x83\xBD\xE8\xB5\xB0", "\xE6\x88\x91\xE4\xB8\x8D\xE8\x83\xBD\xE8\xB5\xB0"},
    {"negation", "darf man hier parken", "darf man hier nicht parken"},
    {"negation", "puis-je partir", "je ne peux pas partir"},
    {"negation", "puedo pagar con tarjeta", "nunca puedo pagar con tarjeta"},
    {NULL, "What Is The Best Way To Bake Bread", "what is the best way to bake bread"},
    {NULL, "convert miles to yards and yards to miles", "convert miles to yards, and yards to miles"},
    {NULL, "is 5 kg more than 5 lb", "is five kg more than five lb"},
    {NULL, "Wie ist die Miete", "Wie ist die Miete von der Wohnung"},
    {NULL, "What Makes Fresh Bread Rise Slowly Overnight", "what makes bread rise slowly"},
    {NULL, "", ""},
};

static void test_rules(void **state) {
    (void)state;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rules); i++) {
        const char *why = veto(rules[i].a, rules[i].b), *want = rules[i].why;
        if (want ? !why || strcmp(why, want) != 0 : why != NULL)
            fail_msg("%s | %s: %s, not %s", rules[i].a, rules[i].b, why ? why : "none", want ? want : "none");
        assert_null(veto(rules[i].a, rules[i].a));
        assert_null(veto(rules[i].b, rules[i].b));
    }
}

/* ---- what is never fuzzy ---- */

static void test_unfit(void **state) {
    char pasted[4096];
    (void)state;
    assert_string_equal(unfit("What is the weather today?"), "relative time");
    assert_string_equal(unfit("who won last week"), "relative time");
    assert_string_equal(unfit("the current price of gold"), "relative time");
    assert_string_equal(unfit("Wie ist das Wetter heute?"), "relative time");
    assert_string_equal(unfit("\xE4\xBB\x8A\xE5\xA4\xA9\xE7\x9A\x84\xE5\xA4\xA9\xE6\xB0\x94"),
                        "relative time");
    assert_string_equal(unfit("fix this\n```\nint x;\n```"), "code");
    assert_string_equal(unfit("for (int i = 0; i < n; i++) { a[i] = b[i]; }"), "code");
    assert_string_equal(unfit("sum these\n1,2,\n3,4,\n5,6,\n"), "code");
    assert_string_equal(unfit("Should I buy gold today?"), "relative time");
    assert_string_equal(unfit("What happened yesterday?"), "relative time");
    assert_null(unfit("I found my lost card today, how do I use it again?")); /* told, not asked */
    assert_null(unfit("We ordered it two weeks ago and it has not come"));
    assert_null(unfit("Who sings \"Yesterday\"?"));
    assert_null(unfit("How do I open a current account?"));
    assert_null(unfit("What is `strlen` (and how long does it take)?"));
    assert_null(unfit(""));
    memset(pasted, 'a', sizeof pasted);
    for (size_t i = 8; i < sizeof pasted; i += 9) pasted[i] = ' ';
    pasted[LLMGWI_TEXT_GUARD_LONG + 1] = 0;
    assert_string_equal(unfit(pasted), "long text");
    pasted[LLMGWI_TEXT_GUARD_LONG] = 0;
    assert_null(unfit(pasted));
}

/* ---- bounds ---- */

static void test_bounds(void **state) {
    llmgwi_text_facts facts, few;
    static char text[1 << 17];
    (void)state;
    assert_true(sizeof(llmgwi_text_facts) <= LLMGWI_TEXT_FACTS_BYTES);
    assert_true(LLMGWI_BASE_COUNT(llmgwi_text_guard_rows) < 1024);
    for (size_t i = 0; i < sizeof text; i++) text[i] = i % 4 == 3 ? ' ' : (char)('a' + i / 4 % (23 + i % 3));
    llmgwi_text_facts_of(llmgwi_base_view(text, sizeof text), &facts);
    assert_true(facts.cut);
    assert_int_equal(facts.count, LLMGWI_TEXT_FACTS);
    llmgwi_text_facts_of(llmgwi_base_cstr("abc"), &few);
    assert_string_equal(llmgwi_text_veto(&facts, &few), "long text");
    assert_true(llmgwi_text_entry_count > 1000);
    assert_true(llmgwi_text_entry_count < LLMGWI_TEXT_GUARD_SLOTS / 4 * 3);
    for (size_t row = 0; row < LLMGWI_BASE_COUNT(llmgwi_text_guard_rows); row++) {
        size_t sides = 1;
        for (const char *p = llmgwi_text_guard_rows[row].sides; *p; p++) sides += *p == '/';
        assert_true(sides < 256);
        if (row == LLMGWI_TEXT_ROW_NUMBER) assert_int_equal(sides, LLMGWI_BASE_COUNT(llmgwi_text_numbers));
        if (row == LLMGWI_TEXT_ROW_TIMES) assert_int_equal(sides, LLMGWI_BASE_COUNT(llmgwi_text_factors));
    }
    for (size_t n = 0; n < 64; n++) { /* ends anywhere, also inside a character */
        static const char bytes[] =
            "'\xE4\xBB\x8A\"\xC3\x89t\xC3\xA9 3.\"-5,000 `a` C++ a@b.c \xF0\x9F\x98\x80 \xFF x";
        char *cut = (char *)malloc(n + 1);
        size_t m = n < sizeof bytes ? n : sizeof bytes - 1;
        assert_non_null(cut);
        memcpy(cut, bytes, m);
        llmgwi_text_facts_of(llmgwi_base_view(cut, m), &facts);
        assert_null(llmgwi_text_veto(&facts, &facts));
        free(cut);
    }
}

/* ---- answers ---- */

static void test_alike(void **state) {
    (void)state;
    assert_true(alike("Your card arrives in 5 days.", "It takes five days for the card to arrive.") > .75);
    assert_true(alike("The capital of France is Paris.", "Paris is the capital of France.") > .99);
    assert_true(alike("Go to settings and press reset.", "Press reset in the settings.") > .8);
    assert_true(alike("Your card arrives in 5 days.", "Your card arrives in 7 days.") <= .2);
    assert_true(alike("Yes, you can cancel it.", "No, you cannot cancel it.") <= .2);
    assert_true(alike("Press start to open it.", "Press start to close it.") <= .2);
    assert_true(alike("It was written by Ann Smith.", "It was written by Bob Jones.") <= .2);
    assert_true(alike("Bake the bread for an hour.", "The river flows through many valleys.") < .1);
    assert_true(alike("Paris", "The capital of France is Paris.") > .3);
    assert_true(alike("", "Something else.") < .01);
    assert_true(alike("", "") > .99);
    assert_true(alike("\xF0\x9F\x98\x80", "\xF0\x9F\x98\x81") < .01);
}

/* 16 MiB cost no more than 8 KB, and an end that was not seen is not the same. */
static void test_alike_long(void **state) {
    size_t n = (size_t)16 << 20;
    char *text = (char *)malloc(n);
    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < n; i++) text[i] = i % 7 == 6 ? ' ' : (char)('a' + (i / 7 * 5 + i % 7) % 26);
    int64_t before = llmgwi_base_now_us(NULL);
    double same = llmgwi_text_alike(llmgwi_base_view(text, n), llmgwi_base_view(text, n));
    double shorter = llmgwi_text_alike(llmgwi_base_view(text, n), llmgwi_base_view(text, n / 2));
    assert_true(llmgwi_base_now_us(NULL) - before < 1000000);
    assert_true(same > .8 && same < 1);
    assert_true(shorter < .5);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs),      cmocka_unit_test(test_pairs_fit), cmocka_unit_test(test_rules),
        cmocka_unit_test(test_unfit),      cmocka_unit_test(test_bounds),    cmocka_unit_test(test_alike),
        cmocka_unit_test(test_alike_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
