/* fixtures.h - recorded traffic, which is not part of this repository: read from FIXTURES, else from ../shared/fixtures.
   A test that needs it skips where it is not there, and says so. */
#ifndef FIXTURES_H
#define FIXTURES_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIXTURE_UNUSED __attribute__((unused))

static const char *fixture_root(void) {
    const char *root = getenv("FIXTURES");
    return root && root[0] ? root : "../shared/fixtures";
}

/* A file's bytes, with a NUL behind; the caller frees them. NULL: there is no such file. */
FIXTURE_UNUSED static char *fixture_read(const char *name, size_t *n) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", fixture_root(), name);
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    char *bytes = (char *)malloc(4 << 20);
    if (bytes) *n = fread(bytes, 1, (4 << 20) - 1, file);
    if (bytes) bytes[*n] = 0;
    fclose(file);
    return bytes;
}

/* Calls each for every file of a directory whose name ends so, in the order of the directory; returns how many. */
FIXTURE_UNUSED static int fixture_each(const char *dir, const char *end,
                                       void (*each)(const char *name, const char *bytes, size_t n)) {
    char path[1024];
    int count = 0;
    snprintf(path, sizeof path, "%s/%s", fixture_root(), dir);
    DIR *open = opendir(path);
    for (struct dirent *entry; open && (entry = readdir(open)) != NULL;) {
        size_t n = strlen(entry->d_name), tail = strlen(end);
        if (entry->d_name[0] == '.' || n < tail || strcmp(entry->d_name + n - tail, end) != 0) continue;
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        char *bytes = fixture_read(path, &n);
        if (!bytes) continue;
        each(entry->d_name, bytes, n);
        free(bytes);
        count++;
    }
    if (open) closedir(open);
    return count;
}

/* In a cmocka test: goes on only where there are fixtures. */
#define FIXTURES_OR_SKIP(count)                                                                              \
    do {                                                                                                     \
        if ((count) == 0) {                                                                                  \
            print_message("SKIPPED: no fixtures at %s\n", fixture_root());                                   \
            skip();                                                                                          \
        }                                                                                                    \
    } while (0)

#endif
