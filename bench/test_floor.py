"""What Python adds to what the machine asks anyway: a fault, over one in bare C."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable

import pytest
from native import ROOT, build

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
    benchmark, floor: Callable[[], dict[str, float]], gone: safemmap.mmap, capsys
) -> None:
    """A BusError raised and caught, against a bare fault and siglongjmp in C."""

    def fault() -> None:
        try:
            gone[0]
        except safemmap.BusError:
            return
        raise AssertionError

    bare = []
    rounds = 1 if benchmark.disabled else 5
    ours = []
    for _ in range(rounds):
        figures = floor()
        bare.append(figures)
        start = time.perf_counter_ns()
        for _ in range(5000):
            fault()
        ours.append((time.perf_counter_ns() - start) / 5000)
    middle = rounds // 2
    lines = {name: sorted(f[name] for f in bare)[middle] for name in bare[0]}
    caught = sorted(ours)[middle]
    benchmark.extra_info.update(floor_ns=lines, caught_ns=caught)
    benchmark(fault)
    if not benchmark.disabled:
        with capsys.disabled():
            print("\nbare C, in nanoseconds:")
            for name, value in lines.items():
                print(f"  {name:26} {value:12.1f}")
            ratio = caught / lines["fault+siglongjmp"]
            print(f"  {'BusError caught':26} {caught:12.1f}")
            print(f"  caught, over the bare fault {ratio:.2f}")
            for what in ("copy", "read"):
                once = lines[f"{what}-64-MiB"]
                twice = lines[f"{what}-twice-by-two-threads"]
                print(
                    f"  two threads {what} {2 * once / twice:.2f} times as much as one"
                )
