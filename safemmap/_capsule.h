/* The capsule for extension modules, and what Cython gives it. */
#ifndef SAFEMMAP_CAPSULE_H
#define SAFEMMAP_CAPSULE_H

#include <Python.h>

#include "safemmap.h"

struct safemmap_own_functions {
    /* safemmap_install(), unless the user forbids it. Called without the GIL. */
    int (*install)(void);
    /* Raises BusError, and returns NULL. */
    PyObject *(*raise)(const struct safemmap_fault *fault, const volatile void *start,
                       size_t size, const char *operation, int poisoned);
};

/* A new reference, or NULL with an exception set. */
PyObject *safemmap_capsule_new(const struct safemmap_own_functions *functions);

#endif
