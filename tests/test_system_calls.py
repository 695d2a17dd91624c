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
#: What is looked at, and by one in how many operations.
LOOKS = {"(SIGBUS, NULL, {": 64, "(SIG_BLOCK, NULL, [": 256}


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
    """But for one look in 64 at who handles SIGBUS, and one in 256 at whether it is
    blocked, which changes nothing."""
    between = signal_calls(strace, tmp_path / "log", "guarded")
    for looks_like, every in LOOKS.items():
        looks = sum(n for line, n in between.items() if looks_like in line)
        assert OPERATIONS // every <= looks <= OPERATIONS // every + 1
        between = Counter({k: n for k, n in between.items() if looks_like not in k})
    assert not between


def test_by_way_of_the_kernel_there_are_no_signals(
    strace: list[str], tmp_path: Path
) -> None:
    assert not signal_calls(strace, tmp_path / "log", "kernel")


def signal_calls(strace: list[str], log: Path, protection: str) -> Counter[str]:
    calls = "trace=rt_sigaction,rt_sigprocmask,sigaltstack,getppid"
    script = [sys.executable, str(ISOLATED / "small_operations.py"), str(OPERATIONS)]
    script.append(protection)
    done = subprocess.run(
        [*strace, "-e", calls, "-o", str(log), *script],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    lines = log.read_text().splitlines()
    first, last = (i for i, line in enumerate(lines) if line.startswith("getppid("))
    return Counter(lines[first + 1 : last])
