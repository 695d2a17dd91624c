"""A module to take the place of the standard ``mmap``, for programs that do not know
this library.

Its class has the name of the standard one, and its views interrupt a thread that reads
zeros: such a program never calls `check`.
"""

from __future__ import annotations

import mmap as _standard
import sys
import types

from safemmap import _core

__all__ = ["put_in_place"]


class _Mmap(_core.mmap):
    __slots__ = ()
    __doc__ = _standard.mmap.__doc__

    def __repr__(self) -> str:
        return super().__repr__().replace("<mmap ", "<mmap.mmap ", 1)


def _module() -> types.ModuleType:
    _Mmap.__module__ = _standard.__name__
    _Mmap.__name__ = _Mmap.__qualname__ = _standard.mmap.__name__
    module = types.ModuleType(_standard.__name__)
    vars(module).update(vars(_standard), mmap=_Mmap)
    return module


def put_in_place() -> None:
    """Have programs import this from now on."""
    module = sys.modules[_standard.__name__] = _module()
    _core.set_stand_in(module)
