"""Pooling over windows of the spatial axes of (batch, *spatial, channels), and its gradients.

Padding holds no elements: it never is a maximum and does not count in an average. The element of
a window that gets the gradient of its maximum is found as XLA finds it: going through the window in
row-major order, an element is given up for the next one unless it is greater or equal. So the
first of equal maxima gets it, and in a window with a NaN what comes after the last one does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import Shape, SymbolicDim, same_shape
from handmill.ir.graph import Value
from handmill.ir.op import (
    REGISTRY,
    Accumulate,
    Array,
    Attrs,
    Exact,
    Op,
    Sample,
    never_native,
    register,
)
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives import channels
from handmill.primitives.samples import both, given, uniform
from handmill.primitives.windows import Pairs, padded, parts, unpadded, window_counts


def _counts(op: str, sizes: Shape, attrs: Attrs, operands: dict[str, Any]) -> Shape:
    window, padding = attrs["window"], attrs["padding"]
    ones = (1,) * len(window)
    found = window_counts(op, sizes, window, attrs["strides"], padding, ones, operands)
    for size, pair in zip(window, padding, strict=True):
        if any(not isinstance(n, SymbolicDim) and n >= size for n in pair):
            problem = f"padding {padding} leaves windows of {window} without an element"
            raise shape_error(op, problem, operands)
    return found


def _pooled(op: str, x: Spec, attrs: Attrs) -> Spec:
    if x.rank < 3 or x.dtype == "bool":
        problem = "numbers with batch, spatial axes and channels were expected"
        raise shape_error(op, problem, {"x": x})
    counts = _counts(op, x.shape[1:-1], attrs, {"x": x})
    return Spec((x.shape[0], *counts, x.shape[-1]), x.dtype)


def _check_output(op: str, x: Spec, dy: Spec, attrs: Attrs) -> None:
    y = _pooled(op, x, attrs)
    if dy.dtype != x.dtype or not same_shape(y.shape, dy.shape):
        raise shape_error(op, f"windows of x give {y}", {"x": x, "dy": dy})


def _parts(sizes: Any, attrs: Attrs) -> Iterator[tuple[slice, ...]]:
    """The parts of the padded input, one for each place of a window, in row-major order."""
    counts: Any = _counts("pool", tuple(sizes), attrs, {})
    window = attrs["window"]
    return parts(counts, window, attrs["strides"], (1,) * len(window))


def _wide(x: Array, attrs: Attrs) -> Array:
    """A padded array of zeros around what has the shape of ``x``."""
    sums = (n + low + high for n, (low, high) in zip(x.shape[1:-1], attrs["padding"], strict=True))
    return np.zeros((x.shape[0], *sums, x.shape[-1]), x.dtype)


# --- maximum -------------------------------------------------------------------------------------


def _max_reference(x: Array, **attrs: Any) -> Array:
    low = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    wide = padded(x, attrs["padding"], low)
    y: Any = None
    for where in _parts(x.shape[1:-1], attrs):
        y = np.array(wide[where]) if y is None else np.maximum(y, wide[where], out=y)
    return np.asarray(y)


def _chosen(x: Array, attrs: Attrs) -> tuple[list[tuple[slice, ...]], Array]:
    """The parts of windows, and which of them each window's maximum lies in."""
    wide = padded(x, attrs["padding"])
    inside = padded(np.ones((1, *x.shape[1:-1], 1), bool), attrs["padding"])
    places = list(_parts(x.shape[1:-1], attrs))
    best = np.full_like(wide[places[0]], np.nan)
    chosen = np.zeros(best.shape, np.int32)
    for number, where in enumerate(places):
        better = inside[where] & ~(best >= wide[where])
        chosen[better] = number
        best = np.where(better, wide[where], best)
    return places, chosen


def _max_grad_reference(x: Array, dy: Array, **attrs: Any) -> Array:
    places, chosen = _chosen(x, attrs)
    dx = _wide(x, attrs)
    for number, where in enumerate(places):
        dx[where] += np.where(chosen == number, dy, np.zeros((), dy.dtype))
    return unpadded(dx, attrs["padding"])


def _max_gather_reference(x: Array, t: Array, **attrs: Any) -> Array:
    places, chosen = _chosen(x, attrs)
    wide = padded(t, attrs["padding"])
    y = np.zeros(chosen.shape, t.dtype)
    for number, where in enumerate(places):
        np.copyto(y, wide[where], where=chosen == number)
    return y


def _max_grad_infer(x: Spec, dy: Spec, **attrs: Any) -> Spec:
    _check_output("max_pool_grad", x, dy, attrs)
    return x


def _max_gather_infer(x: Spec, t: Spec, **attrs: Any) -> Spec:
    op = "max_pool_gather"
    if not x.same(t):
        raise shape_error(op, "operands of one shape were expected", {"x": x, "t": t})
    return _pooled(op, x, attrs)


# --- average -------------------------------------------------------------------------------------


def _shares(sizes: Sequence[int], attrs: Attrs, dtype: Any) -> Array:
    """The number of elements of each window, (1, *counts, 1)."""
    inside = padded(np.ones((1, *sizes, 1), dtype), attrs["padding"])
    return np.asarray(sum(inside[where] for where in _parts(sizes, attrs)))


def _average_reference(x: Array, **attrs: Any) -> Array:
    wide = padded(x, attrs["padding"])
    y: Any = None
    for where in _parts(x.shape[1:-1], attrs):
        y = np.array(wide[where]) if y is None else np.add(y, wide[where], out=y)
    return np.asarray(y / _shares(x.shape[1:-1], attrs, x.dtype))


def _average_grad_reference(dy: Array, *, sizes: Any, **attrs: Any) -> Array:
    share = dy / _shares(sizes, attrs, dy.dtype)
    shape = np.broadcast_to(np.zeros((), dy.dtype), (dy.shape[0], *sizes, dy.shape[-1]))
    dx = _wide(shape, attrs)
    for where in _parts(sizes, attrs):
        dx[where] += share
    return unpadded(dx, attrs["padding"])


def _average_infer(x: Spec, **attrs: Any) -> Spec:
    if not x.is_float:
        raise shape_error("average_pool", f"floats were expected, got {x.dtype}", {"x": x})
    return _pooled("average_pool", x, attrs)


def _average_grad_infer(dy: Spec, *, sizes: Shape, **attrs: Any) -> Spec:
    x = Spec((dy.shape[0], *sizes, dy.shape[-1]), dy.dtype)
    _check_output("average_pool_grad", x, dy, attrs)
    return x


# --- bounds and samples --------------------------------------------------------------------------


def _terms(inputs: Sequence[Array], attrs: Attrs) -> int:
    """An element lies in at most as many windows as a window has elements."""
    return int(math.prod(attrs["window"]))


def _max_grad_magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    return _max_grad_reference(inputs[0], np.abs(inputs[1]), **attrs)


def _average_magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    return _average_reference(np.abs(inputs[0]), **attrs)


def _average_grad_magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    return _average_grad_reference(np.abs(inputs[0]), **attrs)


def _case(
    name: str,
    x: tuple[int, ...],
    window: tuple[int, ...],
    strides: int,
    padding: Pairs | None = None,
) -> tuple[str, tuple[int, ...], Attrs]:
    count = len(window)
    attrs = {
        "window": window,
        "strides": (strides,) * count,
        "padding": padding or ((0, 0),) * count,
    }
    return name, x, attrs


_CASES = (
    _case("6x4x3_2x2", (2, 6, 4, 3), (2, 2), 2),
    _case("7x5x17_3x2", (2, 7, 5, 17), (3, 2), 2, ((1, 1), (0, 1))),
    _case("5x6x2_3x3_overlap", (1, 5, 6, 2), (3, 3), 1, ((1, 1), (1, 1))),
    _case("8x5x1_2x1_gaps", (3, 8, 5, 1), (2, 1), 3),
    _case("4x3x2_4x3", (2, 4, 3, 2), (4, 3), 1),
    _case("9x3_2", (2, 9, 3), (2,), 2, ((0, 1),)),
    _case("4x3x5x2_2x2x2", (2, 4, 3, 5, 2), (2, 2, 2), 2, ((0, 0), (0, 1), (1, 0))),
    _case("none", (0, 4, 4, 2), (2, 2), 2),
)
_BENCH = _case("bench", (32, 28, 28, 32), (2, 2), 2)
_EDGES = [0.0, -0.0, 1.0, 1.0, np.inf, np.inf, -np.inf, -np.inf, np.nan, 1.0, 2.0, np.nan]


def _apart(shape: tuple[int, ...], least: float = 0.0) -> Any:
    """A maker of numbers of which no two are near each other: maxima have slopes there."""
    size = math.prod(shape)

    def make(rng: np.random.Generator) -> tuple[Array, ...]:
        order = rng.permutation(size).reshape(shape) / max(size, 1)
        return (np.asarray(order + least, np.float32),)

    return make


def _shapes(x: tuple[int, ...], attrs: Attrs) -> tuple[int, ...]:
    return (x[0], *_counts("pool", x[1:-1], attrs, {}), x[-1])  # type: ignore[arg-type]


def _max_samples(kind: str, centred: bool = False) -> Iterable[Sample]:
    for name, x, attrs in (*_CASES, _BENCH):
        second = {"max_pool": (), "grad": (_shapes(x, attrs),), "gather": (x,)}[kind]
        make = both(_apart(x, -0.5 * centred), *(uniform(shape) for shape in second))
        bench = name == "bench"
        yield Sample(name, make, attrs, smooth=not bench and x[0] > 0, bench=bench)
    name, x, attrs = _case("edges", (1, 12, 1), (3,), 1, ((1, 1),))
    second = {"max_pool": (), "grad": (_shapes(x, attrs),), "gather": (x,)}[kind]
    edges = given(np.reshape(np.asarray(_EDGES, np.float32), x))
    yield Sample(name, both(edges, *map(uniform, second)), attrs, smooth=False)


def _average_samples(gradient: bool) -> Iterable[Sample]:
    for name, x, attrs in (*_CASES, _BENCH):
        make = uniform(_shapes(x, attrs) if gradient else x)
        more = {"sizes": x[1:-1]} if gradient else {}
        bench = name == "bench"
        yield Sample(name, make, attrs | more, smooth=not bench and x[0] > 0, bench=bench)


def _native(specs: Sequence[Spec], attrs: Attrs) -> bool:
    return all(spec.dtype == "float32" for spec in specs) and len(attrs["window"]) <= 2


# --- records -------------------------------------------------------------------------------------


def _max_vjp(inputs: Any, outputs: Any, dys: Any, **attrs: Any) -> Any:
    return (apply(MAX_POOL_GRAD, inputs[0], dys[0], **attrs),)


def _max_grad_vjp(inputs: Any, outputs: Any, dys: Any, **attrs: Any) -> Any:
    # Which element was chosen does not change around x.
    return None, apply(MAX_POOL_GATHER, inputs[0], dys[0], **attrs)


def _max_gather_vjp(inputs: Any, outputs: Any, dys: Any, **attrs: Any) -> Any:
    return None, apply(MAX_POOL_GRAD, inputs[0], dys[0], **attrs)


def _absorb(
    inputs: tuple[Value, ...], attrs: Attrs, kind: str, name: str, operand: Value | None
) -> tuple[Op, tuple[Value, ...], Attrs] | None:
    """Builds the gradient of a relu before the pooling into it (see Op.absorb)."""
    if (kind, name) != ("act_grad", "relu") or operand is not inputs[0]:
        return None
    specs = [v.spec for v in inputs]
    return (MAX_POOL_RELU_GRAD, inputs, attrs) if _native(specs, attrs) else None


MAX_POOL = register(
    Op(
        "max_pool",
        infer=lambda x, **attrs: _pooled("max_pool", x, attrs),
        reference=_max_reference,
        samples=lambda: _max_samples("max_pool"),
        bound=Exact(),
        vjp=_max_vjp,
        attribution="max",
        channels=channels.pooled,
        kernel="max_pool",
        native=_native,
    )
)

MAX_POOL_GRAD = register(
    Op(
        "max_pool_grad",
        infer=_max_grad_infer,
        reference=_max_grad_reference,
        samples=lambda: _max_samples("grad"),
        bound=Accumulate(_terms, _max_grad_magnitude),
        vjp=_max_grad_vjp,
        kernel="max_pool_grad",
        native=_native,
        absorb=_absorb,
        grad_none=(0,),
    )
)


def _relu_grad_reference(x: Array, dy: Array, **attrs: Any) -> Array:
    return np.asarray(REGISTRY["relu_grad"].reference(_max_grad_reference(x, dy, **attrs), x))


def _relu_grad_composite(x: Any, dy: Any, **attrs: Any) -> Any:
    return apply(REGISTRY["relu_grad"], apply(MAX_POOL_GRAD, x, dy, **attrs), x)


# The gradient of a maximum of relu(...): x is what relu gave.
MAX_POOL_RELU_GRAD = register(
    Op(
        "max_pool_relu_grad",
        infer=_max_grad_infer,
        reference=_relu_grad_reference,
        samples=lambda: _max_samples("grad", centred=True),
        bound=Accumulate(_terms, _max_grad_magnitude),
        kernel="max_pool_grad",
        kernel_attrs=(("gated", True),),
        native=_native,
        composite=_relu_grad_composite,
    )
)

# What lies in t where the maxima of x are: the gradient of the gradient.
MAX_POOL_GATHER = register(
    Op(
        "max_pool_gather",
        infer=_max_gather_infer,
        reference=_max_gather_reference,
        samples=lambda: _max_samples("gather"),
        bound=Exact(),
        vjp=_max_gather_vjp,
        native=never_native,
        grad_none=(0,),
    )
)


def _average_vjp(inputs: Any, outputs: Any, dys: Any, **attrs: Any) -> Any:
    return (apply(AVERAGE_POOL_GRAD, dys[0], sizes=inputs[0].shape[1:-1], **attrs),)


def _average_grad_vjp(inputs: Any, outputs: Any, dys: Any, *, sizes: Shape, **attrs: Any) -> Any:
    return (apply(AVERAGE_POOL, dys[0], **attrs),)


AVERAGE_POOL = register(
    Op(
        "average_pool",
        infer=_average_infer,
        reference=_average_reference,
        samples=lambda: _average_samples(gradient=False),
        bound=Accumulate(_terms, _average_magnitude, extra=2),
        vjp=_average_vjp,
        attribution="midpoint",
        channels=channels.pooled,
        kernel="average_pool",
        native=_native,
    )
)

AVERAGE_POOL_GRAD = register(
    Op(
        "average_pool_grad",
        infer=_average_grad_infer,
        reference=_average_grad_reference,
        samples=lambda: _average_samples(gradient=True),
        bound=Accumulate(_terms, _average_grad_magnitude, extra=2),
        vjp=_average_grad_vjp,
        attribution="midpoint",
        kernel="average_pool_grad",
        native=_native,
    )
)
