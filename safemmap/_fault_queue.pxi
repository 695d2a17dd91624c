# The faults of views on their way from the signal handler to the program: to
# `faults`, or to a warning if the program does not ask.

cdef dict _live = {}            # the regions, by their ids
cdef dict _former = {}          # likewise the last that were taken out by `reset`
cdef list _recent = []          # faults that `faults` has not returned yet
cdef dict _unwarned = {}        # when to warn of which region, on time.monotonic()
cdef unsigned long _lost = 0    # faults that fell out of _recent
cdef unsigned long _dropped_before = 0  # by the core, when `faults` was called last
cdef unsigned long _dropped_known = 0   # likewise, when the queue was emptied last

# The capacity of _recent.
cdef Py_ssize_t _CAPACITY = 1024
# And of _former.
cdef Py_ssize_t _MOST_FORMER = 64
# Seconds from a fault to the warning: time for a program that asks by itself.
cdef double _GRACE = 0.1

# Where warnings are caught and filtered by contexts (as free-threaded versions do from
# 3.14 on): that of a thread which had the news, while a warning is to come.
cdef object _context = None
cdef bint _FILTERS_BY_CONTEXT = getattr(sys.flags, "context_aware_warnings", 0)


cdef _Origin _NO_ORIGIN = _origin(None, -1, None, False)

# In a critical section on this alone, what these variables hold changes, and that of
# _process.pxi.
cdef object _accounts = object()
# Those of the parents of this process, in case that this thread has forked within.
cdef list _accounts_of_parents = []

# The code that empties the core's queue calls no Python function, so that a pending
# exception of this thread (`views="interrupt"`, Ctrl-C) cannot be raised in the middle.
cdef int _drain() except -1:
    """Empty the core's queue, on any thread."""
    cdef safemmap_section section
    safemmap_enter(&section, <PyObject *>_accounts)

    return _drain_held()


cdef int _drain_held() except -1:
    """The same in a section on `_accounts`."""
    global _lost, _dropped_known
    cdef safemmap_event event
    cdef unsigned long dropped
    cdef Region region
    cdef _Origin origin
    cdef object offset, name
    cdef int64_t began = 0 if _last_told == 0 else _now()

    while safemmap_event_take(&event):
        region = _live.get(event.region)
        name = None
        if event.region == 0:
            origin, offset = _note_file(&event), event.file.offset
        elif region is not None:
            origin, offset = region.origin, region.offset_of(event.fault.address)
            if not region.is_awaited():
                _warn_later(event.region)
        else:  # of an extension module
            origin, offset = _NO_ORIGIN, event.offset
            name = _text_of(event.name)
        if len(_recent) >= _CAPACITY:
            del _recent[0]
            _lost += 1
        _recent.append((
            origin, event.region, offset, event.fault.address, event.fault.code,
            event.fault.thread, event.fault.time_ns, name,
        ))
    dropped = safemmap_events_dropped()
    if dropped != _dropped_known:
        _dropped_known = dropped
        for region in list(_live.values()):
            region.warn_later()
    _forget_told(began)
    if _unwarned:
        safemmap_watcher_start(_GRACE)  # there may have been no memory for one before
    return 0


# ---- Warnings ------------------------------------------------------------

cdef int _warn_later(object id) except -1:
    """Schedule the warning for a region, by its id, or for a file."""
    if id not in _unwarned:
        _unwarned[id] = monotonic() + _GRACE
        safemmap_watcher_start(_GRACE)
    return 0


cdef void _news() noexcept:
    """Called when there may be events. (See struct safemmap_watched.)"""
    cdef double next_due

    _note_context()
    _drain()
    next_due = _next_due()
    if next_due >= 0:
        safemmap_watcher_start(next_due)


cdef double _warn_of_due() noexcept:
    """Called on the watcher's thread. (See struct safemmap_watched.)"""
    cdef list due
    cdef object context

    _drain()
    due = _take_due()
    context = _take_context()
    if context is not None:
        PyContext_Enter(context)
    for id in due:
        _warn_of(id)
    if context is not None:
        PyContext_Exit(context)
    _forget_this_thread()
    return _next_due()


cdef int _note_context() except -1:
    """Warnings that are scheduled now go by that of this thread."""
    if _FILTERS_BY_CONTEXT:
        _keep_context(PyContext_CopyCurrent())
    return 0


cdef int _keep_context(object context) except -1:
    global _context
    cdef safemmap_section section
    safemmap_enter(&section, <PyObject *>_accounts)

    _context = context
    return 0


cdef object _take_context():
    """None where filters are the same for all."""
    global _context
    cdef safemmap_section section
    safemmap_enter(&section, <PyObject *>_accounts)
    cdef object context = _context

    if not _unwarned:
        _context = None
    return context


cdef list _take_due():
    """The ids whose warnings are due."""
    cdef safemmap_section section
    safemmap_enter(&section, <PyObject *>_accounts)
    cdef double now = monotonic()
    cdef list due = [id for id, when in _unwarned.items() if when <= now]

    for id in due:
        _unwarned.pop(id, None)  # which a collection may have done
    return due


cdef double _next_due():
    """In seconds from now, or a negative number."""
    cdef safemmap_section section
    safemmap_enter(&section, <PyObject *>_accounts)

    if not _unwarned:
        return -1
    return max(0, min(_unwarned.values()) - monotonic())


cdef int _warn_of(object id) except -1:
    cdef Region region = _live.get(id)
    cdef _FaultedFile file = _faulted_files.get(id)

    if region is not None:
        region.warn_unasked()
    if file is not None:
        file.warn_unasked()
    return 0


cdef int _forget_this_thread() except -1:
    """A hook for warnings may have asked threading for the current thread. Before
    Python 3.13 that would be counted for ever."""
    threading = sys.modules.get("threading")
    if sys.version_info < (3, 13) and threading is not None:
        threading._active.pop(get_ident(), None)
    return 0


cdef str _thread_name(native_id):
    """A thread as a reader knows it, by the kernel's id."""
    threading = sys.modules.get("threading")
    for thread in () if threading is None else threading.enumerate():
        if getattr(thread, "native_id", None) == native_id:  # eventlet
            return f"thread {native_id} ({thread.name})"
    return f"thread {native_id}"


cdef safemmap_watched _watched
_watched.news = _news
_watched.warn = _warn_of_due
safemmap_watcher_attend(&_watched)


def _before_fork():
    try:
        from safemmap import _lazy

        _lazy.load_all()
    except Exception:
        pass  # as in there
    finally:  # a signal handler may raise
        safemmap_watcher_hold()


def _after_fork_in_parent():
    safemmap_watcher_release()
    if _unwarned:
        # Not at once: os.fork() is yet to count threads, and to warn of them.
        safemmap_watcher_ask()


def _after_fork_in_child():
    """Drops the faults of the parent's views."""
    global _lost, _dropped_before, _dropped_known
    global _forked_at, _untold, _accounts, _context
    if SAFEMMAP_MAY_LACK_GIL:
        # Another thread may just have got hold of it, and is not here.
        _accounts_of_parents.append(_accounts)
        _accounts = object()
    _forked_at = _now()
    _untold = None
    _untold_files.clear()
    _told_until.clear()
    _recent.clear()
    _unwarned.clear()
    _lost = _dropped_before = _dropped_known = 0
    _context = None
    safemmap_watcher_attend(&_watched)
    safemmap_watcher_ask()  # for what has faulted in hooks of others since the fork


def _at_exit():
    """Gives the warnings that are due, and stops interrupting: threads without the GIL
    may touch mapped memory until the end of the process."""
    safemmap_interrupt_stop()
    safemmap_watcher_hold()
    _drain()
    for id in list(_unwarned):
        _warn_of(id)


# (At import, and not with the first view, so that making a view has no side effect that
# a program can observe.)
os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
atexit.register(_at_exit)


# ---- For _faults.py ------------------------------------------------------

def region_count():
    """How many regions are registered."""
    return len(_live)


def take_faults(kind):
    """The faults since the last call, in a list of this kind, whose `dropped` says how
    many were lost."""
    cdef list taken = _take_recent()
    cdef Region region

    try:
        found = kind([
            _fault(offset, address, code, thread, time_ns, origin, name)
            for origin, _, offset, address, code, thread, time_ns, name in taken
        ])
        PyErr_CheckSignals()  # what a handler raises later loses the faults
    except BaseException:
        # An exception that was on its way to this thread, or of a signal handler.
        _give_back(taken)
        safemmap_event_fd_set()
        raise
    _untold_files.clear()
    for entry in taken:
        region = _live.get(entry[1])
        if region is not None:
            safemmap_set_flag(&region.reported, True)
    found.dropped = _take_lost()
    # In this order: a fault that comes later makes it readable again.
    safemmap_event_fd_clear()
    _announce_untaken()
    return found


cdef list _take_recent():
    """Calls no Python code: several threads must take different faults."""
    cdef safemmap_section section
    safemmap_enter(&section, <PyObject *>_accounts)
    cdef list taken

    _drain_held()
    taken = _recent.copy()
    _recent.clear()
    return taken


cdef int _give_back(list taken) except -1:
    cdef safemmap_section section
    safemmap_enter(&section, <PyObject *>_accounts)

    _recent[:0] = taken
    return 0


cdef unsigned long _take_lost() noexcept:
    global _lost, _dropped_before
    cdef safemmap_section section
    safemmap_enter(&section, <PyObject *>_accounts)
    cdef unsigned long dropped = safemmap_events_dropped()
    cdef unsigned long lost = dropped - _dropped_before + _lost

    _dropped_before = dropped
    _lost = 0
    return lost


cdef int _announce_untaken() except -1:
    """Make the eventfd readable if there are faults to take."""
    _drain()
    if _recent:
        safemmap_event_fd_set()
    return 0


def event_fd():
    """The eventfd that every fault makes readable."""
    cdef int fd = safemmap_event_fd()

    if fd < 0:
        raise _os_error(-fd)
    _announce_untaken()  # what came before it was there
    return fd
