/* Runs outside the signal, most of it under a guard: candidates for a match, by
 * vectors where the processor has AVX2.
 */
#include "candidates.h"

#include <immintrin.h>

enum { VECTOR = 32, BLOCK = 4 * VECTOR };

struct vectors {
    __m256i byte[SAFEMMAP__FILTERED];
};

__attribute__((target("avx2"))) static inline struct vectors
vectors_of(const struct safemmap__filter *filter)
{
    struct vectors vectors;

    for (int i = 0; i < SAFEMMAP__FILTERED; i++)
        vectors.byte[i] = _mm256_set1_epi8((char)filter->byte[i]);
    return vectors;
}

/* All ones for each of the 32 places from `from` on that has the first `count`. */
__attribute__((target("avx2"))) static inline __m256i
matches(bytes from, const struct safemmap__filter *filter,
        const struct vectors *vectors, int count)
{
    __m256i all = _mm256_set1_epi8(-1);

    for (int i = 0; i < count; i++) {
        const void *bytes_there = from + filter->at[i];

        all = _mm256_and_si256(all, _mm256_cmpeq_epi8(_mm256_loadu_si256(bytes_there),
                                                      vectors->byte[i]));
    }
    return all;
}

/* Bits for those that have all. */
__attribute__((target("avx2"))) static inline unsigned
places(bytes from, const struct safemmap__filter *filter,
       const struct vectors *vectors)
{
    return (unsigned)_mm256_movemask_epi8(
        matches(from, filter, vectors, SAFEMMAP__FILTERED));
}

__attribute__((target("avx2"))) static inline bool
any_quick(bytes from, const struct safemmap__filter *filter,
          const struct vectors *vectors)
{
    __m256i any = _mm256_setzero_si256();

    for (int i = 0; i < BLOCK; i += VECTOR)
        any =
            _mm256_or_si256(any, matches(from + i, filter, vectors, SAFEMMAP__QUICK));
    return !_mm256_testz_si256(any, any);
}

__attribute__((target("avx2"))) static bytes
first_by_avx2(bytes from, bytes to, struct safemmap__filter *filter)
{
    const struct vectors vectors = vectors_of(filter);
    unsigned found;

    if (to - from < VECTOR)
        return first_by_memchr(from, to, filter);
    for (; to - from >= BLOCK; from += BLOCK)
        if (any_quick(from, filter, &vectors)) {
            for (int i = 0; i < BLOCK; i += VECTOR)
                if ((found = places(from + i, filter, &vectors)) != 0)
                    return from + i + __builtin_ctz(found);
            filter->in_vain++;
        }
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
last_by_avx2(bytes from, bytes to, struct safemmap__filter *filter)
{
    const struct vectors vectors = vectors_of(filter);
    unsigned found;

    if (to - from < VECTOR)
        return last_by_memchr(from, to, filter);
    for (; to - from >= BLOCK; to -= BLOCK)
        if (any_quick(to - BLOCK, filter, &vectors)) {
            for (int i = VECTOR; i <= BLOCK; i += VECTOR)
                if ((found = places(to - i, filter, &vectors)) != 0)
                    return to - i + VECTOR - 1 - __builtin_clz(found);
            filter->in_vain++;
        }
    for (; to - from >= VECTOR; to -= VECTOR)
        if ((found = places(to - VECTOR, filter, &vectors)) != 0)
            return to - 1 - __builtin_clz(found);
    if (from == to)
        return NULL;
    found = places(from, filter, &vectors);
    return found != 0 ? from + VECTOR - 1 - __builtin_clz(found) : NULL;
}

bool safemmap__search_by_vectors;

__attribute__((constructor)) static void
ask_for_avx2(void)
{
    __builtin_cpu_init();
    safemmap__search_by_vectors = __builtin_cpu_supports("avx2");
}

const unsigned char *
safemmap__first_candidate(bytes from, bytes to, struct safemmap__filter *filter)
{
    return safemmap__search_by_vectors ? first_by_avx2(from, to, filter)
                                       : first_by_memchr(from, to, filter);
}

const unsigned char *
safemmap__last_candidate(bytes from, bytes to, struct safemmap__filter *filter)
{
    return safemmap__search_by_vectors ? last_by_avx2(from, to, filter)
                                       : last_by_memchr(from, to, filter);
}
