/* A file of prices to a book.
     make build/fuzz/fuzz_prices && build/fuzz/fuzz_prices build/fuzz/corpus-prices tests/corpus/prices
   Input: the text. What must hold:
     - read in bites of one row it is the same book, or the same error, as read at once
     - a book has a price in every row, none below zero or above LLMGWI_PRICE_MAX, in canonical order
     - rates packed and unpacked are the same; a book has no changes against itself, and is accepted after itself
     - an error can be shown; all memory is given back */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "fuzz_main.h"

static llmgwi_price_book *read_all(const llmgwi_base_mem *mem, const uint8_t *data, size_t size,
                                   const llmgwi_price_book *old, size_t bite, llmgw_error *error) {
    llmgwi_base_buf text;
    memset(error, 0, sizeof *error);
    llmgwi_base_buf_init(&text, mem, (size_t)64 << 20);
    FUZZ_CHECK(llmgwi_base_buf_add(&text, data, size));
    llmgwi_price_load *load = llmgwi_price_load_new(mem, &text);
    FUZZ_CHECK(load);
    while (bite && llmgwi_price_load_step(load, bite)) continue;
    return llmgwi_price_load_end(load, old, error);
}

static void check_rates(const llmgwi_price_rates *rates) {
    llmgwi_price_entry entries[LLMGWI_PRICE_ENTRIES];
    unsigned char bytes[LLMGWI_PRICE_PACKED], again[LLMGWI_PRICE_PACKED];
    llmgwi_price_rates same;
    llmgw_usage usage;
    FUZZ_CHECK(rates->count > 0 && rates->count <= LLMGWI_PRICE_ENTRIES && rates->hash);
    for (size_t i = 0; i < rates->count; i++) {
        const llmgwi_price_entry *entry = &rates->entries[i], *last = entry - (i > 0);
        FUZZ_CHECK(entry->kind < LLMGWI_PRICE_KINDS && entry->tier <= LLMGW_TIER_PRIORITY);
        FUZZ_CHECK(entry->atto >= 0 && entry->atto <= LLMGWI_PRICE_MAX);
        FUZZ_CHECK(!i || last->kind < entry->kind ||
                   (last->kind == entry->kind &&
                    (last->tier < entry->tier ||
                     (last->tier == entry->tier && last->from_tokens < entry->from_tokens))));
    }
    size_t n = llmgwi_price_pack(rates, bytes);
    FUZZ_CHECK(llmgwi_price_unpack(bytes, n, entries, &same) && same.hash == rates->hash);
    FUZZ_CHECK(llmgwi_price_pack(&same, again) == n && memcmp(bytes, again, n) == 0);
    memset(&usage, 0, sizeof usage);
    usage.known = true;
    usage.input = INT64_MAX / 4;
    usage.output = usage.reasoning = usage.cached = usage.audio_input = (int64_t)9e15;
    for (int tier = 0; tier < 5; tier++) {
        usage.tier = (llmgw_tier)tier;
        llmgw_cost cost = llmgwi_price_cost(rates, &usage), other = llmgwi_price_cost(&same, &usage);
        FUZZ_CHECK(cost.pico_usd >= 0 && cost.pico_usd == other.pico_usd && cost.known == other.known);
        FUZZ_CHECK(cost.known || !cost.pico_usd);
    }
}

static void check_book(const llmgwi_price_book *book) {
    FUZZ_CHECK(book->count > 0 && book->count <= book->row_count && book->references == 1);
    for (size_t i = 0; i < book->row_count; i++) {
        llmgwi_price_rates rates;
        llmgwi_base_str name = llmgwi_price_name(book, &book->rows[i]);
        FUZZ_CHECK(name.n > 0 && name.n <= LLMGWI_PRICE_NAME && *llmgwi_price_slot(book, name) >= i + 1);
        llmgwi_price_read(book, &book->rows[i], &rates);
        check_rates(&rates);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_heap heap = {0};
    llmgwi_base_mem mem = {fuzz_alloc, &heap};
    llmgw_error error, other;
    llmgwi_price_book *book = read_all(&mem, data, size, NULL, 0, &error);
    llmgwi_price_book *same = read_all(&mem, data, size, book, 1, &other);
    FUZZ_CHECK(!book == !same && memcmp(&error, &other, sizeof error) == 0);
    if (book) {
        check_book(book);
        check_book(same);
        FUZZ_CHECK(error.code == LLMGW_OK && llmgwi_price_changes(book, same, NULL, NULL) == 0);
    } else {
        FUZZ_CHECK(error.code == LLMGW_E_CONFIG && error.text[0]);
        for (size_t i = 0, n = strlen(error.text), step; i < n; i += step)
            FUZZ_CHECK((step = fuzz_utf8(error.text + i, n - i)) > 0 && (unsigned char)error.text[i] >= ' ');
    }
    llmgwi_price_book_free(book, &mem);
    llmgwi_price_book_free(same, &mem);
    FUZZ_CHECK(heap.live == 0);
    return 0;
}
