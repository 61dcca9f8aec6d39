/* index.c - the index of questions: its scan beside that of a flat array, whole lookups, how often it finds what
   a full search finds, bytes of a signature, many scopes, threads, processes. Questions are made from
   templates and words; BANKING77=DIR (with train.csv and test.csv) adds real ones. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include <ftw.h>
#include <pthread.h>

#include "bench.h"

static const llmgwi_base_mem plain_mem = {NULL, NULL};
static char path[64];
static llmgwi_store *store;
static llmgwi_index *index_;
static llmgwi_index_query query;
static llmgwi_index_scratch *scratch;
static volatile size_t sink;

static int rounds(void) { return bench_quick() ? 9 : 25; }

/* ---- questions ---- */

static const char *const templates[] = {"How do I %v my %a %n in %p?",
                                        "What does it cost to %v a %n %p?",
                                        "Can I %v the %n before %m?",
                                        "My %a %n stopped working in %m, what now?",
                                        "Where in %p can I %v a %a %n?",
                                        "Is there a way to %v two %ns at once in %p",
                                        "Please tell me why the %n of order %d is %a",
                                        "I want to %v a %n for my %r, which one is %a enough?",
                                        "Who pays when my %r does not %v the %n?",
                                        "Which %n do you recommend for %p in %m?",
                                        "how long does a %a %n last if I %v it every %m",
                                        "My %r asked me to %v the %n, order %d. How?",
                                        "Compare a %a %n with a %n from %p",
                                        "Write a short note to my %r about the %n we %v in %m",
                                        "Could you explain how people %v a %n in %p?",
                                        "What is the difference between a %a %n and a %a %n?"};
static const char *const verbs[] = {"repair",  "return",     "insure", "paint",    "sell",      "clean",
                                    "rent",    "weigh",      "ship",   "register", "cancel",    "replace",
                                    "borrow",  "move",       "store",  "inspect",  "upgrade",   "assemble",
                                    "measure", "donate",     "unlock", "charge",   "translate", "label",
                                    "freeze",  "photograph", "lend",   "mount",    "seal",      "trade"};
static const char *const adjectives[] = {
    "used",    "broken",  "heavy",    "wooden",   "cheap",      "digital", "folding",
    "late",    "yellow",  "antique",  "portable", "damaged",    "silent",  "wireless",
    "leather", "frozen",  "electric", "vintage",  "waterproof", "tiny",    "refurbished",
    "noisy",   "ceramic", "solar",    "foreign",  "rusty",      "double",  "organic"};
static const char *const nouns[] = {
    "bicycle",   "piano",    "greenhouse", "telescope",    "canoe",      "violin",       "tractor",
    "aquarium",  "sofa",     "lantern",    "passport",     "invoice",    "subscription", "keyboard",
    "mortgage",  "parcel",   "printer",    "camera",       "sandwich",   "battery",      "ladder",
    "carpet",    "password", "helmet",     "refrigerator", "contract",   "garden",       "ticket",
    "scooter",   "tent",     "engine",     "guitar",       "microscope", "wallet",       "pension",
    "drone",     "mattress", "kettle",     "window",       "passbook",   "recipe",       "thermostat",
    "submarine", "statue",   "blender",    "compass",      "diploma",    "saddle",       "chimney",
    "router",    "stove",    "projector",  "receipt",      "parachute",  "umbrella",     "backpack",
    "tripod",    "visa"};
static const char *const places[] = {
    "Lisbon",     "Norway",       "the attic",   "a small flat",  "Chile",  "my office",   "Berlin",
    "the desert", "a storm",      "Toronto",     "the mountains", "school", "Kenya",       "a museum",
    "Osaka",      "the basement", "Peru",        "a hospital",    "Prague", "the airport", "Iceland",
    "a village",  "Mumbai",       "the harbour", "Vienna"};
static const char *const months[] = {"January",  "spring", "March",      "the holidays", "June",
                                     "July",     "autumn", "September",  "October",      "winter",
                                     "December", "Monday", "the weekend"};
static const char *const people[] = {"mother",  "landlord", "neighbour", "boss",    "daughter",
                                     "client",  "teacher",  "bank",      "insurer", "doctor",
                                     "brother", "tenant",   "supplier",  "friend"};

#define PICK(list) list[(llmgwi_base_mix(seed += LLMGWI_BASE_STEP) >> 8) % LLMGWI_BASE_COUNT(list)]

/* Question number i; variant: the same with other words around it. */
static llmgwi_base_str question(uint64_t i, bool variant) {
    static char out[512];
    uint64_t seed = llmgwi_base_mix(i + 1);
    size_t n = variant ? (size_t)snprintf(out, sizeof out, "%s", i % 2 ? "Hello, " : "Quick one: ") : 0;
    for (const char *t = PICK(templates); *t && n < 400; t++) {
        const char *word = NULL;
        char number[16];
        if (*t != '%') {
            out[n++] = *t;
            continue;
        }
        t++;
        snprintf(number, sizeof number, "%u", 1000 + (unsigned)(llmgwi_base_mix(seed) % 90000));
        word = *t == 'v'   ? PICK(verbs)
               : *t == 'a' ? PICK(adjectives)
               : *t == 'n' ? PICK(nouns)
               : *t == 'p' ? PICK(places)
               : *t == 'm' ? PICK(months)
               : *t == 'r' ? PICK(people)
                           : number;
        n += (size_t)snprintf(out + n, sizeof out - n, "%s", word);
    }
    if (variant) n += (size_t)snprintf(out + n, sizeof out - n, " Thanks!");
    return llmgwi_base_view(out, n);
}

/* ---- the store ---- */

static int drop_file(const char *name, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(name);
}

static void open_store(void) {
    llmgw_store desc;
    llmgw_error error;
    memset(&desc, 0, sizeof desc);
    desc.path = path;
    desc.max_bytes = (int64_t)6 << 30;
    desc.no_sync = true;
    store = llmgwi_store_open(&plain_mem, &desc, &error);
    if (!store) bench_die(error.text);
    index_ = llmgwi_index_open(&plain_mem, store);
    if (!index_) bench_die("no memory");
}

static void close_store(void) {
    llmgwi_index_close(index_);
    llmgwi_store_close(store, false);
}

static void fresh_store(void) {
    snprintf(path, sizeof path, "/tmp/llmgw-bench-XXXXXX");
    if (!mkdtemp(path)) bench_die("mkdtemp");
    open_store();
}

static void drop_store(void) {
    close_store();
    (void)nftw(path, drop_file, 8, FTW_DEPTH | FTW_PHYS);
}

static unsigned char *scope_of(uint64_t number) {
    static unsigned char scope[16];
    uint64_t mixed = llmgwi_base_mix(number);
    memcpy(scope, &mixed, 8);
    return scope;
}

static llmgwi_store_txn txn;

/* Adds entries from + 1 .. to, a thousand a transaction; text NULL: made ones. */
static void load(uint64_t from, uint64_t to, uint64_t scopes, char **text) {
    llmgwi_index_hit about;
    memset(&about, 0, sizeof about);
    for (uint64_t id = from + 1; id <= to; id++) {
        if (id % 1000 == 1 || id == from + 1)
            if (!llmgwi_store_write(store, &txn, true)) bench_die("write");
        llmgwi_base_str ask = text ? llmgwi_base_cstr(text[id - 1]) : question(id, false);
        llmgwi_index_ask(index_, &txn, ask, NULL, 0, &query);
        llmgwi_index_learn(index_, &query);
        if (!llmgwi_index_add(index_, &txn, scope_of(id % scopes), id, &query, &about)) bench_die("add");
        if (id % 1000 == 0 || id == to) {
            if (!llmgwi_index_save(index_, &txn, 8) || !llmgwi_store_end(&txn, true)) bench_die("commit");
        }
    }
}

static void begin_read(void) {
    if (!llmgwi_store_read(store, &txn)) bench_die("read");
}

/* ---- the floor: all records of the scope in one array, the best 32 by a threshold that falls ---- */

static char *flat;
static size_t flat_count;

static void flat_make(void) {
    llmgwi_store_cursor cursor;
    llmgwi_base_str key, page, tail = llmgwi_index_bytes(scope_of(0), 16);
    size_t n = 0, room = (llmgwi_store_count(&txn, LLMGWI_STORE_ASK) + 500) * LLMGWI_BASE_RECORD;
    flat = (char *)realloc(flat, room);
    if (!flat || !llmgwi_store_cursor_open(&txn, LLMGWI_STORE_BLOCK, &cursor)) bench_die("flat");
    bool more = llmgwi_index_block_seek(&cursor, scope_of(0), 0, &key, &page);
    for (; more; more = llmgwi_index_block_next(&cursor, scope_of(0), &key, &page)) {
        memcpy(flat + n, page.p, page.n);
        n += page.n;
    }
    llmgwi_store_cursor_close(&cursor);
    if (!llmgwi_store_cursor_open(&txn, LLMGWI_STORE_TAIL, &cursor)) bench_die("flat");
    for (bool first = true; llmgwi_store_dups(&cursor, tail, first, &page); first = false) {
        memcpy(flat + n, page.p, page.n);
        n += page.n;
    }
    llmgwi_store_cursor_close(&cursor);
    flat_count = n / LLMGWI_BASE_RECORD;
}

static void flat_scan(const uint64_t sig[4]) {
    static uint32_t found[4096];
    uint32_t counts[257], picked = 0;
    unsigned limit = 256;
    memset(counts, 0, sizeof counts);
    for (size_t at = 0; at < flat_count; at += 512) {
        size_t step = flat_count - at < 512 ? flat_count - at : 512;
        size_t n = index_->scan(flat + at * LLMGWI_BASE_RECORD, step, sig, limit, found,
                                flat + (at + step) * LLMGWI_BASE_RECORD);
        for (size_t i = 0; i < n; i++) counts[found[i] & 0xFFFF]++;
        picked += (uint32_t)n;
        for (; picked >= 32 + counts[limit]; limit--) picked -= counts[limit];
    }
    sink += picked + limit;
}

static void ask(uint64_t i, bool variant) {
    llmgwi_index_ask(index_, &txn, question(i, variant), NULL, 0, &query);
}

static double compared;

/* In one scope: scan against the flat array, whole lookup against its scan. */
static void one_scope(uint64_t entries, const char *name, const char *bar) {
    bench_pair scans = {0}, lookups = {0};
    int queries = entries > 200000 ? 20 : entries > 50000 ? 60 : 300;
    char metric[64];
    double whole_us = 0, ask_us = 0, taken = 0;
    begin_read();
    flat_make();
    compared = 0;
    for (int round = 0; round < rounds(); round++) {
        double flat_us = 0, scan_us = 0, near_us = 0;
        for (int i = 0; i < queries; i++) {
            uint64_t sig[4], number = 1 + llmgwi_base_mix((uint64_t)(round * 1000 + i)) % entries;
            llmgwi_index_hit hits[8];
            double t0 = bench_cpu_us();
            ask(number, i % 2);
            double t1 = bench_cpu_us();
            memcpy(sig, query.signature, sizeof sig);
            flat_scan(sig);
            double t2 = bench_cpu_us();
            llmgwi_index_scratch_ready(scratch, &query);
            llmgwi_index_scan(index_, &txn, scope_of(0), &query, true, scratch);
            double t3 = bench_cpu_us();
            sink += llmgwi_index_near(index_, &txn, scope_of(0), &query, hits, 8);
            double t4 = bench_cpu_us();
            ask_us += t1 - t0, flat_us += t2 - t1, scan_us += t3 - t2, near_us += t4 - t3;
            sink += llmgwi_index_rank(index_, &txn, scope_of(0), &query, scratch, hits, 8);
            compared += (double)scratch->compared;
            taken++;
        }
        bench_pair_add(&scans, scan_us / queries, flat_us / queries);
        bench_pair_add(&lookups, near_us / queries, scan_us / queries);
        whole_us += near_us / queries / rounds();
    }
    llmgwi_store_end(&txn, false);
    snprintf(metric, sizeof metric, "index_scan_%s", name);
    bench_row(metric, bench_ratio(&scans), "x flat", bar,
              "not the picks: keeping 32 like the flat array saves a tenth at 100k, a fiftieth at 1M",
              "%.1f us, %.2f ns an entry; flat array of %zu records %.1f us",
              bench_median(scans.a, scans.count), bench_median(scans.a, scans.count) * 1000 / (double)entries,
              flat_count, bench_median(scans.b, scans.count));
    snprintf(metric, sizeof metric, "index_lookup_%s", name);
    bench_row(metric, bench_ratio(&lookups), "x scan", entries > 500000 ? "<=2.5" : "",
              "records of picks lie scattered: each costs .3 to .5 us, much of it waiting for memory",
              "%.0f us a lookup, %.0f entries compared exactly; making the query %.1f us", whole_us,
              compared / taken, ask_us / taken);
}

/* ---- recall: against comparing all ---- */

static void recall(uint64_t entries, const char *name, char **text, int queries) {
    int all = 0, close = 0, close_right = 0;
    double found_us = 0;
    begin_read();
    for (int i = 0; i < queries; i++) {
        llmgwi_index_hit got[9], want[9], hit;
        size_t count = 0, same = 0, wanted = 0;
        uint64_t number = 1 + llmgwi_base_mix((uint64_t)i) % entries;
        llmgwi_base_str asked = text ? llmgwi_base_cstr(text[number - 1]) : question(number, i % 2);
        llmgwi_index_ask(index_, &txn, asked, NULL, 0, &query);
        double start = bench_cpu_us();
        count = llmgwi_index_near(index_, &txn, scope_of(0), &query, got, 9);
        found_us += bench_cpu_us() - start;
        llmgwi_index_scratch_ready(scratch, &query);
        for (hit.id = 1; hit.id <= entries; hit.id++)
            if (llmgwi_index_compare(index_, &txn, scope_of(0), &query, scratch, llmgwi_base_view(NULL, 0),
                                     &hit))
                wanted = llmgwi_index_insert(want, wanted, 9, &hit);
        size_t first = want[0].id == number; /* the question itself is no feat */
        for (size_t k = first; k < first + 8 && k < count; k++)
            same += got[k].similarity >= want[k].similarity - 1e-9;
        all += same == 8;
        if (want[first].similarity < .9) continue;
        close++;
        close_right += got[first].similarity >= want[first].similarity - 1e-9;
    }
    llmgwi_store_end(&txn, false);
    char metric[64];
    snprintf(metric, sizeof metric, "index_recall8_%s", name);
    bench_row(
        metric, (double)all / queries, "of queries", ">=.95", NULL,
        "all of the eight nearest (itself left out) as near as a full search's; %d queries, %.0f us each",
        queries, found_us / queries);
    snprintf(metric, sizeof metric, "index_recall1_%s", name);
    if (close)
        bench_row(metric, (double)close_right / close, "of queries", ">=.99", NULL,
                  "the nearest, where it is at least .9 alike: %d queries", close);
}

static char **read_csv(const char *dir, size_t *count) {
    static const char *const files[] = {"train.csv", "test.csv"};
    char **text = (char **)calloc(20000, sizeof *text), line[4096];
    for (int f = 0; f < 2; f++) {
        snprintf(line, sizeof line, "%s/%s", dir, files[f]);
        FILE *file = fopen(line, "r");
        if (!file || !fgets(line, sizeof line, file)) bench_die(line);
        while (*count < 20000 && fgets(line, sizeof line, file)) {
            char *p = line + (line[0] == '"'), *end = line[0] == '"' ? strstr(p, "\",") : strchr(p, ',');
            if (!end) continue; /* a question of two lines: its first is left out */
            *end = 0;
            text[(*count)++] = strdup(p);
        }
        fclose(file);
    }
    return text;
}

static void banking(const char *dir) {
    size_t count = 0;
    char **text = read_csv(dir, &count);
    fresh_store();
    load(0, count, 1, text);
    recall(count, "banking77", text, bench_quick() ? 200 : 1000);
    drop_store();
}

/* ---- bytes ---- */

static void bytes(uint64_t entries) {
    MDB_stat block, tail;
    begin_read();
    if (mdb_stat((MDB_txn *)txn.txn, store->tables[LLMGWI_STORE_BLOCK], &block) ||
        mdb_stat((MDB_txn *)txn.txn, store->tables[LLMGWI_STORE_TAIL], &tail))
        bench_die("stat");
    /* LMDB does not count the pages of duplicates: a tail of up to 409 has some five */
    double pages = (double)(block.ms_branch_pages + block.ms_leaf_pages + block.ms_overflow_pages +
                            tail.ms_branch_pages + tail.ms_leaf_pages + 5);
    bench_row("index_bytes", pages * block.ms_psize / (double)entries, "bytes", "<=45", NULL,
              "of a signature with its number, %llu entries added in order", (unsigned long long)entries);
    bench_row("index_bytes_ask", (double)llmgwi_store_used_bytes(&txn) / (double)entries, "bytes", "", NULL,
              "of an entry in all tables of the index: words, n-grams, signature");
    llmgwi_store_end(&txn, false);
}

/* ---- many scopes, threads, processes ---- */

static double lookups_us(uint64_t scopes, uint64_t entries, int count, uint64_t salt) {
    llmgwi_index_query *own = (llmgwi_index_query *)malloc(sizeof *own);
    llmgwi_index_hit hits[8];
    double start = bench_wall_us();
    for (int i = 0; i < count; i++) {
        llmgwi_store_txn read;
        uint64_t number = 1 + llmgwi_base_mix(salt * 1000000 + (uint64_t)i) % entries, mixed;
        unsigned char scope[16] = {0};
        char text[64]; /* question() is for one thread */
        snprintf(text, sizeof text, "how do I repair a %s in %s", nouns[number % LLMGWI_BASE_COUNT(nouns)],
                 places[number % LLMGWI_BASE_COUNT(places)]);
        mixed = llmgwi_base_mix(number % scopes);
        memcpy(scope, &mixed, 8);
        if (!llmgwi_store_read(store, &read)) bench_die("read");
        llmgwi_index_ask(index_, &read, llmgwi_base_cstr(text), NULL, 0, own);
        __atomic_add_fetch(&sink, llmgwi_index_near(index_, &read, scope, own, hits, 8), __ATOMIC_RELAXED);
        llmgwi_store_end(&read, false);
    }
    free(own);
    return (bench_wall_us() - start) / count;
}

typedef struct job {
    uint64_t scopes, entries, salt;
    int count;
    double us;
} job;

static void *run_job(void *user) {
    job *j = (job *)user;
    j->us = lookups_us(j->scopes, j->entries, j->count, j->salt);
    return NULL;
}

/* Two threads, or two processes, each doing what one does alone: the share of the double throughput. */
static double two_threads(uint64_t scopes, uint64_t entries, int count) {
    job jobs[2] = {{scopes, entries, 1, count, 0}, {scopes, entries, 2, count, 0}};
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_job, &jobs[1])) bench_die("thread");
    run_job(&jobs[0]);
    pthread_join(thread, NULL);
    return (jobs[0].us + jobs[1].us) / 2;
}

static double some_processes(int processes, uint64_t scopes, uint64_t entries, int count) {
    int ends[2];
    double sum = 0, us;
    if (pipe(ends)) bench_die("pipe");
    fflush(stdout);
    for (int i = 0; i < processes; i++) {
        pid_t pid = fork();
        if (pid < 0) bench_die("fork");
        if (pid) continue;
        open_store();
        (void)lookups_us(scopes, entries, count / 10, 9);
        us = lookups_us(scopes, entries, count, (uint64_t)i + 1);
        close_store();
        _exit(write(ends[1], &us, sizeof us) == (ssize_t)sizeof us ? 0 : 1);
    }
    for (int i = 0; i < processes; i++) {
        if (read(ends[0], &us, sizeof us) != (ssize_t)sizeof us) bench_die("a process failed");
        sum += us / processes;
    }
    while (wait(NULL) > 0) continue;
    close(ends[0]);
    close(ends[1]);
    return sum;
}

static void many_scopes(uint64_t scopes, uint64_t each) {
    uint64_t entries = scopes * each;
    int count = bench_quick() ? 2000 : 10000;
    fresh_store();
    load(0, entries, scopes, NULL);
    double alone = lookups_us(scopes, entries, count, 1);
    bench_row("index_scopes", alone, "us", "", NULL, "a lookup with its query, %llu scopes of %llu",
              (unsigned long long)scopes, (unsigned long long)each);
    double both = two_threads(scopes, entries, count);
    bench_row("index_threads", both / alone, "x alone", "<=1.5",
              "the machine's two cores are shared with others",
              "time of a lookup when two threads look (%.1f us; alone %.1f)", both, alone);
    close_store();
    alone = some_processes(1, scopes, entries, count);
    both = some_processes(2, scopes, entries, count);
    bench_row("index_processes", both / alone, "x alone", "<=1.5",
              "the machine's two cores are shared with others",
              "time of a lookup when two processes look (%.1f us; alone %.1f)", both, alone);
    open_store();
    drop_store();
}

int main(void) {
    const char *dir = getenv("BANKING77");
    uint64_t most = bench_quick() ? 100000 : 1000000;
    scratch = (llmgwi_index_scratch *)malloc(sizeof *scratch);
    if (!scratch) bench_die("no memory");
    if (dir) banking(dir);
    fresh_store();
    load(0, 10000, 1, NULL);
    one_scope(10000, "10k", "<=1.6");
    recall(10000, "10k", NULL, bench_quick() ? 200 : 500);
    load(10000, 100000, 1, NULL);
    one_scope(100000, "100k", "<=1.6");
    recall(100000, "100k", NULL, bench_quick() ? 60 : 100);
    if (most > 100000) {
        double start = bench_wall_us(), cpu = bench_cpu_us();
        load(100000, most, 1, NULL);
        bench_row("index_load", (bench_cpu_us() - cpu) / 1e6, "s", "<=60", NULL,
                  "900,000 more, made, learned and added, 1,000 a transaction; %.0f s of wall time",
                  (bench_wall_us() - start) / 1e6);
        one_scope(most, "1M", "<=2.5");
    }
    bytes(most);
    drop_store();
    many_scopes(bench_quick() ? 1000 : 10000, 100);
    free(flat);
    free(scratch);
    return 0;
}
