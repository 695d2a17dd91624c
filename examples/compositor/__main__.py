"""python -m examples.compositor --socket NAME [--size WxH] [--frames N] [--png DIR]"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
from pathlib import Path

from .server import Server, writes_png


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m examples.compositor",
        description="A small Wayland server that its clients cannot kill.",
    )
    parser.add_argument(
        "--socket", required=True, help="a path, or a name in XDG_RUNTIME_DIR"
    )
    parser.add_argument("--size", default="1280x720", help="of the screen, in pixels")
    parser.add_argument("--frames", type=int, help="end after so many")
    parser.add_argument("--png", type=Path, help="the folder to write them to")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    path = os.path.join(os.environ.get("XDG_RUNTIME_DIR", ""), options.socket)
    # Every pool takes a descriptor.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = Server(path, width, height)
    if options.png:
        options.png.mkdir(parents=True, exist_ok=True)
        server.each = writes_png(options.png)
    try:
        asyncio.run(server.run(options.frames))
    except KeyboardInterrupt:
        pass
    except OSError as error:
        sys.exit(f"{path}: {error}")


if __name__ == "__main__":
    main()
