# BusError. Its fields are plain C values, which cost little to fill in: raising it is
# part of the cost of a fault. Its texts are in _errors.py.

cdef extern from "Python.h":
    ctypedef class builtins.OSError [object PyOSErrorObject]:
        pass


cdef class BusError(OSError):
    """BusError(*args)\n--\n
    An access to a mapped file touched a page that the kernel could not bring in.

    The operation that faulted raises this, where the standard library's mapping has
    the process killed by SIGBUS. The mapping stays usable: the same operation succeeds
    once the page is there again. (After a fault of a view, once `mmap.reset` was
    called; under `enable`, once the file is loaded again.) `errno` is ``EFAULT``, or
    ``EHWPOISON`` for memory that the hardware reported as damaged.

    An operation that writes, to the mapping or to the caller's buffer, may have written
    a part.

    :ivar offset: of the first byte that could not be reached, in bytes from the start
        of the mapping (or of the caller's buffer, see `in_buffer`): the start of the
        first lost page, or the start of the range asked for when that lies inside the
        page; where a file was found too short without a fault, its end. Under `enable`
        the offset, in the file, of the byte that was touched.
    :ivar address: the address of that byte.
    :ivar code: a `BusCode`, or the bare ``si_code`` where it has no name; 0 where a
        file was found too short without a fault.
    :ivar operation: the method or operator: ``"read"``, ``"m[i:j]"``, ...; ``"load"``
        or ``"store"`` under `enable`; None in one that was not raised by this library.
    :ivar in_buffer: whether the page was behind the other buffer of the operation
        (what `write` reads from, say), and not behind the mapping itself.
    :ivar poisoned: whether this reports an earlier fault of a view: it got zeros in the
        place of a page that was gone, and every operation raises until `mmap.reset`.
    :ivar start: the range asked for, in bytes from the start of the mapping.
    :ivar stop: its end.
    :ivar needed: how many bytes the file must have for `offset` to be in it; 0 where
        that is not known.
    :ivar file_size: how many it had right after the fault; -1 where that is not known
        (``trackfd=False``).
    :ivar mapping: the `mmap` or the `Protected` whose page it was; None where that is
        gone, under `enable`, in a copy and after unpickling.
    :ivar path: the file, as the kernel names it; a memfd is
        ``"/memfd:name (deleted)"``. None where that cannot be told.
    :ivar under_protect: whether another library made the mapping, and `protect`
        guarded it.
    :ivar name: of the region, where an extension module has registered the memory (see
        docs/extensions.md) and raises this for a view; else None.
    """

    cdef readonly Py_ssize_t offset
    cdef readonly uintptr_t address
    cdef int bus_code
    cdef PyObject *met_by       # the operation; NULL where none is told
    cdef readonly bint in_buffer
    cdef readonly bint poisoned
    cdef readonly Py_ssize_t start
    cdef readonly Py_ssize_t stop
    cdef readonly Py_ssize_t needed
    cdef readonly off_t file_size
    cdef PyObject *origin       # an _Origin, or NULL
    cdef object __weakref__

    @property
    def code(self):
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)

        return _code(self.bus_code)

    @property
    def operation(self):
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)

        return None if self.met_by == NULL else <object>self.met_by

    @property
    def mapping(self):
        origin = _origin_of(self)
        return None if origin is None or origin.mapping is None else origin.mapping()

    @property
    def path(self):
        origin = _origin_of(self)
        return None if origin is None else origin.path()

    @property
    def under_protect(self):
        origin = _origin_of(self)
        return origin is not None and origin.under_protect

    @property
    def name(self):
        origin = _origin_of(self)
        return None if origin is None else origin.region

    def __dealloc__(self):
        Py_XDECREF(self.met_by)
        Py_XDECREF(self.origin)

    def __str__(self):
        if self.operation is None:
            return OSError.__str__(self)
        return describe_bus_error(self)

    def __repr__(self):
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)

        if self.operation is None:
            return OSError.__repr__(self)
        return (
            f"{type(self).__name__}({self.errno}, {self.strerror!r}, "
            f"operation={self.operation!r}, offset={self.offset}, "
            f"mapping={self.mapping!r}, path={self.path!r})"
        )

    def __reduce__(self):
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)

        state = (
            self.offset, self.address, self.bus_code, self.operation, self.in_buffer,
            self.poisoned, self.start, self.stop, self.needed, self.file_size,
            self.path, self.under_protect, self.name,
        )
        made_from = OSError.__reduce__(self)[1]  # with the names of files, if any
        return type(self), made_from, (state, self.__dict__)

    def __setstate__(self, state):
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef _Origin origin

        (
            self.offset, self.address, self.bus_code, operation, self.in_buffer,
            self.poisoned, self.start, self.stop, self.needed, self.file_size,
            path, under_protect, name,
        ), attributes = state
        _refer(&self.met_by, operation)
        origin = _origin(None, -1, path, under_protect)
        origin.region = name
        _refer(&self.origin, origin)
        self.__dict__.update(attributes)


safemmap_without_frames = <PyObject *>BusError


# OSError's own `__new__` makes the instances (see _finish_bus_error), so fields that
# refer to objects begin as NULL, not None.

cdef _Origin _origin_of(BusError error):
    cdef safemmap_section section
    safemmap_enter(&section, <PyObject *>error)

    return None if error.origin == NULL else <_Origin>error.origin


cdef void _name_origin(BusError error, _Origin origin) noexcept:
    safemmap_set_flag(&origin.told, True)
    _refer(&error.origin, origin)


cdef void _refer(PyObject **reference, object to) noexcept:
    cdef PyObject *before = reference[0]

    Py_INCREF(to)
    reference[0] = <PyObject *>to
    Py_XDECREF(before)


cdef dict _codes = None         # of faults, with their names


cdef object _code(int code):
    """A `BusCode`; the bare number where it has no name, or where its module can no
    longer be loaded (the process may have shut itself in)."""
    global _codes
    cdef safemmap_section section
    safemmap_enter(&section, <PyObject *>_accounts)

    if _codes is None:
        try:
            from safemmap._codes import BusCode
        except Exception:
            return code
        _codes = {int(known): known for known in BusCode}
    return _codes.get(code, code)


cdef int _errno_of(int code) noexcept:
    return EHWPOISON if code in (BUS_MCEERR_AR, BUS_MCEERR_AO) else EFAULT


cdef BusError _bus_error(int error, Py_ssize_t offset, uintptr_t address, int code,
                         str operation, Py_ssize_t start, Py_ssize_t stop):
    cdef BusError exception = BusError.__new__(
        BusError, error, _POISONED if error == EHWPOISON else _BAD_ADDRESS
    )

    exception.offset = offset
    exception.address = address
    exception.bus_code = code
    _refer(&exception.met_by, operation)
    exception.start = start
    exception.stop = stop
    exception.file_size = -1
    return exception


cdef int _finish_bus_error() except -1:
    """Makes instances with OSError's own `__new__`, which knows how to treat subclasses
    with an `__init__` of their own."""
    cdef TypeObject *error_type = <TypeObject *>BusError

    error_type.tp_name = "safemmap.BusError"
    (<dict>error_type.tp_dict)["__module__"] = "safemmap"
    error_type.tp_new = (<TypeObject *>OSError).tp_new
    return 0

_finish_bus_error()
