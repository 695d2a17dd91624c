"""Protection for memory that somebody else has mapped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from safemmap._core import Protected

__all__ = ["protect"]


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
    return Protected(obj, _buffers(obj), views)


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
    elif hasattr(obj, "buffers"):  # an array
        yield from (buffer for buffer in obj.buffers() if buffer is not None)
        yield from _dictionaries(obj)
    else:
        yield obj


def _dictionaries(array: Any) -> Iterator[Any]:
    """Those of an array and of what it is made of, which are not among its buffers."""
    if hasattr(array, "dictionary"):
        yield from _buffers(array.dictionary)
    if hasattr(array, "field"):  # a struct, a union
        for i in range(array.type.num_fields):
            yield from _dictionaries(array.field(i))
    for part in ("values", "keys", "items", "storage"):  # a list, a map, an extension
        child = getattr(array, part, None)
        if hasattr(child, "buffers"):
            yield from _dictionaries(child)
