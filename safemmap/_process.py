"""enable(): protects every mapping of a file in the process, foreign ones included.

Nothing happens before a fault: then the signal handler asks the kernel whether the
memory is an ordinary mapping of a regular file.
"""

from __future__ import annotations

import atexit
import os
import sys
from _thread import RLock
from typing import Literal

from safemmap import _core
from safemmap import _exit_status as _exit_status  # loaded before a chroot(2)

__all__ = ["disable", "enable", "enable_by_environment", "is_enabled"]

# These count the threads of a forking process after it has started ours again, and warn
# (python/cpython#137109).
_COUNTS_LATE = (3, 13) <= sys.version_info < (3, 13, 10) or sys.version_info[:3] == (
    *(3, 14, 0),
)

# Has a sitecustomize.
_STARTUP = os.path.join(os.path.dirname(__file__), "_startup")

_lock = RLock()  # for all below
_hooked = False
_environment = False  # has what children need, from here or from a parent
_switch_before: str | None = None  # the value of SAFEMMAP_ENABLE without that


def enable(
    *,
    threads: Literal["callers"] = "callers",
    on_fault: Literal["raise", "warn"] = "raise",
) -> None:
    """Protect every mapping of a regular file in this process, whoever has made it:
    where a load or a store would end the process by SIGBUS, `BusError` is raised.

    A page that is gone reads as zeros. C code that touched it goes on to its return,
    and then the Python call of that code raises, before the program can use the result.
    (An index or an operator is no call: after it the next turn of a loop raises, or the
    next call but for a few, such as `len`.) Each later touch raises again. The error's
    `path` and `offset` are those of the file; its `mapping` is None.

    Mappings of this library, and memory under `protect`, report their own faults.
    Devices, code, and a SIGBUS that is no fault kill as before. Forked children are
    protected as well, and other children that are Python and have this process's
    environment (`os.environ` gets ``SAFEMMAP_ENABLE`` and an entry in ``PYTHONPATH``
    for them). Before there is a fault it costs nothing, except that a C thread checks
    some 20 times a second that no other SIGBUS handler has displaced this one; and that
    on a free-threaded CPython ``on_fault="raise"`` turns the GIL on for the rest of the
    process. Of several threads that touch a page at once, one gets the exception.

    A second call takes the new arguments. The end of the interpreter disables it; the
    exit status is 1 if there was a fault which no exception has reported.

    :param threads: who gets the exception: ``"callers"`` is the Python thread that
        touched the page; or, if Python does not know that thread (a library's pool),
        the one that waits for it.
    :param on_fault: ``"raise"``; or ``"warn"``, which gives a `FaultWarning` alone, and
        has the program go on with zeros.
    :raises ValueError: an argument is none of these.
    :raises RuntimeError: ``SAFEMMAP_HANDLER=0`` forbids the handler, or
        ``PYTHON_GIL=0`` the GIL.
    :raises OSError: it cannot work here: there is no /proc, or no memory file.
    """
    if threads != "callers":
        raise ValueError(f"threads must be 'callers', not {threads!r}")
    if on_fault not in ("raise", "warn"):
        raise ValueError(f"on_fault must be 'raise' or 'warn', not {on_fault!r}")
    with _lock:
        _hook()  # first: a signal handler may raise between any two of these
        _core.enable_process(on_fault == "raise")
        _core.start_checks()
        _protect_children()


def disable() -> None:
    """Stop protecting the whole process, and the children that it starts from now on
    (whether `enable`, ``python -m safemmap run`` or a parent has protected it). Does
    nothing unless it is protected. (A C library with a copy of this package's core may
    go on with it.)"""
    with _lock:
        _core.disable_process()
        _core.stop_checks()
        _leave_children()


def is_enabled() -> bool:
    """Whether the whole process is protected."""
    return _core.process_is_enabled()


def enable_by_environment() -> None:
    """What ``SAFEMMAP_ENABLE=1`` does."""
    from safemmap import _stand_in

    enable()
    _stand_in.put_in_place()


# ---- Children ------------------------------------------------------------


def _protect_children() -> None:
    global _environment, _switch_before
    before = os.environ.get("PYTHONPATH", "")
    has_entry = before.split(os.pathsep)[0] == _STARTUP
    if not _environment:
        # A parent that has made the entry has set the variable, too.
        _switch_before = None if has_entry else os.environ.get("SAFEMMAP_ENABLE")
        _environment = True
    if not has_entry:
        # An empty entry would stand for the working directory.
        os.environ["PYTHONPATH"] = (
            f"{_STARTUP}{os.pathsep}{before}" if before else _STARTUP
        )
    os.environ["SAFEMMAP_ENABLE"] = "1"


def _leave_children() -> None:
    global _environment
    if not _environment:
        return
    _environment = False
    if _switch_before is None:
        os.environ.pop("SAFEMMAP_ENABLE", None)
    else:
        os.environ["SAFEMMAP_ENABLE"] = _switch_before
    first, _, rest = os.environ.get("PYTHONPATH", "").partition(os.pathsep)
    if first == _STARTUP and rest:
        os.environ["PYTHONPATH"] = rest
    elif first == _STARTUP:
        del os.environ["PYTHONPATH"]


# ---- Fork and exit -------------------------------------------------------


def _hook() -> None:
    global _hooked
    if _hooked:
        return
    _core.watch_exit_status()
    # Functions in C: the interpreter calls the handler of a signal that came meanwhile
    # before the first line of one in Python, which is skipped if that raises.
    os.register_at_fork(before=_core.pause_checks, after_in_child=_core.resume_checks)
    if not _COUNTS_LATE:
        os.register_at_fork(after_in_parent=_core.resume_checks)
    os.register_at_fork(  # last: what is before a fork is called in reverse
        before=_lock.acquire,
        after_in_parent=_lock.release,
        after_in_child=_lock._at_fork_reinit,  # type: ignore[attr-defined]
    )
    atexit.register(disable)
    _hooked = True
