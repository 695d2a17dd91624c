"""The mapping behaves as the standard one: CPython's tests, and a comparison."""

from __future__ import annotations

import copy
import ctypes
import functools
import json
import mmap as standard
import operator
import os
import pickle
import random
import re
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from conftest import PAGE, open_fds, run_isolated

import safemmap

# Why a test of CPython's may fail here.
EXPECTED_FAILURES = {
    "test_repr": "wants the name mmap.mmap in the repr; ours says what it is",
}


def test_cpython_test_mmap(tmp_path: Path) -> None:
    done = run_isolated("cpython_test_mmap.py", timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    if "missing" in report:
        pytest.skip(f"this Python has no test suite: {report['missing']}")
    assert report["failed"] == list(EXPECTED_FAILURES), done.stderr
    assert report["run"] >= (46 if sys.version_info >= (3, 11, 7) else 44)
    for name, reason in report["skipped"]:
        # (The last: this kernel does not name anonymous mappings.)
        assert any(
            known in reason
            for known in ("Windows", "debug build", "prctl() failed with EINVAL")
        ), (name, reason)


def test_numpy_test_memmap(tmp_path: Path) -> None:
    """NumPy's arrays over a file, made by our mapping."""
    pytest.importorskip("numpy")
    done = run_isolated("numpy_test_memmap.py", timeout=300, cwd=tmp_path)
    if "no numpy tests" in done.stdout:
        pytest.skip("this NumPy was installed without its tests")
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) >= 20


def outcome(
    call: Callable[[standard.mmap], object], m: standard.mmap
) -> tuple[str, object]:
    try:
        return "returned", call(m)
    except Exception as error:
        return "raised", type(error)


class Pair:
    """A standard mapping and ours, over files with the same content."""

    def __init__(self, size: int, **options: int) -> None:
        self.files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
        data = bytes(random.choices(b"abc\n\0", k=size))
        for file in self.files:
            file.write(data)
            file.flush()
        self.maps = [
            module.mmap(file.fileno(), size, **options)
            for module, file in zip((standard, safemmap), self.files, strict=True)
        ]

    def both(self, call: Callable[[standard.mmap], object]) -> list[tuple[str, object]]:
        return [outcome(call, m) for m in self.maps]

    def state(self) -> list[tuple[str, object]]:
        return self.both(lambda m: (m.tell(), len(m), m.size(), m[:]))

    def close(self) -> None:
        for closing in (*self.maps, *self.files):
            closing.close()


class Index:
    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


def some_number() -> object:
    small = [0, 1, 2, 7, 90, 100, 101, random.randrange(110), True, Index(3)]
    negative = [-1, -5, -101, -(2**63) - 1]
    large = [2**31, 2**63, 2**70]
    wrong = [1.0, "1", None, b"a"]
    return random.choice([*small, *negative, *large, *wrong])


def some_bytes() -> object:
    right = [b"", b"a", b"ab\n", bytearray(b"bc"), memoryview(b"abcabc"), b"x" * 101]
    some = bytes(random.choices(b"abc", k=random.randrange(12)))
    wrong = ["text", None, 3, [1]]
    return random.choice([*right, some, *wrong])


def some_slice() -> slice:
    bounds = [None, 0, 1, 50, 99, 100, 101, -1, -50, -200, 2**70]
    return slice(
        random.choice(bounds),
        random.choice(bounds),
        random.choice([None, 1, 1, 2, 3, -1, -2, 99, 0]),
    )


def fits(m: standard.mmap, where: slice) -> bytes:
    return bytes(len(range(*where.indices(len(m)))))


# (Early releases of 3.11 find an empty pattern in a range that ends before it starts.)
CALLS: list[Callable[[], Callable[[standard.mmap], object]]] = [
    lambda: (lambda n: lambda m: m.read(n))(some_number()),
    lambda: lambda m: m.read(),
    lambda: lambda m: m.read_byte(),
    lambda: lambda m: m.readline(),
    lambda: (lambda n: lambda m: m.seek(n))(some_number()),
    lambda: (lambda n, w: lambda m: m.seek(n, w))(
        some_number(), random.randrange(-1, 4)
    ),
    lambda: (lambda b: lambda m: m.write(b))(some_bytes()),
    lambda: (lambda n: lambda m: m.write_byte(n))(some_number()),
    lambda: (lambda n: lambda m: m[n])(some_number()),
    lambda: (lambda s: lambda m: m[s])(some_slice()),
    lambda: (lambda n, v: lambda m: m.__setitem__(n, v))(some_number(), some_number()),
    lambda: (lambda s, v: lambda m: m.__setitem__(s, v))(some_slice(), some_bytes()),
    lambda: (lambda s: lambda m: m.__setitem__(s, fits(m, s)))(some_slice()),
    lambda: (lambda n: lambda m: m.__delitem__(n))(some_number()),
    lambda: (lambda s: lambda m: m.__delitem__(s))(some_slice()),
    lambda: (lambda b: lambda m: m.find(b))(some_bytes()),
    lambda: (lambda b: lambda m: m.rfind(b))(some_bytes()),
    lambda: (lambda b, i, j: lambda m: m.find(b, i, j))(
        some_bytes() or b"c", random.randrange(-120, 120), random.randrange(-120, 120)
    ),
    lambda: (lambda b, i, j: lambda m: m.rfind(b, i, j))(
        some_bytes() or b"c", random.randrange(-120, 120), random.randrange(-120, 120)
    ),
    lambda: (lambda d, s, n: lambda m: m.move(d, s, n))(
        some_number(), some_number(), some_number()
    ),
    lambda: (lambda b: lambda m: b in m)(some_bytes()),
    lambda: lambda m: list(m),
    lambda: lambda m: list(reversed(m)),
    lambda: (lambda n: lambda m: m.flush(n))(random.choice([0, 1, -1, PAGE, 200, "a"])),
    lambda: (lambda n: lambda m: m.flush(0, n))(some_number()),
    lambda: (lambda n: lambda m: m.madvise(n))(random.choice([0, 1, 3, 1.0, 2**40])),
    lambda: (lambda n: lambda m: m.madvise(0, n))(random.choice([0, -1, 100, "a"])),
    lambda: (lambda n: lambda m: m.madvise(0, 0, n))(random.choice([0, -1, 9, 2**70])),
    lambda: (lambda n: lambda m: m.resize(n))(
        random.choice([100, 90, 120, -1, 2**70, "a", 1.0, PAGE + 1])
    ),
    lambda: lambda m: bytes(memoryview(m)),
    lambda: lambda m: hash(m) == hash(m),
    lambda: lambda m: bool(m),
]


@pytest.mark.parametrize("access", ["DEFAULT", "READ", "WRITE", "COPY"])
@pytest.mark.parametrize("seed", range(10))
def test_random_calls_have_the_same_outcome(seed: int, access: str) -> None:
    random.seed(seed)
    pair = Pair(100, access=getattr(standard, f"ACCESS_{access}"))
    for _ in range(400):
        index = random.randrange(len(CALLS))
        theirs, ours = pair.both(CALLS[index]())
        assert ours == theirs, f"call {index}"
        first, second = pair.state()
        assert first == second
    pair.close()
    for index, make in enumerate(CALLS):
        theirs, ours = pair.both(make())
        assert ours == theirs, f"call {index} of a closed mapping"


WRONG_ARGUMENTS: list[Callable[[Any], object]] = [
    lambda m: m.read("x"),
    lambda m: m.seek("x"),
    lambda m: m.seek(0, "x"),
    lambda m: m.find("x"),
    lambda m: m.find(b"x", "y"),
    lambda m: m.rfind(3),
    lambda m: m.write("x"),
    lambda m: m.write_byte("x"),
    lambda m: m.write_byte(300),
    lambda m: m.write_byte(-1),
    lambda m: m.move("x", 1, 1),
    lambda m: m.resize("x"),
    lambda m: m.resize(-1),
    lambda m: m.flush("x"),
    lambda m: m.flush(0, "x"),
    lambda m: m.flush(-(2**63)),
    lambda m: m.madvise("x"),
    lambda m: m.madvise(3, "x"),
    lambda m: m.madvise(3, 0, "x"),
    lambda m: m["x"],
    lambda m: operator.setitem(m, "x", 1),
    lambda m: operator.setitem(m, 0, "x"),
    lambda m: operator.setitem(m, 1000, "x"),
    lambda m: operator.setitem(m, 1000, 300),
    lambda m: operator.setitem(m, slice(0, 1), "x"),
    lambda m: operator.setitem(m, slice(0, "x"), b""),
    lambda m: operator.delitem(m, "x"),
    lambda m: operator.delitem(m, 1000),
    lambda m: operator.delitem(m, slice(0, 1)),
    lambda m: m.__exit__(),
    lambda m: m.__exit__(None),
    lambda m: m.__exit__(None, None, None, None),
    lambda m: m.__enter__(1),
    lambda m: m.size(),
]


@pytest.mark.parametrize("state", ["open", "read-only", "closed"])
@pytest.mark.parametrize("call", range(len(WRONG_ARGUMENTS)))
def test_wrong_arguments_raise_what_they_raise_there(call: int, state: str) -> None:
    """Which is noticed first, that they are wrong or that the mapping is closed or
    read-only, has changed with releases."""
    outcomes = []
    for module in (standard, safemmap):
        prot = module.PROT_READ if state == "read-only" else 3
        m = module.mmap(-1, 100, prot=prot)
        if state == "closed":
            m.close()
        outcomes.append(outcome(WRONG_ARGUMENTS[call], m))
        m.close()
    assert outcomes[0] == outcomes[1]


@functools.cache
def standard_survives_closing() -> bool:
    """Not before 3.11.4, see python/cpython#103987."""
    script = """
import mmap, resource

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

class Closing:
    def __index__(self):
        m.close()
        return 0

m = mmap.mmap(-1, 100)
try:
    m[Closing()]
except ValueError:
    pass
"""
    return subprocess.run([sys.executable, "-c", script]).returncode == 0


@pytest.mark.parametrize("name", ["__getitem__", "__setitem__", "__delitem__"])
@pytest.mark.parametrize("value", [1, 300, "x"])
def test_an_index_that_closes_the_mapping(name: str, value: object) -> None:
    if not standard_survives_closing():
        pytest.skip("the standard class of this Python dies of it")
    outcomes = []
    for module in (standard, safemmap):
        m = module.mmap(-1, 100)

        class Closing(Index):
            def __index__(self) -> int:
                m.close()  # noqa: B023
                return self.value

        arguments = (value,) if name == "__setitem__" else ()
        for index in (1, 1000):
            at = Closing(index)
            outcomes.append(
                outcome(lambda m: getattr(m, name)(at, *arguments), m)  # noqa: B023
            )
    assert outcomes[:2] == outcomes[2:]


@pytest.mark.parametrize("length", [0, 1, 254, 255, 256, 257, 4094, 4095, 4096, 9000])
def test_lines_of_any_length(length: int) -> None:
    pair = Pair(20_000)
    line = bytes(length) + b"\n"
    for m in pair.maps:
        m[:] = (line * (20_000 // len(line) + 1))[:20_000]
    for _ in range(40):
        theirs, ours = pair.both(lambda m: (m.readline(), m.tell()))
        assert ours == theirs
    pair.close()


NEAR = 4096  # what is searched first
LARGE = 600_000  # and what is too large to be searched at once


@pytest.mark.parametrize("pattern", [b"x", b"xy", b"xyz" * 3, b"x" * 5000])
def test_matches_wherever_a_search_is_cut_in_two(pattern: bytes) -> None:
    size = len(pattern)
    with safemmap.mmap(-1, LARGE) as m:
        for at in [0, *range(NEAR - size - 1, NEAR + 2), LARGE // 2, LARGE - size]:
            if at < 0:
                continue
            for start in (at, LARGE - size - at):
                m[start : start + size] = pattern
                assert m.find(pattern, 0) == m.rfind(pattern, 0) == start
                assert m.find(pattern, start + 1) == -1
                assert m.rfind(pattern, 0, start + size - 1) == -1
                m[start : start + size] = bytes(size)
        assert m.find(b"", 5) == 5
        assert m.rfind(b"", 5) == LARGE


@pytest.mark.parametrize(
    ("target", "source"), [(0, 5), (5, 0), (17 << 20, 0), (0, 17 << 20)]
)
def test_large_moves(target: int, source: int) -> None:
    """More than what is copied at once, within itself and from end to end."""
    size = 50 << 20
    content = os.urandom((1 << 20) - 7)
    content = (content * 51)[:size]
    results = []
    for module in (standard, safemmap):
        with module.mmap(-1, size) as m:
            m[:] = content
            m.move(target, source, size - (17 << 20))
            results.append(m[:])
    assert results[0] == results[1]


def test_iterator() -> None:
    pair = Pair(100)

    def step_by_step(m: standard.mmap) -> object:
        iterator = iter(m)
        seen: list[object] = [hasattr(type(m), "__iter__"), iter(iterator) is iterator]
        seen += [next(iterator), operator.length_hint(iterator)]
        m[1] = 7
        seen.append(next(iterator))
        m.resize(4)
        seen += [*iterator, next(iterator, "end"), operator.length_hint(iterator)]
        m.resize(100)
        seen.append(next(iterator, "end"))
        return seen

    theirs, ours = pair.both(step_by_step)
    assert ours == theirs

    def close_on_the_way(m: standard.mmap) -> object:
        iterator = iter(m)
        next(iterator)
        m.close()
        return next(iterator)

    theirs, ours = pair.both(close_on_the_way)
    assert ours == theirs == ("raised", ValueError)
    theirs, ours = pair.both(lambda m: next(iter(m)))
    assert ours == theirs == ("raised", ValueError)
    pair.close()


def test_bytes_of_length_one_are_there_only_once() -> None:
    """So is the standard class's: what it gives is what CPython keeps."""
    with safemmap.mmap(-1, 256) as m:
        m[:] = bytes(range(256))
        for at, byte in enumerate(m):
            assert byte is m[at : at + 1] is m.read(1) is bytes(range(256))[at : at + 1]


def test_in() -> None:
    class Odd(bytes):
        def __eq__(self, other: object) -> bool:
            return other == b"\n"

        __hash__ = bytes.__hash__

    class Bytes(bytes):
        pass

    pair = Pair(100)
    for m in pair.maps:
        m[:] = bytes(range(100))
    for value in (
        *(b"\0", b"c", b"d", b"", b"\0\1", bytearray(b"c"), memoryview(b"c")),
        *(Odd(b"x"), Bytes(b"c"), Bytes(b"d"), 3, "a", None, Index(3)),
    ):
        theirs, ours = pair.both(lambda m, value=value: value in m)  # type: ignore[misc]
        assert ours == theirs, value
    pair.close()


class Descriptors:
    """One of each kind."""

    def __init__(self, folder: Path) -> None:
        path = folder / "file"
        path.write_bytes(bytes(PAGE))
        self.file = os.open(path, os.O_RDWR)
        self.read_only = os.open(path, os.O_RDONLY)
        self.write_only = os.open(path, os.O_WRONLY)
        self.path = os.open(path, os.O_PATH)
        self.directory = os.open(folder, os.O_RDONLY)
        self.null = os.open("/dev/null", os.O_RDWR)
        self.pipe, self.pipe_end = os.pipe()
        self.closed = 987

    def close(self) -> None:
        del self.closed
        for fd in vars(self).values():
            os.close(fd)


CONSTRUCTIONS = {
    "nothing": lambda mmap, fds: mmap(),
    "text": lambda mmap, fds: mmap("a", 1),
    "float": lambda mmap, fds: mmap(1.0, 1),
    "float length": lambda mmap, fds: mmap(-1, 1.5),
    "negative length": lambda mmap, fds: mmap(-1, -1),
    "zero length": lambda mmap, fds: mmap(-1, 0),
    "negative offset": lambda mmap, fds: mmap(-1, 1, offset=-1),
    "odd offset": lambda mmap, fds: mmap(fds.file, 1, offset=1),
    "offset at the end": lambda mmap, fds: mmap(fds.file, 0, offset=PAGE),
    "offset past the end": lambda mmap, fds: mmap(fds.file, 1, offset=2 * PAGE),
    "overflowing length": lambda mmap, fds: mmap(-1, 2**63),
    "huge length": lambda mmap, fds: mmap(-1, 2**62),
    "length past the end": lambda mmap, fds: mmap(fds.file, 2 * PAGE),
    "overflowing offset": lambda mmap, fds: mmap(fds.file, 1, offset=2**63),
    "closed fd": lambda mmap, fds: mmap(fds.closed, 1),
    "fd -2": lambda mmap, fds: mmap(-2, 1),
    "overflowing fd": lambda mmap, fds: mmap(2**31, 1),
    "access 9": lambda mmap, fds: mmap(-1, 1, access=9),
    "access and prot": lambda mmap, fds: mmap(-1, 1, access=1, prot=1),
    "access and flags": lambda mmap, fds: mmap(-1, 1, access=1, flags=2),
    "overflowing flags": lambda mmap, fds: mmap(-1, 1, flags=2**40),
    "too many": lambda mmap, fds: mmap(-1, 1, 1, 3, 0, 0, True),
    "unknown keyword": lambda mmap, fds: mmap(-1, 1, foo=1),
    "directory": lambda mmap, fds: mmap(fds.directory, PAGE, access=1),
    "null device": lambda mmap, fds: mmap(fds.null, PAGE),
    "O_PATH": lambda mmap, fds: mmap(fds.path, PAGE, access=1),
    "pipe": lambda mmap, fds: mmap(fds.pipe, PAGE, access=1),
    "write-only": lambda mmap, fds: mmap(fds.write_only, PAGE, access=1),
    "read-only": lambda mmap, fds: mmap(fds.read_only, PAGE),
}


@pytest.mark.parametrize("make", CONSTRUCTIONS.values(), ids=CONSTRUCTIONS.keys())
def test_bad_construction(
    make: Callable[[type, Descriptors], object], tmp_path: Path
) -> None:
    """The same type and errno as the standard one, and nothing is left."""
    fds = Descriptors(tmp_path)
    before = open_fds()
    errors = []
    for mmap in (standard.mmap, safemmap.mmap):
        for _ in range(3):
            with pytest.raises(Exception) as caught:
                make(mmap, fds)
        errors.append((caught.type, getattr(caught.value, "errno", None)))
    assert errors[0] == errors[1]
    assert open_fds() == before
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    fds.close()


@pytest.fixture
def anonymous() -> Iterator[safemmap.mmap]:
    with safemmap.mmap(-1, PAGE) as m:
        yield m


@pytest.mark.parametrize("protection", ["auto", "kernel"])
def test_anonymous_memory_with_a_file_is_none_of_that(protection: Any) -> None:
    fd = os.memfd_create("other")
    os.ftruncate(fd, PAGE)
    flags = safemmap.MAP_SHARED | safemmap.MAP_ANONYMOUS
    with safemmap.mmap(fd, PAGE, flags=flags, protection=protection) as m:
        os.ftruncate(fd, 0)
        m[:3] = b"abc"
        assert m.snapshot(0, 6) == m[:6] == b"abc\0\0\0"
    os.close(fd)


def test_an_error_of_an_argument_is_its_own() -> None:
    class Odd:
        def __bool__(self) -> bool:
            raise TypeError("__cinit__() takes another")

    with pytest.raises(TypeError, match="takes another"):
        safemmap.mmap(-1, PAGE, trackfd=Odd())  # type: ignore[arg-type]


def test_constants_are_those_of_the_standard_module() -> None:
    for name in dir(standard):
        if name.isupper() or name == "error":
            assert getattr(safemmap, name) is getattr(standard, name)


def test_methods_are_those_of_the_standard_class() -> None:
    assert set(dir(standard.mmap)) <= set(dir(safemmap.mmap))


def test_instances_name_their_module(anonymous: safemmap.mmap) -> None:
    assert anonymous.__module__ == type(anonymous).__module__ == "safemmap"
    assert safemmap.BusError().__module__ == "safemmap"


def test_a_subclass_may_use_names_that_the_standard_class_has_not() -> None:
    class Sub(safemmap.mmap):
        pass

    with Sub(-1, PAGE) as m:
        assert (m.fault, m.faulted, m.protection) == (None, False, "guarded")
        names = set(dir(safemmap.mmap)) - set(dir(standard.mmap))
        for name in (name for name in names if not name.startswith("_")):
            setattr(m, name, name)
            assert getattr(m, name) == name
            delattr(m, name)
        assert not m.faulted
        assert m[:4] == bytes(4)
    with safemmap.mmap(-1, PAGE) as plain, pytest.raises(AttributeError):
        plain.fault = None  # type: ignore[misc]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there is no __buffer__")
def test_bytes_of_a_subclass_with_a_buffer_of_its_own() -> None:
    class Sub(safemmap.mmap):
        def __buffer__(self, flags: int) -> memoryview:
            return memoryview(b"spam")

    with Sub(-1, PAGE) as m:
        assert bytes(m) == b"spam"


def test_resize_to_the_present_size_asks_the_file() -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(PAGE)
        fd = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY)
        outcomes = []
        for module in (standard, safemmap):
            with module.mmap(fd, PAGE, flags=module.MAP_PRIVATE) as m:
                with pytest.raises(OSError) as caught:
                    m.resize(PAGE)
                outcomes.append((caught.type, caught.value.errno))
        os.close(fd)
    assert outcomes[0] == outcomes[1]


def test_find_stops_at_the_end_that_it_is_given(anonymous: safemmap.mmap) -> None:
    """(The standard class of 3.14 and 3.15 ignores it where the start is None.)"""
    anonymous[50] = 7
    assert anonymous.find(b"\7", None, 20) == anonymous.rfind(b"\7", None, 20) == -1
    assert anonymous.find(b"\7", None, 51) == anonymous.rfind(b"\7", None, 51) == 50


def test_set_name_asks_no_more_of_the_kernel_than_it_offers(
    anonymous: safemmap.mmap,
) -> None:
    anonymous.set_name("spam")
    with pytest.raises(ValueError, match="too long"):
        anonymous.set_name("x" * 100)


@pytest.mark.parametrize("number", [sys.maxsize, -sys.maxsize, -sys.maxsize - 1])
def test_numbers_at_the_limits(number: int) -> None:
    """Which nothing may be added to, or taken from."""
    for module in (standard, safemmap):
        with module.mmap(-1, PAGE) as m:
            m[0] = m[PAGE - 1] = 1
            assert m[:: abs(number)] == m[::number] == b"\1"
            m[::number] = b"\2"
            assert m[PAGE - 1 if number < 0 else 0] == 2
            for call in (m.seek, m.flush, m.madvise, m.resize):
                with pytest.raises((ValueError, OverflowError, OSError)):
                    call(number)
            with pytest.raises(ValueError):
                m.move(0, number, number)
        with pytest.raises((OSError, OverflowError)):
            module.mmap(-1, 1, offset=number)
    with safemmap.mmap(-1, PAGE) as m:
        for function in (m.access, m.snapshot):
            for arguments in ((number,), (number, number), (0, number)):
                with pytest.raises(ValueError, match="not within"):
                    function(*arguments)
    aligned = sys.maxsize // PAGE * PAGE
    with safemmap.mmap(-1, 2 * PAGE, offset=aligned) as m:
        assert m[:] == bytes(2 * PAGE)
        with pytest.raises(ValueError):
            m.resize(3 * PAGE)


def test_repr(anonymous: safemmap.mmap) -> None:
    text = "closed=False, access=ACCESS_DEFAULT, length=4096, pos=0, offset=0>"
    assert repr(anonymous) == f"<safemmap.mmap {text}"

    class Sub(safemmap.mmap):
        pass

    with Sub(-1, PAGE) as m:
        assert repr(m) == f"<Sub {text}"
    assert repr(m) == "<Sub closed=True>"


def test_subclasses_iterate_and_contain_what_their_methods_say() -> None:
    def outcomes(base: Any) -> list[object]:
        class Plain(base):  # type: ignore[misc]
            pass

        class Item(Plain):
            def __getitem__(self, index: object) -> object:
                if isinstance(index, int) and index < 3:
                    return b"z"
                return super().__getitem__(index)

        class Length(Plain):
            def __len__(self) -> int:
                return 2

        class Iteration(Plain):
            def __iter__(self) -> Iterator[int]:
                return iter((7, 8))

        class Containment(Plain):
            def __contains__(self, value: object) -> bool:
                return value == 42

        class Neither(Plain):
            __iter__ = __contains__ = None

        found: list[object] = []
        for kind in (base, Plain, Item, Length, Iteration, Containment, Neither):
            with kind(-1, 5) as m:
                m[:] = b"abcde"
                found += [len(m), hasattr(kind, "__iter__")]
                found += [outcome(call, m) for call in calls]
        return found

    calls: list[Callable[[standard.mmap], object]] = [
        lambda m: list(islice(m, 9)),
        lambda m: list(reversed(m)),
        *(lambda m, value=value: value in m for value in (b"c", b"z", b"ab", 99, 42)),
    ]

    assert outcomes(safemmap.mmap) == outcomes(standard.mmap)


def test_a_subclass_may_have_another_close() -> None:
    class Sub(safemmap.mmap):
        def close(self) -> None:
            raise AssertionError("the standard class does not call it, either")

    with Sub(-1, PAGE) as m:
        pass
    assert m.closed


@pytest.mark.parametrize("steps", [0, 3, 5, 6])
def test_iterators_are_copied(steps: int) -> None:
    def outcomes(kind: Any) -> list[object]:
        with kind(-1, 5) as m:
            m[:] = b"abcde"
            iterator = iter(m)
            list(islice(iterator, steps))
            found = [list(copy.copy(iterator)), operator.length_hint(iterator)]
            for index in (-3, 2, 7):
                iterator.__setstate__(index)
                found.append(list(copy.copy(iterator)))
            again = iter(m)
        with pytest.raises(ValueError, match="closed"):
            operator.length_hint(again)
        return found

    assert outcomes(safemmap.mmap) == outcomes(standard.mmap)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there is no __buffer__")
def test_a_pattern_that_moves_the_position() -> None:
    def outcomes(kind: Any) -> list[int]:
        class Seeking:
            def __buffer__(self, flags: int) -> memoryview:
                m.seek(60)
                return memoryview(b"x")

        with kind(-1, PAGE) as m:
            m[50] = ord("x")
            return [m.find(Seeking()), m.rfind(Seeking()), m.find(Seeking(), 0)]

    assert outcomes(safemmap.mmap) == outcomes(standard.mmap)


def test_subclass_and_weak_reference() -> None:
    class Sub(safemmap.mmap):
        def __new__(cls, size: int) -> Sub:
            return super().__new__(cls, -1, size)

    m = Sub(PAGE)
    m.attribute = 1  # type: ignore[attr-defined]
    reference = weakref.ref(m)
    assert reference() is m
    del m
    assert reference() is None


def test_audit_event() -> None:
    events: list[tuple[object, ...]] = []

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event == "mmap.__new__" and recording:
            events.append(args)

    recording = True
    sys.addaudithook(hook)
    safemmap.mmap(-1, PAGE, access=safemmap.ACCESS_COPY).close()
    recording = False
    assert events == [(-1, PAGE, safemmap.ACCESS_COPY, 0)]


def test_cannot_be_copied_or_pickled(anonymous: safemmap.mmap) -> None:
    for function in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot pickle"):
            function(anonymous)


@pytest.mark.parametrize("name", ["read", "write", "find", "seek", "move", "resize"])
def test_no_method_takes_keywords(anonymous: safemmap.mmap, name: str) -> None:
    with pytest.raises(TypeError):
        getattr(anonymous, name)(n=1)


@pytest.mark.parametrize(
    "close_while",
    [
        lambda m, closing: m[closing],
        lambda m, closing: m.read(closing),
        lambda m, closing: m.write_byte(closing),
        lambda m, closing: m.__setitem__(closing, 1),
        lambda m, closing: m.__setitem__(0, closing),
        lambda m, closing: m[closing:5],
        lambda m, closing: m.move(0, 0, closing),
        lambda m, closing: m.find(b"a", closing),
        lambda m, closing: m.seek(closing),
        lambda m, closing: m.flush(closing),
        lambda m, closing: m.madvise(0, closing),
        lambda m, closing: m.resize(closing),
    ],
)
def test_closed_by_the_conversion_of_an_argument(
    close_while: Callable[[safemmap.mmap, Index], object],
) -> None:
    m = safemmap.mmap(-1, PAGE)

    class Closing(Index):
        def __index__(self) -> int:
            m.close()
            return 1

    with pytest.raises(ValueError, match="mmap closed or invalid"):
        close_while(m, Closing(1))


def test_resized_by_the_conversion_of_a_value() -> None:
    with safemmap.mmap(-1, 2 * PAGE) as m:

        class Shrinking(Index):
            def __index__(self) -> int:
                m.resize(PAGE)
                return 1

        with pytest.raises(IndexError):
            m[2 * PAGE - 1] = Shrinking(1)
        assert len(m) == PAGE


@pytest.mark.parametrize("size", [0, 2**62])
def test_failed_resize_changes_nothing(size: int) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * PAGE)
        file.flush()
        with safemmap.mmap(file.fileno(), PAGE) as m:
            with pytest.raises(OSError):
                m.resize(size)
            assert len(m) == m.size() == PAGE
            assert m[:] == b"x" * PAGE


def test_exported_buffer_keeps_the_mapping(anonymous: safemmap.mmap) -> None:
    with memoryview(anonymous) as view:
        assert (view.format, view.itemsize, view.shape) == ("B", 1, (PAGE,))
        assert not view.readonly
        view[0] = 7
        assert anonymous[0] == 7
        with pytest.raises(BufferError):
            anonymous.close()
        with pytest.raises(BufferError):
            anonymous.resize(2 * PAGE)


def test_read_only_buffer() -> None:
    with safemmap.mmap(-1, PAGE, access=safemmap.ACCESS_READ) as m:
        with memoryview(m) as view:
            assert view.readonly
        with pytest.raises(TypeError):
            ctypes.c_char.from_buffer(m)
