"""wl_display, wl_registry and wl_callback: what every client begins with."""

from __future__ import annotations

from .resource import Event, Resource, request


class Callback(Resource):
    interface = "wl_callback"
    done = Event(0, "u")


class Registry(Resource):
    interface = "wl_registry"
    global_ = Event(0, "usu")

    @request("usun")
    def bind(self, name: int, interface: str, version: int, id: int) -> None:
        offered = self.client.server.globals
        if not 0 < name <= len(offered) or offered[name - 1].interface != interface:
            raise self.error(Display.INVALID_OBJECT, f"no {interface!r:.99} {name}")
        kind = offered[name - 1]
        if not 0 < version <= kind.version:
            raise self.error(Display.INVALID_OBJECT, f"no {interface} {version}")
        kind(self.client, id, version)


class Display(Resource):
    interface = "wl_display"
    INVALID_OBJECT, INVALID_METHOD, NO_MEMORY, IMPLEMENTATION = range(4)
    error_event = Event(0, "ous")
    delete_id = Event(1, "u")

    @request("n")
    def sync(self, id: int) -> None:
        callback = Callback(self.client, id)
        callback.done(0)
        self.client.remove(callback)

    @request("n")
    def get_registry(self, id: int) -> None:
        registry = Registry(self.client, id)
        for name, kind in enumerate(self.client.server.globals, 1):
            registry.global_(name, kind.interface, kind.version)
