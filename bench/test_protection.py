"""What each way of protection costs: guarded (`safemmap` in the table), sealed, and by
way of the kernel, against the standard mmap and against copying with os.pread.

Every page is resident. *wrap* has the checks of an untrusted descriptor in it;
*receive* is all that is done with one: wrap, a scope over all of it (a copy where there
are no views), and close.
"""

from __future__ import annotations

import mmap as standard
import os
from collections.abc import Callable, Iterator

import pytest

import safemmap
from safemmap import Seal

SIZES = [4096, 65536, 1 << 20, 1 << 24, 1 << 28]


@pytest.fixture
def files(memfd: Callable[[int], int]) -> Iterator[Callable[[int], tuple[int, int]]]:
    """files(size): two alike, the second sealed."""
    sealed = []

    def make(size: int) -> tuple[int, int]:
        sealed.append(safemmap.memfd(size))
        return memfd(size), sealed[-1]

    yield make
    for fd in sealed:
        os.close(fd)


@pytest.mark.parametrize("size", [4096, 1 << 20])
def test_make_and_seal(compare: Callable[..., None], size: int) -> None:
    """The sender's side."""

    def make(seals: Seal) -> Callable[[], None]:
        return lambda: os.close(safemmap.memfd(size, seals=seals))

    compare(
        f"memfd({size:,})",
        safemmap=make(Seal.SHRINK | Seal.GROW | Seal.SEAL),
        unsealed=make(Seal(0)),
    )


@pytest.mark.parametrize("way", ["guarded", "sealed", "kernel"])
def test_wrap_and_close(
    compare: Callable[..., None],
    files: Callable[[int], tuple[int, int]],
    way: str,
) -> None:
    fd, sealed = files(4096)
    if way == "sealed":
        fd = sealed

    def run() -> None:
        safemmap.wrap(fd, 4096, protection=way).close()  # type: ignore[arg-type]

    compare(
        f"wrap and close, {way}",
        safemmap=run,
        mmap=lambda: standard.mmap(fd, 4096, access=standard.ACCESS_READ).close(),
    )


@pytest.mark.parametrize("size", SIZES)
def test_read(
    compare: Callable[..., None], files: Callable[[int], tuple[int, int]], size: int
) -> None:
    fd, sealed_fd = files(size)
    with (
        standard.mmap(fd, size) as theirs,
        safemmap.mmap(fd, size) as guarded,
        safemmap.mmap(sealed_fd, size) as sealed,
        safemmap.mmap(fd, size, protection="kernel") as kernel,
    ):
        assert (sealed.protection, guarded.protection) == ("sealed", "guarded")
        theirs[:], guarded[:], sealed[:]
        compare(
            f"m[0:{size:,}]",
            safemmap=lambda: guarded[0:size],
            sealed=lambda: sealed[0:size],
            kernel=lambda: kernel[0:size],
            mmap=lambda: theirs[0:size],
            pread=lambda: os.pread(fd, size, 0),
        )


@pytest.mark.parametrize("size", [4096, 1 << 20])
def test_receive(
    compare: Callable[..., None], files: Callable[[int], tuple[int, int]], size: int
) -> None:
    fd, sealed = files(size)

    def scope(fd: int) -> Callable[[], None]:
        def run() -> None:
            with safemmap.wrap(fd, size) as m, m.access() as view:
                view[size - 1]

        return run

    def copy() -> None:
        with safemmap.wrap(fd, size, protection="kernel") as m:
            m.snapshot()

    compare(
        f"receive {size:,}",
        safemmap=scope(fd),
        sealed=scope(sealed),
        kernel=copy,
        pread=lambda: os.pread(fd, size, 0),
    )
