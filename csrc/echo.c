/* Runs only inside the signal: tells a signal that repeats a fault (its echo) from
 * one that was sent.
 *
 * A handler above ours may hand a fault down with raise(3), once it has put us back.
 * Seen from here that is a signal which the process sent itself, without an address.
 * If we just return, the instruction faults again, and this time the kernel calls us.
 *
 * The kernel writes the thread's last fault into the context of every signal. The
 * signal is the echo of that fault if the handler which the kernel called for it is
 * still on the stack, waiting for its raise(3) to return; or if it has returned, and
 * the thread is about to fault again. (A local variable that holds the address, or a
 * copy of registers, is no context.)
 */
#include "process_overlay.h"

#include <string.h>

/* How much of the stack is searched, in words; read in pieces, since the handler's
 * own stack may be small. */
enum { FRAMES = 1024, PIECE = 64 };

typedef bool test(const ucontext_t *context, const struct safemmap__last_fault *found,
                  const void *wanted);

/* The nearest context from `stack` on that passes the test. (Not inlined: the words
 * would stay on the handler's own stack.) */
static __attribute__((noinline)) ucontext_t *
on_stack(uintptr_t stack, test *passes, const void *wanted)
{
    uint64_t words[PIECE + SAFEMMAP__FAULT_WORDS - 1];

    stack = (stack + safemmap__last_fault_offset) & ~(uintptr_t)7;
    for (size_t done = 0; done < FRAMES; done += PIECE) {
        uintptr_t from = stack + done * sizeof(words[0]);
        size_t count =
            safemmap__os_read(words, from, sizeof(words)) / sizeof(words[0]);

        for (size_t i = 0; i < PIECE && i + SAFEMMAP__FAULT_WORDS <= count; i++) {
            ucontext_t *context =
                (void *)(from + i * sizeof(words[0]) - safemmap__last_fault_offset);

            if (passes(context, (const void *)&words[i], wanted))
                return context;
        }
        if (count < sizeof(words) / sizeof(words[0]))
            break;
    }
    return NULL;
}

/* test: the context of the innermost signal. */
static bool
is_any(const ucontext_t *context, const struct safemmap__last_fault *found,
       const void *wanted)
{
    (void)found;
    (void)wanted;
    return safemmap__is_genuine(context);
}

ucontext_t *
safemmap__context_on_stack(void)
{
    return on_stack((uintptr_t)__builtin_frame_address(0), is_any, NULL);
}

/* ---- Small copies ------------------------------------------------------ */

/* test: the context of a copy that faulted at this address. */
static bool
is_of_copy(const ucontext_t *context, const struct safemmap__last_fault *found,
           const void *wanted)
{
    const uintptr_t address = *(const uintptr_t *)wanted;

    return safemmap__last_fault_address(found) == address &&
           safemmap__is_genuine(context) && safemmap__fixup_covers(context, address);
}

ucontext_t *
safemmap__fixup_on_stack(uintptr_t address)
{
    return on_stack((uintptr_t)__builtin_frame_address(0), is_of_copy, &address);
}

/* ---- Echoes ------------------------------------------------------------ */

/* test: the context that the kernel made for this fault. */
static bool
is_of_fault(const ucontext_t *context, const struct safemmap__last_fault *found,
            const void *wanted)
{
    return safemmap__last_fault_equals(found, wanted) &&
           safemmap__is_genuine(context);
}

/* Answers the fault as if the kernel had reported it here. False also where the page
 * can be read. (Not inlined: the siginfo would stay on the handler's own stack.) */
static __attribute__((noinline)) bool
overlay_echoed(uintptr_t address)
{
    siginfo_t info;

    if (safemmap__os_is_readable(address))
        return false;
    memset(&info, 0, sizeof(info));
    info.si_signo = SIGBUS;
    info.si_code = BUS_ADRERR;
    info.si_addr = (void *)address;
    return safemmap__overlay(&info, NULL) || safemmap__process_overlay(&info, NULL);
}

bool
safemmap__is_echo(const siginfo_t *info, const ucontext_t *context)
{
    const struct safemmap__last_fault *last;
    uintptr_t address;

    if (context == NULL || !safemmap__os_sent_by_us(info))
        return false;
    last = (const void *)((const char *)context + safemmap__last_fault_offset);
    address = safemmap__last_fault_address(last);
    if (address == 0)
        return false;
    /* Interrupted in raise(3)? */
    if (safemmap__is_after_system_call(context))
        context = on_stack(safemmap__stack_pointer(context), is_of_fault, last);
    return context != NULL &&
           (safemmap__fixup_covers(context, address) || overlay_echoed(address));
}
