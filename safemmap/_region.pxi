# A region: the pages of a mapping, or of a foreign buffer, registered with the core
# while other code may hold a pointer to them.

# (It refers to nothing that could refer to it.)
@cython.no_gc
@cython.final
cdef class Region:
    cdef safemmap_region c
    cdef object id              # that of `c`, by which it is in `_live`
    cdef readonly object owner  # a weak reference to what it belongs to
    cdef uintptr_t start        # the bytes for which the pages are here
    cdef Py_ssize_t size
    cdef Py_ssize_t lent        # buffers that are out
    cdef _Origin origin         # of its errors
    cdef bint reported          # by an answer to the program, or an exception
    cdef bint ended             # the last warning was given
    cdef bint warned
    cdef bint told              # an exception has reported it to a thread

    cdef void describe(self, const void *start, Py_ssize_t size, size_t page_size,
                       int protection) noexcept:
        self.start = <uintptr_t>start
        self.size = size
        self.c.page_size = page_size
        self.c.start = self.start // page_size * page_size
        self.c.end = (self.start + size + page_size - 1) // page_size * page_size
        self.c.protection = protection
        self.c.fd = -1
        self.c.fault_file_size = -1  # older copies of the core do not know it

    cdef int add(self, object owner, bint interrupts) except -1:
        cdef int error

        self.owner = PyWeakref_NewRef(owner, None)
        if interrupts:
            _start_interrupting()
            self.c.withdrawable = True
        error = self.enlist()
        if error == -ENOMEM:
            raise MemoryError("no memory to register the mapping")
        if error == -EFAULT:
            raise self.error_at(self.start, BUS_ADRERR, "protect")
        if error < 0:
            raise _os_error(-error)
        return 0

    cdef inline int enlist(self) except 1:
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>_accounts)
        cdef int error = safemmap_region_add(&self.c)

        if error == 0:
            try:
                self.id = self.c.id
                _live[self.id] = self
            except MemoryError:
                self.remove()
                raise
        return error

    cdef int remove(self) noexcept:
        """Take the region out of the registry. Runs no Python code, since the owner is
        in the middle of a change, after which it calls `forget`. Returns a negative
        errno if zeros stay in foreign memory."""
        # Waits for handlers on other threads, which need no GIL.
        return safemmap_region_remove(&self.c)

    cdef void forget(self) noexcept:
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>_accounts)

        try:
            # Its events are recognized only while it is in _live.
            _drain_held()
            _remember_untold(self)
        finally:
            _live.pop(self.id, None)
            _unwarned.pop(self.id, None)
            self.cancel(0)

    cdef void retire(self) noexcept:
        """The same where the file was mapped again: other threads have read zeros all
        the same, and get the exceptions that are pending for them."""
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>_accounts)

        self.retire_held()

    cdef void retire_held(self) noexcept:
        """In a section on `_accounts`."""
        try:
            _drain_held()
        finally:
            _live.pop(self.id, None)
            _unwarned.pop(self.id, None)
        if self.is_reported() and not self.c.withdrawable:
            return  # nobody will ask for it
        self.cancel_here()
        _former[self.id] = self
        if len(_former) > _MOST_FORMER:
            _remember_untold(_former.pop(next(iter(_former))))

    cdef int renew(self, int flags) except 1:
        """Have the file mapped anew in the place of the pages, and begin again as
        another region, without a moment in which none is registered. Returns 0 or a
        negative errno; MemoryError: the caller has to unregister it."""
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>_accounts)
        cdef Region former = Region.__new__(Region)
        cdef int error

        former.c = self.c
        former.id = self.id
        former.owner = self.owner
        former.start = self.start
        former.size = self.size
        former.origin = self.origin
        former.reported = self.is_reported()
        former.told = self.is_told()
        self.c.fault_file_size = -1  # the next fault of an older copy leaves it alone
        error = safemmap_region_renew(&self.c, flags)
        if error != 0:
            self.c.fault_file_size = former.c.fault_file_size
        else:
            try:
                self.id = self.c.id
                _live[self.id] = self
            finally:
                safemmap_set_flag(&self.reported, False)
                safemmap_set_flag(&self.warned, False)
                safemmap_set_flag(&self.told, False)
                self.ended = False
                former.retire_held()
        return error

    cdef inline bint poisoned(self) noexcept:
        return safemmap_region_poisoned(&self.c)

    # (Asked in sections on other objects, too.)

    cdef inline bint is_reported(self) noexcept:
        return safemmap_get_flag(&self.reported)

    cdef inline bint has_warned(self) noexcept:
        return safemmap_get_flag(&self.warned)

    cdef inline bint is_told(self) noexcept:
        return safemmap_get_flag(&self.told)

    # ---- The fault ---------------------------------------------------------

    cdef Py_ssize_t offset_of(self, uintptr_t address) noexcept:
        """In bytes from `start`, clipped: the pages hold more than the mapped bytes."""
        if address < self.start:
            return 0
        return min(<Py_ssize_t>(address - self.start), self.size - 1)

    cdef Py_ssize_t fault_page(self) noexcept:
        """The offset of the page that faulted first."""
        cdef uintptr_t address = self.c.fault.address

        return self.offset_of(address - (address - self.c.start) % self.c.page_size)

    cdef int error_number(self) noexcept:
        return _errno_of(self.c.fault.code)

    cdef object error_at(self, uintptr_t address, int code, str operation):
        """The exception for a fault at this address."""
        cdef Py_ssize_t offset = self.offset_of(
            address - (address - self.c.start) % self.c.page_size
        )
        cdef BusError exception = _bus_error(
            self.error_number(), offset, self.start + offset, code, operation, 0,
            self.size,
        )
        exception.poisoned = True
        _name_origin(exception, self.origin)
        return exception

    cdef object first_fault(self):
        cdef const safemmap_region_fault *fault = &self.c.fault

        return _fault(self.offset_of(fault.address), fault.address, fault.code,
                      fault.thread, fault.time_ns, self.origin, None)

    # ---- Reporting ---------------------------------------------------------

    cdef void tell(self) noexcept:
        """Called as this thread gets a BusError: cancels the pending one."""
        safemmap_set_flag(&self.reported, True)
        self.cancel_here()

    cdef void end_scope(self) noexcept:
        """At the end of the last scope: cancels exceptions of other threads, for which
        it is too late when no buffer is out."""
        if self.lent == 0:
            self.cancel(0)

    cdef void cancel(self, pid_t thread) noexcept:
        """Cancel the pending exceptions of a thread, or with 0 of all of them. (None is
        pending before a fault, which poisons the region first.)"""
        if self.c.withdrawable and self.poisoned():
            safemmap_interrupt_cancel(self.c.id, thread)

    cdef void cancel_here(self) noexcept:
        """Those of this thread."""
        if self.c.withdrawable:
            self.cancel(<pid_t>PyThread_get_thread_native_id())

    cdef bint is_awaited(self):
        """Whether the end of a scope will raise for it."""
        owner = self.owner()
        if isinstance(owner, mmap):
            return (<mmap>owner).scopes > 0
        return owner is not None and owner.entered

    cdef int warn_unawaited(self) except -1:
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>_accounts)

        return self.warn_later()

    cdef int warn_later(self) except -1:
        """Schedules the warning, in a section on `_accounts`, unless the program knows
        of the fault or the end of a scope will raise."""
        if self.poisoned() and not self.is_reported() and not self.is_awaited():
            _warn_later(self.id)
        return 0

    cdef int warn_unasked(self) except -1:
        """Warns once, unless the program knows of the fault, or the end of a scope will
        raise."""
        owner = self.owner()
        return 0 if owner is None else self.warn_for(owner)

    cdef int warn_for(self, object owner) except -1:
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>owner)

        if not self.poisoned() or self.is_reported() or self.has_warned():
            return 0
        try:
            if self.is_awaited():
                return 0
            if isinstance(owner, mmap):
                name = (<mmap>owner).describe_self()
            else:
                name = repr(owner)
            self.warn(name, unasked=True)
        except BaseException as error:
            _raise_in_thread(self.c.fault.thread, error, self)
        return 0

    cdef int warn(self, str name, bint unasked=False) except -1:
        cdef object thread = self.c.fault.thread
        cdef str advice = (
            "an exception has reported it: discard what was computed from the zeros"
            if self.is_told() else
            "to have BusError raised, call check() before you use the data, or read it "
            "in a scope (with m.access(), with protect())"
        )
        cdef str text = (
            f"{_thread_name(thread)} touched the byte at offset "
            f"{self.offset_of(self.c.fault.address)} (address "
            f"{self.c.fault.address:#x}) of {name} when its page was gone, and got "
            f"zeros in the place of data; {advice}"
        )

        safemmap_set_flag(&self.warned, True)
        try:
            if unasked:
                # None of the program's code is at fault where this happens to run.
                PyErr_WarnExplicitObject(
                    FaultWarning, text, "safemmap", 1, "safemmap", NULL
                )
            else:
                PyErr_WarnEx(FaultWarning, text.encode(errors="backslashreplace"), 1)
        except FaultWarning as error:
            error.__cause__ = self.error_at(
                self.c.fault.address, self.c.fault.code, "view"
            )
            safemmap_set_flag(&self.told, True)
            raise
        return 0

    cdef int warn_of_zeros_left(self, str name, int error) except -1:
        """The program goes on to use them, whether it was told of the fault or not."""
        cdef str text = (
            f"what the file has in the place of zeroed pages of {name} could not be "
            f"put back ({os.strerror(-error)}): the zeros stay, as long as the memory "
            "is mapped"
        )

        PyErr_WarnEx(FaultWarning, text.encode(errors="backslashreplace"), 1)
        return 0


cdef object _fault(Py_ssize_t offset, uintptr_t address, int code, pid_t thread,
                   int64_t time_ns, _Origin origin, object name):
    return Fault(
        offset=offset, address=address, code=_code(code), thread=thread,
        time=time_ns / 1e9, path=origin.path(),
        mapping=None if origin.mapping is None else origin.mapping(), name=name,
    )
