"""Which filesystems wrap admits. Runs in a mount namespace of its own.

filesystems.py FOLDER TYPE: mounts one on FOLDER/mount, wraps a file there, and prints
what each choice of `filesystems` makes of it. Ends with 77 where that type cannot be
mounted.
"""

import errno
import os
import subprocess
import sys
from typing import Any

import safemmap

folder, kind = sys.argv[1:]
SIZE = 2 << 20  # a page of hugetlbfs
mount = f"{folder}/mount"
COMMANDS = {
    "overlay": [
        f"mount -t tmpfs tmpfs {folder}",
        f"mkdir {folder}/upper {folder}/lower {folder}/work {mount}",
        f"mount -t overlay -o lowerdir={folder}/lower,upperdir={folder}/upper,"
        f"workdir={folder}/work overlay {mount}",
    ],
    "ext4": [
        f"truncate -s 16M {folder}/image",
        f"mkfs.ext4 -q -F {folder}/image",
        f"mount -o loop {folder}/image {mount}",
    ],
}


def outcome(fd: int, filesystems: Any) -> str:
    try:
        with safemmap.wrap(fd, filesystems=filesystems) as m:
            return "read" if m[:4] == b"spam" else "zeros"
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return f"refused: {error.strerror}"
        return f"admitted: {error.strerror}"


os.mkdir(mount)
for command in COMMANDS.get(kind, [f"mount -t {kind} {kind} {mount}"]):
    try:
        subprocess.run(command.split(), check=True)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        sys.exit(77)
    except subprocess.CalledProcessError:
        sys.exit(77)  # the command has said why
fd = os.open(f"{mount}/file", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, SIZE)
if kind != "hugetlbfs":  # which has no write(2)
    os.pwrite(fd, b"spam", 0)
for choice in ("memory", "local", "any"):
    print(outcome(fd, choice))
# What can be neither found nor asked is not taken on trust.
subprocess.run(["umount", "--lazy", mount], check=True)
print(outcome(fd, "local"))
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/proc"], check=True)
print(outcome(fd, "local"))
os.close(fd)
