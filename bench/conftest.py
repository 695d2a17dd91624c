"""How the benchmarks measure; see `safemmap._commands.compare.timing`, statement.py."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from native import Memory

from safemmap._commands.compare import timing
from safemmap._commands.compare.timing import Ratio, Timed, Timer

ROUNDS = 41


@dataclass
class Line:
    """One line of the table: nanoseconds, and ratios of the first to the others."""

    name: str
    medians: dict[str, float]
    ratios: dict[str, Ratio]


LINES = pytest.StashKey[list[Line]]()
#: What there is to say beside that.
NOTES = pytest.StashKey[list[str]]()


class Clock:
    """The timer of pytest-benchmark, which goes on by what was measured already: its
    own would time a function call, and not in turn with the others."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def __call__(self) -> float:
        return self._seconds

    def advance(self, nanoseconds: float) -> None:
        self._seconds += nanoseconds / 1e9


CLOCK = Clock()


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    for item in items:
        if "compare" in item.fixturenames:
            item.add_marker(pytest.mark.benchmark(timer=CLOCK))


@pytest.fixture
def compare(benchmark, request: pytest.FixtureRequest) -> Callable[..., None]:
    """compare(name, safemmap=statement, mmap=statement, ...): the first to the others.

    They are statements, functions, or anything else that timing.py can time.
    """

    def run(
        name: str, most_rounds: int = ROUNDS, **alternatives: Timed | Timer
    ) -> None:
        rounds = 1 if benchmark.disabled else most_rounds
        results = timing.measure(alternatives, rounds)
        first, *others = results
        line = Line(
            name,
            {label: statistics.median(times) for label, times in results.items()},
            {label: timing.ratio(results, first, to=label) for label in others},
        )
        request.config.stash[LINES].append(line)
        benchmark.extra_info.update(
            line=name, medians_ns=line.medians, ratios=line.ratios
        )
        times = iter(results[first])
        benchmark.pedantic(lambda: CLOCK.advance(next(times)), rounds=rounds)

    return run


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LINES] = []
    config.stash[NOTES] = []


@pytest.hookimpl(trylast=True)  # below the table of pytest-benchmark
def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    lines = config.stash[LINES]
    if config.getoption("benchmark_disable"):
        return
    for note in config.stash[NOTES]:
        terminalreporter.line(note)
    if not lines:
        return
    terminalreporter.section("safemmap against the alternatives")
    terminalreporter.line(
        "the first divided by each other one: median (first..third quartile)"
    )
    for line in lines:
        first, median = next(iter(line.medians.items()))
        ratios = "   ".join(
            f"{label} {middle:.2f} ({low:.2f}..{high:.2f})"
            for label, (middle, low, high) in line.ratios.items()
        )
        terminalreporter.line(
            f"{line.name:36} {first:8} {nanoseconds(median)}   {ratios}"
        )


def nanoseconds(time: float) -> str:
    """Of short ones a fraction, too."""
    return f"{time:>13,.{1 if time < 1000 else 0}f} ns"


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


@pytest.fixture(scope="session")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Memory:
    return Memory(tmp_path_factory.mktemp("memory"))
