/* The registry and its look-up, which no handler needs to be in: against an
 * array that has one entry a page. The addresses are never touched. */
#include "harness.h"
#include "internal.h"

#define LIVE_MOST 60000u
#define UNIVERSE ((size_t)1 << 18) /* pages */
#define BASE ((uintptr_t)1 << 40)

/* The sum of the addresses of the regions that hold the page. */
static uintptr_t owners[UNIVERSE];
static struct safemmap_region *live[LIVE_MOST];
static size_t live_count;

/* xorshift: the same run every time. */
struct random {
    uint64_t state;
};

static size_t
below(struct random *random, size_t limit)
{
    random->state ^= random->state << 13;
    random->state ^= random->state >> 7;
    random->state ^= random->state << 17;
    return (size_t)(random->state >> 16) % limit;
}

static struct safemmap_region *
region_new(size_t first, size_t pages)
{
    struct safemmap_region *region = calloc(1, sizeof(*region));

    CHECK(region != NULL);
    region->start = BASE + first * PAGE;
    region->end = region->start + pages * PAGE;
    region->page_size = PAGE;
    region->fd = -1;
    return region;
}

static void
add_to_sum(struct safemmap_region *region, void *sum)
{
    *(uintptr_t *)sum += (uintptr_t)region;
}

static uintptr_t
look_up_range(uintptr_t start, uintptr_t end)
{
    unsigned epoch = safemmap__reader_enter();
    uintptr_t sum = 0;

    safemmap__regions_visit(start, end, add_to_sum, &sum);
    safemmap__reader_leave(epoch);
    return sum;
}

static uintptr_t
look_up(uintptr_t address)
{
    return look_up_range(address, address + 1);
}

static void
check_page(size_t page)
{
    uintptr_t address = BASE + page * PAGE;

    note.at[1] = (long)page;
    CHECK_EQ(look_up(address), owners[page]);
    CHECK_EQ(look_up(address + PAGE - 1), owners[page]);
}

static void
count_in(const struct safemmap_region *region, uintptr_t value)
{
    for (uintptr_t at = region->start; at < region->end; at += PAGE)
        owners[(at - BASE) / PAGE] += value;
}

static void
add_one(size_t first, size_t pages)
{
    struct safemmap_region *region = region_new(first, pages);

    CHECK_EQ(safemmap_region_add(region), 0);
    count_in(region, (uintptr_t)region);
    live[live_count++] = region;
}

static void
remove_one(size_t index)
{
    struct safemmap_region *region = live[index];

    live[index] = live[--live_count];
    safemmap_region_remove(region);
    count_in(region, -(uintptr_t)region);
    free(region);
}

static void
check_around(size_t page)
{
    for (size_t i = page < 3 ? 0 : page - 3; i < page + 12 && i < UNIVERSE; i++)
        check_page(i);
}

/* Each once, however many of the pages it holds. */
static void
check_range(size_t page, size_t pages)
{
    uintptr_t start = BASE + page * PAGE, end = start + pages * PAGE, sum = 0;

    for (size_t i = 0; i < live_count; i++)
        if (live[i]->start < end && live[i]->end > start)
            sum += (uintptr_t)live[i];
    CHECK_EQ(look_up_range(start, end), sum);
}

/* A small universe has full neighbourhoods, a large one long directories. */
static void
random_changes_in(size_t universe, size_t most, size_t longest, size_t changes)
{
    struct random random = {88172645463325252u + universe};

    for (size_t i = 0; i < changes; i++) {
        size_t pages = 1 + below(&random, below(&random, 50) == 0 ? longest : 8);
        size_t page = below(&random, universe - pages);

        note = NOTE("change", (long)i);
        /* It grows, it shrinks. */
        if (below(&random, 100) < (i / (2 * most) % 2 == 0 ? 80u : 20u)) {
            if (live_count < most)
                add_one(page, pages);
        } else if (live_count > 0) {
            size_t index = below(&random, live_count);

            page = (live[index]->start - BASE) / PAGE;
            remove_one(index);
        }
        check_around(page);
        check_page(below(&random, universe));
        if (i % 64 == 0)
            check_range(page, pages);
    }
    for (size_t i = 0; i < universe; i++)
        check_page(i);
    while (live_count > 0)
        remove_one(below(&random, live_count));
    for (size_t i = 0; i < universe; i += 7)
        check_page(i);
}

static void
random_changes(void)
{
    CHECK_EQ(look_up(BASE), 0);
    random_changes_in(64, 40, 60, (size_t)SCALED(20000));
    random_changes_in(3000, 2000, 2900, (size_t)SCALED(50000));
    random_changes_in(UNIVERSE, 20000, 3000, (size_t)SCALED(100000));
}

/* More with one start than a leaf holds, in no order. */
static void
duplicates(void)
{
    struct random random = {1234567};

    for (size_t i = 0; i < 3000; i++) {
        add_one(100, 1 + below(&random, 20));
        add_one(90 + below(&random, 20), 1 + below(&random, 20));
    }
    for (size_t i = 80; i < 140; i++)
        check_page(i);
    while (live_count > 0) {
        remove_one(below(&random, live_count));
        check_page(100 + live_count % 20);
    }
}

/* Wall to wall, in no order, and gone again. */
static void
sixty_thousand(void)
{
    static size_t order[LIVE_MOST];
    const size_t count = BRIEF ? LIVE_MOST / 4 : LIVE_MOST;
    struct random random = {362436069};

    for (size_t i = 0; i < count; i++) {
        size_t other = below(&random, i + 1);

        order[i] = order[other];
        order[other] = i;
    }
    for (size_t i = 0; i < count; i++)
        add_one(order[i] * 4, 1 + (order[i] % 5 == 0 ? 2 : 3));
    for (size_t i = 0; i < count * 4; i++)
        check_page(i);
    while (live_count > 0) {
        size_t page = (live[live_count / 2]->start - BASE) / PAGE;

        remove_one(live_count / 2);
        check_page(page);
    }
    for (size_t i = 0; i < count * 4; i += 3)
        check_page(i);
}

/* ---- Readers and writers at once --------------------------------------- */

#define WRITERS 2u
#define SLOTS 600u
#define SLOT_PAGES 8u

static bool stopping;

/* Even slots are the one's, odd ones the other's, so that they share leaves. */
static void *
write_slots(void *argument)
{
    const size_t parity = *(const size_t *)argument;
    struct safemmap_region *mine[SLOTS] = {NULL};
    struct random random = {521288629 + parity};

    for (int i = 0; i < SCALED(60000); i++) {
        size_t index = below(&random, SLOTS);
        size_t first = (2 * index + parity) * SLOT_PAGES;

        if (mine[index] == NULL) {
            size_t pages = 1 + below(&random, SLOT_PAGES);

            mine[index] = region_new(first, pages);
            CHECK_EQ(safemmap_region_add(mine[index]), 0);
            CHECK_EQ(look_up(BASE + first * PAGE), (uintptr_t)mine[index]);
        } else {
            safemmap_region_remove(mine[index]);
            CHECK_EQ(look_up(BASE + first * PAGE), 0);
            /* No reader has it: the sanitizers see to that. */
            memset(mine[index], 0xff, sizeof(*mine[index]));
            free(mine[index]);
            mine[index] = NULL;
        }
    }
    for (size_t i = 0; i < SLOTS; i++) {
        safemmap_region_remove(mine[i]);
        free(mine[i]);
    }
    return NULL;
}

struct look {
    uintptr_t address;
    size_t found;
};

static void
check_found(struct safemmap_region *region, void *context)
{
    struct look *look = context;

    CHECK(region->start <= look->address && look->address < region->end);
    CHECK_EQ(region->start % (SLOT_PAGES * PAGE), 0);
    look->found++;
}

static void *
read_slots(void *argument)
{
    struct random random = {*(const size_t *)argument + 5};
    struct look look = {0, 0};

    /* The last page is that of the one which stays, so that this ends. */
    while (!__atomic_load_n(&stopping, __ATOMIC_RELAXED) || look.found == 0) {
        look.address = BASE + below(&random, 2 * SLOTS * SLOT_PAGES + 1) * PAGE;
        unsigned epoch = safemmap__reader_enter();

        safemmap__regions_visit(look.address, look.address + 1, check_found, &look);
        safemmap__reader_leave(epoch);
    }
    return NULL;
}

static void
readers_and_writers(void)
{
    static const size_t seeds[WRITERS] = {0, 1};
    /* One that nobody takes out is always found. */
    struct safemmap_region *fixed = region_new(2 * SLOTS * SLOT_PAGES, 1);
    pthread_t writer[WRITERS], reader[2];

    CHECK_EQ(safemmap_region_add(fixed), 0);
    for (size_t i = 0; i < WRITERS; i++) {
        CHECK_EQ(pthread_create(&reader[i], NULL, read_slots, (void *)&seeds[i]), 0);
        CHECK_EQ(pthread_create(&writer[i], NULL, write_slots, (void *)&seeds[i]), 0);
    }
    for (int i = 0; i < SCALED(200000); i++)
        CHECK_EQ(look_up(fixed->start), (uintptr_t)fixed);
    for (size_t i = 0; i < WRITERS; i++)
        CHECK_EQ(pthread_join(writer[i], NULL), 0);
    __atomic_store_n(&stopping, true, __ATOMIC_RELAXED);
    for (size_t i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(reader[i], NULL), 0);
    safemmap_region_remove(fixed);
    free(fixed);
}

/* ---- Removal waits ----------------------------------------------------- */

static bool removed;

static void *
remove_it(void *region)
{
    safemmap_region_remove(region);
    __atomic_store_n(&removed, true, __ATOMIC_SEQ_CST);
    return NULL;
}

/* A reader that was there before is waited for; those that come later are not. */
static void
removal_waits_for_readers(void)
{
    for (int round = 0; round < 4; round++) {
        struct safemmap_region *region = region_new(0, 4);
        pthread_t thread;

        CHECK_EQ(safemmap_region_add(region), 0);
        /* Readers are counted by the parity of the changes: try both. */
        add_one(16 + (size_t)round, 1);
        __atomic_store_n(&removed, false, __ATOMIC_SEQ_CST);

        unsigned epoch = safemmap__reader_enter();
        CHECK_EQ(look_up(region->start), (uintptr_t)region);
        CHECK_EQ(pthread_create(&thread, NULL, remove_it, region), 0);
        usleep(30000);
        CHECK(!__atomic_load_n(&removed, __ATOMIC_SEQ_CST));
        unsigned later = safemmap__reader_enter();
        safemmap__reader_leave(epoch);
        /* There is always one inside. (The first may have come too early.) */
        for (int i = 0; i < 20000 && !__atomic_load_n(&removed, __ATOMIC_SEQ_CST);
             i++) {
            unsigned next = safemmap__reader_enter();

            safemmap__reader_leave(later);
            later = next;
            usleep(1000);
        }
        CHECK(__atomic_load_n(&removed, __ATOMIC_SEQ_CST));
        safemmap__reader_leave(later);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        free(region);
    }
}

/* ---- Two threads remove one region -------------------------------------- */

static pthread_barrier_t both_are_there;

static void *
remove_at_once(void *region)
{
    pthread_barrier_wait(&both_are_there);
    CHECK_EQ(safemmap_region_remove(region), 0);
    return NULL;
}

static void
removed_by_two_threads_at_once(void)
{
    CHECK_EQ(pthread_barrier_init(&both_are_there, NULL, 2), 0);
    for (int round = 0; round < SCALED(2000); round++) {
        struct safemmap_region *region = region_new(0, 4);
        pthread_t thread[2];

        CHECK_EQ(safemmap_region_add(region), 0);
        for (size_t i = 0; i < 2; i++)
            CHECK_EQ(pthread_create(&thread[i], NULL, remove_at_once, region), 0);
        for (size_t i = 0; i < 2; i++)
            CHECK_EQ(pthread_join(thread[i], NULL), 0);
        CHECK_EQ(look_up(region->start), 0);
        free(region);
    }
    CHECK_EQ(pthread_barrier_destroy(&both_are_there), 0);
}

TEST_MAIN(TEST(random_changes), TEST(duplicates), TEST(sixty_thousand),
          TEST(readers_and_writers), TEST(removal_waits_for_readers),
          TEST(removed_by_two_threads_at_once))
