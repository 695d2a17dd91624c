"""reset() when the process has as many mappings as it may have."""

import ctypes
import errno
import os

import safemmap

PAGE = safemmap.PAGESIZE
DATA = b"spam" * PAGE * 2

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)

fd = os.memfd_create("file")
os.write(fd, DATA)
m = safemmap.mmap(fd, 0, prot=safemmap.PROT_READ)
os.ftruncate(fd, 0)
with memoryview(m) as view:
    assert view[PAGE] == 0
assert m.faulted
os.pwrite(fd, DATA, 0)
# Neighbours that differ do not merge.
other = os.memfd_create("filler")
os.ftruncate(other, PAGE)
last = 0
while (at := libc.mmap(None, PAGE, 1, 1, other, 0)) != ctypes.c_void_p(-1).value:
    last = at
assert ctypes.get_errno() == errno.ENOMEM
m.reset()
# What follows allocates memory, for which musl's malloc(3) needs a mapping.
assert libc.munmap(ctypes.c_void_p(last), ctypes.c_size_t(16 * PAGE)) == 0
assert m[:] == DATA
print("survived")
