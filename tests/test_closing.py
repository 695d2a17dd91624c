"""close_fd(): descriptors that a peer can make us wait for when we close them."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from pathlib import Path

import pytest

import safemmap

NAME = "safemmap.close_fd"


def closers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def test_what_makes_nobody_wait_is_closed_by_the_caller(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    memory = os.memfd_create("unsealed")
    for fd in memory, os.open(tmp_path / "file", os.O_RDONLY), os.open("/", os.O_PATH):
        safemmap.close_fd(fd)
        assert not closers()
        with pytest.raises(OSError):
            os.fstat(fd)


def test_a_socket_that_lingers() -> None:
    """close(2) waits until the other end has taken what was sent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    with theirs:
        ours.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", True, 600)
        )
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                ours.send(bytes(1 << 20))
        ours.setblocking(True)
        safemmap.close_fd(ours.detach())
        (closer,) = closers()
        theirs.settimeout(60)
        while theirs.recv(1 << 20):
            pass
    closer.join(60)
    assert not closers()


def test_what_is_not_open() -> None:
    with pytest.raises(OSError) as caught:
        safemmap.close_fd(987)
    assert caught.value.errno == errno.EBADF
    assert not closers()


def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    ends = os.pipe()
    with pytest.raises(OSError, match="stays open") as caught:
        safemmap.close_fd(ends[0])
    assert caught.value.errno == errno.EAGAIN
    for fd in ends:
        os.close(fd)
