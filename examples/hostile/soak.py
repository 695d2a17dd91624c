"""Honest and hostile clients against one server, and what became of it.

    python -m examples.hostile.soak [--seconds S] [--honest N] [--hostile N] [--seed N]

The server runs in a process of its own and looks at each frame: every honest client's
picture has to be right, to the pixel. The hostile clients pause at times, so that the
frame rate under attack can be compared with that in peace: it has to stay within half
of it, whatever else the machine does. Memory and descriptors of the server must not
grow. The exit status is 0 if all that holds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import resource
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from multiprocessing.connection import Connection as Pipe
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

from examples.compositor.server import Server

from .attacks import ATTACKS, outcome
from .honest import Honest, is_right

PEACE, ATTACK = 4.0, 12.0  # seconds, in turn
SETTLING = 1.0  # seconds from one to the other
PATIENCE = 60.0  # seconds for an answer of the server
SLACK = 16 << 20  # bytes: the heap is not always as full
#: It makes its own kind of crowd.
LEFT_OUT = {"a thousand clients"}

spawn = multiprocessing.get_context("spawn")


class State(NamedTuple):
    """Of the server's process."""

    memory: int  # bytes, resident
    descriptors: int
    pictures: int  # of honest clients
    wrong: int  # among them


class Watch:
    """Looks at each frame."""

    def __init__(self, honest: int) -> None:
        self.honest, self.pictures, self.wrong = honest, 0, 0

    def __call__(self, server: Server) -> None:
        for client, cell in server.screen.cells(server.clients):
            if client.pid == self.honest:
                self.pictures += 1
                self.wrong += not is_right(cell)

    def state(self) -> State:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        descriptors = len(os.listdir("/proc/self/fd"))
        page = resource.getpagesize()
        return State(pages * page, descriptors, self.pictures, self.wrong)


def serve(path: str, honest: int, pipe: Pipe) -> None:
    """The server's process. It answers with its state, and ends when there is nobody to
    answer to."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)  # who was refused, and why
    watch = Watch(honest)

    async def main() -> None:
        server = asyncio.create_task(Server(path, 1280, 720, watch).run())

        def answer() -> None:
            try:
                pipe.recv()
                pipe.send(watch.state())
            except EOFError:
                server.cancel()

        asyncio.get_running_loop().add_reader(pipe.fileno(), answer)
        try:
            await server
        except asyncio.CancelledError:
            return

    asyncio.run(main())


def attack(path: str, seeds: list[int], at_war: Event, ended: Event) -> None:
    """The process of the hostile clients. It comes last where processors are short, so
    that what is measured is what the server has to do for it."""
    os.nice(19)

    def at_random(seed: int) -> None:
        chance = random.Random(seed)
        names = sorted(ATTACKS.keys() - LEFT_OUT)
        while not ended.is_set():
            if at_war.wait(timeout=1):
                outcome(path, chance.choice(names))
                time.sleep(chance.random() / 10)

    threads = [threading.Thread(target=at_random, args=[seed]) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Soak:
    """A context manager: the server and all clients."""

    def __init__(self, honest: int, seeds: list[int]) -> None:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            path = f"{folder}/socket"
            self._pipe, theirs = spawn.Pipe()
            self.server = spawn.Process(target=serve, args=(path, os.getpid(), theirs))
            self.server.start()
            stack.callback(self.server.kill)
            theirs.close()
            self.state()  # it answers, so that it is there
            self.clients = [Honest(path, at + 1, at % 2 == 0) for at in range(honest)]
            for client in self.clients:
                client.start()
            self._at_war, self._ended = spawn.Event(), spawn.Event()
            self._attackers = spawn.Process(
                target=attack, args=(path, seeds, self._at_war, self._ended)
            )
            self._attackers.start()
            stack.callback(self._attackers.kill)
            self._stack = stack.pop_all()

    def __enter__(self) -> Soak:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def state(self) -> State:
        """:raises TimeoutError: the server hangs."""
        self._pipe.send("state")
        if not self._pipe.poll(PATIENCE):
            raise TimeoutError("the server does not answer")
        state: State = self._pipe.recv()
        return state

    def rate(self, seconds: float, *, at_war: bool) -> float:
        """Frames per second of an honest client."""
        (self._at_war.set if at_war else self._at_war.clear)()
        time.sleep(SETTLING)
        before = sum(client.frames for client in self.clients)
        time.sleep(seconds)
        drawn = sum(client.frames for client in self.clients) - before
        return drawn / seconds / len(self.clients)

    def end(self) -> State:
        self._ended.set()
        self._attackers.join()
        for client in self.clients:
            client.stop()
        state = self.state()
        self._pipe.close()
        self.server.join(PATIENCE)
        return state


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.hostile.soak")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--honest", type=int, default=20)
    parser.add_argument("--hostile", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    seeds = [options.seed * 1000 + at for at in range(options.hostile)]
    states, rates = [], []
    end = time.monotonic() + options.seconds
    with Soak(options.honest, seeds) as soak:
        while time.monotonic() < end and soak.server.is_alive():
            in_peace = soak.rate(PEACE, at_war=False)
            rates.append((soak.rate(ATTACK, at_war=True), in_peace))
            states.append(soak.state())
        last = soak.end()
        problems = [client.problem for client in soak.clients if client.problem]
        status = soak.server.exitcode
    kept = [attacked / in_peace for attacked, in_peace in rates]
    half = len(states) // 2 or 1
    memory = [
        max(s.memory for s in part) for part in (states[:half], states[half - 1 :])
    ]
    report = {
        "exit status of the server": status,
        "pictures": last.pictures,
        "wrong": last.wrong,
        "problems of honest clients": problems,
        "frames per second in peace": statistics.median(rate for _, rate in rates),
        "under attack": statistics.median(rate for rate, _ in rates),
        "share of the rate that is kept: median, worst": [
            round(statistics.median(kept), 2),
            round(min(kept), 2),
        ],
        "MiB in the first and second half": [size >> 20 for size in memory],
        "descriptors at most, at the end": [
            max(state.descriptors for state in states),
            last.descriptors,
        ],
    }
    print(json.dumps(report, indent=2))
    good = status == 0 and last.pictures > 0 and last.wrong == 0 and not problems
    steady = statistics.median(kept) > 0.5 and memory[1] <= memory[0] + SLACK
    return 0 if good and steady else 1


if __name__ == "__main__":
    sys.exit(main())
