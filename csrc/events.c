/* Runs inside and outside the signal: reports faults that no guard covers.
 *
 * Handlers, one at a time, put events into a ring; threads, one at a time, take them
 * out. Neither side waits for the other.
 */
#include "internal.h"

static struct safemmap__mailbox *const own = &safemmap__own.mailbox;

/* ---- Inside the signal ------------------------------------------------- */

static void
push(struct safemmap__mailbox *mailbox, const struct safemmap_event *event)
{
    size_t at = __atomic_load_n(&mailbox->pushed, __ATOMIC_RELAXED);

    if (at - __atomic_load_n(&mailbox->taken, __ATOMIC_ACQUIRE) == SAFEMMAP_EVENTS) {
        safemmap__count(&mailbox->dropped);
        return;
    }
    mailbox->ring[at % SAFEMMAP_EVENTS] = *event;
    __atomic_store_n(&mailbox->pushed, at + 1, __ATOMIC_RELEASE);
}

void
safemmap__event_push(const struct safemmap_event *event)
{
    for (struct safemmap__member *member = &safemmap__own; member != NULL;
         member = safemmap__member_next(member))
        push(&member->mailbox, event);
}

static void
set_fd(const struct safemmap__mailbox *mailbox)
{
    int number = __atomic_load_n(&mailbox->fd, __ATOMIC_ACQUIRE);

    if (safemmap__os_event_is(number))
        safemmap__os_event_set(number);
}

void
safemmap_event_fd_set(void)
{
    set_fd(own);
}

/* Returns whether the fault hook sees to it that the queue is emptied. */
static bool
report(const struct safemmap__mailbox *mailbox, struct safemmap_event *event,
       const uint64_t *regions, size_t count)
{
    bool seen_to = false;

    for (size_t i = 0; i < count; i++) {
        safemmap_fault_hook *hook =
            __atomic_load_n(&mailbox->fault_hook, __ATOMIC_ACQUIRE);

        event->region = regions[i];
        if (hook != NULL && hook(event))
            seen_to = true;
    }
    return seen_to;
}

/* Nobody need take the events of attended regions, but one of another has to find
 * room. */
static bool
is_filling(const struct safemmap__mailbox *mailbox)
{
    return __atomic_load_n(&mailbox->pushed, __ATOMIC_RELAXED) -
               __atomic_load_n(&mailbox->taken, __ATOMIC_RELAXED) >=
           SAFEMMAP_EVENTS / 2;
}

void
safemmap__event_announce(struct safemmap_event *event, const uint64_t *regions,
                         size_t count, bool unattended)
{
    for (struct safemmap__member *member = &safemmap__own; member != NULL;
         member = safemmap__member_next(member)) {
        struct safemmap__mailbox *mailbox = &member->mailbox;
        bool seen_to = report(mailbox, event, regions, count);
        safemmap_event_hook *hook =
            __atomic_load_n(&mailbox->event_hook, __ATOMIC_ACQUIRE);

        if (hook != NULL && (unattended || is_filling(mailbox)) && !seen_to)
            hook();
        set_fd(mailbox);
    }
}

/* ---- Outside ----------------------------------------------------------- */

static bool
is_empty(void)
{
    return __atomic_load_n(&own->taken, __ATOMIC_ACQUIRE) ==
           __atomic_load_n(&own->pushed, __ATOMIC_ACQUIRE);
}

bool
safemmap_event_take(struct safemmap_event *ret_event)
{
    struct safemmap_event event;
    sigset_t mask;
    bool found;

    if (is_empty())
        return false;
    mask = safemmap__hold(&own->lock);
    if ((found = !is_empty())) {
        event = own->ring[own->taken % SAFEMMAP_EVENTS];
        __atomic_store_n(&own->taken, own->taken + 1, __ATOMIC_RELEASE);
    }
    safemmap__release(&own->lock, &mask);
    /* (Not under the lock: it may fault.) */
    if (found)
        *ret_event = event;
    return found;
}

uint64_t
safemmap_events_dropped(void)
{
    return __atomic_load_n(&own->dropped, __ATOMIC_RELAXED);
}

void
safemmap_set_fault_hook(safemmap_fault_hook *new)
{
    __atomic_store_n(&own->fault_hook, new, __ATOMIC_RELEASE);
}

void
safemmap_set_event_hook(safemmap_event_hook *new)
{
    __atomic_store_n(&own->event_hook, new, __ATOMIC_RELEASE);
}

/* Under the lock: another thread may just have made one. */
static int
new_fd(void)
{
    int number = own->fd;

    if (safemmap__os_event_is(number) || (number = safemmap__os_event_new()) < 0)
        return number;
    __atomic_store_n(&own->fd, number, __ATOMIC_RELEASE);
    if (!is_empty())
        set_fd(own); /* for the events that came before */
    return number;
}

int
safemmap_event_fd(void)
{
    int number = __atomic_load_n(&own->fd, __ATOMIC_ACQUIRE);
    sigset_t mask;

    if (safemmap__os_event_is(number))
        return number;
    if (safemmap__fork_error < 0)
        return safemmap__fork_error;
    mask = safemmap__hold(&own->lock);
    number = new_fd();
    safemmap__release(&own->lock, &mask);
    return number;
}

void
safemmap_event_fd_clear(void)
{
    int number = __atomic_load_n(&own->fd, __ATOMIC_ACQUIRE);

    if (safemmap__os_event_is(number))
        safemmap__os_event_clear(number);
}

void
safemmap__events_reset(void)
{
    own->taken = own->pushed;
    own->lock = 0;
    own->dropped = 0;
    own->event_hook = NULL;
    if (safemmap__os_event_is(own->fd))
        own->fd = safemmap__os_event_renew(own->fd);
}
