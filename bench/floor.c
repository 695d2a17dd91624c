/* What the hardware and the kernel ask, without Python: the floor under every
 * figure here. Prints one "name nanoseconds" a line, the median of many rounds.
 */
#include "memory.h"
#include "safemmap.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 101, SIZE = 64 };

static char *gone;        /* a page of a file that was truncated */
static char source[SIZE]; /* hot, so that the guard shows */
static char target[SIZE];
static sigjmp_buf bare;

static void
bare_handler(int signo)
{
    (void)signo;
    siglongjmp(bare, 1);
}

static void
copy(void)
{
    memcpy(target, source, SIZE);
    __asm__ volatile("" ::: "memory");
}

static void
guarded_copy(void)
{
    struct safemmap_fault fault;

    safemmap_copy(target, source, SIZE, &fault);
}

static void
set_jump(void)
{
    if (sigsetjmp(bare, 0) == 0)
        copy();
}

static void
bare_fault(void)
{
    if (sigsetjmp(bare, 0) == 0)
        *(volatile char *)gone;
}

static void
guarded_fault(void)
{
    struct safemmap_fault fault;
    unsigned char byte;

    safemmap_load(gone, &byte, &fault);
}

static int
by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;

    return (a > b) - (a < b);
}

static double
now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void
measure(const char *name, void (*work)(void), int times)
{
    double round[ROUNDS];

    for (int i = 0; i < ROUNDS; i++) {
        double start = now();

        for (int j = 0; j < times; j++)
            work();
        round[i] = (now() - start) / times;
    }
    qsort(round, ROUNDS, sizeof(round[0]), by_value);
    printf("%s %.2f\n", name, round[ROUNDS / 2]);
}

/* More than any cache holds. */
enum { MUCH = 64 << 20 };
static char *much;

static void
copy_by_one(void)
{
    memory_copy(much, MUCH, 1);
}

static void
copy_by_two(void)
{
    if (memory_copy(much, MUCH, 2) < 0)
        abort();
}

static void
read_by_one(void)
{
    memory_read(much, MUCH, 1);
}

static void
read_by_two(void)
{
    if (memory_read(much, MUCH, 2) < 0)
        abort();
}

enum { PAGE = 4096, MOST = 60000 };

/* The live ones lie a page apart. Nothing is mapped there, or touched. */
static struct safemmap_region regions[MOST];
static int live;

static void
place(struct safemmap_region *region, uintptr_t page)
{
    region->start = ((uintptr_t)1 << 41) + page * PAGE;
    region->end = region->start + PAGE;
    region->page_size = PAGE;
    region->fd = -1;
    if (safemmap_region_add(region) < 0)
        abort();
}

static void
live_regions(int count)
{
    for (; live < count; live++)
        place(&regions[live], 2 * (uintptr_t)live);
}

/* Between two of them, each time somewhere else. */
static void
region_cycle(void)
{
    static struct safemmap_region region;
    static unsigned random = 1;

    random = random * 1103515245u + 12345u;
    place(&region, 2 * ((uintptr_t)(random >> 8) % (unsigned)live) + 1);
    safemmap_region_remove(&region);
}

int
main(void)
{
    struct sigaction action;
    int file = memfd_create("gone", 0);

    if (file < 0)
        return 1;
    gone = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
    if (gone == MAP_FAILED)
        return 1;

    memset(&action, 0, sizeof(action));
    action.sa_handler = bare_handler;
    action.sa_flags = SA_NODEFER;
    sigaction(SIGBUS, &action, NULL);
    measure("fault+siglongjmp", bare_fault, 500);

    if (safemmap_install() < 0)
        return 1;
    measure("fault+guard", guarded_fault, 500);
    measure("copy64", copy, 20000);
    measure("sigsetjmp+copy64", set_jump, 20000);
    measure("guarded-copy64", guarded_copy, 20000);
    much = aligned_alloc(PAGE, MUCH);
    if (much == NULL)
        return 1;
    memset(much, 1, MUCH);
    measure("copy-64-MiB", copy_by_one, 1);
    measure("copy-twice-by-two-threads", copy_by_two, 1);
    measure("read-64-MiB", read_by_one, 1);
    measure("read-twice-by-two-threads", read_by_two, 1);
    live_regions(10);
    measure("register-10", region_cycle, 500);
    live_regions(60000);
    measure("register-60000", region_cycle, 500);
    return 0;
}
