"""Run under valgrind: maps, reads, writes, faults and closes, a few times over."""

import os

import safemmap

PAGE = safemmap.PAGESIZE

for _ in range(3):
    fd = os.memfd_create("memcheck")
    os.write(fd, b"spam\n" * PAGE)
    with safemmap.mmap(fd, 0) as m, safemmap.wrap(fd) as wrapped:
        assert m[:5] == wrapped[:5] == b"spam\n"
        assert m.find(b"m\ns") == 3 and m.readline() == b"spam\n"
        m[10:20:2] = b"eggs!"
        m.move(0, 10, 10)
        os.ftruncate(fd, PAGE)
        for operation in (
            lambda: m[:],
            lambda: m[PAGE],
            lambda: m.find(b"absent"),
            lambda: m.__setitem__(slice(PAGE, 2 * PAGE), bytes(PAGE)),
            lambda: wrapped[2 * PAGE :: 7],
        ):
            try:
                operation()
            except safemmap.BusError:
                pass
            else:
                raise AssertionError("no fault")
    os.close(fd)
print("done")
