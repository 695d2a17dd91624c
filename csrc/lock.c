/* Runs inside and outside the signal: the locks that handlers may wait for.
 *
 * A thread that waits sleeps, and lends its priority to the holder of the lock: a
 * realtime thread that spun could keep a normal one, which holds the lock, off the
 * processor for ever.
 */
#include "internal.h"

int safemmap__pages;

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
    safemmap__lock_as(word, safemmap__os_thread());
}

void
safemmap__lock_as(int *word, pid_t self)
{
    while (!take(word, self)) {
        if (!safemmap__os_wait_for_lock(word))
            continue;
        /* The kernel has stored our number; what the one before us has written is
         * seen from here on. */
        (void)__atomic_load_n(word, __ATOMIC_ACQUIRE);
        return;
    }
}

void
safemmap__unlock(int *word)
{
    int self = __atomic_load_n(word, __ATOMIC_RELAXED) & SAFEMMAP__OS_HOLDER;

    if (__atomic_compare_exchange_n(word, &self, 0, false, __ATOMIC_RELEASE,
                                    __ATOMIC_RELAXED))
        return;
    /* Another thread waits. */
    __atomic_fetch_or(word, 0, __ATOMIC_RELEASE);
    safemmap__os_hand_over_lock(word);
}

sigset_t
safemmap__hold(int *word)
{
    sigset_t mask;

    safemmap__os_block_signals(&mask);
    safemmap__lock(word);
    return mask;
}

void
safemmap__release(int *word, const sigset_t *mask)
{
    safemmap__unlock(word);
    safemmap__os_restore_signals(mask);
}

sigset_t
safemmap__hold_pages(void)
{
    return safemmap__hold(&safemmap__pages);
}

void
safemmap__release_pages(const sigset_t *mask)
{
    safemmap__release(&safemmap__pages, mask);
}
