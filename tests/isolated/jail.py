"""Shuts itself in, in a mount namespace of its own, as README says, and prints how it
fares. Arguments: a folder, and whether there is to be a /proc in it ("proc" or not)."""

import builtins
import mmap as standard
import os
import subprocess
import sys

import safemmap
from safemmap import *  # noqa: F403
from safemmap._commands import doctor

folder, proc = sys.argv[1:]
SIZE = 8192
jail = f"{folder}/jail"
os.makedirs(f"{jail}/proc")
os.mkdir(f"{jail}/mount")
with builtins.open(f"{jail}/inside", "wb") as file:
    file.write(b"x" * SIZE)
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", f"{jail}/mount"], check=True)
with builtins.open(f"{jail}/mount/file", "wb") as file:
    file.write(b"x" * SIZE)
subprocess.run(["mount", "-t", "ramfs", "ramfs", "/mnt"], check=True)
with builtins.open("/mnt/file", "wb") as file:
    file.write(b"x" * SIZE)
outside = os.open("/mnt/file", os.O_RDONLY)
sealed = safemmap.memfd(b"x" * SIZE)
if proc == "proc":
    subprocess.run(["mount", "--rbind", "/proc", f"{jail}/proc"], check=True)
os.chroot(jail)
os.chdir("/")


def wrapped(fd: int) -> str:
    try:
        with safemmap.wrap(fd) as m:
            return str(m[:1])
    except OSError as error:
        return str(error)


inside = os.open("/inside", os.O_RDWR)
print("inside", wrapped(inside), sep=": ")
print("mount", wrapped(os.open("/mount/file", os.O_RDONLY)), sep=": ")
print("outside", wrapped(outside), sep=": ")
print("memfd", wrapped(sealed), sep=": ")
mapping = standard.mmap(inside, 0)
try:
    with safemmap.protect(mapping):
        os.ftruncate(inside, 0)
        print(mapping[0])
except OSError as error:
    print("protect", type(error).__name__, error, sep=": ")
print("doctor", int(doctor.run()), sep=": ")
