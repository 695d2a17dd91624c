/* Runs inside the signal and outside: what is the same on every system. */
#include "os.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

uintptr_t safemmap__page_size;

SAFEMMAP__CONSTRUCTOR static void
read_page_size(void)
{
    safemmap__page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
}

int
safemmap__os_block_signals_of_new_thread(sigset_t *ret_before)
{
    sigset_t all;

    sigfillset(&all);
    sigdelset(&all, SIGSYS);
    return -pthread_sigmask(SIG_SETMASK, &all, ret_before);
}

int
safemmap__os_map_again(uintptr_t start, size_t size, int protection, int flags,
                       int fd, off_t offset)
{
    return mmap((void *)start, size, protection, flags | MAP_FIXED, fd, offset) ==
                   MAP_FAILED
               ? -errno
               : 0;
}

size_t
safemmap__os_read(void *target, uintptr_t source, size_t size)
{
    struct iovec to = {target, size}, from = {(void *)source, size};
    ssize_t done = safemmap__os_transfer(&to, 1, &from, 1);

    return done < 0 ? 0 : (size_t)done;
}

bool
safemmap__os_is_readable(uintptr_t address)
{
    char byte;
    struct iovec to = {&byte, 1}, from = {(void *)address, 1};

    return safemmap__os_transfer(&to, 1, &from, 1) != 0;
}
