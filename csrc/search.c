/* Runs only outside the signal: where a pattern occurs first, or last.
 *
 * A few bytes of the pattern are searched for at many places at once; where they
 * stand the rest is compared. Which bytes is learnt on the way: a place that had them
 * and is no match differs in another byte, which joins them from then on.
 * Where too many places have them still (the peer picks the text) the two-way
 * algorithm goes on for a while, which takes linear time whatever the text: M.
 * Crochemore and D. Perrin, "Two-way string-matching", Journal of the ACM 38(3),
 * 1991.
 *
 * A page is touched only when there is no match on those before it.
 */
#include "internal.h"
#include "operations.h"

typedef const unsigned char *bytes;

static size_t
least(size_t left, size_t right)
{
    return left < right ? left : right;
}

/* ---- The filter -------------------------------------------------------- */

/* Bytes of a long text that are counted, and of a pattern that can be the rarest. */
enum { SAMPLE = 256, LONG_TEXT = 4096 };

static size_t
rarest_in(bytes sample, size_t sample_size, bytes pattern, size_t pattern_size)
{
    unsigned short count[256] = {0};
    size_t rarest = 0;

    for (size_t i = 0; i < sample_size; i++)
        count[sample[i]]++;
    for (size_t i = 1; i < least(pattern_size, SAMPLE); i++)
        if (count[pattern[i]] < count[pattern[rarest]])
            rarest = i;
    return rarest;
}

/* The rarest byte, and those that are likely to be in the cache already. */
static struct safemmap__filter
filter_for(bytes sample, size_t sample_size, bytes pattern, size_t pattern_size)
{
    struct safemmap__filter filter;

    filter.in_vain = 0;
    for (size_t i = 0; i < SAFEMMAP__FILTERED; i++)
        filter.at[i] = least(i, pattern_size - 1);
    if (sample_size > 0)
        filter.at[0] = rarest_in(sample, sample_size, pattern, pattern_size);
    for (size_t i = 0; i < SAFEMMAP__FILTERED; i++)
        filter.byte[i] = pattern[filter.at[i]];
    return filter;
}

/* Takes a byte that tells a candidate from a match among the quick ones, in place of
 * the one that has been in the filter for longest. */
static inline void
learn(struct safemmap__filter *filter, bytes pattern, size_t at)
{
    for (int i = SAFEMMAP__FILTERED - 1; i > 1; i--) {
        filter->at[i] = filter->at[i - 1];
        filter->byte[i] = filter->byte[i - 1];
    }
    filter->at[1] = at;
    filter->byte[1] = pattern[at];
}

/* On a page more blocks in vain than this cost more than to try other quick ones. */
enum { IN_VAIN = 4 };
static inline void
next_page(struct safemmap__filter *filter, bytes pattern)
{
    if (filter->in_vain > IN_VAIN)
        learn(filter, pattern, filter->at[SAFEMMAP__FILTERED - 1]);
    filter->in_vain = 0;
}

/* ---- Skipping ---------------------------------------------------------- */

/* The bytes of a pattern that is long enough for this to pay. Where another one
 * stands in the text there is no match around it. */
enum { LONG_PATTERN = 256 };
struct alphabet {
    bool has[256];
};

static struct alphabet
alphabet_of(bytes pattern, size_t size)
{
    struct alphabet alphabet = {{false}};

    for (size_t i = 0; i < size; i++)
        alphabet.has[pattern[i]] = true;
    return alphabet;
}

/* ---- Two-way ----------------------------------------------------------- */

/* The pattern cut in two, such that what of the right part matches tells how far to
 * go on. In either direction: `step` is 1, or -1 for what is read from its end. */
struct cut {
    size_t at, period;
    bool periodic;
};

static inline size_t
greatest_suffix(bytes pattern, size_t size, ptrdiff_t step, bool reverse,
                size_t *ret_period)
{
    size_t suffix = 0, next = 1, k = 0, period = 1;

    while (next + k < size) {
        unsigned char one = pattern[(ptrdiff_t)(next + k) * step];
        unsigned char other = pattern[(ptrdiff_t)(suffix + k) * step];

        if (one == other) {
            if (++k == period) {
                next += period;
                k = 0;
            }
        } else if ((one < other) != reverse) {
            next += k + 1;
            k = 0;
            period = next - suffix;
        } else {
            suffix = next++;
            k = 0;
            period = 1;
        }
    }
    *ret_period = period;
    return suffix;
}

static inline struct cut
cut_in_two(bytes pattern, size_t size, ptrdiff_t step)
{
    size_t period, other_period;
    size_t at = greatest_suffix(pattern, size, step, false, &period);
    size_t other = greatest_suffix(pattern, size, step, true, &other_period);
    struct cut cut;

    if (other > at) {
        at = other;
        period = other_period;
    }
    cut = (struct cut){at, period, true};
    for (size_t i = 0; i < at; i++)
        if (pattern[(ptrdiff_t)i * step] != pattern[(ptrdiff_t)(i + period) * step]) {
            cut.periodic = false;
            cut.period = (at > size - at ? at : size - at) + 1;
            break;
        }
    return cut;
}

/* How many steps from `text` on the first match begins, below `places`; `places` if
 * there is none. */
static inline size_t
two_way(bytes text, size_t places, bytes pattern, size_t size, ptrdiff_t step,
        const struct cut *cut)
{
    size_t known = 0; /* of the pattern, from the last place on */

    for (size_t place = 0; place < places;) {
        bytes here = text + (ptrdiff_t)place * step;
        size_t i = cut->at > known ? cut->at : known;

        while (i < size && pattern[(ptrdiff_t)i * step] == here[(ptrdiff_t)i * step])
            i++;
        if (i < size) {
            place += i - cut->at + 1;
            known = 0;
            continue;
        }
        i = cut->at;
        while (i > known &&
               pattern[(ptrdiff_t)(i - 1) * step] == here[(ptrdiff_t)(i - 1) * step])
            i--;
        if (i <= known)
            return place;
        place += cut->period;
        known = cut->periodic ? size - cut->period : 0;
    }
    return places;
}

/* ---- Searching --------------------------------------------------------- */

/* What candidates may cost before the two-way algorithm goes on, in units of what it
 * takes to step over half a byte: at first, and for one of them. */
enum { CREDIT = 8192, CANDIDATE = 16, BYTES_COMPARED = 8 };

/* How many bytes of the pattern stand there. Takes from the credit what it costs. */
static inline size_t
agreeing(bytes at, bytes pattern, size_t size, ptrdiff_t *credit)
{
    enum { AT_ONCE = 32 };
    size_t count = 0;

    while (size - count >= AT_ONCE &&
           memcmp(at + count, pattern + count, AT_ONCE) == 0)
        count += AT_ONCE;
    while (count < size && at[count] == pattern[count])
        count++;
    *credit -= (ptrdiff_t)(CANDIDATE + count / BYTES_COMPARED);
    return count;
}

/* Places that it does then. */
enum { TURN = 65536 };

const void *
safemmap__search_forward(const void *text, size_t size, const void *pattern,
                         size_t pattern_size)
{
    bytes from = text;
    struct cut cut = {0, 0, false};
    ptrdiff_t credit = CREDIT;

    if (pattern_size <= 1 || size < pattern_size)
        return size < pattern_size ? NULL
               : pattern_size == 0 ? text
                                   : memchr(text, *(bytes)pattern, size);
    bytes end = from + (size - pattern_size) + 1;
    /* (The first place needs this byte. A page further there could be a fault.) */
    bytes sample = from + pattern_size - 1;
    const size_t on_page =
        page_of((uintptr_t)sample) + safemmap__page_size - (uintptr_t)sample;
    struct safemmap__filter filter =
        filter_for(sample, end - from > LONG_TEXT ? least(SAMPLE, on_page) : 0,
                   pattern, pattern_size);

    const bool is_long = pattern_size >= LONG_PATTERN;
    const struct alphabet alphabet = alphabet_of(pattern, is_long ? pattern_size : 0);

    while (from < end) {
        if (is_long && !alphabet.has[from[pattern_size - 1]]) {
            from += least(pattern_size, (size_t)(end - from));
            continue;
        }
        uintptr_t page = page_of((uintptr_t)from + pattern_size - 1);
        bytes to = (bytes)(page + safemmap__page_size - pattern_size + 1);
        bytes at;
        size_t agree;

        if (to > end)
            to = end;
        at = safemmap__first_candidate(from, to, &filter);
        if (at == NULL) {
            credit += 2 * (to - from);
            next_page(&filter, pattern);
            from = to;
            continue;
        }
        credit += 2 * (at - from);
        agree = agreeing(at, pattern, pattern_size, &credit);
        if (agree == pattern_size)
            return at;
        learn(&filter, pattern, agree);
        from = at + 1;
        if (credit < 0) {
            size_t places = least((size_t)(end - from), TURN + 4 * pattern_size),
                   place;

            if (cut.period == 0)
                cut = cut_in_two(pattern, pattern_size, 1);
            place = two_way(from, places, pattern, pattern_size, 1, &cut);
            if (place < places)
                return from + place;
            from += places;
            credit = CREDIT;
        }
    }
    return NULL;
}

const void *
safemmap__search_backward(const void *text, size_t size, const void *pattern,
                          size_t pattern_size)
{
    bytes start = text;
    struct cut cut = {0, 0, false};
    ptrdiff_t credit = CREDIT;

    if (pattern_size <= 1 || size < pattern_size)
        return size < pattern_size ? NULL
               : pattern_size == 0
                   ? start + size
                   : safemmap__os_memrchr(text, *(bytes)pattern, size);
    bytes to = start + (size - pattern_size) + 1;
    const size_t on_page = (uintptr_t)to - page_of((uintptr_t)to - 1);
    const size_t sample = to - start > LONG_TEXT ? least(SAMPLE, on_page) : 0;
    struct safemmap__filter filter =
        filter_for(to - sample, sample, pattern, pattern_size);

    const bool is_long = pattern_size >= LONG_PATTERN;
    const struct alphabet alphabet = alphabet_of(pattern, is_long ? pattern_size : 0);

    while (to > start) {
        if (is_long && !alphabet.has[to[-1]]) {
            to -= least(pattern_size, (size_t)(to - start));
            continue;
        }
        bytes from = (bytes)page_of((uintptr_t)to - 1);
        bytes at;
        size_t agree;

        if (from < start)
            from = start;
        at = safemmap__last_candidate(from, to, &filter);
        if (at == NULL) {
            credit += 2 * (to - from);
            next_page(&filter, pattern);
            to = from;
            continue;
        }
        credit += 2 * (to - at);
        agree = agreeing(at, pattern, pattern_size, &credit);
        if (agree == pattern_size)
            return at;
        learn(&filter, pattern, agree);
        to = at;
        if (credit < 0) {
            size_t places = least((size_t)(to - start), TURN + 4 * pattern_size),
                   place;
            bytes pattern_end = (bytes)pattern + pattern_size - 1;

            if (cut.period == 0)
                cut = cut_in_two(pattern_end, pattern_size, -1);
            place = two_way(to + pattern_size - 2, places, pattern_end, pattern_size,
                            -1, &cut);
            if (place < places)
                return to - 1 - place;
            to -= places;
            credit = CREDIT;
        }
    }
    return NULL;
}
