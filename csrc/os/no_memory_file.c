/* Runs inside the signal and outside: systems without a memory file that can be cut.
 * NetBSD has memfd_create(2) from version 11 on; on OpenBSD such a file can only be
 * had by a name in a directory; on macOS it is given its size once. */
#include "os.h"

int
safemmap__os_memory_file(uint64_t least, uint64_t size, uint64_t *ret_size)
{
    (void)least;
    (void)size;
    (void)ret_size;
    return -ENOSYS;
}

int
safemmap__os_cut(int fd, uint64_t size)
{
    (void)fd;
    (void)size;
    return -ENOSYS;
}
