"""The event loop: connections, frames, and the faults of clients' memory."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safemmap

from . import png
from .client import Client
from .data_device import Manager
from .output import Output
from .resource import Resource
from .screen import Screen
from .seat import Seat
from .shell import Shell
from .shm import Pool, Shm
from .subsurface import Subcompositor
from .surface import Compositor

RATE = 60  # frames per second
MOST_CLIENTS = 256
MOST_OF_A_PROCESS = 64


class Server:
    globals: tuple[type[Resource], ...] = (
        Compositor, Shm, Shell, Seat, Output, Subcompositor, Manager,
    )  # fmt: skip

    def __init__(
        self,
        path: str,
        width: int,
        height: int,
        each: Callable[[Server], object] = lambda _: None,
    ) -> None:
        """`each` is called after each frame."""
        self.screen = Screen(width, height)
        self.each = each
        self.clients: list[Client] = []
        self.pools: dict[safemmap.mmap, Pool] = {}
        self.map = safemmap.wrap
        self.redraw = True
        self.drawn = 0  # frames
        self._path = path

    async def run(self, frames: int | None = None) -> None:
        """Until so many are drawn, or it is cancelled."""
        self.loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self._path)
            try:
                listener.listen(128)
                listener.setblocking(False)
                print("listening", flush=True)
                self.loop.add_reader(listener, self.accept, listener)
                self.loop.add_reader(safemmap.fault_fd(), self.part_with_failed)
                await self._frames(frames)
            finally:
                for client in [*self.clients]:
                    client.close()
                self.loop.remove_reader(safemmap.fault_fd())
                self.loop.remove_reader(listener)
                os.unlink(self._path)

    def accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            # No descriptors are left, or the client has gone. The next frame tries
            # again, so that the loop does not spin.
            self.loop.remove_reader(listener)
            self.loop.call_later(
                1 / RATE, self.loop.add_reader, listener, self.accept, listener
            )
            return
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, _, _ = struct.unpack("3i", credentials)
        of_process = Counter(client.pid for client in self.clients)[pid]
        if len(self.clients) >= MOST_CLIENTS or of_process >= MOST_OF_A_PROCESS:
            connection.close()
            return
        self.clients.append(Client(self, connection, pid))

    async def _frames(self, frames: int | None) -> None:
        due = self.loop.time()
        while frames is None or self.drawn < frames:
            if self.redraw:
                self.show_frame()
            for client in [*self.clients]:
                client.next_frame()
            due = max(due + 1 / RATE, self.loop.time())
            await asyncio.sleep(due - self.loop.time())

    def show_frame(self) -> None:
        self.redraw = False
        self.draw()
        self.drawn += 1
        self.each(self)
        now = time.monotonic_ns() // 1_000_000 & 0xFFFFFFFF
        for client in self.clients:
            client.frame_shown(now)

    # [draw
    def draw(self) -> None:
        """Draw what all clients show; without those whose memory fails meanwhile."""
        while True:
            try:
                self.screen.draw(self.clients)
            except safemmap.BusError as error:
                self._part_with(error.mapping, str(error))
            else:
                if not self.part_with_failed():
                    return

    def part_with_failed(self) -> bool:
        """Part with the clients in whose memory a page was gone when it was read.

        Called by the event loop, too, since a fault makes `fault_fd` readable."""
        faults = safemmap.faults()
        failed: dict[Any, str] = {
            fault.mapping: f"{fault.path!r} has no page at offset {fault.offset}"
            for fault in faults
        }
        if faults.dropped:  # there were too many
            others = [memory for memory in self.pools if memory.faulted]
            failed |= dict.fromkeys(others, "a page is gone")
        for memory, why in failed.items():
            self._part_with(memory, why)
        return bool(failed)

    def _part_with(self, memory: Any, why: str) -> None:
        pool = self.pools.get(memory)
        if pool is not None:
            pool.client.fail(pool.shm.error(Shm.INVALID_FD, why))

    # draw]


def writes_png(folder: Path) -> Callable[[Server], None]:
    def write(server: Server) -> None:
        png.write(folder / f"frame-{server.drawn:06}.png", server.screen.frame)

    return write
