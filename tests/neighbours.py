"""The C library of `c/neighbours.c`, for tests that need such company."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "c/neighbours.c"


def compiled(directory: Path) -> Path:
    """Compile it into `directory`; skips where there is no compiler."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"the C handlers need a compiler: there is no {compiler[0]} here")
    library = directory / "neighbours.so"
    flags = ["-shared", "-fPIC", "-pthread", "-D_GNU_SOURCE", "-Wall", "-Werror"]
    subprocess.run([*compiler, *flags, "-o", library, SOURCE], check=True)
    return library
