"""wrap(): which descriptors of a peer it accepts, and which it refuses."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PAGE, LossyFile, open_fds, run_isolated

import safemmap
from safemmap import ACCESS_COPY, ACCESS_READ, ACCESS_WRITE, _wrap


def test_reads_what_the_peer_wrote(lossy: LossyFile) -> None:
    with safemmap.wrap(lossy.fd) as m:
        assert isinstance(m, safemmap.mmap)
        assert m[:] == lossy.data
        with pytest.raises(TypeError):
            m[0] = 1


def test_range(lossy: LossyFile) -> None:
    with safemmap.wrap(lossy.fd, PAGE, offset=2 * PAGE) as m:
        assert m[:] == lossy.data[2 * PAGE : 3 * PAGE]


def test_writes_reach_the_peer_or_stay_private(lossy: LossyFile) -> None:
    for access, expected in ((ACCESS_COPY, lossy.data[:1]), (ACCESS_WRITE, b"\0")):
        with safemmap.wrap(lossy.fd, access=access) as m:
            m[0] = 0
        assert os.pread(lossy.fd, 1, 0) == expected


def test_has_a_descriptor_of_its_own(lossy: LossyFile) -> None:
    fd = os.dup(lossy.fd)
    before = open_fds()
    m = safemmap.wrap(fd)
    (own,) = open_fds() - before
    assert fcntl.fcntl(own, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.close(fd)
    assert m.size() == len(lossy.data)
    assert m[:] == lossy.data
    m.close()


def test_survives_the_peer(lossy: LossyFile) -> None:
    with safemmap.wrap(lossy.fd) as m:
        lossy.shrink(PAGE)
        with pytest.raises(safemmap.BusError):
            m[:]
        assert m[:PAGE] == lossy.data[:PAGE]


def refused(fd: int, *arguments: int, **options: Any) -> safemmap.PeerError:
    before = open_fds()
    with pytest.raises(safemmap.PeerError) as caught:
        safemmap.wrap(fd, *arguments, **options)
    assert open_fds() == before
    assert address_space_is_clean()
    return caught.value


def address_space_is_clean() -> bool:
    return "wrap-test" not in Path("/proc/self/maps").read_text()


KINDS: dict[str, tuple[Callable[[Path], int], str]] = {
    "directory": (lambda path: os.open(path.parent, os.O_RDONLY), "a directory"),
    "device": (lambda path: os.open("/dev/zero", os.O_RDWR), "a character device"),
    "pipe": (lambda path: os.pipe()[0], "a pipe"),
    "socket": (lambda path: socket.socket().detach(), "a socket"),
    "eventfd": (lambda path: os.eventfd(0), "an anonymous inode"),
}


@pytest.mark.parametrize("kind", ["directory", "device", "pipe", "socket", "eventfd"])
def test_only_regular_files(kind: str, tmp_path: Path) -> None:
    before = open_fds()
    make, name = KINDS[kind]
    fd = make(tmp_path / "wrap-test")
    error = refused(fd)
    assert error.errno == errno.ENODEV
    assert f"fd {fd} is {name}, not a regular file" in str(error)
    for left in open_fds() - before:
        os.close(left)


def test_path_only_descriptor(lossy: LossyFile) -> None:
    fd = os.open(f"/proc/self/fd/{lossy.fd}", os.O_PATH)
    error = refused(fd)
    assert error.errno == errno.EBADF
    assert "O_PATH" in str(error)
    os.close(fd)


def test_closed_descriptor() -> None:
    """A mistake of the caller's own."""
    with pytest.raises(OSError) as caught:
        safemmap.wrap(987)
    assert caught.value.errno == errno.EBADF
    assert not isinstance(caught.value, safemmap.PeerError)


@pytest.mark.parametrize(
    ("mode", "access"),
    [
        (os.O_WRONLY, ACCESS_READ),
        (os.O_WRONLY, ACCESS_COPY),
        (os.O_WRONLY, ACCESS_WRITE),
        (os.O_RDONLY, ACCESS_WRITE),
    ],
)
def test_access_mode(lossy: LossyFile, mode: int, access: int) -> None:
    fd = os.open(f"/proc/self/fd/{lossy.fd}", mode)
    error = refused(fd, access=access)
    assert error.errno == errno.EACCES
    assert f"fd {fd} is not open for reading" in str(error)
    os.close(fd)


@pytest.mark.parametrize(
    ("length", "offset"),
    [(8 * PAGE + 1, 0), (PAGE, 8 * PAGE), (8 * PAGE, PAGE), (2**62, 0), (1, 2**62)],
)
def test_shorter_than_announced(lossy: LossyFile, length: int, offset: int) -> None:
    assert "the file has only 32768" in str(refused(lossy.fd, length, offset=offset))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"length": 1.5}, TypeError),
        ({"length": "1"}, TypeError),
        ({"access": 17}, ValueError),
        ({"access": safemmap.ACCESS_DEFAULT}, ValueError),
        ({"filesystems": "remote"}, ValueError),
        ({"filesystems": None}, ValueError),
        ({"protection": "armoured"}, ValueError),
        ({"views": "none"}, ValueError),
    ],
)
def test_bad_arguments(
    lossy: LossyFile, options: dict[str, Any], error: type[Exception]
) -> None:
    """Mistakes of the caller's own, which no code for bad peers should swallow."""
    before = open_fds()
    with pytest.raises(error) as caught:
        safemmap.wrap(lossy.fd, **options)
    assert not isinstance(caught.value, safemmap.PeerError)
    assert open_fds() == before


@pytest.mark.parametrize("fd", ["3", 3.0, None, 2**40])
def test_bad_descriptor_type(fd: object) -> None:
    with pytest.raises((TypeError, OverflowError)):
        safemmap.wrap(fd)  # type: ignore[arg-type]


def test_empty_file() -> None:
    fd = os.memfd_create("wrap-test")
    assert "empty" in str(refused(fd))
    os.close(fd)


NUMBERS = [0, 1, -1, -5, PAGE, -PAGE, 2**31 - 1, -(2**31), 2**63 - 1, 2**63, 2**70]


@pytest.mark.parametrize("size", [0, 1, 8 * PAGE, 4 << 40, 2**63 - PAGE])
def test_any_number_of_a_peer_is_mapped_or_refused(size: int) -> None:
    """Also sizes of files that fit into no address space."""
    fd = os.memfd_create("wrap-test")
    os.ftruncate(fd, size)
    for length, offset in itertools.product(NUMBERS, NUMBERS):
        try:
            m = safemmap.wrap(fd, length, offset=offset)
        except safemmap.PeerError as error:
            assert error.errno in (errno.EINVAL, errno.ENOMEM, errno.EOVERFLOW)
        else:
            assert len(m) == (length or size - offset)
            m.close()
        with contextlib.suppress(safemmap.PeerError):
            safemmap.wrap(fd, length, offset=offset, max_length=PAGE).close()
    if size > PAGE:
        m = safemmap.wrap(fd, PAGE)
        for length in NUMBERS:
            try:
                m.resize(length, truncate=False)
            except safemmap.PeerError:
                assert length <= 0 or length > min(size, 2**46)
        m.close()
    os.close(fd)


def test_too_large(lossy: LossyFile) -> None:
    for arguments in (8 * PAGE,), (), (0,):
        with safemmap.wrap(lossy.fd, *arguments, max_length=8 * PAGE) as m:
            assert len(m) == 8 * PAGE
        error = refused(lossy.fd, *arguments, max_length=8 * PAGE - 1)
        assert error.errno == errno.EFBIG
        assert f"max_length admits: {8 * PAGE - 1}" in str(error)


def test_a_file_that_changes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer makes its file longer after it was found to be short enough, of which no
    more is mapped; or shorter after it was found to be long enough, as it might do the
    moment after."""
    fd = os.memfd_create("wrap-test")

    def changed_then_mapped(*args: Any, **options: Any) -> safemmap.mmap:
        os.ftruncate(fd, size)
        return safemmap.mmap(*args, **options)

    monkeypatch.setattr(_wrap, "mmap", changed_then_mapped)
    os.ftruncate(fd, PAGE)
    size = 64 * PAGE
    with safemmap.wrap(fd, max_length=PAGE) as m:
        assert len(m) == PAGE
    size = 0
    for arguments in (), (PAGE,):
        os.ftruncate(fd, PAGE)
        with safemmap.wrap(fd, *arguments) as m:
            assert len(m) == PAGE
            with pytest.raises(safemmap.BusError, match="has 0 bytes left"):
                m[0]
    os.close(fd)


def test_no_more_descriptors(lossy: LossyFile) -> None:
    """Which is not this peer's doing, and no reason to part with it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(__file__) as on_disk:
        with open(os.devnull) as last:
            lowest = last.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            for fd in lossy.fd, on_disk.fileno():
                with pytest.raises(OSError) as caught:
                    safemmap.wrap(fd)
                assert caught.value.errno == errno.EMFILE
                assert not isinstance(caught.value, safemmap.PeerError)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestErrorsOfTheCallersOwn:
    """Which no code for bad peers should swallow. (What the SIGBUS handler lacks is
    among them, see test_protection.)"""

    def test_an_audit_hook(self) -> None:
        done = run_isolated("audited.py")
        expected = "PermissionError(1, 'policy') True\n"
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")

    def test_a_signal_handler(
        self, lossy: LossyFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def late(*args: object) -> None:
            raise TimeoutError("too late")

        monkeypatch.setattr(_wrap, "_check_descriptor", late)
        before = open_fds()
        with pytest.raises(TimeoutError, match="too late") as caught:
            safemmap.wrap(lossy.fd)
        assert type(caught.value) is TimeoutError
        assert open_fds() == before
