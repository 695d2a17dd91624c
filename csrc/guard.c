/* Runs only outside the signal: the guarded operations.
 *
 * Short copies need no guard (arch/x86_64_copy.c, for one). Each of the others arms
 * one and calls a function that touches memory in a straight line of plain C. A fault
 * inside makes the handler return from that call, so in such a function there is no
 * allocation, no lock, and no foreign code but the string functions of the C library.
 */
#include "copies.h"
#include "operations.h"

#include <errno.h>
#include <string.h>

#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#define SAFEMMAP__NOINLINE __attribute__((noinline))

/* A handler check asks the kernel who handles SIGBUS, and whether this thread blocks
 * it: two system calls, which cost as much as twenty small operations. A thread reads
 * the clock after so many of those, or one on SAFEMMAP_BULK bytes, and checks if its
 * last check was so long ago. */
enum { CHECK_EVERY = 64 };
#define CHECK_INTERVAL_NS ((uint64_t)100 * 1000)

/* ---- Arming ------------------------------------------------------------ */

/* A fault of a thread that blocks SIGBUS is fatal, by the kernel's rule. In a sandbox
 * that does not let us ask, the thread can hardly have changed its mask since the
 * last check.
 */
static bool
is_blocked(bool was_well)
{
    sigset_t mask;

    return pthread_sigmask(SIG_BLOCK, NULL, &mask) != 0
               ? !was_well
               : sigismember(&mask, SIGBUS) == 1;
}

/* -ECANCELED: the operation has to do without the handler, though nothing is wrong.
 * (From then on each operation checks.) */
static int
check_handler(bool was_well)
{
    int error = safemmap__check_handler();

    if (error < 0)
        return error;
    return is_blocked(was_well) ? -ECANCELED : 0;
}

/* 0 where the system does not tell. */
static uint64_t
nanoseconds(void)
{
    struct timespec time;

    if (clock_gettime(CLOCK_MONOTONIC, &time) != 0)
        return 0;
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* Whether the last check of this thread that found all well is recent. (A clock that
 * stands still, as a test's may, proves nothing; one that was set back, as when a
 * process is restored from a checkpoint, makes the difference large.) */
static bool
has_just_checked(uint64_t now)
{
    uint64_t last = safemmap__self.checked_at;

    return last != 0 && now != last && now - last < CHECK_INTERVAL_NS &&
           __atomic_load_n(&safemmap__check_below, __ATOMIC_RELAXED) ==
               SAFEMMAP__CHECK_WHEN_DUE;
}

static SAFEMMAP__NOINLINE int
check_if_time(void)
{
    const bool was_well = safemmap__self.checked_at != 0;
    uint64_t now = nanoseconds();
    int error;

    if (!has_just_checked(now)) {
        safemmap__self.errno_location = &errno;
        safemmap__self.checked_at = 0;
        safemmap__self.check_due = 0;
        if ((error = check_handler(was_well)) < 0)
            return error;
        safemmap__self.checked_at = now;
    }
    safemmap__self.check_due = CHECK_EVERY - 1;
    return 0;
}

static inline bool
check_is_due(void)
{
    unsigned due = safemmap__self.check_due;

    if (UNLIKELY(due < __atomic_load_n(&safemmap__check_below, __ATOMIC_RELAXED)))
        return true;
    safemmap__self.check_due = due - 1;
    return false;
}

int
safemmap__prepare(size_t size)
{
    return size >= SAFEMMAP_BULK || check_is_due() ? check_if_time() : 0;
}

/* The handler was displaced too often: the operation goes through system calls. */
static int
fell_back(int error)
{
    return error < 0 ? error : 1;
}

/* Returns from the operation unless it can be guarded here. (Where another copy
 * serves this one, checks are always due.) */
#define PREPARE(size, operation, ...)                            \
    do {                                                         \
        if (UNLIKELY((size) >= SAFEMMAP_BULK || check_is_due())) \
            REQUIRE_HANDLER(operation, __VA_ARGS__);             \
    } while (0)
#define REQUIRE_HANDLER(operation, ...)                                \
    do {                                                               \
        int error_;                                                    \
                                                                       \
        if (safemmap__host != NULL)                                    \
            return safemmap__host->operations->operation(__VA_ARGS__); \
        error_ = check_if_time();                                      \
        if (UNLIKELY(error_ < 0)) {                                    \
            int done_ = safemmap_kernel.operation(__VA_ARGS__);        \
                                                                       \
            return error_ == -EBUSY ? fell_back(done_) : done_;        \
        }                                                              \
    } while (0)

/* Calls `run` under the guard, which covers what it touches. Returns what that
 * returns, and whether there was no fault; after one, the handler has taken the guard
 * off the stack, and filled in the fault. */
static inline bool
guarded(struct safemmap__guard *guard, safemmap__access *run, const void *arguments,
        uintptr_t *ret_result)
{
    int saved_errno = *safemmap__self.errno_location;

    guard->outer = safemmap__self.guard;
    guard->deferred = 0;
    guard->is_block = false;
    guard->fault.code = 0;
    safemmap__self.guard = guard;
    *ret_result = safemmap__call(&guard->place, run, arguments);
    if (UNLIKELY(guard->fault.code != 0)) {
        errno = saved_errno;
        return false;
    }
    safemmap__self.guard = guard->outer;
    /* It was not the echo of a fault. */
    if (UNLIKELY(guard->deferred))
        safemmap__os_send_again(&guard->deferred_info);
    return true;
}

/* ---- Finding the first page that is gone ------------------------------- */

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
    const struct safemmap_fault *fault;
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
side_of(const struct safemmap_fault *fault, const struct span span[2])
{
    uintptr_t page = page_of(fault->address), at = first_from(&span[0], page);

    return at < span[0].end && page_of(at) == page ? 0 : 1;
}

static void
describe(const struct safemmap_fault *fault, const struct span span[2],
         struct safemmap_fault *ret_fault)
{
    uintptr_t page = page_of(fault->address),
              start = span[side_of(fault, span)].start;

    ret_fault->address = page > start ? page : start;
    ret_fault->code = fault->code;
}

/* Everything that comes before the page that faulted, in the order source then
 * target. */
static uintptr_t
touch_before(const void *arguments)
{
    const struct touching *touching = arguments;
    int side = side_of(touching->fault, touching->span);

    if (side == 1)
        touch(&touching->span[0], touching->span[0].end);
    touch(&touching->span[side], page_of(touching->fault->address));
    return 0;
}

/* After a fault: memcpy(3) and its kin touch bytes in any order, so what comes before
 * is tried once more. */
static SAFEMMAP__NOINLINE int
report(struct safemmap_fault fault, struct span source, struct span target,
       struct safemmap_fault *ret_fault)
{
    const struct span span[2] = {source, target};
    const struct touching touching = {&fault, span};
    struct safemmap__guard guard;
    uintptr_t nothing;

    describe(&fault, span, ret_fault);
    cover(&guard, source, target);
    if (!guarded(&guard, touch_before, &touching, &nothing))
        describe(&guard.fault, span, ret_fault);
    return safemmap__os_is_poison(ret_fault->code) ? -EHWPOISON : -EFAULT;
}

/* Runs an access under a guard for both sides, or returns from the operation. (The
 * sides are named twice, so that they are put into words only after a fault.) */
#define ACCESS(run, arguments, source, target, ret_result)           \
    do {                                                             \
        struct safemmap__guard guard_;                               \
                                                                     \
        cover(&guard_, source, target);                              \
        if (UNLIKELY(!guarded(&guard_, run, arguments, ret_result))) \
            return report(guard_.fault, source, target, ret_fault);  \
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

/* safemmap__fixup_reporter: runs in the place of a copy that faulted. */
static int
report_copy(void *target, const void *source, size_t size,
            struct safemmap_fault *ret_fault, uint64_t state, uintptr_t address)
{
    errno = (int)(uint32_t)state;
    return report((struct safemmap_fault){address, (int)(state >> 32)},
                  contiguous(source, size, false), contiguous(target, size, true),
                  ret_fault);
}

SAFEMMAP__CONSTRUCTOR static void
set_reporter(void)
{
    safemmap__fixup_report = report_copy;
}

static SAFEMMAP__NOINLINE int
copy_any(void *target, const void *source, size_t size,
         struct safemmap_fault *ret_fault)
{
    const int saved_errno = *safemmap__self.errno_location;

    if (size - 1 < safemmap__fixup_short)
        return safemmap__fixup_copy(target, source, size, ret_fault, saved_errno);
    if (size <= safemmap__fixup_long && !begins_within(target, source, size))
        return safemmap__fixup_copy_long(target, source, size, ret_fault,
                                         saved_errno);
    return large_copy(target, source, size, ret_fault);
}

static SAFEMMAP__NOINLINE int
prepare_and_copy(void *target, const void *source, size_t size,
                 struct safemmap_fault *ret_fault)
{
    if (size == 0)
        return 0;
    PREPARE(size, copy, target, source, size, ret_fault);
    return copy_any(target, source, size, ret_fault);
}

/* (Two conditions, and in this order: for one in common gcc moves the arguments to
 * other registers.) */
int
safemmap_copy(void *target, const void *source, size_t size,
              struct safemmap_fault *ret_fault)
{
    if (UNLIKELY(size - 1 >= safemmap__fixup_short))
        return prepare_and_copy(target, source, size, ret_fault);
    if (UNLIKELY(check_is_due()))
        return prepare_and_copy(target, source, size, ret_fault);
    return safemmap__fixup_copy(target, source, size, ret_fault,
                                *safemmap__self.errno_location);
}

static SAFEMMAP__NOINLINE int
prepare_and_load(const void *source, unsigned char *ret_byte,
                 struct safemmap_fault *ret_fault)
{
    PREPARE(1, load, source, ret_byte, ret_fault);
    return copy_any(ret_byte, source, 1, ret_fault);
}

int
safemmap_load(const void *source, unsigned char *ret_byte,
              struct safemmap_fault *ret_fault)
{
    if (UNLIKELY(safemmap__fixup_short == 0))
        return prepare_and_load(source, ret_byte, ret_fault);
    if (UNLIKELY(check_is_due()))
        return prepare_and_load(source, ret_byte, ret_fault);
    return safemmap__fixup_load(ret_byte, source, 1, ret_fault,
                                *safemmap__self.errno_location);
}

int
safemmap_store(void *target, unsigned char byte, struct safemmap_fault *ret_fault)
{
    PREPARE(1, store, target, byte, ret_fault);
    return copy_any(target, &byte, 1, ret_fault);
}

struct stepping {
    unsigned char *target;
    const unsigned char *source;
    ptrdiff_t step;
    size_t count;
};

static uintptr_t
run_gather(const void *arguments)
{
    const struct stepping *stepping = arguments;

    safemmap__gather(stepping->target, stepping->source, stepping->step,
                     stepping->count);
    return 0;
}

static uintptr_t
run_scatter(const void *arguments)
{
    const struct stepping *stepping = arguments;

    safemmap__scatter(stepping->target, stepping->step, stepping->source,
                      stepping->count);
    return 0;
}

int
safemmap_gather(void *target, const void *source, ptrdiff_t step, size_t count,
                struct safemmap_fault *ret_fault)
{
    const struct stepping stepping = {target, source, step, count};
    uintptr_t nothing;

    if (count == 0)
        return 0;
    PREPARE(count, gather, target, source, step, count, ret_fault);
    ACCESS(run_gather, &stepping, strided(source, step, count, false),
           contiguous(target, count, true), &nothing);
    return 0;
}

int
safemmap_scatter(void *target, ptrdiff_t step, const void *source, size_t count,
                 struct safemmap_fault *ret_fault)
{
    const struct stepping stepping = {target, source, step, count};
    uintptr_t nothing;

    if (count == 0)
        return 0;
    PREPARE(count, scatter, target, step, source, count, ret_fault);
    ACCESS(run_scatter, &stepping, contiguous(source, count, false),
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

    PREPARE(size, compare, left, right, size, ret_order, ret_fault);
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
find_with(safemmap__search *search, const void *text, size_t size,
          const void *pattern, size_t pattern_size, ptrdiff_t *ret_index,
          struct safemmap_fault *ret_fault)
{
    const struct searching searching = {search, text, size, pattern, pattern_size};
    uintptr_t found;

    ACCESS(run_search, &searching, contiguous(text, size, false),
           contiguous(pattern, pattern_size, false), &found);
    *ret_index = safemmap__index((const void *)found, text);
    return 0;
}

static SAFEMMAP__NOINLINE int
find_forward(const void *text, size_t size, const void *pattern, size_t pattern_size,
             ptrdiff_t *ret_index, struct safemmap_fault *ret_fault)
{
    PREPARE(size, find, text, size, pattern, pattern_size, ret_index, ret_fault);
    return find_with(safemmap__search_forward, text, size, pattern, pattern_size,
                     ret_index, ret_fault);
}

/* A search that goes further than that, or faults, takes a guard. */
static SAFEMMAP__NOINLINE int
find_byte(const void *text, size_t size, const void *pattern, ptrdiff_t *ret_index,
          struct safemmap_fault *ret_fault)
{
    ptrdiff_t near;

    if (safemmap__fixup_find(pattern, text, safemmap__fixup_near, ret_fault,
                             *safemmap__self.errno_location, &near) < 0 ||
        near < 0)
        return find_forward(text, size, pattern, 1, ret_index, ret_fault);
    *ret_index = near;
    return 0;
}

int
safemmap_find(const void *text, size_t size, const void *pattern, size_t pattern_size,
              ptrdiff_t *ret_index, struct safemmap_fault *ret_fault)
{
    if (pattern_size != 1 || size == 0 || safemmap__fixup_near == 0 || check_is_due())
        return find_forward(text, size, pattern, pattern_size, ret_index, ret_fault);
    if (size > safemmap__fixup_near)
        return find_byte(text, size, pattern, ret_index, ret_fault);
    return safemmap__fixup_find(pattern, text, size, ret_fault,
                                *safemmap__self.errno_location, ret_index);
}

int
safemmap_rfind(const void *text, size_t size, const void *pattern,
               size_t pattern_size, ptrdiff_t *ret_index,
               struct safemmap_fault *ret_fault)
{
    PREPARE(size, rfind, text, size, pattern, pattern_size, ret_index, ret_fault);
    return find_with(safemmap__search_backward, text, size, pattern, pattern_size,
                     ret_index, ret_fault);
}

const struct safemmap_operations safemmap_guarded = {
    safemmap_copy,    safemmap_load,    safemmap_store, safemmap_gather,
    safemmap_scatter, safemmap_compare, safemmap_find,  safemmap_rfind,
};
