/* Regions whose zeroed pages can be withdrawn: what is reported, and what they cost.
 */
#include "limits.h"
#include "measures.h"
#include "reports.h"

#include <sys/stat.h>

static struct safemmap_region
add_region(const struct file *file)
{
    struct safemmap_region region = region_of(file);

    region.withdrawable = true;
    return region;
}

static void
begin(void)
{
    CHECK_EQ(safemmap_install(), 0);
    safemmap_set_fault_hook(note_report);
}

/* Before the access goes on, each time. */
static void
reported_anew(void)
{
    struct file file = file_new(512);
    struct safemmap_region region = add_region(&file);
    uint64_t before;

    begin();
    CHECK_EQ(safemmap_region_add(&region), 0);
    file_cut(&file, 3);
    for (size_t i = 0; i < 5; i++) {
        const size_t offset = (100 + i % 2) * PAGE + 7;
        bool stored = i == 3;

        note = NOTE("round", (long)i);
        before = last.token;
        if (stored)
            store(&file, offset, 9);
        else
            CHECK_EQ(load(&file, offset), 0);
        CHECK_EQ(reports_since(), 1);
        CHECK_EQ(events_since(), 1);
        CHECK_EQ(last.region, region.id);
        CHECK_EQ(last.fault.address, (uintptr_t)file.map + offset);
        CHECK_EQ(last.fault.code, BUS_ADRERR);
        CHECK_EQ(last.fault.thread, syscall(SYS_gettid));
        CHECK(pthread_equal(last.pthread, pthread_self()));
#if defined(__x86_64__) /* (emulators of others do not tell) */
        CHECK_EQ(last.store, stored);
#endif
        CHECK(last.token != 0 && last.token != before);
        CHECK(safemmap_region_poisoned(&region));
        /* They are there until they are withdrawn. */
        CHECK_EQ(load(&file, offset), stored ? 9 : 0);
        CHECK_EQ(reports_since(), 0);
        CHECK_EQ(safemmap_withdraw(last.token), 0);
    }
    for (size_t page = 0; page < 3; page++)
        CHECK_EQ(load(&file, page * PAGE), pattern(page * PAGE));
    CHECK_EQ(reports_since(), 0);
    CHECK_EQ(region.fault.address, (uintptr_t)file.map + 100 * PAGE + 7);
    CHECK_EQ(safemmap_region_remove(&region), 0);
}

/* Without a hook they are answered all the same. */
static void
without_a_hook(void)
{
    struct file file = file_gone();
    struct safemmap_region region = add_region(&file);
    struct safemmap_event event;

    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    CHECK_EQ(load(&file, 0), 0);
    CHECK(safemmap_event_take(&event));
    CHECK_EQ(safemmap_withdraw(event.token), 0);
    CHECK_EQ(load(&file, 0), 0);
    CHECK_EQ(events_since(), 1);
    CHECK_EQ(safemmap_region_remove(&region), 0);
}

/* ---- What the hook may do ---------------------------------------------- */

static bool allowed, waits;

static bool
wait_for_another(const struct safemmap_event *event)
{
    note_report(event);
    __atomic_store_n(&waits, true, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&allowed, __ATOMIC_SEQ_CST))
        usleep(1000);
    return false;
}

static void *
load_zero(void *file)
{
    CHECK_EQ(load(file, 0), 0);
    CHECK(__atomic_load_n(&allowed, __ATOMIC_SEQ_CST));
    return NULL;
}

static bool
see_to_the_queue(const struct safemmap_event *event)
{
    (void)event;
    CHECK_EQ(events_since(), 1);
    return true;
}

static unsigned announced;

static void
note_announcement(void)
{
    announced++;
}

/* The event is in the queue by then. */
static void
hook_sees_to_the_queue(void)
{
    struct file file = file_gone();
    struct safemmap_region region = add_region(&file);

    begin();
    CHECK_EQ(safemmap_region_add(&region), 0);
    safemmap_set_event_hook(note_announcement);
    safemmap_set_fault_hook(see_to_the_queue);
    CHECK_EQ(load(&file, 0), 0);
    CHECK_EQ(announced, 0);
    CHECK_EQ(safemmap_region_remove(&region), 0);
}

/* It waits for a thread that takes regions out, and adds others. */
static void
hook_waits(void)
{
    struct file file = file_gone(), other = file_gone();
    struct safemmap_region region = add_region(&file), another = add_region(&other);
    pthread_t thread;

    begin();
    safemmap_set_fault_hook(wait_for_another);
    CHECK_EQ(safemmap_region_add(&region), 0);
    CHECK_EQ(pthread_create(&thread, NULL, load_zero, &file), 0);
    while (!__atomic_load_n(&waits, __ATOMIC_SEQ_CST))
        usleep(100);
    CHECK_EQ(safemmap_region_remove(&region), 0);
    safemmap_set_fault_hook(note_report);
    CHECK_EQ(safemmap_region_add(&another), 0);
    CHECK_EQ(load(&other, 0), 0);
    __atomic_store_n(&allowed, true, __ATOMIC_SEQ_CST);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(reports_since(), 2);
    CHECK_EQ(safemmap_region_remove(&another), 0);
}

/* ---- Threads ----------------------------------------------------------- */

enum { THREADS = 4 };
static pthread_barrier_t barrier;
static unsigned told[THREADS];
static __thread unsigned own_reports;

static uint64_t newest;

static bool
note_own(const struct safemmap_event *event)
{
    /* (Each thread has one that is not older than what was mapped for it.) */
    __atomic_store_n(&newest, event->token, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&reports, 1, __ATOMIC_SEQ_CST);
    own_reports++;
    return false;
}

static void *
touch_one_page(void *argument)
{
    const struct file *file = argument;
    static unsigned next;
    unsigned self = __atomic_fetch_add(&next, 1, __ATOMIC_SEQ_CST);

    for (int i = 0; i < SCALED(500); i++) {
        pthread_barrier_wait(&barrier);
        CHECK_EQ(load(file, (size_t)i % 2 * PAGE), 0);
        told[self] += own_reports != 0;
        own_reports = 0;
        pthread_barrier_wait(&barrier);
        if (self == 0)
            CHECK_EQ(safemmap_withdraw(__atomic_load_n(&newest, __ATOMIC_SEQ_CST)),
                     0);
    }
    return NULL;
}

/* One that waits while another replaces the page is told as well; none is told of
 * what it did not touch. */
static void
each_thread_is_told(void)
{
    struct file file = file_new(2);
    struct safemmap_region region = add_region(&file);
    pthread_t thread[THREADS];
    unsigned all = 0;

    begin();
    safemmap_set_fault_hook(note_own);
    CHECK_EQ(pthread_barrier_init(&barrier, NULL, THREADS), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    file_cut(&file, 0);
    for (size_t i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, touch_one_page, &file), 0);
    for (size_t i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    for (size_t i = 0; i < THREADS; i++)
        all += told[i];
    CHECK_EQ(all, reports_since());
    CHECK(all >= SCALED(500));
    CHECK_EQ(safemmap_region_remove(&region), 0);
}

/* ---- What they take ---------------------------------------------------- */

/* Upwards and downwards, whether its file is known or not. */
static void
reading_all(void)
{
    begin();
    for (int way = 0; way < 4; way++) {
        const size_t size = (size_t)(BRIEF || way > 0 ? 256 : 2048) << 20;
        struct file file = large_file(size);
        struct safemmap_region region = add_region(&file);
        size_t before, most = 0;

        note = NOTE("way", way);
        if (way % 2 == 1)
            region.fd = -1;
        CHECK_EQ(safemmap_region_add(&region), 0);
        file_cut(&file, 1);
        before = resident();
        for (size_t i = 1; i < file.pages; i++) {
            size_t page = way < 2 ? i : file.pages - i;

            CHECK_EQ(load(&file, page * PAGE), 0);
            if (i % 1024 == 0 && resident() - before > most)
                most = resident() - before;
        }
        CHECK(most < (size_t)64 << 20);
        CHECK(reports_since() <= 32 + (size >> (region.fd < 0 ? 22 : 25)));
        /* One event for all. */
        CHECK_EQ(events_since(), 1);
        CHECK_EQ(safemmap_withdraw(last.token), 0);
        CHECK(resident() - before < (size_t)2 << 20);
        CHECK_EQ(safemmap_region_remove(&region), 0);
        file_free(&file);
    }
}

/* Anywhere, many times. */
static void
reading_anywhere(void)
{
    struct file file = large_file((size_t)1 << 34);
    struct safemmap_region region = add_region(&file);
    unsigned before, random = 1;

    begin();
    CHECK_EQ(safemmap_region_add(&region), 0);
    file_cut(&file, 0);
    before = mappings();
    for (int i = 0; i < SCALED(20000); i++) {
        random = random * 1103515245u + 12345;
        CHECK_EQ(load(&file, (random >> 1) % file.pages * PAGE), 0);
        if (i % 3 == 0)
            CHECK_EQ(safemmap_withdraw(last.token), 0);
        if (i % 1000 == 0)
            CHECK(mappings() < before + 1000);
    }
    CHECK_EQ(safemmap_region_remove(&region), 0);
}

/* Anywhere in many regions, cut or with holes, and whether the process has mappings
 * to spare: neither do these run out, nor does a page go before its access is
 * through. */
static void
many_regions_at(const void *argument)
{
    enum { FILES = 200 };
    const int kind = *(const int *)argument;
    struct file files[FILES];
    struct safemmap_region regions[FILES];
    unsigned before;

    begin();
    for (size_t i = 0; i < FILES; i++) {
        files[i] = large_file((size_t)1 << 30);
        regions[i] = region_of(&files[i]);
        regions[i].withdrawable = true;
        CHECK_EQ(safemmap_region_add(&regions[i]), 0);
        file_cut(&files[i], 0);
        if (kind & 1)
            regions[i].fd = -1;
    }
    before = mappings();
    if (kind & 2)
        leave_mappings(1000);
    touch_anywhere(files, FILES, SCALED(kind & 2 ? 4000 : 10000));
    if (!(kind & 2))
        CHECK(mappings() < before + 15500);
    for (size_t i = 0; i < FILES; i++)
        CHECK_EQ(safemmap_region_remove(&regions[i]), 0);
}

static void
many_regions(void)
{
    need_a_small_table();
    for (int kind = 0; kind < 4; kind++) {
        note = NOTE("kind", kind);
        CHECK_EQ(end_in_child(many_regions_at, &kind), 0);
    }
}

/* On through the file, in steps that lie apart, where its size is not known. */
static void
steps_far_apart(void)
{
    const size_t apart = (size_t)1 << 23, steps = BRIEF ? 300 : 600;
    struct file file = large_file(steps * apart);
    struct safemmap_region region = add_region(&file);
    unsigned before;

    begin();
    region.fd = -1;
    CHECK_EQ(safemmap_region_add(&region), 0);
    file_cut(&file, 0);
    before = mappings();
    for (size_t at = 0; at < steps * apart; at += apart)
        CHECK_EQ(load(&file, at), 0);
    CHECK(mappings() < before + 550);
    CHECK_EQ(safemmap_region_remove(&region), 0);
}

/* A peer that chooses the size: neither time nor memory of a fault grows with it. */
static void
huge_and_sparse(void)
{
    const size_t size = (size_t)1 << 46;

    if (SANITIZED)
        skip("a sanitizer knows no such large mappings");
    begin();
    for (int kind = 0; kind < 2; kind++) {
        int other;
        struct file file = file_on_full_filesystem("d-", &other);
        struct safemmap_region region = {.page_size = PAGE,
                                         .protection = PROT_READ | PROT_WRITE,
                                         .fd = file.fd,
                                         .withdrawable = kind == 1};
        double began;
        size_t before;

        note = NOTE("kind", kind);
        CHECK_CALL(ftruncate(file.fd, (off_t)size));
        file.map = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_NORESERVE, file.fd, 0);
        if (file.map == MAP_FAILED)
            skip("needs 64 TiB of address space");
        region.start = (uintptr_t)file.map;
        region.end = region.start + size;
        before = resident();
        began = seconds(CLOCK_THREAD_CPUTIME_ID);
        CHECK_EQ(safemmap_region_add(&region), 0);
        CHECK_EQ(load(&file, PAGE), 0);
        CHECK_EQ(load(&file, 0), 'd');
        file_cut(&file, 0);
        CHECK_EQ(load(&file, 0), 0);
        CHECK_EQ(load(&file, size / 2), 0);
        CHECK_EQ(load(&file, size - 1), 0);
        CHECK_EQ(safemmap_region_remove(&region), 0);
        CHECK(seconds(CLOCK_THREAD_CPUTIME_ID) - began < (BRIEF ? 0.5 : 0.02));
        CHECK(resident() - before < (size_t)1 << 20);
        CHECK_CALL(munmap(file.map, size));
        CHECK_CALL(umount2("/mnt", MNT_DETACH));
    }
}

/* ---- What is not lost -------------------------------------------------- */

/* Neither data nor what can be filled later is taken away with a hole. */
static void
holes(void)
{
    int other;
    struct file file = file_on_full_filesystem("d-d--d", &other);
    struct safemmap_region region = add_region(&file);

    begin();
    for (int known = 0; known < 2; known++) {
        region.fd = known ? file.fd : -1;
        CHECK_EQ(safemmap_region_add(&region), 0);
        for (size_t page = 0; page < file.pages; page++)
            CHECK_EQ(load(&file, page * PAGE), "d-d--d"[page] == 'd' ? 'd' : 0);
        CHECK(reports_since() > 0);
        CHECK_EQ(safemmap_region_remove(&region), 0);
        CHECK(mmap(file.map, file.pages * PAGE, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_FIXED, file.fd, 0) == (void *)file.map);
    }
}

/* Memory that belongs to somebody else is the file's again. */
static void
put_back(void)
{
    begin();
    for (int known = 0; known < 2; known++) {
        struct file file = file_new(64);
        struct safemmap_region region = add_region(&file);

        note = NOTE("known", known);
        region.put_back = true;
        region.fd = known ? file.fd : -1;
        CHECK_EQ(safemmap_region_add(&region), 0);
        file_cut(&file, 2);
        for (size_t i = 0; i < 3; i++) {
            for (size_t page = 2 + i; page < 64; page += 3)
                CHECK_EQ(load(&file, page * PAGE), 0);
            CHECK_EQ(safemmap_withdraw(last.token), 0);
        }
        store(&file, 30 * PAGE, 5);
        CHECK_EQ(safemmap_region_remove(&region), 0);
        file_cut(&file, 64);
        for (size_t page = 0; page < 64; page++)
            CHECK_EQ(load(&file, page * PAGE), page < 2 ? pattern(page * PAGE) : 0);
        store(&file, 30 * PAGE, 6);
        unsigned char byte;
        CHECK_EQ(pread(file.fd, &byte, 1, (off_t)(30 * PAGE)), 1);
        CHECK_EQ(byte, 6);
        file_free(&file);
    }
}

/* One that wants its zeros to stay has part in those that go, as long as somebody
 * wants these. */
static void
overlapping(void)
{
    struct file file = file_new(8);
    struct safemmap_region goes = add_region(&file), stays = region_of(&file);

    begin();
    CHECK_EQ(safemmap_region_add(&goes), 0);
    CHECK_EQ(safemmap_region_add(&stays), 0);
    file_cut(&file, 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(load(&file, PAGE), 0);
        CHECK_EQ(reports_since(), 1);
        CHECK_EQ(last.region, goes.id);
        CHECK(safemmap_region_poisoned(&stays));
        CHECK_EQ(safemmap_withdraw(last.token), 0);
    }
    CHECK_EQ(safemmap_region_remove(&goes), 0);
    store(&file, PAGE, 7);
    CHECK_EQ(reports_since(), 0);
    CHECK_EQ(safemmap_withdraw(last.token), 0);
    CHECK_EQ(load(&file, PAGE), 7);
    CHECK_EQ(load(&file, 2 * PAGE), 0);
    CHECK_EQ(safemmap_region_remove(&stays), 0);
}

/* ---- Limits ------------------------------------------------------------ */

struct under {
    size_t limit;
    bool withdrawable;
};

static void
fault_under(const void *argument)
{
    const struct under *under = argument;
    struct file file = file_new(64);
    struct safemmap_region region = region_of(&file);

    begin();
    region.withdrawable = under->withdrawable;
    CHECK_EQ(safemmap_region_add(&region), 0);
    file_cut(&file, 2);
    if (limits[under->limit].set != NULL)
        limits[under->limit].set();
    CHECK_EQ(load(&file, 30 * PAGE), 0);
    store(&file, 40 * PAGE, 4);
    CHECK_EQ(load(&file, 40 * PAGE), 4);
    CHECK_EQ(load(&file, PAGE), pattern(PAGE));
    if (under->withdrawable) {
        CHECK(reports_since() > 0);
        CHECK_EQ(safemmap_withdraw(last.token), 0);
        CHECK_EQ(load(&file, 40 * PAGE), 0);
        CHECK_EQ(reports_since(), 1);
    }
    CHECK_EQ(safemmap_region_remove(&region), 0);
}

static void
limited(void)
{
    if (SANITIZED)
        skip("a sanitizer does not get along with these limits");
    for (size_t i = 0; i < COUNT_OF(limits); i++)
        for (int kind = 0; kind < 2; kind++) {
            const struct under under = {i, kind == 1};

            note = NOTE("limit, kind", (long)i, kind);
            CHECK_EQ(end_in_child(fault_under, &under), 0);
        }
}

/* And what was put aside comes back all the same. */
static void
fault_in_full_table(const void *kind)
{
    struct file file = file_new(64);
    struct safemmap_region region = region_of(&file);

    begin();
    region.withdrawable = *(const int *)kind & 1;
    region.put_back = (*(const int *)kind & 2) != 0;
    region.fd = *(const int *)kind & 4 ? file.fd : -1;
    CHECK_EQ(safemmap_region_add(&region), 0);
    fill_table();
    file_cut(&file, 2);
    CHECK_EQ(load(&file, 30 * PAGE), 0);
    CHECK_EQ(load(&file, 31 * PAGE), 0);
    CHECK(safemmap_region_poisoned(&region));
    CHECK_EQ(safemmap_region_remove(&region), 0);
    if (region.put_back) {
        CHECK_CALL(ftruncate(file.fd, 64 * (off_t)PAGE));
        CHECK_CALL(pwrite(file.fd, "x", 1, 30 * (off_t)PAGE));
        CHECK_EQ(load(&file, 30 * PAGE), 'x');
    }
}

/* Pages here and there, in several regions. (A page that grows back is as good as one
 * that was there.) */
static void
holes_in_full_table(const void *kind)
{
    struct file file[3];
    struct safemmap_region region[3];

    begin();
    for (int i = 0; i < 3; i++) {
        file[i] = file_new(64);
        region[i] = region_of(&file[i]);
        region[i].withdrawable = *(const int *)kind & 1;
        region[i].put_back = (*(const int *)kind & 2) != 0;
        region[i].fd = -1;
        CHECK_EQ(safemmap_region_add(&region[i]), 0);
    }
    fill_table();
    for (int i = 0; i < 3; i++)
        for (size_t page = 3; page < 64; page += 7) {
            file_cut(&file[i], page);
            CHECK_EQ(load(&file[i], page * PAGE), 0);
            CHECK_CALL(ftruncate(file[i].fd, 64 * (off_t)PAGE));
        }
    for (int i = 0; i < 3; i++) {
        CHECK(safemmap_region_poisoned(&region[i]));
        CHECK_EQ(safemmap_region_remove(&region[i]), 0);
    }
}

static void
full_table(void)
{
    need_a_small_table();
    for (int kind = 0; kind < 8; kind++) {
        note = NOTE("kind", kind, 0);
        CHECK_EQ(end_in_child(fault_in_full_table, &kind), 0);
        CHECK_EQ(end_in_child(holes_in_full_table, &kind), 0);
    }
}

/* A region for which there will be no zeroed pages is refused. */
static void
nothing_left_for(const void *withdrawable)
{
    struct file file = file_new(8);
    struct safemmap_region first = region_of(&file), region = region_of(&file);

    begin();
    first.withdrawable = region.withdrawable = *(const int *)withdrawable != 0;
    CHECK_EQ(safemmap_region_add(&first), 0);
    forbid_mmap();
    forbid_mremap();
    CHECK_EQ(safemmap_region_add(&region), -EPERM);
    CHECK_EQ(safemmap_region_remove(&first), 0);
}

static void
nothing_left(void)
{
    if (SANITIZED)
        skip("a sanitizer does not get along with these limits");
    for (int kind = 0; kind < 2; kind++)
        CHECK_EQ(end_in_child(nothing_left_for, &kind), 0);
}

/* What cannot be moved aside is gone with its replacement: that is said. */
static void
not_put_back_under(const void *how)
{
    struct file file = file_new(8);
    struct safemmap_region region = region_of(&file);

    begin();
    region.put_back = true;
    CHECK_EQ(safemmap_region_add(&region), 0);
    file_cut(&file, 2);
    if (*(const int *)how == 0) {
        forbid_mremap();
        CHECK_EQ(load(&file, 5 * PAGE), 0);
    } else {
        CHECK_EQ(load(&file, 5 * PAGE), 0);
        forbid_mremap();
    }
    CHECK_EQ(safemmap_region_remove(&region), -EPERM);
}

static void
not_put_back(void)
{
    if (SANITIZED)
        skip("a sanitizer does not get along with these limits");
    for (int how = 0; how < 2; how++)
        CHECK_EQ(end_in_child(not_put_back_under, &how), 0);
}

/* ---- Forks ------------------------------------------------------------- */

static void
child(void)
{
    struct file file = file_new(8);
    struct safemmap_region region = add_region(&file);
    int status;
    pid_t pid;

    begin();
    CHECK_EQ(safemmap_region_add(&region), 0);
    file_cut(&file, 1);
    CHECK_EQ(load(&file, PAGE), 0);
    CHECK_EQ(reports_since(), 1);
    CHECK_CALL(pid = fork());
    if (pid == 0) {
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(load(&file, PAGE), 0);
            CHECK_EQ(reports_since(), 1);
            store(&file, PAGE, 1);
            CHECK_EQ(safemmap_withdraw(last.token), 0);
        }
        exit(0);
    }
    /* The parent's are withdrawn as well. */
    CHECK_EQ(load(&file, PAGE), 0);
    CHECK_EQ(reports_since(), 1);
    CHECK_CALL(waitpid(pid, &status, 0));
    CHECK_EQ(status, 0);
    CHECK_EQ(safemmap_withdraw(last.token), 0);
    CHECK_EQ(load(&file, PAGE), 0);
    CHECK_EQ(reports_since(), 1);
    CHECK_EQ(safemmap_region_remove(&region), 0);
}

/* A child that can have no memory file shares its parent's, who goes on to cut it. */
static void
child_without_file(void)
{
    struct file file = file_new(8);
    struct safemmap_region region = add_region(&file);
    int status, go_on[2];
    pid_t pid;
    char byte = 0;

    begin();
    CHECK_EQ(safemmap_region_add(&region), 0);
    file_cut(&file, 1);
    CHECK_EQ(load(&file, PAGE), 0);
    CHECK_CALL(pipe(go_on));
    CHECK_CALL(pid = fork());
    if (pid == 0) {
        limit_file_size();
        CHECK_EQ(read(go_on[0], &byte, 1), 1);
        reports_since();
        for (size_t page = 1; page < 8; page++)
            CHECK_EQ(load(&file, page * PAGE), 0);
        CHECK(reports_since() > 0);
        exit(0);
    }
    withdraw_often(&file);
    CHECK_EQ(write(go_on[1], &byte, 1), 1);
    CHECK_CALL(waitpid(pid, &status, 0));
    CHECK_EQ(status, 0);
    CHECK_EQ(safemmap_region_remove(&region), 0);
}

TEST_MAIN(TEST(reported_anew), TEST(without_a_hook), TEST(hook_waits),
          TEST(hook_sees_to_the_queue), TEST(each_thread_is_told), TEST(reading_all),
          TEST(reading_anywhere), TEST(many_regions), TEST(steps_far_apart),
          TEST(huge_and_sparse), TEST(holes), TEST(put_back), TEST(overlapping),
          TEST(limited), TEST(full_table), TEST(nothing_left), TEST(not_put_back),
          TEST(child), TEST(child_without_file))
