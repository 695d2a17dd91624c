"""close_fd(): closes a descriptor without waiting for whoever is behind it."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import deque

from safemmap._arguments import bad_descriptor, integer
from safemmap._filesystems import closes_at_once

__all__ = ["close_fd"]

_MOST_THREADS = 32

# Of the next two. A signal handler, or a finalizer that the collector runs, can call
# close_fd() on a thread that holds it.
_lock = threading.RLock()
_threads = 0  # that have begun
_waiting: deque[int] = deque()


def close_fd(fd: int) -> None:
    """Close a descriptor that a peer sent, without waiting for the peer.

    close(2) asks the server of a file on FUSE or on another host, and waits for the
    answer; it can wait for the other end of a socket (``SO_LINGER``) or a terminal,
    too, and for all of those that lie unread in a socket; and the last one to let go of
    a large file frees it, which takes a fifth of a second for each GiB in memory. So
    whatever is not a small file in memory or on a local disk is closed by another
    thread. This returns at once; `fd` is not to be used any more.

    A descriptor and a thread stay until the answer comes: part with a peer that sends
    such a file. While 32 threads wait, what comes next stays open until one of them is
    done. (The end of the process waits for FUSE files, too.)

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
        target=_close_waiting, name="safemmap.close_fd", daemon=True
    )
    with _lock:
        _waiting.append(fd)
        if _threads == _MOST_THREADS:
            return
    # The thread counts itself: a signal handler can raise in here before there is one,
    # and after. (The next call starts another for what waits then.)
    try:
        thread.start()
    except RuntimeError as error:
        with _lock:
            if _threads > 0 or fd not in _waiting:  # another one comes, or came, to it
                return
            _waiting.remove(fd)
        raise OSError(errno.EAGAIN, f"fd {fd} stays open: {error}") from None


def _close_waiting() -> None:
    global _threads
    with _lock:
        if _threads == _MOST_THREADS:  # one of those comes to it
            return
        _threads += 1
    while True:
        with _lock:
            # In this order: a close_fd() that this thread is interrupted for starts
            # another one, or adds to what is found here.
            _threads -= 1
            if not _waiting:
                return
            _threads += 1
            fd = _waiting.popleft()
        _close(fd)


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):  # it is closed, whatever its server says
        os.close(fd)


def _after_fork_in_child() -> None:
    global _lock, _threads
    _lock, _threads = threading.RLock(), 0


os.register_at_fork(after_in_child=_after_fork_in_child)
