/* Events: how the program learns of faults that no guard covers. */
#include "harness.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

static bool
is_readable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    int count;

    CHECK_CALL(count = poll(&poll_fd, 1, 0));
    return count == 1;
}

static void
drain(int fd)
{
    uint64_t count;

    CHECK_EQ(read(fd, &count, sizeof(count)), sizeof(count));
}

/* One event for each page of a file that has none, one by one. */
struct source {
    struct file file;
    struct safemmap_region region;
};

static void
source_open(struct source *source, size_t pages)
{
    source->file = file_new(pages);
    source->region = region_of(&source->file);
    source->region.fd = -1;
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&source->region), 0);
    file_cut(&source->file, 0);
}

static void
in_order(void)
{
    struct safemmap_event event;
    struct source one, two;

    CHECK(!safemmap_event_take(&event));
    source_open(&one, 8);
    source_open(&two, 8);
    CHECK(two.region.id != one.region.id);
    for (size_t page = 8; page-- > 0;) {
        CHECK_EQ(load(&one.file, page * PAGE + page), 0);
        CHECK_EQ(load(&two.file, page * PAGE), 0);
    }
    for (size_t page = 8; page-- > 0;) {
        CHECK(safemmap_event_take(&event));
        CHECK_EQ(event.region, one.region.id);
        CHECK_EQ(event.fault.address, (uintptr_t)one.file.map + page * PAGE + page);
        CHECK_EQ(event.fault.code, BUS_ADRERR);
        CHECK_EQ(event.fault.thread, syscall(SYS_gettid));
        CHECK(pthread_equal(event.pthread, pthread_self()));
        CHECK(event.fault.time_ns >= one.region.fault.time_ns);
        CHECK(safemmap_event_take(&event));
        CHECK_EQ(event.region, two.region.id);
    }
    CHECK(!safemmap_event_take(&event));
    CHECK_EQ(safemmap_events_dropped(), 0);
    safemmap_region_remove(&one.region);
    safemmap_region_remove(&two.region);
}

/* All that overlap are named. */
static void
one_for_each_region(void)
{
    struct source source;
    struct safemmap_region part;
    struct safemmap_event event;
    uint64_t seen = 0;

    source_open(&source, 8);
    part = region_of(&source.file);
    part.end -= PAGE;
    CHECK_EQ(safemmap_region_add(&part), 0);
    CHECK_EQ(load(&source.file, 3 * PAGE), 0);
    for (int i = 0; i < 2; i++) {
        CHECK(safemmap_event_take(&event));
        CHECK_EQ(event.fault.address, (uintptr_t)source.file.map + 3 * PAGE);
        seen += event.region;
    }
    CHECK_EQ(seen, source.region.id + part.id);
    /* The second fault of one, and not of the other. */
    CHECK_EQ(load(&source.file, 7 * PAGE), 0);
    CHECK(safemmap_event_take(&event));
    CHECK_EQ(event.region, source.region.id);
    CHECK(!safemmap_event_take(&event));
    safemmap_region_remove(&part);
    safemmap_region_remove(&source.region);
}

static void
more_than_the_queue_holds(void)
{
    struct safemmap_event event;
    struct source source[8];

    for (size_t i = 0; i < 8; i++)
        source_open(&source[i], 256);
    for (int round = 1; round <= 2; round++) {
        /* Half of them the first time, and the others then. */
        for (size_t i = 0; i < 8; i++)
            for (size_t page = 0; page < 128 + 40; page++)
                CHECK_EQ(load(&source[i].file,
                              (round == 1 ? page : 255 - page % 88) * PAGE),
                         0);
        size_t count = 0;
        while (safemmap_event_take(&event)) {
            if (round == 1) {
                CHECK_EQ(event.region, source[count / 168].region.id);
                CHECK_EQ((event.fault.address - event.fault.address % PAGE),
                         (uintptr_t)source[count / 168].file.map +
                             count % 168 * PAGE);
            }
            count++;
        }
        CHECK_EQ(count, round == 1 ? SAFEMMAP_EVENTS : 8 * 88);
        CHECK_EQ(safemmap_events_dropped(), 8 * 168 - SAFEMMAP_EVENTS);
    }
    for (size_t i = 0; i < 8; i++)
        safemmap_region_remove(&source[i].region);
}

static pid_t called_on;
static int calls;

static void
note_call(void)
{
    called_on = (pid_t)syscall(SYS_gettid);
    __atomic_fetch_add(&calls, 1, __ATOMIC_SEQ_CST);
}

static void *
fault_on(void *source)
{
    CHECK_EQ(load(&((struct source *)source)->file, PAGE), 0);
    CHECK_EQ(called_on, syscall(SYS_gettid));
    return NULL;
}

/* On the thread that faulted, before it goes on. */
static void
hook(void)
{
    struct source source;
    pthread_t thread;
    int status;
    pid_t child;

    source_open(&source, 4);
    safemmap_set_event_hook(note_call);
    CHECK_EQ(load(&source.file, 0), 0);
    CHECK_EQ(calls, 1);
    CHECK_EQ(called_on, syscall(SYS_gettid));
    CHECK_EQ(pthread_create(&thread, NULL, fault_on, &source), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(calls, 2);
    CHECK_CALL(child = fork());
    if (child == 0) {
        CHECK_EQ(load(&source.file, 2 * PAGE), 0);
        CHECK_EQ(calls, 2);
        _exit(0);
    }
    CHECK_CALL(waitpid(child, &status, 0));
    CHECK_EQ(status, 0);
    safemmap_set_event_hook(NULL);
    CHECK_EQ(load(&source.file, 3 * PAGE), 0);
    CHECK_EQ(calls, 2);
    safemmap_region_remove(&source.region);
}

enum { TAKERS = 4, PAGES = 256, ROUNDS = 20 };

struct takers {
    struct source source;
    int made_all;
    int taken[PAGES];
};

static void *
take(void *argument)
{
    struct takers *takers = argument;
    struct safemmap_event event;

    for (;;) {
        bool last = __atomic_load_n(&takers->made_all, __ATOMIC_SEQ_CST);

        while (safemmap_event_take(&event))
            __atomic_fetch_add(&takers->taken[(event.fault.address -
                                               (uintptr_t)takers->source.file.map) /
                                              PAGE],
                               1, __ATOMIC_SEQ_CST);
        if (last)
            return NULL;
    }
}

static void
taken_once(void)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct takers takers = {.made_all = 0};
        pthread_t threads[TAKERS];

        source_open(&takers.source, PAGES);
        for (int i = 0; i < TAKERS; i++)
            CHECK_EQ(pthread_create(&threads[i], NULL, take, &takers), 0);
        for (size_t page = 0; page < PAGES; page++)
            CHECK_EQ(load(&takers.source.file, page * PAGE), 0);
        __atomic_store_n(&takers.made_all, 1, __ATOMIC_SEQ_CST);
        for (int i = 0; i < TAKERS; i++)
            CHECK_EQ(pthread_join(threads[i], NULL), 0);
        for (size_t page = 0; page < PAGES; page++)
            CHECK_EQ(takers.taken[page], 1);
        safemmap_region_remove(&takers.source.region);
        file_free(&takers.source.file);
    }
}

static void
descriptor(void)
{
    struct source source;
    int fd = safemmap_event_fd();

    CHECK(fd >= 0);
    CHECK_EQ(safemmap_event_fd(), fd);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    CHECK(!is_readable(fd));
    source_open(&source, 4);
    for (size_t page = 0; page < 2; page++) {
        CHECK_EQ(load(&source.file, page * PAGE), 0);
        CHECK(is_readable(fd));
        drain(fd);
        CHECK(!is_readable(fd));
    }

    /* Somebody closed it, and the number is a file's now. */
    close(fd);
    CHECK_EQ(memfd_create("innocent", 0), fd);
    CHECK_EQ(load(&source.file, 2 * PAGE), 0);
    struct stat status;
    CHECK_CALL(fstat(fd, &status));
    CHECK_EQ(status.st_size, 0);
    int other = safemmap_event_fd();
    CHECK(other >= 0 && other != fd);
    CHECK(is_readable(other)); /* for the event that came before */
    CHECK_EQ(load(&source.file, 3 * PAGE), 0);
    CHECK(is_readable(other));
    safemmap_region_remove(&source.region);
}

/* The number that was the library's is a file's of the same kind. */
static void
number_of_another_file(void)
{
    struct source source;
    int fd = safemmap_event_fd(), other, status;
    uint64_t count;
    pid_t child;

    source_open(&source, 4);
    CHECK_CALL(close(fd));
    CHECK_EQ(eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK), fd);
    CHECK_EQ(load(&source.file, 0), 0);
    safemmap_event_fd_set();
    safemmap_event_fd_clear();
    CHECK_CALL(child = fork());
    if (child == 0) {
        CHECK_EQ(read(fd, &count, sizeof(count)), sizeof(count));
        _exit(0);
    }
    CHECK_CALL(waitpid(child, &status, 0));
    CHECK_EQ(status, 0);
    CHECK_CALL(other = safemmap_event_fd());
    CHECK(other != fd);
    CHECK_EQ(load(&source.file, PAGE), 0);
    CHECK(is_readable(other));
    for (int left = 2; left > 0; left--)
        CHECK_EQ(read(fd, &count, sizeof(count)), sizeof(count));
    CHECK(!is_readable(fd));
    safemmap_region_remove(&source.region);
}

/* How many threads have asked the kernel for a descriptor. */
static int asking;

/* Takes the place of the C library's: comes back when two threads are in here, unless
 * there is only one. */
int
eventfd(unsigned count, int flags)
{
    __atomic_fetch_add(&asking, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 50 && __atomic_load_n(&asking, __ATOMIC_SEQ_CST) == 1; i++)
        usleep(1000);
    return (int)syscall(SYS_eventfd2, count, flags);
}

static void *
ask_for_descriptor(void *ret_fd)
{
    *(int *)ret_fd = safemmap_event_fd();
    return NULL;
}

/* Also when the program has closed the first one. */
static void
one_descriptor_for_two_threads(void)
{
    for (int round = 0; round < 2; round++) {
        pthread_t thread;
        int fd, other;

        asking = 0;
        CHECK_EQ(pthread_create(&thread, NULL, ask_for_descriptor, &other), 0);
        fd = safemmap_event_fd();
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK(fd >= 0);
        CHECK_EQ(other, fd);
        safemmap_event_fd_set();
        CHECK(is_readable(fd));
        CHECK_CALL(close(fd));
    }
}

/* What is the child's is not the parent's, and the other way round. */
static void
child_has_its_own(void)
{
    struct source source;
    struct safemmap_event event;
    int fd = safemmap_event_fd(), status;
    pid_t child;

    source_open(&source, 4);
    CHECK_EQ(load(&source.file, 0), 0);
    CHECK_CALL(child = fork());
    if (child == 0) {
        alarm(10);
        CHECK_EQ(safemmap_event_fd(), fd);
        CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
        CHECK(!is_readable(fd));
        CHECK(!safemmap_event_take(&event));
        CHECK_EQ(load(&source.file, PAGE), 0);
        CHECK_EQ(load(&source.file, 2 * PAGE), 0);
        CHECK(is_readable(fd));
        CHECK(safemmap_event_take(&event));
        CHECK_EQ(event.fault.address, (uintptr_t)source.file.map + PAGE);
        _exit(0);
    }
    CHECK_CALL(waitpid(child, &status, 0));
    CHECK_EQ(status, 0);
    CHECK(is_readable(fd));
    drain(fd);
    CHECK(safemmap_event_take(&event));
    CHECK_EQ(event.fault.address, (uintptr_t)source.file.map);
    CHECK(!safemmap_event_take(&event));
    safemmap_region_remove(&source.region);
}

TEST_MAIN(TEST(in_order), TEST(one_for_each_region), TEST(more_than_the_queue_holds),
          TEST(hook), TEST(taken_once), TEST(descriptor),
          TEST(number_of_another_file), TEST(one_descriptor_for_two_threads),
          TEST(child_has_its_own))
