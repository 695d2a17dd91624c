# What Cython has no syntax for in the class: its name, the sequence protocol, and
# attributes in whose place a subclass can have its own.

@cython.final
cdef class _Attribute:
    """A property that is no data descriptor: one of the same name in the `__dict__` of
    an instance comes first."""

    cdef object property

    def __get__(self, instance, owner):
        return self.property.__get__(instance, owner)


# Where the arguments of a call do not fit, Cython's message speaks of `__cinit__`. That
# of CPython for a function with the same parameters takes its place.
cdef object (*_construct)(TypeObject *, object, PyObject *)
cdef object (*_call)(object, PyObject *const *, size_t, PyObject *)


cdef object _checked_construct(TypeObject *cls, object arguments, PyObject *keywords):
    try:
        return _construct(cls, arguments, keywords)
    except TypeError as error:
        if not _speaks_of_cinit(error):
            raise
        own = error
    PyObject_Call(mmap_arguments, arguments, keywords)
    raise own  # an argument's, which only speaks like that


cdef object _checked_call(object cls, PyObject *const *arguments, size_t count,
                          PyObject *names):
    try:
        return _call(cls, arguments, count, names)
    except TypeError as error:
        if not _speaks_of_cinit(error):
            raise
        own = error
    PyObject_Vectorcall(mmap_arguments, arguments, count, names)
    raise own


cdef bint _speaks_of_cinit(object error):
    return str(error).startswith("__cinit__()")


cdef int _finish_type() except -1:
    global _construct, _call
    cdef TypeObject *mapping_type = <TypeObject *>mmap

    _construct = mapping_type.tp_new
    mapping_type.tp_new = _checked_construct
    _call = mapping_type.tp_vectorcall
    if _call != NULL:
        mapping_type.tp_vectorcall = _checked_call

    mapping_type.tp_name = "safemmap.mmap"
    mapping_type.tp_iter = _iterate
    mapping_type.tp_as_sequence.sq_contains = _contains
    mapping_type.tp_as_sequence.sq_item = _item
    mapping_type.tp_as_sequence.sq_ass_item = _set_item
    (<dict>mapping_type.tp_dict)["__module__"] = "safemmap"
    _adopt_methods()
    for name in ("fault", "faulted", "protection", "stable"):
        _replace_property(name)
    # (Cython looks there for base classes only.)
    for cls in (_Memory, _Exporter, mmap):
        del (<dict>(<TypeObject *>cls).tp_dict)["__pyx_vtable__"]
        PyType_Modified(cls)
    return 0


cdef int _adopt_methods() except -1:
    """Makes those of the base class its own: messages name the class that has them,
    and help() has them in one list."""
    cdef dict names = <dict>(<TypeObject *>mmap).tp_dict
    cdef dict inherited = <dict>(<TypeObject *>_Exporter).tp_dict

    for name in [name for name in inherited if name[0] != "_"]:
        attribute = inherited.pop(name)
        if isinstance(attribute, type(str.join)):
            attribute = PyDescr_NewMethod(
                mmap, (<PyMethodDescrObject *>attribute).d_method
            )
        names[name] = attribute
    return 0


cdef int _replace_property(str name) except -1:
    cdef _Attribute attribute = _Attribute.__new__(_Attribute)
    cdef dict names = <dict>(<TypeObject *>mmap).tp_dict

    attribute.property = names[name]
    names[name] = attribute
    return 0

_finish_type()
