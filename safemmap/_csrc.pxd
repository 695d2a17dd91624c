# The C core as Cython sees it. Not installed: consumers would link against
# symbols that the module does not export.
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from posix.time cimport timespec
from posix.types cimport off_t, pid_t

cdef extern from "<pthread.h>" nogil:
    ctypedef unsigned long pthread_t


cdef extern from "safemmap.h" nogil:
    struct safemmap_fault:
        uintptr_t address
        int code

    struct safemmap_counts:
        uint64_t recovered
        uint64_t overlaid
        uint64_t forwarded
        uint64_t installs

    struct safemmap_region_fault:
        uintptr_t address
        int code
        pid_t thread
        int64_t time_ns

    struct safemmap_region:
        uintptr_t start
        uintptr_t end
        size_t page_size
        int protection
        int fd
        off_t offset
        bint put_back
        bint withdrawable
        uint64_t id
        safemmap_region_fault fault
        int64_t fault_file_size

    struct safemmap_file:
        uint32_t id
        bint deleted
        uint64_t device
        uint64_t inode
        uint64_t offset
        int64_t size

    struct safemmap_event:
        uint64_t region
        safemmap_region_fault fault
        pthread_t pthread
        bint store
        uint64_t token
        safemmap_file file
        size_t offset
        char *name

    const size_t SAFEMMAP_BULK

    int safemmap_install()
    int safemmap_uninstall()
    int safemmap_checks_start()
    void safemmap_checks_stop()
    struct safemmap_action:
        bint ours
        bint ignores
        uintptr_t function
    size_t safemmap_get_actions(safemmap_action *ret_actions, size_t room)
    void safemmap_get_counts(safemmap_counts *ret_counts)

    int safemmap_region_add(safemmap_region *region)
    int safemmap_region_remove(safemmap_region *region)
    void safemmap_region_attend(safemmap_region *region, bint attended)
    int safemmap_region_renew(safemmap_region *region, int flags)
    bint safemmap_region_poisoned(const safemmap_region *region)

    int safemmap_process_enable()
    void safemmap_process_disable()
    bint safemmap_process_enabled()
    const size_t SAFEMMAP_FILES
    ssize_t safemmap_file_path(uint32_t id, char *ret_path, size_t room)

    struct safemmap_files:
        size_t page_size
        int protection
        char *path
    int safemmap_files_behind(uintptr_t start, uintptr_t end,
                              safemmap_files *ret_files)

    ctypedef bint safemmap_fault_hook(const safemmap_event *event) noexcept nogil
    void safemmap_set_fault_hook(safemmap_fault_hook *hook)
    int safemmap_withdraw(uint64_t token)

    bint safemmap_event_take(safemmap_event *ret_event)
    uint64_t safemmap_events_dropped()
    int safemmap_event_fd()
    void safemmap_event_fd_clear()
    void safemmap_event_fd_set()

    ctypedef int safemmap_find_operation(
        const void *text, size_t size, const void *pattern, size_t pattern_size,
        ptrdiff_t *ret_index, safemmap_fault *ret_fault
    ) noexcept nogil
    struct safemmap_operations:
        int (*copy)(void *target, const void *source, size_t size,
                    safemmap_fault *ret_fault) noexcept nogil
        int (*load)(const void *source, unsigned char *ret_byte,
                    safemmap_fault *ret_fault) noexcept nogil
        int (*store)(void *target, unsigned char byte,
                     safemmap_fault *ret_fault) noexcept nogil
        int (*gather)(void *target, const void *source, ptrdiff_t step, size_t count,
                      safemmap_fault *ret_fault) noexcept nogil
        int (*scatter)(void *target, ptrdiff_t step, const void *source, size_t count,
                       safemmap_fault *ret_fault) noexcept nogil
        safemmap_find_operation *find
        safemmap_find_operation *rfind
    const safemmap_operations safemmap_guarded
    const safemmap_operations safemmap_kernel
    const safemmap_operations safemmap_plain
