"""close_fd(): descriptors that a peer can make us wait for when we close them."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
import warnings
from pathlib import Path

import pytest
from conftest import run_isolated

import safemmap
from safemmap._closing import _MOST_THREADS as MOST_THREADS
from safemmap._filesystems import closes_at_once

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


def test_who_frees_a_large_file() -> None:
    fd = os.memfd_create("large")
    os.ftruncate(fd, 1 << 40)
    safemmap.close_fd(fd)  # which has no pages
    assert not closers()
    fd = os.memfd_create("large")
    os.posix_fallocate(fd, 0, 16 << 20)
    assert not closes_at_once(fd)
    safemmap.close_fd(fd)
    for closer in closers():
        closer.join(60)
    with pytest.raises(OSError):
        os.fstat(fd)


def lingering() -> tuple[int, socket.socket]:
    """A socket for whose other end close(2) waits, and that end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", True, 600))
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            ours.send(bytes(1 << 20))
    ours.setblocking(True)
    return ours.detach(), theirs


def test_a_socket_that_lingers() -> None:
    """close(2) waits until the other end has taken what was sent."""
    fd, theirs = lingering()
    with theirs:
        safemmap.close_fd(fd)
        (closer,) = closers()
        theirs.settimeout(60)
        while theirs.recv(1 << 20):
            pass
    closer.join(60)
    assert not closers()


def test_a_socket_in_which_one_that_lingers_lies_unread() -> None:
    fd, theirs = lingering()
    ours, peer = socket.socketpair()
    with theirs, peer:
        socket.send_fds(peer, [b"x"], [fd])
        os.close(fd)  # not the last
        safemmap.close_fd(ours.detach())
        (closer,) = closers()
    closer.join(60)
    assert not closers()


def test_the_number_of_threads_is_bounded() -> None:
    """And the end of one is enough for all that came meanwhile."""
    made = [lingering() for _ in range(MOST_THREADS + 8)]
    fds, others = zip(*made, strict=True)
    for fd in fds:
        safemmap.close_fd(fd)
    while len(threads := closers()) > MOST_THREADS:
        pass  # until those that are too many have seen that
    assert len(threads) == MOST_THREADS
    for theirs in others:
        theirs.close()  # with bytes unread, so that ours does not linger
    for thread in threads:
        thread.join(60)
    assert not closers()
    for fd in fds:
        with pytest.raises(OSError):
            os.fstat(fd)


def test_a_child_has_threads_of_its_own() -> None:
    made = [lingering() for _ in range(MOST_THREADS)]
    for fd, _ in made:
        safemmap.close_fd(fd)
    ends = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads
        child = os.fork()
    if child == 0:
        safemmap.close_fd(ends[0])
        for closer in closers():
            closer.join(60)
        os._exit(os.path.exists(f"/proc/self/fd/{ends[0]}"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    threads = closers()
    for _, theirs in made:
        theirs.close()
    for thread in threads:
        thread.join(60)
    for end in ends:
        os.close(end)


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


class Interrupt(BaseException):
    """As Ctrl-C, or a signal handler of the program's, raises."""


@pytest.mark.parametrize("started", [False, True])
def test_interrupted(started: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before there is a thread, and when there is one; more often than there may be
    threads."""
    start = threading.Thread.start

    def interrupted(self: threading.Thread) -> None:
        if started:
            start(self)
        raise Interrupt

    (last, _), *pipes = made = [os.pipe() for _ in range(MOST_THREADS + 2)]
    for ours, _ in pipes:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", interrupted)
            with pytest.raises(Interrupt):
                safemmap.close_fd(ours)
    safemmap.close_fd(last)
    for closer in closers():
        closer.join(60)
    for ours, theirs in made:
        with pytest.raises(OSError):
            os.fstat(ours)
        os.close(theirs)


@pytest.mark.parametrize("where", ["caller", "closer"])
def test_called_by_itself(where: str) -> None:
    done = run_isolated("closing.py", where, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed 0\n", "")
