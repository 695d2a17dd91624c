"""The sdist builds, and the wheel has the files that users need."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from packages import run

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow

USE = """
import mmap, os, pathlib, sys, safemmap
assert pathlib.Path(safemmap.__file__).is_relative_to(sys.prefix)
fd = os.memfd_create("spam")
os.write(fd, b"spam" * 4096)
m = safemmap.mmap(fd, 0)
assert m[:4] == b"spam"
os.ftruncate(fd, 0)
try:
    m[0]
except safemmap.BusError:
    print("survived")
"""


@pytest.fixture(scope="module")
def wheel_names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def sources() -> set[str]:
    """Everything in the three directories that somebody wrote."""
    kept = ("*.pyx", "*.pxd", "*.pyi", "*.py", "*.c", "*.h", "py.typed", "Makefile")
    return {
        str(path.relative_to(ROOT))
        for directory in ("safemmap", "csrc", "tests")
        for pattern in kept
        for path in (ROOT / directory).rglob(pattern)
        if not {"build", "__pycache__"}.intersection(path.parts[len(ROOT.parts) :])
    } - {"safemmap/_core.c"}


def test_the_sdist_has_the_sources(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive}
    wanted = sources() | {
        "LICENSE",
        "MANIFEST.in",
        "README.md",
        "pyproject.toml",
        "setup.py",
        "safemmap/_core.pyx",
        "safemmap/include/safemmap.h",
        "csrc/handler.c",
        "tests/c/Makefile",
    }
    assert sorted(wanted - names) == []


def test_the_sdist_has_nothing_that_was_generated(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive}
    assert "safemmap/_core.c" not in names
    assert [n for n in names if n.endswith((".so", ".o", ".pyc"))] == []
    assert [
        n for n in names if "__pycache__" in n or n.startswith("tests/c/build/")
    ] == []


def test_the_wheel_has_what_is_public(wheel_names: set[str]) -> None:
    wanted = {
        "safemmap/py.typed",
        "safemmap/_core.pyi",
        "safemmap/__init__.pxd",
        "safemmap/include/safemmap.h",
        "safemmap/include/safemmap_python.h",
    }
    wanted |= {
        str(path.relative_to(ROOT)) for path in (ROOT / "safemmap").rglob("*.py")
    }
    assert sorted(wanted - wheel_names) == []
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel_names)


def test_the_wheel_has_nothing_else(wheel_names: set[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "pytest_safemmap.py",
        "safemmap",
    }
    # A consumer cannot link against what the private declarations name.
    assert "safemmap/_csrc.pxd" not in wheel_names
    assert [n for n in wheel_names if n.endswith((".pyx", ".c", ".o"))] == []


def test_the_module_exports_its_init_function_only(installed: Path) -> None:
    if shutil.which("nm") is None:
        pytest.skip("no nm here")
    (module,) = installed.parent.parent.glob("lib/*/site-packages/safemmap/_core.*.so")
    lines = run("nm", "-D", "--defined-only", module, cwd=module.parent).splitlines()
    assert [line.split()[-1] for line in lines] == ["PyInit__core"]


def test_the_wheel_works_elsewhere(installed: Path, tmp_path: Path) -> None:
    assert run(installed, "-c", USE, cwd=tmp_path) == "survived\n"


def test_the_installed_command_starts(installed: Path, tmp_path: Path) -> None:
    assert "usage" in run(installed.parent / "safemmap", "--help", cwd=tmp_path).lower()
