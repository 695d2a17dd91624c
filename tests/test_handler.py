"""`safemmap.handler`: status(), install() and uninstall()."""

from __future__ import annotations

import pytest
from conftest import run_isolated


@pytest.mark.parametrize(
    "case",
    [
        "resized without it",
        "nobody left above",
        "not while somebody is about to need it",
        "before anything is mapped",
        "displaced and back",
        "counts",
        "put back what was there",
        "not while somebody needs it",
        "nor while somebody reads",
        "forbidden",
        "from threads",
        "views while it comes and goes",
    ],
)
def test_in_a_process_of_its_own(case: str) -> None:
    done = run_isolated("handler.py", case)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
