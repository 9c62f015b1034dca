/* Journals every change that a process makes to the files below one directory, with the point where
 * each sync begins and ends. From that journal the tests work out what a power cut would have left.
 *
 * Loaded with LD_PRELOAD; KEELSON_POWER_ROOT is the directory, KEELSON_POWER_JOURNAL the journal.
 * The wrappers make system calls themselves: looking up the wrapped functions would allocate, and
 * the allocator opens files before it can. One lock around each change and its record keeps the
 * journal in the order in which things happened. A sync costs a fixed time instead of a disk's, so
 * that processes are often killed in the middle of one. What the wrappers do not understand is
 * journaled as '!', which fails the test rather than weakening it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_FDS 65536
#define SYNC_MICROS 400

static char root[4096];
static size_t root_len;
static int journal = -1;
static uint32_t handles[MAX_FDS]; /* of each descriptor; 0: not below the root */
static uint32_t last_handle;
static uint64_t last_sync;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void record(char op, uint32_t handle, uint64_t arg, const struct iovec *payload, int parts, size_t len);

__attribute__((constructor)) static void start(void) {
    const char *dir = getenv("KEELSON_POWER_ROOT"), *path = getenv("KEELSON_POWER_JOURNAL");
    if (!dir || !path || strlen(dir) >= sizeof root) return;
    journal = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CLOEXEC, 0);
    if (journal < 0) _exit(120);
    strcpy(root, dir);
    root_len = strlen(root);
}

static uint32_t handle_of(int fd) { return journal >= 0 && fd >= 0 && fd < MAX_FDS ? handles[fd] : 0; }

/* The part of a path below the root, or NULL. The root itself is "". */
static const char *below(const char *path) {
    if (journal < 0 || !path || strncmp(path, root, root_len)) return NULL;
    path += root_len;
    if (*path && *path != '/') return NULL;
    while (*path == '/') path++;
    return path;
}

/* A record is: op, handle, argument, length of the payload, payload. */
static void record(char op, uint32_t handle, uint64_t arg, const struct iovec *payload, int parts, size_t len) {
    unsigned char head[17];
    uint32_t size = len;
    head[0] = op;
    memcpy(head + 1, &handle, 4);
    memcpy(head + 5, &arg, 8);
    memcpy(head + 13, &size, 4);
    struct iovec out[64];
    int n = 0;
    out[n++] = (struct iovec){head, sizeof head};
    size_t left = len;
    for (int i = 0; i < parts && left && n < 64; i++) {
        size_t take = payload[i].iov_len < left ? payload[i].iov_len : left;
        out[n++] = (struct iovec){payload[i].iov_base, take};
        left -= take;
    }
    ssize_t wanted = sizeof head + len;
    if (left || syscall(SYS_writev, journal, out, n) != wanted) _exit(121);
}

static void record_text(char op, uint32_t handle, uint64_t arg, const char *a, const char *b) {
    struct iovec parts[2] = {{(void *)a, strlen(a) + (b ? 1 : 0)}, {(void *)(b ? b : ""), b ? strlen(b) : 0}};
    record(op, handle, arg, parts, 2, parts[0].iov_len + parts[1].iov_len);
}

static void unsupported(const char *what) {
    pthread_mutex_lock(&lock);
    record_text('!', 0, 0, what, NULL);
    pthread_mutex_unlock(&lock);
}

/* --- descriptors --- */

static int open_file(int dir, const char *path, int flags, mode_t mode) {
    const char *name = below(path);
    if (!name) return syscall(SYS_openat, dir, path, flags, mode);
    pthread_mutex_lock(&lock);
    int existed = syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
    int fd = syscall(SYS_openat, dir, path, flags, mode);
    if (fd >= MAX_FDS) _exit(122);
    if (fd >= 0) {
        uint64_t made = !existed, emptied = existed && (flags & O_TRUNC) && (flags & O_ACCMODE) != O_RDONLY;
        handles[fd] = ++last_handle;
        record_text('O', handles[fd], made | emptied << 1, name, NULL);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE_OF(flags, mode)                             \
    mode_t mode = 0;                                     \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {             \
        va_list rest;                                    \
        va_start(rest, flags);                           \
        mode = va_arg(rest, mode_t);                     \
        va_end(rest);                                    \
    }

int open(const char *path, int flags, ...) { MODE_OF(flags, mode) return open_file(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags, mode) return open_file(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE_OF(flags, mode) return open_file(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE_OF(flags, mode) return open_file(dir, path, flags, mode); }
int creat(const char *path, mode_t mode) { return open_file(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

static FILE *open_stream(const char *function, const char *path, const char *mode) {
    if (below(path) && strpbrk(mode, "wa+")) unsupported(function);
    FILE *(*wrapped)(const char *, const char *) = dlsym(RTLD_NEXT, function);
    return wrapped(path, mode);
}
FILE *fopen(const char *path, const char *mode) { return open_stream("fopen", path, mode); }
FILE *fopen64(const char *path, const char *mode) { return open_stream("fopen64", path, mode); }

int close(int fd) {
    if (handle_of(fd)) {
        pthread_mutex_lock(&lock);
        handles[fd] = 0;
        int result = syscall(SYS_close, fd);
        pthread_mutex_unlock(&lock);
        return result;
    }
    return fd == journal && fd >= 0 ? 0 : syscall(SYS_close, fd);
}

int closedir(DIR *dir) {
    int (*wrapped)(DIR *) = dlsym(RTLD_NEXT, "closedir");
    int fd = dirfd(dir);
    if (!handle_of(fd)) return wrapped(dir);
    pthread_mutex_lock(&lock);
    handles[fd] = 0;
    int result = wrapped(dir);
    pthread_mutex_unlock(&lock);
    return result;
}

static int duplicated(int from, int to) {
    if (to >= 0 && to < MAX_FDS) handles[to] = handle_of(from);
    return to;
}
int dup(int fd) { return duplicated(fd, syscall(SYS_dup, fd)); }
int dup2(int fd, int to) { return duplicated(fd, fd == to ? to : syscall(SYS_dup3, fd, to, 0)); }
int dup3(int fd, int to, int flags) { return duplicated(fd, syscall(SYS_dup3, fd, to, flags)); }

static int control(int fd, int command, long arg) {
    int result = syscall(SYS_fcntl, fd, command, arg);
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? duplicated(fd, result) : result;
}
#define LAST_OF(command, arg)    \
    va_list rest;                \
    va_start(rest, command);     \
    long arg = va_arg(rest, long); \
    va_end(rest);
int fcntl(int fd, int command, ...) { LAST_OF(command, arg) return control(fd, command, arg); }
int fcntl64(int fd, int command, ...) { LAST_OF(command, arg) return control(fd, command, arg); }

/* --- contents --- */

static uint64_t position(int fd) {
    struct stat now;
    if (syscall(SYS_fcntl, fd, F_GETFL) & O_APPEND) return fstat(fd, &now) == 0 ? now.st_size : 0;
    return syscall(SYS_lseek, fd, 0, SEEK_CUR);
}

/* at < 0: where the descriptor stands. */
static ssize_t write_parts(int fd, const struct iovec *parts, int count, off_t at) {
    uint32_t handle = handle_of(fd);
    if (handle) pthread_mutex_lock(&lock);
    uint64_t offset = handle && at < 0 ? position(fd) : (uint64_t)at;
    ssize_t n = at < 0 ? syscall(SYS_writev, fd, parts, count) : syscall(SYS_pwritev, fd, parts, count, at, 0);
    if (handle) {
        int saved = errno;
        if (n > 0) record('W', handle, offset, parts, count, n);
        pthread_mutex_unlock(&lock);
        errno = saved;
    }
    return n;
}

ssize_t write(int fd, const void *data, size_t len) {
    if (!handle_of(fd)) return syscall(SYS_write, fd, data, len);
    struct iovec part = {(void *)data, len};
    return write_parts(fd, &part, 1, -1);
}
ssize_t writev(int fd, const struct iovec *parts, int count) { return write_parts(fd, parts, count, -1); }
ssize_t pwrite(int fd, const void *data, size_t len, off_t at) {
    struct iovec part = {(void *)data, len};
    return write_parts(fd, &part, 1, at);
}
ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at) { return pwrite(fd, data, len, at); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return write_parts(fd, parts, count, at); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) { return write_parts(fd, parts, count, at); }

static int resize(int fd, int number, long a, long b, long c) {
    uint32_t handle = handle_of(fd);
    if (handle) pthread_mutex_lock(&lock);
    int result = syscall(number, fd, a, b, c);
    if (handle) {
        int saved = errno;
        struct stat now;
        if (result == 0 && fstat(fd, &now) == 0) record('T', handle, now.st_size, NULL, 0, 0);
        pthread_mutex_unlock(&lock);
        errno = saved;
    }
    return result;
}

int ftruncate(int fd, off_t len) { return resize(fd, SYS_ftruncate, len, 0, 0); }
int ftruncate64(int fd, off64_t len) { return ftruncate(fd, len); }
int fallocate(int fd, int mode, off_t at, off_t len) {
    /* Reserving space beyond the end changes nothing that a reader sees; nor does giving it back. */
    if (handle_of(fd) && (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE))) unsupported("fallocate");
    struct stat now;
    if (handle_of(fd) && (mode & FALLOC_FL_PUNCH_HOLE) && fstat(fd, &now) == 0 && at < now.st_size) unsupported("punched hole");
    if (mode & FALLOC_FL_KEEP_SIZE) return syscall(SYS_fallocate, fd, mode, at, len);
    return resize(fd, SYS_fallocate, mode, at, len);
}
int fallocate64(int fd, int mode, off64_t at, off64_t len) { return fallocate(fd, mode, at, len); }
int posix_fallocate(int fd, off_t at, off_t len) { return fallocate(fd, 0, at, len) == 0 ? 0 : errno; }
int posix_fallocate64(int fd, off64_t at, off64_t len) { return posix_fallocate(fd, at, len); }

void *mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset) {
    if ((protection & PROT_WRITE) && (flags & MAP_SHARED) && handle_of(fd)) unsupported("writable mmap");
    return (void *)syscall(SYS_mmap, at, len, protection, flags, fd, offset);
}
void *mmap64(void *at, size_t len, int protection, int flags, int fd, off64_t offset) {
    return mmap(at, len, protection, flags, fd, offset);
}
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t len, unsigned flags) {
    if (handle_of(out)) unsupported("copy_file_range");
    return syscall(SYS_copy_file_range, in, from, out, to, len, flags);
}
ssize_t sendfile(int out, int in, off_t *from, size_t len) {
    if (handle_of(out)) unsupported("sendfile");
    return syscall(SYS_sendfile, out, in, from, len);
}
ssize_t sendfile64(int out, int in, off64_t *from, size_t len) { return sendfile(out, in, from, len); }

/* --- syncs --- */

static int sync_file(int fd) {
    uint32_t handle = handle_of(fd);
    if (!handle) return syscall(SYS_fsync, fd);
    /* Covered is what was written before it began; promised it is only when it has ended. */
    pthread_mutex_lock(&lock);
    uint64_t sync = ++last_sync;
    record('b', handle, sync, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    usleep(SYNC_MICROS);
    pthread_mutex_lock(&lock);
    record('e', handle, sync, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return 0;
}

int fsync(int fd) { return sync_file(fd); }
int fdatasync(int fd) { return sync_file(fd); }
/* A hint to start writing, no promise: neither sizes nor the disk's own cache are covered. */
int sync_file_range(int fd, off64_t at, off64_t len, unsigned flags) {
    return handle_of(fd) ? 0 : syscall(SYS_sync_file_range, fd, at, len, flags);
}
int syncfs(int fd) {
    if (handle_of(fd)) unsupported("syncfs");
    return syscall(SYS_syncfs, fd);
}

/* --- names --- */

static int name_change(char op, const char *a, const char *b, int number, long x, long y, long z, long w) {
    const char *from = below(a), *to = b ? below(b) : NULL;
    if (!from && !to) return syscall(number, x, y, z, w);
    pthread_mutex_lock(&lock);
    int result = syscall(number, x, y, z, w), saved = errno;
    if (result == 0) {
        if (b && (!from || !to)) record_text('!', 0, 0, "a name moved in or out of the directory", NULL);
        else record_text(op, 0, 0, from, b ? to : NULL);
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
    return result;
}

int rename(const char *a, const char *b) { return name_change('R', a, b, SYS_renameat, AT_FDCWD, (long)a, AT_FDCWD, (long)b); }
int link(const char *a, const char *b) { return name_change('L', a, b, SYS_link, (long)a, (long)b, 0, 0); }
int unlink(const char *path) { return name_change('U', path, NULL, SYS_unlink, (long)path, 0, 0, 0); }
int remove(const char *path) { return name_change('U', path, NULL, SYS_unlink, (long)path, 0, 0, 0); }
int rmdir(const char *path) { return name_change('U', path, NULL, SYS_rmdir, (long)path, 0, 0, 0); }
int mkdir(const char *path, mode_t mode) { return name_change('M', path, NULL, SYS_mkdir, (long)path, mode, 0, 0); }
int renameat(int da, const char *a, int db, const char *b) {
    return name_change('R', a, b, SYS_renameat, da, (long)a, db, (long)b);
}
int renameat2(int da, const char *a, int db, const char *b, unsigned flags) {
    if (flags && (below(a) || below(b))) unsupported("renameat2");
    return syscall(SYS_renameat2, da, a, db, b, flags);
}
/* Whole folders are removed from within: the names are relative to a descriptor. */
int unlinkat(int dir, const char *path, int flags) {
    char link[32], whole[8192];
    const char *named = path;
    if (handle_of(dir) && *path != '/') {
        snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
        ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, whole, sizeof whole - 1);
        if (n < 0 || n + strlen(path) + 2 > sizeof whole) unsupported("a folder without a path");
        else {
            sprintf(whole + n, "/%s", path);
            named = whole;
        }
    }
    return name_change('U', named, NULL, SYS_unlinkat, dir, (long)path, flags, 0);
}
int truncate(const char *path, off_t len) {
    if (below(path)) unsupported("truncate");
    return syscall(SYS_truncate, path, len);
}
