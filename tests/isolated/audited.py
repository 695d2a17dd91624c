"""wrap() where an audit hook of the program's forbids it to map anything.

Prints the exception.
"""

from __future__ import annotations

import os
import sys

import safemmap


def forbid(event: str, arguments: tuple[object, ...]) -> None:
    if event == "mmap.__new__":
        raise PermissionError(1, "policy")


fd = os.memfd_create("file")
os.ftruncate(fd, safemmap.PAGESIZE)
sys.addaudithook(forbid)
before = os.listdir("/proc/self/fd")
try:
    safemmap.wrap(fd)
except OSError as error:
    print(repr(error), os.listdir("/proc/self/fd") == before)
