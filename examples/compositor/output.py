"""wl_output: the screen, as clients are told of it."""

from __future__ import annotations

from .client import Client
from .resource import Event, Resource, request


class Output(Resource):
    interface = "wl_output"
    version = 3
    most = 4  # each is told of each surface
    CURRENT, PREFERRED = 1, 2
    geometry = Event(0, "iiiiissi")
    mode = Event(1, "uiii")
    done = Event(2)
    scale = Event(3, "i")

    def __init__(self, client: Client, id: int, bound: int) -> None:
        super().__init__(client, id, bound)
        height, width = client.server.screen.frame.shape
        self.geometry(0, 0, width // 4, height // 4, 0, "safemmap", "PNG", 0)
        self.mode(self.CURRENT | self.PREFERRED, width, height, 60_000)
        if bound >= 2:
            self.scale(1)
            self.done()
        client.outputs.append(self)

    @request()
    def release(self) -> None:
        self.client.remove(self)

    def gone(self) -> None:
        self.client.outputs.remove(self)
