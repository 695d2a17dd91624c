"""Every operation, with a lost page at every place in its range."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from conftest import PAGE, LossyFile, address_of

import safemmap
from safemmap import BusCode, BusError

PAGES = 8
SIZE = PAGES * PAGE
ABSENT = b"\0absent"  # the pattern holds no zero


@dataclass
class Operation:
    name: str
    call: Callable[[safemmap.mmap, bytes, int, int], object]
    # The bytes it has to reach, in ascending order; what it reads comes first.
    reads: Callable[[int, int], range] | None
    writes: Callable[[int, int], range] | None = None
    # A search need not look at every byte to know that a longer pattern is absent.
    may_skip: bool = False


def whole(start: int, length: int) -> range:
    return range(start, start + length)


def at_zero(start: int, length: int) -> range:
    return range(length)


def every(step: int) -> Callable[[int, int], range]:
    return lambda start, length: range(start, start + length, step)


def read(m: safemmap.mmap, data: bytes, start: int, length: int) -> object:
    m.seek(start)
    result = m.read(length)
    assert m.tell() == start + length
    return result


def read_byte(m: safemmap.mmap, data: bytes, start: int, length: int) -> object:
    m.seek(start)
    return m.read_byte()


def write(m: safemmap.mmap, data: bytes, start: int, length: int) -> None:
    m.seek(start)
    m.write(data[start : start + length])


def write_byte(m: safemmap.mmap, data: bytes, start: int, length: int) -> None:
    m.seek(start)
    m.write_byte(data[start])


def assign(m: safemmap.mmap, data: bytes, start: int, length: int) -> None:
    m[start : start + length] = data[start : start + length]


def assign_byte(m: safemmap.mmap, data: bytes, start: int, length: int) -> None:
    m[start] = data[start]


def assign_strided(m: safemmap.mmap, data: bytes, start: int, length: int) -> None:
    m[start : start + length : 3] = data[start : start + length : 3]


def one(start: int, length: int) -> range:
    return range(start, start + 1)


# All but the moves write what stands there already.
OPERATIONS = {
    "index": Operation("m[i]", lambda m, d, s, n: m[s], one),
    "slice": Operation("m[i:j]", lambda m, d, s, n: m[s : s + n], whole),
    "stride 3": Operation("m[i:j:k]", lambda m, d, s, n: m[s : s + n : 3], every(3)),
    "stride -1": Operation(
        "m[i:j:k]", lambda m, d, s, n: m[s + n - 1 : s - 1 if s else None : -1], whole
    ),
    "read": Operation("read", read, whole),
    "read_byte": Operation("read_byte", read_byte, one),
    "find": Operation("find", lambda m, d, s, n: m.find(b"\0", s, s + n), whole),
    "find long": Operation(
        "find",
        lambda m, d, s, n: m.find(ABSENT, s, s + n),
        lambda s, n: whole(s, n) if n >= len(ABSENT) else range(0),
        may_skip=True,
    ),
    "rfind": Operation("rfind", lambda m, d, s, n: m.rfind(b"\0", s, s + n), whole),
    "move from": Operation("move", lambda m, d, s, n: m.move(0, s, n), whole, at_zero),
    "move to": Operation("move", lambda m, d, s, n: m.move(s, 0, n), at_zero, whole),
    "write": Operation("write", write, None, whole),
    "write_byte": Operation("write_byte", write_byte, None, one),
    "assign": Operation("m[i:j] = bytes", assign, None, whole),
    "assign byte": Operation("m[i] = byte", assign_byte, None, one),
    "assign stride 3": Operation("m[i:j:k]", assign_strided, None, every(3)),
}
EVERY_OPERATION = pytest.mark.parametrize(
    "operation", OPERATIONS.values(), ids=OPERATIONS.keys()
)


def expected_offset(
    operation: Operation, start: int, length: int, lost: set[int]
) -> int | None:
    for side in (operation.reads, operation.writes):
        if side is None:
            continue
        touched = side(start, length)
        for position in touched:
            if position // PAGE in lost:
                return max(position // PAGE * PAGE, touched[0])
    return None


def check(
    m: safemmap.mmap,
    file: LossyFile,
    operation: Operation,
    start: int,
    length: int,
    lost: set[int],
    base: int,
) -> None:
    offset = expected_offset(operation, start, length, lost)
    if offset is None:
        operation.call(m, file.data, start, length)
        return
    position = m.tell()
    try:
        result = operation.call(m, file.data, start, length)
    except BusError as error:
        assert (error.offset, error.address) == (offset, base + offset)
        assert error.operation == operation.name
        assert error.code is BusCode.ADRERR
        assert not error.in_buffer
        assert m.tell() in (position, start)  # where a seek before it had gone
    else:
        if operation.may_skip and result == -1:
            return
        pytest.fail(f"{operation.name} {start}+{length} with {lost} gone: no error")


@pytest.fixture
def mapping(lossy: LossyFile) -> Iterator[safemmap.mmap]:
    with safemmap.mmap(lossy.fd, SIZE) as m:
        yield m


@EVERY_OPERATION
@pytest.mark.parametrize("lost", [{2}, {3}, {2, 3}], ids=["before", "after", "both"])
def test_sweep_over_a_page_edge(
    lossy: LossyFile, mapping: safemmap.mmap, operation: Operation, lost: set[int]
) -> None:
    edge, base = 3 * PAGE, address_of(mapping)
    lossy.lose(mapping, lost)
    for start in range(edge - 64, edge + 1):
        for length in range(1, 201):
            check(mapping, lossy, operation, start, length, lost, base)
    lossy.give_back(mapping, lost)
    if operation.name != "move":
        assert mapping[:] == lossy.data


@pytest.mark.slow
@EVERY_OPERATION
def test_random_ranges_and_random_pages(
    lossy: LossyFile, mapping: safemmap.mmap, operation: Operation
) -> None:
    """Pages gone at the start, in the middle and at the end of longer ranges, on one
    side or on both, starting inside a lost page and on byte 0, to the last byte."""
    random.seed(operation.name)
    base = address_of(mapping)
    for _ in range(300):
        lost = {page for page in range(PAGES) if random.random() < 0.3}
        lossy.lose(mapping, lost)
        for _ in range(5):
            # (A move of bytes onto themselves touches none.)
            first = 1 if operation.name == "move" else 0
            start = random.choice((first, random.randrange(first, SIZE), SIZE - 1))
            length = random.randint(1, SIZE - start)
            check(mapping, lossy, operation, start, length, lost, base)
        lossy.give_back(mapping, lost)
    if operation.name != "move":
        assert mapping[:] == lossy.data


def test_readline_over_a_lost_page(lossy: LossyFile, mapping: safemmap.mmap) -> None:
    """Fails where the line does not end before the page, and only there."""
    text = bytearray(b"x" * SIZE)
    text[PAGE - 10] = text[2 * PAGE - 1] = ord("\n")
    mapping[:] = text
    lossy.lose(mapping, {2})
    assert mapping.readline() == text[: PAGE - 9]
    assert mapping.readline() == text[PAGE - 9 : 2 * PAGE]
    for _ in range(2):
        with pytest.raises(BusError) as caught:
            mapping.readline()
        assert caught.value.offset == 2 * PAGE
        assert mapping.tell() == 2 * PAGE
    mapping.seek(2 * PAGE - 5)
    assert mapping.readline() == b"xxxx\n"


def test_a_match_before_the_lost_page_is_found(
    lossy: LossyFile, mapping: safemmap.mmap
) -> None:
    needle = lossy.data[PAGE - 40 : PAGE]
    lossy.lose(mapping, {1})
    assert mapping.find(needle) == PAGE - 40
    with pytest.raises(BusError):
        mapping.rfind(needle)
    after = lossy.data[2 * PAGE : 2 * PAGE + 40]
    assert mapping.rfind(after) == lossy.data.rfind(after)


def test_iteration_and_in(lossy: LossyFile, mapping: safemmap.mmap) -> None:
    lossy.lose(mapping, {1})
    seen: list[bytes] = []
    with pytest.raises(BusError) as caught:
        for byte in mapping:
            seen.append(byte)
    assert b"".join(seen) == lossy.data[:PAGE]
    assert caught.value.offset == PAGE
    assert lossy.data[:1] in mapping
    with pytest.raises(BusError):
        assert b"\0" in mapping


@pytest.mark.parametrize("access", ["ACCESS_READ", "ACCESS_WRITE", "ACCESS_COPY"])
def test_truncation_in_every_access_mode(lossy: LossyFile, access: str) -> None:
    with safemmap.mmap(lossy.fd, SIZE, access=getattr(safemmap, access)) as m:
        assert m[:] == lossy.data
        lossy.shrink(3 * PAGE + 100)
        # The rest of the last page reads as zeros, without a signal.
        assert m[3 * PAGE : 4 * PAGE] == lossy.data[3 * PAGE :][:100] + bytes(
            PAGE - 100
        )
        with pytest.raises(BusError) as caught:
            m[:]
        assert caught.value.offset == 4 * PAGE
        assert caught.value.file_size == 3 * PAGE + 100
        lossy.restore()
        assert m[:] == lossy.data


def test_a_copied_page_past_the_new_end_faults_too(lossy: LossyFile) -> None:
    with safemmap.mmap(lossy.fd, SIZE, access=safemmap.ACCESS_COPY) as m:
        m[5 * PAGE] = 1
        lossy.shrink(PAGE)
        with pytest.raises(BusError):
            m[5 * PAGE]


def test_file_offset(lossy: LossyFile) -> None:
    """Offsets count from the start of the mapping, sizes from that of the file."""
    with safemmap.mmap(lossy.fd, 4 * PAGE, offset=2 * PAGE) as m:
        lossy.shrink(3 * PAGE)
        assert m[:PAGE] == lossy.data[2 * PAGE : 3 * PAGE]
        with pytest.raises(BusError) as caught:
            m[PAGE - 1 : PAGE + 1]
        error = caught.value
        assert error.offset == PAGE
        assert error.needed == 3 * PAGE + 1
        assert error.file_size == 3 * PAGE


def test_whole_file_gone(lossy: LossyFile, mapping: safemmap.mmap) -> None:
    lossy.shrink(0)
    for call in (lambda: mapping[0], lambda: mapping[-1], lambda: mapping[:]):
        with pytest.raises(BusError):
            call()
    assert len(mapping) == SIZE
    assert mapping.size() == 0
    assert mapping.tell() == 0


def test_fault_behind_the_other_buffer(
    lossy: LossyFile, mapping: safemmap.mmap
) -> None:
    """The source of a write may itself be a mapping that lost a page."""
    with safemmap.mmap(lossy.fd, SIZE) as source:
        lossy.lose(source, {1})
        with memoryview(source) as view, view[PAGE - 8 : PAGE + 8] as part:
            for call, name in (
                (lambda: mapping.write(part), "write"),
                (lambda: mapping.__setitem__(slice(0, 16), part), "m[i:j] = bytes"),
                (lambda: mapping.find(part), "find"),
            ):
                with pytest.raises(BusError) as caught:
                    call()
                assert caught.value.in_buffer
                assert caught.value.offset == 8
                assert caught.value.address == address_of(source) + PAGE
                assert caught.value.operation == name
                assert "buffer handed to it" in str(caught.value)
                assert mapping.tell() == 0


def test_both_sides_gone_reports_the_one_that_is_read(
    lossy: LossyFile, mapping: safemmap.mmap
) -> None:
    with safemmap.mmap(lossy.fd, SIZE) as source:
        lossy.lose(source, {1})
        lossy.lose(mapping, {0, 1, 2})
        with memoryview(source) as view, view[: 2 * PAGE] as part:
            with pytest.raises(BusError) as caught:
                mapping[: 2 * PAGE] = part
            assert caught.value.address == address_of(source) + PAGE


@pytest.mark.parametrize("size", [1, 100, PAGE, 70_000])
def test_the_peer_sees_what_is_written_and_no_more(size: int) -> None:
    file = LossyFile(32 * PAGE)
    with safemmap.mmap(file.fd, 32 * PAGE) as m:
        m[3 : 3 + size] = b"\xff" * size
        written = os.pread(file.fd, len(m), 0)
        assert written[3 : 3 + size] == b"\xff" * size
        assert (
            written[:3] + written[3 + size :] == file.data[:3] + file.data[3 + size :]
        )
    file.close()
