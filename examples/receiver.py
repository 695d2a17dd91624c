"""Read the files that anybody sends over a Unix socket, and survive it.

Usage: python receiver.py SOCKET          (then, elsewhere: python sender.py SOCKET)
"""

import contextlib
import os
import resource
import socket
import sys
import threading
import time
import zlib

import safemmap

LARGEST = 64 << 20  # bytes: a copy is made of them
PATIENCE = 10  # seconds for each message
MOST_PEERS = 16  # at once
# In a message. The kernel closes those for which there is no room, on our thread.
MOST_FDS = 253

PEERS = threading.BoundedSemaphore(MOST_PEERS)
served: list[socket.socket] = []  # the first has been here longest
lock = threading.Lock()  # of that


def say(text: str) -> None:
    # Not print(), with whose lock a daemon thread can be when Python ends.
    os.write(sys.stdout.fileno(), f"{text}\n".encode())


def receive(peer: socket.socket) -> tuple[bytes, list[int]]:
    flags = socket.MSG_CMSG_CLOEXEC  # as all descriptors of Python's own
    message, fds, _, _ = socket.recv_fds(peer, 64, MOST_FDS, flags)
    return message, fds


def close(fd: int) -> None:
    """os.close() would wait for the server of a FUSE file, or a socket that lingers."""
    with contextlib.suppress(BlockingIOError):  # no thread can be started
        safemmap.close_fd(fd)


def serve(peer: socket.socket) -> None:
    """Serve one peer, whatever it sends."""
    fds: list[int] = []
    try:
        say(read(peer, fds))
    except safemmap.BusError as error:
        say(f"the peer took its file away: {error}")
    except (OSError, ValueError) as error:  # a PeerError is both
        say(f"a bad peer: {error!r}")
    finally:
        for fd in fds:
            close(fd)
        part_with(peer)


def read(peer: socket.socket, fds: list[int]) -> str:
    announced, received = receive(peer)
    fds += received
    if len(fds) != 1:
        raise ValueError(f"{announced!r} came with {len(fds)} files")
    size = int(announced)
    # Refuses what is no file, larger than we want, or shorter than the peer says.
    with safemmap.wrap(fds[0], size, max_length=LARGEST) as mapping:
        peer.send(b"mapped")
        fds += receive(peer)[1]  # "read it", with nothing
        content = mapping[:]  # with mmap.mmap we could be dead now
    return f"{len(content)} bytes, CRC {zlib.crc32(content):08x}"


def part_with(peer: socket.socket) -> None:
    with lock:
        served.remove(peer)
    with contextlib.suppress(OSError):
        peer.shutdown(socket.SHUT_RDWR)
    close(peer.detach())  # and what lies unread in it
    PEERS.release()


def accept(server: socket.socket) -> None:
    try:
        peer, _ = server.accept()
    except TimeoutError:
        return
    except OSError as error:
        say(f"nobody can be served: {error}")
        time.sleep(1)  # until there are descriptors again
        return
    # Peers that say nothing keep nobody else waiting.
    with lock:
        if len(served) == MOST_PEERS:
            with contextlib.suppress(OSError):
                served[0].shutdown(socket.SHUT_RDWR)
    PEERS.acquire()
    peer.settimeout(PATIENCE)
    with lock:
        served.append(peer)
    try:
        threading.Thread(target=serve, args=[peer], daemon=True).start()
    except RuntimeError as error:
        say(f"nobody can be served: {error}")
        part_with(peer)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    path = sys.argv[1]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(path)
        # The kernel may leave Ctrl-C to another thread, while this one goes on waiting.
        server.settimeout(1)
        try:
            server.listen()
            say("listening")
            while True:
                accept(server)
        except KeyboardInterrupt:
            pass
        finally:
            os.unlink(path)


if __name__ == "__main__":
    main()
