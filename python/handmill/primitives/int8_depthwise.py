"""Convolutions of 8-bit integers with kernels of each channel (:mod:`.int8_conv`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handmill.ir.op import Array, Attrs, Exact, Op, Sample, register
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives.int8 import absorb_into, finished_sums
from handmill.primitives.int8_conv import (
    check_operands,
    inferred,
    named_operands,
    plain,
    windows_of,
)
from handmill.primitives.samples import elements


def _infer(x: Spec, kernel: Spec, *rest: Spec, **attrs: Any) -> Spec:
    check_operands("int8_depthwise", x, kernel, math.prod(kernel.shape[:-2]))
    return inferred("int8_depthwise", math.prod(kernel.shape[-2:]), x, kernel, *rest, **attrs)


def _reference(x: Array, kernel: Array, factors: Array, *rest: Array, **attrs: Any) -> Array:
    operands = named_operands(attrs, rest)
    window = kernel.shape[:-2]
    view = windows_of(x, window, operands["zero"], attrs)
    shape, taps = view.shape[: x.ndim - 1], math.prod(window)
    rows = view.reshape(math.prod(shape), taps, x.shape[-1])
    # Exact in float64, where sums of whole numbers are quick.
    table = kernel.reshape(taps, *kernel.shape[-2:]).astype(np.float64)
    sums = np.einsum("nwc,wcm->ncm", rows, table).reshape(*shape, factors.size)
    y = sums.astype(np.float32) * np.asarray(factors, np.float32)
    return finished_sums(y, operands, attrs)


def _absorb(*arguments: Any) -> Any:
    return absorb_into(INT8_DEPTHWISE, *arguments)


def _flops(inputs: Sequence[Spec], outputs: Sequence[Spec], attrs: Attrs) -> int:
    return 2 * math.prod(inputs[1].shape[:-2]) * elements(outputs[0])


_ONES = ((1, 1), (1, 1))
_NONE = ((0, 0), (0, 0))
_CASES: tuple[tuple[Any, ...], ...] = (
    ((2, 7, 6, 3), (3, 3), 1, (1, 1), _ONES, (1, 1), {}),
    ((4, 9, 11, 37), (3, 3), 1, (1, 1), _ONES, (1, 1), {"has_bias": True, "bytes": True}),
    ((1, 9, 10, 21), (3, 3), 1, (2, 2), ((0, 1), (0, 1)), (1, 1), {"activation": "relu6"}),
    ((1, 9, 8, 4), (5, 2), 3, (2, 1), ((2, 1), (0, 0)), (1, 1), {"has_bias": True}),
    ((2, 9, 9, 18), (3, 3), 2, (1, 1), ((2, 2), (2, 2)), (2, 2), {"activation": "relu"}),
    ((3, 11, 5), (4,), 1, (2,), ((1, 2),), (1,), {"bytes": True, "has_bias": True}),
    ((2, 30, 70), (9,), 1, (1,), ((8, 0),), (1,), {}),
    ((0, 4, 4, 1), (2, 2), 2, (1, 1), _NONE, (1, 1), {}),
    ((1, 4, 40, 3), (1, 7), 1, (1, 3), ((0, 0), (9, 2)), (1, 1), {}),
)
_BENCH = ((4, 32, 32, 64), (3, 3), 1, (1, 1), _ONES, (1, 1), {"has_bias": True, "bytes": True})


def _samples() -> Iterable[Sample]:
    for i, case in enumerate((*_CASES, _BENCH)):
        shape, window, times, strides, padding, dilation, more = case

        def make(
            rng: np.random.Generator,
            shape: Any = shape,
            window: Any = window,
            times: int = times,
            more: Any = more,
        ) -> tuple[Array, ...]:
            channels = shape[-1] * times
            given = [
                rng.integers(0, 256, shape).astype(np.uint8),
                rng.integers(-128, 128, (*window, shape[-1], times)).astype(np.int8),
                rng.uniform(1e-4, 1e-2, channels).astype(np.float32),
                np.asarray(np.float32(rng.integers(0, 256))),
            ]
            if more.get("has_bias"):
                given.append(rng.standard_normal(channels).astype(np.float32))
            if more.get("bytes"):
                given.append(np.array([30.0, rng.integers(0, 256)], np.float32))
            return tuple(given)

        bench = case is _BENCH
        attrs = {**plain(strides, padding, dilation), **more}
        yield Sample("bench" if bench else f"case{i}", make, attrs, smooth=False, bench=bench)


# As int8_conv, of the windows of each channel by itself.
INT8_DEPTHWISE = register(
    Op(
        "int8_depthwise",
        infer=_infer,
        reference=_reference,
        samples=_samples,
        bound=Exact(),
        kernel="int8_depthwise",
        native=lambda specs, attrs: specs[0].rank in (3, 4),
        flops=_flops,
        absorb=_absorb,
        grad_none=(0, 1, 2, 3),
    )
)


def int8_depthwise(
    x: Any, kernel: Any, factors: Any, zero: Any, strides: Any, padding: Any, dilation: Any
) -> Any:
    """Returns the convolution of each channel of ``x - zero`` with kernels of its own.

    Args:
        x: uint8, (B, *spatial, C).
        kernel: int8, (*window, C, M): M kernels a channel.
        factors: float32, (C * M,), by which results are multiplied.
        zero: float32, a whole number: the byte that stands for 0, also around images.
        strides: from one window to the next.
        padding: pairs of places before and after.
        dilation: from one element of a window to the next.
    """
    return apply(INT8_DEPTHWISE, x, kernel, factors, zero, **plain(strides, padding, dilation))
