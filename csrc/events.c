/* Runs inside and outside the signal: reports faults that no guard covers.
 *
 * Handlers, one at a time, put events into a ring; one thread at a time takes them
 * out. Neither waits for the other.
 */
#include "internal.h"

#include <errno.h>
#include <semaphore.h>

static struct safemmap_event ring[SAFEMMAP_EVENTS];
/* Events that were ever put in and taken out. */
static size_t pushed, taken;
static uint64_t dropped;

/* Posted when `announced` becomes true. */
static sem_t arrival;
static int announced;

/* -1 until safemmap_event_fd() makes it. */
static int fd = -1;

__attribute__((constructor)) static void
prepare(void)
{
    sem_init(&arrival, 0, 0);
}

/* ---- Inside the signal ------------------------------------------------- */

void
safemmap__event_push(const struct safemmap_event *event)
{
    size_t at = __atomic_load_n(&pushed, __ATOMIC_RELAXED);

    if (at - __atomic_load_n(&taken, __ATOMIC_ACQUIRE) == SAFEMMAP_EVENTS) {
        safemmap__count(&dropped);
        return;
    }
    ring[at % SAFEMMAP_EVENTS] = *event;
    __atomic_store_n(&pushed, at + 1, __ATOMIC_RELEASE);
}

void
safemmap_event_fd_set(void)
{
    int number = __atomic_load_n(&fd, __ATOMIC_ACQUIRE);

    if (safemmap__os_event_is(number))
        safemmap__os_event_set(number);
}

void
safemmap__event_announce(void)
{
    safemmap_event_wake();
    safemmap_event_fd_set();
}

static safemmap_fault_hook *hook;

void
safemmap__event_report(const struct safemmap_event *event)
{
    safemmap_fault_hook *present = __atomic_load_n(&hook, __ATOMIC_ACQUIRE);

    if (present != NULL)
        present(event);
}

/* ---- Outside ----------------------------------------------------------- */

void
safemmap_set_fault_hook(safemmap_fault_hook *new)
{
    __atomic_store_n(&hook, new, __ATOMIC_RELEASE);
}

bool
safemmap_event_take(struct safemmap_event *ret_event)
{
    size_t at = __atomic_load_n(&taken, __ATOMIC_RELAXED);

    if (at == __atomic_load_n(&pushed, __ATOMIC_ACQUIRE))
        return false;
    *ret_event = ring[at % SAFEMMAP_EVENTS];
    __atomic_store_n(&taken, at + 1, __ATOMIC_RELEASE);
    return true;
}

uint64_t
safemmap_events_dropped(void)
{
    return __atomic_load_n(&dropped, __ATOMIC_RELAXED);
}

/* (The semaphore alone would count as many posts as there were events.) */
void
safemmap_event_wake(void)
{
    if (__atomic_exchange_n(&announced, 1, __ATOMIC_SEQ_CST) == 0)
        sem_post(&arrival);
}

static int
wait_for_arrival(const struct timespec *timeout)
{
    struct timespec until;

    if (timeout == NULL)
        return sem_wait(&arrival);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += timeout->tv_sec;
    until.tv_nsec += timeout->tv_nsec;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    return sem_timedwait(&arrival, &until);
}

int
safemmap_event_wait(const struct timespec *timeout)
{
    while (wait_for_arrival(timeout) < 0)
        if (errno != EINTR)
            return -errno;
    __atomic_store_n(&announced, 0, __ATOMIC_SEQ_CST);
    return 0;
}

int
safemmap_event_fd(void)
{
    int number = __atomic_load_n(&fd, __ATOMIC_ACQUIRE);

    if (safemmap__os_event_is(number))
        return number;
    if (safemmap__fork_error < 0)
        return safemmap__fork_error;
    if ((number = safemmap__os_event_new()) >= 0)
        __atomic_store_n(&fd, number, __ATOMIC_RELEASE);
    return number;
}

void
safemmap_event_fd_clear(void)
{
    int number = __atomic_load_n(&fd, __ATOMIC_ACQUIRE);

    if (safemmap__os_event_is(number))
        safemmap__os_event_clear(number);
}

void
safemmap__events_reset(void)
{
    taken = pushed;
    dropped = 0;
    announced = 0;
    sem_init(&arrival, 0, 0);
    if (safemmap__os_event_is(fd))
        fd = safemmap__os_event_renew(fd);
}
