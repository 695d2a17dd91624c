"""The parts of the demo, each played in a process of its own.

`cast` runs this file as a script, by its path: the reader with the standard
``mmap`` has never loaded this package. What a part observes it reports, as JSON,
over the socket that is its standard input.
"""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import importlib
import json
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ["LEFT", "SIZE", "TIMEOUT"]

SIZE = 32 << 20  #: of the peer's file, in bytes
LEFT = 4096  #: and after the peer has shrunk it
TIMEOUT = 10.0  #: seconds; nothing here takes a tenth of it

# How much of the file is written before it is sent. The rest is a hole, which
# fills up as the reader goes through it: the peer can watch the reader's progress.
_WRITTEN = 1 << 20
# Seconds for that; where holes do not fill, the peer shrinks the file regardless.
_WATCH = 1.0


class _Control:
    """The socket to the demo, which is also what keeps this process alive."""

    def __init__(self) -> None:
        self._socket = socket.socket(fileno=0)
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        # Nothing is ever sent here: it is the end of the demo, were it by SIGKILL.
        with contextlib.suppress(ConnectionResetError):  # with reports left unread
            self._socket.recv(1)
        os._exit(1)

    def report(self, event: str, **details: Any) -> None:
        self._socket.send(json.dumps({"event": event, **details}).encode())


def _connected(fd: str) -> socket.socket:
    connection = socket.socket(fileno=int(fd))
    connection.settimeout(TIMEOUT)
    return connection


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# ---- The reader --------------------------------------------------------------


def _read_twice(control: _Control, module: str, first: str, second: str) -> None:
    """Read from one peer and then from the next, with `module` as ``mmap``."""
    _die_quietly()
    mmap = importlib.import_module(module)
    with _connected(first) as peer, _receive(mmap, peer) as mapping:
        control.report("mapped", size=len(mapping))
        peer.send(b"reading")
        try:
            _read_until_it_fails(mapping)
        except OSError as error:
            control.report(
                "fault",
                kind=type(error).__name__,
                message=str(error),
                offset=getattr(error, "offset", -1),
            )
        peer.send(b"grow")
        if peer.recv(16) == b"grown":
            control.report("read on", size=len(mapping), digest=_digest(mapping[:]))
    control.report("ready")
    with _connected(second) as peer, _receive(mmap, peer) as mapping:
        control.report("served", size=len(mapping), digest=_digest(mapping[:]))


def _die_quietly() -> None:
    """Leave neither a traceback nor a core behind."""
    faulthandler.disable()
    # A limit of 0 does not keep a core from a program that core_pattern pipes it
    # to; 1 does, see do_coredump() in Linux, and is too little for a file.
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (1 if hard else 0, hard))


def _receive(mmap: ModuleType, peer: socket.socket) -> Any:
    size, [fd], _, _ = socket.recv_fds(peer, 16, 1)
    with open(fd, "rb"):  # closes it; the mapping has a duplicate
        return mmap.mmap(fd, int(size), access=mmap.ACCESS_READ)


def _read_until_it_fails(mapping: Any) -> None:
    # Once would do on a machine with nothing else to do: should the peer come too
    # late for one read, it is in time for the next.
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        mapping[:]


# ---- The peers ---------------------------------------------------------------


def _shrink(control: _Control, fd: str) -> None:
    """Send a file, and shrink it while the reader is reading it."""
    memory = os.memfd_create("safemmap-demo")
    with _connected(fd) as reader, open(memory, "r+b") as file:
        file.write(os.urandom(_WRITTEN))
        file.truncate(SIZE)
        socket.send_fds(reader, [b"%d" % SIZE], [memory])
        if not reader.recv(16):
            return
        reached = _watch(memory)
        file.truncate(LEFT)
        control.report("shrunk", reached=reached)
        if reader.recv(16) == b"grow":  # not so when the reader has died
            data = os.urandom(_WRITTEN) * (SIZE // _WRITTEN)
            file.seek(0)
            file.write(data)
            file.flush()
            control.report("grown", digest=_digest(data))
            reader.send(b"grown")


def _watch(memory: int) -> int:
    """Wait until the reader is past what was written, in the hole.

    Returns how much of the file is there by now: where the reader has come to.
    """
    deadline = time.monotonic() + _WATCH
    while (reached := os.fstat(memory).st_blocks * 512) <= _WRITTEN:
        if time.monotonic() > deadline:
            break
    return reached


def _behave(control: _Control, fd: str) -> None:
    """Send a file, and leave it alone."""
    data = os.urandom(_WRITTEN)
    memory = os.memfd_create("safemmap-demo")
    with _connected(fd) as reader, open(memory, "r+b", buffering=0) as file:
        file.write(data)
        control.report("sent", digest=_digest(data))
        socket.send_fds(reader, [b"%d" % len(data)], [memory])


_ROLES: dict[str, Callable[..., None]] = {
    "read": _read_twice,
    "shrink": _shrink,
    "behave": _behave,
}

if __name__ == "__main__":
    try:
        _ROLES[sys.argv[1]](_Control(), *sys.argv[2:])
    except Exception:
        # When the demo is killed, its parts lose each other before they know why:
        # time for _follow to end this one, without a traceback.
        time.sleep(0.2)
        raise
