"""What Python adds to what the machine asks anyway: faults, threads, bare C."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import safemmap

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], dict[str, float]]:
    """Runs floor.c, and returns its figures in nanoseconds."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    program = tmp_path_factory.mktemp("floor") / "floor"
    flags = ["-O2", "-std=gnu11", "-D_GNU_SOURCE", f"-I{ROOT}/safemmap/include"]
    sources = [ROOT / "bench/floor.c", *(ROOT / "csrc").glob("*.c")]
    subprocess.run([compiler, *flags, *sources, "-pthread", "-o", program], check=True)

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
            once, twice = lines["copy-64-MiB"], lines["copy-twice-by-two-threads"]
            print(f"  two threads copy {2 * once / twice:.2f} times as much as one")


def test_two_threads(benchmark, capsys) -> None:
    """Copies of 1 MiB blocks by one thread, and as many by each of two."""
    size, blocks = 64 << 20, 200
    fd = os.memfd_create("threads")
    os.posix_fallocate(fd, 0, size)
    mapping = safemmap.mmap(fd, size)
    os.close(fd)
    mapping.find(b"x")

    def copy() -> None:
        for i in range(blocks):
            at = i % 64 << 20
            mapping[at : at + (1 << 20)]

    def run(count: int) -> float:
        threads = [threading.Thread(target=copy) for _ in range(count)]
        start = time.perf_counter_ns()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return count * blocks / (time.perf_counter_ns() - start)

    rounds = 1 if benchmark.disabled else 11
    gains = sorted(run(2) / run(1) for _ in range(rounds))
    benchmark.extra_info["gain_of_two_threads"] = gains[rounds // 2]
    benchmark.pedantic(copy, rounds=3)
    if not benchmark.disabled:
        with capsys.disabled():
            print(f"\ntwo threads copy {gains[rounds // 2]:.2f} times as much as one")
    mapping.close()
