/* Runs inside and outside the signal: reports faults that no guard covers.
 *
 * Handlers, one at a time, put events into a ring; threads, one at a time, take them
 * out. Neither side waits for the other.
 */
#include "internal.h"

static struct safemmap_event ring[SAFEMMAP_EVENTS];
/* How many events were ever put in and taken out. */
static size_t pushed, taken;
static uint64_t dropped;
/* For safemmap__lock(): held by the thread that takes one out. No handler does. */
static int taking;

static safemmap_event_hook *event_hook;
static safemmap_fault_hook *fault_hook;

/* -1 until safemmap_event_fd() makes it. */
static int fd = -1;

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
safemmap__event_announce(bool seen_to)
{
    safemmap_event_hook *present = __atomic_load_n(&event_hook, __ATOMIC_ACQUIRE);

    if (present != NULL && !seen_to)
        present();
    safemmap_event_fd_set();
}

bool
safemmap__event_report(const struct safemmap_event *event)
{
    safemmap_fault_hook *present = __atomic_load_n(&fault_hook, __ATOMIC_ACQUIRE);

    return present != NULL && present(event);
}

/* ---- Outside ----------------------------------------------------------- */

static bool
is_empty(void)
{
    return __atomic_load_n(&taken, __ATOMIC_ACQUIRE) ==
           __atomic_load_n(&pushed, __ATOMIC_ACQUIRE);
}

bool
safemmap_event_take(struct safemmap_event *ret_event)
{
    bool found;

    if (is_empty())
        return false;
    safemmap__lock(&taking);
    if ((found = !is_empty())) {
        *ret_event = ring[taken % SAFEMMAP_EVENTS];
        __atomic_store_n(&taken, taken + 1, __ATOMIC_RELEASE);
    }
    safemmap__unlock(&taking);
    return found;
}

uint64_t
safemmap_events_dropped(void)
{
    return __atomic_load_n(&dropped, __ATOMIC_RELAXED);
}

void
safemmap_set_fault_hook(safemmap_fault_hook *new)
{
    __atomic_store_n(&fault_hook, new, __ATOMIC_RELEASE);
}

void
safemmap_set_event_hook(safemmap_event_hook *new)
{
    __atomic_store_n(&event_hook, new, __ATOMIC_RELEASE);
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
    taking = 0;
    dropped = 0;
    event_hook = NULL;
    if (safemmap__os_event_is(fd))
        fd = safemmap__os_event_renew(fd);
}
