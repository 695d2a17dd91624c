"""close_fd() is called by itself: on a thread that is in the middle of it, as a signal
handler or a finalizer can. Argument: where."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque

import safemmap
from safemmap import _closing

ends = [end for _ in range(2) for end in os.pipe()]
first, _, second, _ = ends


class Interrupted(deque[int]):
    """Has `second` closed by the function that uses it, once."""

    def interrupt(self) -> None:
        global second
        if second != -1:
            fd, second = second, -1
            safemmap.close_fd(fd)

    def append(self, fd: int) -> None:
        super().append(fd)
        if sys.argv[1] == "caller":
            self.interrupt()

    def __bool__(self) -> bool:
        found = len(self) > 0
        if sys.argv[1] == "closer" and not found:
            self.interrupt()
        return found


_closing._MOST_THREADS = 1
_closing._waiting = Interrupted()
safemmap.close_fd(first)
for fd in first, ends[2]:
    while os.path.exists(f"/proc/self/fd/{fd}"):
        pass
for thread in threading.enumerate():
    if thread is not threading.current_thread():
        thread.join()
print("closed", _closing._threads)
