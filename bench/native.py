"""C that is compiled for the benchmarks."""

from __future__ import annotations

import ctypes
import mmap
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def build(target: Path, *arguments: str | Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    flags = ["-O2", "-std=gnu11", "-D_GNU_SOURCE", f"-I{ROOT}/safemmap/include"]
    subprocess.run([compiler, *flags, *arguments, "-pthread", "-o", target], check=True)


class Memory:
    """The functions of memory.c, over a mapping. They run without the GIL."""

    def __init__(self, directory: Path) -> None:
        path = directory / "memory.so"
        build(path, "-shared", "-fPIC", ROOT / "bench/memory.c")
        self._library = ctypes.CDLL(str(path))

    def copy(self, m: mmap.mmap, threads: int) -> None:
        self._run("memory_copy", m, threads)

    def read(self, m: mmap.mmap, threads: int) -> None:
        self._run("memory_read", m, threads)

    def map_and_unmap(self, fd: int, size: int, times: int) -> float:
        """Nanoseconds for so many."""
        return self._time("memory_map_and_unmap", fd, size, times)

    def reset(self, fd: int, size: int, times: int) -> float:
        """Nanoseconds for what `mmap.reset` asks of the kernel, so many times."""
        return self._time("memory_reset", fd, size, times)

    def _time(self, name: str, fd: int, size: int, times: int) -> float:
        function = self._library[name]
        function.restype = ctypes.c_double
        return float(function(fd, ctypes.c_size_t(size), times))

    def _run(self, name: str, m: mmap.mmap, threads: int) -> None:
        start = ctypes.byref(ctypes.c_char.from_buffer(m))
        error = self._library[name](start, ctypes.c_size_t(len(m)), threads)
        assert error == 0
