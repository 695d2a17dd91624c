"""resize grows mappings while another thread reads and exports them all the time."""

import contextlib
import os
import sys
import threading

import safemmap

PAGE = safemmap.PAGESIZE
SIZE = 64 * PAGE
sys.setswitchinterval(1e-6)
fd = os.memfd_create("resized")
os.ftruncate(fd, SIZE)
current = safemmap.mmap(fd, SIZE)
stop = threading.Event()


def read() -> None:
    while not stop.is_set():
        with contextlib.suppress(ValueError):
            assert len(current[0:SIZE]) == SIZE
        with contextlib.suppress(ValueError), memoryview(current) as view:
            assert view[0] == view[SIZE - 1] == 0


threads = [threading.Thread(target=read) for _ in range(2)]
for thread in threads:
    thread.start()
resized = 0
for _ in range(3000):
    os.ftruncate(fd, SIZE)
    current = safemmap.mmap(fd, SIZE)
    in_the_way = safemmap.mmap(-1, PAGE)
    with contextlib.suppress(BufferError):
        current.resize(SIZE + 400 * PAGE)
        resized += 1
    in_the_way.close()
stop.set()
for thread in threads:
    thread.join()
assert resized > 0
print("survived")
