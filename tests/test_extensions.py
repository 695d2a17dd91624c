"""Extension modules that others build against the installed package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from packages import run

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "tests/extensions"
STRICT = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]


@pytest.fixture(scope="module")
def include(installed: Path) -> Path:
    code = "import safemmap; print(safemmap.get_include())"
    found = Path(run(installed, "-c", code, cwd=installed.parent).strip())
    assert {path.name for path in found.iterdir()} == {
        "safemmap.h",
        "safemmap_python.h",
    }
    return found


def compile_extension(
    *sources: Path, target: Path, include: Path, flags: list[str]
) -> None:
    python = sysconfig.get_path("include")
    run(
        *("cc", "-shared", "-fPIC", "-O2", "-std=gnu11", *flags, "-D_GNU_SOURCE"),
        *("-isystem", python, f"-I{include}", f"-I{SOURCES}"),
        *(str(source) for source in sources),
        *("-pthread", "-o", str(target)),
        cwd=target.parent,
    )


def build_native(directory: Path, include: Path) -> None:
    compile_extension(
        *(SOURCES / "native.c", SOURCES / "native_total.c"),
        target=directory / "native.so",
        include=include,
        flags=STRICT,
    )


def build_cythonic(directory: Path, include: Path) -> None:
    generated = directory / "cythonic.c"
    run(
        *(sys.executable, "-m", "cython", "-3", "--include-dir"),
        *(include.parent.parent, SOURCES / "cythonic.pyx", "-o", generated),
        cwd=directory,
    )
    compile_extension(
        generated, target=directory / "cythonic.so", include=include, flags=[]
    )


def test_two_extensions_and_the_package(
    installed: Path, include: Path, tmp_path: Path
) -> None:
    build_native(tmp_path, include)
    build_cythonic(tmp_path, include)
    script = ROOT / "tests/isolated/extensions.py"
    done = run(installed, "-X", "faulthandler", script, tmp_path, cwd=tmp_path)
    assert done == "regions\nmoved\noperations\nthreads\n"


WITHOUT_HANDLER = """
import errno, os, sys
sys.path.insert(0, sys.argv[1])
import native, safemmap

def error_of(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return error

if len(sys.argv) > 2:
    safemmap.handler.install()
    safemmap.handler.uninstall()
fd = os.memfd_create("")
assert error_of(native.Pool, fd, 4096, "").errno == errno.EPERM
pool = native.Pool(fd, 4096, "", False)
error = error_of(pool.load, 5)
assert isinstance(error, safemmap.BusError) and error.offset == 5, error
assert isinstance(error_of(pool.total), RuntimeError)
assert pool.register() == -errno.EPERM
assert not safemmap.handler.status().installed
if len(sys.argv) > 2:
    safemmap.handler.install()
    assert isinstance(error_of(pool.total), safemmap.BusError)
    assert pool.register() == 0
    assert pool.peek(5) == 0
"""


@pytest.mark.parametrize("how", ["forbidden", "uninstalled"])
def test_without_the_handler(
    installed: Path,
    include: Path,
    tmp_path: Path,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the package's own mappings do: operations go through system calls, guarded
    code does not run, and nothing is registered."""
    build_native(tmp_path, include)
    arguments = ["uninstalled"] if how == "uninstalled" else []
    if how == "forbidden":
        monkeypatch.setenv("SAFEMMAP_HANDLER", "0")
    code = WITHOUT_HANDLER
    assert run(installed, "-c", code, tmp_path, *arguments, cwd=tmp_path) == ""


# Cython and setuptools are found beside pytest.
BUILD_SPAM = """
import runpy, sys
sys.path.append(sys.argv[1])
sys.argv[1:] = ["-q", "build_ext", "--inplace"]
runpy.run_path("setup.py", run_name="__main__")
"""

USE_SPAM = """
import mmap, os, spam, safemmap
fd = os.memfd_create("")
os.write(fd, b"x" * 8192)
with mmap.mmap(fd, 8192) as m:
    assert spam.snapshot(m) == b"x" * 8192
    assert spam.snapshot(b"") == b""
    os.ftruncate(fd, 4096)
    try:
        spam.snapshot(m)
    except safemmap.BusError as error:
        print(error.operation, error.offset)
"""


def test_the_cython_module_of_the_page_on_extensions(
    installed: Path, tmp_path: Path
) -> None:
    """As pasted."""
    page = (ROOT / "docs/extensions.md").read_text()
    for kind, name in (("python", "setup.py"), ("cython", "spam.pyx")):
        (block,) = re.findall(rf"^```{kind}\n(.*?)^```$", page, re.M | re.S)
        (tmp_path / name).write_text(block)
    run(installed, "-c", BUILD_SPAM, sysconfig.get_path("purelib"), cwd=tmp_path)
    assert run(installed, "-c", USE_SPAM, cwd=tmp_path) == "snapshot 4096\n"


def with_table(include: Path, directory: Path, old: str, new: str) -> Path:
    """The headers of another version, whose table has more or less."""
    other = directory / "include"
    shutil.copytree(include, other)
    header = other / "safemmap_python.h"
    text = header.read_text()
    assert text.count(old) == 1
    header.write_text(text.replace(old, new))
    return other


USE = """
import os, sys
sys.path.insert(0, sys.argv[1])
import native
pool = native.Pool(os.memfd_create(""), 4096, "")
try:
    pool.total()
except OSError as error:
    print(type(error).__name__)
"""


def last_line(include: Path) -> str:
    """Of the table: the last function, without which the extension does."""
    text = (include / "safemmap_python.h").read_text()
    table = text[text.index("SAFEMMAP__FUNCTIONS(F, V)") :].partition("\n\n")[0]
    return table[table.rindex("    F(") :]


def test_an_extension_that_is_older_than_the_package(
    installed: Path, include: Path, tmp_path: Path
) -> None:
    older = with_table(include, tmp_path, last_line(include), "")
    source = tmp_path / "native.c"
    text = (SOURCES / "native.c").read_text()
    source.write_text(text.replace("safemmap_raise_region", "raise_nothing"))
    compile_extension(
        *(source, SOURCES / "native_total.c"),
        target=tmp_path / "native.so",
        include=older,
        flags=["-Draise_nothing(region, operation)=NULL", "-Wno-unused-function"],
    )
    assert run(installed, "-c", USE, tmp_path, cwd=tmp_path) == "BusError\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "    F(int, safemmap_region_remove,",
            "    F(int, safemmap_from_the_future, (void), ()) \\\n"
            "    F(int, safemmap_region_remove,",
        ),
        ("SAFEMMAP__TABLE_VERSION 1\n", "SAFEMMAP__TABLE_VERSION 2\n"),
    ],
)
def test_an_extension_that_is_newer_than_the_package(
    installed: Path, include: Path, tmp_path: Path, old: str, new: str
) -> None:
    newer = with_table(include, tmp_path, old, new)
    build_native(tmp_path, newer)
    done = subprocess.run(
        [installed, "-c", USE, tmp_path],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "ImportError: this module was compiled with the headers of safemmap 0."
    )


def test_without_a_c_api_at_all(include: Path, tmp_path: Path) -> None:
    build_native(tmp_path, include)
    (tmp_path / "safemmap").mkdir()
    (tmp_path / "safemmap/__init__.py").touch()
    (tmp_path / "safemmap/_core.py").touch()
    done = subprocess.run(
        [sys.executable, "-c", USE, tmp_path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stderr.splitlines()[-1] == (
        "ImportError: the installed safemmap is too old: it has no C API"
    )
