# cimport safemmap: the C API for Cython, see include/safemmap_python.h. Compile with
# safemmap.get_include(); call safemmap_import() first.
#
# SAFEMMAP_TRY is for C: a module that needs it has a function in a verbatim block.
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from posix.types cimport off_t, pid_t

cdef extern from "safemmap_python.h":
    int safemmap_import() except -1

    struct safemmap_fault:
        uintptr_t address
        int code

    # These need the GIL, and always raise.
    object safemmap_raise(const safemmap_fault *fault, const void *start, size_t size,
                          const char *operation)
    object safemmap_raise_region(const safemmap_region *region, const char *operation)

    struct safemmap_region_fault:
        uintptr_t address
        int code
        pid_t thread
        int64_t time_ns

    ctypedef void safemmap_region_hook(
        void *data, const safemmap_region_fault *fault
    ) noexcept nogil

    enum: SAFEMMAP_NAME
    struct safemmap_region:
        uintptr_t start
        uintptr_t end
        size_t page_size
        int protection
        int fd
        off_t offset
        bint put_back
        char name[SAFEMMAP_NAME]
        safemmap_region_hook *hook
        void *hook_data
        uint64_t id
        safemmap_region_fault fault
        size_t fault_offset

    struct safemmap_action:
        bint ours
        bint ignores
        uintptr_t function

    struct safemmap_counts:
        uint64_t recovered
        uint64_t overlaid
        uint64_t forwarded
        uint64_t installs


cdef extern from "safemmap_python.h" nogil:
    int safemmap_install()
    size_t safemmap_get_actions(safemmap_action *ret_actions, size_t room)
    void safemmap_get_counts(safemmap_counts *ret_counts)

    int safemmap_copy(void *target, const void *source, size_t size,
                      safemmap_fault *ret_fault)
    int safemmap_load(const void *source, unsigned char *ret_byte,
                      safemmap_fault *ret_fault)
    int safemmap_store(void *target, unsigned char byte, safemmap_fault *ret_fault)
    int safemmap_gather(void *target, const void *source, ptrdiff_t step, size_t count,
                        safemmap_fault *ret_fault)
    int safemmap_scatter(void *target, ptrdiff_t step, const void *source, size_t count,
                         safemmap_fault *ret_fault)
    int safemmap_compare(const void *left, const void *right, size_t size,
                         int *ret_order, safemmap_fault *ret_fault)
    int safemmap_find(const void *text, size_t size, const void *pattern,
                      size_t pattern_size, ptrdiff_t *ret_index,
                      safemmap_fault *ret_fault)
    int safemmap_rfind(const void *text, size_t size, const void *pattern,
                       size_t pattern_size, ptrdiff_t *ret_index,
                       safemmap_fault *ret_fault)

    int safemmap_region_add(safemmap_region *region)
    int safemmap_region_update(safemmap_region *region, uintptr_t start, uintptr_t end)
    int safemmap_region_remove(safemmap_region *region)
    bint safemmap_region_poisoned(const safemmap_region *region)
