/* What recorded usage costs, for cost.py: by the book that is argv[1], to the pico-dollar.
     body  ID DIALECT FLAVOUR KIND MODEL FILE        a recorded body; KIND: reply, stream
     usage ID FLAVOUR MODEL INPUT OUTPUT CACHED WRITE WRITE_1H REASONING AUDIO_IN AUDIO_OUT TIER
   (lines of stdin, cut by tabs); for each: ID KNOWN the nine numbers of usage, PRICED PICO SATURATED, and of
   the provider's own bill KNOWN PICO. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#define FIELDS 16

static const llmgwi_base_mem mem = {NULL, NULL};
static llmgwi_price_book *book;

static llmgwi_base_buf slurp(const char *path) {
    llmgwi_base_buf buf;
    static char part[1 << 16];
    size_t n;
    llmgwi_base_buf_init(&buf, &mem, (size_t)64 << 20);
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(2);
    }
    while ((n = fread(part, 1, sizeof part, file)) > 0) llmgwi_base_buf_add(&buf, part, n);
    fclose(file);
    return buf;
}

static void tell(const char *id, const char *flavour, const char *model, const llmgw_usage *usage,
                 llmgw_cost reported) {
    llmgwi_price_what what = {NULL, flavour, model};
    llmgwi_price_rates rates;
    bool found = llmgwi_price_find(book, &what, &rates) && rates.entries; /* the file's, not a built-in row */
    llmgw_cost cost = llmgwi_price_cost(found ? &rates : NULL, usage);
    const long long numbers[] = {usage->input,       usage->output,         usage->cached,
                                 usage->cache_write, usage->cache_write_1h, usage->reasoning,
                                 usage->audio_input, usage->audio_output,   (long long)usage->tier};
    printf("%s\t%d", id, usage->known);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(numbers); i++) printf("\t%lld", numbers[i]);
    printf("\t%d\t%lld\t%d\t%d\t%lld\n", cost.known, (long long)cost.pico_usd, cost.saturated, reported.known,
           (long long)reported.pico_usd);
}

typedef struct reading {
    const llmgwi_dialect *dialect;
    llmgwi_dialect_answer answer;
} reading;

static bool on_frame(void *user, llmgwi_base_str name, llmgwi_base_str data) {
    reading *r = (reading *)user;
    return r->answer.ended || r->dialect->event(&r->answer, name, data);
}

static void on_event(void *user, llmgw_event_kind kind, const llmgwi_dialect_piece *piece, int tool,
                     llmgwi_base_str bytes) {
    (void)user, (void)kind, (void)piece, (void)tool, (void)bytes;
}

static void body(char *const field[FIELDS]) {
    bool vectors = strcmp(field[2], "embeddings") == 0;
    const llmgwi_dialect_known *known = llmgwi_dialect_known_find(field[3], vectors ? NULL : field[2]);
    llmgwi_dialect_target target = {field[5], known ? known->name : field[3], 0, NULL};
    if (known) target.quirks = llmgwi_dialect_quirks_of(known->dialect, known->name, field[5], known->url);
    llmgwi_base_buf text = slurp(field[6]);
    reading r;
    memset(&r, 0, sizeof r);
    r.dialect =
        vectors ? &llmgwi_dialect_embedder_find(llmgwi_dialect_find("openai"), target.flavour, field[5])->wire
                : llmgwi_dialect_find(field[2]);
    llmgwi_dialect_answer_init(&r.answer, &mem, &target, (size_t)16 << 20, 128);
    if (strcmp(field[4], "stream") == 0) {
        llmgwi_frame frame;
        r.answer.sink = on_event;
        llmgwi_frame_init(&frame, &mem, (size_t)16 << 20, on_frame, &r);
        frame.kind = r.dialect->framing;
        if (llmgwi_frame_feed(&frame, text.p, text.n)) (void)llmgwi_frame_finish(&frame);
        llmgwi_frame_free(&frame);
    } else {
        (void)r.dialect->reply(&r.answer, llmgwi_base_buf_str(&text));
    }
    tell(field[1], field[3], field[5], &r.answer.usage, r.answer.reported);
    llmgwi_dialect_answer_free(&r.answer);
    llmgwi_base_buf_free(&text);
}

static void counted(char *const field[FIELDS]) {
    llmgw_usage usage;
    llmgw_cost none;
    int64_t *const to[] = {&usage.input,          &usage.output,    &usage.cached,      &usage.cache_write,
                           &usage.cache_write_1h, &usage.reasoning, &usage.audio_input, &usage.audio_output};
    memset(&usage, 0, sizeof usage);
    memset(&none, 0, sizeof none);
    usage.known = true;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(to); i++) *to[i] = strtoll(field[4 + i], NULL, 10);
    usage.tier = (llmgw_tier)atoi(field[12]);
    tell(field[1], field[2], field[3], &usage, none);
}

int main(int argc, char **argv) {
    llmgw_error error;
    char *line = NULL, *field[FIELDS];
    size_t cap = 0;
    if (argc != 2) return 2;
    llmgwi_base_buf text = slurp(argv[1]);
    llmgwi_price_load *load = llmgwi_price_load_new(&mem, &text);
    if (!load || !(book = llmgwi_price_load_end(load, NULL, &error))) {
        fprintf(stderr, "cost: %s: %s\n", argv[1], load ? error.text : "out of memory");
        return 2;
    }
    fprintf(stderr, "cost: %lu rows with %lu rates\n", (unsigned long)book->count,
            (unsigned long)book->entry_count);
    while (getline(&line, &cap, stdin) > 0) {
        int n = 0;
        for (char *p = strtok(line, "\t\n"); p && n < FIELDS; p = strtok(NULL, "\t\n")) field[n++] = p;
        if (n == 7 && strcmp(field[0], "body") == 0)
            body(field);
        else if (n == 13 && strcmp(field[0], "usage") == 0)
            counted(field);
        else
            return 2;
    }
    free(line);
    llmgwi_price_book_free(book, &mem);
    return 0;
}
