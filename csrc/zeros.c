/* Runs in the signal (outside it: the functions that prepare, withdraw, or belong to
 * fork()). Maps zeroed pages over others: overlay.c and process_overlay.c decide
 * where, and no other file maps zeros over a program's pages.
 *
 * *Withdrawable* zeros are pages of a memory file. Each overlay takes a range of the
 * file for itself, from the end downwards, and no range is used twice. To withdraw an
 * overlay, we truncate the file at its offset: the next access to it, or to any older
 * overlay, faults, while newer ones lie below the cut and stay. Withdrawing names no
 * address, so it cannot touch memory that the program has mapped anew meanwhile.
 *
 * *Lasting* zeros are anonymous memory, private or shared.
 *
 * The kernel may refuse to map either at the time of a fault: RLIMIT_DATA counts
 * private pages, RLIMIT_MEMLOCK under mlockall(2) counts all new ones, a sandbox may
 * forbid mmap(2), and the program may have closed the file. The kernel does not
 * refuse mremap(2) with an old size of 0, which duplicates an existing shared
 * mapping. So one page of each file is mapped beforehand, its *source*.
 */
#include "copies.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where the first overlay ends. (An offset has 63 bits.) */
#define END SAFEMMAP__ZEROS_END
/* Where the first one ends that is withdrawn from the beginning. The file never
 * reaches as far as END, and each has a range for itself there, too. */
#define WITHDRAWN_END ((uint64_t)3 << 61)
/* The smallest size of a memory file. */
#define LEAST ((uint64_t)1 << 26)
/* A duplicate of a source is mapped for a moment, from the source's offset to the end
 * of the overlay: the overlay may lie this far behind it (the smallest address spaces
 * have 39 bits). */
#define REACH ((uint64_t)1 << 37)

/* Guarded by safemmap__pages. */

struct source {
    uintptr_t address; /* 0: there is none */
    uint64_t offset;   /* of its page in the file, */
    ino_t inode;       /* which may be one that we have no descriptor of any more */
};

static struct {
    int fd;
    pid_t owner; /* not a forked child, which makes its own */
    dev_t device;
    ino_t inode;
    uint64_t size;             /* when it was made */
    uint64_t end;              /* its size now, since the last withdrawal */
    uint64_t lowest;           /* where the newest overlay begins, */
    uint64_t lowest_withdrawn; /* and the newest that was withdrawn beforehand */
    struct source source;
} file = {.fd = -1, .lowest = END, .lowest_withdrawn = WITHDRAWN_END};

static struct {
    pid_t owner;
    uint64_t used; /* bytes, from the start */
    struct source source;
} lasting;

/* ---- Sources ----------------------------------------------------------- */

static int
replace_source(int fd, uint64_t offset, ino_t inode, struct source *source)
{
    uintptr_t address = 0;
    int error = safemmap__os_map_source(fd, offset, &address);

    if (error < 0)
        return error;
    if (source->address != 0)
        safemmap__os_release(source->address, safemmap__page_size);
    *source = (struct source){address, offset, inode};
    return 0;
}

static int
duplicate(const struct source *source, uint64_t offset, uintptr_t address,
          size_t size, int protection)
{
    uint64_t skipped = offset - source->offset;

    if (source->address == 0 || skipped > REACH)
        return -ENOMEM;
    return safemmap__os_map_duplicate(address, size, protection, source->address,
                                      (size_t)skipped);
}

/* ---- Files ------------------------------------------------------------- */

/* The program may have closed our descriptor, and opened another file under its
 * number. */
static bool
fd_is_ours(void)
{
    struct stat status;

    return file.fd >= 0 && fstat(file.fd, &status) == 0 &&
           status.st_dev == file.device && status.st_ino == file.inode;
}

static bool
is_own(void)
{
    return file.owner == getpid() && fd_is_ours();
}

/* Keeps the source below the ranges in use, and at most half of REACH away from the
 * newest. Where no new source can be mapped, the old one stays. */
static int
renew_source(void)
{
    const struct source *source = &file.source;
    uint64_t offset = file.lowest > REACH ? file.lowest - REACH : 0;
    bool own = source->address != 0 && source->inode == file.inode;

    if (own && (source->offset == 0 || file.lowest - source->offset > REACH / 2))
        return 0;
    int error = replace_source(file.fd, offset, file.inode, &file.source);
    return own ? 0 : error;
}

static int
renew(void)
{
    struct stat status;
    uint64_t size;
    int fd;

    /* A child made without the fork handlers has inherited its parent's. */
    if (fd_is_ours())
        safemmap__os_close(file.fd);
    file.fd = -1;
    fd = safemmap__os_memory_file(LEAST, file.lowest, &size);
    if (fd < 0)
        return fd;
    if (fstat(fd, &status) < 0) {
        int error = -errno;

        safemmap__os_close(fd);
        return error;
    }
    file.fd = fd;
    file.owner = getpid();
    file.device = status.st_dev;
    file.inode = status.st_ino;
    file.size = file.end = size;
    __atomic_store_n(&file.lowest, size, __ATOMIC_RELAXED);
    return 0;
}

int
safemmap__zeros_prepare(void)
{
    sigset_t mask = safemmap__hold_pages();
    int error = is_own() ? 0 : renew();

    if (error == 0)
        error = renew_source();
    if (error == 0)
        error = safemmap__os_may_map();
    if (error == 0)
        error = safemmap__os_set_mappings_aside();
    safemmap__release_pages(&mask);
    return error;
}

bool
safemmap__zeros_are_on(dev_t device)
{
    return device == file.device;
}

ino_t
safemmap__zeros_inode(void)
{
    return file.inode;
}

/* ---- Withdrawable ------------------------------------------------------ */

static int
map(uintptr_t address, size_t size, int protection, uint64_t *ret_token)
{
    bool own = true;
    int error = 0;

    if (!is_own() && (error = renew()) == 0)
        renew_source();
    if (size > file.lowest)
        return -ENOSPC;
    __atomic_store_n(&file.lowest, file.lowest - size, __ATOMIC_RELAXED);
    if (error == 0)
        error =
            safemmap__os_map_file(address, size, protection, file.fd, file.lowest);
    if (error < 0) {
        own = is_own() && file.source.inode == file.inode;
        error = duplicate(&file.source, file.lowest, address, size, protection);
    }
    if (error == 0)
        *ret_token = own ? file.lowest : 0;
    return error;
}

int
safemmap__zeros_map(uintptr_t address, size_t size, int protection,
                    uint64_t *ret_token)
{
    int error = map(address, size, protection, ret_token);

    if (safemmap__os_give_mappings(error)) {
        error = map(address, size, protection, ret_token);
        safemmap__os_set_mappings_aside();
    }
    return error;
}

uint64_t
safemmap__zeros_newest(void)
{
    return file.lowest;
}

bool
safemmap__zeros_are_withdrawn(uint64_t token)
{
    return token >= file.end;
}

/* In a child that can have no file of its own: its parent goes on to cut the one that
 * both map. The child goes on half-way down to the source, where the parent will not
 * be for long. */
static bool
go_below_parent(void)
{
    const struct source *source = &file.source;
    uint64_t half;

    if (file.owner == getpid() || source->address == 0 ||
        file.lowest < source->offset + 2 * LEAST)
        return false;
    half = (file.lowest - source->offset) / 2 & ~(LEAST - 1);
    __atomic_store_n(&file.lowest, file.lowest - half, __ATOMIC_RELAXED);
    return true;
}

bool
safemmap__zeros_are_cut(uint64_t token)
{
    struct stat status;

    if (!fd_is_ours())
        return go_below_parent();
    return fstat(file.fd, &status) == 0 && token >= (uint64_t)status.st_size;
}

void
safemmap__zeros_empty(uint64_t token, size_t size)
{
    if (token < file.end && is_own())
        safemmap__os_punch(file.fd, token, size);
}

static int
withdraw(uint64_t token)
{
    int error = 0;

    if (token >= file.size || !is_own())
        return -EBADF;
    if (token < file.end && (error = safemmap__os_cut(file.fd, token)) == 0)
        file.end = token;
    return error;
}

int
safemmap__zeros_map_withdrawn(uintptr_t address, size_t size, int protection,
                              uint64_t *ret_token)
{
    int error;

    if (!is_own())
        return -EBADF;
    if (size > file.lowest_withdrawn - END)
        return -ENOSPC;
    file.lowest_withdrawn -= size;
    error = safemmap__os_map_file(address, size, protection, file.fd,
                                  file.lowest_withdrawn);
    if (error < 0)
        return error;
    *ret_token = file.lowest_withdrawn;
    /* What was mapped there keeps its memory in the file until that is cut. (Not each
     * time: a cut takes time for each overlay, and all of them fault again.) */
    if (file.end - file.lowest > LEAST)
        withdraw(file.lowest);
    return 0;
}

int
safemmap_withdraw(uint64_t token)
{
    sigset_t mask;
    int error;

    if (safemmap__host != NULL)
        return safemmap__host->withdraw(token);
    mask = safemmap__hold_pages();
    error = withdraw(token);
    safemmap__release_pages(&mask);
    return error;
}

void
safemmap__zeros_before_fork(void)
{
    sigset_t mask;

    if (__atomic_load_n(&file.lowest, __ATOMIC_RELAXED) == END)
        return;
    mask = safemmap__hold_pages();
    if (file.lowest < file.end)
        withdraw(file.lowest);
    safemmap__release_pages(&mask);
}

/* Other threads may have mapped some between that and the fork. */
void
safemmap__zeros_after_fork(void)
{
    if (!fd_is_ours())
        return;
    if (file.lowest < file.end)
        safemmap__os_cut(file.fd, file.lowest);
    safemmap__os_close(file.fd);
    file.fd = -1;
}

/* ---- Lasting ----------------------------------------------------------- */

/* The file needs no descriptor: nobody will map or cut it again. */
static int
renew_lasting(void)
{
    uint64_t size;
    int fd = safemmap__os_memory_file(LEAST, END, &size), error;

    if (fd < 0)
        return fd;
    error = replace_source(fd, 0, 0, &lasting.source);
    safemmap__os_close(fd);
    if (error < 0)
        return error;
    lasting.used = 0;
    __atomic_store_n(&lasting.owner, getpid(), __ATOMIC_RELEASE);
    return 0;
}

/* All but the sandbox, which may have come since, stays as it was. */
static bool
is_lasting_prepared(void)
{
    return __atomic_load_n(&lasting.owner, __ATOMIC_ACQUIRE) == getpid() &&
           safemmap__os_mappings_are_aside();
}

static int
prepare_lasting(void)
{
    sigset_t mask = safemmap__hold_pages();
    int error = lasting.owner == getpid() ? 0 : renew_lasting();

    error = error == 0 ? safemmap__os_may_map() : safemmap__os_try_anonymous();
    if (error == 0)
        error = safemmap__os_set_mappings_aside();
    safemmap__release_pages(&mask);
    return error;
}

int
safemmap__lasting_prepare(void)
{
    return is_lasting_prepared() ? safemmap__os_may_map() : prepare_lasting();
}

static int
map_lasting(uintptr_t address, size_t size, int protection)
{
    int error;

    if (safemmap__os_map_anonymous(address, size, protection) == 0)
        return 0;
    if (lasting.owner != getpid())
        renew_lasting();
    error = duplicate(&lasting.source, lasting.used, address, size, protection);
    if (error == 0)
        lasting.used += size;
    return error;
}

int
safemmap__lasting_map(uintptr_t address, size_t size, int protection)
{
    int error = map_lasting(address, size, protection);

    if (safemmap__os_give_mappings(error)) {
        error = map_lasting(address, size, protection);
        safemmap__os_set_mappings_aside();
    }
    return error;
}
