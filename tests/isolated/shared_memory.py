"""Protects multiprocessing's shared memory, which another process cuts."""

import contextlib
import faulthandler
import os
import sys
import warnings
from multiprocessing.shared_memory import SharedMemory

import safemmap

faulthandler.disable()
# On a machine that is slow, a warning comes before the program asks.
warnings.simplefilter("ignore", safemmap.FaultWarning)
SIZE = 8 * safemmap.PAGESIZE

memory = SharedMemory(create=True, size=SIZE)
with contextlib.ExitStack() as stack:
    stack.callback(memory.unlink)
    stack.callback(memory.close)
    assert memory.buf is not None
    memory.buf[:] = b"d" * SIZE
    path = f"/dev/shm/{memory.name.lstrip('/')}"
    try:
        with safemmap.protect(memory.buf) as protection:
            os.truncate(path, 100)
            memory.buf[-1] = 7
            assert bytes(memory.buf) == b"d" * 100 + bytes(SIZE - 101) + b"\7"
    except safemmap.BusError as error:
        assert error.offset == SIZE - safemmap.PAGESIZE, error
    else:
        sys.exit("no BusError")
    os.truncate(path, SIZE)
    assert bytes(memory.buf) == b"d" * 100 + bytes(SIZE - 100)
    print("survived")
