/* The thread that makes the handler check at intervals. */
#include "harness.h"

#include <dirent.h>

enum { PATIENCE_MS = 5000 };

static void
displace(void)
{
    struct sigaction other = {.sa_handler = SIG_DFL};

    CHECK_CALL(sigaction(SIGBUS, &other, NULL));
}

static bool
is_on_top(void)
{
    struct safemmap_action top;

    return safemmap_get_actions(&top, 1) > 0 && top.ours;
}

static void
sleep_ms(long ms)
{
    const struct timespec time = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&time, NULL);
}

static bool
comes_on_top(void)
{
    for (int ms = 0; ms < PATIENCE_MS && !is_on_top(); ms++)
        sleep_ms(1);
    return is_on_top();
}

static int
count_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    int count = -2; /* "." and ".." */

    CHECK(tasks != NULL);
    while (readdir(tasks) != NULL)
        count++;
    closedir(tasks);
    return count;
}

static void
displaced(void)
{
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_checks_start(), 0);
    for (int i = 0; i < 10; i++) {
        displace();
        CHECK(comes_on_top());
    }
    safemmap_checks_stop();
}

static void
starts_and_stops(void)
{
    int started = 0;

    for (int i = 0; i < 20; i++) {
        CHECK_EQ(safemmap_checks_start(), 0);
        CHECK_EQ(safemmap_checks_start(), 0);
        if (i == 0)
            started = count_threads(); /* with those of a sanitizer's own */
        CHECK_EQ(count_threads(), started);
        safemmap_checks_stop();
        safemmap_checks_stop();
        /* The kernel's thread can be there a little longer. */
        for (int ms = 0; ms < PATIENCE_MS && count_threads() >= started; ms++)
            sleep_ms(1);
        CHECK_EQ(count_threads(), started - 1);
    }
    displace();
    sleep_ms(200);
    CHECK(!is_on_top());
}

static void *
start_and_stop(void *unused)
{
    (void)unused;
    for (int i = 0; i < 200; i++) {
        safemmap_checks_start();
        safemmap_checks_stop();
    }
    return NULL;
}

static void
threads_start_and_stop(void)
{
    pthread_t threads[4];

    for (size_t i = 0; i < COUNT_OF(threads); i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, start_and_stop, NULL), 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(safemmap_checks_start(), 0);
    displace();
    CHECK(comes_on_top());
    safemmap_checks_stop();
}

/* No signal for the program is taken by the thread. */
static void
blocks_all_signals(void)
{
    sigset_t set;
    const struct timespec none = {0, 0};

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK_EQ(safemmap_checks_start(), 0);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    CHECK_CALL(kill(getpid(), SIGUSR1)); /* would kill, where it is not blocked */
    sleep_ms(20);
    CHECK_EQ(sigtimedwait(&set, NULL, &none), SIGUSR1);
    safemmap_checks_stop();
}

/* The C library has every thread do that, by a signal of its own, and waits. */
static void
user_is_changed_beside_it(void)
{
    CHECK_EQ(safemmap_checks_start(), 0);
    CHECK_CALL(setuid(getuid()));
    safemmap_checks_stop();
}

static void
child_has_its_own(void)
{
    int status;
    pid_t child;

    if (THREAD_SANITIZER) /* allows no thread in the child of a process with threads
                           */
        return;
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_checks_start(), 0);
    for (int i = 0; i < 20; i++) {
        CHECK_CALL(child = fork());
        if (child == 0) {
            alarm(10);
            displace();
            CHECK(comes_on_top());
            safemmap_checks_stop();
            _exit(0);
        }
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK_EQ(status, 0);
    }
    safemmap_checks_stop();
    CHECK_CALL(child = fork());
    if (child == 0)
        _exit(count_threads() == 1 ? 0 : 1);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

/* Who has uninstalled the handler does not get it back. */
static void
uninstalled(void)
{
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_checks_start(), 0);
    CHECK_EQ(safemmap_uninstall(), 0);
    sleep_ms(100);
    CHECK(!is_on_top());
    safemmap_checks_stop();
}

static void *
fork_and_return(void *ret_child)
{
    pid_t pid;

    CHECK_CALL(pid = fork());
    if (pid != 0)
        *(pid_t *)ret_child = pid;
    return NULL;
}

/* The thread that forked is the only other one there, and its end is the child's. */
static void
child_ends_with_its_last_thread(void)
{
    pthread_t thread;
    pid_t pid;
    int status;

    if (SANITIZED)
        skip("a sanitizer has threads of its own");
#if !defined(__GLIBC__)
    skip("musl 1.2.3 has the last thread wait for ever there, with or without us");
#endif
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_checks_start(), 0);
    CHECK_EQ(pthread_create(&thread, NULL, fork_and_return, &pid), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_CALL(waitpid(pid, &status, 0));
    CHECK_EQ(status, 0);
    safemmap_checks_stop();
}

TEST_MAIN(TEST(displaced), TEST(starts_and_stops), TEST(threads_start_and_stop),
          TEST(blocks_all_signals), TEST(user_is_changed_beside_it),
          TEST(uninstalled), TEST(child_has_its_own),
          TEST(child_ends_with_its_last_thread))
