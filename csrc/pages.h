/* What pages.c, shadow.c and overlay.c share: the account of pages that are replaced.
 * Registered or not, a region's part of it is changed under safemmap__pages, between
 * start_reading and stop_reading.
 */
#ifndef SAFEMMAP_PAGES_H
#define SAFEMMAP_PAGES_H

#include "internal.h"

#pragma GCC visibility push(hidden)

/* Some memory. */
struct safemmap__range {
    uintptr_t start, end;
};

/* ---- pages.c ---- */

size_t safemmap__page_count(const struct safemmap_region *region);
uintptr_t safemmap__page_address(const struct safemmap_region *region, size_t page);
/* The pages of the region that the range touches, from `*ret_first` to before
 * `*ret_last`. They overlap. */
void safemmap__pages_in(const struct safemmap_region *region,
                        const struct safemmap__range *range, size_t *ret_first,
                        size_t *ret_last);

/* The first page from `page` to before `last` whose bit has this value, or `last`. */
size_t safemmap__next_page(const unsigned char *bits, bool value, size_t page,
                           size_t last);
/* Sets the bits of pages. Returns how many have changed. */
size_t safemmap__set_pages(unsigned char *bits, size_t first, size_t last,
                           bool value);

bool safemmap__is_overlaid(const struct safemmap_region *region, size_t page);
/* The page after the run of pages from `page` on, up to `last`, that are still the
 * file's. */
size_t safemmap__run_end(const struct safemmap_region *region, size_t page,
                         size_t last);

/* safemmap__visitor: a struct safemmap__range of the region was replaced, or put
 * back. */
safemmap__visitor safemmap__mark, safemmap__unmark;

/* Visits the regions that overlap the range, the owner among them: another thread may
 * have taken it out of the registry since it was chosen, but it takes part as long as
 * there is a handler that has chosen it. */
void safemmap__visit_overlapping(struct safemmap_region *owner,
                                 const struct safemmap__range *range,
                                 safemmap__visitor *visit, void *context);

/* ---- shadow.c ---- */

/* Moves pages that are still the file's aside. Negative errno: they would be lost
 * with the replacement; -EFAULT: fewer at a time may do. */
int safemmap__move_aside(struct safemmap_region *region, size_t first, size_t last);
/* Moves them back to where they were. */
void safemmap__move_back(struct safemmap_region *region, size_t first, size_t last);

#pragma GCC visibility pop

#endif
