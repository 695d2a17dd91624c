# Short reads without a lock, where there is no GIL. Not installed.
from cpython.object cimport PyObject

cdef extern from "_pin.h":
    # (Opaque, and of another type in C.)
    ctypedef struct safemmap_change:
        pass
    bint safemmap_pin(PyObject *mapping, const int *changes) noexcept
    void safemmap_unpin() noexcept
    void safemmap_begin(safemmap_change *change, PyObject *mapping,
                        int *changes) noexcept
