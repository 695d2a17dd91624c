/* Many threads that fault at once, each on its own: none gets another's fault,
 * and nothing is used up. */
#include "measures.h"

#include <dirent.h>

#define THREADS 4

static int
open_files(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;

    CHECK(directory != NULL);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

struct worker {
    pthread_t thread;
    pthread_barrier_t *start;
    size_t index;
    int rounds;
};

static void
fault_once(const struct file *file, size_t offset, size_t round)
{
    uintptr_t want = (uintptr_t)file->map + offset;
    unsigned char bytes[300] = {0}, byte = 7;
    struct safemmap_fault fault = {0, 0};
    int order = 7;

    switch (round % 5) {
    case 0:
        CHECK_EQ(safemmap_load(file->map + offset, &byte, &fault), -EFAULT);
        break;
    case 1:
        CHECK_EQ(safemmap_copy(bytes, file->map + offset, sizeof(bytes), &fault),
                 -EFAULT);
        break;
    case 2:
        CHECK_EQ(safemmap_store(file->map + offset, 1, &fault), -EFAULT);
        break;
    case 3:
        CHECK_EQ(safemmap_compare(bytes, file->map + offset, sizeof(bytes), &order,
                                  &fault),
                 -EFAULT);
        break;
    default:
        /* Begins before the edge. */
        CHECK_EQ(safemmap_copy(file->map + PAGE - 40, bytes, sizeof(bytes), &fault),
                 -EFAULT);
        want = (uintptr_t)file->map + PAGE;
    }
    CHECK_EQ(fault.address, want);
    CHECK_EQ(fault.code, BUS_ADRERR);
    CHECK_EQ(byte, 7);
    CHECK_EQ(order, 7);
}

static void *
fault_often(void *argument)
{
    const struct worker *worker = argument;
    struct file file = file_new(2);
    size_t offset = PAGE + 100 + 257 * worker->index;

    file_cut(&file, 1);
    pthread_barrier_wait(worker->start);
    for (int i = 0; i < worker->rounds; i++)
        fault_once(&file, offset, (size_t)i + worker->index);
    file_free(&file);
    return NULL;
}

static void
run(int rounds)
{
    struct worker workers[THREADS];
    pthread_barrier_t start;

    CHECK_EQ(pthread_barrier_init(&start, NULL, THREADS), 0);
    for (size_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){0, &start, i, rounds};
        CHECK_EQ(pthread_create(&workers[i].thread, NULL, fault_often, &workers[i]),
                 0);
    }
    for (size_t i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_join(workers[i].thread, NULL), 0);
    pthread_barrier_destroy(&start);
}

static void
own_faults(void)
{
    struct safemmap_counts counts;
    size_t before;
    int files;

    /* Whatever is allocated once is allocated now. */
    run(100);
    files = open_files();
    before = resident();
    run(SCALED(25000));
    CHECK_EQ(open_files(), files);
    /* A sanitizer keeps what is freed. */
    if (!SANITIZED)
        CHECK(resident() < before + 64 * PAGE);
    safemmap_get_counts(&counts);
    CHECK(counts.recovered >= (uint64_t)THREADS * SCALED(25000));
    CHECK_EQ(counts.forwarded, 0);
    CHECK_EQ(counts.installs, 1);
}

/* Regions that come and go under the handlers of others. */
static void *
overlay_often(void *argument)
{
    const struct worker *worker = argument;
    struct file file = file_new(8);

    file_cut(&file, 1);
    pthread_barrier_wait(worker->start);
    for (int i = 0; i < worker->rounds; i++) {
        void *map =
            mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0);
        struct safemmap_region region = {.start = (uintptr_t)map,
                                         .end = (uintptr_t)map + 8 * PAGE,
                                         .page_size = PAGE,
                                         .protection = PROT_READ | PROT_WRITE,
                                         .fd = i % 2 == 0 ? file.fd : -1};
        size_t offset = PAGE + (size_t)i * 61 % (7 * PAGE);

        CHECK(map != MAP_FAILED);
        CHECK_EQ(safemmap_region_add(&region), 0);
        CHECK_EQ(((volatile unsigned char *)map)[offset], 0);
        CHECK(safemmap_region_poisoned(&region));
        CHECK_EQ(region.fault.address, (uintptr_t)map + offset);
        CHECK_EQ(region.fault.thread, syscall(SYS_gettid));
        CHECK_EQ(*(volatile unsigned char *)map, pattern(0));
        safemmap_region_remove(&region);
        CHECK_CALL(munmap(map, 8 * PAGE));
    }
    file_free(&file);
    return NULL;
}

static void
own_regions(void)
{
    struct worker workers[THREADS];
    pthread_barrier_t start;

    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(pthread_barrier_init(&start, NULL, THREADS), 0);
    for (size_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){0, &start, i, SCALED(5000)};
        CHECK_EQ(pthread_create(&workers[i].thread, NULL,
                                i % 2 == 0 ? overlay_often : fault_often,
                                &workers[i]),
                 0);
    }
    for (size_t i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_join(workers[i].thread, NULL), 0);
    pthread_barrier_destroy(&start);
}

TEST_MAIN(TEST(own_faults), TEST(own_regions))
