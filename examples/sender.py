"""Send a file over a Unix socket; with --shrink, take it away while it is in use.

Usage: python sender.py SOCKET [--shrink]             (start receiver.py first)
"""

import os
import socket
import sys
import zlib

import safemmap

PATIENCE = 10  # seconds for an answer


def send(path: str, data: bytes, shrink: bool) -> None:
    # Sealed, nobody can shrink it any more; without seals, nothing keeps us from it.
    none = safemmap.Seal(0)
    fd = safemmap.memfd(data, seals=none) if shrink else safemmap.memfd(data)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as receiver:
            receiver.settimeout(PATIENCE)
            receiver.connect(path)
            socket.send_fds(receiver, [b"%d" % len(data)], [fd])
            if receiver.recv(64) != b"mapped":
                sys.exit("the receiver refuses it")
            if shrink:
                os.truncate(fd, len(data) // 2)
            receiver.send(b"read it")
            receiver.recv(64)  # nothing: waits until the receiver is done
    except OSError as error:
        sys.exit(f"no receiver: {error}")
    finally:
        os.close(fd)


def main() -> None:
    if not 2 <= len(sys.argv) <= 3 or sys.argv[2:] not in ([], ["--shrink"]):
        sys.exit(__doc__)
    data = os.urandom(1 << 20)
    shrink = "--shrink" in sys.argv
    send(sys.argv[1], data, shrink)
    print("shrunk" if shrink else f"{len(data)} bytes, CRC {zlib.crc32(data):08x}")


if __name__ == "__main__":
    main()
