"""The exit status after a fault that no exception has reported: 1 instead of 0.

The process also writes a line to standard error. Both happen after everything that
Python does at its end.
"""

from __future__ import annotations

import atexit
import os
from typing import NoReturn

from safemmap import _core

__all__ = ["watch"]

_leave = os._exit


def watch() -> None:
    """From now on. To be called once."""
    _core.watch_end()
    atexit.register(_core.settle)
    # Children of multiprocessing, and most other forked children, end with os._exit().
    os._exit = _exit


def _exit(status: int) -> NoReturn:
    line = _core.untold() if status == 0 else None
    if line is not None:
        os.write(2, line.encode(errors="backslashreplace"))
        status = 1
    _leave(status)
