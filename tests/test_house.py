"""The layers: no circle among the files of the core, no command inside the library."""

from __future__ import annotations

import ast
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = ROOT / "csrc"
PACKAGE = ROOT / "safemmap"

compiles = pytest.mark.skipif(
    not (shutil.which("cc") and shutil.which("nm")), reason="needs a C compiler and nm"
)


def object_files(sources: list[Path], directory: Path) -> list[Path]:
    flags = f"-std=gnu11 -D_GNU_SOURCE -O1 -I{CORE} -I{PACKAGE / 'include'}".split()
    subprocess.run(["cc", *flags, "-c", *sources], cwd=directory, check=True)
    return sorted(directory.glob("*.o"))


def uses(objects: list[Path]) -> dict[str, set[str]]:
    """Whose symbols each object file needs."""
    defined: dict[str, str] = {}
    undefined: dict[str, set[str]] = {}
    for path in objects:
        symbols = subprocess.check_output(
            ["nm", "--extern-only", "--portability", path], text=True
        )
        undefined[path.stem] = set()
        for name, kind, *_ in map(str.split, symbols.splitlines()):
            if kind == "U":
                undefined[path.stem].add(name)
            else:
                defined[name] = path.stem
    return {
        stem: {defined[name] for name in names if name in defined}
        for stem, names in undefined.items()
    }


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    """Nodes each of which leads to the next, and the last one to the first; or none."""
    done: set[str] = set()

    def follow(node: str, path: list[str]) -> list[str]:
        if node in path:
            return path[path.index(node) :]
        if node not in done:
            for follower in sorted(graph[node]):
                if cycle := follow(follower, [*path, node]):
                    return cycle
            done.add(node)
        return []

    return next((cycle for node in graph if (cycle := follow(node, []))), [])


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return object_files(sorted(CORE.glob("*.c")), tmp_path_factory.mktemp("core"))


@pytest.mark.slow
@compiles
def test_the_files_of_the_core_form_no_cycle(core: list[Path]) -> None:
    graph = uses(core)
    assert len(graph) > 10
    assert "shared" in graph["handler"]
    assert find_cycle(graph) == []


def layers() -> list[str]:
    """The files in the picture that README.md draws, from the top."""
    picture = (CORE / "README.md").read_text().split("```")[1]
    return re.findall(r"(\w+)\.c\b", picture)


@pytest.mark.slow
@compiles
def test_the_layers_are_as_drawn(core: list[Path]) -> None:
    drawn = layers()
    graph = uses(core)
    assert sorted(drawn) == sorted(graph)
    for file, used in graph.items():
        for other in used:
            assert drawn.index(file) < drawn.index(other), (file, other)


def test_the_reading_order_names_every_file() -> None:
    text = (CORE / "README.md").read_text()
    table = text.partition("## Files in reading order")[2].partition("\n## ")[0]
    for path in CORE.rglob("*.[ch]"):
        name = str(path.relative_to(CORE))
        part = re.sub(r"/(x86_64|aarch64|generic)_", "/*_", name)
        assert f"`{part}`" in table or f"`{path.name}`" in table, name


@compiles
@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs cc -m32")
def test_32_bits_are_refused() -> None:
    flags = f"-m32 -D_GNU_SOURCE -fsyntax-only -I{CORE} -I{PACKAGE / 'include'}".split()
    done = subprocess.run(
        ["cc", *flags, CORE / "shared.c"], stderr=subprocess.PIPE, text=True
    )
    assert done.returncode != 0
    assert "safemmap needs a 64-bit system" in done.stderr


@pytest.mark.slow
@compiles
def test_a_planted_cycle_is_found(core: list[Path], tmp_path: Path) -> None:
    source = tmp_path / "shared.c"
    source.write_text(
        (CORE / "shared.c").read_text()
        + "int safemmap__planted(void);\n"
        + "int safemmap__planted(void) { return safemmap_install(); }\n"
    )
    planted = object_files([source], tmp_path)
    others = [path for path in core if path.stem != "shared"]
    assert {"shared", "install"} <= set(find_cycle(uses([*others, *planted])))


def test_only_platform_c_and_its_folders_ask_for_a_platform() -> None:
    macros = ("__x86_64__", "__aarch64__", "__linux__", "__FreeBSD__", "__APPLE__")
    for path in [*CORE.glob("*.[ch]"), PACKAGE / "include/safemmap.h"]:
        if path.name != "platform.c":
            assert not any(macro in path.read_text() for macro in macros), path


def imported(path: Path) -> set[str]:
    """Modules that a module imports by name, wherever it does."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "safemmap." if node.level else ""
            module += node.module or ""
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


def test_no_library_module_imports_a_command() -> None:
    commands = PACKAGE / "_commands"
    library = [
        path
        for path in PACKAGE.rglob("*.py")
        if commands not in path.parents and path.name != "__main__.py"
    ]
    assert len(library) > 10
    for path in library:
        assert not any("._commands" in name for name in imported(path)), path
    for path in PACKAGE.glob("*.p[yx][xi]"):
        assert "_commands" not in path.read_text(), path


def test_the_parts_of_the_compiled_module_are_listed_in_order() -> None:
    text = (PACKAGE / "_core.pyx").read_text()
    included = re.findall(r'^include "(.+)"', text, re.MULTILINE)
    assert re.findall(r"^    (_\w+\.pxi) ", text, re.MULTILINE) == included
