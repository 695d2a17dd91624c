"""Hours of bad luck in seconds: a peer that never rests, and a million overlays."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import run_isolated

slow = pytest.mark.slow


def storm(
    seconds: float, file: str, what: str = "protected"
) -> subprocess.CompletedProcess[str]:
    seed = str(random.randrange(1 << 32))
    print("seed", seed)
    return run_isolated(
        "storm.py", str(seconds), seed, file, what, timeout=seconds + 60
    )


@pytest.mark.parametrize(
    ("seconds", "file"),
    [
        (4, "memfd"),
        pytest.param(60, "memfd", marks=slow),
        pytest.param(20, "disk", marks=slow),
    ],
)
def test_storm(seconds: int, file: str, tmp_path: Path) -> None:
    """No crash, no hang, no wrong exception, no silent fault, no zero for data."""
    done = storm(seconds, str(tmp_path / "file") if file == "disk" else file)
    print(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    counts = json.loads(done.stdout)
    # Enough of everything, or it would show nothing; some ten times less than what
    # an idle machine does.
    for outcome, per_second in {
        "right": 60,
        "no zeros": 2,
        "recovered": 4,
        "overlaid": 10,
        "short": 4,
        "refused": 4,
        "changes": 40,
        **{f"{kind}: right": 10 for kind in ("guarded", "view", "scope", "protect")},
        **{f"{kind}: overlaid": 1 for kind in ("view", "scope", "protect")},
    }.items():
        assert counts[outcome] >= per_second * seconds, outcome
    assert counts["events"] + counts["dropped"] >= counts["faults of its own"]


def test_the_same_storm_kills_who_is_not_protected() -> None:
    done = storm(20, "memfd", "unprotected")
    assert (done.returncode, done.stdout) == (-signal.SIGBUS, "")


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=slow)])
def test_overlays_leave_nothing_behind(count: int) -> None:
    done = run_isolated("overlays.py", str(count), timeout=600)
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")
