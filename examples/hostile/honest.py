"""A client that does what it should, and whose pictures show whether they are right."""

from __future__ import annotations

import os
import threading

import numpy as np

import safemmap
from examples.compositor.shm import Pixels

from .client import Connection, Left, Window

WIDTH, HEIGHT = 320, 240
BUFFERS = 2


def picture(first: int, width: int, height: int) -> Pixels:
    """All of it follows from the first pixel, and no other is the same."""
    x = np.arange(width, dtype=np.uint32) * 0x010203
    y = np.arange(height, dtype=np.uint32)[:, np.newaxis] * 0x030507
    return np.asarray((first + x + y) & 0xFFFFFF, np.uint32)


def is_right(shown: Pixels) -> bool:
    """Whether this is (part of) such a picture, and not of two, nor with holes."""
    shown = shown[:HEIGHT, :WIDTH]
    return np.array_equal(shown, picture(int(shown[0, 0]), *shown.shape[::-1]))


class Honest(threading.Thread):
    """Draws until it is stopped.

    :ivar frames: how many were shown.
    :ivar problem: what went wrong.
    """

    def __init__(self, path: str, number: int, sealed: bool = True) -> None:
        super().__init__(daemon=True)
        self.path, self.number, self.sealed = path, number, sealed
        self.frames, self.problem = 0, ""
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        size = WIDTH * HEIGHT * 4
        seals = {} if self.sealed else {"seals": safemmap.Seal(0)}
        fd = safemmap.memfd(size * BUFFERS, **seals)  # type: ignore[arg-type]
        try:
            with Connection(self.path) as connection, safemmap.mmap(fd, 0) as memory:
                self._draw(connection, fd, memory, size)
        except (Left, Exception) as error:
            self.problem = repr(error)
        finally:
            os.close(fd)

    def _draw(
        self, connection: Connection, fd: int, memory: safemmap.mmap, size: int
    ) -> None:
        connection.bind()
        window = Window(connection)
        pool = connection.pool(fd, size * BUFFERS)
        buffers = [
            connection.buffer(pool, WIDTH, HEIGHT, size * at) for at in range(BUFFERS)
        ]
        while not self._stopped.is_set():
            at = self.frames % BUFFERS
            first = self.number << 16 | self.frames & 0xFFFF
            drawn = picture(first, WIDTH, HEIGHT).tobytes()
            memory[size * at : size * (at + 1)] = drawn
            connection.wait_for(window.show(buffers[at]))
            self.frames += 1
            # It has released the other buffer with this frame.
