# The sequence protocol of the standard class, which differs from its mapping protocol:
# iteration gives bytes of length one, where `m[i]` is an int.

cdef object _item(object self, Py_ssize_t index):
    """PySequence_GetItem: gives bytes of length one, where `m[i]` is an int."""
    cdef safemmap_section section
    safemmap_enter(&section, <PyObject *>self)
    cdef mmap mapping = self

    mapping.check_data("iteration")
    if not 0 <= index < mapping.length:
        raise IndexError("mmap index out of range")
    return mapping.copy_out(index, 1, "iteration")


@cython.final
cdef class _Iterator:
    """iter(m): bytes of length one."""

    cdef mmap mapping           # None: it is exhausted (or never began)
    cdef Py_ssize_t index       # below 0: exhausted, while others may use `mapping`

    def __iter__(self):
        return self

    def __next__(self):
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self.mapping)
        cdef unsigned char byte
        cdef safemmap_fault fault
        cdef Py_ssize_t index
        cdef mmap mapping
        cdef int error

        while True:
            if self.exhausted():
                raise StopIteration
            self.mapping.check_data("iteration")
            index = safemmap_get(&self.index)
            if index >= self.mapping.length:
                self.exhaust()
                raise StopIteration
            error = self.mapping.operations.load(
                self.mapping.data + index, &byte, &fault
            )
            if error != 0 or self.mapping.poisoned():
                # (Counts a reference, which costs too much for each byte: what this may
                # call can exhaust this very iterator.)
                mapping = self.mapping
                index = safemmap_got(&self.index, index)
                mapping.fail(error, &fault, "iteration", index, index + 1)
            if safemmap_advance(&self.index, index):
                return <object>_BYTES[byte]

    cdef inline bint exhausted(self) noexcept:
        return self.mapping is None or (
            SAFEMMAP_MAY_LACK_GIL and safemmap_get(&self.index) < 0
        )

    cdef inline void exhaust(self) noexcept:
        if SAFEMMAP_MAY_LACK_GIL:
            safemmap_set(&self.index, -1)
        else:
            self.mapping = None

    def __length_hint__(self):
        return 0 if self.exhausted() else max(
            0, len(self.mapping) - safemmap_get(&self.index)
        )

    def __reduce__(self):
        if self.exhausted():
            return iter, ((),)
        return iter, (self.mapping,), safemmap_get(&self.index)

    def __setstate__(self, index):
        if not self.exhausted():
            safemmap_set(&self.index, max(0, index))


cdef object _iterate(object self):
    """iter(m)"""
    cdef _Iterator iterator = _Iterator.__new__(_Iterator)

    iterator.mapping = self
    return iterator


cdef int _contains(object self, object value) except -1:
    """value in m"""
    # What iteration yields equals nothing but such bytes, or what says so itself.
    cdef Py_ssize_t found

    if not PyBytes_CheckExact(value) or PyBytes_GET_SIZE(value) != 1:
        return PySequence_Contains(_iterate(self), value)
    if SAFEMMAP_MAY_LACK_GIL and (<mmap>self).find_pinned(
        value, 0, PY_SSIZE_T_MAX, False, "in", &found
    ):
        return found >= 0
    return _has_byte(self, value)


cdef inline int _has_byte(mmap mapping, object value) except -1:
    cdef safemmap_section section
    safemmap_enter(&section, <PyObject *>mapping)
    cdef Py_buffer pattern

    mapping.check_data("in")
    PyObject_GetBuffer(value, &pattern, PyBUF_SIMPLE)
    try:
        return mapping.search_range(&pattern, 0, mapping.length, False, "in") >= 0
    finally:
        PyBuffer_Release(&pattern)


cdef int _set_item(object self, Py_ssize_t index, PyObject *value) except -1:
    """PySequence_SetItem: takes bytes of length one."""
    cdef safemmap_section section
    safemmap_enter(&section, <PyObject *>self)
    cdef mmap mapping = self
    cdef object byte

    mapping.check_data("m[i] = byte")
    if not 0 <= index < mapping.length:
        raise IndexError("mmap index out of range")
    if value == NULL:
        raise TypeError("mmap object doesn't support item deletion")
    byte = <object>value
    if not PyBytes_Check(byte) or PyBytes_GET_SIZE(byte) != 1:
        raise IndexError("mmap assignment must be length-1 bytes()")
    mapping.check_writable()
    return mapping.store(index, PyBytes_AS_STRING(byte)[0], "m[i] = byte")
