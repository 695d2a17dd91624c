/* Runs only inside the signal: decides which pages a fault in a region has replaced
 * by zeroed ones, and replaces them.
 *
 * Regions may overlap. One of those that hold the page, the *owner*, says how far the
 * replacement goes; all that overlap it are poisoned before it.
 */
#include "pages.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* So many pages of a region are replaced one by one; with the next goes all that is
 * still the file's, or a peer could exhaust vm.max_map_count with holes. */
enum { SINGLES_ALLOWED = 256 };

/* ---- Poison ------------------------------------------------------------ */

struct fault {
    struct safemmap_event event;
    bool announced; /* the regions that hold the address had their event */
    struct safemmap__range replacing; /* what will be replaced next */
};

/* safemmap__visitor: gets zeros from the coming replacement on. */
static void
poison(struct safemmap_region *region, void *context)
{
    struct fault *fault = context;
    uintptr_t address = fault->event.fault.address;
    bool inside = address >= region->start && address < region->end;
    struct safemmap_event event = fault->event;

    if (safemmap_region_poisoned(region) && (fault->announced || !inside))
        return;
    event.region = region->id;
    if (!inside)
        event.fault.address = fault->replacing.start > region->start
                                  ? fault->replacing.start
                                  : region->start;
    if (!safemmap_region_poisoned(region)) {
        region->fault = event.fault;
        __atomic_store_n(&region->poisoned, 1, __ATOMIC_RELEASE);
    }
    safemmap__event_push(&event);
}

/* Before the first zero can be read: a thread that reads one sees the poison. */
static void
poison_all(struct safemmap_region *owner, struct fault *fault, uintptr_t start,
           uintptr_t end)
{
    fault->replacing = (struct safemmap__range){start, end};
    safemmap__visit_overlapping(owner, &fault->replacing, poison, fault);
}

static struct fault
fault_of(const siginfo_t *info)
{
    struct fault fault;
    struct timespec now = {0, 0};

    clock_gettime(CLOCK_REALTIME, &now);
    memset(&fault, 0, sizeof(fault));
    fault.event.fault.address = (uintptr_t)info->si_addr;
    fault.event.fault.code = info->si_code;
    fault.event.fault.thread = safemmap__os_thread();
    fault.event.fault.time_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    fault.event.pthread = pthread_self();
    return fault;
}

/* ---- Replacing --------------------------------------------------------- */

static bool
replace_run(struct safemmap_region *region, size_t first, size_t last)
{
    struct safemmap__range range = {safemmap__page_address(region, first),
                                    safemmap__page_address(region, last)};
    int error =
        region->put_back ? safemmap__move_aside(region, first, last) : -ENOTSUP;
    size_t middle = first + (last - first) / 2;

    if (error == -EFAULT && last - first > 1)
        return replace_run(region, first, middle) &&
               replace_run(region, middle, last);
    if (safemmap__os_replace_pages(range.start, range.end - range.start,
                                   region->protection) < 0) {
        if (error == 0)
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
    bool all = true;

    poison_all(region, fault, safemmap__page_address(region, first),
               safemmap__page_address(region, last));
    for (size_t page = first; page < last && page < region->tail;) {
        size_t end = safemmap__run_end(region, page, last);

        if (end == page)
            end = safemmap__next_page(region->overlaid, false, page, last);
        else if (!replace_run(region, page, end))
            all = false;
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
    uintptr_t granule;

    *ret_first = page;
    *ret_last = page + 1;
    if (region->singles >= SINGLES_ALLOWED) {
        *ret_first = 0;
        *ret_last = safemmap__page_count(region);
        return;
    }
    granule = safemmap__os_poisoned_size(info);
    if (granule > region->page_size) {
        uintptr_t low = (uintptr_t)info->si_addr & ~(granule - 1);
        struct safemmap__range range = {low, low + granule};

        safemmap__pages_in(region, &range, ret_first, ret_last);
    }
    if (region->fd < 0 || fstat(region->fd, &status) < 0 || !S_ISREG(status.st_mode))
        return;
    size_t held = 0; /* pages that the file still backs */
    if (status.st_size > region->offset)
        held = ((size_t)(status.st_size - region->offset) + region->page_size - 1) /
               region->page_size;
    if (page >= held) {
        *ret_first = held;
        *ret_last = safemmap__page_count(region);
    }
}

/* safemmap__visitor: the owner is the one that knows its file, or the largest. */
static void
choose(struct safemmap_region *region, void *context)
{
    struct safemmap_region **owner = context;

    if (*owner == NULL || (region->fd >= 0) > ((*owner)->fd >= 0) ||
        ((region->fd >= 0) == ((*owner)->fd >= 0) &&
         region->end - region->start > (*owner)->end - (*owner)->start))
        *owner = region;
}

static bool
overlay_held(struct safemmap_region *owner, const siginfo_t *info)
{
    uintptr_t address = (uintptr_t)info->si_addr;
    size_t page = (address - owner->start) / owner->page_size, first, last;
    struct fault fault;

    /* Another thread has just replaced it. */
    if (safemmap__is_overlaid(owner, page))
        return safemmap__os_is_readable(address);

    fault = fault_of(info);
    poison_all(owner, &fault, address, address + 1);
    fault.announced = true;
    extent(owner, page, info, &first, &last);
    if (!replace(owner, first, last, &fault) && !safemmap__is_overlaid(owner, page) &&
        !replace(owner, page, page + 1, &fault)) {
        /* No more mappings to be had: a wider hole that swallows the whole run
         * around the page needs no new one. */
        for (first = page; first > 0 && !safemmap__is_overlaid(owner, first - 1);)
            first--;
        for (last = page + 1; !safemmap__is_overlaid(owner, last);)
            last++;
        if (!replace(owner, first, last, &fault))
            return false;
    }
    safemmap__count(&safemmap__counts.overlaid);
    return true;
}

bool
safemmap__overlay(const siginfo_t *info)
{
    struct safemmap__reading reading = safemmap__start_reading();
    uintptr_t address = (uintptr_t)info->si_addr;
    struct safemmap_region *owner = NULL;
    bool done = false;

    safemmap__regions_visit(address, address + 1, choose, &owner);
    /* (A misaligned access has nothing wrong with its page.) */
    if (owner != NULL && info->si_code != BUS_ADRALN) {
        safemmap__lock(&safemmap__pages);
        done = overlay_held(owner, info);
        safemmap__unlock(&safemmap__pages);
    }
    safemmap__stop_reading(&reading);
    if (owner != NULL)
        safemmap__event_announce();
    return done;
}

bool
safemmap__overlay_echoed(uintptr_t address)
{
    siginfo_t info;

    if (safemmap__os_is_readable(address))
        return false;
    memset(&info, 0, sizeof(info));
    info.si_signo = SIGBUS;
    info.si_code = BUS_ADRERR;
    info.si_addr = (void *)address;
    return safemmap__overlay(&info);
}
