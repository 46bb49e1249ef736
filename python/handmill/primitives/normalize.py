"""Layer and root mean square normalization of the last axis, and their gradients.

What is kept for the gradients are, of each row, its mean and 1 / sqrt(variance + epsilon): what was
normalized comes again from the operand. A row sees nothing of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import same, same_shape
from handmill.ir.graph import Value
from handmill.ir.op import EPS32, REGISTRY, Accumulate, Array, Attrs, Op, Sample, register
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives.emit import broadcast_to, negative, reduce, reshape
from handmill.primitives.operands import converted, count_along, tensor
from handmill.primitives.samples import elements, name_of

_EPSILON = 0.0009765625  # of samples: exact in float32


def _check_columns(name: str, x: Spec, *vectors: Spec) -> None:
    given = {"x": x} | {f"operand {i}": v for i, v in enumerate(vectors, 1)}
    fits = x.is_float and x.rank > 0
    for v in vectors:
        fits = fits and v.rank == 1 and v.dtype == x.dtype and same(v.shape[0], x.shape[-1])
    if not fits:
        problem = "floats and a vector for their last axis, all of one dtype, were expected"
        raise shape_error(name, problem, given)


def _check_grad(name: str, dy: Spec, x: Spec, scale: Spec, *rows: Spec, residual: bool) -> None:
    _check_columns(name, x, scale)
    others = rows[: len(rows) - residual]
    like_x = [dy, *rows[len(others) :]]
    fits = all(same_shape(v.shape, x.shape) for v in like_x)
    if not fits or not all(same_shape(v.shape, x.shape[:-1]) for v in others):
        given = {"dy": dy, "x": x} | {f"operand {i}": v for i, v in enumerate(rows, 3)}
        raise shape_error(name, "dy like x and a number for each row were expected", given)


def _row_mean(x: Array) -> Array:
    with np.errstate(invalid="ignore"):  # a row without elements has none
        return np.asarray(np.sum(x, -1, keepdims=True) / x.dtype.type(x.shape[-1]))


def _inverse(centered: Array, epsilon: float) -> Array:
    spread = _row_mean(np.square(centered)) + centered.dtype.type(epsilon)
    return np.asarray(1 / np.sqrt(spread))


# --- forward -------------------------------------------------------------------------------------


def _layer_norm_infer(x: Spec, scale: Spec, offset: Spec, *, epsilon: float) -> tuple[Spec, ...]:
    _check_columns("layer_norm", x, scale, offset)
    row = Spec(x.shape[:-1], x.dtype)
    return x, row, row


def _layer_norm(x: Array, scale: Array, offset: Array, *, epsilon: float) -> tuple[Array, ...]:
    mean = _row_mean(x)
    with np.errstate(invalid="ignore"):  # of infinite rows
        distance = x - mean
        inverse = _inverse(distance, epsilon)
        return distance * inverse * scale + offset, mean[..., 0], inverse[..., 0]


def _rms_norm_infer(x: Spec, scale: Spec, *, epsilon: float) -> tuple[Spec, ...]:
    _check_columns("rms_norm", x, scale)
    return x, Spec(x.shape[:-1], x.dtype)


def _rms_norm(x: Array, scale: Array, *, epsilon: float) -> tuple[Array, ...]:
    inverse = _inverse(x, epsilon)
    with np.errstate(invalid="ignore"):
        return x * inverse * scale, inverse[..., 0]


def _parts(x: Any, centered: bool, epsilon: float) -> tuple[Any, Any, Any]:
    """Of values: what is divided, the mean or None, and the inverse."""
    last = (len(x.shape) - 1,)
    mean = reduce("mean", x, last, keepdims=True) if centered else None
    distance = x if mean is None else x - mean
    squares = reduce("mean", apply(REGISTRY["square"], distance), last, keepdims=True)
    return distance, mean, apply(REGISTRY["rsqrt"], squares + epsilon)


def _without_last(x: Any) -> Any:
    return reduce("sum", x, (len(x.shape) - 1,))


def _layer_norm_composite(x: Any, scale: Any, offset: Any, *, epsilon: float) -> Any:
    distance, mean, inverse = _parts(x, True, epsilon)
    return distance * inverse * scale + offset, _without_last(mean), _without_last(inverse)


def _rms_norm_composite(x: Any, scale: Any, *, epsilon: float) -> Any:
    distance, _, inverse = _parts(x, False, epsilon)
    return distance * inverse * scale, _without_last(inverse)


def _vjp(grad: Callable[[], Op], centered: bool) -> Callable[..., Any]:
    def vjp(inputs: Any, outputs: Any, dys: Any, *, epsilon: float) -> Any:
        x, scale = inputs[:2]
        dy, dmean, dinverse = dys if centered else (dys[0], None, dys[1])
        found: list[Any] = [None] * len(inputs)
        if dy is not None:
            attrs = {"epsilon": epsilon, "residual": False}
            found = list(apply(grad(), dy, x, scale, *outputs[1:], **attrs))
        # Those of what is kept, which gradients are computed from.
        row = (*x.shape[:-1], 1)
        size = converted(tensor(count_along(x, (len(x.shape) - 1,))), x.dtype)
        for slope in (dmean, dinverse):
            if slope is None:
                continue
            more = broadcast_to(reshape(slope, row) / size, x.shape)
            if slope is dinverse:
                inverse = reshape(outputs[-1], row)
                distance = x - reshape(outputs[1], row) if centered else x
                more = negative(more * distance * inverse * inverse * inverse)
            found[0] = more if found[0] is None else found[0] + more
        return found

    return vjp


# --- gradients -----------------------------------------------------------------------------------


def _split(x: Array, rows: Sequence[Array], centered: bool) -> tuple[Array, Array]:
    """What was normalized, and the inverse."""
    inverse = rows[1 if centered else 0][..., None]
    distance = x - rows[0][..., None] if centered else x
    return np.asarray(distance * inverse), inverse


def _grad_reference(centered: bool) -> Callable[..., tuple[Array, ...]]:
    def reference(
        dy: Array, x: Array, scale: Array, *rows: Array, epsilon: float, residual: bool
    ) -> tuple[Array, ...]:
        axes = tuple(range(x.ndim - 1))
        with np.errstate(invalid="ignore"):  # of infinite rows
            normal, inverse = _split(x, rows, centered)
            through = dy * scale
            slope = _row_mean(through * normal)
            level = _row_mean(through) if centered else np.zeros((), x.dtype)
            dx = (through - level - normal * slope) * inverse
            dx = dx + rows[-1] if residual else dx
            sums = [np.sum(dy * normal, axes), *([np.sum(dy, axes)] if centered else [])]
        return np.asarray(dx), *map(np.asarray, sums)

    return reference


def _grad_infer(name: str, centered: bool) -> Callable[..., tuple[Spec, ...]]:
    def infer(
        dy: Spec, x: Spec, scale: Spec, *rows: Spec, epsilon: float, residual: bool
    ) -> tuple[Spec, ...]:
        if len(rows) != 1 + centered + residual:
            raise shape_error(name, f"{4 + centered + residual} operands were expected", {"x": x})
        _check_grad(name, dy, x, scale, *rows, residual=residual)
        return (x, scale, scale) if centered else (x, scale)

    return infer


def _grad_composite(centered: bool) -> Callable[..., tuple[Any, ...]]:
    def composite(
        dy: Any, x: Any, scale: Any, *rows: Any, epsilon: float, residual: bool
    ) -> tuple[Any, ...]:
        row = (*x.shape[:-1], 1)
        distance = x - reshape(rows[0], row) if centered else x
        inverse = reshape(rows[1 if centered else 0], row)
        normal, through = distance * inverse, dy * scale
        last, axes = (len(x.shape) - 1,), tuple(range(len(x.shape) - 1))
        dx = through - normal * reduce("mean", through * normal, last, keepdims=True)
        if centered:
            dx = dx - reduce("mean", through, last, keepdims=True)
        dx = dx * inverse
        dx = dx + rows[-1] if residual else dx
        sums = (reduce("sum", dy * normal, axes), *([reduce("sum", dy, axes)] if centered else []))
        return dx, *sums

    return composite


def _absorb(op: str) -> Callable[..., tuple[Op, tuple[Value, ...], Attrs] | None]:
    """Builds what is added to dx into the gradient (see Op.absorb)."""

    def absorb(
        inputs: tuple[Value, ...], attrs: Attrs, kind: str, name: str, operand: Value | None
    ) -> tuple[Op, tuple[Value, ...], Attrs] | None:
        if kind != "bias" or operand is None or attrs["residual"]:
            return None
        if operand.spec != inputs[1].spec:
            return None
        return REGISTRY[op], (*inputs, operand), {**attrs, "residual": True}

    return absorb


# --- bounds --------------------------------------------------------------------------------------


class _MeanBound:
    def tolerance(self, want: Array, inputs: Sequence[Array], attrs: Attrs) -> Array:
        x = inputs[0]
        return np.asarray(2 * EPS32 * (x.shape[-1] + 2) * _row_mean(np.abs(x))[..., 0]) + 1e-44


class _Errors:
    """Of the distances and of the inverse's relative error, for each row."""

    def __init__(self, x: Array, centered: bool, epsilon: float) -> None:
        n = x.shape[-1]
        mean = _row_mean(x) if centered else np.zeros((*x.shape[:-1], 1))
        self.distance = x - mean
        # The mean, of n terms, and the subtraction.
        off = EPS32 * (n + 2) * _row_mean(np.abs(x)) if centered else np.zeros_like(mean)
        self.off = off + EPS32 * np.abs(self.distance)
        variance = _row_mean(np.square(self.distance))
        # Distances that are all off by as much add up to nothing but its square.
        spread = EPS32 * (n + 6) * variance + 2 * np.sqrt(variance) * off + off * off
        self.inverse = 1 / np.sqrt(variance + epsilon)
        self.relative = spread * self.inverse**2 / 2 + 4 * EPS32


class _InverseBound:
    def __init__(self, centered: bool) -> None:
        self.centered = centered

    def tolerance(self, want: Array, inputs: Sequence[Array], attrs: Attrs) -> Array:
        e = _Errors(inputs[0], self.centered, attrs["epsilon"])
        return np.asarray(2 * e.inverse * e.relative)[..., 0]


class _OutputBound:
    def __init__(self, centered: bool) -> None:
        self.centered = centered

    def tolerance(self, want: Array, inputs: Sequence[Array], attrs: Attrs) -> Array:
        x, scale, *rest = inputs
        e = _Errors(x, self.centered, attrs["epsilon"])
        normal = np.abs(e.distance) * e.inverse
        bound = np.abs(scale) * (e.off * e.inverse + normal * (e.relative + 3 * EPS32))
        bound = bound + EPS32 * (np.abs(rest[0]) + np.abs(want)) if rest else bound
        return np.asarray(2 * bound) + 1e-44


def _columns(inputs: Sequence[Array], attrs: Attrs) -> int:
    return int(inputs[1].shape[-1])


def _rows(inputs: Sequence[Array], attrs: Attrs) -> int:
    return int(np.prod(inputs[1].shape[:-1], dtype=np.int64))


def _grad_bounds(centered: bool) -> tuple[Accumulate, ...]:
    def of_dx(inputs: Sequence[Array], attrs: Attrs) -> Array:
        dy, x, scale, *rows = inputs
        # Where x is near its mean, their difference rounds as the larger of both.
        normal, inverse = (np.abs(v) for v in _split(x, rows, centered))
        through = np.abs(dy * scale)
        level = _row_mean(through) if centered else 0.0
        size = (through + level + normal * _row_mean(through * normal)) * inverse
        return np.asarray(size + np.abs(rows[-1]) if attrs["residual"] else size)

    def of_scale(inputs: Sequence[Array], attrs: Attrs) -> Array:
        normal, _ = _split(inputs[1], inputs[3:], centered)
        return np.asarray(np.sum(np.abs(inputs[0] * normal), tuple(range(normal.ndim - 1))))

    def of_offset(inputs: Sequence[Array], attrs: Attrs) -> Array:
        return np.asarray(np.sum(np.abs(inputs[0]), tuple(range(inputs[0].ndim - 1))))

    bounds = (Accumulate(_columns, of_dx, extra=12), Accumulate(_rows, of_scale, extra=8))
    return (*bounds, Accumulate(_rows, of_offset)) if centered else bounds


# --- records -------------------------------------------------------------------------------------

_SHAPES = ((1, 1), (3, 5), (2, 3, 16), (7, 17), (70, 33), (130, 64), (5, 600), (17,))


def _samples(vectors: int) -> Callable[[], Iterable[Sample]]:
    def samples() -> Iterable[Sample]:
        attrs = {"epsilon": _EPSILON}
        cases = [(name_of(s), s, 1.0, 0.5) for s in _SHAPES]
        cases += [("far_from_zero", (9, 40), 1.0, 1000.0), ("small", (9, 40), 1e-3, 0.0)]
        cases += [("no_rows", (0, 5), 1.0, 0.0), ("no_columns", (5, 0), 1.0, 0.0)]
        cases += [("bench_128", (2048, 128), 1.0, 0.0), ("bench_768", (256, 768), 1.0, 0.0)]
        for name, shape, width, place in cases:

            def make(
                rng: np.random.Generator,
                shape: tuple[int, ...] = shape,
                width: float = width,
                place: float = place,
            ) -> tuple[Array, ...]:
                found = [rng.normal(place, width, shape)]
                found += [rng.normal(1.0, 0.5, shape[-1]) for _ in range(vectors)]
                return tuple(v.astype(np.float32) for v in found)

            bench = name.startswith("bench")
            smooth = name in ("3x5", "2x3x16", "7x17")
            yield Sample(name, make, attrs, smooth=smooth, bench=bench)
        rows = [[np.nan, 1, 2], [np.inf, 1, 2], [3, 3, 3], [0, 0, 0]]
        special = (np.array(rows, np.float32), *[np.ones(3, np.float32)] * vectors)
        yield Sample("special", lambda rng: special, attrs, smooth=False)

    return samples


def _grad_samples(
    forward: Callable[..., tuple[Array, ...]], vectors: int
) -> Callable[[], Iterable[Sample]]:
    def samples() -> Iterable[Sample]:
        for sample in _samples(vectors)():
            for residual in (False, True):
                attrs = {**sample.attrs, "residual": residual}

                def make(
                    rng: np.random.Generator, inner: Any = sample, residual: bool = residual
                ) -> tuple[Array, ...]:
                    x, scale, *rest = inner.make(rng)
                    with np.errstate(all="ignore"):
                        kept = forward(x, scale, *rest, **inner.attrs)[1:]
                    like_x = [rng.normal(size=x.shape).astype(np.float32) for _ in range(2)]
                    return like_x[0], x, scale, *kept, *like_x[1 : 1 + residual]

                name = f"{sample.name}_residual" if residual else sample.name
                if sample.bench and residual:
                    continue
                yield Sample(name, make, attrs, smooth=sample.smooth, bench=sample.bench)

    return samples


# y = (x - mean) / sqrt(variance + epsilon) scale + offset, over the last axis.
LAYER_NORM: Op = register(
    Op(
        "layer_norm",
        infer=_layer_norm_infer,
        reference=_layer_norm,
        samples=_samples(2),
        bound=(_OutputBound(True), _MeanBound(), _InverseBound(True)),
        vjp=_vjp(lambda: LAYER_NORM_GRAD, True),
        composite=_layer_norm_composite,
        attribution="composite",
        kernel="normalize_rows",
        kernel_attrs=(("centered", True),),
        flops=lambda inputs, outputs, attrs: 8 * elements(inputs[0]),
    )
)

# y = x / sqrt(mean of squares + epsilon) scale.
RMS_NORM: Op = register(
    Op(
        "rms_norm",
        infer=_rms_norm_infer,
        reference=_rms_norm,
        samples=_samples(1),
        bound=(_OutputBound(False), _InverseBound(False)),
        vjp=_vjp(lambda: RMS_NORM_GRAD, False),
        composite=_rms_norm_composite,
        attribution="composite",
        kernel="normalize_rows",
        kernel_attrs=(("centered", False),),
        flops=lambda inputs, outputs, attrs: 5 * elements(inputs[0]),
    )
)


def _grad_op(name: str, forward: Op, centered: bool) -> Op:
    op: Op = Op(
        name,
        infer=_grad_infer(name, centered),
        reference=_grad_reference(centered),
        samples=_grad_samples(forward.reference, 1 + centered),
        bound=_grad_bounds(centered),
        composite=_grad_composite(centered),
        kernel="normalize_rows_grad",
        kernel_attrs=(("centered", centered),),
        flops=lambda inputs, outputs, attrs: 16 * elements(inputs[1]),
        absorb=_absorb(name),
    )
    return register(op)


# (dy, x, scale, mean, inverse, and what is added to dx) -> dx, dscale, doffset
LAYER_NORM_GRAD: Op = _grad_op("layer_norm_grad", LAYER_NORM, True)

# (dy, x, scale, inverse, and what is added to dx) -> dx, dscale
RMS_NORM_GRAD: Op = _grad_op("rms_norm_grad", RMS_NORM, False)
