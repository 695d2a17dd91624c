/* Runs inside and outside the signal: how threads wait for one another there.
 *
 * A thread that waits sleeps, and lends its priority to the one that it waits for: a
 * realtime thread that span would keep a normal one, which holds what it waits for,
 * from the processor for ever.
 */
#include "internal.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

int safemmap__pages;

static long
futex(int *word, int operation, int value, const struct timespec *timeout)
{
    return syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

/* Where a sandbox knows no futex. */
static void
sleep_a_little(void)
{
    const struct timespec little = {0, 100000};

    syscall(SYS_nanosleep, &little, NULL);
}

static bool
take(int *word, int self)
{
    int nobody = 0;

    return __atomic_compare_exchange_n(word, &nobody, self, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

void
safemmap__lock(int *word)
{
    int self = (int)syscall(SYS_gettid);

    while (!take(word, self)) {
        if (futex(word, FUTEX_LOCK_PI_PRIVATE, 0, NULL) == 0) {
            /* The kernel has stored our number; what the one before us has written
             * is seen from here on. */
            (void)__atomic_load_n(word, __ATOMIC_ACQUIRE);
            return;
        }
        if (errno != EINTR && errno != EAGAIN)
            sleep_a_little();
    }
}

void
safemmap__unlock(int *word)
{
    int self = (int)syscall(SYS_gettid);

    if (__atomic_compare_exchange_n(word, &self, 0, false, __ATOMIC_RELEASE,
                                    __ATOMIC_RELAXED))
        return;
    /* Somebody waits: the kernel hands it over. */
    __atomic_fetch_or(word, 0, __ATOMIC_RELEASE);
    futex(word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL);
}

sigset_t
safemmap__hold_pages(void)
{
    sigset_t all, mask;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &mask);
    safemmap__lock(&safemmap__pages);
    return mask;
}

void
safemmap__release_pages(const sigset_t *mask)
{
    safemmap__unlock(&safemmap__pages);
    pthread_sigmask(SIG_SETMASK, mask, NULL);
}

void
safemmap__sleep_while(unsigned *word, unsigned value)
{
    if (futex((int *)word, FUTEX_WAIT_PRIVATE, (int)value, NULL) < 0 &&
        errno != EAGAIN && errno != EINTR)
        sleep_a_little();
}

void
safemmap__wake_all(unsigned *word)
{
    futex((int *)word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL);
}
