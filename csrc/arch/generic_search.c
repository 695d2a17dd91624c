/* Runs outside the signal, most of it under a guard: candidates for a match, where
 * there are no vectors.
 */
#include "candidates.h"

bool safemmap__search_by_vectors = false;

const unsigned char *
safemmap__first_candidate(bytes from, bytes to, struct safemmap__filter *filter)
{
    return first_by_memchr(from, to, filter);
}

const unsigned char *
safemmap__last_candidate(bytes from, bytes to, struct safemmap__filter *filter)
{
    return last_by_memchr(from, to, filter);
}
