"""Send a file over a Unix socket; with --shrink, take it away while it is in use.

Usage: python sender.py SOCKET [--shrink]             (start receiver.py first)
"""

import os
import socket
import sys
import zlib

import safemmap

if len(sys.argv) < 2:
    sys.exit(__doc__)
path, shrink = sys.argv[1], "--shrink" in sys.argv[2:]
data = os.urandom(1 << 20)

# Sealed, nobody can shrink it any more; without seals, nothing keeps us from it.
fd = safemmap.memfd(data, seals=safemmap.Seal(0)) if shrink else safemmap.memfd(data)
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as receiver:
    receiver.connect(path)
    socket.send_fds(receiver, [b"%d" % len(data)], [fd])
    receiver.recv(64)  # "mapped"
    if shrink:
        os.truncate(fd, len(data) // 2)
    receiver.send(b"read it")
    receiver.recv(64)  # nothing: waits until the receiver is done
os.close(fd)

print("shrunk" if shrink else f"{len(data)} bytes, CRC {zlib.crc32(data):08x}")
