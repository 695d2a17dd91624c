"""BusError: attributes, messages, pickling."""

from __future__ import annotations

import copy
import errno
import mmap as standard
import os
import pickle
import weakref
from pathlib import Path

import pytest
from conftest import PAGE, LossyFile, address_of

import safemmap
from safemmap import BusCode, BusError, Fault


@pytest.fixture
def error(lossy: LossyFile) -> BusError:
    with safemmap.mmap(lossy.fd, 8 * PAGE) as m:
        lossy.shrink(5000)
        with pytest.raises(BusError) as caught:
            m[100:9000]
        assert caught.value.address == address_of(m) + 2 * PAGE
    return caught.value


def test_message_where_the_mapping_is_gone(lossy: LossyFile) -> None:
    """So are the errors of regions of extension modules, which have none."""
    with safemmap.mmap(lossy.fd, 8 * PAGE) as m:
        view = memoryview(m)
        lossy.shrink(5000)
        assert view[4 * PAGE] == 0
        view.release()
        with pytest.raises(BusError) as caught:
            m[0]
    assert str(caught.value).endswith("(this error's mapping attribute)")
    alone = pickle.loads(pickle.dumps(caught.value))
    assert alone.mapping is None
    assert str(alone).endswith(
        "Once the file is whole again, have its owner map it again"
    )


def test_is_an_os_error_with_efault(error: BusError) -> None:
    assert isinstance(error, OSError)
    assert error.errno == errno.EFAULT
    assert error.strerror == "Bad address"


def test_attributes(error: BusError) -> None:
    assert error.offset == 2 * PAGE
    assert error.code is BusCode.ADRERR
    assert error.operation == "m[i:j]"
    assert (error.start, error.stop) == (100, 9000)
    assert error.file_size == 5000
    assert error.needed == 2 * PAGE + 1
    assert error.in_buffer is False


def test_message_for_a_truncated_file(error: BusError) -> None:
    assert str(error) == (
        f"[Errno {errno.EFAULT}] m[i:j] of bytes 100 to 9000 of the mapping of "
        "'/memfd:lossy (deleted)' failed: "
        f"the page at offset 8192 (address {error.address:#x}) is gone: the file has "
        "5000 bytes left and needs at least 8193; it can be read again once it has "
        "grown"
    )


def test_message_where_the_file_is_long_enough(lossy: LossyFile) -> None:
    with safemmap.mmap(lossy.fd, 8 * PAGE) as m:
        lossy.lose(m, {3})
        with pytest.raises(BusError, match="the filesystem cannot provide the page at"):
            m[3 * PAGE]


def test_message_where_the_file_is_unknown(lossy: LossyFile) -> None:
    with safemmap.mmap(lossy.fd, 8 * PAGE, trackfd=False) as m:
        lossy.shrink(0)
        with pytest.raises(BusError, match="the file was truncated, or its") as caught:
            m[0]
        assert caught.value.file_size == -1


def test_pickle_keeps_everything(error: BusError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is BusError
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_pickle_and_copy_keep_the_names_of_files() -> None:
    for error in (BusError(14, "x", "file"), BusError(14, "x", "one", None, "two")):
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert (again.filename, again.filename2) == (
                error.filename,
                error.filename2,
            )
            assert str(again) == str(error)


def test_subclasses_are_made_as_those_of_os_error() -> None:
    class Init(BusError):
        def __init__(self, message: str, extra: int = 0) -> None:
            super().__init__(errno.EFAULT, message)
            self.extra = extra

    class New(BusError):
        def __new__(cls, message: str) -> New:
            return super().__new__(cls, errno.EFAULT, message)

        def __init__(self, message: str) -> None:
            pass

    for error in (Init("spam", extra=1), New("spam")):
        assert (error.errno, error.strerror) == (errno.EFAULT, "spam")
        assert str(error) == f"[Errno {errno.EFAULT}] spam"
        assert (error.operation, error.offset, error.code) == (None, 0, 0)
        assert weakref.ref(error)() is error


def test_one_made_by_hand_has_a_message_too() -> None:
    assert str(BusError(errno.EFAULT, "by hand")) == f"[Errno {errno.EFAULT}] by hand"


def test_a_fault_is_a_value() -> None:
    fault = Fault(1, 2, 3, 4, 5.0, mapping="m")  # type: ignore[arg-type]
    assert fault == Fault(1, 2, 3, 4, 5.0)
    assert hash(fault) == hash(Fault(1, 2, 3, 4, 5.0))
    assert fault != Fault(1, 2, 3, 4, 6.0)
    assert fault != (1, 2, 3, 4, 5.0)
    text = (
        "Fault(offset=1, address=2, code=3, thread=4, time=5.0, mapping='m', "
        "path=None, name=None)"
    )
    assert repr(fault) == text
    assert pickle.loads(pickle.dumps(fault)) == fault
    with pytest.raises(AttributeError, match="cannot assign to 'offset'"):
        fault.offset = 9
    with pytest.raises(AttributeError, match="cannot delete 'offset'"):
        del fault.offset
    match fault:
        case Fault(offset, address):
            assert (offset, address) == (1, 2)


def test_a_fault_can_be_pickled_and_copied(lossy: LossyFile) -> None:
    """Without its mapping, which cannot be."""
    safemmap.faults()
    m = safemmap.mmap(lossy.fd, 8 * PAGE)
    lossy.shrink(0)
    with memoryview(m) as view:
        assert view[PAGE] == 0
    (fault,) = safemmap.faults()
    assert fault.mapping is m
    for again in (
        pickle.loads(pickle.dumps(fault)),
        copy.copy(fault),
        copy.deepcopy(fault),
    ):
        assert again == fault
        assert (again.mapping, again.path, again.name) == (None, fault.path, None)
    m.close()


class TestMappingAndPath:
    MEMFD = "/memfd:lossy (deleted)"

    def test_of_a_mapping(self, lossy: LossyFile) -> None:
        m = safemmap.mmap(lossy.fd, 8 * PAGE)
        lossy.shrink(0)
        with pytest.raises(BusError) as caught:
            m[0]
        error = caught.value
        assert error.mapping is m
        assert error.path == self.MEMFD
        assert repr(error) == (
            f"BusError({errno.EFAULT}, 'Bad address', operation='m[i]', offset=0, "
            f"mapping={m!r}, path={self.MEMFD!r})"
        )
        caught = error.__traceback__ = None  # type: ignore[assignment]
        del m
        assert error.mapping is None
        assert error.path == self.MEMFD

    def test_the_name_is_the_file_s_also_after_it_was_moved(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_bytes(bytes(PAGE))
        with (tmp_path / "file").open("r+b") as file:
            m = safemmap.mmap(file.fileno(), 0)
        os.truncate(tmp_path / "file", 0)
        with pytest.raises(BusError) as caught:
            m[0]
        (tmp_path / "file").rename(tmp_path / "other")
        assert caught.value.path == str(tmp_path / "other")
        (tmp_path / "other").unlink()
        assert caught.value.path == str(tmp_path / "other")
        m.close()

    def test_an_error_that_outlives_its_mapping(self, lossy: LossyFile) -> None:
        with pytest.raises(BusError) as caught, safemmap.wrap(lossy.fd) as m:
            lossy.shrink(0)
            m[0]
        assert caught.value.path == self.MEMFD
        assert repr(self.MEMFD) in str(caught.value)

    def test_without_a_descriptor(self, lossy: LossyFile) -> None:
        with safemmap.mmap(lossy.fd, 8 * PAGE, trackfd=False) as m:
            lossy.shrink(0)
            with pytest.raises(BusError) as caught:
                m[0]
            with pytest.raises(BusError) as of_view, m.access() as view:
                bytes(view)
        assert caught.value.path == of_view.value.path == self.MEMFD

    def test_of_a_view(self, lossy: LossyFile) -> None:
        m = safemmap.mmap(lossy.fd, 8 * PAGE)
        lossy.shrink(PAGE)
        with pytest.raises(BusError) as caught, m.access() as view:
            bytes(view)
        assert caught.value.mapping is m
        assert caught.value.path == self.MEMFD
        assert "call reset() on the mapping" in str(caught.value)
        assert not caught.value.under_protect
        (fault,) = (fault for fault in safemmap.faults() if fault.mapping is m)
        assert fault.path == self.MEMFD
        assert m.fault is not None
        assert m.fault.path == self.MEMFD
        m.close()

    def test_of_a_protection(self, lossy: LossyFile) -> None:
        mapping = standard.mmap(lossy.fd, 8 * PAGE)
        lossy.shrink(0)
        protection = safemmap.protect(mapping)
        assert mapping[0] == 0
        with pytest.raises(BusError) as caught:
            protection.check()
        error = caught.value
        assert error.mapping is protection
        assert error.path == self.MEMFD
        assert error.under_protect
        assert str(error).endswith("protect() the object again")
        assert "reset()" not in str(error)
        assert protection.fault is not None
        assert protection.fault.path == self.MEMFD
        protection.close()
        lossy.restore()
        mapping.close()

    def test_names_that_are_not_plain(self, tmp_path: Path) -> None:
        """Of somebody else's mapping, as /proc/self/maps has it."""
        path = tmp_path / os.fsdecode(b"a b\n\xff  c")
        path.write_bytes(bytes(PAGE))
        with path.open("r+b") as file:
            mapping = standard.mmap(file.fileno(), 0)
        os.truncate(path, 0)
        with pytest.raises(BusError) as caught, safemmap.protect(mapping):
            assert mapping[0] == 0
        assert caught.value.path == str(path)
        mapping.close()

    def test_pickled(self, lossy: LossyFile) -> None:
        mapping = standard.mmap(lossy.fd, 8 * PAGE)
        with pytest.raises(BusError) as caught, safemmap.protect(mapping):
            lossy.shrink(0)
            assert mapping[0] == 0
        again = pickle.loads(pickle.dumps(caught.value))
        assert again.mapping is None
        assert again.path == self.MEMFD
        assert str(again) == str(caught.value)
        lossy.restore()
        mapping.close()

    def test_of_none(self) -> None:
        error = BusError(errno.EFAULT, "by hand")
        assert (error.mapping, error.path) == (None, None)
        assert repr(error) == f"BusError({errno.EFAULT}, 'by hand')"


def test_the_repr_of_a_mapping(lossy: LossyFile) -> None:
    standard_part = "<safemmap.mmap closed=False, access=ACCESS_DEFAULT, length=32768"
    with safemmap.mmap(lossy.fd, 0) as m:
        text = f"{standard_part}, pos=0, offset=0, protection='guarded'"
        assert repr(m) == f"{text}>"
        with pytest.raises(BusError), m.access() as view:
            lossy.shrink(0)
            bytes(view)
        assert repr(m) == f"{text}, poisoned=True>"
    assert repr(m) == "<safemmap.mmap closed=True>"
