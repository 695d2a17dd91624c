"""wl_compositor, wl_surface and wl_region: what is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .client import Client
from .display import Callback
from .resource import Event, Resource, request
from .shm import Buffer

if TYPE_CHECKING:
    from .subsurface import Subsurface


class Region(Resource):
    """Where a surface is opaque, or takes input: not looked at."""

    interface = "wl_region"

    @request()
    def destroy(self) -> None:
        self.client.remove(self)

    @request("iiii")
    def add(self, x: int, y: int, width: int, height: int) -> None: ...

    @request("iiii")
    def subtract(self, x: int, y: int, width: int, height: int) -> None: ...


class Role:
    """What a surface is for. It is called when the surface has new content."""

    def committed(self) -> None: ...


class Surface(Resource):
    interface = "wl_surface"
    version = 4
    most = 256
    enter = Event(0, "o")

    def __init__(self, client: Client, id: int, bound: int) -> None:
        super().__init__(client, id, bound)
        self.buffer: Buffer | None = None  # what is shown
        self.role: Role | None = None
        self.parts: list[Subsurface] = []  # above this one, the last on top
        self._attached: tuple[Buffer | None] | None = None
        self._callbacks: list[Callback] = []  # of the next commit

    @request()
    def destroy(self) -> None:
        self.client.remove(self)

    @request("?oii", Buffer)
    def attach(self, buffer: Buffer | None, x: int, y: int) -> None:
        self._set(self.buffer, (buffer,))

    @request("iiii")
    def damage(self, x: int, y: int, width: int, height: int) -> None: ...

    @request("n")
    def frame(self, id: int) -> None:
        self._callbacks.append(Callback(self.client, id))

    @request("?o", Region)
    def set_opaque_region(self, region: Region | None) -> None: ...

    @request("?o", Region)
    def set_input_region(self, region: Region | None) -> None: ...

    @request()
    def commit(self) -> None:
        if self._attached is not None:
            (buffer,), previous = self._attached, self.buffer
            self._set(buffer, None)
            if previous is not None and previous is not buffer:
                previous.release()
            if previous is None and buffer is not None:
                self.client.enter_outputs(self)
        self.client.callbacks += self._callbacks
        self._callbacks = []
        if self.role is not None:
            self.role.committed()
        self.client.server.redraw = True

    @request("i")
    def set_buffer_transform(self, transform: int) -> None: ...

    @request("i")
    def set_buffer_scale(self, scale: int) -> None: ...

    @request("iiii")
    def damage_buffer(self, x: int, y: int, width: int, height: int) -> None: ...

    def _set(self, shown: Buffer | None, attached: tuple[Buffer | None] | None) -> None:
        """Buffers know the surfaces that have them."""
        for buffer in (self.buffer, *(self._attached or ())):
            if buffer is not None:
                buffer.users.discard(self)
        self.buffer, self._attached = shown, attached
        for buffer in (self.buffer, *(self._attached or ())):
            if buffer is not None:
                buffer.users.add(self)

    def forget(self, buffer: Buffer) -> None:
        self._set(
            None if self.buffer is buffer else self.buffer,
            None if self._attached == (buffer,) else self._attached,
        )

    def gone(self) -> None:
        self._set(None, None)
        self.client.server.redraw = True


class Compositor(Resource):
    interface = "wl_compositor"
    version = 4

    @request("n")
    def create_surface(self, id: int) -> None:
        Surface(self.client, id, self.bound)

    @request("n")
    def create_region(self, id: int) -> None:
        Region(self.client, id)
