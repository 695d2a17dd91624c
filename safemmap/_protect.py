"""protect(): protection for foreign mappings, found behind arrays and frames."""

from __future__ import annotations

from typing import Any, Literal

from safemmap._buffers import buffers
from safemmap._core import Protected

__all__ = ["protect"]


def protect(
    obj: Any, *, views: Literal["auto", "deferred", "interrupt"] = "auto"
) -> Protected:
    """Protect the memory behind a buffer that another library has mapped.

        with safemmap.protect(array):
            total = array.sum()

    Until the end of the block, code that touches a lost page reads zeros; then
    `BusError` is raised. Afterwards the memory is as it was before: the file's own
    pages are back, and touching one that is still lost kills the process. Takes effect
    at once; without ``with``, `Protected.close` ends it, and `Protected.check` and a
    `FaultWarning` report the faults.

    :param obj: whatever exports a buffer: ``mmap.mmap``, ``numpy.memmap`` and arrays
        made from it (strided ones too: all the pages from the first element to the
        last), ``memoryview``, ``pyarrow.Buffer``; or what holds such memory: frames
        and series of polars and pandas, pyarrow's arrays and tables, torch's tensors,
        ``SharedMemory`` and ``Array`` of ``multiprocessing``, dask's arrays, and
        whatever hands out its memory by ``__arrow_c_stream__``, ``__arrow_c_array__``,
        ``__array_interface__`` or ``__dlpack__`` without a copy. It is kept, and its
        buffers stay exported, so that the memory cannot be unmapped meanwhile. Memory
        that has no file behind it (``array.array``, ``bytes``), and an empty buffer,
        are accepted and never fault.
    :param views: ``"deferred"``, or ``"interrupt"``, which raises `BusError` from
        the call that touched the page, too; see `safemmap.mmap`. ``"auto"``: what
        that has, as far as it is one of these; else ``"deferred"``.
    :raises TypeError: the memory of `obj` cannot be reached.
    :raises BufferError: it can be had as a copy only, or is one: a pyarrow container
        with a column in no file may be what polars' ``to_arrow()`` made of text, and
        to protect that would not protect the file which the frame goes on to read. Or
        a buffer is not in one piece of memory (PIL-style arrays), or made of huge
        pages.
    :raises ValueError: `views` is neither of these.
    :raises BusError: a page of it is a zeroed one already, from a fault under another
        `protect` or in a view of the mapping itself; or the page that holds the length
        of one of its buffers is lost.
    """
    return Protected(obj, buffers(obj), views)
