"""wl_seat: a mouse that never moves."""

from __future__ import annotations

from .client import Client
from .resource import Event, Resource, request
from .surface import Surface


class Pointer(Resource):
    interface = "wl_pointer"
    version = 3

    @request("u?oii", Surface)
    def set_cursor(self, serial: int, surface: Surface, x: int, y: int) -> None: ...

    @request()
    def release(self) -> None:
        self.client.remove(self)


class Keyboard(Resource):
    interface = "wl_keyboard"
    version = 3

    @request()
    def release(self) -> None:
        self.client.remove(self)


class Touch(Resource):
    interface = "wl_touch"
    version = 3

    @request()
    def release(self) -> None:
        self.client.remove(self)


class Seat(Resource):
    interface = "wl_seat"
    version = 5
    POINTER = 1
    capabilities = Event(0, "u")
    name = Event(1, "s")

    def __init__(self, client: Client, id: int, bound: int) -> None:
        super().__init__(client, id, bound)
        self.capabilities(self.POINTER)
        if bound >= 2:
            self.name("seat")

    @request("n")
    def get_pointer(self, id: int) -> None:
        Pointer(self.client, id)

    @request("n")
    def get_keyboard(self, id: int) -> None:
        Keyboard(self.client, id)

    @request("n")
    def get_touch(self, id: int) -> None:
        Touch(self.client, id)

    @request()
    def release(self) -> None:
        self.client.remove(self)
