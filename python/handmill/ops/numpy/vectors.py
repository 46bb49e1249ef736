"""Products of vectors and matrices that are made of element-wise ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import same
from handmill.ops.core import cast
from handmill.ops.numpy.arrange import moveaxis, stack
from handmill.ops.numpy.elementwise import add, multiply, power, subtract
from handmill.ops.numpy.movement import expand_dims, reshape
from handmill.ops.numpy.products import tensordot
from handmill.ops.numpy.sorting import take
from handmill.primitives.operands import Tensor, dtype_of, promote, promote_number, shape_of, tensor
from handmill.primitives.sizes import steps_to


def inner(x1: Tensor, x2: Tensor) -> Any:
    """Sums products over the last axes; of scalars it is the product.

    Example:
        >>> from handmill import ops
        >>> float(ops.inner([1.0, 2.0], [3.0, 4.0]))
        11.0
    """
    x1, x2 = tensor(x1), tensor(x2)
    if not shape_of(x1) or not shape_of(x2):
        return multiply(x1, x2)
    if not same(shape_of(x1)[-1], shape_of(x2)[-1]):
        operands = {"x1": shape_of(x1), "x2": shape_of(x2)}
        raise shape_error("inner", "the last dimensions differ", operands)
    return tensordot(x1, x2, axes=(-1, -1))


def kron(x1: Tensor, x2: Tensor) -> Any:
    """Returns the Kronecker product: each element of ``x1`` times the whole of ``x2``.

    Example:
        >>> from handmill import ops
        >>> ops.kron([1, 10], [1, 2])
        array([ 1,  2, 10, 20], dtype=int32)
    """
    x1, x2 = promote(x1, x2)
    rank = max(len(shape_of(x1)), len(shape_of(x2)))
    first, second = ((1,) * (rank - len(shape_of(x))) + shape_of(x) for x in (x1, x2))
    left = tuple(d for dim in first for d in (dim, 1))
    right = tuple(d for dim in second for d in (1, dim))
    product = multiply(reshape(x1, left), reshape(x2, right))
    return reshape(product, tuple(a * b for a, b in zip(first, second, strict=True)))


def cross(
    x1: Tensor,
    x2: Tensor,
    axisa: int = -1,
    axisb: int = -1,
    axisc: int = -1,
    axis: int | None = None,
) -> Any:
    """Returns the cross products of vectors of two or three components.

    Args:
        x1: the first vectors.
        x2: the second vectors. A missing third component is 0; of two vectors of two components
            only the third one of the product is returned.
        axisa: the axis of the components of ``x1``.
        axisb: the axis of the components of ``x2``.
        axisc: the axis of the components of the result.
        axis: one for all three.

    Example:
        >>> from handmill import ops
        >>> ops.cross([1, 0, 0], [0, 1, 0])
        array([0, 0, 1], dtype=int32)
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    x1, x2 = (promote_number(x) for x in promote(x1, x2))
    a, b = moveaxis(x1, axisa, -1), moveaxis(x2, axisb, -1)
    sizes = [shape_of(v)[-1] for v in (a, b)]
    if not {2, 3}.issuperset(sizes):
        shapes = {"x1": shape_of(x1), "x2": shape_of(x2)}
        raise shape_error("cross", "vectors of two or three components were expected", shapes)
    left, right = (
        [take(v, i, axis=-1) for i in range(int(n))] for v, n in zip((a, b), sizes, strict=True)
    )
    third = subtract(multiply(left[0], right[1]), multiply(left[1], right[0]))
    if sizes == [2, 2]:
        return third
    none = np.zeros((), dtype_of(third))
    (a0, a1, a2), (b0, b1, b2) = ((*v, none)[:3] for v in (left, right))
    parts = [
        subtract(multiply(a1, b2), multiply(a2, b1)),
        subtract(multiply(a2, b0), multiply(a0, b2)),
        third,
    ]
    return moveaxis(stack(parts, axis=-1), -1, axisc)


def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Any:
    """Returns the matrix of the powers of each element, a Vandermonde matrix.

    Args:
        x: a vector.
        N: the number of powers. Default: as many as elements.
        increasing: whether they rise from power 0.

    Example:
        >>> from handmill import ops
        >>> ops.vander([1, 2, 3])
        array([[1, 1, 1],
               [4, 2, 1],
               [9, 3, 1]], dtype=int32)
    """
    x = promote_number(x)
    if len(shape_of(x)) != 1:
        raise shape_error("vander", "a vector was expected", {"x": shape_of(x)})
    count = shape_of(x)[0] if N is None else N
    if isinstance(count, int) and count < 0:
        raise ValueError(f"vander: `N` must not be negative, got N={count}")
    powers = steps_to(count, like=x) if increasing else add(steps_to(count, -1, x), count - 1)
    return power(expand_dims(x, 1), cast(powers, dtype_of(x)))
