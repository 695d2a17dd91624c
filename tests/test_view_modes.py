"""`views=`: how faults through exported buffers are reported."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import operator
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PAGE, LossyFile, needs_gil, open_fds

import safemmap
from safemmap import BusCode, BusError

SIZE = 8 * PAGE
# Seconds that a busy machine may take for what is due at once.
PATIENCE = 10.0


def spin(seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pytest.fixture
def mapping(lossy: LossyFile) -> Iterator[safemmap.mmap]:
    m = safemmap.mmap(lossy.fd, SIZE, views="interrupt")
    yield m
    if m.faulted:
        with pytest.raises(BusError):
            m.check()  # told, so that closing is silent
    m.close()


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[BaseException]]:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, caught


@needs_gil
class TestInterrupt:
    def test_in_the_middle_of_a_scope(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        with pytest.raises(BusError) as caught, mapping.access() as view:
            lossy.shrink(2 * PAGE)
            view[3 * PAGE + 7]
            spin()
            pytest.fail("not interrupted")
        error = caught.value
        assert type(error) is BusError
        assert error.offset == 3 * PAGE
        assert error.code is BusCode.ADRERR
        assert error.operation == "view"
        assert error.poisoned
        assert f"offset {3 * PAGE}" in str(error)

    def test_in_a_view_without_a_scope(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        with memoryview(mapping) as view, pytest.raises(BusError):
            lossy.shrink(0)
            view[0]
            spin()

    def test_nothing_keeps_the_view_when_it_is_over(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        def read() -> None:
            with mapping.access() as view:
                held = memoryview(view)
                lossy.shrink(0)
                held[0]
                spin()

        gc.disable()
        try:
            with contextlib.suppress(BusError):
                read()
                pytest.fail("not interrupted")
            lossy.restore()
            mapping.reset()  # which no view that is out would let happen
        finally:
            gc.enable()

    def test_each_time_that_a_page_is_touched(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        """Nobody reads the zeros of a fault that a thread was told of."""
        with memoryview(mapping) as view:
            for size in (SIZE - PAGE, 0):
                lossy.shrink(size)
                for _ in range(3):
                    with pytest.raises(BusError) as caught:
                        view[size]
                        spin()
                    assert caught.value.offset == size

    def test_again_after_a_reset(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        for _ in range(3):
            with pytest.raises(BusError) as caught, mapping.access() as view:
                lossy.shrink(0)
                view[0]
                spin()
            assert caught.value.operation == "view"
            del caught, view
            lossy.restore()
            mapping.reset()

    @pytest.mark.filterwarnings("ignore::safemmap.FaultWarning")
    def test_only_the_thread_that_touched_it(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        view = memoryview(mapping)
        ready = threading.Barrier(5)

        def bystander() -> None:
            ready.wait()
            view[0]  # on the page that stays
            spin(0.5)

        def victim() -> None:
            ready.wait()
            view[5 * PAGE]
            spin()

        lossy.shrink(PAGE)
        bystanders = [in_thread(bystander) for _ in range(3)]
        thread, caught = in_thread(victim)
        ready.wait()
        spin(0.5)
        thread.join()
        assert [type(error) for error in caught] == [BusError]
        for other, errors in bystanders:
            other.join()
            assert errors == []
        view.release()

    def test_not_after_the_scope(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        """Leaves it as fast as it can, and then does something else."""
        interrupted = 0
        for _ in range(500):
            with pytest.raises(BusError) as caught, mapping.access() as view:
                lossy.shrink(0)
                view[0]
            interrupted += caught.value.operation == "view"
            del caught
            for _ in range(50):
                pass
            lossy.restore()
            mapping.reset()
        # (Now and then the interruption is quicker.)
        assert interrupted < 500

    def test_not_after_the_scope_while_another_view_is_out(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        """Nobody runs between the fault and the end of the scope."""
        sleep_with_the_gil = ctypes.PyDLL(None).usleep
        for _ in range(20):
            with memoryview(mapping):
                with pytest.raises(BusError) as caught, mapping.access() as view:
                    lossy.shrink(0)
                    view[0]
                    sleep_with_the_gil(1000)
                spin(0.05)
            del caught, view
            lossy.restore()
            gc.collect()
            mapping.reset()

    def test_not_who_was_told_meanwhile(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        """By an operation, in the same call from Python as the touch."""
        with memoryview(mapping) as view:
            lossy.shrink(0)
            touch = functools.partial(view.__getitem__, 0)
            # (From 3.13 on time.sleep() calls audit hooks, in which the exception is
            # raised, and other tests have added some.)
            wait = functools.partial(select.select, [], [], [], 0.05)
            calls: tuple[Callable[[], object], ...] = (touch, wait, mapping.check)
            with pytest.raises(BusError) as caught:
                list(map(operator.call, calls))
            assert caught.value.operation == "check"
            spin(0.05)

    def test_not_after_somebody_else_ended_the_scope(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        """The thread that touched it sits in a system call until it is over."""
        spared = 0

        def touch(view: memoryview, wait: int) -> None:
            (view[0], os.read(wait, 1))  # in one line, which no trace function divides
            spin(0.001)

        def is_in_call_on(fd: int, thread: threading.Thread) -> bool:
            path = Path(f"/proc/self/task/{thread.native_id}/syscall")
            try:
                _, *arguments = path.read_text().split()
            except (FileNotFoundError, ProcessLookupError):
                return False  # it has just ended
            return arguments[:1] == [hex(fd)]

        for _ in range(50):
            wait, go_on = os.pipe()
            scope = mapping.access()
            with pytest.raises(BusError), scope as view:
                lossy.shrink(0)
                thread, caught = in_thread(functools.partial(touch, view, wait))
                while thread.is_alive() and not is_in_call_on(wait, thread):
                    time.sleep(0.001)
            os.write(go_on, b"!")
            thread.join()
            os.close(wait)
            os.close(go_on)
            # (Now and then it was interrupted on its way to the call.)
            assert all(isinstance(error, BusError) for error in caught)
            spared += not caught
            lossy.restore()
            del view
            gc.collect()
            mapping.reset()
        assert spared > 25

    def test_not_a_thread_that_came_after(
        self,
        lossy: LossyFile,
        mapping: safemmap.mmap,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """It has the identifier of the one that touched the page."""
        # The one that did may get it in the last steps of its life, too.
        at_its_end: list[threading.ExceptHookArgs] = []
        monkeypatch.setattr(threading, "excepthook", at_its_end.append)
        reused = 0
        for _ in range(200):
            view = memoryview(mapping)
            lossy.shrink(0)
            first, errors = in_thread(functools.partial(view.__getitem__, 0))
            first.join()
            # Which it can be before the kernel has let go of it, and of its identifier.
            while Path(f"/proc/self/task/{first.native_id}").exists():
                time.sleep(0.0005)
            second, later = in_thread(lambda: spin(0.002))
            reused += second.ident == first.ident
            second.join()
            assert later == []
            assert all(isinstance(error, BusError) for error in errors)
            for last in at_its_end:
                assert issubclass(last.exc_type, BusError)
                assert last.thread is first
            at_its_end.clear()
            view.release()
            lossy.restore()
            mapping.reset()
        assert reused > 50

    def test_nor_takes_the_place_of_another(self) -> None:
        """An exception from elsewhere, which waits for the same call to return."""
        size = 64 << 20
        fd = os.memfd_create("large")
        set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
        # (From front to back, in every C library.)
        search, address = ctypes.CDLL(None).memchr, ctypes.c_void_p()
        outcomes: list[BaseException] = []
        rounds = 0
        # (On a busy machine this thread may come too late.)
        while rounds < 5 or (not outcomes and rounds < 500):
            rounds += 1
            os.ftruncate(fd, size)
            with safemmap.mmap(fd, size, views="interrupt") as m:
                view = ctypes.c_char.from_buffer(m)
                address.value = ctypes.addressof(view)
                os.ftruncate(fd, size - PAGE)
                about_to = threading.Event()

                def touch(about_to: threading.Event = about_to) -> None:
                    about_to.set()
                    search(address, 1, ctypes.c_size_t(size))

                thread, caught = in_thread(touch)
                about_to.wait()
                time.sleep(0.002)
                set_exception(
                    ctypes.c_ulong(thread.ident or 0),
                    ctypes.py_object(ZeroDivisionError),
                )
                early = m.faulted
                thread.join()
                if m.faulted and not early:
                    outcomes += caught
                if m.faulted:
                    with pytest.raises(BusError):
                        m.check()
                del view
        os.close(fd)
        assert outcomes
        assert {type(error) for error in outcomes} == {ZeroDivisionError}

    @pytest.mark.filterwarnings("error::safemmap.FaultWarning")
    def test_one_that_gets_lost_is_not_the_last_word(self, lossy: LossyFile) -> None:
        """It is an OSError, which others swallow."""
        m = safemmap.mmap(lossy.fd, SIZE, views="interrupt")
        lossy.shrink(0)
        with memoryview(m) as view, contextlib.suppress(OSError):
            view[0]
            spin()
        advice = "; an exception has reported it: discard what was computed from"
        with pytest.raises(safemmap.FaultWarning, match=advice):
            spin(0.4)
        with pytest.warns(safemmap.FaultWarning, match=advice):
            m.close()

    def test_the_mapping_is_freed_after_it(self) -> None:
        """No traceback holds on to what it is about."""

        def interrupted() -> None:
            fd = os.memfd_create("freed")
            os.ftruncate(fd, SIZE)
            m = safemmap.mmap(fd, SIZE, views="interrupt")
            os.ftruncate(fd, 0)
            os.close(fd)
            view = memoryview(m)
            with contextlib.suppress(BusError):
                view[0]
                spin()
            assert m.faulted

        before = open_fds()
        for _ in range(3):
            interrupted()
        # (Where another thread collects already, a collection returns at once.)
        end = time.monotonic() + 10
        while open_fds() - before and time.monotonic() < end:
            gc.collect()
            time.sleep(0.01)
        assert open_fds() <= before

    def test_none_comes_up_while_another_mapping_tells(self, lossy: LossyFile) -> None:
        """The thread has one on its way when it closes something else."""
        safemmap.faults()
        for _ in range(20):
            other = LossyFile(SIZE)
            poisoned = safemmap.mmap(other.fd, SIZE)
            m = safemmap.mmap(lossy.fd, SIZE, views="interrupt")
            view = memoryview(m)
            with contextlib.suppress(BusError):
                other.shrink(0)
                memoryview(poisoned)[0]
                assert poisoned.faulted
                lossy.shrink(0)
                view[0]
                poisoned.close()
                spin(0.05)
            poisoned.close()
            assert m.faulted
            view.release()
            m.close()
            assert {fault.mapping for fault in safemmap.faults()} <= {m, poisoned}
            lossy.restore()
            other.close()


class TestDeny:
    def test_no_buffer(self, lossy: LossyFile) -> None:
        with safemmap.mmap(lossy.fd, SIZE, views="deny") as m:
            with pytest.raises(BufferError, match='views="deny"'):
                memoryview(m)
            with pytest.raises(BufferError, match="deny"), m.access():
                pytest.fail("entered")
            with pytest.raises(BufferError):
                ctypes.c_char.from_buffer(m)
            # All that copies is there.
            assert m[:SIZE] == lossy.data
            assert m.find(lossy.data[-9:]) == SIZE - 9
            assert m.snapshot(PAGE, 5) == lossy.data[PAGE : PAGE + 5]
            lossy.shrink(0)
            with pytest.raises(BusError):
                m[0]
            assert not m.faulted

    def test_wrap(self, lossy: LossyFile) -> None:
        with (
            safemmap.wrap(lossy.fd, views="deny") as m,
            pytest.raises(BufferError),
        ):
            memoryview(m)


CRASH = """
import os, safemmap, sys
fd = os.memfd_create("gone")
os.ftruncate(fd, 8192)
m = safemmap.mmap(fd, 8192, views="crash")
view = memoryview(m)
os.ftruncate(fd, 0)
try:
    m[0]
except safemmap.BusError:
    print("operations are guarded", flush=True)
view[0]
"""


def test_crash() -> None:
    done = subprocess.run([sys.executable, "-c", CRASH], capture_output=True, text=True)
    assert done.returncode == -signal.SIGBUS
    assert done.stdout == "operations are guarded\n"


@pytest.mark.parametrize("views", ["", "Deferred", "denied", None, 0, b"deny"])
def test_unknown(lossy: LossyFile, views: Any) -> None:
    with pytest.raises(ValueError, match="views must be one of 'auto', 'deferred', "):
        safemmap.mmap(lossy.fd, SIZE, views=views)
    with pytest.raises(ValueError, match="views must be one of"):
        safemmap.wrap(lossy.fd, views=views)
    with pytest.raises(ValueError, match="views must be 'auto', 'deferred' or "):
        safemmap.protect(b"", views=views)


@pytest.mark.parametrize("views", ["deny", "crash"])
def test_protection_without_one(views: Any) -> None:
    with pytest.raises(ValueError, match=f"'interrupt' here, not '{views}'"):
        safemmap.protect(b"", views=views)
