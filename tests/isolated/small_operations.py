"""Small operations between two calls of getppid(2), which nobody else makes
here: marks for who traces the system calls. Prints how many microseconds passed
between them. Arguments: how many, how long to pause before each 64 of them (in
seconds, 0 for not at all), the protection, and whether they meet a page that is
"gone"."""

import os
import sys
import time
from collections.abc import Callable

import safemmap

count, pause = int(sys.argv[1]), float(sys.argv[2])
fd = os.memfd_create("file")
os.ftruncate(fd, safemmap.PAGESIZE)
m = safemmap.mmap(fd, safemmap.PAGESIZE, protection=sys.argv[3])  # type: ignore[arg-type]

OPERATIONS: list[Callable[[int], object]] = [
    lambda at: m[at],
    lambda at: m[at : at + 64],
    lambda at: m.__setitem__(at, 1),
    lambda at: m.find(b"xyz", 0, 64),
]

gone = sys.argv[4] == "gone"
if gone:
    os.ftruncate(fd, 0)

os.getppid()
start = time.monotonic()
for i in range(count // 4):
    if pause and i % 16 == 0:
        time.sleep(pause)
    for operation in OPERATIONS:
        try:
            operation(i % 100)
        except safemmap.BusError:
            assert gone
        else:
            assert not gone
passed = time.monotonic() - start
os.getppid()
print(int(passed * 1e6))
