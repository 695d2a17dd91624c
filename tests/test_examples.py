"""The example scripts, run as a reader of them would."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
from conftest import needs_gil

import safemmap
from examples.hostile.files import NO_FILES, lingering_socket, opened
from safemmap import testing

SEQPACKET = socket.AF_UNIX, socket.SOCK_SEQPACKET
ROOT = pathlib.Path(__file__).resolve().parent.parent
STRICT_PYTHON = [sys.executable, "-X", "dev", "-W", "error"]
LIMIT = 60  # seconds

# Where a machine is busy, no peer gives up on another.
PATIENTLY = """
import importlib, sys
example = importlib.import_module(sys.argv.pop(1))
example.PATIENCE = 3600
example.main()
"""


@pytest.fixture
def run(tmp_path):
    """Starts an example with the socket as its first argument."""
    path = os.path.relpath(tmp_path / "socket")
    path = min(path, str(tmp_path / "socket"), key=len)  # 107 bytes at most
    processes = []

    def start(name, *arguments):
        process = subprocess.Popen(
            [*STRICT_PYTHON, "-c", PATIENTLY, f"examples.{name}", path, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_receiver_outlives_a_sender_that_shrinks_its_file(run, tmp_path):
    receiver = run("receiver")
    assert receiver.stdout.readline() == "listening\n"
    said = []
    for arguments in [], ["--shrink"], []:
        sender = run("sender", *arguments)
        said.append(sender.communicate(timeout=LIMIT))
        assert sender.returncode == 0
    interrupt(receiver)
    out, err = receiver.communicate(timeout=LIMIT)

    first, second, third = out.splitlines(keepends=True)
    assert said[0] == (first, "")
    assert said[1] == ("shrunk\n", "")
    assert said[2] == (third, "")
    assert first.startswith("1048576 bytes, CRC ")
    assert second.startswith("the peer took its file away: [Errno 14] m[i:j]")
    assert "offset 524288" in second
    assert (receiver.returncode, err) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_sender_seals_what_it_does_not_shrink(run, tmp_path):
    with socket.socket(*SEQPACKET) as server:
        path = str(tmp_path / "socket")
        server.bind(min(os.path.relpath(path), path, key=len))
        server.listen()
        server.settimeout(LIMIT)
        for arguments, sealed in ([], True), (["--shrink"], False):
            sender = run("sender", *arguments)
            peer, _ = server.accept()
            with peer:
                _, [fd], *_ = socket.recv_fds(peer, 64, 1)
            assert (safemmap.Seal.SHRINK in safemmap.get_seals(fd)) is sealed
            os.close(fd)
            sender.communicate(timeout=LIMIT)


def test_receiver_goes_on_after_a_file_that_could_stall_it(run, tmp_path):
    receiver = run("receiver")
    assert receiver.stdout.readline() == "listening\n"
    path = str(tmp_path / "socket")
    with (
        socket.socket(*SEQPACKET) as peer,
        open("/proc/self/status", "rb") as file,
    ):
        peer.connect(min(os.path.relpath(path), path, key=len))
        socket.send_fds(peer, [b"4096"], [file.fileno()])
        line = receiver.stdout.readline()
    assert line.startswith("a bad peer: PeerError(95, ")
    assert "on a filesystem of type proc" in line
    assert run("sender").wait(timeout=LIMIT) == 0


BAD_PEERS = {
    "negative size": (b"-5", 1, 4096, "PeerError(22, 'length must not be negative"),
    "no size": (b"spam", 1, 4096, "ValueError"),
    "long number": (b"9" * 64, 1, 4096, "PeerError(22, '999"),
    "empty file": (b"0", 1, 0, "PeerError(22, 'no bytes from"),
    "larger than it is": (b"4097", 1, 4096, "PeerError(22, '4097 bytes from"),
    "sparse and huge": (b"%d" % (4 << 40), 1, 4 << 40, "PeerError(27, '4398046511104"),
    "all of that": (b"0", 1, 4 << 40, "PeerError(27, '4398046511104"),
    "no file": (b"4096", 0, 4096, "ValueError"),
}


def test_receiver_outlives_bad_peers(run, tmp_path):
    receiver = run("receiver")
    assert receiver.stdout.readline() == "listening\n"
    path = str(tmp_path / "socket")
    silent = socket.socket(*SEQPACKET)
    silent.connect(min(os.path.relpath(path), path, key=len))
    for announced, count, size, answer in BAD_PEERS.values():
        fd = os.memfd_create("bad")
        os.ftruncate(fd, size)
        with socket.socket(*SEQPACKET) as peer:
            peer.connect(min(os.path.relpath(path), path, key=len))
            socket.send_fds(peer, [announced], [fd] * count)
            assert receiver.stdout.readline().startswith(f"a bad peer: {answer}")
        os.close(fd)
    for name, make in NO_FILES.items():
        try:
            with make() as fd, socket.socket(*SEQPACKET) as peer:
                peer.connect(min(os.path.relpath(path), path, key=len))
                socket.send_fds(peer, [b"4096"], [fd])
                answer = receiver.stdout.readline()
        except testing.Unavailable:
            continue
        assert answer.startswith("a bad peer: PeerError("), name
    with silent:
        assert run("sender").wait(timeout=LIMIT) == 0
        assert receiver.stdout.readline().startswith("1048576 bytes")
    assert receiver.stdout.readline().startswith("a bad peer: ValueError(\"b'' came")
    interrupt(receiver)
    assert receiver.communicate(timeout=LIMIT) == ("", "")
    assert receiver.returncode == 0


def interrupt(process):
    """Once its daemon threads have ended: CPython can crash when one begins, or ends,
    as the interpreter does (python/cpython#110052)."""
    for _ in range(1000 * LIMIT):
        if len(os.listdir(f"/proc/{process.pid}/task")) == 1:
            break
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)


@contextlib.contextmanager
def stopped(process):
    """So that it is not faster than we are."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    yield
    process.send_signal(signal.SIGCONT)


def test_receiver_outlives_peers_who_keep_it_waiting(run, tmp_path):
    """Each time more than it serves at once: some say nothing, and some leave it the
    last descriptor of a socket that lingers, in three places."""
    receiver = run("receiver")
    assert receiver.stdout.readline() == "listening\n"
    path = str(tmp_path / "socket")
    path = min(os.path.relpath(path), path, key=len)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(opened(safemmap.memfd(b"x" * 10)))

        def connect():
            peer = stack.enter_context(socket.socket(*SEQPACKET))
            peer.connect(path)
            return peer

        def until(text):
            while text not in receiver.stdout.readline():
                assert receiver.poll() is None

        for _ in range(17):
            connect()
        for _ in range(17):
            peer, fd = connect(), stack.enter_context(lingering_socket())
            with stopped(receiver):
                for fds in [file], [fd] * 9, [fd]:
                    socket.send_fds(peer, [b"10"], fds)
                os.dup2(file, fd)
            until("10 bytes, CRC ")
        for _ in range(17):
            peer, fd = connect(), stack.enter_context(lingering_socket())
            with stopped(receiver):
                socket.send_fds(peer, [b"10"], [fd] * 253)
                os.dup2(file, fd)
            until("came with 253 files")
        assert run("sender").wait(timeout=LIMIT) == 0
        until("1048576 bytes, CRC ")
        receiver.send_signal(signal.SIGINT)
        assert receiver.communicate(timeout=LIMIT)[1] == ""
    assert receiver.returncode == 0


@pytest.mark.parametrize("arguments", [["--spam"], ["--shrink", "x"]])
def test_sender_says_how_it_is_used(run, arguments):
    sender = run("sender", *arguments)
    _, err = sender.communicate(timeout=LIMIT)
    assert sender.returncode == 1 and err.startswith("Send a file over")


def test_sender_without_a_receiver(run):
    sender = run("sender")
    out, err = sender.communicate(timeout=LIMIT)
    assert (sender.returncode, out) == (1, "")
    assert err.startswith("no receiver: [Errno 2]")


@needs_gil
def test_blocks_of_the_readme(tmp_path):
    text = (ROOT / "README.md").read_text()
    enable, wrap, scope, sender = re.findall(
        r"^```python\n(.*?)^```$", text, re.M | re.S
    )

    pytest.importorskip("numpy")
    for block, message in [
        (enable, "the page at offset 4096 of '{}/shared.npy' is gone, and was read as"),
        (
            wrap,
            "m[i:j] of bytes 0 to 64 of the mapping of '/memfd:frame (deleted)' failed",
        ),
    ]:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", block],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"[Errno 14] {message.format(tmp_path)}")

    names: dict[str, Any] = {}
    exec(f"import numpy, os, safemmap, socket\n{scope}\n{sender}", names)
    data = os.urandom(4096)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(LIMIT)
        names["send"](theirs, data)
        size, [fd], *_ = socket.recv_fds(ours, 64, 1)
    with safemmap.wrap(fd, int(size)) as m:
        assert names["total"](m) == sum(data)
    os.close(fd)
