"""The processes of the demo: started, listened to, and never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from safemmap._commands.demo import roles

__all__ = ["Cast", "Part", "interrupts"]

_SCRIPT = pathlib.Path(roles.__file__).resolve()


@contextlib.contextmanager
def interrupts(how: int) -> Iterator[None]:
    """Block or unblock SIGINT.

    Ctrl-C must not come between the start of a process and the note of it, nor in
    the middle of cleaning up: it is let in only where there is something to wait for.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        # Raises KeyboardInterrupt, the mask changed, when it unblocks a pending one.
        signal.pthread_sigmask(how, [signal.SIGINT])
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Part:
    """One process, and what it has reported: the details, by the event."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket):
        self.process = process
        self.control = control
        self.events: dict[str, dict[str, Any]] = {}
        self.status: int | None = None
        """As `subprocess.Popen.returncode` has it; None if it did not end in time."""

    def ending(self) -> str:
        if self.status is None:
            return f"still running after {roles.TIMEOUT:g} seconds"
        if self.status < 0:
            name = signal.Signals(-self.status).name
            return f"killed by {name} (signal {-self.status})"
        return f"exited with status {self.status}"


class Cast:
    """A context manager for processes that all end in one time limit.

    Use it with SIGINT blocked (see `interrupts`).
    """

    def __enter__(self) -> Cast:
        self._parts: list[Part] = []
        self._controls = contextlib.ExitStack()
        self._deadline = time.monotonic() + roles.TIMEOUT
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with interrupts(signal.SIG_BLOCK), self._controls:
            for part in self._parts:
                part.process.kill()
            for part in self._parts:
                part.process.wait(roles.TIMEOUT)

    def start(self, role: str, *arguments: str, hand: list[socket.socket]) -> Part:
        """Start a process for `role`, and hand it sockets, which are closed here."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._controls.enter_context(ours)
        with theirs, contextlib.ExitStack() as handed:
            fds = [handed.enter_context(each).fileno() for each in hand]
            process = subprocess.Popen(
                [*_interpreter(), role, *arguments, *map(str, fds)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                pass_fds=fds,
                env=_environment(),
            )
        part = Part(process, ours)
        self._parts.append(part)
        return part

    def listen(self, part: Part) -> Iterator[str]:
        """Yield the events that `part` reports, until it ends or time is up."""
        while message := self._receive(part):
            details = json.loads(message)
            part.events[details["event"]] = details
            yield details["event"]
        with (
            contextlib.suppress(subprocess.TimeoutExpired),
            interrupts(signal.SIG_UNBLOCK),
        ):
            part.status = part.process.wait(self._seconds_left())

    def _receive(self, part: Part) -> bytes:
        part.control.settimeout(self._seconds_left())
        try:
            with interrupts(signal.SIG_UNBLOCK):
                return part.control.recv(1 << 16)
        except TimeoutError:
            return b""

    def _seconds_left(self) -> float:
        return max(0.001, self._deadline - time.monotonic())


def _interpreter() -> list[str]:
    """The command for a part: this interpreter, as strict as it is here."""
    options = ["-X", "dev"] if sys.flags.dev_mode else []
    options += [f"-W{option}" for option in sys.warnoptions]
    # -P keeps the directory of the script, this package, off the module path.
    return [sys.executable, "-P", *options, str(_SCRIPT)]


def _environment() -> dict[str, str]:
    """This one, in which the package is found wherever it was imported from."""
    path = [str(_SCRIPT.parent.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
