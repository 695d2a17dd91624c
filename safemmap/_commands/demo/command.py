"""``safemmap demo``: one reader, with the standard ``mmap`` and with this one.

A peer sends both the same kind of file, and shrinks it in the middle of a read.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
from typing import NamedTuple, TextIO

from safemmap._commands.demo.cast import Cast, Part, interrupts
from safemmap._commands.demo.columns import Entry, print_columns, print_wrapped
from safemmap._commands.demo.roles import LEFT, SIZE

__all__ = ["run"]

_PROLOGUE = (
    f"A peer sends a file of {SIZE:,} bytes (SCM_RIGHTS; no seals), waits until the "
    f"reader is in the middle of reading it, and shrinks it to {LEFT:,} bytes."
)


class _Scene(NamedTuple):
    """What came of one reader and its peers."""

    title: str
    reader: Part
    hostile: Part  #: the peer that shrinks its file
    friendly: Part | None  #: the one after it, if the reader lived to see it


def run(
    *,
    standard: str = "mmap",
    guarded: str = "safemmap",
    out: TextIO | None = None,
) -> int:
    """Play the demo, print it, and return an exit status.

    :param standard: the module that the first reader maps with.
    :param guarded: the module that the second reader maps with.
    :param out: a text file to print to; `sys.stdout` if omitted.
    :returns: 0 if the first reader died of SIGBUS and the second survived in every
        respect, else 1.
    """
    out = sys.stdout if out is None else out
    print_wrapped(_PROLOGUE, out)
    print(file=out, flush=True)
    first = _play(standard, f"import {standard}")
    second = _play(guarded, f"import {guarded} as mmap")
    print_columns(_account(first), _account(second), out)
    print(file=out)
    missing = [what for what, seen in _expected(first, second) if not seen]
    for what in missing:
        print_wrapped(f"NOT OBSERVED: {what}.", out, "bad")
    if not missing:
        print_wrapped(
            "Same code, same peers. One reader was killed; the other reported the "
            "fault, read on, and served the next peer.",
            out,
        )
    out.flush()
    return 1 if missing else 0


def _play(module: str, title: str) -> _Scene:
    friendly = None
    with (
        interrupts(signal.SIG_BLOCK),
        contextlib.ExitStack() as sockets,
        Cast() as cast,
    ):
        ends = [
            sockets.enter_context(end)
            for _ in range(2)
            for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ]
        reader = cast.start("read", module, hand=[ends[0], ends[2]])
        hostile = cast.start("shrink", hand=[ends[1]])
        for event in cast.listen(reader):
            if event == "ready":
                friendly = cast.start("behave", hand=[ends[3]])
        for peer in filter(None, (hostile, friendly)):
            for _ in cast.listen(peer):
                pass
    return _Scene(title, reader, hostile, friendly)


def _account(scene: _Scene) -> list[Entry]:
    """What happened to a reader, in the order in which it did."""
    seen = scene.reader.events
    entries = [Entry(scene.title, "title"), Entry("-" * len(scene.title))]
    if "mapped" in seen:
        entries.append(Entry(f"maps {seen['mapped']['size']:,} bytes, reads m[:]"))
    if "shrunk" in scene.hostile.events:
        entries.append(Entry(_shrinking(scene.hostile.events["shrunk"]["reached"])))
    if "fault" in seen:
        entries.append(Entry("{kind}: {message}".format(**seen["fault"]), "good"))
    if "grown" in scene.hostile.events:
        entries.append(Entry("peer grows the file again, with other data"))
    if "read on" in seen:
        entries.append(
            _verified("same mapping, m[:]", scene.reader, "read on", scene.hostile)
        )
    if "served" in seen:
        entries.append(_verified("next peer", scene.reader, "served", scene.friendly))
    ended_well = scene.reader.status == 0
    entries.append(Entry(scene.reader.ending(), "" if ended_well else "bad"))
    if scene.friendly is None:
        entries.append(Entry("nobody is left to serve the next peer", "bad"))
    return entries


def _shrinking(reached: int) -> str:
    when = f"{reached:,} bytes into it" if reached < SIZE else "when it is at it again"
    return f"{when}, the peer shrinks the file to {LEFT:,} bytes"


def _verified(what: str, reader: Part, event: str, peer: Part | None) -> Entry:
    size = reader.events[event]["size"]
    if _same_data(reader, event, peer):
        return Entry(f"{what}: {size:,} bytes, just what the peer wrote", "good")
    return Entry(f"{what}: {size:,} bytes, NOT what the peer wrote", "bad")


def _same_data(reader: Part, event: str, peer: Part | None) -> bool:
    """Whether the reader reports the digest of what the peer says it wrote."""
    if peer is None or event not in reader.events:
        return False
    written = [seen["digest"] for seen in peer.events.values() if "digest" in seen]
    return written == [reader.events[event]["digest"]]


def _expected(first: _Scene, second: _Scene) -> list[tuple[str, bool]]:
    """Everything the demo claims, and whether it was so."""
    died, lived = first.reader, second.reader
    fault = lived.events.get("fault", {})
    peers = [first.hostile, second.hostile, second.friendly]
    return [
        (
            f"the standard reader was killed by SIGBUS; its end: {died.ending()}",
            died.status == -signal.SIGBUS,
        ),
        (
            "both files were shrunk while they were read",
            all("shrunk" in scene.hostile.events for scene in (first, second)),
        ),
        (
            "the safemmap reader reported a BusError in the part that was cut off",
            fault.get("kind") == "BusError" and LEFT <= fault["offset"] < SIZE,
        ),
        (
            "the safemmap reader read on after the file had grown again",
            _same_data(lived, "read on", second.hostile),
        ),
        (
            "the safemmap reader served the next peer",
            _same_data(lived, "served", second.friendly),
        ),
        (
            f"the safemmap reader ended well; its end: {lived.ending()}",
            lived.status == 0,
        ),
        (
            "the peers ended well",
            all(peer is not None and peer.status == 0 for peer in peers),
        ),
    ]
