"""Draws a frame: a grid with a cell for each client, which shows its newest window.

So a frame takes as long as the screen is large, however many windows there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from .client import Client
from .shm import Buffer, Pixels
from .surface import Surface

BACKGROUND = 0x202020
MOST_LAYERS = 2  # of a client, as pixels for each of its cell: the lowest are drawn
LEAST = 1024  # pixels, for which each of its surfaces counts


class Screen:
    def __init__(self, width: int, height: int) -> None:
        self.frame: Pixels = np.full((height, width), BACKGROUND, np.uint32)

    def draw(self, clients: Sequence[Client]) -> None:
        """:raises BusError: a pool has failed before."""
        self.frame[:] = BACKGROUND
        for client, cell in self.cells(clients):
            show(client.windows[-1].surface, cell)

    def cells(self, clients: Sequence[Client]) -> Iterator[tuple[Client, Pixels]]:
        """Each client that shows something, and its part of the frame."""
        shown = [client for client in clients if client.has_picture()]
        if not shown:
            return
        columns = math.isqrt(len(shown) - 1) + 1
        rows = -(-len(shown) // columns)
        height, width = self.frame.shape[0] // rows, self.frame.shape[1] // columns
        for index, client in enumerate(shown):
            y, x = index // columns * height, index % columns * width
            yield client, self.frame[y : y + height, x : x + width]


def show(surface: Surface, cell: Pixels) -> None:
    left = cell.size * MOST_LAYERS
    for buffer, x, y in pictures(surface, 0, 0):
        target = cell[max(y, 0) :, max(x, 0) :]
        source = buffer.pixels()[max(-y, 0) :, max(-x, 0) :]
        height, width = map(min, source.shape, target.shape)
        if height == 0 or width == 0:
            continue
        left -= max(height * width, LEAST)
        if left < 0:
            return
        put(source[:height, :width], target[:height, :width], buffer.is_opaque)


def pictures(surface: Surface, x: int, y: int) -> Iterator[tuple[Buffer, int, int]]:
    """What is shown at `x` and `y`, and on top of it."""
    if surface.buffer is None:
        return
    yield surface.buffer, x, y
    for part in surface.parts:
        yield from pictures(part.surface, x + part.x, y + part.y)


def put(source: Pixels, target: Pixels, is_opaque: bool) -> None:
    if is_opaque:
        np.bitwise_and(source, 0xFFFFFF, out=target)
    else:
        blend(source, target)


def blend(source: Pixels, target: Pixels) -> None:
    """Put colours that have been multiplied by their opacity over others."""
    above = source.copy()
    below = target.copy().view(np.uint8).reshape(*above.shape, 4).astype(np.uint16)
    opacity = (above >> 24).astype(np.uint16)[..., np.newaxis]
    rest = (below * (255 - opacity) + 127) // 255
    mixed = np.minimum(rest + above.view(np.uint8).reshape(below.shape), 255)
    target[:] = mixed.astype(np.uint8).view(np.uint32)[..., 0] & 0xFFFFFF
