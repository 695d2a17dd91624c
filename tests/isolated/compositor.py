"""examples/compositor, until standard input is closed; says what it has shown.

Arguments: the socket, the process whose pictures have to be right, and the folder for
PNG files or nothing.
"""

import asyncio
import contextlib
import faulthandler
import json
import os
import sys
from pathlib import Path

from examples.compositor.server import Server, writes_png
from examples.hostile.soak import Watch

faulthandler.disable()
path, pid, *folder = sys.argv[1:]
watch = Watch(int(pid))
protections: set[str] = set()


def each(server: Server) -> None:
    watch(server)
    protections.update(memory.protection for memory in server.pools)
    for name in folder:
        writes_png(Path(name))(server)


async def main() -> None:
    server = Server(path, 640, 480, each)
    running = asyncio.create_task(server.run())
    asyncio.get_running_loop().add_reader(0, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert not server.pools and not server.clients


before = len(os.listdir("/proc/self/fd"))
asyncio.run(main())
report = {"pictures": watch.pictures, "wrong": watch.wrong}
opened = len(os.listdir("/proc/self/fd")) - before  # faults take two
maps = Path("/proc/self/maps").read_text()
print(
    json.dumps(
        report
        | {
            "protections": sorted(protections),
            "mapped": maps.count("hostile"),
            "descriptors": opened,
        }
    )
)
