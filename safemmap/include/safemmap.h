/* safemmap.h: survive SIGBUS on memory that a file backs.
 *
 * Rules for all functions, unless one says otherwise:
 *
 * - Errors: they return 0 or a negative errno, and write through their `ret_`
 *   parameters only on success. None prints or exits.
 * - Threads: any thread may call any of them at any time. The caller serializes
 *   changes (add, update, remove) of one and the same struct.
 * - Signals: none may be called in a signal handler, but safemmap_withdraw() and
 *   what a hook is allowed.
 * - Forks: a child has a working handler, its parent's regions, and an empty queue of
 *   events. fork() may be called by any thread while others are inside of these.
 * - In a guarded block (SAFEMMAP_TRY) only the guarded operations may be called, and
 *   another block may begin.
 * - Since: 0.1.0.
 *
 * A read or write of a mapped page raises SIGBUS when the page cannot be
 * brought in: the file was made shorter, its filesystem is full, the device
 * answers with an error, the memory is poisoned. There are three ways to survive it:
 *
 * - The guarded operations (safemmap_copy and its kin) are bounded accesses
 *   that end with an error from the very call that faulted. They need no
 *   registration.
 * - A registered region (safemmap_region_add) is for accesses by code that
 *   cannot be guarded: the page that faults is replaced by a private zeroed one,
 *   the region is marked as poisoned, and the access goes on.
 * - The whole process (safemmap_process_enable) is for mappings that nobody
 *   registers: the same, in any ordinary mapping of a regular file.
 *
 * Several copies of this library in one process serve one another: the one that was
 * loaded first has the handler and the regions of all, each a queue of all events.
 * What several of them have asked for (the handler, the thread that checks it, the
 * protection of the whole process) goes with the last one that ends it. A library
 * with a copy in it is never unloaded.
 */
#ifndef SAFEMMAP_H
#define SAFEMMAP_H

#define SAFEMMAP_RELEASE "0.2.0"

#include <pthread.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* What the shared library exports. Linked statically, the names stay inside. */
#if defined(SAFEMMAP_BUILD_SHARED)
#define SAFEMMAP_API __attribute__((visibility("default")))
#elif !defined(SAFEMMAP_API) /* safemmap_python.h defines them */
#define SAFEMMAP_API
#endif
#ifndef SAFEMMAP_DATA
#define SAFEMMAP_DATA SAFEMMAP_API
/* For whoever owns the handler: not for extension modules of Python. */
#define SAFEMMAP_OWNER SAFEMMAP_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What ended a guarded operation. */
struct safemmap_fault {
    uintptr_t address; /* the first byte of the range that could not be reached */
    int code;          /* si_code of the fault: BUS_ADRERR, BUS_MCEERR_AR, ... */
};

/* ---- The handler ------------------------------------------------------- */

/* Makes the SIGBUS handler of this library the one that the kernel calls. Call it as
 * often as you like: it does nothing when the handler already is; otherwise installs
 * it above the present action, to which it forwards every signal that is not ours.
 * Guarded operations call this themselves: a thread's first one; and every 64th after
 * that, and each on SAFEMMAP_BULK bytes or more, unless this thread did so in the
 * last 100 microseconds.
 *
 * Other libraries may do the same again and again: once it has gone above
 * SAFEMMAP_REINSTALLS handlers that are still installed, it returns -EBUSY, until one
 * of them is removed. It may allocate memory, and takes locks that no handler takes:
 * not in a guarded block. Fails with -ENOMEM, or as sigaction(2) where a sandbox
 * forbids that. */
#define SAFEMMAP_REINSTALLS 63
SAFEMMAP_API int safemmap_install(void);

/* Puts back the previous action. From then on operations go through system calls,
 * until safemmap_install() is called. Where the process has other copies of this
 * library, the handler stays, and operations with it, until each of them has called
 * this: 0 says only that this copy does without. No operation and no block of a copy
 * that does may be under way meanwhile, on any thread. Fails with -EBUSY (another
 * handler is above this one, or between it and the one that was there first, and may
 * call it), or -EADDRINUSE (a region is registered, or the whole process protected).
 */
SAFEMMAP_OWNER int safemmap_uninstall(void);

/* Starts a thread that checks 20 times a second, and more often at first, that the
 * handler is on top: for processes that call no other function here, while libraries
 * install handlers. A forked child has its own. Fails as pthread_create(3); does
 * nothing if the thread runs already. */
SAFEMMAP_OWNER int safemmap_checks_start(void);
/* Returns when the thread has ended, unless another copy of this library has started
 * it too. Does nothing if this copy has not. */
SAFEMMAP_OWNER void safemmap_checks_stop(void);

/* The actions that get a SIGBUS, one after the other: fills in as many as there is
 * room for, and returns how many there are. */
struct safemmap_action {
    bool ours;
    bool ignores;       /* SIG_IGN */
    uintptr_t function; /* 0 for SIG_DFL and SIG_IGN */
};
SAFEMMAP_API size_t safemmap_get_actions(struct safemmap_action *ret_actions,
                                         size_t room);

/* Counts since the process started, all threads together. */
struct safemmap_counts {
    uint64_t recovered; /* faults that ended a guarded operation */
    uint64_t overlaid;  /* faults answered with zeroed pages in a region */
    uint64_t forwarded; /* signals handed to the previous action */
    uint64_t installs;  /* times the handler was installed or put back on top */
};
SAFEMMAP_API void safemmap_get_counts(struct safemmap_counts *ret_counts);

/* ---- Guarded operations ------------------------------------------------ */

/* From this many bytes on an operation first makes sure that the handler is on
 * top, and callers that hold a lock around it may want to drop that: some 0.4 us for
 * both, which is a quarter of a copy of 64 KiB, and a twentieth here. */
#define SAFEMMAP_BULK ((size_t)256 * 1024)

/* Rules for all of them:
 *
 * - All memory named is guarded, on both sides: a fault on any of it ends the
 *   operation with -EFAULT (-EHWPOISON for poisoned memory) and fills
 *   `*ret_fault`; no other `ret_` parameter is written.
 * - The address reported is exact whatever the order in which the bytes were
 *   touched: the start of the first page that is gone, or the start of the range
 *   when that lies inside this page. When both sides are gone, the side that is
 *   read is the one reported.
 * - The contents of what was to be written are indeterminate after a fault.
 * - A page of a region that has been replaced by zeros is there: an operation on it
 *   succeeds, and gets zeros. Whoever reads a registered region asks
 *   safemmap_region_poisoned() after the operation; if it is, they may be zeros.
 * - They may be called in guarded blocks, and under any lock of the caller's.
 * - -EAGAIN, -ENOMEM or what sigaction(2) gives: the handler could not be
 *   installed; nothing was touched.
 * - 1 instead of 0: done, but through system calls, since others have displaced the
 *   handler too often (-EBUSY of safemmap_install).
 */

/* Copies `size` bytes; the ranges may overlap. */
SAFEMMAP_API int safemmap_copy(void *target, const void *source, size_t size,
                               struct safemmap_fault *ret_fault);

/* Loads or stores one byte. */
SAFEMMAP_API int safemmap_load(const void *source, unsigned char *ret_byte,
                               struct safemmap_fault *ret_fault);
SAFEMMAP_API int safemmap_store(void *target, unsigned char byte,
                                struct safemmap_fault *ret_fault);

/* Copies `count` bytes that lie `step` bytes apart (step may be negative, not
 * zero) to consecutive ones, and back. Pages that hold none of them are not
 * touched. */
SAFEMMAP_API int safemmap_gather(void *target, const void *source, ptrdiff_t step,
                                 size_t count, struct safemmap_fault *ret_fault);
SAFEMMAP_API int safemmap_scatter(void *target, ptrdiff_t step, const void *source,
                                  size_t count, struct safemmap_fault *ret_fault);

/* Orders two ranges of `size` bytes: `*ret_order` is below, equal to or above 0
 * as memcmp(3) has it. */
SAFEMMAP_API int safemmap_compare(const void *left, const void *right, size_t size,
                                  int *ret_order, struct safemmap_fault *ret_fault);

/* The lowest and the highest index at which `pattern` starts in `text`, or -1.
 * An empty pattern is found at 0 and at `size`. Bytes beyond the match are not
 * touched, so that one which lies before a page that is gone is still found. */
SAFEMMAP_API int safemmap_find(const void *text, size_t size, const void *pattern,
                               size_t pattern_size, ptrdiff_t *ret_index,
                               struct safemmap_fault *ret_fault);
SAFEMMAP_API int safemmap_rfind(const void *text, size_t size, const void *pattern,
                                size_t pattern_size, ptrdiff_t *ret_index,
                                struct safemmap_fault *ret_fault);

/* ---- Guarded code ------------------------------------------------------ */

/* Guards code of the caller's own, for what is no copy, comparison or search:
 *
 *     SAFEMMAP_TRY (header, sizeof(*header)) {
 *         width = header->width;
 *     } SAFEMMAP_CATCH (fault) {
 *         return -EFAULT;
 *     }
 *
 * A fault in the range (rounded to whole pages) ends the block, and the second one
 * runs, with `fault` a `struct safemmap_fault` of its own: the address of the access,
 * and its code. A code of 0 says that the first block did not run, since the handler
 * cannot be relied on: it could not be installed, others have displaced it too often,
 * or this thread blocks SIGBUS. (safemmap_copy() has another way then.)
 *
 * The kernel ends a process whose thread faults while it blocks SIGBUS, whatever the
 * handler. A block that begins learns of a blocked SIGBUS from the handler check
 * alone, which is not made for each (see safemmap_install()). So a thread that uses
 * blocks leaves SIGBUS unblocked, in them and between them.
 *
 * The block ends by a jump, whatever it is in the middle of. So it must be bounded
 * code that reads and writes memory, in the function itself or in functions that it
 * calls; there, and in the block, no lock may be taken, no memory allocated, no
 * descriptor opened, no C++ object with a destructor made (one made before the block
 * is destroyed as ever), and no interpreter called. Of the functions in here the
 * operations may be called; the block does not see a fault that they return.
 *
 * - Local variables that the block changes, and that are read after a fault, must be
 *   `volatile`, as for setjmp(3); or the code is in a function that the block calls.
 *   (gcc's -Wclobbered, a part of -Wextra, also warns of variables that only the code
 *   around the block changes. These are right as they are.)
 * - `return`, `goto` to the outside and C++ exceptions end the block and its guard;
 *   `break` and `continue` end the block, and no loop around it. longjmp(3) must not
 *   leave it: the guard would stay.
 * - Blocks nest, in one function and across calls. The innermost one whose range has
 *   the address gets the fault, and those further in are gone.
 * - Each thread has its own; a block belongs to the stack on which it began, and must
 *   not be left by switching stacks (swapcontext(3), coroutines).
 * - fork() in a block: the child goes on in the block, guarded.
 * - errno, the signal mask and the rounding of floats are in the second block as they
 *   were before the first. A SIGBUS that this process sends to a thread in the block
 *   arrives at its end.
 */
#define SAFEMMAP_TRY(start, size)                                                    \
    for (struct safemmap_guard SAFEMMAP__UNIQUE(safemmap__guard_)                    \
             __attribute__((__cleanup__(safemmap__guard_end))),                      \
                 *volatile SAFEMMAP__UNIQUE(safemmap__once_) =                       \
                     &SAFEMMAP__UNIQUE(safemmap__guard_);                            \
         SAFEMMAP__UNIQUE(safemmap__once_) != NULL;                                  \
         SAFEMMAP__LEAVE(SAFEMMAP__UNIQUE(safemmap__once_)))                         \
        if (setjmp(SAFEMMAP__UNIQUE(safemmap__guard_).buffer) == 0)                  \
            for (safemmap__guard_begin(&SAFEMMAP__UNIQUE(safemmap__guard_), (start), \
                                       (size));                                      \
                 SAFEMMAP__UNIQUE(safemmap__once_) != NULL;                          \
                 safemmap__guard_end(&SAFEMMAP__UNIQUE(safemmap__guard_)),           \
                 SAFEMMAP__LEAVE(SAFEMMAP__UNIQUE(safemmap__once_)))
#define SAFEMMAP_CATCH(fault)                                           \
    else for (struct safemmap_fault fault = safemmap_guard_caught(),    \
                  *volatile SAFEMMAP__UNIQUE(safemmap__once_) = &fault; \
              SAFEMMAP__UNIQUE(safemmap__once_) != NULL;                \
              SAFEMMAP__LEAVE(SAFEMMAP__UNIQUE(safemmap__once_)))

/* (C++20 deprecates the use of the value of such an assignment.) */
#define SAFEMMAP__LEAVE(once) \
    __extension__({           \
        (once) = NULL;        \
        (void)0;              \
    })
#define SAFEMMAP__UNIQUE(name) SAFEMMAP__JOIN(name, __LINE__)
#define SAFEMMAP__JOIN(name, line) SAFEMMAP__JOIN_EXPANDED(name, line)
#define SAFEMMAP__JOIN_EXPANDED(name, line) name##line

/* What the two are made of. Private, and so are the functions, but that other
 * languages may need them: the guard's buffer is set (without the signal mask) in a
 * frame that stays until the guard has ended; arm jumps there if it fails; after a
 * jump, caught tells what it was. To end a guard that has ended does nothing. */
struct safemmap_guard {
    uintptr_t reserved;
    jmp_buf buffer;
    uintptr_t room[40];
};
SAFEMMAP_API void safemmap_guard_arm(struct safemmap_guard *guard,
                                     const volatile void *start, size_t size);
SAFEMMAP_API void safemmap_guard_end(struct safemmap_guard *guard);
SAFEMMAP_API struct safemmap_fault safemmap_guard_caught(void);

/* (The compiler must move no access over these.) */
static inline void
safemmap__guard_begin(struct safemmap_guard *guard, const volatile void *start,
                      size_t size)
{
    safemmap_guard_arm(guard, start, size);
    __asm__ volatile("" ::: "memory");
}

static inline void
safemmap__guard_end(struct safemmap_guard *guard)
{
    __asm__ volatile("" ::: "memory");
    safemmap_guard_end(guard);
}

/* ---- Other ways -------------------------------------------------------- */

typedef int safemmap_find_operation(const void *, size_t, const void *, size_t,
                                    ptrdiff_t *, struct safemmap_fault *);

/* The same operations, in three ways. */
struct safemmap_operations {
    int (*copy)(void *, const void *, size_t, struct safemmap_fault *);
    int (*load)(const void *, unsigned char *, struct safemmap_fault *);
    int (*store)(void *, unsigned char, struct safemmap_fault *);
    int (*gather)(void *, const void *, ptrdiff_t, size_t, struct safemmap_fault *);
    int (*scatter)(void *, ptrdiff_t, const void *, size_t, struct safemmap_fault *);
    int (*compare)(const void *, const void *, size_t, int *,
                   struct safemmap_fault *);
    safemmap_find_operation *find, *rfind;
};

/* Those above. */
SAFEMMAP_DATA extern const struct safemmap_operations safemmap_guarded;

/* Through system calls, without a signal handler: process_vm_readv(2) on the process
 * itself. The rules are the same, but every fault has code BUS_ADRERR, and -EPERM or
 * -ENOSYS says that a sandbox forbids that call; -ENOMEM, that there is no buffer to
 * be had. */
SAFEMMAP_DATA extern const struct safemmap_operations safemmap_kernel;

/* Without protection, for a file that is sealed. */
SAFEMMAP_DATA extern const struct safemmap_operations safemmap_plain;

/* ---- Regions ----------------------------------------------------------- */

struct safemmap_region_fault {
    uintptr_t address; /* of the access */
    int code;          /* si_code */
    pid_t thread;      /* kernel id of the thread that made it */
    int64_t time_ns;   /* CLOCK_REALTIME, nanoseconds */
};

/* Called in the signal handler, on the thread that faulted, as its region becomes
 * poisoned and before the access goes on. All signals are blocked, and threads that
 * fault wait: it may store a flag, or write to a descriptor, and must not fault,
 * wait, or call a function of this library. */
typedef void safemmap_region_hook(void *data,
                                  const struct safemmap_region_fault *fault);

/* Bytes of a region's name, with the 0 at its end. */
#define SAFEMMAP_NAME 32

/* Memory in which a fault outside every guard is answered with zeroed pages.
 * The caller owns the struct, fills in the first part, and keeps it in place
 * from add to remove. Regions may overlap: pages that are replaced are so for all of
 * them, and poison each. */
struct safemmap_region {
    uintptr_t start;   /* page-aligned, inclusive */
    uintptr_t end;     /* page-aligned, exclusive */
    size_t page_size;  /* of this mapping: larger than the system's on hugetlbfs */
    int protection;    /* PROT_*, for the zeroed pages */
    int fd;            /* the mapped file, or -1; lets all pages past its end be
                          replaced in one call */
    off_t offset;      /* of `start` in that file */
    bool put_back;     /* remove undoes the replacement: for foreign mappings (not on
                          hugetlbfs, and for the pages of a file from Linux 5.13 on) */
    bool withdrawable; /* each fault is reported to the fault hook, and its zeroed
                          pages last until safemmap_withdraw(): the next touch after
                          it faults, and is reported, anew. What was stored in them is
                          lost then */
    char name[SAFEMMAP_NAME];   /* for events; may be empty */
    safemmap_region_hook *hook; /* or NULL */
    void *hook_data;

    uint64_t id; /* set by add, to another value each time */

    /* The first fault. Written by the handler; valid once
     * safemmap_region_poisoned() is true. */
    struct safemmap_region_fault fault;
    size_t fault_offset; /* of its address from `start`, as that was then */

    /* Private. */
    unsigned poisoned;
    dev_t device; /* of the file, as far as it is known */
    ino_t inode;
    int lost;       /* a negative errno: pages were not moved aside */
    size_t singles; /* replacements with good pages around them */
    struct safemmap__runs *overlaid; /* pages that are replaced */
    uintptr_t shadow; /* where the pages of the file wait to be put back, */
    struct safemmap__runs *shadowed; /* these */
    struct safemmap__steps {
        uintptr_t start, end; /* where zeros were laid last */
        uint64_t token;
        unsigned left; /* mappings, since they were joined */
    } steps;
    struct safemmap_region *updated; /* for which this one stands in */
    uint64_t told;           /* the number of the last fault that was an event */
    size_t shadow_size;      /* in bytes: there may be more than the pages need */
    bool shadow_used;        /* pages of the file were moved there */
    int attended;            /* see safemmap_region_attend() */
    int64_t fault_file_size; /* public, and valid as `fault` is: how many bytes the
                                file had right after that; -1: not known */
    uintptr_t room[3];
};

/* Registers a region, whose private part is zero, or as an earlier remove left it:
 * from its return on, faults in it are answered, on any thread, if the handler is
 * installed. Fails with -EINVAL (not aligned or empty), -EEXIST (it is registered
 * already), -EFAULT (a page in it is one that replaced another, in a registered
 * region which it overlaps), or -ENOMEM. For a withdrawable region also with what
 * memfd_create(2), ftruncate(2) or mmap(2) answer where the kernel gives no memory
 * file for its zeroed pages: -EMFILE, -ENFILE, -EPERM or -ENOSYS (a sandbox), -EAGAIN
 * (RLIMIT_MEMLOCK under mlockall(2)), -EFBIG (RLIMIT_FSIZE). */
SAFEMMAP_API int safemmap_region_add(struct safemmap_region *region);

/* Has a region, which is not put back, cover another range with the same start in the
 * file: after the file or the mapping has changed its size. What lies in both ranges
 * is covered all the time, and what was poisoned stays so. The caller serializes
 * changes of one region. Fails, with the region as it was, with -EINVAL (it is not
 * registered, or as for add), -EFAULT (it has pages that are replaced) or -ENOMEM. */
SAFEMMAP_API int safemmap_region_update(struct safemmap_region *region,
                                        uintptr_t start, uintptr_t end);

/* Maps the file anew in the place of a region which is not put back, with these flags
 * (MAP_SHARED or MAP_PRIVATE, with what else mmap(2) takes), and begins again: no
 * page is replaced, the region is not poisoned, and its `id` is another. It is
 * registered all the time. (Other regions over it that are poisoned stay so.) The
 * caller serializes changes of one region. Fails with -EINVAL (it is not registered),
 * or as mmap(2) does: then nothing has changed, except that the kernel may have
 * unmapped the memory. */
SAFEMMAP_OWNER int safemmap_region_renew(struct safemmap_region *region, int flags);

/* Whether some thread is going to ask safemmap_region_poisoned() anyway, as at the
 * end of a scope: the event hook is not called for a fault in such regions alone.
 * Which of the two comes later, the hook or the answer to a question that is asked
 * after this returns, tells of a fault at that moment. (No region is attended at
 * first; one that is stays so when it is renewed.) */
SAFEMMAP_OWNER void safemmap_region_attend(struct safemmap_region *region,
                                           bool attended);

/* Takes a region out. When this returns, no handler acts on its memory any
 * more, and none will: it may be unmapped and given to someone else. Accepts
 * NULL and a zeroed or already removed region. Returns 0; or, for a region that is
 * put back, a negative errno: some of its memory still holds zeroed pages, and what
 * the file has there is out of reach. */
SAFEMMAP_API int safemmap_region_remove(struct safemmap_region *region);

/* Whether a page of the region was replaced since it was added. */
SAFEMMAP_API bool safemmap_region_poisoned(const struct safemmap_region *region);

/* ---- The whole process ------------------------------------------------- */

/* From now on a fault outside every guard and region is answered with withdrawable
 * zeroed pages too, where the mapping is an ordinary one of a regular file, whoever
 * made it: not executable, nor of a file that is mapped executable as well, nor a
 * device, nor below /proc, /sys or /dev (but /dev/shm). Installs the handler. Costs
 * nothing until a fault. A forked child goes on with it.
 *
 * Fails with -ENOENT, -EACCES or the like (/proc/self/maps cannot be read), with what
 * safemmap_install() answers, or as safemmap_region_add() for a withdrawable region.
 *
 * The pages of memory that the program has unmapped while an access to them is under
 * way may be somebody else's by the time that they are replaced. */
SAFEMMAP_OWNER int safemmap_process_enable(void);
/* Faults that come after its return are forwarded again, unless another copy of this
 * library has enabled this too. */
SAFEMMAP_OWNER void safemmap_process_disable(void);
/* Whether any copy has enabled it. */
SAFEMMAP_OWNER bool safemmap_process_enabled(void);

/* The file that was mapped where a fault in no region happened. */
struct safemmap_file {
    uint32_t id;     /* for safemmap_file_path() */
    bool deleted;    /* it has no name any more */
    uint64_t device; /* as stat(2) has it; on overlayfs that of the layer below */
    uint64_t inode;
    uint64_t offset; /* in the file, of the byte at which the fault was */
    int64_t size;    /* of the file right after the fault, in bytes; -1: unknown */
};

/* Writes the file's name as the kernel had it at the fault, and returns its length;
 * -ENOENT after SAFEMMAP_FILES other files, or -ERANGE. */
#define SAFEMMAP_FILES 1024
SAFEMMAP_OWNER ssize_t safemmap_file_path(uint32_t id, char *ret_path, size_t room);

/* The files, and other memory that is shared, that are mapped in a range, summed up.
 */
struct safemmap_files {
    size_t page_size; /* of the one with the largest pages; 0: there is none */
    int protection;   /* PROT_*, what any of them allows */
    char path[4096];  /* of the first one that has a name, as the kernel knows it */
};

/* Fails with -ENOENT, -EACCES or the like where /proc/self/maps cannot be read, of
 * which a descriptor stays open. */
SAFEMMAP_OWNER int safemmap_files_behind(uintptr_t start, uintptr_t end,
                                         struct safemmap_files *ret_files);

/* ---- Events ------------------------------------------------------------ */

/* A region got zeroed pages: its first fault, or one at an address of its own. Or
 * memory of no region did. */
struct safemmap_event {
    uint64_t region; /* its id; or 0: see `file` */
    struct safemmap_region_fault fault;
    pthread_t pthread; /* of the thread that made the access */
    uintptr_t stack;   /* its stack pointer at the fault; 0: unknown */
    bool store;        /* the access was a store, as far as the processor tells */
    uint64_t token;    /* for safemmap_withdraw(); 0: the pages stay */
    struct safemmap_file file;
    size_t offset;            /* of the address from the region's start */
    char name[SAFEMMAP_NAME]; /* the region's */
};

/* Called in the signal handler, on the thread that faulted, when a fault in a
 * withdrawable region, or in memory of no region, has been answered and before the
 * access goes on: that thread has read no zero yet. (Each region that holds the
 * address is reported.) It may call what is async-signal-safe, and wait for other
 * threads; it holds none of the locks in here, and errno need not be kept. It may be
 * called for as long as the process lives, after another has been set, too. Returns
 * whether it sees to it that the queue is emptied: the event hook is then not called
 * for this fault. NULL for none. */
typedef bool safemmap_fault_hook(const struct safemmap_event *event);
SAFEMMAP_OWNER void safemmap_set_fault_hook(safemmap_fault_hook *hook);

/* Withdraws the zeroed pages of a fault, and all older ones: the next access to them,
 * by any thread, faults anew. Async-signal-safe; any number of times. Returns 0, or
 * -EBADF: the program has closed the memory file, and the pages stay. */
SAFEMMAP_OWNER int safemmap_withdraw(uint64_t token);

/* Takes the oldest event out of the queue; false when there is none. Of several
 * threads each gets events of its own. The queue holds SAFEMMAP_EVENTS; what comes
 * when it is full is dropped, and counted. */
#define SAFEMMAP_EVENTS 1024
SAFEMMAP_OWNER bool safemmap_event_take(struct safemmap_event *ret_event);
SAFEMMAP_OWNER uint64_t safemmap_events_dropped(void);

/* Called in the signal handler, on the thread that faulted, when events have come
 * into the queue and before the access goes on. As a fault hook it may call what is
 * async-signal-safe, wait for other threads, and be called after another has been
 * set. NULL for none. A forked child has none, until it sets one. */
typedef void safemmap_event_hook(void);
SAFEMMAP_OWNER void safemmap_set_event_hook(safemmap_event_hook *hook);

/* An eventfd(2) that becomes readable with every event, or a negative errno. There is
 * one for the process; it stays open, and a forked child has its own under the same
 * number. */
SAFEMMAP_OWNER int safemmap_event_fd(void);
/* Makes it unreadable until the next event, and readable now. */
SAFEMMAP_OWNER void safemmap_event_fd_clear(void);
SAFEMMAP_OWNER void safemmap_event_fd_set(void);

#ifdef __cplusplus
}
#endif

#endif
