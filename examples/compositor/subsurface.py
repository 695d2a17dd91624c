"""wl_subcompositor and wl_subsurface: surfaces on top of others.

All are shown as soon as they are committed; who is above whom among them is the order
in which they came.
"""

from __future__ import annotations

from .resource import Resource, request
from .surface import Role, Surface


class Subsurface(Resource, Role):
    interface = "wl_subsurface"
    version = 1
    most = 32

    def __init__(self, manager: Resource, id: int, surface: Surface, parent: Surface):
        super().__init__(manager.client, id)
        self.surface, self.parent = surface, parent
        self.x = self.y = 0
        surface.role = self
        parent.parts.append(self)

    @request()
    def destroy(self) -> None:
        self.client.remove(self)

    @request("ii")
    def set_position(self, x: int, y: int) -> None:
        self.x, self.y = x, y

    @request("o", Surface)
    def place_above(self, sibling: Surface) -> None: ...

    @request("o", Surface)
    def place_below(self, sibling: Surface) -> None: ...

    @request()
    def set_sync(self) -> None: ...

    @request()
    def set_desync(self) -> None: ...

    def gone(self) -> None:
        self.parent.parts.remove(self)
        self.surface.role = None
        self.client.server.redraw = True


class Subcompositor(Resource):
    interface = "wl_subcompositor"
    BAD_SURFACE = 0

    @request()
    def destroy(self) -> None:
        self.client.remove(self)

    @request("noo", Surface, Surface)
    def get_subsurface(self, id: int, surface: Surface, parent: Surface) -> None:
        if surface.role is not None:
            raise self.error(self.BAD_SURFACE, f"surface {surface.id} has a role")
        top = parent
        while isinstance(top.role, Subsurface):
            top = top.role.parent
        if top is surface:
            raise self.error(self.BAD_SURFACE, "a circle")
        Subsurface(self, id, surface, parent)
