"""Small operations between two calls of getppid(2), which nobody else makes
here: marks for who traces the system calls. Arguments: how many, and the protection."""

import os
import sys

import safemmap

count = int(sys.argv[1])
fd = os.memfd_create("file")
os.ftruncate(fd, safemmap.PAGESIZE)
m = safemmap.mmap(fd, safemmap.PAGESIZE, protection=sys.argv[2])  # type: ignore[arg-type]

os.getppid()
for i in range(count // 4):
    m[i % 100]
    m[i % 100 : i % 100 + 64]
    m[i % 100] = 1
    m.find(b"x", 0, 64)
os.getppid()
