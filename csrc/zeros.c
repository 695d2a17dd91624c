/* Runs inside the signal, but for safemmap__zeros_prepare() and
 * safemmap__lasting_prepare(): the zeroed pages that replace others.
 *
 * *Withdrawable* ones are pages of a memory file. Each overlay takes a range of the
 * file for itself, from the end downwards, and none is used again. To withdraw an
 * overlay, the file is cut off at its offset: the next touch of it, and of all that
 * are older, is a fault, while newer ones lie below and stay. That names no address,
 * so that memory which the program has unmapped meanwhile is safe.
 *
 * *Lasting* ones are anonymous memory, private or shared.
 *
 * The kernel may refuse to map either at the time of a fault: RLIMIT_DATA counts
 * private pages, RLIMIT_MEMLOCK under mlockall(2) all new ones, a sandbox may forbid
 * mmap(2), and the program may have closed the file. What it does not refuse is
 * mremap(2) of an old size of 0, which duplicates a shared mapping that there is
 * already. So one page of each file is mapped beforehand, its *source*.
 */
#include "internal.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where the first overlay ends: 64 bits of offset, and signed. */
#define END ((uint64_t)1 << 62)
/* What a file must be able to hold at least. */
#define LEAST ((uint64_t)1 << 26)
/* A duplicate of a source is mapped for a moment from there to the end of what is
 * needed: so far the source may be away (the smallest address spaces have 39 bits).
 */
#define REACH ((uint64_t)1 << 37)

/* All of it is guarded by safemmap__pages. */

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
    uint64_t size;   /* at first; */
    uint64_t end;    /* and since it was cut off last */
    uint64_t lowest; /* where the newest overlay begins */
    struct source source;
} file = {.fd = -1, .lowest = END};

static struct {
    pid_t owner;
    uint64_t used; /* bytes, from the start */
    struct source source;
} lasting;

/* ---- Sources ----------------------------------------------------------- */

static int
replace_source(int fd, uint64_t offset, ino_t inode, struct source *source)
{
    uintptr_t address;
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
    return safemmap__os_lay_duplicate(address, size, protection, source->address,
                                      (size_t)skipped);
}

/* ---- Files ------------------------------------------------------------- */

/* The program may have closed it, and opened another under the number. */
static bool
is_there(void)
{
    struct stat status;

    return file.fd >= 0 && fstat(file.fd, &status) == 0 &&
           status.st_dev == file.device && status.st_ino == file.inode;
}

static bool
is_own(void)
{
    return file.owner == getpid() && is_there();
}

/* The source lies below what has been used, and not further away than half of what it
 * may be. Where there can be no new one, the old one does. */
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

    /* One that a child without safemmap__zeros_after_fork() has inherited. */
    if (is_there())
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
    safemmap__release_pages(&mask);
    return error;
}

ino_t
safemmap__zeros_inode(void)
{
    return file.inode;
}

/* ---- Withdrawable ------------------------------------------------------ */

int
safemmap__zeros_lay(uintptr_t address, size_t size, int protection,
                    uint64_t *ret_token)
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
            safemmap__os_lay_file(address, size, protection, file.fd, file.lowest);
    if (error < 0) {
        own = is_own() && file.source.inode == file.inode;
        error = duplicate(&file.source, file.lowest, address, size, protection);
    }
    if (error == 0)
        *ret_token = own ? file.lowest : 0;
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

/* The range is cut off before it is mapped: nobody reads a zero in it. (All older
 * ones go with it; who touches them is told once more.) */
int
safemmap__zeros_lay_withdrawn(uintptr_t address, size_t size, int protection,
                              uint64_t *ret_token)
{
    int error;

    if (!is_own() || size > file.lowest)
        return -EBADF;
    __atomic_store_n(&file.lowest, file.lowest - size, __ATOMIC_RELAXED);
    if ((error = withdraw(file.lowest)) < 0)
        return error;
    *ret_token = file.lowest;
    return safemmap__os_lay_file(address, size, protection, file.fd, file.lowest);
}

int
safemmap_withdraw(uint64_t token)
{
    sigset_t mask = safemmap__hold_pages();
    int error = withdraw(token);

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

/* Other threads may have laid some between that and the fork. */
void
safemmap__zeros_after_fork(void)
{
    if (!is_there())
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
    __atomic_store_n(&lasting.owner, getpid(), __ATOMIC_RELAXED);
    return 0;
}

int
safemmap__lasting_prepare(void)
{
    sigset_t mask;
    int error;

    if (__atomic_load_n(&lasting.owner, __ATOMIC_RELAXED) == getpid())
        return 0;
    mask = safemmap__hold_pages();
    error = lasting.owner == getpid() ? 0 : renew_lasting();
    safemmap__release_pages(&mask);
    return error == 0 ? 0 : safemmap__os_try_anonymous();
}

int
safemmap__lasting_lay(uintptr_t address, size_t size, int protection)
{
    int error;

    if (safemmap__os_lay_anonymous(address, size, protection) == 0)
        return 0;
    if (lasting.owner != getpid())
        renew_lasting();
    error = duplicate(&lasting.source, lasting.used, address, size, protection);
    if (error == 0)
        lasting.used += size;
    return error;
}
