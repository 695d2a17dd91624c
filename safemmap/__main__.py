"""The command line: ``python -m safemmap``, also installed as ``safemmap``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

import safemmap
from safemmap import _demo

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
    demo.set_defaults(run=_demo.run)
    doctor = commands.add_parser(
        "doctor",
        help="see who handles SIGBUS here, and what this kernel offers",
        description="Tell who handles SIGBUS in this environment, in what order as "
        "far as it can be told, what this kernel offers, and what to do about each "
        "problem. The exit status is 1 if something will not work.",
    )
    doctor.set_defaults(run=_run_doctor)
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.run())
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Nobody reads any more. What is left in the buffer must not raise it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"safemmap: {error}", file=sys.stderr)
        return 1


def _run_doctor() -> int:
    from safemmap import _doctor

    return _doctor.run()


if __name__ == "__main__":
    sys.exit(main())
