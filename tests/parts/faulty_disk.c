/* Makes writes below a folder fail as those to a broken disk do; LD_PRELOAD it.
 *
 * $FAULTY_DISK names a file: "<errno> <folder>". While it is there, whatever is written to a file below the folder
 * fails with that error after half of it was written; new files can still be made, unless the error is EROFS. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int (*real_open)(const char *, int, ...);

__attribute__((constructor)) static void begin(void) { real_open = dlsym(RTLD_NEXT, "open64"); }

/* The error that writes below `path` have, or 0. */
static int error_below(const char *path) {
    const char *told = getenv("FAULTY_DISK");
    if (told == NULL || real_open == NULL) return 0;
    int saved = errno, error = 0;
    int file = real_open(told, O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        char line[PATH_MAX + 16] = {0}, folder[PATH_MAX] = {0};
        ssize_t (*real_read)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");
        if (real_read(file, line, sizeof line - 1) > 0 && sscanf(line, "%d %4095s", &error, folder) == 2 &&
            strncmp(path, folder, strlen(folder)) != 0)
            error = 0;
        close(file);
    }
    errno = saved;
    return error;
}

static int error_of(int file) {
    char link[64], path[PATH_MAX];
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length <= 0) return 0;
    path[length] = 0;
    return path[0] == '/' ? error_below(path) : 0;
}

ssize_t write(int file, const void *content, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (real == NULL) real = dlsym(RTLD_NEXT, "write");
    int error = error_of(file);
    if (error == 0) return real(file, content, size);
    real(file, content, size / 2);
    errno = error;
    return -1;
}

#define PWRITE(name)                                                             \
    ssize_t name(int file, const void *content, size_t size, off_t offset) {     \
        static ssize_t (*real)(int, const void *, size_t, off_t);                \
        if (real == NULL) real = dlsym(RTLD_NEXT, #name);                        \
        int error = error_of(file);                                              \
        if (error == 0) return real(file, content, size, offset);                \
        real(file, content, size / 2, offset);                                   \
        errno = error;                                                           \
        return -1;                                                               \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define OPEN(name)                                                               \
    int name(const char *path, int flags, ...) {                                 \
        static int (*real)(const char *, int, ...);                              \
        if (real == NULL) real = dlsym(RTLD_NEXT, #name);                        \
        va_list further;                                                         \
        va_start(further, flags);                                                \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(further, mode_t) : 0; \
        va_end(further);                                                         \
        int error = flags & O_CREAT && path[0] == '/' ? error_below(path) : 0;   \
        if (error != EROFS) return real(path, flags, mode);                      \
        errno = error;                                                           \
        return -1;                                                               \
    }
OPEN(open)
OPEN(open64)

/* chDB asks for its own libc before ours; then it would not be stopped. */
void *dlopen(const char *path, int flags) {
    static void *(*real)(const char *, int);
    if (real == NULL) real = dlsym(RTLD_NEXT, "dlopen");
    return real(path, flags & ~RTLD_DEEPBIND);
}
