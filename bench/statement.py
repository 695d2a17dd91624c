"""Statements to time, without the call of a function around them."""

from __future__ import annotations

import sys
import time
import timeit


class Statement:
    """Code that the standard library's timeit compiles into its loop.

    Beside the code itself only that loop is in the figure, some 8 ns. Around a lambda
    it would be 30 to 40, which is as much as some of the operations take.

    `names` is what it knows beside the builtins. `setup` runs in front of every `most`
    repetitions, while the clock stands: what moves the position begins anew there. Code
    that has a loop of its own says in `count` how often that goes round.
    """

    def __init__(
        self,
        code: str,
        names: dict[str, object],
        setup: str = "pass",
        *,
        most: int = sys.maxsize,
        count: int = 1,
    ) -> None:
        self.count = count
        self._most = most
        self._timer = timeit.Timer(code, setup, time.perf_counter_ns, names)

    def timeit(self, number: int) -> float:
        """Nanoseconds for so many."""
        passed = 0.0
        for done in range(0, number, self._most):
            passed += self._timer.timeit(min(self._most, number - done))
        return passed
