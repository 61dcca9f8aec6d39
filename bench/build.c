/* build.c - what it costs to compile llmgw.h, and how large the machine code is. Run from the top of the
   repository; CC is the compiler (gcc). Time is the compiler's CPU time, user and system. */
#include <fcntl.h>
#include <stdbool.h>

#include "bench.h"

static char directory[] = "/tmp/llmgw-bench-XXXXXX";

static void write_file(const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0) bench_die(path);
}

/* Compiles NAME.c to NAME.o, or another object. Returns seconds of CPU. */
static double compile(const char *name, const char *object, const char *optimize) {
    char source[256], out[256];
    const char *cc = getenv("CC");
    struct rusage usage;
    int status;
    snprintf(source, sizeof source, "%s/%s.c", directory, name);
    snprintf(out, sizeof out, "%s/%s.o", directory, object);
    if (!cc || !cc[0]) cc = "gcc";
    pid_t pid = fork();
    if (pid < 0) bench_die("fork");
    if (pid == 0) {
        execlp(cc, cc, "-std=gnu11", optimize, "-DNDEBUG", "-w", "-I.", "-c", source, "-o", out,
               (char *)NULL);
        _exit(127);
    }
    if (wait4(pid, &status, 0, &usage) != pid || status != 0) bench_die("the compiler failed");
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* KB of machine code and of constants (text as size(1) counts: both), of data. */
static void sizes(const char *object, double *code, double *text, double *data) {
    char command[512], line[256], name[64];
    unsigned long bytes;
    *code = *text = *data = 0;
    snprintf(command, sizeof command, "size -A %s/%s.o", directory, object);
    FILE *pipe = popen(command, "r");
    while (pipe && fgets(line, sizeof line, pipe)) {
        if (sscanf(line, "%63s %lu", name, &bytes) != 2) continue;
        if (strncmp(name, ".text", 5) == 0) *code += (double)bytes / 1024;
        if (strncmp(name, ".rodata", 7) == 0 || strncmp(name, ".eh_frame", 9) == 0)
            *text += (double)bytes / 1024;
        if (strncmp(name, ".data", 5) == 0 || strncmp(name, ".bss", 4) == 0) *data += (double)bytes / 1024;
    }
    *text += *code;
    if (!pipe || pclose(pipe) != 0) bench_die("size");
}

int main(void) {
    bool quick = bench_quick();
    double full[BENCH_ROUNDS], empty[BENCH_ROUNDS], over[BENCH_ROUNDS], curl[BENCH_ROUNDS];
    double code, text, data;
    if (access("llmgw.h", R_OK) != 0) bench_die("run it from the top of the repository");
    if (!mkdtemp(directory)) bench_die("mkdtemp");
    write_file("full.c", "#define LLMGW_IMPLEMENTATION\n#include \"llmgw.h\"\n");
    write_file("declarations.c", "#include \"llmgw.h\"\n");
    write_file("curl.c", "#include <curl/curl.h>\n");
    write_file("empty.c", "");
    int rounds = quick ? 1 : 5;
    for (int i = 0; i < rounds; i++) full[i] = compile("full", "full", "-O2");
    sizes("full", &code, &text, &data);
    bench_row("machine code with every dialect, x86-64 -O2, KB", code, "KB", "<= 300", NULL,
              ".text of an object with the implementation; with constants %.0f KB, data %.1f KB", text, data);
    compile("full", "small", "-Os");
    sizes("small", &code, &text, &data);
    bench_row("machine code with every dialect, x86-64 -Os, KB", code, "KB", "", NULL,
              "with constants %.0f KB", text);
    bench_row("compile at -O2, seconds", bench_median(full, rounds), "s", "<= 4", NULL,
              "the implementation alone, CPU time of the compiler");
    rounds = quick ? 5 : 25;
    for (int i = 0; i < rounds; i++) {
        double nothing = compile("empty", "empty", "-O2");
        double declarations = compile("declarations", "declarations", "-O2");
        curl[i] = (compile("curl", "curl", "-O2") - nothing) * 1000;
        empty[i] = nothing * 1000;
        over[i] = (declarations - nothing) * 1000;
    }
    bench_row("declarations only, over an empty file, milliseconds", bench_median(over, rounds), "ms",
              "<= 20", NULL,
              "CPU time of the compiler, by turns; empty file %.1f ms, curl/curl.h over it %.1f ms",
              bench_median(empty, rounds), bench_median(curl, rounds));
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command) == 0 ? 0 : 1;
}
