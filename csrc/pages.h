/* What pages.c, steps.c, shadow.c and those above them share: the account of pages
 * that are replaced. Registered or not, a region's part of it is changed under
 * safemmap__pages, between start_reading and stop_reading.
 */
#ifndef SAFEMMAP_PAGES_H
#define SAFEMMAP_PAGES_H

#include "internal.h"
#include "runs.h"

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

bool safemmap__is_overlaid(const struct safemmap_region *region, size_t page);

/* safemmap__visitor: a struct safemmap__range of the region was replaced, or put
 * back. */
safemmap__visitor safemmap__mark, safemmap__unmark;

/* Visits the regions that overlap the range, the owner among them: another thread may
 * have taken it out of the registry since it was chosen, but it takes part as long as
 * there is a handler that has chosen it. */
void safemmap__visit_overlapping(struct safemmap_region *owner,
                                 const struct safemmap__range *range,
                                 safemmap__visitor *visit, void *context);

/* ---- steps.c ---- */

/* The pages that the next step replaces for a fault in `page`, limited to `within`.
 * If not all of that is known to be `lost`, the step ends before a page that can be
 * read.
 */
struct safemmap__range safemmap__step(const struct safemmap__steps *steps,
                                      uintptr_t page, size_t page_size,
                                      const struct safemmap__range *within,
                                      bool lost);
/* `within`: as for safemmap__step(). 0, or a negative errno: nothing has changed. */
int safemmap__step_map(struct safemmap__steps *steps,
                       const struct safemmap__range *step,
                       const struct safemmap__range *within, int protection);
/* Whether the page is near the last step, and that was not withdrawn. */
bool safemmap__steps_go_on(const struct safemmap__steps *steps, uintptr_t page,
                           size_t page_size);
/* Whether the page is next to the last step. */
bool safemmap__steps_adjoin(const struct safemmap__steps *steps, uintptr_t page,
                            size_t page_size);
/* Whether steps have left so many mappings behind that what is lost must be joined
 * into one before the next step. Joining sets steps->token to the token of the whole;
 * `joined` mappings fewer are left then.
 */
bool safemmap__steps_are_many(const struct safemmap__steps *steps);
int safemmap__steps_join(struct safemmap__steps *steps,
                         const struct safemmap__range *lost, int protection,
                         unsigned joined);
/* Fewer are not joined: whatever is joined faults again, and an instruction touches
 * several pages. */
enum { SAFEMMAP__FEW = 32 };
/* Counts a page, or a few, that are replaced with good pages around them. Whether all
 * pages around it must be replaced instead; and whether, for certain, some have been.
 */
bool safemmap__single_is_too_many(size_t *singles);
bool safemmap__singles_are_many(size_t singles);
/* The mappings that were left behind are gone. */
void safemmap__steps_forget(struct safemmap__steps *steps, size_t *singles);

/* ---- shadow.c ---- */

/* In a region that is put back: moves those of the pages aside that have not been
 * yet. Pages that cannot be moved are lost when they are replaced; `region->lost`
 * says so. */
void safemmap__move_aside(struct safemmap_region *region, size_t first, size_t last);
/* Undoes that for pages that were not replaced after all. */
void safemmap__move_back(struct safemmap_region *region, size_t first, size_t last);

#pragma GCC visibility pop

#endif
