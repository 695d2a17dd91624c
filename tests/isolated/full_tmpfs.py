"""A hole in a file on a tmpfs that is full. Runs in a mount namespace of its own."""

import faulthandler
import os
import sys

import safemmap

faulthandler.disable()
folder = sys.argv[1]
PAGE = safemmap.PAGESIZE

fd = os.open(f"{folder}/sparse", os.O_RDWR | os.O_CREAT)
os.pwrite(fd, b"a" * PAGE, 0)
os.pwrite(fd, b"c" * PAGE, 2 * PAGE)
with open(f"{folder}/filler", "wb", buffering=0) as filler:
    try:
        while True:
            filler.write(b"x" * PAGE)
    except OSError:
        pass

with safemmap.wrap(fd, access=safemmap.ACCESS_WRITE) as m:
    for call in (lambda: m[:], lambda: m.write(b"b" * 3 * PAGE), lambda: m.find(b"z")):
        try:
            call()
        except safemmap.BusError as error:
            print(error.offset, error.file_size, "cannot provide" in str(error))
        else:
            print("no BusError")
    os.unlink(f"{folder}/filler")
    m[PAGE : 2 * PAGE] = b"b" * PAGE
    print(m[PAGE : PAGE + 1], m.tell())
