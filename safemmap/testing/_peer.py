"""A process that holds the other end of the file."""

from __future__ import annotations

import errno
import json
import random
import subprocess
import sys
from contextlib import ExitStack
from typing import Self

from safemmap import PAGESIZE
from safemmap.testing import _userfaultfd
from safemmap.testing._source import FaultSource, Unavailable
from safemmap.testing._steps import Step

__all__ = ["Peer"]

_PATIENCE = 0.5  # seconds for one that has struck to end


class Peer:
    """A process that strikes a source's file: at a byte of a read that you choose, or
    at random moments. A context manager, which ends it::

        with testing.Shrink() as file, testing.Peer(file) as peer:
            reader = open_in_my_program(file.fd, file.size)
            reader.read_all()
            peer.strike_at(9000)
            with pytest.raises(OSError):
                reader.read_all()    # cut when it has come to byte 9000

    :param source: one that any process with the file can strike.
    :raises ValueError: the `source` is not, since it fails from the start, or in the
        mappings of one process only.
    """

    def __init__(self, source: FaultSource) -> None:
        if not isinstance(source, FaultSource):
            raise TypeError(f"a Peer strikes a source, not {type(source).__name__!r}")
        self._steps = source.steps()
        if not self._steps:
            raise ValueError(f"no peer can do that to a file: {source.description}")
        self._source = source
        self._processes = ExitStack()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.close()

    def strike_at(self, offset: int) -> None:
        """Strike when this byte of the file is read next through a shared mapping that
        this process has now. The reader waits for it. (In pages: any byte of the same
        one is as good. Other bytes that are read before do not count.)

        :raises ValueError: the file has no such byte, it is not mapped, or its mapping
            cannot be waited for: userfaultfd(2) wants files in memory, and descriptors
            that are open for writing (as `fd` of the source is).
        :raises Unavailable: there is no userfaultfd(2) here.
        :raises RuntimeError: what it was told before has not come to pass yet.
        """
        self._check_free()
        if not 0 <= offset < self._source.size:
            raise ValueError(f"offset {offset} is not in {self._source}")
        reason = _userfaultfd.missing()
        if reason is not None:
            raise Unavailable(f"strike_at: {reason}")
        page = PAGESIZE
        start = offset // page * page
        areas = _userfaultfd.mappings_of(self._source.fd, range(start, start + page))
        if not areas:
            raise ValueError(f"this process has not mapped offset {offset} of the file")
        with _userfaultfd.UserFaultFd(_userfaultfd.FEATURE_MINOR_SHMEM) as faults:
            for area in areas:
                _userfaultfd.let_go(area)
                try:
                    faults.register(area, _userfaultfd.MISSING | _userfaultfd.MINOR)
                except OSError as error:
                    raise ValueError(self._why_not(error)) from None
            self._start("at", [[area.start, area.stop] for area in areas], faults.fd)

    def _why_not(self, error: OSError) -> str:
        if error.errno == errno.EPERM:
            return (
                "strike_at: the file is mapped through a descriptor that is open for "
                "reading alone, which userfaultfd(2) does not take; map the source's fd"
            )
        return (
            f"strike_at: {self._source.name}: userfaultfd(2) takes no file but those "
            f"in memory ({error.strerror}); strike_at_random() takes any"
        )

    def strike_at_random(self, seed: int | None = None) -> int:
        """Strike and restore again and again, until the end; the moments, and how long
        the pages are gone, follow from the seed.

        :return: the seed, to have the same again.
        :raises NotImplementedError: the source cannot be restored.
        :raises RuntimeError: what it was told before has not come to pass yet.
        """
        self._check_free()
        if not self._source.restores:
            raise NotImplementedError(f"{self._source.name} cannot be undone")
        if seed is None:
            seed = random.randrange(1 << 32)
        self._start("random", seed)
        return seed

    def _check_free(self) -> None:
        try:
            if self._process is not None:
                self._process.wait(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            raise RuntimeError(
                "this peer has not done yet what it was told before; take another one"
            ) from None

    def _start(self, mode: str, argument: object, *fds: int) -> None:
        order = {
            "mode": mode,
            "argument": argument,
            "fds": fds,
            "steps": _portable(self._steps),
            "steps back": _portable(self._source.steps_back()),
        }
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "safemmap.testing._peer_process"],
            pass_fds={*fds, *(step.fd for step in self._steps)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._process = process
        # It ends with its standard input, which ends with this process, too.
        self._processes.enter_context(process)
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the peer has not started")


def _portable(steps: list[Step]) -> list[list[object]]:
    return [[*step[:-1], step.data.hex()] for step in steps]
