"""The exceptions of the package, and `Fault`, which describes a fault of a view.

Imports nothing but built-in modules: this is loaded with the package.
"""

from __future__ import annotations

from errno import EINVAL

TYPE_CHECKING = False  # typing.TYPE_CHECKING, which takes longer to import than this
if TYPE_CHECKING:
    from safemmap._codes import BusCode
    from safemmap._core import BusError, Protected, mmap

__all__ = [
    "Fault",
    "FaultWarning",
    "PeerError",
    "SealError",
    "describe_bus_error",
    "describe_file_fault",
    "file_too_short",
    "mmap_arguments",
]


_DAMAGED_MEMORY = (4, 5)  # BusCode.MCEERR_AR and MCEERR_AO


class Fault:
    """A page that was gone when a view, or under `enable` any code, touched it.
    Immutable; two are equal if they differ in `mapping`, `path` and `name` alone.

    :ivar offset: of the byte that was touched, from the start of the mapping (or of the
        buffer that is protected, or the region; under `enable`, of the file).
    :ivar address: of that byte.
    :ivar code: a `BusCode`, or the bare ``si_code`` where it has no name.
    :ivar thread: the kernel's id of the thread, see `threading.get_native_id`.
    :ivar time: in seconds since the epoch, as `time.time` has it.
    :ivar mapping: what was touched, an `mmap` (which may be closed) or a `Protected`;
        None when that is gone, under `enable`, in a copy and after unpickling.
    :ivar path: the file behind it as the kernel names it, see `BusError`.
    :ivar name: of the region, where an extension module has registered the memory (see
        docs/extensions.md); else None.
    """

    # (Not a dataclass: `dataclasses` takes longer to import than all of this package.)
    __slots__ = __match_args__ = (
        "offset",
        "address",
        "code",
        "thread",
        "time",
        "mapping",
        "path",
        "name",
    )

    offset: int
    address: int
    code: BusCode | int
    thread: int
    time: float
    mapping: mmap | Protected | None
    path: str | None
    name: str | None

    def __init__(
        self,
        offset: int,
        address: int,
        code: BusCode | int,
        thread: int,
        time: float,
        mapping: mmap | Protected | None = None,
        path: str | None = None,
        name: str | None = None,
    ) -> None:
        values = (offset, address, code, thread, time, mapping, path, name)
        for name, value in zip(self.__slots__, values, strict=True):
            object.__setattr__(self, name, value)

    def _key(self) -> tuple[object, ...]:
        return self.offset, self.address, self.code, self.thread, self.time

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        fields = (f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__qualname__}({', '.join(fields)})"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot assign to {name!r} of a fault")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot delete {name!r} of a fault")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (*self._key(), None, self.path, self.name)


class PeerError(OSError, ValueError):
    """`wrap` refuses what a peer sent: the descriptor, or a number that came with it.
    So does ``mmap.resize(truncate=False)``. Nothing is mapped then that was not before.

    `errno` is ``EINVAL`` for a number that does not suit the file (negative, beyond
    its end, not aligned); ``EFBIG`` for more bytes than the caller admits; ``EBADF``,
    ``ENODEV``, ``EACCES`` and ``EOPNOTSUPP`` for a descriptor of the wrong kind, see
    `wrap`; and else what mmap(2) or mremap(2) has for such a file.
    """

    __module__ = "safemmap"


class SealError(PeerError):
    """A file cannot have the seals that were asked for. The message says why.

    A `PeerError`, since `wrap` looks for them in a peer's file.

    `errno` is ``EINVAL`` where there can be no such seals, ``EPERM`` where they may
    not be added, and ``EBUSY`` where the file is in use.
    """

    __module__ = "safemmap"


class FaultWarning(RuntimeWarning):
    """Code read zeros in the place of data: a page was gone, and the program has not
    asked (`mmap.check`, `faults`) whether one was.

    Under `enable` there is one for each file, in addition to the exception.
    """

    __module__ = "safemmap"


def describe_bus_error(error: BusError) -> str:
    """Its message: what happened, to which bytes, and what to do."""
    if error.operation in ("load", "store"):
        what = describe_file_fault(
            error.path,
            error.offset,
            error.file_size,
            stored=error.operation == "store",
            damaged=error.code in _DAMAGED_MEMORY,
        )
        return f"[Errno {error.errno}] {what}"
    of_file = "" if error.path is None else f" of {error.path!r}"
    if error.poisoned:
        if error.under_protect:
            remedy = "protect() the object again"
        elif error.mapping is not None:
            remedy = "call reset() on the mapping (this error's mapping attribute)"
        else:  # it is gone, or an extension module's
            remedy = "have its owner map it again"
        by = "" if error.operation == "view" else f"{error.operation}: "
        if error.name:
            of_file = f" of region {error.name!r}"
        return (
            f"[Errno {error.errno}] {by}a view{of_file} touched the page at offset "
            f"{error.offset} (address {error.address:#x}) when it was gone, and got "
            "zeros in its place; discard what was computed from it. Once the file is "
            f"whole again, {remedy}"
        )
    if error.code == 0:
        return (
            f"[Errno {error.errno}] {error.operation} of bytes {error.start} to "
            f"{error.stop} of the mapping{of_file}: the file now ends at offset "
            f"{error.offset}; the rest of that page reads as zeros, and pages behind "
            "it are gone"
        )
    where = f"page at offset {error.offset} (address {error.address:#x})"
    if error.in_buffer:
        what = (
            f"the {where} of the buffer handed to it is gone; it belongs to a "
            "file that was truncated or cannot be read"
        )
    elif error.code in _DAMAGED_MEMORY:
        what = f"the {where} lies in memory that the hardware reports as damaged"
    elif error.file_size < 0:
        what = (
            f"the {where} is gone; the file was truncated, or its filesystem "
            "cannot provide the page"
        )
    elif error.file_size < error.needed:
        what = (
            f"the {where} is gone: the file has {error.file_size} bytes left and "
            f"needs at least {error.needed}; it can be read again once it has grown"
        )
    else:
        what = (
            f"the filesystem cannot provide the {where}: it is full, or the "
            "device answers with an error"
        )
    return (
        f"[Errno {error.errno}] {error.operation} of bytes {error.start} to "
        f"{error.stop} of the mapping{of_file} failed: {what}"
    )


def describe_file_fault(
    path: str | None, offset: int, size: int, *, stored: bool, damaged: bool
) -> str:
    """Describes a fault in a foreign mapping, and what to do about it.

    `offset` is that of the byte in the file, which has `size` bytes left (-1: unknown).
    """
    name = repr(path) if path else "a file without a name"
    where = f"offset {offset} of {name}"
    if stored:
        what = f"the bytes stored at {where} are lost"
    else:
        what = f"the page at {where} is gone, and was read as zeros"
    cut = "the file was made shorter, " if size < 0 else ""
    if damaged:
        return f"{what}: the hardware reports damaged memory; load the file again"
    if 0 <= size <= offset:
        return f"{what}: the file has {size} bytes left; load it again"
    if stored:
        return (
            f"{what}: {cut}the filesystem is full, or cannot provide the page; make "
            "room, and write them again"
        )
    return (
        f"{what}: {cut}the filesystem cannot provide the page, or the device answers "
        "with an error; load it again once it can be read"
    )


def file_too_short(length: int, offset: int, size: int) -> PeerError:
    """The error for a mapping of `length` bytes from `offset` in a file of `size`."""
    return PeerError(
        EINVAL,
        f"{length} bytes from offset {offset} were announced, "
        f"but the file has only {size}; its owner must lengthen it first",
    )


def mmap_arguments(
    fileno: object,
    length: object,
    flags: object = None,
    prot: object = None,
    access: object = None,
    offset: object = None,
    *,
    trackfd: object = None,
    protection: object = None,
    views: object = None,
) -> None:
    """:raises TypeError: by CPython, for what is no call of `mmap`."""


mmap_arguments.__qualname__ = "mmap"  # as which it is reported
