"""The SIGBUS handler: its place among other handlers, and its counts.

The first mapping that needs the handler installs it, and later ones check that it is on
top. No program has to call anything here.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import signal
import sys
import typing  # noqa: F401 (all of it, for dataclass())
from dataclasses import dataclass

from safemmap import _core

__all__ = ["Status", "install", "status", "uninstall"]


@dataclass(frozen=True, slots=True)
class Status:
    """What `status` returns.

    :ivar installed: whether the handler is there, on top or below others.
    :ivar on_top: whether it is the one that the kernel calls.
    :ivar displaced_by: the handler above it, as far as it can be named, or None.
    :ivar below: the handlers to which it forwards foreign signals, one after the other.
        (To whom one of these forwards them cannot be seen.)
    :ivar reinstalls: how often it was put back above a handler that had displaced it.
    :ivar recovered: faults that ended an operation with `BusError`.
    :ivar overlaid: faults of views, answered with zeros.
    :ivar forwarded: signals that were forwarded to a previous handler.
    """

    installed: bool
    on_top: bool
    displaced_by: str | None
    below: tuple[str, ...]
    reinstalls: int
    recovered: int
    overlaid: int
    forwarded: int


def status() -> Status:
    """Who handles SIGBUS at this moment, and what this library's handler has done since
    the process began."""
    handlers = _core.handlers()
    ours = [place for place, (is_ours, _, _) in enumerate(handlers) if is_ours]
    names = [_name(file, symbol) for _, file, symbol in handlers]
    recovered, overlaid, forwarded, installs = _core.handler_counts()
    return Status(
        installed=bool(ours),
        on_top=ours == [0],
        displaced_by=names[0] if ours and ours != [0] else None,
        below=tuple(names[ours[0] + 1 :]) if ours else tuple(names),
        reinstalls=max(0, installs - 1),
        recovered=recovered,
        overlaid=overlaid,
        forwarded=forwarded,
    )


def install() -> None:
    """Install the handler now, or put it back above one that has displaced it.

    :raises RuntimeError: ``SAFEMMAP_HANDLER=0`` forbids it, or others have displaced it
        too often.
    :raises OSError: as sigaction(2) has it.
    """
    error = -_core.install_handler()
    if error == errno.EBUSY:
        raise RuntimeError(
            f"{status().displaced_by} and others have displaced the handler too often; "
            "nothing is put above them any more"
        )
    if error:
        raise OSError(error, os.strerror(error))


def uninstall() -> None:
    """Restore the previous handler.

    Guarded mappings then go through system calls, and hand out no views, until
    `install`. (Where C libraries in the process have copies of this library's core,
    the handler itself stays until they have uninstalled it too.)

    :raises RuntimeError: the handler is not on top of all others, or below it is one
        that may call it; or a mapping that has handed out a view, a `protect`, or an
        operation on another thread still needs it.
    :raises OSError: as sigaction(2) has it.
    """
    error = -_core.uninstall_handler()
    if error == errno.EBUSY:
        now = status()
        who = now.displaced_by or now.below[0]
        raise RuntimeError(
            f"{who} was installed after safemmap's handler, and may call it; remove "
            "that one first"
        )
    if error == errno.EADDRINUSE:
        raise RuntimeError(
            "mappings that have handed out views, objects that are protected, "
            "operations on other threads, or enable() still need the handler; close "
            "them first, or disable()"
        )
    if error:
        raise OSError(error, os.strerror(error))


def _name(file: str | None, symbol: str | None) -> str:
    """A handler's name, as a reader knows it."""
    if file is None:
        return symbol or "a handler in memory that belongs to no library"
    if _is_python(file):
        python = signal.getsignal(signal.SIGBUS)
        if callable(python):
            return f"signal.signal(SIGBUS, {python!r})"
        if faulthandler.is_enabled():
            return "faulthandler"
        return "a handler of the Python interpreter"
    return f"{symbol or 'a handler'} in {file}"


def _is_python(file: str) -> bool:
    name = os.path.basename(file)
    return name.startswith(("libpython", "python")) or os.path.realpath(
        file
    ) == os.path.realpath(sys.executable)
