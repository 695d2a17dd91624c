/* Runs outside the signal, while libraries are loaded: has all copies of this library
 * in a process share one handler and one registry.
 *
 * The copy that is loaded first is the host. One that comes later, and has the same
 * layout, becomes its guest: its public functions hand everything to the host, so
 * that no two handlers climb over each other, and memory that two copies watch is
 * poisoned for both. Each has a mailbox of its own, so that every copy is told of all
 * events; and what one wants of the host, no other ends.
 *
 * A handler must not be unloaded, and guests call their host: so a copy stays loaded,
 * with the library that it is linked into. A copy of another layout is a host of its
 * own; install.c sees to it that hosts do not climb over each other.
 */
#include "copies.h"
#include "process_overlay.h"

static const struct safemmap__service service = {
    .size = sizeof(service),
    .operations = &safemmap_guarded,
    .member_add = safemmap__member_add,
    .install = safemmap__install,
    .uninstall = safemmap__uninstall,
    .checks_start = safemmap__checks_start,
    .checks_stop = safemmap__checks_stop,
    .get_actions = safemmap_get_actions,
    .get_counts = safemmap_get_counts,
    .guard_arm = safemmap_guard_arm,
    .guard_end = safemmap_guard_end,
    .guard_caught = safemmap_guard_caught,
    .region_add = safemmap_region_add,
    .region_update = safemmap_region_update,
    .region_remove = safemmap_region_remove,
    .process_enable = safemmap__process_enable,
    .process_disable = safemmap__process_overlay_end,
    .process_enabled = safemmap_process_enabled,
    .file_path = safemmap_file_path,
    .withdraw = safemmap_withdraw,
    .region_renew = safemmap_region_renew,
};

/* safemmap__copy_visitor: finds a host that can serve this copy. */
static void
find_host(const struct safemmap__copy *copy, void *ret_host)
{
    const struct safemmap__copy **host = ret_host;

    if (*host == NULL && copy != &safemmap__copy &&
        __atomic_load_n(&copy->host, __ATOMIC_ACQUIRE) == copy &&
        copy->layout == SAFEMMAP__LAYOUT && copy->service->size >= sizeof(service))
        *host = copy;
}

/* The linker's lock is held here, so that copies that are loaded at once come one by
 * one. (musl's is not: two may both become hosts.) */
SAFEMMAP__CONSTRUCTOR static void
join(void)
{
    const struct safemmap__copy *host = NULL;

    safemmap__os_stay_loaded();
    safemmap__os_copies_visit(find_host, &host);
    if (host != NULL) {
        host->service->member_add(&safemmap__own);
        safemmap__check_below = SAFEMMAP__CHECK_ALWAYS;
        safemmap__host = host->service;
    } else
        host = &safemmap__copy;
    safemmap__copy.entries = safemmap__entries;
    safemmap__copy.entry_count = SAFEMMAP__ENTRIES;
    safemmap__copy.below = safemmap__action_below;
    safemmap__copy.layout = SAFEMMAP__LAYOUT;
    safemmap__copy.service = &service;
    __atomic_store_n(&safemmap__copy.host, host, __ATOMIC_RELEASE);
}
