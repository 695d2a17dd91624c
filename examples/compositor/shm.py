"""wl_shm, wl_shm_pool and wl_buffer: the memory of strangers.

A client sends a descriptor and says how large the file is, then which part of it is a
picture. Any of that can be a lie, or become one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import safemmap

from .client import Client
from .descriptors import close_fd
from .display import Display
from .resource import Event, Resource, request

if TYPE_CHECKING:
    from .surface import Surface

MOST_POOLS = 32  # of one client
MOST_MEMORY = 2 << 30  # bytes that one client can have mapped (foot asks for 512 MiB)
ARGB, XRGB = 0, 1  # of 8 bits each

Pixels = np.ndarray[Any, np.dtype[np.uint32]]


class Shm(Resource):
    interface = "wl_shm"
    INVALID_FORMAT, INVALID_STRIDE, INVALID_FD = range(3)
    format = Event(0, "u")

    def __init__(self, client: Client, id: int, bound: int) -> None:
        super().__init__(client, id, bound)
        self.format(ARGB)
        self.format(XRGB)

    # [create_pool
    @request("nhi")
    def create_pool(self, id: int, fd: int, size: int) -> None:
        try:
            memory = self._map(fd, size)
        except BaseException:
            close_fd(fd)
            raise
        Pool(self, id, memory, fd)

    def _map(self, fd: int, size: int) -> safemmap.mmap:
        if size <= 0:  # to wrap, 0 is the whole file
            raise self.error(self.INVALID_STRIDE, f"a pool of {size} bytes")
        display = self.client.display
        if len(self.client.pools) >= MOST_POOLS:
            raise display.error(Display.NO_MEMORY, "too many pools")
        room = MOST_MEMORY - self.client.mapped
        try:
            return self.client.server.map(fd, size, max_length=room)
        except safemmap.PeerError as error:
            raise self.error(self.INVALID_FD, str(error)) from error
        except OSError as error:  # we may have no more descriptors
            raise display.error(Display.NO_MEMORY, str(error)) from error

    # create_pool]


class Pool(Resource):
    """Lives until it and all its buffers are destroyed."""

    interface = "wl_shm_pool"

    def __init__(self, shm: Shm, id: int, memory: safemmap.mmap, fd: int) -> None:
        self.memory, self.shm, self._fd, self._users = memory, shm, fd, 1
        try:
            super().__init__(shm.client, id, shm.bound)
        except BaseException:
            self._close()
            raise
        self.client.pools.add(self)
        self.client.server.pools[memory] = self
        self._account(len(memory))

    @request("niiiiu")
    def create_buffer(
        self, id: int, offset: int, width: int, height: int, stride: int, format: int
    ) -> None:
        if format not in (ARGB, XRGB):
            raise self.shm.error(Shm.INVALID_FORMAT, f"format {format:#x}")
        if min(width, height) <= 0 or offset < 0 or stride < width * 4:
            raise self.shm.error(Shm.INVALID_STRIDE, f"{width}x{height}, {stride}")
        if offset + stride * height > len(self.memory):
            raise self.shm.error(Shm.INVALID_STRIDE, "a buffer beyond its pool")
        Buffer(self, id, offset, (height, width), stride, format)

    @request()
    def destroy(self) -> None:
        self.client.remove(self)

    # [resize
    @request("i")
    def resize(self, size: int) -> None:
        if size < len(self.memory):
            raise self.shm.error(Shm.INVALID_FD, "a pool can only grow")
        grown = size - len(self.memory)
        if grown > MOST_MEMORY - self.client.mapped:
            raise self.shm.error(Shm.INVALID_FD, f"a pool of {size} bytes")
        try:
            self.memory.resize(size, truncate=False)
        except (safemmap.PeerError, safemmap.BusError) as error:
            raise self.shm.error(Shm.INVALID_FD, str(error)) from error
        self._account(grown)

    # resize]

    def _account(self, size: int) -> None:
        self.client.mapped += size
        self.client.server.bound_memory()

    def use(self) -> None:
        self._users += 1

    def unuse(self) -> None:
        self._users -= 1
        if self._users == 0:
            self.client.pools.discard(self)
            self.client.mapped -= len(self.memory)
            del self.client.server.pools[self.memory]
            self._close()

    gone = unuse

    def _close(self) -> None:
        self.memory.close()
        close_fd(self._fd)  # last, since who lets go of a file last frees it


class Buffer(Resource):
    interface = "wl_buffer"
    release = Event(0)

    def __init__(
        self,
        pool: Pool,
        id: int,
        offset: int,
        shape: tuple[int, int],
        stride: int,
        format: int,
    ) -> None:
        self.pool, self.shape, self.stride = pool, shape, stride
        self.offset, self.is_opaque = offset, format == XRGB
        self.users: set[Surface] = set()
        super().__init__(pool.client, id)
        pool.use()

    @request()
    def destroy(self) -> None:
        self.client.remove(self)

    def gone(self) -> None:
        for surface in [*self.users]:
            surface.forget(self)
        self.pool.unuse()

    # [pixels
    def pixels(self) -> Pixels:
        """The client's own memory. Whoever reads it asks afterwards whether a page was
        gone, and was read as zeros."""
        return np.ndarray(
            self.shape,
            np.uint32,
            memoryview(self.pool.memory),
            self.offset,
            (self.stride, 4),
        )

    # pixels]
