/* What the files of the core share. Not installed. */
#ifndef SAFEMMAP_INTERNAL_H
#define SAFEMMAP_INTERNAL_H

#include "arch/arch.h"
#include "os/os.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

/* Nothing here is for other libraries, so that calls need no detour. */
#pragma GCC visibility push(hidden)

#include "safemmap.h"

/* One access under guard, on the stack of the thread that makes it. */
struct safemmap__guard {
    struct safemmap__place place;
    struct safemmap__guard *outer;
    /* Faults inside one of these end the access. */
    struct {
        uintptr_t start, end;
    } range[2];
    /* What ended the access; a `code` of 0: nothing did. */
    struct safemmap_fault fault;
    /* A SIGBUS that this process sent itself while the guard was armed: a handler
     * above ours hands a fault down with raise(3), or it is a real one. The handler
     * keeps it here, and disarming the guard sends it again if no fault followed. */
    volatile sig_atomic_t deferred;
    siginfo_t deferred_info;
    /* Of a block (block.c): stays on the stack after a fault, spent, until the
     * block's frame has taken the fault. */
    bool is_block;
    bool armed;
    int saved_errno;
};

/* The handler has several entry points: each time that it goes above a handler which
 * displaced it, it takes the next. A displacer that leaves puts back the entry which
 * it found, and so tells the handler that those above are gone. With no entry left
 * the handler stays where it is. */
enum { SAFEMMAP__ENTRIES = 1 + SAFEMMAP_REINSTALLS };

/* The actions that the entries replaced, oldest first: an entry forwards to the link
 * of its own number, and from there to older ones. Replaced as a whole, never changed
 * in place. */
struct safemmap__chain {
    int count;
    struct safemmap__link {
        struct sigaction action;
        bool moved; /* it is not called here: the same action has a later link, or has
                       left */
        size_t number; /* of the action: each that comes has a higher one */
    } link[SAFEMMAP__ENTRIES];
};

/* A signal on its way down the chain. */
struct safemmap__progress {
    int at;          /* the link that has it; below 0 the default action */
    unsigned raised; /* how often that link has answered with raise(3) */
    bool may_raise;  /* whether a SIGBUS of the action's own can arrive: it does
                        not block it, or has returned */
    struct safemmap__forwarding *record; /* dangles when the action left by a jump:
                                            compare before use */
};

/* On the stack of the handler while an action runs. */
struct safemmap__forwarding {
    uintptr_t before; /* the record's mark: */
    siginfo_t info;   /* the copy which the action is given: a handler that hands it
                         back to us has us go on to the next older one */
    uintptr_t after;  /* and again. Where a record is gone, the kernel can put a
                         siginfo in the very place, but not these around it; another
                         copy of this library can put a record there, with its own */
    struct safemmap__progress outer; /* what this one is nested in */
};

/* ---- shared.c ---- */

struct safemmap__thread {
    struct safemmap__guard *guard; /* the innermost armed one */
    struct safemmap__progress
        progress;       /* record is NULL while nothing is forwarded */
    unsigned check_due; /* small operations until the next handler check may be due */
    uint64_t checked_at;  /* when the last one found all well; or 0 */
    uintptr_t retried_at; /* a fault whose page was there, */
    unsigned retries;     /* so many times in a row */
    int *errno_location;  /* known since the first one */
};
/* Volatile: the accesses around which it changes are no business of the
 * compiler's, which would drop the stores (gcc -O1 does). */
extern SAFEMMAP__TLS volatile struct safemmap__thread safemmap__self;

/* An operation checks the handler first if `check_due` is below this: 1, or more than
 * it can be, while the handler is displaced and has no entry left, so that no guard
 * can be relied on. */
extern unsigned safemmap__check_below;
enum { SAFEMMAP__CHECK_WHEN_DUE = 1, SAFEMMAP__CHECK_ALWAYS = 1000 };

/* NULL before the first installation. */
extern struct safemmap__chain *safemmap__chain;
/* The link that an entry forwards to first: its own, or where that has moved or is
 * cut off, an older one; -1: the default action. */
int safemmap__link_for(const struct safemmap__chain *chain, int entry);

/* Whether an action of ours was ever set without SA_SIGINFO. A thread may still be in
 * a handler that the kernel has called by it, after it has been set right. */
extern bool safemmap__lacked_siginfo;

/* Of the copy of this library that serves this one (copies.c); NULL: this one does
 * everything itself. Set before the first operation. */
extern const struct safemmap__service *safemmap__host;

/* This copy, and those that it serves after it. The list only grows. */
extern struct safemmap__member safemmap__own;
void safemmap__member_add(struct safemmap__member *member);
struct safemmap__member *safemmap__member_next(const struct safemmap__member *member);

/* What copies share, and what goes when none of them wants it any more. */
enum safemmap__want {
    SAFEMMAP__HANDLER = 1, /* from its loading on, until safemmap_uninstall() */
    SAFEMMAP__CHECKS = 2,
    SAFEMMAP__PROCESS = 4
};
void safemmap__want(struct safemmap__member *member, enum safemmap__want what);
void safemmap__want_no_more(struct safemmap__member *member,
                            enum safemmap__want what);
bool safemmap__wants(const struct safemmap__member *member, enum safemmap__want what);
/* Whether one of the members, but not the one named here (which may be NULL), wants
 * it. */
bool safemmap__is_wanted(enum safemmap__want what,
                         const struct safemmap__member *except);

/* 0, or a negative errno: forked children would share our state, so that there must
 * be no handler (fork.c). */
extern int safemmap__fork_error;

extern struct safemmap_counts safemmap__counts;
void safemmap__count(uint64_t *counter);

/* Handlers between these two may use what they look up. The result of enter
 * goes to leave. Wait-free. */
unsigned safemmap__reader_enter(void);
void safemmap__reader_leave(unsigned epoch);

/* Returns when every handler that entered before the call has left. The caller
 * holds the registry's lock. */
void safemmap__readers_wait(void);
/* In the child of a fork: the threads that were inside are gone. */
void safemmap__readers_reset(void);

/* Regions and links found between these two stay valid. All signals are blocked: a
 * handler that left by a jump would leave us inside for ever, and one that faulted
 * would wait for a lock that this thread holds. */
struct safemmap__reading {
    sigset_t mask;
    unsigned epoch;
};
struct safemmap__reading safemmap__start_reading(void);
void safemmap__stop_reading(const struct safemmap__reading *reading);

/* Where regions are looked up; registry.c publishes it. */
struct safemmap__leaf {
    size_t count;
    struct {
        uintptr_t start, end; /* copies: a look-up touches one region at most */
        struct safemmap_region *region;
    } entry[];
};
struct safemmap__directory {
    size_t count;
    struct {
        uintptr_t first; /* no region of this leaf starts below, */
        uintptr_t end;   /* and none ends above */
        uintptr_t reach; /* none of this leaf and those before ends above: regions
                            overlap, and one that starts far below may hold an
                            address */
        struct safemmap__leaf *leaf;
    } entry[];
};
extern struct safemmap__directory *safemmap__directory;

/* The last leaf that begins at or below `address`. */
size_t safemmap__leaf_for(const struct safemmap__directory *directory,
                          uintptr_t address);

/* Calls `visit` for each region that overlaps `start` to `end`. Only between enter
 * and leave. */
typedef void safemmap__visitor(struct safemmap_region *region, void *context);
void safemmap__regions_visit(uintptr_t start, uintptr_t end, safemmap__visitor *visit,
                             void *context);

/* ---- lock.c ---- */

/* The holder of a lock has all signals blocked, and does not fault. 0: not held. */
void safemmap__lock(int *word);
/* The same for a thread that knows its number. */
void safemmap__lock_as(int *word, pid_t self);
void safemmap__unlock(int *word);

/* Blocks all signals and takes the lock. Returns the previous signal mask, for
 * release. */
sigset_t safemmap__hold(int *word);
void safemmap__release(int *word, const sigset_t *mask);

/* One thread at a time replaces pages or asks about them. Of two threads that fault
 * on one page, the second would otherwise undo what the first has stored since. */
extern int safemmap__pages;
sigset_t safemmap__hold_pages(void);
void safemmap__release_pages(const sigset_t *mask);

/* ---- zeros.c ---- */

/* The caller holds safemmap__pages, except for the functions that prepare and
 * safemmap_withdraw(). Functions that return int return 0 or a negative errno. */

/* Makes sure that withdrawable zeros can be mapped, whatever the kernel refuses
 * later.
 */
int safemmap__zeros_prepare(void);
/* Maps zeroed pages over that range. A token of 0: they cannot be withdrawn. */
int safemmap__zeros_map(uintptr_t address, size_t size, int protection,
                        uint64_t *ret_token);
/* Maps pages over it that fault when they are touched, as if they had been withdrawn.
 * Their token is SAFEMMAP__ZEROS_END at least, and those of others are below it. */
#define SAFEMMAP__ZEROS_END ((uint64_t)1 << 62)
int safemmap__zeros_map_withdrawn(uintptr_t address, size_t size, int protection,
                                  uint64_t *ret_token);
/* The token of the newest overlay. */
uint64_t safemmap__zeros_newest(void);
bool safemmap__zeros_are_withdrawn(uint64_t token);
/* Whether other processes have cut the file there, so that zeros which are mapped
 * next are not lost as well: children do as they are forked, and so does the parent
 * of a child that has no file of its own. */
bool safemmap__zeros_are_cut(uint64_t token);
/* Gives back the memory of those that have been read or written; their bytes are 0
 * again. */
void safemmap__zeros_empty(uint64_t token, size_t size);
/* Around fork(), in the parent and in the child: withdraws all zeros, which the child
 * would otherwise read without a report. */
void safemmap__zeros_before_fork(void);
void safemmap__zeros_after_fork(void);
/* Whether the device may be that of the memory file, or of a parent process's. */
bool safemmap__zeros_are_on(dev_t device);
/* The inode of the memory file, in which a token is an offset. */
ino_t safemmap__zeros_inode(void);

/* The same for lasting zeros. */
int safemmap__lasting_prepare(void);
int safemmap__lasting_map(uintptr_t address, size_t size, int protection);

/* ---- search.c ---- */
typedef const void *safemmap__search(const void *text, size_t size,
                                     const void *pattern, size_t pattern_size);
/* The first match, or the last, or NULL. */
safemmap__search safemmap__search_forward, safemmap__search_backward;

/* ---- echo.c ---- */
/* Whether the signal only repeats a fault that another handler was called for before:
 * then the handler just returns. */
bool safemmap__is_echo(const siginfo_t *info, const ucontext_t *context);
/* The context that the kernel made last for a handler, searched for on the stack; or
 * NULL. */
ucontext_t *safemmap__context_on_stack(void);
/* The context of the fault at `address` in a small copy, searched for on the stack;
 * or NULL. */
ucontext_t *safemmap__fixup_on_stack(uintptr_t address);

/* ---- overlay.c ---- */
/* Answers a fault in a live region with zeroed pages. False: there is no region, or
 * no page could be replaced. */
bool safemmap__overlay(const siginfo_t *info, const ucontext_t *context);

/* ---- shadow.c ---- */
/* Reserves address space for the pages of a region that is put back;
 * safemmap__put_back() releases it. The caller of both holds the registry's lock. */
int safemmap__reserve_shadow(struct safemmap_region *region);
/* Puts back the file's pages in a region that asks for it, after it has been taken
 * out of the registry. Returns as safemmap_region_remove(). */
int safemmap__put_back(struct safemmap_region *region);

/* ---- pages.c ---- */
/* Whether a page of the registered region was replaced before it was added. The
 * caller holds the registry's lock. */
bool safemmap__was_replaced(const struct safemmap_region *region);

/* ---- events.c ---- */
/* Where a copy of this library has its events. */
struct safemmap__mailbox {
    struct safemmap_event ring[SAFEMMAP_EVENTS];
    size_t pushed, taken; /* how many events were ever put in and taken out */
    uint64_t dropped;
    int lock; /* for safemmap__hold(): by the thread that takes one out, or makes the
                 descriptor. No handler does. */
    safemmap_event_hook *event_hook;
    safemmap_fault_hook *fault_hook;
    int fd; /* -1 until safemmap_event_fd() makes it */
};
/* A copy of this library, as the one that serves it knows it. */
struct safemmap__member {
    struct safemmap__member *next;
    struct safemmap__mailbox mailbox;
    unsigned wants; /* enum safemmap__want, some of them */
};
/* One caller at a time, with all signals blocked. */
void safemmap__event_push(const struct safemmap_event *event);
/* Calls each fault hook for these regions; then, if one that got an event is not
 * attended, or a queue is half full, the event hooks of copies whose fault hook does
 * not see to the queue; and makes the eventfds readable. Changes `event->region`. The
 * caller holds nothing. */
void safemmap__event_announce(struct safemmap_event *event, const uint64_t *regions,
                              size_t count, bool unattended);
/* In the child of a fork: drops the parent's events and hook, and puts a new eventfd
 * under the old number. */
void safemmap__events_reset(void);

/* ---- handler.c ---- */
typedef void safemmap__entry(int signo, siginfo_t *info, void *context);
extern safemmap__entry *const safemmap__entries[SAFEMMAP__ENTRIES];

/* ---- guard.c ---- */
/* Checks the handler if that is due, for a guard of so many bytes: 0, or a negative
 * errno. */
int safemmap__prepare(size_t size);

/* ---- checks.c ---- */
/* For a fork: held while the thread is started or stopped. */
void safemmap__checks_lock(void);
void safemmap__checks_unlock(void);
/* In the child of a fork, under the lock: starts its own thread, if the parent has
 * one.
 */
void safemmap__checks_reset(void);

/* ---- install.c ---- */
/* safemmap_install() for an operation: 0, -EBUSY, or -ECANCELED: the handler cannot
 * be installed for another reason. */
int safemmap__check_handler(void);

/* Where an entry forwards to first; 0: the default action. Wait-free. */
uintptr_t safemmap__action_below(size_t entry);

/* Holds the chain of actions still: around fork(). */
void safemmap__installation_lock(void);
void safemmap__installation_unlock(void);

/* ---- registry.c ---- */
bool safemmap__registry_is_empty(void);
/* Holds the registry still against other writers: around fork(), and for
 * safemmap__readers_wait(). */
void safemmap__registry_lock(void);
void safemmap__registry_unlock(void);

#pragma GCC visibility pop

#endif
