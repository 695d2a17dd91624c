"""resize and reset: the mapping and the file change together, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import PAGE, LossyFile, run_isolated

import safemmap
from safemmap import BusError, Seal


@pytest.mark.parametrize("script", ["resize_race.py", "resize_fails.py"])
def test_in_a_process_of_its_own(script: str) -> None:
    done = run_isolated(script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")


def test_reset_when_there_are_as_many_mappings_as_there_may_be() -> None:
    if int(Path("/proc/sys/vm/max_map_count").read_text()) > 1 << 20:
        pytest.skip("vm.max_map_count is too high to be reached")
    done = run_isolated("no_more_mappings.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")


@pytest.mark.parametrize("how", ["smaller", "the same", "impossible"])
def test_pointers_that_were_kept_stay_protected(how: str) -> None:
    """Where the memory stays in its place."""
    done = run_isolated("views.py", how)
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


class TestFollowing:
    """resize(truncate=False), as a compositor does it for wl_shm_pool.resize."""

    @pytest.mark.parametrize("access", [1, 2, 3])
    @pytest.mark.parametrize("protection", ["guarded", "kernel"])
    def test_a_file_that_its_owner_has_resized(
        self, lossy: LossyFile, access: int, protection: str
    ) -> None:
        m = safemmap.wrap(
            lossy.fd,
            PAGE,
            access=access,
            protection=protection,  # type: ignore[arg-type]
        )
        with m:
            m.resize(8 * PAGE, truncate=False)
            assert m[:] == lossy.data
            m.resize(3 * PAGE, truncate=False)
            assert (len(m), m.size()) == (3 * PAGE, 8 * PAGE)
            lossy.shrink(2 * PAGE)
            with pytest.raises(BusError):
                m[:]

    def test_only_as_far_as_the_file_reaches(self, lossy: LossyFile) -> None:
        """Nor is it grown: a size that is announced is only a claim."""
        with safemmap.wrap(lossy.fd, access=safemmap.ACCESS_WRITE) as m:
            with pytest.raises(safemmap.PeerError, match=f"has only {8 * PAGE}"):
                m.resize(8 * PAGE + 1, truncate=False)
            assert m.size() == len(m) == 8 * PAGE
            lossy.shrink(PAGE)
            with pytest.raises(ValueError, match=f"has only {PAGE}"):
                m.resize(2 * PAGE, truncate=False)
            m.resize(PAGE, truncate=False)
            assert m[:] == lossy.data[:PAGE]
        with safemmap.wrap(lossy.fd, offset=0) as m:
            for size in (-(1 << 70), -1, 0, (1 << 63) - 1, 1 << 70):
                with pytest.raises(safemmap.PeerError):
                    m.resize(size, truncate=False)
                assert m[:PAGE] == lossy.data[:PAGE]

    def test_with_an_offset(self, lossy: LossyFile) -> None:
        with safemmap.wrap(lossy.fd, PAGE, offset=4 * PAGE) as m:
            m.resize(4 * PAGE, truncate=False)
            assert m[:] == lossy.data[4 * PAGE :]
            with pytest.raises(ValueError, match=f"from offset {4 * PAGE}"):
                m.resize(5 * PAGE, truncate=False)

    def test_views_stay_where_they_are(self, lossy: LossyFile) -> None:
        with safemmap.wrap(lossy.fd, PAGE) as m:
            with m.access() as view:
                with pytest.raises(BufferError):
                    m.resize(2 * PAGE, truncate=False)
                assert view == lossy.data[:PAGE]
            m.resize(2 * PAGE, truncate=False)

    def test_what_is_poisoned_stays_so(self, lossy: LossyFile) -> None:
        with safemmap.wrap(lossy.fd) as m:
            lossy.shrink(PAGE)
            with memoryview(m) as view:
                assert view[2 * PAGE] == 0
            with pytest.raises(BusError):
                m.resize(PAGE, truncate=False)

    def test_protection_is_decided_again(self) -> None:
        """The attack on libwayland: sealed while small, then announced as large."""
        fd = safemmap.memfd(PAGE, seals=Seal.SHRINK)
        with safemmap.wrap(fd) as m:
            assert m.protection == "sealed"
            with pytest.raises(ValueError, match="only"):
                m.resize(2 * PAGE, truncate=False)
            os.ftruncate(fd, 2 * PAGE)
            m.resize(2 * PAGE, truncate=False)
            assert m.protection == "sealed"
        os.close(fd)
        fd = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, 2 * PAGE)
        with safemmap.wrap(fd, PAGE) as m:
            assert m.protection == "guarded"
            safemmap.add_seals(fd, Seal.SHRINK)
            m.resize(2 * PAGE, truncate=False)
            assert m.protection == "sealed"
        os.close(fd)

    def test_what_has_no_file(self) -> None:
        m = safemmap.mmap(-1, PAGE)
        with m, pytest.raises(ValueError, match="anonymous"):
            m.resize(PAGE, truncate=False)


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
