/* Runs inside the signal, but for what registry.c calls: moves the file's pages
 * aside, and back, in regions that are put back when they are removed.
 *
 * The pages wait in the region's shadow, address space that was reserved when the
 * region was registered.
 */
#include "pages.h"

#include <errno.h>

int
safemmap__reserve_shadow(struct safemmap_region *region)
{
    return safemmap__os_reserve(region->end - region->start, &region->shadow);
}

int
safemmap__move_aside(struct safemmap_region *region, size_t first, size_t last)
{
    int error = safemmap__os_move_pages(safemmap__page_address(region, first),
                                        region->shadow + first * region->page_size,
                                        (last - first) * region->page_size);

    if (error == 0)
        safemmap__set_pages(region->shadowed, first, last, true);
    return error;
}

/* In pieces where it must be: the run may have come so. */
void
safemmap__move_back(struct safemmap_region *region, size_t first, size_t last)
{
    size_t page_size = region->page_size;
    struct safemmap__range range = {safemmap__page_address(region, first),
                                    safemmap__page_address(region, last)};

    /* The shadow is kept whole: another thread could map something into a hole. */
    if (safemmap__os_move_pages(region->shadow + first * page_size, range.start,
                                range.end - range.start) < 0) {
        if (last - first > 1) {
            safemmap__move_back(region, first, first + (last - first) / 2);
            safemmap__move_back(region, first + (last - first) / 2, last);
        }
        return;
    }
    safemmap__set_pages(region->shadowed, first, last, false);
    safemmap__regions_visit(range.start, range.end, safemmap__unmark, &range);
}

int
safemmap__put_back(struct safemmap_region *region)
{
    struct safemmap__reading reading;
    size_t count = safemmap__page_count(region);
    int error;

    if (!region->put_back)
        return 0;
    reading = safemmap__start_reading();
    safemmap__lock(&safemmap__pages);
    for (size_t page = 0;
         (page = safemmap__next_page(region->shadowed, true, page, count)) < count;) {
        size_t first = page;

        page = safemmap__next_page(region->shadowed, false, page, count);
        safemmap__move_back(region, first, page);
    }
    error = safemmap__run_end(region, 0, count) < count ? -ENOMEM : 0;
    safemmap__os_release(region->shadow, region->end - region->start);
    safemmap__unlock(&safemmap__pages);
    safemmap__stop_reading(&reading);
    return error;
}
