/* Copies through system calls that stop at a page which is there again by then. */
#include "harness.h"

#include <sys/uio.h>

static int calls, stops_at;

/* Takes the place of the C library's. One call does half, and the next nothing. */
ssize_t
process_vm_readv(pid_t process, const struct iovec *target, unsigned long targets,
                 const struct iovec *source, unsigned long sources,
                 unsigned long flags)
{
    struct iovec half = {target->iov_base, target->iov_len / 2};

    calls++;
    if (calls == stops_at + 1) {
        errno = EFAULT;
        return -1;
    }
    return syscall(SYS_process_vm_readv, process, calls == stops_at ? &half : target,
                   targets, source, sources, flags);
}

enum { SIZE = 300000 };

static void
check_copy(ptrdiff_t distance)
{
    static unsigned char bytes[2 * SIZE], wanted[2 * SIZE];
    size_t source = distance < 0 ? (size_t)-distance : 0;
    size_t target = distance < 0 ? 0 : (size_t)distance;
    struct safemmap_fault fault;

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = wanted[i] = pattern(i);
    memmove(wanted + target, wanted + source, SIZE);
    calls = 0;
    CHECK_EQ(safemmap_kernel.copy(bytes + target, bytes + source, SIZE, &fault), 0);
    CHECK_EQ(memcmp(bytes, wanted, sizeof(bytes)), 0);
}

static void
copies_go_on(void)
{
    static const ptrdiff_t distances[] = {1,  1000,  100000,  SIZE,
                                          -1, -1000, -100000, -SIZE};

    for (size_t i = 0; i < COUNT_OF(distances); i++)
        for (stops_at = 0; stops_at < 15; stops_at++) {
            note = NOTE("copy", (long)distances[i], stops_at);
            check_copy(distances[i]);
        }
}

TEST_MAIN(TEST(copies_go_on))
