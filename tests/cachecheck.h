/* cachecheck.h - walks all tables of a store and says what disagrees: what an entry says of itself, where the
   number of an entry leads, what the index knows, classes and their members, signatures. */
#ifndef CACHECHECK_H
#define CACHECHECK_H

#include "unit.h"

typedef struct cachecheck_sum {
    size_t entries, asks, wheres, classes, members, signatures, problems;
} cachecheck_sum;

#define cachecheck_bad(sum, ...)                                                                             \
    do {                                                                                                     \
        print_error("store: " __VA_ARGS__);                                                                  \
        print_error("\n");                                                                                   \
        (sum)->problems++;                                                                                   \
    } while (0)

static llmgwi_base_str cachecheck_number(const uint64_t *number) {
    return llmgwi_base_view((const char *)number, sizeof *number);
}

static bool cachecheck_is_member(llmgwi_store_txn *txn, uint64_t cls, uint64_t entry) {
    llmgwi_store_cursor cursor;
    llmgwi_base_str key = cachecheck_number(&cls), value = llmgwi_base_cstr("");
    bool found = false;
    if (!llmgwi_store_cursor_open(txn, LLMGWI_STORE_MEMBER, &cursor)) return false;
    for (bool on = llmgwi_store_move(&cursor, LLMGWI_STORE_AT, &key, &value); on && !found;
         on = llmgwi_store_move(&cursor, LLMGWI_STORE_NEXT_DUP, &key, &value))
        found = value.n == sizeof entry && memcmp(value.p, &entry, sizeof entry) == 0;
    llmgwi_store_cursor_close(&cursor);
    return found;
}

/* One ENTRY: its form is the key's, its number leads back, its class has it, the index has it. */
static void cachecheck_entry(llmgwi_store_txn *txn, llmgwi_base_str key, llmgwi_base_str value,
                             cachecheck_sum *sum) {
    llmgwi_cache_record record;
    llmgwi_cache_where where;
    llmgwi_base_str ask;
    unsigned char digest[16];
    llmgwi_base_buf plain;
    sum->entries++;
    llmgwi_base_buf_init(&plain, &unit_mem, SIZE_MAX / 4);
    if (llmgwi_store_sealed(txn->store)) {
        if (!llmgwi_store_unseal(txn->store, key, value, &plain))
            cachecheck_bad(sum, "an entry cannot be unsealed");
        value = llmgwi_base_buf_str(&plain);
    }
    if (key.n != 16 || !llmgwi_cache_record_read(value, &record)) {
        cachecheck_bad(sum, "an entry is damaged");
    } else {
        unsigned long long id = record.head.id;
        llmgwi_store_digest(txn->store, record.form.p, record.form.n, digest);
        if (memcmp(digest, key.p, 16) != 0) cachecheck_bad(sum, "entry %llu is under another's key", id);
        if (!llmgwi_cache_where_of(txn, record.head.id, &where) || memcmp(where.key, key.p, 16) != 0)
            cachecheck_bad(sum, "the number of entry %llu does not lead to it", id);
        if (record.head.answer_class && !cachecheck_is_member(txn, record.head.answer_class, record.head.id))
            cachecheck_bad(sum, "entry %llu is no member of its class", id);
        if (!record.head.answer_class != !record.head.ask_id)
            cachecheck_bad(sum, "entry %llu has a class and no question, or a question and no class", id);
        if (record.head.ask_id) {
            sum->asks++;
            if (!llmgwi_store_get(txn, LLMGWI_STORE_ASK, cachecheck_number(&record.head.ask_id), &ask))
                cachecheck_bad(sum, "the index does not know entry %llu", id);
        }
    }
    llmgwi_base_buf_free(&plain);
}

/* One record of CLASS: of an entry, or a class with as many members as it says. */
static void cachecheck_class(llmgwi_store_txn *txn, llmgwi_base_str key, llmgwi_base_str value,
                             cachecheck_sum *sum) {
    uint64_t number = 0, members = 0;
    llmgwi_cache_class cls;
    llmgwi_store_cursor cursor;
    if (key.n == sizeof number) memcpy(&number, key.p, sizeof number);
    unsigned long long shown = number & ~LLMGWI_CACHE_ENTRY_KEY;
    if (number & LLMGWI_CACHE_ENTRY_KEY) {
        llmgwi_cache_where where;
        sum->wheres++;
        memcpy(&where, value.p, sizeof where);
        llmgwi_base_str entry;
        if (!llmgwi_store_get(txn, LLMGWI_STORE_ENTRY, llmgwi_base_view((const char *)where.key, 16), &entry))
            cachecheck_bad(sum, "number %llu leads to no entry", shown);
        return;
    }
    sum->classes++;
    memcpy(&cls, value.p, sizeof cls);
    llmgwi_base_str at = cachecheck_number(&number), dup = llmgwi_base_cstr("");
    if (!llmgwi_store_cursor_open(txn, LLMGWI_STORE_MEMBER, &cursor)) return;
    for (bool on = llmgwi_store_move(&cursor, LLMGWI_STORE_AT, &at, &dup); on;
         on = llmgwi_store_move(&cursor, LLMGWI_STORE_NEXT_DUP, &at, &dup)) {
        uint64_t entry = 0;
        llmgwi_cache_where where;
        memcpy(&entry, dup.p, sizeof entry);
        members++;
        if (!llmgwi_cache_where_of(txn, entry, &where))
            cachecheck_bad(sum, "class %llu has member %llu that is gone", shown, (unsigned long long)entry);
    }
    llmgwi_store_cursor_close(&cursor);
    sum->members += members;
    if (members != cls.members)
        cachecheck_bad(sum, "class %llu has %llu members, not %llu", shown, (unsigned long long)members,
                       (unsigned long long)cls.members);
}

static void cachecheck_walk(llmgwi_store_txn *txn, int table, cachecheck_sum *sum,
                            void (*visit)(llmgwi_store_txn *, llmgwi_base_str, llmgwi_base_str,
                                          cachecheck_sum *)) {
    llmgwi_store_cursor cursor;
    llmgwi_base_str key = llmgwi_base_cstr(""), value = llmgwi_base_cstr("");
    if (!llmgwi_store_cursor_open(txn, table, &cursor)) return;
    for (bool on = llmgwi_store_move(&cursor, LLMGWI_STORE_FIRST, &key, &value); on;
         on = llmgwi_store_move(&cursor, LLMGWI_STORE_NEXT, &key, &value))
        visit(txn, key, value, sum);
    llmgwi_store_cursor_close(&cursor);
}

static void cachecheck_tail(llmgwi_store_txn *txn, llmgwi_base_str key, llmgwi_base_str value,
                            cachecheck_sum *sum) {
    llmgwi_base_str ask;
    uint64_t id = 0;
    (void)key;
    if (value.n != 40) {
        cachecheck_bad(sum, "a signature has %zu bytes", value.n);
        return;
    }
    for (int i = 0; i < 8; i++) id = id << 8 | (unsigned char)value.p[i];
    if (id >> 63) return; /* a removed one in a block */
    sum->signatures++;
    if (!llmgwi_store_get(txn, LLMGWI_STORE_ASK, cachecheck_number(&id), &ask))
        cachecheck_bad(sum, "signature %llu has no question", (unsigned long long)id);
}

static void cachecheck_block(llmgwi_store_txn *txn, llmgwi_base_str key, llmgwi_base_str value,
                             cachecheck_sum *sum) {
    if (value.n % 40 != 0) cachecheck_bad(sum, "a block has %zu bytes", value.n);
    for (size_t i = 0; i + 40 <= value.n; i += 40)
        cachecheck_tail(txn, key, llmgwi_base_view(value.p + i, 40), sum);
}

/* Fails the test when anything disagrees. */
UNIT_UNUSED static cachecheck_sum cachecheck(llmgwi_store *store) {
    llmgwi_store_txn txn;
    cachecheck_sum sum;
    memset(&sum, 0, sizeof sum);
    assert_true(llmgwi_store_read(store, &txn));
    cachecheck_walk(&txn, LLMGWI_STORE_ENTRY, &sum, cachecheck_entry);
    cachecheck_walk(&txn, LLMGWI_STORE_CLASS, &sum, cachecheck_class);
    cachecheck_walk(&txn, LLMGWI_STORE_TAIL, &sum, cachecheck_tail);
    cachecheck_walk(&txn, LLMGWI_STORE_BLOCK, &sum, cachecheck_block);
    if (sum.wheres != sum.entries)
        cachecheck_bad(&sum, "%zu entries and %zu numbers of entries", sum.entries, sum.wheres);
    if (sum.members != sum.asks)
        cachecheck_bad(&sum, "%zu members of classes and %zu questions", sum.members, sum.asks);
    if (llmgwi_store_count(&txn, LLMGWI_STORE_ASK) != sum.asks)
        cachecheck_bad(&sum, "the index knows %llu questions, entries have %zu",
                       (unsigned long long)llmgwi_store_count(&txn, LLMGWI_STORE_ASK), sum.asks);
#ifndef CACHECHECK_NO_SIGNATURES
    if (sum.signatures != sum.asks)
        cachecheck_bad(&sum, "%zu signatures and %zu questions", sum.signatures, sum.asks);
#endif
    (void)llmgwi_store_end(&txn, false);
    assert_int_equal(sum.problems, 0);
    return sum;
}

#endif
