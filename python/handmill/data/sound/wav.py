"""WAV files: samples as integers or floats, in chunks whose sizes are checked against the file.

Format: Microsoft, "Multimedia Programming Interface and Data Specifications 1.0" (1991), chunk
``fmt`` with the extensible form of 2001.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

import numpy as np

from handmill.files import read_regular
from handmill.ir.op import Array

_INTEGERS, _FLOATS, _EXTENSIBLE = 1, 3, 0xFFFE
_OTHERS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 17: "IMA ADPCM", 85: "MP3"}
_UNKNOWN_SIZE = 0xFFFFFFFF  # what programs write that do not know how much will follow


@dataclass(frozen=True)
class WavFormat:
    """What a file says of its samples.

    Attributes:
        is_float: whether they are floats, not integers.
        bits: of a sample.
        channels: samples of one moment.
        rate: moments a second.
    """

    is_float: bool
    bits: int
    channels: int
    rate: int


def is_wav(data: bytes) -> bool:
    """Whether a file that begins so is a WAV file."""
    return data[:4] in (b"RIFF", b"RIFX", b"RF64") and data[8:12] == b"WAVE"


def decoded(data: bytes, path: str) -> tuple[Array, int]:
    """Returns the samples, float32 of shape (samples, channels), and the rate.

    Integers are divided so that they lie in [-1, 1); floats stay as they are.

    Args:
        data: what the file holds.
        path: its name, for messages.

    Raises:
        ValueError: if it is no such file, or ends before its samples do.
    """
    try:
        form, samples = _chunks(data)
        return _numbers(form, samples), form.rate
    except ValueError as error:
        raise ValueError(f"cannot read recording {path!r}: {error}") from None


def _chunks(data: bytes) -> tuple[WavFormat, bytes]:
    if not data:
        raise ValueError("it is empty")
    if data[:4] in (b"RIFX", b"RF64") and data[8:12] == b"WAVE":
        raise ValueError(f"it is a {data[:4].decode()} file; plain RIFF files are read")
    if not is_wav(data):
        raise ValueError("it is no WAV file: it does not begin with RIFF and WAVE")
    at, form = 12, None
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int(struct.unpack_from("<I", data, at + 4)[0])
        at += 8
        held = len(data) - at
        if name == b"data":
            if form is None:
                raise ValueError("its samples come before the chunk 'fmt ' that describes them")
            if size == _UNKNOWN_SIZE:
                size = held
            if size > held:
                raise ValueError(f"it ends early: {size} bytes of samples announced, {held} held")
            return form, data[at : at + size]
        if size > held:
            raise ValueError(f"it ends early: chunk {name!r} of {size} bytes, {held} held")
        if name == b"fmt ":
            form = _format(data[at : at + size])
        at += size + size % 2
    raise ValueError("it ends early: there is no chunk 'data'")


def _format(chunk: bytes) -> WavFormat:
    if len(chunk) < 16:
        raise ValueError(f"its chunk 'fmt ' has {len(chunk)} bytes, 16 are needed")
    code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if code == _EXTENSIBLE:
        if len(chunk) < 40:
            raise ValueError(f"its extensible chunk 'fmt ' has {len(chunk)} bytes, 40 are needed")
        (code,) = struct.unpack_from("<H", chunk, 24)
    if code not in (_INTEGERS, _FLOATS):
        kind = _OTHERS.get(code, f"code {code}")
        raise ValueError(f"its samples are packed as {kind}; integers and floats are read")
    is_float = code == _FLOATS
    if bits not in ((32, 64) if is_float else (8, 16, 24, 32)):
        raise ValueError(f"its samples have {bits} bits")
    if channels < 1 or rate < 1:
        raise ValueError(f"it has {channels} channels and {rate} samples a second")
    return WavFormat(is_float, bits, channels, rate)


def _numbers(form: WavFormat, data: bytes) -> Array:
    whole = len(data) - len(data) % (form.bits // 8 * form.channels)
    data = data[:whole]  # a moment cut short is none
    numbers: Array
    if form.is_float:
        numbers = np.frombuffer(data, f"<f{form.bits // 8}").astype(np.float32)
    elif form.bits == 8:  # unsigned
        numbers = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    elif form.bits == 24:
        words = np.zeros((len(data) // 3, 4), np.uint8)
        words[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        numbers = words.view("<i4")[:, 0].astype(np.float32) / 2.0**31
    else:
        integers = np.frombuffer(data, f"<i{form.bits // 8}")
        numbers = integers.astype(np.float32) / 2.0 ** (form.bits - 1)
    return numbers.astype(np.float32, copy=False).reshape(-1, form.channels)


def read_wav(path: str | os.PathLike[str]) -> tuple[Array, int]:
    """Returns the samples of a file, float32 of shape (samples, channels), and its rate.

    Raises:
        ValueError: if it is no WAV file of integers or floats; the message names it.
    """
    return decoded(read_regular(path), os.fspath(path))


def rate_of(path: str) -> int:
    """The samples a second that a file announces; 0 for one that cannot be read.

    Only its beginning is looked at, where nearly all files have it.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            data = file.read(4096)
        at = data.find(b"fmt ", 12)
        return _format(data[at + 8 : at + 48]).rate if is_wav(data) and at > 0 else 0
    except (OSError, ValueError):
        return 0


def encoded(samples: Array, rate: int) -> bytes:
    """The file of float samples, (samples, channels), as integers of 16 bits."""
    scaled = np.rint(np.clip(samples.astype(np.float64), -1.0, 1.0) * 32768.0)
    data = np.clip(scaled, -32768, 32767).astype("<i2").tobytes()
    channels = samples.shape[1]
    form = struct.pack("<HHIIHH", _INTEGERS, channels, rate, 2 * channels * rate, 2 * channels, 16)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", 4 + len(chunks) + len(data)) + b"WAVE" + chunks + data
