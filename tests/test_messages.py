"""Messages for mistakes: what happened, to which bytes, and what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PAGE, needs_gil

import safemmap
from safemmap import PeerError, Seal, SealError

SIZE = 2 * PAGE

# An expression, its exception, and the message, in which "{}" stands for any text.
WRONG: dict[str, tuple[type[Exception], str]] = {
    # ---- wrap ------------------------------------------------------------
    "wrap('name.bin')": (
        TypeError,
        "wrap takes a file descriptor, or an object with fileno(), not a path: open "
        "'name.bin' first, and pass what open() returns",
    ),
    "wrap(Path('name.bin'))": (TypeError, "{}open 'name.bin' first, and pass{}"),
    "wrap(b'name.bin')": (TypeError, "{}open b'name.bin' first, and pass{}"),
    "wrap([])": (
        TypeError,
        "wrap takes a file descriptor, or an object with fileno(), not 'list'",
    ),
    "wrap(1.0)": (TypeError, "{}, not 'float'"),
    "wrap(mapping)": (TypeError, "{}, not 'mmap'"),
    "wrap(-1)": (OSError, "[Errno 9] fd -1 is not open"),
    "wrap(99999)": (OSError, "[Errno 9] fd 99999 is not open"),
    "wrap(fd, '1')": (TypeError, "length must be an integer, not 'str'"),
    "wrap(fd, None)": (TypeError, "length must be an integer, not 'NoneType'"),
    "wrap(fd, offset=0.5)": (TypeError, "offset must be an integer, not 'float'"),
    "wrap(fd, access='r')": (TypeError, "access must be an integer, not 'str'"),
    "wrap(fd, access=9)": (
        ValueError,
        "wrap takes ACCESS_READ, ACCESS_WRITE or ACCESS_COPY for access, not 9",
    ),
    "wrap(fd, max_length='1')": (TypeError, "max_length must be an integer, not 'str'"),
    "wrap(fd, max_length=-1)": (
        ValueError,
        "max_length must not be negative, and is -1",
    ),
    "wrap(fd, views='spam')": (
        ValueError,
        "views must be one of 'auto', 'deferred', 'interrupt', 'deny', 'crash', not "
        "'spam'",
    ),
    "wrap(fd, filesystems='spam')": (
        ValueError,
        "wrap takes 'memory', 'local' or 'any' for filesystems, not 'spam'",
    ),
    "wrap(fd, 8193)": (
        PeerError,
        "[Errno 22] 8193 bytes from offset 0 were announced, but the file has only "
        "8192; its owner must lengthen it first",
    ),
    "wrap(fd, offset=8192)": (
        PeerError,
        "[Errno 22] no bytes from offset 8192 on: the file has 8192 bytes",
    ),
    "wrap(fd, max_length=10)": (
        PeerError,
        "[Errno 27] 8192 bytes are more than max_length admits: 10",
    ),
    "wrap(proc)": (
        PeerError,
        "[Errno 95] fd {} is on a filesystem of type proc; only memory and the disks "
        "of this machine are admitted, because a page fault elsewhere can wait for a "
        "server for ever; filesystems='any' admits it",
    ),
    "wrap(proc, filesystems='memory')": (PeerError, "{}; filesystems='any' admits it"),
    "wrap(fd, protection='sealed')": (
        SealError,
        "[Errno 1] SHRINK cannot be added to the file: it takes no more seals (SEAL is "
        "set, from the start where it lies on a tmpfs or was made without "
        "MFD_ALLOW_SEALING)",
    ),
    # ---- mmap: as the standard class has it, where that says what is wrong
    "mmap()": (
        TypeError,
        "mmap() missing 2 required positional arguments: 'fileno' and 'length'",
    ),
    "mmap(fd)": (
        TypeError,
        "mmap() missing 1 required positional argument: 'length'",
    ),
    "mmap(fd, 0, acess=1)": (
        TypeError,
        "mmap() got an unexpected keyword argument 'acess'{}",
    ),
    "mmap(fd, 0, 1, 3, 0, 0, 0)": (
        TypeError,
        "mmap() takes from 2 to 6 positional arguments but 7 were given",
    ),
    "mmap(fd, 0, fileno=1)": (
        TypeError,
        "mmap() got multiple values for argument 'fileno'",
    ),
    "mmap.__new__(mmap, fd)": (TypeError, "mmap() missing 1 required positional{}"),
    "Subclass(fd)": (TypeError, "mmap() missing 1 required positional argument{}"),
    "Subclass(fd, 0, acess=1)": (TypeError, "mmap() got an unexpected keyword{}"),
    "mmap('name', 0)": (TypeError, "'str' object cannot be interpreted as an integer"),
    "mmap(fd, 0, protection=None)": (
        ValueError,
        "protection must be one of 'auto', 'sealed', 'guarded', 'kernel', not None",
    ),
    "mmap(fd, 0, views=[])": (ValueError, "views must be one of 'auto', {}, not []"),
    "mmap(-1, 1, protection='sealed')": (
        SealError,
        "[Errno 22] anonymous memory has no seals, and needs none",
    ),
    "mapping.resize(10**9, truncate=False)": (
        PeerError,
        "[Errno 22] 1000000000 bytes from offset 0 were announced, but the file has "
        "only 8192; its owner must lengthen it first",
    ),
    "mapping.resize(2**70, truncate=False)": (
        PeerError,
        "[Errno 22] 1180591620717411303424 bytes were announced, more than can be "
        "mapped",
    ),
    "mapping.snapshot(9000)": (
        ValueError,
        "offset 9000 is not within the 8192 bytes of the mapping",
    ),
    "mapping.readinto(bytearray(1), 9000)": (
        ValueError,
        "offset 9000 is not within the 8192 bytes of the mapping",
    ),
    "mapping.readinto(b'abc')": (
        TypeError,
        "readinto() needs a writable bytes-like object, not 'bytes'",
    ),
    "mapping.readinto('abc')": (TypeError, "{}, not 'str'"),
    "mapping.readinto(bytearray(1), '1')": (
        TypeError,
        "offset must be an integer, not 'str'",
    ),
    "mapping.snapshot(0.5)": (TypeError, "offset must be an integer, not 'float'"),
    # ---- Scopes ----------------------------------------------------------
    "mapping.access(9000)": (
        ValueError,
        "offset 9000 is not within the 8192 bytes of the mapping",
    ),
    "mapping.access(8, -1)": (
        ValueError,
        "offset 8 and length -1 are not within the 8192 bytes of the mapping",
    ),
    "mapping.access('1')": (TypeError, "offset must be an integer, not 'str'"),
    "mapping.access(0, '1')": (TypeError, "length must be an integer, not 'str'"),
    "mapping.access()[0]": (
        TypeError,
        "an access scope has no items; use its view: with m.access() as view: view[i]",
    ),
    "list(mapping.access())": (TypeError, "an access scope has no items; {}"),
    "memoryview(mapping.access())": (
        BufferError,
        "this access scope is not entered, and lends its memory only within: with "
        "m.access() as view: ...",
    ),
    # ---- protect ---------------------------------------------------------
    "protect('name.bin')": (
        TypeError,
        "protect takes {}; 'str' is none of these; open and map it first",
    ),
    "protect(open_file)": (TypeError, "{}; open and map it first"),
    "protect([])": (TypeError, "protect takes {}; 'list' is none of these"),
    "protect(mapping, views='deny')": (
        ValueError,
        "views must be 'auto', 'deferred' or 'interrupt' here, not 'deny'",
    ),
    "Protected(mapping)": (
        TypeError,
        "a Protected is made by safemmap.protect(), which finds the memory of an "
        "object",
    ),
    # ---- open and memmap -------------------------------------------------
    "safemmap.open(folder)": (
        IsADirectoryError,
        "[Errno 21] Is a directory: '{}messages{}'",
    ),
    "safemmap.open('/dev/null')": (
        OSError,
        "[Errno 22] Invalid argument: '/dev/null'",
    ),
    "safemmap.open(empty)": (
        ValueError,
        "cannot map '{}empty': it is empty, and a mapping has at least one byte",
    ),
    "safemmap.open(path, length=8193)": (
        ValueError,
        "cannot map '{}/file' to byte 8193: it has 8192 bytes",
    ),
    "safemmap.open(path, offset=8192)": (
        ValueError,
        "cannot map '{}/file' from byte 8192 on: it has 8192 bytes",
    ),
    "safemmap.open(path, offset=2**70)": (ValueError, "cannot map '{}/file' from {}"),
    "safemmap.open(path, offset=5)": (
        ValueError,
        "offset 5 is not a multiple of ALLOCATIONGRANULARITY (4096)",
    ),
    "safemmap.open(path, length=-1)": (
        ValueError,
        "length must not be negative, and is -1",
    ),
    "safemmap.open(path, length='1')": (
        TypeError,
        "length must be an integer, not 'str'",
    ),
    "safemmap.open(fd)": (
        TypeError,
        "open takes a path, not 'int'; wrap() and mmap() map a file that is open",
    ),
    "safemmap.open(open_file)": (TypeError, "{}, not 'FileIO'; wrap() and mmap() {}"),
    "safemmap.open([])": (TypeError, "open takes a path, not 'list'"),
    # ---- Seals -----------------------------------------------------------
    "memfd(1, name='n' * 300)": (
        ValueError,
        "name must have at most 249 bytes, and has 300",
    ),
    "memfd(1, name='a\\0b')": (ValueError, "name must not have a null character"),
    "memfd(1, name=None)": (TypeError, "name must be a string, not 'NoneType'"),
    "memfd('text')": (
        TypeError,
        "memfd takes a bytes-like object or a size in bytes, not 'str'",
    ),
    "memfd(1, seals='SHRINK')": (TypeError, "seals must be a Seal, not 'str'"),
    "add_seals(fd, None)": (TypeError, "seals must be a Seal, not 'NoneType'"),
    "add_seals(99999, Seal.GROW)": (OSError, "[Errno 9] fd 99999 is not open"),
    "add_seals(-1, Seal.GROW)": (OSError, "[Errno 9] fd -1 is not open"),
    "add_seals('name', Seal.GROW)": (TypeError, "{}open 'name' first, and pass{}"),
    "add_seals(fd, Seal.GROW)": (
        SealError,
        "[Errno 1] GROW cannot be added to fd {}: it takes no more seals {}",
    ),
    "add_seals(proc, Seal.GROW)": (
        SealError,
        "[Errno 22] fd {} is of a kind that has no seals: they are for memfds, and "
        "files on a tmpfs or hugetlbfs",
    ),
    "get_seals(99999)": (OSError, "[Errno 9] fd 99999 is not open"),
    "get_seals(path_only)": (
        OSError,
        "[Errno 9] fd {} was opened with O_PATH, for its name alone",
    ),
    "get_seals([])": (
        TypeError,
        "get_seals takes a file descriptor, or an object with fileno(), not 'list'",
    ),
    # ---- The rest --------------------------------------------------------
    "close_fd(99999)": (OSError, "[Errno 9] fd 99999 is not open"),
    "close_fd(-1)": (OSError, "[Errno 9] fd -1 is not open"),
    "close_fd(open_file)": (TypeError, "fd must be an integer, not 'FileIO'"),
    "enable(on_fault='spam')": (
        ValueError,
        "on_fault must be 'raise' or 'warn', not 'spam'",
    ),
    "enable(threads='all')": (ValueError, "threads must be 'callers', not 'all'"),
    # ---- testing ---------------------------------------------------------
    "safemmap.testing.Shrink('x')": (TypeError, "size must be an integer, not 'str'"),
    "safemmap.testing.Shrink(1, '1')": (TypeError, "keep must be an integer, {}"),
    "safemmap.testing.Peer(fd)": (TypeError, "a Peer strikes a source, not 'int'"),
    "safemmap.testing.in_child(1)": (
        TypeError,
        "in_child takes the function of a test, not 'int'",
    ),
}


class Subclass(safemmap.mmap):
    pass


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the expressions are made of."""
    with contextlib.ExitStack() as stack:
        opened = {
            "fd": os.memfd_create("wrong"),
            "proc": os.open("/proc/self/status", os.O_RDONLY),
            "path_only": os.open("/proc/self/exe", os.O_PATH),
        }
        for fd in opened.values():
            stack.callback(os.close, fd)
        os.ftruncate(opened["fd"], SIZE)
        path = tmp_path_factory.mktemp("messages") / "file"
        path.write_bytes(bytes(SIZE))
        empty = path.with_name("empty")
        empty.touch()
        public = {name: getattr(safemmap, name) for name in vars(safemmap)["__all__"]}
        yield (
            public
            | opened
            | {
                "safemmap": safemmap,
                "folder": path.parent,
                "path": path,
                "empty": empty,
                "Path": Path,
                "Subclass": Subclass,
                "mapping": stack.enter_context(safemmap.mmap(opened["fd"], 0)),
                "open_file": stack.enter_context(open(path, "rb", buffering=0)),
            }
        )


@pytest.mark.parametrize("expression", WRONG)
def test_message(expression: str, names: dict[str, Any]) -> None:
    kind, message = WRONG[expression]
    pattern = re.escape(message).replace(re.escape("{}"), ".*")
    with pytest.raises(kind) as caught:
        eval(expression, names)
    assert type(caught.value) is kind
    assert re.fullmatch(pattern, str(caught.value)), str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_wrap_takes_what_has_a_descriptor(names: dict[str, Any]) -> None:
    with safemmap.wrap(names["open_file"], SIZE, filesystems="any") as m:
        assert m[:] == bytes(SIZE)


class Owner:
    """Of a memfd, which goes with it."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("owned", os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, SIZE)

    def fileno(self) -> int:
        return self.fd

    def __del__(self) -> None:
        os.close(self.fd)


def test_a_file_that_nobody_else_holds_stays_open_for_the_call() -> None:
    with safemmap.wrap(Owner(), SIZE) as m:
        assert m[:] == bytes(SIZE)
    assert Seal.SHRINK not in safemmap.get_seals(Owner())
    safemmap.add_seals(Owner(), Seal.GROW)


def test_seals_are_asked_of_what_has_a_descriptor() -> None:
    with open(safemmap.memfd(PAGE), "r+b") as file:
        assert Seal.SHRINK in safemmap.get_seals(file)
        with pytest.raises(SealError):
            safemmap.add_seals(file, Seal.WRITE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": object}, "no file holds Python objects: dtype must not be object"),
        ({"dtype": "V0"}, "dtype must have elements of one byte or more, not |V0"),
        ({"offset": -1}, "offset must not be negative, and is -1"),
        ({"offset": 9000}, "cannot map '.*/file' from byte 8192 on: it has 8192 bytes"),
        ({"shape": (2, -1)}, "shape must not be negative, and is -1"),
        ({"shape": 8193}, "cannot map '.*/file' to byte 8193: it has 8192 bytes"),
        ({"views": "deny"}, "views must be 'deferred' or 'interrupt' here, not 'deny'"),
    ],
)
def test_memmap_refuses(
    names: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    pytest.importorskip("numpy")
    pattern = re.escape(message).replace(re.escape(".*"), ".*")
    with pytest.raises(ValueError, match=f"^{pattern}$"):
        safemmap.memmap(names["path"], **arguments)


def test_protect_asks_for_the_buffer_of_a_file_of_pyarrow(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    (tmp_path / "file").write_bytes(bytes(SIZE))
    with (
        pyarrow.memory_map(str(tmp_path / "file")) as source,
        pytest.raises(TypeError, match=r"; protect what its read_buffer\(\) returns$"),
    ):
        safemmap.protect(source)


def test_wrap_says_what_there_is_no_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr("safemmap._wrap.mmap", refuse)
    fd = safemmap.memfd(PAGE)
    with pytest.raises(PeerError, match="no room for the mapping: no huge") as caught:
        safemmap.wrap(fd)
    os.close(fd)
    assert caught.value.errno == errno.ENOMEM


def test_a_source_of_one_page_has_none_to_keep() -> None:
    with pytest.raises(ValueError) as caught:
        safemmap.testing.Shrink(10)
    assert str(caught.value) == (
        f"keep must be from 0 to 0 here, and is {PAGE}: of {PAGE} bytes at least one "
        f"page of {PAGE} has to go"
    )


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["-X", "dev", "program.py"], "-X dev"),
        (["-bW", "error", "program.py"], "-bW error"),
        (["-Xdev", "program.py"], "-Xdev"),
        (["-B", "program.py"], "-B"),
    ],
)
def test_run_says_where_options_of_the_interpreter_go(
    words: list[str], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from safemmap.__main__ import main

    with pytest.raises(SystemExit) as caught:
        main(["run", *words])
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith(
        "error: options of the interpreter go before safemmap: "
        f"python {shown} -m safemmap run ...\n"
    )


@pytest.mark.parametrize("variable", ["SAFEMMAP_HANDLER", "SAFEMMAP_ENABLE"])
@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("", True),
        ("0", True),
        pytest.param("1", True, marks=needs_gil),
        ("yes", False),
    ],
)
def test_switches_of_the_environment(variable: str, value: str, accepted: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import safemmap"],
        env=os.environ | {variable: value},
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) is accepted
    assert accepted or done.stderr.endswith(
        f"ValueError: {variable} must be 0 or 1, not 'yes'\n"
    )


def test_import_of_what_is_not_compiled(tmp_path: Path) -> None:
    (tmp_path / "safemmap").mkdir()
    for file in Path(safemmap.__path__[0]).glob("*.py"):
        shutil.copy(file, tmp_path / "safemmap")
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import safemmap"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    # (Python 3.15 adds a word on -S.)
    assert done.stderr.splitlines()[-1].startswith(
        f"ModuleNotFoundError: {tmp_path}/safemmap holds the sources of safemmap, and "
        "no module compiled from them for this Python: start Python in another folder, "
        "if safemmap is installed, or compile it here (pip install -e .)"
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--seconds=x", "argument --seconds: must be a number of seconds, not 'x'"),
        ("--seconds=-1", "argument --seconds: must be more than 0, not -1"),
        ("--threads=x", "argument --threads: must be a number, not 'x'"),
        ("--threads=0", "argument --threads: must be 1 or more, not 0"),
    ],
)
def test_options_of_the_commands(
    option: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from safemmap.__main__ import main

    with pytest.raises(SystemExit) as caught:
        main(["torture", option])
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {message}\n")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("mapping.check(1)", "mmap.check() takes no arguments (1 given)"),
        ("mapping.reset(1)", "mmap.reset() takes no arguments (1 given)"),
        ("mapping.close(1)", "mmap.close() takes no arguments (1 given)"),
        ("protected.check(1)", "Protected.check() takes no arguments (1 given)"),
        ("Protected(1, spam=2)", "a Protected is made by safemmap.protect(), {}"),
    ],
)
def test_a_wrong_call_names_the_public_class(
    call: str, message: str, names: dict[str, Any]
) -> None:
    pattern = re.escape(message).replace(re.escape("{}"), ".*")
    protected = safemmap.protect(bytearray(1))
    with pytest.raises(TypeError, match=f"^{pattern}$"):
        eval(call, names | {"protected": protected})
    protected.close()


@pytest.mark.parametrize(
    "name", ["mmap", "BusError", "Protected", "PeerError", "SealError", "FaultWarning"]
)
def test_public_classes_are_of_the_package(name: str) -> None:
    """As tracebacks print them."""
    kind = getattr(safemmap, name)
    assert (kind.__module__, kind.__qualname__) == ("safemmap", name)
    assert pickle.loads(pickle.dumps(kind)) is kind
