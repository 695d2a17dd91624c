/* Runs only outside the signal: adds and removes regions.
 *
 * A writer holds `lock`, fills a spare leaf (and a spare directory when a leaf
 * is split or emptied), publishes it with one store, and waits until no handler
 * can hold the old one, which becomes the spare. So a change costs one leaf's
 * copy however many regions live, and a removal, which may not fail, allocates
 * nothing.
 *
 * Regions may overlap. A look-up goes backwards from the last leaf that can hold an
 * address; how far the leaves reach tells it where to stop.
 */
#include "copies.h"
#include "pages.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

bool
safemmap__registry_is_empty(void)
{
    bool empty;

    safemmap__registry_lock();
    /* Only the first leaf is ever without a region. */
    empty = safemmap__directory == NULL ||
            (safemmap__directory->count == 1 &&
             safemmap__directory->entry[0].leaf->count == 0);
    safemmap__registry_unlock();
    return empty;
}

/* Guarded by `lock`. Both are there as soon as there is a directory; the spare
 * directory holds as many entries as the published one. */
static struct safemmap__leaf *spare_leaf;
static struct safemmap__directory *spare_directory;
static uint64_t last_id; /* of a region */

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

static uintptr_t
leaf_end(const struct safemmap__leaf *leaf)
{
    uintptr_t end = 0;

    for (size_t i = 0; i < leaf->count; i++)
        if (leaf->entry[i].end > end)
            end = leaf->entry[i].end;
    return end;
}

/* From `index` on, whose `end` has changed, until nothing changes any more. (All of
 * it where regions that reach over many others come and go.) */
static void
update_reach(struct safemmap__directory *directory, size_t index)
{
    uintptr_t reach = index > 0 ? directory->entry[index - 1].reach : 0;

    for (; index < directory->count; index++) {
        if (reach < directory->entry[index].end)
            reach = directory->entry[index].end;
        if (reach == directory->entry[index].reach)
            return;
        __atomic_store_n(&directory->entry[index].reach, reach, __ATOMIC_SEQ_CST);
    }
}

/* Handlers read it meanwhile: it is raised before a region is added, and lowered once
 * the region is gone. */
static void
set_end(size_t index, uintptr_t end)
{
    __atomic_store_n(&safemmap__directory->entry[index].end, end, __ATOMIC_SEQ_CST);
    update_reach(safemmap__directory, index);
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
    directory->entry[0].end = 0;
    directory->entry[0].reach = 0;
    directory->entry[0].leaf = leaf;
    __atomic_store_n(&safemmap__directory, directory, __ATOMIC_SEQ_CST);
    return 0;
}

/* The leaf, and in it the position, at which a region that starts at `start` would
 * be put. */
static void
locate(uintptr_t start, size_t *ret_index, size_t *ret_position)
{
    size_t index = safemmap__leaf_for(safemmap__directory, start), position;
    const struct safemmap__leaf *leaf = safemmap__directory->entry[index].leaf;

    for (position = leaf->count;
         position > 0 && leaf->entry[position - 1].start > start;)
        position--;
    *ret_index = index;
    *ret_position = position;
}

/* Where a registered region stands. Those that start at the same address may fill
 * several leaves. */
static void
find(const struct safemmap_region *region, size_t *ret_index, size_t *ret_position)
{
    size_t index = safemmap__leaf_for(safemmap__directory, region->start);

    for (;; index--) {
        const struct safemmap__leaf *leaf = safemmap__directory->entry[index].leaf;

        for (size_t i = leaf->count; i-- > 0;)
            if (leaf->entry[i].region == region) {
                *ret_index = index;
                *ret_position = i;
                return;
            }
    }
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
    directory->entry[index].end = leaf_end(left);
    directory->entry[index + 1] = old->entry[index];
    directory->entry[index + 1].first = right->entry[0].start;
    directory->entry[index + 1].leaf = right;
    directory->entry[index + 1].end = leaf_end(right);
    update_reach(directory, index);
    publish_directory(leaf);
    free(spare_directory);
    spare_directory = spare;
    return 0;
}

static int
add_locked(struct safemmap_region *region)
{
    size_t index, position;
    int error;

    if (safemmap__directory == NULL && (error = first_directory()) < 0)
        return error;
    locate(region->start, &index, &position);
    if (safemmap__directory->entry[index].leaf->count == LEAF_CAPACITY) {
        if ((error = split(index)) < 0)
            return error;
        locate(region->start, &index, &position);
    }

    const struct safemmap__leaf *old = safemmap__directory->entry[index].leaf;
    spare_leaf->count = old->count + 1;
    copy_entries(spare_leaf, 0, old, 0, position);
    spare_leaf->entry[position].start = region->start;
    spare_leaf->entry[position].end = region->end;
    spare_leaf->entry[position].region = region;
    copy_entries(spare_leaf, position + 1, old, position, old->count - position);
    if (safemmap__directory->entry[index].end < region->end)
        set_end(index, region->end);
    publish_leaf(index);
    return 0;
}

static void
remove_locked(const struct safemmap_region *region)
{
    struct safemmap__directory *old = safemmap__directory;
    size_t index, position;

    find(region, &index, &position);

    struct safemmap__leaf *leaf = old->entry[index].leaf;
    if (leaf->count > 1 || index == 0) {
        spare_leaf->count = leaf->count - 1;
        copy_entries(spare_leaf, 0, leaf, 0, position);
        copy_entries(spare_leaf, position, leaf, position + 1,
                     leaf->count - position - 1);
        publish_leaf(index);
        set_end(index, leaf_end(old->entry[index].leaf));
        return;
    }
    spare_directory->count = old->count - 1;
    memcpy(spare_directory->entry, old->entry, index * sizeof(old->entry[0]));
    memcpy(spare_directory->entry + index, old->entry + index + 1,
           (old->count - index - 1) * sizeof(old->entry[0]));
    update_reach(spare_directory, index);
    publish_directory(leaf);
}

static void
forget_pages(struct safemmap_region *region)
{
    safemmap__steps_forget(&region->steps, &region->singles);
    free(region->overlaid);
    free(region->shadowed);
    region->overlaid = NULL;
    region->shadowed = NULL;
}

/* The number may be another file's by the time of a fault. */
static void
remember_file(struct safemmap_region *region)
{
    struct stat status;

    region->inode = 0;
    if (region->fd < 0 || fstat(region->fd, &status) < 0)
        return;
    region->device = status.st_dev;
    region->inode = status.st_ino;
}

static int
prepare(struct safemmap_region *region)
{
    size_t pages;
    int error;

    if (region->page_size < safemmap__page_size ||
        (region->page_size & (region->page_size - 1)) != 0 ||
        region->start >= region->end || region->start % region->page_size != 0 ||
        region->end % region->page_size != 0)
        return -EINVAL;
    if (region->overlaid != NULL)
        return -EEXIST;
    error = region->withdrawable ? safemmap__zeros_prepare()
                                 : safemmap__lasting_prepare();
    if (error < 0)
        return error;
    pages = (region->end - region->start) / region->page_size;
    region->poisoned = 0;
    region->told = 0;
    region->lost = 0;
    remember_file(region);
    region->singles = 0;
    region->steps = (struct safemmap__steps){0};
    region->overlaid = safemmap__runs_new(pages);
    region->shadowed = region->put_back ? safemmap__runs_new(pages) : NULL;
    if (region->overlaid == NULL || (region->put_back && region->shadowed == NULL)) {
        forget_pages(region);
        return -ENOMEM;
    }
    return 0;
}

/* Refuses a region over pages that are replaced. */
static int
enter_locked(struct safemmap_region *region)
{
    int error = region->put_back ? safemmap__reserve_shadow(region) : 0;

    if (error < 0)
        return error;
    error = add_locked(region);
    /* From here on handlers mark it; what they did before they have marked in the
     * regions that were there. */
    if (error == 0 && safemmap__was_replaced(region)) {
        remove_locked(region);
        error = -EFAULT;
    }
    if (error < 0)
        safemmap__put_back(region);
    return error;
}

int
safemmap_region_add(struct safemmap_region *region)
{
    int error;

    if (safemmap__host != NULL)
        return safemmap__host->region_add(region);
    region->updated = NULL;
    if ((error = prepare(region)) < 0)
        return error;
    safemmap__registry_lock();
    region->id = ++last_id;
    error = enter_locked(region);
    safemmap__registry_unlock();
    if (error < 0)
        forget_pages(region);
    return error;
}

/* Puts `region` in the place of another with the same range. */
static void
replace_locked(const struct safemmap_region *other, struct safemmap_region *region)
{
    size_t index, position;
    const struct safemmap__leaf *leaf;

    find(other, &index, &position);
    leaf = safemmap__directory->entry[index].leaf;
    spare_leaf->count = leaf->count;
    copy_entries(spare_leaf, 0, leaf, 0, leaf->count);
    spare_leaf->entry[position].region = region;
    publish_leaf(index);
}

/* Another region covers the new range while this one is out of the registry. (All of
 * it under the lock: a child must not find the other one there.) */
static int
update_locked(struct safemmap_region *region, struct safemmap_region *stand_in)
{
    int error = enter_locked(stand_in);

    if (error < 0)
        return error;
    remove_locked(region);
    free(region->overlaid);
    /* Both mark the same pages until handlers have forgotten the other. */
    region->overlaid = stand_in->overlaid;
    region->start = stand_in->start;
    region->end = stand_in->end;
    safemmap__steps_forget(&region->steps, &region->singles);
    replace_locked(stand_in, region);
    stand_in->overlaid = NULL;
    return 0;
}

int
safemmap_region_update(struct safemmap_region *region, uintptr_t start, uintptr_t end)
{
    struct safemmap_region *stand_in;
    int error;

    if (safemmap__host != NULL)
        return safemmap__host->region_update(region, start, end);
    if (region->overlaid == NULL || region->put_back || region->page_size == 0 ||
        start >= end || start % region->page_size != 0 ||
        end % region->page_size != 0)
        return -EINVAL;
    stand_in = calloc(1, sizeof(*stand_in));
    if (stand_in == NULL)
        return -ENOMEM;
    stand_in->start = start;
    stand_in->end = end;
    stand_in->page_size = region->page_size;
    stand_in->protection = region->protection;
    stand_in->fd = region->fd;
    stand_in->offset = region->offset;
    stand_in->withdrawable = region->withdrawable;
    memcpy(stand_in->name, region->name, sizeof(region->name));
    stand_in->updated = region;
    stand_in->id = region->id;
    if ((error = prepare(stand_in)) == 0) {
        safemmap__registry_lock();
        error = update_locked(region, stand_in);
        safemmap__registry_unlock();
        forget_pages(stand_in);
    }
    free(stand_in);
    return error;
}

/* safemmap__visitor: a struct safemmap__range of the region was mapped anew. What was
 * moved aside there must not be moved back over it. */
static void
begin_again(struct safemmap_region *region, void *context)
{
    size_t first, last;

    safemmap__unmark(region, context);
    if (!region->put_back)
        return;
    safemmap__pages_in(region, context, &first, &last);
    if (!safemmap__runs_drop(region->shadowed, first, last)) {
        /* The set is full. What lies behind stays lost. */
        region->lost = -ENOMEM;
        safemmap__runs_drop(region->shadowed, first, safemmap__page_count(region));
    }
}

/* The caller holds safemmap__pages: threads that have faulted there wait for it, and
 * are told by the id that what they found is no more. */
static int
renew_locked(struct safemmap_region *region, int flags)
{
    struct safemmap__range all = {region->start, region->end};
    int error =
        safemmap__os_map_again(region->start, region->end - region->start,
                               region->protection, flags, region->fd, region->offset);

    if (error < 0)
        return error;
    safemmap__regions_visit(all.start, all.end, begin_again, &all);
    safemmap__steps_forget(&region->steps, &region->singles);
    __atomic_store_n(&region->id, ++last_id, __ATOMIC_RELAXED);
    __atomic_store_n(&region->poisoned, 0, __ATOMIC_RELEASE);
    safemmap__os_set_mappings_aside();
    return 0;
}

int
safemmap_region_renew(struct safemmap_region *region, int flags)
{
    struct safemmap__reading reading;
    int error;

    if (safemmap__host != NULL)
        return safemmap__host->region_renew(region, flags);
    if (region->overlaid == NULL || region->put_back)
        return -EINVAL;
    safemmap__registry_lock();
    reading = safemmap__start_reading();
    safemmap__lock(&safemmap__pages);
    error = renew_locked(region, flags);
    safemmap__unlock(&safemmap__pages);
    safemmap__stop_reading(&reading);
    safemmap__registry_unlock();
    return error;
}

int
safemmap_region_remove(struct safemmap_region *region)
{
    int error = 0;

    if (safemmap__host != NULL)
        return safemmap__host->region_remove(region);
    if (region == NULL)
        return 0;
    safemmap__registry_lock();
    if (region->overlaid != NULL) {
        remove_locked(region);
        error = safemmap__put_back(region);
        forget_pages(region);
    }
    safemmap__registry_unlock();
    return error;
}
