/* cache.c - the exact tier: what a hit costs over the bare loop that any cache on LMDB has to pay, by turns in
   one process; what a stored answer costs; several threads; several processes.

   The bare loop: XXH3-128 of the request, renew of a parked MDB_NOTLS read transaction, get, comparison of the
   stored request with the one at hand, malloc and copy of the reply, free. Ours: llmgw_chat whole, from the
   request's fields to the reply's, and llmgw_reply_free. 10,000 entries of a 1 KB request and a 1 KB reply,
   drawn by Zipf's law (exponent 1). The replies come from the fake provider, which echoes the question. */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"

#include "bench.h"

#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>

#define ENTRIES 10000
#define PROMPT 1000 /* bytes; the form around it and the provider's words make it 1 KB each way */
#define FLIGHT 64
#define DRAWS 65536
#define WORKERS 2

static char (*prompts)[PROMPT + 1];
static int draws[DRAWS];

/* ---- directories ---- */

static void remove_all(const char *dir) {
    char path[512];
    DIR *list = opendir(dir);
    for (struct dirent *e; list && (e = readdir(list)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (e->d_name[0] != '.') unlink(path);
    }
    if (list) closedir(list);
    rmdir(dir);
}

/* ---- questions ---- */

static uint64_t draw(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u; /* SplitMix64 */
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static void prompt_make(char *out, uint64_t number) {
    static const char *const words[] = {"river ", "engine ", "why ",   "garden ", "seven ",  "cloud ",
                                        "write ", "a ",      "poem ",  "about ",  "copper ", "or ",
                                        "night ", "small ",  "horse ", "tell "};
    uint64_t luck = number;
    size_t n = (size_t)snprintf(out, PROMPT + 1, "Question %llu: ", (unsigned long long)number);
    while (n < PROMPT) {
        const char *word = words[draw(&luck) % 16];
        while (*word && n < PROMPT) out[n++] = *word++;
    }
    out[n] = 0;
}

static void prompts_make(void) {
    double sums[ENTRIES], all = 0;
    uint64_t luck = 5;
    prompts = (char(*)[PROMPT + 1]) malloc(sizeof *prompts * ENTRIES);
    if (!prompts) bench_die("memory");
    for (int i = 0; i < ENTRIES; i++) {
        prompt_make(prompts[i], (uint64_t)i);
        sums[i] = all += 1.0 / (i + 1);
    }
    for (int i = 0; i < DRAWS; i++) {
        double at = all * (double)(draw(&luck) >> 11) * 0x1p-53;
        int low = 0, high = ENTRIES - 1;
        while (low < high) {
            int middle = (low + high) / 2;
            if (sums[middle] < at)
                low = middle + 1;
            else
                high = middle;
        }
        draws[i] = low;
    }
}

/* ---- the fake provider ---- */

static pid_t provider_pid;

static int provider_start(void) {
    char path[4096], line[256] = "";
    int in[2], out[2], port = 0;
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 32);
    if (n <= 0 || pipe(in) != 0 || pipe(out) != 0) bench_die("the provider");
    path[n] = 0;
    *strrchr(path, '/') = 0;
    strcpy(strrchr(path, '/') + 1, "fake_provider"); /* build/bench/cache -> build/fake_provider */
    provider_pid = fork();
    if (provider_pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        close(in[1]);
        execl(path, path, "--parent-pid-watch", (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    if (read(out[0], line, sizeof line - 1) <= 0 || sscanf(line, "READY port=%d", &port) != 1)
        bench_die("the fake provider did not start (make build/fake_provider)");
    return port;
}

/* ---- ours ---- */

static llmgw *ours_open(const char *dir, int port) {
    llmgw_provider provider;
    llmgw_options options;
    llmgw_error error;
    char url[64];
    memset(&provider, 0, sizeof provider);
    memset(&options, 0, sizeof options);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", port);
    provider.name = "p";
    provider.dialect = "openai";
    provider.url = url;
    provider.key = "sk-bench-0123456789abcdef";
    options.providers = &provider;
    options.provider_count = 1;
    options.no_environment = true;
    options.store.path = dir;
    options.store.required = true;
    options.cache.on = true;
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) bench_die(error.text);
    return gw;
}

typedef struct filler {
    llmgw *gw;
    unsigned cache;
    uint64_t from;                          /* number of the first question */
    int to_send, sent, done, wrong, stored; /* stored: were there already */
} filler;

static void fill_send(filler *f);

static void fill_event(const llmgw_event *event, void *user) {
    filler *f = (filler *)user;
    if (event->kind != LLMGW_EVENT_END) return;
    if (event->reply->error.code && !f->wrong++) fprintf(stderr, "cache: %s\n", event->reply->error.text);
    f->stored += event->reply->cached.verdict == LLMGW_VERDICT_EXACT;
    f->done++;
    if (f->sent < f->to_send) fill_send(f);
}

static void fill_send(filler *f) {
    llmgw_request request;
    llmgw_error error;
    char prompt[PROMPT + 1];
    memset(&request, 0, sizeof request);
    prompt_make(prompt, f->from + (uint64_t)f->sent++);
    request.model = "p/m";
    request.prompt = prompt;
    request.cache = f->cache;
    request.on_event = fill_event;
    request.user = f;
    if (!llmgw_send(f->gw, &request, &error)) bench_die(error.text);
}

/* CPU time of one question, FLIGHT at a time, in us. */
static double fill(llmgw *gw, unsigned cache, uint64_t from, int count, int *stored) {
    filler f = {gw, cache, from, count, 0, 0, 0, 0};
    double start = bench_cpu_us();
    for (int i = 0; i < FLIGHT && f.sent < count; i++) fill_send(&f);
    while (f.done < count)
        if (llmgw_poll(gw, -1) < 0) bench_die("llmgw_poll");
    double used = bench_cpu_us() - start;
    if (f.wrong) bench_die("calls failed");
    if (stored) *stored = f.stored;
    return used / count;
}

/* count hits from a place in the draws on. */
static void ours_hits(llmgw *gw, int from, int count) {
    llmgw_request request;
    memset(&request, 0, sizeof request);
    request.model = "p/m";
    for (int i = 0; i < count; i++) {
        request.prompt = prompts[draws[(from + i) % DRAWS]];
        llmgw_reply *reply = llmgw_chat(gw, &request);
        if (reply->cached.verdict != LLMGW_VERDICT_EXACT || reply->text_len < PROMPT)
            bench_die(reply->cached.reason);
        llmgw_reply_free(reply);
    }
}

/* ---- the bare loop ---- */

typedef struct bare {
    MDB_env *env;
    MDB_dbi table;
} bare;

static void lmdb(int code, const char *what) {
    if (!code) return;
    fprintf(stderr, "cache: %s: %s\n", what, mdb_strerror(code));
    exit(1);
}

static void bare_open(bare *b, const char *dir) {
    lmdb(mdb_env_create(&b->env), "mdb_env_create");
    lmdb(mdb_env_set_mapsize(b->env, (size_t)1 << 30), "mdb_env_set_mapsize");
    lmdb(mdb_env_open(b->env, dir, MDB_NOTLS | MDB_NOSYNC, 0600), "mdb_env_open");
    MDB_txn *txn;
    char value[2 * PROMPT];
    lmdb(mdb_txn_begin(b->env, NULL, 0, &txn), "mdb_txn_begin");
    lmdb(mdb_dbi_open(txn, NULL, 0, &b->table), "mdb_dbi_open");
    for (int i = 0; i < ENTRIES; i++) {
        XXH128_hash_t hash = XXH3_128bits(prompts[i], PROMPT);
        MDB_val key = {sizeof hash, &hash}, data = {sizeof value, value};
        memcpy(value, prompts[i], PROMPT);
        memcpy(value + PROMPT, prompts[i], PROMPT);
        lmdb(mdb_put(txn, b->table, &key, &data, 0), "mdb_put");
    }
    lmdb(mdb_txn_commit(txn), "mdb_txn_commit");
}

static MDB_txn *bare_park(const bare *b) {
    MDB_txn *txn;
    lmdb(mdb_txn_begin(b->env, NULL, MDB_RDONLY, &txn), "mdb_txn_begin");
    mdb_txn_reset(txn);
    return txn;
}

static void bare_hits(const bare *b, MDB_txn *txn, int from, int count) {
    static volatile char sink;
    for (int i = 0; i < count; i++) {
        const char *request = prompts[draws[(from + i) % DRAWS]];
        XXH128_hash_t hash = XXH3_128bits(request, PROMPT);
        MDB_val key = {sizeof hash, &hash}, data;
        lmdb(mdb_txn_renew(txn), "mdb_txn_renew");
        lmdb(mdb_get(txn, b->table, &key, &data), "mdb_get");
        if (memcmp(data.mv_data, request, PROMPT) != 0) bench_die("the bare loop found something else");
        char *copy = (char *)malloc(data.mv_size - PROMPT);
        if (!copy) bench_die("memory");
        memcpy(copy, (const char *)data.mv_data + PROMPT, data.mv_size - PROMPT);
        mdb_txn_reset(txn);
        sink = copy[i % PROMPT];
        free(copy);
    }
    (void)sink;
}

/* ---- the rows ---- */

static void row_hit(llmgw *gw, const bare *b, int rounds, int count) {
    bench_pair pair = {.count = 0};
    MDB_txn *txn = bare_park(b);
    ours_hits(gw, 0, count);
    bare_hits(b, txn, 0, count);
    for (int round = 0; round < rounds; round++) {
        double start = bench_cpu_us();
        ours_hits(gw, round * count, count);
        double middle = bench_cpu_us();
        bare_hits(b, txn, round * count, count);
        bench_pair_add(&pair, (middle - start) / count, (bench_cpu_us() - middle) / count);
    }
    mdb_txn_abort(txn);
    bench_row("exact hit, 1 KB request and reply, 10 k entries, over the bare loop", bench_ratio(&pair), "x",
              "<= 2", NULL,
              "llmgw_chat whole %.0f ns, bare %.0f ns; zipf, by turns, CPU, median of %d rounds",
              1000 * bench_median(pair.a, rounds), 1000 * bench_median(pair.b, rounds), rounds);
}

/* Asks all questions until each of them is answered from the store: one that comes while the queue of writes is
   full is not stored. */
static void row_fill(llmgw *gw) {
    int stored = 0, first = -1, rounds = 0;
    for (; stored < ENTRIES && rounds < 50; rounds++) {
        fill(gw, 0, 0, ENTRIES, &stored);
        if (llmgw_flush(gw) != LLMGW_OK) bench_die("llmgw_flush");
        if (rounds == 1) first = stored;
    }
    if (stored < ENTRIES) bench_die("the store does not keep what it is given");
    bench_row("answers stored of 10,000 that come as fast as they can", 100.0 * first / ENTRIES, "%", "",
              NULL, "64 in flight; a full queue of writes drops an answer; all stored after %d rounds",
              rounds - 1);
}

static void row_put(llmgw *gw, int rounds, int count) {
    bench_pair pair = {.count = 0};
    double more[BENCH_ROUNDS];
    uint64_t from = 1000000;
    fill(gw, LLMGW_CACHE_OFF, from, count, NULL);
    for (int round = 0; round < rounds; round++, from += 2 * (uint64_t)count) {
        double stored = fill(gw, 0, from, count, NULL);
        bench_pair_add(&pair, stored, fill(gw, LLMGW_CACHE_OFF, from + (uint64_t)count, count, NULL));
        more[round] = pair.a[round] - pair.b[round];
    }
    bench_row("a call that is looked up and stored, over one with the cache off", bench_ratio(&pair), "x", "",
              NULL, "%.1f us more of CPU than %.1f, commits every 50 ms included; 64 in flight",
              bench_median(more, rounds), bench_median(pair.b, rounds));
}

typedef struct worker {
    pthread_t thread;
    llmgw *gw;
    const bare *bare; /* not NULL: the bare loop */
    MDB_txn *txn;
    int from, count;
} worker;

static void *work(void *user) {
    worker *w = (worker *)user;
    if (w->bare)
        bare_hits(w->bare, w->txn, w->from, w->count);
    else
        ours_hits(w->gw, w->from, w->count);
    return NULL;
}

/* Hits a second of so many threads, wall time. */
static double threads_round(llmgw *gw, const bare *b, int threads, int count) {
    worker workers[WORKERS];
    for (int i = 0; i < threads; i++) {
        worker w = {0, gw, b, b ? bare_park(b) : NULL, i * 7919, count};
        workers[i] = w;
    }
    double start = bench_wall_us();
    for (int i = 0; i < threads; i++)
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) bench_die("pthread_create");
    for (int i = 0; i < threads; i++) pthread_join(workers[i].thread, NULL);
    double took = bench_wall_us() - start;
    for (int i = 0; i < threads; i++)
        if (workers[i].txn) mdb_txn_abort(workers[i].txn);
    return threads * count / took;
}

static void row_threads(llmgw *gw, const bare *b, int rounds, int count) {
    bench_pair ours = {.count = 0}, theirs = {.count = 0};
    for (int round = 0; round < rounds; round++) {
        double two = threads_round(gw, NULL, WORKERS, count);
        bench_pair_add(&ours, two, threads_round(gw, NULL, 1, count));
        two = threads_round(gw, b, WORKERS, count);
        bench_pair_add(&theirs, two, threads_round(gw, b, 1, count));
    }
    bench_row("exact hits of 2 threads over those of one, in the same time", bench_ratio(&ours), "x", "",
              NULL, "%.2f M hits/s; the bare loop %.2f x, %.2f M", bench_median(ours.a, rounds),
              bench_ratio(&theirs), bench_median(theirs.a, rounds));
}

/* Each process opens the store itself, and starts when a byte comes. */
static void process_main(const char *dir, int port, int count, int begin, int report) {
    char byte = 0;
    llmgw *gw = ours_open(dir, port);
    ours_hits(gw, 0, count / 4);
    if (write(report, &byte, 1) != 1 || read(begin, &byte, 1) != 1) _exit(1);
    double start = bench_wall_us();
    ours_hits(gw, (int)getpid() % DRAWS, count);
    double took = bench_wall_us() - start;
    if (write(report, &took, sizeof took) != sizeof took) _exit(1);
    llmgw_close(gw);
    _exit(0);
}

/* Hits a second of so many processes. */
static double processes_round(const char *dir, int port, int processes, int count) {
    int begin[2], report[2], status;
    double sum = 0, took;
    char byte;
    if (pipe(begin) != 0 || pipe(report) != 0) bench_die("pipe");
    for (int i = 0; i < processes; i++) {
        pid_t pid = fork();
        if (pid < 0) bench_die("fork");
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            process_main(dir, port, count, begin[0], report[1]);
        }
    }
    for (int i = 0; i < processes; i++)
        if (read(report[0], &byte, 1) != 1) bench_die("a process did not start");
    if (write(begin[1], "xx", (size_t)processes) != processes) bench_die("pipe");
    for (int i = 0; i < processes; i++) {
        if (read(report[0], &took, sizeof took) != sizeof took) bench_die("a process failed");
        sum += count / took;
    }
    for (int i = 0; i < processes; i++)
        if (wait(&status) < 0 || status) bench_die("a process failed");
    for (int i = 0; i < 2; i++) {
        close(begin[i]);
        close(report[i]);
    }
    return sum;
}

static void row_processes(const char *dir, int port, int rounds, int count) {
    bench_pair pair = {.count = 0};
    for (int round = 0; round < rounds; round++) {
        double two = processes_round(dir, port, WORKERS, count);
        bench_pair_add(&pair, two, processes_round(dir, port, 1, count));
    }
    bench_row("exact hits of 2 processes on one store over those of one", bench_ratio(&pair), "x", "", NULL,
              "%.2f M hits/s", bench_median(pair.a, rounds));
}

int main(void) {
    char dir[] = "/tmp/bench-cache.XXXXXX", bare_dir[] = "/tmp/bench-bare.XXXXXX";
    bool quick = bench_quick();
    int rounds = quick ? 7 : 25, count = quick ? 5000 : 20000;
    bare b;
    signal(SIGPIPE, SIG_IGN);
    if (!mkdtemp(dir) || !mkdtemp(bare_dir)) bench_die("mkdtemp");
    prompts_make();
    int port = provider_start();
    llmgw *gw = ours_open(dir, port);
    row_fill(gw);
    bare_open(&b, bare_dir);
    row_hit(gw, &b, rounds, count);
    row_threads(gw, &b, quick ? 3 : 9, count);
    row_put(gw, quick ? 3 : 9, quick ? 500 : 2000);
    llmgw_close(gw); /* before the fork: no process but its own may use a gateway */
    row_processes(dir, port, quick ? 3 : 9, count);
    mdb_env_close(b.env);
    kill(provider_pid, SIGTERM);
    waitpid(provider_pid, NULL, 0);
    remove_all(dir);
    remove_all(bare_dir);
    free(prompts);
    return 0;
}
