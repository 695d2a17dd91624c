/* Runs outside the signal, most of it under a guard: candidates for a match, by
 * vectors.
 */
#include "candidates.h"
#include "../os/os.h"

#include <arm_neon.h>

#define SAFEMMAP__VECTOR_TARGET
enum { VECTOR = 16, BLOCK = 8 * VECTOR };
typedef uint64_t places_mask; /* four bits for each place */

struct vectors {
    uint8x16_t byte[SAFEMMAP__FILTERED];
};

static inline struct vectors
vectors_of(const struct safemmap__filter *filter)
{
    struct vectors vectors;

    for (int i = 0; i < SAFEMMAP__FILTERED; i++)
        vectors.byte[i] = vdupq_n_u8(filter->byte[i]);
    return vectors;
}

/* All ones for each of the 16 places from `from` on that has the first `count`. */
static inline uint8x16_t
matches(bytes from, const struct safemmap__filter *filter,
        const struct vectors *vectors, int count)
{
    uint8x16_t all = vdupq_n_u8(255);

    for (int i = 0; i < count; i++)
        all =
            vandq_u8(all, vceqq_u8(vld1q_u8(from + filter->at[i]), vectors->byte[i]));
    return all;
}

static inline places_mask
mask_of(uint8x16_t places)
{
    uint8x8_t narrow = vshrn_n_u16(vreinterpretq_u16_u8(places), 4);

    return vget_lane_u64(vreinterpret_u64_u8(narrow), 0);
}

static inline places_mask
places(bytes from, const struct safemmap__filter *filter,
       const struct vectors *vectors)
{
    return mask_of(matches(from, filter, vectors, SAFEMMAP__FILTERED));
}

static inline bool
any_quick(bytes from, const struct safemmap__filter *filter,
          const struct vectors *vectors)
{
    uint8x16_t any = vdupq_n_u8(0);

    for (int i = 0; i < BLOCK; i += VECTOR)
        any = vorrq_u8(any, matches(from + i, filter, vectors, SAFEMMAP__QUICK));
    return mask_of(any) != 0;
}

static inline int
first_place(places_mask places)
{
    return __builtin_ctzll(places) / 4;
}

static inline int
last_place(places_mask places)
{
    return VECTOR - 1 - __builtin_clzll(places) / 4;
}

bool safemmap__search_by_vectors = true;

#include "blocks.h"
