"""The thread that warns of faults: when there is one, and what a program sees of it."""

from __future__ import annotations

import atexit
import contextlib
import importlib.abc
import os
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator

SIZE = 8 * os.sysconf("SC_PAGESIZE")
# Seconds that a busy machine may take for what is due at once.
PATIENCE = 10.0


def tasks() -> int:
    """The kernel's count of this process's threads."""
    return len(os.listdir("/proc/self/task"))


def wait_until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.002)


class Lost:
    """A mapping whose view touches a page that is gone, where and when the caller
    likes."""

    def __init__(self) -> None:
        import safemmap

        fd = os.memfd_create("lost")
        os.ftruncate(fd, SIZE)
        self.map = safemmap.mmap(fd, SIZE)
        self.view = memoryview(self.map)
        os.ftruncate(fd, 0)
        os.close(fd)

    def touch(self) -> None:
        assert self.view[0] == 0

    def close(self) -> None:
        """Without a warning."""
        assert self.map.fault is not None
        self.view.release()
        self.map.close()


@contextlib.contextmanager
def recorded() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def assert_it_warns() -> None:
    with recorded() as caught:
        lost = Lost()
        lost.touch()
        wait_until(lambda: caught)
        assert [str(warning.category.__name__) for warning in caught] == [
            "FaultWarning"
        ], [str(warning.message) for warning in caught]
    lost.close()


def run_child(body: Callable[[], None]) -> None:
    """In a fork; it ends in time, and well."""
    child = os.fork()
    if child == 0:
        try:
            body()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    check_child(child)


def check_child(child: int) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, status
            return
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")


def none_before_a_fault() -> None:
    import safemmap

    exits = atexit._ncallbacks()
    fd = os.memfd_create("healthy")
    os.ftruncate(fd, SIZE)
    with safemmap.mmap(fd, SIZE) as m, memoryview(m) as view, m.access() as scope:
        assert view[0] == scope[0] == 0
        time.sleep(0.2)
        assert tasks() == threading.active_count() == 1
    assert tasks() == 1
    assert atexit._ncallbacks() == exits


def none_where_a_scope_raises() -> None:
    import mmap

    import safemmap

    fd = os.memfd_create("lost")

    def ours(length: int) -> contextlib.AbstractContextManager[memoryview]:
        return safemmap.mmap(fd, length).access()

    @contextlib.contextmanager
    def theirs(length: int) -> Iterator[memoryview]:
        with memoryview(mmap.mmap(fd, length)) as view, safemmap.protect(view):
            yield view

    with recorded() as caught:
        for scope in (ours, theirs):
            os.ftruncate(fd, SIZE)
            try:
                with scope(SIZE) as view:
                    os.ftruncate(fd, 0)
                    assert view[0] == 0
                    # What the handler has asked for is done before this returns.
                    assert safemmap.handler.status().overlaid > 0
                    assert tasks() == 1
                raise AssertionError("not reported")
            except safemmap.BusError:
                assert tasks() == 1
    assert not caught
    assert_it_warns()


def shuts_itself_in() -> None:
    """unshare(2) gives a user namespace to processes of one thread alone."""
    if not hasattr(os, "unshare"):
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)

        def unshare(flags: int) -> None:
            if libc.unshare(flags):
                raise OSError(ctypes.get_errno(), "unshare")

        clone_newuser = 0x10000000
    else:
        unshare, clone_newuser = os.unshare, os.CLONE_NEWUSER
    child = os.fork()
    if child == 0:
        try:
            unshare(clone_newuser)
        except OSError:
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        print("no user namespaces")
        return
    import safemmap

    fd = os.memfd_create("healthy")
    os.ftruncate(fd, SIZE)
    with safemmap.mmap(fd, SIZE) as m, memoryview(m) as view:
        assert view[0] == 0
        unshare(clone_newuser)


def python_does_not_count_it() -> None:
    seen: list[tuple[int, int]] = []

    def show(*_: object, **__: object) -> None:
        # As logging does, which has a thread that Python does not know counted.
        threading.current_thread()
        seen.append((threading.get_native_id(), tasks()))

    warnings.simplefilter("always")
    warnings.showwarning = show
    lost = Lost()
    lost.touch()
    wait_until(lambda: seen)
    ((thread, _),) = seen
    assert thread != threading.get_native_id()
    wait_until(lambda: tasks() == 1)
    assert threading.active_count() == 1
    assert threading.enumerate() == [threading.main_thread()]
    lost.close()


def ends_when_nothing_needs_it() -> None:
    for _ in range(3):
        assert_it_warns()
        wait_until(lambda: tasks() == 1)


def leaves_a_signal_that_is_waited_for() -> None:
    warnings.simplefilter("ignore")
    everything = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    lost = []
    for signum in (signal.SIGBUS, signal.SIGUSR1, signal.SIGSEGV):
        lost.append(Lost())
        lost[-1].touch()
        wait_until(lambda: tasks() == 2)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, everything)
        os.kill(os.getpid(), signum)
        time.sleep(0.01)
        assert signal.sigwait({signum}) == signum
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        wait_until(lambda: tasks() == 1)
    for one in lost:
        one.close()


def while_the_main_thread_waits() -> None:
    """In C code, for a thread that goes on after the fault."""
    warned = threading.Event()
    warnings.simplefilter("always")
    warnings.showwarning = lambda *_, **__: warned.set()
    lost = Lost()
    another = memoryview(lost.map)

    def work() -> None:
        lost.touch()
        another.release()  # (for Python 3.11, which asks the main thread alone)
        while not warned.is_set():
            time.sleep(0.001)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(PATIENCE)
    assert warned.is_set()
    lost.close()


class Interrupted(Exception):
    pass


def interrupted_by_signals() -> None:
    """Whose handlers raise, whenever they come: no signal stays blocked."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, interrupt)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    interrupted = faults = 0
    for i in range(300):
        lost = Lost()
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 + i % 30 * 1e-6)
                lost.touch()
                time.sleep(1e-4)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Interrupted:
            interrupted += 1
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
        with contextlib.suppress(Interrupted):
            faults += lost.map.faulted  # told
    assert interrupted and faults
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    wait_until(lambda: tasks() == 1)


def the_hook_for_warnings_faults() -> None:
    """In the watcher, as any code may."""
    seen: list[int] = []
    lost = [Lost() for _ in range(2)]

    def show(*_: object, **__: object) -> None:
        seen.append(len(seen))
        lost[1].touch()

    warnings.simplefilter("always")
    warnings.showwarning = show
    lost[0].touch()
    wait_until(lambda: len(seen) == 2)
    wait_until(lambda: tasks() == 1)
    for one in lost:
        one.close()


def the_hook_for_warnings_forks() -> None:
    warnings.simplefilter("always")
    done: list[int] = []

    def show(message: Warning | str, *_: object, **__: object) -> None:
        if "FaultWarning" not in type(message).__name__:
            return  # of a fork in a process with threads: it is one
        child = os.fork()
        if child == 0:
            warnings.resetwarnings()
            warnings.showwarning = shown
            try:
                assert_it_warns()
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        check_child(child)
        done.append(child)

    shown, warnings.showwarning = warnings.showwarning, show
    lost = Lost()
    lost.touch()
    wait_until(lambda: done)
    lost.close()


def the_hook_for_warnings_hangs() -> None:
    """Neither a fork nor the end of the program waits for it for ever."""
    hanging = threading.Event()

    def show(*_: object, **__: object) -> None:
        hanging.set()
        while True:
            time.sleep(1)

    warnings.simplefilter("always")
    lost = Lost()
    warnings.showwarning, shown = show, warnings.showwarning
    lost.touch()
    hanging.wait(PATIENCE)
    warnings.showwarning = shown
    warnings.simplefilter("ignore", DeprecationWarning)
    run_child(lambda: None)
    keep.append(lost)


def touched_without_a_thread() -> Lost:
    lost = Lost()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 20), limits[1]))
    lost.touch()
    time.sleep(0.3)
    assert tasks() == 1
    resource.setrlimit(resource.RLIMIT_AS, limits)
    return lost


def no_thread_until_the_view_is_given_back() -> None:
    with recorded() as caught:
        lost = touched_without_a_thread()
        assert not caught
        lost.view.release()
        wait_until(lambda: caught)
    assert [warning.category.__name__ for warning in caught] == ["FaultWarning"]


def no_thread_to_be_had() -> None:
    """The fault is told by `close`; and the next one as always."""
    lost = touched_without_a_thread()
    lost.view.release()
    with recorded() as caught:
        lost.map.close()
    assert [warning.category.__name__ for warning in caught] == ["FaultWarning"]
    assert_it_warns()


def child_has_none_until_it_needs_one() -> None:
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, *_, **__: messages.append(str(message))
    messages: list[str] = []

    def body() -> None:
        messages.clear()
        assert tasks() == 1
        time.sleep(0.3)
        assert tasks() == 1
        assert not messages  # what the parent has touched is the parent's
        warnings.showwarning = shown
        assert_it_warns()

    shown = warnings.showwarning
    lost = Lost()
    lost.touch()
    wait_until(lambda: tasks() == 2)
    run_child(body)
    # Not forgotten by the parent over it.
    wait_until(lambda: messages)
    (message,) = messages
    assert "touched the byte at offset 0 " in message, message
    lost.close()


def one_warning_for_each_fault() -> None:
    """Whatever takes them meanwhile, and however many threads do."""
    seen: list[str] = []
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, *_, **__: seen.append(str(message))
    lost: list[Lost] = []

    def work() -> None:
        for _ in range(25):
            one = Lost()
            lost.append(one)
            one.touch()
            time.sleep(0.003)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(seen) >= 100)
    time.sleep(0.3)
    assert len(seen) == len({*seen}) == 100
    for one in lost:
        one.close()


def taken_on_several_threads() -> None:
    """Each fault by one of them, and none by nobody."""
    import safemmap

    # On a machine that is slow, a warning comes before a thread asks.
    warnings.simplefilter("ignore", safemmap.FaultWarning)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    made = 0
    found: list[safemmap.Fault] = []
    dropped = 0
    stopping = threading.Event()
    lock = threading.Lock()

    def take() -> None:
        nonlocal dropped
        mine: list[safemmap.Fault] = []
        lost = 0
        while not stopping.is_set():
            taken = safemmap.faults()
            mine += taken
            lost += taken.dropped
        with lock:
            found.extend(mine)
            dropped += lost

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    maps = []
    for _ in range(400):
        lost = Lost()
        lost.touch()
        made += 1
        maps.append(lost)
    stopping.set()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    found += safemmap.faults()
    assert dropped == 0
    assert sorted(fault.address for fault in found) == sorted(
        lost.map.fault.address  # type: ignore[union-attr]
        for lost in maps
    ), (made, len(found))
    for lost in maps:
        lost.close()


def forks_while_another_imports() -> None:
    """What the library loads late is no lock that a child waits for."""
    import safemmap

    warnings.simplefilter("ignore", DeprecationWarning)
    start = threading.Barrier(3)
    failures: list[BaseException] = []

    def load() -> None:
        for name in ("_codes", "_protect", "_wrap", "_seals", "handler"):
            importlib.import_module(f"safemmap.{name}")

    def close() -> None:
        """Which warns, and imports what is needed for that."""
        for one in lost:
            one.map.close()

    def body() -> None:
        safemmap.wrap, safemmap.Seal, safemmap.handler.status(), safemmap.faults()
        with safemmap.protect(bytearray(SIZE)):
            pass
        fd = os.memfd_create("short")
        os.ftruncate(fd, SIZE)
        m = safemmap.mmap(fd, SIZE)
        os.ftruncate(fd, 0)
        try:
            m[0]
        except safemmap.BusError as error:
            assert error.code is safemmap.BusCode.ADRERR
        one = Lost()
        one.touch()
        one.view.release()
        one.map.close()  # warns

    def fork() -> None:
        for _ in range(5):
            run_child(body)

    def attempt(work: Callable[[], None]) -> None:
        start.wait()
        try:
            work()
        except BaseException as error:
            failures.append(error)

    lost = [Lost() for _ in range(20)]
    for one in lost:
        one.touch()
        one.view.release()
    threads = [
        threading.Thread(target=attempt, args=(work,)) for work in (load, close, fork)
    ]
    with open(os.devnull, "w") as quiet, contextlib.redirect_stderr(quiet):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures, failures


def forks_while_another_warns() -> None:
    """For the first time in the process, which imports what shows warnings."""

    class Slow(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, *_: object) -> None:
            if name in ("linecache", "tokenize"):
                importing.set()
                time.sleep(0.3)

    def warn() -> None:
        one = Lost()
        one.touch()
        one.view.release()
        one.map.close()

    importing = threading.Event()
    with open(os.devnull, "w") as sys.stderr:
        sys.meta_path.insert(0, Slow())
        for name in ("linecache", "tokenize"):
            sys.modules.pop(name, None)
        thread = threading.Thread(target=warn)
        thread.start()
        importing.wait(PATIENCE)
        run_child(warn)
        thread.join()
    sys.stderr = sys.__stderr__


def green(patch: str) -> None:
    """In a program that has threads patched into something else."""
    try:
        if patch == "eventlet":
            import eventlet

            eventlet.monkey_patch()
        else:
            import gevent.monkey

            gevent.monkey.patch_all(thread=patch != "gevent but threads")
    except ImportError as error:
        print(error)
        return
    assert_it_warns()


keep: list[object] = []

if __name__ == "__main__":
    if sys.argv[1].startswith("green"):
        green(sys.argv[2])
    else:
        globals()[sys.argv[1]]()
    print("done", flush=True)
