"""The interpreter ends with mappings, scopes and threads that are alive."""

from __future__ import annotations

import signal
from pathlib import Path

import neighbours
import pytest
from conftest import run_isolated

# What there is to see after the "end".
VARIANTS = {
    "mapping": "",
    "view": "",
    "scope left open": "",
    "generator in a scope": "",
    "fault at exit": "",
    "fault in a finalizer": "torn down\n",
    "C code reads last": "read 0\n",
    "threads that read": "",
    "threads that fault": "",
    "threads in scopes": "",
    "threads that fault in views": "",
}

# The default action is installed for some microseconds (docs/limits.md), and this is
# what faults of threads without the GIL end in then.
UNHANDLED = {
    (what, "before", -signal.SIGBUS)
    for what in ("threads that fault", "threads that fault in views")
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return neighbours.compiled(tmp_path_factory.mktemp("neighbours"))


@pytest.mark.parametrize("enabled", ["never", "before", "after"])
@pytest.mark.parametrize("what", VARIANTS)
def test_exit(what: str, enabled: str, library: Path) -> None:
    for _ in range(5 if "threads" in what else 1):
        done = run_isolated("exit_alive.py", what, enabled, str(library))
        if (what, enabled, done.returncode) in UNHANDLED:
            pytest.xfail("a fault between faulthandler's end and ours")
        assert (done.returncode, done.stdout) == (0, f"end\n{VARIANTS[what]}")
        assert done.stderr == ""
