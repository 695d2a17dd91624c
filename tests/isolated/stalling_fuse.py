"""A FUSE server that answers to nothing, and a reader that is handed its file.

Runs in a mount namespace of its own. The server is silent as long as there is a file
of that name; a timer takes it away, so that whoever waits for it does so in vain, but
not for ever.
"""

import ctypes
import faulthandler
import os
import stat
import sys
import threading
import time

import mfusepy

import safemmap

faulthandler.disable()
folder = sys.argv[1]
mount, silence = f"{folder}/mount", f"{folder}/silence"
SIZE = 8192
MNT_DETACH = 2


def answer() -> None:
    while os.path.exists(silence):
        time.sleep(0.01)


class Stalling(mfusepy.Operations):  # type: ignore[misc]
    use_ns = True

    def getattr(self, path, fh=None):
        answer()
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        return {"st_mode": stat.S_IFREG | 0o644, "st_nlink": 1, "st_size": SIZE}

    def read(self, path, size, offset, fh):
        answer()
        return b"x" * size

    def statfs(self, path):
        answer()
        return {}

    def flush(self, path, fh):
        answer()
        return 0


def serve() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libfuse's opinions
    mfusepy.FUSE(Stalling(), mount, foreground=True, attr_timeout=0)


def refuse(fd: int) -> None:
    """Print why wrap does not take `fd`, and whether the server was silent then."""
    for choice in ("memory", "local"):
        try:
            safemmap.wrap(fd, SIZE, filesystems=choice).close()
        except OSError as error:
            print(error.errno, os.path.exists(silence), error.strerror)
        else:
            print("not refused")


os.mkdir(mount)
server = os.fork()
if server == 0:
    serve()
    os._exit(0)
try:
    while not os.path.ismount(mount):
        if os.waitpid(server, os.WNOHANG) != (0, 0):
            sys.exit("the server has ended")
        time.sleep(0.01)
    fd = os.open(f"{mount}/file", os.O_RDONLY)
    with safemmap.wrap(fd, filesystems="any") as m:
        print(m[:4])

    open(silence, "x").close()
    timer = threading.Timer(3, os.unlink, [silence])
    timer.start()
    refuse(fd)
    # umount(8) would ask the server.
    assert ctypes.CDLL(None).umount2(mount.encode(), MNT_DETACH) == 0
    refuse(fd)
    safemmap.close_fd(os.dup(fd))
    print("close_fd", os.path.exists(silence))
    # What it would have been like otherwise: this returns when the server speaks.
    os.fstat(fd)
    print("fstat", os.path.exists(silence))
    timer.join()
    os.close(fd)
finally:
    os.kill(server, 9)
    os.waitpid(server, 0)
