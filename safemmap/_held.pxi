# Somebody else's buffer, protected while it is held.

from safemmap import _maps


@cython.no_gc_clear
@cython.final
cdef class Held:
    """The buffer of `obj`, exported, and its pages registered for `owner`."""

    cdef Py_buffer view
    cdef bint exported
    cdef readonly Region region  # None where no page of it can be lost

    def __cinit__(self, obj, owner, bint interrupts):
        if not PyObject_CheckBuffer(obj):
            raise TypeError(
                f"protect takes what exports a buffer, and {type(obj).__name__!r} does "
                "not; shared memory has one as .buf, a file of pyarrow's as "
                ".read_buffer()"
            )
        PyObject_GetBuffer(obj, &self.view, PyBUF_STRIDES)
        self.exported = True
        if self.view.len > 0:
            self.register(owner, interrupts)

    cdef int register(self, object owner, bint interrupts) except -1:
        cdef char *low
        cdef char *high
        cdef Region region

        self.extent(&low, &high)
        _ensure_handler()
        while True:
            behind = _maps.file_behind(<uintptr_t>low, <uintptr_t>high)
            # What another region has replaced looks like memory of the process's own:
            # only when this one is registered, and not refused for that, it is told.
            known = behind if behind is not None else _maps.PRIVATE
            if known.page_size > <Py_ssize_t>sysconf(_SC_PAGESIZE):
                raise BufferError(
                    "this buffer is made of huge pages, which cannot be put back when "
                    "the protection ends; map the file with safemmap.mmap"
                )
            region = Region.__new__(Region)
            region.describe(low, high - low, known.page_size, known.protection)
            region.c.put_back = True
            region.add(owner, interrupts)
            now = _maps.file_behind(<uintptr_t>low, <uintptr_t>high)
            if now is not None and now == behind:
                region.lent = 1
                self.region = region
                return 0
            region.remove()
            region.forget()
            if now is None:
                return 0

    cdef void extent(self, char **ret_low, char **ret_high) noexcept:
        """From the lowest byte of any element to behind the highest."""
        cdef Py_ssize_t reach
        cdef int i

        ret_low[0] = ret_high[0] = <char *>self.view.buf
        if self.view.strides == NULL:  # as ctypes has it: in one piece
            ret_high[0] += self.view.len
            return
        for i in range(self.view.ndim):
            reach = self.view.strides[i] * (self.view.shape[i] - 1)
            if reach < 0:
                ret_low[0] += reach
            else:
                ret_high[0] += reach
        ret_high[0] += self.view.itemsize

    @property
    def faulted(self):
        return self.region is not None and self.region.poisoned()

    @property
    def fault(self):
        return self.region.first_fault(self.region.owner()) if self.faulted else None

    def error(self, operation):
        """What to raise for the fault that it has met."""
        cdef Region region = self.region

        region.tell()
        return region.error_at(region.c.fault.address, region.c.fault.code, operation)

    def warn_unreported(self, name):
        """Not to be lost with the protection."""
        if self.faulted and not self.region.reported:
            self.region.reported = True
            self.region.warn(name)

    def release(self):
        """End the protection, and give the buffer back."""
        if self.region is not None:
            self.region.take_back()
            self.region.remove()
            self.region.forget()
            self.region = None
        if self.exported:
            self.exported = False
            PyBuffer_Release(&self.view)

    def __dealloc__(self):
        self.release()
