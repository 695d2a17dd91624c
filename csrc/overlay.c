/* Runs inside the signal, but for the functions that registry.c calls: replaces the
 * pages of regions by zeroed ones, and puts them back.
 *
 * Regions may overlap. One of those that hold the page, the *owner*, says how far the
 * replacement goes; all that have a part in it are poisoned before it, and keep
 * account of it after it.
 */
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
#include <unistd.h>

/* One thread at a time replaces pages or asks about them: of two that fault on one
 * page the second would take back what the first has stored since. */
static int lock;

/* So many pages of a region are replaced one by one; with the next goes all that is
 * still the file's, or a peer could exhaust vm.max_map_count with holes. */
enum { SINGLES_ALLOWED = 256 };

/* Between start_reading and stop_reading, which keep handlers of this thread away. */
static void
hold_pages(void)
{
    while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE) != 0)
        sched_yield();
}

static void
release_pages(void)
{
    __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
}

void
safemmap__overlay_reset(void)
{
    __atomic_store_n(&lock, 0, __ATOMIC_SEQ_CST);
}

/* ---- Account of what is replaced --------------------------------------- */

/* Some memory; all that follows is in pages of one region. */
struct range {
    uintptr_t start, end;
};

static size_t
page_count(const struct safemmap_region *region)
{
    return (region->end - region->start) / region->page_size;
}

static uintptr_t
address_of(const struct safemmap_region *region, size_t page)
{
    return region->start + page * region->page_size;
}

/* The pages of the region that the range touches, from `*ret_first` to before
 * `*ret_last`. They overlap. */
static void
pages_in(const struct safemmap_region *region, const struct range *range,
         size_t *ret_first, size_t *ret_last)
{
    uintptr_t start = range->start > region->start ? range->start : region->start;
    uintptr_t end = range->end < region->end ? range->end : region->end;

    *ret_first = (start - region->start) / region->page_size;
    *ret_last = (end - region->start + region->page_size - 1) / region->page_size;
}

static bool
bit(const unsigned char *bits, size_t page)
{
    return (bits[page / CHAR_BIT] >> (page % CHAR_BIT)) & 1;
}

/* The first page from `page` to before `last` whose bit has this value, or `last`. A
 * peer chooses how many pages there are: they are passed eight at a time. */
static size_t
next_with(const unsigned char *bits, bool value, size_t page, size_t last)
{
    const unsigned char none = value ? 0 : UCHAR_MAX;

    while (page < last && bit(bits, page) != value) {
        page++;
        while (page % CHAR_BIT == 0 && page + CHAR_BIT <= last &&
               bits[page / CHAR_BIT] == none)
            page += CHAR_BIT;
    }
    return page;
}

/* Returns how many have changed. */
static size_t
set_bits(unsigned char *bits, size_t first, size_t last, bool value)
{
    size_t changed = 0;

    while ((first = next_with(bits, !value, first, last)) < last) {
        const unsigned char none = value ? 0 : UCHAR_MAX;

        if (first % CHAR_BIT == 0 && first + CHAR_BIT <= last &&
            bits[first / CHAR_BIT] == none) {
            bits[first / CHAR_BIT] = (unsigned char)~none;
            changed += CHAR_BIT;
            continue;
        }
        bits[first / CHAR_BIT] ^= (unsigned char)(1u << (first % CHAR_BIT));
        changed++;
    }
    return changed;
}

static bool
is_overlaid(const struct safemmap_region *region, size_t page)
{
    return page >= region->tail || bit(region->overlaid, page);
}

/* safemmap__visitor: a struct range of it was replaced. */
static void
mark(struct safemmap_region *region, void *context)
{
    size_t first, last;

    pages_in(region, context, &first, &last);
    if (last >= region->tail) {
        if (first < region->tail)
            region->tail = first;
    } else
        region->singles += set_bits(region->overlaid, first, last, true);
}

/* safemmap__visitor: a struct range of it was put back. */
static void
unmark(struct safemmap_region *region, void *context)
{
    size_t first, last, count = page_count(region);

    pages_in(region, context, &first, &last);
    if (last > region->tail) {
        region->singles += set_bits(region->overlaid, region->tail, count, true);
        region->tail = count;
    }
    region->singles -= set_bits(region->overlaid, first, last, false);
}

/* The page after the run of pages from `page` on, up to `last`, that are still the
 * file's. */
static size_t
run_end(const struct safemmap_region *region, size_t page, size_t last)
{
    if (last > region->tail)
        last = region->tail;
    return region->singles == 0 ? last
                                : next_with(region->overlaid, true, page, last);
}

/* ---- All that have a part in it ---------------------------------------- */

struct partners {
    const struct safemmap_region *owner;
    bool met;
    safemmap__visitor *visit;
    void *context;
};

/* safemmap__visitor */
static void
meet(struct safemmap_region *region, void *context)
{
    struct partners *partners = context;

    partners->met = partners->met || region == partners->owner;
    partners->visit(region, partners->context);
}

/* Another thread may have taken the owner out of the registry since it was chosen:
 * it takes part as long as there is a handler that has chosen it. */
static void
visit_partners(struct safemmap_region *owner, const struct range *range,
               safemmap__visitor *visit, void *context)
{
    struct partners partners = {owner, false, visit, context};

    safemmap__regions_visit(range->start, range->end, meet, &partners);
    if (!partners.met)
        visit(owner, context);
}

/* ---- Poison ------------------------------------------------------------ */

struct fault {
    struct safemmap_event event;
    bool met;               /* the regions that hold the address had their event */
    struct range replacing; /* what will be replaced next */
};

/* safemmap__visitor: gets zeros from the coming replacement on. */
static void
poison(struct safemmap_region *region, void *context)
{
    struct fault *fault = context;
    uintptr_t address = fault->event.fault.address;
    bool inside = address >= region->start && address < region->end;
    struct safemmap_event event = fault->event;

    if (safemmap_region_poisoned(region) && (fault->met || !inside))
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

/* Before the first zero can be read, so that who reads one learns of it. */
static void
poison_all(struct safemmap_region *owner, struct fault *fault, uintptr_t start,
           uintptr_t end)
{
    fault->replacing = (struct range){start, end};
    visit_partners(owner, &fault->replacing, poison, fault);
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
    fault.event.fault.thread = (pid_t)syscall(SYS_gettid);
    fault.event.fault.time_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    fault.event.pthread = pthread_self();
    return fault;
}

/* ---- The shadow: where the file's pages wait to be put back ------------ */

/* Moves pages, and leaves empty ones of the same file behind, so that whoever touches
 * them meanwhile gets the file's content or a fault of ours. */
static bool
move(uintptr_t from, uintptr_t to, size_t size)
{
    const int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;

    return mremap((void *)from, size, size, flags, (void *)to) != MAP_FAILED;
}

int
safemmap__reserve_shadow(struct safemmap_region *region)
{
    void *shadow = mmap(NULL, region->end - region->start, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (shadow == MAP_FAILED)
        return -errno;
    region->shadow = (uintptr_t)shadow;
    return 0;
}

/* Negative errno: they would be lost with the replacement. (Before Linux 5.13 a
 * file's pages cannot be moved so, and before 6.17 only those of one mapping at a
 * time: -EFAULT.) */
static int
shadow(struct safemmap_region *region, size_t first, size_t last)
{
    if (!move(address_of(region, first), region->shadow + first * region->page_size,
              (last - first) * region->page_size))
        return -errno;
    set_bits(region->shadowed, first, last, true);
    return 0;
}

/* In pieces where it must be: the run may have come so. */
static void
unshadow(struct safemmap_region *region, size_t first, size_t last)
{
    size_t page_size = region->page_size;
    struct range range = {address_of(region, first), address_of(region, last)};

    /* The shadow is kept whole: in a hole of it somebody else's memory could be. */
    if (!move(region->shadow + first * page_size, range.start,
              range.end - range.start)) {
        if (last - first > 1) {
            unshadow(region, first, first + (last - first) / 2);
            unshadow(region, first + (last - first) / 2, last);
        }
        return;
    }
    set_bits(region->shadowed, first, last, false);
    safemmap__regions_visit(range.start, range.end, unmark, &range);
}

int
safemmap__put_back(struct safemmap_region *region)
{
    struct safemmap__reading reading;
    size_t count = page_count(region);
    int error;

    if (!region->put_back)
        return 0;
    reading = safemmap__start_reading();
    hold_pages();
    for (size_t page = 0;
         (page = next_with(region->shadowed, true, page, count)) < count;) {
        size_t first = page;

        page = next_with(region->shadowed, false, page, count);
        unshadow(region, first, page);
    }
    error = run_end(region, 0, count) < count ? -ENOMEM : 0;
    munmap((void *)region->shadow, region->end - region->start);
    release_pages();
    safemmap__stop_reading(&reading);
    return error;
}

/* ---- Replacing --------------------------------------------------------- */

static bool
replace_run(struct safemmap_region *region, size_t first, size_t last)
{
    struct range range = {address_of(region, first), address_of(region, last)};
    int error = region->put_back ? shadow(region, first, last) : -ENOTSUP;
    size_t middle = first + (last - first) / 2;

    if (error == -EFAULT && last - first > 1)
        return replace_run(region, first, middle) &&
               replace_run(region, middle, last);
    if (mmap((void *)range.start, range.end - range.start, region->protection,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
             0) == MAP_FAILED) {
        if (error == 0)
            unshadow(region, first, last);
        return false;
    }
    visit_partners(region, &range, mark, &range);
    return true;
}

/* Replaces the pages from `first` to before `last` that are still the file's, one
 * call for each run of them. */
static bool
replace(struct safemmap_region *region, size_t first, size_t last,
        struct fault *fault)
{
    bool all = true;

    poison_all(region, fault, address_of(region, first), address_of(region, last));
    for (size_t page = first; page < last && page < region->tail;) {
        size_t end = run_end(region, page, last);

        if (end == page)
            end = next_with(region->overlaid, false, page, last);
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
        struct range range = {low, low + granule};

        if (granule > region->page_size)
            pages_in(region, &range, ret_first, ret_last);
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
    if (is_overlaid(owner, page))
        return readable(address);

    fault = fault_of(info);
    poison_all(owner, &fault, address, address + 1);
    fault.met = true;
    extent(owner, page, info, &first, &last);
    if (!replace(owner, first, last, &fault) && !is_overlaid(owner, page) &&
        !replace(owner, page, page + 1, &fault)) {
        /* No more mappings to be had: a wider hole that swallows the whole run
         * around the page needs no new one. */
        for (first = page; first > 0 && !is_overlaid(owner, first - 1);)
            first--;
        for (last = page + 1; !is_overlaid(owner, last);)
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
        hold_pages();
        done = overlay_held(owner, info);
        release_pages();
    }
    safemmap__stop_reading(&reading);
    if (owner != NULL)
        safemmap__event_announce();
    return done;
}

bool
safemmap__overlay_untold(uintptr_t address)
{
    siginfo_t info;

    if (readable(address))
        return false;
    memset(&info, 0, sizeof(info));
    info.si_signo = SIGBUS;
    info.si_code = BUS_ADRERR;
    info.si_addr = (void *)address;
    return safemmap__overlay(&info);
}

/* ---- Asking ------------------------------------------------------------ */

struct question {
    const struct safemmap_region *region;
    bool replaced;
};

/* safemmap__visitor */
static void
ask(struct safemmap_region *region, void *context)
{
    struct question *question = context;
    struct range range = {question->region->start, question->region->end};
    size_t first, last;

    if (region == question->region || question->replaced)
        return;
    pages_in(region, &range, &first, &last);
    question->replaced = run_end(region, first, last) < last;
}

bool
safemmap__was_replaced(const struct safemmap_region *region)
{
    struct safemmap__reading reading = safemmap__start_reading();
    struct question question = {region, false};

    hold_pages();
    safemmap__regions_visit(region->start, region->end, ask, &question);
    release_pages();
    safemmap__stop_reading(&reading);
    return question.replaced;
}
