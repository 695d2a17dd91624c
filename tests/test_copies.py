"""A C library with the core in it beside the Python module, whichever is loaded first.

tests/c/test_copies.c has every order of several C libraries.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import run_isolated

ROOT = Path(__file__).parent.parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("copy") / "copy.so"
    flags = ["-O1", "-std=gnu11", "-D_GNU_SOURCE", "-DSAFEMMAP_BUILD_SHARED"]
    flags += ["-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-Bsymbolic", "-Wl,-z,now"]
    include = [f"-I{ROOT / 'safemmap/include'}"]
    sources = sorted((ROOT / "csrc").glob("*.c"))
    command: list[str | Path] = ["cc", *flags, *include, *sources]
    command += ["-pthread", "-ldl", "-o", target]
    subprocess.run(command, check=True)
    return target


@pytest.mark.parametrize("first", ["library", "module"])
def test_share_one_handler_and_one_registry(library: Path, first: str) -> None:
    done = run_isolated("copies.py", str(library), first)
    said = "shared\nended by the last\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
