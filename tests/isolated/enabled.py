"""A library that maps a file of its own touches a page that is gone, under
`safemmap.enable()`. Arguments: the library, where it is called, and "plain" to go
without; a directory.

Prints, of what came of it: the classes of the exception and its causes, and of the
BusError the offset, the path and the message.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import mmap
import multiprocessing
import os
import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safemmap

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
library, place, mode, directory = sys.argv[1:]
PAGE = safemmap.PAGESIZE
SIZE = 64 * PAGE
path = Path(directory, "file")
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int),
    ctypes.c_long,
]


def mapped_by_c() -> int:
    path.write_bytes(b"x" * SIZE)
    with path.open("r+b") as file:
        prot = mmap.PROT_READ | mmap.PROT_WRITE
        address = libc.mmap(None, SIZE, prot, mmap.MAP_SHARED, file.fileno(), 0)
    assert isinstance(address, int)
    os.truncate(path, PAGE)
    return address


def memcpy_without_the_gil() -> object:
    buffer = ctypes.create_string_buffer(2 * PAGE)
    address = mapped_by_c()
    ctypes.memmove(buffer, address + PAGE // 2, 2 * PAGE)
    return buffer.raw[-1]


def memcpy_with_the_gil() -> object:
    address = mapped_by_c()
    return ctypes.string_at(address + PAGE // 2, 2 * PAGE)[-1]


def store() -> object:
    address = mapped_by_c()
    ctypes.memmove(address + PAGE, b"lost", 4)
    return "stored"


def standard_mmap() -> object:
    path.write_bytes(b"x" * SIZE)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as m:
        os.truncate(path, PAGE)
        return m.find(b"y")


def numpy_memmap() -> object:
    import numpy

    path.write_bytes(b"x" * SIZE)
    array = numpy.memmap(path, "u1")
    os.truncate(path, PAGE)
    return array.sum()


def sqlite() -> object:
    import sqlite3

    database = sqlite3.connect(path)
    database.execute("CREATE TABLE t(a)")
    database.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 5000)
    database.commit()
    database.close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA mmap_size=67108864")
    database.execute("PRAGMA cache_size=10")
    rows = database.execute("SELECT a FROM t")
    rows.fetchone()
    os.truncate(path, 2 * PAGE)
    return sum(len(text) for (text,) in rows)


LIBRARIES: dict[str, Callable[[], object]] = {
    function.__name__: function
    for function in (
        memcpy_without_the_gil,
        memcpy_with_the_gil,
        store,
        standard_mmap,
        numpy_memmap,
        sqlite,
    )
}


def report(error: BaseException) -> None:
    link: Any = error
    names = []
    while link is not None:
        names.append(type(link).__name__)
        if isinstance(link, safemmap.BusError):
            assert link.mapping is None
            print(link.offset, link.path, link, sep="\n")
        link = link.__cause__ or link.__context__
    print(" from ".join(names))


def run() -> object:
    return LIBRARIES[library]()


def run_in_child() -> None:
    try:
        print("result", run())
    except Exception as error:
        report(error)
    sys.stdout.flush()


def run_in_forked_child() -> None:
    child = os.fork()
    if child == 0:
        run_in_child()
        os._exit(0)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256)


def run_in_process() -> None:
    context = multiprocessing.get_context("fork")
    process = context.Process(target=run_in_child)
    process.start()
    process.join()
    os._exit((process.exitcode or 0) % 256)


def run_in_pool(pool: concurrent.futures.Executor) -> object:
    with pool:
        return pool.submit(run).result(30)


PLACES: dict[str, Callable[[], object]] = {
    "main": run,
    "executor": lambda: run_in_pool(concurrent.futures.ThreadPoolExecutor(2)),
    "asyncio": lambda: asyncio.run(asyncio.to_thread(run)),
    "coroutine": lambda: asyncio.run(asyncio.wait_for(coroutine(), 30)),
    "fork": run_in_forked_child,
    "multiprocessing": run_in_process,
}


async def coroutine() -> object:
    return run()


if mode != "plain":
    warnings.simplefilter("ignore", safemmap.FaultWarning)
    safemmap.enable()
try:
    print("result", PLACES[place]())
except Exception as error:
    report(error)
