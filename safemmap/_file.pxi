# Whether the file behind a mapping can shrink; and what else the kernel says of it: its
# size, its pages.

cdef struct _FileId:
    dev_t device
    ino_t inode


@cython.final
cdef class Descriptor:
    """A close-on-exec duplicate of a descriptor, for a mapping to take over. (Without
    one, see `owned`.)"""

    cdef int number             # -1 once it is closed, or a mapping's
    cdef struct_stat known      # if `is_known`, what `status` has found
    cdef bint is_known

    def __cinit__(self, fd=None):
        self.number = -1
        if fd is not None:
            self.number = fcntl(_int(fd), F_DUPFD_CLOEXEC, 0)
            if self.number == -1:
                raise _os_error(errno)

    def __dealloc__(self):
        self.close()

    def status(self):
        """The `st_mode` of the file, and its size in bytes."""
        if _status_of(self.number, &self.known) == -1:
            raise _os_error(errno)
        self.is_known = True
        return self.known.st_mode, self.known.st_size

    def fileno(self):
        """-1 once it is closed, or a mapping's."""
        return self.number

    def detach(self):
        """The number, for the caller to close."""
        PyErr_CheckSignals()  # what a handler raises later loses the descriptor
        return self.take()

    cpdef close(self):
        cdef int number = self.take()

        if number != -1:
            with nogil:
                close(number)

    cdef int take(self) noexcept:
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef int number = self.number

        self.number = -1
        return number


def owned(function, *arguments):
    """The descriptor that a function of C returns, as a `Descriptor`: it closes when a
    signal handler raises before the caller has come to a ``try``."""
    cdef Descriptor own = Descriptor.__new__(Descriptor)

    own.number = function(*arguments)
    return own


def open_flags(int fd):
    """How the file was opened: ``O_*``."""
    cdef int flags = fcntl(fd, F_GETFL)

    if flags == -1:
        raise _os_error(errno)
    return flags


def can_have_seals(int fd):
    """Whether it is a file in memory, of a kind that can."""
    return fcntl(fd, F_GET_SEALS) != -1


cdef int _ensure_sealed(int fd, const _FileId *file, off_t offset,
                        off_t length) except -1:
    """Where `length` bytes from `offset` cannot be made to stay, say why."""
    if _cannot_shrink(fd, file, offset, length):
        return 0
    if fd == -1:
        raise SealError(EINVAL, "anonymous memory has no seals, and needs none")
    cdef int seals = fcntl(fd, F_GET_SEALS)

    if seals == -1 or seals & F_SEAL_SHRINK == 0:
        from safemmap._seals import Seal, seal_file

        seal_file(fd, Seal.SHRINK, "the file")
    if _is_on_hugetlbfs(fd):
        raise SealError(
            EOPNOTSUPP,
            "a file of huge pages can lack them, and fault, however it is sealed; use "
            'protection="guarded"'
        )
    if not _cannot_shrink(fd, file, offset, length):
        raise SealError(
            EINVAL, f"the sealed file does not have {length} bytes from {offset} on"
        )
    return 0


cdef bint _cannot_shrink(int fd, const _FileId *file, off_t offset,
                         off_t length) noexcept:
    """Whether `length` bytes from `offset` stay. The order matters: a file that is not
    sealed yet may be cut after its size was read. (Blocks of a hugetlbfs are its huge
    pages. The program may have closed our descriptor, and got another file under its
    number.)"""
    cdef struct_stat status
    cdef int seals = fcntl(fd, F_GET_SEALS) if fd != -1 else -1

    return (
        seals > 0 and seals & F_SEAL_SHRINK != 0
        and fstat(fd, &status) == 0 and status.st_ino == file.inode
        and status.st_dev == file.device and status.st_size >= offset
        and status.st_size - offset >= length
        and (
            status.st_blksize <= sysconf(_SC_PAGESIZE) or not _is_on_hugetlbfs(fd)
        )
    )


cdef bint _is_secret(int fd) noexcept:
    """Whether it is of memfd_secret(2)."""
    cdef struct_statfs status

    return fstatfs(fd, &status) == 0 and status.f_type == _SECRET_MEMORY_MAGIC


def filesystem_magic(int fd):
    """What statfs(2) says of the filesystem that this is on."""
    cdef struct_statfs status

    if fstatfs(fd, &status) != 0:
        raise _os_error(errno)
    return status.f_type & 0xFFFFFFFF


cdef bint _is_on_hugetlbfs(int fd) noexcept:
    cdef struct_statfs status

    return fstatfs(fd, &status) == 0 and status.f_type == HUGETLBFS_MAGIC


cdef int _status_of(int fd, struct_stat *ret_status) noexcept:
    """fstat(2), without the GIL: a filesystem may take its time to answer."""
    cdef int result

    with nogil:
        result = fstat(fd, ret_status)
    return result


cdef bint _is_regular(int fd, struct_stat *ret_status) noexcept:
    """Whether it is a file that can tell its size."""
    return _status_of(fd, ret_status) == 0 and S_ISREG(ret_status.st_mode)


cdef Py_ssize_t _checked_length(const struct_stat *status, Py_ssize_t length,
                                Py_ssize_t offset) except -1:
    """How many bytes of the file to map."""
    if length == 0:
        if status.st_size == 0:
            raise ValueError("cannot mmap an empty file")
        if offset >= status.st_size:
            raise ValueError("mmap offset is greater than file size")
        if status.st_size - offset > PY_SSIZE_T_MAX:
            raise ValueError("mmap length is too large")
        return status.st_size - offset
    if offset > status.st_size or status.st_size - offset < length:
        raise ValueError("mmap length is greater than file size")
    return length


cdef size_t _page_size(int fd, int flags) noexcept:
    """Of such a mapping: larger than the system's where it is made of huge ones."""
    cdef struct_statfs status
    cdef unsigned int exponent = (<unsigned int>flags >> MAP_HUGE_SHIFT) & MAP_HUGE_MASK

    if fd == -1 and flags & MAP_HUGETLB:
        return <size_t>1 << exponent if exponent else _DEFAULT_HUGE_PAGE
    if fd != -1 and fstatfs(fd, &status) == 0 and status.f_type == HUGETLBFS_MAGIC:
        return status.f_bsize
    return sysconf(_SC_PAGESIZE)
