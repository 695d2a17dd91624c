"""What the import costs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

SCRIPT = """
import time
start = time.perf_counter_ns()
import {module}
print(time.perf_counter_ns() - start)
"""


class Import:
    """In a process of its own each time, by the clock of that."""

    def __init__(self, module: str) -> None:
        self._command = [sys.executable, "-c", SCRIPT.format(module=module)]

    def timeit(self, number: int) -> float:
        return sum(int(subprocess.check_output(self._command)) for _ in range(number))


def test_import(compare: Callable[..., None]) -> None:
    compare("import", 11, safemmap=Import("safemmap"), mmap=Import("mmap"))
