# Which files are mapped in a range of addresses.

cdef extern from "limits.h":
    enum: PATH_MAX


cdef int _look_up(uintptr_t start, uintptr_t end, safemmap_files *ret_files) except -1:
    cdef int error

    with nogil:
        error = safemmap_files_behind(start, end, ret_files)
    if error == 0:
        return 0
    reason = os.strerror(-error)
    raise OSError(
        -error,
        "what is behind this memory stands in /proc/self/maps, which cannot be opened "
        f"({reason}): mount /proc, or map the file with safemmap.mmap, which does "
        "without",
    )


def is_file_behind(uintptr_t start, uintptr_t end):
    """Whether there is anything but private memory, which nobody can truncate."""
    cdef safemmap_files files

    _look_up(start, end, &files)
    return files.page_size > 0
