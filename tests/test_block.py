"""SAFEMMAP_TRY and SAFEMMAP_CATCH, as compilers optimize the code around them.

`.ci/core` has the same tests under the sanitizers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
INCLUDE = [f"-I{ROOT / 'safemmap/include'}", f"-I{ROOT / 'csrc'}"]
STRICT = ["-pedantic", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
CORE = sorted((ROOT / "csrc").glob("*.c"))
C = ["-std=gnu11", "-D_GNU_SOURCE", "-pthread", *INCLUDE]
LINK = ["-Wl,-z,now", "-lm", "-ldl"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("gcc", "g++", "clang", "clang++"))),
        reason="needs gcc and clang",
    ),
]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module", params=["gcc", "clang"])
def core(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A compiler, and where it has put the object files."""
    directory = tmp_path_factory.mktemp(request.param)
    run(request.param, *C, "-O2", "-c", *CORE, cwd=directory)
    return request.param, directory


def check(output: str) -> None:
    assert "ok ends_with_the_fault" in output
    assert "FAILED" not in output


@pytest.mark.parametrize("level", ["-O0", "-O1", "-O2", "-O3"])
def test_in_c(core: tuple[str, Path], level: str, tmp_path: Path) -> None:
    cc, directory = core
    source = ROOT / "tests/c/test_block.c"
    objects = sorted(directory.glob("*.o"))
    flags = [*C, "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
    run(cc, *flags, level, source, *objects, *LINK, "-o", "program", cwd=tmp_path)
    check(run("./program", cwd=tmp_path))
    if cc == "gcc" and level == "-O2" and shutil.which("valgrind"):
        precise = "--vex-iropt-register-updates=allregs-at-mem-access"
        check(run("valgrind", "-q", precise, "./program", cwd=tmp_path))


@pytest.mark.parametrize("level", ["-O0", "-O1", "-O2", "-O3"])
def test_in_cxx(core: tuple[str, Path], level: str, tmp_path: Path) -> None:
    cc, directory = core
    cxx = {"gcc": "g++", "clang": "clang++"}[cc]
    source = ROOT / "tests/c/block.cc"
    objects = sorted(directory.glob("*.o"))
    flags = ["-std=c++17", *STRICT, *INCLUDE, "-pthread"]
    run(cxx, *flags, level, source, *objects, *LINK, "-o", "program", cwd=tmp_path)
    assert run("./program", cwd=tmp_path) == ""


@pytest.mark.parametrize("cc", ["gcc -flto=auto", "clang -flto"])
def test_optimized_with_the_core_as_a_whole(cc: str, tmp_path: Path) -> None:
    name, lto = cc.split()
    if name == "clang" and not os.path.exists("/usr/lib/llvm-14/lib/LLVMgold.so"):
        pytest.skip("needs clang's plugin for the linker")
    source = ROOT / "tests/c/test_block.c"
    flags = [lto, *C, "-O3"]
    run(name, *flags, source, *CORE, *LINK, "-o", "program", cwd=tmp_path)
    check(run("./program", cwd=tmp_path))
