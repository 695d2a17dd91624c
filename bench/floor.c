/* What the hardware and the kernel ask, without Python: the floor under every
 * figure here. Prints one "name nanoseconds" a line, the median of many rounds.
 */
#include "memory.h"
#include "safemmap.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 101, SIZE = 64, PAGE = 4096 };

static int file;          /* that was truncated */
static char *gone;        /* a page of it */
static char source[SIZE]; /* hot, so that the guard shows */
static char target[SIZE];
static sigjmp_buf bare;

static char *
map_gone(void *at, int flags)
{
    char *page = mmap(at, PAGE, PROT_READ, MAP_SHARED | flags, file, 0);

    if (page == MAP_FAILED)
        abort();
    return page;
}

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
handle_with(void (*handler)(int signo, siginfo_t *info, void *context),
            struct sigaction *ret_before)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    if (sigaction(SIGBUS, &action, ret_before) < 0)
        abort();
}

/* The least that answers a fault of other code's: a zeroed page in its place. */
static void
handler_that_maps(int signo, siginfo_t *info, void *context)
{
    uintptr_t page = (uintptr_t)info->si_addr / PAGE * PAGE;

    (void)signo;
    (void)context;
    if (mmap((void *)page, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
             -1, 0) == MAP_FAILED)
        abort();
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
nanoseconds_of(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static double
now(void)
{
    return nanoseconds_of(CLOCK_MONOTONIC);
}

static void
measure_zeros(const char *name)
{
    double round[ROUNDS];

    for (int i = 0; i < ROUNDS; i++) {
        double start;

        map_gone(gone, MAP_FIXED);
        start = now();
        *(volatile char *)gone;
        round[i] = now() - start;
    }
    map_gone(gone, MAP_FIXED);
    qsort(round, ROUNDS, sizeof(round[0]), by_value);
    printf("%s %.2f\n", name, round[ROUNDS / 2]);
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

enum { MOST = 60000 };

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

/* ---- Several threads at once -------------------------------------------- */

enum { THREADS = 4, TIMES = 100 };

/* Over a page of the thread's own, whose file has no byte. The removal puts the lost
 * page back, so that it faults the next time, too. */
static void
view_fault(char *page)
{
    struct safemmap_region region = {.start = (uintptr_t)page,
                                     .end = (uintptr_t)page + PAGE,
                                     .page_size = PAGE,
                                     .protection = PROT_READ,
                                     .fd = -1,
                                     .put_back = true};

    if (safemmap_region_add(&region) < 0)
        abort();
    *(volatile char *)page;
    if (safemmap_region_remove(&region) < 0)
        abort();
}

/* Afterwards the thread maps the file again. */
static void
zeros_at(char *page)
{
    *(volatile char *)page;
    map_gone(page, MAP_FIXED);
}

static void
guarded_fault_at(char *page)
{
    struct safemmap_fault fault;
    unsigned char byte;

    if (safemmap_load(page, &byte, &fault) == 0)
        abort();
}

static pthread_barrier_t all_there;
static void (*shared_work)(char *page);

static double
processor_time(void)
{
    return nanoseconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

static void *
run_thread(void *unused)
{
    char *page = map_gone(NULL, 0);

    (void)unused;
    shared_work(page); /* what the first one alone has to do */
    pthread_barrier_wait(&all_there);
    for (int i = 0; i < TIMES; i++)
        shared_work(page);
    pthread_barrier_wait(&all_there);
    munmap(page, PAGE);
    return NULL;
}

/* Prints the time of all, divided by how often all of them have done it: half as much
 * where two processors do twice as much as one. And so much of a processor's. */
static void
measure_threads(const char *name, void (*work)(char *page), unsigned count)
{
    pthread_t threads[THREADS];
    double rounds[ROUNDS], used[ROUNDS], start, before;

    shared_work = work;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_barrier_init(&all_there, NULL, count + 1);
        for (unsigned j = 0; j < count; j++)
            if (pthread_create(&threads[j], NULL, run_thread, NULL) != 0)
                abort();
        pthread_barrier_wait(&all_there);
        start = now();
        before = processor_time();
        pthread_barrier_wait(&all_there);
        rounds[i] = (now() - start) / TIMES / count;
        used[i] = (processor_time() - before) / TIMES / count;
        for (unsigned j = 0; j < count; j++)
            pthread_join(threads[j], NULL);
        pthread_barrier_destroy(&all_there);
    }
    qsort(rounds, ROUNDS, sizeof(rounds[0]), by_value);
    qsort(used, ROUNDS, sizeof(used[0]), by_value);
    printf("%s %.2f\n", name, rounds[ROUNDS / 2]);
    printf("%s-processor %.2f\n", name, used[ROUNDS / 2]);
}

/* ---- Memory of no region ------------------------------------------------- */

enum { MAPPINGS_ROUNDS = 21, MAPPINGS_TIMES = 200 };

static char *unregistered;
static int zeros;
static struct sigaction below;
static volatile double in_handler;

static void
process_fault(void)
{
    map_gone(unregistered, MAP_FIXED);
    *(volatile char *)unregistered;
}

static void
process_no_fault(void)
{
    map_gone(unregistered, MAP_FIXED);
}

/* Of a processor: what other processes take of it is not in it. */
static double
thread_time(void)
{
    return nanoseconds_of(CLOCK_THREAD_CPUTIME_ID);
}

/* Above the library's handler. */
static void
time_handler(int signo, siginfo_t *info, void *context)
{
    double start = thread_time();

    below.sa_sigaction(signo, info, context);
    in_handler += thread_time() - start;
}

/* The least that a handler can do which lets the access go on. */
static void
map_zeros(int signo, siginfo_t *info, void *context)
{
    double start = thread_time();

    (void)signo;
    (void)info;
    (void)context;
    if (mmap(unregistered, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, zeros, 0) ==
        MAP_FAILED)
        abort();
    in_handler += thread_time() - start;
}

/* Neighbours differ, so that the kernel keeps each for itself. */
static char *
map_many(int count)
{
    char *start = mmap(NULL, (size_t)count * PAGE, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    for (int i = 0; start != MAP_FAILED && i < count; i += 2)
        if (mprotect(start + (size_t)i * PAGE, PAGE, PROT_READ) < 0)
            abort();
    return start;
}

static double
time_in_handler(void (*handler)(int signo, siginfo_t *info, void *context), int times)
{
    struct sigaction before;

    handle_with(handler, &before);
    in_handler = 0;
    for (int i = 0; i < times; i++)
        process_fault();
    if (sigaction(SIGBUS, &before, NULL) < 0)
        abort();
    return in_handler / times;
}

/* Among so many mappings, which are there for the round alone: all numbers take
 * turns.
 */
static void
measure_handlers(void)
{
    static const int counts[] = {100, 1000, 20000, 60000};
    enum { COUNTS = sizeof(counts) / sizeof(counts[0]) };
    double least[COUNTS][MAPPINGS_ROUNDS], ours[COUNTS][MAPPINGS_ROUNDS];
    double first[COUNTS][MAPPINGS_ROUNDS];
    char name[] = "/tmp/floor.XXXXXX";
    int named = mkstemp(name);

    if (named < 0)
        abort();
    handle_with(time_handler, &below); /* finds out what ours is */
    if (sigaction(SIGBUS, &below, NULL) < 0)
        abort();
    for (int i = 0; i < MAPPINGS_ROUNDS; i++)
        for (int j = 0; j < COUNTS; j++) {
            char *many = map_many(counts[j]);

            file = memfd_create("of nobody", 0); /* its inode number is new */
            if (file < 0)
                abort();
            first[j][i] = time_in_handler(time_handler, 1);
            close(file);
            file = named;
            ours[j][i] = time_in_handler(time_handler, MAPPINGS_TIMES);
            least[j][i] = time_in_handler(map_zeros, MAPPINGS_TIMES);
            munmap(many, (size_t)counts[j] * PAGE);
        }
    unlink(name);
    for (int j = 0; j < COUNTS; j++) {
        qsort(least[j], MAPPINGS_ROUNDS, sizeof(double), by_value);
        qsort(ours[j], MAPPINGS_ROUNDS, sizeof(double), by_value);
        qsort(first[j], MAPPINGS_ROUNDS, sizeof(double), by_value);
        printf("in-least-handler-of-%d %.2f\n", counts[j],
               least[j][MAPPINGS_ROUNDS / 2]);
        printf("in-handler-of-%d %.2f\n", counts[j], ours[j][MAPPINGS_ROUNDS / 2]);
        printf("in-handler-first-of-%d %.2f\n", counts[j],
               first[j][MAPPINGS_ROUNDS / 2]);
    }
}

int
main(void)
{
    struct sigaction action;
    char *many;

    file = memfd_create("gone", 0);
    if (file < 0)
        return 1;
    gone = map_gone(NULL, 0);

    memset(&action, 0, sizeof(action));
    action.sa_handler = bare_handler;
    action.sa_flags = SA_NODEFER;
    sigaction(SIGBUS, &action, NULL);
    measure("fault+siglongjmp", bare_fault, 500);
    handle_with(handler_that_maps, NULL);
    measure_zeros("fault+zeros");
    measure_threads("zeros-by-1", zeros_at, 1);
    measure_threads("zeros-by-4", zeros_at, THREADS);
    sigaction(SIGBUS, &action, NULL);

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
    for (; live > 10; live--)
        safemmap_region_remove(&regions[live - 1]);
    measure_threads("guarded-by-1", guarded_fault_at, 1);
    measure_threads("guarded-by-4", guarded_fault_at, THREADS);
    measure_threads("register-fault-remove-by-1", view_fault, 1);
    measure_threads("register-fault-remove-by-4", view_fault, THREADS);
    zeros = memfd_create("zeros", 0);
    if (zeros < 0 || ftruncate(zeros, PAGE) < 0 || safemmap_process_enable() < 0)
        return 1;
    unregistered = map_gone(NULL, 0);
    measure("mapped-anew", process_no_fault, 50);
    measure("mapped-anew-and-fault", process_fault, 50);
    many = map_many(MOST);
    measure("mapped-anew-of-60000", process_no_fault, 50);
    measure("mapped-anew-and-fault-of-60000", process_fault, 50);
    munmap(many, MOST * (size_t)PAGE);
    measure_handlers();
    return 0;
}
