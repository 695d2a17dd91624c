"""Loads what the package does not load by itself: public names at their first use, and
before a fork all that is missing."""

from __future__ import annotations

import sys

from safemmap import _APART, _LAZY  # type: ignore[attr-defined]  # (no public names)

__all__ = ["load", "load_all"]

# With what ``warnings`` loads to show its first one.
_not_loaded = {*_LAZY.values(), "linecache", "tokenize"}


def load(name: str) -> object:
    """The object of that public name."""
    source = _LAZY.get(name) or _APART[name]
    __import__(source)
    module = sys.modules[source]
    return module if source == f"{__package__}.{name}" else getattr(module, name)


def load_all() -> None:
    """Before a fork. A child would wait for ever for a module that another thread of
    the parent was importing."""
    for module in sorted(_not_loaded):
        try:
            __import__(module)
        except Exception:
            continue  # the process has shut itself in, and nobody can import it
        _not_loaded.discard(module)
