# The pages behind a mapping, or behind somebody else's buffer, while other code may
# hold a pointer to them.

# Everything between here and the queue of the core is compiled code that calls no
# Python function: an exception which is on its way to this thread (`views="interrupt"`,
# Ctrl-C) cannot come up in the middle.
cdef dict _live = {}            # the regions, by their ids
cdef list _recent = []          # what `faults` has not returned yet
cdef dict _unwarned = {}        # when to warn of which region, on time.monotonic()
cdef unsigned long _lost = 0    # what fell out of _recent
cdef unsigned long _dropped_before = 0  # by the core, when `faults` was called last
cdef bint _watching = False     # whether there is a thread in `watch`
cdef object _watch = None       # the module, since the first view

# Faults that wait for `faults`.
cdef Py_ssize_t _CAPACITY = 1024
# A program that asks by itself is not to be warned of what it is about to learn:
# seconds from a fault to the warning.
cdef double _GRACE = 0.1


cdef object _drain():
    """Take what is in the queue of the core, on any thread."""
    global _lost
    cdef safemmap_event event
    cdef Region region

    while safemmap_event_take(&event):
        region = _live.get(event.region)
        if region is None:
            continue
        if len(_recent) >= _CAPACITY:
            del _recent[0]
            _lost += 1
        _recent.append((
            region.owner, event.region, region.offset_of(event.fault.address),
            event.fault.address, event.fault.code, event.fault.thread,
            event.fault.time_ns,
        ))
        if event.region not in _unwarned:
            _unwarned[event.region] = monotonic() + _GRACE
            safemmap_event_wake()
        region.interrupt(&event)


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
    cdef set told               # threads that were told, by the kernel's ids
    # For each its identifier, and the address of what is on its way to it.
    cdef dict interrupted

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

        self.owner = PyWeakref_NewRef(owner, None)
        self.interrupts = interrupts
        self.told = set()
        self.interrupted = {}
        error = safemmap_region_add(&self.c)
        if error == -ENOMEM:
            raise MemoryError("no memory to register the mapping")
        if error == -EFAULT:
            raise self.error_at(self.start, BUS_ADRERR, "protect")
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
        # Its events can be told from others' as long as it is there.
        _drain()
        _live.pop(self.c.id, None)
        _unwarned.pop(self.c.id, None)

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
        if self.c.fault.code in (BUS_MCEERR_AR, BUS_MCEERR_AO):
            return EHWPOISON
        return EFAULT

    cdef object error_at(self, uintptr_t address, int code, str operation):
        """For a page that was touched at this address."""
        cdef Py_ssize_t offset = self.offset_of(
            address - (address - self.c.start) % self.c.page_size
        )
        cdef BusError exception = _bus_error(
            self.error_number(), offset, self.start + offset, code, operation, 0,
            self.size,
        )
        exception.poisoned = True
        return exception

    cdef object first_fault(self, object mapping):
        cdef const safemmap_region_fault *fault = &self.c.fault

        return _fault(self.offset_of(fault.address), fault.address, fault.code,
                      fault.thread, fault.time_ns, mapping)

    # ---- Telling ---------------------------------------------------------

    cdef void tell(self) noexcept:
        """This thread gets a BusError now, and needs none later."""
        cdef object thread = PyThread_get_thread_native_id()

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
        cdef object thread = self.c.fault.thread

        self.warned = True
        who = f"thread {thread}" if _watch is None else _watch.thread_name(thread)
        PyErr_WarnEx(
            FaultWarning,
            (
                f"{who} touched the byte at offset "
                f"{offset} (address {self.c.fault.address:#x}) of {name} when its page "
                "was gone, and got zeros in the place of data; check() raises where "
                "this matters, and a scope (access(), or with protect()) has it "
                "raised in time"
            ).encode(errors="backslashreplace"),
            1,
        )
        return 0

    # ---- Interrupting ----------------------------------------------------

    cdef int interrupt(self, const safemmap_event *event) except -1:
        """The thread that met the fault, where that is wanted and it is still there."""
        cdef unsigned long identifier = <unsigned long>event.pthread
        cdef PyThreadState *state
        cdef object thread = event.fault.thread

        if not self.interrupts or self.lent == 0 or thread in self.told:
            return 0
        # Another one may have its identifier by now. An exception that is on its way
        # there already is somebody else's.
        state = _thread_state(identifier)
        if (
            state == NULL or state.native_thread_id != <unsigned long>thread
            or state.async_exc != NULL or not _is_in_program(identifier)
        ):
            return 0
        interruption = _raising(
            self.error_at(event.fault.address, event.fault.code, "view")
        )
        self.told.add(thread)
        self.interrupted[thread] = (
            identifier, <uintptr_t><PyObject *>interruption
        )
        PyThreadState_SetAsyncExc(identifier, <PyObject *>interruption)
        return 0

    cdef void cancel(self, object thread) noexcept:
        cdef PyThreadState *state
        cdef object pending = self.interrupted.pop(thread, None)

        if pending is None:
            return
        identifier, interruption = pending
        state = _thread_state(identifier)
        if state != NULL and <uintptr_t>state.async_exc == <uintptr_t>interruption:
            PyThreadState_SetAsyncExc(identifier, NULL)

    cdef void take_back(self) noexcept:
        """A buffer was released; with the last one it is too late to interrupt."""
        self.lent -= 1
        if self.lent == 0 and self.interrupted:
            for thread in tuple(self.interrupted):
                self.cancel(thread)


cdef object _fault(Py_ssize_t offset, uintptr_t address, int code, pid_t thread,
                   int64_t time_ns, object mapping):
    return Fault(
        offset=offset, address=address, code=_code(code), thread=thread,
        time=time_ns / 1e9, mapping=mapping,
    )


cdef PyThreadState *_thread_state(unsigned long identifier) noexcept:
    cdef PyThreadState *state = PyInterpreterState_ThreadHead(PyInterpreterState_Get())

    while state != NULL and state.thread_id != identifier:
        state = PyThreadState_Next(state)
    return state


cdef bint _is_in_program(unsigned long identifier) except -1:
    """Whether the thread runs any Python code but that of threading.py, which is no
    place for an exception."""
    frame = _current_frames().get(identifier)
    while frame is not None:
        if frame.f_globals.get("__name__") != "threading":
            return True
        frame = frame.f_back
    return False


@cython.final
cdef class _Instance:
    """What is called for a new instance of a class, and has it already. Once: the
    class is garbage for the collector alone, and so would be all that the instance's
    traceback holds."""

    cdef object instance

    def __call__(self, cls):
        instance, self.instance = self.instance, None
        return instance


cdef object _raising(object error):
    """A class which raises `error`, for where only a class can be raised."""
    cdef _Instance instance = _Instance.__new__(_Instance)

    instance.instance = error
    return type("BusError", (BusError,), {"__new__": staticmethod(instance)})


cdef int _ensure_watcher() except -1:
    """Before a view is handed out. Where nobody can watch, faults are told all the
    same: in the end, by `close`."""
    global _watch

    if _watching or safemmap_is_finalizing():
        return 0
    try:
        if _watch is None:
            from safemmap import _watch as module

            _watch = module
        _watch.start()
    except (ImportError, OSError):
        pass  # the process has shut itself in, or has no more descriptors
    return 0


# ---- For _watch.py -------------------------------------------------------

def watch(timeout):
    """Wait until there is a fault, `wake` is called, or `timeout` seconds (None for
    ever) are over. Then interrupt, and return the regions of which to warn, and how
    long the next of them can wait."""
    global _watching
    cdef timespec until
    cdef const timespec *pointer = NULL
    cdef double now

    if timeout is not None:
        until.tv_sec = <time_t>timeout
        until.tv_nsec = <long>((timeout - until.tv_sec) * 1e9)
        pointer = &until
    _watching = True
    with nogil:
        safemmap_event_wait(pointer)
    _drain()
    now = monotonic()
    due = [id for id, when in _unwarned.items() if when <= now]
    regions = [_live.get(id) for id in due]
    for id in due:
        _unwarned.pop(id, None)  # which a collection may have done
    next_due = min(_unwarned.values(), default=None)
    return regions, None if next_due is None else next_due - now


def region_count():
    """How many there are to watch."""
    return len(_live)


def stop_watching():
    """What `watch` has said last was all: the next view starts another thread."""
    global _watching
    _watching = False


def warn_of_all():
    """At the end of the program."""
    _drain()
    for region in [_live.get(id) for id in _unwarned]:
        if region is not None:
            region.warn_unasked()


def wake():
    """End a `watch`."""
    safemmap_event_wake()


def take_faults():
    """Those since the last call, and how many are lost."""
    global _lost, _dropped_before
    cdef unsigned long dropped, lost
    cdef list taken
    cdef Region region

    _drain()
    taken = list(_recent)
    # (Nothing is taken before all of this has succeeded: an exception may come up in
    # it, which was on its way to this thread.)
    found = [
        _fault(offset, address, code, thread, time_ns, owner())
        for owner, _, offset, address, code, thread, time_ns in taken
    ]
    for entry in taken:
        region = _live.get(entry[1])
        if region is not None:
            region.reported = True
        # (Another thread may have taken it meanwhile.)
        if _recent and _recent[0] is entry:
            del _recent[0]
    dropped = safemmap_events_dropped()
    lost = dropped - _dropped_before + _lost
    _dropped_before = dropped
    _lost = 0
    # In this order: a fault that comes later makes it readable again.
    safemmap_event_fd_clear()
    _drain()
    if _recent:
        safemmap_event_fd_set()
    return found, lost


def forget_parent():
    """In the child of a fork: what its parent's views have met is none of its own."""
    global _lost, _dropped_before, _watching
    _recent.clear()
    _unwarned.clear()
    _lost = _dropped_before = 0
    _watching = False


def event_fd():
    """The eventfd that every fault makes readable."""
    cdef int fd = safemmap_event_fd()

    if fd < 0:
        raise _os_error(-fd)
    return fd
