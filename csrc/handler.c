/* Runs only inside the signal.
 *
 * 1. Nothing here allocates, takes a lock that code outside the signal takes, or
 *    calls what is not async-signal-safe (README.md lists the calls).
 * 2. It runs with the mask of the code it interrupted (SA_NODEFER, no sa_mask),
 *    on any thread, on an alternate stack or not, and inside itself.
 * 3. It may have been called by another handler that sits above it, with any
 *    mask and with the siginfo that the kernel gave that one.
 * 4. A fault is ours if the kernel says so (si_code > 0) and the address lies
 *    under a guard of this thread or in a live region. All else is forwarded.
 * 5. It leaves by returning with errno as it was, or by a jump to a guard with the
 *    mask as it was (the guard restores errno).
 */
/* The jump may go from a stack of the handler's own to any other; the checked
 * longjmp of glibc takes that for an error where it cannot tell. */
#undef _FORTIFY_SOURCE

#include "internal.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* The kernel's idea of a siginfo for SI_TKILL and SI_USER: who sent it. */
static bool
sent_by_us(const siginfo_t *info)
{
    return (info->si_code == SI_TKILL || info->si_code == SI_USER) &&
           info->si_pid == getpid();
}

static void
count(uint64_t *counter)
{
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* What is looked up between these two stays. All signals are blocked: a handler that
 * left by a jump would leave us inside for ever, and one that faults would wait for a
 * lock that this thread holds. */
struct reading {
    sigset_t mask;
    unsigned epoch;
};

static struct reading
start_reading(void)
{
    struct reading reading;
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &reading.mask);
    reading.epoch = safemmap__reader_enter();
    return reading;
}

static void
stop_reading(const struct reading *reading)
{
    safemmap__reader_leave(reading->epoch);
    pthread_sigmask(SIG_SETMASK, &reading->mask, NULL);
}

/* ---- Guards ------------------------------------------------------------ */

/* The innermost guard of this thread that covers `address`. */
static struct safemmap__guard *
guard_for(uintptr_t address)
{
    struct safemmap__guard *guard = safemmap__self.guard;

    for (; guard != NULL; guard = guard->outer)
        for (int side = 0; side < 2; side++)
            if (address >= guard->range[side].start &&
                address < guard->range[side].end)
                return guard;
    return NULL;
}

static _Noreturn void
jump(struct safemmap__guard *guard, const siginfo_t *info, const ucontext_t *context)
{
    sigset_t sigbus;

    guard->address = (uintptr_t)info->si_addr;
    guard->code = info->si_code;
    safemmap__self.guard = guard->outer;
    count(&safemmap__counts.recovered);
    /* The kernel blocked nothing for us, but a handler that called us may have
     * it block a good deal. */
    if (context != NULL)
        pthread_sigmask(SIG_SETMASK, &context->uc_sigmask, NULL);
    else {
        sigemptyset(&sigbus);
        sigaddset(&sigbus, SIGBUS);
        pthread_sigmask(SIG_UNBLOCK, &sigbus, NULL);
    }
    siglongjmp(guard->env, 1);
}

/* A handler above ours that hands a fault down with raise(3), once it has put us
 * back: seen from here it is a signal that the process sent itself, without an
 * address. If we just return, the instruction faults again, and this time the
 * kernel asks us. Were it a real raise, no fault follows, and disarming the
 * guard sends the signal once more. */
static bool
defer(const siginfo_t *info)
{
    struct safemmap__guard *guard = safemmap__self.guard;

    if (guard == NULL || guard->deferred || !sent_by_us(info))
        return false;
    guard->deferred_info = *info;
    guard->deferred = 1;
    return true;
}

/* ---- Overlays ---------------------------------------------------------- */

/* Two threads that fault on one page must not both replace it: the second would
 * take back what the first has stored since. */
int safemmap__overlay_lock;

/* So many pages of a region are replaced one by one; with the next goes all that is
 * still the file's, or a peer could exhaust vm.max_map_count with holes. */
enum { SINGLES_ALLOWED = 256 };

static size_t
page_count(const struct safemmap_region *region)
{
    return (region->end - region->start) / region->page_size;
}

static bool
is_overlaid(const struct safemmap_region *region, size_t page)
{
    return page >= region->tail ||
           (((unsigned)region->overlaid[page / CHAR_BIT] >> (page % CHAR_BIT)) & 1u);
}

/* The page after the run of pages from `page` on, up to `last`, that are still the
 * file's. */
static size_t
run_end(const struct safemmap_region *region, size_t page, size_t last)
{
    if (region->singles == 0)
        return last < region->tail ? last : region->tail;
    while (page < last && !is_overlaid(region, page))
        page++;
    return page;
}

/* Replaces the pages from `first` to before `last` that are still the file's, one
 * call for each run of them. */
static bool
replace(struct safemmap_region *region, size_t first, size_t last)
{
    bool all = true;

    if (last > region->tail)
        last = region->tail;
    for (size_t page = first; page < last;) {
        size_t end = run_end(region, page, last);

        if (end == page) {
            page++;
            continue;
        }
        void *at = (void *)(region->start + page * region->page_size);
        if (mmap(at, (end - page) * region->page_size, region->protection,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
                 0) == MAP_FAILED)
            all = false;
        else if (end == region->tail)
            region->tail = last = page;
        else
            for (size_t i = page; i < end; i++, region->singles++)
                region->overlaid[i / CHAR_BIT] |=
                    (unsigned char)(1u << (i % CHAR_BIT));
        page = end;
    }
    return all;
}

/* The pages to replace for a fault on `page`: all that lie past the end of the file,
 * where that is what happened, else the one page or poisoned granule. */
static void
extent(const struct safemmap_region *region, size_t page, const siginfo_t *info,
       size_t *ret_first, size_t *ret_last)
{
    struct stat status;

    *ret_first = page;
    *ret_last = page + 1;
    if (region->singles >= SINGLES_ALLOWED) {
        *ret_first = 0;
        *ret_last = page_count(region);
        return;
    }
#ifdef BUS_MCEERR_AR
    if (info->si_code == BUS_MCEERR_AR || info->si_code == BUS_MCEERR_AO) {
        uintptr_t granule = (uintptr_t)1 << info->si_addr_lsb;
        uintptr_t low = (uintptr_t)info->si_addr & ~(granule - 1);
        uintptr_t high = low + granule;

        if (granule > region->page_size) {
            low = low > region->start ? low : region->start;
            high = high < region->end ? high : region->end;
            *ret_first = (low - region->start) / region->page_size;
            *ret_last = (high - region->start) / region->page_size;
        }
    }
#else
    (void)info;
#endif
    if (region->fd < 0 || fstat(region->fd, &status) < 0 || !S_ISREG(status.st_mode))
        return;
    size_t held = 0; /* pages that the file still backs */
    if (status.st_size > region->offset)
        held = ((size_t)(status.st_size - region->offset) + region->page_size - 1) /
               region->page_size;
    if (page >= held) {
        *ret_first = held;
        *ret_last = page_count(region);
    }
}

static bool
readable(uintptr_t address)
{
    char byte;
    struct iovec local = {&byte, 1}, remote = {(void *)address, 1};

    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1 ||
           errno != EFAULT;
}

/* The lock is held. False: the fault would only come back. */
static bool
overlay_locked(struct safemmap_region *region, const siginfo_t *info)
{
    uintptr_t address = (uintptr_t)info->si_addr;
    size_t page = (address - region->start) / region->page_size;
    size_t first, last;

    /* Another thread has just replaced it. */
    if (is_overlaid(region, page))
        return readable(address);

    /* Before the first zero can be read, so that who reads one learns of it. */
    if (!safemmap_region_poisoned(region)) {
        struct timespec now = {0, 0};

        clock_gettime(CLOCK_REALTIME, &now);
        region->fault.address = address;
        region->fault.code = info->si_code;
        region->fault.thread = (pid_t)syscall(SYS_gettid);
        region->fault.time_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
        __atomic_store_n(&region->poisoned, 1, __ATOMIC_RELEASE);
    }
    extent(region, page, info, &first, &last);
    if (!replace(region, first, last) && !is_overlaid(region, page) &&
        !replace(region, page, page + 1)) {
        /* No more mappings to be had: a wider hole that swallows the whole run
         * around the page needs no new one. */
        for (first = page; first > 0 && !is_overlaid(region, first - 1);)
            first--;
        for (last = page + 1; !is_overlaid(region, last);)
            last++;
        if (!replace(region, first, last))
            return false;
    }

    count(&safemmap__counts.overlaid);
    return true;
}

static bool
overlay(const siginfo_t *info)
{
    struct reading reading = start_reading();
    struct safemmap_region *region = safemmap__region_find((uintptr_t)info->si_addr);
    bool done = false;

    /* (A misaligned access has nothing wrong with its page.) */
    if (region != NULL && info->si_code != BUS_ADRALN) {
        while (__atomic_exchange_n(&safemmap__overlay_lock, 1, __ATOMIC_ACQUIRE) != 0)
            sched_yield();
        done = overlay_locked(region, info);
        __atomic_store_n(&safemmap__overlay_lock, 0, __ATOMIC_RELEASE);
    }
    stop_reading(&reading);
    return done;
}

/* ---- Forwarding -------------------------------------------------------- */

static bool
will_fault_again(const siginfo_t *info)
{
#ifdef BUS_MCEERR_AO
    if (info->si_code == BUS_MCEERR_AO)
        return false;
#endif
    return info->si_code > 0;
}

/* What happens where there is no handler. A fault is left to fault again, so
 * that the core dump shows where; a signal that was sent is sent again. */
static void
default_action(siginfo_t *info)
{
    struct sigaction fatal;
    sigset_t sigbus;

    memset(&fatal, 0, sizeof(fatal));
    fatal.sa_handler = SIG_DFL;
    sigaction(SIGBUS, &fatal, NULL);
    if (will_fault_again(info))
        return;
    syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGBUS, info);
    sigemptyset(&sigbus);
    sigaddset(&sigbus, SIGBUS);
    pthread_sigmask(SIG_UNBLOCK, &sigbus, NULL);
}

/* An action that answers a signal with raise(3) is asked again this often. */
enum { RAISES_ALLOWED = 2 };

/* Which link is next for a signal that has come in at `entry`: the entry's own, or
 * when the signal has come back from a link, an older one. It comes back by a call
 * with the siginfo that we passed on, or as a signal that this process sent itself.
 * The latter may also be a new one, after the action had left by a jump; two are told
 * apart as well as the stack can tell: a record at or below this frame is gone, and
 * one above it may be. */
static struct safemmap__progress
next_step(int entry, const siginfo_t *info)
{
    struct safemmap__progress last = safemmap__self.progress;
    struct safemmap__progress step = {.at = entry};

    if (last.record == NULL)
        return step;
    if (info == &last.record->info && last.record->before == (uintptr_t)last.record &&
        last.record->after == (uintptr_t)last.record) {
        if (step.at >= last.at)
            step.at = last.at - 1;
        return step;
    }
    if (!sent_by_us(info) || !last.may_raise ||
        (uintptr_t)last.record <= (uintptr_t)__builtin_frame_address(0))
        return step;
    /* A handler that put an older entry back before it raised has said where to go
     * on; one that did not is asked once more. */
    if (step.at >= last.at) {
        step.raised = last.raised < RAISES_ALLOWED ? last.raised + 1 : 0;
        step.at = step.raised > 0 ? last.at : last.at - 1;
    }
    return step;
}

/* The action at a link, SIG_DFL past the end. */
static void
action_at(int at, struct sigaction *ret_action)
{
    struct reading reading = start_reading();
    struct safemmap__chain *chain =
        __atomic_load_n(&safemmap__chain, __ATOMIC_SEQ_CST);

    memset(ret_action, 0, sizeof(*ret_action));
    ret_action->sa_handler = SIG_DFL;
    if (chain != NULL && at >= chain->count)
        at = chain->count - 1; /* cut off since */
    if (chain != NULL && at >= 0) {
        struct safemmap__link *link = &chain->link[at];

        if ((link->action.sa_flags & (int)SA_RESETHAND) == 0 ||
            __atomic_exchange_n(&link->spent, 1, __ATOMIC_RELAXED) == 0)
            *ret_action = link->action;
    }
    stop_reading(&reading);
}

static void
call(const struct sigaction *action, struct safemmap__progress step, int signo,
     const siginfo_t *info, void *context)
{
    struct safemmap__forwarding record = {.before = (uintptr_t)&record,
                                          .info = *info,
                                          .after = (uintptr_t)&record,
                                          .outer = safemmap__self.progress};
    sigset_t blocked = action->sa_mask, before;

    /* As the kernel would have called it. */
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
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    safemmap__self.progress = record.outer;
}

static void
forward(int entry, int signo, siginfo_t *info, void *context)
{
    struct safemmap__progress step = next_step(entry, info);
    struct sigaction action;

    if (safemmap__self.progress.record == NULL)
        count(&safemmap__counts.forwarded);
    action_at(step.at, &action);
    if (action.sa_handler == SIG_DFL)
        default_action(info);
    else if (action.sa_handler == SIG_IGN) {
        /* The kernel kills for a fault that is ignored. */
        if (will_fault_again(info))
            default_action(info);
    } else
        call(&action, step, signo, info, context);
}

/* ---- Entries ----------------------------------------------------------- */

static void
handle(int entry, int signo, siginfo_t *info, void *context)
{
    int saved_errno = errno;

    if (info->si_code > 0) {
        struct safemmap__guard *guard = guard_for((uintptr_t)info->si_addr);

        if (guard != NULL)
            jump(guard, info, context);
        if (!overlay(info))
            forward(entry, signo, info, context);
    } else if (!defer(info))
        forward(entry, signo, info, context);
    errno = saved_errno;
}

#define ENTRY(number)                                                     \
    static void entry_##number(int signo, siginfo_t *info, void *context) \
    {                                                                     \
        handle(number, signo, info, context);                             \
    }
ENTRY(0)
ENTRY(1)
ENTRY(2)
ENTRY(3)
ENTRY(4)
ENTRY(5)
ENTRY(6)
ENTRY(7)

safemmap__entry *const safemmap__entries[SAFEMMAP__ENTRIES] = {
    entry_0, entry_1, entry_2, entry_3, entry_4, entry_5, entry_6, entry_7};
