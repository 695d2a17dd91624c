/* Runs outside the signal, most of it under a guard: candidates for a match, by
 * vectors where the processor has AVX2.
 */
#include "candidates.h"
#include "../os/os.h"

#include <immintrin.h>

#define SAFEMMAP__VECTOR_TARGET __attribute__((target("avx2")))
enum { VECTOR = 32, BLOCK = 4 * VECTOR };
typedef unsigned places_mask;

struct vectors {
    __m256i byte[SAFEMMAP__FILTERED];
};

SAFEMMAP__VECTOR_TARGET static inline struct vectors
vectors_of(const struct safemmap__filter *filter)
{
    struct vectors vectors;

    for (int i = 0; i < SAFEMMAP__FILTERED; i++)
        vectors.byte[i] = _mm256_set1_epi8((char)filter->byte[i]);
    return vectors;
}

/* All ones for each of the 32 places from `from` on that has the first `count`. */
SAFEMMAP__VECTOR_TARGET static inline __m256i
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
SAFEMMAP__VECTOR_TARGET static inline places_mask
places(bytes from, const struct safemmap__filter *filter,
       const struct vectors *vectors)
{
    return (places_mask)_mm256_movemask_epi8(
        matches(from, filter, vectors, SAFEMMAP__FILTERED));
}

SAFEMMAP__VECTOR_TARGET static inline bool
any_quick(bytes from, const struct safemmap__filter *filter,
          const struct vectors *vectors)
{
    __m256i any = _mm256_setzero_si256();

    for (int i = 0; i < BLOCK; i += VECTOR)
        any =
            _mm256_or_si256(any, matches(from + i, filter, vectors, SAFEMMAP__QUICK));
    return !_mm256_testz_si256(any, any);
}

static inline int
first_place(places_mask places)
{
    return __builtin_ctz(places);
}

static inline int
last_place(places_mask places)
{
    return VECTOR - 1 - __builtin_clz(places);
}

#include "blocks.h"

bool safemmap__search_by_vectors;

SAFEMMAP__CONSTRUCTOR static void
ask_for_avx2(void)
{
    __builtin_cpu_init();
    safemmap__search_by_vectors = __builtin_cpu_supports("avx2");
}
