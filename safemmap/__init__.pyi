# isort: skip_file
# The standard module's names, but for `mmap`: mypy takes the first one that it meets,
# pyright the last.
from safemmap._core import mmap as mmap
from safemmap._standard import *  # type: ignore[assignment]  # noqa: F403
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
