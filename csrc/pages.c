/* Runs inside the signal and outside: keeps account of the pages of registered
 * regions that are replaced.
 *
 * Regions may overlap: a page that is replaced is marked in each that holds it.
 */
#include "pages.h"

/* ---- One region -------------------------------------------------------- */

size_t
safemmap__page_count(const struct safemmap_region *region)
{
    return (region->end - region->start) / region->page_size;
}

uintptr_t
safemmap__page_address(const struct safemmap_region *region, size_t page)
{
    return region->start + page * region->page_size;
}

void
safemmap__pages_in(const struct safemmap_region *region,
                   const struct safemmap__range *range, size_t *ret_first,
                   size_t *ret_last)
{
    uintptr_t start = range->start > region->start ? range->start : region->start;
    uintptr_t end = range->end < region->end ? range->end : region->end;

    *ret_first = (start - region->start) / region->page_size;
    *ret_last = (end - region->start + region->page_size - 1) / region->page_size;
}

bool
safemmap__is_overlaid(const struct safemmap_region *region, size_t page)
{
    return safemmap__runs_hold(region->overlaid, page);
}

/* (If the set is full, the page counts as not replaced, and may be replaced again.)
 */
void
safemmap__mark(struct safemmap_region *region, void *context)
{
    size_t first, last;

    safemmap__pages_in(region, context, &first, &last);
    safemmap__runs_add(region->overlaid, first, last);
}

void
safemmap__unmark(struct safemmap_region *region, void *context)
{
    size_t first, last;

    safemmap__pages_in(region, context, &first, &last);
    safemmap__runs_drop(region->overlaid, first, last);
}

/* ---- All regions that hold a page -------------------------------------- */

struct overlapping {
    const struct safemmap_region *owner;
    bool owner_visited;
    safemmap__visitor *visit;
    void *context;
};

/* safemmap__visitor */
static void
visit_one(struct safemmap_region *region, void *context)
{
    struct overlapping *overlapping = context;

    overlapping->owner_visited |= region == overlapping->owner;
    overlapping->visit(region, overlapping->context);
}

void
safemmap__visit_overlapping(struct safemmap_region *owner,
                            const struct safemmap__range *range,
                            safemmap__visitor *visit, void *context)
{
    struct overlapping overlapping = {owner, false, visit, context};

    safemmap__regions_visit(range->start, range->end, visit_one, &overlapping);
    if (!overlapping.owner_visited)
        visit(owner, context);
}

/* ---- Asking ------------------------------------------------------------ */

struct question {
    const struct safemmap_region *region;
    bool shared;
    bool replaced;
};

/* safemmap__visitor */
static void
notice(struct safemmap_region *region, void *context)
{
    struct question *question = context;

    question->shared |= region != question->region;
}

/* safemmap__visitor */
static void
ask(struct safemmap_region *region, void *context)
{
    struct question *question = context;
    struct safemmap__range range = {question->region->start, question->region->end};
    size_t first, last;

    if (region == question->region || question->replaced)
        return;
    safemmap__pages_in(region, &range, &first, &last);
    question->replaced =
        safemmap__runs_next(region->overlaid, true, first, last) < last;
}

bool
safemmap__was_replaced(const struct safemmap_region *region)
{
    struct safemmap__reading reading;
    struct question question = {region, false, false};

    safemmap__regions_visit(region->start, region->end, notice, &question);
    if (!question.shared)
        return false;
    reading = safemmap__start_reading();
    safemmap__lock(&safemmap__pages);
    safemmap__regions_visit(region->start, region->end, ask, &question);
    safemmap__unlock(&safemmap__pages);
    safemmap__stop_reading(&reading);
    return question.replaced;
}

bool
safemmap_region_poisoned(const struct safemmap_region *region)
{
    /* A thread that has read a zero sees the mark, which is set before the
     * replacement.
     */
#ifndef __SANITIZE_THREAD__ /* gcc's cannot follow fences, and refuses them */
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
#endif
    return __atomic_load_n(&region->poisoned, __ATOMIC_ACQUIRE) != 0;
}

void
safemmap_region_attend(struct safemmap_region *region, bool attended)
{
    __atomic_store_n(&region->attended, attended, __ATOMIC_SEQ_CST);
#ifndef __SANITIZE_THREAD__
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* before it is asked */
#endif
}
