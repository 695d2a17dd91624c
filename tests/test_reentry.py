"""Foreign code that runs in the middle of an operation: hooks, destructors."""

import pytest
from conftest import run_isolated


@pytest.mark.parametrize(
    "case",
    [
        "iterator_exhausted_by_a_warning",
        "closed_by_a_warning",
        "closed_while_close_warns",
        "view_at_the_very_end",
        "first_view_without_descriptors",
    ],
)
def test_in_a_process_of_its_own(case):
    # So that memory which is used after it was freed shows.
    done = run_isolated("reentry.py", case, inside=("env", "PYTHONMALLOC=debug"))

    assert (done.returncode, done.stderr) == (0, "")
    lines = ["done"]
    if case == "view_at_the_very_end":  # the start of the hash of 400,000 zeros
        lines.append("946cc2661")
    assert done.stdout.splitlines() == lines
