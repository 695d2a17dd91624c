"""Reads an Arrow file that is truncated under it. Arguments: a folder, the format
("file" or "stream"), and what is protected ("nothing", ...)."""

import contextlib
import faulthandler
import os
import resource
import sys
import warnings
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import ipc

import safemmap

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
faulthandler.disable()
# On a machine that is slow, a warning comes before the program asks.
warnings.simplefilter("ignore", safemmap.FaultWarning)
folder, form, what = sys.argv[1:]
path = f"{folder}/data.arrow"
ROWS = 20_000  # in each of
BATCHES = 4
SUM = ROWS * (ROWS + 1) // 2

batch = pa.record_batch(
    {
        "number": pa.array(range(1, ROWS + 1), pa.int64()),
        "text": pa.array([f"row {i}" for i in range(ROWS)]),
        "kind": pa.array([f"kind {i % 50}" for i in range(ROWS)]).dictionary_encode(),
        "list": pa.array([[i, i + 1] for i in range(ROWS)]),
    }
)
new_writer = ipc.new_file if form == "file" else ipc.new_stream
with new_writer(path, batch.schema) as writer:
    for _ in range(BATCHES):
        writer.write_batch(batch)
with open(path, "rb") as file:
    content = file.read()


def read(source: Any) -> Any:
    reader = ipc.open_file(source) if form == "file" else ipc.open_stream(source)
    return reader.read_all()


def restore() -> None:
    with open(path, "r+b") as file:
        file.write(content)


def expect_bus_error(obj: Any, work: Any) -> None:
    """`work` reads a sum from what lies past the first page."""
    before = work().as_py()
    assert before > 0
    try:
        with safemmap.protect(obj) as protection:
            assert work().as_py() == before
            assert not protection.faulted
            os.truncate(path, 4096)
            assert work().as_py() == 0
            assert protection.faulted
    except safemmap.BusError as error:
        assert error.poisoned
    else:
        sys.exit("no BusError")
    restore()
    assert work().as_py() == before


source = pa.memory_map(path)
table = read(source)
last = table.to_batches()[-1]
assert pc.sum(table["number"]).as_py() == BATCHES * SUM

match what:
    case "nothing":
        os.truncate(path, 4096)
        sys.exit(f"survived without protection: {pc.sum(table['number'])}")
    case "whole file":
        source.seek(0)
        expect_bus_error(source.read_buffer(), lambda: pc.sum(last["number"]))
    case "reading":
        # The metadata, too, is read from pages that are gone.
        source.seek(0)
        whole = source.read_buffer()
        for size in (4096, len(content) // 3):
            try:
                with safemmap.protect(whole):
                    os.truncate(path, size)
                    with contextlib.suppress(pa.ArrowInvalid, OSError):
                        again = read(pa.BufferReader(whole))
                        pc.sum(again["number"])
            except safemmap.BusError as error:
                assert error.poisoned
            else:
                sys.exit("no BusError")
            restore()
        assert read(pa.BufferReader(whole)).equals(table)
    case "table":
        expect_bus_error(table, lambda: pc.sum(last["number"]))
        expect_bus_error(table, lambda: pc.sum(last["kind"].indices))
    case "batch":
        expect_bus_error(last, lambda: pc.sum(last["number"]))
    case "column":
        expect_bus_error(table["number"], lambda: pc.sum(table["number"].chunk(3)))
    case "array":
        expect_bus_error(last["number"], lambda: pc.sum(last["number"]))
    case "list":
        expect_bus_error(last["list"], lambda: pc.sum(last["list"].values))
    case "text":
        expect_bus_error(last["text"], lambda: pc.sum(pc.binary_length(last["text"])))
    case "dictionary":
        expect_bus_error(last["kind"], lambda: pc.sum(last["kind"].indices))
    case "ours":
        with open(path, "rb") as file:
            m = safemmap.mmap(file.fileno(), 0, access=safemmap.ACCESS_READ)
        ours = read(pa.BufferReader(pa.py_buffer(m)))
        assert ours.equals(table)
        number = ours["number"].chunk(3)
        os.truncate(path, 4096)
        assert pc.sum(number).as_py() == 0
        try:
            m.check()
        except safemmap.BusError as error:
            assert error.poisoned
        else:
            sys.exit("no BusError")
        try:
            m.close()
        except BufferError:
            del ours, number
        else:
            sys.exit("closed under Arrow's feet")
        restore()
        m.reset()
        assert read(pa.BufferReader(pa.py_buffer(m))).equals(table)
        m.close()
    case _:
        sys.exit(f"no such case: {what}")
print("survived")
