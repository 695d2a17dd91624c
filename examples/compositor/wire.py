"""Messages as bytes: words of 32 bits in the machine's order. A string or an array has
its length in front; descriptors travel beside the bytes.

A signature has a letter for each argument, as in libwayland: (i)nt, (u)int, (f)ixed,
(s)tring, (o)bject, (n)ew id, (a)rray and descriptor (h); ``?`` allows the next to be
null.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any

HEADER = struct.Struct("=II")  # object; size in bytes, and number of the request
_WORDS = {letter: struct.Struct("=I") for letter in "uon"} | {
    letter: struct.Struct("=i") for letter in "if"
}
_UINT = _WORDS["u"]


class Malformed(ValueError):
    """Bytes that are no message."""


def encode(target: int, opcode: int, signature: str, arguments: Iterable[Any]) -> bytes:
    """Without the descriptors, which `arguments` does not have."""
    body = b"".join(map(_encoded, signature.replace("h", ""), arguments))
    size = HEADER.size + len(body)
    return HEADER.pack(target, size << 16 | opcode) + body


def _encoded(letter: str, value: Any) -> bytes:
    if letter in _WORDS:
        return _WORDS[letter].pack(value)
    content = value.encode(errors="replace") + b"\0" if letter == "s" else bytes(value)
    return _UINT.pack(len(content)) + content + bytes(-len(content) % 4)


def messages(received: bytearray) -> Iterator[tuple[int, int, bytes]]:
    """Take those that are complete: object, number of the request, and the rest."""
    while len(received) >= HEADER.size:
        target, word = HEADER.unpack_from(received)
        size = word >> 16
        if size < HEADER.size or size % 4 != 0:
            raise Malformed(f"a message of {size} bytes")
        if len(received) < size:
            return
        body = bytes(received[HEADER.size : size])
        del received[:size]
        yield target, word & 0xFFFF, body


def decode(signature: str, body: bytes, take_fd: Callable[[], int]) -> list[Any]:
    """An object is its number; null is None. Descriptors are taken last.

    :raises Malformed: and takes none.
    """
    arguments: list[Any] = []
    at, nullable = 0, False
    for letter in signature:
        if letter == "?":
            nullable = True
            continue
        if letter == "h":
            arguments.append(None)
            continue
        value, at = _decoded(letter, body, at)
        if value in (None, 0) and letter in "son":
            if not nullable:
                raise Malformed("null")
            value = None
        arguments.append(value)
        nullable = False
    if at != len(body):
        raise Malformed(f"{len(body)} bytes for {signature!r}")
    for index, letter in enumerate(signature.replace("?", "")):
        if letter == "h":
            arguments[index] = take_fd()
    return arguments


def _decoded(letter: str, body: bytes, at: int) -> tuple[Any, int]:
    end = at + 4
    if end > len(body):
        raise Malformed("too short")
    if letter in _WORDS:
        return _WORDS[letter].unpack_from(body, at)[0], end
    (length,) = _UINT.unpack_from(body, at)
    content = body[end : end + length]
    end += length + -length % 4
    if end > len(body):
        raise Malformed("longer than its message")
    if letter == "a":
        return content, end
    if length == 0:
        return None, end
    if content.find(b"\0") != length - 1:
        raise Malformed("a string that does not end where it says")
    return content[:-1].decode(errors="replace"), end
