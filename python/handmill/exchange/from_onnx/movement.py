"""ONNX's operators that move elements, choose among them, and reduce them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from handmill import ops
from handmill.exchange.from_onnx.elementwise import like
from handmill.exchange.from_onnx.execution import (
    Call,
    Last,
    Unreadable,
    first,
    last,
    rule,
    sizes_array,
    whole,
)
from handmill.exchange.messages import DTYPES
from handmill.ir.dims import is_symbolic_dim


def _sizes(call: Call, value: Any, what: str) -> list[Any]:
    return [whole(size) for size in call.known(value, what).reshape(-1)]


@rule("Shape")
def shape(call: Call, x: Any) -> Any:
    """Sizes; those that a call decides stay what they are."""
    rank = len(x.shape)
    start, end = call.attr("start", 0), call.attr("end", rank)
    start, end = (min(max(i + rank if i < 0 else i, 0), rank) for i in (start, end))
    return sizes_array(list(x.shape)[start:end])


@rule("Size")
def size(call: Call, x: Any) -> Any:
    """How many elements there are."""
    return sizes_array([math.prod(x.shape)]).reshape(())


@rule("Reshape")
def reshape(call: Call, x: Any, shape: Any = None) -> Any:
    """0 stands for the size that was there, -1 for the rest."""
    sizes = call.attr("shape", []) if shape is None else _sizes(call, shape, "shape")
    if not call.attr("allowzero", 0):
        sizes = [
            x.shape[i] if not is_symbolic_dim(n) and n == 0 and i < len(x.shape) else n
            for i, n in enumerate(sizes)
        ]
    return ops.reshape(x, tuple(sizes))


@rule("Flatten")
def flatten(call: Call, x: Any) -> Any:
    """Two axes."""
    axis = call.attr("axis", 1)
    axis = axis + len(x.shape) if axis < 0 else axis
    if axis == 0:
        return ops.reshape(x, (1, -1))
    if axis == 1:
        return ops.reshape(x, (x.shape[0], math.prod(x.shape[1:])))
    return ops.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@rule("Transpose", keeps_order=True)
def transpose(call: Call, x: Any) -> Any:
    """Another order of axes; images that come channels-last are held so."""
    rank = x.ndim if isinstance(x, Last) else len(x.shape)
    perm = call.attr("perm", list(range(rank))[::-1])
    if sorted(perm) != list(range(rank)):
        raise Unreadable(f"perm {perm} is no order of {rank} axes")
    if isinstance(x, Last) and perm == [0, *range(2, rank), 1]:
        return x.tensor
    if rank >= 3 and not isinstance(x, Last) and perm == [0, rank - 1, *range(1, rank - 1)]:
        return Last(x)
    return ops.transpose(first(x), tuple(perm))


@rule("Squeeze")
def squeeze(call: Call, x: Any, axes: Any = None) -> Any:
    """Without axes of one entry."""
    rank = len(x.shape)
    found = call.ints("axes", axes)
    at = (
        call.axes(found, rank)
        if found is not None
        else [i for i, n in enumerate(x.shape) if n == 1]
    )
    return ops.reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in at))


@rule("Unsqueeze")
def unsqueeze(call: Call, x: Any, axes: Any = None) -> Any:
    """With axes of one entry more."""
    given = call.ints("axes", axes, [])
    at = call.axes(given, len(x.shape) + len(given))
    sizes = iter(x.shape)
    rank = len(x.shape) + len(given)
    return ops.reshape(x, tuple(1 if i in at else next(sizes) for i in range(rank)))


@rule("Concat", keeps_order=True)
def concat(call: Call, *xs: Any) -> Any:
    """One behind the other."""
    rank = xs[0].ndim
    axis = call.axis(call.attr("axis", 1), rank)
    if any(isinstance(x, Last) for x in xs):
        at = 0 if axis == 0 else rank - 1 if axis == 1 else axis - 1
        return Last(ops.concatenate([last(x) for x in xs], axis=at))
    return ops.concatenate(list(xs), axis=axis)


@rule("Split")
def split(call: Call, x: Any, sizes: Any = None) -> Any:
    """Parts of an axis."""
    axis = call.axis(call.attr("axis", 0), len(x.shape))
    count = call.attr("num_outputs", len(call.step.outputs))
    total = int(x.shape[axis])
    given = call.ints("split", sizes)
    if given is None:
        each = -(-total // count)
        given = [min(each, total - i * each) for i in range(count)]
    if sum(given) != total or min(given, default=0) < 0:
        raise Unreadable(f"parts of {given} are not the {total} entries there are")
    places = np.cumsum(given)[:-1]
    return tuple(ops.split(x, [int(i) for i in places], axis=axis))


@rule("Slice")
def slice_(
    call: Call, x: Any, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None
) -> Any:
    """A part of some axes, forwards or backwards."""
    begin, end = call.ints("starts", starts), call.ints("ends", ends)
    if begin is None or end is None:
        raise Unreadable("it does not say from where to where")
    at = call.axes(call.ints("axes", axes, list(range(len(begin)))), len(x.shape))
    by = call.ints("steps", steps, [1] * len(begin))
    key: list[Any] = [slice(None)] * len(x.shape)
    for axis, a, b, step in zip(at, begin, end, by, strict=True):
        if step == 0:
            raise Unreadable("a step is 0")
        far = 2**31 - 1
        stop = None if not is_symbolic_dim(b) and (b >= far or b < -far) else b
        start = None if not is_symbolic_dim(a) and abs(a) >= far else a
        if (
            step < 0
            and not is_symbolic_dim(x.shape[axis])
            and stop is not None
            and not (is_symbolic_dim(stop))
        ):
            stop = None if stop < -int(x.shape[axis]) else stop
        key[axis] = slice(start, stop, step)
    return _part(x, tuple(key))


def _part(x: Any, key: tuple[Any, ...]) -> Any:
    return x[key] if isinstance(x, np.ndarray) else ops.get_item(x, key)


@rule("Gather")
def gather(call: Call, x: Any, indices: Any) -> Any:
    """Rows; negative ones count from the end."""
    return ops.take(x, indices, axis=call.axis(call.attr("axis", 0), len(x.shape)))


@rule("GatherElements")
def gather_elements(call: Call, x: Any, indices: Any) -> Any:
    """An entry for each place."""
    axis = call.axis(call.attr("axis", 0), len(x.shape))
    cut = tuple(slice(None) if i == axis else slice(0, n) for i, n in enumerate(indices.shape))
    return ops.take_along_axis(_part(x, cut), indices, axis=axis)


@rule("GatherND")
def gather_nd(call: Call, x: Any, indices: Any) -> Any:
    """Entries or rows by all of their indices."""
    batch = call.attr("batch_dims", 0)
    depth = int(indices.shape[-1])
    if batch:
        lead = [int(n) for n in x.shape[:batch]]
        grid = np.indices(lead).reshape(batch, -1).T.reshape(*lead, batch)
        wide = (1,) * (len(indices.shape) - 1 - batch)
        grid = np.broadcast_to(grid.reshape(*lead, *wide, batch), (*indices.shape[:-1], batch))
        indices = ops.concatenate([ops.cast(grid, indices.dtype), indices], axis=-1)
        depth += batch
    sizes = [int(n) for n in x.shape[:depth]]
    index: Any = 0
    for i, n in enumerate(sizes):
        each = _part(indices, (..., i))
        each = ops.where(ops.less(each, 0), each + n, each)
        index = index * n + each
    rows = ops.reshape(x, (math.prod(sizes), *x.shape[depth:]))
    return ops.take(rows, index, axis=0)


@rule("ScatterND")
def scatter_nd(call: Call, x: Any, indices: Any, updates: Any) -> Any:
    """Entries put, added, multiplied or compared at places."""
    base, at, new = (call.known(v, "operand") for v in (x, indices, updates))
    found = np.array(base)
    _scatter(found, tuple(np.moveaxis(at, -1, 0)), new, call.attr("reduction", "none"))
    return found


def _scatter(found: Any, key: Any, new: Any, reduction: str) -> None:
    functions: dict[str, Any] = {"add": np.add, "mul": np.multiply, "max": np.maximum,
                                 "min": np.minimum}  # fmt: skip
    if reduction == "none":
        found[key] = new
    elif reduction in functions:
        functions[reduction].at(found, key, new)
    else:
        raise Unreadable(f"the reduction {reduction!r} is not read")


@rule("ScatterElements", "Scatter")
def scatter_elements(call: Call, x: Any, indices: Any, updates: Any) -> Any:
    """One entry put at each place along an axis."""
    base, at, new = (call.known(v, "operand") for v in (x, indices, updates))
    axis = call.axis(call.attr("axis", 0), base.ndim)
    key = [np.broadcast_to(i, at.shape) for i in np.ogrid[tuple(map(slice, at.shape))]]
    key[axis] = np.where(at < 0, at + base.shape[axis], at)
    found = np.array(base)
    _scatter(found, tuple(key), new, call.attr("reduction", "none"))
    return found


@rule("Expand")
def expand(call: Call, x: Any, shape: Any) -> Any:
    """Repeated until it has a shape, or more than that."""
    wanted = _sizes(call, shape, "shape")
    rank = max(len(wanted), len(x.shape))
    have = [1] * (rank - len(x.shape)) + list(x.shape)
    wanted = [1] * (rank - len(wanted)) + wanted
    sizes = [
        h if not is_symbolic_dim(w) and w == 1 else w for h, w in zip(have, wanted, strict=True)
    ]
    call.room(sizes)
    return ops.broadcast_to(x, tuple(sizes))


@rule("Tile")
def tile(call: Call, x: Any, repeats: Any) -> Any:
    """Repeated along each axis."""
    times = _sizes(call, repeats, "repeats")
    if len(times) != len(x.shape):
        raise Unreadable(f"{len(times)} numbers of repetitions for {len(x.shape)} axes")
    call.room([n * t for n, t in zip(x.shape, times, strict=True)])
    return ops.tile(x, times)


@rule("ConstantOfShape")
def constant_of_shape(call: Call, shape: Any) -> Any:
    """One number everywhere."""
    sizes = _sizes(call, shape, "shape")
    call.room(sizes)
    value = call.attr("value", np.zeros(1, np.float32)).reshape(())
    if any(map(is_symbolic_dim, sizes)):
        return ops.broadcast_to(value, tuple(sizes))
    return np.full(sizes, value, value.dtype)


@rule("Range")
def range_(call: Call, start: Any, limit: Any, delta: Any) -> Any:
    """Numbers one after the other."""
    if any(x.dtype == object for x in (start, limit, delta) if isinstance(x, np.ndarray)):
        a, b, by = (whole(call.known(x, "bound").reshape(-1)[0]) for x in (start, limit, delta))
        return ops.arange(a, b, by, dtype="int64")
    a, b, by = (call.known(x, "bound") for x in (start, limit, delta))
    if not by.any():
        raise Unreadable("the step is 0")
    with np.errstate(all="ignore"):
        count = np.ceil((b.astype(np.float64) - a) / by).reshape(())
    if not np.isfinite(count):
        raise Unreadable("a bound is not finite")
    call.room([max(int(count), 0)])
    return (a + by * np.arange(max(int(count), 0))).astype(a.dtype).reshape(-1)


@rule("Pad")
def pad(call: Call, x: Any, pads: Any = None, value: Any = None, axes: Any = None) -> Any:
    """A border: of one number, of the edge, mirrored, or from the other side."""
    rank = len(x.shape)
    given = call.ints("pads", pads, [])
    at = call.axes(call.ints("axes", axes, list(range(rank))), rank)
    if len(given) != 2 * len(at):
        raise Unreadable(f"{len(given)} pads for {len(at)} axes")
    pairs = [(0, 0)] * rank
    for i, axis in enumerate(at):
        pairs[axis] = (given[i], given[i + len(at)])
    mode = call.attr("mode", "constant")
    number = call.attr("value", 0.0) if value is None else call.known(value, "value").reshape(-1)[0]
    for axis, (low, high) in enumerate(pairs):
        if low < 0 or high < 0:
            cut = slice(max(-low, 0), int(x.shape[axis]) - max(-high, 0))
            x = _part(x, (*[slice(None)] * axis, cut))
    pairs = [(max(low, 0), max(high, 0)) for low, high in pairs]
    call.room([n + low + high for n, (low, high) in zip(x.shape, pairs, strict=True)])
    if mode == "constant":
        return ops.pad(x, pairs, constant_values=number)
    names = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    if mode not in names:
        raise Unreadable(f"the mode {mode!r} is not read")
    if isinstance(x, np.ndarray):
        return np.pad(x, pairs, mode=names[mode])  # type: ignore[call-overload]
    return ops.pad(x, pairs, mode=names[mode])


@rule("OneHot")
def one_hot(call: Call, indices: Any, depth: Any, values: Any) -> Any:
    """Two numbers; negative indices count from the end."""
    count = int(call.known(depth, "depth").reshape(-1)[0])
    pair = call.known(values, "values")
    rank = len(indices.shape) + 1
    axis = call.axis(call.attr("axis", -1), rank)
    call.room([*indices.shape, count])
    whole = ops.cast(indices, "int64")
    whole = ops.where(ops.less(whole, 0), whole + count, whole)
    places = np.arange(count).reshape((-1, *[1] * (rank - 1 - axis)))
    found = ops.equal(ops.expand_dims(whole, axis), places)
    return ops.where(found, pair[1], pair[0])


@rule("Trilu")
def trilu(call: Call, x: Any, k: Any = None) -> Any:
    """One side of a diagonal."""
    offset = 0 if k is None else int(call.known(k, "k").reshape(-1)[0])
    upper = bool(call.attr("upper", 1))
    rows, columns = x.shape[-2:]
    call.room([rows, columns])
    if is_symbolic_dim(rows) or is_symbolic_dim(columns):
        places = ops.expand_dims(ops.arange(rows), 1) + offset
        keep = (
            ops.greater_equal(ops.arange(columns), places)
            if upper
            else ops.less_equal(ops.arange(columns), places)
        )
    else:
        keep = np.tri(int(rows), int(columns), offset - 1 if upper else offset, dtype=bool)
        keep = ~keep if upper else keep
    return ops.where(keep, x, ops.zeros_like(x))


@rule("EyeLike")
def eye_like(call: Call, x: Any) -> Any:
    """Ones on a diagonal."""
    dtype = DTYPES.get(call.attr("dtype", 0), str(x.dtype))
    call.room(x.shape)
    rows, columns = (int(n) for n in x.shape)
    return np.eye(rows, columns, call.attr("k", 0)).astype(dtype)


@rule("DepthToSpace")
def depth_to_space(call: Call, x: Any) -> Any:
    """Channels become places."""
    n, c, h, w = x.shape
    b = call.attr("blocksize", 1)
    if b < 1 or c % (b * b):
        raise Unreadable(f"{c} channels are no blocks of {b} x {b}")
    if call.attr("mode", "DCR") == "DCR":
        x = ops.transpose(ops.reshape(x, (n, b, b, c // b**2, h, w)), (0, 3, 4, 1, 5, 2))
    else:
        x = ops.transpose(ops.reshape(x, (n, c // b**2, b, b, h, w)), (0, 1, 4, 2, 5, 3))
    return ops.reshape(x, (n, c // b**2, h * b, w * b))


@rule("SpaceToDepth")
def space_to_depth(call: Call, x: Any) -> Any:
    """Places become channels."""
    n, c, h, w = x.shape
    b = call.attr("blocksize", 1)
    if b < 1 or h % b or w % b:
        raise Unreadable(f"{h} x {w} places are no blocks of {b} x {b}")
    order = (0, 3, 5, 1, 2, 4) if call.attr("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    x = ops.transpose(ops.reshape(x, (n, c, h // b, b, w // b, b)), order)
    return ops.reshape(x, (n, c * b * b, h // b, w // b))


@rule("ReverseSequence")
def reverse_sequence(call: Call, x: Any, lengths: Any) -> Any:
    """The first steps of each row backwards."""
    time, batch = call.attr("time_axis", 0), call.attr("batch_axis", 1)
    moved = call.known(x, "operand")
    found = np.array(np.moveaxis(moved, (batch, time), (0, 1)))
    for row, length in zip(found, call.known(lengths, "sequence_lens"), strict=True):
        row[: int(length)] = row[: int(length)][::-1].copy()
    return np.moveaxis(found, (0, 1), (batch, time))


@rule("Compress")
def compress(call: Call, x: Any, condition: Any) -> Any:
    """The entries where something is true."""
    kept = call.known(condition, "condition").astype(bool)
    axis = call.attr("axis")
    if axis is None:
        return np.compress(kept, call.known(x, "operand").reshape(-1))
    return ops.take(x, np.nonzero(kept)[0], axis=call.axis(axis, len(x.shape)))


@rule("NonZero")
def non_zero(call: Call, x: Any) -> Any:
    """Where something is."""
    return np.asarray(np.nonzero(call.known(x, "operand")), np.int64)


@rule("Unique")
def unique(call: Call, x: Any) -> Any:
    """Each entry once, where it was first, and how often."""
    given, axis = call.known(x, "operand"), call.attr("axis")
    y, at, inverse, counts = np.unique(given, True, True, True, axis=axis)
    inverse = inverse.reshape(-1)
    if not call.attr("sorted", 1):
        order = np.argsort(at)
        back = np.argsort(order)
        y = np.take(y, order, axis=axis or 0)
        at, counts, inverse = at[order], counts[order], back[inverse]
    return y, at.astype(np.int64), inverse.astype(np.int64), counts.astype(np.int64)


# --- reductions ----------------------------------------------------------------------------------

_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceL1": lambda x, **k: ops.sum(ops.absolute(x), **k),
    "ReduceL2": lambda x, **k: ops.sqrt(ops.sum(ops.square(x), **k)),
    "ReduceLogSum": lambda x, **k: ops.log(ops.sum(x, **k)),
    "ReduceLogSumExp": ops.logsumexp,
    "ReduceMax": ops.max,
    "ReduceMean": ops.mean,
    "ReduceMin": ops.min,
    "ReduceProd": ops.prod,
    "ReduceSum": ops.sum,
    "ReduceSumSquare": lambda x, **k: ops.sum(ops.square(x), **k),
}
_OF_NONE = {"ReduceLogSum": -np.inf, "ReduceLogSumExp": -np.inf, "ReduceMax": -np.inf,
            "ReduceMin": np.inf}  # fmt: skip


@rule(*_REDUCTIONS, keeps_order=True)
def reduce(call: Call, x: Any, axes: Any = None) -> Any:
    """One number for some axes; all of them if none are named."""
    rank = x.ndim
    given = call.ints("axes", axes)
    keep = bool(call.attr("keepdims", 1))
    if not given:
        if call.attr("noop_with_empty_axes", 0):
            return _of_each(call.step.op, x)
        given = list(range(rank))
    at = call.axes(given, rank)
    function = _REDUCTIONS[call.step.op]
    if isinstance(x, Last):
        moved = tuple(0 if a == 0 else rank - 1 if a == 1 else a - 1 for a in at)
        if keep:
            return Last(function(x.tensor, axis=moved, keepdims=True))
        if set(at) >= set(range(2, rank)):
            return function(x.tensor, axis=moved, keepdims=False)
        x = first(x)
    if call.step.op in _OF_NONE and any(
        not is_symbolic_dim(x.shape[a]) and x.shape[a] == 0 for a in at
    ):
        sizes = [1 if i in at else n for i, n in enumerate(x.shape) if keep or i not in at]
        return np.full([int(n) for n in sizes], _empty(call.step.op, x), x.dtype)
    return function(x, axis=tuple(at), keepdims=keep)


def _empty(kind: str, x: Any) -> Any:
    if x.dtype == "bool":
        return kind == "ReduceMin"
    if np.dtype(x.dtype).kind in "iu":
        info = np.iinfo(x.dtype)
        return info.min if _OF_NONE[kind] < 0 else info.max
    return _OF_NONE[kind]


def _of_each(kind: str, x: Any) -> Any:
    """What a reduction over no axes makes of each entry."""
    turned = isinstance(x, Last)
    given = x.tensor if turned else x
    names: dict[str, Callable[[Any], Any]] = {
        "ReduceL1": ops.absolute, "ReduceL2": ops.absolute, "ReduceLogSum": ops.log,
        "ReduceSumSquare": ops.square,
    }  # fmt: skip
    found = names.get(kind, lambda v: v)(given)
    return Last(found) if turned else found


@rule("ArgMax", "ArgMin")
def arg_max(call: Call, x: Any) -> Any:
    """Where the largest or smallest entry is, the first of equal ones or the last."""
    axis = call.axis(call.attr("axis", 0), len(x.shape))
    function = ops.argmax if call.step.op == "ArgMax" else ops.argmin
    if call.attr("select_last_index", 0):
        found = int(x.shape[axis]) - 1 - function(ops.flip(x, axis=axis), axis=axis)
    else:
        found = function(x, axis=axis)
    found = ops.cast(found, "int64")
    return ops.expand_dims(found, axis) if call.attr("keepdims", 1) else found


@rule("TopK")
def top_k(call: Call, x: Any, k: Any = None) -> Any:
    """The largest or smallest entries in order, and where they were."""
    rank = len(x.shape)
    axis = call.axis(call.attr("axis", -1), rank)
    (count,) = call.ints("k", k, [1])
    if not 0 <= count <= int(x.shape[axis]):
        raise Unreadable(f"{count} of {x.shape[axis]} entries")
    largest = bool(call.attr("largest", 1))
    if isinstance(x, np.ndarray):
        order = np.argsort(-x.astype(np.float64) if largest else x, axis=axis, kind="stable")
    else:
        order = ops.argsort(ops.negative(x) if largest else x, axis=axis)
    at = _part(order, (*[slice(None)] * axis, slice(0, count)))
    return ops.take_along_axis(x, at, axis=axis), ops.cast(at, "int64")


@rule("CumSum", "CumProd")
def running(call: Call, x: Any, axis: Any) -> Any:
    """Running sums or products, with or without the entry itself."""
    at = call.axis(int(call.known(axis, "axis").reshape(-1)[0]), len(x.shape))
    backwards = bool(call.attr("reverse", 0))
    function, one = (ops.cumsum, 0) if call.step.op == "CumSum" else (ops.cumprod, 1)
    if backwards:
        x = ops.flip(x, axis=at)
    found = ops.cast(function(x, axis=at), x.dtype)
    if call.attr("exclusive", 0):
        pairs = [(int(i == at), 0) for i in range(len(x.shape))]
        found = ops.pad(found, pairs, constant_values=one)
        found = _part(found, (*[slice(None)] * at, slice(0, -1)))
    return ops.flip(found, axis=at) if backwards else found


@rule("LpNormalization")
def lp_normalization(call: Call, x: Any) -> Any:
    """Divided by its length along an axis."""
    axis = call.axis(call.attr("axis", -1), len(x.shape))
    if call.attr("p", 2) == 1:
        length = ops.sum(ops.absolute(x), axis=axis, keepdims=True)
    else:
        length = ops.sqrt(ops.sum(ops.square(x), axis=axis, keepdims=True))
    zero = ops.equal(length, 0.0)
    return ops.where(zero, ops.zeros_like(x), x / ops.where(zero, like(x, 1), length))


@rule("Einsum")
def einsum(call: Call, *xs: Any) -> Any:
    """Sums of products by an equation."""
    equation = call.attr("equation", "").replace(" ", "")
    if len(equation) > 200:
        raise Unreadable("the equation is too long")
    return ops.einsum(equation, *xs)


@rule("CenterCropPad")
def center_crop_pad(call: Call, x: Any, shape: Any) -> Any:
    """Cut or padded with zeros on both sides."""
    wanted = _sizes(call, shape, "shape")
    at = call.axes(call.ints("axes", None, list(range(len(x.shape)))), len(x.shape))
    call.room(wanted)
    for axis, size in zip(at, wanted, strict=True):
        have = int(x.shape[axis])
        if size < have:
            low = (have - size) // 2
            x = _part(x, (*[slice(None)] * axis, slice(low, low + size)))
        elif size > have:
            low = (size - have) // 2
            pairs = [(0, 0)] * len(x.shape)
            pairs[axis] = (low, size - have - low)
            x = ops.pad(x, pairs)
    return x


@rule("Det")
def det(call: Call, x: Any) -> Any:
    """Determinants."""
    return ops.det(x)


@rule("Col2Im")
def col2im(call: Call, x: Any, image: Any, block: Any) -> Any:
    """Columns added up to images."""
    sizes, window = _sizes(call, image, "image_shape"), _sizes(call, block, "block_shape")
    rank = len(sizes)
    dilations = call.attr("dilations", [1] * rank)
    pads, strides = call.attr("pads", [0] * 2 * rank), call.attr("strides", [1] * rank)
    given = call.known(x, "operand")
    n, channels = given.shape[0], given.shape[1] // math.prod(window)
    wide = [size + pads[i] + pads[i + rank] for i, size in enumerate(sizes)]
    call.room([n, channels, *wide])
    counts = [(wide[i] - dilations[i] * (window[i] - 1) - 1) // strides[i] + 1 for i in range(rank)]
    columns: Any = given.reshape(n, channels, *window, *counts)
    found: Any = np.zeros((n, channels, *wide), given.dtype)
    for place in itertools.product(*map(range, window)):
        where = tuple(
            slice(p * d, p * d + (c - 1) * s + 1, s)
            for p, d, c, s in zip(place, dilations, counts, strides, strict=True)
        )
        here, there = (..., *where), (slice(None), slice(None), *place)
        found[here] += columns[there]
    inside = tuple(slice(pads[i], pads[i] + size) for i, size in enumerate(sizes))
    part = (..., *inside)
    return found[part]
