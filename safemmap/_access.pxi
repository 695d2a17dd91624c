# The scope in which a view of a mapping is handed to other code.

# Its memoryview refers to it: cleared by the collector, it could not say to which
# mapping the buffer goes back.
@cython.no_gc_clear
@cython.final
cdef class Access:
    """What `mmap.access` returns: a context manager for a range of a mapping."""

    cdef mmap mapping
    cdef Py_ssize_t start
    cdef Py_ssize_t stop
    cdef Py_ssize_t exports     # memoryviews of this range that are still out
    cdef bint writable
    cdef bint entered
    cdef unsigned long resets   # of the mapping, when this was entered
    cdef object view

    def __enter__(self):
        if self.mapping is None:
            raise RuntimeError("an access scope is made by mmap.access()")
        if self.entered:
            raise RuntimeError("this access scope is entered already")
        # (The file may be too short already, or the very next moment: it is looked at
        # in the end.)
        self.mapping.check_data("access")
        self.entered = True
        self.resets = self.mapping.resets
        try:
            self.view = memoryview(self)
        except BaseException:
            self.entered = False
            raise
        self.mapping.scopes += 1
        return self.view

    def __exit__(self, exc_type, exc_value, traceback, /):
        if not self.entered:
            raise RuntimeError("this access scope is not entered")
        self.entered = False
        self.mapping.scopes -= 1
        view, self.view = self.view, None
        try:
            view.release()
        except BufferError:
            pass  # told below, together with what was made from it
        if self.mapping.poisoned() and self.mapping.has_told(exc_value):
            self.mapping.region.tell()
            return
        self.mapping.check_data("access")
        if self.resets != self.mapping.resets:
            # Which it can only be when it was poisoned.
            raise self.mapping.poison_error(
                EFAULT, self.mapping.reset_fault, BUS_ADRERR, "access"
            )
        self.mapping.check_file("access", self.start, self.stop)
        if self.exports > 0 and exc_value is None:
            # (An exception under way holds on to the frames, and they to the view.)
            raise BufferError(
                f"a view of bytes {self.start} to {self.stop} outlives its access "
                "scope, and what it reads from now on is not checked any more: delete "
                "what was made from it (an array, a slice) before the scope ends"
            )

    def __getbuffer__(self, Py_buffer *view, int flags):
        cdef mmap mapping = self.mapping

        if not self.entered:
            raise BufferError("this access scope is not entered")
        mapping.check_data("access")
        if self.stop > mapping.length:
            raise ValueError("the mapping was resized and is too short for this access")
        mapping.lend(view, self, self.start, self.stop, not self.writable, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.exports -= 1
        self.mapping.take_back()
