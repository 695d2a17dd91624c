"""open() and memmap(): a file by its name."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import PAGE, needs_gil, open_fds, pattern

import safemmap

DATA = pattern(4 * PAGE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    return path


class TestOpen:
    def test_to_read(self, path: Path) -> None:
        before = open_fds()
        with safemmap.open(path) as m:
            assert type(m) is safemmap.mmap
            assert m[:] == DATA
            with pytest.raises(TypeError):
                m[0] = 1
        assert open_fds() == before

    @pytest.mark.parametrize(("mode", "changes_it"), [("r+", True), ("c", False)])
    def test_to_change(self, path: Path, mode: Any, changes_it: bool) -> None:
        with safemmap.open(str(path), mode) as m:
            m[0] = 0
            assert m[:2] == b"\0" + DATA[1:2]
        assert (path.read_bytes()[0] == 0) is changes_it

    def test_a_part(self, path: Path) -> None:
        with safemmap.open(path, length=5, offset=PAGE, views="deny") as m:
            assert m[:] == DATA[PAGE : PAGE + 5]
            with pytest.raises(BufferError):
                memoryview(m)

    def test_survives(self, path: Path) -> None:
        with safemmap.open(path) as m:
            os.truncate(path, PAGE)
            with pytest.raises(safemmap.BusError) as caught:
                m[:]
        assert caught.value.path == str(path)

    def test_what_it_refuses(self, path: Path) -> None:
        before = open_fds()
        with pytest.raises(ValueError, match=r"must be 'r', 'r\+' or 'c', not 'w'"):
            safemmap.open(path, "w")  # type: ignore[arg-type]
        with pytest.raises(FileNotFoundError) as caught:
            safemmap.open(path.with_name("missing"))
        assert (caught.value.errno, caught.value.filename) == (
            errno.ENOENT,
            str(path.with_name("missing")),
        )
        size = len(DATA)
        with pytest.raises(ValueError, match=f"{path}' to byte {size + 1}: it has"):
            safemmap.open(path, length=size + 1)
        assert open_fds() == before

    def test_a_star_import_leaves_the_builtin_in_place(self) -> None:
        names: dict[str, object] = {}
        exec("from safemmap import *", names)
        assert "open" not in names
        assert "memmap" in names


@needs_gil
class TestMemmap:
    @pytest.fixture(autouse=True)
    def numpy(self) -> None:
        pytest.importorskip("numpy", reason="needs NumPy")

    def test_as_numpy_s(self, path: Path) -> None:
        import numpy

        for options in (
            {},
            {"dtype": "<u4"},
            {"dtype": "<u4", "offset": PAGE + 8, "shape": (3, 5)},
            {"dtype": "<u2", "offset": 2, "shape": (3, 5), "order": "F"},
            {"shape": 7},
            {"shape": numpy.int64(7)},
            {"shape": ()},
        ):
            ours = safemmap.memmap(path, **options)
            theirs: Any = numpy.memmap(path, mode="r", **({"dtype": "u1"} | options))
            assert (ours.dtype, ours.flags.f_contiguous) == (
                theirs.dtype,
                theirs.flags.f_contiguous,
            )
            numpy.testing.assert_array_equal(ours, theirs)
            assert not ours.flags.writeable

    @pytest.mark.parametrize(("mode", "changes_it"), [("r+", True), ("c", False)])
    def test_to_change(self, path: Path, mode: Any, changes_it: bool) -> None:
        array = safemmap.memmap(path, mode=mode)
        array[0] = 0
        del array
        assert (path.read_bytes()[0] == 0) is changes_it

    # (A warning follows the exceptions when the mapping ends.)
    @pytest.mark.filterwarnings("ignore::safemmap.FaultWarning")
    def test_is_protected_for_its_life(self, path: Path) -> None:
        array = safemmap.memmap(path)[PAGE:]
        os.truncate(path, PAGE)
        for _ in range(2):
            with pytest.raises(safemmap.BusError, match=r"data\.bin"):
                array.sum()

    def test_what_it_refuses(self, path: Path) -> None:
        with pytest.raises(ValueError, match=r"are no whole number of elements of 4 b"):
            safemmap.memmap(path, "<u4", offset=1)
        size = len(DATA)
        with pytest.raises(ValueError, match=f"{path}' to byte {size + 1}: it has"):
            safemmap.memmap(path, shape=size + 1)

    def test_nothing_stays_mapped_of_what_it_refuses(self, path: Path) -> None:
        with pytest.raises(ValueError) as refused:  # which holds the frames
            safemmap.memmap(path, "<u4", offset=1)
        assert refused.traceback
        assert str(path) not in Path("/proc/self/maps").read_text()
