"""Memory-mapped files that raise an exception where others die of SIGBUS.

When another process truncates a file, an access to a mapping of it raises `BusError`,
where the standard ``mmap`` has the process killed. Which name you need depends on who
maps the file:

- libraries that the program uses (NumPy, torch, SQLite): `enable`;
- a program that you do not want to change: ``python -m safemmap run program.py``;
- your code, from a file descriptor of an untrusted peer: `wrap`;
- your code, which uses ``mmap.mmap`` already: `mmap`, a drop-in;
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

# (Type checkers do not see that this module takes its own `mmap` away again.)
from safemmap._standard import *  # type: ignore[assignment]  # noqa: F403

TYPE_CHECKING = False  # typing.TYPE_CHECKING, which takes longer to import than this
if TYPE_CHECKING:
    from safemmap import handler as handler
    from safemmap._closing import close_fd as close_fd
    from safemmap._codes import BusCode as BusCode
    from safemmap._faults import Faults as Faults
    from safemmap._faults import fault_fd as fault_fd
    from safemmap._faults import faults as faults
    from safemmap._include import get_include as get_include
    from safemmap._process import disable as disable
    from safemmap._process import enable as enable
    from safemmap._process import is_enabled as is_enabled
    from safemmap._protect import protect as protect
    from safemmap._seals import Seal as Seal
    from safemmap._seals import add_seals as add_seals
    from safemmap._seals import get_seals as get_seals
    from safemmap._seals import memfd as memfd
    from safemmap._wrap import wrap as wrap

__version__ = "0.1.0"

# For help(). (Type checkers know from the lines above.)
globals()["__all__"] = sorted(
    {name for name in dir() if not name.startswith("_")} - {"TYPE_CHECKING"}
    | {*_lazy.NAMES}
)


if not TYPE_CHECKING:  # which knows them, and no others

    def __getattr__(name: str) -> object:
        if name not in _lazy.NAMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = _lazy.load(name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_lazy.NAMES})


if _core.switch("SAFEMMAP_ENABLE", False):
    from safemmap import _process

    _process.enable_by_environment()
