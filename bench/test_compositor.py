"""A frame of examples/compositor: one client that draws all over the screen shows its
next picture, the server reads what it says, draws, and answers.

By the standard mmap, and by each of the ways to survive a fault. *kernel* and *pread*
copy, since they have no views. Client and server are one thread, and its time on the
processor is what is measured.
"""

from __future__ import annotations

import asyncio
import mmap as standard
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

np = pytest.importorskip("numpy")

import safemmap  # noqa: E402
from examples.compositor import wire  # noqa: E402
from examples.compositor.client import Client  # noqa: E402
from examples.compositor.server import Server  # noqa: E402
from examples.compositor.shell import Shell, XdgSurface  # noqa: E402
from examples.compositor.shm import Buffer, Shm  # noqa: E402
from examples.compositor.surface import Surface  # noqa: E402

SIZES = [(640, 480), (1280, 720), (1920, 1080), (3840, 2160)]
WAYS = ["sealed", "guarded", "kernel", "pread"]


class Copies:
    """Memory of which there are copies alone."""

    def __init__(self, fd: int, size: int, way: str) -> None:
        self._size, self._fd = size, os.dup(fd)
        self._memory = safemmap.wrap(fd, size, protection="kernel")
        self.read = self._pread if way == "pread" else self._slice

    def _slice(self, start: int, size: int) -> bytes:
        return self._memory[start : start + size]

    def _pread(self, start: int, size: int) -> bytes:
        content = os.pread(self._fd, size, start)
        assert len(content) == size
        return content

    def __len__(self) -> int:
        return self._size

    def close(self) -> None:
        self._memory.close()
        os.close(self._fd)


class Frame:
    """To be timed."""

    def __init__(self, way: str, width: int, height: int) -> None:
        server = self.server = Server("", width, height)
        server.loop = asyncio.new_event_loop()
        server.map = self._map  # type: ignore[assignment]
        self._way = way
        ours, self._theirs = socket.socketpair()
        client = self._client = Client(server, ours, os.getpid(), os.getuid())
        server.clients.append(client)
        picture = Surface(client, 2, 4)
        XdgSurface(Shell(client, 3, 1), 4, picture).get_toplevel(5)
        size = width * height * 4
        content = np.arange(size // 2, dtype=np.uint32)
        seals = safemmap.Seal.SHRINK if way == "sealed" else safemmap.Seal(0)
        Shm(client, 6, 1).create_pool(7, safemmap.memfd(content, seals=seals), size * 2)
        (pool,) = client.pools
        self._messages = []
        for at in range(2):
            pool.create_buffer(8 + at, size * at, width, height, width * 4, 1)
            self._messages.append(
                wire.encode(2, 1, "oii", (8 + at, 0, 0))
                + wire.encode(2, 9, "iiii", (0, 0, width, height))
                + wire.encode(2, 3, "n", (10,))
                + wire.encode(2, 6, "", ())
            )
        self._show()
        expected = content[: size // 4].reshape(height, width) & 0xFFFFFF
        assert np.array_equal(server.screen.frame, expected)

    def _map(self, fd: int, size: int, *, max_length: int) -> Any:
        if self._way == "mmap":
            return standard.mmap(fd, size, access=standard.ACCESS_READ)
        if self._way in ("kernel", "pread"):
            return Copies(fd, size, self._way)
        return safemmap.wrap(fd, size, max_length=max_length, protection=self._way)  # type: ignore[arg-type]

    def timeit(self, number: int) -> float:
        """Nanoseconds for so many."""
        before = time.thread_time_ns()
        for _ in range(number):
            self._show()
        return time.thread_time_ns() - before

    def _show(self) -> None:
        self._theirs.send(self._messages[self.server.drawn % 2])
        self._client.read()
        self.server.show_frame()
        self._client.next_frame()
        self._theirs.recv(4096)

    def close(self) -> None:
        self._client.close()
        self._theirs.close()
        self.server.loop.close()


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Frame]]:
    pixels, made = Buffer.pixels, []

    def copied(buffer: Buffer) -> Any:
        memory: Any = buffer.pool.memory
        if not isinstance(memory, Copies):
            return pixels(buffer)
        height, width = buffer.shape
        content = memory.read(buffer.offset, buffer.stride * height)
        return np.frombuffer(content, np.uint32).reshape(height, width)

    monkeypatch.setattr(Buffer, "pixels", copied)

    def make(way: str, width: int, height: int) -> Frame:
        made.append(Frame(way, width, height))
        return made[-1]

    yield make
    for frame in made:
        frame.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_frame(
    compare: Callable[..., None],
    frames: Callable[..., Frame],
    way: str,
    width: int,
    height: int,
) -> None:
    ours, standards = (frames(name, width, height) for name in (way, "mmap"))
    compare(f"a frame of {width}x{height}, {way}", **{way: ours, "mmap": standards})
