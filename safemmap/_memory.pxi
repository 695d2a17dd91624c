# What is mapped, and how an access to it is made and fails.

cdef struct _PinnedRead:
    int error                   # what the operation has returned
    safemmap_fault fault
    Py_ssize_t start
    Py_ssize_t stop
    const char *data            # of the mapping then


# A base class of methods that nobody overrides: they are called directly.

# (What it refers to does not refer to it.)
@cython.no_gc
cdef class _Memory:
    """Mapped memory, and guarded access to it."""

    cdef char *data             # NULL once closed
    cdef Py_ssize_t length
    cdef Py_ssize_t mapped      # bytes: more, where the kernel could not unmap the rest
    cdef Py_ssize_t offset      # of the mapping in the file
    cdef Py_ssize_t exports     # buffers handed out, and bulk operations
    cdef int changes            # under way: see _pin.h
    cdef int fd                 # our duplicate, or -1
    cdef _FileId file           # what is mapped
    cdef int flags
    cdef int prot
    cdef size_t page_size
    cdef Region region          # once a buffer was handed out
    cdef AccessMode mode
    cdef Protection wanted
    cdef Protection granted
    cdef const safemmap_operations *operations  # the way that was granted
    cdef bint trackfd
    cdef bint is_file           # and there is a descriptor to read it by
    cdef _Origin origin         # what errors tell, once there was one or a view

    # ---- Map, remap and unmap --------------------------------------------

    @cython.final
    cdef int map(self, int fileno, Py_ssize_t length, int flags, int prot,
                 int access, Py_ssize_t offset, const struct_stat *known) except -1:
        cdef struct_stat status

        if length < 0:
            raise OverflowError("memory mapped length must be positive")
        if offset < 0:
            raise OverflowError("memory mapped offset must be positive")
        if access != ACCESS_DEFAULT and (
            flags != MAP_SHARED or prot != (PROT_READ | PROT_WRITE)
        ):
            raise ValueError("mmap can't specify both access and flags, prot.")
        if access == ACCESS_READ:
            prot = PROT_READ
        elif access == ACCESS_COPY:
            flags = MAP_PRIVATE
        elif access == ACCESS_DEFAULT:
            if not prot & PROT_WRITE:
                access = ACCESS_READ
            elif not prot & PROT_READ:
                access = ACCESS_WRITE
        elif access != ACCESS_WRITE:
            raise ValueError("mmap invalid access parameter.")
        PySys_Audit("mmap.__new__", "inin", fileno, length, access, offset)

        if fileno == -1:
            flags |= MAP_ANONYMOUS
        else:
            if self.trackfd and self.fd == -1:
                # What is checked is what is mapped, whatever becomes of `fileno`.
                fileno = self.fd = fcntl(fileno, F_DUPFD_CLOEXEC, 0)
                if fileno == -1:
                    raise _os_error(errno)
            if known == NULL and _is_regular(fileno, &status):
                known = &status
            if known != NULL:
                length = _checked_length(known, length, offset)
                self.file = _FileId(known.st_dev, known.st_ino)
            self.is_file = (
                self.fd != -1 and known != NULL and not flags & MAP_ANONYMOUS
            )
        self.length = length
        self.offset = offset
        self.choose_protection(fileno)
        self.flags = flags
        self.prot = prot
        self.mode = <AccessMode>access

        cdef void *data
        with nogil:
            data = c_mmap(NULL, length, prot, flags, fileno, offset)
        if data == MAP_FAILED:
            raise _os_error(errno)
        self.data = <char *>data
        self.mapped = length
        self.page_size = sysconf(_SC_PAGESIZE)
        # Blocks of a disk file may be larger than a page, too.
        if flags & MAP_HUGETLB or (
            known != NULL and known.st_blksize > <long>self.page_size
        ):
            self.page_size = _page_size(fileno, flags)
        return 0

    @cython.final
    cdef int follow(self, Py_ssize_t size) except -1:
        """Resize the mapping to what the owner of the file says that it has now."""
        cdef safemmap_change change
        safemmap_begin(&change, <PyObject *>self, &self.changes)
        cdef struct_stat status
        cdef Region region
        cdef int error

        if size <= 0:
            raise PeerError(EINVAL, f"a mapping cannot be resized to {size} bytes")
        if fstat(self.fd, &status) == -1:
            raise _os_error(errno)
        if status.st_size < self.offset or status.st_size - self.offset < size:
            raise file_too_short(size, self.offset, status.st_size)
        region = self.remap(size, &error)
        try:
            if error != 0:
                raise PeerError(error, os.strerror(error))
            return self.choose_protection(self.fd, again=True)
        finally:
            _forget(region)

    @cython.final
    cdef int resize_both(self, Py_ssize_t size) except -1:
        """A mapping that grows does so first, and one that shrinks last: the file
        decides whether that can be, and to shrink a mapping never fails. Nothing here
        lets go of the GIL: a buffer that was exported meanwhile would be moved away
        under its reader."""
        cdef safemmap_change change
        safemmap_begin(&change, <PyObject *>self, &self.changes)
        cdef Py_ssize_t before = self.length
        cdef Region region = None
        cdef int error = 0, ignored

        if size == 0 and self.fd != -1:
            raise _os_error(EINVAL)  # as mremap(2) has it, before the file is cut
        if size > before or self.fd == -1:
            region = self.remap(size, &error)
        if error == 0 and self.fd != -1:
            if ftruncate(self.fd, self.offset + size) == -1:
                error = errno
                if size > before:
                    self.remap(before, &ignored)
            elif size < before:
                region = self.remap(size, &error)
        try:
            if error != 0:
                raise _os_error(error)
            return self.choose_protection(self.fd, again=True)
        finally:
            _forget(region)

    @cython.final
    cdef Region remap(self, Py_ssize_t size, int *ret_error):
        """Never fails where `size` is smaller than before: memory that the kernel does
        not unmap stays mapped, and is not used any more. Returns as `unregister`."""
        cdef Region region = self.unregister()
        cdef void *data = mremap(self.data, self.mapped, size, MREMAP_MAYMOVE)
        cdef int error = errno

        if data != MAP_FAILED:
            safemmap_set_pointer(&self.data, <char *>data)
            self.mapped = size
        if data != MAP_FAILED or 0 < size <= self.length:
            safemmap_set(&self.length, size)
            error = 0
        ret_error[0] = error
        return region

    @cython.final
    cdef int map_again(self) except -1:
        """Map the same part of the file again, in the place of the poisoned memory:
        code that holds no buffer may have kept the pointer. A spare mapping shows
        beforehand that the file can be mapped; unless there is no room for both."""
        cdef void *spare = c_mmap(
            NULL, self.length, self.prot, self.flags, self.fd, self.offset
        )
        cdef int error = errno

        if spare == MAP_FAILED:
            self.map_again_elsewhere(NULL, error)
        else:
            try:
                error = self.region.renew(self.flags)
            except MemoryError:
                _unmap(<char *>spare, self.length)
                _forget(self.unregister())
                raise
            if error == 0:
                _unmap(<char *>spare, self.length)
            else:
                self.map_again_elsewhere(<char *>spare, 0)
        self.choose_protection(self.fd, again=True)
        return 0

    @cython.final
    cdef int map_again_elsewhere(self, char *spare, int error) except -1:
        """Where the memory's own place cannot be kept: the kernel does not say what
        lies there now. Or without a spare mapping, as this error tells: the table of
        mappings may be full, and to unmap the memory first makes room in it."""
        cdef Region region
        cdef void *data

        if spare == NULL and error != ENOMEM:
            raise _os_error(error)
        region = self.unregister()
        if spare == NULL:
            _unmap(self.data, self.mapped)
            data = c_mmap(
                self.data, self.length, self.prot, self.flags, self.fd, self.offset
            )
            error = errno
            spare = NULL if data == MAP_FAILED else <char *>data
        safemmap_set_pointer(&self.data, spare)
        self.mapped = self.length
        region.retire()
        if spare == NULL:
            raise _os_error(error)
        return 0

    @cython.final
    cdef void release(self) noexcept:
        if self.data != NULL or self.fd != -1:
            self.release_held()

    @cython.final
    cdef void release_held(self) noexcept:
        cdef safemmap_change change
        safemmap_begin(&change, <PyObject *>self, &self.changes)
        cdef char *data = self.data
        cdef Py_ssize_t size = self.mapped
        # (trackfd is 0, and fd too, if the constructor failed early.)
        cdef int fd = self.fd if self.trackfd else -1
        cdef Region region = self.unregister()

        safemmap_set_pointer(&self.data, NULL)
        self.fd = -1
        if self.origin is not None:
            # (`faults` may be asked for this one's later.)
            if region is not None and region.poisoned():
                safemmap_set_flag(&self.origin.told, True)
            self.origin.settle()
        with nogil:
            if fd != -1:
                close(fd)
            if data != NULL:
                _unmap(data, size)
        _forget(region)

    @cython.final
    cdef Region unregister(self):
        """Returns the region, or None. The caller has it forgotten at the very end of
        the change: other threads may use the mapping then."""
        cdef Region region = self.region

        if region is not None:
            self.region = None
            region.remove()
        return region

    # ---- Checks ----------------------------------------------------------

    cdef inline int check_open(self) except -1:
        if safemmap_get_pointer(&self.data) == NULL:
            raise ValueError("mmap closed or invalid")
        return 0

    cdef inline int check_open_first(self) except -1:
        """Before the arguments are parsed, if the standard class does so."""
        if not _PARSES_FIRST:
            self.check_open()
        return 0

    cdef inline bint poisoned(self) noexcept:
        return self.region is not None and self.region.poisoned()

    cdef inline int check_data(self, str operation) except -1:
        """Raise if the mapping is closed or poisoned."""
        self.check_open()
        if self.poisoned():
            self.fail_poisoned(operation)
        return 0

    cdef inline int check_writable(self) except -1:
        if self.mode == ACCESS_READ:
            raise TypeError("mmap can't modify a readonly memory map.")
        return 0

    # ---- Protection ------------------------------------------------------

    @cython.final
    cdef int choose_protection(self, int fileno, bint again=False) except -1:
        """Called before the first access to the file `fileno`, and `again` when its
        size or its seals may have changed."""
        cdef Protection choice = self.wanted

        if again and choice == SEALED:
            return 0  # as it was, and the file reaches as far as it has to
        # (Without a descriptor of our own, `fileno` may be another file by the time
        # that we map it.)
        if choice == AUTO and self.trackfd and _cannot_shrink(
            fileno, &self.file, self.offset, self.length
        ):
            choice = SEALED
        elif choice == SEALED:
            _ensure_sealed(fileno, &self.file, self.offset, self.length)
        elif choice == AUTO:
            choice = GUARDED if _handler_allowed else KERNEL
        if choice == GUARDED and fileno != -1 and not again:
            # From here on the handler is on top.
            if self.wanted == GUARDED:
                _ensure_handler()
            elif not _can_be_guarded():
                choice = KERNEL
        if choice == KERNEL and _is_secret(fileno):
            raise OSError(
                EOPNOTSUPP,
                "memfd_secret(2) keeps its memory from the kernel, too, which could "
                'copy nothing; use protection="guarded"'
            )
        self.granted = choice
        self.operations = (
            &safemmap_plain if choice == SEALED
            else &safemmap_kernel if choice == KERNEL
            else &safemmap_guarded
        )
        return 0

    # ---- Guarded access --------------------------------------------------

    @cython.final
    cdef int fail(self, int error, const safemmap_fault *fault, str operation,
                  Py_ssize_t start, Py_ssize_t stop,
                  const void *buffer=NULL) except -1:
        """Raise the error that an operation over `start` to `stop` returned; or, if it
        returned 0, that a view on another thread has poisoned the mapping meanwhile.
        Warn if it returned 1: done, but through system calls.

        `buffer` is the caller's memory in the operation.
        """
        cdef uintptr_t data = <uintptr_t>self.data
        cdef Py_ssize_t length = self.length
        cdef BusError exception
        cdef bint in_buffer

        if error > 0:
            _warn_displaced()
            # The warning may have called a hook, which may do anything.
            if <uintptr_t>self.data != data or self.length != length:
                raise ValueError("mmap was closed or resized by a hook for warnings")
        if error >= 0:
            return self.fail_poisoned(operation) if self.poisoned() else 0
        if error == -ENOMEM:
            raise MemoryError(f"{operation}: no memory to read by way of the kernel")
        if error != -EFAULT and error != -EHWPOISON:
            raise OSError(
                -error,
                f"{operation}: {_why_not(self.granted)}: {os.strerror(-error)}",
            )
        in_buffer = not data <= fault.address < data + <uintptr_t>self.length
        exception = self.bus_error(
            -error, fault.address - (<uintptr_t>buffer if in_buffer else data),
            fault.address, fault.code, operation, start, stop,
        )
        exception.in_buffer = in_buffer
        exception.file_size = self.file_size()
        return _raise(exception)

    @cython.final
    cdef BusError bus_error(self, int error, Py_ssize_t offset, uintptr_t address,
                            int code, str operation, Py_ssize_t start,
                            Py_ssize_t stop):
        """Without the size of the file."""
        cdef BusError exception = _bus_error(
            error, offset, address, code, operation, start, stop
        )

        _name_origin(exception, self.as_origin())
        # (Anonymous memory may have any offset, and never ends too soon.)
        if self.fd != -1:
            exception.needed = self.offset + offset + 1
        return exception

    @cython.final
    cdef off_t file_size(self) noexcept:
        """-1 where it cannot be told."""
        cdef struct_stat status

        if self.fd == -1 or _status_of(self.fd, &status) == -1:
            return -1
        return status.st_size

    @cython.final
    cdef inline _Origin as_origin(self):
        if self.origin is None:
            name = None
            if self.fd == -1 and not self.flags & MAP_ANONYMOUS:
                name = _path_behind(self.data, self.length)
            if self.origin is None:
                self.origin = _origin(self, self.fd, name, False)
        return self.origin

    cdef inline void start_bulk(self) noexcept:
        """Called before an operation releases the GIL: keeps the mapping and the
        handler in place."""
        self.exports += 1
        safemmap_add(&_under_way, 1)

    cdef inline void end_bulk(self) noexcept:
        self.exports -= 1
        safemmap_add(&_under_way, -1)

    cdef inline int copy(self, void *target, const void *source, Py_ssize_t size,
                         safemmap_fault *fault) noexcept:
        cdef const safemmap_operations *operations = self.operations
        cdef int error

        if size < <Py_ssize_t>SAFEMMAP_BULK:
            return operations.copy(target, source, size, fault)
        self.start_bulk()
        with nogil:
            error = operations.copy(target, source, size, fault)
        self.end_bulk()
        return error

    cdef inline int load(self, Py_ssize_t at, unsigned char *byte,
                         str operation) except -1:
        cdef safemmap_fault fault
        cdef int error

        if self.granted == KERNEL and self.read_file(byte, at, 1) == 1:
            error = 0
        else:
            error = self.operations.load(self.data + at, byte, &fault)
        if error != 0 or self.poisoned():
            self.fail(error, &fault, operation, at, at + 1)
        return 0

    cdef inline Py_ssize_t read_file(self, void *target, Py_ssize_t start,
                                     Py_ssize_t size) noexcept:
        """Returns how many bytes it has read. Through system calls, the file itself is
        quicker to read than a shared mapping of it."""
        cdef Py_ssize_t done

        if self.granted != KERNEL or not self.is_file or self.flags & MAP_PRIVATE:
            return 0
        if size < <Py_ssize_t>SAFEMMAP_BULK:
            done = pread(self.fd, target, size, self.offset + start)
        else:
            self.start_bulk()
            with nogil:
                done = pread(self.fd, target, size, self.offset + start)
            self.end_bulk()
        return done if done > 0 else 0

    @cython.final
    cdef bytes copy_out(self, Py_ssize_t start, Py_ssize_t size, str operation):
        """The bytes from `start`, both within bounds."""
        cdef unsigned char byte
        cdef bytes result

        if size == 1:
            self.load(start, &byte, operation)
            return <bytes>_BYTES[byte]
        result = PyBytes_FromStringAndSize(NULL, size)
        if size >= _LARGE_RESULT:
            _advise_huge_pages(PyBytes_AS_STRING(result), size)
        self.copy_to(PyBytes_AS_STRING(result), start, size, operation)
        return result

    @cython.final
    cdef int copy_to(self, void *target, Py_ssize_t start, Py_ssize_t size,
                     str operation) except -1:
        cdef Py_ssize_t done = self.read_file(target, start, size)
        cdef safemmap_fault fault
        cdef int error = 0

        if done < size:
            error = self.copy(
                <char *>target + done, self.data + start + done, size - done, &fault
            )
        if error != 0 or self.poisoned():
            self.fail(error, &fault, operation, start, start + size, target)
        return 0

    @cython.final
    cdef int copy_in(self, Py_ssize_t start, const void *source, Py_ssize_t size,
                     str operation) except -1:
        cdef safemmap_fault fault
        cdef int error = self.copy(self.data + start, source, size, &fault)

        if error != 0 or self.poisoned():
            self.fail(error, &fault, operation, start, start + size, source)
        return 0

    @cython.final
    cdef int store(self, Py_ssize_t at, unsigned char byte,
                   str operation) except -1:
        cdef safemmap_fault fault
        cdef int error = self.operations.store(self.data + at, byte, &fault)

        if error != 0 or self.poisoned():
            self.fail(error, &fault, operation, at, at + 1)
        return 0

    @cython.final
    cdef inline Py_ssize_t search_range(self, const Py_buffer *pattern, Py_ssize_t low,
                                        Py_ssize_t high, bint backward,
                                        str operation) except? -2:
        cdef safemmap_find_operation *find = (
            self.operations.rfind if backward else self.operations.find
        )
        cdef Py_ssize_t start = low, end = high, near, found

        if high < low:
            return -1
        if high - low >= <Py_ssize_t>SAFEMMAP_BULK and pattern.len < _NEAR:
            # A match in the rest may begin, or end, in the part searched already.
            if backward:
                near = high - _NEAR
                found = self.search_with(
                    find, pattern.buf, pattern.len, near, high, low, high, operation
                )
                end = near + pattern.len - 1
            else:
                near = low + _NEAR
                found = self.search_with(
                    find, pattern.buf, pattern.len, low, near, low, high, operation
                )
                start = near - pattern.len + 1
            if found >= 0:
                return found
        return self.search_with(
            find, pattern.buf, pattern.len, start, end, low, high, operation
        )

    @cython.final
    cdef inline Py_ssize_t search_with(self, safemmap_find_operation *find,
                                       const void *pattern, Py_ssize_t pattern_size,
                                       Py_ssize_t start, Py_ssize_t end, Py_ssize_t low,
                                       Py_ssize_t high, str operation) except? -2:
        """From `start` to `end`, for an operation on all between `low` and `high`."""
        cdef Py_ssize_t size = end - start
        cdef safemmap_fault fault
        cdef ptrdiff_t found
        cdef int error

        if size < <Py_ssize_t>SAFEMMAP_BULK:
            error = find(
                self.data + start, size, pattern, pattern_size, &found, &fault
            )
        else:
            self.start_bulk()
            with nogil:
                error = find(
                    self.data + start, size, pattern, pattern_size, &found, &fault
                )
            self.end_bulk()
        if error != 0 or self.poisoned():
            self.fail(error, &fault, operation, low, high, pattern)
        return -1 if found < 0 else start + found

    @cython.final
    cdef bytes gather(self, Py_ssize_t start, Py_ssize_t step, Py_ssize_t size):
        cdef bytes result = PyBytes_FromStringAndSize(NULL, size)
        cdef const safemmap_operations *operations = self.operations
        cdef char *target = PyBytes_AS_STRING(result)
        cdef safemmap_fault fault
        cdef int error

        if size < <Py_ssize_t>SAFEMMAP_BULK:
            error = operations.gather(target, self.data + start, step, size, &fault)
        else:
            self.start_bulk()
            with nogil:
                error = operations.gather(
                    target, self.data + start, step, size, &fault
                )
            self.end_bulk()
        if error != 0 or self.poisoned():
            self.fail_strided(error, &fault, start, step, size, target)
        return result

    @cython.final
    cdef int scatter(self, Py_ssize_t start, Py_ssize_t step, Py_ssize_t size,
                     const void *source) except -1:
        cdef const safemmap_operations *operations = self.operations
        cdef safemmap_fault fault
        cdef int error

        if size < <Py_ssize_t>SAFEMMAP_BULK:
            error = operations.scatter(self.data + start, step, source, size, &fault)
        else:
            self.start_bulk()
            with nogil:
                error = operations.scatter(
                    self.data + start, step, source, size, &fault
                )
            self.end_bulk()
        if error != 0 or self.poisoned():
            self.fail_strided(error, &fault, start, step, size, source)
        return 0

    @cython.final
    cdef int fail_strided(self, int error, const safemmap_fault *fault,
                          Py_ssize_t start, Py_ssize_t step, Py_ssize_t size,
                          const void *buffer) except -1:
        cdef Py_ssize_t last = start + step * (size - 1)

        return self.fail(
            error, fault, "m[i:j:k]", min(start, last), max(start, last) + 1, buffer
        )

    # ---- Pinned access ---------------------------------------------------

    # Of a short read without a section (_pin.h). Each answers, or raises BusError.
    # Where it does neither, the mapping is closed, poisoned or changing, or there is
    # something to warn of: the caller begins anew in a section. From pin() to unpin()
    # nothing of Python's may be called.

    @cython.final
    cdef inline bint pin(self, _PinnedRead *read) noexcept:
        read.error = 1  # not done
        if not safemmap_pin(<PyObject *>self, &self.changes):
            return False
        read.data = self.data
        if self.data != NULL and self.granted != KERNEL:
            return True
        safemmap_unpin()
        return False

    @cython.final
    cdef inline bint unpin(self, const _PinnedRead *read, str operation) except -1:
        """Whether it is done, and what was read is good."""
        cdef bint done = read.error == 0 and not self.poisoned()

        safemmap_unpin()
        if read.error < 0:
            self.fail_pinned(read, operation)
        return done

    @cython.final
    cdef int fail_pinned(self, const _PinnedRead *read, str operation) except -1:
        """Raise BusError after a fault, unless the mapping was changed since."""
        cdef safemmap_section section
        safemmap_enter(&section, <PyObject *>self)

        if (
            (read.error == -EFAULT or read.error == -EHWPOISON)
            and self.data == read.data
            and read.fault.address - <uintptr_t>self.data < <uintptr_t>self.length
        ):
            self.fail(read.error, &read.fault, operation, read.start, read.stop)
        return 0

    @cython.final
    cdef inline bint load_pinned(self, Py_ssize_t index, unsigned char *byte,
                                 str operation) except -1:
        cdef _PinnedRead read

        if not self.pin(&read):
            return False
        if index < 0:
            index += self.length
        if 0 <= index < self.length:
            read.start = index
            read.stop = index + 1
            read.error = self.operations.load(self.data + index, byte, &read.fault)
        return self.unpin(&read, operation)

    @cython.final
    cdef inline bint copy_pinned(self, void *target, Py_ssize_t start, Py_ssize_t size,
                                 Py_ssize_t length, str operation) except -1:
        """Where the mapping has that length still."""
        cdef _PinnedRead read

        if not self.pin(&read):
            return False
        if self.length == length:
            read.start = start
            read.stop = start + size
            read.error = self.operations.copy(
                target, self.data + start, size, &read.fault
            )
        return self.unpin(&read, operation)

    @cython.final
    cdef bint find_pinned(self, object sub, Py_ssize_t low, Py_ssize_t high,
                          bint backward, str operation,
                          Py_ssize_t *ret_found) except -1:
        """Over a short range, or with a match near the end where the search begins."""
        cdef safemmap_find_operation *find
        cdef _PinnedRead read
        cdef ptrdiff_t found
        cdef bint partly

        if not PyBytes_CheckExact(sub) or not self.pin(&read):
            return False
        if low <= self.length:
            read.start = low = _clipped(low, self.length)
            read.stop = high = _clipped(high, self.length)
            partly = high - low >= <Py_ssize_t>SAFEMMAP_BULK
            if partly and backward:
                low = high - _NEAR
            elif partly:
                high = low + _NEAR
            if low <= high:
                find = self.operations.rfind if backward else self.operations.find
                read.error = find(
                    self.data + low, high - low, PyBytes_AS_STRING(sub),
                    PyBytes_GET_SIZE(sub), &found, &read.fault
                )
            if read.error == 0 and found < 0 and partly:
                read.error = 1
        if not self.unpin(&read, operation):
            return False
        ret_found[0] = -1 if found < 0 else low + found
        return True

    # ---- Poisoned --------------------------------------------------------

    @cython.final
    cdef int fail_poisoned(self, str operation) except -1:
        cdef Region region = self.region
        cdef object error = self.poisoned_error(operation)

        region.tell()
        return _raise(error)

    @cython.final
    cdef object poisoned_error(self, str operation):
        return self.poison_error(
            self.region.error_number(), self.region.fault_page(),
            self.region.c.fault.code, operation, self.region.c.fault_file_size,
        )

    @cython.final
    cdef object poison_error(self, int error, Py_ssize_t offset, int code,
                             str operation, off_t file_size):
        cdef BusError exception = self.bus_error(
            error, offset, <uintptr_t>self.data + offset, code, operation, 0,
            self.length,
        )
        exception.poisoned = True
        exception.file_size = file_size if file_size >= 0 else self.file_size()
        return exception

    @cython.final
    cdef int check_file(self, str operation, Py_ssize_t start,
                        Py_ssize_t stop) except -1:
        """Raise BusError unless the file reaches to `stop`.

        The part of the last page that lies past the end of the file reads as zeros
        without a fault.
        """
        cdef Py_ssize_t first = start
        cdef struct_stat status
        cdef BusError exception

        if not self.is_file or self.granted == SEALED:
            return 0
        if fstat(self.fd, &status) == -1:
            raise _os_error(errno)
        if status.st_size - self.offset < stop:
            start = max(start, status.st_size - self.offset)
            exception = self.bus_error(
                EFAULT, start, <uintptr_t>self.data + start, 0, operation, first, stop
            )
            exception.file_size = status.st_size
            return _raise(exception)
        return 0


cdef Py_ssize_t _under_way = 0  # operations that have given up the GIL


cdef void _forget(Region region) noexcept:
    if region is not None:
        region.forget()


cdef str _why_not(Protection protection):
    if protection == KERNEL:
        return "the kernel refuses process_vm_readv(2), as a seccomp filter has it do"
    return "the SIGBUS handler cannot be installed"


cdef void _unmap(char *data, Py_ssize_t size) noexcept nogil:
    """Unmap a mapping. On hugetlbfs the kernel takes only whole huge pages, and the
    size must be rounded up to them."""
    cdef size_t page = sysconf(_SC_PAGESIZE), whole = size

    while munmap(data, whole) == -1 and errno == EINVAL and page < _LARGEST_PAGE:
        page *= 2
        whole = (<size_t>size + page - 1) // page * page


cdef void _advise_huge_pages(char *start, size_t size) noexcept:
    """Ask for huge pages, for the whole pages in the range."""
    cdef size_t page = sysconf(_SC_PAGESIZE)
    cdef size_t before = (page - <uintptr_t>start % page) % page

    madvise(start + before, (size - before) // page * page, MADV_HUGEPAGE)
