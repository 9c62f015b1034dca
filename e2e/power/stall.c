/* Holds up every sync while the file named by KEELSON_STALL exists, and every read at a position while the one named by
 * KEELSON_STALL_READS does: a disk that does not answer. Loaded with LD_PRELOAD. What was asked for is done once the file
 * is gone. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const char *syncs, *reads;

__attribute__((constructor)) static void start(void) {
    syncs = getenv("KEELSON_STALL");
    reads = getenv("KEELSON_STALL_READS");
}

static void wait_while_there_is(const char *name) {
    const struct timespec moment = {0, 5 * 1000 * 1000};
    while (name && syscall(SYS_faccessat, AT_FDCWD, name, F_OK) == 0) nanosleep(&moment, NULL);
}

int fsync(int fd) {
    wait_while_there_is(syncs);
    return syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    wait_while_there_is(syncs);
    return syscall(SYS_fdatasync, fd);
}

int sync_file_range(int fd, off_t offset, off_t bytes, unsigned int flags) {
    wait_while_there_is(syncs);
    return syscall(SYS_sync_file_range, fd, offset, bytes, flags);
}

ssize_t pread(int fd, void *buffer, size_t bytes, off_t offset) {
    wait_while_there_is(reads);
    return syscall(SYS_pread64, fd, buffer, bytes, offset);
}

ssize_t pread64(int fd, void *buffer, size_t bytes, off64_t offset) {
    wait_while_there_is(reads);
    return syscall(SYS_pread64, fd, buffer, bytes, offset);
}
