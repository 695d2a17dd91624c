# What Cython has no syntax for in the class: its name, the sequence protocol, and
# attributes in whose place a subclass can have its own.

@cython.final
cdef class _Attribute:
    """A property that is no data descriptor: one of the same name in the `__dict__` of
    an instance comes first."""

    cdef object property

    def __get__(self, instance, owner):
        return self.property.__get__(instance, owner)


cdef int _finish_type() except -1:
    cdef TypeObject *mapping_type = <TypeObject *>mmap

    mapping_type.tp_name = "safemmap.mmap"
    mapping_type.tp_iter = _iterate
    mapping_type.tp_as_sequence.sq_contains = _contains
    mapping_type.tp_as_sequence.sq_item = _item
    mapping_type.tp_as_sequence.sq_ass_item = _set_item
    (<dict>mapping_type.tp_dict)["__module__"] = "safemmap"
    _replace_property(mmap, "protection")
    _replace_property(mmap, "stable")
    _replace_property(_Exporter, "fault")
    _replace_property(_Exporter, "faulted")
    return 0


cdef int _replace_property(type cls, str name) except -1:
    cdef _Attribute attribute = _Attribute.__new__(_Attribute)
    cdef dict names = <dict>(<TypeObject *>cls).tp_dict

    attribute.property = names[name]
    names[name] = attribute
    PyType_Modified(cls)
    return 0

_finish_type()
