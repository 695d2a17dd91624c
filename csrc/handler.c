/* Runs only inside the signal: the handler. Decides whose each SIGBUS is: ours (in a
 * small copy, under a guard, in a region, or with the whole process protected, in an
 * ordinary file mapping), or another's, to which it is forwarded.
 *
 * 1. Nothing here allocates, takes a lock that code outside the signal can be
 *    interrupted with, or calls what is not async-signal-safe (README.md lists the
 *    calls).
 * 2. It runs with the mask of the code it interrupted (SA_NODEFER, no sa_mask),
 *    on any thread, on an alternate stack or not, and inside itself.
 * 3. It may have been called by another handler that sits above it, with any
 *    mask and with the siginfo that the kernel gave that one; or by the kernel
 *    without a siginfo.
 * 4. A fault is ours if the kernel generated it, and it was raised by a small copy on
 *    the pages of its operands, or its address lies under a guard of this thread, in
 *    a live region, or, while the whole process is protected, in a mapping that
 *    process_overlay.c accepts. A signal that this process sent is deferred under a
 *    guard, and dropped if it is the echo of a fault that is ours (echo.c). All else
 *    is forwarded.
 * 5. It leaves by returning with errno as it was, or by a jump to a guard with the
 *    mask as it was (the guard restores errno).
 */
#include "process_overlay.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ---- Guards ------------------------------------------------------------ */

/* The innermost guard of this thread that covers `address`. */
static struct safemmap__guard *
guard_for(uintptr_t address)
{
    struct safemmap__guard *guard = safemmap__self.guard;

    for (; guard != NULL; guard = guard->outer)
        for (int side = 0; side < 2 && guard->fault.code == 0; side++)
            if (address >= guard->range[side].start &&
                address < guard->range[side].end)
                return guard;
    return NULL;
}

/* Restores the signal mask and the floating-point control of the interrupted code,
 * which a jump out of the handler leaves as they are. Without a context, only
 * unblocks SIGBUS. `direct`: the kernel itself has called us, with nothing blocked.
 */
static void
restore(ucontext_t *context, bool direct)
{
    sigset_t sigbus;

    if (context == NULL) {
        sigemptyset(&sigbus);
        sigaddset(&sigbus, SIGBUS);
        pthread_sigmask(SIG_UNBLOCK, &sigbus, NULL);
        return;
    }
    if (!direct)
        safemmap__os_restore_signals(safemmap__os_mask_of(context));
    safemmap__restore_floating_point(context);
}

/* Clears the fault address in the context, which stays on the stack, so that echo.c
 * does not take it for a pending fault. */
static void
forget(ucontext_t *context)
{
    if (context != NULL)
        safemmap__forget_fault(context);
}

static _Noreturn void
jump(struct safemmap__guard *guard, const siginfo_t *info, ucontext_t *context,
     bool direct)
{
    guard->fault = (struct safemmap_fault){(uintptr_t)info->si_addr, info->si_code};
    safemmap__self.guard = guard->is_block ? guard : guard->outer;
    safemmap__count(&safemmap__counts.recovered);
    restore(context, direct);
    forget(context);
    safemmap__leave_call(&guard->place);
}

/* While a guard is armed, a signal that may be the echo of a fault (see echo.c)
 * waits: if it was a real raise, no fault follows, and disarming the guard sends the
 * signal once more. */
static bool
defer(const siginfo_t *info)
{
    struct safemmap__guard *guard = safemmap__self.guard;

    if (guard == NULL || guard->fault.code != 0 || guard->deferred ||
        !safemmap__os_sent_by_us(info))
        return false;
    guard->deferred_info = *info;
    guard->deferred = 1;
    return true;
}

/* ---- Small copies ------------------------------------------------------ */

/* Ends the small copy that faulted; returns if there is none. */
static void
leave_small_copy(const siginfo_t *info, ucontext_t *context, bool direct)
{
    const struct safemmap_fault fault = {(uintptr_t)info->si_addr, info->si_code};

    /* A handler above passed no context: looks for the kernel's on the stack. */
    if (context == NULL)
        context = safemmap__fixup_on_stack(fault.address);
    if (context == NULL || !safemmap__fixup_covers(context, fault.address))
        return;
    safemmap__count(&safemmap__counts.recovered);
    restore(context, direct);
    forget(context);
    safemmap__fixup_leave(context, fault);
}

/* ---- Forwarding -------------------------------------------------------- */

static bool
will_fault_again(const siginfo_t *info)
{
    return safemmap__os_is_fault(info) && !safemmap__os_is_early(info);
}

/* Takes the default action where a sandbox refuses sigaction(2): a fault in a thread
 * that blocks SIGBUS kills the process with that signal. A signal that was sent
 * cannot be made to do so, and SIGKILL ends the process instead. */
static void
die_in_sandbox(const siginfo_t *info, ucontext_t *context)
{
    if (will_fault_again(info) && context != NULL)
        sigaddset(safemmap__os_mask_of(context), SIGBUS);
    else
        kill(getpid(), SIGKILL);
}

/* Takes the default action. Returning lets a fault happen again, so that the core
 * dump shows where; a signal that was sent is sent again. */
static void
default_action(siginfo_t *info, ucontext_t *context)
{
    struct sigaction fatal;
    sigset_t sigbus;

    memset(&fatal, 0, sizeof(fatal));
    fatal.sa_handler = SIG_DFL;
    if (sigaction(SIGBUS, &fatal, NULL) < 0) {
        die_in_sandbox(info, context);
        return;
    }
    if (will_fault_again(info))
        return;
    safemmap__os_send_again(info);
    sigemptyset(&sigbus);
    sigaddset(&sigbus, SIGBUS);
    pthread_sigmask(SIG_UNBLOCK, &sigbus, NULL);
}

/* An action that answers a signal with raise(3) is called again so many times. */
enum { RAISES_ALLOWED = 2 };

/* Differs between records, and between the copies of this library in a process. */
static uintptr_t
mark_of(uintptr_t record)
{
    return record ^ (uintptr_t)&safemmap__counts;
}

/* Which link is next for a signal that has come in at `entry`: the entry's own, or
 * when the signal has come back from a link, an older one. It comes back by a call
 * with the siginfo that we passed on, or as a signal that this process sent itself.
 * The latter may also be a new signal, after the action has left by a jump. The stack
 * tells the two apart as far as it can: a record at or below our frame is certainly
 * dead; one above may be alive or dead. */
static struct safemmap__progress
next_step(int entry, const siginfo_t *info)
{
    struct safemmap__progress last = safemmap__self.progress;
    struct safemmap__progress step = {.at = entry};

    if (last.record == NULL)
        return step;
    const uintptr_t mark = mark_of((uintptr_t)last.record);
    if (info == &last.record->info && last.record->before == mark &&
        last.record->after == mark) {
        if (step.at >= last.at)
            step.at = last.at - 1;
        return step;
    }
    if (!safemmap__os_sent_by_us(info) || !last.may_raise ||
        (uintptr_t)last.record <= (uintptr_t)__builtin_frame_address(0))
        return step;
    /* A handler that put an older entry back before it raised has told us where to go
     * on; one that did not is called once more. */
    if (step.at >= last.at) {
        step.raised = last.raised < RAISES_ALLOWED ? last.raised + 1 : 0;
        step.at = step.raised > 0 ? last.at : last.at - 1;
    }
    return step;
}

/* Whether this is the one signal of an SA_RESETHAND action. (That it was is not noted
 * in the chain, of which another thread may be making a copy.) */
static bool
is_first_signal(const struct safemmap__chain *chain, int at)
{
    static size_t newest_spent[SAFEMMAP__ENTRIES];
    const size_t number = chain->link[at].number;
    size_t newest = __atomic_load_n(&newest_spent[at], __ATOMIC_RELAXED);

    while (newest < number)
        if (__atomic_compare_exchange_n(&newest_spent[at], &newest, number, false,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return true;
    return false;
}

/* The action at a link, or at the next older one if that link has moved; SIG_DFL past
 * the end. Returns the number of the link. */
static int
action_at(int at, struct sigaction *ret_action)
{
    struct safemmap__reading reading = safemmap__start_reading();
    const struct safemmap__chain *chain =
        __atomic_load_n(&safemmap__chain, __ATOMIC_SEQ_CST);

    memset(ret_action, 0, sizeof(*ret_action));
    ret_action->sa_handler = SIG_DFL;
    at = safemmap__link_for(chain, at);
    if (at >= 0 && ((chain->link[at].action.sa_flags & (int)SA_RESETHAND) == 0 ||
                    is_first_signal(chain, at)))
        *ret_action = chain->link[at].action;
    safemmap__stop_reading(&reading);
    return at;
}

static void
call(const struct sigaction *action, struct safemmap__progress step, int signo,
     const siginfo_t *info, void *context)
{
    struct safemmap__forwarding record = {.info = *info,
                                          .outer = safemmap__self.progress};
    sigset_t blocked = action->sa_mask, before;

    record.before = record.after = mark_of((uintptr_t)&record);
    /* With the signals blocked that the kernel would have blocked. */
    if ((action->sa_flags & SA_NODEFER) == 0)
        sigaddset(&blocked, SIGBUS);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    step.record = &record;
    step.may_raise = (action->sa_flags & SA_NODEFER) != 0;
    safemmap__self.progress = step;
    if ((action->sa_flags & SA_SIGINFO) != 0)
        action->sa_sigaction(signo, &record.info, context);
    else
        action->sa_handler(signo);
    /* A SIGBUS that it raised under the mask arrives at the next line. */
    safemmap__self.progress.may_raise = true;
    safemmap__os_restore_signals(&before);
    safemmap__self.progress = record.outer;
}

static void
forward(int entry, int signo, siginfo_t *info, ucontext_t *context)
{
    struct safemmap__progress step = next_step(entry, info);
    struct sigaction action;

    if (safemmap__self.progress.record == NULL)
        safemmap__count(&safemmap__counts.forwarded);
    step.at = action_at(step.at, &action);
    if (action.sa_handler == SIG_DFL)
        default_action(info, context);
    else if (action.sa_handler == SIG_IGN) {
        /* The kernel kills for a fault that is ignored. */
        if (will_fault_again(info))
            default_action(info, context);
    } else
        call(&action, step, signo, info, context);
}

/* ---- Called without a siginfo ------------------------------------------ */

/* Sets an action of this entry right that lacks SA_SIGINFO. */
static bool
set_right(struct sigaction action)
{
    struct sigaction replaced;

    __atomic_store_n(&safemmap__lacked_siginfo, true, __ATOMIC_SEQ_CST);
    action.sa_flags |= SA_SIGINFO | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    if (safemmap__os_set_action(&action, &replaced) < 0)
        return false;
    /* Another thread has set an action meanwhile. */
    if (replaced.sa_sigaction != action.sa_sigaction)
        sigaction(SIGBUS, &replaced, NULL);
    return true;
}

/* Whether SIGBUS is blocked, which this action does not do: the kernel has called
 * this handler by a former action that another thread has set right since. (One that
 * signal(3) has set blocks this signal alone; ThreadSanitizer blocks all.) */
static bool
was_changed_before(const struct sigaction *action)
{
    sigset_t mask;

    if (!__atomic_load_n(&safemmap__lacked_siginfo, __ATOMIC_SEQ_CST) ||
        (action->sa_flags & SA_NODEFER) == 0 ||
        sigismember(&action->sa_mask, SIGBUS) != 0)
        return false;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    return sigismember(&mask, SIGBUS) == 1 && sigismember(&mask, SIGSEGV) == 0;
}

/* Whether the kernel has called this entry without a siginfo, since a program has put
 * it back with signal(3). (Not inlined: the actions would stay on the stack.) */
static __attribute__((noinline)) bool
called_without_siginfo(int entry)
{
    struct sigaction action;

    if (sigaction(SIGBUS, NULL, &action) < 0 ||
        action.sa_sigaction != safemmap__entries[entry])
        return false;
    return (action.sa_flags & SA_SIGINFO) == 0 ? set_right(action)
                                               : was_changed_before(&action);
}

static void
handle_sent(int entry, int signo, siginfo_t *info, ucontext_t *context)
{
    if (!defer(info) && !safemmap__is_echo(info, context))
        forward(entry, signo, info, context);
}

/* As if this process had sent the signal: a fault is then taken for an echo, and
 * happens again, with a siginfo. (Not all kernels pass a context then. Not inlined,
 * for the same reason.) */
static __attribute__((noinline)) void
handle_without_siginfo(int entry, int signo, ucontext_t *context)
{
    siginfo_t info;

    memset(&info, 0, sizeof(info));
    info.si_signo = signo;
    info.si_code = SI_USER;
    info.si_pid = getpid();
    info.si_uid = getuid();
    if (!safemmap__is_genuine(context))
        context = safemmap__context_on_stack();
    handle_sent(entry, signo, &info, context);
}

/* ---- Entries ----------------------------------------------------------- */

static void
handle(int entry, bool direct, int signo, siginfo_t *info, void *context)
{
    int saved_errno;

    safemmap__enter_handler();
    saved_errno = errno;
    if (!direct && called_without_siginfo(entry))
        handle_without_siginfo(entry, signo, context);
    else if (safemmap__os_is_fault(info)) {
        struct safemmap__guard *guard;

        leave_small_copy(info, context, direct);
        guard = guard_for((uintptr_t)info->si_addr);
        if (guard != NULL)
            jump(guard, info, context, direct);
        if (safemmap__overlay(info, context) ||
            safemmap__process_overlay(info, context))
            forget(context);
        else
            forward(entry, signo, info, context);
    } else
        handle_sent(entry, signo, info, context);
    errno = saved_errno;
}

/* The return address shows whether the kernel has called us
 * (arch/x86_64_restorer.c). */
#define ENTRY(number)                                                               \
    static void entry_##number(int signo, siginfo_t *info, void *context)           \
    {                                                                               \
        handle(0##number,                                                           \
               __builtin_return_address(0) == (void *)safemmap__sigaction_restorer, \
               signo, info, context);                                               \
    }
#define POINTER(number) entry_##number,

/* Octal. */
#define EIGHT(each, high)                                                 \
    each(high##0) each(high##1) each(high##2) each(high##3) each(high##4) \
        each(high##5) each(high##6) each(high##7)
#define ALL(each)  \
    EIGHT(each, 0) \
    EIGHT(each, 1) \
    EIGHT(each, 2) \
    EIGHT(each, 3) EIGHT(each, 4) EIGHT(each, 5) EIGHT(each, 6) EIGHT(each, 7)

ALL(ENTRY)
safemmap__entry *const safemmap__entries[SAFEMMAP__ENTRIES] = {ALL(POINTER)};
