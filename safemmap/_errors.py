"""The exceptions of the package, and what is told of a fault that raised none.

Imports nothing: this is loaded with the package.
"""

from __future__ import annotations

__all__ = [
    "BusError",
    "Fault",
    "FaultWarning",
    "SealError",
    "file_too_short",
]


_DAMAGED_MEMORY = (4, 5)  # BusCode.MCEERR_AR and MCEERR_AO


class BusError(OSError):
    """An access to a mapping met a page that could not be brought in.

    Where the standard library's mapping has the process killed by SIGBUS, this
    is raised by the very operation that met the fault. The mapping stays usable:
    the same operation succeeds once the page can be had again. `errno` is
    ``EFAULT``, or ``EHWPOISON`` for memory that the hardware reported as damaged.

    What was to be written, in the mapping or in the caller's buffer, may have
    been written in part.

    :ivar offset: where the first byte lies that could not be reached, in bytes from
        the start of the mapping (or of the caller's buffer, see `in_buffer`): the
        start of the first page that is gone, or the start of the range asked for
        when that lies inside the page; where a file was found too short without a
        fault, its end.
    :ivar address: the address of that byte.
    :ivar code: a `BusCode`, or the bare ``si_code`` where it has no name; 0 where a
        file was found too short without a fault.
    :ivar operation: the method or operator: ``"read"``, ``"m[i:j]"``, ...
    :ivar in_buffer: whether the page was behind the other buffer of the operation
        (what `write` reads from, say), and not behind the mapping itself.
    :ivar poisoned: whether this is about a fault of the past: a view met a page that
        was gone and got zeros in its place, and no operation is let through until
        `mmap.reset`.
    :ivar start: the range asked for, in bytes from the start of the mapping.
    :ivar stop: its end.
    :ivar needed: how many bytes the file must have for `offset` to be in it; 0 where
        that is not known.
    :ivar file_size: how many it had right after the fault; -1 where that is not known
        (``trackfd=False``).
    """

    offset: int
    address: int
    code: int
    operation: str
    in_buffer: bool
    poisoned: bool
    start: int
    stop: int
    needed: int
    file_size: int

    def __str__(self) -> str:
        if not hasattr(self, "file_size"):
            return super().__str__()
        if self.poisoned:
            return (
                f"[Errno {self.errno}] {self.operation}: a view touched the page at "
                f"offset {self.offset} (address {self.address:#x}) when it was gone, "
                "and got zeros in its place; what was computed from it is wrong. Once "
                "the file is what it should be, call reset() on the mapping, or "
                "protect() what was protected again"
            )
        if self.code == 0:
            return (
                f"[Errno {self.errno}] {self.operation} of bytes {self.start} to "
                f"{self.stop} of the mapping: the file now ends at offset "
                f"{self.offset}, and what lies behind reads as zeros"
            )
        where = f"page of offset {self.offset} (address {self.address:#x})"
        if self.in_buffer:
            what = (
                f"the {where} of the buffer handed to it is gone; it belongs to a "
                "file that was truncated or cannot be read"
            )
        elif self.code in _DAMAGED_MEMORY:
            what = f"the {where} lies in memory that the hardware reports as damaged"
        elif self.file_size < 0:
            what = (
                f"the {where} is gone; the file was truncated, or its filesystem "
                "cannot provide the page"
            )
        elif self.file_size < self.needed:
            what = (
                f"the {where} is gone: the file has {self.file_size} bytes left and "
                f"needs at least {self.needed}; it can be read again once it has grown"
            )
        else:
            what = (
                f"the filesystem cannot provide the {where}: it is full, or the "
                "device answers with an error"
            )
        return (
            f"[Errno {self.errno}] {self.operation} of bytes {self.start} to "
            f"{self.stop} of the mapping failed: {what}"
        )


class Fault:
    """A page that a view touched when it was gone. Cannot be changed; equal to another
    when all but `mapping` is.

    :ivar offset: of the byte that was touched, from the start of the mapping (or of the
        buffer that is protected).
    :ivar address: of that byte.
    :ivar code: a `BusCode`, or the bare ``si_code`` where it has no name.
    :ivar thread: the kernel's id of the thread, see `threading.get_native_id`.
    :ivar time: in seconds since the epoch, as `time.time` has it.
    :ivar mapping: what was touched, an `mmap` (which may be closed) or a `Protected`;
        None when that is gone.
    """

    # (Not a dataclass: `dataclasses` takes longer to import than all of this package.)
    __slots__ = __match_args__ = (
        "offset",
        "address",
        "code",
        "thread",
        "time",
        "mapping",
    )

    offset: int
    address: int
    code: int
    thread: int
    time: float
    mapping: object

    def __init__(
        self,
        offset: int,
        address: int,
        code: int,
        thread: int,
        time: float,
        mapping: object = None,
    ) -> None:
        values = (offset, address, code, thread, time, mapping)
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
        return type(self), tuple(getattr(self, name) for name in self.__slots__)


class SealError(OSError):
    """A file cannot have the seals that were asked for. The message says why.

    `errno` is ``EINVAL`` where there can be no such seals, ``EPERM`` where they may
    not be added, and ``EBUSY`` where the file is in use.
    """


class FaultWarning(RuntimeWarning):
    """A view got zeros in the place of data, and nobody has asked about it."""


def file_too_short(length: int, offset: int, size: int) -> ValueError:
    """For so many bytes from there in a file of `size` bytes."""
    return ValueError(
        f"{length} bytes from offset {offset} were announced, "
        f"but the file has only {size}"
    )
