/* Guards around code of the caller's: SAFEMMAP_TRY and SAFEMMAP_CATCH. */
#include "harness.h"

static struct file file; /* two pages, the second of which is gone */

static void
prepare(void)
{
    file = file_new(2);
    file_cut(&file, 1);
}

/* Kept out of registers and out of ThreadSanitizer's sight. */
UNSEEN static unsigned
sum(const unsigned char *from, size_t size)
{
    const volatile unsigned char *at = from;
    unsigned total = 0;

    for (size_t i = 0; i < size; i++)
        total += at[i];
    return total;
}

UNSEEN static void
touch_lost(const void *unused)
{
    (void)unused;
    (void)*(volatile unsigned char *)(file.map + PAGE);
}

/* Nothing covers the page any more. */
static void
check_unguarded(void)
{
    CHECK_EQ(end_in_child(touch_lost, NULL), SIGBUS);
}

static void
ends_with_the_fault(void)
{
    volatile size_t done = 0;
    volatile int caught = 0;

    prepare();
    SAFEMMAP_TRY(file.map, 2 * PAGE)
    {
        for (size_t i = PAGE - 10;; i++) {
            sum(file.map + i, 1);
            done++;
        }
    }
    SAFEMMAP_CATCH(fault)
    {
        CHECK_EQ(fault.address, (uintptr_t)file.map + PAGE);
        CHECK_EQ(fault.code, BUS_ADRERR);
        caught++;
    }
    CHECK_EQ(done, 10);
    CHECK_EQ(caught, 1);
    check_unguarded();
}

static void
without_a_fault(void)
{
    volatile unsigned total = 0;

    prepare();
    SAFEMMAP_TRY(file.map, 2 * PAGE)
    {
        total = sum(file.map, 2);
    }
    SAFEMMAP_CATCH(fault)
    {
        CHECK_EQ(fault.code, -1);
    }
    CHECK_EQ(total, pattern(0) + pattern(1));
    check_unguarded();
}

/* The second block may be left out: then nothing happens. */
static void
without_a_second_block(void)
{
    prepare();
    SAFEMMAP_TRY(file.map, 2 * PAGE)
    touch_lost(NULL);
    check_unguarded();
}

static void
again_and_again(void)
{
    volatile int caught = 0;

    prepare();
    for (int i = 0; i < 1000; i++) {
        SAFEMMAP_TRY(file.map, 2 * PAGE)
        {
            sum(file.map, i % 2 == 0 ? 1 : PAGE + 1);
        }
        SAFEMMAP_CATCH(fault)
        {
            CHECK_EQ(fault.address, (uintptr_t)file.map + PAGE);
            caught++;
        }
    }
    CHECK_EQ(caught, 500);
    check_unguarded();
}

/* ---- Ways out ----------------------------------------------------------- */

static int
returns(void)
{
    SAFEMMAP_TRY(file.map, 2 * PAGE)
    {
        if (sum(file.map, 1) == pattern(0))
            return 1;
    }
    SAFEMMAP_CATCH(fault)
    {
        (void)fault;
    }
    return 0;
}

static int
returns_after_a_fault(void)
{
    SAFEMMAP_TRY(file.map, 2 * PAGE)
    {
        touch_lost(NULL);
    }
    SAFEMMAP_CATCH(fault)
    {
        return fault.code;
    }
    return 0;
}

static void
left_early(void)
{
    volatile int rounds = 0;

    prepare();
    CHECK_EQ(returns(), 1);
    check_unguarded();
    CHECK_EQ(returns_after_a_fault(), BUS_ADRERR);
    check_unguarded();
    for (int i = 0; i < 3; i++) {
        SAFEMMAP_TRY(file.map, 2 * PAGE)
        {
            rounds++;
            if (i == 1)
                break;
            continue;
        }
        SAFEMMAP_CATCH(fault)
        {
            (void)fault;
        }
        check_unguarded();
    }
    CHECK_EQ(rounds, 3);
    SAFEMMAP_TRY(file.map, 2 * PAGE)
    {
        goto out;
    }
    SAFEMMAP_CATCH(fault)
    {
        (void)fault;
    }
    CHECK(false);
out:
    check_unguarded();
}

/* ---- Nesting ------------------------------------------------------------ */

static void
nested(void)
{
    struct file other;
    volatile int inner = 0, outer = 0, after = 0;

    prepare();
    other = file_gone();
    SAFEMMAP_TRY(file.map, 2 * PAGE)
    {
        SAFEMMAP_TRY(other.map, PAGE)
        {
            sum(other.map, 1);
        }
        SAFEMMAP_CATCH(fault)
        {
            inner++;
            CHECK_EQ(fault.address, (uintptr_t)other.map);
            /* The outer guard is in force here. */
            touch_lost(NULL);
        }
        after++;
    }
    SAFEMMAP_CATCH(fault)
    {
        outer++;
        CHECK_EQ(fault.address, (uintptr_t)file.map + PAGE);
    }
    CHECK_EQ(inner, 1);
    CHECK_EQ(outer, 1);
    CHECK_EQ(after, 0);
    check_unguarded();

    SAFEMMAP_TRY(file.map, 2 * PAGE)
    {
        SAFEMMAP_TRY(other.map, PAGE)
        {
            touch_lost(NULL);
        }
        SAFEMMAP_CATCH(fault)
        {
            CHECK_EQ(fault.code, -1);
        }
    }
    SAFEMMAP_CATCH(fault)
    {
        outer++;
        (void)fault;
    }
    CHECK_EQ(outer, 2);
    check_unguarded();
}

UNSEEN static unsigned
descend(int depth)
{
    volatile unsigned result = 0;

    SAFEMMAP_TRY(file.map, depth == 5 ? 2 * PAGE : 1)
    {
        if (depth == 0)
            touch_lost(NULL);
        else
            result = descend(depth - 1);
    }
    SAFEMMAP_CATCH(fault)
    {
        CHECK_EQ(fault.code, BUS_ADRERR);
        CHECK_EQ(depth, 5);
        return 1;
    }
    return result;
}

static void
nested_across_calls(void)
{
    prepare();
    CHECK_EQ(descend(5), 1);
    check_unguarded();
}

static void
operations_inside(void)
{
    struct safemmap_fault inner;
    unsigned char bytes[300];
    volatile int caught = 0;

    prepare();
    SAFEMMAP_TRY(file.map, 2 * PAGE)
    {
        CHECK_EQ(safemmap_load(file.map + PAGE, bytes, &inner), -EFAULT);
        CHECK_EQ(safemmap_copy(bytes, file.map + PAGE - 1, 300, &inner), -EFAULT);
        CHECK_EQ(inner.address, (uintptr_t)file.map + PAGE);
        CHECK_EQ(safemmap_gather(bytes, file.map, 1, 300, &inner), 0);
        touch_lost(NULL);
    }
    SAFEMMAP_CATCH(fault)
    {
        caught++;
        CHECK_EQ(fault.address, (uintptr_t)file.map + PAGE);
    }
    CHECK_EQ(caught, 1);
    check_unguarded();
}

/* ---- What surrounds it --------------------------------------------------- */

static void
mask_and_errno(void)
{
    sigset_t mask, before;

    prepare();
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &mask, &before), 0);
    errno = ENOTTY;
    SAFEMMAP_TRY(file.map, 2 * PAGE)
    {
        errno = EDOM;
        touch_lost(NULL);
    }
    SAFEMMAP_CATCH(fault)
    {
        CHECK_EQ(errno, ENOTTY);
        (void)fault;
    }
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    CHECK_EQ(sigismember(&mask, SIGUSR1), 1);
    CHECK_EQ(sigismember(&mask, SIGBUS), 0);
}

static void
when_it_cannot_be_guarded(void)
{
    volatile int ran = 0, refused = 0;
    sigset_t mask;

    prepare();
    sigemptyset(&mask);
    sigaddset(&mask, SIGBUS);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &mask, NULL), 0);
    SAFEMMAP_TRY(file.map, 2 * PAGE)
    {
        ran++;
    }
    SAFEMMAP_CATCH(fault)
    {
        CHECK_EQ(fault.code, 0);
        refused++;
    }
    CHECK_EQ(ran, 0);
    CHECK_EQ(refused, 1);
    CHECK_EQ(pthread_sigmask(SIG_UNBLOCK, &mask, NULL), 0);
    check_unguarded();
    CHECK_EQ(returns_after_a_fault(), BUS_ADRERR);
}

static volatile sig_atomic_t signals;

static void
count_signal(int signo)
{
    (void)signo;
    signals++;
}

static void
raise_arrives_at_the_end(void)
{
    prepare();
    CHECK(signal(SIGBUS, count_signal) != SIG_ERR);
    SAFEMMAP_TRY(file.map, 2 * PAGE)
    {
        raise(SIGBUS);
        CHECK_EQ(signals, 0);
    }
    SAFEMMAP_CATCH(fault)
    {
        (void)fault;
    }
    while (signals == 0) /* a sanitizer delivers it when it sees fit */
        sched_yield();
    CHECK_EQ(signals, 1);
}

static void
handle_with_a_block(int signo)
{
    (void)signo;
    CHECK_EQ(returns_after_a_fault(), BUS_ADRERR);
    signals++;
}

static void
block_in_a_signal_handler(void)
{
    if (THREAD_SANITIZER)
        skip("ThreadSanitizer runs signal handlers late, with SIGBUS blocked");
    prepare();
    CHECK_EQ(returns_after_a_fault(), BUS_ADRERR);
    CHECK(signal(SIGUSR1, handle_with_a_block) != SIG_ERR);
    for (int i = 0; i < 100; i++) {
        volatile int caught = 0;

        SAFEMMAP_TRY(file.map, 2 * PAGE)
        {
            raise(SIGUSR1);
            touch_lost(NULL);
        }
        SAFEMMAP_CATCH(fault)
        {
            caught = fault.code;
        }
        CHECK_EQ(caught, BUS_ADRERR);
    }
    CHECK_EQ(signals, 100);
}

static void
forked_inside(void)
{
    volatile pid_t child = 0;
    volatile int caught = 0;
    int status;

    prepare();
    SAFEMMAP_TRY(file.map, 2 * PAGE)
    {
        child = fork();
        touch_lost(NULL);
    }
    SAFEMMAP_CATCH(fault)
    {
        caught = fault.code;
    }
    CHECK_EQ(caught, BUS_ADRERR);
    if (child == 0)
        _exit(7);
    CHECK_CALL(waitpid(child, &status, 0));
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 7);
}

static pthread_barrier_t barrier;

static void *
fault_often(void *own)
{
    const struct file *mine = own;

    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 2000; i++) {
        volatile uintptr_t address = 0;

        SAFEMMAP_TRY(mine->map, PAGE)
        {
            sum(mine->map + i, 1);
        }
        SAFEMMAP_CATCH(fault)
        {
            address = fault.address;
        }
        CHECK_EQ(address, (uintptr_t)mine->map + (uintptr_t)i);
    }
    return NULL;
}

static void
threads(void)
{
    enum { THREADS = 4 };
    pthread_t thread[THREADS];
    struct file gone[THREADS];

    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        gone[i] = file_gone();
        CHECK_EQ(pthread_create(&thread[i], NULL, fault_often, &gone[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
}

/* A guard comes before the region that holds the page. */
static void
inside_a_region(void)
{
    struct safemmap_region region;

    prepare();
    region = region_of(&file);
    CHECK_EQ(safemmap_region_add(&region), 0);
    CHECK_EQ(returns_after_a_fault(), BUS_ADRERR);
    CHECK(!safemmap_region_poisoned(&region));
    touch_lost(NULL);
    CHECK(safemmap_region_poisoned(&region));
    CHECK_EQ(safemmap_region_remove(&region), 0);
}

TEST_MAIN(TEST(ends_with_the_fault), TEST(without_a_fault),
          TEST(without_a_second_block), TEST(again_and_again), TEST(left_early),
          TEST(nested), TEST(nested_across_calls), TEST(operations_inside),
          TEST(mask_and_errno), TEST(when_it_cannot_be_guarded),
          TEST(raise_arrives_at_the_end), TEST(block_in_a_signal_handler),
          TEST(forked_inside), TEST(threads), TEST(inside_a_region))
