"""What each way of protection costs: guarded over sealed, by way of the kernel over
copying with os.pread, and scopes over views of the standard mmap.

Every page is resident. *wrap* has the checks of an untrusted descriptor in it;
*receive* is all that is done with one: wrap, a scope over all of it (a copy where there
are no views), and close.
"""

from __future__ import annotations

import mmap as standard
import os
from collections.abc import Callable, Iterator

import pytest
from statement import Statement

import safemmap
from safemmap import Seal

SIZES = [1, 64, 4096, 65536, 1 << 20, 1 << 24]


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
        sealed=make(Seal.SHRINK | Seal.GROW | Seal.SEAL),
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

    names = {
        "wrap": safemmap.wrap,
        "mmap": standard.mmap,
        "READ": standard.ACCESS_READ,
        "fd": fd,
        "way": way,
    }
    compare(
        f"wrap and close, {way}",
        safemmap=Statement("wrap(fd, 4096, protection=way).close()", names),
        mmap=Statement("mmap(fd, 4096, access=READ).close()", names),
    )


@pytest.mark.parametrize("size", SIZES)
def test_guarded(
    compare: Callable[..., None], files: Callable[[int], tuple[int, int]], size: int
) -> None:
    fd, sealed_fd = files(max(size, 4096))
    with safemmap.mmap(fd, 0) as guarded, safemmap.mmap(sealed_fd, 0) as sealed:
        assert (sealed.protection, guarded.protection) == ("sealed", "guarded")
        guarded[:], sealed[:]
        compare(
            f"sealed or not, m[0:{size:,}]",
            guarded=Statement(f"m[0:{size}]", {"m": guarded}),
            sealed=Statement(f"m[0:{size}]", {"m": sealed}),
        )


@pytest.mark.parametrize("size", SIZES)
def test_kernel(
    compare: Callable[..., None], memfd: Callable[[int], int], size: int
) -> None:
    fd = memfd(max(size, 4096))
    with safemmap.mmap(fd, 0, protection="kernel") as m:
        compare(
            f"by the kernel, m[0:{size:,}]",
            kernel=Statement(f"m[0:{size}]", {"m": m}),
            pread=Statement(f"pread(fd, {size}, 0)", {"pread": os.pread, "fd": fd}),
        )


def test_scope(compare: Callable[..., None], memfd: Callable[[int], int]) -> None:
    """It asks the kernel for the size of the file, and who handles SIGBUS."""
    fd = memfd(65536)
    with safemmap.mmap(fd, 0) as ours, standard.mmap(fd, 0) as theirs:
        compare(
            "scope",
            safemmap=Statement("with m.access(): pass", {"m": ours}),
            memoryview=Statement("memoryview(m).release()", {"m": theirs}),
            # The standard class's size() is fstat(2), and little else.
            with_fstat=Statement("memoryview(m).release(); m.size()", {"m": theirs}),
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
        guarded=scope(fd),
        sealed=scope(sealed),
        kernel=copy,
        pread=lambda: os.pread(fd, size, 0),
    )
