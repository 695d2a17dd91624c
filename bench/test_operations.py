"""Each operation against the standard mmap's, where nothing happens to the file.

The pages are resident, and mapped before the clock starts: what is measured is the
operation. What moves the position goes through the whole mapping, time and again.
Plain slices are in test_reads.py.
"""

from __future__ import annotations

import mmap as standard
from collections.abc import Callable
from itertools import repeat
from typing import Any

import pytest
from statement import Statement

import safemmap

SIZE = 1 << 16
LINE = b"x" * 79 + b"\n"
CONTENT = (LINE * (SIZE // len(LINE) + 1))[:SIZE]
VALUES = {"few": bytes(64), "half": bytes(SIZE // 2), "whole": bytes(SIZE)}

OPERATIONS = {
    "m[i]": "m[5]",
    "m[-i]": "m[-5]",
    "m[0:128:2]": "m[0:128:2]",
    "m[::2]": "m[::2]",
    "m[::-1]": "m[::-1]",
    "m[i] = n": "m[5] = 7",
    "m[0:64] = b": "m[0:64] = few",
    "m[0:65,536] = b": "m[0:65536] = whole",
    "m[::2] = b": "m[::2] = half",
    "move 64 B": "m.move(0, 1024, 64)",
    "move 32 KiB": "m.move(0, 32768, 32768)",
    "seek, tell": "m.seek(100); m.tell()",
    "len": "len(m)",
    "size": "m.size()",
    "closed": "m.closed",
    "in, hit after 79": "b'\\n' in m",
    "iteration over 64 KiB": "for _ in m: pass",
    "list of 64 KiB": "list(m)",
    "find, hit after 79": "m.find(b'\\n')",
    "find, miss in 64 KiB": "m.find(b'nowhere')",
    "rfind, hit near the end": "m.rfind(b'\\n')",
    "rfind, miss in 64 KiB": "m.rfind(b'nowhere')",
}

#: What moves the position, and how often it can.
MOVING = {
    "read(1)": ("m.read(1)", SIZE),
    "read(64)": ("m.read(64)", SIZE // 64),
    "read(4096)": ("m.read(4096)", SIZE // 4096),
    "read_byte": ("m.read_byte()", SIZE),
    "readline": ("m.readline()", SIZE // len(LINE)),
    "write(64)": ("m.write(few)", SIZE // 64),
    "write_byte": ("m.write_byte(7)", SIZE),
}


@pytest.fixture
def mappings(memfd: Callable[[int], int]) -> dict[str, Any]:
    """Of two files, with the same content."""
    found = {}
    for label, kind in (("safemmap", safemmap.mmap), ("mmap", standard.mmap)):
        found[label] = kind(memfd(SIZE), SIZE)
        found[label][:] = CONTENT
    return found


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(
    compare: Callable[..., None], mappings: dict[str, Any], name: str
) -> None:
    code = OPERATIONS[name]
    alternatives = {
        label: Statement(code, {"m": m, **VALUES}) for label, m in mappings.items()
    }
    compare(name, **alternatives)


@pytest.mark.parametrize("name", MOVING)
def test_moving(
    compare: Callable[..., None], mappings: dict[str, Any], name: str
) -> None:
    code, most = MOVING[name]
    alternatives = {
        label: Statement(code, {"m": m, **VALUES}, "m.seek(0)", most=most)
        for label, m in mappings.items()
    }
    compare(name, **alternatives)


def test_lines(compare: Callable[..., None], memfd: Callable[[int], int]) -> None:
    """A batch is a pass over all of them, so that all of it comes from the memory."""
    size = 64 << 20
    fd = memfd(size)
    count = size // len(LINE)
    with safemmap.mmap(fd, size) as ours, standard.mmap(fd, size) as theirs:
        ours[: count * len(LINE)] = LINE * count
        theirs[:]

        def lines(m: Any) -> Statement:
            code = f"for _ in repeat(None, {count}): m.readline()"
            names = {"m": m, "repeat": repeat}
            return Statement(code, names, "m.seek(0)", most=1, count=count)

        compare("readline of 64 MiB", safemmap=lines(ours), mmap=lines(theirs))
        assert ours.tell() == theirs.tell() == count * len(LINE)


def test_create_and_close(
    compare: Callable[..., None], memfd: Callable[[int], int]
) -> None:
    code, fd = "mmap(fd, 4096).close()", memfd(4096)
    compare(
        "create and close",
        safemmap=Statement(code, {"mmap": safemmap.mmap, "fd": fd}),
        mmap=Statement(code, {"mmap": standard.mmap, "fd": fd}),
    )
