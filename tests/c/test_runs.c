/* Sets of pages, compared with one byte for each. */
#include "harness.h"

#include "runs.h"

enum { PAGES = 200 };

static bool held[PAGES];
static struct safemmap__runs *runs;

static size_t
runs_of_held(void)
{
    size_t count = 0;

    for (size_t page = 0; page < PAGES; page++)
        count += held[page] && (page == 0 || !held[page - 1]);
    return count;
}

static void
check_all(void)
{
    CHECK_EQ(runs->count, runs_of_held());
    for (size_t page = 0; page < PAGES; page++) {
        size_t first = page, last = page, from, to;

        CHECK_EQ(safemmap__runs_hold(runs, page), held[page]);
        while (first > 0 && held[first - 1] == held[page])
            first--;
        while (last < PAGES && held[last] == held[page])
            last++;
        CHECK_EQ(safemmap__runs_around(runs, page, PAGES, &from, &to), held[page]);
        CHECK_EQ(from, first);
        CHECK_EQ(to, last);
        CHECK_EQ(safemmap__runs_next(runs, held[page], page, PAGES), page);
        CHECK_EQ(safemmap__runs_next(runs, !held[page], page, PAGES), last);
        CHECK_EQ(safemmap__runs_next(runs, !held[page], page, page + 1), page + 1);
    }
}

static unsigned random_state = 1;

static size_t
below(size_t limit)
{
    random_state = random_state * 1103515245u + 12345;
    return (random_state >> 8) % limit;
}

/* Every change that there is room for is made as a whole, every other not at all. */
static void
change_at_random(size_t most)
{
    memset(held, 0, sizeof(held));
    for (int i = 0; i < SCALED(20000); i++) {
        size_t first = below(PAGES), last = first + 1 + below(i % 3 == 0 ? 30 : 3);
        bool before[PAGES], add = below(2) == 0, done;

        if (last > PAGES)
            last = PAGES;
        memcpy(before, held, sizeof(held));
        for (size_t page = first; page < last; page++)
            held[page] = add;
        done = add ? safemmap__runs_add(runs, first, last)
                   : safemmap__runs_drop(runs, first, last);
        CHECK_EQ(done, runs_of_held() <= most);
        if (!done)
            memcpy(held, before, sizeof(held));
        if (i % 16 == 0)
            check_all();
    }
}

static void
random_changes(void)
{
    CHECK((runs = safemmap__runs_new(PAGES)) != NULL);
    change_at_random(runs->room);
    free(runs);
}

static void
random_changes_in_little_room(void)
{
    CHECK((runs = safemmap__runs_new(10)) != NULL);
    CHECK_EQ(runs->room, 6);
    change_at_random(runs->room);
    free(runs);
}

/* What a set takes does not grow with what it is of. */
static void
bounded(void)
{
    const size_t pages = (size_t)1 << 50;
    size_t added = 0;

    CHECK((runs = safemmap__runs_new(pages)) != NULL);
    CHECK_EQ(runs->room, SAFEMMAP__RUNS);
    while (safemmap__runs_add(runs, added * 1000, added * 1000 + 1))
        added++;
    CHECK_EQ(added, SAFEMMAP__RUNS);
    CHECK(safemmap__runs_add(runs, 1, pages));
    CHECK_EQ(runs->count, 1);
    free(runs);
}

TEST_MAIN(TEST(random_changes), TEST(random_changes_in_little_room), TEST(bounded))
