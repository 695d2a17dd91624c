"""A disk that loses its sectors: a loop device whose backing file is cut."""

import faulthandler
import os
import subprocess
import sys

import safemmap

faulthandler.disable()
folder = sys.argv[1]
SIZE = 2 << 20


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


image, mount = f"{folder}/image", f"{folder}/mount"
os.mkdir(mount)
with open(image, "wb") as file:
    file.truncate(8 << 20)
run("mkfs.ext4", "-q", "-F", image)
run("mount", "-o", "loop", image, mount)
try:
    fd = os.open(f"{mount}/file", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"d" * SIZE)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.truncate(image, 64 << 10)
    with safemmap.wrap(fd) as m:
        try:
            m[:]
        except safemmap.BusError as error:
            print(error.offset, error.file_size, "cannot provide" in str(error))
        else:
            print("no BusError")
    os.close(fd)
finally:
    subprocess.run(["umount", mount], check=True, stderr=subprocess.DEVNULL)
