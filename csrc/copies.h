/* What several copies of this library in one process know of each other: the Python
 * module and a C library, say, or two plugins that link it statically. Not installed.
 */
#ifndef SAFEMMAP_COPIES_H
#define SAFEMMAP_COPIES_H

#include "internal.h"

#pragma GCC visibility push(hidden)

/* Changes with anything that a guest hands its host: the structs of safemmap.h and
 * those below. */
#ifndef SAFEMMAP__LAYOUT
#define SAFEMMAP__LAYOUT 2
#endif

/* What a host does for its guests: the public functions that share state. Only grows.
 */
struct safemmap__service {
    size_t size;
    const struct safemmap_operations *operations;
    void (*member_add)(struct safemmap__member *member);
    int (*install)(struct safemmap__member *member);
    int (*uninstall)(struct safemmap__member *member);
    int (*checks_start)(struct safemmap__member *member);
    void (*checks_stop)(struct safemmap__member *member);
    size_t (*get_actions)(struct safemmap_action *ret_actions, size_t room);
    void (*get_counts)(struct safemmap_counts *ret_counts);
    void (*guard_arm)(struct safemmap_guard *guard, const volatile void *start,
                      size_t size);
    void (*guard_end)(struct safemmap_guard *guard);
    struct safemmap_fault (*guard_caught)(void);
    int (*region_add)(struct safemmap_region *region);
    int (*region_update)(struct safemmap_region *region, uintptr_t start,
                         uintptr_t end);
    int (*region_remove)(struct safemmap_region *region);
    int (*process_enable)(struct safemmap__member *member);
    void (*process_disable)(struct safemmap__member *member);
    bool (*process_enabled)(void);
    ssize_t (*file_path)(uint32_t id, char *ret_path, size_t room);
    int (*withdraw)(uint64_t token);
    int (*region_renew)(struct safemmap_region *region, int flags);
};

/* What it does for a member. */
int safemmap__install(struct safemmap__member *member);
int safemmap__uninstall(struct safemmap__member *member);
int safemmap__checks_start(struct safemmap__member *member);
void safemmap__checks_stop(struct safemmap__member *member);
int safemmap__process_enable(struct safemmap__member *member);

/* A copy, as the others find it (os.h). The first four fields stay as they are in all
 * versions. */
struct safemmap__copy {
    /* Its handler's entry points. */
    safemmap__entry *const *entries;
    size_t entry_count;
    /* The function to which one of them forwards first; 0: the default action. */
    uintptr_t (*below)(size_t entry);
    /* Set last. Below this line copies of one layout understand each other. */
    unsigned layout;
    /* Itself; of a guest its host; NULL before its constructor has run. */
    const struct safemmap__copy *host;
    const struct safemmap__service *service;
};
extern struct safemmap__copy safemmap__copy;

#pragma GCC visibility pop

#endif
