/* The capsule for extension modules, and what Cython gives it. */
#ifndef SAFEMMAP_CAPSULE_H
#define SAFEMMAP_CAPSULE_H

#include <Python.h>

#include "safemmap.h"

struct safemmap_own_functions {
    /* Whether the user allows the signal handler. Called without the GIL. */
    int (*handler_is_allowed)(void);
    /* Raises BusError, and returns NULL. `region`: the name of the one that is
     * poisoned; NULL: `operation` has faulted. */
    PyObject *(*raise)(const struct safemmap_fault *fault, const volatile void *start,
                       size_t size, const char *operation, const char *region);
};

/* A new reference, or NULL with an exception set. */
PyObject *safemmap_capsule_new(const struct safemmap_own_functions *functions);

#endif
