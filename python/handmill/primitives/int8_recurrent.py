"""Recurrent layers whose products with the state are of 8-bit integers (:mod:`.recurrent`).

The state of each row is quantized at each step by its largest magnitude, as rows are by
``int8_product``. One integer more or less would be another state from then on, so gates are
computed by operations of float32 that are each rounded once, in the order that the reference shows:
a row has the same bits at every instruction set level and beside any other rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import same
from handmill.ir.op import Array, Attrs, Exact, Op, Sample, register
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives.emit import multiply
from handmill.primitives.int8 import MOST_TERMS, exact_sums, quantized_rows
from handmill.primitives.operands import converted
from handmill.primitives.recurrent import GATES, float_vjp, steps_of

_F = np.float32
_EDGE = _F(7.90531110763549805)
_ODD = tuple(
    _F(a)
    for a in (
        -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08,
        1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03,
    )
)  # fmt: skip
_EVEN = tuple(
    _F(b)
    for b in (
        1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03,
    )
)  # fmt: skip


def plain_tanh(x: Array) -> Array:
    """The hyperbolic tangent as a quotient of polynomials, each operation rounded to float32.

    Within 4e-7 of it. The coefficients are those of Eigen (``generic_fast_tanh_float``).
    """
    x = np.minimum(np.maximum(np.asarray(x, np.float32), -_EDGE), _EDGE)
    square = x * x
    above, below = square * _ODD[0] + _ODD[1], square * _EVEN[0] + _EVEN[1]
    for a in _ODD[2:]:
        above = above * square + a
    for b in _EVEN[2:]:
        below = below * square + b
    return np.asarray(np.minimum(np.maximum(x * above / below, _F(-1)), _F(1)))


def plain_sigmoid(x: Array) -> Array:
    """``(1 + tanh(x / 2)) / 2`` by :func:`plain_tanh`."""
    half = _F(0.5)
    return np.asarray(half + half * plain_tanh(half * np.asarray(x, np.float32)))


def _operands(kind: str, attrs: Attrs) -> tuple[str, ...]:
    more = {"simple_rnn": (), "gru": ("bias",), "lstm": ("c0",)}[kind]
    return ("z", "r", "factors", "h0", *more, *(("mask",) if attrs["masked"] else ()))


def _infer(kind: str, *specs: Spec, **attrs: Any) -> Any:
    op, given = f"int8_{kind}", dict(zip(_operands(kind, attrs), specs, strict=True))
    z, r = given["z"], given["r"]
    if z.rank != 3 or r.rank != 2 or r.dtype != "int8":
        raise shape_error(op, "z (batch, time, gates) and an int8 r were expected", given)
    batch, time, units = z.shape[0], z.shape[1], r.shape[0]
    if isinstance(units, int) and units > MOST_TERMS:
        raise shape_error(op, f"sums of more than {MOST_TERMS} products may leave int32", given)
    width = GATES[kind] * units
    shapes: dict[str, tuple[Any, ...]] = {
        "z": (batch, time, width),
        "r": (units, width),
        "factors": (width,),
        "bias": (units,),
        "mask": (batch, time),
        "h0": (batch, units),
        "c0": (batch, units),
    }
    for name, spec in given.items():
        want, dtype = shapes[name], {"r": "int8", "mask": "bool"}.get(name, "float32")
        fits = spec.rank == len(want) and all(map(same, spec.shape, want))
        if not fits or spec.dtype != dtype:
            raise shape_error(op, f"{name} of shape {want} and {dtype} was expected", given)
    state = Spec((batch, units), "float32")
    return (Spec((batch, time, units), "float32"), *(state,) * (2 if kind == "lstm" else 1))


def _reference(kind: str, *arrays: Array, backwards: bool, masked: bool) -> tuple[Array, ...]:
    names = _operands(kind, {"masked": masked})
    given = {
        name: x if name in ("r", "mask") else np.asarray(x, np.float32)
        for name, x in zip(names, arrays, strict=True)
    }
    z, r, factors, h = (given[name] for name in ("z", "r", "factors", "h0"))
    units, mask = r.shape[0], given.get("mask")
    y = np.zeros((*z.shape[:2], units), np.float32)
    c = given.get("c0", h)
    for t in steps_of(z.shape[1], backwards):
        counts = np.ones((len(z), 1), bool) if mask is None else mask[:, t, None]
        q, step = quantized_rows(h)
        with np.errstate(invalid="ignore", over="ignore"):
            inner = exact_sums(q, r).astype(np.float32) * (step * factors)
            new_c = c
            if kind == "simple_rnn":
                found = plain_tanh(z[:, t] + inner)
            elif kind == "lstm":
                i, f, g, o = np.split(z[:, t] + inner, 4, 1)
                new_c = plain_sigmoid(f) * c + plain_sigmoid(i) * plain_tanh(g)
                found = plain_sigmoid(o) * plain_tanh(new_c)
            else:
                gates = plain_sigmoid(z[:, t, : 2 * units] + inner[:, : 2 * units])
                keep, reset = gates[:, :units], gates[:, units:]
                of_state = inner[:, 2 * units :] + given["bias"]
                g = plain_tanh(z[:, t, 2 * units :] + reset * of_state)
                found = keep * h + (_F(1) - keep) * g
        h, c = np.where(counts, found, h), np.where(counts, new_c, c)
        y[:, t] = h
    return (y, h, c) if kind == "lstm" else (y, h)


def _vjp(kind: str, inputs: Any, outputs: Any, dys: Any, **attrs: Any) -> Any:
    # Through the kernel's numbers, as if states had not been rounded.
    z, r, factors, *rest = inputs
    kernel = multiply(converted(r, "float32"), factors)
    found = float_vjp(kind, (z, kernel, *rest), dys, **attrs, dropout=False)
    return found[0], None, None, *found[2:]


_CASES: tuple[tuple[str, tuple[int, int, int], str], ...] = (
    ("3x4x5", (3, 4, 5), ""),
    ("2x3x17_backwards", (2, 3, 17), "backwards"),
    ("19x3x20_all", (19, 3, 20), "backwards masked"),
    ("7x2x70_masked", (7, 2, 70), "masked"),
    ("0x3x4", (0, 3, 4), "masked"),
    ("2x0x4", (2, 0, 4), ""),
    ("bench", (64, 20, 128), ""),
)


def _draw(
    rng: np.random.Generator, kind: str, size: tuple[int, int, int], names: Sequence[str]
) -> tuple[Array, ...]:
    batch, time, units = size
    width = GATES[kind] * units
    made: dict[str, Array] = {
        "z": rng.normal(size=(batch, time, width)).astype(np.float32),
        "r": rng.integers(-128, 128, (units, width)).astype(np.int8),
        "factors": rng.uniform(5e-4, 2e-3, width).astype(np.float32),
        "bias": rng.normal(size=units).astype(np.float32),
        "mask": rng.random((batch, time)) < 0.7,
        "h0": rng.normal(size=(batch, units)).astype(np.float32),
        "c0": rng.normal(size=(batch, units)).astype(np.float32),
    }
    return tuple(made[name] for name in names)


def _samples(kind: str) -> Iterable[Sample]:
    for name, size, given in _CASES:
        attrs = {key: key in given for key in ("backwards", "masked")}
        make = partial(_draw, kind=kind, size=size, names=_operands(kind, attrs))
        yield Sample(name, make, attrs, smooth=False, bench=name == "bench")


def _flops(inputs: Sequence[Spec], outputs: Sequence[Spec], attrs: Attrs) -> int:
    z, units = inputs[0], inputs[1].shape[0]
    count: Any = 2 * z.shape[0] * z.shape[1] * z.shape[2] * units
    return int(count)


def _record(kind: str) -> Op:
    return register(
        Op(
            f"int8_{kind}",
            infer=partial(_infer, kind),
            reference=partial(_reference, kind),
            samples=partial(_samples, kind),
            bound=(Exact(),) * (3 if kind == "lstm" else 2),
            vjp=partial(_vjp, kind),
            kernel="int8_recurrent",
            kernel_attrs=(("kind", kind),),
            native=lambda specs, attrs: True,
            flops=_flops,
            grad_none=(1, 2),
        )
    )


INT8_RECURRENT = {kind: _record(kind) for kind in ("simple_rnn", "gru", "lstm")}
"""The operator of each kind that has one."""


def int8_recurrent(kind: str, *operands: Any, backwards: bool, masked: bool) -> Any:
    """Goes along the steps of ``z``.

    Args:
        kind: ``"simple_rnn"``, ``"gru"`` or ``"lstm"``.
        *operands: z, float32 (batch, time, gates x units); r, int8 (units, gates x units), and the
            factors of its columns; h; of an LSTM c; of a GRU the bias of the candidate; with
            ``masked`` a mask (batch, time).
        backwards: whether to begin with the last step.
        masked: whether some steps leave the states as they are.

    Returns:
        h after each step, after the last one, and of an LSTM c after the last one.
    """
    return apply(INT8_RECURRENT[kind], *operands, backwards=backwards, masked=masked)
