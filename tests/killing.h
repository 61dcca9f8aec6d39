/* killing.h - kill -9 at random moments. Two processes at a time, each a gateway with a semantic cache over one
 * store, ask the fake provider one question after the other; one or both are killed. What they had told of as
 * committed must be there, all tables must agree, and nobody who comes later may wait.
 *
 * Two stores in turn: a large one, in which every entry that was committed must be found; and one of the smallest
 * size, in which entries are evicted, purged and removed all the time and only the tables and the number of the last
 * commit are checked. Used by cache_kill.c (the long form) and test_cache_kill.c. Writers and checkers are this very
 * program, executed again: what they find out comes back in shared memory. */
#ifndef KILLING_H
#define KILLING_H

#include "cachecheck.h"
#include "asking.h"

#include <sys/mman.h>
#include <sys/prctl.h>

enum { KILLING_PER_STORE = 24 /* kills of each, then a new one */ };

/* No open, and no first commit after a kill, may take longer. ms; a loaded machine is slow, a lock of the dead is
   LLMGWI_STORE_WAIT_US. */
enum { KILLING_LATE_MS = 4000 };

typedef struct killing_writer { /* written by the writer, also while it is killed */
    int ready;
    uint64_t last_txn; /* LMDB's number of a commit that is known to have been done */
    int64_t asked, exact, semantic, flushes;
    uint32_t failures;                     /* calls that failed, or were answered with what nobody said */
    unsigned char known[ASKING_QUESTIONS]; /* its entry is committed */
} killing_writer;

typedef struct killing_report { /* of a checker */
    int64_t open_ms, commit_ms, purges, evidence, samples, entries, classes;
    int missing, wrong, looked;
    uint64_t last_txn;
} killing_report;

typedef struct killing_shared {
    killing_writer writers[2];
    unsigned char known[ASKING_QUESTIONS]; /* by writers of this store that are no more */
    uint64_t last_txn;
    killing_report report;
} killing_shared;

/* What became of it all. */
typedef struct killing_sum {
    int kills, checks, failed_checks, missing, evicted, wrong, survivors, stuck;
    int64_t asked, exact, semantic, flushes, failures, purges, samples, most_entries, worst_open_ms,
        worst_commit_ms;
    int64_t looked;
} killing_sum;

/* ---- what is executed again ---- */

typedef struct killing_job {
    const char *dir;
    int port, small;
    uint64_t seed;
    killing_shared *shared;
} killing_job;

static llmgw *killing_open(const killing_job *job) {
    llmgw_options options = t_calm();
    options.store.path = job->dir;
    options.store.max_bytes = job->small ? 1 << 20 : 64 << 20;
    options.store.commit_ms = job->seed % 3 ? 5 : LLMGW_OFF;
    options.store.no_sync = job->seed % 2;
    options.store.required = true;
    options.cache.on = options.cache.semantic = true;
    options.cache.max_error = llmgw_set(0.2);
    options.background_thread = job->seed % 4 == 0;
    return t_open_at("http", "127.0.0.1", job->port, &options);
}

static uint64_t killing_last_txn(llmgwi_store *store) {
    MDB_envinfo info;
    return store && mdb_env_info(store->env, &info) == 0 ? info.me_last_txnid : 0;
}

/* Asks one question. Returns whether there is an entry for it now. */
static bool killing_ask(llmgw *gw, const killing_job *job, killing_writer *me, size_t i, uint64_t random) {
    char question[160];
    asking_question(i, question, sizeof question);
    llmgw_request request;
    memset(&request, 0, sizeof request);
    request.model = "openai/m";
    request.prompt = question;
    if (random % 23 == 0) request.cache = LLMGW_CACHE_REFRESH;
    llmgw_reply *reply = llmgw_chat(gw, &request);
    llmgw_verdict verdict = reply->cached.verdict;
    bool fuzzy =
        verdict == LLMGW_VERDICT_SEMANTIC; /* may be another's answer: that is max_error's business */
    if (reply->error.code || (!fuzzy && !asking_is_answer(i, reply->text, job->small))) {
        fprintf(stderr, "kill: %s: %s %.60s\n", question, reply->error.text, reply->text);
        me->failures++;
    }
    bool there = (verdict == LLMGW_VERDICT_MISS && reply->cached.entry) || verdict == LLMGW_VERDICT_EXACT;
    me->asked++;
    me->exact += verdict == LLMGW_VERDICT_EXACT;
    me->semantic += fuzzy;
    if (job->small && random % 31 == 0 && reply->cached.entry)
        (void)llmgw_cache_feedback(gw, reply->cached.entry, false);
    llmgw_reply_free(reply);
    return there;
}

/* Until it is killed. */
static int killing_write(const killing_job *job, int who) {
    killing_writer *me = &job->shared->writers[who];
    unsigned char *fresh = (unsigned char *)calloc(1, ASKING_QUESTIONS);
    uint64_t seed = job->seed * 77 + (uint64_t)who;
    llmgw *gw = killing_open(job);
    if (!fresh) return 1;
    for (;;) {
        uint64_t random = llmgwi_base_mix(seed += LLMGWI_BASE_STEP), count = 1 + random % 20;
        memset(fresh, 0, ASKING_QUESTIONS);
        for (uint64_t n = 0; n < count; n++) {
            random = llmgwi_base_mix(seed += LLMGWI_BASE_STEP);
            size_t i = (size_t)(random >> 20) % ASKING_QUESTIONS;
            if (job->small)
                i = i / ASKING_INTENTS * ASKING_INTENTS + i % 6; /* few classes, much evidence of each */
            if (killing_ask(gw, job, me, i, random)) fresh[i] = 1;
            __atomic_store_n(&me->ready, 1, __ATOMIC_RELEASE);
        }
        if (random >> 10 & 1) (void)llmgw_drain(gw, 1000);
        if (llmgw_flush(gw) != LLMGW_OK) continue;
        uint64_t last = killing_last_txn(gw->store);
        __atomic_store_n(&me->last_txn, last, __ATOMIC_RELEASE);
        for (size_t i = 0; i < ASKING_QUESTIONS; i++)
            if (fresh[i]) __atomic_store_n(&me->known[i], 1, __ATOMIC_RELEASE);
        __atomic_add_fetch(&me->flushes, 1, __ATOMIC_RELEASE);
    }
}

/* Of what was committed: 100 questions drawn at random, and all that the last writers told of. */
static void killing_look_up(const killing_job *job, llmgw *gw, const unsigned char *told) {
    killing_report *report = &job->shared->report;
    for (size_t i = 0; i < ASKING_QUESTIONS; i++) {
        char question[160];
        bool late = job->shared->writers[0].known[i] || job->shared->writers[1].known[i];
        if (!told[i] || (!late && llmgwi_base_mix(job->seed + i) % 16)) continue;
        asking_question(i, question, sizeof question);
        llmgw_request request;
        memset(&request, 0, sizeof request);
        request.model = "openai/m";
        request.prompt = question;
        request.cache = LLMGW_CACHE_EXACT | LLMGW_CACHE_READ_ONLY;
        llmgw_reply *reply = llmgw_chat(gw, &request);
        report->looked++;
        if (reply->cached.verdict != LLMGW_VERDICT_EXACT) report->missing++;
        if (reply->error.code || !asking_is_answer(i, reply->text, job->small)) report->wrong++;
        llmgw_reply_free(reply);
    }
}

/* In a process of its own; one of the writers may live. An assertion ends it. */
static int killing_check(const killing_job *job) {
    killing_report *report = &job->shared->report;
    unsigned char told[ASKING_QUESTIONS];
    uint64_t last = job->shared->last_txn;
    for (size_t i = 0; i < ASKING_QUESTIONS; i++) { /* before the store is looked at */
        told[i] = job->shared->known[i];
        for (int w = 0; w < 2; w++)
            told[i] |= __atomic_load_n(&job->shared->writers[w].known[i], __ATOMIC_ACQUIRE);
    }
    for (int w = 0; w < 2; w++) {
        uint64_t its = __atomic_load_n(&job->shared->writers[w].last_txn, __ATOMIC_ACQUIRE);
        if (its > last) last = its;
    }
    int64_t began = t_now_ms();
    llmgw *gw = killing_open(job);
    report->open_ms = t_now_ms() - began;
    report->last_txn = killing_last_txn(gw->store);
    assert_true(report->last_txn >= last);
    cachecheck_sum sum = cachecheck(gw->store);
    report->entries = (int64_t)sum.entries;
    report->classes = (int64_t)sum.classes;
    killing_look_up(job, gw, told);
    killing_writer mine;
    memset(&mine, 0, sizeof mine);
    began = t_now_ms();
    (void)killing_ask(gw, job, &mine, (size_t)(job->seed % ASKING_QUESTIONS), 23);
    assert_int_equal(llmgw_flush(gw), LLMGW_OK);
    report->commit_ms = t_now_ms() - began;
    assert_true(killing_last_txn(gw->store) > last);
    assert_int_equal(mine.failures, 0);
    llmgw_cache_numbers numbers;
    assert_int_equal(llmgw_cache_stats(gw, NULL, &numbers), LLMGW_OK);
    assert_true(numbers.on);
    report->purges = numbers.purges;
    report->samples = numbers.revalidations;
    report->evidence = numbers.fuzzy_requests;
    llmgw_close(gw);
    return 0;
}

/* For main: runs what is asked for and ends, if this is not the parent. Arguments: --job WHAT DIR PORT SMALL SEED FD */
static void killing_main(int argc, char **argv) {
    if (argc < 8 || strcmp(argv[1], "--job")) return;
    killing_job job = {argv[3], atoi(argv[4]), atoi(argv[5]), strtoull(argv[6], NULL, 10), NULL};
    void *map = mmap(NULL, sizeof(killing_shared), PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argv[7]), 0);
    if (map == MAP_FAILED) exit(4);
    job.shared = (killing_shared *)map;
    exit(argv[2][0] == 'c' ? killing_check(&job) : killing_write(&job, argv[2][0] - '0'));
}

static pid_t killing_run(const killing_job *job, const char *what, int fd) {
    char port[16], small[16], seed[32], memory[16];
    snprintf(port, sizeof port, "%d", job->port);
    snprintf(small, sizeof small, "%d", job->small);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)job->seed);
    snprintf(memory, sizeof memory, "%d", fd);
    pid_t parent = getpid(), pid = fork();
    if (pid) return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(0);
    execl("/proc/self/exe", "killing", "--job", what, job->dir, port, small, seed, memory, (char *)NULL);
    _exit(127);
}

/* ---- the parent ---- */

static int killing_status(pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    return status;
}

static void killing_kill(killing_sum *sum, pid_t pid) {
    kill(pid, SIGKILL);
    int status = killing_status(pid);
    sum->kills++;
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
        fprintf(stderr, "kill: a writer had ended by itself: %d\n", status);
        sum->failures++;
    }
}

static void killing_checked(killing_sum *sum, const killing_job *job, int fd) {
    killing_report *report = &job->shared->report;
    memset(report, 0, sizeof *report);
    int status = killing_status(killing_run(job, "check", fd));
    sum->checks++;
    if (status) {
        fprintf(stderr, "kill: --seed %llu: the check ended with %d\n", (unsigned long long)job->seed,
                status);
        sum->failed_checks++;
    }
    sum->wrong += report->wrong;
    sum->looked += report->looked;
    if (job->small)
        sum->evicted += report->missing;
    else if (report->purges == 0)
        sum->missing += report->missing;
    sum->purges += report->purges > 0;
    if (report->samples > sum->samples) sum->samples = report->samples;
    if (report->entries > sum->most_entries) sum->most_entries = report->entries;
    if (report->open_ms > sum->worst_open_ms) sum->worst_open_ms = report->open_ms;
    if (report->commit_ms > sum->worst_commit_ms) sum->worst_commit_ms = report->commit_ms;
}

/* What writer who told stays true when there is another in its place. */
static void killing_gather(killing_sum *sum, killing_shared *shared, int who) {
    killing_writer *writer = &shared->writers[who];
    for (size_t i = 0; i < ASKING_QUESTIONS; i++) shared->known[i] |= writer->known[i];
    if (writer->last_txn > shared->last_txn) shared->last_txn = writer->last_txn;
    sum->asked += writer->asked;
    sum->exact += writer->exact;
    sum->semantic += writer->semantic;
    sum->flushes += writer->flushes;
    sum->failures += writer->failures;
    memset(writer, 0, sizeof *writer);
}

/* The one that lives commits, although the other was killed. */
static void killing_survives(killing_sum *sum, const killing_writer *writer) {
    int64_t before = __atomic_load_n(&writer->flushes, __ATOMIC_ACQUIRE),
            until = t_now_ms() + KILLING_LATE_MS;
    while (__atomic_load_n(&writer->flushes, __ATOMIC_ACQUIRE) == before && t_now_ms() < until) t_sleep_ms(1);
    sum->survivors++;
    sum->stuck += __atomic_load_n(&writer->flushes, __ATOMIC_ACQUIRE) == before;
}

static void killing_round(killing_sum *sum, const killing_job *job, int fd) {
    pid_t pids[2];
    static const char *const names[] = {"0", "1"};
    uint64_t random = llmgwi_base_mix(job->seed);
    for (int w = 0; w < 2; w++) pids[w] = killing_run(job, names[w], fd);
    if (random % 8) /* else they are killed while they open it */
        for (int64_t until = t_now_ms() + KILLING_LATE_MS; t_now_ms() < until;) {
            if (__atomic_load_n(&job->shared->writers[0].ready, __ATOMIC_ACQUIRE) &&
                __atomic_load_n(&job->shared->writers[1].ready, __ATOMIC_ACQUIRE))
                break;
            t_sleep_ms(1);
        }
    usleep((useconds_t)(random >> 8) % (job->small ? 300000 : 100000));
    int first = (int)(random >> 40 & 1);
    killing_kill(sum, pids[first]);
    if (random >> 41 & 1) {
        killing_checked(sum, job, fd);
        killing_survives(sum, &job->shared->writers[!first]);
        usleep((useconds_t)(random >> 16) % 20000);
    }
    killing_kill(sum, pids[!first]);
    killing_checked(sum, job, fd);
    for (int w = 0; w < 2; w++) killing_gather(sum, job->shared, w);
}

static void killing_remove(const char *dir) {
    char line[128];
    snprintf(line, sizeof line, "rm -rf %s", dir);
    if (system(line)) perror(line);
}

static killing_sum killing(int kills, uint64_t seed) {
    killing_sum sum;
    Provider provider;
    char top[] = "/tmp/llmgw-kill-XXXXXX", oracle[64], dirs[2][64];
    memset(&sum, 0, sizeof sum);
    if (!mkdtemp(top)) exit(3);
    snprintf(oracle, sizeof oracle, "%s/answers", top);
    asking_oracle(oracle, ASKING_QUESTIONS, SIZE_MAX);
    const char *const more[] = {"--answers", oracle, NULL};
    provider_start(&provider, more);
    int fds[2];
    killing_shared *shared[2];
    for (int s = 0; s < 2; s++) {
        snprintf(dirs[s], sizeof dirs[s], "%s/%s", top, s ? "small" : "large");
        fds[s] = memfd_create("killing", 0);
        if (fds[s] < 0 || ftruncate(fds[s], sizeof(killing_shared))) exit(3);
        shared[s] =
            (killing_shared *)mmap(NULL, sizeof *shared[s], PROT_READ | PROT_WRITE, MAP_SHARED, fds[s], 0);
        if (shared[s] == (killing_shared *)MAP_FAILED) exit(3);
    }
    for (int round = 0, since = 0; sum.kills < kills; round++) {
        int s = round % 2;
        killing_job job = {dirs[s], provider.port, s, seed + (uint64_t)round, shared[s]};
        /* every second time the small store is used, a third of the answers have become wrong: classes are purged */
        if (round % 4 == 3) provider_rule(&provider, "{\"oracle\":{\"change\":0.3}}");
        killing_round(&sum, &job, fds[s]);
        if (round % 4 == 3) provider_reset(&provider);
        if (sum.kills - since < KILLING_PER_STORE * 2) continue;
        since = sum.kills;
        for (int d = 0; d < 2; d++) killing_remove(dirs[d]), memset(shared[d], 0, sizeof *shared[d]);
    }
    provider_stop(&provider);
    for (int s = 0; s < 2; s++) close(fds[s]), munmap(shared[s], sizeof *shared[s]);
    killing_remove(top);
    return sum;
}

static bool killing_is_good(const killing_sum *sum) {
    return !sum->failed_checks && !sum->missing && !sum->wrong && !sum->stuck && !sum->failures &&
           sum->worst_open_ms < KILLING_LATE_MS && sum->worst_commit_ms < KILLING_LATE_MS;
}

static void killing_print(const killing_sum *sum) {
    printf(
        "kill -9: %d kills, %d checks, %d of them failed; writers asked %lld (%lld exact hits, %lld fuzzy), "
        "flushed %lld, failed %lld; %lld committed entries looked up, %d missing, %d wrong, %d evicted or "
        "purged; %d survivors, %d "
        "stuck; at most %lld entries, %lld samples; %lld checks saw purges; slowest open %lld ms, first "
        "commit %lld "
        "ms\n",
        sum->kills, sum->checks, sum->failed_checks, (long long)sum->asked, (long long)sum->exact,
        (long long)sum->semantic, (long long)sum->flushes, (long long)sum->failures, (long long)sum->looked,
        sum->missing, sum->wrong, sum->evicted, sum->survivors, sum->stuck, (long long)sum->most_entries,
        (long long)sum->samples, (long long)sum->purges, (long long)sum->worst_open_ms,
        (long long)sum->worst_commit_ms);
}

#endif
