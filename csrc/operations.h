/* What the kinds of operations have in common: the bytes that they touch, and the
 * accesses themselves, without any protection. */
#ifndef SAFEMMAP_OPERATIONS_H
#define SAFEMMAP_OPERATIONS_H

#include "internal.h"

#include <stddef.h>
#include <string.h>

/* ---- What is touched --------------------------------------------------- */

/* Bytes `stride` apart, in ascending order, that an operation touches. */
struct span {
    uintptr_t start, end;
    size_t stride;
    bool written;
};

static inline struct span
contiguous(const void *start, size_t size, bool written)
{
    return (struct span){(uintptr_t)start, (uintptr_t)start + size, 1, written};
}

static inline struct span
strided(const void *start, ptrdiff_t step, size_t count, bool written)
{
    size_t stride = step < 0 ? -(size_t)step : (size_t)step;
    uintptr_t first = (uintptr_t)start, reach = stride * (count - 1);

    if (step < 0)
        first -= reach;
    return (struct span){first, first + reach + 1, stride, written};
}

static inline uintptr_t
page_of(uintptr_t address)
{
    return address & ~(safemmap__page_size - 1);
}

/* The first byte of the span at or after `from`, which may lie past its end. */
static inline uintptr_t
first_from(const struct span *span, uintptr_t from)
{
    if (from <= span->start)
        return span->start;
    return span->start +
           (from - span->start + span->stride - 1) / span->stride * span->stride;
}

/* ---- How ---------------------------------------------------------------- */

/* Whether copying forwards would overwrite what is still to be read. */
static inline bool
begins_within(const void *target, const void *source, size_t size)
{
    return (uintptr_t)target - (uintptr_t)source < size;
}

/* memmove(3), in pieces: what is 192 MiB and more glibc copies in a way that can take
 * twice as long, see bench/README.md. */
static inline void
safemmap__move(void *target, const void *source, size_t size)
{
    enum { PIECE = 16 << 20 };
    char *to = target;
    const char *from = source;

    if (!begins_within(target, source, size))
        for (; size > PIECE; size -= PIECE) {
            memmove(to, from, PIECE);
            to += PIECE;
            from += PIECE;
        }
    memmove(to, from, size);
}

static inline void
safemmap__gather(unsigned char *target, const unsigned char *source, ptrdiff_t step,
                 size_t count)
{
#pragma GCC unroll 8
    for (size_t i = 0; i < count; i++)
        target[i] = source[(ptrdiff_t)i * step];
}

static inline void
safemmap__scatter(unsigned char *target, ptrdiff_t step, const unsigned char *source,
                  size_t count)
{
#pragma GCC unroll 8
    for (size_t i = 0; i < count; i++)
        target[(ptrdiff_t)i * step] = source[i];
}

static inline ptrdiff_t
safemmap__index(const void *found, const void *text)
{
    return found == NULL ? -1
                         : (const unsigned char *)found - (const unsigned char *)text;
}

#endif
