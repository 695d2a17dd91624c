"""wrap(filesystems=): files on filesystems whose server could stall us are refused."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    NAMESPACE,
    PAGE,
    LossyFile,
    needs_gil,
    open_fds,
    possible,
    run_isolated,
)

import safemmap

NO_ROOM = (
    "the kernel has no room for the mapping: no huge pages are free for a file of "
    "these, or the process may have no more memory or no more mappings"
)
OUT_OF_SIGHT = "on a mount out of sight: in another mount namespace, or unmounted"

needs_namespace = pytest.mark.skipif(
    not possible(*NAMESPACE, "true"),
    reason="a mount namespace needs root, or user namespaces",
)


@pytest.mark.parametrize("filesystems", ["memory", "local", "any"])
def test_memfd_is_in_memory(lossy: LossyFile, filesystems: Any) -> None:
    with safemmap.wrap(lossy.fd, filesystems=filesystems) as m:
        assert m[:] == lossy.data


def test_unknown_filesystem_is_refused() -> None:
    """The tables are of what is admitted, and that of /proc is in none."""
    fd = os.open("/proc/self/status", os.O_RDONLY)
    for filesystems in ("memory", "local"):
        before = open_fds()
        with pytest.raises(OSError, match="a filesystem of type proc; only") as caught:
            safemmap.wrap(fd, PAGE, filesystems=filesystems)
        assert caught.value.errno == errno.EOPNOTSUPP
        assert open_fds() == before
    with pytest.raises(ValueError, match="the file has only 0"):
        safemmap.wrap(fd, PAGE, filesystems="any")
    os.close(fd)


def test_huge_pages_are_memory() -> None:
    try:
        fd = os.memfd_create("huge", os.MFD_HUGETLB)
    except OSError as error:
        pytest.skip(f"this kernel has no huge pages: {error}")
    os.ftruncate(fd, 2 << 20)
    try:
        safemmap.wrap(fd, filesystems="memory").close()
    except OSError as error:
        assert error.errno == errno.ENOMEM  # none are free
    os.close(fd)


@pytest.mark.parametrize(
    ("kind", "memory"),
    [
        ("tmpfs", True),
        ("ramfs", True),
        ("hugetlbfs", True),
        ("ext4", False),
        ("overlay", False),
    ],
)
@needs_namespace
def test_mounted_filesystem(kind: str, memory: bool, tmp_path: Path) -> None:
    done = run_isolated("filesystems.py", str(tmp_path), kind, inside=NAMESPACE)
    if done.returncode == 77:
        pytest.skip(f"{kind} cannot be mounted: {done.stderr.splitlines()[0]}")
    assert (done.returncode, done.stderr) == (0, "")
    in_memory, local, anywhere, unmounted, without_proc = done.stdout.splitlines()
    can_be_read = (
        (f"admitted: {NO_ROOM}", "zeros") if kind == "hugetlbfs" else ("read",)
    )
    assert local in can_be_read and anywhere in can_be_read
    if memory:
        assert in_memory in can_be_read
    else:
        assert f"is on a filesystem of type {kind}; only files in mem" in in_memory
    if kind in ("tmpfs", "hugetlbfs"):  # seals tell
        assert unmounted in can_be_read and without_proc in can_be_read
    else:
        assert unmounted.startswith("refused: ") and OUT_OF_SIGHT in unmounted
        assert without_proc.startswith("refused: ") and "/proc (" in without_proc


@needs_namespace
def test_server_that_never_answers(tmp_path: Path) -> None:
    """Refused while the server is silent, which a call of fstat would wait for."""
    if not possible(sys.executable, "-c", "import mfusepy"):
        pytest.skip("needs mfusepy and libfuse")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse is not there, or not for this user")
    done = run_isolated("stalling_fuse.py", str(tmp_path), inside=NAMESPACE)
    assert (done.returncode, done.stderr) == (0, "")
    content, memory, local, *unmounted, closed, waited = done.stdout.splitlines()
    assert content == "b'xxxx'"
    for line in (memory, local):
        assert line.startswith(f"{errno.EOPNOTSUPP} True fd ")
        assert "is on a filesystem of type fuse; only " in line
    assert len(unmounted) == 2
    for line in unmounted:
        assert line.startswith(f"{errno.EOPNOTSUPP} True fd ") and OUT_OF_SIGHT in line
    assert (closed, waited) == ("close_fd True", "fstat False")


@needs_gil
@needs_namespace
class TestChroot:
    """A process in a folder that is no mount point."""

    def jailed(self, tmp_path: Path, proc: str) -> dict[str, str]:
        done = run_isolated("jail.py", str(tmp_path), proc, inside=NAMESPACE)
        assert (done.returncode, done.stderr) == (0, "")
        lines = [line.partition(": ") for line in done.stdout.splitlines()]
        return {name.strip(): text for name, _, text in lines} | {"": done.stdout}

    def test_with_proc(self, tmp_path: Path) -> None:
        found = self.jailed(tmp_path, "proc")
        assert found["inside"] == found["mount"] == found["memfd"] == "b'x'"
        assert OUT_OF_SIGHT in found["outside"]
        assert "outside the root directory" in found["outside"]
        assert "filesystems='any' admits" in found["outside"]
        assert "'local'" not in found["outside"]  # which it was
        assert found["protect"].startswith("BusError: ")
        assert found["doctor"] == "0"
        assert "the root directory is no mount point" in found[""]

    def test_without_proc(self, tmp_path: Path) -> None:
        found = self.jailed(tmp_path, "no proc")
        assert found["memfd"] == "b'x'"
        for name in ("inside", "outside"):
            assert "cannot be looked up in /proc (No such file" in found[name]
            assert "'local'" not in found[name]
        assert found["protect"].startswith("FileNotFoundError: ")
        assert "mount /proc" in found["protect"]
        assert found["doctor"] == "1"
        assert "PROBLEM protect() cannot be used" in found[""]
        assert "PROBLEM wrap() cannot tell where a file lies" in found[""]
