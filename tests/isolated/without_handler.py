"""Mappings in a process that has no SIGBUS handler of ours, or keeps losing it."""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import os
import re
import signal
import struct
import sys
import time
import warnings
from pathlib import Path

if sys.argv[1] == "forbidden":
    os.environ["SAFEMMAP_HANDLER"] = "0"

import safemmap

faulthandler.disable()  # PYTHONFAULTHANDLER has it on from the start

SIZE = 8 * safemmap.PAGESIZE
BULK = 1 << 20


def cut_file() -> int:
    fd = os.memfd_create("cut")
    os.write(fd, b"x" * SIZE)
    return fd


def handles_sigbus() -> bool:
    status = Path("/proc/self/status").read_text()
    caught = re.search(r"SigCgt:\s*([0-9a-f]+)", status)
    assert caught is not None
    return bool(int(caught[1], 16) >> (signal.SIGBUS - 1) & 1)


def check_kernel(m: safemmap.mmap, fd: int) -> None:
    assert m.protection == "kernel"
    assert m[:5] == b"xxxxx"
    m[0] = ord("y")
    os.ftruncate(fd, 100)
    assert m[:3] == b"yxx"
    try:
        m[SIZE - 1]
    except safemmap.BusError as error:
        assert error.offset == SIZE - 1
    else:
        raise AssertionError("no error")
    try:
        m[SIZE - 1] = 1
    except safemmap.BusError:
        assert os.fstat(fd).st_size == 100
    else:
        raise AssertionError("no error")
    try:
        memoryview(m)
    except BufferError:
        pass
    else:
        raise AssertionError("a view")


def forbidden() -> None:
    fd = cut_file()
    with safemmap.wrap(fd, access=safemmap.ACCESS_WRITE) as m:
        check_kernel(m, fd)
    os.ftruncate(fd, SIZE)
    for call in (
        lambda: safemmap.mmap(fd, SIZE, protection="guarded"),
        lambda: safemmap.protect(bytearray(5)),
    ):
        try:
            call()
        except RuntimeError as error:
            assert "SAFEMMAP_HANDLER=0" in str(error)
        else:
            raise AssertionError("no error")
    assert not handles_sigbus()


def kernel_alone() -> None:
    fd = cut_file()
    with safemmap.mmap(fd, SIZE, protection="kernel") as m:
        check_kernel(m, fd)
    sealed = safemmap.memfd(SIZE)
    with safemmap.wrap(sealed) as m, memoryview(m) as view:
        assert view[0] == m[SIZE - 1] == 0
    assert not handles_sigbus()


def displaced_again_and_again() -> None:
    fd = cut_file()
    large = os.memfd_create("large")
    os.ftruncate(large, BULK)
    with (
        safemmap.mmap(fd, SIZE) as m,
        safemmap.mmap(large, BULK) as bulk,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        kept = memoryview(m)
        assert m.protection == "guarded"
        for _ in range(100):
            signal.signal(signal.SIGBUS, lambda *_: None)
            time.sleep(0.001)  # after which the next bulk operation
            bulk[:]  # looks for our handler
        assert m.protection == "kernel"
        (warning,) = caught
        assert warning.category is RuntimeWarning
        assert "again and again" in str(warning.message)
        for export, what in ((memoryview, m), (safemmap.protect, bytearray(1))):
            try:
                export(what)
            except BufferError as error:
                assert "taken the place" in str(error)
            else:
                raise AssertionError("a view that nobody protects")
        kept.release()
        check_kernel(m, fd)
        # Nobody else is left.
        signal.signal(signal.SIGBUS, signal.SIG_DFL)
        assert len(caught) == 1


def forbid(x86_64: int, aarch64: int) -> None:
    """As a sandbox (seccomp) does it: the system call answers EPERM."""
    number = x86_64 if os.uname().machine == "x86_64" else aarch64
    program = struct.pack(
        "<HBBIHBBIHBBIHBBI",
        0x20, 0, 0, 0,  # load the number of the call
        0x15, 0, 1, number,  # is it that one?
        0x06, 0, 0, 0x00050000 | errno.EPERM,
        0x06, 0, 0, 0x7FFF0000,
    )  # fmt: skip
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_seccomp, filtered = 38, 22, 2
    assert libc.prctl(no_new_privileges, 1, 0, 0, 0) == 0
    assert libc.prctl(set_seccomp, filtered, header) == 0


def forbidden_by_seccomp() -> None:
    fd = cut_file()
    m = safemmap.mmap(fd, SIZE, protection="kernel", trackfd=False)
    assert m[0] == ord("x")
    forbid(310, 270)  # process_vm_readv
    try:
        m[0]
    except PermissionError as error:
        assert "process_vm_readv" in str(error)
        assert not isinstance(error, safemmap.BusError)
    else:
        raise AssertionError("no error")
    m.close()


def sigaction_forbidden() -> None:
    """Before there was a handler."""
    fd = cut_file()
    forbid(13, 134)  # rt_sigaction
    for make in safemmap.mmap, safemmap.wrap:
        try:
            make(fd, SIZE, protection="guarded")
        except PermissionError as error:
            assert not isinstance(error, safemmap.PeerError)
        else:
            raise AssertionError("no error")
    with safemmap.mmap(fd, SIZE) as m:
        check_kernel(m, fd)
    assert not handles_sigbus()


def sigaction_forbidden_later() -> None:
    """The handler that is installed goes on."""
    fd = cut_file()
    m = safemmap.mmap(fd, SIZE)
    view = memoryview(m)
    forbid(13, 134)  # rt_sigaction
    with safemmap.mmap(fd, SIZE) as other:
        for _ in range(200):
            assert m[0] == other[SIZE - 1] == ord("x")
        with m.access() as scope:
            assert scope[0] == ord("x")
        os.ftruncate(fd, 0)
        for mapping in m, other:
            try:
                mapping[0]
            except safemmap.BusError as error:
                assert error.offset == 0
            else:
                raise AssertionError("no error")
    assert view[SIZE - 1] == 0
    try:
        m.check()
    except safemmap.BusError:
        pass
    else:
        raise AssertionError("not poisoned")
    view.release()
    m.close()


if __name__ == "__main__":
    globals()[sys.argv[1].replace(" ", "_")]()
    print("done")
