"""The C libraries of `c/`, for tests that need such company."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent / "c"


def compiled(directory: Path, source: str = "neighbours.c") -> Path:
    """Compile it into `directory`; skips where there is no compiler."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"this needs a C compiler: there is no {compiler[0]} here")
    library = (directory / source).with_suffix(".so")
    flags = ["-shared", "-fPIC", "-pthread", "-D_GNU_SOURCE", "-Wall", "-Werror"]
    subprocess.run([*compiler, *flags, "-o", library, SOURCES / source], check=True)
    return library
