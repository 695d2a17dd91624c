# cython: language_level=3, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
# What CPython calls fastest: methods as the standard class has them.
# cython: binding=False, always_allow_keywords=False
"""The compiled module: binds the C core, and turns what it reports into exceptions.

Its parts, each built on those before it:

    _mappings.pxi     which files are mapped in the process
    _origin.pxi       where an exception comes from: the mapping, the file
    _bus_error.pxi    the exception
    _defaults.pxi     what holds where a mapping is not told otherwise
    _interrupt.pxi    an exception for a thread that runs somebody else's code
    _standard_class.pxi  what the standard class of this Python does
    _region.pxi       pages registered with the core while a view may be out
    _exit_status.pxi  the status of a process that ends with untold faults
    _process.pxi      the protection of the whole process
    _fault_queue.pxi  the faults of views, on their way to the program
    _file.pxi         what the kernel says of the file behind a mapping
    _memory.pxi       what is mapped, and how an access is made and fails
    _views.pxi        the buffers that a mapping hands out, and scopes
    _mmap.pxi         the methods and operators of the standard class
    _sequence.pxi     its sequence protocol
    _pinned.pxi       short reads of several threads at once
    _mmap_type.pxi    what Cython has no syntax for in that class
    _handler.pxi      the SIGBUS handler: when it is needed, and its state
    _protected.pxi    protection for foreign buffers
    _capsule.pxi      what extension modules get that the core does not have
    _exports.pxi      memory that other libraries describe in a struct of C

The behaviour of `mmap` is that of `Modules/mmapmodule.c` of the running CPython,
quirks included. Every access to mapped memory goes through a guarded operation of the
core.

With the GIL a mapping changes only while no operation is under way on it, save
for the bulk ones, which release the GIL; those pin the mapping as an exported
buffer would. Where there is no GIL, each method holds a critical section on its object
(_free_threading.h), save for short reads, which pin the mapping (_pin.h). A thread that
waits for another section gives that one up, as it would the GIL: so a change of a
mapping is complete before it enters the one on `_accounts`.
"""

cimport cython
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_Check,
    PyBytes_FromObject,
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
    PyBuffer_FillInfo,
    PyBuffer_Release,
    PyObject_CheckBuffer,
    PyObject_GetBuffer,
)
from cpython.contextvars cimport (
    PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
)
from cpython.dict cimport PyDict_Clear
from cpython.module cimport PyImport_GetModuleDict
from cpython.number cimport PyIndex_Check, PyNumber_AsSsize_t
from cpython.object cimport PyObject
from cpython.sequence cimport PySequence_Contains
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid, PyCapsule_New
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.slice cimport PySlice_Check
from cpython.weakref cimport PyWeakref_NewRef
from cpython.exc cimport (
    PyErr_CheckSignals, PyErr_SetObject, PyErr_WarnEx, PyErr_WriteUnraisable
)
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
from libc.stdint cimport (
    int32_t,
    int64_t,
    uint8_t,
    uint16_t,
    uint32_t,
    uint64_t,
    uintptr_t,
)
from libc.stdio cimport snprintf
from libc.string cimport strcpy, strlen
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
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec
from posix.types cimport dev_t, ino_t, off_t, pid_t
from posix.unistd cimport (
    _SC_PAGESIZE,
    close,
    ftruncate,
    getpid,
    pread,
    readlink,
    sysconf,
)

from safemmap._csrc cimport *
from safemmap._free_threading cimport *
from safemmap._pin cimport *
from safemmap._system cimport *
from safemmap._watcher cimport *

# Whatever Python has loaded already: what is imported here is imported by everybody.
import atexit
import os
import sys
from _thread import get_ident
from time import monotonic

from safemmap._errors import (
    Fault,
    FaultWarning,
    PeerError,
    SealError,
    describe_bus_error,
    describe_file_fault,
    file_too_short,
    mmap_arguments,
)

cdef enum AccessMode:
    ACCESS_DEFAULT, ACCESS_READ, ACCESS_WRITE, ACCESS_COPY

# How accesses survive.
cdef enum Protection:
    AUTO, SEALED, GUARDED, KERNEL

# What becomes of buffers that are handed out.
cdef enum Views:
    DEFERRED, INTERRUPT, DENY, CRASH

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


cdef int _keep_bytes() except -1:
    cdef int byte
    cdef char character
    cdef object number, one

    for byte in range(256):
        character = <char>byte
        number, one = byte, PyBytes_FromStringAndSize(&character, 1)
        Py_INCREF(number)
        Py_INCREF(one)
        _INTS[byte] = <PyObject *>number
        _BYTES[byte] = <PyObject *>one
    return 0

_keep_bytes()

cdef str _POISONED = os.strerror(EHWPOISON)
cdef str _BAD_ADDRESS = os.strerror(EFAULT)

# Of the huge pages that x86-64 and aarch64 give who does not say which, in bytes.
cdef size_t _DEFAULT_HUGE_PAGE = <size_t>2 << 20
# SECRETMEM_MAGIC, which headers before Linux 5.14 do not have.
cdef long _SECRET_MEMORY_MAGIC = 0x5345434d
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


include "_mappings.pxi"
include "_origin.pxi"
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


cdef Py_ssize_t _argument(str name, object value) except? -1:
    """That of a method which the standard class does not have."""
    if not PyIndex_Check(value):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__!r}")
    return _index(value)


cdef Py_ssize_t _announced(object value) except? -1:
    """A size that a peer has chosen."""
    try:
        return _index(value)
    except OverflowError:
        raise PeerError(
            EINVAL, f"{value} bytes were announced, more than can be mapped"
        ) from None


cdef int _int(object value) except? -1:
    cdef Py_ssize_t number = _index(value)

    if not INT_MIN <= number <= INT_MAX:
        raise OverflowError("Python int too large to convert to C int")
    return <int>number


cdef int _choice(str name, object value, dict choices, tuple more=()) except -1:
    """`more`: names that are not for this to look up."""
    found = choices.get(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, (*more, *choices)))}, "
            f"not {value!r}"
        )
    return found


def switch(str name, bint default):
    """What a variable of the environment says, which is 0 or 1."""
    value = os.environ.get(name, "")
    if value not in ("", "0", "1"):
        raise ValueError(f"{name} must be 0 or 1, not {value!r}")
    return value == "1" if value else default


def check_choices(protection, views):
    """Raise ValueError if `mmap` does not know these."""
    _choice("protection", protection, _PROTECTIONS)
    if views != "auto":
        _choice("views", views, _VIEWS, ("auto",))


include "_defaults.pxi"
include "_interrupt.pxi"
include "_standard_class.pxi"
include "_region.pxi"
include "_exit_status.pxi"
include "_process.pxi"
include "_fault_queue.pxi"
include "_file.pxi"
include "_memory.pxi"
include "_views.pxi"
include "_mmap.pxi"
include "_sequence.pxi"
include "_pinned.pxi"
include "_mmap_type.pxi"
include "_handler.pxi"
include "_protected.pxi"
include "_capsule.pxi"
include "_exports.pxi"
