"""The process behind `Peer`. Reads its order, as JSON, from standard input, and ends
with that."""

from __future__ import annotations

import json
import os
import random
import select
import sys

from safemmap.testing import _userfaultfd
from safemmap.testing._steps import Step, perform

_MESSAGE = 32  # bytes: struct uffd_msg


def main() -> None:
    order = json.loads(sys.stdin.readline())
    steps, back = (
        [
            Step(kind, fd, start, stop, bytes.fromhex(data))
            for kind, fd, start, stop, data in order[which]
        ]
        for which in ("steps", "steps back")
    )
    print("ready", flush=True)
    if order["mode"] == "at":
        (faults,) = order["fds"]
        strike_at(faults, [range(*area) for area in order["argument"]], steps)
    else:
        strike_at_random(order["argument"], steps, back)


def strike_at(faults: int, areas: list[range], steps: list[Step]) -> None:
    """Whoever waits for the page goes on when this is done."""
    ready, _, _ = select.select([faults, sys.stdin], [], [])
    if faults in ready:
        os.read(faults, _MESSAGE)
        perform(steps)
    for area in areas:
        _userfaultfd.unregister(faults, area)


def strike_at_random(seed: int, steps: list[Step], back: list[Step]) -> None:
    moments = random.Random(seed)
    turn, other = steps, back
    while not select.select([sys.stdin], [], [], moments.expovariate(1000))[0]:
        perform(turn)
        turn, other = other, turn
    perform(back)


if __name__ == "__main__":
    main()
