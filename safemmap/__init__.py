"""Memory-mapped files that outlive their peers.

A mapping of a file that somebody else can truncate raises `BusError` here, where
the standard ``mmap`` has the process killed by SIGBUS. `mmap` is a drop-in for
``mmap.mmap``; `wrap` takes a file descriptor from an untrusted peer, and `memfd` makes
one that its receiver can trust.
"""

from safemmap import handler as handler
from safemmap._core import Protected as Protected
from safemmap._core import mmap as mmap
from safemmap._errors import BusCode as BusCode
from safemmap._errors import BusError as BusError
from safemmap._errors import Fault as Fault
from safemmap._errors import FaultWarning as FaultWarning
from safemmap._errors import SealError as SealError
from safemmap._protect import protect as protect
from safemmap._seals import Seal as Seal
from safemmap._seals import add_seals as add_seals
from safemmap._seals import get_seals as get_seals
from safemmap._seals import memfd as memfd

# (Type checkers do not see that this module takes its own `mmap` away again.)
from safemmap._standard import *  # type: ignore[assignment]  # noqa: F403
from safemmap._watch import Faults as Faults
from safemmap._watch import fault_fd as fault_fd
from safemmap._watch import faults as faults
from safemmap._wrap import wrap as wrap

__version__ = "0.1.0"
# For help(). (Type checkers know from the lines above.)
globals()["__all__"] = [name for name in dir() if not name.startswith("_")]
