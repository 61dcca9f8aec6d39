/* Replies of embeddings, and what the batch APIs say: bytes of a provider.
     make build/fuzz/fuzz_embed && build/fuzz/fuzz_embed build/fuzz/corpus-embed tests/corpus/embed
   Input: a byte that picks what the bytes are ('0' a reply of vectors, '1' a batch, '2' and '3' a line of results, of
   openai and of anthropic), one for the cap on a reply ('.': large, else its value times 64), then the bytes.
   What must hold:
     - vectors are all of one length, finite, and within the cap; a good reply has as many as it says, without gaps
     - ids of batches are fit for a path and a name; counts and times are not negative
     - a result has an answer without an error, or an error that can be shown; it is billed as a batch
     - a false result comes with an error; all memory is given back */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "fuzz_main.h"

static fuzz_heap heap;
static const llmgwi_base_mem mem = {fuzz_alloc, &heap};

static void check_error(const llmgw_error *error) {
    size_t n = strlen(error->text);
    FUZZ_CHECK(error->code && n && n < sizeof error->text);
    for (size_t i = 0, step; i < n; i += step) FUZZ_CHECK((step = fuzz_utf8(error->text + i, n - i)) > 0);
}

static void fuzz_vectors(llmgwi_dialect_answer *answer, llmgwi_base_str body) {
    bool good = llmgwi_dialect_embed_reply(answer, body);
    FUZZ_CHECK(good == (answer->error.code == LLMGW_OK));
    FUZZ_CHECK(answer->text.n <= answer->max_bytes && answer->usage.input >= 0);
    if (!good) {
        check_error(&answer->error);
        return;
    }
    FUZZ_CHECK(answer->vectors > 0 && answer->vectors <= LLMGWI_DIALECT_EMBED_TEXTS);
    FUZZ_CHECK(answer->text.n % (answer->vectors * sizeof(float)) == 0);
    FUZZ_CHECK(answer->text.n / answer->vectors <= LLMGWI_DIALECT_EMBED_DIM * sizeof(float));
    FUZZ_CHECK(answer->text.n / answer->vectors >= sizeof(float));
    for (size_t i = 0; i < answer->text.n; i += sizeof(float)) {
        float value;
        memcpy(&value, answer->text.p + i, sizeof value);
        FUZZ_CHECK(value > -2e30f && value < 2e30f);
    }
}

static void check_id(const char *id) {
    size_t n = strlen(id);
    FUZZ_CHECK(n < 128);
    for (size_t i = 0; i < n; i++)
        FUZZ_CHECK((id[i] >= '0' && id[i] <= '9') || (id[i] >= 'A' && id[i] <= 'Z') ||
                   (id[i] >= 'a' && id[i] <= 'z') || id[i] == '_' || id[i] == '-');
}

static void fuzz_batch(llmgwi_base_str body) {
    llmgwi_dialect_batch batch;
    const llmgw_batch_info *info = &batch.info;
    bool good = llmgwi_dialect_batch_read(&batch, body, 32);
    check_id(batch.id);
    check_id(batch.output);
    check_id(batch.errors);
    FUZZ_CHECK(!good || batch.id[0]);
    FUZZ_CHECK((unsigned)info->state <= LLMGW_BATCH_CANCELLING);
    FUZZ_CHECK(info->total >= 0 && info->succeeded >= 0 && info->failed >= 0 && info->cancelled >= 0 &&
               info->expired >= 0);
    FUZZ_CHECK(info->created_s >= 0 && info->expires_s >= 0 && info->ended_s >= 0);
    size_t n = strlen(info->why);
    FUZZ_CHECK(n < sizeof info->why);
    for (size_t i = 0, step; i < n; i += step) FUZZ_CHECK((step = fuzz_utf8(info->why + i, n - i)) > 0);
}

static void fuzz_result(const char *name, llmgwi_dialect_answer *answer, llmgwi_base_str line) {
    llmgwi_dialect_result result;
    if (!llmgwi_dialect_result_read(&result, line, 32)) return;
    char *id = (char *)malloc(result.id.raw.n + 1);
    size_t n = llmgwi_json_decode(result.id, id);
    FUZZ_CHECK(n && n <= result.id.raw.n);
    free(id);
    llmgwi_dialect_result_answer(&result, llmgwi_dialect_find(name), answer);
    FUZZ_CHECK(answer->usage.tier == LLMGW_TIER_BATCH && answer->usage.input >= 0);
    FUZZ_CHECK(answer->text.n <= answer->max_bytes);
    if (answer->error.code)
        check_error(&answer->error);
    else
        FUZZ_CHECK(answer->ended && answer->finish != LLMGW_FINISH_NONE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static llmgwi_dialect_target target;
    llmgwi_dialect_answer answer;
    if (size < 2) return 0;
    char kind = (char)data[0];
    size_t cap = data[1] == '.' ? (size_t)1 << 22 : (size_t)data[1] * 64;
    llmgwi_base_str body = llmgwi_base_view((const char *)data + 2, size - 2);
    target.model = "m";
    target.flavour = kind == '3' ? "anthropic" : "openai";
    llmgwi_dialect_answer_init(&answer, &mem, &target, cap, 32);
    if (kind == '0')
        fuzz_vectors(&answer, body);
    else if (kind == '1')
        fuzz_batch(body);
    else
        fuzz_result(target.flavour, &answer, body);
    llmgwi_dialect_answer_free(&answer);
    FUZZ_CHECK(heap.live == 0);
    return 0;
}
