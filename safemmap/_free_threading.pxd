# What the GIL does elsewhere, for builds of the interpreter without one. Not installed.
from cpython.object cimport PyObject

cdef extern from "_free_threading.h":
    const bint SAFEMMAP_MAY_LACK_GIL
    # (Opaque, and of other types in C.)
    ctypedef struct safemmap_section:
        pass
    ctypedef struct safemmap_sections:
        pass
    void safemmap_enter(safemmap_section *section, PyObject *object) noexcept
    void safemmap_enter_outer(safemmap_sections *sections, PyObject *object) noexcept
    void safemmap_enter_inner(safemmap_sections *sections, PyObject *referent) noexcept
    void safemmap_leave_inner(safemmap_sections *sections) noexcept
    void safemmap_add(Py_ssize_t *count, Py_ssize_t change) noexcept nogil
    int safemmap_alone(int (*function)(void *) noexcept, void *argument)
