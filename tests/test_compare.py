"""python -m safemmap compare."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import members, needs_gil

from safemmap import testing
from safemmap._commands.compare.approaches import APPROACHES
from safemmap._commands.compare.survival import Cell, Outcome, run_all

COMMAND = [sys.executable, "-m", "safemmap", "compare"]
slow = pytest.mark.slow


def cell(source: str, approach: str) -> tuple[Outcome, str]:
    (found,) = run_all([(source, approach)], destructive=False, workers=1)
    assert (found.source, found.approach) == (source, approach)
    return found.outcome, found.detail


# What is known of them without the table.
@pytest.mark.parametrize(
    ("source", "approach", "outcome", "detail"),
    [
        ("shrink", "mmap", "killed", "SIGBUS"),
        ("shrink", "mmap, sealed", "blocked", "PermissionError: Operation not"),
        ("shrink", "sealed", "blocked", "PermissionError: Operation not permitted"),
        ("shrink", "guarded", "raised", "BusError: Bad address"),
        ("shrink", "view", "raised", "BusError: Bad address"),
        ("shrink", "kernel", "raised", "BusError: Bad address"),
        ("shrink", "protect", "raised", "BusError: Bad address"),
        pytest.param("shrink", "enable", "raised", "BusError: ", marks=needs_gil),
        ("shrink", "pread", "short", "0 bytes of"),
        ("shrink", "signal", "hung", "until it was killed"),
        ("shrink and regrow", "guarded", "new data", ""),
        ("shrink in the last page", "mmap", "zeros", ""),
        ("shrink in the last page", "view", "raised", "BusError: Bad address"),
        ("disk truncation", "mmap", "killed", "SIGBUS"),
        ("disk truncation", "sealed", "refused", "SealError: the file is"),
        ("no huge pages", "mmap, sealed", "killed", "SIGBUS"),
        ("poisoned memory", "mmap", "not here", "only with --destructive"),
    ],
)
def test_cell(source: str, approach: str, outcome: str, detail: str) -> None:
    missing = testing.SOURCES[source].missing()
    if missing is not None and outcome != "not here":
        assert cell(source, approach) == (Outcome.IMPOSSIBLE, missing)
        pytest.skip(f"{source}: {missing}")
    found, remark = cell(source, approach)
    assert found == outcome
    assert remark.startswith(detail)


@slow
@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGKILL])
def test_interrupted(way: signal.Signals, tmp_path: Path) -> None:
    """Nothing is left behind, in the middle of the readers."""
    pytest.importorskip("rich", reason="needs rich")
    mounts = Path("/proc/self/mountinfo").read_text()
    command = subprocess.Popen(
        [*COMMAND, "--quick"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while members(command.pid) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    command.send_signal(way)
    status = command.wait(timeout=30)
    assert status == (130 if way is signal.SIGINT else -way)
    while members(command.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not members(command.pid)
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("plot", [[], ["--plot", "x.svg"]])
def test_without_what_it_needs(plot: list[str], tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        "missing = ('rich', 'matplotlib')\n"
        "PathFinder.find_spec = lambda name, *rest:"
        " None if name in missing else find(name, *rest)\n"
        "from safemmap.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "compare", *plot],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (1, "")
    names = "rich and matplotlib" if plot else "rich"
    assert done.stderr == (
        f"safemmap: this needs {names}: pip install 'safemmap[compare]'\n"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--json", "missing/x.json"], "No such file or directory"),
        (["--json", "."], "Is a directory"),
        (["--plot", "x.xyz"], "the name must end in one of ."),
    ],
)
def test_files_that_cannot_be_written(
    options: list[str], said: str, tmp_path: Path
) -> None:
    """Said before anything is tried, and none is left there empty."""
    pytest.importorskip("rich", reason="needs rich")
    if "--plot" in options:
        pytest.importorskip("matplotlib", reason="needs matplotlib")
    done = subprocess.run(
        [*COMMAND, "--markdown", "x.md", *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("safemmap: ")
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_sources_in_the_working_directory(tmp_path: Path) -> None:
    """As in a clone, where the package is installed from: they are not what runs."""
    (tmp_path / "safemmap").mkdir()
    (tmp_path / "safemmap/__init__.py").write_text("raise ImportError('not built')\n")
    script = (
        "from safemmap._commands.compare.survival import run_all\n"
        "(cell,) = run_all([('shrink', 'guarded')], destructive=False, workers=1)\n"
        "print(cell.outcome)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (done.stdout, done.stderr) == ("raised\n", "")


@slow
def test_quick(tmp_path: Path) -> None:
    pytest.importorskip("rich", reason="needs rich")
    arguments = ["--json", "x.json", "--markdown", "x.md"]
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        pass
    else:
        arguments += ["--plot", "x.svg"]
    done = subprocess.run(
        [*COMMAND, "--quick", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "x.json").read_text())
    cells = [Cell(**each) for each in found["survival"]]
    assert {(each.source, each.approach) for each in cells} == {
        (source, approach) for source in testing.SOURCES for approach in APPROACHES
    }
    # None of ours is killed, but for what it can do nothing about.
    assert {
        (each.source, each.approach)
        for each in cells
        if each.outcome in ("killed", "hung")
        and each.approach not in ("mmap", "mmap, sealed", "signal")
    } <= {("userfaultfd", "sealed")}
    assert all(
        value > 0 for line in found["costs"] for value in line["median_ns"].values()
    )
    assert found["fault_latency_ns"]["guarded"]
    assert "What becomes of a reader" in done.stdout
    assert "| shrink | killed |" in (tmp_path / "x.md").read_text()
    if "--plot" in arguments:
        assert (tmp_path / "x.svg").read_text().startswith("<?xml")
