"""Draws a frame: a grid with a cell for each client, which shows its newest window.

So a frame takes as long as the screen is large, however many windows there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .client import Client
from .shm import Buffer, Pixels
from .surface import Surface

BACKGROUND = 0x202020
MOST_LAYERS = 2  # of a client, as pixels for each of its cell: the lowest are drawn
LEAST = 1024  # pixels, for which each of its surfaces counts
IN_CACHE = 1 << 15  # pixels
CHANNELS = 0xFF00FF  # two of them, with 8 bits between them


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
        left -= max(height * width, LEAST)
        if left < 0:
            return
        if height > 0 and width > 0:
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
    rows = max(IN_CACHE // source.shape[1], 1)
    for y in range(0, source.shape[0], rows):
        above, below = source[y : y + rows].copy(), target[y : y + rows]
        rest = 255 - (above >> 24)
        blue_and_red, green = (
            _add(above >> shift & CHANNELS, below >> shift & CHANNELS, rest)
            for shift in (0, 8)
        )
        below[:] = blue_and_red | green << 8 & 0xFF00


def _add(above: Any, below: Any, rest: Any) -> Any:
    """`above` + `below` * `rest` / 255, at most 255, for two channels in each word."""
    product = below * rest + 0x800080
    total = above + (product + (product >> 8 & CHANNELS) >> 8 & CHANNELS)
    carry = total & 0x1000100
    return (total | carry - (carry >> 8)) & CHANNELS
