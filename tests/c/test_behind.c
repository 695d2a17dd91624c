/* Which files are mapped in a range: behind.c, mappings.c, and the list as text. */
#include "limits.h"

static struct safemmap_files found;

static int
look(const void *start, size_t size)
{
    memset(&found, 0xee, sizeof(found));
    return safemmap_files_behind((uintptr_t)start, (uintptr_t)start + size, &found);
}

#define CHECK_FOUND(wanted_path, wanted_protection)     \
    do {                                                \
        CHECK_EQ(strcmp(found.path, wanted_path), 0);   \
        CHECK_EQ(found.protection, wanted_protection);  \
        CHECK_EQ(found.page_size, safemmap__page_size); \
    } while (0)

/* ---- What is there ------------------------------------------------------ */

static void *
map(size_t pages, int protection, int fd)
{
    const int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    void *start = mmap(NULL, pages * PAGE, protection, flags, fd, 0);

    CHECK(start != MAP_FAILED);
    return start;
}

static void
map_at(char *start, size_t pages, int protection, int flags, int fd)
{
    CHECK(mmap(start, pages * PAGE, protection, MAP_FIXED | flags, fd, 0) == start);
}

/* Ranges over one mapping, over several, and over none. */
static void
look_at_all(void)
{
    const int both = PROT_READ | PROT_WRITE;
    char name[] = "/tmp/a b\n c\xff.XXXXXX", *start;
    struct file nameless = file_new(4);
    int fd;

    CHECK_CALL(fd = mkstemp(name));
    CHECK_CALL(ftruncate(fd, (off_t)(4 * PAGE)));
    start = map(16, PROT_NONE, -1);
    map_at(start + 2 * PAGE, 2, both, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    map_at(start + 4 * PAGE, 2, PROT_READ, MAP_SHARED, nameless.fd);
    map_at(start + 6 * PAGE, 2, PROT_READ, MAP_PRIVATE, fd);
    map_at(start + 8 * PAGE, 2, PROT_WRITE, MAP_SHARED, fd);
    map_at(start + 10 * PAGE, 2, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1);
    CHECK_CALL(munmap(start + 12 * PAGE, 2 * PAGE));

    CHECK_EQ(look(start, 4 * PAGE), 0);
    CHECK_EQ(found.page_size, 0);
    CHECK_EQ(found.protection, 0);
    CHECK_EQ(found.path[0], '\0');
    CHECK_EQ(look(start + 12 * PAGE, 4 * PAGE), 0);
    CHECK_EQ(found.page_size, 0);

    CHECK_EQ(look(start + 4 * PAGE, 2 * PAGE), 0);
    CHECK_FOUND("/memfd:test (deleted)", PROT_READ);
    CHECK_EQ(look(start + 6 * PAGE, 2 * PAGE), 0);
    CHECK_FOUND(name, PROT_READ);
    CHECK_EQ(look(start + 7 * PAGE, 1), 0);
    CHECK_FOUND(name, PROT_READ);
    CHECK_EQ(look(start + 7 * PAGE, PAGE + 1), 0);
    CHECK_FOUND(name, both);
    CHECK_EQ(look(start + 8 * PAGE, PAGE), 0);
    CHECK_FOUND(name, PROT_WRITE);
    CHECK_EQ(look(start + 10 * PAGE, 2 * PAGE), 0);
    CHECK_FOUND("/dev/zero (deleted)", PROT_READ);
    CHECK_EQ(look(start, 16 * PAGE), 0);
    CHECK_FOUND("/memfd:test (deleted)", both);
    CHECK_CALL(unlink(name));
}

static void
by_query(void)
{
    look_at_all();
}

static void
by_text(void)
{
    without_query();
    look_at_all();
}

/* What replaces lost pages names no file of the program's. */
static void
overlays_have_no_name(void)
{
    struct file file = file_new(4);
    struct safemmap_region region = region_of(&file);

    region.withdrawable = true;
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    file_cut(&file, 2);
    CHECK_EQ(load(&file, 3 * PAGE), 0);
    CHECK_EQ(look(file.map + 3 * PAGE, PAGE), 0);
    CHECK_FOUND("", PROT_READ | PROT_WRITE);
    CHECK_EQ(look(file.map, 4 * PAGE), 0);
    CHECK_FOUND("/memfd:test (deleted)", PROT_READ | PROT_WRITE);
    CHECK_EQ(safemmap_region_remove(&region), 0);
}

static void
huge(void)
{
    int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);
    char *start;

    if (fd < 0 || ftruncate(fd, 4 << 20) < 0)
        skip("needs hugetlb");
    start = mmap(NULL, 4 << 20, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (start == MAP_FAILED)
        skip("needs hugetlb");
    CHECK_EQ(look(start, 1), 0);
    CHECK(found.page_size > safemmap__page_size);
    without_query();
    size_t page_size = found.page_size;
    CHECK_EQ(look(start, 1), 0);
    CHECK_EQ(found.page_size, page_size);
}

/* ---- What the kernel may write, made up ---------------------------------- */

static void
put_in_place(const char *file, const char *text)
{
    char name[] = "/tmp/XXXXXX";
    int fd = mkstemp(name);

    CHECK_CALL(fd);
    CHECK_EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    CHECK_CALL(close(fd));
    if (mount(name, file, "none", MS_BIND, NULL) < 0)
        skip("needs the right to mount");
    CHECK_CALL(unlink(name));
}

static void
in_place_of_the_lists(const char *maps, const char *smaps)
{
    if (unshare(CLONE_NEWNS) < 0 ||
        mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0)
        skip("needs the right to mount");
    put_in_place("/proc/self/maps", maps);
    put_in_place("/proc/thread-self/smaps", smaps);
}

/* As a FUSE server may give it; there is its device to tell that it is one. */
static void
file_of_number_0(void)
{
    in_place_of_the_lists(
        "7f0000001000-7f0000002000 r--s 00000000 00:27 0    /mnt/f\n"
        "7f0000002000-7f0000003000 r--s 00000000 00:00 0    /mnt/f\n",
        "");
    CHECK_EQ(look((void *)0x7f0000001000, 1), 0);
    CHECK_FOUND("/mnt/f", PROT_READ);
    CHECK_EQ(look((void *)0x7f0000002000, 1), 0);
    CHECK_EQ(found.page_size, 0);
}

/* The second is one that has no name any more. */
static void
page_sizes(void)
{
    in_place_of_the_lists(
        "7f0000000000-7f0000010000 rw-s 00000000 00:10 7    /a\n"
        "7f0000200000-7f0000400000 rw-s 00000000 00:10 8    /b (deleted)\n"
        "7f0000400000-7f0000600000 rw-s 00000000 00:10 8    /b (deleted)\n",
        "7f0000000000-7f0000010000 rw-s 00000000 00:10 7    /a\n"
        "Size:                 64 kB\n"
        "KernelPageSize:        4 kB\n"
        "VmFlags: rd wr sh\n"
        "7f0000200000-7f0000400000 rw-s 00000000 00:10 8    /b (deleted)\n"
        "Size:               2048 kB\n"
        "KernelPageSize:     2048 kB\n"
        "7f0000400000-7f0000600000 rw-s 00000000 00:10 8    /b (deleted)\n"
        "VmFlags: rd\n");
    CHECK_EQ(look((void *)0x7f0000000000, 1), 0);
    CHECK_EQ(found.page_size, 4096);
    CHECK_EQ(look((void *)0x7f0000200000, 1), 0);
    CHECK_EQ(found.page_size, 2 << 20);
    CHECK_EQ(look((void *)0x7f0000400000, 1), 0);
    CHECK_EQ(found.page_size, safemmap__page_size);
}

/* ---- The descriptor ------------------------------------------------------ */

static const char list[] = "/proc/%d/maps";

/* The descriptor that stays open, or -1. */
static int
open_list(pid_t process)
{
    char wanted[32], link[32], name[32] = "";

    snprintf(wanted, sizeof(wanted), list, process);
    for (int fd = 0; fd < 100; fd++) {
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t size = readlink(link, name, sizeof(name) - 1);
        if (size > 0 && strncmp(name, wanted, (size_t)size) == 0 &&
            wanted[size] == '\0')
            return fd;
    }
    return -1;
}

static void
stays_open(void)
{
    struct file file = file_new(1);
    int fd;

    CHECK_EQ(look(file.map, PAGE), 0);
    CHECK((fd = open_list(getpid())) >= 0);
    CHECK_EQ(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(look(file.map, PAGE), 0);
    CHECK_EQ(open_list(getpid()), fd);
    CHECK_EQ(dup(0), fd + 1);
}

/* Its number is then that of a file of the program's, which is not touched. */
static void
closed_by_the_program(void)
{
    struct file file = file_new(1);
    int fd, other;

    CHECK_EQ(look(file.map, PAGE), 0);
    CHECK((fd = open_list(getpid())) >= 0);
    CHECK_CALL(other = memfd_create("other", 0));
    CHECK_EQ(dup2(other, fd), fd);
    CHECK_EQ(look(file.map, PAGE), 0);
    CHECK_FOUND("/memfd:test (deleted)", PROT_READ | PROT_WRITE);
    CHECK_CALL(fcntl(fd, F_GETFD));
    CHECK(open_list(getpid()) > fd);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
}

static void
cannot_be_opened(void)
{
    struct file file = file_new(1);
    struct rlimit before, none;

    CHECK_CALL(getrlimit(RLIMIT_NOFILE, &before));
    none = (struct rlimit){0, before.rlim_max};
    CHECK_CALL(setrlimit(RLIMIT_NOFILE, &none));
    CHECK_EQ(look(file.map, PAGE), -EMFILE);
    CHECK_CALL(setrlimit(RLIMIT_NOFILE, &before));
    CHECK_EQ(look(file.map, PAGE), 0);
}

/* The lowest number that is free. */
static int
next_number(void)
{
    int fd;

    CHECK_CALL(fd = dup(0));
    CHECK_CALL(close(fd));
    return fd;
}

static void
cannot_be_looked_at(void)
{
    struct file file = file_new(1);
    int fd = next_number();

    deny(SYS_newfstatat, 0, (unsigned)fd, (unsigned)fd, EIO);
    deny(SYS_fstat, 0, (unsigned)fd, (unsigned)fd, EIO);
    CHECK_EQ(look(file.map, PAGE), -EIO);
    CHECK_EQ(next_number(), fd);
}

static void
cannot_be_read(void)
{
    struct file file = file_new(1);
    int fd = next_number();

    CHECK_EQ(look(file.map, PAGE), 0);
    CHECK_EQ(open_list(getpid()), fd);
    without_query();
    deny(SYS_read, 0, (unsigned)fd, (unsigned)fd, EIO);
    CHECK_EQ(look(file.map, PAGE), -EIO);
}

/* The file is mapped after the fork, and the parent has nothing there. */
static void
look_in_child(const void *start)
{
    struct file file = file_new(1);

    map_at((char *)start, 1, PROT_READ, MAP_SHARED, file.fd);
    CHECK_EQ(look(start, PAGE), 0);
    CHECK_FOUND("/memfd:test (deleted)", PROT_READ);
    CHECK_EQ(open_list(getppid()), -1);
}

static void
in_a_forked_child(void)
{
    void *start = map(1, PROT_NONE, -1);

    CHECK_EQ(look(start, PAGE), 0);
    CHECK_EQ(end_in_child(look_in_child, start), 0);
}

/* Without the fork handlers. */
static void
in_a_child_of_the_bare_call(void)
{
    void *start = map(1, PROT_NONE, -1);
    int status;
    pid_t child;

    CHECK_EQ(look(start, PAGE), 0);
    CHECK_CALL(child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    if (child == 0) {
        look_in_child(start);
        _exit(0);
    }
    CHECK_CALL(waitpid(child, &status, 0));
    CHECK_EQ(status, 0);
}

/* ---- Without the first thread --------------------------------------------- */

static pthread_t first;

static void *
look_on_a_third(void *file)
{
    CHECK_EQ(look(((struct file *)file)->map, PAGE), 0);
    CHECK_FOUND("/memfd:test (deleted)", PROT_READ | PROT_WRITE);
    return NULL;
}

/* (The thread that opened the list may end, too.) */
static void *
look_on_a_second(void *file)
{
    pthread_t thread;

    CHECK_EQ(pthread_join(first, NULL), 0);
    for (int way = 0; way < 2; way++) {
        CHECK_EQ(pthread_create(&thread, NULL, look_on_a_third, file), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK_EQ(safemmap_process_enable(), 0);
        look_on_a_third(file);
        without_query();
    }
    _exit(0);
}

/* /proc/self is that thread's, and its list of mappings is empty then. */
static void
first_thread_has_ended(void)
{
    static struct file file;
    pthread_t thread;

    if (SANITIZED)
        skip("a sanitizer's first thread must not end");
    file = file_new(1);
    first = pthread_self();
    CHECK_EQ(pthread_create(&thread, NULL, look_on_a_second, &file), 0);
    pthread_exit(NULL);
}

/* ---- Threads and forks at once ------------------------------------------- */

static _Atomic bool ended;

static void *
look_until_the_end(void *start)
{
    struct safemmap_files files;

    while (!ended) {
        CHECK_EQ(
            safemmap_files_behind((uintptr_t)start, (uintptr_t)start + PAGE, &files),
            0);
        CHECK_EQ(strcmp(files.path, "/memfd:test (deleted)"), 0);
    }
    return NULL;
}

static void
look_once(const void *start)
{
    CHECK_EQ(look(start, PAGE), 0);
    CHECK_FOUND("/memfd:test (deleted)", PROT_READ | PROT_WRITE);
    _exit(0); /* a sanitizer would look for the other threads at exit */
}

static void
forks_while_others_look(void)
{
    struct file file = file_new(1);
    pthread_t thread[2];

    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, look_until_the_end, file.map), 0);
    for (int i = 0; i < SCALED(300); i++)
        CHECK_EQ(end_in_child(look_once, file.map), 0);
    ended = true;
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
}

TEST_MAIN(TEST(by_query), TEST(by_text), TEST(overlays_have_no_name), TEST(huge),
          TEST(file_of_number_0), TEST(page_sizes), TEST(stays_open),
          TEST(closed_by_the_program), TEST(cannot_be_opened),
          TEST(cannot_be_looked_at), TEST(cannot_be_read), TEST(in_a_forked_child),
          TEST(in_a_child_of_the_bare_call), TEST(first_thread_has_ended),
          TEST(forks_while_others_look))
