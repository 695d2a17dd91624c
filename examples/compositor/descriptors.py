"""Descriptors that clients send: to close one can take as long as the client likes.

The kernel closes some on its own, on the thread that reads or closes a connection:
those for which a message had no room, those of a byte out of band that nobody asks for,
and those that lie unread when the connection is closed. So there is always room; such
bytes come with the others; and a connection in which something lies is closed by
another thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket

import safemmap

MOST_IN_A_MESSAGE = 253  # SCM_MAX_FD of Linux
RESERVE = 512  # two such messages, and what we open ourselves


def accept(listener: socket.socket) -> socket.socket:
    connection, _ = listener.accept()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, True)
    return connection


def unread(connection: socket.socket) -> int:
    """How many descriptors lie in it, so that one can part with it before they come."""
    try:
        _, _, flags, _ = connection.recvmsg(1, 0, socket.MSG_PEEK)
        if not flags & socket.MSG_CTRUNC:  # none with what comes next
            return 0
        with open(f"/proc/self/fdinfo/{connection.fileno()}") as file:
            return int(file.read().partition("scm_fds:")[2].split()[0])
    except (OSError, IndexError):  # nothing comes; or Linux is older than 5.6
        return 0


# [receive
def receive(connection: socket.socket, size: int) -> tuple[bytes, list[int]]:
    """At most so many bytes, and all descriptors that came with them.

    :raises OSError: there is nothing, or no room for more descriptors (``EMFILE``).
    """
    data, fds, flags, _ = socket.recv_fds(
        connection, size, MOST_IN_A_MESSAGE, socket.MSG_CMSG_CLOEXEC
    )
    if flags & socket.MSG_CTRUNC or any(map(is_scarce, fds)):
        for fd in fds:
            close_fd(fd)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return data, fds


def is_scarce(fd: int) -> bool:
    """Whether the next message might not be received whole: a new descriptor has the
    lowest number that is free."""
    return fd >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVE


# receive]


# [part_with
def part_with(connection: socket.socket) -> None:
    """Close it, without waiting for whoever is behind what lies unread in it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)  # nothing comes any more
        if not connection.recv(1, socket.MSG_PEEK):
            connection.close()
            return
    close_fd(connection.detach())


# part_with]


def close_fd(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):  # no thread can be started
        safemmap.close_fd(fd)
