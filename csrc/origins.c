/* Runs in the signal (outside it: safemmap_file_path()). Remembers which file's
 * pages each overlay in memory of no region replaced.
 *
 * Once an overlay is mapped over a page, the kernel no longer knows the file that was
 * mapped there. Every overlay has a range of the memory file to itself, and no range
 * is used twice; so its offset in the memory file identifies the original file,
 * wherever that range is mapped. Entries of unmapped memory are simply never looked
 * up.
 */
#include "copies.h"
#include "origins.h"
#include "pages.h"

#include <errno.h>
#include <string.h>

static struct safemmap__file files[SAFEMMAP_FILES];
static char paths[SAFEMMAP_FILES][SAFEMMAP__PATH];
static ino_t inodes[SAFEMMAP_FILES]; /* of the files, for a quick search */
static uint32_t last_id;

/* Ring buffers: of steps, with room for all that may be left behind by them (to join
 * them takes each one's origin); and of those that were joined. (Memory that is not
 * used yet takes none.) */
enum { ORIGINS = 1 << 15, JOINED = 1 << 12 };
static struct safemmap__origin origins[ORIGINS], joined[JOINED];
static struct ring {
    struct safemmap__origin *origin;
    size_t size, added;
} rings[] = {{origins, ORIGINS, 0}, {joined, JOINED, 0}};

struct safemmap__file *
safemmap__file_by_id(uint32_t id)
{
    struct safemmap__file *file = &files[id % SAFEMMAP_FILES];

    return id != 0 && file->id == id ? file : NULL;
}

struct safemmap__file *
safemmap__file_for(dev_t device, ino_t inode)
{
    struct safemmap__file *file;

    for (size_t i = 0; i < SAFEMMAP_FILES; i++)
        if (inodes[i] == inode && files[i].id != 0 && files[i].device == device)
            return &files[i];
    if (++last_id == 0)
        ++last_id;
    file = &files[last_id % SAFEMMAP_FILES];
    inodes[last_id % SAFEMMAP_FILES] = inode;
    safemmap__steps_forget(&file->steps, &file->singles);
    file->id = last_id;
    file->deleted = false;
    file->harmless_at = 0;
    file->device = device;
    file->inode = inode;
    file->path = paths[last_id % SAFEMMAP_FILES];
    file->path[0] = '\0';
    return file;
}

static struct ring *
ring_of(uint64_t offset)
{
    return &rings[offset >= SAFEMMAP__ZEROS_END];
}

void
safemmap__origin_add(const struct safemmap__origin *origin)
{
    struct ring *ring = ring_of(origin->token);

    ring->origin[ring->added++ % ring->size] = *origin;
}

bool
safemmap__origin_of(ino_t zeros, uint64_t offset, struct safemmap__origin *ret_origin)
{
    const struct ring *ring = ring_of(offset);
    size_t low = ring->added > ring->size ? ring->added - ring->size : 0;
    size_t high = ring->added;

    /* The oldest that begins at or below `offset`. */
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (ring->origin[middle % ring->size].token <= offset)
            high = middle;
        else
            low = middle + 1;
    }
    if (low == ring->added)
        return false;
    *ret_origin = ring->origin[low % ring->size];
    return ret_origin->zeros == zeros &&
           offset - ret_origin->token < ret_origin->size;
}

ssize_t
safemmap_file_path(uint32_t id, char *ret_path, size_t room)
{
    const struct safemmap__file *file;
    char path[SAFEMMAP__PATH];
    size_t length = 0;
    sigset_t mask;

    if (safemmap__host != NULL)
        return safemmap__host->file_path(id, ret_path, room);
    mask = safemmap__hold_pages();
    file = safemmap__file_by_id(id);
    if (file != NULL) {
        length = strlen(file->path);
        memcpy(path, file->path, length + 1);
    }
    safemmap__release_pages(&mask);
    if (file == NULL)
        return -ENOENT;
    if (length >= room)
        return -ERANGE;
    /* (Not under the lock: it may fault.) */
    memcpy(ret_path, path, length + 1);
    return (ssize_t)length;
}
