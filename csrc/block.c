/* Runs only outside the signal: guards around code of the caller's.
 *
 * The macros SAFEMMAP_TRY and SAFEMMAP_CATCH call setjmp(3) in the caller's frame,
 * which must still be there when the handler jumps. The guard lies in that frame,
 * too.
 */
#include "copies.h"
#include "operations.h"

#include <errno.h>

_Static_assert(sizeof(struct safemmap__guard) <= sizeof(struct safemmap_guard),
               "a guard has no room in what callers reserve for it");
_Static_assert(offsetof(struct safemmap__guard, place.buffer) ==
                   offsetof(struct safemmap_guard, buffer),
               "callers set another buffer than the handler jumps to");

static struct safemmap__guard *
private_part(struct safemmap_guard *guard)
{
    return (struct safemmap__guard *)(void *)guard;
}

void
safemmap_guard_arm(struct safemmap_guard *public_part, const volatile void *start,
                   size_t size)
{
    struct safemmap__guard *guard = private_part(public_part);
    const uintptr_t first = (uintptr_t)start;

    if (safemmap__host != NULL) {
        safemmap__host->guard_arm(public_part, start, size);
        return;
    }
    guard->place.stack = 0;
    guard->is_block = true;
    guard->armed = true;
    guard->saved_errno = errno;
    guard->deferred = 0;
    guard->fault = (struct safemmap_fault){0, 0};
    guard->range[0].start = page_of(first);
    guard->range[0].end = page_of(first + size + safemmap__page_size - 1);
    guard->range[1].start = guard->range[1].end = 0;
    guard->outer = safemmap__self.guard;
    if (safemmap__prepare(size) < 0) {
        guard->range[0].end = guard->range[0].start;
        safemmap__self.guard = guard;
        safemmap__leave_by_jump(&guard->place);
    }
    safemmap__self.guard = guard;
}

static void
unlink_guard(struct safemmap__guard *guard)
{
    guard->armed = false;
    safemmap__self.guard = guard->outer;
}

void
safemmap_guard_end(struct safemmap_guard *public_part)
{
    struct safemmap__guard *guard = private_part(public_part);

    if (safemmap__host != NULL) {
        safemmap__host->guard_end(public_part);
        return;
    }
    if (!guard->armed)
        return;
    unlink_guard(guard);
    /* It was not the echo of a fault. */
    if (guard->deferred)
        safemmap__os_send_again(&guard->deferred_info);
}

struct safemmap_fault
safemmap_guard_caught(void)
{
    struct safemmap__guard *guard = safemmap__self.guard;

    if (safemmap__host != NULL)
        return safemmap__host->guard_caught();
    unlink_guard(guard);
    errno = guard->saved_errno;
    return guard->fault;
}
