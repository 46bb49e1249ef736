"""The messages of an ONNX file, and its tensors as arrays.

Source: the numbers of fields and types as onnx.proto3 of github.com/onnx/onnx (IR version 13) has
them. Training information, annotations of quantization and sparse tensors are not read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill.errors import FileFormatError
from handmill.exchange.wire import many, one
from handmill.ir.op import Array

DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip
"""The types of tensors that have a dtype here, by ONNX's number."""
NUMBERS = {name: number for number, name in DTYPES.items()}
STRING, BFLOAT16 = 8, 16

_TYPED = {
    "float_data": ("float32",),
    "int32_data": ("int32", "int16", "int8", "uint16", "uint8", "bool", "float16"),
    "int64_data": ("int64",),
    "double_data": ("float64",),
    "uint64_data": ("uint32", "uint64"),
}
"""Which field holds the numbers of which dtypes, where they are not raw bytes."""

FLOAT, INT, TEXT, TENSOR, GRAPH, FLOATS, INTS, TEXTS = range(1, 9)
"""Types of attributes."""


@dataclass
class Entry:
    """A key and a value, both text."""

    key: str = one(1, "string", "")
    value: str = one(2, "string", "")


@dataclass
class Tensor:
    """A tensor: its numbers as raw bytes, in a field of their type, or in another file."""

    dims: list[int] = many(1, "int")
    data_type: int = one(2, "int", 0)
    segment: Any = one(3, "bytes")
    float_data: list[float] = many(4, "float")
    int32_data: list[int] = many(5, "int")
    string_data: list[Any] = many(6, "bytes")
    int64_data: list[int] = many(7, "int")
    name: str = one(8, "string", "")
    raw_data: Any = one(9, "bytes")
    double_data: list[float] = many(10, "double")
    uint64_data: list[int] = many(11, "int")
    external_data: list[Entry] = many(13, lambda: Entry)
    data_location: int = one(14, "int", 0)


@dataclass
class Attribute:
    """An attribute of a node."""

    name: str = one(1, "string", "")
    f: float | None = one(2, "float")
    i: int | None = one(3, "int")
    s: Any = one(4, "bytes")
    t: Tensor | None = one(5, lambda: Tensor)
    g: Graph | None = one(6, lambda: Graph)
    floats: list[float] = many(7, "float")
    ints: list[int] = many(8, "int")
    strings: list[Any] = many(9, "bytes")
    tensors: list[Tensor] = many(10, lambda: Tensor)
    graphs: list[Graph] = many(11, lambda: Graph)
    type: int = one(20, "int", 0)
    ref_attr_name: str | None = one(21, "string")


@dataclass
class Node:
    """One operator applied."""

    input: list[str] = many(1, "string")
    output: list[str] = many(2, "string")
    name: str = one(3, "string", "")
    op_type: str = one(4, "string", "")
    attribute: list[Attribute] = many(5, lambda: Attribute)
    domain: str = one(7, "string", "")


@dataclass
class Dimension:
    """A size: a number, or a name for one that a call decides."""

    dim_value: int | None = one(1, "int")
    dim_param: str | None = one(2, "string")


@dataclass
class Shape:
    """The sizes of a tensor."""

    dim: list[Dimension] = many(1, lambda: Dimension)


@dataclass
class TensorType:
    """The dtype and shape of a tensor."""

    elem_type: int = one(1, "int", 0)
    shape: Shape | None = one(2, lambda: Shape)


@dataclass
class Type:
    """The type of a value; other types than tensors are only told apart from them."""

    tensor_type: TensorType | None = one(1, lambda: TensorType)


@dataclass
class ValueInfo:
    """A named value and its type."""

    name: str = one(1, "string", "")
    type: Type | None = one(2, lambda: Type)


@dataclass
class Graph:
    """Nodes in an order in which they can run."""

    node: list[Node] = many(1, lambda: Node)
    name: str = one(2, "string", "")
    initializer: list[Tensor] = many(5, lambda: Tensor)
    input: list[ValueInfo] = many(11, lambda: ValueInfo)
    output: list[ValueInfo] = many(12, lambda: ValueInfo)
    value_info: list[ValueInfo] = many(13, lambda: ValueInfo)
    sparse_initializer: list[Any] = many(15, "bytes")


@dataclass
class OperatorSet:
    """Which version of a set of operators a file uses."""

    domain: str = one(1, "string", "")
    version: int = one(2, "int", 0)


@dataclass
class Model:
    """What a file holds."""

    ir_version: int = one(1, "int", 0)
    producer_name: str = one(2, "string", "")
    producer_version: str = one(3, "string", "")
    model_version: int | None = one(5, "int")
    graph: Graph | None = one(7, lambda: Graph)
    opset_import: list[OperatorSet] = many(8, lambda: OperatorSet)
    metadata_props: list[Entry] = many(14, lambda: Entry)
    functions: list[Any] = many(25, "bytes")


def tensor_of(array: Any, name: str = "") -> Tensor:
    """Returns an array as a tensor whose bytes are the array's."""
    data = np.asarray(array)
    data = np.ascontiguousarray(data, data.dtype.newbyteorder("<")).reshape(data.shape)
    return Tensor(
        dims=list(data.shape),
        data_type=NUMBERS[data.dtype.name],
        name=name,
        raw_data=data.tobytes(),
    )


def value_info(name: str, dtype: str, shape: Any) -> ValueInfo:
    """Describes a value; sizes are numbers, or names for what a call decides."""
    dims = [
        Dimension(dim_param=dim) if isinstance(dim, str) else Dimension(dim_value=dim)
        for dim in shape
    ]
    return ValueInfo(name, Type(TensorType(NUMBERS[dtype], Shape(dims))))


def attribute_of(name: str, value: Any) -> Attribute:
    """Returns an attribute of the type that the value has."""
    if isinstance(value, bool | int | np.integer):
        return Attribute(name, i=int(value), type=INT)
    if isinstance(value, float):
        return Attribute(name, f=value, type=FLOAT)
    if isinstance(value, str):
        return Attribute(name, s=value.encode("utf-8"), type=TEXT)
    if isinstance(value, Tensor):
        return Attribute(name, t=value, type=TENSOR)
    if isinstance(value, Graph):
        return Attribute(name, g=value, type=GRAPH)
    items = list(value)
    if items and isinstance(items[0], str):
        return Attribute(name, strings=[s.encode("utf-8") for s in items], type=TEXTS)
    if items and isinstance(items[0], float):
        return Attribute(name, floats=items, type=FLOATS)
    return Attribute(name, ints=[int(i) for i in items], type=INTS)


def array_of(tensor: Tensor, what: str, raw: Any = None) -> Array:
    """Returns a tensor as an array; sizes are checked against the bytes before anything is made.

    Args:
        tensor: as it was read.
        what: names it in errors.
        raw: its bytes, where they lie in another file.

    Raises:
        FileFormatError: if the numbers do not fill the shape, or lie in another file.
    """
    if any(dim < 0 for dim in tensor.dims):
        raise FileFormatError(f"{what} has a negative size: {tensor.dims}")
    count = math.prod(tensor.dims)
    if tensor.data_type == BFLOAT16:
        return _from_bfloat16(tensor, count, what)
    name = DTYPES.get(tensor.data_type)
    if name is None:
        raise FileFormatError(f"{what} has the type {tensor.data_type}, which is not read")
    if tensor.segment is not None:
        raise FileFormatError(f"{what} is a part of a tensor, which is not read")
    if raw is None and (tensor.data_location or tensor.external_data):
        raise FileFormatError(f"{what} lies in another file")
    given = [key for key in _TYPED if getattr(tensor, key)]
    if raw is None:
        raw = tensor.raw_data
    if (raw is not None and given) or len(given) > 1:
        raise FileFormatError(f"{what} has its numbers twice")
    dtype = np.dtype(name).newbyteorder("<")
    if raw is not None:
        if len(raw) != count * dtype.itemsize:
            raise FileFormatError(
                f"{what} of shape {tensor.dims} and dtype {name} takes {count * dtype.itemsize} "
                f"bytes, has {len(raw)}"
            )
        return np.frombuffer(raw, dtype).astype(name).reshape(tensor.dims)
    values = getattr(tensor, given[0]) if given else []
    if given and name not in _TYPED[given[0]]:
        raise FileFormatError(f"{what} of dtype {name} has its numbers in the field {given[0]!r}")
    if len(values) != count:
        raise FileFormatError(f"{what} of shape {tensor.dims} has {len(values)} numbers")
    try:
        if name == "float16":
            return np.array(values, np.uint16).view(np.float16).reshape(tensor.dims)
        if name == "bool":
            return np.array(values, np.int64).astype(bool).reshape(tensor.dims)
        return np.array(values, name).reshape(tensor.dims)
    except OverflowError:
        raise FileFormatError(f"{what} of dtype {name} holds a number beyond it") from None


def _from_bfloat16(tensor: Tensor, count: int, what: str) -> Array:
    raw = tensor.raw_data
    if raw is None or len(raw) != 2 * count:
        raise FileFormatError(f"{what} of shape {tensor.dims} and dtype bfloat16 lacks its bytes")
    wide = np.frombuffer(raw, "<u2").astype(np.uint32) << np.uint32(16)
    return np.asarray(wide.view(np.float32)).reshape(tensor.dims)
