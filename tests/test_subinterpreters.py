"""Only the first interpreter of a process can import safemmap; another one's attempt
does it no harm."""

from __future__ import annotations

import sys

import pytest
from conftest import run_isolated


@pytest.mark.parametrize("first", ["before", "after"])
def test_the_import_is_refused(first: str) -> None:
    if sys.version_info < (3, 12) and first == "after":
        pytest.skip("before Python 3.12, the interpreter that imports first has it")
    done = run_isolated("subinterpreter.py", first)
    if done.stdout == "no interpreters\n":
        pytest.skip("this Python has no module that makes interpreters")
    assert (done.returncode, done.stderr) == (0, "")
    refusal, outcome = done.stdout.splitlines()
    assert refusal.startswith("ImportError: ")
    assert "interpreter" in refusal.lower()
    assert outcome == "survived"
