"""The command: a storm for so many seconds, and a line for each of them."""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from safemmap import handler
from safemmap._commands.torture.storm import Storm, WrongOutcome

__all__ = ["run"]

# Over the columns, as wide as in _Teller.
_HEADINGS = (
    "  seconds    faults/s   recovered    overlaid   forwarded    memory KiB   mappings"
)


def run(arguments: argparse.Namespace) -> int:
    """The exit status."""
    seed = arguments.seed
    if seed is None:
        seed = random.randrange(1 << 32)
    if arguments.unprotected:
        faulthandler.disable()  # or it would print how they die
    else:
        handler.install()  # where that is forbidden, there is nothing to try
    print(f"seed {seed}\n{_HEADINGS}", file=sys.stderr)
    storm = Storm(
        arguments.threads,
        str(seed),
        arguments.file,
        protected=not arguments.unprotected,
    )
    # Ctrl-C: what has come out so far is worth knowing.
    before = signal.signal(signal.SIGINT, lambda *_: storm.stop())
    try:
        storm.run(arguments.seconds, _Teller())
        storm.close()
    except (WrongOutcome, AssertionError) as error:
        print(
            f"{error}\nFAILED: a wrong outcome; --seed {seed} has the same peer and "
            "readers again",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)  # with readers that may not be able to end
    signal.signal(signal.SIGINT, before)
    print(_verdict(), file=sys.stderr)
    print(json.dumps({"seed": str(seed), **dict(sorted(storm.counts.items()))}))
    return 0


def _verdict() -> str:
    status = handler.status()
    return (
        f"recovered: {status.recovered:,} operations raised BusError\n"
        f"overlaid: {status.overlaid:,} times a view got zeros, and a report of it\n"
        f"forwarded: {status.forwarded:,} signals went on to other handlers\n"
        "PASSED: no wrong byte, and no zeros that nothing reported"
    )


class _Teller:
    """Prints what the last second was like."""

    def __init__(self) -> None:
        self._started = self._told = time.monotonic()
        self._faults = 0

    def __call__(self, storm: Storm) -> None:
        now = time.monotonic()
        if now - self._told < 1:
            return
        status = handler.status()
        faults = status.recovered + status.overlaid
        print(
            f"{now - self._started:9.0f}"
            f"{(faults - self._faults) / (now - self._told):12,.0f}"
            f"{status.recovered:12,}{status.overlaid:12,}{status.forwarded:12,}"
            f"{_resident():14,}{_mappings():11,}",
            file=sys.stderr,
        )
        self._told, self._faults = now, faults


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") // 1024


def _mappings() -> int:
    return Path("/proc/self/maps").read_bytes().count(b"\n")
