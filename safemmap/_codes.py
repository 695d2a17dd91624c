"""Why a page could not be had."""

from __future__ import annotations

import enum

from safemmap._enumeration import Listed

__all__ = ["BusCode"]


class BusCode(enum.IntEnum, metaclass=Listed):
    """Why a page could not be had: the ``si_code`` of the fault, see sigaction(2).

    ``ADRALN``: the access was not aligned; ``ADRERR``: there is no page behind the
    address, because the file is too short, the disk full, or there was an I/O error;
    ``OBJERR``: a hardware error that belongs to the object; ``MCEERR_AR`` and
    ``MCEERR_AO``: memory that the hardware reports as damaged was accessed, or found.
    """

    ADRALN = 1
    ADRERR = 2
    OBJERR = 3
    MCEERR_AR = 4
    MCEERR_AO = 5
