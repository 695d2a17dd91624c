"""`safemmap.enable`: every mapping of a file in the process, foreign ones included."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import neighbours
import pytest
from conftest import NAMESPACE, needs_gil, possible, run_isolated

import safemmap

pytestmark = needs_gil

PAGE = safemmap.PAGESIZE

LIBRARIES = [
    "memcpy_without_the_gil",
    "memcpy_with_the_gil",
    "store",
    "standard_mmap",
    "numpy_memmap",
    "sqlite",
]
NEEDED = {"numpy_memmap": "numpy", "sqlite": "sqlite3"}
PLACES = ["main", "executor", "asyncio", "coroutine", "fork", "multiprocessing"]


def run(
    program: str, *options: str, inside: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*inside, sys.executable, *options, "-c", program],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=60,
    )


class TestLibraries:
    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("library", LIBRARIES)
    def test_raises(self, library: str, place: str, tmp_path: Path) -> None:
        if needed := NEEDED.get(library):
            pytest.importorskip(needed, reason=f"needs {needed}")
        done = run_isolated("enabled.py", library, place, "enable", str(tmp_path))
        assert (done.returncode, done.stderr) == (0, ""), done
        *_, offset, path, message, names = done.stdout.splitlines()
        assert path == str(tmp_path / "file")
        assert names.split(" from ")[-1] == "BusError"
        first = 2 * PAGE if library == "sqlite" else PAGE
        assert int(offset) >= first
        assert f"the file has {first} bytes left; load it again" in message
        assert path in message

    @pytest.mark.parametrize("place", ["main", "fork"])
    @pytest.mark.parametrize("library", LIBRARIES)
    def test_would_die(self, library: str, place: str, tmp_path: Path) -> None:
        if needed := NEEDED.get(library):
            pytest.importorskip(needed, reason=f"needs {needed}")
        done = run_isolated("enabled.py", library, place, "plain", str(tmp_path))
        assert done.returncode in (-signal.SIGBUS, 256 - signal.SIGBUS)
        assert "result" not in done.stdout


PRELUDE = """
import ctypes, mmap, os, signal, sys, threading, time, warnings
import safemmap

def lose(size=8192, left=0, prot=mmap.PROT_READ | mmap.PROT_WRITE):
    fd = os.memfd_create("lossy")
    os.ftruncate(fd, size)
    m = mmap.mmap(fd, size, prot=prot)
    os.ftruncate(fd, left)
    os.close(fd)
    return m

def raises(function, *arguments):
    try:
        function(*arguments)
    except safemmap.BusError as error:
        return error
    return None
"""


class TestSemantics:
    def test_enable_and_disable_any_number_of_times(self) -> None:
        done = run(
            PRELUDE
            + """
assert not safemmap.is_enabled()
safemmap.disable()
for _ in range(3):
    safemmap.enable()
    safemmap.enable()
    assert safemmap.is_enabled()
    assert raises(bytes, lose())
    safemmap.disable()
    safemmap.disable()
    assert not safemmap.is_enabled()
print("dies", flush=True)
bytes(lose())
"""
        )
        assert (done.returncode, done.stdout) == (-signal.SIGBUS, "dies\n")

    def test_by_many_threads(self) -> None:
        done = run(
            PRELUDE
            + """
def work():
    for _ in range(50):
        safemmap.enable()
        safemmap.is_enabled()
        safemmap.disable()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
safemmap.enable()
print(type(raises(bytes, lose())).__name__)
"""
        )
        assert (done.returncode, done.stdout) == (0, "BusError\n"), done

    def test_interrupted(self) -> None:
        """As by Ctrl-C, right after the core has protected the process: the end of the
        interpreter ends that, too."""
        done = run(
            PRELUDE
            + """
import atexit, resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
atexit.register(bytes, lose())  # called after what enable() registers

def interrupt(frame, event, function):
    if event == "c_return" and function.__name__ == "enable_process":
        sys.setprofile(None)
        raise KeyboardInterrupt

sys.setprofile(interrupt)
try:
    safemmap.enable()
except KeyboardInterrupt:
    print(safemmap.is_enabled(), flush=True)
"""
        )
        assert (done.returncode, done.stdout) == (-signal.SIGBUS, "True\n"), done

    @pytest.mark.parametrize(
        "arguments", ["threads='all'", "on_fault='ignore'", "on_fault=None"]
    )
    def test_wrong_arguments(self, arguments: str) -> None:
        name = arguments.partition("=")[0]
        done = run(f"import safemmap; safemmap.enable({arguments})")
        assert f"ValueError: {name} must be " in done.stderr

    def test_each_touch_raises(self) -> None:
        done = run(
            PRELUDE
            + """
safemmap.enable()
m = lose()
print([type(raises(bytes, m)).__name__ for _ in range(5)])
"""
        )
        assert done.stdout == f"{['BusError'] * 5}\n"

    def test_the_error(self) -> None:
        done = run(
            PRELUDE
            + """
safemmap.enable()
m = lose(5 * 4096, 4096 + 5)
error = raises(m.find, b"x", 4096)
assert error.mapping is None and error.errno == 14, error
import pickle
for error in error, pickle.loads(pickle.dumps(error)):
    print(error.offset, error.code, error.path, error.file_size, error.operation)
    print(error)
"""
        )
        assert done.stdout.splitlines() == 2 * [
            "8192 2 /memfd:lossy (deleted) -1 load",
            "[Errno 14] the page at offset 8192 of '/memfd:lossy (deleted)' is gone, "
            "and was read as zeros: the file was made shorter, the filesystem cannot "
            "provide the page, or the device answers with an error; load it again once "
            "it can be read",
        ]

    def test_faults(self) -> None:
        done = run(
            PRELUDE
            + """
safemmap.enable()
raises(bytes, lose())
(fault,) = safemmap.faults()
print(fault.offset, fault.mapping, fault.path, fault.thread == os.getpid())
"""
        )
        assert done.stdout == "0 None /memfd:lossy (deleted) True\n"

    def test_one_warning_per_file(self) -> None:
        done = run(
            PRELUDE
            + """
safemmap.enable()
warnings.simplefilter("always")
for m in lose(), lose():
    for _ in range(3):
        raises(bytes, m)
        time.sleep(0.2)
"""
        )
        assert done.returncode == 0
        assert done.stderr.count("FaultWarning: ") == 2
        assert "/memfd:lossy" in done.stderr

    def test_faults_on_ever_new_threads_in_ever_new_files(self) -> None:
        done = run(
            PRELUDE
            + """
import gc, tracemalloc
warnings.simplefilter("ignore")
safemmap.enable()

def fault():
    m = lose()
    raises(bytes, m)
    m.close()

def faults(times):
    for _ in range(times):
        thread = threading.Thread(target=fault)
        thread.start()
        thread.join()
    time.sleep(0.5)  # for the warnings
    gc.collect()

tracemalloc.start()
faults(1200)
before, _ = tracemalloc.get_traced_memory()
faults(600)
after, _ = tracemalloc.get_traced_memory()
print("grown" if after - before > 100_000 else "bounded", after - before)
"""
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("bounded"), done.stdout

    def test_warning_only(self) -> None:
        done = run(
            PRELUDE
            + """
safemmap.enable(on_fault="warn")
print(max(bytes(lose())))
time.sleep(0.3)
"""
        )
        assert (done.returncode, done.stdout) == (0, "0\n")
        assert done.stderr.count("FaultWarning: ") == 1

    def test_what_is_protected_otherwise_is_reported_by_that(self) -> None:
        done = run(
            PRELUDE
            + """
safemmap.enable()
m = lose()
with warnings.catch_warnings():
    error = None
    try:
        with safemmap.protect(m) as protected:
            bytes(m)
    except safemmap.BusError as raised:
        error = raised
print(error.operation, type(error.mapping).__name__)
"""
        )
        assert done.stdout == "protect Protected\n", done.stderr

    @pytest.mark.skipif(
        sys.version_info < (3, 12), reason="the main thread has to run, and may be late"
    )
    def test_who_waits_for_a_thread_of_a_library(self, tmp_path: Path) -> None:
        library = neighbours.compiled(tmp_path, "pool.c")
        done = run(
            PRELUDE
            + f"library = ctypes.CDLL({str(library)!r})"
            + """
library.pool_read.argtypes = [ctypes.c_void_p, ctypes.c_long]
safemmap.enable()
byte = ctypes.c_char.from_buffer(lose())
address = ctypes.addressof(byte)
met = []

def read():
    try:
        met.append(library.pool_read(address, 20_000_000))
    except safemmap.BusError:
        met.append("BusError")

thread = threading.Thread(target=read)
thread.start()
thread.join()
print(met)
"""
        )
        assert (done.returncode, done.stdout) == (0, "['BusError']\n"), done.stderr

    def test_the_handler_stays(self) -> None:
        done = run("import safemmap; safemmap.enable(); safemmap.handler.uninstall()")
        assert "RuntimeError: " in done.stderr

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_faulthandler(self, when: str) -> None:
        enable = ["import faulthandler; faulthandler.enable()", "safemmap.enable()"]
        lines = enable if when == "before" else enable[::-1]
        done = run(
            PRELUDE
            + "warnings.simplefilter('ignore')\n"
            + "\n".join(lines)
            + "\ntime.sleep(0.3); print(type(raises(bytes, lose())).__name__)"
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "BusError\n", "")

    def test_a_handler_that_a_worker_installs(self) -> None:
        """As those of torch do, after the fork."""
        done = run(
            PRELUDE
            + """
safemmap.enable()
child = os.fork()
if child == 0:
    signal.signal(signal.SIGBUS, signal.SIG_DFL)
    action = ctypes.create_string_buffer(256)
    while action.raw[:8] == bytes(8):
        time.sleep(0.001)
        ctypes.CDLL(None).sigaction(signal.SIGBUS, None, action)
    print(type(raises(bytes, lose())).__name__, flush=True)
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
        )
        assert done.stdout == "BusError\n0\n"

    def test_children_that_are_executed(self) -> None:
        child = "import mmap, os, safemmap; print(safemmap.is_enabled())"
        done = run(
            PRELUDE
            + f"""
import subprocess
before = dict(os.environ)
safemmap.enable()
safemmap.enable()
subprocess.run([sys.executable, "-c", {child!r}])
safemmap.disable()
print(os.environ == before, flush=True)
subprocess.run([sys.executable, "-c", {child!r}])
""",
        )
        assert (done.stdout, done.stderr) == ("True\nTrue\nFalse\n", "")

    @pytest.mark.parametrize("switch", ["", "0", "1"])
    def test_disable_gives_the_environment_back(self, switch: str) -> None:
        """That of a process which nobody else has protected."""
        done = run(
            """
import os
before = dict(os.environ)
import safemmap
safemmap.enable()
assert os.environ["SAFEMMAP_ENABLE"] == "1"
safemmap.enable()
safemmap.disable()
print(os.environ == before)
""",
            SAFEMMAP_ENABLE=switch,
        )
        assert (done.stdout, done.stderr) == ("True\n", "")

    def test_disable_in_a_child_that_is_executed(self) -> None:
        """Which leaves its own children alone, as after `run`."""
        child = """
import os, subprocess, sys
assert "PYTHONPATH" in os.environ
import safemmap
assert safemmap.is_enabled()
safemmap.disable()
print(os.environ.keys() & {"SAFEMMAP_ENABLE", "PYTHONPATH"}, flush=True)
program = "import safemmap; print(safemmap.is_enabled())"
subprocess.run([sys.executable, "-c", program])
"""
        done = run(
            "import os; os.environ.pop('PYTHONPATH', None)\n"
            + PRELUDE
            + "import subprocess\nsafemmap.enable()\n"
            + f"subprocess.run([sys.executable, '-c', {child!r}])"
        )
        assert (done.stdout, done.stderr) == ("set()\nFalse\n", "")

    def test_a_fork_does_not_warn_of_threads(self) -> None:
        program = (
            "import os, safemmap\n"
            "safemmap.enable()\n"
            "for _ in range(20):\n"
            "    if os.fork() == 0: os._exit(0)\n"
            "    os.wait()\n"
        )
        done = run(program, "-W", "error")
        assert (done.returncode, done.stderr) == (0, "")


class TestWhatStillDies:
    @pytest.mark.parametrize(
        ("crash", "number"),
        [
            ("os.kill(os.getpid(), signal.SIGBUS)", signal.SIGBUS),
            ("signal.raise_signal(signal.SIGBUS)", signal.SIGBUS),
            ("ctypes.string_at(0)", signal.SIGSEGV),
            ("ctypes.c_char.from_address(ctypes.addressof(ctypes.c_char.from_buffer("
             "mmap.mmap(-1, 4096))) - (1 << 40)).value = b'x'", signal.SIGSEGV),
            ("bytes(lose(prot=mmap.PROT_READ | mmap.PROT_EXEC))", signal.SIGBUS),
        ],
        ids=["kill", "raise", "NULL", "nothing there", "executable"],
    )  # fmt: skip
    def test_by_the_same_signal(self, crash: str, number: signal.Signals) -> None:
        done = run(
            PRELUDE
            + "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
            + f"safemmap.enable()\nprint('before', flush=True)\n{crash}\nprint('after')"
        )
        assert (done.returncode, done.stdout) == (-number, "before\n")

    def test_by_the_data_of_a_library_in_the_place_of_another(self) -> None:
        """As much is mapped executable as when the list of such files was made."""
        done = run(
            PRELUDE
            + """
import resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

def load():
    fd = os.memfd_create("library")
    os.ftruncate(fd, 8192)
    return fd, mmap.mmap(fd, 8192, prot=mmap.PROT_READ | mmap.PROT_EXEC)

_, code = load()
safemmap.enable()
assert raises(bytes, lose())
code.close()
fd, code = load()
data = mmap.mmap(fd, 8192, prot=mmap.PROT_READ)
os.ftruncate(fd, 0)
print("before", flush=True)
bytes(data)
"""
        )
        assert (done.returncode, done.stdout) == (-signal.SIGBUS, "before\n")

    def test_after_the_end_of_the_interpreter(self) -> None:
        done = run(
            PRELUDE
            + """
import atexit, resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
m = lose()
atexit.register(bytes, m)  # called after what enable() registers
safemmap.enable()
"""
        )
        assert done.returncode == -signal.SIGBUS


class TestWhereItCannotWork:
    def test_without_a_handler(self) -> None:
        done = run("import safemmap; safemmap.enable()", SAFEMMAP_HANDLER="0")
        assert "RuntimeError: this needs the SIGBUS handler" in done.stderr

    def test_without_proc(self) -> None:
        inside = (
            *NAMESPACE,
            *("sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"),
        )
        if not possible(*inside, "true"):
            pytest.skip("cannot mount here")
        done = run("import safemmap; safemmap.enable()", inside=inside)
        assert "OSError: " in done.stderr or "FileNotFoundError: " in done.stderr
        assert "/proc" in done.stderr
        done = subprocess.run(
            [*inside, sys.executable, "-m", "safemmap", "run", "-c", "print(1)"],
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("safemmap: ")
        assert "/proc" in done.stderr


class TestExitStatus:
    def test_a_fault_that_was_swallowed_by_a_thread_of_c(self) -> None:
        """Nobody is there any more to be told."""
        done = run(
            PRELUDE
            + """
safemmap.enable(on_fault="raise")
m = lose()
pointer = ctypes.c_char.from_buffer(m)
start = ctypes.CFUNCTYPE(ctypes.c_void_p)
print("end", flush=True)
"""
        )
        assert (done.returncode, done.stdout) == (0, "end\n")

    def test_an_exception_that_was_raised_is_told(self) -> None:
        done = run(PRELUDE + "safemmap.enable(); raises(bytes, lose())")
        assert done.returncode == 0


def test_pytest(tmp_path: Path) -> None:
    path = tmp_path / "test_spam.py"
    path.write_text(
        PRELUDE
        + """
def test_that_faults():
    bytes(lose())

def test_that_does_not():
    pass
"""
    )
    options = ("-q", "-p", "no:cacheprovider", str(path))
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run([*command, "--safemmap"], capture_output=True, text=True)
    assert done.returncode == 1, done.stdout
    assert "1 failed, 1 passed" in done.stdout
    assert "BusError" in done.stdout
    plain = subprocess.run(command, capture_output=True, text=True)
    assert plain.returncode == -signal.SIGBUS
