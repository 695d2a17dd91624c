"""The thread that warns of faults: when it runs, and that programs do not notice it."""

from __future__ import annotations

import sys

import pytest
from conftest import on_glibc, run_isolated

# This Python counts threads that began after the fork, gh-137109.
COUNTS_LATER_THREADS = (3, 13) <= sys.version_info < (3, 13, 10) or (
    sys.version_info[:3] == (3, 14, 0)
)

# Whoever warns waits for a lock until another thread's warning has been shown.
SHOWS_UNDER_A_LOCK = pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="this Python shows warnings under a lock"
)
# Where memory has run out for one, there is enough for the rest of the process.
LARGE_STACKS = pytest.mark.skipif(
    not on_glibc, reason="needs a C library whose threads have large stacks"
)


@pytest.mark.parametrize(
    "case",
    [
        "none_before_a_fault",
        "none_where_a_scope_raises",
        "shuts_itself_in",
        "python_does_not_count_it",
        "ends_when_nothing_needs_it",
        "leaves_a_signal_that_is_waited_for",
        "while_the_main_thread_waits",
        "interrupted_by_signals",
        "the_hook_for_warnings_faults",
        pytest.param("the_hook_for_warnings_forks", marks=SHOWS_UNDER_A_LOCK),
        pytest.param("the_hook_for_warnings_hangs", marks=SHOWS_UNDER_A_LOCK),
        pytest.param("no_thread_to_be_had", marks=LARGE_STACKS),
        pytest.param("no_thread_until_the_view_is_given_back", marks=LARGE_STACKS),
        "child_has_none_until_it_needs_one",
        "one_warning_for_each_fault",
        "taken_on_several_threads",
        "forks_while_another_warns",
    ],
)
def test_in_a_process_of_its_own(case: str) -> None:
    done = run_isolated("watcher.py", case)
    if done.stdout.startswith("no user namespaces"):
        pytest.skip("this process may not make a user namespace")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.parametrize("round", range(4))
def test_a_fork_while_another_thread_imports_what_is_loaded_late(round: int) -> None:
    done = run_isolated("watcher.py", "forks_while_another_imports")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.parametrize("patch", ["gevent", "gevent but threads", "eventlet"])
def test_a_program_whose_threads_are_patched(patch: str) -> None:
    done = run_isolated("watcher.py", "green", patch)
    if "No module named" in done.stdout:
        pytest.skip(done.stdout.strip())
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
