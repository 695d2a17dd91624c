"""``safemmap run``: executes Python anew, with _startup/ on PYTHONPATH.

`safemmap.enable` has set up the environment as for any other child. So Python itself
runs the program, and not an imitation of Python's own start.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

import safemmap

__all__ = ["UsageError", "run"]


class UsageError(ValueError):
    """The arguments are none that `run` takes."""


def run(arguments: Sequence[str]) -> NoReturn:
    """Run a program, given the arguments that Python would get.

    :raises OSError: the whole process cannot be protected here, or as execve(2) has it.
    :raises UsageError: the first is an option of the interpreter.
    :raises ValueError: the interpreter is one that does not look at PYTHONPATH.
    :raises RuntimeError: ``SAFEMMAP_HANDLER=0`` forbids the handler.
    """
    if re.match("-[^mc]", arguments[0]):
        takes_value = re.fullmatch(r"-\w*[XW]", arguments[0])
        option = " ".join(arguments[: 2 if takes_value else 1])
        raise UsageError(
            "options of the interpreter go before safemmap: "
            f"python {option} -m safemmap run ..."
        )
    if sys.flags.ignore_environment or sys.flags.no_site:
        raise ValueError(
            "run reaches the program by PYTHONPATH and the site module, which the "
            "options -I, -E and -S turn off"
        )
    safemmap.enable()
    os.execv(sys.executable, [sys.executable, *_interpreter_options(), *arguments])


def _interpreter_options() -> list[str]:
    """What the command line has before ``-m safemmap``, or the script's path."""
    *options, program = sys.orig_argv[1 : 1 + len(sys.orig_argv) - len(sys.argv)]
    if sys.modules["__main__"].__spec__ is None:
        return options
    # -m safemmap, -msafemmap, or either behind other options, as in -Bm safemmap.
    if not program.startswith("-"):
        program = options.pop()
    others = re.sub(r"m(safemmap.*)?$", "", program)
    return [*options, others] if others != "-" else options
