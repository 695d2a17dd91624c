/* Runs outside the signal, on a thread of its own: the handler check at intervals.
 *
 * Operations and new regions check the handler themselves. A process that has only
 * foreign mappings calls none of these, and a library that installs a SIGBUS handler
 * there (torch's DataLoader does so in its workers) would stay above ours.
 *
 * A process lives as long as any of its threads. Where a thread that forked returns
 * in the child instead of ending that, this one must not keep it alive.
 */
#include "copies.h"

#include <errno.h>
#include <limits.h>

/* Libraries install their handlers when they start. At first the checks cost a
 * thousandth of a CPU, later next to nothing. */
enum { EAGER_CHECKS = 1000, EAGER_MS = 2, INTERVAL_MS = 50 };

/* A check goes no deeper, and no handler runs here but that of a sandbox: all other
 * signals are blocked. */
enum { STACK_SIZE = 64 * 1024 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* for these: */
static pthread_cond_t stopped;
static bool running, forked;
static pthread_t thread;     /* while it is, */
static uintptr_t generation; /* and what that thread was given */

static void
add_ms(struct timespec *when, long ms)
{
    when->tv_nsec += ms * 1000000;
    if (when->tv_nsec >= 1000000000) {
        when->tv_nsec -= 1000000000;
        when->tv_sec++;
    }
}

static void *
check_at_intervals(void *own_generation)
{
    struct timespec next;

    pthread_mutex_lock(&lock);
    for (unsigned checks = 0; generation == (uintptr_t)own_generation; checks++) {
        pthread_mutex_unlock(&lock);
        /* -EBUSY: displaced too often, which operations report; -ECANCELED:
         * uninstalled. Others: the next check tries again. */
        safemmap__check_handler();
        if (checks >= EAGER_CHECKS && forked && safemmap__os_is_last_thread())
            return NULL;
        clock_gettime(safemmap__os_condition_clock, &next);
        add_ms(&next, checks < EAGER_CHECKS ? EAGER_MS : INTERVAL_MS);
        pthread_mutex_lock(&lock);
        while (generation == (uintptr_t)own_generation &&
               pthread_cond_timedwait(&stopped, &lock, &next) == 0)
            continue;
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* Under the lock. */
static int
start(void)
{
    sigset_t before;
    pthread_attr_t attributes;
    int error;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    safemmap__os_block_signals_of_new_thread(&before);
    error = pthread_create(&thread, &attributes, check_at_intervals,
                           (void *)++generation);
    if (error == EINVAL) /* too small for the thread-local storage of all libraries */
        error = pthread_create(&thread, NULL, check_at_intervals, (void *)generation);
    safemmap__os_restore_signals(&before);
    pthread_attr_destroy(&attributes);
    running = error == 0;
    return -error;
}

int
safemmap__checks_start(struct safemmap__member *member)
{
    int error;

    pthread_mutex_lock(&lock);
    error = running ? 0 : start();
    if (error == 0)
        safemmap__want(member, SAFEMMAP__CHECKS);
    pthread_mutex_unlock(&lock);
    return error;
}

int
safemmap_checks_start(void)
{
    return safemmap__host != NULL ? safemmap__host->checks_start(&safemmap__own)
                                  : safemmap__checks_start(&safemmap__own);
}

void
safemmap__checks_stop(struct safemmap__member *member)
{
    pthread_t ending;
    bool ends;

    pthread_mutex_lock(&lock);
    safemmap__want_no_more(member, SAFEMMAP__CHECKS);
    ends = running && !safemmap__is_wanted(SAFEMMAP__CHECKS, NULL);
    if (ends) {
        running = false;
        ending = thread;
        generation++;
        pthread_cond_broadcast(&stopped);
    }
    pthread_mutex_unlock(&lock);
    if (ends)
        pthread_join(ending, NULL);
}

void
safemmap_checks_stop(void)
{
    if (safemmap__host != NULL)
        safemmap__host->checks_stop(&safemmap__own);
    else
        safemmap__checks_stop(&safemmap__own);
}

/* ---- Fork -------------------------------------------------------------- */

SAFEMMAP__CONSTRUCTOR static void
prepare(void)
{
    safemmap__os_condition_init(&stopped);
}

void
safemmap__checks_lock(void)
{
    pthread_mutex_lock(&lock);
}

void
safemmap__checks_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

void
safemmap__checks_reset(void)
{
    prepare(); /* nobody waits here */
    forked = true;
    if (running)
        start();
}
