# An exception for a thread that runs somebody else's code (`views="interrupt"`).

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
    kind = type(error)
    return type(kind.__name__, (kind,), {
        "__new__": staticmethod(instance), "__module__": kind.__module__
    })


cdef int _raise_in_thread(pid_t native_id, object error, object where) except -1:
    """What cannot be raised here: an asynchronous exception of that thread, or of the
    main one where Python knows no such thread. `where` is for sys.unraisablehook,
    which gets it if both have one already, or the interpreter is at its end."""
    cdef PyThreadState *state
    cdef PyThreadState *target = NULL

    if safemmap_is_finalizing():
        return _unraisable(error, where)
    state = PyInterpreterState_ThreadHead(PyInterpreterState_Get())
    while state != NULL:
        if state.async_exc == NULL and (
            state.native_thread_id == <unsigned long>native_id
            or target == NULL and state.native_thread_id == <unsigned long>getpid()
        ):
            target = state
        state = PyThreadState_Next(state)
    if target == NULL:
        return _unraisable(error, where)
    raising = _raising(error)
    PyThreadState_SetAsyncExc(target.thread_id, <PyObject *>raising)
    return 0
