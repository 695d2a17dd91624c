/* Faults in memory of no region: what is answered, and what must die. */
#include "limits.h"
#include "measures.h"
#include "origins.h"
#include "reports.h"

#include <grp.h>
#include <linux/ioctl.h>
#include <linux/perf_event.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static void
begin(void)
{
    CHECK_EQ(safemmap_process_enable(), 0);
    CHECK(safemmap_process_enabled());
    safemmap_set_fault_hook(note_report);
}

/* What /proc tells of the process comes after its groups then, and after a page. */
static void
in_many_groups(void)
{
    gid_t groups[500];

    for (size_t i = 0; i < COUNT_OF(groups); i++)
        groups[i] = 1000000000 + (gid_t)i;
    if (setgroups(COUNT_OF(groups), groups) < 0)
        skip("needs the right to change groups");
    CHECK(safemmap__os_executable_size() > 0);
    if (!SANITIZED) /* a sanitizer has threads of its own */
        CHECK(safemmap__os_is_only_thread());
}

/* ---- Files ------------------------------------------------------------- */

static char name[] = "/tmp/safemmap-test-XXXXXX";

/* With a name. */
static struct file
file_on_disk(size_t pages)
{
    int fd;

    strcpy(name, "/tmp/safemmap-test-XXXXXX");
    CHECK_CALL(fd = mkstemp(name));
    return file_behind(fd, pages);
}

static void
check_path(const char *want)
{
    char path[4096];

    CHECK_EQ(safemmap_file_path(last.file.id, path, sizeof(path)), strlen(want));
    CHECK_EQ(strcmp(path, want), 0);
    CHECK_EQ(safemmap_file_path(last.file.id, path, strlen(want)), -ERANGE);
    CHECK_EQ(safemmap_file_path(last.file.id + SAFEMMAP_FILES, path, sizeof(path)),
             -ENOENT);
    CHECK_EQ(safemmap_file_path(0, path, sizeof(path)), -ENOENT);
}

/* Each touch after they are withdrawn, and all of it with the file's name. */
static void
reported_anew(void)
{
    struct file file = file_on_disk(64);
    struct stat status;

    begin();
    file_cut(&file, 3);
    CHECK_CALL(fstat(file.fd, &status));
    for (size_t i = 0; i < 6; i++) {
        const size_t offset = (i % 3 == 2 ? 50 : 20) * PAGE + 7;
        bool stored = i == 3;

        note = NOTE("round", (long)i);
        if (stored)
            store(&file, offset, 9);
        else
            CHECK_EQ(load(&file, offset), 0);
        CHECK_EQ(reports_since(), 1);
        CHECK_EQ(events_since(), 1);
        CHECK_EQ(last.region, 0);
        CHECK_EQ(last.fault.address, (uintptr_t)file.map + offset);
        CHECK_EQ(last.fault.code, BUS_ADRERR);
        CHECK_EQ(last.fault.thread, syscall(SYS_gettid));
        CHECK(pthread_equal(last.pthread, pthread_self()));
#if defined(__x86_64__) /* (emulators of others do not tell) */
        CHECK_EQ(last.store, stored);
#endif
        CHECK_EQ(last.file.device, status.st_dev);
        CHECK_EQ(last.file.inode, status.st_ino);
        CHECK_EQ(last.file.offset, offset);
        CHECK_EQ(last.file.size, 3 * (int64_t)PAGE);
        CHECK(!last.file.deleted);
        check_path(name);
        CHECK_EQ(load(&file, offset), stored ? 9 : 0);
        CHECK_EQ(reports_since(), 0);
        CHECK_EQ(safemmap_withdraw(last.token), 0);
    }
    for (size_t page = 0; page < 3; page++)
        CHECK_EQ(load(&file, page * PAGE), pattern(page * PAGE));
    CHECK_EQ(reports_since(), 0);
    CHECK_CALL(unlink(name));
}

/* The caller's memory may be lost as well. */
static void
results_into_lost_pages(void)
{
    struct file file = file_on_disk(1), path = file_gone(), event = file_gone();

    begin();
    file_cut(&file, 0);
    CHECK_EQ(load(&file, 5), 0);
    CHECK_EQ(safemmap_file_path(last.file.id, (char *)path.map, PAGE), strlen(name));
    CHECK_EQ(strcmp((char *)path.map, name), 0);
    CHECK(safemmap_event_take((struct safemmap_event *)event.map));
    CHECK_EQ(((struct safemmap_event *)event.map)->file.offset, 5);
    CHECK_CALL(unlink(name));
}

/* At an offset, of a private mapping with pages copied on write, and no name left. */
static void
kinds_of_mappings(void)
{
    begin();
    for (int kind = 0; kind < 4; kind++) {
        struct file file = kind == 3 ? file_new(32) : file_on_disk(32);
        struct stat status;

        note = NOTE("kind", kind);
        if (kind == 1) {
            CHECK_CALL(munmap(file.map, 32 * PAGE));
            file.map = mmap(NULL, 16 * PAGE, PROT_READ, MAP_SHARED, file.fd,
                            (off_t)(16 * PAGE));
            CHECK(file.map != MAP_FAILED);
        }
        if (kind == 2) {
            CHECK(mmap(file.map, 32 * PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_FIXED, file.fd, 0) == (void *)file.map);
            store(&file, 12 * PAGE, 77);
            CHECK_CALL(unlink(name));
        }
        file_cut(&file, 10);
        CHECK_CALL(fstat(file.fd, &status));
        CHECK_EQ(load(&file, 12 * PAGE + 5), 0);
        CHECK_EQ(reports_since(), 1);
        CHECK_EQ(last.file.offset, (kind == 1 ? 28 : 12) * PAGE + 5);
        CHECK_EQ(last.file.inode, status.st_ino);
        CHECK_EQ(last.file.size, kind < 2 ? 10 * (int64_t)PAGE : -1);
        CHECK_EQ(last.file.deleted, kind >= 2);
        check_path(kind < 3 ? name : "/memfd:test");
        if (kind != 1)
            for (size_t page = 0; page < 10; page++)
                CHECK_EQ(load(&file, page * PAGE), pattern(page * PAGE));
        CHECK_EQ(reports_since(), 0);
        CHECK_EQ(safemmap_withdraw(last.token), 0);
        CHECK_EQ(load(&file, 13 * PAGE + 5), 0);
        CHECK_EQ(reports_since(), 1);
        CHECK_EQ(last.file.offset, (kind == 1 ? 29 : 13) * PAGE + 5);
        CHECK_EQ(last.file.inode, status.st_ino);
        check_path(kind < 3 ? name : "/memfd:test");
        if (kind < 2)
            CHECK_CALL(unlink(name));
    }
}

/* Pages that were never there do not take their neighbours away. */
static void
hole_in_full_filesystem(void)
{
    int other;
    struct file file = file_on_full_filesystem("d-d--d-d", &other);

    begin();
    for (int way = 0; way < 2; way++) {
        for (size_t page = 0; page < file.pages; page++) {
            char want = "d-d--d-d"[page] == 'd' ? 'd' : 0;

            if (way == 0 || want != 0)
                CHECK_EQ(load(&file, page * PAGE), want);
            else
                store(&file, page * PAGE, 3);
        }
        CHECK(reports_since() >= 3);
        CHECK_EQ(last.file.size, 8 * (int64_t)PAGE);
        CHECK_EQ(safemmap_withdraw(last.token), 0);
    }
    check_path("/mnt/sparse");
}

/* Its file is whole again: nothing is replaced for a fault that is over. */
static void
region_comes_first(void)
{
    struct file file = file_gone();
    struct safemmap_region region = region_of(&file);

    begin();
    CHECK_EQ(safemmap_region_add(&region), 0);
    check_recovers(&file);
    CHECK_EQ(load(&file, 0), 0);
    CHECK_EQ(reports_since(), 0);
    CHECK(safemmap_region_poisoned(&region));
    safemmap_region_remove(&region);
}

/* Pages as large as a thousand others. */
static void
huge_pages(void)
{
    const size_t huge = (size_t)2 << 20;
    struct file file = {.pages = 2 * huge / PAGE};

    file.fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);
    if (file.fd < 0 || ftruncate(file.fd, (off_t)(2 * huge)) < 0)
        skip("needs hugetlb");
    file.map = mmap(NULL, 2 * huge, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_NORESERVE, file.fd, 0);
    if (file.map == MAP_FAILED)
        skip("needs hugetlb");
    begin();
    CHECK_CALL(ftruncate(file.fd, 0));
    CHECK_EQ(load(&file, huge + 12345), 0);
    CHECK_EQ(reports_since(), 1);
    CHECK_EQ(last.file.offset, huge + 12345);
    CHECK_EQ(safemmap_withdraw(last.token), 0);
    CHECK_EQ(load(&file, huge + 12345), 0);
    CHECK_EQ(reports_since(), 1);
}

/* A file on another filesystem may have the inode number of our memory file. */
static void
inode_of_zeros(void)
{
    struct file file = file_on_disk(8);
    struct safemmap__origin origin = {.size = 8 * PAGE};
    struct stat status;

    begin();
    CHECK_CALL(fstat(file.fd, &status));
    origin.zeros = status.st_ino;
    safemmap__origin_add(&origin);
    file_cut(&file, 3);
    CHECK_EQ(load(&file, 5 * PAGE), 0);
    CHECK_EQ(last.file.inode, status.st_ino);
    check_path(name);
    CHECK_CALL(unlink(name));
}

/* ---- Size -------------------------------------------------------------- */

static void
large_file_cut_to_nothing(void)
{
    /* (Each page would be touched: 64 GiB take minutes.) */
    const size_t size = (size_t)64 << 30, step = BRIEF ? 64 * PAGE : 16 * PAGE;
    struct file file = {.pages = size / PAGE};
    size_t before, most = 0;

    strcpy(name, "/tmp/safemmap-test-XXXXXX");
    CHECK_CALL(file.fd = mkstemp(name));
    if (ftruncate(file.fd, (off_t)size) < 0)
        skip("needs a filesystem with files of 64 GiB");
    file.map = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_NORESERVE, file.fd, 0);
    CHECK(file.map != MAP_FAILED);
    begin();
    file_cut(&file, 0);
    before = resident();
    for (size_t i = 0; i < size; i += step) {
        CHECK_EQ(load(&file, i), 0);
        if (i % (1 << 28) == 0 && resident() - before > most)
            most = resident() - before;
    }
    CHECK(most < (size_t)64 << 20);
    CHECK(reports_since() < 2200);
    CHECK_EQ(events_since(), 1);
    CHECK_CALL(unlink(name));
}

/* Thousands of faults here and there: neither mappings nor origins run out. */
static void
anywhere(void)
{
    struct file file = file_new(1);
    unsigned random = 1;

    file.pages = (size_t)1 << 20;
    CHECK_CALL(munmap(file.map, PAGE));
    CHECK_CALL(ftruncate(file.fd, (off_t)(file.pages * PAGE)));
    file.map = mmap(NULL, file.pages * PAGE, PROT_READ, MAP_SHARED | MAP_NORESERVE,
                    file.fd, 0);
    CHECK(file.map != MAP_FAILED);
    begin();
    file_cut(&file, 0);
    for (int i = 0; i < SCALED(20000); i++) {
        size_t page;

        random = random * 1103515245u + 12345;
        page = (random >> 1) % file.pages;
        CHECK_EQ(load(&file, page * PAGE), 0);
        if (reports_since() > 0 && last.file.inode != 0)
            CHECK_EQ(last.file.offset, page * PAGE);
        if (i % 3 == 0)
            CHECK_EQ(safemmap_withdraw(last.token), 0);
    }
}

/* The same in many files, even more than are remembered, and whether the process has
 * mappings to spare. */
static const struct many {
    size_t files;
    int times;
    bool spare;
} many[] = {{24, 10000, true},
            {24, 4000, false},
            {100, 4000, false},
            {SAFEMMAP_FILES + 100, 2500, true}};

/* Whether the kernel finds a mapping in the same time however many there are
 * (PROCMAP_QUERY, Linux 6.11). */
static bool
has_query(void)
{
    struct safemmap__mapping mapping;
    int maps = safemmap__os_open("/proc/self/maps");
    bool has;

    CHECK_EQ(safemmap__os_mapping_at(maps, (uintptr_t)&maps, &mapping, NULL), 0);
    has = lseek(maps, 0, SEEK_CUR) == 0;
    CHECK_CALL(close(maps));
    return has;
}

static void
many_files_at(const void *argument)
{
    const struct many *kind = argument;
    struct file *files = malloc(kind->files * sizeof(*files));
    unsigned before;

    CHECK(files != NULL);
    begin();
    for (size_t i = 0; i < kind->files; i++) {
        files[i] = large_file((size_t)1 << 30);
        file_cut(&files[i], 0);
        CHECK_CALL(close(files[i].fd));
    }
    before = mappings();
    if (!kind->spare)
        leave_mappings(1000);
    touch_anywhere(files, kind->files, SCALED(kind->times));
    if (kind->spare)
        CHECK(mappings() < before + 10000);
    free(files);
}

static void
many_files(void)
{
    need_a_small_table();
    for (size_t i = 0; i < COUNT_OF(many); i++) {
        note = NOTE("kind", (long)i);
        if (BRIEF && !many[i].spare && !has_query())
            continue; /* each fault reads the list of 60,000 mappings */
        CHECK_EQ(end_in_child(many_files_at, &many[i]), 0);
    }
}

/* On through a large file, whether its size is known or not, and whether each step
 * follows the one before: they leave few mappings behind. */
static void
steps_far_apart(void)
{
    static const size_t apart[] = {(size_t)1 << 23, (size_t)1 << 25};

    begin();
    for (size_t i = 0; i < 2 * COUNT_OF(apart); i++) {
        const size_t size = (size_t)1200 * apart[i / 2];
        struct file file = i % 2 == 0 ? file_on_disk(1) : file_new(1);
        unsigned before = mappings();

        note = NOTE("way", (long)i);
        if (BRIEF && i % 2 == 1)
            continue; /* many thousand pages are probed */
        CHECK_CALL(munmap(file.map, PAGE));
        CHECK_CALL(ftruncate(file.fd, (off_t)size));
        file.map =
            mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_NORESERVE, file.fd, 0);
        CHECK(file.map != MAP_FAILED);
        file_cut(&file, 0);
        for (size_t at = 0; at < size; at += apart[i / 2])
            CHECK_EQ(load(&file, at), 0);
        CHECK(mappings() < before + 700);
        CHECK_CALL(munmap(file.map, size));
        CHECK_CALL(close(file.fd));
        if (i % 2 == 0)
            CHECK_CALL(unlink(name));
    }
}

/* ---- What must still die ----------------------------------------------- */

static void
kill_self(void)
{
    CHECK_CALL(kill(getpid(), SIGBUS));
    await_death();
}

static void
raise_it(void)
{
    raise(SIGBUS);
}

static void
raise_after_a_fault(void)
{
    struct file file = file_gone();

    CHECK_EQ(load(&file, 5), 0);
    CHECK_EQ(safemmap_withdraw(last.token), 0);
    raise(SIGBUS);
}

static void
misaligned(void)
{
#if defined(__x86_64__) && !SANITIZED
    static char bytes[16];

    /* The processor checks it from here on. */
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() | 0x40000);
    __asm__ volatile("movl 1(%0), %%eax" ::"r"(bytes) : "eax", "memory");
#else
    raise(SIGBUS);
#endif
}

static void
blocked(void)
{
    struct file file = file_gone();
    sigset_t mask;

    sigemptyset(&mask);
    sigaddset(&mask, SIGBUS);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &mask, NULL), 0);
    (void)load(&file, 0);
}

static void
no_access(void)
{
    struct file file = file_gone();

    CHECK_CALL(mprotect(file.map, PAGE, PROT_NONE));
    (void)load(&file, 0);
}

static void
read_only(void)
{
    struct file file = file_gone();

    CHECK_CALL(mprotect(file.map, PAGE, PROT_READ));
    store(&file, 0, 1);
}

static void
null(void)
{
    struct file file = {.map = NULL};

    (void)load(&file, 0);
}

/* Code that is gone, whether it is run or read. */
static void
executable(void)
{
    struct file file = file_gone();

    CHECK_CALL(mprotect(file.map, PAGE, PROT_READ | PROT_EXEC));
    (void)load(&file, 0);
}

/* A library's data, or the writable one of a compiler's two mappings. */
static void
executable_elsewhere(void)
{
    struct file file = file_gone();

    CHECK(mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, file.fd, 0) !=
          MAP_FAILED);
    (void)load(&file, 0);
}

/* The same, once it is known that others are not. */
static void
executable_later(void)
{
    struct file file = file_gone(), other = file_gone();

    CHECK_EQ(load(&other, 0), 0);
    usleep(20000);
    CHECK(mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, file.fd, 0) !=
          MAP_FAILED);
    (void)load(&file, 0);
}

/* The list of mappings can be read, but not when they are looked for. */
static void
executables_unknown(void)
{
    struct file file = file_gone();

    without_query();
    if (!refuse_second(SYS_lseek))
        raise(SIGBUS);
    (void)load(&file, 0);
}

static void
anonymous(void)
{
    /* Huge pages that are not there. */
    struct file file;

    file.map = mmap(NULL, (size_t)2 << 20, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0);
    if (file.map == MAP_FAILED)
        raise(SIGBUS);
    for (size_t i = 0; i < 1000; i++)
        (void)load(&file, 0);
    raise(SIGBUS);
}

static void
after_the_end(void)
{
    struct file file = file_gone();

    CHECK_EQ(load(&file, 0), 0);
    CHECK_EQ(safemmap_withdraw(last.token), 0);
    safemmap_process_disable();
    CHECK(!safemmap_process_enabled());
    (void)load(&file, 0);
}

/* Another's handler finds what it has always found. */
static void
perf_ring(void)
{
    struct perf_event_attr attributes = {.size = sizeof(attributes),
                                         .type = PERF_TYPE_SOFTWARE,
                                         .config = PERF_COUNT_SW_DUMMY};
    int fd = (int)syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0);
    struct file file;

    if (fd < 0)
        raise(SIGBUS); /* not permitted here */
    file.map = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (file.map == MAP_FAILED)
        raise(SIGBUS);
    CHECK(!safemmap__os_is_ordinary((uintptr_t)file.map, PAGE));
    raise(SIGBUS);
}

static const struct {
    const char *name;
    void (*run)(void);
    int signal;
} deaths[] = {{"kill", kill_self, SIGBUS},
              {"raise", raise_it, SIGBUS},
              {"raise after a fault", raise_after_a_fault, SIGBUS},
              {"misaligned", misaligned, SIGBUS},
              {"blocked", blocked, SIGBUS},
              {"PROT_NONE", no_access, SIGSEGV},
              {"read-only", read_only, SIGSEGV},
              {"NULL", null, SIGSEGV},
              {"executable", executable, SIGBUS},
              {"executable elsewhere", executable_elsewhere, SIGBUS},
              {"executable later", executable_later, SIGBUS},
              {"executables unknown", executables_unknown, SIGBUS},
              {"anonymous", anonymous, SIGBUS},
              {"after the end", after_the_end, SIGBUS},
              {"perf ring", perf_ring, SIGBUS}};

static void
die(const void *death)
{
    signal(SIGSEGV, SIG_DFL); /* not a sanitizer's */
    begin();
    deaths[*(const size_t *)death].run();
}

static void
what_must_die(void)
{
    for (size_t i = 0; i < COUNT_OF(deaths); i++) {
        note = NOTE("death", (long)i);
        CHECK_EQ(end_in_child(die, &i), deaths[i].signal);
    }
}

/* A device's memory is no file's. */
static void
devices(void)
{
    static const char *const refused[] = {"/dev/zero", "/proc/self/maps", NULL};
    struct safemmap__file_status status;

    for (size_t i = 0; refused[i] != NULL; i++) {
        CHECK_EQ(safemmap__os_file_of(refused[i], &status), 0);
        CHECK_EQ(status.regular, i == 1);
    }
}

/* ---- Forks, threads and descriptors ------------------------------------ */

static void
child(void)
{
    struct file file = file_on_disk(16), later;
    int status;
    pid_t pid;

    begin();
    file_cut(&file, 0);
    CHECK_EQ(load(&file, PAGE), 0);
    CHECK_EQ(reports_since(), 1);
    CHECK_CALL(pid = fork());
    if (pid == 0) {
        CHECK(safemmap_process_enabled());
        later = file_gone();
        for (int i = 0; i < 2; i++) {
            CHECK_EQ(load(&file, PAGE), 0);
            CHECK_EQ(reports_since(), 1);
            check_path(name);
            CHECK_EQ(last.file.offset, PAGE);
            /* The list of mappings is the child's. */
            CHECK_EQ(load(&later, 3), 0);
            CHECK_EQ(reports_since(), 1);
            check_path("/memfd:test");
            CHECK_EQ(safemmap_withdraw(last.token), 0);
        }
        exit(0);
    }
    CHECK_CALL(waitpid(pid, &status, 0));
    CHECK_EQ(status, 0);
    CHECK_EQ(load(&file, PAGE), 0);
    CHECK_EQ(reports_since(), 1);
    check_path(name);
    CHECK_CALL(unlink(name));
}

/* Not even a memory file: its zeros stay, and are reported all the same. They are of
 * its parent's file, who goes on to cut that. */
static void
child_without_file(void)
{
    struct file file = file_new(16);
    int status, ends[2];
    pid_t pid;
    char byte = 0;

    begin();
    file_cut(&file, 0);
    CHECK_EQ(load(&file, PAGE), 0);
    CHECK_EQ(reports_since(), 1);
    CHECK_CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    CHECK_CALL(pid = fork());
    if (pid == 0) {
        struct file later = file_gone();

        limit_file_size();
        CHECK_EQ(load(&file, PAGE), 0);
        CHECK_EQ(reports_since(), 1);
        CHECK_EQ(events_since(), 1);
        CHECK_EQ(last.token, 0);
        CHECK_EQ(load(&later, 0), 0);
        CHECK_EQ(reports_since(), 1);
        CHECK_EQ(write(ends[1], &byte, 1), 1);
        CHECK_EQ(read(ends[1], &byte, 1), 1);
        for (size_t page = 0; page < 16; page++)
            CHECK_EQ(load(&file, page * PAGE), 0);
        CHECK(reports_since() > 0);
        exit(0);
    }
    CHECK_EQ(read(ends[0], &byte, 1), 1);
    withdraw_often(&file);
    CHECK_EQ(write(ends[0], &byte, 1), 1);
    CHECK_CALL(waitpid(pid, &status, 0));
    CHECK_EQ(status, 0);
}

static void
descriptors_closed(void)
{
    struct file file = file_new(64);

    begin();
    file_cut(&file, 0);
    CHECK_EQ(load(&file, PAGE), 0);
    CHECK_EQ(reports_since(), 1);
    for (int way = 0; way < 2; way++) {
        if (way == 0)
            close_all();
        else
            reopen_all();
        CHECK_EQ(load(&file, 32 * PAGE + (size_t)way), 0);
        CHECK_EQ(reports_since(), 1);
        safemmap_withdraw(last.token);
    }
}

static bool cancelled;

static void *
load_when_cancelled(void *file)
{
    while (!__atomic_load_n(&cancelled, __ATOMIC_SEQ_CST))
        sched_yield();
    CHECK_EQ(load(file, 0), 0);
    for (;;)
        pause();
}

/* Not in the handler, which opens and closes files here, and holds the pages. */
static void
cancelled_thread(void)
{
    struct file file = file_gone();
    pthread_t thread;

    begin();
    CHECK_EQ(pthread_create(&thread, NULL, load_when_cancelled, &file), 0);
    CHECK_EQ(pthread_cancel(thread), 0);
    reopen_all();
    __atomic_store_n(&cancelled, true, __ATOMIC_SEQ_CST);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(safemmap_withdraw(last.token), 0);
    CHECK_EQ(load(&file, 0), 0);
}

static void
fault_under(const void *limit)
{
    struct file file = file_new(64);

    begin();
    file_cut(&file, 2);
    if (limits[*(const size_t *)limit].set != NULL)
        limits[*(const size_t *)limit].set();
    CHECK_EQ(load(&file, 30 * PAGE), 0);
    CHECK_EQ(reports_since(), 1);
    CHECK_EQ(safemmap_withdraw(last.token), 0);
    store(&file, 40 * PAGE, 4);
    CHECK_EQ(load(&file, 40 * PAGE), 4);
    CHECK_EQ(reports_since(), 1);
    CHECK_EQ(load(&file, PAGE), pattern(PAGE));
}

static void
limited(void)
{
    if (SANITIZED)
        skip("a sanitizer does not get along with these limits");
    for (size_t i = 0; i < COUNT_OF(limits); i++) {
        note = NOTE("limit", (long)i);
        CHECK_EQ(end_in_child(fault_under, &i), 0);
    }
}

/* More than there is room for. Then the rest of the mapping is lost, and each touch
 * of it is reported. */
static void
holes_in_full_table(const void *unused)
{
    char layout[201] = "";
    int other;
    struct file file;

    (void)unused;
    for (size_t page = 0; page < 100; page++)
        strcat(layout, "d-");
    file = file_on_full_filesystem(layout, &other);
    begin();
    fill_table();
    for (size_t page = 1; page < file.pages; page += 2)
        CHECK_EQ(load(&file, page * PAGE), 0);
    CHECK(reports_since() > 0);
    CHECK_EQ(safemmap_withdraw(last.token), 0);
    CHECK_EQ(load(&file, (file.pages - 2) * PAGE), 0);
    CHECK_EQ(reports_since(), 1);
}

static void
full_table(void)
{
    need_a_small_table();
    CHECK_EQ(end_in_child(holes_in_full_table, NULL), 0);
}

/* ---- Older kernels ----------------------------------------------------- */

static void
check_that_text_is_read(void)
{
    struct safemmap__mapping mapping;
    int maps = safemmap__os_open("/proc/self/maps");

    CHECK_EQ(safemmap__os_mapping_at(maps, (uintptr_t)&mapping, &mapping, NULL), 0);
    CHECK(lseek(maps, 0, SEEK_CUR) > 0);
    CHECK_CALL(close(maps));
}

/* Before 5.14: MADV_POPULATE_READ and MADV_POPULATE_WRITE. */
static void
without_populate(void)
{
    without_query();
    deny(SYS_madvise, 2, 22, 23, EINVAL);
}

/* Before 5.13: MREMAP_DONTUNMAP for a file's pages. */
static void
without_dontunmap(void)
{
    without_populate();
    deny(SYS_mremap, 3, 4 | MREMAP_MAYMOVE | MREMAP_FIXED, 4 | MREMAP_MAYMOVE,
         EINVAL);
}

struct on_older {
    void (*set)(void);
    void (*run)(void);
};

static void
run_on_older(const void *argument)
{
    const struct on_older *test = argument;

    test->set();
    check_that_text_is_read();
    test->run();
}

static void
older_kernels(void)
{
    static void (*const kernels[])(void) = {without_query, without_populate,
                                            without_dontunmap};
    static void (*const tests[])(void) = {
        reported_anew, inode_of_zeros,     kinds_of_mappings, hole_in_full_filesystem,
        huge_pages,    region_comes_first, what_must_die,     child,
        full_table,    descriptors_closed};

    if (SANITIZED)
        skip("a sanitizer does not get along with these limits");
    for (size_t i = 0; i < COUNT_OF(kernels); i++)
        for (size_t j = 0; j < COUNT_OF(tests); j++) {
            const struct on_older test = {kernels[i], tests[j]};

            note = NOTE("kernel, test", (long)i, (long)j);
            CHECK_EQ(end_in_child(run_on_older, &test), 0);
        }
}

/* ---- A storm ----------------------------------------------------------- */

static bool stop;
static unsigned long mapped;

/* What a correct program does: each mapping is its own until it is unmapped. */
static void *
map_and_unmap(void *unused)
{
    (void)unused;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        unsigned long *pages[8];

        for (size_t i = 0; i < COUNT_OF(pages); i++) {
            pages[i] = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            CHECK(pages[i] != MAP_FAILED);
            for (size_t at = 0; at < 4 * PAGE / sizeof(long); at += 512)
                pages[i][at] = i + 1;
        }
        for (size_t i = 0; i < COUNT_OF(pages); i++) {
            for (size_t at = 0; at < 4 * PAGE / sizeof(long); at += 512)
                CHECK_EQ(pages[i][at], i + 1);
            CHECK_CALL(munmap(pages[i], 4 * PAGE));
        }
        __atomic_fetch_add(&mapped, COUNT_OF(pages), __ATOMIC_RELAXED);
    }
    return NULL;
}

static void
storm(void)
{
    pthread_t thread[2];
    struct safemmap_counts counts;
    const char *wanted = getenv("SAFEMMAP_OVERLAYS");
    const unsigned long goal =
        wanted != NULL ? strtoul(wanted, NULL, 10) : (unsigned long)SCALED(20000);

    alarm(0);
    CHECK_EQ(safemmap_process_enable(), 0);
    for (size_t i = 0; i < COUNT_OF(thread); i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, map_and_unmap, NULL), 0);
    do {
        struct file file = file_new(4);
        struct safemmap_event event;

        file_cut(&file, 1);
        CHECK_EQ(load(&file, 2 * PAGE), 0);
        CHECK_EQ(load(&file, 0), pattern(0));
        while (safemmap_event_take(&event))
            CHECK_EQ(safemmap_withdraw(event.token), 0);
        CHECK_EQ(load(&file, 3 * PAGE), 0);
        CHECK_EQ(load(&file, 2 * PAGE), 0);
        file_free(&file);
        safemmap_get_counts(&counts);
    } while (counts.overlaid < goal);
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (size_t i = 0; i < COUNT_OF(thread); i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
}

/* ---- Names ------------------------------------------------------------- */

/* Longer than the kernel tells with one mapping: the file is a peer's. */
static void
long_path(void)
{
    enum { DEPTH = 20 };
    char top[] = "/tmp/safemmap-test-XXXXXX", part[251] = "", path[4096];
    struct file file;
    int fd;

    memset(part, 'x', sizeof(part) - 1);
    CHECK(mkdtemp(top) != NULL);
    CHECK_CALL(chdir(top));
    for (int i = 0; i < DEPTH; i++) {
        CHECK_CALL(mkdir(part, 0700));
        CHECK_CALL(chdir(part));
    }
    CHECK_CALL(fd = open("file", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    file = file_behind(fd, 1);
    CHECK_CALL(unlink("file"));
    for (int i = 0; i < DEPTH; i++) {
        CHECK_CALL(chdir(".."));
        CHECK_CALL(rmdir(part));
    }
    begin();
    file_cut(&file, 0);
    CHECK_EQ(load(&file, 0), 0);
    CHECK_EQ(safemmap_file_path(last.file.id, path, sizeof(path)), sizeof(path) - 1);
    CHECK_EQ(strncmp(path, top, strlen(top)), 0);
    CHECK_CALL(chdir("/"));
    CHECK_CALL(rmdir(top));
    file_free(&file);
}

/* ---- Time -------------------------------------------------------------- */

enum { FAULTS = 2000 };

/* For a fault in the file's page; each time as if nothing had been there yet. */
static double
processor_time(const struct file *file)
{
    double best = 1;

    for (int turn = 0; turn < 5; turn++) {
        double took = 0;

        for (int i = 0; i < FAULTS; i++) {
            double began = seconds(CLOCK_THREAD_CPUTIME_ID);

            CHECK_EQ(load(file, 0), 0);
            took += seconds(CLOCK_THREAD_CPUTIME_ID) - began;
            CHECK_EQ(safemmap_withdraw(last.token), 0);
            CHECK(mmap(file->map, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, file->fd,
                       0) == (void *)file->map);
        }
        if (took / (double)FAULTS < best)
            best = took / (double)FAULTS;
    }
    return best;
}

/* What every handler takes that maps a zeroed page, and what the kernel takes before
 * and after it. */
static uintptr_t least_page;

static void
map_zeros(int signo)
{
    sigset_t mask = safemmap__hold_pages();

    (void)signo;
    CHECK_EQ(safemmap__zeros_map(least_page, PAGE, PROT_READ, &last.token), 0);
    safemmap__release_pages(&mask);
}

static double
least_time(void)
{
    struct sigaction action = {.sa_handler = map_zeros}, before;
    struct file file = file_gone();
    double took;

    CHECK_EQ(safemmap__zeros_prepare(), 0);
    CHECK_CALL(sigaction(SIGBUS, &action, &before));
    least_page = (uintptr_t)file.map;
    took = processor_time(&file);
    CHECK_CALL(sigaction(SIGBUS, &before, NULL));
    file_free(&file);
    return took;
}

/* Whatever the number of mappings. */
static void
time_taken(void)
{
    static const size_t counts[] = {100, 1000, 20000, 60000};
    double least, first = 0;

    if (SANITIZED)
        skip("a sanitizer takes time of its own");
    if (!has_query())
        skip("needs PROCMAP_QUERY (Linux 6.11)");
    least = least_time();
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        struct file file = file_on_disk(1);
        double took;
        char *pages = mmap(NULL, 2 * counts[i] * PAGE, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        note = NOTE("mappings", (long)counts[i]);
        CHECK(pages != MAP_FAILED);
        for (size_t at = 0; at < counts[i]; at += 2)
            CHECK_CALL(mprotect(pages + at * PAGE, PAGE, PROT_READ));
        begin();
        file_cut(&file, 0);
        took = processor_time(&file);
        printf("# %zu mappings: %.1f us, of which the least is %.1f\n", counts[i],
               took * 1e6, least * 1e6);
        if (i == 0)
            first = took;
        CHECK(took < 2 * first);
        CHECK_CALL(munmap(pages, 2 * counts[i] * PAGE));
        CHECK_CALL(unlink(name));
        file_free(&file);
    }
}

TEST_MAIN(TEST(reported_anew), TEST(inode_of_zeros), TEST(results_into_lost_pages),
          TEST(kinds_of_mappings), TEST(hole_in_full_filesystem),
          TEST(region_comes_first), TEST(huge_pages), TEST(large_file_cut_to_nothing),
          TEST(anywhere), TEST(many_files), TEST(steps_far_apart),
          TEST(what_must_die), TEST(devices), TEST(child), TEST(child_without_file),
          TEST(descriptors_closed), TEST(in_many_groups), TEST(cancelled_thread),
          TEST(limited), TEST(full_table), TEST(older_kernels), TEST(storm),
          TEST(long_path), TEST(time_taken))
