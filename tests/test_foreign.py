"""A foreign SIGBUS has the same effect as without us."""

from __future__ import annotations

import signal

import pytest
from conftest import run_isolated

ALIVE = ["nothing", "mapping", "recovered", "guard"]


@pytest.mark.parametrize("alive", ALIVE)
@pytest.mark.parametrize("what", ["fault", "kill", "raise", "pthread_kill"])
def test_kills_the_process_with_signal_7(what: str, alive: str) -> None:
    done = run_isolated("foreign.py", what, alive)
    assert done.returncode == -signal.SIGBUS
    assert (done.stdout, done.stderr) == ("", "")


def test_reaches_a_thread_inside_a_guard() -> None:
    """The guard holds it back for a moment: it might be the echo of a fault."""
    done = run_isolated("foreign.py", "kill to thread", "guard")
    assert done.returncode == -signal.SIGBUS
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("alive", ALIVE)
def test_the_script_above_survives_otherwise(alive: str) -> None:
    done = run_isolated("foreign.py", "nothing", alive)
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")


def test_an_earlier_c_handler_gets_its_own_siginfo() -> None:
    done = run_isolated("earlier_handler.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")


@pytest.mark.parametrize("order", ["before", "between"])
def test_faulthandler_on_and_off(order: str) -> None:
    """It installs itself above ours, and takes ours away when it goes."""
    done = run_isolated("faulthandler_on_and_off.py", order)
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")


@pytest.mark.parametrize("what", ["fault", "kill", "raise", "pthread_kill"])
def test_foreign_signal_after_faulthandler_was_on(what: str) -> None:
    """It was above ours, then below, and is gone: nobody must wait for it."""
    done = run_isolated("foreign.py", what, "faulthandler")
    assert done.returncode == -signal.SIGBUS
    assert (done.stdout, done.stderr) == ("", "")
