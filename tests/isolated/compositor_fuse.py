"""examples/compositor is sent a file whose server answers to nothing, and goes on.

Runs in a mount namespace of its own.
"""

import asyncio
import contextlib
import faulthandler
import sys
import threading

from stalling_fuse import SIZE, File

from examples.compositor.server import Server
from examples.hostile.client import Connection, Refused
from examples.hostile.honest import Honest

faulthandler.disable()
path = f"{sys.argv[1]}/s"
refused = threading.Event()


def hand_over(fd: int) -> None:
    with Connection(path) as connection:
        connection.bind()
        connection.pool(fd, SIZE)
        with contextlib.suppress(Refused):
            connection.sync()
        refused.set()


def closers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "safemmap.close_fd"]


async def main(file: File) -> None:
    server = asyncio.create_task(Server(path, 64, 64).run())
    await asyncio.sleep(0)  # now it listens
    with file.silence(50) as is_silent:
        threading.Thread(target=hand_over, args=[file.fd]).start()
        await asyncio.to_thread(refused.wait)
        honest = Honest(path, 1)
        honest.start()
        while honest.frames < 5 and honest.is_alive():
            await asyncio.sleep(0.01)
        print("frames while the file's server is silent:", is_silent())
        await asyncio.to_thread(honest.stop)
        # Others close what was left unread, and end.
        while len(closers()) > 1:
            await asyncio.sleep(0.01)
        print("waiting for it:", len(closers()))
    server.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await server


file = File(sys.argv[1])
with contextlib.closing(file):
    asyncio.run(main(file))
