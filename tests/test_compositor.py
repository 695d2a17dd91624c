"""examples/compositor: real clients, honest ones, and hostile ones."""

from __future__ import annotations

import array
import asyncio
import contextlib
import importlib
import inspect
import itertools
import json
import os
import pkgutil
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import ISOLATED, NAMESPACE, possible, run_isolated

import safemmap

np = pytest.importorskip("numpy")

import examples.compositor  # noqa: E402
from examples.compositor import descriptors, screen, wire  # noqa: E402
from examples.compositor import server as server_module  # noqa: E402
from examples.compositor.client import Client  # noqa: E402
from examples.compositor.display import Callback, Display, Registry  # noqa: E402
from examples.compositor.output import Output  # noqa: E402
from examples.compositor.resource import Event, ProtocolError, Resource  # noqa: E402
from examples.compositor.screen import BACKGROUND, blend  # noqa: E402
from examples.compositor.server import Server, writes_png  # noqa: E402
from examples.compositor.shell import Shell, XdgSurface  # noqa: E402
from examples.compositor.shm import XRGB, Buffer, Pool, Shm  # noqa: E402
from examples.compositor.subsurface import Subcompositor, Subsurface  # noqa: E402
from examples.compositor.surface import Surface  # noqa: E402
from examples.hostile.attacks import ATTACKS  # noqa: E402
from examples.hostile.files import lingering_socket, memory, opened  # noqa: E402
from examples.hostile.honest import HEIGHT, WIDTH, Honest, is_right  # noqa: E402

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
LIMIT = 60  # seconds


class Running:
    """The server in a child, and what it said at its end."""

    def __init__(self, folder: str, *options: str) -> None:
        self.path, self.folder = f"{folder}/s", Path(folder)
        script = str(ISOLATED / "compositor.py")
        self.process = subprocess.Popen(
            [sys.executable, script, self.path, str(os.getpid()), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "listening\n"

    def finish(self) -> dict[str, Any]:
        out, err = self.process.communicate(timeout=LIMIT)
        assert self.process.returncode == 0
        assert "Traceback" not in err
        return dict(json.loads(out)) | {"log": err}


@pytest.fixture
def run() -> Iterator[Callable[..., Running]]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:

        def start(*options: str) -> Running:
            running = Running(folder, *(option.format(folder) for option in options))
            stack.callback(running.process.communicate)
            stack.callback(running.process.kill)
            return running

        yield start


def read_png(path: Path) -> Any:
    """As the server writes them: one IDAT, no filter."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack_from(">II", content, 16)
    (size,) = struct.unpack_from(">I", content, 33)
    assert content[37:41] == b"IDAT"
    rows = np.frombuffer(zlib.decompress(content[41 : 41 + size]), np.uint8)
    rows = rows.reshape(height, 1 + width * 3)
    assert not rows[:, 0].any()
    red, green, blue = (rows[:, at::3][:, :width].astype(np.uint32) for at in (1, 2, 3))
    return red << 16 | green << 8 | blue


# ---- The protocol ----------------------------------------------------------


def resources() -> list[type[Resource]]:
    found: set[type[Resource]] = set()
    for module in pkgutil.iter_modules(examples.compositor.__path__):
        if module.name != "__main__":
            loaded = importlib.import_module(f"examples.compositor.{module.name}")
            found |= {
                value
                for value in vars(loaded).values()
                if inspect.isclass(value) and issubclass(value, Resource)
            }
    return sorted(found - {Resource}, key=lambda kind: kind.interface)


def interfaces() -> dict[str, ElementTree.Element]:
    paths = [
        Path("/usr/share/wayland/wayland.xml"),
        Path("/usr/share/wayland-protocols/stable/xdg-shell/xdg-shell.xml"),
    ]
    if not all(path.exists() for path in paths):
        pytest.skip("needs Debian's libwayland-dev and wayland-protocols")
    return {
        str(interface.get("name")): interface
        for path in paths
        for interface in ElementTree.parse(path).iter("interface")
    }


def signature(message: ElementTree.Element) -> str:
    letters = {"int": "i", "uint": "u", "fixed": "f", "string": "s", "object": "o",
               "array": "a", "fd": "h"}  # fmt: skip
    found = ""
    for argument in message.iter("arg"):
        kind = str(argument.get("type"))
        if kind == "new_id":
            found += "n" if argument.get("interface") else "sun"
        else:
            nullable = "?" if argument.get("allow-null") == "true" else ""
            found += nullable + letters[kind]
    return found


def test_messages_are_those_of_the_protocol() -> None:
    known = interfaces()
    kinds = resources()
    assert len(kinds) > 20
    for kind in kinds:
        requests = [
            (str(message.get("name")), signature(message))
            for message in known[kind.interface].iter("request")
            if int(message.get("since", "1")) <= kind.version
        ]
        ours = [(one.name, one.signature) for one in kind.requests]
        if kind.version > 1 or not requests[len(ours) :]:
            assert ours == requests, kind.interface
        events = [*known[kind.interface].iter("event")]
        for event in vars(kind).values():
            if isinstance(event, Event):
                assert event.signature == signature(events[event.opcode])
        for one in kind.requests:
            assert one.signature.count("o") == len(one.types), one


def test_wire_refuses_what_is_no_message() -> None:
    words = struct.Struct("=II")
    for body, letters in [
        (b"", "u"),
        (b"1234", ""),
        (b"\xff\xff\xff\xff", "s"),
        (b"\0\0\0\0", "s"),
        (b"\0\0\0\0", "o"),
        (b"\0\0\0\0", "n"),
        (b"\4\0\0\0abcd", "s"),
        (b"\4\0\0\0a\0\0\0", "s"),
        (b"\5\0\0\0abcd", "a"),
    ]:
        with pytest.raises(wire.Malformed):
            wire.decode(letters, body, lambda: -1)
    for size in 0, 4, 7, 9:
        with pytest.raises(wire.Malformed):
            list(wire.messages(bytearray(words.pack(1, size << 16))))
    message = wire.encode(7, 3, "oisa", (0, -1, "né", b"\0\1\2"))
    received = bytearray(message * 2 + message[:-1])
    taken = list(wire.messages(received))
    assert [one[:2] for one in taken] == [(7, 3)] * 2 and received == message[:-1]
    decoded = wire.decode("?oisah", taken[0][2], lambda: 42)
    assert decoded == [None, -1, "né", b"\0\1\2", 42]


def test_blending() -> None:
    below = np.full((2, 3), 0x204060, np.uint32)
    above = np.array([[0, 0xFF123456, 0x80101010]] * 2, np.uint32)
    blend(above, below)
    assert [hex(pixel) for pixel in below[1]] == ["0x204060", "0x123456", "0x203040"]


# ---- Honest clients ---------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("sealed", [True, False])
def test_frames_show_what_a_client_has_drawn(
    run: Callable[..., Running], sealed: bool
) -> None:
    server = run("{}")
    client = Honest(server.path, 1, sealed)
    client.start()
    while client.frames < 20 and client.is_alive():
        client.join(0.01)
    client.stop()
    report = server.finish()
    assert client.problem == report["log"] == ""
    assert report["wrong"] == 0 and report["pictures"] >= 20
    assert report["protections"] == (["sealed"] if sealed else ["guarded"])
    right = 0
    for path in server.folder.glob("frame-*.png"):
        frame = read_png(path)
        shown = frame[:HEIGHT, :WIDTH]
        right += is_right(shown) and np.all(frame[HEIGHT:] == BACKGROUND)
    assert right >= 20


def test_ends_after_so_many_frames(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = ["--socket", f"{folder}/s", "--frames", "10", "--png", str(tmp_path)]
        server = subprocess.Popen(
            [sys.executable, "-m", "examples.compositor", *options, "--size=400x300"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert server.stdout is not None and server.stdout.readline()
        client = Honest(f"{folder}/s", 1)
        client.start()
        out, err = server.communicate(timeout=LIMIT)
        client.join()
        assert (server.returncode, out, err) == (0, "", "")
        assert client.problem == "Left()"
        assert os.listdir(folder) == []
    names = [f"frame-{number:06}.png" for number in range(1, 11)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert read_png(tmp_path / names[-1]).shape == (300, 400)


# ---- Hostile clients --------------------------------------------------------

REFUSED = {
    r"create_pool (0|-.*)": "wl_shm error 1",
    r"create_buffer .* 909199186": "wl_shm error 0",
    r"create_buffer .*": "wl_shm error 1",
    r"(more )?descriptors .*": "closed",
    r"no descriptor|a pool cut short|no such request": "wl_display error 1",
    r"a message of . bytes|half a message|noise": "wl_display error 1",
    r"a string without an end": "wl_display error 1",
    r"no such object|an id that is taken": "wl_display error 0",
    r"ten thousand objects|a thousand outputs": "wl_display error 2",
    r"a thousand pools": "closed|wl_display error 2",
    r"lingering sockets .*": "closed|wl_display error 1",
    r"an interface of bad bytes": "error 0",
    r"events that nobody reads": "closed|served",
    r"a circle of subsurfaces": "wl_subcompositor error 0",
    r"shrink and grow": "served|wl_shm error 2",
    r"a (thousand|hundred|window) .*|disorder .*|layers": "served",
    r"pools that come and go": "closed|served",
    r"four terabytes|odd offset": "served",
    r".*": "wl_shm error 2",
}
# What some machines cannot do.
OPTIONAL = {"full tmpfs", "huge pages that are not there", "no file: FUSE"}


def expected(name: str) -> str:
    return next(end for start, end in REFUSED.items() if re.fullmatch(start, name))


@pytest.mark.slow
def test_each_attack_ends_itself_alone(run: Callable[..., Running]) -> None:
    server = run()
    honest = Honest(server.path, 1, sealed=False)
    honest.start()
    before, made = 0, []
    with subprocess.Popen(
        [sys.executable, "-m", "examples.hostile", server.path],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as hostile:
        assert hostile.stdout is not None
        for line in hostile.stdout:
            name, end = line.rstrip("\n").split("\t")
            made.append(name)
            # The honest client goes on.
            while honest.frames == before and honest.is_alive():
                honest.join(0.01)
            before = honest.frames
            if name not in OPTIONAL or not end.startswith("not tried: "):
                assert re.fullmatch(expected(name), end), line
    honest.stop()
    report = server.finish()
    assert len(made) == len(ATTACKS) > 50
    assert honest.problem == ""
    assert report["wrong"] == 0 and report["pictures"] > len(ATTACKS) / 2
    assert report["mapped"] == 0
    assert report["descriptors"] <= 2


def test_a_file_that_is_never_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server does not answer to close(2)."""
    if not possible(*NAMESPACE, "true"):
        pytest.skip("a mount namespace needs root, or user namespaces")
    if not possible(sys.executable, "-c", "import mfusepy"):
        pytest.skip("needs mfusepy and libfuse")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse is not there, or not for this user")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        done = run_isolated("compositor_fuse.py", folder, inside=NAMESPACE)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "listening\nframes while the file's server is silent: True\nwaiting for it: 1\n"
    )
    assert "is on a filesystem of type fuse" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_many_of_both() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.hostile.soak", "--seconds", "10"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
    )
    report = json.loads(done.stdout)
    assert report["exit status of the server"] == 0, report
    assert report["wrong"] == 0 and report["problems of honest clients"] == [], report
    assert report["pictures"] > 100
    assert done.stderr == ""


# ---- What a client can have -------------------------------------------------


class Turns:
    """A server whose loop does not run, so that a test takes each of its turns."""

    def __init__(self) -> None:
        safemmap.faults()  # the server takes those of other tests for its clients'
        self.server = Server("", 64, 48)
        self.server.loop = asyncio.new_event_loop()
        self.server.listener = socket.socket(socket.AF_UNIX)
        self.server.listener.bind("")
        self.server.listener.listen()
        self.peers: list[socket.socket] = []

    def connect(self) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX)
        self.peers.append(peer)
        peer.connect(self.server.listener.getsockname())
        return peer

    def client(self) -> Client:
        self.connect()
        self.server.accept()
        return self.server.clients[-1]

    def close(self) -> None:
        for client in [*self.server.clients]:
            client.close()
        for one in self.server.listener, *self.peers:
            one.close()
        self.server.loop.close()


@pytest.fixture
def turns() -> Iterator[Turns]:
    with contextlib.closing(Turns()) as made:
        yield made


def pool(client: Client, id: int, size: int = 1 << 16) -> Pool:
    with opened(memory()) as fd:
        Shm(client, id, 1).create_pool(id + 1, os.dup(fd), size)
    made = client.objects[id + 1]
    assert isinstance(made, Pool)
    return made


def window(client: Client) -> tuple[Surface, Buffer]:
    """One that shows a buffer as large as the screen."""
    surface = Surface(client, 2, 4)
    XdgSurface(Shell(client, 3, 1), 4, surface).get_toplevel(5)
    buffer = Buffer(pool(client, 6), 8, 0, (48, 64), 256, XRGB)
    surface.attach(buffer, 0, 0)
    surface.commit()
    return surface, buffer


@pytest.mark.parametrize(
    "way", ["many", "too many", "out of band", "unread", "refused"]
)
def test_nobody_waits_for_what_a_client_has_sent(
    turns: Turns, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread does: the server has the last descriptor of a socket that lingers."""
    if way == "refused":
        monkeypatch.setattr(server_module, "MOST_OF_A_PROCESS", 0)
    with lingering_socket() as fd, open(os.devnull) as other:
        peer = turns.connect()
        before = [other.fileno()] * {"many": 31, "too many": 252}.get(way, 0)
        rights = socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [*before, fd])
        flags = socket.MSG_OOB if way == "out of band" else 0
        peer.sendmsg([b"x"], [rights], flags)
        if flags:
            peer.send(b"y")
        os.dup2(other.fileno(), fd)
        turns.server.accept()
        for client in [*turns.server.clients]:
            if way != "unread":
                client.read()
            client.close()
        closers = [t for t in threading.enumerate() if t.name == "safemmap.close_fd"]
        assert closers
    for closer in closers:
        closer.join(LIMIT)
        assert not closer.is_alive()


def test_descriptors_are_kept_for_what_comes(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = turns.connect()
    turns.server.accept()
    (client,) = turns.server.clients
    monkeypatch.setattr(descriptors, "RESERVE", 1 << 30)
    with opened(memory()) as fd:
        socket.send_fds(peer, [b"x"], [fd])
    client.read()
    refused = turns.connect()
    turns.server.accept()
    assert turns.server.clients == []
    assert peer.recv(1) == refused.recv(1) == b""


def test_an_error_about_what_cannot_be_repeated(turns: Turns) -> None:
    client = turns.client()
    registry = Registry(client, 2)
    name = "\ufffd" * 30_000
    with pytest.raises(ProtocolError) as caught:
        registry.bind(1, name, 1, 3)
    assert len(str(caught.value)) < 200
    client.fail(registry.error(0, name))
    assert turns.server.clients == []
    (event,) = wire.messages(bytearray(turns.peers[0].recv(1 << 16)))
    target, code, text = wire.decode("ous", event[2], lambda: -1)
    assert (target, code) == (2, 0) and name.startswith(text)


@pytest.mark.parametrize("stderr", ["/dev/full", "closed", None])
def test_goes_on_without_stderr(
    turns: Turns, monkeypatch: pytest.MonkeyPatch, stderr: str | None
) -> None:
    with open("/dev/null" if stderr == "closed" else "/dev/full", "w") as file:
        monkeypatch.setattr(sys, "stderr", file if stderr else None)
        if stderr == "closed":
            file.close()
        client = turns.client()
        client.fail(client.display.error(Display.NO_MEMORY, "too much"))
        assert turns.server.clients == []
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            file.close()


def test_goes_on_where_no_picture_can_be_written(
    turns: Turns, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "frame-000000.png").mkdir()
    for folder in tmp_path, tmp_path / "none":
        writes_png(folder)(turns.server)
        assert f"{folder}/frame-000000.png: [Errno " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["frame-000000.png"]


def test_outputs_are_bounded(turns: Turns) -> None:
    client = turns.client()
    for id in range(2, 2 + Output.most):
        Output(client, id, 3)
    with pytest.raises(ProtocolError, match="too many objects of wl_output"):
        Output(client, 99, 3)
    client.outputs[0].release()
    Output(client, 99, 3)


def test_buffers_know_where_they_are(turns: Turns) -> None:
    client = turns.client()
    surface, buffer = window(client)
    other = Surface(client, 9, 4)
    assert buffer.users == {surface}
    other.attach(buffer, 0, 0)
    assert buffer.users == {surface, other}
    other.destroy()
    assert buffer.users == {surface}
    surface.attach(None, 0, 0)
    assert surface.buffer is buffer
    buffer.destroy()
    assert surface.buffer is None and not buffer.users
    surface.commit()


def crowded(client: Client) -> list[Surface]:
    """A window with 32 surfaces on it, which are returned."""
    surface, buffer = window(client)
    manager = Subcompositor(client, 100)
    parts = [Surface(client, id, 4) for id in range(200, 232)]
    for part in parts:
        manager.get_subsurface(part.id + 100, part, surface)
        part.attach(buffer, 0, 0)
        part.commit()
    return parts


def test_pixels_of_a_frame_are_bounded(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded(turns.client())
    drawn: list[int] = []
    monkeypatch.setattr(screen, "put", lambda source, *_: drawn.append(source.size))
    turns.server.draw()
    assert drawn == [48 * 64] * screen.MOST_LAYERS


def test_surfaces_beside_the_screen_are_bounded(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in crowded(turns.client()):
        assert isinstance(part.role, Subsurface)
        part.role.set_position(2**31 - 1, 0)
    looked_at: list[Buffer] = []
    pixels = Buffer.pixels

    def look_at(buffer: Buffer) -> Any:
        looked_at.append(buffer)
        return pixels(buffer)

    monkeypatch.setattr(Buffer, "pixels", look_at)
    turns.server.draw()
    assert len(looked_at) <= 1 + 48 * 64 * screen.MOST_LAYERS // screen.LEAST


def test_an_object_of_any_kind_that_is_not_there(turns: Turns) -> None:
    peer = turns.connect()
    turns.server.accept()
    (client,) = turns.server.clients
    window(client)
    peer.send(wire.encode(5, 1, "o", (99,)))
    client.read()
    *_, (_, _, body) = wire.messages(bytearray(peer.recv(1 << 16)))
    assert wire.decode("ous", body, lambda: -1)[2] == "99 is no object"


def test_the_time_of_a_frame_is_bounded(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a client has sent beyond that has to wait for the next."""
    monkeypatch.setattr(server_module, "FOR_REQUESTS", 4)
    monkeypatch.setattr(time, "thread_time", itertools.count().__next__)
    clients = [turns.client() for _ in range(2)]
    received = [bytearray(), bytearray()]
    done = [[0], [0]]

    def look() -> None:
        for peer, one, counts in zip(turns.peers, received, done, strict=True):
            with contextlib.suppress(BlockingIOError):
                one += peer.recv(1 << 16, socket.MSG_DONTWAIT)
            answers = [m for m in wire.messages(one) if m[0] != 1]
            counts.append(counts[-1] + len(answers))

    for peer in turns.peers:
        peer.send(b"".join(wire.encode(1, 0, "n", (id,)) for id in range(2, 22)))
    for client in clients:
        client.read()
    look()
    while done[0][-1] < 20:
        for client in clients:
            client.next_frame()
        look()
    assert done[0] == done[1]
    steps = [later - before for before, later in itertools.pairwise(done[0])]
    assert max(steps) <= 4 and len(steps) > 4


def test_the_time_that_a_frame_takes_to_tell_of_is_bounded(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "FOR_REQUESTS", 4)
    client = turns.client()
    surface = Surface(client, 2, 4)
    for id in range(3, 23):
        surface.frame(id)
    surface.commit()
    turns.server.show_frame()
    left = [sum(isinstance(one, Callback) for one in client.objects.values())]
    monkeypatch.setattr(time, "thread_time", itertools.count().__next__)
    while left[-1] > 0:
        client.next_frame()
        left += [sum(isinstance(one, Callback) for one in client.objects.values())]
    assert left == [20, 16, 12, 8, 4, 0]


def test_who_is_silent_makes_room(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MOST_CLIENTS", 3)
    shows, _, speaks = (turns.client() for _ in range(3))
    window(shows)
    turns.peers[2].send(wire.encode(1, 0, "n", (2,)))
    speaks.read()
    newest = turns.client()
    assert turns.server.clients == [shows, speaks, newest]


def test_who_comes_and_goes_leaves_time_for_others(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "FOR_LEAVING", 1e-9)
    turns.client().close()
    assert turns.server.spent > 1e-9
    turns.server.loop.add_reader(turns.server.listener, turns.server.accept)
    turns.client()
    assert not turns.server.loop.remove_reader(turns.server.listener)


def test_memory_is_bounded(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MOST_MEMORY", 1 << 20)
    greedy, modest, other = (turns.client() for _ in range(3))
    pool(greedy, 2, 1 << 19)
    pool(modest, 2, 1 << 18)
    assert turns.server.clients == [greedy, modest, other]
    grows = pool(other, 2, 1 << 19)
    assert turns.server.clients == [modest, other]
    grows.resize(1 << 20)
    assert turns.server.clients == [modest]


def test_who_makes_room_before_its_turn_in_a_frame(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MOST_MEMORY", 1 << 20)
    monkeypatch.setattr(server_module, "FOR_REQUESTS", 0)
    monkeypatch.setattr(server_module, "FOR_ONE", 0)
    modest, greedy = clients = [turns.client(), turns.client()]
    pool(greedy, 2, 3 << 18)
    Shm(modest, 2, 1)
    sync = wire.encode(1, 0, "n", (9,))
    create = wire.encode(2, 0, "ni", (3, 1 << 19))
    with opened(memory()) as fd:
        socket.send_fds(turns.peers[0], [sync + create], [fd])
    turns.peers[1].send(sync)
    for client in clients:
        client.read()  # one request; the next have to wait
    assert turns.server.clients == clients
    monkeypatch.setattr(server_module, "FOR_ONE", 1)
    for client in clients:
        client.next_frame()
    assert turns.server.clients == [modest]


# ---- Real clients -----------------------------------------------------------


def needs(program: str) -> pytest.MarkDecorator:
    package = {"foot": "foot"}.get(program, "weston")
    return pytest.mark.skipif(
        shutil.which(program) is None, reason=f"needs {program} (Debian's {package})"
    )


UNSEALED = ["strace", "-fqq", "-o", "/dev/null", "-e", "trace=memfd_create",
            "-e", "inject=memfd_create:error=ENOSYS"]  # fmt: skip


def frames_of(server: Running, *command: str) -> Iterator[Any]:
    """The frames that come once the client has been started. It is ended with them."""
    with tempfile.TemporaryFile() as said:
        client = subprocess.Popen(
            command,
            env=os.environ
            | {"WAYLAND_DISPLAY": server.path, "XDG_RUNTIME_DIR": str(server.folder)},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        seen: set[Path] = set()
        try:
            while client.poll() is None:
                for path in sorted({*server.folder.glob("frame-*.png")} - seen):
                    seen.add(path)
                    yield read_png(path)
            said.seek(0)
            pytest.fail(said.read().decode())
        finally:
            os.killpg(client.pid, signal.SIGKILL)  # strace, too, and what it traces
            client.wait()


def takes_strace() -> bool:
    return shutil.which("strace") is not None and (
        subprocess.run([*UNSEALED, "true"], capture_output=True).returncode == 0
    )


@needs("weston-simple-shm")
@pytest.mark.parametrize("sealed", [True, False])
def test_weston_simple_shm(run: Callable[..., Running], sealed: bool) -> None:
    """It draws a square of 250 pixels with a white margin of 20, and moves circles in
    it."""
    if not sealed and not takes_strace():
        pytest.skip("needs strace, and to be allowed to use it")
    server = run("{}")
    before, different = None, 0
    command = [*([] if sealed else UNSEALED), "weston-simple-shm"]
    frames = frames_of(server, *command)
    for frame in frames:
        picture = frame[:250, :250]
        if np.all(picture == BACKGROUND):
            continue
        assert np.all(frame[250:] == BACKGROUND)
        assert np.all(frame[:, 250:] == BACKGROUND)
        assert np.all(picture[:20] == 0xFFFFFF) and np.all(picture[:, :20] == 0xFFFFFF)
        assert len(np.unique(picture)) > 100
        different += before is not None and not np.array_equal(picture, before)
        before = picture
        if different == 5:
            break
    frames.close()  # type: ignore[attr-defined]
    report = server.finish()
    assert report["log"] == ""
    assert report["protections"] == (["sealed"] if sealed else ["guarded"])


@pytest.mark.parametrize(
    ("command", "colour"),
    [
        pytest.param(
            ["foot", "--override=colors.background=123456", "sleep", "60"],
            0x123456,
            marks=needs("foot"),
        ),
        pytest.param(
            ["weston-terminal", "--shell=/bin/cat"],
            0x000000,
            marks=needs("weston-terminal"),
        ),
    ],
)
def test_terminals(
    run: Callable[..., Running], command: list[str], colour: int
) -> None:
    server = run("{}")
    frames = frames_of(server, *command)
    for frame in frames:
        if np.count_nonzero(frame == colour) > 50_000:
            break
    frames.close()  # type: ignore[attr-defined]
    assert server.finish()["log"] == ""
