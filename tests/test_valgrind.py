"""Under valgrind, which finds reads out of bounds and leaks."""

from __future__ import annotations

import shutil

import pytest
from conftest import run_isolated


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
def test_maps_faults_and_closes() -> None:
    done = run_isolated(
        "memcheck.py",
        inside=(
            *("env", "PYTHONMALLOC=malloc"),
            *("valgrind", "--quiet", "--error-exitcode=9"),
        ),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
