# protect(): protection for foreign mappings.


@cython.no_gc_clear
@cython.final
cdef class _Held:
    """An exported foreign buffer, whose pages are registered for `owner`."""

    cdef Py_buffer view
    cdef bint exported
    cdef Region region  # None where no page of it can be lost
    cdef int left       # negative errno: zeros stay in it after the end

    def __cinit__(self, obj, owner, bint interrupts):
        if not PyObject_CheckBuffer(obj):
            raise TypeError(f"{type(obj).__name__!r} exports no buffer")
        PyObject_GetBuffer(obj, &self.view, PyBUF_STRIDES)
        self.exported = True
        if self.view.len > 0:
            self.register(owner, interrupts)

    cdef int register(self, object owner, bint interrupts) except -1:
        cdef char *low
        cdef char *high
        cdef Region region
        cdef safemmap_files behind
        cdef bint private

        self.extent(&low, &high)
        while True:
            _look_up(<uintptr_t>low, <uintptr_t>high, &behind)
            private = behind.page_size == 0
            if private:
                # Zeros that replaced pages of another region look the same. Only
                # registering this region tells: it is refused over such pages.
                behind.page_size = sysconf(_SC_PAGESIZE)
                behind.protection = PROT_READ | PROT_WRITE
            if behind.page_size > <size_t>sysconf(_SC_PAGESIZE):
                raise BufferError(
                    "this buffer is made of huge pages, which cannot be put back when "
                    "the protection ends; map the file with safemmap.mmap"
                )
            region = Region.__new__(Region)
            region.describe(low, high - low, behind.page_size, behind.protection)
            region.c.put_back = True
            region.origin = _origin(owner, -1, _path_in(&behind), True)
            region.add(owner, interrupts)
            self.region = region
            # From here on nobody uninstalls it.
            _ensure_handler_for_buffer()
            if not private or region.poisoned():
                return 0
            _look_up(<uintptr_t>low, <uintptr_t>high, &behind)
            if region.poisoned():
                return 0
            self.unregister()
            self.region = None
            if behind.page_size == 0:
                return 0

    cdef void unregister(self) noexcept:
        self.left = self.region.remove()
        self.region.forget()

    cdef void extent(self, char **ret_low, char **ret_high) noexcept:
        """From the lowest byte of any element to past the highest."""
        cdef Py_ssize_t reach
        cdef int i

        ret_low[0] = ret_high[0] = <char *>self.view.buf
        if self.view.strides == NULL:  # as ctypes has it: in one piece
            ret_high[0] += self.view.len
            return
        for i in range(self.view.ndim):
            reach = self.view.strides[i] * (self.view.shape[i] - 1)
            if reach < 0:
                ret_low[0] += reach
            else:
                ret_high[0] += reach
        ret_high[0] += self.view.itemsize

    cdef bint faulted(self) noexcept:
        """Also after the release."""
        return self.region is not None and self.region.poisoned()

    cdef void release(self) noexcept:
        """End the protection, and give the buffer back."""
        if not self.exported:
            return
        self.exported = False
        if self.region is not None:
            self.unregister()
        PyBuffer_Release(&self.view)

    def __dealloc__(self):
        self.release()


@cython.final
cdef class Protected:
    """What `protect` returns: a context manager."""

    cdef object obj             # until the end: its buffers may end with it
    cdef list held
    cdef readonly bint entered
    cdef bint closed
    cdef type kind              # of the object,
    cdef object place           # and its id(): what repr() shows, also after the end
    cdef object __weakref__

    def __cinit__(self, *arguments, **keywords):
        if len(arguments) != 3 or keywords:
            raise TypeError(
                "a Protected is made by safemmap.protect(), which finds the memory of "
                "an object"
            )
        obj, buffers, views = arguments
        self.kind = type(obj)
        self.place = id(obj)
        self.held = []
        if views not in ("auto", "deferred", "interrupt"):
            raise ValueError(
                "views must be 'auto', 'deferred' or 'interrupt' here, "
                f"not {views!r}"
            )
        interrupts = _views(views) == INTERRUPT
        self.obj = obj
        for buffer in buffers:
            self.held.append(_Held(buffer, self, interrupts))
        # The length of a buffer may have been read from a lost page.
        self.check_for("protect")

    def __repr__(self):
        return f"<safemmap.Protected {self.kind.__name__} at {self.place:#x}>"

    @property
    def faulted(self):
        """Whether a page was gone when it was touched; also after the end."""
        return self.fault is not None

    @property
    def fault(self):
        """The first such fault, or None. Its offset is in bytes from the start of the
        buffer that holds it."""
        cdef _Held held, first = None

        for held in self.held:
            if held.faulted():
                safemmap_set_flag(&held.region.reported, True)
                if (
                    first is None
                    or held.region.c.fault.time_ns < first.region.c.fault.time_ns
                ):
                    first = held
        return None if first is None else first.region.first_fault()

    def check(self):
        """Do nothing unless a page was gone when it was touched.

        :raises BusError: one was; see `fault`.
        """
        self.check_for("check")

    cdef int check_for(self, str operation) except -1:
        cdef _Held held, first = None

        for held in self.held:
            if held.faulted():
                held.region.tell()
                if first is None:
                    first = held
        if first is None:
            return 0
        return _raise(
            first.region.error_at(
                first.region.c.fault.address, first.region.c.fault.code, operation
            )
        )

    def close(self):
        """End the protection, and release the buffer. Warns with `FaultWarning` of a
        fault that nobody has asked about.

        :raises BusError: zeros stay in the place of the file's pages, since the kernel
            refuses to put those back; a `FaultWarning` says why.
        """
        self.end()

    cdef int end(self) except -1:
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)
        cdef _Held held

        if self.closed:
            return 0
        self.closed = True
        for held in self.held:
            held.release()
        self.obj = None
        for held in self.held:
            if held.faulted() and not (held.region.is_reported() or held.region.ended):
                held.region.ended = True
                held.region.warn(repr(self))
        return self.check_for_zeros_left()

    cdef int check_for_zeros_left(self) except -1:
        cdef _Held held, first = None

        for held in self.held:
            if held.left < 0:
                held.region.warn_of_zeros_left(repr(self), held.left)
                first = held if first is None else first
        if first is None:
            return 0
        return _raise(
            first.region.error_at(
                first.region.c.fault.address, first.region.c.fault.code, "protect"
            )
        )

    def __enter__(self):
        if self.closed:
            raise ValueError("this protection has ended; protect() the object again")
        self.entered = True
        self.attend()
        return self

    def __exit__(self, exc_type, exc_value, traceback, /):
        _drain()  # as long as nobody need be warned of what is in the queue
        try:
            self.check_for("protect")
        finally:
            self.entered = False
            self.attend()
            self.end()

    cdef void attend(self) noexcept:
        cdef _Held held

        for held in self.held:
            if held.region is not None:
                safemmap_region_attend(&held.region.c, self.entered)

    def __del__(self):
        if self.held is not None:
            try:
                self.end()
            except BaseException as error:
                _raise_in_thread(PyThread_get_thread_native_id(), error, type(self))


(<TypeObject *>Protected).tp_name = "safemmap.Protected"
(<dict>(<TypeObject *>Protected).tp_dict)["__module__"] = "safemmap"
PyType_Modified(Protected)
