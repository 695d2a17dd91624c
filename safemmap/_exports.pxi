# Memory that other libraries describe in a struct of C: Arrow's C data interface
# (https://arrow.apache.org/docs/format/CDataInterface.html) and DLPack
# (https://dmlc.github.io/dlpack/latest/c_api.html).

cdef extern from *:
    """
    struct safemmap_arrow_schema {
        const char *format;
        const char *name;
        const char *metadata;
        int64_t flags;
        int64_t n_children;
        struct safemmap_arrow_schema **children;
        struct safemmap_arrow_schema *dictionary;
        void (*release)(struct safemmap_arrow_schema *);
        void *private_data;
    };
    struct safemmap_arrow_array {
        int64_t length;
        int64_t null_count;
        int64_t offset;
        int64_t n_buffers;
        int64_t n_children;
        const void **buffers;
        struct safemmap_arrow_array **children;
        struct safemmap_arrow_array *dictionary;
        void (*release)(struct safemmap_arrow_array *);
        void *private_data;
    };
    struct safemmap_arrow_stream {
        int (*get_schema)(struct safemmap_arrow_stream *,
                          struct safemmap_arrow_schema *ret_schema);
        int (*get_next)(struct safemmap_arrow_stream *,
                        struct safemmap_arrow_array *ret_array);
        const char *(*get_last_error)(struct safemmap_arrow_stream *);
        void (*release)(struct safemmap_arrow_stream *);
        void *private_data;
    };
    struct safemmap_dlpack_tensor {
        void *data;
        int32_t device_type;
        int32_t device_id;
        int32_t ndim;
        uint8_t type_code;
        uint8_t type_bits;
        uint16_t type_lanes;
        const int64_t *shape;
        const int64_t *strides;  /* in elements; NULL: in one piece */
        uint64_t byte_offset;
    };
    struct safemmap_dlpack_versioned {
        uint32_t major;
        uint32_t minor;
        void *manager;
        void (*deleter)(struct safemmap_dlpack_versioned *);
        uint64_t flags;
        struct safemmap_dlpack_tensor tensor;
    };
    """
    struct safemmap_arrow_schema:
        const char *format
        int64_t n_children
        safemmap_arrow_schema **children
        safemmap_arrow_schema *dictionary
        void (*release)(safemmap_arrow_schema *) noexcept
    struct safemmap_arrow_array:
        int64_t length
        int64_t offset
        int64_t n_buffers
        int64_t n_children
        const void **buffers
        safemmap_arrow_array **children
        safemmap_arrow_array *dictionary
        void (*release)(safemmap_arrow_array *) noexcept
    struct safemmap_arrow_stream:
        int (*get_schema)(safemmap_arrow_stream *,
                          safemmap_arrow_schema *) noexcept nogil
        int (*get_next)(safemmap_arrow_stream *, safemmap_arrow_array *) noexcept nogil
        const char *(*get_last_error)(safemmap_arrow_stream *) noexcept
    struct safemmap_dlpack_tensor:
        void *data
        int32_t device_type
        int32_t ndim
        uint8_t type_bits
        uint16_t type_lanes
        const int64_t *shape
        const int64_t *strides
        uint64_t byte_offset
    struct safemmap_dlpack_versioned:
        uint32_t major
        safemmap_dlpack_tensor tensor


@cython.final
cdef class Memory:
    """Exports `size` bytes at `address`, which are there as long as `owner` is."""

    cdef readonly uintptr_t address
    cdef readonly Py_ssize_t size
    cdef object owner

    def __cinit__(self, uintptr_t address, Py_ssize_t size, owner):
        self.address = address
        self.size = size
        self.owner = owner

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, <void *>self.address, self.size, True, flags)


# ---- Arrow ---------------------------------------------------------------

@cython.final
cdef class _OwnSchema:
    cdef safemmap_arrow_schema c

    def __dealloc__(self):
        if self.c.release != NULL:
            self.c.release(&self.c)


@cython.final
cdef class _OwnArray:
    cdef safemmap_arrow_array c

    def __dealloc__(self):
        if self.c.release != NULL:
            self.c.release(&self.c)


cdef safemmap_arrow_schema _NO_SCHEMA
cdef safemmap_arrow_array _NO_ARRAY
_NO_SCHEMA.format = b""


@cython.final
cdef class ArrowArray:
    """An array that a library has exported, or one that it is made of."""

    cdef const safemmap_arrow_schema *schema
    cdef const safemmap_arrow_array *array
    cdef object owner  # of both

    def __cinit__(self):
        self.schema = &_NO_SCHEMA
        self.array = &_NO_ARRAY

    @property
    def format(self):
        """Its type, as the C data interface writes it."""
        return self.schema.format.decode()

    @property
    def length(self):
        """In elements."""
        return self.array.length

    @property
    def offset(self):
        """Of the first element in each of the buffers."""
        return self.array.offset

    @property
    def buffers(self):
        """Their addresses; 0 for one that is not there."""
        return [<uintptr_t>self.array.buffers[i] for i in range(self.array.n_buffers)]

    @property
    def children(self):
        return [
            _arrow_array(self.schema.children[i], self.array.children[i], self.owner)
            for i in range(self.array.n_children)
        ]

    @property
    def dictionary(self):
        if self.array.dictionary == NULL:
            return None
        return _arrow_array(self.schema.dictionary, self.array.dictionary, self.owner)


cdef ArrowArray _arrow_array(const safemmap_arrow_schema *schema,
                             const safemmap_arrow_array *array, object owner):
    cdef ArrowArray made = ArrowArray.__new__(ArrowArray)

    made.schema = schema
    made.array = array
    made.owner = owner
    return made


def arrow_array(schema, array):
    """That of the two capsules which ``__arrow_c_array__`` returns."""
    return _arrow_array(
        <const safemmap_arrow_schema *>PyCapsule_GetPointer(schema, "arrow_schema"),
        <const safemmap_arrow_array *>PyCapsule_GetPointer(array, "arrow_array"),
        (schema, array),
    )


def arrow_stream(capsule):
    """All the arrays of the stream in the capsule that ``__arrow_c_stream__``
    returns."""
    cdef safemmap_arrow_stream *stream = <safemmap_arrow_stream *>PyCapsule_GetPointer(
        capsule, "arrow_array_stream"
    )
    cdef _OwnSchema schema = _OwnSchema.__new__(_OwnSchema)
    cdef _OwnArray array
    cdef list arrays = []
    cdef int error

    with nogil:
        error = stream.get_schema(stream, &schema.c)
    while error == 0:
        array = _OwnArray.__new__(_OwnArray)
        with nogil:
            error = stream.get_next(stream, &array.c)
        if error == 0 and array.c.release == NULL:
            return arrays
        arrays.append(_arrow_array(&schema.c, &array.c, (schema, array)))
    message = stream.get_last_error(stream)
    raise OSError(
        error,
        os.strerror(error) if message == NULL else message.decode(errors="replace"),
    )


# ---- DLPack --------------------------------------------------------------

def dlpack_memory(capsule):
    """From the lowest byte of any element to the highest of the tensor in the capsule
    that ``__dlpack__`` returns."""
    cdef const safemmap_dlpack_versioned *versioned
    cdef const safemmap_dlpack_tensor *tensor
    cdef int64_t low = 0, high = 0, step = 1, reach, size
    cdef int i

    if PyCapsule_IsValid(capsule, "dltensor_versioned"):
        versioned = <const safemmap_dlpack_versioned *>PyCapsule_GetPointer(
            capsule, "dltensor_versioned"
        )
        if versioned.major != 1:
            raise BufferError(f"DLPack {versioned.major} is not known here")
        tensor = &versioned.tensor
    else:
        tensor = <const safemmap_dlpack_tensor *>PyCapsule_GetPointer(
            capsule, "dltensor"
        )
    for i in range(tensor.ndim - 1, -1, -1):
        if tensor.shape[i] == 0:
            return Memory(0, 0, capsule)
        if tensor.strides != NULL:
            step = tensor.strides[i]
        reach = step * (tensor.shape[i] - 1)
        if reach < 0:
            low += reach
        else:
            high += reach
        step *= tensor.shape[i]
    size = (tensor.type_bits * <int64_t>tensor.type_lanes + 7) // 8
    return Memory(
        <uintptr_t>tensor.data + tensor.byte_offset + low * size,
        (high - low + 1) * size, capsule,
    )


def read_integer(uintptr_t address, int size):
    """The signed integer of 4 or 8 bytes at this address."""
    return (<const int32_t *>address)[0] if size == 4 else (<const int64_t *>address)[0]
