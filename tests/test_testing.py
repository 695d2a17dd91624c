"""Faults on purpose: each source does what it says, and leaves nothing behind."""

from __future__ import annotations

import mmap as standard
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import PAGE, members

import safemmap
from safemmap import BusError, testing

UNPROTECTED = """
import faulthandler, mmap, resource, sys
from safemmap import testing
faulthandler.disable()
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
with testing.SOURCES[sys.argv[1]]() as file:
    m = mmap.mmap(file.fd, file.size, flags=file.map_flags, prot=mmap.PROT_READ)
    kept = m[: file.gone.start]
    file.strike()
    assert m[: file.gone.start] == kept == file.data[: file.gone.start]
    print("kept", flush=True)
    print(any(m[file.gone.start :]))
"""

CHOOSES = """
import pytest
from safemmap import testing

@pytest.mark.parametrize(
    "unrelated, fault_source",
    [(1, "shrink"), (2, testing.ShrinkInLastPage)],
    indirect=["fault_source"],
)
def test_chosen(fault_source, unrelated):
    with open(fault_source.path, "rb") as file:
        assert file.read() == fault_source.data

def test_by_name(new_fault_source):
    new_fault_source("shrink and regrow", size=100_000).strike()

@pytest.mark.parametrize("fault_source", ["spam"], indirect=True)
@pytest.mark.xfail(raises=pytest.UsageError)
def test_unknown(fault_source):
    pass
"""

DIES = """
import mmap
import pytest
from safemmap import testing

@pytest.mark.parametrize("fault_source", ["shrink"], indirect=True)
@testing.in_child
def test_reader(fault_source):
    with mmap.mmap(fault_source.fd, fault_source.size) as m:
        fault_source.strike()
        m[:]

def test_after_it():
    pass
"""

NO_USE = """
import sys

def test_not_used():
    assert "pytest_safemmap" in sys.modules and "safemmap" not in sys.modules
"""

USES = """
def test_each(fault_source):
    assert fault_source.size > 0

def test_one(new_fault_source):
    from safemmap import testing
    file = new_fault_source(testing.Shrink, size=100_000, keep=5000)
    assert (file.size, file.gone.start) == (102400, 8192)

def test_missing(new_fault_source, monkeypatch):
    from safemmap import testing
    missing = staticmethod(lambda: "a screw is loose")
    monkeypatch.setattr(testing.Shrink, "missing", missing)
    new_fault_source(testing.Shrink)
"""


@pytest.fixture(autouse=True)
def nothing_is_mounted() -> Iterator[None]:
    before = Path("/proc/self/mountinfo").read_text()
    yield
    assert Path("/proc/self/mountinfo").read_text() == before


def read(m: safemmap.mmap, file: testing.FaultSource) -> bytes:
    assert m[: file.gone.start] == file.data[: file.gone.start]
    return m[file.gone.start :]


def test_what_is_protected_survives(fault_source: testing.FaultSource) -> None:
    file = fault_source
    assert len(file.data) in (0, file.size)
    with safemmap.mmap(
        file.fd, file.size, file.map_flags, safemmap.PROT_READ, protection="guarded"
    ) as m:
        if file.starts_whole:
            assert m[:] == file.data
        file.strike()
        if file.raises_signal:
            with pytest.raises(BusError) as caught:
                read(m, file)
            assert caught.value.offset == file.gone.start
        else:
            assert not any(read(m, file)[-len(file.gone) :])
        if file.restores:
            file.restore()
            assert m[:] == file.data
            file.strike()  # and again
        else:
            with pytest.raises(NotImplementedError, match=file.name):
                file.restore()


@pytest.mark.slow
@pytest.mark.parametrize("name", testing.SOURCES)
def test_what_is_not_protected_dies(name: str) -> None:
    source = testing.SOURCES[name]
    reason = source.missing()
    if source.destructive or reason is not None:
        pytest.skip(reason or f"{source.description}: tests/vm does it")
    done = subprocess.run(
        [sys.executable, "-c", UNPROTECTED, name],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if source.raises_signal:
        expected = (-signal.SIGBUS, "kept\n")
    else:
        expected = (0, "kept\nFalse\n")
    assert (done.returncode, done.stdout, done.stderr) == (*expected, "")


def test_what_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        testing.Shrink, "missing", staticmethod(lambda: "a screw is loose")
    )
    with (
        pytest.raises(testing.Unavailable, match="shrink: a screw is loose"),
        testing.Shrink(),
    ):
        pass


@pytest.mark.parametrize(("size", "keep"), [(0, 0), (PAGE, 1), (PAGE, -1), (-1, 0)])
def test_something_has_to_go(size: int, keep: int) -> None:
    with pytest.raises(ValueError, match=r"must be more|keep must be"):
        testing.Shrink(size=size, keep=keep)


class TestPeer:
    @pytest.fixture
    def file(self, new_fault_source: Callable[..., testing.Shrink]) -> testing.Shrink:
        return new_fault_source(testing.Shrink, size=64 * PAGE)

    def needs_userfaultfd(self) -> None:
        if testing.UserFault.missing() is not None:
            pytest.skip(str(testing.UserFault.missing()))

    def test_at_a_byte_of_a_read(self, file: testing.Shrink) -> None:
        self.needs_userfaultfd()
        at = 40 * PAGE + 7
        with safemmap.mmap(file.fd, file.size) as m, testing.Peer(file) as peer:
            for _ in range(3):
                assert m[:] == file.data
                peer.strike_at(at)
                # What is read before it does not count.
                assert m[: 40 * PAGE] == file.data[: 40 * PAGE]
                assert m[at + PAGE] == file.data[at + PAGE]
                assert os.fstat(file.fd).st_size == file.size
                target = bytearray(file.size)
                with pytest.raises(BusError) as caught:
                    m.readinto(target, 0)
                assert os.fstat(file.fd).st_size == PAGE
                assert caught.value.offset == PAGE
                file.restore()

    def test_kills_who_is_not_protected(self) -> None:
        self.needs_userfaultfd()
        script = (
            "import faulthandler, mmap, resource\n"
            "from safemmap import testing\n"
            "faulthandler.disable()\n"
            "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
            "with testing.Shrink() as file, testing.Peer(file) as peer:\n"
            "    m = mmap.mmap(file.fd, file.size)\n"
            "    peer.strike_at(2 * mmap.PAGESIZE)\n"
            "    print(m[: 2 * mmap.PAGESIZE] == file.data[: 2 * mmap.PAGESIZE],"
            " flush=True)\n"
            "    m[:]\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (-signal.SIGBUS, "True\n")
        assert done.stderr == ""

    def test_at_a_byte_that_nobody_reads(self, file: testing.Shrink) -> None:
        self.needs_userfaultfd()
        with safemmap.mmap(file.fd, file.size) as m:
            with testing.Peer(file) as peer:
                peer.strike_at(9 * PAGE)
            assert m[:] == file.data

    def test_closed_before_the_byte_is_read(
        self, file: testing.Shrink, capfd: pytest.CaptureFixture[str]
    ) -> None:
        self.needs_userfaultfd()
        with testing.Peer(file) as peer, safemmap.mmap(file.fd, file.size):
            peer.strike_at(9 * PAGE)
        assert capfd.readouterr() == ("", "")

    def test_one_thing_at_a_time(self, file: testing.Shrink) -> None:
        with testing.Peer(file) as peer:
            peer.strike_at_random(1)
            with pytest.raises(RuntimeError, match="take another one"):
                peer.strike_at_random(2)

    def test_at_random(self, file: testing.Shrink) -> None:
        outcomes: set[str] = set()
        with safemmap.mmap(file.fd, file.size) as m:
            with testing.Peer(file) as peer:
                assert peer.strike_at_random(seed=5) == 5
                while len(outcomes) < 2:
                    try:
                        assert m[:PAGE] + m[-PAGE:]
                        outcomes.add("read")
                    except BusError:
                        outcomes.add("gone")
            assert m[:] == file.data  # as it leaves it

    def test_with_others(
        self, new_fault_source: Callable[..., testing.FaultSource]
    ) -> None:
        for kind in testing.FullTmpfs, testing.DiskTruncation:
            file = new_fault_source(kind)
            with safemmap.mmap(file.fd, file.size) as m, testing.Peer(file) as peer:
                peer.strike_at_random()
                with pytest.raises(BusError):
                    while True:
                        m[:]

    def test_what_no_peer_can_do(
        self, new_fault_source: Callable[..., testing.FaultSource]
    ) -> None:
        with pytest.raises(ValueError, match="no peer can do that"):
            testing.Peer(new_fault_source(testing.HugePages))

    def test_bad_arguments(self, file: testing.Shrink) -> None:
        self.needs_userfaultfd()
        with testing.Peer(file) as peer:
            for offset in (-1, file.size):
                with pytest.raises(ValueError, match="is not in"):
                    peer.strike_at(offset)
            with pytest.raises(ValueError, match="has not mapped"):
                peer.strike_at(0)

    def test_mappings_that_userfaultfd_does_not_take(
        self, new_fault_source: Callable[..., testing.FaultSource]
    ) -> None:
        self.needs_userfaultfd()
        cut, on_disk = map(new_fault_source, (testing.Shrink, testing.DiskTruncation))
        for file, mapping, said in (
            (cut, safemmap.open(cut.path), "map the source's fd"),
            (on_disk, safemmap.mmap(on_disk.fd, 0), r"strike_at_random\(\) takes any"),
        ):
            with (
                mapping,
                testing.Peer(file) as peer,
                pytest.raises(ValueError, match=said),
            ):
                peer.strike_at(0)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.02, 0.06, 0.12, 0.25])
@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGKILL])
def test_killed_while_it_mounts(
    way: signal.Signals, delay: float, tmp_path: Path
) -> None:
    """No server stays, nor a folder."""
    reason = testing.FuseError.missing()
    if reason is not None:
        pytest.skip(reason)
    script = "from safemmap import testing\nwith testing.FuseError(): input()\n"
    program = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    with program:
        time.sleep(0.15 + delay)
        program.send_signal(way)
    deadline = time.monotonic() + 20
    while members(program.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not members(program.pid)
    assert list(tmp_path.iterdir()) == []


def test_restoring_a_mapping_of_the_standard_library(
    new_fault_source: Callable[..., testing.Shrink],
) -> None:
    file = new_fault_source(testing.Shrink)
    with standard.mmap(file.fd, file.size) as m:
        file.strike()
        file.restore()
        assert m[:] == file.data


def run_pytest(folder: Path, test: str, *options: str, status: int = 0) -> str:
    (folder / "test_mine.py").write_text(test)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"),
            *options,
        ],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def test_fixtures(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, USES)
    possible = [s for s in testing.SOURCES.values() if not s.destructive]
    usable = [source for source in possible if source.missing() is None]
    assert f"{1 + len(usable)} passed" in said
    assert "shrink: a screw is loose" in said
    for source in possible:
        assert source in usable or f"{source.name}: {source.missing()}" in said


def test_chosen_sources(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, CHOOSES, "-vv")
    for test in (
        "test_chosen[1-shrink] PASSED",
        "test_chosen[2-shrink-in-the-last-page] PASSED",
        "test_by_name PASSED",
        "test_unknown[spam] XFAIL",
    ):
        assert test in said


def test_a_test_that_dies_in_its_child(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, DIES, "-p", "no:faulthandler", status=1)
    assert "1 failed, 1 passed" in said
    assert "SIGBUS (Bus error) ended the child process" in said


class TestInChild:
    def test_what_it_changes_ends_with_it(self) -> None:
        seen: list[int] = []

        @testing.in_child
        def test(*numbers: int) -> None:
            seen.extend(numbers)
            assert seen == [1, 2]

        test(1, 2)
        assert seen == []
        assert test.__name__ == "test"

    def test_its_exceptions_come_back(self) -> None:
        class Local(Exception):
            """Not to be pickled."""

        for error, kind, text in (
            (ValueError("spam"), ValueError, "^spam\nin the child:\n"),
            (Local("eggs"), RuntimeError, "Local: eggs"),
        ):
            with pytest.raises(kind, match=text) as caught:
                testing.in_child(self.throw)(error)
            assert "raise error" in "".join(traceback.format_exception(caught.value))
        with pytest.raises(pytest.skip.Exception, match="not today"):
            testing.in_child(pytest.skip)("not today")

    @staticmethod
    def throw(error: Exception) -> None:
        raise error

    def test_how_it_ends(self) -> None:
        with pytest.raises(testing.Died, match=r"SIGKILL \(Killed\) ended") as caught:
            testing.in_child(lambda: os.kill(os.getpid(), signal.SIGKILL))()
        assert caught.value.signal == signal.SIGKILL
        with pytest.raises(AssertionError, match="exited with status 3 before its end"):
            testing.in_child(os._exit)(3)


def test_there_is_no_file_before_it_is_entered() -> None:
    source = testing.Shrink()
    for use in (lambda: source.fd, lambda: source.path, source.strike):
        with pytest.raises(RuntimeError, match="within: with Shrink\\(\\) as file:"):
            use()
    with source:
        assert source.fd >= 0
    with pytest.raises(RuntimeError, match="there is no file but within"):
        source.fd  # noqa: B018


def test_fixtures_that_nobody_uses_cost_nothing(tmp_path: Path) -> None:
    assert "1 passed" in run_pytest(tmp_path, NO_USE)


def test_fuse_without_its_library(tmp_path: Path) -> None:
    (tmp_path / "mfusepy.py").write_text("raise OSError('Unable to find libfuse')")
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "from safemmap import testing; print(testing.FuseError.missing())",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert (done.stdout, done.stderr) == ("needs libfuse (Debian's fuse3)\n", "")


def test_libfuse_is_found_without_a_compiler(tmp_path: Path) -> None:
    """Which leaves files behind when it is killed."""
    if testing.FuseError.missing() is not None:
        pytest.skip("needs mfusepy and libfuse")
    called = tmp_path / "called"
    for name in ("cc", "gcc", "ld"):
        compiler = tmp_path / name
        compiler.write_text(f"#!/bin/sh\ntouch {called}\n")
        compiler.chmod(0o755)
    script = "from safemmap import testing; testing.FuseError.missing()"
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [sys.executable, "-c", script], check=True, env={**os.environ, "PATH": path}
    )
    assert not called.exists()


def test_a_filesystem_that_cannot_be_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if testing.FullTmpfs.missing() is not None:
        pytest.skip(str(testing.FullTmpfs.missing()))
    (tmp_path / "mount").write_text("#!/bin/sh\necho not today >&2\nexit 1\n")
    (tmp_path / "mount").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(testing.Unavailable, match="tmpfs cannot be mounted: not today"):
        testing.FullTmpfs().__enter__()
