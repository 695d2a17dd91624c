"""Which modules the import of the package loads, and which are loaded at first use."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import safemmap
from safemmap import _core

LOADED = """
import os, sys
before = set(sys.modules)
import safemmap
from safemmap import _core
print(*sorted(set(sys.modules) - before))
"""

WHAT_IT_MAY_LOAD = {
    "atexit",  # which is part of the interpreter
    "mmap",
    "safemmap",
    "safemmap._core",
    "safemmap._errors",
}

# What `python -m safemmap run` loads before the program begins.
FOR_RUN = {"safemmap._exit_status", "safemmap._process", "safemmap._stand_in"}

# Nothing can be imported any more, as after chroot(2).
SHUT_IN = """
import os, sys, safemmap
{before}
sys.path.clear()
sys.meta_path.clear()
fd = os.memfd_create("spam")
os.ftruncate(fd, 4096)
m = safemmap.mmap(fd, 4096)
os.ftruncate(fd, 0)
try:
    m[0]
except safemmap.BusError as error:
    if os.fork() == 0:  # says nothing of what it could not load
        os._exit(0)
    os.wait()
    print(repr(error.code), error.code == 2, "the file has 0 bytes left" in str(error))
"""


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_the_import_loads_nothing_else() -> None:
    # (Cython's own are in memory; one installed from its sources has a finder.)
    names = [
        name
        for name in run(LOADED).split()
        if not name.startswith(("__editable__", "cython_runtime", "_cython_"))
    ]
    assert {*names} <= WHAT_IT_MAY_LOAD


@pytest.mark.parametrize(
    ("before", "code"),
    [("", "2"), ("from safemmap import *", "<BusCode.ADRERR: 2>")],
    ids=["as it is", "all loaded"],
)
def test_a_process_that_has_shut_itself_in(before: str, code: str) -> None:
    assert run(SHUT_IN.format(before=before)) == f"{code} True True"


def test_a_star_import_loads_everything() -> None:
    package = Path(safemmap.__file__).parent
    script = """
import sys
from safemmap import *
print(*(name for name in sys.modules if name.startswith("safemmap.")))
"""
    modules = {f"safemmap.{path.stem}" for path in package.glob("*.py")}
    modules -= {"safemmap.__init__", "safemmap.__main__"}
    assert modules - {*run(script).split()} <= FOR_RUN


def test_what_stands_in_the_place_of_mmap_is_not_asked() -> None:
    """What is loaded late has the constants from before."""
    script = """
import sys, types, safemmap
sys.modules["mmap"] = types.ModuleType("mmap")
print(*(name for name in dir(safemmap) if getattr(safemmap, name, None) is None))
"""
    assert run(script) == ""


def test_every_name_is_there() -> None:
    names: dict[str, object] = {}
    exec("from safemmap import *", names)
    public = vars(safemmap)["__all__"]
    assert {*public} <= {*names} & {*dir(safemmap)}
    for name in public:
        assert names[name] is getattr(safemmap, name)
    with pytest.raises(AttributeError, match="no attribute 'spam'"):
        safemmap.spam  # type: ignore[attr-defined]  # noqa: B018


def test_a_fork_waits_for_nobody_elses_import() -> None:
    """All is loaded before it."""
    script = """
import os, sys, safemmap
assert "safemmap._codes" not in sys.modules
pid = os.fork()
if pid == 0:
    missing = {*safemmap._LAZY.values()} - set(sys.modules)
    print(missing, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""
    assert run(script) == "set()"


def test_the_library_imports_no_command() -> None:
    package = Path(safemmap.__file__).parent
    commands = package / "_commands"
    for path in package.rglob("*.py"):
        if path.is_relative_to(commands) or path == package / "__main__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{name.name}" for name in node.names]
            elif isinstance(node, ast.Import):
                names = [name.name for name in node.names]
            else:
                continue
            assert [n for n in names if n.startswith("safemmap._commands")] == [], path
    for path in package.glob("*.p[yx][xi]"):
        assert "_commands" not in path.read_text(), path


def test_nothing_is_looked_up_in_the_handler() -> None:
    """The linker's own frames would need more room than the handler's."""
    if shutil.which("readelf") is None:
        pytest.skip("needs readelf (binutils)")
    dynamic = subprocess.run(
        ["readelf", "--dynamic", "--wide", _core.__file__],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "NOW" in dynamic.stdout
