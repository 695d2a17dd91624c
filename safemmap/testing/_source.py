"""What the sources of faults have in common."""

from __future__ import annotations

import itertools
import mmap
import os
from contextlib import ExitStack
from typing import ClassVar, Self

from safemmap import PAGESIZE
from safemmap._arguments import integer
from safemmap.testing._steps import Step, perform

__all__ = ["FaultSource", "Unavailable", "pattern"]


class Unavailable(RuntimeError):
    """This machine cannot do it; the message says what is missing."""


class FaultSource:
    """A file of which pages go away.

    :ivar fd: the file, open for reading, and for writing where `writable`.
    :ivar path: a name by which any process of this user can open it, until it ends.
    :ivar size: how long the file is, in bytes, before anything happens to it.
    :ivar data: what is in it then. There are no zeros among these bytes.
    :ivar gone: the offsets of the bytes that `strike` takes away.
    :ivar map_flags: with which flags it must be mapped.
    :ivar raises_signal: whether a load gets a signal where nobody protects it; else
        there are zeros, which no reader can tell from data. (An attribute of the class,
        as all that follow.)
    :ivar starts_whole: whether the bytes are there until `strike` is called; else those
        in `gone` never are.
    :ivar restores: whether `restore` can bring them back.
    :ivar writable: whether the file is open for writing.
    :ivar destructive: whether the machine does not get over it before it is started
        again.
    :ivar page_size: of the file's mappings, in bytes.
    :param size: in bytes, and
    :param keep: how many of them stay, from the start; both are rounded up to whole
        pages.
    :raises ValueError: nothing would go.
    :raises Unavailable: on entering it, see `missing`.
    """

    name: ClassVar[str]  #: as in `SOURCES`
    #: In one line.
    description: ClassVar[str]
    raises_signal: ClassVar[bool] = True
    starts_whole: ClassVar[bool] = True
    restores: ClassVar[bool] = True
    writable: ClassVar[bool] = True
    destructive: ClassVar[bool] = False
    page_size: ClassVar[int] = PAGESIZE

    def __init__(self, size: int = 4 * PAGESIZE, keep: int = PAGESIZE) -> None:
        size, keep = integer("size", size), integer("keep", keep)
        if size <= 0:
            raise ValueError(f"size must be more than 0, and is {size}")
        self.size = -(-size // self.page_size) * self.page_size
        start = -(-keep // self.page_size) * self.page_size
        if keep < 0 or start >= self.size:
            raise ValueError(
                f"keep must be from 0 to {self.size - self.page_size} here, and is "
                f"{keep}: of {self.size} bytes at least one page of {self.page_size} "
                "has to go"
            )
        self.gone = range(start, self.size)
        self.data = pattern(self.size)
        self.map_flags: int = mmap.MAP_SHARED
        self._open = ExitStack()
        self._fd = -1

    @classmethod
    def missing(cls) -> str | None:
        """What this machine lacks for it, as a kernel option, a right or a package;
        None if it can be done."""
        return None

    def __enter__(self) -> Self:
        reason = self.missing()
        if reason is not None:
            raise Unavailable(f"{self.name}: {reason}")
        with ExitStack() as stack:
            self._fd = self.open(stack)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self._fd = -1

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.size} bytes, {self.gone} go>"

    @property
    def fd(self) -> int:
        if self._fd == -1:
            name = type(self).__name__
            raise RuntimeError(f"there is no file but within: with {name}() as file:")
        return self._fd

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def strike(self) -> None:
        """Take the pages away."""
        perform(self.steps())

    def restore(self) -> None:
        """Bring the pages and what was in them back.

        :raises NotImplementedError: where that cannot be (`restores`).
        """
        if not self.restores:
            raise NotImplementedError(f"{self.name} cannot be undone")
        perform(self.steps_back())

    # ---- For the sources -------------------------------------------------

    def open(self, stack: ExitStack) -> int:
        """Make the file; whatever is put on `stack` ends with it."""
        raise NotImplementedError("a kind of source says how")

    def steps(self) -> list[Step]:
        """What any process that has the file can do to strike."""
        return []

    def steps_back(self) -> list[Step]:
        """The same, to restore."""
        return []


def pattern(size: int) -> bytes:
    """Bytes without a zero, that differ from page to page."""
    return bytes(itertools.islice(itertools.cycle(range(1, 252)), size))
