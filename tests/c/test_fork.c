/* A child of fork() has a working handler and an unlocked registry, whatever the
 * other threads of its parent were in the middle of. */
#include "harness.h"

#define THREADS 4
#define FORKS_EACH (200 / THREADS)

static bool stopping;

static void
fault_everywhere(const struct file *gone, bool allocates)
{
    struct file file;
    struct safemmap_region region;

    check_recovers(gone);
    if (!allocates)
        return;
    file = file_gone();
    region = region_of(&file);
    CHECK_EQ(safemmap_region_add(&region), 0);
    CHECK_EQ(*(volatile unsigned char *)file.map, 0);
    CHECK(safemmap_region_poisoned(&region));
    safemmap_region_remove(&region);
    file_free(&file);
}

static void *
fork_often(void *unused)
{
    struct file gone = file_gone(), registered = file_gone();
    struct safemmap_region region = region_of(&registered);

    (void)unused;
    CHECK_EQ(safemmap_region_add(&region), 0);
    for (int i = 0; i < (BRIEF ? FORKS_EACH / 5 : FORKS_EACH); i++) {
        int status;
        pid_t child;

        fault_everywhere(&gone, true);
        CHECK_CALL(child = fork());
        if (child == 0) {
            /* One that hangs is killed, and the parent sees by what. */
            alarm(10);
            /* The region was registered before: it still works, for all the
             * locks that other threads held. A sanitizer's allocator may be
             * locked for ever in the child of a process with threads. */
            CHECK_EQ(*(volatile unsigned char *)registered.map, 0);
            CHECK(safemmap_region_poisoned(&region));
            fault_everywhere(&gone, !SANITIZED);
            _exit(0);
        }
        fault_everywhere(&gone, true);
        CHECK_CALL(waitpid(child, &status, 0));
        CHECK_EQ(status, 0);
        CHECK(!safemmap_region_poisoned(&region));
    }
    safemmap_region_remove(&region);
    return NULL;
}

/* Keeps every lock of the library busy. */
static void *
stay_busy(void *unused)
{
    struct file gone = file_gone();

    (void)unused;
    while (!__atomic_load_n(&stopping, __ATOMIC_RELAXED))
        fault_everywhere(&gone, true);
    return NULL;
}

static void
fork_from_threads(void)
{
    pthread_t thread[THREADS], busy;

    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(pthread_create(&busy, NULL, stay_busy, NULL), 0);
    for (size_t i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, fork_often, NULL), 0);
    for (size_t i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    __atomic_store_n(&stopping, true, __ATOMIC_RELAXED);
    CHECK_EQ(pthread_join(busy, NULL), 0);
}

/* The default action is the child's too. */
static void
die_in_grandchild(const void *unused)
{
    struct file gone = file_gone();
    int status;
    pid_t child;

    (void)unused;
    check_recovers(&gone);
    CHECK_CALL(child = fork());
    if (child == 0) {
        alarm(10);
        check_recovers(&gone);
        (void)*(volatile unsigned char *)gone.map;
        _exit(0);
    }
    CHECK_CALL(waitpid(child, &status, 0));
    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), SIGBUS);
    check_recovers(&gone);
}

static void
foreign_fault_in_child(void)
{
    CHECK_EQ(end_in_child(die_in_grandchild, NULL), 0);
}

/* ---- A handler that the child puts above ours ---------------------------- */

static struct file above_gone;

static void
take_the_fault(int signo)
{
    (void)signo;
    _exit(3);
}

/* Torch's DataLoader workers do so. */
static void
displace_us(void)
{
    struct sigaction action = {.sa_handler = take_the_fault};

    CHECK_CALL(sigaction(SIGBUS, &action, NULL));
}

static void
check_recovers_in_child(void)
{
    int status;
    pid_t child;

    CHECK_CALL(child = fork());
    if (child == 0) {
        displace_us();
        check_recovers(&above_gone);
        _exit(0);
    }
    CHECK_CALL(waitpid(child, &status, 0));
    CHECK_EQ(status, 0);
}

static void *
fork_on_thread(void *unused)
{
    check_recovers(&above_gone);
    check_recovers_in_child();
    return unused;
}

/* Whatever the forking thread has left of the operations between two checks. */
static void
child_checks_first(void)
{
    struct file healthy = file_new(1);
    pthread_t thread;

    above_gone = file_gone();
    for (int operations = 0; operations < 70; operations++) {
        struct safemmap_fault fault;
        unsigned char byte;

        check_recovers_in_child();
        CHECK_EQ(safemmap_load(healthy.map, &byte, &fault), 0);
    }
    CHECK_EQ(pthread_create(&thread, NULL, fork_on_thread, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

static _Atomic bool stop_installing;

static void *
install_on_and_on(void *unused)
{
    while (!stop_installing)
        safemmap_install();
    return unused;
}

static void
install_and_recover(const void *gone)
{
    CHECK_EQ(safemmap_install(), 0);
    check_recovers(gone);
    _exit(0); /* a sanitizer looks for threads that only the parent has */
}

/* Another thread may be in the linker then. */
static void
fork_while_installing(void)
{
    struct file gone = file_gone();
    pthread_t thread[2];

    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, install_on_and_on, NULL), 0);
    for (int i = 0; i < SCALED(300); i++)
        CHECK_EQ(end_in_child(install_and_recover, &gone), 0);
    stop_installing = true;
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
}

TEST_MAIN(TEST(fork_from_threads), TEST(foreign_fault_in_child),
          TEST(child_checks_first), TEST(fork_while_installing))
