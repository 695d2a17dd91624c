"""``python -m safemmap run`` runs a program as Python does."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from conftest import needs_gil

import safemmap

pytestmark = needs_gil  # run calls enable()

PYTHON = [sys.executable]
RUN = [sys.executable, "-m", "safemmap", "run"]

# Each prints what a program can see of how it was started.
PROGRAMS = {
    "arguments": "import sys; print(sys.argv, sys.path[0], __name__)",
    "where it is": "print(globals().get('__file__'), str(__spec__)[:9], __package__)",
    "the main module": """
        import sys
        print(sys.modules["__main__"].__dict__ is globals(), sorted(globals()))
        """,
    "the path": "import sys; print(*sys.path, sep='\\n')",
    "the standard mmap": """
        import mmap, pickle, sys
        m = mmap.mmap(-1, 4096)
        print(mmap, mmap.mmap, m, mmap.mmap.__doc__, pickle.dumps(mmap.mmap))
        m.close()
        print(m, mmap.error, mmap.PAGESIZE, sorted(vars(mmap)))
        class Own(mmap.mmap):
            pass
        print(Own(-1, 4096))
        """,
    "a traceback": "def f(): return 1 / 0\nf()",
    "a syntax error": "print(1\n",
    "a status": "import sys; print('x', end=''); sys.exit(5)",
    "a text for a status": "import sys; sys.exit('no')",
    "no newline at the end": "import sys; sys.stdout.write('x'); sys.stderr.write('y')",
    "an abrupt end": "import os; os.write(1, b'x'); os._exit(7)",
    "an abrupt good end": "import os; os.write(1, b'x'); os._exit(0)",
    "an interrupt": "import signal; signal.raise_signal(signal.SIGINT)",
    "killed": "import os; os.kill(os.getpid(), 15)",
    "SIGBUS sent by hand": "import os; os.kill(os.getpid(), 7)",
    "standard input": "import sys; print(sys.stdin.read())",
    "warnings": "import warnings; warnings.warn('x')",
    "a hook at exit": "import atexit; atexit.register(print, 'end')",
    "a fork": """
        import os
        if os.fork() == 0:
            print("child", flush=True)
            os._exit(3)
        print(os.wait()[1])
        """,
    "threads": """
        import threading
        print(threading.active_count(), threading.main_thread().name)
        """,
    "signals": """
        import signal
        print({s.name: signal.getsignal(s) for s in signal.valid_signals()
               if isinstance(s, signal.Signals)})
        """,
    "flags": "import sys; print(sys.flags, sys.warnoptions, sys._xoptions)",
}


def run(
    command: Sequence[str | Path],
    cwd: Path,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, bytes, bytes]:
    # (faulthandler names the extension modules there are, of which one is ours.)
    without = ("PYTHONPATH", "PYTEST", "PYTHONFAULTHANDLER")
    env = {k: v for k, v in os.environ.items() if k not in without}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**env, **(environment or {})},
        input=b"what it is given",
        capture_output=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def write(path: Path, program: str) -> Path:
    path.write_text(textwrap.dedent(program))
    return path


def assert_same(cwd: Path, *arguments: str | Path, **environment: str) -> bytes:
    plain = run([*PYTHON, *arguments], cwd, environment)
    assert run([*RUN, *arguments], cwd, environment) == plain
    return plain[1]


@pytest.mark.parametrize("way", ["script", "module", "code", "input"])
@pytest.mark.parametrize("what", PROGRAMS)
def test_what_a_program_sees(what: str, way: str, tmp_path: Path) -> None:
    path = write(tmp_path / "spam.py", PROGRAMS[what])
    if way == "script":
        assert_same(tmp_path, path, "-m", "x", "--", "-c")
    elif way == "module":
        assert_same(tmp_path, "-m", "spam", "-m", "x", "--", "-c")
    elif way == "code":
        assert_same(tmp_path, "-c", path.read_text(), "-m", "x", "--", "-c")
    else:
        assert_same(tmp_path, "-", "-m", "x", "--", "-c")


def test_a_directory_and_a_module_of_a_package(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    for name in ("__init__", "__main__", "eggs"):
        write(
            package / f"{name}.py",
            "import sys; print(__spec__.name, sys.argv, sys.path)",
        )
    assert_same(tmp_path, package, "a")
    assert_same(tmp_path, "-m", "package", "a")
    assert_same(tmp_path, "-m", "package.eggs", "a")


def test_what_is_not_there(tmp_path: Path) -> None:
    assert_same(tmp_path, "spam.py")
    assert_same(tmp_path, "-m", "spam")


@pytest.mark.parametrize(
    "options",
    [["-W", "error"], ["-X", "dev"], ["-u"], ["-O"], ["-OO", "-B"], ["-P"], ["-s"]],
    ids=" ".join,
)
@pytest.mark.parametrize("start", [["-m", "safemmap"], ["-msafemmap"]], ids=" ".join)
def test_options_of_the_interpreter(
    options: list[str], start: list[str], tmp_path: Path
) -> None:
    path = write(tmp_path / "spam.py", PROGRAMS["flags"])
    plain = run([*PYTHON, *options, path], tmp_path)
    assert run([*PYTHON, *options, *start, "run", path], tmp_path) == plain


def test_options_in_one_word(tmp_path: Path) -> None:
    path = write(tmp_path / "spam.py", PROGRAMS["flags"])
    plain = run([*PYTHON, "-Bu", path], tmp_path)
    assert run([*PYTHON, "-Bum", "safemmap", "run", path], tmp_path) == plain


def test_the_installed_command(tmp_path: Path) -> None:
    path = write(tmp_path / "spam.py", PROGRAMS["arguments"])
    command = Path(sys.executable).with_name("safemmap")
    if not command.exists():
        pytest.skip("safemmap is not installed as a command")
    plain = run([*PYTHON, path, "a"], tmp_path)
    assert run([*PYTHON, command, "run", path, "a"], tmp_path) == plain


@pytest.mark.parametrize("option", ["-I", "-E", "-S"])
def test_an_interpreter_that_does_not_look_at_its_environment(
    option: str, tmp_path: Path
) -> None:
    source = {"PYTHONPATH": str(Path(safemmap.__file__).parent.parent)}
    status, _, stderr = run([*PYTHON, option, *RUN[1:], "-c", "1"], tmp_path, source)
    assert status == 1
    assert stderr.startswith(b"safemmap: run reaches the program by PYTHONPATH"), stderr


def test_options_of_the_interpreter_in_the_wrong_place(tmp_path: Path) -> None:
    status, _, stderr = run([*RUN, "-u", "spam.py"], tmp_path)
    assert status == 2
    assert b"go before safemmap: python -u -m safemmap run" in stderr


def test_help_and_nothing(tmp_path: Path) -> None:
    status, stdout, _ = run([*RUN, "--help"], tmp_path)
    assert status == 0
    assert b"Run a program as python would" in stdout
    assert run(RUN, tmp_path)[0] == 2


class TestSitecustomize:
    """The program's own. (The interpreter that becomes the program's runs it too.)"""

    @pytest.fixture
    def site(self, tmp_path: Path) -> Path:
        site = tmp_path / "site"
        site.mkdir()
        return site

    def assert_same(self, program: str, site: Path) -> bytes:
        startup = Path(safemmap.__file__).parent / "_startup"
        plain = run([*PYTHON, "-c", program], site, {"PYTHONPATH": str(site)})
        protected = {
            "PYTHONPATH": f"{startup}{os.pathsep}{site}",
            "SAFEMMAP_ENABLE": "1",
        }
        assert run([*PYTHON, "-c", program], site, protected) == plain
        return plain[1]

    def test_is_run(self, site: Path) -> None:
        write(site / "sitecustomize.py", "print('own', __file__)")
        program = "import sitecustomize, sys; print(sitecustomize, *sys.path)"
        assert self.assert_same(program, site).count(b"own ") == 1

    @pytest.mark.parametrize("mistake", ["import spam_that_is_not_there", "1 / 0"])
    def test_may_fail(self, mistake: str, site: Path) -> None:
        write(site / "sitecustomize.py", mistake)
        self.assert_same("import sys; print('sitecustomize' in sys.modules)", site)

    def test_none_but_that_of_the_system(self, site: Path) -> None:
        """Debian's Pythons have one."""
        program = "import sys; print(sys.modules.get('sitecustomize'))"
        assert b"safemmap" not in self.assert_same(program, site)


# ---- Children ------------------------------------------------------------


MULTIPROCESSING = """
    import multiprocessing, sys

    class Spam:
        def __reduce__(self):
            return Spam, ()

    def work(number, spam):
        import mmap
        assert type(spam) is Spam and Spam.__module__ == "__mp_main__" or (
            sys.argv[1] == "fork")
        return number * 2, mmap.mmap.__mro__[1].__module__

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        with context.Pool(2) as pool:
            print(pool.starmap(work, [(i, Spam()) for i in range(4)]))
    """


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_multiprocessing(method: str, tmp_path: Path) -> None:
    path = write(tmp_path / "spam.py", MULTIPROCESSING)
    status, stdout, stderr = run([*RUN, path, method], tmp_path)
    assert (status, stderr) == (0, b"")
    assert stdout.count(b"'safemmap'") == 4


IS_PROTECTED = "import mmap; print(mmap.mmap.__mro__[1].__module__)"


@pytest.mark.parametrize(
    "start",
    [
        "subprocess.run([sys.executable, '-c', program], check=True)",
        "subprocess.run(f'{sys.executable} -c \"{program}\"', shell=True, check=True)",
        "os.execv(sys.executable, [sys.executable, '-c', program])",
        "os.spawnv(os.P_WAIT, sys.executable, [sys.executable, '-c', program])",
    ],
    ids=lambda start: start.partition("(")[0] + " shell" * ("shell" in start),
)
def test_children_that_are_python(start: str, tmp_path: Path) -> None:
    program = f"import os, subprocess, sys; program = {IS_PROTECTED!r}; {start}"
    assert run([*RUN, "-c", program], tmp_path) == (0, b"safemmap\n", b"")


def test_children_without_the_environment(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys; "
        f"subprocess.run([sys.executable, '-I', '-c', {IS_PROTECTED!r}])"
    )
    assert run([*RUN, "-c", program], tmp_path) == (0, b"builtins\n", b"")
