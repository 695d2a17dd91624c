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
        cdef char *low
        cdef char *high
        cdef int i
        cdef Region region

        if not PyObject_CheckBuffer(obj):
            raise TypeError(
                f"protect takes what exports a buffer, and {type(obj).__name__!r} does "
                "not; shared memory has one as .buf, a file of pyarrow's as "
                ".read_buffer()"
            )
        PyObject_GetBuffer(obj, &self.view, PyBUF_STRIDES)
        self.exported = True
        if self.view.len == 0:
            return
        low = high = <char *>self.view.buf
        for i in range(self.view.ndim):
            if self.view.strides[i] < 0:
                low += self.view.strides[i] * (self.view.shape[i] - 1)
            else:
                high += self.view.strides[i] * (self.view.shape[i] - 1)
        high += self.view.itemsize
        backing = _maps.file_behind(<uintptr_t>low, <uintptr_t>high)
        if backing is None:
            return
        _ensure_handler()
        region = Region.__new__(Region)
        region.describe(low, high - low, backing.page_size, backing.protection)
        region.c.put_back = True
        region.add(owner, interrupts)
        region.lent = 1
        self.region = region

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
            self.region = None
        if self.exported:
            self.exported = False
            PyBuffer_Release(&self.view)

    def __dealloc__(self):
        self.release()
