"""protect() of frames, series, tensors, shared memory and other containers."""

from __future__ import annotations

import contextlib
import decimal
import gc
import importlib
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PAGE, needs_shared_memory, open_fds, run_isolated

from safemmap import BusError, _buffers, protect
from safemmap._core import Memory

np = pytest.importorskip("numpy")

ROWS = 16 * PAGE // 8
NUMBERS = np.arange(1, ROWS + 1, dtype="i8")


@pytest.fixture(scope="module", autouse=True)
def started() -> None:
    """Some of the libraries open descriptors when they are used for the first time."""
    for name in ("polars", "dask.array"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if "polars" in sys.modules:
        sys.modules["polars"].DataFrame({"a": [1]}).sum()


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "file"
    NUMBERS.tofile(path)
    yield path
    gc.collect()


def ranges(obj: Any) -> list[tuple[int, int]]:
    """Where its buffers begin and end."""
    found = []
    for buffer in _buffers.buffers(obj):
        if isinstance(buffer, Memory):
            found.append((buffer.address, buffer.address + buffer.size))
        else:
            found.append(np.lib.array_utils.byte_bounds(np.asarray(buffer)))
    return found


class Dlpack:
    """Offers that protocol, and no other."""

    requires_grad = False
    device = 1

    def __init__(self, array: Any, copies: bool = False) -> None:
        self.array = array
        self.copies = copies

    def __dlpack__(self, **options: Any) -> Any:
        array = self.array.copy() if self.copies else self.array
        return array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0

    def sum(self) -> Any:
        return self.array.sum()


class Interface:
    """Offers ``__array_interface__`` alone."""

    def __init__(self, array: Any, **changes: Any) -> None:
        self.array = array
        self.__array_interface__ = {**array.__array_interface__, **changes}

    def sum(self) -> Any:
        return self.array.view("i8").sum()


def arrow(path: Path) -> Any:
    pa = pytest.importorskip("pyarrow")
    return pa.array(np.memmap(path, "i8", "r+"))


def chunked(path: Path) -> Any:
    pa = pytest.importorskip("pyarrow")
    memory = np.memmap(path, "i8", "r+")
    return pa.chunked_array([memory[: ROWS // 2], memory[ROWS // 2 :]])


def arrow_sum(obj: Any) -> Any:
    from pyarrow import compute

    return compute.sum(obj).as_py()


def pandas_frame(path: Path) -> Any:
    """Its columns are strided."""
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(
        np.memmap(path, "i8", "r+").reshape(ROWS // 8, 8), copy=False
    )


def pandas_mixed(path: Path) -> Any:
    pandas = pytest.importorskip("pandas")
    memory = np.memmap(path, "i8", "r+")
    return pandas.DataFrame(
        {
            "number": memory,
            "text": "text",
            "when": pandas.date_range("2020", periods=ROWS, tz="UTC"),
            "kind": pandas.Categorical(["a"] * ROWS),
            "maybe": pandas.array([1] * ROWS, dtype="Int64"),
        },
        copy=False,
    )


def pandas_dates(path: Path) -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.Series(np.memmap(path, "i8", "r+").view("M8[ns]"), copy=False)


def pandas_arrow(path: Path) -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.Series(pandas.arrays.ArrowExtensionArray(arrow(path)))


def polars_frame(path: Path) -> Any:
    polars = pytest.importorskip("polars")
    polars.DataFrame(
        {
            "number": NUMBERS,
            "text": [f"a text of some length, {i}" for i in range(ROWS)],
            "maybe": [i if i % 3 else None for i in range(ROWS)],
            "list": [[i, i + 1] for i in range(ROWS)],
            "true": [i % 2 == 0 for i in range(ROWS)],
        }
    ).write_ipc(path, compat_level=polars.CompatLevel.newest())
    return polars.read_ipc(path, memory_map=True)


def tensor(path: Path) -> Any:
    torch = pytest.importorskip("torch")
    return torch.from_numpy(np.memmap(path, "i8", "r+"))


def parameter(path: Path) -> Any:
    torch = pytest.importorskip("torch")
    return torch.nn.Parameter(torch.from_numpy(np.memmap(path, "f8", "r+")))


def dask_array(path: Path) -> Any:
    array = pytest.importorskip("dask.array")
    memory = np.memmap(path, "i8", "r+")
    graph = {("memory", 0): memory[: ROWS // 2], ("memory", 1): memory[ROWS // 2 :]}
    return array.Array(graph, "memory", ((ROWS // 2, ROWS // 2),), "i8")


def dask_plan(path: Path) -> Any:
    """The memory is an argument of its tasks."""
    return dask_array(path) + 1


# How an object is made from a file of numbers, and what sums them up.
OBJECTS: dict[str, tuple[Callable[[Path], Any], Callable[[Any], Any]]] = {
    "dlpack": (lambda path: Dlpack(np.memmap(path, "i8", "r+")), lambda o: o.sum()),
    "array interface": (
        lambda path: Interface(np.memmap(path, "i8", "r+")),
        lambda o: o.sum(),
    ),
    "array of dates": (
        lambda path: np.memmap(path, "M8[s]", "r+"),
        lambda o: o.view("i8").sum(),
    ),
    "arrow array": (arrow, arrow_sum),
    "chunked arrow array": (chunked, arrow_sum),
    "pandas frame": (pandas_frame, lambda o: o.sum().sum()),
    "pandas frame of many types": (pandas_mixed, lambda o: o["number"].sum()),
    "pandas series": (lambda path: pandas_frame(path)[7], lambda o: o.sum()),
    "pandas dates": (pandas_dates, lambda o: o.to_numpy().view("i8").sum()),
    "pandas arrow array": (pandas_arrow, lambda o: o.sum()),
    "polars frame": (polars_frame, lambda o: o["number"].sum()),
    "polars series": (lambda path: polars_frame(path)["number"], lambda o: o.sum()),
    "polars series with nulls": (
        lambda path: polars_frame(path)["maybe"],
        lambda o: o.sum(),
    ),
    "polars text": (
        lambda path: polars_frame(path)["text"],
        lambda o: o.str.len_bytes().sum() + len(o.str.join("")[0]),
    ),
    "polars lists": (
        lambda path: polars_frame(path)["list"],
        lambda o: o.list.sum().sum(),
    ),
    "torch tensor": (tensor, lambda o: o.sum()),
    "torch parameter": (parameter, lambda o: o.detach().sum()),
    "dask array": (dask_array, lambda o: o.compute(scheduler="sync").sum()),
    "dask plan": (dask_plan, lambda o: o.compute(scheduler="sync").sum()),
}


class TestInAFile:
    @pytest.mark.parametrize("name", OBJECTS)
    def test_raises_at_the_end(self, path: Path, name: str) -> None:
        make, work = OBJECTS[name]
        obj = make(path)
        content = path.read_bytes()
        before = work(obj)
        fds = open_fds()
        with protect(obj) as protection:
            assert work(obj) == before
        assert not protection.faulted
        with pytest.raises(BusError) as caught, protect(obj):
            os.truncate(path, 0)
            work(obj)
        assert caught.value.poisoned
        with path.open("r+b") as file:
            file.write(content)
        assert work(obj) == before
        assert open_fds() == fds

    @pytest.mark.parametrize("name", OBJECTS)
    def test_is_kept_until_the_end(self, path: Path, name: str) -> None:
        make, _ = OBJECTS[name]
        obj = make(path)
        try:
            alive = weakref.ref(obj)
        except TypeError:
            pytest.skip("it cannot be referred to weakly")
        protection = protect(obj)
        del obj
        gc.collect()
        assert alive() is not None
        protection.close()
        gc.collect()
        assert alive() is None

    def test_what_is_cut_already(self, path: Path) -> None:
        """How long the text is stands in the pages that are gone."""
        pa = pytest.importorskip("pyarrow")
        table = pa.table({"text": [f"a text of some length, {i}" for i in range(ROWS)]})
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
        mapped = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        os.truncate(path, 0)
        with pytest.raises(BusError):
            protect(mapped)


@needs_shared_memory
def test_shared_memory() -> None:
    done = run_isolated("shared_objects.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "SharedMemory\nArray\nRawArray\n"


class TestNotInAFile:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: pytest.importorskip("pandas").DataFrame({"a": range(9)}),
            lambda: pytest.importorskip("pandas").Series(["text"] * 9),
            lambda: pytest.importorskip("polars").DataFrame({"a": ["text"] * 9}),
            lambda: pytest.importorskip("polars").DataFrame(),
            lambda: pytest.importorskip("polars").Series([None, None]),
            lambda: pytest.importorskip("pyarrow").table({}),
            lambda: pytest.importorskip("pyarrow").array([], "string"),
            lambda: pytest.importorskip("torch").zeros(9),
            lambda: pytest.importorskip("dask.array").zeros(9).persist(),
            lambda: Dlpack(np.zeros(0)),
            lambda: Interface(np.zeros((3, 0))),
        ],
    )
    def test_never_faults(self, make: Callable[[], Any]) -> None:
        with protect(make()) as protection:
            pass
        assert not protection.faulted


class TestCopies:
    def refused(self, obj: Any, match: str = "a copy") -> None:
        fds = open_fds()
        with pytest.raises(BufferError, match=match):
            protect(obj)
        assert open_fds() == fds

    def test_text_converted_to_arrow(self, path: Path) -> None:
        frame = polars_frame(path)
        self.refused(frame.to_arrow(), "the column 'text' of this Table is in memory")
        self.refused(frame["text"].to_arrow())
        protect(frame.select("number").to_arrow()).close()

    def test_exporters_that_copy(self) -> None:
        memory = np.zeros(9)
        self.refused(Dlpack(memory, copies=True))
        self.refused(Interface(memory, data=bytes(72)))

    def test_an_exporter_that_converts_to_arrow(self, path: Path) -> None:
        class Converter:
            def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
                return pandas_frame(path).__arrow_c_stream__(requested_schema)

        pytest.importorskip("pyarrow")
        self.refused(Converter())

    def test_on_a_device(self) -> None:
        on_device = Dlpack(np.zeros(9))
        on_device.device = 2
        self.refused(on_device, "on a device")

    def test_chunks_that_are_not_there_yet(self) -> None:
        array = pytest.importorskip("dask.array")
        self.refused(array.ones(9), "come into being when")

    def test_what_can_be_read_once(self) -> None:
        pa = pytest.importorskip("pyarrow")
        reader = pa.table({"a": [1]}).to_reader()
        with pytest.raises(TypeError):
            protect(reader)
        assert reader.read_all().num_rows == 1

    def test_no_library_is_imported_for_it(self) -> None:
        done = run_isolated("objects_import.py")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class TestRanges:
    @pytest.mark.parametrize(
        "index",
        [
            np.s_[:],
            np.s_[::-1],
            np.s_[3:9, 2:],
            np.s_[::2, ::-3],
            np.s_[5],
            np.s_[5, 7, ...],
            np.s_[:, None],
            np.s_[9:9],
        ],
    )
    @pytest.mark.parametrize("kind", ["u1", "i8", "c16", "U3", "M8[s]"])
    def test_of_arrays(self, index: Any, kind: str) -> None:
        array = np.zeros((16, 16), kind)[index]
        expected = [np.lib.array_utils.byte_bounds(array)] if array.size else []
        assert ranges(Interface(array)) == expected
        if kind in ("u1", "i8", "c16"):
            assert ranges(Dlpack(array)) == (expected or [(0, 0)])

    def test_of_arrow_arrays(self) -> None:
        """Against what pyarrow says of its own buffers."""
        pa = pytest.importorskip("pyarrow")
        for array in arrow_arrays(pa):
            for part in (array, array[3:], array[5:17]):
                found = ranges_of_arrow(part)
                known = {
                    buffer.address: buffer.size
                    for buffer in all_buffers(part)
                    if buffer is not None
                }
                for low, high in found:
                    assert low in known, part.type
                    assert high - low <= known[low], part.type
                missing = known.keys() - {low for low, _ in found}
                # (Lengths are not among them, nor what no element refers to.)
                assert all(known[low] <= 64 for low in missing), part.type
            total = sum(high - low for low, high in ranges_of_arrow(array))
            assert total >= array.get_total_buffer_size() - 64, array.type


def ranges_of_arrow(array: Any) -> list[tuple[int, int]]:
    from safemmap import _arrow
    from safemmap._core import arrow_array

    exported = arrow_array(*array.__arrow_c_array__())
    found = list(_arrow.memory_of(exported))
    assert [memory.address for memory in found] == [
        address
        for address in _arrow.addresses(exported)
        if address in {memory.address for memory in found}
    ]
    return [(memory.address, memory.address + memory.size) for memory in found]


def all_buffers(array: Any) -> Iterator[Any]:
    yield from array.buffers()
    if hasattr(array, "dictionary"):
        yield from all_buffers(array.dictionary)
    if hasattr(array, "storage"):
        yield from all_buffers(array.storage)


def arrow_arrays(pa: Any) -> Iterator[Any]:
    """Of each layout, with and without nulls."""
    count = 40
    whole = list(range(count))
    for kind in (
        *(pa.int8(), pa.uint8(), pa.int16(), pa.uint16(), pa.int32(), pa.uint32()),
        *(pa.int64(), pa.uint64(), pa.float32(), pa.float64()),
        *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us")),
        *(pa.time64("ns"), pa.timestamp("s"), pa.timestamp("ns", "UTC")),
        *(pa.duration("ms"), pa.duration("ns")),
    ):
        yield pa.array(whole, kind)
    texts = [f"a text that is too long for a view, {i}" for i in whole]
    for kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
        yield pa.array(texts, kind)
        yield pa.array([None, *texts[1:]], kind)
    for kind in (pa.string_view(), pa.binary_view()):
        yield pa.array(texts, kind)
        yield pa.array(["short"] * count, kind)
    lists = [[i, i + 1] for i in whole]
    yield pa.array(lists)
    yield pa.array(lists, pa.large_list(pa.int16()))
    yield pa.array(lists, pa.list_(pa.int16(), 2))
    yield pa.array(lists, pa.list_view(pa.int16()))
    yield pa.array(lists, pa.large_list_view(pa.int16()))
    yield pa.array([None if i % 3 else [i, None] for i in whole])
    yield pa.array([{"a": i, "b": str(i)} for i in whole])
    yield pa.array([[(str(i), i)] for i in whole], pa.map_(pa.string(), pa.int32()))
    yield pa.array(texts).dictionary_encode()
    yield pa.array([i % 2 == 0 for i in whole])
    yield pa.array([None] * count)
    yield pa.array([decimal.Decimal(i) for i in whole], pa.decimal128(9))
    yield pa.array([decimal.Decimal(i) for i in whole], pa.decimal256(60))
    yield pa.array([b"12345"] * count, pa.binary(5))
    yield pa.array(np.arange(count, dtype="f2"))
    yield pa.array([pa.MonthDayNano([1, 2, 3])] * count)
    yield pa.UnionArray.from_sparse(
        pa.array([i % 2 for i in whole], pa.int8()),
        [pa.array(whole), pa.array(texts)],
    )
    yield pa.UnionArray.from_dense(
        pa.array([i % 2 for i in whole], pa.int8()),
        pa.array([i // 2 for i in whole], pa.int32()),
        [pa.array(whole), pa.array(texts)],
    )
    yield pa.RunEndEncodedArray.from_arrays(
        pa.array([10, count], pa.int32()), pa.array(["a", "b"])
    )
