"""libwayland is made to install its handler first. The argument is the case, one of
CASES.

Most end with a fault of ours before anything has checked the handler again, and then a
fault in a pool of libwayland's, which is survived only if its handler is still asked.
"""

import ctypes
import os
import sys
import time

import wayland_pool

import safemmap

PAGE = safemmap.PAGESIZE


def mapping_with_a_page_gone() -> safemmap.mmap:
    fd = os.memfd_create("ours")
    os.ftruncate(fd, 2 * PAGE)
    mapping = safemmap.mmap(fd, 2 * PAGE)
    os.ftruncate(fd, PAGE)
    os.close(fd)
    return mapping


def meet_our_fault(mapping: safemmap.mmap) -> None:
    try:
        mapping[PAGE]
    except safemmap.BusError:
        return
    sys.exit("no BusError")


def meet_both(mapping: safemmap.mmap, pools: wayland_pool.Pools) -> None:
    pools.touch(0)
    meet_our_fault(mapping)
    assert pools.read_what_is_gone(1) == 0
    meet_our_fault(mapping)


def loaded_before() -> None:
    pools = wayland_pool.Pools(PAGE, 2)
    meet_both(mapping_with_a_page_gone(), pools)


def loaded_before_a_scope() -> None:
    mapping = mapping_with_a_page_gone()
    pools = wayland_pool.Pools(PAGE, 2)
    with mapping.access(0, PAGE):
        pass
    meet_both(mapping, pools)


def loaded_before_an_export() -> None:
    mapping = mapping_with_a_page_gone()
    pools = wayland_pool.Pools(PAGE, 2)
    memoryview(mapping).release()
    meet_both(mapping, pools)


def while_a_buffer_is_accessed() -> None:
    """libwayland aborts a process that accesses two pools at once on one thread."""
    pools = wayland_pool.Pools(PAGE, 2)
    pools.library.wl_shm_buffer_begin_access(pools.buffers[0])
    mapping = mapping_with_a_page_gone()
    pools.library.wl_shm_buffer_end_access(pools.buffers[0])
    meet_both(mapping, pools)


def without_descriptors() -> None:
    """It is let be, then."""
    import resource

    wayland_pool.load()
    mapping_with_a_page_gone()
    fd = os.memfd_create("ours")
    os.ftruncate(fd, PAGE)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (fd + 2, hard))
    mapping = safemmap.mmap(fd, PAGE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.ftruncate(fd, 0)
    try:
        mapping[0]
    except safemmap.BusError:
        return
    sys.exit("no BusError")


def nothing_is_left_behind() -> None:
    mapping_with_a_page_gone()
    wayland_pool.load()
    before = os.listdir("/proc/self/fd")
    safemmap.handler.install()
    assert os.listdir("/proc/self/fd") == before
    status = safemmap.handler.status()
    assert status.on_top and wayland_pool.SONAME in status.below[0], status
    # The kernel counts a thread until a moment after it was joined.
    while len(os.listdir("/proc/self/task")) > 1:
        time.sleep(0.001)


CASES = {
    case.__name__: case
    for case in (
        loaded_before,
        loaded_before_a_scope,
        loaded_before_an_export,
        while_a_buffer_is_accessed,
        without_descriptors,
        nothing_is_left_behind,
    )
}
ctypes.CDLL(None).alarm(20)
CASES[sys.argv[1]]()
print("done")
