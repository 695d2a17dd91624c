# What extension modules get that the core does not have: the handler only where
# it is allowed, and raising BusError. _capsule.c has the table of all their functions.

cdef extern from "_capsule.h":
    struct safemmap_own_functions:
        # (`raise` is a word of Cython's.)
        int (*handler_is_allowed)() noexcept nogil
        PyObject *(*raise_error "raise")(
            const safemmap_fault *fault, const volatile void *start, size_t size,
            const char *operation, const char *region
        ) except? NULL
    object safemmap_capsule_new(const safemmap_own_functions *functions)


cdef int _handler_is_allowed() noexcept nogil:
    return _handler_allowed


cdef PyObject *_raise_for_extension(
    const safemmap_fault *fault, const volatile void *start, size_t size,
    const char *operation, const char *region
) except? NULL:
    cdef uintptr_t first = <uintptr_t>start
    cdef BusError exception

    if fault.code == 0:
        raise RuntimeError(
            f"{operation.decode()}: the memory cannot be guarded now, and was not "
            "touched: the SIGBUS handler cannot be installed, others have taken its "
            "place, or this thread blocks the signal"
        )
    exception = _bus_error(
        _errno_of(fault.code), <Py_ssize_t>max(first, fault.address) - first,
        fault.address, fault.code, operation.decode(), 0, size,
    )
    if region != NULL:
        exception.poisoned = True
        _name_origin(exception, _origin_in_region(_text_of(region)))
    raise exception


cdef safemmap_own_functions _own_functions
_own_functions.handler_is_allowed = _handler_is_allowed
_own_functions.raise_error = _raise_for_extension
_C_API = safemmap_capsule_new(&_own_functions)
