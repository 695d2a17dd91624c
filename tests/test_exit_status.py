"""The exit status is 1, not 0, after a fault that was not reported to a program which
does not know of safemmap."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import libc, needs_gil

PRELUDE = """
import atexit, os, signal, sys, warnings
import safemmap
sys.modules["mmap"] = safemmap
import mmap
warnings.simplefilter("ignore", safemmap.FaultWarning)

def lose(**named):
    fd = os.memfd_create("lossy")
    os.ftruncate(fd, 8192)
    m = mmap.mmap(fd, 8192, **named)
    os.ftruncate(fd, 0)
    return m

mmap.mmap(-1, 4096)  # whose views have the default
m = lose(views="deferred")
view = memoryview(m)
atexit.register(print, "at exit")
"""


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + program],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=60,
    )


@pytest.mark.parametrize(
    "end",
    [
        "",
        "view.release(); m.close()",
        "view.release(); del view, m",
        "sys.exit(0)",
        "safemmap.handler.status()",
    ],
)
def test_never_reported(end: str) -> None:
    done = run(f"print(view[1]); sys.stdout.write('buffered')\n{end}")
    assert (done.returncode, done.stdout) == (1, "0\nbufferedat exit\n")
    assert done.stderr.startswith("safemmap: BusError: thread ")
    assert done.stderr.count("\n") == 1


@needs_gil
@pytest.mark.parametrize(
    "end", ["numbers[5000]", "found = numbers[5000]", "sys.exit(numbers[5000])"]
)
def test_no_code_is_left_that_could_be_told(end: str) -> None:
    """An index is no call: the next call would raise."""
    done = run("numbers = memoryview(lose(views='interrupt')); view.release()\n" + end)
    assert done.returncode == 1
    assert "BusError" in done.stderr
    # A version whose eval loop looks once more ends with a traceback.
    assert done.stderr.startswith(("safemmap: ", "Traceback ", "Exception in thread "))


def test_an_end_without_the_interpreter() -> None:
    done = run("print(view[1], flush=True); os._exit(0)")
    assert (done.returncode, done.stdout) == (1, "0\n")
    assert done.stderr.startswith("safemmap: BusError: thread ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("end", ["sys.exit(3)", "os._exit(3)"])
def test_another_status_stays(end: str) -> None:
    """But for a C library that does not tell its functions for the end (musl)."""
    known = end.startswith("os.") or hasattr(libc, "on_exit")
    assert run(f"view[1]; {end}").returncode == (3 if known else 1)


def test_a_signal_stays() -> None:
    done = run("view[1]; os.kill(os.getpid(), signal.SIGTERM)")
    assert done.returncode == -signal.SIGTERM


def test_without_standard_error() -> None:
    assert run("view[1]; os.close(2)").returncode == 1


@pytest.mark.parametrize(
    "report",
    [
        "m.fault",
        "safemmap.faults()",
        "try: m.check()\nexcept safemmap.BusError: pass",
        "try: m[0]\nexcept safemmap.BusError: pass",
    ],
)
def test_reported(report: str) -> None:
    done = run(f"view[1]\n{report}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "at exit\n", "")


def test_nothing_happened() -> None:
    done = run("view.release(); m.close(); sys.stdout.write('x')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "xat exit\n", "")


def test_a_program_that_knows() -> None:
    """It warns, as documented."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, safemmap\n"
            "fd = os.memfd_create('lossy')\n"
            "os.ftruncate(fd, 4096)\n"
            "m = safemmap.mmap(fd, 4096)\n"
            "os.ftruncate(fd, 0)\n"
            "print(memoryview(m)[0])\n",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "0\n")
    assert "FaultWarning" in done.stderr


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing(method: str, tmp_path: Path) -> None:
    path = tmp_path / "spam.py"
    path.write_text(
        PRELUDE.replace('atexit.register(print, "at exit")', "")
        + f"""
import multiprocessing

def work(faults):
    if faults:
        child = lose(views="deferred")
        memoryview(child)[1]

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    for faults in False, True:
        process = context.Process(target=work, args=(faults,))
        process.start()
        process.join()
        print(process.exitcode, flush=True)
"""
    )
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines() == ["0", "1"]
    assert done.returncode == 0
    assert done.stderr.count("safemmap: BusError: ") == 1


def test_a_child_does_not_answer_for_its_parent() -> None:
    done = run(
        "view[1]\n"
        "child = os.fork()\n"
        "if child: print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert done.stdout == "at exit\n0\nat exit\n"
    assert done.returncode == 1


class TestDefaultViews:
    @pytest.mark.parametrize("views", ["deferred", "deny", "crash"])
    def test_by_the_environment(self, views: str) -> None:
        done = run(
            "m = lose(); v = memoryview(m)\nprint(v[1]); m.fault", SAFEMMAP_VIEWS=views
        )
        if views == "deferred":
            assert (done.returncode, done.stdout) == (0, "0\nat exit\n")
        elif views == "deny":
            assert "BufferError" in done.stderr
        else:
            assert done.returncode == -signal.SIGBUS

    @needs_gil
    def test_interrupt_is_that_of_the_drop_in(self) -> None:
        done = run("m = lose(); v = memoryview(m)\nv[1]\nwhile True: hash(1)")
        assert done.returncode == 1
        assert "safemmap.BusError: [Errno 14] a view " in done.stderr

    @needs_gil
    def test_everything_that_takes_views_has_it(self) -> None:
        program = (
            "import ctypes, mmap, os, sys, safemmap\n"
            "fd = os.memfd_create('lossy')\n"
            "os.ftruncate(fd, 4096)\n"
            "{}\n"
            "os.ftruncate(fd, 0)\n"
            "view[0]\n"
            "while True: hash(1)\n"
        )
        for made in (
            "view = memoryview(safemmap.wrap(fd))",
            "view = memoryview(safemmap.mmap(fd, 0))",
            "view = memoryview(mmap.mmap(fd, 0)); p = safemmap.protect(view)",
        ):
            done = subprocess.run(
                [sys.executable, "-c", program.format(made)],
                capture_output=True,
                text=True,
                env=os.environ | {"SAFEMMAP_VIEWS": "interrupt"},
                timeout=60,
            )
            assert done.returncode == 1
            assert "safemmap.BusError: [Errno 14] a view " in done.stderr, made

    def test_protect_has_no_other_modes(self) -> None:
        done = run(
            "with safemmap.protect(bytearray(8)): print('protected')",
            SAFEMMAP_VIEWS="crash",
        )
        assert done.stdout == "protected\nat exit\n"

    def test_an_empty_name_is_none(self) -> None:
        done = run(
            "m = lose(); v = memoryview(m)\nprint(v[1], m.faulted)", SAFEMMAP_VIEWS=""
        )
        assert (done.returncode, done.stdout) == (0, "0 True\nat exit\n"), done

    def test_a_name_that_is_none(self) -> None:
        done = run("", SAFEMMAP_VIEWS="spam")
        assert done.returncode == 1
        assert "ValueError: SAFEMMAP_VIEWS must be one of 'deferred', " in done.stderr
        assert "not 'spam'" in done.stderr


class TestWarningsThatAreErrors:
    """They are raised in the program, with the BusError as their cause."""

    @pytest.mark.parametrize(
        "moment",
        [
            "view[1]\nwhile True: hash(1)",
            "view[1]; view.release(); m.close()",
            "view[1]; view.release(); del view, m; hash(1); hash(2)",
        ],
        ids=["later", "closed", "collected"],
    )
    def test_by_the_main_thread(self, moment: str) -> None:
        done = run(f"warnings.simplefilter('error')\n{moment}")
        assert done.returncode == 1
        assert "FaultWarning: " in done.stderr
        assert "ignored in" not in done.stderr
