"""Tells of faults in views while the program does something else.

The handler can only put an event into a queue. A thread takes it from there, which
runs while anything is registered: it interrupts the thread that met the fault where
that is wanted, and warns of a fault that nobody has asked about. It is stopped around
a fork, so that a process which has no threads of its own stays one for `os.fork`.
"""

from __future__ import annotations

import atexit
import os
import sys
from _thread import RLock, get_native_id
from collections import deque
from dataclasses import replace
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from safemmap import _core
from safemmap._errors import Fault

if TYPE_CHECKING:
    import threading
    import weakref

    from safemmap._core import Region

__all__ = ["Faults", "fault_fd", "faults"]

# A program that asks by itself is not to be warned of what it is about to learn:
# seconds from a fault to the warning.
_GRACE = 0.1
# Seconds for which a fork waits for a warning that is being given.
_PATIENCE = 1.0
# Faults that wait for `faults`.
_CAPACITY = 1024

#: What is registered, by its id.
live: dict[int, Region] = {}

_recent: deque[tuple[weakref.ref[Any], int, Fault]] = deque(maxlen=_CAPACITY)
_lost = 0  # those that fell out of `_recent`
_dropped_before = 0  # by the core, when `faults` was called last
_unwarned: dict[int, float] = {}  # when to warn of which region

_lock = RLock()  # for the three below
_thread: threading.Thread | None = None
_stopping = False
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
    global _lost, _dropped_before
    _core.clear_event_fd()
    drain()
    found = Faults()
    while _recent:
        owner, region_id, fault = _recent.popleft()
        region = live.get(region_id)
        if region is not None:
            region.reported = True
        found.append(replace(fault, mapping=owner()))
    dropped = _core.events_dropped()
    found.dropped = dropped - _dropped_before + _lost
    _dropped_before, _lost = dropped, 0
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


def drain() -> None:
    """Take what is in the queue of the core, on any thread."""
    global _lost
    while (event := _core.next_event()) is not None:
        region_id, met = event
        region = live.get(region_id)
        if region is None:
            continue
        fault = region.met(met)
        if len(_recent) == _CAPACITY:
            _lost += 1
        _recent.append((region.owner, region_id, fault))
        if region_id not in _unwarned:
            _unwarned[region_id] = monotonic() + _GRACE
            _core.wake()


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
    if _thread is not None or _finished:
        return
    import threading

    with _lock:
        if _thread is not None:
            return
        _stopping = False
        _thread = threading.Thread(target=_run, name="safemmap watcher", daemon=True)
        try:
            _thread.start()
        except RuntimeError:
            # There are no more to be had. The next view tries again, and close() warns
            # too.
            _thread = None


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


def _run() -> None:
    while not _stopping:
        due = min(_unwarned.values(), default=None)
        _core.wait_for_events(None if due is None else max(0.0, due - monotonic()))
        drain()
        _warn(monotonic())


def _warn(now: float) -> None:
    for region_id, due in list(_unwarned.items()):
        if due <= now:
            del _unwarned[region_id]
            region = live.get(region_id)
            if region is not None:
                region.warn_unasked()


# ---- Fork and exit -------------------------------------------------------


def _before_fork() -> None:
    _lock.acquire()
    _stop()


def _after_fork_in_parent() -> None:
    try:
        if live:
            start()
    finally:
        _lock.release()


def _after_fork_in_child() -> None:
    global _lock, _thread, _lost, _dropped_before
    _lock = RLock()
    _thread = None
    _recent.clear()
    _unwarned.clear()
    _lost = _dropped_before = 0
    if live:
        start()


def _at_exit() -> None:
    global _finished
    _finished = True
    _stop()
    drain()
    _warn(float("inf"))


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
atexit.register(_at_exit)
