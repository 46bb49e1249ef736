"""Specs, and what shapes that hold symbols have in common with NumPy's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill.ir.dims import (
    Atom,
    Dim,
    Shape,
    Symbol,
    SymbolicDim,
    as_none,
    atoms_of,
    same,
    same_shape,
    substituted,
    terms_of,
)

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

_OF_KERAS = frozenset(
    {
        "float16", "uint16", "uint32", "uint64", "int16", "string", "complex64", "complex128",
        "float8_e4m3fn", "float8_e5m2",
    }
)  # fmt: skip
_OF_PYTHON: dict[object, str] = {bool: "bool", int: "int32", float: "float32", str: "string"}


def standardize_dtype(dtype: object) -> str:
    """Returns the name of a dtype that is given as text, as a class of Python, or by a library.

    Names of dtypes that Keras has and handmill does not compute in are names too.

    Args:
        dtype: such as ``"float32"``, ``np.float32``, ``float`` or ``torch.float32``; None stands
            for float32.

    Raises:
        ValueError: if it names no dtype.

    Example:
        >>> standardize_dtype(np.dtype("int64")), standardize_dtype(float), standardize_dtype(None)
        ('int64', 'float32', 'float32')
    """
    if dtype is None:
        return "float32"
    found: object = _OF_PYTHON.get(dtype) if isinstance(dtype, type) else None
    if found is None:
        found = getattr(dtype, "name", None) or getattr(dtype, "__name__", None)
    if found is None:
        found = {"int": "int32", "float": "float32"}.get(str(dtype), str(dtype).rpartition(".")[2])
    if found not in DTYPES and found not in _OF_KERAS:
        raise ValueError(f"Invalid dtype: {dtype!r}. handmill computes in {', '.join(DTYPES)}.")
    return str(found)


Sizes = Mapping[Atom, int]
"""What a call binds: the size of each symbol."""


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

    def at(self, sizes: Sizes) -> Spec:
        """Returns the spec for these sizes."""
        return Spec(shape_at(self.shape, sizes), self.dtype)

    def same(self, other: Spec) -> bool:
        """Whether both are equal; what a call decides is assumed to be."""
        return self.dtype == other.dtype and same_shape(self.shape, other.shape)

    def with_dims(self, values: Mapping[Atom, Any]) -> Spec:
        """Returns the spec with symbols replaced by dimensions."""
        return Spec(tuple(substituted(d, values) for d in self.shape), self.dtype)

    def __repr__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


def shape_at(shape: Shape, sizes: Sizes) -> tuple[int, ...]:
    """Returns ``shape`` with the sizes of a call filled in."""
    return tuple(substituted(d, sizes) for d in shape)


def symbols_in(shapes: Iterable[Shape]) -> tuple[Symbol, ...]:
    """Returns the symbols of ``shapes`` in order of appearance."""
    found: dict[Symbol, None] = {}
    for shape in shapes:
        for dim in shape:
            found.update((a, None) for a in atoms_of(dim) if isinstance(a, Symbol))
    return tuple(found)


def bind(
    shapes: Sequence[Shape], concrete: Sequence[Sequence[int]], names: Sequence[str]
) -> dict[Atom, int]:
    """Returns the size of each symbol that makes ``shapes`` equal ``concrete``.

    Args:
        shapes: of the inputs of a program; each symbol stands alone, or as ``c*s + d``, somewhere.
        concrete: the shapes of what is fed.
        names: of the inputs, for messages.

    Raises:
        ValueError: if there are no such sizes; it names inputs, axes and sizes.
    """
    sizes: dict[Atom, int] = {}
    places: dict[Atom, str] = {}
    later = []
    for i, (shape, found) in enumerate(zip(shapes, concrete, strict=True)):
        if len(shape) != len(found):
            raise ValueError(
                f"input {names[i]!r}: expected {len(shape)} dimensions, {as_none(shape)}, "
                f"got shape {tuple(found)}"
            )
        for axis, (dim, size) in enumerate(zip(shape, found, strict=True)):
            if isinstance(dim, SymbolicDim):
                later.append((i, axis, dim, size))
            elif dim != size:
                raise ValueError(
                    f"input {names[i]!r}: expected {dim} along axis {axis}, got shape "
                    f"{tuple(found)}"
                )
    waiting = sorted(later, key=lambda entry: len(entry[2].terms))  # lone symbols first
    for i, axis, dim, size in waiting:
        left = substituted(dim, sizes)
        here = f"axis {axis} of input {names[i]!r}"
        if isinstance(left, SymbolicDim):
            if not _solve(left, size, sizes):
                raise ValueError(f"{here} is {dim} by what was traced, it cannot be {size}")
            places.update((a, here) for a in atoms_of(left))
        elif left != size:
            known = ", ".join(places[a] for a in dict.fromkeys(atoms_of(dim)) if a in places)
            rule = "as" if len(dim.terms) == 1 and dim.terms[0][1] == 1 else f"{dim}, by"
            raise ValueError(f"{here} must be {left}, {rule} {known}, but it is {size}")
    return sizes


def _solve(dim: SymbolicDim, size: int, sizes: dict[Atom, int]) -> bool:
    terms = dict(terms_of(dim))
    rest = size - terms.pop((), 0)
    if len(terms) != 1:
        return False
    (monomial, count) = next(iter(terms.items()))
    if len(monomial) != 1 or not isinstance(monomial[0], Symbol) or rest % count or rest < 0:
        return False
    sizes[monomial[0]] = rest // count
    return True


def size_of(shape: Shape) -> Dim:
    """Returns the number of elements of ``shape``."""
    size: Dim = 1
    for dim in shape:
        size = size * dim
    return size


def broadcast_shapes(*shapes: Shape) -> Shape:
    """Returns the shape that NumPy's broadcasting gives.

    A symbol beside 1 stays; beside a number or another symbol it is assumed to be equal
    (:func:`handmill.ir.dims.same`), which is checked when a call binds it.

    Raises:
        ValueError: if the shapes cannot be broadcast together.
    """
    if len(shapes) == 2:
        a, b = shapes
        if not b or a == b:
            return tuple(a)
        if not a:
            return tuple(b)
    rank = max((len(s) for s in shapes), default=0)
    result: list[Dim] = []
    for position in range(-rank, 0):
        found: Dim = 1
        for shape in shapes:
            if len(shape) >= -position and shape[position] != 1:
                dim = shape[position]
                if found == 1:
                    found = dim
                elif not same(found, dim):
                    raise ValueError(f"shapes {' and '.join(map(str, shapes))} do not broadcast")
                elif not isinstance(dim, SymbolicDim):
                    found = dim
        result.append(found)
    return tuple(result)


def broadcasts_to(x: Shape, shape: Shape) -> bool:
    """Whether ``x`` broadcasts to ``shape``; equalities are assumed as in broadcasting."""
    pairs = zip(reversed(x), reversed(shape), strict=False)
    return len(x) <= len(shape) and all(d == 1 or same(d, wanted) for d, wanted in pairs)


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
