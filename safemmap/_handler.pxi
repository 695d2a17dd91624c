# What handler.py says and does about the SIGBUS handler.

def handler_counts():
    """Faults that ended an operation, faults of views, signals that went to others, and
    how often the handler was put in place."""
    cdef safemmap_counts counts

    safemmap_get_counts(&counts)
    return counts.recovered, counts.overlaid, counts.forwarded, counts.installs


def handlers():
    """Who gets a SIGBUS, one after the other: whether it is this library, and what the
    dynamic linker knows of the function, as its file and its name (which may be None
    both), or the name of the action alone."""
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
    """Put it in place, or back on top; 0 or a negative errno."""
    global _handler_allowed
    cdef int error

    if os.environ.get("SAFEMMAP_HANDLER") == "0":
        raise RuntimeError("SAFEMMAP_HANDLER=0 forbids the SIGBUS handler")
    error = safemmap_install()
    if error == 0:
        _handler_allowed = True
    return error


def uninstall_handler():
    """Put back what was there before; 0 or a negative errno."""
    global _handler_allowed
    cdef int error = -EADDRINUSE if _under_way > 0 else safemmap_uninstall()

    if error == 0:
        _handler_allowed = False
    return error
