"""Finds the memory of an Arrow array.

Arrow's C data interface has the addresses of buffers. Their lengths follow from the
type, see "Buffer Listing for Each Layout" in
https://arrow.apache.org/docs/format/Columnar.html.
"""

from __future__ import annotations

from collections.abc import Iterator

from safemmap._core import ArrowArray, Memory, read_integer

__all__ = ["addresses", "memory_of"]

_VALIDITY = 1  # bit for each element
_VIEW = 128

# Of the elements in the buffer after the validity, in bits.
_FIXED = {
    "b": 1, "c": 8, "C": 8, "s": 16, "S": 16, "i": 32, "I": 32, "l": 64, "L": 64,
    "e": 16, "f": 32, "g": 64,
    "tdD": 32, "tdm": 64, "tts": 32, "ttm": 32, "ttu": 64, "ttn": 64,
    "tDs": 64, "tDm": 64, "tDu": 64, "tDn": 64, "tiM": 32, "tiD": 64, "tin": 128,
}  # fmt: skip
# Of the offsets in there, one more than there are elements: into the buffer that
# comes next, or into a child.
_OFFSETS = {"u": 32, "z": 32, "U": 64, "Z": 64, "+l": 32, "+m": 32, "+L": 64}
# Of all the buffers.
_OTHERS: dict[str, tuple[int, ...]] = {
    "n": (),
    "+r": (),
    "+s": (_VALIDITY,),
    "+w": (_VALIDITY,),
    "+ud": (8, 32),
    "+us": (8,),
    "+vl": (_VALIDITY, 32, 32),
    "+vL": (_VALIDITY, 64, 64),
    "vu": (_VALIDITY, _VIEW),
    "vz": (_VALIDITY, _VIEW),
}


def memory_of(array: ArrowArray) -> Iterator[Memory]:
    """The buffers of an array, its children and its dictionary. Some buffers hold the
    length of a later one, and are read when that is due: a caller that protects each
    buffer as it comes has protected them by then."""
    if array.length > 0:
        yield from _own_memory(array)
    for part in _parts(array):
        yield from memory_of(part)


def addresses(array: ArrowArray) -> Iterator[int]:
    """The addresses of the same buffers."""
    if array.length > 0:
        found = array.buffers
        if array.format in ("vu", "vz"):
            del found[-1]  # lengths, which the exporter makes
        yield from filter(None, found)
    for part in _parts(array):
        yield from addresses(part)


def _parts(array: ArrowArray) -> Iterator[ArrowArray]:
    yield from array.children
    if array.dictionary is not None:
        yield array.dictionary


def _own_memory(array: ArrowArray) -> Iterator[Memory]:
    kind, buffers = array.format, array.buffers
    end = array.offset + array.length
    for address, bits in zip(buffers, _widths(kind), strict=False):
        count = end + (kind in _OFFSETS and bits == _OFFSETS[kind])
        yield from _memory(address, (bits * count + 7) // 8, array)
    if kind in ("vu", "vz"):
        *data, lengths = buffers[2:]
        for i, address in enumerate(data):
            yield from _memory(address, read_integer(lengths + i * 8, 8), array)
    elif kind in ("u", "z", "U", "Z"):
        width = _OFFSETS[kind] // 8
        _, offsets, data_address = buffers
        size = read_integer(offsets + end * width, width)
        yield from _memory(data_address, size, array)


def _memory(address: int, size: int, owner: ArrowArray) -> Iterator[Memory]:
    if address and size > 0:
        yield Memory(address, size, owner)


def _widths(kind: str) -> tuple[int, ...]:
    """The size of the elements in each buffer that has one for every element of the
    array, in bits."""
    name, _, parameters = kind.partition(":")
    if name in _FIXED:
        return _VALIDITY, _FIXED[name]
    if name in _OFFSETS:
        return _VALIDITY, _OFFSETS[name]
    if name in _OTHERS:
        return _OTHERS[name]
    if name == "w":
        return _VALIDITY, int(parameters) * 8
    if name == "d":
        _, _, *width = parameters.split(",")
        return _VALIDITY, int(width[0]) if width else 128
    if name.startswith("ts"):
        return _VALIDITY, 64
    raise BufferError(f"the layout of Arrow's type {kind!r} is not known")
