/* Clocks that do not go as they should: tests of others have such. */
#include "harness.h"

#include <time.h>

static _Atomic long nanoseconds_now;

/* In the place of the C library's. */
int
clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    (void)clock;
    *ret_time = (struct timespec){0, nanoseconds_now};
    return 0;
}

static void
never_chains(int signo)
{
    (void)signo;
    _exit(3);
}

/* A thread's first operation looks, and by the 64th after that one has again. */
static void
check_looks(long now)
{
    struct sigaction action = {.sa_handler = never_chains};
    struct file gone = file_gone();
    struct safemmap_fault fault;
    unsigned char byte = 0;

    nanoseconds_now = now;
    check_recovers(&gone);
    CHECK_CALL(sigaction(SIGBUS, &action, NULL));
    for (int i = 0; i < 64; i++)
        CHECK_EQ(safemmap_load(&byte, &byte, &fault), 0);
    check_recovers(&gone);
}

static void
stands_still(void)
{
    check_looks(500 * 1000 * 1000);
}

static void
has_just_begun(void)
{
    check_looks(50 * 1000);
}

static void
tells_nothing(void)
{
    check_looks(0);
}

TEST_MAIN(TEST(stands_still), TEST(has_just_begun), TEST(tells_nothing))
