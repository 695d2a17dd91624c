"""python -m examples.hostile SOCKET [ATTACK...]: make each attack, or these, once."""

from __future__ import annotations

import sys

from .attacks import ATTACKS, outcome


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    path, *names = sys.argv[1:]
    for name in names or ATTACKS:
        print(name, outcome(path, name), sep="\t", flush=True)


if __name__ == "__main__":
    main()
