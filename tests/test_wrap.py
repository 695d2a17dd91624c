"""wrap(): which descriptors of a peer it accepts, and which it refuses."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PAGE, LossyFile, open_fds

import safemmap
from safemmap import ACCESS_COPY, ACCESS_READ, ACCESS_WRITE


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


def refused(fd: int, **options: Any) -> OSError:
    before = open_fds()
    with pytest.raises(OSError) as caught:
        safemmap.wrap(fd, **options)
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
    assert refused(987).errno == errno.EBADF


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
    assert isinstance(error, PermissionError)
    assert f"fd {fd} is not open for reading" in str(error)
    os.close(fd)


@pytest.mark.parametrize(
    ("length", "offset"),
    [(8 * PAGE + 1, 0), (PAGE, 8 * PAGE), (8 * PAGE, PAGE), (2**62, 0), (1, 2**62)],
)
def test_shorter_than_announced(lossy: LossyFile, length: int, offset: int) -> None:
    before = open_fds()
    with pytest.raises(ValueError, match="the file has only 32768"):
        safemmap.wrap(lossy.fd, length, offset=offset)
    assert open_fds() == before


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"length": -1}, OverflowError),
        ({"offset": -PAGE}, OverflowError),
        ({"length": 2**70}, ValueError),
        ({"offset": 1}, OSError),
        ({"offset": 8 * PAGE}, ValueError),
        ({"length": 1.5}, TypeError),
        ({"length": "1"}, TypeError),
        ({"access": 17}, ValueError),
        ({"access": safemmap.ACCESS_DEFAULT}, ValueError),
        ({"filesystems": "remote"}, ValueError),
        ({"filesystems": None}, ValueError),
    ],
)
def test_bad_arguments(
    lossy: LossyFile, options: dict[str, Any], error: type[Exception]
) -> None:
    before = open_fds()
    with pytest.raises(error):
        safemmap.wrap(lossy.fd, **options)
    assert open_fds() == before


@pytest.mark.parametrize("fd", ["3", 3.0, None, 2**40])
def test_bad_descriptor_type(fd: object) -> None:
    with pytest.raises((TypeError, OverflowError)):
        safemmap.wrap(fd)  # type: ignore[arg-type]


def test_empty_file() -> None:
    fd = os.memfd_create("wrap-test")
    with pytest.raises(ValueError, match="empty"):
        safemmap.wrap(fd)
    os.close(fd)
