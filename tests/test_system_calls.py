"""Which system calls operations make, seen by a tracer."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import ISOLATED, not_under_asan

OPERATIONS = 6400
#: What is looked at: who handles SIGBUS, and whether it is blocked.
LOOKS = ["(SIGBUS, NULL, {", "(SIG_BLOCK, NULL, ["]
OPERATIONS_BETWEEN_LOOKS = 64
MICROSECONDS_BETWEEN_LOOKS = 100


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


@pytest.mark.parametrize(
    "page",
    [
        "there",
        pytest.param("gone", marks=not_under_asan("asks for the alternate stack")),
    ],
)
@pytest.mark.parametrize("pause", [0, 0.001])
def test_small_operations_leave_signals_alone(
    strace: list[str], tmp_path: Path, pause: float, page: str
) -> None:
    """But for looks, which change nothing: by one operation in 64, and not more often
    than every 100 microseconds. Nor does a fault that is recovered change anything."""
    between, passed = signal_calls(strace, tmp_path / "log", "guarded", pause, page)
    most = OPERATIONS // OPERATIONS_BETWEEN_LOOKS
    least = most if pause else 0
    most = min(most, passed // MICROSECONDS_BETWEEN_LOOKS)
    for looks_like in LOOKS:
        looks = sum(n for line, n in between.items() if looks_like in line)
        assert least <= looks <= most + 1
        between = Counter({k: n for k, n in between.items() if looks_like not in k})
    assert not between


def test_by_way_of_the_kernel_there_are_no_signals(
    strace: list[str], tmp_path: Path
) -> None:
    calls, _ = signal_calls(strace, tmp_path / "log", "kernel", 0, "there")
    assert not calls


def signal_calls(
    strace: list[str], log: Path, protection: str, pause: float, page: str
) -> tuple[Counter[str], int]:
    """The calls, and how many microseconds all of it took."""
    calls = "trace=rt_sigaction,rt_sigprocmask,sigaltstack,getppid"
    script = [sys.executable, str(ISOLATED / "small_operations.py"), str(OPERATIONS)]
    script += [str(pause), protection, page]
    done = subprocess.run(
        [*strace, "-e", calls, "-o", str(log), *script],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line for line in log.read_text().splitlines() if line[0] != "-"]
    first, last = (i for i, line in enumerate(lines) if line.startswith("getppid("))
    return Counter(lines[first + 1 : last]), int(done.stdout)
