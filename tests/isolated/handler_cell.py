"""One cell of the table of handlers. Arguments: whose handler, what happens in which
order (several of STEPS), the SIGBUS that comes then (one of SIGNALS), the library of
C handlers.

Prints what the handler is told, "recovered" for faults of ours that ended as they
should, and "alive" after a SIGBUS of somebody else's.
"""

import ctypes
import faulthandler
import mmap as standard
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable

import wayland_pool

import safemmap

PAGE = safemmap.PAGESIZE
BULK = 1 << 20
GONE = BULK + 321
OPERATIONS_BETWEEN_LOOKS = 64
TIME_BETWEEN_LOOKS = 0.0001

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_CPU, (2, 2))  # seconds, if it faults for ever
faulthandler.disable()  # PYTHONFAULTHANDLER=1
# On a busy machine it may take its time to ask for a fault.
warnings.simplefilter("ignore", safemmap.FaultWarning)
handler, order, what, library = sys.argv[1:]
neighbours = ctypes.CDLL(library)
steps = order.split()


def say(word: str) -> None:
    print(word, flush=True)


# ---- Handlers ------------------------------------------------------------------------


def install_faulthandler() -> None:
    faulthandler.disable()  # once enabled it stays where it is
    faulthandler.enable()


def install_libwayland() -> None:
    pools.touch(0)


def remove_libwayland() -> None:
    """It goes when it meets a fault that is not in its pool."""
    meet_our_fault()


def install_signal() -> None:
    def called(signo: int, frame: object) -> None:
        say(f"signal.signal: signal {signo:d}")

    signal.signal(signal.SIGBUS, called)


def remove_signal() -> None:
    signal.signal(signal.SIGBUS, signal.SIG_DFL)


def install_neighbour() -> None:
    assert neighbours.neighbour_install(handler.encode()) == 0


def remove_neighbour() -> None:
    neighbours.neighbour_remove()


if handler == "libwayland":
    pools = wayland_pool.Pools(PAGE, 2)

install, remove = {
    "faulthandler": (install_faulthandler, faulthandler.disable),
    "libwayland": (install_libwayland, remove_libwayland),
    "signal.signal": (install_signal, remove_signal),
}.get(handler, (install_neighbour, remove_neighbour))


# ---- Steps ---------------------------------------------------------------------------

mapping: safemmap.mmap
viewed: safemmap.mmap
view: memoryview


def map_with_a_page_gone() -> safemmap.mmap:
    fd = os.memfd_create("ours")
    os.ftruncate(fd, BULK + PAGE)
    mapping = safemmap.mmap(fd, BULK + PAGE)
    os.ftruncate(fd, BULK)
    return mapping


def start() -> None:
    """A mapping to operate on, a view of another one, and a first small operation,
    which looks who handles SIGBUS: so the next 63 do not."""
    global mapping, viewed, view
    mapping, viewed = map_with_a_page_gone(), map_with_a_page_gone()
    view = memoryview(viewed)
    assert mapping[0] == 0


def operate() -> None:
    time.sleep(TIME_BETWEEN_LOOKS)
    for _ in range(OPERATIONS_BETWEEN_LOOKS):
        assert mapping[0] == 0


def operate_in_bulk() -> None:
    time.sleep(TIME_BETWEEN_LOOKS)
    assert mapping.find(b"x", 0, BULK) == -1


def enter_scope() -> None:
    with mapping.access(0, PAGE):
        pass


STEPS: dict[str, Callable[[], object]] = {
    "install": install,
    "remove": remove,
    "start": start,
    "look": operate,
    "bulk": operate_in_bulk,
    "scope": enter_scope,
    "export": lambda: memoryview(mapping).release(),
    "create": map_with_a_page_gone,
}


# ---- The SIGBUS ----------------------------------------------------------------------


def meet_our_fault() -> None:
    try:
        mapping[GONE]
    except safemmap.BusError as error:
        assert error.offset == GONE
    else:
        sys.exit("no BusError")


def our_fault_under_a_guard() -> None:
    for _ in range(3):
        meet_our_fault()
    say("recovered")


def our_fault_under_a_view() -> None:
    assert view[GONE] == 0
    try:
        viewed.check()
    except safemmap.BusError as error:
        assert error.poisoned
    else:
        sys.exit("not poisoned")
    say("recovered")


def ours_again() -> None:
    """Whatever came, we are still there, as soon as we have looked."""
    say("alive")
    if "start" in steps:
        operate()
        our_fault_under_a_guard()


def foreign_fault() -> None:
    fd = os.memfd_create("foreign")
    os.ftruncate(fd, PAGE)
    foreign = standard.mmap(fd, PAGE)
    os.ftruncate(fd, 0)
    at = GONE - BULK
    start = ctypes.addressof(ctypes.c_char.from_buffer(foreign))
    ctypes.c_void_p.in_dll(neighbours, "neighbour_address").value = start + at
    assert foreign[at] == 0
    ours_again()


def kill_from(sender: int) -> None:
    ctypes.c_int.in_dll(neighbours, "neighbour_sender").value = sender


def kill_by_ourselves() -> None:
    kill_from(os.getpid())
    os.kill(os.getpid(), signal.SIGBUS)
    ours_again()


def kill_from_outside() -> None:
    # Some versions count threads that began after the fork, gh-137109.
    warnings.filterwarnings("ignore", "This process", DeprecationWarning)
    ready, go = os.pipe()
    target = os.getpid()
    sender = os.fork()
    if sender == 0:
        os.close(go)
        if os.read(ready, 1):
            os.kill(target, signal.SIGBUS)
        os._exit(0)
    kill_from(sender)
    os.write(go, b"!")
    assert os.waitpid(sender, 0) == (sender, 0)
    ours_again()


def fault_in_its_pool() -> None:
    """libwayland's own, ours, and its own."""
    for index in (0, 1):
        assert pools.read_what_is_gone(index) == 0
        say("libwayland: recovered")
        our_fault_under_a_guard()


SIGNALS: dict[str, Callable[[], object]] = {
    "guard": our_fault_under_a_guard,
    "view": our_fault_under_a_view,
    "fault": foreign_fault,
    "kill": kill_by_ourselves,
    "kill from outside": kill_from_outside,
    "fault in its pool": fault_in_its_pool,
}

for step in steps:
    STEPS[step]()
SIGNALS[what]()
