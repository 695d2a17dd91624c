"""Meets a SIGBUS that is not safemmap's. Arguments: what happens, and what lives.

Prints "survived" if it does.
"""

import faulthandler
import mmap as standard
import os
import resource
import signal
import sys
import threading
import warnings

import safemmap

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
faulthandler.disable()
# On a machine that is slow, a warning comes before the program asks.
warnings.simplefilter("ignore", safemmap.FaultWarning)
what, alive = sys.argv[1:]
PAGE = safemmap.PAGESIZE


def file_of(size: int) -> int:
    fd = os.memfd_create("foreign")
    os.ftruncate(fd, size)
    return fd


kept = []
if alive in ("mapping", "recovered", "guard"):
    fd = file_of(64 * 1024 * PAGE if alive == "guard" else PAGE)
    kept.append(safemmap.mmap(fd, 0))
if alive == "recovered":
    os.ftruncate(fd, 0)
    for _ in range(1000):
        try:
            kept[0][0]
        except safemmap.BusError:
            continue
        sys.exit("no BusError")
if alive == "guard":
    # A copy of 256 MiB is under way on another thread, again and again.
    copying = threading.Event()

    def copy() -> None:
        while True:
            copying.set()
            kept[0].find(b"x")

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    copying.wait()

if alive == "faulthandler":
    fd = file_of(PAGE)
    kept.append(safemmap.mmap(fd, 0))
    for _ in range(20):
        faulthandler.enable()
        kept.append(safemmap.mmap(fd, 0))  # goes back on top
        faulthandler.disable()

if what == "fault":
    victim = file_of(PAGE)
    foreign = standard.mmap(victim, PAGE)
    os.ftruncate(victim, 0)
    print(foreign[0])
elif what == "kill":
    os.kill(os.getpid(), signal.SIGBUS)
elif what == "raise":
    signal.raise_signal(signal.SIGBUS)
elif what == "pthread_kill":
    signal.pthread_kill(threading.get_ident(), signal.SIGBUS)
elif what == "kill to thread":
    signal.pthread_kill(thread.ident or 0, signal.SIGBUS)
    signal.pause()
elif what == "nothing":
    print("survived")
