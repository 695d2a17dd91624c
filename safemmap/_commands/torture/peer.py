"""The peer of storm.py, run as a script: it truncates, grows, punches and rewrites a
file at random.

It fills every page with one byte that is not zero, and says in shared memory what it
does, so that the reader knows which bytes are right. Two counters are odd while
something happens and move on with it: `generation` for every change, `zeroing` for
those in which zeros are the file's true content for a while (a hole, a part that was
grown by ftruncate, the rest of the page in which the file ends). Truncation at a page
edge, growth by pwrite and rewriting never show a zero: where `zeroing` stands still,
every zero is wrong.

Arguments: the descriptors of the file and of the shared memory, and the seed.
"""

from __future__ import annotations

import ctypes
import mmap as standard
import os
import random
import sys
import time

from safemmap.testing._steps import Step, perform

PAGE = standard.PAGESIZE
PAGES = 64
SIZE = PAGES * PAGE
CONTROL_SIZE = PAGE


class Control(ctypes.Structure):
    """Shared memory. (Each is loaded and stored in one piece, and in order on x86;
    elsewhere the system calls between them are barrier enough.)"""

    _fields_ = (
        ("generation", ctypes.c_uint64),
        ("zeroing", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("stop", ctypes.c_uint64),
        ("values", ctypes.c_uint8 * PAGES),
    )

    @classmethod
    def shared(cls, fd: int) -> Control:
        return cls.from_buffer(standard.mmap(fd, CONTROL_SIZE))


class Peer:
    def __init__(self, fd: int, control: Control, seed: str) -> None:
        self.fd = fd
        self.control = control
        self.random = random.Random(seed)

    # ---- What is done to the file ----------------------------------------

    def truncate(self, size: int) -> None:
        os.ftruncate(self.fd, size)
        self.control.size = size

    def fill(self, first: int, last: int) -> None:
        """Also past the end, by a page edge or more at a time."""
        page = first
        while page < last:
            end = min(last, page + self.random.choice((1, 3, PAGES)))
            value = self.random.randrange(1, 256)
            os.pwrite(self.fd, bytes([value]) * (end - page) * PAGE, page * PAGE)
            ctypes.memset(
                ctypes.addressof(self.control.values) + page, value, end - page
            )
            page = end
        self.control.size = max(self.control.size, last * PAGE)

    def punch(self, first: int, last: int) -> None:
        if first < last:
            perform([Step("punch", self.fd, first * PAGE, last * PAGE)])

    # ---- What a change is made of ----------------------------------------

    def shrink(self) -> None:
        self.truncate(self.random.randint(0, self.pages()) * PAGE)

    def shrink_inside_a_page(self) -> None:
        if self.control.size > 0:
            self.truncate(self.random.randint(1, self.control.size))

    def grow(self) -> None:
        """From the page in which the file ends."""
        self.fill(self.pages(), self.random.choice((PAGES, PAGES, PAGES, 40)))

    def grow_by_truncation(self) -> None:
        first = self.pages()
        self.truncate(SIZE)
        self.linger()
        self.fill(first, PAGES)

    def rewrite(self) -> None:
        self.fill(*sorted(self.random.choices(range(self.pages() + 1), k=2)))

    def punch_and_fill(self) -> None:
        first, last = sorted(self.random.choices(range(self.pages() + 1), k=2))
        self.punch(first, last)
        self.linger()
        self.fill(first, last)

    def flicker(self) -> None:
        self.shrink()
        self.fill(self.pages(), PAGES)

    def pages(self) -> int:
        """Those that the file fills."""
        return int(self.control.size) // PAGE

    def linger(self) -> None:
        time.sleep(self.random.choice((0, 0, 1e-4, 5e-4)))

    # ----------------------------------------------------------------------

    ZEROING = (shrink_inside_a_page, grow_by_truncation, punch_and_fill)
    OTHERS = (shrink, grow, rewrite, flicker)

    def change(self) -> None:
        what = self.random.choices(
            self.OTHERS + self.ZEROING, weights=(6, 6, 6, 4, 1, 1, 1)
        )[0]
        if self.random.random() < 0.3:
            what = Peer.grow  # most of the time it is whole
        # What begins inside a page ends with zeros that become data.
        zeroing = what in self.ZEROING or self.control.size % PAGE != 0
        self.control.zeroing += zeroing
        self.control.generation += 1
        what(self)
        self.control.generation += 1
        self.control.zeroing += zeroing

    def run(self) -> None:
        parent = os.getppid()
        while not self.control.stop and os.getppid() == parent:
            for _ in range(self.random.choice((1, 1, 2, 10))):
                self.change()
            time.sleep(self.random.choice((0, 1e-4, 1e-3, 3e-3, 1e-2)))
        self.truncate(0)
        self.fill(0, PAGES)


if __name__ == "__main__":
    Peer(int(sys.argv[1]), Control.shared(int(sys.argv[2])), sys.argv[3]).run()
