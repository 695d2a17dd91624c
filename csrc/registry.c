/* Runs only outside the signal: adds and removes regions.
 *
 * A writer holds `lock`, fills a spare leaf (and a spare directory when a leaf
 * is split or emptied), publishes it with one store, and waits until no handler
 * can hold the old one, which becomes the spare. So a change costs one leaf's
 * copy however many regions live, and a removal, which may not fail, allocates
 * nothing.
 */
#include "internal.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LEAF_CAPACITY 32u

/* Guards the directory and its leaves against other writers. Handlers do not
 * take it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void
safemmap__registry_lock(void)
{
    pthread_mutex_lock(&lock);
}

void
safemmap__registry_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

/* Guarded by `lock`. Both are there as soon as there is a directory; the spare
 * directory holds as many entries as the published one. */
static struct safemmap__leaf *spare_leaf;
static struct safemmap__directory *spare_directory;

static struct safemmap__leaf *
leaf_new(void)
{
    struct safemmap__leaf *leaf =
        malloc(sizeof(*leaf) + LEAF_CAPACITY * sizeof(leaf->entry[0]));

    if (leaf != NULL)
        leaf->count = 0;
    return leaf;
}

static struct safemmap__directory *
directory_new(size_t capacity)
{
    struct safemmap__directory *directory =
        malloc(sizeof(*directory) + capacity * sizeof(directory->entry[0]));

    if (directory != NULL)
        directory->count = capacity;
    return directory;
}

static void
copy_entries(struct safemmap__leaf *target, size_t at,
             const struct safemmap__leaf *source, size_t from, size_t count)
{
    memcpy(target->entry + at, source->entry + from,
           count * sizeof(target->entry[0]));
}

/* Puts the spare leaf, filled by the caller, in the place of an old one. */
static void
publish_leaf(size_t index)
{
    struct safemmap__leaf *old = safemmap__directory->entry[index].leaf;

    __atomic_store_n(&safemmap__directory->entry[index].leaf, spare_leaf,
                     __ATOMIC_SEQ_CST);
    safemmap__readers_wait();
    spare_leaf = old;
}

/* The same for the directory. `dropped` is the leaf that it does without. */
static void
publish_directory(struct safemmap__leaf *dropped)
{
    struct safemmap__directory *old = safemmap__directory;

    __atomic_store_n(&safemmap__directory, spare_directory, __ATOMIC_SEQ_CST);
    safemmap__readers_wait();
    spare_directory = old;
    free(dropped);
}

static int
first_directory(void)
{
    struct safemmap__directory *directory = directory_new(1);
    struct safemmap__directory *spare = directory_new(1);
    struct safemmap__leaf *leaf = leaf_new();

    spare_leaf = leaf_new();
    if (directory == NULL || spare == NULL || leaf == NULL || spare_leaf == NULL) {
        free(directory);
        free(spare);
        free(leaf);
        free(spare_leaf);
        return -ENOMEM;
    }
    spare_directory = spare;
    directory->entry[0].first = 0;
    directory->entry[0].leaf = leaf;
    __atomic_store_n(&safemmap__directory, directory, __ATOMIC_SEQ_CST);
    return 0;
}

/* The leaf, and in it the position, at which a region that starts at `start`
 * stands or would stand. */
static void
locate(uintptr_t start, size_t *ret_index, size_t *ret_position)
{
    size_t index = safemmap__leaf_for(safemmap__directory, start), low, high;
    const struct safemmap__leaf *leaf = safemmap__directory->entry[index].leaf;

    for (low = 0, high = leaf->count; low < high;) {
        size_t middle = low + (high - low) / 2;

        if (leaf->entry[middle].start < start)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_index = index;
    *ret_position = low;
}

/* A full leaf becomes two half-full ones. */
static int
split(size_t index)
{
    struct safemmap__directory *old = safemmap__directory;
    struct safemmap__leaf *leaf = old->entry[index].leaf;
    size_t half = leaf->count / 2;
    struct safemmap__directory *directory = directory_new(old->count + 1);
    struct safemmap__directory *spare = directory_new(old->count + 1);
    struct safemmap__leaf *left = leaf_new();
    struct safemmap__leaf *right = leaf_new();

    if (directory == NULL || spare == NULL || left == NULL || right == NULL) {
        free(directory);
        free(spare);
        free(left);
        free(right);
        return -ENOMEM;
    }
    left->count = half;
    copy_entries(left, 0, leaf, 0, half);
    right->count = leaf->count - half;
    copy_entries(right, 0, leaf, half, right->count);

    free(spare_directory);
    spare_directory = directory;
    memcpy(directory->entry, old->entry, (index + 1) * sizeof(old->entry[0]));
    memcpy(directory->entry + index + 2, old->entry + index + 1,
           (old->count - index - 1) * sizeof(old->entry[0]));
    directory->entry[index].leaf = left;
    directory->entry[index + 1].first = right->entry[0].start;
    directory->entry[index + 1].leaf = right;
    publish_directory(leaf);
    free(spare_directory);
    spare_directory = spare;
    return 0;
}

static bool
overlaps(size_t index, size_t position, const struct safemmap_region *region)
{
    const struct safemmap__directory *directory = safemmap__directory;
    const struct safemmap__leaf *leaf = directory->entry[index].leaf;
    uintptr_t before = 0, after = UINTPTR_MAX;

    if (position > 0)
        before = leaf->entry[position - 1].end;
    else if (index > 0) {
        const struct safemmap__leaf *previous = directory->entry[index - 1].leaf;

        if (previous->count > 0)
            before = previous->entry[previous->count - 1].end;
    }
    if (position < leaf->count)
        after = leaf->entry[position].start;
    else if (index + 1 < directory->count)
        after = directory->entry[index + 1].leaf->entry[0].start;
    return before > region->start || after < region->end;
}

static int
add_locked(struct safemmap_region *region, size_t pages, unsigned char *overlaid)
{
    size_t index, position;
    int error;

    if (safemmap__directory == NULL && (error = first_directory()) < 0)
        return error;
    locate(region->start, &index, &position);
    if (overlaps(index, position, region))
        return -EEXIST;
    if (safemmap__directory->entry[index].leaf->count == LEAF_CAPACITY) {
        if ((error = split(index)) < 0)
            return error;
        locate(region->start, &index, &position);
    }

    region->tail = pages;
    region->singles = 0;
    region->overlaid = overlaid;
    __atomic_store_n(&region->poisoned, 0, __ATOMIC_RELAXED);

    const struct safemmap__leaf *old = safemmap__directory->entry[index].leaf;
    spare_leaf->count = old->count + 1;
    copy_entries(spare_leaf, 0, old, 0, position);
    spare_leaf->entry[position].start = region->start;
    spare_leaf->entry[position].end = region->end;
    spare_leaf->entry[position].region = region;
    copy_entries(spare_leaf, position + 1, old, position, old->count - position);
    publish_leaf(index);
    return 0;
}

int
safemmap_region_add(struct safemmap_region *region)
{
    unsigned char *overlaid;
    size_t pages;
    int error;

    if (region->page_size == 0 || region->start >= region->end ||
        region->start % region->page_size != 0 ||
        region->end % region->page_size != 0)
        return -EINVAL;
    pages = (region->end - region->start) / region->page_size;
    /* Untouched zero pages until the handler sets a bit. */
    overlaid = calloc((pages + CHAR_BIT - 1) / CHAR_BIT, 1);
    if (overlaid == NULL)
        return -ENOMEM;
    safemmap__registry_lock();
    error = add_locked(region, pages, overlaid);
    safemmap__registry_unlock();
    if (error < 0)
        free(overlaid);
    return error;
}

static void
remove_locked(const struct safemmap_region *region)
{
    struct safemmap__directory *old = safemmap__directory;
    size_t index, position;

    locate(region->start, &index, &position);

    struct safemmap__leaf *leaf = old->entry[index].leaf;
    if (leaf->count > 1 || index == 0) {
        spare_leaf->count = leaf->count - 1;
        copy_entries(spare_leaf, 0, leaf, 0, position);
        copy_entries(spare_leaf, position, leaf, position + 1,
                     leaf->count - position - 1);
        publish_leaf(index);
        return;
    }
    spare_directory->count = old->count - 1;
    memcpy(spare_directory->entry, old->entry, index * sizeof(old->entry[0]));
    memcpy(spare_directory->entry + index, old->entry + index + 1,
           (old->count - index - 1) * sizeof(old->entry[0]));
    publish_directory(leaf);
}

void
safemmap_region_remove(struct safemmap_region *region)
{
    if (region == NULL || region->overlaid == NULL)
        return;
    safemmap__registry_lock();
    remove_locked(region);
    safemmap__registry_unlock();
    free(region->overlaid);
    region->overlaid = NULL;
}

bool
safemmap_region_poisoned(const struct safemmap_region *region)
{
    /* Who has read a zero reads the mark: it is set before the page is replaced. */
#ifndef __SANITIZE_THREAD__ /* gcc's cannot follow fences, and refuses them */
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
#endif
    return __atomic_load_n(&region->poisoned, __ATOMIC_ACQUIRE) != 0;
}
