"""The module, and a C library that has the core too."""

import ctypes
import errno
import faulthandler
import mmap
import os
import sys
import warnings

path, first = sys.argv[1:]


class Region(ctypes.Structure):
    _fields_ = (
        ("start", ctypes.c_size_t),
        ("end", ctypes.c_size_t),
        ("page_size", ctypes.c_size_t),
        ("protection", ctypes.c_int),
        ("fd", ctypes.c_int),
        ("offset", ctypes.c_long),
        ("put_back", ctypes.c_bool),
        ("withdrawable", ctypes.c_bool),
        ("name", ctypes.c_char * 32),
        ("rest", ctypes.c_char * 512),
    )


if first == "library":
    library = ctypes.CDLL(path)
    import safemmap
else:
    import safemmap

    library = ctypes.CDLL(path)
faulthandler.disable()
warnings.simplefilter("error", RuntimeWarning)
warnings.simplefilter("ignore", safemmap.FaultWarning)

PAGE = safemmap.PAGESIZE
fd = os.memfd_create("watched by both")
os.write(fd, b"x" * 4 * PAGE)
with safemmap.mmap(fd, 4 * PAGE) as m:
    view = memoryview(m)
    start = ctypes.addressof(ctypes.c_char.from_buffer(m))
    region = Region(start, start + 4 * PAGE, PAGE, mmap.PROT_READ, fd, name=b"C")
    assert library.safemmap_install() == 0
    assert library.safemmap_region_add(ctypes.byref(region)) == 0
    installs = safemmap.handler.status().reinstalls
    for _ in range(1000):
        assert library.safemmap_install() == 0
        assert m[5] == ord("x")
    assert safemmap.handler.status().reinstalls == installs
    assert safemmap.handler.status().on_top

    os.ftruncate(fd, PAGE)
    assert view[2 * PAGE] == 0
    assert m.faulted
    assert library.safemmap_region_poisoned(ctypes.byref(region)) & 1
    found = sorted((fault.name or "", fault.offset) for fault in safemmap.faults())
    assert found == [("", 2 * PAGE), ("C", 2 * PAGE)], found
    view.release()
    assert library.safemmap_region_remove(ctypes.byref(region)) == 0
print("shared")

# What one wants, the other does not end.
safemmap.enable(on_fault="warn")
assert library.safemmap_process_enable() == 0
assert library.safemmap_uninstall() == -errno.EADDRINUSE
library.safemmap_process_disable()
assert safemmap.is_enabled()
safemmap.disable()
assert not safemmap.is_enabled()
safemmap.handler.uninstall()
assert safemmap.handler.status().installed
assert library.safemmap_uninstall() == 0
assert not safemmap.handler.status().installed
print("ended by the last")
