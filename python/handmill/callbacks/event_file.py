"""Event files of TensorBoard, written without TensorFlow or protobuf.

A file is a sequence of records: the length of the data (8 bytes, little endian) and its masked
CRC-32C, then the data and their masked CRC-32C. The data are protocol buffer messages ``Event``;
only the fields that are needed here are known here.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5
_DT_STRING = 7
_numbers = itertools.count()


def _table() -> list[int]:
    found = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        found.append(crc)
    return found


_CRC = _table()


def crc32c(data: bytes) -> int:
    """The checksum CRC-32C (Castagnoli) of ``data``.

    Example:
        >>> hex(crc32c(b"123456789"))
        '0xe3069283'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(data: bytes) -> bytes:
    """``data`` as a record of an event file."""
    length = struct.pack("<Q", len(data))
    return length + _masked(length) + data + _masked(data)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers in two's complement
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _key(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _int(number: int, value: int) -> bytes:
    return _key(number, _VARINT) + _varint(value)


def _double(number: int, value: float) -> bytes:
    return _key(number, _DOUBLE) + struct.pack("<d", value)


def _data(number: int, value: bytes) -> bytes:
    return _key(number, _BYTES) + _varint(len(value)) + value


def _doubles(number: int, values: Any) -> bytes:
    return _data(number, np.asarray(values, "<f8").tobytes())


def scalar(tag: str, value: float) -> bytes:
    """A number as a ``Summary.Value``."""
    return _data(1, tag.encode()) + _key(2, _FLOAT) + struct.pack("<f", value)


def histogram(tag: str, values: Any, bins: int = 30) -> bytes:
    """The distribution of an array as a ``Summary.Value``; what is not finite is left out."""
    numbers = np.asarray(values, np.float64).reshape(-1)
    numbers = numbers[np.isfinite(numbers)]
    low, high = (float(numbers.min()), float(numbers.max())) if numbers.size else (0.0, 0.0)
    if low == high:
        counts, limits = np.array([float(numbers.size)]), np.array([high])
    else:
        counts, edges = np.histogram(numbers, bins)
        limits = edges[1:]
    message = _double(1, low) + _double(2, high) + _double(3, numbers.size)
    message += _double(4, float(numbers.sum())) + _double(5, float(np.square(numbers).sum()))
    message += _doubles(6, limits) + _doubles(7, counts)
    return _data(1, tag.encode()) + _data(5, message)


def image(tag: str, pixels: Any) -> bytes:
    """An image as a ``Summary.Value``.

    Args:
        tag: its name.
        pixels: uint8 of shape (height, width, channels) with 1, 3 or 4 channels.
    """
    height, width, channels = pixels.shape
    message = _int(1, height) + _int(2, width) + _int(3, channels) + _data(4, png(pixels))
    return _data(1, tag.encode()) + _data(4, message)


def text_for_plugin(tag: str, text: str, plugin: str, content: bytes) -> bytes:
    """A text that a plugin of TensorBoard shows, as a ``Summary.Value``."""
    tensor = _int(1, _DT_STRING) + _data(2, b"") + _data(8, text.encode())
    about = _data(1, _data(1, plugin.encode()) + _data(2, content))
    return _data(1, tag.encode()) + _data(8, tensor) + _data(9, about)


def png(pixels: Any) -> bytes:
    """uint8 pixels of shape (height, width, channels) as a PNG file."""
    height, width, channels = pixels.shape
    kinds = {1: 0, 3: 2, 4: 6}
    header = struct.pack(">IIBBBBB", width, height, 8, kinds[channels], 0, 0, 0)
    lines = np.zeros((height, 1 + width * channels), np.uint8)  # each line begins with filter 0
    lines[:, 1:] = pixels.reshape(height, -1)

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    parts = (
        chunk(b"IHDR", header),
        chunk(b"IDAT", zlib.compress(lines.tobytes())),
        chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


class EventFile:
    """A new event file in a folder, which is made when the first event is written.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: BinaryIO | None = None

    def write(self, values: Iterable[bytes], step: int) -> None:
        """Writes an event.

        Args:
            values: what :func:`scalar` and its like returned.
            step: where it lies in time.
        """
        summary = b"".join(_data(1, value) for value in values)
        self._add(_int(2, step) + _data(5, summary))

    def _add(self, content: bytes) -> None:
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
            self._file = (self.folder / f"{name}.{next(_numbers)}.v2").open("ab")
            self._add(_data(3, b"brain.Event:2"))
        self._file.write(record(_double(1, time.time()) + content))

    def flush(self) -> None:
        """Lets a TensorBoard that is watching see what was written."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Closes the file; another event would start another one."""
        if self._file is not None:
            self._file.close()
        self._file = None
