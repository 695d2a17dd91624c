"""in_child(): a test in a process of its own, which a fault may end."""

from __future__ import annotations

import functools
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import NoReturn, ParamSpec

__all__ = ["Died", "in_child"]

_P = ParamSpec("_P")


class Died(AssertionError):
    """A signal ended the child.

    :ivar signal: its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number

    def __str__(self) -> str:
        name = signal.Signals(self.signal).name
        return f"{name} ({signal.strsignal(self.signal)}) ended the child process"


class _Skip(Exception):
    """The test skips itself."""


def in_child(function: Callable[_P, object]) -> Callable[_P, None]:
    """Have a test run in a forked child, so that a program which does not survive a
    fault yet fails its test, and does not end pytest::

        @testing.in_child
        def test_reader_survives(fault_source):
            ...

    The test has its fixtures; what it changes in memory ends with the child. An
    exception, `pytest.skip` included, is raised again in the parent, with the child's
    traceback as a note (as a RuntimeError, if it cannot be pickled).

    :raises Died: a signal ended the child.
    """

    if not callable(function):
        raise TypeError(
            f"in_child takes the function of a test, not {type(function).__name__!r}"
        )

    @functools.wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        report = os.memfd_create("safemmap in_child")
        try:
            with warnings.catch_warnings():
                # Of other threads, which are none of the test's.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                _run_and_exit(functools.partial(function, *args, **kwargs), report)
            _, status = os.waitpid(pid, 0)
            _raise_what_came_of_it(
                os.waitstatus_to_exitcode(status),
                os.pread(report, os.fstat(report).st_size, 0),
            )
        finally:
            os.close(report)

    return run


def _run_and_exit(test: Callable[[], object], report: int) -> NoReturn:
    status = 1
    try:
        try:
            test()
        except BaseException as error:
            outcome = _pickled(error)
        else:
            outcome = pickle.dumps(None)
        os.pwrite(report, outcome, 0)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        status = 0
    finally:
        os._exit(status)


def _pickled(error: BaseException) -> bytes:
    """The exception that is to be raised in the parent."""
    text = traceback.format_exc()
    if type(error).__qualname__ == "Skipped":  # pytest's, which cannot be pickled
        return pickle.dumps(_Skip(str(error)))
    error.add_note(f"in the child:\n{text}")
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)
    except Exception:
        pickled = pickle.dumps(RuntimeError(text))
    return pickled


def _raise_what_came_of_it(status: int, report: bytes) -> None:
    if status < 0:
        raise Died(-status)
    if not report:
        raise AssertionError(f"the child exited with status {status} before its end")
    error = pickle.loads(report)
    if isinstance(error, _Skip):
        import pytest

        pytest.skip(str(error))
    if error is not None:
        raise error
