# The exit status after a fault that no exception has reported.

cdef extern from *:
    """
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <unistd.h>

    /* The line that the process writes as it ends; empty: none. */
    static char safemmap_last_words[4096];

    static void
    safemmap_end(int status)
    {
        size_t size = strlen(safemmap_last_words);

        if (size == 0)
            return;
        fflush(stderr);
        if (write(STDERR_FILENO, safemmap_last_words, size) < 0)
            ; /* there is nobody to tell */
        if (status != EXIT_SUCCESS)
            return;
    #ifdef __GLIBC__
        exit(EXIT_FAILURE); /* goes on with the other functions and the streams */
    #else
        fflush(NULL);
        _exit(EXIT_FAILURE);
    #endif
    }

    /* exit(3) calls it after the interpreter has ended, and after all functions that
     * were registered later. */
    #ifdef __GLIBC__
    static void
    safemmap_end_by(int status, void *unused)
    {
        (void)unused;
        safemmap_end(status);
    }

    static int
    safemmap_watch_end(void)
    {
        return on_exit(safemmap_end_by, NULL);
    }
    #else
    static void
    safemmap_end_anyhow(void)
    {
        safemmap_end(EXIT_SUCCESS);
    }

    static int
    safemmap_watch_end(void)
    {
        return atexit(safemmap_end_anyhow);
    }
    #endif
    """
    char safemmap_last_words[4096]
    int safemmap_watch_end()


# Of a fault that no exception has reported and whose region is gone: the thread, the
# offset in bytes from the region's start, and the file's name where that is known. Or
# None.
cdef tuple _untold = None
cdef int64_t _forked_at = 0     # CLOCK_REALTIME, nanoseconds


cdef tuple _untold_fault(Region region):
    """Likewise of a region that is there. (Nothing here calls any Python code: an
    exception may be on its way to this thread, which reports this very fault.)"""
    if (
        not region.poisoned() or region.is_reported() or region.is_told()
        or region.c.fault.time_ns < _forked_at
    ):
        return None
    return region.c.fault.thread, region.offset_of(region.c.fault.address), None


cdef void _remember_untold(Region region) noexcept:
    global _untold

    if _unattended and _untold is None:
        _untold = _untold_fault(region)


cdef tuple _find_untold():
    """Of all faults."""
    cdef safemmap_section section
    safemmap_enter(&section, <PyObject *>_accounts)
    cdef tuple found

    _drain_held()
    found = _untold
    for region in (*_live.values(), *_former.values()):
        found = found or _untold_fault(region)
    for thread, (offset, path) in tuple(_untold_files.items()):
        found = found or (thread, offset, path)
    return found


cdef str _TOO_LATE = (
    "safemmap: BusError: the last that the main thread did was to read a page that was "
    "gone; no code was left to be told, so the process fails\n"
)


# ---- For _exit_status.py -------------------------------------------------

def watch_end():
    """Have exit(3) write the last words, and correct the status."""
    if safemmap_watch_end() != 0:
        raise MemoryError("no memory to watch the exit status")


def untold():
    """A line about a fault that no exception has reported, or None."""
    found = _find_untold()
    if found is None:
        return _TOO_LATE if safemmap_interrupt_is_too_late() else None
    thread, offset, path = found
    name = repr(path) if path else "a mapping"
    return (
        f"safemmap: BusError: {_thread_name(thread)} touched the byte at offset "
        f"{offset} of {name} when its page was gone, and got zeros in "
        "the place of data; no exception reported it, so the process fails\n"
    )


def settle():
    """Decide at the interpreter's end what exit(3) writes, if anything. (A function in
    Python would be where an exception that is still pending is raised.)"""
    cdef bytes words

    try:
        line = untold()
    except BusError:
        line = _TOO_LATE
    if line is None:
        return
    words = line.encode(errors="backslashreplace")
    strcpy(safemmap_last_words, words[:sizeof(safemmap_last_words) - 1])
