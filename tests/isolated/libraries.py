"""A library maps a file, which is truncated before it reads from there.

Arguments: a folder, the library, where to read ("main", "executor" or "asyncio"), and
what protects ("nothing" or "enable"; what ``python -m safemmap run`` does is none of
this script's business). Prints which errors came out, the last one first, and the
file and offset of the BusError. Ends with 77 and a reason where the library is not
there.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
folder, library, where, protection = sys.argv[1:]
path = f"{folder}/{library}"
PAGE = os.sysconf("SC_PAGESIZE")
COUNT = 200_000

if protection == "enable":
    import safemmap

    safemmap.enable()

Work = Callable[[], object]


def use_numpy() -> Work:
    import numpy as np

    np.arange(COUNT).tofile(path)
    array = np.memmap(path, int)
    return lambda: array.sum()


def use_pyarrow() -> Work:
    import pyarrow as pa
    from pyarrow import compute

    table = pa.table({"number": pa.array(range(COUNT))})
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    mapped = pa.ipc.open_file(pa.memory_map(path)).read_all()
    return lambda: compute.sum(mapped["number"]).as_py()


def use_polars() -> Work:
    import polars

    frame = polars.DataFrame(
        {"text": [f"a text of some length, {i}" for i in range(COUNT)]}
    )
    frame.write_ipc(path, compat_level=polars.CompatLevel.newest())
    mapped = polars.read_ipc(path, memory_map=True)
    return lambda: mapped["text"].str.to_uppercase().str.len_chars().sum()


def use_safetensors() -> Work:
    import numpy as np
    from safetensors import safe_open
    from safetensors.numpy import save_file

    save_file({"weights": np.arange(COUNT)}, path)
    file = safe_open(path, "np")
    return lambda: file.get_tensor("weights").sum()


def use_lmdb() -> Work:
    import lmdb

    environment = lmdb.open(path, subdir=False, map_size=64 << 20)
    with environment.begin(write=True) as transaction:
        for i in range(COUNT // 20):
            transaction.put(b"key %d" % i, b"value" * 20)

    def read() -> int:
        with environment.begin() as transaction:
            return sum(len(value) for _, value in transaction.cursor())

    return read


def use_h5py() -> Work:
    """A dataset in one piece is mapped where h5py says that it lies."""
    import h5py
    import numpy as np

    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("numbers", data=np.arange(COUNT))
        offset = dataset.id.get_offset()
    array = np.memmap(path, int, "r", offset)
    return lambda: array.sum()


def use_faiss() -> Work:
    import faiss
    import numpy as np

    index = faiss.IndexFlatL2(64)
    index.add(np.random.default_rng(0).random((COUNT // 64, 64), dtype="f4"))
    faiss.write_index(index, path)
    mapped = faiss.read_index(path, faiss.IO_FLAG_MMAP_IFC)
    question = np.zeros((1, 64), "f4")
    return lambda: mapped.search(question, 5)


def use_sqlite3() -> Work:
    import sqlite3

    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute(f"PRAGMA mmap_size = {64 << 20}")
    connection.execute("CREATE TABLE t (text TEXT)")
    rows = ((f"a text of some length, {i}",) for i in range(COUNT))
    connection.executemany("INSERT INTO t VALUES (?)", rows)
    connection.commit()
    # A statement under way does not ask for the size of the file again.
    cursor = connection.execute("SELECT text FROM t")
    cursor.fetchone()
    return cursor.fetchall


def use_maxminddb() -> Work:
    import maxminddb
    import maxminddb.extension

    with open(path, "wb") as file:
        file.write(mmdb())
    reader = maxminddb.open_database(path, maxminddb.MODE_MMAP_EXT)
    return lambda: reader.get("1.2.3.4")


UINT16, UINT32, UINT64 = 5, 6, 9
SIZES = {UINT16: 2, UINT32: 4, UINT64: 8}


def mmdb() -> bytes:
    """A database with one record, of many pages, for all addresses, as
    https://maxmind.github.io/MaxMind-DB/ has it."""
    nodes = 1
    record = (nodes + 16).to_bytes(3, "big")  # the first byte of the data
    metadata = {
        "binary_format_major_version": (UINT16, 2),
        "binary_format_minor_version": (UINT16, 0),
        "build_epoch": (UINT64, 1),
        "database_type": "Test",
        "description": {},
        "ip_version": (UINT16, 4),
        "languages": [],
        "node_count": (UINT32, nodes),
        "record_size": (UINT16, 24),
    }
    data = mmdb_value({"text": "spam" * COUNT})
    return (
        2 * record
        + bytes(16)
        + data
        + b"\xab\xcd\xefMaxMind.com"
        + mmdb_value(metadata)
    )


def mmdb_value(value: Any) -> bytes:
    if isinstance(value, str):
        return mmdb_control(2, len(value)) + value.encode()
    if isinstance(value, tuple):
        kind, number = value
        content: bytes = number.to_bytes(SIZES[kind], "big")
        return mmdb_control(kind, len(content)) + content
    if isinstance(value, list):
        return mmdb_control(11, len(value)) + b"".join(map(mmdb_value, value))
    parts = (part for item in value.items() for part in item)
    return mmdb_control(7, len(value)) + b"".join(map(mmdb_value, parts))


def mmdb_control(kind: int, size: int) -> bytes:
    extended = b"" if kind < 8 else bytes([kind - 7])
    first = kind << 5 if kind < 8 else 0
    if size < 29:
        return bytes([first | size]) + extended
    return bytes([first | 31]) + extended + (size - 65821).to_bytes(3, "big")


def use_torch() -> Work:
    import torch

    torch.save({"weights": torch.arange(COUNT)}, path)
    loaded = torch.load(path, mmap=True)
    return lambda: loaded["weights"].sum()


def read(work: Work) -> object:
    if where == "executor":
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(work).result()
    if where == "asyncio":
        return asyncio.run(asyncio.to_thread(work))
    return work()


def described(error: BaseException) -> str:
    names, link = [], error
    while True:
        names.append(type(link).__name__)
        if names[-1] == "BusError":
            if protection == "enable":
                assert link.mapping is None  # type: ignore[attr-defined]
            return f"{' from '.join(names)}: {link.path}"  # type: ignore[attr-defined]
        following = link.__cause__ or link.__context__
        if following is None:
            return f"{' from '.join(names)}: {error}"
        link = following


try:
    work = globals()[f"use_{library}"]()
except ImportError as error:
    print(error)
    sys.exit(77)
os.truncate(path, PAGE)
try:
    result = read(work)
except Exception as error:
    print(described(error))
else:
    print(f"no error, but {result!r}"[:200])
