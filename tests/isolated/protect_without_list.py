"""protect() where the list of mappings can be read no more, at its first look or at its
second: nothing stays registered over memory that is somebody else's later.

Runs with the library of failing_calls.c loaded before libc, whose path is the argument.
"""

import ctypes
import errno
import gc
import mmap
import resource
import sys

import safemmap
from safemmap import _core

shim = ctypes.CDLL(sys.argv[1])

memory = mmap.mmap(-1, 8 * safemmap.PAGESIZE, flags=mmap.MAP_PRIVATE)
with safemmap.protect(memory):
    pass  # the list is open from here on
before = _core.region_count()
for look in (1, 2):
    # The list is taken for another file, and there is no room to open it anew.
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    shim.arm(b"fstat", look, errno.EIO)
    try:
        safemmap.protect(memory)
        raise AssertionError(look)
    except OSError as error:
        assert error.errno == errno.EMFILE, error
        assert "/proc/self/maps" in str(error), error
    assert shim.disarm(), look
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    gc.collect()
    assert _core.region_count() == before
    with safemmap.protect(memory):
        pass
memory.close()  # nor is it exported any more
print("survived")
