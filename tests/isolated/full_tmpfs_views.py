"""A hole in a file on a full tmpfs, read and written by NumPy. Runs in a mount
namespace of its own."""

import faulthandler
import os
import sys
from typing import Any

import numpy as np

import safemmap

faulthandler.disable()
folder = sys.argv[1]
PAGE = safemmap.PAGESIZE
path = f"{folder}/sparse"

fd = os.open(path, os.O_RDWR | os.O_CREAT)
os.pwrite(fd, b"a" * PAGE, 0)
os.pwrite(fd, b"c" * PAGE, 2 * PAGE)
with open(f"{folder}/filler", "wb", buffering=0) as filler:
    try:
        while True:
            filler.write(b"x" * PAGE)
    except OSError:
        pass


def expect_hole(array: Any) -> None:
    assert array.sum() == PAGE * (ord("a") + ord("c"))
    array[PAGE : 2 * PAGE] = ord("w")  # reaches nobody
    assert (array[PAGE : 2 * PAGE] == ord("w")).all()


with safemmap.wrap(fd, access=safemmap.ACCESS_WRITE) as m:
    try:
        with m.access(writable=True) as view:
            array = np.frombuffer(view, np.uint8)
            expect_hole(array)
            del array
    except safemmap.BusError as error:
        print("view", error.offset, error.poisoned)
    mapped = np.memmap(path, np.uint8, "r+")
    for whose in "protected", "again":
        try:
            with safemmap.protect(mapped):
                expect_hole(mapped)
        except safemmap.BusError as error:
            print(whose, error.offset, error.poisoned)
    os.unlink(f"{folder}/filler")
    # There is room: what is stored now goes into the file.
    mapped[PAGE : 2 * PAGE] = ord("b")
    m.reset()
    whole = b"a" * PAGE + b"b" * PAGE + b"c" * PAGE
    assert m[:] == mapped.tobytes() == os.pread(fd, 4 * PAGE, 0) == whole
    print("survived")
