"""A forked worker puts a handler of its own above the library's, as torch's DataLoader
workers do, and then uses a mapping of its parent's. Arguments: how many operations the
parent has done, the library of C handlers."""

import ctypes
import os
import sys

import safemmap

operations, library = int(sys.argv[1]), ctypes.CDLL(sys.argv[2])
fd = os.memfd_create("file")
os.ftruncate(fd, 2 * safemmap.PAGESIZE)
mapping = safemmap.mmap(fd, 2 * safemmap.PAGESIZE)
os.ftruncate(fd, safemmap.PAGESIZE)
for _ in range(operations):
    assert mapping[0] == 0

worker = os.fork()
if worker == 0:
    assert library.neighbour_install(b"never chains") == 0
    try:
        mapping[safemmap.PAGESIZE]
    except safemmap.BusError:
        os._exit(0)
    os._exit(1)
_, status = os.waitpid(worker, 0)
print(os.waitstatus_to_exitcode(status))
