"""The whole process under protection."""

from __future__ import annotations

__all__ = ["check_possible", "enable_by_environment"]


def check_possible() -> None:
    """Raise what `enable` would raise."""


def enable_by_environment() -> None:
    """What ``SAFEMMAP_ENABLE=1`` asks for."""
    from safemmap import _stand_in

    _stand_in.put_in_place()
