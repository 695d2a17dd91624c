"""mremap fails for want of address space; the file keeps every byte."""

import os
import resource

import safemmap

PAGE = safemmap.PAGESIZE
data = b"A" * 64 * PAGE
fd = os.memfd_create("file")
os.write(fd, data)
in_use = int(open("/proc/self/statm").read().split()[0]) * PAGE  # noqa: SIM115
m = safemmap.mmap(fd, PAGE)
resource.setrlimit(resource.RLIMIT_AS, (in_use + 8 * PAGE, resource.RLIM_INFINITY))
for size in (16 * PAGE, 100 * PAGE, 1 << 40):
    try:
        m.resize(size)
    except OSError:
        pass
    else:
        print("resized to", size)
assert len(m) == PAGE
assert os.fstat(fd).st_size == len(data)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
assert os.pread(fd, len(data), 0) == data
m.resize(16 * PAGE)
assert m[:] == data[: 16 * PAGE]
print("survived")
