"""Softmax and its logarithm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.op import REGISTRY, Accumulate, Array, Attrs, Op, Sample, register
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives import channels
from handmill.primitives.emit import absolute, exp, less, log, negative, reduce, where
from handmill.primitives.operands import promote
from handmill.primitives.samples import elements, given, name_of, uniform

TINY = float(np.finfo(np.float32).tiny)

# The operators work along the last axis; `axis` is its number.


def softmax_reference(x: Array, *, axis: int) -> Array:
    """e^x / sum(e^x), shifted so that nothing overflows."""
    if x.shape[axis] == 0:
        return np.array(x)
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return np.asarray(e / np.sum(e, axis=axis, keepdims=True))


def log_softmax_reference(x: Array, *, axis: int) -> Array:
    """X - log(sum(e^x)), shifted so that nothing overflows."""
    if x.shape[axis] == 0:
        return np.array(x)
    shifted = x - np.max(x, axis=axis, keepdims=True)
    return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True)))


def _infer(x: Spec, *, axis: int) -> Spec:
    if not x.is_float or x.rank == 0 or axis != x.rank - 1:
        raise shape_error("softmax", "floats with a last axis were expected", {"x": x})
    return x


def _grad_infer(dy: Spec, y: Spec, *, axis: int) -> Spec:
    if not dy.same(y):
        raise shape_error("softmax_grad", "dy and y differ", {"dy": dy, "y": y})
    return _infer(y, axis=axis)


def _spread(inputs: Sequence[Array], attrs: Attrs) -> Array:
    """The largest difference within each row, as far as it is finite."""
    x = np.where(np.isfinite(inputs[0]), inputs[0], 0.0)
    if x.shape[-1] == 0:
        return x
    return np.asarray(np.max(x, axis=-1, keepdims=True) - x)


def _softmax_magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    # x - max rounds half a unit, which exp turns into |x - max| eps / 2; 2 units of exp; the sum
    # of n positive terms adds n - 1 roundings, and carries the errors of its own terms. Results
    # below the least normal number are multiples of the least subnormal one.
    y = softmax_reference(inputs[0], axis=-1) if inputs[0].size else inputs[0]
    d = _spread(inputs, attrs)
    return np.asarray(np.nan_to_num(y) * (1 + d) + TINY)


def _log_softmax_magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    return np.asarray(_spread(inputs, attrs) + 2 * np.log1p(inputs[0].shape[-1]))


def _row_terms(inputs: Sequence[Array], attrs: Attrs) -> int:
    return int(inputs[0].shape[-1])


def _samples() -> Iterable[Sample]:
    for shape in ((1, 1), (3, 15), (5, 16), (2, 17), (127, 33), (4, 3, 300), (0, 10), (17,)):
        make = uniform(shape, low=-6.0, high=6.0)
        yield Sample(name_of(shape), make, {"axis": len(shape) - 1}, smooth=0 not in shape)
    inf = np.inf
    rows = [[0, 0, 0, 0], [1000, 999, -1000, 0], [-inf, -inf, -inf, 0], [-inf] * 4, [inf, 0, 0, 0]]
    rows += [[np.nan, 0, 0, 0]]
    yield Sample("special", given(rows), {"axis": 1}, smooth=False)
    yield Sample("bench_10", uniform((8192, 10)), {"axis": 1}, smooth=False, bench=True)
    yield Sample("bench_1024", uniform((1024, 1024)), {"axis": 1}, smooth=False, bench=True)


def _grad_samples() -> Iterable[Sample]:
    for shape in ((1, 1), (3, 15), (2, 17), (127, 33), (4, 3, 300), (0, 10)):

        def make(rng: np.random.Generator, shape: tuple[int, ...] = shape) -> tuple[Array, ...]:
            y = rng.dirichlet(np.ones(shape[-1]), shape[:-1])
            dy = rng.normal(size=shape)
            return dy.astype(np.float32), y.astype(np.float32).reshape(shape)

        yield Sample(name_of(shape), make, {"axis": len(shape) - 1}, smooth=0 not in shape)


def _least(x: Any, least: float) -> Any:
    return apply(REGISTRY["maximum"], *promote(x, least))


def _powers(x: Any, z: Any, axis: int) -> tuple[Any, Any, Any, Any, Any]:
    """Of two runs, e^(x - c) with one c for both, the sums, and the slope between the powers."""
    c = apply(
        REGISTRY["maximum"],
        reduce("max", x, (axis,), keepdims=True),
        reduce("max", z, (axis,), keepdims=True),
    )
    e, f = exp(x - c), exp(z - c)
    s, t = (_least(reduce("sum", p, (axis,), keepdims=True), TINY) for p in (e, f))
    near = less(absolute(x - z), 1e-3)  # there the middle is better than a quotient of roundings
    slope = where(near, exp((x + z) * 0.5 - c), (e - f) / where(near, 1.0, x - z))
    return e, f, s, t, slope


def _softmax_shares(
    inputs: Any, others: Any, outputs: Any, other_outputs: Any, dys: Any, varying: Any, *, axis: int
) -> Any:
    # y = e u with u = 1 / sum(e): the product by the mean of its factors, u by -1 / (s t).
    e, f, s, t, slope = _powers(inputs[0], others[0], axis)
    past = reduce("sum", dys[0] * (e + f), (axis,), keepdims=True) * 0.5 / s / t
    return ((dys[0] * ((s + t) / s / t * 0.5) - past) * slope,)


def _log_softmax_shares(
    inputs: Any, others: Any, outputs: Any, other_outputs: Any, dys: Any, varying: Any, *, axis: int
) -> Any:
    # y = x - log(sum(e)).
    _, _, s, t, slope = _powers(inputs[0], others[0], axis)
    near = less(absolute(s - t), s * 1e-3)
    past = where(near, 2.0 / (s + t), (log(s) - log(t)) / where(near, 1.0, s - t))
    return (dys[0] - reduce("sum", dys[0], (axis,), keepdims=True) * past * slope,)


SOFTMAX = register(
    Op(
        "softmax",
        infer=_infer,
        reference=softmax_reference,
        samples=_samples,
        bound=Accumulate(_row_terms, _softmax_magnitude, extra=6),
        vjp=lambda inputs, outputs, dys, *, axis: (
            apply(SOFTMAX_GRAD, dys[0], outputs[0], axis=axis),
        ),
        attribution=_softmax_shares,
        channels=channels.along,
        kernel="softmax",
        link="softmax",
        flops=lambda inputs, outputs, attrs: 8 * elements(inputs[0]),
    )
)


def _softmax_grad(dy: Array, y: Array, *, axis: int) -> Array:
    return np.asarray(y * (dy - np.sum(dy * y, axis=axis, keepdims=True)))


def _softmax_grad_magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    dy, y = np.abs(inputs[0]), np.abs(inputs[1])
    return np.asarray(y * (dy + np.sum(dy * y, axis=-1, keepdims=True)))


def _softmax_grad_vjp(inputs: Any, outputs: Any, dys: Any, *, axis: int) -> Any:
    # dx = y (dy - sum(dy y)) is symmetric in the roles of dy and what follows dx.
    (dy, y), (d,) = inputs, dys
    past = reduce("sum", dy * y, (axis,), keepdims=True)
    rest = reduce("sum", d * y, (axis,), keepdims=True)
    return apply(SOFTMAX_GRAD, d, y, axis=axis), d * (dy - past) - dy * rest


# dy_i / dx_j = y_i ([i = j] - y_j), so dx = y (dy - sum(dy y)).
SOFTMAX_GRAD: Op = register(
    Op(
        "softmax_grad",
        infer=_grad_infer,
        reference=_softmax_grad,
        samples=_grad_samples,
        bound=Accumulate(_row_terms, _softmax_grad_magnitude, extra=2),
        vjp=_softmax_grad_vjp,
        kernel="softmax_grad",
    )
)

LOG_SOFTMAX = register(
    Op(
        "log_softmax",
        infer=_infer,
        reference=log_softmax_reference,
        samples=_samples,
        bound=Accumulate(_row_terms, _log_softmax_magnitude, extra=6),
        vjp=lambda inputs, outputs, dys, *, axis: (
            apply(LOG_SOFTMAX_GRAD, dys[0], outputs[0], axis=axis),
        ),
        attribution=_log_softmax_shares,
        channels=channels.along,
        kernel="log_softmax",
        link="softmax",
        flops=lambda inputs, outputs, attrs: 8 * elements(inputs[0]),
    )
)


def _log_softmax_grad(dy: Array, y: Array, *, axis: int) -> Array:
    return np.asarray(dy - np.exp(y) * np.sum(dy, axis=axis, keepdims=True))


def _log_softmax_grad_magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    dy, y = np.abs(inputs[0]), inputs[1]
    return np.asarray(dy + np.exp(y) * np.sum(dy, axis=-1, keepdims=True))


def _log_grad_samples() -> Iterable[Sample]:
    for sample in _grad_samples():

        def make(rng: np.random.Generator, inner: Any = sample.make) -> tuple[Array, ...]:
            dy, y = inner(rng)
            return dy, np.log(np.maximum(y, np.float32(1e-6)))

        yield Sample(sample.name, make, sample.attrs, smooth=sample.smooth)


def _log_softmax_grad_vjp(inputs: Any, outputs: Any, dys: Any, *, axis: int) -> Any:
    # dx = dy - e^y sum(dy), linear in dy.
    (dy, y), (d,) = inputs, dys
    through = d * exp(y)
    rest = reduce("sum", through, (axis,), keepdims=True)
    return d - rest, negative(through * reduce("sum", dy, (axis,), keepdims=True))


# y_i = x_i - log sum e^x: dy_i / dx_j = [i = j] - e^(y_j), so dx = dy - e^y sum(dy).
LOG_SOFTMAX_GRAD: Op = register(
    Op(
        "log_softmax_grad",
        infer=_grad_infer,
        reference=_log_softmax_grad,
        samples=_log_grad_samples,
        bound=Accumulate(_row_terms, _log_softmax_grad_magnitude, extra=4),
        vjp=_log_softmax_grad_vjp,
        kernel="log_softmax_grad",
    )
)
