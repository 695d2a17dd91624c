"""What each approach makes of each fault: every one is tried, in a process of its own.

This module is also the child's program. It prints ``struck`` when the pages are gone,
and then what came of reading them.
"""

from __future__ import annotations

import contextlib
import enum
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import NamedTuple

from safemmap._commands.compare.approaches import APPROACHES, Approach
from safemmap.testing import SOURCES, FaultSource, Unavailable

__all__ = ["Cell", "Outcome", "cells", "run_all"]

# Seconds for a reader that has met the fault, and for all that comes before.
_READING, _STARTING = 3.0, 30.0


class Outcome(enum.StrEnum):
    """What came of reading the bytes that are gone, best first."""

    DATA = "data"  #: what was there before
    BLOCKED = "blocked"  #: the peer could not take them away
    REFUSED = "refused"  #: the file was not taken in the first place
    RAISED = "raised"
    SHORT = "short"  #: fewer bytes, as a file has that is shorter
    CHANGED = "new data"  #: zeros that the file has there now, as a peer may write
    ZEROS = "zeros"  #: that are not in the file, and nothing told of it
    HUNG = "hung"
    KILLED = "killed"
    IMPOSSIBLE = "not here"  #: the fault cannot be had on this machine


class Cell(NamedTuple):
    source: str
    approach: str
    outcome: Outcome
    #: the exception, the signal, or what is missing
    detail: str


# ---- The parent ----------------------------------------------------------


def cells() -> list[tuple[str, str]]:
    """All there are: the names of source and approach."""
    return [(source, approach) for source in SOURCES for approach in APPROACHES]


def run_all(
    which: Iterable[tuple[str, str]], *, destructive: bool, workers: int
) -> Iterator[Cell]:
    """As they come. Whatever is still running is killed when this ends early, and what
    waits is not begun."""
    which = list(which)
    missing = {name: _missing(SOURCES[name], destructive) for name in dict(which)}
    children = _Children()
    with ThreadPoolExecutor(workers) as pool, contextlib.closing(children):
        futures = []
        for source, approach in which:
            reason = missing[source]
            if reason is not None:
                yield Cell(source, approach, Outcome.IMPOSSIBLE, reason)
            else:
                futures.append(pool.submit(children.run, source, approach))
        for future in as_completed(futures):
            yield future.result()


def _missing(source: type[FaultSource], destructive: bool) -> str | None:
    if source.destructive and not destructive:
        return "only with --destructive: the machine does not get over it"
    return source.missing()


class _Children:
    """Those that run, so that none is left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._closed = False

    def run(self, source: str, approach: str) -> Cell:
        with self._lock:
            if self._closed:
                raise RuntimeError("the run has been given up")
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, source, approach],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONFAULTHANDLER": ""},
            )
            self._running.add(child)
        try:
            outcome, detail = _outcome(child)
        finally:
            child.kill()
            child.communicate()
            with self._lock:
                self._running.discard(child)
        return Cell(source, approach, outcome, detail)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for child in self._running:
                child.kill()


def _outcome(child: subprocess.Popen[str]) -> tuple[Outcome, str]:
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            lines.put(line.rstrip("\n"))
        lines.put("")

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        line = lines.get(timeout=_STARTING)
        if line == "struck":
            line = lines.get(timeout=_READING)
    except queue.Empty:
        child.kill()
        listener.join()
        return Outcome.HUNG, "until it was killed"
    listener.join()
    if line:
        outcome, _, detail = line.partition(": ")
        return Outcome(outcome), detail
    status = child.wait()
    if status < 0:
        return Outcome.KILLED, signal.Signals(-status).name
    assert child.stderr is not None
    raise RuntimeError(f"a reader ended with status {status}: {child.stderr.read()}")


# ---- The child -----------------------------------------------------------


def _main(source: str, approach: str) -> None:
    import faulthandler
    import resource

    # Whoever hangs ends, were the parent killed.
    signal.alarm(int(_STARTING + _READING))
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    outcome, detail = _try(SOURCES[source], APPROACHES[approach])
    print(f"{outcome}: {detail}", flush=True)


def _try(kind: type[FaultSource], approach: Approach) -> tuple[Outcome, str]:
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(kind())
        except Unavailable as error:
            return Outcome.IMPOSSIBLE, str(error)
        try:
            read = approach.open(file, stack)
        except OSError as error:
            return Outcome.REFUSED, _described(error)
        if file.starts_whole and read(0, file.size) != file.data:
            raise RuntimeError("this is not what is in the file")
        try:
            file.strike()
        except PermissionError as error:
            return Outcome.BLOCKED, _described(error)
        print("struck", flush=True)
        return _read(file, lambda: read(file.gone.start, file.gone.stop))


def _read(file: FaultSource, read: Callable[[], bytes]) -> tuple[Outcome, str]:
    try:
        got = bytes(read())  # under enable() a slice leaves its error to the next call
    except OSError as error:
        return Outcome.RAISED, _described(error)
    except BufferError as error:
        return Outcome.REFUSED, f"BufferError: {error}"
    if len(got) < len(file.gone):
        return Outcome.SHORT, f"{len(got)} bytes of {len(file.gone)}"
    if got == file.data[file.gone.start : file.gone.stop]:
        return Outcome.DATA, ""
    if any(got):
        raise RuntimeError("this is neither data nor zeros")
    if os.pread(file.fd, len(got), file.gone.start) == got:
        return Outcome.CHANGED, ""
    return Outcome.ZEROS, ""


def _described(error: OSError) -> str:
    return f"{type(error).__name__}: {error.strerror}"


if __name__ == "__main__":
    _main(*sys.argv[1:])
