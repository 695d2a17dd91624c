/* Runs inside the signal, but for what process.c and fork.c call: answers faults in
 * memory that nobody has registered.
 *
 * 1. It is asked last, when the signal would be forwarded, and only answers for
 *    ordinary mappings of regular files, to which an access would fault again.
 * 2. What it must not touch: executable pages, and files that are mapped executable
 *    as well (the code and data of libraries; a compiler's second mapping of what it
 *    writes), devices, the kernel's own files, buffers that the kernel shares.
 * 3. Other threads map and unmap meanwhile. A thread that accesses memory keeps it
 *    mapped, if the program is correct; that the mapping is still the one that was
 *    asked for is asked once more right before it is replaced.
 */
#include "unregistered.h"
#include "files.h"
#include "pages.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* So many pages of a file are replaced one by one; with the next go those around it,
 * as far as the mapping reaches, or a peer could exhaust vm.max_map_count. */
enum { SINGLES_ALLOWED = 256 };

static int begun;

bool
safemmap__unregistered_begun(void)
{
    return __atomic_load_n(&begun, __ATOMIC_ACQUIRE) != 0;
}

/* ---- The list of mappings ---------------------------------------------- */

/* Guarded by safemmap__pages. */
static struct {
    int fd;
    pid_t owner;
    dev_t device;
    ino_t inode;
} maps = {.fd = -1};

/* The program may have closed it, and opened another file under the number. */
static bool
maps_are_there(void)
{
    struct stat status;

    return maps.fd >= 0 && fstat(maps.fd, &status) == 0 &&
           status.st_dev == maps.device && status.st_ino == maps.inode;
}

static int
open_maps(void)
{
    struct stat status;

    if (maps_are_there()) {
        if (maps.owner == getpid())
            return 0;
        safemmap__os_close(maps.fd);
    }
    maps.fd = safemmap__os_maps_open();
    if (maps.fd < 0)
        return maps.fd;
    if (fstat(maps.fd, &status) < 0)
        return -errno;
    maps.owner = getpid();
    maps.device = status.st_dev;
    maps.inode = status.st_ino;
    return 0;
}

/* ---- Files that are mapped executable ---------------------------------- */

/* To find them all takes as long as there are mappings. What has been found holds
 * while as much as before is executable, which takes some microseconds to ask. That a
 * file is not among them is taken for granted for a moment. Guarded by
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

    executables.count = 0;
    while (executables.count < EXECUTABLES &&
           safemmap__os_next_executable(maps.fd, mapping.end, &mapping) == 0) {
        if (is_known_executable(mapping.device, mapping.inode))
            continue;
        executables.file[executables.count].device = mapping.device;
        executables.file[executables.count++].inode = mapping.inode;
    }
}

/* (Where there are more than can be remembered, none counts as harmless.) */
static bool
is_mapped_executable(struct safemmap__file *file)
{
    int64_t time = now();
    uint64_t size;

    if (file->harmless_at != 0 && time - file->harmless_at < MOMENT_NS)
        return false;
    size = safemmap__os_executable_size();
    if (size == 0 || size != executables.size) {
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
    struct safemmap__mapping mapping; /* what is there now, */
    struct safemmap__file *file; /* and the file whose pages were there; or NULL */
    uintptr_t page;
    uint64_t offset;              /* of the page, in that */
    struct safemmap__range range; /* what may be replaced */
    bool known;                   /* that all of the range is lost */
    bool zeros;                   /* ours are mapped there */
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

/* Takes note of what the name tells: which file it is, and how long it is now. False:
 * it is no regular one. */
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

/* All that is mapped there, if the page is. */
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

/* Zeros that are there already, or were until they were withdrawn, of one of our
 * files or a parent's. */
static bool
find_origin(struct lost *lost)
{
    struct safemmap__mapping *mapping = &lost->mapping;
    uint64_t place = mapping->offset + (lost->page - mapping->start);
    struct safemmap__origin origin;

    if (safemmap__origin_of(mapping->inode, place, &origin)) {
        lost->file = safemmap__file_by_id(origin.file);
        lost->offset = origin.offset + (place - origin.token);
        lost->event.file.device = origin.device;
        lost->event.file.inode = origin.inode;
    } else if (mapping->inode != safemmap__zeros_inode())
        return false;
    lost->size = lost->file != NULL ? size_of(lost->file) : -1;
    lost->known = lost->zeros = true;
    lost->range = (struct safemmap__range){mapping->start, mapping->end};
    return true;
}

static bool
find(struct lost *lost, uintptr_t address)
{
    struct safemmap__mapping *mapping = &lost->mapping;

    if (open_maps() < 0 ||
        safemmap__os_mapping_at(maps.fd, address, mapping, path) < 0 ||
        mapping->inode == 0 || (mapping->protection & PROT_EXEC) != 0)
        return false;
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

/* For mappings of which nobody knows any more whose they were. */
static struct safemmap__steps steps_of_nobody;

static void
remember(const struct lost *lost, const struct safemmap__range *range, uint64_t token)
{
    struct safemmap__origin origin = {.zeros = safemmap__zeros_inode(),
                                      .token = token,
                                      .size = range->end - range->start,
                                      .device = (dev_t)lost->event.file.device,
                                      .inode = (ino_t)lost->event.file.inode};

    if (origin.inode == 0)
        return;
    origin.file = lost->event.file.id;
    origin.offset = lost->offset + (range->start - lost->page);
    safemmap__origin_add(&origin);
}

static bool
lay(const struct lost *lost, struct safemmap__steps *steps,
    const struct safemmap__range *step)
{
    if (safemmap__step_lay(steps, step, lost->mapping.protection) < 0)
        return false;
    remember(lost, step, steps->token);
    return true;
}

/* Whether the neighbour of what is in the range is of the same mapping as it was
 * made, and lost as well. */
static bool
belongs(const struct lost *lost, const struct safemmap__mapping *other)
{
    uint64_t offset = lost->offset + (other->start - lost->page);
    struct safemmap__origin origin;

    if (other->protection != lost->mapping.protection)
        return false;
    if (safemmap__origin_of(other->inode, other->offset, &origin))
        return origin.file == lost->file->id &&
               origin.offset + (other->offset - origin.token) == offset;
    return other->inode == lost->file->inode && other->device == lost->file->device &&
           other->offset == offset &&
           (lost->file->singles > SINGLES_ALLOWED ||
            (lost->size >= 0 && offset >= end_of_file(lost)));
}

/* As far as one mapping was made, steps have left many. */
static void
widen(struct lost *lost)
{
    struct safemmap__mapping other;
    struct safemmap__range *range = &lost->range;

    while (safemmap__os_mapping_at(maps.fd, range->start - 1, &other, NULL) == 0 &&
           other.end == range->start && belongs(lost, &other))
        range->start = other.start;
    while (safemmap__os_mapping_at(maps.fd, range->end, &other, NULL) == 0 &&
           other.start == range->end && belongs(lost, &other))
        range->end = other.end;
}

static bool
replace(struct lost *lost)
{
    const size_t page_size = lost->mapping.page_size;
    const struct safemmap__range one = {lost->page, lost->page + page_size};
    struct safemmap__steps *steps =
        lost->file != NULL ? &lost->file->steps : &steps_of_nobody;
    struct safemmap__range step;

    if (!lost->known && lost->file != NULL &&
        !safemmap__steps_go_on(steps, lost->page, page_size) &&
        lost->file->singles++ >= SINGLES_ALLOWED)
        lost->known = true;
    step = safemmap__step(steps, lost->page, page_size, &lost->range, lost->known);
    if (!is_unchanged(lost))
        return true; /* it will fault again, if need be */
    if (lost->known && lost->file != NULL && safemmap__steps_are_many(steps)) {
        widen(lost);
        if (safemmap__steps_join(steps, &lost->range, lost->mapping.protection) == 0)
            remember(lost, &lost->range, steps->token);
    }
    if (!lay(lost, steps, &step) && !lay(lost, steps, &one) &&
        !(lost->known && lay(lost, steps, &lost->range)))
        return false;
    lost->event.token = steps->token;
    safemmap__count(&safemmap__counts.overlaid);
    return true;
}

/* ---- Answering --------------------------------------------------------- */

/* The thread has found its page there, so often at the same address. An access that
 * faults all the same is not ours to mend. */
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
    event->pthread = pthread_self();
    event->store = safemmap__access_of(context) == SAFEMMAP__STORE;
    event->file.offset = lost->offset + (event->fault.address - lost->page);
    event->file.size = lost->size;
    if (lost->file != NULL) {
        event->file.id = lost->file->id;
        event->file.deleted = lost->file->deleted;
        event->file.device = lost->file->device;
        event->file.inode = lost->file->inode;
    }
}

/* Returns whether it is answered; `*ret_told`: and must be reported. */
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
    steps = lost->file != NULL ? &lost->file->steps : &steps_of_nobody;
    goes_on = safemmap__steps_go_on(steps, lost->page, lost->mapping.page_size);
    if (presence(lost, context) == SAFEMMAP__PRESENT) {
        /* Its own page has come back; or another thread has just replaced it. */
        lost->event.token = safemmap__zeros_newest();
        *ret_told = lost->zeros;
        return may_retry(address);
    }
    if (!replace(lost))
        return false;
    *ret_told = lost->event.token != 0;
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
safemmap__overlay_unregistered(const siginfo_t *info, const ucontext_t *context)
{
    struct lost lost;
    bool done, told = false;
    sigset_t mask;

    if (!safemmap__unregistered_begun() || !is_of_memory(info))
        return false;
    memset(&lost, 0, sizeof(lost));
    mask = safemmap__hold_pages();
    done = answer(info, context, &lost, &told);
    safemmap__release_pages(&mask);
    if (done && told) {
        safemmap__event_announce();
        safemmap__event_report(&lost.event);
    }
    return done;
}

bool
safemmap__overlay_unregistered_echoed(uintptr_t address)
{
    siginfo_t info;

    if (safemmap__os_is_readable(address))
        return false;
    memset(&info, 0, sizeof(info));
    info.si_signo = SIGBUS;
    info.si_code = BUS_ADRERR;
    info.si_addr = (void *)address;
    return safemmap__overlay_unregistered(&info, NULL);
}

/* ---- Beginning and end ------------------------------------------------- */

int
safemmap__unregistered_begin(void)
{
    sigset_t mask = safemmap__hold_pages();
    struct safemmap__mapping mapping;
    int error = open_maps();

    if (error == 0)
        error = safemmap__os_mapping_at(maps.fd, (uintptr_t)&maps, &mapping, NULL);
    if (error == 0) {
        executables.size = safemmap__os_executable_size();
        find_executables();
        __atomic_store_n(&begun, 1, __ATOMIC_RELEASE);
    }
    safemmap__release_pages(&mask);
    return error;
}

void
safemmap__unregistered_end(void)
{
    __atomic_store_n(&begun, 0, __ATOMIC_RELEASE);
}

void
safemmap__unregistered_after_fork(void)
{
    if (maps_are_there())
        safemmap__os_close(maps.fd);
    maps.fd = -1;
    if (safemmap__unregistered_begun())
        open_maps();
}
