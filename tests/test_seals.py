"""Seals, and files that are sealed from birth."""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import mmap as standard
import os
import resource
import socket
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from conftest import PAGE, libc, open_fds, pattern

import safemmap
from safemmap import Seal, SealError, _seals

numpy = pytest.importorskip("numpy")

LIMIT = 1 << 24
Raised = TypeVar("Raised", bound=BaseException)


@pytest.fixture
def memfd() -> Iterator[Callable[..., int]]:
    """`safemmap.memfd`, whose files are closed after the test."""
    made = []

    def make(*args: object, **options: object) -> int:
        made.append(safemmap.memfd(*args, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for fd in made:
        os.close(fd)


@pytest.fixture
def file_size_limit() -> Iterator[None]:
    """No file may be larger than `LIMIT`, those in memory included."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size + 1, 0)


def fails(error: type[Raised], call: Callable[[], object]) -> Raised:
    before = open_fds()
    with pytest.raises(error) as caught:
        call()
    assert open_fds() == before
    return caught.value


def test_values_are_those_of_the_kernel() -> None:
    for name in ("SEAL", "SHRINK", "GROW", "WRITE"):
        assert Seal[name] == getattr(fcntl, f"F_SEAL_{name}")
    assert (Seal.FUTURE_WRITE, Seal.EXEC) == (0x10, 0x20)  # linux/fcntl.h


def test_seals_are_added_up(memfd: Callable[..., int]) -> None:
    fd = memfd(PAGE, seals=Seal(0))
    assert safemmap.get_seals(fd) in (Seal(0), Seal.EXEC)
    safemmap.add_seals(fd, Seal.GROW)
    safemmap.add_seals(fd, Seal.SHRINK)
    seals = safemmap.get_seals(fd)
    assert isinstance(seals, Seal)
    assert seals & ~Seal.EXEC == Seal.GROW | Seal.SHRINK


def test_takes_what_has_a_descriptor(memfd: Callable[..., int]) -> None:
    with open(memfd(PAGE, seals=Seal(0)), "rb", closefd=False) as file:
        safemmap.add_seals(file, Seal.GROW)
        assert Seal.GROW in safemmap.get_seals(file)


def test_file_that_takes_no_seals() -> None:
    fd = os.memfd_create("unsealable")
    assert safemmap.get_seals(fd) == Seal.SEAL
    error = fails(SealError, lambda: safemmap.add_seals(fd, Seal.SHRINK | Seal.GROW))
    assert error.errno == errno.EPERM
    assert f"SHRINK|GROW cannot be added to fd {fd}: it takes no more" in str(error)
    os.close(fd)


def test_file_that_is_open_for_reading_only(memfd: Callable[..., int]) -> None:
    fd = os.open(f"/proc/self/fd/{memfd(PAGE, seals=Seal(0))}", os.O_RDONLY)
    error = fails(SealError, lambda: safemmap.add_seals(fd, Seal.SHRINK))
    assert error.errno == errno.EPERM
    assert "not open for writing" in str(error)
    os.close(fd)


def test_file_that_is_mapped_for_writing(memfd: Callable[..., int]) -> None:
    fd = memfd(PAGE, seals=Seal(0))
    with standard.mmap(fd, PAGE):
        error = fails(SealError, lambda: safemmap.add_seals(fd, Seal.WRITE))
        assert error.errno == errno.EBUSY
        assert "it is mapped for writing" in str(error)
    safemmap.add_seals(fd, Seal.WRITE)
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)


def test_files_without_seals() -> None:
    pair = os.pipe()
    opened = {
        "pipe": pair[1],
        "socket": socket.socket().detach(),
        "eventfd": os.eventfd(0),
        "device": os.open("/dev/null", os.O_RDWR),
    }
    for fd in opened.values():
        for call in (safemmap.get_seals, lambda fd: safemmap.add_seals(fd, Seal.GROW)):
            with pytest.raises(SealError, match=f"fd {fd} is of a kind that") as caught:
                call(fd)
            assert caught.value.errno == errno.EINVAL
    for fd in (pair[0], *opened.values()):
        os.close(fd)


def test_descriptors_that_are_none(memfd: Callable[..., int]) -> None:
    path_only = os.open(f"/proc/self/fd/{memfd(PAGE)}", os.O_PATH)
    for fd in (987, path_only):
        for call in (safemmap.get_seals, lambda fd: safemmap.add_seals(fd, Seal.GROW)):
            with pytest.raises(OSError) as caught:
                call(fd)
            assert caught.value.errno == errno.EBADF
            assert not isinstance(caught.value, SealError)
    os.close(path_only)
    with pytest.raises(TypeError):
        safemmap.get_seals("3")  # type: ignore[arg-type]


def test_seals_that_the_kernel_lacks_are_named(memfd: Callable[..., int]) -> None:
    future = Seal(0x4000_0000)
    error = fails(SealError, lambda: memfd(PAGE, seals=Seal.GROW | Seal.SEAL | future))
    assert error.errno == errno.EINVAL
    assert str(error).endswith("this kernel does not have 0x40000000")
    assert "SEAL|GROW|0x40000000 cannot be added" in str(error)


def test_no_seal_is_lost_on_the_way_to_the_kernel(memfd: Callable[..., int]) -> None:
    fails(OverflowError, lambda: memfd(PAGE, seals=1 << 32 | Seal.SHRINK))
    fails(TypeError, lambda: memfd(PAGE, seals="SHRINK"))


def test_memfd_is_sealed_from_birth(memfd: Callable[..., int]) -> None:
    fd = memfd(PAGE)
    wanted = Seal.SHRINK | Seal.GROW | Seal.SEAL
    assert safemmap.get_seals(fd) & ~Seal.EXEC == wanted
    for size in (PAGE - 1, PAGE + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    with pytest.raises(SealError):
        safemmap.add_seals(fd, Seal.WRITE)
    assert os.pwrite(fd, b"written", 0) == 7


@pytest.mark.parametrize(("seals", "forbidden"), [(0, False), (Seal.WRITE, True)])
def test_holes_are_forbidden_by_the_write_seal(
    memfd: Callable[..., int], seals: Seal, forbidden: bool
) -> None:
    fd = memfd(pattern(PAGE), seals=Seal.SHRINK | Seal.GROW | seals)
    keep_size_and_punch = 0x01 | 0x02  # linux/falloc.h
    offset = ctypes.c_long
    result = libc.fallocate(fd, keep_size_and_punch, offset(0), offset(PAGE))
    assert (result == -1) is forbidden
    assert content(fd) == (pattern(PAGE) if forbidden else bytes(PAGE))


def test_memfd_with_other_seals(memfd: Callable[..., int]) -> None:
    fd = memfd(b"constant", seals=Seal.WRITE | Seal.SHRINK)
    assert safemmap.get_seals(fd) & ~Seal.EXEC == Seal.WRITE | Seal.SHRINK
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)
    assert content(fd) == b"constant"


@pytest.mark.parametrize("size", [1, PAGE, 3 * PAGE + 1, numpy.int64(PAGE), True])
def test_memfd_of_a_size_has_its_memory(memfd: Callable[..., int], size: int) -> None:
    fd = memfd(size)
    assert content(fd) == bytes(int(size))
    assert os.fstat(fd).st_blocks * 512 >= size


STRIDED = memoryview(bytes(range(100)))[::-3]
GRID = numpy.arange(12, dtype="u2").reshape(3, 4)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"bytes", b"bytes"),
        (bytearray(b"array"), b"array"),
        (array.array("I", [1, 2]), array.array("I", [1, 2]).tobytes()),
        (ctypes.c_uint16(513), bytes(ctypes.c_uint16(513))),
        (STRIDED, STRIDED.tobytes()),
        (GRID, GRID.tobytes()),
        (numpy.asfortranarray(GRID), GRID.tobytes()),
        (GRID[:, ::2], GRID[:, ::2].tobytes()),
        (pattern(5 * PAGE + 1), pattern(5 * PAGE + 1)),
    ],
)
def test_memfd_of_data(
    memfd: Callable[..., int], data: object, expected: bytes
) -> None:
    fd = memfd(data)
    assert content(fd) == expected
    assert os.read(fd, PAGE) == expected[:PAGE]  # it stands at the start


@pytest.mark.parametrize("data", [0, b"", numpy.empty((0, 3))])
def test_memfd_of_nothing_cannot_be_mapped(
    memfd: Callable[..., int], data: object
) -> None:
    fd = memfd(data)
    assert content(fd) == b""
    with pytest.raises(ValueError, match="empty"):
        safemmap.wrap(fd)


def test_memfd_survives_short_writes(
    memfd: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: write(fd, data[:7], at))
    assert content(memfd(pattern(100))) == pattern(100)


def test_memfd_lets_go_of_the_data(memfd: Callable[..., int]) -> None:
    data = bytearray(b"data")
    memfd(data)
    data.clear()  # BufferError while it is exported


def test_memfd_is_close_on_exec_and_has_a_name(memfd: Callable[..., int]) -> None:
    for options, name in (({}, "safemmap"), ({"name": "spam"}, "spam")):
        fd = memfd(PAGE, **options)
        assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        assert os.readlink(f"/proc/self/fd/{fd}") == f"/memfd:{name} (deleted)"


def test_memfd_cannot_become_executable(memfd: Callable[..., int]) -> None:
    fd = memfd(PAGE)
    if Seal.EXEC not in safemmap.get_seals(fd):
        release = tuple(map(int, os.uname().release.split(".")[:2]))
        assert release < (6, 3)
        pytest.skip("MFD_NOEXEC_SEAL came with Linux 6.3")
    assert os.fstat(fd).st_mode & 0o111 == 0
    with pytest.raises(PermissionError):
        os.fchmod(fd, 0o755)


def test_memfd_where_the_kernel_has_no_noexec(
    memfd: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    create = os.memfd_create

    def older(name: str, flags: int) -> int:
        if flags & ~(os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return create(name, flags)

    monkeypatch.setattr(os, "memfd_create", older)
    fd = memfd(PAGE)
    assert safemmap.get_seals(fd) == Seal.SHRINK | Seal.GROW | Seal.SEAL
    assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


@pytest.mark.usefixtures("file_size_limit")
@pytest.mark.parametrize("what", [LIMIT + 1, bytes(LIMIT + 1)], ids=["size", "data"])
def test_memfd_that_may_not_be_so_large(
    memfd: Callable[..., int], what: object
) -> None:
    error = fails(OSError, lambda: memfd(what))
    assert error.errno == errno.EFBIG


# With the limit, so that no memory is taken should the check not work.
@pytest.mark.usefixtures("file_size_limit")
@pytest.mark.parametrize("size", [1 << 50, (1 << 63) - 1, 1 << 70])
def test_memfd_for_which_there_is_no_memory(
    memfd: Callable[..., int], size: int
) -> None:
    error = fails(OSError, lambda: memfd(size))
    assert error.errno == errno.ENOMEM
    assert f"a file of {size} bytes" in str(error)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_memfd_closes_on_every_error(
    memfd: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(os, "posix_fallocate", fail)
    monkeypatch.setattr(os, "pwrite", fail)
    fails(error, lambda: memfd(PAGE))
    fails(error, lambda: memfd(b"data"))


@pytest.mark.parametrize(
    ("argument", "error"),
    [("text", TypeError), (None, TypeError), (1.5, TypeError), (-1, OverflowError)],
)
def test_memfd_of_something_else(
    memfd: Callable[..., int], argument: object, error: type[Exception]
) -> None:
    fails(error, lambda: memfd(argument))


@pytest.mark.usefixtures("file_size_limit")  # should the check not work
def test_memfd_of_more_memory_than_there_is_without_proc(
    memfd: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_proc(path: str) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    monkeypatch.setattr(_seals, "open", no_proc, raising=False)
    assert fails(OSError, lambda: memfd(1 << 50)).errno == errno.ENOMEM


def test_memfd_with_a_bad_name(memfd: Callable[..., int]) -> None:
    fails(ValueError, lambda: memfd(PAGE, name="x" * 250))
    fails(ValueError, lambda: memfd(PAGE, name="x\0y"))


@pytest.mark.parametrize("access", [safemmap.ACCESS_READ, safemmap.ACCESS_WRITE])
def test_memfd_can_be_wrapped(memfd: Callable[..., int], access: int) -> None:
    data = pattern(2 * PAGE)
    with safemmap.wrap(memfd(data), 2 * PAGE, access=access) as m:
        assert m[:] == data
