"""Views: other code reads and writes the mapping through a pointer."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import mmap as standard
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import PAGE, LossyFile, address_of, libc, run_isolated

import safemmap
from safemmap import BusCode, BusError, FaultWarning

np = pytest.importorskip("numpy")

SIZE = 8 * PAGE
MAP_FIXED_NOREPLACE = 0x100000
#: Seconds until a fault that nobody has asked for is warned of.
GRACE = 0.1


@pytest.fixture
def mapping(lossy: LossyFile) -> Iterator[safemmap.mmap]:
    m = safemmap.mmap(lossy.fd, SIZE)
    yield m
    if not m.closed:
        with pytest.raises(BusError) if m.faulted else open(os.devnull):
            m.check()  # told, so that closing is silent
        m.close()


class TestOverlay:
    def test_a_view_reads_zeros_and_the_mapping_is_poisoned(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        with memoryview(mapping) as view:
            lossy.shrink(2 * PAGE)
            assert not mapping.faulted
            assert mapping.fault is None
            assert view[2 * PAGE + 5] == 0
            assert bytes(view[: 2 * PAGE]) == lossy.data[: 2 * PAGE]
        assert mapping.faulted
        fault = mapping.fault
        assert fault is not None
        assert fault.offset == 2 * PAGE + 5
        assert fault.address == mapping_address(mapping, lossy) + 2 * PAGE + 5
        assert fault.code is BusCode.ADRERR
        assert fault.thread == threading.get_native_id()
        with pytest.raises(BusError) as caught:
            mapping.check()
        assert caught.value.poisoned
        assert caught.value.offset == 2 * PAGE

    def test_a_fault_in_the_first_and_the_last_byte(self, lossy: LossyFile) -> None:
        for at in (0, SIZE - 1):
            with safemmap.mmap(lossy.fd, SIZE) as m:
                with memoryview(m) as view:
                    lossy.shrink(0)
                    assert view[at] == 0
                with pytest.raises(BusError):
                    m.check()
            lossy.restore()

    def test_stores_reach_nobody(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        with memoryview(mapping) as view:
            lossy.shrink(PAGE)
            view[PAGE:] = b"w" * (SIZE - PAGE)
            assert bytes(view[PAGE:]) == b"w" * (SIZE - PAGE)
        assert os.fstat(lossy.fd).st_size == PAGE
        lossy.restore()
        assert os.pread(lossy.fd, SIZE, 0) == lossy.data

    def test_a_hole_in_the_middle_is_one_page(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        with memoryview(mapping) as view:
            lossy.lose(mapping, {3})
            assert bytes(view) == (
                lossy.data[: 3 * PAGE] + bytes(PAGE) + lossy.data[4 * PAGE :]
            )
        with pytest.raises(BusError):
            mapping.check()

    @pytest.mark.parametrize("left", [0, 100, 3 * PAGE, 3 * PAGE + 100])
    @pytest.mark.parametrize(
        "work",
        [
            lambda a: a.sum(),
            lambda a: a.sort(),
            lambda a: np.copyto(a, 1),
            lambda a: np.copyto(np.empty_like(a), a),
            lambda a: a[np.arange(0, a.size, 7)],
            lambda a: a.tobytes(),
        ],
        ids=["sum", "sort", "copyto", "copy from", "fancy", "tobytes"],
    )
    def test_numpy(
        self,
        lossy: LossyFile,
        mapping: safemmap.mmap,
        work: Callable[[Any], object],
        left: int,
    ) -> None:
        with (
            pytest.raises(BusError),
            mapping.access(writable=True) as view,
        ):
            lossy.shrink(left)
            work(np.frombuffer(view, dtype=np.uint8))

    def test_numpy_on_many_threads(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        array = np.frombuffer(mapping, dtype=np.uint8)
        lossy.shrink(PAGE)
        sums: list[int] = []
        threads = [
            threading.Thread(target=lambda a: sums.append(int(a.sum())), args=[array])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sums == [sum(lossy.data[:PAGE])] * 4
        with pytest.raises(BusError):
            mapping.check()
        del array


def mapping_address(m: safemmap.mmap, lossy: LossyFile) -> int:
    """Of a poisoned mapping, from which no buffer can be had."""
    with pytest.raises(BusError) as caught:
        m.check()
    return caught.value.address - caught.value.offset


class TestPoison:
    def poison(self, lossy: LossyFile, mapping: safemmap.mmap) -> None:
        with memoryview(mapping) as view:
            lossy.shrink(PAGE)
            assert view[PAGE] == 0

    OPERATIONS = (
        lambda m: m[0],
        lambda m: m[:10],
        lambda m: m[:10:2],
        lambda m: m.read(1),
        lambda m: m.read_byte(),
        lambda m: m.readline(),
        lambda m: m.write(b"x"),
        lambda m: m.write_byte(1),
        lambda m: m.find(b"x"),
        lambda m: m.rfind(b"x"),
        lambda m: m.move(0, 1, 1),
        lambda m: m.resize(PAGE),
        lambda m: m.snapshot(),
        lambda m: m.readinto(bytearray(1)),
        lambda m: m.__setitem__(0, 1),
        lambda m: m.__setitem__(slice(0, 1), b"x"),
        lambda m: memoryview(m),
        lambda m: m.access().__enter__(),
        lambda m: list(m),
        lambda m: m.check(),
    )

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_is_sticky_until_reset(
        self,
        lossy: LossyFile,
        mapping: safemmap.mmap,
        operation: Callable[[safemmap.mmap], object],
    ) -> None:
        self.poison(lossy, mapping)
        for _ in range(2):
            with pytest.raises(BusError) as caught:
                operation(mapping)
            assert caught.value.poisoned
            assert "got zeros in its place" in str(caught.value)
        lossy.restore()  # the file is whole again, the mapping is not
        with pytest.raises(BusError):
            operation(mapping)
        assert mapping.tell() == 0
        mapping.reset()
        assert mapping[:] == lossy.data
        result = operation(mapping)
        if isinstance(result, memoryview):
            result.release()

    def test_what_needs_no_data_goes_on(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        self.poison(lossy, mapping)
        assert (len(mapping), mapping.tell(), mapping.size()) == (SIZE, 0, PAGE)
        mapping.seek(3)
        assert "closed=False" in repr(mapping)

    def test_reset_waits_for_the_file_and_for_views(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        self.poison(lossy, mapping)
        assert mapping.faulted
        with pytest.raises(BusError, match="the file now ends at offset 4096"):
            mapping.reset()
        lossy.restore()
        mapping.reset()
        view = memoryview(mapping)
        lossy.shrink(PAGE)
        assert view[PAGE] == 0
        assert mapping.faulted
        lossy.restore()
        with pytest.raises(BufferError):
            mapping.reset()
        view.release()
        mapping.reset()
        assert not mapping.faulted
        assert mapping[:] == lossy.data

    def test_reset_for_who_has_kept_the_pointer(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        """NumPy keeps no export for this array."""
        array: Any = np.ndarray(SIZE, "u1", memoryview(mapping))
        before = address_of(mapping)
        self.poison(lossy, mapping)
        assert mapping.faulted
        lossy.restore()
        mapping.reset()
        assert address_of(mapping) == before
        assert bytes(array) == lossy.data
        lossy.shrink(PAGE)
        assert array[PAGE] == 0
        assert mapping.faulted

    def test_a_reader_lives_through_resets(self) -> None:
        done = run_isolated("views.py", "a reader lives through resets")
        assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")

    def test_reset_without_a_descriptor(self, lossy: LossyFile) -> None:
        m = safemmap.mmap(lossy.fd, SIZE, trackfd=False)
        self.poison(lossy, m)
        with pytest.raises(ValueError, match="without a file"):
            m.reset()
        with pytest.raises(BusError):
            m.check()
        m.close()

    def test_a_read_under_way_when_it_happens(self) -> None:
        """A view on another thread poisons the mapping in the middle of a bulk read:
        what the read returns may be zeros, so it returns nothing."""
        size = 32 << 20
        for _ in range(10):
            fd = os.memfd_create("bulk")
            os.posix_fallocate(fd, 0, size)
            m = safemmap.mmap(fd, size)
            m[:] = b"d" * size
            view = memoryview(m)
            started = threading.Event()

            def poison(m=m, view=view, started=started, fd=fd) -> None:
                started.wait()
                os.ftruncate(fd, PAGE)
                assert view[size - 1] == 0

            thread = threading.Thread(target=poison)
            thread.start()
            started.set()
            for _ in range(20):
                try:
                    data = m[:]
                except BusError:
                    break
                assert data.count(0) == 0
            thread.join()
            view.release()
            with pytest.raises(BusError):
                m.check()
            m.close()
            os.close(fd)

    def test_closing_tells_what_nobody_asked_about(self, lossy: LossyFile) -> None:
        m = safemmap.mmap(lossy.fd, SIZE)
        self.poison(lossy, m)
        with pytest.warns(FaultWarning, match="when its page was gone"):
            m.close()

    def test_so_does_dropping_it(self, lossy: LossyFile) -> None:
        m = safemmap.mmap(lossy.fd, SIZE)
        self.poison(lossy, m)
        with pytest.warns(FaultWarning):
            del m

    def test_closing_is_silent_once_it_was_told(self, lossy: LossyFile) -> None:
        m = safemmap.mmap(lossy.fd, SIZE)
        self.poison(lossy, m)
        with pytest.raises(BusError):
            m[0]
        m.close()


class TestAccess:
    def test_gives_a_view_of_the_range(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        with mapping.access(100, 50) as view:
            assert bytes(view) == lossy.data[100:150]
            assert view.readonly
            with pytest.raises(BufferError):
                mapping.close()
        with mapping.access(100) as view:
            assert len(view) == SIZE - 100
        with mapping.access(SIZE) as view:
            assert len(view) == 0
        with pytest.raises(ValueError):
            view[0]

    def test_writable(self, lossy: LossyFile, mapping: safemmap.mmap) -> None:
        with mapping.access(3, 1, writable=True) as view:
            view[0] = 0
        assert os.pread(lossy.fd, 1, 3) == b"\0"
        with (
            safemmap.wrap(lossy.fd) as read_only,
            pytest.raises(TypeError, match="readonly"),
        ):
            read_only.access(writable=True)

    @pytest.mark.parametrize("range_", [(-1, 1), (0, -1), (0, SIZE + 1), (SIZE + 1, 0)])
    def test_bad_range(self, mapping: safemmap.mmap, range_: tuple[int, int]) -> None:
        with pytest.raises(ValueError, match="not within the 32768 bytes"):
            mapping.access(*range_)
        with pytest.raises(ValueError):
            mapping.snapshot(*range_)

    def test_reports_a_fault_of_another_thread(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        def other() -> None:
            with pytest.raises(BusError), mapping.access() as view:
                assert view[7 * PAGE] == 0

        with pytest.raises(BusError) as caught, mapping.access(0, PAGE) as view:
            lossy.shrink(2 * PAGE)
            assert view[0] == lossy.data[0]
            lossy.restore()
            lossy.shrink(PAGE)
            thread = threading.Thread(target=other_with_room(lossy, mapping, other))
            thread.start()
            thread.join()
        assert caught.value.poisoned

    def test_reports_a_cut_inside_the_last_page(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        with pytest.raises(BusError) as caught, mapping.access(0, PAGE) as view:
            lossy.shrink(PAGE - 10)
            assert view[PAGE - 1] == 0
        error = caught.value
        assert (error.offset, error.code, error.poisoned) == (PAGE - 10, 0, False)
        assert "ends at offset 4086" in str(error)
        assert not mapping.faulted

    def test_nests(self, lossy: LossyFile, mapping: safemmap.mmap) -> None:
        other = safemmap.mmap(lossy.fd, SIZE)
        with (
            mapping.access() as outer,
            mapping.access(PAGE, PAGE) as inner,
            other.access() as another,
        ):
            assert outer[PAGE] == inner[0] == another[PAGE]
        with pytest.raises(BusError), mapping.access():
            with pytest.raises(BusError), mapping.access() as inner:
                lossy.shrink(0)
                assert inner[0] == 0
            with pytest.raises(BusError):
                mapping.access().__enter__()
        assert not other.faulted
        other.close()

    def test_keeps_an_exception_under_way(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        with pytest.raises(BusError) as caught, mapping.access() as view:
            lossy.shrink(0)
            assert view[0] == 0
            raise KeyError("first")
        assert isinstance(caught.value.__context__, KeyError)
        lossy.restore()
        mapping.reset()
        with pytest.raises(KeyError), mapping.access():
            raise KeyError("alone")

    def test_a_view_that_outlives_it(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        with (
            pytest.raises(BufferError, match="outlives its access scope"),
            mapping.access(0, 100) as view,
        ):
            array = np.frombuffer(view, dtype=np.uint8)
        assert array.tobytes() == lossy.data[:100]
        with pytest.raises(BufferError):
            mapping.close()
        del array, view

    def test_cannot_be_entered_twice_or_left_unentered(
        self, mapping: safemmap.mmap
    ) -> None:
        scope = mapping.access()
        with pytest.raises(RuntimeError):
            scope.__exit__(None, None, None)
        with scope, pytest.raises(RuntimeError):
            scope.__enter__()
        with scope as view:  # one after the other is fine
            assert len(view) == SIZE

    def test_its_buffer_is_for_the_block_only(self, mapping: safemmap.mmap) -> None:
        scope = mapping.access()
        with pytest.raises(BufferError):
            memoryview(scope)
        with scope as view:
            with memoryview(scope) as another:
                assert another == view
            view.release()
            mapping.resize(PAGE)
            with pytest.raises(ValueError, match="resized"):
                memoryview(scope)
            mapping.resize(SIZE)
        later = mapping.access(PAGE)
        mapping.resize(PAGE)
        with pytest.raises(ValueError, match="resized"):
            later.__enter__()
        mapping.close()

    def test_a_file_that_was_too_short_before(
        self, lossy: LossyFile, mapping: safemmap.mmap
    ) -> None:
        """Told in the end, whether its pages were touched or not."""
        lossy.shrink(PAGE + 9)
        for touched in (False, True):
            with (
                pytest.raises(BusError) as caught,
                mapping.access(PAGE, SIZE - PAGE) as view,
            ):
                if touched:
                    assert view[PAGE] == 0
            assert caught.value.offset == PAGE + (PAGE if touched else 9)

    def test_one_that_no_mapping_made(self, mapping: safemmap.mmap) -> None:
        kind: Any = type(mapping.access())
        with pytest.raises(RuntimeError, match="access"):
            kind().__enter__()

    def test_an_abandoned_one_gives_the_mapping_back(self, lossy: LossyFile) -> None:
        m = safemmap.mmap(lossy.fd, SIZE)
        scope = m.access()
        scope.__enter__()
        del scope
        gc.collect()
        m.close()

    def test_across_await(self, lossy: LossyFile, mapping: safemmap.mmap) -> None:
        async def task(at: int) -> int:
            with mapping.access(at, 1) as view:
                await asyncio.sleep(0)
                return view[0]

        async def main() -> list[int]:
            return await asyncio.gather(*map(task, range(10)))

        assert asyncio.run(main()) == list(lossy.data[:10])


def other_with_room(
    lossy: LossyFile, mapping: safemmap.mmap, other: Callable[[], None]
) -> Callable[[], None]:
    """The scope of the other thread is entered while the file is whole."""

    def run() -> None:
        lossy.restore()
        scope = mapping.access()
        view = scope.__enter__()
        lossy.shrink(PAGE)
        assert view[7 * PAGE] == 0
        with pytest.raises(BusError):
            scope.__exit__(None, None, None)
        lossy.restore()

    return run


class TestCopies:
    def test_snapshot(self, lossy: LossyFile, mapping: safemmap.mmap) -> None:
        assert mapping.snapshot() == lossy.data
        assert mapping.snapshot(10, 20) == lossy.data[10:30]
        lossy.shrink(2 * PAGE - 1)
        assert mapping.snapshot(0, PAGE) == lossy.data[:PAGE]
        with pytest.raises(BusError) as caught:
            mapping.snapshot(0, 2 * PAGE)  # the last byte reads as zero, silently
        assert caught.value.offset == 2 * PAGE - 1
        assert caught.value.operation == "snapshot"

    def test_readinto(self, lossy: LossyFile, mapping: safemmap.mmap) -> None:
        buffer = bytearray(100)
        assert mapping.readinto(buffer) == 100
        assert (bytes(buffer), mapping.tell()) == (lossy.data[:100], 100)
        assert mapping.readinto(buffer, 200) == 100
        assert (bytes(buffer), mapping.tell()) == (lossy.data[200:300], 100)
        assert mapping.readinto(buffer, SIZE - 30) == 30
        assert mapping.readinto(buffer, SIZE) == 0
        lossy.shrink(PAGE)
        mapping.seek(PAGE - 50)
        with pytest.raises(BusError) as caught:
            mapping.readinto(buffer)
        assert caught.value.offset == PAGE
        assert mapping.tell() == PAGE - 50

    @pytest.mark.parametrize("offset", [-1, SIZE + 1])
    def test_readinto_outside(self, mapping: safemmap.mmap, offset: int) -> None:
        with pytest.raises(ValueError):
            mapping.readinto(bytearray(1), offset)

    def test_readinto_needs_a_writable_buffer(self, mapping: safemmap.mmap) -> None:
        with pytest.raises((TypeError, BufferError)):
            mapping.readinto(b"x")


def test_closing_while_another_thread_faults_in_its_view(lossy: LossyFile) -> None:
    """It is refused; and when the view is gone, nothing lands on who comes next at the
    same address."""
    fixed = standard.MAP_PRIVATE | standard.MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
    prot = standard.PROT_READ | standard.PROT_WRITE
    refused = reused = 0
    for _ in range(200):
        m = safemmap.mmap(lossy.fd, SIZE)
        view = memoryview(m)
        address = address_of(m)
        lossy.shrink(0)
        ready = threading.Barrier(2)

        def touch(view: memoryview = view, ready: threading.Barrier = ready) -> None:
            ready.wait()
            for page in range(8):
                assert view[page * PAGE] == 0
            view.release()

        began = time.monotonic()
        thread = threading.Thread(target=touch)
        thread.start()
        ready.wait()
        while not m.closed:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                try:
                    m.close()
                except BufferError:
                    refused += 1
        closed = time.monotonic()
        # (Unless an allocation of another thread was quicker.)
        if libc.mmap(address, SIZE, prot, fixed, -1, 0) == address:
            reused += 1
            ctypes.memset(address, 0xA5, SIZE)
            thread.join()
            assert ctypes.string_at(address, SIZE) == b"\xa5" * SIZE
            assert libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(SIZE)) == 0
        thread.join()
        assert {warning.category for warning in told} == {FaultWarning}
        if closed - began < GRACE and getattr(sys, "_is_gil_enabled", lambda: True)():
            assert len(told) == 1
        else:
            # What another thread warns of, just before or unasked, may be among them.
            assert len(told) <= 2
        lossy.restore()
    assert refused
    assert reused > 100


@pytest.mark.parametrize(
    "case",
    [
        "anonymous, grown",
        "anonymous, huge",
        "huge file",
        "huge file, not tracked",
        "many holes",
        "others while it is made anew",
    ],
)
def test_in_a_process_of_its_own(case: str) -> None:
    if "huge" in case and not has_huge_pages():
        pytest.skip("this kernel has no huge pages to be without")
    done = run_isolated("views.py", case)
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")


def has_huge_pages() -> bool:
    try:
        fd = os.memfd_create("huge", os.MFD_HUGETLB)
    except OSError:
        return False
    os.close(fd)
    with open("/proc/meminfo") as info:
        text = info.read()
    # With pages to spare there would be no fault.
    return "HugePages_Free:        0" in text and "Hugepagesize:       2048 kB" in text


def test_no_zero_is_read_before_the_poison_is_seen() -> None:
    """A view on another thread, without the GIL, meets the lost tail first."""
    size = 64 * PAGE
    copy = ctypes.CDLL(None).memcpy
    copy.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
    for _ in range(300):
        fd = os.memfd_create("tail")
        os.write(fd, b"d" * size)
        m = safemmap.mmap(fd, size)
        view = memoryview(m)
        address = address_of(m)
        ready = threading.Barrier(2)

        def touch(address: int = address, ready: threading.Barrier = ready) -> None:
            ready.wait()
            copy(ctypes.create_string_buffer(8), address + size - PAGE, 8)

        thread = threading.Thread(target=touch)
        thread.start()
        os.ftruncate(fd, 0)
        ready.wait()
        while True:
            try:
                data = m[PAGE : PAGE + 8]
            except BusError as error:
                if error.poisoned:
                    break
            else:
                pytest.fail(f"{data!r} was never in the file")
        thread.join()
        view.release()
        m.close()
        os.close(fd)


def test_a_warning_that_takes_a_view_of_what_is_being_closed(
    lossy: LossyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = safemmap.mmap(lossy.fd, SIZE)
    TestPoison().poison(lossy, m)
    kept = []

    def show(*args: object, **options: object) -> None:
        lossy.restore()
        m.reset()
        kept.append(memoryview(m))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", show)
        with pytest.raises(BufferError):
            m.close()
    assert bytes(kept.pop()) == lossy.data
    m.close()


def test_a_repr_that_resurrects_is_not_asked(lossy: LossyFile) -> None:
    kept = []

    class Resurrecting(safemmap.mmap):
        def __repr__(self) -> str:
            kept.append(self)
            return "?"

    m = Resurrecting(lossy.fd, SIZE)
    TestPoison().poison(lossy, m)
    with pytest.warns(FaultWarning, match="Resurrecting"):
        del m
    assert kept == []


def test_no_weak_reference_leads_to_a_mapping_that_is_being_deallocated(
    lossy: LossyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = safemmap.mmap(lossy.fd, SIZE)
    TestPoison().poison(lossy, m)
    reference = weakref.ref(m)
    found = []

    def show(*args: object, **options: object) -> None:
        found.append(reference())

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", show)
        del m
    assert found == [None]


def test_a_reset_within_a_scope_does_not_hide_the_fault(
    lossy: LossyFile, mapping: safemmap.mmap
) -> None:
    with pytest.raises(BusError) as caught, mapping.access() as view:
        lossy.shrink(PAGE)
        assert bytes(view[PAGE:]).count(0) == SIZE - PAGE
        view.release()
        lossy.restore()
        mapping.reset()
    assert caught.value.poisoned
    assert caught.value.offset == PAGE
    assert mapping[:] == lossy.data


def test_a_reset_does_not_hide_the_fault_of_a_view(
    lossy: LossyFile, mapping: safemmap.mmap
) -> None:
    """Another thread may have read the zeros, and is yet to ask."""
    with memoryview(mapping) as view:
        lossy.shrink(PAGE)
        assert view[PAGE] == 0
    lossy.restore()
    with pytest.warns(FaultWarning, match="got zeros in the place of data") as told:
        mapping.reset()
    assert len(told) == 1
    assert mapping[:] == lossy.data


def test_flush_of_what_went_nowhere(lossy: LossyFile, mapping: safemmap.mmap) -> None:
    with memoryview(mapping) as view:
        lossy.shrink(0)
        view[0] = 1
    lossy.restore()
    with pytest.raises(BusError):
        mapping.flush()


def test_an_exception_is_not_hidden_by_a_view_that_it_keeps(
    mapping: safemmap.mmap,
) -> None:
    with pytest.raises(KeyError), mapping.access() as view:
        array = np.frombuffer(view, dtype=np.uint8)
        raise KeyError(array[0])
    del array, view


def test_anonymous_memory() -> None:
    with safemmap.mmap(-1, PAGE) as m, m.access(writable=True) as view:
        view[0] = 1
        assert not m.faulted
        m.check()
        assert m[0] == 1


def test_many_views_of_many_mappings(lossy: LossyFile) -> None:
    maps = [safemmap.mmap(lossy.fd, SIZE) for _ in range(500)]
    views = [memoryview(m) for m in maps]
    lossy.shrink(PAGE)
    for view in views[::3]:
        assert view[SIZE - 1] == 0
    for index, (m, view) in enumerate(zip(maps, views, strict=True)):
        assert m.faulted == (index % 3 == 0)
        view.release()
        if m.faulted:
            with pytest.raises(BusError):
                m.check()
        m.close()


def test_guarded_faults_do_not_poison(lossy: LossyFile) -> None:
    with safemmap.mmap(lossy.fd, SIZE) as m, memoryview(m):
        lossy.shrink(0)
        with pytest.raises(BusError) as caught:
            m[0]
        assert caught.value.address == address_of(m)
        assert not m.faulted


def test_the_size_of_the_file_is_that_of_the_fault(lossy: LossyFile) -> None:
    """Which is why it happened, even if the file is whole again when it is told."""
    with safemmap.mmap(lossy.fd, 8 * PAGE) as m:
        lossy.shrink(2 * PAGE + 5)
        with pytest.raises(BusError) as caught, m.access() as view:
            assert view[5 * PAGE] == 0
            lossy.restore()
        assert caught.value.offset == 5 * PAGE
        assert caught.value.needed == 5 * PAGE + 1
        assert caught.value.file_size == 2 * PAGE + 5
