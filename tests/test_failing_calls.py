"""Operations that change a mapping do all or nothing, whichever system call or
allocation fails."""

from __future__ import annotations

from pathlib import Path

import neighbours
import pytest
from conftest import not_under_asan, run_isolated


@not_under_asan("cannot do without the calls that fail here")
def test_what_fails_leaves_the_mapping_as_it_was(tmp_path: Path) -> None:
    shim = neighbours.compiled(tmp_path, "failing_calls.c")
    done = run_isolated(
        "failing_calls.py", str(shim), inside=["env", f"LD_PRELOAD={shim}"]
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")


@pytest.mark.parametrize("operation", ["view", "reset", "read"])
def test_what_lacks_memory_leaves_no_region_and_hides_no_fault(operation: str) -> None:
    pytest.importorskip("_testcapi")
    done = run_isolated("no_memory.py", operation)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "survived\n"
