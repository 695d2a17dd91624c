"""``python -m safemmap doctor``: who owns SIGBUS here, what this kernel offers, and
what to do about each problem."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import shutil
import signal
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import safemmap
from safemmap import Seal, handler
from safemmap._core import is_file_behind
from safemmap._filesystems import look_at_root

__all__ = ["run"]

_OK, _NOTE, _PROBLEM = "ok", "note", "PROBLEM"

Finding = tuple[str, str]

_MADV_POPULATE_READ = 22
_USERFAULTFD = {"x86_64": 323, "aarch64": 282}


# Before enable(), which is tried below, turns it on.
_had_gil: bool = getattr(sys, "_is_gil_enabled", lambda: True)()


def run() -> int:
    """Print what was found; the exit status is 1 if something will not work."""
    print(
        f"safemmap {safemmap.__version__} on Python {platform.python_version()}, "
        f"{platform.system()} {platform.release()} ({platform.machine()})"
    )
    worst = 0
    for title, look in _CHAPTERS:
        print(f"\n{title}")
        for grade, text in look():
            print(_filled(f"  {grade:8}{text}"))
            worst = max(worst, grade == _PROBLEM)
    return worst


def _filled(line: str) -> str:
    """In the columns that there are. In one line, where it goes to no terminal."""
    columns = shutil.get_terminal_size((len(line), 0)).columns
    return textwrap.fill(
        line,
        columns,
        subsequent_indent=" " * 10,
        break_long_words=False,
        break_on_hyphens=False,
    )


# ---- SIGBUS --------------------------------------------------------------


def _owner() -> Iterator[Finding]:
    if os.environ.get("SAFEMMAP_HANDLER") == "0":
        yield (
            _NOTE,
            "SAFEMMAP_HANDLER=0: no handler is installed; mappings that are not sealed "
            "go by way of the kernel, without views",
        )
    before = handler.status().below
    yield _OK, f"before safemmap: {', then '.join(before)}"
    if os.environ.get("SAFEMMAP_HANDLER") != "0":
        with contextlib.suppress(RuntimeError):
            handler.install()
        now = handler.status()
        if now.on_top:
            yield _OK, "with a mapping: safemmap, then " + ", then ".join(now.below)
        else:
            yield (
                _PROBLEM,
                f"{now.displaced_by} keeps safemmap from being on top; install it "
                "before, or not at all",
            )
    if signal.SIGBUS in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        yield (
            _PROBLEM,
            "this thread blocks SIGBUS: the kernel kills it for a fault, whatever "
            "handler there is; unblock it with signal.pthread_sigmask",
        )
    else:
        yield _OK, "SIGBUS is not blocked in this thread"


def _recovery() -> Iterator[Finding]:
    """By trying it."""
    page = safemmap.PAGESIZE
    ways: list[tuple[str, Callable[[safemmap.mmap], object]]] = [
        ("guarded", lambda m: m[0]),
        ("kernel", lambda m: m[0]),
    ]
    for way, touch in ways:
        if way == "guarded" and os.environ.get("SAFEMMAP_HANDLER") == "0":
            continue
        fd = os.memfd_create("doctor")
        try:
            os.ftruncate(fd, page)
            with safemmap.mmap(fd, page, protection=way) as m:  # type: ignore[arg-type]
                os.ftruncate(fd, 0)
                touch(m)
        except safemmap.BusError:
            yield _OK, f"a {way} read of a page that is gone raises BusError"
        except OSError as error:
            yield _PROBLEM, f"{way}: {error}"
        else:
            yield _PROBLEM, f"a {way} read of a page that is gone was not noticed"
        finally:
            os.close(fd)


def _process() -> Iterator[Finding]:
    """By trying it."""
    try:
        safemmap.enable()
    except (OSError, RuntimeError) as error:
        yield _NOTE, f"enable() and run do not work here: {error}"
        return
    fd = os.memfd_create("doctor")
    try:
        os.ftruncate(fd, safemmap.PAGESIZE)
        with mmap.mmap(fd, safemmap.PAGESIZE) as m:
            os.ftruncate(fd, 0)
            warnings.simplefilter("ignore", safemmap.FaultWarning)
            bytes(m)
    except safemmap.BusError:
        yield _OK, "under enable(), the standard mmap raises BusError, too"
    else:
        yield _PROBLEM, "under enable(), a page that is gone was not noticed"
    finally:
        os.close(fd)
        safemmap.disable()
    yield _OK, _excluded()


def _excluded() -> str:
    """Of what this process has mapped."""
    text = Path("/proc/self/maps").read_text(errors="replace")
    maps = [line.split(maxsplit=5) for line in text.splitlines()]
    files = {(entry[3], entry[4]) for entry in maps if entry[4] != "0"}
    code = {(entry[3], entry[4]) for entry in maps if "x" in entry[1]} & files
    return (
        f"enable() covers {len(files - code)} of the {len(files)} files that are "
        f"mapped here; it leaves out the other {len(code)}, programs and libraries, "
        "and would leave out devices, and files in /proc, /sys and /dev (but /dev/shm)"
    )


# ---- The kernel ----------------------------------------------------------


def _seals() -> Iterator[Finding]:
    known = []
    for seal in Seal:
        fd = os.memfd_create("doctor", os.MFD_ALLOW_SEALING)
        with contextlib.suppress(safemmap.SealError):
            safemmap.add_seals(fd, seal)
            known.append(str(seal.name))
        os.close(fd)
    missing = [str(seal.name) for seal in Seal if str(seal.name) not in known]
    yield _OK, f"memfd_create, with the seals {', '.join(known)}"
    if missing:
        yield _NOTE, f"this kernel lacks the seals {', '.join(missing)}"


def _memory() -> Iterator[Finding]:
    with safemmap.mmap(-1, safemmap.PAGESIZE) as m:
        try:
            m.madvise(_MADV_POPULATE_READ)
            yield _OK, "MADV_POPULATE_READ (Linux 5.14)"
        except OSError:
            yield _NOTE, "no MADV_POPULATE_READ (Linux 5.14)"
    try:
        limit = int(Path("/proc/sys/vm/max_map_count").read_text())
        used = Path("/proc/self/maps").read_text().count("\n")
    except OSError as error:
        yield _NOTE, f"how many mappings are in use cannot be told: {error}"
    else:
        grade = _NOTE if used > limit // 2 else _OK
        yield grade, f"{used} of {limit} mappings are in use (vm.max_map_count)"
    yield from _file(
        "/proc/sys/vm/nr_hugepages",
        lambda text: f"hugetlbfs, with {int(text)} pages set aside",
        "no hugetlbfs",
    )
    yield from _file(
        "/proc/sys/vm/memory_failure_recovery",
        lambda text: (
            "memory failures are "
            + ("survived" if int(text) else "fatal for the machine")
        ),
        "memory failures are not handled by this kernel (CONFIG_MEMORY_FAILURE)",
    )


def _file(
    path: str, describe: Callable[[str], str], otherwise: str
) -> Iterator[Finding]:
    try:
        text = Path(path).read_text()
    except FileNotFoundError:
        yield _NOTE, otherwise
    except OSError as error:
        yield _NOTE, str(error)
    else:
        yield _OK, describe(text)


def _lookups() -> Iterator[Finding]:
    """What is looked up in /proc."""
    try:
        is_file_behind(0, mmap.PAGESIZE)
    except OSError as error:
        yield _PROBLEM, f"protect() cannot be used: {error.strerror}"
    else:
        yield _OK, "protect() can look up what is mapped (/proc/self/maps)"
    try:
        found, is_mount_point, _ = look_at_root()
    except OSError as error:
        yield (
            _PROBLEM,
            "wrap() cannot tell where a file lies, and refuses all but those that can "
            f"have seals (memfds, most files on a tmpfs): {error}; mount /proc, or use "
            "filesystems='any'",
        )
        return
    if is_mount_point:
        yield _OK, f"wrap() can look up where a file lies (/ is {found})"
    else:
        yield (
            _NOTE,
            f"the root directory is no mount point, as in a chroot (it is on {found}): "
            "files that were opened outside of it, and are on no mount in it, are "
            "refused by wrap() with filesystems='local'",
        )


def _calls() -> Iterator[Finding]:
    number = _USERFAULTFD.get(platform.machine())
    if number is not None:
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.syscall(number, os.O_CLOEXEC)
        if fd >= 0:
            os.close(fd)
            yield _OK, "userfaultfd"
        else:
            name = errno.errorcode.get(ctypes.get_errno(), "?")
            yield _NOTE, f"no userfaultfd for this process ({name})"
    if os.access("/dev/fuse", os.R_OK | os.W_OK):
        yield (
            _NOTE,
            "this user can mount FUSE filesystems, and so may its peers: leave "
            'wrap(filesystems="local") as it is',
        )
    else:
        yield _OK, "/dev/fuse is not open to this user"


def _python() -> Iterator[Finding]:
    if _had_gil:
        yield _OK, "the GIL is on"
    elif sys.version_info >= (3, 16):
        yield _PROBLEM, "the GIL is off, which safemmap was not tried with"
    elif "0" in (os.environ.get("PYTHON_GIL"), sys._xoptions.get("gil")):
        yield (
            _NOTE,
            "the GIL is off, and PYTHON_GIL=0 or -X gil=0 keeps it so: enable(), run, "
            'memmap() and views="interrupt" raise RuntimeError; use scopes, or '
            'enable(on_fault="warn")',
        )
    else:
        yield (
            _NOTE,
            'the GIL is off until enable(), run, memmap() or views="interrupt" turns '
            "it on for the rest of the process",
        )


_CHAPTERS: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
    ("Who gets a SIGBUS", _owner),
    ("Does it work?", _recovery),
    ("The whole process", _process),
    ("Seals", _seals),
    ("Memory", _memory),
    ("What /proc tells", _lookups),
    ("System calls and devices", _calls),
    ("Python", _python),
)
