import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType, TracebackType
from typing import Any, Literal, Self, SupportsIndex, final, overload

from _typeshed import ReadableBuffer, WriteableBuffer
from typing_extensions import disjoint_base

from safemmap._codes import BusCode
from safemmap._errors import Fault
from safemmap._faults import Faults

@disjoint_base
class BusError(OSError):
    """An access to a mapped file touched a page that the kernel could not bring in.

    The operation that faulted raises this, where the standard library's mapping has
    the process killed by SIGBUS. The mapping stays usable: the same operation succeeds
    once the page is there again. (After a fault of a view, once `mmap.reset` was
    called; under `enable`, once the file is loaded again.) `errno` is ``EFAULT``, or
    ``EHWPOISON`` for memory that the hardware reported as damaged.

    An operation that writes, to the mapping or to the caller's buffer, may have written
    a part.

    :ivar offset: of the first byte that could not be reached, in bytes from the start
        of the mapping (or of the caller's buffer, see `in_buffer`): the start of the
        first lost page, or the start of the range asked for when that lies inside the
        page; where a file was found too short without a fault, its end. Under `enable`
        the offset, in the file, of the byte that was touched.
    :ivar address: the address of that byte.
    :ivar code: a `BusCode`, or the bare ``si_code`` where it has no name; 0 where a
        file was found too short without a fault.
    :ivar operation: the method or operator: ``"read"``, ``"m[i:j]"``, ...; ``"load"``
        or ``"store"`` under `enable`; None in one that was not raised by this library.
    :ivar in_buffer: whether the page was behind the other buffer of the operation
        (what `write` reads from, say), and not behind the mapping itself.
    :ivar poisoned: whether this reports an earlier fault of a view: it got zeros in the
        place of a page that was gone, and every operation raises until `mmap.reset`.
    :ivar start: the range asked for, in bytes from the start of the mapping.
    :ivar stop: its end.
    :ivar needed: how many bytes the file must have for `offset` to be in it; 0 where
        that is not known.
    :ivar file_size: how many it had right after the fault; -1 where that is not known
        (``trackfd=False``).
    :ivar mapping: the `mmap` or the `Protected` whose page it was; None where that is
        gone, under `enable`, in a copy and after unpickling.
    :ivar path: the file, as the kernel names it; a memfd is
        ``"/memfd:name (deleted)"``. None where that cannot be told.
    :ivar under_protect: whether another library made the mapping, and `protect`
        guarded it.
    :ivar name: of the region, where an extension module has registered the memory (see
        docs/extensions.md) and raises this for a view; else None.
    """
    @property
    def offset(self) -> int: ...
    @property
    def address(self) -> int: ...
    @property
    def code(self) -> BusCode | int: ...
    @property
    def operation(self) -> str | None: ...
    @property
    def in_buffer(self) -> bool: ...
    @property
    def poisoned(self) -> bool: ...
    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...
    @property
    def needed(self) -> int: ...
    @property
    def file_size(self) -> int: ...
    @property
    def mapping(self) -> mmap | Protected | None: ...
    @property
    def path(self) -> str | None: ...
    @property
    def under_protect(self) -> bool: ...
    @property
    def name(self) -> str | None: ...

@disjoint_base
class mmap:
    """A memory-mapped file that survives the loss of its pages: a drop-in for the
    POSIX `mmap.mmap` of the running Python.

    Maps `length` bytes (0 for the whole file) of the file descriptor `fileno`, from
    `offset` on; ``fileno=-1`` maps anonymous memory. Every method and operator
    raises `BusError` where the standard class has the process killed by SIGBUS;
    the position moves only when an operation succeeds. Operations on 256 KiB or
    more release the GIL, and the mapping cannot be closed or resized meanwhile.

    `protection` says how operations survive:

    - ``"guarded"``: the handler of SIGBUS ends them.
    - ``"sealed"``: nobody can shrink the file any more, so operations cannot fault, and
      cost nothing extra. The seal is added where it is missing and `fileno` allows it.
    - ``"kernel"``: no signal is involved: the kernel copies, which costs a system call
      for each operation. No buffer is handed out.
    - ``"auto"``: sealed where the file is, otherwise guarded, or kernel where the
      environment has ``SAFEMMAP_HANDLER=0``. Decided again by `resize` and `reset`.

    `views` says what happens when other code touches a lost page through a buffer
    (`memoryview(m)`, NumPy):

    - ``"deferred"``: it gets zeros; the next operation, or the end of the `access`
      scope, raises `BusError`.
    - ``"interrupt"``: the same, and the call that touched the page raises `BusError` in
      the place of its result (after an operator or an index it comes later: see the
      reference). If the call fails by itself, `BusError` becomes the cause of its
      error. Every later call that touches such a page raises too, even after the
      buffer was released.
    - ``"deny"``: exporting a buffer raises BufferError.
    - ``"crash"``: the process dies of SIGBUS, as with the standard class.
    - ``"auto"``: the value of ``SAFEMMAP_VIEWS`` in the environment; else
      ``"interrupt"`` where this library is the ``mmap`` of `sys.modules`, whose users
      never call `check`, and ``"deferred"`` everywhere else.

    :raises ValueError: `length` or `offset` lie beyond the end of the file, the
        file is empty, `access` is combined with `flags` or `prot`, or `protection` or
        `views` is none of the above.
    :raises OverflowError: `length` or `offset` is negative.
    :raises SealError: ``protection="sealed"``, and the file is not and cannot be.
    :raises RuntimeError: ``protection="guarded"``, with ``SAFEMMAP_HANDLER=0``.
    :raises OSError: as mmap(2) has it.
    """
    def __new__(
        cls,
        fileno: SupportsIndex,
        length: SupportsIndex,
        flags: SupportsIndex = ...,
        prot: SupportsIndex = ...,
        access: SupportsIndex = ...,
        offset: SupportsIndex = ...,
        *,
        trackfd: bool = True,
        protection: Literal["auto", "sealed", "guarded", "kernel"] = "auto",
        views: Literal["auto", "deferred", "interrupt", "deny", "crash"] = "auto",
    ) -> Self: ...
    @property
    def closed(self) -> bool:
        """Whether the mapping is closed."""
    @property
    def protection(self) -> str:
        """How operations survive: ``"sealed"``, ``"guarded"`` or ``"kernel"``.

        A guarded mapping says ``"kernel"`` while other handlers have displaced this
        library's too often, and after `handler.uninstall`.
        """
    @property
    def stable(self) -> bool:
        """Whether seals keep everybody from changing the file's content, so that
        reading it twice gives the same bytes. (`snapshot` gives that for any file.)
        """
    def close(self) -> None:
        """Unmap the memory. Does nothing when it is closed already.

        :raises BufferError: a buffer is still exported, or an operation is under
            way on another thread.
        """
    # (Parameters are what typeshed has for `mmap.mmap`, so that an override of the one
    # is an override of the other. More is accepted.)
    def find(
        self,
        sub: ReadableBuffer,
        start: int | None = None,
        end: int | None = None,
        /,
    ) -> int:
        """The lowest index at which `sub` is found from `start` (the position if
        omitted) to `end` (the end of the mapping), or -1.

        :raises BusError: a page on the way there is gone.
        """
    def rfind(
        self,
        sub: ReadableBuffer,
        start: int | None = None,
        end: int | None = None,
        /,
    ) -> int:
        """The highest index at which `sub` is found, or -1; see `find`.

        :raises BusError: a page on the way there is gone.
        """
    def flush(self, offset: int = 0, size: int = ..., /, *, flags: int = ...) -> None:
        """Write `size` bytes from `offset` (a multiple of PAGESIZE) back to the
        file; if omitted, as many as the mapping has (from Python 3.15 on: all from
        there to the end).

        :raises ValueError: that range is not in the mapping.
        :raises OSError: as msync(2) has it.
        """
    def madvise(
        self, option: int, start: int = 0, length: int | None = None, /
    ) -> None:
        """Advise the kernel about the use of `length` bytes from `start`.

        :raises ValueError: that range is not in the mapping.
        :raises OSError: as madvise(2) has it.
        """
    def move(self, dest: int, src: int, count: int, /) -> None:
        """Copy `count` bytes from offset `src` to `dest`; they may overlap.

        :raises ValueError: one of the ranges is not in the mapping.
        :raises TypeError: the mapping is read-only.
        :raises BusError: one of the bytes is on a page that is gone.
        """
    def read(self, n: int | None = None, /) -> bytes:
        """Read up to `n` bytes from the position; all the rest if negative or None.

        :raises BusError: one of them is on a page that is gone.
        """
    def read_byte(self) -> int:
        """The byte at the position, as an int.

        :raises ValueError: the position is at the end.
        :raises BusError: the byte is on a page that is gone.
        """
    def readline(self) -> bytes:
        """Read from the position to the end of the line, or of the mapping.

        :raises BusError: one of these bytes is on a page that is gone.
        """
    def resize(self, newsize: int, /, *, truncate: bool = True) -> None:
        """Resize the mapping and the file behind it to `newsize` bytes.

        With ``truncate=False`` the mapping alone, to follow a file that its owner has
        resized (as ``wl_shm_pool.resize`` has it): any kind of mapping, and only as far
        as the file reaches.

        When it fails, both are what they were.

        :raises BufferError: a buffer is exported, or an operation under way.
        :raises TypeError: the mapping is read-only or copy-on-write (and `truncate`).
        :raises ValueError: `newsize` is negative, or ``trackfd=False``; without
            `truncate` also: the memory is anonymous.
        :raises PeerError: without `truncate`: `newsize` is negative or 0, the file is
            shorter than that, or mremap(2) refuses it.
        :raises OSError: as ftruncate(2) and mremap(2) have it.
        """
    if sys.version_info >= (3, 13):
        def seek(self, pos: int, whence: int = 0, /) -> int: ...
    else:
        def seek(self, pos: int, whence: int = 0, /) -> None: ...
    def seekable(self) -> Literal[True]:
        """Always true."""
    def set_name(self, name: str, /) -> None:
        """Name an anonymous mapping for ``/proc/self/maps``, where the kernel offers
        that (``CONFIG_ANON_VMA_NAME``, Linux 5.17); elsewhere, do nothing.

        :raises ValueError: the mapping has a file, or the name is too long.
        :raises OSError: as prctl(2) has it.
        """
    def size(self) -> int:
        """The size of the file, in bytes; it can differ from that of the mapping.

        :raises OSError: there is no file (before Python 3.15), or
            ``trackfd=False`` (ValueError from 3.15 on).
        """
    def tell(self) -> int:
        """The position, in bytes from the start of the mapping."""
    def write(self, bytes: ReadableBuffer, /) -> int:
        """Write a bytes-like object at the position; returns how many bytes.

        :raises ValueError: it does not fit between the position and the end.
        :raises TypeError: the mapping is read-only.
        :raises BusError: it would touch a page that is gone.
        """
    def write_byte(self, byte: int, /) -> None:
        """Write one byte, an int, at the position.

        :raises ValueError: the position is at the end.
        :raises OverflowError: `byte` is not in range(256).
        :raises TypeError: the mapping is read-only.
        :raises BusError: the page is gone.
        """
    @property
    def faulted(self) -> bool:
        """Whether a view has touched a lost page, since the last `reset` if any."""
    @property
    def fault(self) -> Fault | None:
        """The first `Fault` of a view, or None."""
    def check(self) -> None:
        """Raise if a view has touched a lost page, and got zeros in its place.

        :raises BusError: one did; see `fault`.
        """
    def reset(self) -> None:
        """Map the file again, in the place of the zeroed pages.

        Does nothing on a mapping that is not poisoned. The memory keeps its address,
        so that it stays valid for code that has kept the pointer. Changes made through
        ``ACCESS_COPY`` are lost with the old pages. A fault that nothing has told of,
        and no scope will raise, is warned of (`FaultWarning`), as `close` does.

        :raises BufferError: a view is still out, or an operation under way.
        :raises BusError: the file is still too short.
        :raises ValueError: there is no file, or ``trackfd=False``.
        :raises OSError: as mmap(2) has it. The mapping is what it was; it is closed
            where there was no room to map the file twice (ENOMEM), nor then once.
        """
    def access(
        self,
        offset: SupportsIndex = 0,
        length: SupportsIndex | None = None,
        *,
        writable: bool = False,
    ) -> Access:
        """A scope in which a memoryview of `length` bytes from `offset` (all the
        rest if None) may be handed to other code, as with `wl_shm_buffer_begin_access`
        of libwayland.

            with m.access() as view:
                total = numpy.frombuffer(view, dtype="u1").sum()

        The code reads zeros for a lost page. Leaving the scope then raises, so that no
        zero passes for data. Scopes nest, and may be held on many threads.

        :param writable: whether the view may be written to.
        :raises ValueError: the range is not in the mapping.
        :raises TypeError: `writable`, and the mapping is read-only.
        :raises BusError: when entered, the mapping is poisoned; when left, a view on
            any thread has touched a lost page, or the file is shorter than the range.
            (A file that was cut and has grown again cannot be told from one that holds
            zeros.)
        :raises BufferError: when left, an object still holds the view. The memory stays
            mapped until that object is deleted.
        """
    def snapshot(
        self, offset: SupportsIndex = 0, length: SupportsIndex | None = None
    ) -> bytes:
        """A copy of `length` bytes from `offset` (all the rest if None), which the
        peer can no longer change.

        :raises ValueError: the range is not in the mapping.
        :raises BusError: a page is gone, or the file shorter than the range.
        """
    def readinto(
        self, buffer: WriteableBuffer, offset: SupportsIndex | None = None, /
    ) -> int:
        """Fill a writable buffer from `offset`, or from the position, which then
        moves. Returns how many bytes there were.

        :raises ValueError: `offset` is outside the mapping.
        :raises TypeError: `buffer` is no writable one, in one piece.
        :raises BusError: one of the bytes is on a page that is gone; the buffer may
            have been filled in part.
        """
    def __len__(self) -> int: ...
    def __bytes__(self) -> bytes: ...
    @overload
    def __getitem__(self, item: SupportsIndex, /) -> int: ...
    @overload
    def __getitem__(self, item: slice, /) -> bytes: ...
    @overload
    def __setitem__(self, item: SupportsIndex, value: SupportsIndex, /) -> None: ...
    @overload
    def __setitem__(self, item: slice, value: ReadableBuffer, /) -> None: ...
    def __delitem__(self, item: SupportsIndex | slice, /) -> None: ...
    # Not there at run time: iteration goes through the sequence protocol, and
    # yields bytes of length one.
    def __iter__(self) -> Iterator[bytes]: ...
    def __contains__(self, item: object, /) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Access:
    """What `mmap.access` returns: a context manager for a range of a mapping."""
    def __new__(cls, mapping: mmap, start: int, stop: int, writable: bool) -> Self: ...
    def __enter__(self) -> memoryview: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Region:
    @property
    def owner(self) -> weakref.ref[Any]: ...

@final
class Protected:
    """What `protect` returns: a context manager."""
    def __new__(cls, obj: object, buffers: Iterable[Any], views: str) -> Self: ...
    @property
    def entered(self) -> bool: ...
    @property
    def faulted(self) -> bool:
        """Whether a page was gone when it was touched; also after the end."""
    @property
    def fault(self) -> Fault | None:
        """The first such fault, or None. Its offset is in bytes from the start of the
        buffer that holds it.
        """
    def check(self) -> None:
        """Do nothing unless a page was gone when it was touched.

        :raises BusError: one was; see `fault`.
        """
    def close(self) -> None:
        """End the protection, and release the buffer. Warns with `FaultWarning` of a
        fault that nobody has asked about.

        :raises BusError: zeros stay in the place of the file's pages, since the kernel
            refuses to put those back; a `FaultWarning` says why.
        """
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
    def __del__(self) -> None: ...

@final
class Memory:
    def __new__(cls, address: int, size: int, owner: object) -> Self: ...
    @property
    def address(self) -> int: ...
    @property
    def size(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class ArrowArray:
    @property
    def format(self) -> str: ...
    @property
    def length(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def buffers(self) -> list[int]: ...
    @property
    def children(self) -> list[ArrowArray]: ...
    @property
    def dictionary(self) -> ArrowArray | None: ...

def arrow_array(schema: object, array: object) -> ArrowArray: ...
def arrow_stream(capsule: object) -> list[ArrowArray]: ...
def dlpack_memory(capsule: object) -> Memory: ...
def is_file_behind(start: int, end: int) -> bool: ...
def read_integer(address: int, size: int) -> int: ...
def enable_process(raises: bool) -> None: ...
def disable_process() -> None: ...
def process_is_enabled() -> bool: ...
def start_checks() -> None: ...
def stop_checks() -> None: ...
def pause_checks() -> None: ...
def resume_checks() -> None: ...
def set_stand_in(module: ModuleType) -> None: ...
def watch_exit_status() -> None: ...
def watch_end() -> None: ...
def untold() -> str | None: ...
def settle() -> None: ...
def switch(name: str, default: bool) -> bool: ...

@final
class Descriptor:
    def __new__(cls, fd: int | None = None) -> Self: ...
    def fileno(self) -> int: ...
    def detach(self) -> int: ...
    def status(self) -> tuple[int, int]: ...
    def close(self) -> None: ...

def owned(function: Callable[..., int], *arguments: object) -> Descriptor: ...
def open_flags(fd: int) -> int: ...
def can_have_seals(fd: int) -> bool: ...
def check_choices(protection: str, views: str) -> None: ...
def filesystem_magic(fd: int) -> int: ...

_C_API: object  # a capsule

def region_count() -> int: ...
def take_faults(kind: type[Faults]) -> Faults: ...
def event_fd() -> int: ...
def handler_counts() -> tuple[int, int, int, int]: ...
def handlers() -> list[tuple[bool, str | None, str | None]]: ...
def install_handler() -> int: ...
def uninstall_handler() -> int: ...
