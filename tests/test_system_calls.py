"""What the kernel is asked for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import ISOLATED

OPERATIONS = 6400
BETWEEN_LOOKS = 64


@pytest.fixture
def strace() -> list[str]:
    """The command, where tracing is allowed."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    command = ["strace", "-qq"]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"tracing is not allowed here: {tried.stderr.strip()}")
    return command


def test_small_operations_leave_signals_alone(
    strace: list[str], tmp_path: Path
) -> None:
    """But for one look in 64 at who handles SIGBUS, which changes nothing."""
    log = tmp_path / "log"
    calls = "trace=rt_sigaction,rt_sigprocmask,sigaltstack,getppid"
    script = [sys.executable, str(ISOLATED / "small_operations.py"), str(OPERATIONS)]
    done = subprocess.run(
        [*strace, "-e", calls, "-o", str(log), *script],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    lines = log.read_text().splitlines()
    first, last = (i for i, line in enumerate(lines) if line.startswith("getppid("))
    between = Counter(lines[first + 1 : last])
    looks = sum(n for line, n in between.items() if "(SIGBUS, NULL, {" in line)
    assert looks == sum(between.values()), between
    assert OPERATIONS // BETWEEN_LOOKS <= looks <= OPERATIONS // BETWEEN_LOOKS + 1
