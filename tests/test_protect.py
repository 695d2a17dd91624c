"""protect(): foreign mappings."""

from __future__ import annotations

import array
import contextlib
import ctypes
import gc
import mmap as standard
import os
import random
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import neighbours
import pytest
from conftest import (
    PAGE,
    LossyFile,
    libc,
    needs_shared_memory,
    not_under_asan,
    open_fds,
    pattern,
    run_isolated,
)

import safemmap
from safemmap import BusCode, BusError, FaultWarning, protect

np = pytest.importorskip("numpy")

SIZE = 8 * PAGE


@pytest.fixture
def plain(lossy: LossyFile) -> Iterator[standard.mmap]:
    """The standard library's mapping. Nothing of ours may be left in it."""
    mapping = standard.mmap(lossy.fd, SIZE)
    before = areas_of(mapping)
    yield mapping
    if os.fstat(lossy.fd).st_size < SIZE:
        lossy.restore()
    assert bytes(mapping) == os.pread(lossy.fd, SIZE, 0)
    assert areas_of(mapping) == before
    try:
        mapping.close()
    except BufferError:  # an exception's frames hold an array
        gc.collect()
        mapping.close()


def start_of(mapping: Any) -> int:
    return int(np.frombuffer(mapping, np.uint8).ctypes.data)


def areas_of(mapping: Any) -> list[str]:
    """Its lines of /proc/self/maps: more than one, if a part of it is not what it
    was."""
    start = start_of(mapping)
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(part, 16) for part in line.split()[0].split("-"))
        if low < start + len(mapping) and start < high:
            found.append(line)
    return found


class TestBlock:
    def test_raises_at_its_end(self, lossy: LossyFile, plain: standard.mmap) -> None:
        protection = protect(plain)
        with pytest.raises(BusError) as caught, protection:
            lossy.shrink(2 * PAGE)
            assert not protection.faulted
            assert protection.fault is None
            protection.check()
            assert plain[2 * PAGE + 5] == 0
            assert plain[: 2 * PAGE] == lossy.data[: 2 * PAGE]
            with pytest.raises(BusError):
                protection.check()
            assert plain[-1] == 0
        assert protection.faulted
        fault = protection.fault
        assert caught.value.poisoned
        assert (caught.value.offset, caught.value.operation) == (2 * PAGE, "protect")
        assert fault is not None
        assert fault.offset == 2 * PAGE + 5
        assert fault.address == start_of(plain) + 2 * PAGE + 5
        assert fault.code is BusCode.ADRERR
        assert fault.thread == threading.get_native_id()

    def test_afterwards_memory_is_the_files(
        self, lossy: LossyFile, plain: standard.mmap
    ) -> None:
        for _ in range(3):
            with pytest.raises(BusError), protect(plain):
                lossy.shrink(PAGE)
                plain[PAGE:] = b"w" * (SIZE - PAGE)
                assert plain[PAGE:] == b"w" * (SIZE - PAGE)
            lossy.restore()
            assert plain[:] == os.pread(lossy.fd, SIZE, 0) == lossy.data
            plain[3 * PAGE] = lossy.data[3 * PAGE] ^ 1  # goes to the file again
            assert os.pread(lossy.fd, 1, 3 * PAGE) == bytes([lossy.data[3 * PAGE] ^ 1])
            lossy.restore()

    def test_grown_back_within_the_block(
        self, lossy: LossyFile, plain: standard.mmap
    ) -> None:
        """What was replaced stays so until the end."""
        with pytest.raises(BusError), protect(plain):
            lossy.shrink(0)
            assert plain[PAGE] == 0
            lossy.restore()
            assert plain[PAGE] == 0
            assert plain[3 * PAGE] == lossy.data[3 * PAGE]
        assert plain[:] == lossy.data

    def test_a_fault_that_nobody_met(
        self, lossy: LossyFile, plain: standard.mmap
    ) -> None:
        with protect(plain) as protection:
            lossy.shrink(PAGE)
            assert plain[:PAGE] == lossy.data[:PAGE]
        assert not protection.faulted

    def test_keeps_an_exception_under_way(
        self, lossy: LossyFile, plain: standard.mmap
    ) -> None:
        with pytest.raises(BusError) as caught, protect(plain):
            lossy.shrink(0)
            raise KeyError(plain[0])
        assert isinstance(caught.value.__context__, KeyError)
        with pytest.raises(KeyError), protect(plain):
            raise KeyError

    def test_keeps_the_buffer_exported(self, plain: standard.mmap) -> None:
        protection = protect(plain)
        with pytest.raises(BufferError):
            plain.close()
        with pytest.raises((BufferError, ValueError)):
            plain.resize(PAGE)
        protection.close()
        protection.close()
        with pytest.raises(ValueError, match="protection has ended"):
            protection.__enter__()

    def test_closing_tells_what_nobody_asked_about(
        self, lossy: LossyFile, plain: standard.mmap
    ) -> None:
        protection = protect(plain)
        lossy.shrink(0)
        assert plain[0] == 0
        with pytest.warns(FaultWarning, match="Protected mmap"):
            protection.close()
        assert protection.faulted
        lossy.restore()
        protection = protect(plain)
        lossy.shrink(0)
        assert plain[0] == 0
        with pytest.warns(FaultWarning):
            del protection
            gc.collect()

    def test_of_our_own_mapping(self, lossy: LossyFile) -> None:
        with safemmap.mmap(lossy.fd, SIZE) as m:
            with pytest.raises(BusError), protect(m), memoryview(m) as view:
                lossy.shrink(PAGE)
                assert view[PAGE] == 0
            assert m.faulted
            lossy.restore()
            m.reset()
            assert m[:] == lossy.data


# ---- NumPy ---------------------------------------------------------------

READING: dict[str, Callable[[Any], object]] = {
    "sum": lambda a: a.sum(),
    "copy from": lambda a: np.copyto(np.empty_like(a), a),
    "fancy": lambda a: a[np.arange(0, a.size, 7)],
    "mask": lambda a: a[a > 100],
    "tobytes": lambda a: a.tobytes(),
    "sorted": lambda a: np.sort(a),
    "strided": lambda a: a[::-3].sum(),
}
WRITING: dict[str, Callable[[Any], object]] = {
    "sort": lambda a: a.sort(),
    "copy to": lambda a: np.copyto(a, 1),
    "fancy": lambda a: a.__setitem__(np.arange(0, a.size, 7), 2),
    "fill": lambda a: a.fill(3),
    "add": lambda a: np.add(a, 1, out=a),
}


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "file"
    path.write_bytes(pattern(SIZE))
    yield path
    gc.collect()  # a memmap is closed with its last reference


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:  # (Truncating it first would have ext4 flush it.)
        file.write(pattern(SIZE))


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 100, 3 * PAGE, 3 * PAGE + 100])
@pytest.mark.parametrize("mode", ["r", "r+", "c", "w+"])
class TestMemmap:
    def test_reading(self, path: Path, mode: Any, left: int) -> None:
        file = np.memmap(path, np.uint8, mode, shape=SIZE)
        for name, work in READING.items():
            rewrite(path)
            with pytest.raises(BusError) as caught, protect(file):
                os.truncate(path, left)
                work(file)
            assert caught.value.offset >= left, name
            assert path.read_bytes() == pattern(SIZE)[:left], name
            rewrite(path)
            assert file.tobytes() == pattern(SIZE), name

    def test_writing(self, path: Path, mode: Any, left: int) -> None:
        file = np.memmap(path, np.uint8, mode, shape=SIZE)
        edge = -(-left // PAGE) * PAGE
        for name, work in WRITING.items():
            rewrite(path)
            if mode == "r":
                with pytest.raises(ValueError), protect(file):
                    work(file)
                continue
            with pytest.raises(BusError), protect(file):
                os.truncate(path, left)
                work(file)
            # What was stored where there is no file any more has reached nobody.
            assert os.path.getsize(path) == left, name
            os.truncate(path, SIZE)
            assert path.read_bytes()[edge:] == bytes(SIZE - edge), name
            assert file[edge:].tobytes() == bytes(SIZE - edge), name
            if mode == "c":
                assert path.read_bytes()[:left] == pattern(SIZE)[:left], name
            else:
                assert path.read_bytes()[:left] == file[:left].tobytes(), name


class TestArrays:
    @pytest.mark.parametrize(
        "slice_",
        [
            lambda a: a[5:],
            lambda a: a[::3],
            lambda a: a[::-1],
            lambda a: a[::-PAGE],
            lambda a: a[3 * PAGE - 1 : 3 * PAGE + 1],
            lambda a: a.reshape(8, PAGE)[::-2, ::-7],
            lambda a: a.reshape(8, PAGE).T,
            lambda a: a.reshape(2, 4, PAGE)[:, 1:3, 10:20],
            lambda a: a.view(np.uint32)[1::2],
            lambda a: a.view([("x", "u1"), ("y", "<u2"), ("z", "u1")])["y"],
            lambda a: a[SIZE - 1 :].reshape(()),
            lambda a: np.broadcast_to(a[SIZE - 1 :], (3, 100)),
        ],
    )
    def test_slices(
        self,
        lossy: LossyFile,
        plain: standard.mmap,
        slice_: Callable[[Any], Any],
    ) -> None:
        part = slice_(np.frombuffer(plain, np.uint8))
        whole = part.copy()
        with protect(part) as protection:
            assert (part == whole).all()
        assert not protection.faulted
        with pytest.raises(BusError) as caught, protect(part):
            lossy.shrink(0)
            assert not part.any()
        low, high = np.lib.array_utils.byte_bounds(part)
        assert 0 <= caught.value.offset < high - low
        assert low - PAGE < caught.value.address < high
        lossy.restore()
        assert (part == whole).all()

    @pytest.mark.parametrize("slice_", [slice(0, 0), slice(SIZE, None), slice(5, 5)])
    def test_of_no_length(
        self, lossy: LossyFile, plain: standard.mmap, slice_: slice
    ) -> None:
        with protect(np.frombuffer(plain, np.uint8)[slice_]) as protection:
            lossy.shrink(0)
        assert not protection.faulted

    def test_pages_beside_it_are_not_protected(
        self, lossy: LossyFile, plain: standard.mmap
    ) -> None:
        """But what shares its first and its last page is."""
        part = np.frombuffer(plain, np.uint8)[2 * PAGE + 10 : 4 * PAGE + 10]
        with pytest.raises(BusError) as caught, protect(part):
            lossy.shrink(2 * PAGE)
            assert plain[2 * PAGE] == 0
            assert plain[5 * PAGE - 1] == 0
        assert caught.value.offset == 0
        assert len(areas_of(plain)) == 1

    def test_datetimes(self, lossy: LossyFile, plain: standard.mmap) -> None:
        times = np.frombuffer(plain, np.int64).view("M8[s]")
        try:
            protection = protect(times)
        except (ValueError, BufferError) as error:
            assert "buffer" in str(error)  # NumPy exports none
            return
        with pytest.raises(BusError), protection:
            lossy.shrink(0)
            assert not times.view(np.int64).any()

    def test_objects(self) -> None:
        things = np.array([1, "two", None], dtype=object)
        with protect(things) as protection:
            assert things[1] == "two"
        assert not protection.faulted


# ---- Other exporters -----------------------------------------------------


class TestExporters:
    @pytest.mark.parametrize(
        "memory",
        [
            array.array("d", range(10_000)),
            bytes(SIZE),
            bytearray(SIZE),
            (ctypes.c_char * SIZE)(),
            memoryview(bytes(SIZE)),
            b"",
            array.array("b"),
        ],
        ids=lambda memory: type(memory).__name__,
    )
    def test_plain_memory_never_faults(self, memory: Any) -> None:
        with protect(memory) as protection:
            before = bytes(memory)
        assert bytes(memory) == before
        assert not protection.faulted
        protection.check()

    @pytest.mark.parametrize(
        "cast",
        [
            lambda view: view,
            lambda view: view.cast("I"),
            lambda view: view.cast("B", (8, PAGE)),
            lambda view: view.toreadonly(),
            lambda view: view[PAGE:-5:3],
            lambda view: view[::-1],
        ],
    )
    def test_memoryviews(
        self,
        lossy: LossyFile,
        plain: standard.mmap,
        cast: Callable[[memoryview], memoryview],
    ) -> None:
        with memoryview(plain) as base, cast(base) as view:
            with pytest.raises(BusError), protect(view):
                lossy.shrink(0)
                assert not any(view.tobytes())
            lossy.restore()

    def test_a_released_buffer(self, plain: standard.mmap) -> None:
        view = memoryview(plain)
        view.release()
        with pytest.raises(ValueError):
            protect(view)

    @pytest.mark.parametrize("what", [None, 1, "text", object(), [1], {}, np.uint8])
    def test_what_exports_no_buffer(self, what: Any) -> None:
        fds = open_fds()
        with pytest.raises(TypeError):
            protect(what)
        assert open_fds() == fds

    @pytest.mark.parametrize("views", ["deny", "crash", "", None, 1])
    def test_views_that_there_are_not(self, plain: standard.mmap, views: Any) -> None:
        with pytest.raises(ValueError, match="views must be"):
            protect(plain, views=views)

    def test_read_only(self, lossy: LossyFile) -> None:
        mapping = standard.mmap(lossy.fd, SIZE, access=standard.ACCESS_READ)
        with pytest.raises(BusError), protect(mapping):
            lossy.shrink(PAGE)
            assert mapping[PAGE:] == bytes(SIZE - PAGE)
        lossy.restore()
        assert mapping[:] == lossy.data
        mapping.close()

    def test_private_changes_are_kept(self, lossy: LossyFile) -> None:
        mapping = standard.mmap(lossy.fd, SIZE, access=standard.ACCESS_COPY)
        mapping[:5] = b"first"
        with pytest.raises(BusError), protect(mapping):
            lossy.shrink(2 * PAGE)
            mapping[PAGE : PAGE + 6] = b"second"
            assert mapping[3 * PAGE] == 0
        lossy.restore()
        assert (mapping[:5], mapping[PAGE : PAGE + 6]) == (b"first", b"second")
        assert mapping[2 * PAGE :] == lossy.data[2 * PAGE :]
        assert os.pread(lossy.fd, SIZE, 0) == lossy.data
        mapping.close()

    def test_in_the_middle_of_a_file(self, lossy: LossyFile) -> None:
        mapping = standard.mmap(lossy.fd, 4 * PAGE, offset=2 * PAGE)
        with pytest.raises(BusError) as caught, protect(mapping):
            lossy.shrink(4 * PAGE)
            assert mapping[:] == lossy.data[2 * PAGE : 4 * PAGE] + bytes(2 * PAGE)
        # (As memcpy(3) likes: from the front, or from the back.)
        assert caught.value.offset in (2 * PAGE, 3 * PAGE)
        lossy.restore()
        assert mapping[:] == lossy.data[2 * PAGE : 6 * PAGE]
        mapping.close()


@needs_shared_memory
def test_shared_memory() -> None:
    """(multiprocessing leaves a process behind that looks after it.)"""
    done = run_isolated("shared_memory.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")


# ---- Ranges that share pages ---------------------------------------------


class TestTogether:
    def test_all_that_hold_the_page_are_told(
        self, lossy: LossyFile, plain: standard.mmap
    ) -> None:
        bytes_ = np.frombuffer(plain, np.uint8)
        parts = {
            "all": bytes_,
            "the same": bytes_,
            "nested": bytes_[PAGE + 1 : 6 * PAGE - 1],
            "the page": bytes_[4 * PAGE : 5 * PAGE],
            "its end": bytes_[5 * PAGE - 1 : 5 * PAGE],
            "over its edge": bytes_[5 * PAGE - 1 : 5 * PAGE + 1],
        }
        others = {"before": bytes_[: 4 * PAGE], "after": bytes_[5 * PAGE :]}
        with contextlib.ExitStack() as stack:
            protections = {
                name: protect(part) for name, part in {**parts, **others}.items()
            }
            for protection in protections.values():
                stack.callback(protection.close)
            lossy.shrink(4 * PAGE)
            assert plain[4 * PAGE] == 0
            for name, protection in protections.items():
                assert protection.faulted == (name in parts), name
                with pytest.raises(BusError) if name in parts else open(os.devnull):
                    protection.check()
            safemmap.faults()

    @pytest.mark.parametrize("within", [slice(0, SIZE), slice(5 * PAGE, 6 * PAGE)])
    def test_a_late_one_does_not_take_zeros_for_data(
        self, lossy: LossyFile, plain: standard.mmap, within: slice
    ) -> None:
        part = memoryview(plain)[within]
        with pytest.raises(BusError), protect(plain):
            lossy.shrink(PAGE)
            assert plain[PAGE:] == bytes(SIZE - PAGE)
            lossy.restore()
            with pytest.raises(BusError) as caught:
                protect(part)
            assert caught.value.poisoned
        with protect(part):
            assert bytes(part) == lossy.data[within]
        part.release()

    def test_one_ends_and_the_other_goes_on(
        self, lossy: LossyFile, plain: standard.mmap
    ) -> None:
        bytes_ = np.frombuffer(plain, np.uint8)
        for first, second in (
            (bytes_, bytes_),
            (bytes_, bytes_[5 * PAGE :]),
            (bytes_[5 * PAGE :], bytes_),
        ):
            one, other = protect(first), protect(second)
            lossy.shrink(PAGE)
            for protection in one, other:
                assert plain[6 * PAGE] == 0
                with pytest.raises(BusError):
                    protection.check()
                protection.close()
            lossy.restore()
            assert plain[:] == lossy.data

    @pytest.mark.filterwarnings("ignore::safemmap.FaultWarning")  # it takes a while
    def test_thousands_in_any_order(
        self, lossy: LossyFile, plain: standard.mmap
    ) -> None:
        rng = random.Random(5)
        fds = open_fds()
        bytes_ = np.frombuffer(plain, np.uint8)
        protections = []
        for _ in range(5000):
            start, stop = sorted(rng.choices(range(SIZE + 1), k=2))
            reach = range(start // PAGE, -(-stop // PAGE) if stop > start else 0)
            protections.append((protect(bytes_[start:stop]), reach))
        lossy.shrink(3 * PAGE)
        assert not bytes_[5 * PAGE]
        rng.shuffle(protections)
        for protection, reach in protections:
            assert protection.faulted == (5 in reach)
            if protection.faulted:
                with pytest.raises(BusError):
                    protection.check()
        lossy.restore()
        for protection, reach in protections:
            protection.close()
            assert protection.faulted == (5 in reach)
        assert plain[:] == lossy.data
        assert open_fds() <= fds
        safemmap.faults()


# ---- Threads -------------------------------------------------------------

copy = ctypes.CDLL(None).memcpy  # without the GIL
copy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
copy.restype = ctypes.c_void_p


def test_closing_while_another_protection_faults(
    lossy: LossyFile, plain: standard.mmap
) -> None:
    """Pages are put back under threads that touch them all the time."""
    address = start_of(plain)
    round_ = threading.Barrier(3)
    going = True
    wrong: list[bytes] = []
    copies = 0

    def touch() -> None:
        nonlocal copies
        target = ctypes.create_string_buffer(SIZE)
        while True:
            round_.wait()
            if not going:
                return
            while not stop.is_set():
                copy(target, address, SIZE)
                copies += 1
                if target.raw != lossy.data[:PAGE] + bytes(SIZE - PAGE):
                    wrong.append(target.raw)
            round_.wait()

    threads = [threading.Thread(target=touch, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    rng = random.Random(1)
    for _ in range(100):
        lossy.restore()
        stop = threading.Event()
        last = protect(plain)
        others = []
        for _ in range(8):
            start, end = sorted(rng.choices(range(SIZE + 1), k=2))
            others.append(protect(memoryview(plain)[start:end]))
        lossy.shrink(PAGE)
        round_.wait()
        while not last.faulted:
            pass
        for protection in others:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FaultWarning)
                protection.close()
        stop.set()
        round_.wait()
        with pytest.raises(BusError):
            last.check()
        last.close()
    going = False
    round_.wait()
    for thread in threads:
        thread.join()
    assert copies > 50
    assert not wrong
    safemmap.faults()


def test_nothing_lands_on_who_has_the_addresses_next(lossy: LossyFile) -> None:
    """The protection and the mapping end right after the last touch, and another
    file is mapped in the very place."""
    other = LossyFile(SIZE)
    for _ in range(300):
        lossy.restore()
        plain = standard.mmap(lossy.fd, SIZE)
        address = start_of(plain)
        protection = protect(plain)
        on, off = threading.Event(), threading.Event()
        lossy.shrink(0)

        def touch(
            address: int = address,
            on: threading.Event = on,
            off: threading.Event = off,
        ) -> None:
            target = ctypes.create_string_buffer(8)
            while on.is_set():
                for page in range(8):
                    copy(target, address + page * PAGE, 8)
                    assert target.raw == bytes(8)
            off.set()

        on.set()
        thread = threading.Thread(target=touch)
        thread.start()
        while not protection.faulted:
            pass
        on.clear()
        assert off.wait(10)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FaultWarning)
            protection.close()
        plain.close()
        there = map_at(address, other.fd)
        thread.join()
        assert ctypes.string_at(there, SIZE) == other.data
        assert libc.munmap(ctypes.c_void_p(there), ctypes.c_size_t(SIZE)) == 0
    safemmap.faults()
    other.close()


def map_at(address: int, fd: int) -> int:
    fixed_noreplace = 0x100000
    flags = standard.MAP_SHARED | fixed_noreplace
    assert libc.mmap(address, SIZE, standard.PROT_READ, flags, fd, 0) == address
    return address


@not_under_asan("has to be preloaded before anything else")
def test_a_look_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    shim = neighbours.compiled(tmp_path, "failing_calls.c")
    done = run_isolated(
        "protect_without_list.py", str(shim), inside=["env", f"LD_PRELOAD={shim}"]
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")


@not_under_asan("has to be preloaded before anything else")
def test_zeros_that_cannot_be_taken_back_are_reported(tmp_path: Path) -> None:
    """They stay in memory that the program goes on to use."""
    shim = neighbours.compiled(tmp_path, "failing_calls.c")
    done = run_isolated(
        "not_put_back.py", str(shim), inside=["env", f"LD_PRELOAD={shim}"]
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")
