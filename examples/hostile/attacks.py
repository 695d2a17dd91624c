"""What hostile clients do to examples/compositor.

Each attack has a connection, and does what it likes until the server parts with it, or
it has nothing left to do.
"""

from __future__ import annotations

import array
import functools
import os
import random
import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack

import safemmap
from examples.compositor.resource import Resource
from examples.compositor.shell import Shell, Toplevel, XdgSurface
from examples.compositor.shm import Buffer, Pool, Shm
from examples.compositor.subsurface import Subcompositor, Subsurface
from examples.compositor.surface import Compositor, Surface
from safemmap import testing

from .client import REGISTRY, Connection, Left, Refused, Window
from .files import NO_FILES, SIZE, lingering_socket, memory, opened

WIDTH, HEIGHT = 400, 300
NUMBERS = (0, -1, -5, 1, 2**31 - 1, -(2**31))
Attack = Callable[[Connection], object]
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    ATTACKS[function.__name__.replace("_", " ")] = function
    return function


def outcome(path: str, name: str) -> str:
    """What the server has done about it."""
    try:
        with Connection(path) as connection:
            try:
                connection.bind()
                ATTACKS[name](connection)
                connection.sync()
            except Refused as error:
                target, code, _ = error.args
                for interface, id in connection.globals.items():
                    if id == target:
                        return f"{interface} error {code}"
                return f"wl_display error {code}" if target == 1 else f"error {code}"
    except Left:
        return "closed"
    except testing.Unavailable as error:
        return f"not tried: {error}"
    return "served"


def show(connection: Connection, fd: int, size: int = SIZE, frames: int = 2) -> Window:
    """A window on that file; returns when it was seen."""
    window = Window(connection)
    pool = connection.pool(fd, size)
    buffer = connection.buffer(pool, WIDTH, HEIGHT)
    for _ in range(frames):
        connection.wait_for(window.show(buffer))
    return window


def show_until_refused(
    connection: Connection, fd: int, strike: Callable[[], object]
) -> None:
    window = Window(connection)
    buffer = connection.buffer(connection.pool(fd, SIZE), WIDTH, HEIGHT)
    connection.wait_for(window.show(buffer))
    strike()
    for _ in range(100):
        connection.wait_for(window.show(buffer))


# ---- Files that fail -----------------------------------------------------


@attack
def shrink_in_mid_frame(connection: Connection) -> None:
    with opened(memory()) as fd:
        show_until_refused(connection, fd, lambda: os.ftruncate(fd, 4096))


@attack
def shrink_between_attach_and_commit(connection: Connection) -> None:
    with opened(memory()) as fd:
        window = Window(connection)
        buffer = connection.buffer(connection.pool(fd, SIZE), WIDTH, HEIGHT)
        callback = window.show(buffer)
        os.ftruncate(fd, 0)
        connection.wait_for(callback)
        connection.wait_for(window.show(buffer))


@attack
def shrink_and_grow(connection: Connection) -> None:
    """Whether that is seen depends on the moment."""
    with opened(memory()) as fd:

        def strike() -> None:
            for _ in range(1000):
                os.ftruncate(fd, 0)
                os.ftruncate(fd, SIZE)

        show_until_refused(connection, fd, strike)


@attack
def shrink_a_file_on_disk(connection: Connection) -> None:
    with testing.DiskTruncation(SIZE, 0) as file:
        show_until_refused(connection, file.fd, file.strike)


@attack
def shrink_to_half_a_picture(connection: Connection) -> None:
    with opened(memory()) as fd:
        at = WIDTH * HEIGHT * 4 // 8192 * 4096
        show_until_refused(connection, fd, lambda: os.ftruncate(fd, at))


@attack
def full_tmpfs(connection: Connection) -> None:
    with testing.FullTmpfs(SIZE, 0) as file:
        show_until_refused(connection, file.fd, file.strike)


@attack
def huge_pages_that_are_not_there(connection: Connection) -> None:
    with testing.HugePages(2 << 20) as file:
        show(connection, file.fd)


@attack
def seal_then_lie(connection: Connection) -> None:
    with opened(memory(4096)) as fd:
        safemmap.add_seals(fd, safemmap.Seal.SHRINK)
        connection.request(connection.pool(fd, 4096), 2, "i", SIZE)


# ---- Numbers that lie ----------------------------------------------------


@attack
def larger_than_the_file(connection: Connection) -> None:
    with opened(memory()) as fd:
        connection.pool(fd, SIZE + 1)


def sized(size: int, connection: Connection) -> None:
    with opened(memory(0)) as fd:
        connection.pool(fd, size)


def resized(size: int, connection: Connection) -> None:
    with opened(memory()) as fd:
        connection.request(connection.pool(fd, SIZE), 2, "i", size)


for number in NUMBERS:
    ATTACKS[f"create_pool {number}"] = functools.partial(sized, number)
    ATTACKS[f"resize {number}"] = functools.partial(resized, number)


@attack
def four_terabytes(connection: Connection) -> None:
    """All that can be announced of it, read a page for each row."""
    with opened(memory(4 << 40)) as fd:
        window = Window(connection)
        pool = connection.pool(fd, 2**31 - 1)
        buffer = connection.buffer(pool, WIDTH, HEIGHT, stride=(2**31 - 1) // HEIGHT)
        connection.wait_for(window.show(buffer))


def buffered(numbers: tuple[int, ...], connection: Connection) -> None:
    with opened(memory()) as fd:
        pool = connection.pool(fd, SIZE)
        connection.request(pool, 0, "niiiiu", connection.new_id(), *numbers)


for offset, width, height, stride, form in (
    (-1, 1, 1, 4, 1),
    (0, 0, 1, 4, 1),
    (0, 1, -1, 4, 1),
    (0, 1, 1, -4, 1),
    (0, 2, 1, 4, 1),
    (0, 2**30, 1, 4, 1),
    (SIZE - 3, 1, 1, 4, 1),
    (2**31 - 1, 1, 1, 2**31 - 1, 1),
    (0, 1, 2**31 - 1, 2**31 - 1, 1),
    (0, 1, 1, 4, 0x36314752),
):
    parameters = (offset, width, height, stride, form)
    name = f"create_buffer {' '.join(map(str, parameters))}"
    ATTACKS[name] = functools.partial(buffered, parameters)


@attack
def odd_offset(connection: Connection) -> None:
    """Which no rule forbids."""
    with opened(memory()) as fd:
        window = Window(connection)
        buffer = connection.buffer(connection.pool(fd, SIZE), 99, 99, 1, 397)
        connection.wait_for(window.show(buffer))


# ---- What is no file -----------------------------------------------------


def no_file(name: str, connection: Connection) -> None:
    with NO_FILES[name]() as fd:
        show(connection, fd)


for name in NO_FILES:
    ATTACKS[f"no file: {name}"] = functools.partial(no_file, name)


@attack
def no_descriptor(connection: Connection) -> None:
    shm = connection.globals["wl_shm"]
    connection.request(shm, 0, "nhi", connection.new_id(), SIZE)


@attack
def a_pool_cut_short(connection: Connection) -> None:
    """Its descriptor belongs to no message that can be read."""
    with opened(memory()) as fd:
        shm = connection.globals["wl_shm"]
        connection.request(shm, 0, "n", connection.new_id(), fds=[fd])


@attack
def descriptors_without_requests(connection: Connection) -> None:
    with opened(memory()) as fd:
        for _ in range(100):
            connection.request(1, 0, "n", connection.new_id(), fds=[fd] * 28)


@attack
def more_descriptors_than_fit(connection: Connection) -> None:
    with opened(memory()) as fd:
        connection.request(1, 0, "n", connection.new_id(), fds=[fd] * 200)


def abandon(count: int, flags: int, connection: Connection) -> None:
    """(To leave the server the last one could make us wait, if it was faster.)"""
    with lingering_socket() as fd:
        rights = array.array("i", [fd] * count)
        ancillary = (socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)
        for _ in range(4):
            try:
                connection.socket.sendmsg([b"\0"], [ancillary], flags)
            except ConnectionError:
                break
        connection.sync()


for count, flags, name in (
    (253, 0, "lingering sockets that nobody asked for"),
    (1, 0, "lingering sockets in noise"),
    (1, socket.MSG_OOB, "lingering sockets out of band"),
):
    ATTACKS[name] = functools.partial(abandon, count, flags)


# ---- Too much of it ------------------------------------------------------


@attack
def a_thousand_pools(connection: Connection) -> None:
    with opened(memory()) as fd:
        for _ in range(1000):
            connection.pool(fd, SIZE)


@attack
def pools_that_come_and_go(connection: Connection) -> None:
    with opened(memory()) as fd:
        for _ in range(200):
            connection.request(connection.pool(fd, SIZE), 1)


@attack
def a_thousand_clients(connection: Connection) -> None:
    with ExitStack() as stack:
        path = connection.socket.getpeername()
        for _ in range(1000):
            stack.enter_context(Connection(path))


@attack
def a_hundred_windows(connection: Connection) -> None:
    with opened(memory()) as fd:
        buffer = connection.buffer(connection.pool(fd, SIZE), WIDTH, HEIGHT)
        for _ in range(100):
            callback = Window(connection).show(buffer)
        connection.wait_for(callback)


@attack
def layers(connection: Connection) -> None:
    """All as large as the screen can be, and transparent."""
    width, height = 1280, 720
    with opened(memory(width * height * 4)) as fd:
        window = Window(connection)
        pool = connection.pool(fd, width * height * 4)
        buffer = connection.buffer(pool, width, height, form=0)
        manager = connection.globals["wl_subcompositor"]
        for _ in range(32):
            part = connection.surface()
            id = connection.new_id()
            connection.request(manager, 1, "noo", id, part, window.surface)
            connection.request(part, 1, "oii", buffer, 0, 0)
            connection.request(part, 6)
        for _ in range(20):
            connection.wait_for(window.show(buffer))


@attack
def a_thousand_outputs(connection: Connection) -> None:
    for _ in range(1000):
        id = connection.new_id()
        connection.request(REGISTRY, 0, "usun", 5, "wl_output", 3, id)


@attack
def ten_thousand_objects(connection: Connection) -> None:
    for _ in range(10_000):
        connection.surface()


@attack
def events_that_nobody_reads(connection: Connection) -> None:
    for _ in range(100_000):
        connection.request(1, 1, "n", connection.new_id())


@attack
def a_circle_of_subsurfaces(connection: Connection) -> None:
    one, other = connection.surface(), connection.surface()
    manager = connection.globals["wl_subcompositor"]
    connection.request(manager, 1, "noo", connection.new_id(), one, other)
    connection.request(manager, 1, "noo", connection.new_id(), other, one)


@attack
def a_window_without_its_surface(connection: Connection) -> None:
    with opened(memory()) as fd:
        window = Window(connection)
        pool = connection.pool(fd, SIZE)
        buffer = connection.buffer(pool, WIDTH, HEIGHT)
        connection.wait_for(window.show(buffer))
        for id, opcode in (window.surface, 0), (buffer, 0), (pool, 1):
            connection.request(id, opcode)
        other, callback = connection.surface(), connection.new_id()
        connection.request(other, 3, "n", callback)
        connection.request(other, 6)
        connection.wait_for(callback)


# ---- Requests in any order -----------------------------------------------

#: What a request makes. (Others that make something make nothing of interest.)
MADE: dict[str, type[Resource]] = {
    "create_surface": Surface,
    "create_pool": Pool,
    "create_buffer": Buffer,
    "get_xdg_surface": XdgSurface,
    "get_toplevel": Toplevel,
    "get_subsurface": Subsurface,
}


def disorder(seed: int, connection: Connection) -> None:
    """Requests that each are legal, to objects that are destroyed in any order."""
    chance = random.Random(seed)
    kinds = {kind.interface: kind for kind in (Compositor, Shm, Shell, Subcompositor)}
    known: list[tuple[int, type[Resource]]] = []
    known += [(id, kinds[name]) for name, id in connection.globals.items()]
    used: set[int] = set()

    def some(kind: type[Resource]) -> int:
        found = [id for id, other in known if issubclass(other, kind)]
        return chance.choice(found) if found else 0

    def fresh() -> int:
        known.append((connection.surface(), Surface))
        return known[-1][0]

    with opened(memory()) as fd:
        for _ in range(400):
            target, kind = chance.choice([*known[:4], *known[-20:]])
            opcode = chance.randrange(len(kind.requests))
            request = kind.requests[opcode]
            new = connection.new_id() if "n" in request.signature else 0
            arguments: tuple[object, ...] = ()
            match request.name:
                case "create_pool":
                    arguments = new, SIZE
                case "create_buffer":
                    arguments = new, chance.choice((0, 4096)), 64, 64, 256, 1
                case "get_xdg_surface":
                    arguments = new, fresh()
                case "get_subsurface":
                    parent = some(Surface) or fresh()
                    arguments = new, fresh(), parent
                case "get_toplevel" if target not in used:
                    arguments = (new,)
                    used.add(target)
                case "create_surface":
                    arguments = (new,)
                case "attach":
                    arguments = chance.choice((0, some(Buffer))), 0, 0
                case "commit":
                    pass
                case "frame":
                    arguments = (new,)
                case "set_position":
                    arguments = chance.choice((-9, 99, -(2**31))), 2**31 - 1
                case "destroy" if kind not in kinds.values():
                    known.remove((target, kind))
                case _:
                    continue
            if request.name in MADE:
                known.append((new, MADE[request.name]))
            fds = [fd] * request.signature.count("h")
            signature = request.signature.replace("?", "")
            connection.request(target, opcode, signature, *arguments, fds=fds)
            if chance.random() < 0.1:
                connection.sync()


for seed in range(5):
    ATTACKS[f"disorder {seed}"] = functools.partial(disorder, seed)


# ---- No messages ---------------------------------------------------------


@attack
def half_a_message(connection: Connection) -> None:
    connection.socket.send(b"\1\0\0\0\0\0")


@attack
def an_interface_of_bad_bytes(connection: Connection) -> None:
    """Whose name does not fit into the error about it."""
    body = struct.pack("=II", 1, 30_000) + b"\xff" * 29_999 + b"\0"
    body += struct.pack("=II", 1, connection.new_id())
    header = struct.pack("=II", REGISTRY, len(body) + 8 << 16)
    connection.socket.sendall(header + body)


@attack
def noise(connection: Connection) -> None:
    connection.socket.send(random.Random(1).randbytes(1024))


def raw(message: bytes, connection: Connection) -> None:
    connection.socket.send(message)


for name, message in {
    "a message of 0 bytes": b"\1\0\0\0\0\0\0\0",
    "a message of 7 bytes": b"\1\0\0\0\0\0\7\0",
    "no such request": b"\1\0\0\0\x63\0\x08\0",
    "no such object": b"\x63\0\0\0\0\0\x08\0",
    "an id that is taken": b"\1\0\0\0\0\0\x0c\0\1\0\0\0",
    "a string without an end": b"\2\0\0\0\0\0\x18\0\1\0\0\0\xff\xff\xff\xff" + bytes(8),
}.items():
    ATTACKS[name] = functools.partial(raw, message)
