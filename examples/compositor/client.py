"""A connection: its socket, its objects, and how it ends."""

from __future__ import annotations

import socket
import time
import traceback
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from . import wire
from .descriptors import close_fd, part_with, receive, unread
from .display import Callback, Display
from .log import log
from .resource import ProtocolError, Resource

if TYPE_CHECKING:
    from .output import Output
    from .server import Server
    from .shell import Toplevel
    from .shm import Pool
    from .surface import Surface

# What one client may have.
MOST_OBJECTS = 4096
MOST_FDS = 32  # waiting for their requests, and as many unread
MOST_UNREAD = 1 << 16  # bytes of events that it does not read
MOST_READ = 1024  # bytes of requests at a time
LONGEST_ERROR = 1000  # characters


class Client:
    def __init__(
        self, server: Server, connection: socket.socket, pid: int, uid: int
    ) -> None:
        self.server, self.socket, self.pid, self.uid = server, connection, pid, uid
        self.objects: dict[int, Resource] = {}
        self.pools: set[Pool] = set()
        self.mapped = 0  # bytes
        self.windows: list[Toplevel] = []  # the newest is shown
        self.outputs: list[Output] = []
        self.callbacks: list[Callback] = []  # for when the next frame is out
        self._due = deque[tuple[Callback, int]]()  # it is, since that time
        self.heard = time.monotonic()  # when it last said something
        self._kinds = Counter[type[Resource]]()
        self._received, self._fds = bytearray(), deque[int]()
        self._unsent = bytearray()
        self.spent = 0.0  # seconds of this frame
        self._is_paused = self._is_closed = False
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
        kind = type(resource)
        if self._kinds[kind] >= kind.most:
            what = f"too many objects of {kind.interface}"
            raise self.display.error(Display.NO_MEMORY, what)
        self._kinds[kind] += 1
        self.objects[resource.id] = resource

    def remove(self, resource: Resource) -> None:
        if self.objects.pop(resource.id, None) is not None:
            self._kinds[type(resource)] -= 1
            resource.gone()
            self.display.delete_id(resource.id)

    def has_picture(self) -> bool:
        return bool(self.windows) and self.windows[-1].surface.buffer is not None

    def enter_outputs(self, surface: Surface) -> None:
        for output in self.outputs:
            surface.enter(output.id)

    def frame_shown(self, time: int) -> None:
        """The client may draw the next one."""
        self._due += [(callback, time) for callback in self.callbacks]
        self.callbacks.clear()

    # ---- Requests --------------------------------------------------------

    def read(self) -> None:
        """Take what there is on the socket, and do what it says."""
        start = time.thread_time()
        if unread(self.socket) > MOST_FDS:
            self.close()
            return
        try:
            data, fds = receive(self.socket, MOST_READ)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._fds.extend(fds)
        if not data or len(self._fds) > MOST_FDS:
            self.close()
            return
        self._received += data
        self.heard = time.monotonic()
        self._work(start)

    def _work(self, start: float) -> None:
        """Do what was received, as long as there is time left in this frame."""
        share = self.server.share()
        try:
            for target, opcode, body in wire.messages(self._received):
                self._dispatch(target, opcode, body)
                if self._is_closed:
                    return
                if self.spent + time.thread_time() - start >= share:
                    break
        except ProtocolError as error:
            self.fail(error)
        except wire.Malformed as error:
            self.fail(self.display.error(Display.INVALID_METHOD, str(error)))
        except Exception as error:  # a bug of ours must not end the others, too
            log(traceback.format_exc())
            self.fail(self.display.error(Display.IMPLEMENTATION, repr(error)))
        self.flush()
        self.spent += time.thread_time() - start
        if self.spent >= share and not self._is_paused and not self._is_closed:
            self._is_paused = True
            self.server.loop.remove_reader(self.socket)

    def next_frame(self) -> None:
        if self._is_closed:  # to make room for a client that was before it in turn
            return
        self.spent = max(self.spent - self.server.share(), 0.0)
        if self._due:
            self._tell()
        if self._is_paused and self.spent < self.server.share():
            self._is_paused = False
            self.server.loop.add_reader(self.socket, self.read)
            self._work(time.thread_time())  # what has had to wait
        self.flush()

    def _tell(self) -> None:
        """That frames are out, as long as there is time left in this one."""
        start = time.thread_time()
        spent, share = self.spent, self.server.share()
        while self._due and self.spent < share:
            callback, shown = self._due.popleft()
            callback.done(shown)
            self.remove(callback)
            self.spent = spent + time.thread_time() - start

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
        if self._is_closed:
            return
        resource, what = error.resource, str(error)[:LONGEST_ERROR]
        try:
            log(f"client of process {self.pid}: {resource.interface}: {what}")
            self.display.error_event(resource.id, error.code, what)
            self.flush()
        finally:
            self.close()

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        start = time.thread_time()
        self.server.clients.remove(self)
        self.server.loop.remove_reader(self.socket)
        part_with(self.socket)
        for resource in [*self.objects.values()]:
            resource.gone()
        self.objects.clear()
        for fd in self._fds:
            close_fd(fd)
        self.server.spent += time.thread_time() - start
