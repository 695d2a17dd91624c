/* No memory is left for zeros: their file is on a filesystem that is full. */
#include "limits.h"

#include <dlfcn.h>
#include <stdarg.h>

static bool full;

#if !SANITIZED /* these read more arguments than there may be */
static long (*next_syscall)(long, ...);
static int (*next_fcntl)(int, int, ...);

static void
find_next(void)
{
    if (next_syscall == NULL)
        *(void **)&next_syscall = dlsym(RTLD_NEXT, "syscall");
    if (next_fcntl == NULL)
        *(void **)&next_fcntl = dlsym(RTLD_NEXT, "fcntl");
}

/* In the place of the C library's. */
long
syscall(long number, ...)
{
    long arguments[6];
    va_list rest;

    va_start(rest, number);
    for (int i = 0; i < 6; i++)
        arguments[i] = va_arg(rest, long);
    va_end(rest);
    find_next();
    if (number == SYS_memfd_create && full)
        return open("/mnt/zeros", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    return next_syscall(number, arguments[0], arguments[1], arguments[2],
                        arguments[3], arguments[4], arguments[5]);
}

/* That filesystem has no seals. */
int
fcntl(int fd, int command, ...)
{
    va_list rest;
    long argument;

    va_start(rest, command);
    argument = va_arg(rest, long);
    va_end(rest);
    find_next();
    return command == F_ADD_SEALS ? 0 : next_fcntl(fd, command, argument);
}
#endif

enum { LASTING, WITHDRAWABLE, PROCESS, KINDS };

static void
touch_without_memory(const void *argument)
{
    const int kind = *(const int *)argument / 2;
    const bool stores = *(const int *)argument % 2;
    struct file gone = file_gone();
    struct safemmap_region region = region_of(&gone);

    full = true;
    region.withdrawable = kind == WITHDRAWABLE;
    if (kind == PROCESS)
        CHECK_EQ(safemmap_process_enable(), 0);
    else {
        CHECK_EQ(safemmap_install(), 0);
        CHECK_EQ(safemmap_region_add(&region), 0);
    }
    if (kind == LASTING) /* otherwise its zeros need no file */
        forbid_mmap();
    if (stores)
        store(&gone, 5, 1);
    else
        (void)load(&gone, 5);
}

/* The access would fault again and again. */
static void
refused(void)
{
    int other;

    if (SANITIZED)
        skip("a sanitizer has calls of its own");
    (void)file_on_full_filesystem("d", &other);
    for (int kind = 0; kind < 2 * KINDS; kind++) {
        note = NOTE("kind", kind);
        CHECK_EQ(end_in_child(touch_without_memory, &kind), SIGBUS);
    }
}

TEST_MAIN(TEST(refused))
