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


class Screen:
    def __init__(self, width: int, height: int) -> None:
        self.frame: Pixels = np.full((height, width), BACKGROUND, np.uint32)

    def draw(self, clients: Sequence[Client]) -> None:
        """:raises BusError: a pool has failed before."""
        self.frame[:] = BACKGROUND
        for client, cell in self.cells(clients):
            show(client.windows[-1].surface, cell, 0, 0)

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


def show(surface: Surface, cell: Pixels, x: int, y: int) -> None:
    """Put it in the cell, its corner at `x` and `y`, and its parts on top."""
    if surface.buffer is None:
        return
    put(surface.buffer, cell, x, y)
    for part in surface.parts:
        show(part.surface, cell, x + part.x, y + part.y)


def put(buffer: Buffer, cell: Pixels, x: int, y: int) -> None:
    pixels = buffer.pixels()
    left, top = max(-x, 0), max(-y, 0)
    target = cell[max(y, 0) :, max(x, 0) :]
    source = pixels[top:, left:][: target.shape[0], : target.shape[1]]
    target = target[: source.shape[0], : source.shape[1]]
    if buffer.is_opaque:
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
