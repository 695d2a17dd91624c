"""Memory-mapped files that raise an exception where others die of SIGBUS.

When another process truncates a file, an access to a mapping of it raises `BusError`,
where the standard ``mmap`` has the process killed. Who maps the file?

    libraries: NumPy, torch, SQLite     enable, disable, is_enabled
    a program that you do not change    python -m safemmap run program.py
    your code, from a peer's fd         wrap, close_fd
    your code, as with mmap.mmap        mmap (and all the constants of that module)
    your code, by the name of a file    open; memmap for an array of NumPy
    a library whose buffer you hold     protect, which returns a Protected

What goes with these:

    exceptions, and a warning           BusError, PeerError, SealError; FaultWarning
    faults, for event loops             faults, fault_fd, watch_faults; Fault, BusCode
    files that nobody can shrink        memfd, add_seals, get_seals, Seal
    the SIGBUS handler                  handler
    faults on purpose, for tests        testing
    extension modules                   get_include

`help(safemmap.wrap)`, and so on, has the arguments and the exceptions of each.

What is not needed to map a file is loaded when it is first asked for. A program that
shuts itself in (chroot(2), seccomp(2)) before it maps anything does
``from safemmap import *`` first, which loads the rest.
"""

try:
    from safemmap._core import BusError as BusError
except ModuleNotFoundError as error:
    if error.name != "safemmap._core":
        raise
    raise ModuleNotFoundError(
        f"{__path__[0]} holds the sources of safemmap, and no module compiled from "
        "them for this Python: start Python in another folder, if safemmap is "
        "installed, or compile it here (pip install -e .)",
        name=error.name,
    ) from None
from mmap import *  # noqa: F403

from safemmap import _core
from safemmap._core import Protected as Protected
from safemmap._core import mmap as mmap
from safemmap._errors import Fault as Fault
from safemmap._errors import FaultWarning as FaultWarning
from safemmap._errors import PeerError as PeerError
from safemmap._errors import SealError as SealError

__version__ = "0.2.0"

# Public names that are loaded at first use, and where they come from. (Importing the
# package is to cost little more than importing ``mmap``; enumerations, and what needs
# regular expressions or threads, take ten times as long.)
_LAZY = {
    "BusCode": "safemmap._codes",
    "Seal": "safemmap._seals",
    "add_seals": "safemmap._seals",
    "close_fd": "safemmap._closing",
    "disable": "safemmap._process",
    "enable": "safemmap._process",
    "fault_fd": "safemmap._faults",
    "faults": "safemmap._faults",
    "get_include": "safemmap._include",
    "get_seals": "safemmap._seals",
    "handler": "safemmap.handler",
    "is_enabled": "safemmap._process",
    "memfd": "safemmap._seals",
    "memmap": "safemmap._opening",
    "protect": "safemmap._protect",
    "watch_faults": "safemmap._faults",
    "wrap": "safemmap._wrap",
}
# Others, which a star import leaves out.
_APART = {
    "Faults": "safemmap._faults",
    "open": "safemmap._opening",
    "testing": "safemmap.testing",
}

# (Type checkers and editors read __init__.pyi.)
__all__ = sorted({name for name in dir() if name[0] != "_"} | {*_LAZY})


def __getattr__(name: str) -> object:
    if name not in _LAZY and name not in _APART:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from safemmap import _lazy

    value = globals()[name] = _lazy.load(name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_APART})


if _core.switch("SAFEMMAP_ENABLE", False):
    from safemmap import _process

    _process.enable_by_environment()
