"""What the enumerations of the package have in common."""

from __future__ import annotations

import enum

__all__ = ["Listed"]


class Listed(enum.EnumType):
    """The type of an enumeration of integers whose `dir` has its members. That of
    `enum.IntEnum` has the methods of int as well, some 300 lines of help()."""

    def __dir__(cls) -> list[str]:
        return ["__class__", "__doc__", "__members__", "__module__", *cls.__members__]
