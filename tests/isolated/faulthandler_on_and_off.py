"""faulthandler is switched on and off between and around faults."""

import faulthandler
import os
import sys

import safemmap

order = sys.argv[1]
PAGE = safemmap.PAGESIZE
fd = os.memfd_create("file")
os.ftruncate(fd, 2 * PAGE)

faulthandler.disable()  # PYTHONFAULTHANDLER=1
if order == "before":
    faulthandler.enable()
m = safemmap.mmap(fd, 2 * PAGE)
os.ftruncate(fd, PAGE)
with open(os.devnull, "w") as elsewhere:
    for i in range(100):
        if order == "between":
            faulthandler.enable(elsewhere)
        if order == "between" and i % 3:
            faulthandler.disable()
        for call in (lambda: m[PAGE], lambda: m[: 2 * PAGE], lambda: m.find(b"x")):
            try:
                call()
            except safemmap.BusError as error:
                assert error.offset == PAGE
            else:
                sys.exit("no BusError")
        assert m[:PAGE] == bytes(PAGE)
    faulthandler.disable()
    print("survived")
