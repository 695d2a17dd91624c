"""What runs in the middle of an operation, and takes the mapping away. Argument:
which."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import os
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable

import safemmap

SIZE = 400_000


def mapping() -> safemmap.mmap:
    fd = os.memfd_create("file")
    os.ftruncate(fd, SIZE)
    try:
        return safemmap.mmap(fd, SIZE)
    finally:
        os.close(fd)


def displace() -> None:
    """And wait for the time after which a thread looks again."""
    signal.signal(signal.SIGBUS, lambda *_: None)
    time.sleep(0.001)


def until_it_warns(hook: Callable[[], None], step: Callable[[], object]) -> None:
    """Displaces the handler until it gives up, which calls the hook in a `step`."""
    called: list[object] = []

    def show(*args: object, **kwargs: object) -> None:
        called.append(args)
        hook()

    warnings.showwarning = show
    warnings.simplefilter("always")
    for _ in range(200):
        displace()
        step()
        if called:
            return
    sys.exit("no warning")


def iterator_exhausted_by_a_warning() -> None:
    iterator = iter(mapping())
    waste: list[bytes] = []

    def exhaust() -> None:
        for _ in iterator:
            pass
        waste.extend(bytes([7]) * size for size in range(40, 500) for _ in range(50))

    until_it_warns(exhaust, lambda: list(itertools.islice(iterator, 64)))


def closed_by_a_warning() -> None:
    """In the first part of a search, which is the 64th small operation."""
    m = mapping()

    def search() -> None:
        m.find(b"nowhere")
        if m.closed:
            sys.exit("in the second part")
        for _ in range(63):
            m[0]
        displace()
        try:
            m.find(b"nowhere")
        except ValueError:
            assert m.closed

    until_it_warns(m.close, search)
    assert m.closed


def closed_while_close_warns() -> None:
    fd = os.memfd_create("file")
    os.ftruncate(fd, SIZE)
    m = safemmap.mmap(fd, SIZE)
    view = memoryview(m)
    os.ftruncate(fd, 0)
    assert view[0] == 0
    address = ctypes.addressof(ctypes.c_char.from_buffer(view))
    view.release()
    enumerate_threads = threading.enumerate

    def close_it() -> list[threading.Thread]:
        m.close()
        return enumerate_threads()

    threading.enumerate = close_it
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        m.close()
    assert f"(address {address:#x})" in str(caught[-1].message), caught[-1].message


class Late:
    """Uses a view when the modules are gone already."""

    def __init__(self, m: safemmap.mmap) -> None:
        self.m, self.hash, self.write = m, hashlib.sha256, os.write
        self.hash(m)

    def __del__(self) -> None:
        try:
            self.write(1, self.hash(self.m).hexdigest()[:9].encode() + b"\n")
        except BaseException as error:
            self.write(1, repr(error).encode())


def view_at_the_very_end() -> None:
    sys.late = Late(mapping())  # type: ignore[attr-defined]


def first_view_without_descriptors() -> None:
    m = mapping()
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    assert hashlib.sha256(m).digest() == hashlib.sha256(bytes(SIZE)).digest()


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    print("done", flush=True)
