"""A signal, whose handler raises, arrives during os.fork(). Argument: when.

Prints what the hooks could not raise, what os.fork() raises, and what is amiss then.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sys
import threading
import warnings

# In C: the next function in Python is interrupted.
strike = functools.partial(ctypes.CDLL(None)["raise"], int(signal.SIGINT))


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def count() -> None:
    print("threads at the fork:", threads())


def lock_is_free() -> bool:
    other = threading.Thread(target=safemmap.disable, daemon=True)
    other.start()
    other.join(20)
    return not other.is_alive()


# Hooks before a fork are called in reverse.
in_warning_thread = sys.argv[1] == "before it"
os.register_at_fork(before=count if in_warning_thread else strike)

import safemmap  # noqa: E402

if in_warning_thread:
    os.register_at_fork(before=strike)
    warnings.simplefilter("ignore", safemmap.FaultWarning)
    fd = os.memfd_create("file")
    os.ftruncate(fd, safemmap.PAGESIZE)
    m = safemmap.mmap(fd, 0)
    os.ftruncate(fd, 0)
    assert memoryview(m)[0] == 0
    safemmap.wrap  # noqa: B018 (loads what loads the rest)
    hash(None)  # starts the thread that warns, for which it waits 0.1 s
else:
    safemmap.enable(on_fault="warn")

sys.unraisablehook = lambda args: print(repr(args.exc_value))
before = threads()
parent = os.getpid()
try:
    os.fork()
except KeyboardInterrupt:
    print("KeyboardInterrupt")
if os.getpid() != parent:
    os._exit(not lock_is_free())
if not in_warning_thread:
    print("threads that are gone:", before - threads())
print("child:", os.wait()[1])
safemmap.faults()
print("free:", lock_is_free(), flush=True)
os._exit(0)
