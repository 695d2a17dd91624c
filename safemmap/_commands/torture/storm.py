"""Threads read a file that another process changes all the time.

See peer.py for what that one does, and for how the readers know which bytes are right.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import mmap as standard
import os
import random
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import safemmap
from safemmap import BusCode, BusError
from safemmap._commands.torture import peer
from safemmap._commands.torture.peer import CONTROL_SIZE, PAGE, PAGES, SIZE, Control

__all__ = ["Storm", "WrongOutcome"]


class WrongOutcome(Exception):
    """What no reader may ever see; the message has the details."""


class Read(NamedTuple):
    """The outcome of an operation."""

    start: int  #: the bytes that were touched, from here
    stop: int  #: to before here
    step: int = 1
    data: bytes = b""
    #: where it stopped early, at a zero
    zero_at: int | None = None
    #: it is an error if the file is shorter than that
    checks_size: bool = False


class Before(NamedTuple):
    """What the peer said before an operation."""

    zeroing: int
    generation: int
    size: int
    values: bytes

    @classmethod
    def now(cls, control: Control) -> Before:
        return cls(
            control.zeroing, control.generation, control.size, bytes(control.values)
        )


class Reader(threading.Thread):
    def __init__(self, storm: Storm, number: int) -> None:
        super().__init__(name=f"reader {number}")
        self.storm = storm
        self.control = storm.control
        self.random = random.Random(f"{storm.seed} {number}")
        self.counts: collections.Counter[str] = collections.Counter()
        self.own = [
            self.storm.new_mapping(),
            self.storm.new_mapping(safemmap.ACCESS_WRITE),
            self.storm.new_mapping(safemmap.ACCESS_COPY),
            self.storm.new_mapping(trackfd=False),
        ]
        self.plain: list[Any] = [
            standard.mmap(storm.fd, SIZE, access=standard.ACCESS_READ),
            standard.mmap(storm.fd, SIZE),
            np.memmap(f"/proc/self/fd/{storm.fd}", np.uint8, "r", shape=SIZE),
            np.memmap(f"/proc/self/fd/{storm.fd}", np.uint8, "c", shape=SIZE),
        ]
        self.foreign: standard.mmap | None = None
        # Of the operation under way:
        self.touched = False  # a view was read
        self.alone = False  # no other thread can poison what it reads
        self.range = (0, 0)
        self.how: list[object] = []  # for whoever has to find out why it failed

    def run(self) -> None:
        try:
            while time.monotonic() < self.storm.deadline and not self.storm.failures:
                self.step()
        except BaseException:
            self.storm.failures.append(f"{self.how}\n{traceback.format_exc()}")

    def step(self) -> None:
        self.choose_range()
        kind = self.random.choice(
            (self.guarded, self.view, self.scope, self.protect, self.enabled)
        )
        self.how = [kind.__name__, self.range]
        before = Before.now(self.control)
        try:
            read = kind()
        except BusError as error:
            outcome = self.judge_error(before, error)
        else:
            outcome = self.judge(before, read)
        self.counts[outcome] += 1
        self.counts[f"{kind.__name__}: {outcome}"] += 1

    def choose_range(self) -> None:
        start, stop = sorted(self.random.choices(range(SIZE + 1), k=2))
        match self.random.randrange(4):
            case 0:
                start, stop = 0, SIZE
            case 1:
                start, stop = start // PAGE * PAGE, stop // PAGE * PAGE
            case 2:
                stop = min(start + 100, SIZE)
        self.range = (start, stop) if start < stop else (SIZE - 1, SIZE)
        self.touched = False

    # ---- Operations ------------------------------------------------------

    def mapping(self) -> safemmap.mmap:
        """A clean one, if that can be had."""
        self.alone = self.random.random() < 0.8
        if not self.alone:
            self.how += ["shared"]
            m = self.storm.shared
        else:
            index = self.random.randrange(len(self.own))
            m = self.own[index]
        if m.faulted:
            try:
                m.reset()
            except BusError:  # the file is too short
                self.alone = False
            except BufferError:
                assert m is self.storm.shared
            except ValueError:  # trackfd=False
                with contextlib.suppress(BusError):
                    m.check()  # told, so that closing is silent
                m.close()
                try:
                    self.own[index] = m = self.storm.new_mapping(trackfd=False)
                except ValueError as error:
                    assert "length is greater than file size" in str(error)
                    self.own[index] = m = self.storm.new_mapping_later()
        self.how += [m, m.faulted]
        return m

    def guarded(self) -> Read:
        m = self.mapping()
        start, stop = self.range
        which = self.random.randrange(5)
        self.how += [which]
        match which:
            case 0:
                return Read(start, stop, data=m[start:stop])
            case 1:
                step = self.random.choice((2, 100, PAGE, PAGE + 1))
                data_ = m[start:stop:step]
                last = start + (len(data_) - 1) * step
                return Read(start, last + 1, step, data_)
            case 2:
                found = m.find(b"\0", start, stop)
                if found >= 0:
                    return Read(start, found, zero_at=found)
                return Read(start, stop)
            case 3:
                data = bytearray(stop - start)
                assert m.readinto(data, start) == stop - start
                return Read(start, stop, data=bytes(data))
            case _:
                data_ = m.snapshot(start, stop - start)
                tracked = m not in self.own[3:]
                return Read(start, stop, data=data_, checks_size=tracked)

    def view(self) -> Read:
        m = self.mapping()
        start, stop = self.range
        with memoryview(m) as view:
            self.touched = True
            data = self.copied(view[start:stop])
            m.check()  # before another thread can reset what is shared
        self.faulted_in_silence(m)
        return Read(start, stop, data=data)

    def scope(self) -> Read:
        m = self.mapping()
        start, stop = self.range
        with m.access(start, stop - start) as view:
            self.touched = True
            data = self.copied(view)
        self.faulted_in_silence(m)
        tracked = m not in self.own[3:]
        return Read(start, stop, data=data, checks_size=tracked)

    def protect(self) -> Read:
        self.alone = self.random.random() < 0.7
        plain = (
            self.random.choice(self.plain) if self.alone else self.storm.shared_plain
        )
        start, stop = self.range
        obj: Any = plain
        if self.random.random() < 0.5:
            obj = memoryview(plain)[start:stop]
        self.how += [plain, obj]
        protection = self.storm.protect(obj)
        with protection:
            self.touched = True
            data = self.copied(memoryview(plain)[start:stop])
        if self.alone:
            self.faulted_in_silence(protection)
        return Read(start, stop, data=data)

    def enabled(self) -> Read:
        """A mapping that nothing but `safemmap.enable` protects; a new one after each
        fault, since its pages stay lost."""
        start, stop = self.range
        self.alone = True
        if self.foreign is None:
            try:
                self.foreign = standard.mmap(
                    self.storm.fd, SIZE, access=standard.ACCESS_READ
                )
            except ValueError:  # the file is too short
                return self.guarded()
        foreign, self.foreign = self.foreign, None
        self.touched = True
        data = self.copied(memoryview(foreign)[start:stop])
        self.foreign = foreign
        return Read(start, stop, data=data)

    def copied(self, view: memoryview) -> bytes:
        with view:
            if self.random.random() < 0.5:
                return bytes(view)
            array = np.frombuffer(view, np.uint8)
            result = array.copy().tobytes()
            del array
            return result

    def faulted_in_silence(self, what: Any) -> None:
        """Nobody else can have had the fault, and nothing was raised."""
        if self.storm.protected and self.alone and what.faulted:
            raise AssertionError(f"a fault was not reported: {what.fault}")

    # ---- Judgement -------------------------------------------------------

    def judge_error(self, before: Before, error: BusError) -> str:
        stop = self.range[1]
        assert error.errno == errno.EFAULT, error
        assert error.code in (0, BusCode.ADRERR), error
        assert 0 <= error.offset < SIZE, error
        still = self.stood_still(before)
        if still and self.alone and stop <= before.size:
            raise AssertionError(f"{before.size} bytes, all there: {error}")
        if error.code == 0:
            return "short"
        if not error.poisoned:
            return "recovered"
        if not self.touched:
            return "refused"
        # (Where others read the same, they have the same fault.)
        self.counts["faults of its own"] += self.alone
        return "overlaid"

    def judge(self, before: Before, read: Read) -> str:
        still = self.stood_still(before)
        no_zeros = before.zeroing % 2 == 0 and self.control.zeroing == before.zeroing
        edge = -(-before.size // PAGE) * PAGE
        if still and read.stop > (before.size if read.checks_size else edge):
            raise AssertionError(f"{read!r:.200} from a file of {before.size} bytes")
        if not no_zeros:
            return "may hold zeros"
        data = np.frombuffer(read.data, np.uint8)
        where = np.arange(read.start, read.stop, read.step)[: data.size]
        if before.size % PAGE and not read.checks_size:
            # The rest of the page in which the file ends is zeros without a fault.
            data = data[(where < before.size) | (where >= edge)]
            where = where[(where < before.size) | (where >= edge)]
        zeros = where[data == 0].tolist()
        if read.zero_at is not None and not before.size <= read.zero_at < edge:
            zeros.append(read.zero_at)
        if zeros:
            raise AssertionError(f"zeros at {zeros[:5]}, {before}, {self.control.size}")
        if not still:
            return "no zeros"
        values = np.frombuffer(before.values, np.uint8)
        wrong = where[data != values[where // PAGE]].tolist()
        if wrong:
            raise AssertionError(f"wrong bytes at {wrong[:5]}, {before}")
        return "right"

    def stood_still(self, before: Before) -> bool:
        generation = before.generation
        return generation % 2 == 0 and self.control.generation == generation

    def close(self) -> None:
        for m in self.own:
            with contextlib.suppress(BusError):
                m.check()
            m.close()
        # Nothing of ours is left in what is not ours.
        for plain in self.plain:
            assert bytes(plain) == os.pread(self.storm.fd, SIZE, 0)


class Storm:
    """A file, its peer and its readers.

    :ivar counts: what came out how often.
    :param file: a path, or None for a file in memory.
    :param protected: False for readers that are killed sooner or later.
    """

    def __init__(
        self, threads: int, seed: str, file: str | None, *, protected: bool = True
    ) -> None:
        self.seed = seed
        self.protected = protected
        self.protect: Callable[..., Any] = (
            safemmap.protect if protected else lambda obj: contextlib.nullcontext()
        )
        self.counts: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []
        self.deadline = 0.0
        if file is None:
            self.fd = os.memfd_create("storm")
        else:
            self.fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.write(self.fd, b"\xff" * SIZE)
        self._control_fd = os.memfd_create("control")
        os.ftruncate(self._control_fd, CONTROL_SIZE)
        self.control = Control.shared(self._control_fd)
        self.control.size = SIZE
        self.control.values[:] = [255] * PAGES
        self.shared = self.new_mapping()
        self.shared_plain = standard.mmap(self.fd, SIZE, access=standard.ACCESS_READ)
        self.readers = [Reader(self, number) for number in range(threads)]

    def new_mapping(
        self, access: int = safemmap.ACCESS_READ, **options: Any
    ) -> safemmap.mmap:
        if not self.protected:
            options["views"] = "crash"
        return safemmap.mmap(self.fd, SIZE, access=access, **options)

    def new_mapping_later(self) -> safemmap.mmap:
        """As soon as the file is long enough."""
        while time.monotonic() < self.deadline + 10:
            with contextlib.suppress(ValueError):
                return self.new_mapping(trackfd=False)
            time.sleep(0)
        raise AssertionError("the peer does not grow its file any more")

    def run(self, seconds: float, tell: Callable[[Storm], None]) -> None:
        """Have it rage for so long; `tell` is called now and then.

        :raises WrongOutcome: the first one. The readers may not be able to end then.
        """
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-4)
        try:
            with self._peer() as process, warnings.catch_warnings():
                warnings.simplefilter("ignore", safemmap.FaultWarning)
                if self.protected:
                    safemmap.enable()
                self._rage(seconds, process, tell)
        finally:
            safemmap.disable()
            sys.setswitchinterval(before)

    def _rage(
        self,
        seconds: float,
        process: subprocess.Popen[bytes],
        tell: Callable[[Storm], None],
    ) -> None:
        self.deadline = time.monotonic() + seconds
        for reader in self.readers:
            reader.start()
        try:
            while any(reader.is_alive() for reader in self.readers):
                time.sleep(0.02)
                self._take_events()
                tell(self)
                if process.poll() is not None:
                    raise WrongOutcome("the peer died")
            self._take_events()
        except Exception:
            self.failures.append(traceback.format_exc())
        finally:
            self.stop()
            for reader in self.readers:
                reader.join(30)
        if self.failures:
            raise WrongOutcome("\n".join(self.failures))

    def stop(self) -> None:
        """Have it end at once, in the middle of `run`."""
        self.deadline = min(self.deadline, time.monotonic())

    def close(self) -> None:
        """After the end of the peer, which leaves its file whole."""
        for reader in self.readers:
            self.counts.update(reader.counts)
            reader.close()
        assert bytes(self.shared_plain) == os.pread(self.fd, SIZE, 0)
        with contextlib.suppress(BusError):
            self.shared.check()
        self.shared.close()
        self.counts["changes"] = self.control.generation // 2
        os.close(self.fd)
        os.close(self._control_fd)

    def _take_events(self) -> None:
        taken = safemmap.faults()
        self.counts["events"] += len(taken)
        self.counts["dropped"] += taken.dropped
        threads = {reader.native_id for reader in self.readers}
        for fault in taken:
            assert fault.code is BusCode.ADRERR, fault
            assert 0 <= fault.offset < SIZE, fault
            assert fault.thread in threads, fault

    @contextlib.contextmanager
    def _peer(self) -> Iterator[subprocess.Popen[bytes]]:
        fds = (self.fd, self._control_fd)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", peer.__name__, *map(str, fds), self.seed],
            pass_fds=fds,
            process_group=0,  # Ctrl-C is for us
        )
        try:
            yield process
        finally:
            self.control.stop = 1
            try:
                process.wait(10)
            finally:
                process.kill()
                process.wait()
