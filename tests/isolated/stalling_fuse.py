"""A FUSE server that answers to nothing, and a reader that is handed its file.

Runs in a mount namespace of its own. The server is silent as long as there is a file
of that name; a timer takes it away, so that whoever waits for it does so in vain, but
not for ever.
"""

import contextlib
import ctypes
import faulthandler
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator

import mfusepy

import safemmap

SIZE = 8192
MNT_DETACH = 2


class Stalling(mfusepy.Operations):  # type: ignore[misc]
    use_ns = True

    def __init__(self, silence):
        self._silence = silence

    def answer(self):
        while os.path.exists(self._silence):
            time.sleep(0.01)

    def getattr(self, path, fh=None):
        self.answer()
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        return {"st_mode": stat.S_IFREG | 0o644, "st_nlink": 1, "st_size": SIZE}

    def read(self, path, size, offset, fh):
        self.answer()
        return b"x" * size

    def statfs(self, path):
        self.answer()
        return {}

    def flush(self, path, fh):
        self.answer()
        return 0


def serve(mount: str, silence: str) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libfuse's opinions
    mfusepy.FUSE(Stalling(silence), mount, foreground=True, attr_timeout=0)


class File:
    """On that filesystem.

    :ivar fd: a descriptor of it, open.
    """

    def __init__(self, folder: str) -> None:
        self.mount, self._silence = f"{folder}/mount", f"{folder}/silence"
        os.mkdir(self.mount)
        self._server = os.fork()
        if self._server == 0:
            serve(self.mount, self._silence)
            os._exit(0)
        while not os.path.ismount(self.mount):
            if os.waitpid(self._server, os.WNOHANG) != (0, 0):
                sys.exit("the server has ended")
            time.sleep(0.01)
        self.fd = os.open(f"{self.mount}/file", os.O_RDONLY)

    @contextlib.contextmanager
    def silence(self, seconds: float) -> Iterator[Callable[[], bool]]:
        """At most so long. Gives a function that tells whether it still is silent."""
        open(self._silence, "x").close()
        timer = threading.Timer(seconds, self._speak)
        timer.start()
        try:
            yield lambda: os.path.exists(self._silence)
        finally:
            timer.cancel()
            self._speak()

    def _speak(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._silence)

    def close(self) -> None:
        os.close(self.fd)
        os.kill(self._server, 9)
        os.waitpid(self._server, 0)


def refuse(fd: int, is_silent: Callable[[], bool]) -> None:
    """Print why wrap does not take `fd`, and whether the server was silent then."""
    for choice in ("memory", "local"):
        try:
            safemmap.wrap(fd, SIZE, filesystems=choice).close()
        except OSError as error:
            print(error.errno, is_silent(), error.strerror)
        else:
            print("not refused")


def main() -> None:
    faulthandler.disable()
    file = File(sys.argv[1])
    with contextlib.closing(file):
        with safemmap.wrap(file.fd, filesystems="any") as m:
            print(m[:4])
        with file.silence(3) as is_silent:
            refuse(file.fd, is_silent)
            # umount(8) would ask the server.
            assert ctypes.CDLL(None).umount2(file.mount.encode(), MNT_DETACH) == 0
            refuse(file.fd, is_silent)
            safemmap.close_fd(os.dup(file.fd))
            print("close_fd", is_silent())
            # What it would have been like otherwise: this returns when it speaks.
            os.fstat(file.fd)
            print("fstat", is_silent())


if __name__ == "__main__":
    main()
