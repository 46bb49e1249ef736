"""Dimensions and specs: shapes whose batch size may still be unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

DTYPES = (
    "float32",
    "float64",
    "bfloat16",
    "int8",
    "uint8",
    "int32",
    "int64",
    "bool",
)
"""Every dtype of a Value. The position is the code that the C++ side uses."""

FLOATS = frozenset({"float32", "float64", "bfloat16"})


@dataclass(frozen=True, slots=True)
class Batch:
    """A dimension of ``times * B`` elements, where B is the batch size of the call.

    Multiplication and exact division by integers are all that shape rules need.
    """

    times: int = 1

    def __mul__(self, other: int) -> Batch:
        return Batch(self.times * _positive(other))

    __rmul__ = __mul__

    def __floordiv__(self, other: int) -> Batch:
        if self.times % _positive(other):
            raise ValueError(f"{self} rows cannot be divided into groups of {other}")
        return Batch(self.times // other)

    def at(self, batch: int) -> int:
        """Returns the number of elements for a batch of ``batch`` rows."""
        return self.times * batch

    def __repr__(self) -> str:
        return "B" if self.times == 1 else f"{self.times}*B"


Dim: TypeAlias = "int | Batch"
Shape: TypeAlias = "tuple[int | Batch, ...]"


def _positive(n: int) -> int:
    if not isinstance(n, int | np.integer) or n <= 0:
        raise ValueError(f"a batch dimension is scaled by positive integers only, got {n!r}")
    return int(n)


@dataclass(frozen=True, slots=True)
class Spec:
    """What is known of a value before it is computed: its shape and dtype."""

    shape: Shape
    dtype: str = "float32"

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether gradients can flow through a value of this dtype."""
        return self.dtype in FLOATS

    def at(self, batch: int) -> Spec:
        """Returns the spec for a batch of ``batch`` rows."""
        return Spec(shape_at(self.shape, batch), self.dtype)

    def __repr__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


def shape_at(shape: Shape, batch: int) -> tuple[int, ...]:
    """Returns ``shape`` with the batch size filled in."""
    return tuple(d.at(batch) if isinstance(d, Batch) else d for d in shape)


def attrs_at(attrs: dict[str, object], batch: int) -> dict[str, object]:
    """Returns ``attrs`` with every Batch in it, also inside tuples, filled in."""

    def resolve(value: object) -> object:
        if isinstance(value, Batch):
            return value.at(batch)
        if isinstance(value, tuple):
            return tuple(resolve(v) for v in value)
        return value

    return {name: resolve(value) for name, value in attrs.items()}


def batch_of(shape: Shape, concrete: tuple[int, ...]) -> int | None:
    """Returns the batch size that makes ``shape`` equal ``concrete``, None if it has no batch.

    Raises:
        ValueError: if no batch size makes the two equal.
    """
    batch: int | None = None
    if len(shape) != len(concrete):
        raise ValueError(f"expected shape {shape}, got {concrete}")
    for dim, size in zip(shape, concrete, strict=True):
        if isinstance(dim, Batch):
            rows, rest = divmod(size, dim.times)
            if rest or (batch is not None and rows != batch):
                raise ValueError(f"expected shape {shape}, got {concrete}")
            batch = rows
        elif dim != size:
            raise ValueError(f"expected shape {shape}, got {concrete}")
    return batch


def size_of(shape: Shape) -> Dim:
    """Returns the number of elements of ``shape``.

    Raises:
        ValueError: if two dimensions depend on the batch (their product is not linear in it).
    """
    size: Dim = 1
    for dim in shape:
        if isinstance(dim, Batch) and isinstance(size, Batch):
            raise ValueError(f"shape {shape} grows with the square of the batch size")
        if dim == 0 or size == 0:
            size = 0
        elif isinstance(dim, Batch):
            assert isinstance(size, int)  # noqa: S101  (the two are not both Batch)
            size = dim * size
        else:
            size = size * dim
    return size


def broadcast_shapes(*shapes: Shape) -> Shape:
    """Returns the shape that NumPy's broadcasting gives.

    Raises:
        ValueError: if the shapes cannot be broadcast together.
    """
    rank = max((len(s) for s in shapes), default=0)
    result: list[Dim] = []
    for position in range(-rank, 0):
        found: Dim = 1
        for shape in shapes:
            if len(shape) >= -position and shape[position] != 1:
                dim = shape[position]
                if found not in (1, dim):
                    raise ValueError(f"shapes {' and '.join(map(str, shapes))} do not broadcast")
                found = dim
        result.append(found)
    return tuple(result)


_NAMES = {np.dtype(name): name for name in DTYPES if name != "bfloat16"}


def name_of_dtype(dtype: np.dtype[Any]) -> str:
    """Returns ``dtype.name``, for native dtypes of a Value without NumPy's 2 us of string work."""
    return _NAMES.get(dtype) or str(dtype.name)


def numpy_dtype(dtype: str) -> np.dtype[np.generic]:
    """Returns the NumPy dtype that stores ``dtype`` (bfloat16 needs ml_dtypes)."""
    if dtype == "bfloat16":
        from ml_dtypes import bfloat16

        found: np.dtype[np.generic] = np.dtype(bfloat16)
        return found
    return np.dtype(dtype)


_STAND_INS = {
    "float16": "float32",
    "int16": "int32",
    "uint16": "int32",
    "uint32": "int64",
    "uint64": "int64",
}


def held(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Returns an array in a dtype of a Value, in the byte order of the machine.

    float16 becomes float32, floats wider than float64 become float64, and int16, uint16, uint32 and
    uint64 the integers that hold them.

    Raises:
        TypeError: if these are no numbers.
        OverflowError: if a uint64 is too large for int64.
    """
    dtype = array.dtype
    if dtype in _NAMES and dtype.isnative:
        return array
    name = _STAND_INS.get(dtype.name, dtype.name)
    if dtype.kind == "f" and dtype.itemsize > 8:
        name = "float64"
    if name not in DTYPES:
        raise TypeError(
            f"expected numbers, got an array of dtype {dtype}; "
            "convert it first, e.g. with numpy.asarray(x, 'float32')"
        )
    if dtype.name == "uint64" and array.size and int(array.max()) >= 1 << 63:
        raise OverflowError(f"{array.max()} does not fit into int64, which holds uint64 here")
    return array.astype(numpy_dtype(name), copy=False)


def convert(array: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    """Converts to another dtype as kernels do.

    A float outside of the integers of a dtype becomes the nearest, NaN becomes 0; NumPy's astype
    leaves both open.
    """
    target = numpy_dtype(dtype)
    if array.dtype.kind != "f" or target.kind not in "iu":
        return np.asarray(array).astype(target)
    info = np.iinfo(target.name)
    low, high = np.asarray(info.min, array.dtype), np.asarray(info.max, array.dtype)
    inside = (array > low) & (array < high)
    found = np.where(inside, array, 0).astype(target)
    outside = np.where(array >= high, info.max, np.where(array <= low, info.min, 0))
    return np.where(inside, found, outside.astype(target))
