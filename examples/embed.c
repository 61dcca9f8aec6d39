/* embed.c - which of these sentences is nearest to a question?

       cc -I. examples/embed.c -o embed -lcurl -llmdb -lxxhash -lpthread -lm
       OPENAI_API_KEY=... ./embed "How do I get my money back?"
       GEMINI_API_KEY=... LLMGW_MODEL=gemini/gemini-embedding-001 ./embed

   The texts of one call become as many requests as the provider's limits ask for; the order is kept. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const sentences[] = {
    "A refund is paid to your account within five days.",
    "The shop is open from nine to six.",
    "Parcels leave our house every evening.",
    "You reach us by telephone or letter.",
};
enum { COUNT = sizeof sentences / sizeof *sentences };

static llmgw_vectors *vectors_of(llmgw *gw, const char *const *texts, size_t count, llmgw_purpose purpose) {
    llmgw_embed_request request = {.texts = texts, .text_count = count, .purpose = purpose};
    request.model = getenv("LLMGW_MODEL") ? getenv("LLMGW_MODEL") : "openai/text-embedding-3-small";
    llmgw_vectors *vectors = llmgw_embed(gw, &request); /* never NULL */
    if (vectors->error.code) {
        fprintf(stderr, "embed: %s\n", vectors->error.text);
        exit(1);
    }
    return vectors;
}

int main(int argc, char **argv) {
    const char *question = argc > 1 ? argv[1] : "When is a refund paid?";
    llmgw_options options = {.config_path = getenv("LLMGW_CONFIG")};
    llmgw *gw = llmgw_open(&options, NULL);

    llmgw_vectors *all = vectors_of(gw, sentences, COUNT, LLMGW_PURPOSE_DOCUMENT);
    llmgw_vectors *one = vectors_of(gw, &question, 1, LLMGW_PURPOSE_QUERY);
    for (size_t i = 0; i < all->count; i++) {
        double cosine = 0; /* the vectors have length 1 */
        for (size_t d = 0; d < all->dim; d++) cosine += all->values[i * all->dim + d] * one->values[d];
        printf("%6.3f  %s\n", cosine, sentences[i]);
    }
    printf("%lld tokens, %zu numbers each, %s%.9f USD\n", (long long)all->usage.input, all->dim,
           all->cost.known ? "" : "cost unknown: ", (double)all->cost.pico_usd / 1e12);
    llmgw_vectors_free(all);
    llmgw_vectors_free(one);
    llmgw_close(gw);
    return 0;
}
