# What the standard class of the running Python does where its releases differ: asked of
# the class itself, since patch releases have changed it, too.

cdef bint _SEEK_RETURNS         # the new position
cdef bint _PARSES_FIRST         # arguments, and only then looks whether it is closed
cdef bint _VALUE_FIRST          # what is assigned, and only then the index
cdef bint _EXIT_TAKES_THREE     # arguments, and no other number of them
cdef bint _KEEPS_ANONYMOUS      # shared memory from growing
cdef bint _SIZES_ANONYMOUS      # memory, which has no file
cdef bint _FINDS_INSIDE         # nothing where the start lies beyond the end
cdef bint _FLUSH_TAKES_NONE     # for the whole length
cdef bint _FLUSHES_THE_REST     # by default, and with -1


cdef bint _raises(object error, object function, tuple arguments) except -1:
    try:
        function(*arguments)
    except error:
        return True
    except Exception:
        return False
    return False


cdef int _ask_the_standard_class() except -1:
    global _SEEK_RETURNS, _PARSES_FIRST, _VALUE_FIRST, _EXIT_TAKES_THREE
    global _KEEPS_ANONYMOUS, _SIZES_ANONYMOUS, _FINDS_INSIDE, _FLUSH_TAKES_NONE
    global _FLUSHES_THE_REST
    from mmap import PAGESIZE, mmap as standard

    m = standard(-1, 1)
    _SEEK_RETURNS = m.seek(0) is not None
    _VALUE_FIRST = _raises(TypeError, m.__setitem__, (1, None))
    _SIZES_ANONYMOUS = not _raises(OSError, m.size, ())
    _FINDS_INSIDE = m.find(b"", 2) == -1
    _FLUSH_TAKES_NONE = not _raises(TypeError, m.flush, (0, None))
    _FLUSHES_THE_REST = not _raises(ValueError, m.flush, (0, -1))
    _KEEPS_ANONYMOUS = _raises(ValueError, m.resize, (PAGESIZE + 1,))
    _EXIT_TAKES_THREE = _raises(TypeError, m.__exit__, ())
    m.close()
    _PARSES_FIRST = _raises(TypeError, m.read, ("",))
    return 0

_ask_the_standard_class()
