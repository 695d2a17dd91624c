"""How costs are measured: alternatives in turn, medians of quotients.

Alternatives are timed in rounds, one batch of each per round in an order that changes,
so that a machine which slows down for a while slows all of them. A ratio is the median
over the rounds of the quotient within a round; its spread the first and third quartile.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

__all__ = ["Ratio", "Rounds", "Timed", "Timer", "measure", "ratio"]

#: What is timed. It may have an attribute `prepare`, which is called with the number of
#: calls to come before the clock starts, and `count`, how often it does in one call
#: what is to be measured.
Timed = Callable[[], object]


@runtime_checkable
class Timer(Protocol):
    """What has a clock of its own; it may have a `count`, too."""

    def timeit(self, number: int) -> float:
        """Nanoseconds for so many, one after the other."""


#: Nanoseconds for each alternative, one for every round.
Rounds = dict[str, list[float]]


class Ratio(NamedTuple):
    median: float
    low: float  #: first quartile
    high: float  #: third quartile

    @property
    def spread(self) -> float:
        """From one quartile to the other, as a part of the median."""
        return (self.high - self.low) / self.median


def timed(what: Timed | Timer, times: int) -> float:
    """Nanoseconds for one."""
    if isinstance(what, Timer):
        passed = what.timeit(times)
    else:
        prepare = getattr(what, "prepare", None)
        if prepare is not None:
            prepare(times)
        start = time.perf_counter_ns()
        for _ in range(times):
            what()
        passed = time.perf_counter_ns() - start
    return passed / times / _count(what)


def _count(what: Timed | Timer) -> float:
    return float(getattr(what, "count", 1))


def _batch(what: Timed | Timer, batch_ns: int) -> int:
    """How many take about that long."""
    times = 1
    # The first is cold, and the second as much the clock's as its own.
    for _ in range(3):
        once = timed(what, times) * _count(what)
        times = max(1, int(batch_ns / once))
    return times


def measure(
    alternatives: Mapping[str, Timed | Timer], rounds: int, batch_ns: int = 1_000_000
) -> Rounds:
    """Time them in so many rounds; a batch takes about `batch_ns` nanoseconds.

    One round is to show that they run: a batch is one call then.
    """
    times = {
        label: _batch(what, batch_ns) if rounds > 1 else 1
        for label, what in alternatives.items()
    }
    results: Rounds = {label: [] for label in alternatives}
    order = list(alternatives)
    for _ in range(rounds):
        random.shuffle(order)
        for label in order:
            results[label].append(timed(alternatives[label], times[label]))
    return results


def ratio(rounds: Rounds, label: str, to: str) -> Ratio:
    """How many times as long the one takes as the other."""
    pairs = zip(rounds[label], rounds[to], strict=True)
    quotients = sorted(one / other for one, other in pairs)
    quarter = len(quotients) // 4
    return Ratio(
        statistics.median(quotients), quotients[quarter], quotients[-1 - quarter]
    )
