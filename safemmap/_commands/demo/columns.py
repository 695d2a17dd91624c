"""Two accounts beside each other in a terminal, or one after the other."""

from __future__ import annotations

import itertools
import os
import shutil
import textwrap
from typing import NamedTuple, TextIO

__all__ = ["Entry", "print_columns", "print_wrapped"]

_WIDEST = 100
_NARROWEST = 16
_SIDE_BY_SIDE = 64  # below that, columns would be too narrow to read
_GAP = "  "
_COLOURS = {"good": "\033[32m", "bad": "\033[31m", "title": "\033[1m"}
_PLAIN = "\033[0m"


class Entry(NamedTuple):
    """One line of an account, wrapped where it has to be."""

    text: str
    style: str = ""  #: ``"good"``, ``"bad"``, ``"title"`` or none


def print_wrapped(text: str, out: TextIO, style: str = "") -> None:
    for line in textwrap.wrap(text, _width()):
        print(_styled(line, style, out), file=out)


def print_columns(left: list[Entry], right: list[Entry], out: TextIO) -> None:
    """Print two accounts, entry beside entry; each starts with its title."""
    width = _width()
    if width < _SIDE_BY_SIDE:
        for entry in itertools.chain(left, [Entry("")], right):
            for line in _wrapped(entry.text, width):
                print(_styled(line, entry.style, out), file=out)
        return
    width = (width - len(_GAP)) // 2
    for one, other in itertools.zip_longest(left, right, fillvalue=Entry("")):
        lines = itertools.zip_longest(
            _wrapped(one.text, width), _wrapped(other.text, width), fillvalue=""
        )
        for first, second in lines:
            line = (
                _styled(first.ljust(width), one.style, out)
                + _GAP
                + _styled(second, other.style, out)
            )
            print(line.rstrip(), file=out)


def _width() -> int:
    return max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size().columns))


def _wrapped(text: str, width: int) -> list[str]:
    """`text` in lines; a hanging indent shows where an entry goes on."""
    return textwrap.wrap(text, width, subsequent_indent="  ") or [""]


def _styled(text: str, style: str, out: TextIO) -> str:
    if not style or not text.strip() or not _coloured(out):
        return text
    return _COLOURS[style] + text + _PLAIN


def _coloured(out: TextIO) -> bool:
    """Whether to use colour: on a terminal, unless https://no-color.org says no."""
    return (
        out.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "dumb") != "dumb"
    )
