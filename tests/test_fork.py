"""Children of a process that faults on many threads, and fault themselves."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import neighbours
import pytest
from conftest import needs_shared_memory, run_isolated

from safemmap._process import _COUNTS_LATE as COUNTS_LATE

THREADS = 4


@pytest.mark.parametrize("forks_each", [50, pytest.param(250, marks=pytest.mark.slow)])
def test_fault_fork_and_fault_in_both(forks_each: int) -> None:
    done = run_isolated(
        "fork_from_threads.py", str(THREADS), str(forks_each), timeout=120
    )
    assert done.stderr == ""
    assert (done.returncode, done.stdout) == (0, f"{THREADS * forks_each}\n")


@needs_shared_memory
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_multiprocessing(method: str) -> None:
    done = run_isolated("multiprocessing_faults.py", method, timeout=150)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 0 0 0\n", "")


@pytest.mark.parametrize("operations", [0, 1, 63, 64])
def test_a_worker_that_installs_its_own_handler(
    operations: int, tmp_path: Path
) -> None:
    library = neighbours.compiled(tmp_path)
    done = run_isolated("fork_displaced.py", str(operations), str(library))
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_interrupted_before_it() -> None:
    """The thread that warns ends all the same."""
    done = run_isolated("fork_interrupted.py", "before it")
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "KeyboardInterrupt()",
        "threads at the fork: 1",
        "child: 0",
        "free: True",
    ]


def test_interrupted_during_it() -> None:
    """The exception leaves os.fork(), and nothing stays locked or stopped."""
    done = run_isolated("fork_interrupted.py", "during it", timeout=90)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "KeyboardInterrupt",
        f"threads that are gone: {int(COUNTS_LATE)}",
        "child: 0",
        "free: True",
    ]
