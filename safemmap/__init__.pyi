# isort: skip_file
# ruff: noqa: F405
import sys

# The standard module's names, but for `mmap`: mypy takes the first one that it meets,
# pyright the last.
from safemmap._core import mmap as mmap
from mmap import *  # type: ignore[assignment]  # noqa: F403
from safemmap._core import mmap as mmap  # noqa: F811
from safemmap import handler as handler
from safemmap import testing as testing
from safemmap._closing import close_fd as close_fd
from safemmap._codes import BusCode as BusCode
from safemmap._core import BusError as BusError
from safemmap._core import Protected as Protected
from safemmap._errors import Fault as Fault
from safemmap._errors import FaultWarning as FaultWarning
from safemmap._errors import PeerError as PeerError
from safemmap._errors import SealError as SealError
from safemmap._faults import Faults as Faults
from safemmap._faults import fault_fd as fault_fd
from safemmap._faults import faults as faults
from safemmap._faults import watch_faults as watch_faults
from safemmap._include import get_include as get_include
from safemmap._opening import memmap as memmap
from safemmap._opening import open as open
from safemmap._process import disable as disable
from safemmap._process import enable as enable
from safemmap._process import is_enabled as is_enabled
from safemmap._protect import protect as protect
from safemmap._seals import Seal as Seal
from safemmap._seals import add_seals as add_seals
from safemmap._seals import get_seals as get_seals
from safemmap._seals import memfd as memfd
from safemmap._wrap import wrap as wrap

__version__: str

# What a star import brings. `Faults`, `open` and `testing` are asked for by name.
__all__ = [
    "BusCode",
    "BusError",
    "Fault",
    "FaultWarning",
    "PeerError",
    "Protected",
    "Seal",
    "SealError",
    "add_seals",
    "close_fd",
    "disable",
    "enable",
    "fault_fd",
    "faults",
    "get_include",
    "get_seals",
    "handler",
    "is_enabled",
    "memfd",
    "memmap",
    "mmap",
    "protect",
    "watch_faults",
    "wrap",
]
__all__ += [
    "ACCESS_COPY",
    "ACCESS_DEFAULT",
    "ACCESS_READ",
    "ACCESS_WRITE",
    "ALLOCATIONGRANULARITY",
    "MADV_DODUMP",
    "MADV_DOFORK",
    "MADV_DONTDUMP",
    "MADV_DONTFORK",
    "MADV_DONTNEED",
    "MADV_FREE",
    "MADV_HUGEPAGE",
    "MADV_HWPOISON",
    "MADV_MERGEABLE",
    "MADV_NOHUGEPAGE",
    "MADV_NORMAL",
    "MADV_RANDOM",
    "MADV_REMOVE",
    "MADV_SEQUENTIAL",
    "MADV_UNMERGEABLE",
    "MADV_WILLNEED",
    "MAP_ANON",
    "MAP_ANONYMOUS",
    "MAP_DENYWRITE",
    "MAP_EXECUTABLE",
    "MAP_POPULATE",
    "MAP_PRIVATE",
    "MAP_SHARED",
    "MAP_STACK",
    "PAGESIZE",
    "PROT_EXEC",
    "PROT_READ",
    "PROT_WRITE",
    "error",
]
if sys.version_info >= (3, 13):
    __all__ += ["MAP_32BIT", "MAP_NORESERVE"]
if sys.version_info >= (3, 15):
    __all__ += ["MS_ASYNC", "MS_INVALIDATE", "MS_SYNC"]
