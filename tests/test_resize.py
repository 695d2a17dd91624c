"""resize: the mapping and the file change together, or not at all."""

from __future__ import annotations

import os

import pytest
from conftest import PAGE, LossyFile, run_isolated

import safemmap


@pytest.mark.parametrize("script", ["resize_race.py", "resize_fails.py"])
def test_in_a_process_of_its_own(script: str) -> None:
    done = run_isolated(script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")


@pytest.mark.parametrize("pages", [1, 4, 8, 20])
@pytest.mark.parametrize("mapped", [2, 8])
def test_file_follows_the_mapping(lossy: LossyFile, mapped: int, pages: int) -> None:
    """Also where the file was longer than the mapping: it ends where that does."""
    with safemmap.mmap(lossy.fd, mapped * PAGE) as m:
        m.resize(pages * PAGE)
        assert len(m) == m.size() == pages * PAGE
        kept = min(pages * PAGE, len(lossy.data))
        assert m[:kept] == lossy.data[:kept]
        assert m[kept:] == bytes(pages * PAGE - kept)


def test_with_an_offset(lossy: LossyFile) -> None:
    with safemmap.mmap(lossy.fd, PAGE, offset=2 * PAGE) as m:
        m.resize(3 * PAGE)
        assert m.size() == 5 * PAGE
        assert m[:] == lossy.data[2 * PAGE : 5 * PAGE]


def test_of_a_file_that_the_peer_has_cut(lossy: LossyFile) -> None:
    with safemmap.mmap(lossy.fd, 8 * PAGE) as m:
        lossy.shrink(PAGE)
        m.resize(4 * PAGE)
        assert m[:] == lossy.data[:PAGE] + bytes(3 * PAGE)


def test_descriptor_that_may_not_truncate(lossy: LossyFile) -> None:
    """Read-only sharing of a file whose descriptor is not open for writing."""
    fd = os.open(f"/proc/self/fd/{lossy.fd}", os.O_RDONLY)
    with safemmap.mmap(fd, 4 * PAGE, prot=safemmap.PROT_READ) as m:
        with pytest.raises(TypeError):
            m.resize(PAGE)
        assert m[:] == lossy.data[: 4 * PAGE]
    os.close(fd)


def test_hugetlb_mapping_is_unmapped_whole() -> None:
    """With a length that is no multiple of the huge page; needs none of them free."""
    try:
        fd = os.memfd_create("huge-leak-test", os.MFD_HUGETLB)
    except OSError as error:
        pytest.skip(f"no hugetlb memfd here: {error}")
    try:
        os.ftruncate(fd, 2 << 20)
        flags = safemmap.MAP_SHARED | 0x4000  # MAP_NORESERVE, not named before 3.12
        try:
            m = safemmap.mmap(fd, PAGE, flags=flags)
        except OSError as error:
            pytest.skip(f"a hugetlb file cannot be mapped here: {error}")
        m.close()
        with open("/proc/self/maps") as maps:
            assert "huge-leak-test" not in maps.read()
    finally:
        os.close(fd)
