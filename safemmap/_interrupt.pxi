# The exception for a thread that faults in foreign code (`views="interrupt"`).
# _interrupt.c decides when and where it is raised.

cdef extern from "_interrupt.h":
    ctypedef PyObject *safemmap_make_error(
        const safemmap_event *event
    ) except? NULL
    int safemmap_interrupt_start(object error, safemmap_make_error *make) except -1
    void safemmap_interrupt_stop()
    void safemmap_interrupt_cancel(uint64_t region, pid_t thread) noexcept
    bint safemmap_interrupt_is_too_late()


cdef PyObject *_make_error(const safemmap_event *event) except? NULL:
    cdef Region region = _live.get(event.region) or _former.get(event.region)

    if event.region == 0:
        error = _file_error(event)
    elif region is not None:
        safemmap_set_flag(&region.told, True)
        error = region.error_at(event.fault.address, event.fault.code, "view")
    else:
        error = None
    if error is None:
        return NULL
    Py_INCREF(error)
    return <PyObject *>error


# Which thread gets the exception is found by looking at the states of others, which
# takes the GIL. A build that can do without turns it on for good, and warns, when it
# imports a module that does not declare that it does without, too.
cdef bint _get_gil() except -1:
    """False: PYTHON_GIL=0 or -X gil=0 forbids it."""
    if not SAFEMMAP_MAY_LACK_GIL:
        return True
    if not sys._is_gil_enabled():
        from safemmap import _needs_gil
    return sys._is_gil_enabled()


cdef int _need_gil() except -1:
    if not _get_gil():
        raise RuntimeError(
            "to interrupt a thread that faults (views=\"interrupt\", enable()) needs "
            "the GIL, which PYTHON_GIL=0 or -X gil=0 forbids"
        )
    return 0


cdef bint _interrupting = False


cdef int _start_interrupting() except -1:
    """Before anything that is to interrupt is registered with the core."""
    global _interrupting

    if _interrupting:
        return 0
    _need_gil()
    safemmap_interrupt_start(BusError, _make_error)
    _interrupting = True
    return 0


# ---- From another thread --------------------------------------------------

@cython.final
cdef class _Instance:
    """The `__new__` of a class that returns a prepared instance, once, and lets go of
    it: only the collector frees the class, and the instance's traceback holds much."""

    cdef object instance

    def __call__(self, cls):
        instance, self.instance = self.instance, None
        return instance


cdef object _raising(object error):
    """A class whose instance is `error`: an asynchronous exception must be a class."""
    cdef _Instance instance = _Instance.__new__(_Instance)

    instance.instance = error
    kind = type(error)
    return type(kind.__name__, (kind,), {
        "__new__": staticmethod(instance), "__module__": kind.__module__
    })


cdef struct _Target:
    PyInterpreterState *interpreter
    pid_t native_id
    unsigned long thread_id     # 0: both have an exception pending


cdef int _raise_in_thread(pid_t native_id, object error, object where) except -1:
    """Raise an error that cannot be raised here as an asynchronous exception of that
    thread, or of the main thread if Python does not know it. If both have one already,
    or the interpreter is finalizing, sys.unraisablehook gets it, with `where`; and so
    it does where memory was lacking here, which is no error of that thread."""
    cdef _Target target

    if isinstance(error, MemoryError) or safemmap_is_finalizing():
        return _unraisable(error, where)
    target.interpreter = PyInterpreterState_Get()
    target.native_id = native_id
    target.thread_id = 0
    safemmap_alone(_find_thread, &target)
    if target.thread_id == 0:
        return _unraisable(error, where)
    raising = _raising(error)
    PyThreadState_SetAsyncExc(target.thread_id, <PyObject *>raising)
    return 0


cdef int _find_thread(void *argument) noexcept:
    cdef _Target *target = <_Target *>argument
    cdef PyThreadState *state = PyInterpreterState_ThreadHead(target.interpreter)

    while state != NULL:
        if state.async_exc == NULL and (
            state.native_thread_id == <unsigned long>target.native_id
            or (
                target.thread_id == 0
                and state.native_thread_id == <unsigned long>getpid()
            )
        ):
            target.thread_id = state.thread_id
        state = PyThreadState_Next(state)
    return 0
