"""Tells of faults in views while the program does something else.

The handler can only put an event into a queue. A thread takes it from there, which
runs from the first view on: it warns of a fault that nobody has asked about. It is stopped around a fork,
so that a process which has no threads of its own stays one for `os.fork`; a child has
none until it takes a view itself.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
from _thread import RLock, get_native_id
from time import monotonic, sleep
from typing import TYPE_CHECKING

from safemmap import _core
from safemmap._errors import Fault

if TYPE_CHECKING:
    import threading

__all__ = ["Faults", "fault_fd", "faults"]

# Seconds for which a fork waits for a warning that is being given.
_PATIENCE = 1.0
# What a thread needs to have unblocked.
_OWN_FAULTS = {
    signal.SIGBUS,
    signal.SIGSEGV,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGABRT,
    signal.SIGSYS,
}

_lock = RLock()  # for the four below
_thread: threading.Thread | None = None
_stopping = False
_hooked = False
_finished = False


class Faults(list[Fault]):
    """What `faults` returns.

    :ivar dropped: how many faults since the last call are not among them, because
        nobody took them in time.
    """

    dropped: int = 0


def faults() -> Faults:
    """The faults of views since the last call, oldest first.

    A view that touches a page which is gone puts one here: for the mapping, and for
    every `protect` that holds the page too. What an operation reports by raising
    `BusError` is not among them. The last 1024 are kept.

    Makes `fault_fd` unreadable until there is another. The mappings concerned count as
    asked about: they do not warn of these faults any more.
    """
    taken, dropped = _core.take_faults()
    found = Faults(taken)
    found.dropped = dropped
    return found


def fault_fd() -> int:
    """A file descriptor that is readable while there are `faults` to take, for an event
    loop::

        loop.add_reader(safemmap.fault_fd(), handle_faults)

    It is an eventfd(2), written by the signal handler itself. There is one for the
    process, which stays open: do not close it, and do not read it (`faults` does). A
    forked child has its own, under the same number.

    :raises OSError: as eventfd(2) has it.
    """
    return _core.event_fd()


def thread_name(native_id: int) -> str:
    """A thread as a reader knows it, by the kernel's id."""
    threading = sys.modules.get("threading")
    for thread in threading.enumerate() if threading is not None else ():
        if thread.native_id == native_id:
            return f"thread {native_id} ({thread.name})"
    return f"thread {native_id}"


# ---- The thread ----------------------------------------------------------


def start() -> None:
    """Have somebody watch from now on."""
    global _thread, _stopping
    # Here, since it is to have its own hook at a fork before ours.
    import threading

    with _lock:
        if _thread is not None or _finished:
            return
        _hook()
        _stopping = False
        thread = threading.Thread(target=_run, name="safemmap watcher", daemon=True)
        # Signals are for the program's own threads, which may wait for them with
        # sigwait(3).
        # (Asked for first: blocking them runs handlers that have come to it, which
        # may raise.)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            signal.pthread_sigmask(
                signal.SIG_BLOCK, signal.valid_signals() - _OWN_FAULTS
            )
            _thread = thread
            thread.start()
        except RuntimeError:
            pass  # there are no more to be had; the next view tries again
        finally:
            if not thread.is_alive():
                _thread = None
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _run() -> None:
    timeout: float | None = 0.0
    while not _stopping:
        try:
            regions, timeout = _core.watch(timeout)
            for region in regions:
                if region is not None:
                    region.warn_unasked()
        except Exception:
            # Of a page that a hook for warnings has touched in here.
            traceback = sys.modules.get("traceback")
            if traceback is not None:
                traceback.print_exc()
    _core.stop_watching()


def _stop() -> None:
    global _thread, _stopping
    if _thread is None or _thread.native_id == get_native_id():
        return
    _stopping = True
    _core.wake()
    end = monotonic() + _PATIENCE
    _thread.join(_PATIENCE)
    # The kernel's thread can be there a little longer, for `os.fork` to count.
    while not _thread.is_alive() and monotonic() < end:
        if not os.path.exists(f"/proc/self/task/{_thread.native_id}"):
            _thread = None
            return
        sleep(0.0001)
    _stopping = False


# ---- Fork and exit -------------------------------------------------------


def _hook() -> None:
    global _hooked
    if not _hooked:
        _hooked = True
        os.register_at_fork(
            before=_before_fork,
            after_in_parent=_after_fork_in_parent,
            after_in_child=_after_fork_in_child,
        )
        atexit.register(_at_exit)


def _before_fork() -> None:
    _lock.acquire()
    _stop()


def _after_fork_in_parent() -> None:
    try:
        if _core.region_count() > 0:
            start()
    finally:
        # Not ours where the first view was taken in the middle of this fork, too late
        # for `_before_fork`.
        with contextlib.suppress(RuntimeError):
            _lock.release()


def _after_fork_in_child() -> None:
    global _lock, _thread
    _lock = RLock()
    _thread = None
    _core.forget_parent()


def _at_exit() -> None:
    global _finished
    _finished = True
    _stop()
    _core.warn_of_all()
