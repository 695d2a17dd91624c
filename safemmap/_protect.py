"""Protection for memory that somebody else has mapped."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Literal, Self

from safemmap._core import Held
from safemmap._errors import Fault

__all__ = ["Protected", "protect"]


def protect(
    obj: Any, *, views: Literal["deferred", "interrupt"] = "deferred"
) -> Protected:
    """Protect the memory behind a buffer that another library has mapped.

        with safemmap.protect(array):
            total = array.sum()

    Until the end of the block, code that touches a page which is gone gets zeros; then
    `BusError` is raised. After it the memory is as it was before: what was replaced is
    the file's again, and kills the process if it is still gone. Takes effect at once;
    without ``with``, `Protected.close` ends it, and faults are told by
    `Protected.check` and by a `FaultWarning`.

    :param obj: whatever exports a buffer: ``mmap.mmap``, ``numpy.memmap`` and arrays
        made from it (strided ones too: all the pages from the first element to the
        last), ``multiprocessing.shared_memory``'s ``buf``, ``memoryview``,
        ``pyarrow.Buffer``; or pyarrow arrays, record batches and tables. The buffer
        stays exported, so that the memory cannot be unmapped meanwhile. Memory
        that has no file behind it (``array.array``, ``bytes``), and an empty buffer,
        are accepted and never fault.
    :param views: ``"deferred"``, or ``"interrupt"``, which raises `BusError` in the
        thread that touched the page, too; see `safemmap.mmap`.
    :raises TypeError: `obj` exports no buffer.
    :raises BufferError: its buffer is not in one piece of memory (PIL-style arrays), or
        made of huge pages.
    :raises ValueError: `views` is neither of these.
    :raises BusError: a page of it is a zeroed one already, from a fault that another
        `protect`, or the mapping itself, has met.
    """
    return Protected(obj, views)


class Protected:
    """What `protect` returns: a context manager."""

    def __init__(self, obj: Any, views: str) -> None:
        self.entered = False
        self._closed = False
        self._held: list[Held] = []
        self._fault: Fault | None = None
        if views not in ("deferred", "interrupt"):
            raise ValueError(
                f"views must be 'deferred' or 'interrupt' here, not {views!r}"
            )
        self._name = f"<safemmap.Protected {type(obj).__name__} at {id(obj):#x}>"
        try:
            for buffer in _buffers(obj):
                self._held.append(Held(buffer, self, views == "interrupt"))
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return self._name

    @property
    def faulted(self) -> bool:
        """Whether a page was gone when it was touched; also after the end."""
        return self.fault is not None

    @property
    def fault(self) -> Fault | None:
        """The first such fault, or None. Its offset is in bytes from the start of the
        buffer that holds it."""
        faults = [fault for held in self._held if (fault := held.fault) is not None]
        return min(faults, key=lambda fault: fault.time, default=self._fault)

    def check(self) -> None:
        """Do nothing unless a page was gone when it was touched.

        :raises BusError: one was; see `fault`.
        """
        self._raise("check")

    def close(self) -> None:
        """End the protection, and release the buffer. Warns with `FaultWarning` of a
        fault that nobody has asked about."""
        if self._closed:
            return
        self._closed = True
        self._fault = self.fault
        try:
            for held in self._held:
                held.warn_unreported(self._name)
        finally:
            for held in self._held:
                held.release()

    def __enter__(self) -> Self:
        if self._closed:
            raise ValueError("this protection has ended; protect() the object again")
        self.entered = True
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        try:
            self._raise("protect")
        finally:
            self.entered = False
            self.close()

    def __del__(self) -> None:
        if hasattr(self, "_held"):
            self.close()

    def _raise(self, operation: str) -> None:
        errors = [held.error(operation) for held in self._held if held.faulted]
        try:
            if errors:
                raise errors[0]
        finally:
            del errors  # or its traceback would hold it, and all that is protected


def _buffers(obj: Any) -> Iterator[Any]:
    """What exports a buffer, in `obj`. (Arrow's containers do not, but what they are
    made of does.)"""
    if not type(obj).__module__.startswith("pyarrow."):
        yield obj
    elif hasattr(obj, "columns"):  # a table, a record batch
        for column in obj.columns:
            yield from _buffers(column)
    elif hasattr(obj, "chunks"):
        for chunk in obj.chunks:
            yield from _buffers(chunk)
    elif hasattr(obj, "dictionary"):
        yield from _buffers(obj.indices)
        yield from _buffers(obj.dictionary)
    elif hasattr(obj, "buffers"):
        yield from (buffer for buffer in obj.buffers() if buffer is not None)
    else:
        yield obj
