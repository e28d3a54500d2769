/*
 * A slow disk for any server: preloaded, it makes each write that waits for the disk wait longer.
 *
 *   cc -O2 -shared -fPIC -o slow_disk.so slow_disk.c -ldl
 *   SLOW_DISK_US=3000 LD_PRELOAD=./slow_disk.so redis-server --appendonly yes --appendfsync always
 *
 * It delays fsync, fdatasync, and every write to a file that was opened with O_DSYNC or O_SYNC, each by SLOW_DISK_US
 * microseconds after it was done (in addition to the disk's own time). Only calls through the C library are delayed:
 * a program that makes system calls itself, or uses io_uring, is not slowed. A measurement should verify that a single
 * synced write takes at least this long; compare_redis.py does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static void delay(void) {
    static long delay_us = -1;
    if (delay_us < 0) {
        const char *text = getenv("SLOW_DISK_US");
        delay_us = text ? atol(text) : 3000;
    }
    int kept = errno;
    struct timespec left = {delay_us / 1000000, delay_us % 1000000 * 1000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
    errno = kept;
}

/* O_SYNC contains the bit of O_DSYNC. Sockets and pipes never have it. */
static int waits_for_disk(int fd) {
    int kept = errno;
    int flags = fcntl(fd, F_GETFL);
    errno = kept;
    return flags >= 0 && (flags & O_DSYNC) != 0;
}

/* The function of this name in the C library. Two threads that both miss it find the same. */
static void *find(void **found, const char *name) {
    if (*found == NULL) *found = dlsym(RTLD_NEXT, name);
    return *found;
}

#define REAL(name) ((__typeof__(&name))find(&real_##name, #name))

#define SYNC(name)                                   \
    static void *real_##name;                        \
    int name(int fd) {                               \
        int result = REAL(name)(fd);                 \
        delay();                                     \
        return result;                               \
    }

#define WRITE(name, parameters, arguments)           \
    static void *real_##name;                        \
    ssize_t name parameters {                        \
        ssize_t result = REAL(name) arguments;       \
        if (waits_for_disk(fd)) delay();             \
        return result;                               \
    }

SYNC(fsync)
SYNC(fdatasync)
WRITE(write, (int fd, const void *bytes, size_t count), (fd, bytes, count))
WRITE(writev, (int fd, const struct iovec *parts, int count), (fd, parts, count))
WRITE(pwrite, (int fd, const void *bytes, size_t count, off_t at), (fd, bytes, count, at))
WRITE(pwrite64, (int fd, const void *bytes, size_t count, off64_t at), (fd, bytes, count, at))
WRITE(pwritev, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at))
WRITE(pwritev64, (int fd, const struct iovec *parts, int count, off64_t at), (fd, parts, count, at))

static void *real_pwritev2;
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t at, int flags) {
    ssize_t result = REAL(pwritev2)(fd, parts, count, at, flags);
    if ((flags & (RWF_DSYNC | RWF_SYNC)) != 0 || waits_for_disk(fd)) delay();
    return result;
}
