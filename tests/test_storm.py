"""Stress: a peer that changes the file all the time, and very many overlays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import needs_gil, not_under_asan, run_isolated

pytest.importorskip("numpy")

pytestmark = needs_gil

slow = pytest.mark.slow


def storm(seconds: float, *options: str) -> subprocess.CompletedProcess[str]:
    arguments = ["torture", "--seconds", str(seconds), *options]
    return subprocess.run(
        [sys.executable, "-m", "safemmap", *arguments],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )


@pytest.mark.parametrize(
    ("seconds", "file"),
    [
        (4, "memfd"),
        pytest.param(30, "memfd", marks=slow),
        pytest.param(20, "disk", marks=slow),
    ],
)
def test_storm(seconds: int, file: str, tmp_path: Path) -> None:
    """No crash, no hang, no wrong exception, no silent fault, no zero for data."""
    options = ["--file", str(tmp_path / "file")] if file == "disk" else []
    done = storm(seconds, *options)
    print(done.stderr, done.stdout)
    assert done.returncode == 0
    assert done.stderr.startswith("seed ")
    assert len(done.stderr.splitlines()) >= 2 + seconds // 2
    assert "\nPASSED: no wrong byte" in done.stderr
    counts = json.loads(done.stdout)
    # Enough of everything, or it would show nothing; some hundred times less than what
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
        assert counts[outcome] >= per_second * seconds / 10, outcome
    assert counts["events"] + counts["dropped"] >= counts["faults of its own"]


@slow
@pytest.mark.parametrize("views", ["deferred", "interrupt"])
def test_everything_at_once(views: str) -> None:
    """For ten minutes in .ci/nightly."""
    mayhem = Path(__file__).parent / "mayhem.py"
    done = subprocess.run(
        [sys.executable, mayhem, "--seconds", "5", "--views", views],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert (done.returncode, done.stderr) == (0, ""), done


def test_the_same_storm_kills_who_is_not_protected() -> None:
    done = storm(20, "--unprotected")
    assert (done.returncode, done.stdout) == (-signal.SIGBUS, "")


def test_a_wrong_outcome_ends_it() -> None:
    """With the seed, to have it again."""
    script = (
        "import sys\n"
        "from safemmap.__main__ import main\n"
        "from safemmap._commands.torture.storm import Reader, Read\n"
        "Reader.guarded = lambda self: Read(0, 1, data=bytes(1))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "torture", "--seconds", "30", "--seed", "7"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "AssertionError: zeros at [0]" in done.stderr
    assert "FAILED: a wrong outcome; " in done.stderr
    assert "--seed 7 has the same" in done.stderr


def test_interrupted() -> None:
    """What has come out so far was right."""
    command = subprocess.Popen(
        [sys.executable, "-m", "safemmap", "torture", "--seconds", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert command.stderr is not None
    for _ in range(3):  # the seed, the headings, and a second of it
        command.stderr.readline()
    os.killpg(command.pid, signal.SIGINT)  # as a terminal does it
    out, error = command.communicate(timeout=60)
    assert command.returncode == 0, error
    assert json.loads(out)["right"] > 0
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--threads", value) for value in ("0", "-1", "x")),
        *(("--seconds", value) for value in ("0", "-1", "nan", "inf", "x")),
    ],
)
def test_bad_arguments(option: str, value: str) -> None:
    assert storm(1, option, value).returncode == 2


@not_under_asan("keeps what is freed for a while")
@pytest.mark.parametrize("count", [20_000, pytest.param(200_000, marks=slow)])
def test_overlays_leave_nothing_behind(count: int) -> None:
    done = run_isolated("overlays.py", str(count), timeout=600)
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")
