"""What a read costs: against the standard mmap and os.pread, 1 byte to 64 MiB.

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

import pytest

import safemmap

SIZES = [1, 64, 4096, 65536, 1 << 20, 1 << 26]


def filled(fd: int, size: int) -> None:
    block = random.Random(0).randbytes(1 << 16)
    for at in range(0, size, len(block)):
        os.pwrite(fd, block[: size - at], at)


@pytest.mark.parametrize("size", SIZES)
def test_slice(
    compare: Callable[..., None], memfd: Callable[[int], int], size: int
) -> None:
    fd = memfd(size)
    filled(fd, size)
    with standard.mmap(fd, size) as theirs, safemmap.mmap(fd, size) as ours:
        theirs[:], ours[:]
        compare(
            f"m[0:{size:,}]",
            safemmap=lambda: ours[0:size],
            mmap=lambda: theirs[0:size],
            pread=lambda: os.pread(fd, size, 0),
        )


def test_random_64_bytes(
    compare: Callable[..., None], memfd: Callable[[int], int]
) -> None:
    size = 256 << 20
    fd = memfd(size)
    with standard.mmap(fd, size) as theirs, safemmap.mmap(fd, size) as ours:
        theirs.find(b"x"), ours.find(b"x")

        def places(seed: int) -> Callable[[], int]:
            numbers = random.Random(seed).sample(range(size - 64), 100_000)
            return itertools.cycle(numbers).__next__

        ours_at, theirs_at, pread_at = places(1), places(2), places(3)

        def ours_read() -> bytes:
            at = ours_at()
            return ours[at : at + 64]

        def theirs_read() -> bytes:
            at = theirs_at()
            return theirs[at : at + 64]

        compare(
            "random 64 B of 256 MiB",
            safemmap=ours_read,
            mmap=theirs_read,
            pread=lambda: os.pread(fd, 64, pread_at()),
        )
