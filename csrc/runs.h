/* Sets of pages, which are numbered from 0. Not installed. */
#ifndef SAFEMMAP_RUNS_H
#define SAFEMMAP_RUNS_H

#include <stdbool.h>
#include <stddef.h>

#pragma GCC visibility push(hidden)

struct safemmap__runs {
    size_t count, room;
    /* In order, and with a page between any two. */
    struct safemmap__run {
        size_t first, last; /* the page after the last one */
    } run[];
};

/* A set has room for as many runs as it can ever need, but for no more than these. */
enum { SAFEMMAP__RUNS = 320 };

/* An empty set of some of so many pages, or NULL. Its end is free(3). */
struct safemmap__runs *safemmap__runs_new(size_t pages);

bool safemmap__runs_hold(const struct safemmap__runs *runs, size_t page);
/* The first page in `page` to before `last` that is in the set, or not in it; or
 * `last`. */
size_t safemmap__runs_next(const struct safemmap__runs *runs, bool held, size_t page,
                           size_t last);
/* Whether the set holds the page, and the run of pages around it, of so many in all,
 * for which that is the same. */
bool safemmap__runs_around(const struct safemmap__runs *runs, size_t page,
                           size_t pages, size_t *ret_first, size_t *ret_last);

/* Add and remove pages. False, and nothing is changed: there is no room. */
bool safemmap__runs_add(struct safemmap__runs *runs, size_t first, size_t last);
bool safemmap__runs_drop(struct safemmap__runs *runs, size_t first, size_t last);

#pragma GCC visibility pop

#endif
