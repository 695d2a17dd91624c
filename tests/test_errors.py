"""What a BusError says."""

from __future__ import annotations

import copy
import errno
import pickle
import weakref

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
        f"[Errno {errno.EFAULT}] m[i:j] of bytes 100 to 9000 of the mapping failed: "
        f"the page of offset 8192 (address {error.address:#x}) is gone: the file has "
        "5000 bytes left and needs at least 8193; it can be read again once it has "
        "grown"
    )


def test_message_where_the_file_is_long_enough(lossy: LossyFile) -> None:
    with safemmap.mmap(lossy.fd, 8 * PAGE) as m:
        lossy.lose(m, {3})
        with pytest.raises(BusError, match="the filesystem cannot provide the page of"):
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
    text = "Fault(offset=1, address=2, code=3, thread=4, time=5.0, mapping='m')"
    assert repr(fault) == text
    copied = pickle.loads(pickle.dumps(fault))
    assert (copied, copied.mapping) == (fault, "m")
    with pytest.raises(AttributeError, match="cannot assign to 'offset'"):
        fault.offset = 9
    with pytest.raises(AttributeError, match="cannot delete 'offset'"):
        del fault.offset
    match fault:
        case Fault(offset, address):
            assert (offset, address) == (1, 2)
