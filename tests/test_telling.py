"""Faults of views are reported: by warnings, faults() and fault_fd()."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator

import pytest
from conftest import PAGE, LossyFile, libc, open_fds, run_isolated

import safemmap
from safemmap import BusCode, BusError, FaultWarning, _core

SIZE = 8 * PAGE
# Seconds that a busy machine may take for what is due at once.
PATIENCE = 10.0
# And in which what must not happen would have.
QUIET = 0.4


@pytest.fixture(autouse=True, scope="module")
def open_descriptor() -> None:
    safemmap.fault_fd()  # there it stays


@pytest.fixture(autouse=True)
def none_from_before() -> None:
    safemmap.faults()


@contextlib.contextmanager
def recorded() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def wait_until(happened: list[warnings.WarningMessage]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened and time.monotonic() < end:
        time.sleep(0.01)


class TestWarning:
    def test_a_program_that_never_asks_is_told_once_and_again_by_close(
        self, lossy: LossyFile
    ) -> None:
        m = safemmap.mmap(lossy.fd, SIZE)
        lossy.shrink(PAGE)
        with memoryview(m) as view, recorded() as caught:
            view[3 * PAGE + 5]
            wait_until(caught)
            view[2 * PAGE]
            time.sleep(QUIET)
        (warning,) = caught
        assert warning.category is FaultWarning
        text = str(warning.message)
        assert f"offset {3 * PAGE + 5} (address " in text
        assert f"thread {threading.get_native_id()} (MainThread)" in text
        with pytest.warns(FaultWarning, match=f"offset {3 * PAGE + 5} .address"):
            m.close()

    def test_each_mapping_has_its_own(self) -> None:
        files = [LossyFile(SIZE) for _ in range(5)]
        maps = [safemmap.mmap(file.fd, SIZE) for file in files]
        with recorded() as caught:
            for file, m in zip(files, maps, strict=True):
                file.shrink(0)
                memoryview(m)[0]
            end = time.monotonic() + PATIENCE
            while len(caught) < 5 and time.monotonic() < end:
                time.sleep(0.01)
        assert len(caught) == 5
        for file, m in zip(files, maps, strict=True):
            with pytest.raises(BusError):
                m.check()
            m.close()
            file.close()

    def test_who_asks_in_time_is_not_warned(self, lossy: LossyFile) -> None:
        with safemmap.mmap(lossy.fd, SIZE) as m, recorded() as caught:
            lossy.shrink(0)
            memoryview(m)[0]
            with pytest.raises(BusError):
                m.check()
            time.sleep(QUIET)
        assert not caught

    def test_a_scope_tells_at_its_end(self, lossy: LossyFile) -> None:
        with safemmap.mmap(lossy.fd, SIZE) as m, recorded() as caught:
            with pytest.raises(BusError), m.access() as view:
                lossy.shrink(0)
                view[0]
                time.sleep(QUIET)
            time.sleep(QUIET)
        assert not caught

    def test_names_a_thread_that_is_still_there(self, lossy: LossyFile) -> None:
        told = threading.Event()

        def touch() -> None:
            view[0]
            told.wait(PATIENCE)

        m = safemmap.mmap(lossy.fd, SIZE)
        view = memoryview(m)
        lossy.shrink(0)
        thread = threading.Thread(target=touch, name="innocent")
        with recorded() as caught:
            thread.start()
            wait_until(caught)
        told.set()
        thread.join()
        assert f"thread {thread.native_id} (innocent)" in str(caught[0].message)
        view.release()
        with pytest.raises(BusError):
            m.check()
        m.close()

    def test_a_warning_that_is_an_error_is_one_of_the_thread_that_faulted(
        self, lossy: LossyFile
    ) -> None:
        for _ in range(2):  # it does not end the watch
            with safemmap.mmap(lossy.fd, SIZE) as m, warnings.catch_warnings():
                warnings.simplefilter("error")
                lossy.shrink(0)
                memoryview(m)[0]
                with pytest.raises(FaultWarning) as raised:
                    wait_until([])
                assert isinstance(raised.value.__cause__, BusError)
                with pytest.raises(BusError):
                    m.check()
                lossy.restore()


class TestFaults:
    def test_in_order_and_once(self, lossy: LossyFile) -> None:
        with safemmap.mmap(lossy.fd, SIZE) as m, memoryview(m) as view:
            before = time.time()
            lossy.shrink(7 * PAGE)
            view[7 * PAGE + 9]
            lossy.shrink(2 * PAGE)
            view[3 * PAGE]
            found = safemmap.faults()
            assert [fault.offset for fault in found] == [7 * PAGE + 9, 3 * PAGE]
            assert found[0] == m.fault
            for fault in found:
                assert fault.mapping is m
                assert fault.code is BusCode.ADRERR
                assert fault.thread == threading.get_native_id()
                assert before - 1 < fault.time < time.time() + 1
            assert found.dropped == 0
            assert safemmap.faults() == []

    def test_a_signal_handler_that_raises_loses_none(
        self, lossy: LossyFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The signal comes while they are taken, as a system call returns."""

        class Interrupt(BaseException):
            pass

        def interrupt(*args: object) -> None:
            raise Interrupt

        with safemmap.mmap(lossy.fd, SIZE) as m:
            lossy.shrink(0)
            with memoryview(m) as view:
                view[PAGE]
            strike = functools.partial(libc["raise"], int(signal.SIGUSR1))
            before = signal.signal(signal.SIGUSR1, interrupt)
            try:
                with monkeypatch.context() as patch, pytest.raises(Interrupt):
                    patch.setattr(_core, "Fault", strike)
                    safemmap.faults()
            finally:
                signal.signal(signal.SIGUSR1, before)
            assert [fault.offset for fault in safemmap.faults()] == [PAGE]

    def test_who_took_them_is_not_warned(self, lossy: LossyFile) -> None:
        with recorded() as caught, safemmap.mmap(lossy.fd, SIZE) as m:
            lossy.shrink(0)
            memoryview(m)[0]
            assert len(safemmap.faults()) == 1
            time.sleep(QUIET)
        assert not caught

    def test_of_a_mapping_that_is_gone(self, lossy: LossyFile) -> None:
        m = safemmap.mmap(lossy.fd, SIZE)
        lossy.shrink(0)
        memoryview(m)[PAGE + 1]
        with pytest.warns(FaultWarning):
            m.close()
        del m
        gc.collect()
        (fault,) = safemmap.faults()
        assert fault.offset == PAGE + 1
        assert fault.mapping is None
        assert fault.path == "/memfd:lossy (deleted)"

    def test_a_guarded_fault_is_none(self, lossy: LossyFile) -> None:
        with safemmap.mmap(lossy.fd, SIZE) as m, memoryview(m):
            lossy.shrink(0)
            with pytest.raises(BusError):
                m[0]
        assert safemmap.faults() == []

    def test_more_than_there_is_room_for(self) -> None:
        file = LossyFile(SIZE)
        with safemmap.mmap(file.fd, SIZE) as m:
            for _ in range(1500):
                file.shrink(0)
                memoryview(m)[0]
                file.restore()
                assert m.faulted
                m.reset()
            found = safemmap.faults()
            assert len(found) == 1024
            assert found.dropped == 1500 - 1024
            file.shrink(0)
            memoryview(m)[0]
            found = safemmap.faults()
            assert (len(found), found.dropped) == (1, 0)
        file.close()


def is_readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


class TestDescriptor:
    def test_is_readable_until_they_are_taken(self, lossy: LossyFile) -> None:
        fd = safemmap.fault_fd()
        assert fd == safemmap.fault_fd()
        assert not os.get_inheritable(fd)
        assert not is_readable(fd)
        with safemmap.mmap(lossy.fd, SIZE) as m:
            lossy.shrink(0)
            memoryview(m)[0]
            assert is_readable(fd)
            assert len(safemmap.faults()) == 1
            assert not is_readable(fd)

    def test_wakes_an_event_loop(self, lossy: LossyFile) -> None:
        async def main() -> safemmap.Fault:
            loop = asyncio.get_running_loop()
            found: asyncio.Future[safemmap.Fault] = loop.create_future()
            loop.add_reader(
                safemmap.fault_fd(), lambda: found.set_result(safemmap.faults()[0])
            )
            thread = threading.Thread(target=lambda: memoryview(m)[2 * PAGE])
            thread.start()
            try:
                return await asyncio.wait_for(found, PATIENCE)
            finally:
                loop.remove_reader(safemmap.fault_fd())
                thread.join()

        with safemmap.mmap(lossy.fd, SIZE) as m:
            lossy.shrink(PAGE)
            fault = asyncio.run(main())
            assert fault.mapping is m
            assert fault.offset == 2 * PAGE


@pytest.mark.parametrize(
    "case",
    [
        "descriptor_after_a_fault",
        "event_loop_before_any_mapping",
        "interrupted_while_it_takes_them",
        "exit_right_after",
        "exit_with_everything_open",
        "fork_is_not_warned_about",
        "child_has_its_own",
        "child_of_a_storm",
        "first_view_in_the_middle_of_a_fork",
        "queue_filled_within_a_scope",
        "scope_given_up",
    ],
)
def test_in_a_process_of_its_own(case: str) -> None:
    if case == "fork_is_not_warned_about" and (
        (3, 13) <= sys.version_info < (3, 13, 10) or sys.version_info[:3] == (3, 14, 0)
    ):
        pytest.skip("this Python counts threads that began after the fork, gh-137109")
    done = run_isolated("telling.py", case)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    if case in ("exit_right_after", "exit_with_everything_open"):
        assert done.stderr.count("FaultWarning: thread ") == 1, done.stderr
        assert "Traceback" not in done.stderr
    else:
        assert done.stderr == ""


def test_two_watch_faults(lossy: LossyFile) -> None:
    """When one ends, the other goes on."""

    async def first(watched: AsyncIterator[safemmap.Fault]) -> safemmap.Fault:
        async for fault in watched:
            return fault
        raise AssertionError

    async def both() -> safemmap.Fault:
        one, other = (
            asyncio.create_task(first(safemmap.watch_faults())) for _ in range(2)
        )
        await asyncio.sleep(0)
        one.cancel()
        await asyncio.wait([one])
        with memoryview(m) as view:
            assert view[-1] == 0
        return await asyncio.wait_for(other, 60)

    safemmap.faults()
    m = safemmap.mmap(lossy.fd, 0)
    lossy.shrink(0)
    assert asyncio.run(both()).mapping is m
    m.close()


def test_watch_faults_in_a_loop_that_has_no_readers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def watch() -> None:
        def refuse(*args: object) -> None:
            raise NotImplementedError

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "add_reader", refuse)
        monkeypatch.setattr(loop, "remove_reader", refuse)
        before = open_fds()
        with pytest.raises(NotImplementedError):
            await anext(safemmap.watch_faults())
        assert open_fds() == before

    asyncio.run(watch())


def test_watch_faults(lossy: LossyFile) -> None:
    """A fault before the loop, and one while it waits."""

    async def watch() -> list[safemmap.Fault]:
        found = []
        async for fault in safemmap.watch_faults():
            found.append(fault)
            if len(found) == 2:
                break
            touch(mappings[1])
        return found

    def touch(m: safemmap.mmap) -> None:
        with memoryview(m) as view:
            assert view[-1] == 0

    safemmap.faults()
    mappings = [safemmap.mmap(lossy.fd, 0) for _ in range(2)]
    lossy.shrink(0)
    touch(mappings[0])
    found = asyncio.run(asyncio.wait_for(watch(), 60))
    assert [fault.mapping for fault in found] == mappings
    for m in mappings:
        m.close()


@pytest.mark.skipif(
    sys.version_info < (3, 14), reason="needs warnings that are filtered by contexts"
)
def test_warns_in_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_CONTEXT_AWARE_WARNINGS", "1")
    done = run_isolated("telling.py", "watches")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
