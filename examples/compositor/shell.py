"""xdg_wm_base and its objects: windows. Their clients choose the size."""

from __future__ import annotations

from .client import Client
from .output import Output
from .resource import Event, Resource, request
from .seat import Seat
from .surface import Role, Surface


class Positioner(Resource):
    interface = "xdg_positioner"
    version = 2

    @request()
    def destroy(self) -> None:
        self.client.remove(self)

    @request("ii")
    def set_size(self, width: int, height: int) -> None: ...

    @request("iiii")
    def set_anchor_rect(self, x: int, y: int, width: int, height: int) -> None: ...

    @request("u")
    def set_anchor(self, anchor: int) -> None: ...

    @request("u")
    def set_gravity(self, gravity: int) -> None: ...

    @request("u")
    def set_constraint_adjustment(self, how: int) -> None: ...

    @request("ii")
    def set_offset(self, x: int, y: int) -> None: ...


class Toplevel(Resource):
    interface = "xdg_toplevel"
    version = 2
    configure = Event(0, "iia")

    def __init__(self, client: Client, id: int, surface: Surface) -> None:
        super().__init__(client, id)
        self.surface = surface
        client.windows.append(self)

    @request()
    def destroy(self) -> None:
        self.client.remove(self)

    @request("?o", Resource)
    def set_parent(self, parent: Resource | None) -> None: ...

    @request("s")
    def set_title(self, title: str) -> None: ...

    @request("s")
    def set_app_id(self, id: str) -> None: ...

    @request("ouii", Seat)
    def show_window_menu(self, seat: Seat, serial: int, x: int, y: int) -> None: ...

    @request("ou", Seat)
    def move(self, seat: Seat, serial: int) -> None: ...

    @request("ouu", Seat)
    def resize(self, seat: Seat, serial: int, edges: int) -> None: ...

    @request("ii")
    def set_max_size(self, width: int, height: int) -> None: ...

    @request("ii")
    def set_min_size(self, width: int, height: int) -> None: ...

    @request()
    def set_maximized(self) -> None: ...

    @request()
    def unset_maximized(self) -> None: ...

    @request("?o", Output)
    def set_fullscreen(self, output: Output | None) -> None: ...

    @request()
    def unset_fullscreen(self) -> None: ...

    @request()
    def set_minimized(self) -> None: ...

    def gone(self) -> None:
        self.client.windows.remove(self)
        self.client.server.redraw = True


class Popup(Resource):
    """Is dismissed before it is shown: there is nobody to click on it."""

    interface = "xdg_popup"
    version = 2
    popup_done = Event(1)

    @request()
    def destroy(self) -> None:
        self.client.remove(self)

    @request("ou", Seat)
    def grab(self, seat: Seat, serial: int) -> None: ...


class XdgSurface(Resource, Role):
    interface = "xdg_surface"
    version = 2
    NOT_CONSTRUCTED, ALREADY_CONSTRUCTED = 1, 2
    configure = Event(0, "u")

    def __init__(self, shell: Shell, id: int, surface: Surface) -> None:
        super().__init__(shell.client, id, shell.bound)
        self.surface = surface
        self.window: Toplevel | None = None
        self._configured = False
        surface.role = self

    @request()
    def destroy(self) -> None:
        self.client.remove(self)

    @request("n")
    def get_toplevel(self, id: int) -> None:
        if self.window is not None:
            raise self.error(self.ALREADY_CONSTRUCTED, "it is a window already")
        self.window = Toplevel(self.client, id, self.surface)

    @request("n?oo", Resource, Positioner)
    def get_popup(self, id: int, parent: Resource | None, at: Positioner) -> None:
        Popup(self.client, id).popup_done()

    @request("iiii")
    def set_window_geometry(self, x: int, y: int, width: int, height: int) -> None: ...

    @request("u")
    def ack_configure(self, serial: int) -> None: ...

    def committed(self) -> None:
        if self.window is not None and not self._configured:
            self._configured = True
            self.window.configure(0, 0, b"")
            self.configure(1)

    def gone(self) -> None:
        self.surface.role = None


class Shell(Resource):
    interface = "xdg_wm_base"
    version = 2
    ROLE = 0

    @request()
    def destroy(self) -> None:
        self.client.remove(self)

    @request("n")
    def create_positioner(self, id: int) -> None:
        Positioner(self.client, id)

    @request("no", Surface)
    def get_xdg_surface(self, id: int, surface: Surface) -> None:
        if surface.role is not None:
            raise self.error(self.ROLE, f"surface {surface.id} has another role")
        XdgSurface(self, id, surface)

    @request("u")
    def pong(self, serial: int) -> None: ...
