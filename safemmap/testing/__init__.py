"""Faults on purpose: files whose pages go away, to test programs that map files.

Each source is a context manager that gives a file, takes its pages away when told to,
and leaves nothing behind::

    from safemmap import testing

    def test_reader_survives_a_truncation():
        with testing.Shrink() as file:
            reader = open_in_my_program(file.fd, file.size)
            file.strike()
            with pytest.raises(OSError):
                reader.read_all()

`SOURCES` has them all by their names. What a machine cannot do says so: `missing` is
None, or what it takes. With pytest, the fixture ``fault_source`` runs a test once with
each of them (or with those that ``@pytest.mark.parametrize("fault_source", ["shrink",
testing.FullTmpfs], indirect=True)`` chooses), and ``new_fault_source`` makes those that
a test asks for. Programs that open by name get `FaultSource.path`.

The test above ends pytest as long as the reader is not mended; decorated with
`in_child`, it fails.

`Peer` is another process that does the same at a byte of a read that you choose, or at
random moments from a seed.

None of these needs the program under test to use safemmap. Unprotected readers die of
SIGBUS: run them in a child.
"""

from safemmap.testing._child import Died, in_child
from safemmap.testing._filesystems import DiskTruncation, FullTmpfs, FuseError
from safemmap.testing._memory import (
    HugePages,
    PoisonedMemory,
    Shrink,
    ShrinkAndRegrow,
    ShrinkInLastPage,
    UserFault,
)
from safemmap.testing._peer import Peer
from safemmap.testing._source import FaultSource, Unavailable

__all__ = [
    "SOURCES",
    "Died",
    "DiskTruncation",
    "FaultSource",
    "FullTmpfs",
    "FuseError",
    "HugePages",
    "Peer",
    "PoisonedMemory",
    "Shrink",
    "ShrinkAndRegrow",
    "ShrinkInLastPage",
    "Unavailable",
    "UserFault",
    "in_child",
]

#: Every source, by its name.
SOURCES: dict[str, type[FaultSource]] = {
    source.name: source
    for source in (
        Shrink,
        ShrinkAndRegrow,
        ShrinkInLastPage,
        DiskTruncation,
        FullTmpfs,
        FuseError,
        HugePages,
        UserFault,
        PoisonedMemory,
    )
}
