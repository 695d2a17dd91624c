/* Runs inside the signal and outside: sets of pages, as sorted runs of them.
 *
 * A peer chooses how many pages there are, and which of them go: neither the memory
 * of a set nor the time of a question grows with their number.
 */
#include "runs.h"

#include <stdlib.h>
#include <string.h>

struct safemmap__runs *
safemmap__runs_new(size_t pages)
{
    /* There is a page between any two. */
    size_t room = pages / 2 + 1;
    struct safemmap__runs *runs;

    if (room > SAFEMMAP__RUNS)
        room = SAFEMMAP__RUNS;
    runs = malloc(sizeof(*runs) + room * sizeof(runs->run[0]));
    if (runs != NULL)
        *runs = (struct safemmap__runs){.count = 0, .room = room};
    return runs;
}

/* The first run that ends behind `page`, or their number. */
static size_t
run_behind(const struct safemmap__runs *runs, size_t page)
{
    size_t low = 0, high = runs->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (runs->run[middle].last > page)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

bool
safemmap__runs_hold(const struct safemmap__runs *runs, size_t page)
{
    size_t at = run_behind(runs, page);

    return at < runs->count && runs->run[at].first <= page;
}

size_t
safemmap__runs_next(const struct safemmap__runs *runs, bool held, size_t page,
                    size_t last)
{
    size_t at = run_behind(runs, page);
    bool inside = at < runs->count && runs->run[at].first <= page;

    if (inside != held) {
        page = last;
        if (at < runs->count)
            page = inside ? runs->run[at].last : runs->run[at].first;
    }
    return page < last ? page : last;
}

bool
safemmap__runs_around(const struct safemmap__runs *runs, size_t page, size_t pages,
                      size_t *ret_first, size_t *ret_last)
{
    size_t at = run_behind(runs, page);

    if (at < runs->count && runs->run[at].first <= page) {
        *ret_first = runs->run[at].first;
        *ret_last = runs->run[at].last;
        return true;
    }
    *ret_first = at > 0 ? runs->run[at - 1].last : 0;
    *ret_last = at < runs->count ? runs->run[at].first : pages;
    return false;
}

/* Replaces `count` runs from the one at `at` on by `new` others, of which there are
 * two at most. */
static bool
splice(struct safemmap__runs *runs, size_t at, size_t count,
       const struct safemmap__run *others, size_t new)
{
    if (runs->count - count + new > runs->room)
        return false;
    memmove(runs->run + at + new, runs->run + at + count,
            (runs->count - at - count) * sizeof(runs->run[0]));
    memcpy(runs->run + at, others, new * sizeof(runs->run[0]));
    runs->count = runs->count - count + new;
    return true;
}

bool
safemmap__runs_add(struct safemmap__runs *runs, size_t first, size_t last)
{
    struct safemmap__run run = {first, last};
    size_t from = first > 0 ? run_behind(runs, first - 1) : 0, to = from;

    /* Those that touch it become one with it. */
    for (; to < runs->count && runs->run[to].first <= last; to++) {
        if (runs->run[to].first < run.first)
            run.first = runs->run[to].first;
        if (runs->run[to].last > run.last)
            run.last = runs->run[to].last;
    }
    return splice(runs, from, to - from, &run, 1);
}

bool
safemmap__runs_drop(struct safemmap__runs *runs, size_t first, size_t last)
{
    struct safemmap__run rest[2];
    size_t from = run_behind(runs, first), to = from, count = 0;

    while (to < runs->count && runs->run[to].first < last)
        to++;
    if (to == from)
        return true;
    if (runs->run[from].first < first)
        rest[count++] = (struct safemmap__run){runs->run[from].first, first};
    if (runs->run[to - 1].last > last)
        rest[count++] = (struct safemmap__run){last, runs->run[to - 1].last};
    return splice(runs, from, to - from, rest, count);
}
