# Faults in foreign mappings, under `enable`.

cdef bint _raises_in_process = False       # on_fault="raise"
# By device and inode, oldest first. The oldest make room for new ones, once their
# warning is given.
cdef dict _faulted_files = {}
# Faults that no exception has reported: for a thread, the offset in the file and its
# name.
cdef dict _untold_files = {}
# When the last exception was made for a thread, on CLOCK_REALTIME, in nanoseconds. It
# reports all faults of the thread until then. Kept as long as their events may be in
# the core's queue.
cdef dict _told_until = {}
cdef int64_t _last_told = 0     # the latest of these times
# Whether there is to be a thread that checks the handler.
cdef bint _checking = False

# The capacity of both dictionaries of files.
cdef Py_ssize_t _MOST_FILES = 1024


cdef int64_t _now() noexcept:
    cdef timespec time

    clock_gettime(CLOCK_REALTIME, &time)
    return <int64_t>time.tv_sec * 1000000000 + time.tv_nsec


@cython.final
cdef class _FaultedFile:
    """A file with a fault, of which there is one warning."""

    cdef safemmap_event event   # the first fault
    cdef object path

    cdef int warn_unasked(self) except -1:
        """On the thread that warns."""
        cdef pid_t thread = self.event.fault.thread

        try:
            what = describe_file_fault(
                self.path, self.event.file.offset, self.event.file.size,
                stored=self.event.store,
                damaged=_errno_of(self.event.fault.code) == EHWPOISON,
            )
            PyErr_WarnExplicitObject(
                FaultWarning, f"{_thread_name(thread)}: {what}", "safemmap", 1,
                "safemmap", NULL,
            )
        except BaseException as error:
            _raise_in_thread(thread, error, self)
        return 0


cdef object _path_of(const safemmap_event *event):
    """As the kernel names it, or None."""
    cdef char path[PATH_MAX]
    cdef ssize_t size = safemmap_file_path(event.file.id, path, sizeof(path))

    if size < 0:
        return None
    name = PyUnicode_DecodeFSDefaultAndSize(path, size)
    return f"{name} (deleted)" if event.file.deleted else name


cdef object _file_error(const safemmap_event *event):
    """The exception for a fault in no region, or None where there is only a warning.
    (Nothing here calls any Python code, in which an exception could come up that is on
    its way to this thread.)"""
    global _last_told
    cdef BusError exception

    if not _raises_in_process:
        return None
    exception = _bus_error(
        _errno_of(event.fault.code), event.file.offset, event.fault.address,
        event.fault.code, "store" if event.store else "load", 0, 0,
    )
    exception.poisoned = True
    exception.needed = event.file.offset + 1
    exception.file_size = event.file.size
    _name_origin(exception, _origin(None, -1, _path_of(event), False))
    _last_told = _now()
    _told_until[event.fault.thread] = _last_told
    _untold_files.pop(event.fault.thread, None)
    return exception


cdef _Origin _note_file(const safemmap_event *event):
    """Note the file of an event from the queue, and return its origin. (Calls no Python
    code either.)"""
    cdef _FaultedFile file
    cdef tuple key = (event.file.device, event.file.inode)
    cdef object path = _path_of(event)

    if key not in _faulted_files:
        _make_room()
        file = _faulted_files[key] = _FaultedFile.__new__(_FaultedFile)
        file.event = event[0]
        file.path = path
        _warn_later(key)
    if (
        _raises_in_process
        and event.fault.time_ns > _told_until.get(event.fault.thread, 0)
        and len(_untold_files) < _MOST_FILES
    ):
        _untold_files[event.fault.thread] = event.file.offset, path
    return _origin(None, -1, path, False)


cdef int _make_room() except -1:
    cdef object key

    if len(_faulted_files) < _MOST_FILES:
        return 0
    for key in _faulted_files:
        if key not in _unwarned:
            break
    else:
        return 0
    del _faulted_files[key]
    return 0


cdef void _forget_told(int64_t then) noexcept:
    """Called when no event from before that time is in the queue any more."""
    if _last_told < then:
        PyDict_Clear(_told_until)


# ---- For _process.py -----------------------------------------------------

def enable_process(bint raises):
    """Protect mappings of files that are no region."""
    global _raises_in_process
    cdef int error

    _ensure_handler()
    if raises:
        _start_interrupting()
    error = safemmap_process_enable()
    if error < 0:
        raise OSError(
            -error,
            "to protect the whole process takes /proc/self/maps and memory for zeroed "
            f"pages: {os.strerror(-error)}",
        )
    _raises_in_process = raises


def disable_process():
    """End that: faults in such memory are forwarded again."""
    safemmap_process_disable()


def process_is_enabled():
    """Whether such memory is protected."""
    return safemmap_process_enabled()


def start_checks():
    """Have the core check the handler on a thread of its own."""
    global _checking
    cdef int error

    _checking = True
    with nogil:
        error = safemmap_checks_start()
    if error < 0:
        raise OSError(-error, f"no thread to check the handler: {os.strerror(-error)}")


def stop_checks():
    """Returns when that thread is gone."""
    global _checking

    _checking = False
    pause_checks()


def pause_checks():
    """Likewise, before a fork."""
    with nogil:
        safemmap_checks_stop()


def resume_checks():
    """After it. That no more threads are to be had is no error here."""
    if _checking:
        with nogil:
            safemmap_checks_start()
