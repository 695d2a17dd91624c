"""`views="interrupt"`: the exception is raised before the program can use a zero."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ctypes
import functools
import gc
import mmap as standard
import operator
import os
import pickle
import subprocess
import sys
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import neighbours
import pytest
from conftest import PAGE, LossyFile, needs_gil

import safemmap
from safemmap import BusError

numpy = pytest.importorskip("numpy")

pytestmark = needs_gil

SIZE = 256 * PAGE

TRIES = 15
# Seconds that a busy machine may take for what takes none.
PATIENCE = 30.0

without_gil = ctypes.CDLL(None)
with_gil = ctypes.PyDLL(None)
for library in (without_gil, with_gil):
    library.memcmp.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]


class Memory:
    """A mapping by the standard library, of which all but the first page is gone."""

    def __init__(self) -> None:
        fd = os.memfd_create("gone")
        os.ftruncate(fd, SIZE)
        self.mapping = standard.mmap(fd, SIZE)
        self.view = memoryview(self.mapping)
        self.array = numpy.ndarray(SIZE, "u1", self.mapping)
        self.address = self.array.ctypes.data
        os.ftruncate(fd, PAGE)
        os.close(fd)


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory()
    with pytest.raises(BusError), safemmap.protect(memory.view, views="interrupt"):
        yield memory
    memory.view.release()
    memory.mapping.close()


@pytest.fixture(params=["alone", "contended"])
def contention(request: pytest.FixtureRequest) -> Iterator[None]:
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            sum(range(10))

    others = [
        threading.Thread(target=work) for _ in range(2 * (request.param == "contended"))
    ]
    for thread in others:
        thread.start()
    yield
    done.set()
    for thread in others:
        thread.join()


def here(work: Callable[[], Any]) -> Any:
    return work()


def in_another_thread(work: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


def copies(memory: Memory, used: list[Any]) -> None:
    used += [bytes(memory.view)]


def finds(memory: Memory, used: list[Any]) -> None:
    used += [memory.mapping.find(b"x")]


def sums(memory: Memory, used: list[Any]) -> None:
    used += [memory.array.sum()]


def loads_without_gil(memory: Memory, used: list[Any]) -> None:
    found = without_gil.memcmp(memory.address + 2 * PAGE, b"\0", 1)
    used += [found]


def loads_with_gil(memory: Memory, used: list[Any]) -> None:
    found = with_gil.memcmp(memory.address + 2 * PAGE, b"\0", 1)
    used += [found]


def compares(memory: Memory, used: list[Any]) -> None:
    same = memory.view[PAGE : 2 * PAGE] == bytes(PAGE)
    hash(same)
    used += [same]


def indexes(memory: Memory, used: list[Any]) -> None:
    last = memory.array[-1]
    hash(last)
    used += [last]


def stores(memory: Memory, used: list[Any]) -> None:
    memory.view[-1] = 1
    hash(memory)
    used += ["stored"]


def adds(memory: Memory, used: list[Any]) -> None:
    total = memory.array + 1
    hash(None)
    used += [total]


@pytest.mark.usefixtures("contention")
@pytest.mark.parametrize("run", [here, in_another_thread])
@pytest.mark.parametrize(
    "access",
    [
        copies,
        finds,
        sums,
        loads_without_gil,
        loads_with_gil,
        # What is no call raises at the next one.
        compares,
        indexes,
        stores,
        adds,
    ],
)
def test_no_zero_is_used(
    memory: Memory,
    access: Callable[[Memory, list[Any]], None],
    run: Callable[[Callable[[], Any]], Any],
) -> None:
    def attempt() -> tuple[bool, list[Any]]:
        used: list[Any] = []
        try:
            access(memory, used)
        except BusError:
            return True, used
        return False, used

    outcomes = [run(attempt) for _ in range(TRIES)]
    assert outcomes == [(True, [])] * TRIES


def at_a_turn(array: Any, index: int, seen: list[Any]) -> None:
    value = array[index]
    for turn in range(3):
        seen.append(turn)
        len(seen)
        type(value)
        isinstance(value, int)
        if turn > 0:
            seen.append("used")


def as_a_function_of_c_returns(array: Any, index: int, seen: list[Any]) -> None:
    seen.append(array[index])
    len(seen)
    os.getppid()
    seen.append("used")


def as_a_function_begins(array: Any, index: int, seen: list[Any]) -> None:
    def use() -> None:
        seen.append("used")

    seen.append(array[index])
    isinstance(seen, list)
    use()


def after_a_return(array: Any, index: int, seen: list[Any]) -> None:
    def get() -> Any:
        seen.append(array[index])
        return seen[-1]

    seen.append(get())
    os.getppid()
    seen.append("used")


@pytest.mark.parametrize("run", [here, in_another_thread])
@pytest.mark.parametrize(
    "access",
    [at_a_turn, as_a_function_of_c_returns, as_a_function_begins, after_a_return],
)
def test_after_an_index(
    memory: Memory,
    access: Callable[[Any, int, list[Any]], None],
    run: Callable[[Callable[[], Any]], Any],
) -> None:
    """Where the interpreter looks for it at the latest. (It does not as a function
    returns, nor at calls that it has a specialised instruction for.)"""
    for _ in range(100):
        access(memory.array, 0, [])  # by then they are specialised

    def attempt() -> list[Any]:
        seen: list[Any] = []
        try:
            access(memory.array, PAGE, seen)
        except BusError:
            seen.append("raised")
        return seen

    for _ in range(TRIES):
        seen = run(attempt)
        assert seen[-1] == "raised"
        assert "used" not in seen


# ---- Where it is raised --------------------------------------------------


def test_each_time(memory: Memory) -> None:
    for _ in range(3):
        with pytest.raises(BusError) as caught:
            memory.array.sum()
        assert caught.value.operation == "view"
        assert caught.value.poisoned
        assert type(caught.value) is BusError


def test_swallowed_and_raised_by_the_next_touch(memory: Memory) -> None:
    class Lenient:
        def __getitem__(self, index: int) -> int:
            with contextlib.suppress(Exception):
                return int(memory.array[index])
            return -1

    assert [Lenient()[PAGE], Lenient()[PAGE]] == [-1, -1]
    with pytest.raises(BusError):
        int(memory.array[PAGE])


def test_not_in_a_destructor(memory: Memory) -> None:
    """That of what the call under way has let go of."""
    left: list[bool] = []

    class Last(bytes):
        def __del__(self) -> None:
            for _ in range(3):
                hash(None)
            left.append(True)

    used = []
    for _ in range(TRIES):
        with pytest.raises(BusError):
            used += [with_gil.memcmp(memory.address + PAGE, Last(b"1"), 1)]
    assert left == [True] * TRIES
    assert used == []


def test_in_a_generator(memory: Memory) -> None:
    def pages() -> Iterator[int]:
        for start in range(0, SIZE, PAGE):
            yield int(memory.array[start])

    met = []
    with pytest.raises(BusError):
        met += list(pages())
    assert met == []


@pytest.mark.parametrize("buffer", ["numpy", "memmap", "ctypes", "none"])
def test_whoever_kept_the_pointer(lossy: LossyFile, buffer: str) -> None:
    """With no buffer out any more."""
    size = 8 * PAGE
    m = safemmap.mmap(lossy.fd, size, views="interrupt")
    if buffer == "ctypes":
        address = ctypes.addressof(ctypes.c_char.from_buffer(m))
    else:
        address = numpy.ndarray(size, "u1", m).ctypes.data
    array = numpy.ctypeslib.as_array((ctypes.c_ubyte * size).from_address(address))
    gc.collect()
    lossy.shrink(PAGE)
    for _ in range(3):
        total = None
        with pytest.raises(BusError) as caught:
            total = array.sum()
        assert total is None
        assert caught.value.offset == PAGE
    with pytest.raises(BusError):
        m.check()
    m.close()


def test_a_reset_takes_no_exception_from_another_thread(lossy: LossyFile) -> None:
    """Which has read the zeros, or is about to."""
    m = safemmap.mmap(lossy.fd, 8 * PAGE, views="interrupt")
    address = ctypes.addressof(ctypes.c_char.from_buffer(m))
    gc.collect()

    def read() -> list[Any]:
        used: list[Any] = []
        with pytest.raises(BusError) as caught:
            used += [without_gil.memcmp(address, b"\0", 1)]
        assert caught.value.offset == 0
        return used

    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        for _ in range(TRIES):
            lossy.shrink(0)
            used = executor.submit(read)
            while not m.faulted:
                pass
            lossy.restore()
            m.reset()
            assert used.result(PATIENCE) == []
            m.check()
    m.close()


RESETS = """
import os, threading, time, numpy, safemmap

size = 64 * safemmap.PAGESIZE
fd = os.memfd_create("reset")
os.ftruncate(fd, size)
m = safemmap.mmap(fd, size, views="interrupt")
array = numpy.ndarray(size, "u1", m)
ended = threading.Event()
used = set()

def read():
    while not ended.is_set():
        try:
            used.add(int(array.sum()))
        except safemmap.BusError:
            pass

os.pwrite(fd, bytes([1]) * size, 0)
thread = threading.Thread(target=read)
thread.start()
for _ in range(300):
    os.ftruncate(fd, safemmap.PAGESIZE)
    time.sleep(0.0005)
    os.pwrite(fd, bytes([1]) * size, 0)
    m.reset()
    time.sleep(0.0005)
ended.set()
thread.join()
print(used <= {size})
"""


def test_resets_beside_a_thread_that_reads_on() -> None:
    """Whose faults find the region that was there, or the one that is."""
    command = [sys.executable, "-W", "ignore", "-c", RESETS]
    child = subprocess.run(
        command, capture_output=True, text=True, timeout=10 * PATIENCE, check=False
    )
    assert (child.returncode, child.stdout) == (0, "True\n"), child.stderr


# ---- Errors of the code under way ----------------------------------------


def own_error(memory: Memory, without_gil: bool) -> Any:
    """By C code that reads a zero, and in the same call refuses it."""
    if without_gil:
        return zlib.decompress(memory.view[2 * PAGE :])
    return pickle.loads(memory.view[2 * PAGE :])


OWN = (zlib.error, pickle.UnpicklingError)


def causes(error: BaseException | None) -> list[type[BaseException]]:
    found: list[type[BaseException]] = []
    while error is not None and len(found) < 100:
        found.append(type(error))
        error = error.__cause__
    return found


@pytest.mark.usefixtures("contention")
@pytest.mark.parametrize("without_gil", [False, True])
class TestOwnError:
    """It is raised, with ours as its cause, and nobody's `except` is cut in two."""

    def test_in_an_executor(self, memory: Memory, without_gil: bool) -> None:
        with concurrent.futures.ThreadPoolExecutor(2) as executor:
            for _ in range(TRIES):
                future = executor.submit(own_error, memory, without_gil)
                found = causes(future.exception(PATIENCE))
                assert found == [OWN[not without_gil], BusError]
            assert executor.submit(len, "alive").result(PATIENCE) == 5

    @pytest.mark.parametrize("run", [here, in_another_thread])
    def test_in_an_except_block(
        self,
        memory: Memory,
        without_gil: bool,
        run: Callable[[Callable[[], Any]], Any],
    ) -> None:
        def attempt() -> tuple[list[type[BaseException]], int]:
            steps: list[int] = []
            try:
                own_error(memory, without_gil)
            except OWN as error:
                for step in range(10):
                    steps.append(step)
                return causes(error), len(steps)
            return [], 0

        for _ in range(TRIES):
            assert run(attempt) == ([OWN[not without_gil], BusError], 10)

    def test_in_asyncio(self, memory: Memory, without_gil: bool) -> None:
        async def main() -> list[Any]:
            def read() -> Any:
                return own_error(memory, without_gil)

            # (One after the other: while one thread is about to be told, the others
            # read its zeros.)
            found: list[Any] = []
            for _ in range(TRIES):
                job = asyncio.wait_for(asyncio.to_thread(read), PATIENCE)
                found += await asyncio.gather(job, return_exceptions=True)
            return found

        assert [causes(error) for error in asyncio.run(main())] == [
            [OWN[not without_gil], BusError]
        ] * TRIES

    def test_that_has_a_cause(self, memory: Memory, without_gil: bool) -> None:
        """Ours is the first of all causes."""

        def attempt() -> None:
            try:
                own_error(memory, without_gil)
            except OWN as error:
                raise ValueError from error

        with pytest.raises(ValueError) as caught:
            attempt()
        assert causes(caught.value) == [ValueError, OWN[not without_gil], BusError]

    def test_whose_causes_lead_back_to_it(
        self, memory: Memory, without_gil: bool
    ) -> None:
        def attempt() -> None:
            try:
                own_error(memory, without_gil)
            except OWN as error:
                error.__cause__ = other
                other.__cause__ = error
                raise

        other = ValueError()
        with pytest.raises(OWN) as caught:
            attempt()
        assert BusError in causes(caught.value)[:3]


@pytest.mark.usefixtures("contention")
@pytest.mark.parametrize("run", [here, in_another_thread])
def test_an_older_error_is_none_of_its_own(
    memory: Memory, run: Callable[[Callable[[], Any]], Any]
) -> None:
    """The access is made where another exception is handled."""

    def attempt() -> Any:
        try:
            raise OwnError
        except OwnError:
            try:
                return memory.array.sum()
            except BusError as error:
                return causes(error)

    class OwnError(Exception):
        pass

    for _ in range(TRIES):
        assert run(attempt) == [BusError]


class Member:
    """What a weak set can hold."""


@pytest.mark.parametrize(
    "hold",
    [weakref.WeakSet, lambda members: weakref.WeakValueDictionary(enumerate(members))],
)
def test_not_in_the_callback_of_a_weak_reference(
    memory: Memory, hold: Callable[[list[Member]], object]
) -> None:
    """It would be ignored there."""
    members = [Member()]
    holder = hold(members)
    touch = functools.partial(memory.view.__getitem__, -1)
    calls: tuple[Callable[[], object], ...] = (touch, members.clear)
    with pytest.raises(BusError):
        # The function that frees the member is called by C code, after the touch.
        list(map(operator.call, calls))
        hash(holder)


# ---- What has returned before it could be raised --------------------------


@pytest.mark.usefixtures("contention")
@pytest.mark.parametrize(
    "job",
    [
        lambda memory: memory.array[-1],
        lambda memory: memory.array + 1,
        lambda memory: memory.array.sum(),
        lambda memory: memory.view[PAGE : 2 * PAGE] == bytes(PAGE),
    ],
)
class TestReturned:
    def test_to_an_executor(
        self, memory: Memory, job: Callable[[Memory], object]
    ) -> None:
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            for _ in range(TRIES):
                future = executor.submit(job, memory)
                assert causes(future.exception(PATIENCE)) == [BusError]

    def test_to_an_event_loop(
        self, memory: Memory, job: Callable[[Memory], object]
    ) -> None:
        async def returns() -> object:
            return job(memory)

        async def main() -> None:
            for _ in range(TRIES):
                used = []
                with pytest.raises(BusError):
                    result = await asyncio.create_task(returns())
                    hash(None)
                    used.append(result)
                assert used == []

        asyncio.run(asyncio.wait_for(main(), PATIENCE))

    def test_to_a_thread(
        self,
        memory: Memory,
        job: Callable[[Memory], object],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        met: list[type[BaseException]] = []
        monkeypatch.setattr(
            threading, "excepthook", lambda args: met.append(args.exc_type)
        )
        for _ in range(TRIES):
            thread = threading.Thread(target=job, args=(memory,))
            thread.start()
            thread.join()
            assert thread not in threading.enumerate()
        assert met == [BusError] * TRIES


@pytest.mark.usefixtures("contention")
@pytest.mark.parametrize("function", [bytes, zlib.crc32])
def test_a_function_in_c_that_an_executor_calls(
    memory: Memory, function: Callable[[memoryview], object]
) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        for _ in range(TRIES):
            future = executor.submit(function, memory.view)
            assert causes(future.exception(PATIENCE)) == [BusError]


# ---- In the scheduling of asyncio ------------------------------------------

SETS_A_RESULT = """
import asyncio, mmap, os, sys
import numpy
import safemmap

fd = os.memfd_create("gone")
os.ftruncate(fd, 4096)
array = numpy.frombuffer(mmap.mmap(fd, 4096), "u1")
os.ftruncate(fd, 0)
safemmap.enable()
way, loop_class, debug = sys.argv[1:]

class Loop(asyncio.SelectorEventLoop):
    def call_soon(self, *args, **kwargs):
        return super().call_soon(*args, **kwargs)

async def main():
    def set_result():
        future.set_result(array[-1])

    def set_exception():
        future.set_exception(errors[array[-1]])

    def cancel():
        future.cancel(array[-1])

    async def wait():
        await future

    met, errors = [], [KeyError()]
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: met.append(context["exception"]))
    future = loop.create_future()
    task = asyncio.create_task(wait())
    loop.call_later(0.01, locals()[way])
    done = await asyncio.gather(task, return_exceptions=True)
    print(*[type(error).__name__ for error in met + done])

loop = globals().get(loop_class, asyncio.SelectorEventLoop)()
loop.set_debug(debug == "debug")
loop.run_until_complete(asyncio.wait_for(main(), 10))
"""


@pytest.mark.parametrize("debug", ["plain", "debug"])
@pytest.mark.parametrize("loop", ["own", "Loop"])
@pytest.mark.parametrize(
    ("way", "done"),
    [
        ("set_result", "NoneType"),
        ("set_exception", "KeyError"),
        ("cancel", "CancelledError"),
    ],
)
def test_a_future_done_with_a_zero_wakes_those_that_wait(
    way: str, done: str, loop: str, debug: str
) -> None:
    """The callback gets the exception only after it has scheduled them."""
    command = [sys.executable, "-c", SETS_A_RESULT, way, loop, debug]
    child = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert child.stdout == f"BusError {done}\n", child.stderr


def test_a_direct_call_of_the_loop_raises_at_once(memory: Memory) -> None:
    async def main() -> None:
        called: list[object] = []
        loop = asyncio.get_running_loop()
        with pytest.raises(BusError):
            loop.call_soon(called.append, memory.array[-1])
        await asyncio.sleep(0)
        assert called == []

    asyncio.run(main())


# ---- Many threads ---------------------------------------------------------


def test_each_fault_reaches_its_own_thread(seconds: float = 3.0) -> None:
    """Each thread has memory of its own, and bystanders have none."""
    accesses = [copies, finds, sums, loads_without_gil, loads_with_gil, compares, adds]
    memories = [Memory() for _ in range(8)]
    end = time.monotonic() + seconds
    wrong: list[object] = []

    def fault(memory: Memory) -> None:
        count = 0
        while time.monotonic() < end or count == 0:
            access = accesses[count % len(accesses)]
            used: list[Any] = []
            try:
                access(memory, used)
                wrong.append((access, count, used))
            except BusError as error:
                offset = error.address - memory.address
                if used or not 0 <= offset < SIZE:
                    wrong.append((access, count, used, error))
            count += 1

    def stand_by() -> None:
        count = 0
        while time.monotonic() < end or count == 0:
            count += sum(range(100)) > 0

    with contextlib.ExitStack() as stack:
        for memory in memories:
            stack.enter_context(pytest.raises(BusError))
            stack.enter_context(safemmap.protect(memory.view, views="interrupt"))
        with concurrent.futures.ThreadPoolExecutor(12) as executor:
            jobs = [executor.submit(fault, memory) for memory in memories]
            jobs += [executor.submit(stand_by) for _ in range(4)]
            # (Not by result(): a BusError that came too late would end the scopes.)
            raised = [job.exception(seconds + PATIENCE) for job in jobs]
    for memory in memories:
        memory.view.release()
        memory.mapping.close()
    assert wrong == []
    assert raised == [None] * len(jobs)


# ---- Threads that Python does not know ------------------------------------


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if sys.version_info < (3, 12):
        pytest.skip("before 3.12 the main thread decides, when it next takes the GIL")
    directory = tmp_path_factory.mktemp("pool")
    library = ctypes.CDLL(str(neighbours.compiled(directory, "pool.c")))
    library.pool_read.argtypes = [ctypes.c_void_p, ctypes.c_long]
    library.pool_read_ahead.argtypes = [ctypes.c_void_p]
    return library


@pytest.mark.usefixtures("contention")
@pytest.mark.parametrize("after", [0, 20_000_000], ids=["at once", "20 ms later"])
def test_whoever_waits_for_the_thread_is_told(
    memory: Memory, pool: ctypes.CDLL, after: int
) -> None:
    """Others wait for something else, the main thread among them."""
    idle = threading.Event()

    def read() -> tuple[bool, list[int]]:
        used: list[int] = []
        try:
            used += [pool.pool_read(memory.address + PAGE, after)]
        except BusError:
            return True, used
        return False, used

    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        others = [executor.submit(idle.wait, PATIENCE) for _ in range(2)]
        for _ in range(TRIES):
            future = executor.submit(read)
            assert future.result(PATIENCE) == (True, [])
        idle.set()
        assert [other.result(PATIENCE) for other in others] == [True, True]


def run_python_code() -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        pass


def test_no_thread_that_only_starts_is_told(memory: Memory, pool: ctypes.CDLL) -> None:
    """Its stack was the other's, and its starter would wait for ever."""
    done = threading.Event()
    counts = {"started": 0, "ran": 0}

    def run() -> None:
        counts["ran"] += 1

    def start_threads() -> None:
        while not done.is_set():
            counts["started"] += 1
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()

    starters = [
        threading.Thread(target=start_threads, daemon=True),
        threading.Thread(target=lambda: sum(iter(done.is_set, True)), daemon=True),
    ]
    for starter in starters:
        starter.start()
    for _ in range(20 * TRIES):
        with pytest.raises(BusError):
            pool.pool_read(memory.address + PAGE, 0)
            run_python_code()  # where the exception comes late
    done.set()
    for starter in starters:
        starter.join(PATIENCE)
        assert not starter.is_alive()
    assert counts["ran"] == counts["started"]


def test_the_main_thread_if_nobody_waits(memory: Memory, pool: ctypes.CDLL) -> None:
    with pytest.raises(BusError):
        pool.pool_read_ahead(memory.address + PAGE)
        # (A call: some versions leave the jump back of a loop out of the block that
        # handles its exceptions.)
        run_python_code()


# ---- Nothing is left behind ----------------------------------------------


def test_no_tool_is_left(memory: Memory) -> None:
    assert sys.gettrace() is None
    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        futures = [executor.submit(memory.array.sum) for _ in range(100)]
        # (Some may have read the zeros that another was about to be told of.)
        errors = [causes(future.exception(PATIENCE)) for future in futures]
    assert [BusError] in errors
    assert [error for error in errors if error not in ([BusError], [])] == []
    assert sys.gettrace() is None
    if sys.version_info >= (3, 12):
        assert [sys.monitoring.get_tool(number) for number in (3, 4)] == [None, None]


def test_memory_stays_flat(memory: Memory) -> None:
    def attempts(count: int) -> int:
        for _ in range(count):
            with contextlib.suppress(BusError):
                without_gil.memcmp(memory.address + PAGE, b"", 1)
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * PAGE

    before = attempts(1000)
    assert attempts(10_000) - before < 4 << 20
