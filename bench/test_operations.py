"""Each operation against the standard mmap's, where nothing happens to the file.

The pages are resident, and mapped before the clock starts: what is measured is the
call. What moves the position is timed over the whole mapping, one call after the other.
"""

from __future__ import annotations

import mmap as standard
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import safemmap

SIZE = 1 << 16
LINE = b"x" * 79 + b"\n"
CONTENT = (LINE * (SIZE // len(LINE) + 1))[:SIZE]
FEW, HALF, ALL = bytes(64), bytes(SIZE // 2), bytes(SIZE)

#: What is timed, given a mapping of either kind.
Operation = Callable[[Any], Callable[[], object]]
OPERATIONS: dict[str, Operation] = {
    "m[i]": lambda m: lambda: m[5],
    "m[-i]": lambda m: lambda: m[-5],
    "m[0:1]": lambda m: lambda: m[0:1],
    "m[0:16]": lambda m: lambda: m[0:16],
    "m[0:64]": lambda m: lambda: m[0:64],
    "m[0:256]": lambda m: lambda: m[0:256],
    "m[0:1024]": lambda m: lambda: m[0:1024],
    "m[0:4096]": lambda m: lambda: m[0:4096],
    "m[0:65536]": lambda m: lambda: m[0:65536],
    "m[0:128:2]": lambda m: lambda: m[0:128:2],
    "m[::2]": lambda m: lambda: m[::2],
    "m[::-1]": lambda m: lambda: m[::-1],
    "m[i] = n": lambda m: lambda: m.__setitem__(5, 7),
    "m[0:64] = b": lambda m: lambda: m.__setitem__(slice(0, 64), FEW),
    "m[0:65536] = b": lambda m: lambda: m.__setitem__(slice(0, SIZE), ALL),
    "m[::2] = b": lambda m: lambda: m.__setitem__(slice(None, None, 2), HALF),
    "move 64 B": lambda m: lambda: m.move(0, 1024, 64),
    "move 32 KiB": lambda m: lambda: m.move(0, SIZE // 2, SIZE // 2),
    "seek, tell": lambda m: lambda: (m.seek(100), m.tell()),
    "len": lambda m: lambda: len(m),
    "size": lambda m: lambda: m.size(),
    "closed": lambda m: lambda: m.closed,
    "in, hit half-way": lambda m: lambda: b"\n" in m,
    "iteration": lambda m: lambda: sum(1 for _ in m),
    "list": lambda m: lambda: list(m),
    "find, hit after 79": lambda m: lambda: m.find(b"\n", 0),
    "find, miss in 64 KiB": lambda m: lambda: m.find(b"nowhere", 0),
    "rfind, hit near the end": lambda m: lambda: m.rfind(b"\n", 0),
    "rfind, miss in 64 KiB": lambda m: lambda: m.rfind(b"nowhere", 0),
}


def over_all(m: Any, call: Callable[[], object], times: int) -> Callable[[], object]:
    def run() -> None:
        m.seek(0)
        for _ in range(times):
            call()

    run.count = times  # type: ignore[attr-defined]
    return run


OPERATIONS |= {
    "read(1)": lambda m: over_all(m, lambda: m.read(1), 4096),
    "read(64)": lambda m: over_all(m, lambda: m.read(64), SIZE // 64),
    "read(4096)": lambda m: over_all(m, lambda: m.read(4096), SIZE // 4096),
    "read_byte": lambda m: over_all(m, m.read_byte, 4096),
    "readline": lambda m: over_all(m, m.readline, SIZE // len(LINE)),
    "write(64)": lambda m: over_all(m, lambda: m.write(FEW), SIZE // 64),
    "write_byte": lambda m: over_all(m, lambda: m.write_byte(7), 4096),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(
    compare: Callable[..., None], memfd: Callable[[int], int], name: str
) -> None:
    mappings: list[Any] = []
    for kind in (safemmap.mmap, standard.mmap):
        fd = memfd(SIZE)
        mappings.append(kind(fd, SIZE))
        mappings[-1][:] = CONTENT
    ours, theirs = map(OPERATIONS[name], mappings)
    compare(name, safemmap=ours, mmap=theirs)
    for mapping in mappings:
        mapping.close()


def test_create_and_close(
    compare: Callable[..., None], memfd: Callable[[int], int]
) -> None:
    fd = memfd(4096)
    compare(
        "create and close",
        safemmap=lambda: safemmap.mmap(fd, 4096).close(),
        mmap=lambda: standard.mmap(fd, 4096).close(),
    )


def test_lines(compare: Callable[..., None], memfd: Callable[[int], int]) -> None:
    """64 MiB of lines of 80 bytes, the first 5 MiB of them read in order."""
    size = 64 << 20
    fd = memfd(size)
    mappings: list[Any] = [safemmap.mmap(fd, size), standard.mmap(fd, size)]
    block = LINE * (1 << 16)
    for at in range(0, size - len(block), len(block)):
        mappings[0][at : at + len(block)] = block
    mappings[1].find(b"y", 0)
    ours, theirs = (over_all(m, m.readline, 1 << 16) for m in mappings)
    compare("readline of 64 MiB", safemmap=ours, mmap=theirs)
    for mapping in mappings:
        mapping.close()


def test_scope(compare: Callable[..., None], memfd: Callable[[int], int]) -> None:
    """It asks the kernel for the size of the file, and who handles SIGBUS."""
    fd = memfd(SIZE)
    with standard.mmap(fd, SIZE) as theirs, safemmap.mmap(fd, SIZE) as ours:

        def scope() -> None:
            with ours.access():
                pass

        def view() -> None:
            with memoryview(theirs):
                pass

        def view_and_size() -> None:
            with memoryview(theirs):
                pass
            ours.size()

        compare("scope", safemmap=scope, memoryview=view, with_fstat=view_and_size)


SCRIPT = """
import time
start = time.perf_counter_ns()
import {module}
print(time.perf_counter_ns() - start)
"""


def test_import(compare: Callable[..., None]) -> None:
    """In a process of its own, by its own clock."""

    def importing(module: str) -> Callable[[], object]:
        def run() -> None:
            script = SCRIPT.format(module=module)
            took.append(int(subprocess.check_output([sys.executable, "-c", script])))

        took: list[int] = []
        run.took = took  # type: ignore[attr-defined]
        return run

    ours, theirs = importing("safemmap"), importing("mmap")
    compare("import, with a process", 11, safemmap=ours, mmap=theirs)
    medians = {
        name: statistics.median(run.took) / 1e6  # type: ignore[attr-defined]
        for name, run in (("safemmap", ours), ("mmap", theirs))
    }
    print({name: f"{median:.2f} ms" for name, median in medians.items()})
