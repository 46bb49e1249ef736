"""Updates of parameters, fused: each reads and writes every array once.

Scalars that change from step to step (learning rate, Adam's step size, decay) are 0-d operands;
those that stay are attributes. Every output may be written over the input it updates.

With the attribute ``penalty``, the last operand times the parameter is added to the gradient: what
an L2 penalty contributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from handmill.errors import shape_error
from handmill.ir.op import EPS32, Array, Attrs, Op, Sample, Tolerance, Ulp, register
from handmill.ir.shapes import Spec
from handmill.primitives.elementwise.arithmetic import ADD, MULTIPLY
from handmill.primitives.samples import BENCH, SHAPES, both, elements, given, name_of, uniform

if TYPE_CHECKING:
    from handmill.ir.graph import Value


def _infer(name: str, arrays: int, outputs: int) -> Callable[..., Any]:
    def infer(*specs: Spec, **attrs: Any) -> Any:
        same, scalars = specs[:arrays], specs[arrays:]
        if any(s != specs[0] for s in same) or any(s != Spec((), s.dtype) for s in scalars):
            operands = {f"operand {i}": spec for i, spec in enumerate(specs)}
            problem = f"{arrays} arrays of one shape and then scalars were expected"
            raise shape_error(name, problem, operands)
        return specs[0] if outputs == 1 else (specs[0],) * outputs

    return infer


Maker: TypeAlias = "Callable[[np.random.Generator], tuple[Array, ...]]"


@dataclass(frozen=True)
class Draws:
    """Operands to try an update on.

    Attributes:
        signed: arrays of any sign that the optimizer keeps, beside the parameter.
        positive: the arrays behind them.
        scalars: the 0-d operands.
        attrs: the attributes.
        label: for the names of samples.
    """

    signed: int
    positive: int
    scalars: tuple[float, ...]
    attrs: Attrs
    label: str = ""

    def arrays(self, shape: tuple[int, ...]) -> Maker:
        """Returns a maker of what the update writes."""
        return both(
            uniform(*(shape,) * (1 + self.signed)),
            uniform(*(shape,) * self.positive, low=0.01, high=2.0),
        )

    def numbers(self) -> Maker:
        """Returns a maker of the 0-d operands."""
        return given(*(np.asarray(s, np.float32) for s in self.scalars))

    def with_penalty(self, factor: float) -> Draws:
        """Returns the same with a penalty."""
        attrs = {**self.attrs, "penalty": True}
        label = f"{self.label}_penalty" if self.label else "penalty"
        return replace(self, scalars=(*self.scalars, factor), attrs=attrs, label=label)

    def samples(self) -> Iterable[Sample]:
        """The samples of the update, with a gradient between arrays and scalars."""
        for shape in (*SHAPES, BENCH):
            bench = shape is BENCH
            make = both(self.arrays(shape), uniform(shape), self.numbers())
            name = "_".join(filter(None, ("bench" if bench else name_of(shape), self.label)))
            yield Sample(name, make, self.attrs, smooth=False, bench=bench and not self.label)


UPDATES: dict[str, tuple[Draws, ...]] = {}
"""What each update is tried on, by the name of its operator."""

_PERTURBATIONS = (-1.0, -0.5, 0.5, 1.0)


def spread(update: Callable[[Array], Any], index: int, gradient: Array, error: Array) -> Array:
    """Returns how far a result of an update moves when its gradient is wrong by ``error``.

    Args:
        update: gradient -> result, or results.
        index: of the result.
        gradient: the right one.
        error: an element each.
    """

    def result_of(g: Array) -> Array:
        found = update(g)
        return np.asarray(found[index] if isinstance(found, tuple) else found)

    want = result_of(gradient)
    moved = [np.abs(result_of(gradient + times * error) - want) for times in _PERTURBATIONS]
    return np.asarray(np.max(moved, axis=0))


@dataclass(frozen=True)
class _Penalizing:
    """An update by the gradient plus, with the attribute ``penalty``, a multiple of the parameter.

    Attributes:
        reference: the update without a penalty.
        position: of the gradient among its operands.
    """

    reference: Callable[..., Any]
    position: int

    def plain(self, operands: Sequence[Array], penalty: bool) -> tuple[Array, ...]:
        """Returns the operands of the update without a penalty."""
        if not penalty:
            return tuple(operands)
        *rest, factor = operands
        rest[self.position] = rest[self.position] + factor * rest[0]
        return tuple(rest)

    def __call__(self, *operands: Array, penalty: bool = False, **attrs: Any) -> Any:
        return self.reference(*self.plain(operands, penalty), **attrs)


@dataclass(frozen=True)
class _PenalizedBound:
    """The bound of one result: that without a penalty, and what the error of the sum moves."""

    update: _Penalizing
    index: int
    own: Tolerance

    def tolerance(self, want: Array, inputs: Sequence[Array], attrs: Attrs) -> Array:
        """Returns the largest absolute error allowed for each element."""
        rest = dict(attrs)
        penalty = rest.pop("penalty", False)
        position = self.update.position
        plain = self.update.plain(inputs, penalty)
        allowed = self.own.tolerance(want, plain, rest)
        if not penalty:
            return allowed

        def update(g: Array) -> Any:
            return self.update.reference(*plain[:position], g, *plain[position + 1 :], **rest)

        # Two roundings, each at most half a unit.
        error = EPS32 * _size(inputs[position], inputs[-1] * inputs[0])
        return np.asarray(allowed + spread(update, self.index, plain[position], error))


def _absorb_penalty(
    inputs: Sequence[Value], attrs: Attrs, position: int
) -> tuple[tuple[Value, ...], Attrs] | None:
    """The same update where its gradient is g + p s, with the parameter p and a number s."""
    total = inputs[position].node
    if total is None or total.op is not ADD or attrs.get("penalty"):
        return None
    for gradient, term in (total.inputs, total.inputs[::-1]):
        product = term.node
        if product is None or product.op is not MULTIPLY:
            continue
        if not any(v is inputs[0] for v in product.inputs):
            continue
        factor = product.inputs[product.inputs[0] is inputs[0]]
        if factor.spec == Spec((), inputs[0].dtype) and gradient.spec == inputs[0].spec:
            found = (*inputs[:position], gradient, *inputs[position + 1 :], factor)
            return found, {**attrs, "penalty": True}
    return None


def _update(
    name: str,
    arrays: int,
    outputs: int,
    reference: Callable[..., Any],
    draws: tuple[Draws, ...],
    bound: Any,
) -> Op:
    UPDATES[name] = (*draws, *(each.with_penalty(0.05) for each in draws))
    penalizing = _Penalizing(reference, arrays - 1)
    bounds = bound if isinstance(bound, tuple) else (bound,)
    found = tuple(_PenalizedBound(penalizing, i, own) for i, own in enumerate(bounds))
    return register(
        Op(
            name,
            infer=_infer(name, arrays, outputs),
            reference=penalizing,
            samples=lambda: [s for d in UPDATES[name] for s in d.samples()],
            bound=found if len(found) > 1 else found[0],
            absorb_operand=lambda inputs, attrs: _absorb_penalty(inputs, attrs, arrays - 1),
            kernel="update",
            kernel_attrs=(("update", name),),
            alias=tuple((i, i) for i in range(outputs)),
            flops=lambda inputs, outs, attrs: 4 * outputs * elements(inputs[0]),
        )
    )


def _size(*terms: Array) -> Array:
    """The sum of the magnitudes of the terms of an update: what its roundings are units of."""
    return np.asarray(np.sum([np.abs(t) for t in np.broadcast_arrays(*terms)], axis=0))


def _sgd(p: Array, g: Array, lr: Array) -> Array:
    return np.asarray(p - lr * g)


# Two roundings; a unit of the sum of magnitudes is at least half of eps times it.
SGD_UPDATE = _update(
    "sgd_update",
    2,
    1,
    _sgd,
    (Draws(0, 0, (0.1,), {}),),
    Ulp(3, of=lambda inputs, attrs: _size(inputs[0], inputs[2] * inputs[1])),
)


def _momentum(
    p: Array, m: Array, g: Array, lr: Array, *, momentum: float, nesterov: bool
) -> tuple[Array, Array]:
    m = p.dtype.type(momentum) * m - lr * g
    return (p + p.dtype.type(momentum) * m - lr * g if nesterov else p + m), m


def _momentum_size(inputs: Sequence[Array], attrs: Attrs) -> Array:
    p, m, g, lr = inputs
    return _size(p, m, 2 * lr * g)


# m = momentum m - lr g; p += m, or with Nesterov's look ahead p += momentum m - lr g.
MOMENTUM_UPDATE = _update(
    "momentum_update",
    3,
    2,
    _momentum,
    (
        Draws(1, 0, (0.1,), {"momentum": 0.9, "nesterov": False}),
        Draws(1, 0, (0.1,), {"momentum": 0.9, "nesterov": True}, "nesterov"),
    ),
    (Ulp(8, of=_momentum_size), Ulp(5, of=_momentum_size)),
)


def _adam(
    p: Array,
    m: Array,
    v: Array,
    g: Array,
    alpha: Array,
    *decay: Array,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> tuple[Array, Array, Array]:
    number = p.dtype.type
    if decay:
        p = p - p * decay[0]
    m = m + (g - m) * number(1 - beta_1)
    v = v + (g * g - v) * number(1 - beta_2)
    return p - m * alpha / (np.sqrt(v) + number(epsilon)), m, v


def _adam_step(inputs: Sequence[Array], attrs: Attrs) -> Array:
    p, m, v, g, alpha = inputs[:5]
    _, _, new_v = _adam(p, m, v, g, alpha, **attrs)
    size = _size(m, g) * np.abs(alpha) / (np.sqrt(np.abs(new_v)) + attrs["epsilon"])
    return _size(p, size, *(p * d for d in inputs[5:]))


def _adam_m(inputs: Sequence[Array], attrs: Attrs) -> Array:
    return _size(inputs[1], inputs[3])


def _adam_v(inputs: Sequence[Array], attrs: Attrs) -> Array:
    return _size(inputs[2], inputs[3] ** 2)


# m += (g - m)(1 - beta_1); v += (g^2 - v)(1 - beta_2); p -= alpha m / (sqrt(v) + epsilon), with
# the bias corrections in alpha. An optional sixth operand is subtracted from p first, times p
# (decoupled weight decay). Roundings: m 4, v 5, the step those of m, half of v, and 5 more; the
# positive samples keep v away from cancellation.
ADAM_UPDATE = _update(
    "adam_update",
    4,
    3,
    _adam,
    (
        Draws(1, 1, (0.01,), {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}),
        Draws(1, 1, (0.01, 0.004), {"beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-7}, "decay"),
    ),
    (Ulp(24, of=_adam_step), Ulp(5, of=_adam_m), Ulp(6, of=_adam_v)),
)


def _rmsprop(
    p: Array, v: Array, g: Array, lr: Array, *, rho: float, epsilon: float
) -> tuple[Array, Array]:
    number = p.dtype.type
    v = number(rho) * v + number(1 - rho) * (g * g)
    return p - lr * g / np.sqrt(v + number(epsilon)), v


def _rmsprop_step(inputs: Sequence[Array], attrs: Attrs) -> Array:
    p, v, g, lr = inputs
    _, new_v = _rmsprop(p, v, g, lr, **attrs)
    return _size(p, lr * g / np.sqrt(new_v + attrs["epsilon"]))


# v = rho v + (1 - rho) g^2: all positive, 4 roundings. p -= lr g / sqrt(v + epsilon).
RMSPROP_UPDATE = _update(
    "rmsprop_update",
    3,
    2,
    _rmsprop,
    (Draws(0, 1, (0.01,), {"rho": 0.9, "epsilon": 1e-7}),),
    (Ulp(14, of=_rmsprop_step), Ulp(6)),
)


def _adagrad(
    p: Array, accumulator: Array, g: Array, lr: Array, *, epsilon: float
) -> tuple[Array, Array]:
    accumulator = accumulator + g * g
    return p - lr * g / np.sqrt(accumulator + p.dtype.type(epsilon)), accumulator


def _adagrad_step(inputs: Sequence[Array], attrs: Attrs) -> Array:
    p, accumulator, g, lr = inputs
    return _size(p, lr * g / np.sqrt(accumulator + g * g + attrs["epsilon"]))


# accumulator += g^2: two roundings of positive numbers. p -= lr g / sqrt(accumulator + epsilon).
ADAGRAD_UPDATE = _update(
    "adagrad_update",
    3,
    2,
    _adagrad,
    (Draws(0, 1, (0.01,), {"epsilon": 1e-7}),),
    (Ulp(12, of=_adagrad_step), Ulp(3)),
)
