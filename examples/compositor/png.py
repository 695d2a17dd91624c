"""Writes a frame as a PNG file."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np

from .shm import Pixels


def write(path: Path, frame: Pixels) -> None:
    """Appears when it is whole."""
    height, width = frame.shape
    # Each row begins with the number of its filter: 0, none.
    rows = np.zeros((height, 1 + width * 3), np.uint8)
    colours = frame.view(np.uint8).reshape(height, width, 4)[..., 2::-1]
    rows[:, 1:] = colours.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)
    content += _chunk(b"IDAT", zlib.compress(rows.tobytes(), 1)) + _chunk(b"IEND", b"")
    hidden = path.with_name(f".{path.name}")
    try:
        hidden.write_bytes(content)
        os.rename(hidden, path)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise


def _chunk(kind: bytes, content: bytes) -> bytes:
    size, checksum = len(content), zlib.crc32(kind + content)
    return struct.pack(">I", size) + kind + content + struct.pack(">I", checksum)
