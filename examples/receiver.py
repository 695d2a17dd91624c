"""Read the files that anybody sends over a Unix socket, and survive it.

Usage: python receiver.py SOCKET          (then, elsewhere: python sender.py SOCKET)
"""

import contextlib
import os
import socket
import sys
import threading
import time
import zlib

import safemmap

LARGEST = 64 << 20  # bytes: a copy is made of them
PATIENCE = 10  # seconds for each message
PEERS = threading.BoundedSemaphore(16)  # at once


def receive(peer: socket.socket) -> None:
    """Serve one peer, whatever it sends."""
    with contextlib.ExitStack() as stack:
        stack.callback(PEERS.release)
        stack.enter_context(peer)
        peer.settimeout(PATIENCE)
        try:
            flags = socket.MSG_CMSG_CLOEXEC  # as all descriptors of Python's own
            announced, fds, _, _ = socket.recv_fds(peer, 64, 1, flags)
            try:
                print(read(peer, announced, fds), flush=True)
            finally:
                for fd in fds:
                    safemmap.close_fd(fd)  # os.close() would wait for a FUSE server
        except safemmap.BusError as error:
            print(f"the peer took its file away: {error}", flush=True)
        except (OSError, ValueError) as error:  # a PeerError is both
            print(f"a bad peer: {error!r}", flush=True)


def read(peer: socket.socket, announced: bytes, fds: list[int]) -> str:
    if len(fds) != 1:
        raise ValueError(f"{announced!r} came with {len(fds)} files")
    size = int(announced)
    # Refuses what is no file, larger than we want, or shorter than the peer says.
    with safemmap.wrap(fds[0], size, max_length=LARGEST) as mapping:
        peer.send(b"mapped")
        peer.recv(64)  # "read it"
        content = mapping[:]  # with mmap.mmap we could be dead now
    return f"{len(content)} bytes, CRC {zlib.crc32(content):08x}"


def accept(server: socket.socket) -> None:
    try:
        peer, _ = server.accept()
    except OSError as error:
        print(f"nobody can be served: {error}", flush=True)
        time.sleep(1)  # until there are descriptors again
        return
    # A peer that says nothing keeps nobody else waiting.
    PEERS.acquire()
    threading.Thread(target=receive, args=[peer], daemon=True).start()


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    path = sys.argv[1]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(path)
        try:
            server.listen()
            print("listening", flush=True)
            while True:
                accept(server)
        except KeyboardInterrupt:
            pass
        finally:
            os.unlink(path)


if __name__ == "__main__":
    main()
