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

/* Only some more are to be had. */
static inline void
leave_mappings(unsigned room)
{
    size_t count = (map_limit() - room - mappings()) / 2;
    char *pages = mmap(NULL, 2 * count * PAGE, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    CHECK(pages != MAP_FAILED);
    for (size_t i = 0; i < 2 * count; i += 2)
        CHECK_CALL(mprotect(pages + i * PAGE, PAGE, PROT_READ));
}

/* For a test that fills the table of mappings. */
static inline void
need_a_small_table(void)
{
    if (SANITIZED)
        skip("a sanitizer needs mappings of its own");
    if (map_limit() > 100000)
        skip("vm.max_map_count is too large");
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

/* Nothing was ever stored in it: its pages take no memory. */
static inline struct file
large_file(size_t size)
{
    struct file file = {.pages = size / PAGE};

    CHECK_CALL(file.fd = memfd_create("large", MFD_CLOEXEC));
    CHECK_CALL(ftruncate(file.fd, (off_t)size));
    file.map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0);
    CHECK(file.map != MAP_FAILED);
    return file;
}

/* One instruction, where there is one: both pages must be there for it. */
UNSEEN static void
move_byte(unsigned char *to, const unsigned char *from)
{
#if defined(__x86_64__)
    __asm__ volatile("movsb" : "+D"(to), "+S"(from) : : "memory");
#else
    *(volatile unsigned char *)to = *(const volatile unsigned char *)from;
#endif
}

/* Pages of these files, which are lost, in turn and at random. */
static inline void
touch_anywhere(const struct file *files, size_t count, int times)
{
    unsigned random = 1;

    for (int i = 0; i < times; i++) {
        const struct file *file = &files[(size_t)i % count];
        size_t page;

        random = random * 1103515245u + 12345;
        page = (random >> 1) % file->pages;
        if (i % 16 == 0)
            move_byte(files[(random >> 3) % count].map + page * PAGE,
                      file->map + page * PAGE);
        else
            CHECK_EQ(load(file, page * PAGE), 0);
    }
}

#endif
