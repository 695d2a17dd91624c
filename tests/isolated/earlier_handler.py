"""A C handler installed before safemmap gets what is not safemmap's.

Builds nothing: the handler is a ctypes callback, which records and then repairs the
mapping so that the faulting instruction can go on.
"""

import ctypes
import faulthandler
import os
import signal
import sys

import safemmap

faulthandler.disable()
PAGE = safemmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    *[ctypes.c_int] * 3,
    ctypes.c_long,
]
SA_SIGINFO, MAP_FIXED = 4, 0x10
SI_USER = 0


class SigInfo(ctypes.Structure):
    _fields_ = [
        ("signo", ctypes.c_int),
        ("errno", ctypes.c_int),
        ("code", ctypes.c_int),
        ("address", ctypes.c_void_p),
    ]


class SigAction(ctypes.Structure):
    _fields_ = [
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    ]


calls: list[tuple[int, int, int]] = []


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.POINTER(SigInfo), ctypes.c_void_p)
def handler(signo, info, context):
    calls.append((signo, info[0].code, info[0].address or 0))
    if info[0].code > 0:
        libc.mmap(info[0].address & -PAGE, PAGE, 3, 0x22 | MAP_FIXED, -1, 0)


action = SigAction(
    handler=ctypes.cast(handler, ctypes.c_void_p).value, flags=SA_SIGINFO
)
assert libc.sigaction(signal.SIGBUS, ctypes.byref(action), None) == 0

ours = os.memfd_create("ours")
os.ftruncate(ours, PAGE)
mapping = safemmap.mmap(ours, PAGE)
os.ftruncate(ours, 0)
for _ in range(3):
    try:
        mapping[0]
    except safemmap.BusError:
        pass
    else:
        sys.exit("no BusError")
assert calls == [], calls

foreign = os.memfd_create("foreign")
address = libc.mmap(None, PAGE, 3, 1, foreign, 0)  # an empty file: every page is gone
assert ctypes.string_at(address + 123, 1) == b"\0"
assert calls == [(signal.SIGBUS, 2, address + 123)], calls

calls.clear()
os.kill(os.getpid(), signal.SIGBUS)
assert [call[:2] for call in calls] == [(signal.SIGBUS, SI_USER)], calls

# And ours is still in force.
try:
    mapping[0]
except safemmap.BusError:
    print("survived")
