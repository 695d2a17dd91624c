"""The command line: ``python -m safemmap``, also installed as ``safemmap``."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

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
        "and measure what they cost beside each other.",
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
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Nobody reads any more. What is left in the buffer must not raise it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"safemmap: {error}", file=sys.stderr)
        return 1


def _run_demo(arguments: argparse.Namespace) -> int:
    from safemmap import _demo

    return _demo.run()


def _run_doctor(arguments: argparse.Namespace) -> int:
    from safemmap import _doctor

    return _doctor.run()


def _run_compare(arguments: argparse.Namespace) -> int:
    needed = ["rich", *["matplotlib"] * (arguments.plot is not None)]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"safemmap: this needs {' and '.join(missing)}: "
            "pip install 'safemmap[compare]'",
            file=sys.stderr,
        )
        return 1
    from safemmap._compare import command

    return command.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
