"""libwayland-server, which installs its SIGBUS handler late, and only once."""

from __future__ import annotations

import ctypes.util

import pytest
from conftest import on_glibc, run_isolated

pytestmark = pytest.mark.skipif(
    not on_glibc or ctypes.util.find_library("wayland-server") is None,
    reason="libwayland-server is not on this machine, or not for this C library",
)


@pytest.mark.parametrize(
    "case",
    [
        "loaded_before",
        "loaded_before_a_scope",
        "loaded_before_an_export",
        "while_a_buffer_is_accessed",
        "without_descriptors",
        "nothing_is_left_behind",
    ],
)
def test_its_handler_is_installed_first(case: str) -> None:
    done = run_isolated("wayland_first.py", case)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
