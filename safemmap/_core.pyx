# cython: language_level=3, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
# What CPython calls fastest: methods as the standard class has them.
# cython: binding=False, always_allow_keywords=False
"""The mapping: binds the C core, and turns what it reports into exceptions.

The behaviour is that of `Modules/mmapmodule.c` of the running CPython, quirks
included; where its versions differ, `_SINCE_*` tells which one applies. Every
access to mapped memory goes through a guarded operation of the core.

With the GIL a mapping changes only while no operation is under way on it, save
for the bulk ones, which release the GIL; those pin the mapping as an exported
buffer would.
"""

cimport cython
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_Check,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
    PyBytes_CheckExact,
)
from cpython.buffer cimport (
    PyBUF_FORMAT,
    PyBUF_ND,
    PyBUF_SIMPLE,
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_CheckBuffer,
    PyObject_GetBuffer,
)
from cpython.number cimport PyIndex_Check, PyNumber_AsSsize_t
from cpython.object cimport PyObject
from cpython.sequence cimport PySequence_Contains
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.slice cimport PySlice_Check
from cpython.tuple cimport PyTuple_GET_ITEM
from cpython.weakref cimport PyWeakref_NewRef
from cpython.exc cimport PyErr_SetObject, PyErr_WarnEx, PyErr_WriteUnraisable
from libc.errno cimport (
    EADDRINUSE,
    EBUSY,
    EFAULT,
    EINVAL,
    ENOMEM,
    EOPNOTSUPP,
    errno,
)
from libc.limits cimport INT_MAX, INT_MIN
from libc.stdint cimport int64_t, uintptr_t
from posix.fcntl cimport fcntl
from posix.mman cimport (
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_PRIVATE,
    MAP_SHARED,
    MS_SYNC,
    PROT_READ,
    PROT_WRITE,
    madvise,
    mmap as c_mmap,
    mremap,
    msync,
    munmap,
)
from posix.stat cimport S_ISREG, fstat, struct_stat
from posix.time cimport timespec
from posix.types cimport off_t, pid_t, time_t
from posix.unistd cimport _SC_PAGESIZE, close, ftruncate, pread, sysconf

from safemmap._csrc cimport *
from safemmap._system cimport *

# Whatever Python has loaded already: what is imported here is imported by everybody.
import os
import sys
from sys import _current_frames
from time import monotonic

from safemmap._errors import (
    Fault,
    FaultWarning,
    SealError,
    describe_bus_error,
    file_too_short,
)

cdef enum AccessMode:
    ACCESS_DEFAULT, ACCESS_READ, ACCESS_WRITE, ACCESS_COPY

# How accesses survive.
cdef enum Protection:
    AUTO, SEALED, GUARDED, KERNEL

# What becomes of buffers that are handed out.
cdef enum Views:
    DEFERRED, INTERRUPT, DENY, CRASH

cdef bint _SINCE_3_13 = sys.version_info >= (3, 13)
cdef bint _SINCE_3_14 = sys.version_info >= (3, 14)
cdef bint _SINCE_3_15 = sys.version_info >= (3, 15)

cdef tuple _ACCESS_NAMES = (
    "ACCESS_DEFAULT", "ACCESS_READ", "ACCESS_WRITE", "ACCESS_COPY"
)
cdef dict _PROTECTIONS = {
    "auto": AUTO, "sealed": SEALED, "guarded": GUARDED, "kernel": KERNEL
}
cdef tuple _PROTECTION_NAMES = ("auto", "sealed", "guarded", "kernel")
cdef dict _VIEWS = {
    "deferred": DEFERRED, "interrupt": INTERRUPT, "deny": DENY, "crash": CRASH
}
# What a byte becomes, as an int and as bytes: CPython has these objects once, too. (In
# arrays, since to take one out of a tuple counts references to the tuple.)
cdef PyObject *_INTS[256]
cdef PyObject *_BYTES[256]
cdef tuple _kept = (
    tuple(range(256)), tuple(bytes(range(256))[byte:byte + 1] for byte in range(256))
)
for _byte in range(256):
    _INTS[_byte] = PyTuple_GET_ITEM(_kept[0], _byte)
    _BYTES[_byte] = PyTuple_GET_ITEM(_kept[1], _byte)
cdef str _POISONED = os.strerror(EHWPOISON)
cdef str _BAD_ADDRESS = os.strerror(EFAULT)

# Of the huge pages that x86-64 and aarch64 give who does not say which, in bytes.
cdef size_t _DEFAULT_HUGE_PAGE = <size_t>2 << 20
# Of any architecture's huge ones, in bytes.
cdef size_t _LARGEST_PAGE = <size_t>16 << 30
# What makes the content of a file immutable.
cdef int _IMMUTABLE = F_SEAL_SHRINK | F_SEAL_WRITE
# Bytes that are searched before the GIL is given up: most of what is looked for is
# near.
cdef Py_ssize_t _NEAR = 4096
cdef const char *_NEWLINE = b"\n"
# A result of so many bytes has memory of its own, which malloc(3) has mapped for it: to
# have that in huge pages makes it four times as fast to fill.
cdef Py_ssize_t _LARGE_RESULT = 32 << 20
# What CPython allows for set_name, its prefix not counted.
cdef Py_ssize_t _LONGEST_NAME = 66


cdef object _os_error(int error):
    return OSError(error, os.strerror(error))


include "_bus_error.pxi"


cdef int _raise(object exception) noexcept:
    """As `raise` does, but without a line in the traceback for each of the functions
    here that pass it on (which cost more than the fault)."""
    PyErr_SetObject(type(exception), exception)
    return -1


cdef int _unraisable(object error, object where) except -1:
    """Report what nobody can be given."""
    PyErr_SetObject(type(error), error)
    PyErr_WriteUnraisable(where)
    return 0


cdef Py_ssize_t _index(object value) except? -1:
    return PyNumber_AsSsize_t(value, OverflowError)


cdef int _int(object value) except? -1:
    cdef Py_ssize_t number = _index(value)

    if not INT_MIN <= number <= INT_MAX:
        raise OverflowError("Python int too large to convert to C int")
    return <int>number


cdef int _choice(str name, object value, dict choices) except -1:
    if value not in choices:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}"
        )
    return choices[value]


include "_region.pxi"


# (What it refers to does not refer to it.)
@cython.no_gc
cdef class mmap:
    """mmap(fileno, length, flags=MAP_SHARED, prot=PROT_READ|PROT_WRITE, \
access=ACCESS_DEFAULT, offset=0, *, trackfd=True, protection="auto", views="deferred")

    A memory-mapped file that survives the loss of its pages: a drop-in for the
    POSIX `mmap.mmap` of the running Python.

    Maps `length` bytes (0 for the whole file) of the file descriptor `fileno`, from
    `offset` on; ``fileno=-1`` maps anonymous memory. Every method and operator
    raises `BusError` where the standard class has the process killed by SIGBUS;
    the position moves only when an operation succeeds. Operations on 256 KiB or
    more release the GIL, and the mapping cannot be closed or resized meanwhile.

    `protection` says how operations survive:

    - ``"guarded"``: the handler of SIGBUS ends them.
    - ``"sealed"``: there is nothing to survive, since nobody can shrink the file any
      more. Nothing is paid. The seal is added where it is missing and `fileno` allows
      it.
    - ``"kernel"``: no signal is involved: the kernel copies, which costs a system call
      for each operation. No buffer is handed out.
    - ``"auto"``: sealed where the file is, otherwise guarded, or kernel where the
      environment has ``SAFEMMAP_HANDLER=0``. Decided again by `resize` and `reset`.

    `views` says what becomes of a buffer (`memoryview(m)`, NumPy) when other code
    touches a page behind it that is gone:

    - ``"deferred"``: it gets zeros; the next operation, or the end of the `access`
      scope, raises `BusError`.
    - ``"interrupt"``: the same, and the thread that touched it gets a `BusError` as
      an asynchronous exception as soon as it runs Python code, unless it has left
      the scope by then.
    - ``"deny"``: exporting a buffer raises BufferError.
    - ``"crash"``: the process dies of SIGBUS, as with the standard class.

    :raises ValueError: `length` or `offset` lie beyond the end of the file, the
        file is empty, `access` is combined with `flags` or `prot`, or `protection` or
        `views` is none of the above.
    :raises OverflowError: `length` or `offset` is negative.
    :raises SealError: ``protection="sealed"``, and the file is not and cannot be.
    :raises RuntimeError: ``protection="guarded"``, with ``SAFEMMAP_HANDLER=0``.
    :raises OSError: as mmap(2) has it.
    """

    cdef char *data             # NULL once closed
    cdef Py_ssize_t length
    cdef Py_ssize_t pos
    cdef Py_ssize_t offset      # of the mapping in the file
    cdef Py_ssize_t exports     # buffers handed out, and bulk operations
    cdef int fd                 # our duplicate, or -1
    cdef int flags
    cdef int prot
    cdef size_t page_size
    cdef unsigned long resets   # so many times the file was mapped again,
    cdef Py_ssize_t reset_fault  # the last time for a fault at this offset
    cdef Region region          # once a buffer was handed out
    cdef Py_ssize_t scopes      # entered, and not left yet
    cdef AccessMode mode
    cdef Protection wanted
    cdef Protection granted
    cdef const safemmap_operations *operations  # the way that was granted
    cdef Views views
    cdef bint trackfd
    cdef bint is_file           # and there is a descriptor to read it by
    cdef object __weakref__

    # ---- Life ------------------------------------------------------------

    def __cinit__(self, fileno, length, flags=MAP_SHARED,
                  prot=PROT_READ | PROT_WRITE, access=ACCESS_DEFAULT, offset=0, *,
                  bint trackfd=True, protection="auto", views="deferred"):
        self.fd = -1
        self.trackfd = trackfd
        self.wanted = <Protection>_choice("protection", protection, _PROTECTIONS)
        self.views = <Views>_choice("views", views, _VIEWS)
        self.map(_int(fileno), _index(length), _int(flags), _int(prot),
                 _int(access), _index(offset))

    cdef int map(self, int fileno, Py_ssize_t length, int flags, int prot,
                 int access, Py_ssize_t offset) except -1:
        cdef long block_size = 0

        if length < 0:
            raise OverflowError("memory mapped length must be positive")
        if offset < 0:
            raise OverflowError("memory mapped offset must be positive")
        if access != ACCESS_DEFAULT and (
            flags != MAP_SHARED or prot != (PROT_READ | PROT_WRITE)
        ):
            raise ValueError("mmap can't specify both access and flags, prot.")
        if access == ACCESS_READ:
            prot = PROT_READ
        elif access == ACCESS_COPY:
            flags = MAP_PRIVATE
        elif access == ACCESS_DEFAULT:
            if not prot & PROT_WRITE:
                access = ACCESS_READ
            elif not prot & PROT_READ:
                access = ACCESS_WRITE
        elif access != ACCESS_WRITE:
            raise ValueError("mmap invalid access parameter.")
        PySys_Audit("mmap.__new__", "inin", fileno, length, access, offset)

        if fileno == -1:
            flags |= MAP_ANONYMOUS
        else:
            if self.trackfd:
                # What is checked is what is mapped, whatever becomes of `fileno`.
                fileno = self.fd = fcntl(fileno, F_DUPFD_CLOEXEC, 0)
                if fileno == -1:
                    raise _os_error(errno)
            length = _checked_length(fileno, length, offset, &block_size)
            self.is_file = self.fd != -1 and block_size > 0
        self.length = length
        self.offset = offset
        self.choose_protection(fileno)
        self.flags = flags
        self.prot = prot
        self.mode = <AccessMode>access

        cdef void *data
        with nogil:
            data = c_mmap(NULL, length, prot, flags, fileno, offset)
        if data == MAP_FAILED:
            raise _os_error(errno)
        self.data = <char *>data
        self.page_size = sysconf(_SC_PAGESIZE)
        # Blocks of a disk file may be larger than a page, too.
        if block_size > <long>self.page_size or flags & MAP_HUGETLB:
            self.page_size = _page_size(fileno, flags)
        return 0

    def __dealloc__(self):
        try:
            if self.region is not None and not self.region.warned:
                self.warn_unreported()
        except BaseException as error:
            _unraisable(error, type(self))
        self.release()

    cdef void release(self) noexcept:
        cdef char *data = self.data
        cdef Py_ssize_t size = self.length
        # Zero where the constructor did not get far enough to say otherwise.
        cdef int fd = self.fd if self.trackfd else -1
        cdef Region region = self.unregister()

        self.data = NULL
        self.fd = -1
        with nogil:
            if fd != -1:
                close(fd)
            if data != NULL:
                _unmap(data, size)
        if region is not None:
            region.forget()

    def close(self):
        """Unmap the memory. Does nothing when it is closed already.

        :raises BufferError: a buffer is still exported, or an operation is under
            way on another thread.
        """
        self.check_unexported()
        self.warn_unreported()
        self.check_unexported()  # the warning may have run any code
        self.release()

    cdef int check_unexported(self) except -1:
        if self.exports > 0:
            raise BufferError("cannot close exported pointers exist")
        return 0

    @property
    def closed(self):
        """Whether the mapping is closed."""
        return self.data == NULL

    def __enter__(self):
        self.check_open()
        return self

    def __exit__(self, *exc_info):
        mmap.close(self)  # and nothing that a subclass has in its place

    def __repr__(self):
        return self.describe_self()

    cdef str describe_self(self):
        # Of a subclass, as the standard class has it, the bare name.
        name = "safemmap.mmap" if type(self) is mmap else type(self).__name__
        if self.data == NULL:
            return f"<{name} closed=True>"
        return (
            f"<{name} closed=False, access={_ACCESS_NAMES[self.mode]}, "
            f"length={self.length}, pos={self.pos}, offset={self.offset}>"
        )

    # ---- Checks ----------------------------------------------------------

    cdef inline int check_open(self) except -1:
        if self.data == NULL:
            raise ValueError("mmap closed or invalid")
        return 0

    cdef inline bint poisoned(self) noexcept:
        return self.region is not None and self.region.poisoned()

    cdef inline int check_data(self, str operation) except -1:
        """Open, and no zeros in the place of data."""
        self.check_open()
        if self.poisoned():
            self.fail_poisoned(operation)
        return 0

    cdef inline int check_writable(self) except -1:
        if self.mode == ACCESS_READ:
            raise TypeError("mmap can't modify a readonly memory map.")
        return 0

    cdef inline Py_ssize_t remaining(self) noexcept:
        return self.length - self.pos if self.pos < self.length else 0

    # ---- Protection ------------------------------------------------------

    cdef int choose_protection(self, int fileno, bint again=False) except -1:
        """Before anything of the file `fileno` is touched, or `again` when its size or
        its seals may have changed."""
        cdef Protection choice = self.wanted

        if choice == SEALED:
            _add_seal(fileno)
        if choice == SEALED or choice == AUTO:
            # (Without a descriptor of its own, what is looked at may be another file
            # than what is mapped.)
            if (choice == SEALED or self.trackfd) and _cannot_shrink(
                fileno, self.offset + self.length
            ):
                choice = SEALED
            elif choice == SEALED:
                raise SealError(
                    EINVAL, f"the sealed file does not reach to offset "
                            f"{self.offset + self.length}"
                )
            else:
                choice = GUARDED if _handler_allowed else KERNEL
        if choice == GUARDED and fileno != -1 and not again:
            # Faults from here on find the handler, whoever came after it.
            _ensure_handler()
        self.granted = choice
        self.operations = (
            &safemmap_plain if choice == SEALED
            else &safemmap_kernel if choice == KERNEL
            else &safemmap_guarded
        )
        return 0

    @property
    def protection(self):
        """How operations survive: ``"sealed"``, ``"guarded"`` or ``"kernel"``.

        A guarded mapping says ``"kernel"`` while other handlers have taken the place of
        this library's too often, and after `handler.uninstall`.
        """
        if self.granted == GUARDED and (
            not _handler_allowed or safemmap_install() == -EBUSY
        ):
            return "kernel"
        return _PROTECTION_NAMES[<int>self.granted]

    @property
    def stable(self):
        """Whether nobody can change what is in the file any more, by its seals: what is
        read twice is the same. (`snapshot` gives that for any file.)"""
        cdef int seals

        self.check_open()
        seals = fcntl(self.fd, F_GET_SEALS) if self.fd != -1 else 0
        return seals > 0 and seals & _IMMUTABLE == _IMMUTABLE

    # ---- Guarded access --------------------------------------------------

    cdef int fail(self, int error, const safemmap_fault *fault, str operation,
                  Py_ssize_t start, Py_ssize_t stop,
                  const void *buffer=NULL) except -1:
        """Raise what an operation over `start` to `stop` returned: an error, or
        success on a mapping that a view on another thread has poisoned meanwhile. Warn
        if it was done, but without the handler.

        `buffer` is the memory of the caller's that took part in it.
        """
        cdef uintptr_t data = <uintptr_t>self.data
        cdef Py_ssize_t length = self.length
        cdef BusError exception
        cdef bint in_buffer

        if error > 0:
            _warn_displaced()
            # Which may call a hook, which may do anything.
            if <uintptr_t>self.data != data or self.length != length:
                raise ValueError("mmap was closed or resized by a hook for warnings")
        if error >= 0:
            return self.fail_poisoned(operation) if self.poisoned() else 0
        if error == -ENOMEM:
            raise MemoryError(f"{operation}: no memory to read by way of the kernel")
        if error != -EFAULT and error != -EHWPOISON:
            raise OSError(
                -error,
                f"{operation}: {_why_not(self.granted)}: {os.strerror(-error)}",
            )
        in_buffer = not data <= fault.address < data + <uintptr_t>self.length
        exception = self.bus_error(
            -error, fault.address - (<uintptr_t>buffer if in_buffer else data),
            fault.address, fault.code, operation, start, stop,
        )
        exception.in_buffer = in_buffer
        return _raise(exception)

    cdef BusError bus_error(self, int error, Py_ssize_t offset, uintptr_t address,
                            int code, str operation, Py_ssize_t start,
                            Py_ssize_t stop):
        cdef BusError exception = _bus_error(
            error, offset, address, code, operation, start, stop
        )
        cdef struct_stat status

        exception.needed = self.offset + offset + 1
        if self.fd != -1 and fstat(self.fd, &status) == 0:
            exception.file_size = status.st_size
        return exception

    cdef inline void start_bulk(self) noexcept:
        """The GIL is about to be given up, under an operation that needs the mapping
        and the handler to stay."""
        global _under_way

        self.exports += 1
        _under_way += 1

    cdef inline void end_bulk(self) noexcept:
        global _under_way

        self.exports -= 1
        _under_way -= 1

    cdef inline int copy(self, void *target, const void *source, Py_ssize_t size,
                         safemmap_fault *fault) noexcept:
        cdef const safemmap_operations *operations = self.operations
        cdef int error

        if size < <Py_ssize_t>SAFEMMAP_BULK:
            return operations.copy(target, source, size, fault)
        self.start_bulk()
        with nogil:
            error = operations.copy(target, source, size, fault)
        self.end_bulk()
        return error

    cdef inline int load(self, Py_ssize_t at, unsigned char *byte,
                         str operation) except -1:
        cdef safemmap_fault fault
        cdef int error

        if self.granted == KERNEL and self.read_file(byte, at, 1) == 1:
            error = 0
        else:
            error = self.operations.load(self.data + at, byte, &fault)
        if error != 0 or self.poisoned():
            self.fail(error, &fault, operation, at, at + 1)
        return 0

    cdef inline Py_ssize_t read_file(self, void *target, Py_ssize_t start,
                                     Py_ssize_t size) noexcept:
        """How many bytes are read already. By way of the kernel the file itself is
        quicker to read than its mapping, where both are the same."""
        cdef Py_ssize_t done

        if self.granted != KERNEL or not self.is_file or self.flags & MAP_PRIVATE:
            return 0
        if size < <Py_ssize_t>SAFEMMAP_BULK:
            done = pread(self.fd, target, size, self.offset + start)
        else:
            self.start_bulk()
            with nogil:
                done = pread(self.fd, target, size, self.offset + start)
            self.end_bulk()
        return done if done > 0 else 0

    cdef bytes copy_out(self, Py_ssize_t start, Py_ssize_t size, str operation):
        """The bytes from `start`, both within bounds."""
        cdef unsigned char byte
        cdef bytes result

        if size == 1:
            self.load(start, &byte, operation)
            return <bytes>_BYTES[byte]
        result = PyBytes_FromStringAndSize(NULL, size)
        if size >= _LARGE_RESULT:
            _advise_huge_pages(PyBytes_AS_STRING(result), size)
        self.copy_to(PyBytes_AS_STRING(result), start, size, operation)
        return result

    cdef int copy_to(self, void *target, Py_ssize_t start, Py_ssize_t size,
                     str operation) except -1:
        cdef Py_ssize_t done = self.read_file(target, start, size)
        cdef safemmap_fault fault
        cdef int error = 0

        if done < size:
            error = self.copy(
                <char *>target + done, self.data + start + done, size - done, &fault
            )
        if error != 0 or self.poisoned():
            self.fail(error, &fault, operation, start, start + size, target)
        return 0

    cdef int copy_in(self, Py_ssize_t start, const void *source, Py_ssize_t size,
                     str operation) except -1:
        cdef safemmap_fault fault
        cdef int error = self.copy(self.data + start, source, size, &fault)

        if error != 0 or self.poisoned():
            self.fail(error, &fault, operation, start, start + size, source)
        return 0

    cdef int store(self, Py_ssize_t at, unsigned char byte,
                   str operation) except -1:
        cdef safemmap_fault fault
        cdef int error = self.operations.store(self.data + at, byte, &fault)

        if error != 0 or self.poisoned():
            self.fail(error, &fault, operation, at, at + 1)
        return 0

    # ---- Reading and writing at the position -----------------------------

    # A bulk copy gives up the GIL. The position is claimed before, so that two
    # threads which read get different bytes, and given back after a fault.

    def read(self, n=None, /):
        """Read up to `n` bytes from the position; all the rest if negative or None.

        :raises BusError: one of them is on a page that is gone.
        """
        cdef Py_ssize_t size = PY_SSIZE_T_MAX, start

        if n is not None:
            if not PyIndex_Check(n):
                raise TypeError(
                    "argument should be integer or None, "
                    f"not '{type(n).__name__}'"
                )
            size = _index(n)
        self.check_data("read")
        if size < 0 or size > self.remaining():
            size = self.remaining()
        start = self.pos
        return self.read_claimed(start, size, "read")

    cdef bytes read_claimed(self, Py_ssize_t start, Py_ssize_t size,
                            str operation):
        self.pos = start + size
        try:
            return self.copy_out(start, size, operation)
        except BaseException:
            self.give_back(start, size)
            raise

    cdef void give_back(self, Py_ssize_t start, Py_ssize_t size) noexcept:
        """The claim of an operation that failed, unless others have moved on."""
        if self.pos == start + size:
            self.pos = start

    def read_byte(self):
        """The byte at the position, as an int.

        :raises ValueError: the position is at the end.
        :raises BusError: the byte is on a page that is gone.
        """
        cdef unsigned char byte

        self.check_data("read_byte")
        if self.pos >= self.length:
            raise ValueError("read byte out of range")
        self.load(self.pos, &byte, "read_byte")
        self.pos += 1
        return <object>_INTS[byte]

    def readline(self):
        """Read from the position to the end of the line, or of the mapping.

        :raises BusError: one of these bytes is on a page that is gone.
        """
        cdef Py_ssize_t size = min(self.remaining(), 256)  # most lines are shorter
        cdef safemmap_fault fault
        cdef ptrdiff_t end
        cdef bytes line

        self.check_data("readline")
        if (
            self.operations.find(
                self.data + self.pos, size, _NEWLINE, 1, &end, &fault
            ) != 0
            or end < 0
        ):
            return self.long_line()
        line = PyBytes_FromStringAndSize(NULL, end + 1)
        if (
            self.operations.copy(
                PyBytes_AS_STRING(line), self.data + self.pos, end + 1, &fault
            ) != 0
            or self.poisoned()
        ):
            return self.long_line()
        self.pos += end + 1
        return line

    cdef bytes long_line(self):
        """And what met a fault, or went by way of the kernel."""
        cdef Py_ssize_t start, stop, end

        while True:
            start, stop = self.pos, self.length
            if start >= stop:
                return b""
            end = self.search_with(
                self.operations.find, _NEWLINE, 1, start, min(stop, start + _NEAR),
                start, stop, "readline"
            )
            if end < 0 and stop - start > _NEAR:
                end = self.search_with(
                    self.operations.find, _NEWLINE, 1, start + _NEAR, stop, start, stop,
                    "readline"
                )
                # Another thread may have read this line meanwhile.
                if self.pos != start:
                    continue
            end = stop if end < 0 else end + 1
            return self.read_claimed(start, end - start, "readline")

    def write(self, bytes, /):
        """Write a bytes-like object at the position; returns how many bytes.

        :raises ValueError: it does not fit between the position and the end.
        :raises TypeError: the mapping is read-only.
        :raises BusError: it would touch a page that is gone.
        """
        cdef Py_buffer source

        PyObject_GetBuffer(bytes, &source, PyBUF_SIMPLE)
        try:
            self.write_claimed(source.buf, source.len)
            return source.len
        finally:
            PyBuffer_Release(&source)

    cdef int write_claimed(self, const void *source, Py_ssize_t size) except -1:
        cdef Py_ssize_t start = self.pos

        self.check_data("write")
        self.check_writable()
        if start > self.length or self.length - start < size:
            raise ValueError("data out of range")
        self.pos = start + size
        try:
            return self.copy_in(start, source, size, "write")
        except BaseException:
            self.give_back(start, size)
            raise

    def write_byte(self, byte, /):
        """Write one byte, an int, at the position.

        :raises ValueError: the position is at the end.
        :raises OverflowError: `byte` is not in range(256).
        :raises TypeError: the mapping is read-only.
        :raises BusError: the page is gone.
        """
        cdef Py_ssize_t value = _index(byte)

        if value < 0:
            raise OverflowError("unsigned byte integer is less than minimum")
        if value > 255:
            raise OverflowError("unsigned byte integer is greater than maximum")
        self.check_data("write_byte")
        self.check_writable()
        if self.pos >= self.length:
            raise ValueError("write byte out of range")
        self.store(self.pos, <unsigned char>value, "write_byte")
        self.pos += 1

    def seek(self, pos, whence=0, /):
        """Move the position, in bytes from the start (`whence` 0), the position (1)
        or the end (2). Returns the new one from Python 3.13 on.

        :raises ValueError: that is outside the mapping.
        """
        cdef Py_ssize_t distance = _index(pos), base
        cdef int how = _int(whence)

        self.check_open()
        if how == 0:
            base = 0
        elif how == 1:
            base = self.pos
        elif how == 2:
            base = self.length
        else:
            raise ValueError("unknown seek type")
        if PY_SSIZE_T_MAX - base < distance or not 0 <= base + distance <= self.length:
            raise ValueError("seek out of range")
        self.pos = base + distance
        return self.pos if _SINCE_3_13 else None

    def seekable(self):
        """Always true."""
        return True

    def tell(self):
        """The position, in bytes from the start of the mapping."""
        self.check_open()
        return self.pos

    # ---- Searching -------------------------------------------------------

    def find(self, sub, start=None, end=None, /):
        """The lowest index at which `sub` is found from `start` (the position if
        omitted) to `end` (the end of the mapping), or -1.

        :raises BusError: a page on the way there is gone.
        """
        return self.search(sub, start, end, False)

    def rfind(self, sub, start=None, end=None, /):
        """The highest index at which `sub` is found, or -1; see `find`.

        :raises BusError: a page on the way there is gone.
        """
        return self.search(sub, start, end, True)

    cdef Py_ssize_t search(self, object sub, object start, object end,
                           bint backward) except? -2:
        cdef Py_ssize_t low = self.pos, high = 0
        cdef Py_buffer pattern

        PyObject_GetBuffer(sub, &pattern, PyBUF_SIMPLE)
        try:
            if _SINCE_3_14:
                low = self.pos
            if start is not None:
                low = _index(start)
            if end is not None:
                high = _index(end)
            self.check_data("rfind" if backward else "find")
            if _SINCE_3_15 and low > self.length:
                return -1
            low = _clipped(low, self.length)
            high = self.length if end is None else _clipped(high, self.length)
            return self.search_range(
                &pattern, low, high, backward, "rfind" if backward else "find"
            )
        finally:
            PyBuffer_Release(&pattern)

    cdef Py_ssize_t search_range(self, const Py_buffer *pattern, Py_ssize_t low,
                                 Py_ssize_t high, bint backward,
                                 str operation) except? -2:
        cdef safemmap_find_operation *find = (
            self.operations.rfind if backward else self.operations.find
        )
        cdef Py_ssize_t start = low, end = high, near, found

        if high < low:
            return -1
        if high - low >= <Py_ssize_t>SAFEMMAP_BULK and pattern.len < _NEAR:
            # Of what is left a match may begin, or end, in what was searched already.
            if backward:
                near = high - _NEAR
                found = self.search_with(
                    find, pattern.buf, pattern.len, near, high, low, high, operation
                )
                end = near + pattern.len - 1
            else:
                near = low + _NEAR
                found = self.search_with(
                    find, pattern.buf, pattern.len, low, near, low, high, operation
                )
                start = near - pattern.len + 1
            if found >= 0:
                return found
        return self.search_with(
            find, pattern.buf, pattern.len, start, end, low, high, operation
        )

    cdef Py_ssize_t search_with(self, safemmap_find_operation *find,
                                const void *pattern, Py_ssize_t pattern_size,
                                Py_ssize_t start, Py_ssize_t end, Py_ssize_t low,
                                Py_ssize_t high, str operation) except? -2:
        """From `start` to `end`, for an operation on all between `low` and `high`."""
        cdef Py_ssize_t size = end - start
        cdef safemmap_fault fault
        cdef ptrdiff_t found
        cdef int error

        if size < <Py_ssize_t>SAFEMMAP_BULK:
            error = find(
                self.data + start, size, pattern, pattern_size, &found, &fault
            )
        else:
            self.start_bulk()
            with nogil:
                error = find(
                    self.data + start, size, pattern, pattern_size, &found, &fault
                )
            self.end_bulk()
        if error != 0 or self.poisoned():
            self.fail(error, &fault, operation, low, high, pattern)
        return -1 if found < 0 else start + found

    # ---- The file behind -------------------------------------------------

    def size(self):
        """The size of the file, in bytes; it can differ from that of the mapping.

        :raises OSError: there is no file (before Python 3.15), or
            ``trackfd=False`` (ValueError from 3.15 on).
        """
        cdef struct_stat status

        self.check_open()
        if self.fd == -1 and _SINCE_3_15:
            if not self.trackfd:
                raise ValueError("can't get size with trackfd=False")
            return self.length
        if fstat(self.fd, &status) == -1:
            raise _os_error(errno)
        return status.st_size

    def resize(self, newsize, /, *, truncate=True):
        """Resize the mapping and the file behind it to `newsize` bytes.

        With ``truncate=False`` the mapping alone, to follow a file that its owner has
        resized (as ``wl_shm_pool.resize`` has it): any kind of mapping, and only as far
        as the file reaches.

        When it fails, both are what they were.

        :raises BufferError: a buffer is exported, or an operation under way.
        :raises TypeError: the mapping is read-only or copy-on-write (and `truncate`).
        :raises ValueError: `newsize` is negative, or ``trackfd=False``; without
            `truncate` also: the file is shorter than that, or the memory anonymous.
        :raises OSError: as ftruncate(2) and mremap(2) have it.
        """
        cdef Py_ssize_t size = _index(newsize)
        cdef bint file_too = truncate

        self.check_open()
        if self.exports > 0:
            raise BufferError("mmap can't resize with extant buffers exported.")
        self.check_data("resize")
        if not self.trackfd:
            raise ValueError("mmap can't resize with trackfd=False.")
        if file_too and self.mode != ACCESS_WRITE and self.mode != ACCESS_DEFAULT:
            raise TypeError(
                "mmap can't resize a readonly or copy-on-write memory map."
            )
        if size < 0 or PY_SSIZE_T_MAX - size < self.offset:
            raise ValueError("new size out of range")
        if (
            _SINCE_3_14 and self.fd == -1 and not self.flags & MAP_PRIVATE
            and size > self.length
        ):
            raise ValueError("mmap: can't expand a shared anonymous mapping")
        if file_too:
            self.resize_both(size)
        elif self.fd == -1:
            raise ValueError("mmap can't follow a file: this memory is anonymous")
        else:
            self.check_file_reaches(self.offset + size)
            self.remap(size)

    cdef int check_file_reaches(self, off_t end) except -1:
        cdef struct_stat status

        if fstat(self.fd, &status) == -1:
            raise _os_error(errno)
        if end > status.st_size:
            raise file_too_short(end - self.offset, self.offset, status.st_size)
        return 0

    cdef int resize_both(self, Py_ssize_t size) except -1:
        """The mapping never reaches beyond the file, and no data is given up before
        all that can fail is done. Nothing here lets go of the GIL: a buffer that was
        exported meanwhile would be moved away under its reader."""
        cdef Py_ssize_t before = self.length
        cdef off_t end = self.offset + size
        cdef struct_stat status

        if self.fd == -1:
            return self.remap(size)
        if fstat(self.fd, &status) == -1:
            raise _os_error(errno)
        if end > status.st_size:
            self.truncate(end)
        try:
            self.remap(size)
        except BaseException:
            if end > status.st_size:
                self.truncate(status.st_size)
            raise
        if end < status.st_size:
            try:
                self.truncate(end)
            except BaseException:
                self.remap(before)
                raise
        return 0

    cdef int truncate(self, off_t size) except -1:
        if ftruncate(self.fd, size) == -1:
            raise _os_error(errno)
        return 0

    cdef int remap(self, Py_ssize_t size) except -1:
        cdef Region region = self.unregister()
        cdef void *data = mremap(self.data, self.length, size, MREMAP_MAYMOVE)
        cdef int error = errno

        if data != MAP_FAILED:
            self.data = <char *>data
            self.length = size
        if region is not None:
            region.forget()
        if data == MAP_FAILED:
            raise _os_error(error)
        self.choose_protection(self.fd, again=True)
        return 0

    @cython.embedsignature(False)  # which has no value for MS_SYNC
    def flush(self, offset=0, size=..., /, *, flags=MS_SYNC):
        """flush($self, offset=0, size=..., /, *, flags=4)\n--\n
        Write `size` bytes from `offset` (a multiple of PAGESIZE) back to the
        file; if omitted, as many as the mapping has (from Python 3.15 on: all from
        there to the end).

        :raises ValueError: that range is not in the mapping.
        :raises OSError: as msync(2) has it.
        """
        cdef Py_ssize_t start = _index(offset), count = -1
        cdef int how = _int(flags), failed

        if size is None and _SINCE_3_14 and not _SINCE_3_15:
            size = ...
        if size is not Ellipsis:
            count = _index(size)
        self.check_open()
        if size is Ellipsis or _SINCE_3_15 and count == -1:
            count = self.length - start if _SINCE_3_15 else self.length
        if count < 0 or start < 0 or self.length - start < count:
            raise ValueError("flush values out of range")
        if self.mode == ACCESS_READ or self.mode == ACCESS_COPY:
            return
        self.check_data("flush")
        self.start_bulk()
        with nogil:
            failed = msync(self.data + start, count, how)
        self.end_bulk()
        if failed:
            raise _os_error(errno)
        self.check_data("flush")

    def madvise(self, option, start=0, length=None, /):
        """Advise the kernel about the use of `length` bytes from `start`.

        :raises ValueError: that range is not in the mapping.
        :raises OSError: as madvise(2) has it.
        """
        cdef int advice = _int(option)
        cdef Py_ssize_t first = _index(start), count = 0

        if length is not None:
            count = _index(length)
        self.check_open()
        if length is None:
            count = self.length
        if first < 0 or first >= self.length:
            raise ValueError("madvise start out of bounds")
        if count < 0:
            raise ValueError("madvise length invalid")
        if PY_SSIZE_T_MAX - first < count:
            raise OverflowError("madvise length too large")
        if madvise(self.data + first, min(count, self.length - first), advice) != 0:
            raise _os_error(errno)

    def set_name(self, str name not None, /):
        """Name an anonymous mapping for ``/proc/self/maps`` (Linux 5.17 and later).

        :raises ValueError: the mapping has a file, or the name is too long.
        :raises OSError: this kernel does not offer it.
        """
        cdef bytes encoded = name.encode()
        cdef bytes label = b"cpython:mmap:" + encoded

        self.check_open()
        if b"\0" in encoded:
            raise ValueError("embedded null character")
        if len(encoded) > _LONGEST_NAME:
            raise ValueError("name is too long")
        if not self.flags & MAP_ANONYMOUS:
            raise ValueError("Cannot set annotation on non-anonymous mappings")
        if prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, <unsigned long>self.data,
                 <unsigned long>self.length, <char *>label) != 0:
            raise _os_error(errno)

    def move(self, dest, src, count, /):
        """Copy `count` bytes from offset `src` to `dest`; they may overlap.

        :raises ValueError: one of the ranges is not in the mapping.
        :raises TypeError: the mapping is read-only.
        :raises BusError: one of the bytes is on a page that is gone.
        """
        cdef Py_ssize_t target = _index(dest), source = _index(src)
        cdef Py_ssize_t size = _index(count)

        self.check_data("move")
        self.check_writable()
        if (
            target < 0 or source < 0 or size < 0
            or self.length - target < size or self.length - source < size
        ):
            raise ValueError("source, destination, or count out of range")
        self.copy_in(target, self.data + source, size, "move")

    # ---- As a sequence of bytes ------------------------------------------

    def __len__(self):
        self.check_open()
        return self.length

    def __bytes__(self):
        # What bytes() would copy by itself, as a view.
        self.check_data("bytes(m)")
        return self.copy_out(0, self.length, "bytes(m)")

    cdef inline Py_ssize_t position_of(self, object item) except -1:
        """Within the mapping as it is after the conversion of the index, which may run
        code that closes or resizes it."""
        cdef Py_ssize_t index

        if not safemmap_small_int(<PyObject *>item, &index):
            index = PyNumber_AsSsize_t(item, IndexError)
            self.check_open()
        return self.in_bounds(index)

    cdef inline Py_ssize_t in_bounds(self, Py_ssize_t index) except -1:
        if index < 0:
            index += self.length
        if not 0 <= index < self.length:
            raise IndexError("mmap index out of range")
        return index

    def __getitem__(self, item):
        cdef Py_ssize_t start, stop, step, size
        cdef unsigned char byte

        self.check_data("m[i]")
        if PyIndex_Check(item):
            start = self.position_of(item)
            self.load(start, &byte, "m[i]")
            return <object>_INTS[byte]
        if not PySlice_Check(item):
            raise TypeError("mmap indices must be integers")
        _unpack_slice(item, &start, &stop, &step)
        self.check_open()
        size = PySlice_AdjustIndices(self.length, &start, &stop, step)
        if size <= 0:
            return b""
        if step == 1:
            return self.copy_out(start, size, "m[i:j]")
        return self.gather(start, step, size)

    cdef bytes gather(self, Py_ssize_t start, Py_ssize_t step, Py_ssize_t size):
        cdef bytes result = PyBytes_FromStringAndSize(NULL, size)
        cdef const safemmap_operations *operations = self.operations
        cdef char *target = PyBytes_AS_STRING(result)
        cdef safemmap_fault fault
        cdef int error

        if size < <Py_ssize_t>SAFEMMAP_BULK:
            error = operations.gather(target, self.data + start, step, size, &fault)
        else:
            self.start_bulk()
            with nogil:
                error = operations.gather(
                    target, self.data + start, step, size, &fault
                )
            self.end_bulk()
        if error != 0 or self.poisoned():
            self.fail_strided(error, &fault, start, step, size, target)
        return result

    cdef int scatter(self, Py_ssize_t start, Py_ssize_t step, Py_ssize_t size,
                     const void *source) except -1:
        cdef const safemmap_operations *operations = self.operations
        cdef safemmap_fault fault
        cdef int error

        if size < <Py_ssize_t>SAFEMMAP_BULK:
            error = operations.scatter(self.data + start, step, source, size, &fault)
        else:
            self.start_bulk()
            with nogil:
                error = operations.scatter(
                    self.data + start, step, source, size, &fault
                )
            self.end_bulk()
        if error != 0 or self.poisoned():
            self.fail_strided(error, &fault, start, step, size, source)
        return 0

    cdef int fail_strided(self, int error, const safemmap_fault *fault,
                          Py_ssize_t start, Py_ssize_t step, Py_ssize_t size,
                          const void *buffer) except -1:
        cdef Py_ssize_t last = start + step * (size - 1)

        return self.fail(
            error, fault, "m[i:j:k]", min(start, last), max(start, last) + 1, buffer
        )

    def __setitem__(self, item, value):
        cdef Py_ssize_t start, stop, step, number
        cdef Py_buffer source

        self.check_data("m[i] = byte")
        self.check_writable()
        if PyIndex_Check(item):
            if not (
                safemmap_small_int(<PyObject *>item, &start)
                and safemmap_small_int(<PyObject *>value, &number)
                and 0 <= number <= 255
            ):
                start = PyNumber_AsSsize_t(item, IndexError)
                if not _SINCE_3_14:
                    self.check_open()
                    self.in_bounds(start)
                if not PyIndex_Check(value):
                    raise TypeError("mmap item value must be an int")
                number = PyNumber_AsSsize_t(value, TypeError)
                if not 0 <= number <= 255:
                    raise ValueError("mmap item value must be in range(0, 256)")
                self.check_open()
            self.store(self.in_bounds(start), <unsigned char>number, "m[i] = byte")
            return
        if not PySlice_Check(item):
            raise TypeError("mmap indices must be integer")
        _unpack_slice(item, &start, &stop, &step)
        PyObject_GetBuffer(value, &source, PyBUF_SIMPLE)
        try:
            self.check_open()
            if source.len != PySlice_AdjustIndices(self.length, &start, &stop, step):
                raise IndexError("mmap slice assignment is wrong size")
            if step == 1:
                self.copy_in(start, source.buf, source.len, "m[i:j] = bytes")
            else:
                self.scatter(start, step, source.len, source.buf)
        finally:
            PyBuffer_Release(&source)

    def __delitem__(self, item):
        cdef Py_ssize_t start, stop, step

        self.check_open()
        self.check_writable()
        if PyIndex_Check(item):
            start = PyNumber_AsSsize_t(item, IndexError)
            if not _SINCE_3_14:
                self.check_open()
                self.in_bounds(start)
            raise TypeError("mmap doesn't support item deletion")
        if PySlice_Check(item):
            PySlice_Unpack(item, &start, &stop, &step)
            raise TypeError("mmap object doesn't support slice deletion")
        raise TypeError("mmap indices must be integer")

    # ---- As a buffer -----------------------------------------------------

    def __getbuffer__(self, Py_buffer *view, int flags):
        self.check_data("memoryview(m)")
        self.lend(view, self, 0, self.length, self.mode == ACCESS_READ, flags)

    def __releasebuffer__(self, Py_buffer *view):
        self.take_back()

    cdef int lend(self, Py_buffer *view, object exporter, Py_ssize_t start,
                  Py_ssize_t stop, bint readonly, int flags) except -1:
        # Other threads may run meanwhile, and cannot close or move it.
        self.exports += 1
        try:
            self.register()
            _fill(view, exporter, self.data + start, stop - start, readonly, flags)
        except BaseException:
            self.exports -= 1
            raise
        if self.region is not None:
            self.region.lent += 1
        return 0

    cdef void take_back(self) noexcept:
        self.exports -= 1
        if self.region is not None:
            self.region.take_back()

    # ---- Views, and what becomes of them ---------------------------------

    # Code that is not ours reads and writes through a buffer, and cannot be guarded.
    # While one may be out the mapping is a registered region: a page that faults
    # becomes a private zeroed one, and the region is poisoned.

    cdef int register(self) except -1:
        cdef Region region

        if self.views == DENY:
            raise BufferError(
                "this mapping was made with views=\"deny\", and hands out no buffer; "
                "slices, read() and readinto() copy"
            )
        if self.views == CRASH or self.granted == SEALED:
            return 0
        if self.granted == KERNEL or not _handler_allowed:
            raise BufferError(
                "this mapping goes by way of the kernel (protection=\"kernel\", "
                "SAFEMMAP_HANDLER=0, or handler.uninstall()), and hands out no buffer; "
                "slices, read() and readinto() copy"
            )
        _ensure_watcher()
        _ensure_handler_for_buffer()
        if self.region is None:
            region = Region.__new__(Region)
            region.describe(self.data, self.length, self.page_size, self.prot)
            region.c.fd = self.fd
            region.c.offset = self.offset
            region.add(self, self.views == INTERRUPT)
            if self.region is None:
                self.region = region
            else:
                region.remove()  # another thread was quicker
                region.forget()
            # From here on nobody uninstalls it.
            _ensure_handler_for_buffer()
        return 0

    cdef Region unregister(self):
        """The region, to be told to `forget` when the change is done, or None."""
        cdef Region region = self.region

        if region is not None:
            self.region = None
            region.remove()
        return region

    cdef bint has_told(self, object error) noexcept:
        """Whether this is what a view's fault raises, in the thread or by an
        operation."""
        return (
            isinstance(error, BusError) and error.poisoned
            and <uintptr_t>self.data <= <uintptr_t>error.address
            < <uintptr_t>self.data + <uintptr_t>self.length
        )

    cdef int fail_poisoned(self, str operation) except -1:
        self.region.tell()
        return _raise(self.poisoned_error(operation))

    cdef object poisoned_error(self, str operation):
        return self.poison_error(
            self.region.error_number(), self.region.fault_page(),
            self.region.c.fault.code, operation,
        )

    cdef object poison_error(self, int error, Py_ssize_t offset, int code,
                             str operation):
        cdef BusError exception = self.bus_error(
            error, offset, <uintptr_t>self.data + offset, code, operation, 0,
            self.length,
        )
        exception.poisoned = True
        return exception

    cdef int warn_unreported(self) except -1:
        """A fault that nobody has asked about is not lost with the mapping."""
        cdef Region region = self.region

        if self.poisoned() and not region.reported:
            region.reported = True
            region.warn(self.describe_self())
        return 0

    @property
    def faulted(self):
        """Whether a view met a page that was gone since the mapping was made or
        `reset`."""
        return self.fault is not None

    @property
    def fault(self):
        """The first `Fault` of a view that met a page which was gone, or None."""
        if not self.poisoned():
            return None
        self.region.reported = True
        return self.region.first_fault(self)

    def check(self):
        """Do nothing unless a view met a page that was gone.

        :raises BusError: one did; see `fault`.
        """
        self.check_data("check")

    def reset(self):
        """Map the file again, so that what was replaced by zeros is data again.

        Does nothing on a mapping that is not poisoned. Changes made through
        ``ACCESS_COPY`` are gone with the old pages.

        :raises BufferError: a view is still out, or an operation under way.
        :raises BusError: the file is still too short.
        :raises ValueError: there is no file, or ``trackfd=False``.
        :raises OSError: as mmap(2) has it; the mapping is what it was.
        """
        cdef Region region
        cdef void *data

        self.check_open()
        if not self.poisoned():
            return
        if self.exports > 0:
            raise BufferError("cannot reset while exported pointers exist")
        if self.fd == -1:
            raise ValueError(
                "mmap can't reset without a file (anonymous, or trackfd=False)"
            )
        self.check_file("reset", 0, self.length)
        data = c_mmap(
            NULL, self.length, self.prot, self.flags, self.fd, self.offset
        )
        if data == MAP_FAILED:
            raise _os_error(errno)
        region = self.unregister()
        _unmap(self.data, self.length)
        self.data = <char *>data
        self.resets += 1
        self.reset_fault = region.fault_page()
        region.forget()
        self.choose_protection(self.fd, again=True)

    cdef int check_file(self, str operation, Py_ssize_t start,
                        Py_ssize_t stop) except -1:
        """Raise BusError unless the file reaches to `stop`.

        The part of the last page that lies past the end of the file reads as zeros
        without a fault.
        """
        cdef Py_ssize_t first = start
        cdef struct_stat status

        if self.fd == -1:
            return 0
        if fstat(self.fd, &status) == -1:
            raise _os_error(errno)
        if S_ISREG(status.st_mode) and status.st_size - self.offset < stop:
            start = max(start, status.st_size - self.offset)
            return _raise(
                self.bus_error(
                    EFAULT, start, <uintptr_t>self.data + start, 0, operation,
                    first, stop,
                )
            )
        return 0

    def access(self, offset=0, length=None, *, bint writable=False):
        """A scope in which a memoryview of `length` bytes from `offset` (all the
        rest if None) may be handed to other code, as with `wl_shm_buffer_begin_access`
        of libwayland.

            with m.access() as view:
                total = numpy.frombuffer(view, dtype="u1").sum()

        The code gets zeros for a page that is gone. Leaving the scope then raises, so
        that no zero passes for data. Scopes nest, and may be held on many threads.

        :param writable: whether the view may be written to.
        :raises ValueError: the range is not in the mapping.
        :raises TypeError: `writable`, and the mapping is read-only.
        :raises BusError: when entered, the mapping is poisoned; when left, a view on
            any thread met a page that was gone, or the file is shorter than the range.
            (A file that was cut and has grown again cannot be told from one that holds
            zeros.)
        :raises BufferError: when left, something still holds the view. The memory
            stays mapped until that is gone.
        """
        cdef Access scope = Access.__new__(Access)

        if writable:
            self.check_writable()
        self.unpack_range(offset, length, &scope.start, &scope.stop)
        scope.mapping = self
        scope.writable = writable
        return scope

    def snapshot(self, offset=0, length=None):
        """A copy of `length` bytes from `offset` (all the rest if None), which the
        peer can no longer change.

        :raises ValueError: the range is not in the mapping.
        :raises BusError: a page is gone, or the file shorter than the range.
        """
        cdef Py_ssize_t start, stop

        self.unpack_range(offset, length, &start, &stop)
        self.check_data("snapshot")
        self.check_file("snapshot", start, stop)
        copied = self.copy_out(start, stop - start, "snapshot")
        self.check_file("snapshot", start, stop)
        return copied

    def readinto(self, buffer, offset=None, /):
        """Fill a writable buffer from `offset`, or from the position, which then
        moves. Returns how many bytes there were.

        :raises ValueError: `offset` is outside the mapping.
        :raises BusError: one of the bytes is on a page that is gone; the buffer may
            have been filled in part.
        """
        cdef Py_ssize_t start = -1, size
        cdef Py_buffer target

        PyObject_GetBuffer(buffer, &target, PyBUF_WRITABLE)
        try:
            if offset is not None:
                start = _index(offset)
            self.check_data("readinto")
            if offset is None:
                start = self.pos
                size = min(target.len, self.remaining())
                self.pos = start + size
            else:
                if not 0 <= start <= self.length:
                    raise ValueError("readinto offset out of range")
                size = min(target.len, self.length - start)
            try:
                self.copy_to(target.buf, start, size, "readinto")
            except BaseException:
                if offset is None:
                    self.give_back(start, size)
                raise
            return size
        finally:
            PyBuffer_Release(&target)

    cdef int unpack_range(self, object offset, object length, Py_ssize_t *ret_start,
                          Py_ssize_t *ret_stop) except -1:
        cdef Py_ssize_t start = _index(offset), size = -1

        if length is not None:
            size = _index(length)
        self.check_open()
        if length is None:
            size = self.length - start
        if start < 0 or size < 0 or self.length - start < size:
            raise ValueError(
                f"offset {start} and length {size} are not within the "
                f"{self.length} bytes of the mapping"
            )
        ret_start[0] = start
        ret_stop[0] = start + size
        return 0


include "_access.pxi"
include "_handler.pxi"
include "_protected.pxi"


cdef void _unmap(char *data, Py_ssize_t size) noexcept nogil:
    """The last page of a mapping is unmapped with it, but on hugetlbfs it has to be
    named in full: the size that the kernel takes is that of the mapping."""
    cdef size_t page = sysconf(_SC_PAGESIZE), whole = size

    while munmap(data, whole) == -1 and errno == EINVAL and page < _LARGEST_PAGE:
        page *= 2
        whole = (<size_t>size + page - 1) // page * page


cdef void _advise_huge_pages(char *start, size_t size) noexcept:
    """For the whole pages in it, where the system allows that."""
    cdef size_t page = sysconf(_SC_PAGESIZE)
    cdef size_t before = (page - <uintptr_t>start % page) % page

    madvise(start + before, (size - before) // page * page, MADV_HUGEPAGE)


cdef size_t _page_size(int fd, int flags) noexcept:
    """Of such a mapping: larger than the system's where it is made of huge ones."""
    cdef struct_statfs status
    cdef unsigned int exponent = (<unsigned int>flags >> MAP_HUGE_SHIFT) & MAP_HUGE_MASK

    if fd == -1 and flags & MAP_HUGETLB:
        return <size_t>1 << exponent if exponent else _DEFAULT_HUGE_PAGE
    if fd != -1 and fstatfs(fd, &status) == 0 and status.f_type == HUGETLBFS_MAGIC:
        return status.f_bsize
    return sysconf(_SC_PAGESIZE)


cdef int _fill(Py_buffer *view, object exporter, char *start, Py_ssize_t size,
               bint readonly, int flags) except -1:
    if readonly and flags & PyBUF_WRITABLE:
        raise BufferError("Object is not writable.")
    view.buf = start
    view.len = size
    view.readonly = readonly
    view.itemsize = 1
    view.format = NULL
    if flags & PyBUF_FORMAT:
        view.format = b"B"
    view.ndim = 1
    view.shape = &view.len if flags & PyBUF_ND else NULL
    view.strides = (
        &view.itemsize if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
    )
    view.suboffsets = NULL
    view.internal = NULL
    view.obj = exporter
    return 0


cdef object _item(object self, Py_ssize_t index):
    """PySequence_GetItem: gives bytes of length one, where `m[i]` is an int."""
    cdef mmap mapping = self

    mapping.check_data("iteration")
    if not 0 <= index < mapping.length:
        raise IndexError("mmap index out of range")
    return mapping.copy_out(index, 1, "iteration")


@cython.final
cdef class _Iterator:
    """The same, one after the other."""

    cdef mmap mapping           # None when it is exhausted
    cdef Py_ssize_t index

    def __iter__(self):
        return self

    def __next__(self):
        cdef unsigned char byte
        cdef safemmap_fault fault
        cdef mmap mapping
        cdef int error

        if self.mapping is None:
            raise StopIteration
        self.mapping.check_data("iteration")
        if self.index >= self.mapping.length:
            self.mapping = None
            raise StopIteration
        error = self.mapping.operations.load(
            self.mapping.data + self.index, &byte, &fault
        )
        if error != 0 or self.mapping.poisoned():
            # (Counts a reference, which costs too much for each byte: what this may
            # call can exhaust this very iterator.)
            mapping = self.mapping
            mapping.fail(error, &fault, "iteration", self.index, self.index + 1)
        self.index += 1
        return <object>_BYTES[byte]

    def __length_hint__(self):
        return 0 if self.mapping is None else max(0, len(self.mapping) - self.index)

    def __reduce__(self):
        if self.mapping is None:
            return iter, ((),)
        return iter, (self.mapping,), self.index

    def __setstate__(self, index):
        if self.mapping is not None:
            self.index = max(0, index)


cdef object _iterate(object self):
    """iter(m)"""
    cdef _Iterator iterator = _Iterator.__new__(_Iterator)

    iterator.mapping = self
    return iterator


cdef int _contains(object self, object value) except -1:
    """value in m"""
    cdef mmap mapping = self
    cdef Py_buffer pattern

    # What iteration yields equals nothing but such bytes, or what says so itself.
    if not PyBytes_CheckExact(value) or PyBytes_GET_SIZE(value) != 1:
        return PySequence_Contains(_iterate(self), value)
    mapping.check_data("in")
    PyObject_GetBuffer(value, &pattern, PyBUF_SIMPLE)
    try:
        return mapping.search_range(&pattern, 0, mapping.length, False, "in") >= 0
    finally:
        PyBuffer_Release(&pattern)


cdef int _set_item(object self, Py_ssize_t index, PyObject *value) except -1:
    """PySequence_SetItem: takes bytes of length one."""
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


cdef int _finish_type() except -1:
    """Set what Cython has no syntax for: the name, the sequence protocol, which differs
    from the mapping protocol in the standard class, and what that class has no method
    for either."""
    cdef TypeObject *mapping_type = <TypeObject *>mmap

    mapping_type.tp_name = "safemmap.mmap"
    mapping_type.tp_iter = _iterate
    mapping_type.tp_as_sequence.sq_contains = _contains
    mapping_type.tp_as_sequence.sq_item = _item
    mapping_type.tp_as_sequence.sq_ass_item = _set_item
    return 0

_finish_type()


cdef int _finish_bus_error() except -1:
    """Have subclasses with an `__init__` of their own treated as OSError treats its
    own: by what makes them."""
    cdef TypeObject *error_type = <TypeObject *>BusError

    error_type.tp_name = "safemmap.BusError"
    error_type.tp_new = (<TypeObject *>OSError).tp_new
    return 0

_finish_bus_error()


cdef inline int _unpack_slice(object item, Py_ssize_t *start, Py_ssize_t *stop,
                              Py_ssize_t *step) except -1:
    """PySlice_Unpack, without a call for `[i:j]`."""
    cdef PySliceObject *slice = <PySliceObject *>item

    start[0] = 0
    stop[0] = PY_SSIZE_T_MAX
    step[0] = 1
    if (
        slice.step == Py_None
        and (slice.start == Py_None or safemmap_small_int(slice.start, start))
        and (slice.stop == Py_None or safemmap_small_int(slice.stop, stop))
    ):
        return 0
    return PySlice_Unpack(item, start, stop, step)


cdef Py_ssize_t _clipped(Py_ssize_t index, Py_ssize_t size) noexcept:
    if index < 0:
        index += size
    return 0 if index < 0 else size if index > size else index


cdef Py_ssize_t _under_way = 0  # operations that have given up the GIL


cdef str _why_not(Protection protection):
    if protection == KERNEL:
        return "the kernel refuses process_vm_readv(2), as a seccomp filter has it do"
    return "the SIGBUS handler cannot be installed"


cdef int _add_seal(int fd) except -1:
    """So that the file cannot shrink. Where that is not to be had, say why."""
    from safemmap._seals import Seal, add_seals, get_seals

    if fd == -1:
        raise SealError(EINVAL, "anonymous memory has no seals, and needs none")
    if Seal.SHRINK not in get_seals(fd):
        add_seals(fd, Seal.SHRINK)
    if _is_on_hugetlbfs(fd):
        raise SealError(
            EOPNOTSUPP,
            "a file of huge pages can lack them, and fault, however it is sealed; use "
            'protection="guarded"'
        )
    return 0


cdef bint _cannot_shrink(int fd, off_t end) noexcept:
    """Whether what lies before `end` stays. The order matters: a file that is not
    sealed yet may be cut after its size was read."""
    cdef struct_stat status
    cdef int seals = fcntl(fd, F_GET_SEALS) if fd != -1 else -1

    return (
        seals > 0 and seals & F_SEAL_SHRINK != 0
        and fstat(fd, &status) == 0 and status.st_size >= end
        and not _is_on_hugetlbfs(fd)
    )


cdef bint _is_on_hugetlbfs(int fd) noexcept:
    cdef struct_statfs status

    return fstatfs(fd, &status) == 0 and status.f_type == HUGETLBFS_MAGIC


cdef Py_ssize_t _checked_length(int fileno, Py_ssize_t length, Py_ssize_t offset,
                                long *block_size) except -1:
    """How many bytes to map, where the descriptor is a file that can tell."""
    cdef struct_stat status
    cdef int failed

    with nogil:
        failed = fstat(fileno, &status)
    if failed or not S_ISREG(status.st_mode):
        return length
    block_size[0] = status.st_blksize
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
