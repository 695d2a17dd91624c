"""Which filesystem a descriptor is on, found out without asking that filesystem.

fstat(2), fstatfs(2) and close(2) all send a question to the server of a FUSE file and
wait for the answer, in a sleep that SIGKILL does not end. So none of them may be the
first thing that is done to the descriptor of a peer. What is done here is answered by
the kernel from its own memory: whether a file can have seals; the number of its mount,
see proc_pid_fdinfo(5); the type of that mount, see proc_pid_mountinfo(5).

Types are those of /proc/filesystems, the ``name`` in the ``file_system_type`` of each
in Linux' mm/ and fs/. Both tables list what is admitted: a type that nobody has
thought of is refused.
"""

from __future__ import annotations

import errno
import os
import re

from safemmap._errors import SealError
from safemmap._seals import get_seals

__all__ = ["check_filesystem", "check_name", "is_on_disk"]

#: Pages come from memory (and swap). A regular file on the first two can have seals.
_MEMORY = frozenset({"tmpfs", "hugetlbfs", "devtmpfs", "ramfs"})

#: Pages come from a device of this machine. Not here: FUSE in all its forms (fuse,
#: fuse.*, fuseblk), what reaches other hosts (nfs, nfs4, cifs, smb3, ceph, afs, coda,
#: orangefs, lustre), the host of a virtual machine (9p, virtiofs, vboxsf), clusters,
#: whose locks other hosts hold (gfs2, ocfs2), and ecryptfs, which lies on any of them.
_DISK = frozenset(
    {
        "adfs", "affs", "bcachefs", "befs", "bfs", "btrfs", "cramfs", "efs", "erofs",
        "exfat", "ext2", "ext3", "ext4", "f2fs", "hfs", "hfsplus", "hpfs", "iso9660",
        "jffs2", "jfs", "minix", "msdos", "nilfs2", "ntfs", "ntfs3", "omfs", "qnx4",
        "qnx6", "reiserfs", "romfs", "squashfs", "ubifs", "udf", "ufs", "vfat", "xfs",
        "zfs", "zonefs",
        # Its layers may be on any of the above, or below: but a mount that is found
        # here was made by whoever rules this process's mount namespace.
        "overlay",
    }
)  # fmt: skip

_ADMITTED = {
    "memory": (_MEMORY, "files in memory"),
    "local": (_MEMORY | _DISK, "memory and the disks of this machine"),
}


def check_name(filesystems: str) -> None:
    """Raise ValueError if `filesystems` is not a choice there is."""
    if filesystems not in (*_ADMITTED, "any"):
        raise ValueError(
            "wrap takes 'memory', 'local' or 'any' for filesystems, "
            f"not {filesystems!r}"
        )


def check_filesystem(fd: int, filesystems: str) -> None:
    """Raise OSError (``EOPNOTSUPP``) if `fd` is on none that `filesystems` admits.

    Lets pass what is on no filesystem at all, such as a pipe.
    """
    if filesystems == "any" or _has_seals(fd):
        return
    types, described = _ADMITTED[filesystems]
    try:
        found = _type_of(fd)
        if found in types or not _has_path(fd):
            return
    except OSError as error:
        raise _refusal(
            fd, f"cannot be looked up in /proc ({error.strerror})", described
        ) from error
    if found is None:
        where = "on a mount out of sight: in another mount namespace, or unmounted"
    else:
        where = f"on a filesystem of type {found}"
    raise _refusal(fd, f"is {where}", described)


def is_on_disk(fd: int) -> bool:
    """:raises OSError: that cannot be looked up."""
    return _type_of(fd) in _DISK


def _refusal(fd: int, finding: str, described: str) -> OSError:
    return OSError(
        errno.EOPNOTSUPP,
        f"fd {fd} {finding}; only {described} are admitted, because a page fault "
        "elsewhere can wait for a server for ever; filesystems='local' admits files on "
        "local disks, and 'any' whatever there is",
    )


def _has_seals(fd: int) -> bool:
    try:
        get_seals(fd)
    except SealError:
        return False
    return True


def _type_of(fd: int) -> str | None:
    # Mounts belong to the thread: unshare(2) may have given it its own.
    with open(f"/proc/thread-self/fdinfo/{fd}", "rb") as file:
        (mount,) = re.findall(rb"^mnt_id:\s*(\d+)$", file.read(), re.MULTILINE)
    with open("/proc/thread-self/mountinfo", "rb") as file:
        row = re.search(rb"^%b .*? - (\S+) " % mount, file.read(), re.MULTILINE)
    return row and os.fsdecode(row[1])


def _has_path(fd: int) -> bool:
    """Whether there is a file; the rest is called ``pipe:[1]`` and the like."""
    return os.readlink(f"/proc/thread-self/fd/{fd}").startswith("/")
