"""find and rfind over 64 MiB, against the standard mmap's and those of bytes, and
against a loop in C that adds up all of it (`memory`): no search that reads everything
can be faster than that.

What is looked for is not there, so that all is read. The texts: random bytes; this
project's README over and over; and such as are made to be slow to search, by a peer who
knows the pattern.
"""

from __future__ import annotations

import functools
import mmap as standard
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from native import Memory

import safemmap

SIZE = 64 << 20
ROUNDS = 7

TEXTS = {
    "random": lambda: random.Random(0).randbytes(1 << 20),
    "README": lambda: (Path(__file__).parent.parent / "README.md").read_bytes(),
    "aaaa": lambda: b"a",
    "abab": lambda: b"ab",
}
PATTERNS = {
    "random": [b"", bytes(range(3)), bytes(range(8)), bytes(range(16)), bytes(1000)],
    "README": [b"the quick", b"e e e"],
    "aaaa": [b"ab", b"aaaab", b"a" * 50 + b"b", b"a" * 500 + b"b" + b"a" * 500],
    "abab": [b"abb", b"ab" * 250 + b"b" + b"ab" * 250],
}
#: Both of these take time by the product of both lengths for it: a quarter of a minute.
QUADRATIC = {("rfind", "aaaa", 1001), ("rfind", "abab", 1001)}


@functools.lru_cache(maxsize=1)
def content(text: str) -> bytes:
    unit = TEXTS[text]()
    content = (unit * (SIZE // len(unit) + 1))[:SIZE]
    # One byte that is not in it, to be looked for alone.
    return content.replace(b"\xff", b"\xfe")


@pytest.mark.parametrize(
    ("text", "pattern", "method"),
    [
        (text, pattern or b"\xff", method)
        for text in TEXTS
        for pattern in PATTERNS[text]
        for method in ("find", "rfind")
    ],
    ids=lambda part: part if isinstance(part, str) else f"{len(part)} B",
)
def test_absent(
    compare: Callable[..., None],
    memfd: Callable[[int], int],
    memory: Memory,
    text: str,
    pattern: bytes,
    method: str,
) -> None:
    searched: dict[str, Any] = {}
    for name, kind in (("safemmap", safemmap.mmap), ("mmap", standard.mmap)):
        fd = memfd(SIZE)
        searched[name] = kind(fd, SIZE)
        searched[name][:] = content(text)
    searched["bytes"] = content(text)
    mapped = searched["mmap"]
    if (method, text, len(pattern)) in QUADRATIC:
        searched = {"safemmap": searched["safemmap"]}

    def searching(where: Any) -> Callable[[], object]:
        search = getattr(where, method)
        return lambda: search(pattern, 0)

    assert searching(searched["safemmap"])() == -1
    compare(
        f"{method} {len(pattern)} B in {text}",
        ROUNDS,
        **{name: searching(where) for name, where in searched.items()},
        memory=functools.partial(memory.read, mapped, 1),
    )
