/* Runs inside the signal and outside: memory on FreeBSD, NetBSD, OpenBSD and macOS.
 */
#include "os.h"

#include <sys/mman.h>

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

/* ---- Pages -------------------------------------------------------------- */

int
safemmap__os_reserve(size_t size, uintptr_t *ret_start)
{
    void *start =
        mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);

    if (start == MAP_FAILED)
        return -errno;
    *ret_start = (uintptr_t)start;
    return 0;
}

void
safemmap__os_release(uintptr_t start, size_t size)
{
    munmap((void *)start, size);
}

int
safemmap__os_move_pages(uintptr_t from, uintptr_t to, size_t size)
{
    (void)from;
    (void)to;
    (void)size;
    return -ENOSYS;
}

/* ---- Room for mappings -------------------------------------------------- */

/* None of them limits the number of mappings to what a peer could use up. */
int
safemmap__os_set_mappings_aside(void)
{
    return 0;
}

bool
safemmap__os_mappings_are_aside(void)
{
    return true;
}

bool
safemmap__os_give_mappings(int error)
{
    (void)error;
    return false;
}

/* ---- Memory in the place of other ---------------------------------------- */

int
safemmap__os_map_file(uintptr_t start, size_t size, int protection, int fd,
                      uint64_t offset)
{
    return mmap((void *)start, size, protection, MAP_SHARED | MAP_FIXED, fd,
                (off_t)offset) == MAP_FAILED
               ? -errno
               : 0;
}

int
safemmap__os_map_anonymous(uintptr_t start, size_t size, int protection)
{
    return mmap((void *)start, size, protection,
                MAP_PRIVATE | MAP_ANON | MAP_NORESERVE | MAP_FIXED, -1,
                0) == MAP_FAILED
               ? -errno
               : 0;
}

int
safemmap__os_map_duplicate(uintptr_t start, size_t size, int protection,
                           uintptr_t source, size_t skipped)
{
    (void)start;
    (void)size;
    (void)protection;
    (void)source;
    (void)skipped;
    return -ENOSYS;
}

int
safemmap__os_map_source(int fd, uint64_t offset, uintptr_t *ret_source)
{
    void *source =
        mmap(NULL, safemmap__page_size, PROT_NONE, MAP_SHARED, fd, (off_t)offset);

    if (source == MAP_FAILED)
        return -errno;
    *ret_source = (uintptr_t)source;
    return 0;
}

int
safemmap__os_may_map(void)
{
    return safemmap__os_try_anonymous();
}

int
safemmap__os_try_anonymous(void)
{
    uintptr_t page;
    int error = safemmap__os_reserve(safemmap__page_size, &page);

    if (error == 0)
        safemmap__os_release(page, safemmap__page_size);
    return error;
}

/* ---- The mappings of the process ---------------------------------------- */

int
safemmap__os_maps_open(pid_t *ret_thread)
{
    (void)ret_thread;
    return -ENOSYS;
}

int
safemmap__os_mapping_at(int fd, uintptr_t address, struct safemmap__mapping *ret,
                        char *ret_path)
{
    (void)fd;
    (void)address;
    (void)ret;
    (void)ret_path;
    return -ENOSYS;
}

int
safemmap__os_next_executable(int fd, uintptr_t address, struct safemmap__mapping *ret)
{
    return safemmap__os_mapping_at(fd, address, ret, NULL);
}

int
safemmap__os_mappings_visit(int fd, uintptr_t start, uintptr_t end, char *path,
                            safemmap__mapping_visitor *visit, void *context)
{
    (void)fd;
    (void)start;
    (void)end;
    (void)path;
    (void)visit;
    (void)context;
    return -ENOSYS;
}

uint64_t
safemmap__os_executable_size(void)
{
    return 0;
}

bool
safemmap__os_is_ordinary(uintptr_t page, size_t page_size)
{
    (void)page;
    (void)page_size;
    return false;
}

enum safemmap__presence
safemmap__os_presence(uintptr_t page, size_t page_size, bool store)
{
    (void)page_size;
    if (!safemmap__os_is_readable(page))
        return SAFEMMAP__LOST;
    return store ? SAFEMMAP__UNCERTAIN : SAFEMMAP__PRESENT;
}
