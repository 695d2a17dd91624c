# The SIGBUS handler: installing it when needed, the functions behind handler.py, and
# the end of the interpreter.

cdef bint _handler_allowed = switch("SAFEMMAP_HANDLER", True)
cdef bint _displaced_told = False

# The core's operations go through system calls then, those of extension modules too.
if not _handler_allowed:
    safemmap_uninstall()


cdef bint _ensure_handler() except -1:
    """Install the handler, or put it back on top. True: displaced too often."""
    cdef int error

    if not _handler_allowed:
        raise RuntimeError(
            "this needs the SIGBUS handler, which SAFEMMAP_HANDLER=0 or "
            "handler.uninstall() forbids"
        )
    error = safemmap_install()
    if error == -EBUSY:
        _warn_displaced()
    elif error < 0:
        raise OSError(-error, f"{_why_not(GUARDED)}: {os.strerror(-error)}")
    return error == -EBUSY


cdef bint _can_be_guarded() except -1:
    """Whether the handler can be installed, or could be before it was displaced too
    often. (A sandbox may forbid it.)"""
    cdef int error = safemmap_install()

    if error == -EBUSY:
        _warn_displaced()
    return error == 0 or error == -EBUSY


cdef int _ensure_handler_for_buffer() except -1:
    if _ensure_handler():
        raise BufferError(
            "other SIGBUS handlers have taken the place of safemmap's, and without "
            "it a buffer cannot be protected; slices, read() and readinto() copy"
        )
    return 0


cdef int _warn_displaced() except -1:
    """Warn once that others have displaced the handler too often."""
    global _displaced_told

    if not _displaced_told:
        _displaced_told = True
        PyErr_WarnEx(
            RuntimeWarning,
            b"other SIGBUS handlers have taken the place of safemmap's again and again:"
            b" operations go by way of the kernel from now on, which is slower, and no"
            b" more views are handed out; python -m safemmap doctor tells who it is",
            1,
        )
    return 0


# ---- For handler.py ------------------------------------------------------

def handler_counts():
    """Faults that ended an operation, faults of views, forwarded signals, and how often
    the handler was installed."""
    cdef safemmap_counts counts

    safemmap_get_counts(&counts)
    return counts.recovered, counts.overlaid, counts.forwarded, counts.installs


def handlers():
    """The handlers that get a SIGBUS, one after the other: whether it is ours, and the
    file and the name of its function, as the dynamic linker knows them (both may be
    None); for SIG_DFL and SIG_IGN None and that name."""
    cdef safemmap_action actions[128]
    cdef Dl_info info
    cdef size_t count = min(<size_t>128, safemmap_get_actions(actions, 128)), i

    found = []
    for i in range(count):
        if actions[i].function == 0:
            name = "SIG_IGN" if actions[i].ignores else "SIG_DFL"
            found.append((False, None, name))
        elif dladdr(<void *>actions[i].function, &info) == 0:
            found.append((actions[i].ours, None, None))
        else:
            found.append((
                actions[i].ours,
                None if info.dli_fname == NULL else os.fsdecode(info.dli_fname),
                None if info.dli_sname == NULL else os.fsdecode(info.dli_sname),
            ))
    return found


def install_handler():
    """Install the handler, or put it back on top; 0 or a negative errno."""
    global _handler_allowed
    cdef int error

    if os.environ.get("SAFEMMAP_HANDLER") == "0":
        raise RuntimeError("SAFEMMAP_HANDLER=0 forbids the SIGBUS handler")
    error = safemmap_install()
    if error == 0:
        _handler_allowed = True
    return error


def uninstall_handler():
    """Restore the previous handler; 0 or a negative errno."""
    global _handler_allowed
    # Operations that keep the GIL are over then.
    cdef int error = safemmap_alone(_uninstall, NULL)

    if error == 0:
        _handler_allowed = False
    return error


cdef int _uninstall(void *unused) noexcept:
    return safemmap_uninstall() if _under_way == 0 else -EADDRINUSE


# ---- At exit -------------------------------------------------------------
# The interpreter's last step with signals is to disable faulthandler, which restores
# the handler that it found when it was enabled, and not the present one. Threads
# without the GIL, and C code that runs even later, may still touch our mappings. Next
# the interpreter clears its own dict, and with it this capsule, whose destructor puts
# us back on top.

cdef void _put_back_on_top(object capsule) noexcept:
    cdef safemmap_counts counts

    safemmap_watcher_leave()
    safemmap_get_counts(&counts)
    if _handler_allowed and counts.installs > 0:
        safemmap_install()


(<object>PyInterpreterState_GetDict(PyInterpreterState_Get()))["safemmap"] = (
    PyCapsule_New(&_handler_allowed, NULL, _put_back_on_top)
)
