"""wl_data_device_manager: a clipboard that nobody pastes from."""

from __future__ import annotations

from .resource import Resource, request
from .seat import Seat
from .surface import Surface


class Source(Resource):
    interface = "wl_data_source"
    version = 3

    @request("s")
    def offer(self, type: str) -> None: ...

    @request()
    def destroy(self) -> None:
        self.client.remove(self)

    @request("u")
    def set_actions(self, actions: int) -> None: ...


class Device(Resource):
    interface = "wl_data_device"
    version = 3

    @request("?oo?ou", Source, Surface, Surface)
    def start_drag(
        self, source: Source, origin: Surface, icon: Surface, serial: int
    ) -> None: ...

    @request("?ou", Source)
    def set_selection(self, source: Source, serial: int) -> None: ...

    @request()
    def release(self) -> None:
        self.client.remove(self)


class Manager(Resource):
    interface = "wl_data_device_manager"
    version = 3

    @request("n")
    def create_data_source(self, id: int) -> None:
        Source(self.client, id)

    @request("no", Seat)
    def get_data_device(self, id: int, seat: Seat) -> None:
        Device(self.client, id)
