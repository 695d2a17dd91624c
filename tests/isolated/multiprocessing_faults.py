"""Processes of `multiprocessing` fault while their parent does. Argument: how they are
started. Prints their exit codes."""

import contextlib
import faulthandler
import multiprocessing
import os
import sys
import threading
import warnings

import safemmap

# On a busy machine a thread may take its time to ask for its fault.
warnings.simplefilter("ignore", safemmap.FaultWarning)
PAGE = safemmap.PAGESIZE
BULK = 512 * 1024
LIMIT = 30  # seconds


def fault() -> None:
    fd = os.memfd_create("file")
    os.ftruncate(fd, BULK)
    m = safemmap.mmap(fd, BULK)
    os.ftruncate(fd, BULK - PAGE)
    os.close(fd)
    with contextlib.suppress(safemmap.BusError):
        raise AssertionError(m[:])
    with memoryview(m) as view:
        assert view[BULK - 1] == 0
    with contextlib.suppress(safemmap.BusError):
        m.check()
        raise AssertionError("not poisoned")
    m.close()


def work() -> None:
    for _ in range(100):
        fault()


def main() -> None:
    faulthandler.disable()
    # Python 3.12 and later advise against fork() in a process with threads.
    warnings.simplefilter("ignore", DeprecationWarning)
    multiprocessing.set_start_method(sys.argv[1])
    stop = threading.Event()

    def keep_faulting() -> None:
        while not stop.is_set():
            fault()

    threads = [threading.Thread(target=keep_faulting) for _ in range(2)]
    for thread in threads:
        thread.start()
    processes = [multiprocessing.Process(target=work) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LIMIT)
        if process.is_alive():
            process.kill()
            process.join()
    stop.set()
    for thread in threads:
        thread.join()
    print(*(process.exitcode for process in processes))


if __name__ == "__main__":
    main()
