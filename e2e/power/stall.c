/* Holds up every sync while the file named by KEELSON_STALL exists: a disk that does not answer.
 * Loaded with LD_PRELOAD. What was asked for is done once the file is gone. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const char *name;

__attribute__((constructor)) static void start(void) { name = getenv("KEELSON_STALL"); }

static void wait_for_the_disk(void) {
    const struct timespec moment = {0, 5 * 1000 * 1000};
    while (name && syscall(SYS_faccessat, AT_FDCWD, name, F_OK) == 0) nanosleep(&moment, NULL);
}

int fsync(int fd) {
    wait_for_the_disk();
    return syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    wait_for_the_disk();
    return syscall(SYS_fdatasync, fd);
}

int sync_file_range(int fd, off_t offset, off_t bytes, unsigned int flags) {
    wait_for_the_disk();
    return syscall(SYS_sync_file_range, fd, offset, bytes, flags);
}
