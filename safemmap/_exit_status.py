"""No process ends with status 0 that has read zeros and was not told.

Such a process ends with status 1 and a line on standard error. All that Python does at
its end is done before that.
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
    atexit.register(_settle)
    # The children of multiprocessing, and most others that a fork made, end by it.
    os._exit = _exit


def _settle() -> None:
    line = _core.untold()
    if line is not None:
        _core.set_last_words(line)


def _exit(status: int) -> NoReturn:
    line = _core.untold() if status == 0 else None
    if line is not None:
        os.write(2, line.encode(errors="backslashreplace"))
        status = 1
    _leave(status)
