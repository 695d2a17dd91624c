"""What is told of a view's fault at exit, after a fork, and without a thread."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
import warnings
from collections.abc import Callable

import safemmap
from safemmap import _core

SIZE = 8 * safemmap.PAGESIZE


def poisoned() -> tuple[safemmap.mmap, memoryview]:
    fd = os.memfd_create("poisoned")
    os.write(fd, b"\7" * SIZE)
    m = safemmap.mmap(fd, SIZE)
    view = memoryview(m)
    os.ftruncate(fd, 0)
    os.close(fd)
    assert view[0] == 0
    return m, view


def descriptor_after_a_fault() -> None:
    """Nobody had asked for it when the fault came."""
    kept = poisoned()
    fd = safemmap.fault_fd()
    assert select.select([fd], [], [], 0)[0]
    assert [fault.mapping for fault in safemmap.faults()] == [kept[0]]
    assert not select.select([fd], [], [], 0)[0]


def exit_right_after() -> None:
    keep.append(poisoned())


def exit_with_everything_open() -> None:
    m, view = poisoned()
    fd = os.memfd_create("read for ever")
    os.write(fd, b"\7" * SIZE)
    scope = safemmap.mmap(fd, SIZE).access()
    view = scope.__enter__()
    keep.extend((m, view, scope))

    def read() -> None:
        while True:
            bytes(view)

    for _ in range(2):
        threading.Thread(target=read, daemon=True).start()


def check_child(pid: int) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0, status
            return
        time.sleep(0.002)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    raise AssertionError("the child hangs")


def forked(body: Callable[[], None]) -> None:
    """In a child; that it is the only thread is what os.fork() wants."""
    pid = os.fork()
    if pid == 0:
        try:
            body()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    check_child(pid)


def await_warning(caught: list[warnings.WarningMessage]) -> None:
    end = time.monotonic() + 10
    while not caught and time.monotonic() < end:
        time.sleep(0.005)
    assert [warning.category for warning in caught] == [safemmap.FaultWarning]


def watches() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        m, view = poisoned()
        await_warning(caught)
        view.release()
        m.close()


def fork_is_not_warned_about() -> None:
    """Python warns of a fork in a process with threads; the watcher is none then."""
    warnings.simplefilter("always")
    m, view = poisoned()
    safemmap.faults()  # told
    for _ in range(20):
        forked(watches)
        watches()
    view.release()
    m.close()


def child_has_its_own() -> None:
    warnings.simplefilter("ignore")
    fd = safemmap.fault_fd()
    m, view = poisoned()

    def body() -> None:
        assert safemmap.fault_fd() == fd
        assert select.select([fd], [], [], 0)[0] == []
        assert safemmap.faults() == []
        m, _view = poisoned()
        assert select.select([fd], [], [], 0)[0] == [fd]
        assert [fault.mapping for fault in safemmap.faults()] == [m]
        watches()

    forked(body)
    assert [fault.mapping for fault in safemmap.faults()] == [m]
    view.release()
    m.close()


def child_of_a_storm() -> None:
    """Forks while other threads fault, warn, and take events."""
    warnings.simplefilter("ignore")  # of threads, and of the faults
    stopping = threading.Event()

    def fault() -> None:
        while not stopping.is_set():
            m, view = poisoned()
            view.release()
            m.close()
            safemmap.faults()

    def body() -> None:
        m, _view = poisoned()
        assert m.faulted
        assert [fault.mapping for fault in safemmap.faults()] == [m]

    threads = [threading.Thread(target=fault) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(100):
            forked(body)
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def first_view_in_the_middle_of_a_fork() -> None:
    """As another thread can take it, while hooks of others run."""
    forks = 0

    def take() -> None:
        nonlocal forks
        forks += 1
        if forks == 1:
            keep.append(poisoned())

    warnings.simplefilter("ignore")  # of threads, and of the fault
    os.register_at_fork(before=take)
    for _ in range(2):
        forked(watches)
        watches()


class Interrupted(Exception):
    pass


def event_loop_before_any_mapping() -> None:
    """A worker's faults are its own, though there was no handler when it forked."""
    event = safemmap.fault_fd()

    def readable() -> bool:
        return bool(select.select([event], [], [], 0)[0])

    child = os.fork()
    if child == 0:
        _, _view = poisoned()
        assert readable()
        assert len(safemmap.faults()) == 1
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert not readable()


def interrupted_while_it_takes_them() -> None:
    """What was not taken wakes the loop once more."""
    event = safemmap.fault_fd()
    _, _view = poisoned()
    names = vars(_core)
    fault = names["Fault"]

    def interrupt(**_: object) -> None:
        raise Interrupted

    names["Fault"] = interrupt
    try:
        safemmap.faults()
    except Interrupted:
        pass
    else:
        raise AssertionError("not interrupted")
    names["Fault"] = fault
    assert select.select([event], [], [], 0)[0]
    assert len(safemmap.faults()) == 1
    assert not select.select([event], [], [], 0)[0]


def queue_filled_within_a_scope() -> None:
    """Nobody has to be told of a scope's faults, but then of another mapping's."""
    pages = 1200  # more than the queue holds
    fd = os.memfd_create("filled")
    os.ftruncate(fd, pages * safemmap.PAGESIZE)
    m = safemmap.mmap(fd, pages * safemmap.PAGESIZE, views="deferred")
    other_fd = os.memfd_create("other")
    os.ftruncate(other_fd, SIZE)
    other = safemmap.mmap(other_fd, SIZE, views="deferred")
    other_view = memoryview(other)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with m.access() as view:
                for page in reversed(range(100, pages)):
                    os.ftruncate(fd, page * safemmap.PAGESIZE)
                    assert view[page * safemmap.PAGESIZE] == 0
                os.ftruncate(other_fd, 0)
                assert other_view[0] == 0
                await_warning(caught)
                assert f"length={SIZE}," in str(caught[0].message)
        except safemmap.BusError:
            pass
        else:
            raise AssertionError("the scope did not raise")
    safemmap.faults()
    other_view.release()
    other.close()


def scope_given_up() -> None:
    """Nobody is left who could end it."""
    fd = os.memfd_create("given up")
    os.ftruncate(fd, SIZE)
    m = safemmap.mmap(fd, SIZE, views="deferred")
    scope = m.access()
    lent = scope.__enter__()
    other = memoryview(m)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        os.ftruncate(fd, 0)
        assert other[0] == 0
        lent.release()
        del scope, lent
        await_warning(caught)
    os.ftruncate(fd, SIZE)
    other.release()
    m.reset()
    other = memoryview(m)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        os.ftruncate(fd, 0)
        assert other[0] == 0
        await_warning(caught)
    safemmap.faults()
    other.release()
    m.close()


keep: list[object] = []

if __name__ == "__main__":
    globals()[sys.argv[1]]()
    print("done", flush=True)
