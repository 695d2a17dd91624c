"""Files of real huge pages, which root can have the system set aside."""

from __future__ import annotations

import pytest
from conftest import run_isolated


@pytest.mark.parametrize("case", ["guarded", "view", "hole", "protect"])
def test_huge_pages(huge_pages: None, case: str) -> None:
    done = run_isolated("huge_pages.py", case)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "survived"
