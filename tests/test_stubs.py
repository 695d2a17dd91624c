"""What type checkers say of the package: mypy and pyright check this file, too."""

from __future__ import annotations

import ast
import inspect
import mmap as standard
import pydoc
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type

import pytest
from conftest import PAGE, LossyFile

import safemmap
import safemmap as mmap

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer


class Sub(safemmap.mmap):
    """Overrides as for the standard class, with the types that typeshed has there."""

    def read(self, n: int | None = None, /) -> bytes:
        return super().read(n)

    def write_byte(self, byte: int, /) -> None:
        super().write_byte(byte)

    def move(self, dest: int, src: int, count: int, /) -> None:
        super().move(dest, src, count)

    def resize(self, newsize: int, /, *, truncate: bool = True) -> None:
        super().resize(newsize, truncate=truncate)

    def find(
        self,
        view: Buffer,
        start: int | None = None,
        end: int | None = None,
        /,
    ) -> int:
        return super().find(view, start, end)


def test_overrides_are_called() -> None:
    with Sub(-1, 100) as m:
        m.write_byte(7)
        m.move(1, 0, 1)
        assert m.find(b"\7\7", 0) == 0
        m.seek(0)
        assert m.read(2) == b"\7\7"


def test_uses(lossy: LossyFile) -> None:
    """Each public name in use, with the type that it has for a checker."""
    size = len(lossy.data)
    m = mmap.mmap(lossy.fd, size, access=mmap.ACCESS_READ, views="deferred")
    assert_type(m, safemmap.mmap)
    with m, safemmap.wrap(lossy.fd, size, filesystems="memory") as wrapped:
        assert_type(wrapped, safemmap.mmap)
        assert_type(m[0], int)
        assert_type(m[0:3], bytes)
        assert_type(m.protection, str)
        assert_type(m.faulted, bool)
        assert_type(m.fault, safemmap.Fault | None)
        assert_type(m.snapshot(0, 4), bytes)
        with m.access(0, PAGE) as view:
            assert sum(view) == sum(lossy.data[:PAGE])
        with safemmap.protect(memoryview(m)) as protected:
            assert_type(protected, safemmap.Protected)
            assert_type(protected.fault, safemmap.Fault | None)
        lossy.shrink(0)
        with pytest.raises(safemmap.BusError) as caught:
            wrapped.read()
        assert_type(caught.value.offset, int)
        assert_type(caught.value.path, str | None)
        assert_type(caught.value.code, safemmap.BusCode | int)
    for fault in safemmap.faults():
        assert_type(fault, safemmap.Fault)
    assert_type(safemmap.handler.status(), safemmap.handler.Status)
    with open(safemmap.memfd(b"x", seals=safemmap.Seal.SHRINK), "rb") as file:
        assert_type(safemmap.get_seals(file), safemmap.Seal)
    with safemmap.testing.Shrink() as source:
        assert_type(source, safemmap.testing.Shrink)


def test_a_checker_finds_every_public_name() -> None:
    """__init__.pyi has what __init__.py loads when it is first asked for."""
    stub = ast.parse(Path(safemmap.__path__[0], "__init__.pyi").read_text())
    names = {
        alias.name
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    # (Where pytest has rewritten the assertions of plugins, names with an @ are there.)
    assert names - {"*"} == {
        name
        for name in dir(safemmap)
        if name[0] not in "_@" and not hasattr(standard, name)
    } | {"mmap"}


def test_a_star_import_brings_a_checker_the_same_names() -> None:
    stub = ast.parse(Path(safemmap.__path__[0], "__init__.pyi").read_text())
    stub.body = [
        node
        for node in stub.body
        if not isinstance(node, ast.ImportFrom | ast.AnnAssign)
    ]
    names: dict[str, Any] = {}
    exec(compile(stub, "__init__.pyi", "exec"), names)
    exported = [name for name in vars(safemmap)["__all__"] if name[0] != "@"]
    of_musl = {"MADV_SOFT_OFFLINE"} & set(dir(standard))  # glibc does not define it
    assert sorted(of_musl.union(names["__all__"])) == exported


def test_signatures() -> None:
    assert str(inspect.signature(safemmap.mmap)) == (
        "(fileno, length, flags=1, prot=3, access=0, offset=0, *, trackfd=True, "
        "protection='auto', views='auto')"
    )
    assert str(inspect.signature(safemmap.BusError)) == "(*args)"
    assert (safemmap.mmap.__doc__ or "").lstrip().startswith("A memory-mapped file")


def test_nothing_of_the_compiler_shows() -> None:
    assert [name for name in dir(safemmap.mmap) if "pyx" in name] == []
    assert "TYPE_CHECKING" not in dir(safemmap)


def test_help_begins_with_a_table_of_every_public_name() -> None:
    text = pydoc.plain(pydoc.render_doc(safemmap))
    table = text[: text.index("PACKAGE CONTENTS")]
    ours = {
        name
        for name in dir(safemmap)
        if name[0] not in "_@" and not hasattr(standard, name)
    }
    assert {name for name in ours if not re.search(rf"\b{name}\b", table)} == {"Faults"}
    assert text.count("\n") < 1500  # two thirds of them of the classes


def test_an_enumeration_lists_its_members() -> None:
    members = {*safemmap.Seal.__members__}
    assert {name for name in dir(safemmap.Seal) if name[0] != "_"} == members
    assert "bit_length" not in dir(safemmap.BusCode)
    assert safemmap.BusCode.ADRERR.bit_length() == 2
