/* Runs only outside the signal: puts the handler in place, and keeps the previous
 * actions as the chain to forward to.
 */
#include "copies.h"
#include "process_overlay.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Guards the chain of actions and the installation against other threads.
 * Handlers do not take it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void
safemmap__installation_lock(void)
{
    pthread_mutex_lock(&lock);
}

void
safemmap__installation_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

/* ---- The action -------------------------------------------------------- */

/* The entry that was installed last, and what it inherited. */
static int top = -1;
static int top_inherited;

/* The number of the entry that `action` is, or -1. (Whatever its flags: signal(3)
 * puts it back without SA_SIGINFO.) */
static int
entry_of(const struct sigaction *action)
{
    for (int i = 0; i < SAFEMMAP__ENTRIES; i++)
        if (action->sa_sigaction == safemmap__entries[i])
            return i;
    return -1;
}

static bool
is_handler(const struct sigaction *action)
{
    return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

/* The first `keep` links stay; `action`, unless NULL, comes after them. Where it
 * stands there already it has been displaced and come back: what it found below is
 * not what it found the first time, so that it must not be asked there again. Links
 * that have been cut off were those of actions that have left. */
static int
publish_chain(int keep, const struct sigaction *action)
{
    static size_t actions;
    struct safemmap__chain *old = safemmap__chain, *new = calloc(1, sizeof(*new));

    if (new == NULL)
        return -ENOMEM;
    for (int i = 0; i < keep; i++) {
        if (i < old->count)
            new->link[i] = old->link[i];
        else
            new->link[i].moved = true;
        if (action != NULL && is_handler(action) &&
            new->link[i].action.sa_sigaction == action->sa_sigaction)
            new->link[i].moved = true;
    }
    new->count = keep;
    if (action != NULL) {
        new->link[keep].action = *action;
        new->link[keep].number = ++actions;
        new->count++;
    }
    __atomic_store_n(&safemmap__chain, new, __ATOMIC_SEQ_CST);
    safemmap__registry_lock();
    safemmap__readers_wait();
    safemmap__registry_unlock();
    free(old);
    return 0;
}

/* What an entry forwards to first. */
static const struct sigaction *
action_below(int entry)
{
    static const struct sigaction none = {.sa_handler = SIG_DFL};
    const int at = safemmap__link_for(safemmap__chain, entry);

    return at < 0 ? &none : &safemmap__chain->link[at].action;
}

/* What our action takes over from the one below it, so that a signal which is
 * forwarded finds what it would without us. */
static int
inherited_flags(const struct sigaction *below)
{
    if (is_handler(below))
        return below->sa_flags & (SA_ONSTACK | SA_RESTART);
    /* A thread's own stack may be small (Go's are). A signal that is ignored
     * interrupts no system call. */
    return SA_ONSTACK | SA_RESTART;
}

static struct sigaction
action_of(int entry, int inherited)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_sigaction = safemmap__entries[entry];
    sigemptyset(&action.sa_mask);
    action.sa_flags =
        /* The handler needs the address. */
        SA_SIGINFO
        /* The handler leaves by a jump: had the kernel blocked the signal, it
         * would stay blocked. The handler is reentrant. */
        | SA_NODEFER
        /* On which stack it runs, and whether a SIGBUS from kill(2) interrupts system
         * calls. */
        | inherited;
    return action;
}

static void
set_top(int entry, int inherited)
{
    __atomic_store_n(&top_inherited, inherited, __ATOMIC_RELAXED);
    __atomic_store_n(&top, entry, __ATOMIC_RELEASE);
}

/* Those above an entry have left. */
static int
cut_chain(int entry)
{
    int error = publish_chain(entry + 1, NULL);

    if (error == 0)
        set_top(entry, inherited_flags(action_below(entry)));
    return error;
}

static int set_again(const struct sigaction *present, int entry, int inherited);

static int
go_above(const struct sigaction *displacer)
{
    const int inherited = inherited_flags(displacer);
    struct sigaction ours, replaced;
    int entry = top + 1, left, error;

    if (entry == SAFEMMAP__ENTRIES)
        return -EBUSY;
    /* The chain is complete before the first signal can arrive. */
    if ((error = publish_chain(entry, displacer)) < 0)
        return error;
    ours = action_of(entry, inherited);
    if ((error = safemmap__os_set_action(&ours, &replaced)) < 0)
        return error;
    set_top(entry, inherited);
    __atomic_fetch_add(&safemmap__counts.installs, 1, __ATOMIC_RELAXED);
    /* Another thread may have set an action since we read the present one; or the
     * displacer has left: back to the entry that it has put back. */
    left = entry_of(&replaced);
    if (left >= 0)
        return (error = cut_chain(left)) < 0
                   ? error
                   : set_again(&replaced, left, top_inherited);
    if (replaced.sa_sigaction != displacer->sa_sigaction)
        return publish_chain(entry, &replaced);
    return 0;
}

/* Whether an action of ours is as it was set. A program may have read it, changed its
 * flags or mask, and set it again. (Whether it interrupts system calls is for the
 * program to say; and it may have it run on alternate stacks, as Go does with every
 * handler.) */
static bool
is_intact(const struct sigaction *action, int inherited)
{
    const int want = SA_SIGINFO | SA_NODEFER | (inherited & SA_ONSTACK);

    return (action->sa_flags & (want | (int)SA_RESETHAND)) == want &&
           safemmap__os_mask_is_empty(&action->sa_mask);
}

static int
set_again(const struct sigaction *present, int entry, int inherited)
{
    const struct sigaction ours =
        action_of(entry, (present->sa_flags & (SA_ONSTACK | SA_RESTART)) |
                             (inherited & SA_ONSTACK));
    struct sigaction replaced;
    int error;

    if ((present->sa_flags & SA_SIGINFO) == 0)
        __atomic_store_n(&safemmap__lacked_siginfo, true, __ATOMIC_SEQ_CST);
    if ((error = safemmap__os_set_action(&ours, &replaced)) < 0)
        return error;
    /* Another thread has set an action meanwhile. */
    return entry_of(&replaced) < 0 ? go_above(&replaced) : 0;
}

uintptr_t
safemmap__action_below(size_t entry)
{
    struct safemmap__reading reading = safemmap__start_reading();
    const struct safemmap__chain *chain =
        __atomic_load_n(&safemmap__chain, __ATOMIC_SEQ_CST);
    const int at = safemmap__link_for(chain, (int)entry);
    uintptr_t function = 0;

    if (at >= 0 && is_handler(&chain->link[at].action))
        function = (uintptr_t)chain->link[at].action.sa_sigaction;
    safemmap__stop_reading(&reading);
    return function;
}

/* Whether an action is that of another copy of this library, which forwards to our
 * topmost entry first, or to a copy that does. Each would otherwise go above the
 * other until there are no entries left. (These are copies of different layouts;
 * others have one host.) */
static bool
leads_to_us(const struct sigaction *action)
{
    enum { COPIES_BETWEEN = 8 };
    uintptr_t function = (uintptr_t)action->sa_sigaction;
    size_t entry;

    if (top < 0 || !is_handler(action))
        return false;
    for (int i = 0; i < COPIES_BETWEEN && function != 0; i++) {
        const struct safemmap__copy *copy = safemmap__os_copy_of(function, &entry);

        if (copy == NULL || copy == &safemmap__copy)
            return copy != NULL && entry == (size_t)top;
        function = copy->below(entry);
    }
    return false;
}

static int
install_locked(void)
{
    struct sigaction present;
    int error, entry;

    if (sigaction(SIGBUS, NULL, &present) < 0)
        return -errno;
    entry = entry_of(&present);
    if (entry < 0)
        return leads_to_us(&present) ? 0 : go_above(&present);
    if (entry != top && (error = cut_chain(entry)) < 0)
        return error;
    return is_intact(&present, top_inherited)
               ? 0
               : set_again(&present, entry, top_inherited);
}

static void
set_check_below(unsigned below)
{
    __atomic_store_n(&safemmap__check_below, below, __ATOMIC_RELAXED);
}

/* A sandbox does not let us ask: then it hardly lets others take our place. */
static int
check_unasked(int error)
{
    if (__atomic_load_n(&top, __ATOMIC_ACQUIRE) < 0)
        return error;
    return __atomic_load_n(&safemmap__check_below, __ATOMIC_RELAXED) ==
                   SAFEMMAP__CHECK_WHEN_DUE
               ? 0
               : -EBUSY;
}

/* `wanting` wants the handler from now on; unless that is NULL, and another does. */
static int
check_locked(struct safemmap__member *wanting)
{
    int error;

    if (wanting != NULL)
        safemmap__want(wanting, SAFEMMAP__HANDLER);
    else if (!safemmap__is_wanted(SAFEMMAP__HANDLER, NULL))
        return -ECANCELED;
    error = install_locked();
    set_check_below(error == -EBUSY ? SAFEMMAP__CHECK_ALWAYS
                                    : SAFEMMAP__CHECK_WHEN_DUE);
    return error;
}

static int
check(struct safemmap__member *wanting)
{
    struct sigaction present;
    int entry, error;

    if (sigaction(SIGBUS, NULL, &present) < 0)
        return check_unasked(-errno);
    entry = entry_of(&present);
    if (entry >= 0 && entry == __atomic_load_n(&top, __ATOMIC_ACQUIRE) &&
        is_intact(&present, __atomic_load_n(&top_inherited, __ATOMIC_RELAXED)) &&
        __atomic_load_n(&safemmap__check_below, __ATOMIC_RELAXED) ==
            SAFEMMAP__CHECK_WHEN_DUE &&
        (wanting == NULL || safemmap__wants(wanting, SAFEMMAP__HANDLER)))
        return 0;
    if (safemmap__fork_error < 0)
        return safemmap__fork_error;
    pthread_mutex_lock(&lock);
    error = check_locked(wanting);
    pthread_mutex_unlock(&lock);
    return error;
}

int
safemmap__install(struct safemmap__member *member)
{
    safemmap__os_precede_wayland();
    return check(member);
}

int
safemmap_install(void)
{
    return safemmap__host != NULL ? safemmap__host->install(&safemmap__own)
                                  : safemmap__install(&safemmap__own);
}

int
safemmap__check_handler(void)
{
    int error =
        safemmap__is_wanted(SAFEMMAP__HANDLER, NULL) ? check(NULL) : -ECANCELED;

    return error < 0 && error != -EBUSY ? -ECANCELED : error;
}

/* Handlers that came after ours, up to the one below `entry`, have it to call. */
static bool
somebody_calls_us(int entry)
{
    const struct safemmap__chain *chain = safemmap__chain;
    int at = safemmap__link_for(chain, entry);

    for (; at > 0; at = safemmap__link_for(chain, at - 1))
        if (is_handler(&chain->link[at].action))
            return true;
    return false;
}

static int
put_below_back(int entry)
{
    struct sigaction replaced;

    if (sigaction(SIGBUS, action_below(entry), &replaced) < 0)
        return -errno;
    if (entry_of(&replaced) == entry)
        return 0;
    /* Another thread has set an action since we read the present one: it stays. */
    return sigaction(SIGBUS, &replaced, NULL) < 0 ? -errno : -EBUSY;
}

static int
uninstall_locked(void)
{
    struct sigaction present;
    int entry, error;

    if (sigaction(SIGBUS, NULL, &present) < 0)
        return -errno;
    entry = entry_of(&present);
    if ((entry < 0 && top >= 0) || somebody_calls_us(entry))
        return -EBUSY;
    if (!safemmap__registry_is_empty() || safemmap__process_overlay_begun())
        return -EADDRINUSE;
    /* (It may never have been installed.) */
    if (entry >= 0 && (error = put_below_back(entry)) < 0)
        return error;
    __atomic_store_n(&top, -1, __ATOMIC_RELEASE);
    set_check_below(SAFEMMAP__CHECK_ALWAYS);
    return 0;
}

int
safemmap__uninstall(struct safemmap__member *member)
{
    int error = 0;

    pthread_mutex_lock(&lock);
    if (safemmap__wants(member, SAFEMMAP__PROCESS))
        error = -EADDRINUSE;
    else if (!safemmap__is_wanted(SAFEMMAP__HANDLER, member))
        error = uninstall_locked();
    if (error == 0)
        safemmap__want_no_more(member, SAFEMMAP__HANDLER);
    pthread_mutex_unlock(&lock);
    return error;
}

int
safemmap_uninstall(void)
{
    return safemmap__host != NULL ? safemmap__host->uninstall(&safemmap__own)
                                  : safemmap__uninstall(&safemmap__own);
}

static void
note(const struct sigaction *action, bool ours, struct safemmap_action *ret_actions,
     size_t room, size_t *count)
{
    if (*count < room) {
        ret_actions[*count].ours = ours;
        ret_actions[*count].ignores = action->sa_handler == SIG_IGN;
        ret_actions[*count].function =
            is_handler(action) ? (uintptr_t)action->sa_sigaction : 0;
    }
    ++*count;
}

size_t
safemmap_get_actions(struct safemmap_action *ret_actions, size_t room)
{
    struct sigaction present;
    size_t count = 0;

    if (safemmap__host != NULL)
        return safemmap__host->get_actions(ret_actions, room);
    pthread_mutex_lock(&lock);
    if (sigaction(SIGBUS, NULL, &present) == 0) {
        const struct safemmap__chain *chain = safemmap__chain;
        int entry = entry_of(&present);

        note(&present, entry >= 0, ret_actions, room, &count);
        if (entry < 0) {
            /* Below it is ours, if ever. */
            entry = top;
            if (top >= 0) {
                present.sa_sigaction = safemmap__entries[top];
                note(&present, true, ret_actions, room, &count);
            }
        }
        for (int at = safemmap__link_for(chain, entry); at >= 0;
             at = safemmap__link_for(chain, at - 1))
            note(&chain->link[at].action, false, ret_actions, room, &count);
    }
    pthread_mutex_unlock(&lock);
    return count;
}

void
safemmap_get_counts(struct safemmap_counts *ret_counts)
{
    const struct safemmap_counts *counts = &safemmap__counts;

    if (safemmap__host != NULL) {
        safemmap__host->get_counts(ret_counts);
        return;
    }
    ret_counts->recovered = __atomic_load_n(&counts->recovered, __ATOMIC_RELAXED);
    ret_counts->overlaid = __atomic_load_n(&counts->overlaid, __ATOMIC_RELAXED);
    ret_counts->forwarded = __atomic_load_n(&counts->forwarded, __ATOMIC_RELAXED);
    ret_counts->installs = __atomic_load_n(&counts->installs, __ATOMIC_RELAXED);
}
