/* Runs only outside the signal: where a pattern occurs first, or last.
 *
 * Two bytes of the pattern, as rare as a sample of the text lets expect, are looked
 * for at many places at once; where both stand the rest is compared. Where too many
 * places have both (the peer picks the text) the two-way algorithm goes on for a
 * while, which takes linear time whatever the text: M. Crochemore and D. Perrin,
 * "Two-way string-matching", Journal of the ACM 38(3), 1991.
 *
 * A page is touched only when there is no match on those before it.
 */
#include "internal.h"
#include "raw.h"

#include <limits.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef const unsigned char *bytes;

static size_t
least(size_t left, size_t right)
{
    return left < right ? left : right;
}

/* ---- Candidates -------------------------------------------------------- */

/* Bytes that a match has, so far from its start; the rarest is the first. */
enum { FILTERED = 3 };
struct filter {
    size_t at[FILTERED];
    unsigned char byte[FILTERED];
};

static inline bool
passes(bytes at, const struct filter *filter)
{
    for (int i = 0; i < FILTERED; i++)
        if (at[filter->at[i]] != filter->byte[i])
            return false;
    return true;
}

/* The first place from `from` to below `to`, or the last, that has them; or NULL. */
typedef bytes scan(bytes from, bytes to, const struct filter *filter);

static bytes
first_by_memchr(bytes from, bytes to, const struct filter *filter)
{
    while (from < to) {
        bytes at = memchr(from + filter->at[0], filter->byte[0], (size_t)(to - from));

        if (at == NULL)
            return NULL;
        from = at - filter->at[0];
        if (passes(from, filter))
            return from;
        from++;
    }
    return NULL;
}

static bytes
last_by_memchr(bytes from, bytes to, const struct filter *filter)
{
    while (from < to) {
        bytes at =
            memrchr(from + filter->at[0], filter->byte[0], (size_t)(to - from));

        if (at == NULL)
            return NULL;
        to = at - filter->at[0];
        if (passes(to, filter))
            return to;
    }
    return NULL;
}

#if defined(__x86_64__)

enum { VECTOR = 32, BLOCK = 4 * VECTOR };

struct vectors {
    __m256i byte[FILTERED];
};

__attribute__((target("avx2"))) static inline struct vectors
vectors_of(const struct filter *filter)
{
    struct vectors vectors;

    for (int i = 0; i < FILTERED; i++)
        vectors.byte[i] = _mm256_set1_epi8((char)filter->byte[i]);
    return vectors;
}

/* All ones for each of the 32 places from `from` on that passes. */
__attribute__((target("avx2"))) static inline __m256i
matches(bytes from, const struct filter *filter, const struct vectors *vectors)
{
    __m256i all = _mm256_set1_epi8(-1);

    for (int i = 0; i < FILTERED; i++) {
        const void *bytes_there = from + filter->at[i];

        all = _mm256_and_si256(all, _mm256_cmpeq_epi8(_mm256_loadu_si256(bytes_there),
                                                      vectors->byte[i]));
    }
    return all;
}

/* The same as bits. */
__attribute__((target("avx2"))) static inline unsigned
places(bytes from, const struct filter *filter, const struct vectors *vectors)
{
    return (unsigned)_mm256_movemask_epi8(matches(from, filter, vectors));
}

__attribute__((target("avx2"))) static inline bool
any_place(bytes from, const struct filter *filter, const struct vectors *vectors)
{
    __m256i any = _mm256_setzero_si256();

    for (int i = 0; i < BLOCK; i += VECTOR)
        any = _mm256_or_si256(any, matches(from + i, filter, vectors));
    return !_mm256_testz_si256(any, any);
}

__attribute__((target("avx2"))) static bytes
first_by_avx2(bytes from, bytes to, const struct filter *filter)
{
    const struct vectors vectors = vectors_of(filter);
    unsigned found;

    if (to - from < VECTOR)
        return first_by_memchr(from, to, filter);
    while (to - from >= BLOCK && !any_place(from, filter, &vectors))
        from += BLOCK;
    for (; to - from >= VECTOR; from += VECTOR)
        if ((found = places(from, filter, &vectors)) != 0)
            return from + __builtin_ctz(found);
    if (from == to)
        return NULL;
    /* The last ones, once more together with some of those before. */
    found = places(to - VECTOR, filter, &vectors);
    return found != 0 ? to - VECTOR + __builtin_ctz(found) : NULL;
}

__attribute__((target("avx2"))) static bytes
last_by_avx2(bytes from, bytes to, const struct filter *filter)
{
    const struct vectors vectors = vectors_of(filter);
    unsigned found;

    if (to - from < VECTOR)
        return last_by_memchr(from, to, filter);
    while (to - from >= BLOCK && !any_place(to - BLOCK, filter, &vectors))
        to -= BLOCK;
    for (; to - from >= VECTOR; to -= VECTOR)
        if ((found = places(to - VECTOR, filter, &vectors)) != 0)
            return to - 1 - __builtin_clz(found);
    if (from == to)
        return NULL;
    found = places(from, filter, &vectors);
    return found != 0 ? from + VECTOR - 1 - __builtin_clz(found) : NULL;
}

#endif

bool safemmap__search_by_vectors;

#if defined(__x86_64__)
__attribute__((constructor)) static void
look_for_avx2(void)
{
    __builtin_cpu_init();
    safemmap__search_by_vectors = __builtin_cpu_supports("avx2");
}
#define CHOOSE(by_vectors, by_memchr) \
    (safemmap__search_by_vectors ? (by_vectors) : (by_memchr))
#else
#define CHOOSE(by_vectors, by_memchr) (by_memchr)
#endif

/* ---- The filter -------------------------------------------------------- */

/* Bytes of a pattern that tell most candidates from a match. */
enum { PREFIX = 16 };
/* Bytes at one end of a long text that are counted, and what is a long text. */
enum { SAMPLE = 512, LONG_TEXT = 4096 };

/* The first ones for equal counts: they are the most likely to be there already. */
static struct filter
filter_for(bytes sample, size_t sample_size, bytes pattern, size_t pattern_size)
{
    const size_t looked_at = least(pattern_size, sample_size > 0 ? SAMPLE : PREFIX);
    unsigned short count[256] = {0};
    struct filter filter;

    for (size_t i = 0; i < sample_size; i++)
        count[sample[i]]++;
    for (int n = 0; n < FILTERED; n++) {
        size_t best = 0;
        int best_cost = INT_MAX;

        for (size_t i = 0; i < looked_at; i++) {
            int cost = count[pattern[i]];

            /* One that is in it already tells least. */
            for (int known = 0; known < n; known++)
                cost += filter.at[known] == i              ? 4 * SAMPLE
                        : filter.byte[known] == pattern[i] ? SAMPLE / 4
                                                           : 0;
            if (cost < best_cost) {
                best = i;
                best_cost = cost;
            }
        }
        filter.at[n] = best;
        filter.byte[n] = pattern[best];
    }
    return filter;
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
/* Takes from the credit what it costs. */
static inline bool
is_match(bytes at, bytes pattern, size_t size, ptrdiff_t *credit)
{
    *credit -= CANDIDATE;
    if (memcmp(at, pattern, least(size, PREFIX)) != 0)
        return false;
    *credit -= (ptrdiff_t)(size / BYTES_COMPARED);
    return memcmp(at, pattern, size) == 0;
}

/* Places that it does then. */
enum { TURN = 65536 };

const void *
safemmap__search_forward(const void *text, size_t size, const void *pattern,
                         size_t pattern_size)
{
    bytes from = text, end;
    scan *first = CHOOSE(first_by_avx2, first_by_memchr);
    struct cut cut = {0, 0, false};
    ptrdiff_t credit = CREDIT;

    if (pattern_size <= 1 || size < pattern_size)
        return size < pattern_size ? NULL
               : pattern_size == 0 ? text
                                   : memchr(text, *(bytes)pattern, size);
    /* (A sample that reaches to the next page could meet a fault too early.) */
    const struct filter filter = filter_for(
        text,
        size > LONG_TEXT ? least(SAMPLE, page_of((uintptr_t)text) +
                                             safemmap__page_size - (uintptr_t)text)
                         : 0,
        pattern, pattern_size);

    const bool is_long = pattern_size >= LONG_PATTERN;
    const struct alphabet alphabet = alphabet_of(pattern, is_long ? pattern_size : 0);

    end = from + (size - pattern_size) + 1;
    while (from < end) {
        if (is_long && !alphabet.has[from[pattern_size - 1]]) {
            from += least(pattern_size, (size_t)(end - from));
            continue;
        }
        uintptr_t page = page_of((uintptr_t)from + pattern_size - 1);
        bytes to = (bytes)(page + safemmap__page_size - pattern_size + 1);
        bytes at;

        if (to > end)
            to = end;
        if (is_long && (size_t)(to - from) > pattern_size)
            to = from + pattern_size;
        at = first(from, to, &filter);
        if (at == NULL) {
            credit += 2 * (to - from);
            from = to;
            continue;
        }
        credit += 2 * (at - from);
        if (is_match(at, pattern, pattern_size, &credit))
            return at;
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
    bytes start = text, to;
    scan *last = CHOOSE(last_by_avx2, last_by_memchr);
    struct cut cut = {0, 0, false};
    ptrdiff_t credit = CREDIT;
    uintptr_t last_byte = (uintptr_t)text + size - 1;

    if (pattern_size <= 1 || size < pattern_size)
        return size < pattern_size ? NULL
               : pattern_size == 0 ? start + size
                                   : memrchr(text, *(bytes)pattern, size);
    const size_t on_last_page = last_byte - page_of(last_byte) + 1;
    const size_t sample = size > LONG_TEXT ? least(SAMPLE, on_last_page) : 0;
    const struct filter filter =
        filter_for(start + size - sample, sample, pattern, pattern_size);

    const bool is_long = pattern_size >= LONG_PATTERN;
    const struct alphabet alphabet = alphabet_of(pattern, is_long ? pattern_size : 0);

    to = start + (size - pattern_size) + 1;
    while (to > start) {
        if (is_long && !alphabet.has[to[-1]]) {
            to -= least(pattern_size, (size_t)(to - start));
            continue;
        }
        bytes from = (bytes)page_of((uintptr_t)to - 1);
        bytes at;

        if (from < start)
            from = start;
        if (is_long && (size_t)(to - from) > pattern_size)
            from = to - pattern_size;
        at = last(from, to, &filter);
        if (at == NULL) {
            credit += 2 * (to - from);
            to = from;
            continue;
        }
        credit += 2 * (to - at);
        if (is_match(at, pattern, pattern_size, &credit))
            return at;
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
