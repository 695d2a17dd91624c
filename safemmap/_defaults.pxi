# The default of `views=`.

# Whether the program does not know that its mappings are of this library. It never asks
# for faults then, so an exception or the exit status must report them.
cdef bint _unattended = False
cdef object _stand_in = None    # see _stand_in.py
# (Empty, it is unset, as the switches are.)
cdef object _views_of_process = os.environ.get("SAFEMMAP_VIEWS") or None

if _views_of_process is not None:
    _choice("SAFEMMAP_VIEWS", _views_of_process, _VIEWS)


cdef Views _views(object named) except *:
    """The mode of that name. "auto" is the mode in ``SAFEMMAP_VIEWS``; without it,
    "interrupt" if this library has taken the place of the standard module, else
    "deferred"."""
    cdef Views views

    if named == "auto" and _views_of_process is None:
        return _views_by_default()
    if named == "auto":
        watch_exit_status()
        named = _views_of_process
    views = <Views>_choice("views", named, _VIEWS, ("auto",))
    if views == INTERRUPT:
        _need_gil()
    return views


cdef Views _views_by_default() except *:
    module = _imported("mmap")
    if module is not None and (
        module is _stand_in or module is _imported("safemmap")
    ):
        watch_exit_status()
        return INTERRUPT if _get_gil() else DEFERRED
    return DEFERRED


cdef object _imported(str name):
    """The module of that name, or None. (PyImport_GetModule() would ask whether it is
    whole.)"""
    cdef dict modules = <dict>PyImport_GetModuleDict()

    return modules.get(name)


def set_stand_in(module):
    """Set the module that has taken the place of the standard one."""
    global _stand_in

    _stand_in = module


def watch_exit_status():
    """From now on the process does not end with status 0 after a fault that no
    exception has reported."""
    global _unattended
    cdef safemmap_section section
    safemmap_enter(&section, <PyObject *>_accounts)

    if not _unattended:
        _unattended = True
        from safemmap import _exit_status

        _exit_status.watch()
