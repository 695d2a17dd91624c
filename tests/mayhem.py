"""Everything goes wrong at once: limits, forks, signals and threads at random, beside a
peer that cuts the files they read.

    python tests/mayhem.py [--seconds N] [--seed N] [--views deferred|interrupt]

Round after round, each in a process of its own, with the next seed. The files never
hold a zero: the peer cuts at page boundaries, and appends whole pages. So a zero that a
program gets without an exception is wrong; so is an exception in the thread that
touches no file, a signal that ends a process, and a hang. Ends with status 1 at the
first round that has one, and says how to repeat it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import faulthandler
import mmap
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Literal

import safemmap

PAGE = mmap.PAGESIZE
PAGES = 48
DATA = b"d" * PAGE
SECONDS_EACH = 6.0

Views = Literal["deferred", "interrupt"]

#: What may come of any access here: the limits refuse much.
EXPECTED = (OSError, MemoryError, ValueError, BufferError, safemmap.FaultWarning)


def new_file() -> int:
    fd = os.memfd_create("mayhem")
    os.write(fd, DATA * PAGES)
    return fd


def be_the_peer(files: list[int], seed: int) -> None:
    """Until its parent has gone."""
    at_random = random.Random(seed)
    parent = os.getppid()
    while os.getppid() == parent:
        fd = at_random.choice(files)
        os.ftruncate(fd, at_random.randrange(PAGES) * PAGE)
        time.sleep(at_random.choice((0, 0.0001, 0.001)))
        size = os.fstat(fd).st_size
        os.pwrite(fd, DATA * (PAGES - size // PAGE), size)
        time.sleep(at_random.choice((0, 0.0001, 0.0001)))


# ---- What the process is left without ------------------------------------


def limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, hard))


def lock_memory() -> None:
    limit(resource.RLIMIT_MEMLOCK, 1 << 16)
    ctypes.CDLL(None).mlockall(2)


LIMITS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "RLIMIT_DATA": lambda: limit(resource.RLIMIT_DATA, 1 << 20),
    "RLIMIT_NOFILE": lambda: limit(resource.RLIMIT_NOFILE, 3),
    "RLIMIT_FSIZE": lambda: limit(resource.RLIMIT_FSIZE, 0),
    "RLIMIT_MEMLOCK": lock_memory,
}


# ---- A round -------------------------------------------------------------


class Round:
    def __init__(self, seed: int, seconds: float, views: Views) -> None:
        self.seed = seed
        self.views = views
        self.end = time.monotonic() + seconds
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.files = [new_file() for _ in range(4)]

    def goes_on(self) -> bool:
        return not self.wrong and time.monotonic() < self.end

    def expect_data(self, data: bytes, what: str) -> None:
        if 0 in data:
            self.wrong.append(f"{what}: zeros in the place of data")
        self.counts[f"{what}: data"] += 1

    # ---- Ways to read ------------------------------------------------

    def operations(self, fd: int, at_random: random.Random) -> None:
        with safemmap.mmap(fd, PAGES * PAGE, access=mmap.ACCESS_READ) as m:
            start = at_random.randrange(PAGES * PAGE)
            self.expect_data(m[start : start + 10_000], "slice")
            self.expect_data(bytes([m[start]]), "index")
            m.find(b"x", start)

    def view(self, fd: int, at_random: random.Random) -> None:
        m = safemmap.wrap(fd, PAGES * PAGE, views=self.views)
        with m, memoryview(m) as view:
            data = bytes(view[at_random.randrange(PAGE) :])
            m.check()
            self.expect_data(data, "view")

    def scope(self, fd: int, at_random: random.Random) -> None:
        with safemmap.mmap(fd, PAGES * PAGE, views=self.views) as m:
            with m.access() as view:
                data = bytes(view[at_random.randrange(PAGE) :])
            self.expect_data(data, "scope")

    def protect(self, fd: int, at_random: random.Random) -> None:
        with mmap.mmap(fd, PAGES * PAGE, access=mmap.ACCESS_READ) as m:
            with safemmap.protect(m, views=self.views), memoryview(m) as view:
                data = bytes(view[at_random.randrange(PAGE) :])
            self.expect_data(data, "protect")

    def foreign(self, fd: int, at_random: random.Random) -> None:
        """Of the standard class, under `enable`."""
        if not safemmap.is_enabled():
            return
        with mmap.mmap(fd, PAGES * PAGE, access=mmap.ACCESS_READ) as m:
            data = m[at_random.randrange(PAGE) :]
            len(data)  # where the exception may come, too
            self.expect_data(data, "foreign")

    def read_at_random(self, at_random: random.Random) -> None:
        ways = (self.operations, self.view, self.scope, self.protect, self.foreign)
        try:
            at_random.choice(ways)(at_random.choice(self.files), at_random)
        except EXPECTED as error:
            self.counts[type(error).__name__] += 1

    # ---- Threads -----------------------------------------------------

    def read(self, number: int) -> None:
        at_random = random.Random(self.seed * 100 + number)
        while self.goes_on():
            try:
                self.read_at_random(at_random)
            except safemmap.BusError:
                self.counts["late"] += 1  # behind the block that awaited it

    def touch_no_file(self) -> None:
        try:
            while self.goes_on():
                sum(bytes(100))
                time.sleep(0)
        except BaseException as error:
            self.wrong.append(f"in a thread that touched no file: {error!r}")

    def send_signals(self) -> None:
        while self.goes_on():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            self.counts["faults"] += len(safemmap.faults())
            time.sleep(0.003)

    def be_limited(self) -> None:
        time.sleep(SECONDS_EACH / 3)
        name = random.Random(self.seed).choice(list(LIMITS))
        LIMITS[name]()
        self.counts[name] += 1

    def fork(self) -> None:
        at_random = random.Random(self.seed + 1)
        while self.goes_on():
            name, impose = at_random.choice(list(LIMITS.items()))
            try:
                pid = os.fork()
            except OSError:
                time.sleep(0.05)
                continue
            if pid == 0:
                os._exit(self.be_a_child(impose, at_random))
            _, status = os.waitpid(pid, 0)
            if status != 0:
                self.wrong.append(f"a child under {name} ended with {status}")
            self.counts["forks"] += 1
            time.sleep(0.01)

    def be_a_child(self, impose: Callable[[], None], at_random: random.Random) -> int:
        signal.alarm(60)
        # Without the GIL the lock of those that threads share may be one that is gone.
        self.counts, self.wrong = Counter(), []
        try:
            if at_random.random() < 0.4:
                # As a library would that brings a handler of its own.
                ctypes.CDLL(None).signal(signal.SIGBUS, ctypes.c_void_p(0))
                if self.views == "interrupt":
                    # Foreign memory that is read before we look would kill.
                    safemmap.handler.install()
            impose()
            for _ in range(20):
                with contextlib.suppress(safemmap.BusError):
                    self.read_at_random(at_random)
        except EXPECTED:
            pass
        except BaseException as error:
            self.wrong.append(repr(error))
        os.write(2, "".join(f"in a child: {what}\n" for what in self.wrong).encode())
        return len(self.wrong)

    def run(self) -> None:
        faulthandler.dump_traceback_later(SECONDS_EACH + 60, exit=True)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        if self.views == "interrupt":
            safemmap.enable()
        peer = os.fork()
        if peer == 0:
            safemmap.disable()
            be_the_peer(self.files, self.seed)
            os._exit(0)
        jobs: list[Callable[[], None]] = [partial(self.read, i) for i in range(3)]
        jobs += [self.touch_no_file, self.send_signals, self.fork, self.be_limited]
        threads = [threading.Thread(target=job) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os.kill(peer, signal.SIGKILL)
        os.waitpid(peer, 0)
        print(self.wrong or "good", dict(self.counts), flush=True)
        # The limits leave no room for a regular end.
        os._exit(bool(self.wrong))


# ---- The command ---------------------------------------------------------


def run(command: list[str]) -> int:
    """Kills what is left of it when it hangs. (A limit on files would not let it write
    into one: its output goes through a pipe.)"""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=SECONDS_EACH + 120)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            output += "it hung\n"
        print(output, end="", flush=True)
    return process.returncode


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument(
        "--views", choices=["deferred", "interrupt"], default="deferred"
    )
    parser.add_argument("--round", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.round:
        warnings.simplefilter("ignore")
        Round(arguments.seed, SECONDS_EACH, arguments.views).run()
    end = time.monotonic() + arguments.seconds
    seed = arguments.seed
    while time.monotonic() < end:
        once = ["--seed", str(seed), "--views", arguments.views]
        command = [sys.executable, __file__, "--round", *once]
        status = run(command)
        if status != 0:
            print(f"ended with {status}: repeat it with --seconds 1 {' '.join(once)}")
            return 1
        seed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
