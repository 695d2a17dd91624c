"""Files on filesystems: full, broken, or on a disk.

Whatever must be mounted is so in a namespace of a child's own: nothing of it is to be
seen from outside, or left behind.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from safemmap import PAGESIZE
from safemmap._filesystems import is_on_disk
from safemmap.testing._source import FaultSource, Unavailable
from safemmap.testing._steps import Step

__all__ = ["DiskTruncation", "FullTmpfs", "FuseError"]

_NAMESPACE = ["unshare", "--mount"]
_PATIENCE = 20.0  # seconds for a mount


def _namespace() -> list[str]:
    """The command to run another one in a mount namespace."""
    if os.geteuid() == 0:
        return _NAMESPACE
    return [*_NAMESPACE, "--user", "--map-root-user"]


@functools.cache
def _no_namespace() -> str | None:
    """Why there is none to be had."""
    if shutil.which("unshare") is None:
        return "needs the command unshare (Debian's util-linux)"
    done = subprocess.run([*_namespace(), "true"], capture_output=True, text=True)
    if done.returncode == 0:
        return None
    return f"needs root, or user namespaces for everybody: {done.stderr.strip()}"


@functools.cache
def _no_fuse() -> str | None:
    """Why there is none to be had. (mfusepy looks for libfuse when it is imported.)"""
    if importlib.util.find_spec("mfusepy") is None:
        return "needs mfusepy: pip install 'safemmap[testing]'"
    done = subprocess.run(
        [sys.executable, "-c", "import mfusepy"],
        env=_environment(),
        capture_output=True,
    )
    if done.returncode != 0:
        return "needs libfuse (Debian's fuse3)"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "needs /dev/fuse (CONFIG_FUSE_FS), and the right to open it"
    return None


def _environment() -> dict[str, str]:
    """With the name of the library for mfusepy, which otherwise asks compilers for
    libfuse 2 first, and they leave their files when they are killed."""
    return {"FUSE_LIBRARY_NAME": "fuse3", **os.environ}


def _ask_server(stack: ExitStack, kind: str, *arguments: str) -> list[int]:
    """Start a server in a namespace, and return the descriptors that it sends. It ends
    with the stack, or with this process."""
    ours, its = socket.socketpair()
    stack.enter_context(ours)
    with its:
        script = Path(__file__).with_name("_mounts.py")
        server = subprocess.Popen(
            [
                *_namespace(),
                *(sys.executable, "-P", str(script)),
                *(kind, str(its.fileno()), *arguments),
            ],
            env=_environment(),
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    # In this order: it ends when our side of the socket does.
    stack.enter_context(server)
    stack.callback(ours.close)
    ours.settimeout(_PATIENCE)
    try:
        _, fds, _, _ = socket.recv_fds(ours, 1, 8)
    except TimeoutError:
        fds = []
    if not fds:
        ours.close()
        _, said = server.communicate()
        raise Unavailable(f"{kind} cannot be mounted: {said.strip() or 'no answer'}")
    for fd in fds:
        stack.callback(os.close, fd)
    return list(fds)


class FullTmpfs(FaultSource):
    """A hole in a file on a tmpfs without room: a load wants to fill it, and there is
    nothing to fill it with. (Other ways to read get the zeros that a hole stands for.)
    """

    name = "full tmpfs"
    description = "a hole in a file on a tmpfs that is full"

    @classmethod
    def missing(cls) -> str | None:
        return _no_namespace()

    def open(self, stack: ExitStack) -> int:
        room = self.size + 16 * PAGESIZE
        fd, self._filler = _ask_server(stack, "tmpfs", str(room))
        os.pwrite(fd, self.data, 0)
        return fd

    def steps(self) -> list[Step]:
        return [
            Step("punch", self.fd, self.gone.start, self.gone.stop),
            Step("fill", self._filler),
        ]

    def steps_back(self) -> list[Step]:
        return [
            Step("truncate", self._filler),
            Step("write", self.fd, data=self.data),
        ]


class FuseError(FaultSource):
    """A file whose server (FUSE) answers every read behind `keep` with EIO, from the
    start."""

    name = "FUSE error"
    description = "a file on FUSE, whose server answers EIO"
    starts_whole = False
    restores = False
    writable = False

    @classmethod
    def missing(cls) -> str | None:
        return _no_fuse() or _no_namespace()

    def open(self, stack: ExitStack) -> int:
        size, good = str(self.size), str(self.gone.start)
        (fd,) = _ask_server(stack, "fuse", size, good)
        return fd


class DiskTruncation(FaultSource):
    """A file on a disk, truncated by another process.

    It is made in the folder for temporary files, or else the working directory.
    """

    name = "disk truncation"
    description = "another process cuts a file on a disk"

    @classmethod
    def missing(cls) -> str | None:
        if _folder_on_disk() is None:
            return "none of TMPDIR, /var/tmp and the working directory is on a disk"
        return None

    def open(self, stack: ExitStack) -> int:
        fd, path = tempfile.mkstemp(dir=_folder_on_disk())
        stack.callback(os.close, fd)
        os.unlink(path)
        os.pwrite(fd, self.data, 0)
        return fd

    def strike(self) -> None:
        script = "import os, sys; os.ftruncate(int(sys.argv[1]), int(sys.argv[2]))"
        subprocess.run(
            [sys.executable, "-SEc", script, str(self.fd), str(self.gone.start)],
            pass_fds=[self.fd],
            check=True,
        )

    def steps(self) -> list[Step]:
        return [Step("truncate", self.fd, stop=self.gone.start)]

    def steps_back(self) -> list[Step]:
        return [Step("write", self.fd, data=self.data)]


def _folder_on_disk() -> str | None:
    for folder in (tempfile.gettempdir(), "/var/tmp", os.getcwd()):
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                if is_on_disk(file.fileno()):
                    return folder
        except OSError:
            continue
    return None
