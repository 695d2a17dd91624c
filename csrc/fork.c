/* Runs only outside the signal: mends the core's state in a forked child.
 *
 * The only file that knows what must be mended in the core. It sits above all others;
 * a constructor registers it with pthread_atfork(3). (Python's side mends its own in
 * _fault_queue.pxi and _process.py.)
 */
#include "behind.h"
#include "process_overlay.h"

#include <pthread.h>

/* Whether the forking thread is the only one. Guarded by the locks below. */
static bool alone;

/* The forking thread holds these locks across fork(), so that the child finds the
 * registry and the chain whole. */
static void
before(void)
{
    safemmap__checks_lock();
    safemmap__behind_lock();
    safemmap__installation_lock();
    safemmap__registry_lock();
    safemmap__zeros_before_fork();
    alone = safemmap__os_is_only_thread();
}

static void
after_in_parent(void)
{
    safemmap__registry_unlock();
    safemmap__installation_unlock();
    safemmap__behind_unlock();
    safemmap__checks_unlock();
}

/* The child has neither the other threads' handlers nor the threads that held locks.
 */
static void
after_in_child(void)
{
    safemmap__readers_reset();
    __atomic_store_n(&safemmap__pages, 0, __ATOMIC_SEQ_CST);
    safemmap__zeros_after_fork();
    safemmap__process_overlay_after_fork();
    safemmap__behind_after_fork();
    safemmap__events_reset();
    /* A worker may install a handler of its own: the first operation checks ours. */
    safemmap__self.check_due = 0;
    safemmap__self.checked_at = 0;
    if (!alone)
        safemmap__os_forget_wayland();
    safemmap__checks_reset();
    after_in_parent();
}

SAFEMMAP__CONSTRUCTOR static void
hook_in(void)
{
    safemmap__fork_error = -pthread_atfork(before, after_in_parent, after_in_child);
}
