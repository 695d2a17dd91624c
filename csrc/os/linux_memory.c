/* Runs inside the signal and outside: memory that is mapped over a program's pages,
 * on Linux. */
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

/* ---- Room in the table of mappings ---------------------------------------- */

/* A process has vm.max_map_count mappings at most, and when it has them, not even one
 * that replaces another can be had, nor can pages be moved. So some are set aside:
 * neighbours of different protection, which become one when that is made the same.
 */
enum { ASIDE = 64 };

/* Guarded by safemmap__pages; `whole` may be read without. */
static struct {
    char *start; /* NULL: not reserved yet */
    bool whole;  /* all are there */
} aside;

bool
safemmap__os_mappings_are_aside(void)
{
    return __atomic_load_n(&aside.whole, __ATOMIC_RELAXED);
}

int
safemmap__os_set_mappings_aside(void)
{
    const size_t page = safemmap__page_size;
    uintptr_t start = 0;
    int error;

    if (aside.whole)
        return 0;
    if (aside.start == NULL) {
        if ((error = safemmap__os_reserve((ASIDE + 1) * page, &start)) < 0)
            return error;
        munlock((void *)start, (ASIDE + 1) * page);
        aside.start = (char *)start;
    }
    for (size_t i = 1; i < ASIDE; i += 2)
        if (mprotect(aside.start + i * page, page, PROT_READ) < 0)
            return -errno;
    __atomic_store_n(&aside.whole, true, __ATOMIC_RELAXED);
    return 0;
}

bool
safemmap__os_give_mappings(int error)
{
    if (error != -ENOMEM || aside.start == NULL ||
        mprotect(aside.start, (ASIDE + 1) * safemmap__page_size, PROT_NONE) < 0)
        return false;
    __atomic_store_n(&aside.whole, false, __ATOMIC_RELAXED);
    return true;
}

/* ---- Memory files ------------------------------------------------------- */

/* (glibc has the function from 2.27 on.) */
static int
memfd(unsigned flags)
{
    return (int)syscall(SYS_memfd_create, "safemmap zeros", flags);
}

/* (No larger than RLIMIT_FSIZE: a signal would be sent.) */
int
safemmap__os_memory_file(uint64_t least, uint64_t size, uint64_t *ret_size)
{
    struct rlimit limit;
    int fd, error;

    if (getrlimit(RLIMIT_FSIZE, &limit) < 0)
        return -errno;
    if (size > limit.rlim_cur)
        size = limit.rlim_cur / least * least;
    if (size == 0)
        return -EFBIG;
    fd = memfd(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd(MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    /* F_SEAL_GROW: the file can never grow back, even if our recorded size is wrong.
     */
    if (ftruncate(fd, (off_t)size) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) < 0) {
        error = -errno;
        safemmap__os_close(fd);
        return error;
    }
    *ret_size = size;
    return fd;
}

int
safemmap__os_cut(int fd, uint64_t size)
{
    if (ftruncate(fd, (off_t)size) == 0)
        return 0;
    /* EPERM: it is shorter. */
    return errno == EPERM ? 0 : -errno;
}

int
safemmap__os_map_file(uintptr_t start, size_t size, int protection, int fd,
                      uint64_t offset)
{
    const int flags = MAP_SHARED | MAP_FIXED | MAP_NORESERVE;

    return mmap((void *)start, size, protection, flags, fd, (off_t)offset) ==
                   MAP_FAILED
               ? -errno
               : 0;
}

/* ---- Sources ------------------------------------------------------------ */

/* PROT_NONE and unlocked, so that the kernel does not populate its duplicates, which
 * are large for a moment. */
int
safemmap__os_map_source(int fd, uint64_t offset, uintptr_t *ret_source)
{
    void *source =
        mmap(NULL, safemmap__page_size, PROT_NONE, MAP_SHARED, fd, (off_t)offset);

    if (source == MAP_FAILED)
        return -errno;
    munlock(source, safemmap__page_size);
    *ret_source = (uintptr_t)source;
    return 0;
}

/* The duplicate reaches from the source to the end of the wanted range. mremap(2)
 * then moves that range to its place in one step. */
int
safemmap__os_map_duplicate(uintptr_t start, size_t size, int protection,
                           uintptr_t source, size_t skipped)
{
    char *copy;
    int error = 0;

    /* mlockall(2) may have locked it since it was made. */
    munlock((void *)source, safemmap__page_size);
    copy = mremap((void *)source, 0, skipped + size, MREMAP_MAYMOVE);
    if (copy == MAP_FAILED)
        return -errno;
    if (mprotect(copy + skipped, size, protection) < 0 ||
        mremap(copy + skipped, size, size, MREMAP_MAYMOVE | MREMAP_FIXED,
               (void *)start) == MAP_FAILED)
        error = -errno;
    munmap(copy, skipped + (error < 0 ? size : 0));
    return error;
}

/* ---- Memory without a file ---------------------------------------------- */

/* The private kind comes first: reading its pages takes no memory. */
static const int anonymous[] = {MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                                MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE};

int
safemmap__os_map_anonymous(uintptr_t start, size_t size, int protection)
{
    for (int i = 0; i < 2; i++)
        if (mmap((void *)start, size, protection, anonymous[i] | MAP_FIXED, -1, 0) !=
            MAP_FAILED)
            return 0;
    return -errno;
}

/* (What the kernel finds wrong with these, it finds after a sandbox.) */
int
safemmap__os_may_map(void)
{
    if (mmap(NULL, 0, PROT_NONE, anonymous[0], -1, 0) == MAP_FAILED &&
        errno == EINVAL)
        return 0;
    if (mremap((void *)1, 0, 0, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL)
        return 0;
    return -errno;
}

int
safemmap__os_try_anonymous(void)
{
    for (int i = 0; i < 2; i++) {
        void *page = mmap(NULL, safemmap__page_size, PROT_READ | PROT_WRITE,
                          anonymous[i], -1, 0);

        if (page != MAP_FAILED) {
            munmap(page, safemmap__page_size);
            return 0;
        }
    }
    return -errno;
}
