/* Runs only outside the signal: the guarded operations.
 *
 * Small copies need no guard (fixup.c). Each of the others arms a guard, touches
 * memory in a straight line of plain C, and disarms. A fault inside makes the handler
 * jump back to the sigsetjmp, so between arming and disarming there is no allocation,
 * no lock, no foreign code but the string functions of the C library, and no local
 * variable that is written and then read after the jump. The functions are never
 * inlined: the frame that called sigsetjmp must be alive while its guard is armed.
 */
#include "internal.h"
#include "raw.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#define SAFEMMAP__NOINLINE __attribute__((noinline))

/* Small operations between two looks at who handles SIGBUS, and between two at
 * whether the thread blocks it: system calls, each of which costs as much as ten
 * operations. */
#define LOOK_EVERY 64u
#define LOOK_AT_MASK_EVERY 256u

/* What an operation counts there. */
#define WHOLE 16u
#define STEP 1u

/* ---- Arming ------------------------------------------------------------ */

/* A fault of a thread that blocks SIGBUS is fatal, by the kernel's rule. */
static bool
is_blocked(void)
{
    sigset_t mask;

    return pthread_sigmask(SIG_BLOCK, NULL, &mask) != 0 ||
           sigismember(&mask, SIGBUS) == 1;
}

/* -ECANCELED: there is no handler to be had for this operation, though nothing is
 * wrong. What was found once to be so is looked at each time. */
static SAFEMMAP__NOINLINE int
look(bool bulk)
{
    int error = safemmap__look();
    unsigned due = safemmap__self.mask_due;

    safemmap__self.errno_location = &errno;
    safemmap__self.look_due = 0;
    if (error < 0)
        return error;
    if (due == 0 || bulk) {
        safemmap__self.mask_due = 0;
        if (is_blocked())
            return -ECANCELED;
        due = LOOK_AT_MASK_EVERY;
    }
    safemmap__self.mask_due = due - LOOK_EVERY;
    safemmap__self.look_due = LOOK_EVERY * WHOLE;
    return 0;
}

static inline int
prepare(size_t size, unsigned count)
{
    unsigned due = safemmap__self.look_due;

    if (UNLIKELY(due < count || size >= SAFEMMAP_BULK ||
                 __atomic_load_n(&safemmap__given_up, __ATOMIC_RELAXED)))
        return look(size >= SAFEMMAP_BULK);
    safemmap__self.look_due = due - count;
    return 0;
}

/* The handler was displaced too often: the operation goes by way of the kernel. */
static int
fell_back(int error)
{
    return error < 0 ? error : 1;
}

/* Returns from the operation unless it can be guarded. */
#define PREPARE(size, count, instead)                          \
    do {                                                       \
        int error_ = prepare(size, count);                     \
                                                               \
        if (UNLIKELY(error_ < 0))                              \
            return error_ == -EBUSY       ? fell_back(instead) \
                   : error_ == -ECANCELED ? (instead)          \
                                          : error_;            \
    } while (0)

static inline void
arm(struct safemmap__guard *guard)
{
    guard->outer = safemmap__self.guard;
    guard->deferred = 0;
    safemmap__self.guard = guard;
    /* The accesses stay between the fences; the handler runs on this thread, so
     * the compiler is the only one to hold back. */
    atomic_signal_fence(memory_order_seq_cst);
}

/* A SIGBUS that waited in the guard was not the echo of a fault: it is sent
 * again, as it came. */
static SAFEMMAP__NOINLINE void
send_deferred(siginfo_t *info)
{
    syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGBUS, info);
}

static inline void
disarm(struct safemmap__guard *guard)
{
    atomic_signal_fence(memory_order_seq_cst);
    safemmap__self.guard = guard->outer;
    if (UNLIKELY(guard->deferred))
        send_deferred(&guard->deferred_info);
}

/* Runs `body` under `guard`, and `on_fault` if it met one; the handler has taken
 * the guard off the stack by then. The signal mask is not saved (that would cost
 * a system call a time): the handler restores it. What is needed after the jump is
 * stored before sigsetjmp, or by the handler: the compiler does not know that the
 * body can jump. */
#define GUARDED(guard, body, on_fault)         \
    do {                                       \
        (guard)->saved_errno = errno;          \
        if (sigsetjmp((guard)->env, 0) == 0) { \
            arm(guard);                        \
            body;                              \
            disarm(guard);                     \
        } else {                               \
            errno = (guard)->saved_errno;      \
            on_fault;                          \
        }                                      \
    } while (0)

/* ---- Finding the first page that is gone ------------------------------- */

/* For the side that takes no part. */
#define NO_SPAN ((struct span){0, 0, 1, false})

/* Whole pages: memchr(3) and its kin load aligned vectors, which begin before the
 * range and end after it, though never on another page. */
static inline void
cover(struct safemmap__guard *guard, struct span source, struct span target)
{
    guard->range[0].start = page_of(source.start);
    guard->range[0].end = page_of(source.end + safemmap__page_size - 1);
    guard->range[1].start = page_of(target.start);
    guard->range[1].end = page_of(target.end + safemmap__page_size - 1);
}

/* Touches one byte in each page below `limit` that the span touches. A page that
 * can be read may still refuse a write (a full disk), and only a write that
 * changes nothing tells. */
static void
touch(const struct span *span, uintptr_t limit)
{
    uintptr_t at = span->start;

    while (at < span->end && at < limit) {
        unsigned char nothing = 0;

        /* clang drops a store that it knows to change nothing. */
        __asm__ volatile("" : "+r"(nothing));
        if (span->written)
            __atomic_fetch_or((volatile unsigned char *)at, nothing,
                              __ATOMIC_RELAXED);
        else
            (void)*(volatile const unsigned char *)at;
        at = first_from(span, page_of(at) + safemmap__page_size);
    }
}

/* Which of the two has a byte on the page that faulted: the source if both do. */
static int
side_of(const struct safemmap__met *met, const struct span span[2])
{
    uintptr_t page = page_of(met->address), at = first_from(&span[0], page);

    return at < span[0].end && page_of(at) == page ? 0 : 1;
}

static void
describe(const struct safemmap__met *met, const struct span span[2],
         struct safemmap_fault *ret_fault)
{
    uintptr_t page = page_of(met->address), start = span[side_of(met, span)].start;

    ret_fault->address = page > start ? page : start;
    ret_fault->code = (int)met->code;
}

/* Everything that comes before the page that `met` names, in the order source
 * then target. */
static void
touch_before(const struct safemmap__met *met, const struct span span[2])
{
    int side = side_of(met, span);

    if (side == 1)
        touch(&span[0], span[0].end);
    touch(&span[side], page_of(met->address));
}

/* After a fault that `met` describes: memcpy(3) and its kin touch bytes in any
 * order, so what comes before is tried once more. */
static SAFEMMAP__NOINLINE int
report(struct safemmap__met met, struct span source, struct span target,
       struct safemmap_fault *ret_fault)
{
    const struct span span[2] = {source, target};
    struct safemmap__guard guard;

    describe(&met, span, ret_fault);
    cover(&guard, source, target);
    GUARDED(&guard, touch_before(&met, span), describe(&guard.met, span, ret_fault));
#ifdef BUS_MCEERR_AR
    if (ret_fault->code == BUS_MCEERR_AR || ret_fault->code == BUS_MCEERR_AO)
        return -EHWPOISON;
#endif
    return -EFAULT;
}

/* ---- The operations ---------------------------------------------------- */

static SAFEMMAP__NOINLINE int
large_copy(void *target, const void *source, size_t size,
           struct safemmap_fault *ret_fault)
{
    struct safemmap__guard guard;

    cover(&guard, contiguous(source, size, false), contiguous(target, size, true));
    GUARDED(&guard, memmove(target, source, size),
            return report(guard.met, contiguous(source, size, false),
                          contiguous(target, size, true), ret_fault));
    return 0;
}

static inline int
copy(void *target, const void *source, size_t size, struct safemmap_fault *ret_fault)
{
    struct safemmap__met met;
    int saved_errno;

    if (size > SAFEMMAP__FIXUP_SIZE)
        return large_copy(target, source, size, ret_fault);
    saved_errno = *safemmap__self.errno_location;
    met = safemmap__fixup_copy(target, source, size);
    if (UNLIKELY(met.code != 0)) {
        errno = saved_errno;
        return report(met, contiguous(source, size, false),
                      contiguous(target, size, true), ret_fault);
    }
    return 0;
}

int
safemmap_copy(void *target, const void *source, size_t size,
              struct safemmap_fault *ret_fault)
{
    if (size == 0)
        return 0;
    PREPARE(size, WHOLE, safemmap_kernel.copy(target, source, size, ret_fault));
    return copy(target, source, size, ret_fault);
}

static inline int
load(const void *source, unsigned char *ret_byte, struct safemmap_fault *ret_fault)
{
    unsigned char byte;
    int error = copy(&byte, source, 1, ret_fault);

    if (error == 0)
        *ret_byte = byte;
    return error;
}

int
safemmap_load(const void *source, unsigned char *ret_byte,
              struct safemmap_fault *ret_fault)
{
    PREPARE(1, WHOLE, safemmap_kernel.load(source, ret_byte, ret_fault));
    return load(source, ret_byte, ret_fault);
}

int
safemmap_load_next(const void *source, unsigned char *ret_byte,
                   struct safemmap_fault *ret_fault)
{
    PREPARE(1, STEP, safemmap_kernel.load(source, ret_byte, ret_fault));
    return load(source, ret_byte, ret_fault);
}

int
safemmap_store(void *target, unsigned char byte, struct safemmap_fault *ret_fault)
{
    PREPARE(1, WHOLE, safemmap_kernel.store(target, byte, ret_fault));
    return copy(target, &byte, 1, ret_fault);
}

SAFEMMAP__NOINLINE int
safemmap_gather(void *target, const void *source, ptrdiff_t step, size_t count,
                struct safemmap_fault *ret_fault)
{
    struct safemmap__guard guard;

    if (count == 0)
        return 0;
    PREPARE(count, WHOLE,
            safemmap_kernel.gather(target, source, step, count, ret_fault));
    cover(&guard, strided(source, step, count, false),
          contiguous(target, count, true));
    GUARDED(&guard, safemmap__copy_strided(target, 1, source, step, count),
            return report(guard.met, strided(source, step, count, false),
                          contiguous(target, count, true), ret_fault));
    return 0;
}

SAFEMMAP__NOINLINE int
safemmap_scatter(void *target, ptrdiff_t step, const void *source, size_t count,
                 struct safemmap_fault *ret_fault)
{
    struct safemmap__guard guard;

    if (count == 0)
        return 0;
    PREPARE(count, WHOLE,
            safemmap_kernel.scatter(target, step, source, count, ret_fault));
    cover(&guard, contiguous(source, count, false),
          strided(target, step, count, true));
    GUARDED(&guard, safemmap__copy_strided(target, step, source, 1, count),
            return report(guard.met, contiguous(source, count, false),
                          strided(target, step, count, true), ret_fault));
    return 0;
}

SAFEMMAP__NOINLINE int
safemmap_compare(const void *left, const void *right, size_t size, int *ret_order,
                 struct safemmap_fault *ret_fault)
{
    struct safemmap__guard guard;
    int order = 0;

    PREPARE(size, WHOLE,
            safemmap_kernel.compare(left, right, size, ret_order, ret_fault));
    cover(&guard, contiguous(left, size, false), contiguous(right, size, false));
    GUARDED(&guard, order = memcmp(left, right, size),
            return report(guard.met, contiguous(left, size, false),
                          contiguous(right, size, false), ret_fault));
    *ret_order = order;
    return 0;
}

static inline int
find_with(safemmap__search *run, safemmap_find_operation *instead, const void *text,
          size_t size, const void *pattern, size_t pattern_size, ptrdiff_t *ret_index,
          struct safemmap_fault *ret_fault)
{
    struct safemmap__guard guard;
    const void *found = NULL;

    PREPARE(size, WHOLE,
            instead(text, size, pattern, pattern_size, ret_index, ret_fault));
    cover(&guard, contiguous(text, size, false),
          contiguous(pattern, pattern_size, false));
    GUARDED(&guard, found = run(text, size, pattern, pattern_size),
            return report(guard.met, contiguous(text, size, false),
                          contiguous(pattern, pattern_size, false), ret_fault));
    *ret_index = safemmap__index(found, text);
    return 0;
}

SAFEMMAP__NOINLINE int
safemmap_find(const void *text, size_t size, const void *pattern, size_t pattern_size,
              ptrdiff_t *ret_index, struct safemmap_fault *ret_fault)
{
    return find_with(safemmap__search_forward, safemmap_kernel.find, text, size,
                     pattern, pattern_size, ret_index, ret_fault);
}

SAFEMMAP__NOINLINE int
safemmap_rfind(const void *text, size_t size, const void *pattern,
               size_t pattern_size, ptrdiff_t *ret_index,
               struct safemmap_fault *ret_fault)
{
    return find_with(safemmap__search_backward, safemmap_kernel.rfind, text, size,
                     pattern, pattern_size, ret_index, ret_fault);
}

const struct safemmap_operations safemmap_guarded = {
    safemmap_copy,    safemmap_load,   safemmap_load_next,
    safemmap_store,   safemmap_gather, safemmap_scatter,
    safemmap_compare, safemmap_find,   safemmap_rfind,
};
