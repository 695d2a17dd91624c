"""Memory of multiprocessing's whose file is truncated, under protection."""

import os
import resource
import sys
from collections.abc import Iterator
from multiprocessing import Array, RawArray, heap
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import safemmap

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
SIZE = 1 << 20


def objects() -> Iterator[tuple[str, Any, Any, int]]:
    """A name, the object, the bytes in it, and a descriptor of the file behind it."""
    shared = SharedMemory(create=True, size=SIZE)
    yield "SharedMemory", shared, shared.buf, shared._fd  # type: ignore[attr-defined]
    shared.unlink()
    shared.close()
    for kind in (Array, RawArray):
        array = kind("B", SIZE)
        *_, arena = heap.BufferWrapper._heap._arenas  # type: ignore[attr-defined]
        yield kind.__name__, array, array, arena.fd


for name, obj, content, fd in objects():
    size = os.fstat(fd).st_size
    try:
        with safemmap.protect(obj):
            if name == "SharedMemory":
                try:
                    obj.close()
                except BufferError:
                    pass
                else:
                    sys.exit("it was closed under protection")
            os.ftruncate(fd, 4096)
            assert not any(content[5000:])
    except safemmap.BusError:
        print(name)
    else:
        sys.exit("no BusError")
    os.ftruncate(fd, size)
