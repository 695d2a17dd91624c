"""The demo, played as a user would, and with parts that do not do as they should."""

import contextlib
import io
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

import safemmap
from safemmap.__main__ import main
from safemmap._commands.demo import command, roles

ROOT = pathlib.Path(safemmap.__file__).resolve().parent.parent
DEMO = ["-m", "safemmap", "demo"]
LIMIT = 40  # seconds


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Makes a module that the readers of the demo can import."""

    def make(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
        return name

    return make


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def finish(process):
    """The status and output; afterwards nothing of the session is alive."""
    try:
        out, err = process.communicate(timeout=LIMIT)
        assert survivors(process.pid) == set()
        return process.returncode, out, err
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def survivors(session, seconds=0.0):
    """The processes of a session that are left after some time to end."""
    deadline = time.monotonic() + seconds
    while True:
        alive = {pid for pid, (lives, _, its) in stats() if its == session and lives}
        if not alive or time.monotonic() >= deadline:
            return alive
        time.sleep(0.01)


def children():
    """Those of this process, the dead ones that nobody has waited for included."""
    return {pid for pid, (_, parent, _) in stats() if parent == os.getpid()}


def stats():
    """Whether it is alive, its parent and its session, for every process."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            # After the name, which may hold anything: see proc_pid_stat(5).
            stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
            state, parent, _, session = stat.split()[:4]
            yield int(pid), (state not in "ZX", int(parent), int(session))


def play(**modules):
    out = io.StringIO()
    status = command.run(out=out, **modules)
    return status, " ".join(out.getvalue().split())


def test_the_standard_reader_dies_and_ours_does_not(tmp_path):
    status, out, err = finish(start(*DEMO, cwd=tmp_path))

    assert (status, err) == (0, "")
    assert "killed by SIGBUS (signal 7)" in out
    assert "BusError: [Errno 14] m[i:j]" in out
    # (Mostly the first one, but the kernel takes the pages away one after another.)
    offset = re.search(r"the page at offset (\d+)", out)
    assert offset is not None
    assert int(offset[1]) in range(4096, 32 << 20, safemmap.PAGESIZE)
    assert "4096 bytes left" in " ".join(out.split())
    assert out.count("just what") == 2
    assert "NOT OBSERVED" not in out
    assert "\033" not in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_no_core_is_left_where_cores_are_wanted(tmp_path):
    program = (
        "import resource, sys; from safemmap.__main__ import main;"
        "hard = resource.getrlimit(resource.RLIMIT_CORE)[1];"
        "resource.setrlimit(resource.RLIMIT_CORE, (hard, hard));"
        "sys.exit(main(['demo']))"
    )
    status, _, err = finish(start("-c", program, cwd=tmp_path))

    assert (status, err) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_under_a_strict_interpreter():
    status, out, err = finish(start("-X", "dev", "-W", "error", *DEMO))

    assert (status, err) == (0, "")
    assert "killed by SIGBUS (signal 7)" in out


def test_with_faulthandler_on(monkeypatch):
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")
    status, _, err = finish(start(*DEMO))

    assert (status, err) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("columns", [1, 20, 40, 63, 64, 80, 200])
def test_no_line_is_wider_than_the_terminal(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    status, out, _ = finish(start(*DEMO))

    assert status == 0
    assert max(map(len, out.splitlines())) <= max(columns, 16)
    if columns < 64:
        assert out.index("(signal 7)") < out.index("import safemmap")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "value", "coloured"),
    [("NO_COLOR", "", True), ("NO_COLOR", "1", False), ("TERM", "dumb", False)],
)
def test_colour_only_where_it_is_wanted(variable, value, coloured, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, value)
    out = Terminal()

    assert command.run(out=out) == 0
    assert ("\033" in out.getvalue()) == coloured


def test_nothing_is_left_open():
    before = os.listdir("/proc/self/fd"), children()
    status, _ = play()

    assert status == 0
    assert (os.listdir("/proc/self/fd"), children()) == before


@pytest.mark.slow
def test_it_fails_when_our_reader_dies():
    status, out = play(guarded="mmap")

    assert status == 1
    assert "NOT OBSERVED: the safemmap reader reported a BusError" in out
    assert "ended well; its end: killed by SIGBUS (signal 7)" in out
    assert "the standard reader was" not in out


@pytest.mark.slow
def test_it_fails_when_the_standard_reader_survives():
    status, out = play(standard="safemmap")

    assert status == 1
    assert out.count("NOT OBSERVED") == 1
    assert (
        "NOT OBSERVED: the standard reader was killed by SIGBUS; "
        "its end: exited with status 0" in out
    )


@pytest.mark.slow
def test_it_fails_when_our_reader_dies_of_something_else(module):
    killed = module(
        "killed",
        "import os, signal; from safemmap import *\n"
        "def mmap(*args, **kwargs): os.kill(os.getpid(), signal.SIGSEGV)\n",
    )
    status, out = play(guarded=killed)

    assert status == 1
    assert "its end: killed by SIGSEGV (signal 11)" in out


@pytest.mark.slow
def test_it_fails_when_the_data_is_not_what_the_peer_wrote(module):
    stale = module(
        "stale",
        "import safemmap; from safemmap import *\n"
        "class mmap(safemmap.mmap):\n"
        "    def __getitem__(self, item):\n"
        "        return bytes(len(super().__getitem__(item)))\n",
    )
    status, out = play(guarded=stale)

    assert status == 1
    assert out.count("NOT OBSERVED") == 2
    assert "NOT OBSERVED: the safemmap reader read on" in out
    assert "NOT OBSERVED: the safemmap reader served the next peer" in out


@pytest.mark.slow
def test_it_fails_when_a_reader_hangs(module, monkeypatch):
    hanging = module(
        "hanging",
        "import time; from safemmap import *\n"
        "def mmap(*args, **kwargs): time.sleep(600)\n",
    )
    monkeypatch.setattr(roles, "TIMEOUT", 1.5)
    before = children()
    status, out = play(guarded=hanging)

    assert status == 1
    assert "still running after 1.5 seconds" in out
    assert children() == before


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_interrupted_it_leaves_no_process(parts):
    demo = started_up_to(parts)
    os.killpg(demo.pid, signal.SIGINT)
    status, _, err = finish(demo)

    assert (status, err) == (128 + signal.SIGINT, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_it_leaves_no_process(number):
    demo = started_up_to(1)
    demo.send_signal(number)
    demo.wait(LIMIT)

    assert survivors(demo.pid, seconds=5) == set()
    assert finish(demo) == (-number, demo_prologue(), "")


def started_up_to(parts):
    """A demo that has started so many processes; there are five in all. (A busy
    machine can have it end before it was seen to.)"""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        demo = start(*DEMO)
        seen: set[int] = set()
        while len(seen) < parts and demo.poll() is None:
            seen |= survivors(demo.pid) - {demo.pid}
        if len(seen) >= parts:
            return demo
        finish(demo)
    pytest.fail(f"never saw {parts} processes of a demo")


def demo_prologue():
    out = io.StringIO()
    command.print_wrapped(command._PROLOGUE, out)
    return out.getvalue() + "\n"


def test_version(capsys):
    with pytest.raises(SystemExit) as error:
        main(["--version"])

    assert error.value.code == 0
    assert capsys.readouterr().out == f"safemmap {safemmap.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["dance"]])
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        main(arguments)

    assert error.value.code == 2
    assert "usage: safemmap" in capsys.readouterr().err


def test_a_closed_output() -> None:
    command = f"{sys.executable} -m safemmap demo >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (0, b"")
