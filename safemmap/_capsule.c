/* The capsule that safemmap_python.h imports, and its table of functions. */
#include "_capsule.h"

#define SAFEMMAP__PROVIDER
#include "safemmap_python.h"

#include <errno.h>

static struct safemmap_own_functions own;
static struct safemmap__table table = {
    SAFEMMAP__TABLE_VERSION, sizeof(table),    SAFEMMAP_RELEASE,
    &safemmap_guarded,       &safemmap_kernel, &safemmap_plain,
};

PyObject *
safemmap_raise(const struct safemmap_fault *fault, const volatile void *start,
               size_t size, const char *operation)
{
    return own.raise(fault, start, size, operation, NULL);
}

PyObject *
safemmap_raise_region(const struct safemmap_region *region, const char *operation)
{
    const struct safemmap_fault fault = {region->fault.address, region->fault.code};
    /* The region may have been updated since. */
    const uintptr_t start = region->fault.address - region->fault_offset;

    return own.raise(&fault, (const void *)start, region->end - region->start,
                     operation, region->name);
}

static int
install(void)
{
    return own.handler_is_allowed() ? safemmap_install() : -EPERM;
}

/* Who has a withdrawable region is told of each fault by the module's own hook, which
 * knows the module's regions alone. */
static int
add_region(struct safemmap_region *region)
{
    if (!own.handler_is_allowed())
        return -EPERM;
    return region->withdrawable ? -EINVAL : safemmap_region_add(region);
}

PyObject *
safemmap_capsule_new(const struct safemmap_own_functions *functions)
{
#define ENTER(type, name, parameters, arguments) table.name = name;
#define ENTER_VOID(name, parameters, arguments) table.name = name;
    SAFEMMAP__FUNCTIONS(ENTER, ENTER_VOID)
    own = *functions;
    table.safemmap_install = install;
    table.safemmap_region_add = add_region;
    return PyCapsule_New(&table, SAFEMMAP__CAPSULE, NULL);
}
