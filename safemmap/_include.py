"""get_include(): for building extension modules."""

from __future__ import annotations

import os.path

__all__ = ["get_include"]


def get_include() -> str:
    """The directory of ``safemmap_python.h`` and ``safemmap.h``.

    An extension module that is compiled with it shares this package's signal handler
    and its registry of memory::

        Extension("spam", ["spam.c"], include_dirs=[safemmap.get_include()])

    Cython modules say ``cimport safemmap``.
    """
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "include")
