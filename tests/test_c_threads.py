"""Threads that C code has made, and that Python has never seen."""

from __future__ import annotations

import signal
from pathlib import Path

import neighbours
import pytest
from conftest import run_isolated


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return neighbours.compiled(tmp_path_factory.mktemp("neighbours"))


@pytest.mark.parametrize(
    "what",
    [
        "view",
        "view, small stack",
        "view, stack for signals",
        "view, small stack and stack for signals",
        "guard",
    ],
)
def test_the_first_fault_of_a_thread(what: str, library: Path) -> None:
    done = run_isolated("c_thread.py", what, str(library))
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")


def test_it_would_kill_without_us(library: Path) -> None:
    done = run_isolated("c_thread.py", "unprotected", str(library))
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGBUS, "", "")
