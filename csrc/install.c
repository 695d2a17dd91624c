/* Runs only outside the signal: puts the handler in place, keeps what was there
 * before as the chain to forward to, and mends the state in a forked child.
 * The one file that names the handler.
 */
#include "internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Guards the chain of actions and the installation against other threads.
 * Handlers do not take it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- Fork -------------------------------------------------------------- */

/* The forking thread holds both locks across fork(), so that the child finds
 * the registry and the chain whole. */
static void
before_fork(void)
{
    pthread_mutex_lock(&lock);
    safemmap__registry_lock();
}

static void
after_fork_in_parent(void)
{
    safemmap__registry_unlock();
    pthread_mutex_unlock(&lock);
}

/* Handlers that other threads were inside of do not exist here. */
static void
after_fork_in_child(void)
{
    safemmap__readers_reset();
    __atomic_store_n(&safemmap__overlay_lock, 0, __ATOMIC_SEQ_CST);
    after_fork_in_parent();
}

/* ---- The action -------------------------------------------------------- */

static bool
is_ours(const struct sigaction *action)
{
    return (action->sa_flags & SA_SIGINFO) != 0 &&
           action->sa_sigaction == safemmap__on_sigbus;
}

/* Makes `action` the first to forward to; the ones known before follow. One that
 * the chain holds already moves to the front, so that a handler which is enabled
 * again and again does not make it grow. */
static int
chain(const struct sigaction *action)
{
    struct safemmap__chain *old = safemmap__chain, *new;
    size_t known = old == NULL ? 0 : old->count;

    new = malloc(sizeof(*new) + (known + 1) * sizeof(new->link[0]));
    if (new == NULL)
        return -ENOMEM;
    new->link[0] = (struct safemmap__link){.action = *action};
    new->count = 1;
    for (size_t i = 0; i < known; i++)
        if (old->link[i].action.sa_sigaction != action->sa_sigaction)
            new->link[new->count++] = old->link[i];
    __atomic_store_n(&safemmap__chain, new, __ATOMIC_SEQ_CST);
    safemmap__registry_lock();
    safemmap__readers_wait();
    safemmap__registry_unlock();
    free(old);
    return 0;
}

static int
install_locked(void)
{
    static bool fork_handled;
    struct sigaction present, ours, replaced;
    int error;

    if (!fork_handled) {
        error =
            pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
        if (error != 0)
            return -error;
        fork_handled = true;
    }

    if (sigaction(SIGBUS, NULL, &present) < 0)
        return -errno;
    if (is_ours(&present))
        return 0;
    /* The chain is complete before the first signal can arrive. */
    if ((error = chain(&present)) < 0)
        return error;

    memset(&ours, 0, sizeof(ours));
    ours.sa_sigaction = safemmap__on_sigbus;
    sigemptyset(&ours.sa_mask);
    ours.sa_flags =
        /* The handler needs the address. */
        SA_SIGINFO
        /* A thread's own stack may be small (Go's are). */
        | SA_ONSTACK
        /* The handler leaves by a jump: had the kernel blocked the signal, it
         * would stay blocked. The handler is reentrant. */
        | SA_NODEFER
        /* Whether a SIGBUS from kill(2) interrupts system calls stays as the
         * action below had it. */
        | (present.sa_flags & SA_RESTART);
    if (sigaction(SIGBUS, &ours, &replaced) < 0)
        return -errno;
    /* Somebody was quicker than we between the two calls. */
    if (!is_ours(&replaced))
        (void)chain(&replaced);
    __atomic_fetch_add(&safemmap__counts.installs, 1, __ATOMIC_RELAXED);
    return 0;
}

int
safemmap_install(void)
{
    struct sigaction present;
    int error;

    if (sigaction(SIGBUS, NULL, &present) < 0)
        return -errno;
    if (is_ours(&present))
        return 0;
    pthread_mutex_lock(&lock);
    error = install_locked();
    pthread_mutex_unlock(&lock);
    return error;
}

void
safemmap_get_counts(struct safemmap_counts *ret_counts)
{
    const struct safemmap_counts *counts = &safemmap__counts;

    ret_counts->recovered = __atomic_load_n(&counts->recovered, __ATOMIC_RELAXED);
    ret_counts->overlaid = __atomic_load_n(&counts->overlaid, __ATOMIC_RELAXED);
    ret_counts->forwarded = __atomic_load_n(&counts->forwarded, __ATOMIC_RELAXED);
    ret_counts->installs = __atomic_load_n(&counts->installs, __ATOMIC_RELAXED);
}
