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
from .descriptors import accept, is_scarce, part_with
from .display import Display
from .log import log
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
MOST_NEW = 8  # clients in a frame
MOST_MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # mapped
# Seconds of the processor's time in a frame: for the requests of all clients, for those
# of one client at least, and for clients that leave.
FOR_REQUESTS = 0.008
FOR_ONE = 0.0002
FOR_LEAVING = 0.002


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
        self.spent = 0.0  # seconds, on clients that have left
        self._new = 0  # clients since the last frame
        self._busy = 1  # clients in it
        self._path = path

    async def run(self, frames: int | None = None) -> None:
        """Until so many are drawn, or it is cancelled."""
        self.loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self._path)
            self.listener = listener
            try:
                listener.listen(128)
                listener.setblocking(False)
                print("listening", flush=True)
                self.loop.add_reader(safemmap.fault_fd(), self.part_with_failed)
                await self._frames(frames)
            finally:
                for client in [*self.clients]:
                    client.close()
                self.loop.remove_reader(safemmap.fault_fd())
                self.loop.remove_reader(listener)
                os.unlink(self._path)

    def accept(self) -> None:
        self._new += 1
        if self._new >= MOST_NEW or self.spent >= FOR_LEAVING:
            self.loop.remove_reader(self.listener)  # until the next frame
        try:
            connection = accept(self.listener)
        except OSError:  # no descriptors are left, or the client has gone
            return
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, _ = struct.unpack("3i", credentials)
        of_process = Counter(client.pid for client in self.clients)[pid]
        if of_process >= MOST_OF_A_PROCESS or is_scarce(connection.fileno()):
            part_with(connection)
            return
        if len(self.clients) >= MOST_CLIENTS:
            self._part_with_greediest(lambda _: 1, "too many clients")
        self.clients.append(Client(self, connection, pid, uid))

    def share(self) -> float:
        """Seconds of a frame that each client has."""
        return max(FOR_REQUESTS / self._busy, FOR_ONE)

    def bound_memory(self) -> None:
        """What clients have us map, they can have us touch, and so allocate."""
        while sum(client.mapped for client in self.clients) > MOST_MEMORY:
            self._part_with_greediest(lambda client: client.mapped, "too much memory")

    def _part_with_greediest(self, has: Callable[[Client], int], why: str) -> None:
        """Part with the client that has most, of the user who has most. Among equals,
        it is one that shows nothing, and was silent longest."""
        of_user = Counter[int]()
        for client in self.clients:
            of_user[client.uid] += has(client)
        greediest = max(
            self.clients,
            key=lambda client: (
                of_user[client.uid],
                has(client),
                not client.has_picture(),
                -client.heard,
            ),
        )
        greediest.fail(greediest.display.error(Display.NO_MEMORY, why))

    async def _frames(self, frames: int | None) -> None:
        due = self.loop.time()
        while frames is None or self.drawn < frames:
            if self.redraw:
                self.show_frame()
            self._new = 0
            self.spent = max(self.spent - FOR_LEAVING, 0.0)
            if self.spent < FOR_LEAVING:
                self.loop.add_reader(self.listener, self.accept)
            self._busy = max(sum(client.spent > 0 for client in self.clients), 1)
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
        path = folder / f"frame-{server.drawn:06}.png"
        try:
            png.write(path, server.screen.frame)
        except OSError as error:  # the disk is full, or there are no descriptors
            log(f"{path}: {error}")

    return write
