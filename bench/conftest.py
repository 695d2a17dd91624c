"""How the benchmarks measure: see safemmap/_compare/timing.py."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from safemmap._compare import timing
from safemmap._compare.timing import Ratio, Timed

ROUNDS = 41


@dataclass
class Line:
    """One line of the table: nanoseconds, and ratios to `safemmap`'s."""

    name: str
    medians: dict[str, float]
    ratios: dict[str, Ratio]


LINES = pytest.StashKey[list[Line]]()


def measure(name: str, rounds: int, alternatives: dict[str, Timed]) -> Line:
    results = timing.measure(alternatives, rounds)
    return Line(
        name,
        {label: statistics.median(times) for label, times in results.items()},
        {
            label: timing.ratio(results, "safemmap", to=label)
            for label in results
            if label != "safemmap"
        },
    )


@pytest.fixture
def compare(benchmark, request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """compare(name, safemmap=function, mmap=function, ...)"""

    def run(
        name: str, most_rounds: int = ROUNDS, **alternatives: Callable[[], object]
    ) -> None:
        rounds = 1 if benchmark.disabled else most_rounds
        line = measure(name, rounds, alternatives)
        request.config.stash[LINES].append(line)
        benchmark.extra_info.update(medians_ns=line.medians, ratios=line.ratios)
        ours = alternatives["safemmap"]
        prepare = getattr(ours, "prepare", None)
        benchmark.pedantic(
            ours,
            setup=None if prepare is None else lambda: prepare(1),
            rounds=max(3, rounds // 4),
        )

    yield run


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LINES] = []


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    lines = config.stash[LINES]
    if not lines or config.getoption("benchmark_disable"):
        return
    terminalreporter.section("safemmap against the alternatives")
    terminalreporter.line("ratio of safemmap to each: median (first..third quartile)")
    for line in lines:
        ratios = "   ".join(
            f"{label} {middle:.2f} ({low:.2f}..{high:.2f})"
            for label, (middle, low, high) in line.ratios.items()
        )
        ours = line.medians["safemmap"]
        terminalreporter.line(f"{line.name:24} {ours:>12,.0f} ns   {ratios}")


@pytest.fixture
def memfd() -> Iterator[Callable[[int], int]]:
    """memfd(size): a file of that size, every page of it allocated."""
    fds = []

    def make(size: int) -> int:
        fd = os.memfd_create("bench")
        fds.append(fd)
        os.posix_fallocate(fd, 0, size)
        return fd

    yield make
    for fd in fds:
        os.close(fd)
