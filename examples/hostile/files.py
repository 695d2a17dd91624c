"""Descriptors that nobody should be handed, each for as long as its context lasts."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from safemmap import testing

SIZE = 1 << 20  # bytes, of each that is a file


@contextmanager
def opened(fd: int, *others: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        for one in (fd, *others):
            os.close(one)


def memory(size: int = SIZE) -> int:
    # In messages about it, a name that is no text, and controls terminals.
    fd = os.memfd_create("hostile\udcff\x1b[2J", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    return fd


def write_only() -> int:
    fd = memory()
    with opened(fd):
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY)


@contextmanager
def lingering_socket() -> Iterator[int]:
    """Whoever closes it last waits for its other end, for up to ten minutes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    with ours, theirs:
        linger = struct.pack("ii", True, 600)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        ours.setblocking(False)
        try:
            while True:
                ours.send(bytes(1 << 20))
        except BlockingIOError:
            pass
        ours.setblocking(True)
        yield ours.fileno()


@contextmanager
def fuse() -> Iterator[int]:
    """A file whose server answers with errors."""
    with testing.FuseError(SIZE) as file:
        yield file.fd


#: What is no file that can be mapped.
NO_FILES: dict[str, Callable[[], AbstractContextManager[int]]] = {
    "directory": lambda: opened(os.open(tempfile.gettempdir(), os.O_RDONLY)),
    "pipe": lambda: opened(*os.pipe()),
    "device": lambda: opened(os.open("/dev/zero", os.O_RDWR)),
    "terminal": lambda: opened(*os.openpty()),
    "eventfd": lambda: opened(os.eventfd(0)),
    "path only": lambda: opened(os.open("/proc/self/exe", os.O_PATH)),
    "write-only": lambda: opened(write_only()),
    "proc": lambda: opened(os.open("/proc/self/status", os.O_RDONLY)),
    "lingering socket": lingering_socket,
    "FUSE": fuse,
}
