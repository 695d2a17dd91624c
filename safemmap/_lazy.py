"""Public names that are loaded at first use.

Importing the package is to cost little more than importing ``mmap``; enumerations, and
what needs regular expressions or threads, take ten times as long.
"""

from __future__ import annotations

import os
import sys

__all__ = ["APART", "NAMES", "load"]

#: The public names, and where they come from.
NAMES = {
    "BusCode": "safemmap._codes",
    "Seal": "safemmap._seals",
    "add_seals": "safemmap._seals",
    "close_fd": "safemmap._closing",
    "disable": "safemmap._process",
    "enable": "safemmap._process",
    "fault_fd": "safemmap._faults",
    "faults": "safemmap._faults",
    "get_include": "safemmap._include",
    "get_seals": "safemmap._seals",
    "handler": "safemmap.handler",
    "is_enabled": "safemmap._process",
    "memfd": "safemmap._seals",
    "memmap": "safemmap._opening",
    "protect": "safemmap._protect",
    "watch_faults": "safemmap._faults",
    "wrap": "safemmap._wrap",
}
#: Others, which a star import leaves out.
APART = {
    "Faults": "safemmap._faults",
    "open": "safemmap._opening",
    "testing": "safemmap.testing",
}

# With what ``warnings`` loads to show its first one.
_not_loaded = {*NAMES.values(), "linecache", "tokenize"}


def load(name: str) -> object:
    """The object of that public name."""
    source = NAMES.get(name) or APART[name]
    __import__(source)
    module = sys.modules[source]
    return module if source == f"{__package__}.{name}" else getattr(module, name)


def _load_all() -> None:
    """Before a fork. A child would wait for ever for a module that another thread of
    the parent was importing."""
    for module in sorted(_not_loaded):
        try:
            __import__(module)
        except Exception:
            continue  # the process has shut itself in, and nobody can import it
        _not_loaded.discard(module)


os.register_at_fork(before=_load_all)
