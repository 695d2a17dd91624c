"""Honest and hostile clients against one server, and what became of it.

    python -m examples.hostile.soak [--seconds S] [--honest N] [--hostile N] [--seed N]

The server runs in a process of its own and looks at each frame: every honest client's
picture has to be right, to the pixel. First the honest clients are alone, to measure
their frame rate; it has to stay within half of that. Memory and descriptors of the
server are measured all along. Exit status 0 if all was well.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from examples.compositor.server import Server

from .attacks import ATTACKS, outcome
from .honest import Honest, is_right

ALONE = 5.0  # seconds
SETTLING = 10.0  # seconds after which memory must not grow any more
SLACK = 16 << 20  # bytes: the heap is not always as full
#: Attacks by the dozen at once would measure how fast sockets are accepted.
LEFT_OUT = {"a thousand clients"}


class Watch:
    """What the server's process sees."""

    def __init__(self, honest: int) -> None:
        self.honest, self.pictures, self.wrong = honest, 0, 0

    def __call__(self, server: Server) -> None:
        for client, cell in server.screen.cells(server.clients):
            if client.pid == self.honest:
                self.pictures += 1
                self.wrong += not is_right(cell)


def serve(path: str, honest: int, pipe: Pipe) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # who was refused, and why
    watch = Watch(honest)

    def answer() -> None:
        if not pipe.poll() or pipe.recv() == "end":
            raise SystemExit
        memory = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
        fds = len(os.listdir("/proc/self/fd"))
        pipe.send((memory, fds, watch.pictures, watch.wrong, threading.active_count()))

    async def main() -> None:
        asyncio.get_running_loop().add_reader(pipe.fileno(), answer)
        await Server(path, 1280, 720, watch).run()

    asyncio.run(main())


def attack_at_random(path: str, seed: int, seconds: float) -> None:
    chance = random.Random(seed)
    names = sorted(ATTACKS.keys() - LEFT_OUT)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        outcome(path, chance.choice(names))
        time.sleep(chance.random() / 10)


def hostile_process(path: str, seeds: list[int], seconds: float) -> None:
    threads = [
        threading.Thread(target=attack_at_random, args=[path, seed, seconds])
        for seed in seeds
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.hostile.soak")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--honest", type=int, default=20)
    parser.add_argument("--hostile", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/socket"
        ours, theirs = spawn.Pipe()
        server = spawn.Process(target=serve, args=(path, os.getpid(), theirs))
        server.start()
        while not os.path.exists(path) and server.is_alive():
            time.sleep(0.01)
        clients = [Honest(path, at + 1, at % 2 == 0) for at in range(options.honest)]
        for client in clients:
            client.start()

        def ask() -> tuple[int, ...]:
            ours.send("state")
            if not ours.poll(60):
                raise TimeoutError("the server hangs")
            return tuple(ours.recv())

        def rate(seconds: float) -> float:
            before = sum(client.frames for client in clients)
            time.sleep(seconds)
            return (sum(client.frames for client in clients) - before) / seconds

        rate(1)
        alone = rate(ALONE)
        seeds = [options.seed * 1000 + at for at in range(options.hostile)]
        attackers = spawn.Process(
            target=hostile_process, args=(path, seeds, options.seconds)
        )
        attackers.start()
        states, rates = [], []
        end = time.monotonic() + options.seconds
        start = min(SETTLING, options.seconds / 4)
        time.sleep(start)
        while time.monotonic() < end and server.is_alive():
            rates.append(rate(min(ALONE, options.seconds / 4)))
            states.append(ask())
        attackers.join()
        for client in clients:
            client.stop()
        last = ask()
        ours.send("end")
        server.join(60)
    half = len(states) // 2
    memory = [
        max(state[0] for state in part) for part in (states[:half], states[half:])
    ]
    report = {
        "server ended with": server.exitcode,
        "pictures": last[2],
        "wrong": last[3],
        "frames per second of an honest client, alone": alone / len(clients),
        "under attack": sum(rates) / len(rates) / len(clients),
        "in the worst seconds": min(rates) / len(clients),
        "MiB in the first and second half": [size >> 20 for size in memory],
        "descriptors at most, and at the end": [max(s[1] for s in states), last[1]],
        "threads at the end": last[4],
        "problems": [client.problem for client in clients if client.problem],
    }
    print(json.dumps(report, indent=2))
    good = (
        report["server ended with"] == 0
        and report["pictures"]
        and not report["wrong"]
        and not report["problems"]
        and min(rates) >= alone / 2
        and memory[1] <= memory[0] + SLACK
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
