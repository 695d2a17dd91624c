"""Run as a script, in a mount namespace of its own: mounts a filesystem, sends open
files of it over a socket, and stays as long as somebody listens.

Arguments: the filesystem, the socket's descriptor, and what the filesystem needs.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any


def serve_tmpfs(link: socket.socket, size: str) -> None:
    """Two files that have no names: the one to read, and one to take up the room."""
    folder = mounted_tmpfs(f"size={size}")
    files = [os.open(folder, os.O_RDWR | os.O_TMPFILE, 0o600) for _ in range(2)]
    socket.send_fds(link, [b"!"], files)
    # The filesystem lives as long as they do.


def mounted_tmpfs(*options: str) -> str:
    """Where it is: over a folder that everybody has, for this namespace alone."""
    folder = tempfile.gettempdir()
    how = ["-o", ",".join(options)] if options else []
    subprocess.run(["mount", "-t", "tmpfs", *how, "tmpfs", folder], check=True)
    return folder


def serve_fuse(link: socket.socket, size: str, good: str) -> None:
    import mfusepy

    folder = f"{mounted_tmpfs()}/fuse"
    os.mkdir(folder)

    class Failing(mfusepy.Operations):  # type: ignore[misc]
        use_ns = True

        def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
            if path == "/":
                return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
            mode = stat.S_IFREG | 0o444
            return {"st_mode": mode, "st_nlink": 1, "st_size": int(size)}

        def read(self, path: str, count: int, offset: int, fh: int) -> bytes:
            if offset + count > int(good):
                raise OSError(errno.EIO, "on purpose")
            return bytes(1 + at % 251 for at in range(offset, offset + count))

        def init_with_config(self, connection: Any, config: Any) -> None:
            # Page by page, or one that is gone would take its neighbours with it.
            if connection is not None:
                connection.max_read = mmap.PAGESIZE
            threading.Thread(target=hand_over, daemon=True).start()

    def hand_over() -> None:
        try:
            while (fd := opened(f"{folder}/file")) is None:
                time.sleep(0.001)
            try:
                socket.send_fds(link, [b"!"], [fd])
            finally:
                os.close(fd)  # while there is somebody to answer to it
            link.recv(1)  # until the other side is closed
        finally:
            os._exit(0)  # and with this namespace goes the mount

    options = {"ro": True, "max_read": mmap.PAGESIZE}
    mfusepy.FUSE(Failing(), folder, foreground=True, nothreads=True, **options)


def opened(path: str) -> int | None:
    """None before there is such a file."""
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None


def main(kind: str, link: str, *arguments: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who has started it
    serve = serve_tmpfs if kind == "tmpfs" else serve_fuse
    serve(socket.socket(fileno=int(link)), *arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
