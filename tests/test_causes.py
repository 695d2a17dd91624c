"""Causes other than truncation: a full filesystem, a broken disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ISOLATED, NAMESPACE, PAGE, possible

import safemmap
from safemmap import BusError, testing


@pytest.fixture
def full(new_fault_source: Callable[..., testing.FullTmpfs]) -> testing.FullTmpfs:
    """Of its two pages the second is a hole."""
    file = new_fault_source(testing.FullTmpfs, size=2 * PAGE)
    file.strike()
    return file


def test_full_tmpfs(full: testing.FullTmpfs) -> None:
    with safemmap.wrap(full.fd, access=safemmap.ACCESS_WRITE, filesystems="any") as m:
        calls: list[Callable[[], object]] = [
            lambda: m[:],
            lambda: m.write(b"b" * 2 * PAGE),
            lambda: m.find(b"\0"),
        ]
        for call in calls:
            with pytest.raises(BusError, match="cannot provide") as caught:
                call()
            assert (caught.value.offset, caught.value.file_size) == (PAGE, 2 * PAGE)
        assert m.tell() == 0
        full.restore()
        m[PAGE:] = b"b" * PAGE
        assert (m[PAGE], os.pread(full.fd, 1, PAGE)) == (ord("b"), b"b")


def test_full_tmpfs_under_numpy(full: testing.FullTmpfs) -> None:
    np = pytest.importorskip("numpy", reason="needs NumPy")
    kept = sum(full.data[:PAGE])

    def expect_hole(array: Any) -> None:
        assert array.sum() == kept
        array[PAGE : 2 * PAGE] = ord("w")  # reaches nobody
        assert (array[PAGE : 2 * PAGE] == ord("w")).all()

    with safemmap.wrap(full.fd, access=safemmap.ACCESS_WRITE, filesystems="any") as m:
        with pytest.raises(BusError) as caught, m.access(writable=True) as view:
            array = np.frombuffer(view, np.uint8)
            expect_hole(array)
            del array
        assert (caught.value.offset, caught.value.poisoned) == (PAGE, True)
        mapped = np.memmap(f"/proc/self/fd/{full.fd}", np.uint8, "r+")
        for _ in range(2):
            with pytest.raises(BusError) as caught, safemmap.protect(mapped):
                expect_hole(mapped)
            assert (caught.value.offset, caught.value.poisoned) == (PAGE, True)
        del caught  # which would keep all of this alive for a while
        full.restore()
        # There is room: what is stored now goes into the file.
        mapped[PAGE:] = ord("b")
        m.reset()
        whole = full.data[:PAGE] + b"b" * PAGE
        assert m[:] == mapped.tobytes() == os.pread(full.fd, 3 * PAGE, 0) == whole


def test_disk_error(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a loop device needs root")
    for tool in ("mkfs.ext4", "losetup"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    if not possible("losetup", "--find"):
        pytest.skip("there are no loop devices here")
    if not possible(*NAMESPACE, "true"):
        pytest.skip("needs a mount namespace")
    done = subprocess.run(
        [*NAMESPACE, sys.executable, str(ISOLATED / "disk_error.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"0 {2 << 20} True\n"
