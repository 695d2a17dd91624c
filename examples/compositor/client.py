"""A connection: its socket, its objects, and how it ends."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
import traceback
from collections import deque
from typing import TYPE_CHECKING, Any

import safemmap

from . import wire
from .display import Callback, Display
from .resource import ProtocolError, Resource

if TYPE_CHECKING:
    from .output import Output
    from .server import Server
    from .shell import Toplevel
    from .shm import Pool
    from .surface import Surface

# What one client may have.
MOST_OBJECTS = 4096
MOST_FDS = 28  # in one message, or waiting for their requests
MOST_UNREAD = 1 << 16  # bytes of events that it does not read
MOST_PER_FRAME = 1024  # bytes of requests; the rest has to wait for the next one


class Client:
    def __init__(self, server: Server, connection: socket.socket, pid: int) -> None:
        self.server, self.socket, self.pid = server, connection, pid
        self.objects: dict[int, Resource] = {}
        self.pools: set[Pool] = set()
        self.surfaces: list[Surface] = []
        self.windows: list[Toplevel] = []  # the newest is shown
        self.outputs: list[Output] = []
        self.callbacks: list[Callback] = []  # for when the next frame is out
        self._received, self._fds = bytearray(), deque[int]()
        self._unsent = bytearray()
        self._read_in_frame = 0
        self.display = Display(self, 1)
        connection.setblocking(False)
        server.loop.add_reader(connection, self.read)

    # ---- Objects ---------------------------------------------------------

    def add(self, resource: Resource) -> None:
        if resource.id in self.objects or resource.id >= 0xFF000000:
            raise self.display.error(
                Display.INVALID_OBJECT, f"id {resource.id} is not free"
            )
        if len(self.objects) >= MOST_OBJECTS:
            raise self.display.error(Display.NO_MEMORY, "too many objects")
        self.objects[resource.id] = resource

    def remove(self, resource: Resource) -> None:
        if self.objects.pop(resource.id, None) is not None:
            resource.gone()
            self.display.delete_id(resource.id)

    def has_picture(self) -> bool:
        return bool(self.windows) and self.windows[-1].surface.buffer is not None

    def enter_outputs(self, surface: Surface) -> None:
        for output in self.outputs:
            surface.enter(output.id)

    def frame_shown(self, time: int) -> None:
        """The client may draw the next one."""
        for callback in self.callbacks:
            callback.done(time)
            self.remove(callback)
        self.callbacks.clear()

    # ---- Requests --------------------------------------------------------

    def read(self) -> None:
        """Take what there is on the socket, and do what it says."""
        # [receive
        try:
            data, fds, flags, _ = socket.recv_fds(
                self.socket, MOST_PER_FRAME, MOST_FDS, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._fds.extend(fds)
        if not data or flags & socket.MSG_CTRUNC or len(self._fds) > MOST_FDS:
            self.close()
            return
        # receive]
        self._received += data
        self._read_in_frame += len(data)
        try:
            for target, opcode, body in wire.messages(self._received):
                self._dispatch(target, opcode, body)
        except ProtocolError as error:
            self.fail(error)
        except wire.Malformed as error:
            self.fail(self.display.error(Display.INVALID_METHOD, str(error)))
        except Exception as error:  # a bug of ours must not end the others, too
            traceback.print_exc()
            self.fail(self.display.error(Display.IMPLEMENTATION, repr(error)))
        self.flush()
        if self._read_in_frame >= MOST_PER_FRAME and self in self.server.clients:
            self.server.loop.remove_reader(self.socket)

    def next_frame(self) -> None:
        if self._read_in_frame >= MOST_PER_FRAME:
            self.server.loop.add_reader(self.socket, self.read)
        self._read_in_frame = 0
        self.flush()

    def _dispatch(self, target: int, opcode: int, body: bytes) -> None:
        resource = self.objects.get(target)
        if resource is None:
            raise self.display.error(Display.INVALID_OBJECT, f"no object {target}")
        if opcode >= len(resource.requests):
            raise resource.error(Display.INVALID_METHOD, f"no request {opcode}")
        request = resource.requests[opcode]
        arguments = wire.decode(request.signature, body, self._take_fd)
        types = iter(request.types)
        letters = request.signature.replace("?", "")
        for index, letter in enumerate(letters):
            if letter == "o" and arguments[index] is not None:
                found, expected = self.objects.get(arguments[index]), next(types)
                if not isinstance(found, expected):
                    what = f"{arguments[index]} is no {expected.interface}"
                    raise self.display.error(Display.INVALID_OBJECT, what)
                arguments[index] = found
            elif letter == "o":
                next(types)
        request.method(resource, *arguments)

    def _take_fd(self) -> int:
        if not self._fds:
            raise wire.Malformed("a descriptor is missing")
        return self._fds.popleft()

    # ---- Events ----------------------------------------------------------

    def send(self, target: int, opcode: int, signature: str, arguments: Any) -> None:
        self._unsent += wire.encode(target, opcode, signature, arguments)

    def flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self.socket.send(self._unsent)]
        except BlockingIOError:
            if len(self._unsent) > MOST_UNREAD:
                self.close()
        except OSError:
            self.close()

    # ---- The end ---------------------------------------------------------

    def fail(self, error: ProtocolError) -> None:
        """Tell the client what it did wrong, and part with it."""
        if self not in self.server.clients:
            return
        resource = error.resource
        print(
            f"client of process {self.pid}: {resource.interface}: {error}",
            file=sys.stderr,
            flush=True,
        )
        self.display.error_event(resource.id, error.code, str(error))
        self.flush()
        # What is left unread would have the kernel drop what we have just told it.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RD)
            while self.socket.recv(1 << 16):
                pass
        self.close()

    def close(self) -> None:
        if self not in self.server.clients:
            return
        self.server.clients.remove(self)
        self.server.loop.remove_reader(self.socket)
        self.socket.close()
        for resource in [*self.objects.values()]:
            resource.gone()
        self.objects.clear()
        for fd in self._fds:
            close_fd(fd)


def close_fd(fd: int) -> None:
    """Whatever a client sent: a FUSE file, for which os.close() would wait, too."""
    try:
        safemmap.close_fd(fd)
    except OSError as error:
        if error.errno != errno.EAGAIN:
            raise
