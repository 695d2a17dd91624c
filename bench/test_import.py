"""What the import costs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

SCRIPT = """
import time
start = time.perf_counter_ns()
import {module}
print(time.perf_counter_ns() - start)
"""


# What is installed is compiled already; in a source tree the first import does that.
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}


class Import:
    """In a process of its own each time, by the clock of that."""

    def __init__(self, module: str) -> None:
        self._command = [sys.executable, "-c", SCRIPT.format(module=module)]

    def timeit(self, number: int) -> float:
        return sum(self._once() for _ in range(number))

    def _once(self) -> int:
        return int(subprocess.check_output(self._command, env=ENVIRONMENT))


def test_import(compare: Callable[..., None]) -> None:
    compare("import", 11, safemmap=Import("safemmap"), mmap=Import("mmap"))
