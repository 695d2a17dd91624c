"""What each approach costs where nothing happens, and where a fault does.

Every file is a memfd, allocated and filled; every page of it is mapped by a pass over
it before the clock starts, for all approaches. Small reads come from one place, and
show what the call costs; the random ones come from all over the file.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import safemmap
from safemmap import Seal
from safemmap._commands.compare.approaches import APPROACHES, File, Reader
from safemmap._commands.compare.timing import Timed

__all__ = ["REFERENCE", "Cost", "costs", "fault_latencies"]

REFERENCE = "mmap"
#: The others differ from these only where something goes wrong.
_READERS = (
    "mmap",
    "sealed",
    "guarded",
    "view",
    "kernel",
    "protect",
    "enable",
    "pread",
    "populate",
)
_PAGE = mmap.PAGESIZE
_KIB, _MIB = 1 << 10, 1 << 20
_NO_SEALS = Seal(0)

#: Gives what to time, by the approaches' names, as long as it is open.
Prepare = Callable[[], contextlib.AbstractContextManager[dict[str, Timed]]]


class Cost(NamedTuple):
    name: str
    prepare: Prepare
    #: How many bytes it reads, where that is what it is about.
    size: int | None = None


def costs(*, quick: bool) -> list[Cost]:
    """What is measured; `quick` leaves out what takes long."""
    sizes = [1, 64, 4 * _KIB, 64 * _KIB, _MIB, 64 * _MIB]
    regions = [1000] if quick else [1000, 60_000]
    spread = 64 * _MIB if quick else 1 << 30
    if quick:
        sizes = sizes[:-1]
    return [
        Cost("make a file of 1 MiB", _make),
        Cost("wrap", lambda: _mapping("wrap")),
        Cost("close", lambda: _mapping("close")),
        *(Cost(f"read {_bytes(size)}", _reading(size), size) for size in sizes),
        Cost(f"read 64 B, random in {_bytes(spread)}", _random(spread)),
        Cost("scope: enter and exit", _scope),
        Cost("fault and recover", _faults),
        *(
            Cost(f"read {_bytes(size)}, 2 threads", _threads(size))
            for size in (64, _MIB)
        ),
        *(
            Cost(f"{name}, {count:,} regions", _with_regions(count, prepare))
            for count in regions
            for name, prepare in (
                ("read 64 B", _reading(64)),
                ("scope: enter and exit", _scope),
                ("fault and recover", _faults),
            )
        ),
    ]


def _bytes(size: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (_MIB, "MiB"), (_KIB, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"


class _File:
    def __init__(self, size: int, stack: ExitStack, seals: Seal = _NO_SEALS) -> None:
        self.size = size
        self.map_flags = mmap.MAP_SHARED
        self.fd = safemmap.memfd(size, name="compare", seals=seals)
        stack.callback(os.close, self.fd)
        block = random.Random(0).randbytes(min(size, _MIB))
        for at in range(0, size, len(block)):
            os.pwrite(self.fd, block, at)


# ---- Files and mappings --------------------------------------------------


@contextmanager
def _make() -> Iterator[dict[str, Timed]]:
    def unsealed() -> None:
        fd = os.memfd_create("compare")
        os.posix_fallocate(fd, 0, _MIB)
        os.close(fd)

    yield {REFERENCE: unsealed, "sealed": lambda: os.close(safemmap.memfd(_MIB))}


class _Mapping:
    """Maps a file again and again, or closes what was mapped before."""

    def __init__(self, what: str, file: File, open: Callable[[File], object]) -> None:
        self._close = what == "close"
        self._file = file
        self._open = open
        self._mappings: list[object] = []

    def prepare(self, count: int) -> None:
        self.clear()
        if self._close:
            self._mappings = [self._open(self._file) for _ in range(count)]

    def __call__(self) -> None:
        if self._close:
            self._mappings.pop().close()  # type: ignore[attr-defined]
        else:
            self._mappings.append(self._open(self._file))

    def clear(self) -> None:
        while self._mappings:
            self._mappings.pop().close()  # type: ignore[attr-defined]


@contextmanager
def _mapping(what: str) -> Iterator[dict[str, Timed]]:
    """*wrap* has the checks of an untrusted descriptor in it."""

    def wrap(protection: str) -> Callable[[File], object]:
        return lambda file: safemmap.wrap(
            file.fd,
            file.size,
            protection=protection,  # type: ignore[arg-type]
        )

    with ExitStack() as stack:
        plain = _File(64 * _KIB, stack)
        sealed = _File(64 * _KIB, stack, Seal.SHRINK)
        found = {
            REFERENCE: _Mapping(
                what,
                plain,
                lambda file: mmap.mmap(file.fd, file.size, prot=mmap.PROT_READ),
            ),
            "sealed": _Mapping(what, sealed, wrap("sealed")),
            "guarded": _Mapping(what, plain, wrap("guarded")),
            "kernel": _Mapping(what, plain, wrap("kernel")),
        }
        for each in found.values():
            stack.callback(each.clear)
        yield dict(found)


# ---- Reading -------------------------------------------------------------


@contextmanager
def _readers(size: int) -> Iterator[dict[str, Reader]]:
    with ExitStack() as stack:
        plain, sealed = _File(size, stack), _File(size, stack, Seal.SHRINK)
        found = {
            name: APPROACHES[name].open(sealed if name == "sealed" else plain, stack)
            for name in _READERS
        }
        for read in found.values():
            for at in range(0, size, _MIB):
                read(at, min(at + _MIB, size))
        yield found


def _reading(size: int) -> Prepare:
    @contextmanager
    def prepare() -> Iterator[dict[str, Timed]]:
        with _readers(max(size, _PAGE)) as readers:
            yield {name: _read(read, size) for name, read in readers.items()}

    return prepare


def _read(read: Reader, size: int) -> Timed:
    return lambda: read(0, size)


def _random(spread: int) -> Prepare:
    @contextmanager
    def prepare() -> Iterator[dict[str, Timed]]:
        with _readers(spread) as readers:
            yield {name: _jumping(read, spread) for name, read in readers.items()}

    return prepare


def _jumping(read: Reader, spread: int) -> Timed:
    places = itertools.cycle(
        [at & ~63 for at in random.Random().choices(range(spread - 64), k=1 << 16)]
    )

    def run() -> None:
        at = next(places)
        read(at, at + 64)

    return run


class _Pair:
    """Two threads that read at once."""

    def __init__(self, read: Reader, size: int, pool: ThreadPoolExecutor) -> None:
        self._read, self._size, self._pool = read, size, pool
        self._repeats = 16 if size >= 64 * _KIB else 256
        self.count = 2 * self._repeats

    def _run(self) -> None:
        for _ in range(self._repeats):
            self._read(0, self._size)

    def __call__(self) -> None:
        for future in [self._pool.submit(self._run) for _ in range(2)]:
            future.result()


def _threads(size: int) -> Prepare:
    @contextmanager
    def prepare() -> Iterator[dict[str, Timed]]:
        with _readers(max(size, _PAGE)) as readers, ThreadPoolExecutor(2) as pool:
            yield {name: _Pair(read, size, pool) for name, read in readers.items()}

    return prepare


@contextmanager
def _scope() -> Iterator[dict[str, Timed]]:
    with ExitStack() as stack:
        file = _File(_PAGE, stack)
        theirs = stack.enter_context(mmap.mmap(file.fd, _PAGE))
        ours = stack.enter_context(safemmap.mmap(file.fd, _PAGE))

        def scope() -> None:
            with ours.access():
                pass

        def protect() -> None:
            with safemmap.protect(theirs):
                pass

        yield {
            REFERENCE: lambda: memoryview(theirs).release(),
            "view": scope,
            "protect": protect,
        }


# ---- Faults --------------------------------------------------------------


@contextmanager
def _faults() -> Iterator[dict[str, Timed]]:
    """A read of one byte that is gone, up to where the program has learned of it."""
    with ExitStack() as stack:
        file = _File(4 * _PAGE, stack)
        at = 2 * _PAGE + 5
        guarded, kernel, protect, enable, populate = (
            APPROACHES[name].open(file, stack)
            for name in ("guarded", "kernel", "protect", "enable", "populate")
        )
        os.ftruncate(file.fd, _PAGE)

        def recovered(read: Reader) -> Timed:
            def run() -> None:
                try:
                    bytes(read(at, at + 1))  # the call in which enable() raises
                except OSError:
                    return
                raise AssertionError("no fault")

            return run

        def view() -> None:
            """Of a mapping of its own, since it stays poisoned."""
            os.ftruncate(file.fd, file.size)
            with safemmap.mmap(file.fd, file.size) as m:
                os.ftruncate(file.fd, _PAGE)
                with contextlib.suppress(safemmap.BusError), m.access() as view:
                    view[at]

        yield {
            "guarded": recovered(guarded),
            "view": view,
            "kernel": recovered(kernel),
            "protect": recovered(protect),
            "enable": recovered(enable),
            "pread": lambda: os.pread(file.fd, 1, at),
            "populate": recovered(populate),
        }


def fault_latencies(count: int) -> dict[str, list[int]]:
    """Nanoseconds of so many single faults, for each approach; sorted."""
    with _faults() as alternatives:
        found: dict[str, list[int]] = {name: [] for name in alternatives}
        for _ in range(count):
            for name, fault in alternatives.items():
                start = time.perf_counter_ns()
                fault()
                found[name].append(time.perf_counter_ns() - start)
    return {name: sorted(times) for name, times in found.items()}


# ---- Many regions --------------------------------------------------------


def _with_regions(count: int, prepare: Prepare) -> Prepare:
    @contextmanager
    def inner() -> Iterator[dict[str, Timed]]:
        with ExitStack() as stack:
            fd = os.memfd_create("regions")
            stack.callback(os.close, fd)
            os.ftruncate(fd, count * _PAGE)
            m = stack.enter_context(mmap.mmap(fd, count * _PAGE))
            with memoryview(m) as whole:
                for at in range(0, len(m), _PAGE):
                    stack.enter_context(safemmap.protect(whole[at : at + _PAGE]))
            yield stack.enter_context(prepare())

    return inner
