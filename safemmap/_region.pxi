# The pages behind a mapping, or behind somebody else's buffer, while other code may
# hold a pointer to them.

from safemmap import _watch

cdef dict _live = _watch.live
cdef object _is_finalizing = sys.is_finalizing


# (It refers to nothing that could refer to it.)
@cython.no_gc
@cython.final
cdef class Region:
    cdef safemmap_region c
    cdef readonly object owner  # a weak reference to what it belongs to
    cdef uintptr_t start        # the bytes for which the pages are here
    cdef Py_ssize_t size
    cdef Py_ssize_t lent        # buffers that are out
    cdef bint interrupts
    cdef public bint reported   # somebody was told that it is poisoned
    cdef bint warned
    cdef set told               # threads that were told, by their identifiers
    cdef dict interrupted       # and the address of what is on its way to them

    cdef void describe(self, const void *start, Py_ssize_t size, size_t page_size,
                       int protection) noexcept:
        self.start = <uintptr_t>start
        self.size = size
        self.c.page_size = page_size
        self.c.start = self.start // page_size * page_size
        self.c.end = (self.start + size + page_size - 1) // page_size * page_size
        self.c.protection = protection
        self.c.fd = -1

    cdef int add(self, object owner, bint interrupts) except -1:
        cdef int error

        _watch.start()
        self.owner = weakref.ref(owner)
        self.interrupts = interrupts
        self.told = set()
        self.interrupted = {}
        error = safemmap_region_add(&self.c)
        if error == -ENOMEM:
            raise MemoryError("no memory to register the mapping")
        if error == -EFAULT:
            raise self.error_at(self.start, BusCode.ADRERR, "protect")
        if error < 0:
            raise _os_error(-error)
        _live[self.c.id] = self
        return 0

    cdef void remove(self) noexcept:
        """No Python code runs here: the owner is in the middle of a change. It calls
        `forget` after that."""
        # Waits for handlers on other threads, which need no GIL.
        safemmap_region_remove(&self.c)

    cdef void forget(self) noexcept:
        # At the end there may be no _watch.py left.
        if self.poisoned() and not _is_finalizing():
            # Its events can be told from others' as long as it is there.
            _watch.drain()
        _live.pop(self.c.id, None)

    cdef inline bint poisoned(self) noexcept:
        return safemmap_region_poisoned(&self.c)

    # ---- What is known of a fault ----------------------------------------

    cdef Py_ssize_t offset_of(self, uintptr_t address) noexcept:
        """In bytes from the start; the pages hold more than the bytes in question."""
        if address < self.start:
            return 0
        return min(<Py_ssize_t>(address - self.start), self.size - 1)

    cdef Py_ssize_t fault_page(self) noexcept:
        """Where the page begins that was touched first."""
        cdef uintptr_t address = self.c.fault.address

        return self.offset_of(address - (address - self.c.start) % self.c.page_size)

    cdef int error_number(self) noexcept:
        if self.c.fault.code in (BusCode.MCEERR_AR, BusCode.MCEERR_AO):
            return EHWPOISON
        return EFAULT

    cdef object error_at(self, uintptr_t address, int code, str operation):
        """For a page that was touched at this address."""
        cdef Py_ssize_t offset = self.offset_of(
            address - (address - self.c.start) % self.c.page_size
        )

        exception = _bus_error(
            self.error_number(), offset, self.start + offset, code, operation, 0,
            self.size,
        )
        exception.poisoned = True
        return exception

    cdef object first_fault(self, object mapping):
        cdef const safemmap_region_fault *fault = &self.c.fault

        return self.fault_at(fault.address, fault.code, fault.thread, fault.time_ns,
                             mapping)

    cdef object fault_at(self, uintptr_t address, int code, pid_t thread,
                         int64_t time_ns, object mapping):
        return Fault(
            offset=self.offset_of(address),
            address=address,
            code=_CODES.get(code, code),
            thread=thread,
            time=time_ns / 1e9,
            mapping=mapping,
        )

    # ---- Telling ---------------------------------------------------------

    cdef void tell(self) noexcept:
        """This thread gets a BusError now, and needs none later."""
        cdef object thread = PyThread_get_thread_ident()

        self.reported = True
        self.told.add(thread)
        self.cancel(thread)

    def warn_unasked(self):
        """Once, unless somebody knows already, or the end of a scope will tell."""
        owner = self.owner()
        if not self.poisoned() or self.reported or self.warned or owner is None:
            return
        try:
            if isinstance(owner, mmap):
                if (<mmap>owner).scopes == 0:
                    self.warn((<mmap>owner).describe_self())
            elif not owner.entered:
                self.warn(repr(owner))
        except BaseException as error:
            _unraisable(error, self)

    cdef int warn(self, str name) except -1:
        cdef Py_ssize_t offset = self.offset_of(self.c.fault.address)

        self.warned = True
        PyErr_WarnEx(
            FaultWarning,
            (
                f"{_watch.thread_name(self.c.fault.thread)} touched the byte at offset "
                f"{offset} (address {self.c.fault.address:#x}) of {name} when its page "
                "was gone, and got zeros in the place of data; check() raises where "
                "this matters, and a scope (access(), or with protect()) has it "
                "raised in time"
            ).encode(errors="backslashreplace"),
            1,
        )
        return 0

    # ---- Interrupting ----------------------------------------------------

    def met(self, event):
        """What an event says. Interrupts the thread that it came from, where that is
        wanted and the thread has not left."""
        address, code, thread, time_ns, identifier = event
        if (
            self.interrupts and self.lent > 0 and identifier not in self.told
            and self.c.start <= <uintptr_t>address < self.c.end
        ):
            self.interrupt(identifier, thread, address, code)
        return self.fault_at(address, code, thread, time_ns, None)

    cdef int interrupt(self, object identifier, unsigned long thread,
                       uintptr_t address, int code) except -1:
        cdef PyThreadState *state = _thread_state(identifier)

        # Another thread may have its identifier by now; and an exception that is on
        # its way there already is somebody else's.
        if (
            state == NULL or state.native_thread_id != thread
            or state.async_exc != NULL
        ):
            return 0
        exception = self.error_at(address, code, "view")
        interruption = raised_as(exception)
        self.reported = True
        self.told.add(identifier)
        self.interrupted[identifier] = <uintptr_t><PyObject *>interruption
        PyThreadState_SetAsyncExc(identifier, <PyObject *>interruption)
        return 0

    cdef void cancel(self, object identifier) noexcept:
        cdef PyThreadState *state
        cdef object interruption = self.interrupted.pop(identifier, None)

        if interruption is None:
            return
        state = _thread_state(identifier)
        if state != NULL and <uintptr_t>state.async_exc == <uintptr_t>interruption:
            PyThreadState_SetAsyncExc(identifier, NULL)

    cdef void take_back(self) noexcept:
        """A buffer was released; with the last one it is too late to interrupt."""
        self.lent -= 1
        if self.lent == 0 and self.interrupted:
            for identifier in tuple(self.interrupted):
                self.cancel(identifier)


cdef PyThreadState *_thread_state(unsigned long identifier) noexcept:
    cdef PyThreadState *state = PyInterpreterState_ThreadHead(PyInterpreterState_Get())

    while state != NULL and state.thread_id != identifier:
        state = PyThreadState_Next(state)
    return state


# ---- For _watch.py -------------------------------------------------------

def next_event():
    """The oldest fault in the queue, as the id of its region and what `Region.met`
    takes, or None."""
    cdef safemmap_event event

    if not safemmap_event_take(&event):
        return None
    return event.region, (
        event.fault.address, event.fault.code, event.fault.thread,
        event.fault.time_ns, <unsigned long>event.pthread,
    )


def events_dropped():
    """How many did not fit into the queue since the process began."""
    return safemmap_events_dropped()


def wait_for_events(timeout):
    """Wait until there is an event, `wake` is called, or `timeout` seconds (None for
    ever) are over."""
    cdef timespec until
    cdef const timespec *pointer = NULL

    if timeout is not None:
        until.tv_sec = <time_t>timeout
        until.tv_nsec = <long>((timeout - until.tv_sec) * 1e9)
        pointer = &until
    with nogil:
        safemmap_event_wait(pointer)


def wake():
    """End a `wait_for_events`."""
    safemmap_event_wake()


def event_fd():
    """The eventfd that every fault makes readable."""
    cdef int fd = safemmap_event_fd()

    if fd < 0:
        raise _os_error(-fd)
    return fd


def clear_event_fd():
    """Make it unreadable until the next fault."""
    safemmap_event_fd_clear()
