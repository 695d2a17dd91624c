/* What every test here starts from: checks, children, memory that goes away.
 *
 * Each test runs in a child of its own, so that it begins with the default
 * action for SIGBUS, may die, and cannot hang the run.
 */
#ifndef HARNESS_H
#define HARNESS_H

#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SANITIZED
#define SANITIZED 0
#endif

/* Fewer rounds, and smaller files, where the code is slower or run in many builds. */
#ifndef BRIEF
#define BRIEF SANITIZED
#endif
#define SCALED(count) (BRIEF ? (count) / 10 : (count))

#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#elif defined(__has_feature)
#define THREAD_SANITIZER __has_feature(thread_sanitizer)
#else
#define THREAD_SANITIZER 0
#endif

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* SIGBUS and the alternate stack are what is tested here: the sanitizers leave
 * both alone. */
#define RUNTIME_OPTIONS "handle_sigbus=0:use_sigaltstack=0"
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);
const char *__tsan_default_options(void);
const char *
__asan_default_options(void)
{
    return RUNTIME_OPTIONS;
}
const char *
__ubsan_default_options(void)
{
    return RUNTIME_OPTIONS ":print_stacktrace=1";
}
const char *
__tsan_default_options(void)
{
    return RUNTIME_OPTIONS ":halt_on_error=1";
}

/* A power of two: the sweeps divide by it a lot. */
static unsigned page_shift;
#define PAGE ((size_t)1 << page_shift)

/* ---- Checks ------------------------------------------------------------ */

/* Which case of a sweep is under way: printed when a check fails. */
static struct {
    const char *name;
    long at[4];
} note;

#define NOTE(text, ...) ((__typeof__(note)){.name = text, .at = {__VA_ARGS__}})

static inline _Noreturn void
fail(const char *file, int line, const char *what, intmax_t got, intmax_t want)
{
    fprintf(stderr, "%s:%d: %s: got %jd (0x%jx), want %jd (0x%jx)", file, line, what,
            got, (uintmax_t)got, want, (uintmax_t)want);
    if (note.name != NULL)
        fprintf(stderr, " [%s %ld %ld %ld %ld]", note.name, note.at[0], note.at[1],
                note.at[2], note.at[3]);
    fputc('\n', stderr);
    _exit(1);
}

#define CHECK_EQ(got, want)                                           \
    do {                                                              \
        intmax_t got_ = (intmax_t)(got), want_ = (intmax_t)(want);    \
        if (got_ != want_)                                            \
            fail(__FILE__, __LINE__, #got " == " #want, got_, want_); \
    } while (0)

#define CHECK(condition)                                \
    do {                                                \
        if (!(condition))                               \
            fail(__FILE__, __LINE__, #condition, 0, 1); \
    } while (0)

/* For calls that answer -1 and errno. */
#define CHECK_CALL(call)                                \
    do {                                                \
        if ((call) == -1)                               \
            fail(__FILE__, __LINE__, #call, -errno, 0); \
    } while (0)

/* ---- Children ---------------------------------------------------------- */

/* Where a test's child leaves the reason why it cannot run here. */
static char *skip_reason;

static inline _Noreturn void
skip(const char *reason)
{
    snprintf(skip_reason, 256, "%s", reason);
    exit(0);
}

/* Runs `body` in a child and gives back its wait status. One that hangs dies of
 * SIGALRM. */
static inline int
status_in_child(void (*body)(const void *), const void *argument, unsigned seconds)
{
    static const struct rlimit no_core = {0, 0};
    int status;
    pid_t child;

    fflush(NULL);
    CHECK_CALL(child = fork());
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &no_core);
        alarm(seconds);
        body(argument);
        exit(0);
    }
    CHECK_CALL(waitpid(child, &status, 0));
    return status;
}

/* 0, or the signal that it died of, or its exit status negated. */
static inline int
end_in_child(void (*body)(const void *), const void *argument)
{
    int status = status_in_child(body, argument, BRIEF ? 200 : 20);

    return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

/* A signal can take a moment: the kernel chooses the thread, and a sanitizer
 * delivers it when it sees fit. */
static inline _Noreturn void
await_death(void)
{
    for (;;)
        usleep(1000);
}

/* As a program does that reads and sets actions with signal(3). */
static inline void
put_back_by_signal(void)
{
    void (*found)(int) = signal(SIGBUS, SIG_IGN);

    CHECK(found != SIG_ERR);
    CHECK(signal(SIGBUS, found) == SIG_IGN);
}

struct test {
    const char *name;
    void (*run)(void);
};
#define TEST(function)      \
    {                       \
#function, function \
    }

static inline void
run_one(const void *argument)
{
    ((const struct test *)argument)->run();
}

static inline int
run_all(const struct test *tests, size_t count)
{
    int failed = 0;

    while (PAGE < (size_t)sysconf(_SC_PAGESIZE))
        page_shift++;
    setvbuf(stdout, NULL, _IOLBF, 0);
    skip_reason =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(skip_reason != MAP_FAILED);
    for (const struct test *test = tests; test < tests + count; test++) {
        int status;

        *skip_reason = '\0';
        status = status_in_child(run_one, test, BRIEF ? 600 : 120);
        if (status != 0) {
            printf("FAILED %s: %s %d\n", test->name,
                   WIFSIGNALED(status) ? "died of signal" : "exit status",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            failed = 1;
        } else if (*skip_reason != '\0')
            printf("skip %s: %s\n", test->name, skip_reason);
        else
            printf("ok %s\n", test->name);
    }
    return failed;
}

#ifndef BEFORE_TESTS
#define BEFORE_TESTS (void)0
#endif
#define TEST_MAIN(...)                                    \
    int main(void)                                        \
    {                                                     \
        static const struct test tests[] = {__VA_ARGS__}; \
                                                          \
        BEFORE_TESTS;                                     \
        return run_all(tests, COUNT_OF(tests));           \
    }

/* ---- Memory that goes away --------------------------------------------- */

/* What stands at `offset` of every file here: never 200 or above, so that a test
 * has bytes that occur nowhere. */
static inline unsigned char
pattern(size_t offset)
{
    return (unsigned char)(1 + offset % 199);
}

struct file {
    int fd;
    unsigned char *map; /* shared and writable */
    size_t pages;
};

static inline struct file
file_behind(int fd, size_t pages)
{
    struct file file = {.fd = fd, .pages = pages};

    CHECK_CALL(ftruncate(file.fd, (off_t)(pages * PAGE)));
    file.map =
        mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0);
    CHECK(file.map != MAP_FAILED);
    for (size_t i = 0; i < pages * PAGE; i++)
        file.map[i] = pattern(i);
    return file;
}

/* In memory, without a name. */
static inline struct file
file_new(size_t pages)
{
    int fd;

    CHECK_CALL(fd = memfd_create("test", MFD_CLOEXEC));
    return file_behind(fd, pages);
}

static inline void
file_cut(const struct file *file, size_t pages)
{
    CHECK_CALL(ftruncate(file->fd, (off_t)(pages * PAGE)));
}

static inline void
file_free(const struct file *file)
{
    CHECK_CALL(munmap(file->map, file->pages * PAGE));
    CHECK_CALL(close(file->fd));
}

/* A file of one page that is gone. */
static inline struct file
file_gone(void)
{
    struct file file = file_new(1);

    file_cut(&file, 0);
    return file;
}

/* A file on a filesystem without room: its pages hold "data" where `layout` has
 * 'd', and are holes that nothing can fill otherwise. Cutting the other file, which
 * takes up the room, makes some. */
static inline struct file
file_on_full_filesystem(const char *layout, int *ret_other)
{
    struct file file = {.pages = strlen(layout)};
    char block[4096] = {1}, size[32];

    snprintf(size, sizeof(size), "size=%zu", 128 * PAGE);
    if (unshare(CLONE_NEWNS) < 0 ||
        mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", "/mnt", "tmpfs", 0, size) < 0)
        skip("needs the right to mount");
    CHECK_CALL(file.fd = open("/mnt/sparse", O_RDWR | O_CREAT, 0600));
    CHECK_CALL(ftruncate(file.fd, (off_t)(file.pages * PAGE)));
    for (size_t i = 0; i < file.pages; i++)
        if (layout[i] == 'd')
            CHECK_EQ(pwrite(file.fd, "data", 4, (off_t)(i * PAGE)), 4);
    CHECK_CALL(*ret_other = open("/mnt/other", O_RDWR | O_CREAT, 0600));
    while (write(*ret_other, block, sizeof(block)) > 0)
        ;
    CHECK_EQ(errno, ENOSPC);
    file.map =
        mmap(NULL, file.pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0);
    CHECK(file.map != MAP_FAILED);
    return file;
}

/* All of a file's mapping, to be registered. */
static inline struct safemmap_region
region_of(const struct file *file)
{
    return (struct safemmap_region){.start = (uintptr_t)file->map,
                                    .end = (uintptr_t)file->map + file->pages * PAGE,
                                    .page_size = PAGE,
                                    .protection = PROT_READ | PROT_WRITE,
                                    .fd = file->fd};
}

/* Accesses without a guard. ThreadSanitizer would take the handler's mmap for a store
 * to these bytes; UndefinedBehaviorSanitizer minds NULL. */
#define UNSEEN \
    __attribute__((no_sanitize("thread"), no_sanitize("undefined"), noinline, unused))

UNSEEN static unsigned char
load(const struct file *file, size_t offset)
{
    return *(volatile unsigned char *)(file->map + offset);
}

UNSEEN static void
store(const struct file *file, size_t offset, unsigned char byte)
{
    *(volatile unsigned char *)(file->map + offset) = byte;
}

/* Recovers from a fault of its own: what every test may expect to work. */
static inline void
check_recovers(const struct file *gone)
{
    static _Atomic unsigned turn;
    struct safemmap_fault fault = {0, 0};
    unsigned char bytes[1000];

    if (turn++ / 2 % 2 == 0)
        CHECK_EQ(safemmap_load(gone->map + 5, bytes, &fault), -EFAULT);
    else
        CHECK_EQ(safemmap_copy(bytes, gone->map + 5, sizeof(bytes), &fault), -EFAULT);
    CHECK_EQ(fault.address, (uintptr_t)gone->map + 5);
    CHECK_EQ(fault.code, BUS_ADRERR);
}

/* Whether an action is the handler's, by any of its entry points. */
static inline bool
is_entry(const struct sigaction *action)
{
    for (int i = 0; i < SAFEMMAP__ENTRIES; i++)
        if (action->sa_sigaction == safemmap__entries[i])
            return true;
    return false;
}

/* Has this thread's next operation check the handler, and the 63 after it not. */
static inline void
check_next(void)
{
    safemmap__self.check_due = 0;
    safemmap__self.checked_at = 0;
}

/* A guarded operation that lasts some 50 ms, sanitized or not: byte by byte, on
 * memory that nothing is wrong with. */
static inline void
long_operation(void)
{
    const size_t size = (size_t)SCALED(32 << 20);
    unsigned char *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct safemmap_fault fault;

    CHECK(memory != MAP_FAILED);
    CHECK_EQ(safemmap_gather(memory, memory, 1, size, &fault), 0);
    CHECK_CALL(munmap(memory, size));
}

#endif
