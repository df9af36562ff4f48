/* Records every change that a process makes to the files in one folder, in order, by standing before libc (LD_PRELOAD).
 *
 * RECORD_FOLDER names the folder, RECORD_LOG the file that the log is appended to. One entry:
 *   op (1 byte), descriptor (i32), offset (i64), length (u32), path length (u16), path, data. Little-endian hosts only.
 *   'o' a file was created, 'w' written, 't' truncated to `offset`, 's' synced, 'u' unlinked, 'r' renamed (data: new
 *   path), 'd' the folder was synced, 'm' a mark: a write to the path RECORD_MARK, which is not carried out.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 1024
static char *names[FILES];
static int log_file = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(type, name, ...)                                   \
    static type (*real)(__VA_ARGS__);                           \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static void put(const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    const char *at = data;
    while (size) {
        ssize_t done = real(log_file, at, size);
        if (done <= 0) abort();
        at += done;
        size -= (size_t)done;
    }
}

static void record(char op, int file, int64_t offset, const char *path, const void *data, uint32_t size) {
    int32_t number = file;
    uint16_t length = (uint16_t)strlen(path);
    int kept = errno;
    pthread_mutex_lock(&lock);
    if (log_file < 0) {
        REAL(int, "open64", const char *, int, ...);
        log_file = real(getenv("RECORD_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (log_file < 0) abort();
    }
    put(&op, 1);
    put(&number, 4);
    put(&offset, 8);
    put(&size, 4);
    put(&length, 2);
    put(path, length);
    put(data, size);
    pthread_mutex_unlock(&lock);
    errno = kept;
}

/* The name inside the folder, "" for the folder itself, NULL for anything else. */
static const char *inside(const char *path) {
    const char *folder = getenv("RECORD_FOLDER");
    size_t size = folder ? strlen(folder) : 0;
    if (!size || strncmp(path, folder, size)) return NULL;
    if (!path[size]) return path + size;
    return path[size] == '/' ? path + size + 1 : NULL;
}

static const char *name_of(int file) { return file >= 0 && file < FILES ? names[file] : NULL; }

static void opened(int file, const char *path, int existed) {
    const char *name = inside(path);
    const char *mark = getenv("RECORD_MARK");
    if (file < 0 || file >= FILES) return;
    free(names[file]);
    names[file] = NULL;
    if (mark && !strcmp(path, mark)) names[file] = strdup("//mark");
    if (!name) return;
    names[file] = strdup(name);
    if (!existed) record('o', file, 0, name, "", 0);
}

static int do_open(const char *symbol, const char *path, int flags, mode_t mode) {
    int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, symbol);
    int existed = access(path, F_OK) == 0;
    int file = real(path, flags, mode);
    opened(file, path, existed || !(flags & O_CREAT));
    if (file >= 0 && existed && (flags & O_TRUNC) && name_of(file) && inside(path))
        record('t', file, 0, name_of(file), "", 0);
    return file;
}

#define OPEN(name)                                  \
    int name(const char *path, int flags, ...) {    \
        mode_t mode = 0;                            \
        if (flags & (O_CREAT | __O_TMPFILE)) {      \
            va_list more;                           \
            va_start(more, flags);                  \
            mode = va_arg(more, mode_t);            \
            va_end(more);                           \
        }                                           \
        return do_open(#name, path, flags, mode);   \
    }
OPEN(open)
OPEN(open64)

int close(int file) {
    REAL(int, "close", int);
    if (name_of(file)) {
        free(names[file]);
        names[file] = NULL;
    }
    return real(file);
}

ssize_t write(int file, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    const char *name = name_of(file);
    if (!name) return real(file, data, size);
    if (!strcmp(name, "//mark")) {
        record('m', file, 0, "", data, (uint32_t)size);
        return (ssize_t)size;
    }
    off_t at = lseek(file, 0, SEEK_CUR);
    ssize_t done = real(file, data, size);
    if (done > 0) record('w', file, at, name, data, (uint32_t)done);
    return done;
}

#define PWRITE(symbol, offset_type)                                                        \
    ssize_t symbol(int file, const void *data, size_t size, offset_type at) {              \
        REAL(ssize_t, #symbol, int, const void *, size_t, offset_type);                    \
        ssize_t done = real(file, data, size, at);                                         \
        if (done > 0 && name_of(file)) record('w', file, at, name_of(file), data, (uint32_t)done); \
        return done;                                                                       \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define TRUNCATE(symbol, offset_type)                                             \
    int symbol(int file, offset_type size) {                                      \
        REAL(int, #symbol, int, offset_type);                                     \
        int failed = real(file, size);                                            \
        if (!failed && name_of(file)) record('t', file, size, name_of(file), "", 0); \
        return failed;                                                            \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(symbol)                                                              \
    int symbol(int file) {                                                        \
        REAL(int, #symbol, int);                                                  \
        int failed = real(file);                                                  \
        const char *name = name_of(file);                                         \
        if (!failed && name) record(*name ? 's' : 'd', file, 0, name, "", 0);     \
        return failed;                                                            \
    }
SYNC(fsync)
SYNC(fdatasync)

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    int failed = real(path);
    if (!failed && inside(path)) record('u', -1, 0, inside(path), "", 0);
    return failed;
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    int failed = real(from, to);
    if (!failed && inside(from) && inside(to))
        record('r', -1, 0, inside(from), inside(to), (uint32_t)strlen(inside(to)));
    return failed;
}

/* What would change the files without being seen: refuse it, so that the log is known to be whole. */
ssize_t pwritev(int file, const struct iovec *parts, int count, off_t at) {
    (void)file, (void)parts, (void)count, (void)at;
    abort();
}
int posix_fallocate64(int file, off64_t at, off64_t size) {
    (void)file, (void)at, (void)size;
    abort();
}
int posix_fallocate(int file, off_t at, off_t size) {
    (void)file, (void)at, (void)size;
    abort();
}
