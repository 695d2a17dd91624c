"""The handler's status, installation and removal."""

from __future__ import annotations

import contextlib
import faulthandler
import mmap
import os
import re
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

if sys.argv[1] == "forbidden":
    os.environ["SAFEMMAP_HANDLER"] = "0"

import safemmap
from safemmap import handler

faulthandler.disable()  # PYTHONFAULTHANDLER has it on from the start
# On a machine that is slow, a warning comes before the program asks.
warnings.simplefilter("ignore", safemmap.FaultWarning)

SIZE = 8 * safemmap.PAGESIZE


def mapping() -> tuple[int, safemmap.mmap]:
    fd = os.memfd_create("mapped")
    os.write(fd, b"x" * SIZE)
    return fd, safemmap.mmap(fd, SIZE)


def handles_sigbus() -> bool:
    caught = re.search(r"SigCgt:\s*([0-9a-f]+)", Path("/proc/self/status").read_text())
    assert caught is not None
    return bool(int(caught[1], 16) >> (signal.SIGBUS - 1) & 1)


def refused(action: object, text: str) -> None:
    assert callable(action)
    try:
        action()
    except RuntimeError as error:
        assert text in str(error), error
    else:
        raise AssertionError("not refused")


def before_anything_is_mapped() -> None:
    now = handler.status()
    assert now == handler.Status(False, False, None, ("SIG_DFL",), 0, 0, 0, 0)
    signal.signal(signal.SIGBUS, signal.SIG_IGN)
    assert handler.status().below == ("SIG_IGN",)
    handler.install()
    now = handler.status()
    assert (now.installed, now.on_top, now.below) == (True, True, ("SIG_IGN",))


def displaced_and_back() -> None:
    mapping()
    faulthandler.enable()
    now = handler.status()
    assert (now.installed, now.on_top) == (True, False)
    assert now.displaced_by == "faulthandler"
    handler.install()
    now = handler.status()
    assert (now.on_top, now.displaced_by, now.reinstalls) == (True, None, 1)
    assert now.below == ("faulthandler", "SIG_DFL")
    refused(handler.uninstall, "faulthandler was installed after")
    assert handler.status() == now
    faulthandler.disable()
    assert handler.status().below == ("SIG_DFL",)
    signal.signal(signal.SIGBUS, print)
    assert "built-in function print" in str(handler.status().displaced_by)


def counts() -> None:
    fd, m = mapping()
    os.ftruncate(fd, 0)
    for _ in range(3):
        with contextlib.suppress(safemmap.BusError):
            m[0]
    memoryview(m)[0]
    assert m.faulted
    m.close()
    now = handler.status()
    assert (now.recovered, now.overlaid, now.forwarded) == (3, 1, 0)


def put_back_what_was_there() -> None:
    told = []
    signal.signal(signal.SIGBUS, lambda *_: told.append(1))
    fd, m = mapping()
    handler.uninstall()
    assert "lambda" in handler.status().below[0]
    assert not handler.status().installed
    signal.raise_signal(signal.SIGBUS)
    assert told == [1]
    # Mappings that were there go on, another way.
    assert m.protection == "kernel"
    assert m[:3] == b"xxx"
    os.ftruncate(fd, 0)
    try:
        m[5]
    except safemmap.BusError as error:
        assert error.offset == 5
    else:
        raise AssertionError("no error")
    try:
        memoryview(m)
    except BufferError as error:
        assert "handler.uninstall" in str(error)
    else:
        raise AssertionError("a view")
    assert not handler.status().installed
    os.pwrite(fd, b"y" * SIZE, 0)
    with safemmap.mmap(fd, SIZE) as other:
        assert other.protection == "kernel"
    handler.uninstall()  # is no error
    handler.install()
    assert (m.protection, m[0]) == ("guarded", ord("y"))
    with memoryview(m) as view:
        assert view[1] == ord("y")


def resized_without_it() -> None:
    """Guarded mappings go by way of the kernel, and can be resized and reset."""
    fd, _ = mapping()
    m = safemmap.mmap(fd, SIZE, protection="guarded")
    handler.uninstall()
    for size in (2 * SIZE, SIZE):
        m.resize(size)
        assert len(m) == os.fstat(fd).st_size == size
    assert m.protection == "kernel"
    assert m[0] == ord("x")
    try:
        safemmap.mmap(fd, SIZE, protection="guarded")
    except RuntimeError as error:
        assert "handler.uninstall()" in str(error)
    else:
        raise AssertionError("guarded by nobody")


def nobody_left_above() -> None:
    """faulthandler came and went: what is left is the default action."""
    faulthandler.enable()
    _, m = mapping()
    faulthandler.disable()
    mapping()[1].close()
    m.close()
    handler.uninstall()
    assert handler.status().below == ("SIG_DFL",)
    assert not handles_sigbus()


def not_while_somebody_is_about_to_need_it() -> None:
    """Another thread protects memory at the same time."""
    sys.setswitchinterval(1e-5)
    fd, m = mapping()
    m.close()
    memory = memoryview(mmap.mmap(fd, SIZE))
    ended = threading.Event()

    def uninstall() -> None:
        while not ended.is_set():
            with contextlib.suppress(RuntimeError):
                handler.uninstall()
            time.sleep(1e-5)

    thread = threading.Thread(target=uninstall)
    thread.start()
    protected = 0
    deadline = time.monotonic() + 20
    while protected < 200 and time.monotonic() < deadline:
        handler.install()
        try:
            protection = safemmap.protect(memory)
        except RuntimeError:
            continue
        assert handler.status().installed
        protection.close()
        protected += 1
    ended.set()
    thread.join()
    assert protected


def not_while_somebody_needs_it() -> None:
    _, m = mapping()
    with memoryview(m):
        refused(handler.uninstall, "close them first")
    refused(handler.uninstall, "close them first")  # it may hand out another
    m.close()
    handler.uninstall()
    assert not handles_sigbus()


def nor_while_somebody_reads() -> None:
    """A large read has given up the GIL."""
    fd = os.memfd_create("large")
    size = 256 << 20
    os.ftruncate(fd, size)
    m = safemmap.mmap(fd, size)
    thread = threading.Thread(target=lambda: m.find(b"nowhere"))
    thread.start()
    refusals = 0
    while thread.is_alive() and not refusals:
        try:
            handler.uninstall()
        except RuntimeError as error:
            assert "other threads" in str(error)
            refusals += 1
        else:
            handler.install()
    thread.join()
    assert refusals
    handler.uninstall()


def forbidden() -> None:
    refused(handler.install, "SAFEMMAP_HANDLER=0")
    _, m = mapping()
    assert m.protection == "kernel"
    assert not handler.status().installed
    handler.uninstall()
    assert not handles_sigbus()


def views_while_it_comes_and_goes() -> None:
    """They are refused as where it is forbidden from the start."""
    fd, m = mapping()
    m.close()
    refusals: set[type] = set()
    stopping = threading.Event()

    def use() -> None:
        while not stopping.is_set():
            with safemmap.mmap(fd, SIZE) as m:
                try:
                    memoryview(m).release()
                except Exception as error:
                    refusals.add(type(error))

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(3000):
        with contextlib.suppress(RuntimeError):
            handler.uninstall()
        handler.install()
    stopping.set()
    for thread in threads:
        thread.join()
    assert refusals <= {BufferError}, refusals


def from_threads() -> None:
    """Operations go on, whatever the way at the moment."""
    fd, m = mapping()
    os.ftruncate(fd, safemmap.PAGESIZE)
    stopping = threading.Event()
    wrong: list[object] = []

    def use() -> None:
        while not stopping.is_set():
            try:
                if m[0] != ord("x"):
                    wrong.append("a byte")
                m[SIZE - 1]
                wrong.append("no error")
            except safemmap.BusError:
                pass

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        handler.uninstall()
        handler.install()
    stopping.set()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:3]


if __name__ == "__main__":
    globals()[sys.argv[1].replace(" ", "_")]()
    print("done")
