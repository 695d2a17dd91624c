# The thread that warns of faults, in C. Not installed.
cdef extern from "_watcher.h":
    struct safemmap_watched:
        void (*news)() noexcept
        double (*warn)() noexcept
    void safemmap_watcher_attend(const safemmap_watched *watched)
    void safemmap_watcher_leave()
    void safemmap_watcher_ask()
    void safemmap_watcher_start(double seconds)
    void safemmap_watcher_hold()
    void safemmap_watcher_release()
