"""Memory-mapped files that raise an exception where others die of SIGBUS.

When another process truncates a file, an access to a mapping of it raises `BusError`,
where the standard ``mmap`` has the process killed. Which name you need depends on who
maps the file:

- libraries that the program uses (NumPy, torch, SQLite): `enable`;
- a program that you do not want to change: ``python -m safemmap run program.py``;
- your code, from a file descriptor of an untrusted peer: `wrap`;
- your code, which uses ``mmap.mmap`` already: `mmap`, a drop-in; by the name of a file
  `open`, and `memmap` for an array of NumPy;
- another library, whose buffer you hold: `protect`.

`memfd` makes a file that its receiver can map without a risk.

What is not needed to map a file is loaded when it is first asked for. A program that
shuts itself in (chroot(2), seccomp(2)) before it maps anything does
``from safemmap import *`` first, which loads everything.
"""

from safemmap import _lazy

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
from safemmap import _core
from safemmap._core import Protected as Protected
from safemmap._core import mmap as mmap
from safemmap._errors import Fault as Fault
from safemmap._errors import FaultWarning as FaultWarning
from safemmap._errors import PeerError as PeerError
from safemmap._errors import SealError as SealError
from safemmap._standard import *  # noqa: F403

__version__ = "0.2.0"

# (Type checkers and editors read __init__.pyi.)
__all__ = sorted({name for name in dir() if name[0] != "_"} | {*_lazy.NAMES})


def __getattr__(name: str) -> object:
    if name not in _lazy.NAMES and name not in _lazy.APART:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = _lazy.load(name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_lazy.NAMES, *_lazy.APART})


if _core.switch("SAFEMMAP_ENABLE", False):
    from safemmap import _process

    _process.enable_by_environment()
