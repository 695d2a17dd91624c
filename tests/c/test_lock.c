/* How threads wait for one another in the handler, and for handlers. */
#include "measures.h"

/* ---- One at a time ----------------------------------------------------- */

static long counter;

static void *
count_up(void *unused)
{
    (void)unused;
    for (int i = 0; i < SCALED(200000); i++) {
        sigset_t mask = safemmap__hold_pages();

        counter++;
        safemmap__release_pages(&mask);
    }
    return NULL;
}

static void
one_at_a_time(void)
{
    pthread_t thread[4];

    for (size_t i = 0; i < COUNT_OF(thread); i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, count_up, NULL), 0);
    for (size_t i = 0; i < COUNT_OF(thread); i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    CHECK_EQ(counter, 4 * SCALED(200000));
    CHECK_EQ(safemmap__pages, 0);
}

/* ---- Signals ----------------------------------------------------------- */

static uint64_t
blocked_signals(void)
{
    uint64_t mask = 0;

    /* (The C library's function leaves its own signals out.) */
    CHECK_CALL(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, sizeof(mask)));
    return mask;
}

static uint64_t
bit_of(int signo)
{
    return (uint64_t)1 << (signo - 1);
}

/* The kernel lets nobody block two of them. */
static void
all_signals_are_blocked(void)
{
    const uint64_t all = ~(bit_of(SIGKILL) | bit_of(SIGSTOP) | bit_of(SIGSYS));
    const uint64_t before = bit_of(SIGUSR1) | bit_of(33);
    struct safemmap__reading reading;
    sigset_t mask;

    CHECK_CALL(
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof(before)));
    mask = safemmap__hold_pages();
    CHECK_EQ(blocked_signals(), all);
    reading = safemmap__start_reading();
    CHECK_EQ(blocked_signals(), all);
    safemmap__stop_reading(&reading);
    CHECK_EQ(blocked_signals(), all);
    safemmap__release_pages(&mask);
    CHECK_EQ(blocked_signals(), before);
}

/* ---- Sleeping ---------------------------------------------------------- */

static double used;

static void *
wait_for_pages(void *unused)
{
    sigset_t mask;

    (void)unused;
    mask = safemmap__hold_pages();
    safemmap__release_pages(&mask);
    used = seconds(CLOCK_THREAD_CPUTIME_ID);
    return NULL;
}

static void *
wait_for_readers(void *unused)
{
    (void)unused;
    safemmap__registry_lock();
    safemmap__readers_wait();
    safemmap__registry_unlock();
    used = seconds(CLOCK_THREAD_CPUTIME_ID);
    return NULL;
}

/* Who waits for as long as 200 ms uses hardly any of it. */
static void
waiting_is_sleeping(void)
{
    pthread_t thread;
    sigset_t mask = safemmap__hold_pages();

    CHECK_EQ(pthread_create(&thread, NULL, wait_for_pages, NULL), 0);
    usleep(200000);
    safemmap__release_pages(&mask);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK(used < 0.05);

    struct safemmap__reading reading = safemmap__start_reading();
    CHECK_EQ(pthread_create(&thread, NULL, wait_for_readers, NULL), 0);
    usleep(200000);
    safemmap__stop_reading(&reading);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK(used < 0.05);
}

/* ---- Priorities -------------------------------------------------------- */

enum { NORMAL, REALTIME };

static bool stop;
static double worst[2];
static long faults[2];

static void
become_realtime(int priority)
{
    const struct sched_param parameter = {.sched_priority = priority};

    if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &parameter) != 0)
        skip("needs the right to realtime priorities");
}

static void *
fault_again_and_again(void *argument)
{
    const int kind = *(const int *)argument;

    if (kind == REALTIME)
        become_realtime(10);
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        struct file file = file_new(16);
        struct safemmap_region region = region_of(&file);

        region.fd = -1;
        CHECK_EQ(safemmap_region_add(&region), 0);
        file_cut(&file, 0);
        for (size_t page = 0; page < file.pages; page++) {
            double before = seconds(CLOCK_MONOTONIC), took;

            CHECK_EQ(load(&file, page * PAGE), 0);
            took = seconds(CLOCK_MONOTONIC) - before;
            if (took > worst[kind])
                worst[kind] = took;
            faults[kind]++;
        }
        safemmap_region_remove(&region);
        file_free(&file);
        if (kind == REALTIME)
            usleep(200);
    }
    return NULL;
}

static void
use_one_processor(void)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(0, &one);
    CHECK_CALL(sched_setaffinity(0, sizeof(one), &one));
}

/* Both on one processor: the realtime thread would keep the other one from ever
 * letting it go on. */
static void
realtime_beside_normal(void)
{
    static const int kinds[] = {NORMAL, REALTIME};
    pthread_t thread[2];

    use_one_processor();
    CHECK_EQ(safemmap_install(), 0);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, fault_again_and_again,
                                (void *)&kinds[i]),
                 0);
    sleep(2);
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    CHECK(faults[NORMAL] > SCALED(100) && faults[REALTIME] > SCALED(100));
    CHECK(worst[REALTIME] < (BRIEF ? 0.5 : 0.1));
}

static bool held;

static void *
hold_for_a_while(void *unused)
{
    sigset_t mask = safemmap__hold_pages();
    double until = seconds(CLOCK_THREAD_CPUTIME_ID) + 0.02;

    (void)unused;
    __atomic_store_n(&held, true, __ATOMIC_SEQ_CST);
    while (seconds(CLOCK_THREAD_CPUTIME_ID) < until)
        ;
    safemmap__release_pages(&mask);
    return NULL;
}

static void *
keep_busy(void *unused)
{
    double until = seconds(CLOCK_THREAD_CPUTIME_ID) + 0.5;

    (void)unused;
    become_realtime(5);
    while (seconds(CLOCK_THREAD_CPUTIME_ID) < until)
        ;
    return NULL;
}

/* The normal thread holds the lock; one of middle priority would keep it from the
 * processor for half a second, had it not got that of the one which waits. */
static void
priority_is_lent(void)
{
    pthread_t holding, busy;
    double before, took;
    sigset_t mask;

    use_one_processor();
    CHECK_EQ(pthread_create(&holding, NULL, hold_for_a_while, NULL), 0);
    while (!__atomic_load_n(&held, __ATOMIC_SEQ_CST))
        sched_yield();
    become_realtime(10);
    CHECK_EQ(pthread_create(&busy, NULL, keep_busy, NULL), 0);
    before = seconds(CLOCK_MONOTONIC);
    mask = safemmap__hold_pages();
    took = seconds(CLOCK_MONOTONIC) - before;
    safemmap__release_pages(&mask);
    CHECK_EQ(pthread_join(holding, NULL), 0);
    CHECK_EQ(pthread_join(busy, NULL), 0);
    CHECK(took < 0.2);
}

/* ---- Forks ------------------------------------------------------------- */

static void *
hold_and_release(void *unused)
{
    (void)unused;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        sigset_t mask = safemmap__hold_pages();

        safemmap__release_pages(&mask);
    }
    return NULL;
}

/* Whatever another thread of the parent held. */
static void
nobody_holds_it_in_a_child(void)
{
    struct file file = file_gone();
    struct safemmap_region region = region_of(&file);
    pthread_t thread;
    int status;

    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    CHECK_EQ(pthread_create(&thread, NULL, hold_and_release, NULL), 0);
    for (int i = 0; i < SCALED(300); i++) {
        pid_t child = fork();

        CHECK_CALL(child);
        if (child == 0) {
            alarm(10);
            CHECK_EQ(load(&file, 0), 0);
            _exit(0);
        }
        CHECK_CALL(waitpid(child, &status, 0));
        CHECK_EQ(status, 0);
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    safemmap_region_remove(&region);
}

TEST_MAIN(TEST(one_at_a_time), TEST(all_signals_are_blocked),
          TEST(waiting_is_sleeping), TEST(realtime_beside_normal),
          TEST(priority_is_lent), TEST(nobody_holds_it_in_a_child))
