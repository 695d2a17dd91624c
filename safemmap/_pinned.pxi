# Short reads by several threads at once, where there is no GIL: they pin the mapping
# (_pin.h). What is out of the ordinary they leave to the method itself, which takes a
# section.

cdef bint _search(mmap mapping, object sub, object start, object end, bint backward,
                  str operation, Py_ssize_t *ret_found) except -1:
    cdef Py_ssize_t low = safemmap_get(&mapping.pos), high = PY_SSIZE_T_MAX

    return (
        (start is None or safemmap_small_int(<PyObject *>start, &low))
        and (end is None or safemmap_small_int(<PyObject *>end, &high))
        and mapping.find_pinned(sub, low, high, backward, operation, ret_found)
    )


# ---- In the place of methods ---------------------------------------------

ctypedef object (*_binary_function)(object, object)
ctypedef PyObject *(*_next_function)(PyObject *) noexcept

cdef _binary_function _subscript_in_section
cdef _next_function _next_in_section


cdef object _subscript(mmap self, object item):
    """m[i], m[i:j]"""
    cdef Py_ssize_t index, start, stop, size, length
    cdef unsigned char byte
    cdef bytes copied

    if safemmap_small_int(<PyObject *>item, &index):
        if self.load_pinned(index, &byte, "m[i]"):
            return <object>_INTS[byte]
    elif PySlice_Check(item) and _unpack_plain_slice(item, &start, &stop):
        length = safemmap_get(&self.length)
        size = PySlice_AdjustIndices(length, &start, &stop, 1)
        if size == 1:
            if self.copy_pinned(&byte, start, 1, length, "m[i:j]"):
                return <object>_BYTES[byte]
        elif 0 < size < <Py_ssize_t>SAFEMMAP_BULK:
            copied = PyBytes_FromStringAndSize(NULL, size)
            if self.copy_pinned(
                PyBytes_AS_STRING(copied), start, size, length, "m[i:j]"
            ):
                return copied
    return _subscript_in_section(self, item)


cdef PyObject *_next(_Iterator self) except NULL:
    """next(iter(m))"""
    cdef Py_ssize_t index = safemmap_get(&self.index)
    cdef unsigned char byte

    if (
        self.mapping is not None and index >= 0
        and self.mapping.load_pinned(index, &byte, "iteration")
        and safemmap_advance(&self.index, index)
    ):
        Py_INCREF(<object>_BYTES[byte])
        return _BYTES[byte]
    return _next_in_section(<PyObject *>self)


cdef int _pin_where_there_is_no_gil() except -1:
    global _subscript_in_section, _next_in_section
    cdef TypeObject *mapping_type = <TypeObject *>mmap
    cdef TypeObject *iterator_type = <TypeObject *>_Iterator
    cdef object descriptor

    if SAFEMMAP_MAY_LACK_GIL:
        _subscript_in_section = mapping_type.tp_as_mapping.mp_subscript
        mapping_type.tp_as_mapping.mp_subscript = <_binary_function>_subscript
        # That of subclasses, and of who calls it by name.
        descriptor = (<dict>mapping_type.tp_dict)["__getitem__"]
        (<PyWrapperDescrObject *>descriptor).d_wrapped = <void *>_subscript
        _next_in_section = iterator_type.tp_iternext
        iterator_type.tp_iternext = <_next_function>_next
    return 0


_pin_where_there_is_no_gil()
