/* Runs only inside the signal: how many pages one overlay of withdrawable zeros
 * replaces.
 *
 * A file that was cut may have lost any number of pages. They are replaced in
 * *steps*: while a thread reads on near the last step, upwards or downwards, each is
 * twice as large as the one before, whose memory it gives back. So reading all of
 * them takes few faults and little memory.
 *
 * A step leaves up to two more mappings behind: it splits the one that it lies in.
 * When there are many, all that is lost is joined into one mapping again, every page
 * of which faults when it is touched.
 */
#include "pages.h"

enum { FIRST = 1 << 16, LARGEST = 1 << 25, PROBES = 1024 };

/* So many mappings one region or file may leave behind; so many all of them may,
 * before the limit of each is lowered to SAFEMMAP__FEW; and so many pages of one may
 * be replaced with good pages around them, each of which leaves two. */
enum { MANY = 256, PLENTY = 1 << 13, SINGLES = 256 };

/* By all. Regions are taken out by threads that do not hold safemmap__pages. */
static unsigned left_by_all;

static bool
are_plenty(void)
{
    return __atomic_load_n(&left_by_all, __ATOMIC_RELAXED) >= PLENTY;
}

static void
add_left(struct safemmap__steps *steps, unsigned left)
{
    steps->left += left;
    __atomic_fetch_add(&left_by_all, left, __ATOMIC_RELAXED);
}

static void
drop_left(struct safemmap__steps *steps, unsigned left)
{
    if (left > steps->left)
        left = steps->left;
    steps->left -= left;
    __atomic_fetch_sub(&left_by_all, left, __ATOMIC_RELAXED);
}

void
safemmap__steps_forget(struct safemmap__steps *steps, size_t *singles)
{
    drop_left(steps, steps->left);
    __atomic_fetch_sub(&left_by_all, 2 * (unsigned)*singles, __ATOMIC_RELAXED);
    *steps = (struct safemmap__steps){0};
    *singles = 0;
}

bool
safemmap__singles_are_many(size_t singles)
{
    return singles > SINGLES;
}

bool
safemmap__single_is_too_many(size_t *singles)
{
    ++*singles;
    __atomic_fetch_add(&left_by_all, 2, __ATOMIC_RELAXED);
    return *singles > (are_plenty() ? SAFEMMAP__FEW : SINGLES);
}

/* Whether the page lies in the last step, or near it; and the size and the direction
 * of the step to take then. */
static bool
goes_on(const struct safemmap__steps *steps, uintptr_t page, size_t page_size,
        size_t *ret_size, bool *ret_downwards)
{
    size_t size = steps->end - steps->start;

    if (size == 0)
        return false;
    *ret_downwards = page < steps->start;
    *ret_size = size;
    if (page >= steps->start && page < steps->end)
        return true; /* it was withdrawn meanwhile */
    *ret_size = size < LARGEST / 2 ? 2 * size : LARGEST;
    return *ret_downwards ? steps->start - page - page_size < LARGEST
                          : page - steps->end < LARGEST;
}

bool
safemmap__steps_go_on(const struct safemmap__steps *steps, uintptr_t page,
                      size_t page_size)
{
    size_t size;
    bool downwards;

    return goes_on(steps, page, page_size, &size, &downwards) &&
           !safemmap__zeros_are_withdrawn(steps->token);
}

bool
safemmap__steps_adjoin(const struct safemmap__steps *steps, uintptr_t page,
                       size_t page_size)
{
    return steps->start != steps->end &&
           (page == steps->end || page + page_size == steps->start);
}

/* Ends `step` before the nearest page that can be read, on either side. */
static void
stop_at_present_pages(struct safemmap__range *step, uintptr_t page, size_t page_size)
{
    for (uintptr_t at = page; at > step->start;) {
        at -= page_size;
        if (safemmap__os_is_readable(at))
            step->start = at + page_size;
    }
    for (uintptr_t at = page + page_size; at < step->end; at += page_size)
        if (safemmap__os_is_readable(at))
            step->end = at;
}

struct safemmap__range
safemmap__step(const struct safemmap__steps *steps, uintptr_t page, size_t page_size,
               const struct safemmap__range *within, bool lost)
{
    struct safemmap__range step = {page, page + page_size};
    size_t size;
    bool downwards;

    if (!goes_on(steps, page, page_size, &size, &downwards)) {
        size = FIRST;
        downwards = false;
    }
    if (!lost && size > PROBES * page_size)
        size = PROBES * page_size;
    size = size > page_size ? size / page_size * page_size : page_size;
    if (downwards)
        step.start =
            step.end - within->start > size ? step.end - size : within->start;
    else
        step.end = within->end - page > size ? page + size : within->end;
    if (!lost)
        stop_at_present_pages(&step, page, page_size);
    return step;
}

bool
safemmap__steps_are_many(const struct safemmap__steps *steps)
{
    return steps->left >= MANY ||
           (steps->left >= SAFEMMAP__FEW &&
            (are_plenty() || safemmap__os_set_mappings_aside() < 0));
}

int
safemmap__steps_join(struct safemmap__steps *steps,
                     const struct safemmap__range *lost, int protection,
                     unsigned joined)
{
    uint64_t token;
    int error = safemmap__zeros_map_withdrawn(lost->start, lost->end - lost->start,
                                              protection, &token);

    if (error == 0) {
        drop_left(steps, joined);
        *steps = (struct safemmap__steps){.token = token, .left = steps->left};
    }
    return error;
}

int
safemmap__step_map(struct safemmap__steps *steps, const struct safemmap__range *step,
                   const struct safemmap__range *within, int protection)
{
    const struct safemmap__steps last = *steps;
    bool before = step->start != within->start && step->start != last.end;
    bool merges = step->end == last.start; /* with the last step */
    bool after = step->end != within->end && !merges;
    uint64_t token = 0;
    int error =
        safemmap__zeros_map(step->start, step->end - step->start, protection, &token);

    if (error < 0)
        return error;
    *steps = (struct safemmap__steps){step->start, step->end, token, last.left};
    add_left(steps, (unsigned)(before + after - (before && merges)));
    if (last.start != last.end &&
        ((step->start >= last.end && step->start - last.end < LARGEST) ||
         (step->end <= last.start && last.start - step->end < LARGEST)))
        safemmap__zeros_empty(last.token, last.end - last.start);
    return 0;
}
