"""Linear algebra.

Decompositions and solutions of equations run in NumPy, on the host, in float64; products of
matrices and norms that need no decomposition have kernels.
"""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from handmill import tree
from handmill.errors import ShapeError
from handmill.ir.dims import same
from handmill.ir.op import Op
from handmill.ir.shapes import numpy_dtype
from handmill.ir.trace import apply, recorder
from handmill.ops.core import cast
from handmill.ops.numpy.arrange import moveaxis
from handmill.ops.numpy.elementwise import absolute, add, multiply, power, sqrt, square
from handmill.ops.numpy.logic import greater, not_equal
from handmill.ops.numpy.movement import expand_dims, reshape, squeeze
from handmill.ops.numpy.products import matmul
from handmill.ops.numpy.reductions import max, min, sum
from handmill.primitives import linalg
from handmill.primitives.emit import swap_last
from handmill.primitives.operands import (
    Axis,
    Tensor,
    converted,
    dtype_of,
    normal_axes,
    normal_axis,
    promote_float,
    shape_of,
    tensor,
    widened,
)
from handmill.primitives.reduce import SUM_OF_SQUARES, reduced_shape
from handmill.runtime.recording import plain
from handmill.runtime.tape import GradientTape


def norm(x: Tensor, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns the norm of vectors or matrices.

    Args:
        x: the input.
        ord: of vectors a number or plus or minus infinity; of matrices 1, -1 (largest and least
            sum of a column), infinity, minus infinity (of a row), "fro", or 2, -2, "nuc" (largest,
            least, and sum of the singular values). None: the root of the sum of squares.
        axis: the axis of the vectors, or the two axes of the matrices (rows first). Default: the
            whole input, a vector or, if it has two dimensions and ``ord`` is given, a matrix.
        keepdims: whether reduced axes stay, with size 1.

    Example:
        >>> from handmill import ops
        >>> float(ops.norm([3.0, 4.0])), float(ops.norm([[1.0, -2.0], [3.0, 4.0]], ord=1))
        (5.0, 6.0)
    """
    (x,) = promote_float(x)
    rank = len(shape_of(x))
    axes = normal_axes("norm", axis, rank)
    if ord is None or (ord == 2 and len(axes) == 1) or (ord == "fro" and len(axes) == 2):
        if axis is None and not keepdims:
            return sqrt(apply(SUM_OF_SQUARES, x))
        return sqrt(sum(square(x), axes, keepdims))
    if len(axes) == 1:
        return _vector_norm(absolute(x), ord, axes, keepdims)
    if len(axes) != 2:
        raise ShapeError(f"norm: ord={ord!r} is a norm of vectors or matrices, got axis={axis}")
    if ord not in (1, -1, 2, -2, np.inf, -np.inf, "nuc"):
        raise ValueError(
            f"norm: `ord` of matrices must be 1, -1, 2, -2, 'fro', 'nuc' or infinity, got {ord!r}"
        )
    rows, columns = axes if axis is None else (normal_axis("norm", int(a), rank) for a in axis)
    if ord in (2, -2, "nuc"):
        values = svd(moveaxis(x, (rows, columns), (-2, -1)), compute_uv=False)
        y = (sum if ord == "nuc" else max if ord == 2 else min)(values, -1)
        return reshape(y, reduced_shape(shape_of(x), axes, keepdims))
    summed, other = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = sum(absolute(x), summed, keepdims=True)
    y = (max if ord > 0 else min)(sums, other, keepdims=True)
    return y if keepdims else reshape(y, reduced_shape(shape_of(x), axes, False))


def _vector_norm(size: Any, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    if isinstance(ord, str):
        raise ValueError(f"norm: `ord` of vectors must be a number, got {ord!r}")
    if ord in (np.inf, -np.inf):
        return (max if ord > 0 else min)(size, axes, keepdims)
    if ord == 0:
        return sum(converted(not_equal(size, 0), dtype_of(size)), axes, keepdims)
    if ord == 1:
        return sum(size, axes, keepdims)
    return power(sum(power(size, float(ord)), axes, keepdims), 1.0 / ord)


def _matrix(x: Tensor) -> tuple[Any, str]:
    """An operand in float32 at least, and the dtype of results."""
    (x,) = promote_float(x)
    return widened(x), dtype_of(x)


def _on_matrix(op: Op, x: Tensor, **attrs: Any) -> Any:
    """The one result of an operator of matrices."""
    x, dtype = _matrix(x)
    return cast(apply(op, x, **attrs), dtype)


def _parts(op: Op, x: Tensor, **attrs: Any) -> tuple[Any, ...]:
    """The results of a decomposition."""
    x, dtype = _matrix(x)
    found = apply(op, x, **attrs)
    return tuple(y if dtype_of(y) == "int32" else cast(y, dtype) for y in found)


def cholesky(x: Tensor, upper: bool = False) -> Any:
    """Returns the triangular factor L of symmetric, positive definite matrices, ``x = L L^T``.

    Args:
        x: matrices ``(..., N, N)``.
        upper: whether to return the upper factor, ``L^T``.

    Raises:
        ValueError: if a matrix is not positive definite; a program gives NaN instead.

    Example:
        >>> from handmill import ops
        >>> ops.cholesky([[4.0, 2.0], [2.0, 5.0]])
        array([[2., 0.],
               [1., 2.]], dtype=float32)
    """
    y = _on_matrix(linalg.CHOLESKY, x)
    if isinstance(y, np.ndarray) and np.isnan(y).any():
        raise ValueError(
            "Cholesky decomposition failed. The input might not be a valid positive definite "
            "matrix."
        )
    return swap_last(y) if upper else y


def cholesky_inverse(x: Tensor, upper: bool = False) -> Any:
    """Returns the inverse of ``L L^T`` from the factor L.

    Args:
        x: triangular matrices ``(..., N, N)``.
        upper: whether they are upper triangular, ``L^T``.

    Example:
        >>> from handmill import ops
        >>> ops.cholesky_inverse([[2.0, 0.0], [1.0, 2.0]])
        array([[ 0.3125, -0.125 ],
               [-0.125 ,  0.25  ]], dtype=float32)
    """
    x, dtype = _matrix(x)
    shape = shape_of(x)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ShapeError(f"cholesky_inverse: Expected a square matrix, got shape {shape}")
    if not isinstance(shape[-1], int):
        raise ShapeError(f"cholesky_inverse: the size of the matrices is not known, got {shape}")
    eye = np.eye(shape[-1], dtype=numpy_dtype(dtype_of(x)))
    inverse = apply(linalg.SOLVE_TRIANGULAR, x, eye, lower=not upper)
    turned = swap_last(inverse)
    return cast(matmul(inverse, turned) if upper else matmul(turned, inverse), dtype)


def det(x: Tensor) -> Any:
    """Returns the determinants of matrices.

    Args:
        x: matrices ``(..., N, N)``.

    Example:
        >>> from handmill import ops
        >>> float(ops.det([[1.0, 2.0], [3.0, 5.0]]).round(4))
        -1.0
    """
    return _on_matrix(linalg.DET, x)


def eig(x: Tensor) -> tuple[Any, Any]:
    """Returns eigenvalues and eigenvectors of matrices whose eigenvalues are real.

    Args:
        x: matrices ``(..., N, N)``.

    Returns:
        The eigenvalues ``(..., N)``, in no order, and matrices whose columns are the eigenvectors.

    Raises:
        ValueError: if an eigenvalue is not real: there are no complex numbers here.

    Example:
        >>> from handmill import ops
        >>> w, v = ops.eig([[2.0, 0.0], [0.0, 3.0]])
        >>> w
        array([2., 3.], dtype=float32)
    """
    w, v = _parts(linalg.EIG, x)
    return w, v


def eigh(x: Tensor) -> tuple[Any, Any]:
    """Returns eigenvalues and eigenvectors of symmetric matrices.

    Args:
        x: matrices ``(..., N, N)``.

    Returns:
        The eigenvalues ``(..., N)``, ascending, and matrices whose columns are the eigenvectors.

    Example:
        >>> from handmill import ops
        >>> w, v = ops.eigh([[2.0, 1.0], [1.0, 2.0]])
        >>> w.round(4)
        array([1., 3.], dtype=float32)
    """
    w, v = _parts(linalg.EIGH, x)
    return w, v


def inv(x: Tensor) -> Any:
    """Returns the inverses of matrices; NaN where there is none.

    Args:
        x: matrices ``(..., N, N)``.

    Example:
        >>> from handmill import ops
        >>> ops.inv([[2.0, 0.0], [0.0, 4.0]])
        array([[0.5 , 0.  ],
               [0.  , 0.25]], dtype=float32)
    """
    return _on_matrix(linalg.INV, x)


def lu_factor(x: Tensor) -> tuple[Any, Any]:
    """Returns the LU decomposition of matrices, with row exchanges.

    Args:
        x: matrices ``(..., M, N)``.

    Returns:
        One matrix that holds L below the diagonal (whose own ones are left out) and U above, and
        for each step the row that was exchanged.

    Example:
        >>> from handmill import ops
        >>> ops.lu_factor([[1.0, 2.0], [4.0, 4.0]])
        (array([[4.  , 4.  ],
               [0.25, 1.  ]], dtype=float32), array([1, 1], dtype=int32))
    """
    lu, pivots = _parts(linalg.LU_FACTOR, x)
    return lu, pivots


def qr(x: Tensor, mode: str = "reduced") -> tuple[Any, Any]:
    """Returns orthogonal columns Q and an upper triangular R with ``x = Q R``.

    Args:
        x: matrices ``(..., M, N)``.
        mode: "reduced" (``min(M, N)`` columns) or "complete" (M columns).

    Example:
        >>> from handmill import ops
        >>> q, r = ops.qr([[3.0, 1.0], [4.0, 2.0]])
        >>> abs(r).round(4)
        array([[5. , 2.2],
               [0. , 0.4]], dtype=float32)
    """
    if mode not in ("reduced", "complete"):
        raise ValueError(
            "`mode` argument value not supported. Expected one of {'reduced', 'complete'}. "
            f"Received: mode={mode}"
        )
    q, r = _parts(linalg.QR, x, complete=mode == "complete")
    return q, r


def _solved(name: str, call: Callable[[Any, Any], Any], a: Tensor, b: Tensor) -> Any:
    """Solves for vectors or matrices."""
    a, b = promote_float(a, b)
    dtype = dtype_of(a)
    a, b = widened(a), widened(b)
    left, right = shape_of(a), shape_of(b)
    if len(left) < 2 or left[-1] != left[-2]:
        raise ShapeError(f"{name}: Expected square matrices `a`, got a.shape={left}")
    vector = len(right) == len(left) - 1
    rows = right[-1] if vector else right[-2] if len(right) > 1 else None
    if rows is None or rows != left[-1]:
        raise ShapeError(
            f"{name}: Incompatible shapes between `a` and `b`: one row of `b` for each of `a` was "
            f"expected. Received: a.shape={left}, b.shape={right}"
        )
    y = cast(call(a, expand_dims(b, -1) if vector else b), dtype)
    return squeeze(y, -1) if vector else y


def solve(a: Tensor, b: Tensor) -> Any:
    """Returns the solutions of ``a x = b``; NaN where a matrix is singular.

    Args:
        a: matrices ``(..., N, N)``.
        b: vectors ``(..., N)`` or matrices ``(..., N, K)``.

    Example:
        >>> from handmill import ops
        >>> ops.solve([[2.0, 0.0], [0.0, 4.0]], [1.0, 1.0])
        array([0.5 , 0.25], dtype=float32)
    """
    return _solved("solve", lambda a, b: apply(linalg.SOLVE, a, b), a, b)


def solve_triangular(a: Tensor, b: Tensor, lower: bool = False) -> Any:
    """Returns the solutions of ``a x = b`` for triangular matrices.

    Args:
        a: matrices ``(..., N, N)``, of which one triangle is read.
        b: vectors ``(..., N)`` or matrices ``(..., N, K)``.
        lower: which triangle.

    Example:
        >>> from handmill import ops
        >>> ops.solve_triangular([[1.0, 0.0], [1.0, 2.0]], [1.0, 3.0], lower=True)
        array([1., 1.], dtype=float32)
    """
    return _solved(
        "solve_triangular",
        lambda a, b: apply(linalg.SOLVE_TRIANGULAR, a, b, lower=bool(lower)),
        a,
        b,
    )


def svd(x: Tensor, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """Returns the singular value decomposition, ``x = U diag(S) V^T``.

    Gradients flow through the singular values alone, without ``full_matrices`` or ``compute_uv``.

    Args:
        x: matrices ``(..., M, N)``.
        full_matrices: whether U and V are square.
        compute_uv: whether U and V are wanted.

    Returns:
        ``(U, S, V^T)``, or S.

    Example:
        >>> from handmill import ops
        >>> ops.svd([[3.0, 0.0], [0.0, 4.0]], compute_uv=False)
        array([4., 3.], dtype=float32)
    """
    found = _parts(linalg.SVD, x, full=bool(full_matrices and compute_uv))
    return found if compute_uv else found[1]


def lstsq(a: Tensor, b: Tensor, rcond: float | None = None) -> Any:
    """Returns the ``x`` that makes ``|a x - b|`` least; of several the shortest.

    Args:
        a: a matrix ``(M, N)``.
        b: a vector ``(M,)`` or a matrix ``(M, K)``.
        rcond: singular values below ``rcond`` times the largest count as 0. Default: the precision
            of the dtype times ``max(M, N)``.

    Example:
        >>> from handmill import ops
        >>> ops.lstsq([[1.0], [1.0]], [1.0, 3.0]).round(4)
        array([2.], dtype=float32)
    """
    a, b = promote_float(a, b)
    shape, right = shape_of(a), shape_of(b)
    if len(shape) != 2 or len(right) not in (1, 2) or not same(right[0], shape[0]):
        raise ShapeError(
            "lstsq: a matrix and as many rows on the right were expected, got "
            f"a.shape={shape}, b.shape={right}"
        )
    return matmul(pinv(a, _precision(a) if rcond is None else rcond), b)


def _precision(x: Any) -> float:
    """The share of the largest singular value that rounding can make of a 0."""
    dtype = "float32" if dtype_of(x) == "bfloat16" else dtype_of(x)
    largest = builtins.max(int(n) for n in shape_of(x)[-2:])
    return largest * float(np.finfo(dtype).eps)


def matrix_rank(x: Tensor, tol: float | None = None) -> Any:
    """Returns how many singular values of each matrix are not 0; int32.

    Args:
        x: matrices ``(..., M, N)``.
        tol: the largest value that counts as 0. Default: the precision of the dtype times
            ``max(M, N)`` times the largest value.

    Example:
        >>> from handmill import ops
        >>> int(ops.matrix_rank([[1.0, 2.0], [2.0, 4.0]]))
        1
    """
    (x,) = promote_float(x)
    s = svd(x, compute_uv=False)
    least = max(s, -1, keepdims=True) * _precision(x) if tol is None else tol
    return sum(cast(greater(s, least), "int32"), -1)


def pinv(x: Tensor, rcond: float | None = None) -> Any:
    """Returns the pseudo-inverses of Moore and Penrose.

    Args:
        x: matrices ``(..., M, N)``.
        rcond: singular values below ``rcond`` times the largest count as 0. Default: ten times the
            precision of the dtype times ``max(M, N)``.

    Example:
        >>> from handmill import ops
        >>> ops.pinv([[2.0, 0.0], [0.0, 0.0]])
        array([[0.5, 0. ],
               [0. , 0. ]], dtype=float32)
    """
    (x,) = promote_float(x)
    if len(shape_of(x)) < 2:
        raise ShapeError(f"pinv: Expected input to have rank >= 2, got shape {shape_of(x)}")
    return _on_matrix(linalg.PINV, x, rcond=10 * _precision(x) if rcond is None else float(rcond))


def jvp(fun: Callable[..., Any], primals: Any, tangents: Any, has_aux: bool = False) -> Any:
    """Returns the value of a function and its derivative along a direction.

    It takes two reverse sweeps: the gradient is linear in the factors of the results, and the
    derivative of that by these factors is what is asked for.

    Args:
        fun: takes the primals, returns a float tensor or a nested structure of them.
        primals: a tuple of arguments.
        tangents: the direction, a tuple of the same structure and shapes.
        has_aux: whether ``fun`` returns a pair, whose second member is given back as it is.

    Returns:
        ``(value, derivative)``, with ``has_aux`` ``(value, derivative, aux)``.

    Example:
        >>> import numpy as np
        >>> from handmill import ops
        >>> value, slope = ops.jvp(lambda x: x * x, (np.float32(3.0),), (np.float32(1.0),))
        >>> float(value), float(slope)
        (9.0, 6.0)
    """
    for x in tree.flatten((primals, tangents)):
        if hasattr(type(x), "record_function"):
            recorded: tuple[Any, ...] = type(x).record_function(
                "jvp", lambda x, t: jvp(fun, x, t, has_aux), (primals, tangents)
            )
            return recorded
    inputs, along = list(primals), list(tangents)
    for x, t in zip(tree.flatten(inputs), tree.flatten(along), strict=True):
        if shape_of(tensor(x)) != shape_of(tensor(t)):
            raise ShapeError(
                f"jvp: tangents must have the shapes of the primals, got {shape_of(tensor(t))} for "
                f"{shape_of(tensor(x))}"
            )
    with GradientTape(watch_accessed_variables=False) as outer:
        with GradientTape(watch_accessed_variables=False) as inner:
            inputs = inner.watch(tree.map_structure(tensor, inputs))
            found = fun(*inputs)
        value, aux = found if has_aux else (found, None)
        factors = outer.watch(tree.map_structure(lambda y: multiply(y, 0.0), value))
        slopes = inner.gradient(value, inputs, factors, unconnected_gradients="zero")
        terms = [
            sum(multiply(slope, tensor(t)))
            for slope, t in zip(tree.flatten(slopes), tree.flatten(along), strict=True)
        ]
        total = functools.reduce(add, terms)
    derivative = outer.gradient(total, factors, unconnected_gradients="zero")
    found = (value, derivative, aux) if has_aux else (value, derivative)
    return found if recorder() is not None else tree.map_structure(plain, found)
