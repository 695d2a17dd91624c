"""Small operations between two calls of getppid(2), which nobody else makes
here: marks for who traces the system calls. Prints how many microseconds passed
between them. Arguments: how many, how long to pause before each 64 of them (in
seconds, 0 for not at all), and the protection."""

import os
import sys
import time

import safemmap

count, pause = int(sys.argv[1]), float(sys.argv[2])
fd = os.memfd_create("file")
os.ftruncate(fd, safemmap.PAGESIZE)
m = safemmap.mmap(fd, safemmap.PAGESIZE, protection=sys.argv[3])  # type: ignore[arg-type]

os.getppid()
start = time.monotonic()
for i in range(count // 4):
    if pause and i % 16 == 0:
        time.sleep(pause)
    m[i % 100]
    m[i % 100 : i % 100 + 64]
    m[i % 100] = 1
    m.find(b"x", 0, 64)
passed = time.monotonic() - start
os.getppid()
print(int(passed * 1e6))
