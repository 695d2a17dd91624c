"""The core as a C library: its header, what it exports, and its installation."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = ROOT / "csrc"
HEADER = ROOT / "safemmap/include/safemmap.h"
STRICT = ["-pedantic", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]

C_STANDARDS = ["c99", "c11", "c17", "c2x"]
CXX_STANDARDS = ["c++11", "c++17", "c++20", "c++2b"]

# What the header's macros expand to is compiled with the user's warnings.
USES = """
#include "safemmap.h"
#include "safemmap.h"

int first(const unsigned char *data, size_t size);
int first(const unsigned char *data, size_t size)
{
    SAFEMMAP_TRY (data, size) {
        return data[0];
    } SAFEMMAP_CATCH (fault) {
        return -fault.code;
    }
    return 0;
}
"""


def compiler(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"needs {name}")
    return path


@pytest.mark.parametrize("standard", C_STANDARDS + CXX_STANDARDS)
@pytest.mark.parametrize("family", ["gcc", "clang"])
def test_the_header_compiles(family: str, standard: str, tmp_path: Path) -> None:
    cxx = standard in CXX_STANDARDS
    names = {"gcc": "g++", "clang": "clang++"} if cxx else {}
    source = tmp_path / f"header.{'cc' if cxx else 'c'}"
    source.write_text(USES)
    subprocess.run(
        [
            compiler(names.get(family, family)),
            *(f"-std={standard}", *STRICT, "-fsyntax-only"),
            *("-I", HEADER.parent, source),
        ],
        check=True,
    )


@pytest.mark.parametrize("cc", ["gcc", "g++", "clang", "clang++"])
def test_the_header_for_extensions_compiles(cc: str, tmp_path: Path) -> None:
    cxx = cc.endswith("++")
    source = tmp_path / f"header.{'cc' if cxx else 'c'}"
    source.write_text('#include "safemmap_python.h"\n#include "safemmap_python.h"\n')
    subprocess.run(
        [
            compiler(cc),
            *(f"-std={'c++17' if cxx else 'c11'}", *STRICT, "-fsyntax-only"),
            *("-isystem", sysconfig.get_path("include")),
            *("-I", HEADER.parent, source),
        ],
        check=True,
    )


def declared() -> set[str]:
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    found = re.findall(
        r"^SAFEMMAP_(?:API|DATA|OWNER) [^(;]*?(\w+)[(;]", text, flags=re.MULTILINE
    )
    assert len(found) > 30
    return set(found)


def listed() -> set[str]:
    return set(re.findall(r"\b(safemmap_\w+);", (CORE / "symbols.map").read_text()))


def test_the_list_of_symbols_is_what_the_header_declares() -> None:
    assert listed() == declared()


def test_meson_knows_all_files() -> None:
    sources = set(re.findall(r"'(\w+\.c)'", (CORE / "meson.build").read_text()))
    assert sources == {path.name for path in CORE.glob("*.c")}
    tests = (ROOT / "tests/c/meson.build").read_text()
    names = set(re.findall(r"^  '(\w+)',$", tests, flags=re.MULTILINE))
    names.add("copies")  # for which the Makefile builds libraries
    assert names == {path.stem[5:] for path in (ROOT / "tests/c").glob("test_*.c")}


def test_the_version_is_that_of_the_package() -> None:
    version = re.search(r"^version = \"(.*)\"$", text_of("pyproject.toml"), re.M)
    assert version is not None
    assert f"version: '{version[1]}'" in text_of("meson.build")
    assert f'#define SAFEMMAP_RELEASE "{version[1]}"' in HEADER.read_text()


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


PROGRAM = r"""
#include <safemmap.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void)
{
    struct safemmap_fault fault;
    unsigned char byte;
    int fd = memfd_create("gone", 0);
    void *gone = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

    /* (Without the handler this would be the kernel's answer.) */
    puts(safemmap_install() == 0 && safemmap_load(gone, &byte, &fault) == -EFAULT
             ? "survived"
             : "?");
    return 0;
}
"""


def run(*command: str | Path, **variables: str) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `meson install` has put the library."""
    for tool in ("meson", "ninja", "pkg-config"):
        compiler(tool)
    directory = tmp_path_factory.mktemp("library")
    build, prefix = directory / "build", directory / "usr"
    options = (f"--prefix={prefix}", "--libdir=lib", "-Dtests=false")
    run("meson", "setup", *options, build, ROOT)
    run("meson", "install", "-C", build)
    return prefix


@pytest.mark.slow
def test_the_shared_library_exports_what_is_listed(installed: Path) -> None:
    library = installed / "lib/libsafemmap.so"
    lines = run("nm", "-D", "--defined-only", library).splitlines()
    names = {line.split()[-1].partition("@")[0] for line in lines}
    assert names - {"SAFEMMAP_0"} == listed()
    assert "[libsafemmap.so.0]" in run("readelf", "-d", library)
    assert "BIND_NOW" in run("readelf", "-d", library)


@pytest.mark.slow
@pytest.mark.parametrize("linking", ["shared", "static"])
def test_a_program_that_is_built_as_the_page_on_extensions_says(
    installed: Path, linking: str, tmp_path: Path
) -> None:
    page = text_of("docs/extensions.md")
    commands = re.findall(r"^    (cc program.c .*)$", page, re.MULTILINE)
    command = dict(zip(["shared", "static"], commands, strict=True))[linking]
    compiler("cc")
    (tmp_path / "program.c").write_text("#define _GNU_SOURCE\n" + PROGRAM)
    where = {"PKG_CONFIG_PATH": str(installed / "lib/pkgconfig")}
    run("sh", "-c", f"cd {tmp_path} && {command} -o program", **where)
    program = tmp_path / "program"
    found = run(program, LD_LIBRARY_PATH=str(installed / "lib"))
    assert found == "survived\n"
    assert "safemmap" not in run("nm", "-D", "--defined-only", program)
    dynamic = run("readelf", "-d", program)
    assert ("libsafemmap.so.0" in dynamic) == (linking == "shared")
    assert "BIND_NOW" in dynamic or linking == "shared"


@pytest.mark.slow
def test_an_extension_that_links_the_static_library_exports_nothing(
    installed: Path, tmp_path: Path
) -> None:
    source, plugin = tmp_path / "plugin.c", tmp_path / "plugin.so"
    source.write_text(PROGRAM.replace("main", "entry"))
    archive = installed / "lib/libsafemmap.a"
    flags = ["-D_GNU_SOURCE", "-shared", "-fPIC", f"-I{installed / 'include'}"]
    run(compiler("cc"), *flags, source, archive, "-o", plugin)
    lines = run("nm", "-D", "--defined-only", plugin).splitlines()
    assert [line.split()[-1] for line in lines] == ["entry"]
