"""Read the files that anybody sends over a Unix socket, and survive it.

Usage: python receiver.py SOCKET          (then, elsewhere: python sender.py SOCKET)
"""

import os
import socket
import sys
import zlib
from threading import Thread

import safemmap

if len(sys.argv) != 2:
    sys.exit(__doc__)
path = sys.argv[1]
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.bind(path)
    server.listen()
    print("listening", flush=True)
    try:
        while True:
            peer, _ = server.accept()
            with peer:
                peer.settimeout(10)  # a peer that says nothing must not stall us either
                try:
                    size, [fd], _, _ = socket.recv_fds(peer, 64, 1)
                    try:
                        # Refuses what is no file, or shorter than the peer says.
                        with safemmap.wrap(fd, int(size)) as mapping:
                            peer.send(b"mapped")
                            peer.recv(64)  # "read it"
                            checksum = zlib.crc32(mapping[:])  # mmap.mmap could die
                    finally:
                        # Nothing waits for it: a server of files may never answer.
                        Thread(target=os.close, args=[fd], daemon=True).start()
                    print(f"{int(size)} bytes, CRC {checksum:08x}", flush=True)
                except safemmap.BusError as error:
                    print(f"the peer took its file away: {error}", flush=True)
                except (OSError, ValueError) as error:
                    print(f"a bad peer: {error!r}", flush=True)
    except KeyboardInterrupt:
        pass
    finally:
        os.unlink(path)
