"""Files of real huge pages, which root can have the system set aside."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import run_isolated

SETTING = Path("/proc/sys/vm/nr_hugepages")
PAGES = 4


@pytest.fixture
def huge_pages() -> Iterator[None]:
    """Set aside here, and not by the child: that one may die."""
    try:
        lock = SETTING.open("r+")
    except OSError as error:
        pytest.skip(f"huge pages cannot be set aside: {error}")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # against others who do the same
        before = lock.read()
        try:
            SETTING.write_text(str(int(before) + PAGES))
            info = Path("/proc/meminfo").read_text()
            free = re.search(r"HugePages_Free: +(\d+)", info)
            if free is None or int(free[1]) < PAGES:
                pytest.skip("there is no memory in pieces that are large enough")
            if "Hugepagesize:       2048 kB" not in info:
                pytest.skip("huge pages have another size here")
            yield
        finally:
            SETTING.write_text(before)


@pytest.mark.parametrize("case", ["guarded", "view", "hole", "protect"])
def test_huge_pages(huge_pages: None, case: str) -> None:
    done = run_isolated("huge_pages.py", case)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "survived"
