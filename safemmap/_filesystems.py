"""Finds out which filesystem a descriptor is on, without asking that filesystem, and
refuses those whose server could stall us.

fstat(2), fstatfs(2) and close(2) all send a request to the server of a FUSE file and
wait for the answer, in a sleep that SIGKILL does not end. So none of them may be the
first call on the descriptor of a peer. The kernel answers the questions asked here from
its own memory: whether a file can have seals; the number of its mount, see
proc_pid_fdinfo(5); the type of that mount, see proc_pid_mountinfo(5). That file lists
the mounts below the root directory of the process. In a chroot the root itself may lie
in the middle of a mount; we trust the filesystem that the process was put on, and ask
it with statfs(2).

Types are those of /proc/filesystems, the ``name`` in the ``file_system_type`` of each
in Linux' mm/ and fs/. Both tables list what is admitted: a type that nobody has
thought of is refused.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat

from safemmap._core import can_have_seals, filesystem_magic, owned
from safemmap._errors import PeerError

__all__ = [
    "OUT_OF_DESCRIPTORS",
    "check_filesystem",
    "check_name",
    "closes_at_once",
    "is_on_disk",
    "look_at_root",
]

#: The errors of a process, or a machine, that has too many open.
OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)

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

#: What a root directory lies on, by the ``f_type`` of statfs(2).
_ROOTS = {
    0x01021994: "tmpfs", 0x858458F6: "ramfs", 0xEF53: "ext4", 0x58465342: "xfs",
    0x9123683E: "btrfs", 0xF2F52010: "f2fs", 0x794C7630: "overlay", 0x2FC12FC1: "zfs",
    0xCA451A4E: "bcachefs", 0xE0F5E1E2: "erofs", 0x73717368: "squashfs",
    0x3153464A: "jfs", 0x52654973: "reiserfs", 0x3434: "nilfs2", 0x24051905: "ubifs",
    0x72B6: "jffs2", 0x7366746E: "ntfs3", 0x9660: "iso9660",
}  # fmt: skip

#: Bytes of a file: to free those of the last reference takes milliseconds.
_MUCH = 16 << 20

_ADMITTED = {
    "memory": (_MEMORY, "files in memory"),
    "local": (_MEMORY | _DISK, "memory and the disks of this machine"),
}
_NAMES = (*_ADMITTED, "any")


def check_name(filesystems: str) -> None:
    """Raise ValueError if `filesystems` is not a choice there is."""
    if filesystems not in _NAMES:
        raise ValueError(
            "wrap takes 'memory', 'local' or 'any' for filesystems, "
            f"not {filesystems!r}"
        )


def check_filesystem(fd: int, filesystems: str) -> None:
    """Raise PeerError (``EOPNOTSUPP``) if `fd` is on none that `filesystems` admits.

    Lets pass what is on no filesystem at all, such as a pipe.
    """
    if filesystems == "any" or can_have_seals(fd):
        return
    types, _ = _ADMITTED[filesystems]
    try:
        found = _type_of(fd)
        if found in types or not _has_path(fd):
            return
    except OSError as error:
        if error.errno in OUT_OF_DESCRIPTORS:
            raise
        finding = f"cannot be looked up in /proc ({error.strerror})"
        raise _refusal(fd, finding, filesystems) from error
    if found is None:
        finding = (
            "is on a mount out of sight: in another mount namespace, or unmounted, or "
            "outside the root directory of this process"
        )
    else:
        finding = f"is on a filesystem of type {found}"
    raise _refusal(fd, finding, filesystems, found)


def is_on_disk(fd: int) -> bool:
    """:raises OSError: that cannot be looked up."""
    return _type_of(fd) in _DISK


def closes_at_once(fd: int) -> bool:
    """Whether close(2) waits for nobody, and has little to free: it can for the server
    of a file, and for the other end of a socket or a terminal.

    :raises OSError: `fd` is not open (``EBADF``).
    """
    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH:
        return True
    try:
        if not can_have_seals(fd) and not (
            _has_path(fd)  # which takes a fiftieth of the time that the type does
            and _type_of(fd) in _MEMORY | _DISK
        ):
            return False
        found = os.fstat(fd)
        return stat.S_ISREG(found.st_mode) and found.st_blocks * 512 < _MUCH
    except OSError:
        return False


def _refusal(
    fd: int, finding: str, filesystems: str, found: str | None = None
) -> PeerError:
    _, described = _ADMITTED[filesystems]
    wider = "local" if found in _DISK else "any"
    return PeerError(
        errno.EOPNOTSUPP,
        f"fd {fd} {finding}; only {described} are admitted, because a page fault "
        f"elsewhere can wait for a server for ever; filesystems={wider!r} admits it",
    )


def _type_of(fd: int) -> str | None:
    mount = _mount_of(fd)
    listed = _type_of_mount(mount)
    if listed is not None:
        return listed
    found, is_mount_point, root = look_at_root()
    return found if root == mount and not is_mount_point else None


def look_at_root() -> tuple[str, bool, bytes]:
    """The type of the filesystem that the root directory lies on, whether it is a mount
    point, and the number of its mount."""
    own = owned(os.open, "/", os.O_PATH | os.O_CLOEXEC)
    try:
        mount = _mount_of(own.fileno())
        listed = _type_of_mount(mount)
        if listed is not None:
            return listed, True, mount
        magic = filesystem_magic(own.fileno())
    finally:
        own.close()
    return _ROOTS.get(magic, hex(magic)), False, mount


def _mount_of(fd: int) -> bytes:
    # Mounts belong to the thread: unshare(2) may have given it its own.
    with open(f"/proc/thread-self/fdinfo/{fd}", "rb") as file:
        (mount,) = re.findall(rb"^mnt_id:\s*(\d+)$", file.read(), re.MULTILINE)
    return bytes(mount)


def _type_of_mount(mount: bytes) -> str | None:
    with open("/proc/thread-self/mountinfo", "rb") as file:
        row = re.search(rb"^%b .*? - (\S+) " % mount, file.read(), re.MULTILINE)
    return row and os.fsdecode(row[1])


def _has_path(fd: int) -> bool:
    """Whether there is a file; the rest is called ``pipe:[1]`` and the like."""
    return os.readlink(f"/proc/thread-self/fd/{fd}").startswith("/")
