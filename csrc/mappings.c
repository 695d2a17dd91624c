/* Runs inside the signal and outside: keeps the list of the process's mappings open.
 */
#include "mappings.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* The program may have closed our descriptor, and opened another file under its
 * number. */
static bool
is_ours(const struct safemmap__mappings *mappings)
{
    struct stat status;

    return mappings->fd >= 0 && fstat(mappings->fd, &status) == 0 &&
           status.st_dev == mappings->device && status.st_ino == mappings->inode;
}

int
safemmap__mappings_open(struct safemmap__mappings *mappings)
{
    struct stat status;

    if (is_ours(mappings)) {
        /* A child made without the fork handlers has inherited its parent's. */
        if (mappings->owner == getpid() &&
            (mappings->thread == 0 || safemmap__os_has_thread(mappings->thread)))
            return 0;
        safemmap__os_close(mappings->fd);
    }
    mappings->fd = safemmap__os_maps_open(&mappings->thread);
    if (mappings->fd < 0)
        return mappings->fd;
    if (fstat(mappings->fd, &status) < 0) {
        int error = -errno;

        safemmap__os_close(mappings->fd);
        mappings->fd = -1;
        return error;
    }
    mappings->owner = getpid();
    mappings->device = status.st_dev;
    mappings->inode = status.st_ino;
    return 0;
}

void
safemmap__mappings_close(struct safemmap__mappings *mappings)
{
    if (is_ours(mappings))
        safemmap__os_close(mappings->fd);
    mappings->fd = -1;
}
