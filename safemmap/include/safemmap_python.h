/* safemmap_python.h: safemmap.h for extension modules of Python.
 *
 * The functions are those of the compiled module that the process has loaded, so that
 * all extensions share its handler and its registry; nothing is linked. Compile with
 * safemmap.get_include() among the include directories; in the module's
 * initialization call safemmap_import(), once for all its files:
 *
 *     if (safemmap_import() < 0)
 *         return NULL;
 *
 * From then on the functions listed at the end of this file work under their own
 * names, with and without the GIL, as safemmap.h has them. What is left out belongs
 * to the module: the queue of events (safemmap.faults() has those of all regions,
 * with the region's name), its hooks (a region has its own), withdrawable regions
 * (safemmap_region_add() refuses them with -EINVAL), uninstalling (safemmap.handler),
 * and the protection of the whole process (safemmap.enable()).
 *
 * Where SAFEMMAP_HANDLER=0 or safemmap.handler.uninstall() forbids the signal
 * handler, safemmap_install() and safemmap_region_add() fail with -EPERM, the
 * operations go through system calls, and guarded code does not run: SAFEMMAP_CATCH
 * gets a fault of code 0.
 */
#ifndef SAFEMMAP_PYTHON_H
#define SAFEMMAP_PYTHON_H

#include <Python.h>

#ifndef SAFEMMAP__PROVIDER /* the module itself */
#define SAFEMMAP_API static inline
#define SAFEMMAP_DATA
#define SAFEMMAP_OWNER __attribute__((error("is for the safemmap module itself")))
#endif
#include "safemmap.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Raise BusError for a fault. `fault` is what an operation, or SAFEMMAP_CATCH, has
 * filled in, of an access to the `size` bytes from `start` on; `operation` says what
 * the program did (UTF-8). A fault of code 0 raises RuntimeError, since nothing
 * faulted. The second is for a region that is poisoned, and the error has its name.
 * Both need the GIL, and return NULL. */
SAFEMMAP_API PyObject *safemmap_raise(const struct safemmap_fault *fault,
                                      const volatile void *start, size_t size,
                                      const char *operation);
SAFEMMAP_API PyObject *safemmap_raise_region(const struct safemmap_region *region,
                                             const char *operation);

/* ---- The table ---------------------------------------------------------- */

/* F: type, name, parameters, arguments. V: the same for functions that return
 * nothing. Lines are added at the end, and never changed. */
#define SAFEMMAP__FUNCTIONS(F, V)                                                   \
    F(int, safemmap_install, (void), ())                                            \
    F(size_t, safemmap_get_actions,                                                 \
      (struct safemmap_action * ret_actions, size_t room), (ret_actions, room))     \
    V(safemmap_get_counts, (struct safemmap_counts * ret_counts), (ret_counts))     \
    F(int, safemmap_copy,                                                           \
      (void *target, const void *source, size_t size,                               \
       struct safemmap_fault *ret_fault),                                           \
      (target, source, size, ret_fault))                                            \
    F(int, safemmap_load,                                                           \
      (const void *source, unsigned char *ret_byte,                                 \
       struct safemmap_fault *ret_fault),                                           \
      (source, ret_byte, ret_fault))                                                \
    F(int, safemmap_store,                                                          \
      (void *target, unsigned char byte, struct safemmap_fault *ret_fault),         \
      (target, byte, ret_fault))                                                    \
    F(int, safemmap_gather,                                                         \
      (void *target, const void *source, ptrdiff_t step, size_t count,              \
       struct safemmap_fault *ret_fault),                                           \
      (target, source, step, count, ret_fault))                                     \
    F(int, safemmap_scatter,                                                        \
      (void *target, ptrdiff_t step, const void *source, size_t count,              \
       struct safemmap_fault *ret_fault),                                           \
      (target, step, source, count, ret_fault))                                     \
    F(int, safemmap_compare,                                                        \
      (const void *left, const void *right, size_t size, int *ret_order,            \
       struct safemmap_fault *ret_fault),                                           \
      (left, right, size, ret_order, ret_fault))                                    \
    F(int, safemmap_find,                                                           \
      (const void *text, size_t size, const void *pattern, size_t pattern_size,     \
       ptrdiff_t *ret_index, struct safemmap_fault *ret_fault),                     \
      (text, size, pattern, pattern_size, ret_index, ret_fault))                    \
    F(int, safemmap_rfind,                                                          \
      (const void *text, size_t size, const void *pattern, size_t pattern_size,     \
       ptrdiff_t *ret_index, struct safemmap_fault *ret_fault),                     \
      (text, size, pattern, pattern_size, ret_index, ret_fault))                    \
    V(safemmap_guard_arm,                                                           \
      (struct safemmap_guard * guard, const volatile void *start, size_t size),     \
      (guard, start, size))                                                         \
    V(safemmap_guard_end, (struct safemmap_guard * guard), (guard))                 \
    F(struct safemmap_fault, safemmap_guard_caught, (void), ())                     \
    F(int, safemmap_region_add, (struct safemmap_region * region), (region))        \
    F(int, safemmap_region_update,                                                  \
      (struct safemmap_region * region, uintptr_t start, uintptr_t end),            \
      (region, start, end))                                                         \
    F(int, safemmap_region_remove, (struct safemmap_region * region), (region))     \
    F(bool, safemmap_region_poisoned, (const struct safemmap_region *region),       \
      (region))                                                                     \
    F(PyObject *, safemmap_raise,                                                   \
      (const struct safemmap_fault *fault, const volatile void *start, size_t size, \
       const char *operation),                                                      \
      (fault, start, size, operation))                                              \
    F(PyObject *, safemmap_raise_region,                                            \
      (const struct safemmap_region *region, const char *operation),                \
      (region, operation))

#define SAFEMMAP__FIELD(type, name, parameters, arguments) type(*name) parameters;
#define SAFEMMAP__VOID_FIELD(name, parameters, arguments) void(*name) parameters;

/* Changes with the layout of a struct in safemmap.h. */
#define SAFEMMAP__TABLE_VERSION 1

struct safemmap__table {
    uint32_t version;
    uint32_t size; /* in bytes: how much of it this library has */
    const char *release;
    const struct safemmap_operations *guarded, *kernel, *plain;
    SAFEMMAP__FUNCTIONS(SAFEMMAP__FIELD, SAFEMMAP__VOID_FIELD)
};

#define SAFEMMAP__CAPSULE "safemmap._core._C_API"

#ifndef SAFEMMAP__PROVIDER

/* One for all files of an extension, and for no other. */
__attribute__((weak, visibility("hidden")))
const struct safemmap__table *safemmap__table;

#define safemmap_guarded (*safemmap__table->guarded)
#define safemmap_kernel (*safemmap__table->kernel)
#define safemmap_plain (*safemmap__table->plain)

/* Imports safemmap: 0, or -1 with an exception set. ImportError: it is not installed,
 * or older than the one this file belongs to. */
static inline int
safemmap_import(void)
{
    const struct safemmap__table *table =
        (const struct safemmap__table *)PyCapsule_Import(SAFEMMAP__CAPSULE, 0);

    if (table == NULL && PyErr_ExceptionMatches(PyExc_AttributeError))
        PyErr_SetString(PyExc_ImportError,
                        "the installed safemmap is too old: it has no C API");
    if (table == NULL)
        return -1;
    if (table->version != SAFEMMAP__TABLE_VERSION || table->size < sizeof(*table)) {
        PyErr_Format(
            PyExc_ImportError,
            "this module was compiled with the headers of safemmap " SAFEMMAP_RELEASE
            ", and the installed one is %s: install the "
            "former, or compile the module anew",
            table->release);
        return -1;
    }
    safemmap__table = table;
    return 0;
}

#define SAFEMMAP__DEFINE(type, name, parameters, arguments) \
    static inline type name parameters                      \
    {                                                       \
        return safemmap__table->name arguments;             \
    }
#define SAFEMMAP__DEFINE_VOID(name, parameters, arguments) \
    static inline void name parameters                     \
    {                                                      \
        safemmap__table->name arguments;                   \
    }
SAFEMMAP__FUNCTIONS(SAFEMMAP__DEFINE, SAFEMMAP__DEFINE_VOID)

#endif

#ifdef __cplusplus
}
#endif

#endif
