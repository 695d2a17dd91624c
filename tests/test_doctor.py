"""`python -m safemmap doctor`."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest


def doctor(*python: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, *python],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


MODULE = ("-m", "safemmap", "doctor")


def test_all_is_well() -> None:
    status, out = doctor(*MODULE, PYTHONFAULTHANDLER="")
    assert status == 0, out
    assert "before safemmap: SIG_DFL" in out
    assert "with a mapping: safemmap, then SIG_DFL" in out
    assert "a guarded read of a page that is gone raises BusError" in out
    assert "a kernel read of a page that is gone raises BusError" in out
    assert "SHRINK" in out
    assert "PROBLEM" not in out


def test_it_keeps_to_the_columns_that_there_are() -> None:
    _, out = doctor(*MODULE, PYTHONFAULTHANDLER="", COLUMNS="50")
    assert max(map(len, out.splitlines()[1:])) <= 50
    _, unbroken = doctor(*MODULE, PYTHONFAULTHANDLER="")
    # (Counts, as of mappings, change from one process to the next.)
    assert re.sub(r"\d+", "", out).split() == re.sub(r"\d+", "", unbroken).split()


def test_faulthandler_is_named() -> None:
    status, out = doctor("-X", "faulthandler", *MODULE)
    assert status == 0, out
    assert "with a mapping: safemmap, then faulthandler\n" in out


def test_without_a_handler() -> None:
    status, out = doctor(*MODULE, SAFEMMAP_HANDLER="0", PYTHONFAULTHANDLER="")
    assert status == 0, out
    assert "SAFEMMAP_HANDLER=0: no handler is installed" in out
    assert "guarded read" not in out


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("", "the GIL is off until enable(), run, memmap()"),
        ("0", "the GIL is off, and PYTHON_GIL=0 or -X gil=0 keeps it so"),
        ("1", "the GIL is on"),
    ],
    ids=["off", "off for good", "on"],
)
def test_the_gil_is_as_it_was_before_enable_was_tried(option: str, told: str) -> None:
    """(An interpreter with the GIL is made to say so of itself.)"""
    script = (
        "import sys\n"
        f"on = {option == '1'}\n"
        f"sys._xoptions['gil'] = {option!r}\n"
        "sys.version_info = (3, 15)\n"
        "import safemmap\n"
        "sys._is_gil_enabled = lambda: on\n"
        "from safemmap._commands import doctor\n"
        "on = True\n"
        "doctor._CHAPTERS = doctor._CHAPTERS[-1:]\n"
        "raise SystemExit(doctor.run())\n"
    )
    status, out = doctor("-c", script, PYTHON_GIL="")
    assert status == 0, out
    assert told in out


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGBUS])", "blocks SIGBUS"),
        (
            "[(signal.signal(signal.SIGBUS, print), safemmap._core.install_handler())"
            " for _ in range(80)]",
            "keeps safemmap from being on top",
        ),
    ],
)
def test_a_problem(before: str, told: str) -> None:
    """(What it does not survive itself, it must not try.)"""
    script = (
        "import signal, safemmap, safemmap._core\n"
        f"{before}\n"
        "from safemmap._commands import doctor\n"
        "doctor._CHAPTERS = doctor._CHAPTERS[:1]\n"
        "raise SystemExit(doctor.run())\n"
    )
    status, out = doctor("-c", script)
    assert status == 1, out
    assert "PROBLEM" in out
    assert told in out
