"""Protocol Buffers on the wire: messages described by dataclasses, written, and read within limits.

A field of a message is an attribute whose metadata holds its number and kind: ``"int"`` (a varint,
signed in 64 bits), ``"float"``, ``"double"``, ``"string"``, ``"bytes"``, or the class of another
message. Reading keeps what is known and skips what is not; it allocates nothing that the file does
not hold, and refuses what no writer makes.

Source: the encoding as https://protobuf.dev/programming-guides/encoding describes it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from handmill.errors import FileFormatError

MOST_BYTES = 2**31 - 1
"""Of one file: what Protocol Buffers themselves allow."""
MOST_DEPTH = 32
MOST_FIELDS = 4_000_000
"""In one file: each becomes an object of Python."""

_VARINT, _I64, _LENGTH, _I32 = 0, 1, 2, 5
_NUMBERS = {"int": _VARINT, "float": _I32, "double": _I64}
_M = TypeVar("_M")


@dataclass(frozen=True)
class _Field:
    name: str
    number: int
    kind: Any  # a word, or a function that gives the class of a message
    repeated: bool
    default: Any


def one(number: int, kind: Any, default: Any = None) -> Any:
    """Declares a field that is there once, or not at all: then it has the default."""
    return field(default=default, metadata={"number": number, "kind": kind, "repeated": False})


def many(number: int, kind: Any) -> Any:
    """Declares a field that is there any number of times."""
    metadata = {"number": number, "kind": kind, "repeated": True}
    return field(default_factory=list, metadata=metadata)


_DESCRIBED: dict[type[Any], dict[int, _Field]] = {}


def _described(message: type[Any]) -> dict[int, _Field]:
    found = _DESCRIBED.get(message)
    if found is not None:
        return found
    found = _DESCRIBED[message] = {}
    for each in fields(message):
        number, kind, repeated = (each.metadata[key] for key in ("number", "kind", "repeated"))
        found[number] = _Field(each.name, number, kind, repeated, each.default)
    return found


# --- writing -------------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    found = bytearray()
    while value >= 128:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


_WRITERS: dict[str, Callable[[Any], bytes]] = {
    "int": _varint,
    "float": lambda x: struct.pack("<f", x),
    "double": lambda x: struct.pack("<d", x),
}


def written(message: Any) -> list[Any]:
    """Returns the bytes of a message as pieces; large ones are not copied.

    Raises:
        ValueError: if it is larger than Protocol Buffers allow.
    """
    pieces = list(_pieces(message))
    if sum(map(len, pieces)) > MOST_BYTES:
        raise ValueError(
            f"the model takes {sum(map(len, pieces)):,} bytes, a file of this format holds at most "
            f"{MOST_BYTES:,}: it was not written"
        )
    return pieces


def _pieces(message: Any) -> Iterator[Any]:
    for each in _described(type(message)).values():
        value = getattr(message, each.name)
        if not value if each.repeated else value == each.default:
            continue
        if each.kind in _NUMBERS:
            write = _WRITERS[each.kind]
            if each.repeated:
                packed = b"".join(map(write, value))
                yield _varint(each.number << 3 | _LENGTH) + _varint(len(packed)) + packed
            else:
                yield _varint(each.number << 3 | _NUMBERS[each.kind]) + write(value)
            continue
        for item in value if each.repeated else (value,):
            if each.kind == "string":
                content: Sequence[Any] = [item.encode("utf-8")]
            elif each.kind == "bytes":
                content = [item]
            else:
                content = list(_pieces(item))
            yield _varint(each.number << 3 | _LENGTH) + _varint(sum(map(len, content)))
            yield from content


# --- reading -------------------------------------------------------------------------------------


class _Reader:
    """Reads messages of one file, and counts what it finds."""

    def __init__(self, data: memoryview, what: str) -> None:
        self.data = data
        self.what = what
        self.left = MOST_FIELDS

    def error(self, problem: str, at: int) -> FileFormatError:
        return FileFormatError(f"{self.what} is damaged: {problem} (byte {at})")

    def varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                raise self.error("a number reaches beyond its message", at)
            byte = self.data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & (2**64 - 1), at
        raise self.error("a number takes more than 10 bytes", at)

    def message(self, kind: type[_M], at: int, end: int, depth: int) -> _M:
        if depth > MOST_DEPTH:
            raise self.error(f"messages are nested more than {MOST_DEPTH} deep", at)
        known = _described(kind)
        made = kind()
        while at < end:
            self.left -= 1
            if self.left < 0:
                raise self.error(f"it holds more than {MOST_FIELDS:,} fields", at)
            key, at = self.varint(at, end)
            number, wire = key >> 3, key & 7
            if number == 0:
                raise self.error("a field has the number 0", at)
            if wire == _VARINT:
                stop = self.varint(at, end)[1]
            elif wire in (_I64, _I32):
                stop = at + (8 if wire == _I64 else 4)
            elif wire == _LENGTH:
                length, at = self.varint(at, end)
                stop = at + length
            else:
                raise self.error(f"a field of wire type {wire}, which no file of this kind has", at)
            if stop > end:
                raise self.error("a field reaches beyond its message", at)
            each = known.get(number)
            if each is not None:
                self.take(made, each, wire, at, stop, depth)
            at = stop
        return made

    def take(self, made: Any, each: _Field, wire: int, at: int, stop: int, depth: int) -> None:
        if each.kind in _NUMBERS:
            values = self.numbers(each, wire, at, stop)
            if each.repeated:
                getattr(made, each.name).extend(values)
            elif values:
                setattr(made, each.name, values[-1])
            return
        if wire != _LENGTH:
            raise self.error(f"the field {each.name!r} is a number, bytes were expected", at)
        value: Any
        if each.kind == "bytes":
            value = self.data[at:stop]
        elif each.kind == "string":
            try:
                value = str(self.data[at:stop], "utf-8")
            except UnicodeDecodeError:
                raise self.error(f"the field {each.name!r} is no UTF-8 text", at) from None
        else:
            value = self.message(each.kind(), at, stop, depth + 1)
        if each.repeated:
            getattr(made, each.name).append(value)
        else:
            setattr(made, each.name, value)

    def numbers(self, each: _Field, wire: int, at: int, stop: int) -> list[Any]:
        own = _NUMBERS[each.kind]
        if wire not in (own, _LENGTH) or (wire == _LENGTH and not each.repeated):
            raise self.error(f"the field {each.name!r} is stored as another type", at)
        if own != _VARINT:
            size, code = (4, "f") if own == _I32 else (8, "d")
            if (stop - at) % size:
                raise self.error(f"the field {each.name!r} ends within a number", at)
            self.left -= (stop - at) // size
            return list(struct.unpack(f"<{(stop - at) // size}{code}", self.data[at:stop]))
        found = []
        while at < stop:
            value, at = self.varint(at, stop)
            found.append(value - 2**64 if value >= 2**63 else value)
        self.left -= len(found)
        return found


def read(kind: type[_M], data: Any, what: str) -> _M:
    """Returns the message that bytes hold; fields of bytes are views of them.

    Args:
        kind: its class.
        data: bytes, or anything that has a buffer of them.
        what: names the file in errors.

    Raises:
        FileFormatError: if they are no such message, or break a limit.
    """
    view = memoryview(data).cast("B")
    if len(view) > MOST_BYTES:
        raise FileFormatError(f"{what} has {len(view):,} bytes, at most {MOST_BYTES:,} are read")
    return _Reader(view, what).message(kind, 0, len(view), 0)
