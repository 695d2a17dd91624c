"""Other SIGBUS handlers, installed in every order: our faults are recovered, and any
other signal has the same effect as without us.

Each cell of the table is a process of its own. What cannot be had says why.
"""

from __future__ import annotations

import ctypes.util
import signal
from pathlib import Path
from typing import NamedTuple

import neighbours
import pytest
from conftest import run_isolated


class Handler(NamedTuple):
    # How a SIGBUS ends that is not ours.
    fault: str
    kill: str
    # What it is given, and so can tell. (faulthandler tells on stderr.)
    given: str
    # How it passes on what is not its own: by calling the one that it displaced, by
    # putting that one back and returning, by putting it back and raising; or never.
    passes_on: str


HANDLERS = {
    "faulthandler": Handler("dies", "dies", "nothing", "raising"),
    "libwayland": Handler("dies", "dies", "nothing", "raising"),
    "signal.signal": Handler("spins", "goes on", "signal", "never"),
    "plain": Handler("dies", "goes on", "signal", "returning"),
    "SA_SIGINFO": Handler("goes on", "goes on", "siginfo", "calling"),
    "chains": Handler("dies", "dies", "siginfo", "calling"),
    "never chains": Handler("exits", "exits", "siginfo", "never"),
    "raises again": Handler("dies", "dies", "siginfo", "raising"),
}

# "look" is 64 small operations, one of which looks who handles SIGBUS: until then one
# that was put above ours ("unseen") has its way.
ORDERS = {
    "without us": "install",
    "before": "install start",
    "after": "start install look",
    "after, unseen": "start install",
    "before, removed": "install start remove look",
    "after, removed": "start install look remove look",
    "after, removed unseen": "start install remove",
    "again without us": " ".join(["install"] * 4),
    "again and again": " ".join(["start", *["install look"] * 4]),
    "on and off": " ".join(["start", *["install look remove look"] * 3]),
}

OURS = ["guard", "view"]
FOREIGN = ["fault", "kill", "kill from outside"]

NO_LIBWAYLAND = ctypes.util.find_library("wayland-server") is None


def is_there(order: str) -> bool:
    """Whether the handler has not been removed."""
    return "remove" not in ORDERS[order]


def expected(handler: str, order: str, what: str) -> tuple[int, str]:
    """How the process ends, and what is told until then."""
    if what in OURS:
        return 0, "recovered\n"
    if what == "fault in its pool":
        return 0, "libwayland: recovered\nrecovered\n" * 2
    is_fault = what == "fault"
    end, given = "dies", "nothing"
    if is_there(order):
        end = HANDLERS[handler].fault if is_fault else HANDLERS[handler].kill
        given = HANDLERS[handler].given
    told = {
        "nothing": "",
        "signal": f"{handler}: signal 7\n",
        "siginfo": f"{handler}: code 2, true address\n"
        if is_fault
        else f"{handler}: code 0, true sender\n",
    }[given]
    if end == "goes on":
        told += "alive\n"
        if "start" in ORDERS[order]:
            told += "recovered\n"
    return {"dies": -signal.SIGBUS, "goes on": 0, "exits": 3}[end], told


def why_not(handler: str, order: str, what: str) -> pytest.MarkDecorator | None:
    """A cell that cannot be had: one that would prove nothing, or that fails."""
    passes_on = HANDLERS[handler].passes_on
    if handler == "libwayland":
        if NO_LIBWAYLAND:
            return pytest.mark.skip("libwayland-server is not on this machine")
        if "again" in order:
            return pytest.mark.skip("libwayland installs its handler once")
        if not is_there(order) and order != "after, removed unseen":
            return pytest.mark.skip(
                "libwayland's handler goes only when it meets a SIGBUS that is not "
                "its own, and below ours that one ends the process"
            )
    if passes_on == "never" and order == "after, unseen" and what in OURS:
        return pytest.mark.skip(f"{handler} keeps our faults until we have looked")
    if handler == "signal.signal":
        if what == "fault" and is_there(order):
            return pytest.mark.skip(
                "Python's own handler returns to the instruction, which faults for "
                "ever, with us and without us"
            )
        if order == "after, removed unseen" and what in OURS:
            return pytest.mark.xfail(
                reason="signal.signal cannot put a C handler back: it is SIG_DFL "
                "until we have looked"
            )
    return None


def cells() -> list[object]:
    found: list[object] = []
    for handler in HANDLERS:
        for order in ORDERS:
            signals = FOREIGN if "without us" in order else OURS + FOREIGN
            if handler == "libwayland" and "without us" not in order:
                signals = [*signals, "fault in its pool"]
            for what in signals:
                mark = why_not(handler, order, what)
                cell = (handler, order, what)
                name = f"{handler} {order}: {what}"
                found.append(pytest.param(*cell, marks=mark or [], id=name))
    return found


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return neighbours.compiled(tmp_path_factory.mktemp("neighbours"))


@pytest.mark.slow
@pytest.mark.parametrize(("handler", "order", "what"), cells())
def test_cell(handler: str, order: str, what: str, library: Path) -> None:
    done = run_isolated(
        "handler_cell.py", handler, ORDERS[order], what, str(library), timeout=20
    )
    status, told = expected(handler, order, what)
    if what in OURS and order == "after, unseen":
        # It is asked first, and may tell of it.
        assert (done.returncode, done.stdout[-len(told) :]) == (status, told)
        return
    # (One that is asked for ever tells a lot.)
    assert (done.returncode, done.stdout[:1000]) == (status, told)
    if handler == "faulthandler" and is_there(order) and what in FOREIGN:
        assert done.stderr.startswith("Fatal Python error: Bus error\n")
    else:
        assert done.stderr == ""


@pytest.mark.parametrize("look", ["look", "bulk", "scope", "export", "create"])
def test_whatever_looks_puts_us_back_on_top(look: str, library: Path) -> None:
    steps = f"start install {look}"
    for what in OURS:
        done = run_isolated(
            "handler_cell.py", "never chains", steps, what, str(library)
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "recovered\n", "")
