"""Operators that move elements and compute nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import Dim, Shape, SymbolicDim, at_least, exact_quotient, same
from handmill.ir.op import Array, Attrs, Exact, Op, Sample, register
from handmill.ir.shapes import Spec, broadcasts_to, size_of
from handmill.ir.trace import apply
from handmill.primitives import channels
from handmill.primitives.emit import pad_axis, reshape, slice_axis, unbroadcast
from handmill.primitives.samples import BENCH, uniform


def _any_dtype(specs: Sequence[Spec], attrs: Attrs) -> bool:
    """Kernels that move items do not look at them."""
    return True


def _sample(name: str, *shapes: tuple[int, ...], bench: bool = False, **attrs: Any) -> Sample:
    smooth = not bench and all(0 not in s for s in shapes)
    return Sample(name, uniform(*shapes), attrs, smooth=smooth, bench=bench)


# --- reshape -------------------------------------------------------------------------------------


def resolve_shape(x: Shape, shape: Shape) -> Shape:
    """Returns ``shape`` with its -1 replaced by what is left of the elements of ``x``.

    Raises:
        ValueError: if the numbers of elements differ.
    """
    unknown = [i for i, d in enumerate(shape) if not isinstance(d, SymbolicDim) and d < 0]
    if any(shape[i] != -1 for i in unknown):
        raise ValueError(f"sizes are not negative (only -1 stands for the rest), got {shape}")
    total = size_of(x)
    if not unknown:
        if not same(size_of(shape), total):
            raise ValueError(f"{total} elements do not fill shape {shape}")
        return shape
    if len(unknown) > 1:
        raise ValueError(f"only one dimension can be -1, got shape={shape}")
    known = size_of(tuple(d for i, d in enumerate(shape) if i != unknown[0]))
    return (*shape[: unknown[0]], _quotient(total, known, shape), *shape[unknown[0] + 1 :])


def _quotient(total: Dim, known: Dim, shape: Shape) -> Dim:
    exact = exact_quotient(total, known)
    if exact is not None:
        return exact
    if isinstance(total, SymbolicDim) and not isinstance(known, SymbolicDim) and known > 0:
        quotient: Dim = total // known
        if same(quotient * known, total):
            return quotient
    raise ValueError(f"{total} elements cannot be split into shape {shape}")


def _reshape_infer(x: Spec, *, shape: Shape) -> Spec:
    try:
        return Spec(resolve_shape(x.shape, shape), x.dtype)
    except ValueError as error:
        raise shape_error("reshape", str(error), {"x": x}) from error


RESHAPE = register(
    Op(
        "reshape",
        infer=_reshape_infer,
        reference=lambda x, *, shape: np.reshape(x, shape),
        samples=lambda: [
            _sample("3x4_12", (3, 4), shape=(12,)),
            _sample("2x3x4_m1x4", (2, 3, 4), shape=(-1, 4)),
            _sample("empty", (0, 4), shape=(2, 0)),
            _sample("scalar", (1, 1), shape=()),
        ],
        bound=Exact(),
        vjp=lambda inputs, outputs, dys, *, shape: (reshape(dys[0], inputs[0].shape),),
        attribution="midpoint",
        channels=channels.reshaped,
        kernel="view",
        native=_any_dtype,
        view=True,
    )
)

# --- transpose -----------------------------------------------------------------------------------


def _transpose_vjp(inputs: Any, outputs: Any, dys: Any, *, perm: tuple[int, ...]) -> Any:
    inverse = tuple(int(i) for i in np.argsort(perm))
    return (apply(TRANSPOSE, dys[0], perm=inverse),)


TRANSPOSE = register(
    Op(
        "transpose",
        infer=lambda x, *, perm: Spec(tuple(x.shape[i] for i in perm), x.dtype),
        reference=lambda x, *, perm: np.transpose(x, perm),
        samples=lambda: [
            _sample("127x33", (127, 33), perm=(1, 0)),
            _sample("1x17", (1, 17), perm=(1, 0)),
            _sample("3x5x7_120", (3, 5, 7), perm=(1, 2, 0)),
            _sample("2x3x4x5_0213", (2, 3, 4, 5), perm=(0, 2, 1, 3)),
            _sample("empty", (0, 3), perm=(1, 0)),
            _sample("bench", BENCH, perm=(1, 0), bench=True),
        ],
        bound=Exact(),
        vjp=_transpose_vjp,
        attribution="midpoint",
        channels=channels.permuted,
        kernel="transpose",
        native=_any_dtype,
    )
)

# --- broadcast_to --------------------------------------------------------------------------------


def _broadcast_infer(x: Spec, *, shape: Shape) -> Spec:
    if not broadcasts_to(x.shape, shape):
        raise shape_error("broadcast_to", f"cannot be broadcast to shape {shape}", {"x": x})
    return Spec(shape, x.dtype)


def _broadcast_vjp(inputs: Any, outputs: Any, dys: Any, *, shape: Shape) -> Any:
    return (unbroadcast(dys[0], inputs[0].shape),)


BROADCAST_TO = register(
    Op(
        "broadcast_to",
        infer=_broadcast_infer,
        reference=lambda x, *, shape: np.array(np.broadcast_to(x, shape)),
        samples=lambda: [
            _sample("33_127x33", (33,), shape=(127, 33)),
            _sample("17x1_17x5", (17, 1), shape=(17, 5)),
            _sample("scalar_3x4", (), shape=(3, 4)),
            _sample("1x5x1_3x5x7", (1, 5, 1), shape=(3, 5, 7)),
            _sample("1_0", (1,), shape=(0,)),
            _sample("bench", (1024, 1), shape=BENCH, bench=True),
        ],
        bound=Exact(),
        vjp=_broadcast_vjp,
        attribution="midpoint",
        channels=channels.broadcast,
        kernel="broadcast",
        native=_any_dtype,
    )
)

# --- concatenate ---------------------------------------------------------------------------------


def _concatenate_infer(*xs: Spec, axis: int) -> Spec:
    operands = {f"x{i}": x for i, x in enumerate(xs)}
    first = xs[0]
    for x in xs[1:]:
        if x.rank != first.rank or x.dtype != first.dtype:
            raise shape_error("concatenate", "ranks or dtypes differ", operands)
        for a in range(first.rank):
            if a != axis and not same(x.shape[a], first.shape[a]):
                problem = f"sizes along axis {a} differ; only axis {axis} may"
                raise shape_error("concatenate", problem, operands)
    total: Dim = sum(x.shape[axis] for x in xs)
    return Spec((*first.shape[:axis], total, *first.shape[axis + 1 :]), first.dtype)


def _concatenate_vjp(inputs: Any, outputs: Any, dys: Any, *, axis: int) -> Any:
    dxs = []
    start: Dim = 0
    for x in inputs:
        stop = start + x.shape[axis]
        dxs.append(slice_axis(dys[0], axis, start, stop))
        start = stop
    return tuple(dxs)


CONCATENATE = register(
    Op(
        "concatenate",
        infer=_concatenate_infer,
        reference=lambda *xs, axis: np.concatenate(xs, axis=axis),
        samples=lambda: [
            _sample("rows", (3, 17), (5, 17), axis=0),
            _sample("columns", (7, 3), (7, 1), (7, 16), axis=1),
            _sample("empty", (0, 4), (2, 4), axis=0),
            _sample("one", (5,), axis=0),
            _sample("bench", (1024, 512), (1024, 512), axis=1, bench=True),
        ],
        bound=Exact(),
        vjp=_concatenate_vjp,
        attribution="midpoint",
        channels=channels.concatenated,
        kernel="concatenate",
        native=_any_dtype,
    )
)

# --- slice ---------------------------------------------------------------------------------------


def _inside(position: Dim, size: Dim) -> bool:
    return at_least(position, 0) and at_least(size, position)


def _count_between(first: Dim, last: Dim, by: int) -> Dim:
    if not isinstance(first, SymbolicDim) and not isinstance(last, SymbolicDim):
        return len(range(first, last, by))
    if not at_least(last, first):
        return 0
    count: Dim = (last - first + (by - 1)) // by
    return count


def _slice_infer(x: Spec, *, start: Shape, stop: Shape, step: tuple[int, ...]) -> Spec:
    dims: list[Dim] = []
    for dim, first, last, by in zip(x.shape, start, stop, step, strict=True):
        if first == 0 and last == dim and by == 1:
            dims.append(dim)
        elif by < 1 or not _inside(first, dim) or not _inside(last, dim):
            raise shape_error("slice", f"{first}:{last}:{by} leaves 0:{dim}", {"x": x})
        else:
            dims.append(_count_between(first, last, by))
    return Spec(tuple(dims), x.dtype)


def _slice_reference(x: Array, *, start: Any, stop: Any, step: Any) -> Array:
    return np.array(x[tuple(slice(*s) for s in zip(start, stop, step, strict=True))])


def _slice_vjp(inputs: Any, outputs: Any, dys: Any, *, start: Any, stop: Any, step: Any) -> Any:
    # Zeros go where nothing was taken: step - 1 of them behind each element, then both ends.
    x, dx = inputs[0], dys[0]
    for axis, by in enumerate(step):
        count = dx.shape[axis]
        if by != 1 and (isinstance(count, SymbolicDim) or count):
            shape = dx.shape
            dx = reshape(dx, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
            dx = pad_axis(dx, axis + 1, 0, by - 1)
            dx = reshape(dx, (*shape[:axis], count * by, *shape[axis + 1 :]))
            room = x.shape[axis] - start[axis]
            if isinstance(count, SymbolicDim):
                dx = slice_axis(dx, axis, 0, (count - 1) * by + 1)  # up to the last that was taken
            elif not isinstance(room, SymbolicDim) and count * by > room:
                dx = slice_axis(dx, axis, 0, room)
    for axis, first in enumerate(start):
        if dx.shape[axis] != x.shape[axis]:
            dx = pad_axis(dx, axis, first, x.shape[axis] - first - dx.shape[axis])
    return (dx,)


SLICE = register(
    Op(
        "slice",
        infer=_slice_infer,
        reference=_slice_reference,
        samples=lambda: [
            _sample("rows", (19, 5), start=(2, 0), stop=(17, 5), step=(1, 1)),
            _sample("columns", (7, 33), start=(0, 1), stop=(7, 32), step=(1, 1)),
            _sample("steps", (9, 10), start=(1, 0), stop=(9, 10), step=(3, 2)),
            _sample("nothing", (4, 4), start=(2, 0), stop=(2, 4), step=(1, 1)),
            _sample("bench", BENCH, start=(0, 1), stop=(1024, 1000), step=(1, 1), bench=True),
        ],
        bound=Exact(),
        vjp=_slice_vjp,
        attribution="midpoint",
        channels=channels.sliced,
        kernel="slice",
        native=_any_dtype,
    )
)


# --- pad -----------------------------------------------------------------------------------------


def _pad_infer(x: Spec, *, paddings: tuple[int, ...], value: float) -> Spec:
    dims: list[Dim] = []
    for dim, before, after in zip(x.shape, paddings[::2], paddings[1::2], strict=True):
        if not at_least(before, 0) or not at_least(after, 0):
            raise shape_error("pad", f"negative padding: {paddings}", {"x": x})
        dims.append(dim + before + after)
    return Spec(tuple(dims), x.dtype)


def _pad_reference(x: Array, *, paddings: tuple[int, ...], value: float) -> Array:
    pairs = list(zip(paddings[::2], paddings[1::2], strict=True))
    return np.pad(x, pairs, constant_values=value) if pairs else np.array(x)


def _pad_vjp(inputs: Any, outputs: Any, dys: Any, *, paddings: Any, value: float) -> Any:
    dx = dys[0]
    for axis, dim in enumerate(inputs[0].shape):
        if dx.shape[axis] != dim:
            dx = slice_axis(dx, axis, paddings[2 * axis], paddings[2 * axis] + dim)
    return (dx,)


# paddings: (before, after) of each axis, one after the other in a flat tuple.
PAD = register(
    Op(
        "pad",
        infer=_pad_infer,
        reference=_pad_reference,
        samples=lambda: [
            _sample("17", (17,), paddings=(1, 2), value=0.0),
            _sample("5x33", (5, 33), paddings=(0, 1, 3, 0), value=1.5),
            _sample("2x3x4", (2, 3, 4), paddings=(0, 0, 1, 1, 0, 0), value=0.0),
            _sample("empty", (0, 3), paddings=(1, 1, 0, 0), value=-1.0),
            _sample("bench", BENCH, paddings=(1, 1, 1, 1), value=0.0, bench=True),
        ],
        bound=Exact(),
        vjp=_pad_vjp,
        attribution="midpoint",
        channels=channels.padded,
        kernel="pad",
        native=_any_dtype,
    )
)
