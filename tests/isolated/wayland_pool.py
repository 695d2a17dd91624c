"""libwayland-server with one client, which this process plays too: it speaks just as
much of the protocol as makes `wl_shm` pools and a buffer in each."""

import array
import ctypes
import os
import socket
import struct

SONAME = "libwayland-server.so.0"
DISPLAY, REGISTRY, SHM = 1, 2, 3
GET_REGISTRY, BIND, CREATE_POOL, CREATE_BUFFER = 1, 0, 0, 0
FIRST_GLOBAL = 1
XRGB8888 = 1


def load() -> ctypes.CDLL:
    """:raises OSError: it is not on this machine."""
    library = ctypes.CDLL(SONAME)
    pointer = ctypes.c_void_p
    for name, result, *arguments in (
        ("wl_display_create", pointer),
        ("wl_display_init_shm", ctypes.c_int, pointer),
        ("wl_display_get_event_loop", pointer, pointer),
        ("wl_event_loop_dispatch", ctypes.c_int, pointer, ctypes.c_int),
        ("wl_client_create", pointer, pointer, ctypes.c_int),
        ("wl_client_get_object", pointer, pointer, ctypes.c_uint32),
        ("wl_shm_buffer_get", pointer, pointer),
        ("wl_shm_buffer_begin_access", None, pointer),
        ("wl_shm_buffer_end_access", None, pointer),
        ("wl_shm_buffer_get_data", pointer, pointer),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def request(target: int, opcode: int, *arguments: int | str) -> bytes:
    body = b""
    for argument in arguments:
        if isinstance(argument, int):
            body += struct.pack("=I", argument)
        else:
            text = argument.encode() + b"\0"
            body += struct.pack("=I", len(text)) + text + bytes(-len(text) % 4)
    return struct.pack("=IHH", target, opcode, 8 + len(body)) + body


class Pools:
    """Buffers of `size` bytes (a multiple of 4), each in a pool of its own."""

    def __init__(self, size: int, count: int) -> None:
        self.library = lib = load()
        display = lib.wl_display_create()
        assert lib.wl_display_init_shm(display) == 0
        # Ours to keep: with its end the client would go, and its pools.
        server, self.socket = socket.socketpair()
        client = lib.wl_client_create(display, server.detach())
        loop = lib.wl_display_get_event_loop(display)

        files = [os.memfd_create("pool") for _ in range(count)]
        requests = request(DISPLAY, GET_REGISTRY, REGISTRY)
        requests += request(REGISTRY, BIND, FIRST_GLOBAL, "wl_shm", 1, SHM)
        buffers = []
        for index, file in enumerate(files):
            os.ftruncate(file, size)
            pool = SHM + 1 + 2 * index
            buffers.append(pool + 1)
            requests += request(SHM, CREATE_POOL, pool, size)
            requests += request(
                pool, CREATE_BUFFER, pool + 1, 0, size // 4, 1, size, XRGB8888
            )
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))
        self.socket.sendmsg([requests], [rights])
        assert lib.wl_event_loop_dispatch(loop, 0) == 0
        self.files, self.size = files, size
        self.buffers = [
            lib.wl_shm_buffer_get(lib.wl_client_get_object(client, buffer))
            for buffer in buffers
        ]
        assert all(self.buffers)

    def touch(self, index: int) -> None:
        """As a compositor does that reads nothing; the first time, libwayland
        installs its handler."""
        self.library.wl_shm_buffer_begin_access(self.buffers[index])
        self.library.wl_shm_buffer_end_access(self.buffers[index])

    def read_what_is_gone(self, index: int) -> int:
        """Read the last byte of a buffer that the client has cut off."""
        buffer = self.buffers[index]
        os.ftruncate(self.files[index], 0)
        self.library.wl_shm_buffer_begin_access(buffer)
        data = self.library.wl_shm_buffer_get_data(buffer)
        byte = ctypes.string_at(data + self.size - 1, 1)[0]
        self.library.wl_shm_buffer_end_access(buffer)
        return byte
