"""How the benchmarks measure: alternatives in turn, medians of ratios.

Each benchmark times `safemmap` and what it is compared with in rounds, one batch of
each per round in an order that changes, so that a machine which slows down for a
while slows all of them. The ratio is the median over the rounds of the quotient
within a round; the spread is its first and third quartile.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

ROUNDS = 41
BATCH_NS = 1_000_000


@dataclass
class Line:
    """One line of the table: nanoseconds, and ratios to `safemmap`'s."""

    name: str
    medians: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, tuple[float, float, float]] = field(default_factory=dict)


LINES = pytest.StashKey[list[Line]]()


def timed(function: Callable[[], object], times: int) -> float:
    start = time.perf_counter_ns()
    for _ in range(times):
        function()
    return (time.perf_counter_ns() - start) / times


def measure(
    name: str, rounds: int, alternatives: dict[str, Callable[[], object]]
) -> Line:
    line = Line(name)
    times = {}
    for label, function in alternatives.items():
        once = max(timed(function, 1), timed(function, 1))
        times[label] = max(1, int(BATCH_NS / once)) if rounds > 1 else 1
    results: dict[str, list[float]] = {label: [] for label in alternatives}
    order = list(alternatives)
    for _ in range(rounds):
        random.shuffle(order)
        for label in order:
            results[label].append(timed(alternatives[label], times[label]))
    for label, nanoseconds in results.items():
        line.medians[label] = statistics.median(nanoseconds)
        if label != "safemmap":
            pairs = zip(results["safemmap"], nanoseconds, strict=True)
            quotients = sorted(ours / theirs for ours, theirs in pairs)
            line.ratios[label] = (
                statistics.median(quotients),
                quotients[len(quotients) // 4],
                quotients[len(quotients) * 3 // 4],
            )
    return line


@pytest.fixture
def compare(benchmark, request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """compare(name, safemmap=function, mmap=function, ...)"""

    def run(name: str, **alternatives: Callable[[], object]) -> None:
        rounds = 1 if benchmark.disabled else ROUNDS
        line = measure(name, rounds, alternatives)
        request.config.stash[LINES].append(line)
        benchmark.extra_info.update(medians_ns=line.medians, ratios=line.ratios)
        benchmark.pedantic(alternatives["safemmap"], rounds=max(3, rounds // 4))

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
