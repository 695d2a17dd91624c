/* Candidates for a match by vectors, whatever the processor's look like. The file
 * that includes this one has before it: SAFEMMAP__VECTOR_TARGET, the attribute of
 * functions with vectors; VECTOR, the bytes in one, and BLOCK, some of them; struct
 * vectors and vectors_of(), the bytes of a filter; places(), bits for those places in
 * a vector that have all, first_place() and last_place() of these; and any_quick(),
 * whether any place in a block has the quick ones. */
#ifndef SAFEMMAP_BLOCKS_H
#define SAFEMMAP_BLOCKS_H

#include "candidates.h"

SAFEMMAP__VECTOR_TARGET static bytes
first_by_vectors(bytes from, bytes to, struct safemmap__filter *filter)
{
    const struct vectors vectors = vectors_of(filter);
    places_mask found;

    if (to - from < VECTOR)
        return first_by_memchr(from, to, filter);
    for (; to - from >= BLOCK; from += BLOCK)
        if (any_quick(from, filter, &vectors)) {
            for (int i = 0; i < BLOCK; i += VECTOR)
                if ((found = places(from + i, filter, &vectors)) != 0)
                    return from + i + first_place(found);
            filter->in_vain++;
        }
    for (; to - from >= VECTOR; from += VECTOR)
        if ((found = places(from, filter, &vectors)) != 0)
            return from + first_place(found);
    if (from == to)
        return NULL;
    /* The last ones, once more together with some of those before. */
    found = places(to - VECTOR, filter, &vectors);
    return found != 0 ? to - VECTOR + first_place(found) : NULL;
}

SAFEMMAP__VECTOR_TARGET static bytes
last_by_vectors(bytes from, bytes to, struct safemmap__filter *filter)
{
    const struct vectors vectors = vectors_of(filter);
    places_mask found;

    if (to - from < VECTOR)
        return last_by_memchr(from, to, filter);
    for (; to - from >= BLOCK; to -= BLOCK)
        if (any_quick(to - BLOCK, filter, &vectors)) {
            for (int i = VECTOR; i <= BLOCK; i += VECTOR)
                if ((found = places(to - i, filter, &vectors)) != 0)
                    return to - i + last_place(found);
            filter->in_vain++;
        }
    for (; to - from >= VECTOR; to -= VECTOR)
        if ((found = places(to - VECTOR, filter, &vectors)) != 0)
            return to - VECTOR + last_place(found);
    if (from == to)
        return NULL;
    found = places(from, filter, &vectors);
    return found != 0 ? from + last_place(found) : NULL;
}

const unsigned char *
safemmap__first_candidate(bytes from, bytes to, struct safemmap__filter *filter)
{
    return safemmap__search_by_vectors ? first_by_vectors(from, to, filter)
                                       : first_by_memchr(from, to, filter);
}

const unsigned char *
safemmap__last_candidate(bytes from, bytes to, struct safemmap__filter *filter)
{
    return safemmap__search_by_vectors ? last_by_vectors(from, to, filter)
                                       : last_by_memchr(from, to, filter);
}

#endif
