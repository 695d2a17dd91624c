"""The command line: ``python -m safemmap``, also installed as ``safemmap``."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import safemmap

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand, and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="safemmap",
        description="Memory-mapped files that raise an exception where others die "
        "of SIGBUS.",
    )
    parser.add_argument(
        "--version", action="version", version=f"safemmap {safemmap.__version__}"
    )
    commands = parser.add_subparsers(metavar="command", required=True)
    demo = commands.add_parser(
        "demo",
        help="see a reader killed by its peer, and another one survive",
        description="Show what becomes of a reader whose peer shrinks the file in "
        "the middle of a read: with the standard mmap, and with safemmap. The exit "
        "status is 0 only if the one was killed and the other survived.",
    )
    demo.set_defaults(run=_run_demo)
    doctor = commands.add_parser(
        "doctor",
        help="see who handles SIGBUS here, and what this kernel offers",
        description="Tell who handles SIGBUS in this environment, in what order as "
        "far as it can be told, what this kernel offers, and what to do about each "
        "problem. The exit status is 1 if something will not work.",
    )
    doctor.set_defaults(run=_run_doctor)
    compare = commands.add_parser(
        "compare",
        help="see what each approach survives, and what it costs",
        description="Try every fault on every approach, each in a process of its own, "
        "and measure what they cost beside each other. Takes a minute or two.",
    )
    compare.add_argument(
        "--quick", action="store_true", help="in less than a minute, and less exact"
    )
    compare.add_argument(
        "--json", metavar="FILE", type=Path, help="write all that was found"
    )
    compare.add_argument(
        "--markdown", metavar="FILE", type=Path, help="write the two tables"
    )
    compare.add_argument(
        "--plot",
        metavar="FILE",
        type=Path,
        help="draw it; the name ends in .svg, .png or what else matplotlib knows",
    )
    compare.add_argument(
        "--destructive",
        action="store_true",
        help="also poison memory, which this machine loses until it is started again",
    )
    compare.set_defaults(run=_run_compare)
    torture = commands.add_parser(
        "torture",
        help="have threads read what a peer changes all the time",
        description="Threads read a file in every way there is, which another "
        "process truncates, grows, punches and rewrites at random, and check every "
        "byte. Prints the seed, a line for each second, and at the end what came out "
        "how often, as JSON. The exit status is 1 with the first wrong outcome.",
    )
    torture.add_argument(
        "--seconds",
        type=_seconds,
        default=10.0,
        metavar="N",
        help="how long; Ctrl-C ends it sooner (default: 10)",
    )
    torture.add_argument(
        "--threads",
        type=_count,
        default=4,
        metavar="T",
        help="how many read (default: 4)",
    )
    torture.add_argument(
        "--seed", metavar="S", help="to have the same peer and the same readers again"
    )
    torture.add_argument(
        "--file", metavar="PATH", help="made there (and left), instead of in memory"
    )
    torture.add_argument(
        "--unprotected", action="store_true", help="to see the readers die of SIGBUS"
    )
    torture.set_defaults(run=_run_torture)
    program = commands.add_parser(
        "run",
        help="run a program with every mapping of a file protected",
        usage="safemmap run [-m MODULE | -c CODE | SCRIPT] [ARGS...]",
        description="Run a program as python would, with every mapping of a file "
        "protected and safemmap in the place of the standard mmap. Its child processes "
        "are protected too if they are Python and have its environment. Options of the "
        "interpreter go before: python -X dev -m safemmap run ...",
    )
    program.add_argument("program", metavar="SCRIPT")
    if sys.stdout is None:  # it was closed
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    words = list(sys.argv[1:] if argv is None else argv)
    # What follows is the program's, "--" and all.
    if words[:1] == ["run"] and words[1:2] not in ([], ["-h"], ["--help"]):
        arguments = argparse.Namespace(
            run=_run_program, words=words[1:], error=program.error
        )
    else:
        arguments = parser.parse_args(words)
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Nobody reads any more. What is left in the buffer must not raise it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, RuntimeError, ValueError) as error:
        print(f"safemmap: {error}", file=sys.stderr)
        return 1


def _run_demo(arguments: argparse.Namespace) -> int:
    from safemmap._commands.demo import command

    return command.run()


def _run_doctor(arguments: argparse.Namespace) -> int:
    from safemmap._commands import doctor

    return doctor.run()


def _run_compare(arguments: argparse.Namespace) -> int:
    _require("rich", *["matplotlib"] * (arguments.plot is not None))
    from safemmap._commands.compare import command

    return command.run(arguments)


def _run_torture(arguments: argparse.Namespace) -> int:
    _require("numpy")
    from safemmap._commands.torture import command

    return command.run(arguments)


def _run_program(arguments: argparse.Namespace) -> int:
    from safemmap._commands.run import command

    refuse: Callable[[str], NoReturn] = arguments.error
    try:
        command.run(arguments.words)
    except command.UsageError as error:
        refuse(str(error))


def _require(*names: str) -> None:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"safemmap: this needs {' and '.join(missing)}: "
            "pip install 'safemmap[compare]'"
        )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be a number of seconds, not {text!r}"
        ) from None
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")
    return seconds


def _count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}") from None
    if count < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {count}")
    return count


if __name__ == "__main__":
    sys.exit(main())
