# What becomes of views where the program does not say: `views="auto"`.

# Whether nobody can be counted on to ask: the program does not know that its mappings
# are of this library, and has to be told by an exception or by its exit status.
cdef bint _unattended = False
cdef object _stand_in = None    # see _stand_in.py
cdef object _views_of_process = os.environ.get("SAFEMMAP_VIEWS")

if _views_of_process is not None:
    _choice("SAFEMMAP_VIEWS", _views_of_process, _VIEWS)


cdef Views _views(object named) except *:
    """Those named. "auto": what ``SAFEMMAP_VIEWS`` says, or else interrupt where this
    library has taken the place of the standard module."""
    if named != "auto":
        return <Views>_choice("views", named, _VIEWS)
    if _views_of_process is not None:
        watch_exit_status()
        return <Views>_VIEWS[_views_of_process]
    module = sys.modules.get("mmap")
    if module is not None and module in (_stand_in, sys.modules.get("safemmap")):
        watch_exit_status()
        return INTERRUPT
    return DEFERRED


def set_stand_in(module):
    """What has taken the place of the standard module."""
    global _stand_in

    _stand_in = module


def watch_exit_status():
    """From now on the process does not end with status 0 after a fault that no
    exception has reported."""
    global _unattended

    if not _unattended:
        _unattended = True
        from safemmap import _exit_status

        _exit_status.watch()
