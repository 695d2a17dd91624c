# The mappings of the process, asked for one by one.

cdef extern from "limits.h":
    enum: PATH_MAX

cdef extern from *:
    """
    #include <fcntl.h>
    #include <stdint.h>
    #include <sys/ioctl.h>
    #include <sys/syscall.h>
    #include <unistd.h>

    /* From Linux 6.11 on; linux/fs.h. */
    struct safemmap_mapping {
        uint64_t size, query_flags, address;
        uint64_t start, end, flags, page_size, offset, inode;
        uint32_t major, minor;
        uint32_t name_size, build_id_size;
        uint64_t name, build_id;
    };

    /* The mapping that holds the address, or the next one. */
    static int
    safemmap_query(int maps, uint64_t address, struct safemmap_mapping *ret_mapping,
                   char *ret_name, uint32_t room)
    {
        const uint64_t covering_or_next = 0x10;

        *ret_mapping = (struct safemmap_mapping){.size = sizeof(*ret_mapping),
                                                 .query_flags = covering_or_next,
                                                 .address = address,
                                                 .name_size = room,
                                                 .name = (uintptr_t)ret_name};
        /* (Not ioctl(2), whose request is of another type in each C library.) */
        return (int)syscall(SYS_ioctl, maps,
                            _IOWR('f', 17, struct safemmap_mapping), ret_mapping);
    }
    """
    struct safemmap_mapping:
        uint64_t start
        uint64_t end
        uint64_t flags
        uint64_t page_size
        uint64_t inode
        uint32_t major
        uint32_t minor
        uint32_t name_size
    int safemmap_query(int maps, uint64_t address, safemmap_mapping *ret_mapping,
                       char *ret_name, uint32_t room) nogil
    int open(const char *path, int flags) nogil
    const int O_RDONLY
    const int O_CLOEXEC

# Its flags.
cdef enum:
    _READABLE = 1
    _WRITABLE = 2
    _EXECUTABLE = 4


def query_mappings(uintptr_t start, uintptr_t end):
    """Those that overlap this range, in order: protection, size of a page, (inode,
    major and minor number of the device), name."""
    cdef safemmap_mapping mapping
    cdef char name[PATH_MAX + 16]  # the kernel may add " (deleted)"
    cdef int maps, failed = 0
    cdef list found = []

    with nogil:
        maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC)
    if maps == -1:
        raise _os_error(errno)
    try:
        while start < end:
            with nogil:
                failed = safemmap_query(maps, start, &mapping, name, sizeof(name))
            if failed and errno != ENOENT:
                raise _os_error(errno)
            if failed or mapping.start >= end:
                break
            found.append((
                (PROT_READ if mapping.flags & _READABLE else 0)
                | (PROT_WRITE if mapping.flags & _WRITABLE else 0)
                | (PROT_EXEC if mapping.flags & _EXECUTABLE else 0),
                mapping.page_size,
                (mapping.inode, mapping.major, mapping.minor),
                name[:mapping.name_size - 1] if mapping.name_size else b"",
            ))
            start = mapping.end
    finally:
        with nogil:
            close(maps)
    return found
