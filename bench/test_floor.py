"""What Python adds to what the machine asks anyway: a fault, over one in bare C."""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Callable

import pytest
from conftest import NOTES
from native import ROOT, build
from statement import Statement

import safemmap


@pytest.fixture(scope="module")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], dict[str, float]]:
    """Runs floor.c, and returns its figures in nanoseconds."""
    program = tmp_path_factory.mktemp("floor") / "floor"
    sources = [ROOT / "bench/floor.c", ROOT / "bench/memory.c"]
    build(program, *sources, *(ROOT / "csrc").glob("*.c"))

    def run() -> dict[str, float]:
        lines = subprocess.check_output([program], text=True).splitlines()
        return {name: float(value) for name, value in map(str.split, lines)}

    return run


@pytest.fixture
def gone() -> safemmap.mmap:
    fd = os.memfd_create("gone")
    os.ftruncate(fd, 4096)
    mapping = safemmap.mmap(fd, 4096)
    os.ftruncate(fd, 0)
    os.close(fd)
    return mapping


def test_fault(
    benchmark,
    floor: Callable[[], dict[str, float]],
    gone: safemmap.mmap,
    request: pytest.FixtureRequest,
) -> None:
    """A BusError raised and caught, in turn with a bare fault and siglongjmp in C."""
    caught = Statement(
        "try: m[0]\nexcept BusError: pass",
        {"m": gone, "BusError": safemmap.BusError},
    )
    rounds, times = (1, 1) if benchmark.disabled else (9, 5000)
    figures = []
    for _ in range(rounds):
        figures.append(floor())
        figures[-1]["BusError caught"] = caught.timeit(times) / times
    ratios = [line["BusError caught"] / line["fault+siglongjmp"] for line in figures]
    medians = {
        name: statistics.median(line[name] for line in figures) for name in figures[0]
    }
    benchmark.extra_info.update(
        floor_ns=medians, caught_over_bare=statistics.median(ratios)
    )
    benchmark.pedantic(lambda: caught.timeit(1), rounds=rounds)
    request.config.stash[NOTES] += [
        "bare C, in nanoseconds:",
        *(f"  {name:38} {value:12.1f}" for name, value in medians.items()),
        f"  caught, over the bare fault {statistics.median(ratios):.2f}",
    ]
