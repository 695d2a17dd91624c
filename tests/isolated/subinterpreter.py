"""A second interpreter imports safemmap. Argument: whether the first has done it
before. Prints what the second one says, and "survived"."""

import importlib.util
import os
import sys

if sys.argv[1] == "before":
    import safemmap

# As 3.13 and later call it, and 3.12 and earlier.
NAMES = ["_interpreters", "_xxsubinterpreters"]
name = next((name for name in NAMES if importlib.util.find_spec(name)), None)
if name is None:
    print("no interpreters")
    sys.exit()
interpreters = importlib.import_module(name)

IMPORT = """
try:
    import safemmap
except ImportError as error:
    print("ImportError:", error, flush=True)
else:
    print("imported", flush=True)
"""

interpreter = interpreters.create()
failure = interpreters.run_string(interpreter, IMPORT)
assert failure is None, failure
interpreters.destroy(interpreter)

import safemmap  # noqa: E402

fd = os.memfd_create("file")
os.ftruncate(fd, safemmap.PAGESIZE)
m = safemmap.mmap(fd, safemmap.PAGESIZE)
os.ftruncate(fd, 0)
try:
    m[0]
except safemmap.BusError:
    print("survived")
