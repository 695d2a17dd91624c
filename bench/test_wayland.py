"""What libwayland-server does for a compositor's pools, and what this library does."""

from __future__ import annotations

import ctypes
import statistics
import subprocess
from pathlib import Path

import pytest
from conftest import NOTES
from native import ROOT, build

LIBRARY = "libwayland-server.so.0"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        pytest.skip(f"needs {LIBRARY}")
    target = tmp_path_factory.mktemp("wayland") / "wayland"
    sources = [ROOT / "bench/wayland.c", ROOT / "examples/c/shm_pool.c"]
    sources += (ROOT / "csrc").glob("*.c")
    build(target, f"-I{ROOT / 'examples/c'}", *sources, f"-l:{LIBRARY}", "-ldl")
    return target


def test_pool(benchmark, program: Path, request: pytest.FixtureRequest) -> None:
    """An access that begins and ends, and a fault in one, in turn with libwayland's."""
    figures: list[dict[str, float]] = []

    def run() -> None:
        lines = subprocess.check_output([program], text=True).splitlines()
        pairs = (line.split() for line in lines)
        figures.append({name: float(value) for name, value in pairs})

    benchmark.pedantic(run, rounds=1 if benchmark.disabled else 9)
    medians = {
        name: statistics.median(line[name] for line in figures) for name in figures[0]
    }
    ratios = {
        what: statistics.median(
            line[f"safemmap-{what}"] / line[f"libwayland-{what}"] for line in figures
        )
        for what in ("begin-end", "fault")
    }
    benchmark.extra_info.update(nanoseconds=medians, ratios=ratios)
    request.config.stash[NOTES] += [
        "a pool of shared memory, in nanoseconds:",
        *(f"  {name:26} {value:12.1f}" for name, value in medians.items()),
        *(f"  {name}, over libwayland's {value:.2f}" for name, value in ratios.items()),
    ]
