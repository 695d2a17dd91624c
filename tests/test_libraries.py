"""Files that other libraries map themselves, in C, C++ and Rust, and that are truncated
under them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ISOLATED, needs_gil

# What comes out besides a BusError: an error of the library's own, with ours as its
# cause.
OWN_ERRORS = {
    "sqlite3": {"DatabaseError", "OperationalError"},
    "maxminddb": {"InvalidDatabaseError"},
    "lmdb": {"CorruptedError", "PageNotFoundError", "Error"},
    "safetensors": {"SafetensorError"},
    "polars": {"ComputeError"},
    "pyarrow": {"ArrowInvalid"},
}
LIBRARIES = [
    "numpy",
    "pyarrow",
    "polars",
    "safetensors",
    "lmdb",
    "h5py",
    "faiss",
    "sqlite3",
    "maxminddb",
    "torch",
]
pytestmark = [needs_gil, pytest.mark.parametrize("library", LIBRARIES)]


def outcome(
    folder: Path, library: str, where: str, protection: str
) -> tuple[int, str, str]:
    run = ["-m", "safemmap", "run"] if protection == "run" else []
    script = str(ISOLATED / "libraries.py")
    done = subprocess.run(
        [sys.executable, *run, script, str(folder), library, where, protection],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env={**os.environ, "PYTHONFAULTHANDLER": ""},
    )
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("where", ["main", "executor"])
def test_kills_without(tmp_path: Path, library: str, where: str) -> None:
    assert outcome(tmp_path, library, where, "nothing") == (-signal.SIGBUS, "", "")


@pytest.mark.parametrize(
    ("where", "protection"),
    [
        ("main", "enable"),
        ("main", "run"),
        ("executor", "enable"),
        pytest.param("executor", "run", marks=pytest.mark.slow),
        pytest.param("asyncio", "enable", marks=pytest.mark.slow),
        pytest.param("asyncio", "run", marks=pytest.mark.slow),
    ],
)
def test_raises(tmp_path: Path, library: str, where: str, protection: str) -> None:
    status, out, err = outcome(tmp_path, library, where, protection)
    assert status == 0, err
    # One warning for each file; none for a mapping of Python's own under `run`.
    warnings = err.splitlines()
    assert len(warnings) == 1 or protection == "run"
    assert all("FaultWarning: " in line for line in warnings), err
    errors, _, path = out.strip().partition(": ")
    assert path == str(tmp_path / library), out
    *own, ours = errors.split(" from ")
    assert ours == "BusError"
    assert set(own) <= OWN_ERRORS.get(library, set()), out
