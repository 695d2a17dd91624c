# The faults of views on their way from the signal handler to the program: what `faults`
# returns, when to warn of one that nobody asks about, and what the watcher thread runs.

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
            region.origin, event.region, region.offset_of(event.fault.address),
            event.fault.address, event.fault.code, event.fault.thread,
            event.fault.time_ns,
        ))
        if event.region not in _unwarned:
            _unwarned[event.region] = monotonic() + _GRACE
            safemmap_event_wake()


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
    ever) are over. Return the regions of which to warn, and how
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
        _fault(offset, address, code, thread, time_ns, origin)
        for origin, _, offset, address, code, thread, time_ns in taken
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
    global _lost, _dropped_before, _watching, _forked_at, _untold
    _forked_at = time_ns()
    _untold = None
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
