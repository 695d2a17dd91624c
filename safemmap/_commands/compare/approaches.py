"""The ways to read a file that somebody else can change."""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple, Protocol

import safemmap
from safemmap import Seal

__all__ = ["APPROACHES", "Approach", "File", "Reader"]

_MADV_POPULATE_READ = 22


class File(Protocol):
    @property
    def fd(self) -> int: ...

    size: int
    map_flags: int


#: The bytes from one offset to before another.
Reader = Callable[[int, int], bytes]


class Approach(NamedTuple):
    name: str
    #: What it is, in a line.
    description: str
    #: Map the file, for as long as the stack is open.
    open: Callable[[File, ExitStack], Reader]


def _standard(file: File, stack: ExitStack) -> mmap.mmap:
    return stack.enter_context(
        mmap.mmap(file.fd, file.size, flags=file.map_flags, prot=mmap.PROT_READ)
    )


def _safe(file: File, stack: ExitStack, **options: Any) -> safemmap.mmap:
    return stack.enter_context(
        safemmap.mmap(file.fd, file.size, file.map_flags, safemmap.PROT_READ, **options)
    )


def _mmap(file: File, stack: ExitStack) -> Reader:
    m = _standard(file, stack)
    return lambda start, stop: m[start:stop]


def _sealed_mmap(file: File, stack: ExitStack) -> Reader:
    safemmap.add_seals(file.fd, Seal.SHRINK)
    return _mmap(file, stack)


def _sealed(file: File, stack: ExitStack) -> Reader:
    m = _safe(file, stack, protection="sealed")
    return lambda start, stop: m[start:stop]


def _guarded(file: File, stack: ExitStack) -> Reader:
    m = _safe(file, stack, protection="guarded")
    return lambda start, stop: m[start:stop]


def _view(file: File, stack: ExitStack) -> Reader:
    m = _safe(file, stack, protection="guarded")

    def read(start: int, stop: int) -> bytes:
        with m.access(start, stop - start) as view:
            return bytes(view)

    return read


def _kernel(file: File, stack: ExitStack) -> Reader:
    m = _safe(file, stack, protection="kernel")
    return lambda start, stop: m[start:stop]


def _protect(file: File, stack: ExitStack) -> Reader:
    m = _standard(file, stack)

    def read(start: int, stop: int) -> bytes:
        with safemmap.protect(m):
            return m[start:stop]

    return read


def _enable(file: File, stack: ExitStack) -> Reader:
    safemmap.enable()
    stack.callback(safemmap.disable)
    return _mmap(file, stack)


def _pread(file: File, stack: ExitStack) -> Reader:
    return lambda start, stop: os.pread(file.fd, stop - start, start)


def _populate(file: File, stack: ExitStack) -> Reader:
    m = _standard(file, stack)

    def read(start: int, stop: int) -> bytes:
        first = start // mmap.PAGESIZE * mmap.PAGESIZE
        m.madvise(_MADV_POPULATE_READ, first, stop - first)
        return m[start:stop]

    return read


def _naive(file: File, stack: ExitStack) -> Reader:
    before = signal.signal(signal.SIGBUS, lambda *_: None)
    stack.callback(signal.signal, signal.SIGBUS, before)
    return _mmap(file, stack)


APPROACHES: dict[str, Approach] = {
    approach.name: approach
    for approach in (
        Approach("mmap", "the standard mmap", _mmap),
        Approach("mmap, sealed", "the standard mmap of a sealed file", _sealed_mmap),
        Approach("sealed", "safemmap, protection='sealed'", _sealed),
        Approach("guarded", "safemmap, operations under the handler", _guarded),
        Approach("view", "safemmap, a memoryview in a scope: m.access()", _view),
        Approach("kernel", "safemmap, protection='kernel'", _kernel),
        Approach("protect", "the standard mmap under safemmap.protect()", _protect),
        Approach("enable", "the standard mmap under safemmap.enable()", _enable),
        Approach("pread", "os.pread: no mapping", _pread),
        Approach("populate", "MADV_POPULATE_READ, then the standard mmap", _populate),
        Approach("signal", "a signal.signal handler that does nothing", _naive),
    )
}
