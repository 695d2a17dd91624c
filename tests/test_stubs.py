"""What type checkers say of the package; mypy checks this file with the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import safemmap

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer


class Sub(safemmap.mmap):
    """Overrides as for the standard class, with the types that typeshed has there."""

    def read(self, n: int | None = None, /) -> bytes:
        return super().read(n)

    def write_byte(self, byte: int, /) -> None:
        super().write_byte(byte)

    def move(self, dest: int, src: int, count: int, /) -> None:
        super().move(dest, src, count)

    def resize(self, newsize: int, /, *, truncate: bool = True) -> None:
        super().resize(newsize, truncate=truncate)

    def find(
        self,
        view: Buffer,
        start: int | None = None,
        end: int | None = None,
        /,
    ) -> int:
        return super().find(view, start, end)


def test_overrides_are_called() -> None:
    with Sub(-1, 100) as m:
        m.write_byte(7)
        m.move(1, 0, 1)
        assert m.find(b"\7\7", 0) == 0
        m.seek(0)
        assert m.read(2) == b"\7\7"
