/* Runs only inside the signal: answers a fault in a region. Decides how many pages
 * are replaced, poisons the regions that hold them, and has zeros.c map the overlay.
 *
 * Regions may overlap. One of those that hold the page, the *owner*, determines how
 * many pages are replaced and by which zeros; every region that overlaps those pages
 * is poisoned first.
 */
#include "pages.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

/* The fault hook is called for so many regions that hold one address. */
enum { REPORTED_ALLOWED = 16 };

/* ---- Poison ------------------------------------------------------------ */

struct fault {
    uint64_t number;
    struct safemmap_event event;
    uintptr_t address;
    int64_t file_size; /* -1: not known */
    bool unattended;   /* a region that got an event is not attended */
    bool announced;    /* the regions that hold the address have had their event, */
    bool later;        /* or get it after the replacement */
    struct safemmap__range replacing; /* will be replaced next */
    size_t reported;
    uint64_t report[REPORTED_ALLOWED]; /* regions for which the hook is called */
};

static bool
holds(const struct safemmap_region *region, const struct fault *fault)
{
    return fault->address >= region->start && fault->address < region->end;
}

/* Whose event it is. */
static void
ascribe(struct safemmap_event *event, const struct safemmap_region *region)
{
    event->region = region->id;
    event->offset = event->fault.address - region->start;
    memcpy(event->name, region->name, sizeof(event->name) - 1);
    event->name[sizeof(event->name) - 1] = '\0';
}

static void
mark_poisoned(struct safemmap_region *region, const struct safemmap_event *event,
              int64_t file_size)
{
    if (safemmap_region_poisoned(region))
        return;
    region->fault = event->fault;
    region->fault_file_size = file_size;
    region->fault_offset = event->offset;
    __atomic_store_n(&region->poisoned, 1, __ATOMIC_SEQ_CST);
    if (region->hook != NULL)
        region->hook(region->hook_data, &event->fault);
}

/* The region that the program knows: while it changes its range, another stands in,
 * and both may be found for one fault. */
static struct safemmap_region *
known(struct safemmap_region *region)
{
    return region->updated != NULL ? region->updated : region;
}

/* Queues its event, of which each region has one for a fault. */
static void
push_once(struct fault *fault, struct safemmap_region *region,
          const struct safemmap_event *event)
{
    if (known(region)->told != fault->number)
        safemmap__event_push(event);
    known(region)->told = fault->number;
    /* (After it was poisoned: see safemmap_region_attend().) */
    if (__atomic_load_n(&known(region)->attended, __ATOMIC_SEQ_CST) == 0)
        fault->unattended = true;
}

/* safemmap__visitor: marks a region that the coming replacement overlaps. */
static void
poison(struct safemmap_region *region, void *context)
{
    struct fault *fault = context;
    bool inside = holds(region, fault);
    struct safemmap_event event = fault->event;

    if (safemmap_region_poisoned(region) && (fault->announced || !inside))
        return;
    if (!inside)
        event.fault.address = fault->replacing.start > region->start
                                  ? fault->replacing.start
                                  : region->start;
    ascribe(&event, region);
    mark_poisoned(region, &event, fault->file_size);
    mark_poisoned(known(region), &event, fault->file_size);
    if (!inside || !fault->later)
        push_once(fault, region, &event);
}

/* Called before the replacement, so that a thread which reads a zero sees the poison.
 */
static void
poison_all(struct safemmap_region *owner, struct fault *fault,
           const struct safemmap__range *replacing)
{
    fault->replacing = *replacing;
    safemmap__visit_overlapping(owner, &fault->replacing, poison, fault);
}

static struct fault
fault_of(const siginfo_t *info, const ucontext_t *context)
{
    struct fault fault;
    struct timespec now = {0, 0};

    clock_gettime(CLOCK_REALTIME, &now);
    memset(&fault, 0, sizeof(fault));
    fault.address = (uintptr_t)info->si_addr;
    fault.file_size = -1;
    fault.event.fault.address = fault.address;
    fault.event.fault.code = info->si_code;
    fault.event.fault.thread = safemmap__os_thread();
    fault.event.fault.time_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    fault.event.pthread = pthread_self();
    fault.event.stack = context == NULL ? 0 : safemmap__stack_pointer(context);
    fault.event.store = safemmap__access_of(context) == SAFEMMAP__STORE;
    return fault;
}

/* Whether the access would succeed now. (Memory that cannot be read is not asked.) */
static enum safemmap__presence
presence(const struct safemmap_region *region, size_t page, const ucontext_t *context)
{
    enum safemmap__access_kind kind = safemmap__access_of(context);
    bool store = kind == SAFEMMAP__STORE || (kind == SAFEMMAP__UNKNOWN &&
                                             (region->protection & PROT_WRITE) != 0);

    if ((region->protection & PROT_READ) == 0)
        return SAFEMMAP__UNCERTAIN;
    return safemmap__os_presence(safemmap__page_address(region, page),
                                 region->page_size, store);
}

/* ---- Zeros that stay --------------------------------------------------- */

static bool
replace_run(struct safemmap_region *region, size_t first, size_t last)
{
    struct safemmap__range range = {safemmap__page_address(region, first),
                                    safemmap__page_address(region, last)};

    safemmap__move_aside(region, first, last);
    if (safemmap__lasting_map(range.start, range.end - range.start,
                              region->protection) < 0) {
        safemmap__move_back(region, first, last);
        return false;
    }
    safemmap__visit_overlapping(region, &range, safemmap__mark, &range);
    return true;
}

/* Replaces the pages from `first` to before `last` that are still the file's, one
 * call for each run of them. */
static bool
replace(struct safemmap_region *region, size_t first, size_t last,
        struct fault *fault)
{
    const struct safemmap__range range = {safemmap__page_address(region, first),
                                          safemmap__page_address(region, last)};
    bool all = true;

    poison_all(region, fault, &range);
    while ((first = safemmap__runs_next(region->overlaid, false, first, last)) <
           last) {
        size_t end = safemmap__runs_next(region->overlaid, true, first, last);

        if (!replace_run(region, first, end))
            all = false;
        first = end;
    }
    return all;
}

/* The pages to replace for a fault on `page`: all that lie past the end of the file,
 * where that is what happened, else the one page or poisoned granule. Returns whether
 * it is known that they are lost. */
static bool
extent(struct safemmap_region *region, size_t page, const siginfo_t *info,
       struct fault *fault, size_t *ret_first, size_t *ret_last)
{
    struct stat status;
    uintptr_t granule = safemmap__os_poisoned_size(info);

    *ret_first = page;
    *ret_last = page + 1;
    if (granule > region->page_size) {
        uintptr_t low = (uintptr_t)info->si_addr & ~(granule - 1);
        struct safemmap__range range = {low, low + granule};

        safemmap__pages_in(region, &range, ret_first, ret_last);
    }
    if (region->fd < 0 || fstat(region->fd, &status) < 0 ||
        !S_ISREG(status.st_mode) || status.st_dev != region->device ||
        status.st_ino != region->inode)
        return false;
    fault->file_size = status.st_size;
    size_t held = 0; /* pages that the file still backs */
    if (status.st_size > region->offset)
        held = ((size_t)(status.st_size - region->offset) + region->page_size - 1) /
               region->page_size;
    if (page < held)
        return false;
    *ret_first = held;
    *ret_last = safemmap__page_count(region);
    return true;
}

/* A wider replacement, which swallows the whole run around the page, needs no further
 * mapping. */
static bool
replace_around(struct safemmap_region *region, size_t page, struct fault *fault)
{
    size_t first, last;

    safemmap__runs_around(region->overlaid, page, safemmap__page_count(region),
                          &first, &last);
    return replace(region, first, last, fault);
}

static bool
overlay_lasting(struct safemmap_region *owner, size_t page, const siginfo_t *info,
                struct fault *fault)
{
    const struct safemmap__range one = {fault->address, fault->address + 1};
    size_t first, last;
    bool lost;

    if (safemmap__is_overlaid(owner, page)) {
        /* Another thread has just replaced it. */
        if (safemmap__os_is_readable(fault->address))
            return true;
        /* These zeros were withdrawn. */
        safemmap__runs_drop(owner->overlaid, page, page + 1);
    }
    lost = extent(owner, page, info, fault, &first, &last);
    poison_all(owner, fault, &one);
    fault->announced = true;
    if ((!lost && safemmap__single_is_too_many(&owner->singles)) ||
        safemmap__os_set_mappings_aside() < 0) {
        first = 0;
        last = safemmap__page_count(owner);
    }
    if (!replace(owner, first, last, fault) && !safemmap__is_overlaid(owner, page) &&
        !replace(owner, page, page + 1, fault) && !replace_around(owner, page, fault))
        return false;
    safemmap__count(&safemmap__counts.overlaid);
    return true;
}

/* ---- Zeros that can be withdrawn --------------------------------------- */

static bool
is_reported(const struct fault *fault, uint64_t id)
{
    for (size_t i = 0; i < fault->reported; i++)
        if (fault->report[i] == id)
            return true;
    return false;
}

/* safemmap__visitor: queues the event of a region that holds the address, and notes
 * the region for the fault hook. */
static void
report(struct safemmap_region *region, void *context)
{
    struct fault *fault = context;
    struct safemmap_event event = fault->event;

    if (!holds(region, fault))
        return;
    ascribe(&event, region);
    if (!fault->announced)
        push_once(fault, region, &event);
    if (region->withdrawable && !is_reported(fault, region->id) &&
        fault->reported < REPORTED_ALLOWED)
        fault->report[fault->reported++] = region->id;
}

static bool
map_step(struct safemmap_region *owner, const struct safemmap__range *step,
         const struct safemmap__range *within, struct fault *fault)
{
    size_t first, last;

    safemmap__pages_in(owner, step, &first, &last);
    poison_all(owner, fault, step);
    safemmap__move_aside(owner, first, last);
    if (safemmap__step_map(&owner->steps, step, within, owner->protection) < 0) {
        safemmap__move_back(owner, first, last);
        return false;
    }
    fault->replacing = *step;
    safemmap__visit_overlapping(owner, &fault->replacing, safemmap__mark,
                                &fault->replacing);
    return true;
}

/* Makes one mapping of those pages, all of which are lost. */
static void
join(struct safemmap_region *owner, size_t first, size_t last)
{
    struct safemmap__range range = {safemmap__page_address(owner, first),
                                    safemmap__page_address(owner, last)};

    if (first == last)
        return;
    safemmap__move_aside(owner, first, last);
    safemmap__steps_join(&owner->steps, &range, owner->protection, owner->steps.left);
    safemmap__visit_overlapping(owner, &range, safemmap__mark, &range);
}

/* The same for the steps on either side of the page. */
static void
join_beside(struct safemmap_region *owner, size_t page)
{
    const size_t count = safemmap__page_count(owner);
    size_t first = page, last = page, other;

    if (page > 0 && safemmap__is_overlaid(owner, page - 1))
        safemmap__runs_around(owner->overlaid, page - 1, count, &first, &other);
    if (page + 1 < count && safemmap__is_overlaid(owner, page + 1))
        safemmap__runs_around(owner->overlaid, page + 1, count, &other, &last);
    join(owner, first, page);
    join(owner, page + (last > page), last);
}

static bool
overlay_withdrawable(struct safemmap_region *owner, size_t page,
                     const siginfo_t *info, struct fault *fault)
{
    uintptr_t start = safemmap__page_address(owner, page);
    const struct safemmap__range one = {start, start + owner->page_size};
    size_t first, last, count = safemmap__page_count(owner);
    bool lost = extent(owner, page, info, fault, &first, &last);
    bool known = safemmap__is_overlaid(owner, page);

    if (!lost)
        safemmap__runs_around(owner->overlaid, page, count, &first, &last);
    fault->later = true;
    fault->announced = safemmap__steps_go_on(&owner->steps, start, owner->page_size);
    if (!lost && !known &&
        !safemmap__steps_adjoin(&owner->steps, start, owner->page_size) &&
        safemmap__single_is_too_many(&owner->singles)) {
        lost = true;
        first = 0;
        last = count;
    }
    poison_all(owner, fault, &one);
    if (safemmap__steps_are_many(&owner->steps)) {
        if (lost || known)
            join(owner, first, last);
        else
            join_beside(owner, page);
    }

    /* The process can have no more mappings: a whole run of replaced pages, or the
     * whole region, takes none. */
    bool full = safemmap__os_set_mappings_aside() < 0;
    if (full && !known) {
        first = 0;
        last = count;
    }
    struct safemmap__range within = {safemmap__page_address(owner, first),
                                     safemmap__page_address(owner, last)};
    struct safemmap__range step =
        full ? within
             : safemmap__step(&owner->steps, start, owner->page_size, &within, lost);
    if (!map_step(owner, &step, &within, fault) &&
        !map_step(owner, &one, &within, fault) &&
        !map_step(owner, &within, &within, fault))
        return false;
    safemmap__count(&safemmap__counts.overlaid);
    return true;
}

/* ---- The owner --------------------------------------------------------- */

/* safemmap__visitor: prefers as the owner a withdrawable region, then one with a file
 * descriptor, then the largest. */
static void
choose(struct safemmap_region *region, void *context)
{
    struct safemmap_region **owner = context, *other = *owner;

    if (other == NULL || region->withdrawable > other->withdrawable ||
        (region->withdrawable == other->withdrawable &&
         ((region->fd >= 0) > (other->fd >= 0) ||
          ((region->fd >= 0) == (other->fd >= 0) &&
           region->end - region->start > other->end - other->start))))
        *owner = region;
}

/* (A page that is replaced again is asked for before the access goes on: where the
 * kernel has no memory for it, the access would fault for ever.) */
static bool
overlay_held(struct safemmap_region *owner, const siginfo_t *info,
             const ucontext_t *context, struct fault *fault)
{
    static uint64_t faults; /* guarded by safemmap__pages */
    size_t page = (fault->address - owner->start) / owner->page_size;
    const struct safemmap__range one = {fault->address, fault->address + 1};
    const bool again = safemmap__is_overlaid(owner, page);

    fault->number = ++faults;
    if (!owner->withdrawable)
        return overlay_lasting(owner, page, info, fault) &&
               !(again && presence(owner, page, context) == SAFEMMAP__LOST);
    if (again && safemmap__access_of(context) != SAFEMMAP__UNKNOWN &&
        presence(owner, page, context) == SAFEMMAP__PRESENT) {
        /* Another thread has just replaced it. */
        fault->announced = true;
        fault->event.token = safemmap__zeros_newest();
    } else if (!overlay_withdrawable(owner, page, info, fault) ||
               (again && presence(owner, page, context) == SAFEMMAP__LOST &&
                !safemmap__zeros_are_cut(owner->steps.token)))
        return false;
    else
        fault->event.token = owner->steps.token;
    fault->replacing = one;
    safemmap__visit_overlapping(owner, &fault->replacing, report, fault);
    return true;
}

bool
safemmap__overlay(const siginfo_t *info, const ucontext_t *context)
{
    uintptr_t address = (uintptr_t)info->si_addr;
    struct safemmap_region *owner = NULL;
    struct safemmap__reading reading;
    struct fault fault;
    bool done = false, again = false;
    uint64_t id;

    /* (There has been no region yet: what follows takes two system calls.) */
    if (__atomic_load_n(&safemmap__directory, __ATOMIC_ACQUIRE) == NULL)
        return false;
    reading = safemmap__start_reading();
    safemmap__regions_visit(address, address + 1, choose, &owner);
    if (info->si_code == BUS_ADRALN)
        owner = NULL; /* a misaligned access has nothing wrong with its page */
    if (owner != NULL) {
        fault = fault_of(info, context);
        id = __atomic_load_n(&owner->id, __ATOMIC_RELAXED);
        safemmap__lock_as(&safemmap__pages, fault.event.fault.thread);
        /* Another thread may have had the file mapped anew: then the access is made
         * again. */
        again = id != owner->id;
        done = again || overlay_held(owner, info, context, &fault);
        safemmap__unlock(&safemmap__pages);
    }
    safemmap__stop_reading(&reading);
    if (owner != NULL && !again)
        safemmap__event_announce(&fault.event, fault.report,
                                 done ? fault.reported : 0, fault.unattended);
    return done;
}
