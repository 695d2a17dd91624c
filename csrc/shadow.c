/* Runs in the signal (outside it: what registry.c calls). Moves the file's pages
 * aside, and back, in regions that are put back when they are removed.
 *
 * The pages wait in the region's shadow, address space that was reserved when the
 * region was registered.
 */
#include "pages.h"

#include <errno.h>

/* ---- Address space ------------------------------------------------------ */

/* That of a removed region serves the next one: reserving some and releasing it would
 * take longer than all else that registering a region does. Guarded by the registry's
 * lock. */
static struct {
    uintptr_t start;
    size_t size; /* 0: there is none */
} spare;
/* So much may stay reserved, which RLIMIT_AS counts. */
enum { SPARE_ALLOWED = 1 << 20 };

int
safemmap__reserve_shadow(struct safemmap_region *region)
{
    size_t size = region->end - region->start;

    region->shadow_used = false;
    if (size <= spare.size) {
        region->shadow = spare.start;
        region->shadow_size = spare.size;
        spare.size = 0;
        return 0;
    }
    region->shadow_size = size;
    return safemmap__os_reserve(size, &region->shadow);
}

static void
release_shadow(const struct safemmap_region *region)
{
    safemmap__os_release(region->shadow, region->shadow_size);
}

/* Not where a page was moved: parts of the file may be mapped there. */
static void
spare_shadow(const struct safemmap_region *region)
{
    if (region->shadow_used || region->shadow_size > SPARE_ALLOWED ||
        region->shadow_size <= spare.size) {
        release_shadow(region);
        return;
    }
    if (spare.size > 0)
        safemmap__os_release(spare.start, spare.size);
    spare.start = region->shadow;
    spare.size = region->shadow_size;
}

/* ---- Pages aside -------------------------------------------------------- */

static int
move_pages(uintptr_t from, uintptr_t to, size_t size)
{
    int error = safemmap__os_move_pages(from, to, size);

    if (safemmap__os_give_mappings(error)) {
        error = safemmap__os_move_pages(from, to, size);
        safemmap__os_set_mappings_aside();
    }
    return error;
}

/* (Piece by piece on kernels that do not move pages of several mappings at once.) */
static void
move_run_aside(struct safemmap_region *region, size_t first, size_t last)
{
    size_t middle = first + (last - first) / 2;
    int error;

    region->shadow_used = true;
    error = move_pages(safemmap__page_address(region, first),
                       region->shadow + first * region->page_size,
                       (last - first) * region->page_size);

    if (error == -EFAULT && last - first > 1) {
        move_run_aside(region, first, middle);
        move_run_aside(region, middle, last);
    } else if (error < 0)
        region->lost = error;
    else if (!safemmap__runs_add(region->shadowed, first, last))
        region->lost = -ENOMEM;
}

void
safemmap__move_aside(struct safemmap_region *region, size_t first, size_t last)
{
    const struct safemmap__runs *done = region->shadowed;

    if (!region->put_back)
        return;
    while ((first = safemmap__runs_next(done, false, first, last)) < last) {
        size_t end = safemmap__runs_next(done, true, first, last);

        move_run_aside(region, first, end);
        first = end;
    }
}

/* ---- And back ----------------------------------------------------------- */

/* Piece by piece if needed: the run may have been moved aside in pieces. Negative
 * errno: some pages were not moved. */
static int
move_run_back(struct safemmap_region *region, size_t first, size_t last)
{
    size_t page_size = region->page_size, middle = first + (last - first) / 2;
    struct safemmap__range range = {safemmap__page_address(region, first),
                                    safemmap__page_address(region, last)};
    /* The shadow is kept whole: another thread could map something into a hole. */
    int error = move_pages(region->shadow + first * page_size, range.start,
                           range.end - range.start);

    if (error == 0) {
        safemmap__runs_drop(region->shadowed, first, last);
        safemmap__regions_visit(range.start, range.end, safemmap__unmark, &range);
        return 0;
    }
    if (last - first > 1) {
        int other = move_run_back(region, middle, last);

        error = move_run_back(region, first, middle);
        return error < 0 ? error : other;
    }
    return error;
}

void
safemmap__move_back(struct safemmap_region *region, size_t first, size_t last)
{
    if (!region->put_back)
        return;
    while ((first = safemmap__runs_next(region->overlaid, false, first, last)) <
           last) {
        size_t end = safemmap__runs_next(region->overlaid, true, first, last);

        while ((first = safemmap__runs_next(region->shadowed, true, first, end)) <
               end) {
            size_t part = safemmap__runs_next(region->shadowed, false, first, end);

            move_run_back(region, first, part);
            first = part;
        }
    }
}

int
safemmap__put_back(struct safemmap_region *region)
{
    struct safemmap__reading reading;
    size_t count = safemmap__page_count(region), page = 0;
    int error = region->lost;

    if (!region->put_back)
        return 0;
    if (safemmap__runs_next(region->shadowed, true, 0, count) == count) {
        spare_shadow(region);
        return error;
    }
    reading = safemmap__start_reading();
    safemmap__lock(&safemmap__pages);
    while ((page = safemmap__runs_next(region->shadowed, true, page, count)) <
           count) {
        size_t end = safemmap__runs_next(region->shadowed, false, page, count);
        int failed = move_run_back(region, page, end);

        error = error < 0 ? error : failed;
        page = end;
    }
    release_shadow(region);
    safemmap__unlock(&safemmap__pages);
    safemmap__stop_reading(&reading);
    return error;
}
