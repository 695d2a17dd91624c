"""Looks for memory in objects of no library, and imports none for it."""

import sys

import safemmap

before = set(sys.modules)
safemmap.protect(bytearray(9)).close()
try:
    safemmap.protect(object())
except TypeError:
    pass
else:
    sys.exit("not refused")
imported = {name.partition(".")[0] for name in set(sys.modules) - before}
for name in ("numpy", "pandas", "polars", "pyarrow", "torch", "dask", "ctypes"):
    if name in imported:
        sys.exit(f"{name} was imported")
