"""The server in examples/c, with clients that shrink, grow and lie."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = os.sysconf("SC_PAGESIZE")
CREATE, RESIZE, DESTROY, DRAW = range(4)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("server") / "server"
    flags = ["-O2", "-std=gnu11", "-D_GNU_SOURCE", f"-I{ROOT / 'safemmap/include'}"]
    flags += ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
    sources = [*(ROOT / "examples/c").glob("*.c"), *(ROOT / "csrc").glob("*.c")]
    command: list[str | Path] = [
        "cc",
        *flags,
        *sources,
        "-pthread",
        "-ldl",
        "-Wl,-z,now",
        "-o",
        target,
    ]
    subprocess.run(command, check=True)
    return target


class Server:
    def __init__(self, program: Path, directory: Path) -> None:
        self.path = directory / "socket"
        self.process = subprocess.Popen(
            [program, self.path], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "listening\n"
        self.clients: list[Client] = []
        self.files: list[int] = []

    def file(self, size: int) -> int:
        """Of a client."""
        self.files.append(file_of(size))
        return self.files[-1]

    def stop(self) -> list[int]:
        """How many buffers were drawn, refused, and taken away."""
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate()
        assert self.process.returncode == 0
        return [int(number) for number in re.findall(r"\d+", output)]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        for client in self.clients:
            client.socket.close()
        for fd in self.files:
            os.close(fd)


class Client:
    def __init__(self, server: Server) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(str(server.path))
        server.clients.append(self)

    def ask(self, kind: int, *numbers: int, fd: int = -1) -> tuple[int, int]:
        """The error, and the checksum. `numbers`: the pool, its size, and a buffer's
        offset, width, height and stride."""
        padded = [*numbers, *[0] * (6 - len(numbers))]
        message = struct.pack("=IIiiiii", kind, *padded)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        self.socket.sendmsg([message], rights if fd >= 0 else [])
        answer = self.socket.recv(8)
        if not answer:
            raise ConnectionError
        error, checksum = struct.unpack("=iI", answer)
        return error, checksum


@pytest.fixture
def server(program: Path, tmp_path: Path) -> Iterator[Server]:
    server = Server(program, tmp_path)
    yield server
    server.close()


def file_of(size: int) -> int:
    fd = os.memfd_create("pool")
    os.write(fd, b"\1\0\0\0" * (size // 4))
    return fd


def test_an_honest_client(server: Server) -> None:
    client = Client(server)
    fd = server.file(4 * PAGE)
    assert client.ask(CREATE, 0, 2 * PAGE, fd=fd) == (0, 0)
    first = client.ask(DRAW, 0, 0, 0, 16, 16, 64)
    assert first[0] == 0
    assert client.ask(RESIZE, 0, 4 * PAGE) == (0, 0)
    assert client.ask(DRAW, 0, 0, 2 * PAGE, 16, 16, 64) == first
    assert client.ask(DESTROY, 0) == (0, 0)
    assert server.stop() == [2, 0, 0]


@pytest.mark.parametrize(
    "buffer",
    [
        (-4, 16, 16, 64),
        (2, 16, 16, 64),
        (0, 0, 16, 64),
        (0, 16, 0, 64),
        (0, 17, 16, 64),
        (0, 16, 65, 64),
        (0, 16, 2**31 - 1, 2**31 - 4),
        (2**31 - 4, 1, 1, 4),
        (0, 2**31 - 1, 1, 64),
    ],
)
def test_a_buffer_outside_its_pool(server: Server, buffer: tuple[int, ...]) -> None:
    client = Client(server)
    assert client.ask(CREATE, 0, PAGE, fd=server.file(PAGE)) == (0, 0)
    assert client.ask(DRAW, 0, 0, *buffer) == (-errno.EINVAL, 0)
    assert client.ask(DRAW, 0, 0, 0, 16, 16, 64)[0] == 0


def test_a_client_that_takes_its_memory_away(server: Server) -> None:
    hostile, honest = Client(server), Client(server)
    fd = server.file(4 * PAGE)
    for client in (hostile, honest):
        own = fd if client is hostile else server.file(PAGE)
        assert client.ask(CREATE, 0, PAGE, fd=own) == (0, 0)
    os.ftruncate(fd, 0)
    assert hostile.ask(DRAW, 0, 0, 0, 16, 16, 64)[0] == -errno.EFAULT
    with pytest.raises(ConnectionError):
        hostile.ask(DRAW, 0, 0, 0, 16, 16, 64)
    assert honest.ask(DRAW, 0, 0, 0, 16, 16, 64)[0] == 0
    assert server.stop() == [1, 0, 1]


def test_a_file_of_huge_pages(huge_pages: None, server: Server) -> None:
    huge = 2 << 20
    fd = os.memfd_create("pool", os.MFD_HUGETLB)
    server.files.append(fd)
    os.ftruncate(fd, 2 * huge)
    client = Client(server)
    assert client.ask(CREATE, 0, PAGE, fd=fd) == (0, 0)
    assert client.ask(DRAW, 0, 0, 0, 16, 16, 64)[0] == 0
    assert client.ask(RESIZE, 0, huge + PAGE) == (0, 0)
    assert client.ask(DRAW, 0, 0, huge, 16, 16, 64)[0] == 0
    os.ftruncate(fd, huge)
    assert client.ask(DRAW, 0, 0, huge - 512, 16, 16, 64)[0] == -errno.EFAULT
    # Disconnected; nothing stays mapped.
    honest = Client(server)
    assert honest.ask(CREATE, 0, PAGE, fd=server.file(PAGE)) == (0, 0)
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert maps.count("memfd:pool") == 1, maps
    assert server.stop() == [2, 0, 1]


def attack(server: Server, seed: int, until: float) -> None:
    """Draws while another thread changes the size of the file; lies about sizes."""
    choose = random.Random(seed)
    size = 64 * PAGE
    while time.monotonic() < until:
        fd = file_of(size)
        stopped = threading.Event()

        def change(fd: int = fd, stopped: threading.Event = stopped) -> None:
            own = random.Random(seed)
            while not stopped.is_set():
                os.ftruncate(
                    fd, own.choice([0, size, size, size, PAGE, own.randrange(size)])
                )

        changing = threading.Thread(target=change)
        changing.start()
        with contextlib.suppress(ConnectionError):
            client = Client(server)
            for _ in range(choose.randrange(1, 100)):
                pool = choose.randrange(3)
                kind = choose.choice([CREATE, RESIZE, DESTROY, DRAW, DRAW, DRAW, 9])
                lie = choose.choice([size, PAGE, size + 1, -1, 2**31 - 1])
                client.ask(
                    *(kind, pool, lie, choose.randrange(0, 60 * PAGE, 4)),
                    *(choose.randrange(1, 500), choose.randrange(1, 100), 2000),
                    fd=fd if kind == CREATE or choose.random() < 0.1 else -1,
                )
        client.socket.close()
        stopped.set()
        changing.join()
        os.close(fd)


def test_under_attack(server: Server) -> None:
    """For SAFEMMAP_ATTACK_SECONDS."""
    seconds = float(os.environ.get("SAFEMMAP_ATTACK_SECONDS", "3"))
    until = time.monotonic() + seconds
    attackers = [
        threading.Thread(target=attack, args=[server, seed, until]) for seed in range(4)
    ]
    for attacker in attackers:
        attacker.start()
    for attacker in attackers:
        attacker.join()
    descriptors = os.listdir(f"/proc/{server.process.pid}/fd")
    honest = Client(server)
    assert honest.ask(CREATE, 0, PAGE, fd=server.file(PAGE)) == (0, 0)
    assert honest.ask(DRAW, 0, 0, 0, 16, 16, 64)[0] == 0
    drawn, refused, taken_away = server.stop()
    print(f"{drawn} drawn, {refused} refused, {taken_away} taken away")
    assert len(descriptors) < 16 * 10 + 10
    assert drawn and refused and taken_away
