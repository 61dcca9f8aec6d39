/* Digests of four bits: keys and scopes of different requests collide all the time. A collision costs a miss and
   nothing else (law 8); no answer leaves its namespace (law 7). */
#define LLMGWI_STORE_WEAK_HASH 4
#include "cachecheck.h"

enum { QUESTIONS = 40, ROUNDS = 1200 };

/* What a provider would answer: no two requests alike. */
static const char *truth_of(int space, int question, char *out, size_t size) {
    snprintf(out, size, "Answer of %d to %c%c", space, 'a' + question % 26, 'a' + question / 26);
    return out;
}

static void one_request(llmgwi_cache *cache, int space, int question, uint64_t random, int *hits) {
    static const char *const things[] = {"invoice", "password", "passport", "kitchen", "umbrella",
                                         "bicycle", "server",   "ticket",   "garden",  "engine"};
    static const char *const forms[] = {"How do I renew my %s?", "Where is the %s?", "Who made my %s?",
                                        "Sell a %s"};
    char prompt[64], name[16], truth[64], start[16];
    llmgwi_cache_look look;
    llmgwi_cache_answer answer;
    llmgwi_base_arena arena;
    snprintf(prompt, sizeof prompt, forms[question % 4], things[question / 4 % 10]);
    snprintf(name, sizeof name, "user%d", space);
    llmgw_request request = unit_ask(prompt);
    request.cache_namespace = name;
    memset(&look, 0, sizeof look);
    llmgwi_base_arena_init(&arena, &unit_mem);
    assert_true(llmgwi_cache_look_init(cache, &look, &request, "m", 0));
    truth_of(space, question, truth, sizeof truth);
    if (llmgwi_cache_exact(cache, &look, &arena, &answer)) {
        assert_string_equal(answer.text.p, truth);
        ++*hits;
    } else if (llmgwi_cache_fuzzy(cache, &look, NULL, 0, random, &arena, &answer)) {
        snprintf(start, sizeof start, "Answer of %d ", space);
        assert_memory_equal(answer.text.p, start, strlen(start));
    } else {
        memset(&answer, 0, sizeof answer);
        answer.text = llmgwi_base_cstr(truth);
        answer.reasoning = answer.provider = answer.model = answer.model_echo = answer.id =
            llmgwi_base_cstr("");
        (void)llmgwi_cache_put(cache, &look, &answer);
    }
    llmgwi_cache_look_free(cache, &look);
    llmgwi_base_arena_free(&arena);
}

static void test_collisions(void **state) {
    char dir[] = "/tmp/llmgw_collide_XXXXXX", line[64];
    llmgw_store desc;
    llmgw_cache options;
    llmgw_error error;
    int hits = 0;
    (void)state;
    assert_non_null(mkdtemp(dir));
    memset(&desc, 0, sizeof desc);
    memset(&options, 0, sizeof options);
    desc.path = dir;
    desc.no_sync = true;
    options.semantic = true;
    options.similarity = llmgw_set(.4);
    options.max_entry_bytes = 65536;
    options.max_ask_bytes = 2000;
    llmgwi_store *store = llmgwi_store_open(&unit_mem, &desc, &error);
    assert_non_null(store);
    llmgwi_cache *cache = llmgwi_cache_open(&unit_mem, &llmgwi_base_real_clock, store, &options, 0);
    assert_non_null(cache);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        uint64_t r = llmgwi_base_mix(i);
        one_request(cache, (int)(r % 5), (int)(r / 5 % QUESTIONS), r, &hits);
        if (i % 2) (void)llmgwi_cache_duty(cache, 1000, true);
    }
    cachecheck_sum sum = cachecheck(store);
    print_message("%d hits, %zu entries under 16 keys\n", hits, sum.entries);
    assert_true(sum.entries <= 16 && sum.entries > 4);
    assert_true(hits > 0);
    llmgwi_cache_close(cache, false);
    llmgwi_store_close(store, false);
    snprintf(line, sizeof line, "rm -rf %s", dir);
    assert_int_equal(system(line), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_collisions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
