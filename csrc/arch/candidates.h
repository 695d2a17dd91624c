/* Candidates for a match by one byte, which the C library searches for. */
#ifndef SAFEMMAP_CANDIDATES_H
#define SAFEMMAP_CANDIDATES_H

#include "arch.h"
#include "../os/os.h"

#include <string.h>

typedef const unsigned char *bytes;

static inline bool
passes(bytes at, const struct safemmap__filter *filter)
{
    for (int i = 0; i < SAFEMMAP__FILTERED; i++)
        if (at[filter->at[i]] != filter->byte[i])
            return false;
    return true;
}

static inline bytes
first_by_memchr(bytes from, bytes to, struct safemmap__filter *filter)
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

static inline bytes
last_by_memchr(bytes from, bytes to, struct safemmap__filter *filter)
{
    while (from < to) {
        bytes at = safemmap__os_memrchr(from + filter->at[0], filter->byte[0],
                                        (size_t)(to - from));

        if (at == NULL)
            return NULL;
        to = at - filter->at[0];
        if (passes(to, filter))
            return to;
    }
    return NULL;
}

#endif
