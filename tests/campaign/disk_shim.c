/* Preloaded into a replica, so that its disk can fail on order: at the n-th sync or write of a file under one directory,
   the process dies, or the call fails, is slow, or is only half done.

   SHIM_ORDERS names a file of seven 32-bit numbers (struct orders) that the test writes and this reads, through shared
   memory; SHIM_UNDER is the directory. Both ways to sync are covered: fsync and fdatasync, and io_submit, which a
   replica calls by number. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum rule { NOTHING, DIE_BEFORE_SYNC, DIE_AFTER_SYNC, FAIL_SYNC, FAIL_SYNC_LATE, SLOW_SYNC, FAIL_WRITE, TORN_WRITE, NO_ROOM };

struct orders {
    _Atomic int32_t rule;
    _Atomic int32_t children; /* 0: the replica itself; 1: the processes that it forks */
    _Atomic int32_t left;     /* this many matching calls from now on, counted from 1, it strikes */
    _Atomic int32_t forever;  /* and at each one after that */
    _Atomic int32_t value;    /* an error number, or milliseconds */
    _Atomic int32_t struck;   /* how often it did */
    _Atomic int32_t syncs;    /* syncs of any kind so far */
};

static struct orders *orders;
static const char *under;
static pid_t self;

__attribute__((constructor)) static void open_orders(void)
{
    const char *path = getenv("SHIM_ORDERS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    under = getenv("SHIM_UNDER");
    self = getpid();
    if (fd < 0 || !under)
        return;
    void *map = mmap(0, sizeof(struct orders), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    orders = map == MAP_FAILED ? 0 : map;
    close(fd);
}

static int concerns(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    return !strncmp(path, under, strlen(under));
}

/* Whether the rule strikes at this call. */
static int strikes(enum rule rule, int fd)
{
    if (!orders || orders->rule != (int32_t)rule || (getpid() != self) != orders->children)
        return 0;
    if (fd >= 0 && !concerns(fd))
        return 0;
    int32_t left = atomic_fetch_sub(&orders->left, 1);
    if (left != 1 && !(left < 1 && orders->forever))
        return 0;
    orders->struck++;
    return 1;
}

static void before_sync(int fd)
{
    if (orders)
        orders->syncs++;
    if (strikes(DIE_BEFORE_SYNC, fd))
        raise(SIGKILL);
    if (strikes(SLOW_SYNC, fd))
        usleep(orders->value * 1000);
}

static long failed(long result)
{
    errno = orders->value;
    return result;
}

static int sync_file(int fd, const char *name)
{
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    before_sync(fd);
    if (strikes(FAIL_SYNC, fd))
        return failed(-1);
    int result = real(fd);
    if (strikes(DIE_AFTER_SYNC, fd))
        raise(SIGKILL);
    return strikes(FAIL_SYNC_LATE, fd) ? failed(-1) : result;
}

int fsync(int fd) { return sync_file(fd, "fsync"); }
int fdatasync(int fd) { return sync_file(fd, "fdatasync"); }

long syscall(long number, ...)
{
    static long (*real)(long, ...);
    va_list list;
    long a[6];
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    if (!real)
        real = dlsym(RTLD_NEXT, "syscall");
    int fd = number == SYS_io_submit ? (int)(*(struct iocb **)a[2])->aio_fildes : -1;
    if (number == SYS_io_submit) {
        before_sync(fd);
        if (strikes(FAIL_SYNC, fd))
            return failed(-1);
    }
    long result = real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (number == SYS_io_submit && strikes(DIE_AFTER_SYNC, fd))
        raise(SIGKILL);
    if (number == SYS_io_getevents && result == 1 && strikes(FAIL_SYNC_LATE, -1))
        ((struct io_event *)a[3])->res = -orders->value;
    return result;
}

/* Whether a write would need room that the file does not have yet. */
static int grows(int fd, off_t end)
{
    struct stat now;
    return fstat(fd, &now) == 0 && S_ISREG(now.st_mode) && end > now.st_size;
}

static ssize_t put(const char *name, int fd, const void *bytes, size_t size, off_t at)
{
    ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, name);
    if (strikes(FAIL_WRITE, fd) || (grows(fd, at + (off_t)size) && strikes(NO_ROOM, fd)))
        return failed(-1);
    if (strikes(TORN_WRITE, fd)) {
        real(fd, bytes, size / 2, at);
        raise(SIGKILL);
    }
    return real(fd, bytes, size, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) { return put("pwrite", fd, bytes, size, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t at) { return put("pwrite64", fd, bytes, size, at); }

ssize_t write(int fd, const void *bytes, size_t size)
{
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    int fails = strikes(FAIL_WRITE, fd) || (grows(fd, lseek(fd, 0, SEEK_CUR) + (off_t)size) && strikes(NO_ROOM, fd));
    return fails ? failed(-1) : real(fd, bytes, size);
}

static int allocate(const char *name, int fd, off_t at, off_t size)
{
    int (*real)(int, off_t, off_t) = dlsym(RTLD_NEXT, name);
    return strikes(FAIL_WRITE, fd) || strikes(NO_ROOM, fd) ? orders->value : real(fd, at, size);
}

int posix_fallocate(int fd, off_t at, off_t size) { return allocate("posix_fallocate", fd, at, size); }
int posix_fallocate64(int fd, off_t at, off_t size) { return allocate("posix_fallocate64", fd, at, size); }
