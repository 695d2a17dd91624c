"""Causes other than truncation: a full filesystem, a broken disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ISOLATED, NAMESPACE, PAGE, possible


def in_full_tmpfs(script: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    mount = [*NAMESPACE, "sh", "-c"]
    tmpfs = f"mount -t tmpfs -o size=64k tmpfs {tmp_path}"
    if not possible(*mount, tmpfs):
        pytest.skip("mounting a tmpfs needs root, or user namespaces")
    return subprocess.run(
        [*mount, f"{tmpfs} && exec {sys.executable} {ISOLATED / script} {tmp_path}"],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_full_tmpfs(tmp_path: Path) -> None:
    done = in_full_tmpfs("full_tmpfs.py", tmp_path)
    size = 3 * PAGE
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        *[f"{PAGE} {size} True"] * 3,
        "b'b' 0",
    ]


def test_full_tmpfs_under_numpy(tmp_path: Path) -> None:
    done = in_full_tmpfs("full_tmpfs_views.py", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"view {PAGE} True",
        f"protected {PAGE} True",
        f"again {PAGE} True",
        "survived",
    ]


def test_disk_error(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a loop device needs root")
    for tool in ("mkfs.ext4", "losetup"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    if not possible("losetup", "--find"):
        pytest.skip("there are no loop devices here")
    done = subprocess.run(
        [*NAMESPACE, sys.executable, str(ISOLATED / "disk_error.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"0 {2 << 20} True\n"
