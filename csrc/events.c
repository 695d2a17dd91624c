/* Runs inside and outside the signal: reports faults that no guard covers.
 *
 * Handlers, one at a time, put events into a ring; threads, one at a time, take them
 * out. Neither side waits for the other.
 */
#include "internal.h"

struct safemmap__mailbox safemmap__own_mailbox = {.fd = -1};

/* That of each copy which this one serves, after its own. Only grows. */
enum { MAILBOXES = 16 };
static struct safemmap__mailbox *mailboxes[MAILBOXES] = {&safemmap__own_mailbox};
static size_t mailbox_count = 1;

static struct safemmap__mailbox *const own = &safemmap__own_mailbox;

static size_t
count_mailboxes(void)
{
    return __atomic_load_n(&mailbox_count, __ATOMIC_ACQUIRE);
}

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
    for (size_t i = 0; i < count_mailboxes(); i++)
        push(mailboxes[i], event);
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

void
safemmap__event_announce(unsigned seen_to)
{
    for (size_t i = 0; i < count_mailboxes(); i++) {
        safemmap_event_hook *hook =
            __atomic_load_n(&mailboxes[i]->event_hook, __ATOMIC_ACQUIRE);

        if (hook != NULL && (seen_to & 1u << i) == 0)
            hook();
        set_fd(mailboxes[i]);
    }
}

unsigned
safemmap__event_report(const struct safemmap_event *event)
{
    unsigned seen_to = 0;

    for (size_t i = 0; i < count_mailboxes(); i++) {
        safemmap_fault_hook *hook =
            __atomic_load_n(&mailboxes[i]->fault_hook, __ATOMIC_ACQUIRE);

        if (hook != NULL && hook(event))
            seen_to |= 1u << i;
    }
    return seen_to;
}

/* ---- Outside ----------------------------------------------------------- */

/* Called while libraries are loaded: one thread at a time. */
bool
safemmap__mailbox_add(struct safemmap__mailbox *mailbox)
{
    if (mailbox_count == MAILBOXES)
        return false;
    mailboxes[mailbox_count] = mailbox;
    __atomic_store_n(&mailbox_count, mailbox_count + 1, __ATOMIC_RELEASE);
    return true;
}

static bool
is_empty(void)
{
    return __atomic_load_n(&own->taken, __ATOMIC_ACQUIRE) ==
           __atomic_load_n(&own->pushed, __ATOMIC_ACQUIRE);
}

bool
safemmap_event_take(struct safemmap_event *ret_event)
{
    bool found;

    if (is_empty())
        return false;
    safemmap__lock(&own->taking);
    if ((found = !is_empty())) {
        *ret_event = own->ring[own->taken % SAFEMMAP_EVENTS];
        __atomic_store_n(&own->taken, own->taken + 1, __ATOMIC_RELEASE);
    }
    safemmap__unlock(&own->taking);
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

int
safemmap_event_fd(void)
{
    int number = __atomic_load_n(&own->fd, __ATOMIC_ACQUIRE);

    if (safemmap__os_event_is(number))
        return number;
    if (safemmap__fork_error < 0)
        return safemmap__fork_error;
    if ((number = safemmap__os_event_new()) >= 0)
        __atomic_store_n(&own->fd, number, __ATOMIC_RELEASE);
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
    own->taking = 0;
    own->dropped = 0;
    own->event_hook = NULL;
    if (safemmap__os_event_is(own->fd))
        own->fd = safemmap__os_event_renew(own->fd);
}
