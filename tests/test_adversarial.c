/* Questions that are alike and have other answers, and questions in other words that have the same one, through the
 * whole cache: with a fixed similarity, so that only the guards and the likeness decide. At most 2 % of the first kind
 * are answered wrongly, at least 60 % of the second are answered. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include "adversarial.h"
#include "testing.h"
#include "group.h"

/* The guards do the work: this lets through whatever shares a few words. */
#define SIMILARITY 0.3

static char dir[64];

static llmgw_verdict ask(llmgw *gw, size_t row, const char *prompt) {
    char own[32]; /* each row by itself: what others share with it is not the question here */
    llmgw_request request;
    memset(&request, 0, sizeof request);
    snprintf(own, sizeof own, "row %zu", row);
    request.model = "openai/m";
    request.prompt = prompt;
    request.cache_namespace = own;
    request.cache = LLMGW_CACHE_READ_ONLY;
    llmgw_reply *reply = llmgw_chat(gw, &request);
    t_expect_code(reply, LLMGW_OK);
    llmgw_verdict verdict = reply->cached.verdict;
    llmgw_reply_free(reply);
    return verdict;
}

static void teach(llmgw *gw, size_t row, const char *prompt) {
    char own[32];
    llmgw_request request;
    memset(&request, 0, sizeof request);
    snprintf(own, sizeof own, "row %zu", row);
    request.model = "openai/m";
    request.prompt = prompt;
    request.cache_namespace = own;
    llmgw_reply_free(llmgw_chat(gw, &request));
}

static void alike_and_not_the_same(void **state) {
    llmgw_options options = t_calm();
    strcpy(dir, "/tmp/llmgw-adversarial-XXXXXX");
    assert_non_null(mkdtemp(dir));
    options.store.path = dir;
    options.store.no_sync = true;
    options.cache.on = options.cache.semantic = true;
    options.cache.similarity = llmgw_set(SIMILARITY);
    llmgw *gw = t_open(&provider, &options);
    size_t count = COUNT_OF(adversarials), wrong = 0, right = 0;
    assert_true(count >= 400);
    for (size_t i = 0; i < count; i++) teach(gw, i, adversarials[i].question);
    assert_int_equal(llmgw_flush(gw), LLMGW_OK);
    for (size_t i = 0; i < count; i++) {
        bool false_hit = ask(gw, i, adversarials[i].variant) == LLMGW_VERDICT_SEMANTIC;
        bool hit = ask(gw, i, adversarials[i].twin) >= LLMGW_VERDICT_EXACT;
        wrong += false_hit;
        right += hit;
        if (getenv("LLMGW_SHOW") && false_hit)
            printf("wrong: %s | %s\n", adversarials[i].question, adversarials[i].variant);
        if (getenv("LLMGW_SHOW") && !hit)
            printf("missed: %s | %s\n", adversarials[i].question, adversarials[i].twin);
    }
    printf("%zu pairs: %zu false hits (%.1f %%), %zu paraphrase hits (%.1f %%)\n", count, wrong,
           100.0 * (double)wrong / (double)count, right, 100.0 * (double)right / (double)count);
    assert_true(wrong * 100 <= count * 2);
    assert_true(right * 100 >= count * 60);
    llmgw_close(gw);
    t_remove_tree(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(alike_and_not_the_same)};
    return cmocka_run_group_tests_name("adversarial", tests, group_start, group_stop);
}
