/* Runs in the signal (outside it: what process.c and fork.c call). Decides which
 * memory of no region is protected, when the whole process is, and answers faults in
 * it.
 *
 * 1. The handler calls it last, when it would otherwise forward the signal. It
 *    answers only for ordinary mappings of regular files, where the access would
 *    fault again.
 * 2. It never replaces executable pages, pages of files that are also mapped
 *    executable (the code and data of libraries; a compiler's second mapping of the
 *    code that it writes), devices, the kernel's own files, or buffers shared with
 *    the kernel.
 * 3. Other threads map and unmap meanwhile. In a correct program a thread keeps the
 *    memory mapped that it accesses. Others may not be correct, so we look the
 *    mapping up again just before replacing, and compare.
 */
#include "process_overlay.h"
#include "mappings.h"
#include "origins.h"
#include "pages.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static int begun;

bool
safemmap__process_overlay_begun(void)
{
    return __atomic_load_n(&begun, __ATOMIC_ACQUIRE) != 0;
}

static struct safemmap__mappings maps = {.fd = -1}; /* guarded by safemmap__pages */

/* ---- Files that are mapped executable ---------------------------------- */

/* Finding them all takes time proportional to the number of mappings. So the list is
 * made for the first fault in each file, and after that only when the total size of
 * executable memory has changed, which takes some microseconds to check. A file that
 * was not in the list is not looked up again for a moment. Guarded by
 * safemmap__pages. */
enum { EXECUTABLES = 2048, MOMENT_NS = 10000000 };
static struct {
    struct {
        dev_t device;
        ino_t inode;
    } file[EXECUTABLES];
    size_t count;
    uint64_t size; /* of all that was executable then */
} executables;

static int64_t
now(void)
{
    struct timespec time = {0, 0};

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static bool
is_known_executable(dev_t device, ino_t inode)
{
    for (size_t i = 0; i < executables.count; i++)
        if (executables.file[i].inode == inode &&
            executables.file[i].device == device)
            return true;
    return false;
}

static void
find_executables(void)
{
    struct safemmap__mapping mapping = {.end = 0};
    int error = 0;

    executables.count = 0;
    while (executables.count < EXECUTABLES &&
           (error = safemmap__os_next_executable(maps.fd, mapping.end, &mapping)) ==
               0) {
        if (is_known_executable(mapping.device, mapping.inode))
            continue;
        executables.file[executables.count].device = mapping.device;
        executables.file[executables.count++].inode = mapping.inode;
    }
    if (error != 0 && error != -ENOENT) { /* and the next time they are looked for */
        executables.count = EXECUTABLES;
        executables.size = 0;
    }
}

/* (If there are more than the list holds, or it cannot be made, every file counts as
 * mapped executable.) */
static bool
is_mapped_executable(struct safemmap__file *file)
{
    int64_t time = now();
    uint64_t size;

    if (file->harmless_at != 0 && time - file->harmless_at < MOMENT_NS)
        return false;
    size = safemmap__os_executable_size();
    if (file->harmless_at == 0 || size == 0 || size != executables.size) {
        executables.size = size;
        find_executables();
    }
    if (executables.count == EXECUTABLES ||
        is_known_executable(file->device, file->inode))
        return true;
    file->harmless_at = time;
    return false;
}

/* ---- Which mapping it is ----------------------------------------------- */

struct lost {
    struct safemmap__mapping mapping; /* as it is now */
    struct safemmap__file *file;      /* the original one; NULL: forgotten */
    dev_t device;                     /* of the original one; where even that is */
    ino_t inode;                      /* forgotten, of the memory file */
    uintptr_t page;
    uint64_t offset;              /* of the page, in that file */
    struct safemmap__range range; /* may be replaced */
    bool known;                   /* all of the range is known to be lost */
    bool zeros;                   /* the mapping is an overlay of ours */
    int64_t size;                 /* of the file, or -1 */
    struct safemmap_event event;
};

static char path[SAFEMMAP__PATH]; /* guarded by safemmap__pages */

static bool
starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static bool
is_eligible_path(void)
{
    if (starts_with(path, "/dev/"))
        return starts_with(path, "/dev/shm/");
    return path[0] == '/' && !starts_with(path, "/proc/") &&
           !starts_with(path, "/sys/") && !starts_with(path, "/dmabuf:");
}

/* Looks the file up by its path, and records its identity and present size. False: it
 * is not a regular file. */
static bool
note_file(struct lost *lost)
{
    static const char deleted[] = " (deleted)";
    const struct safemmap__mapping *mapping = &lost->mapping;
    struct safemmap__file_status status;
    size_t length = strlen(path);
    bool found = safemmap__os_file_of(path, &status) == 0 &&
                 status.device == mapping->device && status.inode == mapping->inode;

    if (found && !status.regular)
        return false;
    lost->size = found ? status.size : -1;
    lost->file = safemmap__file_for(mapping->device, mapping->inode);
    lost->file->deleted = !found && length >= sizeof(deleted) &&
                          strcmp(path + length - (sizeof(deleted) - 1), deleted) == 0;
    if (lost->file->deleted)
        path[length - (sizeof(deleted) - 1)] = '\0';
    strcpy(lost->file->path, path);
    return true;
}

/* The first page past the end of the file. */
static uint64_t
end_of_file(const struct lost *lost)
{
    const size_t page_size = lost->mapping.page_size;

    return ((uint64_t)lost->size + page_size - 1) / page_size * page_size;
}

/* Sets the range to the mapping; to its part past the end of the file, if the page
 * lies there. */
static void
find_tail(struct lost *lost)
{
    const struct safemmap__mapping *mapping = &lost->mapping;
    uint64_t end = end_of_file(lost);

    lost->range = (struct safemmap__range){mapping->start, mapping->end};
    if (lost->size < 0 || lost->offset < end)
        return;
    lost->known = true;
    if (mapping->offset < end)
        lost->range.start += end - mapping->offset;
}

static int64_t
size_of(const struct safemmap__file *file)
{
    struct safemmap__file_status status;

    return safemmap__os_file_of(file->path, &status) == 0 &&
                   status.device == file->device && status.inode == file->inode
               ? status.size
               : -1;
}

/* True if the mapping is an overlay, withdrawn or not, from our memory file or from a
 * parent process's. */
static bool
find_origin(struct lost *lost)
{
    struct safemmap__mapping *mapping = &lost->mapping;
    uint64_t place = mapping->offset + (lost->page - mapping->start);
    struct safemmap__origin origin;

    if (!safemmap__zeros_are_on(mapping->device))
        return false;
    if (safemmap__origin_of(mapping->inode, place, &origin)) {
        lost->file = safemmap__file_by_id(origin.file);
        lost->offset = origin.offset + (place - origin.token);
        lost->device = origin.device;
        lost->inode = origin.inode;
    } else if (mapping->inode != safemmap__zeros_inode())
        return false;
    lost->size = lost->file != NULL ? size_of(lost->file) : -1;
    lost->known = lost->zeros = true;
    lost->range = (struct safemmap__range){mapping->start, mapping->end};
    return true;
}

/* Not even the identity of the original file is known: the pages count as the memory
 * file's. */
static bool
is_forgotten(const struct lost *lost)
{
    return safemmap__zeros_are_on(lost->device) &&
           lost->inode == safemmap__zeros_inode();
}

static bool
find(struct lost *lost, uintptr_t address)
{
    struct safemmap__mapping *mapping = &lost->mapping;

    if (safemmap__mappings_open(&maps) < 0 ||
        safemmap__os_mapping_at(maps.fd, address, mapping, path) < 0 ||
        mapping->inode == 0 || (mapping->protection & PROT_EXEC) != 0)
        return false;
    lost->device = mapping->device;
    lost->inode = mapping->inode;
    lost->page = address - (address - mapping->start) % mapping->page_size;
    lost->offset = mapping->offset + (lost->page - mapping->start);
    if (find_origin(lost))
        return true;
    if (!is_eligible_path() ||
        !safemmap__os_is_ordinary(lost->page, mapping->page_size) ||
        !note_file(lost) || is_mapped_executable(lost->file))
        return false;
    find_tail(lost);
    return true;
}

static bool
is_unchanged(const struct lost *lost)
{
    const struct safemmap__mapping *then = &lost->mapping;
    struct safemmap__mapping mapping;

    return safemmap__os_mapping_at(maps.fd, lost->page, &mapping, NULL) == 0 &&
           mapping.start == then->start && mapping.end == then->end &&
           mapping.offset == then->offset && mapping.inode == then->inode &&
           mapping.device == then->device && mapping.protection == then->protection;
}

/* ---- Replacing --------------------------------------------------------- */

static struct safemmap__steps *
steps_of(const struct lost *lost)
{
    static struct safemmap__steps of_forgotten; /* guarded by safemmap__pages */

    return lost->file != NULL ? &lost->file->steps : &of_forgotten;
}

/* (Zeros that stay do not fault, so that nobody will ask.) */
static void
remember(const struct lost *lost, const struct safemmap__range *range, uint64_t token)
{
    struct safemmap__origin origin = {.zeros = safemmap__zeros_inode(),
                                      .token = token,
                                      .size = range->end - range->start,
                                      .file = lost->event.file.id,
                                      .device = lost->device,
                                      .inode = lost->inode};

    if (token == 0)
        return;
    origin.offset = lost->offset + (range->start - lost->page);
    safemmap__origin_add(&origin);
}

static bool
map_step(const struct lost *lost, struct safemmap__steps *steps,
         const struct safemmap__range *step)
{
    if (safemmap__step_map(steps, step, &lost->range, lost->mapping.protection) < 0)
        return false;
    remember(lost, step, steps->token);
    return true;
}

/* So that good pages were replaced, too. */
static bool
are_many_singles(const struct lost *lost)
{
    return lost->file != NULL && safemmap__singles_are_many(lost->file->singles);
}

/* Whether a mapping next to the range was once part of the same mapping, and is lost
 * too. */
static bool
belongs(const struct lost *lost, const struct safemmap__mapping *other)
{
    uint64_t offset = lost->offset + (other->start - lost->page);
    struct safemmap__origin origin;

    if (other->protection != lost->mapping.protection)
        return false;
    if (safemmap__zeros_are_on(other->device) &&
        safemmap__origin_of(other->inode, other->offset, &origin))
        return origin.inode == lost->inode && origin.device == lost->device &&
               origin.offset + (other->offset - origin.token) == offset;
    return other->inode == lost->inode && other->device == lost->device &&
           other->offset == offset &&
           (is_forgotten(lost) || are_many_singles(lost) ||
            (lost->size >= 0 && offset >= end_of_file(lost)));
}

/* Steps split one mapping into many: widens the range to all of the original one.
 * Returns by how many mappings. */
static unsigned
widen(struct lost *lost)
{
    struct safemmap__mapping other;
    struct safemmap__range *range = &lost->range;
    unsigned count = 0;

    for (; safemmap__os_mapping_at(maps.fd, range->start - 1, &other, NULL) == 0 &&
           other.end == range->start && belongs(lost, &other);
         count++)
        range->start = other.start;
    for (; safemmap__os_mapping_at(maps.fd, range->end, &other, NULL) == 0 &&
           other.start == range->end && belongs(lost, &other);
         count++)
        range->end = other.end;
    return count;
}

/* Steps have left many mappings behind: makes one of all that is lost, or where that
 * is not known, of the steps beside the page. True: the range is that one. */
static bool
join(struct lost *lost, struct safemmap__steps *steps)
{
    const struct safemmap__range range = lost->range;
    unsigned count;

    if (!lost->known)
        lost->range = (struct safemmap__range){lost->page, lost->page};
    count = widen(lost);
    if (count >= SAFEMMAP__FEW &&
        safemmap__steps_join(steps, &lost->range, lost->mapping.protection, count) ==
            0) {
        remember(lost, &lost->range, steps->token);
        if (lost->known)
            return true;
    }
    lost->range = range;
    return false;
}

/* `*ret_done`: some page was replaced. Without that, the access faults again if the
 * page is still lost. */
static bool
replace_lost(struct lost *lost, bool *ret_done)
{
    const size_t page_size = lost->mapping.page_size;
    const struct safemmap__range one = {lost->page, lost->page + page_size};
    struct safemmap__steps *steps = steps_of(lost);
    struct safemmap__range step;
    bool joined;

    if (!lost->known && !safemmap__steps_adjoin(steps, lost->page, page_size) &&
        safemmap__single_is_too_many(&lost->file->singles))
        lost->known = true;
    step = safemmap__step(steps, lost->page, page_size, &lost->range, lost->known);
    if (!is_unchanged(lost))
        return true;
    joined = safemmap__steps_are_many(steps) && join(lost, steps);
    if (safemmap__os_set_mappings_aside() < 0) {
        /* The process can have no more mappings: a whole one takes none. */
        if (!joined)
            lost->range =
                (struct safemmap__range){lost->mapping.start, lost->mapping.end};
        step = lost->range;
    }
    if (!map_step(lost, steps, &step) && !map_step(lost, steps, &one) &&
        !map_step(lost, steps, &lost->range))
        return false;
    lost->event.token = steps->token;
    safemmap__count(&safemmap__counts.overlaid);
    *ret_done = true;
    return true;
}

/* ---- Answering --------------------------------------------------------- */

/* How often a thread may find the page present after a fault at one address. If the
 * access still faults then, the cause is not a lost page, and the fault is forwarded.
 */
enum { RETRIES_ALLOWED = 8 };

static bool
may_retry(uintptr_t address)
{
    unsigned times =
        safemmap__self.retried_at == address ? safemmap__self.retries + 1 : 0;

    safemmap__self.retried_at = address;
    safemmap__self.retries = times;
    return times < RETRIES_ALLOWED;
}

static enum safemmap__presence
presence(const struct lost *lost, const ucontext_t *context)
{
    if ((lost->mapping.protection & PROT_READ) == 0)
        return SAFEMMAP__UNCERTAIN;

    enum safemmap__access_kind kind = safemmap__access_of(context);
    bool store =
        kind == SAFEMMAP__STORE ||
        (kind == SAFEMMAP__UNKNOWN && (lost->mapping.protection & PROT_WRITE) != 0);

    return safemmap__os_presence(lost->page, lost->mapping.page_size, store);
}

static void
describe(struct lost *lost, const siginfo_t *info, const ucontext_t *context)
{
    struct safemmap_event *event = &lost->event;
    struct timespec time = {0, 0};

    clock_gettime(CLOCK_REALTIME, &time);
    event->fault.address = (uintptr_t)info->si_addr;
    event->fault.code = info->si_code;
    event->fault.thread = safemmap__os_thread();
    event->fault.time_ns = (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
    event->stack = context == NULL ? 0 : safemmap__stack_pointer(context);
    event->pthread = pthread_self();
    event->store = safemmap__access_of(context) == SAFEMMAP__STORE;
    event->file.offset = lost->offset + (event->fault.address - lost->page);
    event->file.size = lost->size;
    if (lost->file != NULL) {
        event->file.id = lost->file->id;
        event->file.deleted = lost->file->deleted;
    }
    if (!is_forgotten(lost)) {
        event->file.device = (uint64_t)lost->device;
        event->file.inode = lost->inode;
    }
}

/* Returns whether the fault is answered; `*ret_told`: and must be reported. */
static bool
answer(const siginfo_t *info, const ucontext_t *context, struct lost *lost,
       bool *ret_told)
{
    uintptr_t address = (uintptr_t)info->si_addr;
    struct safemmap__steps *steps;
    bool goes_on;

    if (!find(lost, address))
        return false;
    describe(lost, info, context);
    steps = steps_of(lost);
    goes_on = safemmap__steps_go_on(steps, lost->page, lost->mapping.page_size);
    /* (Past the end of the file it is not there.) */
    if ((!lost->known || lost->zeros) &&
        presence(lost, context) == SAFEMMAP__PRESENT) {
        /* Its own page has come back; or another thread has just replaced it. */
        lost->event.token = safemmap__zeros_newest();
        *ret_told = lost->zeros;
        return may_retry(address);
    }
    if (!replace_lost(lost, ret_told))
        return false;
    if (lost->zeros && *ret_told && presence(lost, context) == SAFEMMAP__LOST &&
        !safemmap__zeros_are_cut(lost->event.token))
        return false; /* there is no memory for the page */
    if (*ret_told && !goes_on)
        safemmap__event_push(&lost->event);
    return true;
}

static bool
is_of_memory(const siginfo_t *info)
{
    return info->si_code == BUS_ADRERR ||
           (safemmap__os_is_poison(info->si_code) && !safemmap__os_is_early(info));
}

bool
safemmap__process_overlay(const siginfo_t *info, const ucontext_t *context)
{
    const uint64_t no_region = 0;
    struct lost lost;
    bool done, told = false;
    sigset_t mask;

    if (!safemmap__process_overlay_begun() || !is_of_memory(info))
        return false;
    memset(&lost, 0, sizeof(lost));
    mask = safemmap__hold_pages();
    done = answer(info, context, &lost, &told);
    safemmap__release_pages(&mask);
    if (done && told)
        safemmap__event_announce(&lost.event, &no_region, 1, true);
    return done;
}

/* ---- Beginning and end ------------------------------------------------- */

int
safemmap__process_overlay_begin(struct safemmap__member *member)
{
    sigset_t mask = safemmap__hold_pages();
    struct safemmap__mapping mapping;
    int error = safemmap__mappings_open(&maps);

    if (error == 0)
        error = safemmap__os_mapping_at(maps.fd, (uintptr_t)&maps, &mapping, NULL);
    if (error == 0) {
        executables.size = safemmap__os_executable_size();
        find_executables();
        safemmap__want(member, SAFEMMAP__PROCESS);
        __atomic_store_n(&begun, 1, __ATOMIC_RELEASE);
    }
    safemmap__release_pages(&mask);
    return error;
}

void
safemmap__process_overlay_end(struct safemmap__member *member)
{
    sigset_t mask = safemmap__hold_pages();

    safemmap__want_no_more(member, SAFEMMAP__PROCESS);
    if (!safemmap__is_wanted(SAFEMMAP__PROCESS, NULL))
        __atomic_store_n(&begun, 0, __ATOMIC_RELEASE);
    safemmap__release_pages(&mask);
}

void
safemmap__process_overlay_after_fork(void)
{
    safemmap__mappings_close(&maps);
    if (safemmap__process_overlay_begun())
        safemmap__mappings_open(&maps);
}
