"""Two extension modules of somebody else's, and the package itself, in one process."""

import os
import pickle
import sys
import threading

sys.path.insert(0, sys.argv[1])

import cythonic
import native

import safemmap

PAGE = safemmap.PAGESIZE
SIZE = 4 * PAGE
kinds = (native.Pool, cythonic.Pool)


def cut_file() -> int:
    fd = os.memfd_create("pool")
    os.write(fd, b"x" * SIZE)
    return fd


def error_of(function: object, *arguments: object) -> safemmap.BusError:
    assert callable(function)
    try:
        function(*arguments)
    except safemmap.BusError as error:
        return error
    raise AssertionError("no error")


def names_of_faults() -> list[tuple[str | None, int]]:
    return sorted((fault.name, fault.offset) for fault in safemmap.faults())


def regions() -> None:
    fd = cut_file()
    pools = [kind(fd, SIZE, kind.__module__) for kind in kinds]
    with safemmap.mmap(fd, SIZE) as m:
        view = memoryview(m)
        for pool in pools:
            assert pool.peek(0) == ord("x")
            assert not pool.check()
        os.ftruncate(fd, PAGE)
        assert view[2 * PAGE] == 0
        for pool in pools:
            assert pool.peek(3 * PAGE + 7) == 0
            error = error_of(pool.check)
            assert (error.operation, error.poisoned) == ("check", True), error
            assert error.offset == 3 * PAGE + 7, error
            name = type(pool).__module__
            assert error.name == name, error
            assert f"a view of region {name!r} touched" in str(error), str(error)
            assert pickle.loads(pickle.dumps(error)).name == name, error
        found = safemmap.faults()
        assert [(f.name, f.offset, f.mapping) for f in found] == [
            (None, 2 * PAGE, m),
            ("native", 3 * PAGE + 7, None),
            ("cythonic", 3 * PAGE + 7, None),
        ], found
        view.release()
    os.close(fd)


def moved() -> None:
    fd = cut_file()
    pool = native.Pool(fd, SIZE, "moved")
    os.ftruncate(fd, PAGE)
    assert pool.peek(3 * PAGE + 7) == 0
    assert pool.move() == 0
    assert pool.peek(0) == ord("x")
    error = error_of(pool.check)
    assert (error.offset, error.stop) == (3 * PAGE + 7, SIZE), error
    assert error.name == "moved", error
    assert names_of_faults() == [("moved", 3 * PAGE + 7)]
    os.close(fd)


def operations() -> None:
    fd = cut_file()
    pool = native.Pool(fd, SIZE, "a name that is longer than any has room for")
    other = cythonic.Pool(fd, SIZE, "\u017elu\u0165")
    assert pool.total() == SIZE * ord("x")
    assert other.read() == b"x" * SIZE
    os.ftruncate(fd, PAGE)
    error = error_of(pool.total)
    assert (error.operation, error.poisoned) == ("total", False), error
    assert error.name is None, error
    assert error.offset == PAGE, error
    assert "total of bytes 0 to" in str(error), str(error)
    assert error_of(pool.load, 2 * PAGE + 3).offset == 2 * PAGE + 3
    assert error_of(other.read).offset == PAGE
    assert pool.check() == 0
    assert pool.resize(PAGE) == 0
    assert pool.total() == PAGE * ord("x")
    assert names_of_faults() == []
    os.close(fd)


def threads() -> None:
    count = 8
    barrier = threading.Barrier(count)
    failed = []

    def work(number: int) -> None:
        try:
            for turn in range(30):
                fd = cut_file()
                kind = kinds[(number + turn) % 2]
                barrier.wait()
                pool = kind(fd, SIZE, f"{number}")
                os.ftruncate(fd, 0)
                assert pool.peek(number) == 0
                assert error_of(pool.check).offset == number
                os.close(fd)
        except BaseException as error:
            failed.append(error)
            barrier.abort()

    workers = [threading.Thread(target=work, args=[i]) for i in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failed, failed
    found = names_of_faults()
    assert found == sorted((f"{i}", i) for i in range(count) for _ in range(30)), found


for part in (regions, moved, operations, threads):
    part()
    print(part.__name__)
