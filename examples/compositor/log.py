"""Says on stderr what went wrong."""

from __future__ import annotations

import contextlib
import sys


def log(what: str) -> None:
    """Not being heard is no reason to end."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None:
            print(what, file=sys.stderr, flush=True)
