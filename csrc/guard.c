/* Runs only outside the signal: the guarded operations.
 *
 * Short copies need no guard (fixup.c). Each of the others arms one and calls a
 * function that touches memory in a straight line of plain C. A fault inside makes
 * the handler return from that call, so in such a function there is no allocation, no
 * lock, and no foreign code but the string functions of the C library.
 */
#include "internal.h"
#include "raw.h"

#include <errno.h>
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
    safemmap__self.look_due = (LOOK_EVERY - 1) * WHOLE;
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

/* A SIGBUS that waited in the guard was not the echo of a fault: it is sent
 * again, as it came. */
static SAFEMMAP__NOINLINE void
send_deferred(siginfo_t *info)
{
    syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGBUS, info);
}

/* Calls `run` under the guard, which covers what it touches. Returns what that
 * returns, and whether it met no fault; the handler has taken the guard off the stack
 * by then, and filled in what it met. */
static inline bool
guarded(struct safemmap__guard *guard, safemmap__access *run, const void *arguments,
        uintptr_t *ret_result)
{
    int saved_errno = *safemmap__self.errno_location;

    guard->outer = safemmap__self.guard;
    guard->deferred = 0;
    guard->met.code = 0;
    safemmap__self.guard = guard;
    *ret_result = safemmap__call(guard, run, arguments);
    if (UNLIKELY(guard->met.code != 0)) {
        errno = saved_errno;
        return false;
    }
    safemmap__self.guard = guard->outer;
    if (UNLIKELY(guard->deferred))
        send_deferred(&guard->deferred_info);
    return true;
}

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

struct touching {
    const struct safemmap__met *met;
    const struct span *span;
};

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

/* Everything that comes before the page that was met, in the order source then
 * target. */
static uintptr_t
touch_before(const void *arguments)
{
    const struct touching *touching = arguments;
    int side = side_of(touching->met, touching->span);

    if (side == 1)
        touch(&touching->span[0], touching->span[0].end);
    touch(&touching->span[side], page_of(touching->met->address));
    return 0;
}

/* After a fault: memcpy(3) and its kin touch bytes in any order, so what comes before
 * is tried once more. */
static SAFEMMAP__NOINLINE int
report(struct safemmap__met met, struct span source, struct span target,
       struct safemmap_fault *ret_fault)
{
    const struct span span[2] = {source, target};
    const struct touching touching = {&met, span};
    struct safemmap__guard guard;
    uintptr_t nothing;

    describe(&met, span, ret_fault);
    cover(&guard, source, target);
    if (!guarded(&guard, touch_before, &touching, &nothing))
        describe(&guard.met, span, ret_fault);
#ifdef BUS_MCEERR_AR
    if (ret_fault->code == BUS_MCEERR_AR || ret_fault->code == BUS_MCEERR_AO)
        return -EHWPOISON;
#endif
    return -EFAULT;
}

/* Runs an access under a guard for both sides, or returns from the operation. (The
 * sides are named twice, so that they are put into words only after a fault.) */
#define ACCESS(run, arguments, source, target, ret_result)           \
    do {                                                             \
        struct safemmap__guard guard_;                               \
                                                                     \
        cover(&guard_, source, target);                              \
        if (UNLIKELY(!guarded(&guard_, run, arguments, ret_result))) \
            return report(guard_.met, source, target, ret_fault);    \
    } while (0)

/* ---- The operations ---------------------------------------------------- */

struct copying {
    void *target;
    const void *source;
    size_t size;
};

static uintptr_t
run_copy(const void *arguments)
{
    const struct copying *copying = arguments;

    safemmap__move(copying->target, copying->source, copying->size);
    return 0;
}

static SAFEMMAP__NOINLINE int
large_copy(void *target, const void *source, size_t size,
           struct safemmap_fault *ret_fault)
{
    const struct copying copying = {target, source, size};
    uintptr_t nothing;

    ACCESS(run_copy, &copying, contiguous(source, size, false),
           contiguous(target, size, true), &nothing);
    return 0;
}

static inline int
copy(void *target, const void *source, size_t size, struct safemmap_fault *ret_fault)
{
    struct safemmap__met met;
    int saved_errno;

    if (size > safemmap__fixup_size ||
        (size > SAFEMMAP__FIXUP_SHORT && begins_within(target, source, size)))
        return large_copy(target, source, size, ret_fault);
    saved_errno = *safemmap__self.errno_location;
    met = size <= SAFEMMAP__FIXUP_SHORT
              ? safemmap__fixup_copy(target, source, size)
              : safemmap__fixup_copy_avx(target, source, size);
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
    struct safemmap__met met;
    int saved_errno;

    if (safemmap__fixup_size == 0)
        return large_copy(ret_byte, source, 1, ret_fault);
    saved_errno = *safemmap__self.errno_location;
    met = safemmap__fixup_load(source, source, 1);
    if (UNLIKELY(met.code != 0)) {
        errno = saved_errno;
        return report(met, contiguous(source, 1, false), NO_SPAN, ret_fault);
    }
    *ret_byte = (unsigned char)met.address;
    return 0;
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

struct stepping {
    unsigned char *target;
    ptrdiff_t target_step;
    const unsigned char *source;
    ptrdiff_t source_step;
    size_t count;
};

static uintptr_t
run_steps(const void *arguments)
{
    const struct stepping *stepping = arguments;

    safemmap__copy_strided(stepping->target, stepping->target_step, stepping->source,
                           stepping->source_step, stepping->count);
    return 0;
}

int
safemmap_gather(void *target, const void *source, ptrdiff_t step, size_t count,
                struct safemmap_fault *ret_fault)
{
    const struct stepping stepping = {target, 1, source, step, count};
    uintptr_t nothing;

    if (count == 0)
        return 0;
    PREPARE(count, WHOLE,
            safemmap_kernel.gather(target, source, step, count, ret_fault));
    ACCESS(run_steps, &stepping, strided(source, step, count, false),
           contiguous(target, count, true), &nothing);
    return 0;
}

int
safemmap_scatter(void *target, ptrdiff_t step, const void *source, size_t count,
                 struct safemmap_fault *ret_fault)
{
    const struct stepping stepping = {target, step, source, 1, count};
    uintptr_t nothing;

    if (count == 0)
        return 0;
    PREPARE(count, WHOLE,
            safemmap_kernel.scatter(target, step, source, count, ret_fault));
    ACCESS(run_steps, &stepping, contiguous(source, count, false),
           strided(target, step, count, true), &nothing);
    return 0;
}

struct comparing {
    const void *left, *right;
    size_t size;
};

static uintptr_t
run_comparison(const void *arguments)
{
    const struct comparing *comparing = arguments;

    return (uintptr_t)memcmp(comparing->left, comparing->right, comparing->size);
}

int
safemmap_compare(const void *left, const void *right, size_t size, int *ret_order,
                 struct safemmap_fault *ret_fault)
{
    const struct comparing comparing = {left, right, size};
    uintptr_t order;

    PREPARE(size, WHOLE,
            safemmap_kernel.compare(left, right, size, ret_order, ret_fault));
    ACCESS(run_comparison, &comparing, contiguous(left, size, false),
           contiguous(right, size, false), &order);
    *ret_order = (int)order;
    return 0;
}

struct searching {
    safemmap__search *search;
    const void *text;
    size_t size;
    const void *pattern;
    size_t pattern_size;
};

static uintptr_t
run_search(const void *arguments)
{
    const struct searching *searching = arguments;

    return (uintptr_t)searching->search(searching->text, searching->size,
                                        searching->pattern, searching->pattern_size);
}

static inline int
find_with(safemmap__search *search, safemmap_find_operation *instead,
          const void *text, size_t size, const void *pattern, size_t pattern_size,
          ptrdiff_t *ret_index, struct safemmap_fault *ret_fault)
{
    const struct searching searching = {search, text, size, pattern, pattern_size};
    uintptr_t found;

    PREPARE(size, WHOLE,
            instead(text, size, pattern, pattern_size, ret_index, ret_fault));
    ACCESS(run_search, &searching, contiguous(text, size, false),
           contiguous(pattern, pattern_size, false), &found);
    *ret_index = safemmap__index((const void *)found, text);
    return 0;
}

int
safemmap_find(const void *text, size_t size, const void *pattern, size_t pattern_size,
              ptrdiff_t *ret_index, struct safemmap_fault *ret_fault)
{
    return find_with(safemmap__search_forward, safemmap_kernel.find, text, size,
                     pattern, pattern_size, ret_index, ret_fault);
}

int
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
