/* What the fuzz targets share: FUZZ_CHECK, an allocator that counts, and, with LLMGW_FUZZ_MAIN, a main
   that replays the files and directories given as arguments. Included after llmgw.h. */
#ifndef FUZZ_MAIN_H
#define FUZZ_MAIN_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FUZZ_CHECK(truth)                                                                                    \
    do {                                                                                                     \
        if (!(truth)) {                                                                                      \
            fprintf(stderr, "%s:%d: FUZZ_CHECK(%s)\n", __FILE__, __LINE__, #truth);                          \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

/* Every block carries its size in front: a wrong old_size, or a byte that is left, is an error. */
typedef struct fuzz_heap {
    size_t live;
} fuzz_heap;

static void *fuzz_alloc(void *ptr, size_t old_size, size_t new_size, void *user) {
    fuzz_heap *heap = (fuzz_heap *)user;
    size_t *block = ptr ? (size_t *)ptr - 2 : NULL;
    if (block) {
        FUZZ_CHECK(block[0] == old_size);
        heap->live -= old_size;
    }
    if (new_size == 0) {
        free(block);
        return NULL;
    }
    block = (size_t *)realloc(block, new_size + 2 * sizeof(size_t));
    FUZZ_CHECK(block);
    block[0] = new_size;
    heap->live += new_size;
    return block + 2;
}

/* Length of the UTF-8 character at p, 0 if there is none: an opinion that is not the header's. */
static inline size_t fuzz_utf8(const char *text, size_t n) {
    const unsigned char *p = (const unsigned char *)text;
    size_t size = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 0;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t point = size == 1 ? p[0] : p[0] & (0x7Fu >> size);
    if (size == 0 || size > n) return 0;
    for (size_t i = 1; i < size; i++) {
        if (p[i] >> 6 != 2) return 0;
        point = point << 6 | (p[i] & 0x3F);
    }
    bool surrogate = point >= 0xD800 && point < 0xE000;
    return point < least[size] || point > 0x10FFFF || surrogate ? 0 : size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifdef LLMGW_FUZZ_MAIN
static int fuzz_file(const char *path) {
    FILE *file = fopen(path, "rb");
    static uint8_t data[1 << 20];
    if (!file) {
        perror(path);
        return 1;
    }
    size_t size = fread(data, 1, sizeof data, file);
    fclose(file);
    uint8_t *copy = (uint8_t *)malloc(size ? size : 1);
    FUZZ_CHECK(copy);
    memcpy(copy, data, size);
    printf("%s\n", path);
    fflush(stdout);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    return 0;
}

static int fuzz_path(const char *path) {
    struct stat info;
    struct dirent **names;
    int bad = 0;
    if (stat(path, &info) != 0) {
        perror(path);
        return 1;
    }
    if (!S_ISDIR(info.st_mode)) return fuzz_file(path);
    int count = scandir(path, &names, NULL, alphasort);
    if (count < 0) {
        perror(path);
        return 1;
    }
    for (int i = 0; i < count; i++) {
        char below[4096];
        snprintf(below, sizeof below, "%s/%s", path, names[i]->d_name);
        if (names[i]->d_name[0] != '.') bad |= fuzz_path(below);
        free(names[i]);
    }
    free(names);
    return bad;
}

int main(int argc, char **argv) {
    int bad = 0;
    for (int i = 1; i < argc; i++) bad |= fuzz_path(argv[i]);
    return bad;
}
#endif
#endif
