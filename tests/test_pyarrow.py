"""Arrow files that are memory-mapped, and truncated under their reader
(apache/arrow#39642)."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from conftest import run_isolated

pytest.importorskip("pyarrow")

pytestmark = pytest.mark.slow
FORMATS = ["file", "stream"]


@pytest.mark.parametrize("form", FORMATS)
def test_kills_without_protection(tmp_path: Path, form: str) -> None:
    done = run_isolated("arrow.py", str(tmp_path), form, "nothing")
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGBUS, "", "")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("what", ["whole file", "reading", "table", "ours"])
def test_survives(tmp_path: Path, form: str, what: str) -> None:
    done = run_isolated("arrow.py", str(tmp_path), form, what)
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")


@pytest.mark.parametrize(
    "what", ["batch", "column", "array", "list", "text", "dictionary"]
)
def test_parts(tmp_path: Path, what: str) -> None:
    done = run_isolated("arrow.py", str(tmp_path), "file", what)
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")
