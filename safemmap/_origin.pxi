# Where a BusError comes from: the mapping, and what the kernel calls the file behind
# it.

cdef extern from "Python.h":
    object PyUnicode_DecodeFSDefaultAndSize(const char *text, Py_ssize_t size)
    object PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)


@cython.final
cdef class _Origin:
    """Shared by a mapping and all its errors. The name is looked up when an error is
    asked for it, and before the mapping closes the descriptor if there was an error."""

    cdef object mapping         # a weak reference, or None
    cdef int fd                 # of the mapping; -1 once that is closed
    cdef object name            # None as long as it is not known
    cdef bint under_protect     # it is a foreign mapping
    cdef object region          # an extension module's: its name; else None
    cdef bint told              # there was an error

    cdef object path(self):
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)

        self.look_up()
        return self.name

    cdef void look_up(self) noexcept:
        if self.name is None and self.fd != -1:
            self.name = _name_of(self.fd)

    cdef void settle(self) noexcept:
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)

        if safemmap_get_flag(&self.told):
            self.look_up()
        self.fd = -1


cdef _Origin _origin(object mapping, int fd, object name, bint under_protect):
    cdef _Origin origin = _Origin.__new__(_Origin)

    origin.mapping = None if mapping is None else PyWeakref_NewRef(mapping, None)
    origin.fd = fd
    origin.name = name
    origin.under_protect = under_protect
    return origin


cdef _Origin _origin_in_region(object name):
    """In memory that an extension module has registered under that name."""
    cdef _Origin origin = _origin(None, -1, None, False)

    origin.region = name
    return origin


cdef object _text_of(const char *name):
    """Of a region, whose name may be cut off within a character."""
    return PyUnicode_DecodeUTF8(name, strlen(name), "replace")


cdef object _name_of(int fd):
    """None without /proc."""
    cdef char link[64]
    cdef char target[PATH_MAX]
    cdef Py_ssize_t size

    snprintf(link, sizeof(link), "/proc/thread-self/fd/%d", fd)
    size = readlink(link, target, sizeof(target))
    return None if size < 0 else PyUnicode_DecodeFSDefaultAndSize(target, size)


cdef object _path_behind(const void *start, Py_ssize_t size):
    """The path of the file mapped there; None without /proc."""
    cdef safemmap_files files

    try:
        _look_up(<uintptr_t>start, <uintptr_t>start + size, &files)
    except OSError:
        return None
    return _path_in(&files)


cdef object _path_in(const safemmap_files *files):
    cdef Py_ssize_t size = strlen(files.path)

    return PyUnicode_DecodeFSDefaultAndSize(files.path, size) if size > 0 else None
