"""The other side of the wire: a connection to a Wayland server, and a window."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any, NamedTuple

from examples.compositor import wire

PATIENCE = 60  # seconds for an answer
DISPLAY, REGISTRY = 1, 2
GLOBALS = {"wl_compositor": 4, "wl_shm": 1, "xdg_wm_base": 2, "wl_subcompositor": 1}
XRGB = 1


class Refused(Exception):
    """The server has told us what was wrong: object, code and message."""


class Left(Exception):
    """The server has closed the connection."""


class Event(NamedTuple):
    target: int
    opcode: int
    body: bytes


class Connection:
    """A context manager, which closes it."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self._received, self._last_id = bytearray(), 1
        self.globals: dict[str, int] = {}
        try:
            self.socket.connect(path)
            self.socket.settimeout(PATIENCE)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def request(
        self,
        target: int,
        opcode: int,
        signature: str = "",
        *arguments: Any,
        fds: Iterable[int] = (),
    ) -> None:
        message = wire.encode(target, opcode, signature, arguments)
        try:
            socket.send_fds(self.socket, [message], list(fds))
        except (BrokenPipeError, ConnectionResetError):
            while True:  # what it has said before
                self.event()

    def event(self) -> Event:
        """The next one.

        :raises Refused: it is an error; and
        :raises Left: there is none any more.
        """
        while True:
            for target, opcode, body in wire.messages(self._received):
                if (target, opcode) == (DISPLAY, 0):
                    raise Refused(*wire.decode("ous", body, lambda: -1))
                return Event(target, opcode, body)
            try:
                data = self.socket.recv(4096)
            except ConnectionResetError:
                data = b""
            if not data:
                raise Left
            self._received += data

    def wait_for(self, target: int) -> Event:
        """The next event of that object; others are dropped."""
        while True:
            event = self.event()
            if event.target == target:
                return event

    def sync(self) -> None:
        """Wait until the server has done what it was asked to."""
        id = self.new_id()
        self.request(DISPLAY, 0, "n", id)
        self.wait_for(id)

    def bind(self) -> None:
        """Ask for the globals that we use."""
        registry, done = self.new_id(), self.new_id()
        self.request(DISPLAY, 1, "n", registry)
        self.request(DISPLAY, 0, "n", done)
        while (event := self.event()).target != done:
            name, interface, _ = wire.decode("usu", event.body, lambda: -1)
            if interface in GLOBALS:
                self.globals[interface] = id = self.new_id()
                version = GLOBALS[interface]
                self.request(registry, 0, "usun", name, interface, version, id)

    def pool(self, fd: int, size: int) -> int:
        id = self.new_id()
        self.request(self.globals["wl_shm"], 0, "nhi", id, size, fds=[fd])
        return id

    def buffer(
        self,
        pool: int,
        width: int,
        height: int,
        offset: int = 0,
        stride: int = 0,
        form: int = XRGB,
    ) -> int:
        id, stride = self.new_id(), stride or width * 4
        self.request(pool, 0, "niiiiu", id, offset, width, height, stride, form)
        return id

    def surface(self) -> int:
        id = self.new_id()
        self.request(self.globals["wl_compositor"], 0, "n", id)
        return id


class Window:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.surface = connection.surface()
        self.xdg_surface, toplevel = connection.new_id(), connection.new_id()
        shell = connection.globals["xdg_wm_base"]
        connection.request(shell, 2, "no", self.xdg_surface, self.surface)
        connection.request(self.xdg_surface, 1, "n", toplevel)
        connection.request(self.surface, 6)
        connection.wait_for(self.xdg_surface)
        connection.request(self.xdg_surface, 4, "u", 1)

    def show(self, buffer: int) -> int:
        """Returns what is to be waited for before the next picture."""
        connection = self.connection
        callback = connection.new_id()
        connection.request(self.surface, 1, "oii", buffer, 0, 0)
        connection.request(self.surface, 9, "iiii", 0, 0, 1 << 20, 1 << 20)
        connection.request(self.surface, 3, "n", callback)
        connection.request(self.surface, 6)
        return callback
