"""Threads that share a mapping: what holds while they take turns holds where they do
not, on a build without a GIL."""

from __future__ import annotations

import subprocess
import sys
import sysconfig

import pytest
from conftest import run_isolated

free_threaded = pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED") or sys.version_info >= (3, 16),
    reason="needs a free-threaded CPython 3.13 to 3.15",
)


@free_threaded
@pytest.mark.parametrize(
    "race",
    [
        "close_while_reading",
        "close_while_copying_much",
        "resize_while_reading",
        "resize_while_viewing",
        "first_views",
        "exports_are_counted",
        "scopes_are_counted",
        "operations_are_counted",
        "position",
        "iterator",
        "faults_and_reset",
        "faults_are_taken_once",
        "protection_ends_twice",
        "threads_come_and_go",
        "guarded_faults",
        "reading",
        "close_beside_reads",
        "resize_beside_reads",
        "first_view_beside_reads",
        "reset_beside_reads",
        "fork_beside_reads",
        "error_unpickled_beside_readers",
    ],
)
def test_race(race: str) -> None:
    child = run_isolated("races.py", race)
    assert (child.returncode, child.stdout, child.stderr) == (0, "", "")


def python(code: str, gil: str | None) -> subprocess.CompletedProcess[str]:
    options = [] if gil is None else ["-X", f"gil={gil}"]
    return subprocess.run(
        [sys.executable, "-E", *options, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
    )


@free_threaded
def test_the_module_does_without_the_gil() -> None:
    child = python(
        "import os, sys, safemmap\n"
        "m = safemmap.mmap(-1, 1)\n"
        "memoryview(m).release(), m[0], m.find(b'x')\n"
        "print(sys._is_gil_enabled())",
        None,
    )
    assert (child.returncode, child.stdout, child.stderr) == (0, "False\n", "")


@free_threaded
def test_interrupting_turns_the_gil_on() -> None:
    code = (
        "import sys, safemmap\n"
        "safemmap.mmap(-1, 1, views='interrupt')\n"
        "print(sys._is_gil_enabled())"
    )
    child = python(code, None)
    assert (child.returncode, child.stdout) == (0, "True\n")
    assert "RuntimeWarning: The global interpreter lock (GIL) has been" in child.stderr
    child = python(code, "1")
    assert (child.returncode, child.stdout, child.stderr) == (0, "True\n", "")
    child = python(code, "0")
    assert (child.returncode, child.stdout) == (1, "")
    assert child.stderr.endswith(
        "needs the GIL, which PYTHON_GIL=0 or -X gil=0 forbids\n"
    )


@free_threaded
def test_a_drop_in_without_the_gil_is_deferred() -> None:
    child = python(
        "import os, sys, safemmap\n"
        "sys.modules['mmap'] = safemmap\n"
        "fd = os.memfd_create('cut')\n"
        "os.ftruncate(fd, 1)\n"
        "with safemmap.mmap(fd, 1) as m, memoryview(m) as view:\n"
        "    os.ftruncate(fd, 0)\n"
        "    print(view[0], sys._is_gil_enabled(), flush=True)",
        "0",
    )
    assert (child.returncode, child.stdout) == (1, "0 False\n")
    assert "safemmap: BusError: " in child.stderr
