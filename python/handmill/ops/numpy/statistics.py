"""Quantiles, histograms, correlation, and the places of values among sorted ones."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.shapes import size_of
from handmill.ir.trace import apply
from handmill.ops.core import cast, stop_gradient
from handmill.ops.numpy.arrange import flip, moveaxis, pad
from handmill.ops.numpy.create import ones_like
from handmill.ops.numpy.elementwise import (
    add,
    ceil,
    clip,
    divide,
    floor,
    maximum,
    multiply,
    round,
    sqrt,
    subtract,
)
from handmill.ops.numpy.logic import equal, greater, isnan, logical_not, where
from handmill.ops.numpy.movement import expand_dims, reshape, transpose
from handmill.ops.numpy.products import matmul
from handmill.ops.numpy.ranges import _evenly_between
from handmill.ops.numpy.reductions import any, max, mean, min, sum
from handmill.ops.numpy.searching import searchsorted
from handmill.ops.numpy.sorting import sort, take, take_along_axis
from handmill.primitives.gather import SCATTER_ADD_ROWS
from handmill.primitives.operands import (
    Axis,
    Tensor,
    count_along,
    dtype_of,
    is_symbolic,
    normal_axes,
    promote_float,
    promote_number,
    shape_of,
    tensor,
)
from handmill.primitives.places import dtype_of_places
from handmill.primitives.reduce import reduced_shape

_METHODS = ("linear", "lower", "higher", "midpoint", "nearest")


def quantile(
    x: Tensor, q: Tensor, axis: Axis = None, method: str = "linear", keepdims: bool = False
) -> Any:
    """Returns the numbers below which the shares ``q`` of the elements lie.

    Args:
        x: the input.
        q: a share from 0 to 1, or a vector of them, which becomes the first axis.
        axis: an axis or several. Default: all.
        method: what to take between two elements: ``"linear"``, ``"lower"``, ``"higher"``,
            ``"midpoint"`` or ``"nearest"``.
        keepdims: whether reduced axes stay, with size 1.

    Example:
        >>> from handmill import ops
        >>> ops.quantile([1.0, 2.0, 3.0, 5.0], [0.5, 1.0])
        array([2.5, 5. ], dtype=float32)
    """
    return _quantile("quantile", x, q, axis, method, keepdims, skip_nan=False)


def nanquantile(
    x: Tensor, q: Tensor, axis: Axis = None, method: str = "linear", keepdims: bool = False
) -> Any:
    """Returns quantiles of what is not NaN; see :func:`quantile`.

    Example:
        >>> from handmill import ops
        >>> float(ops.nanquantile([1.0, float("nan"), 3.0], 0.5))
        2.0
    """
    return _quantile("nanquantile", x, q, axis, method, keepdims, skip_nan=True)


def percentile(
    x: Tensor, q: Tensor, axis: Axis = None, method: str = "linear", keepdims: bool = False
) -> Any:
    """Returns quantiles; ``q`` is given in percent. See :func:`quantile`.

    Example:
        >>> from handmill import ops
        >>> float(ops.percentile([1.0, 2.0, 3.0], 50))
        2.0
    """
    return _quantile("percentile", x, _of_percent(q), axis, method, keepdims, skip_nan=False)


def nanpercentile(
    x: Tensor, q: Tensor, axis: Axis = None, method: str = "linear", keepdims: bool = False
) -> Any:
    """Returns quantiles of what is not NaN; ``q`` is given in percent.

    Example:
        >>> from handmill import ops
        >>> float(ops.nanpercentile([1.0, float("nan"), 3.0], 50))
        2.0
    """
    return _quantile("nanpercentile", x, _of_percent(q), axis, method, keepdims, skip_nan=True)


def median(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns the middle element along axes, the mean of the middle two of an even number.

    Example:
        >>> from handmill import ops
        >>> float(ops.median([1.0, 9.0, 3.0]))
        3.0
    """
    return _quantile("median", x, 0.5, axis, "midpoint", keepdims, skip_nan=False)


def nanmedian(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """Returns the median of what is not NaN; NaN where there is nothing else.

    Example:
        >>> from handmill import ops
        >>> float(ops.nanmedian([1.0, float("nan"), 3.0]))
        2.0
    """
    return _quantile("nanmedian", x, 0.5, axis, "midpoint", keepdims, skip_nan=True)


def _of_percent(q: Tensor) -> Any:
    return q / 100 if isinstance(q, int | float) else divide(q, 100)


def _quantile(
    op: str, x: Tensor, q: Tensor, axis: Axis, method: str, keepdims: bool, *, skip_nan: bool
) -> Any:
    if method not in _METHODS:
        raise ValueError(f"{op}: `method` must be one of {_METHODS}, got method={method!r}")
    (x,) = promote_float(x)
    shape = shape_of(x)
    axes = normal_axes(op, axis, len(shape))
    q = cast(q, dtype_of(x))
    if len(shape_of(q)) > 1:
        raise shape_error(op, "`q` must be a number or a vector", {"q": shape_of(q)})
    # Rows of what is to be reduced, sorted; NaN stands last.
    kept = [a for a in range(len(shape)) if a not in axes]
    row_size = size_of(tuple(shape[a] for a in axes))
    rows = reshape(
        moveaxis(x, axes, range(-len(axes), 0)) if axes else x,
        (*(shape[a] for a in kept), row_size),
    )
    rows = sort(rows, -1)
    missing = isnan(rows)
    if skip_nan:
        count = sum(cast(logical_not(missing), dtype_of(x)), -1, keepdims=True)
    else:
        count = cast(count_along(rows, (len(kept),)), dtype_of(x))
    shares = reshape(q, (-1,))
    place = multiply(shares, subtract(count, 1))
    found = _between(rows, place, method)
    if skip_nan:
        found = where(equal(count, 0), math.nan, found)
    else:
        found = where(any(missing, -1, keepdims=True), math.nan, found)
    found = moveaxis(found, -1, 0)
    wanted = reduced_shape(shape, axes, keepdims)
    return reshape(found, wanted if not shape_of(q) else (*shape_of(q), *wanted))


def _between(rows: Any, place: Any, method: str) -> Any:
    """The elements of sorted rows at places that may lie between two."""
    lower, upper = floor(place), ceil(place)
    if method == "nearest":
        return _at(rows, round(place))
    if method == "lower":
        return _at(rows, lower)
    if method == "higher":
        return _at(rows, upper)
    first, second = _at(rows, lower), _at(rows, upper)
    if method == "midpoint":
        mixed = multiply(add(first, second), 0.5)
    else:
        share = stop_gradient(subtract(place, lower))
        mixed = add(multiply(first, subtract(1.0, share)), multiply(second, share))
    # At the element itself, an infinite neighbour counts for nothing.
    return where(equal(lower, upper), first, mixed)


def _at(rows: Any, place: Any) -> Any:
    at = cast(maximum(place, 0.0), "int32")
    if len(shape_of(at)) == 1:
        return take(rows, at, axis=-1)
    return take_along_axis(rows, at, axis=-1)


def histogram(x: Tensor, bins: int = 10, range: Any = None) -> tuple[Any, Any]:
    """Counts the elements in bins of equal width.

    Args:
        x: the input.
        bins: the number of bins.
        range: the lower end of the first bin and the upper end of the last; what lies beyond is
            left out. Default: the least and the largest element.

    Returns:
        The counts, as floats, and the ``bins + 1`` edges. An element on an edge belongs to the
        upper bin, on the last edge to the last bin.

    Example:
        >>> from handmill import ops
        >>> counts, edges = ops.histogram([1.0, 2.0, 1.5, 5.0], bins=2)
        >>> counts.tolist(), edges.tolist()
        ([3.0, 1.0], [1.0, 3.0, 5.0])
    """
    if not isinstance(bins, int) or isinstance(bins, bool):
        raise TypeError(f"histogram: `bins` must be an integer, got bins={bins!r}")
    if bins < 1:
        raise ValueError(f"histogram: `bins` must be 1 or more, got bins={bins}")
    if range is not None and (len(range) != 2 or range[1] < range[0]):
        raise ValueError(f"histogram: `range` must be (least, largest), got range={range!r}")
    (x,) = promote_float(x)
    x = stop_gradient(x)
    if len(shape_of(x)) != 1:
        raise shape_error("histogram", "a vector was expected", {"x": shape_of(x)}, "use ops.ravel")
    low, high = range or (min(x, initial=math.inf), max(x, initial=-math.inf))
    if not range:
        # Nothing to count, and elements that are all equal, have bins of width 1 around them.
        empty = greater(low, high)
        low, high = where(empty, 0.0, low), where(empty, 1.0, high)
    low, high = (cast(v, dtype_of(x)) for v in (low, high))
    flat = equal(low, high)
    low, high = where(flat, subtract(low, 0.5), low), where(flat, add(high, 0.5), high)
    edges = _evenly_between(low, high, bins + 1)
    place = subtract(searchsorted(edges, x, side="right"), 1)
    place = where(equal(x, high), bins - 1, place)
    counts = apply(SCATTER_ADD_ROWS, ones_like(place), place, rows=bins, from_end=False)
    return cast(counts, dtype_of(x)), edges


def bincount(x: Tensor, weights: Tensor = None, minlength: int = 0, sparse: bool = False) -> Any:
    """Counts how often each of the numbers 0, 1, 2, ... occurs.

    The size of the result is one more than the largest number, so it cannot be part of a program.

    Args:
        x: integers, none negative: a vector, or a matrix whose rows are counted one by one.
        weights: what each element counts for. Default: 1.
        minlength: the least size of the result.
        sparse: not supported; must be False.

    Raises:
        TypeError: inside of programs.

    Example:
        >>> from handmill import ops
        >>> ops.bincount([1, 1, 3], minlength=5)
        array([0, 2, 0, 1, 0], dtype=int32)
    """
    if sparse:
        raise ValueError("bincount: only dense results are supported, got sparse=True")
    if is_symbolic(x) or is_symbolic(weights):
        raise TypeError(
            "bincount: the size of the result depends on the numbers, so it cannot be part of a "
            "program; use ops.segment_sum(weights, x, num_segments), whose size is given"
        )
    x = tensor(x)
    if dtype_of(x) not in ("int32", "int64", "uint8", "int8", "bool"):
        raise TypeError(f"bincount: `x` must be integers, got dtype {dtype_of(x)}")
    if len(x.shape) not in (1, 2):
        raise shape_error("bincount", "a vector or a matrix was expected", {"x": x.shape})
    if x.size and x.min() < 0:
        raise ValueError(f"bincount: `x` must not be negative, got {x.min()}")
    ones = np.ones(x.shape, np.int32) if weights is None else promote_number(weights)
    if ones.shape != x.shape:
        operands = {"x": x.shape, "weights": ones.shape}
        raise shape_error("bincount", "shapes differ", operands)
    size = builtins.max(int(x.max()) + 1 if x.size else 0, minlength)
    found = np.zeros((*x.shape[:-1], size), ones.dtype)
    rows = np.indices(x.shape)[:-1]
    np.add.at(found, (*rows, x.astype(np.int64)), ones)
    return found


def corrcoef(x: Tensor) -> Any:
    """Returns the correlation of each two rows.

    Args:
        x: a matrix whose rows are variables and whose columns are observations; or one variable.

    Example:
        >>> from handmill import ops
        >>> ops.corrcoef([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]).round(4)
        array([[ 1., -1.],
               [-1.,  1.]], dtype=float32)
    """
    (x,) = promote_float(x)
    rank = len(shape_of(x))
    if rank > 2:
        raise shape_error("corrcoef", "a matrix was expected", {"x": shape_of(x)})
    rows = x if rank == 2 else reshape(x, (1, -1))
    rows = subtract(rows, mean(rows, 1, keepdims=True))
    length = sqrt(sum(multiply(rows, rows), 1))
    product = matmul(rows, transpose(rows))
    found = divide(divide(product, expand_dims(length, 1)), length)
    found = clip(found, -1.0, 1.0)
    return found if rank == 2 else reshape(found, ())


def correlate(x1: Tensor, x2: Tensor, mode: str = "valid") -> Any:
    """Returns the sums of products of two vectors at each shift of the second.

    Args:
        x1: the vector that stands.
        x2: the vector that is shifted.
        mode: ``"valid"``: where the shorter lies within the longer; ``"same"``: as many shifts as
            the longer has elements; ``"full"``: wherever they touch.

    Example:
        >>> from handmill import ops
        >>> ops.correlate([1.0, 2.0, 3.0], [0.0, 1.0])
        array([2., 3.], dtype=float32)
    """
    if mode not in ("valid", "same", "full"):
        raise ValueError(f"correlate: `mode` must be valid, same or full, got mode={mode!r}")
    x1, x2 = promote_float(x1, x2)
    sizes = [_size("correlate", x) for x in (x1, x2)]
    # With the longer one standing the result is the other way round.
    swapped = sizes[0] < sizes[1]
    long, short = (x2, x1) if swapped else (x1, x2)
    most, least = sorted(sizes, reverse=True)
    before, after = {
        "valid": (0, 0),
        "same": (least // 2, least - 1 - least // 2),
        "full": (least - 1, least - 1),
    }[mode]
    long = pad(long, ((before, after),))
    shifts = most + before + after - least + 1
    places = np.arange(shifts)[:, None] + np.arange(least)
    found = matmul(take(long, places.astype(dtype_of_places(shape_of(long)[0]))), short)
    return flip(found, 0) if swapped else found


def _size(op: str, x: Any) -> int:
    shape = shape_of(x)
    if len(shape) != 1 or not isinstance(shape[0], int) or not shape[0]:
        raise shape_error(op, "vectors of a fixed size above 0 were expected", {"x": shape})
    return shape[0]
