"""faults() and fault_fd(): the faults of views, for an event loop."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from safemmap import _core
from safemmap._errors import Fault

__all__ = ["Faults", "fault_fd", "faults", "watch_faults"]


class Faults(list[Fault]):
    """What `faults` returns.

    :ivar dropped: how many faults since the last call are not among them, because
        nobody took them in time.
    """

    dropped: int = 0


def faults() -> Faults:
    """The faults of views and, under `enable`, of the process since the last call,
    oldest first.

    A view that touches a page which is gone puts one here for the mapping, and one for
    every `protect` that holds the page too. Faults of operations, which raise
    `BusError`, are not among them. The last 1024 are kept.

    `fault_fd` is unreadable then until there is another. The mappings give no
    `FaultWarning` for the faults that were taken.
    """
    return _core.take_faults(Faults)


def fault_fd() -> int:
    """A file descriptor that is readable while there are `faults` to take, for an event
    loop::

        loop.add_reader(safemmap.fault_fd(), handle_faults)

    It is an eventfd(2), written by the signal handler itself. There is one for the
    process, which stays open: do not close it, and do not read it (`faults` does). A
    forked child has its own, under the same number.

    :raises OSError: as eventfd(2) has it.
    """
    return _core.event_fd()


async def watch_faults() -> AsyncIterator[Fault]:
    """The `faults` as they come, for a task of asyncio::

        async for fault in safemmap.watch_faults():
            log.error("%s lost a page at offset %d", fault.path, fault.offset)

    Have one such loop in a process: each fault goes to one reader, whichever takes it.
    (Faults that a loop has taken together and not handled are dropped when it ends.)
    """
    import asyncio

    loop = asyncio.get_running_loop()
    news = asyncio.Event()
    # A loop has one reader for each descriptor.
    own = _core.owned(os.dup, fault_fd())
    try:
        loop.add_reader(own.fileno(), news.set)
        try:
            while True:
                await news.wait()
                news.clear()
                for fault in faults():
                    yield fault
        finally:
            loop.remove_reader(own.fileno())
    finally:
        own.close()
