/* The interface to a processor. A new one needs arch/X_context.c, and its name in
 * platform.c; for the other parts the generic files work. Assembly for copies and
 * calls comes in files like x86_64_{copy,call}.c, one for the restorer in one like
 * x86_64_restorer.c; then it belongs into the conditions of SAFEMMAP__ASSEMBLY and
 * SAFEMMAP__RESTORER. Not installed. */
#ifndef SAFEMMAP_ARCH_H
#define SAFEMMAP_ARCH_H

#if !defined(__LP64__)
#error \
    "safemmap needs a 64-bit system: overlays take address space, and nobody tests it"
#endif

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <time.h>

#pragma GCC visibility push(hidden)

#include "safemmap.h"

#if defined(__has_feature)
#define SAFEMMAP__HAS(feature) __has_feature(feature)
#else
#define SAFEMMAP__HAS(feature) 0
#endif

/* Whether copies and calls are assembly, and for which processor. (ThreadSanitizer
 * must see the return from each function. On ARM a stack of return addresses that the
 * compiler maintains, and a jump would have to, is possible. The registers in a
 * context are Linux's.) */
#if defined(__SANITIZE_THREAD__) || SAFEMMAP__HAS(thread_sanitizer) || \
    SAFEMMAP__HAS(shadow_call_stack) || !defined(__linux__)
#define SAFEMMAP__ASSEMBLY 0
#elif defined(__x86_64__) || (defined(__aarch64__) && !defined(__AARCH64EB__))
#define SAFEMMAP__ASSEMBLY 1
#else
#define SAFEMMAP__ASSEMBLY 0
#endif
/* And the restorer. */
#if defined(__x86_64__)
#define SAFEMMAP__RESTORER SAFEMMAP__ASSEMBLY
#else
#define SAFEMMAP__RESTORER 0
#endif

/* The first instruction of an assembly function, where the compiler is told to begin
 * each so. */
#if defined(__CET__) && __CET__ % 2 == 1
#define SAFEMMAP__LANDING "endbr64"
#elif defined(__ARM_FEATURE_BTI_DEFAULT)
#define SAFEMMAP__LANDING "hint #34" /* bti c */
#else
#define SAFEMMAP__LANDING ""
#endif

/* ---- A call that the handler can end (*_call.c) ------------------------- */

struct safemmap__place {
    uintptr_t stack; /* for assembly; 0: the buffer is set */
    jmp_buf buffer;
};

/* Whether longjmp(3) ends calls: without assembly; and where the thread has a
 * shadow stack, from which the C library knows how to drop the frames that are left.
 */
extern bool safemmap__calls_end_by_jump;

typedef uintptr_t safemmap__access(const void *arguments);
uintptr_t safemmap__call_by_jump(struct safemmap__place *place, safemmap__access *run,
                                 const void *arguments);
_Noreturn void safemmap__leave_by_jump(struct safemmap__place *place);
#if SAFEMMAP__ASSEMBLY
uintptr_t safemmap__call_by_stack(struct safemmap__place *place,
                                  safemmap__access *run, const void *arguments);
_Noreturn void safemmap__leave_by_stack(struct safemmap__place *place);
#endif

/* What `run` returns; or 0, if the handler has ended the call. */
static inline uintptr_t
safemmap__call(struct safemmap__place *place, safemmap__access *run,
               const void *arguments)
{
#if SAFEMMAP__ASSEMBLY
    if (!safemmap__calls_end_by_jump)
        return safemmap__call_by_stack(place, run, arguments);
#endif
    return safemmap__call_by_jump(place, run, arguments);
}

static inline _Noreturn void
safemmap__leave_call(struct safemmap__place *place)
{
#if SAFEMMAP__ASSEMBLY
    if (place->stack != 0)
        safemmap__leave_by_stack(place);
#endif
    safemmap__leave_by_jump(place);
}

/* ---- Copies that need no guard (*_copy.c) ------------------------------- */

/* Copies of so many bytes at most need no guard on this machine: short ones, and
 * longer ones unless the target begins within the source. 0: all need one. */
extern size_t safemmap__fixup_short, safemmap__fixup_long;
enum { SAFEMMAP__FIXUP_SHORT = 256, SAFEMMAP__FIXUP_LONG = 16384 };

/* `size` is from 1 to SAFEMMAP__FIXUP_SHORT; or greater than that; or 1. Returns 0,
 * or after a fault, with that errno, what safemmap__fixup_report returns. */
typedef int safemmap__fixup(void *target, const void *source, size_t size,
                            struct safemmap_fault *ret_fault, int saved_errno);
safemmap__fixup safemmap__fixup_copy, safemmap__fixup_copy_long, safemmap__fixup_load;

/* A byte is searched for in so many bytes without a guard; in larger texts, in the
 * first so many. 0: never. */
extern size_t safemmap__fixup_near;
enum { SAFEMMAP__FIXUP_NEAR = 256 };
/* `size` is 1 at least. Writes the index of the first, or -1. */
int safemmap__fixup_find(const void *byte, const void *text, size_t size,
                         struct safemmap_fault *ret_fault, int saved_errno,
                         ptrdiff_t *ret_index);

/* Runs outside the signal, in the place of what faulted. guard.c sets it. `state`:
 * the errno, and above it 32 bits of si_code. */
typedef int safemmap__fixup_reporter(void *target, const void *source, size_t size,
                                     struct safemmap_fault *ret_fault, uint64_t state,
                                     uintptr_t address);
extern safemmap__fixup_reporter *safemmap__fixup_report;

/* Whether a thread with these registers is in such a copy, and that touches the page
 * of `address`. */
bool safemmap__fixup_covers(const ucontext_t *context, uintptr_t address);
/* Ends the copy. */
_Noreturn void safemmap__fixup_leave(const ucontext_t *context,
                                     struct safemmap_fault fault);

/* ---- Contexts of signals (*_context.c) ---------------------------------- */

/* What a context says of the thread's last fault, whichever signal it belongs to:
 * words as the kernel has them there, so far from its start. */
enum { SAFEMMAP__FAULT_WORDS = 4 };
struct safemmap__last_fault {
    uint64_t word[SAFEMMAP__FAULT_WORDS];
};
extern const size_t safemmap__last_fault_offset;
/* 0: the context does not say. */
uintptr_t safemmap__last_fault_address(const struct safemmap__last_fault *fault);
bool safemmap__last_fault_equals(const struct safemmap__last_fault *left,
                                 const struct safemmap__last_fault *right);

/* Whether the access was a store. `context` may be NULL. */
enum safemmap__access_kind { SAFEMMAP__LOAD, SAFEMMAP__STORE, SAFEMMAP__UNKNOWN };
enum safemmap__access_kind safemmap__access_of(const ucontext_t *context);
/* Whether the kernel has made it for a handler, by the marks of the floating-point
 * registers in it. It need not be a context, and there need not be any memory. */
bool safemmap__is_genuine(const ucontext_t *context);
/* From here on it says nothing of a fault. */
void safemmap__forget_fault(ucontext_t *context);

uintptr_t safemmap__stack_pointer(const ucontext_t *context);
/* Whether the instruction before the one that is next makes a system call. */
bool safemmap__is_after_system_call(const ucontext_t *context);

/* Puts the processor into a state that compiled code works in, where the kernel calls
 * a handler in that of the interrupted code. */
void safemmap__enter_handler(void);
/* Sets how floating-point numbers are rounded, and what traps, as the interrupted
 * code had it, where the kernel changes that for a handler. */
void safemmap__restore_floating_point(const ucontext_t *context);

/* ---- Returning from a handler (*_restorer.c) ---------------------------- */

/* Where a handler set by safemmap__os_set_action() returns to if the kernel has
 * called it; without SAFEMMAP__RESTORER no handler does. */
void safemmap__sigaction_restorer(void);

/* ---- Searching (*_search.c) --------------------------------------------- */

/* Bytes that a match has, so far from its start. Where there are instructions for
 * many bytes at once, the quick ones are searched for, and the others tested where
 * all of these stand; elsewhere the first one is. */
enum { SAFEMMAP__QUICK = 3, SAFEMMAP__FILTERED = 8 };
struct safemmap__filter {
    size_t at[SAFEMMAP__FILTERED];
    unsigned char byte[SAFEMMAP__FILTERED];
    unsigned in_vain; /* blocks with the quick ones, and without a candidate */
};
/* The first place from `from` to below `to`, or the last, that has all; or NULL. */
typedef const unsigned char *safemmap__scan(const unsigned char *from,
                                            const unsigned char *to,
                                            struct safemmap__filter *filter);
safemmap__scan safemmap__first_candidate, safemmap__last_candidate;
/* Whether there are such instructions. */
extern bool safemmap__search_by_vectors;

#pragma GCC visibility pop

#endif
