/* What a process has used up: time, memory, mappings. */
#ifndef MEASURES_H
#define MEASURES_H

#include "harness.h"

static inline double
seconds(clockid_t clock)
{
    struct timespec time;

    CHECK_CALL(clock_gettime(clock, &time));
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* In bytes. */
static inline size_t
resident(void)
{
    unsigned long size, pages;
    FILE *statm = fopen("/proc/self/statm", "re");

    CHECK(statm != NULL && fscanf(statm, "%lu %lu", &size, &pages) == 2);
    fclose(statm);
    return pages * PAGE;
}

static inline unsigned
mappings(void)
{
    char line[512];
    unsigned count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");

    CHECK(maps != NULL);
    while (fgets(line, sizeof(line), maps) != NULL)
        count++;
    fclose(maps);
    return count;
}

static inline unsigned
map_limit(void)
{
    unsigned limit;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "re");

    CHECK(file != NULL && fscanf(file, "%u", &limit) == 1);
    fclose(file);
    return limit;
}

/* Not one more is to be had, be it in the place of another. */
static inline void
fill_table(void)
{
    char *pages = mmap(NULL, 2 * map_limit() * PAGE, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int protection = PROT_READ;

    CHECK(pages != MAP_FAILED);
    for (size_t i = 0; mprotect(pages + i * PAGE, PAGE, PROT_READ) == 0; i += 2)
        ;
    while (mmap(NULL, PAGE, protection, MAP_SHARED | MAP_ANONYMOUS, -1, 0) !=
           MAP_FAILED)
        protection ^= PROT_READ;
}

#endif
