"""`protection=`: sealed, guarded, through system calls; and how it is chosen."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from conftest import PAGE, LossyFile, libc, open_fds, run_isolated

import safemmap
from safemmap import BusError, Seal, SealError

SIZE = 8 * PAGE

Way = Literal["guarded", "kernel"]


# ---- The same, whatever the way ------------------------------------------


def search_both(m: safemmap.mmap, data: bytes) -> tuple[int, ...]:
    last = data[3 * PAGE - 40 : 3 * PAGE]
    return m.find(last), m.rfind(last), m.find(b"\0"), m.rfind(b"\0", PAGE, 2 * PAGE)


def read_byte_at_5(m: safemmap.mmap, data: bytes) -> int:
    m.seek(5 * PAGE)
    return m.read_byte()


def write_all(m: safemmap.mmap, data: bytes) -> bytes:
    m.seek(2 * PAGE - 7)
    m.write(data[:50])
    m.write_byte(7)
    m[5] = 9
    m[10:20] = b"0123456789"
    m[SIZE - 1 : 3 : -PAGE] = bytes(len(range(SIZE - 1, 3, -PAGE)))
    m.move(PAGE + 3, PAGE, 2 * PAGE)
    m.move(PAGE, PAGE + 3, 2 * PAGE)
    m.move(0, 5 * PAGE, 1)
    return m[:]


OPERATIONS: dict[str, Callable[[safemmap.mmap, bytes], Any]] = {
    "m[i]": lambda m, data: [m[i] for i in range(0, SIZE, 97)],
    "m[i:j]": lambda m, data: m[100 : SIZE - 5],
    "one byte": lambda m, data: m[6 * PAGE : 6 * PAGE + 1],
    "over the edge": lambda m, data: m[4 * PAGE - 10 : 4 * PAGE + 10],
    "within a page": lambda m, data: m[4 * PAGE + 10 : 4 * PAGE + 20],
    "m[i:j:k]": lambda m, data: m[::3],
    "m[i:j:-k]": lambda m, data: m[SIZE - 3 : 5 : -(PAGE + 1)],
    "read": lambda m, data: (m.read(PAGE), m.read(), m.tell()),
    "read_byte": read_byte_at_5,
    "readline": lambda m, data: (m.readline(), m.readline(), m.tell()),
    "iteration": lambda m, data: b"".join(m),
    "in": lambda m, data: (7 in m, b"\0" in m),
    "find and rfind": search_both,
    "find nothing": lambda m, data: m.find(data[::-1], PAGE),
    "write": write_all,
    "readinto": lambda m, data: m.readinto(bytearray(3 * PAGE), 2 * PAGE),
    "snapshot": lambda m, data: m.snapshot(PAGE, 2 * PAGE),
    "bytes": lambda m, data: bytes(m),
}


def outcome(
    way: Way, operation: Callable[[safemmap.mmap, bytes], Any], cut: int | None
) -> tuple[Any, ...]:
    file = LossyFile(SIZE)
    with safemmap.mmap(file.fd, SIZE, protection=way) as m:
        assert m.protection == way
        if cut is not None:
            file.shrink(cut)
        try:
            result = operation(m, file.data)
        except BusError as error:
            result = (
                error.errno,
                error.offset,
                error.code,
                error.operation,
                error.start,
                error.stop,
                error.needed,
                error.file_size,
                error.in_buffer,
                error.poisoned,
                m.tell(),
            )
    left = os.pread(file.fd, 2 * SIZE, 0)
    file.close()
    # After a fault what was to be written may be there in part.
    return result, len(left), left if cut is None else None


@pytest.mark.parametrize("cut", [None, 0, 1, 4 * PAGE, 4 * PAGE + 1, SIZE - 1])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_kernel_does_what_a_guard_does(operation: str, cut: int | None) -> None:
    expected = outcome("guarded", OPERATIONS[operation], cut)
    assert outcome("kernel", OPERATIONS[operation], cut) == expected


@pytest.mark.parametrize("flags", [safemmap.MAP_SHARED, safemmap.MAP_PRIVATE])
@pytest.mark.parametrize("trackfd", [True, False])
def test_changes_that_are_only_in_the_mapping(flags: int, trackfd: bool) -> None:
    file = LossyFile(SIZE)
    with safemmap.mmap(
        file.fd, SIZE, flags=flags, trackfd=trackfd, protection="kernel"
    ) as m:
        m[5:8] = b"abc"
        assert m[4:9] == file.data[4:5] + b"abc" + file.data[8:9]
        assert m[5] == ord("a")
        there = os.pread(file.fd, 3, 5)
        assert there == (b"abc" if flags == safemmap.MAP_SHARED else file.data[5:8])
    file.close()


def test_the_part_of_the_last_page_behind_the_end(lossy: LossyFile) -> None:
    """It is memory, though the file cannot be read there."""
    with safemmap.mmap(lossy.fd, SIZE, protection="kernel") as m:
        lossy.shrink(PAGE + 100)
        assert m[: 2 * PAGE] == lossy.data[: PAGE + 100] + bytes(PAGE - 100)
        assert m[2 * PAGE - 1] == 0
        m[2 * PAGE - 1] = 7
        assert m[PAGE + 90 : 2 * PAGE][-1] == 7
        assert os.fstat(lossy.fd).st_size == PAGE + 100


def test_the_other_buffer_is_lost(lossy: LossyFile) -> None:
    other = LossyFile(SIZE)
    with (
        safemmap.mmap(lossy.fd, SIZE, protection="kernel") as m,
        safemmap.mmap(other.fd, SIZE, views="crash") as gone,
    ):
        other.shrink(PAGE)
        with memoryview(gone) as view, pytest.raises(BusError) as caught:
            m.write(view)
        assert caught.value.in_buffer
        assert caught.value.offset == PAGE
        assert m.tell() == 0
    other.close()


def test_no_view_by_way_of_the_kernel(lossy: LossyFile) -> None:
    with safemmap.wrap(lossy.fd, protection="kernel") as m:
        for take in (memoryview, lambda m: m.access().__enter__()):
            with pytest.raises(BufferError, match="by way of the kernel"):
                take(m)
        assert m.snapshot() == lossy.data


def test_bulk_gives_up_the_gil() -> None:
    """And a mapping is not closed under it."""
    fd = os.memfd_create("large")
    os.ftruncate(fd, 64 << 20)
    assert any(closing_is_refused_beside_a_copy(fd) for _ in range(20))
    os.close(fd)


def closing_is_refused_beside_a_copy(fd: int) -> bool:
    """False also if the copy had not begun, or was through."""
    m = safemmap.mmap(fd, 64 << 20, protection="kernel")
    refused = False

    def copy() -> None:
        with contextlib.suppress(ValueError):  # closed
            for _ in range(3):
                m[:]

    thread = threading.Thread(target=copy)
    thread.start()
    while thread.is_alive() and not refused:
        try:
            m.close()
        except BufferError:
            refused = True
        else:
            break
    thread.join()
    m.close()
    return refused


# ---- Sealed --------------------------------------------------------------


@pytest.fixture
def unsealed() -> Iterator[int]:
    fd = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.write(fd, b"x" * SIZE)
    yield fd
    os.close(fd)


def test_what_is_sealed_is_taken_as_such(unsealed: int) -> None:
    with safemmap.mmap(unsealed, SIZE) as m:
        assert m.protection == "guarded"
        fcntl.fcntl(unsealed, fcntl.F_ADD_SEALS, Seal.SHRINK)
        assert m.protection == "guarded"
        m.resize(2 * SIZE)  # where it is decided again
        assert m.protection == "sealed"
    with safemmap.wrap(unsealed) as m:
        assert m.protection == "sealed"
        with m.access() as view:
            assert bytes(view) == b"x" * SIZE + bytes(SIZE)
        assert not m.faulted
        assert search_both(m, b"x" * SIZE) == (0, SIZE - 40, SIZE, -1)
        assert m[::SIZE] == b"x\0"
    with safemmap.wrap(unsealed, protection="guarded") as m:
        assert m.protection == "guarded"


def test_reset_decides_again(unsealed: int) -> None:
    with safemmap.mmap(unsealed, SIZE) as m:
        os.ftruncate(unsealed, 0)
        memoryview(m)[0]
        assert m.faulted
        os.pwrite(unsealed, b"y" * SIZE, 0)
        fcntl.fcntl(unsealed, fcntl.F_ADD_SEALS, Seal.SHRINK)
        m.reset()
        assert m.protection == "sealed"
        assert m[:3] == b"yyy"


def test_the_seals_of_another_file_are_none(unsealed: int) -> None:
    """The program has closed the mapping's descriptor, whose number another has got."""
    other = safemmap.memfd(b"z" * 2 * SIZE)
    before = open_fds()
    with safemmap.mmap(unsealed, SIZE) as m:
        (number,) = open_fds() - before
        os.dup2(other, number, inheritable=False)
        m.resize(SIZE // 2, truncate=False)
        assert m.protection == "guarded"
        os.ftruncate(unsealed, 0)
        with pytest.raises(BusError):
            m[0]
    os.close(other)


def test_what_is_asked_for_its_seals_is_what_is_mapped() -> None:
    """Whatever another thread does with the number of the descriptor."""
    sealed = safemmap.memfd(b"s" * SIZE)
    unsealed = os.memfd_create("takes no seals")
    os.write(unsealed, b"x" * SIZE)
    number = os.dup(sealed)
    stopping = threading.Event()

    def exchange() -> None:
        while not stopping.is_set():
            os.dup2(unsealed, number)
            os.dup2(sealed, number)

    thread = threading.Thread(target=exchange)
    thread.start()
    contents = set()
    for _ in range(3000):
        with (
            contextlib.suppress(SealError),
            safemmap.mmap(
                number,
                SIZE,
                access=safemmap.ACCESS_READ,
                protection="sealed",
                trackfd=False,
            ) as m,
        ):
            contents.add(m[:1])
    stopping.set()
    thread.join()
    for fd in number, sealed, unsealed:
        os.close(fd)
    assert contents == {b"s"}


def test_the_seal_is_added(unsealed: int) -> None:
    with safemmap.mmap(unsealed, SIZE, protection="sealed") as m:
        assert m.protection == "sealed"
        assert safemmap.get_seals(unsealed) == Seal.SHRINK
        with pytest.raises(PermissionError):
            os.ftruncate(unsealed, 0)
        assert m[:] == b"x" * SIZE


def refused(fd: int, **arguments: Any) -> str:
    with pytest.raises(SealError) as caught:
        safemmap.wrap(fd, protection="sealed", **arguments)
    return str(caught.value)


def test_a_file_that_takes_no_seals(lossy: LossyFile, tmp_path: Any) -> None:
    assert "SEAL" in refused(lossy.fd).upper()
    with safemmap.wrap(lossy.fd) as m:
        assert m.protection == "guarded"  # though it reports a seal, that of sealing
    path = tmp_path / "file"
    path.write_bytes(b"x" * SIZE)
    with path.open("rb") as file:
        assert "seals" in refused(file.fileno(), filesystems="any")
    with pytest.raises(SealError, match="anonymous"):
        safemmap.mmap(-1, SIZE, protection="sealed")


def test_a_descriptor_that_cannot_seal(unsealed: int) -> None:
    fd = os.open(f"/proc/self/fd/{unsealed}", os.O_RDONLY)
    assert "writing" in refused(fd)
    assert safemmap.get_seals(unsealed) == Seal(0)
    # Sealed by somebody else it is good enough.
    safemmap.add_seals(unsealed, Seal.SHRINK)
    with safemmap.wrap(fd, protection="sealed") as m:
        assert m.protection == "sealed"
    os.close(fd)


def test_more_than_was_sealed(unsealed: int) -> None:
    """The attack on libwayland: sealed while small, and announced as large."""
    safemmap.add_seals(unsealed, Seal.SHRINK | Seal.GROW | Seal.SEAL)
    for protection in ("auto", "sealed", "guarded", "kernel"):
        with pytest.raises(ValueError, match="only"):
            safemmap.wrap(unsealed, 2 * SIZE, protection=protection)
        with pytest.raises(ValueError, match="greater than file size"):
            safemmap.mmap(unsealed, 2 * SIZE, protection=protection)
    with safemmap.mmap(unsealed, SIZE) as m:
        with pytest.raises(OSError):
            m.resize(2 * SIZE)
        assert len(m) == SIZE
        assert m[:] == b"x" * SIZE


def test_huge_pages_are_never_sealed_enough() -> None:
    try:
        fd = os.memfd_create(
            "huge", os.MFD_ALLOW_SEALING | os.MFD_HUGETLB | os.MFD_HUGE_2MB
        )
    except OSError as error:
        pytest.skip(f"no huge pages in this kernel: {error}")
    os.ftruncate(fd, 2 << 20)
    safemmap.add_seals(fd, Seal.SHRINK)
    assert "huge" in refused(fd)
    os.close(fd)


def test_a_hole_in_what_is_sealed(unsealed: int) -> None:
    safemmap.add_seals(unsealed, Seal.SHRINK)
    with safemmap.wrap(unsealed) as m:
        os.ftruncate(unsealed, 4 * SIZE)
        libc_fallocate(unsealed, PAGE, PAGE)
        assert m[: 2 * PAGE] == b"x" * PAGE + bytes(PAGE)


def libc_fallocate(fd: int, offset: int, length: int) -> None:
    from conftest import libc

    punch = 0x02 | 0x01  # and keep the size
    assert libc.fallocate(fd, punch, ctypes_off_t(offset), ctypes_off_t(length)) == 0


def ctypes_off_t(value: int) -> Any:
    import ctypes

    return ctypes.c_longlong(value)


def test_stable(unsealed: int) -> None:
    with safemmap.wrap(unsealed) as m:
        assert not m.stable
    safemmap.add_seals(unsealed, Seal.WRITE)
    with safemmap.wrap(unsealed) as m:
        assert not m.stable  # it can be cut, and grow again
        safemmap.add_seals(unsealed, Seal.SHRINK)
        assert m.stable
    with safemmap.mmap(-1, SIZE) as m:
        assert not m.stable
    with pytest.raises(ValueError, match="closed"):
        assert m.stable


@pytest.mark.parametrize(
    "rounds", [3000, pytest.param(100_000, marks=pytest.mark.slow)]
)
def test_a_peer_that_seals_shrinks_and_grows_all_the_time(rounds: int) -> None:
    """Whatever it does between two looks, what counts as sealed is, and is there."""
    shared: list[int] = []
    stopping = threading.Event()

    def peer() -> None:
        while not stopping.is_set():
            time.sleep(0)  # or it would keep the GIL where there is no file
            for fd in shared[-1:]:
                try:
                    os.ftruncate(fd, 0)
                    os.ftruncate(fd, SIZE)
                    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, Seal.SHRINK)
                except OSError:
                    pass

    thread = threading.Thread(target=peer)
    thread.start()
    seen = {"sealed": 0, "guarded": 0}
    for _ in range(rounds):
        fd = os.memfd_create("round", os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, SIZE)
        shared.append(fd)
        try:
            with safemmap.wrap(fd, SIZE) as m:
                seen[m.protection] += 1
                if m.protection == "sealed":
                    assert Seal.SHRINK in safemmap.get_seals(fd)
                    assert os.fstat(fd).st_size >= SIZE
                try:
                    m[SIZE - 1]
                except BusError:
                    assert m.protection == "guarded"
        except ValueError:
            pass  # too short just then
        shared.remove(fd)
        os.close(fd)
    stopping.set()
    thread.join()
    assert seen["guarded"]
    assert seen["sealed"]


# ---- Without a handler ---------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [
        "forbidden",
        "kernel alone",
        "displaced again and again",
        "forbidden by seccomp",
        "sigaction forbidden",
        "sigaction forbidden later",
    ],
)
def test_in_a_process_of_its_own(case: str) -> None:
    done = run_isolated("without_handler.py", case)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.parametrize("value", ["", "Sealed", "none", None, 0, b"kernel"])
def test_unknown(lossy: LossyFile, value: Any) -> None:
    with pytest.raises(ValueError, match="protection must be one of 'auto', 'sealed'"):
        safemmap.mmap(lossy.fd, SIZE, protection=value)
    with pytest.raises(ValueError, match="protection must be one of"):
        safemmap.wrap(lossy.fd, protection=value)


def test_a_device_is_not_read_past_its_mapping() -> None:
    """What is in the one is not in the other."""
    fd = os.open("/dev/zero", os.O_RDWR)
    with safemmap.mmap(fd, SIZE, protection="kernel") as m:
        m[:4] = b"abcd"
        assert (m[:4], m[0], m.find(b"abcd")) == (b"abcd", ord("a"), 0)
    os.close(fd)


def test_what_may_be_another_file_is_not_taken_for_sealed(unsealed: int) -> None:
    """Without a duplicate, `fileno` can be another one between the look and mmap(2)."""
    safemmap.add_seals(unsealed, Seal.SHRINK)
    with safemmap.mmap(unsealed, SIZE, trackfd=False) as m:
        assert m.protection == "guarded"


def test_kernel_cannot_read_secret_memory() -> None:
    fd = secret_memory()
    try:
        with pytest.raises(OSError, match="memfd_secret") as caught:
            safemmap.mmap(fd, PAGE, protection="kernel")
        assert caught.value.errno == errno.EOPNOTSUPP
        with pytest.raises(safemmap.PeerError, match="memfd_secret"):
            safemmap.wrap(fd, PAGE, protection="kernel", filesystems="any")
        with safemmap.mmap(fd, PAGE, protection="guarded") as m:
            m[:4] = b"spam"
            assert m[:5] == b"spam\0"
    finally:
        os.close(fd)


def secret_memory() -> int:
    fd: int = libc.syscall(447, 0)
    if fd < 0:
        pytest.skip("no memfd_secret(2) here")
    os.ftruncate(fd, PAGE)
    return fd
