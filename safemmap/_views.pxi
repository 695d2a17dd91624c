# Views: the buffers that a mapping exports, their faults, and access() scopes.

# Foreign code reads and writes through a buffer, and cannot be guarded. From the first
# buffer on the mapping is a registered region: a page that faults is replaced by a
# private zeroed one, and the region is poisoned.

# (What it refers to does not refer to it.)
@cython.no_gc
cdef class _Exporter(_Memory):
    """Memory that exports buffers."""

    cdef Views views
    cdef Py_ssize_t scopes      # entered, and not left yet
    cdef unsigned long resets   # so many times the file was mapped again,
    cdef Py_ssize_t reset_fault  # the last time for a fault at this offset

    def __getbuffer__(self, Py_buffer *view, int flags):
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)

        self.check_data("memoryview(m)")
        self.lend(view, self, 0, self.length, self.mode == ACCESS_READ, flags)

    def __releasebuffer__(self, Py_buffer *view):
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)

        self.take_back()

    # ---- Handing out and taking back -------------------------------------

    @cython.final
    cdef int lend(self, Py_buffer *view, object exporter, Py_ssize_t start,
                  Py_ssize_t stop, bint readonly, int flags) except -1:
        # From here on other threads, which may run meanwhile, cannot close or move it.
        self.exports += 1
        try:
            self.register()
            _fill(view, exporter, self.data + start, stop - start, readonly, flags)
        except BaseException:
            self.exports -= 1
            raise
        if self.region is not None:
            self.region.lent += 1
        return 0

    @cython.final
    cdef void take_back(self) noexcept:
        self.exports -= 1
        if self.region is not None:
            self.region.lent -= 1
            # (On Python 3.11 only the main thread is asked to empty the queue, and it
            # may be waiting.)
            _drain()

    @cython.final
    cdef int register(self) except -1:
        if self.views == DENY:
            raise BufferError(
                "this mapping was made with views=\"deny\", and hands out no buffer; "
                "slices, read() and readinto() copy"
            )
        if self.views == CRASH or self.granted == SEALED:
            return 0
        if self.granted == KERNEL or not _handler_allowed:
            raise BufferError(
                "this mapping goes by way of the kernel (protection=\"kernel\", "
                "SAFEMMAP_HANDLER=0, handler.uninstall(), or a sandbox that forbids to "
                "install a handler), and hands out no buffer; slices, read() and "
                "readinto() copy"
            )
        _ensure_handler_for_view()
        if self.region is None:
            self.make_region()
            # From here on the handler cannot be uninstalled.
            _ensure_handler_for_view()
        return 0

    @cython.final
    cdef int register_again(self) except -1:
        """After a change that took the region out: for whoever has kept the pointer."""
        if self.region is None and self.granted == GUARDED and _handler_allowed:
            self.register()
        return 0

    @cython.final
    cdef int make_region(self) except -1:
        cdef safemmap_change change
        safemmap_begin(&change, <PyObject *>self, &self.changes)
        cdef Region region = Region.__new__(Region)

        region.describe(self.data, self.length, self.page_size, self.prot)
        region.c.fd = self.fd
        region.c.offset = self.offset
        region.origin = self.as_origin()
        region.add(self, self.views == INTERRUPT)
        if self.region is None:
            self.region = region
            self.attend()
        else:
            region.remove()  # another thread was quicker
            region.forget()
        return 0

    @cython.final
    cdef inline void attend(self) noexcept:
        """Called when the first scope is entered, and the last one left."""
        if self.region is not None:
            safemmap_region_attend(&self.region.c, self.scopes > 0)

    @cython.final
    cdef bint has_told(self, object error) noexcept:
        """Whether this exception reports a fault of one of this mapping's views."""
        return (
            isinstance(error, BusError) and error.poisoned
            and <uintptr_t>self.data <= <uintptr_t>error.address
            < <uintptr_t>self.data + <uintptr_t>self.length
        )

    # ---- Faults ----------------------------------------------------------

    @property
    def faulted(self):
        """Whether a view has touched a lost page, since the last `reset` if any."""
        return self.fault is not None

    @property
    def fault(self):
        """The first `Fault` of a view, or None."""
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef Region region = self.region

        if region is None or not region.poisoned():
            return None
        safemmap_set_flag(&region.reported, True)
        return region.first_fault()

    def check(self):
        """Raise if a view has touched a lost page, and got zeros in its place.

        :raises BusError: one did; see `fault`.
        """
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)

        self.check_data("check")

    def reset(self):
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
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)

        self.check_open()
        if self.poisoned():
            self.warn_before_reset()
        if self.poisoned():
            self.reset_poisoned()

    @cython.final
    cdef int warn_before_reset(self) except -1:
        """Whoever has read the zeros finds nothing any more when he asks."""
        if self.region.has_warned() or self.region.is_told():
            return 0  # he has been told,
        if self.exports > 0 or self.scopes > 0 or self.fd == -1:
            return 0  # or will be; or it cannot be reset
        self.check_file("reset", 0, self.length)
        (<mmap>self).warn_unreported()
        return self.check_open()  # the warning may have run any code

    @cython.final
    cdef int reset_poisoned(self) except -1:
        cdef safemmap_change change
        safemmap_begin(&change, <PyObject *>self, &self.changes)
        cdef Py_ssize_t page

        if self.exports > 0:
            raise BufferError("cannot reset while exported pointers exist")
        if self.fd == -1:
            raise ValueError(
                "mmap can't reset without a file (anonymous, or trackfd=False)"
            )
        self.check_file("reset", 0, self.length)
        page = self.region.fault_page()
        # (Before: a scope may end on another thread as soon as the region is gone.)
        self.resets += 1
        self.reset_fault = page
        # Meanwhile other threads cannot close or move it.
        self.exports += 1
        try:
            self.map_again()
            if self.granted != GUARDED or not _handler_allowed:
                _forget(self.unregister())
            self.register_again()
        finally:
            self.exports -= 1
        return 0

    # ---- Scopes ----------------------------------------------------------

    def access(self, offset=0, length=None, *, bint writable=False):
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
        cdef Access scope = Access.__new__(Access)

        if writable:
            self.check_writable()
        self.unpack_range(offset, length, &scope.start, &scope.stop)
        scope.mapping = self
        scope.writable = writable
        return scope

    @cython.final
    cdef int unpack_range(self, object offset, object length, Py_ssize_t *ret_start,
                          Py_ssize_t *ret_stop) except -1:
        cdef Py_ssize_t start = _argument("offset", offset), size = -1

        if length is not None:
            size = _argument("length", length)
        self.check_open()
        if length is None and start >= 0:
            size = self.length - start
        if start < 0 or size < 0 or self.length - start < size:
            what = (
                f"offset {offset} is" if length is None
                else f"offset {offset} and length {length} are"
            )
            raise ValueError(
                f"{what} not within the {self.length} bytes of the mapping"
            )
        ret_start[0] = start
        ret_stop[0] = start + size
        return 0


cdef int _ensure_handler_for_view() except -1:
    try:
        return _ensure_handler_for_buffer()
    except RuntimeError as error:  # another thread has uninstalled it just now
        raise BufferError(str(error)) from None


cdef int _fill(Py_buffer *view, object exporter, char *start, Py_ssize_t size,
               bint readonly, int flags) except -1:
    if readonly and flags & PyBUF_WRITABLE:
        raise BufferError("Object is not writable.")
    view.buf = start
    view.len = size
    view.readonly = readonly
    view.itemsize = 1
    view.format = NULL
    if flags & PyBUF_FORMAT:
        view.format = b"B"
    view.ndim = 1
    view.shape = &view.len if flags & PyBUF_ND else NULL
    view.strides = (
        &view.itemsize if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
    )
    view.suboffsets = NULL
    view.internal = NULL
    view.obj = exporter
    return 0


# Its memoryview refers to it, and needs its `mapping` to give the buffer back, so the
# collector must not clear it.
@cython.no_gc_clear
@cython.final
cdef class Access:
    """What `mmap.access` returns: a context manager for a range of a mapping."""

    cdef mmap mapping
    cdef Py_ssize_t start
    cdef Py_ssize_t stop
    cdef Py_ssize_t exports     # memoryviews of this range that are still out
    cdef bint writable
    cdef bint entered
    cdef unsigned long resets   # of the mapping, when this was entered
    cdef object view

    def __enter__(self):
        if self.mapping is None:
            raise RuntimeError("an access scope is made by mmap.access()")
        self.begin()
        try:
            view = memoryview(self)
            self.hold(view)
        except BaseException:
            self.entered = False
            raise
        return view

    cdef inline int begin(self) except -1:
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self.mapping)

        if self.entered:
            raise RuntimeError("this access scope is entered already")
        # (The file may already be too short, or the next moment: __exit__ checks.)
        self.mapping.check_data("access")
        self.entered = True
        self.resets = self.mapping.resets
        return 0

    cdef inline int hold(self, object view) except -1:
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self.mapping)

        self.view = view
        self.mapping.scopes += 1
        if self.mapping.scopes == 1:
            self.mapping.attend()
        return 0

    def __exit__(self, exc_type, exc_value, traceback, /):
        view = self.end()
        try:
            view.release()
        except BufferError:
            _drain()
            # check_after() reports it, together with objects made from it
        self.check_after(exc_value)

    cdef inline object end(self):
        """Returns the view, for the caller to release."""
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self.mapping)

        # (Without a view another thread is about to enter it.)
        if not self.entered or self.view is None:
            raise RuntimeError("this access scope is not entered")
        self.entered = False
        view, self.view = self.view, None
        return view

    cdef inline void leave(self) noexcept:
        """From here on a fault is warned of."""
        self.mapping.scopes -= 1
        if self.mapping.scopes == 0:
            self.mapping.attend()

    cdef inline int check_after(self, object exc_value) except -1:
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self.mapping)
        cdef Region region = self.mapping.region

        self.leave()  # faults before it are raised below
        if region is not None:
            region.end_scope()
            if region.poisoned() and self.mapping.has_told(exc_value):
                region.tell()
                return 0
        self.mapping.check_data("access")
        if self.resets != self.mapping.resets:
            # Another thread has reset it, which it does only to a poisoned mapping.
            raise self.mapping.poison_error(
                EFAULT, self.mapping.reset_fault, BUS_ADRERR, "access", -1
            )
        self.mapping.check_file("access", self.start, self.stop)
        if self.exports > 0 and exc_value is None:
            # (The traceback of an exception under way keeps frames alive, and with them
            # the view.)
            raise BufferError(
                f"a view of bytes {self.start} to {self.stop} outlives its access "
                "scope, and what it reads from now on is not checked any more: delete "
                "what was made from it (an array, a slice) before the scope ends"
            )
        return 0

    def __dealloc__(self):
        if self.view is not None:
            self.give_up()

    cdef void give_up(self) noexcept:
        """Called where nobody is left who could end the scope."""
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self.mapping)

        self.leave()
        if self.mapping.region is not None:
            _note_context()
            self.mapping.region.warn_unawaited()

    def __getitem__(self, item):
        """Of the memoryview, which is what has items."""
        raise TypeError(
            "an access scope has no items; use its view: "
            "with m.access() as view: view[i]"
        )

    def __getbuffer__(self, Py_buffer *view, int flags):
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self.mapping)
        cdef mmap mapping = self.mapping

        if not self.entered:
            raise BufferError(
                "this access scope is not entered, and lends its memory only within: "
                "with m.access() as view: ..."
            )
        mapping.check_data("access")
        if self.stop > mapping.length:
            raise ValueError("the mapping was resized and is too short for this access")
        mapping.lend(view, self, self.start, self.stop, not self.writable, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self.mapping)

        self.exports -= 1
        self.mapping.take_back()
