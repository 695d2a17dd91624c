"""No descriptor stays open when a signal handler raises in the middle of a call."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from conftest import PAGE, LossyFile, open_fds

import safemmap


class Interrupt(BaseException):
    pass


def interrupted(work: Callable[[], object], step: int) -> bool:
    """Call it; raise where the interpreter calls the handlers of signals, when it does
    so for the `step`th time: as a function in C returns, and as one in Python begins.

    (A bare descriptor is lost if that is at the end of what returns it.)"""
    steps = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal steps
        if event not in ("call", "c_return") or (
            getattr(argument, "__name__", "") == "detach"
        ):
            return
        steps += 1
        if steps == step:
            sys.setprofile(None)
            raise Interrupt

    sys.setprofile(count)
    try:
        work()
    except Interrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


@pytest.mark.parametrize("what", ["open", "wrap", "memfd"])
def test_interrupted_anywhere(what: str, lossy: LossyFile, tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(bytes(PAGE))
    work: Callable[[], object] = {
        "open": lambda: safemmap.open(path).close(),
        "wrap": lambda: safemmap.wrap(lossy.fd).close(),
        "memfd": lambda: os.close(safemmap.memfd(b"x")),
    }[what]
    work()  # loads what it needs
    before = open_fds()
    for step in itertools.count(1):
        if not interrupted(work, step):
            break
        assert open_fds() == before, step
    assert step > 5
