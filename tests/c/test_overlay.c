/* Registered regions: faults of code without a guard read zeros, poison the region,
 * and lose no thread's store when pages are replaced. */
#include "harness.h"

#include <linux/futex.h>
#include <stdarg.h>

static uint64_t
overlaid(void)
{
    struct safemmap_counts counts;

    safemmap_get_counts(&counts);
    return counts.overlaid;
}

/* Lines of /proc/self/maps that overlap the file's mapping. */
static int
mappings_in(const struct file *file)
{
    uintptr_t start = (uintptr_t)file->map, end = start + file->pages * PAGE;
    unsigned long from, to;
    char line[512];
    int count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");

    CHECK(maps != NULL);
    while (fgets(line, sizeof(line), maps) != NULL) {
        CHECK_EQ(sscanf(line, "%lx-%lx", &from, &to), 2);
        count += from < end && to > start;
    }
    fclose(maps);
    return count;
}

/* ---- A file that was made shorter -------------------------------------- */

static int64_t
now_ns(void)
{
    struct timespec now;

    CHECK_CALL(clock_gettime(CLOCK_REALTIME, &now));
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void
truncated(void)
{
    struct file file = file_new(512);
    struct safemmap_region region = region_of(&file);
    int64_t before = now_ns();

    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    CHECK_EQ(load(&file, 100 * PAGE + 7), pattern(100 * PAGE + 7));
    CHECK(!safemmap_region_poisoned(&region));
    file_cut(&file, 3);
    CHECK(!safemmap_region_poisoned(&region));

    errno = 4242;
    CHECK_EQ(load(&file, 100 * PAGE + 7), 0);
    CHECK_EQ(errno, 4242);
    CHECK(safemmap_region_poisoned(&region));
    CHECK_EQ(region.fault.address, (uintptr_t)file.map + 100 * PAGE + 7);
    CHECK_EQ(region.fault.code, BUS_ADRERR);
    CHECK_EQ(region.fault.thread, syscall(SYS_gettid));
    CHECK(region.fault.time_ns >= before && region.fault.time_ns <= now_ns());

    /* All that is past the end went at once, before and after the fault; the
     * rest is the file's. */
    CHECK_EQ(overlaid(), 1);
    CHECK_EQ(mappings_in(&file), 2);
    for (size_t page = 0; page < file.pages; page++)
        for (size_t i = 0; i < PAGE; i += 511)
            CHECK_EQ(load(&file, page * PAGE + i),
                     page < 3 ? pattern(page * PAGE + i) : 0);
    CHECK_EQ(overlaid(), 1);
    CHECK_EQ(region.fault.address, (uintptr_t)file.map + 100 * PAGE + 7);

    /* Stores stay, and stay here. */
    store(&file, 50 * PAGE, 9);
    store(&file, 2 * PAGE, 8);
    CHECK_EQ(load(&file, 50 * PAGE), 9);
    file_cut(&file, 512);
    unsigned char byte = 77;
    CHECK_EQ(pread(file.fd, &byte, 1, (off_t)(50 * PAGE)), 1);
    CHECK_EQ(byte, 0);
    CHECK_EQ(pread(file.fd, &byte, 1, (off_t)(2 * PAGE)), 1);
    CHECK_EQ(byte, 8);
    CHECK_EQ(load(&file, 50 * PAGE), 9);
    safemmap_region_remove(&region);
}

/* Page by page from the front: a peer that shrinks and shrinks. */
static void
truncated_again_and_again(void)
{
    struct file file = file_new(300);
    struct safemmap_region region = region_of(&file);

    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    for (size_t pages = file.pages; pages-- > 0;) {
        file_cut(&file, pages);
        CHECK_EQ(load(&file, pages * PAGE + pages), 0);
        store(&file, pages * PAGE, (unsigned char)pages);
        CHECK_EQ(mappings_in(&file), pages == 0 ? 1 : 2);
    }
    CHECK_EQ(overlaid(), 300);
    for (size_t page = 0; page < file.pages; page++)
        CHECK_EQ(load(&file, page * PAGE), (unsigned char)page);
    safemmap_region_remove(&region);
}

/* A region that begins inside the file, and one whose file nobody knows. */
static void
offset_and_unknown_file(void)
{
    struct file file = file_new(8), other = file_new(8);
    struct safemmap_region region = region_of(&file), unknown = region_of(&other);

    region.start += 2 * PAGE;
    region.offset = (off_t)(2 * PAGE);
    unknown.fd = -1;
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    CHECK_EQ(safemmap_region_add(&unknown), 0);
    CHECK_CALL(ftruncate(file.fd, (off_t)(3 * PAGE + 1)));
    CHECK_EQ(load(&file, 6 * PAGE), 0);
    CHECK_EQ(load(&file, 4 * PAGE), 0);
    CHECK_EQ(overlaid(), 1);
    CHECK_EQ(load(&file, 3 * PAGE), pattern(3 * PAGE));
    CHECK_EQ(load(&file, 3 * PAGE + 1), 0);

    file_cut(&other, 2);
    CHECK_EQ(load(&other, 4 * PAGE), 0);
    CHECK_EQ(load(&other, 7 * PAGE), 0);
    CHECK_EQ(overlaid(), 3);
    CHECK_EQ(load(&other, PAGE), pattern(PAGE));
    safemmap_region_remove(&region);
    safemmap_region_remove(&unknown);
}

/* A guard comes first: the region is not poisoned. */
static void
guard_in_region(void)
{
    struct file file = file_gone();
    struct safemmap_region region = region_of(&file);

    CHECK_EQ(safemmap_region_add(&region), 0);
    check_recovers(&file);
    CHECK(!safemmap_region_poisoned(&region));
    CHECK_EQ(load(&file, 0), 0);
    CHECK(safemmap_region_poisoned(&region));
    safemmap_region_remove(&region);
}

/* ---- A hole that nothing can fill -------------------------------------- */

static void
hole_in_full_filesystem(void)
{
    int other;
    struct file file = file_on_full_filesystem("d-d-d-d-", &other);
    struct safemmap_region region = region_of(&file);
    char block[1];

    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    store(&file, 3 * PAGE + 5, 7);
    CHECK_EQ(load(&file, 3 * PAGE + 5), 7);
    CHECK_EQ(overlaid(), 1);
    CHECK_EQ(load(&file, PAGE), 0);
    CHECK_EQ(overlaid(), 2);
    for (size_t i = 0; i < 8; i += 2)
        CHECK_EQ(load(&file, i * PAGE), 'd');
    /* With room again, the holes not touched so far are the file's. */
    CHECK_CALL(ftruncate(other, 0));
    store(&file, 5 * PAGE, 6);
    CHECK_EQ(pread(file.fd, block, 1, (off_t)(5 * PAGE)), 1);
    CHECK_EQ(block[0], 6);
    CHECK_EQ(pread(file.fd, block, 1, (off_t)(3 * PAGE + 5)), 1);
    CHECK_EQ(block[0], 0);
    CHECK_EQ(overlaid(), 2);
    safemmap_region_remove(&region);
}

/* ---- Threads on one page ----------------------------------------------- */

#define WRITERS 3u

static struct file shared;
static int waiting, round_now;

/* Tighter than a pthread_barrier: all go within some 100 ns. */
static void
start_together(int round)
{
    if (__atomic_add_fetch(&waiting, 1, __ATOMIC_ACQ_REL) == (int)WRITERS) {
        __atomic_store_n(&waiting, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&round_now, round + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int i = 0; __atomic_load_n(&round_now, __ATOMIC_ACQUIRE) <= round; i++)
        if (i > 1000)
            sched_yield();
}

static void *
write_own_bytes(void *argument)
{
    const size_t own = *(const size_t *)argument;
    static struct safemmap_region region;

    for (int round = 0; round < 3 * SCALED(2000); round += 3) {
        if (own == 0) {
            shared = file_gone();
            region = region_of(&shared);
            CHECK_EQ(safemmap_region_add(&region), 0);
        }
        start_together(round);
        for (size_t i = own; i < 64 * WRITERS; i += WRITERS)
            store(&shared, i, (unsigned char)(1 + i));
        start_together(round + 1);
        for (size_t i = 0; i < 64 * WRITERS; i++)
            CHECK_EQ(load(&shared, i), 1 + i);
        start_together(round + 2);
        if (own == 0) {
            safemmap_region_remove(&region);
            file_free(&shared);
        }
    }
    return NULL;
}

static void
no_store_is_lost(void)
{
    static const size_t own[WRITERS] = {0, 1, 2};
    pthread_t thread[WRITERS];

    CHECK_EQ(safemmap_install(), 0);
    for (size_t i = 0; i < WRITERS; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, write_own_bytes, (void *)&own[i]),
                 0);
    for (size_t i = 0; i < WRITERS; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    CHECK_EQ(overlaid(), SCALED(2000));
}

/* ---- Adding and removing ----------------------------------------------- */

static void
add_errors(void)
{
    struct file file = file_new(8);
    struct safemmap_region region = region_of(&file), other;

    region.start += 2 * PAGE;
    region.end -= 2 * PAGE;
    CHECK_EQ(safemmap_region_add(&region), 0);
    for (int i = 0; i < 7; i++) {
        other = region_of(&file);
        note = NOTE("kind", i);
        if (i == 0)
            other.start++;
        else if (i == 1)
            other.end--;
        else if (i == 2)
            other.end = other.start;
        else if (i == 3)
            other.start = other.end + PAGE;
        else
            other.page_size = i == 4 ? 0 : i == 5 ? 1 : 3 * PAGE;
        CHECK_EQ(safemmap_region_add(&other), -EINVAL);
        safemmap_region_remove(&other);
    }
    /* Neighbours are no overlap. */
    struct safemmap_region left = region_of(&file), right = region_of(&file);
    left.end = region.start;
    right.start = region.end;
    CHECK_EQ(safemmap_region_add(&right), 0);
    CHECK_EQ(safemmap_region_add(&left), 0);

    /* A failed add did no harm. */
    CHECK_EQ(safemmap_install(), 0);
    file_cut(&file, 0);
    CHECK_EQ(load(&file, 3 * PAGE), 0);
    CHECK(safemmap_region_poisoned(&region));
    CHECK(!safemmap_region_poisoned(&left));
    CHECK(!safemmap_region_poisoned(&right));
    safemmap_region_remove(&left);
    safemmap_region_remove(&region);
    safemmap_region_remove(&right);
}

/* ---- Regions that overlap ---------------------------------------------- */

static struct safemmap_region
part_of(const struct file *file, size_t first, size_t last)
{
    struct safemmap_region region = region_of(file);

    region.end = region.start + last * PAGE;
    region.start += first * PAGE;
    region.offset = (off_t)(first * PAGE);
    return region;
}

/* Those that have a part in what is replaced are poisoned, whoever's access it was.
 */
static void
overlapping(void)
{
    struct file file = file_new(64);
    static const size_t parts[][2] = {{0, 64}, {0, 64},  {10, 20}, {19, 21}, {39, 41},
                                      {0, 40}, {40, 64}, {63, 64}, {30, 50}};
    static const bool lost[] = {true,  true, false, false, true,
                                false, true, true,  true};
    struct safemmap_region region[COUNT_OF(parts)], late;

    CHECK_EQ(safemmap_install(), 0);
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        region[i] = part_of(&file, parts[i][0], parts[i][1]);
        CHECK_EQ(safemmap_region_add(&region[i]), 0);
    }
    file_cut(&file, 40);
    CHECK_EQ(load(&file, 45 * PAGE + 3), 0);
    CHECK_EQ(overlaid(), 1);
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        uintptr_t address = (uintptr_t)file.map + 45 * PAGE + 3;

        note = NOTE("region", (long)i);
        CHECK_EQ(safemmap_region_poisoned(&region[i]), lost[i]);
        if (!lost[i])
            continue;
        /* Where its own first page went, if the access was not to it. */
        if (address < region[i].start)
            address = region[i].start;
        if (address >= region[i].end)
            address = (uintptr_t)file.map + 40 * PAGE;
        CHECK_EQ(region[i].fault.address, address);
    }

    /* One that comes later would take zeros for data, until those who know of them
     * are gone, and the file is mapped again. */
    late = part_of(&file, 39, 41);
    CHECK_EQ(safemmap_region_add(&late), -EFAULT);
    late = part_of(&file, 0, 40);
    CHECK_EQ(safemmap_region_add(&late), 0);
    safemmap_region_remove(&late);
    store(&file, 50 * PAGE, 5);
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        safemmap_region_remove(&region[i]);
    CHECK_EQ(load(&file, 50 * PAGE), 5);
}

/* What one region has lost is not replaced again for the next. */
static void
no_store_is_lost_to_an_overlapping_region(void)
{
    struct file file = file_new(8);
    struct safemmap_region whole = part_of(&file, 0, 8), part = part_of(&file, 2, 6);

    CHECK_EQ(safemmap_install(), 0);
    whole.fd = part.fd = -1;
    CHECK_EQ(safemmap_region_add(&whole), 0);
    CHECK_EQ(safemmap_region_add(&part), 0);
    file_cut(&file, 0);
    for (size_t page = 2; page < 6; page += 2)
        store(&file, page * PAGE, 9);
    safemmap_region_remove(&whole);
    for (size_t page = 2; page < 6; page++)
        CHECK_EQ(load(&file, page * PAGE), page % 2 == 0 ? 9 : 0);
    safemmap_region_remove(&part);
}

/* ---- Memory that belongs to somebody else ------------------------------ */

static void
check_pattern(const struct file *file)
{
    for (size_t i = 0; i < file->pages * PAGE; i += 101)
        CHECK_EQ(load(file, i), pattern(i));
}

static void
regrow(const struct file *file)
{
    file_cut(file, file->pages);
    for (size_t i = 0; i < file->pages * PAGE; i++) {
        unsigned char byte = pattern(i);
        CHECK_EQ(pwrite(file->fd, &byte, 1, (off_t)i), 1);
    }
}

/* It is the file's again once the region is gone: what was stored into zeros too. */
static void
put_back(void)
{
    struct file file = file_new(16);

    CHECK_EQ(safemmap_install(), 0);
    for (int known = 0; known < 2; known++)
        for (size_t held = 0; held < 16; held += 3) {
            struct safemmap_region region = part_of(&file, 1, 15);

            note = NOTE("pages held", (long)held);
            region.put_back = true;
            if (!known)
                region.fd = -1;
            CHECK_EQ(safemmap_region_add(&region), 0);
            file_cut(&file, held);
            for (size_t page = 14; page > held; page -= 2)
                store(&file, page * PAGE + 9, 77);
            CHECK_EQ(safemmap_region_poisoned(&region), held < 14);
            safemmap_region_remove(&region);
            CHECK_EQ(mappings_in(&file), 1);
            regrow(&file);
            check_pattern(&file);
        }
}

/* Kernels before 6.17 do not move what lies in several mappings: this one does not
 * move so much at once. */
static size_t move_at_most = SIZE_MAX;

/* While it is set, a thread that moves pages stays there. */
static bool held, somebody_moves;

static void
wait_while(const bool *flag, bool value)
{
    while (__atomic_load_n(flag, __ATOMIC_SEQ_CST) == value)
        sched_yield();
}

void *
mremap(void *from, size_t old_size, size_t new_size, int flags, ...)
{
    va_list rest;
    void *to;

    va_start(rest, flags);
    to = va_arg(rest, void *);
    va_end(rest);
    __atomic_store_n(&somebody_moves, true, __ATOMIC_SEQ_CST);
    wait_while(&held, true);
    if (old_size > move_at_most) {
        errno = EFAULT;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mremap, from, old_size, new_size, flags, to);
}

/* Where pages wait to be put back. */
static bool
is_private(const struct safemmap_region *region)
{
    struct safemmap_files files;

    CHECK_EQ(safemmap_files_behind(region->shadow,
                                   region->shadow + region->shadow_size, &files),
             0);
    return files.page_size == 0;
}

static void
address_space_is_used_again(void)
{
    struct file file = file_new(8);
    struct safemmap_region first = region_of(&file), second = first, large = first;

    first.put_back = second.put_back = large.put_back = true;
    first.end -= 2 * PAGE;
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&large), 0);
    CHECK_EQ(safemmap_region_remove(&large), 0);
    CHECK_EQ(safemmap_region_add(&first), 0);
    CHECK_EQ(first.shadow, large.shadow);
    CHECK_EQ(first.shadow_size, 8 * PAGE);
    CHECK_EQ(safemmap_region_add(&second), 0);
    CHECK(second.shadow != first.shadow);
    CHECK_EQ(safemmap_region_remove(&second), 0);
    CHECK_EQ(safemmap_region_remove(&first), 0);

    /* Only as long as none of the file's pages has been there. */
    CHECK_EQ(safemmap_region_add(&second), 0);
    file_cut(&file, 0);
    CHECK_EQ(load(&file, 5 * PAGE), 0);
    CHECK(!is_private(&second));
    CHECK_EQ(safemmap_region_remove(&second), 0);
    CHECK(is_private(&second));
    CHECK_EQ(safemmap_region_add(&first), 0);
    CHECK(is_private(&first));
    CHECK_EQ(load(&file, 3 * PAGE), 0);
    CHECK_EQ(safemmap_region_remove(&first), 0);
}

static void
put_back_in_pieces(void)
{
    struct file file = file_new(600);

    CHECK_EQ(safemmap_install(), 0);
    for (size_t most = 1; most <= 64; most *= 4) {
        struct safemmap_region region = part_of(&file, 0, 600);

        region.put_back = true;
        region.fd = -1;
        CHECK_EQ(safemmap_region_add(&region), 0);
        move_at_most = most * PAGE;
        file_cut(&file, 301);
        /* More than are replaced one by one: the last takes all there is. */
        for (size_t page = 301; page < 600; page++)
            CHECK_EQ(load(&file, page * PAGE), 0);
        CHECK_EQ(load(&file, 5 * PAGE), 0);
        safemmap_region_remove(&region);
        CHECK_EQ(load(&file, 5 * PAGE), pattern(5 * PAGE));
        regrow(&file);
        check_pattern(&file);
    }
}

/* What was copied on write is there again, too. */
static void
put_back_private(void)
{
    struct file file = file_new(8);
    struct safemmap_region region;

    CHECK_EQ(safemmap_install(), 0);
    CHECK(mmap(file.map, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
               file.fd, 0) == (void *)file.map);
    region = part_of(&file, 0, 8);
    region.put_back = true;
    region.fd = -1;
    store(&file, 3, 99);
    CHECK_EQ(safemmap_region_add(&region), 0);
    file_cut(&file, 2);
    CHECK_EQ(load(&file, 6 * PAGE), 0);
    CHECK_EQ(load(&file, 3), 99);
    safemmap_region_remove(&region);
    CHECK_EQ(load(&file, 3), 99);
    regrow(&file);
    CHECK_EQ(load(&file, 6 * PAGE), pattern(6 * PAGE));
}

/* Under the eyes of another region, which keeps to what is there. */
static void
put_back_while_overlapping(void)
{
    struct file file = file_new(16);
    struct safemmap_region outer = part_of(&file, 0, 16),
                           inner = part_of(&file, 4, 16);

    CHECK_EQ(safemmap_install(), 0);
    outer.put_back = inner.put_back = true;
    outer.fd = inner.fd = -1;
    CHECK_EQ(safemmap_region_add(&inner), 0);
    CHECK_EQ(safemmap_region_add(&outer), 0);
    file_cut(&file, 0);
    for (size_t page = 3; page < 16; page += 3)
        CHECK_EQ(load(&file, page * PAGE), 0);
    safemmap_region_remove(&outer);
    CHECK(safemmap_region_poisoned(&inner));
    /* It faults once more, and is answered by the one that is left. */
    CHECK_EQ(load(&file, 6 * PAGE), 0);
    CHECK_EQ(load(&file, 15 * PAGE), 0);
    safemmap_region_remove(&inner);
    CHECK_EQ(mappings_in(&file), 1);
    regrow(&file);
    check_pattern(&file);
}

static void *
load_first(void *file)
{
    CHECK_EQ(load(file, 0), 0);
    return NULL;
}

static void *
remove_region(void *region)
{
    safemmap_region_remove(region);
    return NULL;
}

/* safemmap__visitor */
static void
look_for(struct safemmap_region *region, void *context)
{
    if (region == *(struct safemmap_region **)context)
        *(struct safemmap_region **)context = NULL;
}

static bool
is_registered(struct safemmap_region *region)
{
    struct safemmap__reading reading = safemmap__start_reading();

    safemmap__regions_visit(region->start, region->end, look_for, &region);
    safemmap__stop_reading(&reading);
    return region == NULL;
}

/* Threads have found the region, and wait for one that has pages of another; then it
 * is taken from the registry, and then they go on. */
static void
removed_under_waiting_faults(void)
{
    struct file file = file_new(4), other = file_new(1);
    struct safemmap_region region = region_of(&file), rest = region_of(&file),
                           first = region_of(&other);
    pthread_t holding, faulting[2], removing;

    CHECK_EQ(safemmap_install(), 0);
    region.put_back = rest.put_back = first.put_back = true;
    rest.fd = -1; /* so that the region is the one to act */
    CHECK_EQ(safemmap_region_add(&region), 0);
    CHECK_EQ(safemmap_region_add(&rest), 0);
    CHECK_EQ(safemmap_region_add(&first), 0);
    file_cut(&file, 0);
    file_cut(&other, 0);
    __atomic_store_n(&held, true, __ATOMIC_SEQ_CST);
    CHECK_EQ(pthread_create(&holding, NULL, load_first, &other), 0);
    wait_while(&somebody_moves, false);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&faulting[i], NULL, load_first, &file), 0);
    usleep(20000); /* into the handler: nothing shows that they are there */
    CHECK_EQ(pthread_create(&removing, NULL, remove_region, &region), 0);
    while (is_registered(&region))
        sched_yield();
    __atomic_store_n(&held, false, __ATOMIC_SEQ_CST);
    pthread_join(holding, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(faulting[i], NULL);
    pthread_join(removing, NULL);

    CHECK(safemmap_region_poisoned(&region));
    CHECK(safemmap_region_poisoned(&rest));
    safemmap_region_remove(&rest);
    safemmap_region_remove(&first);
    regrow(&file);
    check_pattern(&file);
}

static void
fault_after_put_back(const void *unused)
{
    struct file file = file_gone();
    struct safemmap_region region = region_of(&file);

    (void)unused;
    region.put_back = true;
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    CHECK_EQ(load(&file, 0), 0);
    safemmap_region_remove(&region);
    (void)load(&file, 0);
}

static void
nothing_is_left_behind(void)
{
    CHECK_EQ(end_in_child(fault_after_put_back, NULL), SIGBUS);
}

/* A region that is registered is left as it was. */
static void
add_twice(void)
{
    struct file file = file_gone();
    struct safemmap_region region = region_of(&file);

    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    CHECK_EQ(safemmap_region_add(&region), -EEXIST);
    CHECK_EQ(load(&file, 0), 0);
    CHECK_EQ(safemmap_region_add(&region), -EEXIST);
    CHECK(safemmap_region_poisoned(&region));
    safemmap_region_remove(&region);
    CHECK_EQ(safemmap_region_add(&region), 0);
    safemmap_region_remove(&region);
}

static void
remove_anything(void)
{
    struct file file = file_gone();
    struct safemmap_region region = region_of(&file), zeroed = {0};

    safemmap_region_remove(NULL);
    safemmap_region_remove(&zeroed);
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    CHECK_EQ(load(&file, 0), 0);
    safemmap_region_remove(&region);
    CHECK(safemmap_region_poisoned(&region));
    safemmap_region_remove(&region);

    /* Added again it begins afresh. */
    CHECK(mmap(file.map, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, file.fd, 0) !=
          MAP_FAILED);
    CHECK_EQ(safemmap_region_add(&region), 0);
    CHECK(!safemmap_region_poisoned(&region));
    CHECK_EQ(load(&file, 1), 0);
    CHECK_EQ(region.fault.address, (uintptr_t)file.map + 1);
    safemmap_region_remove(&region);
}

static void
fault_after_removal(const void *unused)
{
    struct file file = file_gone();
    struct safemmap_region region = region_of(&file);

    (void)unused;
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    safemmap_region_remove(&region);
    (void)load(&file, 0);
}

/* The pages on both sides of a region are not its own. */
static void
fault_beside_region(const void *side)
{
    struct file file = file_new(3);
    struct safemmap_region region = region_of(&file);

    region.start += PAGE;
    region.end -= PAGE;
    region.offset = (off_t)PAGE;
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    file_cut(&file, 0);
    CHECK_EQ(load(&file, PAGE), 0);
    (void)load(&file, *(const int *)side == 0 ? PAGE - 1 : 2 * PAGE);
}

static void
outside_is_foreign(void)
{
    static const int sides[] = {0, 1};

    CHECK_EQ(end_in_child(fault_after_removal, NULL), SIGBUS);
    CHECK_EQ(end_in_child(fault_beside_region, &sides[0]), SIGBUS);
    CHECK_EQ(end_in_child(fault_beside_region, &sides[1]), SIGBUS);
}

/* The kernel describes the last fault in every signal's context: that is no fault
 * again. */
static void
raise_after(const void *how)
{
    struct file file = file_gone();
    struct safemmap_region region = region_of(&file);

    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    if (*(const int *)how == 0)
        CHECK_EQ(load(&file, 5), 0);
    else
        check_recovers(&file);
    raise(SIGBUS);
}

static void
raise_is_foreign(void)
{
    static const int hows[] = {0, 1};

    CHECK_EQ(end_in_child(raise_after, &hows[0]), SIGBUS);
    CHECK_EQ(end_in_child(raise_after, &hows[1]), SIGBUS);
}

/* Nor is a fault that is over, and of which nothing is left. */
static void
raise_after_put_back(const void *unused)
{
    struct file file = file_gone();
    struct safemmap_region region = region_of(&file);

    (void)unused;
    region.put_back = true;
    CHECK_EQ(safemmap_install(), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(safemmap_region_add(&region), 0);
        if (i == 0) {
            CHECK_EQ(load(&file, 5), 0);
            safemmap_region_remove(&region);
        }
    }
    raise(SIGBUS);
}

static void *
raise_on_new_thread(void *unused)
{
    (void)unused;
    raise(SIGBUS);
    return NULL;
}

/* What the kernel says of the last fault is inherited. */
static void
raise_in_new_thread(const void *unused)
{
    struct file file = file_gone();
    struct safemmap_region region = region_of(&file);
    pthread_t thread;

    (void)unused;
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    check_recovers(&file);
    CHECK_EQ(pthread_create(&thread, NULL, raise_on_new_thread, NULL), 0);
    await_death();
}

#if defined(__x86_64__)
static void *
run_code(void *code)
{
    void (*function)(void);

    memcpy(&function, &code, sizeof(function));
    function();
    return NULL;
}

/* A thread is interrupted at the first byte of memory: nothing is before it. */
static void
signal_at_start_of_code(const void *unused)
{
    static const unsigned char forever[] = {0xeb, 0xfe}; /* jmp to itself */
    unsigned char *code = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t thread;

    (void)unused;
    CHECK(code != MAP_FAILED);
    memcpy(code + PAGE, forever, sizeof(forever));
    CHECK_CALL(munmap(code, PAGE));
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(pthread_create(&thread, NULL, run_code, code + PAGE), 0);
    usleep(20000);
    CHECK_EQ(pthread_kill(thread, SIGBUS), 0);
    await_death();
}
#endif

static void
stale_faults_are_foreign(void)
{
    CHECK_EQ(end_in_child(raise_after_put_back, NULL), SIGBUS);
    CHECK_EQ(end_in_child(raise_in_new_thread, NULL), SIGBUS);
#if defined(__x86_64__)
    CHECK_EQ(end_in_child(signal_at_start_of_code, NULL), SIGBUS);
#endif
}

static volatile sig_atomic_t told_above;
static struct sigaction found_below;

/* As faulthandler's, put above ours before any handler check. */
static void
restore_and_raise(int signo)
{
    told_above++;
    CHECK_CALL(sigaction(signo, &found_below, NULL));
    raise(signo);
}

static void
passed_on_with_raise(void)
{
    struct sigaction above = {.sa_handler = restore_and_raise,
                              .sa_flags = SA_NODEFER};

#if !defined(__x86_64__) && !defined(__aarch64__)
    skip("the context of a signal does not describe the last fault here");
#endif
    for (int i = 0; i < 100; i++) {
        struct file file = file_gone();
        struct safemmap_region region = region_of(&file);

        CHECK_EQ(safemmap_install(), 0);
        CHECK_EQ(safemmap_region_add(&region), 0);
        above.sa_flags = i % 2 == 0 ? SA_NODEFER : 0;
        sigemptyset(&above.sa_mask);
        if (i % 3 == 0)
            sigaddset(&above.sa_mask, SIGUSR1);
        /* The address of an older fault says nothing. */
        if (i % 4 >= 2)
            check_recovers(&file);
        CHECK_CALL(sigaction(SIGBUS, &above, &found_below));
        CHECK_EQ(load(&file, i % 4 >= 2 ? 5 : 9), 0);
        CHECK_EQ(told_above, i + 1);
        CHECK(safemmap_region_poisoned(&region));
        CHECK_EQ(region.fault.address, (uintptr_t)file.map + (i % 4 >= 2 ? 5 : 9));
        safemmap_region_remove(&region);
        file_free(&file);
    }
}

static volatile sig_atomic_t misaligned;

static void
count_misaligned(int signo, siginfo_t *info, void *context)
{
    (void)signo;
    (void)context;
    misaligned += info->si_code == BUS_ADRALN;
}

/* What the kernel says of an access that is not aligned: the page is healthy. */
static void
misaligned_is_foreign(void)
{
    struct sigaction action = {.sa_sigaction = count_misaligned,
                               .sa_flags = SA_SIGINFO};
    struct file file = file_gone();
    struct safemmap_region region = region_of(&file);
    siginfo_t info;

    CHECK_CALL(sigaction(SIGBUS, &action, NULL));
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    memset(&info, 0, sizeof(info));
    info.si_signo = SIGBUS;
    info.si_code = BUS_ADRALN;
    info.si_addr = file.map;
    CHECK_CALL(
        syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGBUS, &info));
    CHECK_EQ(misaligned, 1);
    CHECK(!safemmap_region_poisoned(&region));
    safemmap_region_remove(&region);
}

static bool cancelled;

static void *
load_when_cancelled(void *file)
{
    wait_while(&cancelled, false);
    CHECK_EQ(load(file, 0), 0);
    for (;;)
        pause();
}

/* A thread is cancelled in what it calls next: that may not be the handler. */
static void
cancelled_thread(void)
{
    struct file file = file_gone();
    struct safemmap_region region = region_of(&file);
    pthread_t thread;

    CHECK_EQ(safemmap_install(), 0);
    CHECK(safemmap_event_fd() >= 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    CHECK_EQ(pthread_create(&thread, NULL, load_when_cancelled, &file), 0);
    CHECK_EQ(pthread_cancel(thread), 0);
    __atomic_store_n(&cancelled, true, __ATOMIC_SEQ_CST);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    safemmap_region_remove(&region);
}

static void *
load_all_the_time(void *file)
{
    wait_while(&held, false);
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    while (load(file, 0) == 0)
        continue;
    return NULL;
}

/* One that may be cancelled at any instruction, and only reads. It waits for the
 * pages then, and has counted itself among those that use the regions. */
static void
cancelled_at_any_instruction(void)
{
    struct file file = file_new(2);
    struct safemmap_region region = region_of(&file);
    pthread_t thread;
    sigset_t mask;

    if (THREAD_SANITIZER)
        skip("ThreadSanitizer puts such a cancellation off");
    region.fd = -1;
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    file_cut(&file, 0);
    CHECK_EQ(pthread_create(&thread, NULL, load_all_the_time, &file), 0);
    mask = safemmap__hold_pages();
    __atomic_store_n(&held, true, __ATOMIC_SEQ_CST);
    while (((unsigned)__atomic_load_n(&safemmap__pages, __ATOMIC_SEQ_CST) &
            FUTEX_WAITERS) == 0)
        sched_yield();
    CHECK_EQ(pthread_cancel(thread), 0);
    safemmap__release_pages(&mask);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(safemmap__pages, 0);
    CHECK_EQ(load(&file, PAGE), 0);
    safemmap_region_remove(&region);
}

/* There is nowhere to keep the pages that are replaced: it is refused before one is.
 */
static void
without_address_space(void)
{
    struct file file = file_new(1024);
    struct safemmap_region region = region_of(&file);
    struct rlimit none = {0, 0};

    if (SANITIZED)
        skip("a sanitizer needs address space of its own");
    region.put_back = true;
    CHECK_EQ(safemmap_install(), 0);
    CHECK_CALL(setrlimit(RLIMIT_AS, &none));
    CHECK_EQ(safemmap_region_add(&region), -ENOMEM);
    CHECK_EQ(load(&file, 0), pattern(0));
}

/* ---- Names, hooks and changes -------------------------------------------- */

struct hooked {
    int calls;
    struct safemmap_region_fault fault;
};

static void
note_fault(void *data, const struct safemmap_region_fault *fault)
{
    volatile struct hooked *hooked = data;

    hooked->calls++;
    hooked->fault = *fault;
}

static void
hook_and_name(void)
{
    struct file file = file_new(8);
    volatile struct hooked hooked = {0};
    struct safemmap_region region = part_of(&file, 2, 8);
    struct safemmap_event event;

    strcpy(region.name, "pool 7");
    region.hook = note_fault;
    region.hook_data = (void *)&hooked;
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    file_cut(&file, 4);
    CHECK_EQ(hooked.calls, 0);
    CHECK_EQ(load(&file, 5 * PAGE + 3), 0);
    CHECK_EQ(load(&file, 6 * PAGE), 0);
    CHECK_EQ(hooked.calls, 1);
    CHECK_EQ(hooked.fault.address, (uintptr_t)file.map + 5 * PAGE + 3);
    CHECK_EQ(hooked.fault.thread, getpid());
    CHECK(safemmap_event_take(&event));
    CHECK_EQ(event.region, region.id);
    CHECK_EQ(event.offset, 3 * PAGE + 3);
    CHECK_EQ(strcmp(event.name, "pool 7"), 0);
    CHECK_EQ(safemmap_region_remove(&region), 0);
}

static void
load_last(const void *file)
{
    load(file, 7 * PAGE);
}

/* A file and its mapping are resized: every byte is covered before and after. */
static void
updated(void)
{
    struct file file = file_new(8);
    struct safemmap_region region = part_of(&file, 0, 4);
    const uint64_t start = region.start;
    uint64_t id;

    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_update(&region, start, start + PAGE), -EINVAL);
    CHECK_EQ(safemmap_region_add(&region), 0);
    id = region.id;
    CHECK_EQ(safemmap_region_update(&region, start + 1, start + PAGE), -EINVAL);
    CHECK_EQ(safemmap_region_update(&region, start, start), -EINVAL);
    for (size_t pages = 8; pages > 0; pages--) {
        CHECK_EQ(safemmap_region_update(&region, start, start + pages * PAGE), 0);
        CHECK_EQ(region.id, id);
        CHECK_EQ(region.end, start + pages * PAGE);
    }
    CHECK_EQ(safemmap_region_update(&region, start, start + 6 * PAGE), 0);
    file_cut(&file, 3);
    CHECK_EQ(load(&file, 5 * PAGE), 0);
    CHECK(safemmap_region_poisoned(&region));
    CHECK_EQ(safemmap_region_update(&region, start, start + 8 * PAGE), -EFAULT);
    CHECK_EQ(region.end, start + 6 * PAGE);
    CHECK(safemmap_region_poisoned(&region));
    /* What is left has no page that was replaced. */
    CHECK_EQ(safemmap_region_update(&region, start, start + 3 * PAGE), 0);
    CHECK(safemmap_region_poisoned(&region));
    CHECK_EQ(end_in_child(load_last, &file), SIGBUS);
    CHECK_EQ(safemmap_region_remove(&region), 0);
    CHECK_EQ(safemmap_region_remove(&region), 0);
}

static struct safemmap_region moving;
static struct file moving_file;
static _Atomic bool stop_moving;

static void *
update_on_and_on(void *unused)
{
    (void)unused;
    for (size_t pages = 4; !stop_moving; pages = 4 + (pages + 1) % 4)
        safemmap_region_update(&moving, moving.start, moving.start + pages * PAGE);
    return NULL;
}

static size_t
events_of(uint64_t region)
{
    struct safemmap_event event;
    size_t count = 0;

    while (safemmap_event_take(&event))
        count += event.region == region;
    return count;
}

/* Faults in what both ranges hold, while the region changes: none is lost. */
static void
updated_under_faults(void)
{
    for (int round = 0; round < SCALED(60); round++) {
        pthread_t thread;

        moving_file = file_new(8);
        moving = part_of(&moving_file, 0, 4);
        stop_moving = false;
        CHECK_EQ(safemmap_region_add(&moving), 0);
        CHECK_EQ(safemmap_install(), 0);
        CHECK_EQ(pthread_create(&thread, NULL, update_on_and_on, NULL), 0);
        for (int i = 0; i < round % 8; i++)
            sched_yield();
        file_cut(&moving_file, 1);
        CHECK_EQ(load(&moving_file, 2 * PAGE), 0);
        CHECK(safemmap_region_poisoned(&moving));
        stop_moving = true;
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK(safemmap_region_poisoned(&moving));
        CHECK_EQ(moving.fault.address, (uintptr_t)moving_file.map + 2 * PAGE);
        CHECK_EQ(events_of(moving.id), 1);
        CHECK_EQ(safemmap_region_remove(&moving), 0);
        file_free(&moving_file);
    }
}

/* For a moment of the change both ranges are registered. */
static void
one_event_while_updated(void)
{
    for (int withdrawable = 0; withdrawable < 2; withdrawable++) {
        struct file file = file_new(8);
        struct safemmap_region region = part_of(&file, 0, 4),
                               stand_in = part_of(&file, 0, 8);

        region.withdrawable = stand_in.withdrawable = withdrawable;
        CHECK_EQ(safemmap_install(), 0);
        CHECK_EQ(safemmap_region_add(&region), 0);
        CHECK_EQ(safemmap_region_add(&stand_in), 0);
        stand_in.updated = &region;
        stand_in.id = region.id;
        file_cut(&file, 0);
        CHECK_EQ(load(&file, 2 * PAGE), 0);
        CHECK_EQ(events_of(region.id), 1);
        CHECK_EQ(safemmap_region_remove(&stand_in), 0);
        CHECK_EQ(safemmap_region_remove(&region), 0);
        file_free(&file);
    }
}

/* A file that moves with its region: the offset is that of the old place. */
static void
offset_of_a_fault_before_an_update(void)
{
    struct file file = file_new(4);
    struct safemmap_region region = region_of(&file);
    unsigned char *other = mmap(NULL, 8 * PAGE, PROT_READ, MAP_SHARED, file.fd, 0);

    CHECK(other != MAP_FAILED);
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    file_cut(&file, 1);
    CHECK_EQ(load(&file, 2 * PAGE + 7), 0);
    CHECK_EQ(safemmap_region_update(&region, (uintptr_t)other,
                                    (uintptr_t)other + 8 * PAGE),
             0);
    CHECK_EQ(region.fault.address, (uintptr_t)file.map + 2 * PAGE + 7);
    CHECK_EQ(region.fault_offset, 2 * PAGE + 7);
    CHECK_EQ(safemmap_region_remove(&region), 0);
}

static void
remove_and_touch(const void *unused)
{
    (void)unused;
    CHECK_EQ(safemmap_region_remove(&moving), 0);
    load(&moving_file, 2 * PAGE);
}

/* A child in the middle of a change has the one region, and can remove it. */
static void
updated_while_forking(void)
{
    pthread_t thread;

    moving_file = file_new(8);
    moving = part_of(&moving_file, 0, 4);
    CHECK_EQ(safemmap_region_add(&moving), 0);
    CHECK_EQ(safemmap_install(), 0);
    file_cut(&moving_file, 1);
    CHECK_EQ(pthread_create(&thread, NULL, update_on_and_on, NULL), 0);
    for (int i = 0; i < SCALED(50); i++)
        CHECK_EQ(end_in_child(remove_and_touch, NULL), SIGBUS);
    stop_moving = true;
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(safemmap_region_remove(&moving), 0);
}

/* ---- A region whose file is mapped anew --------------------------------- */

/* With no moment at which a page of it that is there reads as zero. */
static void
grow_by_last_page(const struct file *file)
{
    size_t last = (file->pages - 1) * PAGE;
    unsigned char *page = malloc(PAGE);

    CHECK(page != NULL);
    for (size_t i = 0; i < PAGE; i++)
        page[i] = pattern(last + i);
    CHECK_EQ(pwrite(file->fd, page, PAGE, (off_t)last), (ssize_t)PAGE);
    free(page);
}

static void
renewed(void)
{
    for (int withdrawable = 0; withdrawable < 2; withdrawable++) {
        struct file file = file_new(8);
        struct safemmap_region region = region_of(&file), over = part_of(&file, 0, 8),
                               theirs = part_of(&file, 0, 1);
        uint64_t id;

        region.withdrawable = withdrawable;
        theirs.put_back = true;
        CHECK_EQ(safemmap_install(), 0);
        CHECK_EQ(safemmap_region_renew(&region, MAP_SHARED), -EINVAL);
        CHECK_EQ(safemmap_region_add(&theirs), 0);
        CHECK_EQ(safemmap_region_renew(&theirs, MAP_SHARED), -EINVAL);
        CHECK_EQ(safemmap_region_remove(&theirs), 0);
        CHECK_EQ(safemmap_region_add(&region), 0);
        CHECK_EQ(safemmap_region_add(&over), 0);
        for (int round = 0; round < 3; round++) {
            id = region.id;
            file_cut(&file, 1);
            CHECK_EQ(load(&file, 2 * PAGE + 7), 0);
            CHECK(safemmap_region_poisoned(&region));
            CHECK_EQ(region.fault_offset, 2 * PAGE + 7);
            CHECK_EQ(events_of(id), 1);
            regrow(&file);
            CHECK_EQ(safemmap_region_renew(&region, MAP_SHARED), 0);
            CHECK(region.id > id && region.id > over.id);
            CHECK(!safemmap_region_poisoned(&region));
            CHECK(safemmap_region_poisoned(&over));
            CHECK_EQ(mappings_in(&file), 1);
            check_pattern(&file);
        }
        CHECK_EQ(close(file.fd), 0);
        id = region.id;
        CHECK_EQ(safemmap_region_renew(&region, MAP_SHARED), -EBADF);
        CHECK_EQ(region.id, id);
        CHECK_EQ(safemmap_region_remove(&over), 0);
        CHECK_EQ(safemmap_region_remove(&region), 0);
    }
}

/* What was moved aside for another region is not the file's any more. */
static void
renewed_beside_one_that_is_put_back(void)
{
    struct file file = file_new(8);
    struct safemmap_region region = part_of(&file, 2, 5),
                           theirs = part_of(&file, 0, 8);

    CHECK(mmap(file.map, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
               file.fd, 0) == (void *)file.map);
    theirs.put_back = true;
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&theirs), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    file_cut(&file, 1);
    for (size_t page = 1; page < 8; page++)
        CHECK_EQ(load(&file, page * PAGE), 0);
    regrow(&file);
    CHECK_EQ(safemmap_region_renew(&region, MAP_PRIVATE), 0);
    for (size_t page = 2; page < 5; page++)
        store(&file, page * PAGE, 222);
    CHECK_EQ(safemmap_region_remove(&theirs), 0);
    for (size_t page = 0; page < 8; page++)
        CHECK_EQ(load(&file, page * PAGE),
                 page >= 2 && page < 5 ? 222 : pattern(page * PAGE));
    CHECK_EQ(safemmap_region_remove(&region), 0);
}

static void *
load_last_page(void *unused)
{
    size_t last = (moving_file.pages - 1) * PAGE + 1;

    (void)unused;
    while (!stop_moving) {
        uint64_t id = __atomic_load_n(&moving.id, __ATOMIC_SEQ_CST);

        if (load(&moving_file, last) == 0)
            CHECK(safemmap_region_poisoned(&moving) ||
                  __atomic_load_n(&moving.id, __ATOMIC_SEQ_CST) != id);
    }
    return NULL;
}

/* Whoever reads a zero finds the region poisoned, or renewed since; and nobody dies.
 */
static void
renewed_under_faults(void)
{
    pthread_t thread[2];

    moving_file = file_new(3);
    moving = region_of(&moving_file);
    stop_moving = false;
    CHECK_EQ(safemmap_region_add(&moving), 0);
    CHECK_EQ(safemmap_install(), 0);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, load_last_page, NULL), 0);
    for (int round = 0; round < SCALED(2000); round++) {
        file_cut(&moving_file, 2);
        while (round % 2 == 0 && !safemmap_region_poisoned(&moving))
            sched_yield();
        grow_by_last_page(&moving_file);
        CHECK_EQ(safemmap_region_renew(&moving, MAP_SHARED), 0);
    }
    stop_moving = true;
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    CHECK_EQ(safemmap_region_renew(&moving, MAP_SHARED), 0);
    check_pattern(&moving_file);
    CHECK(!safemmap_region_poisoned(&moving));
    CHECK_EQ(safemmap_region_remove(&moving), 0);
    file_free(&moving_file);
}

static void *
load_what_is_back(void *file)
{
    while (stop_moving)
        sched_yield();
    CHECK_EQ(load(file, 2 * PAGE + 1), pattern(2 * PAGE + 1));
    return NULL;
}

/* The page is there when a thread's turn comes: it gets no zero for it. */
static void
renewed_while_a_fault_waits(void)
{
    struct file file = file_new(3);
    struct safemmap_region region = region_of(&file);
    pthread_t thread;
    sigset_t mask;

    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    file_cut(&file, 2);
    stop_moving = true;
    CHECK_EQ(pthread_create(&thread, NULL, load_what_is_back, &file), 0);
    mask = safemmap__hold_pages();
    stop_moving = false;
    while ((__atomic_load_n(&safemmap__pages, __ATOMIC_SEQ_CST) &
            ~SAFEMMAP__OS_HOLDER) == 0)
        sched_yield(); /* until the thread waits */
    grow_by_last_page(&file);
    /* As safemmap_region_renew() does. */
    __atomic_store_n(&region.id, region.id + 1, __ATOMIC_RELAXED);
    safemmap__release_pages(&mask);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK(!safemmap_region_poisoned(&region));
    CHECK_EQ(safemmap_region_remove(&region), 0);
    file_free(&file);
}

/* ---- Regions about which somebody will ask -------------------------------- */

static _Atomic int news;

static void
count_news(void)
{
    news++;
}

/* The hook is called unless all regions that hold the address are attended. */
static void
attended(void)
{
    for (int which = 0; which < 4; which++) {
        struct file file = file_new(4);
        struct safemmap_region outer = region_of(&file), inner = outer;
        struct safemmap_event event;
        int events = 0;

        note = NOTE("attended", which);
        inner.start += PAGE;
        inner.end -= PAGE;
        news = 0;
        safemmap_set_event_hook(count_news);
        CHECK_EQ(safemmap_install(), 0);
        CHECK_EQ(safemmap_region_add(&outer), 0);
        CHECK_EQ(safemmap_region_add(&inner), 0);
        safemmap_region_attend(&outer, (which & 1) != 0);
        safemmap_region_attend(&inner, (which & 2) != 0);
        file_cut(&file, 1);
        CHECK_EQ(load(&file, PAGE), 0);
        CHECK_EQ(news, which == 3 ? 0 : 1);
        CHECK(safemmap_region_poisoned(&outer));
        CHECK(safemmap_region_poisoned(&inner));
        CHECK_EQ(outer.fault_file_size, PAGE);
        CHECK_EQ(inner.fault_file_size, PAGE);
        while (safemmap_event_take(&event))
            events++;
        CHECK_EQ(events, 2);
        CHECK_EQ(safemmap_region_remove(&inner), 0);
        CHECK_EQ(safemmap_region_remove(&outer), 0);
        file_free(&file);
    }
}

static void *
load_first_byte(void *file)
{
    CHECK_EQ(load(file, 0), 0);
    return NULL;
}

/* Who ends it, and asks then, learns of a fault, or the hook tells. */
static void
attended_no_longer(void)
{
    safemmap_set_event_hook(count_news);
    CHECK_EQ(safemmap_install(), 0);
    for (int round = 0; round < SCALED(3000); round++) {
        struct file file = file_gone();
        struct safemmap_region region = region_of(&file);
        struct safemmap_event event;
        pthread_t thread;
        bool seen;

        news = 0;
        CHECK_EQ(safemmap_region_add(&region), 0);
        safemmap_region_attend(&region, true);
        CHECK_EQ(pthread_create(&thread, NULL, load_first_byte, &file), 0);
        for (int i = 0; i < round % 64 * 100; i++)
            __asm__ volatile("");
        safemmap_region_attend(&region, false);
        seen = safemmap_region_poisoned(&region);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK(seen || news > 0);
        while (safemmap_event_take(&event))
            ;
        CHECK_EQ(safemmap_region_remove(&region), 0);
        file_free(&file);
    }
}

TEST_MAIN(TEST(misaligned_is_foreign), TEST(truncated),
          TEST(truncated_again_and_again), TEST(offset_and_unknown_file),
          TEST(guard_in_region), TEST(hole_in_full_filesystem),
          TEST(no_store_is_lost), TEST(overlapping),
          TEST(no_store_is_lost_to_an_overlapping_region), TEST(put_back),
          TEST(address_space_is_used_again), TEST(put_back_in_pieces),
          TEST(put_back_private), TEST(put_back_while_overlapping),
          TEST(removed_under_waiting_faults), TEST(nothing_is_left_behind),
          TEST(add_errors), TEST(add_twice), TEST(remove_anything),
          TEST(outside_is_foreign), TEST(raise_is_foreign),
          TEST(stale_faults_are_foreign), TEST(cancelled_thread),
          TEST(cancelled_at_any_instruction), TEST(without_address_space),
          TEST(passed_on_with_raise), TEST(hook_and_name), TEST(updated),
          TEST(updated_under_faults), TEST(one_event_while_updated),
          TEST(offset_of_a_fault_before_an_update), TEST(updated_while_forking),
          TEST(renewed), TEST(renewed_beside_one_that_is_put_back),
          TEST(renewed_under_faults), TEST(renewed_while_a_fault_waits),
          TEST(attended), TEST(attended_no_longer))
