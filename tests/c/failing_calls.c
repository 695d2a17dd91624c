/* For LD_PRELOAD: has one call of one system call fail. `arm` says which; a call that
 * fails does nothing.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *armed; /* the name of the call */
static int countdown;     /* calls until the one that fails */
static int failure;       /* its errno */

/* Have the `nth` call of `name` fail, beginning with 1. */
void
arm(const char *name, int nth, int error)
{
    armed = name;
    countdown = nth;
    failure = error;
}

/* Nothing fails any more. Returns whether something has. */
int
disarm(void)
{
    int failed = armed != NULL && countdown <= 0;

    armed = NULL;
    return failed;
}

static int
fails(const char *name)
{
    if (armed == NULL || strcmp(armed, name) != 0 || --countdown != 0)
        return 0;
    errno = failure;
    return 1;
}

void *
mmap(void *start, size_t size, int protection, int flags, int fd, off_t offset)
{
    void *(*call)(void *, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, "mmap");

    if (fails("mmap"))
        return MAP_FAILED;
    return call(start, size, protection, flags, fd, offset);
}

int
munmap(void *start, size_t size)
{
    int (*call)(void *, size_t) = dlsym(RTLD_NEXT, "munmap");

    return fails("munmap") ? -1 : call(start, size);
}

void *
mremap(void *start, size_t before, size_t size, int flags, ...)
{
    void *(*call)(void *, size_t, size_t, int, ...) = dlsym(RTLD_NEXT, "mremap");
    void *target;
    va_list rest;

    if (fails("mremap"))
        return MAP_FAILED;
    if (!(flags & MREMAP_FIXED))
        return call(start, before, size, flags);
    va_start(rest, flags);
    target = va_arg(rest, void *);
    va_end(rest);
    return call(start, before, size, flags, target);
}

int
ftruncate(int fd, off_t size)
{
    int (*call)(int, off_t) = dlsym(RTLD_NEXT, "ftruncate");

    return fails("ftruncate") ? -1 : call(fd, size);
}

int
fstat(int fd, struct stat *ret_status)
{
    int (*call)(int, struct stat *) = dlsym(RTLD_NEXT, "fstat");

    return fails("fstat") ? -1 : call(fd, ret_status);
}

int
close(int fd)
{
    int (*call)(int) = dlsym(RTLD_NEXT, "close");

    if (fails("close")) { /* as Linux has it: closed all the same */
        call(fd);
        errno = failure;
        return -1;
    }
    return call(fd);
}

/* What those are called in a program with 64-bit offsets. */
void *mmap64(void *, size_t, int, int, int, off_t) __attribute__((alias("mmap")));
int ftruncate64(int, off_t) __attribute__((alias("ftruncate")));
int fstat64(int, struct stat64 *) __attribute__((alias("fstat")));
