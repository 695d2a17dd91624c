# cython: language_level=3
"""An extension module of somebody else's, in Cython."""

from libc.string cimport strncpy
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_READ, mmap, munmap

from safemmap cimport (
    SAFEMMAP_NAME,
    safemmap_copy,
    safemmap_fault,
    safemmap_import,
    safemmap_install,
    safemmap_raise,
    safemmap_raise_region,
    safemmap_region,
    safemmap_region_add,
    safemmap_region_poisoned,
    safemmap_region_remove,
)

safemmap_import()


cdef class Pool:
    cdef safemmap_region region
    cdef const unsigned char *map
    cdef size_t size

    def __cinit__(self, int fd, size_t size, str name):
        cdef void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0)
        cdef int error

        if map == MAP_FAILED:
            raise MemoryError
        self.map = <const unsigned char *>map
        self.size = size
        self.region.start = <size_t>map
        self.region.end = <size_t>map + size
        self.region.page_size = 4096
        self.region.protection = PROT_READ
        self.region.fd = fd
        strncpy(self.region.name, name.encode(), SAFEMMAP_NAME - 1)
        with nogil:
            error = safemmap_install()
            if error == 0:
                error = safemmap_region_add(&self.region)
        if error < 0:
            raise OSError(-error)

    def __dealloc__(self):
        safemmap_region_remove(&self.region)
        munmap(<void *>self.map, self.size)

    def peek(self, size_t offset):
        return self.map[offset]

    def check(self):
        if safemmap_region_poisoned(&self.region):
            safemmap_raise_region(&self.region, "check")

    def read(self):
        cdef safemmap_fault fault
        cdef bytearray into = bytearray(self.size)
        cdef char *target = into
        cdef int error

        with nogil:
            error = safemmap_copy(target, self.map, self.size, &fault)
        if error < 0:
            safemmap_raise(&fault, self.map, self.size, "read")
        return bytes(into)
