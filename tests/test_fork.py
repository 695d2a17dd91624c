"""Children of a process that faults on many threads, and fault themselves."""

from __future__ import annotations

import multiprocessing

import pytest
from conftest import run_isolated

THREADS = 4
FORKS_EACH = 250


def test_fault_fork_and_fault_in_both() -> None:
    done = run_isolated(
        "fork_from_threads.py", str(THREADS), str(FORKS_EACH), timeout=120
    )
    assert done.stderr == ""
    assert (done.returncode, done.stdout) == (0, f"{THREADS * FORKS_EACH}\n")


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_multiprocessing(method: str) -> None:
    done = run_isolated("multiprocessing_faults.py", method, timeout=150)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 0 0 0\n", "")
