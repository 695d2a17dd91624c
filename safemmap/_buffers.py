"""Finds the memory of an object, whatever library it comes from.

No library is imported for that. Protocols come first: the buffer protocol,
``__array_interface__``, ``__dlpack__``, and last Arrow's C data interface, for which
some libraries copy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from safemmap import _arrow
from safemmap._core import (
    ArrowArray,
    Memory,
    arrow_array,
    arrow_stream,
    dlpack_memory,
    is_file_behind,
)

__all__ = ["buffers"]

_CPU = (1, 3, 11)  # DLPack's kDLCPU, and what CUDA and ROCm call pinned

# In which attribute pandas' own arrays keep what they are made of.
_PANDAS_ARRAYS = (("_ndarray",), ("_pa_array",), ("_data", "_mask"))


def buffers(obj: Any) -> Iterable[Any]:
    """Exporters of all the memory of `obj`. Take them one by one: some are found by
    reading the memory of those before them, see `_arrow.memory_of`.

    :raises TypeError: `obj` offers none.
    :raises BufferError: it offers nothing but a copy.
    """
    if type(obj).__module__.startswith("pyarrow."):
        _check_origin(obj)
    return _buffers(obj)


def _buffers(obj: Any) -> Iterable[Any]:
    reason: Exception | None = None
    try:
        memoryview(obj).release()
    except TypeError:
        pass
    except (BufferError, ValueError) as error:  # NumPy's, for times and dates
        reason = error
    else:
        return (obj,)
    for way in _WAYS:
        found = way(obj)
        if found is not None:
            return found
    raise reason if reason is not None else _unknown(obj)


def _unknown(obj: Any) -> TypeError:
    first = ""
    if hasattr(obj, "read_buffer"):  # pyarrow.MemoryMappedFile
        first = "; protect what its read_buffer() returns"
    elif _is_file(obj):
        first = "; open and map it first"
    return TypeError(
        "protect takes what exports a buffer, Arrow's containers, and arrays, tensors, "
        "frames and series whose memory can be reached without a copy; "
        f"{type(obj).__name__!r} is none of these{first}"
    )


def _is_file(obj: Any) -> bool:
    return isinstance(obj, (str, os.PathLike)) or hasattr(obj, "fileno")


def _copied(obj: Any) -> BufferError:
    kind = type(obj)
    return BufferError(
        f"{kind.__module__.partition('.')[0]} hands out a copy of the memory of this "
        f"{kind.__name__}; to protect the copy would not protect the file behind what "
        "it was made from. Protect that (the array, the columns that need no "
        "conversion), or the whole process with safemmap.enable()"
    )


# ---- Protocols -----------------------------------------------------------


def _array_interface(obj: Any) -> Iterable[Memory] | None:
    interface = getattr(obj, "__array_interface__", None)
    if not isinstance(interface, dict):
        return None
    data = interface.get("data")
    if not isinstance(data, tuple):  # bytes, which PIL has just made
        raise _copied(obj)
    if data[0] != obj.__array_interface__["data"][0]:
        raise _copied(obj)
    shape = interface["shape"]
    if 0 in shape:
        return ()
    match = re.fullmatch(r".(.)(\d+).*", interface["typestr"])
    if match is None:
        raise TypeError(f"no array has elements of type {interface['typestr']!r}")
    size = int(match[2]) * (4 if match[1] == "U" else 1)
    strides = interface.get("strides")
    if strides is None:
        step, strides = size, []
        for extent in reversed(shape):
            strides.insert(0, step)
            step *= extent
    reach = [step * (extent - 1) for step, extent in zip(strides, shape, strict=True)]
    low = data[0] + sum(step for step in reach if step < 0)
    high = data[0] + sum(step for step in reach if step > 0) + size
    return (Memory(low, high - low, obj),)


def _dlpack(obj: Any) -> Iterable[Memory] | None:
    if not hasattr(type(obj), "__dlpack__"):
        return None
    device, _ = obj.__dlpack_device__()
    if device not in _CPU:
        raise BufferError(
            f"the memory of this {type(obj).__name__} is on a device, not in a file"
        )
    if getattr(obj, "requires_grad", False):  # torch's, which does not export these
        obj = obj.detach()
    memory, again = (_dlpack_memory(obj) for _ in range(2))
    if memory.address != again.address:
        raise _copied(obj)
    return (memory,)


def _dlpack_memory(obj: Any) -> Memory:
    try:
        capsule = obj.__dlpack__(max_version=(1, 0))
    except TypeError:
        capsule = obj.__dlpack__()  # as it was before DLPack 1.0
    return dlpack_memory(capsule)


def _arrow_interface(obj: Any) -> Iterable[Memory] | None:
    arrays, again = _exported(obj), _exported(obj)
    if arrays is None or again is None:
        return None
    if _addresses(arrays) != _addresses(again):
        raise _copied(obj)
    return (memory for array in arrays for memory in _arrow.memory_of(array))


def _exported(obj: Any) -> list[ArrowArray] | None:
    if hasattr(type(obj), "__next__"):
        return None  # a reader, which hands everything out once
    if hasattr(type(obj), "__arrow_c_array__"):
        return [arrow_array(*obj.__arrow_c_array__())]
    if hasattr(type(obj), "__arrow_c_stream__"):
        return arrow_stream(obj.__arrow_c_stream__())
    return None


def _addresses(arrays: Iterable[ArrowArray]) -> list[int]:
    return [address for array in arrays for address in _arrow.addresses(array)]


def _check_origin(obj: Any) -> None:
    """Refuse what is in no file: a conversion to Arrow may have made it, and whoever
    reads what it was made from is not protected."""
    arrays = _exported(obj)
    if arrays is None:
        return
    columns: list[tuple[str, Iterable[ArrowArray]]] = [("", arrays)]
    if hasattr(obj, "column_names"):
        children = [array.children for array in arrays]
        columns = [
            (f"the column {name!r} of ", [row[i] for row in children])
            for i, name in enumerate(obj.column_names)
        ]
    for name, parts in columns:
        found = _addresses(parts)
        if found and not any(is_file_behind(at, at + 1) for at in found):
            raise BufferError(
                f"{name}this {type(obj).__name__} is in memory of the process's own, "
                "not in a file: a copy, if it was converted (polars' to_arrow() copies "
                "text). To protect it would not protect the file behind what it was "
                "made from: protect that itself, or the columns that are in a file"
            )


# ---- Containers that are known by what they have ------------------------


def _shared_memory(obj: Any) -> Iterable[Any] | None:
    """`multiprocessing.shared_memory.SharedMemory`, and what `multiprocessing.Array`
    and `Value` return."""
    if isinstance(getattr(obj, "buf", None), memoryview):
        return _buffers(obj.buf)
    if hasattr(obj, "get_obj") and hasattr(obj, "get_lock"):
        return _buffers(obj.get_obj())
    return None


def _pandas(obj: Any) -> Iterator[Any] | None:
    """Frames, series, and the arrays in them. (Their columns can be strided, and then
    ``__arrow_c_stream__`` copies all there is.)"""
    if type(obj).__module__.partition(".")[0] != "pandas":
        return None
    blocks = getattr(getattr(obj, "_mgr", None), "blocks", None)
    if blocks is not None:
        return _all(block.values for block in blocks)
    for names in _PANDAS_ARRAYS:
        if all(hasattr(obj, name) for name in names):
            return _all(getattr(obj, name) for name in names)
    return None


def _dask(obj: Any) -> Iterator[Any] | None:
    """A collection, the memory of which is in the graph of its tasks."""
    graph = getattr(obj, "__dask_graph__", lambda: None)()
    if graph is None:
        return None
    found = list(_in_tasks(graph.values()))
    if not found:
        raise BufferError(
            f"the chunks of this {type(obj).__name__} come into being when they are "
            "computed, and there is no memory to protect yet; safemmap.enable() "
            "protects what the tasks will map"
        )
    return _all(found)


def _in_tasks(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if hasattr(type(value), "__array_interface__"):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _in_tasks(value)
        else:
            yield from _in_tasks((*getattr(value, "args", ()),))
            if hasattr(value, "value"):
                yield from _in_tasks((value.value,))


def _all(objects: Iterable[Any]) -> Iterator[Any]:
    for obj in objects:
        yield from _buffers(obj)


_WAYS: tuple[Callable[[Any], Iterable[Any] | None], ...] = (
    _array_interface,
    _shared_memory,
    _pandas,
    _dask,
    _arrow_interface,
    _dlpack,
)
