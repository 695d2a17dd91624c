# What the GIL does elsewhere, for builds of the interpreter without one. Not installed.
from cpython.object cimport PyObject

cdef extern from "_free_threading.h":
    const bint SAFEMMAP_MAY_LACK_GIL
    # (Opaque, and of another type in C.)
    ctypedef struct safemmap_section:
        pass
    void safemmap_enter(safemmap_section *section, PyObject *object) noexcept
    void safemmap_add(Py_ssize_t *count, Py_ssize_t change) noexcept nogil
    Py_ssize_t safemmap_get(const Py_ssize_t *number) noexcept
    Py_ssize_t safemmap_got(const Py_ssize_t *number, Py_ssize_t value) noexcept
    void safemmap_set(Py_ssize_t *number, Py_ssize_t value) noexcept
    char *safemmap_get_pointer "safemmap_get" (char *const *pointer) noexcept
    void safemmap_set_pointer "safemmap_set" (char **pointer, char *value) noexcept
    bint safemmap_get_flag "safemmap_get" (const bint *flag) noexcept
    void safemmap_set_flag "safemmap_set" (bint *flag, bint value) noexcept
    bint safemmap_advance(Py_ssize_t *index, Py_ssize_t at) noexcept
    int safemmap_alone(int (*function)(void *) noexcept, void *argument)
