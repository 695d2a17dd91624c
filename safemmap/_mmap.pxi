# The methods and operators of the standard class, and those that only this class has.

# (What it refers to does not refer to it.)
@cython.no_gc
cdef class mmap(_Exporter):
    """mmap(fileno, length, flags=MAP_SHARED, prot=PROT_READ|PROT_WRITE, \
access=ACCESS_DEFAULT, offset=0, *, trackfd=True, protection="auto", \
views="auto")\n--\n
    A memory-mapped file that survives the loss of its pages: a drop-in for the
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

    cdef Py_ssize_t pos         # searches read it outside sections
    # (Here, beside `__dealloc__`: before that runs, weak references have to be gone.)
    cdef object __weakref__

    # ---- Life ------------------------------------------------------------

    def __cinit__(self, fileno, length, flags=MAP_SHARED,
                  prot=PROT_READ | PROT_WRITE, access=ACCESS_DEFAULT, offset=0, *,
                  bint trackfd=True, protection="auto", views="auto"):
        cdef Descriptor own = fileno if type(fileno) is Descriptor else None
        cdef const struct_stat *known = NULL

        self.fd = -1
        self.trackfd = trackfd
        self.wanted = <Protection>_choice("protection", protection, _PROTECTIONS)
        self.views = _views(views)
        if own is not None:
            fileno = self.fd = own.take()
            if own.is_known:
                known = &own.known
        elif not trackfd and self.wanted == SEALED:
            fileno = _int(fileno)
            if fileno != -1:
                own = Descriptor(fileno)  # what has the seals is what is mapped
                fileno = own.number
        self.map(_int(fileno), _index(length), _int(flags), _int(prot),
                 _int(access), _index(offset), known)

    def __dealloc__(self):
        try:
            if self.region is not None and not self.region.has_warned():
                self.warn_unreported()
        except BaseException as error:
            _raise_in_thread(PyThread_get_thread_native_id(), error, type(self))
        self.release()

    def close(self):
        """Unmap the memory. Does nothing when it is closed already.

        :raises BufferError: a buffer is still exported, or an operation is under
            way on another thread.
        """
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)

        self.check_unexported()
        self.warn_unreported()
        self.check_unexported()  # the warning may have run any code
        self.release()

    @cython.final
    cdef int check_unexported(self) except -1:
        if self.exports > 0:
            raise BufferError("cannot close exported pointers exist")
        return 0

    @property
    def closed(self):
        """Whether the mapping is closed."""
        return safemmap_get_pointer(&self.data) == NULL

    def __enter__(self):
        self.check_open()
        return self

    def __exit__(self, *exc_info):
        if _EXIT_TAKES_THREE and len(exc_info) != 3:
            raise TypeError(f"__exit__ expected 3 arguments, got {len(exc_info)}")
        mmap.close(self)  # not an override of a subclass

    def __repr__(self):
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)

        return self.describe_self()

    @cython.final
    cdef str describe_self(self):
        # A subclass has its bare name here, as in the standard class.
        name = "safemmap.mmap" if type(self) is mmap else type(self).__name__
        if self.data == NULL:
            return f"<{name} closed=True>"
        return (
            f"<{name} closed=False, access={_ACCESS_NAMES[self.mode]}, "
            f"length={self.length}, pos={self.pos}, offset={self.offset}"
            f"{self.describe_state()}>"
        )

    @cython.final
    cdef str describe_state(self):
        """Fields of a file's mapping that the standard class does not have."""
        if self.flags & MAP_ANONYMOUS:
            return ""
        poisoned = ", poisoned=True" if self.poisoned() else ""
        return f", protection={_PROTECTION_NAMES[<int>self.granted]!r}{poisoned}"

    @cython.final
    cdef int warn_unreported(self) except -1:
        """Warn, before the mapping ends, of a fault that was not reported."""
        cdef Region region = self.region

        if self.poisoned() and not (region.is_reported() or region.ended):
            region.ended = True
            region.warn(self.describe_self())
        return 0

    # ---- Protection ------------------------------------------------------

    @property
    def protection(self):
        """How operations survive: ``"sealed"``, ``"guarded"`` or ``"kernel"``.

        A guarded mapping says ``"kernel"`` while other handlers have displaced this
        library's too often, and after `handler.uninstall`.
        """
        if self.granted == GUARDED and (
            not _handler_allowed or safemmap_install() < 0
        ):
            return "kernel"
        return _PROTECTION_NAMES[<int>self.granted]

    @property
    def stable(self):
        """Whether seals keep everybody from changing the file's content, so that
        reading it twice gives the same bytes. (`snapshot` gives that for any file.)"""
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef int seals

        self.check_open()
        seals = fcntl(self.fd, F_GET_SEALS) if self.fd != -1 else 0
        return seals > 0 and seals & _IMMUTABLE == _IMMUTABLE

    # ---- Reading and writing at the position -----------------------------

    # A bulk copy gives up the GIL. The position is claimed before, so that two
    # threads which read get different bytes, and given back after a fault.

    def read(self, n=None, /):
        """Read up to `n` bytes from the position; all the rest if negative or None.

        :raises BusError: one of them is on a page that is gone.
        """
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef Py_ssize_t size = PY_SSIZE_T_MAX, start

        self.check_open_first()
        if n is not None:
            if not PyIndex_Check(n):
                raise TypeError(
                    "argument should be integer or None, "
                    f"not '{type(n).__name__}'"
                )
            size = _index(n)
        self.check_data("read")
        if size < 0 or size > self.remaining():
            size = self.remaining()
        start = self.pos
        return self.read_claimed(start, size, "read")

    @cython.final
    cdef bytes read_claimed(self, Py_ssize_t start, Py_ssize_t size,
                            str operation):
        safemmap_set(&self.pos, start + size)
        try:
            return self.copy_out(start, size, operation)
        except BaseException:
            self.give_back(start, size)
            raise

    @cython.final
    cdef void give_back(self, Py_ssize_t start, Py_ssize_t size) noexcept:
        """Undo the claim of an operation that failed, unless other threads have moved
        the position since."""
        if self.pos == start + size:
            safemmap_set(&self.pos, start)

    def read_byte(self):
        """The byte at the position, as an int.

        :raises ValueError: the position is at the end.
        :raises BusError: the byte is on a page that is gone.
        """
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef unsigned char byte

        self.check_data("read_byte")
        if self.pos >= self.length:
            raise ValueError("read byte out of range")
        self.load(self.pos, &byte, "read_byte")
        safemmap_set(&self.pos, self.pos + 1)
        return <object>_INTS[byte]

    def readline(self):
        """Read from the position to the end of the line, or of the mapping.

        :raises BusError: one of these bytes is on a page that is gone.
        """
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef Py_ssize_t size = min(self.remaining(), 256)  # most lines are shorter
        cdef safemmap_fault fault
        cdef ptrdiff_t end
        cdef bytes line

        self.check_data("readline")
        if (
            self.operations.find(
                self.data + self.pos, size, _NEWLINE, 1, &end, &fault
            ) != 0
            or end < 0
        ):
            return self.long_line()
        line = PyBytes_FromStringAndSize(NULL, end + 1)
        if (
            self.operations.copy(
                PyBytes_AS_STRING(line), self.data + self.pos, end + 1, &fault
            ) != 0
            or self.poisoned()
        ):
            return self.long_line()
        safemmap_set(&self.pos, self.pos + end + 1)
        return line

    @cython.final
    cdef bytes long_line(self):
        """readline() of a long line, after a fault, or through system calls."""
        cdef Py_ssize_t start, stop, end

        while True:
            start, stop = self.pos, self.length
            if start >= stop:
                return b""
            end = self.search_with(
                self.operations.find, _NEWLINE, 1, start, min(stop, start + _NEAR),
                start, stop, "readline"
            )
            if end < 0 and stop - start > _NEAR:
                end = self.search_with(
                    self.operations.find, _NEWLINE, 1, start + _NEAR, stop, start, stop,
                    "readline"
                )
                # Another thread may have read this line meanwhile.
                if self.pos != start:
                    continue
            end = stop if end < 0 else end + 1
            return self.read_claimed(start, end - start, "readline")

    def write(self, bytes, /):
        """Write a bytes-like object at the position; returns how many bytes.

        :raises ValueError: it does not fit between the position and the end.
        :raises TypeError: the mapping is read-only.
        :raises BusError: it would touch a page that is gone.
        """
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef Py_buffer source

        self.check_open_first()
        PyObject_GetBuffer(bytes, &source, PyBUF_SIMPLE)
        try:
            self.write_claimed(source.buf, source.len)
            return source.len
        finally:
            PyBuffer_Release(&source)

    @cython.final
    cdef int write_claimed(self, const void *source, Py_ssize_t size) except -1:
        cdef Py_ssize_t start = self.pos

        self.check_data("write")
        self.check_writable()
        if start > self.length or self.length - start < size:
            raise ValueError("data out of range")
        safemmap_set(&self.pos, start + size)
        try:
            return self.copy_in(start, source, size, "write")
        except BaseException:
            self.give_back(start, size)
            raise

    def write_byte(self, byte, /):
        """Write one byte, an int, at the position.

        :raises ValueError: the position is at the end.
        :raises OverflowError: `byte` is not in range(256).
        :raises TypeError: the mapping is read-only.
        :raises BusError: the page is gone.
        """
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef Py_ssize_t value

        self.check_open_first()
        value = _index(byte)
        if value < 0:
            raise OverflowError("unsigned byte integer is less than minimum")
        if value > 255:
            raise OverflowError("unsigned byte integer is greater than maximum")
        self.check_data("write_byte")
        self.check_writable()
        if self.pos >= self.length:
            raise ValueError("write byte out of range")
        self.store(self.pos, <unsigned char>value, "write_byte")
        safemmap_set(&self.pos, self.pos + 1)

    def seek(self, pos, whence=0, /):
        """Move the position, in bytes from the start (`whence` 0), the position (1)
        or the end (2). Returns the new one from Python 3.13 on.

        :raises ValueError: that is outside the mapping.
        """
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef Py_ssize_t distance, base
        cdef int how

        self.check_open_first()
        distance = _index(pos)
        how = _int(whence)
        self.check_open()
        if how == 0:
            base = 0
        elif how == 1:
            base = self.pos
        elif how == 2:
            base = self.length
        else:
            raise ValueError("unknown seek type")
        if PY_SSIZE_T_MAX - base < distance or not 0 <= base + distance <= self.length:
            raise ValueError("seek out of range")
        safemmap_set(&self.pos, base + distance)
        return self.pos if _SEEK_RETURNS else None

    def seekable(self):
        """Always true."""
        return True

    def tell(self):
        """The position, in bytes from the start of the mapping."""
        self.check_open()
        return safemmap_get(&self.pos)

    # ---- Searching -------------------------------------------------------

    def find(self, sub, start=None, end=None, /):
        """The lowest index at which `sub` is found from `start` (the position if
        omitted) to `end` (the end of the mapping), or -1.

        :raises BusError: a page on the way there is gone.
        """
        cdef Py_ssize_t found

        if SAFEMMAP_MAY_LACK_GIL and _search(
            self, sub, start, end, False, "find", &found
        ):
            return found
        return self.search(sub, start, end, False)

    def rfind(self, sub, start=None, end=None, /):
        """The highest index at which `sub` is found, or -1; see `find`.

        :raises BusError: a page on the way there is gone.
        """
        cdef Py_ssize_t found

        if SAFEMMAP_MAY_LACK_GIL and _search(
            self, sub, start, end, True, "rfind", &found
        ):
            return found
        return self.search(sub, start, end, True)

    @cython.final
    cdef Py_ssize_t search(self, object sub, object start, object end,
                           bint backward) except? -2:
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef Py_ssize_t low = self.pos, high = 0
        cdef Py_buffer pattern

        self.check_open_first()
        PyObject_GetBuffer(sub, &pattern, PyBUF_SIMPLE)
        try:
            self.check_open()  # before what may be None, whatever the release
            if _PARSES_FIRST:
                low = self.pos
            if start is not None:
                low = _index(start)
            if end is not None:
                high = _index(end)
            self.check_data("rfind" if backward else "find")
            if _FINDS_INSIDE and low > self.length:
                return -1
            low = _clipped(low, self.length)
            high = self.length if end is None else _clipped(high, self.length)
            return self.search_range(
                &pattern, low, high, backward, "rfind" if backward else "find"
            )
        finally:
            PyBuffer_Release(&pattern)

    cdef inline Py_ssize_t remaining(self) noexcept:
        return self.length - self.pos if self.pos < self.length else 0

    # ---- The file behind -------------------------------------------------

    def size(self):
        """The size of the file, in bytes; it can differ from that of the mapping.

        :raises OSError: there is no file (before Python 3.15), or
            ``trackfd=False`` (ValueError from 3.15 on).
        """
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef struct_stat status

        self.check_open()
        if self.fd == -1 and _SIZES_ANONYMOUS:
            if not self.trackfd:
                raise ValueError("can't get size with trackfd=False")
            return self.length
        if _status_of(self.fd, &status) == -1:
            raise _os_error(errno)
        return status.st_size

    def resize(self, newsize, /, *, truncate=True):
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
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef Py_ssize_t size
        cdef bint file_too = truncate, was_registered

        self.check_open_first()
        size = _index(newsize) if file_too else _announced(newsize)
        self.check_open()
        if self.exports > 0:
            raise BufferError("mmap can't resize with extant buffers exported.")
        self.check_data("resize")
        if not self.trackfd:
            raise ValueError("mmap can't resize with trackfd=False.")
        if file_too and self.mode != ACCESS_WRITE and self.mode != ACCESS_DEFAULT:
            raise TypeError(
                "mmap can't resize a readonly or copy-on-write memory map."
            )
        if file_too and (size < 0 or PY_SSIZE_T_MAX - size < self.offset):
            raise ValueError("new size out of range")
        if (
            _KEEPS_ANONYMOUS and self.fd == -1 and not self.flags & MAP_PRIVATE
            and size > self.length
        ):
            raise ValueError("mmap: can't expand a shared anonymous mapping")
        if not file_too and self.fd == -1:
            raise ValueError("mmap can't follow a file: this memory is anonymous")
        was_registered = self.region is not None
        try:
            if file_too:
                self.resize_both(size)
            else:
                self.follow(size)
        finally:
            if was_registered:
                self.register_again()

    @cython.embedsignature(False)  # which has no value for MS_SYNC
    def flush(self, offset=0, size=..., /, *, flags=MS_SYNC):
        """flush($self, offset=0, size=..., /, *, flags=4)\n--\n
        Write `size` bytes from `offset` (a multiple of PAGESIZE) back to the
        file; if omitted, as many as the mapping has (from Python 3.15 on: all from
        there to the end).

        :raises ValueError: that range is not in the mapping.
        :raises OSError: as msync(2) has it.
        """
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef Py_ssize_t start, count = -1
        cdef int how, failed

        self.check_open_first()
        start = _index(offset)
        how = _int(flags)
        if _FLUSH_TAKES_NONE:
            self.check_open()
            if size is None:
                size = ...
        if size is not Ellipsis:
            count = _index(size)
        self.check_open()
        if size is Ellipsis or _FLUSHES_THE_REST and count == -1:
            count = self.length
            if _FLUSHES_THE_REST and start >= 0:
                count -= start
        if count < 0 or start < 0 or self.length - start < count:
            raise ValueError("flush values out of range")
        if self.mode == ACCESS_READ or self.mode == ACCESS_COPY:
            return
        self.check_data("flush")
        self.start_bulk()
        with nogil:
            failed = msync(self.data + start, count, how)
        self.end_bulk()
        if failed:
            raise _os_error(errno)
        self.check_data("flush")

    def madvise(self, option, start=0, length=None, /):
        """Advise the kernel about the use of `length` bytes from `start`.

        :raises ValueError: that range is not in the mapping.
        :raises OSError: as madvise(2) has it.
        """
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef int advice
        cdef Py_ssize_t first, count = 0

        self.check_open_first()
        advice = _int(option)
        first = _index(start)
        self.check_open()  # before what may be None, whatever the release
        if length is not None:
            count = _index(length)
        self.check_open()
        if length is None:
            count = self.length
        if first < 0 or first >= self.length:
            raise ValueError("madvise start out of bounds")
        if count < 0:
            raise ValueError("madvise length invalid")
        if PY_SSIZE_T_MAX - first < count:
            raise OverflowError("madvise length too large")
        if madvise(self.data + first, min(count, self.length - first), advice) != 0:
            raise _os_error(errno)

    def set_name(self, str name not None, /):
        """Name an anonymous mapping for ``/proc/self/maps``, where the kernel offers
        that (``CONFIG_ANON_VMA_NAME``, Linux 5.17); elsewhere, do nothing.

        :raises ValueError: the mapping has a file, or the name is too long.
        :raises OSError: as prctl(2) has it.
        """
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef bytes encoded = name.encode()
        cdef bytes label = b"cpython:mmap:" + encoded

        self.check_open()
        if b"\0" in encoded:
            raise ValueError("embedded null character")
        if len(encoded) > _LONGEST_NAME:
            raise ValueError("name is too long")
        if not self.flags & MAP_ANONYMOUS:
            raise ValueError("Cannot set annotation on non-anonymous mappings")
        if prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, <unsigned long>self.data,
                 <unsigned long>self.length, <char *>label) != 0 and errno != EINVAL:
            raise _os_error(errno)

    def move(self, dest, src, count, /):
        """Copy `count` bytes from offset `src` to `dest`; they may overlap.

        :raises ValueError: one of the ranges is not in the mapping.
        :raises TypeError: the mapping is read-only.
        :raises BusError: one of the bytes is on a page that is gone.
        """
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef Py_ssize_t target, source, size

        self.check_open_first()
        target = _index(dest)
        source = _index(src)
        size = _index(count)
        self.check_data("move")
        self.check_writable()
        if (
            target < 0 or source < 0 or size < 0
            or self.length - target < size or self.length - source < size
        ):
            raise ValueError("source, destination, or count out of range")
        self.copy_in(target, self.data + source, size, "move")

    # ---- As a sequence of bytes ------------------------------------------

    def __len__(self):
        self.check_open()
        return safemmap_get(&self.length)

    def __bytes__(self):
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)

        cls = type(self)
        if (
            (<TypeObject *>cls).tp_as_buffer.bf_getbuffer
            != (<TypeObject *>mmap).tp_as_buffer.bf_getbuffer
        ):
            return PyBytes_FromObject(memoryview(self))  # a subclass has another
        # What bytes() would copy by itself, as a view.
        self.check_data("bytes(m)")
        return self.copy_out(0, self.length, "bytes(m)")

    cdef inline Py_ssize_t position_of(self, object item) except -1:
        """Within the mapping as it is after the conversion of the index, which may run
        code that closes or resizes it."""
        cdef Py_ssize_t index

        if not safemmap_small_int(<PyObject *>item, &index):
            index = PyNumber_AsSsize_t(item, IndexError)
            self.check_open()
        return self.in_bounds(index)

    cdef inline Py_ssize_t in_bounds(self, Py_ssize_t index) except -1:
        if index < 0:
            index += self.length
        if not 0 <= index < self.length:
            raise IndexError("mmap index out of range")
        return index

    def __getitem__(self, item):
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef Py_ssize_t start, stop, step, size
        cdef unsigned char byte

        self.check_data("m[i]")
        if PyIndex_Check(item):
            start = self.position_of(item)
            self.load(start, &byte, "m[i]")
            return <object>_INTS[byte]
        if not PySlice_Check(item):
            raise TypeError("mmap indices must be integers")
        _unpack_slice(item, &start, &stop, &step)
        self.check_open()
        size = PySlice_AdjustIndices(self.length, &start, &stop, step)
        if size <= 0:
            return b""
        if step == 1:
            return self.copy_out(start, size, "m[i:j]")
        return self.gather(start, step, size)

    def __setitem__(self, item, value):
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef Py_ssize_t start, stop, step, number
        cdef Py_buffer source

        if not _VALUE_FIRST:
            self.check_open()
        self.check_writable()
        if PyIndex_Check(item):
            if not (
                safemmap_small_int(<PyObject *>item, &start)
                and safemmap_small_int(<PyObject *>value, &number)
                and 0 <= number <= 255
            ):
                start = PyNumber_AsSsize_t(item, IndexError)
                if not _VALUE_FIRST:
                    self.in_bounds(start)
                if not PyIndex_Check(value):
                    raise TypeError("mmap item value must be an int")
                number = PyNumber_AsSsize_t(value, TypeError)
                if not 0 <= number <= 255:
                    raise ValueError("mmap item value must be in range(0, 256)")
            self.check_data("m[i] = byte")
            self.store(self.in_bounds(start), <unsigned char>number, "m[i] = byte")
            return
        if not PySlice_Check(item):
            raise TypeError("mmap indices must be integer")
        _unpack_slice(item, &start, &stop, &step)
        PyObject_GetBuffer(value, &source, PyBUF_SIMPLE)
        try:
            self.check_data("m[i:j] = bytes")
            if source.len != PySlice_AdjustIndices(self.length, &start, &stop, step):
                raise IndexError("mmap slice assignment is wrong size")
            if step == 1:
                self.copy_in(start, source.buf, source.len, "m[i:j] = bytes")
            else:
                self.scatter(start, step, source.len, source.buf)
        finally:
            PyBuffer_Release(&source)

    def __delitem__(self, item):
        cdef Py_ssize_t start, stop, step

        if not _VALUE_FIRST:
            self.check_open()
        self.check_writable()
        if PyIndex_Check(item):
            start = PyNumber_AsSsize_t(item, IndexError)
            if not _VALUE_FIRST:
                self.in_bounds(start)
            raise TypeError("mmap doesn't support item deletion")
        if PySlice_Check(item):
            PySlice_Unpack(item, &start, &stop, &step)
            raise TypeError("mmap object doesn't support slice deletion")
        raise TypeError("mmap indices must be integer")

    # ---- Copies that a peer cannot change --------------------------------

    def snapshot(self, offset=0, length=None):
        """A copy of `length` bytes from `offset` (all the rest if None), which the
        peer can no longer change.

        :raises ValueError: the range is not in the mapping.
        :raises BusError: a page is gone, or the file shorter than the range.
        """
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef Py_ssize_t start, stop

        self.unpack_range(offset, length, &start, &stop)
        self.check_data("snapshot")
        self.check_file("snapshot", start, stop)
        copied = self.copy_out(start, stop - start, "snapshot")
        self.check_file("snapshot", start, stop)
        return copied

    def readinto(self, buffer, offset=None, /):
        """Fill a writable buffer from `offset`, or from the position, which then
        moves. Returns how many bytes there were.

        :raises ValueError: `offset` is outside the mapping.
        :raises TypeError: `buffer` is no writable one, in one piece.
        :raises BusError: one of the bytes is on a page that is gone; the buffer may
            have been filled in part.
        """
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef Py_ssize_t start = -1, size
        cdef Py_buffer target

        try:
            PyObject_GetBuffer(buffer, &target, PyBUF_WRITABLE)
        except (BufferError, TypeError):
            raise TypeError(
                "readinto() needs a writable bytes-like object, "
                f"not {type(buffer).__name__!r}"
            ) from None
        try:
            if offset is not None:
                start = _argument("offset", offset)
            self.check_data("readinto")
            if offset is None:
                start = self.pos
                size = min(target.len, self.remaining())
                safemmap_set(&self.pos, start + size)
            else:
                if not 0 <= start <= self.length:
                    raise ValueError(
                        f"offset {start} is not within the {self.length} bytes of the "
                        "mapping"
                    )
                size = min(target.len, self.length - start)
            try:
                self.copy_to(target.buf, start, size, "readinto")
            except BaseException:
                if offset is None:
                    self.give_back(start, size)
                raise
            return size
        finally:
            PyBuffer_Release(&target)


cdef inline int _unpack_slice(object item, Py_ssize_t *start, Py_ssize_t *stop,
                              Py_ssize_t *step) except -1:
    """PySlice_Unpack, without a call for `[i:j]`."""
    step[0] = 1
    if _unpack_plain_slice(item, start, stop):
        return 0
    return PySlice_Unpack(item, start, stop, step)


cdef inline bint _unpack_plain_slice(object item, Py_ssize_t *start,
                                     Py_ssize_t *stop) noexcept:
    """`[i:j]` with small ints or nothing. False: it is something else."""
    cdef PySliceObject *slice = <PySliceObject *>item

    start[0] = 0
    stop[0] = PY_SSIZE_T_MAX
    return (
        slice.step == Py_None
        and (slice.start == Py_None or safemmap_small_int(slice.start, start))
        and (slice.stop == Py_None or safemmap_small_int(slice.stop, stop))
    )


cdef Py_ssize_t _clipped(Py_ssize_t index, Py_ssize_t size) noexcept:
    if index < 0:
        index += size
    return 0 if index < 0 else size if index > size else index
