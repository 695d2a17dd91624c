"""close_fd(): closes a descriptor without waiting for whoever is behind it."""

from __future__ import annotations

import contextlib
import errno
import os
import threading

from safemmap._arguments import bad_descriptor, integer
from safemmap._filesystems import closes_at_once

__all__ = ["close_fd"]


def close_fd(fd: int) -> None:
    """Close a descriptor that a peer sent, without waiting for the peer.

    close(2) asks the server of a file on FUSE or on another host, and waits for the
    answer; it can wait for the other end of a socket (``SO_LINGER``) or a terminal,
    too. So whatever is not a file in memory or on a local disk is closed by a thread
    of its own, which ends with the answer. This returns at once; `fd` is not to be
    used any more.

    A descriptor and a thread stay until the answer comes: part with a peer that sends
    such a file. (The end of the process waits for it, too.)

    :raises OSError: `fd` is not open (``EBADF``); or no thread can be started
        (``EAGAIN``), and `fd` stays open.
    """
    fd = integer("fd", fd)
    try:
        at_once = closes_at_once(fd)
    except (OSError, ValueError):
        raise bad_descriptor(fd) from None
    if at_once:
        _close(fd)
        return
    thread = threading.Thread(
        target=_close, args=[fd], name="safemmap.close_fd", daemon=True
    )
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, f"fd {fd} stays open: {error}") from None


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):  # it is closed, whatever its server says
        os.close(fd)
