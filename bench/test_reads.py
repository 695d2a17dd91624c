"""What a read costs: against the standard mmap and os.pread, 1 byte to 256 MiB.

Every page of the file is resident, and mapped by a pass over it before the clock
starts. Small reads come from the same place every time: they show what the call
costs, not the memory. The random ones come from all over 256 MiB, a place of its own
for each alternative.
"""

from __future__ import annotations

import itertools
import mmap as standard
import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from statement import Statement

import safemmap

KIB, MIB = 1 << 10, 1 << 20
SIZES = [1, 16, 64, 256, KIB, 4 * KIB, 64 * KIB, 256 * KIB, MIB, 16 * MIB, 64 * MIB]


def filled(fd: int, size: int) -> None:
    block = random.Random(0).randbytes(1 << 16)
    for at in range(0, size, len(block)):
        os.pwrite(fd, block[: size - at], at)


@pytest.mark.parametrize("size", [*SIZES, 256 * MIB])
def test_slice(
    compare: Callable[..., None], memfd: Callable[[int], int], size: int
) -> None:
    fd = memfd(size)
    filled(fd, size)
    with standard.mmap(fd, size) as theirs, safemmap.mmap(fd, size) as ours:
        theirs[:], ours[:]
        compare(
            f"m[0:{size:,}]",
            # The last takes a second a round.
            41 if size in SIZES else 11,
            safemmap=Statement(f"m[0:{size}]", {"m": ours}),
            mmap=Statement(f"m[0:{size}]", {"m": theirs}),
            pread=Statement(f"pread(fd, {size}, 0)", {"pread": os.pread, "fd": fd}),
        )


#: So many of the places in one go, with a loop as timeit's around each.
MANY = 1024


def test_random_64_bytes(
    compare: Callable[..., None], memfd: Callable[[int], int]
) -> None:
    size = 256 * MIB
    fd = memfd(size)
    with standard.mmap(fd, size) as theirs, safemmap.mmap(fd, size) as ours:
        theirs.find(b"x"), ours.find(b"x")

        def places(seed: int) -> list[int]:
            """More of them than the caches hold."""
            return random.Random(seed).sample(range(size - 64), 100_000)

        def slices(seed: int) -> list[slice]:
            return [slice(at, at + 64) for at in places(seed)]

        def reads(code: str, where: list[Any], **names: object) -> Statement:
            code = f"for at in islice(where, {MANY}): {code}"
            names |= {"islice": itertools.islice, "where": itertools.cycle(where)}
            return Statement(code, names, count=MANY)

        compare(
            "random 64 B of 256 MiB",
            safemmap=reads("m[at]", slices(1), m=ours),
            mmap=reads("m[at]", slices(2), m=theirs),
            pread=reads("pread(fd, 64, at)", places(3), pread=os.pread, fd=fd),
        )
